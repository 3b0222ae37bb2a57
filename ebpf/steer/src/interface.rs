//! A network interface by its name, in this thread's network namespace.

use std::fs;
use std::io;

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netdevice, recv, send, socket_with};

/// Longest name (`IFNAMSIZ` without the final zero).
const NAME_BYTES_MAX: usize = 15;
/// The kind of rtnetlink's answer about an interface.
const RTM_NEWLINK: u16 = 16;

/// An interface that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its index, which a namesake that comes later does not have.
    pub index: u32,
    /// Its hardware address; zero if it has none.
    pub mac: [u8; 6],
    /// Whether it is the machine's own (`lo`).
    pub loopback: bool,
}

impl Interface {
    /// Looks it up. `NotFound` if there is none of that name.
    pub fn find(name: &str) -> io::Result<Interface> {
        let bad = || io::Error::new(io::ErrorKind::NotFound, format!("{name:?} is no interface"));
        if name.is_empty() || name.len() > NAME_BYTES_MAX || name.contains(['/', '\0']) || name == "." || name == ".." {
            return Err(bad());
        }
        let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
        let index = netdevice::name_to_index(&socket, name).map_err(|_| bad())?;
        let link = link_message(index)?;
        let mac = address_of_link(&link).unwrap_or_default();
        Ok(Interface { name: name.to_owned(), index, mac, loopback: is_loopback(&link) })
    }
}

/// The interface of the IPv4 default route, if there is one.
pub fn of_default_route() -> Option<String> {
    default_route(&fs::read_to_string("/proc/net/route").ok()?)
}

fn default_route(table: &str) -> Option<String> {
    let rows = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    rows.filter(|row| row.len() > 7 && row[1] == "00000000" && row[7] == "00000000")
        .min_by_key(|row| row[6].parse::<u32>().unwrap_or(u32::MAX))
        .map(|row| row[0].to_owned())
}

/// Asks the kernel over rtnetlink(7), which answers for this thread's namespace; sysfs shows the one it was mounted in.
fn link_message(index: u32) -> io::Result<Vec<u8>> {
    const HEADER_BYTES: usize = 16;
    const REQUEST_BYTES: usize = 32;
    const RTM_GETLINK: u16 = 18;
    const NLM_F_REQUEST: u16 = 1;
    // NETLINK_ROUTE, which is 0.
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    // struct nlmsghdr, struct ifinfomsg: only the kind, the flags and the index are not zero.
    let mut request = [0; REQUEST_BYTES];
    request[..4].copy_from_slice(&(REQUEST_BYTES as u32).to_ne_bytes());
    request[4..6].copy_from_slice(&RTM_GETLINK.to_ne_bytes());
    request[6..8].copy_from_slice(&NLM_F_REQUEST.to_ne_bytes());
    request[HEADER_BYTES + 4..HEADER_BYTES + 8].copy_from_slice(&index.to_ne_bytes());
    send(&socket, &request, SendFlags::empty())?;
    let mut reply = vec![0; 16 << 10];
    let (bytes, _) = recv(&socket, &mut reply[..], RecvFlags::empty())?;
    reply.truncate(bytes);
    // A node that does not know its own address would take a VIP's packets for another's.
    let link = reply.get(4..6) == Some(&RTM_NEWLINK.to_ne_bytes());
    if link { Ok(reply) } else { Err(io::Error::other("the kernel does not describe it")) }
}

/// `ifi_type` of an `RTM_NEWLINK` message is ARPHRD_LOOPBACK.
fn is_loopback(message: &[u8]) -> bool {
    message.get(18..20) == Some(&772u16.to_ne_bytes())
}

/// `IFLA_ADDRESS` of an `RTM_NEWLINK` message, if it is an Ethernet address.
fn address_of_link(message: &[u8]) -> Option<[u8; 6]> {
    const IFLA_ADDRESS: u16 = 1;
    let half = |at: usize| Some(u16::from_ne_bytes(message.get(at..at + 2)?.try_into().ok()?));
    let mut at = 32;
    loop {
        let (bytes, kind) = (usize::from(half(at)?), half(at + 2)?);
        if kind == IFLA_ADDRESS {
            return message.get(at + 4..at + bytes)?.try_into().ok();
        }
        // Attributes begin at multiples of four; one shorter than its own header would be no attribute.
        at += bytes.max(4).next_multiple_of(4);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses() {
        let loopback = Interface::find("lo").expect("every machine has one");
        assert_eq!((loopback.index > 0, loopback.mac, loopback.loopback), (true, [0; 6], true));
        for name in ["", "no-such-one", "..", "a/../lo", "a-name-that-is-too-long"] {
            assert!(Interface::find(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn a_link_s_address_is_found_in_a_whole_message_only() {
        let mut message = vec![0; 32];
        message[4..6].copy_from_slice(&16u16.to_ne_bytes());
        for (kind, value) in [(3u16, &b"eth0\0"[..]), (1, &[2, 0x53, 0x56, 1, 0, 255])] {
            message.extend(u16::try_from(4 + value.len()).expect("short").to_ne_bytes());
            message.extend(kind.to_ne_bytes());
            message.extend(value);
            message.resize(message.len().next_multiple_of(4), 0);
        }
        let whole = message.len() - 2;
        assert_eq!(address_of_link(&message), Some([2, 0x53, 0x56, 1, 0, 255]));
        assert!((0..whole).all(|bytes| address_of_link(&message[..bytes]).is_none()));
    }

    #[test]
    fn the_default_route_is_the_one_of_least_metric() {
        let table = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\n\
                     eth0\t0000A8C0\t0\t1\t0\t0\t0\t00FFFFFF\n\
                     wlan0\t00000000\t1\t3\t0\t0\t600\t00000000\n\
                     eth0\t00000000\t1\t3\t0\t0\t100\t00000000\n";
        assert_eq!(default_route(table).as_deref(), Some("eth0"));
        assert_eq!(default_route("Iface\n"), None);
    }
}
