//! The stack on which V8 runs, beside the thread's own.
//!
//! V8 answers some shortages of memory by ending the process: it calls the "out of memory" handler and aborts when that
//! returns. Here it never returns: the handler leaves V8's stack for good, the isolate is given up with everything it
//! owned, and the thread goes on with a new stack. Frames that are left behind are never unwound, so nothing that they
//! point to is invalid; their pages go back to the system, and their isolate is never touched again.
//!
//! The same way out serves a native function of V8 that computes for ever and polls nothing (`Array.prototype.includes` on
//! a sparse array of 2³² elements): the watchdog sends the thread a signal, whose handler leaves the stack. It does so only
//! where that is safe: the thread is inside V8 ([`in_v8`]), not in a function of ours, not in a full garbage collection,
//! which holds locks, and not in the C library, which may hold the allocator's. V8's own way out, the "out of memory" handler, is
//! taken during evacuation at the earliest, where V8 holds none that another isolate wants (see also `process_lock`).
//!
//! A job can also be left for a while ([`suspend`]): its thread then runs other jobs, each on a stack of its own, and comes
//! back to it later. See `suspend`.
//!
//! *Owns:* the stacks of a thread: a few are kept, one more is made for each job that is suspended.
//! *Invariants:* V8 is entered only through [`run`]; V8 is told through the `GetStackStart` wrapper where the stack in use
//! begins, because it scans from there. Jobs do not nest.
//! *Bounds:* [`STACK_BYTES`], of which [`RESERVE_BYTES`] are for native code under the deepest JavaScript frame;
//! [`FREE_MAX`] stacks kept.

use std::{
    cell::{Cell, RefCell},
    ffi::c_void,
    ptr,
    sync::atomic::{AtomicU64, Ordering},
};

use corosensei::{
    Coroutine, CoroutineResult, Yielder,
    stack::{DefaultStack, Stack},
};

/// A thread's V8 stack, bytes; touched pages only cost memory.
pub(crate) const STACK_BYTES: usize = 2 << 20;
/// Kept free of JavaScript for native code: V8's runtime functions, garbage collection, our operations.
pub(crate) const RESERVE_BYTES: usize = 768 << 10;

/// Stacks that a thread keeps for later jobs.
const FREE_MAX: usize = 8;

/// At a stack's upper end: more than its loop uses while it waits for a job.
const LOOP_BYTES: usize = 64 << 10;

/// How a job left the stack.
enum Left {
    /// It has run to its end.
    Done,
    /// It is to be resumed.
    Suspended,
    /// It never will: its frames are given up.
    Abandoned(Cause),
}

/// Why a job's frames were given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// V8 could not go on without more memory.
    Memory,
    /// A function of V8 did not stop.
    Stuck,
}

/// A job, as a fat pointer: valid until the job is done, or for ever unused after.
type Job = *mut dyn FnMut();

struct Fiber {
    coroutine: Coroutine<Job, Left, (), DefaultStack>,
    base: usize,
    limit: usize,
    number: u64,
}

thread_local! {
    /// Stacks without a job; the last one used comes last.
    static FREE: RefCell<Vec<Fiber>> = const { RefCell::new(Vec::new()) };
    /// Highest address of the stack in use; 0 while the thread is on its own stack.
    static STACK_START: Cell<usize> = const { Cell::new(0) };
    /// Lowest address of the stack in use.
    static STACK_LIMIT: Cell<usize> = const { Cell::new(0) };
    /// The thread is inside V8, not in a native function that V8 called.
    static IN_V8: Cell<bool> = const { Cell::new(false) };
    /// V8 collects garbage, holding locks.
    static IN_COLLECTION: Cell<bool> = const { Cell::new(false) };
    /// Full collections that have ended on this thread, and its CPU clock at the end of the last one, ns.
    static COLLECTIONS: Cell<(u64, u64)> = const { Cell::new((0, 0)) };
    /// The yielder of the stack in use.
    static YIELDER: Cell<*const Yielder<Job, Left>> = const { Cell::new(ptr::null()) };
}

static ABANDONED: AtomicU64 = AtomicU64::new(0);
static NUMBER: AtomicU64 = AtomicU64::new(1);

unsafe extern "C" {
    fn __real__ZN2v84base5Stack13GetStackStartEv() -> *mut c_void;
}

/// Answers V8's question where the stack begins.
#[unsafe(no_mangle)]
extern "C" fn __wrap__ZN2v84base5Stack13GetStackStartEv() -> *mut c_void {
    match STACK_START.get() {
        // SAFETY: V8's own function, without arguments.
        0 => unsafe { __real__ZN2v84base5Stack13GetStackStartEv() },
        start => ptr::without_provenance_mut(start),
    }
}

/// Stacks given up in this process.
pub(crate) fn abandoned() -> u64 {
    ABANDONED.load(Ordering::Relaxed)
}

/// Which stack a job runs on.
#[derive(Clone, Copy)]
pub(crate) struct StackInfo {
    /// Lowest address JavaScript may reach.
    pub(crate) js_limit: usize,
    /// Differs for each stack of the process.
    pub(crate) number: u64,
}

