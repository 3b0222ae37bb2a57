//! `routes list|add|remove|enable|disable`.

use model::{CreateRoute, Route};
use serde_json::json;

use crate::args::Target;
use crate::context::Context;
use crate::failure::{Failure, Kind, Outcome};
use crate::output::{Output, printable};

/// Lists a deployment's routes.
pub(crate) fn list(context: &Context, target: &Target) -> Outcome {
    let (client, deployment) = context.deployment(target)?;
    let routes = client.routes(deployment.id)?;
    context.output.result(&routes, |output| table(output, &routes));
    Ok(())
}

fn table(output: &Output, routes: &[Route]) -> String {
    let rows = routes.iter().map(|route| {
        let zone = route.zone_id.as_deref().unwrap_or("-");
        let state = if route.enabled { "enabled" } else { "disabled" };
        vec![printable(&route.pattern), state.to_owned(), printable(zone), route.id.to_string()]
    });
    output.table(&["pattern", "state", "zone", "id"], rows.collect(), "No routes.")
}

/// Adds a route.
pub(crate) fn add(context: &Context, target: &Target, pattern: String, zone_id: Option<String>) -> Outcome {
    let (client, deployment) = context.deployment(target)?;
    let route = client.create_route(deployment.id, &CreateRoute { pattern, zone_id, enabled: None })?;
    context
        .output
        .result(&route, |_| format!("Added {} to {}", printable(&route.pattern), printable(&deployment.name)));
    Ok(())
}

/// Removes a route.
pub(crate) fn remove(context: &Context, target: &Target, which: &str) -> Outcome {
    let (client, deployment) = context.deployment(target)?;
    let route = pick(client.routes(deployment.id)?, which)?;
    client.delete_route(deployment.id, route.id)?;
    context.output.result(&json!({"id": route.id, "pattern": route.pattern, "deleted": true}), |_| {
        format!("Removed {}", printable(&route.pattern))
    });
    Ok(())
}

/// Puts a route in force, or out of it.
pub(crate) fn enable(context: &Context, target: &Target, which: &str, enabled: bool) -> Outcome {
    let (client, deployment) = context.deployment(target)?;
    let route = pick(client.routes(deployment.id)?, which)?;
    let route = client.patch_route(deployment.id, route.id, enabled)?;
    let word = if route.enabled { "Enabled" } else { "Disabled" };
    context.output.result(&route, |_| format!("{word} {}", printable(&route.pattern)));
    Ok(())
}

/// The route of that id or pattern. The API keeps patterns in a normal form with a lower-case host, so case is not looked at
/// where nothing fits exactly; a pattern in two zones needs the id.
fn pick(routes: Vec<Route>, which: &str) -> Outcome<Route> {
    let fits: Vec<&Route> = routes.iter().filter(|r| r.id.to_string() == which || r.pattern == which).collect();
    let fits = match fits.is_empty() {
        true => routes.iter().filter(|route| route.pattern.eq_ignore_ascii_case(which)).collect(),
        false => fits,
    };
    match fits.as_slice() {
        [route] => Ok((*route).clone()),
        [] => Err(Failure::new(Kind::NotFound, format!("no route {which:?}"))
            .hint("`selvage routes list` shows those there are")),
        _ => Err(Failure::usage(format!("{which:?} is the pattern of {} routes", fits.len())).hint("give its id")),
    }
}

#[cfg(test)]
mod tests {
    use model::{DeploymentId, RouteId};

    use super::*;

    fn route(pattern: &str, zone: Option<&str>) -> Route {
        let zone_id = zone.map(str::to_owned);
        Route {
            id: RouteId::new(),
            deployment_id: DeploymentId::new(),
            pattern: pattern.into(),
            zone_id,
            enabled: true,
        }
    }

    #[test]
    fn routes_are_picked_by_id_or_pattern() {
        let routes =
            vec![route("a.example/*", None), route("b.example/*", Some("z1")), route("b.example/*", Some("z2"))];
        let pick = |which: &str| pick(routes.clone(), which).map(|route| route.id).map_err(|failure| failure.kind);
        assert_eq!(pick("a.example/*"), Ok(routes[0].id));
        assert_eq!(pick("A.Example/*"), Ok(routes[0].id));
        assert_eq!(pick(&routes[2].id.to_string()), Ok(routes[2].id));
        assert_eq!(pick("b.example/*"), Err(Kind::Usage));
        assert_eq!(pick("c.example/*"), Err(Kind::NotFound));
    }
}
