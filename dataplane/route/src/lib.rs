//! Which deployment a request goes to: [`lookup`] over a snapshot.
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
//! Sans-IO, no state, no unsafe, no allocation unless the path is not in normal form. Cost: one hash and one probe per
//! label of the host (at most 127), and per host found a bisection of its patterns and a walk up nested prefixes; it
//! does not depend on how many routes there are in all. Whether a deployment is paused is the caller's matter.

#![forbid(unsafe_code)]

use plane_abi::pattern::{normalise_host, normalise_path};
use plane_abi::{DeploymentIx, HostKind, HostRoutes, PathKind, Snapshot};

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
    let find = |kind, host| snapshot.host(kind, host).and_then(|routes| match_path(&routes, path));
    find(HostKind::Exact, host).or_else(|| {
        let dots = host.iter().enumerate().filter(|(_, byte)| **byte == b'.');
        dots.map(|(dot, _)| &host[dot + 1..]).find_map(|above| find(HostKind::Wildcard, above))
    })
}

/// The most specific pattern of one host that matches.
///
/// Patterns are sorted by (path, prefix before exact). Take the last that is not after the path: if any pattern
/// matches, then it is that one or a prefix of it, because everything sorted between a prefix of the path and the path
/// itself begins with that prefix. The prefixes of a pattern are its chain of parents.
fn match_path(routes: &HostRoutes<'_>, path: &[u8]) -> Option<DeploymentIx> {
    let (mut low, mut high) = (0, routes.len());
    while low < high {
        let middle = low + (high - low) / 2;
        if routes.path(middle) <= path {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    let mut candidate = low.checked_sub(1);
    // Ends: a parent is always before its child.
    while let Some(route) = candidate.and_then(|index| routes.get(index)) {
        let matches = match route.kind {
            PathKind::Exact => route.path == path,
            PathKind::Prefix => path.starts_with(route.path),
        };
        if matches {
            return Some(route.deployment);
        }
        candidate = route.parent.filter(|parent| Some(*parent) < candidate);
    }
    None
}
