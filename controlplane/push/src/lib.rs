//! The push: brings snapshots and artifacts to nodes, and their acknowledgements and logs back.
//!
//! [`PushServer`] listens with mutual TLS. A node opens one long-lived connection; its name is the one in the certificate
//! that our own authority ([`Ca`]) issued. [`PushServer::publish`] makes a snapshot the latest; every connection sends the
//! latest and nothing older, so a slow node skips generations and holds nobody up; [`PushServer::try_on`] gives one to a single node first. Frames: `plane_abi::wire`.
//!
//! Does not compile, store or number configurations, and keeps nothing on disk but the authority's key.
//!
//! Bounds: nodes ([`PushConfig::nodes_max`]), handshakes under way, one frame read and one part written per connection,
//! a short queue of artifact requests, a fixed ring of log records. Failures: a peer that breaks the protocol or stalls
//! loses its connection, which is logged; nothing it sends reaches another connection except its logs.
//! Threads: tokio tasks; any runtime flavour.

#![forbid(unsafe_code)]

mod ca;
mod connection;
mod latest;
mod nodes;
mod server;

pub use ca::{Ca, CaError, NodeIdentity};
pub use nodes::{Acks, FLEET_GRACE_MS, NodeStatus, Refusal, Tried};
pub use server::{ArtifactFuture, ArtifactSource, NodeLog, PublishError, PushConfig, PushServer};
