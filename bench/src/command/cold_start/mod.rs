//! `cold-start`: from a request to a Worker that has no isolate anywhere to the first byte of its answer.
//!
//! Every round asks Workers that nobody asked before, of each program one at each contender: a node without spare isolates, a
//! node with them, and workerd. Each Worker has a bundle of its own (with a comment), so that no file, hash or compiled code is
//! another one's. Both programs have hono and its middleware, 100 KB; [`Program::Hello`] has one route, which shows what a start
//! costs; [`Program::Example`] is `docs/examples/hono`, whose 40 routes hono makes into matchers at the first request: that is
//! the program's own time on any platform, and it is shown beside. The promises are about the first.
//! A deployed Worker is not started before its first request: nodes start ahead only what was in use. Timed
//! is, on a connection that is open, from before the request is written to the first byte read by a client that spins: reading and
//! checking module and compiled code, the isolate if there is no spare, compiling, evaluating, and the handler. The second request
//! to each Worker is timed too: what is left when all of it is warm.
//!
//! workerd compiles what its configuration names before it listens. Its way to start a Worker at a request is the worker
//! loader, by which a Worker starts others from source: that is measured, with the loader's hop in it.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use clap::Args;
use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tempfile::TempDir;

use super::{Promise, Verdict, hello::order, print_promises};
use crate::checkout;
use crate::load::record::LATENCY_NS_MAX;
use crate::load::response::ResponseReader;
use crate::machine::{self, Machine};
use crate::peers::Peer;
use crate::process::{Server, free_port, loopback};
use crate::report::{self, Quantiles, round, table};
use crate::stack::{Binaries, Options, PLATFORM_DOMAIN, Stack};

/// docs/SPECIFICATION.md, ms.
const WITH_SPARE_P50_MS_MAX: f64 = 1.0;
const WITHOUT_SPARE_P50_MS_MAX: f64 = 3.0;
const WITHOUT_SPARE_P99_MS_MAX: f64 = 5.0;
/// Workers that one shard holds at a time.
const ROUNDS_MAX: usize = 450;
/// Rounds that count for nothing: the first pays for what a process does once.
const WARM_UP: usize = 5;
const START_TIMEOUT: Duration = Duration::from_secs(30);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two looks at whether spares are there.
const LOOK_GAP: Duration = Duration::from_millis(2);

/// Where the example's own program begins in its bundle.
const PROGRAM_AT: &str = "// src/index.js\n";
const HELLO: &str = r#"var app = new Hono3();
app.use(poweredBy());
app.get("/", (c) => c.text(`${c.env.GREETING ?? "Hi"} from Hono
`));
export { app as default };
"#;

/// Measure the first answer of Workers that have no isolate yet, with and without spares, and beside workerd
#[derive(Args, Debug)]
pub struct Arguments {
    /// Workers started at each contender
    #[arg(long, default_value_t = 200)]
    rounds: usize,
    /// Pause before each first request
    #[arg(long, default_value_t = 10)]
    pause_ms: u64,
    /// Measure this node alone
    #[arg(long)]
    without_peer: bool,
}

/// What a Worker does with its 100 KB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Program {
    Hello,
    Example,
}

impl Program {
    const ALL: [Program; 2] = [Program::Hello, Program::Example];

    fn label(self) -> &'static str {
        match self {
            Program::Hello => "hello",
            Program::Example => "40 routes",
        }
    }

    /// The Worker of a round.
    fn name(self, number: usize) -> String {
        match self {
            Program::Hello => format!("hello-{number}"),
            Program::Example => format!("routes-{number}"),
        }
    }

    /// Its bundle, made from the example's.
    fn bundle(self, example: &str) -> anyhow::Result<String> {
        let bundle = match self {
            Program::Example => example.to_owned(),
            Program::Hello => {
                let (library, program) =
                    example.split_once(PROGRAM_AT).context("the example's bundle has no src/index.js")?;
                let (program, _) = program.split_once("\nexport {").context("the example's bundle exports nothing")?;
                format!("{library}\nfunction notCalled() {{\n{program}\n}}\n{HELLO}")
            }
        };
        ensure!((100_000..110_000).contains(&bundle.len()), "the bundle has {} bytes", bundle.len());
        Ok(bundle)
    }
}

enum Process {
    Node(Box<Stack>),
    Workerd(Server),
}

struct Contender {
    name: &'static str,
    version: String,
    process: Process,
    /// What a Worker's name ends with.
    domain: String,
    addr: SocketAddr,
    /// Spares it must have before it is asked.
    spares: u64,
    /// By [`Program::ALL`].
    times: [Times; 2],
}

