//! What a run looks like to people and to programs: a table, one JSON object on one line, and a plot.
//!
//! *Invariant:* the JSON object is the last line of standard output, whatever else was printed.

pub mod plot;
pub mod table;
pub mod timeline;

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::load::{Mode, Outcome, Plan};

/// Latencies of one run, microseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Quantiles {
    /// Least.
    pub min: f64,
    /// Arithmetic mean.
    pub mean: f64,
    /// Median.
    pub p50: f64,
    /// 90 %.
    pub p90: f64,
    /// 99 %.
    pub p99: f64,
    /// 99.9 %.
    pub p99_9: f64,
    /// 99.99 %.
    pub p99_99: f64,
    /// Most.
    pub max: f64,
}

impl Quantiles {
    /// Of a histogram in nanoseconds.
    pub fn of(histogram: &Histogram<u64>) -> Quantiles {
        let at = |quantile: f64| round(histogram.value_at_quantile(quantile) as f64 / 1e3);
        Quantiles {
            min: round(histogram.min() as f64 / 1e3),
            mean: round(histogram.mean() / 1e3),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p99_9: at(0.999),
            p99_99: at(0.9999),
            max: round(histogram.max() as f64 / 1e3),
        }
    }
}

/// One run as JSON.
#[derive(Clone, Debug, Serialize)]
pub struct RunReport {
    /// What was loaded, and how.
    pub name: String,
    /// `open` or `closed`.
    pub mode: &'static str,
    /// Requests a second asked for (open loop).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_target: Option<f64>,
    /// Good responses a second.
    pub rate: f64,
    /// Connections.
    pub connections: usize,
    /// Measured window, seconds.
    pub window_s: f64,
    /// Requests due in the window (open) or ended in it (closed).
    pub requests: u64,
    /// Good responses.
    pub ok: u64,
    /// Failures by class.
    pub errors: BTreeMap<&'static str, u64>,
    /// Some failures in words.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub error_samples: Vec<String>,
    /// From the due time (open) or the sending (closed), µs.
    pub latency_us: Quantiles,
    /// From the sending, µs.
    pub service_us: Quantiles,
    /// Most requests due and not yet sent.
    pub backlog_max: usize,
    /// Share of the window in which the load threads computed. An open loop on a pinned core spins.
    pub generator_busy: f64,
}

impl RunReport {
    /// From a run.
    pub fn new(name: &str, plan: &Plan, outcome: &Outcome) -> RunReport {
        let tally = &outcome.tally;
        RunReport {
            name: name.to_owned(),
            mode: if plan.mode == Mode::Closed { "closed" } else { "open" },
            rate_target: match plan.mode {
                Mode::Open { rate, .. } => Some(rate),
                Mode::Closed => None,
            },
            rate: round(outcome.rate()),
            connections: plan.connections,
            window_s: round(outcome.window.as_secs_f64()),
            requests: tally.due,
            ok: tally.ok,
            errors: tally.errors.iter().map(|(class, count)| (class.name(), count)).collect(),
            error_samples: tally.samples.clone(),
            latency_us: Quantiles::of(&tally.latency),
            service_us: Quantiles::of(&tally.service),
            backlog_max: tally.backlog_max,
            generator_busy: round(outcome.generator_busy()),
        }
    }
}

/// Median and range over the rounds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Spread {
    /// Middle value, or the mean of the middle two.
    pub median: f64,
    /// Least.
    pub min: f64,
    /// Most.
    pub max: f64,
}

impl Spread {
    /// Of some values; not a number where there are none.
    pub fn of(values: impl Iterator<Item = f64>) -> Spread {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let middle = match values.len() {
            0 => f64::NAN,
            length if length % 2 == 1 => values[length / 2],
            length => (values[length / 2 - 1] + values[length / 2]) / 2.0,
        };
        let edge = |value: Option<&f64>| round(value.copied().unwrap_or(f64::NAN));
        Spread { median: round(middle), min: edge(values.first()), max: edge(values.last()) }
    }
}

/// To three decimals: enough for microseconds and ratios, and short in JSON.
pub fn round(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

/// Prints the object that ends the output.
pub fn last_line(value: &impl Serialize) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string(value)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::Spread;

    #[test]
    fn spread_of_rounds() {
        let spread = Spread::of([3.0, 1.0, 2.0].into_iter());
        assert_eq!((spread.median, spread.min, spread.max), (2.0, 1.0, 3.0));
        assert_eq!(Spread::of([4.0, 1.0].into_iter()).median, 2.5);
        assert!(Spread::of(std::iter::empty()).median.is_nan());
    }
}
