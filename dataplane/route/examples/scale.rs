//! Size and speed of the route table as it grows: `cargo run --release -p route --example scale [ROUTES…]`.
//!
//! Ten routes a host. Prints bytes a route, time to write and to open, and the mean time of a lookup over random hosts,
//! which is dominated by cache misses once the table is larger than the caches.

#![allow(clippy::disallowed_types, reason = "a measurement is what the clock is for")]

use std::time::Instant;

use base::id::{AccountId, ArtifactHash, DeploymentId};
use plane_abi::{HostKind, Lineage, NewDeployment, NewRoute, PathKind, Snapshot, SnapshotWriter, Status};

const PATHS: [&str; 10] =
    ["/", "/api/", "/api/v1/", "/api/v2/", "/assets/", "/blog/", "/img/", "/login", "/shop/", "/x/y/z/"];
const LOOKUPS: u64 = 1_000_000;

fn main() {
    let counts: Vec<u64> = std::env::args().skip(1).filter_map(|count| count.parse().ok()).collect();
    println!(
        "{:>10} {:>12} {:>8} {:>9} {:>9} {:>10}",
        "routes", "bytes", "B/route", "write ms", "open ms", "lookup ns"
    );
    for routes in if counts.is_empty() { vec![10_000, 100_000, 1_000_000] } else { counts } {
        measure(routes);
    }
}

fn host(index: u64) -> String {
    format!("customer-{index}.example.com")
}

fn measure(routes: u64) {
    let hosts = (routes / PATHS.len() as u64).max(1);
    let mut writer = SnapshotWriter::new(Lineage(7), 1, 0, 0, "workers.localhost");
    writer.deployment(NewDeployment {
        id: DeploymentId(1),
        account: AccountId(1),
        version: 1,
        status: Status::Active,
        artifact: ArtifactHash([0; 32]),
        artifact_bytes: 0,
        name: String::new(),
        subdomain: String::new(),
        compatibility_date: String::new(),
        cpu_ms: 50,
        weight: 100,
        updated_unix_s: 0,
        sealed_env: Vec::new(),
        bindings: Vec::new(),
        crons: Vec::new(),
    });
    for index in 0..hosts {
        for path in PATHS {
            let path_kind = if path.ends_with('/') { PathKind::Prefix } else { PathKind::Exact };
            let (host_kind, deployment) = (HostKind::Exact, DeploymentId(1));
            writer.route(NewRoute { host_kind, host: host(index), path_kind, path: path.to_owned(), deployment });
        }
    }
    let start = Instant::now();
    let bytes = writer.finish().expect("valid");
    let written = start.elapsed();
    let length = bytes.len();
    let start = Instant::now();
    let snapshot = Snapshot::from_vec(bytes).expect("opens");
    let opened = start.elapsed();
    let requests: Vec<String> =
        (0..4096u64).map(|index| host(index.wrapping_mul(0x9e37_79b9_7f4a_7c15) % hosts)).collect();
    let start = Instant::now();
    let mut found = 0;
    for index in 0..LOOKUPS {
        let host = &requests[(index % 4096) as usize];
        found += u64::from(route::lookup(&snapshot, host.as_bytes(), b"/api/v1/users?id=7").is_some());
    }
    assert_eq!(found, LOOKUPS);
    let (nanos, per_route) = (start.elapsed().as_nanos() as u64 / LOOKUPS, length as u64 / (hosts * 10));
    let (written, opened) = (written.as_millis(), opened.as_millis());
    println!("{:>10} {length:>12} {per_route:>8} {written:>9} {opened:>9} {nanos:>10}", hosts * 10);
}
