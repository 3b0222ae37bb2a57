//! `Snapshot`: a compiled configuration, read in place.
//!
//! Owns the bytes (a vector, or a file mapped read-only). Does not decide which deployment a request goes to (crate
//! `route`), nor which snapshot is current ([`crate::plane`]).
//!
//! *Invariant:* a `Snapshot` that exists is whole: checksum, every offset and index, text as UTF-8 and every order were
//! checked when it was opened, so lookups have nothing to fail on.
//! Bounds: `base::limits::SNAPSHOT_BYTES_MAX` bytes. Failures: [`SnapshotError`], before anything is published.
//! Threads: immutable, shared by all.

use std::{collections::BTreeMap, fmt, fs::File, io, ops::Range, path::Path, sync::Arc};

use base::id::{AccountId, ArtifactHash, DeploymentId};
use memmap2::Mmap;

use crate::layout::{
    self, BINDING_BYTES, CANDIDATE_BYTES, DEPLOYMENT_BYTES, NAME_BYTES, NameRecord, SCHEDULE_BYTES, SECTIONS, Section,
    array_at, record, span_at, u8_at, u16_at, u32_at, u64_at, u128_at,
};
use crate::limits::{NAME_BYTES_MAX, SERVICE_TARGET_BYTES_MAX};
use crate::routes::base::{BaseId, FindBase, RouteBase};
use crate::routes::{Table, trie};
use crate::steering::{Rules, RulesError};

/// Which store of a control plane a snapshot comes from: random, made once with the store. Generations count within
/// one lineage and mean nothing across two.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, serde::Serialize, serde::Deserialize)]
pub struct Lineage(pub u128);

impl fmt::Display for Lineage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Lineage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lineage({self})")
    }
}

/// Place of a deployment in one snapshot; means nothing in another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeploymentIx(pub u32);

/// Whether a deployment answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// It serves.
    Active,
    /// Its owner paused it: its routes stand, requests are answered 503.
    Paused,
}

/// How the modules of a deployment come to nodes (seed 000, code distribution).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Distribution {
    /// Ahead, before the snapshot that names them serves.
    #[default]
    Push,
    /// With the first request for them.
    Pull,
}

/// How a host pattern matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HostKind {
    /// This host.
    Exact,
    /// Every host below this one, at any depth, and not this one: `*.example.com`.
    Wildcard,
}

/// How a path pattern matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PathKind {
    /// Every path that begins with it: `/api/*`.
    Prefix,
    /// This path.
    Exact,
}

/// What a binding is to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BindingKind {
    /// A KV namespace; the target is its id.
    Kv,
    /// A Durable Object namespace; the target is the class's name.
    DurableObject,
    /// Another Worker; the target is a [`ServiceTarget`].
    Service,
}

impl BindingKind {
    /// A target's text, bytes.
    pub(crate) fn target_bytes_max(self) -> usize {
        match self {
            BindingKind::Kv | BindingKind::DurableObject => NAME_BYTES_MAX,
            BindingKind::Service => SERVICE_TARGET_BYTES_MAX,
        }
    }
}

impl HostKind {
    pub(crate) fn code(self) -> u16 {
        match self {
            HostKind::Exact => 0,
            HostKind::Wildcard => 1,
        }
    }
}

impl Status {
    pub(crate) fn code(self) -> u8 {
        match self {
            Status::Active => 0,
            Status::Paused => 1,
        }
    }

    pub(crate) fn from_code(code: u8) -> Option<Status> {
        match code {
            0 => Some(Status::Active),
            1 => Some(Status::Paused),
            _ => None,
        }
    }
}

impl Distribution {
    pub(crate) fn code(self) -> u8 {
        match self {
            Distribution::Push => 0,
            Distribution::Pull => 1,
        }
    }

    pub(crate) fn from_code(code: u8) -> Option<Distribution> {
        match code {
            0 => Some(Distribution::Push),
            1 => Some(Distribution::Pull),
            _ => None,
        }
    }
}

