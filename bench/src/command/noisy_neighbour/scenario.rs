//! What is measured of one server: the victim alone, and beside each kind of noise.
//!
//! The victim's load spins on the load core, as in every bench; the noise's load, a few requests a second, sleeps beside it and
//! is woken for each of its requests.

use std::time::{Duration, Instant};

use anyhow::anyhow;
use serde::Serialize;

use super::Arguments;
use super::contender::{Contender, Process, at};
use crate::client::Client;
use crate::load::{self, Arrivals, Expect, Mode, Outcome, Plan, Target};
use crate::peers::HELLO_BODY;
use crate::report::round;

/// Requests of the victim that may be due and not sent.
const BACKLOG_MAX: usize = 100_000;
/// Connections of the victim's open loop: what is due during a stall shall not wait for a connection.
const OPEN_CONNECTIONS: usize = 128;
/// Connections of each noisy tenant: it always has a request waiting, and not many.
const NOISE_CONNECTIONS: usize = 4;
/// A request of the victim or of the noise without an answer by then has failed.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// Between two measurements: what is still under way ends.
const PAUSE: Duration = Duration::from_millis(400);
/// Blocks that the allocating tenant keeps: about 100 MB (a thousand objects of 28 bytes and their array each).
const CHURN_KEEP: u32 = 3_000;
/// Blocks that one of its requests replaces.
const CHURN_CHANGE: u32 = 150;
/// A reply that took longer has been held up by the stuck tenant (issue 3).
pub(super) const STUCK_NS: u64 = 60_000_000;

/// Who makes noise beside the victim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Noise {
    Quiet,
    Burner,
    TwoBurners,
    Allocator,
}

impl Noise {
    pub(super) const ALL: [Noise; 4] = [Noise::Quiet, Noise::Burner, Noise::TwoBurners, Noise::Allocator];

    pub(super) fn name(self) -> &'static str {
        match self {
            Noise::Quiet => "alone",
            Noise::Burner => "burner",
            Noise::TwoBurners => "two burners",
            Noise::Allocator => "allocator",
        }
    }

    /// Tenants that want all of the core, the victim among them.
    pub(super) fn tenants(self) -> f64 {
        match self {
            Noise::Quiet => 1.0,
            Noise::Burner | Noise::Allocator => 2.0,
            Noise::TwoBurners => 3.0,
        }
    }

    /// Whether the victim's share of the core is measured too.
    fn saturates(self) -> bool {
        self != Noise::Allocator
    }
}

/// One round of one noise.
pub(super) struct Round {
    pub(super) noise: Noise,
    /// The victim at its moderate rate.
    pub(super) open: Outcome,
    /// The noise beside it.
    pub(super) open_noise: Vec<Outcome>,
    /// The victim as fast as it goes.
    pub(super) closed: Option<Outcome>,
    /// The noise beside it.
    pub(super) closed_noise: Vec<Outcome>,
}

pub(super) fn measure(
    arguments: &Arguments,
    load_core: usize,
    contender: &Contender,
    noise: Noise,
    seed: u64,
) -> anyhow::Result<Round> {
    let rate = |rate: f64| Mode::Open { rate, arrivals: Arrivals::Poisson, backlog_max: BACKLOG_MAX };
    if noise == Noise::Allocator {
        fill(&contender.noisy[0])?;
    }
    let victim = Plan { seed, ..victim(arguments, load_core, contender, rate(arguments.rate)) };
    let (open, open_noise) = beside(&victim, &noises(arguments, contender, noise, rate(arguments.noise_rate)))?;
    std::thread::sleep(PAUSE);
    let (closed, closed_noise) = if noise.saturates() {
        let victim = Plan { connections: arguments.connections, mode: Mode::Closed, ..victim };
        let (outcome, noise) = beside(&victim, &noises(arguments, contender, noise, Mode::Closed))?;
        std::thread::sleep(PAUSE);
        (Some(outcome), noise)
    } else {
        (None, Vec::new())
    };
    Ok(Round { noise, open, open_noise, closed, closed_noise })
}

fn victim(arguments: &Arguments, load_core: usize, contender: &Contender, mode: Mode) -> Plan {
    Plan {
        connections: OPEN_CONNECTIONS,
        warmup: arguments.warmup,
        duration: arguments.duration,
        cores: vec![load_core],
        timeout: REQUEST_TIMEOUT,
        expect: Expect { status: Some(200), body_bytes: Some(HELLO_BODY.len() as u64) },
        ..Plan::get(contender.victim.clone(), mode)
    }
}

fn noises(arguments: &Arguments, contender: &Contender, noise: Noise, mode: Mode) -> Vec<Plan> {
    let (tenants, path) = match noise {
        Noise::Quiet => (0, String::new()),
        Noise::Burner => (1, format!("/burn?steps={}", contender.steps)),
        Noise::TwoBurners => (2, format!("/burn?steps={}", contender.steps)),
        Noise::Allocator => (1, churn()),
    };
    let plan = |target: &Target| Plan {
        connections: NOISE_CONNECTIONS,
        warmup: arguments.warmup,
        duration: arguments.duration,
        timeout: REQUEST_TIMEOUT,
        expect: Expect { status: Some(200), body_bytes: None },
        ..Plan::get(at(target, &path), mode)
    };
    contender.noisy.iter().take(tenants).map(plan).collect()
}

