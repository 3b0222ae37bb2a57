//! `selvage-node keep`: the process beside a node that is not fenced as the node is. It loads the eBPF programs and writes their maps, and it
//! starts the node's successor ([`crate::succession`]). Runs no tenant's code and reads no packet.
//!
//! Standard input is a socket to the node: its sockets first, then frames ([`ToKeeper`], and [`ToNode`] the other way). What it starts, and
//! how, the node says once, before it runs any tenant's code. It ends when the node does. It answers whoever connects to `keeper.sock` in the
//! node's data folder (mode 0700) and asks with a frame, [`Ask`]; but nobody who is fenced more than the keeper itself, as the node is:
//! a tenant that has taken the node over gets no new process out of the keeper.
//!
//! *Failures:* whatever is not to be had (privileges, an interface that is gone) is logged once in plain words; an interface is
//! looked for again every five seconds.

use crate::upgrade::{Configuration, Left, Progress, Request};
use crate::{KeepArgs, frames, logging, steering, succession};
use anyhow::Context;
use plane_abi::steering::Rules;
use rustix::net::sockopt::socket_peercred;
use serde::{Deserialize, Serialize};
use std::fs;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};
use steer::xdp::Clock;
use steer::{Acceptor, Report, Steering, Unavailable};

/// Where the keeper answers, in the data folder.
pub(crate) const SOCKET: &str = "keeper.sock";

const TICK: Duration = Duration::from_secs(1);
const RETRY: Duration = Duration::from_secs(5);
const REBALANCE: Duration = Duration::from_secs(5);
/// How long one that asks may take to ask, and to read the answer.
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
    /// To what the keeper asked.
    Answer(Answer),
    /// Somebody has told the node to stop.
    Stopping,
}

/// What the keeper says.
#[derive(Serialize, Deserialize)]
pub(crate) enum ToNode {
    /// What should a successor have?
    Prepare,
    /// Leave the data folder.
    Pause,
    /// Use it again.
    Resume,
    /// The successor serves: drain and end.
    HandOver,
}

/// What the node answers.
#[derive(Serialize, Deserialize)]
pub(crate) enum Answer {
    Prepared(Prepared),
    /// Where it stopped, if it did.
    Paused(Option<Left>),
}

/// Where a successor begins.
#[derive(Serialize, Deserialize)]
pub(crate) struct Prepared {
    /// By shard, deployments whose Workers are up.
    pub(crate) warm: Vec<Vec<String>>,
    pub(crate) configuration: Option<Configuration>,
}

/// What to keep.
#[derive(Serialize, Deserialize)]
pub(crate) struct Start {
    /// Whose packets to steer.
    pub(crate) interface: Option<String>,
    pub(crate) listen: SocketAddr,
    /// Of each socket, its shard's core. One more socket comes than there are shards: the admin listener.
    pub(crate) cpus: Vec<Option<u32>>,
    pub(crate) bpffs: PathBuf,
    pub(crate) socket: PathBuf,
    /// The node: its process, program, arguments and limit for a drain.
    pub(crate) pid: i32,
    pub(crate) binary: PathBuf,
    pub(crate) arguments: Vec<String>,
    pub(crate) drain_ms: u64,
}

/// What may be asked of the keeper.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Ask {
    /// [`Shown`].
    Show,
    /// [`Progress`], until it has come to an end.
    Upgrade(Request),
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

/// What the keeper's threads share.
pub(crate) struct Shared {
    pub(crate) start: Start,
    pub(crate) sockets: Vec<OwnedFd>,
    pub(crate) admin: OwnedFd,
    pub(crate) node: UnixStream,
    pub(crate) answers: Mutex<mpsc::Receiver<Answer>>,
    pub(crate) tell: mpsc::Sender<Event>,
    /// The node has ended.
    pub(crate) gone: AtomicBool,
    /// It was told to.
    pub(crate) stopping: AtomicBool,
    upgrading: AtomicBool,
    /// The file of this keeper's socket: another keeper may have put its own in that place.
    file: AtomicU64,
    shown: Mutex<Shown>,
}

