//! `hostile`: 10,000 hostile requests and 1,000 hostile Workers against one node, with a victim under open-loop load all
//! the while. The node must be the same process afterwards, and no request of the victim may fail.
//!
//! The corpus is `e2e`'s, whose tests run a short form of the same. Attackers are threads with blocking sockets; each
//! of their waits is bounded.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail, ensure};
use clap::Args;
use e2e::hostile::{requests, workers};
use e2e::random::Random;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use serde_json::Value;

use super::{Promise, Verdict, print_promises};
use crate::client::Client;
use crate::load::{self, Arrivals, Expect, Mode, Outcome, Plan};
use crate::machine::Machine;
use crate::report::{self, RunReport, round, table};
use crate::stack::{Binaries, Deployment, Options, PLATFORM_DOMAIN, Stack};

/// Threads that send hostile requests.
const ATTACKERS: u64 = 4;
/// What the victim answers.
const VICTIM_BODY: &str = "fine";
/// A request to a hostile Worker must have ended by then, somehow.
const END_MAX: Duration = Duration::from_secs(20);
/// One read of a hostile Worker's answer.
const READ_MAX: Duration = Duration::from_secs(1);
/// What is read of an endless answer before the client leaves.
const ANSWER_BYTES_MAX: usize = 4 << 20;
/// Slow answers that the report names.
const SLOWEST_MAX: usize = 12;
/// Longest run.
const RUN_MAX: Duration = Duration::from_secs(7_200);

/// Send 10,000 hostile requests and 1,000 hostile Workers: the process lives, others are served
#[derive(Args, Debug)]
pub struct Arguments {
    /// Hostile requests
    #[arg(long, default_value_t = 10_000)]
    requests: u64,
    /// Hostile Workers
    #[arg(long, default_value_t = 1_000)]
    workers: usize,
    /// Requests a second for the victim
    #[arg(long, default_value_t = 200.0)]
    rate: f64,
    /// Shards of the node; one, so that the victim shares its core with the attackers
    #[arg(long, default_value_t = 1)]
    shards: usize,
    /// Seed of the corpus
    #[arg(long, default_value_t = 0x5e1_7a6e)]
    seed: u64,
}

#[derive(Serialize)]
struct Report {
    bench: &'static str,
    machine: Machine,
    seed: u64,
    requests: u64,
    requests_s: f64,
    workers: usize,
    workers_refused: usize,
    workers_ran: usize,
    workers_s: f64,
    slowest: Vec<Slow>,
    wrong: Vec<String>,
    victim_during_requests: RunReport,
    victim_during_workers: RunReport,
    promises: Vec<Promise>,
    ok: bool,
}

/// An answer of a hostile Worker that took long.
#[derive(Clone, Serialize)]
struct Slow {
    ms: f64,
    what: String,
}

/// What came of the hostile Workers.
#[derive(Default)]
struct Ran {
    refused: usize,
    answered: usize,
    /// Uploads that were neither taken nor refused, and requests without an end.
    wrong: Vec<String>,
    /// Slowest first, at most [`SLOWEST_MAX`].
    slowest: Vec<Slow>,
}

impl Ran {
    fn note(&mut self, took: Duration, what: &str) {
        let ms = round(took.as_secs_f64() * 1e3);
        let place = self.slowest.partition_point(|slow| slow.ms >= ms);
        self.slowest.insert(place, Slow { ms, what: what.to_owned() });
        self.slowest.truncate(SLOWEST_MAX);
    }
}

