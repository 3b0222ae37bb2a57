//! `hello`: this node beside workerd, Deno, Bun and nginx, each on one core, with the load on another.
//!
//! Closed loops give the rate and the server's CPU time per request; open loops, all at one rate that the slowest can
//! hold, give the latencies. Rounds are interleaved and their order rotates, so that what disturbs the machine
//! disturbs all; ratios are taken round by round, and their median is what counts.
//! Where the node has memory protection keys on, a second node without them is one of the contenders: a difference of a few per
//! cent shows in no other way.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tempfile::TempDir;

use super::{Promise, Verdict, parse_duration, print_promises};
use crate::load::{self, Arrivals, Edge, Expect, Mode, Plan, Target};
use crate::machine::{self, Machine};
use crate::peers::{HELLO_BODY, HELLO_MODULE, Peer};
use crate::process::Server;
use crate::report::{self, Spread, round, table};
use crate::stack::{Binaries, Options, Stack};

/// The name of this node in reports.
const SELF: &str = "selvage";
/// The name of the node without protection keys.
const WITHOUT_KEYS: &str = "selvage, keys off";
/// What turns them off.
const KEYS_OFF: (&str, &str) = ("SELVAGE_PKEYS", "off");
/// Requests/s with keys over those without, docs/SPECIFICATION.md.
const KEYS_RATE_MIN: f64 = 0.95;
/// The open loops' rate as a share of the slowest server's capacity.
const OPEN_SHARE: f64 = 0.5;
/// Requests that may be due and not sent.
const BACKLOG_MAX: usize = 100_000;
/// Above it, the load generator and not the server was the limit of a closed loop.
const GENERATOR_LIMIT: f64 = 0.97;

/// Measure this node beside workerd, Deno, Bun and nginx on a hello Worker
#[derive(Args, Debug)]
pub struct Arguments {
    /// Rounds of each kind
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Length of each measurement
    #[arg(long, default_value = "4s", value_parser = parse_duration)]
    duration: Duration,
    /// Load before each measurement
    #[arg(long, default_value = "500ms", value_parser = parse_duration)]
    warmup: Duration,
    /// Connections
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Rate of the open loops; by default half of the slowest server's capacity
    #[arg(long)]
    rate: Option<f64>,
    /// Peers to measure
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Peer::ALL)]
    peers: Vec<Peer>,
    /// Measure the peers only, and promise nothing
    #[arg(long)]
    without_node: bool,
}

/// A server under measurement.
struct Contender {
    name: &'static str,
    version: String,
    target: Target,
    process: Process,
    closed: Vec<Closed>,
    open: Vec<Open>,
}

enum Process {
    Peer(Server),
    Node(Box<Stack>),
}

impl Contender {
    fn new(name: &'static str, version: String, target: Target, process: Process) -> Contender {
        Contender { name, version, target, process, closed: Vec::new(), open: Vec::new() }
    }

    fn pid(&self) -> u32 {
        match &self.process {
            Process::Peer(server) => server.pid(),
            Process::Node(stack) => stack.node_pid(),
        }
    }

    fn stop(self) -> anyhow::Result<()> {
        match self.process {
            Process::Peer(server) => server.stop(Duration::from_secs(3)).map(|_| ()),
            Process::Node(stack) => stack.stop(),
        }
    }
}

#[derive(Clone, Copy)]
struct Closed {
    rate: f64,
    cpu_us: f64,
    generator_busy: f64,
    failed: u64,
}

#[derive(Clone, Copy)]
struct Open {
    p50_us: f64,
    p99_us: f64,
    p99_9_us: f64,
    failed: u64,
}

#[derive(Serialize)]
struct ServerReport {
    name: &'static str,
    version: String,
    /// Closed loop: good responses a second.
    rate: Spread,
    /// Closed loop: CPU time of the server's processes per request, µs.
    cpu_us: Spread,
    /// Open loop: from the due time, µs.
    p50_us: Spread,
    p99_us: Spread,
    p99_9_us: Spread,
    /// Failed requests over all rounds.
    failed: u64,
    /// Resident memory of the server's processes at the end, MiB.
    resident_mib: f64,
    /// The load generator was the limit: the rate is a lower bound.
    generator_limited: bool,
}

