//! `RouteCache` answers as `lookup` does, whatever was asked before, in which snapshot and when; and keeps to its bounds.

use base::id::{AccountId, ArtifactHash, DeploymentId};
use plane_abi::{HostKind, Lineage, NewDeployment, NewRoute, PathKind, Snapshot, SnapshotWriter};
use proptest::prelude::*;
use route::{CacheCounts, ENTRIES_MAX, KEY_BYTES_MAX, MEMORY_BYTES_MAX, RouteCache, TTL_NS, lookup};

/// Four deployments; `routes` gives host, path and place.
fn snapshot(generation: u64, routes: &[(&str, &str, u32)]) -> Snapshot {
    let mut writer = SnapshotWriter::new(Lineage(5), generation, 0, 0, "workers.localhost");
    for id in 0..4 {
        writer.deployment(NewDeployment::new(DeploymentId(id), AccountId(1), ArtifactHash([0; 32])));
    }
    for (host, path, place) in routes {
        let (host_kind, host) =
            host.strip_prefix("*.").map_or((HostKind::Exact, *host), |host| (HostKind::Wildcard, host));
        writer.route(NewRoute {
            host_kind,
            host: host.to_owned(),
            path_kind: PathKind::Prefix,
            path: (*path).to_owned(),
            deployment: DeploymentId(u128::from(*place)),
        });
    }
    Snapshot::from_vec(writer.finish().expect("valid")).expect("opens")
}

fn ask(cache: &mut RouteCache, snapshot: &Snapshot, host: &str, path: &str, now_ns: u64) -> Option<u32> {
    cache.lookup(snapshot, host.as_bytes(), path.as_bytes(), now_ns).map(|ix| ix.0)
}

#[test]
fn an_entry_counts_for_a_minute_and_for_its_snapshot() {
    let (one, two) = (snapshot(1, &[("a.b", "/", 0)]), snapshot(2, &[("a.b", "/", 1)]));
    let mut cache = RouteCache::new(7);
    let counts = |cache: &RouteCache| (cache.counts().hits, cache.counts().misses);
    for (now_ns, expected) in [(0, (0, 1)), (TTL_NS - 1, (1, 1)), (TTL_NS, (1, 2)), (2 * TTL_NS - 1, (2, 2))] {
        assert_eq!(ask(&mut cache, &one, "a.b", "/x", now_ns), Some(0));
        assert_eq!(counts(&cache), expected, "at {now_ns}");
    }
    assert_eq!(ask(&mut cache, &two, "a.b", "/x", 0), Some(1));
    assert_eq!(ask(&mut cache, &two, "a.b", "/x?query=1#f", 0), Some(1));
    assert_eq!(counts(&cache), (3, 3), "the query is no part of the key");
    assert_eq!(ask(&mut cache, &two, "c.b", "/x", 0), None);
    assert_eq!((ask(&mut cache, &two, "c.b", "/x", 0), cache.len()), (None, 1), "what leads nowhere is not kept");
    let long = format!("/{}", "x".repeat(KEY_BYTES_MAX));
    assert_eq!((ask(&mut cache, &two, "a.b", &long, 0), cache.len()), (Some(1), 1));
}

#[test]
fn a_new_snapshot_is_met_warm_by_what_was_used_last() {
    let (one, two) = (snapshot(1, &[("a.b", "/", 0)]), snapshot(2, &[("a.b", "/", 1), ("a.b", "/3", 2)]));
    let mut cache = RouteCache::new(7);
    for number in 0..1000 {
        ask(&mut cache, &one, "a.b", &format!("/{number}"), 0);
    }
    assert!(!cache.warm(&one, 0, 10), "nothing is stale");
    assert!(cache.warm(&two, 5, 100), "900 are left");
    let before = cache.counts();
    assert_eq!(before.warmed, 100);
    for number in 900..1000 {
        assert_eq!(ask(&mut cache, &two, "a.b", &format!("/{number}"), 6), Some(1));
    }
    assert_eq!(cache.counts(), CacheCounts { hits: before.hits + 100, ..before });
    assert_eq!(ask(&mut cache, &two, "a.b", "/3", 6), Some(2), "asked for before its turn");
    let mut turns = 0;
    while cache.warm(&two, 7, 64) {
        turns += 1;
        assert!(turns < 20, "it ends");
    }
    assert_eq!(cache.counts().warmed, 999);
    let gone = snapshot(3, &[("else", "/", 0)]);
    while cache.warm(&gone, 8, 64) {}
    assert!(cache.is_empty(), "keys that lead nowhere any more go");
}

#[test]
fn a_flood_of_keys_evicts_the_least_used_and_stays_within_its_memory() {
    let one = snapshot(1, &[("a.b", "/", 0)]);
    let mut cache = RouteCache::new(7);
    let filler = "x".repeat(KEY_BYTES_MAX - 20);
    let mut misses_of_hot = 0;
    for number in 0..3 * ENTRIES_MAX {
        ask(&mut cache, &one, "a.b", &format!("/{number:09}/{filler}"), 0);
        if number % 10_000 == 0 {
            let before = cache.counts().misses;
            ask(&mut cache, &one, "a.b", "/hot", 0);
            misses_of_hot += cache.counts().misses - before;
        }
    }
    assert_eq!((cache.len(), misses_of_hot), (ENTRIES_MAX, 1), "what is used stays");
    assert!(cache.memory_bytes() <= MEMORY_BYTES_MAX, "{}", cache.memory_bytes());
    let before = cache.counts();
    ask(&mut cache, &one, "a.b", &format!("/{:09}/{filler}", 3 * ENTRIES_MAX - 1), 0);
    ask(&mut cache, &one, "a.b", &format!("/{:09}/{filler}", 5), 0);
    assert_eq!(cache.counts(), CacheCounts { hits: before.hits + 1, misses: before.misses + 1, ..before });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn it_answers_as_lookup_does(
        states in proptest::collection::vec(
            proptest::collection::btree_map(("(\\*\\.)?[ab](\\.[ab]){0,2}", "(/[ab]){0,2}/"), 0u32..4, 0..12), 1..4),
        asks in proptest::collection::vec(
            (any::<proptest::sample::Index>(), "[abAB](\\.[ab]){0,2}(:1|\\.)?", "(/[ab]|/\\.\\.|/%61){1,4}/?(\\?q)?", 0..TTL_NS, 0usize..4), 1..200),
    ) {
        let snapshots: Vec<Snapshot> = states.iter().enumerate().map(|(generation, routes)| {
            let routes: Vec<(&str, &str, u32)> =
                routes.iter().map(|((host, path), place)| (host.as_str(), path.as_str(), *place)).collect();
            snapshot(generation as u64 + 1, &routes)
        }).collect();
        let (mut cache, mut now_ns) = (RouteCache::new(1), 0);
        for (at, host, path, later, warm) in &asks {
            let snapshot = at.get(&snapshots);
            now_ns += later / 8;
            cache.warm(snapshot, now_ns, *warm);
            let found = cache.lookup(snapshot, host.as_bytes(), path.as_bytes(), now_ns);
            prop_assert_eq!(found, lookup(snapshot, host.as_bytes(), path.as_bytes()), "{} {}", host, path);
        }
    }
}
