//! `push`: a change's way to a thousand nodes. One is real and serves; the others are simulated ([`fleet`]) in a process of their
//! own, and speak the real protocol.
//!
//! *Activation:* from just before the API's PUT is sent to each simulated node's acknowledgement, for which it has the snapshot
//! checked and every module, and to the real node's first response of the new version. *Bytes:* what the sockets of simulated
//! nodes received for a change of one route, TLS and all. *Swap* ([`swap`]): ten million routes, all of them new to the real
//! node, while it serves a steady load.

pub mod fleet;
mod swap;

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use clap::Args;
use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::{Promise, Verdict, print_promises};
use crate::client::Client;
use crate::load::record::LATENCY_NS_MAX;
use crate::machine::{self, Machine};
use crate::process::Server;
use crate::report::{self, Quantiles, table};
use crate::stack::{Binaries, Deployment, Options, Stack};

/// Activation to served, p99 over all nodes and activations (docs/SPECIFICATION.md).
const SERVED_MS_MAX: f64 = 1_000.0;
/// What a node receives for a change of one route.
const CHANGE_BYTES_MAX: f64 = 1_024.0;
/// What a swap of all routes may add to the p99 of the real node's requests.
const SWAP_MS_MAX: f64 = 1.0;
/// A change that is not everywhere by then ends the bench.
const GIVE_UP: Duration = Duration::from_secs(60);
const FLEET_TIMEOUT: Duration = Duration::from_secs(120);
const STOP_GRACE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(5);

/// A change's way to a thousand nodes: served by all within a second, a kilobyte each, ten million routes without a pause
#[derive(Args, Debug)]
pub struct Arguments {
    /// Simulated nodes
    #[arg(long, default_value_t = 1_000)]
    nodes: usize,
    /// Activations
    #[arg(long, default_value_t = 30)]
    activations: usize,
    /// Changes of one route
    #[arg(long, default_value_t = 20)]
    changes: usize,
    /// Routes of the swap; 0: no swap
    #[arg(long, default_value_t = 10_000_000)]
    routes: u64,
    /// Swaps of all routes
    #[arg(long, default_value_t = 5)]
    swaps: usize,
    /// Requests a second to the real node beside a swap
    #[arg(long, default_value_t = 500.0)]
    rate: f64,
    /// Shards of the real node
    #[arg(long, default_value_t = 1)]
    shards: usize,
}

#[derive(Serialize)]
struct Report {
    bench: &'static str,
    machine: Machine,
    nodes: usize,
    /// Until all nodes were connected and served something.
    connected_s: f64,
    /// PUT sent to acknowledged, each simulated node and activation.
    acked_us: Quantiles,
    /// The same to the last node, each activation.
    last_us: Quantiles,
    /// PUT sent to the real node's first response.
    served_us: Quantiles,
    /// Bytes that a node received for a change of one route: the median node's, the worst node's.
    change_bytes: [u64; 2],
    swap: Option<swap::Swap>,
    promises: Vec<Promise>,
    ok: bool,
}

/// The process of the simulated nodes.
struct Fleet {
    server: Server,
    log: BufReader<File>,
}

/// What all of them acknowledged.
struct Acked {
    bytes_median: u64,
    bytes_max: u64,
    at_ns: Vec<u64>,
}

