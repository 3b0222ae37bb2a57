//! [`Isolate`]: one tenant's JavaScript, in a cage of its own.
//!
//! *Owns:* V8's isolate, its group and its one context; the embedder's state `S`, which native functions reach through
//! [`Scope::state`]. *Does not:* decide what a limit means for a request.
//! *Invariants:* V8 is entered only in [`Isolate::turn`] (and when it is made and dropped), on a V8 stack of the thread; turns
//! do not nest, but a suspended one lets others run. After any end but [`Ended::Cpu`] the isolate never runs again.
//! *Thread:* the one that made it; the type is not `Send`. Only its [`Remains`] are.

use std::{
    any::{Any, TypeId},
    cell::{Cell, RefCell},
    marker::PhantomData,
    mem::ManuallyDrop,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    ptr,
    rc::Rc,
    sync::Arc,
};

use pkey::Domain;

use crate::{
    blank::{Blank, Parts},
    engine::Engine,
    group::Group,
    handle::Handles,
    imports::Import,
    memory::{Memory, MemoryGauge},
    remains::Remains,
    scope::Scope,
    snapshot::Snapshot,
    stack::{self, Cause, StackInfo},
    stuck, suspend,
    turn::{self, ThreadClock, TurnFrame},
};

/// A cage's size and alignment.
const CAGE_BYTES: usize = 4 << 30;

unsafe extern "C" {
    /// `void Isolate::SetStackLimit(uintptr_t)`.
    #[link_name = "_ZN2v87Isolate13SetStackLimitEm"]
    fn isolate_set_stack_limit(isolate: *mut std::ffi::c_void, limit: usize);
}

/// What an isolate may use.
#[derive(Clone, Copy, Debug)]
pub struct IsolateLimits {
    /// Heap and array buffers together, bytes.
    pub heap_bytes: usize,
}

/// Why a turn did not run to its end.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended {
    /// CPU time.
    Cpu,
    /// Heap and array buffers. The isolate should get no new work: its heap is full.
    Memory,
    /// V8 could not go on without more memory: the heap is given up, the isolate never runs again.
    Abandoned,
    /// CPU time, in a function of V8 that did not stop: the heap is given up, the isolate never runs again.
    Stuck,
    /// A native function panicked, with this message. The isolate never runs again.
    Panic(String),
}

/// What came of a turn.
pub struct Turn<R> {
    /// What the job gave; `None` after [`Ended::Abandoned`] and [`Ended::Stuck`], and where it did not begin.
    pub value: Option<R>,
    /// CPU time used, ns. An upper bound: preemption within the first millisecond counts.
    pub cpu_ns: u64,
    /// The most CPU time that it used after it was asked to be suspended, ns: how long its thread could do nothing else.
    pub held_ns: u64,
    /// The limit that ended it, if one did.
    pub ended: Option<Ended>,
}

/// Memory in use, bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct HeapUse {
    /// Used heap now, garbage included.
    pub heap: usize,
    /// Heap committed by the system.
    pub committed: usize,
    /// Live array buffers.
    pub buffers: usize,
}

/// One tenant's JavaScript with state `S` for its native functions.
pub struct Isolate<S: 'static> {
    v8: ManuallyDrop<v8::OwnedIsolate>,
    context: ManuallyDrop<v8::Global<v8::Context>>,
    /// Boxed: the watchdog holds its address during a turn.
    handle: Box<v8::IsolateHandle>,
    /// Boxed: V8 holds its address in a data slot. Owned; a raw pointer because native functions read it during turns.
    inner: *mut Inner,
    state: *mut S,
    memory: Arc<Memory>,
    group: ManuallyDrop<Group>,
    /// What it was made from.
    snapshot: Option<&'static Snapshot>,
    /// Bytes of V8's read-only heap that it uses together with the others of its snapshot; `None` before this was tried.
    shared: Option<usize>,
    thread: Rc<ThreadClock>,
    /// Which stack V8's stack limit was set for.
    stack_number: u64,
    cage: usize,
    usable: bool,
    not_send: PhantomData<*mut ()>,
}

