//! Workers that nobody here wrote: hono and itty-router, unmodified, through a node, by their own request scripts; and the other
//! examples that have one.
//!
//! A script is `requests.json` beside the Worker (docs/examples/README.md): requests with what is expected of each answer.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use e2e::checkout;
use e2e::http::{Connection, Reply, Request};
use e2e::platform::Platform;
use serde_json::Value;

fn run(example: &str) {
    let platform = Platform::start();
    let folder = checkout("docs/examples").join(example);
    let deployed = platform.cli(&[std::path::Path::new("--json"), std::path::Path::new("deploy"), &folder]).json();
    let host = format!("{}.workers.localhost", deployed["deployment"]["subdomain"].as_str().expect("a subdomain"));
    platform.await_version(&host, 1);
    let script = std::fs::read(folder.join("requests.json")).expect("a script");
    let script: Vec<Value> = serde_json::from_slice(&script).expect("the script is a JSON list");
    assert!(!script.is_empty());
    let mut connection = Connection::open(platform.http).expect("the node accepts");
    let mut wrong = Vec::new();
    for step in &script {
        let method = step["method"].as_str().unwrap_or("GET");
        let path = step["path"].as_str().expect("a path");
        let mut request = Request::new(method, &host, path);
        for (name, value) in step["headers"].as_object().into_iter().flatten() {
            // The body brings its length with it, once.
            if !name.eq_ignore_ascii_case("content-length") {
                request = request.header(name, value.as_str().expect("a field's value"));
            }
        }
        if let Some(body) = bytes(step) {
            request = request.body(body);
        }
        // All on one connection, as a browser would; a new one where the node ended it, saying so.
        match connection.exchange(&request) {
            Ok(reply) => {
                if reply.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) {
                    connection = Connection::open(platform.http).expect("the node accepts");
                }
                wrong.extend(differences(&step["expect"], &reply).iter().map(|it| format!("{method} {path}: {it}")));
            }
            Err(error) => {
                wrong.push(format!("{method} {path}: {error}"));
                connection = Connection::open(platform.http).expect("the node accepts");
            }
        }
    }
    println!("{example}: {} requests", script.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// `body` or `bodyBase64`.
fn bytes(value: &Value) -> Option<Vec<u8>> {
    match (value["body"].as_str(), value["bodyBase64"].as_str()) {
        (Some(text), _) => Some(text.as_bytes().to_vec()),
        (None, Some(text)) => Some(STANDARD.decode(text).expect("base64")),
        (None, None) => None,
    }
}

/// What of `expect` does not hold.
fn differences(expect: &Value, reply: &Reply) -> Vec<String> {
    let mut wrong = Vec::new();
    if let Some(status) = expect["status"].as_u64()
        && status != u64::from(reply.status)
    {
        wrong.push(format!("status {status} expected, got {}: {}", reply.status, reply.text()));
    }
    for (name, value) in expect["headers"].as_object().into_iter().flatten() {
        let got: Vec<&str> =
            reply.headers.iter().filter(|(field, _)| field == name).map(|(_, value)| value.as_str()).collect();
        let want: Vec<&str> = match value {
            Value::String(text) => vec![text],
            Value::Array(texts) => texts.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        if got != want {
            wrong.push(format!("{name}: {want:?} expected, got {got:?}"));
        }
    }
    if let Some(body) = bytes(expect)
        && body != reply.body
    {
        wrong.push(format!("body {:?} expected, got {:?}", String::from_utf8_lossy(&body), reply.text()));
    }
    let texts = |key: &str| expect[key].as_array().into_iter().flatten().filter_map(Value::as_str).collect::<Vec<_>>();
    let got = reply.text();
    wrong
        .extend(texts("bodyIncludes").iter().filter(|it| !got.contains(*it)).map(|it| format!("no {it:?} in {got:?}")));
    wrong.extend(texts("bodyExcludes").iter().filter(|it| got.contains(*it)).map(|it| format!("{it:?} is in {got:?}")));
    wrong
}

#[test]
fn hono_passes_its_script() {
    run("hono");
}

#[test]
fn itty_router_passes_its_script() {
    run("itty-router");
}

#[test]
fn hello_passes_its_script() {
    run("hello");
}

#[test]
fn streams_passes_its_script() {
    run("streams");
}