impl BindingKind {
    pub(crate) fn code(self) -> u32 {
        match self {
            BindingKind::Kv => 0,
            BindingKind::DurableObject => 1,
            BindingKind::Service => 2,
        }
    }

    pub(crate) fn from_code(code: u32) -> Option<BindingKind> {
        match code {
            0 => Some(BindingKind::Kv),
            1 => Some(BindingKind::DurableObject),
            2 => Some(BindingKind::Service),
            _ => None,
        }
    }
}

/// Kind of the subdomain names, which have an index of their own.
pub(crate) const SUBDOMAIN_KIND: u16 = 2;

/// Why bytes are no snapshot.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The file could not be opened or mapped.
    #[error("cannot read the snapshot: {0}")]
    Io(#[from] io::Error),
    /// Shorter than its header, or its length is not the one its header names.
    #[error("snapshot has {actual} bytes where {expected} were promised")]
    Length {
        /// Bytes promised: by the header, or the header's own size.
        expected: u64,
        /// Bytes there.
        actual: u64,
    },
    /// Larger than `SNAPSHOT_BYTES_MAX`.
    #[error("snapshot of {0} bytes is over the limit")]
    TooLarge(u64),
    /// Not a snapshot at all.
    #[error("not a snapshot: wrong magic")]
    Magic,
    /// A layout this build does not read.
    #[error("snapshot format {0} is not the one this build reads ({FORMAT})", FORMAT = layout::FORMAT_VERSION)]
    Format(u32),
    /// Its bytes have changed since it was written.
    #[error("snapshot checksum is {actual:016x}, its header says {expected:016x}")]
    Checksum {
        /// The header's.
        expected: u64,
        /// The bytes'.
        actual: u64,
    },
    /// The base that it changes is not at hand.
    #[error("its base of routes {0} is not here")]
    NoBase(BaseId),
    /// The base that it names is of another lineage, or not the one that was given.
    #[error("base of routes {0} is not the one it changes")]
    OtherBase(BaseId),
    /// Its rules for packets cannot be carried out.
    #[error("steering: {0}")]
    Steering(#[source] RulesError),
    /// The checksum holds and yet a record is wrong: made by a faulty or hostile writer.
    #[error("snapshot section {section}, record {record}: {problem}")]
    Malformed {
        /// Section.
        section: &'static str,
        /// Record within it.
        record: usize,
        /// What is wrong.
        problem: &'static str,
    },
}

/// What a snapshot's header says, for who passes it on without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotHeader {
    /// The store it comes from.
    pub lineage: Lineage,
    /// Its generation.
    pub generation: u64,
    /// Its checksum.
    pub checksum: u64,
}

impl SnapshotHeader {
    /// Checks length, checksum and section table, and not the records. Gives the base that it changes, too.
    pub fn read(bytes: &[u8]) -> Result<(SnapshotHeader, Option<BaseId>), SnapshotError> {
        let sections = crate::check::sections(bytes)?;
        let header = SnapshotHeader {
            lineage: Lineage(u128_at(bytes, 32)),
            generation: u64_at(bytes, 16),
            checksum: u64_at(bytes, layout::CHECKSUM_AT),
        };
        Ok((header, base_of(bytes.get(sections[Section::Meta as usize].clone()).unwrap_or_default())))
    }
}

/// The base that a meta record names.
fn base_of(meta: &[u8]) -> Option<BaseId> {
    let id = BaseId { checksum: u64_at(meta, 8), bytes: u64_at(meta, 16) };
    (id.bytes != 0).then_some(id)
}

/// Bytes that do not change: a vector, or a file mapped read-only.
pub(crate) enum Backing {
    Memory(Vec<u8>),
    File(Mmap),
}

