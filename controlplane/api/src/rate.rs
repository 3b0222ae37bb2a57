//! How many requests a token may make: a bucket each, filled steadily, in memory. Pure: time is an argument.
//!
//! *Bounds:* `TOKENS_MAX` buckets; of more, those that are full again are forgotten, which changes nothing for them, and if none
//! is, the newcomer goes unlimited rather than unserved. A new leader begins with full buckets.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use model::TokenId;

/// Tokens that are counted at the same time.
const TOKENS_MAX: usize = 10_000;

/// What each token may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// Requests a second, in the long run; at least 1.
    pub per_second: u32,
    /// Requests at once, after a pause; at least 1.
    pub burst: u32,
}

impl Default for RateLimit {
    /// 100 a second, 1,000 at once: what a busy pipeline needs is a tenth of it.
    fn default() -> RateLimit {
        RateLimit { per_second: 100, burst: 1000 }
    }
}

struct Bucket {
    left: f64,
    at: Instant,
}

/// The buckets of all tokens.
pub(crate) struct Rates {
    per_second: f64,
    burst: f64,
    buckets: Mutex<HashMap<TokenId, Bucket>>,
}

impl Rates {
    pub(crate) fn new(limit: RateLimit) -> Rates {
        let at_least_one = |number: u32| f64::from(number.max(1));
        let (per_second, burst) = (at_least_one(limit.per_second), at_least_one(limit.burst));
        Rates { per_second, burst, buckets: Mutex::default() }
    }

    fn filled(&self, bucket: &Bucket, now: Instant) -> f64 {
        let since = now.saturating_duration_since(bucket.at).as_secs_f64();
        (bucket.left + since * self.per_second).min(self.burst)
    }

    /// Takes one request from a token's bucket; if there is none left, says when there is.
    pub(crate) fn take(&self, token: TokenId, now: Instant) -> Result<(), Duration> {
        // Every change under the lock is one assignment.
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if !buckets.contains_key(&token) && buckets.len() >= TOKENS_MAX {
            buckets.retain(|_, bucket| self.filled(bucket, now) < self.burst);
            if buckets.len() >= TOKENS_MAX {
                return Ok(());
            }
        }
        let bucket = buckets.entry(token).or_insert(Bucket { left: self.burst, at: now });
        let left = self.filled(bucket, now);
        if left < 1.0 {
            return Err(Duration::from_secs_f64((1.0 - left) / self.per_second));
        }
        *bucket = Bucket { left: left - 1.0, at: now };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_the_rate_and_a_pause_fills_up() {
        let (rates, token, start) = (Rates::new(RateLimit::default()), TokenId::new(), Instant::now());
        for i in 0..1000 {
            assert_eq!(rates.take(token, start), Ok(()), "{i}");
        }
        let wait = rates.take(token, start).unwrap_err();
        assert!(wait <= Duration::from_secs_f64(0.01), "{wait:?}");
        rates.take(TokenId::new(), start).expect("another token has a bucket of its own");
        rates.take(token, start + wait).expect("it is time");
        assert!(rates.take(token, start + wait).is_err(), "one came, one was taken");
        let later = start + Duration::from_secs(3600);
        for i in 0..1000 {
            assert_eq!(rates.take(token, later), Ok(()), "{i}");
        }
        assert!(rates.take(token, later).is_err(), "no more than a burst, however long the pause");
    }

    #[test]
    fn full_buckets_make_room_and_nobody_is_refused_for_others() {
        let (rates, start) = (Rates::new(RateLimit::default()), Instant::now());
        for _ in 0..TOKENS_MAX + 10 {
            rates.take(TokenId::new(), start).expect("unlimited rather than unserved");
        }
        assert_eq!(rates.buckets.lock().unwrap().len(), TOKENS_MAX);
        rates.take(TokenId::new(), start + Duration::from_secs(1)).expect("room");
        assert_eq!(rates.buckets.lock().unwrap().len(), 1);
    }
}
