//! A client's connection: heads in, one exchange after the other, and how it ends.
//!
//! Requests are answered in order; the next head is looked at when the exchange before it is done. Responses to
//! pipelined requests gather in the output until there is no complete head left or the output is full.

use crate::canned::Canned;
use crate::cell::WorkerCell;
use crate::config::{HANDED_OVER_IDLE_NS, LINGER_NS};
use crate::exchange::{self, After};
use crate::io::{Io, Side};
use crate::shard::Shard;
use crate::socket::Socket;
use crate::watch::Watched;
use crate::websocket;
use ::websocket::Role;
use base::header::HeaderBlock;
use base::limits::S_NS;
use futures_lite::FutureExt;
use glommio::net::TcpStream;
use h1::Reject;
use h1::request::{self, RequestHead};
use h1::response::{self, Body, Context as ResponseContext};
use h1::scan::HeadScan;
use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::task::{Context, Poll};
use worker_api::event::SocketId;

/// Time that a new connection has to begin a request once the shard drains, ns.
const DRAIN_GRACE_NS: u64 = S_NS;
/// Bytes read and dropped of a peer that is told to go.
const LINGER_BYTES_MAX: usize = 1024 * 1024;
/// Requests answered in a row before other connections get their turn.
const REQUESTS_PER_TURN: u32 = 16;

/// What a connection waits for between two exchanges: each has its own time limit.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Limit {
    None,
    Flush,
    Idle,
    Head,
    Drain,
}

/// What came of waiting for a request.
enum Incoming {
    Request(RequestHead),
    Refused(Reject),
    Closed,
}

/// A connection between its exchanges, and what an exchange needs of it.
pub(crate) struct Connection<S> {
    pub(crate) io: Io<S>,
    pub(crate) watch: Watched,
    scan: HeadScan,
    limit: Limit,
    served: u32,
    /// The WebSocket that it is from here on.
    pub(crate) switched: Option<(Rc<WorkerCell>, SocketId)>,
}

/// Counts a connection as long as it lives.
struct Counted(Rc<Shard>);

