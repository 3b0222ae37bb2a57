//! What native functions and the Worker share: requests, outbound requests, timers, effects.
//!
//! *Invariants:* effects keep the grammar of `event`: a request's reply goes `Waiting → Streaming → Done`, never back.
//! *Bounds:* effects of a turn are bounded by what their senders may hold: one reply per request, one chunk per pull, outbound
//! requests by the plan's number, those that are out at a time by `CONNECTIONS_PER_REQUEST_MAX`, log text by
//! `LOG_BYTES_PER_REQUEST_MAX` and [`LOG_BYTES_PER_TURN_MAX`].

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasherDefault, Hasher},
    sync::Arc,
};

use base::header::HeaderBlock;
use base::limits::{CONNECTIONS_PER_REQUEST_MAX, KIB, LOG_BYTES_MAX, LOG_BYTES_PER_REQUEST_MAX};
use bytes::Bytes;

use crate::{
    event::{
        BodySource, Effect, Failure, FetchId, Held, LogLevel, LogRecord, MonotonicNs, Now, OutgoingBody, RequestHead,
        RequestId, SocketId,
    },
    limits::RequestLimits,
    requests::Requests,
    sockets::Socket,
    timers::Timers,
};

/// Log text of one turn, bytes; what is past it is dropped, and one record says so.
const LOG_BYTES_PER_TURN_MAX: usize = 256 * KIB;

const _: () = assert!(LOG_BYTES_PER_TURN_MAX >= LOG_BYTES_MAX);

/// Hash of ids that count up: spreads them, costs one multiplication.
#[derive(Default)]
pub(crate) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(self.0 ^ u64::from(*byte));
        }
    }

    fn write_u64(&mut self, id: u64) {
        // 2⁶⁴ / golden ratio (Knuth, TAOCP 6.4); the top bits are good, hash tables use both ends.
        let spread = id.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 = spread ^ (spread >> 32);
    }
}

type IdMap<K, V> = HashMap<K, V, BuildHasherDefault<IdHasher>>;

/// How far a request's reply is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// Nothing was sent.
    Waiting,
    /// The head was sent; chunks follow. `pulled`: the peer waits for JavaScript; else JavaScript for the peer.
    Streaming {
        /// Whether a pull is unanswered.
        pulled: bool,
    },
    /// The head was sent; the shard moves the body.
    Passing(BodySource),
    /// Complete, one way or another.
    Done,
}

/// How far a request's body is.
#[derive(Debug)]
pub(crate) enum BodyIn {
    /// None, or nobody wants the rest.
    Done,
    /// All here, not taken yet.
    Full(Bytes),
    /// Chunks can be pulled.
    Idle,
    /// A pull is unanswered.
    Pulled,
}

/// Who called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    /// A client.
    Client,
    /// The clock. `again`: a run that another request's doing ended may be begun anew.
    Clock { again: bool },
    /// Another Worker.
    Worker,
}

/// A request that is not finished.
pub(crate) struct Request {
    pub(crate) head: Arc<RequestHead>,
    pub(crate) caller: Caller,
    pub(crate) body: BodyIn,
    /// JavaScript has had some of the body: nobody else can have all of it.
    pub(crate) body_read: bool,
    /// The origin is to answer where the handler fails.
    pub(crate) pass_through: bool,
    pub(crate) started_ns: MonotonicNs,
    pub(crate) reply: Reply,
    pub(crate) response_bytes: u64,
    /// `waitUntil` promises that have not settled.
    pub(crate) waiting: u32,
    /// CPU time that counts against the limit.
    pub(crate) cpu_ns: u64,
    /// CPU time of events that are over.
    spent_ns: u64,
    /// WebSockets that belong to it.
    pub(crate) sockets: u32,
    /// Those of them that answer it: while there is one, it is a session.
    pub(crate) serving: u32,
    pub(crate) subrequests: u32,
    /// Outbound requests that wait for the head of their response.
    connections: u32,
    /// Outbound requests that wait for one of those to have it.
    queued: VecDeque<(FetchId, Effect)>,
    log_bytes_left: usize,
    /// Which limits were told of, as bits.
    held: u8,
    pub(crate) failure: Option<Failure>,
}

