//! Tenants whose isolates have to be given up again and again.
//!
//! Where V8 cannot go on with an isolate, for want of memory or in a function that neither ends nor polls, it is given up, and so is the
//! one that a panic of ours went through. Its pages go back to the kernel, what malloc had given V8 for it does not: some hundred
//! kilobytes, and several megabytes after tens of thousands of small buffers. Limits of CPU time alone would let one tenant cost its
//! node that for each quarter of a second, until there is no memory for anybody. So each isolate of a deployment beyond the first few makes its
//! next start on this shard wait, twice as long each time, and so does each of an account beyond the first [`ACCOUNT_FREE`] for all
//! of its deployments: one bad Worker does not keep the account's others from starting, a dozen do. What is up goes on. One is
//! forgiven an hour.
//!
//! *Bounds:* of an account that never stops, on a shard, [`ACCOUNT_FREE`] and about a dozen in the first hour, and one an hour then.

use base::id::DeploymentId;
use base::limits::S_NS;
use std::cell::RefCell;
use std::collections::HashMap;
use worker_api::event::MonotonicNs;

/// Isolates of a deployment that may be given up without a wait.
const FREE: u32 = 3;
/// The same of an account: a deployment alone does not come so far.
const ACCOUNT_FREE: u32 = 32;
/// The first wait, ns.
const WAIT_NS: u64 = S_NS;
/// The longest, ns.
const WAIT_NS_MAX: u64 = 3_600 * S_NS;
/// After so long without another, one is forgiven, ns.
const FORGIVE_NS: u64 = 3_600 * S_NS;

// Else it would be forgiven while it waits.
const _: () = assert!(WAIT_NS < WAIT_NS_MAX && WAIT_NS_MAX <= FORGIVE_NS);

/// A tenant's record of isolates that were given up, on a shard.
#[derive(Default)]
pub(crate) struct CrashLoops {
    account: RefCell<Record>,
    deployments: RefCell<HashMap<DeploymentId, Record>>,
}

impl CrashLoops {
    /// An isolate of this deployment was given up. How long its next start has to wait, ns.
    pub(crate) fn add(&self, deployment: DeploymentId, now_ns: MonotonicNs) -> u64 {
        let of_all_ns = self.account.borrow_mut().add(now_ns, ACCOUNT_FREE);
        let own_ns = self.deployments.borrow_mut().entry(deployment).or_default().add(now_ns, FREE);
        own_ns.max(of_all_ns)
    }

    /// Whether this deployment may not be started.
    pub(crate) fn waits(&self, deployment: DeploymentId, now_ns: MonotonicNs) -> bool {
        let own = |record: &Record| now_ns < record.until_ns;
        own(&self.account.borrow()) || self.deployments.borrow().get(&deployment).is_some_and(own)
    }

    /// Whether the record still matters; forgets what does not.
    pub(crate) fn remembered(&self, now_ns: MonotonicNs) -> bool {
        let mut deployments = self.deployments.borrow_mut();
        deployments.retain(|_, record| record.unforgiven(now_ns) > 0);
        !deployments.is_empty() || self.account.borrow().unforgiven(now_ns) > 0
    }
}

#[derive(Default)]
struct Record {
    /// Those that are not forgiven, as of `at_ns`.
    count: u32,
    at_ns: MonotonicNs,
    until_ns: MonotonicNs,
}

impl Record {
    /// One more. How long the next start has to wait, ns.
    fn add(&mut self, now_ns: MonotonicNs, free: u32) -> u64 {
        let count = self.unforgiven(now_ns).saturating_add(1);
        let wait_ns = match count.checked_sub(free + 1) {
            None => 0,
            Some(doubled) => (WAIT_NS << doubled.min(16)).min(WAIT_NS_MAX),
        };
        *self = Record { count, at_ns: now_ns, until_ns: now_ns + wait_ns };
        wait_ns
    }

    fn unforgiven(&self, now_ns: MonotonicNs) -> u32 {
        let forgiven = now_ns.saturating_sub(self.at_ns) / FORGIVE_NS;
        self.count.saturating_sub(u32::try_from(forgiven).unwrap_or(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const H_NS: u64 = 3_600 * S_NS;
    const BAD: DeploymentId = DeploymentId(1);
    const OTHER: DeploymentId = DeploymentId(2);

    #[test]
    fn the_first_few_are_free_and_then_waits_double_up_to_an_hour() {
        let tenant = CrashLoops::default();
        let waits_s: Vec<u64> = (0..20).map(|_| tenant.add(BAD, S_NS) / S_NS).collect();
        assert_eq!(waits_s[..8], [0, 0, 0, 1, 2, 4, 8, 16]);
        assert!(waits_s[15..].iter().all(|wait| *wait == 3_600), "{waits_s:?}");
    }

    #[test]
    fn a_wait_ends_and_is_the_deployments_own() {
        let tenant = CrashLoops::default();
        for _ in 0..5 {
            tenant.add(BAD, 10 * S_NS);
        }
        assert!(tenant.waits(BAD, 11 * S_NS) && tenant.waits(BAD, 12 * S_NS - 1));
        assert!(!tenant.waits(BAD, 12 * S_NS) && !tenant.waits(OTHER, 11 * S_NS));
    }

    #[test]
    fn one_is_forgiven_an_hour() {
        let tenant = CrashLoops::default();
        for _ in 0..3 {
            tenant.add(BAD, S_NS);
        }
        assert!(tenant.remembered(S_NS + 3 * H_NS - 1) && !tenant.remembered(S_NS + 3 * H_NS));
        for _ in 0..3 {
            tenant.add(OTHER, S_NS);
        }
        assert_eq!(tenant.add(OTHER, S_NS + H_NS), 0, "two and this one");
        assert_eq!(tenant.add(OTHER, S_NS + 2 * H_NS - 1), S_NS, "none was since");
    }

    /// How many are given up in each hour of a day of a tenant with so many deployments that has it done whenever it can: a quarter of
    /// a second is what it takes.
    fn day(deployments: u128) -> [u32; 24] {
        let (tenant, mut now_ns, mut in_hour) = (CrashLoops::default(), S_NS, [0; 24]);
        while now_ns < 24 * H_NS {
            for id in (0..deployments).map(DeploymentId) {
                if !tenant.waits(id, now_ns) {
                    tenant.add(id, now_ns);
                    in_hour[usize::try_from(now_ns / H_NS).expect("a day")] += 1;
                }
            }
            now_ns += S_NS / 4;
        }
        in_hour
    }

    #[test]
    fn what_never_stops_is_held_to_one_an_hour() {
        let one = day(1);
        assert!((14..=16).contains(&one[0]), "{one:?}");
        let many = day(1_000);
        assert!((40..=46).contains(&many[0]), "{many:?}");
        for day in [one, many] {
            assert!(day[1..].iter().all(|count| *count <= 1), "{day:?}");
        }
    }

    #[test]
    fn one_bad_worker_does_not_keep_the_accounts_others_from_starting() {
        let (tenant, mut now_ns) = (CrashLoops::default(), S_NS);
        while now_ns < 24 * H_NS {
            now_ns += tenant.add(BAD, now_ns).max(S_NS / 4);
            assert!(!tenant.waits(OTHER, now_ns - 1), "{now_ns}");
        }
    }
}
