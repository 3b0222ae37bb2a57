//! A process of the platform under test: started, killed by its id, gone when dropped.
//!
//! stdout is read by a thread for its `ready` line and to keep the pipe empty; stderr goes to a file, so that a failed test can show it.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Time for the `ready` line, on a machine that does much else.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
/// Lines of a log that a failed test shows.
const SHOWN_LINES: usize = 40;

/// A running, or ended, process.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    lines: Receiver<String>,
    ended: Option<ExitStatus>,
}

impl Process {
    /// Starts it; stderr is appended to `log`.
    pub fn start(name: &str, mut command: Command, log: &Path) -> Process {
        let stderr = File::options().create(true).append(true).open(log).expect("a log file in the test's folder");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr);
        let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                // The receiver is gone with the process's value; the pipe is emptied all the same.
                let _ = sender.send(line);
            }
        });
        Process { name: name.to_owned(), child, log: log.to_owned(), lines, ended: None }
    }

    /// The process's id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next line of stdout for which `want` holds.
    pub fn line(&mut self, want: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + READY_TIMEOUT;
        loop {
            match self.lines.recv_timeout(Duration::from_millis(100)) {
                Ok(line) if want(&line) => return line,
                Ok(_) => continue,
                Err(_) if self.is_running() => {}
                Err(_) => panic!("{} ended: {:?}\n{}", self.name, self.ended, self.log_tail()),
            }
            assert!(Instant::now() < deadline, "{} said nothing of the kind\n{}", self.name, self.log_tail());
        }
    }

    /// A line of stdout that is there already, or comes within `limit`.
    pub fn line_within(&mut self, limit: Duration) -> Option<String> {
        self.lines.recv_timeout(limit).ok()
    }

    /// The addresses `key=ADDR` of the `ready` line; one may come as `http://ADDR`.
    pub fn ready<const N: usize>(&mut self, keys: [&str; N]) -> [SocketAddr; N] {
        let line = self.line(|line| line.starts_with("ready "));
        keys.map(|key| {
            let word = line.split_whitespace().find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
            word.and_then(|address| address.trim_start_matches("http://").parse().ok())
                .unwrap_or_else(|| panic!("no {key}= in {line:?}"))
        })
    }

    /// Whether it runs.
    pub fn is_running(&mut self) -> bool {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().expect("a child can be waited for");
        }
        self.ended.is_none()
    }

    /// Sends a signal, if it runs.
    pub fn signal(&mut self, signal: Signal) {
        if self.is_running() {
            let pid = Pid::from_raw(self.child.id() as i32).expect("a process id is positive");
            kill_process(pid, signal).expect("a child that was not waited for can be signalled");
        }
    }

    /// SIGKILL, and waits.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.ended = Some(self.child.wait().expect("a child can be waited for"));
    }

    /// Waits for its end.
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let deadline = Instant::now() + limit;
        while self.is_running() {
            assert!(Instant::now() < deadline, "{} did not end within {limit:?}\n{}", self.name, self.log_tail());
            std::thread::sleep(Duration::from_millis(5));
        }
        self.ended.expect("it has ended")
    }

    /// SIGTERM, and waits.
    pub fn stop(&mut self, limit: Duration) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait(limit)
    }

    /// Resident memory, bytes.
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes =
            line.and_then(|rest| rest.split_whitespace().next()).and_then(|number| number.parse::<u64>().ok());
        kilobytes.unwrap_or(0) * 1024
    }

    /// The last lines of its stderr.
    pub fn log_tail(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        let tail = &lines[lines.len().saturating_sub(SHOWN_LINES)..];
        format!("--- {} ---\n{}\n---", self.log.display(), tail.join("\n"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.log_tail());
        }
        // Nobody can be told any more; a child that has ended is no failure.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
