//! Servers as child processes: started on chosen cores, waited for, stopped, and never left behind by an error.
//!
//! *Invariant:* a [`Server`] that goes out of scope is killed and waited for. Output goes to a log file beside the run's
//! data; its end is shown when the server fails.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::client::{Answer, Client};
use crate::load::{Scope, Target};
use crate::machine;

/// Bytes of a log that an error message shows.
const LOG_TAIL_BYTES: usize = 2_000;
/// Between two looks at something that is waited for.
const POLL: Duration = Duration::from_millis(5);

/// A running child.
pub struct Server {
    /// For messages.
    pub name: String,
    child: Child,
    log: PathBuf,
    /// Behind a lock only so that threads may share the rest.
    ready: Mutex<mpsc::Receiver<String>>,
}

impl Server {
    /// Starts `command` on `cores` (empty: wherever), with its output in `<dir>/<name>.log`.
    pub fn start(name: &str, mut command: Command, cores: &[usize], dir: &Path) -> anyhow::Result<Server> {
        let log = dir.join(format!("{name}.log"));
        let file = File::create(&log).with_context(|| log.display().to_string())?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(file.try_clone()?);
        let cores = cores.to_vec();
        // A child has the affinity of the thread that starts it: a thread of its own is pinned, and ends.
        let spawned = std::thread::spawn(move || -> anyhow::Result<Child> {
            if !cores.is_empty() {
                machine::pin_thread(&cores)?;
            }
            command.spawn().with_context(|| format!("start {}", command.get_program().to_string_lossy()))
        });
        let mut child = spawned.join().map_err(|_| anyhow!("the starting thread panicked"))??;
        let stdout = child.stdout.take().context("standard output is piped")?;
        let (send, ready) = mpsc::channel();
        std::thread::spawn(move || copy_output(stdout, file, &send));
        Ok(Server { name: name.to_owned(), child, log, ready: Mutex::new(ready) })
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the line `ready key=value …` on standard output.
    pub fn wait_ready(&mut self, timeout: Duration) -> anyhow::Result<HashMap<String, String>> {
        let begin = Instant::now();
        loop {
            let ready = self.ready.get_mut().map_err(|_| anyhow!("nobody else holds the lock"))?;
            match ready.recv_timeout(POLL * 10) {
                Ok(line) => {
                    let pairs = line.split_ascii_whitespace().filter_map(|word| word.split_once('='));
                    return Ok(pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect());
                }
                Err(why) => {
                    self.expect_alive()?;
                    if begin.elapsed() >= timeout {
                        bail!("{} is not ready after {timeout:?}: {}", self.name, self.log_tail());
                    }
                    // A process that ends closes its output a little before.
                    if why == mpsc::RecvTimeoutError::Disconnected {
                        std::thread::sleep(POLL);
                    }
                }
            }
        }
    }

    /// Asks a target of this server until it answers 200.
    pub fn wait_answers(&mut self, target: &Target, timeout: Duration) -> anyhow::Result<Answer> {
        let begin = Instant::now();
        loop {
            let answer = Client::new(target.clone(), Duration::from_secs(2)).get();
            match answer {
                Ok(answer) if answer.status == 200 => return Ok(answer),
                other if begin.elapsed() > timeout => {
                    let what = other.map_or_else(|error| format!("{error:#}"), |answer| answer.status.to_string());
                    bail!("{} does not answer 200 after {timeout:?} ({what}): {}", self.name, self.log_tail());
                }
                _ => self.expect_alive()?,
            }
            std::thread::sleep(POLL);
        }
    }

    /// An error if the process has ended.
    pub fn expect_alive(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} has ended ({status}): {}", self.name, self.log_tail()),
        }
    }

    /// SIGTERM, then SIGKILL after `grace`.
    pub fn stop(mut self, grace: Duration) -> anyhow::Result<ExitStatus> {
        if let Some(pid) = Pid::from_raw(self.child.id() as i32) {
            // It may have ended on its own.
            let _ = kill_process(pid, Signal::TERM);
        }
        let begin = Instant::now();
        while begin.elapsed() < grace {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            std::thread::sleep(POLL);
        }
        self.child.kill()?;
        Ok(self.child.wait()?)
    }

    /// Where its output goes.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The end of its log.
    pub fn log_tail(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&text[text.len().saturating_sub(LOG_TAIL_BYTES)..]).trim().to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only if it has ended and been waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Copies a server's standard output to its log, and hands over its `ready` line. Ends with the server.
fn copy_output(stdout: ChildStdout, mut log: File, ready: &mpsc::Sender<String>) {
    for line in BufReader::new(stdout).lines().map_while(Result::ok) {
        if let Some(rest) = line.strip_prefix("ready ") {
            // Nobody may wait for it.
            let _ = ready.send(rest.to_owned());
        }
        if writeln!(log, "{line}").is_err() {
            return;
        }
    }
}

/// A loopback port that nobody listens on now, for servers that cannot choose one and say which.
pub fn free_port() -> anyhow::Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// A target on a loopback port.
pub fn loopback(port: u16, host: &str, path: &str) -> anyhow::Result<Target> {
    Ok(Target::new(([127, 0, 0, 1], port).into(), host, path, Scope::Loopback)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn reads_the_ready_line_pins_and_stops() -> anyhow::Result<()> {
        let dir = tempfile::tempdir()?;
        let core = machine::cores()[0];
        let script = "echo noise; echo \"ready http=127.0.0.1:1 cores=$(nproc)\"; exec sleep 60";
        let mut server = Server::start("sleeper", shell(script), &[core], dir.path())?;
        let ready = server.wait_ready(Duration::from_secs(10))?;
        assert_eq!((ready["http"].as_str(), ready["cores"].as_str()), ("127.0.0.1:1", "1"));
        let begin = Instant::now();
        server.stop(Duration::from_secs(10))?;
        assert!(begin.elapsed() < Duration::from_secs(5));
        Ok(())
    }

    #[test]
    fn an_early_end_is_an_error_with_the_log() -> anyhow::Result<()> {
        let dir = tempfile::tempdir()?;
        let mut server = Server::start("broken", shell("echo why >&2; exit 3"), &[], dir.path())?;
        let error = server.wait_ready(Duration::from_secs(10)).expect_err("it ends").to_string();
        assert!(error.contains("exit status: 3") && error.contains("why"), "{error}");
        Ok(())
    }

    #[test]
    fn leaves_nothing_behind() -> anyhow::Result<()> {
        let dir = tempfile::tempdir()?;
        let server = Server::start("dropped", shell("exec sleep 60"), &[], dir.path())?;
        let pid = server.pid();
        drop(server);
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
        Ok(())
    }
}
