//! Process start: ICU data, V8's flags and platform, the watchdog thread.
//!
//! *Owns:* the process-wide state of V8, made once and never ended. *Thread:* `init` on the main thread before any shard
//! thread starts, because memory protection keys are inherited at thread creation.

use std::sync::OnceLock;

use crate::{clock, watchdog::Watchdog};

/// V8's flags, and why each is set.
const FLAGS: &[&str] = &[
    // No helper thread touches a heap: garbage collection and compilation happen in the turn that causes them, on that
    // tenant's CPU account. Needed by the single-threaded platform.
    "--single-threaded",
    // Functions stay compiled in an idle isolate: compiling them again would be on the next request's time.
    "--no-flush-bytecode",
    // No compiler between the baseline and the best one. Without helper threads V8 does not leave Maglev's code in the middle of a
    // loop, and that code calls `Math.imul` and its like: twelve times slower, so that a request's second loop of 40 ms took 450.
    "--no-maglev",
    // As with the middle compiler: V8's 3,000 without it spends more on compiling than a Worker's first requests get back.
    "--invocation-count-for-turbofan=16000",
    // A loop that nothing can end: with unrolling, V8 takes the look for interrupts out of the next loop after a short one that has
    // none, such as an inlined `fill` of a constant length, and so out of the endless loop around it.
    "--no-turboshaft-loop-unrolling",
    // WebAssembly stays in the baseline compiler, whose time is linear in a function's length: the optimising one would need helper
    // threads, or minutes of the tenant's thread for one function. See docs/decisions/2026-11-22-webassembly.md.
    "--no-wasm-dynamic-tiering",
    // Compiled modules are not shared between isolates: a tenant's would be used, and kept, by others.
    "--no-wasm-native-module-cache",
    // A memory is at most an isolate's limit; its address space is reserved up to this, in pages of 64 KiB.
    "--wasm-max-mem-pages=2048",
];

/// The JavaScript engine of this process.
#[derive(Clone)]
pub struct Engine {
    pub(crate) shared: &'static Shared,
}

/// What every isolate of the process shares.
pub(crate) struct Shared {
    pub(crate) watchdog: Watchdog,
}

/// Why the engine cannot start. Fatal to the process that wanted one.
#[derive(Debug)]
pub enum EngineError {
    /// V8 refuses the ICU data that the binary carries.
    Icu(i32),
    /// V8 was linked without isolate groups: not the multi-cage build.
    NoIsolateGroups,
    /// V8's page allocator is not the one that counting and protection keys were written for.
    PageAllocator,
    /// The watchdog thread cannot be started.
    Watchdog(std::io::Error),
    /// The runtime's own JavaScript does not start.
    Runtime(String),
}

impl std::fmt::Display for EngineError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            EngineError::Icu(code) => write!(f, "ICU data refused (code {code})"),
            EngineError::NoIsolateGroups => write!(f, "this V8 is not the multi-cage build; run `cargo xtask v8`"),
            EngineError::Runtime(text) => write!(f, "the runtime does not start: {text}"),
            EngineError::PageAllocator => {
                write!(f, "this V8's page allocator is not the one that this program was written for")
            }
            EngineError::Watchdog(error) => write!(f, "watchdog thread: {error}"),
        }
    }
}

impl std::error::Error for EngineError {}

impl Engine {
    /// Starts the engine; a second call gives the same one.
    pub fn init() -> Result<Engine, EngineError> {
        static SHARED: OnceLock<Result<Shared, EngineError>> = OnceLock::new();
        match SHARED.get_or_init(start) {
            Ok(shared) => Ok(Engine { shared }),
            Err(EngineError::Icu(code)) => Err(EngineError::Icu(*code)),
            Err(EngineError::NoIsolateGroups) => Err(EngineError::NoIsolateGroups),
            Err(EngineError::Runtime(text)) => Err(EngineError::Runtime(text.clone())),
            Err(EngineError::PageAllocator) => Err(EngineError::PageAllocator),
            Err(EngineError::Watchdog(error)) => Err(EngineError::Watchdog(error.kind().into())),
        }
    }

    /// V8's version, for logs and metrics.
    pub fn version(&self) -> &'static str {
        v8::V8::get_version()
    }

    /// A number of V8's version and flags: compiled code is of use only where it is the same.
    pub fn code_tag(&self) -> u32 {
        v8::script_compiler::cached_data_version_tag()
    }

    /// Whether memory protection keys are in use, or why not.
    pub fn protection_keys(&self) -> pkey::Status {
        pkey::status()
    }

    /// Isolates whose heap was given up since the process started, because V8 could not go on with it. Their
    /// memory is returned to the system, their address space is not.
    pub fn isolates_abandoned(&self) -> u64 {
        crate::stack::abandoned()
    }
}

fn start() -> Result<Shared, EngineError> {
    clock::calibrate();
    v8::icu::set_common_data_77(deno_core_icudata::ICU_DATA).map_err(EngineError::Icu)?;
    crate::entropy::install();
    v8::V8::set_flags_from_string(&FLAGS.join(" "));
    // The protected platform: it takes a protection key for V8's code, where there are keys.
    pkey::init(|| v8::V8::initialize_platform(v8::new_single_threaded_default_platform(false).make_shared()));
    v8::V8::initialize();
    // SAFETY: the platform exists; `Engine::init` runs this once, before there is an isolate.
    if !unsafe { crate::pages::watch() } {
        return Err(EngineError::PageAllocator);
    }
    if !crate::group::can_create() {
        return Err(EngineError::NoIsolateGroups);
    }
    crate::stuck::install();
    Ok(Shared { watchdog: Watchdog::start().map_err(EngineError::Watchdog)? })
}