/// Says that `enter` runs V8: a stuck turn may be given up within it.
#[inline(always)]
pub(crate) fn in_v8<R>(enter: impl FnOnce() -> R) -> R {
    with_in_v8(true, enter)
}

/// Says that `native`, called by V8, is ours: nothing is given up within it.
#[inline(always)]
pub(crate) fn in_native<R>(native: impl FnOnce() -> R) -> R {
    with_in_v8(false, native)
}

#[inline(always)]
fn with_in_v8<R>(value: bool, run: impl FnOnce() -> R) -> R {
    let before = IN_V8.replace(value);
    let result = run();
    IN_V8.set(before);
    result
}

/// Says that a full garbage collection starts or is over.
pub(crate) fn set_in_collection(value: bool) {
    IN_COLLECTION.set(value);
    if !value {
        COLLECTIONS.set((COLLECTIONS.get().0 + 1, crate::clock::thread_cpu_ns()));
    }
}

/// Full collections that have ended on this thread, and its CPU clock at the end of the last one, ns. Async-signal-safe.
pub(crate) fn collections() -> (u64, u64) {
    COLLECTIONS.get()
}

/// Whether a frame with this address is one of V8's on this thread's V8 stack, which may be given up.
pub(crate) fn may_abandon(frame: usize) -> bool {
    IN_V8.get() && !IN_COLLECTION.get() && frame < STACK_START.get() && frame > STACK_LIMIT.get()
}

