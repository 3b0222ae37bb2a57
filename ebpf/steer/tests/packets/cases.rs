//! The table: reading frames, judging sources. Whatever is not answered or forwarded leaves as it came.

use crate::build::*;
use crate::{Bench, TCP_PORT, UDP_PORT, Verdict};
use Verdict::{Drop, Pass, Redirect};
use plane_abi::steering::{Deny, Limits, Prefix, Rules};
use steer::abi;
use steer::xdp::Clock;

const US4: &str = "10.0.0.1";
const PEER4: &str = "198.51.100.7";
const US6: &str = "2001:db8::1";
const PEER6: &str = "2001:db8:1::7";

type Case = (&'static str, Vec<u8>, Verdict, &'static str);

/// Changes bytes of a frame.
fn with(mut frame: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
    frame[at..at + bytes.len()].copy_from_slice(bytes);
    frame
}

fn cut(mut frame: Vec<u8>, length: usize) -> Vec<u8> {
    frame.truncate(length);
    frame
}

/// Offset of the IP header, and of TCP's after a plain IPv4 header.
const IP: usize = 14;
const L4: usize = 34;

fn syn4() -> Vec<u8> {
    tcp4(PEER4, 40_000, TCP_PORT, SYN)
}

fn syn6() -> Vec<u8> {
    tcp6(PEER6, 40_000, TCP_PORT, SYN)
}

fn in_v6(next: u8, payload: &[u8]) -> Vec<u8> {
    ethernet(0x86dd, &ipv6(PEER6, US6, next, payload))
}

/// What is well formed, and ours or not.
fn whole() -> Vec<Case> {
    let segment = tcp(40_000, TCP_PORT, ACK, &[], b"GET / HTTP/1.1\r\n\r\n");
    let packet = ipv4(PEER4, US4, 6, &[], &segment);
    let nop = [1u8; 40];
    let datagram = udp(40_000, UDP_PORT, b"hello");
    vec![
        ("a SYN over IPv4", syn4(), Redirect, "steered"),
        ("a SYN over IPv6", syn6(), Redirect, "steered"),
        ("a segment with data", ethernet(0x0800, &packet), Redirect, "steered"),
        ("a FIN", tcp4(PEER4, 40_000, TCP_PORT, FIN | ACK), Redirect, "steered"),
        ("a RST", tcp4(PEER4, 40_000, TCP_PORT, RST), Redirect, "steered"),
        ("one VLAN tag", ethernet(0x8100, &vlan(5, 0x0800, &packet)), Redirect, "steered"),
        ("one 802.1ad tag", ethernet(0x88a8, &vlan(5, 0x0800, &packet)), Redirect, "steered"),
        ("QinQ", ethernet(0x88a8, &vlan(5, 0x8100, &vlan(6, 0x0800, &packet))), Redirect, "steered"),
        ("a tag round IPv6", ethernet(0x8100, &vlan(5, 0x86dd, &ipv6(PEER6, US6, 6, &segment))), Redirect, "steered"),
        (
            "three tags are not read",
            ethernet(0x8100, &vlan(1, 0x8100, &vlan(2, 0x8100, &vlan(3, 0x0800, &packet)))),
            Pass,
            "not_ours",
        ),
        (
            "IPv4 with 4 bytes of options",
            ethernet(0x0800, &ipv4(PEER4, US4, 6, &nop[..4], &segment)),
            Redirect,
            "steered",
        ),
        ("IPv4 with 40 bytes of options", ethernet(0x0800, &ipv4(PEER4, US4, 6, &nop, &segment)), Redirect, "steered"),
        (
            "TCP with 40 bytes of options",
            ethernet(0x0800, &ipv4(PEER4, US4, 6, &[], &tcp(40_000, TCP_PORT, SYN, &nop, b""))),
            Redirect,
            "steered",
        ),
        ("a frame padded to 60 bytes", [syn4(), vec![0; 6]].concat(), Redirect, "steered"),
        ("IPv6 with hop-by-hop options", in_v6(0, &extension(6, 0, &segment)), Redirect, "steered"),
        ("IPv6 with a routing header", in_v6(43, &extension(6, 2, &segment)), Redirect, "steered"),
        (
            "IPv6 with three extension headers",
            in_v6(0, &extension(60, 0, &extension(43, 1, &extension(6, 0, &segment)))),
            Redirect,
            "steered",
        ),
        ("UDP over IPv4", ethernet(0x0800, &ipv4(PEER4, US4, 17, &[], &datagram)), Redirect, "steered"),
        ("UDP over IPv6", in_v6(17, &datagram), Redirect, "steered"),
        ("an empty datagram", in_v6(17, &udp(40_000, UDP_PORT, b"")), Redirect, "steered"),
        (
            "QUIC with a short header",
            in_v6(17, &udp(40_000, UDP_PORT, &[0x41, 7, 0, 0, 0, 0, 0, 0, 0, 9])),
            Redirect,
            "steered",
        ),
        (
            "QUIC with a long header",
            in_v6(17, &udp(40_000, UDP_PORT, &[0xc3, 0, 0, 0, 1, 8, 1, 2, 3, 4])),
            Redirect,
            "steered",
        ),
        ("another TCP port", tcp4(PEER4, 40_000, 22, SYN), Pass, "not_ours"),
        (
            "the TCP port over UDP",
            ethernet(0x0800, &ipv4(PEER4, US4, 17, &[], &udp(1, TCP_PORT, b""))),
            Pass,
            "not_ours",
        ),
        ("the UDP port over TCP", tcp4(PEER4, 1, UDP_PORT, SYN), Pass, "not_ours"),
        ("ICMP", ethernet(0x0800, &ipv4(PEER4, US4, 1, &[], &[8, 0, 0, 0, 0, 0, 0, 0])), Pass, "not_ours"),
        ("ICMPv6 from nobody", ethernet(0x86dd, &ipv6("::", "ff02::1", 58, &[135, 0, 0, 0])), Pass, "not_ours"),
        (
            "DHCP from 0.0.0.0",
            ethernet(0x0800, &ipv4("0.0.0.0", "255.255.255.255", 17, &[], &udp(68, 67, b"x"))),
            Pass,
            "not_ours",
        ),
        ("GRE", ethernet(0x0800, &ipv4(PEER4, US4, 47, &[], &[0; 20])), Pass, "not_ours"),
        ("ARP", ethernet(0x0806, &[0; 28]), Pass, "not_ours"),
        ("LLDP", ethernet(0x88cc, &[0; 40]), Pass, "not_ours"),
        ("no next header", in_v6(59, &[]), Pass, "not_ours"),
        ("a length in place of a type (802.3)", ethernet(0x0026, &[0; 46]), Pass, "not_ours"),
    ]
}