/// What native functions find through the isolate.
pub(crate) struct Inner {
    /// The boxed state, of type `state_type`.
    pub(crate) state: *mut (),
    pub(crate) state_type: TypeId,
    pub(crate) memory: Arc<Memory>,
    pub(crate) dom_exception: RefCell<Option<v8::Global<v8::Function>>>,
    pub(crate) rejections: RefCell<Vec<v8::Global<v8::Promise>>>,
    /// Some promise was given as rejected without a handler.
    pub(crate) unhandled: Cell<bool>,
    /// Promises that got a handler since.
    pub(crate) handled: RefCell<Vec<v8::Global<v8::Promise>>>,
    /// Rejections that there was no room for.
    pub(crate) rejections_dropped: Cell<u64>,
    /// What tasks of V8's threw.
    pub(crate) thrown: RefCell<Vec<v8::Global<v8::Value>>>,
    /// Boxed values that JavaScript holds, see `handle`.
    pub(crate) handles: Handles,
    pub(crate) handle_template: RefCell<Option<v8::Global<v8::ObjectTemplate>>>,
    /// Modules that the tenant's module imports.
    pub(crate) imports: RefCell<Vec<Import>>,
    panic: RefCell<Option<String>>,
}

impl Inner {
    pub(crate) fn new(state_type: TypeId, state: *mut (), memory: &Arc<Memory>) -> Inner {
        Inner {
            state,
            state_type,
            memory: Arc::clone(memory),
            dom_exception: RefCell::new(None),
            rejections: RefCell::new(Vec::new()),
            unhandled: Cell::new(false),
            handled: RefCell::new(Vec::new()),
            rejections_dropped: Cell::new(0),
            thrown: RefCell::new(Vec::new()),
            handles: Handles::default(),
            handle_template: RefCell::new(None),
            imports: RefCell::new(Vec::new()),
            panic: RefCell::new(None),
        }
    }

    /// Remembers that a native function panicked.
    #[cold]
    pub(crate) fn set_panic(&self, panic: &(dyn Any + Send)) {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        self.panic.replace(Some(text.unwrap_or_else(|| "panic".to_owned())));
    }
}

