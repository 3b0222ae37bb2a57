//! Where tenants go that a shard cannot interrupt: a second thread on the shard's core, at a lower weight.
//!
//! A Worker is suspended where V8 looks for interrupts: at the end of a loop's round, at a call. A long garbage collection or a
//! builtin that computes for long looks at nothing, and holds the shard meanwhile. A tenant that shows this, or that starts from a long
//! source without compiled code, or whose isolates have to be replaced many times a second, is quarantined ([`Held`]): its Workers are
//! started anew on the apart thread, where the kernel takes turns between it and the shard. That costs its requests two changes of
//! thread, and nobody else anything.
//!
//! Nor can it be interrupted that V8 disposes of a large heap: that is done there too, whosever it was ([`Apart::dispose`]).
//!
//! The apart thread runs the same `Worker`s with the same events, and suspends them to take turns between them. Events go there
//! and effects come back through two queues; the connection, the outbound requests and the timers stay with the shard.
//!
//! *Invariants:* a Worker is made and used on one thread. Events of a Worker keep their order. The shard never waits for
//! the apart thread. *Bounds:* what is in the queues is bounded by the grammar of `worker_api::event`; a request that has waited here for
//! as long as its response may take is answered and never begun, as on the shard. *Fails:* where the thread
//! cannot be started, quarantined tenants stay on the shard. A panic in a Worker gives up that Worker alone.

use crate::cell::{Late, WorkerCell, late, request_of};
use crate::shard::{Shard, panic_text};
use std::any::Any;
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::{Rc, Weak};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::thread::{self, Thread};
use std::time::Instant;
use std::{io, mem};
use worker_api::event::{Effect, Event, MonotonicNs, Now, RequestId};
use worker_api::{CodeOrigin, Engine, MemoryGauge, Progress, Remains, RequestLimits, StartError, Suspendable, Worker};
use worker_api::{WorkerSpec, set_nice, shrink_stacks, usual_slice};

/// Nice value of the apart thread: about a tenth of the shard's weight while both want the core.
const NICE: i32 = 10;

/// Shard to apart thread.
enum Order {
    Start(Box<WorkerSpec>),
    Event(Now, Event),
    Drop,
}

/// What a Worker did on the apart thread.
pub(crate) struct Report {
    number: u64,
    /// How its start ended, in the report that says it.
    pub(crate) started: Option<Result<(), StartError>>,
    /// V8 refused its compiled code.
    pub(crate) code_rejected: bool,
    pub(crate) effects: Vec<Effect>,
    pub(crate) gauge: Option<MemoryGauge>,
    pub(crate) timeout_ns: MonotonicNs,
    pub(crate) condemned: bool,
    /// V8 could not go on with its isolate.
    pub(crate) given_up: bool,
    /// How long it went on after it was asked to let go, see [`Held`], ns.
    pub(crate) held_ns: u64,
    /// The request whose event it was, if it was one of a request's.
    pub(crate) current: Option<RequestId>,
    /// A panic of ours passed through it; it is gone.
    pub(crate) broken: Option<Lost>,
}

/// What is known of a Worker that a panic took.
pub(crate) struct Lost {
    /// The last request that it was given: those that came later wait in its orders, or are on their way.
    begun: Option<RequestId>,
}

impl Lost {
    /// Whether a request's handler may have begun.
    pub(crate) fn has_begun(&self, id: RequestId) -> bool {
        self.begun.is_some_and(|begun| id <= begun)
    }
}

#[derive(Default)]
struct Queues {
    orders: Mutex<Vec<(u64, Order)>>,
    reports: Mutex<Vec<Report>>,
    /// Requests that waited for too long: each with the number of its Worker.
    late: Mutex<Vec<(u64, Late)>>,
    /// The shard's task that takes reports.
    taker: Mutex<Option<Waker>>,
    /// What is left of Workers that ended.
    remains: Mutex<Vec<Remains>>,
    stop: AtomicBool,
}

