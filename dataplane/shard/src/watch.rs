//! Time limits of connections without a timer each: a connection stores a deadline, the shard's ticker looks at all of
//! them. Setting a deadline is one store; a tick costs a few nanoseconds a connection; a limit is late by up to a tick.

use slab::Slab;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::Waker;
use worker_api::event::MonotonicNs;

/// A connection's place in the ticker's list.
pub(crate) struct Watch {
    deadline_ns: Cell<MonotonicNs>,
    expired: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Watch {
    /// Sets the deadline, and forgets that the last one passed.
    pub(crate) fn set(&self, deadline_ns: MonotonicNs) {
        self.deadline_ns.set(deadline_ns);
        self.expired.set(false);
    }

    /// No deadline.
    pub(crate) fn clear(&self) {
        self.set(MonotonicNs::MAX);
    }

    /// Whether a deadline is set.
    pub(crate) fn is_set(&self) -> bool {
        self.deadline_ns.get() != MonotonicNs::MAX
    }

    /// Whether the deadline has passed since it was set.
    pub(crate) fn expired(&self) -> bool {
        self.expired.get()
    }

    /// The task to wake when the deadline passes. A task keeps its waker for life, so this is kept after the first call.
    pub(crate) fn remember(&self, waker: &Waker) {
        let mut kept = self.waker.borrow_mut();
        if !kept.as_ref().is_some_and(|old| old.will_wake(waker)) {
            *kept = Some(waker.clone());
        }
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }
}

/// All watches of a shard.
#[derive(Default)]
pub(crate) struct Watches {
    list: RefCell<Slab<Rc<Watch>>>,
}

/// A watch that leaves the list when dropped.
pub(crate) struct Watched {
    watch: Rc<Watch>,
    list: Rc<Watches>,
    key: usize,
}

impl Watches {
    pub(crate) fn add(self: &Rc<Watches>) -> Watched {
        let watch = Rc::new(Watch {
            deadline_ns: Cell::new(MonotonicNs::MAX),
            expired: Cell::new(false),
            waker: RefCell::new(None),
        });
        let key = self.list.borrow_mut().insert(watch.clone());
        Watched { watch, list: self.clone(), key }
    }

    /// Wakes those whose deadline has passed.
    pub(crate) fn tick(&self, now_ns: MonotonicNs) {
        for (_, watch) in self.list.borrow().iter() {
            if watch.deadline_ns.get() <= now_ns {
                watch.deadline_ns.set(MonotonicNs::MAX);
                watch.expired.set(true);
                watch.wake();
            }
        }
    }

    /// Wakes all, to look at what has changed.
    pub(crate) fn wake_all(&self) {
        for (_, watch) in self.list.borrow().iter() {
            watch.wake();
        }
    }
}

impl std::ops::Deref for Watched {
    type Target = Watch;

    fn deref(&self) -> &Watch {
        &self.watch
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.list.list.borrow_mut().remove(self.key);
    }
}
