//! Show 4: a bounded flood, of SYNs from addresses that nobody has and of packets from denied ones, and what a real client gets meanwhile, of a node
//! with the program and of one without; and how many packets one core drops, beside an nftables rule that drops the same.
//!
//! The flood is made on this machine's own cores, and its making alone takes from everybody: *unloaded* is measured while the same packets go
//! to an address of the same switch that no node has.
//!
//! *Bounds:* packets a second and seconds; between namespaces that have no way out.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use e2e::netns::{Namespace, Pins, pin, run as run_words, veth};
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, ipproto, sendto, socket_with};
use serde::Serialize;
use serde_json::json;
use steer::Wire;

use super::bed::{PORT, ask_once, await_steering, node, steer, whole_frames};
use super::{Context, words};
use crate::command::Promise;
use crate::report::{Spread, table};
use crate::stack::Stack;

/// Packets a second, at most.
const RATE_MAX: u64 = 400_000;
/// Of one flood.
const FLOOD: Duration = Duration::from_secs(2);
/// Real clients at a time, each with one connection after the other.
const CLIENTS: usize = 4;
/// A client that waits longer has been turned away.
const PATIENCE: Duration = Duration::from_millis(900);
/// Packets between two looks at the clock.
const BURST: u64 = 64;

const STEERED: Ipv4Addr = Ipv4Addr::new(10, 79, 0, 1);
const PLAIN: Ipv4Addr = Ipv4Addr::new(10, 79, 0, 4);
const NOBODY: Ipv4Addr = Ipv4Addr::new(10, 79, 0, 9);

/// Where packets of a flood say that they come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// 198.18.0.0/15, which is for benchmarks: nobody answers there.
    Spoofed,
    /// 198.51.100.0/24, on the deny list.
    Denied,
}

/// One kind of flood.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Flood {
    kind: &'static str,
    /// Packets a second that were sent to the node with the program.
    packets_per_s: Spread,
    /// A client's requests a second on connections of their own: the flood goes elsewhere; with the program; without.
    unloaded: Spread,
    with: Spread,
    without: Spread,
    with_percent: f64,
    without_percent: f64,
}

/// Packets that one core makes and that are dropped by …, a second; and as many as the program's, by rounds.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Drops {
    name: &'static str,
    per_core: Spread,
    of_ours: Spread,
}

impl Flood {
    pub(super) fn row(&self) -> Vec<String> {
        let (of, show) = (|percent: f64| format!("{percent:.1} %: "), table::grouped);
        vec![
            self.kind.to_owned(),
            words(&self.packets_per_s, show),
            words(&self.unloaded, show),
            of(self.with_percent) + &words(&self.with, show),
            of(self.without_percent) + &words(&self.without, show),
        ]
    }
}

impl Drops {
    pub(super) fn row(&self) -> Vec<String> {
        let ratio = words(&self.of_ours, |value| format!("{value:.3}"));
        vec![self.name.to_owned(), words(&self.per_core, table::grouped), ratio]
    }
}

struct Ground {
    steered: Stack,
    _plain: Stack,
    plain_server: Namespace,
    client: Namespace,
    attacker: Namespace,
    binaries: crate::stack::Binaries,
    _rest: (Vec<Wire>, Namespace, Namespace, Namespace, Pins, Pins),
}

