//! Outbound `fetch`: pooling, retries, streams, TLS, and where it may go.

use crate::common::{TestNode, active, get};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A Worker that fetches the URL in its query and tells what came.
const FETCHER: &str = r#"
export default {
  async fetch(request) {
    const url = new URL(request.url);
    const target = url.searchParams.get("to");
    try {
      if (url.pathname === "/pass") return await fetch(target);
      if (url.pathname === "/post") return await fetch(target, { method: "POST", body: "x".repeat(1000) });
      if (url.pathname === "/upload") return await fetch(target, { method: "POST", body: request.body, duplex: "half" });
      const response = await fetch(target);
      return new Response(response.status + " " + await response.text());
    } catch (error) {
      return new Response(error.name + ": " + error.message, { status: 502 });
    }
  }
}"#;

/// An origin: answers each request on each connection by `answer(connection, request, head, body)`; `None` closes.
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

type Answer = dyn Fn(usize, usize, &str, &[u8]) -> Option<Vec<u8>> + Send + Sync;

pub(crate) fn serve(stream: &mut (impl Read + Write), connection: usize, answer: &Answer) {
    for request in 0.. {
        let mut head = String::new();
        let mut byte = [0];
        while !head.ends_with("\r\n\r\n") {
            match stream.read(&mut byte) {
                Ok(1) => head.push(byte[0] as char),
                _ => return,
            }
        }
        let length = head.to_lowercase();
        let length = length.split("content-length: ").nth(1).and_then(|tail| tail.split("\r\n").next());
        let mut body = vec![0; length.map_or(0, |length| length.parse().expect("a number"))];
        if head.to_lowercase().contains("transfer-encoding: chunked") {
            let mut reader = BufReader::with_capacity(1, &mut *stream);
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line).is_err() {
                    return;
                }
                let len = usize::from_str_radix(line.trim(), 16).unwrap_or(0);
                let mut chunk = vec![0; len + 2];
                if reader.read_exact(&mut chunk).is_err() {
                    return;
                }
                body.extend_from_slice(&chunk[..len]);
                if len == 0 {
                    break;
                }
            }
        } else if stream.read_exact(&mut body).is_err() {
            return;
        }
        let Some(bytes) = answer(connection, request, &head, &body) else { return };
        if stream.write_all(&bytes).is_err() {
            return;
        }
    }
}

pub(crate) fn origin(answer: impl Fn(usize, usize, &str, &[u8]) -> Option<Vec<u8>> + Send + Sync + 'static) -> Origin {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = listener.local_addr().expect("an address");
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = connections.clone();
    let answer: Arc<Answer> = Arc::new(answer);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let connection = counted.fetch_add(1, Ordering::SeqCst);
            let answer = answer.clone();
            std::thread::spawn(move || serve(&mut stream, connection, &*answer));
        }
    });
    Origin { address, connections }
}

pub(crate) fn ok(body: &str) -> Option<Vec<u8>> {
    Some(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes())
}

fn fetcher() -> TestNode {
    TestNode::start(&[active("f", FETCHER)], |_| {})
}

fn fetch(node: &TestNode, path: &str, to: &str) -> (u16, String) {
    let response = node.connect().get("f", &format!("{path}?to={to}"));
    (response.status, response.text().to_owned())
}

#[test]
fn connections_to_an_origin_are_used_again() {
    let origin = origin(|connection, request, _, _| ok(&format!("{connection}/{request}")));
    let node = fetcher();
    for request in 0..5 {
        let (status, text) = fetch(&node, "/", &format!("http://{}/", origin.address));
        assert_eq!((status, text), (200, format!("200 0/{request}")));
    }
    assert_eq!(origin.connections.load(Ordering::SeqCst), 1);
}

#[test]
fn a_stale_connection_is_replaced_for_what_may_be_repeated() {
    // Every connection answers once, promises to live, and closes at the next request.
    let origin = origin(|connection, request, _, _| if request == 0 { ok(&connection.to_string()) } else { None });
    let node = fetcher();
    let to = format!("http://{}/", origin.address);
    assert_eq!(fetch(&node, "/", &to), (200, "200 0".to_owned()));
    assert_eq!(fetch(&node, "/", &to), (200, "200 1".to_owned()));
    let (status, text) = fetch(&node, "/post", &to);
    assert!(status == 502 && text.starts_with("TypeError"), "a POST is not sent twice: {status} {text}");
}