impl Request {
    pub(crate) fn new(head: Arc<RequestHead>, body: BodyIn, started_ns: MonotonicNs) -> Request {
        Request {
            head,
            caller: Caller::Client,
            body,
            body_read: false,
            pass_through: false,
            started_ns,
            reply: Reply::Waiting,
            response_bytes: 0,
            waiting: 0,
            cpu_ns: 0,
            spent_ns: 0,
            sockets: 0,
            serving: 0,
            subrequests: 0,
            connections: 0,
            queued: VecDeque::new(),
            log_bytes_left: LOG_BYTES_PER_REQUEST_MAX,
            held: 0,
            failure: None,
        }
    }

    /// An event of a session begins: it is charged like a request.
    #[inline]
    pub(crate) fn renew(&mut self) {
        self.renew_cpu();
        self.subrequests = 0;
        self.log_bytes_left = LOG_BYTES_PER_REQUEST_MAX;
        self.held = 0;
    }

    /// The same for its CPU time alone.
    #[inline]
    pub(crate) fn renew_cpu(&mut self) {
        self.spent_ns += std::mem::take(&mut self.cpu_ns);
    }

    /// CPU time since this was last asked.
    pub(crate) fn take_cpu_ns(&mut self) -> u64 {
        std::mem::take(&mut self.spent_ns) + std::mem::take(&mut self.cpu_ns)
    }

    /// Whether the origin answers in the handler's place when it fails so. A request that can be tried again is.
    fn passes(&self, why: Failure) -> bool {
        let again = why == Failure::Interrupted && self.head.is_safe();
        self.pass_through && self.reply == Reply::Waiting && !self.body_read && !again
    }
}

/// An outbound request that is not over.
pub(crate) struct Fetch {
    pub(crate) request: Option<RequestId>,
    /// The shard owes an event: the head, or a chunk.
    pub(crate) awaited: bool,
    /// The head of its response has not come.
    pub(crate) connecting: bool,
    /// It is a call of another Worker.
    pub(crate) call: bool,
}

/// State of one Worker.
pub(crate) struct State {
    pub(crate) now: Now,
    pub(crate) limits: RequestLimits,
    /// What requests have as `cf`, JSON.
    pub(crate) place: &'static str,
    /// When the isolate started: `performance.now()` counts from here.
    pub(crate) origin_ns: MonotonicNs,
    pub(crate) effects: VecDeque<Effect>,
    pub(crate) requests: Requests,
    pub(crate) sockets: IdMap<SocketId, Socket>,
    pub(crate) fetches: IdMap<FetchId, Fetch>,
    pub(crate) timers: Timers,
    /// When the time of a request may be up.
    pub(crate) wall_at_ns: Option<MonotonicNs>,
    /// Requests whose reply or `waitUntil` ended in this turn.
    pub(crate) ended: Vec<RequestId>,
    last_fetch: u64,
    log_bytes_left: usize,
}

impl State {
    pub(crate) fn new(now: Now, limits: RequestLimits) -> State {
        State {
            now,
            limits,
            place: "{}",
            origin_ns: now.monotonic_ns,
            effects: VecDeque::new(),
            requests: Requests::default(),
            sockets: IdMap::default(),
            fetches: IdMap::default(),
            timers: Timers::default(),
            wall_at_ns: None,
            ended: Vec::new(),
            last_fetch: 0,
            log_bytes_left: LOG_BYTES_PER_TURN_MAX,
        }
    }

    /// A turn starts.
    #[inline]
    pub(crate) fn start_turn(&mut self) {
        self.log_bytes_left = LOG_BYTES_PER_TURN_MAX;
    }

    /// An id for the next outbound request.
    pub(crate) fn next_fetch(&mut self) -> FetchId {
        self.last_fetch += 1;
        FetchId(self.last_fetch)
    }

