//! How many requests a token may make, and how many may come from one place without a token that counts: a bucket each, filled
//! steadily, in memory. Pure: time is an argument.
//!
//! A request whose token is not known here takes from its peer's bucket before the database is asked, and gives back if the token
//! counts; from then on that token is known, and is not held up by what others do behind the same address.
//!
//! *Bounds:* `TOKENS_MAX`, `PEERS_MAX` buckets and `KNOWN_MAX` digests. Of more buckets, those that are full again are forgotten,
//! which changes nothing for them, once a second at most; if none is, a token goes unlimited rather than unserved, and peers share
//! one bucket. A new leader begins with full buckets and knows no token.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use model::TokenId;
use sha2::{Digest, Sha256};

/// Tokens that are counted at the same time.
const TOKENS_MAX: usize = 10_000;
/// Peers that are counted at the same time.
const PEERS_MAX: usize = 10_000;
/// Tokens that are known to have counted lately.
const KNOWN_MAX: usize = 10_000;
/// How often buckets that are full again are looked for.
const SWEEP: Duration = Duration::from_secs(1);
/// Requests of a peer without a token that counts: people mistype, and scripts keep a token for a while after its end.
const UNKNOWN: RateLimit = RateLimit { per_second: 10, burst: 200 };

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

/// Why nothing was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refused {
    /// There is something to take after this.
    Wait(Duration),
    /// There is no bucket for one more.
    NoRoom,
}

struct Buckets<K> {
    per_second: f64,
    burst: f64,
    most: usize,
    table: Mutex<Table<K>>,
}

struct Table<K> {
    buckets: HashMap<K, Bucket>,
    swept: Option<Instant>,
}

impl<K: Eq + Hash> Buckets<K> {
    fn new(limit: RateLimit, most: usize) -> Buckets<K> {
        let at_least_one = |number: u32| f64::from(number.max(1));
        let (per_second, burst) = (at_least_one(limit.per_second), at_least_one(limit.burst));
        Buckets { per_second, burst, most, table: Mutex::new(Table { buckets: HashMap::new(), swept: None }) }
    }

    fn filled(&self, bucket: &Bucket, now: Instant) -> f64 {
        let since = now.saturating_duration_since(bucket.at).as_secs_f64();
        (bucket.left + since * self.per_second).min(self.burst)
    }

    /// Takes one.
    fn take(&self, key: K, now: Instant) -> Result<(), Refused> {
        // Every change under the lock is one assignment.
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if !table.buckets.contains_key(&key) && table.buckets.len() >= self.most {
            if table.swept.is_none_or(|at| now.saturating_duration_since(at) >= SWEEP) {
                table.swept = Some(now);
                table.buckets.retain(|_, bucket| self.filled(bucket, now) < self.burst);
            }
            if table.buckets.len() >= self.most {
                return Err(Refused::NoRoom);
            }
        }
        let bucket = table.buckets.entry(key).or_insert(Bucket { left: self.burst, at: now });
        let left = self.filled(bucket, now);
        if left < 1.0 {
            return Err(Refused::Wait(Duration::from_secs_f64((1.0 - left) / self.per_second)));
        }
        *bucket = Bucket { left: left - 1.0, at: now };
        Ok(())
    }

    /// Gives back what was taken.
    fn give_back(&self, key: &K) {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        // One that is forgotten was full.
        if let Some(bucket) = table.buckets.get_mut(key) {
            bucket.left = (bucket.left + 1.0).min(self.burst);
        }
    }
}

/// The buckets of all tokens.
pub(crate) struct Rates(Buckets<TokenId>);

impl Rates {
    pub(crate) fn new(limit: RateLimit) -> Rates {
        Rates(Buckets::new(limit, TOKENS_MAX))
    }

    /// Takes one request from a token's bucket; if there is none left, says when there is.
    pub(crate) fn take(&self, token: TokenId, now: Instant) -> Result<(), Duration> {
        match self.0.take(token, now) {
            Err(Refused::Wait(wait)) => Err(wait),
            Ok(()) | Err(Refused::NoRoom) => Ok(()),
        }
    }
}

/// Which bucket a request without a known token was taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// That of its peer's address, or network.
    Peer(IpAddr),
    /// The one of all for whom there was no room.
    Rest,
}

/// The buckets of those who come without a known token, and the tokens that are known.
pub(crate) struct Strangers {
    peers: Buckets<IpAddr>,
    rest: Buckets<()>,
    /// SHA-256 of the secrets.
    known: Mutex<HashSet<[u8; 32]>>,
}

impl Strangers {
    pub(crate) fn new() -> Strangers {
        Strangers { peers: Buckets::new(UNKNOWN, PEERS_MAX), rest: Buckets::new(UNKNOWN, 1), known: Mutex::default() }
    }

