//! Calls of a Worker that come from no client: the clock's, and another Worker's.
//!
//! *Owns:* what they bring to `js/invoke.js`, and the native functions that only it has. *Invariants:* each is a request of its own,
//! with the limits of one; a run by the clock has no response, and so all of the time that a response may take.

use std::sync::{Arc, LazyLock};

use base::header::HeaderBlock;
use isolate::{Args, OpError, OpResult, OpTable, Scope};

use crate::{
    event::{Effect, IncomingBody, Invocation, RequestHead, RequestId},
    state::{Caller, Reply, State},
    worker::Worker,
};

/// Name and message of an error that another Worker is told of, bytes each; longer is cut.
const ERROR_BYTES_MAX: usize = 4 * base::limits::KIB;

/// Kinds of `invoke` in `js/invoke.js`.
const SCHEDULED: i32 = 0;
const FETCH: i32 = 1;
const RPC: i32 = 2;

/// What stands for a request's head where there is no request.
static NO_HEAD: LazyLock<Arc<RequestHead>> = LazyLock::new(|| {
    let (method, url) = (String::new(), String::new());
    Arc::new(RequestHead { method, url, headers: HeaderBlock::new(), body: IncomingBody::Empty })
});

/// Adds the functions of this file.
pub(crate) fn register(ops: &mut OpTable) {
    ops.add("invocationEnded", invocation_ended);
    ops.add("noRetry", no_retry);
    ops.add("threw", threw);
}

impl Worker {
    pub(crate) fn invoke(&mut self, id: RequestId, invocation: Invocation) {
        match invocation {
            Invocation::Scheduled { cron, unix_ms } => {
                if self.admit(id, &NO_HEAD, Caller::Clock { again: true }).is_none() {
                    return;
                }
                self.turn(Some(id), |scope, entry| {
                    let args =
                        [scope.integer(SCHEDULED), scope.id(id.0), scope.string(&cron), scope.number(unix_ms as f64)];
                    let function = scope.open(&entry.invoke);
                    scope.call(function, &args)
                });
            }
            Invocation::Fetch { entrypoint, props, head } => self.called(id, FETCH, [&entrypoint, &props], &head),
            Invocation::Rpc { entrypoint, props, head } => self.called(id, RPC, [&entrypoint, &props], &head),
        }
        self.watch_wall(id);
    }

    fn called(&mut self, id: RequestId, kind: i32, [entrypoint, props]: [&str; 2], head: &Arc<RequestHead>) {
        let Some(body) = self.admit(id, head, Caller::Worker) else { return };
        self.turn(Some(id), |scope, entry| {
            let args = [
                scope.integer(kind),
                scope.id(id.0),
                scope.string(entrypoint),
                scope.string(props),
                entry.method(scope, &head.method),
                scope.latin1(head.url.as_bytes()),
                scope.integer(body),
            ];
            let function = scope.open(&entry.invoke);
            scope.call(function, &args)
        });
    }
}

/// `invocationEnded(rid)`: a run without a response is over.
fn invocation_ended<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> OpResult<'s> {
    let id = RequestId(args.id(0)?);
    let state = cx.state::<State>();
    if let Some(request) = state.requests.get_mut(&id).filter(|request| request.reply == Reply::Waiting) {
        request.reply = Reply::Done;
        state.ended.push(id);
    }
    Ok(cx.undefined())
}

/// `noRetry(rid)`: a run that does not come to its end is not begun anew.
fn no_retry<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> OpResult<'s> {
    let id = RequestId(args.id(0)?);
    if let Some(request) = cx.state::<State>().requests.get_mut(&id) {
        request.caller = Caller::Clock { again: false };
    }
    Ok(cx.undefined())
}

/// `threw(rid, name, message)`: what the Worker that called is told.
fn threw<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> OpResult<'s> {
    let id = RequestId(args.id(0)?);
    let (name, message) = (text(cx, args, 1)?, text(cx, args, 2)?);
    let state = cx.state::<State>();
    if state.requests.get(&id).is_some_and(|request| request.reply == Reply::Waiting) {
        state.effects.push_back(Effect::Threw { id, name, message });
    }
    Ok(cx.undefined())
}

fn text<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>, index: usize) -> Result<String, OpError> {
    let mut text = args.string(cx, index)?;
    text.truncate(text.floor_char_boundary(ERROR_BYTES_MAX));
    Ok(text)
}
