//! Which snapshots a node takes. Pure.
//!
//! **The rule.** A control plane's store has a *lineage*, a random number made with the store. Generations count within
//! it.
//! 1. Over a connection only snapshots of the lineage that its `Welcome` named are taken. That the control plane is the
//!    operator's at all, the TLS handshake has shown: its certificate is from the operator's authority.
//! 2. Within a lineage generations only go up, for ever: a node remembers the highest of each lineage it has served. A
//!    store restored from a backup has its old lineage and lower generations; it is refused, and must number past what
//!    its nodes report.
//! 3. Another lineage replaces the current one whatever its generation: the operator made a new store and vouches for it
//!    with the same authority. Going back to a lineage served before falls under 2, so that two control planes that both
//!    believe to be the one cannot make a node go back and forth through old configurations.
//! 4. The very snapshot that is served and on disk is acknowledged again; another of the same generation is refused.

use std::collections::BTreeMap;

use plane_abi::{Lineage, SnapshotHeader, wire::RefuseReason};

/// Lineages that a node remembers; past it the one with the lowest number is forgotten.
pub const LINEAGES_MAX: usize = 16;

/// What a node has served.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// What serves now.
    pub published: Option<SnapshotHeader>,
    /// What would serve after a restart.
    pub durable: Option<SnapshotHeader>,
    /// Highest generation served of each lineage, the current one not necessarily included.
    pub highest: BTreeMap<Lineage, u64>,
}

/// What to do with a snapshot that is offered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Take it.
    Take,
    /// Acknowledge it: it serves and is on disk.
    Have,
    /// Refuse it.
    Refuse(RefuseReason, String),
}

impl History {
    /// Judges an offer over a connection of lineage `connection`.
    pub fn judge(&self, connection: Lineage, offered: &SnapshotHeader) -> Verdict {
        if offered.lineage != connection {
            let detail = format!("snapshot is of lineage {}, the connection of {connection}", offered.lineage);
            return Verdict::Refuse(RefuseReason::ForeignLineage, detail);
        }
        if self.published.as_ref() == Some(offered) {
            // Published, but lost to a disk error: once more.
            return if self.durable.as_ref() == Some(offered) { Verdict::Have } else { Verdict::Take };
        }
        let published = self.published.filter(|published| published.lineage == offered.lineage);
        let highest = self.highest.get(&offered.lineage).copied().max(published.map(|published| published.generation));
        match highest {
            Some(highest) if offered.generation <= highest => {
                let detail = format!("node has served generation {highest} of this lineage");
                Verdict::Refuse(RefuseReason::Older, detail)
            }
            _ => Verdict::Take,
        }
    }

    /// Notes that a snapshot serves now. True: another lineage came, and `highest` must be kept on disk.
    pub fn publish(&mut self, header: SnapshotHeader) -> bool {
        let before = self.published.replace(header);
        let Some(before) = before.filter(|before| before.lineage != header.lineage) else { return false };
        let highest = self.highest.entry(before.lineage).or_default();
        *highest = before.generation.max(*highest);
        while self.highest.len() > LINEAGES_MAX {
            let forget = self.highest.keys().copied().find(|lineage| *lineage != before.lineage);
            forget.and_then(|lineage| self.highest.remove(&lineage));
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header(lineage: u128, generation: u64) -> SnapshotHeader {
        SnapshotHeader { lineage: Lineage(lineage), generation, checksum: generation * 31 + lineage as u64 }
    }

    fn serving(lineage: u128, generation: u64) -> History {
        let mut history = History::default();
        history.publish(header(lineage, generation));
        history.durable = history.published;
        history
    }

    fn reason(verdict: &Verdict) -> Option<RefuseReason> {
        match verdict {
            Verdict::Refuse(reason, _) => Some(*reason),
            _ => None,
        }
    }

    #[test]
    fn generations_of_one_lineage_go_up() {
        let history = serving(1, 5);
        let judge = |offered| history.judge(Lineage(1), &offered);
        assert_eq!(judge(header(1, 6)), Verdict::Take);
        assert_eq!(judge(header(1, 5)), Verdict::Have);
        assert_eq!(reason(&judge(header(1, 4))), Some(RefuseReason::Older));
        let other = SnapshotHeader { checksum: 0, ..header(1, 5) };
        assert_eq!(reason(&judge(other)), Some(RefuseReason::Older), "another of the same generation");
        assert_eq!(History::default().judge(Lineage(1), &header(1, 1)), Verdict::Take);
    }

    #[test]
    fn what_was_lost_to_the_disk_is_taken_again() {
        let history = History { durable: None, ..serving(1, 5) };
        assert_eq!(history.judge(Lineage(1), &header(1, 5)), Verdict::Take);
    }

    #[test]
    fn a_new_lineage_replaces_and_an_old_one_must_be_newer_than_it_was() {
        let mut history = serving(1, 50);
        assert_eq!(reason(&history.judge(Lineage(1), &header(2, 1))), Some(RefuseReason::ForeignLineage));
        assert_eq!(history.judge(Lineage(2), &header(2, 1)), Verdict::Take);
        assert!(history.publish(header(2, 1)));
        assert_eq!(reason(&history.judge(Lineage(1), &header(1, 50))), Some(RefuseReason::Older));
        assert_eq!(history.judge(Lineage(1), &header(1, 51)), Verdict::Take);
        assert!(!history.publish(header(2, 2)));
    }

    proptest! {
        #[test]
        fn no_lineage_ever_goes_back(offers in proptest::collection::vec((1u128..5, 1u64..20), 0..200)) {
            let mut history = History::default();
            let mut highest = BTreeMap::new();
            for (lineage, generation) in offers {
                let offered = header(lineage, generation);
                if history.judge(Lineage(lineage), &offered) == Verdict::Take {
                    history.publish(offered);
                    history.durable = history.published;
                    let before = highest.insert(lineage, generation);
                    prop_assert!(before.is_none_or(|before| before < generation));
                }
            }
        }

        #[test]
        fn memory_of_lineages_is_bounded(lineages in proptest::collection::vec(1u128..1000, 0..200)) {
            let mut history = History::default();
            for lineage in lineages {
                history.publish(header(lineage, 1));
                prop_assert!(history.highest.len() <= LINEAGES_MAX);
            }
        }
    }
}
