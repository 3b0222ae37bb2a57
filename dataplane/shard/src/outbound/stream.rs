//! A connection to an origin: TCP or TLS over it, and how one is opened.
//!
//! The policy is asked about the addresses that are connected to, not about the name: a name that points inwards does not help, and
//! neither does one that changes.

use super::tls_socket::TlsSocket;
use super::{FetchError, dns, policy};
use crate::config::{CONNECT_STAGGER, CONNECT_TIMEOUT_NS};
use crate::shard::Shard;
use crate::socket::Socket;
use futures_lite::FutureExt;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use glommio::net::TcpStream;
use glommio::timer::Timer;
use rustls::ClientConnection;
use rustls::pki_types::ServerName;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

/// Addresses of one name that are tried.
const ADDRESSES_TRIED_MAX: usize = 4;

/// Whom a connection leads to; what a pooled one is found by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Origin {
    pub(crate) tls: bool,
    /// A name in lower case, or an address without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
}

/// A connection to an origin.
pub(crate) enum OriginStream {
    Plain(TcpStream),
    Tls(Box<TlsSocket<TcpStream>>),
}

/// A connection that no shard has: it can be sent to another thread.
pub(crate) struct Adrift {
    fd: OwnedFd,
    session: Option<Box<ClientConnection>>,
}

impl OriginStream {
    /// Takes the connection off this shard's ring. None if something of a message is still in it, or descriptors are short.
    pub(crate) fn let_go(self) -> Option<Adrift> {
        let (stream, session) = match self {
            OriginStream::Plain(stream) => (stream, None),
            OriginStream::Tls(tls) => tls.take_apart().map(|(stream, session)| (stream, Some(session)))?,
        };
        // SAFETY: the descriptor is open as long as the stream lives, which is to the end of this function.
        let borrowed = unsafe { BorrowedFd::borrow_raw(stream.as_raw_fd()) };
        // The stream's own descriptor is closed with it, and what waits for it in the ring is cancelled.
        Some(Adrift { fd: borrowed.try_clone_to_owned().ok()?, session })
    }

    /// Whether the peer was told by ALPN, and said, that HTTP/2 is spoken.
    fn of(stream: TcpStream, session: Box<ClientConnection>) -> Connected {
        let h2 = session.alpn_protocol() == Some(b"h2");
        let stream = OriginStream::Tls(Box::new(TlsSocket::new(stream, session)));
        if h2 { Connected::H2(stream) } else { Connected::H1(stream) }
    }
}

impl Adrift {
    /// Puts it on this shard's ring. None if the origin has closed it or said something meanwhile.
    pub(crate) fn adopt(mut self) -> Option<OriginStream> {
        if !self.is_quiet() {
            return None;
        }
        // SAFETY: the descriptor is given up by its owner here, and is a connected stream socket.
        let stream = unsafe { TcpStream::from_raw_fd(self.fd.into_raw_fd()) };
        Some(match self.session {
            None => OriginStream::Plain(stream),
            Some(session) => OriginStream::Tls(Box::new(TlsSocket::new(stream, session))),
        })
    }

    /// Whether nothing has come that a response could be mistaken for. A TLS peer may have sent tickets.
    pub(crate) fn is_quiet(&mut self) -> bool {
        let Some(session) = &mut self.session else {
            return matches!(receive(self.fd.as_fd(), &mut [0], libc::MSG_PEEK), Err(error) if error.kind() == io::ErrorKind::WouldBlock);
        };
        let mut fd = Reader(self.fd.as_fd());
        loop {
            match session.read_tls(&mut fd) {
                Ok(0) => return false,
                Ok(_) => {}
                Err(error) => return error.kind() == io::ErrorKind::WouldBlock && !session.wants_write(),
            }
            match session.process_new_packets() {
                Ok(state) if state.plaintext_bytes_to_read() == 0 && !state.peer_has_closed() => {}
                _ => return false,
            }
        }
    }
}

struct Reader<'a>(BorrowedFd<'a>);

impl io::Read for Reader<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        receive(self.0, buf, 0)
    }
}

/// Takes what is here, and never waits.
fn receive(fd: BorrowedFd<'_>, buf: &mut [u8], flags: libc::c_int) -> io::Result<usize> {
    // SAFETY: the descriptor is open while it is borrowed; `buf` is written within its length, during the call only.
    let len = unsafe { libc::recv(fd.as_raw_fd(), buf.as_mut_ptr().cast(), buf.len(), flags | libc::MSG_DONTWAIT) };
    usize::try_from(len).map_err(|_| io::Error::last_os_error())
}

impl Socket for OriginStream {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        match self {
            OriginStream::Plain(stream) => Socket::poll_read(stream, cx, buf),
            OriginStream::Tls(stream) => stream.poll_read(cx, buf),
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            OriginStream::Plain(stream) => Socket::poll_write(stream, cx, buf),
            OriginStream::Tls(stream) => stream.poll_write(cx, buf),
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            OriginStream::Plain(stream) => Socket::poll_flush(stream, cx),
            OriginStream::Tls(stream) => stream.poll_flush(cx),
        }
    }

    fn shutdown_write(&mut self) {
        match self {
            OriginStream::Plain(stream) => Socket::shutdown_write(stream),
            OriginStream::Tls(stream) => stream.shutdown_write(),
        }
    }

    fn reset_on_close(&mut self) {
        match self {
            OriginStream::Plain(stream) => stream.reset_on_close(),
            OriginStream::Tls(stream) => stream.reset_on_close(),
        }
    }
}

/// A new connection, by what is spoken on it.
pub(crate) enum Connected {
    H1(OriginStream),
    H2(OriginStream),
}

