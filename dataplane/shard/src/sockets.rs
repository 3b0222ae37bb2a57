//! What lies between a Worker and the connections of its WebSockets.
//!
//! *Bounds:* one message towards the Worker; towards the peer `WEBSOCKET_SEND_BYTES_MAX`, and all of one Worker's sockets together
//! [`WORKER_BYTES_MAX`], partly received messages included. *Fails:* what is over a bound closes its socket.

use crate::cell::{keep_waker, wake};
use crate::io::Io;
use crate::metrics::ShardMetrics;
use crate::outbound::OriginStream;
use base::limits::{ISOLATE_HEAP_BYTES_MAX, KIB, WEBSOCKET_SEND_BYTES_MAX};
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::task::{Context, Waker};
use websocket::{CloseCode, Opcode, Role, push_frame};
use worker_api::event::{Effect, SocketId, SocketMessage};

/// Bytes that lie here for one Worker: as much again as its heap.
pub(crate) const WORKER_BYTES_MAX: usize = ISOLATE_HEAP_BYTES_MAX;
/// A message up to this size is put into its frame at once; a larger one is sent from where it is.
const COPY_BYTES_MAX: usize = 4 * KIB;

const _: () = assert!(WEBSOCKET_SEND_BYTES_MAX < WORKER_BYTES_MAX);

/// The sockets of one Worker.
#[derive(Default)]
pub(crate) struct Sockets {
    mails: HashMap<SocketId, Rc<SocketMail>>,
    bytes: Rc<Cell<usize>>,
}

impl Sockets {
    pub(crate) fn add(&mut self, socket: SocketId, role: Role) -> Rc<SocketMail> {
        let mail = Rc::new(SocketMail {
            role,
            pulled: Cell::new(false),
            lost: Cell::new(false),
            overflown: Cell::new(false),
            outbox: RefCell::new(Outbox::default()),
            waker: RefCell::new(None),
            parked: RefCell::new(None),
            worker_bytes: self.bytes.clone(),
        });
        self.mails.insert(socket, mail.clone());
        mail
    }

    /// A request is answered by a socket, if anybody is there: by a new one, or by one that was opened and is to be joined with the
    /// client's. Whether it is the latter.
    pub(crate) fn answer(&mut self, socket: SocketId, attached: bool) -> bool {
        match self.mails.get(&socket) {
            Some(_) if !attached => self.remove(socket),
            Some(_) => {}
            None if attached => {
                self.add(socket, Role::Server);
                return false;
            }
            None => return false,
        }
        true
    }

    /// Carries out what a Worker does with a socket.
    pub(crate) fn take(&self, metrics: &ShardMetrics, effect: Effect) {
        match effect {
            Effect::SocketPull { socket, cpu_ns } => {
                metrics.worker_cpu_ns.add(cpu_ns);
                if let Some(mail) = self.get(socket) {
                    mail.pull();
                }
            }
            Effect::SocketSend { socket, message } => {
                metrics.websocket_messages_sent.add(1);
                if let Some(mail) = self.get(socket) {
                    mail.send(message);
                }
            }
            Effect::SocketClose { socket, code, reason, why } => {
                if let Some(why) = why {
                    metrics.failure(why.label());
                }
                if let Some(mail) = self.get(socket) {
                    mail.close(code, reason);
                }
            }
            _ => {}
        }
    }

    pub(crate) fn get(&self, socket: SocketId) -> Option<&Rc<SocketMail>> {
        self.mails.get(&socket)
    }

    pub(crate) fn remove(&mut self, socket: SocketId) {
        if let Some(mail) = self.mails.remove(&socket) {
            mail.wake();
        }
    }

    pub(crate) fn close_all(&self) {
        for mail in self.mails.values() {
            mail.close(Some(CloseCode::Restart as u16), String::new());
        }
    }

    /// The Worker is gone.
    pub(crate) fn lose_all(&mut self) {
        for mail in self.mails.values() {
            mail.lost.set(true);
            mail.wake();
        }
    }
}

