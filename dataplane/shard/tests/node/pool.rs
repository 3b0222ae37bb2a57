//! When a shard's Workers are started, started again after a failure, and dropped.

use crate::common::{Client, Deployed, PATIENCE, TestNode, active, eventually, get};
use base::limits::MS_NS;
use shard::config::PoolTimes;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Computes for a while, and counts in its isolate.
const BURN: &str = "let served = 0;
function burn() {
    let n = 0;
    for (let i = 0; i < 15000000; i++) n = (n * 31 + i) | 0;
    return String(++served);
}
export default { fetch: () => new Response(burn()), scheduled: () => { burn(); } };";

/// Fails to start, in a turn that is not its first.
const FAILS_LATE: &str = "let n = 0; while (n < 30000000) n++; throw new Error('no');";

/// Asks for more at once than may wait for one isolate; the answers.
fn flood(node: &TestNode) -> Vec<(u16, String)> {
    let mut clients: Vec<Client> = (0..48).map(|_| node.connect()).collect();
    for client in &mut clients {
        client.send(get("w", "/").as_bytes());
    }
    let responses = clients.iter_mut().map(|client| client.response());
    responses.map(|response| (response.status, response.text().to_owned())).collect()
}

/// A node where one isolate of `w` is up, and others will fail to start, in turns that are not their first.
fn one_is_up_and_others_fail(and: &[Deployed<'_>]) -> TestNode {
    let mut node = TestNode::start(&[], |config| config.test_scheduled = true);
    // Long enough for the first start, with the machine busy.
    let until = SystemTime::now() + Duration::from_secs(1);
    let until_ms = until.duration_since(UNIX_EPOCH).expect("after 1970").as_millis();
    let source = format!(
        "if (Date.now() > {until_ms}) {{ let n = 0; while (n < 30000000) n++; throw new Error('too late'); }}\n{BURN}"
    );
    let deployments = [Deployed { cpu_ms: 10_000, ..active("w", &source) }];
    node.publish(&deployments.into_iter().chain(and.iter().copied()).collect::<Vec<_>>());
    assert_eq!(node.connect().get("w", "/").text(), "1");
    thread::sleep(until.duration_since(SystemTime::now()).unwrap_or_default() + Duration::from_millis(100));
    node
}

#[test]
fn an_added_isolate_that_fails_to_start_costs_the_others_nothing() {
    let node = one_is_up_and_others_fail(&[]);
    let shard = &node.metrics.shards()[0];
    let answers = flood(&node);
    eventually("one was added, and failed", || shard.worker_start_failures.get() >= 1);
    assert!(answers.iter().all(|(status, _)| *status == 200), "{answers:?}");
    assert!(shard.request_retries.get() > 0, "those that waited for the added one are given to the first");
    let after = node.connect().get("w", "/");
    assert_eq!(
        (after.status, after.text()),
        (200, (answers.len() + 2).to_string().as_str()),
        "the first isolate goes on"
    );
    eventually("the failed one is gone", || shard.workers.get() == 1);
    assert_eq!(shard.worker_starts.get(), 1);
    assert!(shard.worker_start_failures.get() <= 3, "not tried again before its wait is over");
}

/// Calls by another Worker and runs of a schedule as well.
#[test]
fn calls_and_schedules_that_wait_for_an_added_isolate_are_given_to_the_others_too() {
    let caller = "export default { async fetch(request, env) {
        try { return await env.W.fetch(request); } catch (error) { return new Response(error.message, { status: 502 }); }
    } };";
    let node = one_is_up_and_others_fail(&[Deployed { services: &[("W", "w")], ..active("caller", caller) }]);
    let shard = &node.metrics.shards()[0];
    let ask = |name: &str, path: &str, count: usize| {
        let mut clients: Vec<Client> = (0..count).map(|_| node.connect()).collect();
        for client in &mut clients {
            client.send(get(name, path).as_bytes());
        }
        clients
    };
    let (mut calls, mut runs) = (ask("caller", "/", 24), ask("w", "/__scheduled?cron=*+*+*+*+*", 24));
    for client in &mut calls {
        let response = client.response();
        assert_eq!(response.status, 200, "{}", response.text());
    }
    for client in &mut runs {
        assert_eq!(client.response().text(), "Ran scheduled event\n");
    }
    assert!(shard.worker_start_failures.get() >= 1 && shard.request_retries.get() > 0);
}

#[test]
fn an_isolate_that_cannot_be_added_is_done_without() {
    let node = TestNode::start(&[Deployed { cpu_ms: 10_000, ..active("w", BURN) }], |_| {});
    assert_eq!(node.connect().get("w", "/").text(), "1");
    std::fs::remove_file(node.artifact(BURN)).expect("removed");
    let answers = flood(&node);
    assert!(answers.iter().all(|(status, _)| *status == 200), "{answers:?}");
    let shard = &node.metrics.shards()[0];
    assert!(shard.worker_start_failures.get() >= 1, "more than one isolate was wanted");
    assert_eq!((shard.worker_starts.get(), shard.workers.get()), (1, 1));
}