impl<S: 'static> Isolate<S> {
    /// Makes an isolate with an empty context. `None` where V8 could not (out of memory).
    pub fn new(engine: &Engine, limits: IsolateLimits, state: S) -> Option<Isolate<S>> {
        Blank::new(None, limits)?.into_isolate(engine, state)
    }

    /// Gives an isolate its context and its state. The snapshot's context, if it was made from one; else an empty one.
    pub(crate) fn of_blank(blank: Blank, state: S, thread: Rc<ThreadClock>, info: StackInfo) -> Isolate<S> {
        let Parts { mut v8, memory, group, snapshot } = blank.into_parts();
        let rights = memory.domain.enter();
        let state = Box::into_raw(Box::new(state));
        let inner = Box::into_raw(Box::new(Inner::new(TypeId::of::<S>(), state.cast(), &memory)));
        v8.set_data(0, inner.cast());
        // SAFETY: on the thread that made it; left below.
        unsafe { v8.enter() };
        // SAFETY: a live isolate, entered on this thread; the limit lies within the stack in use.
        unsafe { set_stack_limit(&v8, info) };
        let (context, cage) = {
            v8::scope!(let scope, &mut v8);
            let context = v8::Context::new(scope, v8::ContextOptions::default());
            context.set_allow_generation_from_strings(false);
            // A handle's slot holds the object's full address; the cage is the 4 GiB around it.
            let slot: *const v8::Context = &*context;
            // SAFETY: `slot` is a live handle's slot.
            let address = unsafe { *slot.cast::<usize>() };
            (v8::Global::new(scope, context), address & !(CAGE_BYTES - 1))
        };
        let handle = Box::new(v8.thread_safe_handle());
        // SAFETY: entered above.
        unsafe { v8.exit() };
        Domain::leave(rights);
        Isolate {
            v8: ManuallyDrop::new(v8),
            context: ManuallyDrop::new(context),
            handle,
            inner,
            state,
            memory,
            group: ManuallyDrop::new(group),
            snapshot,
            shared: None,
            thread,
            stack_number: info.number,
            cage,
            usable: true,
            not_send: PhantomData,
        }
    }

    /// Runs `job` with JavaScript at hand, for at most about `budget_ns` of CPU time.
    ///
    /// Where a limit ends it, JavaScript stops at once and `job` sees [`CallError::Ended`](crate::CallError::Ended); it
    /// must then return. An isolate that is not [`usable`](Isolate::usable) runs nothing and gives [`Ended::Abandoned`]; nor does
    /// `job` begin where there is no time for it, or in a call that is being brought to an end: [`Ended::Cpu`].
    pub fn turn<R>(&mut self, budget_ns: u64, job: impl FnOnce(&mut Scope<'_, '_>) -> R) -> Turn<R> {
        if !self.usable {
            return Turn { value: None, cpu_ns: 0, held_ns: 0, ended: Some(Ended::Abandoned) };
        }
        if budget_ns == 0 || suspend::cancelled() {
            return Turn { value: None, cpu_ns: 0, held_ns: 0, ended: Some(Ended::Cpu) };
        }
        let thread = Rc::clone(&self.thread);
        let frame = TurnFrame::new(&thread, &self.handle, self.raw(), budget_ns);
        let done = stack::run(|info| self.turn_on_stack(info, &frame, job));
        let (cpu_ns, held_ns) = frame.end();
        match done {
            Err(cause) => {
                self.give_up(cause);
                let ended = match cause {
                    Cause::Memory => Ended::Abandoned,
                    Cause::Stuck => Ended::Stuck,
                };
                Turn { value: None, cpu_ns, held_ns, ended: Some(ended) }
            }
            Ok((Err(panic), _)) => {
                self.usable = false;
                resume_unwind(panic)
            }
            Ok((Ok(value), ended)) => Turn { value: Some(value), cpu_ns, held_ns, ended },
        }
    }

    fn turn_on_stack<R>(
        &mut self,
        info: StackInfo,
        frame: &TurnFrame<'_>,
        job: impl FnOnce(&mut Scope<'_, '_>) -> R,
    ) -> (Result<R, Box<dyn Any + Send>>, Option<Ended>) {
        let rights = self.memory.domain.enter();
        // SAFETY: left below, by `abandon_current` or by `on_interrupt`, which enters it again; turns do not nest, so no
        // other isolate is entered in between.
        unsafe { self.v8.enter() };
        if info.number != self.stack_number {
            // SAFETY: a live isolate, entered on this thread; the limit lies within the stack in use.
            unsafe { set_stack_limit(&self.v8, info) };
            self.stack_number = info.number;
        }
        frame.enter();
        let value = {
            v8::scope!(let scope, &mut **self.v8);
            let context = v8::Local::new(scope, &*self.context);
            let scope = &mut v8::ContextScope::new(scope, context);
            catch_unwind(AssertUnwindSafe(|| job(Scope::wrap(scope))))
        };
        let told = frame.leave();
        let ended = self.how_it_ended(told);
        // SAFETY: entered above, on this thread.
        unsafe { self.v8.exit() };
        Domain::leave(rights);
        (value, ended)
    }

    #[inline]
    fn how_it_ended(&mut self, told: bool) -> Option<Ended> {
        let panicked = self.inner().panic.borrow().is_some();
        if !told && !panicked && !self.memory.exceeded() {
            return None;
        }
        self.v8.cancel_terminate_execution();
        if let Some(text) = self.inner().panic.take() {
            self.usable = false;
            return Some(Ended::Panic(text));
        }
        if self.memory.exceeded() {
            self.usable = false;
            return Some(Ended::Memory);
        }
        Some(Ended::Cpu)
    }

    /// V8 left its stack: what it owned is never touched again, and its pages go back to the system.
    #[cold]
    fn give_up(&mut self, cause: Cause) {
        let account = format_args!("{:032x}", self.memory.domain.account());
        match cause {
            Cause::Memory => tracing::warn!(%account, "an isolate is given up: V8 could not go on without more memory"),
            Cause::Stuck => {
                let place = format_args!("{:#x}", stuck::last_place());
                tracing::warn!(%account, %place, "an isolate is given up: a function of V8 did not end");
            }
        }
        self.usable = false;
        self.thread.watched.leave();
        turn::clear_current();
        // SAFETY: the cage is reserved for this isolate's group alone, which is never released (see `drop`) and in
        // which nothing runs again.
        unsafe { libc::madvise(ptr::without_provenance_mut(self.cage), CAGE_BYTES, libc::MADV_DONTNEED) };
        self.memory.discard();
        self.cage = 0;
    }

    fn inner(&self) -> &Inner {
        // SAFETY: made in `make`, freed in `drop`.
        unsafe { &*self.inner }
    }

    fn raw(&self) -> *mut std::ffi::c_void {
        raw_of(&self.v8)
    }

    /// Whether it can run.
    pub fn usable(&self) -> bool {
        self.usable
    }

    /// The state, between turns.
    pub fn state(&self) -> &S {
        // SAFETY: owned by this isolate; native functions reach it only during a turn, which borrows `self` mutably.
        unsafe { &*self.state }
    }

    /// The state, between turns.
    pub fn state_mut(&mut self) -> &mut S {
        // SAFETY: as in `state`.
        unsafe { &mut *self.state }
    }

    /// Live bytes of heap and buffers, as of the last full collection; cheap.
    pub fn memory_bytes(&self) -> usize {
        self.memory.bytes()
    }

    /// Memory in use now. Walks V8's spaces: microseconds.
    pub fn heap_use(&mut self) -> HeapUse {
        if !self.usable {
            return HeapUse::default();
        }
        let v8 = &mut self.v8;
        let statistics = self.memory.domain.within(|| v8.get_heap_statistics());
        let committed = statistics.total_physical_size();
        self.memory.set_pages(committed);
        HeapUse { heap: statistics.used_heap_size(), committed, buffers: self.memory.buffer_bytes() }
    }

    /// A look at its memory for other threads, and for while a turn of it is suspended.
    pub fn memory_gauge(&self) -> MemoryGauge {
        MemoryGauge::new(&self.memory, (*self.handle).clone())
    }

    /// Full collections so far.
    pub fn collections(&self) -> usize {
        self.memory.collections()
    }

    /// Whether V8 has more to do of a collection that was started when there had been `since` of them: [`Scope::run_tasks`] does it.
    pub fn collecting(&self, since: usize) -> bool {
        self.usable && self.memory.collections() == since && self.memory.collected()
    }

    /// Gives its pages of V8's read-only heap back to the system and uses those that all isolates of its snapshot share: a fraction
    /// of a millisecond, once: V8 never writes to them. Its next look at each is a page fault. How many bytes are shared; 0 for an
    /// isolate without a snapshot.
    pub fn share_read_only(&mut self) -> usize {
        let Some(snapshot) = self.snapshot.filter(|_| self.usable) else { return 0 };
        let domain = &self.memory.domain;
        *self.shared.get_or_insert_with(|| {
            let shared = domain.within(|| snapshot.share_read_only(self.cage, domain));
            shared.inspect_err(|error| tracing::warn!(%error, "an isolate keeps its own read-only heap")).unwrap_or(0)
        })
    }

    /// Makes it a tenant's: its memory gets the tenant's protection key on this thread, where there are keys. Before the
    /// tenant's first turn, and never for another tenant after. An error: its pages cannot be tagged, and it never runs.
    pub fn assign_key(&mut self, account: u128) -> std::io::Result<()> {
        let done = self.memory.domain.claim(account);
        self.usable &= done.is_ok();
        done
    }

    /// Drops the state, and gives what is left for any thread to dispose of; nothing of an isolate that was given up.
    pub fn into_remains(mut self) -> Option<Remains> {
        self.dismantle()
    }

    /// Takes V8's part out, once. What JavaScript held of ours is dropped here, on the isolate's thread.
    fn dismantle(&mut self) -> Option<Remains> {
        if std::mem::replace(&mut self.cage, 0) == 0 {
            return None;
        }
        self.usable = false;
        self.memory.domain.within(|| {
            self.v8.set_data(0, ptr::null_mut());
            // SAFETY: made in `of_blank`, taken once: the cage says so. No native function runs any more.
            let inner = unsafe { Box::from_raw(self.inner) };
            for boxed in inner.handles.take() {
                // SAFETY: a handle's box; its finalizer finds it gone from the list.
                drop(unsafe { Box::from_raw(boxed) });
            }
            drop(inner);
            // SAFETY: dropped once, as above.
            unsafe { ManuallyDrop::drop(&mut self.context) };
        });
        // SAFETY: each is taken once, as above.
        let (v8, group) = unsafe { (ManuallyDrop::take(&mut self.v8), ManuallyDrop::take(&mut self.group)) };
        Some(Remains::new(v8, group, Arc::clone(&self.memory)))
    }

    /// Whether V8 could not go on with it, so that what malloc had given it is never free again.
    pub fn given_up(&self) -> bool {
        self.cage == 0
    }

    /// The protection key of its memory; key 0 where there are no keys.
    pub fn key(&self) -> pkey::Key {
        self.memory.domain.key()
    }

    /// First address of the 4 GiB cage that the isolate's heap lies in; 0 once it was given up.
    pub fn cage(&self) -> usize {
        self.cage
    }
}

