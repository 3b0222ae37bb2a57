//! The clients: connections that are opened one after the other, and a loop that sends a message on each as soon as the last one has
//! come back.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::fd::OwnedFd;

use crate::load::Target;

/// Bytes of a message: text, as an application's small update is.
pub(super) const MESSAGE_BYTES: usize = 32;
/// Head of a server's frame of that size.
const HEAD_BYTES: usize = 2;
const PATIENCE: Duration = Duration::from_secs(10);
const EVENTS_MAX: usize = 1_024;
/// An echo that does not come ends the run.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// One connection.
struct Client {
    stream: TcpStream,
    /// Bytes of the echo that have come.
    come: usize,
}

/// Open connections.
pub(super) struct Clients {
    clients: Vec<Client>,
    epoll: OwnedFd,
    frame: Vec<u8>,
}

/// What came of a closed loop.
pub(super) struct Echoes {
    /// Messages that came back.
    pub messages: u64,
    /// How long it took.
    pub seconds: f64,
}

impl Clients {
    /// Opens so many connections.
    pub(super) fn open(target: &Target, count: usize) -> anyhow::Result<Clients> {
        let request = String::from_utf8(target.get()).context("the request is text")?;
        let upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        let request = format!("{}\r\n{upgrade}", request.trim_end());
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut clients = Vec::with_capacity(count);
        for index in 0..count {
            let stream = open(target, request.as_bytes()).with_context(|| format!("connection {index}"))?;
            epoll::add(&epoll, &stream, epoll::EventData::new_u64(index as u64), epoll::EventFlags::IN)?;
            clients.push(Client { stream, come: 0 });
        }
        // A text frame whose mask is all zero: the mask costs the server the same.
        let mut frame = vec![0x81, 0x80 | MESSAGE_BYTES as u8, 0, 0, 0, 0];
        frame.extend((0..MESSAGE_BYTES).map(|at| b'a' + (at % 26) as u8));
        Ok(Clients { clients, epoll, frame })
    }

    /// Each connection has one message under way, for so long; what comes after the first `warmup` counts. `edge` is called when
    /// counting begins and when it ends.
    pub(super) fn echo(
        &mut self,
        warmup: Duration,
        duration: Duration,
        edge: &mut dyn FnMut() -> anyhow::Result<()>,
    ) -> anyhow::Result<Echoes> {
        for index in 0..self.clients.len() {
            self.send(index)?;
        }
        let begin = Instant::now();
        let mut counted: Option<(Instant, u64)> = None;
        let (mut messages, mut last) = (0u64, Instant::now());
        let mut events: Vec<epoll::Event> = Vec::with_capacity(EVENTS_MAX);
        loop {
            let now = Instant::now();
            match counted {
                None if now - begin >= warmup => {
                    edge()?;
                    counted = Some((Instant::now(), messages));
                }
                Some((since, before)) if now - since >= duration => {
                    let seconds = since.elapsed().as_secs_f64();
                    edge()?;
                    self.drain()?;
                    return Ok(Echoes { messages: messages - before, seconds });
                }
                _ => {}
            }
            ensure!(last.elapsed() < SILENCE_MAX, "no echo for {SILENCE_MAX:?}");
            events.clear();
            let wait = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };
            epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&wait))?;
            for event in &events {
                let index = event.data.u64() as usize;
                if self.receive(index)? {
                    messages += 1;
                    last = now;
                    self.send(index)?;
                }
            }
        }
    }

    fn send(&mut self, index: usize) -> anyhow::Result<()> {
        // A few bytes on a connection that holds nothing else: the kernel takes them.
        let len = (&self.clients[index].stream).write(&self.frame)?;
        ensure!(len == self.frame.len(), "the kernel took {len} bytes of a message");
        Ok(())
    }

    /// Whether a whole echo has come.
    fn receive(&mut self, index: usize) -> anyhow::Result<bool> {
        let client = &mut self.clients[index];
        let mut buffer = [0; HEAD_BYTES + MESSAGE_BYTES];
        let len = match (&client.stream).read(&mut buffer[client.come..]) {
            Ok(0) => anyhow::bail!("the server closed connection {index}"),
            Ok(len) => len,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error).context("read"),
        };
        if client.come == 0 {
            ensure!(buffer[0] == 0x81, "connection {index} got no echo: {:?}", &buffer[..len]);
        }
        client.come += len;
        let whole = client.come == buffer.len();
        if whole {
            client.come = 0;
        }
        Ok(whole)
    }

    /// Takes the echoes that are under way.
    fn drain(&mut self) -> anyhow::Result<()> {
        for client in &mut self.clients {
            client.stream.set_nonblocking(false)?;
            let mut rest = [0; HEAD_BYTES + MESSAGE_BYTES];
            client.stream.read_exact(&mut rest[client.come..]).context("the last echo")?;
            client.come = 0;
            client.stream.set_nonblocking(true)?;
        }
        Ok(())
    }
}

fn open(target: &Target, request: &[u8]) -> anyhow::Result<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&target.addr(), PATIENCE)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(request)?;
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
        ensure!(head.len() < 4_096, "the head does not end");
    }
    ensure!(head.starts_with(b"HTTP/1.1 101 "), "not switched: {}", String::from_utf8_lossy(&head));
    stream.set_nonblocking(true)?;
    Ok(stream)
}
