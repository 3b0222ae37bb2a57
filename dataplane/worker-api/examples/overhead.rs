//! What a request pays for being suspendable: `cargo run --release -p worker-api --example overhead [PAIRS]`.
//!
//! One hello Worker answers blocks of requests, alternately as a shard calls it ([`Suspendable::start`]: on a stack of its own, with
//! a slice that the watchdog ends) and as one that never suspends would ([`Suspendable::call`]). Of each pair of neighbouring
//! blocks the difference is taken, so that what disturbs the machine for longer than a block disturbs both. Exits with 1
//! where the median is over the bound.

// A benchmark reads the clock; the crate under it does not.
#![allow(clippy::disallowed_types, clippy::disallowed_methods)]

use std::process::ExitCode;
use std::time::Instant;

use base::header::HeaderBlock;
use bytes::Bytes;
use worker_api::{Effect, Engine, Event, IncomingBody, Now, Progress, RequestHead, RequestId};
use worker_api::{Suspendable, Worker, WorkerSpec};

/// docs/SPECIFICATION.md, ns a request.
const BOUND_NS: f64 = 300.0;
const BLOCK: u64 = 1_000;
const WARM_UP: u64 = 200;
const NOW: Now = Now { monotonic_ns: 1, unix_ms: 1_700_000_000_000 };

fn main() -> ExitCode {
    let pairs = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(1_000u64);
    let engine = Engine::init().expect("engine");
    let spec = WorkerSpec::new(
        Bytes::from_static(b"export default { fetch() { return new Response('Hello, World!'); } };"),
        NOW,
    );
    let mut bench = Bench { worker: Suspendable::new(Worker::start(&engine, spec).expect("starts")), next: 0 };
    let mut differences = Vec::new();
    let mut plain = Vec::new();
    for pair in 0..WARM_UP + pairs {
        // Each is the first as often as the second.
        let (with, without) = if pair % 2 == 0 {
            let with = bench.block(true);
            (with, bench.block(false))
        } else {
            let without = bench.block(false);
            (bench.block(true), without)
        };
        if pair >= WARM_UP {
            differences.push(with - without);
            plain.push(without);
        }
    }
    differences.sort_by(f64::total_cmp);
    plain.sort_by(f64::total_cmp);
    let at = |sorted: &[f64], quantile: f64| sorted[((sorted.len() - 1) as f64 * quantile) as usize];
    let median = at(&differences, 0.5);
    println!(
        "a request pays {median:.0} ns (quarter of the pairs under {:.0}, quarter over {:.0}; bound {BOUND_NS}), of {:.0} ns",
        at(&differences, 0.25),
        at(&differences, 0.75),
        at(&plain, 0.5)
    );
    if median <= BOUND_NS { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

struct Bench {
    worker: Suspendable<Worker>,
    next: u64,
}

impl Bench {
    /// Time of a request, ns.
    fn block(&mut self, suspendable: bool) -> f64 {
        let headers: HeaderBlock = [(&b"Host"[..], &b"hello.workers.localhost:8080"[..])].into_iter().collect();
        let start = Instant::now();
        for _ in 0..BLOCK {
            self.next += 1;
            let id = RequestId(self.next);
            let head = RequestHead {
                method: "GET".to_owned(),
                url: "http://hello.workers.localhost:8080/".to_owned(),
                headers: headers.clone(),
                body: IncomingBody::Empty,
            };
            let event = Event::Request { id, head: head.into() };
            let handle = move |worker: &mut Worker| worker.handle(NOW, event);
            let progress = if suspendable { self.worker.start(handle) } else { self.worker.call(handle) };
            self.settle(progress);
        }
        start.elapsed().as_nanos() as f64 / BLOCK as f64
    }

    fn settle(&mut self, mut progress: Progress) {
        // A collection may have used up the slice.
        while progress == Progress::Suspended {
            progress = self.worker.resume();
        }
        let worker = self.worker.get_mut().expect("no call is suspended");
        let mut answered = false;
        while let Some(effect) = worker.poll_effect() {
            match effect {
                Effect::Respond { status: 200, .. } => answered = true,
                Effect::Fail { why, .. } => panic!("{why:?}"),
                _ => {}
            }
        }
        assert!(answered, "no answer");
    }
}
