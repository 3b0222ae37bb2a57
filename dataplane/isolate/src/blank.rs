//! [`Blank`]: an isolate in a group of its own, without a context and without a tenant.
//!
//! *Owns:* how an isolate comes to be. Group and isolate are one step, the context another, so that isolates can be made
//! ahead of need in slices of about a millisecond.
//! *Invariant:* no JavaScript runs in it before [`Blank::into_isolate`].

use std::{mem::ManuallyDrop, ptr, sync::Arc};

use pkey::Domain;

use crate::{
    engine::Engine,
    group::Group,
    isolate::{Isolate, IsolateLimits, promise_rejected, thrown_by_task},
    memory::{self, Memory},
    remains::Remains,
    snapshot::Snapshot,
    stack::{self, StackInfo},
    turn::ThreadClock,
};

/// V8's young generation, bytes: three semi-spaces of this third. Small, because most isolates idle.
const YOUNG_BYTES_MAX: usize = 12 << 20;

/// By how much V8's own limit is above the isolate's, bytes. A heap that is over its limit after a collection is ended by `memory`;
/// one that comes close to V8's is collected up to seven times in a row first, each time for a tenth of a second that nothing can
/// interrupt.
const HEADROOM_BYTES: usize = 32 << 20;

/// What an isolate is made of.
pub(crate) struct Parts {
    pub(crate) v8: v8::OwnedIsolate,
    pub(crate) memory: Arc<Memory>,
    pub(crate) group: Group,
    pub(crate) snapshot: Option<&'static Snapshot>,
}

/// An isolate without a context. Stays on its thread.
pub struct Blank(ManuallyDrop<Parts>);

impl Blank {
    /// Makes a group and its isolate. `None` where V8 could not (out of memory).
    pub fn new(snapshot: Option<&'static Snapshot>, limits: IsolateLimits) -> Option<Blank> {
        stack::run(|info| Blank::make(snapshot, limits, info)).ok()
    }

    fn make(snapshot: Option<&'static Snapshot>, limits: IsolateLimits, info: StackInfo) -> Blank {
        let memory = Memory::new(limits.heap_bytes);
        let rights = memory.domain.enter();
        let young = YOUNG_BYTES_MAX.min(limits.heap_bytes / 2);
        let params = v8::CreateParams::default()
            .set_max_young_generation_size_in_bytes(young)
            .set_max_old_generation_size_in_bytes(limits.heap_bytes - young + HEADROOM_BYTES)
            .array_buffer_allocator(memory.allocator())
            .allow_atomics_wait(false);
        // SAFETY: the limit is within the stack on which the isolate is entered; each turn renews it for another stack.
        let params = unsafe { params.set_stack_limit(ptr::without_provenance_mut(info.js_limit)) };
        let params = match snapshot {
            Some(snapshot) => snapshot.apply(params),
            None => params,
        };
        let group = Group::create();
        let mut v8 = group.within(|| v8::Isolate::new(params));
        memory::install(&mut v8, &memory);
        v8.set_microtasks_policy(v8::MicrotasksPolicy::Explicit);
        v8.set_promise_reject_callback(promise_rejected);
        v8.add_message_listener(thrown_by_task);
        v8.set_allow_wasm_code_generation_callback(crate::wasm::may_compile);
        // SAFETY: `v8::Isolate::new` entered it on this thread.
        unsafe { v8.exit() };
        Domain::leave(rights);
        Blank(ManuallyDrop::new(Parts { v8, memory, group, snapshot }))
    }

    /// Makes the context. `None` where V8 could not (out of memory).
    pub fn into_isolate<S: 'static>(self, engine: &Engine, state: S) -> Option<Isolate<S>> {
        let thread = ThreadClock::of_this_thread(engine);
        stack::run(|info| Isolate::of_blank(self, state, thread, info)).ok()
    }

    pub(crate) fn into_parts(self) -> Parts {
        let mut this = ManuallyDrop::new(self);
        // SAFETY: taken once: `this` is never dropped.
        unsafe { ManuallyDrop::take(&mut this.0) }
    }
}

impl Drop for Blank {
    fn drop(&mut self) {
        // SAFETY: taken once, here.
        let Parts { v8, memory, group, snapshot: _ } = unsafe { ManuallyDrop::take(&mut self.0) };
        drop(Remains::new(v8, group, memory));
    }
}
