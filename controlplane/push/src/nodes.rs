//! The table of nodes: who is connected, what each has acknowledged or refused. No clock, no sockets; the lock
//! around it is [`crate::server`]'s.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::Arc,
};

use plane_abi::{
    Lineage,
    wire::{self, Load, RefuseReason, Traffic},
};
use tokio::sync::Notify;

/// How long a node that has gone keeps its part of what is to be done once, milliseconds: a restart moves nothing.
pub const FLEET_GRACE_MS: u64 = 30_000;

/// Deployments whose requests are kept until somebody takes them.
const TRAFFIC_KEPT_MAX: usize = 64 * 1024;

/// What names of nodes begin with that are to try snapshots before the others.
const CANARY: &str = "canary";

/// A node as it was seen last.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeStatus {
    /// The name in its certificate.
    pub name: String,
    /// Where it connected from.
    pub address: SocketAddr,
    /// Version of its program.
    pub software: String,
    /// Whether it is connected now.
    pub connected: bool,
    /// When it connected last, milliseconds since the Unix epoch.
    pub connected_unix_ms: u64,
    /// When it was heard last, milliseconds since the Unix epoch.
    pub seen_unix_ms: u64,
    /// The newest generation of our lineage that it has said it serves and keeps; 0 for none. May be above what was
    /// published, when our store is older than the node's last configuration.
    pub generation: u64,
    /// The last thing it refused, if that is newer than what it has acknowledged.
    pub refusal: Option<Refusal>,
    /// Active deployments whose module it lacked at its last acknowledgement.
    pub artifacts_missing: u32,
    /// What its last heartbeat said.
    pub load: Load,
}

/// A snapshot that a node would not take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Which.
    pub generation: u64,
    /// Why, for programs.
    pub reason: RefuseReason,
    /// Why, for people.
    pub detail: String,
}

/// How far a generation has come among the nodes that are connected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acks {
    /// Serve it, or a later one, and would after a restart.
    pub acked: Vec<String>,
    /// Refused it, or a later one.
    pub refused: Vec<(String, Refusal)>,
    /// Have not answered.
    pub pending: Vec<String>,
}

impl Acks {
    /// Whether every connected node serves it.
    pub fn all_acked(&self) -> bool {
        self.refused.is_empty() && self.pending.is_empty()
    }
}

/// What a node that was given a snapshot before the others has said of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tried {
    /// It serves it.
    Serves,
    /// It refused it.
    Refused(Refusal),
    /// It has gone, or has not answered in time.
    Silent,
}

struct Node {
    status: NodeStatus,
    /// Generations it acknowledged of what this server published.
    acked: u64,
    connection: u64,
    /// Ends its connection.
    cut: Arc<Notify>,
}

/// Nodes by name, connected or not; at most `max`.
pub(crate) struct Nodes {
    lineage: Lineage,
    max: usize,
    nodes: BTreeMap<String, Node>,
    /// Nodes that others have named and that have not come yet, with when they were named, milliseconds since the Unix epoch.
    named: BTreeMap<String, u64>,
    /// Requests of deployments that nobody has taken yet.
    traffic: HashMap<u128, u64>,
    next_connection: u64,
}

/// What a connection says of itself when it registers.
pub(crate) struct Arrival<'a> {
    pub(crate) name: &'a str,
    pub(crate) address: SocketAddr,
    pub(crate) software: &'a str,
    pub(crate) lineage: Lineage,
    pub(crate) generation: u64,
    pub(crate) unix_ms: u64,
}

impl Nodes {
    pub(crate) fn new(lineage: Lineage, max: usize) -> Nodes {
        Nodes {
            lineage,
            max,
            nodes: BTreeMap::new(),
            named: BTreeMap::new(),
            traffic: HashMap::new(),
            next_connection: 1,
        }
    }

