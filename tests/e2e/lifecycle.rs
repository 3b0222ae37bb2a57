//! The lives of isolates as the node's operator sees them: every step is counted on the admin listener.

use std::time::{Duration, Instant};

use e2e::eventually;
use e2e::platform::Platform;

const WORKER: &str = "export default { fetch(request) {
  const { pathname } = new URL(request.url);
  if (pathname === '/throw') throw new Error('of its own doing');
  if (pathname === '/loop') for (;;) {}
  return new Response('fine');
} };
";

fn transitions(platform: &Platform, from: &str, to: &str) -> u64 {
    platform.metric("selvage_isolate_transitions_total", &[("from", from), ("to", to)])
}

/// Waits until a transition has been made so many times more than `before`.
fn wait_for(platform: &Platform, from: &str, to: &str, before: u64, more: u64) {
    eventually(&format!("{more} more of {from} to {to}"), Duration::from_secs(10), || {
        (transitions(platform, from, to) >= before + more).then_some(())
    });
}

/// Sum over the transitions into a state, or out of it.
fn all(platform: &Platform, end: &str, state: &str) -> u64 {
    platform.metric("selvage_isolate_transitions_total", &[(end, state)])
}

/// Waits until the books are right: what came into a state has left it, or is one of the `alive` isolates.
fn balance(platform: &Platform, alive: u64) {
    let came_and_went = || {
        let rests = |state| all(platform, "to", state).checked_sub(all(platform, "from", state));
        let passed = ["loading", "compiling", "initializing", "executing", "error"].map(rests);
        let kept = ["ready", "idle"].map(rests).into_iter().sum::<Option<u64>>();
        let [born, gone] = [("from", "cold"), ("to", "evicted")].map(|(end, state)| all(platform, end, state));
        (passed, kept, born.checked_sub(gone), platform.metric("selvage_workers", &[]))
    };
    let wanted = ([Some(0); 5], Some(alive), Some(alive), alive);
    let begun = Instant::now();
    let mut seen = came_and_went();
    while seen != wanted {
        assert!(begun.elapsed() < Duration::from_secs(10), "{seen:?}, not {wanted:?}");
        std::thread::sleep(Duration::from_millis(20));
        seen = came_and_went();
    }
}

const START: [(&str, &str); 4] =
    [("cold", "loading"), ("loading", "compiling"), ("compiling", "initializing"), ("initializing", "ready")];

#[test]
fn every_step_of_an_isolate_is_counted() {
    let platform = Platform::start();
    for (from, to) in START {
        assert_eq!(transitions(&platform, from, to), 0, "{from} to {to} before there is any Worker");
    }
    let deployed = platform.deploy("lives", WORKER);
    for (from, to) in START {
        wait_for(&platform, from, to, 0, 1);
    }

    // It starts to execute with each request, one after the other, and is ready after each.
    balance(&platform, 1);
    let before = [("ready", "executing"), ("executing", "ready")].map(|(from, to)| transitions(&platform, from, to));
    for _ in 0..5 {
        assert_eq!(platform.get(&deployed.host, "/").text(), "fine");
    }
    wait_for(&platform, "ready", "executing", before[0], 5);
    wait_for(&platform, "executing", "ready", before[1], 5);
    balance(&platform, 1);
    let after = [("ready", "executing"), ("executing", "ready")].map(|(from, to)| transitions(&platform, from, to));
    assert_eq!(after, before.map(|before| before + 5), "and nothing more often");

    // An exception passes; the isolate is the same one.
    let starts = transitions(&platform, "cold", "loading");
    assert_eq!(platform.get(&deployed.host, "/throw").status, 500);
    wait_for(&platform, "executing", "error", 0, 1);
    wait_for(&platform, "error", "ready", 0, 1);
    assert_eq!(platform.get(&deployed.host, "/").text(), "fine");
    assert_eq!(transitions(&platform, "cold", "loading"), starts, "an exception needs no new isolate");

    // A limit does not: the isolate is given up and another takes its place.
    let evicted = transitions(&platform, "error", "evicted");
    assert_eq!(platform.get(&deployed.host, "/loop").status, 503);
    assert_eq!(platform.get(&deployed.host, "/").text(), "fine");
    wait_for(&platform, "error", "evicted", evicted, 1);
    wait_for(&platform, "cold", "loading", starts, 1);
    balance(&platform, 1);
    assert_eq!(transitions(&platform, "cold", "loading"), starts + 1, "one isolate took its place");
    assert_eq!(transitions(&platform, "error", "evicted"), evicted + 1);
}

#[test]
fn a_new_version_evicts_the_old_ones_isolate() {
    let platform = Platform::start();
    let deployed = platform.deploy("replaced", WORKER);
    let gone =
        |platform: &Platform| transitions(platform, "ready", "evicted") + transitions(platform, "idle", "evicted");
    let before = gone(&platform);
    platform.redeploy(&deployed, &format!("// 2\n{WORKER}"));
    eventually("the old isolate is evicted", Duration::from_secs(10), || (gone(&platform) > before).then_some(()));
    balance(&platform, 1);
}