/// A shard's side of its apart thread.
pub(crate) struct Apart {
    core: Option<usize>,
    running: OnceCell<Option<Running>>,
    cells: RefCell<HashMap<u64, Weak<WorkerCell>>>,
}

struct Running {
    queues: Arc<Queues>,
    thread: Thread,
}

impl Apart {
    /// Nothing runs before the first tenant is quarantined. `core` is the one that the shard is pinned to.
    pub(crate) fn new(core: Option<usize>) -> Apart {
        Apart { core, running: OnceCell::new(), cells: RefCell::new(HashMap::new()) }
    }

    fn running(&self, shard: &Rc<Shard>) -> Option<&Running> {
        let start = || match Running::start(shard.engine.clone(), shard.clock.origin(), self.core) {
            Ok(running) => {
                take_reports(shard, &running.queues);
                Some(running)
            }
            Err(error) => {
                tracing::error!(%error, "no thread for quarantined tenants; they stay on their shard");
                None
            }
        };
        self.running.get_or_init(start).as_ref()
    }

    /// Starts a Worker there. Whether there is a thread for it.
    pub(crate) fn start(&self, shard: &Rc<Shard>, cell: &Rc<WorkerCell>, spec: &WorkerSpec) -> bool {
        let Some(running) = self.running(shard) else { return false };
        self.cells.borrow_mut().insert(cell.number, Rc::downgrade(cell));
        running.order(cell.number, Order::Start(Box::new(spec.clone())));
        true
    }

    /// Hands an event to a Worker there.
    pub(crate) fn send(&self, number: u64, now: Now, event: Event) {
        if let Some(Some(running)) = self.running.get() {
            running.order(number, Order::Event(now, event));
        }
    }

    /// The Worker's cell is gone.
    pub(crate) fn drop_worker(&self, number: u64) {
        self.cells.borrow_mut().remove(&number);
        if let Some(Some(running)) = self.running.get() {
            running.order(number, Order::Drop);
        }
    }

    /// Disposes of an isolate: there, or here if there is no thread for it.
    pub(crate) fn dispose(&self, shard: &Rc<Shard>, remains: Remains) {
        if let Some(running) = self.running(shard) {
            lock(&running.queues.remains).push(remains);
            running.thread.unpark();
            shard.metrics.disposals_apart.add(1);
        }
    }

    fn cell(&self, number: u64) -> Option<Rc<WorkerCell>> {
        self.cells.borrow().get(&number).and_then(Weak::upgrade)
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        if let Some(Some(running)) = self.running.get() {
            running.queues.stop.store(true, Ordering::Release);
            running.thread.unpark();
        }
    }
}

impl Queues {
    fn wake_taker(&self) {
        let taker = lock(&self.taker).take();
        if let Some(taker) = taker {
            taker.wake();
        }
    }
}

impl Running {
    fn start(engine: Engine, origin: Instant, core: Option<usize>) -> io::Result<Running> {
        let queues = Arc::new(Queues::default());
        let for_thread = queues.clone();
        let joiner = thread::Builder::new().name("apart".into()).spawn(move || {
            settle(core);
            work(&engine, origin, &for_thread);
        })?;
        Ok(Running { queues, thread: joiner.thread().clone() })
    }

    fn order(&self, number: u64, order: Order) {
        let mut orders = lock(&self.queues.orders);
        orders.push((number, order));
        // The thread sleeps only after it has found the queue empty.
        if orders.len() == 1 {
            drop(orders);
            self.thread.unpark();
        }
    }
}

