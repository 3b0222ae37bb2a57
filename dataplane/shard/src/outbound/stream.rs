//! A connection to an origin: TCP or TLS over it, and how one is opened.

use super::{FetchError, dns, policy};
use crate::config::CONNECT_TIMEOUT_NS;
use crate::shard::Shard;
use crate::socket::Socket;
use futures_lite::{AsyncRead, AsyncWrite, FutureExt};
use futures_rustls::client::TlsStream;
use glommio::net::TcpStream;
use glommio::timer::Timer;
use rustls::pki_types::ServerName;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
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
    Tls(Box<TlsStream<TcpStream>>),
}

impl Socket for OriginStream {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        match self {
            OriginStream::Plain(stream) => AsyncRead::poll_read(Pin::new(stream), cx, buf),
            OriginStream::Tls(stream) => AsyncRead::poll_read(Pin::new(stream.as_mut()), cx, buf),
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            OriginStream::Plain(stream) => AsyncWrite::poll_write(Pin::new(stream), cx, buf),
            OriginStream::Tls(stream) => {
                // A record is taken in whole before the socket takes it: what is written must be flushed too.
                let len = ready!(AsyncWrite::poll_write(Pin::new(stream.as_mut()), cx, buf))?;
                let _ = AsyncWrite::poll_flush(Pin::new(stream.as_mut()), cx)?;
                Poll::Ready(Ok(len))
            }
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            OriginStream::Plain(_) => Poll::Ready(Ok(())),
            OriginStream::Tls(stream) => AsyncWrite::poll_flush(Pin::new(stream.as_mut()), cx),
        }
    }

    fn shutdown_write(&mut self) {
        if let OriginStream::Plain(stream) = self {
            Socket::shutdown_write(stream);
        }
    }

    fn reset_on_close(&mut self) {
        match self {
            OriginStream::Plain(stream) => stream.reset_on_close(),
            OriginStream::Tls(stream) => stream.get_mut().0.reset_on_close(),
        }
    }
}

/// Opens a connection, within [`CONNECT_TIMEOUT_NS`]; to this very node only where that is `own_too`.
pub(crate) async fn connect(shard: &Shard, origin: &Origin, own_too: bool) -> Result<OriginStream, FetchError> {
    let late = async {
        Timer::new(Duration::from_nanos(CONNECT_TIMEOUT_NS)).await;
        Err(FetchError(format!("connecting to {} took too long", origin.host)))
    };
    let stream = open(shard, origin, own_too).or(late).await?;
    shard.metrics.fetch_connections_opened.add(1);
    Ok(stream)
}

async fn open(shard: &Shard, origin: &Origin, own_too: bool) -> Result<OriginStream, FetchError> {
    let literal = origin.host.parse::<IpAddr>().ok();
    let addresses = match literal {
        Some(address) => [address].into(),
        None => dns::resolve(shard, &origin.host).await?,
    };
    let listens = shard.config().listen;
    if !own_too && addresses.iter().any(|address| policy::is_own(SocketAddr::new(*address, origin.port), listens)) {
        return Err(FetchError(format!("{} is this node", origin.host)));
    }
    let allowed = addresses.iter().filter(|address| shard.outbound.allow_private || policy::is_public(**address));
    let mut failure = FetchError(format!("{} is not a public address, and this node allows no other", origin.host));
    for address in allowed.take(ADDRESSES_TRIED_MAX) {
        match TcpStream::connect(SocketAddr::new(*address, origin.port)).await {
            Ok(stream) => {
                let _ = stream.set_nodelay(true);
                return secure(shard, origin, stream).await;
            }
            Err(error) => failure = FetchError(format!("connecting to {} failed: {error}", origin.host)),
        }
    }
    Err(failure)
}

async fn secure(shard: &Shard, origin: &Origin, stream: TcpStream) -> Result<OriginStream, FetchError> {
    if !origin.tls {
        return Ok(OriginStream::Plain(stream));
    }
    let name = ServerName::try_from(origin.host.clone())
        .map_err(|_| FetchError(format!("{} is not a valid server name", origin.host)))?;
    match shard.outbound.tls.connect(name, stream).await {
        Ok(stream) => Ok(OriginStream::Tls(Box::new(stream))),
        Err(error) => Err(FetchError(format!("TLS with {} failed: {error}", origin.host))),
    }
}
