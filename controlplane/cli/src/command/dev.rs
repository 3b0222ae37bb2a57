//! `dev`: a control plane, a node and a Worker on this machine, for as long as the command runs.
//!
//! Owns the two processes, their data folder, the watch on the project's files, and the listener before the node ([`front`]), where a browser sees what
//! is wrong. Everything else is what users do: the Worker is deployed by [`super::deploy`] through the API, its logs come over the API's WebSocket. A save is
//! bundled by an esbuild that stays, and deployed by two calls, upload and activation, unless more than the code changed. *Invariant:* when the command ends,
//! however it ends short of SIGKILL, both processes have ended before it, the node first; after SIGKILL the kernel tells them to. Stdout: `ready <url>`, then log records; with
//! `--json` one object per line. Main thread; one thread for logs, one per process for its stderr, those of the front.

mod front;
mod process;
mod vars;
mod watch;

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use model::{AccountId, CreateRoute, Deployment, DeploymentId, LogRecord};
use serde::Deserialize;
use serde_json::json;

use crate::args::{DEFAULT_PROJECT, DeployArgs, DevArgs};
use crate::bundle::Bundler;
use crate::client::Client;
use crate::command::deploy::{self, Deployed};
use crate::command::tail;
use crate::context::Context;
use crate::excerpt::excerpt;
use crate::failure::{Failure, Outcome, Place, io};
use crate::logs::{self, Listener};
use crate::maps::Maps;
use crate::output::{Ink, Output, duration};
use crate::project::Project;
use front::{Fault, Front};
use process::Process;
use watch::Watch;

/// Domain whose names are loopback addresses to browsers and curl (RFC 6761 §6.3).
const DOMAIN: &str = "workers.localhost";
/// A process's `ready` line.
const READY_TIMEOUT: Duration = Duration::from_secs(30);
/// The node's connection to the control plane, and the Worker's first answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
/// How often files and processes are looked at.
const TICK: Duration = Duration::from_millis(20);

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
    front: Front,
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
    // Before the control plane, which is to know the port: it stands in URLs.
    let bad = |error: std::io::Error| Failure::failed(format!("cannot listen on {}: {error}", args.listen));
    let listener = TcpListener::bind(args.listen).map_err(bad)?;
    let port = listener.local_addr().map_err(bad)?.port().to_string();
    let spinner = output.spinner("starting the control plane");
    let mut command = Command::new(&control_program);
    let own_id = std::process::id().to_string();
    command.args(["serve", "--end-with", &own_id]);
    command.args(["--push-listen", "127.0.0.1:0", "--platform-domain", DOMAIN, "--data"]).arg(&control_data);
    command.args(["--platform-port", &port]);
    command.arg("--listen").arg(args.api_listen.to_string()).arg("--validator").arg(&node_program);
    let (control, ready) = Process::start("control", command, output, args.verbose, READY_TIMEOUT, stop)?;
    let (api, push) = (ready.address("api")?, ready.address("push")?);
    spinner.set_message("starting the node");
    let mut command = Command::new(&node_program);
    command.args(["serve", "--end-with", &own_id, "--admin", "127.0.0.1:0", "--data"]).arg(data.join("node"));
    // The Worker is the developer's own, and what it works with is often another process here.
    command.args(["--test-scheduled", "--allow-private-fetch"]);
    command.args(["--listen", "127.0.0.1:0"]).arg("--shards").arg(args.shards.to_string());
    command.arg("--control").arg(push.to_string()).arg("--identity").arg(&identity);
    let (node, ready) = Process::start("node", command, output, args.verbose, READY_TIMEOUT, stop)?;
    spinner.finish_and_clear();
    let http = ready.address("http")?;
    let front = Front::start(listener, http);
    let context = context.elsewhere(format!("http://{api}"), bootstrap.token, bootstrap.account_id);
    Ok(Platform { node, control, http, front, context, _folder: folder })
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
    let client = platform.context.client()?;
    await_node(&client, stop)?;
    let mut watch = Watch::new(&args.path, args.env.as_deref());
    let mut session =
        Session { client: &client, args, bundler: Bundler::default(), last: None, logs: None, ready: false };
    session.turn(platform, &mut watch, stop)?;
    while !stop.load(Ordering::Relaxed) {
        platform.node.check()?;
        platform.control.check()?;
        std::thread::sleep(TICK);
        if watch.changed() {
            session.turn(platform, &mut watch, stop)?;
        }
    }
    Ok(())
}

