//! A shard's Workers: started at their first request or a little before, replaced when their code changes, dropped when idle.
//!
//! The isolates of one deployment on this shard serve together: requests interleave in one, and others are added while all
//! compute and requests pile up. Older versions, condemned and evicted isolates stay until their last request is done. A Worker
//! that fails to start is not tried again before its wait is over, whatever requests come; where other isolates of it are up, they
//! go on. The same goes for one whose isolates had to be given up ([`crate::crash_loop`]).
//!
//! **Warm pool** (seed 000, `manage_warm_pool`). What has served a request within [`PoolTimes::worker_idle_ns`] stays. When a new
//! configuration comes, the Workers that were in use are started in their new version before requests ask for them. One that was
//! dropped for idleness and whose requests come at regular times is started a moment before the next is due
//! ([`Forecast`]).
//!
//! **Code on its way.** A Worker whose module is not on this node is asked for ([`Unrouted::Comes`]); who wants it waits ([`arrived`]) and
//! comes again.

use crate::canned::Canned;
use crate::cell::{Collection, Identity, WorkerCell};
use crate::config::{
    BACKLOG_MAX, CODE_WAIT, COLLECT_GAP_NS, EVICTIONS_AT_ONCE_MAX, ISOLATES_PER_WORKER_MAX, PREWARM_PER_TICK,
    PoolTimes, START_BYTES, WORKERS_PER_SHARD_MAX,
};
use crate::forecast::Forecast;
use crate::lifecycle::IsolateState;
use crate::memory_budget::{MemoryBudget, Pressure};
use crate::shard::Shard;
use crate::split::{self, Lane};
use base::id::{AccountId, ArtifactHash, DeploymentId};
use base::limits;
use glommio::timer::Timer;
use plane_abi::plane::Published;
use plane_abi::pull::Pull;
use plane_abi::{BindingKind, Deployment, DeploymentIx, Distribution, Lineage, ServiceTarget, Status};
use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::future::{Future as _, poll_fn};
use std::io::ErrorKind;
use std::path::Path;
use std::pin::pin;
use std::rc::{Rc, Weak};
use std::task::Poll;
use std::time::{Duration, UNIX_EPOCH};
use worker_api::WorkerSpec;
use worker_api::event::MonotonicNs;

/// Everything a Worker's code and its environment depend on.
#[derive(PartialEq, Eq)]
struct Code {
    account: AccountId,
    version: u32,
    artifact: ArtifactHash,
    cpu_ms: u32,
    compatibility_date: String,
    env_key: u64,
    sealed_env: Vec<u8>,
    services: Vec<(String, ServiceTarget)>,
}

impl Code {
    fn of(published: &Published, deployment: &Deployment<'_>) -> Code {
        Code {
            account: deployment.account(),
            version: deployment.version(),
            artifact: deployment.artifact(),
            cpu_ms: deployment.cpu_ms(),
            compatibility_date: deployment.compatibility_date().to_owned(),
            env_key: published.snapshot().env_key_id(),
            sealed_env: deployment.sealed_env().to_vec(),
            services: services_of(deployment),
        }
    }

    /// Whether a deployment's code is this.
    fn is_of(&self, published: &Published, deployment: &Deployment<'_>) -> bool {
        let Code { account, version, artifact, cpu_ms, compatibility_date, env_key, sealed_env, services } = self;
        *account == deployment.account()
            && *version == deployment.version()
            && *artifact == deployment.artifact()
            && *cpu_ms == deployment.cpu_ms()
            && *compatibility_date == deployment.compatibility_date()
            && *env_key == published.snapshot().env_key_id()
            && *sealed_env == deployment.sealed_env()
            && *services == services_of(deployment)
    }
}

/// Names and targets of a deployment's service bindings.
fn services_of(deployment: &Deployment<'_>) -> Vec<(String, ServiceTarget)> {
    let services = deployment.bindings().filter(|binding| binding.kind == BindingKind::Service);
    services.filter_map(|binding| Some((binding.name.to_owned(), ServiceTarget::parse(binding.target)?))).collect()
}

struct Entry {
    code: Code,
    state: State,
    failures: Failures,
}

enum State {
    /// Never empty.
    Up(Vec<Rc<WorkerCell>>),
    /// Its last start failed; requests are answered so.
    Down(Canned),
}

