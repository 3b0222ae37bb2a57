//! `selvage-node`: the program of an edge node. Wiring only: engine, agent, shards, signals, logs.
//!
//! Does not own anything that can be tested without a process; what it wires says what it promises.

#![forbid(unsafe_code)]

mod frames;
mod keeper;
mod logging;
mod serve;
mod steering;
mod succession;
mod supervisor;
mod upgrade;
mod validate;

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

/// An edge node of Selvage.
#[derive(Parser)]
#[command(name = "selvage-node", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve the Workers of the newest configuration until SIGTERM.
    Serve(Box<ServeArgs>),
    /// Show how packets are steered to shards, and what became of them.
    Steer(SteerArgs),
    /// Put a new binary in the running node's place; no request fails.
    Upgrade(UpgradeArgs),
    /// What a node starts for itself before it gives up the right to.
    #[command(hide = true)]
    Keep(KeepArgs),
    /// Read a module from standard input and say on standard output whether it is a Worker.
    Validate(ValidateArgs),
}

/// Where and how to serve.
#[derive(Args)]
struct ServeArgs {
    /// Folder for configuration, artifacts and state; made if need be.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Address for HTTP; port 0 takes a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Address for health, readiness and metrics; port 0 takes a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9090")]
    admin: SocketAddr,
    /// The control plane's push listener; without it, the node serves what its data folder holds.
    #[arg(long, value_name = "HOST:PORT", requires = "identity")]
    control: Option<String>,
    /// Folder with ca.pem, node.pem and node.key, as `selvage-control enroll` writes them.
    #[arg(long, value_name = "DIR", requires = "control")]
    identity: Option<PathBuf>,
    /// Number of shards; one per core unless given. More than there are cores are not pinned.
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    shards: usize,
    /// Isolates that each shard keeps ready for Workers to come; 0 for none.
    #[arg(long, value_name = "N", default_value_t = shard::config::SPARES_PER_SHARD)]
    spares: usize,
    /// Resident memory that the node may have, MiB; three quarters of the machine's or its control group's unless given.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(64..))]
    memory_mb: Option<u64>,
    /// Disk space for modules that come on demand, MiB: what was used longest ago makes room.
    #[arg(long, value_name = "N", default_value_t = 4096)]
    pull_mb: u64,
    /// Interface whose packets are steered to shards; that of the default route unless given. Nothing is steered on loopback.
    #[arg(long, value_name = "NAME", conflicts_with = "no_steering")]
    interface: Option<String>,
    /// Leave packets to the kernel: no steering, deny list, limits or VIPs.
    #[arg(long)]
    no_steering: bool,
    /// Count the connections whose packets come to their shard's core also where nothing is steered. To measure what steering is worth.
    #[arg(long, hide = true)]
    count_cpus: bool,
    /// Folder on a mounted bpffs where what outlives the process is kept.
    #[arg(long, value_name = "DIR", default_value = "/sys/fs/bpf/selvage")]
    bpffs: PathBuf,
    /// Form of the log on standard error.
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
    /// Let Workers reach loopback, private and link-local addresses with `fetch`.
    #[arg(long)]
    allow_private_fetch: bool,
    /// What Workers see as `request.cf`, a JSON object such as {"colo":"SJC","country":"US"}; its fields come on top of the node's own.
    #[arg(long, value_name = "JSON", env = "SELVAGE_CF")]
    cf: Option<String>,
    /// Run a Worker's `scheduled` handler at `/__scheduled?cron=…`, for development.
    #[arg(long)]
    test_scheduled: bool,
    /// Stop when the process of this id, which started this one, ends.
    #[arg(long, value_name = "PID", hide = true)]
    end_with: Option<i32>,
    /// Never suspend a Worker that computes: it holds its shard until it is done. To measure what suspension costs.
    #[arg(long)]
    no_preemption: bool,
    /// A PEM file of certificate authorities that Workers' `fetch` trusts besides the system's.
    #[arg(long, value_name = "FILE", env = "SELVAGE_EXTRA_CA")]
    extra_ca: Option<PathBuf>,
    /// Milliseconds from the first byte of a request to the end of its head.
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..))]
    head_timeout_ms: Option<u64>,
    /// Milliseconds that a kept-alive connection may wait for a request.
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..))]
    idle_timeout_ms: Option<u64>,
    /// Milliseconds that a read of a body or a write may make no progress.
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..))]
    stall_timeout_ms: Option<u64>,
    /// Milliseconds from an outbound request to the end of its response's head.
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..))]
    origin_head_timeout_ms: Option<u64>,
    /// Milliseconds from a request's head to the head of its Worker's response.
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..))]
    wall_head_ms: Option<u64>,
    /// Milliseconds from a request's head to the end of its Worker's response.
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..))]
    wall_ms: Option<u64>,
    /// Outbound requests that one request of a Worker may make.
    #[arg(long, value_name = "N")]
    subrequests: Option<u32>,
    /// Bytes of the body of a Worker's response.
    #[arg(long, value_name = "N")]
    response_bytes: Option<u64>,
    /// Milliseconds from SIGTERM to the end of the last connection.
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..))]
    drain_timeout_ms: Option<u64>,
    /// Take the place of the node whose keeper is at standard input.
    #[arg(long, hide = true)]
    heir: bool,
}

/// Which node, and what takes its place.
#[derive(Args)]
struct UpgradeArgs {
    /// The node's data folder.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// The new binary; the file that the node was started from unless given.
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// Milliseconds for the new node to be ready.
    #[arg(long, value_name = "MS", default_value_t = 60_000, value_parser = clap::value_parser!(u64).range(1..=3_600_000))]
    ready_timeout_ms: u64,
    /// The new node's arguments after `serve`, all of them; the running node's unless given.
    #[arg(last = true, value_name = "ARGS")]
    serve: Vec<String>,
}

/// Of which node.
#[derive(Args)]
struct SteerArgs {
    /// The node's data folder.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// How the keeper logs.
#[derive(Args)]
struct KeepArgs {
    /// Form of the log on standard error.
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
}

/// How to validate.
#[derive(Args)]
struct ValidateArgs {
    /// CPU time of the module's top level, milliseconds.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=60_000))]
    startup_ms: Option<u64>,
    /// After the verdict of a good module, write its code cache.
    #[arg(long)]
    code_cache: bool,
}

/// Form of the log.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object per line.
    Json,
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Serve(args) => serve::run(*args),
        Command::Steer(args) => steering::show(&args),
        Command::Upgrade(args) => upgrade::run(&args),
        Command::Keep(args) => keeper::run(&args),
        Command::Validate(args) => validate::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("selvage-node: {error:#}");
            ExitCode::FAILURE
        }
    }
}
