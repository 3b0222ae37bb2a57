//! One process of the platform: started, awaited, watched, stopped.
//!
//! *Invariants:* the process is in a group of its own, so that Ctrl-C at the terminal reaches only `selvage`, which stops the others
//! in order; it is gone when this value is dropped. Its stderr is kept, the last [`KEPT_LINES`] lines of it, to be shown when it
//! ends on its own. Bounds: [`STOP_TIMEOUT`], then SIGKILL.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::failure::{Failure, Outcome};
use crate::output::{Ink, Output, printable};

/// SIGTERM to SIGKILL; a node drains for 30 s at most.
const STOP_TIMEOUT: Duration = Duration::from_secs(35);
/// Lines of stderr that are kept.
const KEPT_LINES: usize = 20;

/// A running process.
pub(crate) struct Process {
    name: &'static str,
    child: Child,
    said: Arc<Mutex<VecDeque<String>>>,
    stopped: bool,
}

/// The process's `ready` line.
pub(crate) struct Ready(String);

impl Ready {
    /// The address in its word `key=ADDR` or `key=http://ADDR`.
    pub(crate) fn address(&self, key: &str) -> Outcome<SocketAddr> {
        let word = self.0.split_whitespace().find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
        word.and_then(|address| address.trim_start_matches("http://").parse().ok())
            .ok_or_else(|| Failure::failed(format!("no address {key}= in {:?}", self.0)))
    }
}

impl Process {
    /// Starts it and waits for the line on its stdout that begins with `ready`.
    pub(crate) fn start(
        name: &'static str,
        mut command: Command,
        output: Output,
        verbose: bool,
        timeout: Duration,
        stop: &AtomicBool,
    ) -> Outcome<(Process, Ready)> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command
            .spawn()
            .map_err(|error| Failure::failed(format!("cannot start {}: {error}", command.get_program().display())))?;
        let said = Arc::new(Mutex::new(VecDeque::new()));
        let stderr = BufReader::new(child.stderr.take().expect("stderr is piped"));
        keep(name, stderr, Arc::clone(&said), verbose.then_some(output));
        let stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            // Read to the end, so that the process never blocks on its stdout.
            for line in stdout.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let mut process = Process { name, child, said, stopped: false };
        let deadline = Instant::now() + timeout;
        loop {
            match lines.recv_timeout(Duration::from_millis(50)) {
                Ok(line) if line.split_whitespace().next() == Some("ready") => return Ok((process, Ready(line))),
                Ok(_) | Err(mpsc::RecvTimeoutError::Timeout) => process.check()?,
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    process.check()?;
                    std::thread::sleep(Duration::from_millis(50));
                }
            }
            if stop.load(Ordering::Relaxed) {
                return Err(Failure::failed("stopped"));
            }
            if Instant::now() > deadline {
                return Err(Failure::failed(format!("selvage-{name} was not ready in {} s", timeout.as_secs())));
            }
        }
    }

    /// Fails if the process has ended on its own.
    pub(crate) fn check(&mut self) -> Outcome {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => {
                self.stopped = true;
                // Its last words may still be on the way through the pipe.
                std::thread::sleep(Duration::from_millis(50));
                Err(self.ended(status))
            }
            Err(error) => Err(Failure::failed(format!("cannot watch selvage-{}: {error}", self.name))),
        }
    }

    fn ended(&self, status: ExitStatus) -> Failure {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let said: Vec<&str> = said.iter().map(String::as_str).collect();
        let mut failure = Failure::failed(format!("selvage-{} ended: {status}", self.name));
        if !said.is_empty() {
            failure.excerpt = Some(said.join("\n"));
        }
        failure
    }

    /// Ends the process: SIGTERM, then after a time SIGKILL.
    pub(crate) fn stop(&mut self) -> Outcome {
        if self.stopped {
            return Ok(());
        }
        self.stopped = true;
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            // It is a child that has not been waited for, so the id is still its own; if it has ended, that is what is wanted.
            let _ = kill_process(pid, Signal::TERM);
        }
        let deadline = Instant::now() + STOP_TIMEOUT;
        while Instant::now() < deadline {
            match self.child.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => return Err(self.ended(status)),
                Ok(None) => std::thread::sleep(Duration::from_millis(10)),
                Err(_) => break,
            }
        }
        // After SIGKILL there is nothing more to try.
        let _ = self.child.kill();
        let _ = self.child.wait();
        Err(Failure::failed(format!(
            "selvage-{} did not stop in {} s and was killed",
            self.name,
            STOP_TIMEOUT.as_secs()
        )))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A failure is being reported already, or `stop` has been called.
        let _ = self.stop();
    }
}

fn keep(
    name: &'static str,
    stderr: impl BufRead + Send + 'static,
    said: Arc<Mutex<VecDeque<String>>>,
    show: Option<Output>,
) {
    std::thread::spawn(move || {
        for line in stderr.lines().map_while(Result::ok) {
            let line = printable(&line);
            if let Some(output) = show {
                output.note(&format!("{} {line}", output.ink_stderr(Ink::Dim, &format!("[{name}]"))));
            }
            let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
            if said.len() == KEPT_LINES {
                said.pop_front();
            }
            said.push_back(line);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Colour;

    fn start(script: &str, timeout_ms: u64) -> Outcome<(Process, Ready)> {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        let output = Output::new(true, Colour::Never);
        Process::start("test", command, output, false, Duration::from_millis(timeout_ms), &AtomicBool::new(false))
    }

    #[test]
    fn ready_gives_addresses_and_stop_ends_it() {
        let (mut process, ready) =
            start("echo ready api=http://127.0.0.1:7 push=[::1]:8; exec sleep 60", 5_000).expect("ready");
        assert_eq!(ready.address("api").map(|a| a.port()), Ok(7));
        assert_eq!(ready.address("push").map(|a| a.port()), Ok(8));
        assert!(ready.address("http").is_err());
        process.check().expect("it runs");
        // sh was replaced by sleep, which SIGTERM ends with that signal: not a clean stop, and said so.
        assert!(process.stop().expect_err("ended by the signal").message.contains("signal: 15"));
    }

    #[test]
    fn a_process_that_ends_shows_its_last_words() {
        let failure = start("echo some; echo no port >&2; exit 3", 5_000).err().expect("it ended");
        assert!(failure.message.contains("exit status: 3"), "{failure:?}");
        assert_eq!(failure.excerpt.as_deref(), Some("no port"));
    }

    #[test]
    fn a_process_that_is_never_ready_is_stopped() {
        let begun = Instant::now();
        let failure = start("exec sleep 60", 200).err().expect("not ready");
        assert!(failure.message.contains("not ready"), "{failure:?}");
        assert!(begun.elapsed() < Duration::from_secs(30));
    }
}
