//! `streams`: a large body through this node, beside workerd and Deno: passed on unread, and through a `TransformStream`.
//!
//! The baseline is the node's own proxying: a Worker that throws after `passThroughOnException()`, so that the node sends the
//! request to its origin by itself. nginx is there as a reference. Servers have a core of their own; the origin and the reader
//! share the other one, and the reader lets the kernel throw away what it has counted. Rounds are interleaved and their order
//! rotates; ratios are taken round by round, and their median is what counts.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use rustix::net::RecvFlags;
use serde::Serialize;

use super::hello::order;
use super::{Promise, Verdict, print_promises};
use crate::load::Target;
use crate::load::response::{ResponseReader, Sink};
use crate::machine::{self, Machine};
use crate::origin;
use crate::peers::{Peer, STREAMS_MODULE};
use crate::process::Server;
use crate::report::{self, Spread, round, table};
use crate::stack::{Binaries, Options, Stack};

/// CPU time of a request: a gigabyte through JavaScript takes more than a plan usually gives.
const CPU_MS: u32 = 30_000;
/// Bytes of the request that checks what comes.
const CHECK_BYTES: u64 = 3 * (1 << 20) + 12_345;
/// Bytes that one call counts and throws away.
const COUNTED_AT_ONCE: usize = 1 << 20;
/// No read waits longer.
const PATIENCE: Duration = Duration::from_secs(60);

const PROXY: &str = "selvage, its own proxying";
const PASS: &str = "selvage, passed on";
const TRANSFORM: &str = "selvage, TransformStream";

/// Measure a large body through this node beside workerd, Deno and nginx
#[derive(Args, Debug)]
pub struct Arguments {
    /// Rounds
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Bytes of the body
    #[arg(long, default_value_t = 1 << 30)]
    bytes: u64,
    /// Peers to measure
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Peer::Workerd, Peer::Deno, Peer::Nginx])]
    peers: Vec<Peer>,
}

/// A way of a body through a server.
struct Contender {
    name: String,
    address: SocketAddr,
    host: String,
    path: &'static str,
    pid: u32,
    rounds: Vec<Measured>,
}

#[derive(Clone, Copy)]
struct Measured {
    /// MB/s, of 10⁶ bytes.
    rate: f64,
    /// CPU time of the server's processes, s/GB.
    cpu: f64,
}

#[derive(Serialize)]
struct Row {
    name: String,
    /// MB/s, of 10⁶ bytes.
    rate: Spread,
    /// CPU time of the server's processes, s/GB.
    cpu: Spread,
    /// Resident memory of the server's processes at the end, MiB.
    resident_mib: f64,
}

#[derive(Serialize)]
struct Ratio {
    what: String,
    rate: Spread,
    /// The other's CPU time over the first's.
    cpu: Spread,
}

#[derive(Serialize)]
struct Report {
    bench: &'static str,
    machine: Machine,
    server_core: usize,
    load_core: usize,
    shared_core: bool,
    rounds: usize,
    bytes: u64,
    missing: Vec<String>,
    rows: Vec<Row>,
    ratios: Vec<Ratio>,
    promises: Vec<Promise>,
    ok: bool,
}

