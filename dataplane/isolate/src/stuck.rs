//! The way out of a function of V8 that neither ends nor looks whether it should: a signal to its thread, whose handler
//! leaves the V8 stack.
//!
//! *Invariants:* the handler gives up only a turn that the watchdog has marked, only while the thread is inside V8 on its V8
//! stack, and only where the interrupted instruction is in this program's own code or in code that V8 made: a shared library
//! (the C library's allocator above all) may hold a lock that nobody would release. Elsewhere it returns, and the watchdog
//! sends the signal again at its next tick. Where a thread did not run meanwhile, several of them wait for it: one that came while
//! another's handler begins would see that handler's code and not the library's, so the signal is blocked in its handler. The time
//! right after a full collection is the turn's own: without that, what waited for a collection of a full heap was given up, with
//! all the memory that a heap leaves behind, an instant before it ended by itself. A thread that holds a mutex of V8's
//! (`process_lock` counts them) is let go on until it has released it, or for [`LOCKED_SIGNALS_MAX`] signals: what computes for so
//! long with one in hand is an endless loop or a count that went wrong, and would keep its thread for ever.

use std::{cell::Cell, ffi::c_void, ops::Range, sync::OnceLock};

use crate::{clock::thread_cpu_ns, stack, turn, watchdog};

/// Executable ranges of shared libraries: whatever was loaded when the engine started.
static LIBRARIES: OnceLock<Vec<Range<usize>>> = OnceLock::new();

/// CPU time after a full collection in which a turn is not given up, ns: a heap at its limit takes V8 longer than the watchdog
/// waits, and JavaScript that was told to stop does so in its next loop or call.
const GRACE_NS: u64 = 10_000_000;
/// Collections that put it off: a function that looks at nothing may have one after the other.
const COLLECTIONS_MAX: u64 = 4;

thread_local! {
    /// Where the turn that was given up last was, as an offset in this program; an address of code that V8 made is past its end.
    static PLACE: Cell<usize> = const { Cell::new(0) };
    /// The turn that was to be given up last, and how many collections this thread had seen by then.
    static STUCK: Cell<(u64, u64)> = const { Cell::new((0, 0)) };
}

/// The signal, of the real-time ones: nothing else in this process uses it.
fn number() -> libc::c_int {
    libc::SIGRTMIN() + 6
}

/// Installs the handler.
pub(crate) fn install() {
    LIBRARIES.get_or_init(library_ranges);
    // SAFETY: a zeroed `sigaction` is a valid value to fill in.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = on_signal as *const () as usize;
    // Not SA_ONSTACK: the handler may never return.
    action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
    // SAFETY: `action` is filled in, and the handler does only what its comments justify.
    let failed = unsafe { libc::sigaction(number(), &raw const action, std::ptr::null_mut()) };
    assert_eq!(failed, 0, "a real-time signal can be handled");
}

/// Interrupts a thread of this process.
pub(crate) fn signal(thread_id: libc::pid_t) {
    // SAFETY: `tgkill` on our own process; a thread that has ended gives an error that means nothing.
    unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread_id, number()) };
}

/// Lets the signal come again, of a handler that does not return.
fn unblock() {
    // SAFETY: a set of signals, which is then filled in; the call changes this thread's mask only.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, number());
        libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut());
    }
}

/// Signals, one each tick of the watchdog, that a turn is let go on for because its thread holds a mutex: about half a second.
const LOCKED_SIGNALS_MAX: u32 = 1_000;

thread_local! {
    /// The turn of the last signal, and how many it got.
    static LOCKED: Cell<(u64, u32)> = const { Cell::new((0, 0)) };
}

extern "C" fn on_signal(_signal: libc::c_int, _info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel passes the interrupted context.
    let registers = unsafe { &(*context.cast::<libc::ucontext_t>()).uc_mcontext };
    let (instruction, frame) = place(registers);
    #[cfg(test)]
    tests::note(instruction);
    let Some(turn) = watchdog::stuck_turn() else { return };
    let in_library = LIBRARIES.get().is_none_or(|ranges| ranges.iter().any(|range| range.contains(&instruction)));
    let (of, signals) = LOCKED.get();
    let signals = if of == turn { signals + 1 } else { 1 };
    let locked = crate::process_lock::holds_any() && signals <= LOCKED_SIGNALS_MAX;
    LOCKED.set((turn, signals));
    if !in_library && !locked && stack::may_abandon(frame) && !collecting(turn) {
        PLACE.set(instruction.wrapping_sub(program_start()));
        // The interrupted code is V8's, outside of the allocator: what follows may use the allocator and thread-locals. Another
        // signal that waits comes now, and does nothing.
        stack::set_leaving();
        unblock();
        turn::abandon_current(stack::Cause::Stuck);
    }
}

