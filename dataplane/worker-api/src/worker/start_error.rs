//! Why a Worker does not start.

use base::limits::MODULE_BYTES_MAX;

/// Why a module is no Worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartError {
    /// It does not compile.
    Syntax {
        /// V8's message.
        message: String,
        /// Line, from 1.
        line: u32,
        /// Column, from 1.
        column: u32,
    },
    /// Its default export has no handler, and it has no entrypoint.
    NoFetch,
    /// Its source is not UTF-8.
    NotUtf8,
    /// A module beside the main one is not what it should be.
    Part {
        /// Its name.
        name: String,
        /// What is wrong with it.
        message: String,
    },
    /// It asks for a behaviour that this program does not have.
    Feature(String),
    /// It is neither a module nor a package of modules.
    Broken,
    /// Its source is larger than `limits::MODULE_BYTES_MAX`.
    TooLarge,
    /// Its top level threw, or waits for ever.
    Startup {
        /// The error.
        message: String,
        /// Its stack; may be empty.
        stack: String,
        /// Line and column, from 1, of where it was thrown, if known.
        place: Option<(u32, u32)>,
    },
    /// Its top level used too much CPU time.
    CpuLimit,
    /// Its top level used too much memory.
    MemoryLimit,
    /// Its top level used too much CPU time in a function of V8 that cannot be stopped: the isolate was given up.
    Stuck,
    /// Its top level used so much memory at once that V8 could not go on: the isolate was given up.
    Exhausted,
    /// The node could not protect its memory from other tenants. Not its own doing.
    Overloaded,
}

impl StartError {
    /// Whether V8 could not go on with its isolate, see [`Worker::given_up`](crate::Worker::given_up).
    pub fn gave_up(&self) -> bool {
        matches!(self, StartError::Stuck | StartError::Exhausted)
    }
}

impl std::fmt::Display for StartError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            StartError::Syntax { message, line, column } => write!(f, "{message} (line {line}, column {column})"),
            StartError::NoFetch => f.write_str("the module's default export has no fetch handler, nor any other"),
            StartError::NotUtf8 => f.write_str("the module is not UTF-8"),
            StartError::Part { name, message } => write!(f, "{name}: {message}"),
            StartError::Feature(name) => write!(f, "this node does not know the feature {name:?}"),
            StartError::Broken => f.write_str("the package of modules is damaged"),
            StartError::TooLarge => write!(f, "the module is larger than {MODULE_BYTES_MAX} bytes"),
            StartError::Startup { message, place: Some((line, column)), .. } => {
                write!(f, "the module's top level failed: {message} (line {line}, column {column})")
            }
            StartError::Startup { message, .. } => write!(f, "the module's top level failed: {message}"),
            StartError::CpuLimit => f.write_str("the module's top level used too much CPU time"),
            StartError::MemoryLimit => f.write_str("the module's top level used too much memory"),
            StartError::Stuck => {
                f.write_str("the module's top level used too much CPU time, in a function that cannot be stopped")
            }
            StartError::Exhausted => f.write_str("the module's top level used too much memory at once"),
            StartError::Overloaded => f.write_str("the node is short of memory mappings"),
        }
    }
}

impl std::error::Error for StartError {}