/// Runs it.
pub fn run(arguments: &Arguments) -> anyhow::Result<Verdict> {
    ensure!(arguments.shards > 0, "no shards");
    let machine = Machine::describe();
    let mut stack = Stack::start(&Binaries::find()?, &Options { shards: arguments.shards, ..Options::default() })?;
    let pid = stack.node_pid();
    let victim = requests::HOST.strip_suffix(&format!(".{PLATFORM_DOMAIN}")).context("the corpus names our domain")?;
    let victim = stack.deploy(victim, requests::WORKER.as_bytes())?;
    let hostile = stack.create("hostile")?;
    let target = stack.target(&victim.subdomain, "/")?;
    let mode = Mode::Open { rate: arguments.rate, arrivals: Arrivals::Poisson, backlog_max: 100_000 };
    let plan = Plan {
        connections: 16,
        duration: RUN_MAX,
        timeout: Duration::from_secs(30),
        expect: Expect { status: Some(200), body_bytes: Some(VICTIM_BODY.len() as u64) },
        ..Plan::get(target.clone(), mode)
    };

    let began = Instant::now();
    let (taken, during_requests) = beside(&plan, || attack_requests(stack.http(), arguments))?;
    let requests_s = began.elapsed().as_secs_f64();
    stack.expect_alive()?;
    let began = Instant::now();
    let (ran, during_workers) = beside(&plan, || attack_workers(&mut stack, &hostile, arguments))?;
    let workers_s = began.elapsed().as_secs_f64();

    stack.expect_alive()?;
    ensure!(stack.node_pid() == pid, "another node process");
    let answer = Client::new(target, Duration::from_secs(5)).get()?;
    ensure!(answer.body == VICTIM_BODY.as_bytes(), "the victim answers {:?}", answer.text());
    stack.stop()?;

    let failed = during_requests.tally.errors.total() + during_workers.tally.errors.total();
    let promises = vec![
        Promise::at_least("hostile requests that the node took", Some(taken as f64), arguments.requests as f64),
        Promise::at_least(
            "hostile Workers refused or run",
            Some((ran.refused + ran.answered) as f64),
            arguments.workers as f64,
        ),
        Promise::at_most("uploads without a verdict, requests without an end", Some(ran.wrong.len() as f64), 0.0),
        Promise::at_most("failed requests of the victim", Some(failed as f64), 0.0),
    ];
    let verdict = Verdict::of(&promises);
    let report = Report {
        bench: "hostile",
        machine,
        seed: arguments.seed,
        requests: arguments.requests,
        requests_s: round(requests_s),
        workers: arguments.workers,
        workers_refused: ran.refused,
        workers_ran: ran.answered,
        workers_s: round(workers_s),
        slowest: ran.slowest,
        wrong: ran.wrong,
        victim_during_requests: RunReport::new("victim, during requests", &plan, &during_requests),
        victim_during_workers: RunReport::new("victim, during Workers", &plan, &during_workers),
        promises,
        ok: verdict == Verdict::Kept,
    };
    println!("{}, load average {:.1}; seed {}", report.machine.cpu, report.machine.load_average, report.seed);
    println!("{} hostile requests in {:.1} s", report.requests, report.requests_s);
    println!(
        "{} hostile Workers in {:.1} s: {} refused at upload, {} ran; slowest answers:",
        report.workers, report.workers_s, report.workers_refused, report.workers_ran
    );
    for slow in &report.slowest {
        println!("  {:>6.0} ms  {}", slow.ms, slow.what);
    }
    for wrong in &report.wrong {
        println!("WRONG {wrong}");
    }
    print!("{}", table::runs(&[report.victim_during_requests.clone(), report.victim_during_workers.clone()]));
    print_promises(&report.promises);
    report::last_line(&report)?;
    Ok(verdict)
}

/// Runs `attack` with the victim's load beside it, and ends the load with it.
fn beside<T>(plan: &Plan, attack: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<(T, Outcome)> {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let load = scope.spawn(|| load::run_until(plan, &stop, &mut |_| Ok(())));
        std::thread::sleep(plan.warmup);
        let done = attack();
        stop.store(true, Ordering::Relaxed);
        let outcome = load.join().map_err(|_| anyhow!("the load panicked"))??;
        Ok((done?, outcome))
    })
}

