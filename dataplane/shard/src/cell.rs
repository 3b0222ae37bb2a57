//! A Worker and the mailboxes of its requests and outbound requests.
//!
//! [`WorkerCell::send`] is the one way into a Worker: it hands over an event, takes every effect and puts each where it
//! belongs. A request that was answered on the spot finds its answer in its mailbox when `send` returns; a task that
//! waits is woken. Nothing here calls back into the Worker.

use crate::outbound::{self, FetchRequest};
use crate::shard::Shard;
use base::header::HeaderBlock;
use base::id::{AccountId, DeploymentId};
use slab::Slab;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::task::{Context, Waker};
use worker_api::Worker;
use worker_api::event::{
    BodyEvent, Effect, Event, Failure, FetchId, LogRecord, MonotonicNs, Now, OutgoingBody, RequestId,
};

/// Low bits of a request id: its mailbox. The rest is a count, so that an id never comes again.
const MAILBOX_BITS: u32 = 20;

/// Which code a Worker runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) account: AccountId,
    pub(crate) deployment: DeploymentId,
    pub(crate) version: u32,
}

/// The head of a Worker's response.
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: HeaderBlock,
    pub(crate) body: OutgoingBody,
}

/// What has come for a request since the last look.
#[derive(Default)]
pub(crate) struct Delivery {
    pub(crate) response: Option<Response>,
    pub(crate) body: Option<BodyEvent>,
    pub(crate) wants_body: bool,
    pub(crate) cancels_body: bool,
    pub(crate) failure: Option<Failure>,
}

impl Delivery {
    pub(crate) fn is_empty(&self) -> bool {
        self.response.is_none()
            && self.body.is_none()
            && self.failure.is_none()
            && !self.wants_body
            && !self.cancels_body
    }
}

/// What has come for an outbound request since the last look.
#[derive(Default)]
pub(crate) struct FetchDelivery {
    pub(crate) upload: Option<BodyEvent>,
    pub(crate) wants_body: bool,
    pub(crate) cancelled: bool,
}

struct Mailbox {
    id: RequestId,
    delivery: Delivery,
    waker: Option<Waker>,
    /// A connection still looks at this.
    attached: bool,
    /// The Worker is done with the request.
    finished: bool,
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
}

/// A Worker on its shard.
pub(crate) struct WorkerCell {
    /// Number of the cell on its shard, never used twice.
    pub(crate) number: u64,
    pub(crate) identity: Identity,
    /// Value of `X-Deployment-Version`.
    pub(crate) version_header: Box<[u8]>,
    /// When a request last came.
    pub(crate) used_ns: Cell<MonotonicNs>,
    /// The timeout that the shard's timer knows of.
    pub(crate) armed_ns: Cell<MonotonicNs>,
    worker: RefCell<Option<Worker>>,
    mail: RefCell<Mail>,
    /// A call into the Worker is under way, or never returned.
    inside: Cell<bool>,
    condemned: Cell<bool>,
}

impl WorkerCell {
    pub(crate) fn new(number: u64, identity: Identity, worker: Worker, now_ns: MonotonicNs) -> WorkerCell {
        WorkerCell {
            number,
            identity,
            version_header: format!("v{}", identity.version).into_bytes().into_boxed_slice(),
            used_ns: Cell::new(now_ns),
            armed_ns: Cell::new(MonotonicNs::MAX),
            worker: RefCell::new(Some(worker)),
            mail: RefCell::new(Mail::default()),
            inside: Cell::new(false),
            condemned: Cell::new(false),
        }
    }

    /// Opens a mailbox for a new request.
    pub(crate) fn admit(&self) -> RequestId {
        let mut mail = self.mail.borrow_mut();
        mail.requests_total += 1;
        let total = mail.requests_total;
        let entry = mail.requests.vacant_entry();
        let id = RequestId(total << MAILBOX_BITS | entry.key() as u64);
        entry.insert(Mailbox { id, delivery: Delivery::default(), waker: None, attached: true, finished: false });
        id
    }

    /// Hands an event to the Worker and carries its effects out, as of now.
    pub(crate) fn send(self: &Rc<Self>, shard: &Rc<Shard>, event: Event) {
        self.send_at(shard, shard.clock.now(), event);
    }

