//! The agent: the one slow thread of a node. It keeps the node's configuration current and shards never wait for it.
//!
//! Owns: the data folder (snapshots, artifacts, keys), the connection to the control plane, what is published in the
//! [`Plane`], shipping of Workers' logs, and the admin listener.
//! Does not: route, run code, or decide what a configuration should say.
//!
//! **Start.** [`Agent::open`] locks the data folder and publishes the newest snapshot on disk that is whole, before any
//! connection: a node serves with the control plane away. A damaged one is reported and the one before it serves.
//!
//! **Activation.** A snapshot is written to a file of its own as it comes in, checked whole, and the modules of its active
//! deployments are fetched and checked against their SHA-256, their compiled code just before them, which may be missing. Then it is published, and only then made durable (fsync,
//! rename), and only then acknowledged. Publishing before fsync is safe because nothing is promised by it: a node that
//! loses power in between comes back with the generation before, which is what it last acknowledged, and is sent the
//! new one again. Waiting for the disk first would add its fsync to every activation and promise nothing more. A
//! snapshot that fails any step before is refused, with the reason, and what serves goes on serving.
//!
//! **On demand.** Modules of deployments that the snapshot marks so (`Distribution::Pull`) come with the first request for them: a shard
//! that has a request and no module asks ([`plane_abi::pull`]), it is fetched once, before all that is fetched ahead, checked
//! against its SHA-256, and stays on disk until modules that were used later need its room. A module that is missing or damaged
//! for another reason comes the same way.
//!
//! **Succession.** One agent at a time writes to the data folder and speaks to the control plane. While a node is upgraded, the new
//! process's agent ([`Agent::succeed`]) publishes what is on disk without the lock; then the old one pauses ([`AgentHandle::pause`]: it ends its
//! connection, finishes its writes, gives the lock up), and the new one takes the lock and looks again ([`Agent::take_over`]). If that fails,
//! the old one resumes.
//!
//! **Which snapshots are taken.** See [`accept`]: within a lineage generations only go up.
//!
//! Bounds: one incoming snapshot, 16 artifact requests under way, a queue of log records, back-off up to 10 s, three
//! snapshots kept on disk. Tested against the real push server in `controlplane/push/tests/agent.rs`, because nothing of the
//! data plane names the control plane. Thread: [`Agent::run`] takes the calling thread; files are synced on tokio's blocking threads,
//! code caches are made on a thread of their own (`code`).

#![forbid(unsafe_code)]

pub mod accept;
mod admin;
mod code;
mod disk;
mod fetch;
mod identity;
mod link;
mod logs;
mod node;
mod session;
mod status;

use std::{
    fmt, io,
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{
            AtomicBool,
            Ordering::{Acquire, Release},
        },
    },
    thread,
    time::{Duration, Instant},
};

use plane_abi::plane::Plane;
use plane_abi::pull::Pulls;
use plane_abi::wire::{Load, LogRecord, Traffic};
use tokio::sync::watch;

pub use code::{CodeConfig, Compile};
pub use disk::DiskError;
pub use identity::IdentityError;

use crate::{disk::Disk, identity::Identity, logs::LogQueue, node::Node, status::Status};

/// After [`AgentHandle::shutdown`], for what is under way on disk; and once more for a disk that hangs.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);

/// Between two tries to take the lock, and two looks whether an agent has paused.
const LOCK_RETRY: Duration = Duration::from_millis(10);

/// How an agent works.
#[derive(Clone, Debug)]
pub struct Config {
    /// The node's data folder; made if need be, mode 0700. One agent at a time.
    pub data_dir: PathBuf,
    /// Where the admin listener listens; port 0 for any.
    pub admin: SocketAddr,
    /// The control plane; none: the node serves what is on disk.
    pub control: Option<Control>,
    /// Version of the node's program.
    pub software: String,
    /// Disk space for modules that come on demand, with their code, bytes. Those that were used longest ago make room.
    pub pulled_bytes_max: u64,
    /// How code caches are made; none: Workers compile from source.
    pub code: Option<CodeConfig>,
}

/// Where the control plane is and who we are to it.
#[derive(Clone, Debug)]
pub struct Control {
    /// `HOST:PORT`; resolved anew at every connection.
    pub address: String,
    /// Folder with `ca.pem`, `node.pem` and `node.key`.
    pub identity: PathBuf,
}

