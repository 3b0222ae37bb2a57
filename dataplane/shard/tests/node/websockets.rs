//! WebSockets on a real node, with another implementation as the client, and with raw bytes where that would not send them.

use crate::common::{Client, Deployed, TestNode, active, eventually, get};
use base::limits::{MIB, WEBSOCKET_MESSAGE_BYTES_MAX};
use shard::config::NodeConfig;
use std::net::TcpStream;
use std::time::Duration;
use tungstenite::client::IntoClientRequest;
use tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tungstenite::{Message, WebSocket};

const WORKER: &str = r#"
const open = new Set();
let state = { closes: [], errors: 0, open: [] };
export default {
  async fetch(request, env, ctx) {
    const { pathname: whole, searchParams } = new URL(request.url);
    const pathname = whole.replace(/^\/w(?=\/)/, "");
    if (pathname === "/state") return Response.json({ ...state, sockets: open.size });
    if (pathname === "/plain") return new Response(null, { status: 101, webSocket: new WebSocketPair()[0] });
    if (pathname.startsWith("/to/")) return fetch(`http://${searchParams.get("host")}/${pathname.slice(4)}`, { headers: request.headers });
    if (pathname === "/client") return client(searchParams);
    const { 0: theirs, 1: ours } = new WebSocketPair();
    if (pathname === "/early") { ours.accept(); ours.send("early"); }
    else if (pathname === "/half") ours.accept({ allowHalfOpen: true });
    else if (pathname !== "/never") ours.accept();
    open.add(ours);
    ours.addEventListener("message", async ({ data }) => {
      if (data === "spin") for (;;);
      if (data === "close") return ours.close(4001, "as asked");
      if (data === "throw") throw new Error("thrown");
      if (data === "later") return setTimeout(() => ours.send("late"), 30);
      if (data === "ticks") { let n = 0; const timer = setInterval(() => { ours.send(String(n)); if (++n === 3) clearInterval(timer); }, 5); return; }
      if (data === "version") return ours.send("VERSION");
      if (data === "all") { for (const one of open) one.send("all"); return; }
      if (data === "flood") { const chunk = "x".repeat(1 << 20); for (let i = 0; i < 40; i++) ours.send(chunk); return; }
      if (data === "fetch") return ours.send(String((await fetch(`http://${searchParams.get("host")}/w/state`)).status));
      ours.send(data);
    });
    ours.addEventListener("close", ({ code, reason, wasClean }) => {
      open.delete(ours);
      state.closes.push([code, reason, wasClean, ours.readyState]);
      if (pathname === "/half") { ours.send("still here"); ours.close(4002, "now"); }
    });
    ours.addEventListener("error", () => state.errors++);
    const headers = { "x-own": "1" };
    if (request.headers.has("sec-websocket-protocol")) headers["sec-websocket-protocol"] = "chat";
    return new Response(null, { status: 101, webSocket: theirs, headers });
  },
};
async function client(params) {
  const events = [];
  const ws = new WebSocket(`ws://${params.get("host")}/w/${params.get("path") ?? ""}`, ["chat", "other"]);
  events.push(["new", ws.readyState]);
  await new Promise((done) => {
    ws.onopen = () => { events.push(["open", ws.readyState, ws.protocol]); ws.send("hello"); ws.send(new Uint8Array([1, 2, 3])); };
    ws.onmessage = ({ data }) => {
      events.push(["message", typeof data === "string" ? data : [...new Uint8Array(data)]]);
      if (typeof data !== "string") ws.close(3000, "done");
    };
    ws.onerror = ({ message }) => events.push(["error", message]);
    ws.onclose = ({ code, reason, wasClean }) => { events.push(["close", code, reason, wasClean, ws.readyState]); done(); };
  });
  return Response.json(events);
}
"#;

fn node() -> TestNode {
    node_with(|_| {})
}

fn node_with(change: impl FnOnce(&mut NodeConfig)) -> TestNode {
    TestNode::start(&[active("w", WORKER)], change)
}

type Socket = WebSocket<TcpStream>;

