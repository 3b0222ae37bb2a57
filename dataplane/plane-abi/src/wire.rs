//! Frames of the push protocol, without input or output.
//!
//! A frame is `length (u32, little-endian) ‖ protocol version (1 byte) ‖ postcard body`; the length counts the version byte and
//! the body. [`encode`] makes one; [`Decoder`] takes bytes as they come, in any pieces, and gives messages.
//!
//! One connection, opened by the node over mutual TLS:
//! ```text
//! node      Hello                        Ack | Refuse · ArtifactWanted · SnapshotWanted · BaseWanted · Logs · Heartbeat · Pong
//! control          Welcome   (SnapshotBegin SnapshotPart* SnapshotEnd)* · ArtifactPart* | ArtifactMissing · BasePart* | BaseMissing · Ping · Fleet · Standing
//! ```
//! The parts of a snapshot are its bytes, or a delta from one that the node has acknowledged: `SnapshotWanted` answers a delta
//! that cannot be used, and the whole follows. A snapshot that names a base of routes which the node has not is kept back until
//! the node has fetched that: `BaseWanted`, `BasePart*`.
//! A `SnapshotBegin` before the `SnapshotEnd` of the one before it drops that one: the latest wins. Parts of snapshots
//! and artifacts may alternate. Every message after the two first may come at any time.
//!
//! Bounds: a frame over `base::limits::FRAME_BYTES_MAX` is an error as soon as its length is there; a decoder holds at most
//! one frame and what was pushed after it. Failures: [`WireError`] ends the connection. Never panics on any bytes.

use std::marker::PhantomData;

use base::id::{ArtifactHash, DeploymentId};
use base::limits::FRAME_BYTES_MAX;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

use crate::routes::base::BaseId;
use crate::seal::Key;
use crate::snapshot::Lineage;

/// Version of the frames and messages; both sides must speak the same.
pub const PROTOCOL_VERSION: u8 = 4;
const LENGTH_BYTES: usize = 4;

/// The name in the control plane's certificate, whatever address it is reached at.
pub const CONTROL_NAME: &str = "control.selvage.internal";
/// What follows a node's name in its certificate.
pub const NODE_SUFFIX: &str = ".node.selvage.internal";

/// Whether a text may name a node: one lower-case DNS label.
pub fn is_node_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=crate::limits::NODE_NAME_BYTES_MAX).contains(&name.len())
        && name.bytes().all(allowed)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

/// The node's name among the DNS names of its certificate.
pub fn node_name<'a>(mut dns_names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    dns_names.find_map(|name| name.strip_suffix(NODE_SUFFIX)).filter(|name| is_node_name(name))
}

/// Node to control plane.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ToControl {
    /// First message of a connection.
    Hello(Hello),
    /// The node serves this generation and would still after a restart.
    Ack {
        /// Of which store.
        lineage: Lineage,
        /// Which.
        generation: u64,
        /// Active deployments whose module the node could not get: not zero only for a node that served nothing before.
        artifacts_missing: u32,
    },
    /// The node will not, or could not fully, take this generation.
    Refuse {
        /// Of which store.
        lineage: Lineage,
        /// Which.
        generation: u64,
        /// Why, for programs.
        reason: RefuseReason,
        /// Why, for people.
        detail: String,
    },
    /// The node needs an artifact. Answered by `ArtifactPart`s or `ArtifactMissing`.
    ArtifactWanted(Hash),
    /// What Workers logged.
    Logs(Logs),
    /// The node is alive; sent every `Welcome::heartbeat_ms`.
    Heartbeat(Load),
    /// Answer to `Ping`.
    Pong(u64),
    /// The node has not what a delta is from, or it did not come out right: it asks for the whole of this generation.
    SnapshotWanted {
        /// As in the `SnapshotBegin`.
        generation: u64,
    },
    /// The node needs the base of routes that a snapshot names. Answered by `BasePart`s or `BaseMissing`.
    BaseWanted(BaseId),
}