/// What the agent asks the rest of the node. Called on the agent's thread; must not block.
#[derive(Clone)]
pub struct Hooks {
    /// Whether shards listen; else why not. For `/readyz`, besides that a snapshot is published.
    pub ready: Arc<dyn Fn() -> Result<(), String> + Send + Sync>,
    /// Metrics of the shards, in Prometheus' text form.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
    /// Load for heartbeats; generation, clock and traffic are the agent's to fill in.
    pub load: Arc<dyn Fn() -> Load + Send + Sync>,
    /// Requests of deployments since the last call, most first.
    pub traffic: Arc<dyn Fn() -> Vec<Traffic> + Send + Sync>,
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hooks")
    }
}

/// Why an agent does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data folder.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Certificates and keys.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The admin listener.
    #[error("cannot listen for admin requests at {address}: {error}")]
    Admin {
        /// Where.
        address: SocketAddr,
        /// Why.
        error: io::Error,
    },
    /// The runtime.
    #[error("cannot start the agent's runtime: {0}")]
    Runtime(io::Error),
}

/// An agent that has published what was on disk and is ready to run.
pub struct Agent {
    node: Node,
    control: Option<(String, Identity)>,
    admin: TcpListener,
    logs: logs::LogReceiver,
    shutdown: watch::Receiver<bool>,
    pause: watch::Receiver<bool>,
    handle: AgentHandle,
    /// Held for its end: the thread that makes code caches.
    maker: Option<code::Maker>,
}

/// What the rest of the node has of its agent. Clones are the same agent.
#[derive(Clone)]
pub struct AgentHandle {
    plane: Plane,
    logs: LogQueue,
    status: Arc<Status>,
    admin: SocketAddr,
    shutdown: Arc<watch::Sender<bool>>,
    pause: Arc<watch::Sender<bool>>,
    paused: Arc<AtomicBool>,
}

impl AgentHandle {
    /// What serves; shards take a reader each.
    pub fn plane(&self) -> &Plane {
        &self.plane
    }

    /// Where the admin listener listens.
    pub fn admin_addr(&self) -> SocketAddr {
        self.admin
    }

    /// Hands over a log record. Never blocks, from any thread; a full queue drops the record, which is counted and told to
    /// the control plane. False: dropped.
    pub fn log(&self, record: LogRecord) -> bool {
        self.logs.push(record)
    }

    /// Whether the node is connected to its control plane now.
    pub fn connected(&self) -> bool {
        self.status.connected()
    }

    /// Ends the connection to the control plane and all writes to the data folder, and gives its lock up: for a successor. What serves goes on
    /// serving. False: not within `limit`, and not at all.
    pub fn pause(&self, limit: Duration) -> bool {
        let begin = Instant::now();
        self.pause.send_replace(true);
        while !self.paused.load(Acquire) {
            if begin.elapsed() >= limit {
                self.resume();
                return false;
            }
            thread::sleep(LOCK_RETRY);
        }
        true
    }

    /// Ends a pause: takes the lock again as soon as it is free.
    pub fn resume(&self) {
        self.pause.send_replace(false);
    }

    /// Makes [`Agent::run`] return, within about ten seconds, on a healthy disk at once.
    pub fn shutdown(&self) {
        self.shutdown.send_replace(true);
    }
}

impl Agent {
    /// Locks the data folder, publishes the newest good snapshot in it, reads the identity, binds the admin listener.
    pub fn open(config: Config) -> Result<Agent, StartError> {
        let disk = Disk::open(&config.data_dir)?;
        let admin = TcpListener::bind(config.admin);
        Agent::with(config, disk, admin)
    }

    /// As [`open`](Agent::open), beside the agent whose place this one is to take, and with its admin listener. Not to be run before it has
    /// taken over.
    pub fn succeed(config: Config, admin: TcpListener) -> Result<Agent, StartError> {
        let disk = Disk::open_beside(&config.data_dir)?;
        Agent::with(config, disk, Ok(admin))
    }

    /// Takes the lock of the data folder, for which it waits at most `limit`, and publishes what is newest there now.
    pub fn take_over(&mut self, limit: Duration) -> Result<(), StartError> {
        let begin = Instant::now();
        loop {
            match self.node.disk.lock() {
                Ok(()) => break,
                Err(DiskError::Locked(_)) if begin.elapsed() < limit => thread::sleep(LOCK_RETRY),
                Err(error) => return Err(error.into()),
            }
        }
        self.node.load();
        Ok(())
    }

    /// The admin listener, for a successor.
    pub fn admin_listener(&self) -> io::Result<TcpListener> {
        self.admin.try_clone()
    }