fn open_at(node: &TestNode, path: &str) -> Socket {
    let stream = node.connect().stream;
    let request = format!("ws://w.workers.localhost{path}").into_client_request().expect("a request");
    let config = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
    let (socket, response) = tungstenite::client::client_with_config(request, stream, Some(config)).expect("switched");
    assert_eq!(response.status(), 101);
    assert_eq!(response.headers()["x-deployment-version"], "v1");
    socket
}

fn open(node: &TestNode) -> Socket {
    open_at(node, "/")
}

fn asked(socket: &mut Socket, text: &str) -> String {
    socket.send(Message::text(text)).expect("sent");
    socket.read().expect("answered").into_text().expect("text").to_string()
}

/// The close frame that comes next, and that the connection ends after it.
fn closed(socket: &mut Socket) -> (u16, String) {
    let close = loop {
        match socket.read() {
            Ok(Message::Close(close)) => break close,
            Ok(_) => {}
            Err(error) => panic!("no close frame: {error}"),
        }
    };
    while socket.read().is_ok() {}
    close.map_or((0, String::new()), |close| (close.code.into(), close.reason.to_string()))
}

fn state(node: &TestNode) -> String {
    node.connect().get("w", "/state").text().to_owned()
}

const UPGRADE: &str = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

fn raw(node: &TestNode, path: &str) -> Client {
    let mut client = node.connect();
    client.send(format!("GET {path} HTTP/1.1\r\nHost: w.workers.localhost\r\n{UPGRADE}\r\n").as_bytes());
    let head = client.head();
    assert_eq!((head.status, head.header("sec-websocket-accept")), (101, Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")));
    client
}

/// A client's frame, its mask all zero.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        len @ 0..=125 => bytes.push(0x80 | len as u8),
        len @ 126..=65_535 => bytes.extend([&[0xfe][..], &(len as u16).to_be_bytes()].concat()),
        len => bytes.extend([&[0xff][..], &(len as u64).to_be_bytes()].concat()),
    }
    bytes.extend([0; 4]);
    bytes.extend(payload);
    bytes
}

#[test]
fn what_is_sent_comes_back() {
    let node = node();
    let mut socket = open(&node);
    assert_eq!(asked(&mut socket, "κόσμε"), "κόσμε");
    assert_eq!(asked(&mut socket, ""), "");
    for len in [1, 125, 126, 65_535, 65_536, 3 * MIB] {
        let bytes: Vec<u8> = (0..len).map(|at| at as u8).collect();
        socket.send(Message::binary(bytes.clone())).expect("sent");
        assert!(socket.read().expect("answered").into_data() == bytes, "{len} bytes");
    }
    for number in 0..500 {
        socket.write(Message::text(number.to_string())).expect("written");
    }
    socket.flush().expect("sent");
    for number in 0..500 {
        assert_eq!(socket.read().expect("answered").into_text().expect("text").as_str(), number.to_string());
    }
    socket.send(Message::Ping(b"here?".as_slice().into())).expect("sent");
    assert_eq!(socket.read().expect("answered"), Message::Pong(b"here?".as_slice().into()));
    assert_eq!(asked(&mut socket, "later"), "late");
    assert_eq!(asked(&mut socket, "ticks"), "0");
    assert_eq!(socket.read().expect("a tick"), Message::text("1"));
    let metrics = &node.metrics.shards()[0];
    assert_eq!(metrics.websockets.get(), 1);
    assert!(metrics.websocket_messages_received.get() >= 510 && metrics.websocket_messages_sent.get() >= 510);
}

#[test]
fn an_early_message_comes_after_the_head() {
    let node = node();
    let mut socket = open_at(&node, "/early");
    assert_eq!(socket.read().expect("a message"), Message::text("early"));
    assert_eq!(asked(&mut socket, "x"), "x");
}

#[test]
fn sockets_of_one_worker_reach_each_other() {
    let node = node();
    let (mut first, mut second) = (open(&node), open(&node));
    first.send(Message::text("all")).expect("sent");
    assert_eq!(first.read().expect("a message"), Message::text("all"));
    assert_eq!(second.read().expect("a message"), Message::text("all"));
}

