//! HTTP/1.1 as a client speaks it, and bytes as an attacker sends them.
//!
//! Small on purpose and its own: a test of a server must not lean on the server's parser. Reads `Content-Length`, chunked and
//! until-close bodies, and fails loudly on anything that is not exactly one of them. Every read has a timeout.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A read or write that makes no progress.
pub const TIMEOUT: Duration = Duration::from_secs(30);

/// A response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Status code.
    pub status: u16,
    /// Fields in order, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body, decoded from its framing.
    pub body: Vec<u8>,
}

impl Reply {
    /// The first field of that name (lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }

    /// All fields of a name as one, as RFC 9110 §5.3 has it.
    pub fn joined(&self, name: &str) -> Option<String> {
        let values: Vec<&str> =
            self.headers.iter().filter(|(field, _)| field == name).map(|it| it.1.as_str()).collect();
        (!values.is_empty()).then(|| values.join(", "))
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The number in `X-Deployment-Version: v<number>`.
    pub fn version(&self) -> Option<u32> {
        self.header("x-deployment-version")?.strip_prefix('v')?.parse().ok()
    }
}

/// A request to be sent.
#[derive(Clone, Debug)]
pub struct Request {
    head: String,
    body: Vec<u8>,
    /// HEAD has a head only.
    pub is_head: bool,
}

impl Request {
    /// A request without body.
    pub fn new(method: &str, host: &str, target: &str) -> Request {
        let head = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n");
        Request { head, body: Vec::new(), is_head: method == "HEAD" }
    }

    /// Adds a field.
    pub fn header(mut self, name: &str, value: &str) -> Request {
        self.head.push_str(&format!("{name}: {value}\r\n"));
        self
    }

    /// Adds a body with its length.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Request {
        self.body = body.into();
        let length = self.body.len().to_string();
        self.header("Content-Length", &length)
    }

    /// The bytes on the wire.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.head.clone().into_bytes();
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

/// A connection; kept alive as long as both sides wish.
pub struct Connection {
    stream: TcpStream,
    /// Bytes read and not yet consumed.
    buffer: Vec<u8>,
}

impl Connection {
    /// Connects.
    pub fn open(address: SocketAddr) -> io::Result<Connection> {
        let stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        stream.set_nodelay(true)?;
        Ok(Connection { stream, buffer: Vec::new() })
    }

    /// The socket, for tests that send or read bytes of their own.
    pub fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// Sends a request and reads its response.
    pub fn exchange(&mut self, request: &Request) -> io::Result<Reply> {
        self.stream.write_all(&request.bytes())?;
        self.reply(request.is_head)
    }

    /// Reads a response; interim ones (1xx) are passed over.
    pub fn reply(&mut self, is_head: bool) -> io::Result<Reply> {
        loop {
            let (status, headers) = self.head()?;
            if (100..200).contains(&status) && status != 101 {
                continue;
            }
            let mut reply = Reply { status, headers, body: Vec::new() };
            if !is_head && !matches!(status, 204 | 304) {
                reply.body = self.body(&reply)?;
            }
            return Ok(reply);
        }
    }

    /// Reads a response's head.
    pub fn head(&mut self) -> io::Result<(u16, Vec<(String, String)>)> {
        let end = loop {
            if let Some(at) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            if self.fill()? == 0 {
                return Err(io::Error::new(ErrorKind::UnexpectedEof, "closed before the end of a head"));
            }
        };
        let head: Vec<u8> = self.buffer.drain(..end).collect();
        let text = String::from_utf8(head).map_err(|_| bad("the head is no text"))?;
        let mut lines = text.trim_end_matches("\r\n").split("\r\n");
        let first = lines.next().unwrap_or_default();
        let status = first.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).and_then(|code| code.parse().ok());
        let status = status.ok_or_else(|| bad(&format!("no status line: {first:?}")))?;
        let field = |line: &str| {
            let (name, value) = line.split_once(':').ok_or_else(|| bad(&format!("no field: {line:?}")))?;
            Ok((name.to_ascii_lowercase(), value.trim().to_owned()))
        };
        Ok((status, lines.map(field).collect::<io::Result<_>>()?))
    }