    /// Registers a connection and gives its number, and what tells it to end; an older one of that name is no longer the node's, and is
    /// told. None: the table is full of connected nodes.
    pub(crate) fn arrive(&mut self, arrival: &Arrival<'_>) -> Option<(u64, Arc<Notify>)> {
        if !self.nodes.contains_key(arrival.name) && self.nodes.len() >= self.max {
            let away = self.nodes.values().filter(|node| !node.status.connected);
            let oldest = away.min_by_key(|node| node.status.seen_unix_ms).map(|node| node.status.name.clone())?;
            self.nodes.remove(&oldest);
        }
        let connection = self.next_connection;
        self.next_connection += 1;
        let generation = if arrival.lineage == self.lineage { arrival.generation } else { 0 };
        let status = NodeStatus {
            name: arrival.name.to_owned(),
            address: arrival.address,
            software: arrival.software.to_owned(),
            connected: true,
            connected_unix_ms: arrival.unix_ms,
            seen_unix_ms: arrival.unix_ms,
            generation,
            refusal: None,
            artifacts_missing: 0,
            load: Load::default(),
        };
        let cut = Arc::new(Notify::new());
        let node = Node { status, acked: 0, connection, cut: Arc::clone(&cut) };
        if let Some(before) = self.nodes.insert(arrival.name.to_owned(), node) {
            before.cut.notify_one();
        }
        Some((connection, cut))
    }

    /// Tells a node's connection to end.
    pub(crate) fn cut(&self, name: &str) {
        if let Some(node) = self.nodes.get(name) {
            node.cut.notify_one();
        }
    }

    /// The connection has ended.
    pub(crate) fn leave(&mut self, name: &str, connection: u64) {
        if let Some(node) = self.of(name, connection) {
            node.status.connected = false;
        }
    }

    pub(crate) fn heard(&mut self, name: &str, connection: u64, unix_ms: u64, load: Option<Load>) {
        let Some(node) = self.of(name, connection) else { return };
        node.status.seen_unix_ms = unix_ms;
        let Some(mut load) = load else { return };
        let traffic = std::mem::take(&mut load.traffic);
        node.status.load = load;
        for Traffic { deployment, requests } in traffic {
            if self.traffic.len() < TRAFFIC_KEPT_MAX || self.traffic.contains_key(&deployment) {
                let sum = self.traffic.entry(deployment).or_default();
                *sum = sum.saturating_add(requests);
            }
        }
    }

    /// Requests of deployments over all nodes since this was asked last.
    pub(crate) fn take_traffic(&mut self) -> HashMap<u128, u64> {
        std::mem::take(&mut self.traffic)
    }

    pub(crate) fn acked(&mut self, name: &str, connection: u64, generation: u64, artifacts_missing: u32) {
        if let Some(node) = self.of(name, connection) {
            node.acked = node.acked.max(generation);
            node.status.generation = node.status.generation.max(generation);
            node.status.artifacts_missing = artifacts_missing;
            node.status.refusal.take_if(|refusal| refusal.generation <= generation);
        }
    }

    pub(crate) fn refused(&mut self, name: &str, connection: u64, refusal: Refusal) {
        if let Some(node) = self.of(name, connection) {
            node.status.refusal = Some(refusal);
        }
    }

    /// How the requests of a deployment's versions fare, over all nodes: (requests, errors) by version.
    pub(crate) fn version_counts(&self, deployment: u128) -> BTreeMap<u32, (u64, u64)> {
        let mut all: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
        let counts = self.nodes.values().flat_map(|node| &node.status.load.versions);
        for count in counts.filter(|count| count.deployment == deployment) {
            let (requests, errors) = all.entry(count.version).or_default();
            (*requests, *errors) = (requests.saturating_add(count.requests), errors.saturating_add(count.errors));
        }
        all
    }

    fn of(&mut self, name: &str, connection: u64) -> Option<&mut Node> {
        self.nodes.get_mut(name).filter(|node| node.connection == connection)
    }

