//! Live logs: what a Worker says and why it failed reach its owner, and never its client.

use std::net::TcpStream;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use e2e::platform::Platform;
use e2e::process::Process;
use serde_json::Value;
use tungstenite::client::IntoClientRequest;
use tungstenite::{Error, Message};

const WORKER: &str = "export default { async fetch(request) {
  const path = new URL(request.url).pathname;
  console.log('saw', path, { nested: [1, 'two'] });
  if (path === '/levels') { console.debug('d'); console.info('i'); console.warn('w'); console.error('e'); }
  if (path === '/throw') { inner(); }
  if (path === '/reject') { Promise.reject(new Error('nobody caught this')); }
  return new Response('ok');
} };
function inner() { throw new TypeError('secret detail'); }
";

/// Records of a deployment's tail, from a thread that reads them until the test ends.
pub(crate) fn tail(platform: &Platform, id: &str) -> Receiver<Value> {
    let url = format!("ws://{}/v1/deployments/{id}/logs/tail", platform.api);
    let mut request = url.into_client_request().expect("a request");
    let token = format!("Bearer {}", platform.token).parse().expect("a header's value");
    request.headers_mut().insert("Authorization", token);
    let stream = TcpStream::connect(platform.api).expect("the API listens");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout");
    let (mut socket, _) = tungstenite::client(request, stream).expect("the API upgrades");
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        while let Ok(message) = socket.read() {
            if let Message::Text(text) = message
                && sender.send(serde_json::from_str(&text).expect("a record is JSON")).is_err()
            {
                break;
            }
        }
    });
    receiver
}

pub(crate) fn expect(records: &Receiver<Value>, what: &str, want: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut others = Vec::new();
    while let Ok(record) = records.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        if want(&record) {
            return record;
        }
        others.push(record);
    }
    panic!("no record of {what} among {others:#?}");
}

pub(crate) fn message(record: &Value) -> &str {
    record["message"].as_str().unwrap_or_default()
}

#[test]
fn logs_and_exceptions_reach_the_tail_and_not_the_client() {
    let platform = Platform::start();
    let deployed = platform.deploy("talks", WORKER);
    let records = tail(&platform, &deployed.id);
    // The tail is open once it shows something.
    let begun = Instant::now();
    while records.recv_timeout(Duration::from_millis(50)).is_err() {
        assert!(begun.elapsed() < Duration::from_secs(20), "the tail shows nothing");
        platform.get(&deployed.host, "/warm");
    }
    assert_eq!(platform.get(&deployed.host, "/levels").status, 200);
    let record = expect(&records, "console.log", |record| message(record).contains("saw /levels"));
    assert!(message(&record).contains("two"), "objects are shown: {record}");
    assert_eq!(record["deployment_id"], deployed.id.as_str());
    assert_eq!((&record["version_number"], &record["node"]), (&Value::from(1), &Value::from("node-1")));
    for (level, text) in [("debug", "d"), ("info", "i"), ("warn", "w"), ("error", "e")] {
        expect(&records, level, |record| record["level"] == level && message(record) == text);
    }

    let thrown = platform.get(&deployed.host, "/throw");
    assert_eq!(thrown.status, 500);
    let shown = format!("{} {:?}", thrown.text(), thrown.headers);
    for secret in ["secret detail", "TypeError", "inner", "worker.js", "stack"] {
        assert!(!shown.contains(secret), "the client sees {secret:?}: {shown}");
    }
    let record = expect(&records, "the exception", |record| message(record).contains("secret detail"));
    assert!(message(&record).contains("TypeError: secret detail"), "{record}");
    assert!(message(&record).contains("inner") && message(&record).contains("worker.js:9:26"), "its stack: {record}");
    assert!(["exception", "error"].contains(&record["level"].as_str().unwrap_or_default()), "{record}");

    assert_eq!(platform.get(&deployed.host, "/reject").status, 200);
    expect(&records, "the unhandled rejection", |record| message(record).contains("nobody caught this"));
}

#[test]
fn a_tail_is_its_deployments_own_and_needs_a_token() {
    let platform = Platform::start();
    let one = platform.deploy("one", WORKER);
    let two = platform.deploy("two", WORKER);
    let records = tail(&platform, &one.id);
    let begun = Instant::now();
    while records.recv_timeout(Duration::from_millis(50)).is_err() {
        assert!(begun.elapsed() < Duration::from_secs(20), "the tail shows nothing");
        platform.get(&one.host, "/warm");
    }
    for round in 0..20 {
        platform.get(&two.host, &format!("/two-{round}"));
    }
    platform.get(&one.host, "/last-of-one");
    expect(&records, "its own record", |record| {
        assert_eq!(record["deployment_id"], one.id.as_str(), "{record}");
        message(record).contains("/last-of-one")
    });
    let url = format!("ws://{}/v1/deployments/{}/logs/tail", platform.api, one.id);
    let request = url.into_client_request().expect("a request");
    let stream = TcpStream::connect(platform.api).expect("the API listens");
    match tungstenite::client(request, stream) {
        Err(tungstenite::HandshakeError::Failure(Error::Http(response))) => assert_eq!(response.status(), 401),
        other => panic!("a tail without a token: {:?}", other.map(|_| ())),
    }
}

#[test]
fn the_tail_command_prints_records() {
    let platform = Platform::start();
    let deployed = platform.deploy("talks", WORKER);
    let mut command = platform.cli_command();
    command.env("SELVAGE_API_URL", format!("http://{}", platform.api)).env("SELVAGE_TOKEN", &platform.token);
    command.args(["--json", "tail", "--name", "talks", "--limit", "1"]);
    let mut tail = Process::start("selvage tail", command, &platform.folder().join("tail.log"));
    let begun = Instant::now();
    let line = loop {
        assert!(begun.elapsed() < Duration::from_secs(20), "{}", tail.log_tail());
        platform.get(&deployed.host, "/shown");
        if let Some(line) = tail.line_within(Duration::from_millis(50)) {
            break line;
        }
    };
    let record: Value = serde_json::from_str(&line).expect("JSON");
    assert!(message(&record).contains("saw /shown"), "{record}");
    assert!(tail.wait(Duration::from_secs(10)).success());
}
