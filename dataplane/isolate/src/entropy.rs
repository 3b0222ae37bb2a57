//! Where V8 gets the seeds of its random numbers: the kernel; except while the snapshot is made.
//!
//! V8 numbers symbols at random for its hash tables. A snapshot has such numbers in its read-only part, whose checksum is
//! in every piece of compiled code: with the same numbers in every process, code compiled by one serves in another.
//! `Math.random` is not concerned: V8 leaves its state out of snapshots.

use std::cell::Cell;

thread_local! {
    static FIXED: Cell<bool> = const { Cell::new(false) };
}

/// Makes V8 ask here. Before V8 starts.
pub(crate) fn install() {
    v8::V8::set_entropy_source(fill);
}

/// Runs `make` while V8 gets the same seed each time, on this thread.
pub(crate) fn fixed<R>(make: impl FnOnce() -> R) -> R {
    FIXED.set(true);
    let made = make();
    FIXED.set(false);
    made
}

fn fill(bytes: &mut [u8]) -> bool {
    if FIXED.get() {
        bytes.fill(0x5e);
        return true;
    }
    // SAFETY: the buffer is valid for its length.
    let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    usize::try_from(got) == Ok(bytes.len())
}