#[test]
fn closing_from_either_side() {
    let node = node();
    let mut socket = open(&node);
    socket.send(Message::text("close")).expect("sent");
    assert_eq!(closed(&mut socket), (4001, "as asked".to_owned()));
    let mut socket = open(&node);
    socket.close(Some(CloseFrame { code: 3001.into(), reason: "bye".into() })).expect("sent");
    assert_eq!(closed(&mut socket), (3001, String::new()));
    let mut socket = open(&node);
    socket.close(None).expect("sent");
    assert_eq!(closed(&mut socket), (0, String::new()));
    drop(open(&node));
    eventually("all are told of", || state(&node).matches("],[").count() == 3);
    let state = state(&node);
    for told in
        ["[4001,\"as asked\",true,3]", "[3001,\"bye\",true,3]", "[1005,\"\",true,3]", "[1006,\"WebSocket disconnected"]
    {
        assert!(state.contains(told), "{told} in {state}");
    }
    assert!(state.contains("\"errors\":0") && state.contains("\"sockets\":0"), "{state}");
    eventually("nothing is left", || node.metrics.shards()[0].websockets.get() == 0);
}

#[test]
fn a_half_open_socket_sends_until_it_is_closed() {
    let node = node();
    let mut client = raw(&node, "/half");
    client.send(&frame(0x88, b"\x03\xe8"));
    assert_eq!(client.rest(), b"\x81\x0astill here\x88\x05\x0f\xa2now");
    assert!(state(&node).contains("[1000,\"\",true,2]"));
}

#[test]
fn handshakes_that_are_refused() {
    let node = node();
    let check = |path: &str, fields: &str, status: u16| {
        let mut client = node.connect();
        client.send(format!("GET {path} HTTP/1.1\r\nHost: w.workers.localhost\r\n{fields}\r\n").as_bytes());
        let response = client.response();
        assert_eq!(response.status, status, "{fields}");
        if status == 426 {
            assert_eq!(response.header("sec-websocket-version"), Some("13"));
        }
    };
    check("/", &UPGRADE.replace("13", "8"), 426);
    check("/", &UPGRADE.replace("Sec-WebSocket-Version: 13\r\n", ""), 426);
    check("/", &UPGRADE.replace("Connection: Upgrade\r\n", ""), 400);
    check("/", &UPGRADE.replace("dGhlIHNhbXBsZSBub25jZQ==", "c2hvcnQ="), 400);
    check("/", &format!("{UPGRADE}Content-Length: 1\r\n"), 400);
    check("/state", UPGRADE, 200);
    // The Worker answers with a WebSocket where none was asked for.
    check("/plain", "", 500);
    let text = node.logs.texts().join("\n");
    assert!(text.contains("without \"Upgrade: websocket\""), "{text}");
    check("/state", "", 200);
}

#[test]
fn breaches_close_with_their_codes() {
    let node = node();
    let unmasked = b"\x81\x01a".to_vec();
    let cases: [(&str, Vec<u8>, u16); 12] = [
        ("not masked", unmasked, 1002),
        ("a reserved bit", frame(0xc1, b"a"), 1002),
        ("an unknown opcode", frame(0x83, b"a"), 1002),
        ("an unknown control opcode", frame(0x8b, b"a"), 1002),
        ("a ping in fragments", frame(0x09, b"a"), 1002),
        ("a ping that is too long", frame(0x89, &[b'a'; 126]), 1002),
        ("a continuation of nothing", frame(0x80, b"a"), 1002),
        ("a message within a message", [frame(0x01, b"a"), frame(0x81, b"b")].concat(), 1002),
        ("text that is none", frame(0x81, b"\xff"), 1007),
        ("text that is none, split", [frame(0x01, b"\xce"), frame(0x89, b""), frame(0x80, b"\xce")].concat(), 1007),
        ("a close code that may not be sent", frame(0x88, &1005u16.to_be_bytes()), 1002),
        (
            "too large",
            [&[0x82, 0xff][..], &(WEBSOCKET_MESSAGE_BYTES_MAX as u64 + 1).to_be_bytes(), &[0; 4]].concat(),
            1009,
        ),
    ];
    for (number, (name, bytes, code)) in cases.iter().enumerate() {
        let mut client = raw(&node, "/");
        client.send(&frame(0x81, b"before"));
        assert_eq!(client.bytes(8), b"\x81\x06before", "{name}");
        client.send(bytes);
        let rest = client.rest();
        let close = rest.iter().position(|byte| *byte == 0x88).unwrap_or_else(|| panic!("{name}: {rest:?}"));
        assert_eq!(rest[close + 2..close + 4], code.to_be_bytes(), "{name}");
        assert_eq!(node.metrics.shards()[0].websocket_breaches.get(), number as u64 + 1, "{name}");
    }
    let state = state(&node);
    assert!(state.contains("\"errors\":12") && state.contains("\"sockets\":0"), "{state}");
}

