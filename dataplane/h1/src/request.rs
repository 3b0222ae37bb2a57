//! A request's head, as a server reads it (RFC 9112 §3, RFC 9110 §7.2).
//!
//! [`parse`] takes a complete head, found by [`HeadScan`](crate::scan::HeadScan), and gives a [`RequestHead`] that owns
//! its text: a method, one absolute URL and the fields, three allocations in all besides the fields' places.

use crate::field::ConnectionOptions;
use crate::framing::{Framing, FramingError, FramingFields};
use crate::reject::Reject;
use base::header::HeaderBlock;
use base::limits::{BODY_BYTES_MAX, HEADERS_MAX, TARGET_BYTES_MAX};
use std::mem::MaybeUninit;

const SCHEME: &str = "http://";

/// The head of a request, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHead {
    /// The method, a token.
    pub method: String,
    /// `http://`, the authority (from an absolute-form target, else from `Host`), the path and the query.
    /// Without an authority where an HTTP/1.0 request has none.
    pub url: String,
    /// Fields in order; `Host` is the authority of `url` where the target was absolute.
    pub headers: HeaderBlock,
    /// 0 or 1, of HTTP/1.x.
    pub minor_version: u8,
    /// How the body is delimited; never `UntilClose`.
    pub framing: Framing,
    /// The client waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
    /// Whether the client lets the connection be used again.
    pub keep_alive: bool,
    /// There is an `Upgrade` field.
    pub upgrades: bool,
    /// `OPTIONS *`: about the server, not about a resource; `url` has the path `/*`.
    pub asterisk: bool,
    authority_end: u32,
    path_end: u32,
}

impl RequestHead {
    /// Host and port as the client wrote them; empty where it named none.
    pub fn authority(&self) -> &str {
        &self.url[SCHEME.len()..self.authority_end as usize]
    }

    /// The path, from its first slash, without the query.
    pub fn path(&self) -> &str {
        &self.url[self.authority_end as usize..self.path_end as usize]
    }

    /// The query with its question mark, or nothing.
    pub fn query(&self) -> &str {
        &self.url[self.path_end as usize..]
    }

    /// Puts another path in the place of the URL's, keeping authority and query.
    pub fn replace_path(&mut self, path: &str) {
        self.url.replace_range(self.authority_end as usize..self.path_end as usize, path);
        self.path_end = self.authority_end + path.len() as u32;
    }

    /// Whether this is a HEAD request, whose response has no body.
    pub fn is_head(&self) -> bool {
        self.method == "HEAD"
    }
}

/// Reads a complete head: from the request line to the empty line, nothing before and nothing after.
pub fn parse(head: &[u8]) -> Result<RequestHead, Reject> {
    let mut fields = [const { MaybeUninit::uninit() }; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(head, &mut fields) {
        Ok(httparse::Status::Complete(end)) if end == head.len() => {}
        Ok(_) => return Err(Reject::Malformed("invalid request head")),
        Err(error) => return Err(reject_of(error, head)),
    }
    let (Some(method), Some(target), Some(minor_version)) = (request.method, request.path, request.version) else {
        return Err(Reject::Malformed("invalid request line"));
    };
    if method == "CONNECT" || method == "TRACE" {
        return Err(Reject::NotImplemented("the method is not supported"));
    }
    if target.len() > TARGET_BYTES_MAX {
        return Err(Reject::TargetTooLong);
    }
    if !target.is_ascii() || target.as_bytes().contains(&b'#') {
        return Err(Reject::Malformed("invalid request target"));
    }
    let target = Target::parse(method, target)?;
    let read = Fields::read(request.headers, head.len(), target.authority)?;
    if minor_version == 1 && read.host.is_none() {
        return Err(Reject::Malformed("no Host field"));
    }
    let framing = read.framing.of_request(minor_version).map_err(reject_of_framing)?;
    if matches!(framing, Framing::Length(length) if length > BODY_BYTES_MAX) {
        return Err(Reject::BodyTooLarge);
    }

    let authority = target.authority.or(read.host).unwrap_or_default();
    let mut url = String::with_capacity(SCHEME.len() + authority.len() + target.path.len() + target.query.len());
    url.push_str(SCHEME);
    url.push_str(authority);
    let authority_end = url.len() as u32;
    url.push_str(target.path);
    let path_end = url.len() as u32;
    url.push_str(target.query);
    Ok(RequestHead {
        method: method.to_owned(),
        url,
        headers: read.headers,
        minor_version,
        framing,
        expects_continue: read.expects_continue && minor_version == 1 && framing != Framing::None,
        keep_alive: read.connection.keeps(minor_version),
        upgrades: read.upgrades,
        asterisk: target.asterisk,
        authority_end,
        path_end,
    })
}

/// A request target (RFC 9112 §3.2), taken apart.
struct Target<'a> {
    authority: Option<&'a str>,
    path: &'a str,
    query: &'a str,
    asterisk: bool,
}

