//! TLS over a socket of the shard, once the handshake is done.
//!
//! rustls does the protocol; this moves its bytes. The session can be taken off its socket and put on another one with the same
//! descriptor, which is how an idle connection goes from shard to shard. What was taken from the socket and not deciphered is kept
//! in a buffer here, because rustls by itself reads 4 KiB at a time.

use crate::socket::Socket;
use rustls::ClientConnection;
use std::io::{self, Read, Write};
use std::task::{Context, Poll, ready};

/// Bytes read from the socket at once, at most; a record has 16 KiB.
const READ_BYTES: usize = 64 * 1024;

/// A TLS connection.
pub(crate) struct TlsSocket<S> {
    socket: S,
    session: Box<ClientConnection>,
    /// Read and not deciphered.
    raw: Vec<u8>,
    used: usize,
    ended: bool,
}

impl<S: Socket> TlsSocket<S> {
    pub(crate) fn new(socket: S, session: Box<ClientConnection>) -> TlsSocket<S> {
        TlsSocket { socket, session, raw: Vec::new(), used: 0, ended: false }
    }

    /// The socket and the session; none if something of a message is still in here.
    pub(crate) fn take_apart(self) -> Option<(S, Box<ClientConnection>)> {
        let clean = self.used == self.raw.len() && !self.ended && !self.session.wants_write();
        clean.then_some((self.socket, self.session))
    }

    /// Has rustls take what was read; reads more if there is nothing.
    fn poll_decipher(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.used == self.raw.len() {
            self.raw.resize(READ_BYTES, 0);
            let read = self.socket.poll_read(cx, &mut self.raw);
            let len = if let Poll::Ready(Ok(len)) = read { len } else { 0 };
            (self.used, self.ended) = (0, self.ended || matches!(read, Poll::Ready(Ok(0))));
            self.raw.truncate(len);
            if len == 0 {
                // A waiting connection owns next to nothing.
                self.raw = Vec::new();
            }
            ready!(read)?;
        }
        let mut rest = &self.raw[self.used..];
        let before = rest.len();
        // With nothing left this tells rustls of the end.
        self.session.read_tls(&mut rest)?;
        self.used += before - rest.len();
        self.session.process_new_packets().map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        if self.session.wants_write() {
            let _ = self.poll_send(cx)?;
        }
        Poll::Ready(Ok(()))
    }

    /// Sends all that rustls has to send.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.session.wants_write() {
            let mut writer = Writer { socket: &mut self.socket, cx };
            match self.session.write_tls(&mut writer) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: Socket> Socket for TlsSocket<S> {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut filled = 0;
        loop {
            match self.session.reader().read(&mut buf[filled..]) {
                Ok(0) => return Poll::Ready(Ok(filled)),
                Ok(len) => filled += len,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) if filled > 0 => return Poll::Ready(Ok(filled)),
                Err(error) => return Poll::Ready(Err(error)),
            }
            // What is here already is taken; the socket is asked only for the first bytes.
            if filled == buf.len() || (filled > 0 && self.used == self.raw.len()) {
                return Poll::Ready(Ok(filled));
            }
            ready!(self.poll_decipher(cx))?;
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        // What rustls holds back is bounded: nothing is added before it is gone.
        ready!(self.poll_send(cx))?;
        let len = self.session.writer().write(buf)?;
        let _ = self.poll_send(cx)?;
        Poll::Ready(Ok(len))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_send(cx)
    }

    fn shutdown_write(&mut self) {
        self.session.send_close_notify();
        let mut cx = Context::from_waker(std::task::Waker::noop());
        if self.poll_send(&mut cx).is_ready() {
            self.socket.shutdown_write();
        }
    }

    fn reset_on_close(&mut self) {
        self.socket.reset_on_close();
    }
}

/// A socket as rustls writes to it.
struct Writer<'a, 'b, S> {
    socket: &'a mut S,
    cx: &'a mut Context<'b>,
}

impl<S: Socket> Write for Writer<'_, '_, S> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self.socket.poll_write(self.cx, buf) {
            Poll::Ready(written) => written,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
