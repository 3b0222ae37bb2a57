//! Routes of deployments.

use axum::extract::State;
use model::{CreateRoute, DeploymentId, Envelope, PatchRoute, Route, RouteId};
use store::NewRoute;

use crate::auth::Caller;
use crate::error::{ApiError, ApiResult, Reply};
use crate::extract::{Body, Ids, PageQuery, Paged};
use crate::openapi::Problems;
use crate::{App, ops};

/// A route as the compiler takes it: one spelling for each set of requests, so that the store sees doubles.
pub(crate) fn normalise(app: &App, route: &CreateRoute, field: &str) -> Result<NewRoute, ApiError> {
    let pattern = plan::check_pattern(&route.pattern, &app.platform_domain);
    let pattern = pattern.map_err(|error| ApiError::field(field, error.to_string()))?.to_string();
    Ok(NewRoute { pattern, zone_id: route.zone_id.clone(), enabled: route.enabled.unwrap_or(true) })
}

/// Lists a deployment's routes.
#[utoipa::path(get, path = "/v1/deployments/{deployment_id}/routes", operation_id = "list_routes", tag = "routes",
    params(("deployment_id" = DeploymentId, Path), PageQuery),
    responses((status = 200, description = "In the order they were made", body = Envelope<Vec<Route>>), Problems))]
pub(crate) async fn list(
    State(app): State<App>,
    caller: Caller,
    Ids(id): Ids<DeploymentId>,
    Paged(page): Paged,
) -> ApiResult<Vec<Route>> {
    caller.deployment(&app, id).await?;
    Ok(Reply::page(app.store.routes(id, &page).await?, page.limit, |route| route.id.to_string()))
}

/// Adds a route. One that another deployment has, in whatever spelling, is a conflict.
#[utoipa::path(post, path = "/v1/deployments/{deployment_id}/routes", operation_id = "create_route", tag = "routes",
    params(("deployment_id" = DeploymentId, Path)), request_body = CreateRoute,
    responses((status = 201, description = "In force, unless disabled", body = Envelope<Route>), Problems))]
pub(crate) async fn create(
    State(app): State<App>,
    caller: Caller,
    Ids(id): Ids<DeploymentId>,
    Body(request): Body<CreateRoute>,
) -> ApiResult<Route> {
    caller.deployment(&app, id).await?;
    request.validate()?;
    let new = normalise(&app, &request, "pattern")?;
    let done = ops::run(&app, id, move |app| ops::add_route(app, id, new)).await?;
    Ok(Reply::created(done.result).with_messages(done.messages))
}

/// Puts a route in or out of force.
#[utoipa::path(patch, path = "/v1/deployments/{deployment_id}/routes/{route_id}", operation_id = "update_route",
    tag = "routes", params(("deployment_id" = DeploymentId, Path), ("route_id" = RouteId, Path)),
    request_body = PatchRoute,
    responses((status = 200, description = "The route", body = Envelope<Route>), Problems))]
pub(crate) async fn update(
    State(app): State<App>,
    caller: Caller,
    Ids((id, route)): Ids<(DeploymentId, RouteId)>,
    Body(request): Body<PatchRoute>,
) -> ApiResult<Route> {
    caller.deployment(&app, id).await?;
    let done = ops::run(&app, id, move |app| ops::patch_route(app, id, route, request.enabled)).await?;
    Ok(Reply::ok(done.result).with_messages(done.messages))
}

/// Takes a route away.
#[utoipa::path(delete, path = "/v1/deployments/{deployment_id}/routes/{route_id}", operation_id = "delete_route",
    tag = "routes", params(("deployment_id" = DeploymentId, Path), ("route_id" = RouteId, Path)),
    responses((status = 200, description = "The route as it was", body = Envelope<Route>), Problems))]
pub(crate) async fn delete(
    State(app): State<App>,
    caller: Caller,
    Ids((id, route)): Ids<(DeploymentId, RouteId)>,
) -> ApiResult<Route> {
    caller.deployment(&app, id).await?;
    let done = ops::run(&app, id, move |app| ops::delete_route(app, id, route)).await?;
    Ok(Reply::ok(done.result).with_messages(done.messages))
}
