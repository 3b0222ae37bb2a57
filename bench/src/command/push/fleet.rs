//! Simulated nodes: connections that speak the push protocol as a node's agent does, many in one process.
//!
//! Each has an identity and a connection of its own over mutual TLS, takes every snapshot to its end (delta, checksum, every
//! record), fetches the modules and the compiled code that it has not, checks modules against their SHA-256, and acknowledges.
//! What they do not do: serve requests, or keep anything on disk. They have one memory in common, as if they shared a disk: of
//! equal bytes there is one copy, which is checked once, and one of them fetches a base of routes for all.
//!
//! *Output:* `ready` when every node has acknowledged something, then for each generation that all have acknowledged, or one
//! after it, a line `acked GENERATION BYTES-MEDIAN BYTES-MAX NS…`: what nodes received for it, TLS and all, and when each
//! acknowledged it by the monotonic clock.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use base::id::ArtifactHash;
use clap::Args;
use plane_abi::code::code_name;
use plane_abi::plane::artifact_hash;
use plane_abi::wire::{self, Decoder, Hello, Load, SnapshotBegin, ToControl, ToNode};
use plane_abi::{BaseId, Lineage, RouteBase, Snapshot, SnapshotHeader, Status, delta};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio_rustls::TlsConnector;

/// Connections that are being opened at a time.
const CONNECTING_MAX: usize = 32;
/// Snapshots that a delta may be from: as many as a node keeps on disk, and what serves.
const SERVED_MAX: usize = 4;
/// Nodes of one process.
const NODES_MAX: usize = 10_000;

/// Simulated nodes, for `push`
#[derive(Args, Debug)]
pub struct Arguments {
    /// Where the control plane waits for nodes
    #[arg(long)]
    control: String,
    /// A folder with an identity of each node
    #[arg(long)]
    identities: PathBuf,
}

/// When, by the clock that all processes of the machine share.
pub(super) fn monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Runs them until one fails or the process is told to stop.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut identities: Vec<PathBuf> =
            std::fs::read_dir(&arguments.identities)?.map(|entry| Ok(entry?.path())).collect::<anyhow::Result<_>>()?;
        identities.sort();
        ensure!(!identities.is_empty() && identities.len() <= NODES_MAX, "{} identities", identities.len());
        let disk = Arc::new(Disk::default());
        let (acks, acked) = mpsc::unbounded_channel();
        let gate = Arc::new(tokio::sync::Semaphore::new(CONNECTING_MAX));
        let mut nodes = tokio::task::JoinSet::new();
        for (number, identity) in identities.iter().enumerate() {
            let connecting = connect(&arguments.control, identity)?;
            let (disk, acks, gate) = (Arc::clone(&disk), acks.clone(), Arc::clone(&gate));
            let name = identity.file_name().and_then(|name| name.to_str()).context("a name")?.to_owned();
            nodes.spawn(async move {
                let permit = gate.acquire_owned().await?;
                let (stream, received) = connecting.await?;
                drop(permit);
                Node::new(number, disk, acks, received).run(stream, name).await
            });
        }
        tokio::select! {
            ended = nodes.join_next() => match ended {
                Some(Ok(Err(error))) => Err(error).context("a node's connection ended"),
                _ => bail!("a node ended"),
            },
            told = tell(acked, identities.len()) => told,
        }
    })
}

/// A stream that counts what comes in.
struct Counted {
    stream: TcpStream,
    received: Arc<AtomicU64>,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        self.received.fetch_add((buffer.filled().len() - before) as u64, Ordering::Relaxed);
        polled
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

type Stream = tokio_rustls::client::TlsStream<Counted>;

/// Opens a node's connection, with its certificate.
fn connect(
    control: &str,
    identity: &Path,
) -> anyhow::Result<impl Future<Output = anyhow::Result<(Stream, Arc<AtomicU64>)>> + use<>> {
    let read = |file: &str| std::fs::read(identity.join(file)).with_context(|| format!("{file} of {identity:?}"));
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&read("ca.pem")?)?)?;
    let certificate = CertificateDer::from_pem_slice(&read("node.pem")?)?;
    let key = PrivateKeyDer::from_pem_slice(&read("node.key")?)?;
    let tls = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![certificate], key)?;
    let control = control.to_owned();
    Ok(async move {
        let stream = TcpStream::connect(&control).await?;
        stream.set_nodelay(true)?;
        let received = Arc::new(AtomicU64::new(0));
        let stream = Counted { stream, received: Arc::clone(&received) };
        let name = ServerName::try_from(wire::CONTROL_NAME)?;
        Ok((TlsConnector::from(Arc::new(tls)).connect(name, stream).await?, received))
    })
}

