//! Plans: what the accounts of a tier get.

use model::{AccountId, FREE_TIER, Plan, SetPlan, rules};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row};

use crate::{Result, Store, StoreError, desired, row};

impl Store {
    /// Every plan, by tier. At most `rules::PLANS_MAX`.
    pub async fn plans(&self) -> Result<Vec<Plan>> {
        let query = sqlx::query("SELECT tier, cpu_ms, weight, deployments_max FROM plans ORDER BY tier").try_map(
            |r: AnyRow| {
                Ok(Plan {
                    tier: r.try_get("tier")?,
                    cpu_ms: row::unsigned(&r, "cpu_ms")?,
                    weight: row::unsigned(&r, "weight")?,
                    deployments_max: row::unsigned_opt(&r, "deployments_max")?,
                })
            },
        );
        Ok(query.fetch_all(&self.reader).await?)
    }

    /// Makes or changes a tier's plan; gives the generation that has it.
    pub async fn set_plan(&self, tier: &str, plan: &SetPlan) -> Result<(Plan, u64)> {
        let mut tx = self.write().await?;
        let sql = "SELECT COUNT(*) FROM plans WHERE tier <> $1";
        let others: i64 = sqlx::query_scalar(sql).bind(tier).fetch_one(&mut *tx).await?;
        if others >= rules::PLANS_MAX as i64 {
            return Err(StoreError::Limit(format!("there are at most {} plans", rules::PLANS_MAX)));
        }
        let sql = "INSERT INTO plans (tier, cpu_ms, weight, deployments_max) VALUES ($1, $2, $3, $4) \
                   ON CONFLICT (tier) DO UPDATE SET cpu_ms = excluded.cpu_ms, weight = excluded.weight, \
                   deployments_max = excluded.deployments_max";
        let query = sqlx::query(sql).bind(tier).bind(i64::from(plan.cpu_ms)).bind(i64::from(plan.weight));
        let query = query.bind(plan.deployments_max.map(i64::from));
        query.execute(&mut *tx).await?;
        let generation = desired::raise_generation(&mut tx).await?;
        tx.commit().await?;
        let SetPlan { cpu_ms, weight, deployments_max } = *plan;
        Ok((Plan { tier: tier.to_owned(), cpu_ms, weight, deployments_max }, generation))
    }
}

/// Whether the account's plan allows it one more deployment.
pub(crate) async fn check_deployments(connection: &mut AnyConnection, account: AccountId) -> Result<()> {
    let sql = "SELECT CASE WHEN own.tier IS NULL THEN free.deployments_max ELSE own.deployments_max END AS most \
               FROM accounts a LEFT JOIN plans own ON own.tier = a.plan_tier LEFT JOIN plans free ON free.tier = $1 \
               WHERE a.id = $2";
    let query = sqlx::query(sql).bind(FREE_TIER).bind(account.to_string());
    let most = query.try_map(|r| row::unsigned_opt::<u32>(&r, "most")).fetch_one(&mut *connection).await?;
    let Some(most) = most else { return Ok(()) };
    let sql = "SELECT COUNT(*) FROM deployments WHERE account_id = $1 AND status <> 'deleted'";
    let count: i64 = sqlx::query_scalar(sql).bind(account.to_string()).fetch_one(connection).await?;
    if count >= i64::from(most) {
        return Err(StoreError::Limit(format!("the account's plan allows it {most} deployments")));
    }
    Ok(())
}
