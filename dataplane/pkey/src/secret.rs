//! [`Secret`]: memory of its own for what must not leak, under the host's key.
//!
//! *Does not:* follow copies. What is made of a secret while it is looked at is wiped off the stack; registers, and what was
//! put on the heap, stay as they are.

use std::{fmt, io, mem::MaybeUninit, ptr::NonNull};

use crate::{is_on, secrets_key, twin};

/// A long-lived secret in pages of its own: left out of core dumps, locked where the limits allow, wiped at the end, and,
/// where keys are on, readable only inside [`Secret::with`].
pub struct Secret<T: Copy> {
    pages: NonNull<T>,
    bytes: usize,
}

// SAFETY: the pages belong to the value alone, which gives only shared references to a plain `T`.
unsafe impl<T: Copy + Send> Send for Secret<T> {}
// SAFETY: as above; nothing is written after `new`.
unsafe impl<T: Copy + Sync> Sync for Secret<T> {}

impl<T: Copy> Secret<T> {
    /// Puts a value into pages of its own. The caller wipes its own copy.
    ///
    /// Made before [`init`](crate::init), it has the pages but no key.
    pub fn new(value: &T) -> io::Result<Secret<T>> {
        const { assert!(align_of::<T>() <= 4096, "a page's alignment is enough") };
        let bytes = size_of::<T>().max(1).next_multiple_of(4096);
        let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping, wherever the kernel likes.
        let pages = unsafe { libc::mmap(std::ptr::null_mut(), bytes, protection, flags, -1, 0) };
        if pages == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let pages = NonNull::new(pages.cast::<T>()).ok_or(io::ErrorKind::OutOfMemory)?;
        let secret = Secret { pages, bytes };
        // SAFETY: the mapping just made; advice and a lock that may fail without harm.
        unsafe {
            libc::madvise(pages.as_ptr().cast(), bytes, libc::MADV_DONTDUMP);
            libc::mlock(pages.as_ptr().cast(), bytes);
        }
        // SAFETY: a whole, aligned, writable `T`, which nobody else knows of.
        unsafe { pages.as_ptr().write_volatile(*value) };
        let start = pages.as_ptr() as usize;
        // SAFETY: these pages are read in `with` and written in `drop`, both with the right to them.
        unsafe { twin::set_key(start..start + bytes, protection, secrets_key()) }?;
        Ok(secret)
    }

    /// Looks at the secret, and wipes what `look` and those it calls had on the stack, in its upper [`STACK_BYTES`]; not if it
    /// unwinds. Nothing of a tenant's may run inside `look`.
    pub fn with<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        let _open = Open::new();
        // SAFETY: written in `new`, never after; the right to it is held until `look` has returned or unwound.
        let result = below(unsafe { self.pages.as_ref() }, look);
        wipe_stack();
        result
    }
}

/// What of the stack is wiped after a look. Signing with P-256 and AES-GCM (ring) take a few kilobytes.
const STACK_BYTES: usize = 8192;

/// A frame of its own for the look, where [`wipe_stack`] has its own after it.
#[inline(never)]
fn below<T, R>(secret: &T, look: impl FnOnce(&T) -> R) -> R {
    look(secret)
}

#[inline(never)]
fn wipe_stack() {
    let mut left = [MaybeUninit::<u64>::uninit(); STACK_BYTES / size_of::<u64>()];
    for word in &mut left {
        // SAFETY: a word of this frame.
        unsafe { std::ptr::from_mut(word).write_volatile(MaybeUninit::new(0)) };
    }
}

impl<T: Copy> Drop for Secret<T> {
    fn drop(&mut self) {
        {
            let _open = Open::new();
            for at in 0..self.bytes {
                // SAFETY: within the pages, which are ours and writable.
                unsafe { self.pages.as_ptr().cast::<u8>().add(at).write_volatile(0) };
            }
        }
        // SAFETY: mapped in `new`; no reference is left.
        unsafe { libc::munmap(self.pages.as_ptr().cast(), self.bytes) };
    }
}

impl<T: Copy> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(redacted)")
    }
}

/// The right to secrets, on top of what the thread has.
struct Open(u32);

impl Open {
    fn new() -> Open {
        let before = twin::rights();
        if is_on() {
            twin::set_rights(before & !(3 << (2 * secrets_key().0)));
        }
        Open(before)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if is_on() {
            twin::set_rights(self.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_reads_as_it_was_and_prints_nothing() {
        let secret = Secret::new(&[7u8; 32]).expect("a page");
        assert_eq!(secret.with(|bytes| *bytes), [7; 32]);
        assert_eq!(format!("{secret:?}"), "Secret(redacted)");
    }

    #[test]
    fn copies_on_the_stack_are_wiped_after_a_look() {
        const BYTES: usize = 1024;
        let secret = Secret::new(&[0x5a_u8; BYTES]).expect("a page");
        let copied = secret.with(|bytes| {
            let mut copy = [0; BYTES];
            std::hint::black_box(&mut copy).copy_from_slice(bytes);
            std::hint::black_box(&copy).as_ptr() as usize
        });
        let mut left = 0;
        for at in copied..copied + BYTES {
            // SAFETY: below this thread's stack pointer, where pages were in use a moment ago; nobody's value is there.
            left += usize::from(unsafe { std::ptr::read_volatile(at as *const u8) } == 0x5a);
        }
        assert_eq!(left, 0, "bytes of a copy");
    }
}
