//! Reading the audit log.

use axum::extract::State;
use model::{AuditEntry, Envelope};

use crate::App;
use crate::auth::Caller;
use crate::error::{ApiResult, Reply};
use crate::extract::{PageQuery, Paged};
use crate::openapi::Problems;

/// Lists requests that may have changed something, the newest first: for operators all, else those of the token's account. Kept
/// for 90 days.
#[utoipa::path(get, path = "/v1/audit-log", operation_id = "list_audit_log", tag = "accounts", params(PageQuery),
    responses((status = 200, description = "The newest first", body = Envelope<Vec<AuditEntry>>), Problems))]
pub(crate) async fn list(State(app): State<App>, caller: Caller, Paged(page): Paged) -> ApiResult<Vec<AuditEntry>> {
    let account = (!caller.is_admin()).then_some(caller.token.account_id);
    let entries = app.store.audit_log(account, &page).await?;
    Ok(Reply::page(entries, page.limit, |entry| entry.id.to_string()))
}
