//! What this process has to do with steering and upgrades: it starts the keeper before it fences itself in, hands it the listening sockets, and
//! tells it about configurations and counts. `selvage-node steer` shows what the keeper knows.
//!
//! The keeper is a process of its own because this one gives up bpf(2) and its like before tenants' code runs, and what it starts would be
//! fenced as it is. It ends when this one does; the programs that it pinned stay.

use crate::keeper::{self, Ask, Counts, Shown, Start, ToKeeper};
use crate::upgrade::Predecessor;
use crate::{LogFormat, ServeArgs, SteerArgs, frames};
use anyhow::Context;
use base::limits::MS_NS;
use plane_abi::plane::Plane;
use shard::Node;
use shard::metrics::Metrics;
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// How often the keeper hears of this node.
const TICK: Duration = Duration::from_secs(1);

/// A keeper that has been started, and knows nothing yet.
pub(crate) struct Keeper {
    stream: UnixStream,
    interface: Option<String>,
    binary: PathBuf,
}

/// The line to a keeper that knows its node.
#[derive(Clone)]
pub(crate) struct Line(Arc<Mutex<UnixStream>>);

impl Line {
    fn say(&self, message: &ToKeeper) -> std::io::Result<()> {
        frames::send(&self.0.lock().unwrap_or_else(|it| it.into_inner()), message)
    }

    /// That the node was told to stop: an upgrade that is under way is given up.
    pub(crate) fn stopping(&self) {
        // A keeper that has gone starts nothing.
        let _ = self.say(&ToKeeper::Stopping);
    }
}

/// The interface to steer at: as asked for, else that of the default route, and none where the node listens on loopback.
pub(crate) fn interface(args: &ServeArgs) -> Option<String> {
    match (&args.interface, args.no_steering) {
        (_, true) => None,
        (Some(interface), false) => Some(interface.clone()),
        (None, false) if args.listen.ip().is_loopback() => None,
        (None, false) => steer::interface::of_default_route(),
    }
}

/// Starts the keeper. Without one the node serves all the same.
pub(crate) fn spawn(args: &ServeArgs) -> Option<Keeper> {
    let interface = interface(args);
    let started = || -> anyhow::Result<(UnixStream, PathBuf)> {
        let (ours, theirs) = UnixStream::pair()?;
        let binary = std::env::current_exe()?;
        let mut command = Command::new(&binary);
        // It has this process's output, for the node that it may have to start.
        command.arg("keep").stdin(OwnedFd::from(theirs));
        if args.log_format == LogFormat::Json {
            command.args(["--log-format", "json"]);
        }
        command.spawn()?;
        Ok((ours, binary))
    };
    match started() {
        Ok((stream, binary)) => Some(Keeper { stream, interface, binary }),
        Err(error) => {
            eprintln!("selvage-node: packets are not steered, and no upgrades: cannot start the keeper: {error:#}");
            None
        }
    }
}

impl Keeper {
    /// Gives the keeper the sockets, and from then on, from a thread of its own, rules and counts; another does as it says.
    pub(crate) fn follow(
        self,
        node: &Node,
        admin: &TcpListener,
        args: &ServeArgs,
        predecessor: Predecessor,
    ) -> std::io::Result<Line> {
        let sockets: Vec<(BorrowedFd<'_>, Option<usize>)> = node.listeners().take(frames::SOCKETS_MAX - 1).collect();
        let arguments = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned());
        let start = Start {
            interface: self.interface,
            listen: node.address(),
            cpus: sockets.iter().map(|(_, core)| core.and_then(|core| u32::try_from(core).ok())).collect(),
            bpffs: args.bpffs.clone(),
            socket: args.data.join(keeper::SOCKET),
            pid: std::process::id().cast_signed(),
            binary: self.binary,
            arguments: arguments.filter(|word| word != "--heir").collect(),
            drain_ms: node.drain_limit_ns() / MS_NS,
        };
        let descriptors: Vec<BorrowedFd<'_>> =
            sockets.iter().map(|(socket, _)| *socket).chain([admin.as_fd()]).collect();
        frames::send_sockets(&self.stream, &descriptors)?;
        frames::send(&self.stream, &ToKeeper::Start(start))?;
        let heard = self.stream.try_clone()?;
        let line = Line(Arc::new(Mutex::new(self.stream)));
        let (metrics, plane) = (node.metrics(), predecessor.handle.plane().clone());
        let telling = line.clone();
        thread::Builder::new().name("steering".to_owned()).spawn(move || {
            if let Err(error) = keep_telling(&telling, &plane, &metrics) {
                tracing::warn!(%error, "the keeper has ended: rules for packets stay as they are, and there are no upgrades");
            }
        })?;
        let answering = line.clone();
        let listening = thread::Builder::new().name("upgrade".to_owned());
        listening.spawn(move || predecessor.listen(&heard, &answering.0))?;
        Ok(line)
    }
}

