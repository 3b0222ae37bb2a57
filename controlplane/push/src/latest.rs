//! What is published, and in which form a node gets it: the whole, or a delta from what it has.
//!
//! *Owns:* the latest snapshots, and deltas between them, each made once for all nodes, on a blocking thread. *Bounds:*
//! [`KEPT_MAX`] snapshots of [`KEPT_BYTES_MAX`] bytes in all, and of each at most one delta to the latest.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use plane_abi::limits::PART_BYTES;
use plane_abi::wire::{DeltaFrom, SnapshotBegin};
use plane_abi::{RouteBase, SnapshotHeader, delta};
use tokio::sync::OnceCell;

/// Snapshots of which a delta may be.
const KEPT_MAX: usize = 8;
const KEPT_BYTES_MAX: usize = 256 << 20;

/// Deltas to one snapshot, by the checksum of what they are from; zero for nothing.
type Deltas = Mutex<HashMap<u64, Arc<OnceCell<Arc<[u8]>>>>>;

/// A published snapshot.
#[derive(Clone)]
pub(crate) struct Latest {
    pub(crate) header: SnapshotHeader,
    pub(crate) bytes: Arc<[u8]>,
    /// The base of routes that it names.
    pub(crate) base: Option<Arc<RouteBase>>,
    deltas: Arc<Deltas>,
}

/// What is sent in parts.
pub(crate) struct Offer {
    pub(crate) begin: SnapshotBegin,
    pub(crate) bytes: Arc<[u8]>,
}

impl Latest {
    fn new(header: SnapshotHeader, bytes: Arc<[u8]>, base: Option<Arc<RouteBase>>) -> Latest {
        Latest { header, bytes, base, deltas: Arc::default() }
    }

    /// The snapshot's own bytes.
    pub(crate) fn whole(&self) -> Offer {
        let SnapshotHeader { lineage, generation, checksum } = self.header;
        let bytes = Arc::clone(&self.bytes);
        let begin = SnapshotBegin { lineage, generation, checksum, total_bytes: bytes.len() as u64, delta: None };
        Offer { begin, bytes }
    }

    /// For a node that has `old`; compressed, if it is small, for a node that has nothing we know of. The whole where that
    /// would be no smaller.
    pub(crate) async fn offer(&self, old: Option<Latest>) -> Offer {
        let whole = self.whole();
        if old.is_none() && self.bytes.len() > PART_BYTES {
            return whole;
        }
        let (generation, checksum) = old.as_ref().map_or((0, 0), |old| (old.header.generation, old.header.checksum));
        let cell = {
            let mut deltas = self.deltas.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(deltas.entry(checksum).or_default())
        };
        let made = cell.get_or_init(|| async {
            let new = Arc::clone(&self.bytes);
            let make = move || Arc::from(delta::make(old.as_ref().map_or(&[], |old| &old.bytes), &new));
            // A panic in there would only cost the delta.
            tokio::task::spawn_blocking(make).await.unwrap_or_else(|_| Arc::clone(&self.bytes))
        });
        let made = Arc::clone(made.await);
        if made.len() >= self.bytes.len() {
            return whole;
        }
        let delta = Some(DeltaFrom { generation, checksum, bytes: self.bytes.len() as u64 });
        Offer { begin: SnapshotBegin { total_bytes: made.len() as u64, delta, ..whole.begin }, bytes: made }
    }
}

/// The snapshots published last, the newest last.
#[derive(Default)]
pub(crate) struct Kept(VecDeque<Latest>);

impl Kept {
    /// Keeps a snapshot, unless it is here: then that one.
    pub(crate) fn keep(&mut self, header: SnapshotHeader, bytes: Arc<[u8]>, base: Option<Arc<RouteBase>>) -> Latest {
        if let Some(kept) = self.find(header) {
            return kept;
        }
        let latest = Latest::new(header, bytes, base);
        self.0.push_back(latest.clone());
        let bytes = |kept: &VecDeque<Latest>| kept.iter().map(|one| one.bytes.len()).sum::<usize>();
        while self.0.len() > KEPT_MAX || self.0.len() > 1 && bytes(&self.0) > KEPT_BYTES_MAX {
            self.0.pop_front();
        }
        latest
    }

    pub(crate) fn find(&self, header: SnapshotHeader) -> Option<Latest> {
        self.0.iter().find(|one| one.header == header).cloned()
    }

    pub(crate) fn header_of(&self, generation: u64) -> Option<SnapshotHeader> {
        self.0.iter().map(|one| one.header).find(|header| header.generation == generation)
    }
}
