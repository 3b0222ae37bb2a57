//! What is behind the deployments: nodes, and the configuration as it is compiled now.

use axum::extract::State;
use model::{DeploymentId, Envelope, Node};
use plan::edge::{EdgeConfig, EdgeSnapshot};
use plane_abi::snapshot::Snapshot;
use serde_json::Value;

use crate::App;
use crate::auth::Caller;
use crate::error::{ApiError, ApiResult, Reply};
use crate::extract::Ids;
use crate::openapi::Problems;

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
    Ok(Reply::page(app.fleet.nodes(), u32::MAX, |node| node.name.clone()))
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