#[derive(Serialize)]
struct Ratios {
    peer: &'static str,
    /// Our rate over the peer's, median of the rounds.
    rate: f64,
    /// The peer's CPU time per request over ours.
    cpu: f64,
    /// Our p99 over the peer's.
    p99: f64,
}

#[derive(Serialize)]
struct Report {
    bench: &'static str,
    machine: Machine,
    server_core: usize,
    load_core: usize,
    /// Whether the two cores are threads of one.
    shared_core: bool,
    rounds: usize,
    duration_s: f64,
    connections: usize,
    open_rate: f64,
    missing: Vec<String>,
    /// Why there is no node without protection keys, if there is none.
    keys_missing: Option<&'static str>,
    servers: Vec<ServerReport>,
    ratios: Vec<Ratios>,
    promises: Vec<Promise>,
    ok: bool,
}

/// Runs it.
pub fn run(arguments: &Arguments) -> anyhow::Result<Verdict> {
    ensure!(arguments.rounds > 0 && !arguments.duration.is_zero(), "no rounds");
    let machine = Machine::describe();
    let (server_core, load_core) = machine::two_cores().context("this bench needs two cores: one for the server")?;
    machine::pin_thread(&[load_core])?;
    let dir = tempfile::Builder::new().prefix("selvage-hello-").tempdir()?;
    let (mut contenders, missing) = start_all(arguments, server_core, load_core, &dir)?;
    let keys_missing = keys_missing(&contenders)?;
    if keys_missing.is_none() {
        contenders.insert(1, node(WITHOUT_KEYS, server_core, load_core, &[KEYS_OFF])?);
    }
    ensure!(!contenders.is_empty(), "nothing to measure");

    let steps = (contenders.len() * (1 + 2 * arguments.rounds)) as u64;
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed_precise} {msg}")?;
    let progress = ProgressBar::new(steps).with_style(style);
    warm_up(arguments, load_core, &contenders, &progress)?;
    closed_rounds(arguments, load_core, &mut contenders, &progress)?;
    let capacity = |one: &Contender| Spread::of(one.closed.iter().map(|round| round.rate)).median;
    let slowest = contenders.iter().map(capacity).fold(f64::INFINITY, f64::min);
    let open_rate = arguments.rate.unwrap_or(slowest * OPEN_SHARE).max(1.0);
    open_rounds(arguments, load_core, open_rate, &mut contenders, &progress)?;
    progress.finish_and_clear();

    let ratios = ratios(&contenders);
    let promises = match arguments.without_node {
        true => Vec::new(),
        false => promises(&contenders, &ratios, keys_missing.is_none()),
    };
    let mut servers = Vec::new();
    for contender in contenders {
        servers.push(report_of(&contender)?);
        contender.stop()?;
    }
    let verdict = Verdict::of(&promises);
    let report = Report {
        bench: "hello",
        machine,
        server_core,
        load_core,
        shared_core: machine::share_a_core(server_core, load_core),
        rounds: arguments.rounds,
        duration_s: arguments.duration.as_secs_f64(),
        connections: arguments.connections,
        open_rate: round(open_rate),
        missing,
        keys_missing,
        servers,
        ratios,
        promises,
        ok: verdict == Verdict::Kept,
    };
    print(&report);
    report::last_line(&report)?;
    Ok(verdict)
}

fn start_all(
    arguments: &Arguments,
    server_core: usize,
    load_core: usize,
    dir: &TempDir,
) -> anyhow::Result<(Vec<Contender>, Vec<String>)> {
    let mut contenders = Vec::new();
    let mut missing = Vec::new();
    if !arguments.without_node {
        contenders.push(node(SELF, server_core, load_core, &[])?);
    }
    for peer in &arguments.peers {
        let started = peer.find().and_then(|program| {
            program.start(&[server_core], dir.path()).map(|(server, target)| (program.version, server, target))
        });
        match started {
            Ok((version, server, target)) => {
                contenders.push(Contender::new(peer.name(), version, target, Process::Peer(server)));
            }
            Err(error) => {
                eprintln!("!!! SKIPPED {}: {error:#}", peer.name());
                missing.push(format!("{}: {error:#}", peer.name()));
            }
        }
    }
    Ok((contenders, missing))
}

