//! The node's data folder.
//!
//! ```text
//! lock                    held while an agent runs; without it nothing is written but code and temporary files
//! snapshots/SEQUENCE      the last three, 20 decimal digits; the highest that is whole serves after a restart
//! snapshots/*.tmp         one that is coming in, or a base of routes
//! routes/CHECKSUM-BYTES   bases of routes that those snapshots name
//! artifacts/SHA256        modules, by content; of those that came on demand the time of change is that of the last use
//! code/SHA256             V8's compiled code of the module of that hash, with this node's mark
//! keys/ID.key             keys of environments, mode 0600
//! keys/code.key           the key of the mark, mode 0600
//! fleet                   names of the nodes that share what is to be done once
//! lineages                highest generation of each lineage that was served before the current one
//! ```
//! A file gets its name by rename when its bytes are all there, and is never changed after. Sequence numbers are the
//! node's own: they order snapshots across lineages.
//!
//! Blocking throughout; the agent calls what may take long on a blocking thread. Failures: [`DiskError`] at the start,
//! `io::Error` after, which refuses one snapshot.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    fs::{self, DirBuilder, File},
    io::{self, Write as _},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc::SyncSender,
    },
    time::{Duration, SystemTime},
};

use base::id::ArtifactHash;
use plane_abi::code::{CodeEngine, CodeError, CodeStore};
use plane_abi::plane::{artifact_hash, artifact_path};
use plane_abi::seal::Key;
use plane_abi::wire;
use plane_abi::{
    BaseId, Deployment, Distribution, Lineage, RouteBase, Snapshot, SnapshotError, SnapshotHeader, Status,
};

/// Snapshots that stay.
const SNAPSHOTS_KEPT: usize = 3;
/// Bases that were looked for last stay, whatever is pruned: those of snapshots on their way to the disk.
const BASES_WANTED: usize = 4;
/// An artifact that nothing refers to stays as long: somebody may just be starting it.
const ARTIFACT_GRACE: Duration = Duration::from_secs(15 * 60);

/// Why a data folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// A file or folder in it.
    #[error("data folder: {path}: {error}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Another process has it.
    #[error("data folder {0} is in use by another process")]
    Locked(PathBuf),
}

pub(crate) struct Disk {
    root: PathBuf,
    lock: File,
    next_file: AtomicU64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Snapshots on disk, oldest first.
    kept: Vec<(u64, Arc<Snapshot>)>,
    next_sequence: u64,
    /// Artifacts that were seen whole since the start.
    artifacts: HashSet<ArtifactHash>,
    /// Artifacts that the latest candidate needs: not to be pruned while it is on its way.
    wanted: HashSet<ArtifactHash>,
    /// Modules that came on demand, with their code, bytes; unknown until it was looked.
    pulled_bytes: Option<u64>,
    /// Bases that are mapped.
    bases: Vec<Arc<RouteBase>>,
    /// Bases that were looked for last, the newest last.
    wanted_bases: VecDeque<BaseId>,
}

/// A module that came on demand.
struct Pulled {
    hash: ArtifactHash,
    /// With its code.
    bytes: u64,
    used: SystemTime,
}

/// A snapshot that comes in. Dropped, its file goes (and stays readable where it is mapped).
pub(crate) struct Incoming {
    path: Option<PathBuf>,
    file: File,
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if let Some(path) = self.path.take() {
            let _ = fs::remove_file(path);
        }
    }
}

impl Incoming {
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)
    }

    pub(crate) fn path(&self) -> &Path {
        self.path.as_deref().unwrap_or(Path::new(""))
    }
}

impl Disk {
    /// Makes the folders, takes the lock, removes what a killed process left half done.
    pub(crate) fn open(root: &Path) -> Result<Disk, DiskError> {
        let disk = Disk::open_beside(root)?;
        disk.lock()?;
        Ok(disk)
    }

    /// Makes the folders. Without the lock it is another's folder to write to, until [`Disk::lock`].
    pub(crate) fn open_beside(root: &Path) -> Result<Disk, DiskError> {
        let fail = |path: &Path, error| DiskError::Io { path: path.to_owned(), error };
        for folder in ["", "snapshots", "routes", "artifacts", "code", "keys"].map(|name| root.join(name)) {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(&folder);
            made.map_err(|error| fail(&folder, error))?;
        }
        let path = root.join("lock");
        let lock = File::options().write(true).create(true).truncate(false).open(&path);
        let lock = lock.map_err(|error| fail(&path, error))?;
        Ok(Disk { root: root.to_owned(), lock, next_file: AtomicU64::new(0), state: Mutex::default() })
    }

