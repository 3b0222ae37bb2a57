//! `RouteCache`: what [`lookup`] answered, for the hosts and paths that are asked for most.
//!
//! One a shard. A key is a request's `Host` field and its path as they were sent, up to the query: a hit normalises nothing.
//! An entry counts for [`TTL_NS`] and for the snapshot it was looked up in: another snapshot makes every entry stale at once,
//! by a number. Stale entries keep their keys: [`RouteCache::warm`] looks them up again, the most recently used first, a few
//! at a time, so that a new snapshot costs no request a pause; what is asked for before its turn is looked up then.
//!
//! *Eviction:* least recently used. A hit moves an entry to the front of the list only from its older half, as a move writes
//! to four entries: what was used among the last [`ENTRIES_MAX`]` / 2` is never evicted.
//! *Bounds:* [`ENTRIES_MAX`] entries with keys of [`KEY_BYTES_MAX`] bytes, [`MEMORY_BYTES_MAX`] in all; longer requests are
//! looked up each time, as are those that lead nowhere. *Invariant:* it never answers other than `lookup` would.
//! Sans-IO: time and the hash's seed are arguments. No failures.

use plane_abi::pattern::path_end;
use plane_abi::{DeploymentIx, Snapshot, SnapshotHeader};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::lookup;

/// Entries of one cache (issue: 100 K).
pub const ENTRIES_MAX: usize = 100_000;
/// How long an entry counts, nanoseconds (seed 000, `ROUTE_CACHE.set`).
pub const TTL_NS: u64 = 60 * base::limits::S_NS;
/// Host and path of one entry, bytes.
pub const KEY_BYTES_MAX: usize = 256;
/// What one cache takes with all its entries and the longest keys, bytes.
pub const MEMORY_BYTES_MAX: usize = SLOTS * size_of::<u32>()
    + (ENTRIES_MAX + 1).next_power_of_two() * size_of::<Entry>()
    + ENTRIES_MAX * (1 + KEY_BYTES_MAX + ALLOCATION_BYTES);

const _: () = assert!(MEMORY_BYTES_MAX <= 50_000_000, "issue: at most 50 MB a shard");

/// What the allocator takes beside a key.
const ALLOCATION_BYTES: usize = 16;
/// Places of the index: a power of two, at most half of them used.
const SLOTS: usize = (2 * ENTRIES_MAX).next_power_of_two();
const NONE: u32 = u32::MAX;

/// An entry, in the list of all by use. On a cache line of its own.
#[derive(Debug)]
#[repr(align(64))]
struct Entry {
    hash: u64,
    expires_ns: u64,
    key: Box<[u8]>,
    newer: u32,
    older: u32,
    place: DeploymentIx,
    epoch: u32,
    /// The count of moves when it moved to the front.
    moved: u32,
}

/// How often a cache had an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheCounts {
    /// Answers from an entry.
    pub hits: u64,
    /// Answers from the snapshot.
    pub misses: u64,
    /// Entries looked up again by [`RouteCache::warm`].
    pub warmed: u64,
}

/// See the module's text.
#[derive(Debug)]
pub struct RouteCache {
    seed: u64,
    /// An entry's number at its hash, or at the next free place after.
    index: Vec<u32>,
    entries: Vec<Entry>,
    newest: u32,
    oldest: u32,
    moves: u32,
    snapshot: Option<SnapshotHeader>,
    epoch: u32,
    /// The next entry to be warmed.
    warm_next: u32,
    counts: CacheCounts,
}

/// A request's key, not yet in one piece.
#[derive(Clone, Copy)]
struct Key<'a> {
    host: &'a [u8],
    path: &'a [u8],
}

