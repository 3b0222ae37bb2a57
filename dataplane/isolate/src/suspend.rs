//! [`Suspendable`]: a value whose methods may stop in the middle and go on later, on the same thread.
//!
//! A Worker that computes for long must not hold its shard. The shard calls it through this type, which runs the call on a
//! small stack of its own; the JavaScript in it runs on a V8 stack (see `stack`). When a slice of CPU time is used up, the
//! watchdog asks V8 for an interrupt. Its callback leaves the V8 stack; [`pause`] then leaves this one, and the shard has its
//! thread back. Later it calls [`Suspendable::resume`], and both go on where they were. The watchdog does not see many short turns
//! of one call: what loops over them asks [`let_others_run`] in between.
//!
//! *Owns:* the stacks of the calls, a few kept per thread. *Does not:* decide when to resume whom.
//! *Invariants:* while a call is suspended nobody but the call itself reaches the value; a value that is dropped meanwhile
//! has its call brought to an end first, with JavaScript told to stop and no turn begun any more.
//! *Bounds:* [`STACK_BYTES`] a call, [`FREE_MAX`] stacks kept. *Fails:* a panic in a call comes out of `start` or `resume`.
//! *Thread:* the one that made it; the type is not `Send`.

use std::{
    any::Any,
    cell::{Cell, RefCell},
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    ptr,
};

use corosensei::{Coroutine, CoroutineResult, Yielder, stack::DefaultStack};

use crate::clock::{Ticks, ticks, ticks_to_ns};

/// Stack of a call, bytes: Rust code alone, for JavaScript has stacks of its own. Touched pages only cost memory.
const STACK_BYTES: usize = 256 << 10;
/// Stacks that a thread keeps for later calls.
const FREE_MAX: usize = 8;
/// Time for which a call keeps its thread before others run between two of its turns, ns: the longest slice of one turn.
const SLICE_NS: u64 = 1_000_000;

/// How far a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a suspended call has to be resumed"]
pub enum Progress {
    /// It has returned.
    Done,
    /// It waits for [`Suspendable::resume`].
    Suspended,
}

/// A call to begin: `run` takes what it needs out of `call` before it does anything else.
#[derive(Clone, Copy)]
struct Start {
    call: *mut (),
    run: unsafe fn(*mut ()),
}

enum Left {
    Done,
    Suspended,
    Panicked(Box<dyn Any + Send>),
}

type Fiber = Coroutine<Start, Left, (), DefaultStack>;

thread_local! {
    static FREE: RefCell<Vec<Fiber>> = const { RefCell::new(Vec::new()) };
    /// The yielder of the call that runs on this thread; null if none does.
    static CALL: Cell<*const Yielder<Start, Left>> = const { Cell::new(ptr::null()) };
    /// When the call that runs was started or resumed.
    static SINCE: Cell<Ticks> = const { Cell::new(0) };
    /// The call that runs is being brought to an end.
    static CANCELLED: Cell<bool> = const { Cell::new(false) };
}

/// Whether the code that runs can be suspended.
#[inline]
pub(crate) fn possible() -> bool {
    !CALL.get().is_null() && !CANCELLED.get()
}

/// Whether the call that runs should end as soon as it can.
pub(crate) fn cancelled() -> bool {
    CANCELLED.get()
}

/// Between two turns of a call: suspends it if it can be and has had its thread for a slice.
#[inline]
pub fn let_others_run() {
    pause_at(ticks());
}

#[inline]
fn pause_at(now: Ticks) {
    if possible() && ticks_to_ns(now.saturating_sub(SINCE.get())) > SLICE_NS {
        pause();
    }
}

/// Leaves the call that runs on this thread until it is resumed.
pub(crate) fn pause() {
    let call = CALL.replace(ptr::null());
    assert!(!call.is_null(), "a V8 stack is suspended only within a suspendable call");
    // SAFETY: set by the coroutine that runs, on whose stack it lives.
    let _nothing_new = unsafe { &*call }.suspend(Left::Suspended);
    CALL.set(call);
}

