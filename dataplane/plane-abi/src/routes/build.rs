//! Makes route tables: takes routes in any order, keeps them in two flat buffers (some 60 bytes a route), sorts once.

use std::collections::HashMap;

use base::id::DeploymentId;
use base::limits::PATTERN_BYTES_MAX;

use super::trie::{Encoder, Leaf, Width};
use super::{HEADER_BYTES, bucket, buckets, label_bit, write_length};
use crate::layout::name_hash;
use crate::limits::HOST_BYTES_MAX;
use crate::snapshot::{HostKind, PathKind};
use crate::writer::WriteError;

/// Routes to be written, in any order.
#[derive(Debug)]
pub(crate) struct RouteSet {
    lineage: u128,
    text: Vec<u8>,
    entries: Vec<Entry>,
    /// Deployments that routes lead to, by number.
    owners: Vec<DeploymentId>,
    numbers: HashMap<DeploymentId, u32>,
}

/// A route. Its host and path follow each other in the text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    hash: u64,
    text_at: u32,
    owner: u32,
    path_bytes: u16,
    host_bytes: u8,
    host_kind: HostKind,
    path_kind: PathKind,
}

impl RouteSet {
    pub(crate) fn new(lineage: u128) -> RouteSet {
        RouteSet { lineage, text: Vec::new(), entries: Vec::new(), owners: Vec::new(), numbers: HashMap::new() }
    }

    /// Deployments that routes lead to, each once.
    pub(crate) fn owners(&self) -> &[DeploymentId] {
        &self.owners
    }

    /// Adds a route: host and path in normal form.
    pub(crate) fn add(
        &mut self,
        (host_kind, host): (HostKind, &str),
        (path_kind, path): (PathKind, &str),
        deployment: DeploymentId,
    ) -> Result<(), WriteError> {
        check((host_kind, host), (path_kind, path))?;
        let text_at = u32::try_from(self.text.len()).map_err(|_| WriteError::TooLarge(self.text.len()))?;
        self.text.extend_from_slice(host.as_bytes());
        self.text.extend_from_slice(path.as_bytes());
        let owner = *self.numbers.entry(deployment).or_insert_with(|| {
            self.owners.push(deployment);
            self.owners.len() as u32 - 1
        });
        self.entries.push(Entry {
            hash: name_hash(self.lineage, host_kind.code(), host.as_bytes()),
            text_at,
            owner,
            path_bytes: path.len() as u16,
            host_bytes: host.len() as u8,
            host_kind,
            path_kind,
        });
        Ok(())
    }

    fn host(&self, entry: &Entry) -> &[u8] {
        let at = entry.text_at as usize;
        &self.text[at..at + usize::from(entry.host_bytes)]
    }

    fn path(&self, entry: &Entry) -> &[u8] {
        let at = entry.text_at as usize + usize::from(entry.host_bytes);
        &self.text[at..at + usize::from(entry.path_bytes)]
    }

    /// Sorts, and drops what is there twice. The same pattern for two deployments is an error, the same whatever the order
    /// they came in.
    pub(crate) fn sort(&mut self) -> Result<(), WriteError> {
        let mut entries = std::mem::take(&mut self.entries);
        entries.sort_unstable_by(|a, b| {
            let hosts = (a.host_kind, a.hash).cmp(&(b.host_kind, b.hash));
            let hosts = hosts.then_with(|| self.host(a).cmp(self.host(b)));
            hosts.then_with(|| (self.path(a), a.path_kind).cmp(&(self.path(b), b.path_kind)))
        });
        let same = |a: &Entry, b: &Entry| {
            a.hash == b.hash
                && (a.host_kind, a.path_kind) == (b.host_kind, b.path_kind)
                && (self.host(a), self.path(a)) == (self.host(b), self.path(b))
        };
        for run in entries.chunk_by(same).filter(|run| run.len() > 1) {
            let owners = run.iter().map(|entry| self.owners[entry.owner as usize]);
            if let (Some(first), Some(last)) = (owners.clone().min(), owners.max())
                && first != last
            {
                let route = text(run[0].host_kind, self.host(&run[0]), run[0].path_kind, self.path(&run[0]));
                return Err(WriteError::RouteConflict { route, first, second: last });
            }
        }
        entries.dedup_by(|a, b| same(a, b));
        self.entries = entries;
        Ok(())
    }

    /// The hosts of a sorted set, in the order of a table: each its run of entries.
    pub(crate) fn runs(&self) -> impl Iterator<Item = &[Entry]> {
        self.entries.chunk_by(|a, b| a.hash == b.hash && a.host_kind == b.host_kind && self.host(a) == self.host(b))
    }

