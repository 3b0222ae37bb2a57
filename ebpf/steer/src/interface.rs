//! A network interface by its name, in this thread's network namespace.

use rustix::net::{AddressFamily, SocketFlags, SocketType, netdevice, socket_with};
use std::fs;
use std::io;
use std::path::PathBuf;

/// Longest name (`IFNAMSIZ` without the final zero).
const NAME_BYTES_MAX: usize = 15;

/// An interface that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its index, which a namesake that comes later does not have.
    pub index: u32,
    /// Its hardware address; zero if it has none.
    pub mac: [u8; 6],
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
        // sysfs may show another network namespace than this thread's.
        let read = |file: &str| fs::read_to_string(PathBuf::from("/sys/class/net").join(name).join(file)).ok();
        let shown = read("ifindex").is_some_and(|text| text.trim().parse() == Ok(index));
        let mac = read("address").filter(|_| shown).and_then(|text| parse_mac(text.trim())).unwrap_or_default();
        Ok(Interface { name: name.to_owned(), index, mac })
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

fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let bytes: Vec<u8> = text.split(':').map(|pair| u8::from_str_radix(pair, 16).ok()).collect::<Option<_>>()?;
    bytes.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses() {
        let loopback = Interface::find("lo").expect("every machine has one");
        assert_eq!((loopback.index > 0, loopback.mac), (true, [0; 6]));
        for name in ["", "no-such-one", "..", "a/../lo", "a-name-that-is-too-long"] {
            assert!(Interface::find(name).is_err(), "{name:?}");
        }
        assert_eq!(parse_mac("02:53:56:01:00:ff"), Some([2, 0x53, 0x56, 1, 0, 255]));
        assert_eq!((parse_mac("02:53"), parse_mac("")), (None, None));
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
