//! The opening handshake of a WebSocket, HTTP's half of it (RFC 6455 §4): both sides' heads, written and checked.
//!
//! What a key must be and what its digest is are the `websocket` crate's. Fields that speak of the handshake itself are never
//! passed on: each hop has its own.

use crate::client::{self, InvalidRequest, InvalidResponse, ResponseHead};
use crate::field;
use crate::framing::Framing;
use crate::request::RequestHead;
use crate::response::{InvalidField, push_checked, push_field};
use base::header::HeaderBlock;

/// What a request says about a WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked<'a> {
    /// Nothing: `Upgrade` does not name one.
    No,
    /// It asks for one.
    Yes {
        /// The value of `Sec-WebSocket-Key`, not checked.
        key: &'a [u8],
    },
    /// It asks in a version other than 13: 426.
    OtherVersion,
    /// It asks in a way that cannot be: 400.
    Malformed(&'static str),
}

/// Whether a request asks for a WebSocket (RFC 6455 §4.2.1).
pub fn asked(head: &RequestHead) -> Asked<'_> {
    if !names_websocket(&head.headers) {
        return Asked::No;
    }
    if head.method != "GET" || head.minor_version == 0 || head.framing != Framing::None {
        return Asked::Malformed("a WebSocket is asked for by GET of HTTP/1.1, without a body");
    }
    if !has_member(&head.headers, b"connection", b"upgrade") {
        return Asked::Malformed("Connection does not name Upgrade");
    }
    let mut versions = values(&head.headers, b"sec-websocket-version");
    if versions.next() != Some(b"13") || versions.next().is_some() {
        return Asked::OtherVersion;
    }
    let mut keys = values(&head.headers, b"sec-websocket-key");
    match (keys.next(), keys.next()) {
        (Some(key), None) => Asked::Yes { key },
        _ => Asked::Malformed("no Sec-WebSocket-Key, or more than one"),
    }
}

/// Whether `Upgrade` names a WebSocket.
pub fn names_websocket(fields: &HeaderBlock) -> bool {
    has_member(fields, b"upgrade", b"websocket")
}