/// Opens a connection for HTTP/1.1 alone, within [`CONNECT_TIMEOUT_NS`]; to this very node only where that is `own_too`.
pub(crate) async fn connect(shard: &Rc<Shard>, origin: &Origin, own_too: bool) -> Result<OriginStream, FetchError> {
    match open_in_time(shard, origin, own_too, false).await? {
        Connected::H1(stream) => Ok(stream),
        Connected::H2(_) => Err(FetchError(format!("{} speaks a protocol that it was not offered", origin.host))),
    }
}

/// Opens a connection for HTTP/2, where the origin speaks it, or HTTP/1.1.
pub(crate) async fn connect_either(shard: &Rc<Shard>, origin: &Origin, own_too: bool) -> Result<Connected, FetchError> {
    open_in_time(shard, origin, own_too, true).await
}

async fn open_in_time(
    shard: &Rc<Shard>,
    origin: &Origin,
    own_too: bool,
    h2_too: bool,
) -> Result<Connected, FetchError> {
    let late = async {
        Timer::new(Duration::from_nanos(CONNECT_TIMEOUT_NS)).await;
        Err(FetchError(format!("connecting to {} took too long", origin.host)))
    };
    let stream = open(shard, origin, own_too, h2_too).or(late).await?;
    shard.metrics.fetch_connections_opened.add(1);
    Ok(stream)
}

async fn open(shard: &Rc<Shard>, origin: &Origin, own_too: bool, h2_too: bool) -> Result<Connected, FetchError> {
    let literal = origin.host.parse::<IpAddr>().ok();
    let addresses = match literal {
        Some(address) => [address].into(),
        None => dns::resolve(shard, &origin.host).await?,
    };
    let listens = shard.config().listen;
    let socket_addresses = || addresses.iter().map(|address| SocketAddr::new(*address, origin.port));
    if !own_too && socket_addresses().any(|address| policy::is_own(address, listens)) {
        return Err(FetchError(format!("{} is this node", origin.host)));
    }
    let may = |address: &SocketAddr| {
        shard.outbound.allow_private || (policy::is_public(address.ip()) && !policy::is_private_here(*address, listens))
    };
    let allowed: Vec<SocketAddr> = socket_addresses().filter(may).collect();
    if allowed.is_empty() {
        return Err(FetchError(format!("{} is not a public address, and this node allows no other", origin.host)));
    }
    let stream = first_of(&alternate(&allowed)).await.map_err(|error| {
        let refused = error.map_or_else(|| "no address answered".to_owned(), |error| error.to_string());
        FetchError(format!("connecting to {} failed: {refused}", origin.host))
    })?;
    let _ = stream.set_nodelay(true);
    secure(shard, origin, stream, h2_too).await
}

/// The addresses to try, the families in turn: of a name whose first family leads nowhere the second one is soon tried.
fn alternate(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let (mut first, mut second): (Vec<_>, Vec<_>) =
        addresses.iter().copied().partition(|address| address.is_ipv6() == addresses[0].is_ipv6());
    let mut order = Vec::with_capacity(ADDRESSES_TRIED_MAX);
    first.reverse();
    second.reverse();
    while order.len() < ADDRESSES_TRIED_MAX {
        match (first.pop(), second.pop()) {
            (None, None) => break,
            (one, other) => order.extend(one.into_iter().chain(other)),
        }
    }
    order.truncate(ADDRESSES_TRIED_MAX);
    order
}

/// Connects to the first address that answers: each is given a head start over the next (RFC 8305).
async fn first_of(addresses: &[SocketAddr]) -> Result<TcpStream, Option<glommio::GlommioError<()>>> {
    let mut running = FuturesUnordered::new();
    let mut waiting = addresses.iter();
    let mut failure = None;
    loop {
        let more = waiting.next();
        match more {
            Some(address) => running.push(TcpStream::connect(*address)),
            None if running.is_empty() => return Err(failure),
            None => {}
        }
        let came = async { running.next().await };
        let came = match waiting.len() {
            0 => came.await,
            _ => {
                let stagger = async {
                    Timer::new(CONNECT_STAGGER).await;
                    None
                };
                came.or(stagger).await
            }
        };
        match came {
            Some(Ok(stream)) => return Ok(stream),
            Some(Err(error)) => failure = Some(error),
            None => {}
        }
    }
}

async fn secure(shard: &Shard, origin: &Origin, stream: TcpStream, h2_too: bool) -> Result<Connected, FetchError> {
    if !origin.tls {
        return Ok(Connected::H1(OriginStream::Plain(stream)));
    }
    let name = ServerName::try_from(origin.host.clone())
        .map_err(|_| FetchError(format!("{} is not a valid server name", origin.host)))?;
    let tls = if h2_too { &shard.outbound.tls.either } else { &shard.outbound.tls.h1 };
    match futures_rustls::TlsConnector::from(tls.clone()).connect(name, stream).await {
        Ok(stream) => {
            let (stream, session) = stream.into_inner();
            Ok(OriginStream::of(stream, Box::new(session)))
        }
        Err(error) => Err(FetchError(format!("TLS with {} failed: {error}", origin.host))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_take_turns() {
        let addresses = |texts: &[&str]| -> Vec<SocketAddr> {
            texts.iter().map(|text| SocketAddr::new(text.parse().expect("an address"), 1)).collect()
        };
        let check = |given: &[&str], order: &[&str]| assert_eq!(alternate(&addresses(given)), addresses(order));
        check(&["::1", "::2", "1.1.1.1", "2.2.2.2"], &["::1", "1.1.1.1", "::2", "2.2.2.2"]);
        check(&["1.1.1.1", "::1", "::2", "::3", "::4"], &["1.1.1.1", "::1", "::2", "::3"]);
        check(&["1.1.1.1"], &["1.1.1.1"]);
    }
}
