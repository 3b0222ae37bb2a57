//! Where a Worker's `fetch` may go: public addresses, unless the operator allows private ones.
//!
//! A tenant must not reach the node's own neighbours (its admin listener, its cloud's metadata service, its rack). The
//! check is made on addresses, after resolution, so that a name which points inwards does not help.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// Whether an address is where this node listens. One system call; for rare use.
pub(crate) fn is_own(address: SocketAddr, listens: SocketAddr) -> bool {
    // Only an address of this machine can be bound; connections to the unspecified one come here too.
    let here = || address.ip().is_unspecified() || UdpSocket::bind((address.ip(), 0)).is_ok();
    address.port() == listens.port() && (address.ip() == listens.ip() || (listens.ip().is_unspecified() && here()))
}

/// Whether an address is one of this machine's own, public as it may be, and not where this node listens: other programs of the
/// machine are not for tenants. Some system calls; for rare use.
pub(crate) fn is_private_here(address: SocketAddr, listens: SocketAddr) -> bool {
    address.port() != listens.port() && UdpSocket::bind((address.ip(), 0)).is_ok()
}

/// Whether an address is one of the public internet (IANA special-purpose registries).
pub(crate) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_broadcast()
        || address.is_documentation()
        || a == 0
        || a >= 240
        || (a == 100 && (64..128).contains(&b))
        || (a == 198 && (b == 18 || b == 19))
        || (a == 192 && b == 0 && c == 0)
        || (a == 192 && b == 88 && c == 99);
    !special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    if let Some(mapped) = address.to_ipv4_mapped() {
        return is_public_v4(mapped);
    }
    let [first, second, third, fourth, fifth, sixth, seventh, eighth] = address.segments();
    let embedded = |high: u16, low: u16| Ipv4Addr::from(u32::from(high) << 16 | u32::from(low));
    match (first, second) {
        // NAT64 (RFC 6052) and 6to4 (RFC 3056) lead to the IPv4 address inside.
        (0x64, 0xff9b) if (third, fourth, fifth, sixth) == (0, 0, 0, 0) => is_public_v4(embedded(seventh, eighth)),
        (0x2002, _) => is_public_v4(embedded(second, third)),
        // Teredo, ORCHID and benchmarking (2001:0000::/23), documentation.
        (0x2001, 0..=0x1ff | 0xdb8) => false,
        // Global unicast is 2000::/3 alone; 3fff::/20 is documentation.
        _ => first & 0xe000 == 0x2000 && !(first == 0x3fff && second < 0x1000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_knows_its_own_addresses() {
        let check = |address: &str, listens: &str| {
            is_own(address.parse().expect("an address"), listens.parse().expect("an address"))
        };
        assert!(check("127.0.0.1:80", "127.0.0.1:80") && check("127.0.0.1:80", "0.0.0.0:80"));
        assert!(check("0.0.0.0:80", "0.0.0.0:80") && check("127.0.0.7:80", "0.0.0.0:80"));
        assert!(!check("127.0.0.1:81", "127.0.0.1:80") && !check("192.0.2.1:80", "0.0.0.0:80"));
    }

    #[test]
    fn other_programs_of_the_machine_are_private() {
        let check = |address: &str, listens: &str| {
            is_private_here(address.parse().expect("an address"), listens.parse().expect("an address"))
        };
        assert!(check("127.0.0.1:9090", "0.0.0.0:80") && !check("127.0.0.1:80", "0.0.0.0:80"));
        assert!(!check("192.0.2.1:9090", "0.0.0.0:80"), "not of this machine");
    }

    #[test]
    fn only_public_addresses_are_public() {
        for text in [
            "1.1.1.1",
            "8.8.8.8",
            "93.184.216.34",
            "2606:4700::1111",
            "64:ff9b::808:808",
            "2002:808:808::1",
            "::ffff:8.8.8.8",
        ] {
            assert!(is_public(text.parse().expect("address")), "{text}");
        }
        for text in [
            "127.0.0.1",
            "127.9.9.9",
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "0.1.2.3",
            "224.0.0.1",
            "255.255.255.255",
            "240.0.0.1",
            "192.0.2.1",
            "198.18.0.1",
            "192.0.0.8",
            "::",
            "::1",
            "fe80::1",
            "fc00::1",
            "fd12::1",
            "ff02::1",
            "2001:db8::1",
            "2001::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "2002:7f00:1::1",
            "2002:a00:1::1",
            "::7f00:1",
            "3fff::1",
            "fec0::1",
        ] {
            assert!(!is_public(text.parse().expect("address")), "{text}");
        }
    }
}
