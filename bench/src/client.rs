//! A blocking HTTP/1.1 client for one connection: for the deployment API, for waiting and for probing.
//!
//! *Invariant:* goes only where a [`Target`] goes. Never retries: a request that may have been acted on is the
//! caller's to judge. *Bounds:* one timeout for connecting and for each read and write; a body of
//! [`BODY_BYTES_MAX`].

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

use crate::load::Target;
use crate::load::response::{Response, ResponseReader, Sink};

/// Largest body kept.
const BODY_BYTES_MAX: usize = 16 << 20;

/// A response with what it said.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Fields in wire order, names in lower case.
    pub fields: Vec<(String, String)>,
    /// The decoded body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The first field of that name (lower case).
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Sink for Answer {
    fn head(&mut self, status: u16, fields: &[httparse::Header<'_>]) {
        self.status = status;
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        self.fields = fields.iter().map(|field| (field.name.to_ascii_lowercase(), text(field.value))).collect();
    }

    fn body(&mut self, bytes: &[u8]) {
        let room = BODY_BYTES_MAX + 1 - self.body.len().min(BODY_BYTES_MAX + 1);
        self.body.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
}

/// One connection, opened when needed and kept while the server keeps it.
pub struct Client {
    target: Target,
    timeout: Duration,
    stream: Option<TcpStream>,
}

impl Client {
    /// A client for a target; opens nothing yet.
    pub fn new(target: Target, timeout: Duration) -> Client {
        Client { target, timeout, stream: None }
    }

    /// Sends a request with a body (empty: none) and reads its response.
    pub fn request(
        &mut self,
        method: &str,
        path: &str,
        fields: &[(&str, &str)],
        body: &[u8],
    ) -> anyhow::Result<Answer> {
        let mut bytes = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n", self.target.host).into_bytes();
        for (name, value) in fields {
            write!(bytes, "{name}: {value}\r\n")?;
        }
        if !body.is_empty() || method == "POST" || method == "PUT" {
            write!(bytes, "Content-Length: {}\r\n", body.len())?;
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(body);
        self.raw(&bytes, method == "HEAD").with_context(|| format!("{method} http://{}{path}", self.target.addr()))
    }

    /// A `GET` of the target's own path.
    pub fn get(&mut self) -> anyhow::Result<Answer> {
        let bytes = self.target.get();
        self.raw(&bytes, false).with_context(|| format!("GET http://{}{}", self.target.addr(), self.target.path))
    }

    fn raw(&mut self, bytes: &[u8], to_head: bool) -> anyhow::Result<Answer> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => self.open()?,
        };
        stream.write_all(bytes)?;
        let (answer, response) = read_answer(&mut stream, to_head, self.timeout)?;
        if response.keep_alive {
            self.stream = Some(stream);
        }
        Ok(answer)
    }

    fn open(&self) -> anyhow::Result<TcpStream> {
        let stream = TcpStream::connect_timeout(&self.target.addr(), self.timeout)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(self.timeout))?;
        stream.set_write_timeout(Some(self.timeout))?;
        Ok(stream)
    }
}

/// Reads one response; `timeout` bounds the whole of it, beside the stream's own for each read.
pub(crate) fn read_answer(
    stream: &mut TcpStream,
    to_head: bool,
    timeout: Duration,
) -> anyhow::Result<(Answer, Response)> {
    let begin = Instant::now();
    let mut reader = ResponseReader::default();
    let mut answer = Answer::default();
    let mut buffer = [0u8; 16 * 1024];
    loop {
        let length = stream.read(&mut buffer)?;
        let done = if length == 0 { reader.end()? } else { reader.feed(&buffer[..length], to_head, &mut answer)?.1 };
        ensure!(answer.body.len() <= BODY_BYTES_MAX, "a body over {BODY_BYTES_MAX} bytes");
        if let Some(response) = done {
            return Ok((answer, response));
        }
        if length == 0 {
            bail!("closed without a response");
        }
        ensure!(begin.elapsed() < timeout, "no whole response within {timeout:?}");
    }
}