struct Times {
    first: Histogram<u64>,
    second: Histogram<u64>,
}

#[derive(Serialize)]
struct ContenderReport {
    name: &'static str,
    version: String,
    programs: Vec<ProgramReport>,
    /// Mean of the node's own times of a start, µs, by phase.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    phases_us: Vec<(String, f64)>,
}

#[derive(Serialize)]
struct ProgramReport {
    program: &'static str,
    /// A Worker's first answer, from its request, µs.
    first_us: Quantiles,
    /// Its second.
    second_us: Quantiles,
}

#[derive(Serialize)]
struct Report {
    bench: &'static str,
    machine: Machine,
    rounds: usize,
    bundle_bytes: [usize; 2],
    missing: Vec<String>,
    contenders: Vec<ContenderReport>,
    promises: Vec<Promise>,
    ok: bool,
}

/// Runs it.
pub fn run(arguments: &Arguments) -> anyhow::Result<Verdict> {
    ensure!((1..=ROUNDS_MAX).contains(&arguments.rounds), "rounds: 1 to {ROUNDS_MAX}");
    let machine = Machine::describe();
    let (server_core, load_core) = machine::two_cores().context("this bench needs two cores: one for the server")?;
    machine::pin_thread(&[load_core])?;
    let example = String::from_utf8(checkout::example("hono")?)?;
    let bundles = [Program::Hello.bundle(&example)?, Program::Example.bundle(&example)?];
    let dir = tempfile::Builder::new().prefix("selvage-cold-").tempdir()?;
    let count = arguments.rounds + WARM_UP;
    let cores = (server_core, load_core);
    let mut contenders = vec![
        node("selvage, no spare", &["--spares", "0"], 0, count, &bundles, cores)?,
        node("selvage, spare", &["--spares", "4"], 4, count, &bundles, cores)?,
    ];
    let mut missing = Vec::new();
    if !arguments.without_peer {
        match workerd(&dir, &bundles, server_core) {
            Ok(contender) => contenders.push(contender),
            Err(error) => {
                eprintln!("!!! SKIPPED workerd: {error:#}");
                missing.push(format!("workerd: {error:#}"));
            }
        }
    }
    rounds(arguments, count, &mut contenders)?;
    let promises = promises(&contenders);
    let mut reports = Vec::new();
    for contender in contenders {
        reports.push(finish(contender, count)?);
    }
    let verdict = Verdict::of(&promises);
    let report = Report {
        bench: "cold-start",
        machine,
        rounds: arguments.rounds,
        bundle_bytes: bundles.each_ref().map(String::len),
        missing,
        contenders: reports,
        promises,
        ok: verdict == Verdict::Kept,
    };
    print(&report);
    report::last_line(&report)?;
    Ok(verdict)
}

fn contender(
    name: &'static str,
    version: &str,
    process: Process,
    addr: SocketAddr,
    domain: String,
    spares: u64,
) -> anyhow::Result<Contender> {
    let histogram = || Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3);
    let times = || -> anyhow::Result<Times> { Ok(Times { first: histogram()?, second: histogram()? }) };
    let times = [times()?, times()?];
    Ok(Contender { name, version: version.to_owned(), process, domain, addr, spares, times })
}

fn node(
    label: &'static str,
    flags: &[&str],
    spares: u64,
    count: usize,
    bundles: &[String; 2],
    (server_core, load_core): (usize, usize),
) -> anyhow::Result<Contender> {
    let options = Options {
        shards: 1,
        node_cores: vec![server_core],
        control_cores: vec![load_core],
        node_arguments: flags.iter().map(|&flag| flag.to_owned()).collect(),
        ..Options::default()
    };
    let mut stack = Stack::start(&Binaries::find()?, &options)?;
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg} {elapsed_precise}")?;
    let progress = ProgressBar::new(count as u64).with_style(style).with_message(format!("{label}: deployed"));
    for number in 0..count {
        for (program, bundle) in Program::ALL.into_iter().zip(bundles) {
            let name = program.name(number);
            let deployment = stack.create_for(&stack.tenant(&name)?, &name)?;
            let version = stack.upload(&deployment, format!("{bundle}\n// {name}\n").as_bytes())?;
            stack.activate(&deployment, version)?;
        }
        progress.inc(1);
    }
    progress.finish_and_clear();
    // The node has whatever was activated before the one that it serves.
    stack.deploy("last", b"export default { fetch() { return new Response(''); } };")?;
    let (http, domain) = (stack.http(), format!("{PLATFORM_DOMAIN}:{}", stack.http().port()));
    contender(label, env!("CARGO_PKG_VERSION"), Process::Node(Box::new(stack)), http, domain, spares)
}

