//! `env list|set|unset`.

use model::{EnvType, EnvVarSpec};
use serde_json::json;

use crate::args::Target;
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::prompt;

/// Lists names and types.
pub(crate) fn list(context: &Context, target: &Target) -> Outcome {
    let (client, deployment) = context.deployment(target)?;
    let vars = client.env(deployment.id)?;
    context.output.result(&vars, |output| {
        let rows = vars.iter().map(|var| vec![var.key.clone(), var.kind.as_str().to_owned()]).collect();
        output.table(&["key", "type"], rows, "No variables.")
    });
    Ok(())
}

/// Sets one; a secret's value never comes from the command line, where others could see it.
pub(crate) fn set(context: &Context, target: &Target, key: &str, value: Option<String>, secret: bool) -> Outcome {
    // `KEY=VALUE` is what hands type.
    let (key, value) = match (key.split_once('='), value) {
        (Some((key, value)), None) => (key, Some(value.to_owned())),
        (_, value) => (key, value),
    };
    model::rules::env_key("key", key).map_err(|error| Failure::usage(error.to_string()))?;
    if secret && value.is_some() {
        return Err(Failure::usage("a secret's value is not taken from the command line, where others can see it")
            .hint(format!("`printf %s \"$VALUE\" | selvage env set {key} --secret`, or leave it out to be asked")));
    }
    let (client, deployment) = context.deployment(target)?;
    let value = match value {
        Some(value) => value,
        None => prompt::secret(&format!("Value of {key}"))?,
    };
    let kind = if secret { EnvType::Secret } else { EnvType::Plain };
    let var = client.set_env(deployment.id, key, &EnvVarSpec { kind, value })?;
    context.output.result(&var, |_| format!("Set {} ({}) of {}", var.key, var.kind.as_str(), deployment.name));
    Ok(())
}

/// Removes one.
pub(crate) fn unset(context: &Context, target: &Target, key: &str) -> Outcome {
    let (client, deployment) = context.deployment(target)?;
    client.delete_env(deployment.id, key)?;
    context.output.result(&json!({"key": key, "deleted": true}), |_| format!("Removed {key} of {}", deployment.name));
    Ok(())
}
