//! What the control plane says of its nodes: their list, and the records of their logs.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{DeploymentId, FieldError, Timestamp};

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
    /// How many generations it is behind what was published last.
    pub lag: u64,
    /// The last thing that it refused; null if it refused nothing since.
    #[schema(required = true)]
    pub refusal: Option<NodeRefusal>,
    /// What it is to do with requests.
    pub state: NodeState,
    /// The point of presence that it stands in; null for none.
    #[schema(required = true)]
    pub pop: Option<String>,
    /// That one's region.
    #[schema(required = true)]
    pub region: Option<String>,
    /// What its last heartbeat said.
    pub load: NodeLoad,
}

/// What a node is to do with requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    /// Serve.
    #[default]
    Serving,
    /// Serve what comes, and say that no more should: it is not ready, and schedules run elsewhere.
    Cordoned,
    /// The same, and end each connection with its next response.
    Draining,
}

impl NodeState {
    /// Its name in JSON and in the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            NodeState::Serving => "serving",
            NodeState::Cordoned => "cordoned",
            NodeState::Draining => "draining",
        }
    }

    /// The state of that name.
    pub fn from_name(name: &str) -> Option<NodeState> {
        [NodeState::Serving, NodeState::Cordoned, NodeState::Draining].into_iter().find(|state| state.as_str() == name)
    }
}

/// How busy a node is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeLoad {
    /// Shards that listen.
    pub shards: u32,
    /// Open client connections.
    pub connections: u64,
    /// Requests answered since it started.
    pub requests: u64,
    /// Those among them of status 500 and above.
    pub errors: u64,
    /// How far its clock is ahead of the control plane's, milliseconds, as of its last heartbeat; the heartbeat's way is in it.
    pub clock_ahead_ms: i64,
}

/// `PATCH /v1/nodes/{node}`: what is absent stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PatchNode {
    /// What it is to do with requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<NodeState>,
    /// The point of presence that it stands in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pop: Option<String>,
}

/// A point of presence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Pop {
    /// Its name.
    pub name: String,
    /// Its region.
    pub region: String,
    /// When it was made.
    pub created_at: Timestamp,
}

/// `PUT /v1/pops/{pop}`: makes one, or moves it to another region. The region is made if there is none of that name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetPop {
    /// Its region: 1 to 63 lower-case letters, digits and `-`.
    #[schema(min_length = 1, max_length = 63, pattern = "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$")]
    pub region: String,
}

/// A region.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Region {
    /// Its name.
    pub name: String,
    /// When it was made.
    pub created_at: Timestamp,
}

/// Checks the name of a node, a point of presence or a region: one DNS label in lower case.
pub fn place_name(field: &str, name: &str) -> Result<(), FieldError> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let label = (1..=63).contains(&name.len()) && name.bytes().all(allowed);
    if label && !name.starts_with('-') && !name.ends_with('-') {
        return Ok(());
    }
    Err(FieldError::new(field, "must be 1 to 63 lower-case letters, digits and '-'"))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_labels_and_states_have_names() {
        assert!(["a", "fra-1", "0"].iter().all(|name| place_name("pop", name).is_ok()));
        assert!(["", "-a", "a-", "A", "a.b", "ü"].iter().all(|name| place_name("pop", name).is_err()));
        assert!(place_name("pop", &"a".repeat(64)).is_err());
        for state in [NodeState::Serving, NodeState::Cordoned, NodeState::Draining] {
            assert_eq!(NodeState::from_name(state.as_str()), Some(state));
            assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
        }
    }
}
