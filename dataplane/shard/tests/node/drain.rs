//! The end of a node: what is in flight ends, what is idle is closed, what is new is refused.

use crate::common::{TestNode, active, eventually, get};
use base::limits::MS_NS;
use std::net::TcpStream;
use std::time::{Duration, Instant};

const SLOW: &str = r#"
export default {
  async fetch(request, env, ctx) {
    const ms = Number(new URL(request.url).pathname.slice(1));
    if (ms > 0) await new Promise((done) => setTimeout(done, ms));
    return new Response("done");
  }
}"#;

#[test]
fn a_drain_lets_requests_finish_and_closes_the_idle() {
    let mut node = TestNode::start(&[active("a", SLOW)], |_| {});
    let mut idle = node.connect();
    assert_eq!(idle.get("a", "/0").text(), "done");
    let mut busy = node.connect();
    busy.send(get("a", "/600").as_bytes());
    eventually("both are open", || node.metrics.shards()[0].connections.get() == 2);
    std::thread::sleep(Duration::from_millis(100));
    let start = Instant::now();
    node.drain();
    assert!(idle.is_closed());
    assert!(start.elapsed() < Duration::from_millis(500), "idle connections are closed at once");
    eventually("new connections are refused", || TcpStream::connect(node.address).is_err());
    let response = busy.response();
    assert_eq!((response.text(), response.header("connection")), ("done", Some("close")));
    assert!(busy.is_closed());
    node.join();
}

#[test]
fn a_drain_ends_at_its_limit() {
    let mut node = TestNode::start(&[active("a", SLOW)], |config| config.timeouts.drain_ns = 300 * MS_NS);
    let mut busy = node.connect();
    busy.send(get("a", "/10000").as_bytes());
    eventually("it is open", || node.metrics.shards()[0].workers.get() == 1);
    let start = Instant::now();
    node.drain();
    node.join();
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(250) && took < Duration::from_secs(8), "{took:?}");
}