#[test]
fn waits_after_failed_starts_grow_also_where_the_start_was_suspended() {
    const FIRST: Duration = Duration::from_millis(60);
    let node = TestNode::start(&[active("w", FAILS_LATE)], |config| {
        config.pool.start_backoff_ns = FIRST.as_nanos() as u64;
    });
    let shard = &node.metrics.shards()[0];
    let mut client = node.connect();
    // Before the request in which the first one failed.
    let begun = Instant::now();
    while shard.worker_start_failures.get() < 5 {
        assert!([500, 503].contains(&client.get("w", "/").status));
        assert!(begun.elapsed() < PATIENCE, "{} starts", shard.worker_start_failures.get());
        thread::sleep(Duration::from_millis(2));
    }
    assert!(begun.elapsed() >= FIRST * (1 + 2 + 4 + 8), "{:?}", begun.elapsed());
    assert!(shard.suspensions.get() >= 5, "the starts were suspended");
}

#[test]
fn what_a_new_configuration_changes_is_started_before_a_request_asks() {
    let source = "export default { fetch(request, env) { return new Response('first ' + env.NAME); } };";
    let changed = source.replace("first", "second");
    let mut node = TestNode::start(&[active("w", source)], |_| {});
    assert_eq!(node.connect().get("w", "/").text(), "first undefined");
    let second = || Deployed { version: 2, ..active("w", &changed) };
    let more_cpu = || Deployed { cpu_ms: 100, ..second() };
    let named = || Deployed { env: &[("NAME", "named")], ..more_cpu() };
    let bound = || Deployed { services: &[("SELF", "w")], ..named() };
    let steps = [
        ("code", second(), "second undefined"),
        ("plan", more_cpu(), "second undefined"),
        ("environment", named(), "second named"),
        ("binding", bound(), "second named"),
    ];
    for ((what, deployed, text), count) in steps.into_iter().zip(1..) {
        node.publish(&[deployed]);
        let shard = &node.metrics.shards()[0];
        eventually(what, || (shard.worker_prewarms.get(), shard.worker_starts.get()) == (count, count + 1));
        assert_eq!(node.connect().get("w", "/").text(), text, "{what}");
        assert_eq!(shard.worker_starts.get(), count + 1, "{what}: the request found it started");
    }
}

const WORKER_IDLE: Duration = Duration::from_millis(200);

/// One Worker that is dropped soon.
fn soon_dropped() -> TestNode {
    TestNode::start(&[active("w", "export default { fetch() { return new Response('here') } }")], |config| {
        config.pool = PoolTimes {
            idle_ns: 20 * MS_NS,
            extra_idle_ns: 40 * MS_NS,
            worker_idle_ns: WORKER_IDLE.as_nanos() as u64,
            visit_ns: 100 * MS_NS,
            early_ns: 150 * MS_NS,
            sweep_ticks: 1,
            ..PoolTimes::default()
        }
    })
}

#[test]
fn an_idle_worker_is_dropped_after_its_time() {
    let node = soon_dropped();
    let shard = &node.metrics.shards()[0];
    let asked = Instant::now();
    assert_eq!(node.connect().get("w", "/").text(), "here");
    eventually("it is dropped", || shard.workers.get() == 0);
    assert!(asked.elapsed() >= WORKER_IDLE, "{:?}", asked.elapsed());
    assert_eq!(shard.worker_evictions.get(), 1);
    assert_eq!(node.connect().get("w", "/").text(), "here");
    assert_eq!((shard.worker_starts.get(), shard.worker_prewarms.get()), (2, 0));
}

#[test]
fn a_client_that_comes_at_regular_times_finds_its_worker_started() {
    const PERIOD: Duration = Duration::from_millis(500);
    let node = soon_dropped();
    let shard = &node.metrics.shards()[0];
    let mut client = node.connect();
    let begun = Instant::now();
    // A visit that was late, with the machine busy, only makes it learn for longer.
    let mut prewarms = 0;
    for visit in 0.. {
        thread::sleep((begun + PERIOD * visit).saturating_duration_since(Instant::now()));
        let starts = shard.worker_starts.get();
        let started_early = shard.worker_prewarms.get() > prewarms;
        prewarms = shard.worker_prewarms.get();
        assert_eq!(client.get("w", "/").text(), "here");
        if started_early && shard.worker_starts.get() == starts {
            assert!(visit >= 4, "{visit} visits tell nothing yet");
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{visit} visits, {prewarms} foreseen");
    }
}
