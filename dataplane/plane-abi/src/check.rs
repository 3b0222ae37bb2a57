//! Whether bytes are a whole snapshot: run once, before anything is published.
//!
//! Two steps: the frame (length, magic, format, checksum, section table), then every record. The second also holds for
//! bytes whose checksum is right, for a checksum says nothing about who wrote them.

use std::ops::Range;

use crate::cron::EXPRESSION_BYTES_MAX;
use crate::layout::{
    self, BINDING_BYTES, CANDIDATE_BYTES, CHECKSUM_AT, DEPLOYMENT_BYTES, FORMAT_VERSION, HEADER_BYTES, MAGIC,
    NAME_BYTES, NameRecord, SCHEDULE_BYTES, SECTIONS, SECTIONS_AT, Section, TABLE_ENTRY_BYTES, align8, span_at, u8_at,
    u16_at, u32_at, u64_at, u128_at,
};
use crate::limits::{ENV_BYTES_MAX, HOST_BYTES_MAX, NAME_BYTES_MAX, SEAL_OVERHEAD_BYTES, SHARE_WHOLE};
use crate::snapshot::{BindingKind, Distribution, SUBDOMAIN_KIND, ServiceTarget, Snapshot, SnapshotError, Status};

fn malformed(section: Section, record: usize, problem: &'static str) -> SnapshotError {
    SnapshotError::Malformed { section: section.label(), record, problem }
}

/// Checks the frame and gives each section's place.
pub(crate) fn sections(bytes: &[u8]) -> Result<[Range<usize>; SECTIONS], SnapshotError> {
    if bytes.len() < SECTIONS_AT {
        return Err(SnapshotError::Length { expected: SECTIONS_AT as u64, actual: bytes.len() as u64 });
    }
    if bytes.len() > base::limits::SNAPSHOT_BYTES_MAX {
        return Err(SnapshotError::TooLarge(bytes.len() as u64));
    }
    if !bytes.starts_with(&MAGIC) {
        return Err(SnapshotError::Magic);
    }
    if u32_at(bytes, 8) != FORMAT_VERSION {
        return Err(SnapshotError::Format(u32_at(bytes, 8)));
    }
    if u64_at(bytes, 24) != bytes.len() as u64 {
        return Err(SnapshotError::Length { expected: u64_at(bytes, 24), actual: bytes.len() as u64 });
    }
    let (expected, actual) = (u64_at(bytes, CHECKSUM_AT), layout::checksum(bytes));
    if expected != actual {
        return Err(SnapshotError::Checksum { expected, actual });
    }
    if u32_at(bytes, 12) as usize != SECTIONS {
        return Err(malformed(Section::Meta, 0, "wrong number of sections"));
    }
    let mut places: [Range<usize>; SECTIONS] = std::array::from_fn(|_| 0..0);
    let mut at = SECTIONS_AT;
    for section in Section::ALL {
        let entry = &bytes[HEADER_BYTES + section as usize * TABLE_ENTRY_BYTES..];
        let length = usize::try_from(u64_at(entry, 16)).unwrap_or(usize::MAX);
        let end = at.checked_add(length).filter(|end| *end <= bytes.len());
        let (Some(end), true) = (end, u64_at(entry, 8) == at as u64) else {
            return Err(malformed(section, 0, "not where the section before it ends"));
        };
        if u32_at(entry, 0) as usize != section as usize + 1 || u32_at(entry, 4) as usize != section.record_bytes() {
            return Err(malformed(section, 0, "unknown kind or record size"));
        }
        if !length.is_multiple_of(section.record_bytes()) {
            return Err(malformed(section, 0, "ends within a record"));
        }
        places[section as usize] = at..end;
        at = align8(end);
        if bytes.get(end..at).is_none_or(|padding| padding.iter().any(|byte| *byte != 0)) {
            return Err(malformed(section, 0, "not followed by zero bytes up to the next multiple of 8"));
        }
    }
    if at != bytes.len() {
        return Err(malformed(Section::Candidates, 0, "is not the last thing in the snapshot"));
    }
    Ok(places)
}

/// Checks every record of a snapshot whose frame holds.
pub(crate) fn records(snapshot: &Snapshot) -> Result<(), SnapshotError> {
    let strings = std::str::from_utf8(snapshot.section(Section::Strings))
        .map_err(|error| malformed(Section::Strings, error.valid_up_to(), "not UTF-8"))?;
    let meta = snapshot.section(Section::Meta);
    if meta.len() != Section::Meta.record_bytes()
        || text(strings, span_at(meta, 0), HOST_BYTES_MAX).is_none_or(str::is_empty)
    {
        return Err(malformed(Section::Meta, 0, "platform domain"));
    }
    let (subdomains, own_bindings) = deployments(snapshot, strings)?;
    candidates(snapshot, strings, own_bindings)?;
    bindings(snapshot, strings)?;
    schedules(snapshot, strings)?;
    names(snapshot, strings)?;
    subdomain_names(snapshot, subdomains)?;
    routes(snapshot)?;
    crate::steering::Rules::decode(snapshot.section(Section::Steering)).map(drop).map_err(SnapshotError::Steering)
}

