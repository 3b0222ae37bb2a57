//! Artifacts: modules by their SHA-256, in an `object_store`. Here a local folder, with every write on the disk before it
//! is acknowledged; another store (S3) is another constructor.
//!
//! A module's code cache lies beside it under a name made of the module's hash (`plane_abi::code::code_name`), in its
//! envelope; its own SHA-256 is in the database, with the version whose validation made it.
//!
//! *Invariant:* an artifact is stored before a version names it, so no version is without its bytes. What a kill leaves
//! behind unnamed is swept at the next start, before the first upload.

use std::collections::HashSet;
use std::path::Path as FilePath;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base::id::ArtifactHash;
use futures_util::TryStreamExt;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use plane_abi::code::{Envelope, code_name};
use push::{ArtifactFuture, ArtifactSource};
use sha2::{Digest, Sha256};
use store::Store;

/// The artifact store. Cheap to clone.
#[derive(Clone)]
pub struct Artifacts {
    store: Arc<dyn ObjectStore>,
}

/// The artifact store's own words, for the log.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// There is no such artifact.
    #[error("artifact {0} is missing")]
    Missing(ArtifactHash),
    /// Its bytes are not what its name says.
    #[error("artifact {0} is damaged")]
    Damaged(ArtifactHash),
    /// The store failed.
    #[error("artifact store: {0}")]
    Store(object_store::Error),
    /// The folder could not be made.
    #[error("artifact folder: {0}")]
    Folder(std::io::Error),
}

impl Artifacts {
    /// Artifacts in a local folder, which is made if missing.
    pub fn local(folder: &FilePath) -> Result<Artifacts, ArtifactError> {
        std::fs::create_dir_all(folder).map_err(ArtifactError::Folder)?;
        let store = LocalFileSystem::new_with_prefix(folder).map_err(ArtifactError::Store)?.with_fsync(true);
        Ok(Artifacts { store: Arc::new(store) })
    }

    /// Stores a module; gives its hash. The same bytes again change nothing.
    pub(crate) async fn put(&self, module: bytes::Bytes) -> Result<ArtifactHash, ArtifactError> {
        let hash = ArtifactHash(Sha256::digest(&module).into());
        self.store.put(&path(hash), PutPayload::from_bytes(module)).await.map_err(ArtifactError::Store)?;
        Ok(hash)
    }

    /// A module's bytes, checked against the hash.
    pub async fn get(&self, hash: ArtifactHash) -> Result<bytes::Bytes, ArtifactError> {
        let found = async { self.store.get(&path(hash)).await?.bytes().await };
        let bytes = found.await.map_err(|error| match error {
            object_store::Error::NotFound { .. } => ArtifactError::Missing(hash),
            error => ArtifactError::Store(error),
        })?;
        if Sha256::digest(&bytes)[..] != hash.0 {
            return Err(ArtifactError::Damaged(hash));
        }
        Ok(bytes)
    }

    /// Stores a module's code cache; gives its SHA-256. One of the same V8 that is there already stays.
    pub(crate) async fn put_code(
        &self,
        artifact: ArtifactHash,
        envelope: bytes::Bytes,
    ) -> Result<ArtifactHash, ArtifactError> {
        let name = code_name(artifact);
        let new = Envelope::read(&envelope).ok().filter(|new| new.artifact == artifact);
        let new = new.ok_or(ArtifactError::Damaged(name))?;
        if let Some(there) = self.read(name).await?
            && Envelope::read(&there).is_ok_and(|old| old.artifact == artifact && old.same_engine(&new))
        {
            return Ok(hash_of(&there));
        }
        let hash = hash_of(&envelope);
        let payload = PutPayload::from_bytes(envelope);
        self.store.put(&path(name), payload).await.map_err(ArtifactError::Store)?;
        Ok(hash)
    }

    /// What is stored under a name, unchecked; `None` for nothing.
    async fn read(&self, name: ArtifactHash) -> Result<Option<bytes::Bytes>, ArtifactError> {
        let found = async { self.store.get(&path(name)).await?.bytes().await };
        match found.await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(ArtifactError::Store(error)),
        }
    }

    /// Deletes what is not in `named` and was stored at least `grace` ago; gives how many. What is stored meanwhile must be
    /// named within that time.
    pub(crate) async fn sweep(&self, named: &HashSet<String>, grace: Duration) -> Result<usize, ArtifactError> {
        let listed: Vec<_> = self.store.list(None).try_collect().await.map_err(ArtifactError::Store)?;
        let mut swept = 0;
        for object in listed {
            let stored = SystemTime::from(object.last_modified);
            let old = grace.is_zero() || stored.elapsed().is_ok_and(|age| age >= grace);
            if old && !named.contains(object.location.as_ref()) {
                self.store.delete(&object.location).await.map_err(ArtifactError::Store)?;
                swept += 1;
            }
        }
        Ok(swept)
    }
}