pub(super) fn run(context: &Context) -> anyhow::Result<(Vec<Promise>, Vec<Flood>, Vec<Drops>)> {
    context.note("two nodes, a client and an attacker on a switch");
    let ground = Ground::new(context)?;
    let mut floods = Vec::new();
    for (kind, name) in [(Kind::Spoofed, "SYNs of nobody"), (Kind::Denied, "denied sources")] {
        let mut rounds: [Vec<f64>; 4] = Default::default();
        for round in 0..context.rounds {
            context.note(&format!("flood of {name}, round {}", round + 1));
            let (unloaded, _) = ground.flood(kind, NOBODY, STEERED)?;
            let (with, sent) = ground.flood(kind, STEERED, STEERED)?;
            let (without, _) = ground.flood(kind, PLAIN, PLAIN)?;
            for (rounds, value) in rounds.iter_mut().zip([unloaded, with, without, sent]) {
                rounds.push(value);
            }
        }
        let [unloaded, with, without, sent] = rounds.map(|values| Spread::of(values.into_iter()));
        let percent = |it: &Spread| (it.median * 1e3 / unloaded.median).round() / 10.0;
        let (with_percent, without_percent) = (percent(&with), percent(&without));
        floods.push(Flood { kind: name, packets_per_s: sent, unloaded, with, without, with_percent, without_percent });
    }
    let drops = ground.drops(context)?;
    let mut promises: Vec<Promise> = floods
        .iter()
        .flat_map(|it| {
            [
                Promise::at_least(&format!("goodput under {}, % of unloaded", it.kind), Some(it.with_percent), 90.0),
                Promise::at_most(
                    &format!("the same without the program, %: {}", it.kind),
                    Some(it.without_percent),
                    50.0,
                ),
            ]
        })
        .collect();
    let nft = drops.iter().find(|it| it.name == NFT).map(|it| 1.0 / it.of_ours.median);
    promises.push(Promise::at_least("packets that one core makes and drops, over nftables' (ingress hook)", nft, 1.0));
    Ok((promises, floods, drops))
}

const XDP: &str = "the program";
const NFT: &str = "nftables, ingress hook";

impl Ground {
    fn new(context: &Context) -> anyhow::Result<Ground> {
        let [switch, client, attacker, sink] = ["switch", "client", "attacker", "sink"].map(Namespace::new);
        let [server, plain_server] = ["server", "plain"].map(Namespace::new);
        switch.run("ip link add br0 type bridge");
        switch.run("ip link set br0 up");
        let ends = [
            (&server, "s0", "10.79.0.1"),
            (&client, "c0", "10.79.0.2"),
            (&attacker, "a0", "10.79.0.3"),
            (&plain_server, "s0", "10.79.0.4"),
            (&sink, "k0", "10.79.0.8"),
        ];
        let mut wires = Vec::new();
        for (number, (namespace, interface, address)) in ends.into_iter().enumerate() {
            let port = format!("p{number}");
            veth(namespace, interface, &switch, &port);
            switch.run(&format!("ip link set {port} master br0"));
            namespace.run(&format!("ip addr add {address}/24 dev {interface}"));
            whole_frames(namespace, interface);
            whole_frames(&switch, &port);
            wires.push(switch.inside(|| Wire::new(&port))?);
        }
        // What nobody has goes to the sink's port, and is not for the sink.
        switch.run("bridge fdb replace 02:00:00:00:0b:09 dev p4 master static");
        attacker.run("ip neigh replace 10.79.0.9 lladdr 02:00:00:00:0b:09 dev a0 nud permanent");
        for server in [&server, &plain_server] {
            // Answers to addresses that nobody has go to who made them up.
            server.run("ip route add default via 10.79.0.3");
        }
        // As docs/OPERATIONS.md says, for cookies from the first SYN of a flood; the other has the kernel's own.
        server.run("sysctl -qw net.ipv4.tcp_syncookies=2");
        let (steered, pins) = node(&context.binaries, &server, SocketAddr::from((STEERED, PORT)), true)?;
        let (plain, plain_pins) = node(&context.binaries, &plain_server, SocketAddr::from((PLAIN, PORT)), false)?;
        let rules = json!({"deny": [{"prefix": "198.51.100.0/24"}], "limits": {"syn_per_s": 5_000}});
        server.inside(|| steered.set_steering(&rules))?;
        let begin = Instant::now();
        while steer(&context.binaries, &steered.node_data())?["report"]["denied"] != 1 {
            anyhow::ensure!(begin.elapsed() < Duration::from_secs(10), "the rules are not in force");
            std::thread::sleep(Duration::from_millis(50));
        }
        await_steering(&context.binaries, steered.node_data())?;
        let rest = (wires, switch, sink, server, pins, plain_pins);
        let binaries = context.binaries.clone();
        Ok(Ground { steered, _plain: plain, plain_server, client, attacker, binaries, _rest: rest })
    }