/// Control plane to node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ToNode {
    /// Answer to `Hello`.
    Welcome(Welcome),
    /// A snapshot follows in parts.
    SnapshotBegin(SnapshotBegin),
    /// The next bytes of the snapshot begun last.
    SnapshotPart(Blob),
    /// It is complete.
    SnapshotEnd {
        /// As in its `SnapshotBegin`.
        generation: u64,
    },
    /// Bytes of an artifact, in order.
    ArtifactPart(ArtifactPart),
    /// The control plane has no such artifact, or could not read it.
    ArtifactMissing(Hash),
    /// Asks for `Pong` of the same number.
    Ping(u64),
    /// Names of all nodes that share what each is to be done once: after `Welcome`, and at each change.
    Fleet(Vec<String>),
    /// Bytes of a base of routes, in order.
    BasePart(BasePart),
    /// The control plane has no such base any more: a newer snapshot is on its way.
    BaseMissing(BaseId),
    /// What the node is to do with requests: after `Welcome` unless it serves, and at each change.
    Standing(Standing),
}

/// What a node is to do with requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Standing {
    /// Serve.
    #[default]
    Serving,
    /// Serve what comes, and say that no more should: it is not ready.
    Cordoned,
    /// The same, and end each connection with its next response.
    Draining,
}

/// Who connects, and what it has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// The node's name: the one in its certificate.
    pub node: String,
    /// Version of the node's program, for people.
    pub software: String,
    /// Snapshot format it reads; [`crate::FORMAT_VERSION`].
    pub format: u32,
    /// The store whose snapshot it serves; zero for none.
    pub lineage: Lineage,
    /// The generation it serves and has on disk; zero for none.
    pub generation: u64,
    /// Checksum of that snapshot.
    pub checksum: u64,
    /// The last `Fleet` that the node has heard: a control plane that has just started learns from it who is still to come.
    pub fleet: Vec<String>,
}

/// What the node must know to use what follows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Welcome {
    /// The control plane's store. Snapshots of this connection are of this lineage.
    pub lineage: Lineage,
    /// Keys that environments in snapshots are sealed with, the current one first.
    pub env_keys: Vec<WireKey>,
    /// How often the node sends `Heartbeat`, milliseconds.
    pub heartbeat_ms: u32,
}

/// Announces a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotBegin {
    /// As in the snapshot's header.
    pub lineage: Lineage,
    /// As in the snapshot's header.
    pub generation: u64,
    /// Bytes that follow in parts.
    pub total_bytes: u64,
    /// As in the snapshot's header.
    pub checksum: u64,
    /// The parts are a delta ([`crate::delta`]); none: they are the snapshot itself.
    pub delta: Option<DeltaFrom>,
}

/// What a delta makes a snapshot of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeltaFrom {
    /// Generation of the snapshot, of the same lineage; zero: of nothing.
    pub generation: u64,
    /// Its checksum.
    pub checksum: u64,
    /// Size of what comes out.
    pub bytes: u64,
}

/// Bytes of a base of routes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BasePart {
    /// Which; with its size.
    pub id: BaseId,
    /// Where these bytes belong: right after those of the part before.
    pub offset: u64,
    /// The bytes.
    pub bytes: Blob,
}

/// Bytes of an artifact.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ArtifactPart {
    /// Which.
    pub hash: Hash,
    /// Size of all of it.
    pub total_bytes: u64,
    /// Where these bytes belong: right after those of the part before.
    pub offset: u64,
    /// The bytes.
    pub bytes: Blob,
}

/// Why a node refuses a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RefuseReason {
    /// Its bytes are no valid snapshot, or not the one that was announced.
    Corrupt,
    /// The node has seen a later generation of that lineage, or another snapshot of the same generation.
    Older,
    /// It is of another lineage than the connection.
    ForeignLineage,
    /// The modules of active deployments could not be had or did not match their hash.
    Artifacts,
    /// The node has no key that the snapshot's environments open with.
    EnvKey,
    /// It could not be written to disk; nothing changed.
    NotStored,
    /// It serves but may not be on disk: a restart may bring back the one before.
    NotDurable,
}

