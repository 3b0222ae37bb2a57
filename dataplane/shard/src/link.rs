//! A body on its way from one socket of the shard to another: a client's request to an origin, an origin's response to a client.
//!
//! Where a Worker passes a body on unread, and where the origin answers in its place, the bytes go through a [`Link`] and never
//! through an isolate. One task fills buffers from its socket ([`fill`]), another sends them from where they are ([`drain`]);
//! the buffers go round, and a chunk's framing is written around the data in place.
//!
//! *Bounds:* [`LINK_BUFFERS_MAX`] full buffers and one that is being sent, of at most [`LINK_BUFFER_BYTES_MAX`]; small bodies have
//! small ones. *Failures:* what ends the one side is told to the other; a body that is not whole is never ended as if it were.

use crate::cell::{keep_waker, wake};
use crate::config::{LINK_BUFFER_BYTES_MAX, LINK_BUFFER_BYTES_MIN, LINK_BUFFERS_MAX};
use crate::io::Io;
use crate::socket::Socket;
use bytes::Bytes;
use h1::body::{self, BodyError, Decoded, Decoder};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use worker_api::event::SocketId;

/// Room before the data for a chunk's head.
const BEFORE: usize = body::CHUNK_HEAD_BYTES_MAX;
/// Room behind it for what ends a chunk.
const BEHIND: usize = body::CHUNK_TAIL.len();

/// The body of a message that the shard is to send.
#[derive(Debug)]
pub(crate) enum SendBody {
    Empty,
    Full(Bytes),
    /// Chunks are pulled from whoever made the message.
    Stream {
        length: Option<u64>,
    },
    /// It comes from another socket.
    Link {
        link: Rc<Link>,
        length: Option<u64>,
        bytes_max: u64,
    },
    /// None: the protocol is switched.
    Socket(SocketId),
}

impl SendBody {
    /// Bytes in all, where that is known.
    pub(crate) fn length(&self) -> Option<u64> {
        match self {
            SendBody::Empty | SendBody::Socket(_) => Some(0),
            SendBody::Full(bytes) => Some(bytes.len() as u64),
            SendBody::Stream { length } | SendBody::Link { length, .. } => *length,
        }
    }
}

/// A body between two tasks of a shard.
#[derive(Debug, Default)]
pub(crate) struct Link {
    state: RefCell<State>,
}

#[derive(Debug, Default)]
struct State {
    filled: VecDeque<Buffer>,
    spare: Option<Vec<u8>>,
    /// Size of the next new buffer.
    bytes: usize,
    /// What follows the last buffer.
    end: Option<Result<(), String>>,
    /// Nobody takes anything any more.
    left: bool,
    producer: Option<Waker>,
    consumer: Option<Waker>,
}

/// A buffer with some of the body in it.
#[derive(Debug)]
pub(crate) struct Buffer {
    memory: Vec<u8>,
    start: usize,
    end: usize,
}

impl Buffer {
    /// What there is to send.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.memory[self.start..self.end]
    }

    /// So much of it is sent.
    pub(crate) fn sent(&mut self, len: usize) {
        self.start += len;
    }

    /// Where data goes.
    fn space(&mut self) -> &mut [u8] {
        let end = self.memory.len() - BEHIND;
        &mut self.memory[BEFORE..end]
    }

    /// So much was put there, at least a byte.
    fn filled(&mut self, len: usize) {
        (self.start, self.end) = (BEFORE, BEFORE + len);
    }

    /// Makes a chunk of the data.
    fn frame(&mut self) {
        let mut head = Vec::with_capacity(BEFORE);
        body::push_chunk_head(&mut head, self.end - self.start);
        self.memory[self.end..self.end + BEHIND].copy_from_slice(body::CHUNK_TAIL);
        self.end += BEHIND;
        let start = self.start - head.len();
        self.memory[start..self.start].copy_from_slice(&head);
        self.start = start;
    }
}

/// What comes next out of a link.
pub(crate) enum Step {
    Some(Buffer),
    Whole,
    Broken(String),
}

impl Link {
    pub(crate) fn new() -> Rc<Link> {
        Rc::default()
    }

    /// Whether more may be put in.
    pub(crate) fn has_room(&self) -> bool {
        let state = self.state.borrow();
        !state.left && state.end.is_none() && state.filled.len() < LINK_BUFFERS_MAX
    }

    /// An empty buffer, while there is room.
    fn buffer(&self) -> Option<Buffer> {
        if !self.has_room() {
            return None;
        }
        let mut state = self.state.borrow_mut();
        state.bytes = state.bytes.max(LINK_BUFFER_BYTES_MIN);
        let bytes = state.bytes + BEFORE + BEHIND;
        let spare = state.spare.take().filter(|spare| spare.len() >= bytes);
        Some(Buffer { memory: spare.unwrap_or_else(|| vec![0; bytes]), start: 0, end: 0 })
    }