fn node(name: &'static str, server_core: usize, load_core: usize, env: &[(&str, &str)]) -> anyhow::Result<Contender> {
    let options = Options {
        shards: 1,
        node_cores: vec![server_core],
        control_cores: vec![load_core],
        node_env: env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        ..Options::default()
    };
    let mut stack = Stack::start(&Binaries::find()?, &options)?;
    let deployment = stack.deploy("hello", HELLO_MODULE.as_bytes())?;
    let target = stack.target(&deployment.subdomain, "/")?;
    let answer = crate::client::Client::new(target.clone(), Duration::from_secs(5)).get()?;
    ensure!(answer.body == HELLO_BODY.as_bytes(), "the node answers {:?}", answer.text());
    let version = env!("CARGO_PKG_VERSION").to_owned();
    Ok(Contender::new(name, version, target, Process::Node(Box::new(stack))))
}

/// Why a node without keys would be no other than the node; `None` where it has them on.
fn keys_missing(contenders: &[Contender]) -> anyhow::Result<Option<&'static str>> {
    let stack = contenders.iter().find_map(|one| match &one.process {
        Process::Node(stack) => Some(stack),
        Process::Peer(_) => None,
    });
    let Some(stack) = stack else { return Ok(Some("no node was asked for")) };
    let keys = stack.metrics()?.sum("selvage_protection_keys").context("selvage_protection_keys")?;
    Ok((keys == 0.0).then(|| match cpu_has_keys(&std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default()) {
        false => "this CPU has no keys",
        true => "the node's keys are off; its log says why",
    }))
}

/// Whether the kernel lists the flag that it has enabled keys for programs.
fn cpu_has_keys(cpuinfo: &str) -> bool {
    let flags = cpuinfo.lines().filter(|line| line.starts_with("flags"));
    flags.flat_map(str::split_ascii_whitespace).any(|flag| flag == "ospke")
}

fn plan(arguments: &Arguments, load_core: usize, target: &Target, mode: Mode) -> Plan {
    Plan {
        connections: arguments.connections,
        warmup: arguments.warmup,
        duration: arguments.duration,
        cores: vec![load_core],
        expect: Expect { status: Some(200), body_bytes: Some(HELLO_BODY.len() as u64) },
        ..Plan::get(target.clone(), mode)
    }
}

/// Gives every compiler its time before anything counts.
fn warm_up(
    arguments: &Arguments,
    load_core: usize,
    contenders: &[Contender],
    progress: &ProgressBar,
) -> anyhow::Result<()> {
    for contender in contenders {
        progress.set_message(format!("{} warms up", contender.name));
        let plan = Plan {
            warmup: Duration::ZERO,
            duration: arguments.duration.min(Duration::from_secs(3)),
            ..plan(arguments, load_core, &contender.target, Mode::Closed)
        };
        let outcome = load::run(&plan)?;
        let samples = &outcome.tally.samples;
        ensure!(outcome.tally.ok > 0, "{} gives no good response: {samples:?}", contender.name);
        progress.inc(1);
    }
    Ok(())
}

/// Indexes of all contenders, from another start each round.
pub(super) fn order(contenders: usize, round: usize) -> impl Iterator<Item = usize> {
    (0..contenders).map(move |index| (index + round) % contenders)
}

fn closed_rounds(
    arguments: &Arguments,
    load_core: usize,
    contenders: &mut [Contender],
    progress: &ProgressBar,
) -> anyhow::Result<()> {
    for round in 0..arguments.rounds {
        for index in order(contenders.len(), round) {
            let contender = &mut contenders[index];
            progress.set_message(format!("{}: capacity, round {}", contender.name, round + 1));
            let pid = contender.pid();
            let plan = plan(arguments, load_core, &contender.target, Mode::Closed);
            let mut cpu = [0.0; 2];
            let outcome = load::run_until(&plan, &AtomicBool::new(false), &mut |edge| {
                cpu[usize::from(edge == Edge::End)] = machine::tree_cpu_seconds(pid)?;
                Ok(())
            })?;
            if outcome.tally.ok == 0 {
                bail!("{} stopped answering: {:?}", contender.name, outcome.tally.samples);
            }
            contender.closed.push(Closed {
                rate: outcome.rate(),
                cpu_us: (cpu[1] - cpu[0]) * 1e6 / outcome.tally.ok as f64,
                generator_busy: outcome.generator_busy(),
                failed: outcome.tally.errors.total(),
            });
            progress.inc(1);
        }
    }
    Ok(())
}

