//! What of a node outlives a connection: disk, plane, history, and the write to disk that is under way.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    future::pending,
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use base::id::ArtifactHash;
use plane_abi::code::CodeStore;
use plane_abi::plane::{Fleet, Plane, Published};
use plane_abi::pull::Pulls;
use plane_abi::seal::Key;
use plane_abi::wire::DeltaFrom;
use plane_abi::{Lineage, Snapshot, SnapshotHeader};
use tokio::task::JoinHandle;

use crate::accept::History;
use crate::disk::{Disk, Incoming, pushed_artifacts};
use crate::status::Status;

/// An artifact that could not be had for a request is not asked for again before.
const PULL_AGAIN: Duration = Duration::from_secs(1);
/// Artifacts that could not be had and are remembered; past it all are forgotten.
const PULL_FAILURES_MAX: usize = 1024;

/// A snapshot that may be published.
pub(crate) struct Candidate {
    pub(crate) incoming: Incoming,
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) key: Option<Key>,
    /// Artifacts that could not be had.
    pub(crate) lacking: HashSet<ArtifactHash>,
}

/// How a write to disk ended.
pub(crate) struct Persisted {
    pub(crate) header: SnapshotHeader,
    pub(crate) lacking: usize,
    pub(crate) result: io::Result<()>,
}

/// A write to disk.
struct Job {
    candidate: Candidate,
    artifacts: Vec<ArtifactHash>,
    lineages: Option<BTreeMap<Lineage, u64>>,
}

pub(crate) struct Node {
    pub(crate) disk: Arc<Disk>,
    pub(crate) plane: Plane,
    pub(crate) status: Arc<Status>,
    pub(crate) software: String,
    /// What the control plane calls it; none: it knows of no control plane.
    pub(crate) name: Option<String>,
    pub(crate) history: History,
    /// Compiled code of modules, if this node uses any.
    pub(crate) code: Option<Arc<CodeStore>>,
    /// Artifacts that requests wait for; none: there is no control plane to have them from.
    pub(crate) pulls: Option<Arc<Pulls>>,
    /// Artifacts that came on demand may take as much of the disk, bytes.
    pub(crate) pulled_bytes_max: u64,
    /// Artifacts that could not be had for a request.
    pull_failures: HashMap<ArtifactHash, Instant>,
    /// Artifacts that what is published lacks.
    pub(crate) lacking: HashSet<ArtifactHash>,
    /// Keys of environments from the control plane.
    keys: Vec<Key>,
    /// Artifacts that came since the last write to disk.
    unsynced: Vec<ArtifactHash>,
    lineages_changed: bool,
    running: Option<JoinHandle<Persisted>>,
    /// The newest snapshot published while another is being written. One it replaces is never written: the later one's
    /// acknowledgement covers it.
    waiting: Option<Candidate>,
}

impl Node {
    pub(crate) fn new(disk: Arc<Disk>, plane: Plane, status: Arc<Status>, software: String) -> Node {
        Node {
            disk,
            plane,
            status,
            software,
            name: None,
            history: History::default(),
            code: None,
            pulls: None,
            pulled_bytes_max: u64::MAX,
            pull_failures: HashMap::new(),
            lacking: HashSet::new(),
            keys: Vec::new(),
            unsynced: Vec::new(),
            lineages_changed: false,
            running: None,
            waiting: None,
        }
    }

    /// Publishes the newest good snapshot on disk.
    pub(crate) fn load(&mut self) {
        self.history.highest = self.disk.load_lineages();
        let Some(snapshot) = self.disk.load_snapshots() else {
            tracing::info!("no configuration on disk");
            return;
        };
        let key = self.disk.load_key(snapshot.env_key_id());
        if key.is_none() {
            tracing::error!(
                "no key on disk for the configuration's environments; Workers that have one will not start"
            );
        }
        self.lacking = self.disk.missing_artifacts(&snapshot);
        if !self.lacking.is_empty() {
            tracing::error!(count = self.lacking.len(), "modules are missing on disk; their Workers will not start");
        }
        let header = snapshot.header();
        if self.history.published == Some(header) {
            return;
        }
        tracing::info!(generation = header.generation, lineage = %header.lineage, "serving the configuration on disk");
        self.serve(snapshot, key);
        self.history.publish(header);
        self.history.durable = Some(header);
    }

