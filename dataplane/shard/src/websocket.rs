//! A connection that is a WebSocket: between its buffers and its Worker's mailbox.
//!
//! Pings are answered here, and sent where a peer is silent. A message is read when the Worker asks for one; until then 16 KiB of what comes
//! are read ahead, so that a peer that leaves is noticed. Messages that have come are given to the Worker in this task, as
//! requests are: most are answered before this returns.
//!
//! *Bounds:* those of [`crate::sockets`]; [`MESSAGES_PER_TURN`] before other connections get their turn; a peer's silence and
//! its delay in closing by `WEBSOCKET_PING_NS` and `WEBSOCKET_ANSWER_NS`. *Fails:* a breach closes with its code; a lost connection is told of
//! as 1006. A Worker that is gone closes with 1011, a drain with 1001.

use crate::cell::WorkerCell;
use crate::config::{LINGER_NS, READ_AHEAD_BYTES_MAX, WEBSOCKET_TUNNEL_IDLE_NS};
use crate::connection;
use crate::io::Io;
use crate::shard::Shard;
use crate::socket::Socket;
use crate::sockets::{Next, SocketMail};
use crate::watch::Watched;
use base::limits::{WEBSOCKET_ANSWER_NS, WEBSOCKET_MESSAGE_BYTES_MAX, WEBSOCKET_PING_NS};
use bytes::Bytes;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};
use websocket::{Breach, CloseCode, Decoder, FrameHead, Incoming, Opcode, Role, push_close, push_frame};
use worker_api::event::{Event, SocketEnd, SocketId, SocketMessage};

/// Messages taken in a row.
const MESSAGES_PER_TURN: u32 = 16;
/// Control frames that wait to be sent, bytes.
const CONTROL_BYTES_MAX: usize = 1024;
/// Random bytes that are asked for at a time, for masks.
const MASK_BYTES: usize = 64;

/// Counts a WebSocket as long as it is open.
struct Counted(Rc<Shard>);

impl Counted {
    fn new(shard: &Rc<Shard>) -> Counted {
        shard.metrics.websockets.add(1);
        shard.metrics.websockets_opened.add(1);
        Counted(shard.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.metrics.websockets.sub(1);
    }
}

/// Masks of a client's frames: unpredictable to whoever chose what is masked (RFC 6455 §10.3).
#[derive(Default)]
struct Masks {
    random: Vec<u8>,
}

impl Masks {
    fn next(&mut self, shard: &Shard) -> [u8; 4] {
        if self.random.len() < 4 {
            self.random = shard.random::<MASK_BYTES>().to_vec();
        }
        let at = self.random.len() - 4;
        let mask = std::array::from_fn(|byte| self.random[at + byte]);
        self.random.truncate(at);
        mask
    }
}

/// A WebSocket that a Worker has.
struct Session<'a, S> {
    shard: &'a Rc<Shard>,
    io: Io<S>,
    watch: Watched,
    cell: Rc<WorkerCell>,
    socket: SocketId,
    mail: Rc<SocketMail>,
    decoder: Decoder,
    masks: Masks,
    /// Pongs, pings and the last close frame, which may not go between a head and its payload.
    control: Vec<u8>,
    /// Bytes of a message that is not complete, as counted.
    held: usize,
    /// Bytes moved when the time limit was set last.
    moved: u64,
    /// What the time limit is about.
    limit: Limit,
    /// Our close frame is written.
    close_sent: bool,
    /// The peer's has come.
    close_received: bool,
    /// A breach, or a bound: nothing more is read.
    failed: bool,
    /// The Worker knows how it ended.
    told: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Limit {
    None,
    /// The peer is silent.
    Silence,
    /// It was asked whether it is there.
    Pong,
    /// It does not take what is sent.
    Stall,
    /// One of the two has closed.
    Close,
}

/// What becomes of the connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// Both sides have closed, or ours has because of a breach.
    Closed,
    /// It is gone.
    Lost,
}

