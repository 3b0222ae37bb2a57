//! The nodes, as operations see them: the push server, with its words turned into the API's.

use std::sync::Arc;
use std::time::Duration;

use model::{Node, NodeRefusal, Timestamp};
use plan::Compiled;
use plane_abi::wire::RefuseReason;
use push::{NodeLog, PushServer};
use tokio::sync::broadcast;

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
        self.0.publish_over(generation, compiled.bytes.into(), compiled.base)
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

    pub(crate) fn nodes(&self) -> Vec<Node> {
        let time = |unix_ms: u64| Timestamp::from_unix_ms(i64::try_from(unix_ms).unwrap_or(i64::MAX));
        let nodes = self.0.nodes().into_iter().map(|node| Node {
            name: node.name,
            connected: node.connected,
            address: node.address.to_string(),
            software: node.software,
            seen_at: time(node.seen_unix_ms),
            generation: node.generation,
            refusal: node.refusal.map(|refusal| NodeRefusal { generation: refusal.generation, reason: refusal.detail }),
        });
        nodes.collect()
    }
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
