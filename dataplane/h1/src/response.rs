//! A response's head, as a server writes it: framing decided here, fields checked again, one buffer.

use crate::date::HTTP_DATE_BYTES;
use crate::field;
use crate::request::RequestHead;
use crate::status;
use base::header::HeaderBlock;
use std::fmt;

/// What a response says about its connection and its request.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// The request was HEAD: no body follows whatever the fields say.
    pub head_request: bool,
    /// Minor version of the request: 1.0 knows no chunks.
    pub minor_version: u8,
    /// Whether the connection may be used again if the framing allows it.
    pub keep_alive: bool,
    /// The current time, for `Date`.
    pub date: [u8; HTTP_DATE_BYTES],
}

impl Context {
    /// The context of a response to this request.
    pub fn of(request: &RequestHead, keep_alive: bool, date: [u8; HTTP_DATE_BYTES]) -> Context {
        Context {
            head_request: request.is_head(),
            minor_version: request.minor_version,
            keep_alive: keep_alive && request.keep_alive,
            date,
        }
    }
}

/// The body that will follow a response's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// So many bytes; 0 for none.
    Known(u64),
    /// Bytes of a number not known yet.
    Unknown,
}

/// How the body must be sent, and what happens after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The way of the body.
    pub framing: SendFraming,
    /// Whether the connection may carry another message.
    pub keep_alive: bool,
}

/// The way of a body that is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendFraming {
    /// Nothing is sent, not even where there is a body: HEAD, 204, 304.
    NoBody,
    /// Exactly so many bytes.
    Length(u64),
    /// Chunks, then the last chunk.
    Chunked,
    /// Bytes until the connection is closed.
    UntilClose,
}

/// A field that may not be sent. Nothing has been written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidField;

impl fmt::Display for InvalidField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a response field has an invalid name or value")
    }
}

impl std::error::Error for InvalidField {}

/// Appends a response head to `out`.
///
/// `fields` are the message's own: those of the connection (RFC 9110 §7.6.1) are left out, save that `Content-Length`
/// of a response to HEAD is kept when the body's length is not known. `extra` are fields of the server, added as they
/// are; they take the place of equal ones of the message.
pub fn encode(
    out: &mut Vec<u8>,
    code: u16,
    fields: &HeaderBlock,
    extra: &[(&str, &[u8])],
    body: Body,
    context: &Context,
) -> Result<Sent, InvalidField> {
    let start = out.len();
    status_line(out, code);
    let mut dated = false;
    let mut head_length = None;
    for (name, value) in fields.iter() {
        if field::is_hop_by_hop(name) {
            if context.head_request && name.eq_ignore_ascii_case(b"content-length") {
                head_length = field::parse_decimal(value);
            }
            continue;
        }
        if extra.iter().any(|(own, _)| own.as_bytes().eq_ignore_ascii_case(name)) {
            continue;
        }
        if !push_checked(out, name, value) {
            out.truncate(start);
            return Err(InvalidField);
        }
        dated |= name.len() == 4 && name.eq_ignore_ascii_case(b"date");
    }
    for (name, value) in extra {
        if !push_checked(out, name.as_bytes(), value) {
            out.truncate(start);
            return Err(InvalidField);
        }
    }
    if !dated {
        push_field(out, b"Date", &context.date);
    }
    Ok(finish(out, code, body, head_length, context))
}

