//! The turn that runs on a thread: its CPU time, the watchdog's eye on it, and V8's interrupt, which suspends it.
//!
//! A turn consists of segments: it is suspended at the end of each but the last. The watchdog sees each segment as a run of
//! its own, with what is left of the turn's CPU time.
//!
//! *Owns:* which turn is current on a thread. *Invariants:* a current turn's isolate is entered on this thread; a suspended
//! turn is not current, its isolate is not entered, and nothing asks it for anything. An interrupt that comes after its
//! segment is over does nothing.

use std::{
    cell::{Cell, RefCell},
    ffi::c_void,
    ptr,
    rc::Rc,
};

use crate::{
    clock,
    engine::Engine,
    stack::{self, Cause},
    suspend,
    watchdog::Watched,
};

thread_local! {
    static CURRENT: Cell<*const TurnFrame<'static>> = const { Cell::new(ptr::null()) };
}

/// What a turn needs to be interrupted; on the stack of the turn's caller.
pub(crate) struct TurnFrame<'t> {
    thread: &'t ThreadClock,
    handle: *const v8::IsolateHandle,
    isolate: *mut c_void,
    budget_ns: u64,
    /// CPU time of the segments that are over.
    used_ns: Cell<u64>,
    held_ns: Cell<u64>,
    segment_start: Cell<u64>,
    /// It was told to end here, not by the watchdog.
    told: Cell<bool>,
}

impl<'t> TurnFrame<'t> {
    /// A turn that begins now.
    #[inline]
    pub(crate) fn new(
        thread: &'t ThreadClock,
        handle: &v8::IsolateHandle,
        isolate: *mut c_void,
        budget_ns: u64,
    ) -> TurnFrame<'t> {
        TurnFrame {
            thread,
            handle,
            isolate,
            budget_ns,
            used_ns: Cell::new(0),
            held_ns: Cell::new(0),
            segment_start: Cell::new(thread.start()),
            told: Cell::new(false),
        }
    }

    /// A segment begins; the isolate is entered.
    #[inline]
    pub(crate) fn enter(&self) {
        CURRENT.set((&raw const *self).cast());
        self.thread.watched.enter(self.handle, self.budget_ns.saturating_sub(self.used_ns.get()), suspend::possible());
    }

    /// The last segment is over. Whether the turn was told to end.
    #[inline]
    pub(crate) fn leave(&self) -> bool {
        CURRENT.set(ptr::null());
        self.thread.watched.leave() | self.told.get()
    }

    /// The turn is over: CPU time in all, and the most that a segment used after it was asked to be suspended, ns.
    #[inline]
    pub(crate) fn end(&self) -> (u64, u64) {
        self.end_segment();
        (self.used_ns.get(), self.held_ns.get())
    }

    #[inline]
    fn end_segment(&self) {
        self.used_ns.set(self.used_ns.get() + self.thread.since(self.segment_start.get()));
        if let Some(asked_cpu_ns) = self.thread.watched.asked_cpu_ns() {
            let held_ns = clock::thread_cpu_ns().saturating_sub(asked_cpu_ns);
            self.held_ns.set(self.held_ns.get().max(held_ns));
        }
    }

    /// Asks V8 to end the turn.
    fn tell(&self) {
        // SAFETY: `Isolate::turn` owns the handle for the time of the turn.
        unsafe { &*self.handle }.terminate_execution();
    }

    /// Lets others run.
    fn suspend(&self) {
        self.end_segment();
        // The watchdog was faster: the turn ends at V8's next look, and goes on until then.
        let told = self.thread.watched.leave();
        if !told {
            CURRENT.set(ptr::null());
            // SAFETY: the isolate of the turn that runs here, entered by `Isolate::turn` or below.
            let isolate = unsafe { v8::Isolate::from_raw_ptr(self.isolate.cast()) };
            // SAFETY: as above.
            unsafe { isolate.exit() };
            let rights = pkey::suspend();
            stack::suspend();
            pkey::resume(rights);
            // SAFETY: on the same thread; nobody else enters an isolate whose turn is suspended.
            unsafe { isolate.enter() };
        }
        self.segment_start.set(self.thread.start());
        self.enter();
        if told || suspend::cancelled() {
            self.told.set(true);
            self.tell();
        }
    }
}

