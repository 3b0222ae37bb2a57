//! `selvage-control`: the control plane's process. Wiring only: the command line, the data directory, the listeners, the
//! log, and the order in which things start and stop.
//!
//! A data directory (mode 0700) has:
//! `control.db` (with `-wal`, `-shm`) the store, unless that is in PostgreSQL; `artifacts/` modules by SHA-256, unless `--artifacts` says where else; `master.key` seals variables in the store;
//! `env.key` seals them in snapshots; `routes/` the base of routes; `ca.key` the authority that nodes trust, certificate and private key;
//! `serve.lock`, held while a process serves; `open.lock`, held while the store is opened. Keys are mode 0600. To back
//! up: stop, and copy it whole.

#![forbid(unsafe_code)]

mod args;
mod import;
mod serve;

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;

use args::{Args, Command, LogFormat};

fn main() -> ExitCode {
    match run(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // All causes in one line: what went wrong, and why.
            eprintln!("selvage-control: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting the runtime")?;
    match args.command {
        Command::Serve(serve) => {
            if let Some(parent) = serve.end_with {
                end_with_parent(parent)?;
            }
            start_log(serve.log_format);
            runtime.block_on(serve::serve(*serve))
        }
        Command::Bootstrap { data, database, email } => {
            runtime.block_on(bootstrap(&data, &database.get().context("--database-url")?, &email))
        }
        Command::ImportRoutes { data, database, platform_domain } => {
            let database = database.get().context("--database-url")?;
            runtime.block_on(import::routes(&data, &database, &serve::platform_domain(&platform_domain)?))
        }
        Command::Enroll { data, name, out } => enroll(&data, &name, &out),
    }
}

/// Has this process stop, as by SIGTERM, when the process that started it ends, and at once if that has happened already.
fn end_with_parent(parent: i32) -> Result<()> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM))
        .context("asking for a signal at the parent's end")?;
    let now = rustix::process::getppid().map(rustix::process::Pid::as_raw_pid);
    ensure!(now == Some(parent), "the process that started this one has ended");
    Ok(())
}

/// Prints the new account and its token, once; fails if the email is known, as its token cannot be shown again.
async fn bootstrap(data: &Path, database: &store::Database, email: &str) -> Result<()> {
    model::rules::email("--email", email)?;
    let store = store::Store::open_in(data, database).await;
    let store = store.with_context(|| format!("opening {} ({database:?})", data.display()))?;
    let made = store.bootstrap(email).await?;
    store.close().await;
    let Some((account, created)) = made else {
        bail!("there is an account of {email} already; make a token for it with an admin's");
    };
    let line = serde_json::json!({"account_id": account.id, "token": created.secret});
    writeln!(std::io::stdout(), "{line}").context("writing to standard output")
}

fn enroll(data: &Path, name: &str, out: &Path) -> Result<()> {
    store::make_private_dir(data)?;
    let ca = push::Ca::load_or_create(&data.join("ca.key"))?;
    let identity = ca.issue_node(name)?;
    identity.write(out).with_context(|| format!("writing to {}", out.display()))
}

/// Logs to standard error. `RUST_LOG` chooses what; `info` if it is not set.
fn start_log(format: LogFormat) {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,sqlx=warn"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => log.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).init(),
        LogFormat::Json => log.json().init(),
    }
}
