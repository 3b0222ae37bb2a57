//! `cargo xtask dev`: a control plane, a node and one Worker on this machine, until Ctrl-C.
//!
//! Owns: the order of things (control plane, account, the node's identity, node, deployment, first answer), the folder
//! `.dev` of the checkout where all of it keeps its data between runs, and the order of stopping (log stream, node, control plane).
//! It does nothing that an operator could not do by hand with the three binaries, and nothing behind the API's back.
//! Every wait has a deadline; a process that ends early ends the whole with its last words.

mod probe;
mod process;
mod signals;

use std::fs;
use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use self::process::Process;
use self::signals::Signals;
use crate::checkout::Checkout;
use crate::progress::say;
use crate::{artifacts, run};

/// Deployments answer below this domain; every name under `localhost` is this machine.
const PLATFORM_DOMAIN: &str = "workers.localhost";

/// Time for a process to say that it serves.
const READY_TIMEOUT: Duration = Duration::from_secs(60);

/// Time from "deployed" to the first answer over HTTP.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Time for a process to stop by itself; the node drains its connections in it.
const STOP_TIMEOUT: Duration = Duration::from_secs(15);

/// Between two attempts to follow the Worker's log.
const TAIL_RETRY_INTERVAL: Duration = Duration::from_secs(2);

/// Between two looks at signals and processes.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Options of `cargo xtask dev`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// A module, or a folder with wrangler.toml or worker.js [default: docs/examples/hello]
    worker: Option<PathBuf>,
    /// Port on which Workers answer; 0 takes a free one, as for the others
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// Port of the node's admin listener (health, metrics)
    #[arg(long, default_value_t = 9090)]
    admin_port: u16,
    /// Port of the API
    #[arg(long, default_value_t = 7070)]
    api_port: u16,
    /// Port on which nodes get their configuration
    #[arg(long, default_value_t = 7071)]
    push_port: u16,
    /// Shards of the node [default: one per core]
    #[arg(long)]
    shards: Option<u16>,
    /// Folder for all data
    #[arg(long, default_value = ".dev")]
    data: PathBuf,
    /// Begin with an empty data folder
    #[arg(long)]
    fresh: bool,
    /// Stop as soon as the Worker has answered (for tests)
    #[arg(long)]
    exit_after_ready: bool,
}

/// Who we are to the API; kept, because the control plane shows a token only once.
#[derive(Serialize, Deserialize)]
struct Credentials {
    account_id: String,
    token: String,
}

/// The part of `selvage deploy --json` that we show.
#[derive(Deserialize)]
struct Deployed {
    deployment: Deployment,
    version: Version,
}

#[derive(Deserialize)]
struct Deployment {
    name: String,
    subdomain: String,
}

#[derive(Deserialize)]
struct Version {
    version_number: u32,
}

/// Builds, starts, deploys, shows, and stops on a signal.
pub(crate) fn run(checkout: &Checkout, arguments: &Arguments) -> Result<ExitCode> {
    let worker = match &arguments.worker {
        Some(path) => path.clone(),
        None => checkout.root().join("docs/examples/hello"),
    };
    let worker = fs::canonicalize(&worker).with_context(|| format!("no Worker at {}", worker.display()))?;
    let archive = artifacts::prepare(checkout)?;
    let bin = artifacts::binaries(checkout, &archive)?;
    ensure_free(arguments)?;
    let data = data_folder(checkout, arguments)?;

    let signals = Signals::install()?;
    let mut platform = Platform { processes: Vec::new(), bin, data, signals };
    let result = platform.serve(arguments, &worker);
    let interrupted = platform.signals.interrupted();
    platform.stop();
    match result {
        // What fails after Ctrl-C fails because of it.
        Err(error) if !interrupted => Err(error),
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// The folder for all data, empty if so wished.
fn data_folder(checkout: &Checkout, arguments: &Arguments) -> Result<PathBuf> {
    let data = checkout.root().join(&arguments.data);
    if arguments.fresh {
        match fs::remove_dir_all(&data) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("emptying {}", data.display()));
            }
            _ => say("dev", format!("begins with an empty {}", data.display())),
        }
    }
    fs::create_dir_all(&data).with_context(|| format!("making {}", data.display()))?;
    Ok(data)
}