/// Log records of Workers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Logs {
    /// In the order the node saw them; at most `limits::LOG_BATCH_RECORDS_MAX`.
    pub records: Vec<LogRecord>,
    /// Records lost since the frame before, because the queue was full.
    pub dropped: u64,
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogRecord {
    /// Whose Worker: a `DeploymentId`'s number.
    pub deployment: u128,
    /// Version that ran.
    pub version: u32,
    /// Severity.
    pub level: LogLevel,
    /// Text.
    pub text: String,
    /// When, milliseconds since the Unix epoch.
    pub unix_ms: u64,
    /// The request it belongs to: unique within one node's run; none at start-up.
    pub request: Option<u64>,
}

impl LogRecord {
    /// Whose Worker.
    pub fn deployment(&self) -> DeploymentId {
        DeploymentId(self.deployment)
    }
}

/// Severity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum LogLevel {
    /// `console.debug`.
    Debug,
    /// `console.log`, `console.info`.
    Info,
    /// `console.warn`.
    Warn,
    /// `console.error`, and uncaught exceptions.
    Error,
}

impl LogLevel {
    /// Lower-case name.
    pub fn label(self) -> &'static str {
        match self {
            LogLevel::Debug => "debug",
            LogLevel::Info => "info",
            LogLevel::Warn => "warn",
            LogLevel::Error => "error",
        }
    }
}

/// Requests of one version, since its node started or it began to get a share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionCounts {
    /// Whose: a `DeploymentId`'s number.
    pub deployment: u128,
    /// Which version.
    pub version: u32,
    /// Requests that it got.
    pub requests: u64,
    /// Those among them without a good answer: of status 500 and above, or broken off.
    pub errors: u64,
}

/// How busy a node is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Load {
    /// Generation that serves now.
    pub generation: u64,
    /// Shards that listen.
    pub shards: u32,
    /// Open client connections.
    pub connections: u64,
    /// Requests answered since the node started.
    pub requests: u64,
    /// Answers of status 500 and above among them.
    pub errors: u64,
    /// The node's clock, milliseconds since the Unix epoch: shows skew.
    pub unix_ms: u64,
    /// Of deployments whose requests two versions share; at most `limits::VERSIONS_COUNTED_MAX`.
    pub versions: Vec<VersionCounts>,
    /// Requests of deployments since this was said last, most first; at most `limits::TRAFFIC_COUNTED_MAX`. Said about once a minute.
    pub traffic: Vec<Traffic>,
}

/// Requests of one deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// Whose: a `DeploymentId`'s number.
    pub deployment: u128,
    /// How many.
    pub requests: u64,
}

/// Bytes that serialise as bytes, not as a sequence of numbers.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Blob(pub Vec<u8>);

impl std::fmt::Debug for Blob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Blob({} bytes)", self.0.len())
    }
}

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Blob, D::Error> {
        <&[u8]>::deserialize(deserializer).map(|bytes| Blob(bytes.to_vec()))
    }
}

/// A SHA-256 on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Hash(pub [u8; 32]);

impl From<ArtifactHash> for Hash {
    fn from(hash: ArtifactHash) -> Hash {
        Hash(hash.0)
    }
}

impl From<Hash> for ArtifactHash {
    fn from(hash: Hash) -> ArtifactHash {
        ArtifactHash(hash.0)
    }
}

/// A sealing key on the wire, which is encrypted. Debug shows nothing of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireKey(pub Key);

impl Serialize for WireKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.with(|bytes| bytes.serialize(serializer))
    }
}

impl<'de> Deserialize<'de> for WireKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<WireKey, D::Error> {
        let bytes = Zeroizing::new(<[u8; 32]>::deserialize(deserializer)?);
        Key::new(&bytes).map(WireKey).map_err(D::Error::custom)
    }
}

