//! A shard's Workers: started at their first request, replaced when their code changes, dropped when idle.
//!
//! One Worker per deployment serves; older ones, condemned ones and evicted ones stay until their last request is done.
//! A Worker that fails to start is not tried again before its wait is over, whatever requests come.

use crate::canned::Canned;
use crate::cell::{Identity, WorkerCell};
use crate::config::{START_BACKOFF_MAX_NS, START_BACKOFF_NS, WORKER_IDLE_NS, WORKERS_PER_SHARD_MAX};
use crate::log::WorkerLog;
use crate::shard::Shard;
use base::id::{AccountId, ArtifactHash, DeploymentId};
use base::limits;
use plane_abi::plane::Published;
use plane_abi::{Deployment, DeploymentIx, Lineage};
use std::collections::HashMap;
use std::rc::Rc;
use worker_api::event::{LogLevel, MonotonicNs};
use worker_api::{StartError, Worker, WorkerSpec};

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
        }
    }
}

struct Entry {
    code: Code,
    state: State,
}

enum State {
    Up(Rc<WorkerCell>),
    /// Failed to start `failures` times in a row.
    Down {
        answer: Canned,
        retry_ns: MonotonicNs,
        failures: u32,
    },
}

/// The Workers of a shard.
pub(crate) struct Workers {
    /// The snapshot that `by_place` speaks of.
    of: (Lineage, u64),
    /// Shortcut for requests: valid for one generation.
    by_place: HashMap<DeploymentIx, Rc<WorkerCell>>,
    by_deployment: HashMap<DeploymentId, Entry>,
    /// Out of service with requests in flight.
    retiring: Vec<Rc<WorkerCell>>,
    cells_total: u64,
}

impl Workers {
    pub(crate) fn new() -> Workers {
        Workers {
            of: (Lineage::default(), 0),
            by_place: HashMap::new(),
            by_deployment: HashMap::new(),
            retiring: Vec::new(),
            cells_total: 0,
        }
    }

    /// The Worker at a place of the published snapshot, if it is up: the way of nearly every request.
    pub(crate) fn up(&self, published: &Published, place: DeploymentIx) -> Option<&Rc<WorkerCell>> {
        if which(published) != self.of {
            return None;
        }
        self.by_place.get(&place).filter(|cell| !cell.condemned())
    }

    /// The Worker of a deployment, started if need be.
    pub(crate) fn get(
        &mut self,
        shard: &Shard,
        published: &Published,
        place: DeploymentIx,
        deployment: &Deployment<'_>,
    ) -> Result<Rc<WorkerCell>, Canned> {
        let of = which(published);
        if of != self.of {
            self.by_place.clear();
            self.of = of;
        }
        let code = Code::of(published, deployment);
        let now_ns = shard.clock.now_ns();
        let mut failures = 0;
        match self.by_deployment.get(&deployment.id()) {
            Some(Entry { code: running, state: State::Up(cell) }) if *running == code && !cell.condemned() => {
                self.by_place.insert(place, cell.clone());
                return Ok(cell.clone());
            }
            Some(Entry { code: failed, state: State::Down { answer, retry_ns, failures: before } })
                if *failed == code =>
            {
                if now_ns < *retry_ns {
                    return Err(*answer);
                }
                failures = *before;
            }
            _ => {}
        }
        self.remove(shard, deployment.id());
        self.make_room(shard);
        match self.start(shard, published, deployment) {
            Ok(cell) => {
                self.by_place.insert(place, cell.clone());
                self.by_deployment.insert(deployment.id(), Entry { code, state: State::Up(cell.clone()) });
                shard.metrics.workers.set(self.up_count());
                Ok(cell)
            }
            Err(answer) => {
                let wait_ns = START_BACKOFF_NS.saturating_mul(1 << failures.min(16)).min(START_BACKOFF_MAX_NS);
                let state = State::Down { answer, retry_ns: shard.clock.now_ns() + wait_ns, failures: failures + 1 };
                self.by_deployment.insert(deployment.id(), Entry { code, state });
                Err(answer)
            }
        }
    }

