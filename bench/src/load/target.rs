//! Where a load may go, and the bytes of the request that goes there.
//!
//! *Invariant:* a [`Target`] is a loopback address, or the caller said that the process lives in a network namespace
//! of its own and that is true. A load generator that can be pointed at a stranger is a weapon; this one cannot.
//! Names are never looked up: `localhost` and names below it are loopback (RFC 6761 §6.3), all others are refused.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// What addresses a target may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// 127.0.0.0/8 and ::1 only.
    Loopback,
    /// Any literal address, in a network namespace that is not the machine's first one.
    OwnNamespace,
}

/// Why a target is refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TargetError {
    /// Not of the form `http://host[:port][/path]`.
    #[error("not an http:// URL: {0}")]
    Url(String),
    /// Neither loopback nor allowed by the scope.
    #[error("{0} is not a loopback address: the load generator sends to this machine only")]
    NotLoopback(String),
    /// `OwnNamespace` was asked for in the machine's first namespace.
    #[error("the process is in the machine's first network namespace: --own-namespace needs one of its own")]
    FirstNamespace,
}

/// An address that the load may go to, with what the request says about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    addr: SocketAddr,
    /// Value of the `Host` field.
    pub host: String,
    /// Request target, starting with a slash.
    pub path: String,
}

impl Target {
    /// Reads `http://host[:port][/path]`.
    pub fn parse(url: &str, scope: Scope) -> Result<Target, TargetError> {
        let bad = || TargetError::Url(url.to_owned());
        if url.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
            return Err(bad());
        }
        let rest = url.strip_prefix("http://").ok_or_else(bad)?;
        let (authority, path) = match rest.find('/') {
            Some(slash) => rest.split_at(slash),
            None => (rest, "/"),
        };
        if authority.contains(['@', '?', '#']) {
            return Err(bad());
        }
        let (name, port) = match authority.rfind(':') {
            Some(colon) if !authority.ends_with(']') => {
                (&authority[..colon], authority[colon + 1..].parse::<u16>().map_err(|_| bad())?)
            }
            _ => (authority, 80),
        };
        let ip = resolve(name).ok_or_else(|| TargetError::NotLoopback(name.to_owned()))?;
        Target::new(SocketAddr::new(ip, port), authority, path, scope)
    }

    /// A target from its parts.
    pub fn new(addr: SocketAddr, host: &str, path: &str, scope: Scope) -> Result<Target, TargetError> {
        if !addr.ip().to_canonical().is_loopback() {
            if scope == Scope::Loopback {
                return Err(TargetError::NotLoopback(addr.ip().to_string()));
            }
            if !in_own_namespace() {
                return Err(TargetError::FirstNamespace);
            }
        }
        Ok(Target { addr, host: host.to_owned(), path: path.to_owned() })
    }

    /// The address.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The bytes of a `GET` for this target.
    pub fn get(&self) -> Vec<u8> {
        format!("GET {} HTTP/1.1\r\nHost: {}\r\nAccept: */*\r\n\r\n", self.path, self.host).into_bytes()
    }
}

fn resolve(name: &str) -> Option<IpAddr> {
    let name = name.trim_end_matches('.');
    if name.eq_ignore_ascii_case("localhost") || name.to_ascii_lowercase().ends_with(".localhost") {
        return Some(IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
    name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name).parse().ok()
}

/// Whether this thread is in another network namespace than the machine's first process; where that one's cannot be read, as in some sandboxes,
/// than this process began in. An unreadable link counts as "no": the check fails closed.
fn in_own_namespace() -> bool {
    let namespace = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/net")).ok();
    match (namespace("thread-self"), namespace("1").or_else(|| namespace("self"))) {
        (Some(own), Some(first)) => own != first,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(url: &str, expect: Result<(&str, &str, &str), &str>) {
        let got = Target::parse(url, Scope::Loopback);
        match (got, expect) {
            (Ok(target), Ok((addr, host, path))) => {
                assert_eq!(target.addr(), addr.parse().expect("address in the test"), "{url}");
                assert_eq!((target.host.as_str(), target.path.as_str()), (host, path), "{url}");
            }
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{url}: {error}"),
            (got, expect) => panic!("{url}: {got:?}, expected {expect:?}"),
        }
    }

    #[test]
    fn takes_loopback_in_its_forms() {
        check("http://127.0.0.1:8080/a?b=c", Ok(("127.0.0.1:8080", "127.0.0.1:8080", "/a?b=c")));
        check("http://127.9.8.7", Ok(("127.9.8.7:80", "127.9.8.7", "/")));
        check("http://[::1]:81/", Ok(("[::1]:81", "[::1]:81", "/")));
        check("http://[::1]", Ok(("[::1]:80", "[::1]", "/")));
        check("http://hello.workers.localhost:8080/", Ok(("127.0.0.1:8080", "hello.workers.localhost:8080", "/")));
        check("http://[::ffff:127.0.0.1]:1/", Ok(("[::ffff:127.0.0.1]:1", "[::ffff:127.0.0.1]:1", "/")));
    }

    #[test]
    fn refuses_everything_that_is_not_loopback() {
        for url in [
            "http://192.0.2.1/",
            "http://10.0.0.1:80/",
            "http://0.0.0.0:80/",
            "http://[2001:db8::1]/",
            "http://[::]:80/",
            "http://[::ffff:192.0.2.1]/",
            "http://example.com/",
            "http://localhost.example.com/",
            "http://notlocalhost/",
            "http://2130706433/",
        ] {
            check(url, Err("not a loopback address"));
        }
    }

    #[test]
    fn refuses_what_is_not_a_url() {
        for url in
            ["", "https://127.0.0.1/", "127.0.0.1", "http://a@127.0.0.1/", "http://127.0.0.1:x/", "http://127.0.0.1/ b"]
        {
            check(url, Err("not an http:// URL"));
        }
    }

    #[test]
    fn a_claimed_namespace_must_be_one() {
        // The test process shares the namespace of process 1 on a plain machine; in a container with its own
        // namespaces process 1 is in the same one too.
        let addr = "192.0.2.1:80".parse().expect("address in the test");
        let got = Target::new(addr, "x", "/", Scope::OwnNamespace);
        assert_eq!(got.is_ok(), in_own_namespace());
        assert!(Target::new(addr, "x", "/", Scope::Loopback).is_err());
    }
}