impl Backing {
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Backing::Memory(bytes) => bytes,
            Backing::File(map) => map,
        }
    }

    /// Maps a file that has at least `bytes_min` bytes and not more than a snapshot may have.
    #[allow(unsafe_code)]
    pub(crate) fn map(file: &File, bytes_min: usize) -> Result<Backing, SnapshotError> {
        let length = file.metadata()?.len();
        if length < bytes_min as u64 {
            return Err(SnapshotError::Length { expected: bytes_min as u64, actual: length });
        }
        if length > base::limits::SNAPSHOT_BYTES_MAX as u64 {
            return Err(SnapshotError::TooLarge(length));
        }
        // SAFETY: the mapping must not change or shrink while it is borrowed. Snapshot files and those of base routes live
        // in the node's own data folder (mode 0700, locked by one process). Each is written once, under a name of its own,
        // by the agent, which opens it only after the last write; from then on it is only renamed or unlinked, which leaves
        // the mapped inode as it is. Nothing in this program truncates or rewrites one. The length was taken from the open
        // file and is compared with the header's before any use, so no page past the end is touched (no SIGBUS). Were the
        // bytes changed by someone else all the same, every reader copies integers out and bounds-checks each use.
        Ok(Backing::File(unsafe { Mmap::map(file)? }))
    }
}

/// A compiled configuration. See the module's text.
pub struct Snapshot {
    backing: Backing,
    sections: [Range<usize>; SECTIONS],
    generation: u64,
    lineage: Lineage,
    created_unix_ms: u64,
    env_key_id: u64,
    own: Table,
    base: Option<Over>,
}

/// A base, and where its targets are among the snapshot's deployments; none for those that it has not.
struct Over {
    base: Arc<RouteBase>,
    places: Vec<Option<DeploymentIx>>,
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot")
            .field("generation", &self.generation)
            .field("lineage", &self.lineage)
            .field("deployments", &self.deployments_len())
            .finish_non_exhaustive()
    }
}

impl Snapshot {
    /// Maps a file and checks it whole. `find` gives the base that it changes, if it names one.
    ///
    /// The file must be complete and never be written again; renaming and unlinking it are fine.
    pub fn open(path: &Path, find: FindBase<'_>) -> Result<Snapshot, SnapshotError> {
        Snapshot::check(Backing::map(&File::open(path)?, layout::SECTIONS_AT)?, find)
    }

    /// Checks bytes in memory, of a snapshot that changes no base.
    pub fn from_vec(bytes: Vec<u8>) -> Result<Snapshot, SnapshotError> {
        Snapshot::from_vec_over(bytes, &|id| Err(SnapshotError::NoBase(id)))
    }

    /// Checks bytes in memory; `find` as for [`Snapshot::open`].
    pub fn from_vec_over(bytes: Vec<u8>, find: FindBase<'_>) -> Result<Snapshot, SnapshotError> {
        Snapshot::check(Backing::Memory(bytes), find)
    }

    fn check(backing: Backing, find: FindBase<'_>) -> Result<Snapshot, SnapshotError> {
        let sections = crate::check::sections(backing.bytes())?;
        let bytes = backing.bytes();
        let (generation, created_unix_ms) = (u64_at(bytes, 16), u64_at(bytes, 48));
        let (lineage, env_key_id) = (Lineage(u128_at(bytes, 32)), u64_at(bytes, 56));
        let section = |section: Section| bytes.get(sections[section as usize].clone()).unwrap_or_default();
        let no_table = || SnapshotError::Malformed { section: "routes", record: 0, problem: "no table" };
        let own = Table::read(section(Section::Routes)).ok_or_else(no_table)?;
        let over = match base_of(section(Section::Meta)) {
            Some(id) => Some(Over { base: find(id)?, places: Vec::new() }),
            None => None,
        };
        let mut snapshot =
            Snapshot { backing, sections, generation, lineage, created_unix_ms, env_key_id, own, base: over };
        if let Some(Over { base, .. }) = &snapshot.base
            && (Some(base.id()) != base_of(snapshot.section(Section::Meta)) || base.lineage() != lineage)
        {
            return Err(SnapshotError::OtherBase(base.id()));
        }
        crate::check::records(&snapshot)?;
        if let Some(mut over) = snapshot.base.take() {
            over.places = snapshot.places(&over.base);
            snapshot.base = Some(over);
        }
        Ok(snapshot)
    }

