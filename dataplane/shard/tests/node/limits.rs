//! Limits as a client sees them; requests that are tried again; requests that pass to their origin.

use crate::common::{Client, Deployed, TestNode, active, eventually, get};
use crate::fetching::{ok, origin};
use base::limits::MS_NS;
use std::time::Duration;

const LIMITED: &str = r#"
export default { async fetch(request, env, ctx) {
  const { pathname } = new URL(request.url);
  const endless = (ms, size) => new Response(new ReadableStream({ async pull(c) {
    await new Promise((r) => setTimeout(r, ms)); c.enqueue(new Uint8Array(size)); } }));
  if (pathname === "/waits") for (;;) await new Promise((r) => setTimeout(r, 20));
  if (pathname === "/trickles") return endless(50, 10);
  if (pathname === "/large") return new Response("x".repeat(100001));
  if (pathname === "/grows") return endless(1, 10000);
  return new Response("fine");
} }"#;

fn failures(node: &TestNode, label: &str) -> u64 {
    node.metrics.shards()[0].failures(label)
}

#[test]
fn time_and_size_end_a_request_and_nothing_else() {
    let node = TestNode::start(&[active("l", LIMITED)], |config| {
        config.request_limits.wall_head_ns = 300 * MS_NS;
        config.request_limits.wall_ns = 600 * MS_NS;
        config.request_limits.response_bytes = 100_000;
    });
    let mut client = node.connect();
    let late = client.get("l", "/waits");
    assert_eq!((late.status, late.text()), (503, "503: the Worker exceeded its time limit\n"));
    let large = client.get("l", "/large");
    assert_eq!((large.status, large.text()), (503, "503: the Worker's response exceeded its size limit\n"));
    assert_eq!(client.get("l", "/").text(), "fine", "on the same connection and isolate");
    for (path, bytes_min) in [("/trickles", 20), ("/grows", 90_000)] {
        let mut client = node.connect();
        client.send(get("l", path).as_bytes());
        assert_eq!(client.head().status, 200);
        let cut = client.rest();
        assert!(cut.len() > bytes_min && cut.len() < 110_000 && !cut.ends_with(b"0\r\n\r\n"), "{path}: {}", cut.len());
    }
    assert_eq!((failures(&node, "wall_limit"), failures(&node, "response_limit")), (2, 2));
    let text = node.logs.texts().join("\n");
    assert!(text.contains("wall time limit") && text.contains("response size limit"), "{text}");
    assert_eq!(node.metrics.shards()[0].worker_starts.get(), 1);
}

/// `/long` computes for at least some hundred milliseconds, `/hold` in one piece; anything else says how many of its isolate came before.
const LONG: &str = "let runs = 0;
export default { fetch(request) {
    let n = 0;
    if (request.url.endsWith('/hold')) new Float64Array(3e6).map((_, i) => i * 7919 % 1000003).sort();
    if (request.url.endsWith('/long')) for (let i = 0; i < 600000000; i++) n = (n * 31 + i) | 0;
    return new Response(n + ' after ' + runs++);
} };";

/// Three requests come while the Worker is with `long`, its second: they are answered, logged and counted as late, and it never sees them.
fn check_late(node: &TestNode, mut long: Client) {
    let mut late: Vec<Client> = (0..3).map(|_| node.connect()).collect();
    for client in &mut late {
        client.send(get("l", "/").as_bytes());
    }
    for client in &mut late {
        let response = client.response();
        assert_eq!((response.status, response.text()), (503, "503: the Worker exceeded its time limit\n"));
    }
    long.response();
    assert_eq!(node.connect().get("l", "/").text(), "0 after 2", "only the long one came between");
    assert!(failures(node, "wall_limit") >= 3);
    let told = node.logs.texts().iter().filter(|text| text.ends_with("exceeded before the Worker began")).count();
    assert_eq!(told, 3);
}

#[test]
fn a_request_that_waits_for_its_isolate_for_too_long_is_answered_and_never_begun() {
    let node = TestNode::start(&[Deployed { cpu_ms: 20_000, ..active("l", LONG) }], |config| {
        config.request_limits.wall_head_ns = 200 * MS_NS;
        config.pool.sweep_ticks = 1;
    });
    let metrics = &node.metrics.shards()[0];
    assert_eq!(node.connect().get("l", "/").text(), "0 after 0");
    let mut long = node.connect();
    long.send(get("l", "/long").as_bytes());
    eventually("it computes", || metrics.suspensions.get() > 2);
    check_late(&node, long);
    assert_eq!(metrics.worker_starts.get(), 1);
}

