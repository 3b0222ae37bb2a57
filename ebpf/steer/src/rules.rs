//! A snapshot's rules in the kernel's terms. Everything that can be refused is refused here, before the first write.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use plane_abi::steering::{Member, Protocol, Rules, RulesError, Vip};

use crate::abi::{self, BUCKETS, Bucket, Cfg, OWNERS, POOLS_MAX, REALS_MAX, Real, VipKey};
use crate::maglev;

/// Lists of nodes: now, and before each of the last changes, newest first. VIPs with the same lists share a table.
pub(crate) type Pool = Vec<Vec<[u8; 6]>>;

/// Rules that can be written: they fit the maps.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) deny4: BTreeMap<(u32, [u8; 4]), (u64, u32)>,
    pub(crate) deny6: BTreeMap<(u32, [u8; 16]), (u64, u32)>,
    pub(crate) vips: HashMap<[u8; 20], usize>,
    pub(crate) pools: Vec<Pool>,
    pub(crate) limits: plane_abi::steering::Limits,
    pub(crate) node: u16,
}

/// Checks rules and brings them into the maps' terms. `mac` is this node's.
pub(crate) fn plan(rules: &Rules, mac: [u8; 6]) -> Result<Plan, RulesError> {
    rules.check()?;
    let mut plan = Plan {
        deny4: BTreeMap::new(),
        deny6: BTreeMap::new(),
        vips: HashMap::new(),
        pools: Vec::new(),
        limits: rules.limits,
        node: node_number(rules, mac),
    };
    for deny in &rules.deny {
        let (bits, value) = (u32::from(deny.prefix.bits), (deny.expires_unix_s, deny.reason));
        match deny.prefix.address {
            IpAddr::V4(address) => _ = plan.deny4.insert((bits, address.octets()), value),
            IpAddr::V6(address) => _ = plan.deny6.insert((bits, address.octets()), value),
        }
    }
    for vip in &rules.vips {
        let macs = |members: &[Member]| members.iter().map(|member| member.mac).collect::<Vec<_>>();
        let pool: Pool = vip.lists().map(|list| macs(list)).collect();
        let place = plan.pools.iter().position(|it| *it == pool).unwrap_or_else(|| {
            plan.pools.push(pool);
            plan.pools.len() - 1
        });
        plan.vips.insert(key_bytes(&vip_key(vip.address, vip.port, vip.protocol)), place);
    }
    let reals: BTreeSet<_> = plan.pools.iter().flatten().flatten().collect();
    // Twice: while tables change, those of the rules before are in use, too.
    if plan.pools.len() * 2 > POOLS_MAX || reals.len() * 2 >= REALS_MAX {
        return Err(RulesError::TooMany("lists of nodes", POOLS_MAX / 2));
    }
    Ok(plan)
}

/// This node's number in forwarded frames: its place among all nodes of all VIPs, from 1; from its address where it is in
/// none. Two nodes of one number would only confuse a switch's table of addresses.
fn node_number(rules: &Rules, mac: [u8; 6]) -> u16 {
    let members = rules.vips.iter().flat_map(Vip::lists).flatten();
    let mut macs: Vec<[u8; 6]> = members.map(|member| member.mac).collect();
    macs.sort_unstable();
    macs.dedup();
    macs.binary_search(&mac).map_or(u16::from_be_bytes([mac[4] | 0x80, mac[5]]), |place| place as u16 + 1)
}

impl Plan {
    /// The switches and numbers of these rules, over those that the node chose.
    pub(crate) fn configure(&self, base: Cfg) -> Cfg {
        let limits = self.limits;
        let on = |condition: bool, flag: u32| if condition { flag } else { 0 };
        let flags = on(!self.deny4.is_empty() || !self.deny6.is_empty(), abi::CFG_DENY)
            | on(limits.packets_per_s > 0 || limits.connections_per_s > 0, abi::CFG_RATE)
            | on(limits.syn_per_s > 0, abi::CFG_COOKIES)
            | on(!self.vips.is_empty(), abi::CFG_VIPS);
        Cfg {
            flags: base.flags | flags,
            packets_per_s: limits.packets_per_s,
            packets_burst: limits.packets_burst,
            connections_per_s: limits.connections_per_s,
            connections_burst: limits.connections_burst,
            syn_per_s: limits.syn_per_s,
            node: self.node,
            ..base
        }
    }
}

