//! `nodejs_compat` at bundling: `node:` modules and Node's globals are those of the package unenv, as wrangler has them, as long as the
//! platform has none of its own.
//!
//! Pure. Without the flag nothing here answers, and an import of one of them fails with a message that names the flag (`messages`).

use std::path::PathBuf;

use super::packet::Value;

/// The injected module with Node's globals.
pub(super) const GLOBALS: &str = "selvage-node-globals";
/// esbuild's name for modules that are no files.
pub(super) const NAMESPACE: &str = "selvage";
/// What [`Node::resolve`] is asked for: Node's modules with and without their prefix, and [`GLOBALS`].
pub(super) const FILTERS: [&str; 3] = [
    "^node:",
    "^(_http_agent|_http_client|_http_common|_http_incoming|_http_outgoing|_http_server|_stream_duplex|_stream_passthrough|\
     _stream_readable|_stream_transform|_stream_wrap|_stream_writable|_tls_common|_tls_wrap|assert|async_hooks|buffer|\
     child_process|cluster|console|constants|crypto|dgram|diagnostics_channel|dns|domain|events|fs|http|http2|https|inspector|\
     module|net|os|path|perf_hooks|process|punycode|querystring|readline|repl|stream|string_decoder|sys|timers|tls|\
     trace_events|tty|url|util|v8|vm|wasi|worker_threads|zlib)(/[a-z/]+)?$",
    "^selvage-node-globals$",
];

/// Only the names that are used end up in the bundle.
const GLOBALS_SOURCE: &str = r#"
import { Buffer } from "node:buffer";
import process from "node:process";
import { clearImmediate, setImmediate } from "node:timers";
const global = globalThis;
export { Buffer, clearImmediate, global, process, setImmediate };
export { Buffer as "globalThis.Buffer", process as "globalThis.process" };
export { Buffer as "global.Buffer", process as "global.process" };
"#;

/// The polyfills in a folder.
pub(super) struct Node {
    unenv: PathBuf,
}

impl Node {
    pub(super) fn new(unenv: PathBuf) -> Node {
        Node { unenv }
    }

    pub(super) fn resolve(&self, path: &str) -> Option<Value> {
        if path == GLOBALS {
            return Some(Value::map([("path", GLOBALS.into()), ("namespace", NAMESPACE.into())]));
        }
        let name = path.strip_prefix("node:").unwrap_or(path);
        let file = match name {
            "path/posix" | "path/win32" => "dist/runtime/node/path.mjs".to_owned(),
            "sys" => "dist/runtime/node/util.mjs".to_owned(),
            internal if internal.starts_with('_') => "lib/mock.cjs".to_owned(),
            name => format!("dist/runtime/node/{name}.mjs"),
        };
        let file = self.unenv.join(file);
        // Not a module of Node's: esbuild says so, with the place.
        if name.contains("..") || !file.is_file() {
            return None;
        }
        Some(Value::map([("path", file.to_str()?.into()), ("sideEffects", Value::Bool(false))]))
    }

    pub(super) fn load(&self, path: &str) -> Option<Value> {
        let resolve_dir = self.unenv.to_str()?;
        (path == GLOBALS).then(|| {
            Value::map([
                ("contents", Value::Bytes(GLOBALS_SOURCE.as_bytes().to_vec())),
                ("loader", "js".into()),
                ("resolveDir", resolve_dir.into()),
            ])
        })
    }
}

/// Whether a package's name is that of a module of Node's.
pub(super) fn is_builtin(name: &str) -> bool {
    let names = FILTERS[1].trim_start_matches("^(").split(')').next().unwrap_or_default();
    let first = name.split('/').next().unwrap_or_default();
    name.starts_with("node:") || names.split('|').any(|builtin| builtin == first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_of_node_become_files_of_unenv() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let folder = dir.path().join("dist/runtime/node/fs");
        std::fs::create_dir_all(&folder).expect("a folder");
        for file in ["dist/runtime/node/path.mjs", "dist/runtime/node/fs/promises.mjs"] {
            std::fs::write(dir.path().join(file), "").expect("a file");
        }
        let node = Node::new(dir.path().to_owned());
        let path = |name: &str| node.resolve(name).map(|it| it.text("path").to_owned());
        let file = |name: &str| Some(dir.path().join(name).display().to_string());
        assert_eq!(path("node:path"), file("dist/runtime/node/path.mjs"));
        assert_eq!(path("path/posix"), file("dist/runtime/node/path.mjs"));
        assert_eq!(path("fs/promises"), file("dist/runtime/node/fs/promises.mjs"));
        assert_eq!(path("node:nothing"), None);
        assert_eq!(path("node:../../../../etc/passwd"), None);
        assert_eq!(path(GLOBALS).as_deref(), Some(GLOBALS));
    }

    #[test]
    fn builtins_are_known_by_name() {
        for name in ["node:fs", "fs", "fs/promises", "zlib", "assert", "_tls_wrap"] {
            assert!(is_builtin(name), "{name}");
        }
        for name in ["hono", "fsx", "", "@x/fs", "zli"] {
            assert!(!is_builtin(name), "{name}");
        }
    }
}
