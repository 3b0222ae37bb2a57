//! A Worker, the events that wait for it, and the mailboxes of its requests and outbound requests.
//!
//! [`WorkerCell::send`] is the one way into a Worker: it hands over an event, takes every effect and puts each where it
//! belongs. A request that was answered on the spot finds its answer in its mailbox when `send` returns; a task that
//! waits is woken. Nothing here calls back into the Worker.
//!
//! A Worker that computes for longer than a slice is suspended in the middle of its call, and so is one that starts. Events
//! that come meanwhile wait in order; [`crate::turns`] gives it its next turn. A request that has waited there for as long as its
//! response may take is answered as one that passed that limit, and never begun.
//!
//! *Invariants:* events reach the Worker in the order in which they were sent. *Bounds:* what waits is bounded by the grammar of
//! `worker_api::event`: one body step each way for each request or outbound request, and requests by
//! `REQUESTS_PER_ISOLATE_MAX`.

mod collecting;
mod delivery;
mod ends;
mod websockets;

pub(crate) use collecting::Collection;
pub(crate) use delivery::{Delivery, FetchDelivery, Response};
pub(crate) use ends::{Late, late};

use crate::apart::{REPLACE_NS, Report};
use crate::canned::Canned;
use crate::forecast::Forecast;
use crate::lifecycle::{IsolateState, Lifecycle};
use crate::link::{Link, SendBody};
use crate::memory_budget::Pressure;
use crate::outbound::{self, FetchRequest};
use crate::service::{self, Call, Chain};
use crate::shard::Shard;
use crate::sockets::Sockets;
use crate::turns::Tenant;
use base::id::{AccountId, DeploymentId};
use plane_abi::ServiceTarget;
use slab::Slab;
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::task::{Context, Waker};
use worker_api::event::{
    BodySource, Collecting, Effect, Event, FetchId, IncomingBody, LogLevel, LogRecord, MonotonicNs, Now, OutgoingBody,
    RequestId, SocketId,
};
use worker_api::{CodeOrigin, MemoryGauge, Progress, StartError, Suspendable, Worker, WorkerSpec};

/// An isolate that holds more than this is disposed of by the apart thread, bytes: a smaller one takes a millisecond or two.
const DISPOSE_BYTES_MAX: u64 = 8 << 20;
/// Low bits of a request id: its mailbox. The rest is a count, so that an id never comes again.
const MAILBOX_BITS: u32 = 20;

/// V8 compiles a source without a look at anything else, at about 20 MB/s: a longer one holds its thread for longer than any tenant
/// may, and is compiled on the apart thread.
const SOURCE_BYTES_MAX: usize = 512 * base::limits::KIB;

/// Which code a Worker runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) account: AccountId,
    pub(crate) deployment: DeploymentId,
    pub(crate) version: u32,
}

struct Mailbox {
    id: RequestId,
    /// It was answered by a WebSocket.
    session: bool,
    delivery: Delivery,
    waker: Option<Waker>,
    /// A connection still looks at this.
    attached: bool,
    /// The Worker is done with the request.
    finished: bool,
    /// Nothing of the request has left the Worker, and its body is unread.
    untouched: bool,
    /// What it belongs to, if another Worker sent it or it has called one.
    chain: Option<Chain>,
}

#[derive(Default)]
struct FetchMailbox {
    delivery: FetchDelivery,
    waker: Option<Waker>,
}

#[derive(Default)]
struct Mail {
    requests: Slab<Mailbox>,
    requests_total: u64,
    fetches: HashMap<FetchId, FetchMailbox>,
    sockets: Sockets,
    /// WebSockets that answered a client who had gone.
    orphans: Vec<SocketId>,
}

/// What a Worker has sent out.
enum Outgoing {
    Fetch(FetchRequest),
    Call(Call),
}

impl Outgoing {
    fn start(self, shard: &Rc<Shard>, cell: &Rc<WorkerCell>) {
        match self {
            Outgoing::Fetch(request) => outbound::start(shard, cell, request),
            Outgoing::Call(call) => service::start(shard, cell, call),
        }
    }
}

/// What a call into a Worker may be suspended in.
#[derive(Default)]
struct Seat {
    worker: Option<Worker>,
    /// Why there is none.
    refused: Option<StartError>,
}

