//! Shows 1 and 2: connections on the shard of their packets' CPU, and what that is worth, of a node that steers beside one that leaves it to
//! SO_REUSEPORT alone.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde::Serialize;

use super::bed::{Bed, ask_once};
use super::{Context, words};
use crate::command::Promise;
use crate::load::{self, Arrivals, Edge, Mode};
use crate::report::{Spread, table};

/// Connections of a round, from each of two CPUs.
const CONNECTIONS: usize = 500;
const TIMEOUT: Duration = Duration::from_secs(3);
/// Requests under way.
const CLIENTS: usize = 64;
/// Of the slower node's rate: what p99 is measured at.
const OPEN_SHARE: f64 = 0.5;

/// One node's rounds.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Side {
    name: &'static str,
    /// Connections accepted on the shard of their packets' CPU, of a hundred.
    here_percent: Spread,
    /// The larger shard's connections over an equal share, percent.
    unbalance_percent: Spread,
    rate: Spread,
    p99_us: Spread,
    switches: Spread,
}

impl Side {
    pub(super) fn row(&self) -> Vec<String> {
        let two = |value: f64| format!("{value:.2}");
        vec![
            self.name.to_owned(),
            words(&self.here_percent, two),
            words(&self.unbalance_percent, two),
            words(&self.rate, table::grouped),
            words(&self.p99_us, table::micros),
            words(&self.switches, |value| format!("{value:.3}")),
        ]
    }
}

#[derive(Default)]
struct Rounds {
    here_percent: Vec<f64>,
    unbalance_percent: Vec<f64>,
    rate: Vec<f64>,
    p99_us: Vec<f64>,
    switches: Vec<f64>,
}

pub(super) fn run(context: &Context) -> anyhow::Result<(Vec<Promise>, Vec<Side>)> {
    let beds = [Bed::new(&context.binaries, true, 1)?, Bed::new(&context.binaries, false, 2)?];
    let mut rounds = [Rounds::default(), Rounds::default()];
    for round in 0..context.rounds {
        let order = if round % 2 == 0 { [0, 1] } else { [1, 0] };
        for side in order {
            context.note(&format!("share and cost, round {}, {}", round + 1, NAMES[side]));
            share(&beds[side], &mut rounds[side])?;
            closed(context, &beds[side], &mut rounds[side])?;
        }
        let rate = rounds.iter().filter_map(|it| it.rate.last()).fold(f64::MAX, |least, rate| least.min(*rate));
        for side in order {
            open(context, &beds[side], &mut rounds[side], rate * OPEN_SHARE, round as u64)?;
        }
    }
    let paired = |of: &dyn Fn(&Rounds) -> &Vec<f64>| {
        let (with, without) = (of(&rounds[0]), of(&rounds[1]));
        Spread::of(with.iter().zip(without).map(|(with, without)| with / without)).median
    };
    let least = |values: &[f64]| values.iter().copied().reduce(f64::min);
    let most = |values: &[f64]| values.iter().copied().reduce(f64::max);
    let promises = vec![
        Promise::at_least(
            "% of connections on the shard of their packets' CPU, worst round",
            least(&rounds[0].here_percent),
            99.9,
        ),
        Promise::at_most(
            "the larger shard's connections over its share, %, worst round",
            most(&rounds[0].unbalance_percent),
            10.0,
        ),
        Promise::at_least("requests/s with steering over without", Some(paired(&|it| &it.rate)), 0.97),
        Promise::at_most("p99 with steering over without, at one rate", Some(paired(&|it| &it.p99_us)), 1.05),
        Promise::at_most(
            "context switches per request with steering over without",
            Some(paired(&|it| &it.switches)),
            1.0,
        ),
    ];
    let spread = |values: &Vec<f64>| Spread::of(values.iter().copied());
    let sides = NAMES.iter().zip(&rounds).map(|(name, rounds)| Side {
        name,
        here_percent: spread(&rounds.here_percent),
        unbalance_percent: spread(&rounds.unbalance_percent),
        rate: spread(&rounds.rate),
        p99_us: spread(&rounds.p99_us),
        switches: spread(&rounds.switches),
    });
    Ok((promises, sides.collect()))
}

