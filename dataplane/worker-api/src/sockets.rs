//! WebSockets: which the Worker has, whose they are, and what their events do.
//!
//! A socket that answers a request keeps that request alive as a session ([`crate::requests`]) until it is closed; one that an
//! outbound request opened belongs to the request that made it, and goes with it, at the latest `WAIT_UNTIL_NS` after the reply.
//! Pairs of which both ends are in JavaScript are not known here.
//!
//! *Invariants:* a socket gives one `SocketClose` at most; after the isolate is condemned it has no socket. *Bounds:* one message
//! is with the Worker for each socket; a message's size by `WEBSOCKET_MESSAGE_BYTES_MAX` either way.

use base::limits::WEBSOCKET_MESSAGE_BYTES_MAX;
use isolate::{Args, OpError, OpResult, OpTable, Scope, Value};

use crate::{
    core_ops::full_body,
    event::{Effect, Failure, RequestId, SocketEnd, SocketId, SocketMessage},
    state::State,
    worker::Worker,
};

/// The close code of sockets whose Worker cannot go on: an internal error (RFC 6455 §7.4.1).
const INTERNAL: u16 = 1011;
/// The same of sockets whose request is over.
const GOING_AWAY: u16 = 1001;

/// A WebSocket that is not closed both ways.
pub(crate) struct Socket {
    pub(crate) request: RequestId,
    /// It answers its request.
    serves: bool,
    /// The program has accepted it: it is asked for messages.
    accepted: bool,
    /// The peer's close frame is answered by the program.
    half_open: bool,
    /// The program has closed it, or it need not any more.
    closed: bool,
    /// The peer's close frame has come.
    ended: bool,
}

impl State {
    /// A socket for a request that is open.
    pub(crate) fn add_socket(&mut self, socket: SocketId, id: RequestId, serves: bool) -> bool {
        let Some(request) = self.requests.get_mut(&id) else { return false };
        request.sockets += 1;
        request.serving += u32::from(serves);
        let row = Socket { request: id, serves, accepted: false, half_open: false, closed: false, ended: false };
        self.sockets.insert(socket, row);
        true
    }

    /// A socket that is used to answer another request leaves JavaScript's hands: the shard joins the two. Whether it can.
    pub(crate) fn give_socket(&mut self, socket: SocketId) -> bool {
        let unused = self.sockets.get(&socket).is_some_and(|row| !row.accepted && !row.closed);
        if unused {
            self.forget_socket(socket);
        }
        unused
    }

    /// The socket is over.
    fn forget_socket(&mut self, socket: SocketId) {
        let Some(row) = self.sockets.remove(&socket) else { return };
        let Some(request) = self.requests.get_mut(&row.request) else { return };
        request.sockets -= 1;
        request.serving -= u32::from(row.serves);
        if request.serving == 0 {
            self.requests.end_session(row.request);
            self.ended.push(row.request);
        }
    }

    /// Ends what a request still has of sockets, and gives their ids.
    pub(crate) fn end_sockets_of(&mut self, id: RequestId, why: Option<Failure>) -> Vec<SocketId> {
        if self.requests.get(&id).is_none_or(|request| request.sockets == 0) {
            return Vec::new();
        }
        let mut theirs: Vec<_> =
            self.sockets.iter().filter(|(_, row)| row.request == id).map(|(socket, _)| *socket).collect();
        theirs.sort_unstable();
        for socket in &theirs {
            self.end_socket(*socket, why);
        }
        theirs
    }

    /// Ends all sockets: the isolate is condemned.
    #[cold]
    pub(crate) fn end_sockets(&mut self) {
        let mut all: Vec<_> = self.sockets.keys().copied().collect();
        all.sort_unstable();
        for socket in all {
            let row = self.sockets.get(&socket);
            let why = row.and_then(|row| self.requests.get(&row.request)).and_then(|request| request.failure);
            self.end_socket(socket, Some(why.unwrap_or(Failure::Condemned)));
        }
    }

