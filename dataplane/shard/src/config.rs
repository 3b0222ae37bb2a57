//! What an operator or a test may set, with the limits of [`base::limits`] as defaults, and the shard's own bounds.

use base::limits;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;
use worker_api::RequestLimits;

/// Workers in one shard; the least recently used idle one makes room for the next.
pub const WORKERS_PER_SHARD_MAX: usize = 1_024;
/// A Worker without a request for so long is dropped, ns (seed 000, `evict_idle`).
pub const WORKER_IDLE_NS: u64 = 300 * limits::S_NS;
/// A Worker without a request for so long counts as idle, ns.
pub const IDLE_NS: u64 = 10 * limits::S_NS;
/// Isolates of one Worker on a shard.
pub const ISOLATES_PER_WORKER_MAX: usize = 4;
/// Events that wait for an isolate which computes before another is added.
pub const BACKLOG_MAX: usize = 16;
/// An isolate that was added under load is dropped after so long without a request, ns.
pub const EXTRA_IDLE_NS: u64 = 30 * limits::S_NS;
/// Workers that are started ahead of their requests in one tick.
pub const PREWARM_PER_TICK: usize = 2;
/// Idle Workers that a shard evicts at one time for want of memory: each takes about a millisecond.
pub const EVICTIONS_AT_ONCE_MAX: usize = 8;
/// What an isolate that starts is taken to need until it has started, bytes: five times what a small one does.
pub const START_BYTES: u64 = 8 * limits::MIB as u64;
/// Running isolates are told to collect garbage at most so often while memory is scarce, ns.
pub const COLLECT_GAP_NS: u64 = limits::S_NS;
/// First wait after a Worker failed to start, ns; doubled with each failure.
pub const START_BACKOFF_NS: u64 = limits::S_NS;
/// Longest wait after failures to start, ns.
pub const START_BACKOFF_MAX_NS: u64 = 60 * limits::S_NS;
/// Requests to a Worker that are closer together than this are one visit, ns.
pub const VISIT_NS: u64 = 30 * limits::S_NS;
/// How long before an expected visit a Worker is started, ns.
pub const EARLY_NS: u64 = 2 * limits::S_NS;
/// How long after its last visit a Worker is remembered that is not up, ns: one that comes every hour can be expected.
pub const REMEMBER_NS: u64 = 7_200 * limits::S_NS;
/// Ticks between two sweeps of Workers and idle outbound connections.
pub const SWEEP_TICKS: u64 = 20;
/// How long a request waits for code that is on its way to the node.
pub const CODE_WAIT: Duration = Duration::from_secs(5);
/// Period of a shard's ticker: the resolution of connection time limits and the delay of a drain.
pub const TICK: Duration = Duration::from_millis(50);
/// Bytes that one read takes from a socket at most: the body window.
pub const READ_BYTES_MAX: usize = limits::BODY_WINDOW_BYTES;
/// Bytes read ahead of the request that is being answered; past it the socket is left alone.
pub const READ_AHEAD_BYTES_MAX: usize = 16 * limits::KIB;
/// Unsent response bytes past which no more of the response is asked of the Worker, and no pipelined request is begun.
pub const WRITE_BEHIND_BYTES: usize = limits::BODY_WINDOW_BYTES;
/// A body up to this size is copied behind its head and sent with it; a larger one is sent from where it is.
pub const BODY_COPY_BYTES_MAX: usize = 16 * limits::KIB;
/// Buffers of a waiting connection that are larger are given back.
pub const BUFFER_KEEP_BYTES: usize = 4 * limits::KIB;
/// Rest of a request body that is read and dropped to keep a connection, bytes; a longer rest costs the connection.
pub const DISCARD_BYTES_MAX: u64 = 256 * limits::KIB as u64;
/// How long a closing connection reads on, so that the peer sees the answer and not a reset.
pub const LINGER_NS: u64 = 2 * limits::S_NS;
/// Buffer of a body that goes from socket to socket, bytes: at first, and once it shows that it is large.
pub const LINK_BUFFER_BYTES_MIN: usize = 16 * limits::KIB;
/// See [`LINK_BUFFER_BYTES_MIN`].
pub const LINK_BUFFER_BYTES_MAX: usize = 128 * limits::KIB;
/// Such buffers that are full and wait to be sent, for one body.
pub const LINK_BUFFERS_MAX: usize = 2;
/// Idle outbound connections to one origin.
pub const POOL_IDLE_PER_ORIGIN_MAX: usize = 32;
/// Idle outbound connections of a shard.
pub const POOL_IDLE_MAX: usize = 512;
/// An idle outbound connection is closed after so long, ns.
pub const POOL_IDLE_NS: u64 = 60 * limits::S_NS;
/// Name to address, TCP and TLS: from the start of an outbound request to a connection, ns.
pub const CONNECT_TIMEOUT_NS: u64 = 10 * limits::S_NS;
/// Start of an attempt to connect to one address of a name to that of the next one (RFC 8305 §5).
pub const CONNECT_STAGGER: Duration = Duration::from_millis(250);
/// Request sent to response head, outbound, ns.
pub const FETCH_HEAD_TIMEOUT_NS: u64 = 100 * limits::S_NS;
/// An idle outbound connection that its shard has not wanted for so long is for all shards, ns.
pub const SHARE_AFTER_NS: u64 = 100 * limits::MS_NS;
/// Idle outbound connections of a node that are for all shards.
pub const SHELF_MAX: usize = 1_024;
/// Requests at a time on one outbound HTTP/2 connection; past it another one is opened.
pub const H2_STREAMS_MAX: usize = 32;
/// Outbound HTTP/2 connections of a shard to one origin; past it requests wait for each other.
pub const H2_CONNECTIONS_PER_ORIGIN_MAX: usize = 4;
/// Origins that a shard has idle HTTP/2 connections to.
pub const H2_ORIGINS_MAX: usize = 256;
/// Bytes that an origin may send on a stream before somebody has taken them.
pub const H2_STREAM_WINDOW_BYTES: u32 = 512 * limits::KIB as u32;
/// The same on a whole connection.
pub const H2_CONNECTION_WINDOW_BYTES: u32 = 16 * limits::MIB as u32;
/// Largest HTTP/2 frame from an origin.
pub const H2_FRAME_BYTES_MAX: u32 = 64 * limits::KIB as u32;
/// Bytes of a request body that wait in a stream to be sent.
pub const H2_SEND_BUFFER_BYTES: usize = 128 * limits::KIB;
/// Two joined WebSockets between which nothing moves are closed after so long, ns: what is inside is not looked at, so neither end can be
/// asked.
pub const WEBSOCKET_TUNNEL_IDLE_NS: u64 = 900 * limits::S_NS;
/// The body of a response that refuses a WebSocket, bytes; the Worker gets it whole.
pub const WEBSOCKET_REFUSAL_BYTES_MAX: usize = limits::MIB;
/// Life of a resolved name, ns.
pub const DNS_TTL_NS: u64 = 10 * limits::S_NS;
/// Life of a failure to resolve a name, ns.
pub const DNS_FAILURE_TTL_NS: u64 = limits::S_NS;
/// Names of a shard that are being resolved.
pub const DNS_PENDING_MAX: usize = 256;
/// Resolved names of a shard.
pub const DNS_NAMES_MAX: usize = 1_024;
/// A connection without a request is closed after so long once a successor has the listening sockets, ns: sooner, a request might be on
/// its way already.
pub const HANDED_OVER_IDLE_NS: u64 = 10 * limits::S_NS;
/// Length of the queue of connections that wait to be accepted.
pub const LISTEN_BACKLOG: i32 = 4_096;
/// Restarts of one shard before its node gives it up.
pub const SHARD_RESTARTS_MAX: u32 = 16;

