//! What a shard and a Worker say to each other: events in, effects out.
//!
//! A [`Worker`](crate::Worker) does no input or output and reads no clock. The shard calls
//! `handle(now, event)`, then takes effects with `poll_effect()` until there is none, and calls again at
//! `poll_timeout()`. Everything here is plain data: no handle of the JavaScript engine, no future, no socket.
//!
//! Grammar, per request id, in the order the Worker gives them:
//! `Respond (ResponseBody(Chunk)* ResponseBody(End | Failed))? Finished`, or `Fail Finished`, or
//! `Respond ResponseBody(Chunk)* Fail Finished` (a limit hit while streaming), or `PassThrough Finished`. `ResponseBody`
//! follows only a `Respond` whose body is `Stream`; one whose body is `Passed` is followed by the event `ResponsePassed`. `Finished` is last: the reply is complete and every `waitUntil` has settled.
//! An [`Invocation`] is a request too; one that has no reply, `Scheduled`, gives `Finished`, and `Fail` before it where it fails. What
//! another Worker called may give `Threw` before its `Fail`.
//!
//! WebSockets: `SocketPull` is answered by one `SocketMessage`; `SocketClosed` comes unasked, once, and last. A request that was answered by a
//! WebSocket is finished when that is closed, or later.
//!
//! Back-pressure: a consumer asks for each chunk. The Worker sends `PullRequestBody` for one `RequestBody` event and
//! `PullFetchBody` for one `FetchBody` event; the shard sends `PullResponse` for one `ResponseBody` effect and
//! `PullFetchUpload` for one `FetchUpload` effect. `End` and `Failed` count as the answer to a pull and may also come
//! unasked.

use base::header::HeaderBlock;
use bytes::Bytes;
use std::sync::Arc;

/// Monotonic nanoseconds, from the shard's clock.
pub type MonotonicNs = u64;

/// What time an event happens at. The Worker's clocks stand still at these values while it computes.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Monotonic nanoseconds; timers and limits count by it.
    pub monotonic_ns: MonotonicNs,
    /// Milliseconds since the Unix epoch: `Date.now()`.
    pub unix_ms: u64,
}

/// A request in a Worker; chosen by the shard, never used twice in one Worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub u64);

/// An outbound request; chosen by the Worker, never used twice in one Worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FetchId(pub u64);

/// A WebSocket of a Worker; chosen by the Worker, never used twice in one Worker. One that an outbound request opened has its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SocketId(pub u64);

/// A message of a WebSocket, in either direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SocketMessage {
    /// UTF-8, checked.
    Text(Bytes),
    /// Bytes.
    Binary(Bytes),
}

/// How a WebSocket ended for the Worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SocketEnd {
    /// By the peer's close frame, unasked for or in answer to ours.
    Closed,
    /// Without one: the connection is gone.
    Lost,
    /// By a breach of the protocol or a limit; the text says which.
    Failed(String),
}

/// A request as it came in.
#[derive(Clone, Debug)]
pub struct RequestHead {
    /// Method, an HTTP token (RFC 9110 §9).
    pub method: String,
    /// Absolute URL: scheme, host of the `Host` field, target.
    pub url: String,
    /// Fields as received.
    pub headers: HeaderBlock,
    /// Whether the message has a body, and how it comes.
    pub body: IncomingBody,
}

impl RequestHead {
    /// Whether a request of this method may be carried out twice (RFC 9110 §9.2.1).
    pub fn is_safe(&self) -> bool {
        matches!(self.method.as_str(), "GET" | "HEAD" | "OPTIONS")
    }
}

/// The body of a message that comes to the Worker.
#[derive(Clone, Debug)]
pub enum IncomingBody {
    /// None: `request.body` is null.
    Empty,
    /// All of it, already here.
    Full(Bytes),
    /// Chunks follow, one for each pull.
    Stream,
    /// The protocol was switched: the response is a WebSocket, whose id is the outbound request's.
    Socket,
}

/// A step of a body that is streamed, in either direction.
#[derive(Clone, Debug)]
pub enum BodyEvent {
    /// More bytes, never none.
    Chunk(Bytes),
    /// The body is complete.
    End,
    /// The body ends early; the text says why, for the log, never for a client.
    Failed(String),
}

/// A body that came to the Worker and that it passes on unread: the shard moves it from socket to socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodySource {
    /// The body of a request.
    Request(RequestId),
    /// The body of an outbound request's response.
    Fetch(FetchId),
}

