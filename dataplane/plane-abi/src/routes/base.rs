//! `RouteBase`: a route table in a file of its own, which many snapshots in a row refer to.
//!
//! ```text
//! header (56 bytes) | deployments that routes lead to, ascending (u128 each) | table, whose targets are places among those
//! ```
//! Header: 0 magic, 8 format, 12 deployments, 16 total bytes, 24 lineage, 40 checksum, 48 zero. The checksum is xxh3-64 over
//! everything but itself. A base has no generation: it is what its bytes say, and a [`BaseId`] names it. What a later
//! snapshot adds to it, takes from it or leads elsewhere stands in that snapshot, as does every deployment; a route to a
//! deployment that the snapshot has not is no route.
//!
//! [`RouteBase::open`] checks frame and checksum, some 30 ms for 200 MB that are in memory; [`RouteBase::verify`] also every
//! record, once, when a base has come in and before anything serves from it. After that its checksum vouches for it, and a
//! reader of bytes that changed all the same gets wrong answers and nothing worse.
//!
//! Threads: immutable, shared by all. Failures: [`SnapshotError`].

use std::{fmt, fs::File, ops::Range, path::Path, sync::Arc};

use base::id::DeploymentId;

use super::Table;
use super::build::{RouteSet, TableWriter};
use super::trie::Leaf;
use crate::layout::{array_at, u32_at, u64_at, u128_at};
use crate::snapshot::{Backing, Lineage, SnapshotError};
use crate::writer::{NewRoute, WriteError};

const MAGIC: [u8; 8] = *b"SLVGROUT";
const HEADER_BYTES: usize = 56;
const CHECKSUM_AT: usize = 40;
const TARGET_BYTES: usize = 16;
const LABEL: &str = "base routes";

/// Which base: what its bytes hash to, and how many they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct BaseId {
    /// Its checksum.
    pub checksum: u64,
    /// Its size.
    pub bytes: u64,
}

impl fmt::Display for BaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{}", self.checksum, self.bytes)
    }
}

impl std::str::FromStr for BaseId {
    type Err = ();

    /// Reads what `Display` writes.
    fn from_str(text: &str) -> Result<BaseId, ()> {
        let (checksum, bytes) = text.split_once('-').ok_or(())?;
        let checksum = u64::from_str_radix(checksum, 16).map_err(drop)?;
        let id = BaseId { checksum, bytes: bytes.parse().map_err(drop)? };
        if id.to_string() == text { Ok(id) } else { Err(()) }
    }
}

/// A route table in a file of its own. See the module's text.
pub struct RouteBase {
    backing: Backing,
    lineage: Lineage,
    targets: Range<usize>,
    table_at: usize,
    table: Table,
}

impl fmt::Debug for RouteBase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RouteBase").field("id", &self.id()).field("routes", &self.routes_len()).finish_non_exhaustive()
    }
}

fn malformed(record: usize, problem: &'static str) -> SnapshotError {
    SnapshotError::Malformed { section: LABEL, record, problem }
}

fn checksum(bytes: &[u8]) -> u64 {
    let mut hash = xxhash_rust::xxh3::Xxh3::new();
    hash.update(bytes.get(..CHECKSUM_AT).unwrap_or_default());
    hash.update(bytes.get(CHECKSUM_AT + 8..).unwrap_or_default());
    hash.digest()
}

impl RouteBase {
    /// Maps a file and checks its frame and checksum. The file must be complete and never be written again; renaming and
    /// unlinking it are fine.
    pub fn open(path: &Path) -> Result<RouteBase, SnapshotError> {
        RouteBase::check(Backing::map(&File::open(path)?, HEADER_BYTES)?)
    }

    /// The same for bytes in memory.
    pub fn from_vec(bytes: Vec<u8>) -> Result<RouteBase, SnapshotError> {
        RouteBase::check(Backing::Memory(bytes))
    }

    fn check(backing: Backing) -> Result<RouteBase, SnapshotError> {
        let bytes = backing.bytes();
        let actual = bytes.len() as u64;
        if bytes.len() < HEADER_BYTES {
            return Err(SnapshotError::Length { expected: HEADER_BYTES as u64, actual });
        }
        if bytes.len() > base::limits::SNAPSHOT_BYTES_MAX {
            return Err(SnapshotError::TooLarge(actual));
        }
        if !bytes.starts_with(&MAGIC) {
            return Err(SnapshotError::Magic);
        }
        if u32_at(bytes, 8) != crate::FORMAT_VERSION {
            return Err(SnapshotError::Format(u32_at(bytes, 8)));
        }
        if u64_at(bytes, 16) != actual {
            return Err(SnapshotError::Length { expected: u64_at(bytes, 16), actual });
        }
        let (expected, actual) = (u64_at(bytes, CHECKSUM_AT), checksum(bytes));
        if expected != actual {
            return Err(SnapshotError::Checksum { expected, actual });
        }
        let table_at = HEADER_BYTES + u32_at(bytes, 12) as usize * TARGET_BYTES;
        let table = bytes.get(table_at..).and_then(Table::read).ok_or(malformed(0, "no table"))?;
        let lineage = Lineage(u128_at(bytes, 24));
        Ok(RouteBase { lineage, targets: HEADER_BYTES..table_at, table_at, table, backing })
    }

