//! `soak`: hostile and normal tenants on one node for a long time. No request of a normal one may fail, and resident memory must
//! stay flat.
//!
//! The time is cut into slices; in each, every normal tenant has an open-loop load of its own, while hostile Workers are deployed,
//! asked, replaced and deleted, hostile requests come in, and one of the normal tenants is redeployed. Memory is read every
//! second. In a long run all rest after each three slices, and what is hostile is deleted: nothing but what has remained is compared
//! then, and not which Workers happened to be up with how much garbage, which is a tenth of it from minute to minute. Rests are no
//! part of the run's length. What memory is made of at a rest is kept too ([`mappings`]). What fails is written to
//! `target/soak/failures.log` with its slice, its cause, the node's own count of causes and the hostile Workers of that slice;
//! `target/soak/memory.svg` shows the memory. It ends by itself, early if the node dies.

mod hostility;
mod mappings;
mod normal;
mod trend;

use std::fmt::Write;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, ensure};
use clap::Args;
use serde::Serialize;

use self::hostility::Done;
use self::mappings::Breakdown;
use self::normal::Normal;
use self::trend::Trend;
use super::{Promise, Verdict, print_promises};
use crate::checkout;
use crate::load::{self, Outcome, Tally};
use crate::machine::{self, Machine, Memory};
use crate::origin;
use crate::report::{self, Quantiles, round, table, timeline};
use crate::stack::{Binaries, Metrics, Options, Stack};

/// Growth of resident memory over the second half, per cent an hour, of a run that is long enough to tell.
const GROWTH_PER_HOUR_MAX: f64 = 1.0;
/// A run of fewer minutes cannot tell a trend an hour from noise.
const TREND_MINUTES_MIN: f64 = 30.0;
/// Of a shorter one: growth of the second half's floor from its first slices to its last, per cent.
const SHORT_GROWTH_MAX: f64 = 10.0;
/// Slices of a short run; those of a long one are a minute.
const SHORT_SLICES: f64 = 12.0;
const SLICE_MAX: Duration = Duration::from_secs(60);
/// Slices between two rests of a long run.
const SLICES_TO_REST: usize = 3;
/// A rest: Workers count as idle after 10 s, those of more isolates than they need lose them, and holes in malloc's heaps go back every 30 s.
const REST: Duration = Duration::from_secs(65);
/// What is read of a rest: its end.
const REST_READ: Duration = Duration::from_secs(10);
/// Between two readings of memory.
const READ_EVERY: Duration = Duration::from_secs(1);

/// Run hostile and normal tenants on one node for long: memory flat, no failed request of the normal ones
#[derive(Args, Debug)]
pub struct Arguments {
    /// Length of the load; rests come on top
    #[arg(long, default_value_t = 2.0)]
    minutes: f64,
    /// Requests a second for each of the five normal tenants
    #[arg(long, default_value_t = 50.0)]
    rate: f64,
    /// Hostile Workers a second
    #[arg(long, default_value_t = 2.0)]
    workers: f64,
    /// Hostile requests a second
    #[arg(long, default_value_t = 20.0)]
    requests: f64,
    /// Shards of the node; one, so that all share it
    #[arg(long, default_value_t = 1)]
    shards: usize,
    /// Seed of the corpus
    #[arg(long, default_value_t = 0x50a_c5eed)]
    seed: u64,
    /// More flags of the node, separated by spaces
    #[arg(long, value_name = "FLAGS", allow_hyphen_values = true, default_value = "")]
    node: String,
}

/// One slice of the time.
#[derive(Clone, Serialize)]
struct Slice {
    /// Of load, at its end.
    minutes: f64,
    requests: u64,
    failed: u64,
    latency_us: Quantiles,
    hostile_workers: u64,
    resident_min_mb: f64,
    resident_max_mb: f64,
    /// Of the rest that came after it.
    at_rest: Option<AtRest>,
    virtual_mb: f64,
    workers_up: f64,
    abandoned: f64,
}

/// What remains while all rest.
#[derive(Clone, Serialize)]
struct AtRest {
    /// The lowest reading at the end.
    resident_mb: f64,
    mappings: Breakdown,
    workers_up: f64,
    /// What the node counts of the heaps of those.
    workers_mb: f64,
    spares: f64,
    abandoned: f64,
}

