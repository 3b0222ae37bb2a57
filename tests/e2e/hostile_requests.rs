//! 10,000 hostile requests from a seed: the node's process is the same one afterwards, and others were served all the while.

use std::time::{Duration, Instant};

use e2e::full;
use e2e::http::{get, raw};
use e2e::load::Load;
use e2e::platform::Platform;
use e2e::random::Random;

const HOST: &str = "victim.workers.localhost";
const WORKER: &str = "export default { async fetch(request) {
  if (request.body) { for await (const chunk of request.body) { chunk.length; } }
  return new Response('fine');
} };";
/// Threads that attack.
const ATTACKERS: u64 = 4;

#[test]
fn hostile_requests_harm_nobody() {
    let mut platform = Platform::start();
    platform.deploy("victim", WORKER);
    let total: u64 = if full() { 10_000 } else { 2_000 };
    let pid = platform.node.pid();
    let load = Load::start(platform.http, HOST, 100);
    let begun = Instant::now();
    let attackers: Vec<_> = (0..ATTACKERS)
        .map(|attacker| {
            let (address, mut random) = (platform.http, Random::new(0x5e1_7a6e + attacker));
            std::thread::spawn(move || {
                for _ in 0..total / ATTACKERS {
                    let bytes = hostile(&mut random);
                    // Whatever it says is fine; that it accepts at all is the point.
                    let patience = Duration::from_millis(if random.one_in(50) { 200 } else { 5 });
                    raw(address, &bytes, patience).unwrap_or_else(|error| {
                        panic!("the node does not accept: {error}, after {:?}", String::from_utf8_lossy(&bytes))
                    });
                }
            })
        })
        .collect();
    for attacker in attackers {
        attacker.join().expect("the node accepted every connection");
    }
    let seen = load.finish();
    println!("{total} hostile requests in {:?}; load: {}", begun.elapsed(), seen.summary());
    assert!(platform.node.is_running(), "{}", platform.node.log_tail());
    assert_eq!(platform.node.pid(), pid);
    assert_eq!(seen.failures, 0, "{:?}", seen.failure_texts);
    assert_eq!(get(platform.http, HOST, "/").text(), "fine");
}

/// One hostile request: a good one with some of it spoilt, or no request at all.
fn hostile(random: &mut Random) -> Vec<u8> {
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
