//! What operators look at: `nodes`, `config show`.

use crate::args::Target;
use crate::context::Context;
use crate::failure::Outcome;
use crate::output::{Ink, printable};

/// Lists the platform's nodes.
pub(crate) fn nodes(context: &Context) -> Outcome {
    let nodes = context.client()?.nodes()?;
    context.output.result(&nodes, |output| {
        let rows = nodes.iter().map(|node| {
            let refusal = node.refusal.as_ref().map_or_else(String::new, |refusal| {
                format!("generation {}: {}", refusal.generation, printable(&refusal.reason))
            });
            let state = if node.connected { "connected" } else { "away" };
            vec![printable(&node.name), state.to_owned(), node.generation.to_string(), refusal]
        });
        output.table(&["node", "state", "generation", "refused"], rows.collect(), "No nodes.")
    });
    Ok(())
}

/// Prints the compact JSON form of seed 000 ("Edge Configuration Wire Format"): of one deployment, or of all.
pub(crate) fn config(context: &Context, target: &Target, all: bool) -> Outcome {
    let (client, id) = if all {
        (context.client()?, None)
    } else {
        let (client, deployment) = context.deployment(target)?;
        (client, Some(deployment.id))
    };
    let config = client.config(id)?;
    context.output.result(&config, |output| {
        let text = serde_json::to_string_pretty(&config).expect("a JSON value serialises");
        let keys = "d deployment · v version · h artifact hash · u artifact URL · e env (encrypted) · b bindings · r routes · t time";
        format!("{}\n{text}", output.ink(Ink::Dim, &format!("// {keys}")))
    });
    Ok(())
}
