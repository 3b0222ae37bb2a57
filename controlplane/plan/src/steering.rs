//! The rules for packets, between the API's words and the snapshot's. Which may be carried out is `plane_abi::steering`'s to
//! say; this only reads and writes text.

use std::net::IpAddr;

use model::{DenyRule, FieldError, SourceLimits, Steering, Timestamp, VipNode, VipRule};
use plane_abi::steering::{Deny, Limits, Member, Prefix, Protocol, Rules, Vip};

const _: () = assert!(model::VIP_CHANGES_MAX == plane_abi::steering::CHANGES_MAX);

/// Reads rules and checks them whole. The error names the field.
pub fn rules(from: &Steering) -> Result<Rules, FieldError> {
    let deny = from.deny.iter().enumerate().map(|(index, rule)| deny(index, rule)).collect::<Result<_, _>>()?;
    let vips = from.vips.iter().enumerate().map(|(index, rule)| vip(index, rule)).collect::<Result<_, _>>()?;
    let SourceLimits { packets_per_s, packets_burst, connections_per_s, connections_burst, syn_per_s } =
        from.limits.clone();
    let limits = Limits { packets_per_s, packets_burst, connections_per_s, connections_burst, syn_per_s };
    let mut rules = Rules { deny, limits, vips };
    rules.normalise();
    rules.check().map_err(|error| FieldError::new("steering", error.to_string()))?;
    Ok(rules)
}

/// Rules in the API's words.
pub(crate) fn emit(rules: &Rules) -> Steering {
    let deny = rules.deny.iter().map(|deny| DenyRule {
        prefix: deny.prefix.to_string(),
        reason: deny.reason,
        expires_at: Some(deny.expires_unix_s)
            .filter(|unix_s| *unix_s > 0)
            .map(|unix_s| Timestamp::from_unix_ms(i64::try_from(unix_s).unwrap_or(i64::MAX).saturating_mul(1000))),
    });
    let node = |member: &Member| VipNode { name: member.name.clone(), mac: member.to_string() };
    let vips = rules.vips.iter().map(|vip| VipRule {
        address: vip.address.to_string(),
        port: vip.port,
        protocol: if vip.protocol == Protocol::Tcp { "tcp" } else { "udp" }.to_owned(),
        nodes: vip.nodes.iter().map(node).collect(),
        before: vip.before.iter().map(|nodes| nodes.iter().map(node).collect()).collect(),
    });
    let Limits { packets_per_s, packets_burst, connections_per_s, connections_burst, syn_per_s } = rules.limits;
    Steering {
        deny: deny.collect(),
        limits: SourceLimits { packets_per_s, packets_burst, connections_per_s, connections_burst, syn_per_s },
        vips: vips.collect(),
    }
}

fn deny(index: usize, rule: &DenyRule) -> Result<Deny, FieldError> {
    let wrong = || FieldError::new(format!("deny[{index}].prefix"), "must be an address, a slash and a length");
    let (address, bits) = rule.prefix.split_once('/').ok_or_else(wrong)?;
    let address: IpAddr = address.parse().map_err(|_| wrong())?;
    let prefix = Prefix { address, bits: bits.parse().map_err(|_| wrong())? };
    let expires_unix_s = rule.expires_at.map_or(0, |at| u64::try_from(at.unix_ms() / 1000).unwrap_or(0).max(1));
    Ok(Deny { prefix, expires_unix_s, reason: rule.reason })
}

fn vip(index: usize, rule: &VipRule) -> Result<Vip, FieldError> {
    let wrong = |field: &str, message| FieldError::new(format!("vips[{index}].{field}"), message);
    let members = |nodes: &[VipNode]| {
        let member = |node: &VipNode| {
            let mac = mac(&node.mac).ok_or_else(|| wrong("nodes", "each `mac` must be six hexadecimal pairs"))?;
            Ok(Member { mac, name: node.name.clone() })
        };
        nodes.iter().map(member).collect::<Result<Vec<_>, FieldError>>()
    };
    Ok(Vip {
        address: rule.address.parse().map_err(|_| wrong("address", "must be an IP address"))?,
        port: rule.port,
        protocol: match rule.protocol.as_str() {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            _ => return Err(wrong("protocol", "must be tcp or udp")),
        },
        nodes: members(&rule.nodes)?,
        before: rule.before.iter().map(|nodes| members(nodes)).collect::<Result<_, _>>()?,
    })
}

fn mac(text: &str) -> Option<[u8; 6]> {
    let pairs: Vec<u8> = text
        .split(':')
        .map(|pair| u8::from_str_radix(pair, 16).ok().filter(|_| pair.len() == 2))
        .collect::<Option<_>>()?;
    pairs.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{
        "deny": [{"prefix": "198.51.100.0/24", "reason": 7, "expires_at": "2027-01-01T00:00:00.000Z"},
                 {"prefix": "2001:db8::/32"}],
        "limits": {"packets_per_s": 100, "packets_burst": 200},
        "vips": [{"address": "203.0.113.9", "port": 443,
                  "nodes": [{"name": "a", "mac": "02:00:00:00:00:01"}, {"mac": "02:00:00:00:00:02"}]}]
    }"#;

    fn check(from: &str, to: &str, expect: &str) {
        assert!(GOOD.contains(from), "{from}");
        let changed: Steering = serde_json::from_str(&GOOD.replace(from, to)).expect("of the shape");
        let error = rules(&changed).expect_err("refused");
        assert!(format!("{}: {}", error.field, error.message).contains(expect), "{error:?}");
    }

    #[test]
    fn reads_and_writes_the_same() {
        let good: Steering = serde_json::from_str(GOOD).expect("of the shape");
        let read = rules(&good).expect("valid");
        assert_eq!(emit(&read).deny, good.deny);
        assert_eq!(rules(&emit(&read)).as_ref(), Ok(&read));
        assert_eq!(read.vips[0].nodes[0].mac, [2, 0, 0, 0, 0, 1]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        check("198.51.100.0/24", "198.51.100.0", "deny[0].prefix");
        check("198.51.100.0/24", "198.51.100.1/24", "198.51.100.1/24 is no prefix");
        check("198.51.100.0/24", "2001:db8::/32", "twice");
        check("203.0.113.9", "here", "vips[0].address");
        check(r#""port": 443"#, r#""port": 443, "protocol": "sctp""#, "vips[0].protocol");
        check("02:00:00:00:00:02", "02:00:00:00:00:1", "vips[0].nodes");
        check("02:00:00:00:00:02", "02:00:00:00:00:01", "one of them twice");
        check(r#""packets_burst": 200"#, r#""packets_burst": 0"#, "burst");
    }
}
