//! Show 4 of the control plane: processes and PostgreSQL end at random under a stream of deployments, and every deployment that was
//! acknowledged is active on every node at the end, none half. Real control-plane processes on one real PostgreSQL, real agents on
//! threads of this process, deployers that try again; no V8: what validates is a script that takes everything.
//!
//! `SELVAGE_CHAOS_DEPLOYMENTS` says how many, as `cargo xtask chaos` does; a short run without. The seed is printed, and
//! `SELVAGE_E2E_SEED` sets it: it decides who ends when, not how threads take turns.

mod deployer;
mod fleet;
mod processes;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use e2e::eventually;
use e2e::random::Random;

use deployer::{Acknowledged, Deployer};
use fleet::Node;
use processes::World;

const PROCESSES: usize = 3;
const NODES: usize = 3;
const DEPLOYERS: usize = 4;
/// Deployments of a short run.
const SHORT: usize = 40;
/// From the last end to the last node's last configuration, on a machine that does much else.
const SETTLED: Duration = Duration::from_secs(120);

#[test]
fn every_acknowledged_deployment_is_active_whoever_ends() {
    let wanted = std::env::var("SELVAGE_CHAOS_DEPLOYMENTS").ok().and_then(|text| text.parse().ok());
    let wanted = wanted.unwrap_or(SHORT);
    let Some(mut world) = World::start(PROCESSES) else { return };
    let nodes: Vec<Node> = (0..NODES).map(|i| Node::start(&world, i)).collect();

    let began = Instant::now();
    let next = Arc::new(AtomicUsize::new(0));
    let acknowledged = Arc::new(Mutex::new(Vec::<Acknowledged>::new()));
    let deployers: Vec<_> = (0..DEPLOYERS)
        .map(|number| {
            let mut deployer = Deployer::new(&world, number);
            let (next, acknowledged) = (Arc::clone(&next), Arc::clone(&acknowledged));
            thread::spawn(move || {
                loop {
                    let i = next.fetch_add(1, Ordering::Relaxed);
                    if i >= wanted {
                        return deployer.tries();
                    }
                    let done = deployer.deploy(i);
                    acknowledged.lock().expect("nobody panics with it").push(done);
                }
            })
        })
        .collect();
    let done = AtomicBool::new(false);
    let mut random = Random::new(6);
    let (tries, ends) = thread::scope(|scope| {
        // PostgreSQL ends with the thread that started it last: this one.
        let waiter = scope.spawn(|| {
            let tries: usize = deployers.into_iter().map(|it| it.join().expect("a deployer")).sum();
            done.store(true, Ordering::Relaxed);
            tries
        });
        let ends = world.chaos(&mut random, &done);
        (waiter.join().expect("the waiter"), ends)
    });
    let took = began.elapsed();

    world.all_up();
    let acknowledged = acknowledged.lock().expect("nobody panics with it");
    assert_eq!(acknowledged.len(), wanted);
    check_store(&world, &acknowledged);
    let generation = world.number("SELECT generation FROM configuration");
    for node in &nodes {
        eventually("the node has the newest configuration", SETTLED, || {
            (node.generation() >= generation).then_some(())
        });
        for deployment in acknowledged.iter() {
            node.check(deployment);
        }
    }
    let terms = world.number("SELECT term FROM configuration");
    println!(
        "{wanted} deployments acknowledged in {:.1} s over {tries} requests and {terms} terms, all active on {NODES} nodes at \
         generation {generation}; ended meanwhile: {ends}",
        took.as_secs_f64()
    );
    assert!(ends.total() > 0 && terms > 1, "no leader was ended: the run was too short to show anything");
}

/// What is acknowledged is active, and nothing is on its way.
fn check_store(world: &World, acknowledged: &[Acknowledged]) {
    eventually("nothing is on its way", SETTLED, || {
        let half = "SELECT (SELECT COUNT(*) FROM deployments WHERE status NOT IN ('active', 'draft') OR restore_version_id IS NOT NULL) \
                    + (SELECT COUNT(*) FROM deployment_versions WHERE status = 'validating')";
        (world.number(half) == 0).then_some(())
    });
    let active = world.query(
        "SELECT d.id || ' ' || d.status || ' ' || v.version_number || ' ' || v.artifact_hash FROM deployments d \
         JOIN deployment_versions v ON v.id = d.active_version_id ORDER BY d.id",
    );
    let active: Vec<&str> = active.lines().collect();
    for Acknowledged { id, version, hash } in acknowledged {
        let line = format!("{id} active {version} {hash}");
        assert!(active.binary_search(&line.as_str()).is_ok(), "acknowledged and not there: {line}");
    }
    assert_eq!(active.len(), acknowledged.len(), "something is active that nobody was told of");
}