/// What a Worker starts from.
struct Start {
    spec: WorkerSpec,
    /// Called where V8 refuses the compiled code of `spec`.
    code_rejected: Box<dyn FnOnce()>,
}

/// A Worker on its shard.
pub(crate) struct WorkerCell {
    /// Number of the cell on its shard, never used twice.
    pub(crate) number: u64,
    pub(crate) identity: Identity,
    /// Whose it is.
    pub(crate) tenant: Rc<Tenant>,
    /// Value of `X-Deployment-Version`.
    pub(crate) version_header: Box<[u8]>,
    /// The Workers that its bindings name.
    pub(crate) services: Box<[ServiceTarget]>,
    /// Its version shares the deployment's requests with another: how they fare is counted.
    pub(crate) counted: Cell<bool>,
    /// When a request last came.
    pub(crate) used_ns: Cell<MonotonicNs>,
    /// Requests that were counted in the shard's traffic.
    requests_told: Cell<u64>,
    /// The timeout that the shard's timer knows of.
    pub(crate) armed_ns: Cell<MonotonicNs>,
    /// It is in `Turns`.
    pub(crate) waits: Cell<bool>,
    /// When its next request may come.
    pub(crate) forecast: Cell<Forecast>,
    pub(crate) lifecycle: Lifecycle,
    /// None if the Worker is on the apart thread.
    seat: Option<RefCell<Suspendable<Seat>>>,
    /// Events that wait for a turn, each with when it came.
    inbox: RefCell<VecDeque<(MonotonicNs, Event)>>,
    mail: RefCell<Mail>,
    /// When the start was asked for; none once it is over.
    starting_ns: Cell<Option<MonotonicNs>>,
    /// The start, while it waits for a turn.
    unbegun: RefCell<Option<Box<Start>>>,
    /// The answer to every request, of a Worker that did not start.
    refused: Cell<Option<Canned>>,
    /// What it holds; none while it starts.
    gauge: OnceCell<MemoryGauge>,
    /// Use of it as of the last count of its memory.
    counted_ns: Cell<MonotonicNs>,
    collection: Cell<Collection>,
    /// A call into the Worker is under way, or never returned.
    inside: Cell<bool>,
    /// The request whose event the Worker takes or took last, if it is of one.
    current: Cell<Option<RequestId>>,
    /// A call is suspended.
    suspended: Cell<bool>,
    condemned: Cell<bool>,
    /// V8 could not go on with its isolate.
    given_up: Cell<bool>,
    /// Requests that are not finished, waitUntil included.
    open: Cell<usize>,
    /// Those of them that live on because of their WebSockets.
    sessions: Cell<usize>,
    timeout_ns: Cell<MonotonicNs>,
    /// Says that the Worker's compiled code was refused; for a start on the apart thread.
    code_rejected: Cell<Option<Box<dyn FnOnce()>>>,
}

impl WorkerCell {
    /// Starts a Worker, or lets its start wait for a turn; it may also be suspended. Requests can be sent to it meanwhile.
    /// `code_rejected` is called where V8 refuses the code cache of `spec`.
    pub(crate) fn start(
        shard: &Rc<Shard>,
        number: u64,
        identity: Identity,
        spec: WorkerSpec,
        services: Box<[ServiceTarget]>,
        forecast: Forecast,
        code_rejected: impl FnOnce() + 'static,
    ) -> Rc<WorkerCell> {
        let tenant = shard.turns.tenant(identity.account);
        let long = spec.code_cache.is_none() && spec.module.len() > SOURCE_BYTES_MAX;
        if long && shard.config().preemption && tenant.conduct.held.foresee(spec.now.monotonic_ns) {
            shard.metrics.quarantines.add(1);
        }
        if shard.config().preemption && tenant.conduct.held.quarantined(spec.now.monotonic_ns) {
            let cell =
                WorkerCell::new(number, identity, &tenant, services.clone(), spec.now.monotonic_ns, forecast, true);
            if shard.apart.start(shard, &cell, &spec) {
                cell.loading(shard);
                cell.code_rejected.set(Some(Box::new(code_rejected)));
                return cell;
            }
        }
        let cell = WorkerCell::new(number, identity, &tenant, services, spec.now.monotonic_ns, forecast, false);
        cell.loading(shard);
        let start = Start { spec, code_rejected: Box::new(code_rejected) };
        if shard.turns.may_start_now(start.spec.now.monotonic_ns) {
            cell.begin(shard, start);
        } else {
            *cell.unbegun.borrow_mut() = Some(Box::new(start));
            shard.turns.wait_to_start(&cell);
        }
        cell
    }

