//! `serve`: opens the data directory, starts the push server and the API, says that it is ready, and stops when told to.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use api::{Artifacts, Member, Membership, RateLimit, Shutdown, Validator};
use plane_abi::seal::Key;
use push::Ca;
use store::Store;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::args::Serve;

pub(crate) async fn serve(args: Serve) -> Result<()> {
    // Before anything else: a signal that comes while it starts stops it too.
    let mut signals = (listen_for(SignalKind::terminate())?, listen_for(SignalKind::interrupt())?);
    tokio::select! {
        signal = told_to_stop(&mut signals) => {
            tracing::info!(signal, "stopped before it served");
            Ok(())
        }
        started = start(&args) => run(started?, &mut signals).await,
    }
}

struct Running {
    membership: Membership,
    store: Store,
    listener: TcpListener,
    push: SocketAddr,
    shutdown: Shutdown,
    _lock: Option<File>,
}

async fn start(args: &Serve) -> Result<Running> {
    let platform_domain = platform_domain(&args.platform_domain)?;
    let data = &args.data;
    let database = args.database.get().context("--database-url")?;
    let store = Store::open_in(data, &database).await;
    let store = store.with_context(|| format!("opening {} ({database:?})", data.display()))?;
    let lock = if database.is_shared() { None } else { Some(lock(data)?) };
    let artifacts = artifacts(args, store.lineage()).await?;
    let env_key = Key::load_or_create(&data.join("env.key")).context("the key of snapshots")?;
    let ca = Ca::load_or_create(&data.join("ca.key"))?;
    // Listening comes before the recovery of what was going on, so that nodes are back by its first publication.
    let listener = TcpListener::bind(args.listen).await.with_context(|| format!("listening on {}", args.listen))?;
    let push_listener = std::net::TcpListener::bind(args.push_listen);
    let push_listener = push_listener.with_context(|| format!("listening on {}", args.push_listen))?;
    let (api, push) = (listener.local_addr()?, push_listener.local_addr()?);
    if database.is_shared() && args.advertise.is_none() && api.ip().is_unspecified() {
        bail!("--advertise is needed: other processes cannot reach this one at {api}");
    }
    let validator = Validator::new(validator(args.validator.clone())?);
    let address = args.advertise.clone().unwrap_or_else(|| api.to_string());
    let rate_limit = RateLimit { per_second: args.rate_limit, burst: args.rate_burst };
    let member = Member {
        store: store.clone(),
        artifacts,
        validator,
        env_key,
        platform_domain,
        platform_port: args.platform_port,
        routes: data.join("routes"),
        rate_limit,
        pushed_max: args.push_top,
        ca,
        push_listener,
        address,
    };
    let shutdown = Shutdown::new();
    let membership = member.start(shutdown.clone()).await;
    let membership = membership.map_err(|error| anyhow!("cannot start from what is stored: {error}"))?;
    Ok(Running { membership, store, listener, push, shutdown, _lock: lock })
}

async fn run(running: Running, signals: &mut (Signal, Signal)) -> Result<()> {
    let Running { membership, store, listener, push, shutdown, _lock } = running;
    let api = listener.local_addr()?;
    let mut stdout = std::io::stdout();
    writeln!(stdout, "ready api=http://{api} push={push}").and_then(|()| stdout.flush()).context("standard output")?;
    tracing::info!(%api, %push, "serving");
    let served = tokio::spawn(api::serve(listener, membership.front.router(), shutdown.clone()));
    let signal = told_to_stop(signals).await;
    tracing::info!(signal, "stopping");
    shutdown.stop();
    tokio::select! {
        served = served => served.context("the service")?,
        signal = told_to_stop(signals) => tracing::warn!(signal, "told twice: not waiting for open connections"),
    }
    membership.leave().await;
    store.close().await;
    tracing::info!("stopped");
    Ok(())
}

/// The folder or the S3-compatible store, which is tried.
async fn artifacts(args: &Serve, lineage: u128) -> Result<Artifacts> {
    let given = args.artifacts.as_deref().and_then(Path::to_str).filter(|text| text.contains("://"));
    if let Some(url) = given {
        return Ok(Artifacts::s3(&args.s3.place(url).context("--artifacts")?, lineage).await?);
    }
    if args.s3.is_given() {
        bail!("--s3-endpoint, --s3-region and --s3-virtual-host are of use only with --artifacts s3://BUCKET/PREFIX");
    }
    let folder = args.artifacts.clone().unwrap_or_else(|| args.data.join("artifacts"));
    Ok(Artifacts::local(&folder)?)
}

/// The domain in its normal form.
pub(crate) fn platform_domain(text: &str) -> Result<String> {
    let pattern = plane_abi::pattern::Pattern::parse(&format!("{text}/"));
    let pattern = pattern.with_context(|| format!("--platform-domain {text:?}"))?;
    if pattern.path != "/" || pattern.to_string().starts_with("*.") {
        bail!("--platform-domain {text:?}: must be a host name");
    }
    Ok(pattern.host)
}

/// One process serves a data directory with SQLite. The lock goes with the process, however it ends.
fn lock(data: &Path) -> Result<File> {
    let path = data.join("serve.lock");
    let file = OpenOptions::new().create(true).append(true).open(&path);
    let file = file.with_context(|| format!("opening {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => bail!("another control plane serves {}", data.display()),
        Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("locking {}", path.display())),
    }
}

fn validator(given: Option<PathBuf>) -> Result<PathBuf> {
    let path = match given {
        Some(path) => path,
        None => {
            let own = std::env::current_exe().context("finding this program")?;
            own.with_file_name("selvage-node")
        }
    };
    // Absolute, since validators run in `/`.
    let path = std::path::absolute(&path).with_context(|| path.display().to_string())?;
    if !path.is_file() {
        tracing::warn!(path = %path.display(), "there is no validator: uploads will be refused until there is");
    }
    Ok(path)
}

fn listen_for(kind: SignalKind) -> Result<Signal> {
    signal(kind).context("listening for signals")
}

async fn told_to_stop(signals: &mut (Signal, Signal)) -> &'static str {
    tokio::select! {
        _ = signals.0.recv() => "SIGTERM",
        _ = signals.1.recv() => "SIGINT",
    }
}
