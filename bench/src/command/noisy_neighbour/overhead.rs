//! `noisy-neighbour --overhead=FLAGS`: what the features that those flags of the node switch off cost a hello handler.
//!
//! Two nodes on one core, one with the flags, one without; closed loops alternate, and the difference of the CPU time a request
//! is taken round by round.

use std::sync::atomic::AtomicBool;

use anyhow::{Context, ensure};
use serde::Serialize;

use super::super::hello::order;
use super::super::{Promise, Verdict, print_promises};
use super::Arguments;
use super::contender::{Contender, Process};
use crate::load::{self, Edge, Expect, Mode, Plan};
use crate::machine::{self, Machine};
use crate::peers::HELLO_BODY;
use crate::report::{self, Spread};

/// What a hello handler pays, µs (docs/SPECIFICATION.md).
const OVERHEAD_US_MAX: f64 = 0.3;

#[derive(Serialize)]
struct Report {
    bench: &'static str,
    machine: Machine,
    rounds: usize,
    duration_s: f64,
    /// What switches the features off.
    flags: Vec<String>,
    with_us: Spread,
    without_us: Spread,
    difference_us: Spread,
    promises: Vec<Promise>,
    ok: bool,
}

pub(super) fn run(arguments: &Arguments, flags: &str) -> anyhow::Result<Verdict> {
    let flags: Vec<String> = flags.split_ascii_whitespace().map(str::to_owned).collect();
    ensure!(!flags.is_empty(), "--overhead names the node's flags that switch the features off");
    let machine = Machine::describe();
    let (server_core, load_core) = machine::two_cores().context("this bench needs two cores: one for the server")?;
    machine::pin_thread(&[load_core])?;
    let without: Vec<String> = arguments.node_flags().into_iter().chain(flags.iter().cloned()).collect();
    let contenders = [
        Contender::node(server_core, load_core, &arguments.node_flags())?,
        Contender::node(server_core, load_core, &without)?,
    ];
    for contender in &contenders {
        cpu_us(arguments, load_core, contender)?;
    }
    let mut pairs = Vec::new();
    for round in 0..arguments.overhead_rounds {
        let mut pair = [f64::NAN; 2];
        for index in order(contenders.len(), round) {
            pair[index] = cpu_us(arguments, load_core, &contenders[index])?;
        }
        eprintln!("round {}: {:.3} and {:.3} µs a request", round + 1, pair[0], pair[1]);
        pairs.push(pair);
    }
    for contender in contenders {
        contender.stop()?;
    }
    let difference_us = Spread::of(pairs.iter().map(|pair| pair[0] - pair[1]));
    let what = format!("CPU time of a hello request over that with {}, µs", flags.join(" "));
    let promises = vec![Promise::at_most(&what, Some(difference_us.median), OVERHEAD_US_MAX)];
    let verdict = Verdict::of(&promises);
    let report = Report {
        bench: "noisy-neighbour overhead",
        machine,
        rounds: arguments.overhead_rounds,
        duration_s: arguments.duration.as_secs_f64(),
        flags,
        with_us: Spread::of(pairs.iter().map(|pair| pair[0])),
        without_us: Spread::of(pairs.iter().map(|pair| pair[1])),
        difference_us,
        promises,
        ok: verdict == Verdict::Kept,
    };
    println!(
        "{}, load average {:.1}; {} pairs of closed loops; CPU time a request, median (min to max), µs:",
        report.machine.cpu, report.machine.load_average, report.rounds
    );
    for (name, spread) in
        [("with", report.with_us), ("without", report.without_us), ("difference", report.difference_us)]
    {
        println!("  {name:<10} {:>7.3} ({:.3} to {:.3})", spread.median, spread.min, spread.max);
    }
    print_promises(&report.promises);
    report::last_line(&report)?;
    Ok(verdict)
}

fn cpu_us(arguments: &Arguments, load_core: usize, contender: &Contender) -> anyhow::Result<f64> {
    let Process::Node(stack) = &contender.process else { unreachable!("both are nodes") };
    let plan = Plan {
        connections: arguments.connections,
        warmup: arguments.warmup,
        duration: arguments.duration,
        cores: vec![load_core],
        expect: Expect { status: Some(200), body_bytes: Some(HELLO_BODY.len() as u64) },
        ..Plan::get(contender.victim.clone(), Mode::Closed)
    };
    let mut cpu = [0.0; 2];
    let outcome = load::run_until(&plan, &AtomicBool::new(false), &mut |edge| {
        cpu[usize::from(edge == Edge::End)] = machine::tree_cpu_seconds(stack.node_pid())?;
        Ok(())
    })?;
    ensure!(outcome.tally.ok > 0, "no good response: {:?}", outcome.tally.samples);
    ensure!(outcome.tally.errors.total() == 0, "requests failed: {:?}", outcome.tally.samples);
    Ok((cpu[1] - cpu[0]) * 1e6 / outcome.tally.ok as f64)
}
