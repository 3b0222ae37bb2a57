//! A version on trial: `rollout set`, `rollout show`, `rollout stop`.

use model::{Fares, FieldError, Rollout, RolloutStatus, SetRollout};

use crate::args::Target;
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::output::{Ink, Output, printable};

/// Gives a version a share of the requests, or another one.
pub(crate) fn set(context: &Context, target: &Target, request: &SetRollout) -> Outcome {
    let usage = |error: FieldError| Failure::usage(error.to_string());
    request.share().and_then(|_| request.error_limit()).map_err(usage)?;
    let (client, deployment) = context.deployment(target)?;
    let rollout = client.set_rollout(deployment.id, request)?;
    say(&context.output, &printable(&deployment.name), &rollout);
    Ok(())
}

/// Shows the last rollout.
pub(crate) fn show(context: &Context, target: &Target) -> Outcome {
    let (client, deployment) = context.deployment(target)?;
    say(&context.output, &printable(&deployment.name), &client.rollout(deployment.id)?);
    Ok(())
}

/// Sends all requests to the active version again.
pub(crate) fn stop(context: &Context, target: &Target) -> Outcome {
    let (client, deployment) = context.deployment(target)?;
    say(&context.output, &printable(&deployment.name), &client.stop_rollout(deployment.id)?);
    Ok(())
}

fn say(output: &Output, name: &str, rollout: &Rollout) {
    output.result(rollout, |output| text(output, name, rollout));
}

fn text(output: &Output, name: &str, rollout: &Rollout) -> String {
    let version = output.ink(Ink::Bold, &format!("v{}", rollout.version_number));
    match rollout.status {
        RolloutStatus::Running => format!(
            "{version} of {name} gets {} % of the clients\nit: {}\nthe active version: {}\nends by itself past {} % errors",
            rollout.percent,
            fares(&rollout.candidate),
            fares(&rollout.active),
            rollout.error_limit_percent
        ),
        RolloutStatus::Completed => format!("{version} is the active version of {name}"),
        RolloutStatus::Stopped => format!("the rollout of {version} of {name} was stopped"),
        RolloutStatus::RolledBack => {
            let reason = rollout.reason.as_deref().map(printable).unwrap_or_default();
            format!("{}: {version} of {name}: {reason}", output.ink(Ink::Red, "rolled back"))
        }
    }
}

fn fares(fares: &Fares) -> String {
    format!("{} requests, {} failed", fares.requests, fares.errors)
}

#[cfg(test)]
mod tests {
    use model::{DeploymentId, Timestamp};

    use super::*;

    #[test]
    fn what_became_of_it_is_said() {
        let rollout = |status, reason: Option<&str>| Rollout {
            deployment_id: DeploymentId::new(),
            version_number: 3,
            percent: 12.5,
            error_limit_percent: 5.0,
            status,
            reason: reason.map(str::to_owned),
            candidate: Fares { requests: 40, errors: 1 },
            active: Fares { requests: 400, errors: 0 },
            created_at: Timestamp::from_unix_ms(0),
            updated_at: Timestamp::from_unix_ms(0),
        };
        let output = Output::new(false, crate::output::Colour::Never);
        let says = |status, reason| text(&output, "shop", &rollout(status, reason));
        let running = says(RolloutStatus::Running, None);
        assert!(running.contains("12.5 %") && running.contains("40 requests, 1 failed"), "{running}");
        let back = says(RolloutStatus::RolledBack, Some("9 of 30 requests failed\u{1b}[2J"));
        assert!(back.contains("9 of 30") && !back.contains('\u{1b}'), "{back}");
    }
}
