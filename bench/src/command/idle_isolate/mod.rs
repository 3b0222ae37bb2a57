//! `idle-isolate`: what an idle Worker costs in memory, and whether starting and dropping many leaves anything behind.
//!
//! One node with one shard and one Worker up; then as many Workers of as many tenants are deployed and each is asked once. The
//! difference in resident memory, divided by their number, is what one costs: its isolate, its module, its part of the node's
//! configuration. workerd's is the difference between a process that holds one service and one that holds them all behind a
//! router. Deno and Bun have one program in a process: a thousand processes are not comparable, so they are not here.
//! Cycles of starting and dropping run in a process of their own ([`cycles`]).

mod cycles;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use self::cycles::CyclesReport;
use super::{Promise, Verdict, parse_duration, print_promises};
use crate::checkout;
use crate::client::Client;
use crate::machine::{Machine, Memory};
use crate::peers::{HELLO_MODULE, Peer};
use crate::process::{free_port, loopback};
use crate::report::{self, round, table};
use crate::stack::{Binaries, Options, Stack};

/// Resident memory of an idle isolate, MB (docs/SPECIFICATION.md).
const IDLE_MB_MAX: f64 = 1.8;
/// Resident memory after all cycles over that after the first tenth of them.
const GROWTH_MAX: f64 = 1.02;
/// Workers that fit in one shard beside the one that is up before.
const COUNT_MAX: usize = 1_000;
const CALL_TIMEOUT: Duration = Duration::from_secs(20);
const START_TIMEOUT: Duration = Duration::from_secs(120);

/// Measure the memory of idle isolates of 1,000 tenants, and whether isolates leave any behind
#[derive(Args, Debug)]
pub struct Arguments {
    /// Workers, each of a tenant of its own
    #[arg(long, default_value_t = COUNT_MAX)]
    count: usize,
    /// What each of them is
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Flavour::Hello, Flavour::Hono])]
    workers: Vec<Flavour>,
    /// Pause before memory is read: a Worker is idle after 10 s, and 1,000 then take some more
    #[arg(long, default_value = "30s", value_parser = parse_duration)]
    settle: Duration,
    /// Isolates that are started and dropped in turn; none: 0
    #[arg(long, default_value_t = 2_000)]
    cycles: u64,
    /// Measure this node alone
    #[arg(long)]
    without_peer: bool,
    /// More flags of the node, separated by spaces
    #[arg(long, value_name = "FLAGS", allow_hyphen_values = true, default_value = "")]
    node: String,
}

/// A Worker to be idle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
enum Flavour {
    /// One line.
    Hello,
    /// A bundle of 100 KB.
    Hono,
}

impl Flavour {
    fn name(self) -> &'static str {
        match self {
            Flavour::Hello => "hello",
            Flavour::Hono => "hono",
        }
    }

    fn module(self) -> anyhow::Result<Vec<u8>> {
        match self {
            Flavour::Hello => Ok(HELLO_MODULE.as_bytes().to_vec()),
            Flavour::Hono => checkout::example("hono"),
        }
    }
}

/// Memory of one server with few and with many Workers.
#[derive(Serialize)]
struct Cost {
    server: &'static str,
    worker: Flavour,
    count: usize,
    before: Memory,
    after: Memory,
    /// Resident memory of one, MB (10⁶ bytes).
    resident_mb: f64,
    /// The same, shared pages divided.
    proportional_mb: f64,
    /// Address space of one, MB.
    virtual_mb: f64,
}

impl Cost {
    fn new(server: &'static str, worker: Flavour, count: usize, before: Memory, after: Memory) -> Cost {
        let each = |before: u64, after: u64| round((after as f64 - before as f64) / count as f64 / 1e6);
        Cost {
            server,
            worker,
            count,
            before,
            after,
            resident_mb: each(before.resident_bytes, after.resident_bytes),
            proportional_mb: each(before.proportional_bytes, after.proportional_bytes),
            virtual_mb: each(before.virtual_bytes, after.virtual_bytes),
        }
    }
}

#[derive(Serialize)]
struct Report {
    bench: &'static str,
    machine: Machine,
    settle_s: f64,
    missing: Vec<String>,
    costs: Vec<Cost>,
    cycles: Option<CyclesReport>,
    promises: Vec<Promise>,
    ok: bool,
}

