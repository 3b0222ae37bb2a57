//! `selvage-node serve`: brings the parts up in order, waits for a signal, brings them down in order.

use crate::steering::{Keeper, Line};
use crate::upgrade::{Heir, Predecessor};
use crate::{ServeArgs, logging, steering, supervisor, upgrade};
use agent::{Agent, AgentHandle, CodeConfig, Config, Control, Hooks};
use anyhow::Context;
use base::id::DeploymentId;
use base::limits::{MIB, MS_NS};
use plane_abi::code::CodeEngine;
use plane_abi::limits::{TRAFFIC_COUNTED_MAX, VERSIONS_COUNTED_MAX};
use plane_abi::wire::{Load, Traffic, VersionCounts};
use shard::config::Timeouts;
use shard::metrics::Metrics;
use shard::{Node, NodeConfig};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use worker_api::{Engine, RequestLimits};

/// Why a node ends.
enum End {
    Signal(i32),
    /// Its successor serves.
    HandedOver,
}

/// Serves until SIGTERM, SIGINT, or a successor serves; a second signal ends the process at once.
pub(crate) fn run(args: ServeArgs) -> anyhow::Result<()> {
    // First of all, so that what dies after it is reported.
    pkey::crash::install(Some(&args.data));
    // What takes another's place is the keeper's child.
    if let Some(parent) = args.end_with.filter(|_| !args.heir) {
        end_with_parent(parent)?;
    }
    let heir = args.heir.then(Heir::receive).transpose()?;
    let line = heir.as_ref().and_then(Heir::line);
    let served = serve(&args, heir);
    if let (Err(error), Some(line)) = (&served, &line) {
        upgrade::failed(line, error);
    }
    served
}

fn serve(args: &ServeArgs, mut heir: Option<Heir>) -> anyhow::Result<()> {
    // A process of its own, before this one gives up the right to call bpf(2).
    let keeper = steering::spawn(args);
    // It binds this thread and those that come after.
    let files = pkey::fence::close_files();
    let _log = logging::start(args.log_format);
    // What V8 sets up per thread must be there before there are threads that use it.
    let engine = Engine::init().context("cannot start the JavaScript engine")?;
    let engine = match &args.cf {
        Some(given) => engine.at(place(given).context("--cf")?),
        None => engine,
    };
    protect(files);
    // One that only waits for its turn ends as any process does.
    let signals = if heir.is_none() { Some(take_signals()?) } else { None };
    match shard::raise_descriptor_limit() {
        Ok(limit) => tracing::info!(limit, v8 = engine.version(), "starting"),
        Err(error) => tracing::warn!(%error, "cannot raise the limit of open descriptors"),
    }

    let mut agent = open_agent(args, &engine, heir.as_mut())?;
    let (handle, admin) = (agent.handle(), agent.admin_listener()?);
    let sink = Arc::new(logging::Sink(handle.clone()));
    let inheritance = heir.as_mut().map(Heir::inheritance);
    let node = Node::start_with(node_config(args), engine.clone(), handle.plane().clone(), sink, inheritance)?;
    let taken = heir.as_ref().map_or(Ok(None), |heir| heir.take_place(&node, &mut agent));
    let schedules_since_ms = match taken {
        Ok(since_ms) => since_ms,
        Err(error) => {
            node.drain();
            node.join();
            return Err(error);
        }
    };
    let (end, ends) = mpsc::channel();
    end_by_signals(signals.map_or_else(take_signals, Ok)?, end.clone());
    let line = keeper.and_then(|keeper| follow(keeper, &node, &admin, args, &handle, end));
    drop(admin);
    node.begin(schedules_since_ms);
    let draining = Arc::new(AtomicBool::new(false));
    let hooks = hooks(&node, engine, draining.clone());
    let agent = thread::Builder::new().name("agent".to_owned()).spawn(move || agent.run(hooks))?;

    let announced = announce(&node, &handle);
    match &heir {
        None => announced?,
        // Who read the first node's output may have gone.
        Some(heir) => heir.serving()?,
    }
    let end = ends.recv();
    draining.store(true, Ordering::Relaxed);
    match end {
        Ok(End::HandedOver) => {
            tracing::info!("another process serves: draining");
            node.hand_over();
            // Its successor answers at the admin listener now.
            handle.shutdown();
        }
        Ok(End::Signal(_)) | Err(_) => {
            tracing::info!(signal = end.ok().and_then(End::signal), "draining");
            line.iter().for_each(Line::stopping);
            node.drain();
        }
    }
    node.join();
    handle.shutdown();
    match agent.join() {
        Ok(ended) => ended?,
        Err(_) => anyhow::bail!("the agent panicked"),
    }
    tracing::info!("stopped");
    Ok(())
}

