//! Code caches: what V8 compiled of a module, in an envelope that says what it belongs to and that it is whole.
//!
//! V8 compares a few numbers in the head of the compiled code it is given and believes the rest: in a release build its own
//! checksum is neither made nor looked at (`verify_snapshot_checksum`). A flipped byte there is not an error of V8's but any
//! behaviour at all. So nothing is given to V8 that was not checked here, all of it, right before.
//!
//! ```text
//! offset  0 magic "SLVGCODE"
//!         8 format, u32                      [`CODE_FORMAT`]
//!        12 V8's tag, u32                    hash of its version and flags (`ScriptCompiler::CachedDataVersionTag`)
//!        16 V8's version, 32 bytes           text, zero-padded
//!        48 artifact, 32 bytes               SHA-256 of the module
//!        80 code bytes, u64
//!        88 the code
//!       end SHA-256 of everything before, 32 bytes
//! ```
//! Integers are little-endian. On a node's disk ([`CodeStore`]) the envelope is followed by the node's *mark*: an
//! HMAC-SHA-256 of it under a key that only this node has. A node marks what its control plane sent it over the
//! authenticated connection and what it compiled itself, and gives V8 nothing without its mark.
//!
//! *Does not:* compile, or decide what happens without code: the module is then compiled from source.
//! *Bounds:* `base::limits::CODE_CACHE_BYTES_MAX`. *Fails:* with a [`CodeError`], whose label is counted.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    sync::mpsc::SyncSender,
};

use base::id::ArtifactHash;
use base::limits::CODE_CACHE_BYTES_MAX;
use bytes::Bytes;
use ring::{digest, hmac};

use crate::buffer;
use crate::layout::{array_at, u32_at, u64_at};
use crate::seal::Key;

/// Version of the envelope.
pub const CODE_FORMAT: u32 = 1;
const MAGIC: [u8; 8] = *b"SLVGCODE";
const VERSION_AT: usize = 16;
const VERSION_BYTES: usize = 32;
const ARTIFACT_AT: usize = VERSION_AT + VERSION_BYTES;
const LENGTH_AT: usize = ARTIFACT_AT + 32;
/// A multiple of 8: V8 copies code that is not so aligned.
const CODE_AT: usize = LENGTH_AT + 8;
const DIGEST_BYTES: usize = 32;
const MARK_BYTES: usize = 32;
/// The largest envelope, bytes.
pub const ENVELOPE_BYTES_MAX: usize = CODE_AT + CODE_CACHE_BYTES_MAX + DIGEST_BYTES;

const _: () = assert!(CODE_AT.is_multiple_of(8));

/// Which V8 code is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodeEngine {
    /// Its version; the first 32 bytes count.
    pub version: String,
    /// Hash of its version and flags.
    pub tag: u32,
}

impl CodeEngine {
    fn padded(&self) -> [u8; VERSION_BYTES] {
        let mut out = [0; VERSION_BYTES];
        out.iter_mut().zip(self.version.bytes()).for_each(|(to, from)| *to = from);
        out
    }
}

/// Why code is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodeError {
    /// There is none.
    #[error("there is no code cache")]
    Absent,
    /// Its file cannot be read.
    #[error("the code cache cannot be read: {0}")]
    Unreadable(io::ErrorKind),
    /// It is no envelope, or one of another format.
    #[error("it is no code cache of format {CODE_FORMAT}")]
    Format,
    /// It is longer or shorter than it says, or over the limit.
    #[error("the code cache is cut short, too long or over {CODE_CACHE_BYTES_MAX} bytes")]
    Length,
    /// Its bytes are not the ones that were written.
    #[error("the code cache is damaged")]
    Damaged,
    /// It bears no mark of this node.
    #[error("the code cache bears no mark of this node, or its bytes have changed")]
    Unmarked,
    /// It belongs to another module.
    #[error("the code cache is another module's")]
    OtherArtifact,
    /// Another V8, or one with other flags, made it.
    #[error("the code cache is of another V8")]
    OtherEngine,
    /// V8 refuses it.
    #[error("V8 refuses the code cache")]
    Rejected,
}

