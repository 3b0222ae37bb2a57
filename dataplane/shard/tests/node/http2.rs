//! Outbound HTTP/2, with an origin of the `h2` crate's server; and connections that all shards share.

use crate::common::{Deployed, TestNode, active, eventually};
use crate::fetching::{authority, serve};
use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{Request, Response};
use rcgen::{CertificateParams, CertifiedIssuer, KeyPair};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const FETCHER: &str = r#"
export default {
  async fetch(request) {
    const url = new URL(request.url);
    const to = url.searchParams.get("to");
    try {
      switch (url.pathname) {
        case "/pass": return await fetch(to);
        case "/up": return await fetch(to, { method: "POST", body: request.body });
        case "/post": return new Response(await (await fetch(to, { method: "POST", body: "x".repeat(100000) })).text());
        case "/js": {
          const through = () => new TransformStream({ transform(chunk, controller) { controller.enqueue(chunk); } });
          const response = await fetch(to, { method: "POST", body: request.body.pipeThrough(through()) });
          return new Response(response.body.pipeThrough(through()));
        }
        case "/many": {
          const texts = await Promise.all(Array.from({ length: 6 }, () => fetch(to).then((r) => r.text())));
          return new Response(texts.join(" "));
        }
        case "/abort": {
          try { await fetch(to, { signal: AbortSignal.timeout(100) }); } catch (error) { return new Response(error.name); }
        }
      }
      const response = await fetch(to);
      return new Response(`${response.status} ${await response.text()}`, { headers: { seen: response.headers.get("x-seen") ?? "" } });
    } catch (error) {
      return new Response(error.name + ": " + error.message, { status: 502 });
    }
  }
}"#;

#[derive(Default)]
struct Counts {
    connections: AtomicUsize,
    requests: AtomicUsize,
    resets: AtomicUsize,
}

struct Origin {
    address: SocketAddr,
    counts: Arc<Counts>,
}

impl Origin {
    fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.address.port())
    }
}

fn server_config(authority: &CertifiedIssuer<'static, KeyPair>, alpn: &[&[u8]]) -> Arc<rustls::ServerConfig> {
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("valid");
    let certificate = params.signed_by(&key, authority).expect("signed");
    let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .expect("a certificate");
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Arc::new(config)
}

/// Starts an origin that speaks HTTP/2.
fn h2_origin(authority: &CertifiedIssuer<'static, KeyPair>) -> Origin {
    let acceptor = tokio_rustls::TlsAcceptor::from(server_config(authority, &[b"h2"]));
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = listener.local_addr().expect("an address");
    listener.set_nonblocking(true).expect("set");
    let counts = Arc::new(Counts::default());
    let counted = counts.clone();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().expect("a runtime");
        let tasks = tokio::task::LocalSet::new();
        tasks.block_on(&runtime, async move {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, counts) = (acceptor.clone(), counted.clone());
                tokio::task::spawn_local(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
                    let number = counts.connections.fetch_add(1, Ordering::SeqCst);
                    while let Some(Ok((request, respond))) = connection.accept().await {
                        if request.uri().path() == "/goaway" {
                            connection.graceful_shutdown();
                        }
                        let counts = counts.clone();
                        tokio::task::spawn_local(async move {
                            let _ = answer(request, respond, number, &counts).await;
                        });
                    }
                });
            }
        });
    });
    Origin { address, counts }
}

async fn answer(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    connection: usize,
    counts: &Counts,
) -> Result<(), h2::Error> {
    let number = counts.requests.fetch_add(1, Ordering::SeqCst);
    let head = Response::builder().header("x-seen", format!("{} {}", request.method(), request.uri()));
    let head = head.body(()).expect("a head");
    let path = request.uri().path().to_owned();
    match &path[..] {
        "/echo" => {
            let mut body = request.into_body();
            let mut send = respond.send_response(head, false)?;
            while let Some(bytes) = body.data().await {
                let bytes = bytes?;
                body.flow_control().release_capacity(bytes.len())?;
                send_all(&mut send, bytes).await?;
            }
            send.send_data(Bytes::new(), true)
        }
        "/endless" => {
            let mut send = respond.send_response(head, false)?;
            let sent = send_forever(&mut send).await;
            counts.resets.fetch_add(usize::from(sent.is_err()), Ordering::SeqCst);
            sent
        }
        "/silent" => {
            let reset = std::future::poll_fn(|cx| respond.poll_reset(cx)).await?;
            counts.resets.fetch_add(usize::from(reset == Reason::CANCEL), Ordering::SeqCst);
            Ok(())
        }
        "/break" => {
            let mut send = respond.send_response(head, false)?;
            send.send_data(Bytes::from_static(b"some"), false)?;
            send.send_reset(Reason::INTERNAL_ERROR);
            Ok(())
        }
        "/reset" => {
            respond.send_reset(Reason::INTERNAL_ERROR);
            Ok(())
        }
        "/refuse" if number == 0 => {
            respond.send_reset(Reason::REFUSED_STREAM);
            Ok(())
        }
        _ => {
            let mut body = request.into_body();
            let mut came = 0;
            while let Some(bytes) = body.data().await {
                let bytes = bytes?;
                came += bytes.len();
                body.flow_control().release_capacity(bytes.len())?;
            }
            let mut send = respond.send_response(head, false)?;
            send.send_data(Bytes::from(format!("{connection}/{came}")), true)
        }
    }
}

