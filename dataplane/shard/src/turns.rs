//! Whose turn it is: a shard's CPU time for JavaScript, in fair turns between tenants.
//!
//! Most events are handled where they arrive, at once. An event waits here instead when its Worker is suspended in the
//! middle of a call, when the tenant is ahead of others that wait, or when the round, or one call, has used up its time. One task
//! gives turns to those that wait, a slice at a time, and lets the executor look at its rings between rounds.
//!
//! **Fairness** is start-time fair queueing: each tenant has a virtual time, which advances by the CPU time it uses divided by
//! its weight; the one that is behind comes first. A tenant that comes back after a pause starts at the time of those that
//! run: pauses are not saved up, and what somebody used while nobody waited is not held against them.
//!
//! **Starts** of Workers have a queue of their own, in the order in which they came: one between two rounds, and half of the time
//! where those that run wait too. A start is milliseconds that cannot be interrupted. Where a thousand tenants come at the same
//! time each has the same claim as one who has been here all along, who would wait for all of them; as it is, for one.
//!
//! **Answers** leave when the executor looks at its rings. So it is let do that once before a Worker goes on with what it was
//! suspended in, or one is started, where anybody was served since: they would wait for a slice that is not theirs.
//!
//! *Invariants:* a tenant is in the queue once if one of its Workers waits; a Worker waits once, however many events it has.
//! *Bounds:* a round takes [`ROUND_NS`] and one slice at most; then one start. *Thread:* one shard's.

use crate::apart::Held;
use crate::cell::WorkerCell;
use crate::crash_loop::CrashLoops;
use crate::shard::Shard;
use base::id::AccountId;
use base::limits::WEIGHT;
use glommio::timer::Timer;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use worker_api::event::MonotonicNs;
use worker_api::{Ticks, thread_cpu_ns, ticks, ticks_to_ns};

/// CPU time of JavaScript after which the executor looks at its rings, ns.
const ROUND_NS: u64 = 500_000;
/// How far ahead of a waiting tenant another may be and still be served at once, ns of virtual time.
const AHEAD_NS: u64 = 1_000_000;
/// Age of a reading of the CPU clock after which a call takes a new one, ns; a call that takes longer is judged by it.
const ANCHOR_NS: u64 = 1_000_000;
/// Time after a Worker's start in which another one waits for a turn, ns.
const START_GAP_NS: u64 = 1_000_000;
/// Bits after the point of [`Tenant::pace`].
const PACE_BITS: u32 = 16;
/// Sleep between two rounds.
const PAUSE: Duration = Duration::from_micros(5);

/// What a tenant is remembered for, also while it has no Worker.
#[derive(Default)]
pub(crate) struct Conduct {
    /// What it did that nothing could interrupt.
    pub(crate) held: Held,
    /// Its isolates that were given up.
    pub(crate) crash_loops: CrashLoops,
}

impl Conduct {
    fn matters(&self, now_ns: MonotonicNs) -> bool {
        self.held.remembered(now_ns) || self.crash_loops.remembered(now_ns)
    }
}

/// A tenant's account of CPU time on a shard.
pub(crate) struct Tenant {
    pub(crate) conduct: Conduct,
    virtual_ns: Cell<u64>,
    /// Virtual time for a nanosecond of CPU time, in fixed point: 1 at the usual weight, less at a greater one.
    pace: Cell<u64>,
    /// `Turns::epoch` at which `virtual_ns` was valid.
    epoch: Cell<u64>,
    /// Its Workers that wait, each once.
    waiting: RefCell<VecDeque<Rc<WorkerCell>>>,
}

impl Tenant {
    /// Sets its share: a tenant of twice another's weight gets twice its CPU time where both always want more. What was
    /// charged before stays as it was.
    pub(crate) fn set_weight(&self, weight: u16) {
        self.pace.set((u64::from(WEIGHT) << PACE_BITS) / u64::from(weight.max(1)));
    }

    /// Virtual time for so much CPU time, ns.
    #[inline]
    fn virtual_of(&self, ns: u64) -> u64 {
        ns.saturating_mul(self.pace.get()) >> PACE_BITS
    }
}

