//! How long one request's turn takes: `cargo run --release -p worker-api --example turn [FILE | sync | async | headers | json]`.

// A benchmark reads the clock; the crate under it does not.
#![allow(clippy::disallowed_types, clippy::disallowed_methods)]

use std::time::Instant;

use base::header::HeaderBlock;
use bytes::Bytes;
use worker_api::{Effect, Engine, Event, IncomingBody, Now, RequestHead, RequestId, Worker, WorkerSpec};

const WARM_UP: u64 = 200_000;
const ROUNDS: u64 = 1_000_000;

fn main() {
    let which = std::env::args().nth(1).unwrap_or_else(|| "sync".to_owned());
    let source = match which.as_str() {
        "sync" => "export default { fetch() { return new Response('Hello, World!'); } };".to_owned(),
        "async" => "export default { async fetch() { return new Response('Hello, World!'); } };".to_owned(),
        "headers" => "export default { fetch(r) { return new Response(r.headers.get('user-agent'), { headers: { 'x-a': 'b' } }); } };".to_owned(),
        "json" => "export default { fetch(r) { return Response.json({ path: new URL(r.url).pathname }); } };".to_owned(),
        path => std::fs::read_to_string(path).expect("a module"),
    };
    let now = Now { monotonic_ns: 1, unix_ms: 1_700_000_000_000 };
    let engine = Engine::init().expect("engine");
    let start = Instant::now();
    let spec = WorkerSpec::new(Bytes::from(source), now);
    let mut worker = Worker::start(&engine, spec.clone()).expect("starts");
    println!("first start {:?}", start.elapsed());
    let start = Instant::now();
    drop(Worker::start(&engine, spec).expect("starts"));
    println!("second start and stop {:?}", start.elapsed());
    let headers: HeaderBlock =
        [(&b"Host"[..], &b"hello.workers.localhost:8080"[..]), (b"User-Agent", b"wrk/4.2"), (b"Accept", b"*/*")]
            .into_iter()
            .collect();
    let mut bytes = 0;
    for (name, rounds) in [("warm-up", WARM_UP), ("measured", ROUNDS)] {
        let start = Instant::now();
        for round in 0..rounds {
            let id = RequestId(if name == "warm-up" { round } else { WARM_UP + round });
            let head = RequestHead {
                method: "GET".to_owned(),
                url: "http://hello.workers.localhost:8080/".to_owned(),
                headers: headers.clone(),
                body: IncomingBody::Empty,
            };
            worker.handle(now, Event::Request { id, head: head.into() });
            while let Some(effect) = worker.poll_effect() {
                match effect {
                    Effect::Respond { body: worker_api::OutgoingBody::Full(body), .. } => bytes += body.len(),
                    Effect::Fail { why, .. } => panic!("{why:?}"),
                    Effect::Log(record) => println!("{}", record.text),
                    _ => {}
                }
            }
        }
        println!("{name}: {:.0} ns a request", start.elapsed().as_nanos() as f64 / rounds as f64);
    }
    println!("{bytes} bytes");
}
