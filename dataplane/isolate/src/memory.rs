//! What an isolate's memory costs: array buffers through an allocator that counts (and takes small ones, and where protection keys
//! are on all of them, from an arena of the isolate's domain), the heap through V8's near-limit and garbage collection callbacks,
//! resizable buffers, and memories and code of WebAssembly through V8's page allocator (see `pages`).
//!
//! *Invariants:* buffers and heap together stay below the limit, as of the last garbage collection; an allocation past it
//! fails (`RangeError` in JavaScript) or ends the turn with [`Ended::Memory`](crate::Ended::Memory).
//! *Bounds:* after the limit the heap may grow by [`UNWIND_BYTES`] while the turn is being ended; past that the
//! isolate is given up (see `stack`).

use std::{
    alloc::Layout,
    collections::{BTreeMap, HashMap},
    ffi::c_void,
    ops::Range,
    ptr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
};

use pkey::Domain;

use crate::{arena::Arena, turn};

/// Buffers from this size on come from malloc where there are no keys, and are remembered, bytes. Smaller ones come from the arena,
/// which can be given back as a whole: ten thousands of them would be too many to remember.
const NOTED_BYTES: usize = 16 << 10;
const PAGE_BYTES: usize = 4096;
/// What a heap may grow past its limit until its turn has ended, bytes. One native function of V8 may allocate this much
/// before it looks whether it should stop; the cage (4 GiB) has room for it.
const UNWIND_BYTES: usize = 256 << 20;
/// By how much the near-limit callback raises V8's limit each time, bytes.
const STEP_BYTES: usize = 64 << 20;

/// What reserved address space costs in the account, as a fraction of it: a memory of WebAssembly that may grow to 128 MiB costs
/// 128 KiB from the start, so that an isolate has at most a thousand.
const RESERVED_PART: usize = 1024;

/// Pages that V8 got from the system during turns of an isolate.
struct Region {
    bytes: usize,
    /// Bytes of it that are counted: from the start for memory, anywhere for code.
    committed: usize,
    code: bool,
}

/// What an isolate's memory holds; any thread may look.
#[derive(Default)]
struct Usage {
    /// Bytes of live array buffers.
    buffers: AtomicUsize,
    /// Bytes of the heap after the last full collection.
    heap: AtomicUsize,
    /// Bytes of the heap's pages when they were last counted.
    pages: AtomicUsize,
}

/// What an isolate holds, and how to make it hold less: for any thread, whatever the isolate does.
#[derive(Clone)]
pub struct MemoryGauge {
    usage: Arc<Usage>,
    handle: v8::IsolateHandle,
}

impl MemoryGauge {
    pub(crate) fn new(memory: &Memory, handle: v8::IsolateHandle) -> MemoryGauge {
        MemoryGauge { usage: Arc::clone(&memory.usage), handle }
    }

    /// Pages of the heap as of the last full collection or [`Isolate::heap_use`](crate::Isolate::heap_use), and array buffers now;
    /// bytes.
    pub fn bytes(&self) -> usize {
        self.usage.pages.load(Relaxed) + self.usage.buffers.load(Relaxed)
    }

    /// Asks V8 to collect garbage, in the turn that runs or the next one and on its CPU account: bit by bit, or `now`.
    pub fn relieve(&self, now: bool) {
        let level = if now { v8::MemoryPressureLevel::Critical } else { v8::MemoryPressureLevel::Moderate };
        self.handle.request_interrupt(collect, ptr::without_provenance_mut(level as usize));
    }
}

/// V8 has come to an interrupt that [`MemoryGauge::relieve`] asked for.
unsafe extern "C" fn collect(isolate: v8::UnsafeRawIsolatePtr, level: *mut c_void) {
    // SAFETY: V8 passes the isolate that runs on this thread; it is used within the call only.
    let mut isolate = unsafe { v8::Isolate::from_raw_isolate_ptr(isolate) };
    let now = level.addr() == v8::MemoryPressureLevel::Critical as usize;
    // V8 forgets the level when it has acted on it.
    isolate.memory_pressure_notification(match now {
        true => v8::MemoryPressureLevel::Critical,
        false => v8::MemoryPressureLevel::Moderate,
    });
}

