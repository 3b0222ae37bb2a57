//! Frames, layer by layer. Every function gives the layer's bytes; what is wrong on purpose is changed afterwards by the case.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub(crate) const FIN: u8 = 1;
pub(crate) const SYN: u8 = 2;
pub(crate) const RST: u8 = 4;
pub(crate) const ACK: u8 = 16;

pub(crate) const OUR_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 1];
pub(crate) const THEIR_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0xee];

pub(crate) fn ethernet(kind: u16, payload: &[u8]) -> Vec<u8> {
    [&OUR_MAC[..], &THEIR_MAC, &kind.to_be_bytes(), payload].concat()
}

/// A tag, and what it encloses.
pub(crate) fn vlan(id: u16, kind: u16, payload: &[u8]) -> Vec<u8> {
    [&id.to_be_bytes()[..], &kind.to_be_bytes(), payload].concat()
}

pub(crate) fn ipv4(source: &str, target: &str, protocol: u8, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let head = 20 + options.len();
    let total = (head + payload.len()) as u16;
    let mut ip = vec![0x40 | (head / 4) as u8, 0];
    ip.extend(total.to_be_bytes());
    ip.extend([0, 7, 0x40, 0, 64, protocol, 0, 0]);
    ip.extend(source.parse::<Ipv4Addr>().expect("an address").octets());
    ip.extend(target.parse::<Ipv4Addr>().expect("an address").octets());
    ip.extend(options);
    let sum = checksum(0, &ip);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    [ip, payload.to_vec()].concat()
}

pub(crate) fn ipv6(source: &str, target: &str, next: u8, payload: &[u8]) -> Vec<u8> {
    let mut ip = vec![0x60, 0, 0, 0];
    ip.extend((payload.len() as u16).to_be_bytes());
    ip.extend([next, 64]);
    ip.extend(source.parse::<Ipv6Addr>().expect("an address").octets());
    ip.extend(target.parse::<Ipv6Addr>().expect("an address").octets());
    [ip, payload.to_vec()].concat()
}

/// An extension header of `words` + 1 times 8 bytes, and what follows it.
pub(crate) fn extension(next: u8, words: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; (usize::from(words) + 1) * 8];
    (bytes[0], bytes[1]) = (next, words);
    [bytes, payload.to_vec()].concat()
}

/// `options` a multiple of four.
pub(crate) fn tcp(source: u16, target: u16, flags: u8, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut tcp = [source.to_be_bytes(), target.to_be_bytes()].concat();
    tcp.extend(0x0102_0304u32.to_be_bytes());
    tcp.extend(0x0506_0708u32.to_be_bytes());
    tcp.extend([(((20 + options.len()) / 4) as u8) << 4, flags, 0xff, 0xff, 0, 0, 0, 0]);
    tcp.extend(options);
    [tcp, payload.to_vec()].concat()
}

pub(crate) fn udp(source: u16, target: u16, payload: &[u8]) -> Vec<u8> {
    let length = (8 + payload.len()) as u16;
    [&source.to_be_bytes()[..], &target.to_be_bytes(), &length.to_be_bytes(), &[0, 0], payload].concat()
}

/// An ICMP error of a kind, with the packet that it is about.
pub(crate) fn icmp(kind: u8, code: u8, quoted: &[u8]) -> Vec<u8> {
    [&[kind, code, 0, 0, 0, 0, 5, 0xdc], quoted].concat()
}

/// A TCP packet to us over IPv4.
pub(crate) fn tcp4(source: &str, port: u16, target_port: u16, flags: u8) -> Vec<u8> {
    ethernet(0x0800, &ipv4(source, "10.0.0.1", 6, &[], &tcp(port, target_port, flags, &[], b"")))
}

/// The same over IPv6.
pub(crate) fn tcp6(source: &str, port: u16, target_port: u16, flags: u8) -> Vec<u8> {
    ethernet(0x86dd, &ipv6(source, "2001:db8::1", 6, &tcp(port, target_port, flags, &[], b"")))
}

/// The Internet checksum of `bytes` on top of a sum that is there.
pub(crate) fn checksum(start: u32, bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |byte| u32::from(*byte)));
    let mut sum = start + words.sum::<u32>();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// The sum of TCP's pseudo-header.
pub(crate) fn pseudo(source: IpAddr, target: IpAddr, bytes: usize) -> u32 {
    let words = |address: IpAddr| -> u32 {
        let bytes = match address {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum()
    };
    words(source) + words(target) + 6 + bytes as u32
}