/// Serves a WebSocket of the Worker until it ends. The connection is closed then.
pub(crate) async fn serve<S: Socket>(
    shard: &Rc<Shard>,
    io: Io<S>,
    watch: Watched,
    cell: Rc<WorkerCell>,
    socket: SocketId,
    mail: Rc<SocketMail>,
) {
    let counted = Counted::new(shard);
    let mut session = Session {
        shard,
        io,
        watch,
        decoder: Decoder::new(mail.role(), WEBSOCKET_MESSAGE_BYTES_MAX),
        cell,
        socket,
        mail,
        masks: Masks::default(),
        control: Vec::new(),
        held: 0,
        moved: 0,
        limit: Limit::None,
        close_sent: false,
        close_received: false,
        failed: false,
        told: false,
    };
    let ended = poll_fn(|cx| session.poll(cx)).await;
    session.mail.discard();
    session.hold(0);
    if !session.told || (session.close_received && !session.close_sent) {
        session.tell(None, String::new(), SocketEnd::Lost);
    }
    let Session { cell, mut io, watch, .. } = session;
    cell.remove_socket(socket);
    drop((cell, counted));
    match ended {
        Ended::Closed => connection::linger(shard, &mut io, &watch, true).await,
        Ended::Lost if !io.flushed() => io.socket.reset_on_close(),
        Ended::Lost => {}
    }
}

