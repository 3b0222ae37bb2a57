//! The push server over real TLS on loopback: who gets in, what is sent, what breaks a connection.

use std::{
    collections::HashMap,
    io,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use base::id::ArtifactHash;
use bytes::Bytes;
use plane_abi::plane::artifact_hash;
use plane_abi::seal::Key;
use plane_abi::wire::{
    self, Decoder, DeltaFrom, Hello, LogLevel, LogRecord, Logs, RefuseReason, SnapshotBegin, Standing, ToControl,
    ToNode,
};
use plane_abi::{
    BaseId, HostKind, Lineage, NewDeployment, NewRoute, PathKind, RouteBase, Snapshot, SnapshotHeader, SnapshotWriter,
};
use push::{ArtifactFuture, ArtifactSource, Ca, NodeIdentity, PublishError, PushConfig, PushServer, Tried};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::{TlsConnector, client::TlsStream};

const LINEAGE: Lineage = Lineage(0xabcdef);
const SOON: Duration = Duration::from_secs(10);

#[derive(Default)]
struct Artifacts(Mutex<HashMap<ArtifactHash, Bytes>>);

impl ArtifactSource for Artifacts {
    fn fetch(&self, hash: ArtifactHash) -> ArtifactFuture<'_> {
        let found = self.0.lock().expect("lock").get(&hash).cloned();
        Box::pin(async move { Ok(found) })
    }
}

struct Setup {
    folder: tempfile::TempDir,
    ca: Ca,
    server: PushServer,
    artifacts: Arc<Artifacts>,
}

async fn setup(change: impl FnOnce(&mut PushConfig)) -> Setup {
    let folder = tempfile::tempdir().expect("folder");
    let ca = Ca::load_or_create(&folder.path().join("ca.key")).expect("authority");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let artifacts = Arc::new(Artifacts::default());
    let mut config = PushConfig::new(LINEAGE, vec![Key::from_bytes([1; 32])], artifacts.clone());
    change(&mut config);
    let server = PushServer::start(listener, &ca, config).expect("started");
    Setup { folder, ca, server, artifacts }
}

fn snapshot_of(lineage: Lineage, generation: u64, bytes: usize) -> Arc<[u8]> {
    let mut writer = SnapshotWriter::new(lineage, generation, 0, 0, "workers.localhost");
    // Incompressible in the sense that matters: one deployment per 100 KiB of sealed bytes.
    for index in 0..bytes.div_ceil(100 * 1024) {
        writer.deployment(NewDeployment {
            sealed_env: vec![index as u8; 100 * 1024],
            ..NewDeployment::new(base::id::DeploymentId(index as u128), base::id::AccountId(1), ArtifactHash([0; 32]))
        });
    }
    writer.finish().expect("valid").into()
}

fn snapshot(generation: u64) -> Arc<[u8]> {
    snapshot_of(LINEAGE, generation, 0)
}

struct Client {
    stream: TlsStream<TcpStream>,
    decoder: Decoder<ToNode>,
    /// As it was told last.
    fleet: Vec<String>,
    /// Snapshots that it has read, of which deltas may be.
    known: Vec<Vec<u8>>,
}

fn client_config(trust_pem: &str, identity: Option<&NodeIdentity>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(trust_pem.as_bytes()).expect("pem")).expect("root");
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots);
    let config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let certificate = CertificateDer::from_pem_slice(identity.certificate_pem.as_bytes()).expect("pem");
            let key = PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes()).expect("pem");
            builder.with_client_auth_cert(vec![certificate], key).expect("identity")
        }
    };
    Arc::new(config)
}

async fn dial(setup: &Setup, config: Arc<ClientConfig>) -> io::Result<Client> {
    let stream = TcpStream::connect(setup.server.local_addr()).await?;
    let name = ServerName::try_from(wire::CONTROL_NAME).expect("name");
    let stream = TlsConnector::from(config).connect(name, stream).await?;
    Ok(Client { stream, decoder: Decoder::new(), fleet: Vec::new(), known: Vec::new() })
}