    /// A log record of the tenant's, cut and counted.
    pub(crate) fn log(&mut self, request: Option<RequestId>, level: LogLevel, mut text: String) {
        let Some(row) = request.and_then(|id| self.requests.get_mut(&id)) else {
            return self.log_of_turn(request, level, text);
        };
        if row.log_bytes_left == 0 {
            return;
        }
        truncate(&mut text, LOG_BYTES_MAX);
        match row.log_bytes_left.checked_sub(text.len() + size_of::<Effect>()) {
            Some(left) => {
                row.log_bytes_left = left;
                self.log_of_turn(request, level, text);
            }
            None => {
                row.log_bytes_left = 0;
                self.say(request, level, "log limit of this request reached; the rest is dropped".to_owned());
                self.hold(request, Held::Log);
            }
        }
    }

    fn log_of_turn(&mut self, request: Option<RequestId>, level: LogLevel, mut text: String) {
        if self.log_bytes_left == 0 {
            return;
        }
        truncate(&mut text, LOG_BYTES_MAX);
        // An empty record costs too.
        match self.log_bytes_left.checked_sub(text.len() + size_of::<Effect>()) {
            Some(left) => self.log_bytes_left = left,
            None => {
                self.log_bytes_left = 0;
                text = "log limit of this turn reached; the rest is dropped".to_owned();
            }
        }
        self.say(request, level, text);
    }

    /// A log record of the runtime's own, of which a request has a few at most: no limit of the tenant's hides it.
    pub(crate) fn say(&mut self, request: Option<RequestId>, level: LogLevel, text: String) {
        self.effects.push_back(Effect::Log(LogRecord { request, level, text }));
    }

    /// Tells that a request has met a limit which does not end it, once.
    pub(crate) fn hold(&mut self, request: Option<RequestId>, held: Held) {
        if let Some(row) = request.and_then(|id| self.requests.get_mut(&id)) {
            let bit = 1 << held as u8;
            if row.held & bit != 0 {
                return;
            }
            row.held |= bit;
        }
        self.effects.push_back(Effect::Held(held));
    }

    /// Sends an outbound request of an open request, or puts it behind those that are out.
    pub(crate) fn send_fetch(&mut self, id: RequestId, fetch: FetchId, effect: Effect) {
        let Some(request) = self.requests.get_mut(&id) else { return };
        let connecting = request.connections < CONNECTIONS_PER_REQUEST_MAX;
        let call = matches!(effect, Effect::Call { .. });
        self.fetches.insert(fetch, Fetch { request: Some(id), awaited: true, connecting, call });
        if connecting {
            request.connections += 1;
            self.effects.push_back(effect);
        } else {
            request.queued.push_back((fetch, effect));
            self.hold(Some(id), Held::Connections);
        }
    }

    /// The head of an outbound request's response has come, or never will: the next one may go.
    pub(crate) fn connected(&mut self, fetch: FetchId) {
        let Some(row) = self.fetches.get_mut(&fetch).filter(|row| row.connecting) else { return };
        row.connecting = false;
        let Some(request) = row.request.and_then(|id| self.requests.get_mut(&id)) else { return };
        match request.queued.pop_front() {
            Some((next, effect)) => {
                if let Some(row) = self.fetches.get_mut(&next) {
                    row.connecting = true;
                }
                self.effects.push_back(effect);
            }
            None => request.connections -= 1,
        }
    }

    /// Drops an outbound request that nobody wants any more.
    pub(crate) fn cancel_fetch(&mut self, fetch: FetchId) {
        self.connected(fetch);
        let Some(row) = self.fetches.remove(&fetch) else { return };
        if let Some(request) = row.request.and_then(|id| self.requests.get_mut(&id)) {
            let before = request.queued.len();
            request.queued.retain(|(queued, _)| *queued != fetch);
            if request.queued.len() < before {
                return;
            }
        }
        self.effects.push_back(Effect::CancelFetch { fetch });
    }

