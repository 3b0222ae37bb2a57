//! Whether a module is a Worker: what the control plane asks in a process of its own before a version becomes active.

use base::{
    limits::{CPU_STARTUP_NS, ISOLATE_HEAP_BYTES_MAX, S_NS},
    package::{Package, resolve},
};
use bytes::Bytes;
use isolate::{Blank, IsolateLimits, ModuleCode};

use crate::{
    Engine,
    event::Now,
    modules::Features,
    worker::{MODULE_NAME, StartError, Worker, WorkerSpec},
};

/// CPU time of compiling every function of a module, ns; a bundle of 100 KB takes 10 ms. Well below the time a validator has.
const COMPILE_AHEAD_NS: u64 = 2 * S_NS;

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
    let spec = WorkerSpec::new(module, Now { monotonic_ns: 0, unix_ms: 0 });
    let worker = Worker::start_within(engine, spec, None, startup_ns)?;
    Ok(Verdict { handlers: worker.handlers().to_vec(), startup_us: worker.startup_ns() / 1_000 })
}

/// Compiles every function of a module, in an isolate that has nothing else and runs none of it: V8's code cache, with which
/// a Worker starts without compiling anything. `None` if the module does not compile or needs too much for it.
pub fn compile_ahead(engine: &Engine, module: &[u8]) -> Option<Vec<u8>> {
    let package = Package::open(module).ok()?;
    let source = std::str::from_utf8(package.main).ok()?;
    let features = Features::of(&package).ok()?;
    let is_part = |specifier: &str| {
        let name = resolve(specifier.strip_suffix("?module").unwrap_or(specifier), "");
        name.is_some_and(|name| package.parts.iter().any(|part| part.name == name))
    };
    let limits = IsolateLimits { heap_bytes: ISOLATE_HEAP_BYTES_MAX };
    // Code refers to V8's read-only objects, which are the snapshot's: without it a node would refuse the code.
    let mut isolate = Blank::new(Some(engine.snapshot), limits)?.into_isolate(&engine.isolates, ())?;
    let compiled = isolate.turn(COMPILE_AHEAD_NS, |scope| {
        let module = scope.compile_module(MODULE_NAME, source, ModuleCode::Eager).ok()?;
        let wanted = scope.module_imports(&module);
        let links = wanted.iter().all(|specifier| features.has_builtin(specifier) || is_part(specifier));
        links.then(|| scope.code_cache(&module))?
    });
    compiled.value.flatten().filter(|_| compiled.ended.is_none())
}
