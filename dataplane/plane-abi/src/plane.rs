//! `Plane`: a node's current configuration. The agent publishes, shards read; neither ever waits for the other.
//!
//! A reader that holds an older [`Published`] keeps it whole (snapshot, keys) for as long as it likes; the memory goes
//! when the last one lets go. Artifacts are files named by their SHA-256 and are checked against it on every read, so
//! that a file damaged on disk is an error and never somebody's code.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering::Relaxed},
    },
};

use arc_swap::{ArcSwap, ArcSwapOption};
use base::id::{ArtifactHash, DeploymentId};
use bytes::Bytes;
use ring::digest;

use crate::buffer;
use crate::code::CodeStore;
use crate::pull::{Pull, Pulls};
use crate::seal::{self, Key, SealError};
use crate::snapshot::{Deployment, Snapshot};
use crate::wire::Standing;

/// What serves now: nothing, or one [`Published`]; and which nodes there are. Clones are the same plane.
#[derive(Clone, Default)]
pub struct Plane {
    published: Arc<ArcSwapOption<Published>>,
    fleet: Arc<ArcSwap<Fleet>>,
    standing: Arc<AtomicU8>,
}

impl Plane {
    /// A plane with nothing published.
    pub fn new() -> Plane {
        Plane::default()
    }

    /// Replaces what serves. Every reader sees it at its next look.
    pub fn publish(&self, published: Published) {
        self.published.store(Some(Arc::new(published)));
    }

    /// What serves now.
    pub fn current(&self) -> Option<Arc<Published>> {
        self.published.load_full()
    }

    /// A reader for one thread: a look costs one load when nothing has changed.
    pub fn reader(&self) -> PlaneReader {
        PlaneReader(arc_swap::Cache::new(Arc::clone(&self.published)))
    }

    /// Says what to do with requests.
    pub fn set_standing(&self, standing: Standing) {
        self.standing.store(standing as u8, Relaxed);
    }

    /// What to do with requests.
    pub fn standing(&self) -> Standing {
        let known = [Standing::Serving, Standing::Cordoned, Standing::Draining];
        known.into_iter().find(|standing| *standing as u8 == self.standing.load(Relaxed)).unwrap_or_default()
    }

    /// Whether connections are to end with their next response.
    #[inline]
    pub fn ends_connections(&self) -> bool {
        self.standing.load(Relaxed) == Standing::Draining as u8
    }

    /// Says which nodes there are.
    pub fn set_fleet(&self, fleet: Fleet) {
        self.fleet.store(Arc::new(fleet));
    }

    /// Which nodes there are.
    pub fn fleet(&self) -> Arc<Fleet> {
        self.fleet.load_full()
    }
}

/// Which nodes share what is to be done once, as the control plane last said; and which of them this is. Unless it was told of
/// others, a node is alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fleet {
    own: Option<String>,
    members: Vec<String>,
}

impl Fleet {
    /// The node `own` among `members`; where it is not one of them, nothing is its to do.
    pub fn new(own: String, members: Vec<String>) -> Fleet {
        Fleet { own: Some(own), members }
    }

    /// Names of all nodes, as the control plane gave them.
    pub fn members(&self) -> &[String] {
        &self.members
    }

    /// Whether this node is the one that does what is called `key`: the member of the highest random weight (rendezvous hashing), so
    /// that a node that comes or goes moves only what is its own.
    pub fn owns(&self, key: u64) -> bool {
        let weight = |name: &str| (xxhash_rust::xxh3::xxh3_64_with_seed(name.as_bytes(), key), name.len());
        let Some(own) = &self.own else { return true };
        self.members.iter().max_by_key(|name| (weight(name), *name)).is_some_and(|owner| owner == own)
    }
}

/// One thread's view of a [`Plane`].
pub struct PlaneReader(arc_swap::Cache<Arc<ArcSwapOption<Published>>, Option<Arc<Published>>>);

impl PlaneReader {
    /// What serves now. It holds on to what it gave last until the next call: a reader that may be idle for long and
    /// should let an old configuration go calls it now and then.
    pub fn current(&mut self) -> Option<&Arc<Published>> {
        self.0.load().as_ref()
    }
}

/// A snapshot and what goes with it on this node.
#[derive(Debug)]
pub struct Published {
    snapshot: Arc<Snapshot>,
    artifacts: PathBuf,
    env_key: Option<Key>,
    code: Option<Arc<CodeStore>>,
    pulls: Option<Arc<Pulls>>,
}

impl Published {
    /// `artifacts` is the node's artifact folder, `env_key` the key that the snapshot names, where the node has it.
    pub fn new(snapshot: Arc<Snapshot>, artifacts: PathBuf, env_key: Option<Key>) -> Published {
        Published { snapshot, artifacts, env_key, code: None, pulls: None }
    }

    /// With the node's code caches.
    pub fn with_code(self, code: Option<Arc<CodeStore>>) -> Published {
        Published { code, ..self }
    }

    /// With somebody who fetches what is not here.
    pub fn with_pulls(self, pulls: Option<Arc<Pulls>>) -> Published {
        Published { pulls, ..self }
    }

