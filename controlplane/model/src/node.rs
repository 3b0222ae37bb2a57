//! What the control plane says of its nodes: their list, and the records of their logs.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{DeploymentId, Timestamp};

/// A node as the control plane knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Node {
    /// The name in its certificate.
    pub name: String,
    /// Whether it is connected now.
    pub connected: bool,
    /// Where it connected from last.
    pub address: String,
    /// Version of its program.
    pub software: String,
    /// When it was last heard.
    pub seen_at: Timestamp,
    /// The newest generation that it serves; 0 for none.
    pub generation: u64,
    /// The last thing that it refused; null if it refused nothing since.
    #[schema(required = true)]
    pub refusal: Option<NodeRefusal>,
}

/// A configuration that a node would not take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeRefusal {
    /// Which generation.
    pub generation: u64,
    /// Why, in the node's words.
    pub reason: String,
}

/// One record of `GET /v1/deployments/{id}/logs/tail`: a WebSocket text message of this JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogRecord {
    /// When, by the node's clock.
    pub timestamp: Timestamp,
    /// Which node.
    pub node: String,
    /// Which deployment.
    pub deployment_id: DeploymentId,
    /// Which version of it.
    pub version_number: u32,
    /// `debug`, `info` (`console.log` too), `warn` or `error` (uncaught exceptions too).
    pub level: String,
    /// The text, cut at the node's limit.
    pub message: String,
    /// The request it belongs to, unique within one run of the node; null at start-up.
    #[serde(default)]
    #[schema(required = true)]
    pub request: Option<u64>,
    /// Records that were dropped before this one because the tail did not keep up.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub dropped: u64,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}
