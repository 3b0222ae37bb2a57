//! What a panic of ours may take with it (docs/decisions/2026-11-21-panics.md). The fault is put in from outside: a log
//! sink that panics on a certain text, called wherever a Worker's effects are taken.

use crate::common::{Deployed, PANIC, TestNode, active, eventually, get};

const HELLO: &str = "export default { fetch() { return new Response('hello') } }";

const WORKER: &str = "export default {
    fetch(request, env, ctx) {
        const { pathname } = new URL(request.url);
        if (pathname === '/now') console.log('PANIC');
        if (pathname === '/later') ctx.waitUntil(new Promise((done) => setTimeout(() => { console.log('PANIC'); done(); }, 20)));
        return new Response('fine');
    },
};";

fn node() -> TestNode {
    let source = WORKER.replace("PANIC", PANIC);
    TestNode::start(&[active("faulty", &source), active("neighbour", HELLO)], |_| {})
}

#[test]
fn a_panic_in_a_connections_task_costs_that_connection_and_worker() {
    let node = node();
    let mut bystander = node.connect();
    assert_eq!(bystander.get("neighbour", "/").text(), "hello");
    assert_eq!(node.connect().get("faulty", "/").text(), "fine");
    let mut victim = node.connect();
    victim.send(get("faulty", "/now").as_bytes());
    assert!(victim.rest().is_empty(), "a connection whose task panicked says nothing more");
    eventually("the panic is counted", || node.metrics.shards()[0].panics.get() == 1);
    assert_eq!(bystander.get("neighbour", "/").text(), "hello", "on the same connection as before");
    assert_eq!(node.connect().get("faulty", "/").text(), "fine", "in a new isolate");
    assert_eq!(node.metrics.shards()[0].restarts.get(), 0);
}

#[test]
fn a_panic_outside_of_a_connection_costs_the_shard_a_restart_at_most() {
    let node = node();
    assert_eq!(node.connect().get("faulty", "/later").text(), "fine");
    let shard = &node.metrics.shards()[0];
    eventually("the panic is counted", || shard.panics.get() + shard.restarts.get() == 1);
    assert_eq!(node.connect().get("neighbour", "/").text(), "hello", "the first connection after it");
    assert_eq!(node.connect().get("faulty", "/").text(), "fine");
}

const WAITS: &str = r#"let runs = 0; export default { async fetch(request) {
    const { pathname } = new URL(request.url);
    if (pathname === "/fault") console.log("PANIC");
    if (pathname === "/fetch") await fetch("http://127.0.0.1:1/").catch(() => {});
    if (pathname === "/read") await request.text();
    const run = ++runs;
    await new Promise((done) => setTimeout(done, 500));
    return new Response(pathname + run);
} };"#;

#[test]
fn what_shared_an_isolate_with_a_panic_is_tried_again_where_that_is_safe() {
    let source = WAITS.replace("PANIC", PANIC);
    let node = TestNode::start(&[active("w", &source)], |_| {});
    let waiting = |method: &str, path: &str, length: usize| {
        let mut client = node.connect();
        let head = format!("{method} {path} HTTP/1.1\r\nHost: w.workers.localhost\r\nContent-Length: {length}\r\n\r\n");
        client.send((head + &"x".repeat(length)).as_bytes());
        client
    };
    let mut safe = [waiting("GET", "/a", 0), waiting("HEAD", "/b", 0)];
    let mut unsafe_ones = [waiting("POST", "/c", 0), waiting("GET", "/fetch", 0), waiting("GET", "/read", 3)];
    let shard = &node.metrics.shards()[0];
    eventually("its outbound request failed", || shard.fetch_failures.get() == 1);
    // Its own connection ends; or, where its turn was interrupted and goes on later, it is answered as the others are.
    let mut own = node.connect();
    own.send(b"GET /fault HTTP/1.1\r\nHost: w.workers.localhost\r\nConnection: close\r\n\r\n");
    let own = own.rest();
    let answered = u64::from(own.starts_with(b"HTTP/1.1 503 "));
    assert!(answered == 1 || own.is_empty(), "{}", own.escape_ascii());
    let [a, b] = &mut safe;
    assert!(a.response().text().starts_with("/a"));
    assert_eq!(b.head().status, 200);
    for client in &mut unsafe_ones {
        let response = client.response();
        assert_eq!((response.status, response.text()), (503, "503: the Worker was stopped\n"));
    }
    assert_eq!((shard.request_retries.get(), shard.panics.get(), shard.worker_starts.get()), (2, 1, 2));
    assert_eq!(shard.failures("condemned"), 3 + answered);
}

const APART: &str = "export default { async fetch(request) {
    const { pathname } = new URL(request.url);
    if (pathname === '/hold') new Float64Array(3e6).map((_, i) => i * 7919 % 1000003).sort();
    if (pathname === '/fault') console.log('PANIC');
    if (pathname === '/wait') {
        console.log('waits');
        await new Promise((done) => setTimeout(done, 500));
    }
    return new Response(pathname);
} };";

/// The fault comes while the shard carries out what a Worker did on the apart thread.
#[test]
fn a_panic_over_a_worker_of_the_apart_thread_ends_its_requests_and_none_that_was_in_hand_is_tried_again() {
    let source = APART.replace("PANIC", PANIC);
    let node = TestNode::start(&[Deployed { cpu_ms: 30_000, ..active("w", &source) }], |_| {});
    let shard = &node.metrics.shards()[0];
    assert_eq!(node.connect().get("w", "/hold").status, 200);
    assert_eq!(shard.quarantines.get(), 1);
    let mut waiting = ["GET", "POST"].map(|method| {
        let mut client = node.connect();
        let head = format!("{method} /wait HTTP/1.1\r\nHost: w.workers.localhost\r\nContent-Length: 0\r\n\r\n");
        client.send(head.as_bytes());
        client
    });
    eventually("both have begun", || node.logs.texts().iter().filter(|text| *text == "waits").count() == 2);
    let fault = node.connect().get("w", "/fault");
    let stopped = (503, "503: the Worker was stopped\n");
    assert_eq!((fault.status, fault.text()), stopped);
    let [safe, unsafe_one] = waiting.each_mut().map(|client| client.response());
    assert_eq!((safe.status, safe.text()), (200, "/wait"));
    assert_eq!((unsafe_one.status, unsafe_one.text()), stopped);
    assert_eq!((shard.request_retries.get(), shard.panics.get(), shard.worker_starts.get()), (1, 1, 3));
    assert_eq!((shard.failures("condemned"), shard.restarts.get()), (2, 0));
}