    fn start(
        &mut self,
        shard: &Shard,
        published: &Published,
        deployment: &Deployment<'_>,
    ) -> Result<Rc<WorkerCell>, Canned> {
        let identity =
            Identity { account: deployment.account(), deployment: deployment.id(), version: deployment.version() };
        let unavailable = |what: &str, error: &dyn std::fmt::Display| {
            shard.metrics.worker_start_failures.add(1);
            tracing::error!(deployment = %identity.deployment, version = identity.version, %error, "{what}");
            Canned::UNAVAILABLE
        };
        let module = published
            .artifact(deployment.artifact())
            .map_err(|error| unavailable("the artifact cannot be read", &error))?;
        let env = published.env(deployment).map_err(|error| unavailable("the environment cannot be opened", &error))?;
        let cpu_ns = match deployment.cpu_ms() {
            0 => limits::CPU_PER_REQUEST_NS,
            cpu_ms => u64::from(cpu_ms) * limits::MS_NS,
        };
        let now = shard.clock.now();
        let spec = WorkerSpec {
            module: module.into(),
            code_cache: None,
            module_name: "worker.js".to_owned(),
            env,
            cpu_ns,
            heap_bytes: limits::ISOLATE_HEAP_BYTES_MAX,
            now,
            account: identity.account,
        };
        let started = Worker::start(&shard.engine, spec);
        let took_ns = shard.clock.now_ns() - now.monotonic_ns;
        match started {
            Ok(worker) => {
                shard.metrics.worker_starts.add(1);
                shard.metrics.worker_start_ns.add(took_ns);
                self.cells_total += 1;
                tracing::debug!(deployment = %identity.deployment, version = identity.version, took_us = took_ns / 1_000, "Worker started");
                Ok(Rc::new(WorkerCell::new(self.cells_total, identity, worker, now.monotonic_ns)))
            }
            Err(error) => {
                shard.metrics.worker_start_failures.add(1);
                tracing::warn!(deployment = %identity.deployment, version = identity.version, %error, "Worker failed to start");
                shard.log.log(WorkerLog {
                    account: identity.account,
                    deployment: identity.deployment,
                    version: identity.version,
                    unix_ms: now.unix_ms,
                    request: None,
                    level: LogLevel::Error,
                    text: format!("the Worker failed to start: {error}"),
                });
                Err(match error {
                    StartError::CpuLimit | StartError::MemoryLimit => Canned::START_LIMITED,
                    _ => Canned::START_FAILED,
                })
            }
        }
    }

    /// Takes a deployment's Worker out of service.
    fn remove(&mut self, shard: &Shard, deployment: DeploymentId) {
        let Some(Entry { state: State::Up(cell), .. }) = self.by_deployment.remove(&deployment) else { return };
        self.by_place.retain(|_, other| !Rc::ptr_eq(other, &cell));
        if cell.in_flight() > 0 {
            self.retiring.push(cell);
        }
        shard.metrics.worker_evictions.add(1);
        shard.metrics.workers.set(self.up_count());
    }

    /// Drops the idle Worker that was used longest ago, if the table is full.
    fn make_room(&mut self, shard: &Shard) {
        if self.by_deployment.len() < WORKERS_PER_SHARD_MAX {
            return;
        }
        let rank = |entry: &Entry| match &entry.state {
            State::Up(cell) if cell.in_flight() > 0 => None,
            State::Up(cell) => Some(cell.used_ns.get()),
            State::Down { retry_ns, .. } => Some(*retry_ns),
        };
        let oldest = self.by_deployment.iter().filter_map(|(id, entry)| rank(entry).map(|used| (used, *id))).min();
        // All busy: the one that was used longest ago goes on outside the table.
        let victim = oldest.map(|(_, id)| id).or_else(|| self.by_deployment.keys().next().copied());
        if let Some(victim) = victim {
            self.remove(shard, victim);
        }
    }

    /// Drops what is idle, condemned or no longer configured. Called about once a second.
    pub(crate) fn sweep(&mut self, shard: &Shard, published: Option<&Published>) {
        self.retiring.retain(|cell| cell.in_flight() > 0);
        let now_ns = shard.clock.now_ns();
        let stale = |id: &DeploymentId, entry: &Entry| match &entry.state {
            State::Up(cell) => {
                let idle = cell.used_ns.get() + WORKER_IDLE_NS < now_ns && cell.in_flight() == 0;
                let configured = published.is_some_and(|published| {
                    let snapshot = published.snapshot();
                    let found = snapshot.find_deployment(*id).and_then(|place| snapshot.deployment(place));
                    found.is_some_and(|found| found.version() == entry.code.version)
                });
                idle || cell.condemned() || !configured
            }
            State::Down { retry_ns, .. } => retry_ns + START_BACKOFF_MAX_NS < now_ns,
        };
        let gone: Vec<DeploymentId> =
            self.by_deployment.iter().filter(|(id, entry)| stale(id, entry)).map(|(id, _)| *id).collect();
        for id in gone {
            self.remove(shard, id);
        }
    }

    /// After a panic: gives up the Workers it passed through.
    pub(crate) fn abandon_broken(&mut self, shard: &Shard) {
        let mut broken = Vec::new();
        for (id, entry) in &self.by_deployment {
            if let State::Up(cell) = &entry.state
                && cell.broken_inside()
            {
                cell.abandon();
                broken.push(*id);
            }
        }
        for id in broken {
            self.remove(shard, id);
        }
        for cell in self.retiring.iter().filter(|cell| cell.broken_inside()) {
            cell.abandon();
        }
    }

    /// Requests in all Workers, those out of service included.
    pub(crate) fn in_flight(&self) -> usize {
        let up = self.by_deployment.values().filter_map(|entry| match &entry.state {
            State::Up(cell) => Some(cell.in_flight()),
            State::Down { .. } => None,
        });
        up.sum::<usize>() + self.retiring.iter().map(|cell| cell.in_flight()).sum::<usize>()
    }

    fn up_count(&self) -> u64 {
        self.by_deployment.values().filter(|entry| matches!(entry.state, State::Up(_))).count() as u64
    }
}

/// Which snapshot this is: generations count within a lineage.
fn which(published: &Published) -> (Lineage, u64) {
    (published.snapshot().lineage(), published.snapshot().generation())
}
