//! A snapshot reads back what was written, has one form, and is refused when a byte of it is not as written, whether or
//! not its checksum was made to fit.

use std::{collections::BTreeMap, fs};

use base::id::{AccountId, ArtifactHash, DeploymentId};
use plane_abi::plane::{Plane, Published, artifact_hash, artifact_path, seal_env};
use plane_abi::seal::{Key, SealError};
use plane_abi::steering::{Deny, Limits, Member, Prefix, Protocol, Rules, RulesError, Vip};
use plane_abi::{
    Binding, BindingKind, DeploymentIx, Distribution, HostKind, Lineage, NewCandidate, NewDeployment, NewRoute,
    PathKind, RoutePath, ServiceTarget, Snapshot, SnapshotError, SnapshotWriter, Status, WriteError,
};
use proptest::prelude::*;

const LINEAGE: Lineage = Lineage(0x1234_5678_9abc_def0_0fed_cba9_8765_4321);
const CHECKSUM_AT: usize = 64;
const HEADER_BYTES: usize = 72;

fn deployment(id: u128, subdomain: &str) -> NewDeployment {
    NewDeployment {
        id: DeploymentId(id),
        account: AccountId(id + 1000),
        version: 5,
        status: Status::Active,
        distribution: Distribution::Push,
        artifact: ArtifactHash([id as u8; 32]),
        artifact_bytes: 1234,
        name: format!("worker {id} ü"),
        subdomain: subdomain.to_owned(),
        compatibility_date: "2025-01-01".to_owned(),
        cpu_ms: 50,
        weight: 100,
        updated_unix_s: 1_705_312_800,
        sealed_env: seal_env(&key(), DeploymentId(id), &[("KEY".to_owned(), format!("value {id}"))]),
        bindings: vec![
            (BindingKind::DurableObject, "COUNTER".to_owned(), "Counter".to_owned()),
            (BindingKind::Kv, "CACHE".to_owned(), "ns_xyz".to_owned()),
            (BindingKind::Service, "OTHER".to_owned(), target().to_string()),
        ],
        crons: vec!["0 0 * * *".to_owned(), "*/5 * * * *".to_owned()],
    }
}

fn candidate(of: u128, version: u32) -> NewCandidate {
    NewCandidate {
        deployment: DeploymentId(of),
        version,
        artifact: ArtifactHash([version as u8; 32]),
        artifact_bytes: 99,
        compatibility_date: "2026-01-01".to_owned(),
        bindings: vec![(BindingKind::Kv, "OTHER_CACHE".to_owned(), "ns_new".to_owned())],
        share: 250,
    }
}

