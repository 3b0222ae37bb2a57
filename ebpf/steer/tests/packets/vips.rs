//! One VIP, many nodes: where frames go on, and that no chain of nodes forwards one for ever.

use crate::build::*;
use crate::{Bench, Verdict};
use plane_abi::steering::{Member, Protocol, Rules, Vip};
use std::collections::HashMap;
use steer::xdp::Clock;

const PORT: u16 = 8443;

fn mac(last: u8) -> [u8; 6] {
    [2, 0, 0, 0, 0, last]
}

/// This node is 1 ([`OUR_MAC`]).
fn vip(nodes: &[u8], before: &[&[u8]]) -> Rules {
    let members = |nodes: &[u8]| nodes.iter().map(|last| Member { mac: mac(*last), name: String::new() }).collect();
    let vip = Vip {
        address: "192.0.2.1".parse().expect("an address"),
        port: PORT,
        protocol: Protocol::Tcp,
        nodes: members(nodes),
        before: before.iter().map(|nodes| members(nodes)).collect(),
    };
    Rules { vips: vec![vip], ..Rules::default() }
}

fn frame(port: u16, flags: u8) -> Vec<u8> {
    ethernet(0x0800, &ipv4("198.51.100.7", "192.0.2.1", 6, &[], &tcp(port, PORT, flags, &[], b"")))
}

/// The frame as a node forwards it.
fn hopped(mut frame: Vec<u8>, hop: u8) -> Vec<u8> {
    frame[6..12].copy_from_slice(&[0x02, 0x53, 0x56, hop, 0, 9]);
    frame
}

/// Whom a frame goes to; none: it stays.
fn goes_to(bench: &mut Bench, frame: &[u8]) -> (Option<u8>, u8) {
    let (verdict, out, counted) = bench.run(frame);
    if verdict == Verdict::Tx as u32 {
        assert_eq!(&out[6..9], &[0x02, 0x53, 0x56], "the sender's address says how far it came");
        assert_eq!(&out[12..], &frame[12..], "nothing but addresses changes");
        return (Some(out[5]), out[9]);
    }
    assert_eq!((verdict, counted.as_slice()), (Verdict::Redirect as u32, &["steered"][..]));
    (None, 0)
}

#[test]
fn buckets_spread_connections_and_agree_between_nodes() {
    let Some(mut bench) = Bench::new() else { return };
    bench.0.apply(&vip(&[1, 2, 3], &[]), 77, Clock::now()).expect("valid");
    let mut shares: HashMap<Option<u8>, u32> = HashMap::new();
    for port in 1..=600 {
        let (syn, rest) = (goes_to(&mut bench, &frame(port, SYN)), goes_to(&mut bench, &frame(port, ACK)));
        assert_eq!(syn, rest, "all packets of a connection go one way");
        assert_eq!(syn.1, u8::from(syn.0.is_some()), "one hop");
        *shares.entry(syn.0).or_default() += 1;
    }
    assert_eq!(shares.len(), 3);
    assert!(shares.values().all(|share| (140..260).contains(share)), "{shares:?}");
}