async fn send_all(send: &mut h2::SendStream<Bytes>, mut bytes: Bytes) -> Result<(), h2::Error> {
    while !bytes.is_empty() {
        send.reserve_capacity(bytes.len());
        let room =
            std::future::poll_fn(|cx| send.poll_capacity(cx)).await.unwrap_or_else(|| Err(Reason::CANCEL.into()))?;
        send.send_data(bytes.split_to(room.min(bytes.len())), false)?;
    }
    Ok(())
}

async fn send_forever(send: &mut h2::SendStream<Bytes>) -> Result<(), h2::Error> {
    let chunk = Bytes::from(vec![b'x'; 50_000]);
    loop {
        send_all(send, chunk.clone()).await?;
    }
}

/// A node that trusts the authority.
fn node(authority: &CertifiedIssuer<'static, KeyPair>, shards: usize) -> (TestNode, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("ca.pem");
    std::fs::write(&file, authority.pem()).expect("written");
    // Megabytes through JavaScript, on whatever machine.
    let fetcher = Deployed { cpu_ms: 5_000, ..active("f", FETCHER) };
    let node = TestNode::start(&[fetcher], |config| {
        config.extra_ca = Some(file.clone());
        config.shards = shards;
    });
    (node, folder)
}

fn start() -> (Origin, TestNode, tempfile::TempDir) {
    let authority = authority();
    let (node, folder) = node(&authority, 1);
    (h2_origin(&authority), node, folder)
}

fn fetch(node: &TestNode, path: &str, to: &str) -> (u16, String) {
    let response = node.connect().get("f", &format!("{path}?to={to}"));
    (response.status, response.text().to_owned())
}

#[test]
fn requests_share_a_connection() {
    let (origin, node, _folder) = start();
    for _ in 0..3 {
        assert_eq!(fetch(&node, "/", &origin.url("/a?b")), (200, "200 0/0".to_owned()));
    }
    let (status, text) = fetch(&node, "/many", &origin.url("/"));
    assert_eq!((status, &text[..]), (200, "0/0 0/0 0/0 0/0 0/0 0/0"));
    assert_eq!(fetch(&node, "/post", &origin.url("/")), (200, "0/100000".to_owned()));
    let seen = node.connect().get("f", &format!("/?to={}", origin.url("/a?b")));
    let expected = format!("GET https://localhost:{}/a?b", origin.address.port());
    assert_eq!(seen.header("seen"), Some(&expected[..]));
    assert_eq!(origin.counts.connections.load(Ordering::SeqCst), 1);
}

#[test]
fn large_bodies_stream_both_ways() {
    let (origin, node, _folder) = start();
    let body: Vec<u8> = (0..3_000_000u32).map(|index| (index % 251) as u8).collect();
    for path in ["/up", "/js"] {
        let mut client = node.connect();
        let head = format!(
            "POST {path}?to={} HTTP/1.1\r\nHost: f.workers.localhost\r\nContent-Length: {}\r\n\r\n",
            origin.url("/echo"),
            body.len()
        );
        let mut sender = client.stream.try_clone().expect("a second handle");
        let sent = body.clone();
        let sending = std::thread::spawn(move || {
            let _ = sender.write_all(head.as_bytes());
            let _ = sender.write_all(&sent);
        });
        let response = client.response();
        sending.join().expect("sent");
        assert_eq!(response.status, 200, "{path}: {}", String::from_utf8_lossy(&response.body));
        assert!(response.body == body, "{path}: {} bytes came back, changed", response.body.len());
    }
    assert_eq!(origin.counts.connections.load(Ordering::SeqCst), 1);
}

#[test]
fn a_stream_that_ends_badly_ends_alone() {
    let (origin, node, _folder) = start();
    let (status, text) = fetch(&node, "/", &origin.url("/reset"));
    assert!(status == 502 && text.starts_with("TypeError: HTTP/2"), "{status} {text}");
    let (status, text) = fetch(&node, "/", &origin.url("/break"));
    assert!(status == 502 && text.starts_with("TypeError"), "{status} {text}");
    assert_eq!(fetch(&node, "/", &origin.url("/")), (200, "200 0/0".to_owned()));
    assert_eq!(origin.counts.connections.load(Ordering::SeqCst), 1);
}