    /// Takes the lock, and removes what a killed process left half done.
    pub(crate) fn lock(&self) -> Result<(), DiskError> {
        let fail = |path: &Path, error| DiskError::Io { path: path.to_owned(), error };
        match self.lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(DiskError::Locked(self.root.clone())),
            Err(fs::TryLockError::Error(error)) => return Err(fail(&self.root.join("lock"), error)),
        }
        for folder in ["snapshots", "routes", "artifacts", "code", "keys", "."] {
            let folder = self.root.join(folder);
            let temporary = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "tmp");
            for path in list(&folder).map_err(|error| fail(&folder, error))?.into_iter().filter(temporary) {
                match fs::remove_file(&path) {
                    // A thread of the process before may still be at it.
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(fail(&path, error)),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// Gives the lock up: nothing is being written.
    pub(crate) fn unlock(&self) {
        if let Err(error) = self.lock.unlock() {
            tracing::error!(%error, "cannot unlock the data folder");
        }
    }

    pub(crate) fn artifacts(&self) -> PathBuf {
        self.root.join("artifacts")
    }

    /// The code caches of this node, for this V8.
    pub(crate) fn code_store(
        &self,
        engine: CodeEngine,
        wanted: SyncSender<ArtifactHash>,
    ) -> Result<CodeStore, DiskError> {
        let path = self.root.join("keys").join("code.key");
        let key = match Key::load_or_create(&path) {
            // Nothing depends on the old key but code that can be made again.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                tracing::error!(%error, "the key of code caches is damaged; they are made again");
                fs::remove_file(&path).and_then(|()| Key::load_or_create(&path))
            }
            key => key,
        };
        let store = key.and_then(|key| CodeStore::new(self.root.join("code"), engine, &key, wanted));
        store.map_err(|error| DiskError::Io { path, error })
    }

    fn snapshots(&self) -> PathBuf {
        self.root.join("snapshots")
    }

    /// Every change under the lock is complete before anything in it can panic.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The newest snapshot that is whole. Says which ones are not.
    pub(crate) fn load_snapshots(&self) -> Option<Arc<Snapshot>> {
        let sequence = |path: &PathBuf| path.file_name()?.to_str()?.parse::<u64>().ok();
        let files = list(&self.snapshots()).unwrap_or_else(|error| {
            tracing::error!(%error, "cannot list the snapshots on disk");
            Vec::new()
        });
        let mut numbered: Vec<(u64, PathBuf)> =
            files.into_iter().filter_map(|path| Some((sequence(&path)?, path))).collect();
        numbered.sort_unstable();
        let next_sequence = numbered.last().map_or(1, |(sequence, _)| sequence + 1);
        let mut kept = Vec::new();
        for (sequence, path) in numbered {
            match Snapshot::open(&path, &|id| self.base(id)) {
                Ok(snapshot) => kept.push((sequence, Arc::new(snapshot))),
                Err(error) => {
                    tracing::error!(path = %path.display(), %error, "a snapshot on disk is damaged; an earlier one serves");
                }
            }
        }
        let mut state = self.state();
        (state.kept, state.next_sequence) = (kept, next_sequence);
        state.kept.last().map(|(_, snapshot)| Arc::clone(snapshot))
    }

    /// A snapshot that is on disk.
    pub(crate) fn snapshot(&self, lineage: Lineage, generation: u64, checksum: u64) -> Option<Arc<Snapshot>> {
        let header = SnapshotHeader { lineage, generation, checksum };
        let state = self.state();
        state.kept.iter().find(|(_, snapshot)| snapshot.header() == header).map(|(_, snapshot)| Arc::clone(snapshot))
    }

    fn base_path(&self, id: BaseId) -> PathBuf {
        self.root.join("routes").join(id.to_string())
    }

    /// A base of routes. Keeps it from being pruned while it is among those that were asked for last. `NoBase` where it is
    /// not here, or damaged: then its file goes.
    pub(crate) fn base(&self, id: BaseId) -> Result<Arc<RouteBase>, SnapshotError> {
        let mut state = self.state();
        state.wanted_bases.retain(|wanted| *wanted != id);
        state.wanted_bases.push_back(id);
        let excess = state.wanted_bases.len().saturating_sub(BASES_WANTED);
        state.wanted_bases.drain(..excess);
        if let Some(base) = state.bases.iter().find(|base| base.id() == id) {
            return Ok(Arc::clone(base));
        }
        drop(state);
        let path = self.base_path(id);
        match RouteBase::open(&path) {
            Ok(base) if base.id() == id => {
                let base = Arc::new(base);
                self.state().bases.push(Arc::clone(&base));
                Ok(base)
            }
            Err(SnapshotError::Io(error)) if error.kind() == io::ErrorKind::NotFound => Err(SnapshotError::NoBase(id)),
            Err(SnapshotError::Io(error)) => Err(SnapshotError::Io(error)),
            _ => {
                tracing::error!(path = %path.display(), "a base of routes on disk is damaged; it will be fetched again");
                fs::remove_file(&path)?;
                Err(SnapshotError::NoBase(id))
            }
        }
    }

    /// Puts a base that has come in in place, every record of it checked. Not yet durable: [`Disk::persist`] sees to that.
    pub(crate) fn store_base(&self, mut incoming: Incoming, id: BaseId) -> Result<(), SnapshotError> {
        let base = RouteBase::open(incoming.path())?;
        if base.id() != id {
            return Err(SnapshotError::OtherBase(base.id()));
        }
        base.verify()?;
        fs::rename(incoming.path(), self.base_path(id))?;
        incoming.path = None;
        self.state().bases.push(Arc::new(base));
        Ok(())
    }

    /// A new file for a snapshot that comes in.
    pub(crate) fn incoming(&self) -> io::Result<Incoming> {
        self.incoming_in("snapshots")
    }

    /// A new file for a base of routes that comes in.
    pub(crate) fn incoming_base(&self) -> io::Result<Incoming> {
        self.incoming_in("routes")
    }

    /// In the folder where it will stay: behind Landlock no file goes from one folder to another.
    fn incoming_in(&self, folder: &str) -> io::Result<Incoming> {
        let name = format!("incoming-{}.tmp", self.next_file.fetch_add(1, Relaxed));
        let path = self.root.join(folder).join(name);
        let file = File::options().write(true).create_new(true).open(&path)?;
        Ok(Incoming { path: Some(path), file })
    }

    /// Of the artifacts that are to be here ahead, those that are not here whole. Protects all of them from pruning until the
    /// next call. A file of the right length is taken for whole: its content was checked when it was written and is
    /// checked again whenever it is read.
    pub(crate) fn missing_artifacts(&self, snapshot: &Snapshot) -> HashSet<ArtifactHash> {
        let mut state = self.state();
        let mut missing = HashSet::new();
        state.wanted.clear();
        for (hash, bytes) in pushed_artifacts(snapshot) {
            state.wanted.insert(hash);
            if state.artifacts.contains(&hash) {
                continue;
            }
            let found = fs::metadata(artifact_path(&self.artifacts(), hash));
            if found.is_ok_and(|found| found.is_file() && found.len() == bytes) {
                state.artifacts.insert(hash);
            } else {
                missing.insert(hash);
            }
        }
        missing
    }

    /// Reads every active deployment's artifact and removes the damaged ones, so that they are fetched again. Gives how
    /// many were removed.
    pub(crate) fn scrub(&self, snapshot: &Snapshot) -> usize {
        let mut removed = 0;
        let distinct: HashSet<ArtifactHash> = active_artifacts(snapshot).map(|(hash, _)| hash).collect();
        for hash in distinct {
            let path = artifact_path(&self.artifacts(), hash);
            match fs::read(&path) {
                Ok(bytes) if artifact_hash(&bytes) == hash => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                _ => {
                    tracing::error!(%hash, "an artifact on disk is damaged; it will be fetched again");
                    self.state().artifacts.remove(&hash);
                    removed += usize::from(fs::remove_file(&path).is_ok());
                }
            }
        }
        removed
    }

    /// Checks every active deployment's code cache and removes those that are not to be used, so that they are asked for
    /// again.
    pub(crate) fn scrub_code(&self, snapshot: &Snapshot, code: &CodeStore) {
        let distinct: HashSet<ArtifactHash> = active_artifacts(snapshot).map(|(hash, _)| hash).collect();
        for hash in distinct {
            match code.load(hash) {
                Ok(_) | Err(CodeError::Absent) => {}
                Err(error) => {
                    tracing::warn!(artifact = %hash, %error, "a code cache on disk is not used; it is asked for again");
                    code.refuse(error);
                    code.remove(hash);
                }
            }
        }
    }

    /// Puts an artifact in place; its hash was checked. Not yet durable: [`Disk::persist`] sees to that. Where the disk is full, all modules
    /// make room that are not to be here ahead.
    pub(crate) fn store_artifact(&self, hash: ArtifactHash, bytes: &[u8]) -> io::Result<()> {
        self.write_artifact(hash, bytes, |_| 0)
    }

    /// The same of one that came on demand; what was used longest ago makes room. Whether there is now more of them than may be.
    pub(crate) fn store_pulled(&self, hash: ArtifactHash, bytes: &[u8], bytes_max: u64) -> io::Result<bool> {
        self.write_artifact(hash, bytes, |pulled_bytes| pulled_bytes / 2)?;
        let mut state = self.state();
        let pulled_bytes = state.pulled_bytes.map(|before| before + bytes.len() as u64);
        state.pulled_bytes = pulled_bytes;
        Ok(pulled_bytes.is_none_or(|pulled_bytes| pulled_bytes > bytes_max))
    }

    /// `leave`: of the bytes that came on demand, those that may stay where the disk is full.
    fn write_artifact(&self, hash: ArtifactHash, bytes: &[u8], leave: impl Fn(u64) -> u64) -> io::Result<()> {
        let path = artifact_path(&self.artifacts(), hash);
        let temporary = path.with_extension("tmp");
        let write = || fs::write(&temporary, bytes).and_then(|()| fs::rename(&temporary, &path));
        let mut written = write();
        if written.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::StorageFull) {
            let _ = fs::remove_file(&temporary);
            let pulled_bytes = self.pulled()?.iter().map(|pulled| pulled.bytes).sum();
            let freed = self.keep_pulled(leave(pulled_bytes), hash)?;
            tracing::warn!(
                freed,
                "the disk is full: modules that came on demand, or that nothing refers to, made room"
            );
            written = write();
        }
        if written.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        written?;
        self.state().artifacts.insert(hash);
        Ok(())
    }

