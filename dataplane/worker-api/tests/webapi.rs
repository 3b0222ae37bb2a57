//! The Web APIs by their specifications: suites in JavaScript (`tests/js`), each run through a real Worker.

mod driver;
mod support;

use driver::{Origin, Outbound, Sent, run};
use serde_json::Value;
use support::{engine, spec};
use worker_api::Worker;

/// Runs a suite and fails with what failed in it. `least` is how many assertions must have run: a suite that stops
/// early does not pass.
fn check(suite: &str, least: u64) {
    check_with(suite, least, |outbound| panic!("no outbound request is expected: {outbound:?}"));
}

fn check_with(suite: &str, least: u64, origin: impl FnMut(&Outbound) -> Origin) {
    let source = format!("{}\n{suite}", include_str!("js/harness.js"));
    let mut spec = spec(&source);
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
    assert!(ran >= least, "only {ran} assertions ran, {least} are there");
}

#[test]
fn headers() {
    check(include_str!("js/headers.js"), 60);
}

#[test]
fn url() {
    check(include_str!("js/url.js"), 100);
}

#[test]
fn encoding() {
    check(include_str!("js/encoding.js"), 50);
}

#[test]
fn events() {
    check(include_str!("js/events.js"), 60);
}

#[test]
fn bodies() {
    check(include_str!("js/bodies.js"), 100);
}

#[test]
fn readable_streams() {
    check(include_str!("js/readable.js"), 80);
}

#[test]
fn writable_and_transform_streams() {
    check(include_str!("js/writable.js"), 50);
}

#[test]
fn globals() {
    check(include_str!("js/globals.js"), 80);
}

#[test]
fn a_program_that_overwrites_the_built_ins() {
    check(include_str!("js/patched.js"), 30);
}

#[test]
fn a_suite_that_fails_is_seen() {
    let failed = std::panic::catch_unwind(|| check("test('canary', () => eq(1, 2));", 1));
    assert!(failed.is_err(), "a failing suite must fail its test");
}
