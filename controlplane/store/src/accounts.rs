//! Accounts.

use model::{Account, AccountId, CreateAccount, FREE_TIER, Timestamp};
use sqlx::Row;
use sqlx::any::AnyRow;

use crate::error::conflict;
use crate::{Page, Result, Store, StoreError, desired, row};

pub(crate) fn from_row(row: &AnyRow) -> sqlx::Result<Account> {
    Ok(Account {
        id: row::parsed(row, "id")?,
        email: row.try_get("email")?,
        plan_tier: row.try_get("plan_tier")?,
        created_at: row::time(row, "created_at")?,
    })
}

impl Store {
    /// Makes an account. A known email is a conflict; emails are compared without regard to ASCII case.
    pub async fn create_account(&self, request: &CreateAccount) -> Result<Account> {
        let account = Account {
            id: AccountId::new(),
            email: request.email.to_ascii_lowercase(),
            plan_tier: request.plan_tier.clone().unwrap_or_else(|| FREE_TIER.to_owned()),
            created_at: Timestamp::now(),
        };
        let mut tx = self.write().await?;
        sqlx::query("INSERT INTO accounts (id, email, plan_tier, created_at) VALUES ($1, $2, $3, $4)")
            .bind(account.id.to_string())
            .bind(&account.email)
            .bind(&account.plan_tier)
            .bind(account.created_at.unix_ms())
            .execute(&mut *tx)
            .await
            .map_err(|e| conflict(e, "email", "another account has it"))?;
        tx.commit().await?;
        Ok(account)
    }

    /// The account of that id.
    pub async fn account(&self, id: AccountId) -> Result<Option<Account>> {
        let sql = "SELECT id, email, plan_tier, created_at FROM accounts WHERE id = $1";
        Ok(sqlx::query(sql).bind(id.to_string()).try_map(|r| from_row(&r)).fetch_optional(&self.reader).await?)
    }

    /// The account of that email.
    pub async fn account_by_email(&self, email: &str) -> Result<Option<Account>> {
        let sql = "SELECT id, email, plan_tier, created_at FROM accounts WHERE email = $1";
        let email = email.to_ascii_lowercase();
        Ok(sqlx::query(sql).bind(email).try_map(|r| from_row(&r)).fetch_optional(&self.reader).await?)
    }

    /// Gives an account another tier; gives the generation that has it.
    pub async fn set_account_tier(&self, id: AccountId, tier: &str) -> Result<(Account, u64)> {
        let mut tx = self.write().await?;
        let sql = "UPDATE accounts SET plan_tier = $1 WHERE id = $2 RETURNING id, email, plan_tier, created_at";
        let query = sqlx::query(sql).bind(tier).bind(id.to_string()).try_map(|r| from_row(&r));
        let account = query.fetch_optional(&mut *tx).await?.ok_or(StoreError::NotFound("account"))?;
        let generation = desired::raise_generation(&mut tx).await?;
        tx.commit().await?;
        Ok((account, generation))
    }

    /// Accounts in the order they were made.
    pub async fn accounts(&self, page: &Page) -> Result<Vec<Account>> {
        let sql = "SELECT id, email, plan_tier, created_at FROM accounts WHERE id > $1 ORDER BY id LIMIT $2";
        let query = sqlx::query(sql).bind(page.after.as_deref().unwrap_or("")).bind(i64::from(page.limit));
        Ok(query.try_map(|r| from_row(&r)).fetch_all(&self.reader).await?)
    }
}