/// What nodes may have of an artifact store: modules by their hash, and the code caches that the database knows.
#[derive(Clone)]
pub struct Source {
    artifacts: Artifacts,
    store: Store,
}

impl Source {
    /// What nodes may have of these artifacts.
    pub fn new(artifacts: Artifacts, store: Store) -> Source {
        Source { artifacts, store }
    }

    async fn get(&self, name: ArtifactHash) -> Result<Option<bytes::Bytes>, ArtifactError> {
        let Some(bytes) = self.artifacts.read(name).await? else { return Ok(None) };
        let hash = hash_of(&bytes);
        if hash == name {
            return Ok(Some(bytes));
        }
        let envelope = Envelope::read(&bytes).ok().filter(|envelope| code_name(envelope.artifact) == name);
        let Some(envelope) = envelope else { return Err(ArtifactError::Damaged(name)) };
        let known = self.store.has_code(&envelope.artifact.to_string(), &hash.to_string()).await;
        Ok(Some(bytes).filter(|_| known.unwrap_or(false)))
    }
}

impl ArtifactSource for Source {
    fn fetch(&self, hash: ArtifactHash) -> ArtifactFuture<'_> {
        Box::pin(async move { self.get(hash).await.map_err(std::io::Error::other) })
    }
}

fn hash_of(bytes: &[u8]) -> ArtifactHash {
    ArtifactHash(Sha256::digest(bytes).into())
}

fn path(hash: ArtifactHash) -> Path {
    Path::from(hash.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn keeps_checks_and_sweeps() {
        let dir = tempfile::tempdir().unwrap();
        let artifacts = Artifacts::local(dir.path()).unwrap();
        let kept = artifacts.put("a".into()).await.unwrap();
        assert_eq!(artifacts.put("a".into()).await.unwrap(), kept);
        let orphan = artifacts.put("b".into()).await.unwrap();
        assert_eq!(artifacts.get(orphan).await.unwrap(), "b");
        let named = HashSet::from([kept.to_string()]);
        assert_eq!(artifacts.sweep(&named, Duration::from_secs(60)).await.unwrap(), 0, "it may be on its way");
        assert_eq!(artifacts.sweep(&named, Duration::ZERO).await.unwrap(), 1);
        assert!(matches!(artifacts.get(orphan).await, Err(ArtifactError::Missing(_))));
        std::fs::write(dir.path().join(kept.to_string()), "x").unwrap();
        assert!(matches!(artifacts.get(kept).await, Err(ArtifactError::Damaged(_))));
    }

    #[tokio::test]
    async fn code_is_given_only_whole_for_its_module_and_as_the_database_knows_it() {
        use plane_abi::code::{CodeEngine, pack};
        let dir = tempfile::tempdir().unwrap();
        let artifacts = Artifacts::local(&dir.path().join("artifacts")).unwrap();
        let source = Source::new(artifacts.clone(), Store::open(dir.path()).await.unwrap());
        let module = artifacts.put("a".into()).await.unwrap();
        let engine = |tag| CodeEngine { version: "1".to_owned(), tag };
        let envelope = |tag, code: &[u8]| bytes::Bytes::from(pack(&engine(tag), module, code).unwrap());
        let first = artifacts.put_code(module, envelope(1, b"x")).await.unwrap();
        assert_eq!(artifacts.put_code(module, envelope(1, b"y")).await.unwrap(), first, "the same V8's stays");
        assert_ne!(artifacts.put_code(module, envelope(2, b"y")).await.unwrap(), first);
        let cut = envelope(1, b"x").slice(1..);
        assert!(artifacts.put_code(module, cut).await.is_err());
        assert!(artifacts.put_code(ArtifactHash([0; 32]), envelope(1, b"x")).await.is_err());
        assert_eq!(source.get(module).await.unwrap().unwrap(), "a");
        assert_eq!(source.get(code_name(module)).await.unwrap(), None, "no version has it");
        assert_eq!(source.get(ArtifactHash([9; 32])).await.unwrap(), None);
        std::fs::write(dir.path().join("artifacts").join(code_name(module).to_string()), "x").unwrap();
        assert!(source.get(code_name(module)).await.is_err());
    }
}