    /// Why a request ends whose isolate another request has condemned.
    pub(crate) fn displaced(&self, id: RequestId) -> Failure {
        let untouched = |request: &&Request| match request.caller {
            Caller::Clock { again } => again,
            _ => request.reply == Reply::Waiting && request.subrequests == 0 && !request.body_read,
        };
        self.requests.get(&id).filter(untouched).map_or(Failure::Condemned, |_| Failure::Interrupted)
    }

    /// Ends a request's reply without (the rest of) a response. No effect on one that is complete.
    pub(crate) fn fail(&mut self, id: RequestId, why: Failure) {
        let Some(request) = self.requests.get_mut(&id) else { return };
        if request.reply == Reply::Done {
            return;
        }
        let passes = request.passes(why);
        request.reply = Reply::Done;
        request.failure = Some(why);
        self.effects.push_back(if passes { Effect::PassThrough { id, why } } else { Effect::Fail { id, why } });
        self.ended.push(id);
    }

    /// A request is answered by a WebSocket.
    pub(crate) fn answered_by_socket(&mut self, id: RequestId, headers: HeaderBlock, socket: SocketId) {
        if let Some(request) = self.requests.get_mut(&id) {
            request.reply = Reply::Done;
        }
        self.effects.push_back(Effect::Respond { id, status: 101, headers, body: OutgoingBody::Socket(socket) });
        self.ended.push(id);
    }

    /// Whether anything outside can still make this isolate's promises move.
    pub(crate) fn something_pending(&self) -> bool {
        !self.timers.is_empty()
            || !self.sockets.is_empty()
            || self.fetches.values().any(|fetch| fetch.awaited)
            || self.requests.open().any(|(_, request)| {
                matches!(request.body, BodyIn::Pulled)
                    || matches!(request.reply, Reply::Streaming { pulled: false } | Reply::Passing(_))
            })
    }

    /// Requests that wait for JavaScript, which nothing can move any more.
    pub(crate) fn hung(&self) -> Vec<RequestId> {
        let waits = |request: &Request| request.reply != Reply::Done || request.waiting > 0;
        if !self.requests.open().any(|(_, request)| waits(request)) || self.something_pending() {
            return Vec::new();
        }
        let mut hung: Vec<_> = self.requests.open().filter(|(_, request)| waits(request)).map(|(id, _)| *id).collect();
        hung.sort_unstable();
        hung
    }
}

/// Cuts text at a character's edge.
fn truncate(text: &mut String, bytes_max: usize) {
    if text.len() > bytes_max {
        text.truncate(text.floor_char_boundary(bytes_max));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        State::new(Now { monotonic_ns: 0, unix_ms: 0 }, RequestLimits::default())
    }

    #[test]
    fn a_log_flood_of_one_turn_ends_with_one_record_that_says_so() {
        let mut state = state();
        for _ in 0..100_000 {
            state.log(None, LogLevel::Info, "é".repeat(LOG_BYTES_MAX));
        }
        let texts: Vec<String> = state
            .effects
            .drain(..)
            .map(|effect| match effect {
                Effect::Log(record) => record.text,
                other => panic!("{other:?}"),
            })
            .collect();
        let total: usize = texts.iter().map(String::len).sum();
        assert!(total <= LOG_BYTES_PER_TURN_MAX + 100, "{total}");
        assert_eq!(texts.iter().filter(|text| text.starts_with("log limit")).count(), 1);
        state.start_turn();
        state.log(None, LogLevel::Info, "again".into());
        assert_eq!(state.effects.len(), 1);
    }

    #[test]
    fn text_is_cut_between_characters() {
        let mut text = "aéé".to_owned();
        truncate(&mut text, 2);
        assert_eq!(text, "a");
    }

    #[test]
    fn a_request_fails_once() {
        let mut state = state();
        state.fail(RequestId(1), Failure::Hung);
        assert!(state.effects.is_empty(), "unknown request");
    }
}
