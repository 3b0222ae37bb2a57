//! `load-test`: how a server behaves at a few fixed rates; by default a node of its own with the hello Worker.
//!
//! First a short closed loop finds the capacity, then open loops run at fractions of it (or at the rates asked for).
//! Writes `report.json` and `latency.svg`.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Args;
use serde::Serialize;

use super::{Promise, Verdict, parse_duration, print_promises};
use crate::load::{self, Arrivals, Mode, Outcome, Plan, Scope, Target};
use crate::machine::{self, Machine};
use crate::report::{self, RunReport, plot, table};
use crate::stack::{Binaries, Options, Stack};
use crate::{checkout, report::round};

/// Shares of the capacity that the default rates are.
const FRACTIONS: [f64; 3] = [0.1, 0.5, 0.8];
/// Requests that may be due and not sent, per thread.
const BACKLOG_MAX: usize = 100_000;

/// Load a server at fixed rates and report its latencies
#[derive(Args, Debug)]
pub struct Arguments {
    /// Server to load (loopback only); by default a control plane and a node are started, with docs/examples/hello
    #[arg(long)]
    url: Option<String>,
    /// Requests a second, one run each; by default 10, 50 and 80 % of the measured capacity
    #[arg(long, value_delimiter = ',')]
    rates: Vec<f64>,
    /// Length of each run
    #[arg(long, default_value = "5s", value_parser = parse_duration)]
    duration: Duration,
    /// Load before each run that is not measured
    #[arg(long, default_value = "1s", value_parser = parse_duration)]
    warmup: Duration,
    /// Requests after which a run ends early
    #[arg(long)]
    requests: Option<u64>,
    /// Connections
    #[arg(long, short, default_value_t = 64)]
    connections: usize,
    /// Requests under way on one connection
    #[arg(long, default_value_t = 1)]
    pipeline: usize,
    /// A request without a response by then has failed
    #[arg(long, default_value = "5s", value_parser = parse_duration)]
    timeout: Duration,
    /// How arrivals are spread
    #[arg(long, value_enum, default_value_t = Arrivals::Poisson)]
    arrivals: Arrivals,
    /// Cores for the load, one thread each; by default the last one, if there is more than one
    #[arg(long, value_delimiter = ',')]
    cores: Vec<usize>,
    /// Shards of the node that is started; by default one for each core without load
    #[arg(long)]
    shards: Option<usize>,
    /// The status of a good response; by default any 2xx
    #[arg(long)]
    expect_status: Option<u16>,
    /// The exact length of a good response's body
    #[arg(long)]
    expect_bytes: Option<u64>,
    /// Folder for report.json and latency.svg [default: target/load-test]
    #[arg(long)]
    out: Option<PathBuf>,
    /// Allow a target that is not loopback: this process is in a network namespace of its own
    #[arg(long, requires = "url")]
    own_namespace: bool,
}

#[derive(Serialize)]
struct Report {
    bench: &'static str,
    target: String,
    machine: Machine,
    shards: Option<usize>,
    capacity: RunReport,
    runs: Vec<RunReport>,
    plot: String,
    promises: Vec<Promise>,
    ok: bool,
}

