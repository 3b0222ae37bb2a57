//! Variables of deployments. Their values go in, and are never given back.

use axum::extract::State;
use model::{DeploymentId, EnvVar, EnvVarSpec, Envelope, rules};

use crate::auth::Caller;
use crate::error::{ApiResult, Reply};
use crate::extract::{Body, Ids};
use crate::openapi::Problems;
use crate::{App, ops};

/// Lists names and types of a deployment's variables; all of them, as there are at most 128.
#[utoipa::path(get, path = "/v1/deployments/{deployment_id}/env", operation_id = "list_env", tag = "env",
    params(("deployment_id" = DeploymentId, Path)),
    responses((status = 200, description = "By name, without values", body = Envelope<Vec<EnvVar>>), Problems))]
pub(crate) async fn list(State(app): State<App>, caller: Caller, Ids(id): Ids<DeploymentId>) -> ApiResult<Vec<EnvVar>> {
    caller.deployment(&app, id).await?;
    Ok(Reply::page(app.store.env(id).await?, u32::MAX, |var| var.key.clone()))
}

/// Sets a variable. A deployment that serves starts again with it.
#[utoipa::path(put, path = "/v1/deployments/{deployment_id}/env/{key}", operation_id = "set_env", tag = "env",
    params(("deployment_id" = DeploymentId, Path), ("key" = String, Path)), request_body = EnvVarSpec,
    responses((status = 200, description = "Set", body = Envelope<EnvVar>), Problems))]
pub(crate) async fn set(
    State(app): State<App>,
    caller: Caller,
    Ids((id, key)): Ids<(DeploymentId, String)>,
    Body(request): Body<EnvVarSpec>,
) -> ApiResult<EnvVar> {
    caller.deployment(&app, id).await?;
    rules::env_key("key", &key)?;
    rules::env_value("value", &request.value)?;
    let done = ops::run(&app, id, move |app| ops::set_env(app, id, key, request)).await?;
    Ok(Reply::ok(done.result).with_messages(done.messages))
}

/// Takes a variable away.
#[utoipa::path(delete, path = "/v1/deployments/{deployment_id}/env/{key}", operation_id = "delete_env", tag = "env",
    params(("deployment_id" = DeploymentId, Path), ("key" = String, Path)),
    responses((status = 200, description = "The variable as it was", body = Envelope<EnvVar>), Problems))]
pub(crate) async fn delete(
    State(app): State<App>,
    caller: Caller,
    Ids((id, key)): Ids<(DeploymentId, String)>,
) -> ApiResult<EnvVar> {
    caller.deployment(&app, id).await?;
    let done = ops::run(&app, id, move |app| ops::delete_env(app, id, key)).await?;
    Ok(Reply::ok(done.result).with_messages(done.messages))
}
