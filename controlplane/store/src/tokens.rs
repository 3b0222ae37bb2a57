//! Bearer tokens: made from 256 random bits, kept as SHA-256, found by it.
//!
//! A lookup compares digests in an index. What its timing could tell is a digest's prefix, from which no token follows;
//! so it is the same whether a token is wrong, expired or revoked.

use model::{Account, AccountId, CreatedToken, Timestamp, Token, TokenAccess, TokenId, TokenScope};
use ring::rand::{SecureRandom, SystemRandom};
use sha2::{Digest, Sha256};
use sqlx::any::AnyRow;
use sqlx::{Any, Row, Transaction};

use crate::{Page, Result, Store, StoreError, row};

/// What a token begins with, so that people and secret scanners know it for one.
const PREFIX: &str = "selvage_";

fn from_row(row: &AnyRow) -> sqlx::Result<Token> {
    Ok(Token {
        id: row::parsed(row, "id")?,
        account_id: row::parsed(row, "account_id")?,
        name: row.try_get("name")?,
        scope: row::named(row, "scope", TokenScope::from_name)?,
        access: row::named(row, "access", TokenAccess::from_name)?,
        created_at: row::time(row, "created_at")?,
        expires_at: row::time_opt(row, "expires_at")?,
        revoked_at: row::time_opt(row, "revoked_at")?,
    })
}

fn usable(token: &Token, now: Timestamp) -> bool {
    token.revoked_at.is_none() && token.expires_at.is_none_or(|at| at > now)
}

fn new_secret() -> Result<String> {
    let mut bytes = [0u8; 32];
    SystemRandom::new().fill(&mut bytes).map_err(|_| StoreError::Precondition("no randomness".to_owned()))?;
    Ok(format!("{PREFIX}{}", hex::encode(bytes)))
}

fn digest(secret: &str) -> String {
    hex::encode(Sha256::digest(secret.as_bytes()))
}

async fn insert(tx: &mut Transaction<'static, Any>, token: Token) -> Result<CreatedToken> {
    let secret = new_secret()?;
    let sql = "INSERT INTO tokens (id, account_id, name, scope, access, hash, created_at, expires_at) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
    sqlx::query(sql)
        .bind(token.id.to_string())
        .bind(token.account_id.to_string())
        .bind(&token.name)
        .bind(token.scope.as_str())
        .bind(token.access.as_str())
        .bind(digest(&secret))
        .bind(token.created_at.unix_ms())
        .bind(token.expires_at.map(Timestamp::unix_ms))
        .execute(&mut **tx)
        .await?;
    Ok(CreatedToken { token, secret })
}

fn new_token(account_id: AccountId, new: NewToken) -> Token {
    let NewToken { name, scope, access, expires_at } = new;
    let created_at = Timestamp::now();
    Token { id: TokenId::new(), account_id, name, scope, access, created_at, expires_at, revoked_at: None }
}

/// A token that is to be made.
#[derive(Clone, Debug)]
pub struct NewToken {
    /// For people.
    pub name: String,
    /// What it reaches.
    pub scope: TokenScope,
    /// What of that it may do.
    pub access: TokenAccess,
    /// When it ends; none for never.
    pub expires_at: Option<Timestamp>,
}

impl Store {
    /// Makes a token. Its secret is in the answer and nowhere else.
    pub async fn create_token(&self, account: AccountId, new: NewToken) -> Result<CreatedToken> {
        let mut tx = self.write().await?;
        let known = sqlx::query("SELECT 1 FROM accounts WHERE id = $1").bind(account.to_string());
        if known.fetch_optional(&mut *tx).await?.is_none() {
            return Err(StoreError::NotFound("account"));
        }
        let created = insert(&mut tx, new_token(account, new)).await?;
        tx.commit().await?;
        Ok(created)
    }

    /// Makes the account of `email` with an admin's token, if there is none of that email. `None` if there is.
    pub async fn bootstrap(&self, email: &str) -> Result<Option<(Account, CreatedToken)>> {
        let email = email.to_ascii_lowercase();
        let mut tx = self.write().await?;
        let known = sqlx::query("SELECT 1 FROM accounts WHERE email = $1").bind(&email);
        if known.fetch_optional(&mut *tx).await?.is_some() {
            return Ok(None);
        }
        let account = Account {
            id: AccountId::new(),
            email,
            plan_tier: model::FREE_TIER.to_owned(),
            created_at: Timestamp::now(),
        };
        sqlx::query("INSERT INTO accounts (id, email, plan_tier, created_at) VALUES ($1, $2, $3, $4)")
            .bind(account.id.to_string())
            .bind(&account.email)
            .bind(&account.plan_tier)
            .bind(account.created_at.unix_ms())
            .execute(&mut *tx)
            .await?;
        let new = NewToken {
            name: "bootstrap".to_owned(),
            scope: TokenScope::Admin,
            access: TokenAccess::Full,
            expires_at: None,
        };
        let created = insert(&mut tx, new_token(account.id, new)).await?;
        tx.commit().await?;
        Ok(Some((account, created)))
    }