/// How a body that the shard moves ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Passed {
    /// It is complete.
    Whole,
    /// It ended early; the text says why.
    Broken(String),
    /// A response of more bytes than it may have.
    TooLarge,
}

/// Whom a call is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Callee {
    /// What a service binding names, by its place in `WorkerSpec::services`.
    Service(u32),
    /// The Worker that calls, as a request of its own: `ctx.exports`.
    Own {
        /// Name of an export; empty for the default one.
        entrypoint: String,
        /// `ctx.props`, as JSON; empty for none.
        props: String,
    },
}

/// How a Worker is called besides by a client's request.
#[derive(Clone, Debug)]
pub enum Invocation {
    /// Its `scheduled` handler.
    Scheduled {
        /// The schedule that is due, as its owner wrote it.
        cron: String,
        /// The time that it was due at, milliseconds since the Unix epoch.
        unix_ms: u64,
    },
    /// The `fetch` of one of its entrypoints, by another Worker.
    Fetch {
        /// Name of an export; empty for the default one.
        entrypoint: String,
        /// `ctx.props`, as JSON; empty for none.
        props: String,
        /// The request.
        head: Arc<RequestHead>,
    },
    /// Calls of methods of one of its entrypoints, by another Worker: messages, a chunk each, that come as the request's body and go as
    /// the response's. What they say is JavaScript's, see `js/rpc.js`.
    Rpc {
        /// Name of an export; empty for the default one.
        entrypoint: String,
        /// `ctx.props`, as JSON; empty for none.
        props: String,
        /// A request with a body that is a stream.
        head: Arc<RequestHead>,
    },
}

/// How far a collection of an idle Worker's garbage is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Collecting {
    /// There is more to do, with further events.
    More,
    /// All is collected.
    Done,
    /// Nothing is done: a request is open, the heap is too large, or the Worker is condemned.
    Declined,
}

/// Shard to Worker.
#[derive(Debug)]
pub enum Event {
    /// A new request.
    Request {
        /// Its id.
        id: RequestId,
        /// What came. Shared: the shard may have to send it elsewhere.
        head: Arc<RequestHead>,
    },
    /// The Worker is called, and not by a client.
    Invoke {
        /// A new request's id.
        id: RequestId,
        /// How.
        invocation: Invocation,
    },
    /// Answer to `PullRequestBody`.
    RequestBody {
        /// Of which request.
        id: RequestId,
        /// The step.
        body: BodyEvent,
    },
    /// The peer has room for one more chunk of the response.
    PullResponse {
        /// Of which request.
        id: RequestId,
    },
    /// The client has gone before the response was complete: `request.signal` aborts, the response body is
    /// cancelled, `waitUntil` work goes on.
    ClientGone {
        /// Of which request.
        id: RequestId,
    },
    /// The head of an outbound response.
    FetchResponse {
        /// Of which outbound request.
        fetch: FetchId,
        /// Status code, 200 to 599; 101 with a WebSocket.
        status: u16,
        /// Reason phrase as received.
        reason: String,
        /// Fields as received.
        headers: HeaderBlock,
        /// Its body.
        body: IncomingBody,
    },
    /// An outbound request failed before its response's head; the promise rejects with a `TypeError` of this text.
    FetchFailed {
        /// Of which outbound request.
        fetch: FetchId,
        /// Why, shown to the tenant.
        message: String,
    },
    /// The Worker that `Call` was for threw; the promise, or the body, rejects with an error of this name and message.
    CallThrew {
        /// Of which outbound request.
        fetch: FetchId,
        /// The error's name.
        name: String,
        /// The error's message.
        message: String,
    },
    /// Answer to `PullFetchBody`.
    FetchBody {
        /// Of which outbound request.
        fetch: FetchId,
        /// The step.
        body: BodyEvent,
    },
    /// The origin has room for one more chunk of an outbound request's body.
    PullFetchUpload {
        /// Of which outbound request.
        fetch: FetchId,
    },
    /// The response's body, passed on, is over. Not told where the client has gone.
    ResponsePassed {
        /// Of which request.
        id: RequestId,
        /// How it ended.
        end: Passed,
    },
    /// The body of an outbound request, passed on, is over.
    UploadPassed {
        /// Of which outbound request.
        fetch: FetchId,
        /// How it ended.
        end: Passed,
    },
    /// Answer to `SocketPull`.
    SocketMessage {
        /// Of which WebSocket.
        socket: SocketId,
        /// The message.
        message: SocketMessage,
    },
    /// The last event of a WebSocket; a second one tells of a connection that is gone after the program left it half open.
    SocketClosed {
        /// Which WebSocket.
        socket: SocketId,
        /// The peer's status code, if it gave one.
        code: Option<u16>,
        /// The peer's reason.
        reason: String,
        /// How it ended.
        end: SocketEnd,
    },
    /// `poll_timeout()` is reached.
    Timeout,
    /// Nobody needs the Worker now: it is to do a little, about a millisecond, of a collection that gives back what memory it does
    /// not use. Answered with [`Effect::Collected`].
    Collect,
}

