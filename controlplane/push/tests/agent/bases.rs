//! Bases of routes and deltas on their way to a node.

use plane_abi::plane::seal_env;
use plane_abi::wire::BasePart;
use plane_abi::{HostKind, NewDeployment, NewRoute, PathKind, RouteBase, SnapshotWriter};

use super::*;

/// As [`snapshot`], with routes over a base of `hosts` hosts, one of which the snapshot leads nowhere.
fn over_base(generation: u64, hosts: u32) -> (Vec<u8>, Arc<RouteBase>) {
    let module = module(1);
    let writer = |routes: std::ops::Range<u32>| {
        let mut writer = SnapshotWriter::new(LINEAGE, generation, 0, key().id(), "workers.localhost");
        writer.deployment(NewDeployment {
            artifact_bytes: module.len() as u64,
            sealed_env: seal_env(&key(), DeploymentId(1), &[("VERSION".into(), "1".into())]),
            ..NewDeployment::new(DeploymentId(1), AccountId(1), artifact_hash(&module))
        });
        for host in routes {
            let (host, path) = (format!("host-{host}.example.com"), "/".to_owned());
            let (host_kind, path_kind) = (HostKind::Exact, PathKind::Prefix);
            writer.route(NewRoute { host_kind, host, path_kind, path, deployment: DeploymentId(1) });
        }
        writer
    };
    let base = writer(0..hosts).base().expect("valid");
    let base = Arc::new(RouteBase::from_vec(base).expect("opens"));
    (writer(1..hosts).over(Some(base.clone())).finish().expect("valid"), base)
}

/// Which of the first two hosts lead somewhere.
fn routed(running: &Running) -> [bool; 2] {
    let published = running.handle.plane().current().expect("published");
    let best = |host: &str| {
        published.snapshot().host(HostKind::Exact, host.as_bytes()).and_then(|routes| routes.best(b"/x")).is_some()
    };
    [best("host-0.example.com"), best("host-1.example.com")]
}

