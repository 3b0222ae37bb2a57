//! A shard's Workers: started at their first request or a little before, replaced when their code changes, dropped when idle.
//!
//! The isolates of one deployment on this shard serve together: requests interleave in one, and others are added while all
//! compute and requests pile up. Older versions, condemned and evicted isolates stay until their last request is done. A Worker
//! that fails to start is not tried again before its wait is over, whatever requests come.
//!
//! **Warm pool** (seed 000, `manage_warm_pool`). What has served a request within [`WORKER_IDLE_NS`] stays. When a new
//! configuration comes, the Workers that were in use are started in their new version before requests ask for them. One that was
//! dropped for idleness and whose requests come at regular times is started a moment before the next is due
//! ([`Forecast`]).
//!
//! **Code on its way.** A Worker whose module is not on this node is asked for ([`Unrouted::Comes`]); who wants it waits ([`arrived`]) and
//! comes again.

use crate::canned::Canned;
use crate::cell::{Identity, WorkerCell};
use crate::config::{
    BACKLOG_MAX, CODE_WAIT, COLLECT_GAP_NS, EVICTIONS_AT_ONCE_MAX, EXTRA_IDLE_NS, IDLE_NS, ISOLATES_PER_WORKER_MAX,
    PREWARM_PER_TICK, START_BACKOFF_MAX_NS, START_BACKOFF_NS, START_BYTES, WORKER_IDLE_NS, WORKERS_PER_SHARD_MAX,
};
use crate::forecast::{EARLY_NS, Forecast};
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
}

/// Names and targets of a deployment's service bindings.
fn services_of(deployment: &Deployment<'_>) -> Vec<(String, ServiceTarget)> {
    let services = deployment.bindings().filter(|binding| binding.kind == BindingKind::Service);
    services.filter_map(|binding| Some((binding.name.to_owned(), ServiceTarget::parse(binding.target)?))).collect()
}

struct Entry {
    code: Code,
    state: State,
}