    /// Where a base's targets are: both lists ascend.
    fn places(&self, base: &RouteBase) -> Vec<Option<DeploymentIx>> {
        let mut deployments = self.deployments().peekable();
        let place = |id| {
            while deployments.next_if(|(_, deployment)| deployment.id() < id).is_some() {}
            deployments.peek().filter(|(_, deployment)| deployment.id() == id).map(|(ix, _)| *ix)
        };
        base.targets().map(place).collect()
    }

    /// Lineage, generation and checksum: what tells it from every other.
    pub fn header(&self) -> SnapshotHeader {
        SnapshotHeader { lineage: self.lineage, generation: self.generation, checksum: self.checksum() }
    }

    /// Counts up with every change, within one lineage.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The store it comes from.
    pub fn lineage(&self) -> Lineage {
        self.lineage
    }

    /// When it was compiled, milliseconds since the Unix epoch.
    pub fn created_unix_ms(&self) -> u64 {
        self.created_unix_ms
    }

    /// Which key its environment values are sealed with; see [`crate::seal::Key::id`].
    pub fn env_key_id(&self) -> u64 {
        self.env_key_id
    }

    /// xxh3-64 of its bytes, as in its header.
    pub fn checksum(&self) -> u64 {
        u64_at(self.bytes(), layout::CHECKSUM_AT)
    }

    /// Its bytes, as on the wire and on disk.
    pub fn bytes(&self) -> &[u8] {
        self.backing.bytes()
    }

    /// Its bytes, without the checks: for one made in memory no copy.
    pub fn into_bytes(self) -> Vec<u8> {
        match self.backing {
            Backing::Memory(bytes) => bytes,
            Backing::File(map) => map.to_vec(),
        }
    }

    /// The domain under which every deployment's subdomain is served, lower-case, without a trailing dot.
    pub fn platform_domain(&self) -> &str {
        self.text(span_at(self.section(Section::Meta), 0))
    }

    /// What it says to packets before any connection. Reads all of it: for when it changes, not for each request.
    pub fn steering(&self) -> Rules {
        Rules::decode(self.section(Section::Steering)).unwrap_or_default()
    }

    /// Number of deployments: indices are `0..deployments_len()`.
    pub fn deployments_len(&self) -> u32 {
        (self.section(Section::Deployments).len() / DEPLOYMENT_BYTES) as u32
    }

