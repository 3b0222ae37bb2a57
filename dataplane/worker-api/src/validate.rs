//! Whether a module is a Worker: what the control plane asks in a process of its own before a version becomes active.

use base::{
    id::AccountId,
    limits::{CPU_PER_REQUEST_NS, CPU_STARTUP_NS, ISOLATE_HEAP_BYTES_MAX},
};
use bytes::Bytes;

use crate::{
    Engine,
    event::Now,
    worker::{StartError, Worker, WorkerSpec},
};

/// A module that is a Worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Names of its handlers, `fetch` among them.
    pub handlers: Vec<String>,
    /// CPU time of compiling and evaluating it, µs.
    pub startup_us: u64,
}

/// Compiles and evaluates a module under the limits of a start.
pub fn validate(engine: &Engine, module: Bytes) -> Result<Verdict, StartError> {
    validate_within(engine, module, CPU_STARTUP_NS)
}

/// The same with another limit for the CPU time of its top level, ns.
pub fn validate_within(engine: &Engine, module: Bytes, startup_ns: u64) -> Result<Verdict, StartError> {
    let spec = WorkerSpec {
        module,
        module_name: "worker.js".to_owned(),
        env: Vec::new(),
        cpu_ns: CPU_PER_REQUEST_NS,
        heap_bytes: ISOLATE_HEAP_BYTES_MAX,
        now: Now { monotonic_ns: 0, unix_ms: 0 },
        account: AccountId::default(),
    };
    let worker = Worker::start_within(engine, spec, startup_ns)?;
    Ok(Verdict { handlers: worker.handlers().to_vec(), startup_us: worker.startup_ns() / 1_000 })
}
