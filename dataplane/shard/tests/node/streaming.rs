//! Streams in both directions: what is held back when somebody does not read, and what a broken stream looks like.

use crate::common::{TestNode, active, eventually, get};
use base::limits::MIB;
use std::time::Duration;

const STREAMS: &str = r#"
let produced = 0, cancelled = "no", aborted = "no", waited = "no";
export default {
  async fetch(request, env, ctx) {
    const { pathname } = new URL(request.url);
    if (pathname === "/state") return Response.json({ produced, cancelled, aborted, waited });
    if (pathname === "/endless") {
      produced = 0;
      request.signal.addEventListener("abort", () => { aborted = "yes"; });
      ctx.waitUntil(new Promise((done) => setTimeout(() => { waited = "yes"; done(); }, 300)));
      return new Response(new ReadableStream({
        pull(controller) { produced += 65536; controller.enqueue(new Uint8Array(65536)); },
        cancel() { cancelled = "yes"; },
      }));
    }
    if (pathname === "/broken") {
      let n = 0;
      return new Response(new ReadableStream({
        pull(controller) { if (n++ < 3) controller.enqueue(new TextEncoder().encode("part")); else controller.error(new Error("broken")); },
      }));
    }
    if (pathname === "/count") {
      let bytes = 0;
      for await (const chunk of request.body) bytes += chunk.byteLength;
      return new Response(String(bytes));
    }
    if (pathname === "/never") { await new Promise((done) => setTimeout(done, 15000)); return new Response("late"); }
    if (pathname === "/holds") { const reader = request.body.getReader(); await reader.read(); await new Promise((d) => setTimeout(d, 3000)); return new Response("held"); }
    return new Response("ok");
  }
}"#;

fn streams() -> TestNode {
    TestNode::start(&[active("s", STREAMS)], |_| {})
}

fn state(node: &TestNode, key: &str) -> String {
    let response = node.connect().get("s", "/state");
    let text = response.text().to_owned();
    let (_, tail) = text.split_once(&format!("\"{key}\":")).unwrap_or_else(|| panic!("{key} in {text}"));
    tail.split([',', '}']).next().unwrap_or_default().trim_matches('"').to_owned()
}

#[test]
fn a_reader_that_stops_stops_the_worker() {
    let node = streams();
    let mut client = node.connect();
    client.send(get("s", "/endless").as_bytes());
    client.bytes(MIB);
    // The kernel's buffers fill, then the node's, then the Worker is not asked any more.
    let produced = || state(&node, "produced").parse::<usize>().expect("a number");
    let mut last = 0;
    eventually("the Worker stands still", || {
        std::thread::sleep(Duration::from_millis(100));
        std::mem::replace(&mut last, produced()) == last
    });
    assert!(last < 64 * MIB, "{last} bytes for a client that read one MiB");
    client.bytes(16 * MIB);
    eventually("it goes on when the client reads", || produced() > last);
    drop(client);
    eventually("the stream is cancelled", || state(&node, "cancelled") == "yes");
    assert_eq!(state(&node, "aborted"), "yes");
    eventually("waitUntil goes on", || state(&node, "waited") == "yes");
    eventually("nothing is left", || node.metrics.shards()[0].connections.get() == 0);
}

#[test]
fn a_broken_stream_is_seen_as_broken() {
    let node = streams();
    let mut client = node.connect();
    client.send(get("s", "/broken").as_bytes());
    let text = String::from_utf8(client.rest()).expect("UTF-8");
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n") && text.contains("part"), "{text}");
    assert!(!text.ends_with("0\r\n\r\n"), "a broken body must not look complete: {text}");
    assert_eq!(node.metrics.shards()[0].failures("broken_body"), 1);
    // HTTP/1.0 has no other way to say it than a reset.
    let mut client = node.connect();
    client.send(b"GET /broken HTTP/1.0\r\nHost: s.workers.localhost\r\n\r\n");
    let mut buffer = [0; 4096];
    let error = loop {
        match std::io::Read::read(&mut &client.stream, &mut buffer) {
            Ok(0) => panic!("an orderly end"),
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[test]
fn a_large_upload_arrives_whole() {
    let node = streams();
    let mut client = node.connect();
    client.send(b"POST /count HTTP/1.1\r\nHost: s.workers.localhost\r\nContent-Length: 20000000\r\n\r\n");
    for _ in 0..200 {
        client.send(&[b'x'; 100_000]);
    }
    assert_eq!(client.response().text(), "20000000");
    client.send(b"POST /count HTTP/1.1\r\nHost: s.workers.localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
    for _ in 0..100 {
        client.send(b"186a0\r\n");
        client.send(&[b'x'; 100_000]);
        client.send(b"\r\n");
    }
    client.send(b"0\r\n\r\n");
    assert_eq!(client.response().text(), "10000000");
    assert_eq!(client.get("s", "/").text(), "ok");
}

#[test]
fn an_upload_that_nobody_reads_is_held_back() {
    let node = streams();
    let mut client = node.connect();
    client.send(b"POST /holds HTTP/1.1\r\nHost: s.workers.localhost\r\nContent-Length: 90000000\r\n\r\n");
    client.stream.set_write_timeout(Some(Duration::from_millis(200))).expect("set");
    let mut sent = 0usize;
    while let Ok(len) = std::io::Write::write(&mut &client.stream, &[b'x'; 65_536]) {
        sent += len;
        assert!(sent < 64 * MIB, "the node takes what the Worker does not read");
    }
    let received = node.metrics.shards()[0].bytes_received.get();
    assert!(received < MIB as u64, "{received} bytes read for one chunk");
}

#[test]
fn a_client_that_leaves_is_noticed_while_the_worker_works() {
    let node = streams();
    let client = {
        let mut client = node.connect();
        client.send(get("s", "/never").as_bytes());
        eventually("it is served", || node.metrics.shards()[0].workers.get() == 1);
        std::thread::sleep(Duration::from_millis(100));
        client
    };
    reset(client.stream);
    eventually("the connection is gone", || node.metrics.shards()[0].connections.get() == 0);
    assert_eq!(node.metrics.shards()[0].failures("client_gone"), 1);
}

/// Closes with a reset, not with an orderly end.
fn reset(client: std::net::TcpStream) {
    let socket = std::os::fd::AsRawFd::as_raw_fd(&client);
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    // SAFETY: the descriptor is open, and `linger` is read during the call only.
    let set = unsafe {
        libc::setsockopt(
            socket,
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            (&raw const linger).cast(),
            size_of::<libc::linger>() as libc::socklen_t,
        )
    };
    assert_eq!(set, 0);
    drop(client);
}