fn bases(place: &Place) -> Vec<String> {
    let files = fs::read_dir(place.data().join("routes")).expect("folder").flatten();
    files.map(|file| file.file_name().to_string_lossy().into_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_base_of_routes_comes_once_survives_a_restart_and_goes_with_the_last_that_names_it() {
    let place = Place::new();
    let server = place.server(LINEAGE, Artifacts::with(1..=2), "127.0.0.1:0").await;
    let running = Running::start(place.config(Some(server.local_addr())));
    connected(&server).await;
    for generation in 1..=3 {
        // Large enough for several parts.
        let (bytes, base) = over_base(generation, 30_000);
        assert!(base.bytes().len() > 3 * 256 * 1024);
        server.publish_over(generation, bytes.into(), Some(base.clone())).expect("published");
        assert!(server.wait_acked(generation, SOON).await.all_acked());
        assert_eq!((running.generation(), routed(&running)), (generation, [false, true]));
        assert_eq!(bases(&place), [base.id().to_string()]);
    }
    drop((running, server));
    let alone = Running::start(place.config(None));
    assert_eq!((alone.generation(), routed(&alone)), (3, [false, true]));
    drop(alone);
    // A damaged base on disk: what serves after a restart is none of those that name it; it is fetched again.
    let file = place.data().join("routes").join(&bases(&place)[0]);
    let mut bytes = fs::read(&file).expect("read");
    bytes[100_000] ^= 1;
    fs::write(&file, bytes).expect("written");
    let server = place.server(LINEAGE, Artifacts::with(1..=2), "127.0.0.1:0").await;
    let running = Running::start(place.config(Some(server.local_addr())));
    assert_eq!(running.generation(), 0);
    connected(&server).await;
    let (bytes, base) = over_base(4, 30_000);
    server.publish_over(4, bytes.into(), Some(base)).expect("published");
    assert!(server.wait_acked(4, SOON).await.all_acked());
    assert_eq!((running.generation(), routed(&running)), (4, [false, true]));
    // Another base, then none: the first goes when no kept snapshot names it and it was not asked for lately.
    for generation in 5..=12 {
        let (bytes, base) = over_base(generation, 100 + generation as u32);
        server.publish_over(generation, bytes.into(), Some(base)).expect("published");
        assert!(server.wait_acked(generation, SOON).await.all_acked());
    }
    assert!((3..=4).contains(&bases(&place).len()), "{:?}", bases(&place));
    assert!(publish(&server, 13, 2).await.all_acked());
    assert_eq!((running.generation(), running.version()), (13, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_bases_and_deltas_are_refused_and_the_good_one_goes_on_serving() {
    let place = Place::new();
    let hostile = Hostile::new(&place).await;
    let running = Running::start(place.config(Some(hostile.address())));
    let mut peer = hostile.welcome(LINEAGE).await;
    let good = snapshot(5, 1);
    peer.offer_good(&good).await;
    peer.acked(5, [1]).await;
    let (bytes, base) = over_base(6, 50);
    let send = |wrong: Vec<u8>| {
        let id = base.id();
        wrong
            .chunks(700)
            .scan(0, |offset, part| {
                let message = ToNode::BasePart(BasePart { id, offset: *offset, bytes: Blob(part.to_vec()) });
                *offset += part.len() as u64;
                Some(message)
            })
            .collect::<Vec<_>>()
    };
    let flipped = |at: usize| {
        let mut wrong = base.bytes().to_vec();
        wrong[at] ^= 4;
        wrong
    };
    let longer = [base.bytes(), &[0; 8]].concat();
    for wrong in [flipped(0), flipped(44), flipped(70), flipped(base.bytes().len() - 1), longer[8..].to_vec()] {
        peer.offer_good(&bytes).await;
        assert_eq!(peer.next().await, ToControl::BaseWanted(base.id()));
        for message in send(wrong) {
            peer.send(&message).await;
        }
        peer.refused(RefuseReason::Corrupt).await;
    }
    peer.offer_good(&bytes).await;
    assert_eq!(peer.next().await, ToControl::BaseWanted(base.id()));
    peer.send(&ToNode::BaseMissing(base.id())).await;
    peer.refused(RefuseReason::NotStored).await;
    // A delta from what the node has not, one that makes nothing, one that makes something else: each time it asks for the
    // whole.
    let header = SnapshotHeader::read(&bytes).expect("whole").0;
    let of_good = SnapshotHeader::read(&good).expect("whole").0;
    let from = DeltaFrom { generation: 5, checksum: of_good.checksum, bytes: bytes.len() as u64 };
    let delta = plane_abi::delta::make(&good, &bytes);
    let mut other = bytes.clone();
    other[80] ^= 1;
    for (from, delta) in [
        (DeltaFrom { checksum: 1, ..from }, delta.clone()),
        (DeltaFrom { bytes: 10, ..from }, delta.clone()),
        (from, b"no delta".to_vec()),
        (from, plane_abi::delta::make(&good, &other)),
    ] {
        peer.offer_delta(header, from, &delta).await;
        assert_eq!(peer.next().await, ToControl::SnapshotWanted { generation: 6 });
    }
    assert_eq!((running.generation(), running.version()), (5, 1));
    peer.offer_delta(header, from, &delta).await;
    assert_eq!(peer.next().await, ToControl::BaseWanted(base.id()));
    // A part that is not the next one is passed over.
    peer.send(&ToNode::BasePart(BasePart { id: base.id(), offset: 9, bytes: Blob(vec![1; 9]) })).await;
    for message in send(base.bytes().to_vec()) {
        peer.send(&message).await;
    }
    peer.acked(6, [1]).await;
    assert_eq!((running.generation(), routed(&running)), (6, [false, true]));
    assert_eq!(bases(&place), [base.id().to_string()]);
}
