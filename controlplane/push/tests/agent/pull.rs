//! Modules that come with the first request for them.

use plane_abi::plane::seal_env;
use plane_abi::{NewDeployment, SnapshotWriter};

use super::*;

/// Deployments of these versions' modules, each on demand.
fn on_demand(generation: u64, versions: &[u32]) -> Arc<[u8]> {
    let mut writer = SnapshotWriter::new(LINEAGE, generation, 0, key().id(), "workers.localhost");
    for version in versions {
        let (id, module) = (DeploymentId(u128::from(*version)), module(*version));
        writer.deployment(NewDeployment {
            version: *version,
            artifact_bytes: module.len() as u64,
            distribution: Distribution::Pull,
            sealed_env: seal_env(&key(), id, &[("VERSION".into(), version.to_string())]),
            ..NewDeployment::new(id, AccountId(1), artifact_hash(&module))
        });
    }
    writer.finish().expect("valid").into()
}

fn hash(version: u32) -> ArtifactHash {
    artifact_hash(&module(version))
}

/// Asks for a version's module as a shard does.
async fn pull(running: &Running, version: u32) -> bool {
    let published = running.handle.plane().current().expect("published");
    let pull = published.pull(hash(version)).expect("somebody fetches");
    tokio::time::timeout(SOON, pull).await.expect("in time")
}

fn there(running: &Running, versions: std::ops::RangeInclusive<u32>) -> Vec<u32> {
    let published = running.handle.plane().current().expect("published");
    versions.filter(|version| published.artifact(hash(*version)).is_ok()).collect()
}

fn metric(running: &Running, line: &str) {
    let (_, metrics) = get(running.handle.admin_addr(), "/metrics");
    assert!(metrics.contains(line), "{line}\n{metrics}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_on_demand_comes_when_it_is_asked_for_once_and_checked() {
    let place = Place::new();
    let artifacts = Artifacts::with(1..=2);
    // Bytes that are not what the name says.
    artifacts.modules.lock().expect("lock").insert(hash(4), "not it".into());
    let server = place.server(LINEAGE, artifacts.clone(), "127.0.0.1:0").await;
    let running = Running::start(place.config(Some(server.local_addr())));
    connected(&server).await;
    server.publish(1, on_demand(1, &[1, 2, 3, 4])).expect("published");
    assert!(server.wait_acked(1, SOON).await.all_acked());
    assert_eq!((there(&running, 1..=4), artifacts.fetched.load(Relaxed)), (vec![], 0));
    assert_eq!(server.nodes()[0].artifacts_missing, 0, "nothing is lacking that is to be there");

    let both = tokio::join!(pull(&running, 1), pull(&running, 1));
    assert_eq!((both, artifacts.fetched.load(Relaxed)), ((true, true), 1), "one fetch for both");
    assert_eq!(there(&running, 1..=4), [1]);

    // One that is not to be had, one that is damaged: said, and for a moment not asked for again.
    for version in [3, 4] {
        let before = artifacts.fetched.load(Relaxed);
        assert!(!pull(&running, version).await && !pull(&running, version).await);
        assert_eq!(artifacts.fetched.load(Relaxed), before + 1);
    }
    let module_3 = (hash(3), module(3));
    artifacts.modules.lock().expect("lock").extend([module_3]);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert!(pull(&running, 3).await, "a moment later it is asked for again");
    assert_eq!(there(&running, 1..=4), [1, 3]);
    metric(&running, "selvage_agent_pulled_total 2\n");
    metric(&running, "selvage_agent_pull_failures_total 2\n");

    // What came stays, and is not fetched again, by whatever snapshot.
    drop(running);
    let running = Running::start(place.config(Some(server.local_addr())));
    connected(&server).await;
    let before = artifacts.fetched.load(Relaxed);
    assert_eq!(publish(&server, 2, 1).await.acked.len(), 1);
    assert_eq!((running.version(), artifacts.fetched.load(Relaxed)), (1, before));
    until("the traffic of deployments", || server.take_traffic() == HashMap::from([(1, 7)])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_asked_for_while_the_control_plane_is_away_comes_when_it_is_back() {
    let place = Place::new();
    let server = place.server(LINEAGE, Artifacts::with(1..=2), "127.0.0.1:0").await;
    let address = server.local_addr().to_string();
    let running = Running::start(place.config(Some(server.local_addr())));
    connected(&server).await;
    server.publish(1, on_demand(1, &[1, 2])).expect("published");
    assert!(server.wait_acked(1, SOON).await.all_acked());
    drop(server);
    until("the node has noticed", || !running.handle.connected()).await;
    let published = running.handle.plane().current().expect("published");
    let (one, two) = (published.pull(hash(1)).expect("asked"), published.pull(hash(2)).expect("asked"));
    // Whoever waited for this one has gone.
    drop(two);
    let _server = place.server(LINEAGE, Artifacts::with(1..=2), &address).await;
    assert!(tokio::time::timeout(SOON, one).await.expect("in time"));
    until("both are there", || there(&running, 1..=2) == [1, 2]).await;
    drop(running);
    let alone = Running::start(place.config(None));
    assert_eq!(there(&alone, 1..=2), [1, 2]);
    let published = alone.handle.plane().current().expect("published");
    assert!(published.pull(hash(1)).is_none(), "nobody fetches");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_came_on_demand_stays_within_its_room_and_comes_again() {
    let place = Place::new();
    let server = place.server(LINEAGE, Artifacts::with(1..=9), "127.0.0.1:0").await;
    let room = module(1).len() as u64 * 4;
    let running = Running::start(Config { pulled_bytes_max: room, ..place.config(Some(server.local_addr())) });
    connected(&server).await;
    server.publish(1, on_demand(1, &[1, 2, 3, 4, 5, 6, 7, 8, 9])).expect("published");
    assert!(server.wait_acked(1, SOON).await.all_acked());
    for version in 1..=9 {
        assert!(pull(&running, version).await);
        // Later by the clock of files.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    until("the oldest have made room", || {
        let there = there(&running, 1..=9);
        there.len() <= 4 && there.ends_with(&[8, 9])
    })
    .await;
    assert!(pull(&running, 1).await, "what went comes again");
    assert!(there(&running, 1..=1) == [1]);
}
