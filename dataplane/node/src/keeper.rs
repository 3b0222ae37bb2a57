//! `selvage-node keep`: the process that loads the eBPF programs and writes their maps, for the node that started it and that has given
//! up the right to. Runs no tenant's code and reads no packet.
//!
//! Standard input is a socket to the node: the listening sockets first, then frames ([`ToKeeper`]). It ends when the node does. It
//! answers whoever connects to `steer.sock` in the node's data folder (mode 0700) with one JSON document, [`Shown`].
//!
//! *Failures:* whatever is not to be had (privileges, an interface that is gone) is logged once in plain words; an interface is
//! looked for again every five seconds.

use crate::{KeepArgs, logging, steering};
use anyhow::Context;
use plane_abi::steering::Rules;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};
use steer::xdp::Clock;
use steer::{Acceptor, Report, Steering, Unavailable};

/// Where the keeper answers, in the data folder.
pub(crate) const SOCKET: &str = "steer.sock";

const TICK: Duration = Duration::from_secs(1);
const RETRY: Duration = Duration::from_secs(5);
const REBALANCE: Duration = Duration::from_secs(5);
/// Bytes of a frame: 100,000 prefixes as JSON are about 10 MB.
const FRAME_BYTES_MAX: usize = 64 << 20;
const SOCKETS_MAX: usize = 240;
/// How long one that asks may take to read the answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// What the node says.
#[derive(Serialize, Deserialize)]
pub(crate) enum ToKeeper {
    /// Once, after the sockets.
    Start(Start),
    /// The rules of a configuration.
    Rules { rules: Box<Rules>, seed: u32 },
    /// What shards have counted.
    Counts(Vec<Counts>),
}

/// What to steer.
#[derive(Serialize, Deserialize)]
pub(crate) struct Start {
    pub(crate) interface: String,
    pub(crate) listen: SocketAddr,
    /// Of each socket, its shard's core.
    pub(crate) cpus: Vec<Option<u32>>,
    pub(crate) bpffs: PathBuf,
    pub(crate) socket: PathBuf,
}

/// One shard's connections.
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Counts {
    /// All.
    pub(crate) accepted: u64,
    /// Those whose packets came to the shard's core.
    pub(crate) here: u64,
}

/// What the keeper answers.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct Shown {
    pub(crate) report: Report,
    pub(crate) shards: Vec<Counts>,
}

/// Runs until the node's end of standard input is closed.
pub(crate) fn run(args: &KeepArgs) -> anyhow::Result<()> {
    let _log = logging::start(args.log_format);
    let stream = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    let sockets = receive_sockets(&stream)?;
    let (tell, told) = mpsc::channel();
    thread::Builder::new().name("hear".to_owned()).spawn(move || hear(stream, &tell))?;
    let Ok(ToKeeper::Start(start)) = told.recv() else { return Ok(()) };
    let shown = Arc::new(Mutex::new(Shown::default()));
    answer(&start.socket, shown.clone());
    let socket = start.socket.clone();
    Keep { start, sockets, rules: (Rules::default(), 0), steering: None, acceptor: None, problem: None }
        .follow(&told, &shown);
    let _ = fs::remove_file(socket);
    Ok(())
}

struct Keep {
    start: Start,
    sockets: Vec<OwnedFd>,
    rules: (Rules, u32),
    steering: Option<Steering>,
    acceptor: Option<Acceptor>,
    problem: Option<String>,
}

