//! The agent against the real push server over loopback TLS, and against a control plane that does wrong.

mod bases;
mod pull;

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    io::{Read as _, Write as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use agent::{Agent, AgentHandle, Config, Control, Hooks, StartError};
use base::id::{AccountId, ArtifactHash, DeploymentId};
use bytes::Bytes;
use plan::{DesiredDeployment, DesiredState, compile};
use plane_abi::code::{CodeEngine, code_name, pack};
use plane_abi::plane::artifact_hash;
use plane_abi::seal::Key;
use plane_abi::wire::{
    self, ArtifactPart, Blob, Decoder, DeltaFrom, Load, LogLevel, LogRecord, RefuseReason, SnapshotBegin, ToControl,
    ToNode, Traffic, Welcome, WireKey,
};
use plane_abi::{DeploymentIx, Distribution, Lineage, SnapshotHeader, Status};
use push::{Acks, ArtifactFuture, ArtifactSource, Ca, PushConfig, PushServer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

const LINEAGE: Lineage = Lineage(0x11);
const SOON: Duration = Duration::from_secs(15);

fn key() -> Key {
    Key::from_bytes([9; 32])
}

fn module(version: u32) -> Bytes {
    Bytes::from(format!("export default {{ fetch() {{ return new Response('v{version}') }} }}"))
}

/// One deployment whose module is `module(version)`.
fn snapshot_of(lineage: Lineage, generation: u64, version: u32) -> Vec<u8> {
    let module = module(version);
    let state = DesiredState {
        lineage,
        generation,
        created_unix_ms: 0,
        platform_domain: "workers.localhost".into(),
        deployments: vec![DesiredDeployment {
            id: DeploymentId(1),
            account: AccountId(1),
            name: "hello".into(),
            subdomain: "hello".into(),
            status: Status::Active,
            distribution: Distribution::Push,
            version,
            artifact: artifact_hash(&module),
            artifact_bytes: module.len() as u64,
            compatibility_date: String::new(),
            cpu_ms: 50,
            weight: 100,
            updated_unix_s: 0,
            routes: vec!["example.com/*".into()],
            env: vec![("VERSION".into(), version.to_string())],
            bindings: Vec::new(),
            crons: Vec::new(),
            candidate: None,
        }],
        steering: Default::default(),
    };
    compile(&state, &key()).expect("compiles")
}

fn snapshot(generation: u64, version: u32) -> Vec<u8> {
    snapshot_of(LINEAGE, generation, version)
}

#[derive(Default)]
struct Artifacts {
    modules: Mutex<HashMap<ArtifactHash, Bytes>>,
    fetched: AtomicUsize,
    delay: Duration,
}

impl Artifacts {
    fn with(versions: impl IntoIterator<Item = u32>) -> Arc<Artifacts> {
        let modules = versions.into_iter().map(module).map(|bytes| (artifact_hash(&bytes), bytes));
        Arc::new(Artifacts { modules: Mutex::new(modules.collect()), ..Artifacts::default() })
    }
}

impl ArtifactSource for Artifacts {
    fn fetch(&self, hash: ArtifactHash) -> ArtifactFuture<'_> {
        self.fetched.fetch_add(1, Relaxed);
        let found = self.modules.lock().expect("lock").get(&hash).cloned();
        Box::pin(async move {
            tokio::time::sleep(self.delay).await;
            Ok(found)
        })
    }
}

/// A folder with an authority, a node's identity and room for its data.
struct Place {
    folder: tempfile::TempDir,
    ca: Ca,
}

impl Place {
    fn new() -> Place {
        let folder = tempfile::tempdir().expect("folder");
        let ca = Ca::load_or_create(&folder.path().join("ca.key")).expect("authority");
        ca.issue_node("node-1").expect("issued").write(&folder.path().join("identity")).expect("written");
        Place { folder, ca }
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn config(&self, control: Option<SocketAddr>) -> Config {
        let identity = self.folder.path().join("identity");
        Config {
            data_dir: self.data(),
            admin: SocketAddr::from(([127, 0, 0, 1], 0)),
            control: control.map(|address| Control { address: address.to_string(), identity }),
            software: "test".into(),
            pulled_bytes_max: u64::MAX,
            code: None,
        }
    }

    async fn server(&self, lineage: Lineage, artifacts: Arc<Artifacts>, address: &str) -> PushServer {
        let listener = TcpListener::bind(address).await.expect("bound");
        let mut config = PushConfig::new(lineage, vec![key()], artifacts);
        config.heartbeat = Duration::from_millis(200);
        PushServer::start(listener, &self.ca, config).expect("started")
    }
}

/// An agent on a thread of its own; stopped when dropped.
struct Running {
    handle: AgentHandle,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    fn start(config: Config) -> Running {
        let agent = Agent::open(config).expect("opens");
        let handle = agent.handle();
        let hooks = Hooks {
            ready: Arc::new(|| Ok(())),
            metrics: Arc::new(|| "shard_metric 1\n".to_owned()),
            load: Arc::new(|| Load { shards: 2, requests: 5, ..Load::default() }),
            traffic: Arc::new(|| vec![Traffic { deployment: 1, requests: 7 }]),
        };
        let thread = std::thread::spawn(move || agent.run(hooks).expect("runs"));
        Running { handle, thread: Some(thread) }
    }

    fn generation(&self) -> u64 {
        self.handle.plane().current().map_or(0, |published| published.snapshot().generation())
    }

    /// The version that serves, and that its module and environment can be had.
    fn version(&self) -> u32 {
        let published = self.handle.plane().current().expect("published");
        let deployment = published.snapshot().deployment(DeploymentIx(0)).expect("there");
        assert_eq!(published.artifact(deployment.artifact()).expect("on disk"), module(deployment.version()));
        let env = published.env(&deployment).expect("opens");
        assert_eq!(env, [("VERSION".to_owned(), deployment.version().to_string())]);
        deployment.version()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.handle.shutdown();
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "the agent's thread panicked");
        }
    }
}

