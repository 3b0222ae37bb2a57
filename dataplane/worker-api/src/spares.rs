//! [`Spares`]: isolates with the Web API in them and no tenant, made while their shard has nothing better to do.
//!
//! *Owns:* a shard's spares, and what is still missing of the next one. *Does not:* decide when there is time for a step.
//! *Invariants:* no code of a tenant has run in a spare; a claimed one belongs to its tenant until it is dropped.
//! *Bounds:* as many as [`Spares::new`] was told. *Fails:* where one cannot be made no other is tried before the next start has
//! asked for one; starts without a spare make their own isolate.
//! *Thread:* its shard's.

use base::limits::{ISOLATE_HEAP_BYTES_MAX, S_NS};
use isolate::{Blank, Isolate, IsolateLimits};

use crate::{
    Engine,
    event::Now,
    limits::RequestLimits,
    runtime::{self, Entry},
    state::State,
    worker::{StartError, own_fault},
};

/// CPU time for the runtime's part of a start, ns; it takes a thousandth of it.
const COMPLETE_NS: u64 = 5 * S_NS;

/// An isolate with the Web API and no tenant.
pub struct Spare {
    isolate: Isolate<State>,
    entry: Entry,
    heap_bytes: usize,
}

impl Spare {
    pub(crate) fn make(engine: &Engine, heap_bytes: usize) -> Result<Spare, StartError> {
        let blank = Blank::new(Some(engine.snapshot), IsolateLimits { heap_bytes });
        Spare::complete(engine, blank.ok_or(StartError::MemoryLimit)?, heap_bytes)
    }

    fn complete(engine: &Engine, blank: Blank, heap_bytes: usize) -> Result<Spare, StartError> {
        let nobody = State::new(Now { monotonic_ns: 0, unix_ms: 0 }, RequestLimits::default());
        let isolate = blank.into_isolate(&engine.isolates, nobody);
        let mut isolate = isolate.ok_or(StartError::MemoryLimit)?;
        match isolate.turn(COMPLETE_NS, runtime::complete).value {
            Some(Ok(entry)) => Ok(Spare { isolate, entry, heap_bytes }),
            Some(Err(error)) => Err(own_fault(error.message)),
            None => Err(StartError::MemoryLimit),
        }
    }

    /// Whether it has this limit: V8 fixes a heap's limits when it makes it.
    pub(crate) fn fits(&self, heap_bytes: usize) -> bool {
        self.heap_bytes == heap_bytes
    }

    /// Makes it a tenant's. The cage gets its tenant's protection key here.
    pub(crate) fn claim(self, now: Now, limits: RequestLimits) -> (Isolate<State>, Entry) {
        let Spare { mut isolate, entry, heap_bytes: _ } = self;
        *isolate.state_mut() = State::new(now, limits);
        (isolate, entry)
    }
}

/// A shard's spares.
pub struct Spares {
    engine: Engine,
    count: usize,
    ready: Vec<Spare>,
    begun: Option<Blank>,
    /// The last step failed, and none was asked for since.
    failed: bool,
}

impl Spares {
    /// None yet; [`Spares::refill_step`] makes up to `count`.
    pub fn new(engine: &Engine, count: usize) -> Spares {
        Spares { engine: engine.clone(), count, ready: Vec::with_capacity(count), begun: None, failed: false }
    }

    /// Does one slice of work, about a millisecond: an isolate in its group, or its context. Whether more is left to do.
    pub fn refill_step(&mut self) -> bool {
        if !self.is_missing() {
            return false;
        }
        let limits = IsolateLimits { heap_bytes: ISOLATE_HEAP_BYTES_MAX };
        self.failed = match self.begun.take() {
            None => {
                self.begun = Blank::new(Some(self.engine.snapshot), limits);
                self.begun.is_none()
            }
            Some(blank) => match Spare::complete(&self.engine, blank, ISOLATE_HEAP_BYTES_MAX) {
                Ok(mut spare) => {
                    // Here it is on nobody's time.
                    spare.isolate.share_read_only();
                    self.ready.push(spare);
                    false
                }
                Err(_) => true,
            },
        };
        self.is_missing()
    }

    /// Whether a step is to be taken.
    fn is_missing(&self) -> bool {
        self.ready.len() < self.count && !self.failed
    }

    /// How many are ready.
    pub fn ready(&self) -> usize {
        self.ready.len()
    }

    /// Takes one, for [`Worker::start_in`](crate::Worker::start_in). Where none is ready, one that is begun is completed.
    pub fn claim(&mut self) -> Option<Spare> {
        self.failed = false;
        let complete = |begun| Spare::complete(&self.engine, begun, ISOLATE_HEAP_BYTES_MAX).ok();
        self.ready.pop().or_else(|| self.begun.take().and_then(complete))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_failure_it_is_tried_again_once_for_each_start() {
        let mut spares = Spares::new(&Engine::init().expect("engine"), 2);
        for _ in 0..10 {
            spares.failed = true;
            assert!(!spares.refill_step() && spares.begun.is_none(), "nothing is tried before a start asks");
            assert!(spares.claim().is_none());
            assert!(spares.refill_step() && spares.begun.take().is_some(), "a start has asked");
        }
        while spares.refill_step() {}
        assert_eq!(spares.ready(), 2, "failures cost no spare for good");
        spares.failed = true;
        assert!(spares.claim().is_some(), "those that are ready are given all the same");
        while spares.refill_step() {}
        assert_eq!(spares.ready(), 2);
    }

    #[test]
    fn one_that_is_begun_is_completed_for_who_finds_none_ready() {
        let mut spares = Spares::new(&Engine::init().expect("engine"), 1);
        assert!(spares.claim().is_none(), "none is made on a start's time");
        assert!(spares.refill_step() && spares.begun.is_some());
        assert!(spares.claim().is_some() && spares.begun.is_none());
        while spares.refill_step() {}
        assert!(spares.claim().is_some() && spares.claim().is_none());
    }
}
