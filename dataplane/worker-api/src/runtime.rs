//! The JavaScript half: which files it is made of, and how an isolate gets it.
//!
//! *Owns:* [`RUNTIME_FILES`] and the process-wide cache of their compiled code. *Invariant:* running the files makes no
//! per-request state, so that a start-up snapshot can take their place.

use isolate::{CodeCache, Global, OpTable, Scope, ScriptError, Value};

/// A file of the runtime.
struct File {
    name: &'static str,
    source: &'static str,
    code: CodeCache,
}

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        [$(File {
            name: concat!("selvage:", $name),
            source: include_str!(concat!("../js/", $name)),
            code: CodeCache::new(),
        }),*]
    };
}

/// In the order in which they run; see `js/README.md`.
static RUNTIME_FILES: [File; 27] = files![
    "primordials.js",
    "webidl.js",
    "runtime_base.js",
    "inspect.js",
    "console.js",
    "exception.js",
    "event.js",
    "abort.js",
    "encoding.js",
    "url.js",
    "streams_queue.js",
    "streams_readable.js",
    "streams_byte.js",
    "streams_writable.js",
    "streams_transform.js",
    "streams_ops.js",
    "blob.js",
    "formdata.js",
    "headers.js",
    "body.js",
    "request.js",
    "response.js",
    "structured_clone.js",
    "fetch.js",
    "crypto.js",
    "globals.js",
    "clock.js",
];

/// Last: it takes what the others made.
static DISPATCH: File =
    File { name: "selvage:dispatch.js", source: include_str!("../js/dispatch.js"), code: CodeCache::new() };

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
    pub(crate) timeout: Global,
    pub(crate) forget: Global,
    pub(crate) describe: Global,
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

/// Runs the files in a fresh context.
pub(crate) fn load(scope: &mut Scope<'_, '_>) -> Result<Entry, ScriptError> {
    let mut table = OpTable::new();
    crate::core_ops::register(&mut table);
    crate::ops::register(&mut table);
    let ops = table.object(scope);
    let lib = scope.object();
    // A tenant's memories and modules of WebAssembly would be outside the isolate's accounting.
    scope.delete_global("WebAssembly");
    for file in RUNTIME_FILES.iter().chain([&DISPATCH]) {
        let at = |error: ScriptError| ScriptError { message: format!("{}: {}", file.name, error.message) };
        let function = scope.run_script(file.name, file.source, &file.code).map_err(at)?;
        scope.call_own(function, &[ops, lib]).map_err(at)?;
    }
    if let Some(class) = scope.get(lib, "DOMException") {
        scope.set_dom_exception(class);
    }
    entry(scope, lib)
}

fn entry<'s>(scope: &mut Scope<'s, '_>, lib: Value<'s>) -> Result<Entry, ScriptError> {
    let entry = scope.get(lib, "entry").ok_or_else(|| missing("entry"))?;
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
        timeout: take("timeout")?,
        forget: take("forget")?,
        describe: take("describe")?,
        methods: METHODS.into_iter().map(|name| (name, scope.keep(scope.interned(name)))).collect(),
    })
}

fn missing(name: &str) -> ScriptError {
    ScriptError { message: format!("dispatch.js gives no {name}") }
}
