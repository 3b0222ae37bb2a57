//! One timer for all Workers of a shard: the earliest timeout first.

use crate::cell::WorkerCell;
use crate::shard::Shard;
use glommio::timer::Timer;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use worker_api::event::{Event, MonotonicNs};

/// The timeouts of a shard's Workers, each at most once.
pub(crate) struct WorkerTimers {
    queue: RefCell<BTreeMap<(MonotonicNs, u64), Weak<WorkerCell>>>,
    /// What the timer's task sleeps for.
    sleeping_until_ns: Cell<MonotonicNs>,
    waker: RefCell<Option<Waker>>,
}

impl WorkerTimers {
    pub(crate) fn new() -> WorkerTimers {
        WorkerTimers {
            queue: RefCell::new(BTreeMap::new()),
            sleeping_until_ns: Cell::new(MonotonicNs::MAX),
            waker: RefCell::new(None),
        }
    }

    /// Puts `timeout_ns` in the place of the cell's last timeout; `MonotonicNs::MAX` for none.
    pub(crate) fn arm(&self, cell: &Rc<WorkerCell>, timeout_ns: MonotonicNs) {
        let mut queue = self.queue.borrow_mut();
        queue.remove(&(cell.armed_ns.get(), cell.number));
        cell.armed_ns.set(timeout_ns);
        if timeout_ns == MonotonicNs::MAX {
            return;
        }
        queue.insert((timeout_ns, cell.number), Rc::downgrade(cell));
        if timeout_ns < self.sleeping_until_ns.get()
            && let Some(waker) = self.waker.borrow().as_ref()
        {
            waker.wake_by_ref();
        }
    }

    fn keep(&self, waker: &Waker) {
        let mut kept = self.waker.borrow_mut();
        if !kept.as_ref().is_some_and(|old| old.will_wake(waker)) {
            *kept = Some(waker.clone());
        }
    }

    fn first_ns(&self) -> MonotonicNs {
        self.queue.borrow().first_key_value().map_or(MonotonicNs::MAX, |((timeout_ns, _), _)| *timeout_ns)
    }

    fn take_due(&self, now_ns: MonotonicNs) -> Option<Weak<WorkerCell>> {
        let mut queue = self.queue.borrow_mut();
        let first = queue.first_entry().filter(|first| first.key().0 <= now_ns)?;
        Some(first.remove())
    }
}

/// Calls each Worker when it asked to be called, until the shard's executor ends.
pub(crate) async fn run(shard: Rc<Shard>) {
    let mut sleep: Option<(MonotonicNs, Timer)> = None;
    poll_fn(|cx| poll(&shard, &mut sleep, cx)).await;
}

fn poll(shard: &Rc<Shard>, sleep: &mut Option<(MonotonicNs, Timer)>, cx: &mut Context<'_>) -> Poll<()> {
    let timers = &shard.worker_timers;
    let now_ns = shard.clock.now_ns();
    while let Some(cell) = timers.take_due(now_ns) {
        let Some(cell) = cell.upgrade() else { continue };
        cell.armed_ns.set(MonotonicNs::MAX);
        if cell.take_timeout(now_ns) {
            cell.send(shard, Event::Timeout);
        }
        // A Worker that wants to be called again at once waits for its turn all the same. One that has yet to see the event, or
        // to say what it wants next, is not due again before it has.
        let again_ns = cell.timeout_ns();
        if again_ns != MonotonicNs::MAX {
            timers.arm(&cell, again_ns.max(now_ns + 1));
        }
    }
    timers.keep(cx.waker());
    let first_ns = timers.first_ns();
    timers.sleeping_until_ns.set(first_ns);
    if sleep.as_ref().is_none_or(|(until_ns, _)| *until_ns != first_ns) {
        *sleep = (first_ns != MonotonicNs::MAX)
            .then(|| (first_ns, Timer::new(Duration::from_nanos(first_ns.saturating_sub(now_ns)))));
    }
    if let Some((_, timer)) = sleep
        && Pin::new(timer).poll(cx).is_ready()
    {
        *sleep = None;
        cx.waker().wake_by_ref();
    }
    Poll::Pending
}
