//! Artifacts: modules, source maps and compiled code by their SHA-256, in an `object_store`: a local folder, with every
//! write on the disk before it is acknowledged, or an S3-compatible store ([`S3Place`]), which several processes share.
//!
//! A module's code cache lies beside it under a name made of the module's hash (`plane_abi::code::code_name`), in its
//! envelope; its own SHA-256 is in the database, with the version whose validation made it.
//!
//! *Invariants:* an artifact is stored before a version names it, so no version is without its bytes. What a kill leaves
//! behind unnamed is swept at the next start, before the first upload. A sweep deletes nothing but what is named like an
//! artifact (64 lower-case hex digits) and lies directly in the folder, or under the prefix: the rest is somebody else's.
//! *Bounds:* `OBJECT_BYTES_MAX` of one object, `OPERATION_TIMEOUT` for each reading and writing, `SWEEP_TIMEOUT`; those of
//! S3's client and of the cache for nodes are in their modules.
//! *Fails:* with an [`ArtifactError`]: what is missing or damaged is told from a store that does not answer, which may be
//! asked again.

mod s3;
mod source;

use std::collections::HashSet;
use std::path::Path as FilePath;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base::id::ArtifactHash;
use base::limits::MODULE_BYTES_MAX;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use model::rules::MAP_BYTES_MAX;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, PutPayload};
use plane_abi::code::{ENVELOPE_BYTES_MAX, Envelope, code_name};
use sha2::{Digest, Sha256};
use tokio::time::timeout;

pub use s3::S3Place;
pub use source::Source;

/// The largest object that is read, bytes: the largest that is ever stored. A shared store may hold anything.
const OBJECT_BYTES_MAX: u64 = ENVELOPE_BYTES_MAX as u64;
const _: () = assert!(ENVELOPE_BYTES_MAX >= MODULE_BYTES_MAX && ENVELOPE_BYTES_MAX >= MAP_BYTES_MAX);

/// One reading or writing of an object. Less than what a node's fetch may take (30 s) and an API request (120 s), so that
/// both end with the store's reason; more than the client of S3 takes with its retries.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(25);
/// Listing and deleting what no version has: a new leader waits for it. What is left is swept by the next.
const SWEEP_TIMEOUT: Duration = Duration::from_secs(30);

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
    /// The store failed or does not answer. It may be asked again.
    #[error("artifact store: {0}")]
    Store(String),
    /// The folder could not be made.
    #[error("artifact folder: {0}")]
    Folder(std::io::Error),
    /// There can be no artifact store at that place.
    #[error("{0}")]
    Place(String),
}

impl Artifacts {
    /// Artifacts in a local folder, which is made if missing.
    pub fn local(folder: &FilePath) -> Result<Artifacts, ArtifactError> {
        std::fs::create_dir_all(folder).map_err(ArtifactError::Folder)?;
        let store = LocalFileSystem::new_with_prefix(folder).map_err(failed)?.with_fsync(true);
        Ok(Artifacts { store: Arc::new(store) })
    }

    /// Stores a module; gives its hash. The same bytes again change nothing but the time of their storing: a sweep that
    /// goes by that time must not take them.
    pub async fn put(&self, module: Bytes) -> Result<ArtifactHash, ArtifactError> {
        let hash = hash_of(&module);
        self.write(hash, module).await?;
        Ok(hash)
    }

    /// A module's bytes, checked against the hash.
    pub async fn get(&self, hash: ArtifactHash) -> Result<Bytes, ArtifactError> {
        let bytes = self.read(hash).await?.ok_or(ArtifactError::Missing(hash))?;
        if hash_of(&bytes) != hash {
            return Err(ArtifactError::Damaged(hash));
        }
        Ok(bytes)
    }

    /// Stores a module's code cache; gives its SHA-256. One of the same V8 that is there already stays.
    pub async fn put_code(&self, artifact: ArtifactHash, envelope: Bytes) -> Result<ArtifactHash, ArtifactError> {
        let name = code_name(artifact);
        let new = Envelope::read(&envelope).ok().filter(|new| new.artifact == artifact);
        let new = new.ok_or(ArtifactError::Damaged(name))?;
        // What is there and can be no code cache is replaced.
        let there = match self.read(name).await {
            Err(ArtifactError::Damaged(_)) => None,
            there => there?,
        };
        if let Some(there) = there
            && Envelope::read(&there).is_ok_and(|old| old.artifact == artifact && old.same_engine(&new))
        {
            return Ok(hash_of(&there));
        }
        let hash = hash_of(&envelope);
        self.write(name, envelope).await?;
        Ok(hash)
    }

