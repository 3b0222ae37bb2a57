//! Processes killed at any moment: the control plane in the middle of deployments, the node with nobody to ask, a snapshot spoilt on
//! disk. What serves goes on serving, and nothing is half-written.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use e2e::full;
use e2e::load::Load;
use e2e::platform::{PUSH_TIMEOUT, Platform};
use e2e::random::Random;
use serde_json::Value;

fn worker(text: &str) -> String {
    format!("export default {{ fetch() {{ return new Response({text:?}); }} }};")
}

#[test]
fn the_control_plane_is_killed_at_random_moments_of_deployments() {
    let mut platform = Platform::start();
    let steady = platform.deploy("steady", &worker("steady"));
    let moving = platform.deploy("moving", &worker("0"));
    let node_pid = platform.node.pid();
    let mut random = Random::new(0xdead);
    let load = Load::start(platform.http, &steady.host, 100);
    let kills = if full() { 60 } else { 12 };
    for kill in 0..kills {
        let api = platform.api();
        let (id, text) = (moving.id.clone(), format!("{kill}"));
        let deploying = std::thread::spawn(move || {
            // Deploys as fast as it can until the control plane is gone.
            let mut acknowledged = None;
            for round in 0.. {
                let module = worker(&format!("{text}.{round}"));
                let upload = api.upload_request(&id, module.as_bytes());
                let opened = e2e::http::Connection::open(api.address);
                let Ok(reply) = opened.and_then(|mut connection| connection.exchange(&upload)) else { break };
                let envelope: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
                let Some(version) = envelope["result"]["version_number"].as_u64().filter(|_| reply.status == 201)
                else {
                    break;
                };
                match api.try_call("PUT", &format!("/v1/deployments/{id}/versions/{version}"), None) {
                    Ok((200, _)) => acknowledged = Some((version, format!("{text}.{round}"))),
                    _ => break,
                }
            }
            acknowledged
        });
        std::thread::sleep(Duration::from_millis(20 + random.below(400) as u64));
        platform.control.kill();
        let acknowledged = deploying.join().expect("the deploying thread does not panic");
        // Nodes do not notice.
        assert_eq!(platform.get(&steady.host, "/").text(), "steady");
        assert_eq!(platform.get(&moving.host, "/").status, 200);
        platform.restart_control();
        platform.await_connected();
        consistent(&platform, &moving, acknowledged);
    }
    let seen = load.finish();
    println!("{kills} kills; load: {}", seen.summary());
    assert_eq!(seen.failures, 0, "{:?}", seen.failure_texts);
    assert_eq!(platform.node.pid(), node_pid);
    assert!(platform.node.is_running());
    let last = platform.redeploy(&moving, &worker("last"));
    assert_eq!(platform.get(&moving.host, "/").version(), Some(last));
}

/// After a restart: the states are ones at rest, an acknowledged activation was not lost, and the node serves what the API says.
fn consistent(platform: &Platform, moving: &e2e::api::Deployed, acknowledged: Option<(u64, String)>) {
    let api = platform.api();
    let settled = e2e::eventually("the deployment is at rest", PUSH_TIMEOUT, || {
        let deployment = api.ok("GET", &format!("/v1/deployments/{}", moving.id), None);
        let status = deployment["status"].as_str()?.to_owned();
        (status == "active" || status == "failed").then_some(deployment)
    });
    let active = settled["active_version"]["version_number"].as_u64().expect("a version is active");
    if let Some((version, _)) = &acknowledged {
        assert!(active >= *version, "v{version} was acknowledged, v{active} is active");
    }
    // An upload that was cut off in its validation is validated again, beside what the control plane serves meanwhile.
    let versions = e2e::eventually("no version is half done", PUSH_TIMEOUT, || {
        let versions = api.ok("GET", &format!("/v1/deployments/{}/versions", moving.id), None);
        let versions = versions.as_array().expect("a list").clone();
        versions.iter().all(|version| version["status"] != "validating").then_some(versions)
    });
    let mut numbers: Vec<u64> = versions.iter().filter_map(|version| version["version_number"].as_u64()).collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), versions.len(), "a number was given twice");
    platform.await_version(&moving.host, active as u32);
    let reply = platform.get(&moving.host, "/");
    assert_eq!(reply.status, 200, "{}", reply.text());
    if let Some((version, text)) = acknowledged.filter(|(version, _)| *version == active) {
        assert_eq!(reply.text(), text, "v{version}");
    }
}

#[test]
fn a_killed_node_serves_its_last_snapshot_without_a_control_plane() {
    let mut platform = Platform::start();
    let one = platform.deploy("one", &worker("one"));
    let secret = serde_json::json!({"type": "secret", "value": "kept"});
    platform.api().ok("PUT", &format!("/v1/deployments/{}/env/KEY", one.id), Some(&secret));
    let version = platform.redeploy(&one, "export default { fetch(r, env) { return new Response(env.KEY); } };");
    platform.control.kill();
    for with_control in [false, true, true] {
        platform.node.kill();
        platform.restart_node(with_control);
        let reply = platform.await_status(&one.host, "/", 200);
        assert_eq!((reply.text(), reply.version()), ("kept".to_owned(), Some(version)));
    }
    // And the way back: the control plane is there again, and the node takes what it has to say.
    platform.restart_control();
    platform.await_connected();
    platform.redeploy(&one, &worker("back"));
    assert_eq!(platform.get(&one.host, "/").text(), "back");
}

