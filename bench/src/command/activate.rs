//! `activate`: alternating versions under load. Nothing may fail, and a new version must be served soon after its
//! activation was asked for.
//!
//! A prober goes round a handful of connections (which the kernel spreads over the node's shards) as fast as they
//! answer. *Served* counts from just before the API's PUT is sent to the first response of the new version;
//! *everywhere* to the moment when every probed connection has had one. Bodies must fit their version's number, and a
//! connection that has seen a version must not see the one before it again.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail, ensure};
use clap::Args;
use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::{Promise, Verdict, print_promises};
use crate::client::Client;
use crate::load::{self, Arrivals, Expect, Mode, Outcome, Plan, Target};
use crate::machine::{self, Machine};
use crate::report::{self, Quantiles, RunReport, table};
use crate::stack::{Binaries, Deployment, Options, Stack};

/// Activation to served, p99 (docs/SPECIFICATION.md).
const SERVED_MS_MAX: f64 = 100.0;
/// An activation that is not served everywhere by then ends the bench.
const GIVE_UP: Duration = Duration::from_secs(20);
/// Connections of the prober, for each shard.
const PROBES_PER_SHARD: usize = 4;
/// Longest run.
const RUN_MAX: Duration = Duration::from_secs(1_800);
/// Bodies of the two versions, of one length.
const BODIES: [&str; 2] = ["one", "two"];

/// Activate alternating versions under load: no failed request, served within 100 ms at p99
#[derive(Args, Debug)]
pub struct Arguments {
    /// Activations
    #[arg(long, default_value_t = 100)]
    activations: usize,
    /// Requests a second of the load beside
    #[arg(long, default_value_t = 1_000.0)]
    rate: f64,
    /// Shards of the node; by default one for each core
    #[arg(long)]
    shards: Option<usize>,
    /// Pause after an activation is served, milliseconds
    #[arg(long, default_value_t = 20)]
    pause_ms: u64,
}

#[derive(Serialize)]
struct Report {
    bench: &'static str,
    machine: Machine,
    shards: usize,
    activations: usize,
    /// PUT sent to its answer.
    answered_us: Quantiles,
    /// PUT sent to the first response of the new version.
    served_us: Quantiles,
    /// PUT sent to the new version on every probed connection.
    everywhere_us: Quantiles,
    probes: u64,
    /// Responses of an older version after a newer one, on one connection.
    went_back: u64,
    load: RunReport,
    promises: Vec<Promise>,
    ok: bool,
}

/// What the prober has seen; behind a lock that both sides hold for an instant.
struct Seen {
    /// Of each connection: the version of its last response and when that version first came.
    last: Vec<(u64, Instant)>,
    probes: u64,
    went_back: u64,
    /// The last version asked for: what a connection may turn to.
    wanted: u64,
    failure: Option<String>,
}

/// Runs it.
pub fn run(arguments: &Arguments) -> anyhow::Result<Verdict> {
    ensure!(arguments.activations > 0, "no activations");
    let machine = Machine::describe();
    let shards = arguments.shards.unwrap_or(machine::cores().len()).max(1);
    let mut stack = Stack::start(&Binaries::find()?, &Options { shards, ..Options::default() })?;
    let module = |text: &str| format!("export default {{ fetch() {{ return new Response({text:?}); }} }};\n");
    let deployment = stack.deploy("swap", module(BODIES[0]).as_bytes())?;
    let second = stack.upload(&deployment, module(BODIES[1]).as_bytes())?;
    ensure!(second == 2, "the second upload is version {second}");
    let target = stack.target(&deployment.subdomain, "/")?;

    let mode = Mode::Open { rate: arguments.rate, arrivals: Arrivals::Poisson, backlog_max: 100_000 };
    let plan = Plan {
        connections: 32,
        duration: RUN_MAX,
        expect: Expect { status: Some(200), body_bytes: Some(BODIES[0].len() as u64) },
        ..Plan::get(target.clone(), mode)
    };
    let begin = Instant::now();
    let seen = Mutex::new(Seen {
        last: vec![(1, begin); shards * PROBES_PER_SHARD],
        probes: 0,
        went_back: 0,
        wanted: 1,
        failure: None,
    });
    let stop = AtomicBool::new(false);
    let (times, outcome) = std::thread::scope(|scope| -> anyhow::Result<(Times, Outcome)> {
        let load = scope.spawn(|| load::run_until(&plan, &stop, &mut |_| Ok(())));
        let prober = scope.spawn(|| probe(&target, &seen, &stop));
        std::thread::sleep(plan.warmup + Duration::from_millis(200));
        let times = activate_all(arguments, &mut stack, &deployment, &seen);
        stop.store(true, Ordering::Relaxed);
        prober.join().map_err(|_| anyhow!("the prober panicked"))?;
        let outcome = load.join().map_err(|_| anyhow!("the load panicked"))??;
        Ok((times?, outcome))
    })?;
    stack.stop()?;
    let seen = seen.into_inner().map_err(|_| anyhow!("the prober panicked"))?;
    finish(arguments, machine, shards, &plan, &times, &outcome, &seen)
}

struct Times {
    answered: Histogram<u64>,
    served: Histogram<u64>,
    everywhere: Histogram<u64>,
}

