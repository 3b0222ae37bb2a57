//! Activations under load: nobody is harmed, and the new version serves at once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use e2e::http::{Connection, Request};
use e2e::load::Load;
use e2e::platform::Platform;
use e2e::{eventually, full};

/// Seed 000 and the specification: activation to served, p99.
const SERVED_MAX: Duration = Duration::from_millis(100);
/// What the short form asserts, on a machine that runs other tests beside it; the long form asserts [`SERVED_MAX`].
const SERVED_MAX_SHARED: Duration = Duration::from_secs(2);

#[test]
fn alternating_activations_under_load_harm_nobody() {
    let platform = Platform::start();
    let rounds: usize = if full() { 100 } else { 30 };
    let worker = |text: &str| format!("export default {{ fetch() {{ return new Response({text:?}); }} }};");
    let deployed = platform.deploy("swap", &worker("one"));
    let api = platform.api();
    let second = api.upload_ok(&deployed.id, &worker("two"));
    let load = Load::start(platform.http, &deployed.host, 400);
    let probe = Probe::start(&platform, &deployed.host);
    let mut times: Vec<Duration> = Vec::new();
    for round in 0..rounds {
        let version = if round % 2 == 0 { second } else { 1 };
        let begun = Instant::now();
        let activation = api.activate(&deployed.id, version);
        assert_eq!(activation["nodes_acked"], 1, "{activation}");
        let first = eventually("the version is served", Duration::from_secs(20), || probe.first(version, begun));
        times.push(first.saturating_duration_since(begun));
        std::thread::sleep(Duration::from_millis(10));
    }
    let mixed = probe.finish();
    let seen = load.finish();
    times.sort_unstable();
    let p99 = times[(rounds * 99).div_ceil(100) - 1];
    println!("{rounds} activations: served p50 {:?}, p99 {p99:?}; load: {}", times[rounds / 2], seen.summary());
    assert_eq!(seen.failures, 0, "{:?}", seen.failure_texts);
    assert!(seen.latencies.len() > rounds, "there was a load");
    assert_eq!(mixed, 0, "a body of one version under the number of another");
    assert!(p99 <= if full() { SERVED_MAX } else { SERVED_MAX_SHARED }, "p99 {p99:?}");
}

/// A client that asks all the time and notes when the version changes.
struct Probe {
    stop: Arc<AtomicBool>,
    changes: Arc<Mutex<Vec<(Instant, u32)>>>,
    thread: std::thread::JoinHandle<u64>,
}

impl Probe {
    fn start(platform: &Platform, host: &str) -> Probe {
        let (stop, changes) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let (http, request) = (platform.http, Request::new("GET", host, "/"));
        let (thread_stop, thread_changes) = (Arc::clone(&stop), Arc::clone(&changes));
        let thread = std::thread::spawn(move || {
            let mut connection = Connection::open(http).expect("the node listens");
            let (mut last, mut mixed) = (0, 0);
            while !thread_stop.load(Ordering::Relaxed) {
                let reply = connection.exchange(&request).expect("the node answers");
                let version = reply.version().expect("a version");
                let body = if version == 1 { "one" } else { "two" };
                mixed += u64::from(reply.text() != body);
                if version != last {
                    last = version;
                    thread_changes.lock().expect("no thread panics with it").push((Instant::now(), version));
                }
                std::thread::sleep(Duration::from_micros(500));
            }
            mixed
        });
        Probe { stop, changes, thread }
    }

    /// When `version` was first seen after `begun`.
    fn first(&self, version: u32, begun: Instant) -> Option<Instant> {
        let changes = self.changes.lock().expect("no thread panics with it");
        changes.iter().find(|(at, seen)| *at >= begun && *seen == version).map(|(at, _)| *at)
    }

    fn finish(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the probe does not panic")
    }
}
