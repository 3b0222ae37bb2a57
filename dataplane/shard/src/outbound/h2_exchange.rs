//! One outbound request and its response on an HTTP/2 connection, both streamed, both with back-pressure: a window is opened again
//! only for what somebody has taken.

use super::exchange::Ended;
use super::h2::Place;
use super::target::Target;
use super::{Asker, FetchError, FetchRequest};
use crate::cell::FetchDelivery;
use crate::config::WRITE_BEHIND_BYTES;
use crate::link::{Link, SendBody, Step};
use crate::shard::Shard;
use crate::watch::Watched;
use base::header::HeaderBlock;
use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderName, HeaderValue, Method, Request, Response, Uri, Version};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use worker_api::event::{BodyEvent, Event, IncomingBody, Passed};

/// The request's body on its way out.
enum Upload {
    /// The last frame is given to the connection.
    Done,
    /// These bytes, and then more or the end.
    Sending {
        bytes: Bytes,
        then: Box<Upload>,
    },
    /// The end is to be sent.
    End,
    Streaming {
        left: u64,
        promised: bool,
        asked: bool,
    },
    Linked {
        left: u64,
        promised: bool,
        link: Rc<Link>,
    },
    Broken,
}

enum Download {
    Head(ResponseFuture),
    Body { body: RecvStream, asked: bool, to: Option<Rc<Link>> },
}

struct Exchange<'a> {
    shard: &'a Rc<Shard>,
    asker: &'a Asker,
    request: &'a FetchRequest,
    place: &'a Place,
    watch: Watched,
    stream: SendStream<Bytes>,
    upload: Upload,
    download: Download,
    touched: bool,
    /// The time limit is that of the head.
    waits_for_head: bool,
}

/// Carries a request out on its place.
pub(crate) async fn run(
    shard: &Rc<Shard>,
    asker: &Asker,
    request: &FetchRequest,
    target: &Target,
    place: &Place,
) -> Ended {
    let message = match message(request, target) {
        Ok(message) => message,
        Err(error) => return Ended::Failed(error),
    };
    let mut send = place.send();
    let watch = shard.watches.add();
    watch.set(shard.clock.now_ns() + shard.config().timeouts.origin_head_ns);
    // Past the origin's bound of streams this waits for one to end.
    let ready = poll_fn(|cx| {
        watch.remember(cx.waker());
        asker.wait(cx);
        if asker.take().cancelled {
            return Poll::Ready(Err(Ended::Cancelled));
        }
        if watch.expired() {
            return Poll::Ready(Err(Ended::Failed("the origin did not answer in time".into())));
        }
        send.poll_ready(cx).map_err(|error| unanswered(place, &error, false))
    });
    if let Err(ended) = ready.await {
        return ended;
    }
    let upload = match &request.body {
        body if body.length() == Some(0) => Upload::Done,
        SendBody::Empty | SendBody::Socket(_) => Upload::Done,
        SendBody::Full(bytes) => Upload::Sending { bytes: bytes.clone(), then: Box::new(Upload::End) },
        SendBody::Stream { length } => {
            Upload::Streaming { left: length.unwrap_or(u64::MAX), promised: length.is_some(), asked: false }
        }
        SendBody::Link { link, length, .. } => {
            Upload::Linked { left: length.unwrap_or(u64::MAX), promised: length.is_some(), link: link.clone() }
        }
    };
    let (response, stream) = match send.send_request(message, matches!(upload, Upload::Done)) {
        Ok(begun) => begun,
        Err(error) => return unanswered(place, &error, false),
    };
    drop(send);
    let download = Download::Head(response);
    let mut exchange = Exchange {
        shard,
        asker,
        request,
        place,
        watch,
        stream,
        upload,
        download,
        touched: false,
        waits_for_head: false,
    };
    let ended = poll_fn(|cx| exchange.poll(cx)).await;
    if !matches!(ended, Ended::Reusable) {
        exchange.stream.send_reset(Reason::CANCEL);
    }
    ended
}

