//! The JavaScript half: which files it is made of, and how an isolate gets it.
//!
//! *Owns:* [`RUNTIME_FILES`], and the process's start-up snapshot of a context in which they have run. *Invariant:* running
//! the files makes no per-request state and reads no clock.

use std::sync::OnceLock;

use isolate::{Args, Compile, Global, OpError, OpResult, OpTable, Scope, ScriptError, Snapshot, Source, Value};

/// A file of the runtime.
struct File {
    name: &'static str,
    source: Source,
    /// Lazy where few Workers call it: what is compiled takes memory in every isolate and time in every start.
    compile: Compile,
}

macro_rules! file {
    ($name:literal, $compile:ident) => {
        File {
            name: concat!("selvage:", $name),
            source: Source::new(include_str!(concat!("../js/", $name))),
            compile: Compile::$compile,
        }
    };
}

macro_rules! files {
    ($($name:literal $compile:ident),* $(,)?) => {
        [$(file!($name, $compile)),*]
    };
}

/// In the order in which they run; see `js/README.md`.
static RUNTIME_FILES: [File; 27] = files![
    "primordials.js" Eager,
    "webidl.js" Eager,
    "runtime_base.js" Eager,
    "inspect.js" Lazy,
    "console.js" Eager,
    "exception.js" Eager,
    "event.js" Eager,
    "abort.js" Eager,
    "encoding.js" Eager,
    "url.js" Eager,
    "streams_queue.js" Eager,
    "streams_readable.js" Eager,
    "streams_byte.js" Lazy,
    "streams_writable.js" Lazy,
    "streams_transform.js" Lazy,
    "streams_ops.js" Lazy,
    "blob.js" Lazy,
    "formdata.js" Lazy,
    "headers.js" Eager,
    "body.js" Eager,
    "request.js" Eager,
    "response.js" Eager,
    "structured_clone.js" Lazy,
    "fetch.js" Eager,
    "crypto.js" Eager,
    "globals.js" Eager,
    "clock.js" Eager,
];

/// Last: it takes what the others made.
static DISPATCH: File = file!("dispatch.js", Eager);

/// A file that only some Workers need: it runs in the isolate that first asks for what it makes, and is in no snapshot.
struct RareFile {
    file: File,
    /// Native functions that only it has.
    ops: fn(&mut OpTable),
}

static RARE_FILES: [RareFile; 31] = [
    RareFile { file: file!("invoke.js", Lazy), ops: crate::invoke::register },
    RareFile { file: file!("services.js", Lazy), ops: no_ops },
    RareFile { file: file!("rpc.js", Lazy), ops: crate::invoke::register },
    RareFile { file: file!("rpc_stubs.js", Lazy), ops: crate::core_ops::register_flow },
    RareFile { file: file!("rpc_values.js", Lazy), ops: no_ops },
    RareFile { file: file!("workers.js", Lazy), ops: crate::core_ops::register_flow },
    RareFile { file: file!("subtle.js", Lazy), ops: crate::ops::register_subtle },
    RareFile { file: file!("subtle_keys.js", Lazy), ops: no_ops },
    RareFile { file: file!("subtle_algorithms.js", Lazy), ops: no_ops },
    RareFile { file: file!("url_pattern.js", Lazy), ops: crate::ops::register_url_pattern },
    RareFile { file: file!("compression.js", Lazy), ops: crate::ops::register_compression },
    RareFile { file: file!("content_coding.js", Lazy), ops: crate::ops::register_compression },
    RareFile { file: file!("messages.js", Lazy), ops: no_ops },
    RareFile { file: file!("mime.js", Lazy), ops: no_ops },
    RareFile { file: file!("html_rewriter.js", Lazy), ops: crate::ops::register_html },
    RareFile { file: file!("webassembly.js", Lazy), ops: crate::modules::register },
    RareFile { file: file!("websocket.js", Lazy), ops: crate::sockets::register },
    RareFile { file: file!("node/modules.js", Lazy), ops: no_ops },
    RareFile { file: file!("node/assert.js", Lazy), ops: no_ops },
    RareFile { file: file!("node/async_hooks.js", Lazy), ops: crate::core_ops::register_flow },
    RareFile { file: file!("node/buffer.js", Lazy), ops: no_ops },
    RareFile { file: file!("node/crypto.js", Lazy), ops: no_ops },
    RareFile { file: file!("node/events.js", Lazy), ops: no_ops },
    RareFile { file: file!("node/path.js", Lazy), ops: no_ops },
    RareFile { file: file!("node/process.js", Lazy), ops: no_ops },
    RareFile { file: file!("node/querystring.js", Lazy), ops: no_ops },
    RareFile { file: file!("node/stream.js", Lazy), ops: no_ops },
    RareFile { file: file!("node/stream_readable.js", Lazy), ops: no_ops },
    RareFile { file: file!("node/string_decoder.js", Lazy), ops: no_ops },
    RareFile { file: file!("node/url.js", Lazy), ops: no_ops },
    RareFile { file: file!("node/util_module.js", Lazy), ops: no_ops },
];

/// Cloudflare's own module.
pub(crate) const WORKERS_MODULE: &str = "cloudflare:workers";

/// Modules that a Worker can import, `node:` before them or not.
const BUILTIN_MODULES: [&str; 17] = [
    "assert",
    "assert/strict",
    "async_hooks",
    "buffer",
    "crypto",
    "events",
    "path",
    "path/posix",
    "process",
    "querystring",
    "stream",
    "stream/promises",
    "string_decoder",
    "timers",
    "url",
    "util",
    "util/types",
];

