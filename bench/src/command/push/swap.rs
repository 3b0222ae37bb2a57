//! All routes of the real node replaced while it serves: what its requests notice.
//!
//! Routes are imported, and one more is added through the API: then the control plane makes a new base of all, and the node
//! fetches, checks and maps it. A steady open-loop load asks the node in short slices. Those that begin between the base being
//! made and the node's acknowledgement are the *swap*'s; those before are *quiet*. The control plane's own work before that (reading
//! and sorting all routes, writing them to disk) is timed from its log and left out: in a fleet it is another machine's. So it has the other core,
//! and the load has the node's: beside a control plane that reads, writes and sends hundreds of megabytes the load's own waits for
//! its core, up to 5 ms, would be taken for the node's.

use std::fs::File;
use std::io::{BufWriter, Seek as _, Write as _};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, ensure};
use hdrhistogram::Histogram;
use plane_abi::{HostKind, PathKind};
use serde::Serialize;

use super::{Arguments, published};
use crate::load::record::LATENCY_NS_MAX;
use crate::load::{self, Arrivals, Expect, Mode, Plan};
use crate::machine;
use crate::report::{self, Quantiles, table};
use crate::stack::{Binaries, Deployment, Stack};

#[path = "../../../../dataplane/route/examples/table/sample.rs"]
mod sample;

/// Deployments that routes lead to.
const DEPLOYMENTS: u64 = 50;
/// New routes that a base is made anew for, one in so many.
const SHARE: u64 = 50;
/// Quiet slices.
const QUIET: Duration = Duration::from_secs(20);
const SLICE: Duration = Duration::from_millis(100);
/// Until the control plane has made a base, and a node has it.
const BASE_TIMEOUT: Duration = Duration::from_secs(900);
const POLL: Duration = Duration::from_millis(10);

/// What came of it.
#[derive(Serialize)]
pub(super) struct Swap {
    pub(super) routes: u64,
    /// Seconds for the first import.
    import_s: f64,
    /// Seconds from the change to the base being made: reading all routes, and the whole; the worst.
    read_s: f64,
    made_s: f64,
    /// Seconds from there to the node's acknowledgement; the worst.
    node_s: f64,
    /// Milliseconds from a change of one route over the base to its answer; the median.
    change_ms: f64,
    quiet_us: Quantiles,
    /// Of each swap.
    swaps_us: Vec<Quantiles>,
    /// What the median swap's p99 has more than the quiet one.
    pub(super) added_ms: f64,
    pub(super) failed: u64,
}

impl Swap {
    pub(super) fn show(&self) {
        println!(
            "{} routes: imported in {:.0} s; a new base made in {:.1} s ({:.1} reading), at the node {:.1} s later; one change over it {:.0} ms",
            self.routes, self.import_s, self.made_s, self.read_s, self.node_s, self.change_ms
        );
        let row = |name: &str, of: &Quantiles| {
            let cells = [of.p50, of.p90, of.p99, of.max].map(table::micros);
            [vec![name.to_owned()], cells.to_vec()].concat()
        };
        let mut rows = vec![row("quiet", &self.quiet_us)];
        rows.extend(self.swaps_us.iter().enumerate().map(|(number, swap)| row(&format!("swap {}", number + 1), swap)));
        print!("{}", table::render(&["the real node", "p50", "p90", "p99", "max"], &rows));
    }
}

/// A slice of the load.
struct Slice {
    begin: Instant,
    end: Instant,
    latency: Histogram<u64>,
    failed: u64,
}

