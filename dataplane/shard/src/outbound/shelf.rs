//! Idle connections that any shard of the node may take.
//!
//! A connection that was just used stays with its shard ([`super::pool`]), where using it again costs nothing. One that nobody
//! wanted for a moment comes here, off its shard's ring, and the shard that has the next request for its origin takes it: a quiet
//! origin has one connection, not one for each core.
//!
//! *Invariant:* no shard waits here: who finds the lock taken for longer than some microseconds does without, and keeps what it would put. *Bounds:* connections in all and to one origin, and
//! how long they stay.

use super::stream::{Adrift, Origin};
use crate::config::{POOL_IDLE_NS, POOL_IDLE_PER_ORIGIN_MAX, SHELF_MAX};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, TryLockError};
use worker_api::event::MonotonicNs;

/// How often the lock is tried: some microseconds. Shards come at the same moment, for their ticks do.
const TRIES: usize = 200;

struct Kept {
    adrift: Adrift,
    since_ns: MonotonicNs,
}

#[derive(Default)]
struct Rows {
    by_origin: HashMap<Origin, Vec<Kept>>,
    len: usize,
}

/// The idle connections of a node.
#[derive(Default)]
pub(crate) struct Shelf {
    rows: Mutex<Rows>,
}

/// The shelf while a shard puts connections there.
pub(crate) struct Open<'s>(MutexGuard<'s, Rows>);

impl Open<'_> {
    /// Puts a connection here that was last used at `since_ns`; one too many is closed.
    pub(crate) fn put(&mut self, origin: &Origin, adrift: Adrift, since_ns: MonotonicNs) {
        let rows = &mut *self.0;
        if rows.len >= SHELF_MAX {
            return;
        }
        let list = rows.by_origin.entry(origin.clone()).or_default();
        if list.len() < POOL_IDLE_PER_ORIGIN_MAX {
            list.push(Kept { adrift, since_ns });
            rows.len += 1;
        }
    }
}

impl Shelf {
    fn try_lock(&self) -> Option<MutexGuard<'_, Rows>> {
        for _ in 0..TRIES {
            match self.rows.try_lock() {
                Ok(rows) => return Some(rows),
                // Whoever panicked left whole rows: each change is one call.
                Err(TryLockError::Poisoned(poisoned)) => return Some(poisoned.into_inner()),
                Err(TryLockError::WouldBlock) => std::hint::spin_loop(),
            }
        }
        None
    }

    /// Takes a connection to an origin, the one put last.
    pub(crate) fn take(&self, origin: &Origin) -> Option<Adrift> {
        let mut rows = self.try_lock()?;
        let list = rows.by_origin.get_mut(origin)?;
        let taken = list.pop();
        if list.is_empty() {
            rows.by_origin.remove(origin);
        }
        rows.len -= usize::from(taken.is_some());
        taken.map(|kept| kept.adrift)
    }

    /// The place for connections to be put; none if somebody is just at it.
    pub(crate) fn open(&self) -> Option<Open<'_>> {
        self.try_lock().map(Open)
    }

    /// Closes what has been idle for too long, and what its origin has closed.
    pub(crate) fn sweep(&self, now_ns: MonotonicNs) {
        let Some(mut rows) = self.try_lock() else { return };
        let mut len = 0;
        rows.by_origin.retain(|_, list| {
            list.retain_mut(|kept| kept.since_ns + POOL_IDLE_NS > now_ns && kept.adrift.is_quiet());
            len += list.len();
            !list.is_empty()
        });
        rows.len = len;
    }

    /// Connections here; none if somebody is just at it.
    pub(crate) fn len(&self) -> Option<usize> {
        self.try_lock().map(|rows| rows.len)
    }
}
