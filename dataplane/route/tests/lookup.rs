//! `route::lookup` against examples and against a matcher so plain that it can be read as the specification.

use std::collections::BTreeMap;

use base::id::{AccountId, ArtifactHash, DeploymentId};
use plane_abi::pattern::{Pattern, PatternError};
use plane_abi::{HostKind, Lineage, NewDeployment, NewRoute, PathKind, Snapshot, SnapshotWriter};
use proptest::prelude::*;

/// A snapshot whose `n`th deployment has the `n`th pattern; `subdomains` come after those.
fn snapshot(patterns: &[Pattern], subdomains: &[&str]) -> Snapshot {
    let mut writer = SnapshotWriter::new(Lineage(99), 1, 0, 0, "workers.localhost");
    for index in 0..patterns.len() + subdomains.len() {
        writer.deployment(NewDeployment {
            subdomain: subdomains
                .get(index.wrapping_sub(patterns.len()))
                .map(|label| (*label).to_owned())
                .unwrap_or_default(),
            ..NewDeployment::new(DeploymentId(index as u128), AccountId(1), ArtifactHash([0; 32]))
        });
    }
    for (index, pattern) in patterns.iter().enumerate() {
        writer.route(NewRoute {
            host_kind: pattern.host_kind,
            host: pattern.host.clone(),
            path_kind: pattern.path_kind,
            path: pattern.path.clone(),
            deployment: DeploymentId(index as u128),
        });
    }
    Snapshot::from_vec(writer.finish().expect("valid")).expect("opens")
}

fn patterns(texts: &[&str]) -> Vec<Pattern> {
    texts.iter().map(|text| Pattern::parse(text).expect("a pattern")).collect()
}

#[test]
fn most_specific_first() {
    let texts = [
        "example.com/*",
        "example.com/api/*",
        "example.com/api/v1/*",
        "example.com/api/v1/users",
        "*.example.com/*",
        "*.b.example.com/x/*",
        "example.com/ap*",
        "other.org/only",
        "*.org/*",
    ];
    let snapshot = snapshot(&patterns(&texts), &["hello", "example"]);
    let (hello, example) = (texts.len() as u32, texts.len() as u32 + 1);
    for (host, path, expected) in [
        ("example.com", "/", Some(0)),
        ("example.com", "/api", Some(6)),
        ("example.com", "/api/", Some(1)),
        ("example.com", "/api/v2", Some(1)),
        ("example.com", "/api/v1/", Some(2)),
        ("example.com", "/api/v1/users", Some(3)),
        ("example.com", "/api/v1/users/7", Some(2)),
        ("example.com", "/api/v1/users?x=1", Some(3)),
        ("example.com", "/apples", Some(6)),
        ("example.com", "/b", Some(0)),
        ("example.com", "/x/../api/v1/users", Some(3)),
        ("example.com", "/%61pi/v1/users", Some(3)),
        ("EXAMPLE.COM.:8443", "/api/v1/users", Some(3)),
        ("a.example.com", "/", Some(4)),
        ("a.b.example.com", "/x/1", Some(5)),
        ("a.b.example.com", "/y", Some(4)),
        ("b.example.com", "/x/1", Some(4)),
        ("other.org", "/only", Some(7)),
        ("other.org", "/else", Some(8)),
        ("org", "/", None),
        ("notexample.com", "/", None),
        ("hello.workers.localhost", "/any", Some(hello)),
        ("hello.workers.localhost:8080", "/any?q", Some(hello)),
        ("HELLO.Workers.LocalHost.", "/", Some(example - 1)),
        ("a.hello.workers.localhost", "/", None),
        ("workers.localhost", "/", None),
        ("helloworkers.localhost", "/", None),
        ("unknown.workers.localhost", "/", None),
        ("", "/", None),
        ("[::1]:80", "/", None),
        ("example.com", "*", None),
        ("example.com", "", None),
    ] {
        let found = route::lookup(&snapshot, host.as_bytes(), path.as_bytes());
        assert_eq!(found.map(|ix| ix.0), expected, "{host} {path}");
    }
}