#[test]
fn a_message_of_the_largest_size_passes() {
    let node = node();
    let mut socket = open(&node);
    socket.send(Message::binary(vec![7; WEBSOCKET_MESSAGE_BYTES_MAX])).expect("sent");
    assert_eq!(socket.read().expect("answered").len(), WEBSOCKET_MESSAGE_BYTES_MAX);
}

#[test]
fn a_peer_that_does_not_read_is_closed() {
    // Forty megabytes may take a busy machine more than 50 ms, and then it is the Worker that is ended.
    let node = TestNode::start(&[Deployed { cpu_ms: 5_000, ..active("w", WORKER) }], |_| {});
    let mut socket = open(&node);
    socket.send(Message::text("flood")).expect("sent");
    eventually("it is closed", || node.metrics.shards()[0].websocket_overflows.get() == 1);
    assert_eq!(closed(&mut socket).0, 1013);
    eventually("the Worker is told", || state(&node).contains("\"sockets\":0"));
}

#[test]
fn a_worker_that_does_not_read_holds_its_peer_back() {
    let node = node();
    let client = raw(&node, "/never");
    client.stream.set_write_timeout(Some(Duration::from_millis(200))).expect("set");
    let message = frame(0x82, &[7; 60_000]);
    let mut sent = 0;
    while std::io::Write::write_all(&mut &client.stream, &message).is_ok() {
        sent += message.len();
        assert!(sent < 64 * MIB, "the node takes what the Worker does not read");
    }
    let received = node.metrics.shards()[0].bytes_received.get();
    assert!(received < MIB as u64, "{received} bytes read for nobody");
    drop(client);
}

#[test]
fn a_message_over_its_cpu_time_ends_all_sockets_of_the_isolate() {
    let node = node();
    let (mut first, mut second) = (open(&node), open(&node));
    assert_eq!(asked(&mut second, "x"), "x");
    first.send(Message::text("spin")).expect("sent");
    assert_eq!(closed(&mut first).0, 1011);
    assert_eq!(closed(&mut second).0, 1011);
    assert_eq!(node.metrics.shards()[0].failures("cpu_limit"), 1);
    // A new isolate takes over.
    let mut third = open(&node);
    assert_eq!(asked(&mut third, "again"), "again");
    eventually("the old isolate is gone", || node.metrics.shards()[0].worker_evictions.get() == 1);
}

#[test]
fn an_exception_of_a_message_ends_nothing() {
    let node = node();
    let mut socket = open(&node);
    socket.send(Message::text("throw")).expect("sent");
    assert_eq!(asked(&mut socket, "on"), "on");
    assert!(node.logs.texts().iter().any(|text| text.contains("Error: thrown")));
}