/// A pool's table, with nodes by their number in `reals`.
pub(crate) fn buckets(pool: &Pool, real: impl Fn(&[u8; 6]) -> u16) -> Vec<Bucket> {
    let tables: Vec<Vec<u16>> = pool.iter().map(|macs| maglev::table(macs)).collect();
    let bucket = |at: usize| {
        let mut bucket = Bucket { nodes: [0; OWNERS] };
        let mut filled = 0;
        for (macs, table) in pool.iter().zip(&tables) {
            let Some(node) = table.get(at).map(|index| real(&macs[usize::from(*index)])) else { continue };
            if filled < OWNERS && !bucket.nodes[..filled].contains(&node) {
                bucket.nodes[filled] = node;
                filled += 1;
            }
        }
        bucket
    };
    (0..BUCKETS).map(bucket).collect()
}

/// A node's entry.
pub(crate) fn real(member: [u8; 6], mac: [u8; 6]) -> Real {
    Real { mac: member, here: u16::from(member == mac) }
}

/// The key of a VIP.
pub(crate) fn vip_key(address: IpAddr, port: u16, protocol: Protocol) -> VipKey {
    let address = match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    };
    VipKey { address: address.octets(), port: port.to_be(), protocol: protocol_number(protocol) }
}

/// IP's number of a protocol.
pub(crate) fn protocol_number(protocol: Protocol) -> u16 {
    match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
    }
}

pub(crate) fn key_bytes(key: &VipKey) -> [u8; 20] {
    let mut bytes = [0; 20];
    bytes[..16].copy_from_slice(&key.address);
    bytes[16..18].copy_from_slice(&key.port.to_ne_bytes());
    bytes[18..].copy_from_slice(&key.protocol.to_ne_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use plane_abi::steering::{Deny, Limits, Prefix};

    fn member(last: u8) -> Member {
        Member { mac: [2, 0, 0, 0, 0, last], name: String::new() }
    }

    fn vip(port: u16, nodes: &[u8], before: &[&[u8]]) -> Vip {
        let members = |nodes: &[u8]| nodes.iter().copied().map(member).collect::<Vec<_>>();
        Vip {
            address: "192.0.2.1".parse().expect("an address"),
            port,
            protocol: Protocol::Tcp,
            nodes: members(nodes),
            before: before.iter().map(|nodes| members(nodes)).collect(),
        }
    }

    #[test]
    fn vips_with_the_same_nodes_share_a_table() {
        let rules = Rules {
            vips: vec![vip(80, &[1, 2], &[]), vip(443, &[1, 2], &[]), vip(444, &[1, 2], &[&[1]])],
            ..Rules::default()
        };
        let plan = plan(&rules, [2, 0, 0, 0, 0, 2]).expect("valid");
        assert_eq!((plan.pools.len(), plan.vips.len(), plan.node), (2, 3, 2));
        let flags = plan.configure(Cfg { flags: abi::CFG_STEER, ..Cfg::default() }).flags;
        assert_eq!(flags, abi::CFG_STEER | abi::CFG_VIPS);
    }

    #[test]
    fn buckets_name_each_node_that_had_them_once() {
        let mac = |last: u8| [2, 0, 0, 0, 0, last];
        let number = |mac: &[u8; 6]| u16::from(mac[5]);
        let one = buckets(&vec![vec![mac(7)]], number);
        assert!(one.iter().all(|bucket| *bucket == Bucket { nodes: [7, 0, 0, 0] }));
        let table = buckets(&vec![vec![mac(1)], vec![mac(1), mac(2)], vec![mac(2), mac(3)], vec![mac(4)]], number);
        let count = |wanted: &[u16]| table.iter().filter(|bucket| bucket.nodes.starts_with(wanted)).count();
        assert_eq!(count(&[1]), BUCKETS);
        let kinds = [&[1, 2, 3, 4][..], &[1, 2, 4, 0], &[1, 3, 4, 0]];
        assert_eq!(kinds.map(count).iter().sum::<usize>(), BUCKETS, "each once, newest first");
        assert!(kinds.iter().all(|kind| count(kind) > 10_000), "{:?}", kinds.map(count));
    }

    #[test]
    fn what_is_invalid_makes_no_plan() {
        let prefix = Prefix { address: "10.0.0.1".parse().expect("an address"), bits: 8 };
        let deny = vec![Deny { prefix, expires_unix_s: 0, reason: 0 }];
        let rules = Rules { deny, ..Rules::default() };
        assert_eq!(plan(&rules, [0; 6]).expect_err("refused"), RulesError::Prefix(prefix));
        let twice = Rules { vips: vec![vip(80, &[1], &[]), vip(80, &[2], &[])], ..Rules::default() };
        assert!(matches!(plan(&twice, [0; 6]), Err(RulesError::DuplicateVip(_))));
        let limits = Limits { packets_per_s: 1, ..Limits::default() };
        assert!(plan(&Rules { limits, ..Rules::default() }, [0; 6]).is_err());
    }
}
