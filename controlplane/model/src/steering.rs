//! What packets meet at every node before there is a connection. For operators. Whether addresses are addresses is the
//! compiler's to say (crate `plan`).

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
    /// Who serves it.
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
    /// For people.
    #[serde(default)]
    pub name: String,
    /// Hardware address of its interface: `02:00:5e:10:00:01`.
    pub mac: String,
}

fn tcp() -> String {
    "tcp".to_owned()
}

impl Steering {
    /// These rules after `before`: a VIP whose nodes change remembers the nodes it had.
    pub fn after(mut self, before: &Steering) -> Steering {
        for vip in &mut self.vips {
            vip.nodes.sort_unstable();
            let key = (&vip.address, vip.port, &vip.protocol);
            let old = before.vips.iter().find(|old| (&old.address, old.port, &old.protocol) == key);
            let lists = old.into_iter().flat_map(|old| std::iter::once(&old.nodes).chain(&old.before));
            vip.before = lists.filter(|nodes| **nodes != vip.nodes).take(VIP_CHANGES_MAX).cloned().collect();
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(macs: &[&str]) -> Steering {
        let nodes = macs.iter().map(|mac| VipNode { name: String::new(), mac: (*mac).to_owned() }).collect();
        let vip = VipRule { address: "192.0.2.1".into(), port: 80, protocol: tcp(), nodes, before: vec![] };
        Steering { vips: vec![vip], ..Steering::default() }
    }

    #[test]
    fn a_vip_remembers_the_nodes_before_each_of_the_last_changes() {
        let check = |rules: &Steering, expect: &[&str]| {
            let text = |nodes: &Vec<VipNode>| nodes.iter().map(|node| node.mac.as_str()).collect::<String>();
            assert_eq!(rules.vips[0].before.iter().map(text).collect::<Vec<_>>(), expect);
        };
        let first = rules(&["b", "a"]).after(&Steering::default());
        check(&first, &[]);
        let same = rules(&["a", "b"]).after(&first);
        check(&same, &[]);
        let joined = rules(&["a", "b", "c"]).after(&same);
        check(&joined, &["ab"]);
        check(&rules(&["c", "b", "a"]).after(&joined), &["ab"]);
        let left = rules(&["c"]).after(&joined);
        check(&left, &["abc", "ab"]);
        check(&rules(&["b", "a"]).after(&left), &["c", "abc"]);
        let four = rules(&["d"]).after(&rules(&["c", "d"]).after(&left));
        check(&four, &["cd", "c", "abc"]);
    }
}
