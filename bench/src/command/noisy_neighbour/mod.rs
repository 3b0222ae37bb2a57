//! `noisy-neighbour`: what a victim feels of a tenant that burns, allocates or gets stuck on its shard, beside workerd.
//!
//! One node with one shard on one core, the load on another. In each round the victim is measured alone, then beside each
//! noise: in an open loop at a moderate rate for what its clients feel, and in a closed one for its share of the core. Shares
//! are paired with the same round's "alone". Each noise must be what it is called: a burner's work has room below its limit, an
//! allocator says how much it keeps, and what a limit is to end the node must have counted as that. workerd runs the victim and
//! two noisy Workers in one process, in the same rounds, without what only a limit ends; it has no limits and one thread, so its
//! victim fares badly; it is bounded by timeouts and stopped after the stuck tenant.

mod contender;
mod overhead;
mod scenario;

use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Args;
use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use self::contender::Contender;
use self::scenario::{Noise, Round, Stuck, StuckIn};
use super::hello::order;
use super::{Promise, Verdict, parse_duration, print_promises};
use crate::load::{Outcome, Tally};
use crate::machine::{self, Machine};
use crate::report::{self, Quantiles, Spread, round, table};

/// The victim's p99 beside burners and stuck tenants, ms (docs/SPECIFICATION.md, as are all of these).
const P99_MS_MAX: f64 = 3.0;
/// The victim's p99 beside a tenant at its heap limit, ms.
const ALLOCATOR_P99_MS_MAX: f64 = 10.0;
/// How long a tenant can hold its shard once, before it is known as one that nothing can interrupt: its CPU time of 50 ms, and 200 ms
/// that V8 gets to act on being told, in which the largest heap can be collected.
const HELD_MS_MAX: f64 = 300.0;
/// The victim's share of the core over its fair share.
const FAIR_SHARE_MIN: f64 = 0.85;

/// Measure what a tenant feels of noisy ones on its shard, beside workerd
#[derive(Args, Debug)]
pub struct Arguments {
    /// Rounds of each kind
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Length of each measurement
    #[arg(long, default_value = "3s", value_parser = parse_duration)]
    duration: Duration,
    /// Load before each measurement
    #[arg(long, default_value = "500ms", value_parser = parse_duration)]
    warmup: Duration,
    /// The victim's requests a second in open loops
    #[arg(long, default_value_t = 2_000.0)]
    rate: f64,
    /// The victim's connections in closed loops
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Requests a second of each noisy tenant in open loops
    #[arg(long, default_value_t = 20.0)]
    noise_rate: f64,
    /// CPU time of a burning request, by tenants that may use 200 ms
    #[arg(long, default_value = "50ms", value_parser = parse_duration)]
    burn: Duration,
    /// Measure this node alone
    #[arg(long)]
    without_peer: bool,
    /// More flags of the node, separated by spaces
    #[arg(long, value_name = "FLAGS", allow_hyphen_values = true, default_value = "")]
    node: String,
    /// Measure instead what the features that these flags of the node switch off cost a hello handler
    #[arg(long, value_name = "FLAGS", allow_hyphen_values = true)]
    overhead: Option<String>,
    /// Rounds of that
    #[arg(long, default_value_t = 10)]
    overhead_rounds: usize,
}

impl Arguments {
    fn node_flags(&self) -> Vec<String> {
        self.node.split_ascii_whitespace().map(str::to_owned).collect()
    }
}

#[derive(Serialize)]
struct NoiseReport {
    noise: Noise,
    /// The victim's open loop, each round's p99, µs.
    p99_us: Spread,
    /// The victim's open loop, all rounds together.
    victim_us: Quantiles,
    /// The victim's requests that failed, in both loops.
    victim_failed: u64,
    /// The victim's closed loop, good responses a second.
    rate: Option<Spread>,
    /// The victim's share of the core over its fair share, paired by round.
    fair_share: Option<Spread>,
    /// The noise's open loop: good responses a second of each tenant.
    noise_rate: Option<Spread>,
    noise_us: Option<Quantiles>,
    noise_failed: u64,
    /// Some of these failures in words.
    noise_failures: Vec<String>,
    /// The noise beside the saturating victim: good responses a second of each tenant.
    noise_rate_saturated: Option<Spread>,
    /// The part of its blocks that an allocator still had after a window, the least of each round.
    held: Option<Spread>,
    /// Requests that the noise's limit ended, by the node's count, in each round.
    ended: Option<Spread>,
    /// Answers that look as if that limit had ended the request, and that the node did not count so.
    not_ended: u64,
    /// The victim's slowest reply when the hoarder's heap overflowed for the first time, ms.
    overflow_ms: Option<f64>,
    /// What a hypervisor took of the machine's cores in a round, ms: where that is much, the machine was measured.
    stolen_ms: Option<Spread>,
}

