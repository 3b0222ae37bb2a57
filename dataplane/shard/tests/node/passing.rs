//! Bodies that a Worker passes on unread: from socket to socket, whole, with back-pressure, and broken where they break.

use crate::common::{TestNode, active, eventually};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const PASSER: &str = r#"
export default {
  async fetch(request, env, ctx) {
    const url = new URL(request.url);
    const to = url.searchParams.get("to");
    switch (url.pathname) {
      case "/pass": return fetch(to);
      case "/up": return fetch(to, { method: "POST", body: request.body });
      case "/echo": return new Response(request.body);
      case "/wrap": { const r = await fetch(to); return new Response(r.body, r); }
      case "/identity": return new Response((await fetch(to)).body.pipeThrough(new IdentityTransformStream()));
      case "/fixed": return new Response((await fetch(to)).body.pipeThrough(new FixedLengthStream(Number(url.searchParams.get("n")))));
      case "/transform": return new Response((await fetch(to)).body.pipeThrough(new TransformStream({ transform(c, t) { t.enqueue(c); } })));
      case "/abort": {
        const abort = new AbortController();
        const r = await fetch(to, { signal: abort.signal });
        setTimeout(() => abort.abort(), 100);
        return new Response(r.body);
      }
    }
  }
}"#;

/// Bytes that show where they belong.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|index| ((index % 251) ^ (index / 65_537)) as u8).collect()
}

/// An origin that reads a head and hands the connection over.
fn origin(serve: impl Fn(&mut TcpStream, &str) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = listener.local_addr().expect("an address");
    let serve = Arc::new(serve);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let serve = serve.clone();
            std::thread::spawn(move || {
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") {
                    match stream.read(&mut byte) {
                        Ok(1) => head.push(byte[0]),
                        _ => return,
                    }
                }
                serve(&mut stream, &String::from_utf8_lossy(&head));
            });
        }
    });
    address
}

fn node() -> TestNode {
    TestNode::start(&[active("p", PASSER)], |_| {})
}

#[test]
fn bodies_of_all_framings_arrive_as_they_were() {
    let body = pattern(3_000_000);
    let sent = body.clone();
    let address = origin(move |stream, head| {
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        let head = match &path[..] {
            "/length" => format!("Content-Length: {}\r\n", sent.len()),
            "/chunked" => "Transfer-Encoding: chunked\r\n".to_owned(),
            _ => "Connection: close\r\n".to_owned(),
        };
        let _ = stream.write_all(format!("HTTP/1.1 200 OK\r\n{head}\r\n").as_bytes());
        for part in sent.chunks(70_001) {
            if path == "/chunked" {
                let _ = stream.write_all(format!("{:x}\r\n", part.len()).as_bytes());
            }
            let _ = stream.write_all(part);
            if path == "/chunked" {
                let _ = stream.write_all(b"\r\n");
            }
        }
        if path == "/chunked" {
            let _ = stream.write_all(b"0\r\n\r\n");
        }
    });
    let node = node();
    for route in ["/pass", "/wrap", "/identity", "/transform"] {
        for framing in ["/length", "/chunked", "/close"] {
            let response = node.connect().get("p", &format!("{route}?to=http://{address}{framing}"));
            assert_eq!(response.status, 200, "{route} {framing}");
            assert!(response.body == body, "{route} {framing}: {} bytes came, changed", response.body.len());
            let length = response.header("content-length").is_some();
            let known = framing == "/length" && matches!(route, "/pass" | "/wrap");
            assert_eq!(length, known, "{route} {framing}: {}", response.head);
        }
    }
}

#[test]
fn a_request_body_is_passed_on_with_its_length_and_back() {
    let address = origin(|stream, head| {
        let chunked = head.to_lowercase().contains("transfer-encoding: chunked");
        let length = head.to_lowercase();
        let length = length.split("content-length: ").nth(1).and_then(|tail| tail.split("\r\n").next());
        let length: usize = length.map_or(0, |length| length.parse().expect("a number"));
        let mut body = vec![0; length];
        stream.read_exact(&mut body).expect("the body comes");
        let _ = stream.write_all(
            format!("HTTP/1.1 200 OK\r\nX-Chunked: {chunked}\r\nContent-Length: {length}\r\n\r\n").as_bytes(),
        );
        let _ = stream.write_all(&body);
    });
    let node = node();
    let body = pattern(2_000_000);
    for path in [format!("/up?to=http://{address}/"), "/echo".to_owned()] {
        let mut client = node.connect();
        let head =
            format!("POST {path} HTTP/1.1\r\nHost: p.workers.localhost\r\nContent-Length: {}\r\n\r\n", body.len());
        let mut sender = client.stream.try_clone().expect("a second handle");
        let sent = body.clone();
        let sending = std::thread::spawn(move || {
            let _ = sender.write_all(head.as_bytes());
            let _ = sender.write_all(&sent);
        });
        let response = client.response();
        sending.join().expect("sent");
        assert_eq!(response.status, 200, "{path}");
        assert!(response.body == body, "{path}: {} bytes came back, changed", response.body.len());
        assert!(response.header("x-chunked").is_none_or(|chunked| chunked == "false"), "{}", response.head);
        // The connection goes on.
        client.send(b"GET /echo HTTP/1.1\r\nHost: p.workers.localhost\r\n\r\n");
        assert_eq!(client.response().status, 200, "{path}");
    }
}

