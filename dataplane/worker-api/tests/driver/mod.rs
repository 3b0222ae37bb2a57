//! Plays the shard for one request: feeds bodies, pulls the response, moves the clock to the next timer, and answers
//! outbound requests through an origin that a test gives. Bounded: a request that takes too many steps is a failure.

#![allow(dead_code)] // Each test binary uses a part of it.

use std::collections::{HashMap, VecDeque};

use base::header::HeaderBlock;
use bytes::Bytes;
use worker_api::{
    BodyEvent, BodySource, Effect, Event, Failure, FetchId, IncomingBody, LogRecord, OutgoingBody, Passed, RequestHead,
    RequestId, Worker,
};

use crate::support::at_ms;

/// Steps of one request: effects taken and timers waited for.
const STEPS_MAX: usize = 200_000;
/// Bytes of a chunk when a body is streamed.
const CHUNK_BYTES: usize = 16 * 1024;

/// What came of a request.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Bytes promised for a streamed body.
    pub(crate) length: Option<u64>,
    /// A body went from socket to socket.
    pub(crate) passed: bool,
    /// The body ended early.
    pub(crate) broken: Option<String>,
    pub(crate) failure: Option<Failure>,
    pub(crate) logs: Vec<LogRecord>,
    /// Outbound requests that the Worker dropped.
    pub(crate) cancelled: Vec<FetchId>,
}

impl Answer {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a UTF-8 body")
    }

    /// All values of a field, in order.
    pub(crate) fn header(&self, name: &str) -> Vec<&str> {
        let same = self.headers.iter().filter(|(field, _)| field.eq_ignore_ascii_case(name));
        same.map(|(_, value)| &value[..]).collect()
    }
}

/// An outbound request, complete.
#[derive(Clone, Debug)]
pub(crate) struct Outbound {
    pub(crate) id: FetchId,
    pub(crate) method: String,
    pub(crate) url: String,
    pub(crate) headers: HeaderBlock,
    pub(crate) body: Vec<u8>,
    /// The body came in chunks, with this length promised.
    pub(crate) streamed: Option<Option<u64>>,
}

impl Outbound {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name.as_bytes()).and_then(|value| std::str::from_utf8(value).ok())
    }
}

