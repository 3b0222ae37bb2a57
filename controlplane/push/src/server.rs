//! `PushServer`: accepts nodes, holds the latest snapshot, answers who has what.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base::id::ArtifactHash;
use bytes::Bytes;
use plane_abi::wire::{self, Standing};
use plane_abi::{Lineage, RouteBase, SnapshotError, SnapshotHeader, seal::Key};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, broadcast, watch},
    task::{JoinHandle, JoinSet},
    time::Instant,
};
use tokio_rustls::TlsAcceptor;

use crate::{
    ca::{Ca, CaError},
    connection,
    latest::{Kept, Latest},
    nodes::{Acks, NodeStatus, Nodes, Tried},
};

/// TLS handshakes under way; more wait in the listener's backlog.
const HANDSHAKES_MAX: usize = 64;
/// Log records that a slow reader of [`PushServer::logs`] may be behind.
const LOG_RECORDS_KEPT: usize = 4096;
/// How often the fleet is looked at: who left may have been away for long enough.
const FLEET_PERIOD: Duration = Duration::from_secs(1);
/// After a failed `accept` (no descriptors left, say).
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// An artifact's bytes, or none if there is no such artifact.
pub type ArtifactFuture<'a> = Pin<Box<dyn Future<Output = io::Result<Option<Bytes>>> + Send + 'a>>;

/// Where artifacts come from.
pub trait ArtifactSource: Send + Sync + 'static {
    /// The bytes of an artifact. Given up after 30 seconds.
    fn fetch(&self, hash: ArtifactHash) -> ArtifactFuture<'_>;
}

/// How a [`PushServer`] works.
pub struct PushConfig {
    /// The store's.
    pub lineage: Lineage,
    /// Keys of environments in snapshots, the current one first.
    pub env_keys: Vec<Key>,
    /// Where artifacts come from.
    pub artifacts: Arc<dyn ArtifactSource>,
    /// Names of nodes whose certificates no longer count.
    pub revoked: HashSet<String>,
    /// How often a node says that it is alive; silent for three times as long, it is cut off.
    pub heartbeat: Duration,
    /// Nodes in the table, connected or not.
    pub nodes_max: usize,
}

impl PushConfig {
    /// With a heartbeat of 2 seconds, 4096 nodes, and nobody revoked.
    pub fn new(lineage: Lineage, env_keys: Vec<Key>, artifacts: Arc<dyn ArtifactSource>) -> PushConfig {
        let heartbeat = Duration::from_secs(2);
        PushConfig { lineage, env_keys, artifacts, revoked: HashSet::new(), heartbeat, nodes_max: 4096 }
    }
}

impl fmt::Debug for PushConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PushConfig").field("lineage", &self.lineage).finish_non_exhaustive()
    }
}

/// Why a snapshot is not published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// It is no snapshot.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// It names another base of routes than the one given with it.
    #[error("snapshot names another base of routes than was given with it")]
    Base,
    /// Its header names another generation or lineage than the caller or the server.
    #[error("snapshot is generation {generation} of {lineage}, not what is to be published")]
    Mismatch {
        /// In its header.
        generation: u64,
        /// In its header.
        lineage: Lineage,
    },
    /// A later generation, or another snapshot of this one, is published already.
    #[error("generation {published} is published already")]
    NotNewer {
        /// The latest.
        published: u64,
    },
}

/// A log record of a Worker, with the node it ran on.
#[derive(Clone, Debug)]
pub struct NodeLog {
    /// The node's name.
    pub node: Arc<str>,
    /// The record.
    pub record: wire::LogRecord,
    /// Records that the node lost right before this one.
    pub dropped: u64,
}

/// A snapshot that is one node's alone so far.
#[derive(Clone)]
pub(crate) struct Trial {
    node: Arc<str>,
    latest: Latest,
}

/// What connections share.
pub(crate) struct Shared {
    pub(crate) config: PushConfig,
    pub(crate) latest: watch::Sender<Option<Latest>>,
    /// What one node is to try before the others get it.
    pub(crate) trial: watch::Sender<Option<Trial>>,
    kept: Mutex<Kept>,
    nodes: Mutex<Nodes>,
    revoked: Mutex<HashSet<String>>,
    /// Counts changes of `nodes` and `revoked`.
    pub(crate) changes: watch::Sender<u64>,
    pub(crate) logs: broadcast::Sender<Arc<NodeLog>>,
    /// Names of the nodes that share what is to be done once.
    pub(crate) fleet: watch::Sender<Arc<[String]>>,
    /// What nodes are to do with requests, those that do not serve.
    pub(crate) standings: watch::Sender<Arc<HashMap<String, Standing>>>,
    /// When a node that came had the fleet told last.
    refreshed: Mutex<Option<Instant>>,
}

impl Shared {
    /// Reads or changes the table of nodes.
    pub(crate) fn nodes<T>(&self, act: impl FnOnce(&mut Nodes) -> T) -> T {
        act(&mut lock(&self.nodes))
    }

    /// Changes the table of nodes and wakes who waits for that.
    pub(crate) fn change_nodes<T>(&self, act: impl FnOnce(&mut Nodes) -> T) -> T {
        let result = self.nodes(act);
        self.changes.send_modify(|count| *count += 1);
        result
    }

