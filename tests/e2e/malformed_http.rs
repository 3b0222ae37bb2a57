//! Malformed HTTP over raw sockets: the exact status, then the end of the connection, and nobody else is harmed.

use std::io::{Read, Write};
use std::time::Duration;

use e2e::http::{Connection, Request, get, raw};
use e2e::load::Load;
use e2e::platform::Platform;

const HOST: &str = "plain.workers.localhost";
const WORKER: &str = "export default { async fetch(request) {
  const body = await request.text();
  return new Response(request.method + ' ' + new URL(request.url).pathname + ' ' + body.length);
} };";
/// The connection must be closed within this.
const PATIENCE: Duration = Duration::from_secs(5);

#[test]
fn each_kind_of_malformed_request_gets_its_status_and_the_connection_ends() {
    let platform = Platform::start();
    let deployed = platform.deploy("plain", WORKER);
    assert_eq!(deployed.host, HOST);
    let load = Load::start(platform.http, HOST, 100);
    let long = "x".repeat(40 * 1024);
    let fields: String = (0..200).map(|i| format!("X-{i}: y\r\n")).collect();
    let host = format!("Host: {HOST}\r\n");
    let post = format!("POST / HTTP/1.1\r\n{host}");
    let table: Vec<(&str, String, u16)> = vec![
        ("no request line", "\r\n\r\nnonsense\r\n\r\n".into(), 400),
        ("one word", format!("GET\r\n{host}\r\n"), 400),
        ("two words", format!("GET /\r\n{host}\r\n"), 400),
        ("four words", format!("GET / x HTTP/1.1\r\n{host}\r\n"), 400),
        ("method with a control character", format!("G\x01T / HTTP/1.1\r\n{host}\r\n"), 400),
        ("HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(), 505),
        ("version 3", format!("GET / HTTP/3.0\r\n{host}\r\n"), 505),
        ("lower-case version", format!("GET / http/1.1\r\n{host}\r\n"), 400),
        ("NUL in the target", format!("GET /\0 HTTP/1.1\r\n{host}\r\n"), 400),
        ("TLS on a plain port", "\x16\x03\x01\x02\0\x01\0\x01\u{fc}\x03\x03\r\n\r\n".into(), 400),
        ("bare LF", format!("GET / HTTP/1.1\nHost: {HOST}\n\n"), 400),
        ("bare LF in a field", format!("GET / HTTP/1.1\r\n{host}A: b\nC: d\r\n\r\n"), 400),
        ("bare CR in a value", format!("GET / HTTP/1.1\r\n{host}A: b\rc\r\n\r\n"), 400),
        ("folded line", format!("GET / HTTP/1.1\r\n{host}A: b\r\n c\r\n\r\n"), 400),
        ("space before a colon", format!("GET / HTTP/1.1\r\n{host}A : b\r\n\r\n"), 400),
        ("field without a colon", format!("GET / HTTP/1.1\r\n{host}nonsense\r\n\r\n"), 400),
        ("field without a name", format!("GET / HTTP/1.1\r\n{host}: x\r\n\r\n"), 400),
        ("NUL in a value", format!("GET / HTTP/1.1\r\n{host}A: \0\r\n\r\n"), 400),
        ("no Host", "GET / HTTP/1.1\r\n\r\n".into(), 400),
        ("two Hosts", format!("GET / HTTP/1.1\r\n{host}{host}\r\n"), 400),
        (
            "Content-Length and Transfer-Encoding",
            format!("{post}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
            400,
        ),
        ("two Content-Lengths", format!("{post}Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!"), 400),
        ("a list of Content-Lengths", format!("{post}Content-Length: 5, 6\r\n\r\nhello!"), 400),
        ("negative Content-Length", format!("{post}Content-Length: -1\r\n\r\n"), 400),
        ("signed Content-Length", format!("{post}Content-Length: +5\r\n\r\nhello"), 400),
        ("hexadecimal Content-Length", format!("{post}Content-Length: 0x5\r\n\r\nhello"), 400),
        ("Content-Length past 64 bits", format!("{post}Content-Length: 99999999999999999999\r\n\r\n"), 400),
        ("Content-Length over the limit", format!("{post}Content-Length: 104857601\r\n\r\n"), 413),
        ("no final chunked coding", format!("{post}Transfer-Encoding: gzip\r\n\r\n"), 400),
        ("unknown transfer coding", format!("{post}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"), 501),
        ("chunked twice", format!("{post}Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"), 400),
        ("chunked not last", format!("{post}Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n"), 400),
        ("chunked with a vertical tab", format!("{post}Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n"), 400),
        ("long target", format!("GET /{} HTTP/1.1\r\n{host}\r\n", &long[..20 * 1024]), 414),
        ("long field", format!("GET / HTTP/1.1\r\n{host}A: {long}\r\n\r\n"), 431),
        ("long field name", format!("GET / HTTP/1.1\r\n{host}{long}: a\r\n\r\n"), 431),
        ("many fields", format!("GET / HTTP/1.1\r\n{host}{fields}\r\n"), 431),
        ("another expectation", format!("{post}Expect: 200-ok\r\nContent-Length: 0\r\n\r\n"), 417),
    ];
    let mut wrong = Vec::new();
    for (what, bytes, status) in &table {
        let answer = raw(platform.http, bytes.as_bytes(), PATIENCE).expect("the node accepts");
        let statuses = answer.statuses();
        // Transfer codings that nobody has may be told apart or not: both refusals are RFC 9112's.
        let fits = statuses.len() == 1
            && (statuses[0] == *status || (what.contains("chunked") && [400, 501].contains(&statuses[0])));
        if !fits || !answer.closed {
            wrong.push(format!("{what}: expected {status} and close, got {statuses:?}, closed {}", answer.closed));
        }
    }
    let seen = load.finish();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(seen.failures, 0, "{:?}", seen.failure_texts);
    assert_eq!(get(platform.http, HOST, "/").text(), "GET / 0");
}

#[test]
fn malformed_bodies_end_the_connection_and_smuggle_nothing() {
    let platform = Platform::start();
    platform.deploy("plain", WORKER);
    let head = format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n");
    let second = format!("GET /smuggled HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    for body in [
        "x\r\n",
        "-1\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhelloworld\r\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "ffffffffffffffffff\r\n",
        " 5\r\nhello\r\n0\r\n\r\n",
        "5 \r\nhello\r\n0\r\n\r\n",
        "0\r\nTrailer\r\n\r\n",
        "0\n\n",
    ] {
        let answer =
            raw(platform.http, format!("{head}{body}{second}").as_bytes(), PATIENCE).expect("the node accepts");
        let text = String::from_utf8_lossy(&answer.bytes).into_owned();
        assert!(answer.closed, "{body:?}: {text}");
        assert!(!text.contains("/smuggled"), "{body:?}: the rest was taken for a request: {text}");
        assert!(answer.statuses().iter().all(|status| (400..600).contains(status)), "{body:?}: {text}");
    }
    assert_eq!(get(platform.http, HOST, "/").status, 200);
}

#[test]
fn what_is_unusual_but_right_is_served() {
    let platform = Platform::start();
    platform.deploy("plain", WORKER);
    let check = |what: &str, bytes: &str, texts: &[&str]| {
        let answer = raw(platform.http, bytes.as_bytes(), Duration::from_millis(700)).expect("the node accepts");
        let text = String::from_utf8_lossy(&answer.bytes).into_owned();
        assert_eq!(answer.statuses().iter().filter(|status| **status == 200).count(), texts.len(), "{what}: {text}");
        let mut rest = text.as_str();
        for expect in texts {
            let at = rest.find(expect).unwrap_or_else(|| panic!("{what}: no {expect:?} in {text}"));
            rest = &rest[at + expect.len()..];
        }
    };
    let host = format!("Host: {HOST}\r\n");
    check(
        "pipelining",
        &format!("GET /a HTTP/1.1\r\n{host}\r\nGET /b HTTP/1.1\r\n{host}\r\nGET /c HTTP/1.1\r\n{host}\r\n"),
        &["GET /a 0", "GET /b 0", "GET /c 0"],
    );
    check("an empty line before", &format!("\r\nGET /a HTTP/1.1\r\n{host}\r\n"), &["GET /a 0"]);
    check("absolute form", &format!("GET http://{HOST}/abs HTTP/1.1\r\n{host}\r\n"), &["GET /abs 0"]);
    check(
        "chunked with extension and trailer",
        &format!("POST /t HTTP/1.1\r\n{host}Transfer-Encoding: Chunked\r\n\r\n5;a=b\r\nhello\r\n00\r\nT: x\r\n\r\n"),
        &["POST /t 5"],
    );
    check("HTTP/1.0", &format!("GET /old HTTP/1.0\r\n{host}\r\n"), &["GET /old 0"]);
    check(
        "a body and the next request",
        &format!("POST /p HTTP/1.1\r\n{host}Content-Length: 3\r\n\r\nabcGET /q HTTP/1.1\r\n{host}\r\n"),
        &["POST /p 3", "GET /q 0"],
    );

    // 100-continue comes before the body is sent.
    let mut connection = Connection::open(platform.http).expect("the node accepts");
    let head = format!("POST /e HTTP/1.1\r\n{host}Expect: 100-continue\r\nContent-Length: 2\r\n\r\n");
    connection.stream().write_all(head.as_bytes()).expect("sent");
    assert_eq!(connection.head().expect("an interim response").0, 100);
    connection.stream().write_all(b"ok").expect("sent");
    assert_eq!(connection.reply(false).expect("a response").text(), "POST /e 2");

    // A client that has sent all and shuts its side down still gets the answer.
    let mut connection = Connection::open(platform.http).expect("the node accepts");
    connection.stream().write_all(&Request::new("GET", HOST, "/half").bytes()).expect("sent");
    connection.stream().shutdown(std::net::Shutdown::Write).expect("shut down");
    assert_eq!(connection.reply(false).expect("a response").text(), "GET /half 0");

    // HEAD has the head of GET and no body; the connection goes on.
    let mut connection = Connection::open(platform.http).expect("the node accepts");
    let reply = connection.exchange(&Request::new("HEAD", HOST, "/h")).expect("a response");
    assert_eq!((reply.status, reply.body.len()), (200, 0));
    assert_eq!(connection.exchange(&Request::new("GET", HOST, "/g")).expect("a response").text(), "GET /g 0");

    // One byte at a time.
    let mut connection = Connection::open(platform.http).expect("the node accepts");
    for byte in Request::new("POST", HOST, "/slow").body("12345").bytes() {
        connection.stream().write_all(&[byte]).expect("sent");
    }
    assert_eq!(connection.reply(false).expect("a response").text(), "POST /slow 5");
}

#[test]
fn a_client_that_sends_no_head_is_cut_off() {
    let platform = Platform::start();
    platform.deploy("plain", WORKER);
    let mut slow = Connection::open(platform.http).expect("the node accepts");
    slow.stream().write_all(b"GET / HTTP/1.1\r\nHost: ").expect("sent");
    // dataplane/base: HEAD_TIMEOUT_NS is 15 s.
    slow.stream().set_read_timeout(Some(Duration::from_secs(25))).expect("a timeout");
    let mut answer = Vec::new();
    slow.stream().read_to_end(&mut answer).expect("the node closes in time");
    let text = String::from_utf8_lossy(&answer);
    assert!(answer.is_empty() || text.starts_with("HTTP/1.1 408 "), "{text}");
    assert_eq!(get(platform.http, HOST, "/").status, 200);
}
