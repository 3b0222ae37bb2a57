//! The route table: host and path → a number. Read in place, shared by all shards.
//!
//! ```text
//! header (32 bytes) | directory of exact hosts | directory of wildcard hosts | records of both, in the directories' order
//! ```
//! | part | bytes |
//! |---|---|
//! | header | 0 routes, 4 exact hosts, 8 wildcard hosts, 12 width of a target (u8), 13 zero, 16 the numbers of labels that wildcard hosts have (bit set, u128) |
//! | directory | `2 × hosts + 1` places (u32) in the records: where each bucket's begin, and the end; nothing for no hosts |
//! | record | 1 the host's length, the host, the tree's length (LEB128), the tree of its patterns ([`trie`]) |
//!
//! A host's bucket is its hash times the number of buckets, its top 64 bits; records stand by (hash, host), so that those of
//! a bucket follow each other. A lookup reads one place of the directory, the record there, and of its tree the nodes along
//! the path: three or four cache misses, however many hosts and routes there are. The hash's seed is the lineage, which no
//! tenant knows. A host for which no record is there costs the directory alone in three of five cases.
//!
//! A table stands in two places: in a snapshot (its own routes, or what it changes of a base), and alone in a file: the
//! [`base`]. *Bounds:* 4 GiB of records, [`HOST_BYTES_MAX`], `PATTERN_BYTES_MAX`. *Invariant:* one set of routes has one
//! form; [`Table::verify`] refuses every other. Reading unverified bytes may give wrong answers and nothing worse.

pub(crate) mod base;
pub(crate) mod build;
pub(crate) mod overlay;
pub(crate) mod trie;

use std::ops::Range;

use crate::layout::{name_hash, u32_at, u128_at};
use crate::limits::HOST_BYTES_MAX;
use crate::snapshot::HostKind;
use trie::Width;

pub(crate) const HEADER_BYTES: usize = 32;
const LENGTH_BYTES_MAX: usize = 5;

/// Buckets of a directory.
pub(crate) fn buckets(hosts: usize) -> usize {
    hosts * 2
}

/// The bucket of a hash. Ascending with it.
#[inline]
pub(crate) fn bucket(hash: u64, buckets: usize) -> usize {
    ((u128::from(hash) * buckets as u128) >> 64) as usize
}

fn directory_bytes(hosts: usize) -> usize {
    if hosts == 0 { 0 } else { (buckets(hosts) + 1) * 4 }
}

/// Labels of a host, as a bit; hosts have 127 at most.
pub(crate) fn label_bit(host: &[u8]) -> u128 {
    let dots = host.iter().filter(|byte| **byte == b'.').count();
    1 << (dots + 1).min(127)
}

/// Where the parts of a table are, read from its header once.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    width: Width,
    routes: usize,
    labels: u128,
    /// By [`HostKind`]: hosts, and where the directory is.
    kinds: [(usize, Range<usize>); 2],
    records: Range<usize>,
}

/// One host of a table.
#[derive(Clone, Copy)]
pub(crate) struct Host<'a> {
    pub(crate) host: &'a [u8],
    pub(crate) tree: &'a [u8],
}

impl Table {
    /// Reads the header. None: the bytes are no table. No bytes are the empty table.
    pub(crate) fn read(bytes: &[u8]) -> Option<Table> {
        if bytes.is_empty() {
            let none = (0, 0..0);
            return Some(Table {
                width: Width::of(0),
                routes: 0,
                labels: 0,
                kinds: [none.clone(), none],
                records: 0..0,
            });
        }
        if bytes.len() < HEADER_BYTES || bytes[13..16] != [0; 3] || bytes.len() - HEADER_BYTES > u32::MAX as usize {
            return None;
        }
        let width = Width::from_bytes(bytes[12])?;
        let (exact, wildcard) = (u32_at(bytes, 4) as usize, u32_at(bytes, 8) as usize);
        let exact_end = HEADER_BYTES + directory_bytes(exact);
        let wildcard_end = exact_end + directory_bytes(wildcard);
        if wildcard_end > bytes.len() {
            return None;
        }
        Some(Table {
            width,
            routes: u32_at(bytes, 0) as usize,
            labels: u128_at(bytes, 16),
            kinds: [(exact, HEADER_BYTES..exact_end), (wildcard, exact_end..wildcard_end)],
            records: wildcard_end..bytes.len(),
        })
    }

    pub(crate) fn width(&self) -> Width {
        self.width
    }

    pub(crate) fn routes(&self) -> usize {
        self.routes
    }

    pub(crate) fn hosts_len(&self) -> usize {
        self.kinds.iter().map(|(hosts, _)| hosts).sum()
    }

    /// The numbers of labels that its wildcard hosts have, as [`label_bit`]s.
    #[inline]
    pub(crate) fn wildcard_labels(&self) -> u128 {
        self.labels
    }

