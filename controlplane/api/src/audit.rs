//! Around every request that may change something: an entry in the audit log before it is worked on, and what came of it after.
//! A request without a valid token changes nothing, and has none. One whose entry cannot be written is not worked on.

use axum::extract::{FromRequestParts, Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::Response;

use crate::App;
use crate::auth::Caller;
use crate::error::ApiError;

pub(crate) async fn layer(State(app): State<App>, request: Request, next: Next) -> Result<Response, ApiError> {
    if matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS) {
        return Ok(next.run(request).await);
    }
    let (mut parts, body) = request.into_parts();
    let caller = Caller::from_request_parts(&mut parts, &app).await;
    let request = Request::from_parts(parts, body);
    // Without one, the handler says what is the matter.
    let Ok(caller) = caller else { return Ok(next.run(request).await) };
    let id = app.store.audit(&caller.token, request.method().as_str(), request.uri().path()).await?;
    let response = next.run(request).await;
    if let Err(error) = app.store.audited(id, response.status().as_u16()).await {
        tracing::warn!(%error, entry = %id, "what came of a request is not in the audit log");
    }
    Ok(response)
}