fn hello(node: &str, generation: u64, checksum: u64) -> ToControl {
    ToControl::Hello(Hello {
        node: node.to_owned(),
        software: "test".to_owned(),
        format: plane_abi::FORMAT_VERSION,
        lineage: LINEAGE,
        generation,
        checksum,
        fleet: Vec::new(),
    })
}

impl Client {
    /// Connects as a node, says Hello and reads the Welcome.
    async fn node(setup: &Setup, name: &str, generation: u64, checksum: u64) -> Client {
        let identity = setup.ca.issue_node(name).expect("issued");
        let config = client_config(&identity.ca_pem, Some(&identity));
        let mut client = dial(setup, config).await.expect("connected");
        client.send(&hello(name, generation, checksum)).await;
        assert!(matches!(client.next().await, Some(ToNode::Welcome(welcome)) if welcome.lineage == LINEAGE));
        client
    }

    /// Reads until it was told of this fleet.
    async fn until_fleet(&mut self, members: &[&str]) {
        while self.fleet != members {
            let mut buffer = vec![0; 65536];
            let read = timeout(SOON, self.stream.read(&mut buffer)).await.expect("in time").expect("open");
            assert!(read > 0, "closed");
            self.decoder.push(&buffer[..read]);
            while let Some(message) = self.decoder.poll().expect("a valid frame") {
                if let ToNode::Fleet(members) = message {
                    self.fleet = members;
                }
            }
        }
    }

    async fn send(&mut self, message: &ToControl) {
        let mut frame = Vec::new();
        wire::encode(message, &mut frame).expect("encodes");
        self.raw(&frame).await;
    }

    async fn raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("written");
        self.stream.flush().await.expect("flushed");
    }

    /// The next message; none when the server has closed. Pings are passed over, and what the fleet is is kept.
    async fn next(&mut self) -> Option<ToNode> {
        loop {
            match self.decoder.poll().expect("a valid frame") {
                Some(ToNode::Ping(_)) => continue,
                Some(ToNode::Fleet(members)) => {
                    self.fleet = members;
                    continue;
                }
                Some(message) => return Some(message),
                None => {}
            }
            let mut buffer = vec![0; 65536];
            match timeout(SOON, self.stream.read(&mut buffer)).await.expect("in time") {
                Ok(0) | Err(_) => return None,
                Ok(read) => self.decoder.push(&buffer[..read]),
            }
        }
    }

    /// Reads one snapshot to its end, beginning anew where the server does; gives how many began and the bytes.
    async fn snapshot(&mut self) -> (usize, Vec<u8>) {
        let (mut begun, mut bytes, mut delta) = (0, Vec::new(), None);
        loop {
            match self.next().await.expect("open") {
                ToNode::SnapshotBegin(begin) => {
                    begun += 1;
                    bytes.clear();
                    delta = begin.delta;
                }
                ToNode::SnapshotPart(part) => bytes.extend_from_slice(&part.0),
                ToNode::SnapshotEnd { generation } => match self.whole(&bytes, delta) {
                    Some(whole) => {
                        self.known.push(whole.clone());
                        return (begun, whole);
                    }
                    None => self.send(&ToControl::SnapshotWanted { generation }).await,
                },
                other => panic!("{other:?} within a snapshot"),
            }
        }
    }

    /// What came, or what it makes of a snapshot that is known.
    fn whole(&self, bytes: &[u8], delta: Option<DeltaFrom>) -> Option<Vec<u8>> {
        let Some(from) = delta else { return Some(bytes.to_vec()) };
        let checksum = |known: &&Vec<u8>| SnapshotHeader::read(known).expect("whole").0.checksum;
        let old = self.known.iter().find(|known| checksum(known) == from.checksum).map(Vec::as_slice);
        let old = if from.generation == 0 { Some(&[][..]) } else { old };
        Some(plane_abi::delta::apply(old?, bytes, from.bytes as usize).expect("a delta of that"))
    }

    /// The next word on what to do with requests.
    async fn standing(&mut self) -> Standing {
        loop {
            if let Some(ToNode::Standing(standing)) = self.next().await {
                return standing;
            }
        }
    }

    /// Reads one snapshot's messages as they are: all of their bytes, and what the first said.
    async fn wire_bytes(&mut self) -> (usize, SnapshotBegin) {
        let (mut bytes, mut first) = (0, None);
        loop {
            let message = self.next().await.expect("open");
            let mut frame = Vec::new();
            wire::encode(&message, &mut frame).expect("encodes");
            bytes += frame.len();
            match message {
                ToNode::SnapshotBegin(begin) => first = Some(begin),
                ToNode::SnapshotPart(_) => {}
                ToNode::SnapshotEnd { .. } => return (bytes, first.expect("begun")),
                other => panic!("{other:?} within a snapshot"),
            }
        }
    }

    async fn ack(&mut self, generation: u64) {
        self.send(&ToControl::Ack { lineage: LINEAGE, generation, artifacts_missing: 0 }).await;
    }

    async fn closed(&mut self) -> bool {
        loop {
            match self.next().await {
                None => return true,
                Some(ToNode::SnapshotBegin(_) | ToNode::SnapshotPart(_) | ToNode::SnapshotEnd { .. }) => {}
                Some(_) => return false,
            }
        }
    }
}