impl<'a> Target<'a> {
    fn parse(method: &str, target: &'a str) -> Result<Target<'a>, Reject> {
        if target.starts_with('/') {
            let (path, query) = split_query(target);
            return Ok(Target { authority: None, path, query, asterisk: false });
        }
        if target == "*" && method == "OPTIONS" {
            return Ok(Target { authority: None, path: "/*", query: "", asterisk: true });
        }
        const INVALID: Reject = Reject::Malformed("invalid request target");
        let scheme = target.get(..SCHEME.len()).ok_or(INVALID)?;
        if !scheme.eq_ignore_ascii_case(SCHEME) {
            return Err(INVALID);
        }
        let rest = &target[SCHEME.len()..];
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, tail) = rest.split_at(end);
        if !is_authority(authority.as_bytes()) {
            return Err(INVALID);
        }
        let (path, query) = split_query(tail);
        Ok(Target {
            authority: Some(authority),
            path: if path.is_empty() { "/" } else { path },
            query,
            asterisk: false,
        })
    }
}

fn split_query(target: &str) -> (&str, &str) {
    target.split_at(target.find('?').unwrap_or(target.len()))
}

/// What the fields say, besides the fields themselves.
struct Fields<'a> {
    headers: HeaderBlock,
    host: Option<&'a str>,
    framing: FramingFields,
    connection: ConnectionOptions,
    expects_continue: bool,
    upgrades: bool,
}

impl<'a> Fields<'a> {
    fn read(
        fields: &[httparse::Header<'a>],
        head_bytes: usize,
        absolute_authority: Option<&'a str>,
    ) -> Result<Fields<'a>, Reject> {
        let mut read = Fields {
            headers: HeaderBlock::with_capacity(fields.len(), head_bytes),
            host: None,
            framing: FramingFields::default(),
            connection: ConnectionOptions::default(),
            expects_continue: false,
            upgrades: false,
        };
        for field in fields {
            let (name, mut value) = (field.name.as_bytes(), field.value);
            match name.len() {
                4 if name.eq_ignore_ascii_case(b"host") => {
                    if read.host.is_some() {
                        return Err(Reject::Malformed("more than one Host field"));
                    }
                    if !is_authority(value) {
                        return Err(Reject::Malformed("invalid Host field"));
                    }
                    read.host = std::str::from_utf8(value).ok();
                    value = absolute_authority.map_or(value, str::as_bytes);
                }
                6 if name.eq_ignore_ascii_case(b"expect") => {
                    if !value.eq_ignore_ascii_case(b"100-continue") {
                        return Err(Reject::Expectation);
                    }
                    read.expects_continue = true;
                }
                7 if name.eq_ignore_ascii_case(b"upgrade") => read.upgrades = true,
                10 if name.eq_ignore_ascii_case(b"connection") => read.connection.add(value),
                14 if name.eq_ignore_ascii_case(b"content-length") => {
                    read.framing.content_length(value).map_err(reject_of_framing)?;
                }
                17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                    read.framing.transfer_encoding(value).map_err(reject_of_framing)?;
                }
                _ => {}
            }
            read.headers.push(name, value);
        }
        Ok(read)
    }
}