#[test]
fn a_control_plane_from_a_backup_goes_past_what_its_nodes_have_seen() {
    let mut platform = Platform::start();
    let deployed = platform.deploy("restored", &worker("backed up"));
    let (data, backup) = (platform.folder().join("control"), platform.folder().join("backup"));
    let copy = |from: &Path, to: &Path| {
        let done = Command::new("cp").arg("-a").arg(from).arg(to).status().expect("cp can be started");
        assert!(done.success(), "{from:?} to {to:?}");
    };
    let node = |platform: &Platform| platform.api().ok("GET", "/v1/nodes", None)[0].clone();
    platform.control.kill();
    copy(&data, &backup);
    platform.restart_control();
    platform.await_connected();
    for text in ["lost", "lost too"] {
        platform.redeploy(&deployed, &worker(text));
    }
    let seen = node(&platform)["generation"].as_u64().expect("a generation");

    platform.control.kill();
    assert_eq!(platform.get(&deployed.host, "/").text(), "lost too", "nodes do not notice");
    std::fs::remove_dir_all(&data).expect("the control plane's folder");
    copy(&backup, &data);
    platform.restart_control();
    // What the store says is what serves, in a generation that the node takes; and so on from there.
    platform.await_version(&deployed.host, 1);
    assert_eq!(platform.get(&deployed.host, "/").text(), "backed up");
    e2e::eventually("the node is where the control plane is, and that is past what it had seen", PUSH_TIMEOUT, || {
        let node = node(&platform);
        (node["generation"].as_u64()? > seen && node["lag"] == 0).then_some(())
    });
    platform.redeploy(&deployed, &worker("after"));
    assert_eq!(platform.get(&deployed.host, "/").text(), "after");
}

#[test]
fn a_node_that_was_never_told_anything_says_so() {
    let mut platform = Platform::start();
    platform.control.kill();
    platform.node.kill();
    std::fs::remove_dir_all(platform.node_data()).expect("the node's folder");
    platform.restart_node(false);
    let reply = platform.get("one.workers.localhost", "/");
    assert_eq!(reply.status, 503);
    assert!(reply.text().contains("no configuration"), "{}", reply.text());
    let ready = e2e::http::get(platform.admin, "localhost", "/readyz");
    assert_eq!(ready.status, 503);
    assert_eq!(e2e::http::get(platform.admin, "localhost", "/healthz").status, 200);
}

#[test]
fn a_spoilt_snapshot_is_not_served() {
    let mut platform = Platform::start();
    let one = platform.deploy("one", &worker("one"));
    platform.redeploy(&one, &worker("two"));
    platform.control.kill();
    platform.node.kill();
    let mut snapshots = snapshots(&platform);
    assert!(snapshots.len() >= 2, "the last good one and one before it: {snapshots:?}");
    let newest = snapshots.pop().expect("there are some");
    let good = std::fs::read(&newest).expect("a snapshot");
    let mut random = Random::new(0x00c0_ffee);
    let mut spoilt: Vec<(String, Vec<u8>)> = vec![
        ("empty".into(), Vec::new()),
        ("cut in half".into(), good[..good.len() / 2].to_vec()),
        ("one byte short".into(), good[..good.len() - 1].to_vec()),
        ("zeros".into(), vec![0; good.len()]),
        ("noise".into(), random.bytes(good.len())),
    ];
    for _ in 0..if full() { 40 } else { 8 } {
        let (at, bit) = (random.below(good.len()), random.below(8));
        let mut bytes = good.clone();
        bytes[at] ^= 1 << bit;
        spoilt.push((format!("bit {bit} of byte {at}"), bytes));
    }
    for (what, bytes) in spoilt {
        std::fs::write(&newest, bytes).expect("a file");
        platform.restart_node(false);
        let begun = Instant::now();
        let reply = platform.await_status(&one.host, "/", 200);
        // The one before, whole; never a mixture, never nothing.
        assert_eq!((reply.text(), reply.version()), ("one".to_owned(), Some(1)), "{what}, after {:?}", begun.elapsed());
        platform.node.kill();
    }
    // The control plane makes it good again.
    platform.restart_control();
    platform.restart_node(true);
    platform.await_version(&one.host, 2);
}

/// Snapshot files of the node, oldest first: their names are their order.
fn snapshots(platform: &Platform) -> Vec<std::path::PathBuf> {
    let folder = std::fs::read_dir(platform.node_data().join("snapshots")).expect("a folder");
    let mut found: Vec<_> = folder.filter_map(Result::ok).map(|entry| entry.path()).collect();
    found.retain(|path| path.extension().is_none());
    found.sort();
    found
}