/// Takes reports until the shard's executor ends.
fn take_reports(shard: &Rc<Shard>, queues: &Arc<Queues>) {
    let (shard, queues) = (Rc::downgrade(shard), queues.clone());
    let task = poll_fn(move |cx| {
        *lock(&queues.taker) = Some(cx.waker().clone());
        let (late, reports) = (take(&queues.late), take(&queues.reports));
        let Some(shard) = shard.upgrade() else { return Poll::Ready(()) };
        for (number, late) in late {
            if let Some(cell) = shard.apart.cell(number) {
                shard.guarded(|| cell.answer_late(&shard, late));
            }
        }
        for report in reports {
            if let Some(cell) = shard.apart.cell(report.number) {
                shard.guarded(|| cell.reported(&shard, report));
            }
        }
        Poll::Pending
    });
    glommio::spawn_local(task).detach();
}

/// A Worker on the apart thread.
#[derive(Default)]
struct Seat {
    worker: Option<Worker>,
    started: Option<Result<(), StartError>>,
}

struct Guest {
    limits: RequestLimits,
    seat: Suspendable<Seat>,
    orders: VecDeque<Order>,
    /// It is in the round.
    waits: bool,
    /// The request whose event it takes or took last, if it is of one.
    current: Option<RequestId>,
    /// The last request that it was given.
    begun: Option<RequestId>,
}

/// The apart thread: takes orders, gives turns in a round, sleeps when there is nothing to do. `origin` is its shard's zero of time.
fn work(engine: &Engine, origin: Instant, queues: &Queues) {
    let mut guests: HashMap<u64, Guest> = HashMap::new();
    let mut round: VecDeque<u64> = VecDeque::new();
    while !queues.stop.load(Ordering::Acquire) {
        for (number, order) in take(&queues.orders) {
            // It may drop a Worker.
            let _told = caught(|| accept(&mut guests, &mut round, number, order));
        }
        let remains = lock(&queues.remains).pop();
        let nothing_to_do = round.is_empty() && remains.is_none();
        // One for each turn of a guest's.
        let _told = caught(|| drop(remains));
        let Some(number) = round.pop_front() else {
            if nothing_to_do {
                shrink_stacks();
                thread::park();
            }
            continue;
        };
        let Some(guest) = guests.get_mut(&number) else { continue };
        let shed = guest.shed_late(origin.elapsed().as_nanos() as u64);
        if !shed.is_empty() {
            lock(&queues.late).extend(shed.into_iter().map(|late| (number, late)));
            queues.wake_taker();
        }
        let report = match caught(|| guest.turn(engine)) {
            Some(Progress::Done) => guest.report(number),
            Some(Progress::Suspended) => None,
            None => {
                let report = guest.broken(number);
                // Nothing is known of its state: it is never entered nor dropped again.
                mem::forget(guests.remove(&number));
                Some(report)
            }
        };
        if let Some(guest) = guests.get_mut(&number) {
            guest.waits = guest.seat.is_suspended() || !guest.orders.is_empty();
            if guest.waits {
                round.push_back(number);
            }
        }
        if let Some(report) = report {
            lock(&queues.reports).push(report);
            queues.wake_taker();
        }
    }
}

/// Runs what may panic, which must not end the thread; none if it did.
fn caught<R>(run: impl FnOnce() -> R) -> Option<R> {
    let told = |panic: &Box<dyn Any + Send>| {
        tracing::error!(panic = panic_text(panic.as_ref()), "a panic was caught on the apart thread");
    };
    catch_unwind(AssertUnwindSafe(run)).inspect_err(told).ok()
}

/// Puts an order where it belongs; one for a Worker that is gone is void.
fn accept(guests: &mut HashMap<u64, Guest>, round: &mut VecDeque<u64>, number: u64, order: Order) {
    let guest = match order {
        Order::Drop => {
            guests.remove(&number);
            return;
        }
        Order::Start(ref spec) => guests.entry(number).or_insert_with(|| Guest::new(spec.limits)),
        Order::Event(..) => match guests.get_mut(&number) {
            Some(guest) => guest,
            None => return,
        },
    };
    guest.orders.push_back(order);
    if !mem::replace(&mut guest.waits, true) {
        round.push_back(number);
    }
}

