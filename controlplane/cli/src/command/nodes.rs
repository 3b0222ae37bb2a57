//! The platform's nodes and where they stand: `nodes`, `pops`.

use model::{Node, NodeState, PatchNode, SetPop, place_name};

use crate::args::NodesCommand;
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::output::printable;

/// Lists nodes, or changes one first.
pub(crate) fn run(context: &Context, command: Option<NodesCommand>) -> Outcome {
    let state = |node, state| (node, PatchNode { state: Some(state), pop: None });
    let (node, patch) = match command {
        None => return list(context, &context.client()?.nodes()?),
        Some(NodesCommand::Cordon { node }) => state(node, NodeState::Cordoned),
        Some(NodesCommand::Drain { node }) => state(node, NodeState::Draining),
        Some(NodesCommand::Uncordon { node }) => state(node, NodeState::Serving),
        Some(NodesCommand::Place { node, pop }) => (node, PatchNode { state: None, pop: Some(pop) }),
    };
    place_name("node", &node).map_err(|error| Failure::usage(error.to_string()))?;
    list(context, &context.client()?.update_node(&node, &patch)?)
}

fn list(context: &Context, nodes: &[Node]) -> Outcome {
    context.output.result(&nodes, |output| {
        let titles = ["node", "state", "pop", "region", "generation", "behind", "connections", "requests", "refused"];
        output.table(&titles, nodes.iter().map(row).collect(), "No nodes.")
    });
    Ok(())
}

fn row(node: &Node) -> Vec<String> {
    let refusal = node.refusal.as_ref().map_or_else(String::new, |refusal| {
        format!("generation {}: {}", refusal.generation, printable(&refusal.reason))
    });
    let state = match (node.connected, node.state) {
        (false, _) => "away",
        (true, NodeState::Serving) => "connected",
        (true, state) => state.as_str(),
    };
    let place = |place: &Option<String>| place.as_deref().map_or_else(|| "-".to_owned(), printable);
    vec![
        printable(&node.name),
        state.to_owned(),
        place(&node.pop),
        place(&node.region),
        node.generation.to_string(),
        node.lag.to_string(),
        node.load.connections.to_string(),
        node.load.requests.to_string(),
        refusal,
    ]
}

/// Lists points of presence.
pub(crate) fn pops(context: &Context) -> Outcome {
    let pops = context.client()?.pops()?;
    context.output.result(&pops, |output| {
        let rows = pops.iter().map(|pop| vec![printable(&pop.name), printable(&pop.region)]);
        output.table(&["pop", "region"], rows.collect(), "No points of presence.")
    });
    Ok(())
}

/// Makes a point of presence, or moves it.
pub(crate) fn set_pop(context: &Context, name: &str, region: String) -> Outcome {
    place_name("pop", name)
        .and_then(|()| place_name("region", &region))
        .map_err(|error| Failure::usage(error.to_string()))?;
    let pop = context.client()?.set_pop(name, &SetPop { region })?;
    context.output.result(&pop, |_| format!("{} is in {}", printable(&pop.name), printable(&pop.region)));
    Ok(())
}
