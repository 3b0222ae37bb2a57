//! Several stores on one database, as several processes have it, and a database that ends under them.

mod support;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use model::{EnvType, EnvVarSpec, State};
use store::{Begun, NewRoute, Page, Store, StoreError, VersionRef};
use support::{Home, active, deployment, module, valid};

/// A database that was away is back for a store within this, on a machine that does much else.
const BACK: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn generations_and_version_numbers_of_many_writers_are_all_different() {
    const PROCESSES: usize = 3;
    const EACH: usize = 20;
    for home in Home::both("writers at the same time") {
        let first = home.store().await;
        let id = deployment(&first, "a").await;
        valid(&first, id).await;
        first.finish_activation(id).await.unwrap();
        let before = first.generation().await.unwrap();
        let mut tasks = Vec::new();
        for process in 0..PROCESSES {
            let store = home.store().await;
            assert_eq!(store.lineage(), first.lineage());
            tasks.push(tokio::spawn(async move {
                let mut seen = Vec::new();
                for i in 0..EACH {
                    let var = EnvVarSpec { value: format!("{process}.{i}"), kind: EnvType::Secret };
                    let (_, generation) = store.set_env(id, &format!("K{process}"), &var).await.unwrap();
                    let number = store.begin_upload(id, &module()).await.unwrap().version_number;
                    seen.push((generation, number));
                }
                seen
            }));
        }
        let mut generations = BTreeSet::new();
        let mut numbers = BTreeSet::new();
        for task in tasks {
            let seen = task.await.unwrap();
            assert!(seen.is_sorted(), "a generation went back: {seen:?}");
            generations.extend(seen.iter().map(|(generation, _)| *generation));
            numbers.extend(seen.iter().map(|(_, number)| *number));
        }
        let count = (PROCESSES * EACH) as u64;
        let all: BTreeSet<u64> = (before + 1..=before + count).collect();
        assert_eq!(generations, all, "{:?}", home.database);
        assert_eq!(numbers, (2..=1 + count as u32).collect(), "{:?}", home.database);
        assert_eq!(first.desired_state(&[]).await.unwrap().deployments[0].env.len(), PROCESSES);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_two_that_take_the_same_one_gets_it() {
    for home in Home::both("two that take the same") {
        let stores = [home.store().await, home.store().await];
        let ids = [active(&stores[0], "a").await, active(&stores[0], "b").await];
        for round in 0..10 {
            let new = NewRoute { pattern: format!("{round}.example/*"), zone_id: None, enabled: round % 2 == 0 };
            let (left, right) = tokio::join!(stores[0].add_route(ids[0], &new), stores[1].add_route(ids[1], &new));
            let (won, lost) = if left.is_ok() { (left, right) } else { (right, left) };
            assert_eq!(won.unwrap().0.enabled, round % 2 == 0);
            assert!(matches!(lost.unwrap_err(), StoreError::Conflict { .. }), "{:?}", home.database);
        }
        let mut enabled = Vec::new();
        for id in ids {
            enabled
                .extend(stores[1].routes(id, &Page::default()).await.unwrap().into_iter().map(|route| route.enabled));
        }
        enabled.sort_unstable();
        assert_eq!(enabled, [[false; 5], [true; 5]].concat());
        let desired = stores[0].desired_state(&[]).await.unwrap();
        assert_eq!(desired.deployments.iter().map(|d| d.routes.len()).sum::<usize>(), 5, "those in force");
    }
}

#[tokio::test]
async fn texts_are_in_the_order_of_their_bytes() {
    for home in Home::both("the order of texts") {
        let store = home.store().await;
        let id = active(&store, "a").await;
        for key in ["b", "A", "a", "B", "_"] {
            let var = EnvVarSpec { value: key.to_owned(), kind: EnvType::Plain };
            store.set_env(id, key, &var).await.unwrap();
        }
        let keys: Vec<String> = store.env(id).await.unwrap().into_iter().map(|var| var.key).collect();
        assert_eq!(keys, ["A", "B", "_", "a", "b"], "{:?}", home.database);
    }
}

#[tokio::test]
async fn who_was_deposed_neither_writes_nor_reads_what_is_desired() {
    for home in Home::both("a change of leader") {
        let (first, second) = (home.store().await, home.store().await);
        let id = active(&first, "a").await;
        let seen = first.leadership().await.unwrap();
        assert_eq!((seen.term, seen.address.as_deref()), (0, None));
        let leader = first.take_over(&seen, "one").await.unwrap().expect("nobody else wants it");
        assert!(second.take_over(&seen, "two").await.unwrap().is_none(), "it is not as it was seen");
        let seen = second.leadership().await.unwrap();
        assert_eq!((seen.term, seen.beat, seen.address.as_deref()), (1, 0, Some("one")));
        leader.beat().await.unwrap();
        assert!(second.take_over(&seen, "two").await.unwrap().is_none(), "the leader is well");
        leader.set_paused(id, true).await.unwrap();

        let seen = second.leadership().await.unwrap();
        let successor = second.take_over(&seen, "two").await.unwrap().expect("the leader stood still");
        let generation = successor.generation().await.unwrap();
        assert!(matches!(leader.beat().await, Err(StoreError::Deposed)));
        assert!(matches!(leader.give_up().await, Err(StoreError::Deposed)));
        assert!(matches!(leader.set_paused(id, false).await, Err(StoreError::Deposed)));
        assert!(matches!(leader.raise_generation().await, Err(StoreError::Deposed)));
        assert!(matches!(leader.raise_generation_to(99).await, Err(StoreError::Deposed)));
        assert!(matches!(leader.desired_state(&[]).await, Err(StoreError::Deposed)));
        assert_eq!(successor.generation().await.unwrap(), generation, "{:?}", home.database);
        assert!(successor.desired_state(&[]).await.unwrap().deployments[0].paused);
        successor.give_up().await.unwrap();
        assert_eq!(second.leadership().await.unwrap().address, None);
    }
}

#[tokio::test]
async fn another_master_key_is_told_at_the_start() {
    for home in Home::both("another master key") {
        home.store().await.close().await;
        std::fs::remove_file(home.dir.path().join("master.key")).unwrap();
        let opened = Store::open_in(home.dir.path(), &home.database).await;
        let error = opened.map(|_| ()).unwrap_err();
        assert!(error.to_string().contains("another master.key"), "{error}");
    }
}

/// Tries until the database is back.
async fn when_back<T>(mut operation: impl AsyncFnMut() -> store::Result<T>) -> T {
    let deadline = tokio::time::Instant::now() + BACK;
    loop {
        match operation().await {
            Ok(value) => return value,
            Err(error) if error.is_busy() => assert!(tokio::time::Instant::now() < deadline, "not back: {error}"),
            Err(error) => panic!("{error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What the row of a deployment whose versions 1 and 2 take turns may say, at any moment.
async fn check_whole(store: &Store, id: model::DeploymentId) -> u32 {
    let row = when_back(async || store.deployment(id).await).await.expect("there");
    let active = row.active.expect("one version is active");
    match row.status {
        State::Active => assert_eq!(row.restore_version_id, None),
        State::Deploying => assert!(row.restore_version_id.is_some_and(|restore| restore != active.id)),
        other => panic!("half: {other}"),
    }
    active.version_number
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn activations_under_a_server_that_is_killed_are_whole_or_not_at_all() {
    let Some(mut home) = Home::postgres("activations under a server that is killed") else { return };
    let store = home.store().await;
    let id = active(&store, "a").await;
    valid(&store, id).await;
    let mut server = home.server.take().expect("PostgreSQL");
    let done = Arc::new(AtomicBool::new(false));
    let enough = Arc::clone(&done);
    let killer = std::thread::spawn(move || {
        let mut ends = 0;
        while !enough.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(200));
            if ends % 3 == 2 {
                server.stop()
            } else {
                server.kill()
            }
            server.restart();
            ends += 1;
        }
        ends
    });

    let (mut generation, mut cut, mut turns, mut wanted) = (0, 0, 0, 2);
    while turns < 60 || cut < 3 {
        // Each step is repeated until it is acknowledged: one that was made, and not acknowledged, is no error.
        match store.begin_activation(id, VersionRef::Number(wanted)).await {
            Ok(Begun::Started { generation: new, .. }) => {
                assert!(new > generation, "the generation went back from {generation} to {new}");
                generation = new;
            }
            Ok(Begun::AlreadyActive(_)) => {}
            Err(error) if error.is_busy() => {
                cut += 1;
                check_whole(&store, id).await;
                continue;
            }
            // It was begun by one that was not acknowledged.
            Err(StoreError::IllegalState(_)) => {}
            Err(error) => panic!("{error}"),
        }
        when_back(async || store.finish_activation(id).await).await;
        assert_eq!(check_whole(&store, id).await, wanted, "an acknowledged activation is lost");
        (wanted, turns) = (3 - wanted, turns + 1);
    }
    assert!(when_back(async || store.generation().await).await >= generation);
    done.store(true, Ordering::Relaxed);
    let ends = killer.join().unwrap();
    eprintln!("{turns} activations, {ends} ends of the server, {cut} operations cut off, generation {generation}");
}