/// Starts of a Worker that failed in a row.
#[derive(Clone, Copy, Default)]
struct Failures {
    count: u32,
    /// Number of the isolate that failed last: one with a higher number that is up ends the row.
    last: u64,
    /// When the next start may be tried.
    retry_ns: MonotonicNs,
}

impl Failures {
    fn add(&mut self, shard: &Shard, number: u64) {
        let PoolTimes { start_backoff_ns, start_backoff_max_ns, .. } = shard.config().pool;
        let wait_ns = start_backoff_ns.saturating_mul(1 << self.count.min(16)).min(start_backoff_max_ns);
        let count = self.count.saturating_add(1);
        *self = Failures { count, last: number, retry_ns: shard.clock.now_ns() + wait_ns };
    }
}

/// Why there is no Worker for a request.
pub(crate) enum Unrouted {
    /// It is answered so.
    Answer(Canned),
    /// Its code is on its way to this node.
    Comes(Pull),
}

impl Unrouted {
    /// The answer to a request that does not wait.
    pub(crate) fn answer(self) -> Canned {
        match self {
            Unrouted::Answer(canned) => canned,
            Unrouted::Comes(_) => Canned::CODE_LATE,
        }
    }
}

impl From<Canned> for Unrouted {
    fn from(canned: Canned) -> Unrouted {
        Unrouted::Answer(canned)
    }
}

/// Notes that a module was used: what came on demand stays the longer for it.
fn note_use(path: &Path, unix_ms: u64) {
    let now = UNIX_EPOCH + Duration::from_millis(unix_ms);
    // Lost, it is only thought older than it is.
    let _ = File::options().write(true).open(path).and_then(|file| file.set_modified(now));
}

/// Waits until code that was on its way is here.
pub(crate) async fn arrived(pull: Pull) -> Result<(), Canned> {
    let (mut pull, mut late) = (pin!(pull), pin!(Timer::new(CODE_WAIT)));
    poll_fn(|cx| match pull.as_mut().poll(cx) {
        Poll::Ready(true) => Poll::Ready(Ok(())),
        Poll::Ready(false) => Poll::Ready(Err(Canned::UNAVAILABLE)),
        Poll::Pending => late.as_mut().poll(cx).map(|_| Err(Canned::CODE_LATE)),
    })
    .await
}

/// A version of a deployment that serves.
type Key = (DeploymentId, Lane);

/// The deployment of a key, by a configuration.
fn deployment_of(published: &Published, (id, lane): Key) -> Option<Deployment<'_>> {
    let snapshot = published.snapshot();
    snapshot.find_deployment(id).and_then(|place| split::deployment_in(snapshot, place, lane))
}

/// The Workers of a shard.
pub(crate) struct Workers {
    /// The snapshot that `by_place` speaks of.
    of: (Lineage, u64),
    /// Shortcut for requests: valid for one generation.
    by_place: HashMap<(DeploymentIx, Lane), Rc<WorkerCell>>,
    by_deployment: HashMap<Key, Entry>,
    /// Out of service with requests in flight.
    retiring: Vec<Rc<WorkerCell>>,
    /// To be started before a request asks for them.
    prewarm: VecDeque<Key>,
    /// The snapshot that `prewarm` was made for.
    prewarmed: (Lineage, u64),
    /// Of Workers that were dropped.
    forecasts: HashMap<Key, Forecast>,
    /// Became idle; their garbage is to be collected when there is time.
    collecting: VecDeque<Weak<WorkerCell>>,
    cells_total: u64,
    /// The high mark of memory was reached, and the low one was not since.
    relieving: bool,
    /// When running isolates and malloc were last told to give memory back.
    collected_ns: MonotonicNs,
}

impl Workers {
    pub(crate) fn new() -> Workers {
        Workers {
            of: (Lineage::default(), 0),
            by_place: HashMap::new(),
            by_deployment: HashMap::new(),
            retiring: Vec::new(),
            prewarm: VecDeque::new(),
            prewarmed: (Lineage::default(), 0),
            forecasts: HashMap::new(),
            collecting: VecDeque::new(),
            cells_total: 0,
            relieving: false,
            collected_ns: 0,
        }
    }

