//! `selvage-cycles`: starts a Worker, asks it once, drops it, and does so again: what `bench idle-isolate --cycles` runs.
//!
//! Workers start as they do on a shard: from compiled code, in a spare isolate, and every seventh in one of its own, as where
//! spares have run out. A small and a large program take turns.
//!
//! A program of its own, so that the memory it holds is that of isolates and not of a load generator, and so that
//! `selvage-bench` does not link V8. Each line of standard output is a reading: cycles, seconds, memory.

#![forbid(unsafe_code)]

use std::time::Instant;

use anyhow::{Context, bail, ensure};
use base::{header::HeaderBlock, id::AccountId};
use bench::checkout;
use bench::machine::Memory;
use bench::peers::{HELLO_BODY, HELLO_MODULE};
use bytes::Bytes;
use clap::Parser;
use worker_api::{
    CodeOrigin, Effect, Engine, Event, IncomingBody, Now, OutgoingBody, RequestHead, RequestId, Spares, Worker,
    WorkerSpec,
};

/// As many as a shard keeps unless told otherwise.
const SPARES: usize = 4;
/// Steps that make a spare.
const STEPS_PER_SPARE: usize = 2;
/// Each of so many Workers finds no spare; an odd number, so that both programs do.
const WITHOUT_SPARE: u64 = 7;

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
    let mut cycles = Cycles::new(engine.clone(), begin)?;
    for number in 0..WITHOUT_SPARE {
        cycles.cycle(number)?;
    }
    read(0)?;
    let step = arguments.cycles.div_ceil(arguments.checkpoints);
    for number in 1..=arguments.cycles {
        cycles.cycle(number).with_context(|| format!("cycle {number}"))?;
        if number % step == 0 || number == arguments.cycles {
            read(number)?;
        }
    }
    ensure!(engine.isolates_abandoned() == 0, "{} isolates were abandoned", engine.isolates_abandoned());
    Ok(())
}

/// A Worker to be started: a module, V8's compiled code of it, and what it answers to `/`.
struct Program {
    module: Bytes,
    code: Bytes,
    answer: &'static str,
}

impl Program {
    /// Those that take turns.
    fn all(engine: &Engine) -> anyhow::Result<[Program; 2]> {
        let program = |module: Vec<u8>, answer: &'static str| {
            let code = worker_api::compile_ahead(engine, &module).context("a module that compiles ahead")?;
            anyhow::Ok(Program { module: module.into(), code: code.into(), answer })
        };
        let hello = program(HELLO_MODULE.as_bytes().to_vec(), HELLO_BODY)?;
        Ok([hello, program(checkout::example("hono")?, checkout::HONO_BODY)?])
    }
}

/// A shard as far as Workers start on it: their compiled code, and its spares.
struct Cycles {
    engine: Engine,
    begin: Instant,
    programs: [Program; 2],
    spares: Spares,
}

impl Cycles {
    fn new(engine: Engine, begin: Instant) -> anyhow::Result<Cycles> {
        let programs = Program::all(&engine)?;
        let mut spares = Spares::new(&engine, SPARES);
        while spares.refill_step() {}
        Ok(Cycles { engine, begin, programs, spares })
    }

    /// One Worker from its start to its end, each of another tenant; the next spare is made before, as on a shard that is idle.
    fn cycle(&mut self, number: u64) -> anyhow::Result<()> {
        let now = Now { monotonic_ns: 1 + self.begin.elapsed().as_nanos() as u64, unix_ms: 1_700_000_000_000 };
        let program = &self.programs[(number % 2) as usize];
        let spec = WorkerSpec {
            account: AccountId(u128::from(number)),
            code_cache: Some(program.code.clone()),
            ..WorkerSpec::new(program.module.clone(), now)
        };
        for _ in 0..STEPS_PER_SPARE {
            self.spares.refill_step();
        }
        let spare = match number % WITHOUT_SPARE {
            0 => None,
            _ => Some(self.spares.claim().context("no spare: they cannot be made")?),
        };
        let mut worker = Worker::start_in(spare, &self.engine, spec)?;
        ensure!(worker.code_origin() == CodeOrigin::Cache, "compiled code was not used: {:?}", worker.code_origin());
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
                Effect::Respond { status: 200, body: OutgoingBody::Full(body), .. } => {
                    answered = body == program.answer;
                }
                Effect::Fail { why, .. } => bail!("the Worker fails: {why:?}"),
                _ => {}
            }
        }
        ensure!(answered, "the Worker does not answer as it must");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_take_turns_in_spares_and_without() {
        let engine = Engine::init().expect("engine");
        let mut cycles = Cycles::new(engine.clone(), Instant::now()).expect("programs and spares");
        assert_eq!(cycles.spares.ready(), SPARES);
        for number in 0..=WITHOUT_SPARE {
            cycles.cycle(number).unwrap_or_else(|error| panic!("cycle {number}: {error:#}"));
            let claimed = usize::from(number % WITHOUT_SPARE != 0);
            assert_eq!(cycles.spares.ready(), SPARES - claimed, "after cycle {number}");
        }
        assert_eq!(engine.isolates_abandoned(), 0);
        // It is asked what it answers.
        cycles.programs[1].answer = "another";
        assert!(cycles.cycle(1).is_err());
    }
}