    /// A deployment by its place.
    pub fn deployment(&self, ix: DeploymentIx) -> Option<Deployment<'_>> {
        let bytes = record(self.section(Section::Deployments), ix.0 as usize, DEPLOYMENT_BYTES)?;
        Some(Deployment { snapshot: self, bytes })
    }

    /// All deployments, by ascending id.
    pub fn deployments(&self) -> impl ExactSizeIterator<Item = (DeploymentIx, Deployment<'_>)> {
        self.section(Section::Deployments)
            .chunks_exact(DEPLOYMENT_BYTES)
            .enumerate()
            .map(|(index, bytes)| (DeploymentIx(index as u32), Deployment { snapshot: self, bytes }))
    }

    /// The version that gets a share of the requests of the deployment at a place, and that share, in hundredths of a percent: the
    /// deployment as it is with that version.
    #[inline]
    pub fn candidate(&self, ix: DeploymentIx) -> Option<(Deployment<'_>, u32)> {
        let section = self.section(Section::Candidates);
        if section.is_empty() {
            return None;
        }
        let place = |index| record(section, index, CANDIDATE_BYTES).map_or(0, |bytes| u32_at(bytes, DEPLOYMENT_BYTES));
        let index = bisect(section.len() / CANDIDATE_BYTES, |index| place(index) < ix.0);
        let bytes = record(section, index, CANDIDATE_BYTES)?;
        let (bytes, rest) = bytes.split_at_checked(DEPLOYMENT_BYTES)?;
        (u32_at(rest, 0) == ix.0).then_some((Deployment { snapshot: self, bytes }, u32_at(rest, 4)))
    }

    /// All versions that get a share of a deployment's requests, by deployment.
    pub fn candidates(&self) -> impl ExactSizeIterator<Item = (DeploymentIx, Deployment<'_>, u32)> {
        self.section(Section::Candidates).chunks_exact(CANDIDATE_BYTES).map(|bytes| {
            let (bytes, rest) = bytes.split_at(DEPLOYMENT_BYTES);
            (DeploymentIx(u32_at(rest, 0)), Deployment { snapshot: self, bytes }, u32_at(rest, 4))
        })
    }

    /// A deployment by its id.
    pub fn find_deployment(&self, id: DeploymentId) -> Option<DeploymentIx> {
        let section = self.section(Section::Deployments);
        let at = |index: usize| record(section, index, DEPLOYMENT_BYTES).map_or(0, |bytes| u128_at(bytes, 0));
        let place = bisect(self.deployments_len() as usize, |index| at(index) < id.0);
        let ix = DeploymentIx(u32::try_from(place).ok()?);
        self.deployment(ix).filter(|found| found.id() == id).map(|_| ix)
    }

    /// The deployment of a subdomain: one lower-case label, without the platform domain.
    pub fn subdomain(&self, label: &[u8]) -> Option<DeploymentIx> {
        let names = (Section::SubdomainDirectory, Section::Subdomains);
        self.name(names, SUBDOMAIN_KIND, label).map(|name| DeploymentIx(name.deployment))
    }

    /// The base that it changes.
    pub fn base(&self) -> Option<&Arc<RouteBase>> {
        self.base.as_ref().map(|over| &over.base)
    }

    pub(crate) fn own_table(&self) -> &Table {
        &self.own
    }

    /// Number of routes that stand in it: all, or where it changes a base what it adds, leads elsewhere and takes away.
    pub fn own_routes_len(&self) -> usize {
        self.own.routes()
    }

    /// The numbers of labels that its wildcard hosts have, as bits: bit 2 for `*.example.com`.
    #[inline]
    pub fn wildcard_labels(&self) -> u128 {
        let base = self.base.as_ref().map_or(0, |over| over.base.table().0.wildcard_labels());
        self.own.wildcard_labels() | base
    }

    /// The patterns of a host in normal form. For [`HostKind::Wildcard`] the host is given without `*.`.
    #[inline]
    pub fn host(&self, kind: HostKind, host: &[u8]) -> Option<HostRoutes<'_>> {
        let hash = layout::name_hash(self.lineage.0, kind.code(), host);
        let own = self.own.find(self.section(Section::Routes), kind, hash, host);
        let base = self.base.as_ref().and_then(|over| {
            let (table, bytes) = over.base.table();
            table.find(bytes, kind, hash, host)
        });
        (own.is_some() || base.is_some()).then_some(HostRoutes { snapshot: self, own, base })
    }

    /// All hosts with their patterns.
    pub fn hosts(&self) -> impl Iterator<Item = (HostKind, &str, HostRoutes<'_>)> {
        let kinds = [HostKind::Exact, HostKind::Wildcard];
        let of_base = kinds.into_iter().flat_map(move |kind| {
            let tables = self.base.iter().map(|over| over.base.table());
            tables.flat_map(move |(table, bytes)| table.hosts(bytes, kind)).map(move |host| (kind, host.host, false))
        });
        let own = kinds.into_iter().flat_map(move |kind| {
            self.own.hosts(self.section(Section::Routes), kind).map(move |host| (kind, host.host, true))
        });
        of_base.chain(own).filter_map(|(kind, host, own)| {
            let routes = self.host(kind, host).filter(|routes| !own || routes.base.is_none())?;
            Some((kind, std::str::from_utf8(host).ok()?, routes))
        })
    }

    /// All schedules with whose they are, by deployment.
    pub fn schedules(&self) -> impl ExactSizeIterator<Item = (DeploymentIx, &str)> {
        let records = self.section(Section::Schedules).chunks_exact(SCHEDULE_BYTES);
        records.map(|bytes| (DeploymentIx(u32_at(bytes, 0)), self.text(span_at(bytes, 8))))
    }

    /// The deployment that a target of its own table is: none is a pattern taken away.
    fn own_place(target: u32) -> Option<DeploymentIx> {
        target.checked_sub(1).map(DeploymentIx)
    }

    fn base_place(&self, target: u32) -> Option<DeploymentIx> {
        self.base.as_ref()?.places.get(target as usize).copied().flatten()
    }

    fn name(&self, (directory, names): (Section, Section), kind: u16, text: &[u8]) -> Option<NameRecord> {
        let (directory, names) = (self.section(directory), self.section(names));
        let buckets = (directory.len() / 4).saturating_sub(1);
        let hash = layout::name_hash(self.lineage.0, kind, text);
        let bucket = layout::bucket(hash, buckets);
        let (start, end) = (u32_at(directory, bucket * 4) as usize, u32_at(directory, bucket * 4 + 4) as usize);
        // Sorted by hash within the bucket, which holds one name on average: bisecting bounds the unlucky case.
        let hash_at = |index: usize| record(names, start + index, NAME_BYTES).map_or(0, |bytes| u64_at(bytes, 0));
        let mut place = start + bisect(end.saturating_sub(start), |index| hash_at(index) < hash);
        while place < end {
            let name = NameRecord::read(names, place)?;
            if name.hash != hash {
                return None;
            }
            if name.kind == kind && name.text(self.section(Section::Strings)) == text {
                return Some(name);
            }
            place += 1;
        }
        None
    }

    pub(crate) fn section(&self, section: Section) -> &[u8] {
        self.bytes().get(self.sections[section as usize].clone()).unwrap_or_default()
    }

    fn text(&self, span: Range<usize>) -> &str {
        let bytes = self.section(Section::Strings).get(span).unwrap_or_default();
        std::str::from_utf8(bytes).unwrap_or_default()
    }
}