/// On the node's core, and the other.
pub(super) fn run(
    arguments: &Arguments,
    binaries: &Binaries,
    stack: &mut Stack,
    (node_core, other_core): (usize, usize),
) -> anyhow::Result<Swap> {
    let module = b"export default { fetch() { return new Response('here'); } };\n";
    let deployments = (0..DEPLOYMENTS).map(|number| stack.deploy(&format!("to-{number}"), module));
    let deployments: Vec<Deployment> = deployments.collect::<anyhow::Result<_>>()?;
    // The others have more than the API lets anybody add to.
    let changed = stack.deploy("changed", module)?;
    let begin = Instant::now();
    let hosts = (arguments.routes / sample::ROUTES_PER_HOST).max(1_000);
    let added = import(binaries, stack, &deployments, 0..hosts)?;
    let import_s = begin.elapsed().as_secs_f64();

    machine::pin_thread(&[other_core])?;
    let (slices, stop) = (Mutex::new(Vec::new()), AtomicBool::new(false));
    let target = stack.target(&deployments[0].subdomain, "/")?;
    let mode = Mode::Open { rate: arguments.rate, arrivals: Arrivals::Poisson, backlog_max: 100_000 };
    let plan = Plan {
        connections: 16,
        warmup: Duration::ZERO,
        duration: SLICE,
        expect: Expect { status: Some(200), body_bytes: Some(4) },
        ..Plan::get(target, mode)
    };
    let shared: &Stack = stack;
    let done = std::thread::scope(|scope| {
        let load = scope.spawn(|| {
            machine::pin_thread(&[node_core])?;
            // As the shard has one: the two take turns, and both take the core from the agent.
            worker_api::shorten_slice().context("a short slice for the load")?;
            keep_asking(&plan, &slices, &stop)
        });
        let done = swap_all(arguments, binaries, shared, (&deployments, &changed), hosts);
        stop.store(true, Ordering::Relaxed);
        load.join().map_err(|_| anyhow!("the load panicked"))??;
        done
    })?;
    stack.expect_alive()?;
    let slices = slices.into_inner().map_err(|_| anyhow!("the load panicked"))?;
    let mut failed = 0;
    let mut of = |within: &dyn Fn(&Slice) -> bool| -> anyhow::Result<Histogram<u64>> {
        let mut all = Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3)?;
        for slice in slices.iter().filter(|slice| within(slice)) {
            all.add(&slice.latency)?;
            failed += slice.failed;
        }
        Ok(all)
    };
    let quiet = of(&|slice| slice.end <= done.quiet_until && slice.begin >= done.quiet_from)?;
    let within = |(from, to): &(Instant, Instant)| of(&|slice| slice.begin >= *from && slice.begin < *to);
    let swaps = done.swaps.iter().map(within).collect::<anyhow::Result<Vec<_>>>()?;
    ensure!(swaps.iter().chain([&quiet]).all(|one| !one.is_empty()), "no requests were measured");
    let p99_ms = |histogram: &Histogram<u64>| histogram.value_at_quantile(0.99) as f64 / 1e6;
    let mut p99s: Vec<f64> = swaps.iter().map(p99_ms).collect();
    p99s.sort_by(f64::total_cmp);
    let node_s = done.swaps.iter().map(|(from, to)| (*to - *from).as_secs_f64()).fold(0.0, f64::max);
    Ok(Swap {
        routes: added,
        import_s: report::round(import_s),
        read_s: report::round(done.read_s),
        made_s: report::round(done.made_s),
        node_s: report::round(node_s),
        change_ms: report::round(done.change_ms),
        quiet_us: Quantiles::of(&quiet),
        swaps_us: swaps.iter().map(Quantiles::of).collect(),
        added_ms: report::round(p99s[p99s.len() / 2] - p99_ms(&quiet)),
        failed,
    })
}

/// Asks the node, slice by slice, until told to stop.
fn keep_asking(plan: &Plan, slices: &Mutex<Vec<Slice>>, stop: &AtomicBool) -> anyhow::Result<()> {
    let mut seed = plan.seed;
    while !stop.load(Ordering::Relaxed) {
        seed = sample::mix(seed);
        let begin = Instant::now();
        let outcome = load::run(&Plan { seed, ..plan.clone() })?;
        let slice = Slice {
            begin,
            end: Instant::now(),
            latency: outcome.tally.latency.clone(),
            failed: outcome.tally.errors.total(),
        };
        slices.lock().map_err(|_| anyhow!("the reader panicked"))?.push(slice);
    }
    Ok(())
}

/// When what happened.
struct Done {
    quiet_from: Instant,
    quiet_until: Instant,
    /// A base was made; the node had it.
    swaps: Vec<(Instant, Instant)>,
    read_s: f64,
    made_s: f64,
    change_ms: f64,
}