    /// The tree of a host whose hash is [`name_hash`] of it.
    #[inline]
    pub(crate) fn find<'a>(&self, bytes: &'a [u8], kind: HostKind, hash: u64, host: &[u8]) -> Option<&'a [u8]> {
        let (hosts, directory) = &self.kinds[usize::from(kind.code())];
        if *hosts == 0 {
            return None;
        }
        let at = directory.start + bucket(hash, buckets(*hosts)) * 4;
        let (start, end) = (u32_at(bytes, at) as usize, u32_at(bytes, at + 4) as usize);
        let mut rest = bytes.get(self.records.clone())?.get(start..end)?;
        fetch_ahead(rest);
        // Ends: each record takes bytes off.
        while !rest.is_empty() {
            let record = next_record(&mut rest)?;
            if record.host == host {
                return Some(record.tree);
            }
        }
        None
    }

    /// All hosts of a kind, by (hash, host).
    pub(crate) fn hosts<'a>(&self, bytes: &'a [u8], kind: HostKind) -> impl Iterator<Item = Host<'a>> + use<'a> {
        let (hosts, directory) = &self.kinds[usize::from(kind.code())];
        let records = bytes.get(self.records.clone()).unwrap_or_default();
        let mut rest: &[u8] = &[];
        if *hosts > 0 {
            let (start, end) = (u32_at(bytes, directory.start), u32_at(bytes, directory.end - 4));
            rest = records.get(start as usize..end as usize).unwrap_or_default();
        }
        std::iter::from_fn(move || if rest.is_empty() { None } else { next_record(&mut rest) })
    }

    /// Checks everything: that this is the one form of some routes whose hosts are hashed with `lineage`. Calls `target`
    /// with each target.
    pub(crate) fn verify(
        &self,
        bytes: &[u8],
        lineage: u128,
        target: &mut dyn FnMut(u32) -> Result<(), &'static str>,
    ) -> Result<(), (usize, &'static str)> {
        let (mut at, mut host_index, mut routes, mut labels, mut greatest) = (0, 0, 0, 0u128, 0);
        let records = bytes.get(self.records.clone()).unwrap_or_default();
        for kind in [HostKind::Exact, HostKind::Wildcard] {
            let (hosts, directory) = &self.kinds[usize::from(kind.code())];
            let place = |bucket: usize| u32_at(bytes, directory.start + bucket * 4) as usize;
            let (mut next_bucket, mut before) = (0, None);
            for _ in 0..*hosts {
                let wrong = |problem| (host_index, problem);
                let start = at;
                let mut rest = records.get(at..).unwrap_or_default();
                let left = rest.len();
                let Host { host, tree } = next_record(&mut rest).ok_or(wrong("a record is cut off"))?;
                at += left - rest.len();
                if left - rest.len() != 1 + host.len() + length_bytes(tree.len()) + tree.len() {
                    return Err(wrong("a length in another form"));
                }
                let allowed = |byte: &u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.');
                if host.is_empty() || host.len() > HOST_BYTES_MAX || !host.iter().all(allowed) {
                    return Err(wrong("a host that no request has"));
                }
                let hash = name_hash(lineage, kind.code(), host);
                if before.replace((hash, host)).is_some_and(|before| before >= (hash, host)) {
                    return Err(wrong("hosts are not ascending"));
                }
                while next_bucket <= bucket(hash, buckets(*hosts)) {
                    if place(next_bucket) != start {
                        return Err(wrong("a bucket does not begin at its first host"));
                    }
                    next_bucket += 1;
                }
                if kind == HostKind::Wildcard {
                    labels |= label_bit(host);
                }
                let mut counted = |number| {
                    greatest = greatest.max(number);
                    target(number)
                };
                routes += trie::verify(tree, self.width, &mut counted).map_err(wrong)?;
                host_index += 1;
            }
            if *hosts > 0 && (next_bucket..=buckets(*hosts)).any(|bucket| place(bucket) != at) {
                return Err((host_index, "a bucket does not begin at the end"));
            }
        }
        let whole = at == records.len() && routes == self.routes && labels == self.labels;
        let empty = routes == 0 && !bytes.is_empty();
        if !whole || empty || self.width != Width::of(greatest) {
            return Err((host_index, "the header does not say what is there"));
        }
        Ok(())
    }
}

/// Asks for the first lines of a bucket's records at once: a walk along a tree finds out about one after the other, and would wait for memory
/// as often.
#[inline]
#[allow(unsafe_code)]
fn fetch_ahead(records: &[u8]) {
    const LINE_BYTES: usize = 64;
    const LINES_MAX: usize = 4;
    for line in records.chunks(LINE_BYTES).take(LINES_MAX) {
        // SAFETY: the instruction reads nothing and faults on nothing, whatever the address; this one is of bytes that we have.
        #[cfg(target_arch = "x86_64")]
        unsafe {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast());
        }
    }
}

/// Takes the next record off.
#[inline]
fn next_record<'a>(rest: &mut &'a [u8]) -> Option<Host<'a>> {
    let (&length, after) = rest.split_first()?;
    let (host, after) = after.split_at_checked(usize::from(length))?;
    let (mut tree_bytes, mut used) = (0usize, 0);
    loop {
        let byte = *after.get(used)?;
        tree_bytes |= usize::from(byte & 0x7f) << (7 * used);
        used += 1;
        if byte & 0x80 == 0 {
            break;
        }
        if used == LENGTH_BYTES_MAX {
            return None;
        }
    }
    let (tree, after) = after.get(used..)?.split_at_checked(tree_bytes)?;
    *rest = after;
    Some(Host { host, tree })
}

fn length_bytes(length: usize) -> usize {
    (usize::BITS - length.leading_zeros()).div_ceil(7).max(1) as usize
}

pub(crate) fn write_length(mut length: usize, out: &mut Vec<u8>) {
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
}
