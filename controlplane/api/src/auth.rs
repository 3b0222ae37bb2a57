//! Who asks, and what is within their reach.
//!
//! The rule: a token reaches its own account; an admin's reaches all. An id outside of the reach is answered 403 with
//! one fixed body whether it exists or not, after the same single lookup by primary key either way. A missing, unknown,
//! expired or revoked token is 401 with one fixed body before the path's ids or the body are looked at; then come the token's
//! rate (429) and what it may do at all (403), which depend on nothing but the token, the method and the path. Who has come
//! with too many tokens that do not count is answered 429 before the database is asked.

use std::net::{IpAddr, Ipv4Addr};
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
        if parts.extensions.get::<Nobody>().is_some() {
            return Err(ApiError::unauthenticated());
        }
        let Some(token) = look_up(parts, app).await? else {
            parts.extensions.insert(Nobody);
            return Err(ApiError::unauthenticated());
        };
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

/// The address that a request came from: its connection's, or what one of our own processes says of one that it hands on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) IpAddr);

/// Marks a request whose token, or want of one, was looked at, and does not count.
#[derive(Clone, Copy)]
struct Nobody;

/// The token of the request, if it counts. One that is not known yet takes from its peer's bucket until it is seen to count, so
/// that guesses made at once are as limited as those made one after the other.
async fn look_up(parts: &Parts, app: &App) -> Result<Option<Token>, ApiError> {
    let peer = parts.extensions.get::<Peer>().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.0);
    let secret = bearer(parts);
    let known = secret.is_some_and(|secret| app.strangers.knows(secret));
    let taken = match known {
        true => None,
        false => Some(app.strangers.take(peer, Instant::now()).map_err(ApiError::too_many_unknown)?),
    };
    let Some(secret) = secret else { return Ok(None) };
    let token = app.store.token_by_secret(secret, Timestamp::now()).await?;
    match (&token, taken) {
        (Some(_), None) => {}
        (Some(_), Some(source)) => {
            app.strangers.give_back(source);
            app.strangers.learn(secret);
        }
        // It has ended: from now on it is as any wrong one.
        (None, None) => app.strangers.forget(secret),
        (None, Some(_)) => {}
    }
    Ok(token)
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
