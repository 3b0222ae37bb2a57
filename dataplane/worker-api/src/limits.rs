//! Limits of a request besides its CPU time, and the one that time itself reaches: a request whose response does not begin,
//! or does not end, while the Worker has all the CPU time it wants.
//!
//! *Invariants:* while a request waits for JavaScript, [`Worker::poll_timeout`] is at the latest when its time is up.
//! *Bounds:* one look over the requests of an isolate (`REQUESTS_PER_ISOLATE_MAX`) when the earliest may be up.

use base::limits::{RESPONSE_BYTES_MAX, S_NS, SUBREQUESTS_MAX, WALL_HEAD_NS, WALL_NS};

use crate::{
    event::{Failure, LogLevel, MonotonicNs, RequestId},
    state::{Caller, Reply, Request, State},
    worker::Worker,
};

/// Limits of each request of a Worker, besides CPU time; by the deployment's plan and the node's configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestLimits {
    /// From the request's head to the response's, ns.
    pub wall_head_ns: u64,
    /// From the request's head to the end of the response, ns.
    pub wall_ns: u64,
    /// Outbound requests.
    pub subrequests: u32,
    /// Bytes of the response's body.
    pub response_bytes: u64,
}

impl Default for RequestLimits {
    fn default() -> RequestLimits {
        RequestLimits {
            wall_head_ns: WALL_HEAD_NS,
            wall_ns: WALL_NS,
            subrequests: SUBREQUESTS_MAX,
            response_bytes: RESPONSE_BYTES_MAX,
        }
    }
}

/// When a request's time is up; none once its reply is complete.
fn deadline_ns(limits: &RequestLimits, request: &Request) -> Option<MonotonicNs> {
    let allowed_ns = match request.reply {
        // It has no response: what it may take is what all of one may.
        Reply::Waiting if matches!(request.caller, Caller::Clock { .. }) => limits.wall_ns,
        Reply::Waiting => limits.wall_head_ns,
        Reply::Streaming { .. } | Reply::Passing(_) => limits.wall_ns,
        Reply::Done => return None,
    };
    Some(request.started_ns.saturating_add(allowed_ns))
}

impl Worker {
    /// A request's first turn is over: if it is not complete, its time counts.
    #[inline]
    pub(crate) fn watch_wall(&mut self, id: RequestId) {
        let state = self.state_mut();
        let Some(at) = state.requests.get(&id).and_then(|request| deadline_ns(&state.limits, request)) else { return };
        state.wall_at_ns = Some(state.wall_at_ns.map_or(at, |before| before.min(at)));
    }

    /// Ends the requests whose time is up.
    pub(crate) fn wall_limit(&mut self, now: MonotonicNs) {
        let state = self.state_mut();
        if state.wall_at_ns.is_none_or(|at| at > now) {
            return;
        }
        let limits = state.limits;
        let open = state.requests.open().filter_map(|(id, request)| Some((deadline_ns(&limits, request)?, *id)));
        let (mut late, open): (Vec<_>, Vec<_>) = open.partition(|(at, _)| *at <= now);
        state.wall_at_ns = open.iter().map(|(at, _)| *at).min();
        late.sort_unstable();
        for (_, id) in late {
            end(state, id, &limits);
        }
    }
}

#[cold]
fn end(state: &mut State, id: RequestId, limits: &RequestLimits) {
    let Some(request) = state.requests.get_mut(&id) else { return };
    let text = match request.reply {
        Reply::Waiting if request.caller == Caller::Client => {
            format!("wall time limit of {} s until a response exceeded", limits.wall_head_ns / S_NS)
        }
        _ => format!("wall time limit of {} s exceeded", limits.wall_ns / S_NS),
    };
    // Nothing more is done for it, what it has with waitUntil included.
    request.waiting = 0;
    state.say(Some(id), LogLevel::Error, text);
    state.fail(id, Failure::WallLimit);
    state.end_sockets_of(id, Some(Failure::WallLimit));
}
