//! One thread that interrupts turns which run for longer than a slice and ends those that use more CPU time than they may.
//!
//! A thread stamps the start and the end of each turn into its [`Slot`], without a system call. While any turn runs the
//! watchdog looks every [`TICK`], and every [`BUSY_TICK`] while some turns are long; a turn it sees twice is measured by its
//! thread's CPU clock, so that waiting for the processor costs a tenant nothing. While nothing runs the watchdog sleeps until a
//! turn starts.
//!
//! *Invariants:* a turn is ended by number: the watchdog claims the number with a compare-and-swap and the thread does
//! not leave a claimed turn before the claim is done, so neither a later turn nor a freed isolate is ever hit.
//! A turn that can be suspended is asked to when it has computed since it was first seen, so that a slice is one to two ticks long.
//! *Bounds:* a turn is told to end at most two ticks after its budget is used up; one that has not ended after
//! [`STUCK_NS`] more of CPU time is given up by a signal, see [`crate::stuck`]. *Fails:* never.

use std::{
    cell::Cell,
    ptr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{
            AtomicBool, AtomicPtr, AtomicU64,
            Ordering::{Acquire, Relaxed, Release, SeqCst},
        },
    },
    thread::{self, Thread},
    time::Duration,
};

use crate::clock::clock_ns;

/// How often turns are looked at.
const TICK: Duration = Duration::from_micros(500);
/// The same for [`BUSY_TICKS`] after a turn was seen twice: the slices of tenants that compute are shorter, so that others wait less.
const BUSY_TICK: Duration = Duration::from_micros(250);
const BUSY_TICKS: u32 = 40;
/// Nice value of the watchdog, which uses a hundredth of a core, more while turns are long.
const NICE: i32 = -10;
/// CPU time since a turn was first seen below which it is not asked: its thread had to wait for the processor, ns.
const SLICE_NS_MIN: u64 = 125_000;
/// Ticks after which a turn that was asked to be suspended, and was not, is asked again.
const ASK_AGAIN_TICKS: u32 = 16;
/// CPU time that V8 gets to act on being told, ns. Collecting a full heap of 128 MiB, which cannot be interrupted, takes
/// about half of it.
const STUCK_NS: u64 = 200_000_000;
/// Ticks without a turn after which the watchdog sleeps.
const IDLE_TICKS: u32 = 200;

/// Set by the watchdog: it uses this turn's handle.
const CLAIMED: u64 = 1;
/// Set by the watchdog: the turn's isolate has been told.
const TOLD: u64 = 2;
/// Set by the watchdog: it does not end, and its isolate is to be given up.
const STUCK: u64 = 4;
/// Turn numbers are multiples of this; 0 is no turn.
const STEP: u64 = 8;

/// What a thread says about the turn that it runs. On cache lines of its own: it is written at each turn.
#[repr(align(128))]
struct Slot {
    /// Number of the running turn with flags, or 0.
    turn: AtomicU64,
    /// What ends that turn. Valid while `turn` has its number.
    handle: AtomicPtr<v8::IsolateHandle>,
    /// CPU time it may use, ns.
    budget_ns: AtomicU64,
    /// Whether it can be suspended.
    suspendable: AtomicBool,
    /// The thread's CPU clock when the turn was first asked to be suspended, ns; 0 before. Written by the watchdog while it
    /// claims the turn, and by the thread when the next one starts.
    asked_cpu_ns: AtomicU64,
    /// CPU clock of the thread.
    clock: libc::clockid_t,
    /// Its kernel id, to send it a signal.
    thread_id: libc::pid_t,
    /// The thread has ended.
    gone: AtomicBool,
}

struct Shared {
    slots: Mutex<Vec<Arc<Slot>>>,
    asleep: AtomicBool,
}

thread_local! {
    /// This thread's slot, for the signal handler.
    static SLOT: Cell<*const Slot> = const { Cell::new(ptr::null()) };
}

/// The number of the turn that runs on this thread, if it is one to give up. Async-signal-safe.
pub(crate) fn stuck_turn() -> Option<u64> {
    // SAFETY: set from an `Arc` that this thread's `Watched` holds; null once that is dropped.
    let turn = unsafe { SLOT.get().as_ref() }?.turn.load(Acquire);
    (turn & STUCK != 0).then_some(turn - turn % STEP)
}

