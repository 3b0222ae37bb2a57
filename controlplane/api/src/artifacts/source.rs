//! What nodes get of the artifact store: modules by their hash, and the code caches that the database knows.
//!
//! After an activation a thousand nodes ask for the same two objects within a second. They share one reading of each, and
//! what was read is kept for a minute, in memory: a store far away is asked for an object once a minute, whatever the
//! number of nodes. What is not there, or could not be read, is not kept.
//!
//! *Invariants:* only what was checked against its name is kept. Compiled code is given only if the database knows it now;
//! what is kept and not known is read again. *Bounds:* [`CACHE_BYTES_MAX`], [`CACHE_FOR`], one reading of a name at a time.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base::id::ArtifactHash;
use base::limits::MODULE_BYTES_MAX;
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared, WeakShared};
use plane_abi::code::{ENVELOPE_BYTES_MAX, Envelope, code_name};
use push::{ArtifactFuture, ArtifactSource};
use store::Store;

use super::{ArtifactError, Artifacts, hash_of};

/// Bytes that are kept: two modules at the limit with their code, or a thousand of the usual size.
const CACHE_BYTES_MAX: usize = 64 << 20;
/// An object counts as no less, so that no more than 4096 are kept.
const ENTRY_BYTES_MIN: usize = 16 << 10;
/// How long an object is kept. Another process's newer code cache under the same name is given after that.
const CACHE_FOR: Duration = Duration::from_secs(60);
const _: () = assert!(CACHE_BYTES_MAX >= 2 * (MODULE_BYTES_MAX + ENVELOPE_BYTES_MAX));
const _: () = assert!(CACHE_BYTES_MAX / ENTRY_BYTES_MIN == 4096);

type Outcome = Result<Option<Found>, Arc<ArtifactError>>;
type Reading = BoxFuture<'static, Outcome>;

/// What nodes may have of an artifact store. Cheap to clone; clones share what they read.
#[derive(Clone)]
pub struct Source {
    artifacts: Artifacts,
    store: Store,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    kept: Cache,
    /// What is being read; gone when nobody waits for it.
    readings: HashMap<ArtifactHash, WeakShared<Reading>>,
}

/// An object that is what its name says.
#[derive(Clone)]
struct Found {
    bytes: Bytes,
    /// If it is a code cache: the module that it is of, and its own hash.
    code: Option<(ArtifactHash, ArtifactHash)>,
}

impl Source {
    /// What nodes may have of these artifacts.
    pub fn new(artifacts: Artifacts, store: Store) -> Source {
        Source { artifacts, store, state: Arc::default() }
    }

    async fn get(&self, name: ArtifactHash) -> Result<Option<Bytes>, Arc<ArtifactError>> {
        let kept = lock(&self.state).kept.get(name, Instant::now());
        if let Some(found) = kept
            && let Some(bytes) = self.allowed(found).await
        {
            return Ok(Some(bytes));
        }
        match self.reading(name).await? {
            Some(found) => Ok(self.allowed(found).await),
            None => Ok(None),
        }
    }

    async fn allowed(&self, found: Found) -> Option<Bytes> {
        let Some((artifact, hash)) = found.code else { return Some(found.bytes) };
        let known = self.store.has_code(&artifact.to_string(), &hash.to_string()).await;
        known.unwrap_or(false).then_some(found.bytes)
    }

    /// The reading that goes on, or a new one. It goes on while anybody waits for it.
    fn reading(&self, name: ArtifactHash) -> Shared<Reading> {
        let mut state = lock(&self.state);
        if let Some(reading) = state.readings.get(&name).and_then(WeakShared::upgrade) {
            return reading;
        }
        let (artifacts, end) = (self.artifacts.clone(), End { state: Arc::clone(&self.state), name });
        let reading = async move {
            let outcome: Outcome = read(&artifacts, name).await.map_err(Arc::new);
            if let Ok(Some(found)) = &outcome {
                lock(&end.state).kept.insert(name, found.clone(), Instant::now());
            }
            drop(end);
            outcome
        };
        let reading: Shared<Reading> = reading.boxed().shared();
        if let Some(weak) = reading.downgrade() {
            state.readings.insert(name, weak);
        }
        reading
    }
}