/// What contradicts itself or stops short.
fn broken() -> Vec<Case> {
    let (syn4, syn6) = (syn4(), syn6());
    let nop = [1u8; 40];
    let with_options = ethernet(0x0800, &ipv4(PEER4, US4, 6, &nop, &tcp(1, TCP_PORT, SYN, &[], b"")));
    let datagram = ethernet(0x0800, &ipv4(PEER4, US4, 17, &[], &udp(40_000, UDP_PORT, b"hello")));
    let segment = tcp(40_000, TCP_PORT, ACK, &[], b"");
    let long_chain = (0..6).fold(extension(6, 0, &segment), |inner, _| extension(60, 0, &inner));
    vec![
        ("an Ethernet header and nothing", cut(syn4.clone(), 14), Drop, "truncated"),
        ("half an IPv4 header", cut(syn4.clone(), IP + 10), Drop, "truncated"),
        ("IPv4 without its TCP", cut(syn4.clone(), IP + 20), Drop, "truncated"),
        ("half a TCP header in the frame", cut(syn4.clone(), L4 + 10), Drop, "truncated"),
        ("half a TCP header by IPv4's length", with(syn4.clone(), IP + 2, &30u16.to_be_bytes()), Drop, "truncated"),
        ("IPv4's length below its header's", with(syn4.clone(), IP + 2, &19u16.to_be_bytes()), Drop, "length"),
        ("IPv4's length 0", with(syn4.clone(), IP + 2, &[0, 0]), Drop, "length"),
        ("IPv4's length past the frame", with(syn4.clone(), IP + 2, &41u16.to_be_bytes()), Drop, "truncated"),
        ("IPv4's length 65535", with(syn4.clone(), IP + 2, &[0xff, 0xff]), Drop, "truncated"),
        ("IPv4 of version 5", with(syn4.clone(), IP, &[0x55]), Drop, "header"),
        ("IPv6 in an IPv4 frame", with(syn6.clone(), 12, &[0x08, 0x00]), Drop, "header"),
        ("an IPv4 header of 16 bytes", with(syn4.clone(), IP, &[0x44]), Drop, "header"),
        ("options past the frame", cut(with_options.clone(), IP + 30), Drop, "truncated"),
        ("a TCP header of 16 bytes", with(syn4.clone(), L4 + 12, &[0x40]), Drop, "header"),
        ("a TCP header of 60 bytes that is not there", with(syn4.clone(), L4 + 12, &[0xf0]), Drop, "truncated"),
        ("half a UDP header", with(cut(datagram.clone(), L4 + 4), IP + 2, &24u16.to_be_bytes()), Drop, "truncated"),
        ("UDP's length below its header's", with(datagram.clone(), L4 + 4, &7u16.to_be_bytes()), Drop, "length"),
        ("UDP's length past the packet", with(datagram, L4 + 4, &14u16.to_be_bytes()), Drop, "length"),
        ("half an IPv6 header", cut(syn6.clone(), IP + 39), Drop, "truncated"),
        ("IPv6's length past the frame", with(syn6.clone(), IP + 4, &21u16.to_be_bytes()), Drop, "truncated"),
        ("IPv6's length below TCP's", with(syn6.clone(), IP + 4, &19u16.to_be_bytes()), Drop, "truncated"),
        ("IPv6 of version 4", with(syn6.clone(), IP, &[0x40]), Drop, "header"),
        ("an extension header past the packet", in_v6(0, &with(extension(6, 0, &segment), 1, &[200])), Drop, "length"),
        ("half an extension header", in_v6(0, &[6, 0, 0, 0]), Drop, "truncated"),
        ("an endless chain of extension headers", in_v6(60, &long_chain), Drop, "header"),
        ("no flags at all", tcp4(PEER4, 1, TCP_PORT, 0), Drop, "flags"),
        ("SYN and FIN", tcp4(PEER4, 1, TCP_PORT, SYN | FIN), Drop, "flags"),
        ("SYN and RST", tcp6(PEER6, 1, TCP_PORT, SYN | RST), Drop, "flags"),
        ("odd flags to another's port", tcp4(PEER4, 1, 22, SYN | FIN), Pass, "not_ours"),
        ("the first fragment", with(syn4.clone(), IP + 6, &[0x20, 0]), Pass, "fragment"),
        ("a later fragment", with(syn4, IP + 6, &[0, 100]), Pass, "fragment"),
        ("an IPv6 fragment", in_v6(44, &extension(6, 0, &segment)), Pass, "fragment"),
        ("an IPv6 fragment after options", in_v6(60, &extension(44, 0, &extension(6, 0, &segment))), Pass, "fragment"),
        ("a tag and nothing", ethernet(0x8100, &[0, 5]), Pass, "not_ours"),
        ("IPv4's first byte", ethernet(0x0800, &[0x45]), Drop, "truncated"),
    ]
}

