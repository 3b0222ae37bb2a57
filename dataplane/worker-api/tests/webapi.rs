//! The Web APIs by their specifications: suites in JavaScript (`tests/js`), each run through a real Worker.

mod driver;
mod support;

use driver::{Origin, Outbound, Sent, run};
use serde_json::Value;
use support::{engine, node_spec, page_row, spec};
use worker_api::Worker;

/// Runs a suite and fails with what failed in it. Its row of `docs/CONFORMANCE.md` has how many assertions must have run: a
/// suite that stops early does not pass.
fn check(area: &str, suite: &str) {
    check_with(area, suite, |outbound| panic!("no outbound request is expected: {outbound:?}"));
}

fn check_with(area: &str, suite: &str, origin: impl FnMut(&Outbound) -> Origin) {
    let source = format!("{}\n{suite}", include_str!("js/harness.js"));
    let mut spec = node_spec(&source);
    // All tests of a suite are one request.
    spec.cpu_ns = 20_000_000_000;
    let mut worker = Worker::start(&engine(), spec).unwrap_or_else(|error| panic!("{error}: {error:?}"));
    let answer = run(&mut worker, ("GET", "http://suite.test/path?query"), &[], Sent::None, origin);
    assert_eq!(answer.status, 200, "{answer:?}");
    let report: Value = serde_json::from_slice(&answer.body).expect("the suite's report");
    let failures = report["failures"].as_array().expect("failures");
    let list = failures.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("\n\n");
    assert!(failures.is_empty(), "{} of {} tests failed:\n{list}", failures.len(), report["tests"]);
    let ran = report["assertions"].as_u64().expect("a count");
    assert_eq!(page_row(area), [ran, ran, 0], "docs/CONFORMANCE.md, {area}: {ran} assertions ran");
}

#[test]
fn headers() {
    check("Headers", include_str!("js/headers.js"));
}

#[test]
fn url() {
    check("URL, URLSearchParams", include_str!("js/url.js"));
}

#[test]
fn encoding() {
    check("Encoding", include_str!("js/encoding.js"));
}

#[test]
fn events() {
    check("Events, AbortSignal", include_str!("js/events.js"));
}

#[test]
fn bodies() {
    check("Request, Response, FormData, Blob", include_str!("js/bodies.js"));
}

#[test]
fn readable_streams() {
    check("Readable streams", include_str!("js/readable.js"));
}

#[test]
fn writable_and_transform_streams() {
    check("Writable and transform streams", include_str!("js/writable.js"));
}

#[test]
fn globals() {
    check("Globals, structuredClone, console", include_str!("js/globals.js"));
}

/// `subtle_vectors.json` was made by another implementation of Web Cryptography, with random keys.
#[test]
fn subtle() {
    let vectors = include_str!("js/subtle_vectors.json");
    check("crypto.subtle", &format!("const VECTORS = {vectors};\n{}", include_str!("js/subtle.js")));
}

#[test]
fn url_pattern() {
    check("URLPattern by its specification", include_str!("js/url_pattern.js"));
}

#[test]
fn compression() {
    check("Compression streams", include_str!("js/compression.js"));
}

#[test]
fn minimum_common_api() {
    check("The minimum common API (ECMA-429)", include_str!("js/minimum.js"));
}

#[test]
fn html_rewriter() {
    check("HTMLRewriter", include_str!("js/html_rewriter.js"));
}

#[test]
fn messages() {
    check("Messages, transfers, unhandled errors", include_str!("js/messages.js"));
}

#[test]
fn web_sockets() {
    check_with("WebSockets", include_str!("js/websocket.js"), |outbound| match &outbound.url[..] {
        "https://origin.test/refuses?q" => {
            assert_eq!(outbound.header("upgrade"), Some("websocket"));
            assert_eq!(outbound.header("sec-websocket-protocol"), Some("chat, other"));
            Origin::Reply(200, Vec::new(), vec![vec![b'x'; 20_000]; 3])
        }
        "http://origin.test/gone" => Origin::Fail("no route"),
        "http://origin.test/silent" => Origin::Silence,
        url => panic!("{url}"),
    });
}

#[test]
fn modules_of_node() {
    check("Modules of Node.js", include_str!("js/node.js"));
}

/// The outcomes that are expected are what Node.js itself gave.
#[test]
fn streams_of_node() {
    check("node:stream beside Node.js", include_str!("js/node_stream.js"));
}

#[test]
fn a_program_that_overwrites_the_built_ins() {
    check("A program that overwrites the built-ins", include_str!("js/patched.js"));
}