/// `host [":" port]` where the host is a name or an address (RFC 3986 §3.2.2), never empty, without user information.
fn is_authority(bytes: &[u8]) -> bool {
    let (host, port) = match bytes {
        [b'[', ..] => {
            let Some(close) = bytes.iter().position(|byte| *byte == b']') else { return false };
            let address = &bytes[1..close];
            let valid = !address.is_empty()
                && address.iter().all(|byte| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.'))
                && address.contains(&b':');
            if !valid {
                return false;
            }
            (&bytes[..=close], &bytes[close + 1..])
        }
        _ => bytes.split_at(bytes.iter().position(|byte| *byte == b':').unwrap_or(bytes.len())),
    };
    let host_valid = match host {
        [] => false,
        [b'[', ..] => true,
        name => name.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_')),
    };
    let port_valid = match port {
        [] => true,
        [b':', digits @ ..] => digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    host_valid && port_valid && host.len() <= 255
}

fn reject_of_framing(error: FramingError) -> Reject {
    match error {
        FramingError::Ambiguous(why) => Reject::Malformed(why),
        FramingError::Coding => Reject::NotImplemented("the transfer coding is not supported"),
    }
}

fn reject_of(error: httparse::Error, head: &[u8]) -> Reject {
    match error {
        httparse::Error::TooManyHeaders => Reject::HeadTooLarge,
        httparse::Error::HeaderName => Reject::Malformed("invalid field name"),
        httparse::Error::HeaderValue => Reject::Malformed("invalid field value"),
        httparse::Error::Version if names_another_version(head) => Reject::Version,
        httparse::Error::Token => Reject::Malformed("invalid request line"),
        httparse::Error::Version => Reject::Malformed("invalid version"),
        _ => Reject::Malformed("invalid request head"),
    }
}

/// Whether the request line ends with `HTTP/d.d` of a version that is neither 1.0 nor 1.1.
fn names_another_version(head: &[u8]) -> bool {
    let line = &head[..memchr::memchr(b'\r', head).unwrap_or(head.len())];
    let Some(version) = line.len().checked_sub(9).map(|at| &line[at..]) else { return false };
    matches!(version, [b' ', b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
        if major.is_ascii_digit() && minor.is_ascii_digit() && !(*major == b'1' && *minor <= b'1'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scan::HeadScan;

    fn read(head: &str) -> Result<RequestHead, u16> {
        let range = HeadScan::new().find(head.as_bytes()).map_err(Reject::status)?.expect("a complete head");
        parse(&head.as_bytes()[range]).map_err(Reject::status)
    }

    fn check(head: &str, expect: Result<(&str, &str, &str), u16>) {
        let got = read(head);
        let got = got.as_ref().map(|head| (head.method.as_str(), head.url.as_str(), head.path())).map_err(|s| *s);
        assert_eq!(got, expect, "{head:?}");
    }

    #[test]
    fn targets_become_urls() {
        check("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n", Ok(("GET", "http://a.example/", "/")));
        check("GET /a/b?c=/d HTTP/1.1\r\nhost:a:80 \r\n\r\n", Ok(("GET", "http://a:80/a/b?c=/d", "/a/b")));
        check("GET //evil/x HTTP/1.1\r\nHost: a\r\n\r\n", Ok(("GET", "http://a//evil/x", "//evil/x")));
        check("GET http://b:81?q HTTP/1.1\r\nHost: a\r\n\r\n", Ok(("GET", "http://b:81/?q", "/")));
        check("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", Ok(("OPTIONS", "http://a/*", "/*")));
        check("GET / HTTP/1.0\r\n\r\n", Ok(("GET", "http:///", "/")));
        check("GET / HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n", Ok(("GET", "http://[::1]:8080/", "/")));
        check("QUERY /x HTTP/1.1\r\nHost: a\r\n\r\n", Ok(("QUERY", "http://a/x", "/x")));
    }

    #[test]
    fn absolute_form_wins_over_host_and_host_follows() {
        let head = read("GET http://b/x HTTP/1.1\r\nHost: a\r\n\r\n").expect("valid");
        assert_eq!((head.authority(), head.headers.get(b"host")), ("b", Some(&b"b"[..])));
    }

    #[test]
    fn refused_targets_methods_and_versions() {
        for target in
            ["a", "*", "a:80", "ftp://a/", "https://a/", "http://", "http:///x", "http://u@a/", "/a#b", "/\u{e9}"]
        {
            check(&format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"), Err(400));
        }
        check("CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", Err(501));
        check("TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", Err(501));
        check("GET / HTTP/2.0\r\nHost: a\r\n\r\n", Err(505));
        check("GET / HTTP/1.2\r\nHost: a\r\n\r\n", Err(505));
        check("PRI * HTTP/2.0\r\n\r\n", Err(505));
        for line in [
            "GET /",
            "GET / HTTP/1",
            "GET / http/1.1",
            "GET  / HTTP/1.1",
            "GET /  HTTP/1.1",
            "G@T / HTTP/1.1",
            " GET / HTTP/1.1",
            "GET / HTTP/1.1 ",
        ] {
            let head = format!("{line}\r\nHost: a\r\n\r\n");
            assert_eq!(read(&head).err(), Some(400), "{head:?}");
        }
    }

    #[test]
    fn refused_hosts() {
        for fields in [
            "",
            "Host:\r\n",
            "Host: a\r\nHost: a\r\n",
            "Host: a b\r\n",
            "Host: a/b\r\n",
            "Host: u@a\r\n",
            "Host: a:b\r\n",
            "Host: a:123456\r\n",
            "Host: [::1\r\n",
            "Host: []\r\n",
            "Host: a,b\r\n",
            "Host: \u{e9}\r\n",
            "Host: a?b\r\n",
            "Host: a\\b\r\n",
        ] {
            check(&format!("GET / HTTP/1.1\r\n{fields}\r\n"), Err(400));
        }
    }

    #[test]
    fn refused_framing() {
        for (fields, status) in [
            ("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n", 400),
            ("Transfer-Encoding: chunked\r\nContent-Length: 0\r\n", 400),
            ("Content-Length: 1\r\nContent-Length: 2\r\n", 400),
            ("Content-Length: 1\r\nContent-Length: 1\r\n", 400),
            ("Content-Length: 1, 1\r\n", 400),
            ("Content-Length: +1\r\n", 400),
            ("Content-Length: -1\r\n", 400),
            ("Content-Length: 0x1\r\n", 400),
            ("Content-Length:\r\n", 400),
            ("Content-Length: 99999999999999999999\r\n", 400),
            ("Content-Length: 104857601\r\n", 413),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", 400),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", 400),
            ("Transfer-Encoding: chunked, chunked\r\n", 400),
            ("Transfer-Encoding: chunked, gzip\r\n", 400),
            ("Transfer-Encoding: identity\r\n", 400),
            ("Transfer-Encoding: xchunked\r\n", 400),
            ("Transfer-Encoding: \x0bchunked\r\n", 400),
            ("Transfer-Encoding: gzip, chunked\r\n", 501),
            ("Transfer-Encoding : chunked\r\n", 400),
            ("Content-Length : 3\r\n", 400),
            ("Transfer-Encoding:\r\n chunked\r\n", 400),
            ("X: a\r\n\tb\r\n", 400),
            (" X: a\r\n", 400),
            (": a\r\n", 400),
            ("X\r\n", 400),
            ("X\0: a\r\n", 400),
            ("X: a\0b\r\n", 400),
            ("X: a\x7fb\r\n", 400),
            ("X: a\rb\r\n", 400),
            ("Expect: 200-maybe\r\n", 417),
        ] {
            check(&format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"), Err(status));
        }
        check("POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", Err(400));
    }

    #[test]
    fn framing_expectation_and_reuse() {
        let framing = |fields: &str| read(&format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n")).expect("valid");
        assert_eq!(framing("").framing, Framing::None);
        assert_eq!(framing("Content-Length: 0\r\nExpect: 100-continue\r\n").framing, Framing::None);
        assert!(!framing("Content-Length: 0\r\nExpect: 100-continue\r\n").expects_continue);
        let waits = framing("content-length: 007\r\nEXPECT: 100-Continue\r\n");
        assert_eq!((waits.framing, waits.expects_continue, waits.keep_alive), (Framing::Length(7), true, true));
        assert_eq!(framing("Transfer-Encoding: Chunked\r\n").framing, Framing::Chunked);
        assert!(!framing("Connection: x, Close\r\n").keep_alive);
        assert!(!read("GET / HTTP/1.0\r\n\r\n").expect("valid").keep_alive);
        assert!(read("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").expect("valid").keep_alive);
    }

    #[test]
    fn paths_can_be_replaced() {
        let mut head = read("GET /a/../b?q HTTP/1.1\r\nHost: h\r\n\r\n").expect("valid");
        head.replace_path("/b");
        assert_eq!((head.url.as_str(), head.path(), head.query()), ("http://h/b?q", "/b", "?q"));
    }
}