/// Sources that cannot be.
fn spoofed() -> Vec<Case> {
    let from4 = |source| tcp4(source, 40_000, TCP_PORT, SYN);
    let from6 = |source| tcp6(source, 40_000, TCP_PORT, SYN);
    vec![
        ("from 127.0.0.1", from4("127.0.0.1"), Drop, "spoofed"),
        ("from 0.0.0.0", from4("0.0.0.0"), Drop, "spoofed"),
        ("from a group", from4("224.0.0.1"), Drop, "spoofed"),
        ("from the broadcast address", from4("255.255.255.255"), Drop, "spoofed"),
        ("from ourselves (LAND)", from4(US4), Drop, "spoofed"),
        ("from ::", from6("::"), Drop, "spoofed"),
        ("from ::1", from6("::1"), Drop, "spoofed"),
        ("from ::2, which is an address", from6("::2"), Redirect, "steered"),
        ("from a group over IPv6", from6("ff02::1"), Drop, "spoofed"),
        ("from IPv4 in disguise", from6("::ffff:198.51.100.7"), Drop, "spoofed"),
        ("from ourselves over IPv6", from6(US6), Drop, "spoofed"),
        (
            "UDP from 127.0.0.1 is the kernel's to judge",
            ethernet(0x0800, &ipv4("127.0.0.1", US4, 17, &[], &udp(1, UDP_PORT, b""))),
            Redirect,
            "steered",
        ),
    ]
}