#[derive(Serialize)]
struct ServerReport {
    name: &'static str,
    version: String,
    /// Steps that burn the time asked for.
    steps: u64,
    noises: Vec<NoiseReport>,
    stuck: Vec<Stuck>,
    /// Why requests failed, as the node counted it.
    failures: Vec<String>,
}

#[derive(Serialize)]
struct Report {
    bench: &'static str,
    machine: Machine,
    server_core: usize,
    load_core: usize,
    rounds: usize,
    duration_s: f64,
    rate: f64,
    connections: usize,
    noise_rate: f64,
    burn_ms: f64,
    missing: Option<String>,
    servers: Vec<ServerReport>,
    promises: Vec<Promise>,
    ok: bool,
}

/// A server with what was measured of it.
struct Measured {
    contender: Contender,
    rounds: Vec<Vec<Round>>,
    stuck: Vec<Stuck>,
    /// Why requests failed before any tenant got stuck.
    failures: Vec<String>,
}

/// Runs it.
pub fn run(arguments: &Arguments) -> anyhow::Result<Verdict> {
    ensure!(arguments.rounds > 0 && !arguments.duration.is_zero() && !arguments.burn.is_zero(), "no rounds");
    if let Some(flags) = &arguments.overhead {
        return overhead::run(arguments, flags);
    }
    let machine = Machine::describe();
    let (server_core, load_core) = machine::two_cores().context("this bench needs two cores: one for the server")?;
    machine::pin_thread(&[load_core])?;
    let dir = tempfile::Builder::new().prefix("selvage-noisy-").tempdir()?;
    let mut contenders = vec![Contender::node(server_core, load_core, &arguments.node_flags())?];
    let mut missing = None;
    if !arguments.without_peer {
        match Contender::workerd(server_core, dir.path()) {
            Ok(workerd) => contenders.push(workerd),
            Err(error) => {
                eprintln!("!!! SKIPPED workerd: {error:#}");
                missing = Some(format!("workerd: {error:#}"));
            }
        }
    }
    let measured = measure(arguments, load_core, contenders)?;
    let servers: Vec<ServerReport> = measured.iter().map(server_report).collect();
    for one in measured {
        one.contender.stop()?;
    }
    let promises = promises(&servers[0]);
    let verdict = Verdict::of(&promises);
    let report = Report {
        bench: "noisy-neighbour",
        machine,
        server_core,
        load_core,
        rounds: arguments.rounds,
        duration_s: arguments.duration.as_secs_f64(),
        rate: arguments.rate,
        connections: arguments.connections,
        noise_rate: arguments.noise_rate,
        burn_ms: round(arguments.burn.as_secs_f64() * 1e3),
        missing,
        servers,
        promises,
        ok: verdict == Verdict::Kept,
    };
    print(&report);
    report::last_line(&report)?;
    Ok(verdict)
}

