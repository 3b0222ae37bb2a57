//! [`Regions`]: a set of address ranges.

use std::ops::Range;

/// Ranges that do not overlap, in no order.
#[derive(Debug, Default)]
pub struct Regions(Vec<Range<usize>>);

impl Regions {
    /// None.
    pub const fn new() -> Regions {
        Regions(Vec::new())
    }

    /// Adds a range that overlaps none.
    pub fn add(&mut self, region: Range<usize>) {
        if !region.is_empty() {
            self.0.push(region);
        }
    }

    /// Takes a range out, wherever it lies in those that are there.
    pub fn remove(&mut self, gone: Range<usize>) {
        let mut at = 0;
        while at < self.0.len() {
            let region = self.0[at].clone();
            if region.end <= gone.start || region.start >= gone.end {
                at += 1;
                continue;
            }
            let (left, right) = (region.start..gone.start.max(region.start), gone.end.min(region.end)..region.end);
            match (left.is_empty(), right.is_empty()) {
                (true, true) => {
                    self.0.swap_remove(at);
                    continue;
                }
                (false, true) => self.0[at] = left,
                (true, false) => self.0[at] = right,
                (false, false) => {
                    self.0[at] = left;
                    self.0.push(right);
                }
            }
            at += 1;
        }
    }

    /// The ranges.
    pub fn as_slice(&self) -> &[Range<usize>] {
        &self.0
    }
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init)] // One range is meant.
mod tests {
    use super::*;

    fn check(gone: Range<usize>, expect: &[Range<usize>]) {
        let mut regions = Regions::new();
        regions.add(10..20);
        regions.add(30..40);
        regions.add(5..5);
        regions.remove(gone);
        let mut left = regions.0;
        left.sort_by_key(|region| region.start);
        assert_eq!(left, expect);
    }

    #[test]
    fn a_range_is_taken_out_wherever_it_lies() {
        check(0..5, &[10..20, 30..40]);
        check(20..30, &[10..20, 30..40]);
        check(10..20, &[30..40]);
        check(5..15, &[15..20, 30..40]);
        check(15..25, &[10..15, 30..40]);
        check(12..18, &[10..12, 18..20, 30..40]);
        check(15..35, &[10..15, 35..40]);
        check(0..50, &[]);
    }
}
