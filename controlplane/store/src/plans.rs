//! Plans: what the accounts of a tier get.

use model::{Plan, SetPlan, rules};
use sqlx::Row;
use sqlx::any::AnyRow;

use crate::{Result, Store, StoreError, desired, row};

impl Store {
    /// Every plan, by tier. At most `rules::PLANS_MAX`.
    pub async fn plans(&self) -> Result<Vec<Plan>> {
        let query = sqlx::query("SELECT tier, cpu_ms, weight FROM plans ORDER BY tier").try_map(|r: AnyRow| {
            Ok(Plan {
                tier: r.try_get("tier")?,
                cpu_ms: row::unsigned(&r, "cpu_ms")?,
                weight: row::unsigned(&r, "weight")?,
            })
        });
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
        let sql = "INSERT INTO plans (tier, cpu_ms, weight) VALUES ($1, $2, $3) \
                   ON CONFLICT (tier) DO UPDATE SET cpu_ms = excluded.cpu_ms, weight = excluded.weight";
        let query = sqlx::query(sql).bind(tier).bind(i64::from(plan.cpu_ms)).bind(i64::from(plan.weight));
        query.execute(&mut *tx).await?;
        let generation = desired::raise_generation(&mut tx).await?;
        tx.commit().await?;
        Ok((Plan { tier: tier.to_owned(), cpu_ms: plan.cpu_ms, weight: plan.weight }, generation))
    }
}
