//! Workers: the Web APIs as JavaScript sees them, and a Worker as its shard sees it.
//!
//! *Owns:* [`Worker`], a sans-IO machine that takes [`Event`]s and gives [`Effect`]s; the JavaScript runtime under `js/`;
//! what limits and failures mean for requests; [`validate`]. *Does not:* do input or output, read a clock, name V8, know
//! HTTP framing, routes or connections.
//! *Invariants:* the grammar of [`event`]; after each call of `handle` no JavaScript is left to run; nothing of an exception
//! reaches a client.
//! *Bounds:* `base::limits`, section "Workers". *Fails:* with a [`Failure`] per request, never by a panic for a tenant's doing.
//! *Thread:* a [`Worker`] stays on its shard's thread; [`Engine`] is shared by all.

#![forbid(unsafe_code)]

mod core_ops;
pub mod event;
mod invoke;
mod limits;
mod modules;
mod ops;
mod passing;
mod requests;
mod runtime;
mod sockets;
mod spares;
mod state;
mod timers;
mod validate;
mod worker;

pub use event::{
    BodyEvent, BodySource, Callee, Collecting, Effect, Event, Failure, FetchId, Held, IncomingBody, Invocation,
    LogLevel, LogRecord, MonotonicNs, Now, OutgoingBody, Passed, RequestHead, RequestId, SocketEnd, SocketId,
    SocketMessage,
};
pub use isolate::{
    EngineError, MemoryGauge, Progress, Remains, Suspendable, Ticks, set_nice, shorten_slice, shrink_stacks,
    thread_cpu_ns, ticks, ticks_to_ns, usual_slice,
};
pub use limits::RequestLimits;
pub use spares::{Spare, Spares};
pub use validate::{Verdict, compile_ahead, validate, validate_within};
pub use worker::{CodeOrigin, StartError, Worker, WorkerSpec};

/// The JavaScript engine of this process. `init` on the main thread, before any shard thread starts.
#[derive(Clone)]
pub struct Engine {
    pub(crate) isolates: isolate::Engine,
    pub(crate) snapshot: &'static isolate::Snapshot,
    /// See [`Engine::at`].
    pub(crate) place: &'static str,
}

/// What `request.cf` is unless the node was told more: seed 000's fields, with Cloudflare's code for a country that is not known.
const PLACE: &str =
    r#"{"colo":"LOCAL","country":"XX","city":"","asn":0,"httpProtocol":"HTTP/1.1","tlsVersion":"","tlsCipher":""}"#;

impl Engine {
    /// Starts the engine; a second call gives the same one.
    pub fn init() -> Result<Engine, EngineError> {
        let isolates = isolate::Engine::init()?;
        let snapshot = runtime::snapshot(&isolates).map_err(|error| EngineError::Runtime(error.message.clone()))?;
        Ok(Engine { isolates, snapshot, place: PLACE })
    }

    /// The engine of a node at this place: `place` is the JSON object that requests have as `cf`. Kept for as long as the process lives: call
    /// it once.
    pub fn at(self, place: String) -> Engine {
        Engine { place: place.leak(), ..self }
    }

    /// What requests have as `cf` unless [`Engine::at`] says more, JSON.
    pub fn default_place() -> &'static str {
        PLACE
    }

    /// Checksum of what compiled code may refer to. The same in every process of this program: code compiled by one is of
    /// use to another.
    pub fn code_base(&self) -> u32 {
        self.snapshot.code_base()
    }

    /// V8's version, for logs and metrics.
    pub fn version(&self) -> &'static str {
        self.isolates.version()
    }

    /// A number of V8's version and flags: compiled code is of use only where it is the same.
    pub fn code_tag(&self) -> u32 {
        self.isolates.code_tag()
    }

    /// Isolates given up since the process started, because V8 could not go on with them. Their memory went back to the
    /// system; each costs 4 GiB of address space until the process ends.
    pub fn isolates_abandoned(&self) -> u64 {
        self.isolates.isolates_abandoned()
    }
}