    fn end_socket(&mut self, socket: SocketId, why: Option<Failure>) {
        if let Some(row) = self.sockets.get(&socket)
            && !row.closed
        {
            let code = if why.is_some() { INTERNAL } else { GOING_AWAY };
            self.effects.push_back(Effect::SocketClose { socket, code: Some(code), reason: String::new(), why });
        }
        if let (Some(why), Some(row)) = (why, self.sockets.get(&socket))
            && let Some(request) = self.requests.get_mut(&row.request)
        {
            request.failure.get_or_insert(why);
        }
        self.forget_socket(socket);
    }
}

impl Worker {
    /// A message: its turn has the CPU time of a request.
    pub(crate) fn socket_message(&mut self, socket: SocketId, message: SocketMessage) {
        let state = self.isolate.state_mut();
        let Some(row) = state.sockets.get(&socket).filter(|row| !row.closed && !row.ended) else { return };
        let id = row.request;
        if let Some(request) = state.requests.get_mut(&id) {
            request.renew();
        }
        self.turn(Some(id), |scope, entry| {
            let data = match &message {
                SocketMessage::Text(text) => scope.string_from_utf8(text),
                SocketMessage::Binary(_) => None,
            };
            let data = match (data, message) {
                (None, SocketMessage::Binary(bytes)) => scope.array_buffer(Vec::from(bytes)),
                (data, _) => data,
            };
            // A message that does not fit the memory is lost, and the program is told that one was.
            let data = data.unwrap_or_else(|| scope.null());
            let args = [scope.id(socket.0), data];
            let function = scope.open(&entry.socket_message);
            scope.call(function, &args)
        });
        let state = self.isolate.state_mut();
        if state.sockets.get(&socket).is_some_and(|row| !row.closed) {
            let cpu_ns = state.requests.get_mut(&id).map_or(0, |request| request.take_cpu_ns());
            state.effects.push_back(Effect::SocketPull { socket, cpu_ns });
        }
    }

    /// The peer's close frame has come, or the connection is gone.
    pub(crate) fn socket_closed(&mut self, socket: SocketId, code: Option<u16>, reason: String, end: SocketEnd) {
        let state = self.isolate.state_mut();
        let Some(row) = state.sockets.get_mut(&socket) else { return };
        let id = row.request;
        if row.ended {
            // It was left half open, and is gone now.
            state.forget_socket(socket);
            return self.forget(id, &[], &[], &[socket]);
        }
        row.ended = true;
        let answered = row.closed;
        let stays = end == SocketEnd::Closed && row.half_open && !answered;
        if end == SocketEnd::Closed && !row.half_open && !answered {
            row.closed = true;
            // The same code goes back (RFC 6455 §5.5.1).
            state.effects.push_back(Effect::SocketClose { socket, code, reason: String::new(), why: None });
        }
        if let Some(request) = state.requests.get_mut(&id) {
            request.renew();
        }
        self.turn(Some(id), |scope, entry| {
            let (clean, failure) = match &end {
                SocketEnd::Closed => (true, scope.undefined()),
                SocketEnd::Lost => (false, scope.undefined()),
                SocketEnd::Failed(text) => (false, scope.string(text)),
            };
            let code = code.unwrap_or(if clean { 1005 } else { 1006 });
            let args = [
                scope.id(socket.0),
                scope.integer(i32::from(code)),
                scope.string(&reason),
                scope.boolean(clean),
                failure,
            ];
            let function = scope.open(&entry.socket_closed);
            scope.call(function, &args)
        });
        if !stays {
            self.isolate.state_mut().forget_socket(socket);
        }
    }
}

/// What `js/websocket.js` alone needs.
pub(crate) fn register(ops: &mut OpTable) {
    ops.add("socketAccept", socket_accept);
    ops.add("socketSend", socket_send);
    ops.add("socketClose", socket_close);
}

