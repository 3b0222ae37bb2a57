//! Plans: what the accounts of a tier get. For operators.

use axum::extract::State;
use model::{Envelope, Plan, SetPlan, rules};

use crate::auth::Caller;
use crate::error::{ApiResult, Reply};
use crate::extract::{Body, Ids};
use crate::openapi::Problems;
use crate::{App, ops};

/// Lists plans; all of them, as there are at most 100.
#[utoipa::path(get, path = "/v1/plans", operation_id = "list_plans", tag = "operator",
    responses((status = 200, description = "By tier", body = Envelope<Vec<Plan>>), Problems))]
pub(crate) async fn list(State(app): State<App>, caller: Caller) -> ApiResult<Vec<Plan>> {
    caller.admin()?;
    Ok(Reply::page(app.store.plans().await?, u32::MAX, |plan| plan.tier.clone()))
}

/// Makes or changes a tier's plan, for every account of that tier.
#[utoipa::path(put, path = "/v1/plans/{tier}", operation_id = "set_plan", tag = "operator",
    params(("tier" = String, Path, min_length = 1, max_length = 50, pattern = r"^(?=.*\S)[^\x00-\x1f\x7f-\x9f]+$")), request_body = SetPlan,
    responses((status = 200, description = "Set; nodes have it", body = Envelope<Plan>), Problems))]
pub(crate) async fn set(
    State(app): State<App>,
    caller: Caller,
    Ids(tier): Ids<String>,
    Body(request): Body<SetPlan>,
) -> ApiResult<Plan> {
    caller.admin()?;
    rules::tier("tier", &tier)?;
    request.validate()?;
    let done = ops::detached(&app, move |app| ops::set_plan(app, tier, request)).await?;
    Ok(Reply::ok(done.result).with_messages(done.messages))
}
