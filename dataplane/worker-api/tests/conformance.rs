//! Tables of cases that others made (`tests/conformance`), each case in a Worker. What fails must be on the list of what is
//! known to, and what is on the list must fail: the lists can only shrink. `docs/CONFORMANCE.md` has the counts.

mod driver;
mod support;

use std::collections::BTreeMap;

use driver::{Sent, run};
use serde_json::Value;
use support::{engine, page_row, spec};
use worker_api::Worker;

fn check(area: &str, kind: &str, table: &str, known: &str) {
    let source = format!("const KIND = {kind:?};\nconst TABLE = {table};\n{}", include_str!("conformance/run.js"));
    let mut spec = spec(&source);
    // A whole table is one request.
    spec.cpu_ns = 20_000_000_000;
    let mut worker = Worker::start(&engine(), spec).unwrap_or_else(|error| panic!("{error}: {error:?}"));
    let answer = run(&mut worker, ("GET", "http://suite.test/"), &[], Sent::None, |outbound| panic!("{outbound:?}"));
    let report: Value = serde_json::from_slice(&answer.body).unwrap_or_else(|error| panic!("{error}: {answer:?}"));
    let failures: BTreeMap<String, String> = serde_json::from_value(report["failures"].clone()).expect("failures");
    let known: Vec<&str> = known.lines().filter(|line| !line.is_empty()).collect();
    let new: Vec<_> = failures.iter().filter(|(name, _)| !known.contains(&&line(name)[..])).collect();
    let list: String = new.iter().map(|(name, why)| format!("{}\n    {why}\n", line(name))).collect();
    assert!(new.is_empty(), "{area}: {} cases fail that did not:\n{list}", new.len());
    let mended: Vec<_> = known.iter().filter(|name| !failures.keys().any(|other| line(other) == **name)).collect();
    assert!(mended.is_empty(), "{area}: these pass now, they are to go from the list: {mended:#?}");
    let cases = report["cases"].as_u64().expect("a count");
    assert_eq!(
        page_row(area),
        [cases, cases - failures.len() as u64, failures.len() as u64],
        "docs/CONFORMANCE.md, {area}"
    );
}

/// A case's name in one line of ASCII.
fn line(name: &str) -> String {
    name.escape_default().to_string()
}

#[test]
fn url() {
    check(
        "URL parsing",
        "url",
        include_str!("conformance/urltestdata.json"),
        include_str!("conformance/known/url.txt"),
    );
}

#[test]
fn url_setters() {
    let known = include_str!("conformance/known/setters.txt");
    check("URL setters", "setters", include_str!("conformance/setters_tests.json"), known);
}

#[test]
fn url_pattern() {
    let known = include_str!("conformance/known/patterns.txt");
    check("URLPattern", "patterns", include_str!("conformance/urlpatterntestdata.json"), known);
}

#[test]
fn encoding_labels() {
    let known = include_str!("conformance/known/labels.txt");
    check("Encoding labels", "labels", include_str!("conformance/encoding_labels.json"), known);
}

#[test]
fn encoding_indexes() {
    let known = include_str!("conformance/known/indexes.txt");
    check("Encoding indexes", "indexes", include_str!("conformance/encoding_indexes.json"), known);
}

#[test]
fn a_new_failure_and_a_mended_one_are_seen() {
    let table = r#"{"utf-8": "UTF-16", "utf8": "UTF-8"}"#;
    for known in ["", "utf-8\nutf8"] {
        let failed = std::panic::catch_unwind(|| check("none", "labels", table, known));
        assert!(failed.is_err(), "{known:?}");
    }
}
