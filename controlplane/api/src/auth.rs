//! Who asks, and what is within their reach.
//!
//! The rule: a token reaches its own account; an admin's reaches all. An id outside of the reach is answered 403 with
//! one fixed body whether it exists or not, after the same single lookup by primary key either way. A missing, unknown,
//! expired or revoked token is 401 with one fixed body before the path's ids or the body are looked at; then come the token's
//! rate (429) and what it may do at all (403), which depend on nothing but the token, the method and the path.

use std::time::Instant;

use axum::extract::FromRequestParts;
use axum::http::header;
use axum::http::request::Parts;
use model::{AccountId, DeploymentId, Project, ProjectId, State, Timestamp, Token, TokenScope};
use store::DeploymentRow;

use crate::App;
use crate::error::ApiError;

/// A token's text is longer than any of ours; not worth hashing.
const TOKEN_BYTES_MAX: usize = 512;

/// The token of the request, checked.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) token: Token,
}

impl FromRequestParts<App> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Caller, ApiError> {
        // What is around the handler has asked already: a request counts once.
        if let Some(caller) = parts.extensions.get::<Caller>() {
            return Ok(caller.clone());
        }
        let secret = bearer(parts).ok_or_else(ApiError::unauthenticated)?;
        let token = app.store.token_by_secret(secret, Timestamp::now()).await?;
        let token = token.ok_or_else(ApiError::unauthenticated)?;
        // For the access log: which token it was, never the token.
        tracing::Span::current().record("token", tracing::field::display(token.id));
        app.rates.take(token.id, Instant::now()).map_err(ApiError::too_many)?;
        if !token.access.allows(parts.method.as_str(), parts.uri.path()) {
            return Err(ApiError::beyond(token.access));
        }
        let caller = Caller { token };
        parts.extensions.insert(caller.clone());
        Ok(caller)
    }
}

fn bearer(parts: &Parts) -> Option<&str> {
    let mut values = parts.headers.get_all(header::AUTHORIZATION).iter();
    let (value, None) = (values.next()?, values.next()) else {
        return None;
    };
    let (scheme, secret) = value.to_str().ok()?.split_once(' ')?;
    let secret = secret.trim();
    (scheme.eq_ignore_ascii_case("bearer") && (1..=TOKEN_BYTES_MAX).contains(&secret.len())).then_some(secret)
}

impl Caller {
    pub(crate) fn is_admin(&self) -> bool {
        self.token.scope == TokenScope::Admin
    }

    /// Whether the operator's views are within reach.
    pub(crate) fn admin(&self) -> Result<(), ApiError> {
        if self.is_admin() { Ok(()) } else { Err(ApiError::forbidden()) }
    }

    /// Whether an account is within reach.
    pub(crate) fn account(&self, id: AccountId) -> Result<(), ApiError> {
        if self.is_admin() || self.token.account_id == id { Ok(()) } else { Err(ApiError::forbidden()) }
    }

    fn outside(&self, what: &str) -> ApiError {
        if self.is_admin() { ApiError::not_found(what) } else { ApiError::forbidden() }
    }

    /// The project, if within reach.
    pub(crate) async fn project(&self, app: &App, id: ProjectId) -> Result<Project, ApiError> {
        let project = app.store.project(id).await?.filter(|project| self.account(project.account_id).is_ok());
        project.ok_or_else(|| self.outside("project"))
    }

    /// The deployment, if within reach and not deleted.
    pub(crate) async fn deployment(&self, app: &App, id: DeploymentId) -> Result<DeploymentRow, ApiError> {
        let row = app.store.deployment(id).await?.filter(|row| self.account(row.account_id).is_ok());
        match row.ok_or_else(|| self.outside("deployment"))? {
            row if row.status == State::Deleted => Err(ApiError::not_found("deployment")),
            row => Ok(row),
        }
    }
}