    /// The token of this secret, if it may be used at `now`: known, not revoked, not expired.
    pub async fn token_by_secret(&self, secret: &str, now: Timestamp) -> Result<Option<Token>> {
        let sql = "SELECT id, account_id, name, scope, access, created_at, expires_at, revoked_at FROM tokens WHERE hash = $1";
        let query = sqlx::query(sql).bind(digest(secret)).try_map(|r| from_row(&r));
        let token = query.fetch_optional(&self.reader).await?;
        Ok(token.filter(|token| usable(token, now)))
    }

    /// The token of that id, if it may still be used at `now`.
    pub async fn token_by_id(&self, id: TokenId, now: Timestamp) -> Result<Option<Token>> {
        let sql =
            "SELECT id, account_id, name, scope, access, created_at, expires_at, revoked_at FROM tokens WHERE id = $1";
        let query = sqlx::query(sql).bind(id.to_string()).try_map(|r| from_row(&r));
        Ok(query.fetch_optional(&self.reader).await?.filter(|token| usable(token, now)))
    }

    /// An account's tokens in the order they were made, those that ended too.
    pub async fn tokens(&self, account: AccountId, page: &Page) -> Result<Vec<Token>> {
        let sql = "SELECT id, account_id, name, scope, access, created_at, expires_at, revoked_at FROM tokens \
                   WHERE account_id = $1 AND id > $2 ORDER BY id LIMIT $3";
        let after = page.after.as_deref().unwrap_or("");
        let query = sqlx::query(sql).bind(account.to_string()).bind(after).bind(i64::from(page.limit));
        Ok(query.try_map(|r| from_row(&r)).fetch_all(&self.reader).await?)
    }

    /// Gives a token a successor that lives as long as it did from its making, but not longer than `until`, and ends it after
    /// `overlap_ms`.
    pub async fn rotate_token(&self, old: &Token, overlap_ms: i64, until: Option<Timestamp>) -> Result<CreatedToken> {
        let now = Timestamp::now();
        let mut tx = self.write().await?;
        let end = now.unix_ms().saturating_add(overlap_ms);
        let sql = "UPDATE tokens SET expires_at = CASE WHEN expires_at < $1 THEN expires_at ELSE $1 END \
                   WHERE id = $2 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $3)";
        let query = sqlx::query(sql).bind(end).bind(old.id.to_string()).bind(now.unix_ms());
        if query.execute(&mut *tx).await?.rows_affected() == 0 {
            return Err(StoreError::Precondition("the token has ended, so it cannot be rotated".to_owned()));
        }
        let life = |at: Timestamp| at.unix_ms().saturating_sub(old.created_at.unix_ms());
        let own = old.expires_at.map(|at| Timestamp::from_unix_ms(now.unix_ms().saturating_add(life(at))));
        let expires_at = [own, until].into_iter().flatten().min();
        let new = NewToken { name: old.name.clone(), scope: old.scope, access: old.access, expires_at };
        let created = insert(&mut tx, new_token(old.account_id, new)).await?;
        tx.commit().await?;
        Ok(created)
    }

    /// Takes a token back; once more changes nothing.
    pub async fn revoke_token(&self, account: AccountId, id: TokenId) -> Result<Token> {
        let sql = "UPDATE tokens SET revoked_at = COALESCE(revoked_at, $1) WHERE id = $2 AND account_id = $3 \
                   RETURNING id, account_id, name, scope, access, created_at, expires_at, revoked_at";
        let now = Timestamp::now().unix_ms();
        let query = sqlx::query(sql).bind(now).bind(id.to_string()).bind(account.to_string());
        let mut tx = self.write().await?;
        let token = query.try_map(|r| from_row(&r)).fetch_optional(&mut *tx).await?;
        tx.commit().await?;
        token.ok_or(StoreError::NotFound("token"))
    }
}