fn values<'a>(fields: &'a HeaderBlock, name: &'static [u8]) -> impl Iterator<Item = &'a [u8]> {
    fields.iter().filter(move |(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

fn has_member(fields: &HeaderBlock, name: &'static [u8], member: &[u8]) -> bool {
    values(fields, name).any(|value| field::list(value).any(|found| found.eq_ignore_ascii_case(member)))
}

/// Fields of the handshake that are each hop's own; `Sec-WebSocket-Protocol` alone is the ends'.
fn is_handshake(name: &[u8]) -> bool {
    const OWN: [&[u8]; 4] =
        [b"sec-websocket-key", b"sec-websocket-version", b"sec-websocket-extensions", b"sec-websocket-accept"];
    OWN.iter().any(|own| own.eq_ignore_ascii_case(name))
}

/// Appends the head that switches protocols, with the message's own fields and `extra` ones of the server.
pub fn encode_switch(
    out: &mut Vec<u8>,
    fields: &HeaderBlock,
    extra: &[(&str, &[u8])],
    accept: &str,
) -> Result<(), InvalidField> {
    let start = out.len();
    out.extend_from_slice(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n");
    push_field(out, b"Sec-WebSocket-Accept", accept.as_bytes());
    let own = extra.iter().map(|(name, value)| (name.as_bytes(), *value));
    let theirs = fields.iter().filter(|(name, _)| {
        let replaced = extra.iter().any(|(own, _)| own.as_bytes().eq_ignore_ascii_case(name));
        !replaced && !field::is_hop_by_hop(name) && !is_handshake(name)
    });
    for (name, value) in theirs.chain(own) {
        if !push_checked(out, name, value) {
            out.truncate(start);
            return Err(InvalidField);
        }
    }
    out.extend_from_slice(b"\r\n");
    Ok(())
}

/// Appends the head of a request for a WebSocket, with a key of 16 random bytes in base64.
pub fn encode_request(
    out: &mut Vec<u8>,
    target: &str,
    host: &str,
    fields: &HeaderBlock,
    key: &str,
) -> Result<(), InvalidRequest> {
    let own = fields.iter().filter(|(name, _)| !is_handshake(name)).collect();
    client::encode(out, "GET", target, host, &own, Framing::None)?;
    // Behind the fields of the message, in front of the empty line.
    out.truncate(out.len() - 2);
    out.extend_from_slice(b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n");
    push_field(out, b"Sec-WebSocket-Key", key.as_bytes());
    out.extend_from_slice(b"\r\n");
    Ok(())
}

/// Reads the head of the answer to such a request: 101 where the protocol is switched, with the digest of the key and what
/// else must be so; any other response as it is. `fields` are those of the request.
pub fn parse_response(head: &[u8], fields: &HeaderBlock, accept: &str) -> Result<ResponseHead, InvalidResponse> {
    let response = client::parse_with(head, "GET", true)?;
    if response.status == 101 {
        check_switch(&response.headers, fields, accept)?;
    }
    Ok(response)
}

fn check_switch(got: &HeaderBlock, asked: &HeaderBlock, accept: &str) -> Result<(), InvalidResponse> {
    if !names_websocket(got) || !has_member(got, b"connection", b"upgrade") {
        return Err(InvalidResponse("the protocol was switched, but not to a WebSocket"));
    }
    let mut digests = values(got, b"sec-websocket-accept");
    if digests.next() != Some(accept.as_bytes()) || digests.next().is_some() {
        return Err(InvalidResponse("Sec-WebSocket-Accept is not the key's digest"));
    }
    if values(got, b"sec-websocket-extensions").any(|value| field::list(value).next().is_some()) {
        return Err(InvalidResponse("an extension that was not offered"));
    }
    let mut chosen = values(got, b"sec-websocket-protocol");
    if let Some(protocol) = chosen.next() {
        let offered = values(asked, b"sec-websocket-protocol").any(|value| field::list(value).any(|it| it == protocol));
        if !offered || chosen.next().is_some() {
            return Err(InvalidResponse("a subprotocol that was not offered"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request;

    const WHOLE: &str =
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: k\r\n";

    fn check(line: &str, fields: &str, expect: &str) {
        let head = format!("{line}\r\nHost: a\r\n{fields}\r\n");
        let head = request::parse(head.as_bytes()).expect("a valid head");
        let got = match asked(&head) {
            Asked::No => "no".to_owned(),
            Asked::Yes { key } => format!("key {}", String::from_utf8_lossy(key)),
            Asked::OtherVersion => "version".to_owned(),
            Asked::Malformed(_) => "malformed".to_owned(),
        };
        assert_eq!(got, expect, "{line} {fields}");
    }

    #[test]
    fn who_asks_for_a_websocket() {
        let get = "GET / HTTP/1.1";
        check(get, WHOLE, "key k");
        check(
            get,
            &WHOLE.replace("websocket\r", "h2c, WebSocket\r").replace(": Upgrade", ": keep-alive, upgrade"),
            "key k",
        );
        check(get, "", "no");
        check(get, "Upgrade: h2c\r\nConnection: Upgrade\r\n", "no");
        check("POST / HTTP/1.1", WHOLE, "malformed");
        check("GET / HTTP/1.0", WHOLE, "malformed");
        check(get, &format!("{WHOLE}Content-Length: 3\r\n"), "malformed");
        check(get, &WHOLE.replace("Connection: Upgrade\r\n", ""), "malformed");
        check(get, &WHOLE.replace("Connection: Upgrade\r\n", "Connection: keep-alive\r\n"), "malformed");
        check(get, &WHOLE.replace("Sec-WebSocket-Version: 13\r\n", ""), "version");
        check(get, &WHOLE.replace("13", "8"), "version");
        check(get, &format!("{WHOLE}Sec-WebSocket-Version: 13\r\n"), "version");
        check(get, &WHOLE.replace("Sec-WebSocket-Key: k\r\n", ""), "malformed");
        check(get, &format!("{WHOLE}Sec-WebSocket-Key: k\r\n"), "malformed");
    }

    fn block(fields: &[(&str, &str)]) -> HeaderBlock {
        fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect()
    }

    #[test]
    fn a_switch_has_the_servers_own_handshake() {
        let fields = block(&[
            ("Sec-WebSocket-Accept", "forged"),
            ("sec-websocket-extensions", "permessage-deflate"),
            ("Sec-WebSocket-Protocol", "chat"),
            ("Content-Length", "5"),
            ("X-V", "forged"),
            ("A", "b"),
        ]);
        let mut out = Vec::new();
        encode_switch(&mut out, &fields, &[("X-V", b"v1")], "digest").expect("valid");
        assert_eq!(
            String::from_utf8(out).expect("ASCII"),
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: digest\r\n\
             Sec-WebSocket-Protocol: chat\r\nA: b\r\nX-V: v1\r\n\r\n"
        );
        let mut out = Vec::new();
        assert_eq!(encode_switch(&mut out, &block(&[("a", "b\r\nc: d")]), &[], "digest"), Err(InvalidField));
        assert!(out.is_empty());
    }

    #[test]
    fn a_request_has_the_clients_own_handshake() {
        let fields =
            block(&[("Sec-WebSocket-Key", "old"), ("Upgrade", "websocket"), ("Connection", "Upgrade"), ("A", "b")]);
        let mut out = Vec::new();
        encode_request(&mut out, "/x?y", "h:1", &fields, "key").expect("valid");
        assert_eq!(
            String::from_utf8(out).expect("ASCII"),
            "GET /x?y HTTP/1.1\r\nHost: h:1\r\nA: b\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: key\r\n\r\n"
        );
    }

    #[test]
    fn answers_are_checked() {
        let offered = block(&[("Sec-WebSocket-Protocol", "chat, superchat")]);
        let read = |fields: &str, offered: &HeaderBlock| {
            let head = format!("HTTP/1.1 101 X\r\n{fields}\r\n");
            parse_response(head.as_bytes(), offered, "digest").map(|head| head.status).map_err(|_| ())
        };
        let switch = "Upgrade: WebSocket\r\nConnection: upgrade\r\nSec-WebSocket-Accept: digest\r\n";
        let none = HeaderBlock::new();
        assert_eq!(read(switch, &none), Ok(101));
        assert_eq!(read(&format!("{switch}Sec-WebSocket-Protocol: superchat\r\n"), &offered), Ok(101));
        for fields in [
            "Connection: upgrade\r\nSec-WebSocket-Accept: digest\r\n".to_owned(),
            "Upgrade: websocket\r\nSec-WebSocket-Accept: digest\r\n".to_owned(),
            switch.replace("digest", "other"),
            switch.replace("Sec-WebSocket-Accept: digest\r\n", ""),
            format!("{switch}Sec-WebSocket-Accept: digest\r\n"),
            format!("{switch}Sec-WebSocket-Extensions: permessage-deflate\r\n"),
            format!("{switch}Sec-WebSocket-Protocol: other\r\n"),
            format!("{switch}Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Protocol: superchat\r\n"),
        ] {
            assert_eq!(read(&fields, &offered), Err(()), "{fields}");
        }
        assert_eq!(read(&format!("{switch}Sec-WebSocket-Protocol: chat\r\n"), &none), Err(()));
        let refused = parse_response(b"HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\n", &none, "digest").expect("valid");
        assert_eq!((refused.status, refused.framing), (403, Framing::Length(2)));
    }
}
