//! What operators look at and set: `config show`, `plan`.

use model::{AccountId, SetPlan, Steering, UpdateAccount};
use std::path::Path;

use crate::args::Target;
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::output::{Ink, bytes, printable};

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

/// Lists plans.
pub(crate) fn plans(context: &Context) -> Outcome {
    let plans = context.client()?.plans()?;
    context.output.result(&plans, |output| {
        let rows = plans.iter().map(|plan| {
            let most = |most: Option<u32>| most.map_or_else(|| "any".to_owned(), |most| most.to_string());
            let (deployments, routes) = (most(plan.deployments_max), most(plan.routes_max));
            let modules = plan.artifact_bytes_max.map_or_else(|| "any".to_owned(), bytes);
            let (cpu_ms, weight) = (plan.cpu_ms.to_string(), plan.weight.to_string());
            vec![printable(&plan.tier), cpu_ms, weight, deployments, routes, modules]
        });
        let titles = ["tier", "CPU ms", "weight", "deployments", "routes", "modules"];
        output.table(&titles, rows.collect(), "No plans.")
    });
    Ok(())
}

/// Makes or changes a plan.
pub(crate) fn set_plan(context: &Context, tier: &str, plan: &SetPlan) -> Outcome {
    model::rules::tier("tier", tier)
        .and_then(|()| plan.validate())
        .map_err(|error| Failure::usage(error.to_string()))?;
    let plan = context.client()?.set_plan(tier, plan)?;
    context.output.result(&plan, |_| {
        format!("Set {}: {} ms of CPU time a request, weight {}", printable(&plan.tier), plan.cpu_ms, plan.weight)
    });
    Ok(())
}

/// Prints the rules for packets.
pub(crate) fn steering(context: &Context) -> Outcome {
    show_steering(context, &context.client()?.steering()?);
    Ok(())
}

/// Replaces the rules for packets.
pub(crate) fn set_steering(context: &Context, file: &Path) -> Outcome {
    let unreadable = |error: std::io::Error| Failure::usage(format!("cannot read {}: {error}", file.display()));
    let text = match file.as_os_str() == "-" {
        true => std::io::read_to_string(std::io::stdin()).map_err(unreadable)?,
        false => std::fs::read_to_string(file).map_err(unreadable)?,
    };
    let rules: Steering =
        serde_json::from_str(&text).map_err(|error| Failure::usage(format!("{}: {error}", file.display())))?;
    show_steering(context, &context.client()?.set_steering(&rules)?);
    Ok(())
}

fn show_steering(context: &Context, rules: &Steering) {
    context.output.result(rules, |_| serde_json::to_string_pretty(rules).expect("strings and numbers serialise"));
}

/// Gives an account another tier.
pub(crate) fn assign_plan(context: &Context, account: AccountId, plan_tier: String) -> Outcome {
    let account = context.client()?.update_account(account, &UpdateAccount { plan_tier })?;
    context
        .output
        .result(&account, |_| format!("{} is {} now", printable(&account.email), printable(&account.plan_tier)));
    Ok(())
}