/// First index of `0..len` for which `before` is false; `before` must be true up to some place and false from there.
pub(crate) fn bisect(len: usize, before: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, len);
    while low < high {
        let middle = low + (high - low) / 2;
        if before(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

/// One deployment with its active version.
#[derive(Clone, Copy)]
pub struct Deployment<'a> {
    snapshot: &'a Snapshot,
    bytes: &'a [u8],
}

impl<'a> Deployment<'a> {
    /// Its id.
    pub fn id(&self) -> DeploymentId {
        DeploymentId(u128_at(self.bytes, 0))
    }

    /// The tenant it belongs to.
    pub fn account(&self) -> AccountId {
        AccountId(u128_at(self.bytes, 16))
    }

    /// SHA-256 of the active version's module.
    pub fn artifact(&self) -> ArtifactHash {
        ArtifactHash(array_at(self.bytes, 32).unwrap_or_default())
    }

    /// Size of the module, bytes.
    pub fn artifact_bytes(&self) -> u64 {
        u64_at(self.bytes, 64)
    }

    /// Number of the active version, for `X-Deployment-Version`.
    pub fn version(&self) -> u32 {
        u32_at(self.bytes, 92)
    }

    /// Whether it answers.
    pub fn status(&self) -> Status {
        Status::from_code(u8_at(self.bytes, 96)).unwrap_or(Status::Paused)
    }

    /// How its modules come to nodes.
    pub fn distribution(&self) -> Distribution {
        Distribution::from_code(u8_at(self.bytes, 97)).unwrap_or_default()
    }

    /// Its tenant's share of a saturated core in relation to its neighbours': 1 to [`base::limits::WEIGHT_MAX`].
    pub fn weight(&self) -> u16 {
        match u16_at(self.bytes, 98) {
            0 => base::limits::WEIGHT,
            weight => weight,
        }
    }

    /// CPU time of one request, milliseconds.
    pub fn cpu_ms(&self) -> u32 {
        u32_at(self.bytes, 100)
    }

    /// Its name, as its owner gave it.
    pub fn name(&self) -> &'a str {
        self.snapshot.text(span_at(self.bytes, 104))
    }

    /// Its label under the platform domain; empty if it has none.
    pub fn subdomain(&self) -> &'a str {
        self.snapshot.text(span_at(self.bytes, 112))
    }

    /// The version's `compatibility_date`, `YYYY-MM-DD`; empty if it names none.
    pub fn compatibility_date(&self) -> &'a str {
        self.snapshot.text(span_at(self.bytes, 120))
    }

    /// When the deployment last changed, seconds since the Unix epoch.
    pub fn updated_unix_s(&self) -> u64 {
        u64_at(self.bytes, 80)
    }

    /// Its environment variables, sealed; empty if it has none. [`crate::plane::Published::env`] opens them. Equal
    /// variables are equal bytes from one generation to the next, so that a reader can tell whether they changed.
    pub fn sealed_env(&self) -> &'a [u8] {
        let start = u64_at(self.bytes, 72) as usize;
        let end = start.saturating_add(u32_at(self.bytes, 88) as usize);
        self.snapshot.section(Section::Blobs).get(start..end).unwrap_or_default()
    }

    /// Its bindings, by (kind, name).
    pub fn bindings(&self) -> impl ExactSizeIterator<Item = Binding<'a>> + use<'a> {
        let snapshot = self.snapshot;
        let start = u32_at(self.bytes, 128) as usize * BINDING_BYTES;
        let end = start + u32_at(self.bytes, 132) as usize * BINDING_BYTES;
        let records = snapshot.section(Section::Bindings).get(start..end).unwrap_or_default();
        records.chunks_exact(BINDING_BYTES).map(move |bytes| Binding {
            kind: BindingKind::from_code(u32_at(bytes, 0)).unwrap_or(BindingKind::Kv),
            name: snapshot.text(span_at(bytes, 8)),
            target: snapshot.text(span_at(bytes, 16)),
        })
    }

    /// Whether code started for `self` may go on serving for `other`: nothing that an isolate sees has changed. Its
    /// tenant's weight it does not see.
    pub fn same_code(&self, other: &Deployment<'_>) -> bool {
        self.id() == other.id()
            && self.account() == other.account()
            && self.artifact() == other.artifact()
            && self.version() == other.version()
            && self.cpu_ms() == other.cpu_ms()
            && self.compatibility_date() == other.compatibility_date()
            && self.snapshot.env_key_id == other.snapshot.env_key_id
            && self.sealed_env() == other.sealed_env()
            && self.bindings().eq(other.bindings())
    }
}

