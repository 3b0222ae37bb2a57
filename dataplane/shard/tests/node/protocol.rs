//! HTTP/1.1 on the wire: connections, heads, bodies, time limits.

use crate::common::{Client, TestNode, active, get};
use base::limits::MS_NS;
use std::net::Shutdown;
use std::time::{Duration, Instant};

const ECHO: &str = r#"
export default {
  async fetch(request) {
    const url = new URL(request.url);
    if (url.pathname === "/text") return new Response(await request.text(), { headers: { "x-method": request.method } });
    if (url.pathname === "/stream") return new Response(request.body);
    if (url.pathname === "/ignore") return new Response("ignored");
    if (url.pathname === "/204") return new Response(null, { status: 204 });
    if (url.pathname === "/slow") { await new Promise((done) => setTimeout(done, 100)); return new Response("slow"); }
    if (url.pathname === "/url") return new Response(request.url);
    if (url.pathname === "/host") return new Response(request.headers.get("host"));
    if (url.pathname === "/framing") return new Response("ok", { headers: { "content-length": "99", "connection": "x", "x-deployment-version": "forged" } });
    return new Response("hello " + url.pathname + url.search);
  }
}"#;

fn echo() -> TestNode {
    TestNode::start(&[active("a", ECHO)], |_| {})
}

#[test]
fn keep_alive_version_header_and_date() {
    let node = echo();
    let mut client = node.connect();
    for path in ["/1", "/2?x=y", "/3"] {
        let response = client.get("a", path);
        assert_eq!((response.status, response.text()), (200, format!("hello {path}").as_str()));
        assert_eq!(response.header("x-deployment-version"), Some("v1"));
        assert!(response.header("date").is_some_and(|date| date.ends_with(" GMT") && date.len() == 29));
        assert_eq!(response.header("connection"), None);
    }
}

#[test]
fn framing_fields_of_the_worker_are_not_believed() {
    let node = echo();
    let response = node.connect().get("a", "/framing");
    assert_eq!(response.header("content-length"), Some("2"));
    assert_eq!((response.header("connection"), response.header("x-deployment-version")), (None, Some("v1")));
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let node = echo();
    let mut client = node.connect();
    let mut requests = String::new();
    for index in 0..200 {
        // A slow one in the middle holds up those behind it, and nothing else.
        requests.push_str(&get("a", &if index == 50 { "/slow".to_owned() } else { format!("/{index}") }));
    }
    client.send(requests.as_bytes());
    for index in 0..200 {
        let expect = if index == 50 { "slow".to_owned() } else { format!("hello /{index}") };
        assert_eq!(client.response().text(), expect);
    }
}

#[test]
fn a_request_may_come_byte_by_byte() {
    let node = echo();
    let mut client = node.connect();
    let request = "POST /text HTTP/1.1\r\nHost: a.workers.localhost\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n1\r\n!\r\n0\r\nT: v\r\n\r\n";
    for byte in request.as_bytes() {
        client.send(&[*byte]);
    }
    assert_eq!(client.response().text(), "hello!");
    assert_eq!(client.get("a", "/next").text(), "hello /next");
}