/// The body of a message that leaves the Worker.
#[derive(Clone, Debug)]
pub enum OutgoingBody {
    /// None: a null body.
    Empty,
    /// All of it.
    Full(Bytes),
    /// Chunks follow, one for each pull. `length` is set where the Worker promised one (`FixedLengthStream`, or the
    /// pass-through of a body with a known length).
    Stream {
        /// Bytes in all, if known.
        length: Option<u64>,
    },
    /// The shard moves it: no pulls, no chunks. `ResponsePassed` or `UploadPassed` tells its end. Nothing of it was pulled.
    Passed {
        /// From where.
        from: BodySource,
        /// Bytes in all, where the Worker promised so many; the shard sees to it.
        length: Option<u64>,
        /// The most that it may have.
        bytes_max: u64,
    },
    /// None: the protocol is switched, status 101. The WebSocket is a new one, which the Worker will pull from; or one that an outbound
    /// request opened and that was never pulled from: the shard joins the two, and no event of it comes any more.
    Socket(SocketId),
}

/// Why a request ended without a response of the Worker's own. Also the metric's label, through [`Failure::label`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Failure {
    /// An uncaught exception or rejection: 500.
    Exception,
    /// The handler's promise can never settle (nothing is pending for it any more): 500.
    Hung,
    /// The handler gave something that is no `Response`: 500.
    NotAResponse,
    /// CPU time: 503.
    CpuLimit,
    /// Heap or array buffers: 503.
    MemoryLimit,
    /// Time until the response's head, or its end: 503.
    WallLimit,
    /// Bytes of the response: 503.
    ResponseLimit,
    /// The isolate was condemned by another request's doing, before the handler began: 503, unless it is tried again.
    NotBegun,
    /// The isolate was condemned by another request's doing, while nothing of this one had left it and its body was
    /// unread: 503, unless the method allows it to be tried again.
    Interrupted,
    /// The isolate was condemned by another request's doing: 503.
    Condemned,
    /// Too many requests in the isolate: 503.
    Overloaded,
}

impl Failure {
    /// Status of the reply when none has been sent yet.
    pub fn status(self) -> u16 {
        match self {
            Failure::Exception | Failure::Hung | Failure::NotAResponse => 500,
            Failure::CpuLimit
            | Failure::MemoryLimit
            | Failure::WallLimit
            | Failure::ResponseLimit
            | Failure::NotBegun
            | Failure::Interrupted
            | Failure::Condemned
            | Failure::Overloaded => 503,
        }
    }

    /// Label in metrics and logs.
    pub fn label(self) -> &'static str {
        match self {
            Failure::Exception => "exception",
            Failure::Hung => "hung",
            Failure::NotAResponse => "not_a_response",
            Failure::CpuLimit => "cpu_limit",
            Failure::MemoryLimit => "memory_limit",
            Failure::WallLimit => "wall_limit",
            Failure::ResponseLimit => "response_limit",
            Failure::NotBegun | Failure::Interrupted | Failure::Condemned => "condemned",
            Failure::Overloaded => "overloaded",
        }
    }
}

/// A limit that ends nothing by itself: what is past it fails, waits or is dropped. Told once for each request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Held {
    /// An outbound request too many: its `fetch` rejects.
    Subrequests,
    /// An outbound request waits until another one has its response's head.
    Connections,
    /// Log text is dropped.
    Log,
}

impl Held {
    /// Label in metrics.
    pub fn label(self) -> &'static str {
        match self {
            Held::Subrequests => "subrequests",
            Held::Connections => "connections",
            Held::Log => "log",
        }
    }
}

/// Severity of a log record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// `console.debug`.
    Debug,
    /// `console.log`, `console.info`.
    Info,
    /// `console.warn`.
    Warn,
    /// `console.error`, and uncaught exceptions.
    Error,
}

