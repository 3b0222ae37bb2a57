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
fn vip(nodes: &[u8], previous: &[u8]) -> Rules {
    let members = |nodes: &[u8]| nodes.iter().map(|last| Member { mac: mac(*last), name: String::new() }).collect();
    let vip = Vip {
        address: "192.0.2.1".parse().expect("an address"),
        port: PORT,
        protocol: Protocol::Tcp,
        nodes: members(nodes),
        previous: members(previous),
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
    bench.0.apply(&vip(&[1, 2], &[1]), 77, Clock::now()).expect("valid");
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
    bench.0.apply(&vip(&[1, 2], &[2]), 77, Clock::now()).expect("valid");
    let mut chained = 0;
    for port in 1..=200 {
        let (first, second) =
            (goes_to(&mut bench, &frame(port, ACK)), goes_to(&mut bench, &hopped(frame(port, ACK), 1)));
        if first == (Some(2), 2) {
            chained += 1;
            assert_eq!(second, (Some(2), 2), "whoever forwarded it");
            assert_eq!(goes_to(&mut bench, &frame(port, SYN)), (None, 0), "what begins is this node's");
            assert_eq!(goes_to(&mut bench, &hopped(frame(port, ACK), 2)), (None, 0), "two hops, no more");
        } else {
            assert_eq!(first, (Some(2), 1), "what was node 2's and is");
        }
    }
    assert!(chained > 60, "{chained}");
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
        bench.0.apply(&vip(&[2, 3 + round], &[2]), 77, Clock::now()).expect("valid");
    }
    let (to, hop) = goes_to(&mut bench, &frame(6, SYN));
    assert!((to == Some(2) || to == Some(22)) && hop == 1, "{to:?}");
}
