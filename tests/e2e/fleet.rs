//! Where nodes stand and what they are to do with requests, on a real node.

use std::time::Duration;

use e2e::eventually;
use e2e::http::{Reply, get};
use e2e::platform::Platform;
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(20);
const WORKER: &str = "export default { fetch() { return new Response('here'); } };";

fn nodes(platform: &Platform, words: &[&str]) -> Value {
    platform.cli(&[&["--json", "nodes"], words].concat()).json()
}

fn ready(platform: &Platform) -> Reply {
    get(platform.admin, "admin.test", "/readyz")
}

#[test]
fn an_activation_that_does_not_reach_nine_of_ten_points_of_presence_fails_and_names_them() {
    let platform = Platform::start();
    let deployed = platform.deploy("shop", WORKER);
    for (pop, region) in [("fra1", "eu"), ("par1", "eu")] {
        let made = platform.cli(&["--json", "pops", "set", pop, region]).json();
        assert_eq!((made["name"].as_str(), made["region"].as_str()), (Some(pop), Some(region)));
    }
    assert_ne!(platform.cli(&["nodes", "place", "node-1", "nowhere1"]).code, 0, "there is no such place");
    let placed = nodes(&platform, &["place", "node-1", "fra1"]);
    assert_eq!((placed[0]["pop"].as_str(), placed[0]["region"].as_str()), (Some("fra1"), Some("eu")));
    assert_eq!(platform.redeploy(&deployed, &format!("// 2\n{WORKER}")), 2, "all of one place");

    // A node that has never come stands in the other.
    nodes(&platform, &["place", "node-2", "par1"]);
    let api = platform.api();
    let version = api.upload_ok(&deployed.id, &format!("// 3\n{WORKER}"));
    let path = format!("/v1/deployments/{}/versions/{version}", deployed.id);
    let (status, answer) = api.call("PUT", &path, None);
    let message = answer["errors"][0]["message"].as_str().unwrap_or_default();
    assert!(status == 502 && message.contains("1 of 2") && message.contains("par1"), "{status}: {answer}");
    platform.await_version(&deployed.host, 2);
    let shown = api.ok("GET", &format!("/v1/deployments/{}", deployed.id), None);
    assert_eq!((shown["status"].as_str(), &shown["active_version"]["version_number"]), (Some("failed"), &json!(2)));

    // One that is out of service does not count.
    nodes(&platform, &["cordon", "node-2"]);
    api.activate(&deployed.id, version);
    platform.await_version(&deployed.host, version);
    let listed = platform.cli(&["--json", "pops", "list"]).json();
    assert_eq!(listed.as_array().map(Vec::len), Some(2));
    let regions = api.ok("GET", "/v1/regions", None);
    assert_eq!(regions[0]["name"], "eu");
}

#[test]
fn a_cordoned_node_is_not_ready_and_a_draining_one_ends_connections() {
    let platform = Platform::start();
    let deployed = platform.deploy("shop", WORKER);
    let answers = |platform: &Platform| platform.get(&deployed.host, "/");
    assert_eq!((ready(&platform).status, answers(&platform).header("connection")), (200, None));

    assert_eq!(nodes(&platform, &["cordon", "node-1"])[0]["state"], "cordoned");
    let told = eventually("the node is not ready", SOON, || Some(ready(&platform)).filter(|it| it.status == 503));
    assert!(told.text().contains("cordoned"), "{told:?}");
    assert_eq!(
        (answers(&platform).status, answers(&platform).header("connection")),
        (200, None),
        "it serves what comes"
    );

    nodes(&platform, &["drain", "node-1"]);
    eventually("connections end", SOON, || {
        let reply = answers(&platform);
        assert_eq!(reply.status, 200);
        (reply.header("connection") == Some("close")).then_some(())
    });
    let shown = nodes(&platform, &["uncordon", "node-1"]);
    assert_eq!(shown[0]["state"], "serving");
    eventually("it serves again", SOON, || {
        (ready(&platform).status == 200 && answers(&platform).header("connection").is_none()).then_some(())
    });
    let loaded = eventually("its heartbeat says how busy it is", SOON, || {
        let node = nodes(&platform, &[])[0].clone();
        (node["load"]["requests"].as_u64()? >= 4).then_some(node)
    });
    assert_eq!((loaded["lag"].as_u64(), loaded["load"]["shards"].as_u64()), (Some(0), Some(1)));
    assert!(loaded["load"]["clock_ahead_ms"].as_i64().is_some_and(|ms| ms.abs() < 1_000), "{loaded}");
}
