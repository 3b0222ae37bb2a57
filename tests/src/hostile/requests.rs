//! Hostile requests from a seed: noise, halves, floods, spoilt good ones, and bodies whose framing lies.

use crate::random::Random;

/// The host that most of them name.
pub const HOST: &str = "victim.workers.localhost";
/// The Worker that is deployed there: it reads what it is sent.
pub const WORKER: &str = "export default { async fetch(request) {
  if (request.body) { for await (const chunk of request.body) { chunk.length; } }
  return new Response('fine');
} };";

/// One hostile request: a good one with some of it spoilt, or no request at all.
pub fn nth(random: &mut Random) -> Vec<u8> {
    match random.below(12) {
        0 => {
            let length = random.below(4_000);
            random.bytes(length)
        }
        1 => {
            let mut bytes = good(random);
            bytes.truncate(random.below(bytes.len()));
            bytes
        }
        2 => vec![b"A\r\n \0:/"[random.below(7)]; random.below(70_000)],
        3 => framing(random),
        4 => chunks(random),
        5 => {
            // Fields without end.
            let mut text = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n");
            for i in 0..random.below(3_000) {
                text.push_str(&format!("X{i}: {}\r\n", "v".repeat(random.below(30))));
            }
            text.into_bytes()
        }
        6 => {
            let pipelined = 1 + random.below(200);
            let one = good(random);
            one.iter().copied().cycle().take(one.len() * pipelined).collect()
        }
        _ => {
            let mut bytes = good(random);
            for _ in 0..1 + random.below(8) {
                spoil(random, &mut bytes);
            }
            bytes
        }
    }
}

fn good(random: &mut Random) -> Vec<u8> {
    let method = *random.pick(&["GET", "POST", "PUT", "HEAD", "OPTIONS", "DELETE", "PATCH", "TRACE", "CONNECT", "X-Y"]);
    let target =
        *random.pick(&["/", "/a/../b", "*", "//", "/%00%ff", "/?a=b&c", "http://x/y", "/\u{fc}", "x:80", "/#f"]);
    let host = *random.pick(&[HOST, "", "x", "[::1]", "a..b", "victim.workers.localhost:99999", "\u{fc}.example", "*"]);
    let extra = *random.pick(&[
        "",
        "Connection: close\r\n",
        "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n",
        "Expect: 100-continue\r\nContent-Length: 3\r\n",
        "Range: bytes=0-,-1,5-2\r\n",
        "Content-Length: 0\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Cookie: a=b; c\r\nCookie: d\r\n",
    ]);
    format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n{extra}\r\n").into_bytes()
}

fn spoil(random: &mut Random, bytes: &mut Vec<u8>) {
    if bytes.is_empty() {
        return;
    }
    let at = random.below(bytes.len());
    match random.below(5) {
        0 => bytes[at] = random.bits() as u8,
        1 => {
            bytes.remove(at);
        }
        2 => bytes.insert(at, *random.pick(b"\r\n\0 \t:;,\x7f\xff")),
        3 => {
            let end = (at + random.below(40)).min(bytes.len());
            let copy = bytes[at..end].to_vec();
            bytes.splice(at..at, copy);
        }
        _ => bytes[at] ^= 1 << random.below(8),
    }
}

/// Bodies whose length is told in more than one way, or wrongly.
fn framing(random: &mut Random) -> Vec<u8> {
    let lengths =
        ["0", "1", "5", "-1", "+1", "1e3", "0x10", "18446744073709551616", "9223372036854775808", " 5", "5,5", ""];
    let codings =
        ["chunked", "Chunked", "chunked, chunked", "identity", "gzip, chunked", "chunked;q=1", "\tchunked", "x"];
    let mut text = format!("POST / HTTP/1.1\r\nHost: {HOST}\r\n");
    for _ in 0..random.below(3) {
        text.push_str(&format!("Content-Length: {}\r\n", random.pick(&lengths)));
    }
    for _ in 0..random.below(3) {
        text.push_str(&format!("Transfer-Encoding: {}\r\n", random.pick(&codings)));
    }
    text.push_str("\r\n5\r\nhello\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n");
    text.into_bytes()
}

/// Chunked bodies that are not.
fn chunks(random: &mut Random) -> Vec<u8> {
    let sizes = [
        "5",
        "0",
        "ffffffff",
        "ffffffffffffffff",
        "5;x=\"\r\n\"",
        "-5",
        "g",
        "",
        "00000000000000000000005",
        "5 ",
        "7fffffffffffffff",
    ];
    let mut bytes = format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n").into_bytes();
    for _ in 0..1 + random.below(20) {
        bytes.extend_from_slice(random.pick(&sizes).as_bytes());
        bytes.extend_from_slice(random.pick(&["\r\n", "\n", "\r", ""]).as_bytes());
        bytes.extend_from_slice(random.pick(&["hello\r\n", "hello", "", "\r\n", "hello\n"]).as_bytes());
    }
    bytes
}