const NAMES: [&str; 2] = ["steered", "SO_REUSEPORT"];

/// Connections of their own from both CPUs, and where they were accepted.
fn share(bed: &Bed, rounds: &mut Rounds) -> anyhow::Result<()> {
    let metrics = || bed.server.inside(|| bed.stack.metrics());
    let before = metrics()?;
    let clients: Vec<_> = (0..2)
        .map(|cpu| {
            let address = bed.address;
            bed.client.within(move || {
                e2e::netns::pin(cpu);
                (0..CONNECTIONS).try_for_each(|_| ask_once(address, TIMEOUT).map(drop))
            })
        })
        .collect();
    for client in clients {
        client
            .join()
            .map_err(|_| anyhow::anyhow!("a client panicked"))?
            .context("a request on a connection of its own")?;
    }
    let after = metrics()?;
    let grown = |name: &str| -> f64 { after.grown(&before, name).iter().map(|(_, more)| more).sum() };
    let accepted = grown("selvage_connections_accepted_total");
    ensure!(accepted as usize >= 2 * CONNECTIONS, "the node counted {accepted} connections");
    let largest =
        after.grown(&before, "selvage_connections_accepted_total").iter().map(|(_, more)| *more).fold(0.0, f64::max);
    rounds.here_percent.push(grown("selvage_connections_here_total") * 100.0 / accepted);
    rounds.unbalance_percent.push((largest * 2.0 / accepted - 1.0) * 100.0);
    Ok(())
}

/// As many requests as the node answers, and what they cost in context switches.
fn closed(context: &Context, bed: &Bed, rounds: &mut Rounds) -> anyhow::Result<()> {
    let pid = bed.stack.node_pid();
    let (outcome, switches) = bed.client.inside(|| -> anyhow::Result<_> {
        let mut plan = bed.plan(Mode::Closed)?;
        (plan.connections, plan.duration, plan.warmup) = (CLIENTS, context.duration, WARMUP);
        let mut seen = Vec::new();
        let outcome = load::run_until(&plan, &Default::default(), &mut |_: Edge| {
            seen.push(context_switches(pid)?);
            Ok(())
        })?;
        Ok((outcome, seen.last().zip(seen.first()).map_or(0, |(end, start)| end - start)))
    })?;
    ensure!(outcome.tally.errors.total() == 0, "requests failed: {:?}", outcome.tally.errors);
    rounds.rate.push(outcome.rate());
    rounds.switches.push(switches as f64 / outcome.tally.ok as f64);
    Ok(())
}

/// Latency at one rate for both.
fn open(context: &Context, bed: &Bed, rounds: &mut Rounds, rate: f64, seed: u64) -> anyhow::Result<()> {
    let outcome = bed.client.inside(|| -> anyhow::Result<_> {
        let mut plan = bed.plan(Mode::Open { rate, arrivals: Arrivals::Poisson, backlog_max: 4096 })?;
        (plan.connections, plan.duration, plan.warmup, plan.seed) = (CLIENTS, context.duration, WARMUP, 0x57ee + seed);
        load::run(&plan)
    })?;
    ensure!(outcome.tally.errors.total() == 0, "requests failed: {:?}", outcome.tally.errors);
    rounds.p99_us.push(outcome.latency_us(0.99));
    Ok(())
}

const WARMUP: Duration = Duration::from_millis(300);

/// Of all threads of a process that are there.
fn context_switches(pid: u32) -> anyhow::Result<u64> {
    let mut sum = 0;
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))?.flatten() {
        let status = std::fs::read_to_string(task.path().join("status")).unwrap_or_default();
        let counts = status.lines().filter(|line| line.contains("ctxt_switches:"));
        sum += counts.filter_map(|line| line.split_whitespace().next_back()?.parse::<u64>().ok()).sum::<u64>();
    }
    Ok(sum)
}
