//! A platform for one test: a control plane and a node, in a folder of their own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::api::{Api, Deployed, text};
use crate::http::{Reply, get};
use crate::process::Process;
use crate::{binary, eventually};

/// A change's way to the node, on a machine that does much else.
pub const PUSH_TIMEOUT: Duration = Duration::from_secs(20);
/// Drain and end of a process.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(45);

/// How a platform is set up.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// Shards of the node.
    pub shards: u32,
    /// Where the node listens; a free loopback port unless given.
    pub listen: Option<SocketAddr>,
    /// More arguments of `selvage-node serve`.
    pub node_arguments: &'static [&'static str],
    /// Size of a disk of the node's own for its data folder, bytes; only its processes see it. Needs root.
    pub node_disk_bytes: Option<u64>,
    /// More arguments of `selvage-control serve`.
    pub control_arguments: &'static [&'static str],
}

impl Default for Setup {
    fn default() -> Setup {
        Setup { shards: 1, listen: None, node_disk_bytes: None, node_arguments: &[], control_arguments: &[] }
    }
}

/// Nodes that took others' places: children of nobody here, ended by their ids.
#[derive(Debug, Default)]
struct Heirs(Vec<i32>);

impl Drop for Heirs {
    fn drop(&mut self) {
        for pid in self.0.drain(..).filter_map(Pid::from_raw) {
            // All but the last have ended.
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// The running platform. Fields drop in order: processes before their folder.
pub struct Platform {
    /// The node; none while a test has it killed.
    pub node: Process,
    /// The control plane.
    pub control: Process,
    /// Where Workers answer.
    pub http: SocketAddr,
    /// The node's admin listener.
    pub admin: SocketAddr,
    /// Where the API answers.
    pub api: SocketAddr,
    /// Where nodes get their configuration.
    pub push: SocketAddr,
    /// The account.
    pub account: String,
    /// Its operator's token.
    pub token: String,
    setup: Setup,
    heirs: Heirs,
    folder: tempfile::TempDir,
}

impl Platform {
    /// Starts a control plane and a node and waits until they are connected.
    pub fn start() -> Platform {
        Platform::with(Setup::default())
    }

    /// As [`Platform::start`], set up otherwise.
    pub fn with(setup: Setup) -> Platform {
        let folder = tempfile::Builder::new().prefix("selvage-e2e-").tempdir().expect("a temporary folder");
        let path = folder.path();
        let control_bin = binary("selvage-control");
        let mut bootstrap = Command::new(&control_bin);
        bootstrap.args(["bootstrap", "--email", "e2e@selvage.test", "--data"]).arg(path.join("control"));
        let made: Value = serde_json::from_slice(&run(&mut bootstrap).stdout).expect("bootstrap prints JSON");
        let mut enroll = Command::new(&control_bin);
        enroll.args(["enroll", "--name", "node-1", "--data"]).arg(path.join("control"));
        run(enroll.arg("--out").arg(path.join("identity")));
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let (control, api, push) = start_control(path, setup, any, any);
        let (node, http, admin) = start_node(path, setup, setup.listen.unwrap_or(any), Some(push));
        let (account, token) = (text(&made["account_id"]), text(&made["token"]));
        let heirs = Heirs::default();
        let platform = Platform { node, control, http, admin, api, push, account, token, setup, heirs, folder };
        platform.await_connected();
        platform
    }

    /// The folder of this platform's data and logs.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The API with the operator's token.
    pub fn api(&self) -> Api {
        Api { address: self.api, token: self.token.clone() }
    }

    /// Waits until the control plane sees the node.
    pub fn await_connected(&self) {
        let api = self.api();
        eventually("the node is connected", PUSH_TIMEOUT, || {
            let nodes = api.ok("GET", "/v1/nodes", None);
            nodes.as_array()?.iter().any(|node| node["connected"] == true).then_some(())
        });
    }

    /// A deployment of that name with `module` active, answering.
    pub fn deploy(&self, name: &str, module: &str) -> Deployed {
        let api = self.api();
        let project = api.project(&self.account, "default");
        let deployed = api.create(&project, name);
        let version = api.upload_ok(&deployed.id, module);
        api.activate(&deployed.id, version);
        self.await_version(&deployed.host, version);
        deployed
    }

    /// A new version of a deployment, answering.
    pub fn redeploy(&self, deployed: &Deployed, module: &str) -> u32 {
        let api = self.api();
        let version = api.upload_ok(&deployed.id, module);
        api.activate(&deployed.id, version);
        self.await_version(&deployed.host, version);
        version
    }

    /// `GET` on the node.
    pub fn get(&self, host: &str, target: &str) -> Reply {
        get(self.http, host, target)
    }

    /// The sum over all shards of a metric of the node's with these labels, which must be there.
    pub fn metric(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        let reply = get(self.admin, "admin.test", "/metrics");
        assert_eq!(reply.status, 200);
        let text = reply.text();
        let wanted = |line: &&str| {
            let rest = line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
            rest && labels.iter().all(|(key, value)| {
                let label = format!("{key}=\"{value}\"");
                line.contains(&format!("{{{label}")) || line.contains(&format!(",{label}"))
            })
        };
        let values: Vec<u64> = text
            .lines()
            .filter(wanted)
            .map(|line| line.rsplit(' ').next().and_then(|value| value.parse().ok()).expect("a whole number"))
            .collect();
        assert!(!values.is_empty(), "no {name} with {labels:?} in\n{text}");
        values.iter().sum()
    }

    /// Waits until the node answers for `host` with that version.
    pub fn await_version(&self, host: &str, version: u32) {
        eventually(&format!("{host} answers with v{version}"), PUSH_TIMEOUT, || {
            (self.get(host, "/").version() == Some(version)).then_some(())
        });
    }

    /// Waits until the node answers for `host` with that status.
    pub fn await_status(&self, host: &str, target: &str, status: u16) -> Reply {
        eventually(&format!("{host}{target} answers with {status}"), PUSH_TIMEOUT, || {
            Some(self.get(host, target)).filter(|reply| reply.status == status)
        })
    }

    /// Starts the control plane again after it was killed, on the same ports.
    pub fn restart_control(&mut self) {
        let (control, ..) = start_control(self.folder.path(), self.setup, self.api, self.push);
        self.control = control;
    }

    /// Starts the node again after it was killed, on the same ports; with no control plane to ask if so wished.
    pub fn restart_node(&mut self, with_control: bool) {
        // A killed process's io_uring is taken down by the kernel a moment after the process is gone, and its listening sockets with
        // it: until then they would get their share of the new node's connections, and reset them.
        let port = format!(":{:04X} ", self.http.port());
        eventually("the killed node's sockets are gone", STOP_TIMEOUT, || {
            let table = std::fs::read_to_string("/proc/net/tcp").ok()?;
            let listens = |line: &str| line.contains(&format!("{port}00000000:0000 0A"));
            (!table.lines().any(listens)).then_some(())
        });
        let push = with_control.then_some(self.push);
        let (node, _, admin) = start_node(self.folder.path(), self.setup, self.http, push);
        self.node = node;
        self.admin = admin;
    }

    /// Has `selvage-node upgrade` replace the node; `arguments` come after the data folder. Knows the new process only if that succeeds.
    pub fn upgrade(&mut self, arguments: &[&str]) -> Run {
        let mut command = Command::new(binary("selvage-node"));
        command.arg("upgrade").arg("--data").arg(self.node_data()).args(arguments);
        let done = finish(command, "");
        let pid: Option<i32> = done.stdout.split_whitespace().find_map(|word| word.strip_prefix("pid=")?.parse().ok());
        self.heirs.0.extend(pid);
        done
    }

    /// The node's data folder.
    pub fn node_data(&self) -> PathBuf {
        self.folder.path().join("node")
    }

    /// Runs the `selvage` command against this platform.
    pub fn cli<S: AsRef<std::ffi::OsStr>>(&self, arguments: &[S]) -> Run {
        self.cli_with_stdin(arguments, "")
    }

    /// As [`Platform::cli`], with a text on stdin.
    pub fn cli_with_stdin<S: AsRef<std::ffi::OsStr>>(&self, arguments: &[S], stdin: &str) -> Run {
        let mut command = self.cli_command();
        command.env("SELVAGE_API_URL", format!("http://{}", self.api)).env("SELVAGE_TOKEN", &self.token);
        command.args(arguments);
        finish(command, stdin)
    }

    /// The `selvage` command with settings of its own and nothing in its environment.
    pub fn cli_command(&self) -> Command {
        let mut command = Command::new(binary("selvage"));
        for variable in ["SELVAGE_API_URL", "SELVAGE_TOKEN", "SELVAGE_ACCOUNT"] {
            command.env_remove(variable);
        }
        command.env("SELVAGE_CONFIG", self.folder.path().join("cli/config.toml"));
        command.current_dir(self.folder.path());
        command
    }
}

/// What a command did.
#[derive(Debug)]
pub struct Run {
    /// Exit code.
    pub code: i32,
    /// stdout.
    pub stdout: String,
    /// stderr.
    pub stderr: String,
}

impl Run {
    /// stdout as JSON, of a command that must have succeeded.
    pub fn json(&self) -> Value {
        assert_eq!(self.code, 0, "{self:?}");
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("stdout is no JSON: {error}: {self:?}"))
    }
}

/// Runs a command to its end with a text on stdin.
pub fn finish(mut command: Command, stdin: &str) -> Run {
    use std::io::Write;
    use std::process::Stdio;
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
    // A command that does not read its stdin may have ended before.
    let _ = child.stdin.take().expect("stdin is piped").write_all(stdin.as_bytes());
    let output = child.wait_with_output().expect("a child can be waited for");
    Run {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

fn start_control(folder: &Path, setup: Setup, api: SocketAddr, push: SocketAddr) -> (Process, SocketAddr, SocketAddr) {
    let mut command = Command::new(binary("selvage-control"));
    command.args(["serve", "--platform-domain", "workers.localhost", "--data"]).arg(folder.join("control"));
    command.arg("--listen").arg(api.to_string()).arg("--push-listen").arg(push.to_string());
    command.arg("--validator").arg(binary("selvage-node")).args(setup.control_arguments);
    let mut process = Process::start("selvage-control", command, &folder.join("control.log"));
    let [api, push] = process.ready(["api", "push"]);
    (process, api, push)
}

fn start_node(
    folder: &Path,
    setup: Setup,
    http: SocketAddr,
    push: Option<SocketAddr>,
) -> (Process, SocketAddr, SocketAddr) {
    let program = binary("selvage-node");
    let mut command = match setup.node_disk_bytes {
        Some(bytes) => on_a_disk(bytes, &folder.join("node"), &program),
        None => Command::new(program),
    };
    command.args(["serve", "--admin", "127.0.0.1:0", "--data"]).arg(folder.join("node"));
    command.arg("--listen").arg(http.to_string()).arg("--shards").arg(setup.shards.to_string());
    command.args(setup.node_arguments);
    if let Some(push) = push {
        command.arg("--control").arg(push.to_string()).arg("--identity").arg(folder.join("identity"));
    }
    let mut process = Process::start("selvage-node", command, &folder.join("node.log"));
    let [http, admin] = process.ready(["http", "admin"]);
    (process, http, admin)
}

/// `program`, to which `folder` is a disk of that size.
fn on_a_disk(bytes: u64, folder: &Path, program: &Path) -> Command {
    let mut command = Command::new("unshare");
    let script = "mkdir -p \"$1\" && mount -t tmpfs -o size=\"$0\" none \"$1\" && shift && exec \"$@\"";
    command.args(["--mount", "sh", "-c", script]).arg(bytes.to_string()).arg(folder).arg(program);
    command
}