/// One record of a Worker's log stream.
#[derive(Clone, Debug)]
pub struct LogRecord {
    /// The request it belongs to; none at start-up.
    pub request: Option<RequestId>,
    /// Severity.
    pub level: LogLevel,
    /// Text, at most `limits::LOG_BYTES_MAX` bytes. With an exception: message and stack.
    pub text: String,
}

/// Worker to shard.
#[derive(Debug)]
pub enum Effect {
    /// The head of the response, and its body if it is all here.
    Respond {
        /// To which request.
        id: RequestId,
        /// Status code, 200 to 599; 101 with a WebSocket.
        status: u16,
        /// Fields as the Worker set them; framing fields (`content-length`, `transfer-encoding`, `connection`) are the
        /// shard's and are ignored here, except that `content-length` of a response to HEAD is kept.
        headers: HeaderBlock,
        /// The body.
        body: OutgoingBody,
    },
    /// Answer to `PullResponse`.
    ResponseBody {
        /// Of which request.
        id: RequestId,
        /// The step. `Failed` must reach the peer as a broken message, never as a complete one.
        body: BodyEvent,
    },
    /// The Worker reads its request's body: one chunk is wanted.
    PullRequestBody {
        /// Of which request.
        id: RequestId,
    },
    /// The Worker does not want the rest of its request's body.
    CancelRequestBody {
        /// Of which request.
        id: RequestId,
    },
    /// Start an outbound request. Answered by `FetchResponse` or `FetchFailed`.
    Fetch {
        /// Its id.
        fetch: FetchId,
        /// For which request; none from a timer with no request.
        request: Option<RequestId>,
        /// Method, an HTTP token.
        method: String,
        /// Absolute `http:` or `https:` URL without fragment.
        url: String,
        /// Fields; framing fields and `host` are the shard's.
        headers: HeaderBlock,
        /// The body.
        body: OutgoingBody,
    },
    /// Call another Worker. Answered like `Fetch`, and by `CallThrew`.
    Call {
        /// Its id.
        fetch: FetchId,
        /// For which request.
        request: RequestId,
        /// Which.
        service: Callee,
        /// Whether it is a session of calls of methods, [`Invocation::Rpc`], and not a request.
        rpc: bool,
        /// The request.
        head: RequestHead,
        /// The body, in the head's place.
        body: OutgoingBody,
    },
    /// Answer to `PullFetchUpload`.
    FetchUpload {
        /// Of which outbound request.
        fetch: FetchId,
        /// The step.
        body: BodyEvent,
    },
    /// The Worker reads an outbound response's body: one chunk is wanted.
    PullFetchBody {
        /// Of which outbound request.
        fetch: FetchId,
    },
    /// The Worker has lost interest (abort, cancel, or its request ended): drop it. No more events for it.
    CancelFetch {
        /// Which outbound request.
        fetch: FetchId,
    },
    /// The handler that another Worker called threw this. `Fail` follows.
    Threw {
        /// Which request.
        id: RequestId,
        /// The error's name.
        name: String,
        /// The error's message.
        message: String,
    },
    /// The Worker has taken the message before, if there was one, and wants the next.
    SocketPull {
        /// Of which WebSocket.
        socket: SocketId,
        /// CPU time that its request used since this was last told, ns.
        cpu_ns: u64,
    },
    /// A message to send, behind those before it.
    SocketSend {
        /// On which WebSocket.
        socket: SocketId,
        /// The message.
        message: SocketMessage,
    },
    /// A close frame to send, behind the messages before it; nothing follows it.
    SocketClose {
        /// Of which WebSocket.
        socket: SocketId,
        /// Status code; none: an empty close frame.
        code: Option<u16>,
        /// Reason.
        reason: String,
        /// Why, where it was not the program that closed it.
        why: Option<Failure>,
    },
    /// The request ends without (the rest of) a response.
    Fail {
        /// Which request.
        id: RequestId,
        /// Why.
        why: Failure,
    },
    /// The request ends without a response, and its handler has asked that the origin answer in its place
    /// (`passThroughOnException`). Nothing of the request's body was read.
    PassThrough {
        /// Which request.
        id: RequestId,
        /// Why.
        why: Failure,
    },
    /// A request has met a limit that does not end it.
    Held(Held),
    /// As much of a collection was done as [`Event::Collect`] asks for.
    Collected(Collecting),
    /// A log record.
    Log(LogRecord),
    /// The request is over, `waitUntil` included.
    Finished {
        /// Which request.
        id: RequestId,
        /// CPU time it used, ns, besides what `SocketPull` has told.
        cpu_ns: u64,
        /// How it ended; none when all went well.
        failure: Option<Failure>,
    },
}
