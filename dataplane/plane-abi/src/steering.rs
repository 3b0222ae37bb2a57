//! What a snapshot says to the packets that come to a node, before any connection: sources to refuse, limits of a source,
//! and the addresses that several nodes serve together (VIPs). The crate `steer` carries it out.
//!
//! In a snapshot it is one section, in postcard, empty for no rules. *Invariant:* [`Rules`] read from a snapshot are valid and in
//! their one order: a prefix with bits past its length or a VIP that is there twice refuses the whole snapshot, and what
//! serves goes on.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// Prefixes of the deny list.
pub const DENY_MAX: usize = 100_000;
/// VIPs: address, port and protocol.
pub const VIPS_MAX: usize = 512;
/// Lists of nodes that differ: each has a table of its own in the kernel, and one more while it changes.
pub const POOLS_MAX: usize = 8;
/// Changes of a VIP's nodes that are remembered: a connection from before the one after so many may be lost if its bucket moved by
/// each of them.
pub const CHANGES_MAX: usize = 3;
/// Nodes of one VIP.
pub const NODES_MAX: usize = 64;

/// All of it. The default is no rules.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rules {
    /// Sources that are refused, by prefix.
    pub deny: Vec<Deny>,
    /// What one source may send.
    pub limits: Limits,
    /// By (address, port, protocol).
    pub vips: Vec<Vip>,
}

/// A prefix that is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Deny {
    /// Which sources.
    pub prefix: Prefix,
    /// Seconds since the Unix epoch; 0 for no end.
    pub expires_unix_s: u64,
    /// The operator's own number for why.
    pub reason: u32,
}

/// An address and how many of its bits count; the others are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Prefix {
    /// Its first address.
    pub address: IpAddr,
    /// Up to 32 or 128.
    pub bits: u8,
}

/// Limits of one source, an IPv4 address or an IPv6 /64. Zero for none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Packets per second.
    pub packets_per_s: u32,
    /// Packets at once.
    pub packets_burst: u32,
    /// New TCP connections per second.
    pub connections_per_s: u32,
    /// New TCP connections at once.
    pub connections_burst: u32,
    /// SYNs per second of one core, of all sources, beyond which they are answered with SYN cookies.
    pub syn_per_s: u32,
}

/// Transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// An address that several nodes of one place serve.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vip {
    /// Its address, which every node has.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// Its protocol.
    pub protocol: Protocol,
    /// Who serves it, by hardware address.
    pub nodes: Vec<Member>,
    /// Who served it before each of the last changes, newest first: connections of then go on there.
    pub before: Vec<Vec<Member>>,
}

/// A node as its neighbours on layer 2 see it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Member {
    /// Hardware address of its interface.
    pub mac: [u8; 6],
    /// For people.
    pub name: String,
}

/// Why rules are none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RulesError {
    /// More of something than there may be.
    #[error("more than {1} {0}")]
    TooMany(&'static str, usize),
    /// A prefix that is longer than its address, or has bits past its length.
    #[error("{0} is no prefix: longer than its address, or bits are set past its length")]
    Prefix(Prefix),
    /// Two rules of one prefix.
    #[error("prefix {0} is there twice")]
    DuplicatePrefix(Prefix),
    /// Two VIPs of one address, port and protocol.
    #[error("VIP {0} is there twice")]
    DuplicateVip(String),
    /// An address that cannot be a VIP, or port 0.
    #[error("{0} cannot be a VIP")]
    Address(String),
    /// A VIP without nodes, or with one twice.
    #[error("VIP {0}: no nodes, or one of them twice")]
    Nodes(String),
    /// A hardware address that no node has.
    #[error("VIP {0}: {1} is no node's hardware address")]
    Mac(String, String),
    /// A limit without a burst.
    #[error("a limit of {0} per second needs a burst of at least 1")]
    Burst(&'static str),
    /// Not in the one order, or not what an encoder writes.
    #[error("not in normal form")]
    Form,
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

impl fmt::Display for Vip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = if self.protocol == Protocol::Tcp { "tcp" } else { "udp" };
        write!(f, "{} port {} {protocol}", self.address, self.port)
    }
}

impl Prefix {
    /// Whether it is one.
    pub fn is_valid(&self) -> bool {
        let (value, width) = match self.address {
            IpAddr::V4(address) => (u128::from(address.to_bits()) << 96, 32),
            IpAddr::V6(address) => (address.to_bits(), 128),
        };
        // IPv4 in disguise would be judged by the other family's list.
        let disguised = matches!(self.address, IpAddr::V6(address) if address.to_ipv4_mapped().is_some());
        self.bits <= width && value.checked_shl(u32::from(self.bits)).unwrap_or(0) == 0 && !disguised
    }
}