#[derive(Serialize)]
struct Report {
    bench: &'static str,
    machine: Machine,
    seed: u64,
    /// Of load.
    minutes: f64,
    minutes_with_rests: f64,
    rate: f64,
    shards: usize,
    requests: u64,
    failed: u64,
    hostile_workers_ran: u64,
    hostile_workers_refused: u64,
    hostile_requests: u64,
    hostile_tenants: u64,
    redeploys: u64,
    evictions: f64,
    abandoned: f64,
    panics: f64,
    growth: Option<Trend>,
    slices: Vec<Slice>,
    wrong: Vec<String>,
    promises: Vec<Promise>,
    ok: bool,
}

/// Memory over time.
struct Reading {
    minutes: f64,
    memory: Memory,
}

/// Everything that runs beside the slices looks at this.
struct Shared {
    begin: Instant,
    stop: AtomicBool,
    readings: Mutex<Vec<Reading>>,
    /// Why it cannot go on.
    died: Mutex<Option<String>>,
    done: Done,
}

/// Runs it.
pub fn run(arguments: &Arguments) -> anyhow::Result<Verdict> {
    ensure!(arguments.minutes > 0.0 && arguments.minutes <= 24.0 * 60.0, "minutes: above 0, at most a day");
    ensure!(arguments.shards > 0, "no shards");
    for rate in [arguments.rate, arguments.workers, arguments.requests] {
        ensure!((1e-3..=1e5).contains(&rate), "a rate: 0.001 to 100 000");
    }
    let machine = Machine::describe();
    let cores = machine::two_cores();
    if let Some((_, load_core)) = cores {
        machine::pin_thread(&[load_core])?;
    }
    let mut node_arguments = vec!["--allow-private-fetch".to_owned()];
    node_arguments.extend(arguments.node.split_ascii_whitespace().map(str::to_owned));
    let options = Options {
        shards: arguments.shards,
        node_cores: if arguments.shards == 1 {
            cores.map(|(server, _)| server).into_iter().collect()
        } else {
            machine::cores()
        },
        control_cores: Vec::new(),
        node_arguments,
        ..Options::default()
    };
    let mut stack = Stack::start(&Binaries::find()?, &options)?;
    let tenants = normal::deploy(&mut stack, origin::start()?)?;
    let folder = checkout::target_folder("soak")?;
    let mut failures = String::new();

    let shared = Shared {
        begin: Instant::now(),
        stop: AtomicBool::new(false),
        readings: Mutex::new(Vec::new()),
        died: Mutex::new(None),
        done: Done::default(),
    };
    let before = stack.metrics()?;
    let slices = all_slices(arguments, &stack, &tenants, &shared, &mut failures)?;
    let died = shared.died.lock().map_err(|_| anyhow!("the reader of memory panicked"))?.clone();
    if let Some(why) = died {
        writeln!(failures, "the node died: {why}")?;
    }
    for wrong in shared.done.wrong.lock().map_err(|_| anyhow!("a hostile thread panicked"))?.iter() {
        writeln!(failures, "hostile: {wrong}")?;
    }
    std::fs::write(folder.join("failures.log"), &failures)?;
    std::fs::copy(stack.node_log(), folder.join("node.log")).context("the node's log")?;
    draw(&folder, &shared)?;
    stack.expect_alive().with_context(|| format!("see {}", folder.display()))?;
    let after = stack.metrics()?;
    stack.stop()?;
    finish(arguments, machine, &shared, slices, [&before, &after], &folder)
}

fn all_slices(
    arguments: &Arguments,
    stack: &Stack,
    tenants: &[Normal],
    shared: &Shared,
    failures: &mut String,
) -> anyhow::Result<Vec<Slice>> {
    let length = Duration::from_secs_f64(arguments.minutes * 60.0);
    let slice = (length.div_f64(SHORT_SLICES)).max(Duration::from_secs(5)).min(SLICE_MAX).min(length);
    let redeployed = tenants.iter().find(|one| one.name == "redeployed").context("a tenant that is redeployed")?;
    let (stop, done) = (&shared.stop, &shared.done);
    std::thread::scope(|scope| {
        scope.spawn(|| read_memory(stack.node_pid(), shared));
        scope.spawn(|| hostility::workers(stack, done, stop, arguments.workers, arguments.seed));
        scope.spawn(|| hostility::requests(stack, done, stop, arguments.requests, arguments.seed ^ 0xf00d));
        scope.spawn(|| hostility::redeploys(stack, done, stop, &redeployed.deployment));
        let (mut slices, mut loaded): (Vec<Slice>, Duration) = (Vec::new(), Duration::ZERO);
        let outcome = loop {
            let left = length.saturating_sub(loaded);
            if left < slice / 2 || stop.load(Ordering::Relaxed) {
                break Ok(());
            }
            let number = slices.len() as u64;
            loaded += slice.min(left);
            match one_slice(arguments, stack, tenants, shared, slice.min(left), number, failures) {
                Ok(slice) => slices.push(Slice { minutes: round(loaded.as_secs_f64() / 60.0), ..slice }),
                Err(error) => break Err(error),
            }
            if arguments.minutes >= TREND_MINUTES_MIN && slices.len().is_multiple_of(SLICES_TO_REST) {
                slices[number as usize].at_rest = rest(stack, shared);
            }
            eprintln!("{}", line(&slices[slices.len() - 1]));
        };
        stop.store(true, Ordering::Relaxed);
        outcome.map(|()| slices)
    })
}