fn workerd(dir: &TempDir, bundles: &[String; 2], server_core: usize) -> anyhow::Result<Contender> {
    let port = free_port()?;
    let write = |file: &str, bytes: &[u8]| std::fs::write(dir.path().join(file), bytes);
    write("hello.js", bundles[0].as_bytes())?;
    write("routes.js", bundles[1].as_bytes())?;
    write("loader.js", include_bytes!("loader.js"))?;
    write("config.capnp", include_str!("workerd.capnp").replace("@PORT@", &port.to_string()).as_bytes())?;
    let program = Peer::Workerd.find()?;
    let mut server = program.serve_experimental(&[server_core], dir.path())?;
    let target = loopback(port, "ready.test", "/")?;
    server.wait_answers(&target, START_TIMEOUT)?;
    let domain = "test".to_owned();
    contender("workerd", &program.version, Process::Workerd(server), target.addr(), domain, 0)
}

fn rounds(arguments: &Arguments, count: usize, contenders: &mut [Contender]) -> anyhow::Result<()> {
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} asked {elapsed_precise}")?;
    let progress = ProgressBar::new(count as u64).with_style(style);
    // Opened only now: a server closes what is idle while others are deployed to.
    let mut streams = contenders.iter().map(|one| open(one.addr)).collect::<anyhow::Result<Vec<_>>>()?;
    for number in 0..count {
        for index in order(contenders.len(), number) {
            let contender = &mut contenders[index];
            for (place, program) in Program::ALL.into_iter().enumerate() {
                contender.wait_spares()?;
                std::thread::sleep(Duration::from_millis(arguments.pause_ms));
                let asked = contender.ask_twice(&mut streams[index], &program.name(number));
                let (first, second) = asked.with_context(|| contender.name)?;
                if number >= WARM_UP {
                    contender.times[place].first.saturating_record(first.as_nanos() as u64);
                    contender.times[place].second.saturating_record(second.as_nanos() as u64);
                }
            }
        }
        progress.inc(1);
    }
    progress.finish_and_clear();
    Ok(())
}

fn open(addr: SocketAddr) -> anyhow::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&addr, ANSWER_TIMEOUT)?;
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}

impl Contender {
    /// Waits until it has all of its spares, so that none is being made when it is asked.
    fn wait_spares(&self) -> anyhow::Result<()> {
        let Process::Node(stack) = &self.process else { return Ok(()) };
        let begin = Instant::now();
        while stack.metrics()?.sum("selvage_spares_ready").context("selvage_spares_ready")? < self.spares as f64 {
            ensure!(begin.elapsed() < ANSWER_TIMEOUT, "no {} spares after {ANSWER_TIMEOUT:?}", self.spares);
            std::thread::sleep(LOOK_GAP);
        }
        Ok(())
    }

    fn ask_twice(&self, stream: &mut TcpStream, name: &str) -> anyhow::Result<(Duration, Duration)> {
        let request = format!("GET / HTTP/1.1\r\nHost: {name}.{}\r\n\r\n", self.domain);
        let first = first_byte(stream, request.as_bytes())?;
        Ok((first, first_byte(stream, request.as_bytes())?))
    }
}