    fn with(config: Config, disk: Disk, admin: io::Result<TcpListener>) -> Result<Agent, StartError> {
        let control = match config.control {
            Some(control) => Some((control.address, Identity::load(&control.identity)?)),
            None => None,
        };
        let disk = Arc::new(disk);
        let plane = Plane::new();
        let status = Arc::new(Status::default());
        let bound = admin.and_then(|listener| {
            listener.set_nonblocking(true)?;
            Ok((listener.local_addr()?, listener))
        });
        let (address, admin) = bound.map_err(|error| StartError::Admin { address: config.admin, error })?;
        if !address.ip().is_loopback() {
            tracing::warn!(%address, "the admin listener is open to more than this machine and asks for no password");
        }
        let (queue, logs) = LogQueue::new();
        let (stop, shutdown) = watch::channel(false);
        let (halt, pause) = watch::channel(false);
        let handle = AgentHandle {
            plane: plane.clone(),
            logs: queue,
            status: Arc::clone(&status),
            admin: address,
            shutdown: Arc::new(stop),
            pause: Arc::new(halt),
            paused: Arc::default(),
        };
        let mut node = Node::new(Arc::clone(&disk), plane, Arc::clone(&status), config.software);
        let maker = match config.code {
            Some(CodeConfig { engine, compile }) => {
                let (wanted, receiver) = std::sync::mpsc::sync_channel(code::QUEUE_MAX);
                let store = Arc::new(disk.code_store(engine, wanted)?);
                node.code = Some(Arc::clone(&store));
                status.set_code(Arc::clone(&store));
                let made = status.code_made();
                let maker = code::Maker::start(store, disk.artifacts(), compile, receiver, made);
                Some(maker.map_err(StartError::Runtime)?)
            }
            None => None,
        };
        node.pulled_bytes_max = config.pulled_bytes_max;
        node.pulls = control.as_ref().map(|_| Arc::<Pulls>::default());
        if let Some((_, identity)) = &control {
            node.set_name(identity.name.clone());
        }
        node.load();
        Ok(Agent { node, control, admin, logs, shutdown, pause, handle, maker })
    }

    /// A handle for the rest of the node.
    pub fn handle(&self) -> AgentHandle {
        self.handle.clone()
    }

    /// Runs on the calling thread until [`AgentHandle::shutdown`].
    pub fn run(self, hooks: Hooks) -> Result<(), StartError> {
        let Agent { mut node, control, admin, mut logs, mut shutdown, mut pause, handle, maker } = self;
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(StartError::Runtime)?;
        let ended = runtime.block_on(async move {
            let address = handle.admin;
            let listener =
                tokio::net::TcpListener::from_std(admin).map_err(|error| StartError::Admin { address, error })?;
            let paused = Arc::clone(&handle.paused);
            let pages = admin::Pages { handle, hooks: hooks.clone() };
            let work = async {
                loop {
                    let work = async {
                        match &control {
                            Some((address, identity)) => {
                                link::keep(&mut node, &mut logs, address, identity, &hooks).await;
                            }
                            None => logs.discard().await,
                        }
                    };
                    tokio::select! {
                        () = work => {}
                        _ = pause.wait_for(|pause| *pause) => {}
                    }
                    stand_aside(&mut node, &mut pause, &paused).await;
                }
            };
            tokio::select! {
                () = work => {}
                () = admin::serve(listener, pages) => {}
                _ = shutdown.wait_for(|stop| *stop) => {}
            }
            let _ = tokio::time::timeout(SHUTDOWN_GRACE, node.settle()).await;
            Ok(())
        });
        // A disk that hangs must not hang the process.
        runtime.shutdown_timeout(SHUTDOWN_GRACE);
        drop(maker);
        ended
    }
}

/// Leaves the data folder to a successor until it gives up.
async fn stand_aside(node: &mut Node, pause: &mut watch::Receiver<bool>, paused: &AtomicBool) {
    node.settle().await;
    if node.status.connected() {
        node.status.set_connected(false);
    }
    node.disk.unlock();
    paused.store(true, Release);
    // Every handle is gone: nobody can end the pause but the agent's own end.
    if pause.wait_for(|pause| !*pause).await.is_err() {
        std::future::pending::<()>().await;
    }
    while node.disk.lock().is_err() {
        tokio::time::sleep(LOCK_RETRY).await;
    }
    // The other may have written snapshots: what comes next must be numbered after them. The control plane sends what is newest.
    let _ = node.disk.load_snapshots();
    paused.store(false, Release);
}
