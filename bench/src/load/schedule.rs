//! When requests are due in an open loop. Pure: no clock, and randomness from a seed.
//!
//! *Invariant:* due times depend on rate and seed alone, never on how the server answers. That is what keeps a stall
//! of the server visible in the latencies.

/// How arrivals are spread over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Arrivals {
    /// Evenly spaced.
    Constant,
    /// A Poisson process: independent, exponential gaps.
    Poisson,
}

/// Due times of one load thread, in nanoseconds from the start, without end.
#[derive(Clone, Debug)]
pub struct Schedule {
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Constant { gap_ns: f64, offset_ns: f64, index: u64 },
    Poisson { gap_ns: f64, at_ns: f64, random: SplitMix64 },
}

impl Schedule {
    /// The share of thread `thread` of `threads` in a total of `rate` requests a second (> 0).
    pub fn new(arrivals: Arrivals, rate: f64, thread: usize, threads: usize, seed: u64) -> Schedule {
        let gap_all = 1e9 / rate;
        let gap_ns = gap_all * threads as f64;
        let kind = match arrivals {
            Arrivals::Constant => Kind::Constant { gap_ns, offset_ns: gap_all * thread as f64, index: 0 },
            Arrivals::Poisson => {
                let random = SplitMix64(seed ^ (thread as u64 + 1).wrapping_mul(0xA076_1D64_78BD_642F));
                Kind::Poisson { gap_ns, at_ns: 0.0, random }
            }
        };
        Schedule { kind }
    }
}

impl Iterator for Schedule {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        match &mut self.kind {
            Kind::Constant { gap_ns, offset_ns, index } => {
                let at = *offset_ns + *gap_ns * *index as f64;
                *index += 1;
                Some(at as u64)
            }
            Kind::Poisson { gap_ns, at_ns, random } => {
                *at_ns += -random.unit().ln() * *gap_ns;
                Some(*at_ns as u64)
            }
        }
    }
}

/// Sebastiano Vigna's SplitMix64: eight bytes of state, good enough for arrivals and replayable from a seed.
#[derive(Clone, Debug)]
struct SplitMix64(u64);

impl SplitMix64 {
    /// The next 64 bits.
    fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// In (0, 1]: never zero, so that its logarithm is finite.
    fn unit(&mut self) -> f64 {
        ((self.next_u64() >> 11) + 1) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constant_threads_interleave_to_the_whole_rate() {
        let mut due: Vec<u64> =
            (0..3).flat_map(|thread| Schedule::new(Arrivals::Constant, 1_000.0, thread, 3, 0).take(1_000)).collect();
        due.sort_unstable();
        for (index, at) in due.iter().enumerate() {
            assert!(at.abs_diff(index as u64 * 1_000_000) <= 1, "{index}: {at}");
        }
    }

    #[test]
    fn constant_does_not_drift_over_a_day() {
        let rate = 300_000.0;
        let Some(last) = Schedule::new(Arrivals::Constant, rate, 0, 1, 0).nth(30_000_000) else { unreachable!() };
        assert_eq!(last, 100_000_000_000);
    }

    #[test]
    fn poisson_has_the_mean_and_the_spread_of_one() {
        let due: Vec<u64> = Schedule::new(Arrivals::Poisson, 10_000.0, 0, 1, 7).take(200_000).collect();
        let gaps: Vec<f64> = due.windows(2).map(|pair| (pair[1] - pair[0]) as f64).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let deviation = (gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64).sqrt();
        assert!((mean / 100_000.0 - 1.0).abs() < 0.02, "mean {mean}");
        assert!((deviation / mean - 1.0).abs() < 0.02, "an exponential's deviation is its mean: {deviation}");
        let again: Vec<u64> = Schedule::new(Arrivals::Poisson, 10_000.0, 0, 1, 7).take(200_000).collect();
        assert!(due == again, "same seed, same arrivals");
    }
}
