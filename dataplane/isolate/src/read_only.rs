//! V8's read-only heap, one copy for all isolates.
//!
//! Each isolate group has a read-only heap in its cage: strings, maps and other objects that never change, 450 KB, made from the
//! start-up snapshot at offsets that the snapshot says. Pointers in it are relative to the cage, so its pages are the same bytes in
//! every cage, but for the first page of each chunk, which has the address of the chunk's record. [`ReadOnly`] keeps these
//! bytes in a sealed memory file; [`ReadOnly::share`] maps it over an isolate's own pages. Nothing is seen of it from inside: a
//! page is replaced by the same bytes, found equal right before, with the same protection and the same key, by one system call.
//!
//! *Owns:* the file, and where in a cage its pages belong. *Invariants:* the file is written once and sealed; only whole areas
//! that the kernel says are readable and nothing else, at the very place where the first isolate had them, are replaced.
//! *Fails:* an area that is not as expected keeps its own pages. *Thread:* the isolate's, outside of its turns.

use std::{
    ffi::c_void,
    fs::File,
    io::{self, Write},
    ops::Range,
    os::fd::{AsRawFd, FromRawFd},
    ptr, slice,
};

use pkey::{Domain, maps};

/// Where the read-only heap may lie: V8 puts it first in a cage, in chunks of 256 KiB.
const SPAN: usize = 4 << 20;
const PAGE: usize = 4096;
/// Pages of an area that may be its own: the first, with the header of its chunk.
const OWN_MAX: usize = 1;

/// A piece of the read-only heap.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Piece {
    /// Offset in the cage.
    at: Range<usize>,
    /// Offset in the file.
    file: usize,
}

/// The read-only heap of a snapshot's isolates.
pub(crate) struct ReadOnly {
    file: File,
    pieces: Vec<Piece>,
    /// The file's bytes.
    bytes: Mapping,
}

impl ReadOnly {
    /// Copies it from an isolate that was made from the snapshot. The thread is in the isolate's domain.
    pub(crate) fn copy(cage: usize) -> io::Result<ReadOnly> {
        // SAFETY: a name without a NUL inside; the flags are the kernel's.
        let fd = unsafe { libc::memfd_create(c"v8-read-only".as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: just made, and nobody else's.
        let mut file = unsafe { File::from_raw_fd(fd) };
        let mut pieces = Vec::new();
        let mut written = 0;
        for at in readable(cage)? {
            // SAFETY: the kernel says that it is readable and nothing else; V8 does not change that while the isolate lives.
            let bytes = unsafe { slice::from_raw_parts((cage + at.start) as *const u8, at.len()) };
            file.write_all(bytes)?;
            pieces.push(Piece { file: written, at });
            written += bytes.len();
        }
        let seals = libc::F_SEAL_WRITE | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
        // SAFETY: a file of ours that nobody has mapped.
        if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) } < 0 {
            return Err(io::Error::last_os_error());
        }
        let bytes = Mapping::of(&file, 0, written, libc::PROT_READ)?;
        Ok(ReadOnly { file, pieces, bytes })
    }

    /// Puts the shared pages in the place of an isolate's own, in whose domain the thread is. How many bytes.
    pub(crate) fn share(&self, cage: usize, domain: &Domain) -> io::Result<usize> {
        let found = readable(cage)?;
        let mut shared = 0;
        for piece in self.pieces.iter().filter(|piece| found.contains(&piece.at)) {
            shared += self.share_piece(piece, cage, domain)?;
        }
        Ok(shared)
    }

    fn share_piece(&self, piece: &Piece, cage: usize, domain: &Domain) -> io::Result<usize> {
        let place = cage + piece.at.start..cage + piece.at.end;
        // SAFETY: as in `copy`.
        let theirs = unsafe { slice::from_raw_parts(place.start as *const u8, place.len()) };
        let ours = &self.bytes.as_slice()[piece.file..piece.file + place.len()];
        let differ = |index: &usize| theirs[index * PAGE..][..PAGE] != ours[index * PAGE..][..PAGE];
        let own: Vec<usize> = (0..place.len() / PAGE).filter(differ).collect();
        if own.len() > OWN_MAX {
            return Ok(0);
        }
        let mut made = Mapping::of(&self.file, piece.file, place.len(), libc::PROT_READ | libc::PROT_WRITE)?;
        for index in &own {
            made.as_mut_slice()[index * PAGE..][..PAGE].copy_from_slice(&theirs[index * PAGE..][..PAGE]);
        }
        made.protect(libc::PROT_READ)?;
        // SAFETY: pages of ours that nobody uses yet; the domain's from here on.
        unsafe { pkey::set_key(made.range(), libc::PROT_READ, domain.key())? };
        // SAFETY: the same bytes with the same protection take the place of V8's own, which V8 only ever reads.
        unsafe { made.move_to(place.start)? };
        Ok(place.len() - own.len() * PAGE)
    }
}

/// Areas at the beginning of a cage that may only be read, as offsets in it.
fn readable(cage: usize) -> io::Result<Vec<Range<usize>>> {
    let areas = maps::areas(cage..cage + SPAN)?;
    let inside = areas.iter().filter(|area| area.protection == libc::PROT_READ && area.range.end <= cage + SPAN);
    Ok(inside.map(|area| area.range.start - cage..area.range.end - cage).collect())
}

/// Pages of a file, mapped privately.
struct Mapping {
    start: *mut u8,
    len: usize,
}

// SAFETY: the owner of plain memory; it is only read through shared references.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn of(file: &File, at: usize, len: usize, protection: i32) -> io::Result<Mapping> {
        if len == 0 {
            return Ok(Mapping { start: ptr::dangling_mut(), len });
        }
        // SAFETY: a new mapping, wherever the kernel likes.
        let start = unsafe {
            libc::mmap(ptr::null_mut(), len, protection, libc::MAP_PRIVATE, file.as_raw_fd(), at as libc::off_t)
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Mapping { start: start.cast(), len })
    }

    fn range(&self) -> Range<usize> {
        self.start as usize..self.start as usize + self.len
    }

    fn as_slice(&self) -> &[u8] {
        // SAFETY: mapped readable for as long as `self` lives; the file is sealed.
        unsafe { slice::from_raw_parts(self.start, self.len) }
    }

    /// To be called while it is writable.
    fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as in `as_slice`, and `self` is borrowed mutably; what is written is this mapping's own.
        unsafe { slice::from_raw_parts_mut(self.start, self.len) }
    }

    fn protect(&mut self, protection: i32) -> io::Result<()> {
        // SAFETY: pages of this mapping.
        let failed = unsafe { libc::mprotect(self.start.cast(), self.len, protection) } != 0;
        if failed { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Moves it over what is mapped at `place`, in one step.
    ///
    /// # Safety
    /// What is there may be replaced by these pages.
    unsafe fn move_to(self, place: usize) -> io::Result<()> {
        let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
        // SAFETY: the caller's promise; `self` is a whole mapping.
        let moved = unsafe { libc::mremap(self.start.cast(), self.len, self.len, flags, place as *mut c_void) };
        if moved == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        std::mem::forget(self);
        Ok(())
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if self.len > 0 {
            // SAFETY: mapped in `of`, unmapped once; nobody has a reference to it.
            unsafe { libc::munmap(self.start.cast(), self.len) };
        }
    }
}