    /// The host of a run. Tables are in the order of these.
    pub(crate) fn host_of(&self, run: &[Entry]) -> (HostKind, u64, &[u8]) {
        (run[0].host_kind, run[0].hash, self.host(&run[0]))
    }

    /// The patterns of a run, by (path, kind); their targets are owners' numbers.
    pub(crate) fn leaves<'a>(&'a self, run: &'a [Entry]) -> impl Iterator<Item = Leaf<'a>> {
        run.iter().map(|entry| Leaf { path: self.path(entry), kind: entry.path_kind, target: entry.owner })
    }
}

/// Writes a table host by host.
pub(crate) struct TableWriter {
    width: Width,
    encoder: Encoder,
    tree: Vec<u8>,
    routes: usize,
    labels: u128,
    /// By kind: each host's hash, and where its record begins.
    places: [Vec<(u64, u32)>; 2],
    records: Vec<u8>,
}

impl TableWriter {
    /// For targets up to `greatest`, which must be among them.
    pub(crate) fn new(greatest: u32) -> TableWriter {
        let width = Width::of(greatest);
        let (encoder, places) = (Encoder::new(width), [Vec::new(), Vec::new()]);
        TableWriter { width, encoder, tree: Vec::new(), routes: 0, labels: 0, places, records: Vec::new() }
    }

    /// Adds a host; hosts come by (kind, hash, host). No leaves: no host.
    pub(crate) fn host(&mut self, kind: HostKind, hash: u64, host: &[u8], leaves: &[Leaf<'_>]) {
        if leaves.is_empty() {
            return;
        }
        self.tree.clear();
        self.encoder.encode(leaves, &mut self.tree);
        if kind == HostKind::Wildcard {
            self.labels |= label_bit(host);
        }
        self.routes += leaves.len();
        self.places[usize::from(kind.code())].push((hash, self.records.len() as u32));
        self.records.push(host.len() as u8);
        self.records.extend_from_slice(host);
        write_length(self.tree.len(), &mut self.records);
        self.records.extend_from_slice(&self.tree);
    }

    /// The table's bytes; none for no routes.
    pub(crate) fn finish(self) -> Result<Vec<u8>, WriteError> {
        if self.routes == 0 {
            return Ok(Vec::new());
        }
        // Places wrap only past what is refused here.
        if self.records.len() > base::limits::SNAPSHOT_BYTES_MAX {
            return Err(WriteError::TooLarge(self.records.len()));
        }
        let directories = self.places.iter().map(|places| (buckets(places.len()) + 1) * 4).sum::<usize>();
        let mut out = Vec::with_capacity(HEADER_BYTES + directories + self.records.len());
        out.extend_from_slice(&(self.routes as u32).to_le_bytes());
        for places in &self.places {
            out.extend_from_slice(&(places.len() as u32).to_le_bytes());
        }
        out.extend_from_slice(&[self.width.bytes() as u8, 0, 0, 0]);
        out.extend_from_slice(&self.labels.to_le_bytes());
        let wildcards_at = self.places[1].first().map_or(self.records.len() as u32, |(_, at)| *at);
        for (places, end) in self.places.iter().zip([wildcards_at, self.records.len() as u32]) {
            if places.is_empty() {
                continue;
            }
            let mut bucket_next = 0;
            for (hash, at) in places {
                while bucket_next <= bucket(*hash, buckets(places.len())) {
                    out.extend_from_slice(&at.to_le_bytes());
                    bucket_next += 1;
                }
            }
            for _ in bucket_next..=buckets(places.len()) {
                out.extend_from_slice(&end.to_le_bytes());
            }
        }
        out.extend_from_slice(&self.records);
        Ok(out)
    }
}

/// Refuses a pattern that no table has.
pub(crate) fn check(
    (host_kind, host): (HostKind, &str),
    (path_kind, path): (PathKind, &str),
) -> Result<(), WriteError> {
    let host_ok = host.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.'));
    let path_ok = path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic());
    let lengths_ok = (1..=HOST_BYTES_MAX).contains(&host.len()) && path.len() <= PATTERN_BYTES_MAX;
    if host_ok && path_ok && lengths_ok {
        return Ok(());
    }
    Err(WriteError::Route(text(host_kind, host.as_bytes(), path_kind, path.as_bytes())))
}

/// A pattern as it is written.
pub(crate) fn text(host_kind: HostKind, host: &[u8], path_kind: PathKind, path: &[u8]) -> String {
    let wildcard = if host_kind == HostKind::Wildcard { "*." } else { "" };
    let star = if path_kind == PathKind::Prefix { "*" } else { "" };
    format!("{wildcard}{}{}{star}", String::from_utf8_lossy(host), String::from_utf8_lossy(path))
}
