//! `steer`: what steering packets to shards is worth, what it withstands, and that nobody notices an upgrade: real nodes in network namespaces
//! that it makes and removes. Needs root.
//!
//! Of two nodes that are compared, each has namespaces and a veth pair of its own, and rounds alternate. Load, clients and floods run on the
//! same cores as the nodes: figures are for comparison with each other.

mod bed;
mod flood;
mod share;
mod upgrades;
mod vip;

use std::time::Duration;

use anyhow::bail;
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::{Promise, Verdict, parse_duration, print_promises};
use crate::machine::Machine;
use crate::report::{self, Spread, table};
use crate::stack::Binaries;

/// Steering, floods, upgrades and VIPs, with real nodes in network namespaces (needs root)
#[derive(Args, Debug)]
pub struct Arguments {
    /// Rounds of what is measured by the clock
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=20))]
    rounds: u32,
    /// Length of one measurement
    #[arg(long, default_value = "1500ms", value_parser = parse_duration)]
    duration: Duration,
    /// Upgrades of each of two nodes
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100))]
    upgrades: u32,
    /// Only these parts
    #[arg(long, value_enum)]
    only: Vec<Part>,
}

/// The parts of the bench.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Connections on the shard of their packets' CPU, and what that is worth
    Share,
    /// Upgrades under load
    Upgrades,
    /// Floods, and drops beside nftables
    Flood,
    /// Three nodes behind one VIP
    Vip,
}

/// What all parts use.
pub(super) struct Context {
    binaries: Binaries,
    rounds: usize,
    duration: Duration,
    upgrades: usize,
    progress: ProgressBar,
}

impl Context {
    fn note(&self, what: &str) {
        self.progress.set_message(what.to_owned());
        self.progress.tick();
    }
}

#[derive(Serialize)]
struct Report {
    bench: &'static str,
    machine: Machine,
    rounds: usize,
    share: Vec<share::Side>,
    upgrades: Vec<upgrades::Upgrades>,
    floods: Vec<flood::Flood>,
    drops: Vec<flood::Drops>,
    vip: Option<vip::Vip>,
    promises: Vec<Promise>,
}

/// Runs the bench.
pub fn run(arguments: &Arguments) -> anyhow::Result<Verdict> {
    if let Some(lacks) = e2e::netns::lacks() {
        bail!("network namespaces: {lacks}");
    }
    let progress = ProgressBar::new_spinner();
    progress.set_style(ProgressStyle::with_template("{elapsed_precise} {msg}")?);
    let context = Context {
        binaries: Binaries::find()?,
        rounds: arguments.rounds as usize,
        duration: arguments.duration,
        upgrades: arguments.upgrades as usize,
        progress,
    };
    let wanted = |part: Part| arguments.only.is_empty() || arguments.only.contains(&part);
    let mut report = Report {
        bench: "steer",
        machine: Machine::describe(),
        rounds: context.rounds,
        share: Vec::new(),
        upgrades: Vec::new(),
        floods: Vec::new(),
        drops: Vec::new(),
        vip: None,
        promises: Vec::new(),
    };
    if wanted(Part::Share) {
        let (promises, sides) = share::run(&context)?;
        report.promises.extend(promises);
        report.share = sides;
    }
    if wanted(Part::Upgrades) {
        let (promises, upgrades) = upgrades::run(&context)?;
        report.promises.extend(promises);
        report.upgrades = upgrades;
    }
    if wanted(Part::Flood) {
        let (promises, floods, drops) = flood::run(&context)?;
        report.promises.extend(promises);
        (report.floods, report.drops) = (floods, drops);
    }
    if wanted(Part::Vip) {
        let (promises, vip) = vip::run(&context)?;
        report.promises.extend(promises);
        report.vip = Some(vip);
    }
    context.progress.finish_and_clear();
    print(&report);
    report::last_line(&report)?;
    Ok(Verdict::of(&report.promises))
}

fn print(report: &Report) {
    let machine = &report.machine;
    println!(
        "{}, kernel {}, {} cores, load average {:.1}; nodes, load and floods on the same cores; {} rounds; median (min to max)",
        machine.cpu, machine.kernel, machine.cores, machine.load_average, report.rounds
    );
    if !report.share.is_empty() {
        let rows: Vec<Vec<String>> = report.share.iter().map(share::Side::row).collect();
        let heading = ["node", "on their core, %", "unbalance, %", "requests/s", "p99", "switches/request"];
        print!("{}", table::render(&heading, &rows));
    }
    for upgrades in &report.upgrades {
        println!("{}", upgrades.line());
    }
    if !report.floods.is_empty() {
        let rows: Vec<Vec<String>> = report.floods.iter().map(flood::Flood::row).collect();
        let heading = ["flood", "packets/s", "unloaded, requests/s", "with the program", "without"];
        print!("{}", table::render(&heading, &rows));
        let rows: Vec<Vec<String>> = report.drops.iter().map(flood::Drops::row).collect();
        print!("{}", table::render(&["dropped by", "packets/s of one core, which makes them too", "of ours"], &rows));
    }
    if let Some(vip) = &report.vip {
        println!("{}", vip.line());
    }
    print_promises(&report.promises);
}

/// Median and range in words.
pub(super) fn words(spread: &Spread, show: impl Fn(f64) -> String) -> String {
    format!("{} ({} to {})", show(spread.median), show(spread.min), show(spread.max))
}