/// The tenants of a shard and the order of those that wait.
pub(crate) struct Turns {
    /// Those that have Workers, as of the last sweep.
    tenants: RefCell<HashMap<AccountId, Rc<Tenant>>>,
    /// Of others, in one block of memory: a small one for each, an hour long in between what isolates come and go with, is a page each.
    conducts: RefCell<HashMap<AccountId, Conduct>>,
    /// By virtual time when they were put in, and a number.
    queue: RefCell<BTreeMap<(u64, u64), Rc<Tenant>>>,
    number: Cell<u64>,
    /// Virtual time of the tenant that was served last.
    clock_ns: Cell<u64>,
    /// Counts how often nobody waited.
    epoch: Cell<u64>,
    /// A turn is being given: somebody waits, though the queue may be empty.
    serving: Cell<bool>,
    round_start_ns: Cell<MonotonicNs>,
    round_used_ns: Cell<u64>,
    /// One call used a round up: nobody is handled at once before the executor has looked at its rings.
    spent: Cell<bool>,
    /// Somebody was served since the executor last looked at its rings.
    unsent: Cell<bool>,
    /// The slice that is next has waited for that look.
    deferred: Cell<bool>,
    /// A reading of the thread's CPU clock, and when: at most [`ANCHOR_NS`] before the call that runs began.
    anchor: Cell<(Ticks, u64)>,
    /// Workers whose start waits, each once.
    starts: RefCell<VecDeque<Rc<WorkerCell>>>,
    /// What starts have taken more than rounds since those that run wait too, ns.
    starts_ahead_ns: Cell<u64>,
    /// When a Worker's start last ended or was suspended.
    started_ns: Cell<MonotonicNs>,
    waker: RefCell<Option<Waker>>,
}

impl Turns {
    pub(crate) fn new() -> Turns {
        Turns {
            tenants: RefCell::new(HashMap::new()),
            conducts: RefCell::new(HashMap::new()),
            queue: RefCell::new(BTreeMap::new()),
            number: Cell::new(0),
            clock_ns: Cell::new(0),
            epoch: Cell::new(0),
            serving: Cell::new(false),
            round_start_ns: Cell::new(0),
            round_used_ns: Cell::new(0),
            spent: Cell::new(false),
            unsent: Cell::new(false),
            deferred: Cell::new(false),
            anchor: Cell::new((0, 0)),
            starts: RefCell::new(VecDeque::new()),
            starts_ahead_ns: Cell::new(0),
            started_ns: Cell::new(0),
            waker: RefCell::new(None),
        }
    }

    /// The tenant of an account.
    pub(crate) fn tenant(&self, account: AccountId) -> Rc<Tenant> {
        let mut tenants = self.tenants.borrow_mut();
        let new = || {
            Rc::new(Tenant {
                conduct: self.conducts.borrow_mut().remove(&account).unwrap_or_default(),
                virtual_ns: Cell::new(0),
                pace: Cell::new(1 << PACE_BITS),
                epoch: Cell::new(0),
                waiting: RefCell::new(VecDeque::new()),
            })
        };
        tenants.entry(account).or_insert_with(new).clone()
    }

    /// Forgets tenants without Workers, but for what matters of their conduct.
    pub(crate) fn sweep(&self, now_ns: MonotonicNs) {
        let mut conducts = self.conducts.borrow_mut();
        let mut tenants = self.tenants.borrow_mut();
        for (account, tenant) in tenants.extract_if(|_, tenant| Rc::strong_count(tenant) == 1) {
            conducts.extend(Rc::into_inner(tenant).map(|tenant| (account, tenant.conduct)));
        }
        conducts.retain(|_, conduct| conduct.matters(now_ns));
    }

    /// Whether an event for this tenant may be handled at once.
    #[inline]
    pub(crate) fn may_run_now(&self, tenant: &Tenant, now_ns: MonotonicNs) -> bool {
        if now_ns.saturating_sub(self.round_start_ns.get()) > 2 * ROUND_NS {
            self.round_start_ns.set(now_ns);
            self.round_used_ns.set(0);
        }
        if self.spent.get() || self.round_used_ns.get() > ROUND_NS {
            return false;
        }
        match self.queue.borrow().first_key_value() {
            None => true,
            Some(((first_ns, _), _)) => self.virtual_ns(tenant) <= first_ns + AHEAD_NS,
        }
    }

