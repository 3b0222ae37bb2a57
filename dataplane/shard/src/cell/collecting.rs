//! The garbage of an idle Worker, of which a little is collected at a time: [`crate::spares::collect`] says when.

use std::rc::Rc;

use worker_api::event::Event;

use super::WorkerCell;
use crate::lifecycle::IsolateState;
use crate::shard::Shard;

/// Where the collection of an idle Worker's garbage is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Collection {
    /// The Worker is to be asked for some of it.
    Due,
    /// It was, and has not answered.
    Asked,
    Over,
}

impl WorkerCell {
    /// Nobody needs the Worker for a while.
    pub(crate) fn idle(&self, shard: &Shard) {
        self.lifecycle.to(&shard.metrics.transitions, IsolateState::Idle);
        self.collection.set(Collection::Due);
    }

    /// Where the collection of its garbage is; over if it is not idle any more.
    pub(crate) fn collection(&self) -> Collection {
        if self.lifecycle.state() == IsolateState::Idle { self.collection.get() } else { Collection::Over }
    }

    /// Has the idle Worker collect a little of its garbage, at its next turn.
    pub(crate) fn collect(self: &Rc<Self>, shard: &Rc<Shard>) {
        self.collection.set(Collection::Asked);
        let now = shard.clock.now();
        if self.seat.is_none() {
            shard.apart.send(self.number, now, Event::Collect);
        } else {
            self.inbox.borrow_mut().push_back((now.monotonic_ns, Event::Collect));
            shard.turns.wait(self);
        }
    }
}
