//! Native functions of the core: what `dispatch.js` needs to answer requests and to reach outside; see `js/README.md`.
//!
//! *Invariants:* each takes an id that may be stale; a request or outbound request that is over is left alone. None calls
//! JavaScript.

use base::{
    header::HeaderBlock,
    limits::{HEAD_BYTES_MAX, KIB, MS_NS, TARGET_BYTES_MAX},
};
use bytes::Bytes;
use isolate::{Args, OpError, OpResult, OpTable, Scope, Value};

use std::sync::Arc;

use crate::{
    event::{
        BodyEvent, BodySource, Callee, Effect, Failure, FetchId, Held, IncomingBody, LogLevel, OutgoingBody,
        RequestHead, RequestId,
    },
    sockets::respond_socket,
    state::{BodyIn, Caller, Reply, State},
};

/// Header fields of a response, bytes. More than we take from a client: a Worker may set many cookies.
const RESPONSE_HEAD_BYTES_MAX: usize = 4 * HEAD_BYTES_MAX;
/// Bodies from this size on count as the isolate's memory until the shard has sent them.
const COUNTED_BYTES_MIN: usize = 4 * KIB;

const KIND_NONE: u64 = 0;
const KIND_FULL: u64 = 1;
const KIND_STREAM: u64 = 2;
const KIND_PASSED_REQUEST: u64 = 3;
const KIND_PASSED_FETCH: u64 = 4;
const KIND_SOCKET: u64 = 5;

/// Adds the functions of this file.
pub(crate) fn register(ops: &mut OpTable) {
    ops.add("requestHeaders", request_headers);
    ops.add("place", place);
    ops.add("requestBody", request_body);
    ops.add("requestBodyPull", request_body_pull);
    ops.add("requestBodyCancel", request_body_cancel);
    ops.add("respond", respond);
    ops.add("responseChunk", response_chunk);
    ops.add("responseEnd", response_end);
    ops.add("responseFailed", response_failed);
    ops.add("requestFailed", request_failed);
    ops.add("notAResponse", not_a_response);
    ops.add("waitUntilStarted", wait_until_started);
    ops.add("waitUntilSettled", wait_until_settled);
    ops.add("passThrough", pass_through);
    ops.add("fetchStart", fetch_start);
    ops.add("mayPass", may_pass);
    ops.add("fetchUploadChunk", fetch_upload_chunk);
    ops.add("fetchUploadEnd", fetch_upload_end);
    ops.add("fetchUploadFailed", fetch_upload_failed);
    ops.add("fetchBodyPull", fetch_body_pull);
    ops.add("fetchCancel", fetch_cancel);
    ops.add("timerStart", timer_start);
    ops.add("timerStop", timer_stop);
    ops.add("log", log);
    ops.add("now", now);
    ops.add("monotonicMs", monotonic_ms);
    ops.add("utf8Decode", utf8_decode);
    ops.add("utf8Encode", utf8_encode);
}

/// The request that the running flow of control belongs to, finished or not.
///
/// The flow's value is the request's number, or a frame of AsyncLocalStorage, an array that begins with it.
pub(crate) fn flow_request(cx: &mut Scope<'_, '_>) -> Option<RequestId> {
    let flow = cx.flow();
    let number = flow.as_f64().or_else(|| cx.element(flow, 0)?.as_f64());
    number.map(|id| RequestId(id as u64))
}

/// What `js/node/async_hooks.js` needs.
pub(crate) fn register_flow(ops: &mut OpTable) {
    ops.add("flow", |cx: &mut Scope<'_, '_>, _args| Ok(cx.flow()));
    ops.add("setFlow", |cx: &mut Scope<'_, '_>, args| {
        cx.set_flow(args.get(0));
        Ok(cx.undefined())
    });
}

#[inline]
fn request_id(args: &Args<'_>) -> Result<RequestId, OpError> {
    args.id(0).map(RequestId)
}

fn fetch_id(args: &Args<'_>) -> Result<FetchId, OpError> {
    args.id(0).map(FetchId)
}