/// Sends a request, reads its whole answer, which must be hono's, and says when the first byte came.
fn first_byte(stream: &mut TcpStream, request: &[u8]) -> anyhow::Result<Duration> {
    let mut buffer = [0u8; 16 * 1024];
    let mut reader = ResponseReader::default();
    let mut answer = crate::client::Answer::default();
    let mut first = None;
    let begin = Instant::now();
    ensure!(stream.write(request)? == request.len(), "the socket is full");
    loop {
        let length = match stream.read(&mut buffer) {
            Ok(0) => bail!("closed without a response"),
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                ensure!(begin.elapsed() < ANSWER_TIMEOUT, "no answer after {ANSWER_TIMEOUT:?}");
                std::hint::spin_loop();
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let after = *first.get_or_insert_with(|| begin.elapsed());
        if reader.feed(&buffer[..length], false, &mut answer)?.1.is_some() {
            ensure!(answer.status == 200 && answer.body == b"Hi from Hono\n", "{}: {}", answer.status, answer.text());
            return Ok(after);
        }
    }
}

/// Checks by the node's own numbers that what was measured is what was meant, and stops the contender.
fn finish(contender: Contender, count: usize) -> anyhow::Result<ContenderReport> {
    let Contender { name, version, process, times, spares, .. } = contender;
    let mut phases_us = Vec::new();
    match process {
        Process::Workerd(server) => {
            server.stop(Duration::from_secs(3))?;
        }
        Process::Node(stack) => {
            let metrics = stack.metrics()?;
            let of = |name: &str| metrics.sum(name).with_context(|| name.to_owned());
            let (starts, claimed) = (of("selvage_worker_starts_total")?, of("selvage_spares_claimed_total")?);
            let alone = of("selvage_starts_without_spare_total")?;
            ensure!(starts >= 2.0 * count as f64, "{name}: {starts} starts for 2 × {count} Workers");
            ensure!(if spares > 0 { alone == 0.0 } else { claimed == 0.0 }, "{name}: {claimed} claimed, {alone} not");
            let refused = metrics.sum("selvage_code_cache_refused_total").unwrap_or(0.0);
            ensure!(refused == 0.0, "{name}: {refused} starts without compiled code");
            phases_us = vec![("start".to_owned(), round(of("selvage_worker_start_nanoseconds_total")? / starts / 1e3))];
            stack.stop()?;
        }
    }
    let programs = Program::ALL.into_iter().zip(&times).map(|(program, times)| ProgramReport {
        program: program.label(),
        first_us: Quantiles::of(&times.first),
        second_us: Quantiles::of(&times.second),
    });
    Ok(ContenderReport { name, version, programs: programs.collect(), phases_us })
}

fn promises(contenders: &[Contender]) -> Vec<Promise> {
    let ms = |spare: bool, quantile: f64| {
        let of = |one: &&Contender| matches!(one.process, Process::Node(_)) && (one.spares > 0) == spare;
        contenders.iter().find(of).map(|one| one.times[0].first.value_at_quantile(quantile) as f64 / 1e6)
    };
    vec![
        Promise::at_most("first answer with a spare, p50, ms", ms(true, 0.5), WITH_SPARE_P50_MS_MAX),
        Promise::at_most("first answer without a spare, p50, ms", ms(false, 0.5), WITHOUT_SPARE_P50_MS_MAX),
        Promise::at_most("first answer without a spare, p99, ms", ms(false, 0.99), WITHOUT_SPARE_P99_MS_MAX),
    ]
}

fn print(report: &Report) {
    println!(
        "{}, load average {:.1}; {} Workers of each program, {} and {} KB, each asked twice; time to the first byte",
        report.machine.cpu,
        report.machine.load_average,
        report.rounds,
        report.bundle_bytes[0] / 1_000,
        report.bundle_bytes[1] / 1_000
    );
    let mut rows: Vec<Vec<String>> = Vec::new();
    for one in &report.contenders {
        let phases: Vec<String> =
            one.phases_us.iter().map(|(name, us)| format!("{name} {}", table::micros(*us))).collect();
        for program in &one.programs {
            let first = &program.first_us;
            let cells = [first.min, first.p50, first.p90, first.p99, first.max, program.second_us.p50];
            let mut row = vec![format!("{} {}", one.name, one.version), program.program.to_owned()];
            row.extend(cells.map(table::micros));
            row.push(phases.join(", "));
            rows.push(row);
        }
    }
    let heading = ["first answer", "program", "min", "p50", "p90", "p99", "max", "second, p50", "node's own, mean"];
    print!("{}", table::render(&heading, &rows));
    for missing in &report.missing {
        println!("!!! SKIPPED {missing}");
    }
    print_promises(&report.promises);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// A server that answers one request so, in two writes.
    fn served(head: &'static [u8], rest: &'static [u8]) -> anyhow::Result<Duration> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let mut stream = TcpStream::connect(listener.local_addr()?)?;
        stream.set_nonblocking(true)?;
        let server = std::thread::spawn(move || -> std::io::Result<()> {
            let (mut stream, _) = listener.accept()?;
            let mut buffer = [0u8; 64];
            let _ = stream.read(&mut buffer)?;
            std::thread::sleep(Duration::from_millis(30));
            stream.write_all(head)?;
            std::thread::sleep(Duration::from_millis(100));
            stream.write_all(rest)
        });
        let got = first_byte(&mut stream, b"GET / HTTP/1.1\r\n\r\n");
        server.join().map_err(|_| anyhow::anyhow!("the server panicked"))??;
        got
    }

    #[test]
    fn the_first_byte_counts_and_the_whole_answer_must_be_right() -> anyhow::Result<()> {
        let took = served(b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n", b"Hi from Hono\n")?;
        assert!(took >= Duration::from_millis(30) && took < Duration::from_millis(120), "{took:?}");
        assert!(served(b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n", b"Hi from Nobo\n").is_err());
        assert!(served(b"HTTP/1.1 503 No\r\nContent-Length: 13\r\n\r\n", b"Hi from Hono\n").is_err());
        assert!(served(b"HTTP/1.1 200 OK\r\n", b"").is_err());
        Ok(())
    }
}
