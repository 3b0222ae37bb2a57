//! The keeper's part in an upgrade: starts the new binary, walks both nodes through the steps that `upgrade` names, and goes back where a step
//! fails. On a thread of its own, one upgrade at a time.
//!
//! *Bounds:* every step has a time limit, and what does not end by then is ended. *Failures:* typed as text for the operator; the old node
//! then serves as before.

use crate::frames;
use crate::keeper::{Answer, Event, Shared, ToNode};
use crate::upgrade::{FromHeir, Inherited, Left, Progress, Request, ToHeir, Upgraded};
use rustix::process::{Pid, Signal, getppid, kill_process};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// For the running node to answer: it asks its shards, or waits for a write to disk.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// From `Go` to serving.
const GO_LIMIT: Duration = Duration::from_secs(15);
/// The new node must not have ended so long after it began to serve; both serve meanwhile.
const PROBATION: Duration = Duration::from_millis(300);
/// Beyond its own limit for the drain, for the old node to end.
const END_GRACE: Duration = Duration::from_secs(15);
const LOOK_GAP: Duration = Duration::from_millis(10);

/// A new node that is starting; ended when dropped before it serves.
struct Heir {
    child: Child,
    stream: UnixStream,
    serves: bool,
}

impl Drop for Heir {
    fn drop(&mut self) {
        if !self.serves {
            // It may have ended already.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

impl Heir {
    fn start(keep: &Shared, request: &Request) -> Result<Heir, String> {
        let binary = request.binary.as_ref().unwrap_or(&keep.start.binary);
        let arguments = request.arguments.as_ref().unwrap_or(&keep.start.arguments);
        let (ours, theirs) = UnixStream::pair().map_err(|error| error.to_string())?;
        let mut command = Command::new(binary);
        command.args(arguments).arg("--heir").stdin(Stdio::from(OwnedFd::from(theirs)));
        let child = command.spawn().map_err(|error| format!("cannot start {}: {error}", binary.display()))?;
        Ok(Heir { child, stream: ours, serves: false })
    }

    /// Gives it the sockets, and what else it begins with.
    fn endow(&mut self, keep: &Shared, inherited: Inherited) -> Result<(), String> {
        let sockets: Vec<BorrowedFd<'_>> = keep.sockets.iter().chain([&keep.admin]).map(AsFd::as_fd).collect();
        frames::send_sockets(&self.stream, &sockets).map_err(|error| self.why(&error))?;
        self.tell(&ToHeir::Inherit(inherited))
    }

    fn tell(&mut self, message: &ToHeir) -> Result<(), String> {
        frames::send(&self.stream, message).map_err(|error| self.why(&error))
    }

    /// Why it cannot be spoken with.
    fn why(&mut self, error: &std::io::Error) -> String {
        match self.ended() {
            Some(status) => format!("it ended ({status}); its log says why"),
            None => format!("there is no speaking with it: {error}"),
        }
    }

    /// Its next word.
    fn hear(&mut self, limit: Duration) -> Result<FromHeir, String> {
        self.stream.set_read_timeout(Some(limit)).map_err(|error| error.to_string())?;
        let heard = frames::receive(&self.stream).map_err(|error| match error.kind() {
            std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut => {
                format!("it was not there after {:.1} s", limit.as_secs_f64())
            }
            _ => self.why(&error),
        })?;
        match heard {
            FromHeir::Failed(why) => Err(why),
            heard => Ok(heard),
        }
    }

    /// How it ended, if it did; a process that closes its end may take a moment.
    fn ended(&mut self) -> Option<std::process::ExitStatus> {
        for _ in 0..20 {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Some(status);
            }
            thread::sleep(LOOK_GAP);
        }
        None
    }
}

/// Replaces the node. When this returns an error, the old node serves as it did before.
pub(crate) fn upgrade(keep: &Shared, request: &Request, say: &dyn Fn(Progress)) -> Result<Upgraded, String> {
    let begin = Instant::now();
    let Answer::Prepared(prepared) = keep.ask(&ToNode::Prepare, ANSWER_LIMIT)? else {
        return Err("the running node answers something else".to_owned());
    };
    let mut heir = Heir::start(keep, request)?;
    say(Progress::Step(format!("started process {}", heir.child.id())));
    let inherited = Inherited { warm: prepared.warm, configured: prepared.configuration.is_some() };
    let limit = Duration::from_millis(request.ready_ms);
    let ready = heir.endow(keep, inherited).and_then(|()| heir.hear(limit));
    let FromHeir::Ready = ready.map_err(|why| format!("the new node is not ready: {why}"))? else {
        return Err("the new node says something else than that it is ready".to_owned());
    };
    keep.stays()?;
    let ready_ms = begin.elapsed().as_millis() as u64;
    say(Progress::Step(format!("ready after {ready_ms} ms")));
    let took = take_over(keep, &mut heir);
    if let Err(why) = took {
        drop(heir);
        let _ = keep.tell.send(Event::Reclaim);
        // A node that is gone has nothing to resume.
        let _ = frames::send(&keep.node, &ToNode::Resume);
        return Err(format!("the new node did not take over: {why}"));
    }
    heir.serves = true;
    let serving_ms = begin.elapsed().as_millis() as u64;
    say(Progress::Step(format!("serving after {serving_ms} ms; the old node drains")));
    tracing::info!(pid = heir.child.id(), ready_ms, serving_ms, "the new node serves");
    let _ = frames::send(&keep.node, &ToNode::HandOver);
    let killed = await_end(keep);
    let ended_ms = begin.elapsed().as_millis() as u64;
    Ok(Upgraded { pid: heir.child.id(), ready_ms, serving_ms, ended_ms, killed })
}

/// The steps in which both nodes change.
fn take_over(keep: &Shared, heir: &mut Heir) -> Result<(), String> {
    let left = pause(keep)?;
    let (done, released) = mpsc::channel();
    let _ = keep.tell.send(Event::Release(done));
    released.recv_timeout(ANSWER_LIMIT).map_err(|_| "the keeper does not let go of the sockets".to_owned())?;
    heir.tell(&ToHeir::Go(left))?;
    let FromHeir::Serving = heir.hear(GO_LIMIT)? else { return Err("it does not say that it serves".to_owned()) };
    thread::sleep(PROBATION);
    match heir.child.try_wait() {
        Ok(None) => Ok(()),
        Ok(Some(status)) => Err(format!("it ended ({status}) as soon as it served; its log says why")),
        Err(error) => Err(error.to_string()),
    }
}

/// Has the old node leave the data folder.
fn pause(keep: &Shared) -> Result<Option<Left>, String> {
    match keep.ask(&ToNode::Pause, ANSWER_LIMIT) {
        Ok(Answer::Paused(Some(left))) => Ok(Some(left)),
        // It crashed meanwhile: then the new one is needed all the more, and finds the folder free.
        Err(_) if keep.gone() && !keep.stopping.load(Ordering::Relaxed) => Ok(None),
        Ok(_) => Err("the old node does not end its writes".to_owned()),
        Err(why) => Err(why),
    }
}

/// Waits for the old node's end, and brings it about where it does not come. Whether that was needed.
fn await_end(keep: &Shared) -> bool {
    let limit = Duration::from_millis(keep.start.drain_ms) + END_GRACE;
    let (begin, mut killed) = (Instant::now(), false);
    while !keep.gone() {
        thread::sleep(LOOK_GAP);
        if begin.elapsed() >= limit && !killed && getppid() == Pid::from_raw(keep.start.pid) {
            tracing::error!("the old node does not end: killed");
            killed = getppid().is_some_and(|node| kill_process(node, Signal::KILL).is_ok());
        }
        if begin.elapsed() >= limit * 2 {
            break;
        }
    }
    killed
}

impl Shared {
    /// Whether the node has ended.
    pub(crate) fn gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    /// An error if somebody has told the node to stop.
    fn stays(&self) -> Result<(), String> {
        match self.stopping.load(Ordering::Relaxed) {
            true => Err("the node was told to stop meanwhile".to_owned()),
            false => Ok(()),
        }
    }

    /// Asks the node and waits for what it says.
    fn ask(&self, question: &ToNode, limit: Duration) -> Result<Answer, String> {
        let answers = self.answers.lock().unwrap_or_else(|it| it.into_inner());
        // Of a question that was given up.
        while answers.try_recv().is_ok() {}
        self.stays()?;
        frames::send(&self.node, question).map_err(|_| "the running node does not listen".to_owned())?;
        answers.recv_timeout(limit).map_err(|error| match error {
            RecvTimeoutError::Timeout => "the running node does not answer".to_owned(),
            RecvTimeoutError::Disconnected => "the running node has ended".to_owned(),
        })
    }
}
