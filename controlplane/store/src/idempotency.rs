//! Answers that were given, by the client's `Idempotency-Key`, so that a request that is sent again is not done again.

use model::{Timestamp, TokenId};
use sqlx::Row;
use sqlx::any::AnyRow;

use crate::{Result, Store, row};

/// How long an answer is remembered, ms: a day.
const KEEP_MS: i64 = 24 * 3600 * 1000;

/// An answer that was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remembered {
    /// SHA-256 of the request it answered, hex.
    pub request_hash: String,
    /// Its status code.
    pub status: u16,
    /// Its body, JSON.
    pub body: String,
}

impl Store {
    /// The answer that this token's key has, if it had one within a day.
    pub async fn recall(&self, token: TokenId, key: &str) -> Result<Option<Remembered>> {
        let sql = "SELECT request_hash, status, body FROM idempotency_keys \
                   WHERE token_id = $1 AND key = $2 AND created_at > $3";
        let since = Timestamp::now().unix_ms() - KEEP_MS;
        let query = sqlx::query(sql).bind(token.to_string()).bind(key).bind(since).try_map(|r: AnyRow| {
            let (request_hash, body) = (r.try_get("request_hash")?, r.try_get("body")?);
            Ok(Remembered { request_hash, status: row::unsigned(&r, "status")?, body })
        });
        Ok(query.fetch_optional(&self.reader).await?)
    }

    /// Remembers an answer, and forgets those of more than a day ago.
    pub async fn remember(&self, token: TokenId, key: &str, answer: &Remembered) -> Result<()> {
        let now = Timestamp::now().unix_ms();
        let mut tx = self.write().await?;
        let forget = sqlx::query("DELETE FROM idempotency_keys WHERE created_at <= $1").bind(now - KEEP_MS);
        forget.execute(&mut *tx).await?;
        let sql = "INSERT INTO idempotency_keys (token_id, key, request_hash, status, body, created_at) \
                   VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (token_id, key) DO NOTHING";
        sqlx::query(sql)
            .bind(token.to_string())
            .bind(key)
            .bind(&answer.request_hash)
            .bind(i64::from(answer.status))
            .bind(&answer.body)
            .bind(now)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(())
    }
}
