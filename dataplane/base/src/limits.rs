//! Every limit of the data plane with its arithmetic, and the relations between limits as constant asserts.
//! Where a number comes from a seed or an RFC, its line says so.

/// Bytes in a KiB.
pub const KIB: usize = 1024;
/// Bytes in a MiB.
pub const MIB: usize = 1024 * KIB;
/// Nanoseconds in a millisecond.
pub const MS_NS: u64 = 1_000_000;
/// Nanoseconds in a second.
pub const S_NS: u64 = 1_000 * MS_NS;

// HTTP/1.1, on the shard.

/// Request line and all header fields together, bytes; more is answered 431.
pub const HEAD_BYTES_MAX: usize = 32 * KIB;
/// Header fields of one message; more is answered 431.
pub const HEADERS_MAX: usize = 128;
/// The request target alone, bytes; more is answered 414.
pub const TARGET_BYTES_MAX: usize = 16 * KIB;
/// A request body, bytes; more is answered 413. Workers on Cloudflare's free and pro plans have the same.
pub const BODY_BYTES_MAX: u64 = 100 * MIB as u64;
/// One line of a chunked body (size, extensions) and one trailer section, bytes.
pub const CHUNK_LINE_BYTES_MAX: usize = 4 * KIB;
/// What a connection reads ahead of its consumer, bytes: the back-pressure window of a body.
pub const BODY_WINDOW_BYTES: usize = 64 * KIB;
/// First byte of a request to the end of its head.
pub const HEAD_TIMEOUT_NS: u64 = 15 * S_NS;
/// A kept-alive connection without a request.
pub const IDLE_TIMEOUT_NS: u64 = 75 * S_NS;
/// A read of a body, or a write, that makes no progress.
pub const STALL_TIMEOUT_NS: u64 = 30 * S_NS;
/// SIGTERM to the last connection's end.
pub const DRAIN_TIMEOUT_NS: u64 = 30 * S_NS;
/// Open connections of one shard; the next is closed at accept.
pub const CONNECTIONS_PER_SHARD_MAX: usize = 16_384;

// Workers.

/// An uploaded module, bytes (issue: "over 10 MB" is `Invalid`).
pub const MODULE_BYTES_MAX: usize = 10 * MIB;
/// V8's compiled code of one module, bytes: every function of a bundle of 100 KB takes 1.4 times its size. A module that
/// needs more has no code cache and is compiled at each start.
pub const CODE_CACHE_BYTES_MAX: usize = 16 * MIB;
/// CPU time of one request, ns (seed 000, `create_isolate`).
pub const CPU_PER_REQUEST_NS: u64 = 50 * MS_NS;
/// The same in milliseconds, as snapshots and plans have it.
pub const CPU_PER_REQUEST_MS: u32 = (CPU_PER_REQUEST_NS / MS_NS) as u32;
/// The most that a plan may give, ns: the most of Cloudflare's plans by default.
pub const CPU_PER_REQUEST_MAX_NS: u64 = 30 * S_NS;
/// A tenant's share of a saturated core in relation to its neighbours', unless its plan says otherwise.
pub const WEIGHT: u16 = 100;
/// The most that a plan may give.
pub const WEIGHT_MAX: u16 = 1_000;
/// CPU time of a module's top level, ns (Cloudflare Workers' limit of startup time).
pub const CPU_STARTUP_NS: u64 = 400 * MS_NS;
/// A request's head to the head of its response, ns: Cloudflare's proxy gives an origin 120 s (its error 524).
pub const WALL_HEAD_NS: u64 = 120 * S_NS;
/// A request's head to the end of its response, ns: what Cloudflare gives its longest invocations (cron, queues, alarms).
pub const WALL_NS: u64 = 900 * S_NS;
/// A response's body, bytes: the largest file that Cloudflare's CDN takes on all plans but the largest.
pub const RESPONSE_BYTES_MAX: u64 = 512 * MIB as u64;
/// JavaScript heap and array buffers of one isolate, bytes (seed 000, `create_isolate`).
pub const ISOLATE_HEAP_BYTES_MAX: usize = 128 * MIB;
/// Requests in one isolate at a time; more are shed with 503.
pub const REQUESTS_PER_ISOLATE_MAX: usize = 4_096;
/// Outbound requests of one request: what Cloudflare's plans with [`CPU_PER_REQUEST_NS`] have (Bundled).
pub const SUBREQUESTS_MAX: u32 = 50;
/// The same for a deployment whose plan has more CPU time (Cloudflare's Standard).
pub const SUBREQUESTS_LARGE_MAX: u32 = 1_000;
/// Requests that one request may set going by calling other Workers, itself among them (Workers: 32).
pub const INVOCATIONS_MAX: u32 = 32;
/// Outbound requests of one request that wait for the head of their response at a time; the next ones queue (Workers' six
/// simultaneous connections).
pub const CONNECTIONS_PER_REQUEST_MAX: u32 = 6;
/// `waitUntil` after the reply's end, ns (design §5).
pub const WAIT_UNTIL_NS: u64 = 30 * S_NS;
/// Timers armed in one isolate at a time.
pub const TIMERS_MAX: usize = 10_000;
/// A log record's text, bytes; longer is cut.
pub const LOG_BYTES_MAX: usize = 16 * KIB;
/// Log records of one request, bytes; the rest is dropped, and one record says so (Workers: 256 KB an invocation).
pub const LOG_BYTES_PER_REQUEST_MAX: usize = 256 * KIB;

