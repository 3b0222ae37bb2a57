//! The processes of the run, and their ends.

use std::fmt;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::Duration;

use e2e::postgres::PostgresServer;
use e2e::process::Process;
use e2e::random::Random;
use rustix::process::Signal;
use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_selvage-control");
/// Takes every module.
const VALIDATOR: &str = "#!/bin/sh\ncat > /dev/null\necho '{\"ok\":true}'\n";
/// Longer than the others have patience with a leader that says nothing.
const STANDSTILL: Duration = Duration::from_secs(6);

struct Control {
    process: Process,
    api: SocketAddr,
    push: SocketAddr,
}

pub(crate) struct World {
    controls: Vec<Control>,
    postgres: PostgresServer,
    pub(crate) account: String,
    pub(crate) token: String,
    folder: tempfile::TempDir,
}

/// How often what was ended.
#[derive(Default)]
pub(crate) struct Ends {
    killed: usize,
    told: usize,
    stopped: usize,
    postgres_killed: usize,
    postgres_restarted: usize,
}

impl Ends {
    pub(crate) fn total(&self) -> usize {
        self.killed + self.told + self.stopped + self.postgres_killed + self.postgres_restarted
    }
}

impl fmt::Display for Ends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "control planes killed {}, told to end {}, stopped for {STANDSTILL:?} {}; PostgreSQL killed {}, restarted {}",
            self.killed, self.told, self.stopped, self.postgres_killed, self.postgres_restarted
        )
    }
}

impl World {
    /// None, after saying so, without PostgreSQL.
    pub(crate) fn start(processes: usize) -> Option<World> {
        let postgres = PostgresServer::start("deployments under processes that end")?;
        let folder = tempfile::Builder::new().prefix("selvage-chaos-").tempdir().expect("a temporary folder");
        let validator = folder.path().join("validator");
        std::fs::write(&validator, VALIDATOR).expect("written");
        std::fs::set_permissions(&validator, std::fs::Permissions::from_mode(0o755)).expect("set");
        let url = postgres.url();
        let mut bootstrap = command(&url, folder.path(), "bootstrap");
        let made = bootstrap.args(["--email", "chaos@selvage.test"]).output().expect("it starts");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let made: Value = serde_json::from_slice(&made.stdout).expect("JSON");
        let text = |key: &str| made[key].as_str().expect("a text").to_owned();
        let (account, token) = (text("account_id"), text("token"));
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let controls = (0..processes).map(|i| start(&url, folder.path(), i, any, any)).collect();
        Some(World { controls, postgres, account, token, folder })
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where the APIs answer.
    pub(crate) fn apis(&self) -> Vec<SocketAddr> {
        self.controls.iter().map(|control| control.api).collect()
    }

    /// Where nodes connect to, as a node is told.
    pub(crate) fn push(&self) -> String {
        let all: Vec<String> = self.controls.iter().map(|control| control.push.to_string()).collect();
        all.join(",")
    }

    /// What a node is made known by.
    pub(crate) fn enroll(&self, name: &str) -> PathBuf {
        let out = self.folder.path().join(name).join("identity");
        let mut enroll = Command::new(PROGRAM);
        enroll.arg("enroll").arg("--data").arg(self.data()).args(["--name", name]).arg("--out").arg(&out);
        assert!(enroll.status().expect("it starts").success());
        out
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub(crate) fn query(&self, sql: &str) -> String {
        self.postgres.query(sql)
    }

    pub(crate) fn number(&self, sql: &str) -> u64 {
        self.query(sql).parse().expect("a number")
    }

    /// Ends things until it is enough.
    pub(crate) fn chaos(&mut self, random: &mut Random, enough: &AtomicBool) -> Ends {
        let mut ends = Ends::default();
        while !enough.load(Ordering::Relaxed) {
            // The first to end is the leader, killed; after that it is every other time one that leads.
            let first = ends.total() == 0;
            let pause = if first { 0 } else { random.below(3000) as u64 };
            sleep(Duration::from_millis(200 + pause));
            let one = random.below(self.controls.len());
            let one = if first || random.below(2) == 0 { self.leader().unwrap_or(one) } else { one };
            match if first { 0 } else { random.below(20) } {
                0..9 => {
                    self.controls[one].process.kill();
                    ends.killed += 1;
                }
                9..11 => {
                    self.controls[one].process.signal(Signal::TERM);
                    ends.told += 1;
                }
                11..13 => {
                    self.controls[one].process.signal(Signal::STOP);
                    sleep(STANDSTILL);
                    self.controls[one].process.signal(Signal::CONT);
                    ends.stopped += 1;
                }
                13..18 => {
                    self.postgres.kill();
                    sleep(Duration::from_millis(random.below(500) as u64));
                    self.postgres.restart();
                    ends.postgres_killed += 1;
                }
                _ => {
                    self.postgres.stop();
                    self.postgres.restart();
                    ends.postgres_restarted += 1;
                }
            }
            sleep(Duration::from_millis(random.below(500) as u64));
            self.start_ended();
        }
        ends
    }

    fn leader(&self) -> Option<usize> {
        let address = self.query("SELECT address FROM leadership");
        self.controls.iter().position(|control| control.api.to_string() == address)
    }

    fn start_ended(&mut self) {
        let url = self.postgres.url();
        for i in 0..self.controls.len() {
            if !self.controls[i].process.is_running() {
                let (api, push) = (self.controls[i].api, self.controls[i].push);
                self.controls[i] = start(&url, self.folder.path(), i, api, push);
            }
        }
    }

    pub(crate) fn all_up(&mut self) {
        self.start_ended();
    }
}

fn command(url: &str, folder: &Path, name: &str) -> Command {
    let mut command = Command::new(PROGRAM);
    command.arg(name).arg("--data").arg(folder.join("data")).env("SELVAGE_DATABASE_URL", url);
    command
}

fn start(url: &str, folder: &Path, i: usize, api: SocketAddr, push: SocketAddr) -> Control {
    let mut serve = command(url, folder, "serve");
    serve.args(["--listen", &api.to_string(), "--push-listen", &push.to_string()]);
    serve.arg("--validator").arg(folder.join("validator"));
    let mut process = Process::start(&format!("control-{i}"), serve, &folder.join(format!("control-{i}.log")));
    let [api, push] = process.ready(["api", "push"]);
    Control { process, api, push }
}