/// Has this process stop, as by SIGTERM, when the process that started it ends, and at once if that has happened already.
fn end_with_parent(parent: i32) -> anyhow::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM))
        .context("asking for a signal at the parent's end")?;
    let now = rustix::process::getppid().map(rustix::process::Pid::as_raw_pid);
    anyhow::ensure!(now == Some(parent), "the process that started this one has ended");
    Ok(())
}

impl End {
    fn signal(self) -> Option<i32> {
        match self {
            End::Signal(number) => Some(number),
            End::HandedOver => None,
        }
    }
}

fn take_signals() -> anyhow::Result<Signals> {
    Signals::new([SIGTERM, SIGINT]).context("cannot take signals")
}

/// The agent: of its own, or beside the one whose place it takes.
fn open_agent(args: &ServeArgs, engine: &Engine, heir: Option<&mut Heir>) -> anyhow::Result<Agent> {
    let control = args.control.clone().zip(args.identity.clone());
    let control = control.map(|(address, identity)| Control { address, identity });
    let software = concat!("selvage-node/", env!("CARGO_PKG_VERSION")).to_owned();
    let code = Some(code_config(engine));
    let config = Config {
        data_dir: args.data.clone(),
        admin: args.admin,
        control,
        software,
        pulled_bytes_max: args.pull_mb.saturating_mul(MIB as u64),
        code,
    };
    Ok(match heir {
        Some(heir) => Agent::succeed(config, heir.admin()?)?,
        None => Agent::open(config)?,
    })
}

/// Tells the keeper what it is to keep; without one, says what there is not.
fn follow(
    keeper: Keeper,
    node: &Node,
    admin: &TcpListener,
    args: &ServeArgs,
    handle: &AgentHandle,
    end: mpsc::Sender<End>,
) -> Option<Line> {
    let predecessor = Predecessor {
        handle: handle.clone(),
        workers: Box::new(node.ask_workers()),
        pause_schedules: Box::new(node.pause_schedules()),
        // The node may be ending already.
        hand_over: Box::new(move || _ = end.send(End::HandedOver)),
    };
    let followed = keeper.follow(node, admin, args, predecessor);
    let warn =
        |error: &_| tracing::warn!(%error, "packets are not steered, and no upgrades: the keeper does not listen");
    followed.inspect_err(warn).ok()
}

/// Which V8 this is, and how it compiles what Workers will start from.
/// `request.cf`: the node's own fields, and what the operator says.
fn place(given: &str) -> anyhow::Result<String> {
    /// More is no place but data.
    const BYTES_MAX: usize = 16 * 1024;
    anyhow::ensure!(given.len() <= BYTES_MAX, "has more than {BYTES_MAX} bytes");
    let object = |text: &str| serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(text);
    let mut place = object(Engine::default_place()).context("the node's own")?;
    place.extend(object(given).context("is no JSON object")?);
    Ok(serde_json::to_string(&place)?)
}

fn code_config(engine: &Engine) -> CodeConfig {
    let this = CodeEngine { version: engine.version().to_owned(), tag: engine.code_tag() };
    let engine = engine.clone();
    CodeConfig { engine: this, compile: Arc::new(move |module| worker_api::compile_ahead(&engine, module)) }
}

/// What stands between tenants, and around the process, beside V8 itself: says what this machine has of it.
fn protect(files: std::io::Result<()>) {
    match pkey::status() {
        status @ pkey::Status::On { .. } => {
            // For who reads a crash report, which names keys by their numbers.
            let (secrets_key, spare_key) = (pkey::secrets_key().number(), pkey::spare_key().number());
            tracing::info!(%status, secrets_key, spare_key, "memory protection keys");
        }
        status @ pkey::Status::Off(_) => tracing::warn!(%status, "memory protection keys"),
    }
    if let Err(error) = pkey::fence::deny_calls() {
        tracing::warn!(%error, "seccomp is not available: process_vm_readv and its like stay open");
    }
    if let Err(error) = files {
        tracing::warn!(%error, "Landlock is not available: /proc/self/mem stays open");
    }
}

/// The one line on standard output, for whoever started the node.
fn announce(node: &Node, handle: &AgentHandle) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "ready http={} admin={} shards={}", node.address(), handle.admin_addr(), node.shards())?;
    out.flush()?;
    supervisor::serving();
    Ok(())
}