/// Reads memory until the end; a process that cannot be read has died.
fn read_memory(pid: u32, shared: &Shared) {
    while !shared.stop.load(Ordering::Relaxed) {
        match Memory::of(pid) {
            Ok(memory) => {
                let minutes = shared.begin.elapsed().as_secs_f64() / 60.0;
                if let Ok(mut readings) = shared.readings.lock() {
                    readings.push(Reading { minutes, memory });
                }
            }
            Err(error) => {
                if let Ok(mut died) = shared.died.lock() {
                    *died = Some(format!("{error:#}"));
                }
                shared.stop.store(true, Ordering::Relaxed);
            }
        }
        std::thread::sleep(READ_EVERY);
    }
}

fn one_slice(
    arguments: &Arguments,
    stack: &Stack,
    tenants: &[Normal],
    shared: &Shared,
    duration: Duration,
    number: u64,
    failures: &mut String,
) -> anyhow::Result<Slice> {
    let from = shared.begin.elapsed().as_secs_f64() / 60.0;
    let before = stack.metrics().ok();
    let ran_before = ran(&shared.done);
    let outcomes = std::thread::scope(|scope| {
        let loads: Vec<_> = tenants
            .iter()
            .zip(0u64..)
            .map(|(tenant, index)| {
                let plan = tenant.plan(arguments.rate, duration, arguments.seed ^ (number << 8 | index));
                scope.spawn(move || load::run_until(&plan, &shared.stop, &mut |_| Ok(())))
            })
            .collect();
        let joined = loads.into_iter().map(|load| load.join().map_err(|_| anyhow!("a load panicked"))?);
        joined.collect::<anyhow::Result<Vec<Outcome>>>()
    })?;
    let after = stack.metrics().ok();
    let names = shared.done.take_names();
    let mut all = Tally::default();
    for (tenant, outcome) in tenants.iter().zip(&outcomes) {
        if outcome.tally.errors.total() > 0 {
            let classes: Vec<String> =
                outcome.tally.errors.iter().map(|(class, count)| format!("{} {count}", class.name())).collect();
            let samples = outcome.tally.samples.join("; ");
            writeln!(
                failures,
                "from minute {from:.2}, rests included: {}: {} ({samples})",
                tenant.name,
                classes.join(", ")
            )?;
        }
        all.merge(outcome.tally.clone());
    }
    if all.errors.total() > 0 {
        if let (Some(before), Some(after)) = (&before, &after) {
            writeln!(failures, "  causes in the node: {}", after.failures_since(before).join(", "))?;
        }
        writeln!(failures, "  hostile Workers meanwhile: {}", names.join("; "))?;
    }
    let readings = shared.readings.lock().map_err(|_| anyhow!("the reader of memory panicked"))?;
    let of_slice = || readings.iter().filter(|reading| reading.minutes >= from).map(|reading| reading.memory);
    let mb = |bytes: Option<u64>| bytes.map_or(f64::NAN, |bytes| round(bytes as f64 / 1e6));
    let sum = |name: &str| after.as_ref().and_then(|after| after.sum(name)).unwrap_or(f64::NAN);
    Ok(Slice {
        minutes: 0.0,
        requests: all.due,
        failed: all.errors.total(),
        latency_us: Quantiles::of(&all.latency),
        hostile_workers: ran(&shared.done) - ran_before,
        resident_min_mb: mb(of_slice().map(|memory| memory.resident_bytes).min()),
        resident_max_mb: mb(of_slice().map(|memory| memory.resident_bytes).max()),
        at_rest: None,
        virtual_mb: mb(of_slice().map(|memory| memory.virtual_bytes).next_back()),
        workers_up: sum("selvage_workers"),
        abandoned: sum("selvage_isolates_abandoned_total"),
    })
}

