//! The route table as it grows, against its promises: `cargo xtask bench route [ROUTES…]`.
//!
//! Ten routes a host, ten hosts a deployment, one host in twenty a wildcard; every host has paths of its own beside the common
//! ones. The table is written to a file and read over a map of it, as a node does.
//!
//! *uncached*: hosts and paths drawn evenly from the whole table, each asked for once, so that nearly each lookup misses the
//! processor's caches; every request's text is in the first-level cache when its lookup begins, as a shard's is. *cached*: as
//! many distinct requests as a cache holds, drawn as requests are (Zipf, exponent 1), and beside it evenly. Every lookup is timed alone; the clock's own time (the median of
//! empty measurements) is taken off. Exit code 1: a promise is missed at the largest size.

#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "a measurement is what the clock and files are for"
)]

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base::id::{AccountId, ArtifactHash, DeploymentId};
use plane_abi::{
    ChangedRoute, HostKind, Lineage, NewDeployment, NewRoute, PathKind, RouteBase, Snapshot, SnapshotWriter,
};
use route::{ENTRIES_MAX, RouteCache};

mod sample;

use sample::{ROUTES_PER_HOST, WORDS, host, mix, path, pick};

const HOSTS_PER_DEPLOYMENT: u64 = 10;
const LOOKUPS: usize = 400_000;
const CHANGED: u64 = 10;
fn deployment(id: u64) -> NewDeployment {
    let bits = mix(id ^ 1 << 50);
    NewDeployment {
        version: 3,
        artifact_bytes: 100_000,
        name: format!("{}-{id}", pick(&WORDS, bits)),
        compatibility_date: "2026-01-01".to_owned(),
        updated_unix_s: 1_700_000_000 + bits % 10_000_000,
        ..NewDeployment::new(
            DeploymentId(u128::from(id) << 64 | u128::from(bits)),
            AccountId(u128::from(bits)),
            ArtifactHash(std::array::from_fn(|at| mix(bits ^ at as u64) as u8)),
        )
    }
}

fn deployments(hosts: u64) -> u64 {
    (hosts / HOSTS_PER_DEPLOYMENT).max(2)
}

/// A state with every deployment.
fn without_routes(hosts: u64, generation: u64) -> SnapshotWriter {
    let mut writer = SnapshotWriter::new(Lineage(7 << 64 | 11), generation, 0, 0, "workers.localhost");
    for id in 0..deployments(hosts) {
        writer.deployment(deployment(id));
    }
    writer
}

/// The same with the routes of each host.
fn writer(hosts: u64) -> SnapshotWriter {
    let mut writer = without_routes(hosts, 1);
    let ids: Vec<DeploymentId> = (0..deployments(hosts)).map(|id| deployment(id).id).collect();
    for index in 0..hosts {
        let (host_kind, host) = host(index);
        for number in 0..ROUTES_PER_HOST {
            let (path_kind, path) = path(index, number);
            let deployment = ids[(mix(index) % ids.len() as u64) as usize];
            writer.route(NewRoute { host_kind, host: host.clone(), path_kind, path, deployment });
        }
    }
    writer
}

/// The first `changed` hosts lead one of theirs elsewhere.
fn changes(hosts: u64, changed: u64) -> Vec<ChangedRoute> {
    let change = |index| {
        let ((host_kind, host), (path_kind, path)) = (host(index), path(index, 3));
        let to = deployment((mix(index) + 1) % deployments(hosts)).id;
        ChangedRoute { host_kind, host, path_kind, path, deployment: Some(to) }
    };
    (0..changed).map(change).collect()
}

/// A request that some route of the host takes.
fn request(hosts: u64, number: u64) -> (String, String) {
    let bits = mix(number ^ 1 << 60);
    let index = bits % hosts;
    let (kind, host) = host(index);
    let host = if kind == HostKind::Wildcard { format!("shop.{host}") } else { host };
    let (kind, path) = path(index, (bits >> 40) % ROUTES_PER_HOST);
    (host, if kind == PathKind::Prefix { format!("{path}item/{}?q=1", bits >> 50) } else { path })
}

/// Which of a cache's entries is asked for: the `n`th most popular with a chance of 1 to `n`. The inverse of the harmonic sum,
/// which is near the logarithm.
fn zipf(bits: u64) -> usize {
    let uniform = (bits >> 11) as f64 / (1u64 << 53) as f64;
    ((ENTRIES_MAX as f64).powf(uniform) as usize).min(ENTRIES_MAX - 1)
}

/// Times of single operations, in nanoseconds.
struct Times(Vec<u64>);

impl Times {
    fn at(&self, share: f64) -> u64 {
        self.0[((self.0.len() - 1) as f64 * share) as usize]
    }

    fn take(count: usize, mut operation: impl FnMut(usize)) -> Times {
        let mut empty: Vec<u64> = (0..10_000).map(|_| Instant::now().elapsed().as_nanos() as u64).collect();
        empty.sort_unstable();
        let clock = empty[empty.len() / 2];
        let mut all = Vec::with_capacity(count);
        for index in 0..count {
            operation(index);
            all.push(LAST.get().saturating_sub(clock));
        }
        all.sort_unstable();
        Times(all)
    }
}