/// Memory of one isolate. Shared with V8's allocator, which may outlive the isolate by a buffer.
pub(crate) struct Memory {
    /// Its protection key, and what carries it.
    pub(crate) domain: Arc<Domain>,
    /// Where small buffers lie, and while protection keys are on all; malloc has the others. A host's isolate has none.
    arena: Option<Arena>,
    /// Buffers from malloc of [`NOTED_BYTES`] and more, and how long they are.
    noted: Mutex<HashMap<usize, usize>>,
    /// Pages that V8 got by itself, by their first address.
    regions: Mutex<BTreeMap<usize, Region>>,
    /// Limit for heap and buffers together.
    limit: usize,
    usage: Arc<Usage>,
    /// A limit was passed in this turn.
    exceeded: AtomicBool,
    /// Garbage was collected since somebody asked.
    collected: AtomicBool,
    /// Full collections so far.
    collections: AtomicUsize,
}

impl Memory {
    pub(crate) fn new(limit: usize) -> Arc<Memory> {
        let domain = Arc::new(Domain::new());
        let arena = Arena::new(Arc::clone(&domain));
        Memory::with(limit, domain, Some(arena))
    }

    /// Of an isolate that is no tenant's and runs outside of any domain: nothing of it carries a key.
    pub(crate) fn of_host(limit: usize) -> Arc<Memory> {
        Memory::with(limit, Arc::new(Domain::new()), None)
    }

    fn with(limit: usize, domain: Arc<Domain>, arena: Option<Arena>) -> Arc<Memory> {
        Arc::new(Memory {
            domain,
            arena,
            noted: Mutex::default(),
            regions: Mutex::default(),
            limit,
            usage: Arc::default(),
            exceeded: AtomicBool::new(false),
            collected: AtomicBool::new(false),
            collections: AtomicUsize::new(0),
        })
    }

    /// Whether the limit was passed.
    #[inline]
    pub(crate) fn exceeded(&self) -> bool {
        self.exceeded.load(Relaxed)
    }

    /// As if garbage had been collected.
    pub(crate) fn set_collected(&self) {
        self.collected.store(true, Relaxed);
    }

    /// Whether garbage was collected since the last call of [`Memory::take_collected`].
    #[inline]
    pub(crate) fn collected(&self) -> bool {
        self.collected.load(Relaxed)
    }

    /// Whether garbage was collected since the last call of this.
    #[inline]
    pub(crate) fn take_collected(&self) -> bool {
        let collected = self.collected();
        if collected {
            self.collected.store(false, Relaxed);
        }
        collected
    }

    /// How many full collections there were.
    pub(crate) fn collections(&self) -> usize {
        self.collections.load(Relaxed)
    }

    /// Live bytes, as of the last collection.
    pub(crate) fn bytes(&self) -> usize {
        self.usage.heap.load(Relaxed) + self.usage.buffers.load(Relaxed)
    }

    /// Live bytes of array buffers.
    pub(crate) fn buffer_bytes(&self) -> usize {
        self.usage.buffers.load(Relaxed)
    }

    /// The pages of its heap were counted.
    pub(crate) fn set_pages(&self, bytes: usize) {
        self.usage.pages.store(bytes, Relaxed);
    }

    /// Bytes until the limit, as of the last collection.
    pub(crate) fn room(&self) -> usize {
        self.limit.saturating_sub(self.bytes())
    }

    /// Counts `len` bytes if they fit.
    pub(crate) fn reserve(&self, len: usize) -> bool {
        let heap = self.usage.heap.load(Relaxed);
        self.usage
            .buffers
            .fetch_update(Relaxed, Relaxed, |used| {
                let next = used.checked_add(len)?;
                (next.checked_add(heap)? <= self.limit).then_some(next)
            })
            .is_ok()
    }

    /// Gives the buffers' memory back to the system, for an isolate that never runs again.
    pub(crate) fn discard(&self) {
        if let Some(arena) = &self.arena {
            arena.discard();
        }
        for (start, region) in self.regions().iter().filter(|(_, region)| !region.code) {
            // SAFETY: pages of a buffer or memory of this isolate, whose bytes nobody reads any more.
            unsafe { libc::madvise(ptr::without_provenance_mut(*start), region.committed, libc::MADV_DONTNEED) };
        }
        let noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        for (start, len) in noted.iter() {
            let (first, end) = (start.next_multiple_of(PAGE_BYTES), (start + len) / PAGE_BYTES * PAGE_BYTES);
            if first < end {
                // SAFETY: whole pages within a live block of malloc, whose bytes nobody reads any more.
                unsafe { libc::madvise(ptr::without_provenance_mut(first), end - first, libc::MADV_DONTNEED) };
            }
        }
    }

