//! Bodies that stream: back-pressure in both directions, bounded memory, and a drain that lets them end.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use e2e::http::{Connection, Request};
use e2e::platform::{Platform, STOP_TIMEOUT};

/// Bytes of a large body.
const LARGE: usize = 50 << 20;
/// What a stalled large body may cost the node: windows and socket buffers, far below the body.
const STALLED_MAX: u64 = 24 << 20;

const SOURCE: &str = "let pulled = 0;
export default { fetch(request) {
  const url = new URL(request.url);
  if (url.pathname === '/pulled') return new Response(String(pulled));
  const total = Number(url.searchParams.get('bytes'));
  const delay = Number(url.searchParams.get('delay') ?? 0);
  pulled = 0;
  const chunk = new Uint8Array(16384).fill(120);
  return new Response(new ReadableStream({
    async pull(controller) {
      if (delay) await new Promise(resolve => setTimeout(resolve, delay));
      if (pulled >= total) return controller.close();
      const part = chunk.subarray(0, Math.min(chunk.length, total - pulled));
      pulled += part.length;
      controller.enqueue(part.slice());
    },
  }));
} };";

const SINK: &str = "let received = 0;
export default { async fetch(request) {
  const url = new URL(request.url);
  if (!request.body) return new Response(String(received));
  received = 0;
  const reader = request.body.getReader();
  const wait = Number(url.searchParams.get('wait') ?? 0);
  if (wait) await new Promise(resolve => setTimeout(resolve, wait));
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    received += value.length;
  }
  return new Response(String(received));
} };";

#[test]
fn a_slow_reader_holds_the_worker_back_and_the_memory_stays() {
    let platform = Platform::start();
    // 3,200 chunks are copied three times each in the program's name: half of the 50 ms that `free` has, and more beside other tests.
    platform.api().ok("PUT", "/v1/plans/free", Some(&serde_json::json!({ "cpu_ms": 1000 })));
    let source = platform.deploy("source", SOURCE);
    let ask = |target: &str| Request::new("GET", &source.host, target);
    let before = platform.node.resident_bytes();
    let mut slow = Connection::open(platform.http).expect("the node accepts");
    slow.stream().write_all(&ask(&format!("/?bytes={LARGE}")).bytes()).expect("sent");
    let (status, headers) = slow.head().expect("a head");
    assert_eq!(status, 200);
    assert!(headers.contains(&("transfer-encoding".into(), "chunked".into())), "{headers:?}");
    // Nothing is read for a while: the Worker must have been held back long before the end.
    std::thread::sleep(Duration::from_secs(1));
    let pulled = || platform.get(&source.host, "/pulled").text().parse::<usize>().expect("a number");
    let first = pulled();
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(pulled(), first, "it still produces for a reader that does not read");
    assert!(first < LARGE / 2, "{first} bytes were produced for a reader that does not read");
    let during = platform.node.resident_bytes();
    assert!(during < before + STALLED_MAX, "{before} bytes resident before, {during} with a stalled reader");
    // Then all of it arrives.
    let mut received = 0;
    while let Some(chunk) = slow.chunk().expect("a chunk") {
        assert!(chunk.iter().all(|byte| *byte == b'x'));
        received += chunk.len();
    }
    assert_eq!(received, LARGE);
    let after = platform.node.resident_bytes();
    println!("resident: {before} before, {during} stalled, {after} after");
    // The isolate's own garbage is bounded by its heap limit, 128 MB.
    assert!(after < before + (128 << 20) + STALLED_MAX, "{before} bytes resident before, {after} after");
}

#[test]
fn a_slow_worker_holds_the_client_back() {
    let platform = Platform::start();
    let sink = platform.deploy("sink", SINK);
    let before = platform.node.resident_bytes();
    let mut connection = Connection::open(platform.http).expect("the node accepts");
    let head = Request::new("POST", &sink.host, "/?wait=1500").header("Content-Length", &LARGE.to_string());
    connection.stream().write_all(&head.bytes()).expect("sent");
    let begun = Instant::now();
    let mut writer = connection.stream().try_clone().expect("a second handle");
    let sender = std::thread::spawn(move || {
        let chunk = vec![b'x'; 1 << 16];
        for _ in 0..LARGE / chunk.len() {
            writer.write_all(&chunk).expect("the node takes it in the end");
        }
        begun.elapsed()
    });
    std::thread::sleep(Duration::from_secs(1));
    assert!(!sender.is_finished(), "50 MB were taken for a Worker that reads nothing");
    let during = platform.node.resident_bytes();
    assert!(during < before + STALLED_MAX, "{before} bytes resident before, {during} with a stalled Worker");
    let reply = connection.reply(false).expect("a response");
    assert_eq!((reply.status, reply.text()), (200, LARGE.to_string()));
    let sent = sender.join().expect("the sender does not panic");
    assert!(sent >= Duration::from_millis(1_000), "all was sent after {sent:?}");
}

#[test]
fn a_client_that_leaves_ends_the_stream() {
    let platform = Platform::start();
    let source = platform.deploy("source", SOURCE);
    let mut leaver = Connection::open(platform.http).expect("the node accepts");
    let request = Request::new("GET", &source.host, &format!("/?bytes={}", usize::pow(2, 40)));
    leaver.stream().write_all(&request.bytes()).expect("sent");
    leaver.head().expect("a head");
    drop(leaver);
    std::thread::sleep(Duration::from_millis(500));
    let pulled = || platform.get(&source.host, "/pulled").text().parse::<usize>().expect("a number");
    let first = pulled();
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(pulled(), first, "it still produces for a client that has gone");
}

#[test]
fn sigterm_lets_a_streaming_response_end_and_takes_no_new_ones() {
    let mut platform = Platform::start();
    let source = platform.deploy("source", SOURCE);
    // 20 chunks, 100 ms apart.
    let total = 20 * 16384;
    let mut open = Connection::open(platform.http).expect("the node accepts");
    let request = Request::new("GET", &source.host, &format!("/?bytes={total}&delay=100"));
    open.stream().write_all(&request.bytes()).expect("sent");
    assert_eq!(open.head().expect("a head").0, 200);
    let mut idle = Connection::open(platform.http).expect("the node accepts");
    assert_eq!(idle.exchange(&Request::new("GET", &source.host, "/pulled")).expect("a response").status, 200);
    platform.node.signal(rustix::process::Signal::TERM);
    let begun = Instant::now();
    std::thread::sleep(Duration::from_millis(300));
    assert!(platform.node.is_running(), "it waits for the response to end");
    let refused = std::net::TcpStream::connect_timeout(&platform.http, Duration::from_secs(1));
    assert!(refused.is_err(), "a draining node accepts no connection");
    let mut rest = Vec::new();
    idle.stream().set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
    assert_eq!(idle.stream().read_to_end(&mut rest).ok(), Some(0), "idle connections are closed");
    let mut received = 0;
    while let Some(chunk) = open.chunk().expect("the response goes on to its end") {
        received += chunk.len();
    }
    assert_eq!(received, total);
    let status = platform.node.wait(STOP_TIMEOUT);
    assert!(status.success(), "{status}\n{}", platform.node.log_tail());
    println!("drained in {:?}", begun.elapsed());
}