fn text(strings: &str, span: Range<usize>, bytes_max: usize) -> Option<&str> {
    if span.len() > bytes_max { None } else { strings.get(span) }
}

/// Checks deployments, and gives how many have a subdomain, and where their bindings end.
fn deployments(snapshot: &Snapshot, strings: &str) -> Result<(usize, u64), SnapshotError> {
    let section = Section::Deployments;
    let (mut env_end, mut binding_end, mut subdomains, mut id_before) = (0u64, 0u64, 0, None);
    for (index, bytes) in snapshot.section(section).chunks_exact(DEPLOYMENT_BYTES).enumerate() {
        let id = u128_at(bytes, 0);
        if id_before.replace(id).is_some_and(|before| before >= id) {
            return Err(malformed(section, index, "ids are not ascending"));
        }
        if Status::from_code(u8_at(bytes, 96)).is_none() {
            return Err(malformed(section, index, "unknown status"));
        }
        if Distribution::from_code(u8_at(bytes, 97)).is_none() {
            return Err(malformed(section, index, "unknown distribution"));
        }
        if u16_at(bytes, 98) > base::limits::WEIGHT_MAX {
            return Err(malformed(section, index, "weight over its limit"));
        }
        for at in [104, 112, 120] {
            if text(strings, span_at(bytes, at), NAME_BYTES_MAX).is_none() {
                return Err(malformed(section, index, "text out of place"));
            }
        }
        subdomains += usize::from(!span_at(bytes, 112).is_empty());
        let (env_at, env_bytes) = (u64_at(bytes, 72), u64::from(u32_at(bytes, 88)));
        if env_at != env_end || env_bytes > (ENV_BYTES_MAX + SEAL_OVERHEAD_BYTES) as u64 {
            return Err(malformed(section, index, "environment out of place"));
        }
        env_end = env_at + env_bytes;
        if u64::from(u32_at(bytes, 128)) != binding_end {
            return Err(malformed(section, index, "bindings out of place"));
        }
        binding_end += u64::from(u32_at(bytes, 132));
    }
    if env_end != snapshot.section(Section::Blobs).len() as u64 {
        return Err(malformed(Section::Blobs, 0, "not what the deployments refer to"));
    }
    Ok((subdomains, binding_end))
}

/// Checks candidates: each a deployment's, which it is in all but what belongs to a version.
fn candidates(snapshot: &Snapshot, strings: &str, mut binding_end: u64) -> Result<(), SnapshotError> {
    let (section, deployments) = (Section::Candidates, snapshot.section(Section::Deployments));
    let mut place_before = None;
    for (index, bytes) in snapshot.section(section).chunks_exact(CANDIDATE_BYTES).enumerate() {
        let (place, share) = (u32_at(bytes, DEPLOYMENT_BYTES), u32_at(bytes, DEPLOYMENT_BYTES + 4));
        if place_before.replace(place).is_some_and(|before| before >= place) {
            return Err(malformed(section, index, "deployments are not ascending"));
        }
        let of = layout::record(deployments, place as usize, DEPLOYMENT_BYTES);
        let of = of.ok_or(malformed(section, index, "belongs to no deployment"))?;
        if [0..32, 72..92, 96..120].into_iter().any(|span| of[span.clone()] != bytes[span]) {
            return Err(malformed(section, index, "is not its deployment in all that it shares"));
        }
        if u32_at(bytes, 92) == u32_at(of, 92) || !(1..SHARE_WHOLE).contains(&share) {
            return Err(malformed(section, index, "version or share"));
        }
        if text(strings, span_at(bytes, 120), NAME_BYTES_MAX).is_none() {
            return Err(malformed(section, index, "text out of place"));
        }
        if u64::from(u32_at(bytes, 128)) != binding_end {
            return Err(malformed(section, index, "bindings out of place"));
        }
        binding_end += u64::from(u32_at(bytes, 132));
    }
    if binding_end != (snapshot.section(Section::Bindings).len() / BINDING_BYTES) as u64 {
        return Err(malformed(Section::Bindings, 0, "not what the deployments refer to"));
    }
    Ok(())
}

fn bindings(snapshot: &Snapshot, strings: &str) -> Result<(), SnapshotError> {
    for (index, bytes) in snapshot.section(Section::Bindings).chunks_exact(BINDING_BYTES).enumerate() {
        let kind = BindingKind::from_code(u32_at(bytes, 0));
        let target_bytes_max = kind.map_or(0, BindingKind::target_bytes_max);
        let texts = [(8, NAME_BYTES_MAX), (16, target_bytes_max)];
        let texts = texts.map(|(at, bytes_max)| text(strings, span_at(bytes, at), bytes_max));
        if kind.is_none() || u32_at(bytes, 4) != 0 || texts.contains(&None) {
            return Err(malformed(Section::Bindings, index, "unknown kind, or text out of place"));
        }
        let service = kind == Some(BindingKind::Service);
        if service && texts[1].is_none_or(|target| ServiceTarget::parse(target).is_none()) {
            return Err(malformed(Section::Bindings, index, "a service without a target"));
        }
    }
    Ok(())
}

