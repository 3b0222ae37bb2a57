//! Runs of `scheduled` by the clock: which are due in this minute, whether this shard of this node is the one, and how each ends.
//!
//! **Once in the fleet.** Each schedule of each deployment has one owner: the node of the highest random weight among those that the
//! control plane last named ([`plane_abi::plane::Fleet`]), and on it one shard. Nobody is asked when it is due, so that runs go on
//! while the control plane is away. A node that is gone keeps its schedules for half a minute; then the others have them. While one
//! is cut off from the control plane alone, both may run an occurrence; while the fleet changes one may be left out.
//!
//! **When.** By the node's own clock, in UTC, within a second of the minute. A minute is looked at once: where the clock is set back,
//! nothing runs twice; where the shard was held up, what was due in the last [`CATCH_UP_MINUTES`] runs late. What was due while the
//! node was down is skipped. In an upgrade the new node goes on with the minute after the last that the old one looked at. A run that another request's doing ended is begun once more, unless the program said `noRetry`.
//!
//! *Bounds:* [`RUNNING_MAX`] runs at a time on a shard, [`WAITING_MAX`] that wait; what is past it is skipped and counted. A run has the
//! CPU time of its plan and the wall time of a response. *Fails:* each run alone; its log says so. Thread: its shard's.

use crate::canned::Canned;
use crate::cell::WorkerCell;
use crate::shard::Shard;
use base::id::DeploymentId;
use futures_lite::FutureExt;
use glommio::timer::Timer;
use h1::request::RequestHead;
use plane_abi::Lineage;
use plane_abi::cron::{Schedule, schedule_key, show_minute};
use plane_abi::plane::Published;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use worker_api::event::{Event, Failure, IncomingBody, Invocation, LogLevel};

/// Runs of a shard at a time.
const RUNNING_MAX: usize = 64;
/// Runs of a shard that wait for others to end.
const WAITING_MAX: usize = 10_000;
/// Minutes that may be looked at late.
const CATCH_UP_MINUTES: u64 = 5;
/// Schedules that are looked at before others have their turn.
const LOOKED_AT_ONCE: usize = 256;
/// The clock is looked at so often at least: it may be set.
const LOOK: Duration = Duration::from_secs(1);
const MINUTE_MS: u64 = 60_000;

/// A schedule that is this shard's.
struct Job {
    deployment: DeploymentId,
    expression: Rc<str>,
    schedule: Schedule,
    key: u64,
}

/// One occurrence.
struct Run {
    deployment: DeploymentId,
    expression: Rc<str>,
    /// When it was due, milliseconds since the Unix epoch.
    unix_ms: u64,
}

/// A shard's runs.
#[derive(Default)]
pub(crate) struct Runs {
    waiting: RefCell<VecDeque<Run>>,
    running: Cell<usize>,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The handler returned, and what it left behind has settled.
    Ok,
    /// The Worker failed it.
    Failed(Failure),
    /// There is no Worker to run it.
    NotStarted(&'static str),
}

impl Outcome {
    fn text(self) -> String {
        match self {
            Outcome::Ok => "ok".to_owned(),
            Outcome::Failed(why) => why.label().to_owned(),
            Outcome::NotStarted(why) => why.to_owned(),
        }
    }
}

/// Runs what is due, minute after minute, until the node drains.
pub(crate) async fn run(shard: Rc<Shard>) {
    let mut table = Table::default();
    // A successor goes on where the node before it stopped.
    let since_ms = shard.common.handover.schedules_since_ms().unwrap_or(shard.clock.now().unix_ms);
    let mut looked_at = since_ms / MINUTE_MS;
    while !shard.draining() {
        if shard.common.handover.schedules_paused() {
            Timer::new(LOOK).await;
            continue;
        }
        let unix_ms = shard.clock.now().unix_ms;
        let minute = unix_ms / MINUTE_MS;
        if minute + CATCH_UP_MINUTES < looked_at {
            tracing::warn!(shard = shard.index, "the clock was set back");
            looked_at = minute;
        }
        let first = (looked_at + 1).max((minute + 1).saturating_sub(CATCH_UP_MINUTES));
        for minute in first..=minute {
            table.look(&shard, minute).await;
        }
        looked_at = looked_at.max(minute);
        let left = Duration::from_millis(MINUTE_MS - shard.clock.now().unix_ms % MINUTE_MS);
        Timer::new(left.min(LOOK)).await;
    }
}

/// Schedules of one generation.
#[derive(Default)]
struct Table {
    of: Option<(Lineage, u64)>,
    jobs: Vec<Job>,
}

impl Table {
    /// Starts what is due in a minute.
    async fn look(&mut self, shard: &Rc<Shard>, minute: u64) {
        let Some(published) = shard.published() else { return };
        let of = (published.snapshot().lineage(), published.snapshot().generation());
        if self.of != Some(of) {
            self.fill(shard, &published).await;
            self.of = Some(of);
        }
        drop(published);
        let fleet = shard.common.plane.fleet();
        for jobs in self.jobs.chunks(LOOKED_AT_ONCE) {
            for job in jobs.iter().filter(|job| job.schedule.matches(minute) && fleet.owns(job.key)) {
                let expression = job.expression.clone();
                begin(shard, Run { deployment: job.deployment, expression, unix_ms: minute * MINUTE_MS });
            }
            futures_lite::future::yield_now().await;
        }
    }