    /// What clients of `asked` get while a flood goes to `target`: good answers a second, and the flood's packets a second.
    fn flood(&self, kind: Kind, target: Ipv4Addr, asked: Ipv4Addr) -> anyhow::Result<(f64, f64)> {
        let (stop, good) = (AtomicBool::new(false), AtomicU64::new(0));
        let address = SocketAddr::from((asked, PORT));
        let outcome = std::thread::scope(|scope| {
            let clients: Vec<_> = (0..CLIENTS)
                .map(|_| {
                    scope.spawn(|| {
                        self.client.inside(|| {
                            while !stop.load(Ordering::Relaxed) {
                                if ask_once(address, PATIENCE).is_ok() {
                                    good.fetch_add(1, Ordering::Relaxed);
                                }
                            }
                        });
                    })
                })
                .collect();
            let flood = scope.spawn(|| self.attacker.inside(|| send(kind, target, FLOOD, Some(RATE_MAX))));
            // The flood has begun when it is counted.
            std::thread::sleep(FLOOD / 5);
            let (begin, before) = (Instant::now(), good.load(Ordering::Relaxed));
            std::thread::sleep(FLOOD / 2);
            let answered = good.load(Ordering::Relaxed) - before;
            let goodput = answered as f64 / begin.elapsed().as_secs_f64();
            let sent = flood.join().unwrap_or_else(|_| Err(anyhow::anyhow!("the flood panicked")));
            stop.store(true, Ordering::Relaxed);
            clients.into_iter().for_each(|client| _ = client.join());
            sent.map(|sent| (goodput, sent))
        })?;
        // What was left half open goes.
        std::thread::sleep(Duration::from_millis(300));
        Ok(outcome)
    }

    /// One core makes denied packets as fast as it can, and drops them.
    fn drops(&self, context: &Context) -> anyhow::Result<Vec<Drops>> {
        let nft = Command::new("nft").arg("--version").output().is_ok_and(|out| out.status.success());
        if !nft {
            println!("!!! SKIPPED nftables: `nft` is not installed (Debian: nftables)");
        }
        let mut rates: [Vec<f64>; 3] = Default::default();
        for round in 0..context.rounds {
            context.note(&format!("drops, round {}", round + 1));
            let full = |target| self.attacker.inside(|| send(Kind::Denied, target, Duration::from_secs(1), None));
            rates[0].push(full(STEERED)?);
            for (rates, hook) in rates[1..].iter_mut().zip(["ingress", "input"]).filter(|_| nft) {
                self.rule(hook)?;
                rates.push(full(PLAIN)?);
                self.plain_server.run("nft flush ruleset");
            }
        }
        let denied = steer(&self.binaries, &self.steered.node_data())?;
        anyhow::ensure!(denied.to_string().contains("\"denied\""), "nothing was dropped: {denied}");
        let drops = [XDP, NFT, "nftables, input hook"].into_iter().zip(&rates).filter(|(_, rates)| !rates.is_empty());
        let spread = |(name, those): (&'static str, &Vec<f64>)| Drops {
            name,
            per_core: Spread::of(those.iter().copied()),
            of_ours: Spread::of(those.iter().zip(&rates[0]).map(|(theirs, ours)| theirs / ours)),
        };
        Ok(drops.map(spread).collect())
    }

