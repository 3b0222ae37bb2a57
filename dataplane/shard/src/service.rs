//! Calls from one Worker to another on the same shard: no socket, nothing serialised; bodies pass as they are, chunk by chunk.
//!
//! Each call is a task between the caller's outbound request and the callee's request: it hands on what the one asks for and the other
//! gives. The callee is the active version of the deployment that the binding names, with its own isolate, limits and log.
//!
//! **Bounds.** A call counts as an outbound request of its caller. All that a client's request sets going, at whatever depth, is a chain of
//! at most [`limits::INVOCATIONS_MAX`] requests: two Workers that call each other come to an end. At most one step of a body lies here in
//! each direction. **Fails:** the caller gets an error that says what became of the callee, never more than the name and the message of
//! what it threw; a caller that is gone aborts the callee's request, whose `waitUntil` goes on. A call whose isolate another request
//! took, or which did not start, is given once to another isolate where that is safe, as a client's request is ([`crate::exchange`]).

use crate::canned::Canned;
use crate::cell::{Delivery, Response, WorkerCell};
use crate::link::SendBody;
use crate::shard::Shard;
use base::limits;
use futures_lite::FutureExt;
use plane_abi::ServiceTarget;
use std::cell::Cell;
use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use worker_api::event::{
    BodyEvent, Callee, Event, Failure, FetchId, IncomingBody, Invocation, OutgoingBody, RequestHead, RequestId,
    SocketEnd,
};

/// Steps of one call before other tasks have their turn.
const STEPS_AT_ONCE: usize = 32;

/// Requests that one of a client's has set going, itself among them.
pub(crate) type Chain = Rc<Cell<u32>>;

/// A call as the Worker asked for it.
pub(crate) struct Call {
    pub(crate) fetch: FetchId,
    pub(crate) request: RequestId,
    pub(crate) service: Callee,
    pub(crate) rpc: bool,
    pub(crate) head: RequestHead,
    pub(crate) body: OutgoingBody,
}

/// Carries out a call in a task of its own.
pub(crate) fn start(shard: &Rc<Shard>, caller: &Rc<WorkerCell>, call: Call) {
    shard.metrics.service_calls.add(1);
    let (shard, caller) = (shard.clone(), caller.clone());
    glommio::spawn_local(async move {
        // As for outbound requests: the Worker is told of nothing before this task has waited once.
        futures_lite::future::yield_now().await;
        let fetch = call.fetch;
        match AssertUnwindSafe(run(&shard, &caller, call)).catch_unwind().await {
            Ok(Ok(())) => {}
            Ok(Err((name, message))) => {
                shard.metrics.service_failures.add(1);
                caller.send(&shard, Event::CallThrew { fetch, name, message });
            }
            Err(panic) => shard.after_panic(panic.as_ref()),
        }
        caller.detach_fetch(fetch);
    })
    .detach();
}

/// What the caller is told: an error's name and message.
type Thrown = (String, String);

fn error(message: impl Into<String>) -> Thrown {
    ("Error".to_owned(), message.into())
}

async fn run(shard: &Rc<Shard>, caller: &Rc<WorkerCell>, call: Call) -> Result<(), Thrown> {
    let own;
    let target = match call.service {
        Callee::Service(place) => {
            caller.services.get(place as usize).ok_or_else(|| error("no such service binding"))?
        }
        Callee::Own { entrypoint, props } => {
            own = ServiceTarget { deployment: caller.identity.deployment, entrypoint, props };
            &own
        }
    };
    // Its request is over, and this call with it.
    let Some(chain) = caller.chain(call.request) else { return Ok(()) };
    if chain.get() >= limits::INVOCATIONS_MAX {
        let most = limits::INVOCATIONS_MAX;
        return Err(error(format!("Too many Worker invocations: one request may set going at most {most} of them.")));
    }
    chain.set(chain.get() + 1);
    let head = Arc::new(head_of(call.head, call.body));
    let mut first = true;
    loop {
        let callee = shard.worker_of(target.deployment).await.map_err(not_there)?;
        let exchange = Exchange::begin(shard, caller, call.fetch, &callee, target, &chain, head.clone(), call.rpc);
        match exchange.run(shard).await {
            Err(Lost { again: true, .. }) if first => shard.metrics.request_retries.add(1),
            Err(Lost { thrown, .. }) => return Err(thrown),
            Ok(()) => return Ok(()),
        }
        first = false;
    }
}