impl ArtifactSource for Source {
    fn fetch(&self, hash: ArtifactHash) -> ArtifactFuture<'_> {
        Box::pin(async move { self.get(hash).await.map_err(std::io::Error::other) })
    }
}

/// Takes a reading from the list when it is over, or nobody waits for it any more.
struct End {
    state: Arc<Mutex<State>>,
    name: ArtifactHash,
}

impl Drop for End {
    fn drop(&mut self) {
        lock(&self.state).readings.remove(&self.name);
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn read(artifacts: &Artifacts, name: ArtifactHash) -> Result<Option<Found>, ArtifactError> {
    let Some(bytes) = artifacts.read(name).await? else { return Ok(None) };
    let hash = hash_of(&bytes);
    if hash == name {
        return Ok(Some(Found { bytes, code: None }));
    }
    let artifact = Envelope::read(&bytes).ok().map(|envelope| envelope.artifact);
    let artifact = artifact.filter(|artifact| code_name(*artifact) == name).ok_or(ArtifactError::Damaged(name))?;
    Ok(Some(Found { bytes, code: Some((artifact, hash)) }))
}

/// What was read lately, the oldest first; it goes for newer when there is no room.
#[derive(Default)]
struct Cache {
    entries: HashMap<ArtifactHash, (Instant, Found)>,
    order: VecDeque<ArtifactHash>,
    bytes: usize,
}

impl Cache {
    fn get(&self, name: ArtifactHash, now: Instant) -> Option<Found> {
        let (read, found) = self.entries.get(&name)?;
        (now < *read + CACHE_FOR).then(|| found.clone())
    }

    fn insert(&mut self, name: ArtifactHash, found: Found, now: Instant) {
        self.remove(name);
        let bytes = counted(&found);
        while let Some(&oldest) = self.order.front()
            && (self.bytes + bytes > CACHE_BYTES_MAX || self.get(oldest, now).is_none())
        {
            self.remove(oldest);
        }
        self.bytes += bytes;
        self.order.push_back(name);
        self.entries.insert(name, (now, found));
    }

    fn remove(&mut self, name: ArtifactHash) {
        if let Some((_, found)) = self.entries.remove(&name) {
            self.bytes -= counted(&found);
            self.order.retain(|other| *other != name);
        }
    }
}

fn counted(found: &Found) -> usize {
    found.bytes.len().max(ENTRY_BYTES_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(n: u32) -> ArtifactHash {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&n.to_le_bytes());
        ArtifactHash(bytes)
    }

    fn found(bytes: usize) -> Found {
        Found { bytes: Bytes::from(vec![0; bytes]), code: None }
    }

    #[test]
    fn the_cache_has_a_bound_of_bytes_of_objects_and_of_time() {
        let start = Instant::now();
        let mut cache = Cache::default();
        for n in 0..5000 {
            cache.insert(name(n), found(1), start);
            assert!(cache.bytes <= CACHE_BYTES_MAX && cache.order.len() == cache.entries.len());
        }
        assert_eq!(cache.entries.len(), 4096);
        assert!(cache.get(name(903), start).is_none() && cache.get(name(904), start).is_some(), "the oldest went");
        cache.insert(name(4999), found(2), start);
        assert_eq!((cache.entries.len(), cache.order.len()), (4096, 4096), "the same name twice is one");
        for n in 0..4 {
            cache.insert(name(n), found(ENVELOPE_BYTES_MAX), start);
            assert!(cache.bytes <= CACHE_BYTES_MAX);
        }
        assert_eq!(cache.entries.len(), 3, "the fourth took the first's place");
        let late = start + CACHE_FOR;
        assert!(cache.get(name(3), late).is_none());
        cache.insert(name(9), found(1), late);
        assert_eq!((cache.entries.len(), cache.bytes), (1, ENTRY_BYTES_MIN), "what is too old went");
    }
}