fn open_rounds(
    arguments: &Arguments,
    load_core: usize,
    rate: f64,
    contenders: &mut [Contender],
    progress: &ProgressBar,
) -> anyhow::Result<()> {
    for round in 0..arguments.rounds {
        for index in order(contenders.len(), round) {
            let contender = &mut contenders[index];
            progress.set_message(format!("{}: {rate:.0}/s, round {}", contender.name, round + 1));
            let mode = Mode::Open { rate, arrivals: Arrivals::Poisson, backlog_max: BACKLOG_MAX };
            // The same arrivals for all servers of a round.
            let seed = 0x0be4_c4e1 + round as u64;
            let outcome = load::run(&Plan { seed, ..plan(arguments, load_core, &contender.target, mode) })?;
            contender.open.push(Open {
                p50_us: outcome.latency_us(0.5),
                p99_us: outcome.latency_us(0.99),
                p99_9_us: outcome.latency_us(0.999),
                failed: outcome.tally.errors.total(),
            });
            progress.inc(1);
        }
    }
    Ok(())
}

fn report_of(contender: &Contender) -> anyhow::Result<ServerReport> {
    let (closed, open) = (&contender.closed, &contender.open);
    let failed =
        closed.iter().map(|round| round.failed).sum::<u64>() + open.iter().map(|round| round.failed).sum::<u64>();
    Ok(ServerReport {
        name: contender.name,
        version: contender.version.clone(),
        rate: Spread::of(closed.iter().map(|round| round.rate)),
        cpu_us: Spread::of(closed.iter().map(|round| round.cpu_us)),
        p50_us: Spread::of(open.iter().map(|round| round.p50_us)),
        p99_us: Spread::of(open.iter().map(|round| round.p99_us)),
        p99_9_us: Spread::of(open.iter().map(|round| round.p99_9_us)),
        failed,
        resident_mib: round(machine::tree_resident_bytes(contender.pid())? as f64 / (1 << 20) as f64),
        generator_limited: Spread::of(closed.iter().map(|round| round.generator_busy)).median > GENERATOR_LIMIT,
    })
}

fn ratios(contenders: &[Contender]) -> Vec<Ratios> {
    let Some(ours) = contenders.iter().find(|one| one.name == SELF) else { return Vec::new() };
    let over = |peer: &Contender, ratio: &dyn Fn(usize) -> f64| {
        Spread::of((0..ours.closed.len().min(peer.closed.len())).map(ratio)).median
    };
    contenders
        .iter()
        .filter(|one| one.name != SELF)
        .map(|peer| Ratios {
            peer: peer.name,
            rate: over(peer, &|round| ours.closed[round].rate / peer.closed[round].rate),
            cpu: over(peer, &|round| peer.closed[round].cpu_us / ours.closed[round].cpu_us),
            p99: over(peer, &|round| ours.open[round].p99_us / peer.open[round].p99_us),
        })
        .collect()
}

/// docs/SPECIFICATION.md: at least 4 × workerd and 0.6 × `Deno.serve`, by rate and by CPU time, p99 no worse than
/// workerd's, and nothing failed; with `keys`, nearly as many requests/s as without.
fn promises(contenders: &[Contender], ratios: &[Ratios], keys: bool) -> Vec<Promise> {
    let of = |name: &str| ratios.iter().find(|one| one.peer == name);
    let (workerd, deno) = (of(Peer::Workerd.name()), of(Peer::Deno.name()));
    let ours = contenders.iter().filter(|one| [SELF, WITHOUT_KEYS].contains(&one.name));
    let failed: u64 = ours
        .map(|one| one.closed.iter().map(|r| r.failed).sum::<u64>() + one.open.iter().map(|r| r.failed).sum::<u64>())
        .sum();
    let mut promises = vec![
        Promise::at_least("requests/s over workerd's", workerd.map(|one| one.rate), 4.0),
        Promise::at_least("workerd's CPU time per request over ours", workerd.map(|one| one.cpu), 4.0),
        Promise::at_least("requests/s over Deno.serve's", deno.map(|one| one.rate), 0.6),
        Promise::at_least("Deno.serve's CPU time per request over ours", deno.map(|one| one.cpu), 0.6),
        Promise::at_most("p99 over workerd's, at one rate", workerd.map(|one| one.p99), 1.0),
        Promise::at_most("failed requests", Some(failed as f64), 0.0),
    ];
    if keys {
        let rate = of(WITHOUT_KEYS).map(|one| one.rate);
        promises.push(Promise::at_least("requests/s with protection keys over those without", rate, KEYS_RATE_MIN));
    }
    promises
}

