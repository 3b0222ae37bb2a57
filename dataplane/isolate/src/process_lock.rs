//! V8's process-wide lock, which nobody takes here.
//!
//! `cppgc::internal::ProcessGlobalLock` guards handles by which a thread reaches objects of another thread's C++ heap. A full
//! collection holds it while it marks: without helper threads that is all of the marking, a tenth of a second for a full heap of
//! 128 MB, and as many seconds as other processes make of it where the collecting thread is the apart thread with its low
//! weight. Meanwhile every other thread waits that makes or drops an isolate or collects one: a tenant would be felt on all
//! shards. This program makes no such handles, V8 itself makes none but in heap snapshots for a debugger, and a heap's own table
//! of them is touched by the heap's one thread: there is nothing to guard.
//!
//! The linker sends V8's calls of `v8::base::Mutex::Lock` and `Unlock` here (see `.cargo/config.toml`); for that one mutex they do
//! nothing, for any other what they did. A binary linked without the flags has the lock, and waits. See
//! docs/decisions/2026-11-21-no-process-wide-lock.md.
//!
//! *Invariant:* no `cppgc` cross-thread handle exists in the process.

use std::{cell::Cell, ffi::c_void};

thread_local! {
    /// Mutexes of V8's that this thread holds: with one of them a turn must not be given up, for nobody would release it. Those of
    /// WebAssembly are the process's.
    static HELD: Cell<u32> = const { Cell::new(0) };
}

/// Whether this thread holds a mutex of V8's.
pub(crate) fn holds_any() -> bool {
    HELD.get() != 0
}

/// The stack that may have held some was given up.
pub(crate) fn forget_held() {
    HELD.set(0);
}

unsafe extern "C" {
    /// `cppgc::internal::ProcessGlobalLock::process_mutex_`, a `v8::base::LazyMutex`: the mutex and whether it was made.
    #[link_name = "_ZN5cppgc8internal17ProcessGlobalLock14process_mutex_E"]
    static PROCESS_MUTEX: [u8; 16];
    /// `void v8::base::Mutex::Lock()`.
    fn __real__ZN2v84base5Mutex4LockEv(mutex: *mut c_void);
    /// `void v8::base::Mutex::Unlock()`.
    fn __real__ZN2v84base5Mutex6UnlockEv(mutex: *mut c_void);
}

#[inline(always)]
fn is_process_lock(mutex: *mut c_void) -> bool {
    mutex.addr().wrapping_sub((&raw const PROCESS_MUTEX).addr()) < size_of::<[u8; 16]>()
}

/// Takes the place of V8's function.
///
/// # Safety
/// As for `v8::base::Mutex::Lock`.
#[unsafe(no_mangle)]
unsafe extern "C" fn __wrap__ZN2v84base5Mutex4LockEv(mutex: *mut c_void) {
    if !is_process_lock(mutex) {
        HELD.set(HELD.get() + 1);
        // SAFETY: the caller's promise is passed on.
        unsafe { __real__ZN2v84base5Mutex4LockEv(mutex) }
    }
}

/// Takes the place of V8's function.
///
/// # Safety
/// As for `v8::base::Mutex::Unlock`.
#[unsafe(no_mangle)]
unsafe extern "C" fn __wrap__ZN2v84base5Mutex6UnlockEv(mutex: *mut c_void) {
    if !is_process_lock(mutex) {
        // SAFETY: the caller's promise is passed on; it locked the mutex through the function above.
        unsafe { __real__ZN2v84base5Mutex6UnlockEv(mutex) };
        // One that was only tried for was not counted.
        HELD.set(HELD.get().saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Compile, Engine, Isolate, IsolateLimits, Source};
    use std::{sync::mpsc, thread, time::Duration};

    fn within() -> Vec<*mut c_void> {
        let start = (&raw const PROCESS_MUTEX).cast::<u8>().cast_mut();
        (0..16).map(|offset| start.wrapping_add(offset).cast()).collect()
    }

    #[test]
    fn the_lock_is_known_wherever_its_mutex_lies_in_it() {
        assert!(within().into_iter().all(is_process_lock));
        let outside = [within()[0].wrapping_byte_sub(1), within()[15].wrapping_byte_add(1), std::ptr::null_mut()];
        assert!(!outside.into_iter().any(is_process_lock));
    }

    static LOOP: Source = Source::new("for (let i = 0; i < 1e5; i++);");

    /// A collection bit by bit, and one at once.
    fn collect(mut isolate: Isolate<()>) {
        isolate.turn(1_000_000_000, |scope| scope.start_collection());
        while isolate.collecting(0) {
            isolate.turn(1_000_000_000, |scope| scope.run_tasks());
        }
        assert_eq!(isolate.collections(), 1);
        isolate.memory_gauge().relieve(true);
        isolate.turn(1_000_000_000, |scope| scope.run_script("loop.js", &LOOP, Compile::Eager).is_ok());
        assert_eq!(isolate.collections(), 2);
    }

    /// The mutex of `LazyMutex` is its first or its second word; a locked one has a bit set.
    #[test]
    fn isolates_are_made_collected_and_dropped_while_somebody_holds_it() {
        let engine = Engine::init().expect("engine");
        let limits = IsolateLimits { heap_bytes: 64 << 20 };
        // The first collection makes the mutex.
        collect(Isolate::new(&engine, limits, ()).expect("isolate"));
        // SAFETY: reads a static that other threads change only by locking it, which they do not.
        let words: [u64; 2] = unsafe { std::mem::transmute(PROCESS_MUTEX) };
        let mutex = within()[if words[0] == 0 { 0 } else { 8 }];
        // SAFETY: a mutex that was made and that nobody holds.
        unsafe { __real__ZN2v84base5Mutex4LockEv(mutex) };
        let (done, wait) = mpsc::channel();
        thread::spawn(move || {
            collect(Isolate::new(&engine, limits, ()).expect("isolate"));
            let _ = done.send(());
        });
        let outcome = wait.recv_timeout(Duration::from_secs(20));
        // SAFETY: locked above.
        unsafe { __real__ZN2v84base5Mutex6UnlockEv(mutex) };
        assert_eq!(outcome, Ok(()), "a thread waits for the process-wide lock");
    }
}