    /// What a node is to have.
    pub(crate) fn current(&self, node: &str) -> Option<Latest> {
        let latest = self.latest.borrow().clone();
        let trial = self.trial.borrow().as_ref().filter(|trial| *trial.node == *node).map(|trial| trial.latest.clone());
        let generation = |latest: &Option<Latest>| latest.as_ref().map_or(0, |latest| latest.header.generation);
        if generation(&trial) > generation(&latest) { trial } else { latest }
    }

    /// A snapshot that was published lately.
    pub(crate) fn published(&self, header: SnapshotHeader) -> Option<Latest> {
        lock(&self.kept).find(header)
    }

    /// The header of a generation that was published lately.
    pub(crate) fn header_of(&self, generation: u64) -> Option<SnapshotHeader> {
        lock(&self.kept).header_of(generation)
    }

    /// A node has come: tells of the fleet at once, unless that was done within [`FLEET_PERIOD`]. Many that come together are told of
    /// together.
    pub(crate) fn arrived(&self) {
        let due = {
            let mut last = lock(&self.refreshed);
            let due = last.is_none_or(|last| last.elapsed() >= FLEET_PERIOD);
            if due {
                *last = Some(Instant::now());
            }
            due
        };
        if due {
            self.refresh_fleet();
        }
    }

    /// Tells of the fleet if it has changed.
    pub(crate) fn refresh_fleet(&self) {
        let mut fleet = self.nodes(|nodes| nodes.fleet(unix_ms()));
        // Nor is anything a node's to do that is to have no more to do.
        let standings = self.standings.borrow().clone();
        fleet.retain(|name| !self.is_revoked(name) && !standings.contains_key(name));
        self.fleet.send_if_modified(|known| {
            let changed = **known != *fleet;
            if changed {
                *known = fleet.into();
            }
            changed
        });
    }

    pub(crate) fn is_revoked(&self, name: &str) -> bool {
        lock(&self.revoked).contains(name)
    }
}

/// Every change under these locks is one assignment: a panic elsewhere leaves nothing half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// The push server; stops when dropped. See the crate's text.
pub struct PushServer {
    shared: Arc<Shared>,
    address: SocketAddr,
    accept: JoinHandle<()>,
}

impl Drop for PushServer {
    fn drop(&mut self) {
        // The accepting task owns the connections' tasks: they end with it.
        self.accept.abort();
    }
}

impl PushServer {
    /// Starts to serve on a bound listener, in the current tokio runtime.
    pub fn start(listener: TcpListener, ca: &Ca, config: PushConfig) -> Result<PushServer, CaError> {
        let address = listener.local_addr()?;
        let acceptor = TlsAcceptor::from(ca.server_config()?);
        let shared = Arc::new(Shared {
            nodes: Mutex::new(Nodes::new(config.lineage, config.nodes_max)),
            revoked: Mutex::new(config.revoked.clone()),
            config,
            latest: watch::Sender::new(None),
            trial: watch::Sender::new(None),
            kept: Mutex::default(),
            changes: watch::Sender::new(0),
            logs: broadcast::Sender::new(LOG_RECORDS_KEPT),
            fleet: watch::Sender::new(Arc::from([])),
            standings: watch::Sender::new(Arc::default()),
            refreshed: Mutex::default(),
        });
        let accept = tokio::spawn(accept(listener, acceptor, Arc::clone(&shared)));
        Ok(PushServer { shared, address, accept })
    }

