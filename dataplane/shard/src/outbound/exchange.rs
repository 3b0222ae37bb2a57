//! One outbound request and its response, both streamed, both with back-pressure.

use super::h2::{self, Opened};
use super::stream::OriginStream;
use super::target::Target;
use super::{Asker, FetchError, FetchRequest, h2_exchange};
use crate::cell::FetchDelivery;
use crate::io::{Io, Side};
use crate::link::{self, Drained, Filled, Link, SendBody};
use crate::shard::Shard;
use crate::watch::Watched;
use bytes::Bytes;
use h1::Framing;
use h1::body::{self, Decoded, Decoder};
use h1::client::{self, ResponseHead};
use h1::scan::HeadScan;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};
use worker_api::event::{BodyEvent, Event, FetchId, IncomingBody, Passed};

/// Interim responses before the final one; an origin that sends more is not serious.
const INTERIM_HEADS_MAX: u32 = 8;

/// Connections that a request is tried on.
const ATTEMPTS_MAX: u32 = 3;

/// How an attempt on a connection ended.
pub(super) enum Ended {
    /// The exchange is over; the connection may be used again.
    Reusable,
    /// The exchange is over, and so is the connection.
    Closed,
    /// The Worker does not want it any more.
    Cancelled,
    /// Nothing of a response came, and nothing of a streamed body was given away: what may be carried out twice may be tried
    /// again.
    Unanswered(FetchError),
    /// The same, and the origin says that it did nothing: anything may be tried again.
    Refused(FetchError),
    /// No response head came.
    Failed(FetchError),
}

/// The request's body on its way out.
enum Upload {
    Done,
    Streaming {
        framing: Framing,
        left: u64,
        asked: bool,
    },
    /// From another socket.
    Linked {
        framing: Framing,
        left: u64,
        link: Rc<Link>,
    },
    Broken,
}

/// How far the response is.
enum Download {
    Head { scan: HeadScan, interim: u32 },
    Body { decoder: Decoder, keep_alive: bool, asked: bool, to: Option<Rc<Link>> },
}

struct Exchange<'a> {
    shard: &'a Rc<Shard>,
    asker: &'a Asker,
    fetch: FetchId,
    method: &'a str,
    watch: Watched,
    upload: Upload,
    download: Download,
    /// Part of a streamed body was asked of the Worker: it cannot be had twice.
    body_touched: bool,
    moved: u64,
    /// The time limit is that of the head.
    waits_for_head: bool,
}

/// Carries out a request to its end. An error is told to the Worker by the caller; everything else is told here.
///
/// Tried again, on another connection: what the origin says it did nothing about, and, once, what may be carried out twice and
/// was sent on a connection that had been idle, which its origin may just have closed. Never what a streamed body was begun for.
pub(crate) async fn run(shard: &Rc<Shard>, asker: &Asker, request: FetchRequest) -> Result<(), FetchError> {
    let target = Target::parse(&request.url)?;
    let mut may_repeat = client::is_idempotent(&request.method);
    let mut failure = FetchError("the origin refused the request again and again".to_owned());
    for _ in 0..ATTEMPTS_MAX {
        let (ended, reused) = attempt(shard, asker, &request, &target).await?;
        failure = match ended {
            Ended::Reusable | Ended::Closed | Ended::Cancelled => return Ok(()),
            Ended::Refused(error) => error,
            Ended::Unanswered(error) if reused && std::mem::take(&mut may_repeat) => error,
            Ended::Unanswered(error) | Ended::Failed(error) => return Err(error),
        };
    }
    Err(failure)
}

/// Tries a request on a connection; tells whether that had been used before.
async fn attempt(
    shard: &Rc<Shard>,
    asker: &Asker,
    request: &FetchRequest,
    target: &Target,
) -> Result<(Ended, bool), FetchError> {
    let outbound = &shard.outbound;
    if let Some(place) = outbound.h2.place(shard, &target.origin) {
        return Ok((h2_exchange::run(shard, asker, request, target, &place).await, place.reused));
    }
    let new_io = |stream| Io::new(stream, Side::Origin, shard.scratch.clone(), shard.metrics.clone());
    let (io, reused) = match outbound.pool.take(&target.origin) {
        Some(io) => (io, true),
        None => match outbound.adopt(shard, &target.origin) {
            Some(stream) => (new_io(stream), true),
            None => match h2::open(shard, &target.origin, asker.may_come_back()).await? {
                Opened::H1(stream) => (new_io(stream), false),
                Opened::H2(place) => {
                    return Ok((h2_exchange::run(shard, asker, request, target, &place).await, place.reused));
                }
            },
        },
    };
    Ok((on_connection(shard, asker, request, target, io).await?, reused))
}

