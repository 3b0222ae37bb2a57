//! `selvage-node upgrade`: a new binary takes the running node's place, and no request notices.
//!
//! The *keeper* of the running node, which is not fenced as the node is, starts the new one and gives it the very listening sockets that the
//! old one has: no socket is closed, so no queue of waiting connections is ever dropped, with or without steering.
//!
//! ```text
//!   old node    keeper                        new node
//!   SERVING     ── starts ──────────────────► STARTING   reads the configuration on disk, starts shards, and the Workers
//!                                                        that the old node's shards have up; accepts nothing
//!               ◄───────────────── Ready ──── STANDBY
//!   PAUSED      ◄─ Pause                                 the old node's agent ends its connection and its writes, and
//!               ── Go ──────────────────────► TAKING     unlocks the data folder; the new one's locks it and looks again
//!               ◄─────────────── Serving ──── SERVING    both accept, from the same queues
//!   DRAINING    ◄─ HandOver                              after a moment in which the new node has not ended
//!   ENDED       ended with it
//! ```
//!
//! *Drain:* the old node accepts nothing more; each connection ends with its next response, which says `Connection: close`, or after
//! `HANDED_OVER_IDLE_NS` without a request; all of it within `--drain-timeout-ms`.
//! *Failures:* whatever goes wrong before `HandOver` ends the new node and has the old one resume: it never stopped serving. An old node
//! that crashes after `Ready` is replaced at once.
//! *Who may ask:* whoever may open the data folder, and no process that is fenced more than the keeper: see `keeper`.

use crate::{UpgradeArgs, frames, keeper};
use agent::{Agent, AgentHandle};
use anyhow::{Context, bail, ensure};
use base::id::DeploymentId;
use plane_abi::plane::Plane;
use serde::{Deserialize, Serialize};
use shard::{Inheritance, Node};
use std::io::Write;
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

/// For the Workers of the old node to be started in the new one; those that are not, start with their first request.
const WARM_LIMIT: Duration = Duration::from_secs(10);
/// For the old node's agent to end its writes, and for its lock to be free.
pub(crate) const PAUSE_LIMIT: Duration = Duration::from_secs(5);
const LOOK_GAP: Duration = Duration::from_millis(5);
/// A keeper that has just taken another's place may not listen yet.
const KEEPER_LIMIT: Duration = Duration::from_secs(2);

/// What is asked of the keeper.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Request {
    /// The new binary; the file that the node was started from unless given.
    pub(crate) binary: Option<PathBuf>,
    /// Its arguments; the node's unless given.
    pub(crate) arguments: Option<Vec<String>>,
    /// How long it may take to be ready.
    pub(crate) ready_ms: u64,
}

/// What the keeper answers, one after the other.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Progress {
    Step(String),
    Done(Upgraded),
    Failed(String),
}

/// How it went, from the request on.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Upgraded {
    pub(crate) pid: u32,
    pub(crate) ready_ms: u64,
    pub(crate) serving_ms: u64,
    pub(crate) ended_ms: u64,
    /// The old node did not end by itself.
    pub(crate) killed: bool,
}

/// A snapshot, by its names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Configuration {
    lineage: String,
    generation: u64,
}

impl Configuration {
    pub(crate) fn of(plane: &Plane) -> Option<Configuration> {
        let header = plane.current()?.snapshot().header();
        Some(Configuration { lineage: header.lineage.to_string(), generation: header.generation })
    }
}

/// Where the old node stopped.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Left {
    /// What it serves.
    configuration: Option<Configuration>,
    /// When it stopped to run what is scheduled.
    unix_ms: u64,
}

/// What the new node begins with, besides sockets.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Inherited {
    /// By shard, deployments in hexadecimal.
    pub(crate) warm: Vec<Vec<String>>,
    /// Whether the old node has a configuration.
    pub(crate) configured: bool,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToHeir {
    Inherit(Inherited),
    /// Where the old node stopped, unless it crashed.
    Go(Option<Left>),
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum FromHeir {
    Ready,
    Serving,
    Failed(String),
}

/// The new node's side.
pub(crate) struct Heir {
    stream: UnixStream,
    listeners: Vec<TcpListener>,
    admin: Option<TcpListener>,
    inherited: Inherited,
}

impl Heir {
    /// Reads what the keeper gives on standard input.
    pub(crate) fn receive() -> anyhow::Result<Heir> {
        let stream = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned()?);
        let sockets = frames::receive_sockets(&stream).context("`--heir` is for `selvage-node upgrade`")?;
        let mut listeners: Vec<TcpListener> = sockets.into_iter().map(TcpListener::from).collect();
        let admin = listeners.pop();
        let ToHeir::Inherit(inherited) = frames::receive(&stream)? else { bail!("the keeper says something else") };
        Ok(Heir { stream, listeners, admin, inherited })
    }

    pub(crate) fn admin(&mut self) -> anyhow::Result<TcpListener> {
        self.admin.take().context("no admin listener was handed over")
    }

    /// Sockets and Workers for the shards.
    pub(crate) fn inheritance(&mut self) -> Inheritance {
        let id = |text: &String| u128::from_str_radix(text, 16).ok().map(DeploymentId);
        let warm = self.inherited.warm.iter().map(|shard| shard.iter().filter_map(id).collect()).collect();
        Inheritance { listeners: std::mem::take(&mut self.listeners), warm }
    }

    /// Everything up to the first connection. The keeper's end is closed when the upgrade is given up.
    /// Gives since when what is scheduled is this node's affair.
    pub(crate) fn take_place(&self, node: &Node, agent: &mut Agent) -> anyhow::Result<Option<u64>> {
        let plane = agent.handle().plane().clone();
        let readable = plane.current().is_some() || !self.inherited.configured;
        ensure!(readable, "the configuration on disk cannot be read by this version");
        let begin = Instant::now();
        while !node.is_warm() && begin.elapsed() < WARM_LIMIT {
            thread::sleep(LOOK_GAP);
        }
        tracing::info!("standing by");
        frames::send(&self.stream, &FromHeir::Ready)?;
        let ToHeir::Go(left) = frames::receive(&self.stream).context("the upgrade was given up")? else {
            bail!("the keeper says something else");
        };
        agent.take_over(PAUSE_LIMIT)?;
        let Some(left) = left else { return Ok(None) };
        let (current, expected) = (Configuration::of(&plane), left.configuration);
        ensure!(
            current == expected,
            "the newest configuration on disk is {current:?}; the old node served {expected:?}"
        );
        Ok(Some(left.unix_ms))
    }

    pub(crate) fn serving(&self) -> anyhow::Result<()> {
        Ok(frames::send(&self.stream, &FromHeir::Serving)?)
    }

    /// A second end of the line, to say why it came to nothing.
    pub(crate) fn line(&self) -> Option<UnixStream> {
        self.stream.try_clone().ok()
    }
}