    /// The Worker at a place of the published snapshot, if it is up: the way of nearly every request.
    pub(crate) fn up(
        &self,
        published: &Published,
        place: (DeploymentIx, Lane),
        now_ns: MonotonicNs,
    ) -> Option<&Rc<WorkerCell>> {
        if which(published) != self.of {
            return None;
        }
        self.by_place.get(&place).filter(|cell| !cell.condemned() && !cell.busy() && !cell.misplaced(now_ns))
    }

    /// The Worker of a deployment, started if need be.
    pub(crate) fn get(
        &mut self,
        shard: &Rc<Shard>,
        published: &Published,
        place: (DeploymentIx, Lane),
        deployment: &Deployment<'_>,
    ) -> Result<Rc<WorkerCell>, Unrouted> {
        let of = which(published);
        if of != self.of {
            self.by_place.clear();
            self.of = of;
        }
        let cell = self.find(shard, published, place.1, deployment)?;
        self.by_place.insert(place, cell.clone());
        Ok(cell)
    }

    fn find(
        &mut self,
        shard: &Rc<Shard>,
        published: &Published,
        lane: Lane,
        deployment: &Deployment<'_>,
    ) -> Result<Rc<WorkerCell>, Unrouted> {
        let id = (deployment.id(), lane);
        let code = Code::of(published, deployment);
        self.promote(shard, id, &code);
        if let Some(entry) = self.by_deployment.get_mut(&id)
            && drop_refused(shard, entry)
        {
            self.by_place.retain(|_, cell| !cell.condemned());
            shard.metrics.workers.set(self.up_count());
        }
        let mut failures = Failures::default();
        match self.by_deployment.get_mut(&id) {
            Some(Entry { code: running, state: State::Up(cells), failures: before }) if *running == code => {
                retire_condemned(shard, cells, &mut self.retiring);
                if let Some(cell) = least_busy(cells) {
                    return Ok(cell);
                }
                if let Some(cell) = least(cells).cloned() {
                    let now_ns = shard.clock.now_ns();
                    let wait = now_ns < before.retry_ns
                        || shard.memory().pressure() >= Pressure::High
                        || cell.tenant.conduct.crash_loops.waits(id.0, now_ns);
                    let added = if wait { None } else { self.add(shard, published, id, deployment) };
                    return Ok(added.unwrap_or(cell));
                }
                failures = *before;
            }
            Some(Entry { code: failed, state: State::Down(answer), failures: before }) if *failed == code => {
                if shard.clock.now_ns() < before.retry_ns {
                    return Err((*answer).into());
                }
                failures = *before;
            }
            _ => {}
        }
        if let Some(Entry { state: State::Up(_), .. }) = self.by_deployment.get(&id) {
            self.remove(shard, id);
        }
        if shard.turns.tenant(deployment.account()).conduct.crash_loops.waits(id.0, shard.clock.now_ns()) {
            return Err(Canned::CRASH_LOOP.into());
        }
        self.make_room(shard);
        if !self.make_room_in_memory(shard) {
            shard.metrics.memory_refusals.add(1);
            return Err(Canned::OVERLOADED.into());
        }
        let started = match self.start(shard, published, id, deployment) {
            Ok(cell) => up_at_once(shard, cell),
            Err(Unrouted::Answer(answer)) => Err(answer),
            Err(comes) => return Err(comes),
        };
        let state = match &started {
            Ok(cell) => State::Up(vec![cell.clone()]),
            Err(answer) => {
                failures.add(shard, self.cells_total);
                State::Down(*answer)
            }
        };
        self.by_deployment.insert(id, Entry { code, state, failures });
        shard.metrics.workers.set(self.up_count());
        started.map_err(Unrouted::from)
    }

    /// One more isolate of a Worker that is up. `None` where it does not start: those that are up do.
    fn add(
        &mut self,
        shard: &Rc<Shard>,
        published: &Published,
        id: Key,
        deployment: &Deployment<'_>,
    ) -> Option<Rc<WorkerCell>> {
        let started = match self.start(shard, published, id, deployment) {
            Ok(cell) => up_at_once(shard, cell),
            Err(Unrouted::Answer(answer)) => Err(answer),
            Err(Unrouted::Comes(_)) => return None,
        };
        let entry = self.by_deployment.get_mut(&id)?;
        let State::Up(cells) = &mut entry.state else { return None };
        match &started {
            Ok(cell) => cells.push(cell.clone()),
            Err(_) => entry.failures.add(shard, self.cells_total),
        }
        shard.metrics.workers.set(self.up_count());
        started.ok()
    }