    fn begin(self: &Rc<Self>, shard: &Rc<Shard>, Start { spec, code_rejected }: Start) {
        let engine = shard.engine.clone();
        let spare = shard.spares.claim(shard);
        self.call(shard, |seat| {
            seat.start(move |seat| match Worker::start_in(spare, &engine, spec) {
                Ok(worker) => {
                    if worker.code_origin() == CodeOrigin::Rejected {
                        code_rejected();
                    }
                    seat.worker = Some(worker);
                }
                Err(error) => seat.refused = Some(error),
            })
        });
        shard.turns.started(shard.clock.now_ns());
    }

    fn new(
        number: u64,
        identity: Identity,
        tenant: &Rc<Tenant>,
        services: Box<[ServiceTarget]>,
        now_ns: MonotonicNs,
        forecast: Forecast,
        apart: bool,
    ) -> Rc<WorkerCell> {
        Rc::new(WorkerCell {
            number,
            identity,
            tenant: tenant.clone(),
            services,
            version_header: format!("v{}", identity.version).into_bytes().into_boxed_slice(),
            counted: Cell::new(false),
            used_ns: Cell::new(now_ns),
            requests_told: Cell::new(0),
            armed_ns: Cell::new(MonotonicNs::MAX),
            waits: Cell::new(false),
            forecast: Cell::new(forecast),
            lifecycle: Lifecycle::new(),
            seat: (!apart).then(|| RefCell::new(Suspendable::new(Seat::default()))),
            inbox: RefCell::new(VecDeque::new()),
            mail: RefCell::new(Mail::default()),
            starting_ns: Cell::new(Some(now_ns)),
            unbegun: RefCell::new(None),
            refused: Cell::new(None),
            gauge: OnceCell::new(),
            counted_ns: Cell::new(0),
            collection: Cell::new(Collection::Over),
            inside: Cell::new(false),
            current: Cell::new(None),
            suspended: Cell::new(false),
            condemned: Cell::new(false),
            given_up: Cell::new(false),
            open: Cell::new(0),
            sessions: Cell::new(0),
            timeout_ns: Cell::new(MonotonicNs::MAX),
            code_rejected: Cell::new(None),
        })
    }

    fn loading(&self, shard: &Shard) {
        self.lifecycle.to(&shard.metrics.transitions, IsolateState::Loading);
        self.lifecycle.to(&shard.metrics.transitions, IsolateState::Compiling);
    }

    /// Requests that it was given since this was asked last.
    pub(crate) fn take_requests(&self) -> u64 {
        let total = self.mail.borrow().requests_total;
        total - self.requests_told.replace(total)
    }

    /// Opens a mailbox for a new request with such a body.
    pub(crate) fn admit(&self, shard: &Shard, now_ns: MonotonicNs, body: &IncomingBody) -> RequestId {
        self.used_ns.set(now_ns);
        let mut forecast = self.forecast.get();
        forecast.observe(now_ns, shard.config().pool.visit_ns);
        self.forecast.set(forecast);
        if self.open.get() == 0 {
            self.lifecycle.begin(&shard.metrics.transitions);
        }
        let mut mail = self.mail.borrow_mut();
        mail.requests_total += 1;
        self.open.set(self.open.get() + 1);
        let total = mail.requests_total;
        let entry = mail.requests.vacant_entry();
        let id = RequestId(total << MAILBOX_BITS | entry.key() as u64);
        let delivery = Delivery::default();
        // Nobody sees whether a body that is all here was read.
        let untouched = !matches!(body, IncomingBody::Full(_));
        entry.insert(Mailbox {
            id,
            session: false,
            delivery,
            waker: None,
            attached: true,
            finished: false,
            untouched,
            chain: None,
        });
        id
    }

    /// Hands an event to the Worker and carries its effects out, as of now.
    pub(crate) fn send(self: &Rc<Self>, shard: &Rc<Shard>, event: Event) {
        self.send_at(shard, shard.clock.now(), event);
    }