fn measure(arguments: &Arguments, load_core: usize, contenders: Vec<Contender>) -> anyhow::Result<Vec<Measured>> {
    let noises: usize = contenders.iter().map(|one| Noise::of(one).count()).sum();
    let stuck = arguments.rounds * StuckIn::ALL.len() + contenders.len() - 1;
    let steps = contenders.len() + arguments.rounds * noises + stuck;
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed_precise} {msg}")?;
    let progress = ProgressBar::new(steps as u64).with_style(style);
    let mut measured = Vec::new();
    for mut contender in contenders {
        progress.set_message(format!("{}: how fast it computes", contender.name));
        contender.calibrate(arguments.burn)?;
        measured.push(Measured { contender, rounds: Vec::new(), stuck: Vec::new(), failures: Vec::new() });
        progress.inc(1);
    }
    let before = measured.iter().map(|one| one.contender.metrics()).collect::<anyhow::Result<Vec<_>>>()?;
    for number in 0..arguments.rounds {
        for index in order(measured.len(), number) {
            let one = &mut measured[index];
            let mut of_round = Vec::new();
            for noise in Noise::of(&one.contender) {
                progress.set_message(format!("{}: {}, round {}", one.contender.name, noise.name(), number + 1));
                // The same arrivals for all servers and noises of a round.
                let seed = 0x0be4_c4e1 + number as u64;
                of_round.push(scenario::measure(arguments, load_core, &one.contender, noise, seed)?);
                progress.inc(1);
            }
            one.rounds.push(of_round);
        }
    }
    for (one, before) in measured.iter_mut().zip(before) {
        let after = one.contender.metrics()?;
        one.failures = after.zip(before).map_or(Vec::new(), |(after, before)| after.failures_since(&before));
        // A peer does not come back from it.
        let peer = one.contender.limited.is_none();
        let times = if peer { 1 } else { arguments.rounds };
        for stuck_in in StuckIn::ALL.into_iter().take(if peer { 1 } else { StuckIn::ALL.len() }) {
            for number in 0..times {
                progress.set_message(format!(
                    "{}: stuck in {}, round {}",
                    one.contender.name,
                    stuck_in.name(),
                    number + 1
                ));
                one.stuck.push(scenario::stuck(arguments, load_core, &mut one.contender, stuck_in, number)?);
                progress.inc(1);
            }
        }
    }
    progress.finish_and_clear();
    Ok(measured)
}

fn server_report(measured: &Measured) -> ServerReport {
    ServerReport {
        name: measured.contender.name,
        version: measured.contender.version.clone(),
        steps: measured.contender.steps,
        noises: Noise::of(&measured.contender).map(|noise| noise_report(&measured.rounds, noise)).collect(),
        stuck: measured.stuck.clone(),
        failures: measured.failures.clone(),
    }
}

fn noise_report(rounds: &[Vec<Round>], noise: Noise) -> NoiseReport {
    let of = |wanted: Noise| rounds.iter().filter_map(move |all| all.iter().find(|one| one.noise == wanted));
    let mut victim = Tally::default();
    let mut noises = Tally::default();
    for one in of(noise) {
        victim.merge(one.open.tally.clone());
        one.open_noise.iter().for_each(|outcome| noises.merge(outcome.tally.clone()));
    }
    let spread = |values: Vec<f64>| (!values.is_empty()).then(|| Spread::of(values.into_iter()));
    let shares = of(noise)
        .zip(of(Noise::Quiet))
        .map(|(noisy, quiet)| noisy.closed.rate() / (quiet.closed.rate() / noise.tenants()));
    let failed = |outcomes: &[Outcome]| outcomes.iter().map(|one| one.tally.errors.total()).sum::<u64>();
    let quantiles = |histogram: &Histogram<u64>| (!histogram.is_empty()).then(|| Quantiles::of(histogram));
    NoiseReport {
        noise,
        p99_us: Spread::of(of(noise).map(|one| one.open.latency_us(0.99))),
        victim_us: Quantiles::of(&victim.latency),
        victim_failed: victim.errors.total() + of(noise).map(|one| one.closed.tally.errors.total()).sum::<u64>(),
        rate: spread(of(noise).map(|one| one.closed.rate()).collect()),
        fair_share: spread(shares.collect()).filter(|_| noise != Noise::Quiet),
        noise_rate: spread(of(noise).flat_map(|one| &one.open_noise).map(Outcome::rate).collect()),
        noise_us: quantiles(&noises.latency),
        noise_failed: noises.errors.total() + of(noise).map(|one| failed(&one.closed_noise)).sum::<u64>(),
        noise_failures: noises.samples,
        noise_rate_saturated: spread(of(noise).flat_map(|one| &one.closed_noise).map(Outcome::rate).collect()),
        held: spread(of(noise).filter_map(|one| one.held).collect()),
        ended: spread(of(noise).filter_map(|one| one.ended).map(|count| count as f64).collect()),
        overflow_ms: of(noise).filter_map(|one| one.overflow_ms).reduce(f64::max),
        stolen_ms: spread(of(noise).map(|one| one.stolen_ms as f64).collect()),
        not_ended: of(noise).filter_map(|one| Some(answered(one).saturating_sub(one.ended?))).sum(),
    }
}

/// Answers to the noise, in both windows, that were as expected.
fn answered(round: &Round) -> u64 {
    round.open_noise.iter().chain(&round.closed_noise).map(|outcome| outcome.tally.ok).sum()
}