fn target() -> ServiceTarget {
    ServiceTarget { deployment: DeploymentId(2), entrypoint: "Admin".to_owned(), props: r##"{"a":"#"}"##.to_owned() }
}

fn route(host_kind: HostKind, host: &str, path_kind: PathKind, path: &str, to: u128) -> NewRoute {
    NewRoute { host_kind, host: host.to_owned(), path_kind, path: path.to_owned(), deployment: DeploymentId(to) }
}

fn key() -> Key {
    Key::from_bytes([42; 32])
}

fn writer(generation: u64) -> SnapshotWriter {
    SnapshotWriter::new(LINEAGE, generation, 1_700_000_000_000, key().id(), "workers.localhost")
}

fn sample() -> Vec<u8> {
    let mut writer = writer(7);
    writer.deployment(deployment(2, "two")).deployment(deployment(1, "one"));
    writer.deployment(NewDeployment {
        status: Status::Paused,
        distribution: Distribution::Pull,
        weight: 1000,
        sealed_env: vec![],
        bindings: vec![],
        crons: vec![],
        ..deployment(3, "")
    });
    writer.candidate(candidate(3, 8)).candidate(candidate(1, 6));
    writer.route(route(HostKind::Exact, "example.com", PathKind::Prefix, "/", 1));
    writer.route(route(HostKind::Exact, "example.com", PathKind::Prefix, "/api/", 2));
    writer.route(route(HostKind::Exact, "example.com", PathKind::Exact, "/api/", 3));
    writer.route(route(HostKind::Exact, "example.com", PathKind::Exact, "/b", 3));
    writer.route(route(HostKind::Wildcard, "example.com", PathKind::Prefix, "/", 3));
    writer.steering(steering());
    writer.finish().expect("a valid state")
}

fn steering() -> Rules {
    let prefix = |address: &str, bits| Prefix { address: address.parse().expect("an address"), bits };
    let deny = |prefix, reason| Deny { prefix, expires_unix_s: 1_800_000_000, reason };
    let member = |last| Member { mac: [2, 0, 0, 0, 0, last], name: format!("node-{last}") };
    Rules {
        deny: vec![deny(prefix("198.51.100.0", 24), 1), deny(prefix("2001:db8::", 32), 2)],
        limits: Limits { packets_per_s: 1000, packets_burst: 2000, ..Limits::default() },
        vips: vec![Vip {
            address: "203.0.113.9".parse().expect("an address"),
            port: 443,
            protocol: Protocol::Tcp,
            nodes: vec![member(1), member(2)],
            before: vec![vec![member(1)]],
        }],
    }
}

#[test]
fn a_candidate_is_its_deployment_with_another_version() {
    let snapshot = Snapshot::from_vec(sample()).expect("opens");
    let (one, share) = snapshot.candidate(DeploymentIx(0)).expect("there");
    let active = snapshot.deployment(DeploymentIx(0)).expect("there");
    assert_eq!((one.version(), one.artifact(), one.artifact_bytes(), share), (6, ArtifactHash([6; 32]), 99, 250));
    assert_eq!(
        (one.id(), one.account(), one.name(), one.subdomain()),
        (active.id(), active.account(), active.name(), "one")
    );
    assert_eq!((one.sealed_env(), one.cpu_ms(), one.status()), (active.sealed_env(), 50, Status::Active));
    assert_eq!(one.compatibility_date(), "2026-01-01");
    let bindings: Vec<_> = one.bindings().collect();
    assert_eq!(bindings, [Binding { kind: BindingKind::Kv, name: "OTHER_CACHE", target: "ns_new" }]);
    assert!(!one.same_code(&active) && snapshot.candidate(DeploymentIx(1)).is_none());
    let all: Vec<_> = snapshot.candidates().map(|(ix, one, share)| (ix.0, one.version(), share)).collect();
    assert_eq!(all, [(0, 6, 250), (2, 8, 250)]);
}

#[test]
fn a_candidate_of_nobody_twice_of_the_same_version_or_of_all_requests_is_refused() {
    let refused = |candidates: Vec<NewCandidate>| {
        let mut writer = writer(1);
        writer.deployment(deployment(1, "one"));
        candidates.into_iter().for_each(|candidate| _ = writer.candidate(candidate));
        writer.finish().err()
    };
    assert_eq!(refused(vec![candidate(1, 6)]), None);
    assert_eq!(refused(vec![candidate(2, 6)]), Some(WriteError::UnknownDeployment(DeploymentId(2))));
    assert!(matches!(refused(vec![candidate(1, 6), candidate(1, 7)]), Some(WriteError::Field { .. })));
    assert!(matches!(refused(vec![candidate(1, 5)]), Some(WriteError::Field { .. })));
    for share in [0, 10_000] {
        let wrong = NewCandidate { share, ..candidate(1, 6) };
        assert!(matches!(refused(vec![wrong]), Some(WriteError::Field { .. })));
    }
}

#[test]
fn reads_back_what_was_written() {
    let snapshot = Snapshot::from_vec(sample()).expect("opens");
    assert_eq!((snapshot.generation(), snapshot.lineage()), (7, LINEAGE));
    assert_eq!((snapshot.created_unix_ms(), snapshot.env_key_id()), (1_700_000_000_000, key().id()));
    assert_eq!((snapshot.platform_domain(), snapshot.deployments_len()), ("workers.localhost", 3));
    let one = snapshot.deployment(DeploymentIx(0)).expect("there");
    assert_eq!((one.id(), one.account()), (DeploymentId(1), AccountId(1001)));
    assert_eq!((one.version(), one.status(), one.cpu_ms(), one.weight()), (5, Status::Active, 50, 100));
    assert_eq!((one.artifact(), one.artifact_bytes()), (ArtifactHash([1; 32]), 1234));
    assert_eq!((one.name(), one.subdomain(), one.compatibility_date()), ("worker 1 ü", "one", "2025-01-01"));
    assert_eq!(one.updated_unix_s(), 1_705_312_800);
    let bindings: Vec<_> = one.bindings().collect();
    assert_eq!(
        bindings,
        [
            Binding { kind: BindingKind::Kv, name: "CACHE", target: "ns_xyz" },
            Binding { kind: BindingKind::DurableObject, name: "COUNTER", target: "Counter" },
            Binding {
                kind: BindingKind::Service,
                name: "OTHER",
                target: "00000000000000000000000000000002#Admin\n{\"a\":\"#\"}"
            },
        ]
    );
    assert_eq!(ServiceTarget::parse(bindings[2].target), Some(target()));
    for wrong in [
        "",
        "2",
        "00000000000000000000000000000002#",
        "00000000000000000000000000000002\n",
        "00000000000000000000000000000002#\n{}",
        "0000000000000000000000000000000G",
        "+0000000000000000000000000000002",
    ] {
        assert_eq!(ServiceTarget::parse(wrong), None, "{wrong}");
    }
    let schedules: Vec<_> = snapshot.schedules().map(|(of, text)| (of.0, text)).collect();
    assert_eq!(schedules, [(0, "*/5 * * * *"), (0, "0 0 * * *"), (1, "*/5 * * * *"), (1, "0 0 * * *")]);
    let three = snapshot.deployment(DeploymentIx(2)).expect("there");
    assert_eq!((one.distribution(), three.distribution()), (Distribution::Push, Distribution::Pull));
    assert_eq!((three.status(), three.bindings().len(), three.sealed_env()), (Status::Paused, 0, &[][..]));
    assert_eq!(three.weight(), 1000);
    assert!(snapshot.deployment(DeploymentIx(3)).is_none());
    for (id, ix) in [(0, None), (1, Some(0)), (2, Some(1)), (3, Some(2)), (4, None)] {
        assert_eq!(snapshot.find_deployment(DeploymentId(id)), ix.map(DeploymentIx));
    }
    assert_eq!(snapshot.subdomain(b"two"), Some(DeploymentIx(1)));
    assert_eq!((snapshot.subdomain(b"three"), snapshot.subdomain(b"")), (None, None));
    let host = snapshot.host(HostKind::Exact, b"example.com").expect("there");
    let path = |path: &[u8], kind, to| RoutePath { path: path.to_vec(), kind, deployment: DeploymentIx(to) };
    let paths = [
        path(b"/", PathKind::Prefix, 0),
        path(b"/api/", PathKind::Prefix, 1),
        path(b"/api/", PathKind::Exact, 2),
        path(b"/b", PathKind::Exact, 2),
    ];
    assert_eq!(host.routes(), paths);
    let best = |path: &[u8]| host.best(path).map(|ix| ix.0);
    assert_eq!(
        [best(b"/"), best(b"/api/"), best(b"/api/x"), best(b"/b"), best(b"/bb"), best(b"x")],
        [Some(0), Some(2), Some(1), Some(2), Some(0), None]
    );
    assert_eq!(snapshot.host(HostKind::Wildcard, b"example.com").map(|routes| routes.routes().len()), Some(1));
    assert!(snapshot.host(HostKind::Wildcard, b"com").is_none());
    assert_eq!(snapshot.hosts().count(), 2);
    assert_eq!(snapshot.steering(), steering());
}

#[test]
fn an_empty_state_is_a_snapshot() {
    let snapshot = Snapshot::from_vec(writer(1).finish().expect("valid")).expect("opens");
    assert_eq!((snapshot.deployments_len(), snapshot.hosts().count()), (0, 0));
    assert_eq!(snapshot.steering(), Rules::default());
    assert!(snapshot.subdomain(b"x").is_none() && snapshot.host(HostKind::Exact, b"x").is_none());
}

#[test]
fn every_flip_and_every_truncation_is_refused() {
    let bytes = sample();
    for at in 0..bytes.len() {
        for bit in [0x01, 0x80] {
            let mut changed = bytes.clone();
            changed[at] ^= bit;
            assert!(Snapshot::from_vec(changed).is_err(), "bit {bit:#x} of byte {at}");
        }
        assert!(Snapshot::from_vec(bytes[..at].to_vec()).is_err(), "cut at {at}");
    }
    let mut longer = bytes;
    longer.extend_from_slice(&[0; 8]);
    assert!(matches!(Snapshot::from_vec(longer), Err(SnapshotError::Length { .. })));
}

#[test]
fn a_mapped_file_is_checked_like_memory() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("s");
    assert!(matches!(open(&path), Err(SnapshotError::Io(_))));
    let bytes = sample();
    for cut in [0, 1, HEADER_BYTES, bytes.len() - 1] {
        fs::write(&path, &bytes[..cut]).expect("write");
        assert!(matches!(open(&path), Err(SnapshotError::Length { .. })), "cut at {cut}");
    }
    fs::write(&path, &bytes).expect("write");
    let snapshot = open(&path).expect("opens");
    fs::remove_file(&path).expect("unlink");
    assert_eq!(snapshot.bytes(), bytes, "an unlinked file stays readable");
    assert!(matches!(Snapshot::from_vec(vec![0; 400]), Err(SnapshotError::Magic)));
}