#[test]
fn every_spelling_of_a_request_meets_every_spelling_of_its_pattern() {
    let spellings = [
        ("XN--Bcher-KVA.Example./%61pi/*", "xn--bcher-kva.example", "/api/x"),
        ("*.Example.com/a%2fb", "Shop.EXAMPLE.com.:8443", "/x/../a%2Fb?q=/.."),
        ("d.example/%7euser/*", "d.example:80", "\\~user\\.\\x"),
        ("e.example/a//b", "e.example", "/a//b#f"),
    ];
    let texts: Vec<&str> = spellings.iter().map(|(text, ..)| *text).collect();
    let snapshot = snapshot(&patterns(&texts), &[]);
    for (place, (text, host, path)) in spellings.into_iter().enumerate() {
        let found = route::lookup(&snapshot, host.as_bytes(), path.as_bytes());
        assert_eq!(found.map(|ix| ix.0), Some(place as u32), "{text} {host} {path}");
    }
    for (host, path) in [("bücher.example", "/api/x"), ("d.example", "/%7Fuser/x"), ("e.example", "/a/b")] {
        assert_eq!(route::lookup(&snapshot, host.as_bytes(), path.as_bytes()), None, "{host} {path}");
    }
    let huge = format!("a.example/{}", "x".repeat(64 * 1024));
    assert!(matches!(Pattern::parse(&huge), Err(PatternError::TooLong(65_546))));
}

#[test]
fn a_route_wins_over_the_subdomain_of_the_same_host() {
    let snapshot = snapshot(&patterns(&["hello.workers.localhost/api/*"]), &["hello"]);
    let find = |path: &str| route::lookup(&snapshot, b"hello.workers.localhost", path.as_bytes()).map(|ix| ix.0);
    assert_eq!((find("/api/x"), find("/")), (Some(0), Some(1)));
}

/// Every pattern is tried; of those that match, the one with the greatest (exact host, host length, exact path, path
/// length) wins.
fn plain(patterns: &[Pattern], host: &str, path: &str) -> Option<u32> {
    let matches = |pattern: &Pattern| {
        let host_ok = match pattern.host_kind {
            HostKind::Exact => host == pattern.host,
            HostKind::Wildcard => host.ends_with(&format!(".{}", pattern.host)),
        };
        let path_ok = match pattern.path_kind {
            PathKind::Exact => path == pattern.path,
            PathKind::Prefix => path.starts_with(&pattern.path),
        };
        host_ok && path_ok
    };
    let rank = |pattern: &Pattern| {
        let exact_host = pattern.host_kind == HostKind::Exact;
        (exact_host, pattern.host.len(), pattern.path_kind == PathKind::Exact, pattern.path.len())
    };
    let found =
        patterns.iter().enumerate().filter(|(_, pattern)| matches(pattern)).max_by_key(|(_, pattern)| rank(pattern));
    found.map(|(index, _)| index as u32)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn agrees_with_the_plain_matcher(
        texts in proptest::collection::vec("(\\*\\.)?[ab](\\.[ab]){0,3}(/[ab]{0,2}){1,4}\\*?", 0..60),
        requests in proptest::collection::vec(("[ab](\\.[ab]){0,4}", "(/[ab]{0,3}){1,5}"), 1..40),
    ) {
        // One deployment per distinct pattern.
        let distinct: BTreeMap<String, Pattern> = texts
            .iter()
            .filter_map(|text| Pattern::parse(text).ok())
            .map(|pattern| (pattern.to_string(), pattern))
            .collect();
        let patterns: Vec<Pattern> = distinct.into_values().collect();
        let snapshot = snapshot(&patterns, &[]);
        for (host, path) in &requests {
            let found = route::lookup(&snapshot, host.as_bytes(), path.as_bytes()).map(|ix| ix.0);
            prop_assert_eq!(found, plain(&patterns, host, path), "{} {}", host, path);
        }
    }

    #[test]
    fn any_bytes_are_answered(host in proptest::collection::vec(any::<u8>(), 0..400), path in proptest::collection::vec(any::<u8>(), 0..400)) {
        let snapshot = snapshot(&patterns(&["a.b/*", "*.b/x"]), &["s"]);
        let _ = route::lookup(&snapshot, &host, &path);
    }
}