/// What the main thread is told.
pub(crate) enum Event {
    Node(ToKeeper),
    /// Let go of programs and sockets; then say so.
    Release(mpsc::Sender<()>),
    /// The upgrade came to nothing.
    Reclaim,
    /// The node has ended, or an upgrade.
    Look,
}

/// Runs until the node's end of standard input is closed.
pub(crate) fn run(args: &KeepArgs) -> anyhow::Result<()> {
    let _log = logging::start(args.log_format);
    let node = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    let mut sockets = frames::receive_sockets(&node).context("cannot take the listening sockets")?;
    let (Ok(ToKeeper::Start(start)), Some(admin)) = (frames::receive(&node), sockets.pop()) else { return Ok(()) };
    let (tell, told) = mpsc::channel();
    let (answer, answers) = mpsc::channel();
    let shared = Arc::new(Shared {
        start,
        sockets,
        admin,
        node,
        answers: Mutex::new(answers),
        tell,
        gone: AtomicBool::new(false),
        stopping: AtomicBool::new(false),
        upgrading: AtomicBool::new(false),
        file: AtomicU64::new(0),
        shown: Mutex::default(),
    });
    let hearing = shared.clone();
    thread::Builder::new().name("hear".to_owned()).spawn(move || hear(&hearing, &answer))?;
    listen(&shared);
    Keep::new(shared.clone()).follow(&told);
    if file_of(&shared) == Some(shared.file.load(Ordering::Relaxed)) {
        let _ = fs::remove_file(&shared.start.socket);
    }
    Ok(())
}

struct Keep {
    shared: Arc<Shared>,
    rules: (Rules, u32),
    steering: Option<Steering>,
    acceptor: Option<Acceptor>,
    problem: Option<String>,
    tried: Option<Instant>,
    /// A successor has programs and sockets.
    released: bool,
}

impl Keep {
    fn new(shared: Arc<Shared>) -> Keep {
        Keep {
            shared,
            rules: (Rules::default(), 0),
            steering: None,
            acceptor: None,
            problem: None,
            tried: None,
            released: false,
        }
    }

