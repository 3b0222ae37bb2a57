//! V8's page allocator, watched: what it maps while a domain is entered becomes the domain's, and what it maps during a turn is
//! counted as the turn's isolate's.
//!
//! V8 asks one object, `v8::base::PageAllocator`, for every page outside of malloc: cages, code ranges, resizable buffers, memories and
//! code of WebAssembly, zones of the compiler. That object's table of virtual functions is replaced by a copy in which six entries
//! lead here. Pages that V8 protects with its own key afterwards (code) keep that: see `pkey::Domain::claim`. `mprotect` and
//! `madvise` keep keys. A cage is mapped outside of a turn, so that the heap's own pages are not counted here.
//!
//! *Invariants:* the table is replaced once, before the first isolate. Each entry is found by its function's address, so a V8 with
//! another table is refused, not misread.

use std::{ffi::c_void, ops::Range};

use pkey::Domain;

use crate::memory::{self, Memory};

type Allocate = unsafe extern "C" fn(*mut c_void, *mut c_void, usize, usize, u32) -> *mut c_void;
type Free = unsafe extern "C" fn(*mut c_void, *mut c_void, usize) -> bool;
type Release = unsafe extern "C" fn(*mut c_void, *mut c_void, usize, usize) -> bool;
type Permit = unsafe extern "C" fn(*mut c_void, *mut c_void, usize, u32) -> bool;

unsafe extern "C" {
    /// `v8::PageAllocator* v8::internal::GetPlatformPageAllocator()`.
    #[link_name = "_ZN2v88internal24GetPlatformPageAllocatorEv"]
    fn platform_page_allocator() -> *mut *const usize;
    /// `void* PageAllocator::AllocatePages(void* hint, size_t size, size_t alignment, Permission)`.
    #[link_name = "_ZN2v84base13PageAllocator13AllocatePagesEPvmmNS_13PageAllocator10PermissionE"]
    fn v8_allocate(this: *mut c_void, hint: *mut c_void, size: usize, alignment: usize, access: u32) -> *mut c_void;
    /// `bool PageAllocator::FreePages(void*, size_t)`.
    #[link_name = "_ZN2v84base13PageAllocator9FreePagesEPvm"]
    fn v8_free(this: *mut c_void, address: *mut c_void, size: usize) -> bool;
    /// `bool PageAllocator::ReleasePages(void*, size_t size, size_t new_size)`.
    #[link_name = "_ZN2v84base13PageAllocator12ReleasePagesEPvmm"]
    fn v8_release(this: *mut c_void, address: *mut c_void, size: usize, new_size: usize) -> bool;
    /// `bool PageAllocator::DecommitPages(void*, size_t)`: maps anew, without a key.
    #[link_name = "_ZN2v84base13PageAllocator13DecommitPagesEPvm"]
    fn v8_decommit(this: *mut c_void, address: *mut c_void, size: usize) -> bool;
    /// `bool PageAllocator::SetPermissions(void*, size_t, Permission)`.
    #[link_name = "_ZN2v84base13PageAllocator14SetPermissionsEPvmNS_13PageAllocator10PermissionE"]
    fn v8_permit(this: *mut c_void, address: *mut c_void, size: usize, access: u32) -> bool;
    /// `bool PageAllocator::RecommitPages(void*, size_t, Permission)`.
    #[link_name = "_ZN2v84base13PageAllocator13RecommitPagesEPvmNS_13PageAllocator10PermissionE"]
    fn v8_recommit(this: *mut c_void, address: *mut c_void, size: usize, access: u32) -> bool;
    /// The table of that class: two words that are no functions, then the functions.
    #[link_name = "_ZTVN2v84base13PageAllocatorE"]
    static TABLE: [usize; WORDS];
}

/// Words of the table in this V8.
const WORDS: usize = 21;
/// Words before the first function: offset to the top, type information.
const BEFORE: usize = 2;

/// V8's table with our functions in it. `None`: this V8 has another one.
fn table() -> Option<[usize; WORDS]> {
    // SAFETY: an object of the archive that nobody writes; its size was read off its symbol, and is checked by what is found.
    let mut table = unsafe { TABLE };
    let ours: [(usize, usize); 6] = [
        (v8_allocate as Allocate as usize, allocate as Allocate as usize),
        (v8_free as Free as usize, free as Free as usize),
        (v8_release as Release as usize, release as Release as usize),
        (v8_decommit as Free as usize, decommit as Free as usize),
        (v8_permit as Permit as usize, permit as Permit as usize),
        (v8_recommit as Permit as usize, recommit as Permit as usize),
    ];
    for (theirs, ours) in ours {
        let mut places = table[BEFORE..].iter_mut().filter(|entry| **entry == theirs);
        let (place, another) = (places.next()?, places.next());
        if another.is_some() {
            return None;
        }
        *place = ours;
    }
    Some(table)
}

/// Watches the page allocator from here on. False: this V8's is another one.
///
/// # Safety
/// V8's platform exists, and no other thread uses V8.
pub(crate) unsafe fn watch() -> bool {
    let Some(table) = table() else { return false };
    // SAFETY: the platform exists.
    let allocator = unsafe { platform_page_allocator() };
    // SAFETY: an object with virtual functions begins with the address of its table's first function.
    if unsafe { *allocator } != unsafe { (&raw const TABLE).cast::<usize>().add(BEFORE) } {
        return false;
    }
    let table: &'static [usize; WORDS] = Box::leak(Box::new(table));
    // SAFETY: the object is writable (on the heap or in V8's data) and nobody else uses it now; the new table has the old one's
    // shape and lives for ever.
    unsafe { *allocator = table[BEFORE..].as_ptr() };
    true
}