fn open(path: &std::path::Path) -> Result<Snapshot, SnapshotError> {
    Snapshot::open(path, &|id| Err(SnapshotError::NoBase(id)))
}

/// Sets the checksum right, so that only the checks of records stand between the bytes and a reader.
fn with_checksum(mut bytes: Vec<u8>) -> Vec<u8> {
    let mut hash = xxhash_rust::xxh3::Xxh3::new();
    hash.update(&bytes[..CHECKSUM_AT]);
    hash.update(&bytes[HEADER_BYTES..]);
    let sum = hash.digest();
    bytes[CHECKSUM_AT..HEADER_BYTES].copy_from_slice(&sum.to_le_bytes());
    bytes
}

#[test]
fn a_weight_is_within_its_bounds_and_zero_is_the_usual_one() {
    let with_weight = |weight| {
        let mut writer = writer(1);
        writer.deployment(NewDeployment { weight, ..deployment(1, "one") });
        writer.finish()
    };
    let refused = WriteError::Field { id: DeploymentId(1), field: "weight" };
    assert_eq!((with_weight(0).as_ref(), with_weight(1001).as_ref()), (Err(&refused), Err(&refused)));
    let (one, other) = (with_weight(1).expect("valid"), with_weight(1000).expect("valid"));
    let differ = |(at, _): &(usize, (&u8, &u8))| !(CHECKSUM_AT..HEADER_BYTES).contains(at);
    let at = one.iter().zip(&other).enumerate().filter(|(_, (a, b))| a != b).find(differ).expect("they differ").0;
    let read = |weight: u16| {
        let mut bytes = one.clone();
        bytes[at..at + 2].copy_from_slice(&weight.to_le_bytes());
        Snapshot::from_vec(with_checksum(bytes)).map(|s| s.deployment(DeploymentIx(0)).expect("there").weight())
    };
    for (written, weight) in [(0, 100), (1, 1), (300, 300), (1000, 1000)] {
        assert_eq!(read(written).expect("opens"), weight);
    }
    assert!(matches!(read(1001), Err(SnapshotError::Malformed { .. })), "over the limit");
    let open = |bytes: Vec<u8>| Snapshot::from_vec(bytes).expect("opens");
    let (one, other) = (open(one), open(other));
    let first = |snapshot| Snapshot::deployment(snapshot, DeploymentIx(0)).expect("there");
    assert!(first(&one).same_code(&first(&other)), "a change of weight starts nothing again");
}