fn node_config(args: &ServeArgs) -> NodeConfig {
    let defaults = Timeouts::default();
    let limits = RequestLimits::default();
    let ns = |ms: Option<u64>, default_ns: u64| ms.map_or(default_ns, |ms| ms.saturating_mul(MS_NS));
    NodeConfig {
        listen: args.listen,
        shards: args.shards,
        timeouts: Timeouts {
            head_ns: ns(args.head_timeout_ms, defaults.head_ns),
            idle_ns: ns(args.idle_timeout_ms, defaults.idle_ns),
            stall_ns: ns(args.stall_timeout_ms, defaults.stall_ns),
            origin_head_ns: ns(args.origin_head_timeout_ms, defaults.origin_head_ns),
            drain_ns: ns(args.drain_timeout_ms, defaults.drain_ns),
        },
        request_limits: RequestLimits {
            wall_head_ns: ns(args.wall_head_ms, limits.wall_head_ns),
            wall_ns: ns(args.wall_ms, limits.wall_ns),
            subrequests: args.subrequests.unwrap_or(limits.subrequests),
            response_bytes: args.response_bytes.unwrap_or(limits.response_bytes),
        },
        spares: args.spares,
        memory_bytes: args.memory_mb.map(|mb| mb.saturating_mul(MIB as u64)),
        allow_private_fetch: args.allow_private_fetch,
        test_scheduled: args.test_scheduled,
        extra_ca: args.extra_ca.clone(),
        preemption: !args.no_preemption,
        steered: args.count_cpus || steering::interface(args).is_some(),
        ..NodeConfig::default()
    }
}

fn hooks(node: &Node, engine: Engine, draining: Arc<AtomicBool>) -> Hooks {
    let metrics = node.metrics();
    let (for_load, for_traffic) = (node.metrics(), node.metrics());
    let shards = node.shards() as u32;
    Hooks {
        ready: Arc::new(move || match draining.load(Ordering::Relaxed) {
            true => Err("draining".to_owned()),
            false => Ok(()),
        }),
        metrics: Arc::new(move || metrics.render(engine.isolates_abandoned()) + &keys_metric()),
        load: Arc::new(move || load(&for_load, shards)),
        traffic: Arc::new(move || traffic(&for_traffic)),
    }
}

fn keys_metric() -> String {
    let keys = match pkey::status() {
        pkey::Status::On { tenants } => tenants,
        pkey::Status::Off(_) => 0,
    };
    let help = "# HELP selvage_protection_keys Memory protection keys that tenants share; 0 while keys are off.";
    format!("{help}\n# TYPE selvage_protection_keys gauge\nselvage_protection_keys {keys}\n")
}

fn load(metrics: &Metrics, shards: u32) -> Load {
    let mut load = Load { shards, ..Load::default() };
    let mut versions = BTreeMap::new();
    for shard in metrics.shards() {
        load.connections += shard.connections.get();
        load.requests += shard.requests.iter().map(|class| class.get()).sum::<u64>();
        load.errors += shard.requests[4].get();
        for VersionCounts { deployment, version, requests, errors } in shard.versions() {
            let sum: &mut (u64, u64) = versions.entry((deployment, version)).or_default();
            *sum = (sum.0 + requests, sum.1 + errors);
        }
    }
    let counts = |((deployment, version), (requests, errors))| VersionCounts { deployment, version, requests, errors };
    load.versions = versions.into_iter().take(VERSIONS_COUNTED_MAX).map(counts).collect();
    load
}

/// Requests of deployments since this was asked last, most first.
fn traffic(metrics: &Metrics) -> Vec<Traffic> {
    let mut all: HashMap<DeploymentId, u64> = HashMap::new();
    for (deployment, requests) in metrics.shards().iter().flat_map(|shard| shard.take_traffic()) {
        *all.entry(deployment).or_default() += requests;
    }
    let mut all: Vec<Traffic> =
        all.into_iter().map(|(deployment, requests)| Traffic { deployment: deployment.0, requests }).collect();
    all.sort_unstable_by_key(|one| (Reverse(one.requests), one.deployment));
    all.truncate(TRAFFIC_COUNTED_MAX);
    all
}

/// The first signal ends the node, the second the process.
fn end_by_signals(mut signals: Signals, end: mpsc::Sender<End>) {
    let waiting = thread::Builder::new().name("signals".to_owned()).spawn(move || {
        let mut told = false;
        for signal in signals.forever() {
            if std::mem::replace(&mut told, true) || end.send(End::Signal(signal)).is_err() {
                std::process::exit(128 + signal);
            }
        }
    });
    if let Err(error) = waiting {
        tracing::warn!(%error, "signals will not be heard");
    }
}
