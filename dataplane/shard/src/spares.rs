//! What a shard does while it has nothing better to do: it makes spare isolates for Workers to come, and collects the garbage of
//! Workers that have become idle.
//!
//! *Owns:* when a step towards the next spare is taken: while no request is open and no Worker waits for a turn. Where that is so at
//! none of [`PATIENCE`] looks, [`PATIENCE_WITHOUT`] where there is no spare at all, a step is taken all the same: a start without a
//! spare holds the shard for the time of both steps, and where tenants compute without end and are restarted for it there is no
//! better moment. But never while the node's memory is short. Garbage is collected in the same moments, in turns of its Worker.
//! *Bounds:* one step of each between two looks of the executor at its rings: a millisecond, or the end of a collection, which V8
//! does in one piece (some 10 ms of a heap of 30 MB).
//! *Thread:* its shard's.

use crate::config::TICK;
use crate::memory_budget::Pressure;
use crate::shard::Shard;
use glommio::timer::Timer;
use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;
use worker_api::{Engine, Spare};

/// Between two looks while spares are missing.
const LOOK_GAP: Duration = Duration::from_millis(2);
/// Looks that find open requests before a step is taken beside them.
const PATIENCE: u32 = 50;
/// The same while there is no spare.
const PATIENCE_WITHOUT: u32 = 5;

pub(crate) struct Spares {
    spares: RefCell<worker_api::Spares>,
    /// Wakes [`run`] when one was claimed.
    waker: RefCell<Option<Waker>>,
}

impl Spares {
    pub(crate) fn new(engine: &Engine, count: usize) -> Spares {
        Spares { spares: RefCell::new(worker_api::Spares::new(engine, count)), waker: RefCell::new(None) }
    }

    /// One for a Worker that starts, if any is left.
    pub(crate) fn claim(&self, shard: &Shard) -> Option<Spare> {
        let mut spares = self.spares.borrow_mut();
        let claimed = spares.claim();
        let metrics = &shard.metrics;
        (if claimed.is_some() { &metrics.spares_claimed } else { &metrics.starts_without_spare }).add(1);
        metrics.spares_ready.set(spares.ready() as u64);
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
        claimed
    }

    /// Looks that a step waits for.
    fn patience(&self) -> u32 {
        if self.spares.borrow().ready() == 0 { PATIENCE_WITHOUT } else { PATIENCE }
    }

    /// Does a step. Whether more is left to do.
    fn refill_step(&self, shard: &Shard) -> bool {
        let mut spares = self.spares.borrow_mut();
        let more = spares.refill_step();
        shard.metrics.spares_ready.set(spares.ready() as u64);
        more
    }

    /// Waits until one is claimed.
    async fn claimed(&self) {
        let mut waited = false;
        poll_fn(|cx| {
            if waited {
                return Poll::Ready(());
            }
            waited = true;
            *self.waker.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

/// Refills until the shard drains.
pub(crate) async fn run(shard: Rc<Shard>) {
    let mut in_vain = 0;
    loop {
        Timer::new(LOOK_GAP).await;
        if shard.draining() {
            return;
        }
        if shard.memory().pressure() >= Pressure::High {
            continue;
        }
        if (shard.turns.waiting() > 0 || shard.requests_open() > 0) && in_vain < shard.spares.patience() {
            in_vain += 1;
            continue;
        }
        in_vain = 0;
        if !shard.spares.refill_step(&shard) {
            shard.spares.claimed().await;
        }
    }
}

/// Has Workers that have become idle collect their garbage, bit by bit, until the shard drains.
pub(crate) async fn collect(shard: Rc<Shard>) {
    let (mut more, mut in_vain) = (false, 0);
    loop {
        Timer::new(if more { LOOK_GAP } else { TICK }).await;
        if shard.draining() {
            return;
        }
        if (shard.turns.waiting() > 0 || shard.requests_open() > 0) && in_vain < PATIENCE {
            in_vain += 1;
            continue;
        }
        in_vain = 0;
        more = shard.collect_some();
    }
}
