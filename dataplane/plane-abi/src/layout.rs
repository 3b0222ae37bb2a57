//! The bytes of a snapshot: what stands where, and how to read it without trusting it.
//!
//! ```text
//! header (72 bytes) | section table (11 × 24 bytes) | sections, each at a multiple of 8, in the table's order
//! ```
//! All integers are little-endian. Every section is there, in the order of [`Section`], with nothing between two but
//! zero bytes up to the next multiple of 8: one state has one form. Records are of fixed size and refer to each other by
//! index and to text by (offset, length) into the strings.
//!
//! | record | fields at byte |
//! |---|---|
//! | header | 0 magic, 8 format, 12 sections, 16 generation, 24 total bytes, 32 lineage, 48 created (Unix ms), 56 env key id, 64 checksum |
//! | table entry | 0 kind, 4 record bytes, 8 offset, 16 bytes |
//! | meta | 0 platform domain, 8 the base's checksum, 16 its bytes (both zero for none) |
//! | deployment | 0 id, 16 account, 32 artifact, 64 artifact bytes, 72 env offset, 80 updated (Unix s), 88 env bytes, 92 version, 96 status (u8), 97 distribution (u8), 98 weight (u16; 0 for 100), 100 CPU ms, 104 name, 112 subdomain, 120 compatibility date, 128 first binding, 132 bindings |
//! | name | 0 hash, 8 text offset, 12 text bytes (u16), 14 kind (u16), 16 deployment |
//! | routes | [`crate::routes`], one for the whole section |
//! | binding | 0 kind, 4 zero, 8 name, 16 target |
//! | steering | [`crate::steering::Rules`], one for the whole section |
//! | schedule | 0 deployment, 4 zero, 8 expression |
//! | candidate | a deployment's record with another version's artifact, date and bindings, 136 the deployment's place, 140 its share |
//!
//! A *name* is a subdomain. Names are sorted by (hash, kind, text); the directory before them holds, for each value of the
//! hash's top bits, where its names begin, so that a lookup reads one directory entry and, on average, one name.
//!
//! Without a base the routes are all there are, and a target is a deployment's place plus one. With one
//! ([`crate::routes::base`]) they are what this snapshot adds to the base or leads elsewhere; target zero takes a pattern of
//! the base away.
//!
//! Section kinds and record sizes are part of the format version; a later version may add sections.
//! The checksum is xxh3-64 over everything but itself: it finds accidents. Authenticity is the TLS connection's matter.

use std::ops::Range;
use xxhash_rust::xxh3::{Xxh3, xxh3_64_with_seed};

/// Version of the layout; a node reads exactly this one.
pub const FORMAT_VERSION: u32 = 7;

pub(crate) const MAGIC: [u8; 8] = *b"SLVGPLAN";
pub(crate) const HEADER_BYTES: usize = 72;
pub(crate) const CHECKSUM_AT: usize = 64;
pub(crate) const TABLE_ENTRY_BYTES: usize = 24;
pub(crate) const SECTIONS: usize = 11;
pub(crate) const SECTIONS_AT: usize = HEADER_BYTES + SECTIONS * TABLE_ENTRY_BYTES;

pub(crate) const DEPLOYMENT_BYTES: usize = 136;
pub(crate) const NAME_BYTES: usize = 20;
pub(crate) const META_BYTES: usize = 24;
pub(crate) const BINDING_BYTES: usize = 24;
pub(crate) const SCHEDULE_BYTES: usize = 16;
pub(crate) const CANDIDATE_BYTES: usize = DEPLOYMENT_BYTES + 8;

const _: () = assert!(SECTIONS_AT.is_multiple_of(8) && DEPLOYMENT_BYTES.is_multiple_of(8));

/// The sections, in the order they stand in. A kind's number is its place plus one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Section {
    Meta = 0,
    Strings = 1,
    Blobs = 2,
    Deployments = 3,
    SubdomainDirectory = 4,
    Subdomains = 5,
    Routes = 6,
    Bindings = 7,
    Steering = 8,
    Schedules = 9,
    Candidates = 10,
}

impl Section {
    pub(crate) const ALL: [Section; SECTIONS] = [
        Section::Meta,
        Section::Strings,
        Section::Blobs,
        Section::Deployments,
        Section::SubdomainDirectory,
        Section::Subdomains,
        Section::Routes,
        Section::Bindings,
        Section::Steering,
        Section::Schedules,
        Section::Candidates,
    ];

