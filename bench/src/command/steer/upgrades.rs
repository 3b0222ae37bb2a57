//! Show 3: upgrades of a node under load, with steering and without. No request may fail: neither on connections that are kept nor on ones of
//! their own.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, anyhow, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;

use super::bed::{Bed, ask_once, await_steering};
use super::{Context, words};
use crate::command::Promise;
use crate::load::{self, Mode};
use crate::report::{Spread, table};

const TIMEOUT: Duration = Duration::from_secs(5);
const CLIENTS: usize = 32;
/// Bound of the load beside.
const LOAD_MAX: Duration = Duration::from_secs(300);
/// Between two upgrades.
const PAUSE: Duration = Duration::from_millis(200);
/// Between two requests on connections of their own.
const STRANGER_GAP: Duration = Duration::from_millis(1);

/// What one node's upgrades were.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Upgrades {
    name: &'static str,
    upgrades: usize,
    /// Requests on kept connections, and on ones of their own.
    requests: u64,
    strangers: u64,
    failed: u64,
    p99_us: f64,
    max_us: f64,
    ready_ms: Spread,
    serving_ms: Spread,
    ended_ms: Spread,
}

impl Upgrades {
    pub(super) fn line(&self) -> String {
        let whole = |value: f64| format!("{value:.0}");
        format!(
            "{} upgrades, {}: {} requests on kept connections and {} on their own, {} failed, p99 {}, slowest {}; ready after {} ms, serving after {} ms, the old node's end after {} ms",
            self.upgrades,
            self.name,
            table::grouped(self.requests as f64),
            table::grouped(self.strangers as f64),
            self.failed,
            table::micros(self.p99_us),
            table::micros(self.max_us),
            words(&self.ready_ms, whole),
            words(&self.serving_ms, whole),
            words(&self.ended_ms, whole)
        )
    }
}

/// The node that came last is nobody's child.
struct LastHeir(Option<Pid>);

impl Drop for LastHeir {
    fn drop(&mut self) {
        if let Some(pid) = self.0 {
            // It may have ended.
            let _ = kill_process(pid, Signal::TERM);
        }
    }
}

pub(super) fn run(context: &Context) -> anyhow::Result<(Vec<Promise>, Vec<Upgrades>)> {
    let mut all = Vec::new();
    for (name, steered, net) in [("steered", true, 3), ("SO_REUSEPORT", false, 4)] {
        let bed = Bed::new(&context.binaries, steered, net)?;
        all.push(upgrades(context, &bed, name, steered)?);
    }
    let failed = all.iter().map(|it| it.failed).sum::<u64>();
    let slowest = all.iter().map(|it| it.serving_ms.max).fold(0.0, f64::max);
    let promises = vec![
        Promise::at_most(
            &format!("failed or reset requests in {} upgrades", 2 * context.upgrades),
            Some(failed as f64),
            0.0,
        ),
        Promise::at_most("from the request to the new node's first connection, slowest, ms", Some(slowest), 10_000.0),
    ];
    Ok((promises, all))
}

fn upgrades(context: &Context, bed: &Bed, name: &'static str, steered: bool) -> anyhow::Result<Upgrades> {
    let stop = Arc::new(AtomicBool::new(false));
    let (asked, failed) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let plan = bed.client.inside(|| bed.plan(Mode::Closed))?;
    let loaded = {
        let stop = stop.clone();
        bed.client.within(move || {
            let mut plan = plan;
            (plan.connections, plan.duration, plan.warmup) = (CLIENTS, LOAD_MAX, Duration::ZERO);
            load::run_until(&plan, &stop, &mut |_| Ok(()))
        })
    };
    let strangers = {
        let (stop, asked, failed, address) = (stop.clone(), asked.clone(), failed.clone(), bed.address);
        bed.client.within(move || {
            while !stop.load(Ordering::Relaxed) {
                if let Err(error) = ask_once(address, TIMEOUT) {
                    eprintln!("a request on a connection of its own failed: {error}");
                    failed.fetch_add(1, Ordering::Relaxed);
                }
                asked.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(STRANGER_GAP);
            }
        })
    };
    let mut last = LastHeir(None);
    let mut times = [Vec::new(), Vec::new(), Vec::new()];
    let done = (0..context.upgrades).try_for_each(|upgrade| {
        context.note(&format!("upgrade {} of {}, {name}", upgrade + 1, context.upgrades));
        let line = upgrade_once(context, bed)?;
        let number = |key: &str| -> anyhow::Result<f64> {
            let word = line.split([' ', ';']).find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
            word.and_then(|number| number.parse().ok()).with_context(|| format!("no {key}= in {line:?}"))
        };
        last.0 = Pid::from_raw(number("pid")? as i32);
        for (times, key) in times.iter_mut().zip(["ready_ms", "serving_ms", "ended_ms"]) {
            times.push(number(key)?);
        }
        std::thread::sleep(PAUSE);
        Ok::<(), anyhow::Error>(())
    });
    stop.store(true, Ordering::Relaxed);
    let outcome = loaded.join().map_err(|_| anyhow!("the load panicked"))??;
    strangers.join().map_err(|_| anyhow!("a client panicked"))?;
    done.with_context(|| format!("the node's log is {}", bed.stack.node_log().display()))?;
    if steered {
        await_steering(&context.binaries, bed.stack.node_data())?;
    }
    for sample in &outcome.tally.samples {
        eprintln!("a request on a kept connection failed: {sample:?}");
    }
    let spread = |values: &Vec<f64>| Spread::of(values.iter().copied());
    Ok(Upgrades {
        name,
        upgrades: context.upgrades,
        requests: outcome.tally.ok,
        strangers: asked.load(Ordering::Relaxed),
        failed: outcome.tally.errors.total() + failed.load(Ordering::Relaxed),
        p99_us: outcome.latency_us(0.99),
        max_us: outcome.latency_us(1.0),
        ready_ms: spread(&times[0]),
        serving_ms: spread(&times[1]),
        ended_ms: spread(&times[2]),
    })
}

/// The last line of `selvage-node upgrade`.
fn upgrade_once(context: &Context, bed: &Bed) -> anyhow::Result<String> {
    let mut command = Command::new(context.binaries.path("selvage-node")?);
    let out = command.args(["upgrade", "--data"]).arg(bed.stack.node_data()).output()?;
    ensure!(out.status.success(), "selvage-node upgrade: {}", String::from_utf8_lossy(&out.stderr).trim());
    let text = String::from_utf8_lossy(&out.stdout);
    text.lines().last().map(str::to_owned).context("selvage-node upgrade says nothing")
}