    /// Whether a Worker may be started at once: nobody waits, and none was started a moment ago.
    pub(crate) fn may_start_now(&self, now_ns: MonotonicNs) -> bool {
        self.waiting() == 0 && now_ns >= self.started_ns.get().saturating_add(START_GAP_NS)
    }

    /// Lets a Worker's start wait for its turn.
    pub(crate) fn wait_to_start(&self, cell: &Rc<WorkerCell>) {
        cell.waits.set(true);
        self.starts.borrow_mut().push_back(cell.clone());
        self.wake();
    }

    /// A Worker's start has ended or was suspended.
    pub(crate) fn started(&self, now_ns: MonotonicNs) {
        self.started_ns.set(now_ns);
    }

    /// A call into a Worker begins. When, for [`Turns::charge`].
    #[inline]
    pub(crate) fn begin(&self) -> Ticks {
        let now = ticks();
        if ticks_to_ns(now.wrapping_sub(self.anchor.get().0)) > ANCHOR_NS {
            self.anchor.set((now, thread_cpu_ns()));
        }
        now
    }

    /// The call that began then is over or suspended: its tenant used so much CPU time. Of a long one the clock of that is asked too,
    /// for other programs may have had the core.
    #[inline]
    pub(crate) fn charge(&self, tenant: &Tenant, begun: Ticks) {
        let now = ticks();
        let mut ns = ticks_to_ns(now.wrapping_sub(begun));
        if ns > ANCHOR_NS {
            let cpu_ns = thread_cpu_ns();
            ns = ns.min(cpu_ns.saturating_sub(self.anchor.get().1));
            self.anchor.set((now, cpu_ns));
        }
        self.round_used_ns.set(self.round_used_ns.get() + ns);
        self.unsent.set(true);
        if ns > ROUND_NS {
            self.spent.set(true);
            self.wake();
        }
        tenant.virtual_ns.set(self.virtual_ns(tenant) + tenant.virtual_of(ns));
        tenant.epoch.set(self.epoch.get());
    }

    /// Where a tenant is: not behind those that run, and not ahead of them by what it used while nobody waited.
    #[inline]
    fn virtual_ns(&self, tenant: &Tenant) -> u64 {
        if tenant.epoch.get() == self.epoch.get() {
            tenant.virtual_ns.get().max(self.clock_ns.get())
        } else {
            self.clock_ns.get()
        }
    }

    /// Lets a Worker wait for its turn.
    pub(crate) fn wait(&self, cell: &Rc<WorkerCell>) {
        if cell.waits.replace(true) {
            return;
        }
        let tenant = &cell.tenant;
        let first = tenant.waiting.borrow().is_empty();
        tenant.waiting.borrow_mut().push_back(cell.clone());
        if first {
            self.put(tenant);
        }
    }