/// The request as the callee sees it.
fn head_of(mut head: RequestHead, body: OutgoingBody) -> RequestHead {
    let length = match &body {
        OutgoingBody::Empty | OutgoingBody::Socket(_) => None,
        OutgoingBody::Full(bytes) => Some(bytes.len() as u64),
        OutgoingBody::Stream { length } | OutgoingBody::Passed { length, .. } => *length,
    };
    if let Some(length) = length.filter(|_| head.headers.get(b"content-length").is_none()) {
        head.headers.push(b"content-length", length.to_string().as_bytes());
    }
    head.body = match body {
        OutgoingBody::Empty | OutgoingBody::Socket(_) => IncomingBody::Empty,
        OutgoingBody::Full(bytes) => IncomingBody::Full(bytes),
        // Nothing passes to a call but by way of its Worker: `mayPass`.
        OutgoingBody::Stream { .. } | OutgoingBody::Passed { .. } => IncomingBody::Stream,
    };
    head
}

fn not_there(canned: Canned) -> Thrown {
    error(match canned {
        Canned::NOT_FOUND => "The Worker that this binding names is not deployed.",
        Canned::PAUSED => "The Worker that this binding names is paused.",
        Canned::START_FAILED => "The Worker that this binding names failed to start.",
        Canned::START_LIMITED => "The Worker that this binding names exceeded a limit while starting.",
        Canned::OVERLOADED => "The Worker that this binding names is overloaded.",
        Canned::CRASH_LOOP => "The Worker that this binding names stopped too often and is not started for a while.",
        _ => "The Worker that this binding names is not available.",
    })
}

fn told(why: Failure) -> Thrown {
    error(match why {
        Failure::Exception => "The Worker that was called threw an exception.",
        Failure::Hung => "The Worker that was called would never have answered.",
        Failure::NotAResponse => "The Worker that was called gave no Response.",
        Failure::CpuLimit => "The Worker that was called exceeded its CPU time limit.",
        Failure::MemoryLimit => "The Worker that was called exceeded its memory limit.",
        Failure::WallLimit => "The Worker that was called exceeded its time limit.",
        Failure::ResponseLimit => "The Worker that was called exceeded the size limit of a response.",
        Failure::NotBegun | Failure::Interrupted | Failure::Condemned => "The Worker that was called was stopped.",
        Failure::Overloaded => "The Worker that was called is overloaded.",
    })
}

/// A call under way.
struct Exchange<'a> {
    caller: &'a Rc<WorkerCell>,
    fetch: FetchId,
    callee: &'a Rc<WorkerCell>,
    id: RequestId,
    /// The request's body has not ended.
    uploading: bool,
    /// Its method is safe: it may be carried out twice. No method of an object is.
    safe: bool,
    /// The response's head was handed on.
    answered: bool,
    thrown: Option<Thrown>,
}

/// How it ends, if not well.
struct Lost {
    /// What the caller is told.
    thrown: Thrown,
    /// It may be given to another isolate, by the rules of [`crate::exchange`].
    again: bool,
}

type Ended = Result<(), Lost>;

