//! `selvage-cycles`: starts a Worker, asks it once, drops it, and does so again: what `bench idle-isolate --cycles` runs.
//!
//! A program of its own, so that the memory it holds is that of isolates and not of a load generator, and so that
//! `selvage-bench` does not link V8. Each line of standard output is a reading: cycles, seconds, memory.

#![forbid(unsafe_code)]

use std::time::Instant;

use anyhow::{Context, bail, ensure};
use base::{header::HeaderBlock, id::AccountId, limits};
use bench::machine::Memory;
use bench::peers::{HELLO_BODY, HELLO_MODULE};
use bytes::Bytes;
use clap::Parser;
use worker_api::{Effect, Engine, Event, IncomingBody, Now, OutgoingBody, RequestHead, RequestId, Worker, WorkerSpec};

/// Start, ask and drop Workers, and say what memory is held
#[derive(Parser)]
struct Arguments {
    /// Workers in all
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    cycles: u64,
    /// Readings of memory, besides the one at the start
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    checkpoints: u64,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    // Before there are threads.
    let engine = Engine::init().context("cannot start the JavaScript engine")?;
    let begin = Instant::now();
    let read = |cycles: u64| -> anyhow::Result<()> {
        let memory = Memory::of(std::process::id())?;
        let seconds = begin.elapsed().as_secs_f64();
        println!("{}", serde_json::json!({ "cycles": cycles, "seconds": seconds, "memory": memory }));
        Ok(())
    };
    cycle(&engine, &begin, 0)?;
    read(0)?;
    let step = arguments.cycles.div_ceil(arguments.checkpoints);
    for number in 1..=arguments.cycles {
        cycle(&engine, &begin, number).with_context(|| format!("cycle {number}"))?;
        if number % step == 0 || number == arguments.cycles {
            read(number)?;
        }
    }
    ensure!(engine.isolates_abandoned() == 0, "{} isolates were abandoned", engine.isolates_abandoned());
    Ok(())
}

/// One Worker from its start to its end, each of another tenant.
fn cycle(engine: &Engine, begin: &Instant, number: u64) -> anyhow::Result<()> {
    let now = Now { monotonic_ns: 1 + begin.elapsed().as_nanos() as u64, unix_ms: 1_700_000_000_000 };
    let spec = WorkerSpec {
        module: Bytes::from_static(HELLO_MODULE.as_bytes()),
        module_name: "worker.js".to_owned(),
        env: Vec::new(),
        services: Vec::new(),
        cpu_ns: limits::CPU_PER_REQUEST_NS,
        heap_bytes: limits::ISOLATE_HEAP_BYTES_MAX,
        limits: worker_api::RequestLimits::default(),
        now,
        account: AccountId(u128::from(number)),
        code_cache: None,
    };
    let mut worker = Worker::start(engine, spec)?;
    let headers: HeaderBlock = [(&b"Host"[..], &b"hello.workers.localhost"[..])].into_iter().collect();
    let head = RequestHead {
        method: "GET".to_owned(),
        url: "http://hello.workers.localhost/".to_owned(),
        headers,
        body: IncomingBody::Empty,
    };
    worker.handle(now, Event::Request { id: RequestId(0), head: head.into() });
    let mut answered = false;
    while let Some(effect) = worker.poll_effect() {
        match effect {
            Effect::Respond { status: 200, body: OutgoingBody::Full(body), .. } => answered = body == HELLO_BODY,
            Effect::Fail { why, .. } => bail!("the Worker fails: {why:?}"),
            _ => {}
        }
    }
    ensure!(answered, "the Worker does not answer as it must");
    Ok(())
}
