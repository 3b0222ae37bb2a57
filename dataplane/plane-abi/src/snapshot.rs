//! `Snapshot`: a compiled configuration, read in place.
//!
//! Owns the bytes (a vector, or a file mapped read-only). Does not decide which deployment a request goes to (crate
//! `route`), nor which snapshot is current ([`crate::plane`]).
//!
//! *Invariant:* a `Snapshot` that exists is whole: checksum, every offset and index, text as UTF-8 and every order were
//! checked when it was opened, so lookups have nothing to fail on.
//! Bounds: `base::limits::SNAPSHOT_BYTES_MAX` bytes. Failures: [`SnapshotError`], before anything is published.
//! Threads: immutable, shared by all.

use std::{fmt, fs::File, io, ops::Range, path::Path};

use base::id::{AccountId, ArtifactHash, DeploymentId};
use memmap2::Mmap;

use crate::layout::{
    self, BINDING_BYTES, DEPLOYMENT_BYTES, NAME_BYTES, NameRecord, PATTERN_BYTES, PatternRecord, SCHEDULE_BYTES,
    SECTIONS, Section, array_at, record, span_at, u16_at, u32_at, u64_at, u128_at,
};
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

impl HostKind {
    pub(crate) fn code(self) -> u16 {
        match self {
            HostKind::Exact => 0,
            HostKind::Wildcard => 1,
        }
    }

    pub(crate) fn from_code(code: u16) -> Option<HostKind> {
        match code {
            0 => Some(HostKind::Exact),
            1 => Some(HostKind::Wildcard),
            _ => None,
        }
    }
}

impl PathKind {
    pub(crate) fn code(self) -> u16 {
        match self {
            PathKind::Prefix => 0,
            PathKind::Exact => 1,
        }
    }

    pub(crate) fn from_code(code: u16) -> Option<PathKind> {
        match code {
            0 => Some(PathKind::Prefix),
            1 => Some(PathKind::Exact),
            _ => None,
        }
    }
}

impl Status {
    pub(crate) fn code(self) -> u16 {
        match self {
            Status::Active => 0,
            Status::Paused => 1,
        }
    }

    pub(crate) fn from_code(code: u16) -> Option<Status> {
        match code {
            0 => Some(Status::Active),
            1 => Some(Status::Paused),
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
    /// Checks length, checksum and section table, and not the records.
    pub fn read(bytes: &[u8]) -> Result<SnapshotHeader, SnapshotError> {
        crate::check::sections(bytes)?;
        Ok(SnapshotHeader {
            lineage: Lineage(u128_at(bytes, 32)),
            generation: u64_at(bytes, 16),
            checksum: u64_at(bytes, layout::CHECKSUM_AT),
        })
    }
}

enum Backing {
    Memory(Vec<u8>),
    File(Mmap),
}

impl Backing {
    fn bytes(&self) -> &[u8] {
        match self {
            Backing::Memory(bytes) => bytes,
            Backing::File(map) => map,
        }
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
    /// Maps a file and checks it whole (about a second for 500 MB).
    ///
    /// The file must be complete and never be written again; renaming and unlinking it are fine.
    #[allow(unsafe_code)]
    pub fn open(path: &Path) -> Result<Snapshot, SnapshotError> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        if length < layout::SECTIONS_AT as u64 {
            return Err(SnapshotError::Length { expected: layout::SECTIONS_AT as u64, actual: length });
        }
        if length > base::limits::SNAPSHOT_BYTES_MAX as u64 {
            return Err(SnapshotError::TooLarge(length));
        }
        // SAFETY: the mapping must not change or shrink while it is borrowed. Snapshot files live in the node's own data
        // folder (mode 0700, locked by one process). Each is written once, under a name of its own, by the agent, which
        // opens it here only after the last write; from then on it is only renamed or unlinked, which leaves the mapped
        // inode as it is. Nothing in this program truncates or rewrites one. The length was taken from the open file and
        // is compared with the header's below, so no page past the end is touched (no SIGBUS). Were the bytes changed by
        // someone else all the same, every reader below copies integers out and bounds-checks each use.
        let map = unsafe { Mmap::map(&file)? };
        Snapshot::check(Backing::File(map))
    }

    /// Checks bytes in memory.
    pub fn from_vec(bytes: Vec<u8>) -> Result<Snapshot, SnapshotError> {
        Snapshot::check(Backing::Memory(bytes))
    }

    fn check(backing: Backing) -> Result<Snapshot, SnapshotError> {
        let sections = crate::check::sections(backing.bytes())?;
        let bytes = backing.bytes();
        let (generation, created_unix_ms) = (u64_at(bytes, 16), u64_at(bytes, 48));
        let (lineage, env_key_id) = (Lineage(u128_at(bytes, 32)), u64_at(bytes, 56));
        let snapshot = Snapshot { backing, sections, generation, lineage, created_unix_ms, env_key_id };
        crate::check::records(&snapshot)?;
        Ok(snapshot)
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
    pub(crate) fn into_bytes(self) -> Vec<u8> {
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
        self.name(names, SUBDOMAIN_KIND, label).map(|name| DeploymentIx(name.first))
    }

    /// The patterns of a host in normal form. For [`HostKind::Wildcard`] the host is given without `*.`.
    pub fn host(&self, kind: HostKind, host: &[u8]) -> Option<HostRoutes<'_>> {
        let names = (Section::HostDirectory, Section::Hosts);
        self.name(names, kind.code(), host).map(|name| self.host_routes(&name))
    }

    /// All hosts with their patterns, in the order of the file.
    pub fn hosts(&self) -> impl Iterator<Item = (HostKind, &str, HostRoutes<'_>)> {
        let count = self.section(Section::Hosts).len() / NAME_BYTES;
        (0..count).filter_map(|index| {
            let name = NameRecord::read(self.section(Section::Hosts), index)?;
            let start = name.text_at as usize;
            let host = self.text(start..start + usize::from(name.text_bytes));
            Some((HostKind::from_code(name.kind)?, host, self.host_routes(&name)))
        })
    }

    /// All schedules with whose they are, by deployment.
    pub fn schedules(&self) -> impl ExactSizeIterator<Item = (DeploymentIx, &str)> {
        let records = self.section(Section::Schedules).chunks_exact(SCHEDULE_BYTES);
        records.map(|bytes| (DeploymentIx(u32_at(bytes, 0)), self.text(span_at(bytes, 8))))
    }

    fn host_routes(&self, name: &NameRecord) -> HostRoutes<'_> {
        let start = name.first as usize * PATTERN_BYTES;
        let end = start + name.count as usize * PATTERN_BYTES;
        let patterns = self.section(Section::Patterns).get(start..end).unwrap_or_default();
        HostRoutes { strings: self.section(Section::Strings), patterns }
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
        Status::from_code(u16_at(self.bytes, 96)).unwrap_or(Status::Paused)
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

/// Where a service binding leads: a deployment, and which of its entrypoints. As text `<32 hex digits>` or
/// `<32 hex digits>#<name>`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServiceTarget {
    /// Which deployment; it need not be there.
    pub deployment: DeploymentId,
    /// Name of an export; empty for the default one.
    pub entrypoint: String,
}

impl fmt::Display for ServiceTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.deployment.0)?;
        if self.entrypoint.is_empty() { Ok(()) } else { write!(f, "#{}", self.entrypoint) }
    }
}

