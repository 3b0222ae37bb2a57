//! The garbage of an idle Worker: collected bit by bit, in turns that are no request's.

use base::limits::MS_NS;

use super::Worker;
use crate::event::{Collecting, Effect};

/// A heap up to this size is collected while its Worker is idle, bytes. Marking is done bit by bit; what V8 does in one piece at its
/// end took 10.6 ms with 30 MB alive. A larger one keeps its garbage until it needs the room.
const COLLECT_BYTES_MAX: usize = 32 << 20;
/// CPU time that such a piece may take besides the Worker's own limit, ns.
const COLLECT_CPU_NS: u64 = 50 * MS_NS;

/// Two full collections in a row. V8 leaves most of what the first has freed unswept, and the second gives that back: 3.1 MB of a
/// Worker with hono that has answered 500 requests become 2.0.
#[derive(Clone, Copy)]
pub(super) enum Collection {
    /// The first, which began when there had been so many.
    First(usize),
    /// The second, likewise.
    Second(usize),
}

impl Worker {
    /// A little of its collections, in a turn that is no request's: V8 marks for a millisecond, or ends one. Then callbacks of
    /// `FinalizationRegistry` may run.
    pub(super) fn collect(&mut self) {
        let begun = self.collection.is_some();
        let more = self.in_flight() == 0 && !self.condemned && self.collect_more();
        let progress = match (begun, more) {
            (_, true) => Collecting::More,
            (true, false) => Collecting::Done,
            (false, false) => Collecting::Declined,
        };
        if !more {
            self.collection = None;
            self.isolate.share_read_only();
        }
        self.isolate.state_mut().effects.push_back(Effect::Collected(progress));
    }

    /// Whether there is more to do.
    fn collect_more(&mut self) -> bool {
        let before = self.isolate.collections();
        let (began, begin) = match self.collection {
            None if self.isolate.heap_use().heap > COLLECT_BYTES_MAX => return false,
            None => (Collection::First(before), true),
            Some(Collection::First(since)) if !self.isolate.collecting(since) => (Collection::Second(before), true),
            Some(began) => (began, false),
        };
        self.collection = Some(began);
        self.turn_within(None, self.cpu_ns + COLLECT_CPU_NS, |scope, _| {
            if begin {
                scope.start_collection();
            }
            Ok(scope.undefined())
        });
        match began {
            Collection::First(_) => true,
            Collection::Second(since) => self.isolate.collecting(since),
        }
    }
}
