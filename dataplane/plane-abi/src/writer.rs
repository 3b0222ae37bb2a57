//! `SnapshotWriter`: the one place that makes a snapshot's bytes.
//!
//! Deterministic: the same state gives the same bytes, in whatever order it was added. Refuses what a reader would
//! refuse, and [`SnapshotWriter::finish`] proves it by opening what it made. Does not parse patterns or decide who may
//! have which: crate `plan` does.

use std::collections::HashMap;
use std::sync::Arc;

use base::id::{AccountId, ArtifactHash, DeploymentId};

use crate::cron::Schedule;
use crate::layout::{
    self, CHECKSUM_AT, DEPLOYMENT_BYTES, FORMAT_VERSION, MAGIC, NameRecord, SECTIONS, SECTIONS_AT, Section, align8,
};
use crate::limits::{
    BINDINGS_MAX, ENV_BYTES_MAX, HOST_BYTES_MAX, NAME_BYTES_MAX, SCHEDULES_MAX, SEAL_OVERHEAD_BYTES, SHARE_WHOLE,
};
use crate::routes::base::RouteBase;
use crate::routes::build::RouteSet;
use crate::routes::overlay;
use crate::snapshot::{
    BindingKind, Distribution, HostKind, Lineage, PathKind, SUBDOMAIN_KIND, ServiceTarget, Snapshot, SnapshotError,
    Status,
};
use crate::steering::{Rules, RulesError};

/// A deployment to be written. Fields as in [`crate::Deployment`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewDeployment {
    /// Its id, used once.
    pub id: DeploymentId,
    /// Its tenant.
    pub account: AccountId,
    /// Number of the active version.
    pub version: u32,
    /// Whether it answers.
    pub status: Status,
    /// How its modules come to nodes.
    pub distribution: Distribution,
    /// SHA-256 of the module.
    pub artifact: ArtifactHash,
    /// Size of the module, bytes.
    pub artifact_bytes: u64,
    /// Name.
    pub name: String,
    /// One lower-case label, used once; empty for none.
    pub subdomain: String,
    /// `YYYY-MM-DD` or empty.
    pub compatibility_date: String,
    /// CPU time of one request, milliseconds.
    pub cpu_ms: u32,
    /// Its tenant's weight, 1 to `base::limits::WEIGHT_MAX`.
    pub weight: u16,
    /// Seconds since the Unix epoch.
    pub updated_unix_s: u64,
    /// Sealed environment, or empty.
    pub sealed_env: Vec<u8>,
    /// (kind, name, target).
    pub bindings: Vec<(BindingKind, String, String)>,
    /// Schedules, as [`crate::cron`] reads them.
    pub crons: Vec<String>,
}

impl NewDeployment {
    /// One that answers with its first version, is pushed, and has nothing else: no name, subdomain, variables, bindings or schedules, and the CPU
    /// time and weight of an account without a plan.
    pub fn new(id: DeploymentId, account: AccountId, artifact: ArtifactHash) -> NewDeployment {
        NewDeployment {
            id,
            account,
            version: 1,
            status: Status::Active,
            distribution: Distribution::Push,
            artifact,
            artifact_bytes: 0,
            name: String::new(),
            subdomain: String::new(),
            compatibility_date: String::new(),
            cpu_ms: base::limits::CPU_PER_REQUEST_MS,
            weight: base::limits::WEIGHT,
            updated_unix_s: 0,
            sealed_env: Vec::new(),
            bindings: Vec::new(),
            crons: Vec::new(),
        }
    }
}

/// A version that gets a share of a deployment's requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewCandidate {
    /// Which deployment's: once.
    pub deployment: DeploymentId,
    /// Its number: not the active version's.
    pub version: u32,
    /// SHA-256 of its module.
    pub artifact: ArtifactHash,
    /// Size of its module, bytes.
    pub artifact_bytes: u64,
    /// `YYYY-MM-DD` or empty.
    pub compatibility_date: String,
    /// (kind, name, target).
    pub bindings: Vec<(BindingKind, String, String)>,
    /// In hundredths of a percent: 1 to `SHARE_WHOLE - 1`.
    pub share: u32,
}