impl Guest {
    fn new(limits: RequestLimits) -> Guest {
        Guest {
            limits,
            seat: Suspendable::new(Seat::default()),
            orders: VecDeque::new(),
            waits: false,
            current: None,
            begun: None,
        }
    }

    /// Takes out the requests whose time is over before the Worker could begin with them.
    fn shed_late(&mut self, now_ns: MonotonicNs) -> Vec<Late> {
        let (mut shed, limits) = (Vec::new(), &self.limits);
        let least_ns = limits.wall_head_ns.min(limits.wall_ns);
        // The first one waits for longest.
        if let Some(Order::Event(came, _)) = self.orders.front()
            && now_ns >= came.monotonic_ns.saturating_add(least_ns)
        {
            self.orders.retain(|order| {
                let Order::Event(came, event) = order else { return true };
                let late = late(event, came.monotonic_ns, now_ns, limits);
                shed.extend(late);
                late.is_none()
            });
        }
        shed
    }

    fn take_order(&mut self) -> Option<Order> {
        let order = self.orders.pop_front()?;
        self.current = None;
        if let Order::Event(_, event) = &order {
            self.current = request_of(event);
            if matches!(event, Event::Request { .. } | Event::Invoke { .. }) {
                self.begun = self.begun.max(self.current);
            }
        }
        Some(order)
    }

    fn turn(&mut self, engine: &Engine) -> Progress {
        if self.seat.is_suspended() {
            return self.seat.resume();
        }
        match self.take_order() {
            Some(Order::Start(spec)) => {
                let engine = engine.clone();
                self.seat.start(move |seat| {
                    seat.started = Some(Worker::start(&engine, *spec).map(|worker| seat.worker = Some(worker)));
                })
            }
            Some(Order::Event(now, event)) => self.seat.start(move |seat| {
                if let Some(worker) = &mut seat.worker {
                    worker.handle(now, event);
                }
            }),
            Some(Order::Drop) | None => Progress::Done,
        }
    }

    fn report(&mut self, number: u64) -> Option<Report> {
        let seat = self.seat.get_mut()?;
        let started = seat.started.take();
        let Some(worker) = &mut seat.worker else { return Some(Report { started, ..Report::without_worker(number) }) };
        worker.count_memory();
        Some(Report {
            number,
            gauge: started.is_some().then(|| worker.memory_gauge()),
            started,
            code_rejected: worker.code_origin() == CodeOrigin::Rejected,
            effects: std::iter::from_fn(|| worker.poll_effect()).collect(),
            timeout_ns: worker.poll_timeout().unwrap_or(MonotonicNs::MAX),
            condemned: worker.condemned(),
            given_up: worker.given_up(),
            held_ns: worker.take_held_ns(),
            current: self.current,
            broken: None,
        })
    }

    fn broken(&self, number: u64) -> Report {
        let broken = Some(Lost { begun: self.begun });
        Report { current: self.current, broken, given_up: true, ..Report::without_worker(number) }
    }
}

impl Report {
    fn without_worker(number: u64) -> Report {
        let effects = Vec::new();
        Report {
            number,
            started: None,
            code_rejected: false,
            effects,
            gauge: None,
            timeout_ns: MonotonicNs::MAX,
            condemned: true,
            given_up: false,
            held_ns: 0,
            current: None,
            broken: None,
        }
    }
}

