//! Artifacts on their way from the control plane. Sans-IO: takes parts, gives requests and whole artifacts, each checked
//! against its hash. Compiled code comes the same way under a name of its own (`plane_abi::code::code_name`) and is
//! checked by whoever takes it.

use std::collections::{HashMap, HashSet, VecDeque};

use base::id::ArtifactHash;
use base::limits::MODULE_BYTES_MAX;
use plane_abi::code::{ENVELOPE_BYTES_MAX, code_name};
use plane_abi::plane::artifact_hash;
use plane_abi::wire::ArtifactPart;

/// Requests under way; below what the control plane queues for one connection.
const REQUESTS_MAX: usize = 16;

/// What is fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Item {
    /// A module.
    Module(ArtifactHash),
    /// The compiled code of a module.
    Code(ArtifactHash),
}

impl Item {
    /// What it is asked for by.
    fn name(self) -> ArtifactHash {
        match self {
            Item::Module(hash) => hash,
            Item::Code(artifact) => code_name(artifact),
        }
    }

    fn bytes_max(self) -> usize {
        match self {
            Item::Module(_) => MODULE_BYTES_MAX,
            Item::Code(_) => ENVELOPE_BYTES_MAX,
        }
    }
}

/// How a fetch ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fetched {
    pub(crate) item: Item,
    /// The bytes, or what went wrong.
    pub(crate) bytes: Result<Vec<u8>, &'static str>,
}

#[derive(Default)]
pub(crate) struct Fetches {
    queue: VecDeque<Item>,
    /// Queued or under way.
    wanted: HashSet<Item>,
    /// By what they were asked for.
    under_way: HashMap<ArtifactHash, (Item, Vec<u8>)>,
}

impl Fetches {
    /// Wants artifacts; those wanted already are not asked for twice.
    pub(crate) fn want(&mut self, items: impl IntoIterator<Item = Item>) {
        for item in items {
            if self.wanted.insert(item) {
                self.queue.push_back(item);
            }
        }
    }

    /// Wants artifacts that somebody waits for: before all others, and in this order.
    pub(crate) fn want_first<const N: usize>(&mut self, items: [Item; N]) {
        for item in items.into_iter().rev() {
            if !self.wanted.insert(item) {
                match self.queue.iter().position(|queued| *queued == item) {
                    Some(at) => self.queue.remove(at),
                    // Asked for already.
                    None => continue,
                };
            }
            self.queue.push_front(item);
        }
    }

    /// Forgets what has not been asked for yet.
    pub(crate) fn forget_queued(&mut self) {
        for item in self.queue.drain(..) {
            self.wanted.remove(&item);
        }
    }

    /// What to ask for next.
    pub(crate) fn poll_request(&mut self) -> Option<ArtifactHash> {
        if self.under_way.len() >= REQUESTS_MAX {
            return None;
        }
        let item = self.queue.pop_front()?;
        self.under_way.insert(item.name(), (item, Vec::new()));
        Some(item.name())
    }

    /// Takes a part. Parts of an artifact that is not under way are passed over: it has failed before.
    pub(crate) fn handle_part(&mut self, part: ArtifactPart) -> Option<Fetched> {
        let name = ArtifactHash::from(part.hash);
        let (item, bytes) = self.under_way.get_mut(&name)?;
        let end = bytes.len() as u64 + part.bytes.0.len() as u64;
        if part.total_bytes > item.bytes_max() as u64 || part.offset != bytes.len() as u64 || end > part.total_bytes {
            return self.finish(name, Err("its parts do not fit together or are over the limit"));
        }
        bytes.extend_from_slice(&part.bytes.0);
        if end < part.total_bytes {
            return None;
        }
        let bytes = std::mem::take(bytes);
        let checked = match item {
            Item::Module(hash) if artifact_hash(&bytes) != *hash => Err("its bytes do not match its hash"),
            _ => Ok(bytes),
        };
        self.finish(name, checked)
    }

    /// The control plane has none.
    pub(crate) fn handle_missing(&mut self, name: ArtifactHash) -> Option<Fetched> {
        self.finish(name, Err("the control plane does not have it"))
    }

