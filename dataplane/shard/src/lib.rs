//! The shards of a node: one pinned thread each, with its own io_uring executor, listening socket, connections, Workers
//! and outbound connections.
//!
//! Owns everything between a socket and a Worker: accepting, reading and writing HTTP/1.1, time limits, routing a
//! request to a Worker, starting and dropping Workers, carrying their effects out, outbound `fetch`, metrics. Does not
//! own the grammar of HTTP (`h1`), the match of host and path (`route`), the configuration (`plane-abi`), JavaScript
//! (`worker-api`) or the control channel (`agent`).
//!
//! *Invariants:* the only crate that names glommio. Shards share nothing that a request writes: configuration is read
//! through one atomic load, metrics are written by one thread each. A Worker never leaves its shard's thread. No
//! borrow of shard state is held over a call into a Worker, nor over an await.
//! *Bounds:* connections per shard, Workers per shard, bytes read ahead and written behind per connection, idle and
//! total outbound connections, restarts of a shard: see [`config`].
//! *Failures:* a peer's fault ends its connection; a tenant's fault ends its request or its Worker; a panic ends the
//! connection whose task it struck, and the Worker it struck inside of; a panic of the executor itself ends the shard,
//! which its supervisor starts again. None of them reaches another shard.
//! *Threads:* `Node` lives wherever it was started; everything named `Shard` or below stays on one shard's thread.

pub mod config;
pub mod log;
pub mod metrics;
pub mod node;

mod apart;
mod canned;
mod canonical;
mod cell;
mod clock;
mod connection;
mod crash_loop;
mod cron;
mod exchange;
mod forecast;
mod handover;
mod io;
mod lifecycle;
mod link;
mod listener;
mod memory_budget;
mod origin;
mod outbound;
mod service;
mod shard;
mod socket;
mod sockets;
mod spares;
mod split;
mod turns;
mod watch;
mod websocket;
mod worker_timers;
mod workers;

pub use config::NodeConfig;
pub use handover::WORKERS_MAX as WARM_WORKERS_MAX;
pub use log::{LogSink, WorkerLog};
pub use node::{Inheritance, Node, StartError, raise_descriptor_limit};
