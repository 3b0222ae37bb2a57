//! A connection's buffers: what has been read and not used, what is to be written and not sent.
//!
//! Reading goes through one buffer of the shard, so that a waiting connection owns next to nothing.

use crate::config::{BODY_COPY_BYTES_MAX, BUFFER_KEEP_BYTES, READ_BYTES_MAX, WRITE_BEHIND_BYTES};
use crate::link::{Buffer, Link};
use crate::metrics::ShardMetrics;
use crate::socket::Socket;
use bytes::{Buf, Bytes};
use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// The buffer that all connections of a shard read through: no await lies between filling and emptying it.
pub(crate) type Scratch = Rc<RefCell<Box<[u8]>>>;

/// A new buffer to read through.
pub(crate) fn scratch() -> Scratch {
    Rc::new(RefCell::new(vec![0; READ_BYTES_MAX].into_boxed_slice()))
}

/// Buffers of a connection that may be idle for long are kept up to this size.
const IDLE_KEEP_BYTES: usize = 256;

/// Who is at the other end: what its bytes are counted as.
#[derive(Clone, Copy)]
pub(crate) enum Side {
    Client,
    Origin,
}

/// What is sent from where it is.
enum Tail {
    None,
    Bytes(Bytes),
    Buffer(Buffer, Rc<Link>),
}

impl Tail {
    fn bytes(&self) -> &[u8] {
        match self {
            Tail::None => &[],
            Tail::Bytes(bytes) => bytes,
            Tail::Buffer(buffer, _) => buffer.bytes(),
        }
    }

    fn sent(&mut self, len: usize) {
        match self {
            Tail::None => {}
            Tail::Bytes(bytes) => bytes.advance(len),
            Tail::Buffer(buffer, _) => buffer.sent(len),
        }
        if self.bytes().is_empty()
            && let Tail::Buffer(buffer, link) = std::mem::replace(self, Tail::None)
        {
            link.give_back(buffer);
        }
    }
}

/// A socket with its two buffers.
pub(crate) struct Io<S> {
    pub(crate) socket: S,
    scratch: Scratch,
    metrics: Arc<ShardMetrics>,
    side: Side,
    input: Vec<u8>,
    used: usize,
    output: Vec<u8>,
    sent: usize,
    /// A large body or a part of one, sent after `output`.
    tail: Tail,
    read_ended: bool,
    /// Bytes moved either way: what a time limit on progress looks at.
    moved: u64,
}

impl<S: Socket> Io<S> {
    pub(crate) fn new(socket: S, side: Side, scratch: Scratch, metrics: Arc<ShardMetrics>) -> Io<S> {
        Io {
            socket,
            scratch,
            metrics,
            side,
            input: Vec::new(),
            used: 0,
            output: Vec::new(),
            sent: 0,
            tail: Tail::None,
            read_ended: false,
            moved: 0,
        }
    }

    /// The socket, if nothing of a message is in the buffers.
    pub(crate) fn into_socket(self) -> Option<S> {
        (self.flushed() && self.input().is_empty() && !self.read_ended).then_some(self.socket)
    }

    /// What has been read and not used.
    pub(crate) fn input(&self) -> &[u8] {
        &self.input[self.used..]
    }

    /// The first `len` bytes of the input are used.
    pub(crate) fn consume(&mut self, len: usize) {
        self.used += len;
        debug_assert!(self.used <= self.input.len(), "used more than was there");
        if self.used == self.input.len() {
            self.used = 0;
            if self.input.capacity() > BUFFER_KEEP_BYTES {
                self.input = Vec::new();
            } else {
                self.input.clear();
            }
        }
    }