/// A route to be written: a pattern in normal form and where it leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRoute {
    /// How the host matches.
    pub host_kind: HostKind,
    /// Host in normal form, without `*.`.
    pub host: String,
    /// How the path matches.
    pub path_kind: PathKind,
    /// Path in normal form, without the final `*`.
    pub path: String,
    /// Where it leads.
    pub deployment: DeploymentId,
}

/// A pattern that was changed since a base was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangedRoute {
    /// How the host matches.
    pub host_kind: HostKind,
    /// Host in normal form, without `*.`.
    pub host: String,
    /// How the path matches.
    pub path_kind: PathKind,
    /// Path in normal form, without the final `*`.
    pub path: String,
    /// Where it leads now; none: nowhere.
    pub deployment: Option<DeploymentId>,
}

/// Why a state cannot be written.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum WriteError {
    /// Two deployments of one id.
    #[error("deployment {0} is there twice")]
    DuplicateDeployment(DeploymentId),
    /// Two deployments of one subdomain.
    #[error("subdomain {0:?} is there twice")]
    DuplicateSubdomain(String),
    /// Two deployments have the same pattern.
    #[error("route {route} is claimed by deployments {first} and {second}")]
    RouteConflict {
        /// In normal form.
        route: String,
        /// The lower id.
        first: DeploymentId,
        /// The higher.
        second: DeploymentId,
    },
    /// A route to a deployment that is not there.
    #[error("route to unknown deployment {0}")]
    UnknownDeployment(DeploymentId),
    /// A field over its limit or of the wrong form.
    #[error("deployment {id}: {field} is over its limit or malformed")]
    Field {
        /// Whose.
        id: DeploymentId,
        /// Which field.
        field: &'static str,
    },
    /// A route's host or path is empty, over its limit or not in normal form.
    #[error("route {0} has a host or path that is empty, over its limit or not in normal form")]
    Route(String),
    /// Rules for packets that cannot be carried out.
    #[error("steering: {0}")]
    Steering(#[from] RulesError),
    /// The platform domain is empty or over its limit.
    #[error("platform domain is empty or over its limit")]
    PlatformDomain,
    /// More than `SNAPSHOT_BYTES_MAX`.
    #[error("snapshot would have {0} bytes, over the limit")]
    TooLarge(usize),
    /// What was made does not open: a fault of the writer.
    #[error("snapshot does not open after writing: {0}")]
    Unreadable(String),
}

/// Collects a state and writes it. See the module's text.
#[derive(Debug)]
pub struct SnapshotWriter {
    generation: u64,
    lineage: Lineage,
    created_unix_ms: u64,
    env_key_id: u64,
    platform_domain: String,
    deployments: Vec<NewDeployment>,
    candidates: Vec<NewCandidate>,
    routes: RouteSet,
    base: Option<Arc<RouteBase>>,
    changes: Option<Vec<ChangedRoute>>,
    refused: Option<WriteError>,
    steering: Rules,
}

/// Text, each stored once, in order of first use.
#[derive(Default)]
struct Strings<'a> {
    bytes: Vec<u8>,
    places: HashMap<&'a str, u32>,
}

impl<'a> Strings<'a> {
    fn place(&mut self, text: &'a str) -> u32 {
        if text.is_empty() {
            return 0;
        }
        let next = self.bytes.len();
        *self.places.entry(text).or_insert_with(|| {
            self.bytes.extend_from_slice(text.as_bytes());
            // Wraps only past 4 GiB, far over the limit that `finish` checks before it opens the result.
            next as u32
        })
    }

    fn span(&mut self, text: &'a str, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.place(text).to_le_bytes());
        out.extend_from_slice(&(text.len() as u32).to_le_bytes());
    }
}

