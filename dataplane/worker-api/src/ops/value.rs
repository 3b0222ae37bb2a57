//! What a value is inside, for `console`: without running anything of the value's own.

use isolate::{Args, OpError, OpResult, OpTable, PromiseState, Scope};

pub(super) fn register(ops: &mut OpTable) {
    ops.add("valueKind", value_kind);
    ops.add("promiseState", promise_state);
}

/// `valueKind(value)`: a number of `isolate::Kind`, as in `js/inspect.js`.
fn value_kind<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> OpResult<'s> {
    Ok(cx.integer(args.get(0).kind() as i32))
}

/// `promiseState(promise)`: `[0]` while pending, `[1, value]` or `[2, reason]`.
fn promise_state<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> OpResult<'s> {
    let state = args.get(0).promise_state(cx).ok_or_else(|| OpError::type_error("argument 1 is not a promise"))?;
    let (tag, value) = match state {
        PromiseState::Pending => (0, cx.undefined()),
        PromiseState::Fulfilled(value) => (1, value),
        PromiseState::Rejected(reason) => (2, reason),
    };
    let tag = cx.integer(tag);
    Ok(cx.array(&[tag, value]))
}