/// Runs it.
pub fn run(arguments: &Arguments) -> anyhow::Result<Verdict> {
    let machine = Machine::describe();
    let cores = machine::cores();
    let load_cores = match (arguments.cores.as_slice(), cores.as_slice()) {
        ([], [_]) | ([], []) => Vec::new(),
        ([], [.., last]) => vec![*last],
        (chosen, _) => chosen.to_vec(),
    };
    let node_cores: Vec<usize> = cores.iter().copied().filter(|core| !load_cores.contains(core)).collect();
    let shards = arguments.shards.unwrap_or(node_cores.len().max(1));
    let (stack, target) = match &arguments.url {
        Some(url) => {
            let scope = if arguments.own_namespace { Scope::OwnNamespace } else { Scope::Loopback };
            (None, Target::parse(url, scope)?)
        }
        None => {
            eprintln!("starting a control plane and a node of {shards} shard(s)");
            let module = checkout::example("hello")?;
            let options =
                Options { shards, node_cores: node_cores.clone(), control_cores: node_cores, ..Options::default() };
            let mut stack = Stack::start(&Binaries::find()?, &options)?;
            let deployment = stack.deploy("hello", &module)?;
            let target = stack.target(&deployment.subdomain, "/")?;
            (Some(stack), target)
        }
    };

    let (capacity, outcomes) = measure(arguments, &target, &load_cores)?;
    let runs: Vec<RunReport> =
        outcomes.iter().map(|(plan, outcome, name)| RunReport::new(name, plan, outcome)).collect();
    let promises = vec![Promise::at_most(
        "failed requests",
        Some(runs.iter().map(|run| run.errors.values().sum::<u64>()).sum::<u64>() as f64),
        0.0,
    )];
    if let Some(stack) = stack {
        stack.stop()?;
    }

    let out = match &arguments.out {
        Some(out) => out.clone(),
        None => checkout::target_folder("load-test")?,
    };
    std::fs::create_dir_all(&out).with_context(|| out.display().to_string())?;
    let series: Vec<_> = outcomes
        .iter()
        .map(|(_, outcome, name)| plot::Series { label: name.clone(), histogram: &outcome.tally.latency })
        .collect();
    let plot_path = out.join("latency.svg");
    std::fs::write(&plot_path, plot::latency("Latency from the due time, open loop", &series))?;

    println!("{} ({} cores, load average {:.1})", machine.cpu, machine.cores, machine.load_average);
    let mut all = vec![capacity.clone()];
    all.extend(runs.iter().cloned());
    print!("{}", table::runs(&all));
    println!("plot: {}", plot_path.display());
    print_promises(&promises);
    let verdict = Verdict::of(&promises);
    let report = Report {
        bench: "load-test",
        target: format!("http://{}{}", target.host, target.path),
        machine,
        shards: arguments.url.is_none().then_some(shards),
        capacity,
        runs,
        plot: plot_path.display().to_string(),
        ok: verdict == Verdict::Kept,
        promises,
    };
    std::fs::write(out.join("report.json"), serde_json::to_string_pretty(&report)? + "\n")?;
    report::last_line(&report)?;
    Ok(verdict)
}

type Runs = Vec<(Plan, Outcome, String)>;

fn measure(arguments: &Arguments, target: &Target, load_cores: &[usize]) -> anyhow::Result<(RunReport, Runs)> {
    let base = Plan {
        connections: arguments.connections,
        pipeline: arguments.pipeline,
        timeout: arguments.timeout,
        warmup: arguments.warmup,
        duration: arguments.duration,
        requests_max: arguments.requests,
        cores: load_cores.to_vec(),
        expect: load::Expect { status: arguments.expect_status, body_bytes: arguments.expect_bytes },
        ..Plan::get(target.clone(), Mode::Closed)
    };
    eprintln!("capacity: closed loop, {} connections", base.connections);
    let short = Plan { duration: arguments.duration.min(Duration::from_secs(3)), ..base.clone() };
    let outcome = load::run(&short)?;
    let capacity = RunReport::new("capacity", &short, &outcome);
    ensure!(outcome.tally.ok > 0, "no good response at all: {}", outcome.tally.samples.join("; "));

    let rates: Vec<(f64, String)> = if arguments.rates.is_empty() {
        let named = |share: &f64| (round(outcome.rate() * share), format!("{:.0} % of capacity", share * 100.0));
        FRACTIONS.iter().map(named).collect()
    } else {
        arguments.rates.iter().map(|rate| (*rate, format!("{}/s", table::grouped(*rate)))).collect()
    };
    let mut runs = Vec::new();
    for (rate, name) in rates {
        eprintln!("open loop at {} requests/s", table::grouped(rate));
        let mode = Mode::Open { rate, arrivals: arguments.arrivals, backlog_max: BACKLOG_MAX };
        let plan = Plan { mode, ..base.clone() };
        let outcome = load::run(&plan)?;
        runs.push((plan, outcome, name));
    }
    Ok((capacity, runs))
}