    /// Checks every record. A second or two for ten million routes.
    pub fn verify(&self) -> Result<(), SnapshotError> {
        if u64_at(self.bytes(), 48) != 0 || self.table.routes() == 0 {
            return Err(malformed(0, "a header in another form"));
        }
        let count = self.targets_len();
        if (1..count).any(|index| self.target(index - 1) >= self.target(index)) {
            return Err(malformed(0, "deployments are not ascending"));
        }
        let mut used = vec![false; count];
        let mut target = |target: u32| match used.get_mut(target as usize) {
            Some(used) => {
                *used = true;
                Ok(())
            }
            None => Err("leads to no deployment"),
        };
        let verified = self.table.verify(self.table_bytes(), self.lineage.0, &mut target);
        verified.map_err(|(record, problem)| malformed(record, problem))?;
        if used.contains(&false) { Err(malformed(0, "a deployment without a route")) } else { Ok(()) }
    }

    /// Writes the base of these routes; those to one deployment twice count once.
    pub fn write(lineage: Lineage, routes: impl IntoIterator<Item = NewRoute>) -> Result<Vec<u8>, WriteError> {
        let mut set = RouteSet::new(lineage.0);
        for NewRoute { host_kind, host, path_kind, path, deployment } in routes {
            set.add((host_kind, &host), (path_kind, &path), deployment)?;
        }
        set.sort()?;
        RouteBase::write_set(&set, lineage)
    }

    /// Writes the base of a sorted set.
    pub(crate) fn write_set(set: &RouteSet, lineage: Lineage) -> Result<Vec<u8>, WriteError> {
        let mut targets: Vec<DeploymentId> = set.owners().to_vec();
        targets.sort_unstable();
        let places: Vec<u32> =
            set.owners().iter().map(|id| targets.partition_point(|other| other < id) as u32).collect();
        let mut table = TableWriter::new((targets.len() as u32).saturating_sub(1));
        let mut leaves: Vec<Leaf<'_>> = Vec::new();
        for run in set.runs() {
            leaves.clear();
            leaves.extend(set.leaves(run).map(|leaf| Leaf { target: places[leaf.target as usize], ..leaf }));
            let (kind, hash, host) = set.host_of(run);
            table.host(kind, hash, host, &leaves);
        }
        let table = table.finish()?;
        let total = HEADER_BYTES + targets.len() * TARGET_BYTES + table.len();
        if total > base::limits::SNAPSHOT_BYTES_MAX {
            return Err(WriteError::TooLarge(total));
        }
        let mut out = Vec::with_capacity(total);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&crate::FORMAT_VERSION.to_le_bytes());
        out.extend_from_slice(&(targets.len() as u32).to_le_bytes());
        out.extend_from_slice(&(total as u64).to_le_bytes());
        out.extend_from_slice(&lineage.0.to_le_bytes());
        out.extend_from_slice(&[0; 16]);
        for target in &targets {
            out.extend_from_slice(&target.0.to_le_bytes());
        }
        out.extend_from_slice(&table);
        let checksum = checksum(&out);
        out[CHECKSUM_AT..CHECKSUM_AT + 8].copy_from_slice(&checksum.to_le_bytes());
        Ok(out)
    }

    /// What names it.
    pub fn id(&self) -> BaseId {
        BaseId { checksum: u64_at(self.bytes(), CHECKSUM_AT), bytes: self.bytes().len() as u64 }
    }

    /// Whose hosts' hashes it has.
    pub fn lineage(&self) -> Lineage {
        self.lineage
    }

    /// Its bytes, as on the wire and on disk.
    pub fn bytes(&self) -> &[u8] {
        self.backing.bytes()
    }

    /// Number of its routes.
    pub fn routes_len(&self) -> usize {
        self.table.routes()
    }

    /// Number of its hosts; a host with both kinds of patterns counts twice.
    pub fn hosts_len(&self) -> usize {
        self.table.hosts_len()
    }

    pub(crate) fn table(&self) -> (&Table, &[u8]) {
        (&self.table, self.table_bytes())
    }

    fn table_bytes(&self) -> &[u8] {
        self.bytes().get(self.table_at..).unwrap_or_default()
    }

    fn targets_len(&self) -> usize {
        self.targets.len() / TARGET_BYTES
    }

    fn target(&self, index: usize) -> DeploymentId {
        let at = self.targets.start + index * TARGET_BYTES;
        DeploymentId(array_at(self.bytes(), at).map_or(0, u128::from_le_bytes))
    }

    /// The deployments that its routes lead to, by target.
    pub(crate) fn targets(&self) -> impl Iterator<Item = DeploymentId> + '_ {
        (0..self.targets_len()).map(|index| self.target(index))
    }
}

/// Where bases are found by who opens a snapshot.
pub type FindBase<'a> = &'a dyn Fn(BaseId) -> Result<Arc<RouteBase>, SnapshotError>;