    /// Hands an event to the Worker and carries its effects out, now or at its next turn.
    #[inline]
    pub(crate) fn send_at(self: &Rc<Self>, shard: &Rc<Shard>, now: Now, event: Event) {
        if self.refused.get().is_some() {
            self.refuse(&event);
        } else if self.seat.is_none() {
            shard.apart.send(self.number, now, event);
        } else if self.waits.get() || !shard.turns.may_run_now(&self.tenant, now.monotonic_ns) {
            self.inbox.borrow_mut().push_back((now.monotonic_ns, event));
            shard.turns.wait(self);
        } else {
            self.handle(shard, now, event);
        }
    }

    #[inline]
    fn handle(self: &Rc<Self>, shard: &Rc<Shard>, now: Now, event: Event) {
        self.current.set(request_of(&event));
        let handle = move |seat: &mut Seat| {
            if let Some(worker) = &mut seat.worker {
                worker.handle(now, event);
            }
        };
        let preemption = shard.config().preemption;
        self.call(shard, |seat| if preemption { seat.start(handle) } else { seat.call(handle) });
    }

    /// A turn: goes on with a suspended call, or takes the next event.
    pub(crate) fn step(self: &Rc<Self>, shard: &Rc<Shard>) {
        let unbegun = self.unbegun.borrow_mut().take();
        if self.suspended.get() {
            self.call(shard, Suspendable::resume);
        } else if let Some(start) = unbegun {
            self.begin(shard, *start);
        } else {
            self.shed_late(shard);
            let next = self.inbox.borrow_mut().pop_front();
            if let Some((_, event)) = next {
                self.handle(shard, shard.clock.now(), event);
            }
        }
        if self.suspended.get() || !self.inbox.borrow().is_empty() {
            shard.turns.wait(self);
        }
    }

    /// Runs the Worker until its call is over or suspended.
    #[inline]
    fn call(self: &Rc<Self>, shard: &Rc<Shard>, run: impl FnOnce(&mut Suspendable<Seat>) -> Progress) {
        let Some(seat) = &self.seat else { return };
        let mut fetches = Vec::new();
        let begun = shard.turns.begin();
        {
            let mut seat = seat.borrow_mut();
            self.inside.set(true);
            let progress = run(&mut seat);
            shard.turns.charge(&self.tenant, begun);
            self.suspended.set(progress == Progress::Suspended);
            if let Some(seat) = seat.get_mut() {
                self.after_call(shard, seat, &mut fetches);
            }
            self.inside.set(false);
        }
        if self.suspended.get() {
            shard.metrics.suspensions.add(1);
            shard.turns.wait(self);
        } else if self.timeout_ns.get() != self.armed_ns.get() {
            shard.worker_timers.arm(self, self.timeout_ns.get());
        }
        // A spawned task runs at once, up to its first wait: only now, when nothing of the cell is borrowed.
        for outgoing in fetches {
            outgoing.start(shard, self);
        }
        self.tell_orphans(shard);
    }

    #[inline]
    fn after_call(&self, shard: &Shard, seat: &mut Seat, fetches: &mut Vec<Outgoing>) {
        if let Some(since_ns) = self.starting_ns.take() {
            self.started(shard, since_ns, seat.refused.as_ref());
            if let Some(worker) = &seat.worker {
                let _first = self.gauge.set(worker.memory_gauge());
            }
        }
        let Some(worker) = &mut seat.worker else { return };
        if let Some(first) = worker.poll_effect() {
            let now = shard.clock.recent();
            self.dispatch(shard, now, first, fetches);
            while let Some(effect) = worker.poll_effect() {
                self.dispatch(shard, now, effect, fetches);
            }
        }
        self.timeout_ns.set(worker.poll_timeout().unwrap_or(MonotonicNs::MAX));
        self.note_given_up(shard, worker.given_up());
        let held_ns = worker.take_held_ns() + self.condemn(shard, worker.condemned());
        if shard.config().preemption && self.tenant.conduct.held.held(held_ns, shard.clock.recent_ns()) {
            self.quarantine(shard, held_ns);
        }
    }

    /// Notes whether the Worker takes no new requests. How long replacing it will hold its thread, the first time, ns.
    #[inline]
    fn condemn(&self, shard: &Shard, condemned: bool) -> u64 {
        if !condemned || self.condemned.replace(true) {
            return 0;
        }
        if self.lifecycle.state() != IsolateState::Error {
            self.lifecycle.to(&shard.metrics.transitions, IsolateState::Error);
        }
        REPLACE_NS
    }

