//! What is behind the deployments: nodes, and the configuration as it is compiled now.

use axum::extract::State;
use model::{DeploymentId, Envelope, Node, PatchNode, Pop, Region, SetPop};
use plan::edge::{EdgeConfig, EdgeSnapshot};
use plane_abi::snapshot::Snapshot;
use serde_json::Value;

use crate::auth::Caller;
use crate::error::{ApiError, ApiResult, Reply};
use crate::extract::{Body, Ids};
use crate::openapi::Problems;
use crate::{App, ops, places};

/// Where the debug form says that artifacts are: a place in the artifact store, not a URL that answers.
const ARTIFACT_BASE: &str = "artifacts";

/// Whether the process answers. Needs no token and touches nothing.
#[utoipa::path(get, path = "/healthz", operation_id = "healthz", tag = "operator", security(()),
    responses((status = 200, description = "It does", body = String, content_type = "text/plain")))]
pub(crate) async fn healthz() -> &'static str {
    "ok\n"
}

/// Lists nodes. For operators.
#[utoipa::path(get, path = "/v1/nodes", operation_id = "list_nodes", tag = "operator",
    responses((status = 200, description = "By name", body = Envelope<Vec<Node>>), Problems))]
pub(crate) async fn nodes(State(app): State<App>, caller: Caller) -> ApiResult<Vec<Node>> {
    caller.admin()?;
    Ok(Reply::page(places::nodes(&app).await?, u32::MAX, |node| node.name.clone()))
}

/// Says where a node stands, or what it is to do with requests. Takes nodes that have not come yet. For operators.
#[utoipa::path(patch, path = "/v1/nodes/{node}", operation_id = "update_node", tag = "operator",
    params(("node" = String, Path, min_length = 1, max_length = 63, pattern = "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$")),
    request_body = PatchNode,
    responses((status = 200, description = "All nodes, by name", body = Envelope<Vec<Node>>), Problems))]
pub(crate) async fn update_node(
    State(app): State<App>,
    caller: Caller,
    Ids(name): Ids<String>,
    Body(patch): Body<PatchNode>,
) -> ApiResult<Vec<Node>> {
    caller.admin()?;
    model::place_name("node", &name)?;
    let nodes = ops::detached(&app, move |app| places::set(app, name, patch)).await?;
    Ok(Reply::page(nodes, u32::MAX, |node| node.name.clone()))
}

/// Lists points of presence. For operators.
#[utoipa::path(get, path = "/v1/pops", operation_id = "list_pops", tag = "operator",
    responses((status = 200, description = "By name", body = Envelope<Vec<Pop>>), Problems))]
pub(crate) async fn pops(State(app): State<App>, caller: Caller) -> ApiResult<Vec<Pop>> {
    caller.admin()?;
    Ok(Reply::page(app.store.pops().await?, u32::MAX, |pop| pop.name.clone()))
}

/// Makes a point of presence, or moves it to another region. For operators.
#[utoipa::path(put, path = "/v1/pops/{pop}", operation_id = "set_pop", tag = "operator",
    params(("pop" = String, Path, min_length = 1, max_length = 63, pattern = "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$")),
    request_body = SetPop, responses((status = 200, description = "It", body = Envelope<Pop>), Problems))]
pub(crate) async fn set_pop(
    State(app): State<App>,
    caller: Caller,
    Ids(name): Ids<String>,
    Body(request): Body<SetPop>,
) -> ApiResult<Pop> {
    caller.admin()?;
    model::place_name("pop", &name)?;
    model::place_name("region", &request.region)?;
    Ok(Reply::ok(app.store.set_pop(&name, &request.region).await?))
}

/// Lists regions. For operators.
#[utoipa::path(get, path = "/v1/regions", operation_id = "list_regions", tag = "operator",
    responses((status = 200, description = "By name", body = Envelope<Vec<Region>>), Problems))]
pub(crate) async fn regions(State(app): State<App>, caller: Caller) -> ApiResult<Vec<Region>> {
    caller.admin()?;
    Ok(Reply::page(app.store.regions().await?, u32::MAX, |region| region.name.clone()))
}

/// Shows the configuration as it is compiled now, in the short form of the wire (seed 000): for operators whole, else the
/// deployments of the token's account. Variables are sealed in it.
#[utoipa::path(get, path = "/v1/config", operation_id = "get_config", tag = "operator",
    responses((status = 200, description = "`{lineage, generation, deployments: [{d, v, h, u, e, b, r, t, …}], …}`",
        body = Envelope<Object>), Problems))]
pub(crate) async fn config(State(app): State<App>, caller: Caller) -> ApiResult<Value> {
    let mut snapshot = compiled(&app).await?;
    if !caller.is_admin() {
        let own = format!("{:x}", caller.token.account_id.as_u128());
        snapshot.deployments.retain(|config| config.a == own);
        snapshot.steering = model::Steering::default();
    }
    Ok(Reply::ok(serde_json::to_value(snapshot).map_err(ApiError::internal)?))
}

/// Shows one deployment's configuration as it is compiled now.
#[utoipa::path(get, path = "/v1/deployments/{deployment_id}/config", operation_id = "get_deployment_config",
    tag = "deployments", params(("deployment_id" = DeploymentId, Path)),
    responses((status = 200, description = "`{d, v, h, u, e, b, r, t, …}`", body = Envelope<Object>), Problems))]
pub(crate) async fn deployment_config(
    State(app): State<App>,
    caller: Caller,
    Ids(id): Ids<DeploymentId>,
) -> ApiResult<Value> {
    caller.deployment(&app, id).await?;
    let snapshot = compiled(&app).await?;
    let wanted = format!("{:x}", id.as_u128());
    let config: Option<EdgeConfig> = snapshot.deployments.into_iter().find(|config| config.d == wanted);
    let config = config.ok_or_else(|| ApiError::not_found("configuration: the deployment has no active version"))?;
    Ok(Reply::ok(serde_json::to_value(config).map_err(ApiError::internal)?))
}

async fn compiled(app: &App) -> Result<EdgeSnapshot, ApiError> {
    let state = app.store.desired_state(&[]).await?;
    let (platform_domain, env_key) = (app.platform_domain.clone(), app.env_key.clone());
    let compiled = tokio::task::spawn_blocking(move || {
        let bytes = crate::compile::compile(state, &platform_domain, &env_key).map_err(ApiError::internal)?;
        let snapshot = Snapshot::from_vec(bytes).map_err(ApiError::internal)?;
        Ok(plan::edge::emit(&snapshot, ARTIFACT_BASE))
    });
    compiled.await.map_err(ApiError::internal)?
}