impl<S: 'static> Drop for Isolate<S> {
    fn drop(&mut self) {
        drop(self.dismantle());
        // SAFETY: made in `of_blank`; native functions are gone with the isolate, or never called again. A given-up isolate's
        // frames are never resumed, so a reference to the state that one of them holds is never used.
        drop(unsafe { Box::from_raw(self.state) });
    }
}

/// Tells V8 how far down it may use a stack.
///
/// # Safety
/// The isolate is entered on this thread, and the limit lies within the stack in use.
pub(crate) unsafe fn set_stack_limit(v8: &v8::Isolate, info: StackInfo) {
    // SAFETY: the caller's promise, of a live isolate.
    unsafe { isolate_set_stack_limit(raw_of(v8), info.js_limit) };
}

fn raw_of(v8: &v8::Isolate) -> *mut std::ffi::c_void {
    // SAFETY: `UnsafeRawIsolatePtr` is a transparent wrapper of the pointer; it is used while the isolate lives.
    unsafe { std::mem::transmute::<v8::UnsafeRawIsolatePtr, *mut std::ffi::c_void>(v8.as_raw_isolate_ptr()) }
}

/// At most this many rejections are looked at after a turn.
const REJECTIONS_MAX: usize = 256;
/// Tasks of V8's that run after one turn; the others after the next.
pub(crate) const TASKS_MAX: usize = 16;

