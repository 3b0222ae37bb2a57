//! The audit log.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{AccountId, AuditId, Timestamp, TokenId};

/// A request that may have changed something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditEntry {
    /// Its id.
    pub id: AuditId,
    /// When it came.
    pub at: Timestamp,
    /// Of the token that asked.
    pub account_id: AccountId,
    /// The token that asked.
    pub token_id: TokenId,
    /// What was asked.
    pub method: String,
    /// Of what.
    pub path: String,
    /// What it was answered; null while it is worked on, and for ever if the server ended before it answered.
    #[schema(required = true)]
    pub status: Option<u16>,
}