    fn start(
        &mut self,
        shard: &Rc<Shard>,
        published: &Published,
        key: Key,
        deployment: &Deployment<'_>,
    ) -> Result<Rc<WorkerCell>, Unrouted> {
        let identity =
            Identity { account: deployment.account(), deployment: deployment.id(), version: deployment.version() };
        let unavailable = |what: &str, error: &dyn std::fmt::Display| {
            shard.metrics.worker_start_failures.add(1);
            tracing::error!(deployment = %identity.deployment, version = identity.version, %error, "{what}");
            Canned::UNAVAILABLE
        };
        let artifact = deployment.artifact();
        let module = match published.artifact(artifact) {
            Ok(module) => module,
            // Not here, or not whole: it can be had again.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::InvalidData) => {
                let pull = published.pull(artifact);
                return Err(pull.map_or_else(
                    || Unrouted::Answer(unavailable("the artifact is not here and cannot be had", &error)),
                    Unrouted::Comes,
                ));
            }
            Err(error) => return Err(unavailable("the artifact cannot be read", &error).into()),
        };
        if deployment.distribution() == Distribution::Pull {
            note_use(&published.artifact_path(artifact), shard.clock.now().unix_ms);
        }
        let env = published.env(deployment).map_err(|error| unavailable("the environment cannot be opened", &error))?;
        let cpu_ns = match deployment.cpu_ms() {
            0 => limits::CPU_PER_REQUEST_NS,
            cpu_ms => u64::from(cpu_ms) * limits::MS_NS,
        };
        let (names, services): (Vec<_>, Vec<_>) = services_of(deployment).into_iter().unzip();
        let spec = WorkerSpec {
            code_cache: published.code(artifact),
            env,
            services: names,
            cpu_ns,
            limits: shard.config().limits_of(cpu_ns),
            account: identity.account,
            ..WorkerSpec::new(module, shard.clock.now())
        };
        self.cells_total += 1;
        // Its start is charged too.
        shard.turns.tenant(identity.account).set_weight(deployment.weight());
        let forecast = self.forecasts.remove(&key).unwrap_or_default();
        let code_rejected = published.code_rejected(artifact);
        Ok(WorkerCell::start(shard, self.cells_total, identity, spec, services.into(), forecast, code_rejected))
    }

    /// A candidate that has become the active version goes on with its isolates.
    fn promote(&mut self, shard: &Rc<Shard>, (id, lane): Key, code: &Code) {
        let ready = |entry: &Entry| entry.code == *code && matches!(entry.state, State::Up(_));
        let (from, to) = ((id, Lane::Candidate), (id, Lane::Active));
        if lane == Lane::Candidate
            || !self.by_deployment.get(&from).is_some_and(ready)
            || self.by_deployment.get(&to).is_some_and(ready)
        {
            return;
        }
        self.remove(shard, to);
        if let Some(entry) = self.by_deployment.remove(&from) {
            self.by_deployment.insert(to, entry);
        }
        self.by_place.retain(|(_, lane), cell| *lane == Lane::Active || cell.identity.deployment != id);
    }

    /// Takes a deployment's Worker out of service.
    fn remove(&mut self, shard: &Rc<Shard>, deployment: Key) {
        let Some(Entry { state: State::Up(cells), .. }) = self.by_deployment.remove(&deployment) else { return };
        if let Some(cell) = cells.first() {
            self.remember(deployment, cell.forecast.get());
        }
        self.by_place.retain(|_, other| !cells.iter().any(|cell| Rc::ptr_eq(other, cell)));
        for cell in cells {
            retire(shard, cell, &mut self.retiring);
        }
        shard.metrics.workers.set(self.up_count());
    }

    /// Keeps the forecast of a Worker that is dropped; where there are too many, the one without a visit for longest goes.
    fn remember(&mut self, id: Key, forecast: Forecast) {
        if self.forecasts.len() >= WORKERS_PER_SHARD_MAX {
            let oldest = self.forecasts.iter().min_by_key(|(_, forecast)| forecast.visit_ns()).map(|(id, _)| *id);
            oldest.and_then(|oldest| self.forecasts.remove(&oldest));
        }
        self.forecasts.insert(id, forecast);
    }

    /// Drops the idle Worker that was used longest ago, if the table is full.
    fn make_room(&mut self, shard: &Rc<Shard>) {
        if self.by_deployment.len() < WORKERS_PER_SHARD_MAX {
            return;
        }
        let rank = |entry: &Entry| match &entry.state {
            State::Up(cells) if cells.iter().any(|cell| cell.in_flight() > 0) => None,
            State::Up(cells) => cells.iter().map(|cell| cell.used_ns.get()).max(),
            State::Down(_) => Some(entry.failures.retry_ns),
        };
        let oldest = self.by_deployment.iter().filter_map(|(id, entry)| rank(entry).map(|used| (used, *id))).min();
        // All busy: the one that was used longest ago goes on outside the table.
        let victim = oldest.map(|(_, id)| id).or_else(|| self.by_deployment.keys().next().copied());
        if let Some(victim) = victim {
            self.remove(shard, victim);
        }
    }

    /// Makes room for one more isolate. Whether there is.
    fn make_room_in_memory(&mut self, shard: &Rc<Shard>) -> bool {
        if shard.memory().read() >= Pressure::High {
            self.evict_idle(shard, Pressure::High, EVICTIONS_AT_ONCE_MAX);
        }
        // Those that start have not taken yet what they will.
        let starting = self.cells().filter(|cell| cell.starting()).count() as u64;
        shard.memory().pressure_with(starting * START_BYTES) < Pressure::Critical
    }

    /// Evicts idle Workers, least recently used first, until there is less pressure than that.
    fn evict_idle(&mut self, shard: &Rc<Shard>, pressure: Pressure, count_max: usize) {
        for _ in 0..count_max {
            let idle = |entry: &Entry| match &entry.state {
                State::Up(cells) if cells.iter().all(|cell| cell.in_flight() == 0 && !cell.starting()) => {
                    cells.iter().map(|cell| cell.used_ns.get()).max()
                }
                _ => None,
            };
            let oldest = self.by_deployment.iter().filter_map(|(id, entry)| Some((idle(entry)?, *id))).min();
            let Some((_, id)) = oldest else { return };
            self.remove(shard, id);
            shard.metrics.memory_evictions.add(1);
            if shard.memory().read() < pressure {
                return;
            }
        }
    }

    /// Gives memory back where it is scarce, see [`crate::memory_budget`]. Called at each tick.
    pub(crate) fn relieve(&mut self, shard: &Rc<Shard>) {
        let memory = shard.memory();
        let pressure = memory.read();
        self.relieving = pressure >= Pressure::High || (self.relieving && pressure >= Pressure::Some);
        if !self.relieving {
            return;
        }
        self.drop_retired(shard);
        self.evict_idle(shard, Pressure::Some, EVICTIONS_AT_ONCE_MAX);
        let now_ns = shard.clock.now_ns();
        if memory.pressure() >= Pressure::High && self.collected_ns + COLLECT_GAP_NS <= now_ns {
            self.collected_ns = now_ns;
            MemoryBudget::trim();
            if memory.read() >= Pressure::Critical {
                self.cells().filter(|cell| cell.in_flight() > 0).for_each(|cell| cell.collect_garbage());
            }
        }
        if memory.pressure() < Pressure::Over {
            return;
        }
        self.evict_idle(shard, Pressure::Over, WORKERS_PER_SHARD_MAX);
        for _ in 0..EVICTIONS_AT_ONCE_MAX {
            MemoryBudget::trim();
            if memory.read() < Pressure::Over || !self.end_largest(shard) {
                return;
            }
        }
    }

    /// Ends the Worker with requests that holds the most memory. Whether there was one.
    fn end_largest(&mut self, shard: &Rc<Shard>) -> bool {
        let running = self.cells().filter(|cell| cell.in_flight() > 0 && !cell.starting());
        let Some(cell) = running.max_by_key(|cell| cell.memory_bytes()).cloned() else { return false };
        tracing::warn!(deployment = %cell.identity.deployment, bytes = cell.memory_bytes(), "ended, for want of memory");
        shard.metrics.memory_ends.add(1);
        cell.end_at_once(shard);
        for entry in self.by_deployment.values_mut() {
            if let State::Up(cells) = &mut entry.state {
                retire_condemned(shard, cells, &mut self.retiring);
            }
        }
        self.forget_condemned();
        self.drop_retired(shard);
        true
    }

    /// All isolates, those out of service included.
    fn cells(&self) -> impl Iterator<Item = &Rc<WorkerCell>> {
        let up = self.by_deployment.values().flat_map(|entry| match &entry.state {
            State::Up(cells) => cells.as_slice(),
            State::Down(_) => &[],
        });
        up.chain(&self.retiring)
    }

    fn drop_retired(&mut self, shard: &Rc<Shard>) {
        self.retiring.retain(|cell| {
            let done = cell.in_flight() == 0;
            if done {
                cell.evict(shard);
            }
            !done
        });
    }

    fn forget_condemned(&mut self) {
        self.by_deployment.retain(|_, entry| !matches!(&entry.state, State::Up(cells) if cells.is_empty()));
        self.by_place.retain(|_, cell| !cell.condemned());
    }

    /// Drops what is idle, condemned or no longer configured. Called about once a second.
    pub(crate) fn sweep(&mut self, shard: &Rc<Shard>, published: Option<&Published>) {
        shard.metrics.count_traffic(self.cells().map(|cell| (cell.identity.deployment, cell.take_requests())));
        self.drop_retired(shard);
        for cell in self.cells() {
            cell.shed_late(shard);
            cell.count_memory();
        }
        shard.metrics.worker_memory_bytes.set(self.cells().map(|cell| cell.memory_bytes()).sum());
        if let Some(published) = published {
            self.renew(published);
        }
        let (now_ns, times) = (shard.clock.now_ns(), shard.config().pool);
        let mut gone = Vec::new();
        for (id, entry) in &mut self.by_deployment {
            drop_refused(shard, entry);
            match &mut entry.state {
                State::Up(cells) => {
                    retire_condemned(shard, cells, &mut self.retiring);
                    retire_extra(shard, cells, now_ns, &mut self.retiring);
                    for cell in cells.iter().filter(|cell| idle_for(cell, times.idle_ns, now_ns)) {
                        if cell.lifecycle.state() == IsolateState::Ready {
                            cell.idle(shard);
                            self.collecting.push_back(Rc::downgrade(cell));
                        }
                    }
                    let idle = cells.iter().all(|cell| idle_for(cell, times.worker_idle_ns, now_ns));
                    let configured = published.is_some_and(|published| is_configured(published, *id, &entry.code));
                    if idle || !configured {
                        gone.push(*id);
                    }
                }
                State::Down(_) if entry.failures.retry_ns + times.start_backoff_max_ns < now_ns => gone.push(*id),
                State::Down(_) => {}
            }
        }
        self.by_place.retain(|_, cell| !cell.condemned());
        for id in gone {
            self.remove(shard, id);
        }
        shard.metrics.workers.set(self.up_count());
        // What is up, or fails to start, has its own.
        self.forecasts.retain(|id, forecast| forecast.matters(now_ns) && !self.by_deployment.contains_key(id));
        let due = self.forecasts.iter().filter(|(_, forecast)| {
            forecast.next_ns(now_ns).is_some_and(|next_ns| next_ns.saturating_sub(times.early_ns) <= now_ns)
        });
        self.prewarm.extend(due.map(|(id, _)| *id));
    }

    /// Gives tenants the weights of a new configuration.
    fn weigh(&self, published: &Published) {
        for (id, entry) in &self.by_deployment {
            if let State::Up(cells) = &entry.state
                && let Some(cell) = cells.first()
                && let Some(found) = deployment_of(published, *id)
            {
                cell.tenant.set_weight(found.weight());
            }
        }
    }

    /// Notes, of a configuration that is new, whose code has changed: before those Workers are dropped.
    fn renew(&mut self, published: &Published) {
        let of = which(published);
        if of == self.prewarmed {
            return;
        }
        self.prewarmed = of;
        self.weigh(published);
        let changed = self
            .by_deployment
            .iter()
            .filter(|(id, entry)| matches!(&entry.state, State::Up(_)) && !is_configured(published, **id, &entry.code));
        self.prewarm = changed.map(|(id, _)| *id).collect();
    }

    /// Starts Workers that will be asked for soon, a few at a time. Called at each tick.
    pub(crate) fn warm(&mut self, shard: &Rc<Shard>, published: &Published) {
        self.renew(published);
        for _ in 0..PREWARM_PER_TICK {
            if shard.memory().pressure() >= Pressure::High {
                return;
            }
            let Some(id) = self.prewarm.pop_front() else { return };
            let deployment = deployment_of(published, id);
            let Some(deployment) = deployment.filter(|found| found.status() != Status::Paused) else { continue };
            if self.find(shard, published, id.1, &deployment).is_ok() {
                shard.metrics.worker_prewarms.add(1);
            }
        }
    }

    /// Names Workers that are to be started, besides those of later configurations.
    pub(crate) fn prewarm(&mut self, published: &Published, deployments: &[DeploymentId]) {
        self.prewarmed = which(published);
        self.weigh(published);
        self.prewarm.extend(deployments.iter().map(|id| (*id, Lane::Active)));
    }

    /// Whether no Worker is to be started ahead.
    pub(crate) fn is_warm(&self) -> bool {
        self.prewarm.is_empty()
    }

    /// The deployments whose Workers are up, those that were used last first.
    pub(crate) fn latest(&self, most: usize) -> Vec<DeploymentId> {
        let used = |((id, lane), entry): (&Key, &Entry)| match (&entry.state, lane) {
            (State::Up(cells), Lane::Active) => Some((cells.iter().map(|cell| cell.used_ns.get()).max()?, *id)),
            _ => None,
        };
        let mut up: Vec<_> = self.by_deployment.iter().filter_map(used).collect();
        up.sort_unstable_by(|one, other| other.cmp(one));
        up.truncate(most);
        up.into_iter().map(|(_, id)| id).collect()
    }

    /// Whether other isolates of the same Worker are up.
    pub(crate) fn is_up_beside(&self, cell: &WorkerCell) -> bool {
        let entries =
            [Lane::Active, Lane::Candidate].map(|lane| self.by_deployment.get(&(cell.identity.deployment, lane)));
        entries.into_iter().flatten().any(|entry| match &entry.state {
            State::Up(cells) => cells.iter().any(|other| {
                other.number != cell.number
                    && other.identity.version == cell.identity.version
                    && !other.condemned()
                    && !other.starting()
                    && other.refused().is_none()
            }),
            State::Down(_) => false,
        })
    }

    /// The idle Worker that is to collect more of its garbage, if there is one; and whether there may be one later.
    pub(crate) fn next_collecting(&mut self) -> (Option<Rc<WorkerCell>>, bool) {
        for _ in 0..self.collecting.len() {
            let cell = self.collecting.front().and_then(Weak::upgrade);
            match cell.as_ref().map_or(Collection::Over, |cell| cell.collection()) {
                Collection::Due => return (cell, true),
                Collection::Asked => self.collecting.rotate_left(1),
                Collection::Over => drop(self.collecting.pop_front()),
            }
        }
        (None, !self.collecting.is_empty())
    }

    /// After a panic: gives up the Workers it passed through.
    pub(crate) fn abandon_broken(&mut self, shard: &Rc<Shard>) {
        for entry in self.by_deployment.values_mut() {
            if let State::Up(cells) = &mut entry.state {
                for cell in cells.iter().filter(|cell| cell.broken_inside()) {
                    cell.abandon(shard);
                }
                retire_condemned(shard, cells, &mut self.retiring);
            }
        }
        self.forget_condemned();
        for cell in self.retiring.iter().filter(|cell| cell.broken_inside()) {
            cell.abandon(shard);
        }
        shard.metrics.workers.set(self.up_count());
    }

    /// Requests in all Workers, those out of service included.
    pub(crate) fn in_flight(&self) -> usize {
        let up = self.by_deployment.values().filter_map(|entry| match &entry.state {
            State::Up(cells) => Some(cells.iter().map(|cell| cell.in_flight()).sum::<usize>()),
            State::Down(_) => None,
        });
        up.sum::<usize>() + self.retiring.iter().map(|cell| cell.in_flight()).sum::<usize>()
    }

    fn up_count(&self) -> u64 {
        let up = self.by_deployment.values().filter_map(|entry| match &entry.state {
            State::Up(cells) => Some(cells.len() as u64),
            State::Down(_) => None,
        });
        up.sum()
    }
}