impl Keep {
    fn follow(mut self, told: &mpsc::Receiver<ToKeeper>, shown: &Mutex<Shown>) {
        let (mut tried, mut balanced): (Option<Instant>, Instant) = (None, Instant::now());
        loop {
            // The first rules come at once; the program is attached with them in force.
            match told.recv_timeout(TICK) {
                Ok(ToKeeper::Rules { rules, seed }) => self.take_rules(*rules, seed),
                Ok(ToKeeper::Counts(shards)) => shown.lock().unwrap_or_else(|it| it.into_inner()).shards = shards,
                Ok(ToKeeper::Start(_)) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if self.steering.as_ref().is_some_and(|steering| !steering.interface_is_there()) {
                tracing::warn!(interface = self.start.interface, "the interface is gone: packets are not steered");
                (self.steering, tried) = (None, Some(Instant::now()));
            }
            if self.steering.is_none() && tried.is_none_or(|at| at.elapsed() >= RETRY) {
                tried = Some(Instant::now());
                self.try_start();
            }
            if let Some(steering) = &mut self.steering {
                for drop in steering.drops() {
                    tracing::debug!(reason = steer::report::reason_name(drop.reason.into()), source = %std::net::Ipv6Addr::from(drop.source), "a packet was dropped");
                }
                if balanced.elapsed() >= REBALANCE {
                    balanced = Instant::now();
                    match steering.rebalance() {
                        Ok(moves) if moves.is_empty() => {}
                        Ok(moves) => tracing::info!(slots = moves.len(), "shards were unequally loaded: slots moved"),
                        Err(error) => tracing::warn!(%error, "cannot move slots"),
                    }
                }
            }
            let report = self.report();
            shown.lock().unwrap_or_else(|it| it.into_inner()).report = report;
        }
    }

    fn take_rules(&mut self, rules: Rules, seed: u32) {
        if let Some(steering) = &mut self.steering
            && let Err(error) = steering.apply(&rules, seed, Clock::now())
        {
            tracing::error!(%error, "rules for packets are not in force");
        }
        self.rules = (rules, seed);
    }

    fn try_start(&mut self) {
        match self.begin() {
            Ok(mode) => {
                tracing::info!(interface = self.start.interface, ?mode, "packets are steered to shards");
                self.problem = None;
            }
            Err(error) => {
                let problem = error.to_string();
                if self.problem.as_ref() != Some(&problem) {
                    tracing::warn!("packets are not steered: {problem}");
                }
                self.problem = Some(problem);
            }
        }
    }

    fn begin(&mut self) -> Result<Option<steer::Mode>, Unavailable> {
        let config = steer::Config {
            interface: self.start.interface.clone(),
            ports: steering::ports(self.start.listen),
            cpus: self.start.cpus.iter().copied().flatten().collect(),
            pin: Some(self.start.bpffs.clone()),
            driver: true,
            mac: None,
        };
        let steering = Steering::start(config, &self.rules.0, self.rules.1, Clock::now())?;
        if self.acceptor.is_none() && self.start.cpus.iter().all(Option::is_some) {
            let sockets: Vec<_> = self.sockets.drain(..).zip(self.start.cpus.iter().copied()).collect();
            self.acceptor = Some(Acceptor::attach(&sockets)?);
        }
        let mode = steering.report().mode;
        self.steering = Some(steering);
        Ok(mode)
    }

    fn report(&self) -> Report {
        let Some(steering) = &self.steering else {
            return Report {
                interface: self.start.interface.clone(),
                problem: Some(self.problem.clone().unwrap_or_else(|| "not attached yet".to_owned())),
                ..Report::default()
            };
        };
        let mut report = steering.report();
        for (cpu, tally) in self.acceptor.iter().flat_map(Acceptor::tallies).enumerate() {
            if let Some(cpu) = report.cpus.get_mut(cpu) {
                cpu.accepted = tally;
            }
        }
        report
    }
}

/// The byte with the sockets beside it.
fn receive_sockets(stream: &UnixStream) -> anyhow::Result<Vec<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    recvmsg(stream, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)
        .context("cannot take the listening sockets")?;
    let sockets = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(sockets) => Some(sockets.collect::<Vec<_>>()),
        _ => None,
    });
    Ok(sockets.flatten().collect())
}

/// Reads frames until the node is gone.
fn hear(mut stream: UnixStream, tell: &mpsc::Sender<ToKeeper>) {
    loop {
        let mut length = [0; 4];
        if stream.read_exact(&mut length).is_err() {
            return;
        }
        let length = u32::from_le_bytes(length) as usize;
        if length > FRAME_BYTES_MAX {
            return;
        }
        let mut text = vec![0; length];
        let Ok(message) =
            stream.read_exact(&mut text).map_err(drop).and_then(|()| serde_json::from_slice(&text).map_err(drop))
        else {
            return;
        };
        if tell.send(message).is_err() {
            return;
        }
    }
}

/// Answers whoever asks, one at a time.
fn answer(path: &Path, shown: Arc<Mutex<Shown>>) {
    let _ = fs::remove_file(path);
    let listener = match UnixListener::bind(path) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::warn!(%error, path = %path.display(), "`selvage-node steer` will not be answered");
            return;
        }
    };
    let answering = thread::Builder::new().name("answer".to_owned()).spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let text = serde_json::to_vec(&*shown.lock().unwrap_or_else(|it| it.into_inner())).unwrap_or_default();
            let _ = stream.set_write_timeout(Some(ANSWER_TIMEOUT));
            let _ = stream.write_all(&text);
        }
    });
    if let Err(error) = answering {
        tracing::warn!(%error, "`selvage-node steer` will not be answered");
    }
}