impl SnapshotWriter {
    /// An empty state. `platform_domain` in normal form; `env_key_id` names the key of all sealed environments.
    pub fn new(
        lineage: Lineage,
        generation: u64,
        created_unix_ms: u64,
        env_key_id: u64,
        platform_domain: &str,
    ) -> SnapshotWriter {
        SnapshotWriter {
            generation,
            lineage,
            created_unix_ms,
            env_key_id,
            platform_domain: platform_domain.to_owned(),
            deployments: Vec::new(),
            candidates: Vec::new(),
            routes: RouteSet::new(lineage.0),
            base: None,
            changes: None,
            refused: None,
            steering: Rules::default(),
        }
    }

    /// Adds a deployment.
    pub fn deployment(&mut self, deployment: NewDeployment) -> &mut SnapshotWriter {
        self.deployments.push(deployment);
        self
    }

    /// Adds a version that gets a share of a deployment's requests.
    pub fn candidate(&mut self, candidate: NewCandidate) -> &mut SnapshotWriter {
        self.candidates.push(candidate);
        self
    }

    /// Adds a route. What is wrong with it, [`SnapshotWriter::finish`] says.
    pub fn route(&mut self, route: NewRoute) -> &mut SnapshotWriter {
        let NewRoute { host_kind, host, path_kind, path, deployment } = route;
        let added = self.routes.add((host_kind, &host), (path_kind, &path), deployment);
        self.refused = self.refused.take().or(added.err());
        self
    }

    /// Writes only what differs from the routes of a base, which must be of the same lineage.
    pub fn over(self, base: Option<Arc<RouteBase>>) -> SnapshotWriter {
        SnapshotWriter { base, ..self }
    }

    /// Takes as routes those of a base, which must be of the same lineage, but for these patterns. Of other patterns the base is
    /// believed: the cost is that of the changes alone. In place of [`SnapshotWriter::route`].
    pub fn over_changes(self, base: Arc<RouteBase>, changes: Vec<ChangedRoute>) -> SnapshotWriter {
        SnapshotWriter { base: Some(base), changes: Some(changes), ..self }
    }

    /// Sorts the routes and writes them all as a base.
    pub fn base(&mut self) -> Result<Vec<u8>, WriteError> {
        if let Some(error) = self.refused.take() {
            return Err(error);
        }
        self.routes.sort()?;
        RouteBase::write_set(&self.routes, self.lineage)
    }

    /// Says what packets meet, in place of no rules.
    pub fn steering(&mut self, rules: Rules) -> &mut SnapshotWriter {
        self.steering = rules;
        self
    }

    /// Writes the snapshot's bytes.
    pub fn finish(mut self) -> Result<Vec<u8>, WriteError> {
        self.normalise()?;
        let mut strings = Strings::default();
        let mut sections: [Vec<u8>; SECTIONS] = std::array::from_fn(|_| Vec::new());
        strings.span(&self.platform_domain, &mut sections[Section::Meta as usize]);
        let base = self.base.as_ref().map(|base| base.id());
        for number in [base.map_or(0, |base| base.checksum), base.map_or(0, |base| base.bytes)] {
            sections[Section::Meta as usize].extend_from_slice(&number.to_le_bytes());
        }
        self.write_deployments(&mut strings, &mut sections);
        self.write_subdomains(&mut strings, &mut sections);
        sections[Section::Routes as usize] = self.write_routes()?;
        sections[Section::Strings as usize] = strings.bytes;
        sections[Section::Steering as usize] = self.steering.encode();
        let bytes = self.assemble(&sections)?;
        let base = |id| self.base.clone().ok_or(SnapshotError::NoBase(id));
        match Snapshot::from_vec_over(bytes, &base) {
            Ok(snapshot) => Ok(snapshot.into_bytes()),
            Err(error) => Err(WriteError::Unreadable(error.to_string())),
        }
    }

