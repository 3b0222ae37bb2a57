//! The listening sockets of a node, one per shard on one address, and a shard's accept loop.
//!
//! The loop waits until a socket is ready and only then accepts, without blocking: an accept that waited in the ring could not be taken back
//! without losing the connection that comes at that moment, and during an upgrade the socket is another process's, too.

use crate::config::LISTEN_BACKLOG;
use crate::connection;
use crate::shard::Shard;
use crate::socket::Socket;
use glommio::net::TcpStream;
use glommio::timer::Timer;
use std::future::poll_fn;
use std::io;
use std::mem::size_of;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::time::Duration;

/// Wait after an accept that failed for want of something: descriptors, memory.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);
/// Connections accepted in a row before other tasks get their turn.
const ACCEPT_BURST: u32 = 32;

/// Opens one listening socket per shard on `address`; the kernel spreads connections over them (SO_REUSEPORT).
/// With port 0 a socket that is closed again finds a port for all.
pub(crate) fn open(address: SocketAddr, shards: usize) -> io::Result<(SocketAddr, Vec<TcpListener>)> {
    let finder = if address.port() == 0 { Some(open_one(address)?) } else { None };
    let address = finder.as_ref().map_or(Ok(address), TcpListener::local_addr)?;
    let listeners = (0..shards).map(|_| open_one(address)).collect::<io::Result<_>>()?;
    Ok((address, listeners))
}

/// Takes the sockets of the node that this one replaces: one per shard, on the address that was asked for.
pub(crate) fn inherit(
    given: Vec<TcpListener>,
    asked: SocketAddr,
    shards: usize,
) -> io::Result<(SocketAddr, Vec<TcpListener>)> {
    let found = given.first().map(TcpListener::local_addr).transpose()?;
    let same = |found: &SocketAddr| found.ip() == asked.ip() && (asked.port() == 0 || asked.port() == found.port());
    let Some(address) = found.filter(same) else {
        return Err(io::Error::other(format!("the sockets that were handed over listen on {found:?}")));
    };
    if given.len() != shards {
        let text = format!("{} sockets were handed over for {shards} shards: their number stays the same", given.len());
        return Err(io::Error::other(text));
    }
    given.iter().try_for_each(|listener| listener.set_nonblocking(true))?;
    Ok((address, given))
}

fn open_one(address: SocketAddr) -> io::Result<TcpListener> {
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    // SAFETY: takes no pointers.
    let raw = check(unsafe { libc::socket(family, libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, 0) })?;
    // SAFETY: a descriptor that this call just made, and that nobody else knows of.
    let socket = unsafe { OwnedFd::from_raw_fd(raw) };
    set_option(raw, libc::SOL_SOCKET, libc::SO_REUSEADDR)?;
    set_option(raw, libc::SOL_SOCKET, libc::SO_REUSEPORT)?;
    // Accepted sockets inherit it: a call less per connection.
    set_option(raw, libc::IPPROTO_TCP, libc::TCP_NODELAY)?;
    bind(raw, address)?;
    // SAFETY: takes no pointers; the descriptor is open.
    check(unsafe { libc::listen(raw, LISTEN_BACKLOG) })?;
    Ok(TcpListener::from(socket))
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
pub(crate) async fn accept(shard: Rc<Shard>, listener: TcpListener) {
    let mut burst = 0;
    while !shard.draining() {
        match listener.accept() {
            Ok((stream, _)) => admit(&shard, OwnedFd::from(stream)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if let Err(error) = ready(&listener).await {
                    tracing::warn!(shard = shard.index, %error, "cannot wait for connections");
                    Timer::new(ACCEPT_RETRY).await;
                }
            }
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

/// Waits until a connection waits, or the socket no longer listens. glommio shows its ring's poll in streams alone: a read of a
/// listening socket fails without taking anything, once there is something to be had.
async fn ready(listener: &TcpListener) -> io::Result<()> {
    // SAFETY: a descriptor that was just made and given up by its owner; the stream closes it.
    let mut polled = unsafe { TcpStream::from_raw_fd(listener.try_clone()?.into_raw_fd()) };
    let _ = poll_fn(|cx| Socket::poll_read(&mut polled, cx, &mut [0])).await;
    Ok(())
}

/// Ends listening: connections that wait in the queue are accepted, later ones are refused by the kernel.
pub(crate) fn close(shard: &Rc<Shard>, listener: &TcpListener) {
    while let Ok((stream, _)) = listener.accept() {
        admit(shard, OwnedFd::from(stream));
    }
    // SAFETY: takes no pointers; the descriptor is open. On a listening socket this ends listening, also for whoever waits for it to be
    // ready.
    unsafe { libc::shutdown(listener.as_raw_fd(), libc::SHUT_RDWR) };
}

fn admit(shard: &Rc<Shard>, accepted: OwnedFd) {
    // SAFETY: the descriptor was just given up by its owner, and is a connected stream socket.
    let stream = unsafe { TcpStream::from_raw_fd(accepted.into_raw_fd()) };
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
