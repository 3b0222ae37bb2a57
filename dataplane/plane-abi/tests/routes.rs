//! A snapshot over a base of routes answers as one that has them all itself; a base that is not as written is refused; and
//! bytes that nobody verified are read without harm.

use std::collections::BTreeMap;
use std::sync::Arc;

use base::id::{AccountId, ArtifactHash, DeploymentId};
use plane_abi::{
    BaseId, ChangedRoute, HostKind, Lineage, NewDeployment, NewRoute, PathKind, RouteBase, Snapshot, SnapshotError,
    SnapshotWriter, WriteError,
};
use proptest::prelude::*;

const LINEAGE: Lineage = Lineage(0x77);
const CHECKSUM_AT: usize = 40;

/// Host with `*.` or without, path with `*` or without.
type Routes = BTreeMap<(String, String), u128>;

fn new_route((host, path): &(String, String), to: u128) -> NewRoute {
    let (host_kind, host) = host.strip_prefix("*.").map_or((HostKind::Exact, &**host), |it| (HostKind::Wildcard, it));
    let (path_kind, path) = path.strip_suffix('*').map_or((PathKind::Exact, &**path), |it| (PathKind::Prefix, it));
    NewRoute { host_kind, host: host.to_owned(), path_kind, path: path.to_owned(), deployment: DeploymentId(to) }
}

fn writer(deployments: &[u128], routes: &Routes) -> SnapshotWriter {
    let mut writer = SnapshotWriter::new(LINEAGE, 3, 0, 0, "workers.localhost");
    for id in deployments {
        writer.deployment(NewDeployment::new(DeploymentId(*id), AccountId(1), ArtifactHash([0; 32])));
    }
    for (pattern, to) in routes {
        writer.route(new_route(pattern, *to));
    }
    writer
}

fn base_of(routes: &Routes) -> Arc<RouteBase> {
    let bytes = RouteBase::write(LINEAGE, routes.iter().map(|(pattern, to)| new_route(pattern, *to))).expect("valid");
    let base = RouteBase::from_vec(bytes).expect("opens");
    base.verify().expect("verifies");
    Arc::new(base)
}

fn over(base: &Arc<RouteBase>, deployments: &[u128], routes: &Routes) -> Snapshot {
    let bytes = writer(deployments, routes).over(Some(base.clone())).finish().expect("valid");
    assert!(matches!(Snapshot::from_vec(bytes.clone()), Err(SnapshotError::NoBase(id)) if id == base.id()));
    Snapshot::from_vec_over(bytes, &|id| {
        if id == base.id() { Ok(base.clone()) } else { Err(SnapshotError::NoBase(id)) }
    })
    .expect("opens")
}

/// Every pattern of a snapshot, with the id it leads to.
fn listed(snapshot: &Snapshot) -> Routes {
    let mut all = Routes::new();
    for (kind, host, routes) in snapshot.hosts() {
        for route in routes.routes() {
            let wildcard = if kind == HostKind::Wildcard { "*." } else { "" };
            let star = if route.kind == PathKind::Prefix { "*" } else { "" };
            let pattern = (format!("{wildcard}{host}"), format!("{}{star}", String::from_utf8_lossy(&route.path)));
            let to = snapshot.deployment(route.deployment).expect("there").id().0;
            assert!(all.insert(pattern, to).is_none(), "a pattern is listed once");
        }
    }
    all
}

