//! A PostgreSQL of one test: a server of its own in a folder of its own, on a Unix socket there, ended with its value, or with the
//! thread that started it last.
//!
//! The server refuses to run as root, so as root it runs as the user `postgres`, or `nobody`. It does not sync files: a killed
//! process loses nothing by that, only a machine that loses power does. *Bounds:* 64 connections.

use std::os::unix::fs::chown;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Signal, getuid};

use crate::process::Process;
use crate::{eventually, skipped};

/// Where Debian has the programs, the newest version first.
const FOLDERS: [&str; 3] = ["/usr/lib/postgresql/17/bin", "/usr/lib/postgresql/16/bin", "/usr/lib/postgresql/15/bin"];
/// A start, also one that recovers what a kill left, on a machine that does much else.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// A running server, or one that a test has ended.
pub struct PostgresServer {
    process: Option<Process>,
    bin: PathBuf,
    user: Option<User>,
    folder: tempfile::TempDir,
}

#[derive(Clone, Copy)]
struct User {
    uid: u32,
    gid: u32,
}

impl PostgresServer {
    /// A new, empty server; or none, after saying that `what` is skipped, where PostgreSQL is not installed.
    pub fn start(what: &str) -> Option<PostgresServer> {
        let Some(bin) = FOLDERS.map(PathBuf::from).into_iter().find(|bin| bin.join("postgres").is_file()) else {
            skipped(&format!("{what}: there is no PostgreSQL: Debian's package `postgresql` has it"));
            return None;
        };
        let folder = tempfile::Builder::new().prefix("selvage-pg-").tempdir().expect("a temporary folder");
        let user = getuid().is_root().then(other_user);
        if let Some(user) = user {
            chown(folder.path(), Some(user.uid), Some(user.gid)).expect("root may give a folder away");
        }
        let mut server = PostgresServer { process: None, bin, user, folder };
        let mut initdb = server.command("initdb");
        initdb.args(["--no-sync", "--no-instructions", "--auth=trust", "--username=selvage", "--encoding=UTF8"]);
        // An order of texts that is not that of their bytes, as many servers have it.
        initdb.args(["--locale=C.UTF-8", "--locale-provider=icu", "--icu-locale=en-US", "--pgdata"]).arg(server.data());
        let done = initdb.output().expect("initdb can be started");
        assert!(done.status.success(), "initdb: {}", String::from_utf8_lossy(&done.stderr));
        server.restart();
        Some(server)
    }

    /// The URL of its one database.
    pub fn url(&self) -> String {
        let folder = self.folder.path().to_str().expect("a temporary folder's name is ASCII");
        format!("postgres://selvage@localhost/postgres?host={}", folder.replace('/', "%2F"))
    }

    /// Starts it after it was ended, and waits until it answers.
    pub fn restart(&mut self) {
        eventually("PostgreSQL answers", START_TIMEOUT, || {
            if self.process.as_mut().is_none_or(|process| !process.is_running()) {
                // After a kill the first starts fail: what the killed one had started is still there for a moment.
                let mut postgres = self.command("postgres");
                postgres.arg("-D").arg(self.data()).arg("-k").arg(self.folder.path());
                for setting in ["listen_addresses=", "fsync=off", "shared_buffers=16MB", "max_connections=64"] {
                    postgres.args(["-c", setting]);
                }
                self.process = Some(Process::start("postgres", postgres, &self.folder.path().join("log")));
            }
            let mut ready = self.command("pg_isready");
            ready.args(["--quiet", "--dbname=postgres", "--username=selvage", "--host"]).arg(self.folder.path());
            std::thread::sleep(Duration::from_millis(20));
            ready.status().expect("pg_isready can be started").success().then_some(())
        });
    }

    /// SIGKILL, as an end without warning: connections break, what was not committed is lost.
    pub fn kill(&mut self) {
        self.running().kill();
    }

    /// The end that an operator's restart begins with: connections are closed, transactions rolled back.
    pub fn stop(&mut self) {
        let process = self.running();
        process.signal(Signal::INT);
        process.wait(START_TIMEOUT);
    }

    /// Stops the server's process without ending it, and back: connections are there, and nothing answers.
    pub fn signal(&mut self, signal: Signal) {
        self.running().signal(signal);
    }

    /// What one statement gives, as `psql` writes it.
    pub fn query(&self, sql: &str) -> String {
        let mut psql = self.command("psql");
        psql.args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--username=selvage", "--dbname=postgres"]);
        let done = psql.arg("--host").arg(self.folder.path()).arg("--command").arg(sql).output();
        let done = done.expect("psql can be started");
        assert!(done.status.success(), "{sql}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8_lossy(&done.stdout).trim().to_owned()
    }

    fn running(&mut self) -> &mut Process {
        self.process.as_mut().expect("it was started with its value")
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// One of its programs, as its user; ended with the thread that starts it.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("setpriv");
        if let Some(User { uid, gid }) = self.user {
            command.args([format!("--reuid={uid}"), format!("--regid={gid}"), "--clear-groups".to_owned()]);
        }
        command.args(["--pdeathsig", "QUIT", "--"]).arg(self.bin.join(program)).current_dir(self.folder.path());
        command.stdin(Stdio::null()).env_remove("PGHOST").env_remove("PGPORT");
        command
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        // At once, and with the processes it has started, before their folder goes.
        if let Some(process) = &mut self.process
            && process.is_running()
        {
            process.signal(Signal::QUIT);
            process.wait(START_TIMEOUT);
        }
    }
}

/// Somebody who is not root.
fn other_user() -> User {
    let users = std::fs::read_to_string("/etc/passwd").expect("users are known");
    let find = |name: &str| {
        let line = users.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        let mut fields = line.split(':').skip(1).map(str::parse);
        Some(User { uid: fields.next()?.ok()?, gid: fields.next()?.ok()? })
    };
    find("postgres").or_else(|| find("nobody")).expect("a user that is not root")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_survives_a_kill_and_leaves_nothing() {
        let Some(mut server) = PostgresServer::start("the harness's PostgreSQL") else { return };
        server.query("CREATE TABLE t (x INT)");
        server.query("INSERT INTO t VALUES (7)");
        server.kill();
        server.restart();
        assert_eq!(server.query("SELECT x FROM t"), "7");
        server.stop();
        server.restart();
        assert_eq!(server.query("SELECT x FROM t"), "7");
        let folder = server.folder.path().to_owned();
        assert!(folder.join("data").exists());
        drop(server);
        assert!(!folder.join("data").exists());
    }
}