/// What is kept from one deployment to the next.
struct Session<'a> {
    client: &'a Client,
    args: &'a DevArgs,
    bundler: Bundler,
    /// What was deployed last.
    last: Option<(Project, Deployment)>,
    logs: Option<LogThread>,
    ready: bool,
}

impl Session<'_> {
    /// Bundles and deploys, and says how it went. Only what ends `dev` is a failure.
    fn turn(&mut self, platform: &Platform, watch: &mut Watch, stop: &Arc<AtomicBool>) -> Outcome {
        let output = platform.context.output;
        let begun = Instant::now();
        match self.deploy(platform, watch) {
            Ok(deployed) => {
                if self.logs.is_none() {
                    let folder = self.last.as_ref().map(|(project, _)| project.folder.clone()).unwrap_or_default();
                    self.logs = Some(follow_logs(platform, deployed.deployment.id, folder, Arc::clone(stop)));
                    answer(platform.http, &deployed, stop)?;
                }
                platform.front.deployed();
                let url = format!("{}/", deployed.deployment.url);
                if self.ready {
                    say_redeployed(&output, &deployed, begun.elapsed());
                } else {
                    say_ready(&output, &url, platform.context.settings.api_url.as_str(), &deployed);
                    self.ready = true;
                }
            }
            // The user mends the file and goes on.
            Err(failure) => {
                platform.front.failed(Fault {
                    title: failure.message.clone(),
                    text: failure.excerpt.clone().unwrap_or_default(),
                    hint: failure.hint.clone(),
                });
                if output.json {
                    output.line(&failure.json().to_string());
                } else {
                    output.failure(&failure);
                }
            }
        }
        Ok(())
    }

    fn deploy(&mut self, platform: &Platform, watch: &mut Watch) -> Outcome<Deployed> {
        let args = DeployArgs {
            path: self.args.path.clone(),
            name: None,
            project: DEFAULT_PROJECT.to_owned(),
            subdomain: None,
            env: self.args.env.clone(),
            message: None,
            no_activate: false,
            no_bundle: false,
            outdir: None,
        };
        let prepared = deploy::prepare(&platform.context, &args, &mut self.bundler, true);
        watch.settle(prepared.as_ref().ok().map(|(_, bundle)| bundle.inputs.as_slice()));
        let (mut project, bundle) = prepared?;
        if let Some(file) = vars::file(&project.folder, self.args.env.as_deref()) {
            let text = std::fs::read_to_string(&file).map_err(io("read", &file))?;
            project.vars.extend(vars::parse(&text));
        }
        add_local_routes(&mut project, self.args.listen.ip());
        let deployed = match &self.last {
            Some((last, deployment)) if last.only_code_differs(&project) => {
                deploy::update(&platform.context, self.client, deployment, &args, &project, &bundle)?
            }
            _ => deploy::run(&platform.context, self.client, &args, &project, &bundle)?,
        };
        self.last = Some((project, deployed.deployment.clone()));
        Ok(deployed)
    }
}

/// The Worker answers by this machine's own names too: not every resolver knows `*.localhost`. A route of the project's wins.
fn add_local_routes(project: &mut Project, listen: IpAddr) {
    let address = Some(listen).filter(|address| address.is_ipv4() && !address.is_unspecified());
    let address = address.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)).to_string();
    for host in ["localhost", &address] {
        let pattern = format!("{host}/*");
        if project.routes.iter().all(|route| route.pattern != pattern) {
            project.routes.push(CreateRoute { pattern, zone_id: None, enabled: None });
        }
    }
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