/// Whether collections explain why this turn has not ended: one has just ended, and what it served looks soon.
fn collecting(turn: u64) -> bool {
    let (collections, ended_ns) = stack::collections();
    let mut stuck = STUCK.get();
    if stuck.0 != turn {
        stuck = (turn, collections);
        STUCK.set(stuck);
    }
    collections - stuck.1 <= COLLECTIONS_MAX && thread_cpu_ns().saturating_sub(ended_ns) < GRACE_NS
}

#[cfg(target_arch = "x86_64")]
fn place(registers: &libc::mcontext_t) -> (usize, usize) {
    (registers.gregs[libc::REG_RIP as usize] as usize, registers.gregs[libc::REG_RSP as usize] as usize)
}

#[cfg(target_arch = "aarch64")]
fn place(registers: &libc::mcontext_t) -> (usize, usize) {
    (registers.pc as usize, registers.sp as usize)
}

/// Where the turn that was given up last on this thread was, as an offset in this program.
pub(crate) fn last_place() -> usize {
    PLACE.get()
}

/// What the offsets of this program's symbols are counted from.
fn program_start() -> usize {
    unsafe extern "C" {
        /// The linker's, at the program's first byte.
        static __ehdr_start: u8;
    }
    &raw const __ehdr_start as usize
}

/// Executable segments of every loaded object but the program itself, which comes first.
fn library_ranges() -> Vec<Range<usize>> {
    unsafe extern "C" fn each(info: *mut libc::dl_phdr_info, _size: usize, data: *mut c_void) -> libc::c_int {
        // SAFETY: `dl_iterate_phdr` passes valid information, and our own vectors as data.
        let (info, (count, ranges)) = unsafe { (&*info, &mut *data.cast::<(usize, Vec<Range<usize>>)>()) };
        *count += 1;
        if *count > 1 {
            // SAFETY: the table has that many entries.
            let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)) };
            for header in
                headers.iter().filter(|header| header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_X != 0)
            {
                let start = info.dlpi_addr as usize + header.p_vaddr as usize;
                ranges.push(start..start + header.p_memsz as usize);
            }
        }
        0
    }
    let mut found: (usize, Vec<Range<usize>>) = (0, Vec::new());
    // SAFETY: `each` matches the signature, and `found` outlives the call.
    unsafe { libc::dl_iterate_phdr(Some(each), (&raw mut found).cast()) };
    found.1
}

#[cfg(test)]
mod tests {
    use super::*;

    thread_local! {
        /// Signals that came, and those of them that came where another's handler begins.
        static CAME: Cell<(u32, u32)> = const { Cell::new((0, 0)) };
    }

    pub(super) fn note(instruction: usize) {
        let (all, nested) = CAME.get();
        CAME.set((all + 1, nested + u32::from(instruction == on_signal as *const () as usize)));
    }

    /// Three wait at once, as where the thread did not run for three ticks of the watchdog.
    #[test]
    fn none_of_the_signals_that_waited_sees_the_handler_of_another() {
        install();
        // SAFETY: a thread's mask, which has the signal for a while.
        unsafe {
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigaddset(&raw mut set, number());
            libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
        }
        // SAFETY: no precondition.
        (0..3).for_each(|_| signal(unsafe { libc::gettid() }));
        assert_eq!(CAME.get(), (0, 0));
        unblock();
        assert_eq!(CAME.get(), (3, 0));
    }

    fn burn(ns: u64) {
        let end = thread_cpu_ns() + ns;
        while thread_cpu_ns() < end {}
    }

    #[test]
    fn the_time_after_a_collection_is_the_turns_own_a_few_times() {
        burn(GRACE_NS);
        assert!(!collecting(8), "none has ended of late");
        for _ in 0..COLLECTIONS_MAX {
            stack::set_in_collection(true);
            stack::set_in_collection(false);
            assert!(collecting(8));
        }
        burn(GRACE_NS);
        assert!(!collecting(8), "it had its time");
        stack::set_in_collection(false);
        assert!(!collecting(8), "it had its collections");
        assert!(collecting(16), "another turn");
    }
}