    /// Reads the body that the head of `reply` announces.
    fn body(&mut self, reply: &Reply) -> io::Result<Vec<u8>> {
        if reply.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
            let mut body = Vec::new();
            while let Some(chunk) = self.chunk()? {
                body.extend_from_slice(&chunk);
            }
            return Ok(body);
        }
        if let Some(length) = reply.header("content-length") {
            let length: usize = length.parse().map_err(|_| bad("a length that is no number"))?;
            return self.take(length);
        }
        if !reply.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) {
            return Err(bad("a body without framing on a connection that stays open"));
        }
        while self.fill()? > 0 {}
        Ok(std::mem::take(&mut self.buffer))
    }

    /// Reads one chunk; none at the end.
    pub fn chunk(&mut self) -> io::Result<Option<Vec<u8>>> {
        let line = self.line()?;
        let size = line.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(size, 16).map_err(|_| bad(&format!("no chunk size: {line:?}")))?;
        if size == 0 {
            while !self.line()?.is_empty() {}
            return Ok(None);
        }
        let chunk = self.take(size)?;
        match self.take(2)?.as_slice() {
            b"\r\n" => Ok(Some(chunk)),
            _ => Err(bad("a chunk without its end")),
        }
    }

    fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(at) = self.buffer.windows(2).position(|window| window == b"\r\n") {
                let line: Vec<u8> = self.buffer.drain(..at + 2).collect();
                return String::from_utf8(line[..at].to_vec()).map_err(|_| bad("a line that is no text"));
            }
            if self.fill()? == 0 {
                return Err(io::Error::new(ErrorKind::UnexpectedEof, "closed within a line"));
            }
        }
    }

    fn take(&mut self, length: usize) -> io::Result<Vec<u8>> {
        while self.buffer.len() < length {
            if self.fill()? == 0 {
                return Err(io::Error::new(ErrorKind::UnexpectedEof, "closed within a body"));
            }
        }
        Ok(self.buffer.drain(..length).collect())
    }

    fn fill(&mut self) -> io::Result<usize> {
        let mut bytes = [0; 64 * 1024];
        loop {
            match self.stream.read(&mut bytes) {
                Ok(count) => {
                    self.buffer.extend_from_slice(&bytes[..count]);
                    return Ok(count);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

fn bad(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}

/// One request on a connection of its own. Panics where there is no answer.
pub fn send(address: SocketAddr, request: &Request) -> Reply {
    let reply = Connection::open(address).and_then(|mut connection| connection.exchange(request));
    reply.unwrap_or_else(|error| panic!("no answer of {address} to {:?}: {error}", request.head))
}

/// `GET`.
pub fn get(address: SocketAddr, host: &str, target: &str) -> Reply {
    send(address, &Request::new("GET", host, target))
}

/// What came back for bytes that need not be HTTP.
#[derive(Clone, Debug)]
pub struct Raw {
    /// All of it.
    pub bytes: Vec<u8>,
    /// Whether the server closed the connection within the time.
    pub closed: bool,
}

impl Raw {
    /// Status codes of the responses, found by their status lines.
    pub fn statuses(&self) -> Vec<u16> {
        let text = String::from_utf8_lossy(&self.bytes);
        text.split("HTTP/1.1 ").skip(1).filter_map(|rest| rest.get(..3)?.parse().ok()).collect()
    }
}

/// Sends bytes as they are and reads until the server closes, or nothing comes for `patience`.
pub fn raw(address: SocketAddr, bytes: &[u8], patience: Duration) -> io::Result<Raw> {
    let mut connection = Connection::open(address)?;
    connection.stream.set_read_timeout(Some(patience))?;
    // A server that refuses early may close before all is sent; what it said counts.
    let _ = connection.stream.write_all(bytes);
    loop {
        match connection.fill() {
            Ok(0) => return Ok(Raw { bytes: connection.buffer, closed: true }),
            Ok(_) if connection.buffer.len() > 1 << 20 => return Err(bad("more than a MiB of answer")),
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return Ok(Raw { bytes: connection.buffer, closed: false });
            }
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => {
                return Ok(Raw { bytes: connection.buffer, closed: true });
            }
            Err(error) => return Err(error),
        }
    }
}