/// Runs it.
pub fn run(arguments: &Arguments) -> anyhow::Result<Verdict> {
    ensure!((1..=COUNT_MAX).contains(&arguments.count), "workers: 1 to {COUNT_MAX}");
    let machine = Machine::describe();
    let binaries = Binaries::find()?;
    let (mut costs, mut missing) = (Vec::new(), Vec::new());
    for flavour in &arguments.workers {
        costs.push(of_node(arguments, &binaries, *flavour).with_context(|| format!("node, {}", flavour.name()))?);
        if !arguments.without_peer {
            match of_workerd(arguments, *flavour) {
                Ok(cost) => costs.push(cost),
                Err(error) => {
                    eprintln!("!!! SKIPPED workerd, {}: {error:#}", flavour.name());
                    missing.push(format!("workerd, {}: {error:#}", flavour.name()));
                }
            }
        }
    }
    let cycles = match arguments.cycles {
        0 => None,
        count => Some(cycles::run(&binaries, count)?),
    };
    let mut promises: Vec<Promise> = costs
        .iter()
        .filter(|cost| cost.server == "selvage")
        .map(|cost| {
            let what = format!("resident memory of an idle {} isolate, MB", cost.worker.name());
            Promise::at_most(&what, Some(cost.resident_mb), IDLE_MB_MAX)
        })
        .collect();
    if let Some(cycles) = &cycles {
        let what = "resident memory after all create/evict cycles over that after the first tenth";
        promises.push(Promise::at_most(what, cycles.growth(|memory| memory.resident_bytes), GROWTH_MAX));
        let what = "address space after all cycles over that after the first tenth";
        promises.push(Promise::at_most(what, cycles.growth(|memory| memory.virtual_bytes), GROWTH_MAX));
    }
    let verdict = Verdict::of(&promises);
    let report = Report {
        bench: "idle-isolate",
        machine,
        settle_s: arguments.settle.as_secs_f64(),
        missing,
        costs,
        cycles,
        promises,
        ok: verdict == Verdict::Kept,
    };
    print(&report);
    report::last_line(&report)?;
    Ok(verdict)
}

fn progress(arguments: &Arguments, what: &str) -> anyhow::Result<ProgressBar> {
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg} {elapsed_precise}")?;
    Ok(ProgressBar::new(arguments.count as u64).with_style(style).with_message(what.to_owned()))
}

fn of_node(arguments: &Arguments, binaries: &Binaries, flavour: Flavour) -> anyhow::Result<Cost> {
    let node_arguments = arguments.node.split_ascii_whitespace().map(str::to_owned).collect();
    let mut stack = Stack::start(binaries, &Options { shards: 1, node_arguments, ..Options::default() })?;
    let module = flavour.module()?;
    // One Worker that is up before: what the process pays once is not any Worker's.
    let first = stack.deploy_for_new_tenant("first", &module)?;
    std::thread::sleep(arguments.settle);
    let before = Memory::of(stack.node_pid())?;
    let deploying = progress(arguments, &format!("{} deployed", flavour.name()))?;
    let mut deployments = Vec::new();
    for number in 0..arguments.count {
        let name = format!("idle-{number}");
        let deployment = stack.create_for(&stack.tenant(&name)?, &name)?;
        let version = stack.upload(&deployment, &module)?;
        stack.activate(&deployment, version)?;
        deployments.push(deployment);
        deploying.inc(1);
    }
    deploying.finish_and_clear();
    let asking = progress(arguments, &format!("{} asked", flavour.name()))?;
    for deployment in deployments.iter().chain([&first]) {
        stack.wait_version(deployment, 1, CALL_TIMEOUT)?;
        asking.inc(1);
    }
    asking.finish_and_clear();
    std::thread::sleep(arguments.settle);
    let up = stack.metrics()?.sum("selvage_workers").context("selvage_workers")?;
    ensure!(up as usize > arguments.count, "only {up} Workers are up: some were evicted");
    let after = Memory::of(stack.node_pid())?;
    stack.stop()?;
    Ok(Cost::new("selvage", flavour, arguments.count, before, after))
}