#[test]
fn a_distribution_is_one_byte_and_no_third_is_taken() {
    let [pushed, pulled] = [Distribution::Push, Distribution::Pull].map(|distribution| {
        let mut writer = writer(1);
        writer.deployment(NewDeployment { distribution, ..deployment(1, "one") });
        writer.finish().expect("valid")
    });
    let outside = |at: &usize| !(CHECKSUM_AT..HEADER_BYTES).contains(at);
    let differ: Vec<usize> = (0..pushed.len()).filter(outside).filter(|at| pushed[*at] != pulled[*at]).collect();
    let [at] = differ[..] else { panic!("{differ:?}") };
    let read = |code: u8| {
        let mut bytes = pushed.clone();
        bytes[at] = code;
        Snapshot::from_vec(with_checksum(bytes)).map(|s| s.deployment(DeploymentIx(0)).expect("there").distribution())
    };
    assert_eq!((read(0).expect("opens"), read(1).expect("opens")), (Distribution::Push, Distribution::Pull));
    assert!(matches!(read(2), Err(SnapshotError::Malformed { .. })));
    let (pushed, pulled) = (Snapshot::from_vec(pushed).expect("opens"), Snapshot::from_vec(pulled).expect("opens"));
    let first = |snapshot| Snapshot::deployment(snapshot, DeploymentIx(0)).expect("there");
    assert!(first(&pushed).same_code(&first(&pulled)), "how code comes starts nothing again");
}

