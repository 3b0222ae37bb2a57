//! Origins that break the protocol, by mistake or by intent: each costs its own request an error that the program can catch, and
//! its connection; nothing else.

use crate::common::{TestNode, active, eventually};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const FETCHER: &str = r#"
export default {
  async fetch(request) {
    const url = new URL(request.url);
    const to = url.searchParams.get("to");
    let at = "head";
    try {
      switch (url.pathname) {
        case "/header": return await fetch(to, { headers: { "X-A": "b\r\nInjected: yes" } });
        case "/name": return await fetch(to, { headers: { "X-A: b\r\nInjected": "yes" } });
        case "/method": return await fetch(to, { method: "GET / HTTP/1.1\r\nInjected: yes\r\n\r\nGET" });
        case "/url": return new Response(await (await fetch(to + "a\r\nInjected: yes")).text());
      }
      const response = await fetch(to);
      at = "body";
      return new Response("whole " + (await response.text()).length);
    } catch (error) {
      return new Response(`${at} ${error instanceof TypeError} ${error.name}: ${error.message}`);
    }
  }
}"#;

/// An origin that reads a head and then does as it likes; tells how many connections it had, and how many of those are open.
struct Origin {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    open: Arc<AtomicUsize>,
}

fn origin(misbehave: impl Fn(&mut TcpStream) + Send + Sync + 'static) -> Origin {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = listener.local_addr().expect("an address");
    let (connections, open) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (counted, opened) = (connections.clone(), open.clone());
    let misbehave = Arc::new(misbehave);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            counted.fetch_add(1, Ordering::SeqCst);
            opened.fetch_add(1, Ordering::SeqCst);
            let (misbehave, opened) = (misbehave.clone(), opened.clone());
            std::thread::spawn(move || {
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
                    head.push(byte[0]);
                }
                misbehave(&mut stream);
                // Open until the node closes it.
                let mut rest = [0; 1024];
                while matches!(stream.read(&mut rest), Ok(len) if len > 0) {}
                opened.fetch_sub(1, Ordering::SeqCst);
            });
        }
    });
    Origin { address, connections, open }
}

fn node() -> TestNode {
    TestNode::start(&[active("f", FETCHER)], |config| {
        config.timeouts.origin_head_ns = 300_000_000;
        config.timeouts.stall_ns = 500_000_000;
    })
}

fn fetch(node: &TestNode, path: &str, to: &str) -> String {
    node.connect().get("f", &format!("{path}?to={to}")).text().to_owned()
}

/// Asks twice: each must end as `expect` says, on a connection of its own that is closed then.
fn check(what: &str, expect: &str, misbehave: impl Fn(&mut TcpStream) + Send + Sync + 'static) {
    let origin = origin(misbehave);
    let node = node();
    for _ in 0..2 {
        let begun = Instant::now();
        let text = fetch(&node, "/", &format!("http://{}/", origin.address));
        assert!(text.starts_with(expect), "{what}: {text}");
        assert!(begun.elapsed() < Duration::from_secs(5), "{what}: after {:?}", begun.elapsed());
    }
    assert_eq!(origin.connections.load(Ordering::SeqCst), 2, "{what}: a connection was used again");
    eventually(what, || origin.open.load(Ordering::SeqCst) == 0);
}

