//! Whether memory grows: the floors of a run, those of its rests or its slices, and their trend.
//!
//! A hostile Worker may fill its heap at any moment, so single readings jump by its limit. What remains when it is gone is the
//! lowest reading of a rest, or of a slice; a leak lifts those. The trend is the median of all slopes between two of them (Theil and
//! Sen), which a few slices that never came down do not bend. Its interval is made of the same slopes, by their ranks (Sen 1968),
//! and assumes no distribution of the readings: what a few points cannot tell it does not.

use serde::Serialize;

use crate::report::round;

/// A reading: minutes since the start, and a value.
pub(super) type Point = (f64, f64);

/// Standard deviations to both sides in which a normal variable is with 90 %.
const DEVIATIONS: f64 = 1.645;

/// Growth over the second half of a run, per cent an hour of the middle floor.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Trend {
    pub(super) percent_an_hour: f64,
    /// Its interval of 90 %; absent where there are too few floors for one.
    pub(super) interval: Option<[f64; 2]>,
}

impl Trend {
    /// Of the second half of a run's floors. `None` where that has fewer than three.
    pub(super) fn of(floors: &[Point]) -> Option<Trend> {
        let half = &floors[floors.len() / 2..];
        let mut values: Vec<f64> = half.iter().map(|point| point.1).collect();
        values.sort_by(f64::total_cmp);
        let middle = values.get(values.len() / 2).filter(|middle| **middle > 0.0)?;
        let slopes = slopes(half);
        let percent = |slope: f64| slope * 60.0 / middle * 100.0;
        let interval = interval(&slopes, half.len()).map(|ends| ends.map(|slope| round(percent(slope))));
        Some(Trend { percent_an_hour: percent(median(&slopes)?), interval })
    }

    /// What the interval says about a bound.
    pub(super) fn tells(&self, bound: f64) -> &'static str {
        match self.interval {
            Some([_, high]) if high <= bound => "below the bound",
            Some([low, _]) if low > bound => "above the bound",
            _ => "cannot tell",
        }
    }

    /// For people.
    pub(super) fn line(&self, bound: f64) -> String {
        let interval = self.interval.map_or("no interval of so few points".to_owned(), |[low, high]| {
            format!("90 % interval {low:.2} to {high:.2}")
        });
        format!("{:.2} % an hour ({interval}; {bound} %: {})", self.percent_an_hour, self.tells(bound))
    }
}

/// All slopes between two points, a minute, ascending. None of fewer than three points.
fn slopes(points: &[Point]) -> Vec<f64> {
    if points.len() < 3 {
        return Vec::new();
    }
    let mut slopes: Vec<f64> = Vec::with_capacity(points.len() * points.len() / 2);
    for (index, one) in points.iter().enumerate() {
        let later = points[index + 1..].iter().filter(|other| other.0 > one.0);
        slopes.extend(later.map(|other| (other.1 - one.1) / (other.0 - one.0)));
    }
    slopes.sort_by(f64::total_cmp);
    slopes
}

fn median(sorted: &[f64]) -> Option<f64> {
    let upper = sorted.get(sorted.len() / 2)?;
    let lower = sorted.get((sorted.len() - 1) / 2)?;
    Some((lower + upper) / 2.0)
}

/// The slopes between which the trend of so many points is with 90 %.
fn interval(slopes: &[f64], points: usize) -> Option<[f64; 2]> {
    let count = points as f64;
    let deviation = (count * (count - 1.0) * (2.0 * count + 5.0) / 18.0).sqrt();
    let rank = ((slopes.len() as f64 - DEVIATIONS * deviation) / 2.0).floor();
    if rank < 1.0 {
        return None;
    }
    let rank = rank as usize;
    Some([slopes[rank - 1], slopes[slopes.len() - rank]])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floors(of: &dyn Fn(f64) -> f64) -> Vec<Point> {
        (0..60).map(|at| (f64::from(at), of(f64::from(at)))).collect()
    }

    #[test]
    fn a_leak_shows_and_a_spike_does_not() {
        let percent = |floors: &[Point]| Trend::of(floors).expect("a trend").percent_an_hour;
        let flat = Trend::of(&floors(&|_| 100.0)).expect("a trend");
        assert_eq!((flat.percent_an_hour, flat.interval, flat.tells(1.0)), (0.0, Some([0.0, 0.0]), "below the bound"));
        let leak = Trend::of(&floors(&|at| 100.0 + at / 60.0 * 2.0)).expect("a trend");
        assert!((1.8..2.2).contains(&leak.percent_an_hour) && leak.tells(1.0) == "above the bound", "{leak:?}");
        assert_eq!(percent(&floors(&|at| if at % 10.0 == 5.0 { 500.0 } else { 100.0 })), 0.0);
        // What happens before the second half is a start, not a leak.
        assert_eq!(percent(&floors(&|at| if at < 29.0 { at } else { 100.0 })), 0.0);
        assert_eq!(Trend::of(&[(0.0, 1.0), (1.0, 1.0)]), None);
        assert_eq!(Trend::of(&[]), None);
    }

    /// Ten points, as an hour with a rest every three minutes has in its second half: Sen's ranks are 13 and 33 of 45.
    #[test]
    fn the_interval_is_that_of_the_ranks() {
        let points: Vec<Point> = (0..10).map(|at| (f64::from(at), f64::from(at * at))).collect();
        let slopes = slopes(&points);
        assert_eq!(slopes.len(), 45);
        assert_eq!(interval(&slopes, 10), Some([slopes[12], slopes[32]]));
        assert_eq!(median(&slopes), Some(slopes[22]));
        assert_eq!(interval(&[0.0; 3], 3), None, "three points tell nothing");
        assert_eq!(median(&[1.0, 2.0]), Some(1.5));
    }

    #[test]
    fn swings_that_hide_a_trend_are_told() {
        let swings = [72.5, 73.4, 87.2, 76.9, 88.3, 74.0, 86.0, 73.0, 85.0, 75.0];
        let points: Vec<Point> = (0..20).map(|at| (f64::from(at * 3), swings[at as usize % 10])).collect();
        let trend = Trend::of(&points).expect("a trend");
        assert_eq!(trend.tells(1.0), "cannot tell", "{trend:?}");
        let [low, high] = trend.interval.expect("an interval");
        assert!(low < trend.percent_an_hour && trend.percent_an_hour < high && low < 1.0 && high > 1.0, "{trend:?}");
        assert_eq!(Trend { interval: None, ..trend }.tells(1.0), "cannot tell");
    }
}