#[test]
fn neither_is_one_begun_that_waits_for_too_long_on_the_apart_thread() {
    let node = TestNode::start(&[Deployed { cpu_ms: 20_000, ..active("l", LONG) }], |config| {
        config.request_limits.wall_head_ns = 200 * MS_NS;
    });
    let metrics = &node.metrics.shards()[0];
    assert_eq!((node.connect().get("l", "/hold").status, metrics.quarantines.get()), (200, 1));
    assert_eq!(node.connect().get("l", "/").text(), "0 after 0", "another isolate");
    let mut long = node.connect();
    long.send(get("l", "/long").as_bytes());
    std::thread::sleep(Duration::from_millis(50));
    check_late(&node, long);
    assert_eq!(metrics.worker_starts.get(), 2);
}

/// `/eat` fills the heap; anything else waits and says which run of its isolate it was.
const SHARED: &str = r#"
const kept = []; let runs = 0;
export default { async fetch(request) {
  if (request.url.endsWith("/eat")) for (;;) kept.push(new Array(10000).fill(kept.length));
  if (request.url.endsWith("/read")) await request.text();
  const run = ++runs;
  await new Promise((r) => setTimeout(r, 400));
  return new Response(`${request.method} ${run} ${request.headers.get("x-mark")}`);
} }"#;

#[test]
fn a_request_whose_isolate_another_one_took_is_tried_again_where_that_is_safe() {
    let node = TestNode::start(&[Deployed { cpu_ms: 20_000, ..active("s", SHARED) }], |_| {});
    let waiting = |request: &str| {
        let mut client = node.connect();
        client.send(request.as_bytes());
        client
    };
    let mut safe = waiting("GET /a HTTP/1.1\r\nHost: s.workers.localhost\r\nX-Mark: kept\r\n\r\n");
    let mut unsafe_one = waiting("POST /b HTTP/1.1\r\nHost: s.workers.localhost\r\nContent-Length: 1\r\n\r\nx");
    let mut unread = waiting("OPTIONS /c HTTP/1.1\r\nHost: s.workers.localhost\r\nContent-Length: 1\r\n\r\nx");
    let mut read = waiting("OPTIONS /read HTTP/1.1\r\nHost: s.workers.localhost\r\nContent-Length: 1\r\n\r\nx");
    std::thread::sleep(Duration::from_millis(150));
    let eaten = node.connect().get("s", "/eat");
    assert_eq!((eaten.status, eaten.text()), (503, "503: the Worker exceeded its memory limit\n"));
    let texts = |client: &mut Client| {
        let response = client.response();
        (response.status, response.text().split(' ').next_back().unwrap_or_default().to_owned())
    };
    assert_eq!(texts(&mut safe), (200, "kept".to_owned()));
    assert_eq!(texts(&mut unread), (200, "null".to_owned()));
    let stopped = "503: the Worker was stopped\n";
    for client in [&mut unsafe_one, &mut read] {
        let response = client.response();
        assert_eq!((response.status, response.text()), (503, stopped));
    }
    let metrics = &node.metrics.shards()[0];
    assert_eq!((metrics.request_retries.get(), metrics.worker_starts.get()), (2, 2));
    assert_eq!((failures(&node, "condemned"), failures(&node, "memory_limit")), (2, 1));
}

const FAILS: &str = r#"
export default { async fetch(request, env, ctx) {
  if (!request.url.endsWith("/strict")) ctx.passThroughOnException();
  if (request.url.endsWith("/read")) await request.text();
  if (request.url.endsWith("/spin")) for (;;);
  if (request.url.endsWith("/begun")) return new Response(new ReadableStream({ pull() { throw new Error("late"); } }));
  throw new Error("broken");
} }"#;

fn ask(node: &TestNode, method: &str, port: u16, path: &str, more: &str, body: &[u8]) -> crate::common::Response {
    let mut client = node.connect();
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: localhost:{port}\r\nContent-Length: {length}\r\n{more}\r\n");
    client.send(head.as_bytes());
    client.send(body);
    client.response()
}

#[test]
fn a_failed_request_goes_to_its_origin_as_if_there_were_no_worker() {
    let node = TestNode::start(&[active("p", FAILS)], |_| {});
    let origin = origin(|_, _, head, body| {
        let line = head.lines().next().unwrap_or_default();
        let mark = head.lines().find(|line| line.starts_with("X-Mark")).unwrap_or("none");
        let host = head.lines().find(|line| line.starts_with("Host")).unwrap_or("none");
        ok(&format!("{line}|{mark}|{host}|{}", body.len()))
    });
    let port = origin.address.port();
    let passed = ask(&node, "PUT", port, "/p/x?q=1", "X-Mark: kept\r\n", b"12345");
    let expect = format!("PUT /p/x?q=1 HTTP/1.1|X-Mark: kept|Host: localhost:{port}|5");
    assert_eq!((passed.status, passed.text()), (200, &*expect));
    assert_eq!(passed.header("x-deployment-version"), None);
    let spun = ask(&node, "GET", port, "/p/spin", "", b"");
    assert_eq!((spun.status, spun.text().starts_with("GET /p/spin")), (200, true), "{spun:?}");
    let large = ask(&node, "POST", port, "/p/large", "", &vec![b'x'; 3_000_000]);
    assert!(large.text().ends_with("|3000000"), "{large:?}");
    assert_eq!(ask(&node, "POST", port, "/p/read", "", b"123").status, 500, "its body was read");
    assert_eq!(ask(&node, "GET", port, "/p/strict", "", b"").status, 500, "it did not ask for it");
    let mut begun = node.connect();
    begun.send(format!("GET /p/begun HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n").as_bytes());
    assert_eq!(begun.head().status, 200);
    assert!(begun.rest().is_empty(), "a response that had begun is cut");
    let metrics = &node.metrics.shards()[0];
    assert_eq!((metrics.passed_through.get(), failures(&node, "cpu_limit")), (3, 1));
    assert_eq!(failures(&node, "exception"), 4);
}