impl<'a> Exchange<'a> {
    #[allow(clippy::too_many_arguments, reason = "two ends and what passes between them")]
    fn begin(
        shard: &Rc<Shard>,
        caller: &'a Rc<WorkerCell>,
        fetch: FetchId,
        callee: &'a Rc<WorkerCell>,
        target: &ServiceTarget,
        chain: &Chain,
        head: Arc<RequestHead>,
        rpc: bool,
    ) -> Exchange<'a> {
        let now = shard.clock.now();
        let id = callee.admit(shard, now.monotonic_ns, &head.body);
        callee.set_chain(id, chain.clone());
        let uploading = matches!(head.body, IncomingBody::Stream);
        let safe = !rpc && head.is_safe();
        let (entrypoint, props) = (target.entrypoint.clone(), target.props.clone());
        let invocation = match rpc {
            true => Invocation::Rpc { entrypoint, props, head },
            false => Invocation::Fetch { entrypoint, props, head },
        };
        let exchange = Exchange { caller, fetch, callee, id, uploading, safe, answered: false, thrown: None };
        callee.send_at(shard, now, Event::Invoke { id, invocation });
        exchange
    }

    async fn run(mut self, shard: &Rc<Shard>) -> Ended {
        let ended = poll_fn(|cx| self.poll(shard, cx)).await;
        if self.uploading && !self.callee.is_finished(self.id) {
            let body = BodyEvent::Failed("the caller is gone".to_owned());
            self.callee.send(shard, Event::RequestBody { id: self.id, body });
        }
        self.callee.detach(self.id);
        ended
    }

    fn poll(&mut self, shard: &Rc<Shard>, cx: &Context<'_>) -> Poll<Ended> {
        for _ in 0..STEPS_AT_ONCE {
            let from_caller = self.caller.take_fetch(self.fetch);
            if from_caller.cancelled {
                self.callee.send(shard, Event::ClientGone { id: self.id });
                return Poll::Ready(Ok(()));
            }
            let mut progress = from_caller.wants_body;
            if from_caller.wants_body {
                self.callee.send(shard, Event::PullResponse { id: self.id });
            }
            if let Some(body) = from_caller.upload {
                progress = true;
                self.uploading &= matches!(body, BodyEvent::Chunk(_));
                self.callee.send(shard, Event::RequestBody { id: self.id, body });
            }
            let from_callee = self.callee.take(self.id);
            progress |= !from_callee.is_empty();
            match self.deliver(shard, from_callee) {
                Some(ended) => return Poll::Ready(ended),
                None if progress => {}
                None => {
                    self.caller.wait_fetch(self.fetch, cx);
                    self.callee.wait(self.id, cx);
                    return Poll::Pending;
                }
            }
        }
        // Two Workers that answer each other at once leave the shard to others now and then.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Hands on what the callee gave; how the call ends, once it does.
    fn deliver(&mut self, shard: &Rc<Shard>, from: Delivery) -> Option<Ended> {
        let fetch = self.fetch;
        if from.threw.is_some() {
            self.thrown = from.threw;
        }
        if from.wants_body {
            self.caller.send(shard, Event::PullFetchUpload { fetch });
        }
        let mut ends = false;
        if let Some(Response { status, mut headers, body }) = from.response {
            if let SendBody::Socket(socket) = body {
                // Nothing joins two Workers' sockets.
                self.callee.remove_socket(socket);
                let (reason, end) = (String::new(), SocketEnd::Lost);
                self.callee.send(shard, Event::SocketClosed { socket, code: None, reason, end });
                let text =
                    "The Worker that was called answered with a WebSocket, which a service binding does not carry.";
                return Some(Err(Lost { thrown: error(text), again: false }));
            }
            self.answered = true;
            ends = !matches!(body, SendBody::Stream { .. });
            let body = match body {
                SendBody::Empty | SendBody::Link { .. } | SendBody::Socket(_) => IncomingBody::Empty,
                SendBody::Full(bytes) => IncomingBody::Full(bytes),
                SendBody::Stream { length } => {
                    if let Some(length) = length.filter(|_| headers.get(b"content-length").is_none()) {
                        headers.push(b"content-length", length.to_string().as_bytes());
                    }
                    IncomingBody::Stream
                }
            };
            let reason = h1::status::reason(status).to_owned();
            self.caller.send(shard, Event::FetchResponse { fetch, status, reason, headers, body });
        }
        if let Some(body) = from.body {
            ends = !matches!(body, BodyEvent::Chunk(_));
            self.caller.send(shard, Event::FetchBody { fetch, body });
        }
        if let Some(canned) = from.refused {
            return Some(Err(Lost { thrown: not_there(canned), again: shard.is_up_beside(self.callee) }));
        }
        if let Some(why) = from.failure.or(from.pass_through) {
            let again = match why {
                Failure::NotBegun => true,
                Failure::Interrupted => self.safe,
                _ => false,
            };
            let thrown = self.thrown.take().unwrap_or_else(|| told(why));
            return Some(Err(Lost { thrown, again: again && !self.answered }));
        }
        ends.then_some(Ok(()))
    }
}
