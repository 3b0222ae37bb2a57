//! Limits of a snapshot and of the push protocol, with their arithmetic. Those that other crates need too are in
//! `base::limits`.

use base::limits::{FRAME_BYTES_MAX, KIB, MIB, SNAPSHOT_BYTES_MAX};

/// A host name in text form, bytes (RFC 1035 §2.3.4: 255 on the wire, 253 as text without the trailing dot).
pub const HOST_BYTES_MAX: usize = 253;
/// A label of a host name, bytes (RFC 1035 §2.3.4).
pub const LABEL_BYTES_MAX: usize = 63;
/// Name of a deployment, a binding or its target, bytes (seed 000, `VARCHAR(255)`).
pub const NAME_BYTES_MAX: usize = 255;
/// What a service binding gives to the Worker that it leads to, bytes of JSON.
pub const PROPS_BYTES_MAX: usize = 4 * KIB;
/// Where a service binding leads, bytes: a name's length, a line feed, and what it gives.
pub const SERVICE_TARGET_BYTES_MAX: usize = NAME_BYTES_MAX + 1 + PROPS_BYTES_MAX;
/// All environment variables of one deployment before sealing, bytes: 128 variables of 5 KiB, the limits Workers have,
/// and their names.
pub const ENV_BYTES_MAX: usize = 128 * (5 * KIB + NAME_BYTES_MAX);
/// What sealing adds to a plaintext, bytes: format, nonce, tag.
pub const SEAL_OVERHEAD_BYTES: usize = 1 + 12 + 16;
/// Bindings of one deployment.
pub const BINDINGS_MAX: usize = 256;
/// All of a deployment's requests, as a share: in hundredths of a percent.
pub const SHARE_WHOLE: u32 = 10_000;
/// Versions whose requests a node counts for one heartbeat.
pub const VERSIONS_COUNTED_MAX: usize = 1024;
/// Deployments whose requests a node counts for one heartbeat.
pub const TRAFFIC_COUNTED_MAX: usize = 4096;
/// Schedules of one deployment (Cloudflare's limit of an account).
pub const SCHEDULES_MAX: usize = 250;
/// One part of a snapshot or artifact on the wire, bytes: small, so that a ping or an acknowledgement never waits for
/// more than one of them.
pub const PART_BYTES: usize = 256 * KIB;
/// Log records of one frame.
pub const LOG_BATCH_RECORDS_MAX: usize = 256;
/// Text of all log records of one frame, bytes.
pub const LOG_BATCH_BYTES_MAX: usize = MIB;
/// Name of a node, bytes: one DNS label, for it stands in its certificate as one.
pub const NODE_NAME_BYTES_MAX: usize = 63;

const _: () = assert!(PART_BYTES + KIB <= FRAME_BYTES_MAX, "a part with its frame's other fields fits a frame");
const _: () =
    assert!(LOG_BATCH_BYTES_MAX + base::limits::LOG_BYTES_MAX + LOG_BATCH_RECORDS_MAX * 64 <= FRAME_BYTES_MAX);
const _: () = assert!(SNAPSHOT_BYTES_MAX < u32::MAX as usize, "offsets into strings and counts of records are u32");
const _: () = assert!(base::limits::PATTERN_BYTES_MAX <= u16::MAX as usize, "a path's length is a u16");
