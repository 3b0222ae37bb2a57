//! HTTP/2 connections to origins: the `h2` crate over a socket of the shard, several requests on each connection.
//!
//! A connection stays with the shard that opened it. It ends when its origin ends it, or when it has carried nothing for
//! [`POOL_IDLE_NS`]; requests that are under way go on to their end.
//!
//! *Bounds:* streams of a connection, and the windows: what an origin may send and nobody has read is at most
//! [`H2_STREAM_WINDOW_BYTES`] for a stream, and a connection has room for all of its streams, so that none starves the others.

use super::stream::{Origin, OriginStream};
use super::{FetchError, stream};
use crate::config::{
    H2_CONNECTION_WINDOW_BYTES, H2_CONNECTIONS_PER_ORIGIN_MAX, H2_FRAME_BYTES_MAX, H2_ORIGINS_MAX,
    H2_SEND_BUFFER_BYTES, H2_STREAM_WINDOW_BYTES, H2_STREAMS_MAX, POOL_IDLE_NS,
};
use crate::shard::Shard;
use crate::socket::Socket;
use base::limits::HEAD_BYTES_MAX;
use bytes::Bytes;
use h2::client::SendRequest;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use worker_api::event::MonotonicNs;

/// A connection.
struct Multiplexed {
    send: RefCell<SendRequest<Bytes>>,
    streams: Cell<usize>,
    /// When it last carried something.
    used_ns: Cell<MonotonicNs>,
    over: Cell<bool>,
}

/// One request's place on a connection.
pub(crate) struct Place {
    connection: Rc<Multiplexed>,
    shard: Rc<Shard>,
    /// It was there before this request.
    pub(crate) reused: bool,
}

impl Place {
    fn new(shard: &Rc<Shard>, connection: &Rc<Multiplexed>, reused: bool) -> Place {
        connection.streams.set(connection.streams.get() + 1);
        Place { connection: connection.clone(), shard: shard.clone(), reused }
    }

    /// A handle to begin a request with.
    pub(crate) fn send(&self) -> SendRequest<Bytes> {
        self.connection.send.borrow().clone()
    }

    /// No new request goes on this connection.
    pub(crate) fn give_up(&self) {
        self.connection.over.set(true);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connection.streams.set(self.connection.streams.get() - 1);
        self.connection.used_ns.set(self.shard.clock.recent_ns());
    }
}

/// The HTTP/2 connections of a shard.
#[derive(Default)]
pub(crate) struct Connections {
    by_origin: RefCell<HashMap<Origin, Vec<Rc<Multiplexed>>>>,
}

impl Connections {
    /// A place on a connection to an origin, if there is one.
    pub(crate) fn place(&self, shard: &Rc<Shard>, origin: &Origin) -> Option<Place> {
        let mut by_origin = self.by_origin.borrow_mut();
        let list = by_origin.get_mut(origin)?;
        list.retain(|connection| !connection.over.get());
        let free = |connection: &&Rc<Multiplexed>| connection.streams.get() < H2_STREAMS_MAX;
        let full = list.len() >= H2_CONNECTIONS_PER_ORIGIN_MAX;
        // Past all bounds requests wait on the connection that has the fewest.
        let found = list.iter().find(free).or_else(|| list.iter().filter(|_| full).min_by_key(|one| one.streams.get()));
        found.map(|connection| Place::new(shard, connection, true))
    }

    /// Ends connections that have carried nothing for long.
    pub(crate) fn sweep(&self, now_ns: MonotonicNs) {
        self.by_origin.borrow_mut().retain(|_, list| {
            list.retain(|one| !one.over.get() && (one.streams.get() > 0 || one.used_ns.get() + POOL_IDLE_NS > now_ns));
            !list.is_empty()
        });
    }

    /// Connections that are open, and of those the ones that carry nothing.
    pub(crate) fn count(&self) -> (usize, usize) {
        let by_origin = self.by_origin.borrow();
        let all = || by_origin.values().flatten();
        (all().count(), all().filter(|one| one.streams.get() == 0).count())
    }
}

/// Begins HTTP/2 on a new connection.
pub(crate) async fn begin(shard: &Rc<Shard>, origin: &Origin, stream: OriginStream) -> Result<Place, FetchError> {
    let failed = |error: h2::Error| FetchError(format!("HTTP/2 with {} failed: {error}", origin.host));
    let mut builder = h2::client::Builder::new();
    builder
        .enable_push(false)
        .initial_window_size(H2_STREAM_WINDOW_BYTES)
        .initial_connection_window_size(H2_CONNECTION_WINDOW_BYTES)
        .max_frame_size(H2_FRAME_BYTES_MAX)
        .max_header_list_size(HEAD_BYTES_MAX as u32)
        .max_send_buffer_size(H2_SEND_BUFFER_BYTES);
    let adapter = Adapter { socket: stream, shard: shard.clone() };
    let (send, connection) = builder.handshake::<_, Bytes>(adapter).await.map_err(failed)?;
    let multiplexed = Rc::new(Multiplexed {
        send: RefCell::new(send),
        streams: Cell::new(0),
        used_ns: Cell::new(shard.clock.recent_ns()),
        over: Cell::new(false),
    });
    let connections = &shard.outbound.h2;
    if connections.by_origin.borrow().len() >= H2_ORIGINS_MAX {
        connections.by_origin.borrow_mut().retain(|_, list| list.iter().any(|one| one.streams.get() > 0));
    }
    connections.by_origin.borrow_mut().entry(origin.clone()).or_default().push(multiplexed.clone());
    let place = Place::new(shard, &multiplexed, false);
    let weak = Rc::downgrade(&multiplexed);
    // Ends with the last handle: the one in the table, and those of requests.
    glommio::spawn_local(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "an HTTP/2 connection ended");
        }
        if let Some(multiplexed) = weak.upgrade() {
            multiplexed.over.set(true);
        }
    })
    .detach();
    Ok(place)
}

/// A place on a connection to an origin that speaks HTTP/2, or a connection to one that does not.
pub(crate) enum Opened {
    H1(OriginStream),
    H2(Place),
}

/// Opens a connection.
pub(crate) async fn open(shard: &Rc<Shard>, origin: &Origin, own_too: bool) -> Result<Opened, FetchError> {
    match stream::connect_either(shard, origin, own_too).await? {
        stream::Connected::H1(stream) => Ok(Opened::H1(stream)),
        stream::Connected::H2(stream) => {
            // Somebody else may have opened one meanwhile: this one ends unused.
            if let Some(place) = shard.outbound.h2.place(shard, origin) {
                return Ok(Opened::H2(place));
            }
            begin(shard, origin, stream).await.map(Opened::H2)
        }
    }
}

/// A socket of the shard as the `h2` crate wants it.
struct Adapter {
    socket: OriginStream,
    shard: Rc<Shard>,
}

impl AsyncRead for Adapter {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let len = ready!(this.socket.poll_read(cx, buf.initialize_unfilled()))?;
        buf.advance(len);
        this.shard.metrics.fetch_bytes_received.add(len as u64);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Adapter {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let len = ready!(this.socket.poll_write(cx, buf))?;
        this.shard.metrics.fetch_bytes_sent.add(len as u64);
        Poll::Ready(Ok(len))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().socket.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().socket.shutdown_write();
        Poll::Ready(Ok(()))
    }
}