fn say_redeployed(output: &Output, deployed: &Deployed, took: Duration) {
    let version = deployed.version.version_number;
    if output.json {
        let took_ms = took.as_millis() as u64;
        output.line(&json!({"event": "deployed", "version": version, "took_ms": took_ms}).to_string());
    } else {
        output.note(&format!("{} v{version} in {}", output.ink_stderr(Ink::Green, "Reloaded"), duration(took)));
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

struct Printer<'a> {
    output: Output,
    maps: Maps<'a>,
    front: Front,
    folder: PathBuf,
    user_stop: Arc<AtomicBool>,
    own_stop: Arc<AtomicBool>,
}

impl Listener for Printer<'_> {
    fn record(&mut self, record: LogRecord) {
        let record = self.maps.mapped(record);
        tail::print(&self.output, &record);
        if record.message.starts_with("Uncaught") {
            self.front.threw(fault(&record.message, &self.folder));
        }
    }

    fn stop(&self) -> bool {
        self.user_stop.load(Ordering::Relaxed) || self.own_stop.load(Ordering::Relaxed)
    }
}

/// An exception as a page shows it: its first line, the author's lines around its place, and the stack.
fn fault(message: &str, folder: &Path) -> Fault {
    let (title, stack) = message.split_once('\n').unwrap_or((message, ""));
    let shown = stack.lines().find_map(|line| {
        let place = place_of(line)?;
        let source = std::fs::read_to_string(folder.join(&place.file)).ok()?;
        excerpt(&source, &place)
    });
    let text = shown.map_or_else(|| stack.to_owned(), |shown| format!("{shown}\n\n{stack}"));
    Fault { title: title.to_owned(), text, hint: None }
}

/// The FILE:LINE:COLUMN at the end of a stack's line; none for packages.
fn place_of(line: &str) -> Option<Place> {
    let place = line.trim_end().trim_end_matches(')').rsplit([' ', '(']).next()?;
    let mut parts = place.rsplitn(3, ':');
    let (column, line, file) = (parts.next()?, parts.next()?, parts.next()?);
    let own = !file.contains("node_modules/");
    own.then_some(Place { file: file.to_owned(), line: line.parse().ok()?, column: column.parse().ok()? })
}

fn follow_logs(platform: &Platform, id: DeploymentId, folder: PathBuf, user_stop: Arc<AtomicBool>) -> LogThread {
    let stop = Arc::new(AtomicBool::new(false));
    let own_stop = Arc::clone(&stop);
    let (settings, output) = (platform.context.settings.clone(), platform.context.output);
    let front = platform.front.clone();
    let thread = std::thread::spawn(move || {
        let followed = Client::new(&settings, output).and_then(|client| {
            let mut printer = Printer { output, maps: Maps::new(&client, id), front, folder, user_stop, own_stop };
            logs::follow(&client, id, &mut printer)
        });
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exception_is_shown_where_its_author_wrote_it() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        std::fs::create_dir(dir.path().join("src")).expect("a folder");
        std::fs::write(dir.path().join("src/a.ts"), "one\ntwo\n").expect("a file");
        let stack = "    at f (node_modules/p/index.js:1:1)\n    at g (src/a.ts:2:3)\n    at src/a.ts:1:1";
        let fault = fault(&format!("Error: x\n{stack}"), dir.path());
        assert_eq!(fault.title, "Error: x");
        assert!(fault.text.contains("2 │ two\n  │   ^") && fault.text.ends_with(stack), "{}", fault.text);
        assert_eq!(super::fault("only this", dir.path()).text, "");
        assert_eq!(place_of("    at async Promise.all (index 0)"), None);
    }
}
