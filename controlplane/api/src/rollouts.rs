//! Rollouts: begun, changed and ended by their owners, and ended by what becomes of their requests.
//!
//! Nodes decide for each request which of two versions it goes to, and say in each heartbeat how both fare. [`watch`] looks once a
//! second: where more of the new version's requests fail than may, all go to the active version again. *Bounds:* judged from
//! `JUDGED_REQUESTS_MIN` requests on. *Failures:* a rollout that could not be ended is tried again a second later.

use std::pin::pin;
use std::time::Duration;

use model::{DeploymentId, Rollout, RolloutStatus, SetRollout, rules::FieldError};
use store::{RolloutRow, VersionRef};

use crate::error::ApiError;
use crate::ops::{self, Changed};
use crate::{App, places, serve};

/// Between two looks at how versions fare.
const LOOK: Duration = Duration::from_secs(1);
/// All requests, in hundredths of a percent.
const WHOLE: u32 = plane_abi::limits::SHARE_WHOLE;

/// Begins a rollout, changes its share, or completes it.
pub(crate) async fn set(app: App, id: DeploymentId, request: SetRollout) -> Result<Changed<Rollout>, ApiError> {
    let refused = |error: FieldError| ApiError::field(error.field, error.message);
    let (share, limit) = (request.share().map_err(refused)?, request.error_limit().map_err(refused)?);
    if share == WHOLE {
        // With the rollout's own limits it is on record as complete.
        let ours = |row: &RolloutRow| row.status == RolloutStatus::Running && row.version_number == request.version;
        if !app.store.rollout(id).await?.as_ref().is_some_and(ours) {
            app.store.set_rollout(id, request.version, WHOLE - 1, limit).await?;
        }
        let done = ops::activate(app.clone(), id, VersionRef::Number(request.version)).await?;
        let row = app.store.rollout(id).await?.ok_or_else(|| ApiError::not_found("rollout"))?;
        return Ok(Changed { result: shown(&app, &row, None), messages: done.messages });
    }
    let (row, _) = app.store.set_rollout(id, request.version, share, limit).await?;
    let published = ops::publish(&app).await?;
    if let Some(reason) = published.refusal() {
        app.store.end_rollout(id, RolloutStatus::RolledBack, Some(&reason)).await?;
        ops::publish(&app).await?;
        return Err(ops::refused_by_node(&reason));
    }
    Ok(Changed { result: show(&app, &row).await?, messages: ops::remarks(&published) })
}

/// Sends all requests to the active version again.
pub(crate) async fn stop(app: App, id: DeploymentId) -> Result<Changed<Rollout>, ApiError> {
    let Some((row, _)) = app.store.end_rollout(id, RolloutStatus::Stopped, None).await? else {
        return Err(ApiError::not_found("rollout that runs"));
    };
    let published = ops::publish(&app).await?;
    Ok(Changed { result: show(&app, &row).await?, messages: ops::remarks(&published) })
}

/// A deployment's last rollout, and how it fares.
pub(crate) async fn show(app: &App, row: &RolloutRow) -> Result<Rollout, ApiError> {
    let active = app.store.deployment(row.deployment_id).await?.and_then(|deployment| deployment.active);
    Ok(shown(app, row, active.map(|active| active.version_number)))
}

fn shown(app: &App, row: &RolloutRow, active: Option<u32>) -> Rollout {
    if row.status != RolloutStatus::Running {
        return row.to_api(Default::default(), Default::default());
    }
    let fares = |version| app.fleet.fares(row.deployment_id, version);
    row.to_api(fares(row.version_number), active.map(fares).unwrap_or_default())
}

/// Ends rollouts whose versions fail too often, and tells nodes what they are to do. Ends with the service.
pub(crate) async fn watch(app: App) {
    let mut stop = pin!(serve::stopping(app.stopping()));
    loop {
        tokio::select! {
            () = stop.as_mut() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
        // Another process may have been told.
        if let Err(error) = places::refresh(&app).await {
            tracing::error!(?error, "cannot look at where nodes stand");
        }
        let running = match app.store.running_rollouts().await {
            Ok(running) => running,
            Err(error) => {
                tracing::error!(%error, "cannot look at rollouts");
                continue;
            }
        };
        for row in running {
            if let Err(error) = judge(&app, row).await {
                tracing::error!(?error, "a rollout is to be ended, and could not be");
            }
        }
    }
}

async fn judge(app: &App, row: RolloutRow) -> Result<(), ApiError> {
    let (id, version) = (row.deployment_id, row.version_number);
    let fares = app.fleet.fares(id, version);
    if !fares.crosses(row.error_limit) {
        return Ok(());
    }
    let reason = format!("{} of {} requests failed", fares.errors, fares.requests);
    ops::run(app, id, move |app| async move {
        // Its owner may have ended or begun another meanwhile.
        let same = app.store.rollout(id).await?.is_some_and(|now| now.version_id == row.version_id);
        if same && app.store.end_rollout(id, RolloutStatus::RolledBack, Some(&reason)).await?.is_some() {
            tracing::warn!(deployment = %id, version, reason, "rollout ended: all requests go to the active version");
            ops::publish(&app).await?;
        }
        Ok(())
    })
    .await
}
