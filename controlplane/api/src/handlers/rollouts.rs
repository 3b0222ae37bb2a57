//! A deployment's rollout: begin, change, look at, stop.

use axum::extract::State;
use model::{DeploymentId, Envelope, Rollout, SetRollout};

use crate::App;
use crate::auth::Caller;
use crate::error::{ApiError, ApiResult, Reply};
use crate::extract::{Body, Ids};
use crate::openapi::Problems;
use crate::{ops, rollouts};

/// Shows the last rollout, and how the version on trial fares.
#[utoipa::path(get, path = "/v1/deployments/{deployment_id}/rollout", operation_id = "get_rollout", tag = "deployments",
    params(("deployment_id" = DeploymentId, Path)),
    responses((status = 200, description = "It", body = Envelope<Rollout>), Problems))]
pub(crate) async fn get(State(app): State<App>, caller: Caller, Ids(id): Ids<DeploymentId>) -> ApiResult<Rollout> {
    caller.deployment(&app, id).await?;
    let row = app.store.rollout(id).await?.ok_or_else(|| ApiError::not_found("rollout"))?;
    Ok(Reply::ok(rollouts::show(&app, &row).await?))
}

/// Gives a version a share of the requests beside the active one, or changes its share. A client stays with its version. With 100
/// percent the version becomes the active one. Where more of its requests fail than may, the rollout ends by itself.
#[utoipa::path(put, path = "/v1/deployments/{deployment_id}/rollout", operation_id = "set_rollout", tag = "deployments",
    params(("deployment_id" = DeploymentId, Path)), request_body = SetRollout,
    responses((status = 200, description = "It runs, or is complete", body = Envelope<Rollout>), Problems))]
pub(crate) async fn set(
    State(app): State<App>,
    caller: Caller,
    Ids(id): Ids<DeploymentId>,
    Body(request): Body<SetRollout>,
) -> ApiResult<Rollout> {
    caller.deployment(&app, id).await?;
    let done = ops::run(&app, id, move |app| rollouts::set(app, id, request)).await?;
    Ok(Reply::ok(done.result).with_messages(done.messages))
}

/// Sends all requests to the active version again.
#[utoipa::path(delete, path = "/v1/deployments/{deployment_id}/rollout", operation_id = "stop_rollout",
    tag = "deployments", params(("deployment_id" = DeploymentId, Path)),
    responses((status = 200, description = "It is stopped", body = Envelope<Rollout>), Problems))]
pub(crate) async fn stop(State(app): State<App>, caller: Caller, Ids(id): Ids<DeploymentId>) -> ApiResult<Rollout> {
    caller.deployment(&app, id).await?;
    let done = ops::run(&app, id, move |app| rollouts::stop(app, id)).await?;
    Ok(Reply::ok(done.result).with_messages(done.messages))
}