/// Tells the keeper why the new node ends.
pub(crate) fn failed(line: &UnixStream, error: &anyhow::Error) {
    // Nobody may listen any more.
    let _ = frames::send(line, &FromHeir::Failed(format!("{error:#}")));
}

/// The old node's side: what it does when the keeper says so.
pub(crate) struct Predecessor {
    pub(crate) handle: AgentHandle,
    pub(crate) workers: Box<dyn Fn(Duration) -> Vec<Vec<DeploymentId>> + Send>,
    /// Leaves what is scheduled to another, or takes it back.
    pub(crate) pause_schedules: Box<dyn Fn(bool) + Send>,
    /// Ends the node.
    pub(crate) hand_over: Box<dyn Fn() + Send>,
}

impl Predecessor {
    /// Listens until the keeper ends.
    pub(crate) fn listen(self, keeper: &UnixStream, say: &Mutex<UnixStream>) {
        while let Ok(said) = frames::receive(keeper) {
            let answer = match said {
                keeper::ToNode::Prepare => keeper::Answer::Prepared(keeper::Prepared {
                    warm: (self.workers)(Duration::from_secs(2))
                        .into_iter()
                        .map(|shard| shard.iter().map(ToString::to_string).collect())
                        .collect(),
                    configuration: Configuration::of(self.handle.plane()),
                }),
                keeper::ToNode::Pause => {
                    let paused = self.handle.pause(PAUSE_LIMIT);
                    (self.pause_schedules)(paused);
                    let left = || Left { configuration: Configuration::of(self.handle.plane()), unix_ms: unix_ms() };
                    keeper::Answer::Paused(paused.then(left))
                }
                keeper::ToNode::Resume => {
                    (self.pause_schedules)(false);
                    self.handle.resume();
                    continue;
                }
                keeper::ToNode::HandOver => {
                    (self.hand_over)();
                    continue;
                }
            };
            let say = say.lock().unwrap_or_else(|it| it.into_inner());
            if frames::send(&say, &keeper::ToKeeper::Answer(answer)).is_err() {
                return;
            }
        }
    }
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    since.as_millis() as u64
}

/// `selvage-node upgrade`.
pub(crate) fn run(args: &UpgradeArgs) -> anyhow::Result<()> {
    let binary = args.binary.as_ref().map(|path| path.canonicalize().with_context(|| path.display().to_string()));
    let arguments = (!args.serve.is_empty()).then(|| [&["serve".to_owned()], args.serve.as_slice()].concat());
    let request = Request { binary: binary.transpose()?, arguments, ready_ms: args.ready_timeout_ms };
    let stream = connect(args)?;
    frames::send(&stream, &keeper::Ask::Upgrade(request))?;
    let mut out = std::io::stdout().lock();
    loop {
        match frames::receive(&stream).context("the keeper has ended; see the node's log")? {
            Progress::Step(text) => writeln!(out, "{text}")?,
            Progress::Failed(why) => bail!("{why}. The running node goes on"),
            Progress::Done(done) => {
                let end = if done.killed { "was killed" } else { "has ended" };
                writeln!(
                    out,
                    "upgraded pid={} ready_ms={} serving_ms={} ended_ms={}; the old node {end}",
                    done.pid, done.ready_ms, done.serving_ms, done.ended_ms
                )?;
                return Ok(());
            }
        }
    }
}

fn connect(args: &UpgradeArgs) -> anyhow::Result<UnixStream> {
    let path = args.data.join(keeper::SOCKET);
    let begin = Instant::now();
    loop {
        match UnixStream::connect(&path) {
            Ok(stream) => return Ok(stream),
            Err(_) if begin.elapsed() < KEEPER_LIMIT => thread::sleep(LOOK_GAP * 10),
            Err(error) => {
                return Err(error).with_context(|| format!("no node's keeper answers at {}", path.display()));
            }
        }
    }
}