fn socket_id(args: &Args<'_>) -> Result<SocketId, OpError> {
    args.id(0).map(SocketId)
}

/// `socketAccept(sid, halfOpen)`: messages are wanted from here on.
fn socket_accept<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> OpResult<'s> {
    let (socket, half_open) = (socket_id(args)?, args.flag(1));
    let state = cx.state::<State>();
    if let Some(row) = state.sockets.get_mut(&socket).filter(|row| !row.accepted) {
        row.accepted = true;
        row.half_open = half_open;
        state.effects.push_back(Effect::SocketPull { socket, cpu_ns: 0 });
    }
    Ok(cx.undefined())
}

/// `socketSend(sid, data)`: text or bytes. What comes after the close is dropped.
fn socket_send<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> OpResult<'s> {
    let socket = socket_id(args)?;
    let data = args.get(1);
    if cx.state::<State>().sockets.get(&socket).is_none_or(|row| row.closed) {
        return Ok(cx.undefined());
    }
    let text = data.is_string();
    let bytes = full_body(cx, data)?;
    if bytes.len() > WEBSOCKET_MESSAGE_BYTES_MAX {
        return Err(too_large());
    }
    let message = if text { SocketMessage::Text(bytes) } else { SocketMessage::Binary(bytes) };
    cx.state::<State>().effects.push_back(Effect::SocketSend { socket, message });
    Ok(cx.undefined())
}

fn too_large() -> OpError {
    OpError::range_error(format!("a message is larger than {WEBSOCKET_MESSAGE_BYTES_MAX} bytes"))
}

/// `socketClose(sid, code, reason)`: the code -1 is none.
fn socket_close<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> OpResult<'s> {
    let socket = socket_id(args)?;
    let code = u16::try_from(args.number(1)? as i64).ok();
    let reason = args.string(cx, 2)?;
    let state = cx.state::<State>();
    if let Some(row) = state.sockets.get_mut(&socket).filter(|row| !row.closed) {
        row.closed = true;
        let over = row.ended;
        state.effects.push_back(Effect::SocketClose { socket, code, reason, why: None });
        if over {
            state.forget_socket(socket);
        }
    }
    Ok(cx.undefined())
}

/// A response that is a WebSocket: its other end is in JavaScript (a new socket, whose id comes back), or it is one that came of an
/// outbound request. `false` where the request cannot be answered so.
pub(crate) fn respond_socket<'s>(
    cx: &mut Scope<'s, '_>,
    id: RequestId,
    headers: base::header::HeaderBlock,
    existing: u64,
) -> Value<'s> {
    let state = cx.state::<State>();
    let asked = |head: &crate::event::RequestHead| {
        head.headers.iter().any(|(name, value)| {
            let members = || value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
            name.eq_ignore_ascii_case(b"upgrade") && members().any(|it| it.eq_ignore_ascii_case(b"websocket"))
        })
    };
    if !state.requests.get(&id).is_some_and(|request| asked(&request.head)) {
        return refuse(cx, id, "a WebSocket was returned for a request without \"Upgrade: websocket\"");
    }
    let socket = if existing == 0 { SocketId(state.next_fetch().0) } else { SocketId(existing) };
    let possible = if existing == 0 { state.add_socket(socket, id, true) } else { state.give_socket(socket) };
    if !possible {
        return refuse(cx, id, "the WebSocket that was returned is closed, or was accepted");
    }
    state.answered_by_socket(id, headers, socket);
    cx.id(socket.0)
}

#[cold]
fn refuse<'s>(cx: &mut Scope<'s, '_>, id: RequestId, text: &str) -> Value<'s> {
    let state = cx.state::<State>();
    state.log(Some(id), crate::event::LogLevel::Error, format!("Uncaught TypeError: {text}"));
    state.fail(id, Failure::Exception);
    cx.boolean(false)
}