    /// Takes one request from a peer's bucket; if there is none left, says when there is.
    pub(crate) fn take(&self, peer: IpAddr, now: Instant) -> Result<Source, Duration> {
        let peer = network(peer);
        match self.peers.take(peer, now) {
            Ok(()) => return Ok(Source::Peer(peer)),
            Err(Refused::Wait(wait)) => return Err(wait),
            Err(Refused::NoRoom) => {}
        }
        match self.rest.take((), now) {
            Err(Refused::Wait(wait)) => Err(wait),
            Ok(()) | Err(Refused::NoRoom) => Ok(Source::Rest),
        }
    }

    /// Gives back what was taken: the token counts.
    pub(crate) fn give_back(&self, source: Source) {
        match source {
            Source::Peer(peer) => self.peers.give_back(&peer),
            Source::Rest => self.rest.give_back(&()),
        }
    }

    /// Whether this secret was that of a token which counted, when it was last asked for.
    pub(crate) fn knows(&self, secret: &str) -> bool {
        self.known().contains(&digest(secret))
    }

    /// This secret is that of a token which counts.
    pub(crate) fn learn(&self, secret: &str) {
        let mut known = self.known();
        if known.len() >= KNOWN_MAX {
            // Any one: it is learned again with its next request.
            let one = known.iter().next().copied();
            if let Some(one) = one {
                known.remove(&one);
            }
        }
        known.insert(digest(secret));
    }

    /// This secret is of no token, or of one that counts no more.
    pub(crate) fn forget(&self, secret: &str) {
        self.known().remove(&digest(secret));
    }

    fn known(&self) -> MutexGuard<'_, HashSet<[u8; 32]>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn digest(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

/// What one peer has to itself: an IPv4 address, or the /64 that an IPv6 address is of.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
        address => address,
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
        let count = || rates.0.table.lock().unwrap().buckets.len();
        assert_eq!(count(), TOKENS_MAX);
        rates.take(TokenId::new(), start + SWEEP).expect("room");
        assert_eq!(count(), 1);
    }

    /// Takes until there is nothing left; gives how many there were.
    fn drain(strangers: &Strangers, peer: &str, now: Instant) -> u32 {
        let peer = peer.parse().expect("an address");
        (0..UNKNOWN.burst + 1).take_while(|_| strangers.take(peer, now).is_ok()).count() as u32
    }

    #[test]
    fn a_peer_is_an_address_or_a_network_of_one_subscriber() {
        let (strangers, start) = (Strangers::new(), Instant::now());
        for (peer, left) in [
            ("192.0.2.1", UNKNOWN.burst),
            ("192.0.2.2", UNKNOWN.burst),
            ("::ffff:192.0.2.1", 0),
            ("2001:db8:0:1::1", UNKNOWN.burst),
            ("2001:db8:0:1:ffff::", 0),
            ("2001:db8:0:2::1", UNKNOWN.burst),
        ] {
            assert_eq!(drain(&strangers, peer, start), left, "{peer}");
        }
        assert_eq!(drain(&strangers, "192.0.2.1", start + Duration::from_secs(1)), UNKNOWN.per_second);
    }

    #[test]
    fn what_is_given_back_was_not_taken() {
        let (strangers, start) = (Strangers::new(), Instant::now());
        let peer = "192.0.2.1".parse().expect("an address");
        for _ in 0..10 * UNKNOWN.burst {
            let source = strangers.take(peer, start).expect("it was given back");
            strangers.give_back(source);
        }
    }

    #[test]
    fn those_for_whom_there_is_no_room_share_one_bucket() {
        let (strangers, start) = (Strangers::new(), Instant::now());
        let peer = |i: usize| IpAddr::V4(u32::try_from(i).expect("small").into());
        for i in 0..PEERS_MAX {
            assert_eq!(strangers.take(peer(i), start), Ok(Source::Peer(peer(i))));
        }
        for i in 0..UNKNOWN.burst as usize {
            assert_eq!(strangers.take(peer(PEERS_MAX + i), start), Ok(Source::Rest));
        }
        strangers.take(peer(2 * PEERS_MAX), start).expect_err("an address for each guess is no way around the limit");
        strangers.take(peer(0), start).expect("who was there before has his own");
    }

    #[test]
    fn known_tokens_are_bounded_and_can_be_forgotten() {
        let strangers = Strangers::new();
        for i in 0..KNOWN_MAX + 10 {
            strangers.learn(&format!("token {i}"));
        }
        assert_eq!(strangers.known().len(), KNOWN_MAX);
        let last = format!("token {}", KNOWN_MAX + 9);
        assert!(strangers.knows(&last));
        strangers.forget(&last);
        assert!(!strangers.knows(&last));
    }
}
