//! Deployments.

use axum::extract::State;
use model::{Activation, CreateDeployment, Deployment, DeploymentId, Envelope, ProjectId, Rollback};
use store::NewDeployment;

use crate::auth::Caller;
use crate::error::{ApiResult, Reply};
use crate::extract::{Body, Ids, MaybeBody, PageQuery, Paged};
use crate::handlers::routes;
use crate::openapi::Problems;
use crate::{App, ops};

/// Makes a deployment, with its routes, variables and bindings.
#[utoipa::path(post, path = "/v1/projects/{project_id}/deployments", operation_id = "create_deployment",
    tag = "deployments", params(("project_id" = ProjectId, Path)), request_body = CreateDeployment,
    responses((status = 201, description = "Made; upload a version next", body = Envelope<Deployment>), Problems))]
pub(crate) async fn create(
    State(app): State<App>,
    caller: Caller,
    Ids(project): Ids<ProjectId>,
    Body(request): Body<CreateDeployment>,
) -> ApiResult<Deployment> {
    caller.project(&app, project).await?;
    request.validate()?;
    let wanted = request.routes.iter().enumerate();
    let routes = wanted.map(|(i, route)| routes::normalise(&app, route, &format!("routes[{i}].pattern")));
    let new = NewDeployment {
        routes: routes.collect::<Result<_, _>>()?,
        name: request.name,
        subdomain: request.subdomain,
        env_vars: request.env_vars,
        bindings: request.bindings,
    };
    let row = app.store.create_deployment(project, &new).await?;
    Ok(Reply::created(row.to_api(&app.platform)))
}

/// Lists a project's deployments.
#[utoipa::path(get, path = "/v1/projects/{project_id}/deployments", operation_id = "list_deployments",
    tag = "deployments", params(("project_id" = ProjectId, Path), PageQuery),
    responses((status = 200, description = "In the order they were made", body = Envelope<Vec<Deployment>>), Problems))]
pub(crate) async fn list(
    State(app): State<App>,
    caller: Caller,
    Ids(project): Ids<ProjectId>,
    Paged(page): Paged,
) -> ApiResult<Vec<Deployment>> {
    caller.project(&app, project).await?;
    let rows = app.store.deployments(project, &page).await?;
    let items = rows.iter().map(|row| row.to_api(&app.platform)).collect();
    Ok(Reply::page(items, page.limit, |deployment: &Deployment| deployment.id.to_string()))
}

/// Shows a deployment.
#[utoipa::path(get, path = "/v1/deployments/{deployment_id}", operation_id = "get_deployment", tag = "deployments",
    params(("deployment_id" = DeploymentId, Path)),
    responses((status = 200, description = "The deployment", body = Envelope<Deployment>), Problems))]
pub(crate) async fn get(State(app): State<App>, caller: Caller, Ids(id): Ids<DeploymentId>) -> ApiResult<Deployment> {
    Ok(Reply::ok(caller.deployment(&app, id).await?.to_api(&app.platform)))
}

/// Deletes a deployment. Its subdomain and routes are free when this answers.
#[utoipa::path(delete, path = "/v1/deployments/{deployment_id}", operation_id = "delete_deployment",
    tag = "deployments", params(("deployment_id" = DeploymentId, Path)),
    responses((status = 200, description = "What is left of it", body = Envelope<Deployment>), Problems))]
pub(crate) async fn delete(
    State(app): State<App>,
    caller: Caller,
    Ids(id): Ids<DeploymentId>,
) -> ApiResult<Deployment> {
    caller.deployment(&app, id).await?;
    let done = ops::run(&app, id, |app| ops::delete(app, id)).await?;
    Ok(Reply::ok(done.result.to_api(&app.platform)).with_messages(done.messages))
}

/// Rolls back: without a body to the version that was active when the present one was activated.
#[utoipa::path(post, path = "/v1/deployments/{deployment_id}/rollback", operation_id = "rollback",
    tag = "deployments", params(("deployment_id" = DeploymentId, Path)), request_body = Option<Rollback>,
    responses((status = 200, description = "The earlier version serves", body = Envelope<Activation>), Problems))]
pub(crate) async fn rollback(
    State(app): State<App>,
    caller: Caller,
    Ids(id): Ids<DeploymentId>,
    MaybeBody(request): MaybeBody<Rollback>,
) -> ApiResult<Activation> {
    caller.deployment(&app, id).await?;
    let done = ops::run(&app, id, move |app| ops::rollback(app, id, request.version)).await?;
    Ok(Reply::ok(done.result).with_messages(done.messages))
}

/// Stops serving: clients get 503. Pausing a paused deployment changes nothing.
#[utoipa::path(post, path = "/v1/deployments/{deployment_id}/pause", operation_id = "pause", tag = "deployments",
    params(("deployment_id" = DeploymentId, Path)),
    responses((status = 200, description = "Paused", body = Envelope<Deployment>), Problems))]
pub(crate) async fn pause(State(app): State<App>, caller: Caller, Ids(id): Ids<DeploymentId>) -> ApiResult<Deployment> {
    set_paused(app, caller, id, true).await
}

/// Serves again. Resuming an active deployment changes nothing.
#[utoipa::path(post, path = "/v1/deployments/{deployment_id}/resume", operation_id = "resume", tag = "deployments",
    params(("deployment_id" = DeploymentId, Path)),
    responses((status = 200, description = "Active", body = Envelope<Deployment>), Problems))]
pub(crate) async fn resume(
    State(app): State<App>,
    caller: Caller,
    Ids(id): Ids<DeploymentId>,
) -> ApiResult<Deployment> {
    set_paused(app, caller, id, false).await
}

async fn set_paused(app: App, caller: Caller, id: DeploymentId, paused: bool) -> ApiResult<Deployment> {
    caller.deployment(&app, id).await?;
    let done = ops::run(&app, id, move |app| ops::set_paused(app, id, paused)).await?;
    Ok(Reply::ok(done.result.to_api(&app.platform)).with_messages(done.messages))
}