enum State {
    /// Never empty.
    Up(Vec<Rc<WorkerCell>>),
    /// Failed to start `failures` times in a row.
    Down { answer: Canned, retry_ns: MonotonicNs, failures: u32 },
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
    /// Of Workers that were dropped for idleness.
    forecasts: HashMap<Key, Forecast>,
    /// Became idle; their garbage is to be collected when there is time.
    shrinking: VecDeque<Weak<WorkerCell>>,
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
            shrinking: VecDeque::new(),
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
        self.note_failed_start(shard, id);
        let mut failures = 0;
        match self.by_deployment.get_mut(&id) {
            Some(Entry { code: running, state: State::Up(cells) }) if *running == code => {
                retire_condemned(shard, cells, &mut self.retiring);
                if let Some(cell) = least_busy(cells) {
                    return Ok(cell);
                }
                if !cells.is_empty() {
                    if let Some(cell) = cells.iter().find(|_| shard.memory().pressure() >= Pressure::High) {
                        return Ok(cell.clone());
                    }
                    let cell = match self.start(shard, published, id, deployment) {
                        Ok(cell) => cell,
                        // Those that are up do, until it is here again.
                        Err(Unrouted::Comes(_)) => return self.any_of(id).ok_or(Canned::OVERLOADED.into()),
                        Err(answer) => return Err(answer),
                    };
                    if let Some(Entry { state: State::Up(cells), .. }) = self.by_deployment.get_mut(&id) {
                        cells.push(cell.clone());
                    }
                    shard.metrics.workers.set(self.up_count());
                    return Ok(cell);
                }
            }
            Some(Entry { code: failed, state: State::Down { answer, retry_ns, failures: before } })
                if *failed == code =>
            {
                if shard.clock.now_ns() < *retry_ns {
                    return Err((*answer).into());
                }
                failures = *before;
            }
            _ => {}
        }
        if let Some(Entry { state: State::Up(_), .. }) = self.by_deployment.get(&id) {
            self.remove(shard, id);
        }
        self.make_room(shard);
        if !self.make_room_in_memory(shard) {
            shard.metrics.memory_refusals.add(1);
            return Err(Canned::OVERLOADED.into());
        }
        let state = match self.start(shard, published, id, deployment) {
            Ok(cell) => match cell.refused() {
                None => State::Up(vec![cell]),
                Some(answer) => down(shard, answer, failures),
            },
            Err(Unrouted::Answer(answer)) => down(shard, answer, failures),
            Err(comes) => return Err(comes),
        };
        let found = match &state {
            State::Up(cells) => Ok(cells[0].clone()),
            State::Down { answer, .. } => Err((*answer).into()),
        };
        self.by_deployment.insert(id, Entry { code, state });
        shard.metrics.workers.set(self.up_count());
        found
    }

    /// A Worker of those that are up.
    fn any_of(&self, id: Key) -> Option<Rc<WorkerCell>> {
        match &self.by_deployment.get(&id)?.state {
            State::Up(cells) => cells.first().cloned(),
            State::Down { .. } => None,
        }
    }

    /// A start that was suspended may have failed since.
    fn note_failed_start(&mut self, shard: &Shard, id: Key) {
        let Some(entry) = self.by_deployment.get_mut(&id) else { return };
        if let State::Up(cells) = &entry.state
            && let Some(answer) = cells.iter().find_map(|cell| cell.refused())
        {
            entry.state = down(shard, answer, 0);
            self.by_place.retain(|_, cell| cell.refused().is_none());
        }
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
            module,
            code_cache: published.code(artifact),
            module_name: "worker.js".to_owned(),
            env,
            services: names,
            cpu_ns,
            heap_bytes: limits::ISOLATE_HEAP_BYTES_MAX,
            now: shard.clock.now(),
            limits: shard.config().limits_of(cpu_ns),
            account: identity.account,
        };
        self.cells_total += 1;
        // Its start is charged too.
        shard.turns.tenant(identity.account).set_weight(deployment.weight());
        let forecast = self.forecasts.remove(&key).unwrap_or_default();
        let code_rejected = published.code_rejected(artifact);
        Ok(WorkerCell::start(shard, self.cells_total, identity, spec, services.into(), forecast, code_rejected))
    }

    /// A candidate that has become the active version goes on with its isolates.
    fn promote(&mut self, shard: &Shard, (id, lane): Key, code: &Code) {
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
    fn remove(&mut self, shard: &Shard, deployment: Key) {
        let Some(Entry { state: State::Up(cells), .. }) = self.by_deployment.remove(&deployment) else { return };
        self.by_place.retain(|_, other| !cells.iter().any(|cell| Rc::ptr_eq(other, cell)));
        for cell in cells {
            retire(shard, cell, &mut self.retiring);
        }
        shard.metrics.workers.set(self.up_count());
    }

    /// Drops the idle Worker that was used longest ago, if the table is full.
    fn make_room(&mut self, shard: &Shard) {
        if self.by_deployment.len() < WORKERS_PER_SHARD_MAX {
            return;
        }
        let rank = |entry: &Entry| match &entry.state {
            State::Up(cells) if cells.iter().any(|cell| cell.in_flight() > 0) => None,
            State::Up(cells) => cells.iter().map(|cell| cell.used_ns.get()).max(),
            State::Down { retry_ns, .. } => Some(*retry_ns),
        };
        let oldest = self.by_deployment.iter().filter_map(|(id, entry)| rank(entry).map(|used| (used, *id))).min();
        // All busy: the one that was used longest ago goes on outside the table.
        let victim = oldest.map(|(_, id)| id).or_else(|| self.by_deployment.keys().next().copied());
        if let Some(victim) = victim {
            self.remove(shard, victim);
        }
    }

    /// Makes room for one more isolate. Whether there is.
    fn make_room_in_memory(&mut self, shard: &Shard) -> bool {
        if shard.memory().read() >= Pressure::High {
            self.evict_idle(shard, Pressure::High, EVICTIONS_AT_ONCE_MAX);
        }
        // Those that start have not taken yet what they will.
        let starting = self.cells().filter(|cell| cell.starting()).count() as u64;
        shard.memory().pressure_with(starting * START_BYTES) < Pressure::Critical
    }

    /// Evicts idle Workers, least recently used first, until there is less pressure than that.
    fn evict_idle(&mut self, shard: &Shard, pressure: Pressure, count_max: usize) {
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
            State::Down { .. } => &[],
        });
        up.chain(&self.retiring)
    }

    fn drop_retired(&mut self, shard: &Shard) {
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
            cell.count_memory();
        }
        shard.metrics.worker_memory_bytes.set(self.cells().map(|cell| cell.memory_bytes()).sum());
        let now_ns = shard.clock.now_ns();
        let mut gone = Vec::new();
        for (id, entry) in &mut self.by_deployment {
            match &mut entry.state {
                State::Up(cells) => {
                    retire_condemned(shard, cells, &mut self.retiring);
                    retire_extra(shard, cells, now_ns, &mut self.retiring);
                    for cell in cells.iter().filter(|cell| idle_for(cell, IDLE_NS, now_ns)) {
                        if cell.lifecycle.state() == IsolateState::Ready {
                            cell.lifecycle.to(&shard.metrics.transitions, IsolateState::Idle);
                            self.shrinking.push_back(Rc::downgrade(cell));
                        }
                    }
                    let idle = cells.iter().all(|cell| idle_for(cell, WORKER_IDLE_NS, now_ns));
                    let configured = published.is_some_and(|published| is_configured(published, *id, &entry.code));
                    if idle || !configured {
                        if let Some(cell) = cells.first().filter(|_| configured)
                            && self.forecasts.len() < WORKERS_PER_SHARD_MAX
                        {
                            self.forecasts.insert(*id, cell.forecast.get());
                        }
                        gone.push(*id);
                    }
                }
                State::Down { retry_ns, .. } if *retry_ns + START_BACKOFF_MAX_NS < now_ns => gone.push(*id),
                State::Down { .. } => {}
            }
        }
        self.by_place.retain(|_, cell| !cell.condemned());
        for id in gone {
            self.remove(shard, id);
        }
        self.forecasts.retain(|_, forecast| forecast.next_ns(now_ns).is_some());
        let due = self.forecasts.iter().filter(|(_, forecast)| {
            forecast.next_ns(now_ns).is_some_and(|next_ns| next_ns.saturating_sub(EARLY_NS) <= now_ns)
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

    /// Starts Workers that will be asked for soon, a few at a time. Called at each tick.
    pub(crate) fn warm(&mut self, shard: &Rc<Shard>, published: &Published) {
        let of = which(published);
        if of != self.prewarmed {
            self.prewarmed = of;
            self.weigh(published);
            let changed = self.by_deployment.iter().filter(|(id, entry)| {
                matches!(&entry.state, State::Up(_)) && !is_configured(published, **id, &entry.code)
            });
            self.prewarm = changed.map(|(id, _)| *id).collect();
        }
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

    /// Collects the garbage of one Worker that has become idle. Whether there are more.
    pub(crate) fn shrink_one(&mut self, shard: &Shard) -> bool {
        while let Some(cell) = self.shrinking.pop_front() {
            if let Some(cell) = cell.upgrade() {
                cell.shrink(shard);
                break;
            }
        }
        !self.shrinking.is_empty()
    }

    /// After a panic: gives up the Workers it passed through.
    pub(crate) fn abandon_broken(&mut self, shard: &Shard) {
        for entry in self.by_deployment.values_mut() {
            if let State::Up(cells) = &mut entry.state {
                for cell in cells.iter().filter(|cell| cell.broken_inside()) {
                    cell.abandon();
                }
                retire_condemned(shard, cells, &mut self.retiring);
            }
        }
        self.forget_condemned();
        for cell in self.retiring.iter().filter(|cell| cell.broken_inside()) {
            cell.abandon();
        }
        shard.metrics.workers.set(self.up_count());
    }

    /// Requests in all Workers, those out of service included.
    pub(crate) fn in_flight(&self) -> usize {
        let up = self.by_deployment.values().filter_map(|entry| match &entry.state {
            State::Up(cells) => Some(cells.iter().map(|cell| cell.in_flight()).sum::<usize>()),
            State::Down { .. } => None,
        });
        up.sum::<usize>() + self.retiring.iter().map(|cell| cell.in_flight()).sum::<usize>()
    }

    fn up_count(&self) -> u64 {
        let up = self.by_deployment.values().filter_map(|entry| match &entry.state {
            State::Up(cells) => Some(cells.len() as u64),
            State::Down { .. } => None,
        });
        up.sum()
    }
}

/// The isolate for the next request; `None` if all compute, requests pile up, and there may be one more.
fn least_busy(cells: &[Rc<WorkerCell>]) -> Option<Rc<WorkerCell>> {
    let room = |cell: &&Rc<WorkerCell>| cell.requests() < limits::REQUESTS_PER_ISOLATE_MAX;
    let free = cells.iter().filter(room).find(|cell| !cell.busy() || cell.starting());
    let least = free.or_else(|| {
        let least = cells.iter().min_by_key(|cell| (!room(cell), cell.backlog()));
        let piled_up = |cell: &&Rc<WorkerCell>| !room(cell) || cell.backlog() >= BACKLOG_MAX;
        least.filter(|cell| cells.len() >= ISOLATES_PER_WORKER_MAX || !piled_up(cell))
    });
    least.cloned()
}

fn idle_for(cell: &WorkerCell, ns: u64, now_ns: MonotonicNs) -> bool {
    cell.used_ns.get() + ns < now_ns && cell.in_flight() == 0 && !cell.starting()
}

/// Takes an isolate out of service; it stays until its last request is over.
fn retire(shard: &Shard, cell: Rc<WorkerCell>, retiring: &mut Vec<Rc<WorkerCell>>) {
    shard.metrics.worker_evictions.add(1);
    if cell.in_flight() > 0 {
        retiring.push(cell);
    } else {
        cell.evict(shard);
    }
}

fn retire_condemned(shard: &Shard, cells: &mut Vec<Rc<WorkerCell>>, retiring: &mut Vec<Rc<WorkerCell>>) {
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
    shard: &Shard,
    cells: &mut Vec<Rc<WorkerCell>>,
    now_ns: MonotonicNs,
    retiring: &mut Vec<Rc<WorkerCell>>,
) {
    while cells.len() > 1
        && let Some(at) = cells.iter().position(|cell| idle_for(cell, EXTRA_IDLE_NS, now_ns))
    {
        retire(shard, cells.swap_remove(at), retiring);
    }
}

fn is_configured(published: &Published, key: Key, code: &Code) -> bool {
    deployment_of(published, key).is_some_and(|found| found.version() == code.version)
}

fn down(shard: &Shard, answer: Canned, failures: u32) -> State {
    let wait_ns = START_BACKOFF_NS.saturating_mul(1 << failures.min(16)).min(START_BACKOFF_MAX_NS);
    State::Down { answer, retry_ns: shard.clock.now_ns() + wait_ns, failures: failures + 1 }
}

/// Which snapshot this is: generations count within a lineage.
fn which(published: &Published) -> (Lineage, u64) {
    (published.snapshot().lineage(), published.snapshot().generation())
}
