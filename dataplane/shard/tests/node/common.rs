//! A node in this process: real listeners on loopback, real Workers, a snapshot made here.

use base::id::{AccountId, DeploymentId};
use plane_abi::plane::{Plane, Published, artifact_hash, artifact_path, seal_env};
use plane_abi::pull::Pulls;
use plane_abi::seal::Key;
use plane_abi::{
    BindingKind, HostKind, Lineage, NewDeployment, NewRoute, PathKind, ServiceTarget, Snapshot, SnapshotWriter, Status,
};
use shard::metrics::Metrics;
use shard::{LogSink, Node, NodeConfig, WorkerLog};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use worker_api::Engine;

/// No single wait of a test is longer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A deployment of a test: subdomain, version, source.
#[derive(Clone, Copy)]
pub(crate) struct Deployed<'a> {
    pub(crate) subdomain: &'a str,
    pub(crate) version: u32,
    pub(crate) status: Status,
    pub(crate) source: &'a str,
    pub(crate) cpu_ms: u32,
    pub(crate) weight: u16,
    /// Names in `env`, and the subdomains of the Workers they are, with `#` and an entrypoint's name if need be.
    pub(crate) services: &'a [(&'a str, &'a str)],
    pub(crate) crons: &'a [&'a str],
    /// Variables in `env`.
    pub(crate) env: &'a [(&'a str, &'a str)],
}

/// An active first version.
pub(crate) fn active<'a>(subdomain: &'a str, source: &'a str) -> Deployed<'a> {
    let (status, services, crons) = (Status::Active, &[][..], &[][..]);
    Deployed { subdomain, version: 1, status, source, cpu_ms: 50, weight: 100, services, crons, env: &[] }
}