/// An origin that sends for ever; tells how much.
fn endless() -> (SocketAddr, Arc<AtomicUsize>) {
    let sent = Arc::new(AtomicUsize::new(0));
    let count = sent.clone();
    let address = origin(move |stream, _| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        let mut chunk = b"10000\r\n".to_vec();
        chunk.extend_from_slice(&[b'x'; 0x10000]);
        chunk.extend_from_slice(b"\r\n");
        while stream.write_all(&chunk).is_ok() {
            count.fetch_add(0x10000, Ordering::SeqCst);
        }
        count.store(usize::MAX, Ordering::SeqCst);
    });
    (address, sent)
}

#[test]
fn a_reader_that_does_not_read_holds_the_origin_back_and_one_that_leaves_ends_it() {
    let (address, sent) = endless();
    let node = node();
    for route in ["/pass", "/identity", "/transform"] {
        sent.store(0, Ordering::SeqCst);
        let mut client = node.connect();
        client
            .send(format!("GET {route}?to=http://{address}/ HTTP/1.1\r\nHost: p.workers.localhost\r\n\r\n").as_bytes());
        assert_eq!(client.head().status, 200);
        std::thread::sleep(Duration::from_millis(700));
        let before = sent.load(Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(sent.load(Ordering::SeqCst), before, "{route}: the origin goes on for a client that does not read");
        assert!(before < 32 << 20, "{route}: {before} bytes for a client that does not read");
        drop(client);
        eventually("the origin's connection is closed", || sent.load(Ordering::SeqCst) == usize::MAX);
    }
}

#[test]
fn an_abort_breaks_what_is_passed_on() {
    let (address, sent) = endless();
    let node = node();
    let mut client = node.connect();
    client.send(format!("GET /abort?to=http://{address}/ HTTP/1.1\r\nHost: p.workers.localhost\r\n\r\n").as_bytes());
    let all = client.rest();
    assert!(!all.ends_with(b"0\r\n\r\n"), "it looks complete");
    eventually("the origin's connection is closed", || sent.load(Ordering::SeqCst) == usize::MAX);
}

#[test]
fn what_is_not_whole_is_not_ended() {
    let address = origin(|stream, head| {
        let framing = if head.contains("/chunked") {
            "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
        } else {
            "Content-Length: 100\r\n\r\nhello"
        };
        let _ = stream.write_all(format!("HTTP/1.1 200 OK\r\n{framing}").as_bytes());
    });
    let node = node();
    for route in ["/pass", "/identity", "/transform"] {
        for framing in ["/chunked", "/length"] {
            let mut client = node.connect();
            client.send(
                format!("GET {route}?to=http://{address}{framing} HTTP/1.1\r\nHost: p.workers.localhost\r\n\r\n")
                    .as_bytes(),
            );
            let all = client.rest();
            assert!(!all.ends_with(b"0\r\n\r\n"), "{route} {framing}: {}", all.escape_ascii());
            assert!(all.windows(5).any(|part| part == b"hello"), "{route} {framing}: {}", all.escape_ascii());
        }
    }
    assert!(node.metrics.shards().iter().map(|shard| shard.failures("broken_body")).sum::<u64>() >= 6);
}

#[test]
fn a_fixed_length_is_kept() {
    let address = origin(|stream, _| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
        std::thread::sleep(Duration::from_millis(50));
        let _ = stream.write_all(b"0\r\n\r\n");
    });
    let node = node();
    let response = node.connect().get("p", &format!("/fixed?n=5&to=http://{address}/"));
    assert_eq!((response.text(), response.header("content-length")), ("hello", Some("5")));
    for wrong in ["4", "6"] {
        let text = node
            .once(&format!("GET /fixed?n={wrong}&to=http://{address}/ HTTP/1.1\r\nHost: p.workers.localhost\r\n\r\n"));
        let body = text.split("\r\n\r\n").nth(1).unwrap_or_default();
        assert!(body.len() < wrong.parse().expect("a number"), "{wrong}: {text}");
    }
}
