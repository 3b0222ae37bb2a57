//! A deployment's live logs: `GET /v1/deployments/{id}/logs/tail` as a WebSocket of `model::LogRecord`s.
//!
//! Owns the socket and the reading; does not print. When the connection breaks it is made again, [`RETRIES_MAX`] times in a row
//! at most, [`RETRY_DELAY`] apart; a refusal of the API is final at once. Records of the time between are lost and not counted.
//! A connection that gives no sign of life for [`SILENCE_MAX`] counts as broken. Blocks its thread.

use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

use model::{DeploymentId, LogRecord};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tungstenite::client::IntoClientRequest;
use tungstenite::http::HeaderValue;
use tungstenite::{Error, HandshakeError, Message, WebSocket};

use crate::client::{Client, failure_of};
use crate::failure::{Failure, Kind, Outcome};

const RETRIES_MAX: u32 = 30;
const RETRY_DELAY: Duration = Duration::from_secs(1);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How often the reader looks whether it is to stop.
const TICK: Duration = Duration::from_millis(200);
/// How often the server is asked for a sign of life.
const PING_EVERY: Duration = Duration::from_secs(20);
/// Without one for so long, the connection is dead.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// What the reader is told, and what it asks.
pub(crate) trait Listener {
    /// The stream is open: records from now on are seen.
    fn opened(&mut self) {}
    /// A record came.
    fn record(&mut self, record: LogRecord);
    /// Whether to stop.
    fn stop(&self) -> bool;
}

/// Follows the logs until the listener stops it.
pub(crate) fn follow(client: &Client, id: DeploymentId, listener: &mut impl Listener) -> Outcome {
    let mut failures = 0;
    loop {
        match connect(client, id) {
            Ok(mut socket) => {
                failures = 0;
                listener.opened();
                if read(&mut socket, listener) {
                    // Courtesy: the server would see the end of the connection too.
                    let _ = socket.close(None);
                    let _ = socket.flush();
                    return Ok(());
                }
            }
            Err(failure) if failure.kind == Kind::Unreachable && failures < RETRIES_MAX => {}
            Err(failure) => return Err(failure),
        }
        if listener.stop() {
            return Ok(());
        }
        failures += 1;
        std::thread::sleep(RETRY_DELAY);
        if listener.stop() {
            return Ok(());
        }
    }
}

/// Reads until the listener stops it (true) or the connection ends (false).
fn read(socket: &mut WebSocket<Stream>, listener: &mut impl Listener) -> bool {
    let mut heard = Instant::now();
    let mut pinged = heard;
    while !listener.stop() {
        match socket.read() {
            Ok(message) => {
                heard = Instant::now();
                if let Message::Text(text) = message
                    && let Ok(record) = serde_json::from_str::<LogRecord>(&text)
                {
                    listener.record(record);
                }
            }
            Err(Error::Io(error)) if is_tick(&error) => {
                if heard.elapsed() > SILENCE_MAX {
                    return false;
                }
                if pinged.elapsed() > PING_EVERY {
                    pinged = Instant::now();
                    if socket.send(Message::Ping(Default::default())).is_err() {
                        return false;
                    }
                }
            }
            Err(_) => return false,
        }
    }
    true
}

fn is_tick(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut | std::io::ErrorKind::Interrupted
    )
}

/// The socket, with or without TLS.
enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl std::io::Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Stream::Plain(stream) => stream.read(buffer),
            Stream::Tls(stream) => stream.read(buffer),
        }
    }
}

impl std::io::Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self {
            Stream::Plain(stream) => stream.write(bytes),
            Stream::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match self {
            Stream::Plain(stream) => stream.flush(),
            Stream::Tls(stream) => stream.flush(),
        }
    }
}