/// Reads everything a snapshot has, so that a bad offset would show.
fn walk(snapshot: &Snapshot) -> usize {
    let mut read = snapshot.platform_domain().len() + snapshot.steering().deny.len();
    for (_, deployment) in snapshot.deployments() {
        read += deployment.name().len() + deployment.sealed_env().len() + deployment.compatibility_date().len();
        read += deployment.bindings().map(|binding| binding.name.len() + binding.target.len()).sum::<usize>();
        if !deployment.subdomain().is_empty() {
            assert!(snapshot.subdomain(deployment.subdomain().as_bytes()).is_some());
        }
    }
    for (of, expression) in snapshot.schedules() {
        assert!(snapshot.deployment(of).is_some());
        read += expression.len();
    }
    for (kind, host, routes) in snapshot.hosts() {
        let routes = routes.routes();
        assert_eq!(snapshot.host(kind, host.as_bytes()).map(|found| found.routes()).as_ref(), Some(&routes));
        for found in routes {
            assert!(snapshot.deployment(found.deployment).is_some());
            read += found.path.len();
        }
    }
    read
}

#[test]
fn with_a_forged_checksum_every_flip_is_refused_or_harmless() {
    let bytes = sample();
    let mut refused = 0;
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << bit;
            match Snapshot::from_vec(with_checksum(changed)) {
                Ok(snapshot) => _ = walk(&snapshot),
                Err(_) => refused += 1,
            }
        }
    }
    assert!(refused > bytes.len(), "only {refused} of {} flips were refused", bytes.len() * 8);
}