/// Fields as a flat array for JavaScript: names lower-case, values as byte strings.
pub(crate) fn header_array<'s>(cx: &mut Scope<'s, '_>, headers: &HeaderBlock) -> Value<'s> {
    let mut items = Vec::with_capacity(headers.len() * 2);
    let mut lower = Vec::new();
    for (name, value) in headers.iter() {
        lower.clear();
        lower.extend(name.iter().map(u8::to_ascii_lowercase));
        items.push(cx.latin1(&lower));
        items.push(cx.latin1(value));
    }
    cx.array(&items)
}

fn request_headers<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> OpResult<'s> {
    let id = request_id(args)?;
    match cx.state::<State>().requests.get(&id).map(|request| Arc::clone(&request.head)) {
        Some(head) => Ok(header_array(cx, &head.headers)),
        None => Ok(cx.array(&[])),
    }
}

/// `place()`: what the node knows of where a request came to it, JSON: `request.cf`.
fn place<'s>(cx: &mut Scope<'s, '_>, _args: &Args<'s>) -> OpResult<'s> {
    let place = cx.state::<State>().place;
    Ok(cx.string(place))
}

fn request_body<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> OpResult<'s> {
    let id = request_id(args)?;
    let Some(request) = cx.state::<State>().requests.get_mut(&id) else { return Ok(cx.null()) };
    match std::mem::replace(&mut request.body, BodyIn::Done) {
        BodyIn::Full(bytes) => {
            request.body_read = true;
            cx.uint8_array(Vec::from(bytes)).ok_or_else(OpError::out_of_memory)
        }
        other => {
            request.body = other;
            Ok(cx.null())
        }
    }
}

fn request_body_pull<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> OpResult<'s> {
    let id = request_id(args)?;
    let state = cx.state::<State>();
    let idle = state.requests.get_mut(&id).filter(|request| matches!(request.body, BodyIn::Idle));
    let open = idle.is_some();
    if let Some(request) = idle {
        request.body = BodyIn::Pulled;
        request.body_read = true;
        state.effects.push_back(Effect::PullRequestBody { id });
    }
    Ok(cx.boolean(open))
}

fn request_body_cancel<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> OpResult<'s> {
    let id = request_id(args)?;
    let state = cx.state::<State>();
    if let Some(request) = state.requests.get_mut(&id)
        && matches!(request.body, BodyIn::Idle | BodyIn::Pulled)
    {
        request.body = BodyIn::Done;
        state.effects.push_back(Effect::CancelRequestBody { id });
    }
    Ok(cx.undefined())
}

/// Reads a flat array of names and values, which JavaScript has validated.
fn header_block<'s>(cx: &mut Scope<'s, '_>, list: Value<'s>, bytes_max: usize) -> Result<HeaderBlock, OpError> {
    let len = cx.array_len(list);
    let mut block = HeaderBlock::with_capacity(len as usize / 2, len as usize * 16);
    let (mut name, mut value) = (Vec::new(), Vec::new());
    for index in (0..len).step_by(2) {
        name.clear();
        value.clear();
        let pair = cx.element(list, index).zip(cx.element(list, index + 1));
        let read = pair.is_some_and(|(n, v)| {
            // Lengths first: a value may be longer than memory has room for.
            cx.string_len(n) + cx.string_len(v) <= bytes_max
                && cx.append_latin1(n, &mut name)
                && cx.append_latin1(v, &mut value)
        });
        if !read || block.bytes_len() + name.len() + value.len() > bytes_max {
            return Err(OpError::type_error(format!("headers are not byte strings, or more than {bytes_max} bytes")));
        }
        block.push(&name, &value);
    }
    Ok(block)
}

/// A body of kind 1: a string as UTF-8, or the bytes of a view.
pub(crate) fn full_body<'s>(cx: &mut Scope<'s, '_>, body: Value<'s>) -> Result<Bytes, OpError> {
    let mut bytes = Vec::new();
    if body.is_string() {
        // Before it is copied: a rope of 2²⁹ units takes little of the heap.
        if cx.string_len(body) > cx.room() {
            return Err(OpError::out_of_memory());
        }
        cx.append_utf8(body, &mut bytes);
    } else {
        bytes = cx.bytes(body).ok_or_else(|| OpError::type_error("a body is neither text nor bytes"))?;
    }
    counted(cx, bytes)
}