#[test]
fn bodies_by_length_and_by_chunks() {
    let node = echo();
    let mut client = node.connect();
    client.send(b"POST /text HTTP/1.1\r\nHost: a.workers.localhost\r\nContent-Length: 5\r\n\r\nhelloGET /x HTTP/1.1\r\nHost: a.workers.localhost\r\n\r\n");
    assert_eq!(client.response().text(), "hello");
    assert_eq!(client.response().text(), "hello /x");
    client.send(b"PUT /stream HTTP/1.1\r\nHost: a.workers.localhost\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
    let head = client.head();
    assert_eq!((head.status, head.header("transfer-encoding")), (200, Some("chunked")));
    assert_eq!(client.chunk().as_deref(), Some(&b"abc"[..]), "a chunk comes back before the body is complete");
    client.send(b"2\r\nde\r\n0\r\n\r\n");
    assert_eq!(client.chunk().as_deref(), Some(&b"de"[..]));
    assert_eq!(client.chunk(), None);
    assert_eq!(client.get("a", "/y").text(), "hello /y");
}

#[test]
fn a_body_that_nobody_reads_does_not_disturb_the_next_request() {
    let node = echo();
    let mut client = node.connect();
    client.send(b"POST /ignore HTTP/1.1\r\nHost: a.workers.localhost\r\nContent-Length: 100000\r\n\r\n");
    assert_eq!(client.response().text(), "ignored");
    client.send(&vec![b'G'; 100_000]);
    assert_eq!(client.get("a", "/next").text(), "hello /next");
    // A rest that is too long costs the connection.
    client.send(b"POST /ignore HTTP/1.1\r\nHost: a.workers.localhost\r\nContent-Length: 10000000\r\n\r\n");
    assert_eq!(client.response().text(), "ignored");
    for _ in 0..100 {
        client.send(&[b'G'; 100_000]);
    }
    assert!(client.is_closed());
}

#[test]
fn continue_is_sent_when_the_worker_reads() {
    let node = echo();
    let mut client = node.connect();
    let request = |path| {
        format!(
            "POST {path} HTTP/1.1\r\nHost: a.workers.localhost\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
        )
    };
    client.send(request("/text").as_bytes());
    assert_eq!(client.head().status, 100);
    client.send(b"hello");
    assert_eq!(client.response().text(), "hello");
    // A Worker that does not read: no 100, the final answer, and the connection ends.
    client.send(request("/ignore").as_bytes());
    let response = client.response();
    assert_eq!((response.status, response.text(), response.header("connection")), (200, "ignored", Some("close")));
    assert!(client.is_closed());
}

#[test]
fn head_and_204_have_no_body() {
    let node = echo();
    let mut client = node.connect();
    client.send(b"HEAD /x HTTP/1.1\r\nHost: a.workers.localhost\r\n\r\n");
    let head = client.head();
    assert_eq!((head.status, head.header("content-length")), (200, Some("8")));
    let empty = client.get("a", "/204");
    assert_eq!((empty.status, empty.header("content-length"), empty.header("transfer-encoding")), (204, None, None));
    assert_eq!(client.get("a", "/y").text(), "hello /y");
}

#[test]
fn http_1_0_closes_unless_asked_not_to() {
    let node = echo();
    let text = node.once("GET /x HTTP/1.0\r\nHost: a.workers.localhost\r\n\r\n");
    assert!(text.contains("Connection: close\r\n") && text.ends_with("hello /x"), "{text}");
    let mut client = node.connect();
    client.send(b"GET /x HTTP/1.0\r\nHost: a.workers.localhost\r\nConnection: keep-alive\r\n\r\n");
    assert_eq!(client.response().header("connection"), Some("keep-alive"));
    client.send(b"POST /stream HTTP/1.0\r\nHost: a.workers.localhost\r\nContent-Length: 3\r\n\r\nabc");
    let response = client.response();
    assert_eq!((response.header("transfer-encoding"), response.text()), (None, "abc"));
    assert!(client.is_closed());
}

#[test]
fn a_client_may_close_its_half_and_still_gets_its_answer() {
    let node = echo();
    let mut client = node.connect();
    client.send(get("a", "/slow").as_bytes());
    client.stream.shutdown(Shutdown::Write).expect("half closed");
    assert_eq!(client.response().text(), "slow");
    assert!(client.is_closed());
}

#[test]
fn targets_reach_the_worker_as_urls() {
    let node = echo();
    let mut client = node.connect();
    client.send(b"GET http://A.workers.localhost:99/url?q HTTP/1.1\r\nHost: other\r\n\r\n");
    assert_eq!(client.response().text(), "http://a.workers.localhost:99/url?q");
    client.send(b"GET http://a.workers.localhost/host HTTP/1.1\r\nHost: other\r\n\r\n");
    assert_eq!(client.response().text(), "a.workers.localhost");
    client.send(b"OPTIONS * HTTP/1.1\r\nHost: a.workers.localhost\r\n\r\n");
    assert_eq!(client.response().status, 200);
}

#[test]
fn limits_are_answered_and_close() {
    let node = echo();
    let host = "Host: a.workers.localhost\r\n";
    for (request, status) in [
        (format!("GET /{} HTTP/1.1\r\n{host}\r\n", "x".repeat(17 * 1024)), 414),
        (format!("GET / HTTP/1.1\r\n{host}X: {}\r\n\r\n", "x".repeat(33 * 1024)), 431),
        (format!("GET / HTTP/1.1\r\n{host}{}\r\n", "X: y\r\n".repeat(128)), 431),
        (format!("POST / HTTP/1.1\r\n{host}Content-Length: 104857601\r\n\r\n"), 413),
        (format!("POST / HTTP/1.1\r\n{host}Expect: more\r\n\r\n"), 417),
        (format!("GET / HTTP/1.1\n{host}\r\n"), 400),
        (format!("POST / HTTP/1.1\r\n{host}Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"), 400),
        (format!("GET / HTTP/3.0\r\n{host}\r\n"), 505),
    ] {
        let mut client = node.connect();
        client.send(request.as_bytes());
        let response = client.response();
        assert_eq!((response.status, response.header("connection")), (status, Some("close")));
        assert!(client.is_closed());
    }
    assert_eq!(node.connect().get("a", "/ok").status, 200);
    let chunk_too_many = format!("POST /text HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\n\r\n6400001\r\n");
    assert_eq!(node.status(&chunk_too_many), 413);
    let broken_chunk = format!("POST /text HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\n\r\n5\nhello");
    assert_eq!(node.status(&broken_chunk), 400);
}

fn impatient() -> TestNode {
    TestNode::start(&[active("a", ECHO)], |config| {
        config.timeouts.head_ns = 300 * MS_NS;
        config.timeouts.idle_ns = 300 * MS_NS;
        config.timeouts.stall_ns = 300 * MS_NS;
    })
}

fn takes_about_300_ms(what: impl FnOnce()) {
    let start = Instant::now();
    what();
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(250) && took < Duration::from_secs(10), "took {took:?}");
}

