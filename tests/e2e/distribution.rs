//! Modules that nodes have ahead, and those that come with the first request.

use std::time::Duration;

use e2e::eventually;
use e2e::platform::{Platform, Setup};

const SOON: Duration = Duration::from_secs(60);

fn worker(name: &str) -> String {
    format!("export default {{ fetch() {{ return new Response('{name}'); }} }};")
}

fn modules(platform: &Platform) -> usize {
    std::fs::read_dir(platform.node_data().join("artifacts")).expect("the node's folder").count()
}

#[test]
fn what_is_not_among_the_first_by_requests_comes_with_its_first_request_and_stays() {
    let mut platform = Platform::with(Setup { control_arguments: &["--push-top", "1"], ..Setup::default() });
    platform.deploy("one", &worker("one"));
    platform.deploy("two", &worker("two"));
    assert_eq!(modules(&platform), 2);
    eventually("one of them has no place among the first", SOON, || {
        // A token has a rate.
        std::thread::sleep(Duration::from_millis(200));
        let shown = platform.cli(&["config", "show", "--all"]).stdout;
        (shown.matches("\"o\": true").count() == 1).then_some(())
    });

    let api = platform.api();
    let project = api.project(&platform.account, "default");
    let three = api.create(&project, "three");
    let version = api.upload_ok(&three.id, &worker("three"));
    api.activate(&three.id, version);
    assert_eq!(modules(&platform), 2, "an activation that brings no module");
    assert_eq!(platform.metric("selvage_agent_pulled_total", &[]), 0);
    let reply = platform.get(&three.host, "/");
    assert_eq!((reply.status, reply.text()), (200, "three".into()));
    assert_eq!((modules(&platform), platform.metric("selvage_agent_pulled_total", &[])), (3, 1));

    platform.node.kill();
    platform.restart_node(false);
    let reply = platform.get(&three.host, "/");
    assert_eq!((reply.status, reply.text()), (200, "three".into()), "it is there without a control plane");
}

/// A Worker of that many bytes.
fn large(name: &str, bytes: usize) -> String {
    format!("{}\n/*{}*/", worker(name), "x".repeat(bytes))
}

#[test]
fn a_node_whose_disk_is_full_serves_what_it_has_says_why_and_goes_on_when_there_is_room() {
    const LARGE: usize = 8 << 20;
    if !rustix::process::geteuid().is_root() {
        e2e::skipped("a full disk: needs root");
        return;
    }
    let platform = Platform::with(Setup { node_disk_bytes: Some(14 << 20), ..Setup::default() });
    let small = platform.deploy("small", &worker("small"));
    let first = platform.deploy("first", &large("first", LARGE));
    let api = platform.api();
    let project = api.project(&platform.account, "default");
    let second = api.create(&project, "second");
    // A node's own trouble does not undo an activation.
    let (status, answer) = api.upload(&second.id, large("second", LARGE).as_bytes());
    let message = answer["messages"][0]["message"].as_str().unwrap_or_default();
    assert_eq!((status, message), (201, "1 of 1 connected nodes do not serve it yet"), "{answer}");
    let log = std::fs::read_to_string(platform.folder().join("node.log")).expect("the node's log");
    assert!(log.contains("No space left on device"), "it says why");
    assert_eq!(platform.metric("selvage_agent_refusals_total", &[]), 1);
    for (deployed, text) in [(&small, "small"), (&first, "first")] {
        let reply = platform.get(&deployed.host, "/");
        assert_eq!((reply.status, reply.text()), (200, text.to_owned()), "what serves goes on serving");
    }
    assert_eq!(platform.get(&second.host, "/").status, 404);

    for deployed in [&first, &second] {
        let (status, answer) = api.call("DELETE", &format!("/v1/deployments/{}", deployed.id), None);
        assert!(status < 300, "{status}: {answer}");
    }
    platform.await_status(&first.host, "/", 404);
    // Until no snapshot on disk names the first any more, a restart may need it.
    for number in 0..3 {
        platform.redeploy(&small, &format!("// {number}\n{}", worker("small")));
    }
    let third = platform.deploy("third", &large("third", LARGE));
    assert_eq!(platform.get(&third.host, "/").text(), "third");
}
