//! One connection to the control plane, from `Hello` to its end: takes snapshots step by step, fetches artifacts, ships
//! logs, says that the node is alive. See the crate's text for the order of an activation.
//!
//! Every await but the one in `run`'s `select!` is a write with a time limit, so a step never waits for the peer's next
//! message. A newer snapshot that begins drops the one on its way, at whatever step it is.

use std::{
    collections::HashSet,
    future::pending,
    io,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base::id::ArtifactHash;
use plane_abi::wire::{
    self, BasePart, Blob, Decoder, Hello, Load, RefuseReason, SnapshotBegin, Standing, ToControl, ToNode, Welcome,
    WireError,
};
use plane_abi::{BaseId, Lineage, Snapshot, SnapshotError, SnapshotHeader, delta};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval, sleep_until, timeout},
};

use crate::Hooks;
use crate::accept::Verdict;
use crate::disk::{Disk, Incoming};
use crate::fetch::{Fetched, Fetches, Item};
use crate::logs::LogReceiver;
use crate::node::{Candidate, Node, Persisted};

const WELCOME_TIMEOUT: Duration = Duration::from_secs(10);
/// A frame that cannot be written in this time: the control plane does not read.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
const HEARTBEAT_MIN: Duration = Duration::from_millis(50);
const HEARTBEAT_MAX: Duration = Duration::from_secs(60);
/// Pings missed that end a connection.
const PINGS_MISSED_MAX: u32 = 3;
/// Heartbeats to one that says the traffic of deployments.
const TRAFFIC_EVERY: u64 = 30;
const READ_BYTES: usize = 64 * 1024;
/// A delta, bytes: it is applied in memory. What is larger comes whole, through a file.
const DELTA_BYTES_MAX: u64 = 64 << 20;

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Wire(#[from] WireError),
    #[error("no {0} in time")]
    Timeout(&'static str),
    #[error("the control plane speaks out of turn: {0}")]
    Protocol(&'static str),
}

/// A snapshot on its way.
enum Stage {
    /// None.
    Idle,
    /// Its parts come in.
    Receiving { begin: SnapshotBegin, old: Option<Arc<Snapshot>>, incoming: Incoming, received: u64 },
    /// Its parts come in and are not wanted.
    Skipping,
    /// It is being checked on another thread.
    Checking { begin: SnapshotBegin, ended: Instant, task: JoinHandle<Result<Looked, Refused>> },
    /// The base of routes that it names comes in.
    AwaitingBase { begin: SnapshotBegin, ended: Instant, incoming: Incoming, base: BaseTransfer },
    /// Its artifacts are being fetched.
    Fetching { candidate: Candidate, missing: HashSet<ArtifactHash>, ended: Instant },
}

type Refused = (RefuseReason, String);

/// A base of routes on its way.
struct BaseTransfer {
    id: BaseId,
    incoming: Incoming,
    received: u64,
}

/// What a check found.
enum Looked {
    Whole(Checked),
    /// Nothing wrong as yet; the base that it names is not here.
    WithoutBase(Incoming, BaseId),
}

struct Checked {
    incoming: Incoming,
    snapshot: Arc<Snapshot>,
    missing: HashSet<ArtifactHash>,
}

impl Stage {
    /// Waits for a check to end; for ever if there is none. Cancelled, it loses nothing.
    async fn checked(&mut self) -> Result<Looked, Refused> {
        match self {
            Stage::Checking { task, .. } => match task.await {
                Ok(checked) => checked,
                Err(error) => Err((RefuseReason::Corrupt, format!("the check failed: {error}"))),
            },
            _ => pending().await,
        }
    }
}

struct Session<W> {
    writer: W,
    lineage: Lineage,
    stage: Stage,
    fetches: Fetches,
    /// Modules whose compiled code the control plane has not: not asked for again over this connection.
    no_code: HashSet<ArtifactHash>,
    heartbeats: u64,
}

/// Runs a connection to its end, which is always an error: the control plane never says good-bye.
pub(crate) async fn run<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    name: &str,
    node: &mut Node,
    logs: &mut LogReceiver,
    hooks: &Hooks,
) -> Result<std::convert::Infallible, SessionError> {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let durable = node.history.durable;
    let hello = Hello {
        node: name.to_owned(),
        software: node.software.clone(),
        format: plane_abi::FORMAT_VERSION,
        lineage: durable.map(|durable| durable.lineage).unwrap_or_default(),
        generation: durable.map_or(0, |durable| durable.generation),
        checksum: durable.map_or(0, |durable| durable.checksum),
        fleet: node.plane.fleet().members().to_vec(),
    };
    send(&mut writer, &ToControl::Hello(hello)).await?;
    let mut decoder = Decoder::new();
    let mut buffer = vec![0; READ_BYTES];
    let welcome = timeout(WELCOME_TIMEOUT, read_welcome(&mut reader, &mut decoder, &mut buffer)).await;
    let welcome = welcome.map_err(|_| SessionError::Timeout("welcome"))??;
    node.set_keys(welcome.env_keys.into_iter().map(|key| key.0).collect());
    node.status.set_connected(true);
    // It says so if it is otherwise.
    node.plane.set_standing(Standing::Serving);
    tracing::info!(lineage = %welcome.lineage, "connected to the control plane");
    let heartbeat = Duration::from_millis(welcome.heartbeat_ms.into()).clamp(HEARTBEAT_MIN, HEARTBEAT_MAX);
    let mut tick = interval(heartbeat);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut session = Session {
        writer,
        lineage: welcome.lineage,
        stage: Stage::Idle,
        fetches: Fetches::default(),
        no_code: HashSet::new(),
        heartbeats: 0,
    };
    if let Some(published) = node.plane.current() {
        session.want_code(published.snapshot(), node);
    }
    session.fetches.want(node.lacking.iter().copied().map(Item::Module));
    let pulls = node.pulls.clone().unwrap_or_default();
    session.pull(pulls.open(), node);
    let mut heard = Instant::now();
    loop {
        while let Some(message) = decoder.poll()? {
            session.handle(message, node).await?;
        }
        session.request_artifacts().await?;
        tokio::select! {
            read = reader.read(&mut buffer) => {
                let read = read?;
                if read == 0 {
                    return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
                }
                heard = Instant::now();
                decoder.push(&buffer[..read]);
            }
            checked = session.stage.checked() => session.handle_checked(checked, node).await?,
            wanted = pulls.wanted() => session.pull(wanted, node),
            persisted = node.persisted() => session.handle_persisted(persisted).await?,
            batch = logs.next() => session.send_logs(batch, logs).await?,
            _ = tick.tick() => session.heartbeat(node, hooks).await?,
            () = sleep_until(heard + heartbeat * PINGS_MISSED_MAX) => return Err(SessionError::Timeout("ping")),
        }
    }
}

async fn read_welcome(
    reader: &mut (impl AsyncRead + Unpin),
    decoder: &mut Decoder<ToNode>,
    buffer: &mut [u8],
) -> Result<Welcome, SessionError> {
    loop {
        match decoder.poll()? {
            Some(ToNode::Welcome(welcome)) => return Ok(welcome),
            Some(_) => return Err(SessionError::Protocol("first is not Welcome")),
            None => {}
        }
        let read = reader.read(buffer).await?;
        if read == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        decoder.push(&buffer[..read]);
    }
}

async fn send(writer: &mut (impl AsyncWrite + Unpin), message: &ToControl) -> Result<(), SessionError> {
    let mut frame = Vec::new();
    wire::encode(message, &mut frame)?;
    let write = async {
        writer.write_all(&frame).await?;
        writer.flush().await
    };
    Ok(timeout(WRITE_TIMEOUT, write).await.map_err(|_| SessionError::Timeout("progress of a write"))??)
}

impl<W: AsyncWrite + Unpin> Session<W> {
    async fn send(&mut self, message: &ToControl) -> Result<(), SessionError> {
        send(&mut self.writer, message).await
    }

    async fn handle(&mut self, message: ToNode, node: &mut Node) -> Result<(), SessionError> {
        match message {
            ToNode::Welcome(_) => Err(SessionError::Protocol("a second Welcome")),
            ToNode::SnapshotBegin(begin) => self.handle_begin(begin, node).await,
            ToNode::SnapshotPart(part) => self.handle_part(part, node).await,
            ToNode::SnapshotEnd { generation } => self.handle_end(generation, node).await,
            ToNode::ArtifactPart(part) => match self.fetches.handle_part(part) {
                Some(fetched) => self.handle_fetched(fetched, node).await,
                None => Ok(()),
            },
            ToNode::ArtifactMissing(hash) => match self.fetches.handle_missing(hash.into()) {
                Some(fetched) => self.handle_fetched(fetched, node).await,
                None => Ok(()),
            },
            ToNode::Ping(number) => self.send(&ToControl::Pong(number)).await,
            ToNode::Fleet(members) => {
                node.set_fleet(members);
                Ok(())
            }
            ToNode::Standing(standing) => {
                tracing::warn!(?standing, "the control plane says what to do with requests");
                node.plane.set_standing(standing);
                Ok(())
            }
            ToNode::BasePart(part) => self.handle_base_part(part, node).await,
            ToNode::BaseMissing(id) => self.handle_base_missing(id, node).await,
        }
    }

    async fn handle_begin(&mut self, begin: SnapshotBegin, node: &mut Node) -> Result<(), SessionError> {
        self.stage = Stage::Skipping;
        self.forget_fetches(node);
        let offered = SnapshotHeader { lineage: begin.lineage, generation: begin.generation, checksum: begin.checksum };
        match node.history.judge(self.lineage, &offered) {
            Verdict::Take if begin.total_bytes > base::limits::SNAPSHOT_BYTES_MAX as u64 => {
                let detail = format!("{} bytes are over the limit", begin.total_bytes);
                self.refuse(offered, RefuseReason::Corrupt, detail, node).await
            }
            Verdict::Take => {
                let old = match &begin.delta {
                    Some(from) if from.bytes > base::limits::SNAPSHOT_BYTES_MAX as u64 => {
                        let detail = format!("{} bytes are over the limit", from.bytes);
                        return self.refuse(offered, RefuseReason::Corrupt, detail, node).await;
                    }
                    Some(from) if from.generation != 0 => node.snapshot(begin.lineage, from),
                    _ => None,
                };
                let unknown = begin.delta.is_some_and(|from| from.generation != 0) && old.is_none();
                if unknown || begin.delta.is_some() && begin.total_bytes > DELTA_BYTES_MAX {
                    return self.want_whole(begin.generation).await;
                }
                match node.disk.incoming() {
                    Ok(incoming) => {
                        self.stage = Stage::Receiving { begin, old, incoming, received: 0 };
                        Ok(())
                    }
                    Err(error) => self.refuse(offered, RefuseReason::NotStored, error.to_string(), node).await,
                }
            }
            Verdict::Have => self.ack(offered, node.lacking.len()).await,
            Verdict::Refuse(reason, detail) => self.refuse(offered, reason, detail, node).await,
        }
    }

    async fn handle_part(&mut self, part: Blob, node: &mut Node) -> Result<(), SessionError> {
        let (begin, problem) = match &mut self.stage {
            Stage::Skipping => return Ok(()),
            Stage::Receiving { begin, incoming, received, .. } => {
                *received += part.0.len() as u64;
                if *received > begin.total_bytes {
                    (*begin, (RefuseReason::Corrupt, "more bytes than announced".to_owned()))
                } else {
                    match incoming.write(&part.0) {
                        Ok(()) => return Ok(()),
                        Err(error) => (*begin, (RefuseReason::NotStored, error.to_string())),
                    }
                }
            }
            _ => return Err(SessionError::Protocol("a part of no snapshot")),
        };
        self.stage = Stage::Skipping;
        self.refuse(header(&begin), problem.0, problem.1, node).await
    }

    async fn handle_end(&mut self, generation: u64, node: &mut Node) -> Result<(), SessionError> {
        match std::mem::replace(&mut self.stage, Stage::Idle) {
            Stage::Skipping => Ok(()),
            Stage::Receiving { begin, old, incoming, received } => {
                if received != begin.total_bytes || generation != begin.generation {
                    let detail = format!("{received} of {} bytes came", begin.total_bytes);
                    return self.refuse(header(&begin), RefuseReason::Corrupt, detail, node).await;
                }
                let disk = Arc::clone(&node.disk);
                let task = tokio::task::spawn_blocking(move || {
                    let incoming = expand(&disk, incoming, &begin, old.as_deref())?;
                    check(&disk, incoming, header(&begin))
                });
                self.stage = Stage::Checking { begin, ended: Instant::now(), task };
                Ok(())
            }
            _ => Err(SessionError::Protocol("the end of no snapshot")),
        }
    }

    /// Asks for the whole of a snapshot whose delta is of no use here.
    async fn want_whole(&mut self, generation: u64) -> Result<(), SessionError> {
        self.stage = Stage::Skipping;
        tracing::warn!(generation, "a delta cannot be used; the whole is asked for");
        self.send(&ToControl::SnapshotWanted { generation }).await
    }

    async fn handle_base_part(&mut self, part: BasePart, node: &mut Node) -> Result<(), SessionError> {
        let Stage::AwaitingBase { begin, base, .. } = &mut self.stage else { return Ok(()) };
        let begin = *begin;
        // What was asked for before, for a snapshot that a newer one has replaced.
        if part.id != base.id || part.offset != base.received {
            return Ok(());
        }
        let length = part.bytes.0.len() as u64;
        if length > base.id.bytes - base.received {
            return self
                .refuse_stage(&begin, RefuseReason::Corrupt, "more bytes than announced".to_owned(), node)
                .await;
        }
        if let Err(error) = base.incoming.write(&part.bytes.0) {
            return self.refuse_stage(&begin, RefuseReason::NotStored, error.to_string(), node).await;
        }
        base.received += length;
        if base.received < base.id.bytes {
            return Ok(());
        }
        let stage = std::mem::replace(&mut self.stage, Stage::Idle);
        let Stage::AwaitingBase { ended, incoming, base, .. } = stage else { return Ok(()) };
        let disk = Arc::clone(&node.disk);
        let task = tokio::task::spawn_blocking(move || {
            disk.store_base(base.incoming, base.id).map_err(refused)?;
            check(&disk, incoming, header(&begin))
        });
        self.stage = Stage::Checking { begin, ended, task };
        Ok(())
    }

    async fn handle_base_missing(&mut self, id: BaseId, node: &mut Node) -> Result<(), SessionError> {
        match &self.stage {
            Stage::AwaitingBase { begin, base, .. } if base.id == id => {
                let (begin, detail) = (*begin, format!("its base of routes {id} is not to be had"));
                self.refuse_stage(&begin, RefuseReason::NotStored, detail, node).await
            }
            _ => Ok(()),
        }
    }

    async fn refuse_stage(
        &mut self,
        begin: &SnapshotBegin,
        reason: RefuseReason,
        detail: String,
        node: &Node,
    ) -> Result<(), SessionError> {
        self.stage = Stage::Idle;
        self.refuse(header(begin), reason, detail, node).await
    }

    async fn want_base(
        &mut self,
        (begin, ended): (SnapshotBegin, Instant),
        incoming: Incoming,
        id: BaseId,
        node: &Node,
    ) -> Result<(), SessionError> {
        if id.bytes > base::limits::SNAPSHOT_BYTES_MAX as u64 {
            let detail = format!("a base of {} bytes is over the limit", id.bytes);
            return self.refuse(header(&begin), RefuseReason::Corrupt, detail, node).await;
        }
        match node.disk.incoming_base() {
            Ok(file) => {
                tracing::info!(generation = begin.generation, base = %id, "fetching a base of routes");
                let base = BaseTransfer { id, incoming: file, received: 0 };
                self.stage = Stage::AwaitingBase { begin, ended, incoming, base };
                self.send(&ToControl::BaseWanted(id)).await
            }
            Err(error) => self.refuse(header(&begin), RefuseReason::NotStored, error.to_string(), node).await,
        }
    }

    async fn handle_checked(&mut self, checked: Result<Looked, Refused>, node: &mut Node) -> Result<(), SessionError> {
        let Stage::Checking { begin, ended, .. } = std::mem::replace(&mut self.stage, Stage::Idle) else {
            return Ok(());
        };
        let header = header(&begin);
        let checked = match checked {
            Ok(Looked::Whole(checked)) => checked,
            Ok(Looked::WithoutBase(incoming, id)) => return self.want_base((begin, ended), incoming, id, node).await,
            // The whole may be right where what was made of a delta is not.
            Err((RefuseReason::Corrupt, detail)) if begin.delta.is_some() => {
                tracing::error!(generation = begin.generation, detail, "a delta did not come out right");
                return self.want_whole(begin.generation).await;
            }
            Err((reason, detail)) => return self.refuse(header, reason, detail, node).await,
        };
        let key_id = checked.snapshot.env_key_id();
        let Some(key) = node.key(key_id) else {
            let detail = format!("no key {key_id:016x}");
            return self.refuse(header, RefuseReason::EnvKey, detail, node).await;
        };
        let Checked { incoming, snapshot, missing } = checked;
        // Code before modules: the answers come in order, so that code that is to be had is there when its module is, and
        // nobody waits for code that is not.
        self.want_code(&snapshot, node);
        self.fetches.want(missing.iter().copied().map(Item::Module));
        let candidate = Candidate { incoming, snapshot, key: Some(key), lacking: HashSet::new() };
        self.stage = Stage::Fetching { candidate, missing, ended };
        self.publish_if_complete(node);
        Ok(())
    }

    fn publish_if_complete(&mut self, node: &mut Node) {
        match std::mem::replace(&mut self.stage, Stage::Idle) {
            Stage::Fetching { candidate, missing, ended } if missing.is_empty() => {
                node.publish(candidate, ended.elapsed());
            }
            stage => self.stage = stage,
        }
    }

    async fn handle_fetched(&mut self, fetched: Fetched, node: &mut Node) -> Result<(), SessionError> {
        let Fetched { item, bytes } = fetched;
        let hash = match item {
            Item::Module(hash) => hash,
            Item::Code(artifact) => {
                match bytes {
                    Ok(envelope) => node.store_code(artifact, &envelope),
                    Err(problem) => tracing::debug!(%artifact, problem, "no code cache"),
                }
                // What came and was of no use would come again.
                if node.lacks_code(artifact) {
                    self.no_code.insert(artifact);
                }
                return Ok(());
            }
        };
        let ahead = node.lacking.contains(&hash)
            || matches!(&self.stage, Stage::Fetching { missing, .. } if missing.contains(&hash));
        let stored = match bytes {
            Ok(bytes) if ahead => node.store_artifact(hash, &bytes).map_err(not_stored),
            Ok(bytes) => node.store_pulled(hash, &bytes).map_err(not_stored),
            Err(problem) => Err((RefuseReason::Artifacts, problem.to_owned())),
        };
        if let Err((_, problem)) = &stored {
            tracing::error!(%hash, problem, "cannot get a module");
        }
        if !ahead {
            node.status.pulled(stored.is_ok());
        }
        node.pull_ended(hash, stored.is_ok());
        let Stage::Fetching { candidate, missing, .. } = &mut self.stage else { return Ok(()) };
        if !missing.remove(&hash) {
            return Ok(());
        }
        if let Err((reason, problem)) = stored {
            // A node that serves nothing is better off with what it can have, and what was lacking before the change
            // is no fault of the change. Anything else would make a good configuration worse.
            let tolerated = node.history.published.is_none() || node.lacking.contains(&hash);
            if !tolerated {
                let header = candidate.snapshot.header();
                self.stage = Stage::Idle;
                self.forget_fetches(node);
                return self.refuse(header, reason, format!("artifact {hash}: {problem}"), node).await;
            }
            candidate.lacking.insert(hash);
        }
        self.publish_if_complete(node);
        Ok(())
    }

    async fn handle_persisted(&mut self, persisted: Persisted) -> Result<(), SessionError> {
        let Persisted { header, lacking, result } = persisted;
        if header.lineage != self.lineage {
            // Of a connection before this one, to another control plane.
            return Ok(());
        }
        match result {
            Ok(()) => self.ack(header, lacking).await,
            Err(error) => {
                let SnapshotHeader { lineage, generation, .. } = header;
                let (reason, detail) = (RefuseReason::NotDurable, error.to_string());
                self.send(&ToControl::Refuse { lineage, generation, reason, detail }).await
            }
        }
    }

    async fn ack(&mut self, header: SnapshotHeader, lacking: usize) -> Result<(), SessionError> {
        let SnapshotHeader { lineage, generation, .. } = header;
        self.send(&ToControl::Ack { lineage, generation, artifacts_missing: lacking as u32 }).await
    }

    async fn refuse(
        &mut self,
        header: SnapshotHeader,
        reason: RefuseReason,
        detail: String,
        node: &Node,
    ) -> Result<(), SessionError> {
        let SnapshotHeader { generation, .. } = header;
        node.status.refused();
        tracing::error!(generation, ?reason, detail, "configuration refused; what served before goes on");
        // Always of the connection's lineage, which is what the answer is matched by.
        self.send(&ToControl::Refuse { lineage: self.lineage, generation, reason, detail }).await
    }

    /// Wants the compiled code of what a snapshot serves.
    fn want_code(&mut self, snapshot: &Snapshot, node: &Node) {
        let lacking = node.without_code(snapshot);
        self.fetches.want(lacking.difference(&self.no_code).copied().map(Item::Code));
    }

    /// Wants only what requests wait for, and what serves now and lacks its modules.
    fn forget_fetches(&mut self, node: &Node) {
        self.fetches.forget_queued();
        self.fetches.want(node.pulls.iter().flat_map(|pulls| pulls.open()).map(Item::Module));
        self.fetches.want(node.lacking.iter().copied().map(Item::Module));
    }

    /// Wants what requests wait for, each with its code.
    fn pull(&mut self, wanted: Vec<ArtifactHash>, node: &mut Node) {
        for hash in wanted {
            if node.refuse_again(hash) {
                continue;
            }
            if node.lacks_code(hash) && !self.no_code.contains(&hash) {
                self.fetches.want_first([Item::Code(hash), Item::Module(hash)]);
            } else {
                self.fetches.want_first([Item::Module(hash)]);
            }
        }
    }

    async fn request_artifacts(&mut self) -> Result<(), SessionError> {
        while let Some(hash) = self.fetches.poll_request() {
            self.send(&ToControl::ArtifactWanted(hash.into())).await?;
        }
        Ok(())
    }

    async fn send_logs(&mut self, batch: wire::Logs, logs: &mut LogReceiver) -> Result<(), SessionError> {
        let message = ToControl::Logs(batch);
        let sent = self.send(&message).await;
        if let (Err(_), ToControl::Logs(batch)) = (&sent, &message) {
            logs.lost(batch);
        }
        sent
    }

    async fn heartbeat(&mut self, node: &Node, hooks: &Hooks) -> Result<(), SessionError> {
        let generation = node.history.published.map_or(0, |published| published.generation);
        let unix_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
        self.heartbeats += 1;
        let due = self.heartbeats.is_multiple_of(TRAFFIC_EVERY);
        let traffic = if due { (hooks.traffic)() } else { Vec::new() };
        self.send(&ToControl::Heartbeat(Load { generation, unix_ms, traffic, ..(hooks.load)() })).await
    }
}

fn header(begin: &SnapshotBegin) -> SnapshotHeader {
    SnapshotHeader { lineage: begin.lineage, generation: begin.generation, checksum: begin.checksum }
}

/// A disk's trouble is the node's own, whatever it was that did not fit.
fn not_stored(error: io::Error) -> Refused {
    (RefuseReason::NotStored, error.to_string())
}

/// A file or its bytes: a disk's trouble is no fault of the snapshot.
fn refused(error: SnapshotError) -> Refused {
    let reason = if matches!(error, SnapshotError::Io(_)) { RefuseReason::NotStored } else { RefuseReason::Corrupt };
    (reason, error.to_string())
}

/// Makes the snapshot's file of what has come in: itself, or a delta. Blocking.
fn expand(disk: &Disk, incoming: Incoming, begin: &SnapshotBegin, old: Option<&Snapshot>) -> Result<Incoming, Refused> {
    let Some(from) = &begin.delta else { return Ok(incoming) };
    let delta = std::fs::read(incoming.path()).map_err(not_stored)?;
    let bytes = delta::apply(old.map_or(&[], Snapshot::bytes), &delta, from.bytes as usize);
    let bytes = bytes.map_err(|error| (RefuseReason::Corrupt, error.to_string()))?;
    let mut whole = disk.incoming().map_err(not_stored)?;
    whole.write(&bytes).map_err(not_stored)?;
    Ok(whole)
}

/// Opens a snapshot that has come in, and looks which artifacts it lacks. Blocking.
fn check(disk: &Disk, incoming: Incoming, announced: SnapshotHeader) -> Result<Looked, Refused> {
    let snapshot = match Snapshot::open(incoming.path(), &|id| disk.base(id)) {
        Ok(snapshot) => snapshot,
        Err(SnapshotError::NoBase(id)) => return Ok(Looked::WithoutBase(incoming, id)),
        Err(error) => return Err((RefuseReason::Corrupt, error.to_string())),
    };
    if snapshot.header() != announced {
        let detail = format!("it is {:?}, not what was announced", snapshot.header());
        return Err((RefuseReason::Corrupt, detail));
    }
    let missing = disk.missing_artifacts(&snapshot);
    Ok(Looked::Whole(Checked { incoming, snapshot: Arc::new(snapshot), missing }))
}