    fn serve(&self, snapshot: Arc<Snapshot>, key: Option<Key>) {
        let published = Published::new(snapshot, self.disk.artifacts(), key);
        self.plane.publish(published.with_code(self.code.clone()).with_pulls(self.pulls.clone()));
    }

    /// Takes its name, and the fleet that it was of when it last ran.
    pub(crate) fn set_name(&mut self, name: String) {
        self.plane.set_fleet(Fleet::new(name.clone(), self.disk.load_fleet()));
        self.name = Some(name);
    }

    /// Takes the fleet.
    pub(crate) fn set_fleet(&mut self, members: Vec<String>) {
        let Some(name) = self.name.clone() else { return };
        let fleet = Fleet::new(name, members);
        if *self.plane.fleet() == fleet {
            return;
        }
        tracing::info!(nodes = fleet.members().len(), "the fleet has changed");
        // Only a hint for the next start: an old one costs an occurrence at most.
        if let Err(error) = self.disk.store_fleet(fleet.members()) {
            tracing::warn!(%error, "cannot keep which nodes there are");
        }
        self.plane.set_fleet(fleet);
    }

    /// Takes the control plane's keys.
    pub(crate) fn set_keys(&mut self, keys: Vec<Key>) {
        self.keys = keys;
    }

    /// A key of environments, from the control plane or from disk.
    pub(crate) fn key(&self, id: u64) -> Option<Key> {
        self.keys.iter().find(|key| key.id() == id).cloned().or_else(|| self.disk.load_key(id))
    }

    /// A snapshot of which a delta may be: what serves, or one on disk.
    pub(crate) fn snapshot(&self, lineage: Lineage, from: &DeltaFrom) -> Option<Arc<Snapshot>> {
        let DeltaFrom { generation, checksum, .. } = *from;
        let serving = self.plane.current().map(|published| Arc::clone(published.snapshot()));
        let serving = serving.filter(|it| it.header() == SnapshotHeader { lineage, generation, checksum });
        serving.or_else(|| self.disk.snapshot(lineage, generation, checksum))
    }

    /// Takes an artifact whose hash was checked.
    pub(crate) fn store_artifact(&mut self, hash: ArtifactHash, bytes: &[u8]) -> io::Result<()> {
        self.disk.store_artifact(hash, bytes)?;
        self.unsynced.push(hash);
        self.lacking.remove(&hash);
        Ok(())
    }

    /// Takes an artifact that came on demand and whose hash was checked.
    pub(crate) fn store_pulled(&mut self, hash: ArtifactHash, bytes: &[u8]) -> io::Result<()> {
        let bytes_max = self.pulled_bytes_max;
        if self.disk.store_pulled(hash, bytes, bytes_max)? {
            let (disk, status) = (Arc::clone(&self.disk), Arc::clone(&self.status));
            // A tenth more than need be, so that not each one that comes looks through all.
            tokio::task::spawn_blocking(move || match disk.keep_pulled(bytes_max / 10 * 9, hash) {
                Ok(gone) => status.evicted(gone),
                Err(error) => tracing::warn!(%error, "cannot make room among the modules that came on demand"),
            });
        }
        Ok(())
    }

    /// Says how a fetch ended that requests may wait for.
    pub(crate) fn pull_ended(&mut self, hash: ArtifactHash, came: bool) {
        let Some(pulls) = &self.pulls else { return };
        if !came {
            if self.pull_failures.len() >= PULL_FAILURES_MAX {
                self.pull_failures.clear();
            }
            self.pull_failures.insert(hash, Instant::now());
        }
        pulls.end(hash, came);
    }