    pub(crate) fn list(&self) -> Vec<NodeStatus> {
        self.nodes.values().map(|node| node.status.clone()).collect()
    }

    /// Takes the nodes that a node knew of before it connected: after a start of this server they are likely to come.
    pub(crate) fn name_others(&mut self, names: &[String], unix_ms: u64) {
        self.forget_named(unix_ms);
        for name in names {
            let room = self.named.len() < self.max;
            if room && wire::is_node_name(name) && !self.nodes.contains_key(name) && !self.named.contains_key(name) {
                self.named.insert(name.clone(), unix_ms);
            }
        }
    }

    /// Names of the nodes that share what is to be done once: who is connected or was lately, and who was named lately. Sorted.
    pub(crate) fn fleet(&mut self, unix_ms: u64) -> Vec<String> {
        self.forget_named(unix_ms);
        let here =
            self.nodes.values().filter(|node| node.status.connected || is_lately(node.status.seen_unix_ms, unix_ms));
        let here = here.map(|node| &node.status.name);
        let mut fleet: Vec<String> = here.chain(self.named.keys()).cloned().collect();
        fleet.sort_unstable();
        fleet
    }

    /// Makes room of the names that came, or did not come in time.
    fn forget_named(&mut self, unix_ms: u64) {
        let nodes = &self.nodes;
        self.named.retain(|name, then| is_lately(*then, unix_ms) && !nodes.contains_key(name));
    }

    pub(crate) fn highest_generation(&self) -> u64 {
        self.nodes.values().map(|node| node.status.generation).max().unwrap_or(0)
    }

    /// What a node has said of a generation; none: nothing as yet.
    pub(crate) fn tried(&self, name: &str, generation: u64) -> Option<Tried> {
        match self.nodes.get(name).filter(|node| node.status.connected) {
            None => Some(Tried::Silent),
            Some(node) if node.acked >= generation => Some(Tried::Serves),
            Some(node) => {
                let refusal = node.status.refusal.as_ref().filter(|refusal| refusal.generation >= generation)?;
                Some(Tried::Refused(refusal.clone()))
            }
        }
    }

    /// Connected nodes that serve at least this generation, in the order in which they are asked first; none while they are alone.
    pub(crate) fn canaries(&self, generation: u64) -> Vec<String> {
        let serves = |node: &&Node| node.status.connected && node.acked >= generation && node.status.refusal.is_none();
        let mut names: Vec<&String> = self.nodes.values().filter(serves).map(|node| &node.status.name).collect();
        if self.nodes.values().filter(|node| node.status.connected).count() < 2 {
            return Vec::new();
        }
        names.sort_by_key(|name| (!name.starts_with(CANARY), name.as_str()));
        names.into_iter().cloned().collect()
    }

    /// Whether a connected node has neither acknowledged nor refused the generation, or a later one.
    pub(crate) fn awaits(&self, generation: u64) -> bool {
        self.nodes
            .values()
            .filter(|node| node.status.connected && node.acked < generation)
            .any(|node| node.status.refusal.as_ref().is_none_or(|refusal| refusal.generation < generation))
    }

    pub(crate) fn acks(&self, generation: u64) -> Acks {
        let mut acks = Acks::default();
        for node in self.nodes.values().filter(|node| node.status.connected) {
            let name = node.status.name.clone();
            match &node.status.refusal {
                _ if node.acked >= generation => acks.acked.push(name),
                Some(refusal) if refusal.generation >= generation => acks.refused.push((name, refusal.clone())),
                _ => acks.pending.push(name),
            }
        }
        acks
    }
}