/// Lets all rest; gives what remains at the end. None where it was told to stop, or the node did not say.
fn rest(stack: &Stack, shared: &Shared) -> Option<AtRest> {
    let begin = Instant::now();
    shared.done.resting.store(true, Ordering::Relaxed);
    while begin.elapsed() < REST && !shared.stop.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(50));
    }
    let rested = begin.elapsed() >= REST;
    // A node that has died is found by who reads its memory.
    let unread = |error: &anyhow::Error| eprintln!("!!! a rest that could not be read: {error:#}");
    let at_rest = rested.then(|| at_rest(stack, shared).inspect_err(unread).ok()).flatten();
    shared.done.resting.store(false, Ordering::Relaxed);
    at_rest
}

fn at_rest(stack: &Stack, shared: &Shared) -> anyhow::Result<AtRest> {
    let from = (shared.begin.elapsed() - REST_READ.min(shared.begin.elapsed())).as_secs_f64() / 60.0;
    let readings = shared.readings.lock().map_err(|_| anyhow!("the reader of memory panicked"))?;
    let last = readings.iter().filter(|reading| reading.minutes >= from).map(|reading| reading.memory.resident_bytes);
    let resident_mb = last.min().map(|bytes| round(bytes as f64 / 1e6)).context("no reading of memory at a rest")?;
    // The reader of memory goes on meanwhile.
    drop(readings);
    let metrics = stack.metrics()?;
    let sum = |name: &str| metrics.sum(name).with_context(|| name.to_owned());
    Ok(AtRest {
        resident_mb,
        mappings: Breakdown::of(stack.node_pid())?,
        workers_up: sum("selvage_workers")?,
        workers_mb: round(sum("selvage_worker_memory_bytes")? / 1e6),
        spares: sum("selvage_spares_ready")?,
        abandoned: sum("selvage_isolates_abandoned_total")?,
    })
}

/// Hostile Workers so far.
fn ran(done: &Done) -> u64 {
    done.workers_ran.load(Ordering::Relaxed) + done.workers_refused.load(Ordering::Relaxed)
}

fn draw(folder: &Path, shared: &Shared) -> anyhow::Result<()> {
    let readings = shared.readings.lock().map_err(|_| anyhow!("the reader of memory panicked"))?;
    let series = |label: &str, of: fn(&Memory) -> u64| timeline::Series {
        label: label.to_owned(),
        points: readings.iter().map(|one| (one.minutes, of(&one.memory) as f64 / 1e6)).collect(),
    };
    let all = [series("resident", |it| it.resident_bytes), series("proportional", |it| it.proportional_bytes)];
    std::fs::write(folder.join("memory.svg"), timeline::draw("Memory of the node", "minutes", "MB", &all))?;
    Ok(())
}

fn finish(
    arguments: &Arguments,
    machine: Machine,
    shared: &Shared,
    slices: Vec<Slice>,
    [before, after]: [&Metrics; 2],
    folder: &Path,
) -> anyhow::Result<Verdict> {
    let count = |value: &AtomicU64| value.load(Ordering::Relaxed);
    let grown = |name: &str| Some(after.sum(name)? - before.sum(name).unwrap_or(0.0));
    let at_rest = slices.iter().filter_map(|slice| Some((slice.minutes, slice.at_rest.as_ref()?.resident_mb)));
    let floors: Vec<trend::Point> = if arguments.minutes >= TREND_MINUTES_MIN {
        at_rest.collect()
    } else {
        slices.iter().map(|slice| (slice.minutes, slice.resident_min_mb)).collect()
    };
    let trend = Trend::of(&floors);
    let per_hour = trend.map(|trend| trend.percent_an_hour);
    let wrong = shared.done.wrong.lock().map_err(|_| anyhow!("a hostile thread panicked"))?.clone();
    let failed = slices.iter().map(|slice| slice.failed).sum::<u64>();
    let growth = if arguments.minutes >= TREND_MINUTES_MIN {
        let what = "growth of resident memory at rest over the second half, % an hour";
        Promise::at_most(what, per_hour.map(round), GROWTH_PER_HOUR_MAX)
    } else {
        let what = "growth of resident memory over the second half, % (30 minutes and more: an hour)";
        let half_hours = arguments.minutes / 2.0 / 60.0;
        Promise::at_most(what, per_hour.map(|growth| round(growth * half_hours)), SHORT_GROWTH_MAX)
    };
    let panics = grown("selvage_panics_total").zip(grown("selvage_shard_restarts_total"));
    let promises = vec![
        Promise::at_most("failed requests of the normal tenants", Some(failed as f64), 0.0),
        growth,
        Promise::at_most("panics and restarts of shards", panics.map(|(panics, restarts)| panics + restarts), 0.0),
        Promise::at_most("hostile uploads without a verdict, requests without an end", Some(wrong.len() as f64), 0.0),
    ];
    let verdict = Verdict::of(&promises);
    let report = Report {
        bench: "soak",
        machine,
        seed: arguments.seed,
        minutes: arguments.minutes,
        minutes_with_rests: round(shared.begin.elapsed().as_secs_f64() / 60.0),
        rate: arguments.rate,
        shards: arguments.shards,
        requests: slices.iter().map(|slice| slice.requests).sum(),
        failed,
        hostile_workers_ran: count(&shared.done.workers_ran),
        hostile_workers_refused: count(&shared.done.workers_refused),
        hostile_requests: count(&shared.done.requests),
        hostile_tenants: count(&shared.done.tenants),
        redeploys: count(&shared.done.redeploys),
        evictions: grown("selvage_worker_evictions_total").unwrap_or(f64::NAN),
        abandoned: grown("selvage_isolates_abandoned_total").unwrap_or(f64::NAN),
        panics: panics.map_or(f64::NAN, |(panics, _)| panics),
        growth: trend,
        slices,
        wrong,
        promises,
        ok: verdict == Verdict::Kept,
    };
    print(&report, folder);
    std::fs::write(folder.join("report.json"), serde_json::to_string_pretty(&report)? + "\n")?;
    report::last_line(&report)?;
    Ok(verdict)
}

