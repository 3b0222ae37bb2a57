//! What a request is answered when it cannot be done: a status code, and an envelope with the reason.
//!
//! Texts are for the caller. What went wrong inside (a database's words, a path) goes to the log, never to the caller.

use std::time::Duration;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use model::{Envelope, ErrorItem, FieldError, Version, code};
use store::StoreError;

use crate::artifacts::ArtifactError;

/// A request that was not done.
#[derive(Debug)]
pub struct ApiError {
    pub(crate) status: StatusCode,
    pub(crate) item: Box<ErrorItem>,
    /// The version that a refused upload made.
    pub(crate) version: Option<Box<Version>>,
    /// When it may be tried again, seconds.
    retry_after_s: Option<u64>,
}

impl ApiError {
    /// This status, code and text.
    pub(crate) fn new(status: StatusCode, code: u32, message: impl Into<String>) -> ApiError {
        let retry_after_s = (status == StatusCode::SERVICE_UNAVAILABLE).then_some(1);
        ApiError { status, item: Box::new(ErrorItem::new(code, message)), version: None, retry_after_s }
    }

    /// A field, parameter or header that is not what it must be.
    pub(crate) fn field(field: impl Into<String>, message: impl Into<String>) -> ApiError {
        let mut error = ApiError::new(StatusCode::BAD_REQUEST, code::BAD_REQUEST, message);
        error.item.field = Some(field.into());
        error
    }

    /// No token that may be used. The same whatever is wrong with it, and before anything else is looked at.
    pub(crate) fn unauthenticated() -> ApiError {
        let message = "give a valid token as `Authorization: Bearer <token>`";
        ApiError::new(StatusCode::UNAUTHORIZED, code::AUTHENTICATION, message)
    }

    /// Outside of the token's reach. The same whether it exists or not.
    pub(crate) fn forbidden() -> ApiError {
        let message = "no such thing within reach of this token";
        ApiError::new(StatusCode::FORBIDDEN, code::FORBIDDEN, message)
    }

    /// More than the token may do, whatever it is about.
    pub(crate) fn beyond(access: model::TokenAccess) -> ApiError {
        let message = format!("this token's access is `{}`, which does not allow it", access.as_str());
        ApiError::new(StatusCode::FORBIDDEN, code::FORBIDDEN, message)
    }

    /// Inside the token's reach there is none.
    pub(crate) fn not_found(what: &str) -> ApiError {
        ApiError::new(StatusCode::NOT_FOUND, code::NOT_FOUND, format!("no such {what}"))
    }

    /// Too much is going on, or it took too long.
    pub(crate) fn try_again(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, code::TRY_AGAIN, message)
    }

    /// The token has made too many requests.
    pub(crate) fn too_many(wait: Duration) -> ApiError {
        ApiError::wait(wait, "this token has made too many requests lately")
    }

    /// Too many requests without a token that counts have come from there.
    pub(crate) fn too_many_unknown(wait: Duration) -> ApiError {
        ApiError::wait(wait, "too many requests without a valid token have come from your address lately")
    }

    fn wait(wait: Duration, message: &str) -> ApiError {
        let mut error = ApiError::new(StatusCode::TOO_MANY_REQUESTS, code::TOO_MANY, message);
        error.retry_after_s = Some(wait.as_secs() + 1);
        error
    }

    /// A fault of ours; `what` is logged.
    pub(crate) fn internal(what: impl std::fmt::Display) -> ApiError {
        tracing::error!(error = %what, "internal error");
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, code::INTERNAL, "internal error; the server's log says more")
    }
}

impl std::fmt::Display for ApiError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.item.message, self.status)
    }
}

impl From<FieldError> for ApiError {
    fn from(error: FieldError) -> ApiError {
        ApiError::field(error.field, error.message)
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> ApiError {
        match error {
            StoreError::NotFound(what) => ApiError::not_found(what),
            StoreError::Conflict { field, message } => {
                let mut error = ApiError::new(StatusCode::CONFLICT, code::CONFLICT, message);
                error.item.field = Some(field);
                error
            }
            StoreError::IllegalState(illegal) => {
                ApiError::new(StatusCode::CONFLICT, code::ILLEGAL_STATE, illegal.to_string())
            }
            StoreError::Precondition(message) => ApiError::new(StatusCode::CONFLICT, code::ILLEGAL_STATE, message),
            StoreError::Limit(message) => ApiError::new(StatusCode::FORBIDDEN, code::LIMIT, message),
            busy if busy.is_busy() => ApiError::try_again("the store is busy"),
            inside => ApiError::internal(inside),
        }
    }
}

impl From<ArtifactError> for ApiError {
    fn from(error: ArtifactError) -> ApiError {
        match error {
            ArtifactError::Store(reason) => {
                tracing::error!(%reason, "the artifact store failed");
                ApiError::try_again("the artifact store is not available; try again")
            }
            inside => ApiError::internal(inside),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut envelope = Envelope::failed(vec![*self.item]);
        envelope.result = self.version;
        let mut response = (self.status, Json(envelope)).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = self.retry_after_s {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// A success: status, `result`, and where a list goes on.
pub(crate) struct Reply<T> {
    status: StatusCode,
    envelope: Envelope<T>,
}

impl<T> Reply<T> {
    /// 200 with this result.
    pub(crate) fn ok(result: T) -> Reply<T> {
        Reply { status: StatusCode::OK, envelope: Envelope::ok(result) }
    }

    /// 201 with this result.
    pub(crate) fn created(result: T) -> Reply<T> {
        Reply { status: StatusCode::CREATED, envelope: Envelope::ok(result) }
    }

    /// With remarks.
    pub(crate) fn with_messages(mut self, messages: Vec<model::Message>) -> Reply<T> {
        self.envelope.messages = messages;
        self
    }
}

impl<T> Reply<Vec<T>> {
    /// 200 with one page of a list, which goes on after its last item if the page is full.
    pub(crate) fn page(items: Vec<T>, limit: u32, cursor: impl Fn(&T) -> String) -> Reply<Vec<T>> {
        let full = items.len() >= limit as usize;
        let cursor = items.last().filter(|_| full).map(cursor);
        let count = u32::try_from(items.len()).unwrap_or(u32::MAX);
        let mut reply = Reply::ok(items);
        reply.envelope.result_info = Some(model::ResultInfo { count, cursor });
        reply
    }
}

impl<T: serde::Serialize> IntoResponse for Reply<T> {
    fn into_response(self) -> Response {
        (self.status, Json(self.envelope)).into_response()
    }
}

/// What handlers return.
pub(crate) type ApiResult<T> = Result<Reply<T>, ApiError>;
