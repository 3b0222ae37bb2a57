//! How long a new isolate takes to its first answer: `cargo run --release -p worker-api --example cold [FILE] [ROUNDS] [SPARES] [keep]`.

// A benchmark reads the clock; the crate under it does not.
#![allow(clippy::disallowed_types, clippy::disallowed_methods)]

use std::time::{Duration, Instant};

use base::header::HeaderBlock;
use bytes::Bytes;
use worker_api::{
    Collecting, Effect, Engine, Event, IncomingBody, Now, RequestHead, RequestId, Spares, Worker, WorkerSpec,
};

fn main() {
    let path = std::env::args().nth(1).unwrap_or_else(|| "docs/examples/hono/worker.js".to_owned());
    let rounds = std::env::args().nth(2).and_then(|text| text.parse().ok()).unwrap_or(200u32);
    let source = Bytes::from(std::fs::read(path).expect("a module"));
    let now = Now { monotonic_ns: 1, unix_ms: 1_700_000_000_000 };
    let start = Instant::now();
    let engine = Engine::init().expect("engine");
    println!("engine {:?}", start.elapsed());
    let code = worker_api::compile_ahead(&engine, &source).map(Bytes::from);
    let count = std::env::args().nth(3).and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut spares = Spares::new(&engine, count);
    let mut starts = Vec::new();
    let mut answers = Vec::new();
    let mut drops = Vec::new();
    // With KEEP all live to the end, and what each has of memory is told.
    let keep = std::env::args().any(|argument| argument == "keep");
    let (mut kept, mut shrinks, mut again) = (Vec::new(), Vec::new(), Vec::new());
    let before = resident_bytes();
    for _ in 0..rounds {
        let spec = WorkerSpec { code_cache: code.clone(), ..WorkerSpec::new(source.clone(), now) };
        while spares.refill_step() {}
        let start = Instant::now();
        let mut worker = Worker::start_in(spares.claim(), &engine, spec).expect("starts");
        starts.push(start.elapsed());
        answers.push(ask(&mut worker, now, 1));
        if keep {
            let start = Instant::now();
            collect(&mut worker, now);
            shrinks.push(start.elapsed());
            again.push(ask(&mut worker, now, 2));
            kept.push(worker);
            continue;
        }
        let start = Instant::now();
        drop(worker);
        drops.push(start.elapsed());
    }
    if keep {
        println!("resident: {:.3} MB each", (resident_bytes() - before) as f64 / 1e6 / f64::from(rounds));
        kept.clear();
    }
    print("start", starts);
    print("answer", answers);
    print("shrink", shrinks);
    print("answer after that", again);
    print("drop", drops);
}

/// Has it collect its garbage, as a shard has an idle one.
fn collect(worker: &mut Worker, now: Now) {
    loop {
        worker.handle(now, Event::Collect);
        let effects: Vec<_> = std::iter::from_fn(|| worker.poll_effect()).collect();
        if !effects.iter().any(|effect| matches!(effect, Effect::Collected(Collecting::More))) {
            return;
        }
    }
}

/// A request until its answer.
fn ask(worker: &mut Worker, now: Now, number: u64) -> Duration {
    let start = Instant::now();
    let headers: HeaderBlock = [(&b"Host"[..], &b"hello.workers.localhost:8080"[..])].into_iter().collect();
    let head = RequestHead {
        method: "GET".to_owned(),
        url: "http://hello.workers.localhost:8080/".to_owned(),
        headers,
        body: IncomingBody::Empty,
    };
    worker.handle(now, Event::Request { id: RequestId(number), head: head.into() });
    while let Some(effect) = worker.poll_effect() {
        if let Effect::Fail { why, .. } = effect {
            panic!("{why:?}");
        }
    }
    start.elapsed()
}

fn print(what: &str, mut times: Vec<Duration>) {
    if times.is_empty() {
        return;
    }
    println!("{what}: first {:?}", times[0]);
    times.sort_unstable();
    let at = |part: usize| times[(times.len() - 1) * part / 1000];
    println!("{what}: p10 {:?} p50 {:?} p99 {:?} max {:?}", at(100), at(500), at(990), at(1000));
}

/// Resident memory of this process.
fn resident_bytes() -> u64 {
    let rollup = std::fs::read_to_string("/proc/self/smaps_rollup").expect("proc");
    let line = rollup.lines().find_map(|line| line.strip_prefix("Rss:")).expect("Rss");
    1024 * line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number")
}
