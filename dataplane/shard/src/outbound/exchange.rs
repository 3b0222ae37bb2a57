//! One outbound request and its response, both streamed, both with back-pressure.

use super::stream::{self, Origin, OriginStream};
use super::{Asker, FetchError, FetchRequest};
use crate::cell::FetchDelivery;
use crate::config::FETCH_HEAD_TIMEOUT_NS;
use crate::io::{Io, Side};
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
use url::{Host, Url};
use worker_api::event::{BodyEvent, Event, FetchId, IncomingBody, OutgoingBody};

/// Interim responses before the final one; an origin that sends more is not serious.
const INTERIM_HEADS_MAX: u32 = 8;

/// How an attempt on a connection ended.
enum Ended {
    /// The exchange is over; the connection may be used again.
    Reusable,
    /// The exchange is over, and so is the connection.
    Closed,
    /// The Worker does not want it any more.
    Cancelled,
    /// Nothing of a response came, and nothing of a streamed body was given away.
    Unanswered(FetchError),
    /// No response head came.
    Failed(FetchError),
}

/// The request's body on its way out.
enum Upload {
    Done,
    Streaming { framing: Framing, left: u64, asked: bool },
    Broken,
}

/// How far the response is.
enum Download {
    Head { scan: HeadScan, interim: u32 },
    Body { decoder: Decoder, keep_alive: bool, asked: bool },
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
}

/// Carries out a request to its end. An error is told to the Worker by the caller; everything else is told here.
pub(crate) async fn run(shard: &Rc<Shard>, asker: &Asker, request: FetchRequest) -> Result<(), FetchError> {
    let target = Target::parse(&request.url)?;
    let (upload, framing) = match &request.body {
        OutgoingBody::Empty => (Upload::Done, Framing::None),
        OutgoingBody::Full(bytes) if bytes.is_empty() => (Upload::Done, Framing::None),
        OutgoingBody::Full(bytes) => (Upload::Done, Framing::Length(bytes.len() as u64)),
        OutgoingBody::Stream { length: Some(0) } => (Upload::Done, Framing::None),
        OutgoingBody::Stream { length } => {
            let framing = length.map_or(Framing::Chunked, Framing::Length);
            (Upload::Streaming { framing, left: length.unwrap_or(u64::MAX), asked: false }, framing)
        }
    };
    let mut head = Vec::with_capacity(256);
    client::encode(&mut head, &request.method, &target.path, &target.authority, &request.headers, framing)
        .map_err(|error| FetchError(error.to_string()))?;
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
    };
    let full = if let OutgoingBody::Full(bytes) = request.body { bytes } else { Bytes::new() };
    let mut may_retry = client::is_idempotent(&request.method);
    loop {
        let (mut io, reused) = match shard.outbound.pool.take(&target.origin) {
            Some(io) => (io, true),
            None => {
                let stream = stream::connect(shard, &target.origin, asker.may_come_back()).await?;
                (Io::new(stream, Side::Origin, shard.scratch.clone(), shard.metrics.clone()), false)
            }
        };
        io.output().extend_from_slice(&head);
        io.append_body(full.clone());
        let ended = poll_fn(|cx| exchange.poll(&mut io, cx)).await;
        match ended {
            Ended::Reusable => {
                shard.outbound.pool.put(target.origin, io, shard.clock.now_ns());
                return Ok(());
            }
            Ended::Closed | Ended::Cancelled => return Ok(()),
            Ended::Unanswered(_) if reused && may_retry => {
                may_retry = false;
                exchange.download = Download::Head { scan: HeadScan::new(), interim: 0 };
            }
            Ended::Unanswered(error) | Ended::Failed(error) => return Err(error),
        }
    }
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
            progress |= self.ask_for_upload(io);
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
        if delivery.wants_body
            && let Download::Body { asked, .. } = &mut self.download
        {
            *asked = true;
            progress = true;
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
        self.download = Download::Body { decoder, keep_alive: head.keep_alive, asked: false };
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
        self.body_event(BodyEvent::Failed(why.to_owned()));
        Ended::Closed
    }

    fn body_event(&self, body: BodyEvent) {
        self.asker.tell(self.shard, Event::FetchBody { fetch: self.fetch, body });
    }

    fn wait(&mut self, io: &Io<OriginStream>, cx: &Context<'_>) {
        let limit_ns = match self.download {
            _ if !io.flushed() => Some(self.shard.config().timeouts.stall_ns),
            Download::Head { .. } if matches!(self.upload, Upload::Done) => Some(FETCH_HEAD_TIMEOUT_NS),
            Download::Body { asked: true, .. } => Some(self.shard.config().timeouts.stall_ns),
            // Waiting for the Worker: its own limits hold.
            _ => None,
        };
        let moved = io.moved();
        match limit_ns {
            None => self.watch.clear(),
            Some(limit_ns) if !self.watch.is_set() || moved != self.moved => {
                self.moved = moved;
                self.watch.set(self.shard.clock.recent_ns() + limit_ns);
            }
            Some(_) => {}
        }
        self.watch.remember(cx.waker());
        self.asker.wait(cx);
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

/// A URL taken apart for a request.
struct Target {
    origin: Origin,
    authority: String,
    path: String,
}

impl Target {
    fn parse(url: &str) -> Result<Target, FetchError> {
        let url = Url::parse(url).map_err(|error| FetchError(format!("invalid URL: {error}")))?;
        let tls = match url.scheme() {
            "http" => false,
            "https" => true,
            other => return Err(FetchError(format!("the scheme {other} is not supported"))),
        };
        let (Some(host), Some(port)) = (url.host(), url.port_or_known_default()) else {
            return Err("the URL has no host".into());
        };
        let authority = match url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_string(),
        };
        let host = match host {
            Host::Domain(name) => name.trim_end_matches('.').to_ascii_lowercase(),
            Host::Ipv4(address) => address.to_string(),
            Host::Ipv6(address) => address.to_string(),
        };
        let mut path = url.path().to_owned();
        if let Some(query) = url.query() {
            path.push('?');
            path.push_str(query);
        }
        Ok(Target { origin: Origin { tls, host, port }, authority, path })
    }
}
