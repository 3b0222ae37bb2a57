//! The client's side: a request's head to send, and a response's head to read.

use crate::field::{self, ConnectionOptions};
use crate::framing::{Framing, FramingError, FramingFields};
use crate::response::push_field;
use crate::status;
use base::header::HeaderBlock;
use base::limits::HEADERS_MAX;
use std::fmt;
use std::mem::MaybeUninit;

/// The head of a response, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResponseHead {
    /// Status code, 100 to 599; an interim one (below 200) is followed by another head.
    pub status: u16,
    /// Reason phrase; empty where it is missing or not ASCII.
    pub reason: String,
    /// Fields in order.
    pub headers: HeaderBlock,
    /// How the body is delimited.
    pub framing: Framing,
    /// Whether the connection may carry another message after this one.
    pub keep_alive: bool,
}

/// A response that cannot be understood, or could be understood in two ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidResponse(pub &'static str);

impl fmt::Display for InvalidResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for InvalidResponse {}

/// A request that may not be sent. Nothing has been written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidRequest(pub &'static str);

impl fmt::Display for InvalidRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for InvalidRequest {}

/// Appends a request head to `out`.
///
/// `target` is origin-form (path and query), `host` the authority. `fields` are the message's own: `Host`, `Expect` and
/// those of the connection are left out.
pub fn encode(
    out: &mut Vec<u8>,
    method: &str,
    target: &str,
    host: &str,
    fields: &HeaderBlock,
    framing: Framing,
) -> Result<(), InvalidRequest> {
    let target_valid = target.starts_with('/') && target.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
    if !field::is_token(method.as_bytes()) || method == "CONNECT" {
        return Err(InvalidRequest("invalid method"));
    }
    if !target_valid || host.is_empty() || !host.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(InvalidRequest("invalid URL"));
    }
    let start = out.len();
    out.extend_from_slice(method.as_bytes());
    out.push(b' ');
    out.extend_from_slice(target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    push_field(out, b"Host", host.as_bytes());
    for (name, value) in fields.iter() {
        if field::is_hop_by_hop(name) || name.eq_ignore_ascii_case(b"host") || name.eq_ignore_ascii_case(b"expect") {
            continue;
        }
        if !field::is_token(name) || !field::is_value(value) {
            out.truncate(start);
            return Err(InvalidRequest("invalid header field"));
        }
        push_field(out, name, value);
    }
    match framing {
        Framing::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        Framing::Length(length) => push_length(out, length),
        // A method that usually has a body says that it has none (RFC 9110 §8.6).
        Framing::None if matches!(method, "POST" | "PUT" | "PATCH") => push_length(out, 0),
        Framing::None => {}
        Framing::UntilClose => {
            out.truncate(start);
            return Err(InvalidRequest("a request body has no such framing"));
        }
    }
    out.extend_from_slice(b"\r\n");
    Ok(())
}

fn push_length(out: &mut Vec<u8>, length: u64) {
    out.extend_from_slice(b"Content-Length: ");
    field::push_decimal(out, length);
    out.extend_from_slice(b"\r\n");
}

/// Reads a complete response head, found by [`HeadScan`](crate::scan::HeadScan), that answers a `method` request.
pub fn parse(head: &[u8], method: &str) -> Result<ResponseHead, InvalidResponse> {
    parse_with(head, method, false)
}

/// The same; where the request asked for it (`upgrade`), the protocol may be switched.
pub(crate) fn parse_with(head: &[u8], method: &str, upgrade: bool) -> Result<ResponseHead, InvalidResponse> {
    let mut fields = [const { MaybeUninit::uninit() }; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut []);
    let parsed = httparse::ParserConfig::default().parse_response_with_uninit_headers(&mut response, head, &mut fields);
    match parsed {
        Ok(httparse::Status::Complete(end)) if end == head.len() => {}
        Ok(_) => return Err(InvalidResponse("invalid response head")),
        Err(httparse::Error::TooManyHeaders) => return Err(InvalidResponse("too many response fields")),
        Err(_) => return Err(InvalidResponse("invalid response head")),
    }
    let (Some(code), Some(minor_version)) = (response.code, response.version) else {
        return Err(InvalidResponse("invalid status line"));
    };
    if !(100..=599).contains(&code) || (code == 101 && !upgrade) {
        return Err(InvalidResponse("unexpected status"));
    }
    let mut headers = HeaderBlock::with_capacity(response.headers.len(), head.len());
    let mut framing = FramingFields::default();
    let mut connection = ConnectionOptions::default();
    for field in response.headers.iter() {
        let name = field.name.as_bytes();
        match name.len() {
            10 if name.eq_ignore_ascii_case(b"connection") => connection.add(field.value),
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                framing.content_length(field.value).map_err(invalid_framing)?;
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                framing.transfer_encoding(field.value).map_err(invalid_framing)?;
            }
            _ => {}
        }
        headers.push(name, field.value);
    }
    let read = framing.of_response(minor_version).map_err(invalid_framing)?;
    let framing = if method == "HEAD" || status::has_no_body(code) { Framing::None } else { read };
    Ok(ResponseHead {
        status: code,
        reason: response.reason.unwrap_or_default().to_owned(),
        headers,
        framing,
        keep_alive: connection.keeps(minor_version) && framing != Framing::UntilClose,
    })
}

