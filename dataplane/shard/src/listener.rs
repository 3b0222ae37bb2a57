//! The listening sockets of a node, one per shard on one address, and a shard's accept loop.

use crate::config::LISTEN_BACKLOG;
use crate::connection;
use crate::shard::Shard;
use glommio::net::{AcceptedTcpStream, TcpListener};
use glommio::timer::Timer;
use std::io;
use std::mem::size_of;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::time::Duration;

/// Wait after an accept that failed for want of something: descriptors, memory.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);
/// Connections accepted in a row before other tasks get their turn.
const ACCEPT_BURST: u32 = 32;

/// Opens one listening socket per shard on `address`; the kernel spreads connections over them (SO_REUSEPORT).
/// With port 0 a socket that is closed again finds a port for all: only a port that was asked for by number stays bound
/// through [`reopen`].
pub(crate) fn open(address: SocketAddr, shards: usize) -> io::Result<(SocketAddr, Vec<StdListener>)> {
    let finder = if address.port() == 0 { Some(open_one(address)?) } else { None };
    let address = finder.as_ref().map_or(Ok(address), StdListener::local_addr)?;
    let listeners = (0..shards).map(|_| open_one(address)).collect::<io::Result<_>>()?;
    Ok((address, listeners))
}

fn open_one(address: SocketAddr) -> io::Result<StdListener> {
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    // SAFETY: takes no pointers.
    let raw = check(unsafe { libc::socket(family, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) })?;
    // SAFETY: a descriptor that this call just made, and that nobody else knows of.
    let socket = unsafe { OwnedFd::from_raw_fd(raw) };
    set_option(raw, libc::SOL_SOCKET, libc::SO_REUSEADDR)?;
    set_option(raw, libc::SOL_SOCKET, libc::SO_REUSEPORT)?;
    // Accepted sockets inherit it: a call less per connection.
    set_option(raw, libc::IPPROTO_TCP, libc::TCP_NODELAY)?;
    bind(raw, address)?;
    // SAFETY: takes no pointers; the descriptor is open.
    check(unsafe { libc::listen(raw, LISTEN_BACKLOG) })?;
    Ok(StdListener::from(socket))
}

fn bind(raw: RawFd, address: SocketAddr) -> io::Result<()> {
    match address {
        SocketAddr::V4(address) => {
            let name = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: address.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(address.ip().octets()) },
                sin_zero: [0; 8],
            };
            // SAFETY: `name` is a whole socket address of the length given, read during the call only.
            check(unsafe { libc::bind(raw, (&raw const name).cast(), size_of_val(&name) as libc::socklen_t) })?;
        }
        SocketAddr::V6(address) => {
            let name = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: address.port().to_be(),
                sin6_flowinfo: address.flowinfo(),
                sin6_addr: libc::in6_addr { s6_addr: address.ip().octets() },
                sin6_scope_id: address.scope_id(),
            };
            // SAFETY: as above.
            check(unsafe { libc::bind(raw, (&raw const name).cast(), size_of_val(&name) as libc::socklen_t) })?;
        }
    }
    Ok(())
}

fn set_option(raw: RawFd, level: i32, option: i32) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: `on` is an int of the length given, read during the call only.
    let result = unsafe {
        libc::setsockopt(raw, level, option, (&raw const on).cast(), size_of::<libc::c_int>() as libc::socklen_t)
    };
    check(result).map(drop)
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Accepts until the shard drains.
pub(crate) async fn accept(shard: Rc<Shard>, listener: StdListener) {
    let raw = listener.into_raw_fd();
    // SAFETY: the descriptor was just given up by its owner, and is a listening socket.
    let listener = unsafe { TcpListener::from_raw_fd(raw) };
    let mut burst = 0;
    loop {
        match listener.shared_accept().await {
            Ok(accepted) => admit(&shard, accepted),
            Err(_) if shard.draining() => return,
            Err(error) => {
                tracing::warn!(shard = shard.index, %error, "accept failed");
                Timer::new(ACCEPT_RETRY).await;
            }
        }
        burst += 1;
        if burst % ACCEPT_BURST == 0 {
            futures_lite::future::yield_now().await;
        }
    }
}

/// Ends listening: connections that wait in the queue are accepted, later ones are refused by the kernel.
pub(crate) fn close(shard: &Rc<Shard>, listener: &StdListener) {
    let raw = listener.as_raw_fd();
    if let Err(error) = listener.set_nonblocking(true) {
        tracing::warn!(%error, "cannot empty the accept queue");
    } else {
        while let Ok((stream, _)) = listener.accept() {
            // SAFETY: the descriptor was just given up by its owner, and is a connected stream socket.
            let stream = unsafe { glommio::net::TcpStream::from_raw_fd(stream.into_raw_fd()) };
            connection::start(shard, stream);
        }
    }
    // SAFETY: takes no pointers; the descriptor is open. On a listening socket this ends listening, also for the
    // accept that waits in the ring, which then fails.
    unsafe { libc::shutdown(raw, libc::SHUT_RDWR) };
}

/// Takes the socket back from an executor that died: the accept that still waits in its ring would swallow a connection
/// for good. Connections that wait in the queue are reset; the address stays bound throughout.
pub(crate) fn reopen(listener: &StdListener) -> io::Result<()> {
    let raw = listener.as_raw_fd();
    // SAFETY: takes no pointers; the descriptor is open. It ends listening, and with it the accept in the ring.
    check(unsafe { libc::shutdown(raw, libc::SHUT_RD) })?;
    // SAFETY: takes no pointers; the descriptor is open and bound.
    check(unsafe { libc::listen(raw, LISTEN_BACKLOG) }).map(drop)
}

fn admit(shard: &Rc<Shard>, accepted: AcceptedTcpStream) {
    let stream = accepted.bind_to_executor();
    if shard.config().steered && shard.core.is_some() && incoming_cpu(stream.as_raw_fd()) == shard.core {
        shard.metrics.connections_here.add(1);
    }
    connection::start(shard, stream);
}

/// The core on which the kernel handled a connection's last packet.
fn incoming_cpu(raw: RawFd) -> Option<usize> {
    let mut cpu: libc::c_int = -1;
    let mut bytes = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: `cpu` is an int of the length given, written during the call only.
    let result = unsafe {
        libc::getsockopt(raw, libc::SOL_SOCKET, libc::SO_INCOMING_CPU, (&raw mut cpu).cast(), &raw mut bytes)
    };
    check(result).ok().and_then(|_| usize::try_from(cpu).ok())
}