    async fn write(&self, name: ArtifactHash, bytes: Bytes) -> Result<(), ArtifactError> {
        let path = path(name);
        let written = self.store.put(&path, PutPayload::from_bytes(bytes));
        in_time(OPERATION_TIMEOUT, async { written.await.map(|_| ()).map_err(failed) }).await
    }

    /// What is stored under a name, unchecked; `None` for nothing.
    async fn read(&self, name: ArtifactHash) -> Result<Option<Bytes>, ArtifactError> {
        let path = path(name);
        let found = async {
            let found = match self.store.get(&path).await {
                Ok(found) => found,
                Err(error) if is_absent(&error) => return Ok(None),
                Err(error) => return Err(failed(error)),
            };
            if found.meta.size > OBJECT_BYTES_MAX {
                return Err(ArtifactError::Damaged(name));
            }
            found.bytes().await.map(Some).map_err(failed)
        };
        in_time(OPERATION_TIMEOUT, found).await
    }

    /// Deletes what is not in `named` and was stored at least `grace` ago; gives how many. What is stored meanwhile must be
    /// named within that time.
    pub async fn sweep(&self, named: &HashSet<String>, grace: Duration) -> Result<usize, ArtifactError> {
        in_time(SWEEP_TIMEOUT, self.sweep_all(named, grace)).await
    }

