//! `dev`: a control plane, a node and a Worker on this machine, for as long as the command runs.
//!
//! Owns the two processes, their data folder and the watch on the project's files. Everything else is what users do: the Worker is
//! deployed by [`super::deploy`] through the API, its logs come over the API's WebSocket. *Invariant:* when the command ends,
//! however it ends short of SIGKILL, both processes have ended before it, the node first. Stdout: `ready <url>`, then log records; with
//! `--json` one object per line. Main thread; one thread for logs, one per process for its stderr.

mod process;
mod watch;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use model::{AccountId, DeploymentId, LogRecord};
use serde::Deserialize;
use serde_json::json;

use crate::args::{DEFAULT_PROJECT, DeployArgs, DevArgs};
use crate::client::Client;
use crate::command::deploy::{self, Deployed};
use crate::command::tail;
use crate::context::Context;
use crate::failure::{Failure, Outcome, io};
use crate::logs::{self, Listener};
use crate::output::{Ink, Output};
use process::Process;
use watch::Watch;

/// Domain whose names are loopback addresses to browsers and curl (RFC 6761 §6.3).
const DOMAIN: &str = "workers.localhost";
/// A process's `ready` line.
const READY_TIMEOUT: Duration = Duration::from_secs(30);
/// The node's connection to the control plane, and the Worker's first answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
/// How often files and processes are looked at.
const TICK: Duration = Duration::from_millis(150);

/// What `selvage-control bootstrap` prints.
#[derive(Deserialize)]
struct Bootstrap {
    account_id: AccountId,
    token: String,
}

/// The running platform. Fields drop in this order: node, control plane, folder.
struct Platform {
    node: Process,
    control: Process,
    http: SocketAddr,
    context: Context,
    _folder: Option<tempfile::TempDir>,
}

/// The command.
pub(crate) fn dev(context: &Context, args: &DevArgs) -> Outcome {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM, signal_hook::consts::SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&stop))
            .map_err(|error| Failure::failed(format!("cannot catch signals: {error}")))?;
    }
    let output = context.output;
    // A project that cannot be read is said before anything is started.
    crate::project::Project::read(&args.path, args.env.as_deref())?;
    let mut platform = start(context, args, &stop)?;
    let outcome = serve(&mut platform, args, &stop);
    if !output.json {
        output.note("Stopping.");
    }
    let node = platform.node.stop();
    let control = platform.control.stop();
    outcome.and(node).and(control)
}

fn start(context: &Context, args: &DevArgs, stop: &AtomicBool) -> Outcome<Platform> {
    let output = context.output;
    let (folder, data) = match &args.data {
        Some(data) => {
            std::fs::create_dir_all(data).map_err(io("create", data))?;
            (None, data.clone())
        }
        None => {
            let folder = tempfile::Builder::new().prefix("selvage-dev-").tempdir();
            let folder = folder.map_err(|error| Failure::failed(format!("cannot make a temporary folder: {error}")))?;
            let path = folder.path().to_owned();
            (Some(folder), path)
        }
    };
    let (control_program, node_program) = (beside("selvage-control")?, beside("selvage-node")?);
    let control_data = data.join("control");
    let bootstrap = credentials(&control_program, &control_data, &data.join("credentials.json"))?;
    let identity = data.join("identity");
    if !identity.join("node.key").exists() {
        run_once(
            Command::new(&control_program)
                .args(["enroll", "--name", "dev", "--data"])
                .arg(&control_data)
                .arg("--out")
                .arg(&identity),
        )?;
    }
    let spinner = output.spinner("starting the control plane");
    let mut command = Command::new(&control_program);
    command.args(["serve", "--push-listen", "127.0.0.1:0", "--platform-domain", DOMAIN, "--data"]).arg(&control_data);
    command.arg("--listen").arg(args.api_listen.to_string()).arg("--validator").arg(&node_program);
    let (control, ready) = Process::start("control", command, output, args.verbose, READY_TIMEOUT, stop)?;
    let (api, push) = (ready.address("api")?, ready.address("push")?);
    spinner.set_message("starting the node");
    let mut command = Command::new(&node_program);
    command.args(["serve", "--admin", "127.0.0.1:0", "--data"]).arg(data.join("node"));
    command.arg("--listen").arg(args.listen.to_string()).arg("--shards").arg(args.shards.to_string());
    command.arg("--control").arg(push.to_string()).arg("--identity").arg(&identity);
    let (node, ready) = Process::start("node", command, output, args.verbose, READY_TIMEOUT, stop)?;
    spinner.finish_and_clear();
    let http = ready.address("http")?;
    let context = context.elsewhere(format!("http://{api}"), bootstrap.token, bootstrap.account_id);
    Ok(Platform { node, control, http, context, _folder: folder })
}