/// Runs it.
pub fn run(arguments: &Arguments) -> anyhow::Result<Verdict> {
    ensure!(arguments.rounds > 0 && arguments.bytes >= 1 << 20, "no rounds, or less than a mebibyte");
    let machine = Machine::describe();
    let (server_core, load_core) = machine::two_cores().context("this bench needs two cores: one for the server")?;
    machine::pin_thread(&[load_core])?;
    let origin = origin::start_source()?;
    let dir = tempfile::Builder::new().prefix("selvage-streams-").tempdir()?;
    let (stack, mut contenders) = start_node(arguments, origin, server_core, load_core)?;
    let mut servers = Vec::new();
    let mut missing = Vec::new();
    for peer in &arguments.peers {
        let started = peer.find().and_then(|program| {
            program.start_streams(origin, &[server_core], dir.path()).map(|started| (program.version, started))
        });
        match started {
            Ok((version, (server, target))) => {
                contenders.extend(ways(*peer, &version, &server, &target));
                servers.push(server);
            }
            Err(error) => {
                eprintln!("!!! SKIPPED {}: {error:#}", peer.name());
                missing.push(format!("{}: {error:#}", peer.name()));
            }
        }
    }
    for contender in &contenders {
        check(contender).with_context(|| contender.name.clone())?;
    }
    measure(arguments, &mut contenders)?;
    let rows = contenders.iter().map(row).collect::<anyhow::Result<Vec<Row>>>()?;
    let ratios = ratios(&contenders);
    let promises = promises(&ratios);
    drop(servers);
    stack.stop()?;
    let verdict = Verdict::of(&promises);
    let report = Report {
        bench: "streams",
        machine,
        server_core,
        load_core,
        shared_core: machine::share_a_core(server_core, load_core),
        rounds: arguments.rounds,
        bytes: arguments.bytes,
        missing,
        rows,
        ratios,
        promises,
        ok: verdict == Verdict::Kept,
    };
    print(&report);
    report::last_line(&report)?;
    Ok(verdict)
}

fn start_node(
    arguments: &Arguments,
    origin: SocketAddr,
    server_core: usize,
    load_core: usize,
) -> anyhow::Result<(Stack, Vec<Contender>)> {
    let options = Options {
        shards: 1,
        node_cores: vec![server_core],
        control_cores: vec![load_core],
        node_arguments: vec![
            "--allow-private-fetch".to_owned(),
            "--response-bytes".to_owned(),
            (arguments.bytes + (1 << 20)).to_string(),
        ],
        ..Options::default()
    };
    let mut stack = Stack::start(&Binaries::find()?, &options)?;
    stack.set_cpu_ms(CPU_MS)?;
    let module = STREAMS_MODULE.replace("@ORIGIN@", &origin.to_string());
    let deployment = stack.deploy("streams", module.as_bytes())?;
    stack.route(&deployment, "localhost/*")?;
    let target = stack.target(&deployment.subdomain, "/")?;
    let contender = |name: &str, host: &str, path| Contender {
        name: name.to_owned(),
        address: stack.http(),
        host: host.to_owned(),
        path,
        pid: stack.node_pid(),
        rounds: Vec::new(),
    };
    let contenders = vec![
        // The request's own host is where its origin is.
        contender(PROXY, &format!("localhost:{}", origin.port()), "/proxy"),
        contender(PASS, &target.host, "/pass"),
        contender(TRANSFORM, &target.host, "/transform"),
    ];
    // The route comes with a later generation than the deployment.
    let begin = Instant::now();
    while check(&contenders[0]).is_err() && begin.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok((stack, contenders))
}

fn ways(peer: Peer, version: &str, server: &Server, target: &Target) -> Vec<Contender> {
    let ways: &[(&str, &'static str)] = match peer {
        Peer::Nginx => &[("proxying", "/pass")],
        _ => &[("passed on", "/pass"), ("TransformStream", "/transform")],
    };
    let contender = |(what, path): &(&str, &'static str)| Contender {
        name: format!("{} {version}, {what}", peer.name()),
        address: target.addr(),
        host: target.host.clone(),
        path,
        pid: server.pid(),
        rounds: Vec::new(),
    };
    ways.iter().map(contender).collect()
}

fn ask(contender: &Contender, bytes: u64) -> anyhow::Result<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&contender.address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let (path, host) = (contender.path, &contender.host);
    write!(stream, "GET {path}?bytes={bytes} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")?;
    Ok(stream)
}

/// Looks at each byte.
#[derive(Default)]
struct Checked {
    status: u16,
    bytes: u64,
    wrong: u64,
}