    /// The tenant cannot be interrupted: its next requests go to the apart thread.
    #[cold]
    fn quarantine(&self, shard: &Shard, held_ns: u64) {
        let Identity { account, deployment, .. } = self.identity;
        tracing::warn!(%account, %deployment, held_us = held_ns / 1_000, "a tenant held its shard and is quarantined");
        shard.metrics.quarantines.add(1);
    }

    /// Whether it is on the wrong thread: its tenant was quarantined, or is no longer.
    #[inline]
    pub(crate) fn misplaced(&self, now_ns: MonotonicNs) -> bool {
        self.seat.is_none() != self.tenant.conduct.held.quarantined(now_ns)
    }

    /// Carries out what the Worker did on the apart thread.
    pub(crate) fn reported(self: &Rc<Self>, shard: &Rc<Shard>, report: Report) {
        let mut fetches = Vec::new();
        let now = shard.clock.now();
        self.inside.set(true);
        self.current.set(report.current);
        if let Some(started) = report.started
            && let Some(since_ns) = self.starting_ns.take()
        {
            if let Some(tell) = self.code_rejected.take().filter(|_| report.code_rejected) {
                tell();
            }
            self.started(shard, since_ns, started.err().as_ref());
        }
        if let Some(gauge) = report.gauge {
            let _first = self.gauge.set(gauge);
        }
        for effect in report.effects {
            self.dispatch(shard, now, effect, &mut fetches);
        }
        if let Some(lost) = report.broken {
            self.give_up(|id| lost.has_begun(id));
        }
        self.note_given_up(shard, report.given_up);
        let held_ns = report.held_ns + self.condemn(shard, report.condemned);
        if self.tenant.conduct.held.held(held_ns, shard.clock.recent_ns()) {
            self.quarantine(shard, held_ns);
        }
        self.timeout_ns.set(report.timeout_ns);
        self.inside.set(false);
        if report.timeout_ns != self.armed_ns.get() {
            shard.worker_timers.arm(self, report.timeout_ns);
        }
        for outgoing in fetches {
            outgoing.start(shard, self);
        }
        self.tell_orphans(shard);
    }

    #[cold]
    fn started(&self, shard: &Shard, since_ns: MonotonicNs, refused: Option<&StartError>) {
        let took_ns = shard.clock.now_ns() - since_ns;
        let Identity { account, deployment, version } = self.identity;
        let Some(error) = refused else {
            shard.metrics.worker_starts.add(1);
            shard.metrics.worker_start_ns.add(took_ns);
            self.lifecycle.to(&shard.metrics.transitions, IsolateState::Initializing);
            self.lifecycle.to(&shard.metrics.transitions, IsolateState::Ready);
            if self.open.get() > 0 {
                self.lifecycle.begin(&shard.metrics.transitions);
            }
            tracing::debug!(%deployment, version, took_us = took_ns / 1_000, "Worker started");
            return;
        };
        shard.metrics.worker_start_failures.add(1);
        self.lifecycle.to(&shard.metrics.transitions, IsolateState::Error);
        self.note_given_up(shard, error.gave_up());
        tracing::warn!(%deployment, version, %error, "Worker failed to start");
        shard.log.log(crate::log::WorkerLog {
            account,
            deployment,
            version,
            unix_ms: shard.clock.now().unix_ms,
            request: None,
            level: LogLevel::Error,
            text: format!("the Worker failed to start: {error}"),
        });
        let answer = Canned::of_start(error);
        self.refused.set(Some(answer));
        self.condemned.set(true);
        // None of its events was taken; on the apart thread they are lost with it.
        self.inbox.borrow_mut().clear();
        self.open.set(0);
        let mut mail = self.mail.borrow_mut();
        let open: Vec<_> = mail.requests.iter().filter(|(_, mailbox)| !mailbox.finished).map(|(_, m)| m.id).collect();
        for id in open {
            mail.deliver(id, |delivery| delivery.refused = Some(answer));
            mail.finish(id);
        }
    }

    /// A request of a Worker that did not start.
    #[cold]
    fn refuse(&self, event: &Event) {
        if let Event::Request { id, .. } | Event::Invoke { id, .. } = event {
            let mut mail = self.mail.borrow_mut();
            mail.deliver(*id, |delivery| delivery.refused = self.refused.get());
            self.open.set(self.open.get() - 1);
            mail.finish(*id);
        }
    }