    /// Reads once. 0 when the peer has ended its side, which every later call says again.
    pub(crate) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.read_ended {
            return Poll::Ready(Ok(0));
        }
        let scratch = self.scratch.clone();
        let mut scratch = scratch.borrow_mut();
        let len = ready!(self.poll_read(cx, &mut scratch))?;
        if self.used > 0 {
            self.input.drain(..self.used);
            self.used = 0;
        }
        self.input.extend_from_slice(&scratch[..len]);
        Poll::Ready(Ok(len))
    }

    /// The same past the input, which must be empty.
    pub(crate) fn poll_fill_into(&mut self, cx: &mut Context<'_>, space: &mut [u8]) -> Poll<io::Result<usize>> {
        debug_assert!(self.input().is_empty(), "what came first is used first");
        if self.read_ended {
            return Poll::Ready(Ok(0));
        }
        self.poll_read(cx, space)
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, space: &mut [u8]) -> Poll<io::Result<usize>> {
        let len = ready!(self.socket.poll_read(cx, space))?;
        if len == 0 {
            self.read_ended = true;
        }
        self.moved += len as u64;
        match self.side {
            Side::Client => self.metrics.bytes_received.add(len as u64),
            Side::Origin => self.metrics.fetch_bytes_received.add(len as u64),
        }
        Poll::Ready(Ok(len))
    }

    /// Whether the peer has ended its side.
    pub(crate) fn read_ended(&self) -> bool {
        self.read_ended
    }

    /// Where the next response bytes go. Only while [`may_append`](Io::may_append).
    pub(crate) fn output(&mut self) -> &mut Vec<u8> {
        debug_assert!(self.tail.bytes().is_empty(), "bytes appended behind a body that is not sent");
        &mut self.output
    }

    /// Appends a body whole: copied if it is small, kept as it is if not.
    pub(crate) fn append_body(&mut self, body: Bytes) {
        if body.len() <= BODY_COPY_BYTES_MAX {
            self.output.extend_from_slice(&body);
        } else {
            self.tail = Tail::Bytes(body);
        }
    }

    /// Appends a part of a body; its buffer goes back to the link.
    pub(crate) fn append_buffer(&mut self, buffer: Buffer, link: &Rc<Link>) {
        debug_assert!(self.tail.bytes().is_empty(), "bytes appended behind a body that is not sent");
        self.tail = Tail::Buffer(buffer, link.clone());
    }

    /// Appends bytes, which are taken as they are where nothing waits.
    pub(crate) fn append_owned(&mut self, bytes: Vec<u8>) {
        if self.output.is_empty() {
            self.output = bytes;
        } else {
            self.output().extend_from_slice(&bytes);
        }
    }

    /// Whether what is appended now does not fall into the middle of a body.
    pub(crate) fn between_frames(&self) -> bool {
        self.tail.bytes().is_empty()
    }

    /// Gives back buffers that wait for nothing: for a connection that may be idle for long.
    pub(crate) fn release(&mut self) {
        if self.used == self.input.len() && self.input.capacity() > IDLE_KEEP_BYTES {
            self.used = 0;
            self.input = Vec::new();
        }
        if self.output.is_empty() && self.output.capacity() > IDLE_KEEP_BYTES {
            self.output = Vec::new();
        }
    }

    /// Whether there is room for more response bytes.
    pub(crate) fn may_append(&self) -> bool {
        self.tail.bytes().is_empty() && self.output.len() - self.sent < WRITE_BEHIND_BYTES
    }

    /// Whether everything is sent.
    pub(crate) fn flushed(&self) -> bool {
        self.output.is_empty() && self.tail.bytes().is_empty()
    }

    /// Bytes moved so far, either way.
    pub(crate) fn moved(&self) -> u64 {
        self.moved
    }

    /// Sends until everything is sent.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.output.len() {
            let len = ready!(self.socket.poll_write(cx, &self.output[self.sent..]))?;
            self.count_sent(len)?;
            self.sent += len;
        }
        self.sent = 0;
        if self.output.capacity() > BUFFER_KEEP_BYTES {
            self.output = Vec::new();
        } else {
            self.output.clear();
        }
        while !self.tail.bytes().is_empty() {
            let len = ready!(self.socket.poll_write(cx, self.tail.bytes()))?;
            self.count_sent(len)?;
            self.tail.sent(len);
        }
        self.socket.poll_flush(cx)
    }

    fn count_sent(&mut self, len: usize) -> io::Result<()> {
        if len == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.moved += len as u64;
        match self.side {
            Side::Client => self.metrics.bytes_sent.add(len as u64),
            Side::Origin => self.metrics.fetch_bytes_sent.add(len as u64),
        }
        Ok(())
    }
}