    /// V8 has reserved pages. Whether they fit.
    pub(crate) fn map(&self, pages: Range<usize>, code: bool) -> bool {
        let bytes = pages.end - pages.start;
        // Address space for code is not the tenant's to choose.
        let fits = code || self.reserve(bytes / RESERVED_PART);
        if fits {
            self.regions().insert(pages.start, Region { bytes, committed: 0, code });
        }
        fits
    }

    /// V8 has given reserved pages back.
    pub(crate) fn unmap(&self, start: usize) {
        if let Some(Region { bytes, committed, code }) = self.regions().remove(&start) {
            self.release(committed + if code { 0 } else { bytes / RESERVED_PART });
        }
    }

    /// V8 is about to use reserved pages, for code or as memory. Whether they fit; code that does not ends the turn.
    pub(crate) fn commit(&self, pages: Range<usize>, code: bool) -> bool {
        let mut regions = self.regions();
        let Some((start, region)) = region_of(&mut regions, &pages).filter(|(_, region)| region.code == code) else {
            return true;
        };
        let more = match code {
            true => pages.end - pages.start,
            false => (pages.end - start).saturating_sub(region.committed),
        };
        if self.reserve(more) {
            region.committed += more;
            return true;
        }
        if code {
            // V8 ends the process where it gets no page for code; it gets this one and sees next that the turn is over.
            self.usage.buffers.fetch_add(more, Relaxed);
            region.committed += more;
            self.exceeded.store(true, Relaxed);
            turn::terminate_current();
        }
        code
    }

    /// V8 no longer uses pages.
    pub(crate) fn decommit(&self, pages: Range<usize>) {
        let mut regions = self.regions();
        let Some((start, region)) = region_of(&mut regions, &pages) else { return };
        let less = match region.code {
            true => region.committed.min(pages.end - pages.start),
            // Of memory only the end is given back.
            false => region.committed.saturating_sub(pages.start - start),
        };
        region.committed -= less;
        self.release(less);
    }

    fn regions(&self) -> std::sync::MutexGuard<'_, BTreeMap<usize, Region>> {
        self.regions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The arena, for buffers of that length that belong there.
    #[inline]
    fn arena_for(&self, len: usize) -> Option<&Arena> {
        self.arena.as_ref().filter(|_| len < NOTED_BYTES || pkey::is_on())
    }

    /// Remembers a block from malloc, for [`Memory::discard`].
    fn note(&self, data: *const u8, len: usize) {
        if len >= NOTED_BYTES && !data.is_null() {
            // Nothing may be given up while the lock is held: see `stuck`.
            crate::stack::in_native(|| {
                self.noted.lock().unwrap_or_else(PoisonError::into_inner).insert(data.addr(), len);
            });
        }
    }

    /// The block goes back to malloc.
    fn forget(&self, data: *const u8, len: usize) {
        if len >= NOTED_BYTES {
            crate::stack::in_native(|| {
                self.noted.lock().unwrap_or_else(PoisonError::into_inner).remove(&data.addr());
            });
        }
    }

    pub(crate) fn release(&self, len: usize) {
        self.usage.buffers.fetch_sub(len, Relaxed);
    }

    /// Makes V8 ask this object for the memory of array buffers.
    pub(crate) fn allocator(self: &Arc<Memory>) -> v8::UniqueRef<v8::Allocator> {
        // SAFETY: the table's functions take `&Memory` and its drop takes back the reference given here.
        unsafe { v8::new_rust_allocator(Arc::into_raw(Arc::clone(self)), &TABLE) }
    }
}

fn region_of<'r>(regions: &'r mut BTreeMap<usize, Region>, pages: &Range<usize>) -> Option<(usize, &'r mut Region)> {
    let (start, region) = regions.range_mut(..=pages.start).next_back()?;
    (pages.end <= start + region.bytes).then_some((*start, region))
}

/// The memory of the isolate whose turn runs on this thread.
///
/// # Safety
/// Used only until the turn ends or is suspended.
pub(crate) unsafe fn of_turn<'t>() -> Option<&'t Memory> {
    let isolate = turn::current_isolate();
    if isolate.is_null() {
        return None;
    }
    // SAFETY: the isolate whose turn runs here; its data slot has an `Inner` as long as it lives, see `Scope::inner`.
    unsafe {
        let isolate = v8::Isolate::from_raw_ptr(isolate.cast());
        let inner = isolate.get_data(0).cast::<crate::isolate::Inner>();
        inner.as_ref().map(|inner| &*Arc::as_ptr(&inner.memory))
    }
}