impl Counted {
    fn new(shard: &Rc<Shard>) -> Counted {
        shard.connections.set(shard.connections.get() + 1);
        shard.metrics.connections.add(1);
        shard.metrics.connections_accepted.add(1);
        Counted(shard.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.connections.set(self.0.connections.get() - 1);
        self.0.metrics.connections.sub(1);
    }
}

/// Serves a new connection in a task of its own, unless there are too many.
pub(crate) fn start(shard: &Rc<Shard>, stream: TcpStream) {
    if shard.connections.get() >= shard.config().connections_per_shard_max {
        shard.metrics.connections_refused.add(1);
        return;
    }
    let counted = Counted::new(shard);
    glommio::spawn_local(async move {
        let shard = &counted.0;
        if let Err(panic) = AssertUnwindSafe(serve(shard, stream)).catch_unwind().await {
            shard.after_panic(panic.as_ref());
        }
    })
    .detach();
}

async fn serve<S: Socket>(shard: &Rc<Shard>, socket: S) {
    let mut connection = Connection {
        io: Io::new(socket, Side::Client, shard.scratch.clone(), shard.metrics.clone()),
        watch: shard.watches.add(),
        scan: HeadScan::new(),
        limit: Limit::None,
        served: 0,
        switched: None,
    };
    loop {
        let after = match poll_fn(|cx| connection.poll_head(shard, cx)).await {
            Incoming::Request(head) => exchange::run(shard, &mut connection, head).await,
            Incoming::Refused(reject) => connection.refuse(shard, reject),
            Incoming::Closed => return,
        };
        connection.served = connection.served.wrapping_add(1);
        match after {
            After::Next if connection.served.is_multiple_of(REQUESTS_PER_TURN) => {
                futures_lite::future::yield_now().await;
            }
            After::Next => {}
            After::Switch => return connection.switch(shard).await,
            After::Close => return connection.close(shard, false).await,
            After::Linger => return connection.close(shard, true).await,
            After::Abort => return,
        }
    }
}

impl<S: Socket> Connection<S> {
    fn poll_head(&mut self, shard: &Shard, cx: &mut Context<'_>) -> Poll<Incoming> {
        loop {
            if self.io.may_append() && !self.io.input().is_empty() {
                match self.scan.find(self.io.input()) {
                    Ok(Some(range)) => {
                        let end = range.end;
                        let parsed = request::parse(&self.io.input()[range]);
                        self.io.consume(end);
                        self.scan = HeadScan::new();
                        self.limit = Limit::None;
                        self.watch.clear();
                        return Poll::Ready(parsed.map_or_else(Incoming::Refused, Incoming::Request));
                    }
                    Ok(None) => {}
                    Err(reject) => return Poll::Ready(Incoming::Refused(reject)),
                }
            }
            if self.watch.expired() {
                return Poll::Ready(match self.limit {
                    Limit::Head if !self.io.input().is_empty() => Incoming::Refused(Reject::Timeout),
                    _ => Incoming::Closed,
                });
            }
            match self.io.poll_flush(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(Incoming::Closed),
                Poll::Pending => return self.wait(shard, cx, Limit::Flush),
            }
            let waiting = !self.io.input().is_empty();
            if shard.draining() && !shard.handed_over() && !waiting && self.served > 0 {
                return Poll::Ready(Incoming::Closed);
            }
            match self.io.poll_fill(cx) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Incoming::Closed),
                Poll::Ready(Ok(_)) => {}
                Poll::Pending if waiting || (self.served == 0 && !shard.draining()) => {
                    return self.wait(shard, cx, Limit::Head);
                }
                Poll::Pending if shard.draining() => return self.wait(shard, cx, Limit::Drain),
                Poll::Pending => return self.wait(shard, cx, Limit::Idle),
            }
        }
    }

    /// Sleeps, for no longer than the limit allows since it began to hold.
    fn wait(&mut self, shard: &Shard, cx: &Context<'_>, limit: Limit) -> Poll<Incoming> {
        if limit != self.limit {
            let timeouts = &shard.config().timeouts;
            let allowed_ns = match limit {
                Limit::Flush => timeouts.stall_ns,
                Limit::Head => timeouts.head_ns,
                Limit::Idle => timeouts.idle_ns,
                Limit::Drain if shard.handed_over() => HANDED_OVER_IDLE_NS,
                Limit::Drain => DRAIN_GRACE_NS,
                Limit::None => u64::MAX / 2,
            };
            self.limit = limit;
            self.watch.set(shard.clock.recent_ns() + allowed_ns);
        }
        self.watch.remember(cx.waker());
        Poll::Pending
    }

    /// Answers a request that could not be read.
    fn refuse(&mut self, shard: &Shard, reject: Reject) -> After {
        let context =
            ResponseContext { head_request: false, minor_version: 1, keep_alive: false, date: shard.clock.date() };
        self.answer(shard, Canned::of_reject(reject), &context, None, 0);
        After::Linger
    }

    /// Appends one of the node's own answers; tells whether the connection may be kept. `version` is that of the Worker
    /// whose answer this one replaces.
    pub(crate) fn answer(
        &mut self,
        shard: &Shard,
        canned: Canned,
        context: &ResponseContext,
        version: Option<&[u8]>,
        latency_ns: u64,
    ) -> bool {
        let mut extra: Vec<(&str, &[u8])> =
            vec![("Content-Type", b"text/plain; charset=utf-8"), ("Cache-Control", b"no-store")];
        extra.extend(version.map(|version| ("X-Deployment-Version", version)));
        if !canned.retry_after.is_empty() {
            extra.push(("Retry-After", canned.retry_after.as_bytes()));
        }
        if canned == Canned::WEBSOCKET_VERSION {
            extra.push(("Sec-WebSocket-Version", b"13"));
        }
        let body = Body::Known(canned.text.len() as u64);
        let sent = response::encode(self.io.output(), canned.status, &HeaderBlock::new(), &extra, body, context)
            .expect("the node's own fields are valid");
        if sent.framing == response::SendFraming::Length(canned.text.len() as u64) {
            self.io.output().extend_from_slice(canned.text.as_bytes());
        }
        shard.metrics.response(canned.status, latency_ns);
        sent.keep_alive
    }

    /// Goes on as a WebSocket, in a task of its own, which is smaller.
    async fn switch(self, shard: &Rc<Shard>) {
        let Connection { io, watch, switched, .. } = self;
        let Some((cell, socket)) = switched else { return };
        let Some(mail) = cell.socket(socket) else { return };
        let parked = mail.parked.borrow_mut().take();
        match parked {
            Some(origin) => {
                cell.remove_socket(socket);
                drop((cell, mail));
                websocket::tunnel(shard, io, origin, watch).await;
            }
            // It was lost before anybody had it.
            None if mail.role() == Role::Client => {}
            None => websocket::serve(shard, io, watch, cell, socket, mail).await,
        }
    }

    /// Sends what is left, says that this was all, and reads on for a moment where the peer may still be sending: a
    /// close with unread bytes would reset the connection, and the peer might never see the answer.
    async fn close(mut self, shard: &Shard, wait: bool) {
        linger(shard, &mut self.io, &self.watch, wait).await;
    }
}

/// See [`Connection::close`].
pub(crate) async fn linger<S: Socket>(shard: &Shard, io: &mut Io<S>, watch: &Watched, wait: bool) {
    watch.set(shard.clock.recent_ns() + shard.config().timeouts.stall_ns);
    let mut left = LINGER_BYTES_MAX;
    let mut lingering = false;
    poll_fn(|cx| {
        watch.remember(cx.waker());
        if watch.expired() {
            return Poll::Ready(());
        }
        if !lingering {
            match io.poll_flush(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
            io.socket.shutdown_write();
            watch.set(shard.clock.recent_ns() + LINGER_NS);
            lingering = true;
        }
        loop {
            let unread = io.input().len();
            io.consume(unread);
            match io.poll_fill(cx) {
                Poll::Ready(Ok(len)) if len > 0 && len < left => left -= len,
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending if wait => return Poll::Pending,
                Poll::Pending => return Poll::Ready(()),
            }
        }
    })
    .await;
}