impl Sink for Checked {
    fn head(&mut self, status: u16, _fields: &[httparse::Header<'_>]) {
        self.status = status;
    }

    fn body(&mut self, bytes: &[u8]) {
        let wrong = |(index, byte): &(usize, &u8)| origin::byte_at(self.bytes + *index as u64) != **byte;
        self.wrong += bytes.iter().enumerate().filter(wrong).count() as u64;
        self.bytes += bytes.len() as u64;
    }
}

/// Whether all of a body comes as it was sent.
fn check(contender: &Contender) -> anyhow::Result<()> {
    let mut stream = ask(contender, CHECK_BYTES)?;
    let mut reader = ResponseReader::default();
    let mut checked = Checked::default();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let length = stream.read(&mut buffer)?;
        let done = if length == 0 { reader.end()? } else { reader.feed(&buffer[..length], false, &mut checked)?.1 };
        if done.is_some() {
            break;
        }
        ensure!(length > 0, "closed without a whole response, after {} bytes", checked.bytes);
    }
    let Checked { status, bytes, wrong } = checked;
    ensure!((status, bytes, wrong) == (200, CHECK_BYTES, 0), "status {status}, {bytes} bytes, {wrong} of them wrong");
    Ok(())
}

/// Asks for a body and counts it as it comes.
fn once(contender: &Contender, bytes: u64) -> anyhow::Result<Measured> {
    let cpu = machine::tree_cpu_seconds(contender.pid)?;
    let begin = Instant::now();
    let stream = ask(contender, bytes)?;
    let mut first = [0u8; 12];
    (&stream).read_exact(&mut first)?;
    ensure!(&first == b"HTTP/1.1 200", "{:?}", String::from_utf8_lossy(&first));
    let mut buffer = vec![0u8; COUNTED_AT_ONCE];
    let mut came = 0u64;
    loop {
        // Of a TCP socket: counted and dropped, not copied.
        let (_, length) = rustix::net::recv(&stream, &mut buffer[..], RecvFlags::TRUNC)?;
        if length == 0 {
            break;
        }
        came += length as u64;
    }
    let seconds = begin.elapsed().as_secs_f64();
    if came < bytes {
        bail!("closed after {came} of {bytes} bytes");
    }
    let cpu = machine::tree_cpu_seconds(contender.pid)? - cpu;
    Ok(Measured { rate: bytes as f64 / 1e6 / seconds, cpu: cpu / (bytes as f64 / 1e9) })
}

fn measure(arguments: &Arguments, contenders: &mut [Contender]) -> anyhow::Result<()> {
    let steps = (contenders.len() * (1 + arguments.rounds)) as u64;
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed_precise} {msg}")?;
    let progress = ProgressBar::new(steps).with_style(style);
    // Every compiler has its time before anything counts.
    for contender in contenders.iter() {
        progress.set_message(format!("{} warms up", contender.name));
        once(contender, (arguments.bytes / 8).max(1 << 20)).with_context(|| contender.name.clone())?;
        progress.inc(1);
    }
    for number in 0..arguments.rounds {
        for index in order(contenders.len(), number) {
            let contender = &mut contenders[index];
            progress.set_message(format!("{}, round {}", contender.name, number + 1));
            let measured = once(contender, arguments.bytes).with_context(|| contender.name.clone())?;
            contender.rounds.push(measured);
            progress.inc(1);
        }
    }
    progress.finish_and_clear();
    Ok(())
}

fn row(contender: &Contender) -> anyhow::Result<Row> {
    Ok(Row {
        name: contender.name.clone(),
        rate: Spread::of(contender.rounds.iter().map(|one| one.rate)),
        cpu: Spread::of(contender.rounds.iter().map(|one| one.cpu)),
        resident_mib: round(machine::tree_resident_bytes(contender.pid)? as f64 / (1 << 20) as f64),
    })
}