#[test]
fn sockets_outlive_a_new_version() {
    let mut node = node();
    let mut old = open(&node);
    assert_eq!(asked(&mut old, "version"), "VERSION");
    let source = WORKER.replace("\"VERSION\"", "\"second\"");
    let mut second = active("w", &source);
    second.version = 2;
    node.publish(&[second]);
    eventually("the new version answers", || {
        let response = node.connect().get("w", "/state");
        response.header("x-deployment-version") == Some("v2")
    });
    assert_eq!(asked(&mut old, "version"), "VERSION");
    drop(old);
    eventually("the old isolate goes", || node.metrics.shards()[0].worker_evictions.get() >= 1);
}

#[test]
fn a_drain_closes_sockets() {
    let mut node = node();
    let mut socket = open(&node);
    assert_eq!(asked(&mut socket, "x"), "x");
    node.drain();
    assert_eq!(closed(&mut socket).0, 1001);
    node.join();
}

#[test]
fn a_worker_opens_a_websocket() {
    let node = node();
    let host = format!("localhost:{}", node.address.port());
    let response = node.connect().get("w", &format!("/client?host={host}"));
    assert_eq!(
        response.text(),
        r#"[["new",0],["open",1,"chat"],["message","hello"],["message",[1,2,3]],["close",3000,"",true,3]]"#
    );
    let response = node.connect().get("w", &format!("/client?host={host}&path=state"));
    let text = response.text();
    assert!(
        text.contains("received 200 instead")
            && text.ends_with(r#"["close",1006,"Failed to establish websocket connection",false,3]]"#),
        "{text}"
    );
    let response = node.connect().get("w", "/client?host=localhost:1");
    assert!(response.text().contains("[\"error\",\"connecting to localhost failed"), "{}", response.text());
    eventually("nothing is left", || node.metrics.shards()[0].websockets.get() == 0);
}

#[test]
fn private_addresses_are_as_closed_as_to_fetch() {
    let node = node_with(|config| config.allow_private_fetch = false);
    let host = format!("127.0.0.1:{}", node.address.port());
    let response = node.connect().get("w", &format!("/client?host={host}"));
    assert!(response.text().contains("is not a public address"), "{}", response.text());
}

#[test]
fn a_socket_is_passed_on_to_its_origin() {
    let node = node();
    let host = format!("localhost:{}", node.address.port());
    let mut socket = open_at(&node, &format!("/to/w/?host={host}"));
    assert_eq!(asked(&mut socket, "through"), "through");
    socket.send(Message::binary(vec![9; 2 * MIB])).expect("sent");
    assert_eq!(socket.read().expect("answered").len(), 2 * MIB);
    assert_eq!(asked(&mut socket, "close2"), "close2");
    socket.send(Message::text("close")).expect("sent");
    assert_eq!(closed(&mut socket), (4001, "as asked".to_owned()));
    eventually("nothing is left", || node.metrics.shards()[0].websockets.get() == 0);
    // What refuses is passed on too.
    let mut client = node.connect();
    let target = format!("/to/w/state?host={host}");
    client.send(format!("GET {target} HTTP/1.1\r\nHost: w.workers.localhost\r\n{UPGRADE}\r\n").as_bytes());
    let response = client.response();
    assert_eq!(response.status, 200);
    assert!(response.text().contains("\"sockets\":0"), "{}", response.text());
}

#[test]
fn a_session_has_timers_and_fetches_of_its_own() {
    let node = node();
    let host = format!("localhost:{}", node.address.port());
    let mut socket = open_at(&node, &format!("/?host={host}"));
    // More than one request may make: each message is charged like one.
    for _ in 0..60 {
        assert_eq!(asked(&mut socket, "fetch"), "200");
    }
}

#[test]
fn many_sockets_beside_requests() {
    let node = node();
    let mut sockets: Vec<Socket> = (0..300).map(|_| open(&node)).collect();
    assert_eq!(node.metrics.shards()[0].websockets.get(), 300);
    for (number, socket) in sockets.iter_mut().enumerate() {
        assert_eq!(asked(socket, &number.to_string()), number.to_string());
    }
    assert_eq!(node.status(&get("w", "/state")), 200);
    drop(sockets);
    eventually("all are told of", || state(&node).contains("\"sockets\":0"));
}