/// The account and token to work with. A token is shown once, when it is made, so they are kept beside the data they open.
fn credentials(control_program: &Path, control_data: &Path, file: &Path) -> Outcome<Bootstrap> {
    let (bytes, fresh) = match std::fs::read(file) {
        Ok(bytes) => (bytes, false),
        Err(_) => {
            let mut command = Command::new(control_program);
            command.args(["bootstrap", "--email", "dev@localhost", "--data"]).arg(control_data);
            (run_once(&mut command)?, true)
        }
    };
    let bootstrap = serde_json::from_slice(&bytes).map_err(|error| {
        Failure::failed(format!("no account and token in what selvage-control bootstrap printed: {error}"))
            .hint("an empty `--data` folder begins anew")
    })?;
    if fresh {
        let mut options = std::fs::OpenOptions::new();
        let opened = options.write(true).create(true).truncate(true).mode(0o600).open(file);
        opened.and_then(|mut opened| opened.write_all(&bytes)).map_err(io("write", file))?;
    }
    Ok(bootstrap)
}

/// Deploys, says `ready`, then follows logs and files until the user or a process ends it.
fn serve(platform: &mut Platform, args: &DevArgs, stop: &Arc<AtomicBool>) -> Outcome {
    let output = platform.context.output;
    let client = platform.context.client()?;
    await_node(&client, stop)?;
    let mut watch = Watch::new(&args.path, args.env.as_deref());
    let deployed = deploy_once(platform, &client, args);
    watch.settle();
    let mut logs: Option<LogThread> = None;
    let mut said_ready = false;
    let mut on_deployed = |platform: &Platform, deployed: Outcome<Deployed>| -> Outcome {
        match deployed {
            Ok(deployed) => {
                logs.get_or_insert_with(|| follow_logs(&platform.context, deployed.deployment.id, Arc::clone(stop)));
                answer(platform.http, &deployed, stop)?;
                let url = url(&deployed, platform.http);
                if !said_ready {
                    say_ready(&output, &url, platform.context.settings.api_url.as_str(), &deployed);
                    said_ready = true;
                } else {
                    say_redeployed(&output, &deployed);
                }
                Ok(())
            }
            // The user mends the file and goes on.
            Err(failure) => {
                if output.json {
                    output.line(&failure.json().to_string());
                } else {
                    output.failure(&failure);
                }
                Ok(())
            }
        }
    };
    if stop.load(Ordering::Relaxed) {
        return Ok(());
    }
    on_deployed(platform, deployed)?;
    while !stop.load(Ordering::Relaxed) {
        platform.node.check()?;
        platform.control.check()?;
        std::thread::sleep(TICK);
        if watch.changed() {
            let deployed = deploy_once(platform, &client, args);
            watch.settle();
            on_deployed(platform, deployed)?;
        }
    }
    Ok(())
}

fn deploy_once(platform: &Platform, client: &Client, args: &DevArgs) -> Outcome<Deployed> {
    let args = DeployArgs {
        path: args.path.clone(),
        name: None,
        project: DEFAULT_PROJECT.to_owned(),
        subdomain: None,
        env: args.env.clone(),
        message: None,
        no_activate: false,
    };
    deploy::run(&platform.context, client, &args)
}

