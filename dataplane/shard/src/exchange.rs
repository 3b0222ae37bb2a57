//! One request and its response: between a connection's buffers and a Worker's mailbox.
//!
//! Most requests are answered within the first poll: the Worker's answer lies in the mailbox when the event that brought
//! the request returns. Else the task sleeps until the mailbox, the socket or the ticker wakes it.
//!
//! Back-pressure: a chunk of the response is asked of the Worker only while there is room in the output; bytes of the
//! request's body are read only when the Worker asked for a chunk, besides a small read-ahead that shows whether the
//! client is still there.
//!
//! **Another try.** A request whose isolate was condemned by another request's doing, or did not start, is given once to another
//! isolate, by `Shard::route` as any other, where nothing of its response has begun and one of these holds:
//! 1. its handler had not begun (`Failure::NotBegun`), whatever its method: it was queued, or not handed over yet; where its
//!    isolate did not start, only while others of the Worker are up;
//! 2. the handler had begun, nothing of it had left the isolate (no outbound request was made for it), its body was not read
//!    (`Failure::Interrupted`), and the method is safe: GET, HEAD or OPTIONS.
//!
//! A request that itself passed a limit is never tried again, nor is one whose event the Worker had in hand when a panic of ours
//! took it ([`WorkerCell::abandon`]).
//!
//! **The origin in the Worker's place.** Where the handler asked for it (`passThroughOnException`) and fails before a response
//! began, the rest of the exchange is with the request's origin, see [`crate::origin`].

use crate::canned::Canned;
use crate::canonical::canonical;
use crate::cell::{Delivery, Response, WorkerCell};
use crate::config::{DISCARD_BYTES_MAX, READ_AHEAD_BYTES_MAX};
use crate::connection::Connection;
use crate::cron;
use crate::link::{self, Drained, Filled, Link, SendBody};
use crate::origin::{self, Passage};
use crate::shard::Shard;
use crate::socket::Socket;
use crate::split::Asker;
use crate::workers::{self, Unrouted};
use base::limits::BODY_BYTES_MAX;
use bytes::Bytes;
use h1::body::{self, BodyError, Decoded, Decoder};
use h1::request::RequestHead;
use h1::response::{self, Body, Context as ResponseContext, SendFraming};
use h1::upgrade::{self, Asked};
use h1::{Framing, Reject};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use worker_api::event::{BodyEvent, Event, Failure, IncomingBody, MonotonicNs, Passed, RequestId, SocketEnd, SocketId};

/// What becomes of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum After {
    /// The next request.
    Next,
    /// Send what is left and close.
    Close,
    /// The same, and drop for a while what the peer still sends.
    Linger,
    /// Close at once: the response is broken, or nobody is there.
    Abort,
    /// Go on as a WebSocket.
    Switch,
}

/// How far the response is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reply {
    Waiting,
    Streaming { framing: SendFraming, left: u64, asked: bool },
    Complete,
}

/// Whether the request is given to another isolate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Retry {
    NotYet,
    Now,
    Done,
}

struct Exchange {
    cell: Rc<WorkerCell>,
    id: RequestId,
    head: Arc<worker_api::RequestHead>,
    retry: Retry,
    /// The origin answers in the Worker's place.
    passage: Option<Rc<Passage>>,
    context: ResponseContext,
    /// The digest for the client that asks for a WebSocket.
    accept: Option<String>,
    switched: Option<SocketId>,
    started_ns: MonotonicNs,
    /// The rest of the request's body; none once it is complete.
    body: Option<Decoder>,
    /// The Worker waits for a chunk of it.
    asked: bool,
    /// Or it goes there.
    body_to: Option<Rc<Link>>,
    /// Where the response's body comes from, if not from the Worker.
    body_from: Option<Rc<Link>>,
    /// Bytes that it may still have, by the plan.
    allowance: u64,
    /// The client waits for `100 Continue`.
    owes_continue: bool,
    reply: Reply,
    status: u16,
    keep_alive: bool,
    discarded: u64,
    /// Bytes moved when the time limit was set last.
    moved: u64,
    /// The response ended before its end.
    broken: bool,
}