    /// The answer to every request, of a Worker that did not start.
    pub(crate) fn refused(&self) -> Option<Canned> {
        self.refused.get()
    }

    /// Whether its start is not over.
    pub(crate) fn starting(&self) -> bool {
        self.starting_ns.get().is_some()
    }

    /// Whether it is in the middle of a call.
    pub(crate) fn suspended(&self) -> bool {
        self.suspended.get()
    }

    /// Events that wait.
    pub(crate) fn backlog(&self) -> usize {
        self.inbox.borrow().len()
    }

    /// Whether a request would wait for another one's computing.
    pub(crate) fn busy(&self) -> bool {
        self.waits.get()
    }

    fn dispatch(&self, shard: &Shard, now: Now, effect: Effect, fetches: &mut Vec<Outgoing>) {
        let mut mail = self.mail.borrow_mut();
        match effect {
            Effect::Respond { id, body: OutgoingBody::Socket(socket), .. }
                if !mail.switch(id, socket, &self.sessions) =>
            {
                mail.orphans.push(socket);
            }
            Effect::Respond { id, status, headers, body } => {
                let body = mail.send_body(body);
                mail.deliver(id, |delivery| delivery.response = Some(Response { status, headers, body }));
            }
            Effect::ResponseBody { id, body } => {
                mail.deliver(id, |delivery| delivery.body = Some(body));
            }
            Effect::PullRequestBody { id } => {
                mail.touch(Some(id));
                mail.deliver(id, |delivery| delivery.wants_body = true);
            }
            Effect::CancelRequestBody { id } => {
                mail.deliver(id, |delivery| delivery.cancels_body = true);
            }
            Effect::Fail { id, why } => {
                mail.deliver(id, |delivery| delivery.failure = Some(why));
            }
            Effect::PassThrough { id, why } => {
                mail.deliver(id, |delivery| delivery.pass_through = Some(why));
            }
            Effect::SocketPull { .. } | Effect::SocketSend { .. } | Effect::SocketClose { .. } => {
                mail.sockets.take(&shard.metrics, effect);
            }
            Effect::Held(held) => shard.metrics.held(held),
            Effect::Finished { id, cpu_ns, failure } => {
                shard.metrics.worker_cpu_ns.add(cpu_ns);
                if failure.is_some() {
                    self.lifecycle.failed(&shard.metrics.transitions);
                }
                self.open.set(self.open.get().saturating_sub(1));
                if mail.request(id).is_some_and(|mailbox| mailbox.session) {
                    self.sessions.set(self.sessions.get().saturating_sub(1));
                }
                match self.open.get() {
                    0 => self.lifecycle.end(&shard.metrics.transitions),
                    _ => self.lifecycle.begin(&shard.metrics.transitions),
                }
                mail.finish(id);
            }
            Effect::Fetch { fetch, request, method, url, headers, body } => {
                mail.touch(request);
                let body = mail.send_body(body);
                mail.fetches.insert(fetch, FetchMailbox::default());
                fetches.push(Outgoing::Fetch(FetchRequest { fetch, method, url, headers, body }));
            }
            Effect::FetchUpload { fetch, body } => {
                mail.deliver_fetch(fetch, |delivery| delivery.upload = Some(body));
            }
            Effect::PullFetchBody { fetch } => {
                mail.deliver_fetch(fetch, |delivery| delivery.wants_body = true);
            }
            Effect::CancelFetch { fetch } => {
                mail.deliver_fetch(fetch, |delivery| delivery.cancelled = true);
            }
            Effect::Collected(Collecting::More) => self.collection.set(Collection::Due),
            Effect::Collected(progress) => {
                self.collection.set(Collection::Over);
                shard.metrics.worker_shrinks.add(u64::from(progress == Collecting::Done));
            }
            Effect::Log(record) => self.log(shard, now, record),
            Effect::Threw { id, name, message } => {
                mail.deliver(id, |delivery| delivery.threw = Some((name, message)));
            }
            Effect::Call { fetch, request, service, rpc, head, body } => {
                mail.touch(Some(request));
                mail.fetches.insert(fetch, FetchMailbox::default());
                fetches.push(Outgoing::Call(Call { fetch, request, service, rpc, head, body }));
            }
        }
    }