/// The head of the request. The connection's own fields stay behind.
fn message(request: &FetchRequest, target: &Target) -> Result<Request<()>, FetchError> {
    let invalid = |what: &str| FetchError(format!("invalid {what}"));
    let uri = Uri::builder().scheme("https").authority(&target.authority[..]).path_and_query(&target.path[..]);
    let mut message = Request::new(());
    *message.uri_mut() = uri.build().map_err(|_| invalid("URL"))?;
    *message.version_mut() = Version::HTTP_2;
    *message.method_mut() = Method::from_bytes(request.method.as_bytes()).map_err(|_| invalid("method"))?;
    if message.method() == Method::CONNECT {
        return Err(invalid("method"));
    }
    let fields = message.headers_mut();
    for (name, value) in request.headers.iter() {
        if h1::is_hop_by_hop(name) || name.eq_ignore_ascii_case(b"host") || name.eq_ignore_ascii_case(b"expect") {
            continue;
        }
        let field = HeaderName::from_bytes(name).ok().zip(HeaderValue::from_bytes(value).ok());
        let (name, value) = field.ok_or_else(|| invalid("header field"))?;
        fields.append(name, value);
    }
    let usual = matches!(&request.method[..], "POST" | "PUT" | "PATCH");
    if let Some(length) = request.body.length().filter(|length| *length > 0 || usual) {
        fields.insert(http::header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    Ok(message)
}

/// How an attempt ends that no head came of. `touched`: something of a body that cannot be had twice is given away.
fn unanswered(place: &Place, error: &h2::Error, touched: bool) -> Ended {
    let text = FetchError(format!("HTTP/2: {error}"));
    if error.is_io() || error.is_go_away() {
        place.give_up();
    }
    // The origin says that it did nothing (RFC 9113 §8.7).
    let refused = error.reason() == Some(Reason::REFUSED_STREAM)
        || (error.is_go_away() && error.reason() == Some(Reason::NO_ERROR));
    match () {
        () if touched => Ended::Failed(text),
        () if refused => Ended::Refused(text),
        () if error.is_io() || error.is_go_away() => Ended::Unanswered(text),
        () => Ended::Failed(text),
    }
}

impl Exchange<'_> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        loop {
            let delivery = self.asker.take();
            if delivery.cancelled {
                return Poll::Ready(Ended::Cancelled);
            }
            let mut progress = self.deliver(delivery);
            progress |= self.send(cx);
            if matches!(self.upload, Upload::Broken) {
                return Poll::Ready(self.broken("the request body ended early"));
            }
            if progress {
                continue;
            }
            match self.read(cx) {
                Poll::Ready(Some(ended)) => return Poll::Ready(ended),
                Poll::Ready(None) => {}
                Poll::Pending => {
                    if self.watch.expired() {
                        return Poll::Ready(self.broken("the origin did not answer in time"));
                    }
                    self.wait(cx);
                    return Poll::Pending;
                }
            }
        }
    }

    /// Carries out what the Worker has said. Whether something changed.
    fn deliver(&mut self, delivery: FetchDelivery) -> bool {
        let mut progress = false;
        if let Download::Body { asked, to, .. } = &mut self.download {
            progress = delivery.wants_body || delivery.body_to.is_some();
            *asked |= delivery.wants_body;
            if delivery.body_to.is_some() {
                *to = delivery.body_to;
            }
        }
        if let Some(step) = delivery.upload
            && let Upload::Streaming { left, promised, .. } = self.upload
        {
            progress = true;
            self.upload = match step {
                BodyEvent::Chunk(bytes) if bytes.len() as u64 <= left => {
                    let left = left - bytes.len() as u64;
                    Upload::Sending { bytes, then: Box::new(Upload::Streaming { left, promised, asked: false }) }
                }
                BodyEvent::End if !promised || left == 0 => Upload::End,
                _ => Upload::Broken,
            };
        }
        progress
    }

    /// Sends what may be sent of the body; asks for more. Whether something happened.
    fn send(&mut self, cx: &mut Context<'_>) -> bool {
        match &mut self.upload {
            Upload::Done | Upload::Broken => false,
            Upload::End => {
                let _ = self.stream.send_data(Bytes::new(), true);
                self.upload = Upload::Done;
                true
            }
            Upload::Sending { .. } => self.send_bytes(cx),
            Upload::Streaming { asked, .. } if *asked => false,
            Upload::Streaming { asked, .. } => {
                *asked = true;
                self.touched = true;
                self.asker.tell(self.shard, Event::PullFetchUpload { fetch: self.request.fetch });
                true
            }
            Upload::Linked { .. } => self.take_link(),
        }
    }

    fn send_bytes(&mut self, cx: &mut Context<'_>) -> bool {
        let Upload::Sending { bytes, then } = &mut self.upload else { return false };
        self.stream.reserve_capacity(bytes.len().min(WRITE_BEHIND_BYTES));
        match self.stream.poll_capacity(cx) {
            Poll::Pending => false,
            Poll::Ready(Some(Ok(room))) => {
                let part = bytes.split_to(room.min(bytes.len()));
                let last = bytes.is_empty() && matches!(**then, Upload::End);
                let sent = self.stream.send_data(part, last);
                if last || sent.is_err() {
                    self.upload = Upload::Done;
                } else if bytes.is_empty() {
                    self.upload = std::mem::replace(then, Upload::Done);
                }
                true
            }
            // The origin wants no more of it; what it says is looked at next.
            Poll::Ready(_) => {
                self.upload = Upload::Done;
                true
            }
        }
    }

    fn take_link(&mut self) -> bool {
        let Upload::Linked { left, promised, link } = &mut self.upload else { return false };
        let end = match link.take() {
            None => return false,
            Some(Step::Some(buffer)) => match left.checked_sub(buffer.bytes().len() as u64) {
                Some(rest) => {
                    let bytes = Bytes::copy_from_slice(buffer.bytes());
                    let then = Box::new(Upload::Linked { left: rest, promised: *promised, link: link.clone() });
                    link.give_back(buffer);
                    self.touched = true;
                    self.upload = Upload::Sending { bytes, then };
                    return true;
                }
                None => Passed::Broken("the body is longer than it was promised to be".to_owned()),
            },
            Some(Step::Whole) if *promised && *left > 0 => {
                Passed::Broken("the body is shorter than it was promised to be".to_owned())
            }
            Some(Step::Whole) => Passed::Whole,
            Some(Step::Broken(why)) => Passed::Broken(why),
        };
        self.upload = if end == Passed::Whole { Upload::End } else { Upload::Broken };
        self.asker.tell(self.shard, Event::UploadPassed { fetch: self.request.fetch, end });
        true
    }

    /// Takes what the origin has sent, as far as it is wanted. `None`: something happened, look again.
    fn read(&mut self, cx: &mut Context<'_>) -> Poll<Option<Ended>> {
        match &mut self.download {
            Download::Head(response) => {
                let head = ready!(Pin::new(response).poll(cx));
                Poll::Ready(match head {
                    Ok(head) => self.on_head(head),
                    Err(error) => Some(unanswered(self.place, &error, self.touched)),
                })
            }
            Download::Body { asked: false, to: None, .. } => Poll::Pending,
            Download::Body { to: Some(link), .. } if link.is_left() => Poll::Ready(Some(Ended::Cancelled)),
            Download::Body { to: Some(link), .. } if !link.has_room() => {
                link.wait_for_room(cx);
                Poll::Pending
            }
            Download::Body { body, asked, to } => {
                let part = match body.poll_data(cx) {
                    Poll::Pending => {
                        if let Some(link) = to {
                            link.wait_for_room(cx);
                        }
                        return Poll::Pending;
                    }
                    Poll::Ready(part) => part,
                };
                match part {
                    Some(Ok(bytes)) => {
                        // Fails where the stream is over already.
                        let _ = body.flow_control().release_capacity(bytes.len());
                        if bytes.is_empty() {
                            return Poll::Ready(None);
                        }
                        if let Some(link) = to {
                            link.push_bytes(&bytes);
                        } else {
                            *asked = false;
                            self.body_event(BodyEvent::Chunk(bytes));
                        }
                        Poll::Ready(None)
                    }
                    Some(Err(error)) => Poll::Ready(Some(self.broken(&format!("HTTP/2: {error}")))),
                    None => {
                        match to {
                            Some(link) => link.end(Ok(())),
                            None => self.body_event(BodyEvent::End),
                        }
                        Poll::Ready(Some(self.over()))
                    }
                }
            }
        }
    }

    fn on_head(&mut self, head: Response<RecvStream>) -> Option<Ended> {
        let (parts, body) = head.into_parts();
        let mut headers = HeaderBlock::with_capacity(parts.headers.len(), parts.headers.len() * 32);
        for (name, value) in &parts.headers {
            headers.push(name.as_str().as_bytes(), value.as_bytes());
        }
        if parts.status.as_u16() < 200 {
            return Some(Ended::Failed("invalid response: unexpected status".into()));
        }
        let empty = body.is_end_stream();
        self.download = Download::Body { body, asked: false, to: None };
        self.watch.clear();
        let body = if empty { IncomingBody::Empty } else { IncomingBody::Stream };
        let (fetch, status) = (self.request.fetch, parts.status.as_u16());
        self.asker.tell(self.shard, Event::FetchResponse { fetch, status, reason: String::new(), headers, body });
        empty.then(|| self.over())
    }

    fn over(&self) -> Ended {
        if matches!(self.upload, Upload::Done) { Ended::Reusable } else { Ended::Closed }
    }

    /// The exchange cannot be completed.
    fn broken(&mut self, why: &str) -> Ended {
        match &self.download {
            Download::Head(_) => return Ended::Failed(why.into()),
            Download::Body { to: Some(link), .. } => link.end(Err(why.to_owned())),
            Download::Body { .. } => self.body_event(BodyEvent::Failed(why.to_owned())),
        }
        Ended::Closed
    }

    fn body_event(&self, body: BodyEvent) {
        self.asker.tell(self.shard, Event::FetchBody { fetch: self.request.fetch, body });
    }

    fn wait(&mut self, cx: &Context<'_>) {
        let timeouts = &self.shard.config().timeouts;
        let limit_ns = match (&self.download, &self.upload) {
            (_, Upload::Sending { .. }) => Some(timeouts.stall_ns),
            (Download::Head(_), Upload::Done) => Some(timeouts.origin_head_ns),
            (Download::Body { asked: true, .. }, _) => Some(timeouts.stall_ns),
            (Download::Body { to: Some(link), .. }, _) if link.has_room() => Some(timeouts.stall_ns),
            // Waiting for the Worker: its own limits hold.
            _ => None,
        };
        // The wait for a head has one limit in all; each other one begins anew with what has come.
        let for_head = matches!((&self.download, &self.upload), (Download::Head(_), Upload::Done));
        match limit_ns {
            None => self.watch.clear(),
            Some(_) if for_head && self.waits_for_head => {}
            Some(limit_ns) => self.watch.set(self.shard.clock.recent_ns() + limit_ns),
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