fn invalid_framing(error: FramingError) -> InvalidResponse {
    match error {
        FramingError::Ambiguous(why) => InvalidResponse(why),
        FramingError::Coding => InvalidResponse("the response has an unknown transfer coding"),
    }
}

/// Whether a request may be sent again on another connection when a reused one turns out to be closed
/// (RFC 9110 §9.2.2): nothing of a response came, and doing it twice is doing it once.
pub fn is_idempotent(method: &str) -> bool {
    matches!(method, "GET" | "HEAD" | "OPTIONS" | "PUT" | "DELETE")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(method: &str, head: &str, expect: Result<(u16, &str, Framing, bool), ()>) {
        let got = parse(head.as_bytes(), method);
        let got = got.as_ref().map(|h| (h.status, h.reason.as_str(), h.framing, h.keep_alive)).map_err(|_| ());
        assert_eq!(got, expect, "{head:?}");
    }

    #[test]
    fn response_heads() {
        check("GET", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", Ok((200, "OK", Framing::Length(3), true)));
        check("GET", "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", Ok((200, "", Framing::None, true)));
        check("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", Ok((200, "OK", Framing::None, true)));
        check("GET", "HTTP/1.1 204 No\r\n\r\n", Ok((204, "No", Framing::None, true)));
        check("GET", "HTTP/1.1 304 No\r\nContent-Length: 3\r\n\r\n", Ok((304, "No", Framing::None, true)));
        check("GET", "HTTP/1.1 103 Early\r\n\r\n", Ok((103, "Early", Framing::None, true)));
        check("GET", "HTTP/1.1 200 OK\r\n\r\n", Ok((200, "OK", Framing::UntilClose, false)));
        check("GET", "HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\n", Ok((200, "OK", Framing::Length(3), false)));
        check(
            "GET",
            "HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n",
            Ok((200, "OK", Framing::Chunked, false)),
        );
        for head in [
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
            "HTTP/1.1 101 Switching\r\n\r\n",
            "HTTP/1.1 600 X\r\n\r\n",
            "HTTP/2.0 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
            "ICY 200 OK\r\n\r\n",
        ] {
            check("GET", head, Err(()));
        }
    }

    #[test]
    fn request_heads() {
        let fields: HeaderBlock =
            [(&b"host"[..], &b"forged"[..]), (b"A", b"b"), (b"Connection", b"x"), (b"expect", b"y")]
                .into_iter()
                .collect();
        let encoded = |method, target, host, fields: &HeaderBlock, framing| {
            let mut out = Vec::new();
            encode(&mut out, method, target, host, fields, framing).map(|()| String::from_utf8(out).expect("ASCII"))
        };
        assert_eq!(
            encoded("GET", "/a?b", "h:81", &fields, Framing::None).as_deref(),
            Ok("GET /a?b HTTP/1.1\r\nHost: h:81\r\nA: b\r\n\r\n")
        );
        let empty = HeaderBlock::new();
        assert_eq!(
            encoded("POST", "/", "h", &empty, Framing::None).as_deref(),
            Ok("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n")
        );
        assert_eq!(
            encoded("PUT", "/", "h", &empty, Framing::Chunked).as_deref(),
            Ok("PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
        );
        for (method, target, host) in [
            ("G T", "/", "h"),
            ("GET", "/a b", "h"),
            ("GET", "a", "h"),
            ("GET", "/\r\nX: y", "h"),
            ("GET", "/", "h\r\n"),
            ("GET", "/", ""),
            ("CONNECT", "/", "h"),
        ] {
            assert!(encoded(method, target, host, &empty, Framing::None).is_err(), "{method} {target} {host}");
        }
        let injected: HeaderBlock = [(&b"a"[..], &b"b\r\nc: d"[..])].into_iter().collect();
        assert!(encoded("GET", "/", "h", &injected, Framing::None).is_err());
    }
}