    /// Hands an event to the Worker and carries its effects out.
    pub(crate) fn send_at(self: &Rc<Self>, shard: &Rc<Shard>, now: Now, event: Event) {
        let mut fetches = Vec::new();
        let timeout_ns = {
            let mut worker = self.worker.borrow_mut();
            let Some(worker) = worker.as_mut() else { return };
            self.inside.set(true);
            worker.handle(now, event);
            while let Some(effect) = worker.poll_effect() {
                self.dispatch(shard, now, effect, &mut fetches);
            }
            self.condemned.set(worker.condemned());
            let timeout_ns = worker.poll_timeout().unwrap_or(MonotonicNs::MAX);
            self.inside.set(false);
            timeout_ns
        };
        if timeout_ns != self.armed_ns.get() {
            shard.worker_timers.arm(self, timeout_ns);
        }
        // A spawned task runs at once, up to its first wait: only now, when nothing of the cell is borrowed.
        for request in fetches {
            outbound::start(shard, self, request);
        }
    }

    fn dispatch(&self, shard: &Shard, now: Now, effect: Effect, fetches: &mut Vec<FetchRequest>) {
        let mut mail = self.mail.borrow_mut();
        match effect {
            Effect::Respond { id, status, headers, body } => mail.deliver(id, |delivery| {
                delivery.response = Some(Response { status, headers, body });
            }),
            Effect::ResponseBody { id, body } => mail.deliver(id, |delivery| delivery.body = Some(body)),
            Effect::PullRequestBody { id } => mail.deliver(id, |delivery| delivery.wants_body = true),
            Effect::CancelRequestBody { id } => mail.deliver(id, |delivery| delivery.cancels_body = true),
            Effect::Fail { id, why } => {
                shard.metrics.failure(why.label());
                mail.deliver(id, |delivery| delivery.failure = Some(why));
            }
            Effect::Finished { id, cpu_ns, failure: _ } => {
                shard.metrics.worker_cpu_ns.add(cpu_ns);
                mail.finish(id);
            }
            Effect::Fetch { fetch, request: _, method, url, headers, body } => {
                mail.fetches.insert(fetch, FetchMailbox::default());
                fetches.push(FetchRequest { fetch, method, url, headers, body });
            }
            Effect::FetchUpload { fetch, body } => {
                mail.deliver_fetch(fetch, |delivery| delivery.upload = Some(body));
            }
            Effect::PullFetchBody { fetch } => mail.deliver_fetch(fetch, |delivery| delivery.wants_body = true),
            Effect::CancelFetch { fetch } => mail.deliver_fetch(fetch, |delivery| delivery.cancelled = true),
            Effect::Log(record) => self.log(shard, now, record),
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
        self.worker.try_borrow().ok().and_then(|worker| worker.as_ref().map(Worker::in_flight)).unwrap_or(0)
    }

    /// When the Worker wants to be called.
    pub(crate) fn timeout_ns(&self) -> MonotonicNs {
        self.worker.borrow().as_ref().and_then(Worker::poll_timeout).unwrap_or(MonotonicNs::MAX)
    }

    /// Gives the Worker up after a panic inside of it: its requests fail, and it is never entered nor dropped again,
    /// for nothing is known of its state. Its memory is lost; the table counts how often that happens.
    pub(crate) fn abandon(&self) {
        self.condemned.set(true);
        if let Ok(mut worker) = self.worker.try_borrow_mut() {
            std::mem::forget(worker.take());
        }
        self.inside.set(false);
        let mut mail = self.mail.borrow_mut();
        let attached: Vec<RequestId> = mail.requests.iter().map(|(_, mailbox)| mailbox.id).collect();
        for id in attached {
            mail.deliver(id, |delivery| delivery.failure = Some(Failure::Condemned));
            mail.finish(id);
        }
        for mailbox in mail.fetches.values_mut() {
            mailbox.delivery.cancelled = true;
            wake(&mut mailbox.waker);
        }
    }
}

impl Mail {
    fn place(id: RequestId) -> usize {
        (id.0 & ((1 << MAILBOX_BITS) - 1)) as usize
    }

    fn request(&mut self, id: RequestId) -> Option<&mut Mailbox> {
        self.requests.get_mut(Mail::place(id)).filter(|mailbox| mailbox.id == id)
    }

    fn deliver(&mut self, id: RequestId, put: impl FnOnce(&mut Delivery)) {
        if let Some(mailbox) = self.request(id).filter(|mailbox| mailbox.attached) {
            put(&mut mailbox.delivery);
            wake(&mut mailbox.waker);
        }
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

    fn deliver_fetch(&mut self, fetch: FetchId, put: impl FnOnce(&mut FetchDelivery)) {
        if let Some(mailbox) = self.fetches.get_mut(&fetch) {
            put(&mut mailbox.delivery);
            wake(&mut mailbox.waker);
        }
    }
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

fn keep_waker(kept: &mut Option<Waker>, cx: &Context<'_>) {
    if !kept.as_ref().is_some_and(|old| old.will_wake(cx.waker())) {
        *kept = Some(cx.waker().clone());
    }
}
