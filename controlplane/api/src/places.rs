//! Where nodes stand and what they are to do with requests: told to the push server, and asked where an activation has come to.
//!
//! *The rule of seed 000, "Code Distribution Algorithm":* an activation that has not reached nine of ten points of presence has
//! failed. A point of presence is reached when a node of it is connected and all of those serve the generation. One whose nodes are all
//! cordoned, or that has none, does not count; where there are none at all the rule says nothing.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use model::{Node, NodeState, PatchNode};
use plane_abi::wire::Standing;
use store::NodePlace;

use crate::error::ApiError;
use crate::{App, ops};

/// How long a point of presence may take beyond the nodes that were waited for: its nodes may be about to connect.
pub(crate) const REACH_WAIT: Duration = Duration::from_secs(2);
/// Between two looks.
pub(crate) const REACH_LOOK: Duration = Duration::from_millis(50);

/// What nodes that do not serve are to do.
pub(crate) fn standings(places: &[NodePlace]) -> HashMap<String, Standing> {
    let standing = |place: &NodePlace| match place.state {
        NodeState::Serving => None,
        NodeState::Cordoned => Some((place.name.clone(), Standing::Cordoned)),
        NodeState::Draining => Some((place.name.clone(), Standing::Draining)),
    };
    places.iter().filter_map(standing).collect()
}

/// Says which points of presence a generation has not reached, if they are more than one in ten.
pub(crate) fn shortage(places: &[NodePlace], nodes: &[Node], generation: u64) -> Option<String> {
    let by_name: HashMap<&str, &Node> = nodes.iter().map(|node| (node.name.as_str(), node)).collect();
    // By point of presence: connected nodes, and those of them that serve it.
    let mut pops: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for place in places.iter().filter(|place| place.state == NodeState::Serving) {
        let Some(pop) = place.pop.as_deref() else { continue };
        let (connected, serving) = pops.entry(pop).or_default();
        if let Some(node) = by_name.get(place.name.as_str()).filter(|node| node.connected) {
            *connected += 1;
            *serving += usize::from(node.generation >= generation);
        }
    }
    let missing: Vec<&str> = pops
        .iter()
        .filter(|(_, (connected, serving))| *connected == 0 || serving < connected)
        .map(|(pop, _)| *pop)
        .collect();
    if missing.len() * 10 <= pops.len() {
        return None;
    }
    let reached = pops.len() - missing.len();
    Some(format!("it reached {reached} of {} points of presence; missing: {}", pops.len(), missing.join(", ")))
}

/// Nodes as they are, with where they stand.
pub(crate) async fn nodes(app: &App) -> Result<Vec<Node>, ApiError> {
    let places: HashMap<String, NodePlace> =
        app.store.node_places().await?.into_iter().map(|place| (place.name.clone(), place)).collect();
    let published = app.publisher.newest();
    let with_place = app.fleet.nodes().into_iter().map(|mut node| {
        node.lag = published.saturating_sub(node.generation);
        if let Some(NodePlace { pop, region, state, .. }) = places.get(&node.name).cloned() {
            (node.pop, node.region, node.state) = (pop, region, state);
        }
        node
    });
    Ok(with_place.collect())
}

/// Says where a node stands or what it is to do with requests.
pub(crate) async fn set(app: App, name: String, patch: PatchNode) -> Result<Vec<Node>, ApiError> {
    let behind_vip = app.store.set_node(&name, &patch).await?;
    refresh(&app).await?;
    if behind_vip {
        ops::publish(&app).await?;
    }
    nodes(&app).await
}

/// Tells nodes what the store says they are to do.
pub(crate) async fn refresh(app: &App) -> Result<(), ApiError> {
    app.fleet.set_standings(standings(&app.store.node_places().await?));
    Ok(())
}

#[cfg(test)]
mod tests {
    use model::Timestamp;

    use super::*;

    fn node(name: &str, connected: bool, generation: u64) -> Node {
        Node {
            name: name.to_owned(),
            connected,
            address: String::new(),
            software: String::new(),
            seen_at: Timestamp::from_unix_ms(0),
            generation,
            lag: 0,
            refusal: None,
            state: NodeState::Serving,
            pop: None,
            region: None,
            load: Default::default(),
        }
    }

    fn place(name: &str, pop: Option<&str>, state: NodeState) -> NodePlace {
        NodePlace { name: name.to_owned(), pop: pop.map(str::to_owned), region: None, state }
    }

    #[test]
    fn nine_of_ten_points_of_presence_are_enough_and_those_missing_are_named() {
        let pops: Vec<String> = (0..10).map(|pop| format!("pop-{pop}")).collect();
        let places: Vec<NodePlace> =
            pops.iter().map(|pop| place(&format!("{pop}-a"), Some(pop), NodeState::Serving)).collect();
        let with = |missing: usize, generation| {
            let nodes: Vec<Node> =
                (0..10).map(|pop| node(&format!("pop-{pop}-a"), pop >= missing, generation)).collect();
            shortage(&places, &nodes, 7)
        };
        assert_eq!((with(0, 7), with(1, 8)), (None, None));
        let said = with(2, 7).expect("two of ten are missing");
        assert!(said.contains("8 of 10") && said.contains("pop-0, pop-1"), "{said}");
        assert!(with(0, 6).expect("all are behind").contains("0 of 10"));
    }

    #[test]
    fn a_point_of_presence_counts_by_its_nodes_that_serve() {
        let serving = |name, pop| place(name, Some(pop), NodeState::Serving);
        let both = [serving("a", "x"), serving("b", "x")];
        assert!(shortage(&both, &[node("a", true, 7), node("b", true, 6)], 7).is_some(), "one of its nodes is behind");
        assert!(shortage(&both, &[node("a", true, 7), node("b", false, 6)], 7).is_none(), "one is away");
        assert!(shortage(&both, &[], 7).is_some(), "all are away");
        let cordoned =
            [serving("a", "x"), place("b", Some("y"), NodeState::Cordoned), place("c", None, NodeState::Serving)];
        assert!(shortage(&cordoned, &[node("a", true, 7), node("b", true, 1), node("c", true, 1)], 7).is_none());
        assert!(shortage(&[], &[node("a", true, 1)], 7).is_none(), "there are none");
    }
}