fn churn() -> String {
    format!("/churn?keep={CHURN_KEEP}&change={CHURN_CHANGE}")
}

/// Brings the allocating tenant to its full size. It may meet its limit on the way, which is not what is measured.
fn fill(noisy: &Target) -> anyhow::Result<()> {
    let mut client = Client::new(at(noisy, &churn()), REQUEST_TIMEOUT);
    for _ in 0..CHURN_KEEP.div_ceil(CHURN_CHANGE) {
        client.get()?;
    }
    Ok(())
}

/// Runs the victim's plan with the noise's beside it, all over one window.
fn beside(victim: &Plan, noises: &[Plan]) -> anyhow::Result<(Outcome, Vec<Outcome>)> {
    std::thread::scope(|scope| {
        let noises: Vec<_> = noises.iter().map(|plan| scope.spawn(|| load::run(plan))).collect();
        let victim = load::run(victim);
        let noises: anyhow::Result<Vec<Outcome>> =
            noises.into_iter().map(|noise| noise.join().map_err(|_| anyhow!("the noise panicked"))?).collect();
        Ok((victim?, noises?))
    })
}

/// What a tenant that gets stuck for ever does to the victim.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Stuck {
    /// Replies of the victim that took longer than 60 ms, the first time.
    pub(super) held_up: u64,
    /// The slowest of them, ms.
    pub(super) slowest_ms: f64,
    /// The victim's requests that failed.
    pub(super) failed: u64,
    /// What the stuck tenant was told: a status, or that there was no answer.
    pub(super) answer: String,
    /// How long that took, ms.
    pub(super) answer_ms: f64,
    /// The victim's p99 while the tenant gets stuck twice a second, ms; absent where the first time had no end.
    pub(super) again_p99_ms: Option<f64>,
}

/// Gets a tenant stuck once, then again and again. A peer without limits never comes back from the first time: it is not asked
/// further, and of no use afterwards.
pub(super) fn stuck(
    arguments: &Arguments,
    load_core: usize,
    contender: &mut Contender,
    round_number: usize,
) -> anyhow::Result<Stuck> {
    let mode = Mode::Open { rate: arguments.rate, arrivals: Arrivals::Poisson, backlog_max: BACKLOG_MAX };
    let mut plan = victim(arguments, load_core, contender, mode);
    let (tenant, patience) = match &mut contender.process {
        // A tenant of its own each time: the node may remember the last one's doings.
        Process::Node(stack) => {
            let name = format!("stuck-{round_number}");
            let deployment = stack.deploy_for_new_tenant(&name, super::contender::NOISY_MODULE.as_bytes())?;
            (stack.target(&deployment.subdomain, "/stuck")?, Duration::from_secs(10))
        }
        Process::Peer(_) => {
            plan.timeout = Duration::from_secs(2);
            (at(&contender.noisy[0], "/stuck"), arguments.duration)
        }
    };
    let (first, (answer, took)) = std::thread::scope(|scope| {
        let asked = scope.spawn(|| {
            std::thread::sleep(plan.warmup + plan.duration / 4);
            get_stuck(&tenant, patience)
        });
        let outcome = load::run(&plan)?;
        anyhow::Ok((outcome, asked.join().map_err(|_| anyhow!("the stuck tenant's client panicked"))?))
    })?;
    let again_p99_ms = match contender.process {
        Process::Node(_) => Some(again(&plan, &tenant, patience)?.latency_us(0.99) / 1e3),
        Process::Peer(_) => None,
    };
    std::thread::sleep(PAUSE);
    let latency = &first.tally.latency;
    Ok(Stuck {
        held_up: latency.count_between(STUCK_NS, latency.high()),
        slowest_ms: round(latency.max() as f64 / 1e6),
        failed: first.tally.errors.total(),
        answer,
        answer_ms: round(took.as_secs_f64() * 1e3),
        again_p99_ms: again_p99_ms.map(round),
    })
}

fn again(plan: &Plan, tenant: &Target, patience: Duration) -> anyhow::Result<Outcome> {
    std::thread::scope(|scope| {
        let end = Instant::now() + plan.warmup + plan.duration;
        scope.spawn(move || {
            while Instant::now() < end {
                get_stuck(tenant, patience);
                std::thread::sleep(Duration::from_millis(500));
            }
        });
        load::run(plan)
    })
}

fn get_stuck(tenant: &Target, patience: Duration) -> (String, Duration) {
    let begin = Instant::now();
    let answer = match Client::new(tenant.clone(), patience).get() {
        Ok(answer) => answer.status.to_string(),
        Err(_) => "no answer".to_owned(),
    };
    (answer, begin.elapsed())
}
