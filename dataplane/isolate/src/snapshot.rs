//! The start-up snapshot: a context in which the runtime's files have run, as bytes that every new isolate is made from.
//!
//! Made once, in memory, when the process starts, and never stored: it is of this V8 and of this program by construction,
//! and cannot be stale, cut short or changed on a disk. See docs/decisions/2026-11-21-start-up-snapshot.md.
//!
//! *Owns:* the bytes, and the list of addresses in this process that they refer to by number.
//! *Invariant:* what the runtime's files made is in it; nothing of a request, of a tenant or of a clock can be, because
//! none exists when it is made.
//! *Thread:* made on the main thread, in V8's default group; read by all.

use std::{any::TypeId, borrow::Cow, io, sync::OnceLock};

use pkey::Domain;

use crate::{
    engine::Engine,
    entropy,
    isolate::Inner,
    memory::Memory,
    op::OpTable,
    read_only::ReadOnly,
    scope::Scope,
    script::{ScriptError, Source},
    stack,
    value::Value,
};

/// Heap and array buffers while the snapshot is made, bytes.
const MAKING_BYTES_MAX: usize = 64 << 20;

/// Where the blob has the checksum of its read-only part (`snapshot/snapshot.cc`, "Snapshot blob layout").
const CODE_BASE_AT: usize = 12;

/// A context that new isolates begin with.
pub struct Snapshot {
    blob: v8::StartupData,
    references: Box<[v8::ExternalReference]>,
    /// What its isolates share; none where it could not be copied.
    read_only: OnceLock<Option<ReadOnly>>,
}

// SAFETY: the addresses are of functions and statics of this process, which never change; nothing else is shared.
unsafe impl Send for Snapshot {}
// SAFETY: as above.
unsafe impl Sync for Snapshot {}

impl Snapshot {
    /// Makes a snapshot of what `run` leaves behind. The value that it gives is there again in each new isolate, see
    /// [`Scope::take_kept`]. `ops` and `sources` are all native functions and external texts that the heap then has.
    pub fn make(
        _engine: &Engine,
        ops: &OpTable,
        sources: impl Iterator<Item = &'static Source>,
        run: impl for<'s> FnOnce(&mut Scope<'s, '_>) -> Result<Value<'s>, ScriptError>,
    ) -> Result<Snapshot, ScriptError> {
        let functions = ops.callbacks().map(|function| v8::ExternalReference { function });
        let texts = sources.map(|source| v8::ExternalReference { pointer: source.address() });
        let end = v8::ExternalReference { pointer: std::ptr::null_mut() };
        let references: Box<[_]> = functions.chain(texts).chain([end]).collect();
        let job = |_| {
            let memory = Memory::of_host(MAKING_BYTES_MAX);
            let params = v8::CreateParams::default().array_buffer_allocator(memory.allocator());
            let mut v8 = v8::Isolate::snapshot_creator(Some(Cow::from(references.to_vec())), Some(params));
            let inner = Inner::new(TypeId::of::<()>(), std::ptr::null_mut(), &memory);
            v8.set_data(0, (&raw const inner).cast_mut().cast());
            let done = {
                v8::scope!(let scope, &mut v8);
                let context = v8::Context::new(scope, v8::ContextOptions::default());
                let scope = &mut v8::ContextScope::new(scope, context);
                let done = run(Scope::wrap(scope));
                if let Ok(kept) = &done {
                    scope.add_context_data(context, kept.0);
                }
                scope.set_default_context(context);
                done.map(|_| ())
            };
            // V8 refuses to write a heap that somebody outside holds on to.
            drop(inner);
            (done, v8.create_blob(v8::FunctionCodeHandling::Keep))
        };
        let made = entropy::fixed(|| stack::run(job));
        let refused = |what: &str| ScriptError { message: format!("no start-up snapshot: {what}") };
        let (done, blob) = made.map_err(|_| refused("out of memory"))?;
        done?;
        let blob = blob.ok_or_else(|| refused("V8 gives none"))?;
        Ok(Snapshot { blob, references, read_only: OnceLock::new() })
    }

    /// Checksum of its read-only part, which compiled code refers to by place: V8 refuses code made over another one.
    pub fn code_base(&self) -> u32 {
        let bytes = self.blob.get(CODE_BASE_AT..CODE_BASE_AT + 4).and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, u32::from_le_bytes)
    }

    /// Its size, bytes.
    pub fn len(&self) -> usize {
        self.blob.len()
    }

    /// Never true.
    pub fn is_empty(&self) -> bool {
        self.blob.is_empty()
    }

    /// Lets an isolate that was made from it share V8's read-only heap with the others, see [`ReadOnly`]. The thread is in the
    /// isolate's domain. How many bytes.
    pub(crate) fn share_read_only(&self, cage: usize, domain: &Domain) -> io::Result<usize> {
        let copy = || {
            let copied = ReadOnly::copy(cage);
            copied.inspect_err(|error| tracing::warn!(%error, "isolates do not share their read-only heap")).ok()
        };
        self.read_only.get_or_init(copy).as_ref().map_or(Ok(0), |shared| shared.share(cage, domain))
    }

    /// Tells V8 to make the isolate from it.
    pub(crate) fn apply(&'static self, params: v8::CreateParams) -> v8::CreateParams {
        let blob: &'static [u8] = &self.blob;
        params.snapshot_blob(blob.into()).external_references(Cow::Borrowed(&self.references))
    }
}

impl<'s> Scope<'s, '_> {
    /// The value that the snapshot's making gave; once per isolate.
    pub fn take_kept(&mut self) -> Option<Value<'s>> {
        self.0.get_context_data_from_snapshot_once::<v8::Value>(0).ok().map(Value)
    }
}