/// A service binding, `<subdomain>[#<entrypoint>][\n<props>]`; one of a subdomain that is not there leads nowhere.
fn service(deployments: &[Deployed<'_>], name: &str, to: &str) -> (BindingKind, String, String) {
    let (to, props) = to.split_once('\n').unwrap_or((to, ""));
    let (subdomain, entrypoint) = to.split_once('#').unwrap_or((to, ""));
    let place = deployments.iter().position(|other| other.subdomain == subdomain);
    let deployment = DeploymentId(place.map_or(u128::MAX, |place| place as u128 + 1));
    let target = ServiceTarget { deployment, entrypoint: entrypoint.to_owned(), props: props.to_owned() };
    (BindingKind::Service, name.to_owned(), target.to_string())
}

#[derive(Default)]
pub(crate) struct Logs(Mutex<Vec<WorkerLog>>);

impl Logs {
    pub(crate) fn texts(&self) -> Vec<String> {
        self.0.lock().expect("unpoisoned").iter().map(|record| record.text.clone()).collect()
    }
}

/// A record of this text makes the sink panic.
pub(crate) const PANIC: &str = "panic, please";

impl LogSink for Logs {
    fn log(&self, record: WorkerLog) {
        assert!(record.text != PANIC, "asked for by a test");
        self.0.lock().expect("unpoisoned").push(record);
    }
}

/// A node that drains when dropped.
pub(crate) struct TestNode {
    node: Option<Node>,
    pub(crate) plane: Plane,
    /// Whom the node asks for code that it has not, by later configurations.
    pub(crate) pulls: Option<Arc<Pulls>>,
    artifacts: tempfile::TempDir,
    generation: u64,
    pub(crate) address: SocketAddr,
    pub(crate) logs: Arc<Logs>,
    pub(crate) metrics: Metrics,
}

impl TestNode {
    /// One shard, with `config` changed by `change`.
    pub(crate) fn start(deployments: &[Deployed<'_>], change: impl FnOnce(&mut NodeConfig)) -> TestNode {
        let mut config = NodeConfig { shards: 1, pin: false, allow_private_fetch: true, ..NodeConfig::default() };
        change(&mut config);
        let plane = Plane::new();
        let logs = Arc::new(Logs::default());
        let engine = Engine::init().expect("the engine starts");
        let node = Node::start(config, engine, plane.clone(), logs.clone()).expect("the node starts");
        let mut node = TestNode {
            address: node.address(),
            metrics: node.metrics(),
            node: Some(node),
            plane,
            pulls: None,
            artifacts: tempfile::tempdir().expect("a folder"),
            generation: 0,
            logs,
        };
        if !deployments.is_empty() {
            node.publish(deployments);
        }
        node
    }

    /// Publishes the next generation.
    pub(crate) fn publish(&mut self, deployments: &[Deployed<'_>]) {
        self.generation += 1;
        let key = Key::from_bytes([7; 32]);
        let mut writer = SnapshotWriter::new(Lineage(1), self.generation, 0, key.id(), "workers.localhost");
        for (index, deployed) in deployments.iter().enumerate() {
            let artifact = artifact_hash(deployed.source.as_bytes());
            std::fs::write(artifact_path(self.artifacts.path(), artifact), deployed.source).expect("written");
            let env: Vec<_> = deployed.env.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
            writer.deployment(NewDeployment {
                version: deployed.version,
                status: deployed.status,
                artifact_bytes: deployed.source.len() as u64,
                name: deployed.subdomain.to_owned(),
                subdomain: deployed.subdomain.to_owned(),
                cpu_ms: deployed.cpu_ms,
                weight: deployed.weight,
                sealed_env: seal_env(&key, DeploymentId(index as u128 + 1), &env),
                bindings: deployed.services.iter().map(|(name, to)| service(deployments, name, to)).collect(),
                crons: deployed.crons.iter().map(|cron| (*cron).to_owned()).collect(),
                ..NewDeployment::new(DeploymentId(index as u128 + 1), AccountId(index as u128 + 7), artifact)
            });
            // Each is at http://localhost/<subdomain>/ too, with whatever port: a host that has an origin.
            writer.route(NewRoute {
                host_kind: HostKind::Exact,
                host: "localhost".to_owned(),
                path_kind: PathKind::Prefix,
                path: format!("/{}/", deployed.subdomain),
                deployment: DeploymentId(index as u128 + 1),
            });
        }
        let snapshot = Snapshot::from_vec(writer.finish().expect("a valid snapshot")).expect("it opens");
        let published = Published::new(Arc::new(snapshot), self.artifacts.path().to_owned(), Some(key));
        self.plane.publish(published.with_pulls(self.pulls.clone()));
    }

    /// Where a module lies.
    pub(crate) fn artifact(&self, source: &str) -> PathBuf {
        artifact_path(self.artifacts.path(), artifact_hash(source.as_bytes()))
    }

    /// A connection to the node.
    pub(crate) fn connect(&self) -> Client {
        Client::connect(self.address)
    }

    /// Sends `request` on a new connection; the text of everything that comes until the node closes.
    pub(crate) fn once(&self, request: &str) -> String {
        let mut client = self.connect();
        client.send(request.as_bytes());
        String::from_utf8_lossy(&client.rest()).into_owned()
    }

    /// Status of the one response to `request`.
    pub(crate) fn status(&self, request: &str) -> u16 {
        let mut client = self.connect();
        client.send(request.as_bytes());
        client.response().status
    }

    /// Begins to drain.
    pub(crate) fn drain(&self) {
        self.node.as_ref().expect("running").drain();
    }

    /// Waits for the end of a drain.
    pub(crate) fn join(&mut self) {
        self.node.take().expect("running").join();
    }
}

impl Drop for TestNode {
    fn drop(&mut self) {
        if let Some(node) = self.node.take() {
            node.drain();
            node.join();
        }
    }
}

/// A response as a client sees it.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.split("\r\n").skip(1);
        let mut fields = lines.filter_map(|line| line.split_once(": "));
        fields.find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("UTF-8")
    }
}

/// A client that reads responses strictly.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).expect("connected");
        stream.set_read_timeout(Some(PATIENCE)).expect("set");
        stream.set_write_timeout(Some(PATIENCE)).expect("set");
        stream.set_nodelay(true).expect("set");
        Client { stream, buffer: Vec::new() }
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        // The node may have refused and closed already: what it said is still to be read.
        let _ = self.stream.write_all(bytes);
    }

    /// Reads more; false at the end of the node's side.
    fn fill(&mut self) -> bool {
        let mut chunk = [0; 16 * 1024];
        match self.stream.read(&mut chunk) {
            Ok(0) => false,
            Ok(len) => {
                self.buffer.extend_from_slice(&chunk[..len]);
                true
            }
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => false,
            Err(error) => panic!("no answer: {error}; so far: {}", self.buffer.escape_ascii()),
        }
    }

    /// Everything until the node closes.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        while self.fill() {}
        std::mem::take(&mut self.buffer)
    }

    /// Whether the node has closed, and said nothing more.
    pub(crate) fn is_closed(&mut self) -> bool {
        self.rest().is_empty()
    }

    fn line(&mut self) -> String {
        loop {
            if let Some(at) = self.buffer.windows(2).position(|pair| pair == b"\r\n") {
                let line = String::from_utf8(self.buffer[..at].to_vec()).expect("UTF-8");
                self.buffer.drain(..at + 2);
                return line;
            }
            assert!(self.fill(), "the node closed within a line: {}", self.buffer.escape_ascii());
        }
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        while self.buffer.len() < len {
            assert!(self.fill(), "the node closed after {} of {len} bytes", self.buffer.len());
        }
        self.buffer.drain(..len).collect()
    }

    /// A response's head only.
    pub(crate) fn head(&mut self) -> Response {
        let mut head = self.line();
        let status =
            head.get(9..12).and_then(|code| code.parse().ok()).unwrap_or_else(|| panic!("status line: {head:?}"));
        loop {
            let line = self.line();
            if line.is_empty() {
                return Response { status, head, body: Vec::new() };
            }
            head.push_str("\r\n");
            head.push_str(&line);
        }
    }

    /// One chunk; none for the last one.
    pub(crate) fn chunk(&mut self) -> Option<Vec<u8>> {
        let line = self.line();
        let len = usize::from_str_radix(&line, 16).unwrap_or_else(|_| panic!("chunk size: {line:?}"));
        let data = self.bytes(len);
        assert_eq!(self.line(), "", "a chunk ends with CR LF");
        (len > 0).then_some(data)
    }

    /// A response with its body.
    pub(crate) fn response(&mut self) -> Response {
        let mut response = self.head();
        if response.header("transfer-encoding") == Some("chunked") {
            while let Some(chunk) = self.chunk() {
                response.body.extend_from_slice(&chunk);
            }
        } else if let Some(length) = response.header("content-length") {
            let length = length.parse().expect("a number");
            response.body = self.bytes(length);
        } else if response.status >= 200 && response.status != 204 && response.status != 304 {
            response.body = self.rest();
        }
        response
    }

    /// A GET of a path of a subdomain.
    pub(crate) fn get(&mut self, subdomain: &str, path: &str) -> Response {
        self.send(get(subdomain, path).as_bytes());
        self.response()
    }
}

/// A GET request without a body.
pub(crate) fn get(subdomain: &str, path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {subdomain}.workers.localhost\r\n\r\n")
}

/// Waits until `done`, or fails.
pub(crate) fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