    /// Removes modules that came on demand, with their code, those that were used longest ago first, until the rest are `bytes_max` or less;
    /// `last` stays. Gives how many went. What a shard was about to start it asks for again.
    pub(crate) fn keep_pulled(&self, bytes_max: u64, last: ArtifactHash) -> io::Result<usize> {
        let mut pulled = self.pulled()?;
        pulled.sort_unstable_by_key(|pulled| pulled.used);
        let mut left: u64 = pulled.iter().map(|pulled| pulled.bytes).sum();
        let mut gone = 0;
        let mut state = self.state();
        for old in pulled.iter().filter(|pulled| pulled.hash != last) {
            if left <= bytes_max {
                break;
            }
            state.artifacts.remove(&old.hash);
            // Its code first: a cut in between leaves a module without code.
            let _ = fs::remove_file(self.root.join("code").join(old.hash.to_string()));
            match fs::remove_file(artifact_path(&self.artifacts(), old.hash)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            left -= old.bytes;
            gone += 1;
        }
        state.pulled_bytes = Some(left);
        Ok(gone)
    }

    /// The modules on disk that nobody wants to be here ahead.
    fn pulled(&self) -> io::Result<Vec<Pulled>> {
        let ahead = {
            let state = self.state();
            let kept = state.kept.iter().flat_map(|(_, snapshot)| pushed_artifacts(snapshot)).map(|(hash, _)| hash);
            kept.chain(state.wanted.iter().copied()).collect::<HashSet<ArtifactHash>>()
        };
        let mut pulled = Vec::new();
        for path in list(&self.artifacts())? {
            let hash = path.file_name().and_then(|name| name.to_str()).and_then(ArtifactHash::from_hex);
            let Some(hash) = hash.filter(|hash| !ahead.contains(hash)) else { continue };
            // What is pruned meanwhile takes nothing.
            let Ok(file) = fs::metadata(&path) else { continue };
            let code = fs::metadata(self.root.join("code").join(hash.to_string())).map_or(0, |code| code.len());
            pulled.push(Pulled { hash, bytes: file.len() + code, used: file.modified()? });
        }
        Ok(pulled)
    }

    /// Makes a snapshot what serves after a restart, with the artifacts that came for it, and prunes.
    pub(crate) fn persist(
        &self,
        mut incoming: Incoming,
        snapshot: &Arc<Snapshot>,
        key: Option<&Key>,
        artifacts: &[ArtifactHash],
        lineages: Option<&BTreeMap<Lineage, u64>>,
    ) -> io::Result<()> {
        for hash in artifacts {
            File::open(artifact_path(&self.artifacts(), *hash))?.sync_all()?;
        }
        if !artifacts.is_empty() {
            File::open(self.artifacts())?.sync_all()?;
        }
        if let Some(lineages) = lineages {
            self.store_lineages(lineages)?;
        }
        if let Some(key) = key {
            self.store_key(key)?;
        }
        if let Some(base) = snapshot.base() {
            File::open(self.base_path(base.id()))?.sync_all()?;
            File::open(self.root.join("routes"))?.sync_all()?;
        }
        incoming.file.sync_all()?;
        let mut state = self.state();
        let sequence = state.next_sequence;
        let name = self.snapshots().join(format!("{sequence:020}"));
        fs::rename(incoming.path(), &name)?;
        incoming.path = None;
        File::open(self.snapshots())?.sync_all()?;
        state.next_sequence += 1;
        state.kept.push((sequence, Arc::clone(snapshot)));
        drop(state);
        if let Err(error) = self.prune() {
            tracing::warn!(%error, "cannot prune the data folder");
        }
        Ok(())
    }

    fn prune(&self) -> io::Result<()> {
        let mut state = self.state();
        let excess = state.kept.len().saturating_sub(SNAPSHOTS_KEPT);
        state.kept.drain(..excess);
        let kept: HashSet<u64> = state.kept.iter().map(|(sequence, _)| *sequence).collect();
        for path in list(&self.snapshots())? {
            let sequence = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
            if sequence.is_some_and(|sequence| !kept.contains(&sequence)) {
                fs::remove_file(path)?;
            }
        }
        let of_kept = state.kept.iter().filter_map(|(_, snapshot)| snapshot.base()).map(|base| base.id());
        let bases: HashSet<BaseId> = of_kept.chain(state.wanted_bases.iter().copied()).collect();
        state.bases.retain(|base| bases.contains(&base.id()));
        for path in list(&self.root.join("routes"))? {
            let id = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
            let comes_in = path.extension().is_some_and(|extension| extension == "tmp");
            if !comes_in && id.is_none_or(|id| !bases.contains(&id)) {
                fs::remove_file(path)?;
            }
        }
        let mut used = state.wanted.clone();
        for (_, snapshot) in &state.kept {
            used.extend(snapshot.deployments().map(|(_, deployment)| deployment.artifact()));
            used.extend(snapshot.candidates().map(|(_, candidate, _)| candidate.artifact()));
        }
        let now = SystemTime::now();
        // Compiled code goes with its module. In this order, so that a cut in between leaves a module without code.
        for (folder, modules) in [(self.root.join("code"), false), (self.artifacts(), true)] {
            for path in list(&folder)? {
                let hash = path.file_name().and_then(|name| name.to_str()).and_then(ArtifactHash::from_hex);
                let Some(hash) = hash.filter(|hash| !used.contains(hash)) else { continue };
                let age = now.duration_since(fs::metadata(&path)?.modified()?).unwrap_or_default();
                if age > ARTIFACT_GRACE {
                    if modules {
                        state.artifacts.remove(&hash);
                    }
                    fs::remove_file(path)?;
                }
            }
        }
        let keys: HashSet<u64> = state.kept.iter().map(|(_, snapshot)| snapshot.env_key_id()).collect();
        for path in list(&self.root.join("keys"))? {
            let id =
                path.file_stem().and_then(|name| name.to_str()).and_then(|name| u64::from_str_radix(name, 16).ok());
            if id.is_some_and(|id| !keys.contains(&id)) {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    fn key_path(&self, id: u64) -> PathBuf {
        self.root.join("keys").join(format!("{id:016x}.key"))
    }

    /// A key of environments, if it is here.
    pub(crate) fn load_key(&self, id: u64) -> Option<Key> {
        match Key::load(&self.key_path(id)) {
            Ok(key) => Some(key).filter(|key| key.id() == id),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::error!(%error, "cannot read a key of environments");
                None
            }
        }
    }

    /// Keeps a key of environments, mode 0600.
    fn store_key(&self, key: &Key) -> io::Result<()> {
        match key.store(&self.key_path(key.id())) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            stored => stored,
        }
    }

    /// Lineages served before, with their highest generation. A file that cannot be read is said and counts as none.
    pub(crate) fn load_lineages(&self) -> BTreeMap<Lineage, u64> {
        let parse = |line: &str| {
            let (lineage, generation) = line.split_once(' ')?;
            Some((Lineage(u128::from_str_radix(lineage, 16).ok()?), generation.parse().ok()?))
        };
        match fs::read_to_string(self.root.join("lineages")) {
            Ok(text) => text.lines().take(crate::accept::LINEAGES_MAX).filter_map(parse).collect(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => {
                tracing::error!(%error, "cannot read which lineages were served before");
                BTreeMap::new()
            }
        }
    }

    /// The fleet as it was last told; none if it was not.
    pub(crate) fn load_fleet(&self) -> Vec<String> {
        match fs::read_to_string(self.root.join("fleet")) {
            Ok(text) => text.lines().filter(|name| wire::is_node_name(name)).map(str::to_owned).collect(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => {
                tracing::error!(%error, "cannot read which nodes there were");
                Vec::new()
            }
        }
    }

    pub(crate) fn store_fleet(&self, members: &[String]) -> io::Result<()> {
        let temporary = self.root.join("fleet.tmp");
        let mut file = File::create(&temporary)?;
        for name in members {
            writeln!(file, "{name}")?;
        }
        fs::rename(&temporary, self.root.join("fleet"))
    }

    fn store_lineages(&self, lineages: &BTreeMap<Lineage, u64>) -> io::Result<()> {
        let temporary = self.root.join("lineages.tmp");
        let mut file = File::create(&temporary)?;
        for (lineage, generation) in lineages {
            writeln!(file, "{lineage} {generation}")?;
        }
        file.sync_all()?;
        fs::rename(&temporary, self.root.join("lineages"))?;
        File::open(&self.root)?.sync_all()
    }
}

/// Artifacts of deployments that serve, those of their candidates too, with their sizes.
pub(crate) fn active_artifacts(snapshot: &Snapshot) -> impl Iterator<Item = (ArtifactHash, u64)> {
    active(snapshot).map(|deployment| (deployment.artifact(), deployment.artifact_bytes()))
}

/// Those of them that are to be here before the snapshot serves.
pub(crate) fn pushed_artifacts(snapshot: &Snapshot) -> impl Iterator<Item = (ArtifactHash, u64)> {
    active(snapshot)
        .filter(|deployment| deployment.distribution() == Distribution::Push)
        .map(|deployment| (deployment.artifact(), deployment.artifact_bytes()))
}

fn active(snapshot: &Snapshot) -> impl Iterator<Item = Deployment<'_>> {
    let candidates = snapshot.candidates().map(|(_, candidate, _)| candidate);
    let all = snapshot.deployments().map(|(_, deployment)| deployment).chain(candidates);
    all.filter(|deployment| deployment.status() == Status::Active)
}

fn list(folder: &Path) -> io::Result<Vec<PathBuf>> {
    fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::id::{AccountId, DeploymentId};
    use plane_abi::{NewDeployment, SnapshotWriter};

    fn module(number: u8) -> Vec<u8> {
        vec![number; 100]
    }

    /// One active deployment with the module of that number, written to a file that has come in.
    fn received(disk: &Disk, generation: u64, number: u8, key: &Key) -> (Incoming, Arc<Snapshot>) {
        distributed(disk, generation, &[(number, Distribution::Push)], key)
    }

    /// Deployments of those numbers, each with its module and its way to come.
    fn distributed(
        disk: &Disk,
        generation: u64,
        deployments: &[(u8, Distribution)],
        key: &Key,
    ) -> (Incoming, Arc<Snapshot>) {
        let mut writer = SnapshotWriter::new(Lineage(1), generation, 0, key.id(), "workers.localhost");
        for (number, distribution) in deployments {
            let id = DeploymentId(u128::from(*number));
            writer.deployment(NewDeployment {
                artifact_bytes: 100,
                distribution: *distribution,
                ..NewDeployment::new(id, AccountId(1), artifact_hash(&module(*number)))
            });
        }
        let mut incoming = disk.incoming().expect("a file");
        incoming.write(&writer.finish().expect("valid")).expect("written");
        let snapshot = Snapshot::open(incoming.path(), &|id| disk.base(id)).expect("opens");
        (incoming, Arc::new(snapshot))
    }

    fn present(disk: &Disk, number: u8) -> bool {
        artifact_path(&disk.artifacts(), artifact_hash(&module(number))).exists()
    }

    fn age(path: &Path) {
        let long_ago = SystemTime::now() - ARTIFACT_GRACE * 2;
        File::options().write(true).open(path).and_then(|file| file.set_modified(long_ago)).expect("aged");
    }

    #[test]
    fn prune_leaves_what_is_kept_wanted_or_young_and_nothing_else() {
        let folder = tempfile::tempdir().expect("folder");
        let disk = Disk::open(folder.path()).expect("opens");
        let key = |number: u8| Key::from_bytes([number; 32]);
        let store = |number: u8| {
            let hash = artifact_hash(&module(number));
            disk.store_artifact(hash, &module(number)).expect("stored");
            artifact_path(&disk.artifacts(), hash)
        };
        let code = |number: u8| {
            let path = folder.path().join("code").join(artifact_hash(&module(number)).to_string());
            fs::write(&path, b"code").expect("written");
            age(&path);
            path
        };
        let mut codes = vec![code(5)];
        age(&store(5));
        store(6);
        // Generations 1 to 4 use modules 1 to 4, each under a key of its own; module 5 is wanted by one on its way, module
        // 6 by nobody, but is young.
        for number in 1..=4u8 {
            age(&store(number));
            codes.push(code(number));
            let (_on_its_way, coming) = received(&disk, 9, 5, &key(9));
            assert!(disk.missing_artifacts(&coming).is_empty());
            let (incoming, snapshot) = received(&disk, number.into(), number, &key(number));
            disk.persist(incoming, &snapshot, Some(&key(number)), &[], None).expect("durable");
        }
        let there: Vec<u8> = (1..=6).filter(|number| present(&disk, *number)).collect();
        assert_eq!(there, [2, 3, 4, 5, 6]);
        assert_eq!(codes.iter().map(|path| path.exists()).collect::<Vec<_>>(), [true, false, true, true, true]);
        let keys: Vec<bool> = (1..=4).map(|number| disk.load_key(key(number).id()).is_some()).collect();
        assert_eq!(keys, [false, true, true, true]);
        assert_eq!(list(&disk.snapshots()).expect("listed").len(), SNAPSHOTS_KEPT);
        drop(disk);
        let again = Disk::open(folder.path()).expect("opens");
        assert_eq!(again.load_snapshots().map(|snapshot| snapshot.generation()), Some(4));
    }

    #[test]
    fn missing_are_those_that_are_absent_or_of_the_wrong_length() {
        let folder = tempfile::tempdir().expect("folder");
        let disk = Disk::open(folder.path()).expect("opens");
        let (_file, snapshot) = received(&disk, 1, 1, &Key::from_bytes([1; 32]));
        let hash = artifact_hash(&module(1));
        assert_eq!(disk.missing_artifacts(&snapshot), HashSet::from([hash]));
        fs::write(artifact_path(&disk.artifacts(), hash), b"cut off").expect("written");
        assert_eq!(disk.missing_artifacts(&snapshot), HashSet::from([hash]));
        disk.store_artifact(hash, &module(1)).expect("stored");
        assert!(disk.missing_artifacts(&snapshot).is_empty());
        assert_eq!(disk.scrub(&snapshot), 0);
        fs::write(artifact_path(&disk.artifacts(), hash), vec![9; 100]).expect("written");
        assert_eq!(disk.scrub(&snapshot), 1);
        assert_eq!(disk.missing_artifacts(&snapshot), HashSet::from([hash]));
    }

    #[test]
    fn what_came_on_demand_stays_within_its_bytes_and_what_was_used_longest_ago_goes_first() {
        let folder = tempfile::tempdir().expect("folder");
        let disk = Disk::open(folder.path()).expect("opens");
        let key = Key::from_bytes([1; 32]);
        let ways: Vec<_> =
            (1..=6).map(|number| (number, if number < 3 { Distribution::Push } else { Distribution::Pull })).collect();
        let (incoming, snapshot) = distributed(&disk, 1, &ways, &key);
        let hash = |number: u8| artifact_hash(&module(number));
        assert_eq!(
            disk.missing_artifacts(&snapshot),
            HashSet::from([hash(1), hash(2)]),
            "the others are not to be here"
        );
        for number in 1..3 {
            disk.store_artifact(hash(number), &module(number)).expect("stored");
            age(&artifact_path(&disk.artifacts(), hash(number)));
        }
        disk.persist(incoming, &snapshot, Some(&key), &[], None).expect("durable");
        let minutes = |ago: u64| SystemTime::now() - Duration::from_secs(ago * 60);
        for (number, used) in [(3, 2), (4, 9), (5, 5), (6, 0)] {
            disk.store_pulled(hash(number), &module(number), u64::MAX).expect("stored");
            let path = artifact_path(&disk.artifacts(), hash(number));
            File::options().write(true).open(path).and_then(|file| file.set_modified(minutes(used))).expect("aged");
        }
        let code = folder.path().join("code").join(hash(4).to_string());
        fs::write(&code, vec![0; 50]).expect("written");
        let there = || (1..=6).filter(|number| present(&disk, *number)).collect::<Vec<u8>>();
        assert_eq!(disk.keep_pulled(450, hash(6)).expect("room"), 0);
        assert_eq!(disk.keep_pulled(449, hash(6)).expect("room"), 1);
        assert_eq!((there(), code.exists()), (vec![1, 2, 3, 5, 6], false));
        assert!(disk.store_pulled(hash(4), &module(4), 399).expect("stored"), "one byte over");
        assert_eq!(disk.keep_pulled(0, hash(4)).expect("room"), 3);
        assert_eq!(there(), [1, 2, 4], "what was pushed stays however old it is, and what came last");
        assert!(disk.missing_artifacts(&snapshot).is_empty());
    }

    #[test]
    fn a_snapshot_that_is_given_up_leaves_no_file_and_stays_readable() {
        let folder = tempfile::tempdir().expect("folder");
        let disk = Disk::open(folder.path()).expect("opens");
        let (incoming, snapshot) = received(&disk, 1, 1, &Key::from_bytes([1; 32]));
        drop(incoming);
        assert_eq!(list(&disk.snapshots()).expect("listed"), Vec::<PathBuf>::new());
        assert_eq!(snapshot.deployments_len(), 1);
    }

    #[test]
    fn the_fleet_survives_and_what_is_no_name_does_not_count() {
        let folder = tempfile::tempdir().expect("folder");
        let disk = Disk::open(folder.path()).expect("opens");
        assert!(disk.load_fleet().is_empty());
        let names = vec!["a".to_owned(), "b-2".to_owned()];
        disk.store_fleet(&names).expect("stored");
        assert_eq!(disk.load_fleet(), names);
        fs::write(folder.path().join("fleet"), b"a\nNo name\n").expect("written");
        assert_eq!(disk.load_fleet(), ["a"]);
    }

    #[test]
    fn lineages_survive_and_a_damaged_file_counts_as_none() {
        let folder = tempfile::tempdir().expect("folder");
        let disk = Disk::open(folder.path()).expect("opens");
        let lineages = BTreeMap::from([(Lineage(1), 50), (Lineage(u128::MAX), u64::MAX)]);
        disk.store_lineages(&lineages).expect("stored");
        assert_eq!(disk.load_lineages(), lineages);
        fs::write(folder.path().join("lineages"), b"\xff nonsense\n").expect("written");
        assert_eq!(disk.load_lineages(), BTreeMap::new());
    }
}