    fn log(&self, shard: &Shard, now: Now, record: LogRecord) {
        shard.log.log(crate::log::WorkerLog {
            account: self.identity.account,
            deployment: self.identity.deployment,
            version: self.identity.version,
            unix_ms: now.unix_ms,
            request: record.request.map(|id| id.0),
            level: record.level,
            text: record.text,
        });
    }

    /// Takes what has come for a request.
    pub(crate) fn take(&self, id: RequestId) -> Delivery {
        self.mail.borrow_mut().request(id).map(|mailbox| std::mem::take(&mut mailbox.delivery)).unwrap_or_default()
    }

    /// Wakes this task when something comes for the request.
    pub(crate) fn wait(&self, id: RequestId, cx: &Context<'_>) {
        if let Some(mailbox) = self.mail.borrow_mut().request(id) {
            keep_waker(&mut mailbox.waker, cx);
        }
    }

    /// Whether the Worker is done with the request.
    pub(crate) fn is_finished(&self, id: RequestId) -> bool {
        self.mail.borrow_mut().request(id).is_none_or(|mailbox| mailbox.finished)
    }

    /// Nobody looks at the request's mailbox any more.
    pub(crate) fn detach(&self, id: RequestId) {
        let mut mail = self.mail.borrow_mut();
        let Some(mailbox) = mail.request(id) else { return };
        if mailbox.finished {
            mail.requests.remove(Mail::place(id));
        } else {
            mailbox.attached = false;
            mailbox.waker = None;
        }
    }

    /// The chain of requests that a request belongs to; none if it is over.
    pub(crate) fn chain(&self, id: RequestId) -> Option<Chain> {
        let mut mail = self.mail.borrow_mut();
        let mailbox = mail.request(id).filter(|mailbox| !mailbox.finished)?;
        Some(mailbox.chain.get_or_insert_with(|| Rc::new(Cell::new(1))).clone())
    }

    /// Makes a request part of a chain.
    pub(crate) fn set_chain(&self, id: RequestId, chain: Chain) {
        if let Some(mailbox) = self.mail.borrow_mut().request(id) {
            mailbox.chain = Some(chain);
        }
    }

    /// Takes what has come for an outbound request.
    pub(crate) fn take_fetch(&self, fetch: FetchId) -> FetchDelivery {
        match self.mail.borrow_mut().fetches.get_mut(&fetch) {
            Some(mailbox) => std::mem::take(&mut mailbox.delivery),
            None => FetchDelivery { cancelled: true, ..FetchDelivery::default() },
        }
    }

    /// Wakes this task when something comes for the outbound request.
    pub(crate) fn wait_fetch(&self, fetch: FetchId, cx: &Context<'_>) {
        if let Some(mailbox) = self.mail.borrow_mut().fetches.get_mut(&fetch) {
            keep_waker(&mut mailbox.waker, cx);
        }
    }

    /// The outbound request is over.
    pub(crate) fn detach_fetch(&self, fetch: FetchId) {
        self.mail.borrow_mut().fetches.remove(&fetch);
    }

    /// Whether no new request may be given to it.
    pub(crate) fn condemned(&self) -> bool {
        self.condemned.get()
    }

    /// Whether a call into the Worker never came back: a panic passed through it.
    pub(crate) fn broken_inside(&self) -> bool {
        self.inside.get()
    }

    /// Requests that are not finished, waitUntil included.
    pub(crate) fn in_flight(&self) -> usize {
        self.open.get()
    }

    /// Whether the Worker is to be called now. It is not again before it has been and says when.
    pub(crate) fn take_timeout(&self, now_ns: MonotonicNs) -> bool {
        let due = self.timeout_ns.get() <= now_ns;
        if due {
            self.timeout_ns.set(MonotonicNs::MAX);
        }
        due
    }

    /// When the Worker wants to be called.
    pub(crate) fn timeout_ns(&self) -> MonotonicNs {
        self.timeout_ns.get()
    }

    /// The Worker is out of service and has no requests left.
    pub(crate) fn evict(&self, shard: &Rc<Shard>) {
        self.lifecycle.evict(&shard.metrics.transitions);
        let Some(seat) = &self.seat else { return shard.apart.drop_worker(self.number) };
        // Where memory is scarce it is wanted at once, and there is none for what comes late. One that is inside a call goes with its cell.
        if self.memory_bytes() > DISPOSE_BYTES_MAX
            && shard.config().preemption
            && shard.memory().pressure() == Pressure::None
            && let Ok(mut seat) = seat.try_borrow_mut()
            && let Some(worker) = seat.get_mut().and_then(|seat| seat.worker.take())
            && let Some(remains) = worker.into_remains()
        {
            shard.apart.dispose(shard, remains);
        }
    }