impl fmt::Debug for Deployment<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deployment")
            .field("id", &self.id())
            .field("version", &self.version())
            .field("status", &self.status())
            .field("name", &self.name())
            .finish_non_exhaustive()
    }
}

/// A named link from a deployment to something it may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding<'a> {
    /// To what.
    pub kind: BindingKind,
    /// Name in `env`.
    pub name: &'a str,
    /// Id or class name.
    pub target: &'a str,
}

/// Where a service binding leads: a deployment, which of its entrypoints, and what that is given. As text `<32 hex digits>` or
/// `<32 hex digits>#<name>`, and after a line feed the JSON.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServiceTarget {
    /// Which deployment; it need not be there.
    pub deployment: DeploymentId,
    /// Name of an export; empty for the default one.
    pub entrypoint: String,
    /// `ctx.props` there, as JSON; empty for none.
    pub props: String,
}

impl fmt::Display for ServiceTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.deployment.0)?;
        if !self.entrypoint.is_empty() {
            write!(f, "#{}", self.entrypoint)?;
        }
        if self.props.is_empty() { Ok(()) } else { write!(f, "\n{}", self.props) }
    }
}

impl ServiceTarget {
    /// Reads the text of a target.
    pub fn parse(text: &str) -> Option<ServiceTarget> {
        let (place, props) = text.split_once('\n').unwrap_or((text, ""));
        let (id, entrypoint) = place.split_once('#').unwrap_or((place, ""));
        let hex = id.len() == 32 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let whole = !place.ends_with('#') && !text.ends_with('\n');
        let id = u128::from_str_radix(id, 16).ok().filter(|_| hex && whole)?;
        let (entrypoint, props) = (entrypoint.to_owned(), props.to_owned());
        Some(ServiceTarget { deployment: DeploymentId(id), entrypoint, props })
    }
}

