//! Requests for Workers whose code is not on the node.

use crate::common::{Deployed, TestNode, active, eventually, get};
use base::id::DeploymentId;
use plane_abi::plane::artifact_hash;
use plane_abi::pull::Pulls;
use std::sync::Arc;

const HELLO: &str = "export default { fetch() { return new Response('hello') } }";
const CALLER: &str = "export default { fetch(request, env) { return env.HELLO.fetch(request) } }";

/// A node that can ask for code, with `hello`, which is not on it, and `caller`, which is.
fn without_hello() -> (TestNode, Arc<Pulls>) {
    let mut node = TestNode::start(&[], |_| {});
    let pulls = Arc::<Pulls>::default();
    node.pulls = Some(pulls.clone());
    let caller = Deployed { services: &[("HELLO", "hello")], ..active("caller", CALLER) };
    node.publish(&[active("hello", HELLO), caller]);
    std::fs::remove_file(node.artifact(HELLO)).expect("removed");
    (node, pulls)
}

fn asked(pulls: &Pulls) {
    eventually("its code is asked for", || pulls.open() == [artifact_hash(HELLO.as_bytes())]);
}

#[test]
fn requests_wait_for_code_that_is_on_its_way_and_it_is_asked_for_once() {
    let (node, pulls) = without_hello();
    let mut clients: Vec<_> = (0..20).map(|_| node.connect()).collect();
    clients.iter_mut().for_each(|client| client.send(get("hello", "/").as_bytes()));
    let mut through_another = node.connect();
    through_another.send(get("caller", "/").as_bytes());
    asked(&pulls);
    assert_eq!(node.connect().get("nobody", "/").status, 404, "others do not wait");
    std::fs::write(node.artifact(HELLO), HELLO).expect("written");
    pulls.end(artifact_hash(HELLO.as_bytes()), true);
    for client in clients.iter_mut().chain([&mut through_another]) {
        let response = client.response();
        assert_eq!((response.status, response.text()), (200, "hello"));
    }
    assert!(pulls.open().is_empty());
    let mut counted = 0;
    eventually("requests are counted", || {
        counted += node.metrics.shards()[0].take_traffic().get(&DeploymentId(1)).copied().unwrap_or_default();
        counted == 21
    });
}

#[test]
fn code_that_cannot_be_had_is_said_at_once_and_asked_for_again_by_the_next_request() {
    let (node, pulls) = without_hello();
    let mut client = node.connect();
    for _ in 0..2 {
        client.send(get("hello", "/").as_bytes());
        asked(&pulls);
        pulls.end(artifact_hash(HELLO.as_bytes()), false);
        let response = client.response();
        assert_eq!((response.status, response.text()), (503, "503: the Worker is not available on this node\n"));
    }
    // A damaged one is as one that is not there.
    std::fs::write(node.artifact(HELLO), "damaged").expect("written");
    client.send(get("hello", "/").as_bytes());
    asked(&pulls);
    std::fs::write(node.artifact(HELLO), HELLO).expect("written");
    pulls.end(artifact_hash(HELLO.as_bytes()), true);
    assert_eq!(client.response().text(), "hello");
}

#[test]
fn code_that_is_late_is_said_to_be_and_serves_when_it_is_there() {
    let (node, pulls) = without_hello();
    let mut client = node.connect();
    let response = client.get("hello", "/");
    assert_eq!((response.status, response.header("retry-after")), (503, Some("1")), "{}", response.text());
    assert_eq!(pulls.open().len(), 1, "it is still on its way");
    std::fs::write(node.artifact(HELLO), HELLO).expect("written");
    pulls.end(artifact_hash(HELLO.as_bytes()), true);
    assert_eq!(client.get("hello", "/").text(), "hello");
}

#[test]
fn a_node_that_cannot_ask_says_so_at_once() {
    let mut node = TestNode::start(&[], |_| {});
    node.publish(&[active("hello", HELLO)]);
    std::fs::remove_file(node.artifact(HELLO)).expect("removed");
    let response = node.connect().get("hello", "/");
    assert_eq!((response.status, response.text()), (503, "503: the Worker is not available on this node\n"));
}
