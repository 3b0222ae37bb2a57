//! One child process: its lines with its name in front, its `ready` line, its end.
//!
//! A child is in a process group of its own: Ctrl-C in the terminal reaches only us, and we stop the children in the right order.
//! Two threads a child copy its lines to standard error; they end with its pipes. A dropped child is stopped.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::POLL_INTERVAL;
use super::signals::Signals;
use crate::progress::{say, warn};

/// A running child.
pub(super) struct Process {
    name: &'static str,
    child: Child,
    ready: Receiver<String>,
}

impl Process {
    /// Starts it and begins to copy its lines.
    pub(super) fn start(name: &'static str, command: &mut Command) -> Result<Self> {
        let program = command.get_program().to_string_lossy().into_owned();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .with_context(|| format!("starting {program}"))?;
        let (sender, ready) = sync_channel(1);
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let process = Self { name, child, ready };
        if let Some(out) = out {
            thread::Builder::new().name(format!("{name} out")).spawn(move || copy(name, out, Some(&sender)))?;
        }
        if let Some(err) = err {
            thread::Builder::new().name(format!("{name} err")).spawn(move || copy(name, err, None))?;
        }
        Ok(process)
    }

    /// What it is called in the logs.
    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    /// Waits for its line `ready …`.
    pub(super) fn until_ready(&mut self, timeout: Duration, signals: &Signals) -> Result<String> {
        let deadline = Instant::now() + timeout;
        loop {
            match self.ready.recv_timeout(POLL_INTERVAL) {
                Ok(line) => return Ok(line),
                Err(RecvTimeoutError::Disconnected) => {
                    // Its standard output is closed: it is ending.
                    if let Some(status) = self.ended()? {
                        bail!("{} ended before it was ready: {status}", self.name);
                    }
                    thread::sleep(POLL_INTERVAL);
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            if signals.interrupted() {
                bail!("interrupted while {} was starting", self.name);
            }
            if Instant::now() >= deadline {
                bail!("{} was not ready within {} s", self.name, timeout.as_secs());
            }
        }
    }

    /// How it ended, if it did.
    pub(super) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().with_context(|| format!("looking at {}", self.name))
    }

    /// Asks it to end, waits, and kills it if it does not, or if a second signal comes.
    pub(super) fn stop(mut self, timeout: Duration, signals: &Signals) {
        if matches!(self.ended(), Ok(Some(_))) {
            return;
        }
        self.ask_to_end();
        let deadline = Instant::now() + timeout;
        while Instant::now() < deadline && !signals.interrupted() {
            match self.ended() {
                Ok(Some(status)) if status.success() => return say("dev", format!("{} stopped", self.name)),
                Ok(Some(status)) => return warn("dev", format!("{} stopped badly: {status}", self.name)),
                Ok(None) => thread::sleep(POLL_INTERVAL),
                Err(_) => break,
            }
        }
        warn("dev", format!("{} did not stop within {} s: killed", self.name, timeout.as_secs()));
    }

    fn ask_to_end(&self) {
        // It fails only where the child is gone already.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
    }
}

impl Drop for Process {
    /// Whatever happens, nothing of ours stays behind.
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Copies lines to standard error; the first `ready …` goes to the one who waits for it.
fn copy(name: &str, from: impl Read, ready: Option<&SyncSender<String>>) {
    let mut lines = BufReader::new(from);
    let mut line = Vec::new();
    loop {
        line.clear();
        match lines.read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end();
        match ready {
            Some(ready) if text.starts_with("ready ") => {
                let _ = ready.try_send(text.to_owned());
            }
            _ => eprintln!("{name:>12} | {text}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Process {
        Process::start("test", Command::new("sh").args(["-c", script])).unwrap()
    }

    #[test]
    fn the_ready_line_is_given_to_who_waits_and_an_early_end_is_an_error() {
        let soon = Duration::from_secs(20);
        let signals = Signals::never();
        let mut good = shell("echo first; echo ready at=1; exec sleep 60");
        assert_eq!(good.until_ready(soon, &signals).unwrap(), "ready at=1");
        let text = shell("echo no; exit 3").until_ready(soon, &signals).unwrap_err().to_string();
        assert!(text.contains("ended before it was ready") && text.contains('3'), "{text}");
        let text = shell("exec sleep 60").until_ready(Duration::from_millis(60), &signals).unwrap_err().to_string();
        assert!(text.contains("not ready within"), "{text}");
    }

    #[test]
    fn stopping_asks_first_and_kills_who_does_not_listen() {
        let signals = Signals::never();
        let mut polite = shell("trap 'exit 0' TERM; echo ready; echo ready x; while :; do sleep 0.05; done");
        polite.until_ready(Duration::from_secs(20), &signals).unwrap();
        let began = Instant::now();
        polite.stop(Duration::from_secs(20), &signals);
        assert!(began.elapsed() < Duration::from_secs(15), "it listened");

        let mut deaf = shell("trap '' TERM; echo ready x; while :; do sleep 0.05; done");
        deaf.until_ready(Duration::from_secs(20), &signals).unwrap();
        let pid = Pid::from_child(&deaf.child);
        deaf.stop(Duration::from_millis(200), &signals);
        assert!(kill_process(pid, Signal::CONT).is_err(), "it is gone");
    }
}