    async fn sweep_all(&self, named: &HashSet<String>, grace: Duration) -> Result<usize, ArtifactError> {
        // Not what lies deeper: nothing of ours does, and of somebody else's there may be much.
        let listed = self.store.list_with_delimiter(None).await.map_err(failed)?.objects;
        let orphan = |object: &ObjectMeta| {
            let name = object.location.as_ref();
            let age = SystemTime::from(object.last_modified).elapsed();
            is_name(name) && !named.contains(name) && (grace.is_zero() || age.is_ok_and(|age| age >= grace))
        };
        let orphans: Vec<_> = listed.into_iter().filter(orphan).map(|object| Ok(object.location)).collect();
        let mut deleted = self.store.delete_stream(stream::iter(orphans).boxed());
        let mut swept = 0;
        while let Some(outcome) = deleted.next().await {
            match outcome {
                Ok(_) => swept += 1,
                // Another process was faster.
                Err(error) if is_absent(&error) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(swept)
    }
}

async fn in_time<T>(limit: Duration, work: impl Future<Output = Result<T, ArtifactError>>) -> Result<T, ArtifactError> {
    match timeout(limit, work).await {
        Ok(done) => done,
        Err(_) => Err(ArtifactError::Store(format!("no answer within {} s", limit.as_secs()))),
    }
}

fn failed(error: object_store::Error) -> ArtifactError {
    ArtifactError::Store(reason(&error))
}

/// The store's own words, shortened: of S3's XML its code and message, which have nothing of the credentials; of a failed
/// transport also its cause.
fn reason(error: &object_store::Error) -> String {
    let text = error.to_string();
    if let Some(code) = element(&text, "Code") {
        return match element(&text, "Message") {
            Some(message) if !message.is_empty() => format!("{code}: {message}"),
            _ => code.to_owned(),
        };
    }
    let mut cause: &(dyn std::error::Error + 'static) = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    let cause = cause.to_string();
    if text.contains(&cause) { text } else { format!("{text}: {cause}") }
}

fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    Some(rest.split_once(&format!("</{name}>"))?.0)
}

/// Whether there is no such object. Where the bucket itself is gone nothing can be said of its objects.
fn is_absent(error: &object_store::Error) -> bool {
    match error {
        object_store::Error::NotFound { source, .. } => !source.to_string().contains("<Code>NoSuchBucket</Code>"),
        _ => false,
    }
}

/// Whether a name is an artifact's.
fn is_name(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn hash_of(bytes: &[u8]) -> ArtifactHash {
    ArtifactHash(Sha256::digest(bytes).into())
}

fn path(hash: ArtifactHash) -> Path {
    Path::from(hash.to_string())
}

#[cfg(test)]
mod tests {
    use push::ArtifactSource;
    use store::Store;

    use super::*;

    #[tokio::test]
    async fn keeps_checks_and_sweeps() {
        let dir = tempfile::tempdir().unwrap();
        let artifacts = Artifacts::local(dir.path()).unwrap();
        let kept = artifacts.put("a".into()).await.unwrap();
        assert_eq!(artifacts.put("a".into()).await.unwrap(), kept);
        let orphan = artifacts.put("b".into()).await.unwrap();
        assert_eq!(artifacts.get(orphan).await.unwrap(), "b");
        for other in ["notes.txt", &"A".repeat(64), &"0".repeat(63)] {
            std::fs::write(dir.path().join(other), "x").unwrap();
        }
        let named = HashSet::from([kept.to_string()]);
        assert_eq!(artifacts.sweep(&named, Duration::from_secs(60)).await.unwrap(), 0, "it may be on its way");
        assert_eq!(artifacts.sweep(&named, Duration::ZERO).await.unwrap(), 1);
        assert!(matches!(artifacts.get(orphan).await, Err(ArtifactError::Missing(_))));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 4, "what is no artifact stays");
        std::fs::write(dir.path().join(kept.to_string()), "x").unwrap();
        assert!(matches!(artifacts.get(kept).await, Err(ArtifactError::Damaged(_))));
        let huge = std::fs::File::create(dir.path().join(kept.to_string())).unwrap();
        huge.set_len(OBJECT_BYTES_MAX + 1).unwrap();
        assert!(matches!(artifacts.read(kept).await, Err(ArtifactError::Damaged(_))), "it is not read");
    }

    #[tokio::test]
    async fn code_is_given_only_whole_for_its_module_and_as_the_database_knows_it() {
        use plane_abi::code::{CodeEngine, pack};
        let dir = tempfile::tempdir().unwrap();
        let artifacts = Artifacts::local(&dir.path().join("artifacts")).unwrap();
        let source = Source::new(artifacts.clone(), Store::open(dir.path()).await.unwrap());
        let module = artifacts.put("a".into()).await.unwrap();
        let engine = |tag| CodeEngine { version: "1".to_owned(), tag };
        let envelope = |tag, code: &[u8]| Bytes::from(pack(&engine(tag), module, code).unwrap());
        let first = artifacts.put_code(module, envelope(1, b"x")).await.unwrap();
        assert_eq!(artifacts.put_code(module, envelope(1, b"y")).await.unwrap(), first, "the same V8's stays");
        assert_ne!(artifacts.put_code(module, envelope(2, b"y")).await.unwrap(), first);
        let cut = envelope(1, b"x").slice(1..);
        assert!(artifacts.put_code(module, cut).await.is_err());
        assert!(artifacts.put_code(ArtifactHash([0; 32]), envelope(1, b"x")).await.is_err());
        assert_eq!(source.fetch(module).await.unwrap().unwrap(), "a");
        assert_eq!(source.fetch(code_name(module)).await.unwrap(), None, "no version has it");
        assert_eq!(source.fetch(ArtifactHash([9; 32])).await.unwrap(), None);
        std::fs::write(dir.path().join("artifacts").join(code_name(module).to_string()), "x").unwrap();
        assert!(source.fetch(code_name(module)).await.is_err());
    }

    #[test]
    fn of_what_s3_says_its_code_and_message_are_told() {
        let said = |text: &str| object_store::Error::Generic { store: "S3", source: text.to_owned().into() };
        let xml = "403 Forbidden: <Error><Code>A</Code><Message>b c</Message><StringToSign>x</StringToSign></Error>";
        assert_eq!(reason(&said(xml)), "A: b c");
        assert_eq!(reason(&said("<Error><Code>A</Code><Message></Message></Error>")), "A");
        assert!(reason(&said("plain words")).ends_with("plain words"));
        let bucket = "<Error><Code>NoSuchBucket</Code></Error>".to_owned().into();
        assert!(!is_absent(&object_store::Error::NotFound { path: String::new(), source: bucket }));
        let key = "<Error><Code>NoSuchKey</Code></Error>".to_owned().into();
        assert!(is_absent(&object_store::Error::NotFound { path: String::new(), source: key }));
    }
}
