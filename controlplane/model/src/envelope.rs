//! The body of every response, and what an error says.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Codes of `errors[].code`. Those below 10100 are Cloudflare's, with their meaning; the rest are ours.
pub mod code {
    /// No token, or one that is unknown, expired or revoked (401).
    pub const AUTHENTICATION: u32 = 10000;
    /// Inside the token's reach there is no such thing (404).
    pub const NOT_FOUND: u32 = 10007;
    /// The module is not one that can run (422); `location` says where.
    pub const INVALID_MODULE: u32 = 10021;
    /// The module is over the limit (413).
    pub const MODULE_TOO_LARGE: u32 = 10027;
    /// Outside of the token's reach, whether it exists or not (403).
    pub const FORBIDDEN: u32 = 10101;
    /// A field, parameter or body is not what it must be (400); `field` names it.
    pub const BAD_REQUEST: u32 = 10102;
    /// Taken: a subdomain, route, slug, email or binding name (409).
    pub const CONFLICT: u32 = 10103;
    /// The deployment's state does not allow it (409).
    pub const ILLEGAL_STATE: u32 = 10104;
    /// The body as a whole is over the limit (413).
    pub const BODY_TOO_LARGE: u32 = 10105;
    /// A quota is used up (403).
    pub const LIMIT: u32 = 10106;
    /// A node refused the configuration; the previous version is back (502).
    pub const REFUSED_BY_NODE: u32 = 10107;
    /// Not the method, or not the content type, that this path takes (405, 415).
    pub const NOT_ALLOWED: u32 = 10108;
    /// It took too long, or too much is going on; nothing is lost by trying again (503, 504).
    pub const TRY_AGAIN: u32 = 10109;
    /// An `Idempotency-Key` was used before with another request (422).
    pub const IDEMPOTENCY_KEY_REUSED: u32 = 10110;
    /// The token has made too many requests lately (429); `Retry-After` says when there may be more.
    pub const TOO_MANY: u32 = 10111;
    /// A fault of the server; its log says more (500).
    pub const INTERNAL: u32 = 10199;
}

/// The body of every response of `/v1`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Envelope<T> {
    /// Whether the request did what it asked for; `errors` is empty exactly then.
    pub success: bool,
    /// What was asked for; null on failure, except that a refused upload shows the version it made.
    #[serde(default = "Option::default")]
    #[schema(required = true)]
    pub result: Option<T>,
    /// What went wrong.
    pub errors: Vec<ErrorItem>,
    /// Remarks on something that went right.
    pub messages: Vec<Message>,
    /// Where a list goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub result_info: Option<ResultInfo>,
}

impl<T> Envelope<T> {
    /// Success with this result.
    pub fn ok(result: T) -> Envelope<T> {
        Envelope { success: true, result: Some(result), errors: Vec::new(), messages: Vec::new(), result_info: None }
    }

    /// Failure for these reasons.
    pub fn failed(errors: Vec<ErrorItem>) -> Envelope<T> {
        Envelope { success: false, result: None, errors, messages: Vec::new(), result_info: None }
    }
}

/// One reason for a failure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorItem {
    /// One of [`code`]'s.
    pub code: u32,
    /// For people; in English, without secrets.
    pub message: String,
    /// The field, parameter or header at fault, as a path: `env_vars.API_KEY.value`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub field: Option<String>,
    /// The place in the uploaded module.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub location: Option<Location>,
}

impl ErrorItem {
    /// An error without field or place.
    pub fn new(code: u32, message: impl Into<String>) -> ErrorItem {
        ErrorItem { code, message: message.into(), field: None, location: None }
    }
}

/// A remark.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Message {
    /// One of [`code`]'s, or 0.
    pub code: u32,
    /// For people.
    pub message: String,
}

/// A place in a module's source, both counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Location {
    /// Line.
    pub line: u32,
    /// Column, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub column: Option<u32>,
}

/// How much of a list this is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ResultInfo {
    /// Items in this response.
    pub count: u32,
    /// Give this back as `?cursor=` for the rest; absent at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub cursor: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn has_cloudflares_shape() {
        let ok = serde_json::to_value(Envelope::ok(7)).unwrap();
        assert_eq!(ok, serde_json::json!({"success": true, "result": 7, "errors": [], "messages": []}));
        let failed = serde_json::to_value(Envelope::<u8>::failed(vec![ErrorItem::new(code::NOT_FOUND, "no")])).unwrap();
        assert_eq!(
            failed,
            serde_json::json!({"success": false, "result": null, "errors": [{"code": 10007, "message": "no"}], "messages": []})
        );
    }

    #[test]
    fn reads_an_envelope_without_result() {
        let read: Envelope<u8> = serde_json::from_str(r#"{"success":true,"errors":[],"messages":[]}"#).unwrap();
        assert_eq!(read.result, None);
    }
}