async fn on_connection(
    shard: &Rc<Shard>,
    asker: &Asker,
    request: &FetchRequest,
    target: &Target,
    mut io: Io<OriginStream>,
) -> Result<Ended, FetchError> {
    let (upload, framing) = match &request.body {
        body if body.length() == Some(0) => (Upload::Done, Framing::None),
        SendBody::Empty | SendBody::Socket(_) => (Upload::Done, Framing::None),
        SendBody::Full(bytes) => (Upload::Done, Framing::Length(bytes.len() as u64)),
        SendBody::Stream { length } => {
            let framing = length.map_or(Framing::Chunked, Framing::Length);
            (Upload::Streaming { framing, left: length.unwrap_or(u64::MAX), asked: false }, framing)
        }
        SendBody::Link { link, length, .. } => {
            let framing = length.map_or(Framing::Chunked, Framing::Length);
            (Upload::Linked { framing, left: length.unwrap_or(u64::MAX), link: link.clone() }, framing)
        }
    };
    client::encode(io.output(), &request.method, &target.path, &target.authority, &request.headers, framing)
        .map_err(|error| FetchError(error.to_string()))?;
    if let SendBody::Full(bytes) = &request.body {
        io.append_body(bytes.clone());
    }
    let mut exchange = Exchange {
        shard,
        asker,
        fetch: request.fetch,
        method: &request.method,
        watch: shard.watches.add(),
        upload,
        download: Download::Head { scan: HeadScan::new(), interim: 0 },
        body_touched: false,
        moved: 0,
        waits_for_head: false,
    };
    let ended = poll_fn(|cx| exchange.poll(&mut io, cx)).await;
    if matches!(ended, Ended::Reusable) {
        shard.outbound.pool.put(target.origin.clone(), io, shard.clock.now_ns());
    }
    Ok(ended)
}