fn keep_telling(keeper: &Line, plane: &Plane, metrics: &Metrics) -> std::io::Result<()> {
    let mut told = None;
    loop {
        if let Some(published) = plane.current() {
            let header = published.snapshot().header();
            if told.replace(header) != Some(header) {
                let (rules, lineage) = (published.snapshot().steering(), header.lineage.0);
                // All nodes have the lineage, and no tenant knows it.
                keeper.say(&ToKeeper::Rules { rules: Box::new(rules), seed: (lineage ^ (lineage >> 64)) as u32 })?;
            }
        }
        let count = |shard: &std::sync::Arc<shard::metrics::ShardMetrics>| Counts {
            accepted: shard.connections_accepted.get(),
            here: shard.connections_here.get(),
        };
        keeper.say(&ToKeeper::Counts(metrics.shards().iter().map(count).collect()))?;
        thread::sleep(TICK);
    }
}

/// `selvage-node steer`: asks the keeper and prints what it says.
pub(crate) fn show(args: &SteerArgs) -> anyhow::Result<()> {
    let path = args.data.join(keeper::SOCKET);
    let stream =
        UnixStream::connect(&path).with_context(|| format!("no node's keeper answers at {}", path.display()))?;
    frames::send(&stream, &Ask::Show)?;
    let shown: Shown = frames::receive(&stream).context("the keeper's answer")?;
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string(&shown)?)?;
    } else {
        write!(out, "{}", render(&shown))?;
    }
    Ok(())
}

fn render(shown: &Shown) -> String {
    use std::fmt::Write as _;
    let report = &shown.report;
    let mut text = String::new();
    let mode = match (&report.problem, report.mode) {
        (Some(problem), _) => format!("off: {problem}"),
        (None, Some(steer::Mode::Driver)) => "on, in the driver".to_owned(),
        (None, Some(steer::Mode::Skb)) => "on, at the stack's door".to_owned(),
        (None, None) => "off".to_owned(),
    };
    let _ = writeln!(text, "interface {}: {mode}{}", report.interface, if report.pinned { ", pinned" } else { "" });
    let _ = writeln!(text, "rules: {} prefixes denied, {} VIPs", report.denied, report.vips);
    let (accepted, here) =
        shown.shards.iter().fold((0, 0), |(accepted, here), it| (accepted + it.accepted, here + it.here));
    let share = if accepted == 0 { 100.0 } else { here as f64 * 100.0 / accepted as f64 };
    let _ = writeln!(text, "connections: {accepted} accepted, {share:.2} % on the shard of their packets' CPU");
    for (index, shard) in shown.shards.iter().enumerate() {
        let _ = writeln!(text, "  shard {index}: {} accepted, {} of them so", shard.accepted, shard.here);
    }
    for cpu in &report.cpus {
        let slots = report.table.iter().filter(|it| **it as usize == cpu.cpu).count();
        let _ = writeln!(text, "CPU {}: {slots} slots", cpu.cpu);
        for (name, count) in &cpu.packets {
            let _ = writeln!(text, "  {name:<18} {count}");
        }
    }
    let _ = writeln!(text, "indirection table ({} slots moved):", report.moved);
    for row in report.table.chunks(32) {
        let cells: Vec<String> = row.iter().map(u32::to_string).collect();
        let _ = writeln!(text, "  {}", cells.join(" "));
    }
    text
}

/// Of use where only the address is known.
pub(crate) fn ports(listen: SocketAddr) -> Vec<(u16, plane_abi::steering::Protocol)> {
    vec![(listen.port(), plane_abi::steering::Protocol::Tcp)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_for_people() {
        let report = steer::Report {
            interface: "eth0".to_owned(),
            mode: Some(steer::Mode::Driver),
            pinned: true,
            table: vec![0, 1, 0],
            moved: 1,
            cpus: vec![steer::report::CpuReport { cpu: 1, packets: vec![("denied".to_owned(), 7)], accepted: [0; 4] }],
            denied: 3,
            ..steer::Report::default()
        };
        let shards = vec![Counts { accepted: 3, here: 3 }, Counts { accepted: 1, here: 0 }];
        let text = render(&Shown { report: report.clone(), shards });
        for line in [
            "eth0: on, in the driver, pinned",
            "3 prefixes denied",
            "4 accepted, 75.00 %",
            "denied             7",
            "(1 slots moved)",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
        let off = steer::Report { problem: Some("no privileges".to_owned()), ..report };
        assert!(render(&Shown { report: off, shards: vec![] }).contains("off: no privileges"));
    }
}
