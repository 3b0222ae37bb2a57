//! Idle connections of a shard to origins, the one used last first; see [`super::shelf`] for those that all shards share.

use super::shelf::Shelf;
use super::stream::{Origin, OriginStream};
use crate::config::{POOL_IDLE_MAX, POOL_IDLE_NS, POOL_IDLE_PER_ORIGIN_MAX, SHARE_AFTER_NS};
use crate::io::Io;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::task::{Context, Waker};
use worker_api::event::MonotonicNs;

struct Idle {
    io: Io<OriginStream>,
    since_ns: MonotonicNs,
}

/// The idle connections of a shard.
pub(crate) struct Pool {
    idle: RefCell<HashMap<Origin, Vec<Idle>>>,
    len: Cell<usize>,
}

impl Pool {
    pub(crate) fn new() -> Pool {
        Pool { idle: RefCell::new(HashMap::new()), len: Cell::new(0) }
    }

    /// Connections in the pool.
    pub(crate) fn len(&self) -> usize {
        self.len.get()
    }

    /// Takes a connection that is still open and has said nothing while it was idle.
    pub(crate) fn take(&self, origin: &Origin) -> Option<Io<OriginStream>> {
        let mut idle = self.idle.borrow_mut();
        let list = idle.get_mut(origin)?;
        while let Some(Idle { mut io, .. }) = list.pop() {
            self.len.set(self.len.get() - 1);
            let mut cx = Context::from_waker(Waker::noop());
            if io.poll_fill(&mut cx).is_pending() {
                return Some(io);
            }
        }
        idle.remove(origin);
        None
    }

    /// Puts a connection back whose last response is complete. One too many is closed.
    pub(crate) fn put(&self, origin: Origin, io: Io<OriginStream>, now_ns: MonotonicNs) {
        if self.len.get() >= POOL_IDLE_MAX {
            return;
        }
        let mut idle = self.idle.borrow_mut();
        let list = idle.entry(origin).or_default();
        if list.len() < POOL_IDLE_PER_ORIGIN_MAX {
            list.push(Idle { io, since_ns: now_ns });
            self.len.set(self.len.get() + 1);
        }
    }

    /// Gives connections to the other shards that this one has not wanted for a moment; says how many.
    pub(crate) fn share(&self, shelf: &Shelf, now_ns: MonotonicNs) -> u64 {
        let mut given = 0;
        if self.len.get() == 0 {
            return given;
        }
        let due = |idle: &mut Idle| idle.since_ns + SHARE_AFTER_NS <= now_ns;
        if !self.idle.borrow_mut().values_mut().flatten().any(due) {
            return given;
        }
        // At the next tick, then: they are good here too.
        let Some(mut shelf) = shelf.open() else { return given };
        self.idle.borrow_mut().retain(|origin, list| {
            for Idle { mut io, since_ns } in list.extract_if(.., due) {
                self.len.set(self.len.get() - 1);
                let mut cx = Context::from_waker(Waker::noop());
                if io.poll_fill(&mut cx).is_pending()
                    && let Some(adrift) = io.into_socket().and_then(OriginStream::let_go)
                {
                    shelf.put(origin, adrift, since_ns);
                    given += 1;
                }
            }
            !list.is_empty()
        });
        given
    }

    /// Closes what has been idle for too long.
    pub(crate) fn sweep(&self, now_ns: MonotonicNs) {
        let mut len = 0;
        self.idle.borrow_mut().retain(|_, list| {
            list.retain(|idle| idle.since_ns + POOL_IDLE_NS > now_ns);
            len += list.len();
            !list.is_empty()
        });
        self.len.set(len);
    }
}
