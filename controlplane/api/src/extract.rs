//! From a request to checked values: ids in paths, pages of lists, JSON bodies. What does not parse is answered with the
//! name of the field at fault.

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use model::{code, rules};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use store::Page;

use crate::App;
use crate::error::ApiError;

/// Path parameters.
pub(crate) struct Ids<T>(pub(crate) T);

impl<T: DeserializeOwned + Send> FromRequestParts<App> for Ids<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Ids<T>, ApiError> {
        match Path::<T>::from_request_parts(parts, app).await {
            Ok(Path(ids)) => Ok(Ids(ids)),
            Err(PathRejection::FailedToDeserializePathParams(inner)) => {
                // The text is axum's: which parameter, and what the type said of it.
                Err(ApiError::field("path", inner.body_text()))
            }
            Err(other) => Err(ApiError::field("path", other.body_text())),
        }
    }
}

/// `?limit=&cursor=` of a list.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct PageQuery {
    /// Items at most, 1 to 1000; 1000 if absent.
    #[serde(default)]
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// `result_info.cursor` of the page before.
    #[serde(default)]
    cursor: Option<String>,
}

/// A page of a list, checked.
pub(crate) struct Paged(pub(crate) Page);

impl FromRequestParts<App> for Paged {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Paged, ApiError> {
        let query = Query::<PageQuery>::from_request_parts(parts, app).await;
        let Query(query) = query.map_err(|error: QueryRejection| ApiError::field("query", error.body_text()))?;
        let limit = query.limit.unwrap_or(rules::PAGE_MAX);
        if limit == 0 || limit > rules::PAGE_MAX {
            return Err(ApiError::field("limit", "must be 1 to 1000"));
        }
        match &query.cursor {
            Some(cursor) if cursor.len() > 100 => Err(ApiError::field("cursor", "is not one that a list gave")),
            _ => Ok(Paged(Page { after: query.cursor, limit })),
        }
    }
}

/// A JSON body that must be there.
pub(crate) struct Body<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<App> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &App) -> Result<Body<T>, ApiError> {
        let json = is_json(&request);
        let bytes = body_bytes(request, app).await?;
        if !json {
            return Err(not_json());
        }
        parse(&bytes).map(Body)
    }
}

/// A JSON body that may be absent: no bytes are the default.
pub(crate) struct MaybeBody<T>(pub(crate) T);

impl<T: DeserializeOwned + Default> FromRequest<App> for MaybeBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &App) -> Result<MaybeBody<T>, ApiError> {
        let json = is_json(&request);
        let bytes = body_bytes(request, app).await?;
        match (bytes.is_empty(), json) {
            (true, _) => Ok(MaybeBody(T::default())),
            // `null` says as much as nothing.
            (false, true) => parse::<Option<T>>(&bytes).map(|body| MaybeBody(body.unwrap_or_default())),
            (false, false) => Err(not_json()),
        }
    }
}

fn not_json() -> ApiError {
    let message = "the body must be `Content-Type: application/json`";
    ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, code::NOT_ALLOWED, message)
}

fn is_json(request: &Request) -> bool {
    let value = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = value.and_then(|value| value.split(';').next()).unwrap_or("").trim();
    essence.eq_ignore_ascii_case("application/json")
}

async fn body_bytes(request: Request, app: &App) -> Result<Bytes, ApiError> {
    Bytes::from_request(request, app).await.map_err(|error: BytesRejection| {
        if error.status() == StatusCode::PAYLOAD_TOO_LARGE {
            ApiError::new(error.status(), code::BODY_TOO_LARGE, "the body is over 2 MiB")
        } else {
            ApiError::new(StatusCode::BAD_REQUEST, code::BAD_REQUEST, "the body ended before it was complete")
        }
    })
}

/// Parses JSON; an error names the place in the document as a path.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        // Where the text ends too early, the last step of the path is not known: "?".
        let path = error.path().to_string();
        let path = path.trim_end_matches('?').trim_end_matches('.');
        let field = if path.is_empty() { "body".to_owned() } else { path.to_owned() };
        ApiError::field(field, without_values(&error.into_inner()))
    })?;
    deserializer.end().map_err(|_| ApiError::field("body", "has something after its JSON value"))?;
    Ok(value)
}

/// serde's text, unless it would quote a value that may be a secret: "invalid type: string \"hunter2\", expected …".
fn without_values(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.split_once(", expected ") {
        Some((_, expected)) if text.starts_with("invalid ") => format!("invalid value, expected {expected}"),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(body: &str, field: &str, says: &str) {
        let error = parse::<model::CreateDeployment>(body.as_bytes()).unwrap_err();
        assert_eq!(error.item.field.as_deref(), Some(field), "{body}: {}", error.item.message);
        assert!(error.item.message.contains(says), "{body}: {}", error.item.message);
    }

    #[test]
    fn errors_name_the_place() {
        check("", "body", "EOF");
        check("[]", "body", "struct CreateDeployment");
        check("{} x", "body", "missing field `name`");
        check(r#"{"name":"a","subdomain":"a"} x"#, "body", "after its JSON value");
        check(r#"{"name":1,"subdomain":"a"}"#, "name", "expected a string");
        check(r#"{"name":"a","subdomain":"a","route":[]}"#, "route", "unknown field `route`");
        check(r#"{"name":"a","subdomain":"a","routes":[{"pattern":7}]}"#, "routes[0].pattern", "expected a string");
        check(
            r#"{"name":"a","subdomain":"a","bindings":{"kv":[{"name":"A","namespace_id":"x"}]}}"#,
            "bindings.kv[0].namespace_id",
            "ns_",
        );
    }

    #[test]
    fn values_are_not_quoted() {
        let body = r#"{"name":"a","subdomain":"a","env_vars":{"KEY":"hunter2"}}"#;
        let error = parse::<model::CreateDeployment>(body.as_bytes()).unwrap_err();
        assert_eq!(error.item.field.as_deref(), Some("env_vars.KEY"));
        assert!(!error.item.message.contains("hunter2"), "{}", error.item.message);
    }
}