    async fn fill(&mut self, shard: &Rc<Shard>, published: &Arc<Published>) {
        self.jobs.clear();
        let snapshot = published.snapshot();
        for (looked_at, (place, expression)) in snapshot.schedules().enumerate() {
            if looked_at % LOOKED_AT_ONCE == LOOKED_AT_ONCE - 1 {
                futures_lite::future::yield_now().await;
            }
            let Some(deployment) = snapshot.deployment(place).map(|deployment| deployment.id()) else { continue };
            let key = schedule_key(deployment, expression);
            if key as usize % shard.common.shards != shard.index {
                continue;
            }
            if let Ok(schedule) = expression.parse() {
                self.jobs.push(Job { deployment, expression: expression.into(), schedule, key });
            }
        }
    }
}

/// Starts a run, or puts it behind others.
fn begin(shard: &Rc<Shard>, run: Run) {
    let runs = &shard.runs;
    if runs.waiting.borrow().len() >= WAITING_MAX {
        shard.metrics.cron_skipped.add(1);
        return;
    }
    runs.waiting.borrow_mut().push_back(run);
    next(shard);
}

fn next(shard: &Rc<Shard>) {
    while shard.runs.running.get() < RUNNING_MAX && !shard.draining() {
        let run = shard.runs.waiting.borrow_mut().pop_front();
        let Some(run) = run else { return };
        shard.runs.running.set(shard.runs.running.get() + 1);
        let shard = shard.clone();
        glommio::spawn_local(async move {
            futures_lite::future::yield_now().await;
            let done = AssertUnwindSafe(execute(&shard, run.deployment, &run.expression, run.unix_ms)).catch_unwind();
            if let Err(panic) = done.await {
                shard.after_panic(panic.as_ref());
            }
            shard.runs.running.set(shard.runs.running.get() - 1);
            next(&shard);
        })
        .detach();
    }
}

/// Whether a request asks for a run, as `wrangler dev --test-scheduled` has it.
pub(crate) fn is_by_hand(head: &RequestHead) -> bool {
    matches!(head.path(), "/__scheduled" | "/cdn-cgi/handler/scheduled")
}

/// Runs the `scheduled` handler of a Worker for a developer: `?cron=…` is what its controller says, `time=…` when it was due.
pub(crate) async fn by_hand(shard: &Rc<Shard>, cell: &WorkerCell, head: &RequestHead) -> Canned {
    let query = head.query().trim_start_matches('?');
    let value = |wanted: &str| {
        let found = url::form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == wanted);
        found.map(|(_, value)| value.into_owned())
    };
    let unix_ms = value("time").and_then(|time| time.parse().ok()).unwrap_or(shard.clock.now().unix_ms);
    match execute(shard, cell.identity.deployment, &value("cron").unwrap_or_default(), unix_ms).await {
        Outcome::Ok => Canned::RAN_SCHEDULED,
        Outcome::Failed(_) | Outcome::NotStarted(_) => Canned::SCHEDULED_FAILED,
    }
}

/// Carries out one occurrence, counts it and writes its line into the deployment's log.
pub(crate) async fn execute(shard: &Rc<Shard>, deployment: DeploymentId, expression: &str, unix_ms: u64) -> Outcome {
    let begun_ns = shard.clock.now_ns();
    let (mut outcome, again) = attempt(shard, deployment, expression, unix_ms).await;
    if again {
        shard.metrics.request_retries.add(1);
        (outcome, _) = attempt(shard, deployment, expression, unix_ms).await;
    }
    shard.metrics.cron_runs.add(1);
    if outcome != Outcome::Ok {
        shard.metrics.cron_failures.add(1);
    }
    let took_ms = (shard.clock.now_ns() - begun_ns) / base::limits::MS_NS;
    let due = show_minute(unix_ms / MINUTE_MS);
    let text = format!("\"{expression}\" @ {due} - {} ({took_ms} ms)", outcome.text());
    let level = if outcome == Outcome::Ok { LogLevel::Info } else { LogLevel::Error };
    shard.log_of(deployment, level, text);
    outcome
}

/// How one run ends, and whether another isolate may be given it: by the rules of [`crate::exchange`], where a run is a safe request.
async fn attempt(shard: &Rc<Shard>, deployment: DeploymentId, expression: &str, unix_ms: u64) -> (Outcome, bool) {
    let cell = match shard.worker_of(deployment).await {
        Ok(cell) => cell,
        Err(canned) => return (Outcome::NotStarted(canned.label), false),
    };
    let now = shard.clock.now();
    let id = cell.admit(shard, now.monotonic_ns, &IncomingBody::Empty);
    let invocation = Invocation::Scheduled { cron: expression.to_owned(), unix_ms };
    cell.send_at(shard, now, Event::Invoke { id, invocation });
    let (mut outcome, mut again) = (Outcome::Ok, false);
    poll_fn(|cx| {
        let delivery = cell.take(id);
        if let Some(why) = delivery.failure {
            outcome = Outcome::Failed(why);
            again = matches!(why, Failure::NotBegun | Failure::Interrupted);
        }
        if let Some(canned) = delivery.refused {
            outcome = Outcome::NotStarted(canned.label);
            again = shard.is_up_beside(&cell);
        }
        if cell.is_finished(id) {
            return Poll::Ready(());
        }
        cell.wait(id, cx);
        Poll::Pending
    })
    .await;
    cell.detach(id);
    (outcome, again)
}
