//! Starting from V8's code cache. Only whole caches are given to V8 here: that nothing else ever is, is the reader's matter
//! (`plane_abi::code`).

mod support;

use bytes::Bytes;
use support::{effects, engine, get, node_spec, spec};
use worker_api::{CodeOrigin, Effect, OutgoingBody, Worker, WorkerSpec, compile_ahead};

const MODULE: &str = "
    const table = [1, 2, 3].map((n) => n * n);
    function never() { return 'not called at the start'; }
    export default { fetch() { return new Response(table.join() + never.name); } };";

fn with(source: &str, cache: Option<Vec<u8>>) -> WorkerSpec {
    WorkerSpec { code_cache: cache.map(Bytes::from), ..spec(source) }
}

fn check(mut worker: Worker, origin: CodeOrigin) -> Worker {
    assert_eq!(worker.code_origin(), origin);
    worker.handle(support::at_ms(1), get(1));
    let effects = effects(&mut worker);
    let answered = effects
        .iter()
        .any(|effect| matches!(effect, Effect::Respond { body: OutgoingBody::Full(body), .. } if body == "1,4,9never"));
    assert!(answered, "{effects:?}");
    worker
}

#[test]
fn a_worker_starts_from_code_compiled_ahead_and_from_another_workers() {
    let ahead = compile_ahead(&engine(), MODULE.as_bytes()).expect("compiles");
    let first = Worker::start(&engine(), with(MODULE, Some(ahead.clone()))).expect("starts");
    let mut first = check(first, CodeOrigin::Cache);
    let again = first.code_cache().expect("a cache");
    check(Worker::start(&engine(), with(MODULE, Some(again))).expect("starts"), CodeOrigin::Cache);
    let mut from_source = check(Worker::start(&engine(), with(MODULE, None)).expect("starts"), CodeOrigin::Source);
    let lazy = from_source.code_cache().expect("a cache");
    assert!(lazy.len() <= ahead.len());
    check(Worker::start(&engine(), with(MODULE, Some(lazy))).expect("starts"), CodeOrigin::Cache);
}

#[test]
fn the_code_of_another_source_is_rejected_and_the_source_runs() {
    let other = compile_ahead(&engine(), b"export default { fetch() { return new Response('other') } };");
    let worker = Worker::start(&engine(), with(MODULE, other)).expect("starts");
    check(worker, CodeOrigin::Rejected);
}

#[test]
fn what_does_not_compile_has_no_code_and_top_levels_do_not_run() {
    assert_eq!(compile_ahead(&engine(), b"export default {"), None);
    assert_eq!(compile_ahead(&engine(), b"\xff"), None);
    assert_eq!(compile_ahead(&engine(), b"import 'x'; export default {};"), None);
    assert_eq!(compile_ahead(&engine(), b"import 'node:path'; import 'node:fs'; export default {};"), None);
    assert!(compile_ahead(&engine(), b"for (;;);").is_some());
}

#[test]
fn errors_have_their_place_with_compiled_code_too() {
    let source = "export default { fetch() {\n  null.x;\n} };\nthrow new Error('at the top');";
    let cache = compile_ahead(&engine(), source.as_bytes());
    let with_cache = Worker::start(&engine(), with(source, cache)).err().expect("fails");
    let without = Worker::start(&engine(), with(source, None)).err().expect("fails");
    assert_eq!(with_cache, without);
    assert!(with_cache.to_string().contains("line 4"), "{with_cache}");
}

#[test]
fn a_module_with_built_in_imports_starts_from_code_too() {
    let source = "import path, { join } from 'node:path'; import 'assert';
        const table = join('1,4', '..', '1,4,9never'); export default { fetch() { return new Response(path.normalize(table)); } };";
    assert_eq!(compile_ahead(&engine(), source.as_bytes()), None, "without its flag");
    let module = node_spec(source).module;
    let ahead = compile_ahead(&engine(), &module).expect("compiles");
    let spec = WorkerSpec { code_cache: Some(ahead.into()), module, ..spec("") };
    check(Worker::start(&engine(), spec).expect("starts"), CodeOrigin::Cache);
}

#[test]
fn what_is_not_built_in_is_refused_where_it_is_imported() {
    let source = "import 'node:path';\nimport { x } from 'left-pad';\nexport default { fetch() {} };";
    let error = Worker::start(&engine(), node_spec(source)).err().expect("fails").to_string();
    assert!(error.contains("left-pad") && error.contains("line 2"), "{error}");
    let missing = "import { nothing } from 'node:path'; export default { fetch() {} };";
    let error = Worker::start(&engine(), node_spec(missing)).err().expect("fails").to_string();
    assert!(error.contains("nothing"), "{error}");
}