#[test]
fn nothing_passes_to_where_it_would_come_back() {
    let node = TestNode::start(&[active("p", FAILS)], |_| {});
    let failed = |response: crate::common::Response| {
        assert_eq!((response.status, response.text()), (500, "500: the Worker threw an exception\n"));
    };
    failed(ask(&node, "GET", node.address.port(), "/p/", "", b""));
    failed(node.connect().get("p", "/"));
    let origin = origin(|_, _, head, _| ok(head.lines().find(|line| line.starts_with("cdn-loop")).unwrap_or("none")));
    let port = origin.address.port();
    failed(ask(&node, "GET", port, "/p/", "CDN-Loop: selvage\r\n", b""));
    assert_eq!(ask(&node, "GET", port, "/p/", "", b"").text(), "cdn-loop: selvage");
    // Nobody listens there any more.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("bound");
    failed(ask(&node, "GET", closed.port(), "/p/", "", b""));
    assert_eq!(node.metrics.shards()[0].requests[4].get(), 4, "each was answered once");
}

const DEAF: &str = "export default { fetch(request) {
    if (request.url.endsWith('/deaf')) Array.prototype.indexOf.call({ length: 2 ** 53 - 1 }, 1);
    return new Response('fine');
} };";

/// An isolate that V8 cannot leave is lost with what malloc had given it: a tenant may not have that done at will.
#[test]
fn a_worker_whose_isolates_are_given_up_again_and_again_has_to_wait() {
    let node = TestNode::start(&[active("deaf", DEAF), active("other", DEAF)], |_| {});
    let metrics = &node.metrics.shards()[0];
    let ask = |name: &str, path: &str| {
        let response = node.connect().get(name, path);
        (response.status, response.text().to_owned())
    };
    let limited = (503, "503: the Worker exceeded its CPU time limit\n".to_owned());
    let fine = (200, "fine".to_owned());
    for round in 1..=3 {
        assert_eq!(ask("deaf", "/deaf"), limited, "{round}");
        assert_eq!(ask("deaf", "/"), fine, "at once, after {round}");
    }
    assert_eq!(ask("deaf", "/deaf"), limited);
    let starts = metrics.worker_starts.get();
    for _ in 0..20 {
        let (status, text) = ask("deaf", "/deaf");
        assert!(status == 503 && text.starts_with("503: the Worker stopped too often"), "{text}");
    }
    assert_eq!(metrics.worker_starts.get(), starts, "none is started");
    assert!(failures(&node, "crash_loop") >= 20);
    assert_eq!(ask("other", "/"), fine, "another tenant's");
    eventually("the wait is over", || ask("deaf", "/") == fine);
    assert_eq!(ask("deaf", "/deaf"), limited);
    assert_eq!(ask("deaf", "/").0, 503, "two seconds from now");
    let told = "the Worker stopped too often in a way that costs its node memory: not started for";
    let told: Vec<_> = node.logs.texts().into_iter().filter(|text| text.starts_with(told)).collect();
    assert!(told.len() == 2 && told[0].ends_with(" 1 s") && told[1].ends_with(" 2 s"), "{told:?}");
}

#[test]
fn a_start_whose_isolate_is_given_up_counts_too() {
    let node = TestNode::start(
        &[active("deaf", "[].indexOf.call({ length: 2 ** 53 - 1 }, 1); export default {};")],
        |config| {
            // Failed starts have waits of their own.
            config.pool.start_backoff_ns = 0;
        },
    );
    for _ in 0..4 {
        let response = node.connect().get("deaf", "/");
        assert_eq!((response.status, response.text()), (503, "503: the Worker exceeded a limit while starting\n"));
    }
    let response = node.connect().get("deaf", "/");
    assert!(response.text().starts_with("503: the Worker stopped too often"), "{}", response.text());
    assert!(node.logs.texts().join("\n").contains("in a function that cannot be stopped"));
}