/// Runs `job` on a V8 stack. An error: the job was given up by [`abandon`]; whatever it had borrowed mutably must not be
/// used again.
///
/// A panic inside `job` must be caught by `job`. Where the job suspends itself, this call pauses what called it, see
/// [`crate::suspend`].
#[inline]
pub(crate) fn run<R>(job: impl FnOnce(StackInfo) -> R) -> Result<R, Cause> {
    assert_eq!(STACK_START.get(), 0, "turns do not nest");
    let mut fiber = FREE.with_borrow_mut(Vec::pop).unwrap_or_else(new_fiber);
    let info = StackInfo { js_limit: fiber.limit + RESERVE_BYTES, number: fiber.number };
    let mut job = Some(job);
    let mut result = None;
    let mut call = || {
        if let Some(job) = job.take() {
            result = Some(job(info));
        }
    };
    let call: *mut (dyn FnMut() + '_) = &raw mut call;
    // SAFETY: only the lifetime changes. The pointer is used during `resume` alone: the loop in `new_fiber` calls it once
    // and yields for the last time when that call is over; an abandoned job is never resumed.
    let call: Job = unsafe { std::mem::transmute::<*mut (dyn FnMut() + '_), Job>(call) };
    loop {
        STACK_LIMIT.set(fiber.limit);
        STACK_START.set(fiber.base);
        let left = fiber.coroutine.resume(call);
        STACK_START.set(0);
        match left {
            CoroutineResult::Yield(Left::Done) => {
                keep(fiber);
                return Ok(result.expect("a job that is done has a result"));
            }
            CoroutineResult::Yield(Left::Suspended) => crate::suspend::pause(),
            CoroutineResult::Yield(Left::Abandoned(cause)) => {
                ABANDONED.fetch_add(1, Ordering::Relaxed);
                pkey::abandoned();
                IN_V8.set(false);
                IN_COLLECTION.set(false);
                let (start, len) = (fiber.limit, fiber.base - fiber.limit);
                // Dropping the coroutine would unwind its frames, V8's among them.
                std::mem::forget(fiber);
                // SAFETY: the pages of a stack that is never resumed; who might point to a frame, the isolate, never runs again.
                unsafe { libc::madvise(ptr::without_provenance_mut(start), len, libc::MADV_DONTNEED) };
                return Err(cause);
            }
            CoroutineResult::Return(()) => unreachable!("the stack's loop has no end"),
        }
    }
}

/// Puts a stack without a job by.
#[inline]
fn keep(fiber: Fiber) {
    FREE.with_borrow_mut(|free| {
        if free.len() < FREE_MAX {
            free.push(fiber);
        } else {
            // Its loop waits for a job and holds nothing, so that unwinding it frees its memory and no more.
            drop(fiber);
        }
    });
}

/// Gives back the pages that deep jobs have touched of this thread's free stacks: for when there is nothing else to do. A microsecond
/// for each stack.
pub fn shrink_stacks() {
    FREE.with_borrow(|free| {
        for fiber in free {
            let (start, len) = (fiber.limit, fiber.base - LOOP_BYTES - fiber.limit);
            // SAFETY: a stack without a job: its loop's frames lie above these pages, and below them nothing lives.
            unsafe { libc::madvise(ptr::without_provenance_mut(start), len, libc::MADV_DONTNEED) };
        }
    });
}

/// Whether the job that runs on this stack may be suspended here: V8 runs it, not a native function of ours.
pub(crate) fn may_suspend() -> bool {
    IN_V8.get() && STACK_START.get() != 0 && crate::suspend::possible()
}

/// Leaves the job that runs on this stack until it is resumed. Only where [`may_suspend`] says so.
pub(crate) fn suspend() {
    let yielder = YIELDER.get();
    let in_v8 = IN_V8.replace(false);
    // SAFETY: set by the coroutine that is running (`may_suspend` saw one), and lives on its stack.
    let _same_job = unsafe { &*yielder }.suspend(Left::Suspended);
    YIELDER.set(yielder);
    IN_V8.set(in_v8);
}

/// Says that the job that runs is being given up: nothing may begin that a second time.
pub(crate) fn set_leaving() {
    IN_V8.set(false);
}

/// Leaves the job that runs on this stack, for ever. Returns only if no job runs.
pub(crate) fn abandon(cause: Cause) {
    if STACK_START.get() == 0 {
        return;
    }
    let yielder = YIELDER.get();
    #[cfg(test)]
    tests::AGAIN.set(Some(may_abandon((&raw const yielder) as usize)));
    if !yielder.is_null() {
        // SAFETY: set by the coroutine that is running (`STACK_START` says one is), and lives on its stack.
        unsafe { &*yielder }.suspend(Left::Abandoned(cause));
    }
    unreachable!("an abandoned stack is never resumed");
}

fn new_fiber() -> Fiber {
    let stack = DefaultStack::new(STACK_BYTES).expect("address space for a 2 MiB stack");
    let (base, limit) = (stack.base().get(), stack.limit().get());
    let coroutine = Coroutine::with_stack(stack, |yielder: &Yielder<Job, Left>, mut job: Job| {
        loop {
            YIELDER.set(yielder);
            // SAFETY: `run` passes a pointer to a closure that outlives the call.
            unsafe { (*job)() };
            job = yielder.suspend(Left::Done);
        }
    });
    Fiber { coroutine, base, limit, number: NUMBER.fetch_add(1, Ordering::Relaxed) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Ended, Engine, Isolate, IsolateLimits};

    thread_local! {
        /// Whether a signal at the end of giving up, right before the stack is left, would have begun it again.
        pub(super) static AGAIN: Cell<Option<bool>> = const { Cell::new(None) };
    }

    #[test]
    fn a_signal_while_a_turn_is_given_up_does_not_begin_it_again() {
        let engine = Engine::init().expect("engine");
        let limits = IsolateLimits { heap_bytes: 64 << 20 };
        for (cause, ended) in [(Cause::Memory, Ended::Abandoned), (Cause::Stuck, Ended::Stuck)] {
            let mut isolate = Isolate::new(&engine, limits, ()).expect("isolate");
            AGAIN.set(None);
            // As the handlers of the signal and of "out of memory" do, which V8 is interrupted by.
            let turn = isolate.turn(1_000_000_000, |_| {
                in_v8(|| {
                    let here = 0u8;
                    assert!(may_abandon((&raw const here) as usize), "the first signal does");
                    crate::turn::abandon_current(cause);
                });
            });
            assert_eq!((turn.ended, AGAIN.get()), (Some(ended), Some(false)));
            assert!(!isolate.usable());
        }
    }

    /// Pages of this thread's free stacks that are in memory.
    fn resident() -> usize {
        FREE.with_borrow(|free| {
            let pages = |fiber: &Fiber| {
                let mut here = [0u8; STACK_BYTES / 4096];
                let (start, len) = (fiber.base - STACK_BYTES, STACK_BYTES);
                // SAFETY: pages of a stack of ours; one byte for each is written.
                let failed = unsafe { libc::mincore(ptr::without_provenance_mut(start), len, here.as_mut_ptr()) };
                assert_eq!(failed, 0);
                here.iter().filter(|page| **page & 1 != 0).count()
            };
            free.iter().map(pages).sum()
        })
    }

    #[test]
    fn what_deep_jobs_touched_goes_back_and_the_stacks_work_on() {
        let deep = || run(|_| std::hint::black_box([7u8; 1 << 20]).iter().map(|byte| u64::from(*byte)).sum::<u64>());
        assert_eq!(deep(), Ok(7 << 20));
        assert!(resident() >= 256, "{} pages", resident());
        shrink_stacks();
        assert!(resident() <= LOOP_BYTES / 4096, "{} pages", resident());
        assert_eq!(deep(), Ok(7 << 20));
    }

    #[test]
    fn runs_elsewhere_and_gives_the_result() {
        let here = 0u8;
        let there = run(|info| {
            let local = 0u8;
            (&raw const local as usize, info.js_limit)
        })
        .expect("done");
        assert!((&raw const here as usize).abs_diff(there.0) > RESERVE_BYTES);
        assert!(there.0 > there.1 && there.0 - there.1 < STACK_BYTES);
    }

    #[test]
    fn goes_on_with_a_new_stack_after_one_is_abandoned() {
        let before = run(|info| info.number).expect("done");
        assert_eq!(run(|_| abandon(Cause::Memory)), Err(Cause::Memory));
        let after = run(|info| info.number).expect("done");
        assert_ne!(before, after);
        assert!(abandoned() > 0);
    }
}