static TABLE: v8::RustAllocatorVtable<Memory> =
    v8::RustAllocatorVtable { allocate: zeroed, allocate_uninitialized: uninitialized, free, drop: release_table };

/// Alignment of buffers: what `Float64Array` and SIMD code in V8 may want.
const ALIGN: usize = 16;

fn layout(len: usize) -> Option<Layout> {
    Layout::from_size_align(len.max(1), ALIGN).ok()
}

unsafe extern "C" fn zeroed(memory: &Memory, len: usize) -> *mut c_void {
    allocate(memory, len, true)
}

unsafe extern "C" fn uninitialized(memory: &Memory, len: usize) -> *mut c_void {
    allocate(memory, len, false)
}

fn allocate(memory: &Memory, len: usize, zeroed: bool) -> *mut c_void {
    let Some(layout) = layout(len) else { return ptr::null_mut() };
    if !memory.reserve(len) {
        return ptr::null_mut();
    }
    let data = match memory.arena_for(len) {
        Some(arena) => arena.allocate(len, zeroed),
        None => {
            // SAFETY: `layout` has at least one byte.
            let data = unsafe { if zeroed { std::alloc::alloc_zeroed(layout) } else { std::alloc::alloc(layout) } };
            memory.note(data, len);
            data
        }
    };
    if data.is_null() {
        memory.release(len);
    }
    data.cast()
}

unsafe extern "C" fn free(memory: &Memory, data: *mut c_void, len: usize) {
    if let Some(layout) = layout(len).filter(|_| !data.is_null()) {
        // SAFETY: V8 gives back what `allocate` gave, with the same length, once.
        unsafe {
            match memory.arena_for(len) {
                Some(arena) => arena.free(data.cast(), len),
                None => {
                    memory.forget(data.cast(), len);
                    std::alloc::dealloc(data.cast(), layout);
                }
            }
        }
        memory.release(len);
    }
}

unsafe extern "C" fn release_table(memory: *const Memory) {
    // SAFETY: the reference that `Memory::allocator` made with `Arc::into_raw`.
    drop(unsafe { Arc::from_raw(memory) });
}

/// Makes these bytes the memory of an array buffer, counted. `None` if they do not fit.
pub(crate) fn adopt(memory: &Arc<Memory>, bytes: Vec<u8>) -> Option<v8::UniqueRef<v8::BackingStore>> {
    if bytes.is_empty() {
        return Some(v8::ArrayBuffer::new_backing_store_from_vec(bytes));
    }
    if !memory.reserve(bytes.len()) {
        return None;
    }
    let len = bytes.len();
    let data = match memory.arena_for(len) {
        Some(arena) => arena.copy(&bytes),
        None => {
            let data = Box::into_raw(bytes.into_boxed_slice()).cast::<u8>();
            memory.note(data, len);
            data
        }
    };
    if data.is_null() {
        memory.release(len);
        return None;
    }
    let data = data.cast::<c_void>();
    let owner = Arc::into_raw(Arc::clone(memory)).cast_mut().cast::<c_void>();
    // SAFETY: `data` is a boxed slice or a block of `len` bytes that nobody else has; `drop_adopted` takes both back, once.
    Some(unsafe { v8::ArrayBuffer::new_backing_store_from_ptr(data, len, drop_adopted, owner) })
}

/// Bytes that left the heap and still count as the isolate's, until they are dropped.
pub struct CountedBytes {
    bytes: Vec<u8>,
    memory: Arc<Memory>,
}

impl CountedBytes {
    /// Counts bytes that exist already; `None` if they do not fit.
    pub(crate) fn new(memory: &Arc<Memory>, bytes: Vec<u8>) -> Option<CountedBytes> {
        memory.reserve(bytes.capacity()).then(|| CountedBytes { bytes, memory: Arc::clone(memory) })
    }
}