impl Rules {
    /// Brings them into their one order.
    pub fn normalise(&mut self) {
        self.deny.sort_unstable();
        self.vips.sort_by_key(Vip::key);
        for vip in &mut self.vips {
            vip.nodes.sort_unstable();
            vip.before.iter_mut().for_each(|nodes| nodes.sort_unstable());
        }
    }

    /// Checks all of it; rules that pass can be carried out whole.
    pub fn check(&self) -> Result<(), RulesError> {
        let limits = self.limits;
        if limits.packets_per_s > 0 && limits.packets_burst == 0 {
            return Err(RulesError::Burst("packets"));
        }
        if limits.connections_per_s > 0 && limits.connections_burst == 0 {
            return Err(RulesError::Burst("connections"));
        }
        self.check_deny()?;
        self.check_vips()
    }

    fn check_deny(&self) -> Result<(), RulesError> {
        if self.deny.len() > DENY_MAX {
            return Err(RulesError::TooMany("denied prefixes", DENY_MAX));
        }
        if let Some(deny) = self.deny.iter().find(|deny| !deny.prefix.is_valid()) {
            return Err(RulesError::Prefix(deny.prefix));
        }
        for pair in self.deny.windows(2) {
            if pair[0].prefix == pair[1].prefix {
                return Err(RulesError::DuplicatePrefix(pair[0].prefix));
            }
            if pair[0] > pair[1] {
                return Err(RulesError::Form);
            }
        }
        Ok(())
    }

    fn check_vips(&self) -> Result<(), RulesError> {
        if self.vips.len() > VIPS_MAX {
            return Err(RulesError::TooMany("VIPs", VIPS_MAX));
        }
        for pair in self.vips.windows(2) {
            if pair[0].key() == pair[1].key() {
                return Err(RulesError::DuplicateVip(pair[0].to_string()));
            }
            if pair[0].key() > pair[1].key() {
                return Err(RulesError::Form);
            }
        }
        self.vips.iter().try_for_each(Vip::check)?;
        let mut pools: Vec<_> = self.vips.iter().map(|vip| (&vip.nodes, &vip.before)).collect();
        pools.sort_unstable();
        pools.dedup();
        if pools.len() > POOLS_MAX { Err(RulesError::TooMany("lists of nodes", POOLS_MAX)) } else { Ok(()) }
    }

    /// The section's bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        if *self == Rules::default() {
            return Vec::new();
        }
        postcard::to_allocvec(self).expect("numbers and strings serialise into memory")
    }

    /// Reads and checks a section.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Rules, RulesError> {
        let rules: Rules = match bytes {
            [] => Rules::default(),
            bytes => postcard::from_bytes(bytes).map_err(|_| RulesError::Form)?,
        };
        rules.check()?;
        if rules.encode() == bytes { Ok(rules) } else { Err(RulesError::Form) }
    }
}

impl Vip {
    /// Who serves it, then who did before each of the last changes, newest first.
    pub fn lists(&self) -> impl Iterator<Item = &Vec<Member>> {
        std::iter::once(&self.nodes).chain(&self.before)
    }

    fn key(&self) -> (IpAddr, u16, Protocol) {
        (self.address, self.port, self.protocol)
    }

    fn check(&self) -> Result<(), RulesError> {
        let disguised = matches!(self.address, IpAddr::V6(address) if address.to_ipv4_mapped().is_some());
        let unfit = self.address.is_unspecified() || self.address.is_loopback() || self.address.is_multicast();
        if unfit || disguised || self.port == 0 {
            return Err(RulesError::Address(self.to_string()));
        }
        if self.before.len() > CHANGES_MAX {
            return Err(RulesError::Nodes(self.to_string()));
        }
        for members in self.lists() {
            if members.is_empty() || members.len() > NODES_MAX {
                return Err(RulesError::Nodes(self.to_string()));
            }
            for pair in members.windows(2) {
                if pair[0].mac == pair[1].mac {
                    return Err(RulesError::Nodes(self.to_string()));
                }
                if pair[0] > pair[1] {
                    return Err(RulesError::Form);
                }
            }
            if let Some(member) = members.iter().find(|member| !member.is_valid()) {
                return Err(RulesError::Mac(self.to_string(), member.to_string()));
            }
        }
        Ok(())
    }
}

impl Member {
    /// Of one host, not of a group, and not of those that forwarded frames bear (`02:53:56:…`).
    fn is_valid(&self) -> bool {
        let named = self.name.len() <= crate::limits::NODE_NAME_BYTES_MAX;
        named && self.mac[0] & 1 == 0 && self.mac != [0; 6] && !self.mac.starts_with(&[0x02, 0x53, 0x56])
    }
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.mac;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> Prefix {
        let (address, bits) = text.split_once('/').expect("a prefix");
        Prefix { address: address.parse().expect("an address"), bits: bits.parse().expect("a length") }
    }