#[test]
fn a_head_that_does_not_come_is_answered_408() {
    let node = impatient();
    let mut client = node.connect();
    takes_about_300_ms(|| {
        client.send(b"GET / HTTP/1.1\r\nHost: a");
        let response = client.response();
        assert_eq!((response.status, response.header("connection")), (408, Some("close")));
    });
}

#[test]
fn a_slow_drip_does_not_prolong_the_head() {
    let node = impatient();
    let mut client = node.connect();
    let start = Instant::now();
    client.send(b"GET / HTTP/1.1\r\n");
    client.stream.set_read_timeout(Some(Duration::from_millis(20))).expect("set");
    let mut answered = false;
    while start.elapsed() < Duration::from_secs(5) && !answered {
        client.send(b"X: y\r\n");
        answered = std::io::Read::read(&mut &client.stream, &mut [0; 16]).is_ok_and(|len| len > 0);
    }
    assert!(answered && start.elapsed() >= Duration::from_millis(250), "{:?}", start.elapsed());
}

#[test]
fn idle_connections_are_closed() {
    let node = impatient();
    takes_about_300_ms(|| assert!(node.connect().is_closed()));
    let mut client = node.connect();
    assert_eq!(client.get("a", "/").status, 200);
    takes_about_300_ms(|| assert!(client.is_closed()));
}

#[test]
fn a_body_that_stalls_is_answered_408() {
    let node = impatient();
    let mut client = node.connect();
    takes_about_300_ms(|| {
        client.send(b"POST /text HTTP/1.1\r\nHost: a.workers.localhost\r\nContent-Length: 5\r\n\r\nhe");
        assert_eq!(client.response().status, 408);
    });
    assert!(client.is_closed());
    assert_eq!(node.connect().get("a", "/ok").status, 200);
}

#[test]
fn connections_over_the_limit_are_closed() {
    let node = TestNode::start(&[active("a", ECHO)], |config| config.connections_per_shard_max = 2);
    let mut kept: Vec<Client> = (0..2).map(|_| node.connect()).collect();
    for client in &mut kept {
        assert_eq!(client.get("a", "/").status, 200);
    }
    assert!(node.connect().is_closed());
    assert_eq!(node.metrics.shards()[0].connections_refused.get(), 1);
    kept.pop();
    crate::common::eventually("a place is free again", || {
        let mut client = node.connect();
        client.send(b"GET / HTTP/1.0\r\nHost: a.workers.localhost\r\n\r\n");
        client.rest().starts_with(b"HTTP/1.1 200")
    });
}