#[test]
fn the_writer_refuses_doubles_strangers_and_excess() {
    let refused = |fill: fn(&mut SnapshotWriter)| {
        let mut writer = writer(1);
        fill(&mut writer);
        writer.finish().expect_err("refused")
    };
    let doubled = refused(|writer| _ = writer.deployment(deployment(1, "a")).deployment(deployment(1, "b")));
    assert_eq!(doubled, WriteError::DuplicateDeployment(DeploymentId(1)));
    let subdomain = refused(|writer| _ = writer.deployment(deployment(1, "a")).deployment(deployment(2, "a")));
    assert_eq!(subdomain, WriteError::DuplicateSubdomain("a".to_owned()));
    let twice_denied = refused(|writer| {
        let mut rules = steering();
        rules.deny.push(rules.deny[0]);
        writer.steering(rules);
    });
    assert!(matches!(twice_denied, WriteError::Steering(RulesError::DuplicatePrefix(_))));
    let stranger = refused(|writer| _ = writer.route(route(HostKind::Exact, "a.b", PathKind::Exact, "/", 9)));
    assert_eq!(stranger, WriteError::UnknownDeployment(DeploymentId(9)));
    let twice = refused(|writer| {
        writer.deployment(deployment(1, "a")).deployment(deployment(2, "b"));
        writer.route(route(HostKind::Wildcard, "a.b", PathKind::Prefix, "/", 1));
        writer.route(route(HostKind::Wildcard, "a.b", PathKind::Prefix, "/", 2));
    });
    let (first, second) = (DeploymentId(1), DeploymentId(2));
    assert_eq!(twice, WriteError::RouteConflict { route: "*.a.b/*".to_owned(), first, second });
    let field = |change: fn(&mut NewDeployment)| {
        let mut changed = deployment(1, "a");
        change(&mut changed);
        let mut writer = writer(1);
        writer.deployment(changed);
        matches!(writer.finish(), Err(WriteError::Field { .. }))
    };
    assert!(field(|changed| changed.name = "x".repeat(256)));
    assert!(field(|changed| changed.subdomain = "x".repeat(64)));
    assert!(field(|changed| changed.sealed_env = vec![0; 1 << 20]));
    assert!(field(|changed| changed.bindings = vec![(BindingKind::Kv, String::new(), String::new()); 257]));
    assert!(field(|changed| changed.bindings = vec![(BindingKind::Service, "B".to_owned(), "2".to_owned())]));
    assert!(field(|changed| changed.crons = vec!["* * * *".to_owned()]));
    assert!(field(|changed| changed.crons = (0..251).map(|n| format!("{} {} * * *", n % 60, n / 60)).collect()));
    let rootless = refused(|writer| {
        writer.deployment(deployment(1, "a")).route(route(HostKind::Exact, "a.b", PathKind::Exact, "x", 1));
    });
    assert!(matches!(rootless, WriteError::Route(_)));
    let nowhere = SnapshotWriter::new(LINEAGE, 1, 0, 0, "").finish();
    assert_eq!(nowhere, Err(WriteError::PlatformDomain));
}

#[test]
fn published_gives_env_and_artifacts_and_notices_damage() {
    let folder = tempfile::tempdir().expect("folder");
    let snapshot = std::sync::Arc::new(Snapshot::from_vec(sample()).expect("opens"));
    let plane = Plane::new();
    let mut reader = plane.reader();
    assert!(reader.current().is_none());
    plane.publish(Published::new(snapshot.clone(), folder.path().to_owned(), Some(key())));
    let published = reader.current().expect("published").clone();
    let one = snapshot.deployment(DeploymentIx(0)).expect("there");
    assert_eq!(published.env(&one), Ok(vec![("KEY".to_owned(), "value 1".to_owned())]));
    let three = snapshot.deployment(DeploymentIx(2)).expect("there");
    assert_eq!(published.env(&three), Ok(vec![]));
    for wrong in [None, Some(Key::from_bytes([0; 32]))] {
        let other = Published::new(snapshot.clone(), folder.path().to_owned(), wrong);
        assert_eq!(other.env(&one), Err(SealError::NoKey(key().id())));
    }
    let hash = artifact_hash(b"export default {}");
    assert_eq!(published.artifact(hash).expect_err("missing").kind(), std::io::ErrorKind::NotFound);
    fs::write(artifact_path(folder.path(), hash), b"export default {}").expect("write");
    assert_eq!(published.artifact(hash).expect("reads"), &b"export default {}"[..]);
    fs::write(artifact_path(folder.path(), hash), b"export default []").expect("write");
    assert_eq!(published.artifact(hash).expect_err("damaged").kind(), std::io::ErrorKind::InvalidData);
}