/// Why a peer's bytes are no message. Ends the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Over `FRAME_BYTES_MAX`, or without room for the version byte.
    #[error("frame of {0} bytes is outside 1 to {FRAME_BYTES_MAX}")]
    Length(u32),
    /// Another protocol version.
    #[error("protocol version {0} is not the one spoken here ({PROTOCOL_VERSION})")]
    Version(u8),
    /// The body is no message, or has bytes left over.
    #[error("frame's body is no message")]
    Body,
    /// A message to be sent is over `FRAME_BYTES_MAX`: a fault of the sender.
    #[error("message of {0} bytes does not fit a frame")]
    TooLarge(usize),
}

/// Appends a message's frame to `out`. On an error `out` is as before.
pub fn encode<M: Serialize>(message: &M, out: &mut Vec<u8>) -> Result<(), WireError> {
    let start = out.len();
    out.extend_from_slice(&[0; LENGTH_BYTES]);
    out.push(PROTOCOL_VERSION);
    let taken = std::mem::take(out);
    // Serialising into memory fails only where a type cannot be serialised at all, which none here is.
    *out = postcard::to_extend(message, taken).map_err(|_| WireError::Body)?;
    let length = out.len() - start - LENGTH_BYTES;
    if length > FRAME_BYTES_MAX {
        out.truncate(start);
        return Err(WireError::TooLarge(length));
    }
    out[start..start + LENGTH_BYTES].copy_from_slice(&(length as u32).to_le_bytes());
    Ok(())
}

/// Makes messages of bytes.
#[derive(Debug)]
pub struct Decoder<M> {
    buffer: Vec<u8>,
    /// Bytes of `buffer` that are consumed.
    start: usize,
    failed: Option<WireError>,
    message: PhantomData<fn() -> M>,
}

impl<M: DeserializeOwned> Default for Decoder<M> {
    fn default() -> Decoder<M> {
        Decoder::new()
    }
}

impl<M: DeserializeOwned> Decoder<M> {
    /// A decoder at the beginning of a connection.
    pub fn new() -> Decoder<M> {
        Decoder { buffer: Vec::new(), start: 0, failed: None, message: PhantomData }
    }

