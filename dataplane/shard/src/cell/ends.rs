//! How requests end that their Worker does not end itself: it is ended, a panic took it, or they waited for too long.

use super::{Identity, Mailbox, Seat, WorkerCell, wake};
use crate::lifecycle::IsolateState;
use crate::shard::Shard;
use std::collections::HashSet;
use worker_api::event::{Event, Failure, Invocation, LogLevel, LogRecord, MonotonicNs, RequestId};
use worker_api::{RequestLimits, Suspendable};

impl WorkerCell {
    /// Answers requests whose time was over before the Worker could begin with them.
    pub(crate) fn shed_late(&self, shard: &Shard) {
        let limits = &shard.config().request_limits;
        let now_ns = shard.clock.recent_ns();
        let least_ns = limits.wall_head_ns.min(limits.wall_ns);
        // The first one waits for longest.
        if self.inbox.borrow().front().is_none_or(|(came_ns, _)| now_ns < came_ns.saturating_add(least_ns)) {
            return;
        }
        let mut shed = Vec::new();
        self.inbox.borrow_mut().retain(|(came_ns, event)| {
            let late = late(event, *came_ns, now_ns, limits);
            shed.extend(late);
            late.is_none()
        });
        for late in shed {
            self.answer_late(shard, late);
        }
    }

    /// Answers a request whose time was over before the Worker could begin with it.
    pub(crate) fn answer_late(&self, shard: &Shard, Late { id, allowed_ns }: Late) {
        if self.is_finished(id) {
            return;
        }
        let mut mail = self.mail.borrow_mut();
        mail.deliver(id, |delivery| delivery.failure = Some(Failure::WallLimit));
        mail.finish(id);
        drop(mail);
        self.open.set(self.open.get().saturating_sub(1));
        if self.open.get() == 0 {
            self.lifecycle.end(&shard.metrics.transitions);
        }
        let text = format!("wall time limit of {} s exceeded before the Worker began", allowed_ns / base::limits::S_NS);
        self.log(shard, shard.clock.recent(), LogRecord { request: Some(id), level: LogLevel::Error, text });
    }

    /// Ends it and its requests, for its memory. A call that is suspended in it is brought to an end.
    pub(crate) fn end_at_once(&self, shard: &Shard) {
        if !self.condemned.replace(true) && self.lifecycle.state() != IsolateState::Error {
            self.lifecycle.to(&shard.metrics.transitions, IsolateState::Error);
        }
        let text = format!(
            "the Worker was ended for want of memory on its node: of those with requests it held the most, {} MB",
            self.memory_bytes() / base::limits::MIB as u64
        );
        self.log(shard, shard.clock.now(), LogRecord { request: None, level: LogLevel::Error, text });
        match &self.seat {
            Some(seat) => drop(seat.replace(Suspendable::new(Seat::default()))),
            None => shard.apart.drop_worker(self.number),
        }
        self.suspended.set(false);
        self.fail_open(|_| Failure::Overloaded);
    }

    /// Gives the Worker up after a panic inside of it: its requests fail, and it is never entered nor dropped again,
    /// for nothing is known of its state. Its memory is lost; the table counts how often that happens.
    pub(crate) fn abandon(&self, shard: &Shard) {
        self.condemned.set(true);
        self.note_given_up(shard, true);
        if let Some(seat) = &self.seat
            && let Ok(mut seat) = seat.try_borrow_mut()
            && let Some(seat) = seat.get_mut()
        {
            std::mem::forget(seat.worker.take());
        }
        self.inside.set(false);
        self.suspended.set(false);
        let queued = self.inbox.borrow_mut().drain(..).collect::<Vec<_>>();
        let queued: HashSet<RequestId> = queued
            .iter()
            .filter_map(|(_, event)| match event {
                Event::Request { id, .. } | Event::Invoke { id, .. } => Some(*id),
                _ => None,
            })
            .collect();
        self.give_up(|id| !queued.contains(&id));
    }

    /// Notes that its isolate was given up, once: the next is not started at will, see [`crate::crash_loop`].
    #[inline]
    pub(super) fn note_given_up(&self, shard: &Shard, given_up: bool) {
        if given_up && !self.given_up.replace(true) {
            self.count_given_up(shard);
        }
    }

    #[cold]
    fn count_given_up(&self, shard: &Shard) {
        let Identity { account, deployment, .. } = self.identity;
        let wait_ns = self.tenant.conduct.crash_loops.add(deployment, shard.clock.recent_ns());
        if wait_ns == 0 {
            return;
        }
        let wait_s = wait_ns / base::limits::S_NS;
        tracing::warn!(%account, %deployment, wait_s, "a tenant's isolates are given up again and again; none is started for a while");
        let text =
            format!("the Worker stopped too often in a way that costs its node memory: not started for {wait_s} s");
        self.log(shard, shard.clock.recent(), LogRecord { request: None, level: LogLevel::Error, text });
    }

    /// Ends the requests of a Worker that a panic took, by what they had done.
    pub(super) fn give_up(&self, has_begun: impl Fn(RequestId) -> bool) {
        self.condemned.set(true);
        let current = self.current.get();
        self.fail_open(|mailbox| match mailbox.id {
            id if !has_begun(id) => Failure::NotBegun,
            id if mailbox.untouched && current != Some(id) => Failure::Interrupted,
            _ => Failure::Condemned,
        });
    }

    /// There is no Worker any more: its requests fail, its outbound requests end.
    fn fail_open(&self, why: impl Fn(&Mailbox) -> Failure) {
        *self.unbegun.borrow_mut() = None;
        self.inbox.borrow_mut().clear();
        self.open.set(0);
        self.timeout_ns.set(MonotonicNs::MAX);
        let mut mail = self.mail.borrow_mut();
        let open = mail.requests.iter().filter(|(_, mailbox)| !mailbox.finished);
        let open: Vec<_> = open.map(|(_, mailbox)| (mailbox.id, why(mailbox))).collect();
        for (id, why) in open {
            mail.deliver(id, |delivery| delivery.failure = Some(why));
            mail.finish(id);
        }
        for mailbox in mail.fetches.values_mut() {
            mailbox.delivery.cancelled = true;
            wake(&mut mailbox.waker);
        }
        self.sessions.set(0);
        mail.sockets.lose_all();
    }
}

/// A request that was not begun within its time.
#[derive(Clone, Copy)]
pub(crate) struct Late {
    pub(crate) id: RequestId,
    allowed_ns: u64,
}

/// The request that an event begins which came at `came_ns`, if its time is over.
pub(crate) fn late(event: &Event, came_ns: MonotonicNs, now_ns: MonotonicNs, limits: &RequestLimits) -> Option<Late> {
    let (id, allowed_ns) = match event {
        // It has no response: what it may take is what all of one may.
        Event::Invoke { id, invocation: Invocation::Scheduled { .. } } => (*id, limits.wall_ns),
        Event::Request { id, .. } | Event::Invoke { id, .. } => (*id, limits.wall_head_ns),
        _ => return None,
    };
    (now_ns >= came_ns.saturating_add(allowed_ns)).then_some(Late { id, allowed_ns })
}
