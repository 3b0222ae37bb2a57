//! Workers of several modules: what imports of text, data, JSON, WebAssembly and code give, and what WebAssembly may do.

mod support;

use base::limits::ISOLATE_HEAP_BYTES_MAX;
use base::package::{Package, Part, PartKind};
use bytes::Bytes;
use support::*;
use worker_api::{Failure, StartError, Worker, WorkerSpec, compile_ahead};

fn packed(main: &str, parts: &[(PartKind, &str, &[u8])], features: &[&str]) -> Bytes {
    let parts = parts.iter().map(|&(kind, name, bytes)| Part { kind, name, bytes }).collect();
    Package { main: main.as_bytes(), parts, features: features.to_vec() }.pack().into()
}

fn try_parts(main: &str, parts: &[(PartKind, &str, &[u8])]) -> Result<Worker, StartError> {
    Worker::start(&engine(), WorkerSpec { module: packed(main, parts, &[]), ..spec("") })
}

fn with_parts(main: &str, parts: &[(PartKind, &str, &[u8])]) -> Worker {
    try_parts(main, parts).unwrap_or_else(|error| panic!("{error}: {error:?}"))
}

fn answer(worker: &mut Worker) -> String {
    let seen = ask(worker, 1);
    assert_eq!(seen.fail, None, "{:?}", seen.logs);
    text(&seen).to_owned()
}

/// A section of a module of WebAssembly: its number and its items.
fn section(id: u8, items: &[&[u8]]) -> Vec<u8> {
    let body: Vec<u8> = [&[items.len() as u8][..]].iter().chain(items).flat_map(|item| item.iter().copied()).collect();
    [&[id, body.len() as u8][..], &body].concat()
}

/// Exports `memory`, `grow(pages)`, `spin()`, `load(address)`, `recurse()`, `count(n)` and `callback()`, which calls `env.call`.
fn wasm() -> Vec<u8> {
    let body = |code: &[u8]| [&[code.len() as u8 + 1, 0][..], code].concat();
    let bodies = [
        body(b"\x20\0\x40\0\x0b"),
        body(b"\x03\x40\x0c\0\x0b\x0b"),
        body(b"\x20\0\x28\x02\0\x0b"),
        body(b"\x10\x04\x0b"),
        body(b"\x03\x40\x20\0\x41\x01\x6b\x22\0\x0d\0\x0b\x20\0\x0b"),
        body(b"\x10\0\x0b"),
    ];
    let names = ["grow", "spin", "load", "recurse", "count", "callback"];
    let mut exports = vec![b"\x06memory\x02\0".to_vec()];
    exports.extend(
        names.iter().zip(1u8..).map(|(name, at)| [&[name.len() as u8][..], name.as_bytes(), &[0, at][..]].concat()),
    );
    let exports: Vec<&[u8]> = exports.iter().map(Vec::as_slice).collect();
    let bodies: Vec<&[u8]> = bodies.iter().map(Vec::as_slice).collect();
    let mut bytes = b"\0asm\x01\0\0\0".to_vec();
    bytes.extend(section(1, &[b"\x60\x01\x7f\x01\x7f", b"\x60\0\0"]));
    bytes.extend(section(2, &[b"\x03env\x04call\0\x01"]));
    bytes.extend(section(3, &[b"\0", b"\x01", b"\0", b"\x01", b"\0", b"\x01"]));
    bytes.extend(section(5, &[b"\0\x01"]));
    bytes.extend(section(7, &exports));
    bytes.extend(section(10, &bodies));
    bytes
}

/// A Worker that has an instance's exports in `x`.
fn wasm_worker(body: &str) -> Worker {
    let main = format!(
        "import module from './lib/x.wasm';
        let called = 0;
        const x = new WebAssembly.Instance(module, {{ env: {{ call() {{ called++; }} }} }}).exports;
        export default {{ async fetch(request) {{ {body} }} }};"
    );
    with_parts(&main, &[(PartKind::Wasm, "lib/x.wasm", &wasm())])
}

