//! A node's shards: their sockets, threads and supervisors.
//!
//! **When a shard panics.** A panic in a connection's or an outbound request's task is caught there: the connection ends,
//! the Worker that the panic passed through is given up, the shard goes on. A panic anywhere else on the shard's thread
//! ends its executor; its supervisor, a thread that does nothing else, then starts the shard again on a new thread with
//! an empty Worker table, up to `SHARD_RESTARTS_MAX` times, waiting longer each time. The listening socket stays open
//! throughout, so that connections wait instead of being refused. Other shards notice nothing.

use crate::config::{NodeConfig, SHARD_RESTARTS_MAX};
use crate::handover::Handover;
use crate::log::LogSink;
use crate::memory_budget::MemoryBudget;
use crate::metrics::{Metrics, ShardMetrics};
use crate::outbound;
use crate::shard::{self, Common, Shard};
use crate::{listener, shard::panic_text};
use base::id::DeploymentId;
use glommio::{LocalExecutorBuilder, Placement, PoolPlacement};
use plane_abi::plane::Plane;
use std::mem::{size_of, zeroed};
use std::net::{SocketAddr, TcpListener as StdListener};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use std::{io, thread};
use worker_api::Engine;

/// Entries of each of an executor's rings.
const RING_ENTRIES: usize = 512;
/// Bytes that glommio registers for disk reads; shards do none, and this is its least.
const IO_MEMORY_BYTES: usize = 64 * 1024;
/// How long tasks run before the executor looks at its rings again. Each task is short; Workers that compute wait between rounds
/// of their own, see `turns`.
const PREEMPT: Duration = Duration::from_millis(10);
/// Threads per shard that resolve names.
const BLOCKING_THREADS: usize = 4;
/// Wait before a shard is started again; doubled each time.
const RESTART_WAIT: Duration = Duration::from_millis(50);
const RESTART_WAIT_MAX: Duration = Duration::from_secs(5);
/// Between two looks for the shards' answers.
const ASK_GAP: Duration = Duration::from_millis(5);

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The HTTP listener.
    #[error("cannot listen on {0}: {1}")]
    Listen(SocketAddr, #[source] io::Error),
    /// The certificate authorities for outbound TLS.
    #[error("cannot read the certificate authorities: {0}")]
    Authorities(#[source] io::Error),
    /// A thread.
    #[error("cannot start a thread: {0}")]
    Thread(#[source] io::Error),
    /// A shard's executor: io_uring, or the limit of locked memory.
    #[error("cannot start the executor of shard {shard}: {message}")]
    Executor {
        /// Which shard.
        shard: usize,
        /// What glommio says.
        message: String,
    },
}

/// What a node has from the one whose place it is to take.
#[derive(Debug, Default)]
pub struct Inheritance {
    /// Its listening sockets, one for each shard.
    pub listeners: Vec<StdListener>,
    /// By shard, the deployments whose Workers are to be ready before the first connection.
    pub warm: Vec<Vec<DeploymentId>>,
}

/// A running node: its shards serve until [`drain`](Node::drain).
pub struct Node {
    address: SocketAddr,
    common: Arc<Common>,
    metrics: Metrics,
    supervisors: Vec<JoinHandle<()>>,
    listeners: Vec<(Arc<StdListener>, Option<usize>)>,
}

impl Node {
    /// Opens the listeners and starts the shards; returns when all of them serve.
    ///
    /// The engine must have been made on the main thread before, as `worker_api::Engine` says.
    pub fn start(config: NodeConfig, engine: Engine, plane: Plane, log: Arc<dyn LogSink>) -> Result<Node, StartError> {
        Node::start_with(config, engine, plane, log, None)
    }

    /// As [`start`](Node::start); with an inheritance the node accepts nothing until [`begin`](Node::begin).
    pub fn start_with(
        config: NodeConfig,
        engine: Engine,
        plane: Plane,
        log: Arc<dyn LogSink>,
        inheritance: Option<Inheritance>,
    ) -> Result<Node, StartError> {
        let cores = allowed_cores();
        let shards = if config.shards == 0 { cores.len().max(1) } else { config.shards };
        let pin = config.pin && shards <= cores.len();
        let handover = Handover::new(shards, inheritance.is_some());
        let (opened, warm) = match inheritance {
            Some(Inheritance { listeners, warm }) => (listener::inherit(listeners, config.listen, shards), warm),
            None => (listener::open(config.listen, shards), Vec::new()),
        };
        let (address, listeners) = opened.map_err(|error| StartError::Listen(config.listen, error))?;
        let tls = outbound::client_config(config.extra_ca.as_deref()).map_err(StartError::Authorities)?;
        let origin = Instant::now();
        let draining = AtomicBool::new(false);
        let config = NodeConfig { listen: address, ..config };
        let memory = Arc::new(MemoryBudget::new(config.memory_bytes, shards));
        let metrics = Metrics::new(shards, memory.clone());
        let common = Arc::new(Common {
            config,
            engine,
            plane,
            log,
            tls,
            shelf: Arc::default(),
            shards,
            origin,
            draining,
            handover,
            warm,
            memory,
        });
        let (up, ups) = mpsc::channel();
        let mut supervisors = Vec::with_capacity(shards);
        let mut kept = Vec::with_capacity(shards);
        for (index, listener) in listeners.into_iter().enumerate() {
            let seat = Seat {
                index,
                core: pin.then(|| cores[index]),
                common: common.clone(),
                metrics: metrics.shards()[index].clone(),
                listener: Arc::new(listener),
            };
            kept.push((seat.listener.clone(), seat.core));
            let up = up.clone();
            let supervisor = thread::Builder::new().name(format!("supervise-{index}"));
            supervisors.push(supervisor.spawn(move || supervise(&seat, up)).map_err(StartError::Thread)?);
        }
        drop(up);
        let node = Node { address, common, metrics, supervisors, listeners: kept };
        for _ in 0..shards {
            let failure = match ups.recv() {
                Ok(Ok(())) => continue,
                Ok(Err((shard, message))) => StartError::Executor { shard, message },
                Err(_) => StartError::Executor { shard: 0, message: "a shard ended while starting".to_owned() },
            };
            node.drain();
            return Err(failure);
        }
        Ok(node)
    }

    /// Where the node listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Each shard's listening socket and, where it is pinned, its core.
    pub fn listeners(&self) -> impl Iterator<Item = (BorrowedFd<'_>, Option<usize>)> {
        self.listeners.iter().map(|(listener, core)| (listener.as_fd(), *core))
    }

    /// Number of shards.
    pub fn shards(&self) -> usize {
        self.supervisors.len()
    }

    /// The node's numbers; valid after the node has gone, too.
    pub fn metrics(&self) -> Metrics {
        self.metrics.clone()
    }

    /// Ends listening, lets requests in flight finish within the drain's time limit, closes idle connections.
    pub fn drain(&self) {
        self.common.draining.store(true, Ordering::Relaxed);
    }

    /// Accepts connections, in a node that has its sockets from another. `schedules_since_ms` is when the other one stopped to run what is
    /// scheduled, Unix milliseconds.
    pub fn begin(&self, schedules_since_ms: Option<u64>) {
        self.common.handover.begin(schedules_since_ms);
    }

    /// Leaves what is scheduled to another process, or takes it back.
    pub fn pause_schedules(&self) -> impl Fn(bool) + Send + use<> {
        let common = self.common.clone();
        move |paused| common.handover.pause_schedules(paused)
    }

    /// Whether all shards have the Workers that they were told to have ready.
    pub fn is_warm(&self) -> bool {
        self.common.handover.all_warm()
    }

    /// Gives, by shard, the deployments whose Workers are up, those that were used last first; a shard that does not say within the limit has
    /// none. To be called on another thread than the shards'.
    pub fn ask_workers(&self) -> impl Fn(Duration) -> Vec<Vec<DeploymentId>> + Send + use<> {
        let common = self.common.clone();
        move |limit| {
            let begin = Instant::now();
            common.handover.ask();
            while begin.elapsed() < limit && common.handover.answers().is_none() {
                thread::sleep(ASK_GAP);
            }
            common.handover.take_answers()
        }
    }

    /// Longest time of a drain, ns.
    pub fn drain_limit_ns(&self) -> u64 {
        self.common.config.timeouts.drain_ns
    }

    /// As [`drain`](Node::drain), for a successor that has the listening sockets: they stay open, connections that wait there are the
    /// successor's, and idle ones are closed with their next response, or after a while.
    pub fn hand_over(&self) {
        self.common.handover.hand_over();
        self.drain();
    }

    /// Waits until all shards have ended. They do so only after a [`drain`](Node::drain).
    pub fn join(self) {
        for supervisor in self.supervisors {
            if supervisor.join().is_err() {
                tracing::error!("a supervisor panicked");
            }
        }
    }
}

/// What one shard needs to start, and to start again.
struct Seat {
    index: usize,
    core: Option<usize>,
    common: Arc<Common>,
    metrics: Arc<ShardMetrics>,
    listener: Arc<StdListener>,
}

type Up = mpsc::Sender<Result<(), (usize, String)>>;

/// Runs a shard on a thread of its own, again and again while it panics.
fn supervise(seat: &Seat, up: Up) {
    let mut up = Some(up);
    let mut wait = RESTART_WAIT;
    for restarts in 0..=SHARD_RESTARTS_MAX {
        let ended = thread::scope(|scope| {
            let shard = thread::Builder::new().name(format!("shard-{}", seat.index));
            shard.spawn_scoped(scope, || run(seat, up.take())).map(|thread| thread.join())
        });
        match ended {
            Ok(Ok(())) => return,
            Ok(Err(panic)) => {
                let panic = panic_text(panic.as_ref());
                tracing::error!(shard = seat.index, restarts, panic, "a shard's executor panicked");
            }
            Err(error) => tracing::error!(shard = seat.index, restarts, %error, "a shard's thread did not start"),
        }
        if seat.common.draining.load(Ordering::Relaxed) {
            return;
        }
        thread::sleep(wait);
        wait = (wait * 2).min(RESTART_WAIT_MAX);
        // The shard's thread has ended: this one writes its numbers meanwhile.
        seat.metrics.restarts.add(1);
        seat.metrics.connections.set(0);
        seat.metrics.workers.set(0);
    }
    tracing::error!(shard = seat.index, "a shard panicked too often and is given up");
}

/// A shard's thread.
fn run(seat: &Seat, up: Option<Up>) {
    let placement = seat.core.map_or(Placement::Unbound, Placement::Fixed);
    let executor = LocalExecutorBuilder::new(placement)
        .name("shard")
        .io_memory(IO_MEMORY_BYTES)
        .ring_depth(RING_ENTRIES)
        .preempt_timer(PREEMPT)
        .blocking_thread_pool_placement(PoolPlacement::Unbound(BLOCKING_THREADS))
        .make();
    let executor = match (executor, up) {
        (Ok(executor), up) => {
            if let Some(up) = up {
                let _ = up.send(Ok(()));
            }
            executor
        }
        (Err(error), Some(up)) => {
            let _ = up.send(Err((seat.index, error.to_string())));
            return;
        }
        (Err(error), None) => panic!("the executor cannot be made again: {error}"),
    };
    // Its core is also the agent's, the watchdog's and the apart thread's: it takes it from them as soon as it wakes.
    if let Err(error) = worker_api::shorten_slice() {
        tracing::warn!(%error, "the shard keeps the kernel's usual slice");
    }
    executor.run(async {
        let shard = Shard::new(seat.index, seat.core, seat.common.clone(), seat.metrics.clone());
        shard::run(shard, &seat.listener).await;
    });
}

/// Raises the limit of open descriptors of this process as far as it may; gives the new limit.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a whole structure, written during the call only.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: `limit` is a whole structure, read during the call only.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(limit.rlim_cur)
}

/// The cores that this process may run on.
fn allowed_cores() -> Vec<usize> {
    // SAFETY: a set of bits, for which all zeroes is the empty set.
    let mut set: libc::cpu_set_t = unsafe { zeroed() };
    // SAFETY: `set` is a whole set of the size given, written during the call only; 0 is the calling thread.
    if unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set) } != 0 {
        return Vec::new();
    }
    // SAFETY: reads a bit of `set`, whose size bounds the index.
    (0..libc::CPU_SETSIZE as usize).filter(|core| unsafe { libc::CPU_ISSET(*core, &set) }).collect()
}
