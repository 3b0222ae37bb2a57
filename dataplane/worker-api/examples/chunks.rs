//! What a chunk of a response's stream costs: `cargo run --release -p worker-api --example chunks [pull | async | ready | bytes | transform]`.
//! From a pull to the chunk that answers it, the shard's side left out. By the clock: on a machine that does other things, take the
//! CPU time of the process instead (`time`), over 200,000 chunks.

// A benchmark reads the clock; the crate under it does not.
#![allow(clippy::disallowed_types, clippy::disallowed_methods)]

use std::time::Instant;

use base::{header::HeaderBlock, limits};
use bytes::Bytes;
use worker_api::{
    BodyEvent, Effect, Engine, Event, IncomingBody, Now, RequestHead, RequestId, RequestLimits, Worker, WorkerSpec,
};

/// Bytes of a chunk.
const CHUNK: usize = 16 * 1024;
const CHUNKS: u64 = 100_000;

fn source(which: &str) -> &'static str {
    match which {
        // As the end-to-end test of the slow reader has it.
        "async" => "return new Response(new ReadableStream({ async pull(c) { c.enqueue(chunk.slice()); } }));",
        "ready" => "return new Response(new ReadableStream({ pull(c) { c.enqueue(chunk); } }));",
        "bytes" => "return new Response(new ReadableStream({ type: 'bytes', pull(c) { c.enqueue(chunk.slice()); } }));",
        "transform" => {
            "return new Response(request.body.pipeThrough(new TransformStream({ transform(p, c) { c.enqueue(p); } })));"
        }
        _ => "return new Response(new ReadableStream({ pull(c) { c.enqueue(chunk.slice()); } }));",
    }
}

fn main() {
    let which = std::env::args().nth(1).unwrap_or_else(|| "async".to_owned());
    let text = format!(
        "const chunk = new Uint8Array({CHUNK}).fill(120); export default {{ fetch(request) {{ {} }} }};",
        source(&which)
    );
    let now = Now { monotonic_ns: 1, unix_ms: 1_700_000_000_000 };
    let engine = Engine::init().expect("engine");
    let spec = WorkerSpec {
        cpu_ns: limits::CPU_PER_REQUEST_MAX_NS,
        limits: RequestLimits { response_bytes: u64::MAX, ..RequestLimits::default() },
        ..WorkerSpec::new(Bytes::from(text), now)
    };
    let mut worker = Worker::start(&engine, spec).expect("starts");
    let (id, body) = (RequestId(1), Bytes::from(vec![120; CHUNK]));
    let head = RequestHead {
        method: "POST".to_owned(),
        url: "http://hello.workers.localhost:8080/".to_owned(),
        headers: HeaderBlock::new(),
        body: IncomingBody::Stream,
    };
    worker.handle(now, Event::Request { id, head: head.into() });
    for name in ["warm-up", "measured"] {
        let start = Instant::now();
        let mut came = 0;
        worker.handle(now, Event::PullResponse { id });
        while came < CHUNKS {
            match worker.poll_effect() {
                Some(Effect::ResponseBody { body: BodyEvent::Chunk(_), .. }) => {
                    came += 1;
                    if came < CHUNKS {
                        worker.handle(now, Event::PullResponse { id });
                    }
                }
                Some(Effect::PullRequestBody { id }) => {
                    worker.handle(now, Event::RequestBody { id, body: BodyEvent::Chunk(body.clone()) });
                }
                Some(Effect::Log(record)) => println!("{}", record.text),
                Some(Effect::Respond { .. }) => {}
                other => panic!("{other:?}"),
            }
        }
        println!("{which}, {name}: {:.2} µs a chunk", start.elapsed().as_nanos() as f64 / 1e3 / CHUNKS as f64);
    }
}