    /// Whether an artifact could not be had a moment ago: then who waits for it is told so again.
    pub(crate) fn refuse_again(&mut self, hash: ArtifactHash) -> bool {
        let Some(failed) = self.pull_failures.get(&hash) else { return false };
        if failed.elapsed() >= PULL_AGAIN {
            self.pull_failures.remove(&hash);
            return false;
        }
        if let Some(pulls) = &self.pulls {
            pulls.end(hash, false);
        }
        true
    }

    /// Takes compiled code that the control plane sent.
    pub(crate) fn store_code(&mut self, artifact: ArtifactHash, envelope: &[u8]) {
        let Some(code) = &self.code else { return };
        if let Err(error) = code.store(artifact, envelope) {
            tracing::warn!(%artifact, %error, "the control plane's code cache is not used");
            code.refuse(error);
        }
    }

    /// Artifacts that are to be here ahead and have no compiled code here.
    pub(crate) fn without_code(&self, snapshot: &Snapshot) -> HashSet<ArtifactHash> {
        let Some(code) = &self.code else { return HashSet::new() };
        pushed_artifacts(snapshot).map(|(hash, _)| hash).filter(|hash| !code.has_file(*hash)).collect()
    }

    /// Whether this node uses compiled code and has none of an artifact.
    pub(crate) fn lacks_code(&self, artifact: ArtifactHash) -> bool {
        self.code.as_ref().is_some_and(|code| !code.has_file(artifact))
    }

    /// Publishes a snapshot and begins to make it durable.
    pub(crate) fn publish(&mut self, candidate: Candidate, took: Duration) {
        let header = candidate.snapshot.header();
        let snapshot = Arc::clone(&candidate.snapshot);
        self.serve(snapshot, candidate.key.clone());
        self.lineages_changed |= self.history.publish(header);
        self.lacking.clone_from(&candidate.lacking);
        self.status.activated(took);
        tracing::info!(generation = header.generation, lineage = %header.lineage, micros = took.as_micros() as u64, "configuration published");
        self.waiting = Some(candidate);
        self.persist_next();
    }

    fn persist_next(&mut self) {
        if self.running.is_some() {
            return;
        }
        let Some(candidate) = self.waiting.take() else { return };
        let lineages = std::mem::take(&mut self.lineages_changed).then(|| self.history.highest.clone());
        let job = Job { candidate, artifacts: std::mem::take(&mut self.unsynced), lineages };
        let disk = Arc::clone(&self.disk);
        self.running = Some(tokio::task::spawn_blocking(move || {
            let Job { candidate, artifacts, lineages } = job;
            let Candidate { incoming, snapshot, key, lacking } = candidate;
            let result = disk.persist(incoming, &snapshot, key.as_ref(), &artifacts, lineages.as_ref());
            Persisted { header: snapshot.header(), lacking: lacking.len(), result }
        }));
    }

    /// Waits for the write that is under way and begins the next; for ever if there is none. Cancelled, it loses nothing.
    pub(crate) async fn persisted(&mut self) -> Persisted {
        let Some(running) = &mut self.running else { return pending().await };
        let persisted = running.await;
        self.running = None;
        let persisted = match persisted {
            Ok(persisted) => persisted,
            // Only a panic ends the task so: report it like a failed write.
            Err(error) => {
                let header = self.history.published.unwrap_or(SnapshotHeader {
                    lineage: Lineage::default(),
                    generation: 0,
                    checksum: 0,
                });
                Persisted { header, lacking: 0, result: Err(io::Error::other(error)) }
            }
        };
        match &persisted.result {
            Ok(()) => self.history.durable = Some(persisted.header),
            Err(error) => {
                self.status.not_durable();
                self.lineages_changed |= !self.history.highest.is_empty();
                tracing::error!(generation = persisted.header.generation, %error, "configuration serves but is not on disk");
            }
        }
        self.persist_next();
        persisted
    }

    /// Waits until nothing is being written.
    pub(crate) async fn settle(&mut self) {
        while self.running.is_some() {
            self.persisted().await;
        }
    }
}