    fn put(&self, tenant: &Rc<Tenant>) {
        let mut queue = self.queue.borrow_mut();
        if queue.is_empty() && !self.serving.get() {
            self.epoch.set(self.epoch.get() + 1);
        }
        let at_ns = self.virtual_ns(tenant);
        tenant.virtual_ns.set(at_ns);
        tenant.epoch.set(self.epoch.get());
        self.number.set(self.number.get() + 1);
        queue.insert((at_ns, self.number.get()), tenant.clone());
        self.wake();
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// The Worker whose turn it is.
    fn next(&self) -> Option<Rc<WorkerCell>> {
        loop {
            let ((at_ns, _), tenant) = self.queue.borrow_mut().pop_first()?;
            if tenant.virtual_ns.get() > at_ns {
                // It was served meanwhile.
                self.requeue(&tenant);
                continue;
            }
            self.clock_ns.set(at_ns.max(self.clock_ns.get()));
            let cell = tenant.waiting.borrow_mut().pop_front()?;
            cell.waits.set(false);
            return Some(cell);
        }
    }

    /// Puts a tenant back that has Workers waiting, without the queue having been empty.
    fn requeue(&self, tenant: &Rc<Tenant>) {
        self.number.set(self.number.get() + 1);
        let at_ns = self.virtual_ns(tenant);
        self.queue.borrow_mut().insert((at_ns, self.number.get()), tenant.clone());
    }

    /// Whether a slice is to wait for the executor's next look at its rings: once, however many are served meanwhile.
    fn lets_answers_leave(&self) -> bool {
        let defers = self.unsent.get() && !self.deferred.get();
        self.deferred.set(defers);
        defers
    }

    /// Puts a Worker back that was next.
    fn put_back(&self, cell: Rc<WorkerCell>) {
        cell.waits.set(true);
        let tenant = cell.tenant.clone();
        tenant.waiting.borrow_mut().push_front(cell);
        self.requeue(&tenant);
    }

    /// Gives turns for one round.
    fn round(&self, shard: &Rc<Shard>) {
        let start = ticks();
        while let Some(cell) = self.next() {
            if cell.suspended() && self.lets_answers_leave() {
                self.put_back(cell);
                break;
            }
            let tenant = cell.tenant.clone();
            self.serving.set(true);
            if !tenant.waiting.borrow().is_empty() {
                self.requeue(&tenant);
            }
            shard.guarded(|| cell.step(shard));
            self.serving.set(false);
            if ticks_to_ns(ticks() - start) > ROUND_NS {
                break;
            }
        }
        let took_ns = ticks_to_ns(ticks() - start);
        self.starts_ahead_ns.set(self.starts_ahead_ns.get().saturating_sub(took_ns));
    }

    /// Whether a start waits whose turn it is.
    fn start_is_due(&self) -> bool {
        if self.queue.borrow().is_empty() {
            self.starts_ahead_ns.set(0);
        }
        self.starts_ahead_ns.get() == 0 && !self.starts.borrow().is_empty()
    }

    /// Begins the start that has waited for longest.
    fn start_one(&self, shard: &Rc<Shard>) {
        let first = self.starts.borrow_mut().pop_front();
        if let Some(cell) = first {
            cell.waits.set(false);
            let start = ticks();
            shard.guarded(|| cell.step(shard));
            self.starts_ahead_ns.set(ticks_to_ns(ticks() - start));
        }
    }

    /// Has the executor look at its rings.
    async fn look(&self) {
        self.unsent.set(false);
        Timer::new(PAUSE).await;
        self.spent.set(false);
    }

    fn poll_waiting(&self, cx: &Context<'_>) -> Poll<()> {
        if !self.queue.borrow().is_empty() || !self.starts.borrow().is_empty() || self.spent.get() {
            return Poll::Ready(());
        }
        *self.waker.borrow_mut() = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Workers that wait for a turn.
    pub(crate) fn waiting(&self) -> u64 {
        let running: u64 = self.queue.borrow().values().map(|tenant| tenant.waiting.borrow().len() as u64).sum();
        running + self.starts.borrow().len() as u64
    }
}

/// Gives turns until the shard's executor ends.
///
/// Between rounds the task sleeps for a moment instead of yielding: glommio looks at its rings only when no task is left to
/// run or its preemption timer has fired, and where that timer fires before the first task it may even go to sleep with
/// tasks left. A task that sleeps on a timer makes it look each time, and bounds that sleep.
pub(crate) async fn run(shard: Rc<Shard>) {
    loop {
        poll_fn(|cx| shard.turns.poll_waiting(cx)).await;
        shard.turns.round(&shard);
        shard.turns.look().await;
        if shard.turns.start_is_due() {
            shard.turns.start_one(&shard);
            shard.turns.look().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of tenants that always want more, how much CPU time each gets, in slices of a millisecond.
    fn check(weights: &[u16], slices: &[u64]) {
        const SLICE_NS: u64 = 1_000_000;
        let turns = Turns::new();
        let tenant = |index| turns.tenant(AccountId(index as u128));
        let tenants: Vec<_> = (0..weights.len()).map(tenant).collect();
        for (tenant, weight) in tenants.iter().zip(weights) {
            tenant.set_weight(*weight);
        }
        let mut got = vec![0u64; weights.len()];
        for _ in 0..slices.iter().sum::<u64>() {
            let next = (0..tenants.len()).min_by_key(|index| turns.virtual_ns(&tenants[*index])).expect("somebody");
            let tenant = &tenants[next];
            turns.clock_ns.set(turns.virtual_ns(tenant));
            tenant.virtual_ns.set(turns.virtual_ns(tenant) + tenant.virtual_of(SLICE_NS));
            got[next] += 1;
        }
        for (got, wanted) in got.iter().zip(slices) {
            assert!(got.abs_diff(*wanted) <= 1 + wanted / 100, "weights {weights:?} got {got} slices, not {wanted}");
        }
    }

    #[test]
    fn time_in_which_the_thread_did_not_run_is_nobodys() {
        let turns = Turns::new();
        let tenant = turns.tenant(AccountId(1));
        let begun = turns.begin();
        std::thread::sleep(Duration::from_millis(100));
        turns.charge(&tenant, begun);
        assert!(turns.virtual_ns(&tenant) < 50_000_000, "{} ns", turns.virtual_ns(&tenant));
        let begun = turns.begin();
        let until = thread_cpu_ns() + 20_000_000;
        while thread_cpu_ns() < until {}
        let before = turns.virtual_ns(&tenant);
        turns.charge(&tenant, begun);
        assert!(turns.virtual_ns(&tenant) >= before + 20_000_000, "{} ns", turns.virtual_ns(&tenant) - before);
    }

    #[test]
    fn a_tenant_without_workers_is_remembered_for_what_it_did() {
        const MS: u64 = 1_000_000;
        let turns = Turns::new();
        let (good, bad) = (AccountId(1), AccountId(2));
        turns.tenant(good);
        let working = turns.tenant(bad);
        assert!(working.conduct.held.held(100 * MS, 1_000 * MS));
        turns.sweep(2_000 * MS);
        assert_eq!((turns.tenants.borrow().len(), turns.conducts.borrow().len()), (1, 0), "one has a Worker");
        drop(working);
        turns.sweep(3_000 * MS);
        assert_eq!((turns.tenants.borrow().len(), turns.conducts.borrow().len()), (0, 1));
        assert!(
            turns.tenant(bad).conduct.held.quarantined(4_000 * MS)
                && !turns.tenant(good).conduct.held.quarantined(4_000 * MS)
        );
        turns.sweep(5_000 * MS);
        turns.sweep(24 * 3_600 * 1_000 * MS);
        assert_eq!((turns.tenants.borrow().len(), turns.conducts.borrow().len()), (0, 0), "it has been good for long");
    }

    #[test]
    fn after_a_long_call_nobody_is_handled_before_the_next_look_at_the_rings() {
        let turns = Turns::new();
        let tenant = turns.tenant(AccountId(1));
        assert!(turns.may_run_now(&tenant, 1_000_000_000));
        let begun = turns.begin();
        let until = thread_cpu_ns() + 4 * ROUND_NS;
        while thread_cpu_ns() < until {}
        turns.charge(&tenant, begun);
        assert!(!turns.may_run_now(&tenant, 2_000_000_000));
        turns.spent.set(false);
        assert!(turns.may_run_now(&tenant, 2_000_000_000));
    }

    #[test]
    fn a_slice_waits_once_for_the_answers_before_it() {
        let turns = Turns::new();
        let tenant = turns.tenant(AccountId(1));
        let serve = || turns.charge(&tenant, turns.begin());
        assert!(!turns.lets_answers_leave(), "nobody was served");
        serve();
        assert!(turns.lets_answers_leave());
        turns.unsent.set(false);
        serve();
        assert!(!turns.lets_answers_leave(), "those that came during the look wait for the slice");
        assert!(turns.lets_answers_leave(), "the slice after it waits again");
    }

    #[test]
    fn slices_are_given_in_proportion_to_weight() {
        check(&[100, 100], &[500, 500]);
        check(&[100, 300], &[250, 750]);
        check(&[1, 1000], &[1, 1000]);
        check(&[999, 1000], &[999, 1000]);
        check(&[50, 100, 850], &[50, 100, 850]);
    }

    #[test]
    fn the_usual_weight_is_charged_as_it_is_and_none_overflows() {
        let turns = Turns::new();
        let tenant = turns.tenant(AccountId(1));
        assert_eq!(tenant.virtual_of(1_234_567), 1_234_567);
        tenant.set_weight(WEIGHT);
        assert_eq!(tenant.virtual_of(1_234_567), 1_234_567);
        tenant.set_weight(1);
        assert_eq!(tenant.virtual_of(base::limits::CPU_PER_REQUEST_MAX_NS), 100 * base::limits::CPU_PER_REQUEST_MAX_NS);
        tenant.set_weight(0);
        assert!(tenant.virtual_of(u64::MAX) > 0);
    }
}
