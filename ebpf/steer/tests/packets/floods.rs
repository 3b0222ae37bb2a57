//! SYN cookies: what is answered, with what, and which answers are taken.

use crate::build::*;
use crate::{Bench, TCP_PORT, Verdict, say_skipped, skipped};
use std::net::{IpAddr, TcpListener};
use std::process::Command;
use steer::abi;

/// The MSS option, as a real SYN has it.
const MSS: [u8; 4] = [2, 4, 0x05, 0xb4];

/// Runs the test named `name` again in a network namespace of its own, where cookies do not wait for a full queue
/// (`net.ipv4.tcp_syncookies` = 2). Whether this is that run.
fn in_own_namespace(name: &str) -> bool {
    const MARK: &str = "SELVAGE_TEST_NAMESPACE";
    if std::env::var_os(MARK).is_some() {
        std::fs::write("/proc/sys/net/ipv4/tcp_syncookies", "2").expect("this namespace's own");
        let up = Command::new("ip").args(["link", "set", "lo", "up"]).status().expect("ip is installed");
        assert!(up.success());
        return true;
    }
    if skipped() {
        return false;
    }
    let program = std::env::current_exe().expect("a test knows its file");
    let mut inner = Command::new("unshare");
    inner.arg("-n").arg(program).args([name, "--exact", "--nocapture"]).env(MARK, "1");
    assert!(inner.status().expect("unshare is installed").success(), "see above");
    false
}

fn flooded() -> Bench {
    let mut bench = Bench::new().expect("the run outside of the namespace was not skipped");
    bench.0.configure(|cfg| cfg.flags |= abi::CFG_COOKIES).expect("a map of ours");
    bench
}

fn check_synack(frame: &[u8], at: usize, addresses: (IpAddr, IpAddr), client_port: u16) -> u32 {
    assert_eq!((&frame[..6], &frame[6..12]), (&THEIR_MAC[..], &OUR_MAC[..]), "MACs change sides");
    let tcp = &frame[at..];
    assert_eq!(tcp.len(), 24, "a header with one option");
    assert_eq!((&tcp[..2], &tcp[2..4]), (&TCP_PORT.to_be_bytes()[..], &client_port.to_be_bytes()[..]));
    assert_eq!(&tcp[8..12], &0x0102_0305u32.to_be_bytes(), "acknowledges the SYN");
    assert_eq!((tcp[12] >> 4, tcp[13]), (6, SYN | ACK));
    assert_eq!(&tcp[20..22], &[2, 4], "MSS");
    assert_eq!(checksum(pseudo(addresses.0, addresses.1, 24), tcp), 0, "TCP's checksum");
    u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]])
}

#[test]
fn a_flood_over_ipv4_is_answered_with_cookies() {
    if !in_own_namespace("floods::a_flood_over_ipv4_is_answered_with_cookies") {
        return;
    }
    let mut bench = flooded();
    let _listener = TcpListener::bind(("127.0.0.1", TCP_PORT)).expect("the port is free");
    let (client, server) = ("198.51.100.7", "127.0.0.1");
    let segment = |flags, ack: u32, options: &[u8], padding: &[u8]| {
        let mut tcp = tcp(40_000, TCP_PORT, flags, options, padding);
        if flags == ACK {
            tcp[4..8].copy_from_slice(&0x0102_0305u32.to_be_bytes());
        }
        tcp[8..12].copy_from_slice(&ack.to_be_bytes());
        ethernet(0x0800, &ipv4(client, server, 6, &[], &tcp))
    };
    let addresses = (server.parse().expect("an address"), client.parse().expect("an address"));
    let mut options = MSS.to_vec();
    for description in ["a SYN with MSS", "a SYN with 8 bytes of options", "a SYN with 40 bytes of options"] {
        let out = bench.check(description, &segment(SYN, 0, &options, b""), Verdict::Tx, "cookie");
        assert_eq!(checksum(0, &out[14..34]), 0, "IP's checksum");
        assert_eq!(out.len(), 14 + 20 + 24);
        let cookie = check_synack(&out, 34, addresses, 40_000);
        let (verdict, _, counted) = bench.run(&segment(ACK, cookie.wrapping_add(1), &[], b"GET"));
        assert_eq!((verdict, &counted[..]), (Verdict::Redirect as u32, &["steered", "cookie_good"][..]));
        bench.check(
            "an answer to no cookie",
            &segment(ACK, cookie.wrapping_add(77), &[], b""),
            Verdict::Drop,
            "cookie_bad",
        );
        options.extend(std::iter::repeat_n(1, if options.len() == 4 { 4 } else { 32 }));
    }
    let short = bench.check("a SYN without options grows", &segment(SYN, 0, &[], b""), Verdict::Tx, "cookie");
    check_synack(&short, 34, addresses, 40_000);
    let optioned = ethernet(0x0800, &ipv4(client, server, 6, &[1; 4], &tcp(1, TCP_PORT, SYN, &MSS, b"")));
    bench.check("IP options: the kernel's", &optioned, Verdict::Redirect, "steered");
    bench.check("a RST", &segment(RST, 0, &[], b""), Verdict::Redirect, "steered");
    let nobody = ethernet(0x0800, &ipv4(client, "192.0.2.99", 6, &[], &tcp(1, TCP_PORT, SYN, &MSS, b"")));
    let (verdict, ..) = bench.run(&nobody);
    assert_eq!(verdict, Verdict::Redirect as u32, "nobody listens there: the kernel says so");
}

#[test]
fn a_flood_over_ipv6_is_answered_with_cookies() {
    if !in_own_namespace("floods::a_flood_over_ipv6_is_answered_with_cookies") {
        return;
    }
    let mut bench = flooded();
    let Ok(_listener) = TcpListener::bind(("::1", TCP_PORT)) else {
        say_skipped("a flood over IPv6: there is no IPv6 here");
        return;
    };
    let (client, server) = ("2001:db8:1::7", "::1");
    let syn = ethernet(0x86dd, &ipv6(client, server, 6, &tcp(40_000, TCP_PORT, SYN, &MSS, b"")));
    let out = bench.check("a SYN", &syn, Verdict::Tx, "cookie");
    let addresses = (server.parse().expect("an address"), client.parse().expect("an address"));
    let cookie = check_synack(&out, 54, addresses, 40_000);
    let mut tcp = tcp(40_000, TCP_PORT, ACK, &[], b"");
    tcp[4..8].copy_from_slice(&0x0102_0305u32.to_be_bytes());
    tcp[8..12].copy_from_slice(&cookie.wrapping_add(1).to_be_bytes());
    let (verdict, _, counted) = bench.run(&ethernet(0x86dd, &ipv6(client, server, 6, &tcp)));
    assert_eq!((verdict, &counted[..]), (Verdict::Redirect as u32, &["steered", "cookie_good"][..]));
}

#[test]
fn without_a_flood_nothing_is_answered() {
    let Some(mut bench) = Bench::new() else { return };
    bench.0.configure(|cfg| (cfg.flags, cfg.syn_per_s) = (cfg.flags | abi::CFG_COOKIES, 100)).expect("a map of ours");
    let syn = |port| tcp4("198.51.100.7", port, TCP_PORT, SYN);
    // A tenth of the limit in a tenth of a second; then it is a flood, though nobody listens to be asked for a cookie.
    for port in 1..=10 {
        bench.check("within the limit", &syn(port), Verdict::Redirect, "steered");
    }
}