/// The isolate for the next request; `None` if all compute, requests pile up, and there may be one more.
fn least_busy(cells: &[Rc<WorkerCell>]) -> Option<Rc<WorkerCell>> {
    let room = |cell: &&Rc<WorkerCell>| cell.requests() < limits::REQUESTS_PER_ISOLATE_MAX;
    let free = cells.iter().filter(room).find(|cell| !cell.busy() || cell.starting());
    let least = free.or_else(|| {
        let piled_up = |cell: &&Rc<WorkerCell>| !room(cell) || cell.backlog() >= BACKLOG_MAX;
        least(cells).filter(|cell| cells.len() >= ISOLATES_PER_WORKER_MAX || !piled_up(cell))
    });
    least.cloned()
}

/// The isolate with the least that waits.
fn least(cells: &[Rc<WorkerCell>]) -> Option<&Rc<WorkerCell>> {
    cells.iter().min_by_key(|cell| (cell.requests() >= limits::REQUESTS_PER_ISOLATE_MAX, cell.backlog()))
}

/// An isolate that was just started, unless its start failed on the spot.
fn up_at_once(shard: &Rc<Shard>, cell: Rc<WorkerCell>) -> Result<Rc<WorkerCell>, Canned> {
    let Some(answer) = cell.refused() else { return Ok(cell) };
    cell.evict(shard);
    Err(answer)
}