    /// Until the node has ended, and an upgrade that is under way.
    fn follow(mut self, told: &mpsc::Receiver<Event>) {
        let mut balanced = Instant::now();
        loop {
            // The first rules come at once; the program is attached with them in force.
            match told.recv_timeout(TICK) {
                Ok(event) => self.hear(event),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if self.shared.gone() && !self.shared.upgrading.load(Ordering::Acquire) {
                return;
            }
            if self.released {
                continue;
            }
            self.look_after_interface();
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
            self.shared.shown().report = report;
        }
    }

    fn hear(&mut self, event: Event) {
        match event {
            Event::Node(ToKeeper::Rules { rules, seed }) => self.take_rules(*rules, seed),
            Event::Node(ToKeeper::Counts(shards)) => self.shared.shown().shards = shards,
            Event::Release(done) => {
                self.release();
                let _ = done.send(());
            }
            Event::Reclaim => {
                (self.released, self.tried) = (false, None);
                // The successor's keeper may have taken the place.
                if file_of(&self.shared) != Some(self.shared.file.load(Ordering::Relaxed)) {
                    listen(&self.shared);
                }
            }
            Event::Node(_) | Event::Look => {}
        }
    }

    /// What is pinned stays in force, for the successor to put its own in that place; what is not is taken off.
    fn release(&mut self) {
        self.steering = None;
        if let Some(acceptor) = self.acceptor.take() {
            acceptor.release();
        }
        self.released = true;
    }

    fn look_after_interface(&mut self) {
        let Some(interface) = self.shared.start.interface.clone() else { return };
        if self.steering.as_ref().is_some_and(|steering| !steering.interface_is_there()) {
            tracing::warn!(interface, "the interface is gone: packets are not steered");
            (self.steering, self.tried) = (None, Some(Instant::now()));
        }
        if self.steering.is_none() && self.tried.is_none_or(|at| at.elapsed() >= RETRY) {
            self.tried = Some(Instant::now());
            self.try_start(&interface);
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

    fn try_start(&mut self, interface: &str) {
        match self.begin(interface) {
            Ok(mode) => {
                tracing::info!(interface, ?mode, "packets are steered to shards");
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

    fn begin(&mut self, interface: &str) -> Result<Option<steer::Mode>, Unavailable> {
        let start = &self.shared.start;
        let config = steer::Config {
            interface: interface.to_owned(),
            ports: steering::ports(start.listen),
            cpus: start.cpus.iter().copied().flatten().collect(),
            pin: Some(start.bpffs.clone()),
            driver: true,
            mac: None,
        };
        let steering = Steering::start(config, &self.rules.0, self.rules.1, Clock::now())?;
        if self.acceptor.is_none() && start.cpus.iter().all(Option::is_some) {
            let sockets: Vec<_> = self.shared.sockets.iter().map(AsFd::as_fd).zip(start.cpus.iter().copied()).collect();
            let kept = steering.place_for_sockets(start.listen.port());
            self.acceptor = Some(Acceptor::attach(&sockets, kept.as_deref())?);
        }
        let mode = steering.report().mode;
        self.steering = Some(steering);
        Ok(mode)
    }

    fn report(&self) -> Report {
        let Some(steering) = &self.steering else {
            let none = if self.shared.start.interface.is_some() { "not attached yet" } else { "not asked for" };
            return Report {
                interface: self.shared.start.interface.clone().unwrap_or_else(|| "none".to_owned()),
                problem: Some(self.problem.clone().unwrap_or_else(|| none.to_owned())),
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

impl Shared {
    fn shown(&self) -> std::sync::MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(|it| it.into_inner())
    }
}

/// Reads frames until the node is gone.
fn hear(shared: &Shared, answer: &mpsc::Sender<Answer>) {
    while let Ok(message) = frames::receive(&shared.node) {
        match message {
            // How a successor is started was said once.
            ToKeeper::Start(_) => {}
            ToKeeper::Answer(said) => _ = answer.send(said),
            ToKeeper::Stopping => shared.stopping.store(true, Ordering::Relaxed),
            message => _ = shared.tell.send(Event::Node(message)),
        }
    }
    shared.gone.store(true, Ordering::Release);
    let _ = shared.tell.send(Event::Look);
}

/// The file at the socket's place.
fn file_of(shared: &Shared) -> Option<u64> {
    Some(fs::metadata(&shared.start.socket).ok()?.ino())
}

/// Answers whoever asks.
fn listen(shared: &Arc<Shared>) {
    let path = &shared.start.socket;
    let _ = fs::remove_file(path);
    let listener = match UnixListener::bind(path) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::warn!(%error, path = %path.display(), "`selvage-node steer` and `upgrade` will not be answered");
            return;
        }
    };
    shared.file.store(file_of(shared).unwrap_or(0), Ordering::Relaxed);
    let shared = shared.clone();
    let answering = thread::Builder::new().name("answer".to_owned()).spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else { continue };
            if let Err(error) = answer(&shared, stream) {
                tracing::warn!(%error, "somebody asked and was not answered");
            }
        }
    });
    if let Err(error) = answering {
        tracing::warn!(%error, "`selvage-node steer` and `upgrade` will not be answered");
    }
}

fn answer(shared: &Arc<Shared>, stream: UnixStream) -> anyhow::Result<()> {
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
    match frames::receive(&stream)? {
        Ask::Show => Ok(frames::send(&stream, &*shared.shown())?),
        Ask::Upgrade(request) => {
            if is_fenced(&stream)? {
                return refuse(&stream, "a fenced process may not ask for an upgrade");
            }
            if shared.gone() || shared.upgrading.swap(true, Ordering::AcqRel) {
                return refuse(&stream, "an upgrade is under way");
            }
            let upgrading = shared.clone();
            let work = move || {
                // Who asked may have gone.
                let say = |progress: Progress| _ = frames::send(&stream, &progress);
                match succession::upgrade(&upgrading, &request, &say) {
                    Ok(done) => say(Progress::Done(done)),
                    Err(why) => {
                        tracing::error!(why, "no upgrade");
                        say(Progress::Failed(why));
                    }
                }
                upgrading.upgrading.store(false, Ordering::Release);
                let _ = upgrading.tell.send(Event::Look);
            };
            let begun = thread::Builder::new().name("upgrade".to_owned()).spawn(work);
            Ok(begun.map(drop).inspect_err(|_| shared.upgrading.store(false, Ordering::Release))?)
        }
    }
}

fn refuse(stream: &UnixStream, why: &str) -> anyhow::Result<()> {
    tracing::warn!(why, "no upgrade");
    Ok(frames::send(stream, &Progress::Failed(why.to_owned()))?)
}

/// Whether the process at the other end has more filters of system calls than this one: the node, and what comes from it.
fn is_fenced(stream: &UnixStream) -> anyhow::Result<bool> {
    let peer = socket_peercred(stream)?.pid.as_raw_nonzero();
    let (theirs, ours) =
        (fs::read_to_string(format!("/proc/{peer}/status"))?, fs::read_to_string("/proc/self/status")?);
    Ok(filters(&theirs) > filters(&ours))
}

/// Of `/proc/<id>/status`; a kernel that does not say has them counted as one if there are any.
fn filters(status: &str) -> u32 {
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    field("Seccomp_filters:").or_else(|| field("Seccomp:").map(|mode: u32| mode.min(1))).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_of_system_calls_are_counted() {
        assert_eq!(filters("Name:\tx\nSeccomp:\t2\nSeccomp_filters:\t3\n"), 3);
        assert_eq!((filters("Seccomp:\t2\n"), filters("Seccomp:\t0\n"), filters("")), (1, 0, 0));
        let (here, _there) = UnixStream::pair().expect("a pair");
        assert!(!is_fenced(&here).expect("this very process"));
    }

    const SOCKET_VARIABLE: &str = "SELVAGE_TEST_KEEPER_SOCKET";

    /// Run by the test below, in a process of its own: filters cannot be taken off again.
    #[test]
    #[ignore = "a part of another test"]
    fn asks_from_within_a_fence() {
        pkey::fence::deny_calls().expect("this kernel has seccomp");
        let path = std::env::var_os(SOCKET_VARIABLE).expect("the other test says where");
        let stream = UnixStream::connect(path).expect("it listens");
        // Until the other end has looked.
        let _: std::io::Result<()> = frames::receive(&stream);
    }

    #[test]
    fn a_fenced_process_is_known_as_one() {
        let folder = std::env::temp_dir().join(format!("selvage-keeper-{}", std::process::id()));
        let listener = UnixListener::bind(&folder).expect("a free name");
        let mut command = std::process::Command::new(std::env::current_exe().expect("a test knows its own path"));
        command.args(["--exact", "--ignored", "keeper::tests::asks_from_within_a_fence"]).env(SOCKET_VARIABLE, &folder);
        let mut child = command.stdout(std::process::Stdio::null()).spawn().expect("it runs");
        let (stream, _) = listener.accept().expect("it connects");
        let fenced = is_fenced(&stream);
        frames::send(&stream, &()).expect("it listens");
        assert!(child.wait().expect("it ends").success());
        let _ = fs::remove_file(&folder);
        assert!(fenced.expect("it was there"), "it has a filter more than this process");
    }
}