async fn until(what: &str, check: impl Fn() -> bool) {
    let start = Instant::now();
    while !check() {
        assert!(start.elapsed() < SOON, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn publish(server: &PushServer, generation: u64, version: u32) -> Acks {
    server.publish(generation, snapshot(generation, version).into()).expect("published");
    server.wait_acked(generation, SOON).await
}

async fn connected(server: &PushServer) {
    until("the node is connected", || server.nodes().iter().any(|node| node.connected)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_published_snapshot_serves_and_survives_a_restart_without_control() {
    let place = Place::new();
    let server = place.server(LINEAGE, Artifacts::with(1..=1), "127.0.0.1:0").await;
    let running = Running::start(place.config(Some(server.local_addr())));
    assert_eq!(running.generation(), 0);
    connected(&server).await;
    let acks = publish(&server, 1, 1).await;
    assert_eq!(acks, Acks { acked: vec!["node-1".into()], ..Acks::default() });
    assert_eq!((running.generation(), running.version()), (1, 1));
    until("a heartbeat", || server.nodes()[0].load.generation == 1).await;
    until("the fleet", || running.handle.plane().fleet().members() == ["node-1"]).await;
    assert_eq!((server.nodes()[0].load.shards, server.nodes()[0].load.requests), (2, 5));
    drop((running, server));
    let alone = Running::start(place.config(None));
    assert_eq!((alone.generation(), alone.version()), (1, 1));
    assert!(alone.handle.plane().fleet().owns(1), "without a control plane it is alone");
    let keys: Vec<_> = fs::read_dir(place.data().join("keys")).expect("folder").flatten().collect();
    let mode = std::os::unix::fs::MetadataExt::mode(&keys[0].metadata().expect("there"));
    assert_eq!((keys.len(), mode & 0o777), (1, 0o600));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_alternating_versions_are_each_served_and_acknowledged() {
    let place = Place::new();
    let server = place.server(LINEAGE, Artifacts::with(1..=2), "127.0.0.1:0").await;
    let running = Running::start(place.config(Some(server.local_addr())));
    connected(&server).await;
    let mut visible_us = Vec::new();
    for generation in 1..=100 {
        let version = (generation % 2) as u32 + 1;
        let bytes: Arc<[u8]> = snapshot(generation, version).into();
        let start = Instant::now();
        server.publish(generation, bytes).expect("published");
        while running.generation() < generation {
            assert!(start.elapsed() < SOON, "generation {generation} never served");
            tokio::time::sleep(Duration::from_micros(100)).await;
        }
        visible_us.push(start.elapsed().as_micros());
        assert!(server.wait_acked(generation, SOON).await.all_acked());
        assert_eq!(running.version(), version);
    }
    visible_us.sort_unstable();
    println!("publish to visible, microseconds: p50 {} p99 {} max {}", visible_us[49], visible_us[98], visible_us[99]);
    let files = |folder: &str| fs::read_dir(place.data().join(folder)).expect("folder").count();
    assert_eq!((files("snapshots"), files("artifacts")), (3, 2), "old snapshots are pruned");
    // And as fast as they can be published: the last one wins.
    for generation in 101..=200 {
        server.publish(generation, snapshot(generation, (generation % 2) as u32 + 1).into()).expect("published");
    }
    assert!(server.wait_acked(200, SOON).await.all_acked());
    assert_eq!((running.generation(), running.version()), (200, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_source_of_artifacts_does_not_break_the_connection() {
    let place = Place::new();
    let modules = Mutex::new(HashMap::from([(artifact_hash(&module(1)), module(1))]));
    // The heartbeat is 200 ms: much longer than both sides' patience with a silent peer.
    let slow = Arc::new(Artifacts { modules, delay: Duration::from_secs(2), ..Artifacts::default() });
    let server = place.server(LINEAGE, slow, "127.0.0.1:0").await;
    let running = Running::start(place.config(Some(server.local_addr())));
    connected(&server).await;
    let since = server.nodes()[0].connected_unix_ms;
    assert!(publish(&server, 1, 1).await.all_acked());
    assert_eq!((running.version(), server.nodes()[0].connected_unix_ms), (1, since));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_reconnects_and_catches_up() {
    let place = Place::new();
    let artifacts = Artifacts::with(1..=3);
    let server = place.server(LINEAGE, artifacts.clone(), "127.0.0.1:0").await;
    let address = server.local_addr().to_string();
    let running = Running::start(place.config(Some(server.local_addr())));
    connected(&server).await;
    assert!(publish(&server, 1, 1).await.all_acked());
    drop(server);
    until("it notices", || !running.handle.connected()).await;
    assert_eq!(running.version(), 1, "what served goes on serving");
    let server = place.server(LINEAGE, artifacts, &address).await;
    server.publish(5, snapshot(5, 3).into()).expect("published");
    until("it caught up", || running.generation() == 5).await;
    assert_eq!(running.version(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_newest_snapshot_falls_back_and_is_sent_again() {
    let place = Place::new();
    let server = place.server(LINEAGE, Artifacts::with(1..=2), "127.0.0.1:0").await;
    let running = Running::start(place.config(Some(server.local_addr())));
    connected(&server).await;
    for generation in 1..=2 {
        assert!(publish(&server, generation, generation as u32).await.all_acked());
    }
    drop(running);
    let mut files: Vec<PathBuf> =
        fs::read_dir(place.data().join("snapshots")).expect("folder").flatten().map(|entry| entry.path()).collect();
    files.sort();
    let newest = files.last().expect("there");
    let mut bytes = fs::read(newest).expect("reads");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(newest, bytes).expect("writes");
    // A killed process leaves these.
    fs::write(place.data().join("snapshots/incoming-0.tmp"), b"half").expect("writes");
    let running = Running::start(place.config(None));
    assert_eq!((running.generation(), running.version()), (1, 1));
    assert!(!place.data().join("snapshots/incoming-0.tmp").exists());
    drop(running);
    let running = Running::start(place.config(Some(server.local_addr())));
    until("it has the newest again", || running.generation() == 2).await;
    until("durably", || server.nodes()[0].generation == 2).await;
    drop(running);
    assert_eq!(Running::start(place.config(None)).version(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_any_moment_the_folder_holds_a_whole_configuration() {
    let place = Place::new();
    let server = place.server(LINEAGE, Artifacts::with(1..=2), "127.0.0.1:0").await;
    let running = Running::start(place.config(Some(server.local_addr())));
    connected(&server).await;
    assert!(publish(&server, 1, 1).await.all_acked());
    let mut acked = 1;
    for generation in 2..=20 {
        let copy = Place::new();
        server.publish(generation, snapshot(generation, (generation % 2) as u32 + 1).into()).expect("published");
        copy_folder(&place.data(), &copy.data());
        let other = Running::start(copy.config(None));
        assert!(other.generation() >= acked, "{} after {acked} was acknowledged", other.generation());
        other.version();
        if server.wait_acked(generation, SOON).await.all_acked() {
            acked = generation;
        }
    }
    drop(running);
    assert_eq!(acked, 20);
}

/// What a power cut would leave, give or take the page cache: files that vanish meanwhile are passed over.
fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("folder");
    for entry in fs::read_dir(from).expect("folder").flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => copy_folder(&entry.path(), &to.join(entry.file_name())),
            _ => _ = fs::copy(entry.path(), to.join(entry.file_name())),
        }
    }
}

#[test]
fn one_agent_per_folder() {
    let place = Place::new();
    let first = Agent::open(place.config(None)).expect("opens");
    assert!(matches!(Agent::open(place.config(None)), Err(StartError::Disk(agent::DiskError::Locked(_)))));
    drop(first);
    assert!(Agent::open(place.config(None)).is_ok());
    let lost = Config {
        control: Some(Control { address: "x:1".into(), identity: "/nonexistent".into() }),
        ..place.config(None)
    };
    assert!(matches!(Agent::open(lost), Err(StartError::Identity(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn log_records_reach_the_control_plane() {
    let place = Place::new();
    let server = place.server(LINEAGE, Artifacts::with([]), "127.0.0.1:0").await;
    let mut logs = server.logs();
    let running = Running::start(place.config(Some(server.local_addr())));
    for number in 0..1000u64 {
        let (level, text) = (LogLevel::Info, format!("line {number}"));
        let record = LogRecord { deployment: 1, version: 1, level, text, unix_ms: number, request: Some(number) };
        assert!(running.handle.log(record));
    }
    for number in 0..1000 {
        let log = tokio::time::timeout(SOON, logs.recv()).await.expect("in time").expect("a record");
        assert_eq!((&*log.node, log.record.unix_ms, log.dropped), ("node-1", number, 0));
    }
}

fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = std::net::TcpStream::connect(address).expect("connects");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("sends");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("answers");
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, text.split_once("\r\n\r\n").expect("a body").1.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn admin_pages_say_how_it_is() {
    let place = Place::new();
    let server = place.server(LINEAGE, Artifacts::with(1..=1), "127.0.0.1:0").await;
    let running = Running::start(place.config(Some(server.local_addr())));
    let admin = running.handle.admin_addr();
    assert_eq!(get(admin, "/healthz"), (200, "ok\n".into()));
    assert_eq!(get(admin, "/readyz"), (503, "no configuration yet\n".into()));
    assert_eq!(get(admin, "/else").0, 404);
    connected(&server).await;
    assert!(publish(&server, 1, 1).await.all_acked());
    assert_eq!(get(admin, "/readyz"), (200, "ready\n".into()));
    let (status, metrics) = get(admin, "/metrics");
    assert_eq!(status, 200);
    for line in ["selvage_agent_generation 1\n", "selvage_agent_connected 1\n", "shard_metric 1\n"] {
        assert!(metrics.contains(line), "{metrics}");
    }
}

/// A control plane in the test's hands: real TLS, any frames.
struct Hostile {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

struct Peer {
    stream: TlsStream<TcpStream>,
    decoder: Decoder<ToControl>,
}

impl Hostile {
    async fn new(place: &Place) -> Hostile {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        Hostile { listener, acceptor: TlsAcceptor::from(place.ca.server_config().expect("TLS")) }
    }

    fn address(&self) -> SocketAddr {
        self.listener.local_addr().expect("bound")
    }

    /// Accepts the node and welcomes it to a lineage.
    async fn welcome(&self, lineage: Lineage) -> Peer {
        let accept = async {
            let (stream, _) = self.listener.accept().await.expect("accepted");
            self.acceptor.accept(stream).await.expect("TLS")
        };
        let stream = tokio::time::timeout(SOON, accept).await.expect("in time");
        let mut peer = Peer { stream, decoder: Decoder::new() };
        let welcome = Welcome { lineage, env_keys: vec![WireKey(key())], heartbeat_ms: 60_000 };
        assert!(matches!(peer.next().await, ToControl::Hello(hello) if hello.node == "node-1"));
        peer.send(&ToNode::Welcome(welcome)).await;
        peer
    }
}

impl Peer {
    async fn send(&mut self, message: &ToNode) {
        let mut frame = Vec::new();
        wire::encode(message, &mut frame).expect("encodes");
        self.stream.write_all(&frame).await.expect("written");
        self.stream.flush().await.expect("flushed");
    }

    /// The next message that is no heartbeat.
    async fn next(&mut self) -> ToControl {
        loop {
            match self.decoder.poll().expect("a valid frame") {
                Some(ToControl::Heartbeat(_)) => continue,
                Some(message) => return message,
                None => {}
            }
            let mut buffer = vec![0; 65536];
            let read = tokio::time::timeout(SOON, self.stream.read(&mut buffer)).await.expect("in time").expect("read");
            assert!(read > 0, "the node closed");
            self.decoder.push(&buffer[..read]);
        }
    }

    /// Sends bytes as a snapshot, announced as `header` and in parts of `part_bytes`.
    async fn offer(&mut self, header: SnapshotHeader, bytes: &[u8], part_bytes: usize) {
        let SnapshotHeader { lineage, generation, checksum } = header;
        let begin = SnapshotBegin { lineage, generation, checksum, total_bytes: bytes.len() as u64, delta: None };
        self.send(&ToNode::SnapshotBegin(begin)).await;
        for part in bytes.chunks(part_bytes) {
            self.send(&ToNode::SnapshotPart(Blob(part.to_vec()))).await;
        }
        self.send(&ToNode::SnapshotEnd { generation }).await;
    }

    /// Sends a delta, announced as what `header` says.
    async fn offer_delta(&mut self, header: SnapshotHeader, from: DeltaFrom, delta: &[u8]) {
        let SnapshotHeader { lineage, generation, checksum } = header;
        let (total_bytes, delta_from) = (delta.len() as u64, Some(from));
        let begin = SnapshotBegin { lineage, generation, checksum, total_bytes, delta: delta_from };
        self.send(&ToNode::SnapshotBegin(begin)).await;
        self.send(&ToNode::SnapshotPart(Blob(delta.to_vec()))).await;
        self.send(&ToNode::SnapshotEnd { generation }).await;
    }

    async fn offer_good(&mut self, bytes: &[u8]) {
        self.offer(SnapshotHeader::read(bytes).expect("whole").0, bytes, 100).await;
    }

    /// Answers requests for artifacts from `modules` until something else comes.
    async fn serve_artifacts(&mut self, modules: &BTreeMap<ArtifactHash, Bytes>) -> ToControl {
        loop {
            match self.next().await {
                ToControl::ArtifactWanted(hash) => match modules.get(&hash.into()) {
                    Some(bytes) => {
                        let (total_bytes, bytes) = (bytes.len() as u64, Blob(bytes.to_vec()));
                        self.send(&ToNode::ArtifactPart(ArtifactPart { hash, total_bytes, offset: 0, bytes })).await;
                    }
                    None => self.send(&ToNode::ArtifactMissing(hash)).await,
                },
                other => return other,
            }
        }
    }

    async fn refused(&mut self, because: RefuseReason) {
        match self.serve_artifacts(&modules([])).await {
            ToControl::Refuse { reason, .. } => assert_eq!(reason, because),
            other => panic!("{other:?} where {because:?} was due"),
        }
    }

    async fn acked(&mut self, generation: u64, versions: impl IntoIterator<Item = u32>) {
        let answer = self.serve_artifacts(&modules(versions)).await;
        assert!(
            matches!(answer, ToControl::Ack { generation: acked, artifacts_missing: 0, .. } if acked == generation),
            "{answer:?}"
        );
    }
}

fn modules(versions: impl IntoIterator<Item = u32>) -> BTreeMap<ArtifactHash, Bytes> {
    versions.into_iter().map(module).map(|bytes| (artifact_hash(&bytes), bytes)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_snapshots_are_refused_and_the_good_one_goes_on_serving() {
    let place = Place::new();
    let hostile = Hostile::new(&place).await;
    let running = Running::start(place.config(Some(hostile.address())));
    let mut peer = hostile.welcome(LINEAGE).await;
    peer.offer_good(&snapshot(5, 1)).await;
    peer.acked(5, [1]).await;
    // Every one of these must leave generation 5 serving, and the connection usable.
    let good = snapshot(6, 2);
    let header = SnapshotHeader::read(&good).expect("whole").0;
    for at in [0, 8, 16, 64, 100, good.len() / 2, good.len() - 1] {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        peer.offer(header, &bad, 64).await;
        peer.refused(RefuseReason::Corrupt).await;
    }
    peer.offer(header, &good[..good.len() - 8], 64).await;
    peer.refused(RefuseReason::Corrupt).await;
    peer.offer(SnapshotHeader { generation: 7, ..header }, &good, 64).await;
    peer.refused(RefuseReason::Corrupt).await;
    let old = snapshot(4, 1);
    peer.offer_good(&old).await;
    peer.refused(RefuseReason::Older).await;
    peer.offer(SnapshotHeader { generation: 6, ..SnapshotHeader::read(&old).expect("whole").0 }, &old, 64).await;
    peer.refused(RefuseReason::Corrupt).await;
    peer.offer_good(&snapshot(5, 2)).await;
    peer.refused(RefuseReason::Older).await;
    peer.offer_good(&snapshot_of(Lineage(99), 9, 1)).await;
    peer.refused(RefuseReason::ForeignLineage).await;
    let begin = SnapshotBegin { lineage: LINEAGE, generation: 6, total_bytes: 10, checksum: 0, delta: None };
    peer.send(&ToNode::SnapshotBegin(begin)).await;
    peer.send(&ToNode::SnapshotPart(Blob(vec![0; 11]))).await;
    peer.refused(RefuseReason::Corrupt).await;
    peer.send(&ToNode::SnapshotPart(Blob(vec![0; 11]))).await;
    peer.send(&ToNode::SnapshotBegin(SnapshotBegin { total_bytes: u64::MAX, ..begin })).await;
    peer.refused(RefuseReason::Corrupt).await;
    assert_eq!((running.generation(), running.version()), (5, 1));
    // Half a snapshot, then a newer one begins.
    peer.send(&ToNode::SnapshotBegin(SnapshotBegin { total_bytes: 1000, ..begin })).await;
    peer.send(&ToNode::SnapshotPart(Blob(vec![0; 500]))).await;
    peer.offer_good(&good).await;
    peer.acked(6, [2]).await;
    assert_eq!((running.generation(), running.version()), (6, 2));
    let files: Vec<_> = fs::read_dir(place.data().join("snapshots")).expect("folder").flatten().collect();
    assert_eq!(files.len(), 2, "nothing of what was refused stays on disk");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_module_that_is_not_its_hash_is_refused_and_never_stored() {
    let place = Place::new();
    let hostile = Hostile::new(&place).await;
    let running = Running::start(place.config(Some(hostile.address())));
    let mut peer = hostile.welcome(LINEAGE).await;
    peer.offer_good(&snapshot(1, 1)).await;
    peer.acked(1, [1]).await;
    let wrong = BTreeMap::from([(artifact_hash(&module(2)), module(3))]);
    peer.offer_good(&snapshot(2, 2)).await;
    match peer.serve_artifacts(&wrong).await {
        ToControl::Refuse { reason, detail, .. } => {
            assert_eq!(reason, RefuseReason::Artifacts);
            assert!(detail.contains(&artifact_hash(&module(2)).to_string()), "{detail}");
        }
        other => panic!("{other:?}"),
    }
    peer.offer_good(&snapshot(3, 2)).await;
    peer.refused(RefuseReason::Artifacts).await;
    assert_eq!((running.generation(), running.version()), (1, 1));
    assert_eq!(fs::read_dir(place.data().join("artifacts")).expect("folder").count(), 1);
    // The same generation again, with the right bytes: nothing was taken, so nothing is older.
    peer.offer_good(&snapshot(3, 2)).await;
    peer.acked(3, [2]).await;
    assert_eq!(running.version(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_nothing_serves_what_it_can_get_and_repairs_the_rest() {
    let place = Place::new();
    let hostile = Hostile::new(&place).await;
    let running = Running::start(place.config(Some(hostile.address())));
    let mut peer = hostile.welcome(LINEAGE).await;
    peer.offer_good(&snapshot(1, 1)).await;
    let answer = peer.serve_artifacts(&modules([])).await;
    assert!(matches!(answer, ToControl::Ack { generation: 1, artifacts_missing: 1, .. }), "{answer:?}");
    assert_eq!(running.generation(), 1);
    drop(peer);
    // With the next connection it asks again; so it does for one that was damaged on disk.
    let mut peer = hostile.welcome(LINEAGE).await;
    let artifact = place.data().join("artifacts").join(artifact_hash(&module(1)).to_string());
    let asked = peer.next().await;
    assert_eq!(asked, ToControl::ArtifactWanted(artifact_hash(&module(1)).into()));
    let (hash, total_bytes) = (artifact_hash(&module(1)).into(), module(1).len() as u64);
    let part = ArtifactPart { hash, total_bytes, offset: 0, bytes: Blob(module(1).to_vec()) };
    peer.send(&ToNode::ArtifactPart(part)).await;
    until("it is there", || artifact.exists()).await;
    assert_eq!(running.version(), 1);
    drop(running);
    let mut damaged = module(1).to_vec();
    damaged[0] ^= 1;
    fs::write(&artifact, damaged).expect("writes");
    let _running = Running::start(place.config(Some(hostile.address())));
    let mut peer = hostile.welcome(LINEAGE).await;
    assert_eq!(peer.next().await, ToControl::ArtifactWanted(artifact_hash(&module(1)).into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_lineage_replaces_and_no_lineage_goes_back() {
    let place = Place::new();
    let hostile = Hostile::new(&place).await;
    let other = Lineage(0x22);
    let running = Running::start(place.config(Some(hostile.address())));
    let mut peer = hostile.welcome(LINEAGE).await;
    peer.offer_good(&snapshot(50, 1)).await;
    peer.acked(50, [1]).await;
    drop(peer);
    let mut peer = hostile.welcome(other).await;
    peer.offer_good(&snapshot_of(other, 1, 2)).await;
    peer.acked(1, [2]).await;
    assert_eq!((running.generation(), running.version()), (1, 2));
    drop((peer, running));
    // The rule outlives the process.
    let running = Running::start(place.config(Some(hostile.address())));
    assert_eq!((running.generation(), running.version()), (1, 2));
    let mut peer = hostile.welcome(LINEAGE).await;
    peer.offer_good(&snapshot(50, 1)).await;
    peer.refused(RefuseReason::Older).await;
    peer.offer_good(&snapshot(51, 1)).await;
    peer.acked(51, []).await;
    assert_eq!((running.generation(), running.version()), (51, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_fails_refuses_or_is_reported() {
    let place = Place::new();
    let hostile = Hostile::new(&place).await;
    let running = Running::start(place.config(Some(hostile.address())));
    let mut peer = hostile.welcome(LINEAGE).await;
    let snapshots = place.data().join("snapshots");
    fs::remove_dir(&snapshots).expect("removed");
    peer.offer_good(&snapshot(1, 1)).await;
    peer.refused(RefuseReason::NotStored).await;
    assert_eq!(running.generation(), 0, "nothing was published");
    // The name that the file would get is taken by a folder: it serves, and the control plane is told.
    fs::create_dir_all(snapshots.join(format!("{:020}", 1)).join("in the way")).expect("made");
    peer.offer_good(&snapshot(1, 1)).await;
    let answer = peer.serve_artifacts(&modules([1])).await;
    assert!(matches!(answer, ToControl::Refuse { reason: RefuseReason::NotDurable, generation: 1, .. }), "{answer:?}");
    assert_eq!(running.version(), 1);
    fs::remove_dir_all(snapshots.join(format!("{:020}", 1))).expect("removed");
    peer.offer_good(&snapshot(1, 1)).await;
    peer.acked(1, []).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_whose_secrets_cannot_be_opened_is_refused() {
    let place = Place::new();
    let hostile = Hostile::new(&place).await;
    let _running = Running::start(place.config(Some(hostile.address())));
    let mut peer = hostile.welcome(LINEAGE).await;
    let state = DesiredState {
        lineage: LINEAGE,
        generation: 1,
        created_unix_ms: 0,
        platform_domain: "workers.localhost".into(),
        deployments: Vec::new(),
        steering: Default::default(),
    };
    peer.offer_good(&compile(&state, &Key::from_bytes([0; 32])).expect("compiles")).await;
    peer.refused(RefuseReason::EnvKey).await;
}

/// A node with compiled code: as V8 number `tag` would make it.
fn with_code(place: &Place, control: SocketAddr, tag: u32) -> Config {
    let compile: agent::Compile = Arc::new(|_| Some(b"made here".to_vec()));
    let code = Some(agent::CodeConfig { engine: code_engine(tag), compile });
    Config { code, ..place.config(Some(control)) }
}

fn code_engine(tag: u32) -> CodeEngine {
    CodeEngine { version: "1".to_owned(), tag }
}

async fn code_is(running: &Running, version: u32, expect: &[u8]) {
    let published = running.handle.plane().current().expect("published");
    until("the code is there", || published.code(artifact_hash(&module(version))).is_some_and(|code| code == expect))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compiled_code_comes_with_its_module_or_is_made_here() {
    let place = Place::new();
    // Of module 1 as the node's V8 has it, of module 2 as another, of module 3 none, of module 4 damaged.
    let artifacts = Artifacts::with(1..=4);
    for (version, tag) in [(1, 7), (2, 8), (4, 7)] {
        let hash = artifact_hash(&module(version));
        let mut envelope = pack(&code_engine(tag), hash, b"from control").expect("small");
        let last = envelope.len() - 1;
        envelope[last] ^= u8::from(version == 4);
        artifacts.modules.lock().expect("lock").insert(code_name(hash), envelope.into());
    }
    let server = place.server(LINEAGE, artifacts, "127.0.0.1:0").await;
    let running = Running::start(with_code(&place, server.local_addr(), 7));
    connected(&server).await;
    for (version, expect) in [(1, &b"from control"[..]), (2, b"made here"), (3, b"made here"), (4, b"made here")] {
        let acks = publish(&server, version.into(), version).await;
        assert_eq!((acks.acked.len(), running.version()), (1, version), "the module serves whatever its code is");
        if version == 1 {
            // It came before its module: the first start has it.
            let published = running.handle.plane().current().expect("published");
            assert_eq!(published.code(artifact_hash(&module(1))).expect("there"), expect);
        }
        code_is(&running, version, expect).await;
    }
    let (_, metrics) = get(running.handle.admin_addr(), "/metrics");
    for line in [
        "selvage_code_cache_made_total 3\n",
        "selvage_code_cache_refused_total{reason=\"other_engine\"} 1\n",
        "selvage_code_cache_refused_total{reason=\"damaged\"} 1\n",
        "selvage_code_cache_refused_total{reason=\"unmarked\"} 0\n",
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
    // Another V8 after an upgrade of the node: what is on disk is refused, and made anew.
    drop(running);
    let running = Running::start(with_code(&place, server.local_addr(), 9));
    code_is(&running, 4, b"made here").await;
}