/// Every name that follows a dot or begins a field in the runtime's files.
#[expect(clippy::disallowed_methods, reason = "the runtime's files are files of the repository")]
fn names_in_the_runtime() -> Vec<String> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/js");
    let mut names = std::collections::BTreeSet::new();
    for file in std::fs::read_dir(folder).expect("the runtime's files").map(|entry| entry.expect("an entry").path()) {
        if file.extension().is_none_or(|ext| ext != "js") {
            continue;
        }
        let text = std::fs::read_to_string(file).expect("text");
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let mut rest = &text[..];
        while let Some(at) = rest.find(is_name) {
            let (before, from) = rest.split_at(at);
            let (name, after) = from.split_at(from.find(|c| !is_name(c)).unwrap_or(from.len()));
            let field =
                before.ends_with('.') || after.starts_with(':') || after.starts_with(" =") || after.starts_with(';');
            if field && !name.starts_with(|c: char| c.is_ascii_digit()) && !before.ends_with('#') {
                names.insert(name.to_owned());
            }
            rest = after;
        }
    }
    names.into_iter().collect()
}

#[test]
fn a_program_that_listens_where_the_language_asks() {
    let names = serde_json::to_string(&names_in_the_runtime()).expect("JSON");
    let suite = format!("const NAMES = {names};\n{}", include_str!("js/hooks.js"));
    check_with("A program that listens where the language asks", &suite, |outbound| match &outbound.url[..] {
        "http://origin.test/echo" => {
            let body = format!("{} {}", outbound.method, String::from_utf8_lossy(&outbound.body));
            Origin::Reply(200, vec![("content-type", "text/plain".into())], vec![body.into_bytes()])
        }
        "http://origin.test/stream" => Origin::Reply(200, Vec::new(), vec![vec![b'x'; 20_000]; 3]),
        url => panic!("{url}"),
    });
}

/// Requests before and after a program has hooked everything, in one Worker: each is answered, each in full.
#[test]
fn a_worker_that_hooks_everything_answers() {
    let source = "
        function hook() {
            const thrower = () => { throw new Error('hooked'); };
            const targets = [Array.prototype, Map.prototype, Set.prototype, String.prototype, Function.prototype, Object, Reflect, RegExp.prototype, Promise.prototype];
            for (let t = 0; t < targets.length; t++) {
                const target = targets[t], keys = Reflect.ownKeys(target);
                for (let k = 0; k < keys.length; k++) {
                    const key = keys[k];
                    const desc = Reflect.getOwnPropertyDescriptor(target, key);
                    if (key === 'constructor' || !desc.configurable || typeof desc.value !== 'function' || key === Symbol.hasInstance || key === 'toString' || key === 'valueOf') continue;
                    if (target === Reflect && (key === 'ownKeys' || key === 'getOwnPropertyDescriptor' || key === 'defineProperty')) continue;
                    Reflect.defineProperty(target, key, { __proto__: null, ...desc, value: thrower });
                }
            }
            const names = ['status', 'body', 'headers', 'value', 'done', 'then', 'get', 'set', 'next', 'reader', 'resolve'];
            for (let n = 0; n < names.length; n++) {
                Reflect.defineProperty(Object.prototype, names[n], { __proto__: null, configurable: true, get: () => undefined, set: thrower });
            }
        }
        export default {
            async fetch(request) {
                if (request.url === 'http://w.test/hook') {
                    const answer = new Response('hooked', { headers: { 'x-h': '1' } });
                    hook();
                    return answer;
                }
                if (request.url === 'http://w.test/stream') {
                    let left = 3;
                    return new Response(new ReadableStream({ pull(c) { if (left-- > 0) c.enqueue(new Uint8Array(1000)); else c.close(); } }));
                }
                if (request.url === 'http://w.test/throw') throw new Error('thrown');
                const text = await request.text();
                return new Response(text + ' answered', { headers: { 'x-h': '2' } });
            },
        };";
    let mut worker = Worker::start(&engine(), spec(source)).unwrap_or_else(|error| panic!("{error}: {error:?}"));
    let none = |outbound: &Outbound| panic!("no outbound request is expected: {outbound:?}");
    for hooked in [false, true] {
        let asked = run(&mut worker, ("POST", "http://w.test/"), &[("x-in", "y")], Sent::Whole(b"whole"), none);
        assert_eq!((asked.status, asked.text(), asked.header("x-h")), (200, "whole answered", vec!["2"]), "{asked:?}");
        let long = vec![b'z'; 50_000];
        let asked = run(&mut worker, ("POST", "http://w.test/"), &[], Sent::Chunks(&long), none);
        assert_eq!((asked.status, asked.body.len()), (200, 50_009), "hooked: {hooked}");
        let asked = run(&mut worker, ("GET", "http://w.test/stream"), &[], Sent::None, none);
        assert_eq!((asked.status, asked.body.len(), asked.broken), (200, 3000, None), "hooked: {hooked}");
        let asked = run(&mut worker, ("GET", "http://w.test/throw"), &[], Sent::None, none);
        assert_eq!(asked.failure, Some(worker_api::Failure::Exception), "hooked: {hooked}");
        if !hooked {
            let asked = run(&mut worker, ("GET", "http://w.test/hook"), &[], Sent::None, none);
            assert_eq!((asked.status, asked.text()), (200, "hooked"), "{asked:?}");
        }
    }
}

#[test]
fn a_suite_that_fails_is_seen() {
    let failed = std::panic::catch_unwind(|| check("Headers", "test('canary', () => eq(1, 2));"));
    assert!(failed.is_err(), "a failing suite must fail its test");
}