impl Exchange<'_> {
    fn poll(&mut self, io: &mut Io<OriginStream>, cx: &mut Context<'_>) -> Poll<Ended> {
        loop {
            let delivery = self.asker.take();
            if delivery.cancelled {
                return Poll::Ready(Ended::Cancelled);
            }
            let mut progress = self.deliver(io, delivery);
            if matches!(self.upload, Upload::Broken) {
                return Poll::Ready(self.broken("the request body ended early"));
            }
            progress |= self.ask_for_upload(io) || self.take_upload(io);
            if progress {
                continue;
            }
            let was_full = !io.may_append();
            match io.poll_flush(cx) {
                Poll::Ready(Ok(())) if was_full => continue,
                Poll::Ready(Ok(())) | Poll::Pending => {}
                // The origin may have answered before it closed: what it said is looked at first.
                Poll::Ready(Err(_)) => self.upload = Upload::Done,
            }
            match self.read(io, cx) {
                Poll::Ready(Some(ended)) => return Poll::Ready(ended),
                Poll::Ready(None) => {}
                Poll::Pending => {
                    if self.watch.expired() {
                        return Poll::Ready(self.broken("the origin did not answer in time"));
                    }
                    self.wait(io, cx);
                    return Poll::Pending;
                }
            }
        }
    }

    /// Carries out what the Worker has said. Whether something changed.
    fn deliver(&mut self, io: &mut Io<OriginStream>, delivery: FetchDelivery) -> bool {
        let mut progress = false;
        if let Download::Body { asked, to, .. } = &mut self.download {
            *asked |= delivery.wants_body;
            progress = delivery.wants_body || delivery.body_to.is_some();
            if delivery.body_to.is_some() {
                *to = delivery.body_to;
            }
        }
        if let Some(step) = delivery.upload
            && let Upload::Streaming { framing, left, .. } = self.upload
        {
            progress = true;
            self.upload = match step {
                BodyEvent::Chunk(bytes) if bytes.len() as u64 <= left => {
                    push_chunk(io.output(), framing, &bytes);
                    Upload::Streaming { framing, left: left - bytes.len() as u64, asked: false }
                }
                BodyEvent::End if framing == Framing::Chunked => {
                    io.output().extend_from_slice(body::LAST_CHUNK);
                    Upload::Done
                }
                BodyEvent::End if left == 0 => Upload::Done,
                // A body that is not as long as promised, or that failed: the origin must not take it for complete.
                _ => Upload::Broken,
            };
        }
        progress
    }

    fn ask_for_upload(&mut self, io: &Io<OriginStream>) -> bool {
        match &mut self.upload {
            Upload::Streaming { asked, .. } if !*asked && io.may_append() => {
                *asked = true;
                self.body_touched = true;
                self.asker.tell(self.shard, Event::PullFetchUpload { fetch: self.fetch });
                true
            }
            _ => false,
        }
    }

    /// Sends on what has come of a body from another socket. Whether something happened.
    fn take_upload(&mut self, io: &mut Io<OriginStream>) -> bool {
        let Upload::Linked { framing, left, link } = &mut self.upload else { return false };
        let promised = matches!(framing, Framing::Length(_));
        let end = match link::drain(link, io, !promised, promised, left) {
            Drained::Nothing => return false,
            Drained::Some => {
                self.body_touched = true;
                return true;
            }
            Drained::Whole => Passed::Whole,
            Drained::Broken(why) => Passed::Broken(why),
        };
        self.upload = if end == Passed::Whole { Upload::Done } else { Upload::Broken };
        self.asker.tell(self.shard, Event::UploadPassed { fetch: self.fetch, end });
        true
    }

    /// Reads what the origin sends, as far as it is wanted. `None`: something happened, look again.
    fn read(&mut self, io: &mut Io<OriginStream>, cx: &mut Context<'_>) -> Poll<Option<Ended>> {
        match &mut self.download {
            Download::Head { scan, .. } => match scan.find(io.input()) {
                Ok(Some(range)) => {
                    let end = range.end;
                    let head = client::parse(&io.input()[range], self.method);
                    io.consume(end);
                    Poll::Ready(match head {
                        Ok(head) => self.on_head(io, head),
                        Err(error) => Some(Ended::Failed(FetchError(format!("invalid response: {error}")))),
                    })
                }
                Ok(None) => self.fill(io, cx),
                Err(error) => {
                    Poll::Ready(Some(Ended::Failed(FetchError(format!("invalid response: {}", error.text())))))
                }
            },
            Download::Body { decoder, to: Some(link), .. } => match link::fill(link, io, decoder, cx) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(Filled::Whole) => Poll::Ready(Some(self.over(io))),
                Poll::Ready(Filled::Unwanted) => Poll::Ready(Some(Ended::Cancelled)),
                Poll::Ready(Filled::Eof) => Poll::Ready(Some(self.lost(io, "the origin closed the connection"))),
                Poll::Ready(Filled::Io(error)) => Poll::Ready(Some(self.lost(io, &error.to_string()))),
                Poll::Ready(Filled::Malformed(error)) => Poll::Ready(Some(self.broken(&error.to_string()))),
            },
            Download::Body { asked: false, .. } => Poll::Pending,
            Download::Body { decoder, asked, .. } => match decoder.decode(io.input()) {
                Ok(Decoded::Data { skip, len }) => {
                    let bytes = Bytes::copy_from_slice(&io.input()[skip..skip + len]);
                    io.consume(skip + len);
                    *asked = false;
                    let ended = decoder.ended();
                    self.body_event(BodyEvent::Chunk(bytes));
                    Poll::Ready(ended.then(|| self.complete(io)))
                }
                Ok(Decoded::End { used }) => {
                    io.consume(used);
                    Poll::Ready(Some(self.complete(io)))
                }
                Ok(Decoded::More) => {
                    let used = io.input().len();
                    io.consume(used);
                    self.fill(io, cx)
                }
                Err(error) => Poll::Ready(Some(self.broken(&error.to_string()))),
            },
        }
    }

    fn fill(&mut self, io: &mut Io<OriginStream>, cx: &mut Context<'_>) -> Poll<Option<Ended>> {
        match io.poll_fill(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(0)) => Poll::Ready(Some(self.on_eof(io))),
            Poll::Ready(Ok(_)) => Poll::Ready(None),
            Poll::Ready(Err(error)) => Poll::Ready(Some(self.lost(io, &error.to_string()))),
        }
    }

    fn on_head(&mut self, io: &mut Io<OriginStream>, head: ResponseHead) -> Option<Ended> {
        if head.status < 200 {
            return match &mut self.download {
                Download::Head { scan, interim } if *interim < INTERIM_HEADS_MAX => {
                    *scan = HeadScan::new();
                    *interim += 1;
                    None
                }
                _ => Some(Ended::Failed("too many interim responses".into())),
            };
        }
        let body = match head.framing {
            Framing::None => IncomingBody::Empty,
            Framing::Length(length) if length <= io.input().len() as u64 => {
                let bytes = Bytes::copy_from_slice(&io.input()[..length as usize]);
                io.consume(length as usize);
                IncomingBody::Full(bytes)
            }
            _ => IncomingBody::Stream,
        };
        let here = !matches!(body, IncomingBody::Stream);
        let framing = if here { Framing::None } else { head.framing };
        let decoder = Decoder::new(framing, u64::MAX);
        self.download = Download::Body { decoder, keep_alive: head.keep_alive, asked: false, to: None };
        self.watch.clear();
        self.asker.tell(
            self.shard,
            Event::FetchResponse {
                fetch: self.fetch,
                status: head.status,
                reason: head.reason,
                headers: head.headers,
                body,
            },
        );
        here.then(|| self.over(io))
    }

    /// The response's body is complete.
    fn complete(&mut self, io: &Io<OriginStream>) -> Ended {
        self.body_event(BodyEvent::End);
        self.over(io)
    }

    /// Whether the connection can carry another request now that the response is complete.
    fn over(&self, io: &Io<OriginStream>) -> Ended {
        let keep_alive = matches!(self.download, Download::Body { keep_alive: true, .. });
        let clean = matches!(self.upload, Upload::Done) && io.flushed() && io.input().is_empty() && !io.read_ended();
        if keep_alive && clean { Ended::Reusable } else { Ended::Closed }
    }

    fn on_eof(&mut self, io: &Io<OriginStream>) -> Ended {
        if let Download::Body { decoder, .. } = &mut self.download
            && decoder.eof().is_ok()
        {
            return self.complete(io);
        }
        self.lost(io, "the origin closed the connection")
    }

    /// The connection broke.
    fn lost(&mut self, io: &Io<OriginStream>, why: &str) -> Ended {
        match &self.download {
            Download::Head { interim: 0, .. } if io.input().is_empty() && !self.body_touched => {
                Ended::Unanswered(FetchError(why.to_owned()))
            }
            _ => self.broken(why),
        }
    }

    /// The exchange cannot be completed.
    fn broken(&mut self, why: &str) -> Ended {
        if let Download::Head { .. } = self.download {
            return Ended::Failed(FetchError(why.to_owned()));
        }
        match &self.download {
            Download::Body { to: Some(link), .. } => link.end(Err(why.to_owned())),
            _ => self.body_event(BodyEvent::Failed(why.to_owned())),
        }
        Ended::Closed
    }

    fn body_event(&self, body: BodyEvent) {
        self.asker.tell(self.shard, Event::FetchBody { fetch: self.fetch, body });
    }

    fn wait(&mut self, io: &Io<OriginStream>, cx: &Context<'_>) {
        let timeouts = &self.shard.config().timeouts;
        let for_head = io.flushed() && matches!((&self.download, &self.upload), (Download::Head { .. }, Upload::Done));
        let limit_ns = match self.download {
            _ if !io.flushed() => Some(timeouts.stall_ns),
            _ if for_head => Some(timeouts.origin_head_ns),
            Download::Body { asked: true, to: None, .. } => Some(timeouts.stall_ns),
            Download::Body { to: Some(ref link), .. } if link.has_room() => Some(timeouts.stall_ns),
            // Waiting for the Worker: its own limits hold.
            _ => None,
        };
        let moved = io.moved();
        match limit_ns {
            None => self.watch.clear(),
            // The wait for a head has one limit in all, however slowly it comes.
            Some(_) if for_head && self.waits_for_head => {}
            Some(limit_ns) if !self.watch.is_set() || moved != self.moved || self.waits_for_head != for_head => {
                self.moved = moved;
                self.watch.set(self.shard.clock.recent_ns() + limit_ns);
            }
            Some(_) => {}
        }
        self.waits_for_head = for_head;
        self.watch.remember(cx.waker());
        if let Upload::Linked { link, .. } = &self.upload {
            link.wait_for_more(cx);
        }
        self.asker.wait(cx);
    }
}

impl Drop for Exchange<'_> {
    /// However the exchange ended, who takes the body is told. No word after the first one counts.
    fn drop(&mut self) {
        if let Download::Body { to: Some(link), .. } = &self.download {
            link.end(Err("the fetch was cancelled".to_owned()));
        }
    }
}

fn push_chunk(output: &mut Vec<u8>, framing: Framing, bytes: &[u8]) {
    if framing != Framing::Chunked {
        output.extend_from_slice(bytes);
    } else if !bytes.is_empty() {
        body::push_chunk_head(output, bytes.len());
        output.extend_from_slice(bytes);
        output.extend_from_slice(body::CHUNK_TAIL);
    }
}