/// What all nodes have in common.
#[derive(Default)]
struct Disk {
    /// Snapshots that were made and checked, by their checksum and that of the bytes that came.
    snapshots: Mutex<HashMap<(u64, u64), Arc<Kept>>>,
    bases: Mutex<Bases>,
    /// Counts bases.
    fetched: watch::Sender<u64>,
}

#[derive(Default)]
struct Bases {
    claimed: HashSet<BaseId>,
    whole: HashMap<BaseId, Arc<RouteBase>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A snapshot that was checked.
struct Kept {
    header: SnapshotHeader,
    bytes: Vec<u8>,
    artifacts: Vec<ArtifactHash>,
}

/// What a node has to say.
struct Acked {
    node: usize,
    generation: u64,
    at_ns: u64,
    bytes: u64,
}

/// A snapshot on its way.
struct Incoming {
    begin: SnapshotBegin,
    parts: Vec<u8>,
}

struct Node {
    number: usize,
    disk: Arc<Disk>,
    acks: mpsc::UnboundedSender<Acked>,
    received: Arc<AtomicU64>,
    /// What had been received when it had nothing to do.
    idle: u64,
    lineage: Lineage,
    /// What it serves, and what it served before, the newest last: what a delta may be from.
    served: Vec<Arc<Kept>>,
    incoming: Option<Incoming>,
    /// Bytes of a base that it fetches for all.
    base: Option<(BaseId, Vec<u8>)>,
    artifacts: HashSet<ArtifactHash>,
    /// By what they were asked for: the module, unless it is code; and what came.
    fetching: HashMap<ArtifactHash, (Option<ArtifactHash>, Vec<u8>)>,
    candidate: Option<Arc<Kept>>,
    out: Vec<u8>,
}

impl Node {
    fn new(number: usize, disk: Arc<Disk>, acks: mpsc::UnboundedSender<Acked>, received: Arc<AtomicU64>) -> Node {
        Node {
            number,
            disk,
            acks,
            received,
            idle: 0,
            lineage: Lineage::default(),
            served: Vec::new(),
            incoming: None,
            base: None,
            artifacts: HashSet::new(),
            fetching: HashMap::new(),
            candidate: None,
            out: Vec::new(),
        }
    }

    async fn run(mut self, mut stream: Stream, name: String) -> anyhow::Result<()> {
        let hello = Hello {
            node: name,
            software: "simulated".to_owned(),
            format: plane_abi::FORMAT_VERSION,
            lineage: Lineage::default(),
            generation: 0,
            checksum: 0,
            fleet: Vec::new(),
        };
        self.say(&ToControl::Hello(hello))?;
        let mut decoder = Decoder::new();
        let mut buffer = vec![0; 16 * 1024];
        let mut bases = self.disk.fetched.subscribe();
        let mut tick = tokio::time::interval(Duration::from_secs(2));
        loop {
            while let Some(message) = decoder.poll()? {
                self.handle(message)?;
            }
            if !self.out.is_empty() {
                stream.write_all(&self.out).await?;
                stream.flush().await?;
                self.out.clear();
            }
            tokio::select! {
                read = stream.read(&mut buffer) => {
                    let read = read?;
                    ensure!(read > 0, "the control plane closed the connection");
                    decoder.push(&buffer[..read]);
                }
                _ = bases.changed() => self.look()?,
                _ = tick.tick() => {
                    let generation = self.served.last().map_or(0, |kept| kept.header.generation);
                    self.say(&ToControl::Heartbeat(Load { generation, shards: 1, ..Load::default() }))?;
                }
            }
        }
    }

    fn say(&mut self, message: &ToControl) -> anyhow::Result<()> {
        Ok(wire::encode(message, &mut self.out)?)
    }

