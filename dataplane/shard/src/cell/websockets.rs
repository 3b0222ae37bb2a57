//! A cell's WebSockets: their mailboxes, and the sessions that live because of them.

use super::{Mail, WorkerCell};
use crate::shard::Shard;
use crate::sockets::SocketMail;
use std::cell::Cell;
use std::rc::Rc;
use websocket::Role;
use worker_api::event::{Event, RequestId, SocketEnd, SocketId};

impl WorkerCell {
    pub(crate) fn add_socket(&self, socket: SocketId, role: Role) -> Rc<SocketMail> {
        self.mail.borrow_mut().sockets.add(socket, role)
    }

    pub(crate) fn socket(&self, socket: SocketId) -> Option<Rc<SocketMail>> {
        self.mail.borrow().sockets.get(socket).cloned()
    }

    pub(crate) fn remove_socket(&self, socket: SocketId) {
        self.mail.borrow_mut().sockets.remove(socket);
    }

    /// Closes all WebSockets: their clients are to come again, to another isolate.
    pub(crate) fn close_sockets(&self) {
        self.mail.borrow().sockets.close_all();
    }

    /// Those of them that wait for something: not the sessions of WebSockets.
    pub(crate) fn requests(&self) -> usize {
        self.open.get() - self.sessions.get().min(self.open.get())
    }

    /// Sockets that answered nobody are lost.
    #[inline]
    pub(super) fn tell_orphans(self: &Rc<Self>, shard: &Rc<Shard>) {
        let orphans = std::mem::take(&mut self.mail.borrow_mut().orphans);
        for socket in orphans {
            let end = SocketEnd::Lost;
            self.send(shard, Event::SocketClosed { socket, code: None, reason: String::new(), end });
        }
    }
}

impl Mail {
    /// A request is answered by a WebSocket: a new one, or one that an outbound request opened. Whether somebody is there to have it.
    pub(super) fn switch(&mut self, id: RequestId, socket: SocketId, sessions: &Cell<usize>) -> bool {
        let attached = self.request(id).is_some_and(|mailbox| mailbox.attached);
        let joined = self.sockets.answer(socket, attached);
        if let Some(mailbox) = self.request(id).filter(|_| !joined) {
            mailbox.session = true;
            sessions.set(sessions.get() + 1);
        }
        attached || joined
    }
}