#[test]
fn every_kind_of_part_is_what_it_should_be() {
    let main = "
        import text from './page.html';
        import data, { default as same } from './lib/bytes.bin';
        import json from 'table.json';
        import module from './lib/x.wasm?module';
        import { named, inner } from './lib/code.js';
        export default { async fetch() {
            const { exports } = await WebAssembly.instantiate(module, { env: { call() {} } });
            return Response.json([text, data instanceof ArrayBuffer, data === same, [...new Uint8Array(data)], json.rows,
                module instanceof WebAssembly.Module, exports.count(5), named, inner]);
        } };";
    let mut worker = with_parts(
        main,
        &[
            (PartKind::Text, "page.html", "<p>ü</p>".as_bytes()),
            (PartKind::Data, "lib/bytes.bin", &[0, 255]),
            (PartKind::Json, "table.json", br#"{ "rows": [1, "a"] }"#),
            (PartKind::Wasm, "lib/x.wasm", &wasm()),
            (PartKind::Code, "lib/code.js", b"import text from '../page.html'; export { inner } from './deep/more.js'; export const named = text.length;"),
            (PartKind::Code, "lib/deep/more.js", b"import { named } from '../code.js'; export const inner = () => named; inner.toString = null; export default 1;"),
        ],
    );
    let expect = r#"["<p>ü</p>",true,true,[0,255],[1,"a"],true,0,8,null]"#;
    assert_eq!(answer(&mut worker), expect);
}

#[test]
fn a_part_that_is_not_what_it_should_be_is_named() {
    let check = |main: &str, kind: PartKind, bytes: &[u8], says: &str| {
        let error = try_parts(main, &[(kind, "lib/part", bytes)]).err().expect("refused").to_string();
        assert!(error.contains(says), "{error}");
    };
    let main = "import x from './lib/part'; export default { fetch() {} };";
    check(main, PartKind::Wasm, b"\0asm\x01\0\0\0\x63", "lib/part: CompileError: ");
    check(main, PartKind::Wasm, b"", "lib/part: CompileError: ");
    let shared = b"\0asm\x01\0\0\0\x05\x04\x01\x03\x01\x01";
    check(main, PartKind::Wasm, shared, "lib/part: its memory is shared");
    check(main, PartKind::Json, b"{", "lib/part: it is not JSON");
    check(main, PartKind::Text, b"\xff", "lib/part: it is not UTF-8");
    check(main, PartKind::Code, b"\n let a b", "lib/part: SyntaxError: Unexpected identifier 'b' (line 2, column 8)");
    check("import './none.js'; export default {};", PartKind::Text, b"", "cannot find module \"./none.js\"");
    check("import '../../lib/part'; export default {};", PartKind::Text, b"", "cannot find module");
    check(
        "import { y } from './lib/part'; export default {};",
        PartKind::Text,
        b"",
        "does not provide an export named 'y'",
    );
    let unused = try_parts("export default { fetch() {} };", &[(PartKind::Wasm, "x.wasm", b"no module")]);
    assert!(unused.is_ok(), "what nobody imports is not compiled");
    let broken = WorkerSpec { module: Bytes::from_static(&base::package::MAGIC), ..spec("") };
    assert_eq!(Worker::start(&engine(), broken).err(), Some(StartError::Broken));
    let feature = WorkerSpec { module: packed("export default { fetch() {} };", &[], &["later"]), ..spec("") };
    assert_eq!(Worker::start(&engine(), feature).err(), Some(StartError::Feature("later".to_owned())));
}

#[test]
fn modules_of_node_need_their_flag() {
    let main = "import { AsyncLocalStorage } from 'node:async_hooks'; export default { fetch() { return new Response(typeof AsyncLocalStorage); } };";
    let start = |main: &str, features: &[&str]| {
        Worker::start(&engine(), WorkerSpec { module: packed(main, &[], features), ..spec("") })
    };
    let error = start(main, &[]).err().expect("refused").to_string();
    assert!(error.contains("nodejs_compat"), "{error}");
    assert_eq!(answer(&mut start(main, &["nodejs_compat"]).expect("starts")), "function");
    assert_eq!(answer(&mut start(main, &["nodejs_als"]).expect("starts")), "function");
    let path = "import 'node:path'; export default { fetch() {} };";
    assert!(start(path, &["nodejs_als"]).is_err());
    let env = "import process from 'node:process'; export default { fetch() { return Response.json(process.env); } };";
    assert_eq!(answer(&mut start(env, &["nodejs_compat"]).expect("starts")), "{}");
    let populated = ["nodejs_compat", "nodejs_compat_populate_process_env"];
    assert_eq!(answer(&mut start(env, &populated).expect("starts")), r#"{"GREETING":"hello"}"#);
}

#[test]
fn a_package_is_compiled_ahead_and_its_code_is_used() {
    let main = "import x from './x.txt'; export default { fetch() { return new Response(x); } };";
    let module = packed(main, &[(PartKind::Text, "x.txt", b"ahead")], &[]);
    let code = compile_ahead(&engine(), &module).expect("code");
    let spec = WorkerSpec { module, code_cache: Some(code.into()), ..spec("") };
    let mut worker = Worker::start(&engine(), spec).expect("starts");
    assert_eq!(worker.code_origin(), worker_api::CodeOrigin::Cache);
    assert_eq!(answer(&mut worker), "ahead");
    assert_eq!(compile_ahead(&engine(), b"import './none.txt'; export default {};"), None);
}

#[test]
fn a_memory_grows_until_the_isolates_limit_and_no_further() {
    let mut worker = wasm_worker(
        "let pages = 1; while (x.grow(16) !== -1) pages += 16;
        let error; try { new WebAssembly.Memory({ initial: 200 }); } catch (e) { error = e; }
        return Response.json([pages, x.memory.buffer.byteLength === pages * 65536, error instanceof RangeError, x.load(pages * 65536 - 4)]);",
    );
    let answer: (u64, bool, bool, u64) = serde_json::from_str(&answer(&mut worker)).expect("JSON");
    let bytes = answer.0 * 65536;
    assert!(bytes < ISOLATE_HEAP_BYTES_MAX as u64 && bytes > 100 << 20, "{bytes}");
    assert_eq!((answer.1, answer.2, answer.3), (true, true, 0));
    assert!(worker.heap_bytes() as u64 > bytes, "it is counted: {}", worker.heap_bytes());
    assert!(!worker.condemned());
}

#[test]
fn memories_that_are_dropped_make_room_for_others() {
    let mut worker = wasm_worker(
        "let total = 0;
        for (let i = 0; i < 12; i++) { const m = new WebAssembly.Memory({ initial: 640 }); new Uint8Array(m.buffer)[i] = 1; total += m.buffer.byteLength; }
        return new Response(String(total));",
    );
    assert_eq!(answer(&mut worker), (12 * 640 * 65536).to_string());
    let mut worker = wasm_worker(
        "const kept = []; try { for (;;) kept.push(new WebAssembly.Memory({ initial: 0, maximum: 2048 })); } catch (e) { return new Response(`${e.name} ${kept.length < 2000}`); }",
    );
    let seen = ask(&mut worker, 1);
    // The heap is counted when it is collected: that may be what passes the limit.
    let ended = seen.fail == Some(Failure::MemoryLimit) || text(&seen) == "RangeError true";
    assert!(ended, "address space is bounded too: {seen:?}");
    let mut worker = handler(
        "const kept = []; try { for (;;) kept.push(new ArrayBuffer(1 << 20, { maxByteLength: 1 << 24 })); } catch (e) { return new Response(`${e.name} ${kept.length > 50 && kept.length < 128}`); }",
    );
    let seen = ask(&mut worker, 1);
    let ended = seen.fail == Some(Failure::MemoryLimit) || text(&seen) == "RangeError true";
    assert!(ended, "resizable buffers are counted by the same: {seen:?}");
}

#[test]
fn a_loop_that_never_ends_is_ended() {
    for body in ["x.spin();", "for (;;) x.callback();", "for (;;) x.count(1000);", "x.count(0);"] {
        let mut worker = wasm_worker(body);
        let seen = ask(&mut worker, 1);
        assert_eq!((seen.fail, seen.finished), (Some(Failure::CpuLimit), true), "{body}: {:?}", seen.logs);
        assert!(worker.condemned());
    }
}

#[test]
fn traps_are_errors() {
    let mut worker = wasm_worker(
        "const names = []; for (const job of [() => x.load(65536), () => x.load(-1), () => x.recurse()]) try { job(); } catch (e) { names.push(`${e.constructor.name}: ${e.message}`); }
        x.callback(); return Response.json([names, called]);",
    );
    let expect = r#"[["RuntimeError: memory access out of bounds","RuntimeError: memory access out of bounds","RangeError: Maximum call stack size exceeded"],1]"#;
    assert_eq!(answer(&mut worker), expect);
}

#[test]
fn a_program_compiles_nothing_itself() {
    let bytes: Vec<String> = wasm().iter().map(u8::to_string).collect();
    let body = format!(
        "const bytes = new Uint8Array([{}]), said = [];
        const wasm = (type = 'application/wasm', status = 200) => new Response(bytes, {{ status, headers: {{ 'content-type': type }} }});
        const jobs = [() => new WebAssembly.Module(bytes), () => WebAssembly.compile(bytes), () => WebAssembly.instantiate(bytes, {{}}),
            () => WebAssembly.compileStreaming(wasm()), () => WebAssembly.instantiateStreaming(Promise.resolve(wasm()), {{}}),
            () => WebAssembly.compileStreaming(wasm('text/plain')), () => WebAssembly.compileStreaming(wasm('application/wasm', 404)), () => WebAssembly.compileStreaming(1), () => WebAssembly.compileStreaming()];
        for (const job of jobs) try {{ await job(); said.push('ran'); }} catch (e) {{ said.push(e.name); }}
        return Response.json([said, WebAssembly.validate(bytes), WebAssembly.validate(bytes.subarray(1)), WebAssembly.promising, WebAssembly.Suspending]);",
        bytes.join(",")
    );
    let expect = r#"[["CompileError","CompileError","CompileError","CompileError","CompileError","TypeError","TypeError","TypeError","TypeError"],true,false,null,null]"#;
    assert_eq!(answer(&mut handler(&body)), expect);
}

#[test]
fn types_that_a_program_makes_have_a_budget() {
    let mut worker = handler(
        "let tags = 0; const { Tag } = WebAssembly;
        try { for (;;) { new Tag({ parameters: Array(tags % 900).fill('i32') }); tags++; } } catch (e) { return new Response(`${tags} ${e.name} ${new Error() instanceof WebAssembly.Tag} ${Tag.prototype.constructor === Tag}`); }",
    );
    assert_eq!(answer(&mut worker), "1000 RangeError false true");
}
