//! `websocket`: an echo Worker on many connections, this node beside workerd, each on one core, with the clients on another.
//!
//! In each round both servers are started anew, one after the other and in turn first: resident memory before and after the connections
//! are opened gives what one costs while it is idle; a closed loop with one message under way on each gives messages a second, and a
//! CPU second. Ratios are taken round by round, and their median is what counts.

mod clients;

use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Args;
use serde::Serialize;

use self::clients::{Clients, MESSAGE_BYTES};
use super::{Promise, Verdict, parse_duration, print_promises};
use crate::load::Target;
use crate::machine::{self, Machine};
use crate::peers::{Peer, Program};
use crate::process::{Server, free_port, loopback};
use crate::report::{self, Spread, table};
use crate::stack::{Binaries, Options, Stack};

const ECHO_MODULE: &str = include_str!("echo.js");
const SELF: &str = "selvage";
/// Connections that a fresh server has had before its memory counts.
const WARM_CONNECTIONS: usize = 16;
/// Files that workerd opens for a connection.
const WORKERD_FILES_EACH: usize = 2;
/// Files of a process that are no connections of clients.
const FILES_BESIDES: usize = 64;
/// From the last connection to the look at memory.
const SETTLE: Duration = Duration::from_secs(2);
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// Measure an echo Worker on many WebSockets beside workerd
#[derive(Args, Debug)]
pub struct Arguments {
    /// Connections
    #[arg(long, default_value_t = 10_000)]
    connections: usize,
    /// Rounds
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Length of each measurement
    #[arg(long, default_value = "5s", value_parser = parse_duration)]
    duration: Duration,
    /// What comes before it does not count
    #[arg(long, default_value = "1s", value_parser = parse_duration)]
    warmup: Duration,
    /// Measure this node alone
    #[arg(long)]
    without_peer: bool,
}

/// One server in one round.
#[derive(Clone, Copy, Serialize)]
struct Round {
    /// Resident bytes of an idle connection.
    bytes_each: f64,
    rate: f64,
    /// Messages in a second of the server's CPU time.
    per_cpu_second: f64,
}

#[derive(Serialize)]
struct ServerReport {
    name: &'static str,
    version: String,
    connections: usize,
    bytes_each: Spread,
    rate: Spread,
    per_cpu_second: Spread,
}

#[derive(Serialize)]
struct Report {
    bench: &'static str,
    machine: Machine,
    connections: usize,
    message_bytes: usize,
    rounds: usize,
    servers: Vec<ServerReport>,
    promises: Vec<Promise>,
    ok: bool,
}

enum Process {
    Node(Box<Stack>),
    Workerd(Server),
}

/// Runs it.
pub fn run(arguments: &Arguments) -> anyhow::Result<Verdict> {
    ensure!(arguments.rounds > 0 && arguments.connections > WARM_CONNECTIONS, "nothing to measure");
    let (server_core, load_core) = machine::two_cores().context("this bench needs two cores: one for the server")?;
    machine::pin_thread(&[load_core])?;
    let peer = if arguments.without_peer { None } else { Some(Peer::Workerd.find()?) };
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let connections = arguments.connections;
    let files = machine::files_max()?.saturating_sub(FILES_BESIDES);
    ensure!(files > connections, "{connections} connections need as many open files and more: `ulimit -n`");
    let peer_connections = connections.min(files / WORKERD_FILES_EACH);
    if peer.is_some() && peer_connections < connections {
        eprintln!(
            "workerd gets {peer_connections} connections: it opens two files for each, and more cannot be had here"
        );
    }
    for round in 0..arguments.rounds {
        for turn in 0..2 {
            if (turn + round) % 2 == 0 {
                ours.push(measure_node(arguments, server_core, load_core)?);
            } else if let Some(program) = &peer {
                theirs.push(measure_workerd(arguments, peer_connections, program, server_core)?);
            }
        }
        eprintln!("round {} of {}", round + 1, arguments.rounds);
    }
    let promises = promises(&ours, &theirs);
    let verdict = Verdict::of(&promises);
    let mut servers = vec![server_report(SELF, env!("CARGO_PKG_VERSION").to_owned(), connections, &ours)];
    let of_peer = |program: Program| server_report(Peer::Workerd.name(), program.version, peer_connections, &theirs);
    servers.extend(peer.map(of_peer));
    let report = Report {
        bench: "websocket",
        machine: Machine::describe(),
        connections: arguments.connections,
        message_bytes: MESSAGE_BYTES,
        rounds: arguments.rounds,
        servers,
        promises,
        ok: verdict == Verdict::Kept,
    };
    print(&report);
    report::last_line(&report)?;
    Ok(verdict)
}

fn measure_node(arguments: &Arguments, server_core: usize, load_core: usize) -> anyhow::Result<Round> {
    let options =
        Options { shards: 1, node_cores: vec![server_core], control_cores: vec![load_core], ..Options::default() };
    let mut stack = Stack::start(&Binaries::find()?, &options)?;
    let deployment = stack.deploy("echo", ECHO_MODULE.as_bytes())?;
    let target = stack.target(&deployment.subdomain, "/")?;
    measure(arguments, arguments.connections, &target, Process::Node(Box::new(stack)))
}