impl Fleet {
    fn start(binaries: &Binaries, stack: &Stack, nodes: usize) -> anyhow::Result<Fleet> {
        let style = ProgressStyle::with_template("{bar:30} {pos}/{len} nodes enrolled")?;
        let progress = ProgressBar::new(nodes as u64).with_style(style);
        let (mut control, identities) = (String::new(), stack.dir().join("identities"));
        std::fs::create_dir_all(&identities)?;
        for number in 0..nodes {
            let (address, identity) = stack.enroll(binaries, &format!("sim-{number}"))?;
            std::fs::rename(identity, identities.join(format!("sim-{number}")))?;
            control = address;
            progress.inc(1);
        }
        progress.finish_and_clear();
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["push-fleet", "--control", &control, "--identities"]).arg(&identities);
        let mut server = Server::start("fleet", command, &[], stack.dir())?;
        server.wait_ready(FLEET_TIMEOUT)?;
        let log = BufReader::new(File::open(server.log())?);
        Ok(Fleet { server, log })
    }

    /// Waits until all have acknowledged a generation.
    fn acked(&mut self, generation: u64) -> anyhow::Result<Acked> {
        let (begin, mut line) = (Instant::now(), String::new());
        loop {
            if self.log.read_line(&mut line)? == 0 || !line.ends_with('\n') {
                self.server.expect_alive()?;
                ensure!(begin.elapsed() < GIVE_UP, "generation {generation} is not everywhere after {GIVE_UP:?}");
                std::thread::sleep(POLL);
                continue;
            }
            let numbers = line.strip_prefix("acked ").map(|rest| rest.split_ascii_whitespace().map(str::parse::<u64>));
            let numbers: Vec<u64> = numbers.into_iter().flatten().collect::<Result<_, _>>()?;
            if let [acked, bytes_median, bytes_max, at_ns @ ..] = numbers.as_slice()
                && *acked >= generation
            {
                return Ok(Acked { bytes_median: *bytes_median, bytes_max: *bytes_max, at_ns: at_ns.to_vec() });
            }
            line.clear();
        }
    }
}

/// Runs it.
pub fn run(arguments: &Arguments) -> anyhow::Result<Verdict> {
    ensure!(arguments.nodes > 0 && arguments.activations > 0 && arguments.changes > 0, "nothing to measure");
    let (machine, binaries) = (Machine::describe(), Binaries::find()?);
    let (server_core, other_core) = machine::two_cores().context("this bench needs two cores: one for the node")?;
    let (node_cores, control_cores) = (vec![server_core], vec![other_core]);
    let options = Options { shards: arguments.shards, node_cores, control_cores, ..Options::default() };
    let mut stack = Stack::start(&binaries, &options)?;
    let module = |text: &str| format!("export default {{ fetch() {{ return new Response({text:?}); }} }};\n");
    let deployment = stack.deploy("swap", module("one").as_bytes())?;
    ensure!(stack.upload(&deployment, module("two").as_bytes())? == 2, "the second upload is version 2");
    let begin = Instant::now();
    let mut fleet = Fleet::start(&binaries, &stack, arguments.nodes)?;
    let connected_s = begin.elapsed().as_secs_f64();
    let times = activate_all(arguments, &mut stack, &mut fleet, &deployment)?;
    let change_bytes = change_routes(arguments, &stack, &mut fleet, &deployment)?;
    // A thousand nodes that fetch 186 MB each are a matter of the network's, not of this machine's loopback.
    fleet.server.stop(STOP_GRACE)?;
    let swap = match arguments.routes {
        0 => None,
        _ => Some(swap::run(arguments, &binaries, &mut stack, (server_core, other_core))?),
    };
    stack.stop()?;
    let all = {
        let mut all = times.acked.clone();
        all.add(&times.served)?;
        all
    };
    let p99_ms = |histogram: &Histogram<u64>| Some(histogram.value_at_quantile(0.99) as f64 / 1e6);
    let mut promises = vec![
        Promise::at_most("activation to served, all nodes, p99, ms", p99_ms(&all), SERVED_MS_MAX),
        Promise::at_most("the same at the real node, p99, ms", p99_ms(&times.served), SERVED_MS_MAX),
        Promise::at_most("bytes of a one-route change, worst node", Some(change_bytes[1] as f64), CHANGE_BYTES_MAX),
    ];
    if let Some(swap) = &swap {
        let what = format!("{} routes swapped: added to the real node's p99 by the median one, ms", swap.routes);
        promises.push(Promise::at_most(&what, Some(swap.added_ms), SWAP_MS_MAX));
        promises.push(Promise::at_most("requests that failed meanwhile", Some(swap.failed as f64), 0.0));
    }
    let report = Report {
        bench: "push",
        machine,
        nodes: arguments.nodes,
        connected_s: report::round(connected_s),
        acked_us: Quantiles::of(&times.acked),
        last_us: Quantiles::of(&times.last),
        served_us: Quantiles::of(&times.served),
        change_bytes,
        swap,
        ok: Verdict::of(&promises) == Verdict::Kept,
        promises,
    };
    show(&report)
}

struct Times {
    acked: Histogram<u64>,
    last: Histogram<u64>,
    served: Histogram<u64>,
}

