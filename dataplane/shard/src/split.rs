//! Requests of a deployment between its active version and a candidate that gets a share of them: which it is, and how each fares.
//!
//! The rule is [`plane_abi::split`]'s. Counts are of versions that share a deployment's requests now; the agent reads them for its
//! heartbeats. *Bounds:* `VERSIONS_COUNTED_MAX` versions. *Invariant:* a shard never waits for who reads its counts.

use crate::shard::Shard;
use base::id::DeploymentId;
use h1::request::RequestHead;
use plane_abi::limits::VERSIONS_COUNTED_MAX;
use plane_abi::plane::Published;
use plane_abi::split::{self, KEY_FIELD, VERSION_FIELD};
use plane_abi::wire::VersionCounts;
use plane_abi::{Deployment, DeploymentIx, Snapshot};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::IpAddr;

/// Of the versions of a deployment, which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Lane {
    Active,
    Candidate,
}

/// Who asks.
pub(crate) enum Asker<'a> {
    /// A client with a request.
    Client { head: &'a RequestHead, address: &'a dyn Fn() -> Option<IpAddr> },
    /// A request that goes on with the version that it had.
    Version(u32),
}

/// The deployment at a place, with the version of a lane.
pub(crate) fn deployment_in(snapshot: &Snapshot, place: DeploymentIx, lane: Lane) -> Option<Deployment<'_>> {
    match lane {
        Lane::Active => snapshot.deployment(place),
        Lane::Candidate => snapshot.candidate(place).map(|(candidate, _)| candidate),
    }
}

/// Which version of the deployment at a place a request goes to; and whether there are two.
#[inline]
pub(crate) fn lane(snapshot: &Snapshot, place: DeploymentIx, asker: &Asker<'_>) -> (Lane, bool) {
    match snapshot.candidate(place) {
        None => (Lane::Active, false),
        Some((candidate, share)) => (choose(snapshot, place, &candidate, share, asker), true),
    }
}

#[cold]
fn choose(snapshot: &Snapshot, place: DeploymentIx, candidate: &Deployment<'_>, share: u32, asker: &Asker<'_>) -> Lane {
    let (head, address) = match asker {
        Asker::Client { head, address } => (head, address),
        Asker::Version(version) if *version == candidate.version() => return Lane::Candidate,
        Asker::Version(_) => return Lane::Active,
    };
    let active = snapshot.deployment(place).map(|active| active.version());
    match head.headers.get(VERSION_FIELD).and_then(split::version) {
        Some(named) if named == candidate.version() => return Lane::Candidate,
        Some(named) if Some(named) == active => return Lane::Active,
        _ => {}
    }
    let goes = |client: &[u8]| split::goes_to_candidate(client, candidate.id(), candidate.version(), share);
    let goes = match (head.headers.get(KEY_FIELD), address()) {
        (Some(key), _) => goes(key),
        (None, Some(IpAddr::V4(address))) => goes(&address.octets()),
        (None, Some(IpAddr::V6(address))) => goes(&address.octets()),
        (None, None) => false,
    };
    if goes { Lane::Candidate } else { Lane::Active }
}

/// How requests of versions fare that share a deployment's.
#[derive(Default)]
pub(crate) struct Counts {
    of: RefCell<HashMap<(DeploymentId, u32), (u64, u64)>>,
    changed: Cell<bool>,
}

impl Counts {
    /// A request of that version has ended.
    pub(crate) fn ended(&self, deployment: DeploymentId, version: u32, good: bool) {
        let mut of = self.of.borrow_mut();
        if of.len() >= VERSIONS_COUNTED_MAX && !of.contains_key(&(deployment, version)) {
            return;
        }
        let (requests, errors) = of.entry((deployment, version)).or_default();
        *requests += 1;
        *errors += u64::from(!good);
        self.changed.set(true);
    }

    /// Shows what has changed to who reads, unless they are reading: then at the next tick.
    pub(crate) fn show(&self, shard: &Shard) {
        if !self.changed.get() {
            return;
        }
        let Ok(mut shown) = shard.metrics.versions.try_lock() else { return };
        shown.clear();
        shown.extend(self.of.borrow().iter().map(|((deployment, version), (requests, errors))| VersionCounts {
            deployment: deployment.0,
            version: *version,
            requests: *requests,
            errors: *errors,
        }));
        self.changed.set(false);
    }

    /// Forgets versions that no longer share.
    pub(crate) fn sweep(&self, published: &Published) {
        let mut of = self.of.borrow_mut();
        if of.is_empty() {
            return;
        }
        let snapshot = published.snapshot();
        of.retain(|(deployment, version), _| {
            let place = snapshot.find_deployment(*deployment);
            let both = place.and_then(|place| Some((snapshot.deployment(place)?, snapshot.candidate(place)?.0)));
            both.is_some_and(|(active, candidate)| [active.version(), candidate.version()].contains(version))
        });
        self.changed.set(true);
    }
}