impl AsRef<[u8]> for CountedBytes {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for CountedBytes {
    fn drop(&mut self) {
        self.memory.release(self.bytes.capacity());
    }
}

unsafe extern "C" fn drop_adopted(data: *mut c_void, len: usize, owner: *mut c_void) {
    // SAFETY: what `adopt` made with `Arc::into_raw` and, by the same test, `Arena::copy` or `Box::into_raw`, with this length.
    unsafe {
        let memory = Arc::from_raw(owner.cast::<Memory>().cast_const());
        match memory.arena_for(len) {
            Some(arena) => arena.free(data.cast(), len),
            None => {
                memory.forget(data.cast(), len);
                drop(Box::from_raw(ptr::slice_from_raw_parts_mut(data.cast::<u8>(), len)));
            }
        }
        memory.release(len);
    }
}

/// Installs the callbacks that keep the heap within `memory`'s limit. `memory` outlives the isolate.
pub(crate) fn install(isolate: &mut v8::OwnedIsolate, memory: &Arc<Memory>) {
    let data = Arc::as_ptr(memory).cast_mut().cast();
    isolate.add_near_heap_limit_callback(near_limit, data);
    isolate.add_gc_prologue_callback(before_collection, data, v8::GCType::kGCTypeMarkSweepCompact);
    isolate.add_gc_epilogue_callback(after_collection, data, v8::GCType::kGCTypeMarkSweepCompact);
    isolate.add_gc_epilogue_callback(collected, data, v8::GCType::kGCTypeAll);
    isolate.set_oom_error_handler(out_of_memory);
}

/// V8 cannot collect enough to stay below its limit: the turn ends; until it has, the limit is raised.
///
/// V8 also asks when an allocation failed for another reason, such as an array buffer that our allocator refused: then
/// the limit is raised, in case one large object needs it, and the turn goes on.
unsafe extern "C" fn near_limit(data: *mut c_void, current: usize, initial: usize) -> usize {
    // SAFETY: `install` passed a `Memory` that outlives the isolate.
    let memory = unsafe { &*data.cast::<Memory>() };
    let isolate = turn::current_isolate();
    let heap = if isolate.is_null() {
        current
    } else {
        // SAFETY: the isolate whose turn runs here; V8 calls this outside of a collection's pause.
        unsafe { v8::Isolate::from_raw_ptr(isolate.cast()) }.get_heap_statistics().used_heap_size()
    };
    if heap >= current - current / 8 {
        memory.exceeded.store(true, Relaxed);
        turn::terminate_current();
    }
    current.saturating_add(STEP_BYTES).min(initial.saturating_add(UNWIND_BYTES)).max(current)
}

unsafe extern "C" fn before_collection(
    _isolate: v8::UnsafeRawIsolatePtr,
    _kind: v8::GCType,
    _flags: v8::GCCallbackFlags,
    _data: *mut c_void,
) {
    crate::stack::set_in_collection(true);
}

/// Compares heap and buffers together with the limit.
unsafe extern "C" fn after_collection(
    isolate: v8::UnsafeRawIsolatePtr,
    _kind: v8::GCType,
    _flags: v8::GCCallbackFlags,
    data: *mut c_void,
) {
    crate::stack::set_in_collection(false);
    // SAFETY: `install` passed a `Memory` that outlives the isolate.
    let memory = unsafe { &*data.cast::<Memory>() };
    // SAFETY: V8 passes the isolate that has just collected; it is used within the call only.
    let mut isolate = unsafe { v8::Isolate::from_raw_isolate_ptr(isolate) };
    let statistics = isolate.get_heap_statistics();
    let heap = statistics.used_heap_size();
    memory.usage.heap.store(heap, Relaxed);
    memory.collections.fetch_add(1, Relaxed);
    memory.set_pages(statistics.total_physical_size());
    if heap + memory.usage.buffers.load(Relaxed) > memory.limit {
        memory.exceeded.store(true, Relaxed);
        turn::terminate_current();
    }
}

/// V8 has collected garbage, of the young generation or all.
unsafe extern "C" fn collected(
    _isolate: v8::UnsafeRawIsolatePtr,
    _kind: v8::GCType,
    _flags: v8::GCCallbackFlags,
    data: *mut c_void,
) {
    // SAFETY: `install` passed a `Memory` that outlives the isolate.
    unsafe { &*data.cast::<Memory>() }.set_collected();
}

/// V8 can go no further with this isolate.
unsafe extern "C" fn out_of_memory(_location: *const std::ffi::c_char, _details: &v8::OomDetails) {
    crate::turn::abandon_current(crate::stack::Cause::Memory);
}