/// A close frame to send.
pub(crate) struct Close {
    pub(crate) code: Option<u16>,
    pub(crate) reason: String,
}

/// What waits to be sent, in this order.
#[derive(Default)]
struct Outbox {
    frames: Vec<u8>,
    messages: VecDeque<SocketMessage>,
    bytes: usize,
    close: Option<Close>,
    closed: bool,
}

/// What is to be written next.
pub(crate) enum Next {
    Frames(Vec<u8>),
    Message(SocketMessage),
    Close(Close),
    Nothing,
}

/// One socket's mailbox.
pub(crate) struct SocketMail {
    role: Role,
    /// The Worker wants a message.
    pub(crate) pulled: Cell<bool>,
    /// There is no Worker any more.
    pub(crate) lost: Cell<bool>,
    /// More was sent than may wait.
    pub(crate) overflown: Cell<bool>,
    outbox: RefCell<Outbox>,
    waker: RefCell<Option<Waker>>,
    /// The connection of a socket that was opened and that nobody has accepted yet.
    pub(crate) parked: RefCell<Option<Io<OriginStream>>>,
    worker_bytes: Rc<Cell<usize>>,
}

impl SocketMail {
    pub(crate) fn role(&self) -> Role {
        self.role
    }

    /// The Worker wants a message.
    pub(crate) fn pull(&self) {
        self.pulled.set(true);
        self.wake();
    }

    /// The Worker sends a message.
    pub(crate) fn send(&self, message: SocketMessage) {
        let mut outbox = self.outbox.borrow_mut();
        if outbox.closed {
            return;
        }
        let (opcode, bytes) = match &message {
            SocketMessage::Text(bytes) => (Opcode::Text, bytes),
            SocketMessage::Binary(bytes) => (Opcode::Binary, bytes),
        };
        let len = bytes.len();
        let over = outbox.bytes > 0
            && (outbox.bytes + len > WEBSOCKET_SEND_BYTES_MAX || self.worker_bytes.get() + len > WORKER_BYTES_MAX);
        if over {
            outbox.closed = true;
            self.overflown.set(true);
        } else if self.role == Role::Server && outbox.messages.is_empty() && len <= COPY_BYTES_MAX {
            let before = outbox.frames.len();
            push_frame(&mut outbox.frames, opcode, bytes, None);
            let more = outbox.frames.len() - before;
            self.grow(&mut outbox, more);
        } else {
            self.grow(&mut outbox, len);
            outbox.messages.push_back(message);
        }
        drop(outbox);
        self.wake();
    }

    /// The Worker closes.
    pub(crate) fn close(&self, code: Option<u16>, reason: String) {
        let mut outbox = self.outbox.borrow_mut();
        if !std::mem::replace(&mut outbox.closed, true) {
            outbox.close = Some(Close { code, reason });
        }
        drop(outbox);
        self.wake();
    }

    /// Takes what is to be written next.
    pub(crate) fn next(&self) -> Next {
        let mut outbox = self.outbox.borrow_mut();
        if !outbox.frames.is_empty() {
            let frames = std::mem::take(&mut outbox.frames);
            self.shrink(&mut outbox, frames.len());
            return Next::Frames(frames);
        }
        if let Some(message) = outbox.messages.pop_front() {
            let (SocketMessage::Text(bytes) | SocketMessage::Binary(bytes)) = &message;
            let len = bytes.len();
            self.shrink(&mut outbox, len);
            return Next::Message(message);
        }
        outbox.close.take().map_or(Next::Nothing, Next::Close)
    }

    /// Whether there is anything to write.
    pub(crate) fn has_mail(&self) -> bool {
        let outbox = self.outbox.borrow();
        outbox.bytes > 0 || outbox.close.is_some()
    }