/// V8 asks here, on the stack of the turn, what it is to do, because the watchdog told it to ask.
pub(crate) unsafe extern "C" fn on_interrupt(_isolate: v8::UnsafeRawIsolatePtr, segment: *mut c_void) {
    let Some(frame) = current() else { return };
    if frame.thread.watched.number() != segment as u64 {
        return;
    }
    if frame.used_ns.get() + frame.thread.since(frame.segment_start.get()) >= frame.budget_ns {
        frame.told.set(true);
        frame.tell();
    } else if stack::may_suspend() {
        frame.suspend();
    }
}

/// The turn that runs on this thread.
#[inline]
fn current() -> Option<&'static TurnFrame<'static>> {
    let frame = CURRENT.get();
    // SAFETY: set while the turn runs, which its frame outlives; the reference is not kept.
    (!frame.is_null()).then(|| unsafe { &*frame })
}

/// Says that no turn runs, after one was given up.
pub(crate) fn clear_current() {
    CURRENT.set(ptr::null());
}

/// V8's isolate of the turn that runs on this thread; null if none does.
pub(crate) fn current_isolate() -> *mut c_void {
    current().map_or(ptr::null_mut(), |frame| frame.isolate)
}

/// Asks V8 to end the turn that runs on this thread.
pub(crate) fn terminate_current() {
    if let Some(frame) = current() {
        frame.tell();
    }
}

/// Leaves the turn that runs on this thread for good; see `stack`.
#[cold]
pub(crate) fn abandon_current(cause: Cause) {
    let isolate = current_isolate();
    if isolate.is_null() {
        return;
    }
    // The watchdog's signal may come at any instruction of what follows, which can be done once.
    stack::set_leaving();
    // In a signal handler the thread has the kernel's default rights.
    pkey::renew();
    // SAFETY: the isolate whose turn runs here, entered once by `Isolate::turn`.
    unsafe { v8::Isolate::from_raw_ptr(isolate.cast()).exit() };
    crate::process_lock::forget_held();
    stack::abandon(cause);
}

/// CPU time of turns, for the most part without system calls.
///
/// A turn's ticks are its CPU time unless the thread was preempted. Where a turn is long enough for that to matter, the
/// thread's CPU clock is read at its end and compared with a reading taken at most [`ANCHOR_NS`] before its start.
pub(crate) struct ThreadClock {
    pub(crate) watched: Watched,
    anchor_ticks: Cell<u64>,
    anchor_cpu_ns: Cell<u64>,
    anchor_span: u64,
}

/// Age of a reading of the CPU clock after which a turn takes a new one, ns.
const ANCHOR_NS: u64 = 1_000_000;

impl ThreadClock {
    pub(crate) fn of_this_thread(engine: &Engine) -> Rc<ThreadClock> {
        thread_local! {
            static CLOCK: RefCell<Option<Rc<ThreadClock>>> = const { RefCell::new(None) };
        }
        CLOCK.with_borrow_mut(|clock| {
            Rc::clone(clock.get_or_insert_with(|| {
                Rc::new(ThreadClock {
                    watched: engine.shared.watchdog.watch_this_thread(),
                    anchor_ticks: Cell::new(0),
                    anchor_cpu_ns: Cell::new(0),
                    anchor_span: clock::ns_to_ticks(ANCHOR_NS),
                })
            }))
        })
    }

    #[inline]
    pub(crate) fn start(&self) -> u64 {
        let now = clock::ticks();
        if now.wrapping_sub(self.anchor_ticks.get()) > self.anchor_span {
            self.renew(now);
        }
        now
    }

    #[cold]
    fn renew(&self, now: u64) {
        self.anchor_ticks.set(now);
        self.anchor_cpu_ns.set(clock::thread_cpu_ns());
    }

    #[inline]
    fn since(&self, start: u64) -> u64 {
        let span = clock::ticks().wrapping_sub(start);
        let ns = clock::ticks_to_ns(span);
        if span <= self.anchor_span {
            return ns;
        }
        let used = clock::thread_cpu_ns().saturating_sub(self.anchor_cpu_ns.get());
        ns.min(used)
    }
}