/// Handle to the watchdog thread, which lives as long as the process.
pub(crate) struct Watchdog {
    shared: Arc<Shared>,
    thread: Thread,
}

/// A thread's place with the watchdog.
pub(crate) struct Watched {
    slot: Arc<Slot>,
    shared: Arc<Shared>,
    thread: Thread,
    number: Cell<u64>,
}

impl Watchdog {
    pub(crate) fn start() -> std::io::Result<Watchdog> {
        let shared = Arc::new(Shared { slots: Mutex::new(Vec::new()), asleep: AtomicBool::new(false) });
        let for_thread = Arc::clone(&shared);
        let joiner = thread::Builder::new().name("v8-watchdog".into()).spawn(move || watch(&for_thread))?;
        Ok(Watchdog { shared, thread: joiner.thread().clone() })
    }

    /// Registers the calling thread.
    pub(crate) fn watch_this_thread(&self) -> Watched {
        let mut clock = 0;
        // SAFETY: `pthread_self` is a live thread and `clock` a valid place.
        let failed = unsafe { libc::pthread_getcpuclockid(libc::pthread_self(), &raw mut clock) };
        assert_eq!(failed, 0, "a thread has a CPU clock");
        let slot = Arc::new(Slot {
            turn: AtomicU64::new(0),
            handle: AtomicPtr::new(ptr::null_mut()),
            budget_ns: AtomicU64::new(0),
            suspendable: AtomicBool::new(false),
            asked_cpu_ns: AtomicU64::new(0),
            clock,
            // SAFETY: `gettid` has no precondition.
            thread_id: unsafe { libc::gettid() },
            gone: AtomicBool::new(false),
        });
        lock(&self.shared.slots).push(Arc::clone(&slot));
        // Kept alive by the registry until the thread has ended.
        SLOT.set(Arc::as_ptr(&slot));
        Watched { slot, shared: Arc::clone(&self.shared), thread: self.thread.clone(), number: Cell::new(0) }
    }
}

impl Watched {
    /// A turn starts; it may use `budget_ns` of CPU time. `handle` stays valid until [`Watched::leave`].
    #[inline]
    pub(crate) fn enter(&self, handle: *const v8::IsolateHandle, budget_ns: u64, suspendable: bool) {
        let number = self.number.get() + STEP;
        self.number.set(number);
        self.slot.budget_ns.store(budget_ns, Relaxed);
        self.slot.suspendable.store(suspendable, Relaxed);
        self.slot.asked_cpu_ns.store(0, Relaxed);
        self.slot.handle.store(handle.cast_mut(), Relaxed);
        // Sequentially consistent against `sleep`: either the watchdog sees this turn or this thread sees it asleep.
        self.slot.turn.swap(number, SeqCst);
        if self.shared.asleep.load(SeqCst) {
            self.wake();
        }
    }

    /// The turn is over. Whether the watchdog ended it.
    #[inline]
    pub(crate) fn leave(&self) -> bool {
        let number = self.number.get();
        if self.slot.turn.compare_exchange(number, 0, SeqCst, Relaxed).is_ok() {
            return false;
        }
        self.leave_claimed()
    }

    #[cold]
    fn leave_claimed(&self) -> bool {
        loop {
            let turn = self.slot.turn.load(Acquire);
            if turn & CLAIMED != 0 {
                thread::yield_now();
            } else if self.slot.turn.compare_exchange(turn, 0, SeqCst, Relaxed).is_ok() {
                return turn & TOLD != 0;
            }
        }
    }

    /// What the thread's CPU clock showed when the turn that was entered last was first asked to be suspended, ns. Exact once
    /// the turn is over.
    #[inline]
    pub(crate) fn asked_cpu_ns(&self) -> Option<u64> {
        Some(self.slot.asked_cpu_ns.load(Relaxed)).filter(|asked| *asked != 0)
    }

    /// Number of the turn that was entered last.
    #[inline]
    pub(crate) fn number(&self) -> u64 {
        self.number.get()
    }