fn print(report: &Report) {
    let machine = &report.machine;
    println!(
        "{}, kernel {}, load average {:.1}; servers on core {}, load on core {}{}",
        machine.cpu,
        machine.kernel,
        machine.load_average,
        report.server_core,
        report.load_core,
        if report.shared_core { " (threads of ONE core: they slow each other down)" } else { "" }
    );
    println!(
        "{} rounds of {} s; closed loop with {} connections; open loop at {} requests/s, from the due time; median (min to max)",
        report.rounds,
        report.duration_s,
        report.connections,
        table::grouped(report.open_rate)
    );
    let rows: Vec<Vec<String>> = report
        .servers
        .iter()
        .map(|one| {
            vec![
                format!("{} {}", one.name, one.version),
                format!(
                    "{}{} ({} to {})",
                    if one.generator_limited { ">" } else { "" },
                    table::grouped(one.rate.median),
                    table::grouped(one.rate.min),
                    table::grouped(one.rate.max)
                ),
                format!("{:.2} ({:.2} to {:.2})", one.cpu_us.median, one.cpu_us.min, one.cpu_us.max),
                table::micros(one.p50_us.median),
                format!(
                    "{} ({} to {})",
                    table::micros(one.p99_us.median),
                    table::micros(one.p99_us.min),
                    table::micros(one.p99_us.max)
                ),
                table::micros(one.p99_9_us.median),
                one.failed.to_string(),
                format!("{:.0}", one.resident_mib),
            ]
        })
        .collect();
    print!(
        "{}",
        table::render(&["server", "requests/s", "CPU µs/request", "p50", "p99", "p99.9", "failed", "MiB"], &rows)
    );
    if report.servers.iter().any(|one| one.generator_limited) {
        println!("> the load generator was the limit: compare by CPU time");
    }
    let rows: Vec<Vec<String>> = report
        .ratios
        .iter()
        .map(|one| {
            vec![one.peer.to_owned(), format!("{:.2}", one.rate), format!("{:.2}", one.cpu), format!("{:.2}", one.p99)]
        })
        .collect();
    if !rows.is_empty() {
        println!();
        print!("{}", table::render(&["selvage beside", "requests/s ×", "CPU ÷", "p99 ×"], &rows));
    }
    for missing in &report.missing {
        println!("!!! SKIPPED {missing}");
    }
    if let Some(why) = report.keys_missing {
        println!("requests/s with protection keys over those without: not measured: {why}");
    }
    print_promises(&report.promises);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_round_measures_everyone_and_nobody_always_first() {
        let first: Vec<usize> = (0..3).filter_map(|round| order(3, round).next()).collect();
        assert_eq!(first, [0, 1, 2]);
        let mut all: Vec<usize> = order(3, 2).collect();
        all.sort_unstable();
        assert_eq!(all, [0, 1, 2]);
    }

    #[test]
    fn a_promised_peer_that_is_missing_is_a_missed_promise() {
        let missed = promises(&[], &[], false);
        assert_eq!(missed.iter().filter(|promise| !promise.kept).count(), 5);
        assert_eq!(Verdict::of(&missed), Verdict::Missed);
    }

    #[test]
    fn keys_are_promised_where_they_are_on() {
        let check = |ratios: &[Ratios]| promises(&[], ratios, true).pop().expect("promises").kept;
        let without = |rate: f64| Ratios { peer: WITHOUT_KEYS, rate, cpu: 1.0, p99: 1.0 };
        assert_eq!((check(&[without(0.96)]), check(&[without(0.94)]), check(&[])), (true, false, false));
        assert_eq!(promises(&[], &[without(0.94)], false).len() + 1, promises(&[], &[], true).len());
    }

    #[test]
    fn a_cpu_with_keys_is_known_by_its_whole_flag() {
        assert!(cpu_has_keys("model name : x\nflags\t\t: fpu pku ospke rdpid\n"));
        assert!(!cpu_has_keys("flags\t\t: fpu pku nospke\nmodel name : ospke\n"));
    }
}