/// The node must be connected before the first activation, or nothing would serve it.
fn await_node(client: &Client, stop: &AtomicBool) -> Outcome {
    let deadline = Instant::now() + ANSWER_TIMEOUT;
    while !stop.load(Ordering::Relaxed) {
        if client.nodes()?.iter().any(|node| node.connected) {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(Failure::failed("the node did not connect to the control plane").hint("`--verbose` shows why"));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Waits until the Worker answers with the version that was deployed.
fn answer(http: SocketAddr, deployed: &Deployed, stop: &AtomicBool) -> Outcome {
    let host = format!("{}.{DOMAIN}", deployed.deployment.subdomain);
    let expect = format!("x-deployment-version: v{}", deployed.version.version_number);
    let deadline = Instant::now() + ANSWER_TIMEOUT;
    while !stop.load(Ordering::Relaxed) {
        let head = head_of(http, &host).unwrap_or_default().to_ascii_lowercase();
        // A Worker that fails at `/` is answered for by the node, without a version; its logs say why.
        if head.lines().any(|line| line.trim() == expect) || head.starts_with("http/1.1 500 ") {
            return Ok(());
        }
        if Instant::now() > deadline {
            let first = head.lines().next().unwrap_or("no answer").to_owned();
            return Err(Failure::failed(format!("the node does not serve {host}: {first}")));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// The head of the answer to `HEAD /`.
fn head_of(http: SocketAddr, host: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&http, Duration::from_secs(2))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(format!("HEAD / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut head = Vec::new();
    stream.take(64 * 1024).read_to_end(&mut head)?;
    Ok(String::from_utf8_lossy(&head).into_owned())
}

fn url(deployed: &Deployed, http: SocketAddr) -> String {
    format!("http://{}.{DOMAIN}:{}/", deployed.deployment.subdomain, http.port())
}

fn say_ready(output: &Output, url: &str, api_url: &str, deployed: &Deployed) {
    if output.json {
        let version = deployed.version.version_number;
        output.line(&json!({"event": "ready", "url": url, "api_url": api_url, "version": version}).to_string());
        return;
    }
    output.note(&deployed.text(output));
    output.note(&format!("API: {api_url}"));
    output.line(&format!("{} {url}", output.ink(Ink::Green, "ready")));
    output.line(&format!("curl {url}"));
}

fn say_redeployed(output: &Output, deployed: &Deployed) {
    if output.json {
        output.line(&json!({"event": "deployed", "version": deployed.version.version_number}).to_string());
    } else {
        output.note(&deployed.text(output));
    }
}

/// The log thread; ended and awaited when dropped.
struct LogThread {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Drop for LogThread {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It prints what it could not do itself; a panic in it has been printed too.
            let _ = thread.join();
        }
    }
}

struct Printer {
    output: Output,
    user_stop: Arc<AtomicBool>,
    own_stop: Arc<AtomicBool>,
}

impl Listener for Printer {
    fn record(&mut self, record: LogRecord) {
        tail::print(&self.output, &record);
    }

    fn stop(&self) -> bool {
        self.user_stop.load(Ordering::Relaxed) || self.own_stop.load(Ordering::Relaxed)
    }
}

fn follow_logs(context: &Context, id: DeploymentId, user_stop: Arc<AtomicBool>) -> LogThread {
    let stop = Arc::new(AtomicBool::new(false));
    let mut printer = Printer { output: context.output, user_stop, own_stop: Arc::clone(&stop) };
    let (settings, output) = (context.settings.clone(), context.output);
    let thread = std::thread::spawn(move || {
        let followed = Client::new(&settings, output).and_then(|client| logs::follow(&client, id, &mut printer));
        if let Err(failure) = followed {
            output.warn(&format!("no more logs: {}", failure.message));
        }
    });
    LogThread { stop, thread: Some(thread) }
}

/// A program that is installed beside this one.
fn beside(name: &str) -> Outcome<PathBuf> {
    let own = std::env::current_exe().map_err(|error| Failure::failed(format!("where is this program? {error}")))?;
    let path = own.parent().unwrap_or(Path::new("/")).join(name);
    if path.is_file() {
        return Ok(path);
    }
    Err(Failure::failed(format!("{} is not there", path.display()))
        .hint("`cargo build --release -p control -p node -p cli` makes all three"))
}

/// Runs a program to its end: its stdout.
fn run_once(command: &mut Command) -> Outcome<Vec<u8>> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| Failure::failed(format!("cannot run {program}: {error}")))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Failure::failed(format!("{program} failed ({}): {}", output.status, said.trim())))
}