const _: () = assert!(IDLE_NS < EXTRA_IDLE_NS && EXTRA_IDLE_NS < WORKER_IDLE_NS);
const _: () = assert!(START_BACKOFF_NS < START_BACKOFF_MAX_NS && EARLY_NS < WORKER_IDLE_NS);
const _: () = assert!(VISIT_NS < REMEMBER_NS && WORKER_IDLE_NS < REMEMBER_NS);
// What is looked at once a sweep is seen early enough.
const _: () = assert!(SWEEP_TICKS as u128 * TICK.as_nanos() < EARLY_NS as u128);
const _: () = assert!(LINK_BUFFER_BYTES_MIN <= LINK_BUFFER_BYTES_MAX);
const _: () = assert!(HANDED_OVER_IDLE_NS < limits::DRAIN_TIMEOUT_NS);
const _: () = assert!(READ_AHEAD_BYTES_MAX < READ_BYTES_MAX);
const _: () = assert!(BODY_COPY_BYTES_MAX <= WRITE_BEHIND_BYTES);
const _: () = assert!(POOL_IDLE_PER_ORIGIN_MAX <= POOL_IDLE_MAX);
const _: () = assert!(SHARE_AFTER_NS < POOL_IDLE_NS && DNS_FAILURE_TTL_NS <= DNS_TTL_NS);
// Streams that nobody reads do not starve the others of their connection.
const _: () = assert!(H2_STREAMS_MAX as u64 * H2_STREAM_WINDOW_BYTES as u64 <= H2_CONNECTION_WINDOW_BYTES as u64);

/// Spare isolates of a shard unless the operator says otherwise.
pub const SPARES_PER_SHARD: usize = 4;

