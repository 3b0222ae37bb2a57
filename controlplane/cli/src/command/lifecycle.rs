//! What a deployment is and goes through: `list`, `versions`, `activate`, `rollback`, `pause`, `resume`, `delete`.

use model::{Activation, Deployment, State, Version, VersionStatus};
use serde_json::json;

use crate::args::Target;
use crate::context::Context;
use crate::failure::Outcome;
use crate::output::{Ink, Output, bytes, printable};
use crate::prompt;

/// Lists a project's deployments.
pub(crate) fn list(context: &Context, slug: &str) -> Outcome {
    let client = context.client()?;
    let mut deployments = match context.project(&client, slug)? {
        Some(project) => client.deployments(project.id)?,
        None => Vec::new(),
    };
    deployments.retain(|deployment| deployment.status != State::Deleted);
    context.output.result(&deployments, |output| {
        let rows = deployments.iter().map(|d| {
            let version = d.active_version.map_or_else(|| "-".to_owned(), |v| format!("v{}", v.version_number));
            vec![printable(&d.name), d.status.to_string(), version, d.url.clone(), d.updated_at.to_string()]
        });
        output.table(&["name", "status", "version", "url", "updated"], rows.collect(), "No deployments.")
    });
    Ok(())
}

/// Lists a deployment's versions.
pub(crate) fn versions(context: &Context, target: &Target) -> Outcome {
    let (client, deployment) = context.deployment(target)?;
    let versions = client.versions(deployment.id)?;
    context.output.result(&versions, |output| {
        let rows = versions.iter().map(version_row).collect();
        output.table(&["version", "status", "size", "created", "hash", "message"], rows, "No versions.")
    });
    Ok(())
}

fn version_row(version: &Version) -> Vec<String> {
    let status = match version.status {
        VersionStatus::Valid if version.active => "active",
        status => status.as_str(),
    };
    let remark = match (&version.error, &version.metadata.message) {
        (Some(error), _) => &error.message,
        (None, Some(message)) => message,
        (None, None) => "",
    };
    let hash = version.artifact_hash.strip_prefix("sha256:").unwrap_or(&version.artifact_hash);
    vec![
        format!("v{}", version.version_number),
        status.to_owned(),
        bytes(version.size_bytes),
        version.created_at.to_string(),
        hash.chars().take(12).collect(),
        printable(remark.lines().next().unwrap_or_default()),
    ]
}

/// Makes a version the active one.
pub(crate) fn activate(context: &Context, target: &Target, version: u32) -> Outcome {
    let (client, deployment) = context.deployment(target)?;
    let spinner = context.output.spinner("activating");
    let activation = client.activate(deployment.id, version);
    spinner.finish_and_clear();
    say_activation(&context.output, "Activated", &activation?);
    Ok(())
}

/// Goes back to the previous version, or the one named.
pub(crate) fn rollback(context: &Context, target: &Target, version: Option<u32>) -> Outcome {
    let (client, deployment) = context.deployment(target)?;
    let spinner = context.output.spinner("rolling back");
    let activation = client.rollback(deployment.id, version);
    spinner.finish_and_clear();
    say_activation(&context.output, "Rolled back to", &activation?);
    Ok(())
}

fn say_activation(output: &Output, verb: &str, activation: &Activation) {
    output.result(activation, |output| {
        format!(
            "{} {} of {} on {}\n{}",
            output.ink(Ink::Green, verb),
            output.ink(Ink::Bold, &format!("v{}", activation.version.version_number)),
            printable(&activation.deployment.name),
            nodes(activation),
            activation.deployment.url
        )
    });
}

/// `1 node`, `2 of 3 nodes`.
pub(crate) fn nodes(activation: &Activation) -> String {
    let Activation { nodes_acked: acked, nodes_connected: connected, .. } = *activation;
    match (acked, connected) {
        (_, 0) => "no node: none is connected".to_owned(),
        (1, 1) => "1 node".to_owned(),
        (acked, connected) if acked == connected => format!("{acked} nodes"),
        (acked, connected) => format!("{acked} of {connected} nodes"),
    }
}

/// Stops serving.
pub(crate) fn pause(context: &Context, target: &Target) -> Outcome {
    let (client, deployment) = context.deployment(target)?;
    let deployment = client.pause(deployment.id)?;
    say_state(&context.output, &deployment);
    Ok(())
}

/// Serves again.
pub(crate) fn resume(context: &Context, target: &Target) -> Outcome {
    let (client, deployment) = context.deployment(target)?;
    let deployment = client.resume(deployment.id)?;
    say_state(&context.output, &deployment);
    Ok(())
}

fn say_state(output: &Output, deployment: &Deployment) {
    output.result(deployment, |output| {
        let ink = if deployment.status == State::Active { Ink::Green } else { Ink::Yellow };
        format!("{} is {}", printable(&deployment.name), output.ink(ink, deployment.status.as_str()))
    });
}

/// Deletes a deployment, after asking.
pub(crate) fn delete(context: &Context, target: &Target, yes: bool) -> Outcome {
    let (client, deployment) = context.deployment(target)?;
    let name = printable(&deployment.name);
    if !yes && !prompt::confirm(&format!("Delete {name} ({}) and all its versions?", deployment.url))? {
        context.output.result(&json!({"id": deployment.id, "deleted": false}), |_| "Not deleted.".to_owned());
        return Ok(());
    }
    client.delete_deployment(deployment.id)?;
    context.output.result(&json!({"id": deployment.id, "deleted": true}), |_| format!("Deleted {name}."));
    Ok(())
}

#[cfg(test)]
mod tests {
    use model::{DeploymentId, Timestamp, VersionId, VersionMetadata};

    use super::*;

    #[test]
    fn a_version_shows_state_hash_and_first_line_of_its_error() {
        let version = Version {
            id: VersionId::new(),
            deployment_id: DeploymentId::new(),
            version_number: 3,
            artifact_hash: format!("sha256:{}", "ab".repeat(32)),
            size_bytes: 2048,
            status: VersionStatus::Invalid,
            error: Some(model::ModuleError { kind: "syntax".into(), message: "bad\nworse".into(), location: None }),
            has_source_map: false,
            active: false,
            metadata: VersionMetadata::default(),
            created_at: Timestamp::from_unix_ms(0),
        };
        let row = version_row(&version);
        assert_eq!(row, ["v3", "invalid", "2.0 KiB", "1970-01-01T00:00:00.000Z", "abababababab", "bad"]);
    }
}
