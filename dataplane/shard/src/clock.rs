//! A shard's time: monotonic nanoseconds since the node's start, the Unix time, and the `Date` field's text.

use h1::date::{HTTP_DATE_BYTES, http_date};
use std::cell::Cell;
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use worker_api::event::{MonotonicNs, Now};

/// Reads the monotonic clock; the Unix time is that plus an offset which the ticker renews.
pub(crate) struct Clock {
    origin: Instant,
    recent_ns: Cell<MonotonicNs>,
    unix_offset_ns: Cell<u64>,
    date: Cell<(u64, [u8; HTTP_DATE_BYTES])>,
}

impl Clock {
    pub(crate) fn new(origin: Instant) -> Clock {
        let clock = Clock {
            origin,
            recent_ns: Cell::new(0),
            unix_offset_ns: Cell::new(0),
            date: Cell::new((u64::MAX, [0; HTTP_DATE_BYTES])),
        };
        clock.follow_unix_time();
        clock
    }

    /// What its time counts from, for other threads.
    pub(crate) fn origin(&self) -> Instant {
        self.origin
    }

    /// The time now.
    pub(crate) fn now_ns(&self) -> MonotonicNs {
        let now = self.origin.elapsed().as_nanos() as u64;
        self.recent_ns.set(now);
        now
    }

    /// The time when somebody last asked for it: at most a tick old, and free.
    pub(crate) fn recent_ns(&self) -> MonotonicNs {
        self.recent_ns.get()
    }

    /// The time now, as Workers want it.
    pub(crate) fn now(&self) -> Now {
        let monotonic_ns = self.now_ns();
        Now { monotonic_ns, unix_ms: (monotonic_ns + self.unix_offset_ns.get()) / 1_000_000 }
    }

    /// The time when somebody last asked for it, as Workers want it.
    pub(crate) fn recent(&self) -> Now {
        let monotonic_ns = self.recent_ns.get();
        Now { monotonic_ns, unix_ms: (monotonic_ns + self.unix_offset_ns.get()) / 1_000_000 }
    }

    /// Follows a change of the system's time.
    pub(crate) fn follow_unix_time(&self) {
        let unix_ns = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
        self.unix_offset_ns.set(unix_ns.saturating_sub(self.now_ns()));
    }

    /// Text of the `Date` field, as of the last reading of the clock.
    pub(crate) fn date(&self) -> [u8; HTTP_DATE_BYTES] {
        let unix_s = (self.recent_ns.get() + self.unix_offset_ns.get()) / 1_000_000_000;
        let (of, text) = self.date.get();
        if of == unix_s {
            return text;
        }
        let text = http_date(unix_s);
        self.date.set((unix_s, text));
        text
    }
}