#[test]
fn after_a_change_a_packet_goes_to_who_may_know_its_connection() {
    let Some(mut bench) = Bench::new() else { return };
    // Node 2 has joined: what it took from node 1 goes there first.
    bench.0.apply(&vip(&[1, 2], &[&[1]]), 77, Clock::now()).expect("valid");
    let (mut ours, mut theirs) = (0, 0);
    for port in 1..=200 {
        match goes_to(&mut bench, &frame(port, ACK)) {
            (Some(2), 1) => {
                theirs += 1;
                // Node 2 did not know it and sends it back: it stays, known or not.
                assert_eq!(goes_to(&mut bench, &hopped(frame(port, ACK), 2)), (None, 0));
            }
            (None, _) => ours += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(ours > 60 && theirs > 60, "{ours} {theirs}");
    // The same from node 2's side: this node has joined, and knows no connection yet.
    bench.0.apply(&vip(&[1, 2], &[&[2]]), 77, Clock::now()).expect("valid");
    let mut chained = 0;
    for port in 1..=200 {
        let (first, second) =
            (goes_to(&mut bench, &frame(port, ACK)), goes_to(&mut bench, &hopped(frame(port, ACK), 1)));
        if first == (Some(2), 2) {
            chained += 1;
            assert_eq!(second, (Some(2), 2), "whoever forwarded it");
            assert_eq!(goes_to(&mut bench, &frame(port, SYN)), (None, 0), "what begins is this node's");
            let misled = goes_to(&mut bench, &hopped(frame(port, ACK), 2));
            assert_eq!(misled, (Some(2), 3), "the sender's table is another: node 2 may know it");
            assert_eq!(goes_to(&mut bench, &hopped(frame(port, ACK), 4)), (None, 0), "four hops, no more");
        } else {
            assert_eq!(first, (Some(2), 1), "what was node 2's and is");
        }
    }
    assert!(chained > 60, "{chained}");
}

#[test]
fn a_connection_from_three_changes_ago_is_found() {
    let Some(mut bench) = Bench::new() else { return };
    // This node has had its buckets as the first, the second and the third since: each node asks the next older one.
    let places: [(u8, [&[u8]; 3], u8); 3] =
        [(1, [&[2], &[3], &[4]], 1), (2, [&[1], &[3], &[4]], 2), (2, [&[3], &[1], &[4]], 3)];
    for (now, before, hop) in places {
        bench.0.apply(&vip(&[now], &before), 77, Clock::now()).expect("valid");
        let older = before.get(usize::from(hop) - 1).map(|nodes| nodes[0]);
        assert_eq!(goes_to(&mut bench, &hopped(frame(5, ACK), hop)), (older, hop + 1), "to the next older one");
        assert_eq!(goes_to(&mut bench, &hopped(frame(5, SYN), hop)), (None, 0), "what begins stays");
    }
    bench.0.apply(&vip(&[2], &[&[3], &[4], &[1]]), 77, Clock::now()).expect("valid");
    assert_eq!(goes_to(&mut bench, &hopped(frame(5, ACK), 4)), (None, 0), "there is no older one");
    assert_eq!(goes_to(&mut bench, &frame(5, ACK)), (Some(2), 1));
    // Longer than what fits is refused.
    let long = vip(&[1], &[&[2], &[3], &[4], &[5]]);
    assert!(bench.0.apply(&long, 77, Clock::now()).is_err());
}

/// That a packet which the VIP sent to the client at `port` was too big, from a router on the way.
fn too_big(port: u16) -> Vec<u8> {
    let sent = ipv4("192.0.2.1", "198.51.100.7", 6, &[], &tcp(PORT, port, ACK, &[], b"much"));
    ethernet(0x0800, &ipv4("203.0.113.77", "192.0.2.1", 1, &[], &icmp(3, 4, &sent[..28])))
}

#[test]
fn errors_about_a_packet_go_where_its_connection_is() {
    let Some(mut bench) = Bench::new() else { return };
    bench.0.apply(&vip(&[1, 2, 3], &[]), 77, Clock::now()).expect("valid");
    let mut forwarded = 0;
    for port in 1..=200 {
        match goes_to(&mut bench, &frame(port, ACK)) {
            (None, _) => _ = bench.check("its connection is here", &too_big(port), Verdict::Pass, "not_ours"),
            to => {
                assert_eq!(goes_to(&mut bench, &too_big(port)), to);
                assert_eq!(
                    goes_to_or_stays(&mut bench, &hopped(too_big(port), 1)),
                    to.0,
                    "its sender has a newer table"
                );
                assert_eq!(goes_to_or_stays(&mut bench, &hopped(too_big(port), 4)), None, "four hops, no more");
                forwarded += 1;
            }
        }
    }
    assert!(forwarded > 80, "{forwarded}");
    // What is cut anywhere, or about a packet of somebody else, is the kernel's affair.
    let whole = too_big(5);
    for length in 34..whole.len() {
        let mut cut = whole[..length].to_vec();
        cut[16..18].copy_from_slice(&((length - 14) as u16).to_be_bytes());
        let (verdict, ..) = bench.run(&cut);
        assert_eq!(verdict, Verdict::Pass as u32, "cut to {length} bytes");
    }
    let sent = ipv4("192.0.2.9", "198.51.100.7", 6, &[], &tcp(PORT, 5, ACK, &[], b""));
    let other = ethernet(0x0800, &ipv4("203.0.113.77", "192.0.2.1", 1, &[], &icmp(3, 4, &sent)));
    bench.check("about another address", &other, Verdict::Pass, "not_ours");
    let echo = ethernet(0x0800, &ipv4("203.0.113.77", "192.0.2.1", 1, &[], &icmp(8, 0, &sent)));
    bench.check("no error", &echo, Verdict::Pass, "not_ours");
}

/// Whom a frame goes to, if it goes on.
fn goes_to_or_stays(bench: &mut Bench, frame: &[u8]) -> Option<u8> {
    let (verdict, out, _) = bench.run(frame);
    (verdict == Verdict::Tx as u32).then(|| out[5])
}

#[test]
fn errors_over_ipv6_are_read_too() {
    let Some(mut bench) = Bench::new() else { return };
    let mut rules = vip(&[2], &[]);
    rules.vips[0].address = "2001:db8::9".parse().expect("an address");
    bench.0.apply(&rules, 77, Clock::now()).expect("valid");
    let sent = ipv6("2001:db8::9", "2001:db8:1::7", 6, &tcp(PORT, 40_000, ACK, &[], b"much"));
    let error = |kind: u8| ethernet(0x86dd, &ipv6("2001:db8:2::1", "2001:db8::9", 58, &icmp(kind, 0, &sent)));
    assert_eq!(goes_to(&mut bench, &error(2)), (Some(2), 1), "too big");
    bench.check("an echo", &error(128), Verdict::Pass, "not_ours");
}

#[test]
fn a_vip_without_rules_is_nobodys() {
    let Some(mut bench) = Bench::new() else { return };
    bench.0.apply(&vip(&[2], &[]), 77, Clock::now()).expect("valid");
    assert_eq!(goes_to(&mut bench, &frame(5, SYN)), (Some(2), 1));
    bench.0.apply(&Rules::default(), 77, Clock::now()).expect("valid");
    bench.check("its rule is gone", &frame(5, SYN), Verdict::Pass, "not_ours");
    // Tables change many times without running out.
    for round in 0..20u8 {
        bench.0.apply(&vip(&[2, 3 + round], &[&[2]]), 77, Clock::now()).expect("valid");
    }
    let (to, hop) = goes_to(&mut bench, &frame(6, SYN));
    assert!((to == Some(2) || to == Some(22)) && hop == 1, "{to:?}");
}
