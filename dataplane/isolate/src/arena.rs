//! [`Arena`]: memory of one isolate's array buffers, in pages of the isolate's domain.
//!
//! Where protection keys are on all buffers lie here, elsewhere small ones: large ones come from malloc there (see `memory`). Small
//! blocks are dlmalloc's, from segments of ours; large ones are mappings of their own, which come zeroed and go back at once.
//! *Invariants:* all pages are the domain's; block headers lie in them, so every call runs inside the domain.
//! *Bounds:* the caller's accounting (see `memory`). *Fails:* with a null pointer.

use std::{
    cell::RefCell,
    ops::Range,
    ptr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use dlmalloc::Dlmalloc;
use pkey::{Domain, Regions};

/// From this size on a block is a mapping of its own, bytes; as glibc has it.
const LARGE_BYTES: usize = 128 << 10;
/// Alignment of blocks: what `Float64Array` and SIMD code in V8 may want.
const ALIGN: usize = 16;
const PAGE_BYTES: usize = 4096;

pub(crate) struct Arena {
    domain: Arc<Domain>,
    heap: Mutex<Dlmalloc<Pages>>,
    /// Its pages went back to the system, headers of blocks with them.
    discarded: AtomicBool,
}

/// Pages of a domain, as dlmalloc and large blocks get them.
struct Pages {
    domain: Arc<Domain>,
    mapped: RefCell<Regions>,
}

impl Arena {
    pub(crate) fn new(domain: Arc<Domain>) -> Arena {
        let pages = Pages { domain: Arc::clone(&domain), mapped: RefCell::new(Regions::new()) };
        Arena { domain, heap: Mutex::new(Dlmalloc::new_with_allocator(pages)), discarded: AtomicBool::new(false) }
    }

    /// A block of `len` bytes; zeroed if that is asked for.
    pub(crate) fn allocate(&self, len: usize, zeroed: bool) -> *mut u8 {
        self.with(|heap| match len >= LARGE_BYTES {
            true => heap.allocator().map(len),
            // SAFETY: 16 is a power of two.
            false if zeroed => unsafe { heap.calloc(len.max(1), ALIGN) },
            // SAFETY: as above.
            false => unsafe { heap.malloc(len.max(1), ALIGN) },
        })
    }

    /// A block with a copy of these bytes.
    pub(crate) fn copy(&self, bytes: &[u8]) -> *mut u8 {
        let block = self.allocate(bytes.len(), false);
        if !block.is_null() {
            // SAFETY: a new block of that length, inside the domain.
            self.domain.within(|| unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), block, bytes.len()) });
        }
        block
    }

    /// Takes a block back.
    ///
    /// # Safety
    /// `allocate` gave it, for the same length, and nobody uses it any more.
    pub(crate) unsafe fn free(&self, block: *mut u8, len: usize) {
        if self.discarded.load(Relaxed) {
            return;
        }
        self.with(|heap| match len >= LARGE_BYTES {
            true => heap.allocator().unmap(block as usize, len.next_multiple_of(PAGE_BYTES)),
            // SAFETY: a block of this heap, by the caller's promise.
            false => unsafe { heap.free(block, len.max(1), ALIGN) },
        })
    }

    /// Gives the memory back to the system; the blocks read as zeroes. For an isolate that never runs again: no block is asked
    /// for after this.
    pub(crate) fn discard(&self) {
        self.discarded.store(true, Relaxed);
        let heap = self.heap.lock().unwrap_or_else(PoisonError::into_inner);
        for region in heap.allocator().mapped.borrow().as_slice() {
            // SAFETY: pages of this arena, whose blocks nobody reads any more.
            unsafe { libc::madvise(region.start as *mut _, region.end - region.start, libc::MADV_DONTNEED) };
        }
    }

    fn with<R>(&self, job: impl FnOnce(&mut Dlmalloc<Pages>) -> R) -> R {
        // Nothing may be given up while the lock is held: see `stuck`.
        crate::stack::in_native(|| {
            let mut heap = self.heap.lock().unwrap_or_else(PoisonError::into_inner);
            self.domain.within(|| job(&mut heap))
        })
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        let heap = self.heap.get_mut().unwrap_or_else(PoisonError::into_inner);
        let pages = heap.allocator();
        for region in pages.mapped.take().as_slice() {
            pages.give_back(region.clone());
        }
    }
}