/// Drops isolates whose start was suspended and has failed since; where none is left, the Worker is down. Whether there were any.
fn drop_refused(shard: &Rc<Shard>, entry: &mut Entry) -> bool {
    let Entry { state, failures, .. } = entry;
    let State::Up(cells) = state else { return false };
    let mut failed = None;
    cells.retain(|cell| {
        let refused = cell.refused();
        if let Some(answer) = refused {
            cell.evict(shard);
            failed = Some((answer, cell.number));
        }
        refused.is_none()
    });
    let Some((answer, number)) = failed else {
        if cells.iter().any(|cell| cell.number > failures.last && !cell.starting()) {
            *failures = Failures::default();
        }
        return false;
    };
    failures.add(shard, number);
    if cells.is_empty() {
        *state = State::Down(answer);
    }
    true
}

fn idle_for(cell: &WorkerCell, ns: u64, now_ns: MonotonicNs) -> bool {
    cell.used_ns.get() + ns < now_ns && cell.in_flight() == 0 && !cell.starting()
}

/// Takes an isolate out of service; it stays until its last request is over.
fn retire(shard: &Rc<Shard>, cell: Rc<WorkerCell>, retiring: &mut Vec<Rc<WorkerCell>>) {
    shard.metrics.worker_evictions.add(1);
    if cell.in_flight() > 0 {
        retiring.push(cell);
    } else {
        cell.evict(shard);
    }
}