    fn handle(&mut self, message: ToNode) -> anyhow::Result<()> {
        match message {
            ToNode::Welcome(welcome) => self.lineage = welcome.lineage,
            ToNode::Ping(number) => self.say(&ToControl::Pong(number))?,
            ToNode::SnapshotBegin(begin) => {
                ensure!(begin.lineage == self.lineage, "of another lineage");
                (self.incoming, self.candidate) = (Some(Incoming { begin, parts: Vec::new() }), None);
                return Ok(());
            }
            ToNode::SnapshotPart(part) => {
                if let Some(incoming) = &mut self.incoming {
                    incoming.parts.extend_from_slice(&part.0);
                }
                return Ok(());
            }
            ToNode::SnapshotEnd { .. } => return self.look(),
            ToNode::BasePart(part) => {
                let Some((id, bytes)) = self.base.as_mut().filter(|(id, _)| *id == part.id) else { return Ok(()) };
                ensure!(part.offset == bytes.len() as u64, "a gap in a base");
                bytes.extend_from_slice(&part.bytes.0);
                if bytes.len() as u64 == id.bytes {
                    let id = *id;
                    let base = RouteBase::from_vec(self.base.take().map(|(_, bytes)| bytes).unwrap_or_default())?;
                    ensure!(base.id() == id, "another base");
                    lock(&self.disk.bases).whole.insert(id, Arc::new(base));
                    self.disk.fetched.send_modify(|count| *count += 1);
                }
                return Ok(());
            }
            ToNode::BaseMissing(id) => {
                lock(&self.disk.bases).claimed.remove(&id);
                self.disk.fetched.send_modify(|count| *count += 1);
            }
            ToNode::ArtifactPart(part) => {
                let name = ArtifactHash::from(part.hash);
                let Some((module, bytes)) = self.fetching.get_mut(&name) else { return Ok(()) };
                bytes.extend_from_slice(&part.bytes.0);
                if bytes.len() as u64 == part.total_bytes {
                    ensure!(module.is_none_or(|hash| artifact_hash(bytes) == hash), "a module is not its hash");
                    self.fetched(name)?;
                }
                return Ok(());
            }
            ToNode::ArtifactMissing(name) => {
                let name = ArtifactHash::from(name);
                let module = self.fetching.get(&name).and_then(|(module, _)| *module);
                ensure!(module.is_none(), "a module is missing");
                return self.fetched(name);
            }
            ToNode::Fleet(_) | ToNode::Standing(_) => {}
        }
        if self.incoming.is_none() && self.candidate.is_none() {
            self.idle = self.received.load(Ordering::Relaxed);
        }
        Ok(())
    }

    /// Goes on with a snapshot that has come in, if what it needs is here.
    fn look(&mut self) -> anyhow::Result<()> {
        let Some(Incoming { begin, parts }) = &self.incoming else { return Ok(()) };
        if (parts.len() as u64) < begin.total_bytes {
            return Ok(());
        }
        let from = begin.delta.filter(|from| from.generation != 0);
        let old = from.and_then(|from| self.served.iter().find(|kept| kept.header.checksum == from.checksum));
        if from.is_some() && old.is_none() {
            let generation = begin.generation;
            self.incoming = None;
            return self.say(&ToControl::SnapshotWanted { generation });
        }
        let old: &[u8] = old.map_or(&[], |kept| &kept.bytes);
        let Some(kept) = self.disk.snapshot(begin, parts, old) else {
            let named = self.disk.unclaimed(begin, parts, old)?;
            if let Some(id) = named {
                self.base = Some((id, Vec::new()));
                self.say(&ToControl::BaseWanted(id))?;
            }
            return Ok(());
        };
        let kept = kept?;
        self.incoming = None;
        for hash in kept.artifacts.iter().filter(|hash| !self.artifacts.contains(*hash)).copied().collect::<Vec<_>>() {
            for (name, module) in [(code_name(hash), None), (hash, Some(hash))] {
                self.fetching.insert(name, (module, Vec::new()));
                self.say(&ToControl::ArtifactWanted(name.into()))?;
            }
        }
        self.candidate = Some(kept);
        self.publish_if_complete()
    }

    fn fetched(&mut self, name: ArtifactHash) -> anyhow::Result<()> {
        if let Some((Some(hash), _)) = self.fetching.remove(&name) {
            self.artifacts.insert(hash);
        }
        self.publish_if_complete()
    }

