//! What packets meet at every node: deny list, limits, VIPs. For operators.

use std::collections::BTreeSet;

use axum::extract::State;
use model::{Envelope, Steering};

use crate::auth::Caller;
use crate::error::{ApiResult, Reply};
use crate::extract::Body;
use crate::openapi::Problems;
use crate::{App, ops};

/// Shows the rules for packets.
#[utoipa::path(get, path = "/v1/steering", operation_id = "get_steering", tag = "operator",
    responses((status = 200, description = "All of them", body = Envelope<Steering>), Problems))]
pub(crate) async fn get(State(app): State<App>, caller: Caller) -> ApiResult<Steering> {
    caller.admin()?;
    Ok(Reply::ok(app.store.steering().await?))
}

/// Replaces the rules for packets, on every node. Refused whole if one of them is invalid.
#[utoipa::path(put, path = "/v1/steering", operation_id = "set_steering", tag = "operator", request_body = Steering,
    responses((status = 200, description = "As they are now", body = Envelope<Steering>), Problems))]
pub(crate) async fn set(State(app): State<App>, caller: Caller, Body(request): Body<Steering>) -> ApiResult<Steering> {
    caller.admin()?;
    // What it says of before is the store's to say.
    let none = BTreeSet::new();
    let request = request.after(&Steering::default(), &none, &none);
    plan::steering::rules(&request)?;
    let done = ops::detached(&app, move |app| ops::set_steering(app, request)).await?;
    Ok(Reply::ok(done.result).with_messages(done.messages))
}