#[test]
fn frames() {
    let Some(mut bench) = Bench::new() else { return };
    let cases: Vec<Case> = [whole(), broken(), spoofed()].concat();
    assert!(cases.len() >= 60, "{}", cases.len());
    for (description, frame, verdict, outcome) in cases {
        // The kernel itself runs no frame that is shorter than an Ethernet header.
        let out = bench.check(description, &frame, verdict, outcome);
        assert_eq!(out, frame, "{description}: the frame is as it was");
    }
}

#[test]
fn every_cut_of_every_frame_is_passed_or_dropped() {
    let Some(mut bench) = Bench::new() else { return };
    for (description, frame, ..) in [whole(), spoofed()].concat() {
        for length in 14..frame.len() {
            let (verdict, out) = bench.verdict(&frame[..length]);
            assert!(
                (1..=4).contains(&verdict) && verdict != Verdict::Tx as u32,
                "{description}, {length} bytes: {verdict}"
            );
            assert_eq!(out, &frame[..length]);
        }
    }
}

fn prefix(text: &str) -> Prefix {
    let (address, bits) = text.split_once('/').expect("a prefix");
    Prefix { address: address.parse().expect("an address"), bits: bits.parse().expect("a length") }
}

#[test]
fn the_deny_list() {
    let Some(mut bench) = Bench::new() else { return };
    let deny = |text, expires_unix_s| Deny { prefix: prefix(text), expires_unix_s, reason: 9 };
    let clock = Clock::now();
    let mut rules = Rules {
        deny: vec![
            deny("198.51.100.0/24", 0),
            deny("203.0.113.5/32", 0),
            deny("192.0.2.0/24", clock.unix_s - 1),
            deny("100.64.0.0/10", clock.unix_s + 3600),
            deny("2001:db8:1::/48", 0),
        ],
        ..Rules::default()
    };
    rules.normalise();
    bench.0.apply(&rules, 1, clock).expect("valid");
    let from4 = |source: &str| tcp4(source, 40_000, TCP_PORT, SYN);
    let fragment = with(from4("198.51.100.1"), IP + 6, &[0x20, 0]);
    let cases: Vec<Case> = vec![
        ("in a denied prefix", from4("198.51.100.200"), Drop, "denied"),
        ("beside it", from4("198.51.101.1"), Redirect, "steered"),
        ("a denied address", from4("203.0.113.5"), Drop, "denied"),
        ("beside that", from4("203.0.113.4"), Redirect, "steered"),
        ("a rule that has ended", from4("192.0.2.1"), Redirect, "steered"),
        ("a rule that will end", from4("100.127.255.255"), Drop, "denied"),
        ("a denied prefix of IPv6", tcp6("2001:db8:1:ffff::1", 1, TCP_PORT, SYN), Drop, "denied"),
        ("beside it, IPv6", tcp6("2001:db8:2::1", 1, TCP_PORT, SYN), Redirect, "steered"),
        (
            "a denied source's datagram",
            ethernet(0x0800, &ipv4("198.51.100.1", US4, 17, &[], &udp(1, UDP_PORT, b""))),
            Drop,
            "denied",
        ),
        ("a denied source at another's port", tcp4("198.51.100.1", 1, 22, SYN), Pass, "not_ours"),
        ("a denied source's fragment", fragment, Drop, "denied"),
    ];
    for (description, frame, verdict, outcome) in cases {
        bench.check(description, &frame, verdict, outcome);
    }
    // A rule that goes, one that stays; and rules that are refused change nothing.
    rules.deny.retain(|deny| deny.prefix == prefix("203.0.113.5/32"));
    bench.0.apply(&rules, 1, clock).expect("valid");
    bench.check("its rule is gone", &from4("198.51.100.200"), Redirect, "steered");
    bench.check("its rule stayed", &from4("203.0.113.5"), Drop, "denied");
    let bad = Rules { deny: vec![deny("198.51.100.1/24", 0)], ..Rules::default() };
    assert!(bench.0.apply(&bad, 1, clock).is_err());
    bench.check("refused rules change nothing", &from4("203.0.113.5"), Drop, "denied");
    bench.check("refused rules deny nobody", &from4("198.51.100.1"), Redirect, "steered");
    let drops = bench.0.drops();
    assert!(drops.iter().all(|drop| drop.reason == 21 && drop.family == 4 || drop.family == 6), "{drops:?}");
}

