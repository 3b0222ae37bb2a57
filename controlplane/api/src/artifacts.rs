//! Artifacts: modules by their SHA-256, in an `object_store`. Here a local folder, with every write on the disk before it
//! is acknowledged; another store (S3) is another constructor.
//!
//! *Invariant:* an artifact is stored before a version names it, so no version is without its bytes. What a kill leaves
//! behind unnamed is swept at the next start, before the first upload.

use std::collections::HashSet;
use std::path::Path as FilePath;
use std::sync::Arc;

use base::id::ArtifactHash;
use futures_util::TryStreamExt;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use sha2::{Digest, Sha256};

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

    /// Deletes what is not in `named`; gives how many. Only while nothing is uploaded.
    pub(crate) async fn sweep(&self, named: &HashSet<String>) -> Result<usize, ArtifactError> {
        let listed: Vec<_> = self.store.list(None).try_collect().await.map_err(ArtifactError::Store)?;
        let mut swept = 0;
        for object in listed {
            if !named.contains(object.location.as_ref()) {
                self.store.delete(&object.location).await.map_err(ArtifactError::Store)?;
                swept += 1;
            }
        }
        Ok(swept)
    }
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
        assert_eq!(artifacts.sweep(&HashSet::from([kept.to_string()])).await.unwrap(), 1);
        assert!(matches!(artifacts.get(orphan).await, Err(ArtifactError::Missing(_))));
        std::fs::write(dir.path().join(kept.to_string()), "x").unwrap();
        assert!(matches!(artifacts.get(kept).await, Err(ArtifactError::Damaged(_))));
    }
}