// WebSockets.

/// A message that comes, bytes; more closes with 1009. Cloudflare's Workers take 32 MiB since October 2025.
pub const WEBSOCKET_MESSAGE_BYTES_MAX: usize = 32 * MIB;
/// What waits to be sent on one WebSocket, bytes, before a further message closes it with 1013: the largest message fits.
pub const WEBSOCKET_SEND_BYTES_MAX: usize = WEBSOCKET_MESSAGE_BYTES_MAX + MIB;
/// A WebSocket from which nothing comes for so long is asked by a ping, ns: under what the usual address translators and load
/// balancers forget a connection after (60 s).
pub const WEBSOCKET_PING_NS: u64 = 45 * S_NS;
/// From that ping, or from this end's close frame, to the peer's answer, ns.
pub const WEBSOCKET_ANSWER_NS: u64 = 15 * S_NS;

// Configuration.

/// A snapshot, bytes (seed 001: 10 M routes in about 500 MB).
pub const SNAPSHOT_BYTES_MAX: usize = 768 * MIB;
/// One frame of the push protocol, bytes; larger payloads are sent in parts.
pub const FRAME_BYTES_MAX: usize = 4 * MIB;
/// A route pattern, bytes (seed 000, `routes.pattern VARCHAR(500)`).
pub const PATTERN_BYTES_MAX: usize = 500;
/// A deployment's subdomain, bytes: one DNS label (RFC 1035 §2.3.4).
pub const SUBDOMAIN_BYTES_MAX: usize = 63;

const _: () = assert!(TARGET_BYTES_MAX < HEAD_BYTES_MAX, "a target that is too long must be seen before the head is");
const _: () = assert!(BODY_WINDOW_BYTES >= CHUNK_LINE_BYTES_MAX);
const _: () = assert!(CODE_CACHE_BYTES_MAX > MODULE_BYTES_MAX, "code is larger than its source");
const _: () = assert!(CPU_PER_REQUEST_NS < CPU_STARTUP_NS, "a start may do more than a request");
const _: () = assert!(CPU_PER_REQUEST_MAX_NS < WALL_HEAD_NS, "what computes for as long as it may can still answer");
const _: () = assert!(WEIGHT >= 1 && WEIGHT <= WEIGHT_MAX);
const _: () = assert!(CPU_PER_REQUEST_NS < WALL_HEAD_NS && WALL_HEAD_NS < WALL_NS);
const _: () = assert!(STALL_TIMEOUT_NS < WALL_HEAD_NS, "a stalled upload is told of as one");
const _: () = assert!(SUBREQUESTS_MAX < SUBREQUESTS_LARGE_MAX && CONNECTIONS_PER_REQUEST_MAX < SUBREQUESTS_MAX);
const _: () = assert!(LOG_BYTES_MAX <= LOG_BYTES_PER_REQUEST_MAX);
const _: () = assert!(WAIT_UNTIL_NS <= DRAIN_TIMEOUT_NS, "a drain must let waitUntil end");
const _: () = assert!(FRAME_BYTES_MAX <= SNAPSHOT_BYTES_MAX);
const _: () = assert!(WEBSOCKET_MESSAGE_BYTES_MAX < WEBSOCKET_SEND_BYTES_MAX, "what was received can be sent back");
const _: () = assert!(2 * WEBSOCKET_SEND_BYTES_MAX < ISOLATE_HEAP_BYTES_MAX, "one message out and in, and its text");
const _: () = assert!(WEBSOCKET_ANSWER_NS < DRAIN_TIMEOUT_NS, "a drain lets closing handshakes end");