fn of_workerd(arguments: &Arguments, flavour: Flavour) -> anyhow::Result<Cost> {
    let dir = tempfile::Builder::new().prefix("selvage-idle-").tempdir()?;
    let before = workerd_memory(arguments, flavour, 1, &dir.path().join("one"))?;
    let after = workerd_memory(arguments, flavour, 1 + arguments.count, &dir.path().join("all"))?;
    Ok(Cost::new("workerd", flavour, arguments.count, before, after))
}

/// workerd with `count` services, each asked once.
fn workerd_memory(arguments: &Arguments, flavour: Flavour, count: usize, dir: &Path) -> anyhow::Result<Memory> {
    std::fs::create_dir_all(dir)?;
    let port = free_port()?;
    std::fs::write(dir.join("worker.js"), flavour.module()?)?;
    std::fs::write(dir.join("router.js"), include_str!("router.js"))?;
    std::fs::write(dir.join("config.capnp"), workerd_config(count, port))?;
    let mut server = Peer::Workerd.find()?.serve_config(&[], dir)?;
    let target = loopback(port, &format!("127.0.0.1:{port}"), "/0/")?;
    server.wait_answers(&target, START_TIMEOUT)?;
    let mut client = Client::new(target, CALL_TIMEOUT);
    for number in 0..count {
        let answer = client.request("GET", &format!("/{number}/"), &[], b"")?;
        ensure!(answer.status == 200, "service {number} answers {}", answer.status);
    }
    std::thread::sleep(arguments.settle);
    let memory = Memory::of(server.pid())?;
    server.stop(Duration::from_secs(3))?;
    Ok(memory)
}

/// `count` services of one module and a router to them.
fn workerd_config(count: usize, port: u16) -> String {
    let list = |line: &dyn Fn(usize) -> String| (0..count).map(line).collect::<String>();
    let services = list(&|number| format!("    (name = \"w{number}\", worker = .idle),\n"));
    let bindings = list(&|number| format!("    (name = \"w{number}\", service = \"w{number}\"),\n"));
    include_str!("workerd.capnp")
        .replace("@SERVICES@", services.trim_end())
        .replace("@BINDINGS@", bindings.trim_end())
        .replace("@PORT@", &port.to_string())
}

fn print(report: &Report) {
    println!(
        "{}, load average {:.1}; resident memory of the process, read {} s after the last request",
        report.machine.cpu, report.machine.load_average, report.settle_s
    );
    let mb = |bytes: u64| format!("{:.1}", bytes as f64 / 1e6);
    let rows: Vec<Vec<String>> = report
        .costs
        .iter()
        .map(|cost| {
            vec![
                format!("{}: {}", cost.server, cost.worker.name()),
                cost.count.to_string(),
                mb(cost.before.resident_bytes),
                mb(cost.after.resident_bytes),
                format!("{:.3}", cost.resident_mb),
                format!("{:.3}", cost.proportional_mb),
                format!("{:.1}", cost.virtual_mb),
            ]
        })
        .collect();
    let heading = ["Workers", "count", "before MB", "after MB", "resident MB each", "proportional", "address space"];
    print!("{}", table::render(&heading, &rows));
    println!("Deno and Bun hold one program in a process: left out");
    if let Some(cycles) = &report.cycles {
        cycles.print();
    }
    for missing in &report.missing {
        println!("!!! SKIPPED {missing}");
    }
    print_promises(&report.promises);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_names_every_service_twice() {
        let config = workerd_config(3, 8080);
        assert_eq!((config.matches("\"w2\", worker").count(), config.matches("service = \"w2\"").count()), (1, 1));
        assert!(config.contains("127.0.0.1:8080") && !config.contains('@'), "{config}");
    }

    #[test]
    fn a_cost_is_a_difference_for_each() {
        let memory = |resident_bytes: u64| Memory { resident_bytes, ..Memory::default() };
        assert_eq!(Cost::new("x", Flavour::Hello, 10, memory(5_000_000), memory(25_000_000)).resident_mb, 2.0);
        assert_eq!(Cost::new("x", Flavour::Hello, 10, memory(5_000_000), memory(4_000_000)).resident_mb, -0.1);
    }
}