/// A value and the call that may be suspended in it.
pub struct Suspendable<T: 'static> {
    /// From a box. A raw pointer, because a suspended call holds a reference to it.
    value: *mut T,
    suspended: Option<Fiber>,
}

impl<T: 'static> Suspendable<T> {
    /// No call is under way.
    pub fn new(value: T) -> Suspendable<T> {
        Suspendable { value: Box::into_raw(Box::new(value)), suspended: None }
    }

    /// Whether a call waits to be resumed.
    #[inline]
    pub fn is_suspended(&self) -> bool {
        self.suspended.is_some()
    }

    /// The value, unless a call is suspended in it.
    #[inline]
    pub fn get(&self) -> Option<&T> {
        // SAFETY: from a box that `drop` frees; without a suspended call no other reference exists.
        self.suspended.is_none().then(|| unsafe { &*self.value })
    }

    /// The value, unless a call is suspended in it.
    #[inline]
    pub fn get_mut(&mut self) -> Option<&mut T> {
        // SAFETY: as in `get`, and `self` is borrowed mutably.
        self.suspended.is_none().then(|| unsafe { &mut *self.value })
    }

    /// Calls `job` with the value. Panics if a call is suspended, and where `job` does.
    #[inline]
    pub fn start<F: FnOnce(&mut T) + 'static>(&mut self, job: F) -> Progress {
        assert!(self.suspended.is_none(), "one call at a time");
        assert!(CALL.get().is_null(), "suspendable calls do not nest");
        let mut call = Call { value: self.value, job: Some(job) };
        let fiber = FREE.with_borrow_mut(Vec::pop).unwrap_or_else(new_fiber);
        self.go_on(fiber, Start { call: (&raw mut call).cast(), run: run::<T, F> })
    }

    /// Calls `job` with the value on the stack of the caller: it is not suspended.
    #[inline]
    pub fn call(&mut self, job: impl FnOnce(&mut T)) -> Progress {
        assert!(self.suspended.is_none(), "one call at a time");
        // SAFETY: as in `get_mut`.
        job(unsafe { &mut *self.value });
        Progress::Done
    }

    /// Goes on with the suspended call, if there is one.
    pub fn resume(&mut self) -> Progress {
        let Some(fiber) = self.suspended.take() else { return Progress::Done };
        assert!(CALL.get().is_null(), "suspendable calls do not nest");
        self.go_on(fiber, Start { call: ptr::null_mut(), run: nothing })
    }

    #[inline]
    fn go_on(&mut self, mut fiber: Fiber, start: Start) -> Progress {
        SINCE.set(ticks());
        match fiber.resume(start) {
            CoroutineResult::Yield(Left::Done) => {
                keep(fiber);
                Progress::Done
            }
            CoroutineResult::Yield(Left::Suspended) => {
                self.suspended = Some(fiber);
                Progress::Suspended
            }
            CoroutineResult::Yield(Left::Panicked(panic)) => {
                keep(fiber);
                resume_unwind(panic)
            }
            CoroutineResult::Return(()) => unreachable!("the stack's loop has no end"),
        }
    }
}

impl<T: 'static> Drop for Suspendable<T> {
    fn drop(&mut self) {
        CANCELLED.set(true);
        while self.suspended.is_some() {
            let ended = catch_unwind(AssertUnwindSafe(|| self.resume()));
            if ended.is_err() {
                tracing::error!("a call panicked while it was brought to an end");
            }
        }
        CANCELLED.set(false);
        // SAFETY: made by `Box::into_raw`; the call that held a reference is over.
        drop(unsafe { Box::from_raw(self.value) });
    }
}

struct Call<T, F> {
    value: *mut T,
    job: Option<F>,
}

/// Begins a call.
///
/// # Safety
/// `call` points to a `Call<T, F>` that is valid until the first suspension, whose value is valid until the call ends.
unsafe fn run<T, F: FnOnce(&mut T)>(call: *mut ()) {
    // SAFETY: the caller's promise; what is needed later is moved to this stack.
    let (value, job) = unsafe {
        let call = &mut *call.cast::<Call<T, F>>();
        (call.value, call.job.take())
    };
    if let Some(job) = job {
        // SAFETY: nobody else has a reference while a call is under way, see `Suspendable::get`.
        job(unsafe { &mut *value });
    }
}

