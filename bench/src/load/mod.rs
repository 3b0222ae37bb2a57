//! The load generator: HTTP/1.1 over loopback, open or closed loop.
//!
//! Owns its threads, one for each load core, each pinned and with an epoll of its own. Does not speak TLS or HTTP/2.
//! *Invariants:* an open loop's due times do not depend on the server (see [`schedule`]); latency counts from the due
//! time, so a stall of the server is in the latency of every request that was due during it (no coordinated omission).
//! *Bounds:* connections, the backlog of an open loop, time, count; see [`Plan`].
//! *Failures:* of requests, in classes ([`record::ErrorClass`]); of the generator itself (no such core, no file
//! descriptors), an error of [`run`].

mod connection;
mod generator;
pub mod record;
pub mod response;
pub mod schedule;
pub mod target;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

pub use record::{ErrorClass, Tally};
pub use schedule::Arrivals;
pub use target::{Scope, Target};

/// Connections of one run.
pub const CONNECTIONS_MAX: usize = 16_384;
/// Requests under way on one connection.
pub const PIPELINE_MAX: usize = 64;
/// From the call to the start of the schedule: time for threads to start and connections to open.
const LEAD: Duration = Duration::from_millis(50);

/// Who decides when the next request is sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mode {
    /// The server: each connection sends again as soon as it has its response. Measures capacity, not latency.
    Closed,
    /// The schedule.
    Open {
        /// Requests a second, over all threads.
        rate: f64,
        /// How they are spread.
        arrivals: Arrivals,
        /// Requests that may be due and not yet sent, per thread; more are counted as shed.
        backlog_max: usize,
    },
}

/// What a good response is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Expect {
    /// Its status; without one, any of 200 to 299.
    pub status: Option<u16>,
    /// Exact length of its body.
    pub body_bytes: Option<u64>,
}

/// One run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where to.
    pub target: Target,
    /// The bytes of each request; one request.
    pub request: Vec<u8>,
    /// What must come back.
    pub expect: Expect,
    /// Connections, over all threads.
    pub connections: usize,
    /// Requests under way on one connection; 1 is no pipelining.
    pub pipeline: usize,
    /// Open or closed.
    pub mode: Mode,
    /// Load that is not measured, first.
    pub warmup: Duration,
    /// The measured window.
    pub duration: Duration,
    /// Requests after which the window ends early.
    pub requests_max: Option<u64>,
    /// A request without its whole response by then has failed.
    pub timeout: Duration,
    /// One load thread on each of these; empty: one thread that floats.
    pub cores: Vec<usize>,
    /// Seed of Poisson arrivals.
    pub seed: u64,
}

impl Plan {
    /// A plan of plain `GET`s with 64 connections on one floating thread; one second each of warm-up and measurement.
    pub fn get(target: Target, mode: Mode) -> Plan {
        Plan {
            request: target.get(),
            target,
            expect: Expect::default(),
            connections: 64,
            pipeline: 1,
            mode,
            warmup: Duration::from_secs(1),
            duration: Duration::from_secs(1),
            requests_max: None,
            timeout: Duration::from_secs(5),
            cores: Vec::new(),
            seed: 0x5e1a_a6e5,
        }
    }

    fn check(&self) -> anyhow::Result<()> {
        let threads = self.cores.len().max(1);
        ensure!((threads..=CONNECTIONS_MAX).contains(&self.connections), "connections: {threads} to {CONNECTIONS_MAX}");
        ensure!((1..=PIPELINE_MAX).contains(&self.pipeline), "pipeline: 1 to {PIPELINE_MAX}");
        ensure!(!self.request.is_empty(), "an empty request");
        ensure!(!self.timeout.is_zero(), "a timeout of zero");
        if let Mode::Open { rate, backlog_max, .. } = self.mode {
            ensure!(rate.is_finite() && rate > 0.0 && rate <= 1e8, "rate: above 0, at most 1e8");
            ensure!(backlog_max > 0, "a backlog of zero");
        }
        Ok(())
    }
}

/// An edge of the measured window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edge {
    /// Measurement starts.
    Start,
    /// Measurement ends.
    End,
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Sum of all threads.
    pub tally: Tally,
    /// Length of the measured window.
    pub window: Duration,
    /// Load threads.
    pub threads: usize,
}

impl Outcome {
    /// Good responses a second.
    pub fn rate(&self) -> f64 {
        self.tally.ok as f64 / self.window.as_secs_f64()
    }

    /// A quantile (0 to 1) of the latency, microseconds.
    pub fn latency_us(&self, quantile: f64) -> f64 {
        self.tally.latency.value_at_quantile(quantile) as f64 / 1e3
    }

    /// Share of the window that the load threads computed, 0 to 1, spinning for nothing left out. Near 1 in a closed
    /// loop, the generator and not the server was the limit.
    pub fn generator_busy(&self) -> f64 {
        self.tally.cpu_ns as f64 / (self.window.as_nanos() as f64 * self.threads as f64)
    }
}

/// Runs a plan to its end.
pub fn run(plan: &Plan) -> anyhow::Result<Outcome> {
    run_until(plan, &AtomicBool::new(false), &mut |_| Ok(()))
}

/// Runs a plan until its end or until `stop` is set, calling `edge` at both edges of the measured window, on the
/// calling thread. An open loop that is stopped still waits for the responses that are due.
pub fn run_until(
    plan: &Plan,
    stop: &AtomicBool,
    edge: &mut dyn FnMut(Edge) -> anyhow::Result<()>,
) -> anyhow::Result<Outcome> {
    plan.check()?;
    let threads = plan.cores.len().max(1);
    let epoch = Instant::now() + LEAD;
    let window_start = epoch + plan.warmup;
    let window_end = window_start + plan.duration;
    std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads)
            .map(|thread| {
                std::thread::Builder::new()
                    .name(format!("load-{thread}"))
                    .spawn_scoped(scope, move || generator::run(plan, thread, threads, epoch, stop))
            })
            .collect::<Result<_, _>>()?;
        let halt = |_: &anyhow::Error| stop.store(true, Ordering::Relaxed);
        let alive = || handles.iter().any(|handle| !handle.is_finished());
        sleep_until(window_start, stop, &alive);
        edge(Edge::Start).inspect_err(halt)?;
        sleep_until(window_end, stop, &alive);
        edge(Edge::End).inspect_err(halt)?;
        let mut tally = Tally::default();
        let mut window = Duration::ZERO;
        for handle in handles {
            let (part, part_window) = handle.join().expect("a load thread does not panic").context("load thread")?;
            tally.merge(part);
            window = window.max(part_window);
        }
        Ok(Outcome { tally, window: window.max(Duration::from_nanos(1)), threads })
    })
}

fn sleep_until(until: Instant, stop: &AtomicBool, alive: &dyn Fn() -> bool) {
    const STEP: Duration = Duration::from_millis(20);
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() || stop.load(Ordering::Relaxed) || !alive() {
            return;
        }
        std::thread::sleep(left.min(STEP));
    }
}
