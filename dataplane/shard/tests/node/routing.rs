//! Which Worker answers, and what is said when none does.

use crate::common::{Deployed, TestNode, active, eventually, get};
use plane_abi::Status;

const HELLO: &str = "export default { fetch() { return new Response('hello') } }";

#[test]
fn no_configuration_no_route_and_paused() {
    let mut node = TestNode::start(&[], |_| {});
    let mut client = node.connect();
    let response = client.get("a", "/");
    assert_eq!((response.status, response.text()), (503, "503: no configuration yet\n"));
    let paused = Deployed { status: Status::Paused, ..active("p", HELLO) };
    node.publish(&[active("a", HELLO), paused]);
    assert_eq!(client.get("a", "/").text(), "hello");
    let response = client.get("b", "/");
    assert_eq!((response.status, response.header("x-deployment-version")), (404, None));
    let response = client.get("p", "/");
    assert_eq!((response.status, response.text()), (503, "503: this deployment is paused\n"));
    client.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    assert_eq!(client.response().status, 404, "no host, no Worker");
    assert_eq!(client.get("A", "/").text(), "hello");
}

#[test]
fn a_new_version_serves_at_the_next_request_of_an_open_connection() {
    let mut node = TestNode::start(&[active("a", HELLO)], |_| {});
    let mut client = node.connect();
    assert_eq!(client.get("a", "/").header("x-deployment-version"), Some("v1"));
    for version in 2..10 {
        let source = format!("export default {{ fetch() {{ return new Response('{version}') }} }}");
        node.publish(&[Deployed { version, ..active("a", &source) }]);
        let response = client.get("a", "/");
        assert_eq!(response.header("x-deployment-version"), Some(format!("v{version}").as_str()));
        assert_eq!(response.text(), version.to_string());
    }
    node.publish(&[]);
    assert_eq!(client.get("a", "/").status, 404);
    eventually("the Worker of a deleted deployment is dropped", || node.metrics.shards()[0].workers.get() == 0);
}

#[test]
fn a_request_in_flight_ends_on_the_version_it_began_with() {
    let slow =
        "export default { async fetch() { await new Promise((d) => setTimeout(d, 300)); return new Response('old') } }";
    let mut node = TestNode::start(&[active("a", slow)], |_| {});
    let mut old = node.connect();
    old.send(get("a", "/").as_bytes());
    eventually("the Worker is up", || node.metrics.shards()[0].workers.get() == 1);
    node.publish(&[Deployed { version: 2, ..active("a", HELLO) }]);
    assert_eq!(node.connect().get("a", "/").text(), "hello");
    let response = old.response();
    assert_eq!((response.text(), response.header("x-deployment-version")), ("old", Some("v1")));
}

#[test]
fn one_worker_serves_many_connections_and_keeps_its_state() {
    let counter = "let n = 0; export default { fetch() { return new Response(String(++n)) } }";
    let node = TestNode::start(&[active("a", counter)], |_| {});
    for count in 1..=5 {
        assert_eq!(node.connect().get("a", "/").text(), count.to_string());
    }
    assert_eq!(node.metrics.shards()[0].worker_starts.get(), 1);
}

#[test]
fn a_worker_that_does_not_start_is_not_started_for_every_request() {
    let node = TestNode::start(&[active("a", "throw new Error('secret')"), active("b", HELLO)], |_| {});
    let mut client = node.connect();
    for _ in 0..50 {
        let response = client.get("a", "/");
        assert_eq!((response.status, response.text()), (500, "500: the Worker failed to start\n"));
    }
    assert!(node.metrics.shards()[0].worker_start_failures.get() < 5);
    assert!(node.logs.texts().iter().any(|text| text.contains("secret")), "{:?}", node.logs.texts());
    assert_eq!(client.get("b", "/").text(), "hello");
}

#[test]
fn failures_reveal_nothing_and_are_logged() {
    let node = TestNode::start(&[active("a", "export default { fetch() { throw new Error('secret') } }")], |_| {});
    let response = node.connect().get("a", "/");
    assert_eq!((response.status, response.text()), (500, "500: the Worker threw an exception\n"));
    assert_eq!(response.header("x-deployment-version"), Some("v1"), "an operator sees which version fails");
    assert!(node.logs.texts().iter().any(|text| text.contains("secret")), "{:?}", node.logs.texts());
    assert_eq!(node.metrics.shards()[0].failures("exception"), 1);
}

#[test]
fn a_loop_ends_with_503_and_the_shard_goes_on() {
    let source = "export default { fetch(r) { if (r.url.endsWith('/loop')) for (;;); return new Response('fine') } }";
    let node = TestNode::start(&[active("a", source)], |_| {});
    let mut client = node.connect();
    assert_eq!(client.get("a", "/").text(), "fine");
    assert_eq!(client.get("a", "/loop").status, 503);
    assert_eq!(client.get("a", "/").text(), "fine");
    assert_eq!(node.metrics.shards()[0].failures("cpu_limit"), 1);
}

#[test]
fn several_shards_listen_on_one_port() {
    let node = TestNode::start(&[active("a", HELLO)], |config| config.shards = 3);
    for _ in 0..60 {
        assert_eq!(node.connect().get("a", "/").text(), "hello");
    }
    let serving = node.metrics.shards().iter().filter(|shard| shard.connections_accepted.get() > 0).count();
    assert!(serving > 1, "60 connections, all on one shard of three");
}

#[test]
fn the_garbage_of_an_idle_worker_is_collected_once_and_it_goes_on() {
    let counter = "let n = 0; export default { fetch() { return new Response(String(++n)) } }";
    let node = TestNode::start(&[active("a", counter)], |_| {});
    let shrinks = || node.metrics.shards()[0].worker_shrinks.get();
    assert_eq!(node.connect().get("a", "/").text(), "1");
    assert_eq!(shrinks(), 0);
    std::thread::sleep(std::time::Duration::from_nanos(shard::config::IDLE_NS));
    eventually("it is idle", || shrinks() == 1);
    std::thread::sleep(std::time::Duration::from_millis(1_500));
    assert_eq!(shrinks(), 1);
    assert_eq!(node.connect().get("a", "/").text(), "2", "the same isolate");
}

/// A shard that always has an open request collects its idle Workers' garbage all the same.
#[test]
fn the_garbage_of_an_idle_worker_is_collected_beside_a_request_that_stays_open() {
    let counter = "let n = 0; export default { fetch() { return new Response(String(++n)) } }";
    let echo = "export default { async fetch(request) { return new Response(await request.text()) } }";
    let node = TestNode::start(&[active("a", counter), active("b", echo)], |config| {
        config.timeouts.stall_ns = 120_000_000_000;
    });
    let mut open = node.connect();
    open.send(b"POST / HTTP/1.1\r\nHost: b.workers.localhost\r\nContent-Length: 2\r\n\r\no");
    assert_eq!(node.connect().get("a", "/").text(), "1");
    std::thread::sleep(std::time::Duration::from_nanos(shard::config::IDLE_NS));
    eventually("it is collected", || node.metrics.shards()[0].worker_shrinks.get() == 1);
    open.send(b"k");
    assert_eq!(open.response().text(), "ok", "open all the while");
    assert_eq!(node.connect().get("a", "/").text(), "2", "the same isolate");
}
