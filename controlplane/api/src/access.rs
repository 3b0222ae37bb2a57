//! Around every request: an id, a time limit, a net under panics, and one line in the access log.
//!
//! The log has the path's template, not its text, and no header or body: nothing in it is secret.

use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use model::code;
use tracing::Instrument;

use crate::error::ApiError;

/// First byte of the head to the answer. An upload of 16 MiB has to arrive in it; an operation that takes longer goes on.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(120);
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

pub(crate) async fn layer(request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = uuid_text();
    let method = request.method().clone();
    let path = request.extensions().get::<MatchedPath>().map_or("-", MatchedPath::as_str).to_owned();
    let span = tracing::info_span!("request", id, %method, path, token = tracing::field::Empty);
    let work = AssertUnwindSafe(tokio::time::timeout(REQUEST_TIMEOUT, next.run(request))).catch_unwind();
    let mut response = match work.instrument(span.clone()).await {
        Ok(Ok(response)) => response,
        Ok(Err(_)) => {
            let message = format!("no answer within {} s; it may still be done", REQUEST_TIMEOUT.as_secs());
            ApiError::new(StatusCode::GATEWAY_TIMEOUT, code::TRY_AGAIN, message).into_response()
        }
        Err(_) => ApiError::internal("a handler panicked").into_response(),
    };
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    let status = response.status().as_u16();
    let _in_span = span.entered();
    tracing::info!(status, duration_us = started.elapsed().as_micros() as u64, "answered");
    response
}

/// A name for the request, for people who search logs; it has no other use.
fn uuid_text() -> String {
    format!("{:032x}", model::VersionId::new().as_u128())
}