fn counted(cx: &Scope<'_, '_>, bytes: Vec<u8>) -> Result<Bytes, OpError> {
    if bytes.len() < COUNTED_BYTES_MIN {
        return Ok(Bytes::from(bytes));
    }
    cx.counted(bytes).map(Bytes::from_owner).ok_or_else(OpError::out_of_memory)
}

/// `respond(rid, status, headerList | null, contentType | null, bodyKind, body, length)`: whether a stream will be pulled.
fn respond<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> OpResult<'s> {
    let id = request_id(args)?;
    let Some(request) = cx.state::<State>().requests.get(&id).filter(|request| request.reply == Reply::Waiting) else {
        return Ok(cx.boolean(false));
    };
    let is_head = request.head.method == "HEAD";
    let mut headers = match response_headers(cx, args) {
        Ok(headers) => headers,
        Err(_) => return Ok(refuse_response(cx, id)),
    };
    if args.id(4)? == KIND_SOCKET {
        let existing = args.id(5)?;
        return Ok(respond_socket(cx, id, headers, existing));
    }
    let length = args.number(6)?;
    let length = (length >= 0.0).then_some(length as u64);
    let (body, reply) = match args.id(4)? {
        KIND_NONE => (OutgoingBody::Empty, Reply::Done),
        KIND_FULL => (OutgoingBody::Full(full_body(cx, args.get(5))?), Reply::Done),
        KIND_STREAM | KIND_PASSED_REQUEST | KIND_PASSED_FETCH if is_head => {
            if let Some(length) = length.filter(|_| headers.get(b"content-length").is_none()) {
                headers.push(b"content-length", length.to_string().as_bytes());
            }
            (OutgoingBody::Empty, Reply::Done)
        }
        kind @ (KIND_PASSED_REQUEST | KIND_PASSED_FETCH) => match passed_source(cx, kind, args.id(5)?) {
            Some((from, own)) => {
                let (length, bytes_max) = (length.or(own), cx.state::<State>().limits.response_bytes);
                (OutgoingBody::Passed { from, length, bytes_max }, Reply::Passing(from))
            }
            None => return Ok(refuse_passing(cx, id)),
        },
        _ => (OutgoingBody::Stream { length }, Reply::Streaming { pulled: false }),
    };
    let status = args.number(1)? as u16;
    let state = cx.state::<State>();
    let bytes = match &body {
        OutgoingBody::Empty | OutgoingBody::Socket(_) => 0,
        OutgoingBody::Full(bytes) => bytes.len() as u64,
        OutgoingBody::Stream { length } | OutgoingBody::Passed { length, .. } => length.unwrap_or(0),
    };
    if bytes > state.limits.response_bytes {
        response_limit(state, id);
        return Ok(cx.boolean(false));
    }
    if let Some(request) = state.requests.get_mut(&id) {
        request.reply = reply;
    }
    state.effects.push_back(Effect::Respond { id, status, headers, body });
    if reply == Reply::Done {
        state.ended.push(id);
    }
    Ok(cx.boolean(reply != Reply::Done))
}

fn response_headers<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> Result<HeaderBlock, OpError> {
    let list = args.get(2);
    if !list.is_null_or_undefined() {
        return header_block(cx, list, RESPONSE_HEAD_BYTES_MAX);
    }
    let content_type = args.get(3);
    let mut block = HeaderBlock::new();
    if !content_type.is_null_or_undefined() {
        let mut value = Vec::new();
        if cx.string_len(content_type) > RESPONSE_HEAD_BYTES_MAX || !cx.append_latin1(content_type, &mut value) {
            return Err(OpError::type_error("content type"));
        }
        block = HeaderBlock::with_capacity(1, 12 + value.len());
        block.push(b"content-type", &value);
    }
    Ok(block)
}

#[cold]
fn refuse_response<'s>(cx: &mut Scope<'s, '_>, id: RequestId) -> Value<'s> {
    let text = format!("a response's headers are more than {RESPONSE_HEAD_BYTES_MAX} bytes");
    let state = cx.state::<State>();
    state.log(Some(id), LogLevel::Error, text);
    state.fail(id, Failure::Exception);
    cx.boolean(false)
}

