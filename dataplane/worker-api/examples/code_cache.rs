//! What a code cache is worth: `cargo run --release -p worker-api --example code_cache [FILE]`. For each way of having one:
//! its size, the time to compile and evaluate the module, and the time of the first request.

// A benchmark reads the clock; the crate under it does not.
#![allow(clippy::disallowed_types, clippy::disallowed_methods)]

use std::time::{Duration, Instant};

use base::header::HeaderBlock;
use bytes::Bytes;
use worker_api::{
    CodeOrigin, Effect, Engine, Event, IncomingBody, Now, RequestHead, RequestId, Worker, WorkerSpec, compile_ahead,
};

const ROUNDS: usize = 200;
const NOW: Now = Now { monotonic_ns: 1, unix_ms: 1_700_000_000_000 };

fn main() {
    let path = std::env::args().nth(1).unwrap_or_else(|| "docs/examples/hono/worker.js".to_owned());
    let module = Bytes::from(std::fs::read(path).expect("a module"));
    let engine = Engine::init().expect("engine");
    let mut worker = start(&engine, &module, None);
    let started = timed(|| worker.code_cache());
    request(&mut worker);
    let warm = timed(|| worker.code_cache());
    let ahead = timed(|| compile_ahead(&engine, &module));
    println!("module {} bytes, V8 {} tag {:08x}", module.len(), engine.version(), engine.code_tag());
    for (name, (cache, made)) in [("started", started), ("warm", warm), ("ahead", ahead)] {
        let cache = Bytes::from(cache.expect("a cache"));
        println!("{name}: {} bytes, made in {made:?}", cache.len());
        measure(name, &engine, &module, Some(cache));
    }
    measure("none", &engine, &module, None);
}

fn measure(name: &str, engine: &Engine, module: &Bytes, cache: Option<Bytes>) {
    let mut evaluate = Vec::new();
    let mut first = Vec::new();
    let mut second = Vec::new();
    for _ in 0..ROUNDS {
        let mut worker = start(engine, module, cache.clone());
        let expect = if cache.is_some() { CodeOrigin::Cache } else { CodeOrigin::Source };
        assert_eq!(worker.code_origin(), expect);
        evaluate.push(Duration::from_nanos(worker.startup_ns()));
        first.push(timed(|| request(&mut worker)).1);
        second.push(timed(|| request(&mut worker)).1);
    }
    let middle = |times: &mut Vec<Duration>| {
        times.sort_unstable();
        (times[ROUNDS / 2], times[ROUNDS * 99 / 100])
    };
    let sum: Vec<Duration> = evaluate.iter().zip(&first).map(|(a, b)| *a + *b).collect();
    for (what, mut times) in
        [("compile and evaluate", evaluate), ("first request", first), ("second", second), ("together", sum)]
    {
        let (p50, p99) = middle(&mut times);
        println!("  {name}: {what}: p50 {p50:?} p99 {p99:?}");
    }
}

fn start(engine: &Engine, module: &Bytes, code_cache: Option<Bytes>) -> Worker {
    let spec = WorkerSpec { code_cache, ..WorkerSpec::new(module.clone(), NOW) };
    Worker::start(engine, spec).expect("starts")
}

fn request(worker: &mut Worker) {
    let headers: HeaderBlock = [(&b"Host"[..], &b"hello.workers.localhost"[..])].into_iter().collect();
    let head = RequestHead {
        method: "GET".to_owned(),
        url: "http://hello.workers.localhost/".to_owned(),
        headers,
        body: IncomingBody::Empty,
    };
    worker.handle(NOW, Event::Request { id: RequestId(1), head: head.into() });
    let effects: Vec<Effect> = std::iter::from_fn(|| worker.poll_effect()).collect();
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Respond { .. })), "{effects:?}");
}

fn timed<T>(what: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let value = what();
    (value, start.elapsed())
}
