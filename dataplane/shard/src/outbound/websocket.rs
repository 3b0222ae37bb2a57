//! A WebSocket that a Worker opens: the handshake with the origin, and what comes of it.
//!
//! Goes where `fetch` may go, by the same rules, on a connection of its own. Until the Worker accepts the socket or passes it on, its
//! connection lies in the socket's mailbox unread. A response that refuses is given to the Worker whole.

use super::stream;
use super::target::Target;
use super::{FetchError, FetchRequest};
use crate::cell::WorkerCell;
use crate::config::{FETCH_HEAD_TIMEOUT_NS, WEBSOCKET_REFUSAL_BYTES_MAX};
use crate::io::{Io, Side};
use crate::outbound::OriginStream;
use crate::shard::Shard;
use crate::watch::Watched;
use crate::websocket as session;
use h1::body::{Decoded, Decoder};
use h1::client::ResponseHead;
use h1::scan::HeadScan;
use h1::{Framing, upgrade};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};
use websocket::Role;
use worker_api::event::{Event, FetchId, IncomingBody, SocketId};

/// Interim responses before the final one.
const INTERIM_HEADS_MAX: u32 = 8;

/// An opening handshake under way.
struct Handshake<'a> {
    cell: &'a Rc<WorkerCell>,
    request: &'a FetchRequest,
    accept: String,
    io: Io<OriginStream>,
    watch: Watched,
    scan: HeadScan,
    interim: u32,
    /// The head of a refusal, and what has come of its body.
    refusal: Option<(ResponseHead, Decoder, Vec<u8>)>,
}

/// How a handshake ended.
enum Outcome {
    Switched(ResponseHead),
    Refused(ResponseHead, Vec<u8>),
    Cancelled,
    Failed(FetchError),
}

/// Opens a WebSocket for a Worker and serves it. An error is told to the Worker by the caller.
pub(crate) async fn run(shard: &Rc<Shard>, cell: &Rc<WorkerCell>, request: FetchRequest) -> Result<(), FetchError> {
    if request.method != "GET" {
        return Err("a WebSocket is asked for by GET".into());
    }
    let target = Target::parse(&request.url)?;
    let stream = stream::connect(shard, &target.origin, true).await?;
    let mut io = Io::new(stream, Side::Origin, shard.scratch.clone(), shard.metrics.clone());
    let key = websocket::nonce(shard.random());
    upgrade::encode_request(io.output(), &target.path, &target.authority, &request.headers, &key)
        .map_err(|error| FetchError(error.to_string()))?;
    let watch = shard.watches.add();
    watch.set(shard.clock.now_ns() + FETCH_HEAD_TIMEOUT_NS);
    let accept = websocket::accept(key.as_bytes());
    let (scan, refusal) = (HeadScan::new(), None);
    let mut handshake = Handshake { cell, request: &request, accept, io, watch, scan, interim: 0, refusal };
    let outcome = poll_fn(|cx| handshake.poll(cx)).await;
    let Handshake { io, watch, .. } = handshake;
    let fetch = request.fetch;
    let answer = |head: ResponseHead, body| {
        let ResponseHead { status, reason, headers, .. } = head;
        cell.send(shard, Event::FetchResponse { fetch, status, reason, headers, body });
    };
    match outcome {
        Outcome::Cancelled => Ok(()),
        Outcome::Failed(error) => Err(error),
        Outcome::Refused(head, body) => {
            let body = if body.is_empty() { IncomingBody::Empty } else { IncomingBody::Full(body.into()) };
            answer(head, body);
            Ok(())
        }
        Outcome::Switched(head) => {
            watch.clear();
            let mail = cell.add_socket(SocketId(fetch.0), Role::Client);
            *mail.parked.borrow_mut() = Some(io);
            answer(head, IncomingBody::Socket);
            wait_for_use(shard, cell, fetch, watch).await;
            Ok(())
        }
    }
}