impl<S: Socket> Session<'_, S> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        self.mail.look();
        if self.watch.expired()
            && let Some(ended) = self.on_timeout()
        {
            return Poll::Ready(ended);
        }
        for _ in 0..MESSAGES_PER_TURN {
            self.look_for_end();
            let full = self.write();
            match self.io.poll_flush(cx) {
                Poll::Ready(Ok(())) if full => continue,
                Poll::Ready(Ok(()))
                    if self.close_sent && self.control.is_empty() && (self.close_received || self.failed) =>
                {
                    return Poll::Ready(Ended::Closed);
                }
                Poll::Ready(Ok(())) | Poll::Pending => {}
                Poll::Ready(Err(_)) => return Poll::Ready(Ended::Lost),
            }
            match self.read(cx) {
                Ok(true) => {}
                Ok(false) => {
                    self.wait(cx);
                    return Poll::Pending;
                }
                Err(ended) => return Poll::Ready(ended),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Closes where the Worker is gone, the node drains, or more was sent than may wait.
    fn look_for_end(&mut self) {
        if self.close_sent || self.failed {
            return;
        }
        if self.mail.overflown.get() {
            self.shard.metrics.websocket_overflows.add(1);
            self.fail(Breach { code: CloseCode::Overloaded, text: "the peer does not take what is sent to it" });
        } else if self.mail.lost.get() {
            self.told = true;
            self.mail.discard();
            self.push_close(Some(CloseCode::Internal as u16), "");
        } else if self.shard.draining() {
            self.mail.close(Some(CloseCode::GoingAway as u16), String::new());
        }
    }

    /// Moves what the Worker sends to the output while there is room. Whether more is left than there is room for.
    fn write(&mut self) -> bool {
        if !self.control.is_empty() && self.io.between_frames() {
            let control = std::mem::take(&mut self.control);
            self.io.append_owned(control);
        }
        while !self.close_sent && self.control.is_empty() {
            if !self.io.may_append() {
                return self.mail.has_mail();
            }
            match self.mail.next() {
                Next::Nothing => return false,
                Next::Frames(frames) => self.io.append_owned(frames),
                Next::Message(SocketMessage::Text(bytes)) => self.push_message(Opcode::Text, bytes),
                Next::Message(SocketMessage::Binary(bytes)) => self.push_message(Opcode::Binary, bytes),
                Next::Close(close) => self.push_close(close.code, &close.reason),
            }
        }
        false
    }

    fn mask(&mut self) -> Option<[u8; 4]> {
        (self.mail.role() == Role::Client).then(|| self.masks.next(self.shard))
    }

    fn push_message(&mut self, opcode: Opcode, bytes: Bytes) {
        match self.mask() {
            None => {
                let head = FrameHead::new(opcode, bytes.len(), None);
                self.io.output().extend_from_slice(head.as_bytes());
                self.io.append_body(bytes);
            }
            mask => push_frame(self.io.output(), opcode, &bytes, mask),
        }
    }

    fn push_close(&mut self, code: Option<u16>, reason: &str) {
        let mask = self.mask();
        push_close(&mut self.control, code, reason, mask);
        if self.io.between_frames() {
            let control = std::mem::take(&mut self.control);
            self.io.append_owned(control);
        }
        self.close_sent = true;
        self.limit = Limit::None;
    }

    /// Takes what has come. Whether something happened.
    fn read(&mut self, cx: &mut Context<'_>) -> Result<bool, Ended> {
        if self.failed {
            return Ok(false);
        }
        let wanted = self.mail.pulled.get() || self.close_sent;
        if wanted && !self.io.input().is_empty() && !self.close_received {
            return Ok(self.decode());
        }
        if !wanted && self.io.input().len() >= READ_AHEAD_BYTES_MAX {
            return Ok(false);
        }
        match self.io.poll_fill(cx) {
            Poll::Pending => Ok(false),
            // It has closed, and waits for the Worker's answer.
            Poll::Ready(Ok(0)) if self.close_received && !self.close_sent => Ok(false),
            Poll::Ready(Ok(0) | Err(_)) => Err(Ended::Lost),
            Poll::Ready(Ok(_)) => {
                if self.limit == Limit::Pong {
                    self.limit = Limit::None;
                }
                if self.close_received {
                    let rest = self.io.input().len();
                    self.io.consume(rest);
                }
                Ok(true)
            }
        }
    }

    /// Reads up to the end of one message or control frame, and does what it says. Whether something happened.
    fn decode(&mut self) -> bool {
        let mut rest = self.io.input();
        let before = rest.len();
        let decoded = self.decoder.next(&mut rest);
        let used = before - rest.len();
        self.io.consume(used);
        let held = self.decoder.held();
        if !self.hold(held) {
            self.fail(Breach {
                code: CloseCode::Overloaded,
                text: "the Worker has too much of its messages in flight",
            });
            return true;
        }
        match decoded {
            Ok(None) => true,
            Ok(Some(incoming)) => {
                self.take(incoming);
                true
            }
            Err(breach) => {
                self.shard.metrics.websocket_breaches.add(1);
                self.fail(breach);
                true
            }
        }
    }

    fn hold(&mut self, now: usize) -> bool {
        now == self.held || self.mail.hold(std::mem::replace(&mut self.held, now), now)
    }

    fn take(&mut self, incoming: Incoming) {
        let message = match incoming {
            Incoming::Text(text) => SocketMessage::Text(text.into()),
            Incoming::Binary(bytes) => SocketMessage::Binary(bytes.into()),
            Incoming::Ping(payload) => {
                // A peer that does not read need not have each of its pings answered.
                if !self.close_sent && self.control.len() < CONTROL_BYTES_MAX {
                    let mask = self.mask();
                    push_frame(&mut self.control, Opcode::Pong, &payload, mask);
                }
                return;
            }
            Incoming::Pong(_) => return,
            Incoming::Close { code, reason } => {
                self.close_received = true;
                self.limit = Limit::None;
                if !self.told {
                    self.tell(code, reason, SocketEnd::Closed);
                }
                return;
            }
        };
        self.shard.metrics.websocket_messages_received.add(1);
        // After our close nobody waits for it.
        if !self.close_sent {
            self.mail.pulled.set(false);
            self.cell.send(self.shard, Event::SocketMessage { socket: self.socket, message });
        }
    }

    fn tell(&mut self, code: Option<u16>, reason: String, end: SocketEnd) {
        self.told = true;
        self.cell.send(self.shard, Event::SocketClosed { socket: self.socket, code, reason, end });
    }

    /// Ends the connection for a breach or a bound, with its code; what waits to be sent is dropped.
    fn fail(&mut self, breach: Breach) {
        self.failed = true;
        self.mail.discard();
        if !self.close_sent {
            self.push_close(Some(breach.code as u16), breach.text);
        }
        if !self.told {
            self.tell(None, String::new(), SocketEnd::Failed(breach.text.to_owned()));
        }
    }

    /// A time limit has passed. Whether that ends it.
    fn on_timeout(&mut self) -> Option<Ended> {
        match std::mem::replace(&mut self.limit, Limit::None) {
            // While the Worker does not read, an answer would not be seen.
            Limit::Silence if self.mail.pulled.get() => {
                let mask = self.mask();
                push_frame(&mut self.control, Opcode::Ping, &[], mask);
                self.limit = Limit::Pong;
                self.watch.set(self.shard.clock.recent_ns() + WEBSOCKET_ANSWER_NS);
                None
            }
            Limit::None | Limit::Silence => None,
            Limit::Pong | Limit::Stall | Limit::Close => Some(Ended::Lost),
        }
    }

    /// Sleeps until the mailbox, the socket or the ticker has something.
    fn wait(&mut self, cx: &Context<'_>) {
        self.io.release();
        let limit = match () {
            () if self.close_sent || self.close_received => Limit::Close,
            () if self.limit == Limit::Pong => Limit::Pong,
            () if !self.io.flushed() || !self.control.is_empty() => Limit::Stall,
            () => Limit::Silence,
        };
        let moved = self.io.moved();
        if limit != self.limit || (moved != self.moved && !matches!(limit, Limit::Close | Limit::Pong)) {
            let now_ns = self.shard.clock.recent_ns();
            self.moved = moved;
            self.limit = limit;
            self.watch.set(match limit {
                Limit::Close if self.close_sent => now_ns + WEBSOCKET_ANSWER_NS,
                Limit::Close => now_ns + WEBSOCKET_PING_NS,
                Limit::Stall => now_ns + self.shard.config().timeouts.stall_ns,
                Limit::Pong => now_ns + WEBSOCKET_ANSWER_NS,
                Limit::Silence | Limit::None => now_ns + WEBSOCKET_PING_NS,
            });
        }
        self.watch.remember(cx.waker());
        self.mail.wait(cx);
    }
}

/// Joins two connections byte for byte, each with the other's back-pressure, until both sides have ended or nothing moves.
pub(crate) async fn tunnel<A: Socket, B: Socket>(shard: &Rc<Shard>, mut a: Io<A>, mut b: Io<B>, watch: Watched) {
    let counted = Counted::new(shard);
    let (mut moved, mut half) = (u64::MAX, false);
    let whole = poll_fn(|cx| {
        if watch.expired() {
            // Where one side has closed, the other need not.
            return Poll::Ready(half && a.flushed() && b.flushed());
        }
        loop {
            let there = carry(&mut a, &mut b, cx);
            let back = carry(&mut b, &mut a, cx);
            let (Ok(there), Ok(back)) = (there, back) else { return Poll::Ready(false) };
            if a.read_ended() && b.read_ended() && a.flushed() && b.flushed() {
                return Poll::Ready(true);
            }
            if there || back {
                continue;
            }
            let now = a.moved() + b.moved();
            if (a.read_ended() || b.read_ended()) && !half {
                half = true;
                watch.set(shard.clock.recent_ns() + LINGER_NS);
            } else if now != moved && !half {
                moved = now;
                watch.set(shard.clock.recent_ns() + WEBSOCKET_TUNNEL_IDLE_NS);
            }
            watch.remember(cx.waker());
            return Poll::Pending;
        }
    })
    .await;
    drop(counted);
    if !whole {
        a.socket.reset_on_close();
        b.socket.reset_on_close();
    }
}

/// Moves what has come at one end to the other. Whether anything moved.
fn carry<A: Socket, B: Socket>(from: &mut Io<A>, to: &mut Io<B>, cx: &mut Context<'_>) -> std::io::Result<bool> {
    let mut progress = false;
    if to.may_append() && !from.input().is_empty() {
        to.output().extend_from_slice(from.input());
        let len = from.input().len();
        from.consume(len);
        progress = true;
    }
    let flushed = match to.poll_flush(cx) {
        Poll::Ready(done) => {
            done?;
            true
        }
        Poll::Pending => false,
    };
    if flushed && from.input().is_empty() && !from.read_ended() {
        match from.poll_fill(cx) {
            Poll::Ready(len) => {
                if len? == 0 {
                    to.socket.shutdown_write();
                }
                progress = true;
            }
            Poll::Pending => {}
        }
    }
    Ok(progress)
}