    /// Sorts everything and checks limits and doubles.
    fn normalise(&mut self) -> Result<(), WriteError> {
        if self.platform_domain.is_empty() || self.platform_domain.len() > HOST_BYTES_MAX {
            return Err(WriteError::PlatformDomain);
        }
        self.steering.normalise();
        self.steering.check()?;
        self.deployments.sort_unstable_by_key(|deployment| deployment.id);
        for pair in self.deployments.windows(2) {
            if pair[0].id == pair[1].id {
                return Err(WriteError::DuplicateDeployment(pair[0].id));
            }
        }
        for deployment in &mut self.deployments {
            deployment.bindings.sort_unstable();
            deployment.crons.sort_unstable();
            deployment.crons.dedup();
            check_deployment(deployment).map_err(|field| WriteError::Field { id: deployment.id, field })?;
        }
        self.candidates.sort_unstable_by_key(|candidate| candidate.deployment);
        for candidate in &mut self.candidates {
            candidate.bindings.sort_unstable();
        }
        check_candidates(&self.candidates, &self.deployments)?;
        if let Some(error) = self.refused.take() {
            return Err(error);
        }
        self.routes.sort()?;
        let mut subdomains: Vec<&str> =
            self.deployments.iter().map(|deployment| deployment.subdomain.as_str()).collect();
        subdomains.sort_unstable();
        match subdomains.windows(2).find(|pair| !pair[0].is_empty() && pair[0] == pair[1]) {
            Some(pair) => Err(WriteError::DuplicateSubdomain(pair[0].to_owned())),
            None => Ok(()),
        }
    }

