//! What is measured of one server: the victim alone, and beside each kind of noise.
//!
//! The victim's load spins on the load core, as in every bench; the noise's load, a few requests a second, sleeps beside it and
//! is woken for each of its requests.

use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail, ensure};
use serde::Serialize;

use super::Arguments;
use super::contender::{Contender, Process, at};
use crate::client::Client;
use crate::load::{self, Arrivals, Expect, Mode, Outcome, Plan, Target};
use crate::machine;
use crate::peers::HELLO_BODY;
use crate::report::round;

/// Requests of the victim that may be due and not sent.
const BACKLOG_MAX: usize = 100_000;
/// Connections of the victim's open loop: what is due during a stall shall not wait for a connection.
const OPEN_CONNECTIONS: usize = 128;
/// Connections of each noisy tenant: it always has a request waiting, and not many.
const NOISE_CONNECTIONS: usize = 4;
/// A request of the victim without an answer by then has failed.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// The same of noise: two burners are asked for twice what the core has, and what waits for a connection counts.
const NOISE_TIMEOUT: Duration = Duration::from_secs(30);
/// Between two measurements: what is still under way ends.
const PAUSE: Duration = Duration::from_secs(1);
/// Steps that no limit of CPU time lets come to an end.
const ENDLESS_STEPS: u64 = 1 << 50;
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
    /// Burns until its limit of CPU time ends the request.
    LimitedBurner,
    Allocator,
    /// Allocates until its limit of memory ends its isolate, and begins again.
    Hoarder,
}

impl Noise {
    pub(super) const ALL: [Noise; 6] =
        [Noise::Quiet, Noise::Burner, Noise::TwoBurners, Noise::LimitedBurner, Noise::Allocator, Noise::Hoarder];

    /// Those that a server can be asked for: what only a limit ends, a server with limits.
    pub(super) fn of(contender: &Contender) -> impl Iterator<Item = Noise> {
        let limits = contender.limited.is_some();
        Noise::ALL.into_iter().filter(move |noise| limits || noise.cause().is_none())
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Noise::Quiet => "alone",
            Noise::Burner => "burner",
            Noise::TwoBurners => "two burners",
            Noise::LimitedBurner => "burner over its limit",
            Noise::Allocator => "allocator",
            Noise::Hoarder => "allocator over its limit",
        }
    }

    /// What the node calls the limit that ends each of its requests.
    pub(super) fn cause(self) -> Option<&'static str> {
        match self {
            Noise::LimitedBurner => Some("cpu_limit"),
            Noise::Hoarder => Some("memory_limit"),
            _ => None,
        }
    }

    /// Tenants that want all of the core, the victim among them.
    pub(super) fn tenants(self) -> f64 {
        match self {
            Noise::Quiet => 1.0,
            Noise::TwoBurners => 3.0,
            _ => 2.0,
        }
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
    pub(super) closed: Outcome,
    /// The noise beside it.
    pub(super) closed_noise: Vec<Outcome>,
    /// The least part of its blocks that the allocator had after a window; it had all before.
    pub(super) held: Option<f64>,
    /// Requests that the noise's limit ended, as the node counted it, over all of this.
    pub(super) ended: Option<u64>,
    /// The victim's slowest reply, ms, when the hoarder's heap overflowed before the windows: the first time it does, the node does not
    /// know yet that nothing can interrupt its collections.
    pub(super) overflow_ms: Option<f64>,
    /// What a hypervisor took of the machine's cores meanwhile, ms.
    pub(super) stolen_ms: u64,
}

/// What the hoarder is asked for.
const HOARD: &str = "/hoard";

pub(super) fn measure(
    arguments: &Arguments,
    load_core: usize,
    contender: &Contender,
    noise: Noise,
    seed: u64,
) -> anyhow::Result<Round> {
    let rate = |rate: f64| Mode::Open { rate, arrivals: Arrivals::Poisson, backlog_max: BACKLOG_MAX };
    let (counted, stolen_ms) = (contender.metrics()?, machine::stolen_ms());
    let open = Plan { seed, ..victim(arguments, load_core, contender, rate(arguments.rate)) };
    let closed = Plan { connections: arguments.connections, mode: Mode::Closed, ..open.clone() };
    let overflow_ms = match (noise, &contender.limited) {
        (Noise::Hoarder, Some(limited)) => Some(overflow(&open, &limited.hoarder)?),
        _ => None,
    };
    let mut held: Option<f64> = None;
    let mut window = |victim: &Plan, mode: Mode| {
        let allocator = (noise == Noise::Allocator).then_some(&contender.allocator);
        allocator.map_or(Ok(()), fill)?;
        let outcomes = beside(victim, &noises(arguments, contender, noise, mode))?;
        std::thread::sleep(PAUSE);
        if let Some(allocator) = allocator {
            let part = f64::from(kept(&mut churner(allocator))?) / f64::from(CHURN_KEEP);
            held = Some(held.map_or(part, |least| least.min(part)));
        }
        anyhow::Ok(outcomes)
    };
    let (open, open_noise) = window(&open, rate(arguments.noise_rate))?;
    let (closed, closed_noise) = window(&closed, Mode::Closed)?;
    let ended = match (contender.metrics()?, counted, noise.cause()) {
        (Some(after), Some(before), Some(cause)) => Some(after.failed_by(&before, cause)),
        _ => None,
    };
    let stolen_ms = machine::stolen_ms().saturating_sub(stolen_ms);
    Ok(Round { noise, open, open_noise, closed, closed_noise, held, ended, overflow_ms, stolen_ms })
}