    /// An nftables rule that drops what the deny list drops.
    fn rule(&self, hook: &str) -> anyhow::Result<()> {
        let text = match hook {
            "ingress" => {
                "table netdev f { set d { type ipv4_addr; flags interval; elements = { 198.51.100.0/24 }; }; chain c { type filter hook ingress device \"s0\" priority 0; policy accept; ip saddr @d drop; }; }"
            }
            _ => {
                "table ip f { set d { type ipv4_addr; flags interval; elements = { 198.51.100.0/24 }; }; chain c { type filter hook input priority 0; policy accept; ip saddr @d drop; }; }"
            }
        };
        let path = self.steered.dir().join(format!("{hook}.nft"));
        std::fs::write(&path, text).context("a rule")?;
        run_words(&format!("ip netns exec {} nft -f {}", self.plain_server.name, path.display()));
        Ok(())
    }
}

/// Sends SYNs from one core for so long, no faster than `rate`; gives packets a second.
fn send(kind: Kind, target: Ipv4Addr, time: Duration, rate: Option<u64>) -> anyhow::Result<f64> {
    pin(1);
    let socket = socket_with(AddressFamily::INET, SocketType::RAW, SocketFlags::CLOEXEC, Some(ipproto::RAW))
        .context("a raw socket: needs root")?;
    let (address, begin, mut sent) = (SocketAddrV4::new(target, 0), Instant::now(), 0u64);
    let mut random = 0x9e37_79b9_7f4a_7c15u64;
    while begin.elapsed() < time {
        for _ in 0..BURST {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let packet = syn(kind, (random >> 33) as u32, target);
            // A full queue is what a flood meets.
            sent += u64::from(sendto(&socket, &packet, SendFlags::empty(), &address).is_ok());
        }
        if let Some(rate) = rate {
            let due = Duration::from_nanos(sent * 1_000_000_000 / rate);
            std::thread::sleep(due.saturating_sub(begin.elapsed()));
        }
    }
    Ok(sent as f64 / begin.elapsed().as_secs_f64())
}

/// A SYN with its checksums, from an address that the number chooses.
fn syn(kind: Kind, number: u32, target: Ipv4Addr) -> [u8; 40] {
    let from = match kind {
        Kind::Spoofed => Ipv4Addr::from(0xc612_0000 | (number & 0x0001_ffff)),
        Kind::Denied => Ipv4Addr::from(0xc633_6400 | (number & 0xff)),
    };
    let mut packet = [0; 40];
    packet[..4].copy_from_slice(&[0x45, 0, 0, 40]);
    packet[6..10].copy_from_slice(&[0x40, 0, 64, 6]);
    packet[12..16].copy_from_slice(&from.octets());
    packet[16..20].copy_from_slice(&target.octets());
    let header = checksum(&packet[..20], 0);
    packet[10..12].copy_from_slice(&header.to_be_bytes());
    let port = 1024 + ((number >> 17) as u16 & 0x3fff);
    packet[20..22].copy_from_slice(&port.to_be_bytes());
    packet[22..24].copy_from_slice(&PORT.to_be_bytes());
    packet[24..28].copy_from_slice(&number.to_be_bytes());
    packet[32..36].copy_from_slice(&[0x50, 0x02, 0xff, 0xff]);
    // Of the pseudo header: both addresses, the protocol and the length.
    let pseudo =
        packet[12..20].chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum::<u32>() + 6 + 20;
    let sum = checksum(&packet[20..], pseudo);
    packet[36..38].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// RFC 1071.
fn checksum(bytes: &[u8], begin: u32) -> u16 {
    let mut sum = bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum::<u32>() + begin;
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_bear_their_sources_and_good_checksums() {
        for kind in [Kind::Spoofed, Kind::Denied] {
            let packet = syn(kind, 0xdead_beef, STEERED);
            let from = Ipv4Addr::from(<[u8; 4]>::try_from(&packet[12..16]).expect("four bytes"));
            let text = from.to_string();
            assert!(text.starts_with(if kind == Kind::Spoofed { "198.1" } else { "198.51.100." }), "{text}");
            assert_eq!(checksum(&packet[..20], 0), 0);
            let pseudo =
                packet[12..20].chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum::<u32>();
            assert_eq!(checksum(&packet[20..], pseudo + 6 + 20), 0);
        }
    }
}