    /// Ends it, with its connections, whoever has it still.
    pub fn stop(&self) {
        self.accept.abort();
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Makes a snapshot the latest; connections send it at once. Publishing the same again does nothing.
    pub fn publish(&self, generation: u64, bytes: Arc<[u8]>) -> Result<(), PublishError> {
        self.publish_over(generation, bytes, None)
    }

    /// The same for a snapshot that names a base of routes. Nodes that have not that base fetch it from here.
    pub fn publish_over(
        &self,
        generation: u64,
        bytes: Arc<[u8]>,
        base: Option<Arc<RouteBase>>,
    ) -> Result<(), PublishError> {
        let header = self.check(generation, &bytes, base.as_deref())?;
        let mut result = Ok(());
        self.shared.latest.send_if_modified(|latest| match latest {
            Some(published) if published.header.generation >= generation => {
                if published.header != header {
                    result = Err(PublishError::NotNewer { published: published.header.generation });
                }
                false
            }
            _ => {
                *latest = Some(lock(&self.shared.kept).keep(header, bytes, base));
                true
            }
        });
        result
    }

    /// Gives a snapshot to one node alone, and waits for its word. If it is then published, that node is not sent it again; if not,
    /// no other node ever sees it.
    pub async fn try_on(
        &self,
        node: &str,
        generation: u64,
        bytes: Arc<[u8]>,
        base: Option<Arc<RouteBase>>,
        timeout: Duration,
    ) -> Result<Tried, PublishError> {
        let header = self.check(generation, &bytes, base.as_deref())?;
        let latest = lock(&self.shared.kept).keep(header, bytes, base);
        self.shared.trial.send_replace(Some(Trial { node: Arc::from(node), latest }));
        let deadline = Instant::now() + timeout;
        let mut changes = self.shared.changes.subscribe();
        loop {
            changes.borrow_and_update();
            if let Some(tried) = self.shared.nodes(|nodes| nodes.tried(node, generation)) {
                return Ok(tried);
            }
            if tokio::time::timeout_at(deadline, changes.changed()).await.is_err() {
                return Ok(Tried::Silent);
            }
        }
    }

    /// Whom to give a snapshot first: of the connected nodes that serve what was published last, those whose names begin with `canary`,
    /// then by name. None while fewer than two are connected.
    pub fn canaries(&self) -> Vec<String> {
        let published = self.published_generation();
        self.shared.nodes(|nodes| nodes.canaries(published))
    }

    /// Whether bytes may be published.
    fn check(&self, generation: u64, bytes: &[u8], base: Option<&RouteBase>) -> Result<SnapshotHeader, PublishError> {
        let (header, named) = SnapshotHeader::read(bytes)?;
        if named != base.map(RouteBase::id) {
            return Err(PublishError::Base);
        }
        if header.generation != generation || header.lineage != self.shared.config.lineage {
            return Err(PublishError::Mismatch { generation: header.generation, lineage: header.lineage });
        }
        Ok(header)
    }

    /// Generation of the latest snapshot; 0 before the first.
    pub fn published_generation(&self) -> u64 {
        self.shared.latest.borrow().as_ref().map_or(0, |latest| latest.header.generation)
    }

    /// Waits until every connected node has acknowledged or refused the generation (or a later one), or the time is
    /// over. Nodes that connect or leave meanwhile count as they are at the end. With nobody connected it is done at once.
    pub async fn wait_acked(&self, generation: u64, timeout: Duration) -> Acks {
        let deadline = Instant::now() + timeout;
        let mut changes = self.shared.changes.subscribe();
        loop {
            changes.borrow_and_update();
            // A thousand nodes answer one after the other: who has answered is told once.
            let awaits = self.shared.nodes(|nodes| nodes.awaits(generation));
            if !awaits || tokio::time::timeout_at(deadline, changes.changed()).await.is_err() {
                return self.shared.nodes(|nodes| nodes.acks(generation));
            }
        }
    }

    /// All nodes that are known, by name.
    pub fn nodes(&self) -> Vec<NodeStatus> {
        self.shared.nodes(|nodes| nodes.list())
    }

    /// How the requests of a deployment's versions fare where two share them, by what nodes said last: (requests, errors) by version.
    pub fn version_counts(&self, deployment: u128) -> BTreeMap<u32, (u64, u64)> {
        self.shared.nodes(|nodes| nodes.version_counts(deployment))
    }

    /// Requests of deployments over all nodes since this was asked last.
    pub fn take_traffic(&self) -> HashMap<u128, u64> {
        self.shared.nodes(|nodes| nodes.take_traffic())
    }

    /// The highest generation of our lineage that any node has said it serves. Above what the store has numbered, the
    /// store is older than the nodes (restored from a backup): number past it, for nodes refuse what is not newer.
    pub fn highest_generation_seen(&self) -> u64 {
        self.shared.nodes(|nodes| nodes.highest_generation())
    }

    /// Resolves when the table of nodes has changed since `nodes_changed` of the same receiver was last seen.
    pub fn watch_nodes(&self) -> watch::Receiver<u64> {
        self.shared.changes.subscribe()
    }

    /// What Workers log from now on. A receiver that is more than 4096 records behind loses the oldest.
    pub fn logs(&self) -> broadcast::Receiver<Arc<NodeLog>> {
        self.shared.logs.subscribe()
    }

    /// Says what nodes are to do with requests: those that are not named serve. Nodes that connect later are told too.
    pub fn set_standings(&self, standings: HashMap<String, Standing>) {
        self.shared.standings.send_replace(Arc::new(standings));
        self.shared.refresh_fleet();
    }

    /// No longer accepts a node of that name, and cuts it off. Lasts as long as this server; the caller keeps the list.
    pub fn revoke(&self, name: &str) {
        lock(&self.shared.revoked).insert(name.to_owned());
        self.shared.nodes(|nodes| nodes.cut(name));
        self.shared.changes.send_modify(|count| *count += 1);
    }
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, shared: Arc<Shared>) {
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    let mut connections = JoinSet::new();
    let keeper = Arc::clone(&shared);
    connections.spawn(async move {
        loop {
            tokio::time::sleep(FLEET_PERIOD).await;
            keeper.refresh_fleet();
        }
    });
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(permit) = Arc::clone(&handshakes).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, address)) => {
                let (acceptor, shared) = (acceptor.clone(), Arc::clone(&shared));
                connections.spawn(async move {
                    match connection::serve(stream, address, acceptor, &shared, permit).await {
                        Ok(()) => {}
                        Err(error) => tracing::warn!(%address, %error, "node connection ended"),
                    }
                });
            }
            Err(error) => {
                tracing::error!(%error, "cannot accept node connections");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}
