//! Plans: what the accounts of a tier get.

use model::{AccountId, DeploymentId, FREE_TIER, Plan, SetPlan, rules};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row};

use crate::{Result, Store, StoreError, deployments, desired, row};

impl Store {
    /// Every plan, by tier. At most `rules::PLANS_MAX`.
    pub async fn plans(&self) -> Result<Vec<Plan>> {
        let sql =
            "SELECT tier, cpu_ms, weight, deployments_max, routes_max, artifact_bytes_max FROM plans ORDER BY tier";
        let query = sqlx::query(sql).try_map(|r: AnyRow| {
            Ok(Plan {
                tier: r.try_get("tier")?,
                cpu_ms: row::unsigned(&r, "cpu_ms")?,
                weight: row::unsigned(&r, "weight")?,
                deployments_max: row::unsigned_opt(&r, "deployments_max")?,
                routes_max: row::unsigned_opt(&r, "routes_max")?,
                artifact_bytes_max: row::unsigned_opt(&r, "artifact_bytes_max")?,
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
        let sql = "INSERT INTO plans (tier, cpu_ms, weight, deployments_max, routes_max, artifact_bytes_max) \
                   VALUES ($1, $2, $3, $4, $5, $6) \
                   ON CONFLICT (tier) DO UPDATE SET cpu_ms = excluded.cpu_ms, weight = excluded.weight, \
                   deployments_max = excluded.deployments_max, routes_max = excluded.routes_max, \
                   artifact_bytes_max = excluded.artifact_bytes_max";
        sqlx::query(sql)
            .bind(tier)
            .bind(i64::from(plan.cpu_ms))
            .bind(i64::from(plan.weight))
            .bind(plan.deployments_max.map(i64::from))
            .bind(plan.routes_max.map(i64::from))
            .bind(plan.artifact_bytes_max.map(|most| i64::try_from(most).unwrap_or(i64::MAX)))
            .execute(&mut *tx)
            .await?;
        let generation = desired::raise_generation(&mut tx).await?;
        tx.commit().await?;
        let SetPlan { cpu_ms, weight, deployments_max, routes_max, artifact_bytes_max } = *plan;
        let tier = tier.to_owned();
        Ok((Plan { tier, cpu_ms, weight, deployments_max, routes_max, artifact_bytes_max }, generation))
    }

    /// Whether the plan of the deployment's account has room for a module. Asked before it is stored; its version asks again,
    /// in its transaction.
    pub async fn check_artifact(&self, deployment: DeploymentId, hash: &str, size_bytes: u64) -> Result<()> {
        let mut connection = self.reader.acquire().await?;
        let row = deployments::find_live(&mut connection, deployment).await?;
        check_artifact(&mut connection, row.account_id, hash, size_bytes).await
    }
}

/// What an account's plan limits; none: any number.
#[derive(Default)]
struct Limits {
    deployments: Option<u32>,
    routes: Option<u32>,
    artifact_bytes: Option<u64>,
}

async fn limits(connection: &mut AnyConnection, account: AccountId) -> Result<Limits> {
    // Its own tier's plan if there is one, else that of `free`.
    let sql = "SELECT p.deployments_max, p.routes_max, p.artifact_bytes_max \
               FROM accounts a JOIN plans p ON p.tier = a.plan_tier OR p.tier = $1 WHERE a.id = $2 \
               ORDER BY CASE WHEN p.tier = a.plan_tier THEN 0 ELSE 1 END LIMIT 1";
    let query = sqlx::query(sql).bind(FREE_TIER).bind(account.to_string()).try_map(|r: AnyRow| {
        Ok(Limits {
            deployments: row::unsigned_opt(&r, "deployments_max")?,
            routes: row::unsigned_opt(&r, "routes_max")?,
            artifact_bytes: row::unsigned_opt(&r, "artifact_bytes_max")?,
        })
    });
    Ok(query.fetch_optional(connection).await?.unwrap_or_default())
}

/// Whether the account's plan allows it one more deployment.
pub(crate) async fn check_deployments(connection: &mut AnyConnection, account: AccountId) -> Result<()> {
    let Some(most) = limits(&mut *connection, account).await?.deployments else { return Ok(()) };
    let sql = "SELECT COUNT(*) FROM deployments WHERE account_id = $1 AND status <> 'deleted'";
    let count: i64 = sqlx::query_scalar(sql).bind(account.to_string()).fetch_one(connection).await?;
    if count >= i64::from(most) {
        return Err(StoreError::Limit(format!("the account's plan allows it {most} deployments")));
    }
    Ok(())
}

/// Whether the account's plan allows it so many more routes.
pub(crate) async fn check_routes(connection: &mut AnyConnection, account: AccountId, more: usize) -> Result<()> {
    let Some(most) = limits(&mut *connection, account).await?.routes else { return Ok(()) };
    // An account may have millions, brought in by an operator: no more of them are counted than matter.
    let sql = "SELECT COUNT(*) FROM (SELECT 1 AS one FROM routes r JOIN deployments d ON d.id = r.deployment_id \
               WHERE d.account_id = $1 AND d.status <> 'deleted' LIMIT $2) AS counted";
    let query = sqlx::query_scalar(sql).bind(account.to_string()).bind(i64::from(most));
    let count: i64 = query.fetch_one(connection).await?;
    let more = i64::try_from(more).unwrap_or(i64::MAX);
    if more > 0 && count.saturating_add(more) > i64::from(most) {
        return Err(StoreError::Limit(format!("the account's plan allows it {most} routes")));
    }
    Ok(())
}

/// Whether the account's plan has room for a module. One that it has already takes none.
pub(crate) async fn check_artifact(
    connection: &mut AnyConnection,
    account: AccountId,
    hash: &str,
    size_bytes: u64,
) -> Result<()> {
    let Some(most) = limits(&mut *connection, account).await?.artifact_bytes else { return Ok(()) };
    let sql = "SELECT COUNT(*) FROM deployment_versions v JOIN deployments d ON d.id = v.deployment_id \
               WHERE d.account_id = $1 AND d.status <> 'deleted' AND v.artifact_url <> '' AND v.artifact_hash = $2";
    let query = sqlx::query_scalar(sql).bind(account.to_string()).bind(hash);
    let same: i64 = query.fetch_one(&mut *connection).await?;
    if same > 0 {
        return Ok(());
    }
    // PostgreSQL's sum of BIGINTs is a NUMERIC.
    let sql = "SELECT CAST(COALESCE(SUM(size_bytes), 0) AS BIGINT) FROM (SELECT MAX(v.size_bytes) AS size_bytes \
               FROM deployment_versions v JOIN deployments d ON d.id = v.deployment_id \
               WHERE d.account_id = $1 AND d.status <> 'deleted' AND v.artifact_url <> '' GROUP BY v.artifact_hash) AS stored";
    let stored: i64 = sqlx::query_scalar(sql).bind(account.to_string()).fetch_one(connection).await?;
    let stored = u64::try_from(stored).unwrap_or(0);
    if stored.saturating_add(size_bytes) > most {
        return Err(StoreError::Limit(format!(
            "the account's plan allows it {most} bytes of modules: it has stored {stored}, and this one has {size_bytes}"
        )));
    }
    Ok(())
}