thread_local! {
    static LAST: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// Looks one up with its text at hand, and leaves how long it took.
fn timed<R>(text: &(String, String), lookup: impl FnOnce(&[u8], &[u8]) -> R) -> R {
    let (mut host, mut path) = ([0u8; 256], [0u8; 256]);
    let (host, path) = (&mut host[..text.0.len()], &mut path[..text.1.len()]);
    host.copy_from_slice(text.0.as_bytes());
    path.copy_from_slice(text.1.as_bytes());
    let (host, path) = (std::hint::black_box(&*host), std::hint::black_box(&*path));
    let start = Instant::now();
    let found = std::hint::black_box(lookup(host, path));
    LAST.set(start.elapsed().as_nanos() as u64);
    found
}

struct Row {
    routes: u64,
    table_bytes: usize,
    head_bytes: usize,
    written: Duration,
    verified: Duration,
    opened: Duration,
    uncached: Times,
    cached: Times,
    evenly: Times,
    cache_bytes: usize,
    change_bytes: usize,
    change_written: Duration,
}

fn measure(routes: u64) -> anyhow::Result<Row> {
    let hosts = (routes / ROUTES_PER_HOST).max(20);
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("routes");
    let mut state = writer(hosts);
    let start = Instant::now();
    let table = state.base()?;
    let written = start.elapsed();
    drop(state);
    std::fs::write(&file, &table)?;
    let table_bytes = table.len();
    drop(table);
    let start = Instant::now();
    let base = RouteBase::open(&file)?;
    let opened = start.elapsed();
    let start = Instant::now();
    base.verify()?;
    let verified = start.elapsed();
    let base = Arc::new(base);
    let head = |generation, changed| {
        let state = without_routes(hosts, generation);
        let start = Instant::now();
        let bytes = state.over_changes(Arc::clone(&base), changes(hosts, changed)).finish();
        bytes.map(|bytes| (bytes, start.elapsed()))
    };
    let (first, _) = head(1, 0)?;
    let (second, change_written) = head(2, CHANGED)?;
    let (head_bytes, change_bytes) = (first.len(), plane_abi::delta::make(&first, &second).len());
    let snapshot = Snapshot::from_vec_over(second, &|_| Ok(Arc::clone(&base)))?;

    let mut missed = 0;
    let requests: Vec<_> = (0..LOOKUPS as u64).map(|number| request(hosts, number)).collect();
    let uncached = Times::take(LOOKUPS, |index| {
        let found = timed(&requests[index], |host, path| route::lookup(&snapshot, host, path));
        missed += usize::from(found.is_none());
    });
    let mut cache = RouteCache::new(mix(3));
    let kept = &requests[..ENTRIES_MAX];
    for (host, path) in kept {
        cache.lookup(&snapshot, host.as_bytes(), path.as_bytes(), 0);
    }
    let before = cache.counts();
    let mut from_cache = |draw: fn(u64) -> usize| {
        Times::take(LOOKUPS, |index| {
            let found = timed(&kept[draw(mix(index as u64))], |host, path| cache.lookup(&snapshot, host, path, 1));
            missed += usize::from(found.is_none());
        })
    };
    let (cached, evenly) = (from_cache(zipf), from_cache(|bits| (bits % ENTRIES_MAX as u64) as usize));
    anyhow::ensure!(missed == 0, "{missed} requests found no route");
    anyhow::ensure!(cache.counts().misses == before.misses, "a request was not in the cache");
    let cache_bytes = cache.memory_bytes();
    let routes = hosts * ROUTES_PER_HOST;
    Ok(Row {
        routes,
        table_bytes,
        head_bytes,
        written,
        verified,
        opened,
        uncached,
        cached,
        evenly,
        cache_bytes,
        change_bytes,
        change_written,
    })
}

fn main() -> anyhow::Result<ExitCode> {
    let counts: Vec<u64> = std::env::args().skip(1).map(|count| count.parse()).collect::<Result<_, _>>()?;
    let counts = if counts.is_empty() { vec![10_000, 100_000, 1_000_000, 10_000_000] } else { counts };
    println!(
        "{:>9} {:>10} {:>6} {:>9} {:>8} {:>8} {:>8} | {:>7} {:>7} {:>7} | {:>6} {:>6} {:>6} | {:>8} {:>8} {:>8}",
        "routes",
        "table MB",
        "B/rt",
        "head MB",
        "write s",
        "check s",
        "open ms",
        "p50 ns",
        "p99",
        "p99.9",
        "cached",
        "p99",
        "evenly",
        "cache MB",
        "10 chg B",
        "write ms"
    );
    let mut kept = true;
    for routes in counts {
        let row = measure(routes)?;
        let megabytes = |bytes: usize| bytes as f64 / 1e6;
        println!(
            "{:>9} {:>10.2} {:>6.1} {:>9.2} {:>8.2} {:>8.2} {:>8.1} | {:>7} {:>7} {:>7} | {:>6} {:>6} {:>6} | {:>8.1} {:>8} {:>8.2}",
            row.routes,
            megabytes(row.table_bytes),
            row.table_bytes as f64 / row.routes as f64,
            megabytes(row.head_bytes),
            row.written.as_secs_f64(),
            row.verified.as_secs_f64(),
            row.opened.as_secs_f64() * 1e3,
            row.uncached.at(0.5),
            row.uncached.at(0.99),
            row.uncached.at(0.999),
            row.cached.at(0.5),
            row.cached.at(0.99),
            row.evenly.at(0.5),
            megabytes(row.cache_bytes),
            row.change_bytes,
            row.change_written.as_secs_f64() * 1e3,
        );
        kept = row.table_bytes + row.head_bytes <= 500_000_000
            && row.uncached.at(0.5) <= 800
            && row.uncached.at(0.99) <= 2000
            && row.cached.at(0.5) <= 150
            && row.cache_bytes <= 50_000_000;
    }
    println!("promises at the largest size: {}", if kept { "kept" } else { "MISSED" });
    Ok(if kept { ExitCode::SUCCESS } else { ExitCode::from(1) })
}