fn activate_all(
    arguments: &Arguments,
    stack: &mut Stack,
    fleet: &mut Fleet,
    deployment: &Deployment,
) -> anyhow::Result<Times> {
    let histogram = || Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3);
    let mut times = Times { acked: histogram()?, last: histogram()?, served: histogram()? };
    for round in 0..arguments.activations {
        let version = 2 - (round as u64 % 2);
        let client = Client::new(stack.target(&deployment.subdomain, "/")?, Duration::from_secs(5));
        let (begin, begin_ns) = (Instant::now(), fleet::monotonic_ns());
        let (generation, served) = std::thread::scope(|scope| {
            let prober = scope.spawn(|| wait_served(client, version, begin));
            let generation = stack.activate_as(deployment, version);
            let served = prober.join().map_err(|_| anyhow::anyhow!("the prober panicked"))?;
            anyhow::Ok((generation?, served?))
        })?;
        times.served.saturating_record((served.as_nanos() as u64).max(1));
        let acked = fleet.acked(generation).with_context(|| format!("activation {}", round + 1))?;
        let since: Vec<u64> = acked.at_ns.iter().map(|at_ns| at_ns.saturating_sub(begin_ns).max(1)).collect();
        since.iter().for_each(|ns| times.acked.saturating_record(*ns));
        times.last.saturating_record(since.into_iter().max().unwrap_or(1));
        stack.expect_alive()?;
    }
    Ok(times)
}

/// Asks the real node until it answers with that version; how long that took.
fn wait_served(mut client: Client, version: u64, begin: Instant) -> anyhow::Result<Duration> {
    let wanted = format!("v{version}");
    while begin.elapsed() < GIVE_UP {
        if client.get()?.field("x-deployment-version") == Some(&wanted) {
            return Ok(begin.elapsed());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    bail!("{wanted} is not served after {GIVE_UP:?}")
}

fn change_routes(
    arguments: &Arguments,
    stack: &Stack,
    fleet: &mut Fleet,
    deployment: &Deployment,
) -> anyhow::Result<[u64; 2]> {
    let (mut medians, mut worst) = (Vec::new(), 0);
    // Bytes are counted from one acknowledgement to the next: in the first change's is who else has come, too.
    for number in 0..=arguments.changes {
        let generation = published(stack.control_log())?;
        stack.route(deployment, &format!("changed-{number}.example.com/*"))?;
        let acked = fleet.acked(generation + 1)?;
        if number > 0 {
            medians.push(acked.bytes_median);
            worst = worst.max(acked.bytes_max);
        }
    }
    medians.sort_unstable();
    Ok([medians[medians.len() / 2], worst])
}

/// The generation that the control plane has published last, by its log.
fn published(log: &Path) -> anyhow::Result<u64> {
    let text = std::fs::read_to_string(log)?;
    let last = text.lines().rev().find(|line| line.contains("published generation="));
    let last = last.context("nothing was published")?;
    let number = last.split("generation=").nth(1).and_then(|rest| rest.split(' ').next());
    number.and_then(|number| number.parse().ok()).with_context(|| format!("no generation in {last:?}"))
}

fn show(report: &Report) -> anyhow::Result<Verdict> {
    println!(
        "{}, load average {:.1}; {} simulated nodes and a real one; enrolled and connected in {:.1} s",
        report.machine.cpu, report.machine.load_average, report.nodes, report.connected_s
    );
    let row = |name: &str, of: &Quantiles| {
        let cells = [of.min, of.p50, of.p90, of.p99, of.max].map(table::micros);
        [vec![name.to_owned()], cells.to_vec()].concat()
    };
    let rows = [
        row("each simulated node", &report.acked_us),
        row("the last of them", &report.last_us),
        row("served by the real node", &report.served_us),
    ];
    print!("{}", table::render(&["from the PUT", "min", "p50", "p90", "p99", "max"], &rows));
    println!("a change of one route: {} bytes, worst node {}", report.change_bytes[0], report.change_bytes[1]);
    if let Some(swap) = &report.swap {
        swap.show();
    }
    print_promises(&report.promises);
    report::last_line(report)?;
    Ok(if report.ok { Verdict::Kept } else { Verdict::Missed })
}