fn measure_workerd(
    arguments: &Arguments,
    connections: usize,
    program: &Program,
    server_core: usize,
) -> anyhow::Result<Round> {
    let dir = tempfile::Builder::new().prefix("selvage-websocket-").tempdir()?;
    let port = free_port()?;
    std::fs::write(dir.path().join("hello.js"), ECHO_MODULE)?;
    let config = include_str!("../../peers/workerd.capnp").replace("@PORT@", &port.to_string());
    std::fs::write(dir.path().join("config.capnp"), config)?;
    let mut server = program.serve_config(&[server_core], dir.path())?;
    let target = loopback(port, &format!("127.0.0.1:{port}"), "/")?;
    server.wait_answers(&target, START_TIMEOUT)?;
    measure(arguments, connections, &target, Process::Workerd(server))
}

fn measure(arguments: &Arguments, connections: usize, target: &Target, process: Process) -> anyhow::Result<Round> {
    let pid = match &process {
        Process::Node(stack) => stack.node_pid(),
        Process::Workerd(server) => server.pid(),
    };
    let mut warm = Clients::open(target, WARM_CONNECTIONS)?;
    warm.echo(Duration::ZERO, Duration::from_millis(500), &mut || Ok(()))?;
    let before = machine::tree_resident_bytes(pid)?;
    let added = connections - WARM_CONNECTIONS;
    let idle = Clients::open(target, added)?;
    std::thread::sleep(SETTLE);
    let after = machine::tree_resident_bytes(pid)?;
    drop(idle);
    drop(warm);
    std::thread::sleep(SETTLE);

    let mut all = Clients::open(target, connections)?;
    let mut cpu = Vec::new();
    let echoes = all.echo(arguments.warmup, arguments.duration, &mut || {
        cpu.push(machine::tree_cpu_seconds(pid)?);
        Ok(())
    })?;
    drop(all);
    match process {
        Process::Node(stack) => stack.stop()?,
        Process::Workerd(server) => drop(server.stop(Duration::from_secs(3))?),
    }
    Ok(Round {
        bytes_each: (after as f64 - before as f64) / added as f64,
        rate: echoes.messages as f64 / echoes.seconds,
        per_cpu_second: echoes.messages as f64 / (cpu[1] - cpu[0]),
    })
}

fn server_report(name: &'static str, version: String, connections: usize, rounds: &[Round]) -> ServerReport {
    let of = |value: fn(&Round) -> f64| Spread::of(rounds.iter().map(value));
    ServerReport {
        name,
        version,
        connections,
        bytes_each: of(|round| round.bytes_each),
        rate: of(|round| round.rate),
        per_cpu_second: of(|round| round.per_cpu_second),
    }
}

/// docs/SPECIFICATION.md: less memory a connection than workerd, and more messages of a core.
fn promises(ours: &[Round], theirs: &[Round]) -> Vec<Promise> {
    if theirs.is_empty() {
        return Vec::new();
    }
    let over = |value: fn(&Round) -> f64| {
        Some(Spread::of(ours.iter().zip(theirs).map(|(ours, theirs)| value(ours) / value(theirs))).median)
    };
    vec![
        Promise::at_most("memory of a connection over workerd's", over(|round| round.bytes_each), 1.0),
        Promise::at_least("messages of a CPU second over workerd's", over(|round| round.per_cpu_second), 1.0),
    ]
}

fn print(report: &Report) {
    println!("messages of {} bytes, {} rounds; median (min to max)", report.message_bytes, report.rounds);
    let cell = |spread: &Spread| {
        let [median, min, max] = [spread.median, spread.min, spread.max].map(table::grouped);
        format!("{median} ({min} to {max})")
    };
    let rows: Vec<Vec<String>> = report
        .servers
        .iter()
        .map(|one| {
            vec![
                format!("{} {}", one.name, one.version),
                table::grouped(one.connections as f64),
                cell(&one.bytes_each),
                cell(&one.rate),
                cell(&one.per_cpu_second),
            ]
        })
        .collect();
    print!(
        "{}",
        table::render(&["server", "connections", "bytes a connection", "messages/s", "messages/CPU s"], &rows)
    );
    print_promises(&report.promises);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_of_rounds() {
        let round = |bytes_each, per_cpu_second| Round { bytes_each, rate: 1.0, per_cpu_second };
        let kept = promises(&[round(1.0, 9.0), round(2.0, 8.0)], &[round(4.0, 3.0), round(4.0, 4.0)]);
        assert_eq!(
            kept.iter().map(|one| (one.measured, one.kept)).collect::<Vec<_>>(),
            [(Some(0.375), true), (Some(2.5), true)]
        );
        assert!(!promises(&[round(5.0, 1.0)], &[round(4.0, 3.0)]).iter().any(|one| one.kept));
        assert!(promises(&[round(1.0, 1.0)], &[]).is_empty());
    }
}