pub(crate) unsafe extern "C" fn promise_rejected(message: v8::PromiseRejectMessage<'_>) {
    let added = match message.get_event() {
        v8::PromiseRejectEvent::PromiseRejectWithNoHandler => false,
        v8::PromiseRejectEvent::PromiseHandlerAddedAfterReject => true,
        _ => return,
    };
    v8::callback_scope!(unsafe scope, &message);
    let promise = message.get_promise();
    let scope: &mut v8::PinScope<'_, '_> = scope;
    if added && !Scope::wrap(scope).inner().unhandled.get() {
        return;
    }
    let promise = v8::Global::new(scope, promise);
    let inner = Scope::wrap(scope).inner();
    let mut rejections = inner.rejections.borrow_mut();
    if added {
        let mut handled = inner.handled.borrow_mut();
        if handled.len() < REJECTIONS_MAX && !rejections.contains(&promise) {
            handled.push(promise);
        }
    } else if rejections.len() < REJECTIONS_MAX {
        rejections.push(promise);
    } else {
        inner.rejections_dropped.set(inner.rejections_dropped.get() + 1);
    }
}

/// What was thrown where nobody could catch it: by a task that V8 runs by itself.
pub(crate) unsafe extern "C" fn thrown_by_task(message: v8::Local<'_, v8::Message>, error: v8::Local<'_, v8::Value>) {
    v8::callback_scope!(unsafe scope, message);
    let scope: &mut v8::PinScope<'_, '_> = scope;
    let error = v8::Global::new(scope, error);
    let mut thrown = Scope::wrap(scope).inner().thrown.borrow_mut();
    if thrown.len() < TASKS_MAX {
        thrown.push(error);
    }
}
