//! Timers of one isolate: which fires next, and whose it is.
//!
//! *Invariants:* `due` has one entry for each armed timer. *Bounds:* `limits::TIMERS_MAX`. Sans-IO: time is an argument.

use std::collections::{BTreeSet, HashMap};

use base::limits::{MS_NS, TIMERS_MAX};

use crate::event::{MonotonicNs, RequestId};

/// No timer fires sooner after it was armed: a chain of timers of no delay must not starve its shard.
const DELAY_NS_MIN: u64 = MS_NS;
/// Longest delay: 2³¹ − 1 ms, as everywhere.
const DELAY_MS_MAX: u64 = (1 << 31) - 1;

/// Armed timers.
#[derive(Default)]
pub(crate) struct Timers {
    armed: HashMap<u64, Timer>,
    due: BTreeSet<(MonotonicNs, u64)>,
    last_id: u64,
}

#[derive(Clone, Copy)]
struct Timer {
    at: MonotonicNs,
    /// Delay between firings of a timer that repeats.
    every_ns: Option<u64>,
    request: Option<RequestId>,
}

/// A timer that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Due {
    pub(crate) id: u64,
    pub(crate) request: Option<RequestId>,
    pub(crate) repeats: bool,
}

impl Timers {
    /// Arms a timer for `request`; its id, or `None` past the limit.
    pub(crate) fn start(
        &mut self,
        now: MonotonicNs,
        delay_ms: f64,
        repeats: bool,
        request: Option<RequestId>,
    ) -> Option<u64> {
        if self.armed.len() >= TIMERS_MAX {
            return None;
        }
        // A float becomes an integer with saturation, NaN 0.
        let delay_ns = ((delay_ms as u64).min(DELAY_MS_MAX) * MS_NS).max(DELAY_NS_MIN);
        self.last_id += 1;
        let timer = Timer { at: now.saturating_add(delay_ns), every_ns: repeats.then_some(delay_ns), request };
        self.armed.insert(self.last_id, timer);
        self.due.insert((timer.at, self.last_id));
        Some(self.last_id)
    }

    /// Disarms a timer; no effect if it is not armed.
    pub(crate) fn stop(&mut self, id: u64) {
        if let Some(timer) = self.armed.remove(&id) {
            self.due.remove(&(timer.at, id));
        }
    }

    /// When the next one is due.
    pub(crate) fn next(&self) -> Option<MonotonicNs> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Takes the first timer that is due at `now`; one that repeats is armed again, after `now`.
    pub(crate) fn take_due(&mut self, now: MonotonicNs) -> Option<Due> {
        let (at, id) = *self.due.first()?;
        if at > now {
            return None;
        }
        self.due.remove(&(at, id));
        let timer = self.armed.get_mut(&id)?;
        let due = Due { id, request: timer.request, repeats: timer.every_ns.is_some() };
        match timer.every_ns {
            Some(every_ns) => {
                timer.at = now.saturating_add(every_ns);
                self.due.insert((timer.at, id));
            }
            None => {
                self.armed.remove(&id);
            }
        }
        Some(due)
    }

    /// Disarms all timers of a request and gives their ids.
    pub(crate) fn stop_of(&mut self, request: RequestId) -> Vec<u64> {
        if self.armed.is_empty() {
            return Vec::new();
        }
        let of_it = self.armed.iter().filter(|(_, timer)| timer.request == Some(request));
        let ids: Vec<u64> = of_it.map(|(id, _)| *id).collect();
        for id in &ids {
            self.stop(*id);
        }
        ids
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.armed.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(timers: &mut Timers, now: u64) -> Vec<u64> {
        std::iter::from_fn(|| timers.take_due(now)).map(|due| due.id).collect()
    }

    #[test]
    fn fires_in_order_of_time_then_of_arming() {
        let mut timers = Timers::default();
        let late = timers.start(0, 5.0, false, None).expect("room");
        let first = timers.start(0, 2.0, false, None).expect("room");
        let second = timers.start(0, 2.0, false, None).expect("room");
        assert_eq!(timers.next(), Some(2 * MS_NS));
        assert_eq!(due(&mut timers, MS_NS), []);
        assert_eq!(due(&mut timers, 5 * MS_NS), [first, second, late]);
        assert!(timers.is_empty());
    }

    #[test]
    fn a_repeating_timer_fires_once_per_look_and_stops() {
        let mut timers = Timers::default();
        let id = timers.start(0, 0.0, true, Some(RequestId(7))).expect("room");
        assert_eq!(due(&mut timers, 10 * MS_NS), [id]);
        assert_eq!(timers.next(), Some(11 * MS_NS));
        assert_eq!(timers.stop_of(RequestId(8)), []);
        assert_eq!(timers.stop_of(RequestId(7)), [id]);
        assert_eq!(timers.next(), None);
    }

    #[test]
    fn strange_delays_are_held() {
        let mut timers = Timers::default();
        for delay in [f64::NAN, -1.0, 0.0] {
            timers.start(0, delay, false, None).expect("room");
        }
        assert_eq!(timers.next(), Some(MS_NS));
        timers.start(u64::MAX, f64::INFINITY, false, None).expect("room");
        assert_eq!(due(&mut timers, MS_NS).len(), 3);
    }

    #[test]
    fn refuses_past_the_limit() {
        let mut timers = Timers::default();
        for _ in 0..TIMERS_MAX {
            timers.start(0, 1.0, false, None).expect("room");
        }
        assert_eq!(timers.start(0, 1.0, false, None), None);
    }
}