/// Settings of a node's shards.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Address of the HTTP listener; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Number of shards; 0 for one per core.
    pub shards: usize,
    /// Whether each shard is pinned to a core, while there are enough cores.
    pub pin: bool,
    /// Whether Workers that compute are suspended to let others run. Off, each holds its shard until it is done: to measure what it
    /// costs.
    pub preemption: bool,
    /// Time limits of connections.
    pub timeouts: Timeouts,
    /// When Workers are started and dropped.
    pub pool: PoolTimes,
    /// Open connections of one shard.
    pub connections_per_shard_max: usize,
    /// Isolates that each shard keeps ready for Workers to come, about 1.5 MB each.
    pub spares: usize,
    /// Resident memory that the process may have besides pages of files, bytes; a share of the machine's unless given.
    pub memory_bytes: Option<u64>,
    /// Whether a Worker's `fetch` may reach loopback, private and link-local addresses.
    pub allow_private_fetch: bool,
    /// Whether `/__scheduled?cron=…` of any Worker runs its `scheduled` handler, for development.
    pub test_scheduled: bool,
    /// Limits of a Worker's requests, for a plan with the usual CPU time.
    pub request_limits: RequestLimits,
    /// A PEM file with certificate authorities trusted for outbound TLS besides the system's.
    pub extra_ca: Option<PathBuf>,
    /// Whether packets are steered to shards: a pinned shard then counts the connections whose packets come to its core.
    pub steered: bool,
}

impl NodeConfig {
    /// Limits of the requests of a deployment whose plan gives them so much CPU time: with more than the usual come more
    /// outbound requests.
    pub(crate) fn limits_of(&self, cpu_ns: u64) -> RequestLimits {
        let large = cpu_ns > limits::CPU_PER_REQUEST_NS;
        let least = if large { limits::SUBREQUESTS_LARGE_MAX } else { 0 };
        RequestLimits { subrequests: self.request_limits.subrequests.max(least), ..self.request_limits }
    }
}

/// Time limits of connections, ns.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// First byte of a request to the end of its head.
    pub head_ns: u64,
    /// A kept-alive connection without a request.
    pub idle_ns: u64,
    /// A read of a body, or a write, that makes no progress.
    pub stall_ns: u64,
    /// Request sent to an origin to the end of its response's head.
    pub origin_head_ns: u64,
    /// Begin of a drain to the last connection's end.
    pub drain_ns: u64,
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        Timeouts {
            head_ns: limits::HEAD_TIMEOUT_NS,
            idle_ns: limits::IDLE_TIMEOUT_NS,
            stall_ns: limits::STALL_TIMEOUT_NS,
            origin_head_ns: FETCH_HEAD_TIMEOUT_NS,
            drain_ns: limits::DRAIN_TIMEOUT_NS,
        }
    }
}

/// When Workers are started and dropped.
#[derive(Clone, Copy, Debug)]
pub struct PoolTimes {
    /// See [`IDLE_NS`].
    pub idle_ns: u64,
    /// See [`EXTRA_IDLE_NS`].
    pub extra_idle_ns: u64,
    /// See [`WORKER_IDLE_NS`].
    pub worker_idle_ns: u64,
    /// See [`START_BACKOFF_NS`].
    pub start_backoff_ns: u64,
    /// See [`START_BACKOFF_MAX_NS`].
    pub start_backoff_max_ns: u64,
    /// See [`VISIT_NS`].
    pub visit_ns: u64,
    /// See [`EARLY_NS`].
    pub early_ns: u64,
    /// See [`SWEEP_TICKS`].
    pub sweep_ticks: u64,
}

impl Default for PoolTimes {
    fn default() -> PoolTimes {
        PoolTimes {
            idle_ns: IDLE_NS,
            extra_idle_ns: EXTRA_IDLE_NS,
            worker_idle_ns: WORKER_IDLE_NS,
            start_backoff_ns: START_BACKOFF_NS,
            start_backoff_max_ns: START_BACKOFF_MAX_NS,
            visit_ns: VISIT_NS,
            early_ns: EARLY_NS,
            sweep_ticks: SWEEP_TICKS,
        }
    }
}

impl Default for NodeConfig {
    fn default() -> NodeConfig {
        NodeConfig {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            shards: 0,
            pin: true,
            preemption: true,
            timeouts: Timeouts::default(),
            pool: PoolTimes::default(),
            connections_per_shard_max: limits::CONNECTIONS_PER_SHARD_MAX,
            spares: SPARES_PER_SHARD,
            memory_bytes: None,
            allow_private_fetch: false,
            test_scheduled: false,
            request_limits: RequestLimits::default(),
            extra_ca: None,
            steered: false,
        }
    }
}