    #[cold]
    fn wake(&self) {
        if self.shared.asleep.swap(false, SeqCst) {
            self.thread.unpark();
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        SLOT.set(ptr::null());
        self.slot.gone.store(true, Release);
    }
}

/// What the watchdog remembers of a slot between ticks.
struct Seen {
    slot: Arc<Slot>,
    turn: u64,
    /// Ticks since it was first seen.
    ticks: u32,
    /// The tick at which it was last asked to be suspended.
    asked: Option<u32>,
    cpu_ns: u64,
}

fn watch(shared: &Shared) {
    // So that turns are seen on time where all cores are busy. Without the right to it, and on older kernels, ticks are late then.
    let _ordinary = (crate::place::shorten_slice(), crate::place::set_nice(NICE));
    let mut seen: Vec<Seen> = Vec::new();
    let (mut idle_ticks, mut busy_ticks) = (0, 0u32);
    loop {
        if idle_ticks >= IDLE_TICKS {
            sleep(shared, &seen);
            idle_ticks = 0;
        }
        thread::sleep(if busy_ticks > 0 { BUSY_TICK } else { TICK });
        admit(shared, &mut seen);
        idle_ticks += 1;
        busy_ticks = busy_ticks.saturating_sub(1);
        for entry in &mut seen {
            let turn = entry.slot.turn.load(Acquire);
            if turn != 0 {
                idle_ticks = 0;
                if look(entry, turn) {
                    busy_ticks = BUSY_TICKS;
                }
            }
        }
    }
}

/// Takes in new slots and drops those of threads that have ended.
fn admit(shared: &Shared, seen: &mut Vec<Seen>) {
    let mut slots = lock(&shared.slots);
    slots.retain(|slot| !slot.gone.load(Acquire));
    seen.retain(|entry| !entry.slot.gone.load(Acquire));
    for slot in slots.iter() {
        if !seen.iter().any(|entry| Arc::ptr_eq(&entry.slot, slot)) {
            seen.push(Seen { slot: Arc::clone(slot), turn: 0, ticks: 0, asked: None, cpu_ns: 0 });
        }
    }
}

/// Looks at a running turn: ends it if it has used its budget since it was first seen, and gives it up if that did not help. Whether
/// it was seen before.
fn look(entry: &mut Seen, turn: u64) -> bool {
    let slot = &*entry.slot;
    let cpu_ns = clock_ns(slot.clock);
    let number = turn - turn % STEP;
    if entry.turn != number {
        entry.turn = number;
        entry.ticks = 0;
        entry.asked = None;
        entry.cpu_ns = cpu_ns;
        return false;
    }
    entry.ticks += 1;
    let used = cpu_ns.saturating_sub(entry.cpu_ns);
    let budget = slot.budget_ns.load(Relaxed);
    if turn & TOLD != 0 {
        if used >= budget.saturating_add(STUCK_NS) {
            let stuck = turn | STUCK;
            if turn == stuck || slot.turn.compare_exchange(turn, stuck, SeqCst, Relaxed).is_ok() {
                // Again at each tick: the handler declines where giving up is not safe.
                crate::stuck::signal(slot.thread_id);
            }
        }
    } else if used >= budget {
        with_handle(slot, turn, turn | TOLD, |handle| {
            handle.terminate_execution();
        });
    } else if slot.suspendable.load(Relaxed)
        && used >= SLICE_NS_MIN
        && entry.asked.is_none_or(|at| entry.ticks >= at + ASK_AGAIN_TICKS)
    {
        let first = entry.asked.replace(entry.ticks).is_none();
        with_handle(slot, turn, turn, |handle| {
            if first {
                slot.asked_cpu_ns.store(cpu_ns.max(1), Relaxed);
            }
            handle.request_interrupt(crate::turn::on_interrupt, std::ptr::without_provenance_mut(number as usize));
        });
    }
    true
}

/// Uses the handle of a running turn, which the thread does not leave meanwhile; `after` is the turn's state then.
fn with_handle(slot: &Slot, turn: u64, after: u64, with: impl FnOnce(&v8::IsolateHandle)) {
    if slot.turn.compare_exchange(turn, turn | CLAIMED, SeqCst, Relaxed).is_ok() {
        // SAFETY: the thread does not leave a claimed turn, and the handle is valid within it.
        with(unsafe { &*slot.handle.load(Relaxed) });
        slot.turn.store(after, Release);
    }
}

/// Sleeps until a turn starts.
fn sleep(shared: &Shared, seen: &[Seen]) {
    shared.asleep.store(true, SeqCst);
    let known = lock(&shared.slots).len();
    let running = seen.iter().any(|entry| entry.slot.turn.load(SeqCst) != 0);
    if running || known > seen.len() {
        shared.asleep.store(false, SeqCst);
        return;
    }
    while shared.asleep.load(SeqCst) {
        thread::park();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
