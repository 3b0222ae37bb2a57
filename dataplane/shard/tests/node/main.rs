//! A shard as its clients see it: real listeners on loopback, real sockets, real Workers, a snapshot made by hand.

mod bad_origins;
mod bad_workers;
mod common;
mod cron;
mod drain;
mod fetching;
mod hostile;
mod http2;
mod limits;
mod memory;
mod neighbours;
mod panics;
mod passing;
mod pool;
mod protocol;
mod pulling;
mod routing;
mod services;
mod streaming;
mod websockets;