/// Gives the calling thread its place: the shard's core, and less of it than the shard has.
fn settle(core: Option<usize>) {
    if let Some(core) = core {
        // SAFETY: a set of bits, for which all zeroes is the empty set.
        let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
        // SAFETY: sets a bit of `set`; a core that the shard is pinned to is within its size.
        unsafe { libc::CPU_SET(core, &mut set) };
        // SAFETY: `set` is a whole set of the size given, read during the call only; 0 is the calling thread.
        if unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set) } != 0 {
            tracing::warn!(error = %io::Error::last_os_error(), "the apart thread is not pinned");
        }
    }
    // One of the shard's: it is to take the core from this thread, and not this from it.
    if let Err(error) = usual_slice().and_then(|()| set_nice(NICE)) {
        tracing::warn!(%error, "the apart thread has the shard's weight");
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is in a queue, which is free again when this returns. In the head of a `for` its lock would be held for all of the loop: the
/// shard waited for V8 to drop a full heap before it could send its next order.
fn take<T>(queue: &Mutex<Vec<T>>) -> Vec<T> {
    mem::take(&mut *lock(queue))
}

/// A tenant's record of holding its shard.
#[derive(Default)]
pub(crate) struct Held {
    /// Time held lately, ns; leaks at [`LEAK_NS_PER_S`].
    level_ns: Cell<u64>,
    at_ns: Cell<MonotonicNs>,
    until_ns: Cell<MonotonicNs>,
    /// Quarantines so far.
    times: Cell<u32>,
}

/// Going on for this long after being asked for the thread is as it should be, ns: a small collection.
const FINE_NS: u64 = 4_000_000;
/// What replacing an isolate that a limit ended holds a thread for, ns: dropping it and making another cannot be interrupted. A tenant
/// that has it done many times a second is felt by the others for that alone.
pub(crate) const REPLACE_NS: u64 = 5_000_000;
/// Time held that costs a tenant its place on the shard, ns.
const LEVEL_NS_MAX: u64 = 25_000_000;
/// What is forgiven in a second, ns.
const LEAK_NS_PER_S: u64 = 5_000_000;
/// The first quarantine, ns; doubled each time. It begins anew while the tenant goes on like that on the apart thread.
const QUARANTINE_NS: u64 = 60_000_000_000;
/// The longest quarantine, ns.
const QUARANTINE_NS_MAX: u64 = 3_600_000_000_000;

const _: () = assert!(FINE_NS < LEVEL_NS_MAX && QUARANTINE_NS < QUARANTINE_NS_MAX);
// One a second is forgiven.
const _: () = assert!(REPLACE_NS > FINE_NS && REPLACE_NS <= LEAK_NS_PER_S);

impl Held {
    /// The tenant held its thread for so long at a stretch after it was asked to let go. Whether it is quarantined from now on.
    /// One that is, and still holds the apart thread, stays there: it would come back to its shard only to hold that.
    pub(crate) fn held(&self, held_ns: u64, now_ns: MonotonicNs) -> bool {
        if held_ns <= FINE_NS {
            return false;
        }
        let leaked_ns = now_ns.saturating_sub(self.at_ns.replace(now_ns)) / 1_000_000 * LEAK_NS_PER_S / 1_000;
        let level_ns = self.level_ns.get().saturating_sub(leaked_ns) + held_ns;
        self.level_ns.set(level_ns);
        if level_ns <= LEVEL_NS_MAX {
            return false;
        }
        self.level_ns.set(0);
        let new = !self.quarantined(now_ns);
        if new {
            self.times.set(self.times.get() + 1);
        }
        let doubled = self.times.get().saturating_sub(1).min(16);
        self.until_ns.set(now_ns + QUARANTINE_NS.saturating_mul(1 << doubled).min(QUARANTINE_NS_MAX));
        new
    }

    /// The tenant is about to hold its shard for too long: it is quarantined before. Whether that is new.
    pub(crate) fn foresee(&self, now_ns: MonotonicNs) -> bool {
        let new = !self.quarantined(now_ns);
        if new {
            self.until_ns.set(now_ns + QUARANTINE_NS);
        }
        new
    }

    /// Whether its record still matters.
    pub(crate) fn remembered(&self, now_ns: MonotonicNs) -> bool {
        let known = now_ns < self.until_ns.get().saturating_add(QUARANTINE_NS_MAX) && self.times.get() > 0;
        known || self.quarantined(now_ns)
    }

    /// Whether its Workers belong on the apart thread.
    #[inline]
    pub(crate) fn quarantined(&self, now_ns: MonotonicNs) -> bool {
        now_ns < self.until_ns.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::header::HeaderBlock;
    use std::time::Duration;
    use worker_api::event::{IncomingBody, Invocation, RequestHead};

    const MS: u64 = 1_000_000;

    fn order(event: impl FnOnce(RequestId) -> Event, id: u64) -> Order {
        Order::Event(Now { monotonic_ns: 0, unix_ms: 0 }, event(RequestId(id)))
    }

    #[test]
    fn an_order_for_a_worker_that_is_gone_is_void() {
        let (mut guests, mut round) = (HashMap::from([(1, Guest::new(RequestLimits::default()))]), VecDeque::new());
        accept(&mut guests, &mut round, 1, Order::Drop);
        for number in [1, 2] {
            accept(&mut guests, &mut round, number, order(|id| Event::ClientGone { id }, 5));
        }
        assert!(guests.is_empty() && round.is_empty());
    }

    #[test]
    fn the_shard_does_not_wait_while_a_large_heap_is_dropped() {
        let source = |objects: usize| {
            let held =
                format!("const held = Array.from({{ length: {objects} }}, (_, i) => ({{ i, text: 'text ' + i }}));");
            format!("{held} export default {{ fetch: () => new Response(held.length) }};")
        };
        let running = Running::start(Engine::init().expect("engine"), Instant::now(), None).expect("a thread");
        let start = |number, objects| {
            let spec = WorkerSpec::new(source(objects).into(), Now { monotonic_ns: 0, unix_ms: 0 });
            running.order(number, Order::Start(Box::new(spec)));
        };
        let started = || lock(&running.queues.reports).iter().filter(|report| report.started == Some(Ok(()))).count();
        start(1, 500_000);
        while started() == 0 {
            thread::sleep(Duration::from_millis(1));
        }
        let asked = Instant::now();
        running.order(1, Order::Drop);
        thread::sleep(Duration::from_millis(1));
        start(2, 1);
        let mut longest = asked.elapsed();
        while started() == 1 {
            let asked = Instant::now();
            running.order(3, Order::Drop);
            longest = longest.max(asked.elapsed());
            thread::sleep(Duration::from_micros(100));
        }
        let took = asked.elapsed();
        assert!(took > Duration::from_millis(20) && longest < took / 3, "{longest:?} of {took:?}");
    }

    #[test]
    fn a_broken_guest_tells_the_request_in_hand_and_the_last_that_began() {
        let mut guest = Guest::new(RequestLimits::default());
        let lost = |guest: &Guest| guest.broken(1).broken.expect("it is broken");
        assert!(guest.broken(1).current.is_none() && !lost(&guest).has_begun(RequestId(7)), "nothing had begun");
        let invoked = |id| {
            let invocation = Invocation::Scheduled { cron: String::new(), unix_ms: 0 };
            Event::Invoke { id, invocation }
        };
        guest.orders.extend([order(invoked, 7), order(invoked, 8), order(|id| Event::ClientGone { id }, 7)]);
        guest.orders.push_back(order(invoked, 9));
        for (current, begun) in [(7, 7), (8, 8), (7, 8)] {
            assert!(guest.take_order().is_some());
            assert_eq!(guest.broken(1).current, Some(RequestId(current)));
            let lost = lost(&guest);
            assert!(lost.has_begun(RequestId(begun)) && !lost.has_begun(RequestId(begun + 1)), "{begun} had begun");
        }
    }

    #[test]
    fn what_waited_for_too_long_is_not_begun_and_the_rest_keeps_its_order() {
        let limits = RequestLimits { wall_head_ns: 10 * MS, wall_ns: 50 * MS, ..RequestLimits::default() };
        let came = |at_ms: u64, event| Order::Event(Now { monotonic_ns: at_ms * MS, unix_ms: 0 }, event);
        let head = RequestHead {
            method: "GET".to_owned(),
            url: "http://w.workers.localhost/".to_owned(),
            headers: HeaderBlock::default(),
            body: IncomingBody::Empty,
        };
        let request = |id| Event::Request { id: RequestId(id), head: Arc::new(head.clone()) };
        let cron = Invocation::Scheduled { cron: String::new(), unix_ms: 0 };
        let mut guest = Guest::new(limits);
        guest.orders.extend([
            came(0, Event::ClientGone { id: RequestId(1) }),
            came(1, request(2)),
            came(1, Event::Invoke { id: RequestId(3), invocation: cron }),
            came(2, Event::PullResponse { id: RequestId(2) }),
            came(5, request(4)),
        ]);
        let mut shed = |at_ms: u64| guest.shed_late(at_ms * MS).into_iter().map(|late| late.id.0).collect::<Vec<_>>();
        assert_eq!((shed(10), shed(11), shed(12), shed(15)), (vec![], vec![2], vec![], vec![4]));
        assert_eq!((shed(50), shed(51)), (vec![], vec![3]), "a schedule's run has no response to wait for");
        let left: Vec<_> = std::iter::from_fn(|| guest.take_order().map(|_| guest.current)).collect();
        assert_eq!(left, [Some(RequestId(1)), Some(RequestId(2))], "what else is said of them is for the Worker");
    }

    /// What a tenant did, as (at ms, held ms), and whether that quarantined it.
    fn check(steps: &[(u64, u64, bool)]) -> Held {
        let held = Held::default();
        for (at_ms, held_ms, expect) in steps {
            assert_eq!(held.held(held_ms * MS, at_ms * MS), *expect, "{held_ms} ms at {at_ms} ms");
        }
        held
    }

    #[test]
    fn one_long_hold_or_many_short_ones_quarantine() {
        check(&[(1000, 26, true)]);
        check(&[(1000, 10, false), (1100, 10, false), (1200, 10, true)]);
    }

    #[test]
    fn replacing_isolates_many_times_a_second_quarantines_and_once_a_second_does_not() {
        let replace = REPLACE_NS / MS;
        check(&(0..60).map(|second| (1000 + second * 1000, replace, false)).collect::<Vec<_>>());
        let often: Vec<_> = (0..6).map(|at| (1000 + at * 80, replace, at == 5)).collect();
        check(&often);
    }

    #[test]
    fn slices_and_rare_collections_do_not() {
        let slices: Vec<_> = (0..1000).map(|n| (1000 + n, 3, false)).collect();
        check(&slices);
        let collections: Vec<_> = (0..100).map(|n| (1000 + n * 2000, 8, false)).collect();
        check(&collections);
    }

    #[test]
    fn a_quarantine_ends_and_the_next_is_longer() {
        let held = check(&[(1000, 50, true), (2000, 20, false)]);
        assert!(held.quarantined(60_999 * MS) && !held.quarantined(61_001 * MS));
        assert!(held.held(50 * MS, 62_000 * MS));
        assert!(held.quarantined(181_000 * MS) && !held.quarantined(182_001 * MS));
    }

    #[test]
    fn one_that_holds_the_apart_thread_too_stays_there() {
        let held = check(&[(1000, 50, true), (50_000, 50, false), (100_000, 10, false)]);
        assert!(held.quarantined(109_999 * MS), "a minute from the last time");
        assert!(!held.quarantined(110_001 * MS), "one short collection does not prolong it");
        assert!(held.held(50 * MS, 111_000 * MS) && held.quarantined(230_999 * MS), "the second quarantine");
    }

    #[test]
    fn a_foreseen_hold_quarantines_once_and_counts_for_no_later_one() {
        let held = Held::default();
        assert!(held.foresee(1000 * MS) && !held.foresee(2000 * MS));
        assert!(held.quarantined(60_999 * MS) && !held.quarantined(61_001 * MS));
        assert!(held.held(50 * MS, 62_000 * MS));
        assert!(!held.quarantined(122_001 * MS), "the first of its own doing");
    }
}