    /// The snapshot.
    pub fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    /// An artifact's bytes, read from disk (blocking: page cache as a rule) and checked against the hash.
    /// `NotFound` if the node has none; `InvalidData` if the file is not what its name says.
    pub fn artifact(&self, hash: ArtifactHash) -> io::Result<Bytes> {
        let bytes = buffer::read(&artifact_path(&self.artifacts, hash))?;
        if artifact_hash(&bytes) != hash {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("artifact {hash} on disk is damaged")));
        }
        Ok(bytes)
    }

    /// Asks for an artifact that is not here whole. `None`: nobody fetches any, or too many are asked for.
    pub fn pull(&self, hash: ArtifactHash) -> Option<Pull> {
        self.pulls.as_ref()?.want(hash)
    }

    /// Where an artifact lies, if it is here.
    pub fn artifact_path(&self, hash: ArtifactHash) -> PathBuf {
        artifact_path(&self.artifacts, hash)
    }

    /// V8's compiled code of an artifact, every byte of it checked; none: the Worker compiles from source.
    pub fn code(&self, hash: ArtifactHash) -> Option<Bytes> {
        self.code.as_ref()?.take(hash)
    }

    /// To be called where V8 refuses the code of an artifact.
    pub fn code_rejected(&self, hash: ArtifactHash) -> impl FnOnce() + 'static {
        let code = self.code.clone();
        move || {
            if let Some(code) = code {
                code.rejected(hash);
            }
        }
    }

    /// A deployment's environment variables, by name.
    pub fn env(&self, deployment: &Deployment<'_>) -> Result<Vec<(String, String)>, SealError> {
        let sealed = deployment.sealed_env();
        if sealed.is_empty() {
            return Ok(Vec::new());
        }
        let key_id = self.snapshot.env_key_id();
        let key = self.env_key.as_ref().filter(|key| key.id() == key_id).ok_or(SealError::NoKey(key_id))?;
        open_env(key, deployment.id(), sealed)
    }
}

/// Where an artifact lies in an artifact folder.
pub fn artifact_path(folder: &Path, hash: ArtifactHash) -> PathBuf {
    folder.join(hash.to_string())
}

/// The hash an artifact of these bytes has.
pub fn artifact_hash(bytes: &[u8]) -> ArtifactHash {
    let digest = digest::digest(&digest::SHA256, bytes);
    ArtifactHash(digest.as_ref().first_chunk().copied().expect("a SHA-256 digest has 32 bytes"))
}

fn env_aad(deployment: DeploymentId) -> Vec<u8> {
    let mut aad = b"selvage env v1 ".to_vec();
    aad.extend_from_slice(&deployment.0.to_be_bytes());
    aad
}

/// Seals a deployment's variables for a snapshot; nothing for none. Sorts by name, so that the same variables give the
/// same bytes.
pub fn seal_env(key: &Key, deployment: DeploymentId, variables: &[(String, String)]) -> Vec<u8> {
    if variables.is_empty() {
        return Vec::new();
    }
    let mut sorted: Vec<&(String, String)> = variables.iter().collect();
    sorted.sort_unstable();
    let plaintext = postcard::to_allocvec(&sorted).expect("strings serialise into memory");
    let sealed = seal::seal_deterministic(key, &env_aad(deployment), &plaintext);
    drop(zeroize::Zeroizing::new(plaintext));
    sealed
}

/// Opens what [`seal_env`] made.
pub fn open_env(key: &Key, deployment: DeploymentId, sealed: &[u8]) -> Result<Vec<(String, String)>, SealError> {
    let plaintext = zeroize::Zeroizing::new(seal::open(key, &env_aad(deployment), sealed)?);
    postcard::from_bytes(&plaintext).map_err(|_| SealError::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thing_has_one_owner_and_moves_only_with_it() {
        let names = |count: usize| (0..count).map(|n| format!("node-{n}")).collect::<Vec<_>>();
        let owners = |members: &[String], key| {
            let owner = |own: &&String| Fleet::new((*own).clone(), members.to_vec()).owns(key);
            members.iter().filter(owner).cloned().collect::<Vec<_>>()
        };
        let (five, four) = (names(5), names(4));
        let mut moved = 0;
        for key in 0..1_000 {
            let (before, after) = (owners(&five, key), owners(&four, key));
            assert_eq!((before.len(), after.len()), (1, 1));
            assert!(before == after || before[0] == "node-4");
            moved += usize::from(before != after);
        }
        assert!((150..250).contains(&moved), "{moved}");
        assert!(Fleet::default().owns(7), "alone");
        assert!(!Fleet::new("a".into(), vec![]).owns(7), "not told yet");
        assert!(!Fleet::new("gone".into(), five).owns(7));
    }

    #[test]
    fn env_opens_only_for_its_own_deployment_and_does_not_depend_on_order() {
        let key = Key::from_bytes([1; 32]);
        let variables = [("B".to_owned(), "2".to_owned()), ("A".to_owned(), "1".to_owned())];
        let sealed = seal_env(&key, DeploymentId(5), &variables);
        let reversed: Vec<_> = variables.iter().rev().cloned().collect();
        assert_eq!(sealed, seal_env(&key, DeploymentId(5), &reversed));
        assert_eq!(open_env(&key, DeploymentId(5), &sealed), Ok(reversed));
        assert_eq!(open_env(&key, DeploymentId(6), &sealed), Err(SealError::Authentication));
        assert!(seal_env(&key, DeploymentId(5), &[]).is_empty());
    }
}