impl CodeError {
    /// All labels, in the order of [`CodeError::place`].
    pub const LABELS: [&'static str; 9] = [
        "absent",
        "unreadable",
        "format",
        "length",
        "damaged",
        "unmarked",
        "other_artifact",
        "other_engine",
        "rejected",
    ];

    fn place(self) -> usize {
        match self {
            CodeError::Absent => 0,
            CodeError::Unreadable(_) => 1,
            CodeError::Format => 2,
            CodeError::Length => 3,
            CodeError::Damaged => 4,
            CodeError::Unmarked => 5,
            CodeError::OtherArtifact => 6,
            CodeError::OtherEngine => 7,
            CodeError::Rejected => 8,
        }
    }

    /// For metrics.
    pub fn label(self) -> &'static str {
        CodeError::LABELS[self.place()]
    }
}

/// A whole envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// The module it belongs to.
    pub artifact: ArtifactHash,
    /// The compiled code.
    pub code: &'a [u8],
    tag: u32,
    version: [u8; VERSION_BYTES],
}

impl<'a> Envelope<'a> {
    /// Reads an envelope and checks that it is whole. Not for which V8 or module: see [`open`].
    pub fn read(bytes: &'a [u8]) -> Result<Envelope<'a>, CodeError> {
        let envelope = Envelope::parse(bytes)?;
        let (said, digest) = bytes.split_at_checked(bytes.len() - DIGEST_BYTES).ok_or(CodeError::Length)?;
        if digest::digest(&digest::SHA256, said).as_ref() != digest {
            return Err(CodeError::Damaged);
        }
        Ok(envelope)
    }

    /// The fields, of bytes whose digest or mark the caller checks.
    fn parse(bytes: &'a [u8]) -> Result<Envelope<'a>, CodeError> {
        if bytes.get(..MAGIC.len()).is_some_and(|magic| magic != MAGIC) {
            return Err(CodeError::Format);
        }
        let Some(code_bytes) = bytes.len().checked_sub(CODE_AT + DIGEST_BYTES) else { return Err(CodeError::Length) };
        if u32_at(bytes, 8) != CODE_FORMAT {
            return Err(CodeError::Format);
        }
        if u64_at(bytes, LENGTH_AT) != code_bytes as u64 || code_bytes > CODE_CACHE_BYTES_MAX {
            return Err(CodeError::Length);
        }
        Ok(Envelope {
            artifact: ArtifactHash(array_at(bytes, ARTIFACT_AT).ok_or(CodeError::Length)?),
            code: bytes.get(CODE_AT..CODE_AT + code_bytes).ok_or(CodeError::Length)?,
            tag: u32_at(bytes, 12),
            version: array_at(bytes, VERSION_AT).ok_or(CodeError::Length)?,
        })
    }

    /// Whether it is for this module and this V8.
    fn is_for(&self, engine: &CodeEngine, artifact: ArtifactHash) -> Result<(), CodeError> {
        if self.artifact != artifact {
            return Err(CodeError::OtherArtifact);
        }
        if self.tag != engine.tag || self.version != engine.padded() {
            return Err(CodeError::OtherEngine);
        }
        Ok(())
    }

    /// Whether the same V8 made both.
    pub fn same_engine(&self, other: &Envelope<'_>) -> bool {
        (self.tag, self.version) == (other.tag, other.version)
    }
}

/// Puts code into an envelope. [`CodeError::Length`] past the limit.
pub fn pack(engine: &CodeEngine, artifact: ArtifactHash, code: &[u8]) -> Result<Vec<u8>, CodeError> {
    if code.len() > CODE_CACHE_BYTES_MAX {
        return Err(CodeError::Length);
    }
    let mut out = Vec::with_capacity(CODE_AT + code.len() + DIGEST_BYTES);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&CODE_FORMAT.to_le_bytes());
    out.extend_from_slice(&engine.tag.to_le_bytes());
    out.extend_from_slice(&engine.padded());
    out.extend_from_slice(&artifact.0);
    out.extend_from_slice(&(code.len() as u64).to_le_bytes());
    out.extend_from_slice(code);
    let digest = digest::digest(&digest::SHA256, &out);
    out.extend_from_slice(digest.as_ref());
    Ok(out)
}

/// Opens an envelope that is for this V8 and this module.
pub fn open<'a>(engine: &CodeEngine, artifact: ArtifactHash, bytes: &'a [u8]) -> Result<&'a [u8], CodeError> {
    let envelope = Envelope::read(bytes)?;
    envelope.is_for(engine, artifact)?;
    Ok(envelope.code)
}