    fn write_deployments<'a>(&'a self, strings: &mut Strings<'a>, sections: &mut [Vec<u8>; SECTIONS]) {
        let (mut records, mut blobs, mut bindings, mut schedules) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut bindings_before = 0u32;
        for (index, deployment) in self.deployments.iter().enumerate() {
            records.extend_from_slice(&deployment.id.0.to_le_bytes());
            records.extend_from_slice(&deployment.account.0.to_le_bytes());
            records.extend_from_slice(&deployment.artifact.0);
            records.extend_from_slice(&deployment.artifact_bytes.to_le_bytes());
            records.extend_from_slice(&(blobs.len() as u64).to_le_bytes());
            records.extend_from_slice(&deployment.updated_unix_s.to_le_bytes());
            records.extend_from_slice(&(deployment.sealed_env.len() as u32).to_le_bytes());
            records.extend_from_slice(&deployment.version.to_le_bytes());
            records.extend_from_slice(&[deployment.status.code(), deployment.distribution.code()]);
            records.extend_from_slice(&deployment.weight.to_le_bytes());
            records.extend_from_slice(&deployment.cpu_ms.to_le_bytes());
            strings.span(&deployment.name, &mut records);
            strings.span(&deployment.subdomain, &mut records);
            strings.span(&deployment.compatibility_date, &mut records);
            records.extend_from_slice(&bindings_before.to_le_bytes());
            records.extend_from_slice(&(deployment.bindings.len() as u32).to_le_bytes());
            blobs.extend_from_slice(&deployment.sealed_env);
            write_bindings(&deployment.bindings, strings, &mut bindings);
            for expression in &deployment.crons {
                schedules.extend_from_slice(&(index as u32).to_le_bytes());
                schedules.extend_from_slice(&0u32.to_le_bytes());
                strings.span(expression, &mut schedules);
            }
            bindings_before += deployment.bindings.len() as u32;
        }
        let mut candidates = Vec::new();
        for candidate in &self.candidates {
            let place = self.deployments.partition_point(|deployment| deployment.id < candidate.deployment);
            // As the deployment's own record, but for what belongs to a version.
            let mut record = records[place * DEPLOYMENT_BYTES..(place + 1) * DEPLOYMENT_BYTES].to_vec();
            let mut put = |at: usize, bytes: &[u8]| record[at..at + bytes.len()].copy_from_slice(bytes);
            put(32, &candidate.artifact.0);
            put(64, &candidate.artifact_bytes.to_le_bytes());
            put(92, &candidate.version.to_le_bytes());
            let mut date = Vec::new();
            strings.span(&candidate.compatibility_date, &mut date);
            put(120, &date);
            put(128, &bindings_before.to_le_bytes());
            put(132, &(candidate.bindings.len() as u32).to_le_bytes());
            write_bindings(&candidate.bindings, strings, &mut bindings);
            bindings_before += candidate.bindings.len() as u32;
            candidates.extend_from_slice(&record);
            candidates.extend_from_slice(&(place as u32).to_le_bytes());
            candidates.extend_from_slice(&candidate.share.to_le_bytes());
        }
        sections[Section::Candidates as usize] = candidates;
        sections[Section::Deployments as usize] = records;
        sections[Section::Blobs as usize] = blobs;
        sections[Section::Bindings as usize] = bindings;
        sections[Section::Schedules as usize] = schedules;
    }

    fn write_subdomains<'a>(&'a self, strings: &mut Strings<'a>, sections: &mut [Vec<u8>; SECTIONS]) {
        let named = self.deployments.iter().enumerate().filter(|(_, deployment)| !deployment.subdomain.is_empty());
        let mut names: Vec<(NameRecord, &str)> = named
            .map(|(index, deployment)| {
                let text = deployment.subdomain.as_str();
                let hash = layout::name_hash(self.lineage.0, SUBDOMAIN_KIND, text.as_bytes());
                let (text_at, text_bytes) = (strings.place(text), text.len() as u16);
                (NameRecord { hash, text_at, text_bytes, kind: SUBDOMAIN_KIND, deployment: index as u32 }, text)
            })
            .collect();
        names.sort_unstable_by_key(|(name, text)| (name.hash, *text));
        let names: Vec<NameRecord> = names.into_iter().map(|(name, _)| name).collect();
        write_names(&names, sections);
    }

    fn write_routes(&self) -> Result<Vec<u8>, WriteError> {
        if let (Some(base), Some(changes)) = (&self.base, &self.changes) {
            let deployments: Vec<DeploymentId> = self.deployments.iter().map(|deployment| deployment.id).collect();
            return overlay::write_changes(changes, base, &deployments);
        }
        let place = |id: &DeploymentId| self.deployments.binary_search_by_key(id, |deployment| deployment.id);
        let targets = self.routes.owners().iter().map(|id| match place(id) {
            Ok(place) => Ok(place as u32 + 1),
            Err(_) => Err(WriteError::UnknownDeployment(*id)),
        });
        let targets: Vec<u32> = targets.collect::<Result<_, _>>()?;
        let deployments: Vec<DeploymentId> = self.deployments.iter().map(|deployment| deployment.id).collect();
        overlay::write(&self.routes, &targets, self.base.as_deref(), &deployments)
    }

    fn assemble(&self, sections: &[Vec<u8>; SECTIONS]) -> Result<Vec<u8>, WriteError> {
        let total = sections.iter().fold(SECTIONS_AT, |at, section| align8(at + section.len()));
        if total > base::limits::SNAPSHOT_BYTES_MAX {
            return Err(WriteError::TooLarge(total));
        }
        let mut out = Vec::with_capacity(total);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        out.extend_from_slice(&(SECTIONS as u32).to_le_bytes());
        out.extend_from_slice(&self.generation.to_le_bytes());
        out.extend_from_slice(&(total as u64).to_le_bytes());
        out.extend_from_slice(&self.lineage.0.to_le_bytes());
        out.extend_from_slice(&self.created_unix_ms.to_le_bytes());
        out.extend_from_slice(&self.env_key_id.to_le_bytes());
        out.extend_from_slice(&[0; 8]);
        let mut at = SECTIONS_AT;
        for (section, bytes) in Section::ALL.into_iter().zip(sections) {
            out.extend_from_slice(&(section as u32 + 1).to_le_bytes());
            out.extend_from_slice(&(section.record_bytes() as u32).to_le_bytes());
            out.extend_from_slice(&(at as u64).to_le_bytes());
            out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
            at = align8(at + bytes.len());
        }
        for bytes in sections {
            out.extend_from_slice(bytes);
            out.resize(align8(out.len()), 0);
        }
        let checksum = layout::checksum(&out);
        out[CHECKSUM_AT..CHECKSUM_AT + 8].copy_from_slice(&checksum.to_le_bytes());
        Ok(out)
    }
}

