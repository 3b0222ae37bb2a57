//! The nodes, as operations see them: the push server, with its words turned into the API's.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use model::{DeploymentId, Fares, Node, NodeLoad, NodeRefusal, NodeState, Timestamp};
use plane_abi::wire::{RefuseReason, Standing};
use push::{NodeLog, PushServer, Tried};
use tokio::sync::broadcast;

use crate::compile::Compiled;

/// Nodes that are asked before a configuration is held back from all.
const CANARIES: usize = 2;
/// How long one of them has.
const CANARY_WAIT: Duration = Duration::from_secs(2);

/// The nodes. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Fleet(Arc<PushServer>);

/// How far a generation has come.
#[derive(Clone, Debug, Default)]
pub(crate) struct Acks {
    pub(crate) acked: u32,
    pub(crate) connected: u32,
    /// Node and reason, of those that found the configuration at fault.
    refused: Vec<(String, String)>,
}

impl Acks {
    /// Why the configuration is at fault, if a node says so.
    pub(crate) fn refusal(&self) -> Option<String> {
        let (node, reason) = self.refused.first()?;
        let more = match self.refused.len() {
            1 => String::new(),
            n => format!(" (and {} more nodes)", n - 1),
        };
        Some(format!("node {node}: {reason}{more}"))
    }
}

impl Fleet {
    pub(crate) fn new(server: Arc<PushServer>) -> Fleet {
        Fleet(server)
    }

    pub(crate) fn publish(&self, generation: u64, compiled: Compiled) -> Result<(), push::PublishError> {
        self.0.publish_over(generation, compiled.bytes, compiled.base)
    }

    /// Gives a configuration to one node before the others. What is at fault by two nodes' words goes no further: then who says so. A
    /// node that says nothing holds nobody up.
    pub(crate) async fn try_on_canary(
        &self,
        generation: u64,
        compiled: &Compiled,
    ) -> Result<Option<Acks>, push::PublishError> {
        let mut refused = Vec::new();
        for node in self.0.canaries().into_iter().take(CANARIES) {
            let (bytes, base) = (Arc::clone(&compiled.bytes), compiled.base.clone());
            match self.0.try_on(&node, generation, bytes, base, CANARY_WAIT).await? {
                Tried::Refused(refusal) if blames_configuration(refusal.reason) => refused.push((node, refusal.detail)),
                Tried::Serves => return Ok(None),
                Tried::Silent | Tried::Refused(_) => {
                    tracing::warn!(node, generation, "the node that was to try a configuration first has no answer");
                    return Ok(None);
                }
            }
        }
        let connected = self.0.nodes().iter().filter(|node| node.connected).count();
        let connected = u32::try_from(connected).unwrap_or(u32::MAX);
        // One node's word is not enough to hold back the others, unless there is no other.
        Ok((refused.len() == CANARIES).then_some(Acks { acked: 0, connected, refused }))
    }

    /// Waits until every connected node has said yes or no.
    pub(crate) async fn wait_acked(&self, generation: u64, timeout: Duration) -> Acks {
        acks(self.0.wait_acked(generation, timeout).await)
    }

    /// The highest generation that a node has served.
    pub(crate) fn highest_generation(&self) -> u64 {
        self.0.highest_generation_seen()
    }

    /// Resolves when nodes have come, gone or said something.
    pub(crate) fn watch(&self) -> tokio::sync::watch::Receiver<u64> {
        self.0.watch_nodes()
    }

    pub(crate) fn logs(&self) -> broadcast::Receiver<Arc<NodeLog>> {
        self.0.logs()
    }

    /// How a version's requests fare.
    pub(crate) fn fares(&self, deployment: DeploymentId, version: u32) -> Fares {
        let counts = self.0.version_counts(deployment.as_u128());
        let (requests, errors) = counts.get(&version).copied().unwrap_or_default();
        Fares { requests, errors }
    }

    /// Requests of deployments since this was asked last.
    pub(crate) fn take_traffic(&self) -> Vec<(DeploymentId, u64)> {
        let taken = self.0.take_traffic().into_iter();
        taken.map(|(id, requests)| (DeploymentId::from_u128(id), requests)).collect()
    }

    /// Says what nodes are to do with requests, those that do not serve.
    pub(crate) fn set_standings(&self, standings: HashMap<String, Standing>) {
        self.0.set_standings(standings);
    }

    /// Nodes as the push server knows them: where they stand, and how far behind, is not its to know.
    pub(crate) fn nodes(&self) -> Vec<Node> {
        self.0.nodes().into_iter().map(node).collect()
    }
}

fn node(node: push::NodeStatus) -> Node {
    let time = |unix_ms: u64| Timestamp::from_unix_ms(i64::try_from(unix_ms).unwrap_or(i64::MAX));
    let load = node.load;
    let clock_ahead_ms = clock_ahead_ms(load.unix_ms, node.seen_unix_ms);
    Node {
        name: node.name,
        connected: node.connected,
        address: node.address.to_string(),
        software: node.software,
        seen_at: time(node.seen_unix_ms),
        generation: node.generation,
        lag: 0,
        refusal: node.refusal.map(|refusal| NodeRefusal { generation: refusal.generation, reason: refusal.detail }),
        state: NodeState::Serving,
        pop: None,
        region: None,
        load: NodeLoad {
            shards: load.shards,
            connections: load.connections,
            requests: load.requests,
            errors: load.errors,
            clock_ahead_ms,
        },
    }
}

/// How far a node's clock is ahead, as of its word and when that came. One that has not said anything yet has no clock.
fn clock_ahead_ms(said_unix_ms: u64, seen_unix_ms: u64) -> i64 {
    let signed = |unix_ms: u64| i64::try_from(unix_ms).unwrap_or(i64::MAX);
    if said_unix_ms == 0 { 0 } else { signed(said_unix_ms).saturating_sub(signed(seen_unix_ms)) }
}

/// A refusal counts against the configuration unless it is the node's own trouble: a full disk must not stop every
/// deployment of the platform. Such a node counts as late; the list of nodes says why.
fn acks(from: push::Acks) -> Acks {
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let connected = from.acked.len() + from.refused.len() + from.pending.len();
    let at_fault = from.refused.into_iter().filter(|(_, refusal)| blames_configuration(refusal.reason));
    Acks {
        acked: count(from.acked.len()),
        connected: count(connected),
        refused: at_fault.map(|(node, refusal)| (node, refusal.detail)).collect(),
    }
}

fn blames_configuration(reason: RefuseReason) -> bool {
    match reason {
        RefuseReason::Corrupt | RefuseReason::Artifacts => true,
        RefuseReason::Older | RefuseReason::ForeignLineage | RefuseReason::EnvKey => false,
        RefuseReason::NotStored | RefuseReason::NotDurable => false,
    }
}

#[cfg(test)]
mod tests {
    use super::clock_ahead_ms;

    #[test]
    fn a_clock_may_say_anything() {
        const NOW: u64 = 1_795_000_000_000;
        for (said, ahead) in [
            (NOW + 3_600_000, 3_600_000),
            (NOW - 3_600_000, -3_600_000),
            (1, 1 - NOW as i64),
            (0, 0),
            (u64::MAX, i64::MAX - NOW as i64),
        ] {
            assert_eq!(clock_ahead_ms(said, NOW), ahead, "{said}");
        }
    }
}
