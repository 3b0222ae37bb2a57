//! Which deployment a request goes to: [`lookup`] over a snapshot, and [`RouteCache`] before it.
//!
//! Order (seed 000, "Request Routing Algorithm", with its "priorities by specificity" made exact):
//! 1. patterns of the very host;
//! 2. patterns of wildcard hosts above it, the one with most labels first: for `a.b.example.com` that is
//!    `*.b.example.com`, `*.example.com`, `*.com`;
//! 3. `<subdomain>.<platform domain>`, one label.
//!
//! Within a host an exact path wins over a prefix, a longer prefix over a shorter. A host none of whose patterns matches
//! the path leaves the request to the next step. The query takes no part. Host and path are brought into normal form
//! by `plane_abi::pattern`, as the compiler did with the patterns.
//!
//! Sans-IO, no unsafe. `lookup` has no state and makes no allocation unless the path is not in normal form. Cost: for the host and for each host
//! above it that has as many labels as some wildcard, one hash and one probe; for each host found, a walk along the path.
//! It does not depend on how many routes there are, in all or of one host. Whether a deployment is paused is the caller's
//! matter.

#![forbid(unsafe_code)]

mod cache;

pub use cache::{CacheCounts, ENTRIES_MAX, KEY_BYTES_MAX, MEMORY_BYTES_MAX, RouteCache, TTL_NS};
use plane_abi::pattern::{normalise_host, normalise_path};
use plane_abi::{DeploymentIx, HostKind, Snapshot};

/// The deployment of a request, by its `Host` field and the path of its target (with or without query). None: 404.
pub fn lookup(snapshot: &Snapshot, host: &[u8], path: &[u8]) -> Option<DeploymentIx> {
    let name = normalise_host(host)?;
    let host = name.as_bytes();
    let path = normalise_path(path);
    if let Some(found) = by_pattern(snapshot, host, &path) {
        return Some(found);
    }
    let label = host.strip_suffix(snapshot.platform_domain().as_bytes())?.strip_suffix(b".")?;
    snapshot.subdomain(label)
}

fn by_pattern(snapshot: &Snapshot, host: &[u8], path: &[u8]) -> Option<DeploymentIx> {
    let find = |kind, host| snapshot.host(kind, host).and_then(|routes| routes.best(path));
    if let Some(found) = find(HostKind::Exact, host) {
        return Some(found);
    }
    let wildcards = snapshot.wildcard_labels();
    if wildcards == 0 {
        return None;
    }
    let mut labels = host.iter().filter(|byte| **byte == b'.').count();
    for (dot, _) in host.iter().enumerate().filter(|(_, byte)| **byte == b'.') {
        let found =
            if wildcards >> labels.min(127) & 1 == 1 { find(HostKind::Wildcard, &host[dot + 1..]) } else { None };
        if found.is_some() {
            return found;
        }
        labels -= 1;
    }
    None
}