/// Takes a body out of JavaScript's hands, if it is open and nothing of it was pulled; with the length that a request promised.
fn passed_source(cx: &mut Scope<'_, '_>, kind: u64, id: u64) -> Option<(BodySource, Option<u64>)> {
    let state = cx.state::<State>();
    if kind == KIND_PASSED_FETCH {
        let fetch = FetchId(id);
        return state.fetches.get(&fetch).filter(|row| !row.awaited).map(|_| (BodySource::Fetch(fetch), None));
    }
    let id = RequestId(id);
    let request = state.requests.get_mut(&id).filter(|request| matches!(request.body, BodyIn::Idle))?;
    request.body = BodyIn::Done;
    request.body_read = true;
    let length = request.head.headers.get(b"content-length");
    let length = length.and_then(|value| std::str::from_utf8(value).ok()?.parse().ok());
    Some((BodySource::Request(id), length))
}

#[cold]
fn refuse_passing<'s>(cx: &mut Scope<'s, '_>, id: RequestId) -> Value<'s> {
    let state = cx.state::<State>();
    state.log(Some(id), LogLevel::Error, "the response's body is of a request or fetch that is over".to_owned());
    state.fail(id, Failure::Exception);
    cx.boolean(false)
}

fn response_chunk<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> OpResult<'s> {
    let id = request_id(args)?;
    let bytes = full_body(cx, args.get(1))?;
    let state = cx.state::<State>();
    let mut over = false;
    if let Some(request) = state.requests.get_mut(&id).filter(|r| r.reply == (Reply::Streaming { pulled: true })) {
        request.response_bytes += bytes.len() as u64;
        over = request.response_bytes > state.limits.response_bytes;
        if over {
            response_limit(state, id);
        } else {
            request.reply = Reply::Streaming { pulled: false };
            state.effects.push_back(Effect::ResponseBody { id, body: BodyEvent::Chunk(bytes) });
        }
    }
    Ok(cx.boolean(!over))
}

#[cold]
pub(crate) fn response_limit(state: &mut State, id: RequestId) {
    let text = format!("response size limit of {} bytes exceeded", state.limits.response_bytes);
    state.say(Some(id), LogLevel::Error, text);
    state.fail(id, Failure::ResponseLimit);
}

fn response_end<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> OpResult<'s> {
    end_stream(cx, request_id(args)?, BodyEvent::End);
    Ok(cx.undefined())
}

fn response_failed<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> OpResult<'s> {
    let text = args.string(cx, 1)?;
    let id = request_id(args)?;
    cx.state::<State>().log(Some(id), LogLevel::Error, format!("response body failed: {text}"));
    end_stream(cx, id, BodyEvent::Failed(text));
    Ok(cx.undefined())
}

fn end_stream(cx: &mut Scope<'_, '_>, id: RequestId, body: BodyEvent) {
    let state = cx.state::<State>();
    if let Some(request) = state.requests.get_mut(&id).filter(|r| matches!(r.reply, Reply::Streaming { .. })) {
        request.reply = Reply::Done;
        if matches!(body, BodyEvent::Failed(_)) {
            request.failure = Some(Failure::Exception);
        }
        state.effects.push_back(Effect::ResponseBody { id, body });
        state.ended.push(id);
    }
}

fn request_failed<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> OpResult<'s> {
    let id = request_id(args)?;
    let text = args.string(cx, 1)?;
    let state = cx.state::<State>();
    state.log(Some(id), LogLevel::Error, format!("Uncaught {text}"));
    state.fail(id, Failure::Exception);
    Ok(cx.undefined())
}

fn not_a_response<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> OpResult<'s> {
    let id = request_id(args)?;
    let state = cx.state::<State>();
    state.log(Some(id), LogLevel::Error, "the fetch handler gave something that is not a Response".to_owned());
    state.fail(id, Failure::NotAResponse);
    Ok(cx.undefined())
}