    fn finish(&mut self, name: ArtifactHash, bytes: Result<Vec<u8>, &'static str>) -> Option<Fetched> {
        let (item, _) = self.under_way.remove(&name)?;
        self.wanted.remove(&item);
        Some(Fetched { item, bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use plane_abi::wire::Blob;

    fn part(hash: ArtifactHash, total_bytes: u64, offset: u64, bytes: &[u8]) -> ArtifactPart {
        ArtifactPart { hash: hash.into(), total_bytes, offset, bytes: Blob(bytes.to_vec()) }
    }

    fn asked(hash: ArtifactHash) -> Fetches {
        let mut fetches = Fetches::default();
        fetches.want([Item::Module(hash), Item::Module(hash)]);
        assert_eq!((fetches.poll_request(), fetches.poll_request()), (Some(hash), None));
        fetches
    }

    #[test]
    fn parts_become_an_artifact_once() {
        let hash = artifact_hash(b"abcd");
        let mut fetches = asked(hash);
        assert_eq!(fetches.handle_part(part(hash, 4, 0, b"ab")), None);
        let whole = Some(Fetched { item: Item::Module(hash), bytes: Ok(b"abcd".to_vec()) });
        assert_eq!(fetches.handle_part(part(hash, 4, 2, b"cd")), whole);
        assert_eq!(fetches.handle_part(part(hash, 4, 0, b"abcd")), None, "nobody asked again");
        let empty = artifact_hash(b"");
        assert_eq!(
            asked(empty).handle_part(part(empty, 0, 0, b"")),
            Some(Fetched { item: Item::Module(empty), bytes: Ok(vec![]) })
        );
    }

    #[test]
    fn wrong_bytes_gaps_excess_and_absence_fail() {
        let hash = artifact_hash(b"abcd");
        let fails = |total, offset, bytes: &[u8]| {
            let fetched = asked(hash).handle_part(part(hash, total, offset, bytes)).expect("ended");
            assert!(fetched.bytes.is_err());
        };
        fails(4, 0, b"abcx");
        fails(4, 1, b"bcd");
        fails(3, 0, b"abcd");
        fails(MODULE_BYTES_MAX as u64 + 1, 0, b"a");
        assert!(asked(hash).handle_missing(hash).is_some_and(|fetched| fetched.bytes.is_err()));
        assert_eq!(Fetches::default().handle_missing(hash), None);
    }

    #[test]
    fn requests_are_bounded_and_queued_ones_can_be_forgotten() {
        let mut fetches = Fetches::default();
        let hashes: Vec<_> = (0..40).map(|n| ArtifactHash([n; 32])).collect();
        fetches.want(hashes.iter().copied().map(Item::Module));
        assert_eq!(std::iter::from_fn(|| fetches.poll_request()).count(), REQUESTS_MAX);
        fetches.handle_missing(hashes[0]);
        assert_eq!(fetches.poll_request(), Some(hashes[REQUESTS_MAX]));
        fetches.forget_queued();
        fetches.handle_missing(hashes[1]);
        assert_eq!(fetches.poll_request(), None);
        fetches.want([Item::Module(hashes[39])]);
        assert_eq!(fetches.poll_request(), Some(hashes[39]));
    }

    #[test]
    fn what_somebody_waits_for_goes_first_and_is_asked_for_once() {
        let mut fetches = Fetches::default();
        let hashes: Vec<_> = (0..4).map(|n| ArtifactHash([n; 32])).collect();
        fetches.want(hashes[..3].iter().copied().map(Item::Module));
        assert_eq!(fetches.poll_request(), Some(hashes[0]));
        fetches.want_first([Item::Code(hashes[2]), Item::Module(hashes[2])]);
        fetches.want_first([Item::Module(hashes[3])]);
        fetches.want_first([Item::Module(hashes[0])]);
        let order: Vec<_> = std::iter::from_fn(|| fetches.poll_request()).collect();
        assert_eq!(order, [hashes[3], code_name(hashes[2]), hashes[2], hashes[1]]);
    }

    #[test]
    fn code_goes_by_a_name_of_its_own_and_is_as_large_as_code_may_be() {
        let module = artifact_hash(b"abcd");
        let mut fetches = Fetches::default();
        fetches.want([Item::Code(module), Item::Module(module)]);
        let name = code_name(module);
        assert_eq!((fetches.poll_request(), fetches.poll_request()), (Some(name), Some(module)));
        let large = ENVELOPE_BYTES_MAX as u64;
        assert_eq!(fetches.handle_part(part(name, large, 0, b"ab")), None);
        let missing = fetches.handle_missing(name).expect("ended");
        assert_eq!((missing.item, missing.bytes.is_err()), (Item::Code(module), true));
        fetches.want([Item::Code(module)]);
        assert_eq!(fetches.poll_request(), Some(name));
        let too_large = fetches.handle_part(part(name, large + 1, 0, b"ab")).expect("ended");
        assert!(too_large.bytes.is_err());
    }
}
