//! `Idempotency-Key` on POSTs: a client that does not know whether its request arrived sends it again with the same key,
//! and gets the answer of the first time, with the header `Idempotency-Replayed: true`, and nothing is done again.
//!
//! A key belongs to a token and to one request (path and body); with another request it is refused. Answers are kept for
//! a day, except failures of ours, which may be tried again, and new tokens, whose secrets are not kept.

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use model::{TokenId, code};
use sha2::{Digest, Sha256};
use store::Remembered;

use crate::App;
use crate::auth::Caller;
use crate::error::ApiError;

const HEADER: &str = "idempotency-key";
const REPLAYED: &str = "idempotency-replayed";
/// A key, bytes.
const KEY_BYTES_MAX: usize = 255;
/// A JSON request that may have a key, bytes; as large as any JSON body may be.
const BODY_BYTES_MAX: usize = crate::JSON_BYTES_MAX;
/// An answer that is remembered, bytes: every answer to a POST is far below.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// What a key is locked by while its request is worked on.
pub(crate) type Key = (TokenId, String);

/// Middleware for JSON POSTs. Uploads call [`once`] themselves, when they know what was uploaded.
pub(crate) async fn layer(State(app): State<App>, request: Request, next: Next) -> Result<Response, ApiError> {
    let json = request
        .headers()
        .get(header::CONTENT_TYPE)
        .is_none_or(|value| value.to_str().is_ok_and(|value| !value.to_ascii_lowercase().starts_with("multipart/")));
    let path = request.uri().path();
    let keyed = request.method() == Method::POST && request.headers().contains_key(HEADER);
    if !keyed || !json || path.ends_with("/tokens") || path.ends_with("/rotate") || path.ends_with("/versions") {
        return Ok(next.run(request).await);
    }
    let (mut parts, body) = request.into_parts();
    let caller = <Caller as axum::extract::FromRequestParts<App>>::from_request_parts(&mut parts, &app).await?;
    let bytes = to_bytes(body, BODY_BYTES_MAX).await.map_err(|_| {
        let message = "the body is over 2 MiB, or ended before it was complete";
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, code::BODY_TOO_LARGE, message)
    })?;
    let mut hash = Sha256::new();
    hash.update(parts.uri.path());
    hash.update([0]);
    hash.update(&bytes);
    let (fingerprint, headers) = (hex::encode(hash.finalize()), parts.headers.clone());
    let run = async { Ok::<_, ApiError>(next.run(Request::from_parts(parts, Body::from(bytes))).await) };
    once(&app, &caller, &headers, &fingerprint, run).await
}

/// The answer that the key of these headers has, or else that of `work`, which is then remembered.
pub(crate) async fn once<R: IntoResponse>(
    app: &App,
    caller: &Caller,
    headers: &HeaderMap,
    fingerprint: &str,
    work: impl Future<Output = Result<R, ApiError>>,
) -> Result<Response, ApiError> {
    let Some(key) = headers.get(HEADER) else {
        return Ok(work.await.into_response());
    };
    let key = key.to_str().ok().filter(|key| (1..=KEY_BYTES_MAX).contains(&key.len()));
    let key = key.ok_or_else(|| ApiError::field("Idempotency-Key", "must be 1 to 255 visible ASCII characters"))?;
    // Two requests of one key that come at once: the second waits, and gets the first one's answer.
    let _guard = app.keys.lock((caller.token.id, key.to_owned())).await;
    if let Some(remembered) = app.store.recall(caller.token.id, key).await? {
        return replay(remembered, fingerprint);
    }
    let response = work.await.into_response();
    if response.status().is_server_error() {
        return Ok(response);
    }
    let (parts, body) = response.into_parts();
    let bytes = to_bytes(body, ANSWER_BYTES_MAX).await.map_err(ApiError::internal)?;
    if let Ok(text) = std::str::from_utf8(&bytes) {
        let status = parts.status.as_u16();
        let answer = Remembered { request_hash: fingerprint.to_owned(), status, body: text.to_owned() };
        app.store.remember(caller.token.id, key, &answer).await?;
    }
    Ok(Response::from_parts(parts, Body::from(bytes)))
}

fn replay(remembered: Remembered, fingerprint: &str) -> Result<Response, ApiError> {
    if remembered.request_hash != fingerprint {
        let message = "this Idempotency-Key was used with another request";
        return Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, code::IDEMPOTENCY_KEY_REUSED, message));
    }
    let status = StatusCode::from_u16(remembered.status).map_err(ApiError::internal)?;
    let mut response = (status, remembered.body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(REPLAYED, HeaderValue::from_static("true"));
    Ok(response)
}