/// What the code cache of an artifact is asked for by, where artifacts are asked for by their hash. A control plane that
/// knows nothing of code caches has nothing of that name, and says so.
pub fn code_name(artifact: ArtifactHash) -> ArtifactHash {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(b"selvage code cache v1");
    context.update(&artifact.0);
    ArtifactHash(context.finish().as_ref().first_chunk().copied().expect("a SHA-256 digest has 32 bytes"))
}

/// A node's code caches: one file an artifact, named by the artifact's hash, each with the node's mark.
///
/// Any thread reads; a file is replaced by rename. What is missing or refused is asked of whoever makes it ([`CodeStore::want`]),
/// who is never waited for.
pub struct CodeStore {
    folder: PathBuf,
    engine: CodeEngine,
    mark: Key,
    wanted: SyncSender<ArtifactHash>,
    next_file: AtomicU64,
    used: AtomicU64,
    refused: [AtomicU64; CodeError::LABELS.len()],
}

impl std::fmt::Debug for CodeStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CodeStore").field("folder", &self.folder).field("engine", &self.engine).finish_non_exhaustive()
    }
}

impl CodeStore {
    /// The code caches in a folder, for this V8. `key` marks what this node trusts; artifacts whose code is to be made go
    /// into `wanted`. Fails where the system gives no page for the mark's key.
    pub fn new(
        folder: PathBuf,
        engine: CodeEngine,
        key: &Key,
        wanted: SyncSender<ArtifactHash>,
    ) -> io::Result<CodeStore> {
        let mark = key.with(|key| {
            let derived = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), b"selvage code cache mark v1");
            Key::new(derived.as_ref().first_chunk().expect("an HMAC-SHA-256 tag has 32 bytes"))
        })?;
        Ok(CodeStore {
            folder,
            engine,
            mark,
            wanted,
            next_file: AtomicU64::new(0),
            used: AtomicU64::new(0),
            refused: Default::default(),
        })
    }

    /// Which V8 they are for.
    pub fn engine(&self) -> &CodeEngine {
        &self.engine
    }

    /// Where an artifact's code lies.
    pub fn path(&self, artifact: ArtifactHash) -> PathBuf {
        self.folder.join(artifact.to_string())
    }

    /// Whether there is a file, of whatever bytes.
    pub fn has_file(&self, artifact: ArtifactHash) -> bool {
        fs::exists(self.path(artifact)).unwrap_or(false)
    }

    /// An artifact's code, every byte of it checked. Blocking: page cache as a rule.
    pub fn load(&self, artifact: ArtifactHash) -> Result<Bytes, CodeError> {
        let bytes = buffer::read(&self.path(artifact)).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => CodeError::Absent,
            kind => CodeError::Unreadable(kind),
        })?;
        let said = bytes.len().checked_sub(MARK_BYTES).ok_or(CodeError::Length)?;
        let (envelope, mark) = bytes.split_at(said);
        // The mark covers every byte, the envelope's own digest too, which therefore need not be compared again.
        let verified = self.mark.with(|key| hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, key), envelope, mark));
        verified.map_err(|_| CodeError::Unmarked)?;
        let envelope = Envelope::parse(envelope)?;
        envelope.is_for(&self.engine, artifact)?;
        let code_end = CODE_AT + envelope.code.len();
        Ok(bytes.slice(CODE_AT..code_end))
    }

    /// Takes code from whom this node believes, its control plane or itself: checks it, marks it, keeps it.
    pub fn store(&self, artifact: ArtifactHash, envelope: &[u8]) -> Result<(), CodeError> {
        open(&self.engine, artifact, envelope)?;
        let mark = self.mark.with(|key| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), envelope));
        let mut bytes = Vec::with_capacity(envelope.len() + MARK_BYTES);
        bytes.extend_from_slice(envelope);
        bytes.extend_from_slice(mark.as_ref());
        let temporary = self.folder.join(format!("{}.tmp", self.next_file.fetch_add(1, Relaxed)));
        // Not synced: what a loss of power tears bears no mark, and is made again.
        let written = fs::write(&temporary, bytes).and_then(|()| fs::rename(&temporary, self.path(artifact)));
        written.map_err(|error| {
            let _ = fs::remove_file(&temporary);
            CodeError::Unreadable(error.kind())
        })
    }

    /// An artifact's code for a Worker that starts, counted. Without it the Worker compiles from source, and the code is
    /// made for the next.
    pub fn take(&self, artifact: ArtifactHash) -> Option<Bytes> {
        match self.load(artifact) {
            Ok(code) => {
                self.used.fetch_add(1, Relaxed);
                Some(code)
            }
            Err(error) => {
                self.refuse(error);
                self.want(artifact);
                None
            }
        }
    }

    /// V8 refused code that was taken.
    pub fn rejected(&self, artifact: ArtifactHash) {
        self.used.fetch_sub(1, Relaxed);
        self.refuse(CodeError::Rejected);
        self.remove(artifact);
        self.want(artifact);
    }

    /// Counts code that is not used.
    pub fn refuse(&self, error: CodeError) {
        self.refused[error.place()].fetch_add(1, Relaxed);
    }

    /// Removes an artifact's code, if there is any.
    pub fn remove(&self, artifact: ArtifactHash) {
        let _ = fs::remove_file(self.path(artifact));
    }

    /// Asks for an artifact's code to be made. Asked for too often to keep up, some are not: the next start asks again.
    pub fn want(&self, artifact: ArtifactHash) {
        let _ = self.wanted.try_send(artifact);
    }

    /// Times that a Worker started with code from here.
    pub fn used(&self) -> u64 {
        self.used.load(Relaxed)
    }

    /// Times that code was not used, by [`CodeError::LABELS`].
    pub fn refused(&self) -> impl Iterator<Item = (&'static str, u64)> {
        CodeError::LABELS.into_iter().zip(&self.refused).map(|(label, count)| (label, count.load(Relaxed)))
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, sync_channel};

    const CODE: &[u8] = b"compiled";
    const ARTIFACT: ArtifactHash = ArtifactHash([7; 32]);

    fn engine() -> CodeEngine {
        CodeEngine { version: "14.6.202.24".to_owned(), tag: 0x1234_5678 }
    }

    fn packed() -> Vec<u8> {
        pack(&engine(), ARTIFACT, CODE).expect("small")
    }

    fn check(bytes: &[u8], expect: Result<&[u8], CodeError>) {
        assert_eq!(open(&engine(), ARTIFACT, bytes), expect);
    }

    #[test]
    fn what_was_packed_opens_for_its_module_and_its_engine_only() {
        let bytes = packed();
        check(&bytes, Ok(CODE));
        assert_eq!(open(&engine(), ArtifactHash([8; 32]), &bytes), Err(CodeError::OtherArtifact));
        for other in [CodeEngine { tag: 1, ..engine() }, CodeEngine { version: "14.6.202.25".to_owned(), ..engine() }] {
            assert_eq!(open(&other, ARTIFACT, &bytes), Err(CodeError::OtherEngine));
        }
        let large = vec![0; CODE_CACHE_BYTES_MAX + 1];
        assert_eq!(pack(&engine(), ARTIFACT, &large), Err(CodeError::Length));
        assert_eq!(pack(&engine(), ARTIFACT, &large[1..]).expect("fits").len(), ENVELOPE_BYTES_MAX);
    }

    #[test]
    fn every_flipped_bit_and_every_length_is_refused() {
        let bytes = packed();
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << bit;
                assert!(open(&engine(), ARTIFACT, &flipped).is_err(), "bit {bit} of byte {at}");
            }
            assert!(open(&engine(), ARTIFACT, &bytes[..at]).is_err(), "cut at {at}");
        }
        let longer = [&bytes[..], &[0]].concat();
        check(&longer, Err(CodeError::Length));
        let mut other_format = bytes.clone();
        other_format[8] = 9;
        check(&other_format, Err(CodeError::Format));
        let mut damaged = bytes;
        damaged[CODE_AT] ^= 1;
        check(&damaged, Err(CodeError::Damaged));
    }

    fn store(folder: &Path, key: u8) -> (CodeStore, Receiver<ArtifactHash>) {
        let (wanted, receiver) = sync_channel(2);
        let store = CodeStore::new(folder.to_owned(), engine(), &Key::from_bytes([key; 32]), wanted);
        (store.expect("a page"), receiver)
    }

    #[test]
    fn a_node_takes_only_what_it_marked() {
        let folder = tempfile::tempdir().expect("folder");
        let (ours, wanted) = store(folder.path(), 1);
        assert_eq!(ours.load(ARTIFACT), Err(CodeError::Absent));
        // A whole envelope that somebody else put there.
        fs::write(ours.path(ARTIFACT), packed()).expect("written");
        assert_eq!(ours.load(ARTIFACT), Err(CodeError::Unmarked));
        ours.store(ARTIFACT, &packed()).expect("stored");
        assert_eq!(ours.take(ARTIFACT).as_deref(), Some(CODE));
        assert_eq!(store(folder.path(), 2).0.load(ARTIFACT), Err(CodeError::Unmarked), "another node's");
        assert_eq!((ours.used(), wanted.try_recv().is_err()), (1, true));
    }

    #[test]
    fn every_flipped_byte_and_every_length_on_disk_is_refused_counted_and_wanted_again() {
        let folder = tempfile::tempdir().expect("folder");
        let (ours, wanted) = store(folder.path(), 1);
        ours.store(ARTIFACT, &packed()).expect("stored");
        let bytes = fs::read(ours.path(ARTIFACT)).expect("read");
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x10;
            for wrong in [&flipped[..], &bytes[..at]] {
                fs::write(ours.path(ARTIFACT), wrong).expect("written");
                assert_eq!(ours.take(ARTIFACT), None, "byte {at}");
                assert_eq!(wanted.try_recv(), Ok(ARTIFACT));
            }
        }
        assert_eq!(ours.used(), 0);
        let refused: u64 = ours.refused().map(|(_, count)| count).sum();
        assert_eq!(refused, 2 * bytes.len() as u64);
        // Whatever was refused, the next one is as good as new.
        ours.store(ARTIFACT, &packed()).expect("stored");
        assert_eq!(ours.take(ARTIFACT).as_deref(), Some(CODE));
    }

    #[test]
    fn nothing_that_is_no_code_of_the_module_is_stored_and_what_v8_rejects_goes() {
        let folder = tempfile::tempdir().expect("folder");
        let (ours, wanted) = store(folder.path(), 1);
        let other = pack(&CodeEngine { tag: 1, ..engine() }, ARTIFACT, CODE).expect("small");
        assert_eq!(ours.store(ARTIFACT, &other), Err(CodeError::OtherEngine));
        assert_eq!(ours.store(ArtifactHash([8; 32]), &packed()), Err(CodeError::OtherArtifact));
        assert_eq!(ours.store(ARTIFACT, b"SLVGCODE"), Err(CodeError::Length));
        ours.store(ARTIFACT, &packed()).expect("stored");
        assert!(ours.take(ARTIFACT).is_some());
        ours.rejected(ARTIFACT);
        assert!(!ours.has_file(ARTIFACT));
        assert_eq!((ours.used(), wanted.try_recv()), (0, Ok(ARTIFACT)));
        assert_eq!(ours.refused().find(|(label, _)| *label == "rejected"), Some(("rejected", 1)));
    }
}