async fn until(what: &str, check: impl Fn() -> bool) {
    for _ in 0..1000 {
        if check() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not in time: {what}");
}

/// A thousand deployments with ten hosts each; the first `changed` hosts lead elsewhere.
fn with_routes(generation: u64, base: Option<&Arc<RouteBase>>, changed: u32) -> SnapshotWriter {
    let mut writer = SnapshotWriter::new(LINEAGE, generation, generation, 0, "workers.localhost");
    for index in 0..1000u32 {
        writer.deployment(NewDeployment {
            artifact_bytes: 7,
            name: format!("worker-{index}"),
            subdomain: format!("worker-{index}"),
            ..NewDeployment::new(
                base::id::DeploymentId(u128::from(index) << 80),
                base::id::AccountId(1),
                ArtifactHash([index as u8; 32]),
            )
        });
    }
    for host in 0..10_000u32 {
        let to = (host + u32::from(host < changed)) % 1000;
        writer.route(NewRoute {
            host_kind: HostKind::Exact,
            host: format!("host-{host}.example.com"),
            path_kind: PathKind::Prefix,
            path: "/".to_owned(),
            deployment: base::id::DeploymentId(u128::from(to) << 80),
        });
    }
    writer.over(base.cloned())
}

#[tokio::test]
async fn a_change_of_one_route_is_less_than_a_kilobyte_on_the_wire() {
    let setup = setup(|_| {}).await;
    let base = with_routes(1, None, 0).base().expect("valid");
    let base = Arc::new(RouteBase::from_vec(base).expect("opens"));
    let publish = |generation, changed| {
        let bytes: Arc<[u8]> = with_routes(generation, Some(&base), changed).finish().expect("valid").into();
        setup.server.publish_over(generation, bytes.clone(), Some(base.clone())).expect("published");
        bytes
    };
    let first = publish(1, 0);
    assert!(matches!(
        setup.server.publish(2, with_routes(2, Some(&base), 0).finish().expect("valid").into()),
        Err(PublishError::Base)
    ));
    let mut node = Client::node(&setup, "a", 0, 0).await;
    assert_eq!(node.snapshot().await.1, *first);
    // The base is had for the asking, in order and whole; another one is not.
    node.send(&ToControl::BaseWanted(BaseId { checksum: 1, ..base.id() })).await;
    node.send(&ToControl::BaseWanted(base.id())).await;
    assert_eq!(node.next().await, Some(ToNode::BaseMissing(BaseId { checksum: 1, ..base.id() })));
    let mut got = Vec::new();
    while got.len() < base.bytes().len() {
        match node.next().await {
            Some(ToNode::BasePart(part)) => {
                assert_eq!((part.id, part.offset), (base.id(), got.len() as u64));
                got.extend_from_slice(&part.bytes.0);
            }
            other => panic!("{other:?} where a part of the base was due"),
        }
    }
    assert_eq!(got, base.bytes());
    node.ack(1).await;
    until("acknowledged", || setup.server.nodes()[0].generation == 1).await;
    for (generation, changed) in [(2, 1), (3, 11)] {
        publish(generation, changed);
        let (bytes, begin) = node.wire_bytes().await;
        assert_eq!(begin.delta.map(|from| from.generation), Some(generation - 1));
        println!("{bytes} bytes for {} changed routes", if generation == 2 { 1 } else { 10 });
        assert!(bytes <= 1024, "{bytes} bytes");
        node.ack(generation).await;
        until("acknowledged", || setup.server.nodes()[0].generation == generation).await;
    }
    // Who has something that we do not know gets all of it, compressed as it is small; so does who cannot use a delta, as it is.
    let mut other = Client::node(&setup, "b", 2, 12345).await;
    assert_eq!(other.wire_bytes().await.1.delta.map(|from| from.generation), Some(0));
    let latest = publish(4, 12);
    assert_eq!(node.snapshot().await.1, *latest, "asked for: this client has kept none of the deltas' results");
}

#[tokio::test]
async fn every_node_is_told_of_the_fleet_and_of_each_change_and_a_restart_keeps_it() {
    let setup = setup(|_| {}).await;
    let mut one = Client::node(&setup, "one", 0, 0).await;
    one.until_fleet(&["one"]).await;
    let mut two = Client::node(&setup, "two", 0, 0).await;
    two.until_fleet(&["one", "two"]).await;
    one.until_fleet(&["one", "two"]).await;
    // What a node remembers from before this server's start counts: those that it names are given time to come.
    let identity = setup.ca.issue_node("three").expect("issued");
    let mut three = dial(&setup, client_config(&identity.ca_pem, Some(&identity))).await.expect("connected");
    let ToControl::Hello(hello) = hello("three", 0, 0) else { unreachable!("it is one") };
    let fleet = vec!["elsewhere".to_owned(), "three".to_owned()];
    three.send(&ToControl::Hello(Hello { fleet, ..hello })).await;
    three.until_fleet(&["elsewhere", "one", "three", "two"]).await;
    two.until_fleet(&["elsewhere", "one", "three", "two"]).await;
    setup.server.revoke("two");
    one.until_fleet(&["elsewhere", "one", "three"]).await;
}

#[tokio::test]
async fn only_nodes_of_our_authority_get_in() {
    let setup = setup(|_| {}).await;
    setup.server.publish(1, snapshot(1)).expect("published");
    let other = Ca::load_or_create(&setup.folder.path().join("other.key")).expect("authority");
    let stranger = other.issue_node("node-1").expect("issued");
    // TLS 1.3: the client learns that it was refused from its first read.
    for config in
        [client_config(setup.ca.certificate_pem(), Some(&stranger)), client_config(setup.ca.certificate_pem(), None)]
    {
        if let Ok(mut client) = dial(&setup, config).await {
            let mut frame = Vec::new();
            wire::encode(&hello("node-1", 0, 0), &mut frame).expect("encodes");
            let _ = client.stream.write_all(&frame).await;
            assert!(client.next().await.is_none(), "a stranger was answered");
        }
    }
    let distrusting = client_config(other.certificate_pem(), None);
    assert!(dial(&setup, distrusting).await.is_err(), "the node must not trust another authority's server");
    assert!(setup.server.nodes().is_empty());
    let mut node = Client::node(&setup, "node-1", 0, 0).await;
    assert_eq!(node.snapshot().await.1, *snapshot(1));
}

#[tokio::test]
async fn a_node_speaks_for_itself_only() {
    let setup = setup(|config| _ = config.revoked.insert("gone".to_owned())).await;
    let identity = setup.ca.issue_node("node-1").expect("issued");
    let mut client = dial(&setup, client_config(&identity.ca_pem, Some(&identity))).await.expect("connected");
    client.send(&hello("node-2", 0, 0)).await;
    assert!(client.closed().await);
    let revoked = setup.ca.issue_node("gone").expect("issued");
    let mut client = dial(&setup, client_config(&revoked.ca_pem, Some(&revoked))).await.expect("connected");
    let mut frame = Vec::new();
    wire::encode(&hello("gone", 0, 0), &mut frame).expect("encodes");
    let _ = client.stream.write_all(&frame).await;
    assert!(client.closed().await);
    let mut live = Client::node(&setup, "node-3", 0, 0).await;
    setup.server.revoke("node-3");
    assert!(live.closed().await, "revoked while connected");
    until("all gone", || setup.server.nodes().iter().all(|node| !node.connected)).await;
}

#[tokio::test]
async fn publish_ack_refuse_and_wait() {
    let setup = setup(|_| {}).await;
    let server = &setup.server;
    let none = server.wait_acked(1, Duration::ZERO).await;
    assert!(none.all_acked(), "nobody to wait for");
    let (mut a, mut b) = (Client::node(&setup, "a", 0, 0).await, Client::node(&setup, "b", 0, 0).await);
    server.publish(1, snapshot(1)).expect("published");
    assert_eq!((a.snapshot().await.1, b.snapshot().await.1), (snapshot(1).to_vec(), snapshot(1).to_vec()));
    a.ack(1).await;
    let part = server.wait_acked(1, Duration::from_millis(300)).await;
    assert_eq!((part.acked, part.pending), (vec!["a".to_owned()], vec!["b".to_owned()]));
    let (reason, detail) = (RefuseReason::Corrupt, "x".repeat(5000));
    b.send(&ToControl::Refuse { lineage: LINEAGE, generation: 1, reason, detail }).await;
    let whole = server.wait_acked(1, SOON).await;
    assert_eq!((whole.acked.len(), whole.refused.len(), whole.pending.len()), (1, 1, 0));
    assert_eq!((&*whole.refused[0].0, whole.refused[0].1.reason), ("b", RefuseReason::Corrupt));
    assert!(whole.refused[0].1.detail.len() <= 1024);
    let node = server.nodes().into_iter().find(|node| node.name == "a").expect("there");
    assert!(node.connected && node.generation == 1 && node.address.ip().is_loopback());
}

#[tokio::test]
async fn one_node_tries_a_snapshot_before_the_others_and_is_not_sent_it_again() {
    let setup = setup(|_| {}).await;
    let server = &setup.server;
    let mut canary = Client::node(&setup, "canary", 0, 0).await;
    let mut other = Client::node(&setup, "another", 0, 0).await;
    assert_eq!(server.canaries(), ["canary", "another"]);
    let quiet = Duration::from_millis(300);

    let (tried, _) = tokio::join!(server.try_on("canary", 1, snapshot(1), None, SOON), async {
        assert_eq!(canary.snapshot().await.1, snapshot(1).to_vec());
        canary.ack(1).await;
    });
    assert_eq!(tried.expect("a snapshot"), Tried::Serves);
    assert!(tokio::time::timeout(quiet, other.snapshot()).await.is_err(), "nobody else has it");
    server.publish(1, snapshot(1)).expect("published");
    assert_eq!(other.snapshot().await.1, snapshot(1).to_vec());
    other.ack(1).await;
    assert!(server.wait_acked(1, SOON).await.all_acked());
    assert!(tokio::time::timeout(quiet, canary.snapshot()).await.is_err(), "it has it");

    // What it refuses nobody else ever sees, not even who comes meanwhile.
    let (tried, _) = tokio::join!(server.try_on("canary", 2, snapshot(2), None, SOON), async {
        canary.snapshot().await;
        let (reason, detail) = (RefuseReason::Corrupt, "no good".to_owned());
        canary.send(&ToControl::Refuse { lineage: LINEAGE, generation: 2, reason, detail }).await;
    });
    assert!(matches!(tried, Ok(Tried::Refused(refusal)) if refusal.detail == "no good"));
    assert_eq!(server.canaries(), ["another"], "who refuses is not asked first again");
    let mut late = Client::node(&setup, "late", 0, 0).await;
    assert_eq!(late.snapshot().await.1, snapshot(1).to_vec());
    assert_eq!(server.published_generation(), 1);
    server.publish(3, snapshot(3)).expect("published");
    for client in [&mut canary, &mut other, &mut late] {
        assert_eq!(client.snapshot().await.1, snapshot(3).to_vec());
    }
    let silent = server.try_on("nobody", 4, snapshot(4), None, SOON).await;
    assert_eq!(silent.expect("a snapshot"), Tried::Silent, "who is not there is not waited for");
}

#[tokio::test]
async fn what_a_node_could_not_store_is_sent_again_and_what_it_does_not_want_is_not() {
    let setup = setup(|config| config.heartbeat = Duration::from_millis(100)).await;
    let server = &setup.server;
    let (mut full, mut picky) = (Client::node(&setup, "full", 0, 0).await, Client::node(&setup, "picky", 0, 0).await);
    server.publish(1, snapshot(1)).expect("published");
    let refuse = |reason| ToControl::Refuse { lineage: LINEAGE, generation: 1, reason, detail: "no".to_owned() };
    let (first, other) = tokio::join!(full.snapshot(), picky.snapshot());
    full.send(&refuse(RefuseReason::NotStored)).await;
    picky.send(&refuse(RefuseReason::Corrupt)).await;
    // Fifteen heartbeats and some more; who says nothing meanwhile is cut off.
    let comes = async |client: &mut Client| {
        let mut whole = 0;
        for _ in 0..25 {
            client.send(&ToControl::Pong(0)).await;
            let quiet = tokio::time::sleep(Duration::from_millis(100));
            let listen = async {
                loop {
                    whole += usize::from(matches!(client.next().await, Some(ToNode::SnapshotEnd { .. })));
                }
            };
            tokio::select! { () = quiet => {}, () = listen => {} }
        }
        whole
    };
    let (again, never) = tokio::join!(comes(&mut full), comes(&mut picky));
    assert_eq!((again, never), (1, 0));
    assert_eq!((first.1, other.1), (snapshot(1).to_vec(), snapshot(1).to_vec()));
    full.ack(1).await;
    until("it has it", || server.nodes().iter().any(|node| node.name == "full" && node.refusal.is_none())).await;
}

#[tokio::test]
async fn nodes_are_told_what_to_do_with_requests_and_when_that_changes() {
    let setup = setup(|_| {}).await;
    let server = &setup.server;
    server.set_standings(HashMap::from([("a".to_owned(), Standing::Draining)]));
    let (mut a, mut b) = (Client::node(&setup, "a", 0, 0).await, Client::node(&setup, "b", 0, 0).await);
    assert_eq!(a.standing().await, Standing::Draining);
    b.until_fleet(&["b"]).await;
    server.set_standings(HashMap::from([("b".to_owned(), Standing::Cordoned)]));
    assert_eq!((a.standing().await, b.standing().await), (Standing::Serving, Standing::Cordoned));
    a.until_fleet(&["a"]).await;
}

#[tokio::test]
async fn what_is_published_only_goes_up() {
    let setup = setup(|_| {}).await;
    let server = &setup.server;
    server.publish(5, snapshot(5)).expect("published");
    server.publish(5, snapshot(5)).expect("the same again is nothing");
    assert!(matches!(server.publish(4, snapshot(4)), Err(PublishError::NotNewer { published: 5 })));
    assert!(matches!(server.publish(5, snapshot_of(LINEAGE, 5, 1)), Err(PublishError::NotNewer { .. })));
    assert!(matches!(server.publish(6, snapshot(7)), Err(PublishError::Mismatch { .. })));
    assert!(matches!(server.publish(6, snapshot_of(Lineage(1), 6, 0)), Err(PublishError::Mismatch { .. })));
    assert!(matches!(server.publish(6, vec![0; 500].into()), Err(PublishError::Snapshot(_))));
    assert_eq!(server.published_generation(), 5);
}

#[tokio::test]
async fn garbage_ends_that_connection_and_no_other() {
    let setup = setup(|_| {}).await;
    setup.server.publish(1, snapshot(1)).expect("published");
    let mut good = Client::node(&setup, "good", 0, 0).await;
    let second_hello = {
        let mut frame = Vec::new();
        wire::encode(&hello("bad", 0, 0), &mut frame).expect("encodes");
        frame
    };
    let too_many_logs = {
        let record = LogRecord {
            deployment: 1,
            version: 1,
            level: LogLevel::Info,
            text: String::new(),
            unix_ms: 0,
            request: None,
        };
        let mut frame = Vec::new();
        let logs = Logs { records: vec![record; 257], dropped: 0 };
        wire::encode(&ToControl::Logs(logs), &mut frame).expect("encodes");
        frame
    };
    let mut unpublished = Vec::new();
    let ack = ToControl::Ack { lineage: LINEAGE, generation: 99, artifacts_missing: 0 };
    wire::encode(&ack, &mut unpublished).expect("encodes");
    let mut foreign = Vec::new();
    let ack = ToControl::Ack { lineage: Lineage(1), generation: 1, artifacts_missing: 0 };
    wire::encode(&ack, &mut foreign).expect("encodes");
    let cases: [&[u8]; 7] = [
        &[0xff; 64],
        &[0, 0, 0, 0],
        &[3, 0, 0, 0, wire::PROTOCOL_VERSION, 250, 250],
        &second_hello,
        &too_many_logs,
        &unpublished,
        &foreign,
    ];
    for (index, bytes) in cases.into_iter().enumerate() {
        let mut bad = Client::node(&setup, "bad", 0, 0).await;
        bad.raw(bytes).await;
        assert!(bad.closed().await, "case {index}");
    }
    assert_eq!(good.snapshot().await.1, *snapshot(1));
    good.ack(1).await;
    until("good has acknowledged", || {
        setup.server.nodes().iter().any(|node| node.name == "good" && node.generation == 1)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_node_skips_generations_and_holds_nobody_up() {
    let setup = setup(|_| {}).await;
    const BYTES: usize = 24 * 1024 * 1024;
    let mut slow = Client::node(&setup, "slow", 0, 0).await;
    let mut fast = Client::node(&setup, "fast", 0, 0).await;
    setup.server.publish(1, snapshot_of(LINEAGE, 1, BYTES)).expect("published");
    // The slow node reads nothing while five generations go by.
    for generation in 2..=5 {
        let bytes = snapshot_of(LINEAGE, generation, BYTES);
        setup.server.publish(generation, bytes).expect("published");
        while Snapshot::from_vec(fast.snapshot().await.1).expect("whole").generation() < generation {}
        fast.ack(generation).await;
    }
    let acks = setup.server.wait_acked(5, Duration::from_millis(500)).await;
    assert_eq!((acks.acked, acks.pending), (vec!["fast".to_owned()], vec!["slow".to_owned()]));
    let (begun, bytes) = slow.snapshot().await;
    assert_eq!(Snapshot::from_vec(bytes).expect("whole").generation(), 5);
    assert!(begun <= 2, "{begun} snapshots were begun for a node that could only take one");
}

#[tokio::test]
async fn a_node_that_reconnects_is_sent_only_what_it_lacks() {
    let setup = setup(|_| {}).await;
    let bytes = snapshot(3);
    setup.server.publish(3, bytes.clone()).expect("published");
    let checksum = Snapshot::from_vec(bytes.to_vec()).expect("opens").checksum();
    let mut first = Client::node(&setup, "a", 3, checksum).await;
    assert!(setup.server.wait_acked(3, SOON).await.all_acked(), "it has it already");
    // A second connection of the same name: the first is cut off.
    let mut second = Client::node(&setup, "a", 2, 0).await;
    assert!(first.closed().await);
    assert_eq!(second.snapshot().await.1, *bytes);
    drop(second);
    until("it is away", || setup.server.nodes().iter().all(|node| !node.connected)).await;
    // Ahead of the store, or with another snapshot of that generation.
    for (generation, checksum) in [(9, 0), (3, checksum ^ 1)] {
        let _ahead = Client::node(&setup, "a", generation, checksum).await;
        let acks = setup.server.wait_acked(3, SOON).await;
        assert_eq!(acks.refused[0].1.reason, RefuseReason::Older);
    }
    assert_eq!(setup.server.highest_generation_seen(), 3);
    let _ahead = Client::node(&setup, "b", 9, 0).await;
    until("b is known", || setup.server.highest_generation_seen() == 9).await;
}

#[tokio::test]
async fn artifacts_come_in_parts_or_are_missing() {
    let setup = setup(|_| {}).await;
    let module = Bytes::from(vec![7; 600_000]);
    let hash = artifact_hash(&module);
    setup.artifacts.0.lock().expect("lock").insert(hash, module.clone());
    let mut node = Client::node(&setup, "a", 0, 0).await;
    node.send(&ToControl::ArtifactWanted(hash.into())).await;
    let mut got = Vec::new();
    while got.len() < module.len() {
        match node.next().await {
            Some(ToNode::ArtifactPart(part)) => {
                assert_eq!((part.offset, part.total_bytes), (got.len() as u64, 600_000));
                got.extend_from_slice(&part.bytes.0);
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(got, module);
    node.send(&ToControl::ArtifactWanted(wire::Hash([0; 32]))).await;
    assert_eq!(node.next().await, Some(ToNode::ArtifactMissing(wire::Hash([0; 32]))));
}

#[tokio::test]
async fn logs_reach_who_listens_with_their_node_and_losses() {
    let setup = setup(|_| {}).await;
    let mut logs = setup.server.logs();
    let mut node = Client::node(&setup, "a", 0, 0).await;
    let record = |text: &str| LogRecord {
        deployment: 7,
        version: 2,
        level: LogLevel::Warn,
        text: text.to_owned(),
        unix_ms: 5,
        request: Some(1),
    };
    node.send(&ToControl::Logs(Logs { records: vec![record("one"), record("two")], dropped: 3 })).await;
    let (one, two) = (logs.recv().await.expect("one"), logs.recv().await.expect("two"));
    assert_eq!((&*one.node, &one.record, one.dropped), ("a", &record("one"), 3));
    assert_eq!((&two.record, two.dropped), (&record("two"), 0));
}

#[tokio::test]
async fn a_silent_node_is_cut_off() {
    let setup = setup(|config| config.heartbeat = Duration::from_millis(100)).await;
    let mut node = Client::node(&setup, "a", 0, 0).await;
    assert!(node.closed().await);
    until("it is away", || setup.server.nodes().iter().all(|node| !node.connected)).await;
}

#[test]
fn identity_files_are_what_a_node_reads() {
    let folder = tempfile::tempdir().expect("folder");
    let ca = Ca::load_or_create(&folder.path().join("ca.key")).expect("authority");
    let out = folder.path().join("identity");
    ca.issue_node("node-1").expect("issued").write(&out).expect("written");
    let read = |file: &str| std::fs::read(Path::new(&out).join(file)).expect("there");
    assert!(CertificateDer::from_pem_slice(&read("ca.pem")).is_ok());
    assert!(CertificateDer::from_pem_slice(&read("node.pem")).is_ok());
    assert!(PrivateKeyDer::from_pem_slice(&read("node.key")).is_ok());
}