/// In the place of a call's beginning where it is resumed. Safe to call with anything.
unsafe fn nothing(_call: *mut ()) {}

fn keep(fiber: Fiber) {
    FREE.with_borrow_mut(|free| {
        if free.len() < FREE_MAX {
            free.push(fiber);
        }
    });
}

fn new_fiber() -> Fiber {
    let stack = DefaultStack::new(STACK_BYTES).expect("address space for a 256 KiB stack");
    Coroutine::with_stack(stack, |yielder: &Yielder<Start, Left>, mut start: Start| {
        loop {
            CALL.set(yielder);
            // SAFETY: `Suspendable::start` passes a call that is valid until the first suspension.
            let ended = catch_unwind(AssertUnwindSafe(|| unsafe { (start.run)(start.call) }));
            CALL.set(ptr::null());
            start = yielder.suspend(match ended {
                Ok(()) => Left::Done,
                Err(panic) => Left::Panicked(panic),
            });
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ns_to_ticks;

    #[test]
    fn goes_on_where_it_was() {
        let mut value = Suspendable::new(vec![1]);
        assert_eq!(
            value.start(|value| {
                value.push(2);
                pause();
                value.push(3);
            }),
            Progress::Suspended
        );
        assert!(value.get().is_none() && !possible());
        assert_eq!(value.resume(), Progress::Done);
        assert_eq!(value.get(), Some(&vec![1, 2, 3]));
    }

    #[test]
    fn calls_of_several_values_take_turns() {
        let mut values: Vec<_> = (0..20).map(Suspendable::new).collect();
        for value in &mut values {
            assert_eq!(
                value.start(|value| {
                    for _ in 0..5 {
                        pause();
                        *value += 100;
                    }
                }),
                Progress::Suspended
            );
        }
        for round in 1..=5 {
            for value in values.iter_mut().rev() {
                let done = value.resume() == Progress::Done;
                assert_eq!(done, round == 5);
            }
        }
        let sums: Vec<_> = values.iter().filter_map(|value| value.get().copied()).collect();
        assert_eq!(sums, (500..520).collect::<Vec<_>>());
    }

    #[test]
    fn a_dropped_value_has_its_call_ended_first() {
        let (sender, receiver) = std::sync::mpsc::channel();
        let mut value = Suspendable::new(sender);
        let started = value.start(|sender| {
            pause();
            let _ = sender.send(cancelled());
        });
        assert_eq!(started, Progress::Suspended);
        drop(value);
        assert_eq!(receiver.recv(), Ok(true));
        assert!(!cancelled());
    }

    #[test]
    fn a_call_that_has_had_its_slice_lets_others_run_once() {
        let slice = ns_to_ticks(SLICE_NS);
        let mut value = Suspendable::new(0);
        let started = value.start(move |value| {
            pause_at(SINCE.get() + slice / 2);
            *value = 1;
            pause_at(SINCE.get() + slice * 2);
            *value = 2;
            // It has a slice of its own again.
            pause_at(SINCE.get() + slice / 2);
            *value = 3;
        });
        assert_eq!((started, value.get()), (Progress::Suspended, None));
        assert_eq!(value.resume(), Progress::Done);
        assert_eq!(value.get(), Some(&3));
        assert_eq!(value.call(|_| pause_at(SINCE.get() + slice * 2)), Progress::Done, "it cannot be suspended");
    }

    #[test]
    fn a_panic_comes_out_and_the_value_stays() {
        let mut value = Suspendable::new(7);
        let panic = catch_unwind(AssertUnwindSafe(|| value.start(|_| panic!("inside"))));
        assert!(panic.is_err());
        assert_eq!(value.get(), Some(&7));
        assert_eq!(value.start(|value| *value += 1), Progress::Done);
        assert_eq!(value.get(), Some(&8));
    }
}