    /// Bytes that it holds, as far as is known.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.gauge.get().map_or(0, |gauge| gauge.bytes() as u64)
    }

    /// Counts its memory anew if it was used since and is not in the middle of something.
    pub(crate) fn count_memory(&self) {
        if self.open.get() == 0 && self.counted_ns.replace(self.used_ns.get()) == self.used_ns.get() {
            return;
        }
        if let Some(seat) = &self.seat
            && let Some(worker) = seat.borrow_mut().get_mut().and_then(|seat| seat.worker.as_mut())
        {
            worker.count_memory();
        }
    }

    /// Has it collect garbage when it next runs.
    pub(crate) fn collect_garbage(&self) {
        if let Some(gauge) = self.gauge.get() {
            gauge.relieve(true);
        }
    }
}

/// The request that an event is of.
pub(crate) fn request_of(event: &Event) -> Option<RequestId> {
    match event {
        Event::Request { id, .. } | Event::RequestBody { id, .. } => Some(*id),
        Event::PullResponse { id } | Event::ClientGone { id } | Event::Invoke { id, .. } => Some(*id),
        _ => None,
    }
}

impl Mail {
    /// A body that the Worker sends; one that it passes on is linked with where it comes from.
    fn send_body(&mut self, body: OutgoingBody) -> SendBody {
        let (from, length, bytes_max) = match body {
            OutgoingBody::Empty => return SendBody::Empty,
            OutgoingBody::Socket(socket) => return SendBody::Socket(socket),
            OutgoingBody::Full(bytes) => return SendBody::Full(bytes),
            OutgoingBody::Stream { length } => return SendBody::Stream { length },
            OutgoingBody::Passed { from, length, bytes_max } => (from, length, bytes_max),
        };
        let link = Link::new();
        let there = match from {
            BodySource::Request(id) => {
                self.touch(Some(id));
                self.deliver(id, |delivery| delivery.body_to = Some(link.clone()))
            }
            BodySource::Fetch(fetch) => self.deliver_fetch(fetch, |delivery| delivery.body_to = Some(link.clone())),
        };
        if !there {
            link.end(Err("the message that it belongs to is over".to_owned()));
        }
        SendBody::Link { link, length, bytes_max }
    }

    fn place(id: RequestId) -> usize {
        (id.0 & ((1 << MAILBOX_BITS) - 1)) as usize
    }

    fn request(&mut self, id: RequestId) -> Option<&mut Mailbox> {
        self.requests.get_mut(Mail::place(id)).filter(|mailbox| mailbox.id == id)
    }

    /// Something of the request has left the Worker, or its body is read.
    fn touch(&mut self, id: Option<RequestId>) {
        if let Some(mailbox) = id.and_then(|id| self.request(id)) {
            mailbox.untouched = false;
        }
    }

    /// Whether anybody is there to take it.
    fn deliver(&mut self, id: RequestId, put: impl FnOnce(&mut Delivery)) -> bool {
        let Some(mailbox) = self.request(id).filter(|mailbox| mailbox.attached) else { return false };
        put(&mut mailbox.delivery);
        wake(&mut mailbox.waker);
        true
    }

    fn finish(&mut self, id: RequestId) {
        let Some(mailbox) = self.request(id) else { return };
        mailbox.finished = true;
        if mailbox.attached {
            wake(&mut mailbox.waker);
        } else {
            self.requests.remove(Mail::place(id));
        }
    }

    fn deliver_fetch(&mut self, fetch: FetchId, put: impl FnOnce(&mut FetchDelivery)) -> bool {
        let Some(mailbox) = self.fetches.get_mut(&fetch) else { return false };
        put(&mut mailbox.delivery);
        wake(&mut mailbox.waker);
        true
    }
}

pub(crate) fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

pub(crate) fn keep_waker(kept: &mut Option<Waker>, cx: &Context<'_>) {
    if !kept.as_ref().is_some_and(|old| old.will_wake(cx.waker())) {
        *kept = Some(cx.waker().clone());
    }
}
