//! When a process may take the lead: a decision over looks at who leads, with the time of each.

use std::time::{Duration, Instant};

use store::Leadership;

/// How often the leader says that it is well.
pub(crate) const BEAT: Duration = Duration::from_millis(500);
/// How often the others look.
pub(crate) const LOOK: Duration = Duration::from_millis(250);
/// How long a leader may stand still before another takes its place.
pub(crate) const PATIENCE: Duration = Duration::from_secs(4);

const _: () = assert!(PATIENCE.as_millis() >= 4 * (BEAT.as_millis() + LOOK.as_millis()));

/// What a process that follows has seen of who leads.
#[derive(Default)]
pub(crate) struct Vigil {
    /// The last look, and when it was first as it is.
    last: Option<(Leadership, Instant)>,
}

impl Vigil {
    /// Takes a look; says whether the next term may be asked for. If two ask at once, the store gives it to one.
    pub(crate) fn look(&mut self, now: Instant, found: &Leadership) -> bool {
        let since = match &self.last {
            Some((last, since)) if last == found => *since,
            _ => now,
        };
        self.last = Some((found.clone(), since));
        found.address.is_none() || now.duration_since(since) >= PATIENCE
    }

    /// A look failed: the leader may not have been able to say anything either, so that its time begins anew.
    pub(crate) fn could_not_look(&mut self) {
        self.last = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leader(term: u64, beat: u64) -> Leadership {
        Leadership { term, beat, address: Some("a".to_owned()) }
    }

    #[test]
    fn a_leader_that_stands_still_is_replaced_and_one_that_moves_is_not() {
        let start = Instant::now();
        let mut vigil = Vigil::default();
        for beat in 0..10 {
            assert!(!vigil.look(start + PATIENCE * beat, &leader(1, u64::from(beat))));
        }
        let stood = start + PATIENCE * 9;
        assert!(!vigil.look(stood + PATIENCE - LOOK, &leader(1, 9)));
        assert!(vigil.look(stood + PATIENCE, &leader(1, 9)));
        assert!(!vigil.look(stood + PATIENCE, &leader(2, 9)), "another was quicker");
    }

    #[test]
    fn who_gave_up_or_never_was_is_replaced_at_once() {
        let mut vigil = Vigil::default();
        assert!(vigil.look(Instant::now(), &Leadership { term: 3, beat: 7, address: None }));
        assert!(vigil.look(Instant::now(), &Leadership { term: 0, beat: 0, address: None }));
    }

    #[test]
    fn time_without_a_database_counts_for_nothing() {
        let start = Instant::now();
        let mut vigil = Vigil::default();
        vigil.look(start, &leader(1, 1));
        vigil.could_not_look();
        assert!(!vigil.look(start + 2 * PATIENCE, &leader(1, 1)));
        assert!(vigil.look(start + 3 * PATIENCE, &leader(1, 1)));
    }
}