    fn publish_if_complete(&mut self) -> anyhow::Result<()> {
        let waits = self.fetching.values().any(|(module, _)| module.is_some());
        let Some(kept) = self.candidate.take_if(|_| !waits) else { return Ok(()) };
        let SnapshotHeader { lineage, generation, .. } = kept.header;
        self.served.push(kept);
        if self.served.len() > SERVED_MAX {
            self.served.remove(0);
        }
        let received = self.received.load(Ordering::Relaxed);
        let bytes = received - std::mem::replace(&mut self.idle, received);
        self.acks.send(Acked { node: self.number, generation, at_ns: monotonic_ns(), bytes })?;
        self.say(&ToControl::Ack { lineage, generation, artifacts_missing: 0 })
    }
}

/// What came, as it is in full.
fn expand(begin: &SnapshotBegin, parts: &[u8], old: &[u8]) -> anyhow::Result<Vec<u8>> {
    Ok(match begin.delta {
        Some(from) => delta::apply(old, parts, from.bytes as usize)?,
        None => parts.to_vec(),
    })
}

impl Disk {
    /// The snapshot that has come in; none while its base is not here.
    fn snapshot(&self, begin: &SnapshotBegin, parts: &[u8], old: &[u8]) -> Option<anyhow::Result<Arc<Kept>>> {
        let key = (begin.checksum, xxhash_rust::xxh3::xxh3_64(parts));
        if let Some(kept) = lock(&self.snapshots).get(&key) {
            return Some(Ok(Arc::clone(kept)));
        }
        let made = expand(begin, parts, old).and_then(|bytes| {
            let bases = lock(&self.bases);
            let find = |id| bases.whole.get(&id).cloned().ok_or(plane_abi::SnapshotError::NoBase(id));
            match Snapshot::from_vec_over(bytes, &find) {
                Err(plane_abi::SnapshotError::NoBase(_)) => Ok(None),
                Err(error) => Err(error.into()),
                Ok(snapshot) => Ok(Some(snapshot)),
            }
        });
        let kept = made.transpose()?.and_then(|snapshot| {
            let header = snapshot.header();
            let announced =
                SnapshotHeader { lineage: begin.lineage, generation: begin.generation, checksum: begin.checksum };
            ensure!(header == announced, "{header:?} is not what was announced");
            let active = snapshot.deployments().filter(|(_, one)| one.status() == Status::Active);
            let artifacts: HashSet<ArtifactHash> = active.map(|(_, one)| one.artifact()).collect();
            let kept = Kept { header, artifacts: artifacts.into_iter().collect(), bytes: snapshot.into_bytes() };
            let mut snapshots = lock(&self.snapshots);
            // Enough for nodes that are some generations apart.
            if snapshots.len() > 64 {
                snapshots.retain(|_, kept| kept.header.generation + 16 > header.generation);
            }
            Ok(Arc::clone(snapshots.entry(key).or_insert(Arc::new(kept))))
        });
        Some(kept)
    }

    /// The base that it names, if nobody fetches it yet.
    fn unclaimed(&self, begin: &SnapshotBegin, parts: &[u8], old: &[u8]) -> anyhow::Result<Option<BaseId>> {
        let (_, named) = SnapshotHeader::read(&expand(begin, parts, old)?)?;
        let mut bases = lock(&self.bases);
        Ok(named.filter(|id| !bases.whole.contains_key(id) && bases.claimed.insert(*id)))
    }
}

/// Prints what all have acknowledged.
async fn tell(mut acked: mpsc::UnboundedReceiver<Acked>, nodes: usize) -> anyhow::Result<()> {
    // By generation: when each node had it, and what came for it.
    let mut waiting: BTreeMap<u64, HashMap<usize, (u64, u64)>> = BTreeMap::new();
    let mut serving = vec![0; nodes];
    let mut ready = false;
    while let Some(Acked { node, generation, at_ns, bytes }) = acked.recv().await {
        waiting.entry(generation).or_default();
        // A node that skips a generation has it with the one that it takes.
        for (_, times) in waiting.range_mut(serving[node] + 1..=generation) {
            times.insert(node, (at_ns, bytes));
        }
        serving[node] = generation;
        let mut out = std::io::stdout().lock();
        if !ready && serving.iter().all(|generation| *generation > 0) {
            ready = true;
            writeln!(out, "ready nodes={nodes}")?;
        }
        while let Some(entry) = waiting.first_entry().filter(|_| ready) {
            if serving.iter().any(|serves| serves < entry.key()) {
                break;
            }
            let (generation, times) = entry.remove_entry();
            if times.len() == nodes {
                let mut all: Vec<(u64, u64)> = times.into_values().collect();
                all.sort_unstable_by_key(|(_, bytes)| *bytes);
                write!(out, "acked {generation} {} {}", all[nodes / 2].1, all[nodes - 1].1)?;
                all.iter().try_for_each(|(at_ns, _)| write!(out, " {at_ns}"))?;
                writeln!(out)?;
            }
        }
        out.flush()?;
    }
    bail!("no nodes")
}