fn status_line(out: &mut Vec<u8>, code: u16) {
    if code == 200 {
        out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
        return;
    }
    out.extend_from_slice(b"HTTP/1.1 ");
    field::push_decimal(out, u64::from(code));
    out.push(b' ');
    out.extend_from_slice(status::reason(code).as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// The framing fields and the empty line.
fn finish(out: &mut Vec<u8>, code: u16, body: Body, head_length: Option<u64>, context: &Context) -> Sent {
    let framing = match body {
        _ if status::has_no_body(code) => SendFraming::NoBody,
        Body::Known(length) => {
            push_length(out, if context.head_request && length == 0 { head_length.unwrap_or(0) } else { length });
            if context.head_request { SendFraming::NoBody } else { SendFraming::Length(length) }
        }
        Body::Unknown if context.head_request => {
            if let Some(length) = head_length {
                push_length(out, length);
            }
            SendFraming::NoBody
        }
        Body::Unknown if context.minor_version == 0 => SendFraming::UntilClose,
        Body::Unknown => {
            out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
            SendFraming::Chunked
        }
    };
    let keep_alive = context.keep_alive && framing != SendFraming::UntilClose;
    match (keep_alive, context.minor_version) {
        (false, _) => out.extend_from_slice(b"Connection: close\r\n\r\n"),
        (true, 0) => out.extend_from_slice(b"Connection: keep-alive\r\n\r\n"),
        (true, _) => out.extend_from_slice(b"\r\n"),
    }
    Sent { framing, keep_alive }
}

fn push_length(out: &mut Vec<u8>, length: u64) {
    out.extend_from_slice(b"Content-Length: ");
    field::push_decimal(out, length);
    out.extend_from_slice(b"\r\n");
}

pub(crate) fn push_checked(out: &mut Vec<u8>, name: &[u8], value: &[u8]) -> bool {
    let valid = field::is_token(name) && field::is_value(value);
    if valid {
        push_field(out, name, value);
    }
    valid
}

pub(crate) fn push_field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.reserve(name.len() + value.len() + 4);
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// The interim response that a client with `Expect: 100-continue` waits for.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::date::http_date;

    const GET: Context =
        Context { head_request: false, minor_version: 1, keep_alive: true, date: [b'd'; HTTP_DATE_BYTES] };

    fn check(code: u16, fields: &[(&str, &str)], body: Body, context: &Context, expect: &str) {
        let fields: HeaderBlock = fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
        let mut out = b"before".to_vec();
        let context = Context { date: http_date(0), ..*context };
        let sent = encode(&mut out, code, &fields, &[("X-V", b"v1")], body, &context);
        let mut text = String::from_utf8(out).expect("ASCII").replace("Thu, 01 Jan 1970 00:00:00 GMT", "D");
        match sent {
            Ok(sent) => text.push_str(&format!("{:?} {}", sent.framing, sent.keep_alive)),
            Err(InvalidField) => text.push_str(" invalid"),
        }
        assert_eq!(text, format!("before{}", expect.replace('\n', "\r\n")));
    }

    #[test]
    fn framing_is_ours() {
        check(
            200,
            &[("A", "b"), ("Content-Length", "9"), ("Connection", "x"), ("x-v", "forged")],
            Body::Known(5),
            &GET,
            "HTTP/1.1 200 OK\nA: b\nX-V: v1\nDate: D\nContent-Length: 5\n\nLength(5) true",
        );
        check(
            404,
            &[("Transfer-Encoding", "gzip"), ("Date", "now")],
            Body::Unknown,
            &GET,
            "HTTP/1.1 404 Not Found\nDate: now\nX-V: v1\nTransfer-Encoding: chunked\n\nChunked true",
        );
        check(
            299,
            &[],
            Body::Known(0),
            &Context { keep_alive: false, ..GET },
            "HTTP/1.1 299 \nX-V: v1\nDate: D\nContent-Length: 0\nConnection: close\n\nLength(0) false",
        );
    }

    #[test]
    fn bodies_that_are_not_sent() {
        let head = Context { head_request: true, ..GET };
        check(200, &[], Body::Known(5), &head, "HTTP/1.1 200 OK\nX-V: v1\nDate: D\nContent-Length: 5\n\nNoBody true");
        check(
            200,
            &[("content-length", "7")],
            Body::Known(0),
            &head,
            "HTTP/1.1 200 OK\nX-V: v1\nDate: D\nContent-Length: 7\n\nNoBody true",
        );
        check(
            200,
            &[("content-length", "7")],
            Body::Unknown,
            &head,
            "HTTP/1.1 200 OK\nX-V: v1\nDate: D\nContent-Length: 7\n\nNoBody true",
        );
        check(200, &[], Body::Unknown, &head, "HTTP/1.1 200 OK\nX-V: v1\nDate: D\n\nNoBody true");
        check(204, &[], Body::Known(5), &GET, "HTTP/1.1 204 No Content\nX-V: v1\nDate: D\n\nNoBody true");
        check(
            304,
            &[("Content-Length", "5")],
            Body::Unknown,
            &GET,
            "HTTP/1.1 304 Not Modified\nX-V: v1\nDate: D\n\nNoBody true",
        );
    }

    #[test]
    fn http_1_0_has_no_chunks() {
        let old = Context { minor_version: 0, ..GET };
        check(
            200,
            &[],
            Body::Unknown,
            &old,
            "HTTP/1.1 200 OK\nX-V: v1\nDate: D\nConnection: close\n\nUntilClose false",
        );
        check(
            200,
            &[],
            Body::Known(1),
            &old,
            "HTTP/1.1 200 OK\nX-V: v1\nDate: D\nContent-Length: 1\nConnection: keep-alive\n\nLength(1) true",
        );
    }

    #[test]
    fn nothing_is_injected() {
        for (name, value) in
            [("a", "b\r\nc: d"), ("a", "b\nc"), ("a", "b\0"), ("a\r\nb", "c"), ("a b", "c"), ("", "c"), ("a:", "b")]
        {
            check(200, &[("Ok", "1"), (name, value)], Body::Known(0), &GET, " invalid");
        }
    }
}
