//! Artifacts on their way from the control plane. Sans-IO: takes parts, gives requests and whole artifacts, each checked
//! against its hash.

use std::collections::{HashMap, HashSet, VecDeque};

use base::id::ArtifactHash;
use base::limits::MODULE_BYTES_MAX;
use plane_abi::plane::artifact_hash;
use plane_abi::wire::ArtifactPart;

/// Requests under way; below what the control plane queues for one connection.
const REQUESTS_MAX: usize = 16;

/// How a fetch ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fetched {
    pub(crate) hash: ArtifactHash,
    /// The bytes, or what went wrong.
    pub(crate) bytes: Result<Vec<u8>, &'static str>,
}

#[derive(Default)]
pub(crate) struct Fetches {
    queue: VecDeque<ArtifactHash>,
    /// Queued or under way.
    wanted: HashSet<ArtifactHash>,
    under_way: HashMap<ArtifactHash, Vec<u8>>,
}

impl Fetches {
    /// Wants artifacts; those wanted already are not asked for twice.
    pub(crate) fn want(&mut self, hashes: impl IntoIterator<Item = ArtifactHash>) {
        for hash in hashes {
            if self.wanted.insert(hash) {
                self.queue.push_back(hash);
            }
        }
    }

    /// Forgets what has not been asked for yet.
    pub(crate) fn forget_queued(&mut self) {
        for hash in self.queue.drain(..) {
            self.wanted.remove(&hash);
        }
    }

    /// The next artifact to ask for.
    pub(crate) fn poll_request(&mut self) -> Option<ArtifactHash> {
        if self.under_way.len() >= REQUESTS_MAX {
            return None;
        }
        let hash = self.queue.pop_front()?;
        self.under_way.insert(hash, Vec::new());
        Some(hash)
    }

    /// Takes a part. Parts of an artifact that is not under way are passed over: it has failed before.
    pub(crate) fn handle_part(&mut self, part: ArtifactPart) -> Option<Fetched> {
        let hash = ArtifactHash::from(part.hash);
        let bytes = self.under_way.get_mut(&hash)?;
        let end = bytes.len() as u64 + part.bytes.0.len() as u64;
        if part.total_bytes > MODULE_BYTES_MAX as u64 || part.offset != bytes.len() as u64 || end > part.total_bytes {
            return self.finish(hash, Err("its parts do not fit together or are over the limit"));
        }
        bytes.extend_from_slice(&part.bytes.0);
        if end < part.total_bytes {
            return None;
        }
        let bytes = std::mem::take(bytes);
        let checked = if artifact_hash(&bytes) == hash { Ok(bytes) } else { Err("its bytes do not match its hash") };
        self.finish(hash, checked)
    }

    /// The control plane has none.
    pub(crate) fn handle_missing(&mut self, hash: ArtifactHash) -> Option<Fetched> {
        self.finish(hash, Err("the control plane does not have it"))
    }

    fn finish(&mut self, hash: ArtifactHash, bytes: Result<Vec<u8>, &'static str>) -> Option<Fetched> {
        self.under_way.remove(&hash)?;
        self.wanted.remove(&hash);
        Some(Fetched { hash, bytes })
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
        fetches.want([hash, hash]);
        assert_eq!((fetches.poll_request(), fetches.poll_request()), (Some(hash), None));
        fetches
    }

    #[test]
    fn parts_become_an_artifact_once() {
        let hash = artifact_hash(b"abcd");
        let mut fetches = asked(hash);
        assert_eq!(fetches.handle_part(part(hash, 4, 0, b"ab")), None);
        let whole = Some(Fetched { hash, bytes: Ok(b"abcd".to_vec()) });
        assert_eq!(fetches.handle_part(part(hash, 4, 2, b"cd")), whole);
        assert_eq!(fetches.handle_part(part(hash, 4, 0, b"abcd")), None, "nobody asked again");
        let empty = artifact_hash(b"");
        assert_eq!(asked(empty).handle_part(part(empty, 0, 0, b"")), Some(Fetched { hash: empty, bytes: Ok(vec![]) }));
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
        fetches.want(hashes.iter().copied());
        assert_eq!(std::iter::from_fn(|| fetches.poll_request()).count(), REQUESTS_MAX);
        fetches.handle_missing(hashes[0]);
        assert_eq!(fetches.poll_request(), Some(hashes[REQUESTS_MAX]));
        fetches.forget_queued();
        fetches.handle_missing(hashes[1]);
        assert_eq!(fetches.poll_request(), None);
        fetches.want([hashes[39]]);
        assert_eq!(fetches.poll_request(), Some(hashes[39]));
    }
}
