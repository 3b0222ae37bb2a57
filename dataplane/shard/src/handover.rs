//! A node's part in an upgrade: on the one side a node that has its listening sockets from another and waits until it may accept, on the
//! other one that leaves the sockets to its successor and ends its connections where clients notice least.
//!
//! Owns: which of them this node is, the Workers that a successor should have ready, and how many of its shards have them. Does not own the
//! order of an upgrade: see the node's `upgrade`.
//! *Bounds:* [`WORKERS_MAX`] names a shard; [`crate::config::HANDED_OVER_IDLE_NS`] for a connection without a request.
//! *Threads:* all; the lock is held for the copy of a list, and only while somebody asks.

use base::id::DeploymentId;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Workers of a shard that a successor starts before it serves: two every 25 ms, so 3.2 s.
pub const WORKERS_MAX: usize = 256;

/// What all shards of a node share of it.
pub(crate) struct Handover {
    /// Connections are not accepted yet.
    standby: AtomicBool,
    /// Another process goes on with the listening sockets.
    handed_over: AtomicBool,
    /// `scheduled` is another process's affair for now.
    schedules_paused: AtomicBool,
    /// Since when it is this one's, Unix milliseconds; 0: since its start.
    schedules_since_ms: AtomicU64,
    /// Whether the shards' Workers are asked for.
    asked: AtomicBool,
    /// By shard, those that were used last first.
    workers: Mutex<Vec<Option<Vec<DeploymentId>>>>,
    /// Shards that do not have their predecessors' Workers yet.
    cold: AtomicUsize,
}

impl Handover {
    pub(crate) fn new(shards: usize, standby: bool) -> Handover {
        Handover {
            standby: AtomicBool::new(standby),
            handed_over: AtomicBool::new(false),
            schedules_paused: AtomicBool::new(false),
            schedules_since_ms: AtomicU64::new(0),
            asked: AtomicBool::new(false),
            workers: Mutex::new(vec![None; shards]),
            cold: AtomicUsize::new(if standby { shards } else { 0 }),
        }
    }

    pub(crate) fn standby(&self) -> bool {
        self.standby.load(Ordering::Acquire)
    }

    pub(crate) fn begin(&self, schedules_since_ms: Option<u64>) {
        self.schedules_since_ms.store(schedules_since_ms.unwrap_or(0), Ordering::Relaxed);
        self.standby.store(false, Ordering::Release);
    }

    pub(crate) fn handed_over(&self) -> bool {
        self.handed_over.load(Ordering::Relaxed)
    }

    pub(crate) fn hand_over(&self) {
        self.handed_over.store(true, Ordering::Relaxed);
    }

    pub(crate) fn pause_schedules(&self, paused: bool) {
        self.schedules_paused.store(paused, Ordering::SeqCst);
    }

    pub(crate) fn schedules_paused(&self) -> bool {
        self.schedules_paused.load(Ordering::SeqCst)
    }

    pub(crate) fn schedules_since_ms(&self) -> Option<u64> {
        Some(self.schedules_since_ms.load(Ordering::Relaxed)).filter(|ms| *ms > 0)
    }

    /// A shard has the Workers that it was told to have.
    pub(crate) fn warmed(&self) {
        self.cold.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn all_warm(&self) -> bool {
        self.cold.load(Ordering::Relaxed) == 0
    }

    fn lists(&self) -> std::sync::MutexGuard<'_, Vec<Option<Vec<DeploymentId>>>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks every shard for its Workers.
    pub(crate) fn ask(&self) {
        self.lists().fill(None);
        self.asked.store(true, Ordering::Release);
    }

    /// All answers, once they are there.
    pub(crate) fn answers(&self) -> Option<Vec<Vec<DeploymentId>>> {
        self.lists().iter().cloned().collect()
    }

    /// Ends the asking; shards that did not answer have none.
    pub(crate) fn take_answers(&self) -> Vec<Vec<DeploymentId>> {
        self.asked.store(false, Ordering::Relaxed);
        self.lists().iter_mut().map(|list| list.take().unwrap_or_default()).collect()
    }

    /// A shard's answer, if it is asked and has not answered.
    pub(crate) fn answer(&self, shard: usize, workers: impl FnOnce() -> Vec<DeploymentId>) {
        if !self.asked.load(Ordering::Acquire) {
            return;
        }
        let mut lists = self.lists();
        if let Some(list) = lists.get_mut(shard).filter(|list| list.is_none()) {
            *list = Some(workers());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_answer_once_and_only_when_asked() {
        let handover = Handover::new(2, false);
        handover.answer(0, || unreachable!("nobody asked"));
        handover.ask();
        handover.answer(0, || vec![DeploymentId(1)]);
        handover.answer(0, || unreachable!("it has answered"));
        assert_eq!(handover.answers(), None);
        handover.answer(1, Vec::new);
        assert_eq!(handover.answers(), Some(vec![vec![DeploymentId(1)], vec![]]));
        assert_eq!(handover.take_answers().len(), 2);
        handover.answer(1, || unreachable!("the asking has ended"));
    }

    #[test]
    fn a_node_in_standby_is_warm_when_all_its_shards_are() {
        let handover = Handover::new(2, true);
        handover.warmed();
        assert!(handover.standby() && !handover.all_warm());
        handover.warmed();
        handover.begin(Some(5));
        assert!(!handover.standby() && handover.all_warm() && handover.schedules_since_ms() == Some(5));
        assert!(Handover::new(2, false).all_warm());
    }
}