/// The patterns of one host.
#[derive(Clone, Copy)]
pub struct HostRoutes<'a> {
    snapshot: &'a Snapshot,
    own: Option<&'a [u8]>,
    base: Option<&'a [u8]>,
}

/// One pattern's path and where it leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoutePath {
    /// The path, or for [`PathKind::Prefix`] what it must begin with.
    pub path: Vec<u8>,
    /// How it matches.
    pub kind: PathKind,
    /// Where it leads.
    pub deployment: DeploymentIx,
}

impl HostRoutes<'_> {
    /// Where the most specific pattern that matches a path in normal form leads. An exact pattern is more specific than a
    /// prefix, a longer prefix than a shorter. Reads the nodes along the path, and allocates nothing.
    #[inline]
    pub fn best(&self, path: &[u8]) -> Option<DeploymentIx> {
        let snapshot = self.snapshot;
        let matches = |tree, table: &Table| trie::matches(tree, table.width(), path);
        let mut own = self.own.map(|tree| matches(tree, &snapshot.own)).into_iter().flatten().peekable();
        let mut best = None;
        if let (Some(tree), Some(over)) = (self.base, &snapshot.base) {
            for (rank, target) in matches(tree, over.base.table().0) {
                while let Some((_, target)) = own.next_if(|(changed, _)| *changed < rank) {
                    best = Snapshot::own_place(target).or(best);
                }
                let place = match own.next_if(|(changed, _)| *changed == rank) {
                    Some((_, target)) => Snapshot::own_place(target),
                    None => snapshot.base_place(target),
                };
                best = place.or(best);
            }
        }
        own.fold(best, |best, (_, target)| Snapshot::own_place(target).or(best))
    }

    /// All patterns, by (path, kind).
    pub fn routes(&self) -> Vec<RoutePath> {
        let snapshot = self.snapshot;
        let mut all = BTreeMap::new();
        if let (Some(tree), Some(over)) = (self.base, &snapshot.base) {
            trie::visit(tree, over.base.table().0.width(), &mut |leaf| {
                all.insert((leaf.path.to_vec(), leaf.kind), snapshot.base_place(leaf.target));
            });
        }
        if let Some(tree) = self.own {
            trie::visit(tree, snapshot.own.width(), &mut |leaf| {
                all.insert((leaf.path.to_vec(), leaf.kind), Snapshot::own_place(leaf.target));
            });
        }
        let there = |((path, kind), place): (_, Option<_>)| Some(RoutePath { path, kind, deployment: place? });
        all.into_iter().filter_map(there).collect()
    }
}