fn say(text: &'static str) -> impl Fn(&mut TcpStream) + Send + Sync + 'static {
    move |stream| {
        let _ = stream.write_all(text.as_bytes());
    }
}

fn say_and_leave(text: &'static str) -> impl Fn(&mut TcpStream) + Send + Sync + 'static {
    move |stream| {
        let _ = stream.write_all(text.as_bytes());
        let _ = stream.shutdown(std::net::Shutdown::Both);
    }
}

#[test]
fn bodies_that_end_early() {
    check("length", "body true TypeError", say_and_leave("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort"));
    check(
        "chunk",
        "body true TypeError",
        say_and_leave("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab"),
    );
    check("stall", "body true TypeError", say("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort"));
}

#[test]
fn bodies_that_are_longer_than_they_say() {
    check("length", "whole 2", say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok and more"));
    check(
        "another response",
        "whole 2",
        say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    );
    check(
        "chunk",
        "body true TypeError",
        say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nokay\r\n0\r\n\r\n"),
    );
}

#[test]
fn heads_that_are_none() {
    check("garbage", "head true TypeError", say("\x01\x02\x03 what is this\r\n\r\n"));
    check("another protocol", "head true TypeError", say("220 mail.example ESMTP\r\n\r\n"));
    check(
        "two lengths",
        "head true TypeError",
        say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc"),
    );
    check("folded", "head true TypeError", say("HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n"));
    check("NUL", "head true TypeError", say("HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 0\r\n\r\n"));
    check("unasked upgrade", "head true TypeError", say("HTTP/1.1 101 Switching Protocols\r\n\r\n"));
    check("status", "head true TypeError", say("HTTP/1.1 999 Odd\r\nContent-Length: 0\r\n\r\n"));
}

#[test]
fn heads_that_do_not_end() {
    check("a giant one", "head true TypeError", |stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n");
        for _ in 0..200 {
            if stream.write_all(&[b"X: ".as_slice(), &[b'y'; 1000], b"\r\n"].concat()).is_err() {
                return;
            }
        }
    });
    check("interim heads for ever", "head true TypeError", |stream| {
        while stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").is_ok() {}
    });
    check("a byte at a time", "head true TypeError: the origin did not answer in time", |stream| {
        for byte in b"HTTP/1.1 200 OK\r\nX: ".iter().chain(std::iter::repeat_n(&b'y', 2_000)) {
            if stream.write_all(&[*byte]).is_err() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    check("silence", "head true TypeError: the origin did not answer in time", |_| {});
}

#[test]
fn redirects_that_do_not_end() {
    let origin = origin(|stream| {
        let mut rest = [0; 1024];
        loop {
            let _ = stream.write_all(b"HTTP/1.1 302 Found\r\nLocation: /again\r\nContent-Length: 0\r\n\r\n");
            if !matches!(stream.read(&mut rest), Ok(len) if len > 0) {
                return;
            }
        }
    });
    let node = node();
    let text = fetch(&node, "/", &format!("http://{}/", origin.address));
    assert_eq!(text, "head true TypeError: Too many redirects");
    // A redirect to where no Worker may go, of a scheme that is none, with credentials.
    for (location, expect) in
        [("ftp://127.0.0.1/", "Fetch API cannot load"), ("http://user:secret@127.0.0.1/", "no credentials")]
    {
        let head = format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n");
        let origin = self::origin(move |stream| {
            let _ = stream.write_all(head.as_bytes());
        });
        let text = fetch(&node, "/", &format!("http://{}/", origin.address));
        assert!(
            text.starts_with("head true TypeError") && text.contains(expect) && !text.contains("secret"),
            "{location}: {text}"
        );
    }
}

#[test]
fn a_redirect_inwards_is_refused_like_any_other_request() {
    let inside = origin(say("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\ninside"));
    let node = TestNode::start(&[active("f", FETCHER)], |config| config.allow_private_fetch = false);
    // By name, by address in other forms, and by what is mapped into IPv6.
    let port = inside.address.port();
    for to in [
        format!("http://localhost:{port}/"),
        format!("http://127.1:{port}/"),
        format!("http://2130706433:{port}/"),
        format!("http://0x7f.0.0.1:{port}/"),
        format!("http://[::1]:{port}/"),
        format!("http://[::ffff:7f00:1]:{port}/"),
        format!("http://[64:ff9b::7f00:1]:{port}/"),
        format!("http://[2002:7f00:1::]:{port}/"),
        format!("http://0.0.0.0:{port}/"),
        format!("http://100.64.0.1:{port}/"),
        format!("http://[fe80::1]:{port}/"),
        format!("http://[fd00::1]:{port}/"),
        "http://169.254.169.254/latest/meta-data/".to_owned(),
    ] {
        let text = fetch(&node, "/", &to);
        assert!(text.contains("not a public address"), "{to}: {text}");
    }
    assert_eq!(inside.connections.load(Ordering::SeqCst), 0);
}

#[test]
fn nothing_is_injected_into_a_request() {
    let node = node();
    for path in ["/header", "/name", "/method"] {
        let text = fetch(&node, path, "http://127.0.0.1:1/");
        assert!(text.starts_with("head true TypeError"), "{path}: {text}");
    }
    let origin = crate::fetching::origin(|_, _, head, _| crate::fetching::ok(head));
    let text = fetch(&node, "/url", &format!("http://{}/", origin.address));
    // The URL standard drops line breaks.
    assert!(text.starts_with("GET /aInjected:%20yes HTTP/1.1\r\n") && !text.contains("\r\nInjected"), "{text}");
}

#[test]
fn the_pool_has_bounds_and_forgets_what_is_closed() {
    let origin = origin(|stream| {
        let mut rest = [0; 1024];
        loop {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
            if !matches!(stream.read(&mut rest), Ok(len) if len > 0) {
                return;
            }
        }
    });
    let node = node();
    let to = format!("http://{}/", origin.address);
    // More at a time than one origin may have idle.
    let mut clients: Vec<_> = (0..48).map(|_| node.connect()).collect();
    for client in &mut clients {
        client.send(format!("GET /?to={to} HTTP/1.1\r\nHost: f.workers.localhost\r\n\r\n").as_bytes());
    }
    for client in &mut clients {
        assert_eq!(client.response().text(), "whole 2");
    }
    let idle = || node.metrics.shards()[0].fetch_connections_idle.get();
    eventually("those past the bound are closed", || origin.open.load(Ordering::SeqCst) <= 32);
    eventually("the pool is counted", || idle() > 0 && idle() <= 32);
}