/// Has the hoarder's heap overflow once beside the victim, whose slowest reply is given, ms.
fn overflow(victim: &Plan, hoarder: &Target) -> anyhow::Result<f64> {
    let (victim, answer) = std::thread::scope(|scope| {
        let asked = scope.spawn(|| {
            std::thread::sleep(victim.warmup + victim.duration / 4);
            Client::new(at(hoarder, HOARD), NOISE_TIMEOUT).get()
        });
        let outcome = load::run(victim)?;
        anyhow::Ok((outcome, asked.join().map_err(|_| anyhow!("the hoarder's client panicked"))??))
    })?;
    ensure!(answer.status == 503, "the hoarder answers {}: {}", answer.status, answer.text());
    ensure!(victim.tally.errors.total() == 0, "{} of the victim's requests failed", victim.tally.errors.total());
    Ok(round(victim.tally.latency.max() as f64 / 1e6))
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
    let burn = |steps: u64| format!("/burn?steps={steps}");
    let limited = contender.limited.as_ref();
    let (tenants, path): (Vec<&Target>, String) = match noise {
        Noise::Quiet => (Vec::new(), String::new()),
        Noise::Burner => (vec![&contender.burners[0]], burn(contender.steps)),
        Noise::TwoBurners => (contender.burners.iter().collect(), burn(contender.steps)),
        Noise::LimitedBurner => (limited.map(|it| &it.burner).into_iter().collect(), burn(ENDLESS_STEPS)),
        Noise::Allocator => (vec![&contender.allocator], churn()),
        Noise::Hoarder => (limited.map(|it| &it.hoarder).into_iter().collect(), HOARD.to_owned()),
    };
    // One at a time of those that a limit ends: what waits behind one of them in its isolate would be told of that one's end.
    let (status, connections) = if noise.cause().is_some() { (503, 1) } else { (200, NOISE_CONNECTIONS) };
    // A heap takes longer to fill than the open loop waits: it is filled again as soon as it has overflowed.
    let mode = if noise == Noise::Hoarder { Mode::Closed } else { mode };
    let plan = |target: &Target| Plan {
        connections,
        warmup: arguments.warmup,
        duration: arguments.duration,
        timeout: NOISE_TIMEOUT,
        expect: Expect { status: Some(status), body_bytes: None },
        ..Plan::get(at(target, &path), mode)
    };
    tenants.into_iter().map(plan).collect()
}

fn churn() -> String {
    format!("/churn?keep={CHURN_KEEP}&change={CHURN_CHANGE}")
}

fn churner(allocator: &Target) -> Client {
    Client::new(at(allocator, &churn()), REQUEST_TIMEOUT)
}

/// Has the allocating tenant replace some blocks. How many it keeps, as it says.
fn kept(client: &mut Client) -> anyhow::Result<u32> {
    let answer = client.get()?;
    ensure!(answer.status == 200, "the allocator answers {}: {}", answer.status, answer.text());
    answer.text().parse().with_context(|| format!("the allocator says {:?}", answer.text()))
}

/// Brings the allocating tenant to its full size. It may have to begin again on the way: the node may move it to another thread,
/// in a new isolate.
fn fill(allocator: &Target) -> anyhow::Result<()> {
    let mut client = churner(allocator);
    for _ in 0..4 * CHURN_KEEP.div_ceil(CHURN_CHANGE) {
        if kept(&mut client)? == CHURN_KEEP {
            return Ok(());
        }
    }
    bail!("the allocator does not come to keep {CHURN_KEEP} blocks")
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

/// What a tenant gets stuck in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum StuckIn {
    /// V8 looks for interrupts in it.
    Regex,
    /// V8 looks at nothing in it.
    Builtin,
}

impl StuckIn {
    pub(super) const ALL: [StuckIn; 2] = [StuckIn::Regex, StuckIn::Builtin];

    pub(super) fn name(self) -> &'static str {
        match self {
            StuckIn::Regex => "a regular expression",
            StuckIn::Builtin => "a builtin",
        }
    }

    fn path(self) -> &'static str {
        match self {
            StuckIn::Regex => "/stuck",
            StuckIn::Builtin => "/deaf",
        }
    }
}