/// Checks that schedules are strictly ascending by (deployment, expression), and each a deployment's.
fn schedules(snapshot: &Snapshot, strings: &str) -> Result<(), SnapshotError> {
    let mut before: Option<(u32, &str)> = None;
    for (index, bytes) in snapshot.section(Section::Schedules).chunks_exact(SCHEDULE_BYTES).enumerate() {
        let wrong = |problem| malformed(Section::Schedules, index, problem);
        let deployment = u32_at(bytes, 0);
        let expression = text(strings, span_at(bytes, 8), EXPRESSION_BYTES_MAX);
        let expression = expression.ok_or_else(|| wrong("text out of place"))?;
        if deployment >= snapshot.deployments_len() || u32_at(bytes, 4) != 0 {
            return Err(wrong("belongs to no deployment"));
        }
        if before.replace((deployment, expression)).is_some_and(|before| before >= (deployment, expression)) {
            return Err(wrong("schedules are not ascending"));
        }
    }
    Ok(())
}

/// Checks that names are strictly ascending by (hash, kind, text), that each hash is its text's, and the directory.
fn names(snapshot: &Snapshot, strings: &str) -> Result<(), SnapshotError> {
    let (directory_at, names_at) = (Section::SubdomainDirectory, Section::Subdomains);
    let (directory, names) = (snapshot.section(directory_at), snapshot.section(names_at));
    let count = names.len() / NAME_BYTES;
    let buckets = layout::directory_buckets(count);
    if directory.len() != (buckets + 1) * 4 {
        return Err(malformed(directory_at, 0, "not as long as its names need"));
    }
    let mut before: Option<(u64, u16, &str)> = None;
    let mut next_bucket = 0;
    for index in 0..count {
        let Some(name) = NameRecord::read(names, index) else {
            return Err(malformed(names_at, index, "cut off"));
        };
        let start = name.text_at as usize;
        let Some(host) = text(strings, start..start + usize::from(name.text_bytes), HOST_BYTES_MAX) else {
            return Err(malformed(names_at, index, "text out of place"));
        };
        if name.hash != layout::name_hash(snapshot.lineage().0, name.kind, host.as_bytes()) {
            return Err(malformed(names_at, index, "hash is not its text's"));
        }
        let key = (name.hash, name.kind, host);
        if before.replace(key).is_some_and(|before| before >= key) {
            return Err(malformed(names_at, index, "names are not ascending"));
        }
        // Buckets up to this name's begin here or before.
        while next_bucket <= layout::bucket(name.hash, buckets) {
            if u32_at(directory, next_bucket * 4) as usize != index {
                return Err(malformed(directory_at, next_bucket, "does not point at its first name"));
            }
            next_bucket += 1;
        }
    }
    for bucket in next_bucket..=buckets {
        if u32_at(directory, bucket * 4) as usize != count {
            return Err(malformed(directory_at, bucket, "does not point past the last name"));
        }
    }
    Ok(())
}

fn subdomain_names(snapshot: &Snapshot, with_subdomain: usize) -> Result<(), SnapshotError> {
    let names = snapshot.section(Section::Subdomains);
    // Names are distinct, each belongs to a deployment that bears it, and there are as many: so it is one to one.
    if names.len() / NAME_BYTES != with_subdomain {
        return Err(malformed(Section::Subdomains, 0, "not one for each deployment with a subdomain"));
    }
    for index in 0..with_subdomain {
        let wrong = || malformed(Section::Subdomains, index, "not its deployment's subdomain");
        let name = NameRecord::read(names, index).ok_or_else(wrong)?;
        let deployment = snapshot.deployment(crate::DeploymentIx(name.deployment)).ok_or_else(wrong)?;
        let text = name.text(snapshot.section(Section::Strings));
        if name.kind != SUBDOMAIN_KIND || text.is_empty() || deployment.subdomain().as_bytes() != text {
            return Err(wrong());
        }
    }
    Ok(())
}

/// Checks the snapshot's own routes.
fn routes(snapshot: &Snapshot) -> Result<(), SnapshotError> {
    let deployments = snapshot.deployments_len();
    let changes_a_base = snapshot.base().is_some();
    let mut target = |target: u32| match target.checked_sub(1) {
        Some(place) if place < deployments => Ok(()),
        None if changes_a_base => Ok(()),
        _ => Err("leads to no deployment"),
    };
    let verified = snapshot.own_table().verify(snapshot.section(Section::Routes), snapshot.lineage().0, &mut target);
    verified.map_err(|(record, problem)| malformed(Section::Routes, record, problem))
}
