//! Requests of deployments, and which deployments have the most: their modules nodes have ahead (seed 000, code distribution).
//!
//! The rank is by the requests of the last [`DAYS`] days, then by the last change, so that what is new has a place before what nobody asks
//! for. One that has a place keeps it until it is a tenth behind the last place: a rank that goes up and down changes no snapshot.

use std::collections::HashSet;

use model::{DeploymentId, Timestamp};
use sqlx::AnyConnection;
use sqlx::any::AnyRow;

use crate::{Result, Store, desired, row};

/// Days whose requests count.
const DAYS: i64 = 7;
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

impl Store {
    /// Adds requests that were made now. Those of deployments that are no more are left out.
    pub async fn add_traffic(&self, counts: &[(DeploymentId, u64)]) -> Result<()> {
        let day = Timestamp::now().unix_ms() / DAY_MS;
        let sql = "INSERT INTO traffic (deployment_id, day, requests) SELECT id, $1, $2 FROM deployments WHERE id = $3 \
                   ON CONFLICT (deployment_id, day) DO UPDATE SET requests = traffic.requests + excluded.requests";
        let mut tx = self.write().await?;
        for (deployment, requests) in counts {
            let requests = i64::try_from(*requests).unwrap_or(i64::MAX);
            sqlx::query(sql).bind(day).bind(requests).bind(deployment.to_string()).execute(&mut *tx).await?;
        }
        sqlx::query("DELETE FROM traffic WHERE day <= $1").bind(day - DAYS).execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Decides anew which `most` deployments' modules nodes have ahead: those with the most requests; all, while there are no more. Gives
    /// the generation that has it, if that is a change.
    pub async fn rank_by_traffic(&self, most: u32) -> Result<Option<u64>> {
        let mut tx = self.write().await?;
        let before = pushed(&mut tx).await?;
        let after = ranked(&mut tx, most, &before).await?;
        if after == before {
            return Ok(None);
        }
        for gone in before.difference(&after) {
            let sql = "DELETE FROM pushed WHERE deployment_id = $1";
            sqlx::query(sql).bind(gone.to_string()).execute(&mut *tx).await?;
        }
        for new in after.difference(&before) {
            let sql = "INSERT INTO pushed (deployment_id) VALUES ($1)";
            sqlx::query(sql).bind(new.to_string()).execute(&mut *tx).await?;
        }
        let generation = desired::raise_generation(&mut tx).await?;
        tx.commit().await?;
        Ok(Some(generation))
    }
}

/// The deployments whose modules nodes have ahead; empty: all.
pub(crate) async fn pushed(connection: &mut AnyConnection) -> sqlx::Result<HashSet<DeploymentId>> {
    let query = sqlx::query("SELECT deployment_id FROM pushed").try_map(|r: AnyRow| row::parsed(&r, "deployment_id"));
    Ok(query.fetch_all(connection).await?.into_iter().collect())
}

async fn ranked(
    connection: &mut AnyConnection,
    most: u32,
    before: &HashSet<DeploymentId>,
) -> sqlx::Result<HashSet<DeploymentId>> {
    let since = Timestamp::now().unix_ms() / DAY_MS - DAYS;
    let looked_at = i64::from(most) + i64::from((most / 10).max(1));
    let sql = "SELECT d.id FROM deployments d LEFT JOIN \
               (SELECT deployment_id, CAST(SUM(requests) AS BIGINT) AS requests FROM traffic WHERE day > $1 \
                GROUP BY deployment_id) t ON t.deployment_id = d.id \
               WHERE d.active_version_id IS NOT NULL \
               AND d.status IN ('deploying', 'active', 'failed', 'rolling_back', 'paused') \
               ORDER BY COALESCE(t.requests, 0) DESC, d.updated_at DESC, d.id LIMIT $2";
    let query = sqlx::query(sql).bind(since).bind(looked_at).try_map(|r: AnyRow| row::parsed(&r, "id"));
    let ranks: Vec<DeploymentId> = query.fetch_all(connection).await?;
    let most = most as usize;
    if ranks.len() <= most {
        return Ok(HashSet::new());
    }
    let stay = ranks.iter().filter(|id| before.contains(id));
    let come = ranks.iter().filter(|id| !before.contains(id));
    Ok(stay.chain(come).take(most).copied().collect())
}