/// What a tenant that gets stuck for ever does to the victim.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Stuck {
    pub(super) stuck_in: StuckIn,
    /// Replies of the victim that took longer than 60 ms, the first time.
    pub(super) held_up: u64,
    /// The slowest of them, ms.
    pub(super) slowest_ms: f64,
    /// The victim's requests that failed, the first time and later.
    pub(super) failed: u64,
    /// What the stuck tenant was told: a status, or that there was no answer.
    pub(super) answer: String,
    /// How long that took, ms.
    pub(super) answer_ms: f64,
    /// The victim's p99 while the tenant gets stuck twice a second, ms; absent where the first time had no end.
    pub(super) again_p99_ms: Option<f64>,
    /// Stuck requests, the first and later ones.
    pub(super) asked: u64,
    /// Those of them that were not answered 503.
    pub(super) not_ended: u64,
    /// Tenants that were quarantined meanwhile; a peer has no such thing.
    pub(super) quarantined: Option<f64>,
    /// Isolates that were given up meanwhile: of a tenant who has that done again and again some requests are refused, and are stuck in
    /// nothing.
    pub(super) given_up: Option<f64>,
}

/// Gets a tenant stuck once, then again and again. A peer without limits never comes back from the first time: it is not asked
/// further, and of no use afterwards.
pub(super) fn stuck(
    arguments: &Arguments,
    load_core: usize,
    contender: &mut Contender,
    stuck_in: StuckIn,
    round_number: usize,
) -> anyhow::Result<Stuck> {
    let mode = Mode::Open { rate: arguments.rate, arrivals: Arrivals::Poisson, backlog_max: BACKLOG_MAX };
    let mut plan = victim(arguments, load_core, contender, mode);
    let path = stuck_in.path();
    let (tenant, patience) = match &mut contender.process {
        // A tenant of its own each time: the node may remember the last one's doings.
        Process::Node(stack) => {
            let name = format!("{}-{round_number}", path.trim_start_matches('/'));
            let deployment = stack.deploy_for_new_tenant(&name, super::contender::NOISY_MODULE.as_bytes())?;
            (stack.target(&deployment.subdomain, path)?, Duration::from_secs(10))
        }
        Process::Peer(_) => {
            plan.timeout = Duration::from_secs(2);
            (at(&contender.burners[0], path), arguments.duration)
        }
    };
    let counts = |contender: &Contender| -> anyhow::Result<Option<[f64; 2]>> {
        let Some(metrics) = contender.metrics()? else { return Ok(None) };
        let count = |name: &'static str| metrics.sum(name).context(name);
        Ok(Some([count("selvage_quarantines_total")?, count("selvage_isolates_abandoned_total")?]))
    };
    let before = counts(contender)?;
    let (first, (answer, took)) = std::thread::scope(|scope| {
        let asked = scope.spawn(|| {
            std::thread::sleep(plan.warmup + plan.duration / 4);
            get_stuck(&tenant, patience)
        });
        let outcome = load::run(&plan)?;
        anyhow::Ok((outcome, asked.join().map_err(|_| anyhow!("the stuck tenant's client panicked"))?))
    })?;
    let (later, mut answers) = match contender.process {
        Process::Node(_) => again(&plan, &tenant, patience).map(|(outcome, answers)| (Some(outcome), answers))?,
        Process::Peer(_) => (None, Vec::new()),
    };
    std::thread::sleep(PAUSE);
    let counted = |at: usize, after: Option<[f64; 2]>| after.zip(before).map(|(after, before)| after[at] - before[at]);
    let after = counts(contender)?;
    answers.push(answer.clone());
    let latency = &first.tally.latency;
    Ok(Stuck {
        stuck_in,
        held_up: latency.count_between(STUCK_NS, latency.high()),
        slowest_ms: round(latency.max() as f64 / 1e6),
        failed: [Some(&first), later.as_ref()].into_iter().flatten().map(|one| one.tally.errors.total()).sum(),
        answer,
        answer_ms: round(took.as_secs_f64() * 1e3),
        again_p99_ms: later.map(|later| round(later.latency_us(0.99) / 1e3)),
        asked: answers.len() as u64,
        not_ended: answers.iter().filter(|answer| *answer != "503").count() as u64,
        quarantined: counted(0, after),
        given_up: counted(1, after),
    })
}

/// The victim's load while the tenant gets stuck twice a second, and what that one was answered.
fn again(plan: &Plan, tenant: &Target, patience: Duration) -> anyhow::Result<(Outcome, Vec<String>)> {
    std::thread::scope(|scope| {
        let end = Instant::now() + plan.warmup + plan.duration;
        let asked = scope.spawn(move || {
            let mut answers = Vec::new();
            while Instant::now() < end {
                answers.push(get_stuck(tenant, patience).0);
                std::thread::sleep(Duration::from_millis(500));
            }
            answers
        });
        let outcome = load::run(plan)?;
        Ok((outcome, asked.join().map_err(|_| anyhow!("the stuck tenant's client panicked"))?))
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