    /// Takes bytes as they came.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next message, if it is complete. After an error every call gives that error.
    pub fn poll(&mut self) -> Result<Option<M>, WireError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let result = self.decode();
        if let Err(error) = result {
            self.failed = Some(error);
            self.buffer = Vec::new();
            self.start = 0;
        }
        result
    }

    fn decode(&mut self) -> Result<Option<M>, WireError> {
        let rest = self.buffer.get(self.start..).unwrap_or_default();
        let Some((length, rest)) = rest.split_first_chunk::<LENGTH_BYTES>() else {
            return Ok(None);
        };
        let length = u32::from_le_bytes(*length);
        if length == 0 || length as usize > FRAME_BYTES_MAX {
            return Err(WireError::Length(length));
        }
        // Another version's frames may be of another form: it is told from the first byte, before the rest is there.
        match rest.first() {
            Some(&PROTOCOL_VERSION) | None => {}
            Some(&version) => return Err(WireError::Version(version)),
        }
        let Some(frame) = rest.get(..length as usize) else {
            return Ok(None);
        };
        let (message, left) = postcard::take_from_bytes(&frame[1..]).map_err(|_| WireError::Body)?;
        if !left.is_empty() {
            return Err(WireError::Body);
        }
        self.start += LENGTH_BYTES + length as usize;
        Ok(Some(message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn samples() -> Vec<ToNode> {
        let hash = Hash([9; 32]);
        vec![
            ToNode::Welcome(Welcome {
                lineage: Lineage(7),
                env_keys: vec![WireKey(Key::from_bytes([3; 32]))],
                heartbeat_ms: 1000,
            }),
            ToNode::SnapshotBegin(SnapshotBegin {
                lineage: Lineage(u128::MAX),
                generation: 5,
                total_bytes: 9,
                checksum: 1,
                delta: Some(DeltaFrom { generation: 4, checksum: u64::MAX, bytes: 300 }),
            }),
            ToNode::BasePart(BasePart { id: BaseId { checksum: 3, bytes: 500 }, offset: 2, bytes: Blob(vec![1; 40]) }),
            ToNode::BaseMissing(BaseId { checksum: u64::MAX, bytes: 1 }),
            ToNode::SnapshotPart(Blob(vec![0; 300])),
            ToNode::SnapshotEnd { generation: u64::MAX },
            ToNode::ArtifactPart(ArtifactPart { hash, total_bytes: 3, offset: 0, bytes: Blob(b"abc".to_vec()) }),
            ToNode::ArtifactMissing(hash),
            ToNode::Ping(0),
            ToNode::Fleet(vec!["node-1".to_owned(), "node-2".to_owned()]),
        ]
    }

    fn encoded(messages: &[ToNode]) -> Vec<u8> {
        let mut out = Vec::new();
        for message in messages {
            encode(message, &mut out).unwrap();
        }
        out
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_messages(cuts in proptest::collection::vec(0usize..600, 0..20)) {
            let messages = samples();
            let bytes = encoded(&messages);
            let mut places: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            places.extend([0, bytes.len()]);
            places.sort_unstable();
            let (mut decoder, mut got) = (Decoder::<ToNode>::new(), Vec::new());
            for pair in places.windows(2) {
                decoder.push(&bytes[pair[0]..pair[1]]);
                while let Some(message) = decoder.poll().unwrap() {
                    got.push(message);
                }
            }
            prop_assert_eq!(got, messages);
        }

        #[test]
        fn any_bytes_end_in_messages_waiting_or_a_lasting_error(bytes in proptest::collection::vec(any::<u8>(), 0..400), valid_head in any::<bool>()) {
            let mut input = Vec::new();
            if valid_head {
                input.extend_from_slice(&(bytes.len() as u32 + 1).to_le_bytes());
                input.push(PROTOCOL_VERSION);
            }
            input.extend_from_slice(&bytes);
            let mut decoder = Decoder::<ToControl>::new();
            decoder.push(&input);
            for _ in 0..=input.len() {
                match decoder.poll() {
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                    Err(error) => {
                        decoder.push(&encoded(&[ToNode::Ping(1)]));
                        prop_assert_eq!(decoder.poll(), Err(error));
                        break;
                    }
                }
            }
        }
    }

    #[test]
    fn lengths_versions_and_leftovers_are_refused_at_once() {
        let refused = |bytes: &[u8]| {
            let mut decoder = Decoder::<ToNode>::new();
            decoder.push(bytes);
            decoder.poll().expect_err("refused")
        };
        assert_eq!(refused(&[0; 4]), WireError::Length(0));
        let over = FRAME_BYTES_MAX as u32 + 1;
        assert_eq!(refused(&over.to_le_bytes()), WireError::Length(over));
        assert_eq!(refused(&[200, 0, 0, 0, 9]), WireError::Version(9));
        assert_eq!(refused(&[1, 0, 0, 0, PROTOCOL_VERSION]), WireError::Body);
        let mut leftover = encoded(&[ToNode::Ping(1)]);
        leftover[0] += 1;
        leftover.push(0);
        assert_eq!(refused(&leftover), WireError::Body);
    }

    #[test]
    fn a_message_over_the_limit_is_not_encoded() {
        let mut out = b"before".to_vec();
        let error = encode(&ToNode::SnapshotPart(Blob(vec![0; FRAME_BYTES_MAX])), &mut out).unwrap_err();
        assert!(matches!(error, WireError::TooLarge(_)));
        assert_eq!(out, b"before");
    }

    #[test]
    fn a_full_part_fits_a_frame_and_keys_do_not_show() {
        let part = ToNode::ArtifactPart(ArtifactPart {
            hash: Hash([0; 32]),
            total_bytes: u64::MAX,
            offset: u64::MAX,
            bytes: Blob(vec![0; crate::limits::PART_BYTES]),
        });
        encode(&part, &mut Vec::new()).unwrap();
        assert!(format!("{:?}", samples()[0]).contains("redacted"));
    }
}