    /// Nothing more is sent; what waits is dropped.
    pub(crate) fn discard(&self) {
        let mut outbox = self.outbox.borrow_mut();
        let bytes = outbox.bytes;
        self.shrink(&mut outbox, bytes);
        *outbox = Outbox { closed: true, ..Outbox::default() };
    }

    fn grow(&self, outbox: &mut Outbox, len: usize) {
        outbox.bytes += len;
        self.worker_bytes.set(self.worker_bytes.get() + len);
    }

    fn shrink(&self, outbox: &mut Outbox, len: usize) {
        outbox.bytes -= len;
        self.worker_bytes.set(self.worker_bytes.get() - len);
    }

    /// Counts what a message that is not complete takes, and what it took before. Whether the Worker may have so much.
    pub(crate) fn hold(&self, before: usize, now: usize) -> bool {
        self.worker_bytes.set(self.worker_bytes.get() - before + now);
        now <= before || self.worker_bytes.get() <= WORKER_BYTES_MAX
    }

    /// This task looks now, and need not be woken.
    pub(crate) fn look(&self) {
        self.waker.borrow_mut().take();
    }

    /// Wakes this task when something comes.
    pub(crate) fn wait(&self, cx: &Context<'_>) {
        keep_waker(&mut self.waker.borrow_mut(), cx);
    }

    fn wake(&self) {
        wake(&mut self.waker.borrow_mut());
    }
}

impl Drop for SocketMail {
    fn drop(&mut self) {
        let bytes = self.outbox.get_mut().bytes;
        self.worker_bytes.set(self.worker_bytes.get() - bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn text(len: usize) -> SocketMessage {
        SocketMessage::Text(Bytes::from(vec![b'x'; len]))
    }

    #[test]
    fn small_messages_are_frames_and_order_is_kept() {
        let mut sockets = Sockets::default();
        let mail = sockets.add(SocketId(1), Role::Server);
        mail.send(text(1));
        mail.send(text(2));
        mail.send(text(COPY_BYTES_MAX + 1));
        mail.send(text(3));
        mail.close(Some(1000), "bye".to_owned());
        mail.send(text(4));
        assert!(matches!(mail.next(), Next::Frames(frames) if frames == [0x81, 1, b'x', 0x81, 2, b'x', b'x']));
        assert!(matches!(mail.next(), Next::Message(SocketMessage::Text(long)) if long.len() == COPY_BYTES_MAX + 1));
        assert!(matches!(mail.next(), Next::Message(SocketMessage::Text(short)) if short.len() == 3));
        assert!(matches!(mail.next(), Next::Close(Close { code: Some(1000), .. })));
        assert!(matches!(mail.next(), Next::Nothing) && sockets.bytes.get() == 0);
    }

    #[test]
    fn what_waits_is_bounded_for_a_socket_and_for_a_worker() {
        let mut sockets = Sockets::default();
        let mail = sockets.add(SocketId(1), Role::Server);
        mail.send(text(WEBSOCKET_SEND_BYTES_MAX));
        assert!(!mail.overflown.get());
        mail.send(text(1));
        assert!(mail.overflown.get(), "one more than may wait");
        let others: Vec<_> = (2..6).map(|id| sockets.add(SocketId(id), Role::Server)).collect();
        for other in &others {
            other.send(text(1));
            other.send(text(WEBSOCKET_SEND_BYTES_MAX - 100));
        }
        assert!(others[3].overflown.get() && !others[0].overflown.get());
        assert!(sockets.bytes.get() <= WORKER_BYTES_MAX);
        for id in 1..6 {
            sockets.remove(SocketId(id));
        }
        drop((mail, others));
        assert_eq!(sockets.bytes.get(), 0);
        let mail = sockets.add(SocketId(9), Role::Server);
        assert!(mail.hold(0, WORKER_BYTES_MAX) && !mail.hold(WORKER_BYTES_MAX, WORKER_BYTES_MAX + 1));
        assert!(mail.hold(WORKER_BYTES_MAX + 1, 0) && sockets.bytes.get() == 0);
    }
}