fn progress(total: u64, what: &str) -> anyhow::Result<ProgressBar> {
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg} {elapsed_precise}")?;
    Ok(ProgressBar::new(total).with_style(style).with_message(what.to_owned()))
}

/// Returns how many were taken: connected to and written to.
fn attack_requests(node: SocketAddr, arguments: &Arguments) -> anyhow::Result<u64> {
    let progress = progress(arguments.requests, "hostile requests")?;
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let attackers: Vec<_> = (0..ATTACKERS)
            .map(|attacker| {
                let (next, progress) = (&next, &progress);
                let mut random = Random::new(arguments.seed + attacker);
                scope.spawn(move || -> anyhow::Result<u64> {
                    let mut taken = 0;
                    while next.fetch_add(1, Ordering::Relaxed) < arguments.requests {
                        let bytes = requests::nth(&mut random);
                        let patience = Duration::from_millis(if random.one_in(50) { 200 } else { 5 });
                        // Whatever it says is fine; that it accepts at all is the point.
                        e2e::http::raw(node, &bytes, patience)
                            .with_context(|| format!("the node does not take {:?}", String::from_utf8_lossy(&bytes)))?;
                        progress.inc(1);
                        taken += 1;
                    }
                    Ok(taken)
                })
            })
            .collect();
        let mut taken = 0;
        for attacker in attackers {
            taken += attacker.join().map_err(|_| anyhow!("an attacker panicked"))??;
        }
        progress.finish_and_clear();
        Ok(taken)
    })
}

fn attack_workers(stack: &mut Stack, deployment: &Deployment, arguments: &Arguments) -> anyhow::Result<Ran> {
    let progress = progress(arguments.workers as u64, "hostile Workers")?;
    let mut random = Random::new(arguments.seed ^ 0xbad_5eed);
    let mut ran = Ran::default();
    let host = format!("{}.{PLATFORM_DOMAIN}", deployment.subdomain);
    for number in 0..arguments.workers {
        let worker = workers::nth(number, &mut random);
        progress.set_message(worker.what.clone());
        let answer = stack.try_upload(deployment, worker.module.as_bytes())?;
        match answer.status {
            400..500 => ran.refused += 1,
            201 => {
                let envelope: Value = serde_json::from_slice(&answer.body)?;
                let version = envelope["result"]["version_number"].as_u64().context("a version_number")?;
                stack.activate(deployment, version).with_context(|| worker.what.clone())?;
                for _ in 0..2 {
                    let asked = Instant::now();
                    if let Err(error) = ask(stack.http(), &host, worker.silent) {
                        ran.wrong.push(format!("{}: {error:#}", worker.what));
                    }
                    ran.note(asked.elapsed(), &worker.what);
                }
                ran.answered += 1;
            }
            other => ran.wrong.push(format!("{}: upload answered {other} {}", worker.what, answer.text())),
        }
        stack.expect_alive().with_context(|| format!("after {}", worker.what))?;
        progress.inc(1);
    }
    progress.finish_and_clear();
    Ok(ran)
}

/// Asks a hostile Worker. Anything but silence will do; an endless answer is left after a while.
pub(super) fn ask(node: SocketAddr, host: &str, may_be_silent: bool) -> anyhow::Result<()> {
    let begin = Instant::now();
    let mut stream = TcpStream::connect_timeout(&node, END_MAX).context("connect")?;
    stream.set_read_timeout(Some(READ_MAX))?;
    write!(stream, "GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")?;
    let mut buffer = vec![0u8; 64 * 1024];
    let mut total = 0;
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => {
                total += length;
                if total > ANSWER_BYTES_MAX {
                    return Ok(());
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                // An answer that has begun and goes on for ever, or a request that a timer keeps open.
                if total > 0 || may_be_silent {
                    return Ok(());
                }
                if begin.elapsed() > END_MAX {
                    bail!("no answer within {END_MAX:?}");
                }
            }
            Err(_) => return Ok(()),
        }
    }
}
