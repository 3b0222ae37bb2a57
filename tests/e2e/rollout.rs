//! A version on trial, on a real node: its share, who stays with which version, and what ends it.

use std::time::Duration;

use e2e::eventually;
use e2e::http::{Reply, Request, send};
use e2e::platform::Platform;
use serde_json::{Value, json};

const GOOD: &str = "export default { fetch() { return new Response('good'); } };";
const BETTER: &str = "export default { fetch() { return new Response('better'); } };";
const BAD: &str = "export default { fetch() { throw new Error('broken'); } };";
/// Heartbeats come every two seconds, and the control plane looks every second.
const JUDGED: Duration = Duration::from_secs(20);

/// What a client of that key gets.
fn ask(platform: &Platform, host: &str, key: u32) -> Reply {
    send(platform.http, &Request::new("GET", host, "/").header("X-Deployment-Key", &format!("client-{key}")))
}

fn versions(platform: &Platform, host: &str, clients: u32) -> Vec<u32> {
    (0..clients).map(|key| ask(platform, host, key).version().expect("a version")).collect()
}

fn rollout(platform: &Platform, name: &str, words: &[&str]) -> Value {
    let mut all = vec!["--json", "rollout"];
    all.extend(words);
    all.extend(["--name", name]);
    platform.cli(&all).json()
}

#[test]
fn a_share_of_the_clients_gets_the_new_version_and_stays_with_it() {
    let platform = Platform::start();
    let deployed = platform.deploy("shop", GOOD);
    assert_eq!(platform.api().upload_ok(&deployed.id, BETTER), 2);
    let started = rollout(&platform, "shop", &["set", "2", "--percent", "25"]);
    assert_eq!((started["status"].as_str(), started["percent"].as_f64()), (Some("running"), Some(25.0)));

    let quarter = versions(&platform, &deployed.host, 200);
    let new = quarter.iter().filter(|version| **version == 2).count();
    assert!((25..80).contains(&new), "{new} of 200 clients got the new version");
    assert_eq!(versions(&platform, &deployed.host, 200), quarter, "who has a version stays with it");
    assert!(quarter.iter().zip(0..).all(|(version, key)| {
        let wanted = if *version == 2 { "better" } else { "good" };
        ask(&platform, &deployed.host, key).text() == wanted
    }));

    rollout(&platform, "shop", &["set", "2", "--percent", "60"]);
    let more = versions(&platform, &deployed.host, 200);
    assert!(more.iter().zip(&quarter).all(|(now, before)| now >= before), "nobody goes back as the share grows");
    assert!(more.iter().filter(|version| **version == 2).count() > new);

    // Whoever names a version gets it, whatever their key; another than the two is as none.
    let pinned = |version: &str, key: &str| {
        let request = Request::new("GET", &deployed.host, "/").header("X-Deployment-Version", version);
        send(platform.http, &request.header("X-Deployment-Key", key)).version()
    };
    for key in 0..20 {
        let key = format!("client-{key}");
        assert_eq!((pinned("v1", &key), pinned("2", &key)), (Some(1), Some(2)));
    }
    assert_eq!(pinned("v9", "client-3"), ask(&platform, &deployed.host, 3).version());

    let fares = eventually("heartbeats say how it fares", JUDGED, || {
        let shown = rollout(&platform, "shop", &["show"]);
        let count = |which: &str| shown[which]["requests"].as_u64();
        (count("candidate")? > 100 && count("active")? > 100).then_some(shown)
    });
    assert_eq!((fares["candidate"]["errors"].as_u64(), fares["active"]["errors"].as_u64()), (Some(0), Some(0)));

    let done = rollout(&platform, "shop", &["set", "2", "--percent", "100"]);
    assert_eq!(done["status"], "completed");
    platform.await_version(&deployed.host, 2);
    assert!(versions(&platform, &deployed.host, 40).iter().all(|version| *version == 2));
    let back = platform.cli(&["--json", "rollback", "--name", "shop"]).json();
    assert_eq!(back["version"]["version_number"], 1, "as after any activation");
}

#[test]
fn a_version_whose_requests_fail_goes_back_by_itself() {
    let platform = Platform::start();
    let deployed = platform.deploy("shop", GOOD);
    assert_eq!(platform.api().upload_ok(&deployed.id, BAD), 2);
    rollout(&platform, "shop", &["set", "2", "--percent", "50", "--error-limit", "10"]);
    let failing = (0..100).filter(|key| ask(&platform, &deployed.host, *key).status == 500).count();
    assert!((25..75).contains(&failing), "{failing} of 100 clients get the broken version");
    let ended = eventually("the rollout ends by itself", JUDGED, || {
        // A token has a rate.
        std::thread::sleep(Duration::from_millis(100));
        let shown = rollout(&platform, "shop", &["show"]);
        (shown["status"] != "running").then_some(shown)
    });
    assert_eq!(ended["status"], "rolled_back");
    assert!(ended["reason"].as_str().is_some_and(|reason| reason.contains("requests failed")), "{ended}");
    eventually("all clients get the version before", JUDGED, || {
        (0..100).all(|key| ask(&platform, &deployed.host, key).text() == "good").then_some(())
    });
    let listed = platform.api().ok("GET", &format!("/v1/deployments/{}", deployed.id), None);
    assert_eq!((listed["status"].as_str(), &listed["active_version"]["version_number"]), (Some("active"), &json!(1)));
}

#[test]
fn what_cannot_be_on_trial_is_refused_and_an_activation_ends_a_rollout() {
    let platform = Platform::start();
    let deployed = platform.deploy("shop", GOOD);
    let api = platform.api();
    assert_eq!((api.upload_ok(&deployed.id, BETTER), api.upload_ok(&deployed.id, GOOD)), (2, 3));
    let refused = |words: &[&str]| {
        let run = platform.cli(&[&["rollout"], words, &["--name", "shop"]].concat());
        assert_ne!(run.code, 0, "{words:?}");
        run.stderr
    };
    assert!(refused(&["show"]).contains("rollout"));
    assert!(refused(&["stop"]).contains("rollout"));
    assert!(refused(&["set", "1", "--percent", "10"]).contains("active"));
    assert!(refused(&["set", "7", "--percent", "10"]).contains("version"));
    assert!(refused(&["set", "2", "--percent", "0"]).contains("percent"));
    assert!(refused(&["set", "2", "--percent", "101"]).contains("percent"));

    rollout(&platform, "shop", &["set", "2", "--percent", "50"]);
    let stopped = rollout(&platform, "shop", &["stop"]);
    assert_eq!(stopped["status"], "stopped");
    eventually("all get the active version", JUDGED, || {
        versions(&platform, &deployed.host, 30).iter().all(|version| *version == 1).then_some(())
    });
    rollout(&platform, "shop", &["set", "2", "--percent", "50"]);
    api.activate(&deployed.id, 3);
    platform.await_version(&deployed.host, 3);
    assert!(versions(&platform, &deployed.host, 30).iter().all(|version| *version == 3));
    assert_eq!(rollout(&platform, "shop", &["show"])["status"], "stopped");
}
