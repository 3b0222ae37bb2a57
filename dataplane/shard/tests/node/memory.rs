//! A node with less memory than its isolates want: it evicts, it sheds, it never dies, and it recovers by itself.

use crate::common::{Deployed, Response, TestNode, active, eventually};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;
/// What this process has before any Worker is about 60 MB.
const BUDGET: u64 = 256 * MIB;
/// What may be past the budget: what one shard allocates between two readings, and freed memory that is not given back yet.
const SLACK: u64 = 64 * MIB;

/// Keeps 6 MB of buffers and some of heap from its first request on; `/hold` waits, `/grow` takes 60 MB, 1 MB at a time.
const KEEPS: &str = r#"
const kept = [new Uint8Array(6 << 20).fill(1), Array.from({ length: 20000 }, (_, i) => ({ i, text: "x" + i }))];
const pause = (ms) => new Promise((done) => setTimeout(done, ms));
export default { async fetch(request) {
  const { pathname } = new URL(request.url);
  if (pathname === "/hold") await pause(700);
  if (pathname === "/grow") {
    const more = [];
    while (more.length < 60) { more.push(new Uint8Array(1 << 20).fill(1)); await pause(20); }
  }
  return new Response("kept " + kept.length);
} }"#;

/// But for pages of files.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("readable");
    let pages = |at| statm.split(' ').nth(at).and_then(|pages| pages.parse::<u64>().ok()).expect("a number");
    (pages(1) - pages(2)) * 4096
}

fn node(workers: usize) -> TestNode {
    let names: Vec<String> = (0..workers).map(|number| format!("w{number}")).collect();
    let deployed: Vec<Deployed<'_>> =
        names.iter().map(|name| Deployed { cpu_ms: 2_000, ..active(name, KEEPS) }).collect();
    TestNode::start(&deployed, |config| config.memory_bytes = Some(BUDGET))
}

/// Served, or shed with the reason and the time to come again. Whether it was served.
fn served(response: &Response) -> bool {
    if response.status == 200 {
        assert_eq!(response.text(), "kept 2");
        return true;
    }
    assert_eq!((response.status, response.text()), (503, "503: overloaded, try again later\n"), "{response:?}");
    assert_eq!(response.header("retry-after"), Some("1"));
    false
}

/// Asks each Worker for `path` on a thread of its own; how many were served, and the most memory that the process had meanwhile.
fn ask_all(node: &TestNode, workers: usize, path: &str) -> (usize, u64) {
    let (over, most) = (AtomicBool::new(false), AtomicU64::new(0));
    let served = thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                most.fetch_max(resident(), Ordering::Relaxed);
                thread::sleep(Duration::from_millis(1));
            }
        });
        let asked = |number| scope.spawn(move || served(&node.connect().get(&format!("w{number}"), path)));
        let asked: Vec<_> = (0..workers).map(asked).collect();
        let count = asked.into_iter().map(|asked| usize::from(asked.join().expect("answered"))).sum();
        over.store(true, Ordering::Relaxed);
        count
    });
    (served, most.into_inner())
}

#[test]
fn idle_workers_make_room_for_others() {
    let node = node(60);
    let metrics = &node.metrics.shards()[0];
    let mut client = node.connect();
    for round in 0..2 {
        for number in 0..60 {
            assert!(served(&client.get(&format!("w{number}"), "/")), "round {round}, Worker {number}");
            let resident = resident();
            assert!(resident < BUDGET + SLACK, "{} MB", resident / MIB);
        }
    }
    assert!(metrics.memory_evictions.get() > 60, "{}", metrics.memory_evictions.get());
    assert!(metrics.worker_starts.get() > 90, "the least recently used one was evicted each time");
    assert_eq!((metrics.memory_refusals.get(), metrics.memory_ends.get()), (0, 0));
    // The one that was used last is still there.
    let starts = metrics.worker_starts.get();
    assert!(served(&client.get("w59", "/")));
    assert_eq!(metrics.worker_starts.get(), starts);
    eventually("what they hold is counted", || metrics.worker_memory_bytes.get() > 7 * MIB);
    let text = node.metrics.render(0);
    assert!(text.contains(&format!("selvage_memory_budget_bytes {BUDGET}")), "{text}");
}

#[test]
fn without_idle_workers_new_ones_are_refused_until_there_is_memory() {
    let node = node(60);
    let (some, most) = ask_all(&node, 60, "/hold");
    let metrics = &node.metrics.shards()[0];
    let refused = metrics.memory_refusals.get();
    assert!(some >= 10 && refused >= 10, "{some} served, {refused} refused");
    assert!(most < BUDGET + SLACK, "{} MB", most / MIB);
    assert!(metrics.failures("overloaded") >= refused);
    // All have been answered: whoever was refused is served now.
    let mut client = node.connect();
    for number in 0..60 {
        assert!(served(&client.get(&format!("w{number}"), "/")), "Worker {number}");
    }
    assert!(metrics.memory_evictions.get() > 0);
}

#[test]
fn workers_that_grow_together_past_the_budget_are_ended_one_by_one() {
    let node = node(12);
    let begun = Instant::now();
    let (some, most) = ask_all(&node, 12, "/grow");
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    let metrics = &node.metrics.shards()[0];
    let ended = metrics.memory_ends.get();
    assert!(some >= 1 && ended >= 3, "{some} served, {ended} ended");
    assert!(most < BUDGET + SLACK, "{} MB", most / MIB);
    assert!(served(&node.connect().get("w0", "/")), "and it is served again");
    assert_eq!((metrics.panics.get(), metrics.restarts.get()), (0, 0));
}

#[test]
fn a_worker_that_is_ended_for_memory_is_told_so_in_its_log() {
    let node = node(8);
    let (some, _) = ask_all(&node, 8, "/grow");
    let ended = node.metrics.shards()[0].memory_ends.get();
    assert!(some >= 1 && ended >= 1, "{some} served, {ended} ended");
    let texts = node.logs.texts();
    let told = texts.iter().filter(|text| text.starts_with("the Worker was ended for want of memory on its node: "));
    assert_eq!(told.count() as u64, ended, "{texts:?}");
}