fn activate_all(
    arguments: &Arguments,
    stack: &mut Stack,
    deployment: &Deployment,
    seen: &Mutex<Seen>,
) -> anyhow::Result<Times> {
    let histogram = || Histogram::new_with_bounds(1, load::record::LATENCY_NS_MAX, 3);
    let mut times = Times { answered: histogram()?, served: histogram()?, everywhere: histogram()? };
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} activations")?;
    let progress = ProgressBar::new(arguments.activations as u64).with_style(style);
    for round in 0..arguments.activations {
        let version = 2 - (round as u64 % 2);
        seen.lock().map_err(|_| anyhow!("the prober panicked"))?.wanted = version;
        let begin = stack.activate(deployment, version)?;
        times.answered.saturating_record(nanos(begin.elapsed()));
        let (first, last) =
            wait_everywhere(seen, version, begin).with_context(|| format!("activation {} (v{version})", round + 1))?;
        times.served.saturating_record(nanos(first));
        times.everywhere.saturating_record(nanos(last));
        stack.expect_alive()?;
        progress.inc(1);
        std::thread::sleep(Duration::from_millis(arguments.pause_ms));
    }
    progress.finish_and_clear();
    Ok(times)
}

fn nanos(time: Duration) -> u64 {
    (time.as_nanos() as u64).max(1)
}

/// When the first and the last probed connection turned to `version`, from `begin`.
fn wait_everywhere(seen: &Mutex<Seen>, version: u64, begin: Instant) -> anyhow::Result<(Duration, Duration)> {
    loop {
        {
            let seen = seen.lock().map_err(|_| anyhow!("the prober panicked"))?;
            if let Some(failure) = &seen.failure {
                bail!("a probe failed: {failure}");
            }
            if seen.last.iter().all(|(last, _)| *last == version) {
                let since = || seen.last.iter().map(|(_, at)| at.saturating_duration_since(begin));
                return Ok((since().min().unwrap_or_default(), since().max().unwrap_or_default()));
            }
            ensure!(begin.elapsed() < GIVE_UP, "not served everywhere after {GIVE_UP:?}");
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Goes round the connections until stopped or until one fails.
fn probe(target: &Target, seen: &Mutex<Seen>, stop: &AtomicBool) {
    let count = seen.lock().map_or(0, |seen| seen.last.len());
    let mut clients: Vec<Client> = (0..count).map(|_| Client::new(target.clone(), Duration::from_secs(5))).collect();
    while !stop.load(Ordering::Relaxed) {
        for (index, client) in clients.iter_mut().enumerate() {
            let got = probe_once(client);
            let now = Instant::now();
            let Ok(mut seen) = seen.lock() else { return };
            seen.probes += 1;
            match got {
                Ok(version) if version == seen.last[index].0 => {}
                Ok(version) if version == seen.wanted => seen.last[index] = (version, now),
                Ok(_) => seen.went_back += 1,
                Err(error) => {
                    seen.failure = Some(format!("{error:#}"));
                    return;
                }
            }
        }
    }
}

/// One request: the version that answered, whose body must be the version's own.
fn probe_once(client: &mut Client) -> anyhow::Result<u64> {
    let answer = client.get()?;
    ensure!(answer.status == 200, "status {}: {}", answer.status, answer.text());
    let version = answer.field("x-deployment-version").context("no X-Deployment-Version")?;
    let number: u64 = version.strip_prefix('v').and_then(|text| text.parse().ok()).context("not a version")?;
    let body = BODIES.get((number as usize).wrapping_sub(1)).context("a version of ours")?;
    ensure!(answer.body == body.as_bytes(), "{version} answers {:?}", answer.text());
    Ok(number)
}

fn finish(
    arguments: &Arguments,
    machine: Machine,
    shards: usize,
    plan: &Plan,
    times: &Times,
    outcome: &Outcome,
    seen: &Seen,
) -> anyhow::Result<Verdict> {
    let p99_ms = |histogram: &Histogram<u64>| Some(histogram.value_at_quantile(0.99) as f64 / 1e6);
    let promises = vec![
        Promise::at_most("failed requests", Some(outcome.tally.errors.total() as f64), 0.0),
        Promise::at_most("responses of an older version after a newer one", Some(seen.went_back as f64), 0.0),
        Promise::at_most("activation to served, p99, ms", p99_ms(&times.served), SERVED_MS_MAX),
        Promise::at_most("activation to served everywhere, p99, ms", p99_ms(&times.everywhere), SERVED_MS_MAX),
    ];
    let verdict = Verdict::of(&promises);
    let report = Report {
        bench: "activate",
        machine,
        shards,
        activations: arguments.activations,
        answered_us: Quantiles::of(&times.answered),
        served_us: Quantiles::of(&times.served),
        everywhere_us: Quantiles::of(&times.everywhere),
        probes: seen.probes,
        went_back: seen.went_back,
        load: RunReport::new("load beside", plan, outcome),
        promises,
        ok: verdict == Verdict::Kept,
    };
    println!(
        "{}, load average {:.1}; {} shards; {} activations, {} probes",
        report.machine.cpu, report.machine.load_average, shards, report.activations, report.probes
    );
    let row = |name: &str, of: &Quantiles| {
        let cells = [of.min, of.p50, of.p90, of.p99, of.max].map(table::micros);
        [vec![name.to_owned()], cells.to_vec()].concat()
    };
    let rows = [
        row("answered by the API", &report.answered_us),
        row("served", &report.served_us),
        row("served everywhere", &report.everywhere_us),
    ];
    print!("{}", table::render(&["from the PUT", "min", "p50", "p90", "p99", "max"], &rows));
    print!("{}", table::runs(std::slice::from_ref(&report.load)));
    print_promises(&report.promises);
    report::last_line(&report)?;
    Ok(verdict)
}
