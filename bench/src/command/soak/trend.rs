//! Whether memory grows: the floors of a run, those of its rests or its slices, and their trend.
//!
//! A hostile Worker may fill its heap at any moment, so single readings jump by its limit. What remains when it is gone is the
//! lowest reading of a rest, or of a slice; a leak lifts those. The trend is the median of all slopes between two of them (Theil and Sen), which
//! a few slices that never came down do not bend.

/// A reading: minutes since the start, and a value.
pub(super) type Point = (f64, f64);

/// The median slope between two points, a minute. `None` of fewer than three.
pub(super) fn slope(points: &[Point]) -> Option<f64> {
    if points.len() < 3 {
        return None;
    }
    let mut slopes: Vec<f64> = Vec::with_capacity(points.len() * points.len() / 2);
    for (index, one) in points.iter().enumerate() {
        let later = points[index + 1..].iter().filter(|other| other.0 > one.0);
        slopes.extend(later.map(|other| (other.1 - one.1) / (other.0 - one.0)));
    }
    slopes.sort_by(f64::total_cmp);
    slopes.get(slopes.len() / 2).copied()
}

/// Growth of the floors over the second half of a run, per cent an hour of their middle value.
pub(super) fn percent_an_hour(floors: &[Point]) -> Option<f64> {
    let half = &floors[floors.len() / 2..];
    let mut values: Vec<f64> = half.iter().map(|point| point.1).collect();
    values.sort_by(f64::total_cmp);
    let middle = values.get(values.len() / 2).filter(|middle| **middle > 0.0)?;
    Some(slope(half)? * 60.0 / middle * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leak_shows_and_a_spike_does_not() {
        let floors = |of: &dyn Fn(f64) -> f64| (0..60).map(|at| (f64::from(at), of(f64::from(at)))).collect::<Vec<_>>();
        let flat = percent_an_hour(&floors(&|_| 100.0)).expect("a trend");
        assert_eq!(flat, 0.0);
        let leak = percent_an_hour(&floors(&|at| 100.0 + at / 60.0 * 2.0)).expect("a trend");
        assert!((1.8..2.2).contains(&leak), "{leak}");
        let spikes = percent_an_hour(&floors(&|at| if at % 10.0 == 5.0 { 500.0 } else { 100.0 })).expect("a trend");
        assert_eq!(spikes, 0.0);
        // What happens before the second half is a start, not a leak.
        let start = percent_an_hour(&floors(&|at| if at < 29.0 { at } else { 100.0 })).expect("a trend");
        assert_eq!(start, 0.0);
        assert_eq!(percent_an_hour(&[(0.0, 1.0), (1.0, 1.0)]), None);
        assert_eq!(percent_an_hour(&[]), None);
    }
}
