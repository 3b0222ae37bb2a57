//! What packets meet at every node before there is a connection. For operators. Whether addresses are addresses is the
//! compiler's to say (crate `plan`).

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Timestamp;

/// Changes of a VIP's nodes that are remembered.
pub const VIP_CHANGES_MAX: usize = 3;

/// `GET` and `PUT /v1/steering`: the whole of it; what is left out is no rule.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Steering {
    /// Sources whose packets to served ports are dropped.
    #[serde(default)]
    pub deny: Vec<DenyRule>,
    /// What one source may send to served ports.
    #[serde(default)]
    pub limits: SourceLimits,
    /// Addresses that several nodes serve together.
    #[serde(default)]
    pub vips: Vec<VipRule>,
}

/// A source that is refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DenyRule {
    /// `192.0.2.0/24` or `2001:db8::/32`.
    #[schema(min_length = 4, pattern = r"^[0-9A-Fa-f:.]+/[0-9]{1,3}$")]
    pub prefix: String,
    /// The operator's own number for why.
    #[serde(default)]
    #[schema(value_type = u64, minimum = 0, maximum = 4294967295u64)]
    pub reason: u32,
    /// When it ends, to the second; never if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}

/// Limits of one source: an IPv4 address, or an IPv6 /64. 0 is no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceLimits {
    /// Packets per second.
    #[serde(default)]
    #[schema(value_type = u64, minimum = 0, maximum = 4294967295u64)]
    pub packets_per_s: u32,
    /// Packets at once.
    #[serde(default)]
    #[schema(value_type = u64, minimum = 0, maximum = 4294967295u64)]
    pub packets_burst: u32,
    /// New TCP connections per second.
    #[serde(default)]
    #[schema(value_type = u64, minimum = 0, maximum = 4294967295u64)]
    pub connections_per_s: u32,
    /// New TCP connections at once.
    #[serde(default)]
    #[schema(value_type = u64, minimum = 0, maximum = 4294967295u64)]
    pub connections_burst: u32,
    /// SYNs per second and core, of all sources, beyond which they are answered with SYN cookies.
    #[serde(default)]
    #[schema(value_type = u64, minimum = 0, maximum = 4294967295u64)]
    pub syn_per_s: u32,
}

/// An address that several nodes serve.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VipRule {
    /// Its address, which every node has on an interface of its own.
    pub address: String,
    /// Its port.
    pub port: u16,
    /// `tcp` or `udp`; `tcp` if absent.
    #[serde(default = "tcp")]
    pub protocol: String,
    /// Who serves it; one whose name is that of a cordoned or draining node does not, unless all are.
    pub nodes: Vec<VipNode>,
    /// Who served it before each of the last three changes, newest first: open connections go on there. Kept by the control
    /// plane; ignored in a request.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub before: Vec<Vec<VipNode>>,
}

/// A node behind a VIP.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VipNode {
    /// The node's name, by which it is known whether it is cordoned; else for people.
    #[serde(default)]
    pub name: String,
    /// Hardware address of its interface: `02:00:5e:10:00:01`.
    pub mac: String,
}

fn tcp() -> String {
    "tcp".to_owned()
}

impl VipRule {
    /// Who serves it while these nodes get no more: the others, or all if there are no others.
    pub fn serving(&self, out: &BTreeSet<String>) -> Vec<VipNode> {
        let others: Vec<VipNode> = self.nodes.iter().filter(|node| !out.contains(&node.name)).cloned().collect();
        if others.is_empty() { self.nodes.clone() } else { others }
    }
}

impl Steering {
    /// These rules after `before`: a VIP remembers who served it before each change, of its nodes or of those that get no more
    /// (`was_out`, `out`).
    pub fn after(mut self, before: &Steering, was_out: &BTreeSet<String>, out: &BTreeSet<String>) -> Steering {
        for vip in &mut self.vips {
            vip.nodes.sort_unstable();
            let now = vip.serving(out);
            let key = (&vip.address, vip.port, &vip.protocol);
            let old = before.vips.iter().find(|old| (&old.address, old.port, &old.protocol) == key);
            let served = old.map(|old| old.serving(was_out));
            let lists = served.iter().chain(old.map(|old| old.before.as_slice()).unwrap_or_default());
            vip.before = lists.filter(|nodes| **nodes != now).take(VIP_CHANGES_MAX).cloned().collect();
        }
        self
    }

    /// What nodes are to carry out while these get no more.
    pub fn without(mut self, out: &BTreeSet<String>) -> Steering {
        for vip in &mut self.vips {
            vip.nodes = vip.serving(out);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A VIP of these nodes, whose names are their hardware addresses.
    fn rules(macs: &[&str]) -> Steering {
        let node = |mac: &&str| VipNode { name: (*mac).to_owned(), mac: (*mac).to_owned() };
        let nodes = macs.iter().map(node).collect();
        let vip = VipRule { address: "192.0.2.1".into(), port: 80, protocol: tcp(), nodes, before: vec![] };
        Steering { vips: vec![vip], ..Steering::default() }
    }

    fn text(nodes: &[VipNode]) -> String {
        nodes.iter().map(|node| node.mac.as_str()).collect()
    }

    fn check(rules: &Steering, before: &[&str]) {
        assert_eq!(rules.vips[0].before.iter().map(|nodes| text(nodes)).collect::<Vec<_>>(), before);
    }

    #[test]
    fn a_vip_remembers_the_nodes_before_each_of_the_last_changes() {
        let none = BTreeSet::new();
        let after = |macs: &[&str], before: &Steering| rules(macs).after(before, &none, &none);
        let first = after(&["b", "a"], &Steering::default());
        check(&first, &[]);
        let same = after(&["a", "b"], &first);
        check(&same, &[]);
        let joined = after(&["a", "b", "c"], &same);
        check(&joined, &["ab"]);
        check(&after(&["c", "b", "a"], &joined), &["ab"]);
        let left = after(&["c"], &joined);
        check(&left, &["abc", "ab"]);
        check(&after(&["b", "a"], &left), &["c", "abc"]);
        let four = after(&["d"], &after(&["c", "d"], &left));
        check(&four, &["cd", "c", "abc"]);
    }

    #[test]
    fn a_node_that_gets_no_more_leaves_a_vip_which_remembers_it_and_the_others_without_it() {
        let out = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<String>>();
        let (none, a, all) = (out(&[]), out(&["a"]), out(&["a", "b", "c"]));
        let carried_out = |rules: &Steering, out: &BTreeSet<String>| text(&rules.clone().without(out).vips[0].nodes);
        let first = rules(&["a", "b", "c"]).after(&Steering::default(), &none, &none);
        let cordoned = first.clone().after(&first, &none, &a);
        assert_eq!((carried_out(&cordoned, &a), text(&cordoned.vips[0].nodes)), ("bc".to_owned(), "abc".to_owned()));
        check(&cordoned, &["abc"]);
        // Other rules while it is out, and the same ones again.
        check(&cordoned.clone().after(&cordoned, &a, &a), &["abc"]);
        let fewer = rules(&["a", "b"]).after(&cordoned, &a, &a);
        assert_eq!(carried_out(&fewer, &a), "b");
        check(&fewer, &["bc", "abc"]);
        // Back again: connections of meanwhile stay where they are.
        let back = cordoned.clone().after(&cordoned, &a, &none);
        assert_eq!(carried_out(&back, &none), "abc");
        check(&back, &["bc"]);
        // Of those that are all out, all serve.
        assert_eq!(carried_out(&cordoned, &all), "abc");
    }
}