fn ratios(contenders: &[Contender]) -> Vec<Ratio> {
    let find =
        |start: &str, end: &str| contenders.iter().find(|one| one.name.starts_with(start) && one.name.ends_with(end));
    let mut ratios = Vec::new();
    let mut compare = |what: &str, one: Option<&Contender>, other: Option<&Contender>| {
        if let (Some(one), Some(other)) = (one, other) {
            let pairs = || one.rounds.iter().zip(&other.rounds);
            ratios.push(Ratio {
                what: what.to_owned(),
                rate: Spread::of(pairs().map(|(one, other)| one.rate / other.rate)),
                cpu: Spread::of(pairs().map(|(one, other)| other.cpu / one.cpu)),
            });
        }
    };
    let (proxy, pass, transform) = (find(PROXY, ""), find(PASS, ""), find(TRANSFORM, ""));
    compare("passed on over its own proxying", pass, proxy);
    compare("passed on over nginx's proxying", pass, find("nginx", ""));
    for peer in ["workerd", "deno"] {
        compare(&format!("passed on over {peer}'s"), pass, find(peer, "passed on"));
        compare(&format!("TransformStream over {peer}'s"), transform, find(peer, "TransformStream"));
    }
    ratios
}

/// docs/SPECIFICATION.md: a body passed on at 80 % of the node's own proxying at least, and a `TransformStream` ahead of workerd.
fn promises(ratios: &[Ratio]) -> Vec<Promise> {
    let of = |what: &str| ratios.iter().find(|one| one.what == what);
    let own = of("passed on over its own proxying");
    let workerd = of("TransformStream over workerd's");
    vec![
        Promise::at_least("MB/s passed on, over the node's own proxying", own.map(|one| one.rate.median), 0.8),
        Promise::at_least("CPU time of its own proxying, over passing on", own.map(|one| one.cpu.median), 0.8),
        Promise::at_least("MB/s through a TransformStream, over workerd's", workerd.map(|one| one.rate.median), 1.0),
        Promise::at_least(
            "workerd's CPU time for a TransformStream, over ours",
            workerd.map(|one| one.cpu.median),
            1.0,
        ),
    ]
}

fn spread(spread: &Spread, digits: usize) -> String {
    let Spread { median, min, max } = spread;
    format!("{median:.digits$} ({min:.digits$} to {max:.digits$})")
}

fn print(report: &Report) {
    let machine = &report.machine;
    println!(
        "{}, kernel {}, load average {:.1}; servers on core {}, origin and reader on core {}{}",
        machine.cpu,
        machine.kernel,
        machine.load_average,
        report.server_core,
        report.load_core,
        if report.shared_core { " (threads of ONE core: they slow each other down)" } else { "" }
    );
    println!("{} rounds of {} bytes; median (min to max)", report.rounds, report.bytes);
    let row = |one: &Row| {
        vec![one.name.clone(), spread(&one.rate, 0), spread(&one.cpu, 2), format!("{:.0}", one.resident_mib)]
    };
    let rows: Vec<Vec<String>> = report.rows.iter().map(row).collect();
    print!("{}", table::render(&["way", "MB/s", "CPU s/GB", "MiB"], &rows));
    println!();
    let ratio = |one: &Ratio| vec![one.what.clone(), spread(&one.rate, 2), spread(&one.cpu, 2)];
    let rows: Vec<Vec<String>> = report.ratios.iter().map(ratio).collect();
    print!("{}", table::render(&["selvage", "MB/s ×", "CPU ÷"], &rows));
    for missing in &report.missing {
        println!("!!! SKIPPED {missing}");
    }
    print_promises(&report.promises);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_measured_is_a_missed_promise() {
        assert!(promises(&[]).iter().all(|promise| !promise.kept));
    }

    #[test]
    fn the_source_sends_what_it_is_asked_for() -> anyhow::Result<()> {
        let address = origin::start_source()?;
        let contender = Contender {
            name: "the source itself".to_owned(),
            address,
            host: address.to_string(),
            path: "/",
            pid: std::process::id(),
            rounds: Vec::new(),
        };
        // It keeps its connections: the reader stops at the end of the response.
        check(&contender)
    }
}