#[test]
fn heads_and_bodies_of_all_kinds_come_through() {
    for (answer, expect) in [
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", "200 abcde"),
        (
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno",
            "404 no",
        ),
        ("HTTP/1.1 204 No Content\r\n\r\n", "204 "),
    ] {
        let origin = origin(move |_, _, _, _| Some(answer.as_bytes().to_vec()));
        let node = fetcher();
        assert_eq!(fetch(&node, "/", &format!("http://{}/", origin.address)), (200, expect.to_owned()));
    }
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\nhello",
        "nonsense\r\n\r\n",
        "",
    ] {
        let sent = std::sync::atomic::AtomicBool::new(false);
        let origin = origin(move |_, _, _, _| {
            // Once, then close.
            (!sent.swap(true, Ordering::SeqCst)).then(|| answer.as_bytes().to_vec()).filter(|bytes| !bytes.is_empty())
        });
        let node = fetcher();
        let to = format!("http://{}/", origin.address);
        let mut client = node.connect();
        client.send(get("f", &format!("/?to={to}")).as_bytes());
        let response = client.response();
        assert_eq!(response.status, 502, "{answer:?}: {}", response.text());
    }
}

#[test]
fn the_request_reaches_the_origin_as_it_should() {
    let origin = origin(|_, _, head, body| ok(&format!("{head}{}", body.len())));
    let node = fetcher();
    let (_, text) = fetch(&node, "/post", &format!("http://{}/a%20b?c=d", origin.address));
    assert!(text.starts_with("POST /a%20b?c=d HTTP/1.1\r\n"), "{text}");
    assert!(text.contains(&format!("Host: {}\r\n", origin.address)), "{text}");
    assert!(text.contains("Content-Length: 1000\r\n") && text.ends_with("\r\n\r\n1000"), "{text}");
}

#[test]
fn bodies_stream_through_both_ways() {
    let origin = origin(|_, _, _, body| {
        let mut answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
        answer.extend_from_slice(body);
        Some(answer)
    });
    let node = fetcher();
    let mut client = node.connect();
    let head = format!(
        "POST /upload?to=http://{}/ HTTP/1.1\r\nHost: f.workers.localhost\r\nContent-Length: 3000000\r\n\r\n",
        origin.address
    );
    client.send(head.as_bytes());
    let body: Vec<u8> = (0..3_000_000u32).map(|index| (index % 251) as u8).collect();
    client.send(&body);
    let response = client.response();
    assert_eq!(response.status, 200);
    assert!(response.body == body, "{} bytes came back, changed", response.body.len());
}

#[test]
fn private_addresses_are_refused_unless_allowed() {
    let origin = origin(|_, _, _, _| ok("inside"));
    let node = TestNode::start(&[active("f", FETCHER)], |config| config.allow_private_fetch = false);
    for to in [
        format!("http://{}/", origin.address),
        format!("http://localhost:{}/", origin.address.port()),
        format!("http://[::ffff:127.0.0.1]:{}/", origin.address.port()),
        "http://169.254.169.254/latest/meta-data/".to_owned(),
    ] {
        let (status, text) = fetch(&node, "/", &to);
        assert!(status == 502 && text.contains("not a public address"), "{to}: {status} {text}");
    }
    assert_eq!(origin.connections.load(Ordering::SeqCst), 0);
}

#[test]
fn names_that_do_not_resolve_and_ports_that_do_not_answer() {
    let node = fetcher();
    let (status, text) = fetch(&node, "/", "http://does-not-exist.invalid/");
    assert!(status == 502 && text.starts_with("TypeError"), "{status} {text}");
    let closed = TcpListener::bind("127.0.0.1:0").expect("bound").local_addr().expect("an address");
    let (status, text) = fetch(&node, "/", &format!("http://{closed}/"));
    assert!(status == 502 && text.starts_with("TypeError"), "{status} {text}");
}

#[test]
fn tls_origins_are_verified() {
    let authority = authority();
    let good = tls_origin(&authority, "localhost");
    let other = tls_origin(&self::authority(), "localhost");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("ca.pem");
    std::fs::write(&file, authority.pem()).expect("written");
    let node = TestNode::start(&[active("f", FETCHER)], |config| config.extra_ca = Some(file.clone()));
    for _ in 0..3 {
        assert_eq!(fetch(&node, "/", &format!("https://localhost:{}/", good.port())), (200, "200 secret".to_owned()));
    }
    let (status, text) = fetch(&node, "/", &format!("https://localhost:{}/", other.port()));
    assert!(status == 502 && text.contains("TLS"), "an unknown authority: {status} {text}");
    let (status, text) = fetch(&node, "/", &format!("https://127.0.0.1:{}/", good.port()));
    assert!(status == 502 && text.contains("TLS"), "another name: {status} {text}");
}

pub(crate) fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::<String>::new()).expect("valid");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("signed")
}

fn tls_origin(authority: &CertifiedIssuer<'static, KeyPair>, name: &str) -> SocketAddr {
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec![name.to_owned()]).expect("valid");
    let certificate = params.signed_by(&key, authority).expect("signed");
    let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .expect("a certificate");
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (Ok(stream), Ok(session)) = (stream, rustls::ServerConnection::new(config.clone())) else { return };
            std::thread::spawn(move || {
                let mut stream = rustls::StreamOwned::new(session, stream);
                serve(&mut stream, 0, &|_, _, _, _| ok("secret"));
            });
        }
    });
    address
}