fn some_routes(ids: std::ops::Range<u128>) -> impl Strategy<Value = Routes> {
    proptest::collection::btree_map(("(\\*\\.)?[ab](\\.[ab]){0,1}", "/[ab/]{0,3}\\*?"), ids, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn over_a_base_it_answers_as_if_it_had_all_itself(old in some_routes(0..8), changed in some_routes(2..10), gone in any::<u64>()) {
        // Deployments 0 and 1 are gone, 8 and 9 are new; some routes of the base stay, some go, some lead elsewhere.
        let base = base_of(&old);
        let deployments: Vec<u128> = (2..10).collect();
        let stays = old.iter().enumerate().filter(|(index, (_, to))| **to >= 2 && gone >> (index % 64) & 1 == 0);
        let mut routes: Routes = stays.map(|(_, (pattern, to))| (pattern.clone(), *to)).collect();
        routes.extend(changed);
        let snapshot = over(&base, &deployments, &routes);
        let whole = Snapshot::from_vec(writer(&deployments, &routes).finish().expect("valid")).expect("opens");
        prop_assert_eq!(&listed(&snapshot), &routes);
        prop_assert_eq!(&listed(&whole), &routes);
        for host in ["a", "b", "a.a", "a.b", "b.a", "b.b", "c"] {
            for kind in [HostKind::Exact, HostKind::Wildcard] {
                for path in ["/", "/a", "/b", "/a/", "/a/b", "//", "/ab", "/aba", "/b/b/b", "/abab"] {
                    let best = |of: &Snapshot| of.host(kind, host.as_bytes()).and_then(|routes| routes.best(path.as_bytes()));
                    prop_assert_eq!(best(&snapshot), best(&whole), "{:?} {} {}", kind, host, path);
                }
            }
        }
        prop_assert!(snapshot.own_routes_len() <= old.len() + routes.len());
    }

    #[test]
    fn what_is_known_to_have_changed_gives_the_same_bytes_as_comparing_all(
        old in some_routes(0..8),
        changed in some_routes(2..10),
        gone in any::<u64>(),
        more in any::<u64>(),
    ) {
        let base = base_of(&old);
        let deployments: Vec<u128> = (2..10).collect();
        let mut routes = old.clone();
        let mut touched: Vec<(String, String)> = Vec::new();
        for (index, pattern) in old.keys().enumerate() {
            if gone >> (index % 64) & 1 == 0 {
                routes.remove(pattern);
                touched.push(pattern.clone());
            } else if more >> (index % 64) & 1 == 0 {
                // Changed and changed back.
                touched.push(pattern.clone());
            }
        }
        touched.extend(changed.keys().cloned());
        routes.extend(changed);
        let changes = touched.iter().map(|pattern| {
            let NewRoute { host_kind, host, path_kind, path, .. } = new_route(pattern, 0);
            let deployment = routes.get(pattern).map(|id| DeploymentId(*id));
            ChangedRoute { host_kind, host, path_kind, path, deployment }
        });
        let fast = writer(&deployments, &Routes::new()).over_changes(base.clone(), changes.collect()).finish();
        // All that leads to a deployment which is there; the rest is no route.
        let there: Routes = routes.into_iter().filter(|(_, to)| *to >= 2).collect();
        let slow = writer(&deployments, &there).over(Some(base)).finish();
        prop_assert_eq!(fast, slow);
    }

    #[test]
    fn a_base_is_a_function_of_its_routes(routes in some_routes(0..8), by in any::<usize>()) {
        let mut shuffled: Vec<NewRoute> = routes.iter().map(|(pattern, to)| new_route(pattern, *to)).collect();
        shuffled.rotate_left(by % routes.len());
        shuffled.push(shuffled[0].clone());
        let base = base_of(&routes);
        prop_assert_eq!(&RouteBase::write(LINEAGE, shuffled).expect("valid"), base.bytes());
        // Over itself it changes nothing.
        let deployments: Vec<u128> = (0..8).collect();
        prop_assert_eq!(over(&base, &deployments, &routes).own_routes_len(), 0);
    }
}

fn sample() -> Routes {
    let route = |host: &str, path: &str| (host.to_owned(), path.to_owned());
    let mut routes = Routes::new();
    for (index, host) in ["example.com", "*.example.com", "b.org", "*.c.d.e"].into_iter().enumerate() {
        for path in ["/*", "/api/*", "/api/", "/api/v1/users", "/b"] {
            routes.insert(route(host, path), index as u128 + 3);
        }
    }
    routes
}

#[test]
fn a_base_that_is_not_as_written_is_refused_or_harmless() {
    let bytes = base_of(&sample()).bytes().to_vec();
    let verified = |bytes: Vec<u8>| RouteBase::from_vec(bytes).and_then(|base| base.verify().map(|()| base));
    let mut passed = 0;
    for at in 0..bytes.len() {
        assert!(RouteBase::from_vec(bytes[..at].to_vec()).is_err(), "cut at {at}");
        for bit in 0..8 {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << bit;
            assert!(RouteBase::from_vec(changed.clone()).is_err(), "bit {bit} of byte {at}");
            // With a checksum that fits, only the checks of records are left.
            let mut hash = xxhash_rust::xxh3::Xxh3::new();
            hash.update(&changed[..CHECKSUM_AT]);
            hash.update(&changed[CHECKSUM_AT + 8..]);
            changed[CHECKSUM_AT..CHECKSUM_AT + 8].copy_from_slice(&hash.digest().to_le_bytes());
            passed += usize::from(verified(changed.clone()).is_ok());
            // Unverified, and served from all the same: any answer, no harm.
            if let Ok(base) = RouteBase::from_vec(changed) {
                let (base, deployments) = (Arc::new(base), [3, 4, 5, 6]);
                let Ok(bytes) = writer(&deployments, &Routes::new()).over(Some(base.clone())).finish() else {
                    continue;
                };
                let Ok(snapshot) = Snapshot::from_vec_over(bytes, &|_| Ok(base.clone())) else { continue };
                for host in ["example.com", "b.org", "c.d.e"] {
                    for kind in [HostKind::Exact, HostKind::Wildcard] {
                        let found = snapshot.host(kind, host.as_bytes());
                        let _ = found.map(|routes| (routes.best(b"/api/v1/users"), routes.routes().len()));
                    }
                }
                let _ = snapshot.hosts().count();
            }
        }
    }
    // Those of deployments' ids and of letters of paths: what is left is another base, of the same form.
    assert!(passed < 2 * bytes.len(), "{passed} of {} flips passed", bytes.len() * 8);
}

#[test]
fn a_pattern_cannot_change_to_two_things() {
    let changed = |to: Option<u128>| {
        let NewRoute { host_kind, host, path_kind, path, .. } = new_route(&("b.org".into(), "/api/*".into()), 0);
        ChangedRoute { host_kind, host, path_kind, path, deployment: to.map(DeploymentId) }
    };
    let write = |changes: [Option<u128>; 2]| {
        writer(&[3, 4], &Routes::new()).over_changes(base_of(&sample()), changes.map(changed).to_vec()).finish()
    };
    assert!(write([Some(3), Some(3)]).is_ok());
    assert!(matches!(write([Some(4), Some(3)]), Err(WriteError::RouteConflict { first: DeploymentId(3), .. })));
    assert!(matches!(write([Some(4), None]), Err(WriteError::Route(_))));
}

#[test]
fn a_snapshot_takes_no_base_but_its_own() {
    let (base, routes) = (base_of(&sample()), sample());
    let bytes = writer(&[3, 4, 5, 6], &routes).over(Some(base.clone())).finish().expect("valid");
    let (header, names) = plane_abi::SnapshotHeader::read(&bytes).expect("whole");
    assert_eq!((header.generation, names), (3, Some(base.id())));
    let other = base_of(&sample().into_iter().take(3).collect());
    let refused = Snapshot::from_vec_over(bytes.clone(), &|_| Ok(other.clone()));
    assert!(matches!(refused, Err(SnapshotError::OtherBase(id)) if id == other.id()));
    let foreign =
        RouteBase::write(Lineage(1), routes.iter().map(|(pattern, to)| new_route(pattern, *to))).expect("valid");
    let foreign = Arc::new(RouteBase::from_vec(foreign).expect("opens"));
    let written = writer(&[3, 4, 5, 6], &routes).over(Some(foreign)).finish();
    assert!(matches!(written, Err(WriteError::Unreadable(_))), "{written:?}");
    let id = base.id();
    assert_eq!(id.to_string().parse(), Ok(id));
    for text in ["", "-", "1-2", "000000000000000g-5", "0000000000000001-05", "0000000000000001--5"] {
        assert!(text.parse::<BaseId>().is_err(), "{text}");
    }
}

#[test]
fn one_change_among_many_is_small_in_the_snapshot_and_smaller_on_its_way() {
    let mut routes = Routes::new();
    for host in 0..2000 {
        for path in ["/*", "/api/*", "/login"] {
            routes.insert((format!("host-{host}.example.com"), path.to_owned()), host % 100);
        }
    }
    let base = base_of(&routes);
    let deployments: Vec<u128> = (0..100).collect();
    let before = over(&base, &deployments, &routes);
    for (pattern, to) in routes.iter_mut().take(10) {
        assert_ne!(pattern.1, "");
        *to = (*to + 1) % 100;
    }
    let after = over(&base, &deployments, &routes);
    assert_eq!((before.own_routes_len(), after.own_routes_len()), (0, 10));
    let delta = plane_abi::delta::make(before.bytes(), after.bytes());
    assert!(delta.len() < 1000, "{} bytes", delta.len());
    let made = plane_abi::delta::apply(before.bytes(), &delta, after.bytes().len());
    assert_eq!(made.as_deref(), Ok(after.bytes()));
}
