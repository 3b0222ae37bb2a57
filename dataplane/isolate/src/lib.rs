//! The only crate that names V8: process start, isolates in cages of their own, limits, and safe words for what
//! `worker-api` needs of JavaScript.
//!
//! *Owns:* the one [`Engine`] of a process; [`Isolate`]s, each in an isolate group (a 4 GiB cage) of its own; the stack
//! they run on, where a turn can be suspended and resumed ([`Suspendable`]); the watchdog thread that ends what computes too long; accounting of heap and array buffers.
//! *Does not:* know what a request is, do input or output, or show a type of V8.
//! *Invariants:* JavaScript runs only inside [`Isolate::turn`], on a stack of its own, so that V8's fatal "out of memory"
//! ends one isolate and not the process. A panic never crosses a frame of V8. A handle never outlives its turn.
//! *Bounds:* CPU time of a turn, heap and buffers of an isolate, depth of recursion.
//! *Fails:* with [`Ended`] for a turn that hit a limit; the isolate says through [`Isolate::usable`] whether it can run again.
//! *Thread:* an isolate stays on the thread that made it.

mod arena;
mod blank;
mod clock;
mod engine;
mod entropy;
mod fiber;
mod group;
mod handle;
mod imports;
mod isolate;
mod kind;
mod memory;
mod module;
mod op;
mod pages;
mod place;
mod process_lock;
mod read_only;
mod remains;
mod scope;
mod script;
mod snapshot;
mod stack;
mod stuck;
mod suspend;
mod text;
mod turn;
mod value;
mod wasm;
mod watchdog;

pub use blank::Blank;
pub use clock::{Ticks, thread_cpu_ns, ticks, ticks_to_ns};
pub use engine::{Engine, EngineError};
pub use fiber::{Fiber, Port};
pub use imports::Target;
pub use isolate::{Ended, HeapUse, Isolate, IsolateLimits, Turn};
pub use kind::Kind;
pub use memory::{CountedBytes, MemoryGauge};
pub use module::{ModuleCode, ModuleError, ModuleState};
pub use op::{Args, Op, OpError, OpResult, OpTable};
pub use place::{set_nice, shorten_slice, usual_slice};
pub use remains::Remains;
pub use scope::{CallError, Scope};
pub use script::{Compile, ScriptError, Source};
pub use snapshot::Snapshot;
pub use stack::shrink_stacks;
pub use suspend::{Progress, Suspendable, let_others_run};
pub use value::{Global, PromiseState, Value};