fn is_lately(then_unix_ms: u64, unix_ms: u64) -> bool {
    then_unix_ms.saturating_add(FLEET_GRACE_MS) > unix_ms
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrival(name: &str, lineage: u128, generation: u64, unix_ms: u64) -> Arrival<'_> {
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        Arrival { name, address, software: "test", lineage: Lineage(lineage), generation, unix_ms }
    }

    fn refusal(generation: u64) -> Refusal {
        Refusal { generation, reason: RefuseReason::Corrupt, detail: String::new() }
    }

    #[test]
    fn a_generation_is_acked_refused_or_pending() {
        let mut nodes = Nodes::new(Lineage(1), 8);
        let a = nodes.arrive(&arrival("a", 1, 0, 0)).expect("room").0;
        let b = nodes.arrive(&arrival("b", 1, 0, 0)).expect("room").0;
        nodes.arrive(&arrival("c", 1, 0, 0)).expect("room");
        nodes.acked("a", a, 5, 0);
        nodes.refused("b", b, refusal(5));
        assert!(nodes.awaits(5), "c has not answered");
        let acks = nodes.acks(5);
        assert_eq!((acks.acked, acks.pending), (vec!["a".to_owned()], vec!["c".to_owned()]));
        assert_eq!(acks.refused, [("b".to_owned(), refusal(5))]);
        assert_eq!(nodes.acks(6).pending.len(), 3, "a refusal of 5 says nothing of 6");
        let c = nodes.list()[2].name.clone();
        assert_eq!(c, "c");
        nodes.leave("c", 3);
        assert!(!nodes.awaits(5) && nodes.awaits(6), "who is gone is not waited for");
        nodes.acked("b", b, 6, 0);
        assert_eq!(nodes.acks(6).acked, ["b"]);
        assert_eq!(nodes.list()[1].refusal, None, "an acknowledgement clears older refusals");
    }

    #[test]
    fn a_node_ahead_of_the_store_has_acknowledged_nothing_of_it() {
        let mut nodes = Nodes::new(Lineage(1), 8);
        nodes.arrive(&arrival("ahead", 1, 57, 0));
        nodes.arrive(&arrival("foreign", 2, 99, 0));
        assert_eq!(nodes.acks(51).acked, Vec::<String>::new());
        assert_eq!(nodes.highest_generation(), 57, "of our lineage only");
    }

    #[test]
    fn a_new_connection_replaces_the_old_one_and_the_old_one_has_no_say() {
        let mut nodes = Nodes::new(Lineage(1), 8);
        let old = nodes.arrive(&arrival("a", 1, 0, 0)).expect("room").0;
        let new = nodes.arrive(&arrival("a", 1, 0, 1)).expect("room").0;
        nodes.acked("a", old, 9, 0);
        nodes.leave("a", old);
        assert!(old != new && nodes.list()[0].connected, "who has been replaced cannot say that it leaves");
        assert_eq!(nodes.acks(1).pending, ["a"]);
    }

    #[test]
    fn the_fleet_keeps_who_left_lately_and_who_was_named() {
        let mut nodes = Nodes::new(Lineage(1), 3);
        let a = nodes.arrive(&arrival("a", 1, 0, 0)).expect("room").0;
        let others = ["b", "a", "Not a name", "c", "d", "e"].map(str::to_owned);
        nodes.name_others(&others, 10);
        assert_eq!(nodes.fleet(20), ["a", "b", "c", "d"]);
        nodes.arrive(&arrival("b", 1, 0, 20)).expect("room");
        nodes.name_others(&others, FLEET_GRACE_MS);
        assert_eq!(
            nodes.fleet(FLEET_GRACE_MS + 10),
            ["a", "b", "e"],
            "c and d have not come; e is new, there was no room"
        );
        nodes.leave("a", a);
        assert_eq!(nodes.fleet(FLEET_GRACE_MS + 11), ["b", "e"], "a was last heard at 0");
        nodes.heard("b", 2, 5 * FLEET_GRACE_MS, None);
        nodes.leave("b", 2);
        assert_eq!(nodes.fleet(6 * FLEET_GRACE_MS - 1), ["b"]);
        assert!(nodes.fleet(6 * FLEET_GRACE_MS).is_empty());
    }

    #[test]
    fn canaries_are_healthy_named_so_or_first_and_never_alone() {
        let mut nodes = Nodes::new(Lineage(1), 8);
        nodes.arrive(&arrival("b", 1, 0, 0));
        nodes.acked("b", 1, 5, 0);
        assert!(nodes.canaries(5).is_empty(), "alone");
        for (name, connection) in [("a", 2), ("canary-1", 3), ("c", 4), ("behind", 5)] {
            nodes.arrive(&arrival(name, 1, 0, 0));
            nodes.acked(name, connection, if name == "behind" { 4 } else { 5 }, 0);
        }
        nodes.leave("c", 4);
        assert_eq!(nodes.canaries(5), ["canary-1", "a", "b"]);
        nodes.refused("canary-1", 3, refusal(6));
        assert_eq!(nodes.canaries(5), ["a", "b"]);
        assert_eq!(nodes.tried("canary-1", 6), Some(Tried::Refused(refusal(6))));
        assert_eq!((nodes.tried("a", 5), nodes.tried("a", 6)), (Some(Tried::Serves), None));
        assert_eq!((nodes.tried("c", 6), nodes.tried("nobody", 6)), (Some(Tried::Silent), Some(Tried::Silent)));
    }

    #[test]
    fn versions_counts_are_summed_over_nodes_and_replaced_by_each_ones_last_word() {
        let mut nodes = Nodes::new(Lineage(1), 8);
        let count =
            |deployment, version, requests, errors| wire::VersionCounts { deployment, version, requests, errors };
        for (name, connection) in [("a", 1), ("b", 2)] {
            nodes.arrive(&arrival(name, 1, 0, 0));
            for requests in [5, 10] {
                let versions = vec![count(7, 1, requests, 1), count(7, 2, 1, 1), count(8, 2, 100, 0)];
                nodes.heard(name, connection, 1, Some(Load { versions, ..Load::default() }));
            }
        }
        assert_eq!(nodes.version_counts(7), BTreeMap::from([(1, (20, 2)), (2, (2, 2))]));
        assert!(nodes.version_counts(9).is_empty());
    }

    #[test]
    fn traffic_is_summed_over_nodes_and_taken_once() {
        let mut nodes = Nodes::new(Lineage(1), 8);
        for (name, connection) in [("a", 1), ("b", 2)] {
            nodes.arrive(&arrival(name, 1, 0, 0));
            let traffic = vec![Traffic { deployment: 7, requests: 5 }, Traffic { deployment: 8, requests: u64::MAX }];
            nodes.heard(name, connection, 1, Some(Load { traffic, ..Load::default() }));
        }
        nodes.heard("a", 2, 1, Some(Load { traffic: vec![Traffic { deployment: 7, requests: 9 }], ..Load::default() }));
        assert!(nodes.list()[0].load.traffic.is_empty());
        assert_eq!(nodes.take_traffic(), HashMap::from([(7, 10), (8, u64::MAX)]), "another's connection has no say");
        assert!(nodes.take_traffic().is_empty());
    }

    #[test]
    fn a_full_table_forgets_who_is_away_longest_and_never_who_is_connected() {
        let mut nodes = Nodes::new(Lineage(1), 2);
        let a = nodes.arrive(&arrival("a", 1, 0, 1)).expect("room").0;
        let b = nodes.arrive(&arrival("b", 1, 0, 2)).expect("room").0;
        assert!(nodes.arrive(&arrival("c", 1, 0, 3)).is_none());
        nodes.leave("b", b);
        nodes.leave("a", a);
        assert!(nodes.arrive(&arrival("c", 1, 0, 3)).is_some());
        let names: Vec<_> = nodes.list().into_iter().map(|node| node.name).collect();
        assert_eq!(names, ["b", "c"]);
    }
}
