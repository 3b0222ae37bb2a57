//! What the control plane and a node share: the configuration snapshot, the words they say about it, and the secrets
//! inside it.
//!
//! - [`snapshot`]: a compiled configuration, read in place; [`writer`] makes one. The layout is in `layout`.
//! - [`delta`]: one snapshot's bytes from another's.
//! - `routes`: its routes, and [`RouteBase`], the file of them that many snapshots in a row share.
//! - [`steering`]: its rules for packets: deny list, limits, VIPs.
//! - [`cron`]: when Workers are to run by themselves.
//! - [`pattern`]: route patterns, and the one normalisation of hosts and paths that compiler and node use.
//! - [`split`]: which of two versions a request goes to.
//! - [`seal`]: authenticated encryption of environment values.
//! - [`wire`]: frames of the push protocol, without input or output.
//! - [`code`]: V8's compiled code of modules, in envelopes, and a node's store of them.
//! - [`pull`]: artifacts that requests wait for.
//! - [`plane`]: a node's current configuration, one writer (the agent) and many readers (the shards).
//!
//! *Invariant:* names no socket, clock or executor. Files are touched in four places only: [`snapshot::Snapshot::open`],
//! [`seal::Key::load_or_create`], [`plane::Published`]'s artifacts and [`code::CodeStore`].
//! *Invariant:* bytes from outside give typed errors; nothing here panics on them.

#![deny(unsafe_code)]

mod buffer;
mod check;
pub mod code;
pub mod cron;
pub mod delta;
mod layout;
pub mod limits;
pub mod pattern;
pub mod plane;
pub mod pull;
mod routes;
pub mod seal;
pub mod snapshot;
pub mod split;
pub mod steering;
pub mod wire;
pub mod writer;

pub use layout::FORMAT_VERSION;
pub use routes::base::{BaseId, FindBase, RouteBase};
pub use snapshot::{
    Binding, BindingKind, Deployment, DeploymentIx, Distribution, HostKind, HostRoutes, Lineage, PathKind, RoutePath,
    ServiceTarget, Snapshot, SnapshotError, SnapshotHeader, Status,
};
pub use writer::{ChangedRoute, NewCandidate, NewDeployment, NewRoute, SnapshotWriter, WriteError};