/// docs/SPECIFICATION.md, "Neighbours".
fn promises(node: &ServerReport) -> Vec<Promise> {
    let of = |noise: Noise| node.noises.iter().find(|one| one.noise == noise);
    let p99_ms = |noise: Noise| of(noise).map(|one| one.p99_us.median / 1e3);
    let share = |noise: Noise| of(noise).and_then(|one| one.fair_share).map(|share| share.median);
    let sum = |value: fn(&NoiseReport) -> u64| Some(node.noises.iter().map(value).sum::<u64>() as f64);
    let least = |spread: Option<Spread>| spread.map(|spread| spread.min);
    // A hoarder's one answer takes a heap of garbage, longer on a saturated core than a window: its ends are counted instead.
    let starved = node.noises.iter().filter(|one| {
        let none = |rate: Option<Spread>| least(rate).is_some_and(|rate| rate <= 0.0);
        none(one.noise_rate) || one.noise != Noise::Hoarder && none(one.noise_rate_saturated)
    });
    let held = of(Noise::Allocator).and_then(|one| least(one.held));
    let ended = |noise: Noise| of(noise).and_then(|one| least(one.ended));
    let mut promises = Vec::new();
    for noise in Noise::ALL.into_iter().filter(|noise| *noise != Noise::Quiet) {
        let p99_max =
            if matches!(noise, Noise::Allocator | Noise::Hoarder) { ALLOCATOR_P99_MS_MAX } else { P99_MS_MAX };
        let name = noise.name();
        promises.push(Promise::at_most(&format!("victim's p99, ms, beside: {name}"), p99_ms(noise), p99_max));
        let what = format!("victim's part of its fair share of the core, beside: {name}");
        promises.push(Promise::at_least(&what, share(noise), FAIR_SHARE_MIN));
    }
    promises.extend(StuckIn::ALL.into_iter().flat_map(|stuck_in| stuck_promises(node, stuck_in)));
    promises.extend([
        Promise::at_most("victim's failed requests", sum(|one| one.victim_failed), 0.0),
        Promise::at_most("noises' requests that were not answered as they must be", sum(|one| one.noise_failed), 0.0),
        Promise::at_most("noises that starve", Some(starved.count() as f64), 0.0),
        Promise::at_least("part of its blocks that the allocator kept, least after a window", held, 1.0),
        Promise::at_least("requests a round that cpu_limit ended, at least", ended(Noise::LimitedBurner), 1.0),
        Promise::at_least("requests a round that memory_limit ended, at least", ended(Noise::Hoarder), 1.0),
        Promise::at_most(
            "victim's slowest reply when a heap overflows for the first time, ms",
            of(Noise::Hoarder).and_then(|one| one.overflow_ms),
            HELD_MS_MAX,
        ),
        Promise::at_most("requests to be ended by a limit that something else ended", sum(|one| one.not_ended), 0.0),
    ]);
    promises
}

fn stuck_promises(node: &ServerReport, stuck_in: StuckIn) -> Vec<Promise> {
    let of = |value: fn(&Stuck) -> Option<f64>| -> Option<Vec<f64>> {
        node.stuck.iter().filter(|one| one.stuck_in == stuck_in).map(value).collect()
    };
    let most = |value: fn(&Stuck) -> Option<f64>| of(value)?.into_iter().reduce(f64::max);
    let what = |what: &str| format!("{what}, a tenant stuck in {}", stuck_in.name());
    let p99 = most(|one| one.again_p99_ms);
    let first = match stuck_in {
        StuckIn::Regex => {
            Promise::at_most(&what("replies over 60 ms the first time"), most(|one| Some(one.held_up as f64)), 1.0)
        }
        StuckIn::Builtin => {
            Promise::at_most(&what("slowest reply the first time, ms"), most(|one| Some(one.slowest_ms)), HELD_MS_MAX)
        }
    };
    let mut promises = vec![
        first,
        Promise::at_most(&what("victim's p99 again and again, ms"), p99, P99_MS_MAX),
        Promise::at_most(&what("victim's failed requests"), most(|one| Some(one.failed as f64)), 0.0),
        Promise::at_most(&what("stuck requests not answered 503"), most(|one| Some(one.not_ended as f64)), 0.0),
    ];
    if stuck_in == StuckIn::Builtin {
        let least = |value| of(value).and_then(|all| all.into_iter().reduce(f64::min));
        promises.push(Promise::at_least(&what("quarantines, at least"), least(|one| one.quarantined), 1.0));
        // Once, and at least twice again: those beyond a few are refused.
        promises.push(Promise::at_least(&what("times really stuck, at least"), least(|one| one.given_up), 3.0));
    }
    promises
}