/// The way out of an exchange from any depth: what becomes of the connection.
type Step = Result<(), After>;

/// Serves one request.
pub(crate) async fn run<S: Socket>(shard: &Rc<Shard>, connection: &mut Connection<S>, head: RequestHead) -> After {
    let now = shard.clock.now();
    let context = ResponseContext::of(&head, !shard.ends_connections(), shard.clock.date());
    if head.asterisk {
        return refuse(shard, connection, &head, &context, Canned::OPTIONS);
    }
    let accept = match asked_accept(&head) {
        Ok(accept) => accept,
        Err(canned) => return refuse(shard, connection, &head, &context, canned),
    };
    let address = || connection.io.socket.peer();
    let asker = Asker::Client { head: &head, address: &address };
    let mut found = shard.route(&head, &asker);
    if let Err(Unrouted::Comes(pull)) = found {
        // Rare, and not to make every connection's future larger.
        let arrived = Box::pin(workers::arrived(pull)).await;
        found = arrived.map_err(Unrouted::from).and_then(|()| shard.route(&head, &asker));
    }
    let cell = match found.map_err(Unrouted::answer) {
        Ok(cell) => cell,
        Err(canned) => {
            shard.metrics.failure(canned.label);
            return refuse(shard, connection, &head, &context, canned);
        }
    };
    if shard.config().test_scheduled && cron::is_by_hand(&head) {
        let ran = cron::by_hand(shard, &cell, &head).await;
        return refuse(shard, connection, &head, &context, ran);
    }
    let Some(url) = canonical(&head) else {
        let invalid = Reject::Malformed("invalid request target");
        return refuse(shard, connection, &head, &context, Canned::of_reject(invalid));
    };
    let (body, incoming) = request_body(connection, head.framing);
    let id = cell.admit(shard, now.monotonic_ns, &incoming);
    let owes_continue = head.expects_continue;
    let head = Arc::new(worker_api::RequestHead {
        method: head.method,
        url: url.unwrap_or(head.url),
        headers: head.headers,
        body: incoming,
    });
    let mut exchange = Exchange {
        cell,
        id,
        head: head.clone(),
        retry: Retry::NotYet,
        passage: None,
        context,
        accept,
        switched: None,
        started_ns: now.monotonic_ns,
        body,
        asked: false,
        body_to: None,
        body_from: None,
        allowance: u64::MAX,
        owes_continue,
        reply: Reply::Waiting,
        status: 0,
        keep_alive: false,
        discarded: 0,
        moved: 0,
        broken: false,
    };
    exchange.cell.send_at(shard, now, Event::Request { id, head });
    loop {
        let after = poll_fn(|cx| exchange.poll(shard, connection, cx)).await;
        if exchange.retry != Retry::Now {
            return after;
        }
        exchange.begin_again(shard, connection);
    }
}

/// The digest that answers a request for a WebSocket; `None` if it is none.
fn asked_accept(head: &RequestHead) -> Result<Option<String>, Canned> {
    if !head.upgrades {
        return Ok(None);
    }
    match upgrade::asked(head) {
        Asked::No => Ok(None),
        Asked::Yes { key } if websocket::is_key(key) => Ok(Some(websocket::accept(key))),
        Asked::Yes { .. } => Err(Canned::of_reject(Reject::Malformed("Sec-WebSocket-Key is not 16 bytes in base64"))),
        Asked::OtherVersion => Err(Canned::WEBSOCKET_VERSION),
        Asked::Malformed(why) => Err(Canned::of_reject(Reject::Malformed(why))),
    }
}