/// Whether a specifier is a built-in module's.
pub(crate) fn is_builtin(specifier: &str) -> bool {
    BUILTIN_MODULES.contains(&specifier.strip_prefix("node:").unwrap_or(specifier))
}

fn no_ops(_: &mut OpTable) {}

/// `runtimeFile(name)`: what a rare file is, a function of `(ops, lib)`, and an object with its own native functions.
fn runtime_file<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> OpResult<'s> {
    let name = args.string(cx, 0)?;
    let named = |rare: &&RareFile| rare.file.name.strip_prefix("selvage:") == Some(&name);
    let rare = RARE_FILES.iter().find(named).ok_or_else(|| OpError::type_error("no such file"))?;
    let mut table = OpTable::new();
    (rare.ops)(&mut table);
    let own = table.object(cx);
    let function = cx.run_late_script(rare.file.name, &rare.file.source);
    let function = function.map_err(|error| OpError::range_error(error.message))?;
    Ok(cx.array(&[function, own]))
}

/// Functions of `dispatch.js` that Rust calls.
pub(crate) struct Entry {
    pub(crate) start: Global,
    pub(crate) request: Global,
    pub(crate) request_body: Global,
    pub(crate) pull_response: Global,
    pub(crate) client_gone: Global,
    pub(crate) fetch_response: Global,
    pub(crate) fetch_body: Global,
    pub(crate) fetch_failed: Global,
    pub(crate) pull_fetch_upload: Global,
    pub(crate) response_passed: Global,
    pub(crate) upload_passed: Global,
    pub(crate) socket_message: Global,
    pub(crate) socket_closed: Global,
    pub(crate) timeout: Global,
    pub(crate) forget: Global,
    pub(crate) describe: Global,
    pub(crate) rejected: Global,
    pub(crate) builtin: Global,
    pub(crate) invoke: Global,
    /// The usual methods as strings of JavaScript, the most usual first.
    methods: Vec<(&'static str, Global)>,
}

/// Methods that are made into strings once.
const METHODS: [&str; 7] = ["GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"];

impl Entry {
    /// A method's name for JavaScript.
    #[inline]
    pub(crate) fn method<'s>(&self, scope: &Scope<'s, '_>, method: &str) -> Value<'s> {
        match self.methods.iter().find(|(name, _)| *name == method) {
            Some((_, known)) => scope.open(known),
            None => scope.string(method),
        }
    }
}

/// The process's snapshot; made by the first call, which is `Engine::init`'s.
pub(crate) fn snapshot(engine: &isolate::Engine) -> Result<&'static Snapshot, &'static ScriptError> {
    static SNAPSHOT: OnceLock<Result<Snapshot, ScriptError>> = OnceLock::new();
    let made = SNAPSHOT.get_or_init(|| {
        let ops = ops();
        let sources = all_files().map(|file| &file.source);
        Snapshot::make(engine, &ops, sources, |scope| run_files(scope, &ops))
    });
    made.as_ref()
}

fn ops() -> OpTable {
    let mut table = OpTable::new();
    crate::core_ops::register(&mut table);
    crate::ops::register(&mut table);
    table.add("runtimeFile", runtime_file);
    table
}

fn all_files() -> impl Iterator<Item = &'static File> {
    RUNTIME_FILES.iter().chain([&DISPATCH])
}

/// Runs the files in a fresh context; gives the entry functions.
fn run_files<'s>(scope: &mut Scope<'s, '_>, ops: &OpTable) -> Result<Value<'s>, ScriptError> {
    let ops = ops.object(scope);
    let lib = scope.object();
    for file in all_files() {
        let at = |error: ScriptError| ScriptError { message: format!("{}: {}", file.name, error.message) };
        let function = scope.run_script(file.name, &file.source, file.compile).map_err(at)?;
        scope.call_own(function, &[ops, lib]).map_err(at)?;
    }
    scope.get(lib, "entry").ok_or_else(|| missing("entry"))
}

/// Completes a context that was made from the snapshot, and finds its entry functions.
pub(crate) fn complete(scope: &mut Scope<'_, '_>) -> Result<Entry, ScriptError> {
    let entry = scope.take_kept().ok_or_else(|| missing("entry"))?;
    if let Some(class) = scope.get(entry, "DOMException") {
        scope.set_dom_exception(class);
    }
    let late = scope.get(entry, "late").ok_or_else(|| missing("late"))?;
    scope.call_own(late, &[])?;
    let mut take = |name: &'static str| {
        let function = scope.get(entry, name).filter(|value| value.is_function());
        function.map(|function| scope.keep(function)).ok_or_else(|| missing(name))
    };
    Ok(Entry {
        start: take("start")?,
        request: take("request")?,
        request_body: take("requestBody")?,
        pull_response: take("pullResponse")?,
        client_gone: take("clientGone")?,
        fetch_response: take("fetchResponse")?,
        fetch_body: take("fetchBody")?,
        fetch_failed: take("fetchFailed")?,
        pull_fetch_upload: take("pullFetchUpload")?,
        response_passed: take("responsePassed")?,
        upload_passed: take("uploadPassed")?,
        socket_message: take("socketMessage")?,
        socket_closed: take("socketClosed")?,
        timeout: take("timeout")?,
        forget: take("forget")?,
        describe: take("describe")?,
        rejected: take("rejected")?,
        builtin: take("builtin")?,
        invoke: take("invoke")?,
        methods: METHODS.into_iter().map(|name| (name, scope.keep(scope.interned(name)))).collect(),
    })
}

fn missing(name: &str) -> ScriptError {
    ScriptError { message: format!("dispatch.js gives no {name}") }
}