fn print(report: &Report) {
    let machine = &report.machine;
    println!(
        "{}, kernel {}, load average {:.1}; servers on core {}, load on core {}",
        machine.cpu, machine.kernel, machine.load_average, report.server_core, report.load_core
    );
    println!(
        "{} rounds of {} s; victim: open loop at {} requests/s, closed loop with {} connections; noise: {} requests/s, a burner's of {} ms",
        report.rounds, report.duration_s, report.rate, report.connections, report.noise_rate, report.burn_ms
    );
    let spread = |spread: Option<Spread>, digits: usize| {
        spread
            .map_or("-".to_owned(), |it| format!("{:.digits$} ({:.digits$} to {:.digits$})", it.median, it.min, it.max))
    };
    let mut rows = Vec::new();
    for server in &report.servers {
        for one in &server.noises {
            rows.push(vec![
                format!("{}: {}", server.name, one.noise.name()),
                table::micros(one.victim_us.p50),
                format!("{} (to {})", table::micros(one.p99_us.median), table::micros(one.p99_us.max)),
                table::micros(one.victim_us.p99_9),
                one.victim_failed.to_string(),
                one.rate.map_or("-".to_owned(), |rate| table::grouped(rate.median)),
                spread(one.fair_share, 2),
                spread(one.noise_rate, 1),
                one.noise_us.map_or("-".to_owned(), |us| table::micros(us.p50)),
                one.noise_us.map_or("-".to_owned(), |us| table::micros(us.p99)),
                one.noise_failed.to_string(),
                spread(one.noise_rate_saturated, 1),
                spread(one.held, 2),
                spread(one.ended, 0),
                spread(one.stolen_ms, 0),
            ]);
        }
    }
    let heading = [
        "beside",
        "p50",
        "p99",
        "p99.9",
        "failed",
        "closed/s",
        "of fair share",
        "noise/s",
        "p50",
        "p99",
        "failed",
        "noise/s, saturated",
        "kept",
        "ended by limit",
        "stolen, ms",
    ];
    print!("{}", table::render(&heading, &rows));
    for server in &report.servers {
        for one in server.noises.iter().filter(|one| !one.noise_failures.is_empty()) {
            println!("{}: {}'s failures: {}", server.name, one.noise.name(), one.noise_failures.join("; "));
        }
        if !server.failures.is_empty() {
            println!("{}: causes of failures, by its own count: {}", server.name, server.failures.join("; "));
        }
        for stuck in &server.stuck {
            println!(
                "{}: tenant stuck in {} answered {} after {:.0} ms, {} of {} times not 503, {} quarantined, {} isolates given up; {} replies of the victim over {} ms, slowest {:.1} ms, {} failed; p99 when stuck again and again {}",
                server.name,
                stuck.stuck_in.name(),
                stuck.answer,
                stuck.answer_ms,
                stuck.not_ended,
                stuck.asked,
                stuck.quarantined.map_or("none".to_owned(), |count| count.to_string()),
                stuck.given_up.map_or("none".to_owned(), |count| count.to_string()),
                stuck.held_up,
                scenario::STUCK_NS / 1_000_000,
                stuck.slowest_ms,
                stuck.failed,
                stuck.again_p99_ms.map_or("not asked".to_owned(), |ms| format!("{ms:.2} ms"))
            );
        }
    }
    if let Some(missing) = &report.missing {
        println!("!!! SKIPPED {missing}");
    }
    // Nobody's noise but the machine's own: then what follows says little about the node.
    let alone = report.servers[0].noises.iter().find(|one| one.noise == Noise::Quiet);
    if alone.is_some_and(|alone| alone.p99_us.median / 1e3 > P99_MS_MAX) {
        println!(
            "!!! the victim's p99 is over {P99_MS_MAX} ms when it is alone: the machine is busy with something else"
        );
    }
    print_promises(&report.promises);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A node that keeps every promise.
    fn good() -> ServerReport {
        let all = |value: f64| Spread::of(std::iter::once(value));
        let mut histogram = Tally::default().latency;
        histogram.saturating_record(1_000_000);
        let noise = |noise: Noise| NoiseReport {
            noise,
            p99_us: all(2_000.0),
            victim_us: Quantiles::of(&histogram),
            victim_failed: 0,
            rate: Some(all(1_000.0)),
            fair_share: Some(all(0.9)).filter(|_| noise != Noise::Quiet),
            noise_rate: Some(all(10.0)).filter(|_| noise != Noise::Quiet),
            noise_us: None,
            noise_failed: 0,
            noise_failures: Vec::new(),
            noise_rate_saturated: Some(all(10.0)).filter(|_| noise != Noise::Quiet),
            held: Some(all(1.0)).filter(|_| noise == Noise::Allocator),
            ended: noise.cause().map(|_| all(5.0)),
            not_ended: 0,
            stolen_ms: None,
            overflow_ms: Some(200.0).filter(|_| noise == Noise::Hoarder),
        };
        let stuck = |stuck_in: StuckIn| Stuck {
            stuck_in,
            held_up: 1,
            slowest_ms: 70.0,
            failed: 0,
            answer: "503".to_owned(),
            answer_ms: 60.0,
            again_p99_ms: Some(2.0),
            asked: 5,
            not_ended: 0,
            quarantined: Some(if stuck_in == StuckIn::Builtin { 1.0 } else { 0.0 }),
            given_up: Some(if stuck_in == StuckIn::Builtin { 3.0 } else { 0.0 }),
        };
        ServerReport {
            name: "selvage",
            version: String::new(),
            steps: 1,
            noises: Noise::ALL.into_iter().map(noise).collect(),
            stuck: StuckIn::ALL.into_iter().map(stuck).collect(),
            failures: Vec::new(),
        }
    }

    /// Promises that are missed once this has happened to a good node.
    fn missed(change: impl FnOnce(&mut ServerReport)) -> Vec<String> {
        let mut report = good();
        change(&mut report);
        promises(&report).into_iter().filter(|promise| !promise.kept).map(|promise| promise.what).collect()
    }

    fn noise(report: &mut ServerReport, noise: Noise) -> &mut NoiseReport {
        report.noises.iter_mut().find(|one| one.noise == noise).expect("each is there")
    }

    #[test]
    fn each_thing_that_goes_wrong_misses_its_promise() {
        let check = |change: fn(&mut ServerReport), word: &str| {
            let missed = missed(change);
            assert!(missed.len() == 1 && missed[0].contains(word), "{word}: {missed:?}");
        };
        let one = |value: f64| Spread::of(std::iter::once(value));
        assert_eq!(missed(|_| ()), Vec::<String>::new());
        check(|it| noise(it, Noise::LimitedBurner).p99_us.median = 3_100.0, "burner over its limit");
        check(|it| noise(it, Noise::Hoarder).p99_us.median = 10_100.0, "allocator over its limit");
        check(|it| noise(it, Noise::Allocator).fair_share = None, "fair share");
        check(|it| noise(it, Noise::Burner).noise_failed = 1, "not answered as they must");
        check(|it| noise(it, Noise::LimitedBurner).not_ended = 1, "something else ended");
        check(|it| noise(it, Noise::Hoarder).overflow_ms = Some(301.0), "overflows for the first time");
        check(|it| it.stuck[0].failed = 1, "failed requests, a tenant stuck in a regular");
        check(|it| it.stuck[1].slowest_ms = 301.0, "slowest reply the first time, ms, a tenant stuck in a builtin");
        check(|it| it.stuck[0].not_ended = 1, "not answered 503, a tenant stuck in a regular");
        check(|it| it.stuck[1].quarantined = Some(0.0), "quarantines");
        check(|it| it.stuck[1].given_up = Some(2.0), "really stuck");
        let kept = missed(|it| noise(it, Noise::Allocator).held = Some(one(0.99)));
        assert!(kept.len() == 1 && kept[0].contains("blocks"), "{kept:?}");
        let ended = missed(|it| noise(it, Noise::Hoarder).ended = Some(one(0.0)));
        assert!(ended.len() == 1 && ended[0].contains("memory_limit"), "{ended:?}");
        // As a node that only this noise was left out of.
        assert!(!missed(|it| it.noises.retain(|one| one.noise != Noise::Hoarder)).is_empty());
        assert!(!missed(|it| it.stuck.retain(|one| one.stuck_in == StuckIn::Regex)).is_empty());
    }
}