    pub(crate) fn record_bytes(self) -> usize {
        match self {
            Section::Meta => META_BYTES,
            Section::Strings | Section::Blobs | Section::Routes | Section::Steering => 1,
            Section::SubdomainDirectory => 4,
            Section::Deployments => DEPLOYMENT_BYTES,
            Section::Subdomains => NAME_BYTES,
            Section::Bindings => BINDING_BYTES,
            Section::Schedules => SCHEDULE_BYTES,
            Section::Candidates => CANDIDATE_BYTES,
        }
    }

    /// Name in error messages.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Section::Meta => "meta",
            Section::Strings => "strings",
            Section::Blobs => "blobs",
            Section::Deployments => "deployments",
            Section::SubdomainDirectory => "subdomain directory",
            Section::Subdomains => "subdomains",
            Section::Routes => "routes",
            Section::Bindings => "bindings",
            Section::Steering => "steering",
            Section::Schedules => "schedules",
            Section::Candidates => "candidates",
        }
    }
}

/// Smallest multiple of 8 that is not below `at`.
pub(crate) fn align8(at: usize) -> usize {
    at.div_ceil(8) * 8
}

/// The checksum of a whole snapshot: everything but the eight bytes it stands in.
pub(crate) fn checksum(bytes: &[u8]) -> u64 {
    let mut hash = Xxh3::new();
    hash.update(bytes.get(..CHECKSUM_AT).unwrap_or_default());
    hash.update(bytes.get(HEADER_BYTES..).unwrap_or_default());
    hash.digest()
}

/// Hash of a name. The lineage is the seed: it is random and known to no tenant, so nobody can choose names that fall
/// together, and it stays the same from one generation to the next, so that unchanged names stay where they are.
pub(crate) fn name_hash(lineage: u128, kind: u16, name: &[u8]) -> u64 {
    let seed = (lineage as u64) ^ ((lineage >> 64) as u64).rotate_left(32);
    xxh3_64_with_seed(name, seed.wrapping_add(u64::from(kind)))
}

/// Buckets of a directory over `names` names: a power of two, at least one.
pub(crate) fn directory_buckets(names: usize) -> usize {
    names.max(1).next_power_of_two()
}

/// The bucket of a hash: its top bits.
pub(crate) fn bucket(hash: u64, buckets: usize) -> usize {
    if buckets <= 1 { 0 } else { (hash >> (64 - buckets.trailing_zeros())) as usize }
}

// Readers. Out of range reads as zero or empty: a validated snapshot has no such place, and if its file were changed
// behind our back the answer would be wrong but never undefined.

pub(crate) fn u8_at(bytes: &[u8], at: usize) -> u8 {
    bytes.get(at).copied().unwrap_or_default()
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    array_at(bytes, at).map_or(0, u16::from_le_bytes)
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    array_at(bytes, at).map_or(0, u32::from_le_bytes)
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    array_at(bytes, at).map_or(0, u64::from_le_bytes)
}

pub(crate) fn u128_at(bytes: &[u8], at: usize) -> u128 {
    array_at(bytes, at).map_or(0, u128::from_le_bytes)
}

pub(crate) fn array_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk::<N>().copied()
}

/// The `index`th record of `size` bytes.
pub(crate) fn record(section: &[u8], index: usize, size: usize) -> Option<&[u8]> {
    let start = index.checked_mul(size)?;
    section.get(start..start.checked_add(size)?)
}

/// A (offset, length) pair of u32 as a range.
pub(crate) fn span_at(bytes: &[u8], at: usize) -> Range<usize> {
    let start = u32_at(bytes, at) as usize;
    start..start + u32_at(bytes, at + 4) as usize
}

/// A name record, copied out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NameRecord {
    pub(crate) hash: u64,
    pub(crate) text_at: u32,
    pub(crate) text_bytes: u16,
    pub(crate) kind: u16,
    pub(crate) deployment: u32,
}

impl NameRecord {
    pub(crate) fn read(names: &[u8], index: usize) -> Option<NameRecord> {
        let bytes = record(names, index, NAME_BYTES)?;
        Some(NameRecord {
            hash: u64_at(bytes, 0),
            text_at: u32_at(bytes, 8),
            text_bytes: u16_at(bytes, 12),
            kind: u16_at(bytes, 14),
            deployment: u32_at(bytes, 16),
        })
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.hash.to_le_bytes());
        out.extend_from_slice(&self.text_at.to_le_bytes());
        out.extend_from_slice(&self.text_bytes.to_le_bytes());
        out.extend_from_slice(&self.kind.to_le_bytes());
        out.extend_from_slice(&self.deployment.to_le_bytes());
    }

    pub(crate) fn text<'a>(&self, strings: &'a [u8]) -> &'a [u8] {
        let start = self.text_at as usize;
        strings.get(start..start + usize::from(self.text_bytes)).unwrap_or_default()
    }
}
