//! When a Worker that was dropped will be wanted again: for those whose requests come at regular times, such as
//! a monitor's every ten minutes. Such a Worker is started a moment before.
//!
//! *Does not:* guess at anything irregular; most Workers have no forecast. *Thread:* one shard's.

use crate::config::REMEMBER_NS;
use worker_api::event::MonotonicNs;

/// Gaps that must agree before there is a forecast.
const GAPS_MIN: u32 = 3;

/// What is known of a Worker's visits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Forecast {
    last_ns: MonotonicNs,
    /// When the visit began that `last_ns` is of.
    visit_ns: MonotonicNs,
    /// Mean of the gaps between visits, ns, weighted towards the last ones.
    gap_ns: u64,
    /// Gaps in a row that were within an eighth of the mean.
    regular: u32,
}

impl Forecast {
    /// A request comes; one that comes `visit_ns` after the last one, or later, begins a visit.
    #[inline]
    pub(crate) fn observe(&mut self, now_ns: MonotonicNs, visit_ns: u64) {
        if now_ns.saturating_sub(self.last_ns) >= visit_ns {
            self.visit(now_ns);
        }
        self.last_ns = now_ns;
    }

    #[cold]
    fn visit(&mut self, now_ns: MonotonicNs) {
        let before_ns = std::mem::replace(&mut self.visit_ns, now_ns);
        if before_ns == 0 {
            return;
        }
        let gap_ns = now_ns - before_ns;
        if gap_ns.abs_diff(self.gap_ns) <= self.gap_ns / 8 {
            self.regular += 1;
            self.gap_ns = (3 * self.gap_ns + gap_ns) / 4;
        } else {
            self.regular = 1;
            self.gap_ns = gap_ns;
        }
    }

    /// When the next request is expected; `None` if nothing regular was seen, or if it did not come.
    pub(crate) fn next_ns(&self, now_ns: MonotonicNs) -> Option<MonotonicNs> {
        let next_ns = self.visit_ns + self.gap_ns;
        (self.regular >= GAPS_MIN && next_ns + self.gap_ns / 8 >= now_ns).then_some(next_ns)
    }

    /// When the last visit began.
    pub(crate) fn visit_ns(&self) -> MonotonicNs {
        self.visit_ns
    }

    /// Whether a next visit may still make something of it: between visits that are far apart a Worker is dropped each time.
    pub(crate) fn matters(&self, now_ns: MonotonicNs) -> bool {
        now_ns < self.visit_ns + REMEMBER_NS
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::VISIT_NS;
    use base::limits::S_NS;

    fn check(seconds: &[u64], at_s: u64, expect_s: Option<u64>) {
        let mut forecast = Forecast::default();
        for second in seconds {
            forecast.observe(second * S_NS, VISIT_NS);
        }
        assert_eq!(forecast.next_ns(at_s * S_NS), expect_s.map(|second| second * S_NS), "{seconds:?} at {at_s}");
    }

    #[test]
    fn regular_visits_are_foreseen() {
        check(&[600, 1200, 1800, 2400], 2500, Some(3000));
        // Requests of one visit count once.
        check(&[600, 605, 610, 1200, 1201, 1800, 2400, 2402], 2500, Some(3000));
    }

    #[test]
    fn nothing_is_made_of_too_few_irregular_or_missed_ones() {
        check(&[600, 1200, 1800], 1900, None);
        check(&[600, 1200, 1500, 2400, 2500], 2600, None);
        check(&[600, 1200, 1800, 2400], 3100, None);
    }

    #[test]
    fn too_few_visits_are_remembered_for_the_next_ones() {
        let mut forecast = Forecast::default();
        forecast.observe(600 * S_NS, VISIT_NS);
        assert_eq!(forecast.next_ns(601 * S_NS), None);
        assert!(forecast.matters(600 * S_NS + REMEMBER_NS - 1) && !forecast.matters(600 * S_NS + REMEMBER_NS));
    }
}
