//! What native functions and the Worker share: requests, outbound requests, timers, effects.
//!
//! *Invariants:* effects keep the grammar of `event`: a request's reply goes `Waiting → Streaming → Done`, never back.
//! *Bounds:* effects of a turn are bounded by what their senders may hold: one reply per request, one chunk per pull, outbound
//! requests by `SUBREQUESTS_MAX`, log text by [`LOG_BYTES_PER_TURN_MAX`].

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasherDefault, Hasher},
};

use base::{
    header::HeaderBlock,
    limits::{KIB, LOG_BYTES_MAX},
};
use bytes::Bytes;

use crate::{
    event::{Effect, Failure, FetchId, LogLevel, LogRecord, MonotonicNs, Now, RequestId},
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

/// A request that is not finished.
pub(crate) struct Request {
    pub(crate) headers: HeaderBlock,
    pub(crate) body: BodyIn,
    pub(crate) is_head: bool,
    pub(crate) reply: Reply,
    /// `waitUntil` promises that have not settled.
    pub(crate) waiting: u32,
    pub(crate) cpu_ns: u64,
    pub(crate) subrequests: u32,
    pub(crate) failure: Option<Failure>,
}

/// An outbound request that is not over.
pub(crate) struct Fetch {
    pub(crate) request: Option<RequestId>,
    /// The shard owes an event: the head, or a chunk.
    pub(crate) awaited: bool,
}

/// State of one Worker.
pub(crate) struct State {
    pub(crate) now: Now,
    /// When the isolate started: `performance.now()` counts from here.
    pub(crate) origin_ns: MonotonicNs,
    pub(crate) effects: VecDeque<Effect>,
    pub(crate) requests: IdMap<RequestId, Request>,
    pub(crate) fetches: IdMap<FetchId, Fetch>,
    pub(crate) timers: Timers,
    /// Requests whose reply or `waitUntil` ended in this turn.
    pub(crate) ended: Vec<RequestId>,
    last_fetch: u64,
    log_bytes_left: usize,
}

impl State {
    pub(crate) fn new(now: Now) -> State {
        State {
            now,
            origin_ns: now.monotonic_ns,
            effects: VecDeque::new(),
            requests: IdMap::default(),
            fetches: IdMap::default(),
            timers: Timers::default(),
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

    /// A log record, cut and counted.
    pub(crate) fn log(&mut self, request: Option<RequestId>, level: LogLevel, mut text: String) {
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
        self.effects.push_back(Effect::Log(LogRecord { request, level, text }));
    }

    /// Ends a request's reply without (the rest of) a response. No effect on one that is complete.
    pub(crate) fn fail(&mut self, id: RequestId, why: Failure) {
        let Some(request) = self.requests.get_mut(&id) else { return };
        if request.reply == Reply::Done {
            return;
        }
        request.reply = Reply::Done;
        request.failure = Some(why);
        self.effects.push_back(Effect::Fail { id, why });
        self.ended.push(id);
    }

    /// Whether anything outside can still make this isolate's promises move.
    pub(crate) fn something_pending(&self) -> bool {
        !self.timers.is_empty()
            || self.fetches.values().any(|fetch| fetch.awaited)
            || self.requests.values().any(|request| {
                matches!(request.body, BodyIn::Pulled) || request.reply == Reply::Streaming { pulled: false }
            })
    }

    /// Requests that wait for JavaScript, which nothing can move any more.
    pub(crate) fn hung(&self) -> Vec<RequestId> {
        let waits = |request: &Request| request.reply != Reply::Done || request.waiting > 0;
        if !self.requests.values().any(waits) || self.something_pending() {
            return Vec::new();
        }
        let mut hung: Vec<_> = self.requests.iter().filter(|(_, request)| waits(request)).map(|(id, _)| *id).collect();
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
        State::new(Now { monotonic_ns: 0, unix_ms: 0 })
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