/// The head that a request is routed by, from its URL.
fn route_head(url: &str) -> Option<RequestHead> {
    let rest = url.strip_prefix("http://")?;
    let (authority, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let path = target.split('?').next().filter(|path| !path.is_empty()).unwrap_or("/");
    h1::request::parse(format!("GET {path} HTTP/1.1\r\nHost: {authority}\r\n\r\n").as_bytes()).ok()
}

/// Answers without a Worker. A body that comes with the request costs the connection.
fn refuse<S: Socket>(
    shard: &Shard,
    connection: &mut Connection<S>,
    head: &RequestHead,
    context: &ResponseContext,
    canned: Canned,
) -> After {
    let keep_alive = context.keep_alive && head.framing == Framing::None;
    let context = ResponseContext { keep_alive, ..*context };
    match connection.answer(shard, canned, &context, None, 0) {
        true => After::Next,
        false => After::Linger,
    }
}

/// The request's body: all of it where it is short and here already.
fn request_body<S: Socket>(connection: &mut Connection<S>, framing: Framing) -> (Option<Decoder>, IncomingBody) {
    match framing {
        Framing::None => (None, IncomingBody::Empty),
        Framing::Length(length) if length <= connection.io.input().len() as u64 => {
            let length = length as usize;
            let bytes = Bytes::copy_from_slice(&connection.io.input()[..length]);
            connection.io.consume(length);
            (None, IncomingBody::Full(bytes))
        }
        _ => (Some(Decoder::new(framing, BODY_BYTES_MAX)), IncomingBody::Stream),
    }
}

impl Exchange {
    fn poll<S: Socket>(
        &mut self,
        shard: &Rc<Shard>,
        connection: &mut Connection<S>,
        cx: &mut Context<'_>,
    ) -> Poll<After> {
        match self.advance(shard, connection, cx) {
            Ok(()) => Poll::Pending,
            Err(after) if self.retry == Retry::Now => Poll::Ready(after),
            Err(after) => {
                self.end(shard, after);
                if after == After::Abort && !connection.io.flushed() {
                    connection.io.socket.reset_on_close();
                }
                Poll::Ready(after)
            }
        }
    }

    fn advance<S: Socket>(&mut self, shard: &Rc<Shard>, connection: &mut Connection<S>, cx: &mut Context<'_>) -> Step {
        if connection.watch.expired() {
            return Err(self.on_timeout(shard, connection));
        }
        loop {
            let delivery = self.take();
            let mut progress = !delivery.is_empty();
            if progress {
                self.deliver(shard, connection, delivery)?;
            }
            if self.reply == Reply::Complete {
                return self.finish(connection, cx).map_or_else(
                    || {
                        self.wait(shard, connection, cx);
                        Ok(())
                    },
                    Err,
                );
            }
            progress |= self.read_body(shard, connection, cx)?;
            progress |= self.ask_for_more(shard, connection)?;
            if progress {
                continue;
            }
            let was_full = !connection.io.may_append();
            match connection.io.poll_flush(cx) {
                Poll::Ready(Ok(())) if was_full => continue,
                Poll::Ready(Ok(())) | Poll::Pending => {}
                Poll::Ready(Err(_)) => return Err(self.gone(shard)),
            }
            self.look_for_client(shard, connection, cx)?;
            self.wait(shard, connection, cx);
            return Ok(());
        }
    }

    /// Carries out what the Worker has said.
    fn deliver<S: Socket>(&mut self, shard: &Rc<Shard>, connection: &mut Connection<S>, delivery: Delivery) -> Step {
        if let Some(response) = delivery.response {
            self.respond(shard, connection, response)?;
        }
        if let Some(step) = delivery.body {
            self.response_body(shard, connection, step)?;
        }
        if let Some(why) = delivery.pass_through {
            shard.metrics.failure(why.label());
            self.passage = origin::pass(shard, &self.head, why);
            if self.passage.is_none() {
                self.answer(shard, connection, Canned::of_failure(why));
            }
        }
        if let Some(why) = delivery.failure {
            if self.may_retry(why) {
                self.retry = Retry::Now;
                return Err(After::Next);
            }
            // A failure that passed to the origin was counted then.
            if self.passage.is_none() {
                shard.metrics.failure(why.label());
            }
            match self.reply {
                Reply::Waiting => self.answer(shard, connection, Canned::of_failure(why)),
                Reply::Streaming { .. } => return Err(self.broken(shard, connection)),
                Reply::Complete => {}
            }
        }
        if let Some(canned) = delivery.refused.filter(|_| self.reply == Reply::Waiting) {
            if self.may_retry(Failure::NotBegun) && shard.is_up_beside(&self.cell) {
                self.retry = Retry::Now;
                return Err(After::Next);
            }
            shard.metrics.failure(canned.label);
            self.answer(shard, connection, canned);
        }
        if delivery.cancels_body {
            self.asked = false;
        }
        if delivery.wants_body || delivery.body_to.is_some() {
            self.asked = delivery.wants_body;
            self.body_to = delivery.body_to;
            if std::mem::take(&mut self.owes_continue)
                && connection.io.input().is_empty()
                && self.reply == Reply::Waiting
            {
                connection.io.output().extend_from_slice(response::CONTINUE);
            }
        }
        Ok(())
    }

    /// Whether a request that ended so is given to another isolate; the rule is above.
    fn may_retry(&self, why: Failure) -> bool {
        let safe = match why {
            Failure::NotBegun => true,
            Failure::Interrupted => self.head.is_safe(),
            _ => false,
        };
        safe && self.retry == Retry::NotYet && self.reply == Reply::Waiting && self.passage.is_none()
    }

    /// Gives the request to another isolate.
    #[cold]
    fn begin_again<S: Socket>(&mut self, shard: &Rc<Shard>, connection: &mut Connection<S>) {
        self.retry = Retry::Done;
        self.asked = false;
        self.cell.detach(self.id);
        let same = Asker::Version(self.cell.identity.version);
        let routed =
            route_head(&self.head.url).ok_or(Canned::NOT_FOUND.into()).and_then(|head| shard.route(&head, &same));
        match routed.map_err(Unrouted::answer) {
            Ok(cell) => {
                shard.metrics.request_retries.add(1);
                let now = shard.clock.now();
                self.id = cell.admit(shard, now.monotonic_ns, &self.head.body);
                self.cell = cell;
                self.cell.send_at(shard, now, Event::Request { id: self.id, head: self.head.clone() });
            }
            Err(canned) => {
                shard.metrics.failure(canned.label);
                self.show(shard, connection, canned);
            }
        }
    }

    /// What the Worker, or the origin in its place, has said.
    fn take(&self) -> Delivery {
        self.passage.as_ref().map_or_else(|| self.cell.take(self.id), |passage| passage.take())
    }

    fn send(&self, shard: &Rc<Shard>, event: Event) {
        match &self.passage {
            Some(passage) => passage.send(event),
            None => self.cell.send(shard, event),
        }
    }

    fn respond<S: Socket>(&mut self, shard: &Rc<Shard>, connection: &mut Connection<S>, response: Response) -> Step {
        if self.reply != Reply::Waiting {
            return Ok(());
        }
        if let SendBody::Socket(socket) = response.body {
            self.switch(shard, connection, &response, socket);
            return Ok(());
        }
        let body = response.body.length().map_or(Body::Unknown, Body::Known);
        self.context.date = shard.clock.date();
        // A client that was not told to send its body may or may not send it: only a close tells the two apart.
        self.context.keep_alive &= !shard.ends_connections() && !self.owes_continue;
        let version = [("X-Deployment-Version", &*self.cell.version_header)];
        let output = connection.io.output();
        let version = if self.passage.is_none() { &version[..] } else { &[] };
        let encoded = response::encode(output, response.status, &response.headers, version, body, &self.context);
        let Ok(sent) = encoded else {
            shard.metrics.failure(Canned::INVALID_RESPONSE.label);
            self.answer(shard, connection, Canned::INVALID_RESPONSE);
            self.send(shard, Event::ClientGone { id: self.id });
            return Ok(());
        };
        self.status = response.status;
        self.keep_alive = sent.keep_alive;
        self.reply = match (response.body, sent.framing) {
            (SendBody::Stream { .. }, SendFraming::NoBody) => {
                // Nobody will read it: the Worker is told as if the client had left.
                self.send(shard, Event::ClientGone { id: self.id });
                Reply::Complete
            }
            (SendBody::Link { link, .. }, SendFraming::NoBody) => {
                link.leave();
                self.send(shard, Event::ResponsePassed { id: self.id, end: Passed::Whole });
                Reply::Complete
            }
            (body @ (SendBody::Stream { .. } | SendBody::Link { .. }), framing) => {
                if let SendBody::Link { link, bytes_max, .. } = body {
                    self.body_from = Some(link);
                    self.allowance = bytes_max;
                }
                let left = if let SendFraming::Length(length) = framing { length } else { u64::MAX };
                Reply::Streaming { framing, left, asked: false }
            }
            (SendBody::Full(bytes), SendFraming::Length(_)) => {
                connection.io.append_body(bytes);
                Reply::Complete
            }
            _ => Reply::Complete,
        };
        Ok(())
    }

    /// The connection becomes a WebSocket.
    #[cold]
    fn switch<S: Socket>(
        &mut self,
        shard: &Rc<Shard>,
        connection: &mut Connection<S>,
        response: &Response,
        socket: SocketId,
    ) {
        let version = [("X-Deployment-Version", &*self.cell.version_header)];
        let encoded =
            self.accept.take().ok_or(response::InvalidField).and_then(|accept| {
                upgrade::encode_switch(connection.io.output(), &response.headers, &version, &accept)
            });
        if encoded.is_ok() {
            self.status = response.status;
            self.switched = Some(socket);
            self.reply = Reply::Complete;
            return;
        }
        shard.metrics.failure(Canned::INVALID_RESPONSE.label);
        self.answer(shard, connection, Canned::INVALID_RESPONSE);
        self.cell.remove_socket(socket);
        let end = SocketEnd::Lost;
        self.send(shard, Event::SocketClosed { socket, code: None, reason: String::new(), end });
    }

    fn response_body<S: Socket>(&mut self, shard: &Rc<Shard>, connection: &mut Connection<S>, step: BodyEvent) -> Step {
        let Reply::Streaming { framing, left, .. } = self.reply else { return Ok(()) };
        let output = connection.io.output();
        match step {
            BodyEvent::Chunk(bytes) if bytes.len() as u64 > left => return Err(self.broken(shard, connection)),
            BodyEvent::Chunk(bytes) => {
                if framing == SendFraming::Chunked && !bytes.is_empty() {
                    output.reserve(bytes.len() + body::CHUNK_HEAD_BYTES_MAX + body::CHUNK_TAIL.len());
                    body::push_chunk_head(output, bytes.len());
                    output.extend_from_slice(&bytes);
                    output.extend_from_slice(body::CHUNK_TAIL);
                } else {
                    output.extend_from_slice(&bytes);
                }
                self.reply = Reply::Streaming { framing, left: left - bytes.len() as u64, asked: false };
            }
            BodyEvent::End => {
                match framing {
                    SendFraming::Chunked => output.extend_from_slice(body::LAST_CHUNK),
                    SendFraming::Length(_) if left > 0 => return Err(self.broken(shard, connection)),
                    _ => {}
                }
                self.reply = Reply::Complete;
            }
            BodyEvent::Failed(_) => return Err(self.broken(shard, connection)),
        }
        Ok(())
    }

    /// The response cannot be completed: the peer must see that it is not complete.
    fn broken<S: Socket>(&mut self, shard: &Rc<Shard>, connection: &mut Connection<S>) -> After {
        self.broken = true;
        shard.metrics.failure("broken_body");
        self.send(shard, Event::ClientGone { id: self.id });
        if matches!(self.reply, Reply::Streaming { framing: SendFraming::UntilClose, .. }) {
            connection.io.socket.reset_on_close();
            return After::Abort;
        }
        // What is already written may go: its framing says that more should follow.
        After::Close
    }

    /// One of the node's own answers takes the place of the Worker's.
    fn answer<S: Socket>(&mut self, shard: &Shard, connection: &mut Connection<S>, canned: Canned) {
        self.show(shard, connection, canned);
        if !canned.is_shortage() {
            self.count(shard, canned.status < 500);
        }
    }

    /// The same, for what is counted already.
    fn show<S: Socket>(&mut self, shard: &Shard, connection: &mut Connection<S>, canned: Canned) {
        let context = ResponseContext {
            keep_alive: self.context.keep_alive && self.body.is_none() && !shard.ends_connections(),
            date: shard.clock.date(),
            ..self.context
        };
        let latency_ns = shard.clock.now_ns().saturating_sub(self.started_ns);
        let version = Some(&*self.cell.version_header);
        self.keep_alive = connection.answer(shard, canned, &context, version, latency_ns);
        self.reply = Reply::Complete;
        self.status = 0;
    }

    /// Counts how the request fared, where its version shares the deployment's requests.
    fn count(&self, shard: &Shard, good: bool) {
        if self.cell.counted.get() {
            shard.counts.ended(self.cell.identity.deployment, self.cell.identity.version, good);
        }
    }

    /// Gives the Worker the chunk it waits for, if it is here. Whether something happened.
    fn read_body<S: Socket>(
        &mut self,
        shard: &Rc<Shard>,
        connection: &mut Connection<S>,
        cx: &mut Context<'_>,
    ) -> Result<bool, After> {
        if let Some(link) = self.body_to.clone() {
            return self.pass_body(shard, connection, &link, cx);
        }
        while self.asked {
            let Some(decoder) = &mut self.body else {
                self.asked = false;
                self.body_event(shard, BodyEvent::End);
                return Ok(true);
            };
            match decoder.decode(connection.io.input()) {
                Ok(Decoded::Data { skip, len }) => {
                    let bytes = Bytes::copy_from_slice(&connection.io.input()[skip..skip + len]);
                    connection.io.consume(skip + len);
                    self.asked = false;
                    let ended = decoder.ended();
                    if ended {
                        self.body = None;
                    }
                    self.body_event(shard, BodyEvent::Chunk(bytes));
                    if ended {
                        self.body_event(shard, BodyEvent::End);
                    }
                    return Ok(true);
                }
                Ok(Decoded::End { used }) => {
                    connection.io.consume(used);
                    self.body = None;
                }
                Ok(Decoded::More) => {
                    let used = connection.io.input().len();
                    connection.io.consume(used);
                    match connection.io.poll_fill(cx) {
                        Poll::Ready(Ok(0)) => return Err(self.bad_body(shard, connection, BodyError::Truncated)),
                        Poll::Ready(Ok(_)) => {}
                        Poll::Ready(Err(_)) => return Err(self.gone(shard)),
                        Poll::Pending => return Ok(false),
                    }
                }
                Err(error) => return Err(self.bad_body(shard, connection, error)),
            }
        }
        Ok(false)
    }

    /// Passes on what is here of the body. Whether that is over.
    fn pass_body<S: Socket>(
        &mut self,
        shard: &Rc<Shard>,
        connection: &mut Connection<S>,
        link: &Link,
        cx: &mut Context<'_>,
    ) -> Result<bool, After> {
        let Some(decoder) = &mut self.body else {
            link.end(Ok(()));
            self.body_to = None;
            return Ok(true);
        };
        match link::fill(link, &mut connection.io, decoder, cx) {
            Poll::Pending => return Ok(false),
            Poll::Ready(Filled::Whole) => self.body = None,
            Poll::Ready(Filled::Unwanted) => {}
            Poll::Ready(Filled::Eof) => return Err(self.bad_body(shard, connection, BodyError::Truncated)),
            Poll::Ready(Filled::Malformed(error)) => return Err(self.bad_body(shard, connection, error)),
            Poll::Ready(Filled::Io(_)) => return Err(self.gone(shard)),
        }
        self.body_to = None;
        Ok(true)
    }

    /// Whether more of the request's body is wanted now.
    fn wants_body(&self) -> bool {
        self.asked || self.body_to.as_ref().is_some_and(|link| link.has_room())
    }

    fn body_event(&self, shard: &Rc<Shard>, body: BodyEvent) {
        self.send(shard, Event::RequestBody { id: self.id, body });
    }

    /// The request's body is not what its head said: the request ends, with an answer if there is none yet.
    fn bad_body<S: Socket>(&mut self, shard: &Rc<Shard>, connection: &mut Connection<S>, error: BodyError) -> After {
        let reject = match error {
            BodyError::TooLarge => Reject::BodyTooLarge,
            BodyError::Malformed(why) => Reject::Malformed(why),
            BodyError::Truncated => Reject::Malformed("the request body is incomplete"),
        };
        self.reject(shard, connection, reject)
    }

    fn reject<S: Socket>(&mut self, shard: &Rc<Shard>, connection: &mut Connection<S>, reject: Reject) -> After {
        let unanswered = self.reply == Reply::Waiting;
        if unanswered {
            shard.metrics.failure("rejected");
            self.context.keep_alive = false;
            self.answer(shard, connection, Canned::of_reject(reject));
        }
        self.asked = false;
        self.body_event(shard, BodyEvent::Failed(reject.text().to_owned()));
        self.send(shard, Event::ClientGone { id: self.id });
        if unanswered { After::Linger } else { After::Abort }
    }

    /// Asks for the next chunk of the response while there is room for it, or takes it. Whether something happened.
    fn ask_for_more<S: Socket>(&mut self, shard: &Rc<Shard>, connection: &mut Connection<S>) -> Result<bool, After> {
        if let Some(link) = self.body_from.clone() {
            return self.take_body(shard, connection, &link);
        }
        Ok(match &mut self.reply {
            Reply::Streaming { asked, .. } if !*asked && connection.io.may_append() => {
                *asked = true;
                self.send(shard, Event::PullResponse { id: self.id });
                true
            }
            _ => false,
        })
    }

    /// Sends on what has come of a body that the Worker passes on.
    fn take_body<S: Socket>(
        &mut self,
        shard: &Rc<Shard>,
        connection: &mut Connection<S>,
        link: &Rc<Link>,
    ) -> Result<bool, After> {
        let Reply::Streaming { framing, left, .. } = &mut self.reply else { return Ok(false) };
        let (chunked, promised) = (*framing == SendFraming::Chunked, matches!(framing, SendFraming::Length(_)));
        let before = *left;
        let end = match link::drain(link, &mut connection.io, chunked, promised, left) {
            Drained::Nothing => return Ok(false),
            Drained::Some => {
                let Some(allowance) = self.allowance.checked_sub(before - *left) else {
                    self.send(shard, Event::ResponsePassed { id: self.id, end: Passed::TooLarge });
                    return Err(self.broken(shard, connection));
                };
                self.allowance = allowance;
                return Ok(true);
            }
            Drained::Whole => Passed::Whole,
            Drained::Broken(why) => Passed::Broken(why),
        };
        let whole = end == Passed::Whole;
        self.body_from = None;
        self.send(shard, Event::ResponsePassed { id: self.id, end });
        if !whole {
            return Err(self.broken(shard, connection));
        }
        self.reply = Reply::Complete;
        Ok(true)
    }

    /// Reads a little ahead: what comes is the next request's or the body's, and an error means that the client has
    /// gone. The end of the client's side alone does not: it may have shut down its half.
    fn look_for_client<S: Socket>(
        &mut self,
        shard: &Rc<Shard>,
        connection: &mut Connection<S>,
        cx: &mut Context<'_>,
    ) -> Step {
        while !self.wants_body() && !connection.io.read_ended() && connection.io.input().len() < READ_AHEAD_BYTES_MAX {
            match connection.io.poll_fill(cx) {
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(_)) => return Err(self.gone(shard)),
                Poll::Pending => break,
            }
        }
        Ok(())
    }

    fn gone(&mut self, shard: &Rc<Shard>) -> After {
        shard.metrics.failure("client_gone");
        if self.body.is_some() {
            self.body_event(shard, BodyEvent::Failed("the client has gone".to_owned()));
        }
        self.send(shard, Event::ClientGone { id: self.id });
        After::Abort
    }

    fn on_timeout<S: Socket>(&mut self, shard: &Rc<Shard>, connection: &mut Connection<S>) -> After {
        if self.reply == Reply::Waiting && connection.io.may_append() {
            return self.reject(shard, connection, Reject::Timeout);
        }
        self.gone(shard)
    }

    /// The response is complete: what remains is the rest of the request's body, read and dropped up to a bound.
    fn finish<S: Socket>(&mut self, connection: &mut Connection<S>, cx: &mut Context<'_>) -> Option<After> {
        if let Some(socket) = self.switched {
            connection.switched = Some((self.cell.clone(), socket));
            connection.watch.clear();
            return Some(After::Switch);
        }
        if !self.keep_alive {
            return Some(if self.body.is_some() { After::Linger } else { After::Close });
        }
        while let Some(decoder) = &mut self.body {
            let used = match decoder.decode(connection.io.input()) {
                Ok(Decoded::Data { skip, len }) => {
                    self.discarded += len as u64;
                    skip + len
                }
                Ok(Decoded::End { used }) => {
                    self.body = None;
                    used
                }
                Ok(Decoded::More) => {
                    let used = connection.io.input().len();
                    connection.io.consume(used);
                    match (connection.io.poll_flush(cx), connection.io.poll_fill(cx)) {
                        (Poll::Ready(Err(_)), _) | (_, Poll::Ready(Ok(0) | Err(_))) => return Some(After::Close),
                        (_, Poll::Ready(Ok(_))) => 0,
                        (_, Poll::Pending) => return None,
                    }
                }
                Err(_) => return Some(After::Linger),
            };
            connection.io.consume(used);
            if self.discarded > DISCARD_BYTES_MAX {
                return Some(After::Linger);
            }
        }
        Some(After::Next)
    }

    /// Sleeps until the mailbox, the socket or the ticker has something.
    fn wait<S: Socket>(&mut self, shard: &Shard, connection: &Connection<S>, cx: &Context<'_>) {
        let on_peer = !connection.io.flushed() || self.wants_body() || self.reply == Reply::Complete;
        let moved = connection.io.moved();
        if !on_peer {
            connection.watch.clear();
        } else if !connection.watch.is_set() || moved != self.moved {
            self.moved = moved;
            connection.watch.set(shard.clock.recent_ns() + shard.config().timeouts.stall_ns);
        }
        connection.watch.remember(cx.waker());
        if let Some(link) = &self.body_from {
            link.wait_for_more(cx);
        }
        match &self.passage {
            Some(passage) => passage.wait(cx),
            None => self.cell.wait(self.id, cx),
        }
    }

    fn end(&mut self, shard: &Rc<Shard>, after: After) {
        if self.status != 0 {
            let latency_ns = shard.clock.now_ns().saturating_sub(self.started_ns);
            shard.metrics.response(self.status, latency_ns);
            self.count(shard, self.status < 500 && !self.broken && self.passage.is_none());
        }
        if let Some(link) = self.body_from.take() {
            link.leave();
        }
        if let Some(link) = self.body_to.take().or_else(|| self.take().body_to) {
            link.end(Err("the request is over".to_owned()));
        }
        if self.body.take().is_some() && after != After::Abort {
            self.body_event(shard, BodyEvent::Failed("the request is over".to_owned()));
        }
        if let Some(passage) = &self.passage {
            passage.send(Event::ClientGone { id: self.id });
        }
        self.cell.detach(self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_routed_again_by_its_url() {
        let check = |url: &str, authority: &str, path: &str| {
            let head = route_head(url).expect("a head");
            assert_eq!((head.authority(), head.path()), (authority, path), "{url}");
        };
        check("http://a.example/x/y?z=/", "a.example", "/x/y");
        check("http://a.example:8080/", "a.example:8080", "/");
        check("http://[::1]:80/%20", "[::1]:80", "/%20");
        assert!(route_head("https://a/").is_none() && route_head("http:///x").is_none());
    }
}
