//! The examples' request scripts (`docs/examples/*/requests.json`), run through a `Worker`: hono and itty-router as
//! their authors published them, with nothing of ours in between but the bundler.

#![expect(clippy::disallowed_methods, reason = "the examples are files of the repository")]

mod driver;
mod support;

use std::path::{Path, PathBuf};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use driver::{Answer, Origin, Sent, run};
use serde_json::Value;
use support::{engine, spec};
use worker_api::Worker;

fn folder(example: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/examples").join(example)
}

fn worker(example: &str) -> Worker {
    let source = std::fs::read_to_string(folder(example).join("worker.js")).expect("the example's worker.js");
    let mut spec = spec(&source);
    spec.env = vec![("GREETING".into(), "Hello".into())];
    // What is measured here is answers, not time: this test shares its machine.
    spec.cpu_ns *= 20;
    Worker::start(&engine(), spec).unwrap_or_else(|error| panic!("{example}: {error}: {error:?}"))
}

/// Runs a script, whole bodies first and then the same in chunks. `least` exchanges must be there.
fn check(example: &str, least: usize) {
    let text = std::fs::read_to_string(folder(example).join("requests.json")).expect("the example's requests.json");
    let script: Vec<Value> = serde_json::from_str(&text).expect("a JSON array");
    assert!(script.len() >= least, "{example} has only {} exchanges", script.len());
    let mut worker = worker(example);
    let mut wrong = Vec::new();
    for exchange in &script {
        for chunked in [false, true] {
            let answer = ask(&mut worker, exchange, chunked);
            let faults = faults(exchange, &answer);
            if !faults.is_empty() {
                wrong.push(format!("{} {}: {}", exchange["method"], exchange["path"], faults.join("; ")));
            }
        }
    }
    assert!(wrong.is_empty(), "{example}:\n{}", wrong.join("\n"));
}

fn ask(worker: &mut Worker, exchange: &Value, chunked: bool) -> Answer {
    let text = |name: &str| exchange[name].as_str();
    let url = format!("http://example.workers.localhost{}", text("path").expect("a path"));
    let headers: Vec<_> = exchange["headers"]
        .as_object()
        .map(|fields| fields.iter().map(|(name, value)| (&name[..], value.as_str().expect("text"))).collect())
        .unwrap_or_default();
    let bytes = match (text("body"), text("bodyBase64")) {
        (Some(body), _) => Some(body.as_bytes().to_vec()),
        (None, Some(body)) => Some(STANDARD.decode(body).expect("base64")),
        (None, None) => None,
    };
    let sent = match &bytes {
        None => Sent::None,
        Some(bytes) if chunked => Sent::Chunks(bytes),
        Some(bytes) => Sent::Whole(bytes),
    };
    let method = text("method").unwrap_or("GET");
    run(worker, (method, &url), &headers, sent, |outbound| -> Origin { panic!("unexpected {outbound:?}") })
}

/// What an answer has that its exchange does not expect.
fn faults(exchange: &Value, answer: &Answer) -> Vec<String> {
    let expect = &exchange["expect"];
    let mut faults = Vec::new();
    if expect["status"].as_u64() != Some(u64::from(answer.status)) {
        faults.push(format!("status {} {:?} {:?}", answer.status, answer.failure, answer.logs));
    }
    if let Some(why) = &answer.broken {
        faults.push(format!("the body broke: {why}"));
    }
    for (name, wanted) in expect["headers"].as_object().into_iter().flatten() {
        let got = answer.header(name);
        let fits = match wanted {
            Value::Null => got.is_empty(),
            Value::String(text) => got == [text],
            Value::Array(all) => all.iter().filter_map(Value::as_str).eq(got.iter().copied()),
            other => panic!("{name}: {other} in a request script"),
        };
        if !fits {
            faults.push(format!("{name}: {got:?}"));
        }
    }
    // The node sends no body in reply to HEAD, whatever the Worker gave.
    if exchange["method"] == "HEAD" {
        return faults;
    }
    if let Some(wanted) = expect["bodyBase64"].as_str() {
        if STANDARD.encode(&answer.body) != wanted {
            faults.push(format!("body {:?}", answer.body));
        }
        return faults;
    }
    let body = String::from_utf8_lossy(&answer.body);
    if expect["body"].as_str().is_some_and(|wanted| wanted != body) {
        faults.push(format!("body {body:?}"));
    }
    let texts =
        |name: &str| expect[name].as_array().into_iter().flatten().filter_map(Value::as_str).collect::<Vec<_>>();
    faults
        .extend(texts("bodyIncludes").iter().filter(|t| !body.contains(**t)).map(|t| format!("no {t:?} in {body:?}")));
    faults.extend(texts("bodyExcludes").iter().filter(|t| body.contains(**t)).map(|t| format!("{t:?} is in {body:?}")));
    faults
}

#[test]
fn hello() {
    check("hello", 4);
}

#[test]
fn streams() {
    check("streams", 9);
}

#[test]
fn hono() {
    check("hono", 50);
}

#[test]
fn itty_router() {
    check("itty-router", 35);
}

#[test]
fn proxy_passes_an_answer_through_as_it_streams() {
    let source = std::fs::read_to_string(folder("proxy").join("worker.js")).expect("the example's worker.js");
    let mut spec = spec(&source);
    spec.env = vec![("ORIGIN".into(), "http://origin.test:9000".into())];
    let mut worker = Worker::start(&engine(), spec).expect("the proxy starts");
    let headers = [("x-custom", "kept"), ("content-type", "text/plain")];
    let upload = vec![b'u'; 50_000];
    let answer = run(&mut worker, ("POST", "http://front.test/a?b=c"), &headers, Sent::Chunks(&upload), |outbound| {
        assert_eq!((&outbound.method[..], &outbound.url[..]), ("POST", "http://origin.test:9000/a?b=c"));
        assert_eq!(outbound.header("x-custom"), Some("kept"));
        assert_eq!((outbound.body.len(), outbound.streamed.is_some()), (50_000, true));
        let fields =
            vec![("content-type", "text/x".into()), ("set-cookie", "a=1".into()), ("set-cookie", "b=2".into())];
        Origin::Reply(418, fields, vec![b"one ".to_vec(), b"two".to_vec()])
    });
    assert_eq!((answer.status, answer.text()), (418, "one two"), "{answer:?}");
    assert_eq!(answer.header("set-cookie"), ["a=1", "b=2"]);
    assert_eq!(answer.header("content-type"), ["text/x"]);
    assert_eq!(answer.header("via"), ["1.1 selvage"]);
    let down = run(&mut worker, ("GET", "http://front.test/"), &[], Sent::None, |_| Origin::Fail("connection refused"));
    assert_eq!((down.status, down.text()), (502, "The origin does not answer\n"), "{down:?}");
    assert!(down.logs.iter().any(|record| record.text.contains("connection refused")), "{down:?}");
}