/// What an origin does with an outbound request.
pub(crate) enum Origin {
    /// Status, fields, body in chunks (none: no body; one: all at once; more: a stream).
    Reply(u16, Vec<(&'static str, String)>, Vec<Vec<u8>>),
    /// Chunks, and then the connection breaks.
    Break(u16, Vec<Vec<u8>>),
    /// Never answers.
    Silence,
    /// The connection fails.
    Fail(&'static str),
}

/// How the request's body comes.
pub(crate) enum Sent<'a> {
    None,
    Whole(&'a [u8]),
    Chunks(&'a [u8]),
}

struct Drive<'w, O> {
    worker: &'w mut Worker,
    id: RequestId,
    ms: u64,
    answer: Answer,
    finished: bool,
    incoming: VecDeque<Bytes>,
    uploads: HashMap<FetchId, Outbound>,
    downloads: HashMap<FetchId, VecDeque<BodyEvent>>,
    origin: O,
}

/// Runs one request to its end.
pub(crate) fn run(
    worker: &mut Worker,
    (method, url): (&str, &str),
    headers: &[(&str, &str)],
    body: Sent<'_>,
    origin: impl FnMut(&Outbound) -> Origin,
) -> Answer {
    let headers = headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
    let (incoming, chunks) = match body {
        Sent::None => (IncomingBody::Empty, &[][..]),
        Sent::Whole(bytes) => (IncomingBody::Full(Bytes::copy_from_slice(bytes)), &[][..]),
        Sent::Chunks(bytes) => (IncomingBody::Stream, bytes),
    };
    let head = RequestHead { method: method.into(), url: url.into(), headers, body: incoming }.into();
    let id = RequestId(u64::try_from(worker.in_flight()).expect("few") + next_id());
    let mut drive = Drive {
        worker,
        id,
        ms: 0,
        answer: Answer::default(),
        finished: false,
        incoming: chunks.chunks(CHUNK_BYTES).map(Bytes::copy_from_slice).collect(),
        uploads: HashMap::new(),
        downloads: HashMap::new(),
        origin,
    };
    drive.send(Event::Request { id, head });
    drive.turn_until_finished();
    drive.answer
}

/// Ids never come twice.
fn next_id() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl<O: FnMut(&Outbound) -> Origin> Drive<'_, O> {
    fn send(&mut self, event: Event) {
        self.worker.handle(at_ms(self.ms), event);
    }

    fn turn_until_finished(&mut self) {
        for _ in 0..STEPS_MAX {
            if let Some(effect) = self.worker.poll_effect() {
                self.effect(effect);
            } else if self.finished {
                return;
            } else {
                let due = self.worker.poll_timeout();
                let due = due.unwrap_or_else(|| panic!("nothing is left to do: {:?}", self.answer));
                let start = at_ms(0).monotonic_ns;
                self.ms = self.ms.max(due.saturating_sub(start).div_ceil(1_000_000));
                self.send(Event::Timeout);
            }
        }
        panic!("too many steps: {:?}", self.answer);
    }

    fn effect(&mut self, effect: Effect) {
        match effect {
            Effect::Respond { id, status, headers, body } => {
                assert_eq!(id, self.id);
                self.answer.status = status;
                self.answer.headers = headers.iter().map(|(name, value)| (latin1(name), latin1(value))).collect();
                match body {
                    OutgoingBody::Empty => {}
                    OutgoingBody::Full(bytes) => self.answer.body = bytes.to_vec(),
                    OutgoingBody::Stream { length } => {
                        self.answer.length = length;
                        self.send(Event::PullResponse { id });
                    }
                    OutgoingBody::Passed { from, length, .. } => {
                        self.answer.length = length;
                        self.answer.passed = true;
                        let (body, end) = self.moved(from);
                        self.answer.body = body;
                        if let Passed::Broken(why) = &end {
                            self.answer.broken = Some(why.clone());
                        }
                        self.send(Event::ResponsePassed { id, end });
                    }
                    OutgoingBody::Socket(_) => panic!("a WebSocket is not expected here"),
                }
            }
            Effect::ResponseBody { id, body } => match body {
                BodyEvent::Chunk(bytes) => {
                    self.answer.body.extend_from_slice(&bytes);
                    self.send(Event::PullResponse { id });
                }
                BodyEvent::End => {}
                BodyEvent::Failed(why) => self.answer.broken = Some(why),
            },
            Effect::PullRequestBody { id } => {
                let body = self.incoming.pop_front().map_or(BodyEvent::End, BodyEvent::Chunk);
                self.send(Event::RequestBody { id, body });
            }
            Effect::CancelRequestBody { .. } => self.incoming.clear(),
            Effect::Fail { why, .. } => self.answer.failure = Some(why),
            Effect::Finished { failure, .. } => {
                self.answer.failure = failure;
                self.finished = true;
            }
            Effect::Log(record) => self.answer.logs.push(record),
            effect => self.fetch_effect(effect),
        }
    }

    fn fetch_effect(&mut self, effect: Effect) {
        match effect {
            Effect::Fetch { fetch, method, url, headers, body, .. } => {
                let mut outbound = Outbound { id: fetch, method, url, headers, body: Vec::new(), streamed: None };
                match body {
                    OutgoingBody::Empty => self.reply(outbound),
                    OutgoingBody::Full(bytes) => {
                        outbound.body = bytes.to_vec();
                        self.reply(outbound);
                    }
                    OutgoingBody::Socket(_) => unreachable!("no request has it"),
                    OutgoingBody::Stream { length } => {
                        outbound.streamed = Some(length);
                        self.uploads.insert(fetch, outbound);
                        self.send(Event::PullFetchUpload { fetch });
                    }
                    OutgoingBody::Passed { from, length, .. } => {
                        outbound.streamed = Some(length);
                        let (body, end) = self.moved(from);
                        outbound.body = body;
                        self.answer.passed = true;
                        self.send(Event::UploadPassed { fetch, end });
                        self.reply(outbound);
                    }
                }
            }
            Effect::FetchUpload { fetch, body } => match body {
                BodyEvent::Chunk(bytes) => {
                    self.uploads.get_mut(&fetch).expect("an upload").body.extend_from_slice(&bytes);
                    self.send(Event::PullFetchUpload { fetch });
                }
                BodyEvent::End => {
                    let outbound = self.uploads.remove(&fetch).expect("an upload");
                    self.reply(outbound);
                }
                BodyEvent::Failed(why) => self.send(Event::FetchFailed { fetch, message: why }),
            },
            Effect::PullFetchBody { fetch } => {
                let body = self.downloads.get_mut(&fetch).and_then(VecDeque::pop_front).unwrap_or(BodyEvent::End);
                self.send(Event::FetchBody { fetch, body });
            }
            Effect::CancelFetch { fetch } => {
                self.uploads.remove(&fetch);
                self.downloads.remove(&fetch);
                self.answer.cancelled.push(fetch);
            }
            Effect::Held(_) => {}
            other => panic!("unexpected {other:?}"),
        }
    }

    /// A body that goes from socket to socket.
    fn moved(&mut self, from: BodySource) -> (Vec<u8>, Passed) {
        let steps = match from {
            BodySource::Request(_) => self.incoming.drain(..).map(BodyEvent::Chunk).collect(),
            BodySource::Fetch(fetch) => self.downloads.remove(&fetch).unwrap_or_default(),
        };
        let (mut body, mut end) = (Vec::new(), Passed::Whole);
        for step in steps {
            match step {
                BodyEvent::Chunk(bytes) => body.extend_from_slice(&bytes),
                BodyEvent::End => {}
                BodyEvent::Failed(why) => end = Passed::Broken(why),
            }
        }
        (body, end)
    }

    fn reply(&mut self, outbound: Outbound) {
        let fetch = outbound.id;
        let (status, headers, mut chunks, breaks) = match (self.origin)(&outbound) {
            Origin::Silence => return,
            Origin::Fail(why) => return self.send(Event::FetchFailed { fetch, message: why.into() }),
            Origin::Reply(status, headers, chunks) => (status, headers, chunks, false),
            Origin::Break(status, chunks) => (status, Vec::new(), chunks, true),
        };
        let headers = headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
        let body = if chunks.is_empty() && !breaks {
            IncomingBody::Empty
        } else if chunks.len() == 1 && !breaks {
            IncomingBody::Full(chunks.remove(0).into())
        } else {
            let mut steps: VecDeque<_> = chunks.into_iter().map(|chunk| BodyEvent::Chunk(chunk.into())).collect();
            steps.push_back(if breaks { BodyEvent::Failed("connection reset".into()) } else { BodyEvent::End });
            self.downloads.insert(fetch, steps);
            IncomingBody::Stream
        };
        self.send(Event::FetchResponse { fetch, status, reason: "Reason".into(), headers, body });
    }
}

fn latin1(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}