#[test]
fn a_stream_that_the_origin_refused_is_tried_again() {
    let (origin, node, _folder) = start();
    assert_eq!(fetch(&node, "/post", &origin.url("/refuse")), (200, "0/100000".to_owned()));
    assert_eq!(origin.counts.requests.load(Ordering::SeqCst), 2);
}

#[test]
fn a_connection_that_is_going_away_takes_no_new_requests() {
    let (origin, node, _folder) = start();
    assert_eq!(fetch(&node, "/", &origin.url("/goaway")), (200, "200 0/0".to_owned()));
    eventually("the next request is answered on another connection", || {
        fetch(&node, "/", &origin.url("/")) == (200, "200 1/0".to_owned())
    });
}

#[test]
fn an_abort_resets_the_stream() {
    let (origin, node, _folder) = start();
    assert_eq!(fetch(&node, "/abort", &origin.url("/silent")), (200, "TimeoutError".to_owned()));
    eventually("the origin sees it", || origin.counts.resets.load(Ordering::SeqCst) == 1);
    let mut client = node.connect();
    client.send(
        format!("GET /pass?to={} HTTP/1.1\r\nHost: f.workers.localhost\r\n\r\n", origin.url("/endless")).as_bytes(),
    );
    assert_eq!(client.head().status, 200);
    // Others go on beside one that nobody reads.
    for _ in 0..3 {
        assert_eq!(fetch(&node, "/", &origin.url("/")), (200, "200 0/0".to_owned()));
    }
    drop(client);
    eventually("the origin sees it", || origin.counts.resets.load(Ordering::SeqCst) == 2);
    assert_eq!(origin.counts.connections.load(Ordering::SeqCst), 1);
}

/// An origin that speaks HTTP/1.1, over TLS if it is given a configuration; tells how many connections it had.
fn h1_origin(tls: Option<Arc<rustls::ServerConfig>>) -> (SocketAddr, Arc<AtomicUsize>) {
    trait Stream: Read + Write {}
    impl<T: Read + Write> Stream for T {}
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = listener.local_addr().expect("an address");
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = connections.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else { return };
            let number = counted.fetch_add(1, Ordering::SeqCst);
            let tls = tls.clone();
            std::thread::spawn(move || {
                let mut stream: Box<dyn Stream> = match tls {
                    None => Box::new(stream),
                    Some(config) => {
                        let session = rustls::ServerConnection::new(config).expect("a session");
                        Box::new(rustls::StreamOwned::new(session, stream))
                    }
                };
                serve(&mut stream, number, &|_, request, _, _| {
                    let text = request.to_string();
                    Some(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len()).into_bytes())
                });
            });
        }
    });
    (address, connections)
}

#[test]
fn an_idle_connection_is_for_all_shards() {
    let authority = authority();
    let (node, _folder) = node(&authority, 2);
    let (plain, plain_count) = h1_origin(None);
    let (tls, tls_count) = h1_origin(Some(server_config(&authority, &[b"http/1.1"])));
    // Each connection of the client's goes to one of the two shards: sixteen to the same one would be a wonder.
    let given = || node.metrics.shards().iter().map(|shard| shard.fetch_connections_given.get()).sum::<u64>();
    for round in 0..16 {
        assert_eq!(fetch(&node, "/", &format!("http://{plain}/")), (200, format!("200 {round}")));
        assert_eq!(fetch(&node, "/", &format!("https://localhost:{}/", tls.port())), (200, format!("200 {round}")));
        eventually("both connections are for all shards", || given() == 2 * (round + 1));
    }
    let adopted: Vec<u64> = node.metrics.shards().iter().map(|shard| shard.fetch_connections_adopted.get()).collect();
    assert!(adopted.iter().all(|adopted| *adopted > 0), "both shards: {adopted:?}");
    assert_eq!((plain_count.load(Ordering::SeqCst), tls_count.load(Ordering::SeqCst)), (1, 1), "{adopted:?}");
}

#[test]
fn a_connection_that_was_closed_while_nobody_had_it_is_not_used() {
    let authority = authority();
    let (node, _folder) = node(&authority, 2);
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            std::thread::spawn(move || {
                let mut head = [0; 1024];
                let _ = stream.read(&mut head);
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
                std::thread::sleep(Duration::from_millis(400));
            });
        }
    });
    for _ in 0..4 {
        // A POST is not sent twice: it must not meet a connection that is closed.
        assert_eq!(fetch(&node, "/post", &format!("http://{address}/")), (200, "ok".to_owned()));
        std::thread::sleep(Duration::from_millis(600));
    }
}
