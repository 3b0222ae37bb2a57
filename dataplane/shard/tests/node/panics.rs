//! What a panic of ours may take with it (docs/decisions/2026-11-21-panics.md). The fault is put in from outside: a log
//! sink that panics on a certain text, called wherever a Worker's effects are taken.

use crate::common::{PANIC, TestNode, active, eventually, get};

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