fn wait_until_started<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> OpResult<'s> {
    let id = request_id(args)?;
    let request = cx.state::<State>().requests.get_mut(&id);
    let open = request.is_some();
    if let Some(request) = request {
        request.waiting = request.waiting.saturating_add(1);
    }
    Ok(cx.boolean(open))
}

fn wait_until_settled<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> OpResult<'s> {
    let id = request_id(args)?;
    let state = cx.state::<State>();
    if let Some(request) = state.requests.get_mut(&id) {
        request.waiting = request.waiting.saturating_sub(1);
        if request.waiting == 0 {
            state.ended.push(id);
        }
    }
    Ok(cx.undefined())
}

fn pass_through<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> OpResult<'s> {
    let id = request_id(args)?;
    if let Some(request) = cx.state::<State>().requests.get_mut(&id) {
        request.pass_through = true;
    }
    Ok(cx.undefined())
}

/// `mayPass(kind, id)`: whether the shard has a socket for that request or outbound request, from which a body can pass to another.
fn may_pass<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> OpResult<'s> {
    let (kind, id) = (args.id(0)?, args.id(1)?);
    let state = cx.state::<State>();
    let may = match kind {
        KIND_PASSED_FETCH => state.fetches.get(&FetchId(id)).is_some_and(|fetch| !fetch.call),
        _ => state.requests.get(&RequestId(id)).is_some_and(|request| request.caller == Caller::Client),
    };
    Ok(cx.boolean(may))
}

/// `fetchStart(method, url, headerList, bodyKind, body, length, service | [entrypoint, props] | undefined, rpc)` → `fid`.
fn fetch_start<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> OpResult<'s> {
    let request_id = flow_request(cx).ok_or_else(outside_request)?;
    if cx.string_len(args.get(0)) > TARGET_BYTES_MAX || cx.string_len(args.get(1)) > TARGET_BYTES_MAX {
        return Err(OpError::type_error(format!("a URL is longer than {TARGET_BYTES_MAX} bytes")));
    }
    let method = args.string(cx, 0)?;
    let url = args.string(cx, 1)?;
    let headers = header_block(cx, args.get(2), HEAD_BYTES_MAX)?;
    let length = args.number(5)?;
    let body = match args.id(3)? {
        KIND_NONE => OutgoingBody::Empty,
        KIND_FULL => OutgoingBody::Full(full_body(cx, args.get(4))?),
        kind @ (KIND_PASSED_REQUEST | KIND_PASSED_FETCH) => {
            let (from, own) = passed_source(cx, kind, args.id(4)?).ok_or_else(request_over)?;
            let length = (length >= 0.0).then_some(length as u64).or(own);
            OutgoingBody::Passed { from, length, bytes_max: u64::MAX }
        }
        _ => OutgoingBody::Stream { length: (length >= 0.0).then_some(length as u64) },
    };
    let service = callee(cx, args.get(6))?;
    let state = cx.state::<State>();
    let request = state.requests.get_mut(&request_id).ok_or_else(request_over)?;
    if request.subrequests >= state.limits.subrequests {
        state.hold(Some(request_id), Held::Subrequests);
        return Err(OpError::error("Too many subrequests by single Worker invocation."));
    }
    request.subrequests += 1;
    let fetch = state.next_fetch();
    let effect = match service {
        Some(service) => {
            let head = RequestHead { method, url, headers, body: IncomingBody::Empty };
            Effect::Call { fetch, request: request_id, service, rpc: args.flag(7), head, body }
        }
        None => Effect::Fetch { fetch, request: Some(request_id), method, url, headers, body },
    };
    state.send_fetch(request_id, fetch, effect);
    Ok(cx.id(fetch.0))
}

/// Whom a request is for, if not the world outside.
fn callee<'s>(cx: &mut Scope<'s, '_>, value: Value<'s>) -> Result<Option<Callee>, OpError> {
    if let Some(place) = value.as_f64() {
        return Ok(Some(Callee::Service(place as u32)));
    }
    let (Some(entrypoint), Some(props)) = (cx.element(value, 0), cx.element(value, 1)) else { return Ok(None) };
    let mut text = |value| cx.text(value).ok_or_else(|| OpError::type_error("not an entrypoint"));
    Ok(Some(Callee::Own { entrypoint: text(entrypoint)?, props: text(props)? }))
}