fn range(address: *mut c_void, size: usize) -> Range<usize> {
    address as usize..address as usize + size
}

fn in_domain(job: impl FnOnce(&Domain)) {
    // SAFETY: V8 runs in the domain that the thread has entered, and does not leave it before this returns.
    if let Some(domain) = unsafe { pkey::current() } {
        // It has a mutex of its own, which the isolate's end needs.
        crate::stack::in_native(|| job(domain));
    }
}

/// `PageAllocator::Permission`: nothing yet, what buffers and memories are mapped with.
const NO_ACCESS: u32 = 0;
/// The same, for what becomes code.
const NO_ACCESS_WILL_JIT: u32 = 5;

/// Calls `job` with the memory of the isolate whose turn runs here.
fn in_turn<R>(otherwise: R, job: impl FnOnce(&Memory) -> R) -> R {
    // SAFETY: V8 calls from within the turn, which outlives `job`.
    match unsafe { memory::of_turn() } {
        Some(memory) => crate::stack::in_native(|| job(memory)),
        None => otherwise,
    }
}

/// Protection bits of `PageAllocator::Permission`.
fn protection(access: u32) -> i32 {
    let (read, write, execute) = (libc::PROT_READ, libc::PROT_WRITE, libc::PROT_EXEC);
    match access {
        1 => read,
        2 => read | write,
        3 => read | write | execute,
        4 => read | execute,
        _ => libc::PROT_NONE,
    }
}

unsafe extern "C" fn allocate(
    this: *mut c_void,
    hint: *mut c_void,
    size: usize,
    alignment: usize,
    access: u32,
) -> *mut c_void {
    // SAFETY: V8's own arguments.
    let pages = unsafe { v8_allocate(this, hint, size, alignment, access) };
    let mut tagged = Ok(());
    if !pages.is_null() {
        // SAFETY: pages just mapped for the isolate that runs here, which uses them in its domain.
        in_domain(|domain| tagged = unsafe { domain.add(range(pages, size), protection(access)) });
    }
    let counted = match access {
        NO_ACCESS | NO_ACCESS_WILL_JIT if !pages.is_null() => {
            in_turn(true, |memory| memory.map(range(pages, size), access == NO_ACCESS_WILL_JIT))
        }
        _ => true,
    };
    match tagged {
        Ok(()) if counted => pages,
        _ => {
            if counted {
                in_turn((), |memory| memory.unmap(pages as usize));
            }
            // Pages without their key must not be used: V8 sees that there are none.
            // SAFETY: the pages just mapped.
            unsafe { v8_free(this, pages, size) };
            std::ptr::null_mut()
        }
    }
}

unsafe extern "C" fn free(this: *mut c_void, address: *mut c_void, size: usize) -> bool {
    in_domain(|domain| domain.remove(range(address, size)));
    in_turn((), |memory| memory.unmap(address as usize));
    // SAFETY: V8's own arguments.
    unsafe { v8_free(this, address, size) }
}

unsafe extern "C" fn permit(this: *mut c_void, address: *mut c_void, size: usize, access: u32) -> bool {
    if access != NO_ACCESS && !in_turn(true, |memory| memory.commit(range(address, size), false)) {
        return false;
    }
    // SAFETY: V8's own arguments.
    unsafe { v8_permit(this, address, size, access) }
}

unsafe extern "C" fn recommit(this: *mut c_void, address: *mut c_void, size: usize, access: u32) -> bool {
    if !in_turn(true, |memory| memory.commit(range(address, size), true)) {
        return false;
    }
    // SAFETY: V8's own arguments.
    unsafe { v8_recommit(this, address, size, access) }
}

unsafe extern "C" fn release(this: *mut c_void, address: *mut c_void, size: usize, new_size: usize) -> bool {
    in_domain(|domain| domain.remove(address as usize + new_size..address as usize + size));
    // SAFETY: V8's own arguments.
    unsafe { v8_release(this, address, size, new_size) }
}

unsafe extern "C" fn decommit(this: *mut c_void, address: *mut c_void, size: usize) -> bool {
    // SAFETY: V8's own arguments.
    let mut done = unsafe { v8_decommit(this, address, size) };
    if done {
        in_turn((), |memory| memory.decommit(range(address, size)));
        in_domain(|domain| {
            domain.remove(range(address, size));
            // SAFETY: the domain's pages, mapped anew for it.
            done = unsafe { domain.add(range(address, size), libc::PROT_NONE) }.is_ok();
        });
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Engine, Isolate, IsolateLimits, stack};

    #[test]
    fn nothing_is_given_up_while_its_pages_are_noted() {
        let engine = Engine::init().expect("engine");
        let mut isolate = Isolate::new(&engine, IsolateLimits { heap_bytes: 64 << 20 }, ()).expect("isolate");
        let turn = isolate.turn(1_000_000_000, |_| {
            let here = 0u8;
            let may_abandon = || stack::may_abandon((&raw const here) as usize);
            stack::in_v8(|| {
                let mut inside = Vec::new();
                in_domain(|_| inside.push(may_abandon()));
                in_turn((), |_| inside.push(may_abandon()));
                (may_abandon(), inside)
            })
        });
        assert_eq!(turn.value, Some((true, vec![false, false])));
    }

    #[test]
    fn this_v8_has_the_table_that_is_expected() {
        let table = table().expect("six functions, each found once");
        // SAFETY: see `table`.
        let theirs = unsafe { TABLE };
        assert_eq!(table.iter().zip(&theirs).filter(|(ours, theirs)| ours != theirs).count(), 6);
        assert_eq!(theirs[0], 0, "a complete object's offset to its top");
    }
}