impl ServiceTarget {
    /// Reads the text of a target.
    pub fn parse(text: &str) -> Option<ServiceTarget> {
        let (id, entrypoint) = text.split_once('#').unwrap_or((text, ""));
        let hex = id.len() == 32 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let id = u128::from_str_radix(id, 16).ok().filter(|_| hex && !text.ends_with('#'))?;
        Some(ServiceTarget { deployment: DeploymentId(id), entrypoint: entrypoint.to_owned() })
    }
}

/// The patterns of one host, sorted by (path, kind).
#[derive(Clone, Copy)]
pub struct HostRoutes<'a> {
    strings: &'a [u8],
    patterns: &'a [u8],
}

/// One pattern's path and where it leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoutePath<'a> {
    /// The path, or for [`PathKind::Prefix`] what it must begin with.
    pub path: &'a [u8],
    /// How it matches.
    pub kind: PathKind,
    /// Where it leads.
    pub deployment: DeploymentIx,
    /// The longest prefix pattern of the same host that begins this path (a proper prefix of it, or the same path
    /// where this one is exact). Always before this one.
    pub parent: Option<usize>,
}

impl<'a> HostRoutes<'a> {
    /// Number of patterns, at least one.
    pub fn len(&self) -> usize {
        self.patterns.len() / PATTERN_BYTES
    }

    /// Whether there is none; never so for a host of a snapshot.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// The path of the `index`th pattern; empty past the end.
    pub fn path(&self, index: usize) -> &'a [u8] {
        PatternRecord::read(self.patterns, index).map_or(&[], |pattern| pattern.path(self.strings))
    }

    /// The `index`th pattern.
    pub fn get(&self, index: usize) -> Option<RoutePath<'a>> {
        let pattern = PatternRecord::read(self.patterns, index)?;
        Some(RoutePath {
            path: pattern.path(self.strings),
            kind: PathKind::from_code(pattern.kind)?,
            deployment: DeploymentIx(pattern.deployment),
            parent: (pattern.parent as usize).checked_sub(1),
        })
    }

    /// All patterns.
    pub fn iter(&self) -> impl Iterator<Item = RoutePath<'a>> + use<'a> {
        let routes = *self;
        (0..self.len()).filter_map(move |index| routes.get(index))
    }
}