fn outside_request() -> OpError {
    OpError::error(
        "timers and outbound requests are not allowed at the module's top level, only while handling a request",
    )
}

fn request_over() -> OpError {
    OpError::error("the request that this work belongs to is over")
}

fn upload(cx: &mut Scope<'_, '_>, fetch: FetchId, body: BodyEvent) {
    let state = cx.state::<State>();
    if state.fetches.contains_key(&fetch) {
        state.effects.push_back(Effect::FetchUpload { fetch, body });
    }
}

fn fetch_upload_chunk<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> OpResult<'s> {
    let bytes = full_body(cx, args.get(1))?;
    upload(cx, fetch_id(args)?, BodyEvent::Chunk(bytes));
    Ok(cx.undefined())
}

fn fetch_upload_end<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> OpResult<'s> {
    upload(cx, fetch_id(args)?, BodyEvent::End);
    Ok(cx.undefined())
}

fn fetch_upload_failed<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> OpResult<'s> {
    let text = args.string(cx, 1)?;
    upload(cx, fetch_id(args)?, BodyEvent::Failed(text));
    Ok(cx.undefined())
}

fn fetch_body_pull<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> OpResult<'s> {
    let fetch = fetch_id(args)?;
    let state = cx.state::<State>();
    let idle = state.fetches.get_mut(&fetch).filter(|open| !open.awaited);
    let open = idle.is_some();
    if let Some(row) = idle {
        row.awaited = true;
        state.effects.push_back(Effect::PullFetchBody { fetch });
    }
    Ok(cx.boolean(open))
}

fn fetch_cancel<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> OpResult<'s> {
    let fetch = fetch_id(args)?;
    cx.state::<State>().cancel_fetch(fetch);
    Ok(cx.undefined())
}

fn timer_start<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> OpResult<'s> {
    let delay_ms = args.number(0)?;
    let request = flow_request(cx).ok_or_else(outside_request)?;
    let state = cx.state::<State>();
    if !state.requests.contains_key(&request) {
        return Err(request_over());
    }
    let now = state.now.monotonic_ns;
    match state.timers.start(now, delay_ms, args.flag(1), Some(request)) {
        Some(id) => Ok(cx.id(id)),
        None => Err(OpError::range_error("too many timers")),
    }
}

fn timer_stop<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> OpResult<'s> {
    let id = args.id(0)?;
    cx.state::<State>().timers.stop(id);
    Ok(cx.undefined())
}

fn log<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> OpResult<'s> {
    let level = match args.id(0)? {
        0 => LogLevel::Debug,
        1 => LogLevel::Info,
        2 => LogLevel::Warn,
        _ => LogLevel::Error,
    };
    let request = flow_request(cx);
    let text = args.string(cx, 1)?;
    cx.state::<State>().log(request, level, text);
    Ok(cx.undefined())
}

fn now<'s>(cx: &mut Scope<'s, '_>, _args: &Args<'s>) -> OpResult<'s> {
    let unix_ms = cx.state::<State>().now.unix_ms;
    Ok(cx.number(unix_ms as f64))
}

fn monotonic_ms<'s>(cx: &mut Scope<'s, '_>, _args: &Args<'s>) -> OpResult<'s> {
    let state = cx.state::<State>();
    let since_ns = state.now.monotonic_ns.saturating_sub(state.origin_ns);
    Ok(cx.number(since_ns as f64 / MS_NS as f64))
}

fn utf8_decode<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> OpResult<'s> {
    let bytes = args.bytes(cx, 0)?;
    cx.string_from_utf8(&bytes).ok_or_else(|| OpError::range_error("the text is too long for a string"))
}

fn utf8_encode<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> OpResult<'s> {
    if cx.string_len(args.get(0)) > cx.room() {
        return Err(OpError::out_of_memory());
    }
    let mut bytes = Vec::new();
    if !cx.append_utf8(args.get(0), &mut bytes) {
        return Err(OpError::type_error("argument 1 is not a string"));
    }
    cx.uint8_array(bytes).ok_or_else(OpError::out_of_memory)
}