/// Waits until the Worker accepts the socket, and serves it then; or until its connection is taken to be joined with a client's.
async fn wait_for_use(shard: &Rc<Shard>, cell: &Rc<WorkerCell>, fetch: FetchId, watch: Watched) {
    let socket = SocketId(fetch.0);
    let Some(mail) = cell.socket(socket) else { return };
    let taken = poll_fn(|cx| {
        mail.look();
        if mail.parked.borrow().is_none() {
            return Poll::Ready(None);
        }
        if mail.pulled.get() || mail.has_mail() || mail.lost.get() || shard.draining() {
            return Poll::Ready(mail.parked.borrow_mut().take());
        }
        watch.remember(cx.waker());
        mail.wait(cx);
        Poll::Pending
    })
    .await;
    match taken {
        Some(io) => session::serve(shard, io, watch, cell.clone(), socket, mail).await,
        None => cell.remove_socket(socket),
    }
}

impl Handshake<'_> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Outcome> {
        if self.cell.take_fetch(self.request.fetch).cancelled {
            return Poll::Ready(Outcome::Cancelled);
        }
        if self.watch.expired() {
            return Poll::Ready(Outcome::Failed("the origin did not answer in time".into()));
        }
        if let Poll::Ready(Err(error)) = self.io.poll_flush(cx) {
            return Poll::Ready(Outcome::Failed(FetchError(error.to_string())));
        }
        loop {
            match self.read() {
                Ok(Some(outcome)) => return Poll::Ready(outcome),
                Ok(None) => {}
                Err(error) => return Poll::Ready(Outcome::Failed(error)),
            }
            match self.io.poll_fill(cx) {
                Poll::Ready(Ok(0)) => return Poll::Ready(self.on_eof()),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Outcome::Failed(FetchError(error.to_string()))),
                Poll::Pending => break,
            }
        }
        self.watch.remember(cx.waker());
        self.cell.wait_fetch(self.request.fetch, cx);
        Poll::Pending
    }

    fn on_eof(&mut self) -> Outcome {
        if let Some((head, mut decoder, body)) = self.refusal.take()
            && decoder.eof().is_ok()
        {
            return Outcome::Refused(head, body);
        }
        Outcome::Failed("the origin closed the connection".into())
    }

    /// Reads what has come; `None` if more is needed.
    fn read(&mut self) -> Result<Option<Outcome>, FetchError> {
        while self.refusal.is_none() {
            let found = self.scan.find(self.io.input());
            let Some(range) = found.map_err(|error| FetchError(format!("invalid response: {}", error.text())))? else {
                return Ok(None);
            };
            let end = range.end;
            let head = upgrade::parse_response(&self.io.input()[range], &self.request.headers, &self.accept);
            self.io.consume(end);
            let head = head.map_err(|error| FetchError(format!("invalid response: {error}")))?;
            match head.status {
                101 => return Ok(Some(Outcome::Switched(head))),
                100..200 if self.interim < INTERIM_HEADS_MAX => {
                    self.interim += 1;
                    self.scan = HeadScan::new();
                }
                100..200 => return Err("too many interim responses".into()),
                _ => self.refusal = Some((head.clone(), Decoder::new(head.framing, u64::MAX), Vec::new())),
            }
        }
        self.read_refusal()
    }

    fn read_refusal(&mut self) -> Result<Option<Outcome>, FetchError> {
        let Some((head, decoder, body)) = &mut self.refusal else { return Ok(None) };
        let mut complete = head.framing == Framing::None;
        while !complete {
            match decoder.decode(self.io.input()).map_err(|error| FetchError(error.to_string()))? {
                Decoded::Data { skip, len } => {
                    body.extend_from_slice(&self.io.input()[skip..skip + len]);
                    self.io.consume(skip + len);
                    complete = decoder.ended();
                }
                Decoded::End { .. } => complete = true,
                Decoded::More => {
                    let used = self.io.input().len();
                    self.io.consume(used);
                    break;
                }
            }
            if body.len() > WEBSOCKET_REFUSAL_BYTES_MAX {
                return Err("the origin refused the WebSocket with too large a response".into());
            }
        }
        let whole = self.refusal.take_if(|_| complete);
        Ok(whole.map(|(head, _, body)| Outcome::Refused(head, body)))
    }
}