/// Fails early and clearly where another program has one of the ports.
fn ensure_free(arguments: &Arguments) -> Result<()> {
    let ports = [
        (arguments.port, "--port"),
        (arguments.admin_port, "--admin-port"),
        (arguments.api_port, "--api-port"),
        (arguments.push_port, "--push-port"),
    ];
    for (port, option) in ports {
        if let Err(error) = TcpListener::bind(loopback(port)) {
            match error.kind() {
                ErrorKind::AddrInUse => bail!(
                    "port {port} is taken, perhaps by another `cargo xtask dev`; `{option} N` chooses another, 0 a free one"
                ),
                _ => return Err(error).with_context(|| format!("port {port} ({option}) cannot be used")),
            }
        }
    }
    Ok(())
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// The running processes, in the order in which they were started.
struct Platform {
    processes: Vec<Process>,
    bin: PathBuf,
    data: PathBuf,
    signals: Signals,
}

impl Platform {
    /// Starts everything and stays until a signal comes or a process ends.
    fn serve(&mut self, arguments: &Arguments, worker: &Path) -> Result<()> {
        let (api, push) = self.start_control(arguments)?;
        let credentials = self.credentials()?;
        let http = self.start_node(arguments, push)?;
        self.write_env(api, &credentials)?;
        let deployed = self.deploy(worker, api, &credentials)?;
        let Deployed { deployment: Deployment { name, subdomain }, version: Version { version_number } } = &deployed;

        let host = format!("{subdomain}.{PLATFORM_DOMAIN}:{}", http.port());
        let answer = probe::until_answered(http, &host, ANSWER_TIMEOUT, &self.signals)?;
        say("dev", format!("{name} v{version_number} answers with {answer}"));
        say("dev", format!("try:  curl -i http://{host}/"));
        say("dev", format!("for `selvage` in another terminal:  . {}", self.data.join("env").display()));
        say("dev", "Ctrl-C stops");
        println!("ready http://{host}/");
        std::io::stdout().flush().context("writing to standard output")?;
        if arguments.exit_after_ready {
            return Ok(());
        }

        let mut tail = self.selvage(api, &credentials);
        self.watch(tail.args(["tail", "--name", name]))
    }

    fn start_control(&mut self, arguments: &Arguments) -> Result<(SocketAddr, SocketAddr)> {
        let mut command = Command::new(self.bin.join("selvage-control"));
        command.arg("serve").arg("--data").arg(self.data.join("control"));
        command.args(["--listen", &loopback(arguments.api_port).to_string()]);
        command.args(["--push-listen", &loopback(arguments.push_port).to_string()]);
        command.args(["--platform-domain", PLATFORM_DOMAIN, "--platform-port", &arguments.port.to_string()]);
        let ready = self.start("control", &mut command)?;
        Ok((address(&ready, "api")?, address(&ready, "push")?))
    }

    fn start_node(&mut self, arguments: &Arguments, push: SocketAddr) -> Result<SocketAddr> {
        let identity = self.data.join("identity");
        if !identity.join("node.key").is_file() {
            let mut enroll = Command::new(self.bin.join("selvage-control"));
            enroll.arg("enroll").arg("--data").arg(self.data.join("control")).args(["--name", "dev"]);
            run::captured(enroll.arg("--out").arg(&identity)).context("giving the node its identity")?;
        }
        let mut command = Command::new(self.bin.join("selvage-node"));
        command.arg("serve").arg("--data").arg(self.data.join("node"));
        command.arg("--test-scheduled").args(["--listen", &loopback(arguments.port).to_string()]);
        command.args(["--admin", &loopback(arguments.admin_port).to_string()]);
        command.args(["--control", &push.to_string()]).arg("--identity").arg(&identity);
        if let Some(shards) = arguments.shards {
            command.args(["--shards", &shards.to_string()]);
        }
        let ready = self.start("node", &mut command)?;
        say("dev", format!("metrics of the node: http://{}/metrics", address(&ready, "admin")?));
        address(&ready, "http")
    }

    /// Starts a server and waits for its line `ready …`.
    fn start(&mut self, name: &'static str, command: &mut Command) -> Result<String> {
        say("dev", format!("starting {name}"));
        let process = Process::start(name, command)?;
        self.processes.push(process);
        let process = self.processes.last_mut().context("it was just put there")?;
        process.until_ready(READY_TIMEOUT, &self.signals)
    }

    /// The account of an earlier run, or a new one.
    fn credentials(&self) -> Result<Credentials> {
        let path = self.data.join("credentials.json");
        if let Ok(text) = fs::read_to_string(&path) {
            return serde_json::from_str(&text).with_context(|| format!("reading {}", path.display()));
        }
        let mut bootstrap = Command::new(self.bin.join("selvage-control"));
        bootstrap.arg("bootstrap").arg("--data").arg(self.data.join("control")).args(["--email", "dev@localhost"]);
        let said = run::captured(&mut bootstrap).context("making an account; `--fresh` begins anew")?;
        let credentials: Credentials = serde_json::from_str(said.trim())
            .context("the control plane gave no token for a new account; `--fresh` begins anew")?;
        write_private(&path, &serde_json::to_string(&credentials).context("writing the credentials down")?)?;
        Ok(credentials)
    }

    /// A file that a shell reads to have `selvage` on its path, talking to this platform.
    fn write_env(&self, api: SocketAddr, credentials: &Credentials) -> Result<()> {
        let text = format!(
            "export SELVAGE_API_URL='http://{api}'\nexport SELVAGE_TOKEN='{}'\nexport SELVAGE_ACCOUNT='{}'\n\
             export PATH={}:\"$PATH\"\n",
            credentials.token,
            credentials.account_id,
            shell_quoted(&self.bin.display().to_string())
        );
        write_private(&self.data.join("env"), &text)
    }

    /// The real CLI, told by its environment where and who.
    fn selvage(&self, api: SocketAddr, credentials: &Credentials) -> Command {
        let mut command = Command::new(self.bin.join("selvage"));
        command.env("SELVAGE_API_URL", format!("http://{api}"));
        command.env("SELVAGE_TOKEN", &credentials.token).env("SELVAGE_ACCOUNT", &credentials.account_id);
        command
    }

    fn deploy(&self, worker: &Path, api: SocketAddr, credentials: &Credentials) -> Result<Deployed> {
        say("dev", format!("deploying {}", worker.display()));
        let mut deploy = self.selvage(api, credentials);
        let said = run::captured(deploy.args(["--json", "deploy"]).arg(worker))?;
        serde_json::from_str(&said).context("reading the answer of `selvage deploy`")
    }

    /// Shows the Worker's log until a signal comes (fine) or a server ends (not fine). The log stream is started again when it
    /// breaks off.
    fn watch(&mut self, tail: &mut Command) -> Result<()> {
        let mut stream = Some(Process::start("worker", tail)?);
        let mut again_at = Instant::now();
        while !self.signals.interrupted() {
            for process in &mut self.processes {
                if let Some(status) = process.ended()? {
                    bail!("{} ended by itself: {status}", process.name());
                }
            }
            let broke_off = match &mut stream {
                Some(running) => running.ended()?.is_some(),
                None => false,
            };
            if broke_off {
                stream = None;
                again_at = Instant::now() + TAIL_RETRY_INTERVAL;
            } else if stream.is_none() && Instant::now() >= again_at {
                stream = Some(Process::start("worker", tail)?);
            }
            std::thread::sleep(POLL_INTERVAL);
        }
        Ok(())
    }

    /// Stops what runs, the latest first: the node, which drains, then the control plane.
    fn stop(&mut self) {
        self.signals.rearm();
        while let Some(process) = self.processes.pop() {
            process.stop(STOP_TIMEOUT, &self.signals);
        }
    }
}

/// The value of `key=` in a line `ready key=address …`.
fn address(ready: &str, key: &str) -> Result<SocketAddr> {
    let value = ready.split_whitespace().find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
    let value = value.with_context(|| format!("no {key}= in {ready:?}"))?;
    let value = value.strip_prefix("http://").unwrap_or(value);
    value.parse().with_context(|| format!("{value:?} in {ready:?} is not an address"))
}

/// A file that only we can read, replaced whole.
fn write_private(path: &Path, text: &str) -> Result<()> {
    let part = path.with_extension("part");
    let write = || -> std::io::Result<()> {
        let mut file = fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(&part)?;
        file.write_all(text.as_bytes())?;
        fs::rename(&part, path)
    };
    write().with_context(|| format!("writing {}", path.display()))
}

fn shell_quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_lines_are_read() {
        let line = "ready api=http://127.0.0.1:7070 push=127.0.0.1:7071";
        assert_eq!(address(line, "api").unwrap(), loopback(7070));
        assert_eq!(address(line, "push").unwrap(), loopback(7071));
        assert!(address(line, "http").is_err());
        assert!(address("ready api=nowhere", "api").is_err());
    }

    #[test]
    fn a_taken_port_is_named_with_the_option_that_chooses_another() {
        let taken = TcpListener::bind(loopback(0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let mut arguments = Arguments {
            worker: None,
            port: 0,
            admin_port: 0,
            api_port: port,
            push_port: 0,
            shards: None,
            data: PathBuf::new(),
            fresh: false,
            exit_after_ready: false,
        };
        let text = ensure_free(&arguments).unwrap_err().to_string();
        assert!(text.contains(&port.to_string()) && text.contains("--api-port"), "{text}");
        arguments.api_port = 0;
        ensure_free(&arguments).unwrap();
    }

    #[test]
    fn paths_survive_the_shell() {
        let odd = "/a b/it's $HOME";
        let said = run::captured(Command::new("sh").args(["-c", &format!("printf %s {}", shell_quoted(odd))])).unwrap();
        assert_eq!(said, odd);
    }
}