    /// Puts a buffer in with `len` bytes in its space.
    fn push(&self, mut buffer: Buffer, len: usize) {
        let full = len == buffer.space().len();
        buffer.filled(len);
        let mut state = self.state.borrow_mut();
        if full {
            state.bytes = (state.bytes * 4).min(LINK_BUFFER_BYTES_MAX);
        }
        state.filled.push_back(buffer);
        wake(&mut state.consumer);
    }

    /// Puts bytes in that came in no buffer of the link's; whether there is room for more.
    pub(crate) fn push_bytes(&self, bytes: &[u8]) -> bool {
        debug_assert!(self.has_room(), "bytes for a link that is full");
        for part in bytes.chunks(LINK_BUFFER_BYTES_MAX) {
            let mut memory = vec![0; part.len() + BEFORE + BEHIND];
            memory[BEFORE..BEFORE + part.len()].copy_from_slice(part);
            self.push(Buffer { memory, start: 0, end: 0 }, part.len());
        }
        self.has_room()
    }

    /// The body is complete, or ends early. The first word counts.
    pub(crate) fn end(&self, end: Result<(), String>) {
        let mut state = self.state.borrow_mut();
        if state.end.is_none() {
            state.end = Some(end);
            wake(&mut state.consumer);
        }
    }

    /// Whether nobody takes anything any more.
    pub(crate) fn is_left(&self) -> bool {
        self.state.borrow().left
    }

    /// Wakes the task that fills when there is room, or nobody to take.
    pub(crate) fn wait_for_room(&self, cx: &Context<'_>) {
        keep_waker(&mut self.state.borrow_mut().producer, cx);
    }

    /// What comes next, if it is here.
    pub(crate) fn take(&self) -> Option<Step> {
        let mut state = self.state.borrow_mut();
        if let Some(buffer) = state.filled.pop_front() {
            wake(&mut state.producer);
            return Some(Step::Some(buffer));
        }
        state.end.clone().map(|end| end.map_or_else(Step::Broken, |()| Step::Whole))
    }

    /// A buffer is sent.
    pub(crate) fn give_back(&self, buffer: Buffer) {
        let mut state = self.state.borrow_mut();
        if state.spare.is_none() && state.end.is_none() {
            state.spare = Some(buffer.memory);
        }
    }

    /// Wakes the task that takes when there is something.
    pub(crate) fn wait_for_more(&self, cx: &Context<'_>) {
        keep_waker(&mut self.state.borrow_mut().consumer, cx);
    }

    /// Nothing more is wanted.
    pub(crate) fn leave(&self) {
        let mut state = self.state.borrow_mut();
        state.left = true;
        state.filled.clear();
        state.spare = None;
        wake(&mut state.producer);
    }
}

/// Why filling ended.
#[derive(Debug)]
pub(crate) enum Filled {
    /// The body is complete; the link was told.
    Whole,
    /// Nobody wants the rest.
    Unwanted,
    /// The peer closed before the end.
    Eof,
    Io(io::Error),
    Malformed(BodyError),
}

/// Moves what comes on a connection into the link, as long as there is room. Pending: for the socket or for room; the task is woken.
pub(crate) fn fill<S: Socket>(
    link: &Link,
    io: &mut Io<S>,
    decoder: &mut Decoder,
    cx: &mut Context<'_>,
) -> Poll<Filled> {
    loop {
        if link.is_left() {
            return Poll::Ready(Filled::Unwanted);
        }
        if decoder.ended() {
            link.end(Ok(()));
            return Poll::Ready(Filled::Whole);
        }
        let Some(mut buffer) = link.buffer() else {
            link.wait_for_room(cx);
            return Poll::Pending;
        };
        if io.input().is_empty() && decoder.run() > 0 {
            let space = buffer.space();
            let len = space.len().min(usize::try_from(decoder.run()).unwrap_or(usize::MAX));
            match io.poll_fill_into(cx, &mut space[..len]) {
                Poll::Ready(Ok(len)) if len > 0 => {
                    decoder.advance(len as u64);
                    link.push(buffer, len);
                    continue;
                }
                other => {
                    link.give_back(buffer);
                    match other {
                        Poll::Pending => {
                            link.wait_for_room(cx);
                            return Poll::Pending;
                        }
                        Poll::Ready(Ok(_)) => return Poll::Ready(at_eof(link, decoder)),
                        Poll::Ready(Err(error)) => return Poll::Ready(Filled::Io(error)),
                    }
                }
            }
        }
        let portion = io.input().len().min(buffer.space().len());
        match decoder.decode(&io.input()[..portion]) {
            Ok(Decoded::Data { skip, len }) => {
                buffer.space()[..len].copy_from_slice(&io.input()[skip..skip + len]);
                io.consume(skip + len);
                link.push(buffer, len);
                continue;
            }
            Ok(Decoded::End { used }) => io.consume(used),
            Ok(Decoded::More) => io.consume(portion),
            Err(error) => return Poll::Ready(Filled::Malformed(error)),
        }
        link.give_back(buffer);
        if !decoder.ended() && decoder.run() == 0 && io.input().is_empty() {
            match io.poll_fill(cx) {
                Poll::Ready(Ok(0)) => return Poll::Ready(at_eof(link, decoder)),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Filled::Io(error)),
                Poll::Pending => {
                    link.wait_for_room(cx);
                    return Poll::Pending;
                }
            }
        }
    }
}

