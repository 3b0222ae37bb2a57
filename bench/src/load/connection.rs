//! One connection of the generator: a non-blocking socket, what it still has to write, and what it waits for.
//!
//! *Invariant:* `in_flight` holds exactly the requests that were given to this connection and have no outcome yet, in
//! the order in which their responses must come.

use std::collections::VecDeque;
use std::net::SocketAddr;

use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt};

use super::response::ResponseReader;

/// A request under way; nanoseconds from the run's epoch.
#[derive(Clone, Copy, Debug)]
pub(super) struct InFlight {
    /// When it was due. In a closed loop, when it was sent.
    pub(super) due_ns: u64,
    /// When its first byte was given to the kernel.
    pub(super) sent_ns: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    /// No socket; connect again at that time.
    Down { retry_ns: u64 },
    /// Connecting since that time.
    Connecting { since_ns: u64 },
    /// Open.
    Up,
}

pub(super) struct Connection {
    pub(super) socket: Option<OwnedFd>,
    pub(super) link: Link,
    pub(super) in_flight: VecDeque<InFlight>,
    pub(super) reader: ResponseReader,
    /// Whether it is in the generator's list of connections with room.
    pub(super) listed: bool,
    /// Whether this socket has carried a whole response.
    pub(super) served: bool,
    /// Whether epoll watches it for writing.
    pub(super) watches_write: bool,
    /// Bytes of requests in flight that the kernel has not taken, and where in a request they start.
    unsent: usize,
    unsent_at: usize,
}

impl Connection {
    pub(super) fn new() -> Connection {
        Connection {
            socket: None,
            link: Link::Down { retry_ns: 0 },
            in_flight: VecDeque::new(),
            reader: ResponseReader::default(),
            listed: false,
            served: false,
            watches_write: false,
            unsent: 0,
            unsent_at: 0,
        }
    }

    /// Starts to connect; `Ok(true)` if the connection is open at once, as on loopback it mostly is.
    pub(super) fn connect(&mut self, addr: SocketAddr) -> Result<bool, Errno> {
        let family = if addr.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
        sockopt::set_tcp_nodelay(&socket, true)?;
        let open = match rustix::net::connect(&socket, &addr) {
            Ok(()) => true,
            Err(Errno::INPROGRESS) => false,
            Err(error) => return Err(error),
        };
        self.socket = Some(socket);
        self.reader.reset();
        self.served = false;
        self.watches_write = false;
        Ok(open)
    }

    /// Closes the socket and forgets what was under way; the caller has accounted for it.
    pub(super) fn close(&mut self, retry_ns: u64) {
        self.socket = None;
        self.link = Link::Down { retry_ns };
        self.in_flight.clear();
        self.unsent = 0;
        self.unsent_at = 0;
    }

    /// Queues one request of `length` bytes.
    pub(super) fn queue(&mut self, request: InFlight, length: usize) {
        self.in_flight.push_back(request);
        self.unsent += length;
    }

    /// Writes what is queued. `burst` is the request repeated as often as the pipeline is deep. Says whether all of it
    /// was taken.
    pub(super) fn flush(&mut self, burst: &[u8], length: usize) -> Result<bool, Errno> {
        let Some(socket) = &self.socket else { return Err(Errno::NOTCONN) };
        while self.unsent > 0 {
            let end = burst.len().min(self.unsent_at + self.unsent);
            match rustix::net::send(socket, &burst[self.unsent_at..end], SendFlags::NOSIGNAL) {
                Ok(sent) => {
                    self.unsent -= sent;
                    self.unsent_at = (self.unsent_at + sent) % length;
                }
                Err(Errno::AGAIN) => return Ok(false),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Reads once; `Ok(None)` if there was nothing.
    pub(super) fn read(&self, buffer: &mut [u8]) -> Result<Option<usize>, Errno> {
        let Some(socket) = &self.socket else { return Err(Errno::NOTCONN) };
        match rustix::net::recv(socket, buffer, RecvFlags::empty()) {
            Ok((_, length)) => Ok(Some(length)),
            Err(Errno::AGAIN | Errno::INTR) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The result of a connect that was under way.
    pub(super) fn connected(&self) -> Result<(), Errno> {
        match &self.socket {
            Some(socket) => sockopt::socket_error(socket)?,
            None => Err(Errno::NOTCONN),
        }
    }
}
