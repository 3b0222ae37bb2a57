//! Limits as the owner of a Worker and the operator of its node see them: the client gets 503, the log names the limit, the metric
//! counts it, and the next request is served by another isolate.

use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use e2e::eventually;
use e2e::platform::Platform;
use serde_json::Value;

use crate::logs::{expect, message, tail};

const WORKER: &str = "let served = 0;
export default { async fetch(request) {
  const { pathname } = new URL(request.url);
  console.log('saw', pathname);
  served++;
  switch (pathname) {
    case '/loop': for (;;) {}
    case '/backtrack': return new Response(String(/^(a+)+$/.test('a'.repeat(40) + '!')));
    case '/heap': { const kept = []; for (;;) kept.push(new Array(1e6).fill(0.5)); }
    case '/buffers': { const kept = []; for (;;) kept.push(new Uint8Array(64 << 20)); }
    case '/throw': throw new Error('of its own doing');
    case '/hang': return new Promise(() => {});
    default: return new Response(`served ${served}`);
  }
} };
";

/// How often the node says that a request ended for that cause.
fn failures(platform: &Platform, cause: &str) -> u64 {
    platform.metric("selvage_failures_total", &[("cause", cause)])
}

fn open_tail(platform: &Platform, id: &str, host: &str) -> Receiver<Value> {
    let records = tail(platform, id);
    let begun = Instant::now();
    while records.recv_timeout(Duration::from_millis(50)).is_err() {
        assert!(begun.elapsed() < Duration::from_secs(20), "the tail shows nothing");
        platform.get(host, "/warm");
    }
    records
}

#[test]
fn a_limit_is_named_in_log_and_metric_and_the_next_request_is_served() {
    let platform = Platform::start();
    let deployed = platform.deploy("limited", WORKER);
    let records = open_tail(&platform, &deployed.id, &deployed.host);
    for (path, status, cause, said) in [
        ("/loop", 503, "cpu_limit", "CPU time limit"),
        ("/backtrack", 503, "cpu_limit", "CPU time limit"),
        ("/throw", 500, "exception", "of its own doing"),
        ("/hang", 500, "hung", "can never be answered"),
    ] {
        let before = failures(&platform, cause);
        let reply = platform.get(&deployed.host, path);
        assert_eq!(reply.status, status, "{path}: {}", reply.text());
        let text = reply.text();
        assert!(!text.contains("of its own doing") && !text.contains("worker.js"), "{path} tells its client: {text}");
        eventually(&format!("{path} counts as {cause}"), Duration::from_secs(10), || {
            (failures(&platform, cause) > before).then_some(())
        });
        // Its own request is named first, then why it ended.
        expect(&records, path, |record| message(record).contains(&format!("saw {path}")));
        let record = expect(&records, said, |record| message(record).contains(said));
        assert_eq!(record["deployment_id"], deployed.id.as_str(), "{path}: {record}");
        let next = platform.get(&deployed.host, "/");
        assert_eq!(next.status, 200, "after {path}: {}", next.text());
        if status == 503 {
            assert_eq!(next.text(), "served 1", "after {path}, an isolate that has served nobody else");
        }
    }
}

/// With all the CPU time that it wants, memory is what ends it: a heap at its limit ends the isolate, and an array buffer over the
/// limit is an exception, which a Worker may catch.
#[test]
fn a_memory_bomb_ends_by_memory_and_says_so() {
    let platform = Platform::start();
    let plan = ["plan", "set", "pro", "--cpu-ms", "20000", "--weight", "100"];
    for arguments in [plan.as_slice(), &["plan", "assign", "pro", &platform.account]] {
        let run = platform.cli(arguments);
        assert_eq!(run.code, 0, "{arguments:?}: {run:?}");
    }
    let deployed = platform.deploy("memory", WORKER);
    let config = platform.api().ok("GET", &format!("/v1/deployments/{}/config", deployed.id), None);
    assert_eq!(config["m"], 20_000, "{config}");
    let records = open_tail(&platform, &deployed.id, &deployed.host);
    for (path, status, cause, said, next_text) in [
        ("/heap", 503, "memory_limit", "memory limit exceeded", Some("served 1")),
        ("/buffers", 500, "exception", "Uncaught RangeError: Array buffer allocation failed", None),
    ] {
        for round in 1..=3 {
            let (before, cut) = (failures(&platform, cause), failures(&platform, "cpu_limit"));
            let reply = platform.get(&deployed.host, path);
            assert_eq!(reply.status, status, "{path}, round {round}: {}", reply.text());
            eventually(&format!("{path} counts as {cause}"), Duration::from_secs(10), || {
                (failures(&platform, cause) == before + 1).then_some(())
            });
            assert_eq!(failures(&platform, "cpu_limit"), cut, "{path}, round {round}");
            // Its own request is named first, then why it ended.
            expect(&records, path, |record| message(record).contains(&format!("saw {path}")));
            let record = expect(&records, said, |record| message(record).contains(said));
            assert_eq!(record["deployment_id"], deployed.id.as_str(), "{path}: {record}");
            let next = platform.get(&deployed.host, "/");
            assert_eq!(next.status, 200, "{path}, round {round}: {}", next.text());
            assert!(next_text.is_none_or(|text| next.text() == text), "after {path}: {}", next.text());
        }
    }
}

#[test]
fn an_accounts_plan_says_how_long_its_workers_may_compute() {
    let platform = Platform::start();
    // Some ten times what the plan `free` gives.
    let burns = "export default { fetch() {
        let n = 0;
        for (let i = 0; i < 200000000; i++) n = (n * 31 + i) | 0;
        return new Response('burnt ' + n);
    } };";
    let api = platform.api();
    let project = api.project(&platform.account, "default");
    let deployed = api.create(&project, "burns");
    let version = api.upload_ok(&deployed.id, burns);
    api.activate(&deployed.id, version);
    let answers = |status: u16, what: &str| {
        let reply = platform.await_status(&deployed.host, "/", status);
        assert_eq!(reply.text().starts_with("burnt "), status == 200, "{what}: {}", reply.text());
        for _ in 0..2 {
            assert_eq!(platform.get(&deployed.host, "/").status, status, "{what}");
        }
    };
    let cli = |arguments: &[&str]| {
        let run = platform.cli(arguments);
        assert_eq!(run.code, 0, "{arguments:?}: {run:?}");
        run
    };
    answers(503, "50 ms");
    eventually("they count as cpu_limit", Duration::from_secs(10), || {
        (failures(&platform, "cpu_limit") >= 3).then_some(())
    });

    cli(&["plan", "assign", "pro", &platform.account]);
    answers(503, "a tier without a plan");
    cli(&["plan", "set", "pro", "--cpu-ms", "20000", "--weight", "300"]);
    answers(200, "20 s");
    let plans = cli(&["--json", "plan", "list"]).json();
    assert_eq!(plans[1], serde_json::json!({"tier": "pro", "cpu_ms": 20000, "weight": 300}));
    let config = api.ok("GET", &format!("/v1/deployments/{}/config", deployed.id), None);
    assert_eq!((&config["m"], &config["w"]), (&20000.into(), &300.into()));
    cli(&["plan", "assign", "free", &platform.account]);
    answers(503, "50 ms again");
    assert_eq!(platform.cli(&["plan", "set", "pro", "--weight", "1001"]).code, 2);
}