impl Pages {
    /// New pages, zeroed, of the domain.
    fn map(&self, len: usize) -> *mut u8 {
        let Some(len) = len.checked_next_multiple_of(PAGE_BYTES) else { return ptr::null_mut() };
        let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping, wherever the kernel likes.
        let start = unsafe { libc::mmap(ptr::null_mut(), len, protection, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return ptr::null_mut();
        }
        let region = start as usize..start as usize + len;
        // SAFETY: pages that nobody else knows of, used for blocks of this arena.
        if unsafe { self.domain.add(region.clone(), protection) }.is_err() {
            self.give_back(region);
            return ptr::null_mut();
        }
        self.mapped.borrow_mut().add(region);
        start.cast()
    }

    fn unmap(&self, start: usize, len: usize) {
        self.mapped.borrow_mut().remove(start..start + len);
        self.give_back(start..start + len);
    }

    fn give_back(&self, region: Range<usize>) {
        self.domain.remove(region.clone());
        // SAFETY: pages of this arena that hold no block.
        unsafe { libc::munmap(region.start as *mut _, region.end - region.start) };
    }
}

// SAFETY: `alloc` gives fresh zeroed pages; what `free` and `free_part` are told to take back is unmapped.
unsafe impl dlmalloc::Allocator for Pages {
    fn alloc(&self, size: usize) -> (*mut u8, usize, u32) {
        (self.map(size), size.next_multiple_of(PAGE_BYTES), 0)
    }

    fn remap(&self, _ptr: *mut u8, _old: usize, _new: usize, _can_move: bool) -> *mut u8 {
        ptr::null_mut()
    }

    fn free_part(&self, ptr: *mut u8, old: usize, new: usize) -> bool {
        self.unmap(ptr as usize + new, old - new);
        true
    }

    fn free(&self, ptr: *mut u8, size: usize) -> bool {
        self.unmap(ptr as usize, size);
        true
    }

    fn can_release_part(&self, _flags: u32) -> bool {
        true
    }

    fn allocates_zeros(&self) -> bool {
        true
    }

    fn page_size(&self) -> usize {
        PAGE_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapped(arena: &Arena) -> usize {
        let heap = arena.heap.lock().expect("whole");
        heap.allocator().mapped.borrow().as_slice().iter().map(|region| region.end - region.start).sum()
    }

    /// Allocates, fills, checks and frees blocks of many sizes in an order of its own.
    #[test]
    fn blocks_are_apart_zeroed_and_come_back() {
        let arena = Arena::new(Arc::new(Domain::new()));
        let mut seed = 1u64;
        let mut random = |below: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) as usize % below
        };
        let mut blocks: Vec<(*mut u8, usize, u8)> = Vec::new();
        for round in 0..20_000 {
            if blocks.len() > 200 || (random(3) == 0 && !blocks.is_empty()) {
                let (block, len, mark) = blocks.swap_remove(random(blocks.len()));
                // SAFETY: a block of the arena, in the domain, freed once.
                unsafe {
                    arena.domain.within(|| {
                        assert!(std::slice::from_raw_parts(block, len).iter().all(|byte| *byte == mark));
                    });
                    arena.free(block, len);
                }
                continue;
            }
            let len = if random(50) == 0 { random(400 << 10) } else { random(3000) };
            let zeroed = random(2) == 0;
            let block = arena.allocate(len, zeroed);
            assert!(!block.is_null() && block.addr().is_multiple_of(ALIGN));
            // SAFETY: a new block of `len` bytes, in the domain.
            arena.domain.within(|| unsafe {
                assert!(!zeroed || std::slice::from_raw_parts(block, len).iter().all(|byte| *byte == 0));
                ptr::write_bytes(block, round as u8, len);
            });
            blocks.push((block, len, round as u8));
        }
        for (block, len, _) in blocks.drain(..) {
            // SAFETY: freed once.
            unsafe { arena.free(block, len) };
        }
        assert!(mapped(&arena) <= 4 << 20, "{} bytes are kept", mapped(&arena));
    }

    #[test]
    fn nothing_is_mapped_before_the_first_block_and_a_large_one_goes_at_once() {
        let arena = Arena::new(Arc::new(Domain::new()));
        assert_eq!(mapped(&arena), 0);
        let block = arena.allocate(1 << 20, true);
        assert_eq!(mapped(&arena), 1 << 20);
        // SAFETY: freed once.
        unsafe { arena.free(block, 1 << 20) };
        assert_eq!(mapped(&arena), 0);
        assert!(arena.allocate(usize::MAX - 100, false).is_null());
    }
}