fn retire_condemned(shard: &Rc<Shard>, cells: &mut Vec<Rc<WorkerCell>>, retiring: &mut Vec<Rc<WorkerCell>>) {
    let now_ns = shard.clock.recent_ns();
    while let Some(at) =
        cells.iter().position(|cell| (cell.condemned() || cell.misplaced(now_ns)) && cell.refused().is_none())
    {
        let cell = cells.swap_remove(at);
        if cell.misplaced(now_ns) {
            cell.close_sockets();
        }
        retire(shard, cell, retiring);
    }
}

/// Drops isolates that were added under load and are idle, but for one.
fn retire_extra(
    shard: &Rc<Shard>,
    cells: &mut Vec<Rc<WorkerCell>>,
    now_ns: MonotonicNs,
    retiring: &mut Vec<Rc<WorkerCell>>,
) {
    while cells.len() > 1
        && let Some(at) = cells.iter().position(|cell| idle_for(cell, shard.config().pool.extra_idle_ns, now_ns))
    {
        retire(shard, cells.swap_remove(at), retiring);
    }
}

fn is_configured(published: &Published, key: Key, code: &Code) -> bool {
    deployment_of(published, key).is_some_and(|found| code.is_of(published, &found))
}

/// Which snapshot this is: generations count within a lineage.
fn which(published: &Published) -> (Lineage, u64) {
    (published.snapshot().lineage(), published.snapshot().generation())
}
