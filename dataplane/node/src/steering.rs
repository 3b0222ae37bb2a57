//! The node's end of steering: starts the keeper, gives it the listening sockets, the rules of each configuration and what shards
//! count. And `selvage-node steer`, which asks a node's keeper.
//!
//! The keeper ([`crate::keeper`]) is a process of its own, because this one gives up bpf(2) and its like before tenants' code runs, and
//! they must stay given up. It ends when this one does; the programs that it pinned stay.

use crate::keeper::{self, Counts, Shown, Start, ToKeeper};
use crate::{LogFormat, ServeArgs, SteerArgs};
use anyhow::Context;
use plane_abi::plane::Plane;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use shard::Node;
use shard::metrics::Metrics;
use std::io::{IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

/// How often the keeper hears of this node.
const TICK: Duration = Duration::from_secs(1);
/// Descriptors in one message (`SCM_MAX_FD` is 253).
const SOCKETS_MAX: usize = 240;

/// A running keeper.
pub(crate) struct Keeper {
    stream: UnixStream,
    interface: String,
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

/// Starts the keeper, if there is something to steer. Without one the node serves all the same.
pub(crate) fn spawn(args: &ServeArgs) -> Option<Keeper> {
    let interface = interface(args)?;
    let started = || -> anyhow::Result<UnixStream> {
        let (ours, theirs) = UnixStream::pair()?;
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("keep").stdin(OwnedFd::from(theirs)).stdout(Stdio::null());
        if args.log_format == LogFormat::Json {
            command.args(["--log-format", "json"]);
        }
        command.spawn()?;
        Ok(ours)
    };
    match started() {
        Ok(stream) => Some(Keeper { stream, interface }),
        Err(error) => {
            eprintln!("selvage-node: packets are not steered: cannot start the keeper: {error:#}");
            None
        }
    }
}

impl Keeper {
    /// Gives the keeper the sockets, and from then on, from a thread of its own, rules and counts.
    pub(crate) fn follow(self, node: &Node, plane: Plane, args: &ServeArgs) {
        let sockets: Vec<(BorrowedFd<'_>, Option<usize>)> = node.listeners().take(SOCKETS_MAX).collect();
        let start = Start {
            interface: self.interface.clone(),
            listen: node.address(),
            cpus: sockets.iter().map(|(_, core)| core.and_then(|core| u32::try_from(core).ok())).collect(),
            bpffs: args.bpffs.clone(),
            socket: args.data.join(keeper::SOCKET),
        };
        let descriptors: Vec<BorrowedFd<'_>> = sockets.iter().map(|(socket, _)| *socket).collect();
        let mut stream = self.stream;
        let begun = send_sockets(&stream, &descriptors).and_then(|()| send(&mut stream, &ToKeeper::Start(start)));
        if let Err(error) = begun {
            tracing::warn!(%error, "packets are not steered: the keeper does not listen");
            return;
        }
        let metrics = node.metrics();
        let following = thread::Builder::new().name("steering".to_owned());
        let following = following.spawn(move || {
            if let Err(error) = keep_telling(&mut stream, &plane, &metrics) {
                tracing::warn!(%error, "the keeper has ended: rules for packets stay as they are");
            }
        });
        if let Err(error) = following {
            tracing::warn!(%error, "rules for packets will not change");
        }
    }
}

fn keep_telling(stream: &mut UnixStream, plane: &Plane, metrics: &Metrics) -> std::io::Result<()> {
    let mut told = None;
    loop {
        if let Some(published) = plane.current() {
            let header = published.snapshot().header();
            if told.replace(header) != Some(header) {
                let (rules, lineage) = (published.snapshot().steering(), header.lineage.0);
                // All nodes have the lineage, and no tenant knows it.
                send(stream, &ToKeeper::Rules { rules: Box::new(rules), seed: (lineage ^ (lineage >> 64)) as u32 })?;
            }
        }
        let count = |shard: &std::sync::Arc<shard::metrics::ShardMetrics>| Counts {
            accepted: shard.connections_accepted.get(),
            here: shard.connections_here.get(),
        };
        send(stream, &ToKeeper::Counts(metrics.shards().iter().map(count).collect()))?;
        thread::sleep(TICK);
    }
}

/// One byte with all descriptors beside it.
fn send_sockets(stream: &UnixStream, sockets: &[BorrowedFd<'_>]) -> std::io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(sockets)) {
        return Err(std::io::Error::other("more listening sockets than one message takes"));
    }
    sendmsg(stream, &[IoSlice::new(b"S")], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// A frame: its length, then JSON.
fn send(stream: &mut UnixStream, message: &ToKeeper) -> std::io::Result<()> {
    let text = serde_json::to_vec(message)?;
    stream.write_all(&(text.len() as u32).to_le_bytes())?;
    stream.write_all(&text)
}

/// `selvage-node steer`: asks the keeper and prints what it says.
pub(crate) fn show(args: &SteerArgs) -> anyhow::Result<()> {
    let path = args.data.join(keeper::SOCKET);
    let mut stream = UnixStream::connect(&path)
        .with_context(|| format!("no keeper answers at {}: packets are not steered there", path.display()))?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let shown: Shown = serde_json::from_str(&text).context("the keeper's answer")?;
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{text}")?;
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