fn at_eof(link: &Link, decoder: &mut Decoder) -> Filled {
    match decoder.eof() {
        Ok(()) => {
            link.end(Ok(()));
            Filled::Whole
        }
        Err(_) => Filled::Eof,
    }
}

/// What was sent of a link.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Drained {
    /// Nothing is there, or there is no room.
    Nothing,
    Some,
    /// All of it is in the output.
    Whole,
    /// It is not whole, or not as long as promised.
    Broken(String),
}

/// Puts what came out of the link into the output. `left`: bytes that it may still have; a body with a promised length must have
/// them all.
pub(crate) fn drain<S: Socket>(
    link: &Rc<Link>,
    io: &mut Io<S>,
    chunked: bool,
    promised: bool,
    left: &mut u64,
) -> Drained {
    if !io.may_append() {
        return Drained::Nothing;
    }
    match link.take() {
        None => Drained::Nothing,
        Some(Step::Some(mut buffer)) => {
            let Some(rest) = left.checked_sub(buffer.bytes().len() as u64) else {
                return Drained::Broken("the body is longer than it may be".to_owned());
            };
            *left = rest;
            if chunked {
                buffer.frame();
            }
            io.append_buffer(buffer, link);
            Drained::Some
        }
        Some(Step::Whole) if promised && *left > 0 => {
            Drained::Broken("the body is shorter than it was promised to be".to_owned())
        }
        Some(Step::Whole) => {
            if chunked {
                io.output().extend_from_slice(body::LAST_CHUNK);
            }
            Drained::Whole
        }
        Some(Step::Broken(why)) => Drained::Broken(why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buffer(link: &Link, text: &str) -> Buffer {
        let mut buffer = link.buffer().expect("there is room");
        buffer.space()[..text.len()].copy_from_slice(text.as_bytes());
        buffer
    }

    #[test]
    fn a_chunk_is_framed_in_place() {
        let link = Link::new();
        link.push(buffer(&link, "0123456789"), 10);
        let Some(Step::Some(mut buffer)) = link.take() else { panic!("a buffer") };
        buffer.frame();
        assert_eq!(buffer.bytes(), b"a\r\n0123456789\r\n");
        buffer.sent(3);
        assert_eq!(buffer.bytes(), b"0123456789\r\n");
    }

    #[test]
    fn a_link_holds_so_many_buffers_and_grows_them() {
        let link = Link::new();
        for _ in 0..LINK_BUFFERS_MAX {
            let buffer = buffer(&link, "x");
            assert_eq!(buffer.memory.len(), LINK_BUFFER_BYTES_MIN + BEFORE + BEHIND);
            link.push(buffer, 1);
        }
        assert!(!link.has_room() && link.buffer().is_none());
        let Some(Step::Some(first)) = link.take() else { panic!("a buffer") };
        link.give_back(first);
        let full = link.buffer().expect("there is room again");
        link.push(full, LINK_BUFFER_BYTES_MIN);
        while let Some(Step::Some(buffer)) = link.take() {
            link.give_back(buffer);
        }
        let larger = link.buffer().expect("room");
        assert!(larger.memory.len() > 2 * LINK_BUFFER_BYTES_MIN, "{}", larger.memory.len());
    }

    #[test]
    fn the_end_comes_last_and_the_first_word_counts() {
        let link = Link::new();
        link.push(buffer(&link, "x"), 1);
        link.end(Err("one".to_owned()));
        link.end(Ok(()));
        assert!(matches!(link.take(), Some(Step::Some(_))));
        assert!(matches!(link.take(), Some(Step::Broken(why)) if why == "one"));
        assert!(!link.has_room(), "nothing is put behind the end");
    }

    #[test]
    fn a_link_that_was_left_takes_nothing() {
        let link = Link::new();
        link.leave();
        assert!(link.is_left() && !link.has_room());
    }
}
