//! The audit log: written before a request is worked on, and again with what came of it, so that nothing is changed without an entry.

use model::{AccountId, AuditEntry, AuditId, Timestamp, Token};
use sqlx::Row;
use sqlx::any::AnyRow;

use crate::{Page, Result, Store, row};

/// How long an entry is kept, ms: 90 days.
const KEEP_MS: i64 = 90 * 24 * 3600 * 1000;
/// Text of a path that is kept, bytes.
const PATH_BYTES_MAX: usize = 1024;

fn from_row(row: &AnyRow) -> sqlx::Result<AuditEntry> {
    Ok(AuditEntry {
        id: row::parsed(row, "id")?,
        at: row::time(row, "at")?,
        account_id: row::parsed(row, "account_id")?,
        token_id: row::parsed(row, "token_id")?,
        method: row.try_get("method")?,
        path: row.try_get("path")?,
        status: row::unsigned_opt(row, "status")?,
    })
}

impl Store {
    /// Enters a request that is about to be worked on, and forgets those of more than 90 days ago.
    pub async fn audit(&self, token: &Token, method: &str, path: &str) -> Result<AuditId> {
        let (id, now) = (AuditId::new(), Timestamp::now().unix_ms());
        let mut tx = self.write().await?;
        sqlx::query("DELETE FROM audit_log WHERE at <= $1").bind(now - KEEP_MS).execute(&mut *tx).await?;
        let sql = "INSERT INTO audit_log (id, at, account_id, token_id, method, path) VALUES ($1, $2, $3, $4, $5, $6)";
        sqlx::query(sql)
            .bind(id.to_string())
            .bind(now)
            .bind(token.account_id.to_string())
            .bind(token.id.to_string())
            .bind(method)
            .bind(&path[..path.floor_char_boundary(PATH_BYTES_MAX)])
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(id)
    }

    /// Enters what came of it.
    pub async fn audited(&self, id: AuditId, status: u16) -> Result<()> {
        let mut tx = self.write().await?;
        let query = sqlx::query("UPDATE audit_log SET status = $1 WHERE id = $2");
        query.bind(i64::from(status)).bind(id.to_string()).execute(&mut *tx).await?;
        Ok(tx.commit().await?)
    }

    /// Entries, the newest first, of an account's tokens or of all. The page goes on before an entry's id.
    pub async fn audit_log(&self, account: Option<AccountId>, page: &Page) -> Result<Vec<AuditEntry>> {
        let sql = "SELECT id, at, account_id, token_id, method, path, status FROM audit_log \
                   WHERE ($1 = '' OR account_id = $1) AND ($2 = '' OR id < $2) ORDER BY id DESC LIMIT $3";
        let account = account.map(|id| id.to_string()).unwrap_or_default();
        let before = page.after.as_deref().unwrap_or("");
        let query = sqlx::query(sql).bind(account).bind(before).bind(i64::from(page.limit));
        Ok(query.try_map(|r| from_row(&r)).fetch_all(&self.reader).await?)
    }
}