impl<'a> Key<'a> {
    /// None: too long.
    #[inline]
    fn new(host: &'a [u8], path: &'a [u8]) -> Option<Key<'a>> {
        let path = &path[..path_end(path)];
        (host.len() <= usize::from(u8::MAX) && host.len() + path.len() <= KEY_BYTES_MAX).then_some(Key { host, path })
    }

    fn hash(self, seed: u64) -> u64 {
        xxh3_64_with_seed(self.path, xxh3_64_with_seed(self.host, seed))
    }

    fn is(self, kept: &[u8]) -> bool {
        parts(kept) == (self.host, self.path)
    }

    /// The host's length, which tells `a` and `b/` from `ab` and `/`, the host, the path.
    fn keep(self) -> Box<[u8]> {
        [&[self.host.len() as u8], self.host, self.path].concat().into_boxed_slice()
    }
}

/// The host and path of a key.
fn parts(key: &[u8]) -> (&[u8], &[u8]) {
    key.split_first().map_or((&[], &[]), |(length, rest)| rest.split_at(usize::from(*length).min(rest.len())))
}

impl RouteCache {
    /// An empty cache. `seed` is random and told to nobody: keys that fall together cannot be chosen.
    pub fn new(seed: u64) -> RouteCache {
        RouteCache {
            seed,
            index: vec![NONE; SLOTS],
            entries: Vec::new(),
            newest: NONE,
            oldest: NONE,
            moves: 0,
            snapshot: None,
            epoch: 0,
            warm_next: NONE,
            counts: CacheCounts::default(),
        }
    }

    /// As [`lookup`], from the cache where it can be.
    pub fn lookup(&mut self, snapshot: &Snapshot, host: &[u8], path: &[u8], now_ns: u64) -> Option<DeploymentIx> {
        self.meet(snapshot);
        let Some(key) = Key::new(host, path) else {
            self.counts.misses += 1;
            return lookup(snapshot, host, path);
        };
        let hash = key.hash(self.seed);
        let (slot, found) = self.slot(hash, key);
        if let Some(number) = found {
            let entry = &self.entries[number as usize];
            if entry.epoch == self.epoch && now_ns < entry.expires_ns {
                let place = entry.place;
                self.counts.hits += 1;
                self.used(number);
                return Some(place);
            }
        }
        self.counts.misses += 1;
        let place = lookup(snapshot, host, path);
        match (place, found) {
            (Some(place), Some(number)) => {
                self.renew(number, place, now_ns);
                self.used(number);
            }
            (Some(place), None) => self.insert(slot, hash, key.keep(), place, now_ns),
            (None, Some(number)) => self.remove(number),
            (None, None) => {}
        }
        place
    }

    /// Looks up at most `count` stale entries again, the most recently used first. Whether there are more.
    pub fn warm(&mut self, snapshot: &Snapshot, now_ns: u64, count: usize) -> bool {
        self.meet(snapshot);
        for _ in 0..count {
            let number = self.warm_next;
            let Some(entry) = self.entries.get(number as usize) else { return false };
            self.warm_next = entry.older;
            if entry.epoch == self.epoch {
                continue;
            }
            let (host, path) = parts(&entry.key);
            match lookup(snapshot, host, path) {
                Some(place) => self.renew(number, place, now_ns),
                None => self.remove(number),
            }
            self.counts.warmed += 1;
        }
        self.warm_next != NONE
    }

    /// Entries, stale ones among them.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What happened so far.
    pub fn counts(&self) -> CacheCounts {
        self.counts
    }

    /// What it takes, bytes, the allocator's own 16 a key included.
    pub fn memory_bytes(&self) -> usize {
        let keys: usize = self.entries.iter().map(|entry| entry.key.len() + ALLOCATION_BYTES).sum();
        self.index.capacity() * size_of::<u32>() + self.entries.capacity() * size_of::<Entry>() + keys
    }

    /// Another snapshot makes what is there stale.
    #[inline]
    fn meet(&mut self, snapshot: &Snapshot) {
        let header = snapshot.header();
        if self.snapshot.replace(header) != Some(header) {
            self.epoch = self.epoch.wrapping_add(1);
            self.warm_next = self.newest;
        }
    }

    fn renew(&mut self, number: u32, place: DeploymentIx, now_ns: u64) {
        let entry = &mut self.entries[number as usize];
        (entry.place, entry.epoch, entry.expires_ns) = (place, self.epoch, now_ns.saturating_add(TTL_NS));
    }