#[test]
fn same_code_sees_what_an_isolate_sees() {
    let snapshot_with = |change: fn(&mut NewDeployment)| {
        let mut changed = deployment(1, "a");
        change(&mut changed);
        let mut writer = writer(1);
        writer.deployment(deployment(0, "zero")).deployment(changed);
        Snapshot::from_vec(writer.finish().expect("valid")).expect("opens")
    };
    let same = |change: fn(&mut NewDeployment)| {
        let (before, after) = (snapshot_with(|_| {}), snapshot_with(change));
        let (before, after) = (before.deployment(DeploymentIx(1)), after.deployment(DeploymentIx(1)));
        before.expect("there").same_code(&after.expect("there"))
    };
    assert!(same(|_| {}));
    assert!(same(|changed| changed.subdomain = "other".to_owned()));
    assert!(!same(|changed| changed.version = 6));
    assert!(!same(|changed| changed.artifact = ArtifactHash([9; 32])));
    assert!(!same(|changed| changed.sealed_env = seal_env(&key(), DeploymentId(1), &[("A".into(), "B".into())])));
    assert!(!same(|changed| changed.bindings.clear()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_state_round_trips_and_order_of_adding_does_not_matter(
        ids in proptest::collection::btree_set(0u128..1000, 1..40),
        routes in proptest::collection::btree_map(
            (any::<bool>(), "[a-c]{1,2}(\\.[a-c]{1,2}){0,2}", any::<bool>(), "/[ab/]{0,5}"), any::<proptest::sample::Index>(), 0..80),
        swap in any::<u64>(),
    ) {
        let ids: Vec<u128> = ids.into_iter().collect();
        let routes: BTreeMap<_, _> = routes;
        let mut new_routes: Vec<NewRoute> = routes.iter().map(|((wild, host, exact, path), to)| {
            let host_kind = if *wild { HostKind::Wildcard } else { HostKind::Exact };
            let path_kind = if *exact { PathKind::Exact } else { PathKind::Prefix };
            route(host_kind, host, path_kind, path, *to.get(&ids))
        }).collect();
        let build = |ids: &[u128], routes: &[NewRoute]| {
            let mut writer = writer(3);
            for id in ids {
                writer.deployment(deployment(*id, &format!("s{id}")));
            }
            for route in routes {
                writer.route(route.clone());
            }
            writer.finish().expect("valid")
        };
        let bytes = build(&ids, &new_routes);
        let snapshot = Snapshot::from_vec(bytes.clone()).expect("opens");
        walk(&snapshot);
        for route in &new_routes {
            let host = snapshot.host(route.host_kind, route.host.as_bytes()).expect("host is there");
            let mut all = host.routes().into_iter();
            let found = all.find(|found| found.path == route.path.as_bytes() && found.kind == route.path_kind);
            let to = found.and_then(|found| snapshot.deployment(found.deployment)).map(|deployment| deployment.id());
            prop_assert_eq!(to, Some(route.deployment));
        }
        for id in &ids {
            let ix = snapshot.subdomain(format!("s{id}").as_bytes());
            prop_assert_eq!(ix, snapshot.find_deployment(DeploymentId(*id)));
            prop_assert!(ix.is_some());
        }
        let mut shuffled = ids.clone();
        shuffled.rotate_left(swap as usize % ids.len());
        if !new_routes.is_empty() {
            let by = swap as usize % new_routes.len();
            new_routes.rotate_left(by);
        }
        prop_assert_eq!(build(&shuffled, &new_routes), bytes);
    }

    #[test]
    fn hostile_bytes_never_panic(changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..12), cut in any::<proptest::sample::Index>(), cuts in any::<bool>()) {
        let mut bytes = sample();
        for (at, value) in &changes {
            let at = at.index(bytes.len());
            bytes[at] = *value;
        }
        if cuts {
            bytes.truncate(cut.index(bytes.len()).max(HEADER_BYTES));
        }
        if let Ok(snapshot) = Snapshot::from_vec(with_checksum(bytes)) {
            walk(&snapshot);
        }
    }
}