/// A slice as it ends, for who waits.
fn line(slice: &Slice) -> String {
    let at_rest = slice.at_rest.as_ref().map(|at_rest| format!("\n{}", rest_line(at_rest))).unwrap_or_default();
    format!(
        "minute {:.1}: {} requests, {} failed, p99 {}; {} hostile Workers; resident {:.0} to {:.0} MB{at_rest}",
        slice.minutes,
        slice.requests,
        slice.failed,
        table::micros(slice.latency_us.p99),
        slice.hostile_workers,
        slice.resident_min_mb,
        slice.resident_max_mb
    )
}

/// A rest, to be compared with others.
fn rest_line(at_rest: &AtRest) -> String {
    format!(
        "  at rest {:.1} MB: {}; {} Workers up with {:.1} MB, {} spares, {} isolates abandoned",
        at_rest.resident_mb,
        at_rest.mappings.line(),
        at_rest.workers_up,
        at_rest.workers_mb,
        at_rest.spares,
        at_rest.abandoned
    )
}

fn print(report: &Report, folder: &Path) {
    println!(
        "{}, load average {:.1}; seed {}; {} minutes of load ({:.1} with rests); five normal tenants at {} requests/s each",
        report.machine.cpu,
        report.machine.load_average,
        report.seed,
        report.minutes,
        report.minutes_with_rests,
        report.rate
    );
    println!(
        "{} hostile Workers ran and {} were refused, of {} tenants; {} hostile requests; {} redeployments of a normal tenant",
        report.hostile_workers_ran,
        report.hostile_workers_refused,
        report.hostile_tenants,
        report.hostile_requests,
        report.redeploys
    );
    println!(
        "{} evictions; {} isolates abandoned, each with 4 GiB of address space and no memory",
        report.evictions, report.abandoned
    );
    let row = |slice: &Slice| {
        vec![
            format!("{:.1}", slice.minutes),
            slice.requests.to_string(),
            slice.failed.to_string(),
            table::micros(slice.latency_us.p50),
            table::micros(slice.latency_us.p99),
            table::micros(slice.latency_us.max),
            slice.hostile_workers.to_string(),
            slice.workers_up.to_string(),
            format!("{:.1}", slice.resident_min_mb),
            format!("{:.1}", slice.resident_max_mb),
            slice.at_rest.as_ref().map(|at_rest| format!("{:.1}", at_rest.resident_mb)).unwrap_or_default(),
            table::grouped(slice.virtual_mb),
            slice.abandoned.to_string(),
        ]
    };
    let heading = [
        "minute",
        "requests",
        "failed",
        "p50",
        "p99",
        "max",
        "hostile",
        "up",
        "MB min",
        "MB max",
        "at rest",
        "virtual MB",
        "abandoned",
    ];
    print!("{}", table::render(&heading, &report.slices.iter().map(row).collect::<Vec<_>>()));
    for slice in &report.slices {
        if let Some(at_rest) = &slice.at_rest {
            println!("minute {:.0}{}", slice.minutes, rest_line(at_rest));
        }
    }
    if let Some(growth) = &report.growth {
        println!("growth of resident memory over the second half: {}", growth.line(GROWTH_PER_HOUR_MAX));
    }
    for wrong in report.wrong.iter().take(10) {
        println!("WRONG {wrong}");
    }
    println!("plot, failures, the node's log: {}", folder.display());
    print_promises(&report.promises);
}