    /// Where a key stands in the index, or where it would, and its entry.
    #[inline]
    fn slot(&self, hash: u64, key: Key<'_>) -> (usize, Option<u32>) {
        let mut slot = hash as usize % SLOTS;
        // Ends: at most half of the places are used.
        loop {
            let number = self.index[slot];
            let Some(entry) = self.entries.get(number as usize) else { return (slot, None) };
            if entry.hash == hash && key.is(&entry.key) {
                return (slot, Some(number));
            }
            slot = (slot + 1) % SLOTS;
        }
    }

    /// The place in the index that names an entry.
    fn slot_of(&self, number: u32) -> usize {
        let mut slot = self.entries[number as usize].hash as usize % SLOTS;
        while self.index[slot] != number {
            slot = (slot + 1) % SLOTS;
        }
        slot
    }

    fn insert(&mut self, slot: usize, hash: u64, key: Box<[u8]>, place: DeploymentIx, now_ns: u64) {
        let number = self.entries.len() as u32;
        let expires_ns = now_ns.saturating_add(TTL_NS);
        let epoch = self.epoch;
        // It stands in the index before another leaves, which may move it.
        self.index[slot] = number;
        self.entries.push(Entry { hash, expires_ns, key, newer: NONE, older: NONE, place, epoch, moved: 0 });
        self.move_to_front(number);
        if self.entries.len() > ENTRIES_MAX {
            self.remove(self.oldest);
        }
    }

    #[inline]
    fn used(&mut self, number: u32) {
        let since = self.moves.wrapping_sub(self.entries[number as usize].moved);
        if since > (ENTRIES_MAX / 2) as u32 {
            self.unlink(number);
            self.move_to_front(number);
        }
    }

    fn move_to_front(&mut self, number: u32) {
        self.moves = self.moves.wrapping_add(1);
        let entry = &mut self.entries[number as usize];
        (entry.newer, entry.older, entry.moved) = (NONE, self.newest, self.moves);
        match self.entries.get_mut(self.newest as usize) {
            Some(second) => second.newer = number,
            None => self.oldest = number,
        }
        self.newest = number;
    }

    fn unlink(&mut self, number: u32) {
        let Entry { newer, older, .. } = self.entries[number as usize];
        match self.entries.get_mut(newer as usize) {
            Some(entry) => entry.older = older,
            None => self.newest = older,
        }
        match self.entries.get_mut(older as usize) {
            Some(entry) => entry.newer = newer,
            None => self.oldest = newer,
        }
        if self.warm_next == number {
            self.warm_next = older;
        }
    }

    /// Takes an entry out; the last one gets its number.
    fn remove(&mut self, number: u32) {
        self.unlink(number);
        self.clear_slot(self.slot_of(number));
        let last = self.entries.len() as u32 - 1;
        if last != number {
            let slot = self.slot_of(last);
            self.index[slot] = number;
            let Entry { newer, older, .. } = self.entries[last as usize];
            match self.entries.get_mut(newer as usize) {
                Some(entry) => entry.older = number,
                None => self.newest = number,
            }
            match self.entries.get_mut(older as usize) {
                Some(entry) => entry.newer = number,
                None => self.oldest = number,
            }
            if self.warm_next == last {
                self.warm_next = number;
            }
        }
        self.entries.swap_remove(number as usize);
    }

    /// Empties a place of the index and closes the gap: every entry stays findable from its hash's place on.
    fn clear_slot(&mut self, slot: usize) {
        let (mut gap, mut next) = (slot, (slot + 1) % SLOTS);
        while let Some(entry) = self.entries.get(self.index[next] as usize) {
            let wanted = entry.hash as usize % SLOTS;
            // Whether the gap lies between the place it wants and the one it has, around the end.
            if (next + SLOTS - wanted) % SLOTS >= (next + SLOTS - gap) % SLOTS {
                self.index[gap] = self.index[next];
                gap = next;
            }
            next = (next + 1) % SLOTS;
        }
        self.index[gap] = NONE;
    }
}
