//! The subcommands of `selvage-bench`: each prints a short report, ends with one JSON object on the last line, and says
//! through [`Verdict`] whether its promise was kept.

pub mod activate;
pub mod cold_start;
pub mod h1;
pub mod hello;
pub mod hostile;
pub mod idle_isolate;
pub mod load_test;
pub mod noisy_neighbour;
pub mod push;
pub mod soak;
pub mod steer;
pub mod streams;
pub mod websocket;

use std::time::Duration;

/// Whether the promises of a bench were kept. Decides the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All of them.
    Kept,
    /// Not all of them; the report says which.
    Missed,
}

impl Verdict {
    /// Of a list of promises.
    pub fn of(promises: &[Promise]) -> Verdict {
        if promises.iter().all(|promise| promise.kept) { Verdict::Kept } else { Verdict::Missed }
    }
}

/// A promise of docs/SPECIFICATION.md and what was measured.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Promise {
    /// What was promised.
    pub what: String,
    /// The bound.
    pub bound: f64,
    /// What was measured; absent if it could not be.
    pub measured: Option<f64>,
    /// Whether it was kept. What could not be measured was not.
    pub kept: bool,
}

impl Promise {
    /// Measured is at least the bound.
    pub fn at_least(what: &str, measured: Option<f64>, bound: f64) -> Promise {
        Promise { what: what.to_owned(), bound, measured, kept: measured.is_some_and(|value| value >= bound) }
    }

    /// Measured is at most the bound.
    pub fn at_most(what: &str, measured: Option<f64>, bound: f64) -> Promise {
        Promise { what: what.to_owned(), bound, measured, kept: measured.is_some_and(|value| value <= bound) }
    }

    /// A line for people.
    pub fn line(&self) -> String {
        let measured = self.measured.map_or("not measured".to_owned(), |value| format!("{value:.3}"));
        format!(
            "{}  {} (bound {}, measured {measured})",
            if self.kept { "kept  " } else { "MISSED" },
            self.what,
            self.bound
        )
    }
}

/// Prints promises as lines.
pub fn print_promises(promises: &[Promise]) {
    for promise in promises {
        println!("{}", promise.line());
    }
}

/// Reads `10s`, `250ms`, `2m` or plain seconds.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: f64 = number.parse().map_err(|_| format!("not a duration: {text:?}"))?;
    let seconds = match unit {
        "s" | "" => number,
        "ms" => number / 1e3,
        "m" => number * 60.0,
        _ => return Err(format!("unknown unit {unit:?}: ms, s or m")),
    };
    if seconds > 86_400.0 {
        return Err("longer than a day".to_owned());
    }
    Ok(Duration::from_secs_f64(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(parse_duration("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(parse_duration("1.5"), Ok(Duration::from_millis(1_500)));
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        for bad in ["", "s", "-1s", "1h", "1.2.3s", "999999m", "é"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_was_not_measured_was_not_kept() {
        assert!(!Promise::at_least("x", None, 0.0).kept);
        assert!(!Promise::at_most("x", Some(f64::NAN), 1.0).kept);
        assert!(!Promise::at_least("x", Some(f64::NAN), 1.0).kept);
        assert!(Promise::at_most("x", Some(1.0), 1.0).kept && Promise::at_least("x", Some(1.0), 1.0).kept);
        assert_eq!(Verdict::of(&[Promise::at_least("x", Some(0.9), 1.0)]), Verdict::Missed);
    }
}