#[test]
fn limits_of_a_source() {
    let Some(mut bench) = Bench::new() else { return };
    let limits = Limits { packets_per_s: 1, packets_burst: 3, ..Limits::default() };
    bench.0.apply(&Rules { limits, ..Rules::default() }, 1, Clock::now()).expect("valid");
    let from = |source: &str| tcp4(source, 40_000, TCP_PORT, ACK);
    for _ in 0..3 {
        bench.check("within the burst", &from(PEER4), Redirect, "steered");
    }
    bench.check("over it", &from(PEER4), Drop, "rate_packets");
    bench.check("another source", &from("198.51.100.8"), Redirect, "steered");
    for last in 1..4 {
        bench.check(
            "a /64 is one source",
            &tcp6(&format!("2001:db8:5::{last}"), 1, TCP_PORT, ACK),
            Redirect,
            "steered",
        );
    }
    bench.check("a /64 over its limit", &tcp6("2001:db8:5::ffff", 1, TCP_PORT, ACK), Drop, "rate_packets");
    bench.check("the next /64", &tcp6("2001:db8:5:1::1", 1, TCP_PORT, ACK), Redirect, "steered");
    bench.check("not ours is not counted", &tcp4(PEER4, 1, 22, ACK), Pass, "not_ours");
    std::thread::sleep(std::time::Duration::from_millis(1_100));
    bench.check("a second later there is room for one", &from(PEER4), Redirect, "steered");
    bench.check("and for no more", &from(PEER4), Drop, "rate_packets");

    let limits = Limits { connections_per_s: 1, connections_burst: 1, ..Limits::default() };
    bench.0.apply(&Rules { limits, ..Rules::default() }, 1, Clock::now()).expect("valid");
    let source = "203.0.113.77";
    bench.check("a first connection", &tcp4(source, 1, TCP_PORT, SYN), Redirect, "steered");
    bench.check("a second at once", &tcp4(source, 2, TCP_PORT, SYN), Drop, "rate_connections");
    bench.check("packets of the first", &tcp4(source, 1, TCP_PORT, ACK), Redirect, "steered");
}

#[test]
fn flows_stay_when_their_slot_moves() {
    let Some(mut bench) = Bench::new() else { return };
    let frame = |port, flags| tcp4(PEER4, port, TCP_PORT, flags);
    bench.check("on CPU 1 at first", &frame(1000, ACK), Redirect, "steered");
    for slot in 0..abi::SLOTS {
        bench.0.move_slot(slot, 0).expect("a map of ours");
    }
    assert_eq!(bench.0.report().moved, abi::SLOTS);
    bench.check("a flow that had begun stays", &frame(1000, ACK), Redirect, "steered");
    bench.check("a flow that begins goes to CPU 0, which is here", &frame(1001, SYN), Pass, "here");
    bench.check("and stays there", &frame(1001, ACK), Pass, "here");
    for slot in 0..abi::SLOTS {
        bench.0.move_slot(slot, 1).expect("a map of ours");
    }
    bench.check("back: what begins", &frame(1002, SYN), Redirect, "steered");
}

#[test]
fn quic_goes_by_its_connection_id() {
    let Some(mut bench) = Bench::new() else { return };
    bench.0.move_slot(7, 0).expect("a map of ours");
    let short = |slot, port| {
        let datagram = udp(port, UDP_PORT, &[0x40, slot, 1, 2, 3, 4, 5, 6, 7, 8]);
        ethernet(0x0800, &ipv4(PEER4, US4, 17, &[], &datagram))
    };
    for port in [1, 2, 3, 4000] {
        bench.check("slot 7, from any port", &short(7, port), Pass, "here");
        bench.check("slot 8, from any port", &short(8, port), Redirect, "steered");
    }
}