fn write_bindings<'a>(from: &'a [(BindingKind, String, String)], strings: &mut Strings<'a>, out: &mut Vec<u8>) {
    for (kind, name, target) in from {
        out.extend_from_slice(&kind.code().to_le_bytes());
        out.extend_from_slice(&0u32.to_le_bytes());
        strings.span(name, out);
        strings.span(target, out);
    }
}

/// Checks sorted candidates of sorted deployments.
fn check_candidates(candidates: &[NewCandidate], deployments: &[NewDeployment]) -> Result<(), WriteError> {
    let mut before = None;
    for candidate in candidates {
        let id = candidate.deployment;
        let wrong = |field| WriteError::Field { id, field };
        let of = deployments.binary_search_by_key(&id, |deployment| deployment.id);
        let of = of.map_err(|_| WriteError::UnknownDeployment(id))?;
        if before.replace(id) == Some(id) || deployments[of].version == candidate.version {
            return Err(wrong("candidate version"));
        }
        if !(1..SHARE_WHOLE).contains(&candidate.share) {
            return Err(wrong("candidate's share"));
        }
        if candidate.compatibility_date.len() > NAME_BYTES_MAX {
            return Err(wrong("compatibility date"));
        }
        check_bindings(&candidate.bindings).map_err(wrong)?;
    }
    Ok(())
}

fn check_bindings(bindings: &[(BindingKind, String, String)]) -> Result<(), &'static str> {
    let bound = |ok: bool, field| if ok { Ok(()) } else { Err(field) };
    bound(bindings.len() <= BINDINGS_MAX, "bindings")?;
    let texts_ok = |(kind, name, target): &(BindingKind, String, String)| {
        name.len() <= NAME_BYTES_MAX && target.len() <= kind.target_bytes_max()
    };
    bound(bindings.iter().all(texts_ok), "bindings")?;
    let services = bindings.iter().filter(|(kind, ..)| *kind == BindingKind::Service);
    let targets_ok = |(_, _, target): &(BindingKind, String, String)| ServiceTarget::parse(target).is_some();
    bound(services.into_iter().all(targets_ok), "service")
}

fn check_deployment(deployment: &NewDeployment) -> Result<(), &'static str> {
    let bound = |ok: bool, field| if ok { Ok(()) } else { Err(field) };
    bound(deployment.name.len() <= NAME_BYTES_MAX, "name")?;
    bound(deployment.subdomain.len() <= base::limits::SUBDOMAIN_BYTES_MAX, "subdomain")?;
    bound(deployment.compatibility_date.len() <= NAME_BYTES_MAX, "compatibility date")?;
    bound((1..=base::limits::WEIGHT_MAX).contains(&deployment.weight), "weight")?;
    bound(deployment.sealed_env.len() <= ENV_BYTES_MAX + SEAL_OVERHEAD_BYTES, "environment")?;
    check_bindings(&deployment.bindings)?;
    bound(deployment.crons.len() <= SCHEDULES_MAX, "schedules")?;
    bound(deployment.crons.iter().all(|text| text.parse::<Schedule>().is_ok()), "schedule")
}

fn write_names(names: &[NameRecord], sections: &mut [Vec<u8>; SECTIONS]) {
    let buckets = layout::directory_buckets(names.len());
    let mut starts = vec![0u32; buckets + 1];
    for name in names {
        starts[layout::bucket(name.hash, buckets) + 1] += 1;
    }
    for bucket in 0..buckets {
        starts[bucket + 1] += starts[bucket];
    }
    let directory = starts.iter().flat_map(|start| start.to_le_bytes());
    sections[Section::SubdomainDirectory as usize] = directory.collect();
    for name in names {
        name.write(&mut sections[Section::Subdomains as usize]);
    }
}