    fn rules(deny: &[&str], vips: &[(&str, u16, &[u8])]) -> Rules {
        let deny = deny.iter().map(|text| Deny { prefix: prefix(text), expires_unix_s: 0, reason: 1 }).collect();
        let member = |last: &u8| Member { mac: [2, 0, 0, 0, 0, *last], name: format!("node-{last}") };
        let vip = |(address, port, nodes): &(&str, u16, &[u8])| Vip {
            address: address.parse().expect("an address"),
            port: *port,
            protocol: Protocol::Tcp,
            nodes: nodes.iter().map(member).collect(),
            before: vec![],
        };
        let mut rules = Rules { deny, limits: Limits::default(), vips: vips.iter().map(vip).collect() };
        rules.normalise();
        rules
    }

    fn check(rules: &Rules, expect: Result<(), &str>) {
        let found = rules.check();
        match expect {
            Ok(()) => assert_eq!(found, Ok(())),
            Err(text) => {
                let error = found.expect_err("refused").to_string();
                assert!(error.contains(text), "{error}");
            }
        }
        // What a reader takes is what the checks allow, and comes back the same.
        assert_eq!(Rules::decode(&rules.encode()).is_ok(), expect.is_ok());
        if expect.is_ok() {
            assert_eq!(Rules::decode(&rules.encode()).as_ref(), Ok(rules));
        }
    }

    #[test]
    fn prefixes() {
        check(&Rules::default(), Ok(()));
        check(&rules(&["10.0.0.0/8", "10.1.0.0/16", "0.0.0.0/0", "::/0", "2001:db8::/32", "1.2.3.4/32"], &[]), Ok(()));
        check(&rules(&["10.0.0.1/8"], &[]), Err("10.0.0.1/8 is no prefix"));
        check(&rules(&["10.0.0.0/33"], &[]), Err("is no prefix"));
        check(&rules(&["2001:db8::1/64"], &[]), Err("is no prefix"));
        check(&rules(&["2001:db8::/129"], &[]), Err("is no prefix"));
        check(&rules(&["::ffff:1.2.3.4/128"], &[]), Err("is no prefix"));
        check(&rules(&["10.0.0.0/8", "10.0.0.0/8"], &[]), Err("twice"));
    }

    #[test]
    fn vips() {
        check(&rules(&[], &[("192.0.2.1", 443, &[1, 2]), ("192.0.2.1", 80, &[1, 2])]), Ok(()));
        check(&rules(&[], &[("192.0.2.1", 443, &[1]), ("192.0.2.1", 443, &[2])]), Err("is there twice"));
        check(&rules(&[], &[("192.0.2.1", 0, &[1])]), Err("cannot be a VIP"));
        check(&rules(&[], &[("127.0.0.1", 80, &[1])]), Err("cannot be a VIP"));
        check(&rules(&[], &[("ff02::1", 80, &[1])]), Err("cannot be a VIP"));
        check(&rules(&[], &[("192.0.2.1", 443, &[])]), Err("no nodes"));
        check(&rules(&[], &[("192.0.2.1", 443, &[1, 1])]), Err("twice"));
        let mut group = rules(&[], &[("192.0.2.1", 443, &[1])]);
        group.vips[0].nodes[0].mac[0] = 1;
        check(&group, Err("01:00:00:00:00:01 is no node's"));
        group.vips[0].nodes[0].mac = [0x02, 0x53, 0x56, 1, 0, 0];
        check(&group, Err("is no node's"));
        let pools: Vec<Vec<u8>> = (0..=POOLS_MAX as u8).map(|last| vec![last + 1]).collect();
        let many: Vec<_> = pools.iter().enumerate().map(|(i, nodes)| ("192.0.2.1", i as u16 + 1, &nodes[..])).collect();
        check(&rules(&[], &many), Err("lists of nodes"));
        check(&rules(&[], &many[1..]), Ok(()));
    }

    #[test]
    fn one_form_only() {
        let mut unsorted = rules(&["10.0.0.0/8", "11.0.0.0/8"], &[]);
        unsorted.deny.reverse();
        check(&unsorted, Err("normal form"));
        let mut bytes = rules(&["10.0.0.0/8"], &[]).encode();
        bytes.push(0);
        assert_eq!(Rules::decode(&bytes), Err(RulesError::Form));
        for cut in 1..bytes.len() - 1 {
            assert!(Rules::decode(&bytes[..cut]).is_err(), "{cut}");
        }
        let limited = Limits { packets_per_s: 5, ..Limits::default() };
        check(&Rules { limits: limited, ..Rules::default() }, Err("burst"));
    }
}