fn connect(client: &Client, id: DeploymentId) -> Outcome<WebSocket<Stream>> {
    let url = format!("{}/v1/deployments/{id}/logs/tail", client.base().replacen("http", "ws", 1));
    let bad = |error: &dyn std::fmt::Display| Failure::usage(format!("not a URL for logs: {url}: {error}"));
    let mut request = url.as_str().into_client_request().map_err(|error| bad(&error))?;
    if let Some(token) = client.token() {
        let value = HeaderValue::try_from(format!("Bearer {token}")).map_err(|error| bad(&error))?;
        request.headers_mut().insert("Authorization", value);
    }
    let tls = request.uri().scheme_str() == Some("wss");
    let host = request.uri().host().ok_or_else(|| bad(&"no host"))?.trim_matches(['[', ']']).to_owned();
    let port = request.uri().port_u16().unwrap_or(if tls { 443 } else { 80 });
    let away = |error: &dyn std::fmt::Display| {
        Failure::new(Kind::Unreachable, format!("cannot reach the control plane at {}: {error}", client.base()))
    };
    let tcp = dial(&host, port).map_err(|error| away(&error))?;
    let control = tcp.try_clone().map_err(|error| away(&error))?;
    control.set_read_timeout(Some(CONNECT_TIMEOUT)).map_err(|error| away(&error))?;
    let stream = match tls {
        true => Stream::Tls(Box::new(secure(&host, tcp).map_err(|error| away(&error))?)),
        false => Stream::Plain(tcp),
    };
    match tungstenite::client(request, stream) {
        Ok((socket, _)) => {
            control.set_read_timeout(Some(TICK)).map_err(|error| away(&error))?;
            Ok(socket)
        }
        Err(HandshakeError::Failure(Error::Http(response))) => {
            let body = response.body().clone().unwrap_or_default();
            Err(failure_of(response.status().as_u16(), &body))
        }
        Err(error) => Err(away(&error)),
    }
}

fn dial(host: &str, port: u16) -> std::io::Result<TcpStream> {
    let mut last = std::io::Error::new(std::io::ErrorKind::NotFound, "the name has no address");
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn secure(
    host: &str,
    tcp: TcpStream,
) -> Result<StreamOwned<ClientConnection, TcpStream>, Box<dyn std::error::Error + Send + Sync>> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connection = ClientConnection::new(Arc::new(config), ServerName::try_from(host.to_owned())?)?;
    Ok(StreamOwned::new(connection, tcp))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;
    use crate::output::{Colour, Output};
    use crate::settings::Settings;

    struct Take {
        records: Vec<LogRecord>,
        limit: usize,
    }

    impl Listener for Take {
        fn record(&mut self, record: LogRecord) {
            self.records.push(record);
        }

        fn stop(&self) -> bool {
            self.records.len() >= self.limit
        }
    }

    fn client(listener: &TcpListener) -> Client {
        let address = listener.local_addr().expect("a bound listener has an address");
        let settings = Settings { api_url: format!("http://{address}"), token: Some("t0ken".into()), account: None };
        Client::new(&settings, Output::new(true, Colour::Never)).expect("a client")
    }

    #[test]
    #[expect(clippy::result_large_err, reason = "the callback's type is tungstenite's")]
    fn records_arrive_and_the_token_is_sent() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let client = client(&listener);
        let id = DeploymentId::new();
        let text = format!(
            r#"{{"timestamp":"2025-01-15T10:00:00.000Z","node":"n","deployment_id":"{id}","version_number":1,"level":"log","message":"hi"}}"#
        );
        let server = std::thread::spawn(move || {
            let (stream, _) = listener.accept().expect("a connection");
            let mut token = None;
            let callback = |request: &tungstenite::handshake::server::Request, response| {
                token = request.headers().get("authorization").cloned();
                Ok(response)
            };
            let mut socket = tungstenite::accept_hdr(stream, callback).expect("a handshake");
            socket.send(Message::text("not a record")).expect("sent");
            socket.send(Message::text(text)).expect("sent");
            while socket.read().is_ok() {}
            token
        });
        let mut take = Take { records: Vec::new(), limit: 1 };
        follow(&client, id, &mut take).expect("followed");
        assert_eq!(take.records[0].message, "hi");
        let token = server.join().expect("the server ends");
        assert_eq!(token.as_ref().and_then(|value| value.to_str().ok()), Some("Bearer t0ken"));
    }

    #[test]
    fn a_refusal_is_final_and_keeps_its_reason() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let client = client(&listener);
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a connection");
            let mut head = [0; 4096];
            let _ = stream.read(&mut head).expect("a request");
            let body =
                r#"{"success":false,"result":null,"errors":[{"code":10101,"message":"not yours"}],"messages":[]}"#;
            let head = format!("HTTP/1.1 403 Forbidden\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            stream.write_all(format!("{head}{body}").as_bytes()).expect("sent");
        });
        let mut take = Take { records: Vec::new(), limit: 1 };
        let failure = follow(&client, DeploymentId::new(), &mut take).expect_err("refused");
        assert_eq!((failure.kind, failure.message.as_str()), (Kind::NotAuthenticated, "not yours"));
        server.join().expect("the server ends");
    }
}