fn swap_all(
    arguments: &Arguments,
    binaries: &Binaries,
    stack: &Stack,
    (deployments, changed): (&[Deployment], &Deployment),
    hosts: u64,
) -> anyhow::Result<Done> {
    let quiet_from = Instant::now();
    std::thread::sleep(QUIET);
    let quiet_until = Instant::now();
    let (mut swaps, mut read_s, mut made_s) = (Vec::new(), 0f64, 0f64);
    let mut changes_ms = Vec::new();
    for round in 0..arguments.swaps.max(1) as u64 {
        if round > 0 {
            let more = (hosts / SHARE).max(1_000);
            let first = hosts + round * more;
            import(binaries, stack, deployments, first..first + more)?;
        }
        let before = Log::read(stack.control_log())?;
        let (made, read_ms, made_ms) = std::thread::scope(|scope| {
            let change = scope.spawn(|| stack.route(changed, &format!("swap-{round}.example.com/*")));
            let made = wait_made(stack, before.bases, || change.is_finished());
            change.join().map_err(|_| anyhow!("the change panicked"))?.context("the change that has a base made")?;
            made
        })?;
        let acked = wait_acked(stack)?;
        swaps.push((made, acked));
        (read_s, made_s) = (read_s.max(read_ms as f64 / 1e3), made_s.max(made_ms as f64 / 1e3));
        for number in 0..10 {
            let begin = Instant::now();
            stack.route(changed, &format!("over-{round}-{number}.example.com/*"))?;
            changes_ms.push(begin.elapsed().as_secs_f64() * 1e3);
        }
    }
    changes_ms.sort_by(f64::total_cmp);
    Ok(Done { quiet_from, quiet_until, swaps, read_s, made_s, change_ms: changes_ms[changes_ms.len() / 2] })
}

/// What the control plane has said of bases.
struct Log {
    bases: usize,
    read_ms: u64,
    all_ms: u64,
}

impl Log {
    fn read(path: &Path) -> anyhow::Result<Log> {
        let text = std::fs::read_to_string(path)?;
        let made: Vec<&str> = text.lines().filter(|line| line.contains("made a base of routes")).collect();
        let number = |key: &str| {
            let rest = made.last().and_then(|line| line.split(key).nth(1));
            rest.and_then(|rest| rest.split(' ').next()).and_then(|number| number.trim().parse().ok()).unwrap_or(0)
        };
        Ok(Log { bases: made.len(), read_ms: number("read_ms="), all_ms: number("all_ms=") })
    }
}

/// Waits for one more base. `answered` says whether the change that asks for it is over.
fn wait_made(stack: &Stack, before: usize, answered: impl Fn() -> bool) -> anyhow::Result<(Instant, u64, u64)> {
    let begin = Instant::now();
    loop {
        let answered = answered();
        let Log { bases, read_ms, all_ms } = Log::read(stack.control_log())?;
        if bases > before {
            return Ok((Instant::now(), read_ms, all_ms));
        }
        ensure!(!answered, "the change was answered, and no base was made");
        ensure!(begin.elapsed() < BASE_TIMEOUT, "no base was made in {BASE_TIMEOUT:?}");
        std::thread::sleep(POLL);
    }
}

/// Waits until the node serves what was published last.
fn wait_acked(stack: &Stack) -> anyhow::Result<Instant> {
    let begin = Instant::now();
    loop {
        let wanted = published(stack.control_log())?;
        let served = std::fs::read_to_string(stack.node_log())?;
        let served = served.lines().rev().find(|line| line.contains("configuration published"));
        if served.is_some_and(|line| line.contains(&format!("generation={wanted} "))) {
            return Ok(Instant::now());
        }
        ensure!(begin.elapsed() < BASE_TIMEOUT, "the node has not the new base after {BASE_TIMEOUT:?}");
        std::thread::sleep(POLL);
    }
}

/// Imports the routes of these hosts; how many there are.
fn import(
    binaries: &Binaries,
    stack: &Stack,
    deployments: &[Deployment],
    hosts: std::ops::Range<u64>,
) -> anyhow::Result<u64> {
    let path = stack.dir().join("routes.txt");
    let mut lines = BufWriter::new(File::options().create(true).truncate(true).write(true).read(true).open(path)?);
    for index in hosts {
        let ((host_kind, host), to) = (sample::host(index), sample::mix(index) % deployments.len() as u64);
        let wildcard = if host_kind == HostKind::Wildcard { "*." } else { "" };
        for route in 0..sample::ROUTES_PER_HOST {
            let (path_kind, path) = sample::path(index, route);
            let star = if path_kind == PathKind::Prefix { "*" } else { "" };
            writeln!(lines, "{} {wildcard}{host}{path}{star}", deployments[to as usize].id)?;
        }
    }
    let mut file = lines.into_inner().map_err(|error| error.into_error())?;
    file.rewind()?;
    stack.import_routes(binaries, file)
}
