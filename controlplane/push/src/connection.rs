//! One node's connection: handshake, then a reader and a writer side by side until either ends.
//!
//! The writer chooses what to send next: answers and pings, then parts of an artifact, then parts of the latest
//! snapshot. It looks at the latest snapshot before every part: a newer one begins at once in place of what is left of
//! an older one. A snapshot that a node could not store (its disk is full, say) is sent it again after [`AGAIN_AFTER`].

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use base::id::ArtifactHash;
use base::limits::{LOG_BYTES_MAX, MODULE_BYTES_MAX};
use bytes::Bytes;
use plane_abi::code::ENVELOPE_BYTES_MAX;
use plane_abi::limits::{LOG_BATCH_RECORDS_MAX, PART_BYTES, TRAFFIC_COUNTED_MAX, VERSIONS_COUNTED_MAX};
use plane_abi::wire::{
    self, ArtifactPart, BasePart, Blob, Decoder, Hash, Hello, RefuseReason, Standing, ToControl, ToNode, Welcome,
    WireError, WireKey,
};
use plane_abi::{BaseId, RouteBase, SnapshotHeader};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    sync::{Notify, OwnedSemaphorePermit, mpsc},
    time::{Instant, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::latest::{Latest, Offer};
use crate::nodes::{Arrival, Refusal, Tried};
use crate::server::{NodeLog, Shared, unix_ms};

/// TLS handshake and `Hello`, each.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// One write that makes no progress: the node does not read.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// An artifact's source.
const ARTIFACT_TIMEOUT: Duration = Duration::from_secs(30);
/// Artifact requests waiting in one connection; a node asks for fewer at a time.
const WANTED_MAX: usize = 64;
/// Missed heartbeats that end a connection.
const HEARTBEATS_MISSED_MAX: u32 = 3;
/// From a snapshot that a node could not store until it is sent it again, in heartbeats.
const AGAIN_AFTER: u32 = 15;
const READ_BYTES: usize = 16 * 1024;
const DETAIL_BYTES_MAX: usize = 1024;

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectionError {
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("{0}")]
    Wire(#[from] WireError),
    #[error("no {0} in time")]
    Timeout(&'static str),
    #[error("its certificate names no node")]
    NoName,
    #[error("node {0} is revoked")]
    Revoked(String),
    #[error("node {node} speaks out of turn: {problem}")]
    Protocol { node: String, problem: &'static str },
    #[error("node {node} reads snapshot format {format}")]
    Format { node: String, format: u32 },
    #[error("no room for node {0}")]
    Full(String),
    #[error("node {0} has connected anew")]
    Replaced(String),
}

/// Serves one connection to its end. A clean end of the peer is no error.
pub(crate) async fn serve(
    stream: TcpStream,
    address: SocketAddr,
    acceptor: TlsAcceptor,
    shared: &Shared,
    permit: OwnedSemaphorePermit,
) -> Result<(), ConnectionError> {
    stream.set_nodelay(true)?;
    let accepted = timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await;
    let mut stream = accepted.map_err(|_| ConnectionError::Timeout("TLS handshake"))??;
    let name = peer_name(&stream).ok_or(ConnectionError::NoName)?;
    if shared.is_revoked(&name) {
        return Err(ConnectionError::Revoked(name));
    }
    let mut decoder = Decoder::new();
    let hello = timeout(HANDSHAKE_TIMEOUT, read_hello(&mut stream, &mut decoder, &name)).await;
    let hello = hello.map_err(|_| ConnectionError::Timeout("hello"))??;
    drop(permit);
    let software: String = hello.software.chars().take(64).collect();
    let arrival = Arrival {
        name: &name,
        address,
        software: &software,
        lineage: hello.lineage,
        generation: hello.generation,
        unix_ms: unix_ms(),
    };
    let arrived = shared.change_nodes(|nodes| {
        nodes.name_others(&hello.fleet, arrival.unix_ms);
        nodes.arrive(&arrival)
    });
    let Some((connection, cut)) = arrived else {
        return Err(ConnectionError::Full(name));
    };
    shared.arrived();
    tracing::info!(node = name, %address, generation = hello.generation, "node connected");
    let has = (hello.lineage == shared.config.lineage && hello.generation != 0).then(|| header_of(&hello));
    let peer = Peer { shared, name: Arc::from(name), connection, has: Mutex::new(has) };
    let (reader, writer) = tokio::io::split(stream);
    let (wanted_in, wanted) = mpsc::channel(WANTED_MAX);
    let result = tokio::select! {
        result = peer.read(reader, decoder, wanted_in) => result,
        result = peer.write(writer, &hello, wanted) => result,
        error = peer.unwelcome(&cut) => Err(error),
    };
    shared.change_nodes(|nodes| nodes.leave(&peer.name, connection));
    tracing::info!(node = &*peer.name, "node disconnected");
    result
}

/// The name that our authority has put into the client's certificate. The chain was verified in the handshake.
fn peer_name(stream: &TlsStream<TcpStream>) -> Option<String> {
    let certificate = stream.get_ref().1.peer_certificates()?.first()?;
    let certificate = webpki::EndEntityCert::try_from(certificate).ok()?;
    wire::node_name(certificate.valid_dns_names()).map(str::to_owned)
}

async fn read_hello(
    stream: &mut TlsStream<TcpStream>,
    decoder: &mut Decoder<ToControl>,
    name: &str,
) -> Result<Hello, ConnectionError> {
    let mut buffer = vec![0; READ_BYTES];
    let hello = loop {
        match decoder.poll()? {
            Some(ToControl::Hello(hello)) => break hello,
            Some(_) => return Err(ConnectionError::Protocol { node: name.to_owned(), problem: "first is not Hello" }),
            None => {}
        }
        let read = stream.read(&mut buffer).await?;
        if read == 0 {
            return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
        }
        decoder.push(&buffer[..read]);
    };
    if hello.node != name {
        return Err(ConnectionError::Protocol { node: name.to_owned(), problem: "its name is not its certificate's" });
    }
    if hello.format != plane_abi::FORMAT_VERSION {
        return Err(ConnectionError::Format { node: name.to_owned(), format: hello.format });
    }
    Ok(hello)
}

struct Peer<'a> {
    shared: &'a Shared,
    name: Arc<str>,
    connection: u64,
    /// The newest snapshot of ours that it has said it has on disk.
    has: Mutex<Option<SnapshotHeader>>,
}

/// What a node asks for.
enum Wanted {
    Artifact(ArtifactHash),
    Base(BaseId),
    /// A snapshot not as a delta, by its generation.
    Whole(u64),
}

/// What is being sent in parts.
struct Transfer {
    offer: Offer,
    sent: usize,
}

/// A base of routes that is being sent in parts, after whatever else there is.
struct BaseTransfer {
    base: Arc<RouteBase>,
    sent: usize,
}

/// What a node says that it serves.
fn header_of(hello: &Hello) -> SnapshotHeader {
    SnapshotHeader { lineage: hello.lineage, generation: hello.generation, checksum: hello.checksum }
}

impl Peer<'_> {
    fn protocol(&self, problem: &'static str) -> ConnectionError {
        ConnectionError::Protocol { node: self.name.to_string(), problem }
    }

    /// Resolves when the node is revoked or has another connection.
    async fn unwelcome(&self, cut: &Notify) -> ConnectionError {
        // It may have been revoked after it was looked at and before it was in the table.
        if !self.shared.is_revoked(&self.name) {
            cut.notified().await;
        }
        match self.shared.is_revoked(&self.name) {
            true => ConnectionError::Revoked(self.name.to_string()),
            false => ConnectionError::Replaced(self.name.to_string()),
        }
    }

    async fn read(
        &self,
        mut stream: impl AsyncRead + Unpin,
        mut decoder: Decoder<ToControl>,
        wanted: mpsc::Sender<Wanted>,
    ) -> Result<(), ConnectionError> {
        let silence_max = self.shared.config.heartbeat * HEARTBEATS_MISSED_MAX;
        let mut buffer = vec![0; READ_BYTES];
        loop {
            while let Some(message) = decoder.poll()? {
                self.handle(message, &wanted)?;
            }
            let read = timeout(silence_max, stream.read(&mut buffer)).await;
            let read = match read.map_err(|_| ConnectionError::Timeout("heartbeat"))? {
                // A node that is killed closes TCP without TLS's farewell.
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => 0,
                read => read?,
            };
            if read == 0 {
                return Ok(());
            }
            decoder.push(&buffer[..read]);
            self.shared.nodes(|nodes| nodes.heard(&self.name, self.connection, unix_ms(), None));
        }
    }

    fn handle(&self, message: ToControl, wanted: &mpsc::Sender<Wanted>) -> Result<(), ConnectionError> {
        let ours = self.shared.config.lineage;
        match message {
            ToControl::Hello(_) => return Err(self.protocol("a second Hello")),
            ToControl::Ack { lineage, generation, artifacts_missing } if lineage == ours => {
                let published = self.shared.current(&self.name).map_or(0, |latest| latest.header.generation);
                if generation > published {
                    return Err(self.protocol("acknowledges what was never published"));
                }
                self.shared
                    .change_nodes(|nodes| nodes.acked(&self.name, self.connection, generation, artifacts_missing));
                self.has_on_disk(generation);
            }
            ToControl::Refuse { lineage, generation, reason, mut detail } if lineage == ours => {
                detail.truncate(detail.floor_char_boundary(DETAIL_BYTES_MAX));
                tracing::warn!(node = &*self.name, generation, ?reason, detail, "node refuses a configuration");
                self.refused(generation, reason, detail);
            }
            // Of a lineage that is not ours: about something this server has not sent.
            ToControl::Ack { .. } | ToControl::Refuse { .. } => return Err(self.protocol("answers for another store")),
            ToControl::ArtifactWanted(hash) => {
                self.ask(Wanted::Artifact(hash.into()), wanted)?;
            }
            ToControl::BaseWanted(id) => self.ask(Wanted::Base(id), wanted)?,
            ToControl::SnapshotWanted { generation } => {
                tracing::warn!(node = &*self.name, generation, "node cannot use a delta; it gets the whole");
                self.ask(Wanted::Whole(generation), wanted)?;
            }
            ToControl::Logs(logs) => self.logs(logs)?,
            ToControl::Heartbeat(load) if load.versions.len() > VERSIONS_COUNTED_MAX => {
                return Err(self.protocol("counts too many versions"));
            }
            ToControl::Heartbeat(load) if load.traffic.len() > TRAFFIC_COUNTED_MAX => {
                return Err(self.protocol("counts too many deployments"));
            }
            ToControl::Heartbeat(load) => {
                self.shared.nodes(|nodes| nodes.heard(&self.name, self.connection, unix_ms(), Some(load)));
            }
            ToControl::Pong(_) => {}
        }
        Ok(())
    }

    fn ask(&self, what: Wanted, wanted: &mpsc::Sender<Wanted>) -> Result<(), ConnectionError> {
        wanted.try_send(what).map_err(|_| self.protocol("asks for too much at once"))
    }

    /// Notes what it has acknowledged, so that the next one can be a delta from that.
    fn has_on_disk(&self, generation: u64) {
        if let Some(header) = self.shared.header_of(generation) {
            *self.has.lock().unwrap_or_else(PoisonError::into_inner) = Some(header);
        }
    }

    /// Announces a snapshot, in the form that suits the node.
    async fn begin(
        &self,
        stream: &mut (impl AsyncWrite + Unpin),
        snapshot: &Latest,
        whole: bool,
    ) -> Result<Transfer, ConnectionError> {
        let has = *self.has.lock().unwrap_or_else(PoisonError::into_inner);
        let old = has.and_then(|header| self.shared.published(header));
        let offer = if whole { snapshot.whole() } else { snapshot.offer(old).await };
        self.send(stream, &ToNode::SnapshotBegin(offer.begin)).await?;
        Ok(Transfer { offer, sent: 0 })
    }

    fn refused(&self, generation: u64, reason: RefuseReason, detail: String) {
        let refusal = Refusal { generation, reason, detail };
        self.shared.change_nodes(|nodes| nodes.refused(&self.name, self.connection, refusal));
    }

    fn logs(&self, logs: wire::Logs) -> Result<(), ConnectionError> {
        let too_long = |record: &wire::LogRecord| record.text.len() > LOG_BYTES_MAX;
        if logs.records.len() > LOG_BATCH_RECORDS_MAX || logs.records.iter().any(too_long) {
            return Err(self.protocol("logs over the limit"));
        }
        let mut dropped = logs.dropped;
        for record in logs.records {
            let log = NodeLog { node: Arc::clone(&self.name), record, dropped: std::mem::take(&mut dropped) };
            // Nobody listening is no failure.
            let _ = self.shared.logs.send(Arc::new(log));
        }
        Ok(())
    }

    async fn write(
        &self,
        mut stream: impl AsyncWrite + Unpin,
        hello: &Hello,
        mut wanted: mpsc::Receiver<Wanted>,
    ) -> Result<(), ConnectionError> {
        let config = &self.shared.config;
        let welcome = Welcome {
            lineage: config.lineage,
            env_keys: config.env_keys.iter().cloned().map(WireKey).collect(),
            heartbeat_ms: u32::try_from(config.heartbeat.as_millis()).unwrap_or(u32::MAX),
        };
        self.send(&mut stream, &ToNode::Welcome(welcome)).await?;
        let mut standings = self.shared.standings.subscribe();
        let mut standing = Standing::Serving;
        standings.mark_changed();
        let mut fleet = self.shared.fleet.subscribe();
        fleet.mark_changed();
        let (mut latest, mut trial) = (self.shared.latest.subscribe(), self.shared.trial.subscribe());
        let mut looked_at = None;
        let mut transfer: Option<Transfer> = None;
        let mut base_transfer: Option<BaseTransfer> = None;
        let mut next_ping = Instant::now() + config.heartbeat;
        let mut begun = Instant::now();
        let mut first_look = true;
        let mut next = None;
        loop {
            if first_look || latest.has_changed().unwrap_or(false) || trial.has_changed().unwrap_or(false) {
                first_look = false;
                latest.mark_unchanged();
                trial.mark_unchanged();
                // What it tried before the others it is not sent again.
                let current = self.shared.current(&self.name).filter(|current| looked_at != Some(current.header));
                looked_at = current.as_ref().map(|current| current.header).or(looked_at);
                if let Some(current) = current.filter(|current| self.needs(hello, current)) {
                    begun = Instant::now();
                    transfer = Some(self.begin(&mut stream, &current, false).await?);
                    // Of the base of the one before, if it was on its way, the new one may have no need: it asks again.
                    base_transfer = None;
                }
            }
            if standings.has_changed().unwrap_or(false) {
                let now = standings.borrow_and_update().get(&*self.name).copied().unwrap_or_default();
                if std::mem::replace(&mut standing, now) != now {
                    self.send(&mut stream, &ToNode::Standing(now)).await?;
                }
            }
            if fleet.has_changed().unwrap_or(false) {
                let names = fleet.borrow_and_update().to_vec();
                self.send(&mut stream, &ToNode::Fleet(names)).await?;
            }
            if Instant::now() >= next_ping {
                next_ping = Instant::now() + config.heartbeat;
                self.send(&mut stream, &ToNode::Ping(unix_ms())).await?;
                if begun.elapsed() >= config.heartbeat * AGAIN_AFTER
                    && let Some(current) =
                        self.shared.current(&self.name).filter(|current| self.could_not_store(current))
                {
                    begun = Instant::now();
                    transfer = Some(self.begin(&mut stream, &current, false).await?);
                }
            }
            if let Some(what) = next.take().or_else(|| wanted.try_recv().ok()) {
                match what {
                    Wanted::Artifact(hash) => self.send_artifact(&mut stream, hash).await?,
                    Wanted::Base(id) => base_transfer = self.begin_base(&mut stream, id).await?,
                    Wanted::Whole(generation) => {
                        let current = self.shared.current(&self.name);
                        if let Some(current) = current.filter(|current| current.header.generation == generation) {
                            transfer = Some(self.begin(&mut stream, &current, true).await?);
                        }
                    }
                }
                continue;
            }
            if let Some(under_way) = &mut transfer {
                if self.send_part(&mut stream, under_way).await? {
                    transfer = None;
                }
                continue;
            }
            if let Some(under_way) = &mut base_transfer {
                if self.send_base_part(&mut stream, under_way).await? {
                    base_transfer = None;
                }
                continue;
            }
            tokio::select! {
                what = wanted.recv() => match what {
                    Some(what) => next = Some(what),
                    None => return Ok(()),
                },
                changed = fleet.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    fleet.mark_changed();
                }
                changed = standings.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    standings.mark_changed();
                }
                changed = latest.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    latest.mark_changed();
                }
                changed = trial.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    trial.mark_changed();
                }
                () = tokio::time::sleep_until(next_ping) => {}
            }
        }
    }

    /// Whether the node is to be sent a snapshot, given what it had when it connected. What it has already is
    /// acknowledged; what is older than its own it would refuse, and is spared the way.
    fn needs(&self, hello: &Hello, latest: &Latest) -> bool {
        let header = latest.header;
        if hello.lineage != header.lineage || hello.generation < header.generation {
            return true;
        }
        if hello.generation == header.generation && hello.checksum == header.checksum {
            self.has_on_disk(header.generation);
            self.shared.change_nodes(|nodes| nodes.acked(&self.name, self.connection, header.generation, 0));
        } else {
            let detail = format!("node serves generation {} already", hello.generation);
            tracing::warn!(node = &*self.name, generation = header.generation, detail, "node is ahead of the store");
            self.refused(header.generation, RefuseReason::Older, detail);
        }
        false
    }

    /// Whether the node has refused it for a trouble of its own, which may be over.
    fn could_not_store(&self, latest: &Latest) -> bool {
        let generation = latest.header.generation;
        let Some(Tried::Refused(refusal)) = self.shared.nodes(|nodes| nodes.tried(&self.name, generation)) else {
            return false;
        };
        let own = matches!(refusal.reason, RefuseReason::NotStored | RefuseReason::NotDurable);
        own && refusal.generation == generation
    }

    /// Sends the next part of a snapshot, or its end: then true.
    async fn send_part(
        &self,
        stream: &mut (impl AsyncWrite + Unpin),
        transfer: &mut Transfer,
    ) -> Result<bool, ConnectionError> {
        let rest = &transfer.offer.bytes[transfer.sent..];
        if rest.is_empty() {
            let end = ToNode::SnapshotEnd { generation: transfer.offer.begin.generation };
            self.send(stream, &end).await?;
            return Ok(true);
        }
        let part = &rest[..rest.len().min(PART_BYTES)];
        transfer.sent += part.len();
        self.send(stream, &ToNode::SnapshotPart(Blob(part.to_vec()))).await?;
        Ok(false)
    }

    /// The base that the latest snapshot names; of another the node is told that it is gone.
    async fn begin_base(
        &self,
        stream: &mut (impl AsyncWrite + Unpin),
        id: BaseId,
    ) -> Result<Option<BaseTransfer>, ConnectionError> {
        let base = self.shared.current(&self.name).and_then(|latest| latest.base);
        match base.filter(|base| base.id() == id) {
            Some(base) => Ok(Some(BaseTransfer { base, sent: 0 })),
            None => self.send(stream, &ToNode::BaseMissing(id)).await.map(|()| None),
        }
    }

    /// Sends the next part of a base; true with the last.
    async fn send_base_part(
        &self,
        stream: &mut (impl AsyncWrite + Unpin),
        transfer: &mut BaseTransfer,
    ) -> Result<bool, ConnectionError> {
        let bytes = transfer.base.bytes();
        let rest = &bytes[transfer.sent..];
        let part = &rest[..rest.len().min(PART_BYTES)];
        let (id, offset) = (transfer.base.id(), transfer.sent as u64);
        transfer.sent += part.len();
        self.send(stream, &ToNode::BasePart(BasePart { id, offset, bytes: Blob(part.to_vec()) })).await?;
        Ok(transfer.sent == bytes.len())
    }

    async fn send_artifact(
        &self,
        stream: &mut (impl AsyncWrite + Unpin),
        hash: ArtifactHash,
    ) -> Result<(), ConnectionError> {
        // A source may be slow; the node must not take that for a dead connection.
        let mut fetching = std::pin::pin!(self.fetch_artifact(hash));
        let fetched = loop {
            match timeout(self.shared.config.heartbeat, &mut fetching).await {
                Ok(fetched) => break fetched,
                Err(_) => self.send(stream, &ToNode::Ping(unix_ms())).await?,
            }
        };
        let Some(bytes) = fetched else {
            return self.send(stream, &ToNode::ArtifactMissing(hash.into())).await;
        };
        let mut sent = 0;
        loop {
            let part = bytes.slice(sent..bytes.len().min(sent + PART_BYTES));
            let message = ToNode::ArtifactPart(ArtifactPart {
                hash: Hash::from(hash),
                total_bytes: bytes.len() as u64,
                offset: sent as u64,
                bytes: Blob(part.to_vec()),
            });
            self.send(stream, &message).await?;
            sent += part.len();
            if sent == bytes.len() {
                return Ok(());
            }
        }
    }

    async fn fetch_artifact(&self, hash: ArtifactHash) -> Option<Bytes> {
        let fetched = timeout(ARTIFACT_TIMEOUT, self.shared.config.artifacts.fetch(hash)).await;
        let problem = match fetched {
            Ok(Ok(Some(bytes))) if bytes.len() <= ENVELOPE_BYTES_MAX.max(MODULE_BYTES_MAX) => return Some(bytes),
            Ok(Ok(Some(_))) => "over the limit".to_owned(),
            // The node says so where that matters: of code caches there may be none.
            Ok(Ok(None)) => {
                tracing::debug!(node = &*self.name, %hash, "asked for an artifact that is not there");
                return None;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "took too long".to_owned(),
        };
        tracing::error!(node = &*self.name, %hash, problem, "cannot give an artifact");
        None
    }

    async fn send(&self, stream: &mut (impl AsyncWrite + Unpin), message: &ToNode) -> Result<(), ConnectionError> {
        let mut frame = Vec::new();
        wire::encode(message, &mut frame)?;
        let write = async {
            // In pieces, so that the time limit is one of progress.
            for piece in frame.chunks(READ_BYTES) {
                let written = timeout(WRITE_TIMEOUT, stream.write_all(piece)).await;
                written.map_err(|_| ConnectionError::Timeout("progress of a write"))??;
            }
            let flushed = timeout(WRITE_TIMEOUT, stream.flush()).await;
            flushed.map_err(|_| ConnectionError::Timeout("progress of a write"))??;
            Ok(())
        };
        write.await
    }
}
