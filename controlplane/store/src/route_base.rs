//! Which routes have changed since all of them were compiled last.
//!
//! Routes may be too many to be read for each change. What was compiled of them, the *base*, is a file of whoever compiles;
//! here stands its name, the generation that it was made at, and each pattern that was changed since: written in the
//! transaction of the change, so that base and changes together are always the routes in force.
//!
//! *Invariant:* of generations above the *floor* no change is missing. Where many routes come at once
//! ([`Store::import_routes`]) they are not noted one by one: the floor rises, and the base no longer counts.

use futures_util::TryStreamExt;
use model::DeploymentId;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row};

use crate::{DesiredState, NewRoute, Result, Store, desired, routes, row};

/// Routes that are put in with one transaction.
const IMPORT_ROWS: usize = 50_000;
/// And with one statement.
const STATEMENT_ROWS: usize = 200;
/// Routes that are read with one statement.
const READ_ROWS: i64 = 20_000;

/// The base that was made last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseRecord {
    /// What names its file.
    pub name: String,
    /// It has the routes in force at this generation.
    pub generation: u64,
    /// What its patterns were checked against.
    pub platform_domain: String,
}

/// A pattern that was changed, and where it leads now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteChange {
    /// In its normal form.
    pub pattern: String,
    /// None: it is no route, or out of force.
    pub deployment: Option<DeploymentId>,
}

/// Notes that patterns were changed; gives the generation that has it so. To be called by every transaction that changes routes,
/// but for those that take a deployment away with them.
pub(crate) async fn note_changes(connection: &mut AnyConnection, patterns: &[&str]) -> sqlx::Result<u64> {
    // First, and whether nodes are to see it or not: changes are numbered in the order in which they are committed.
    let generation = desired::raise_generation(connection).await?;
    let sql = "INSERT INTO route_changes (pattern, generation) VALUES ($1, $2) \
               ON CONFLICT (pattern) DO UPDATE SET generation = excluded.generation";
    for pattern in patterns {
        let number = i64::try_from(generation).unwrap_or(i64::MAX);
        sqlx::query(sql).bind(*pattern).bind(number).execute(&mut *connection).await?;
    }
    Ok(generation)
}

impl Store {
    /// The base that was made last, if changes since are known.
    pub async fn route_base(&self) -> Result<Option<BaseRecord>> {
        let mut connection = self.reader.acquire().await?;
        Ok(base_record(&mut connection).await?)
    }

    /// Whether more than `most` routes are in force.
    pub async fn routes_exceed(&self, most: usize) -> Result<bool> {
        let sql = "SELECT COUNT(*) FROM (SELECT 1 FROM routes WHERE enabled LIMIT $1) AS few";
        let limit = i64::try_from(most).unwrap_or(i64::MAX).saturating_add(1);
        let count: i64 = sqlx::query_scalar(sql).bind(limit).fetch_one(&self.reader).await?;
        Ok(count == limit)
    }

    /// Hands over every route in force, also of deployments that serve nothing yet, one by one; gives the generation of that moment.
    pub async fn each_route(&self, mut take: impl FnMut(DeploymentId, &str) + Send) -> Result<u64> {
        let mut tx = self.read().await?;
        let generation = desired::generation(&mut tx).await?;
        // Page by page: a statement over all of millions would take longer than a statement may.
        let sql = "SELECT id, deployment_id, pattern FROM routes WHERE enabled AND id > $1 ORDER BY id LIMIT $2";
        let mut after = String::new();
        loop {
            let mut few = 0;
            let mut routes = sqlx::query(sql).bind(after.clone()).bind(READ_ROWS).fetch(&mut *tx);
            while let Some(route) = routes.try_next().await? {
                take(row::parsed(&route, "deployment_id")?, route.try_get("pattern")?);
                few += 1;
                if few == READ_ROWS {
                    after = route.try_get("id")?;
                }
            }
            drop(routes);
            if few < READ_ROWS {
                break;
            }
        }
        tx.commit().await?;
        Ok(generation)
    }

    /// Keeps in mind the base that was made of [`Store::each_route`]'s routes, and forgets the changes that are in it. False: it is not
    /// of use any more, for routes have come that were not noted one by one.
    pub async fn set_route_base(&self, base: &BaseRecord) -> Result<bool> {
        let mut tx = self.write().await?;
        let generation = i64::try_from(base.generation).unwrap_or(i64::MAX);
        let sql = "UPDATE route_base SET name = $1, generation = $2, floor = $2, platform_domain = $3 \
                   WHERE id = 1 AND floor <= $2";
        let query = sqlx::query(sql).bind(&base.name).bind(generation).bind(&base.platform_domain);
        if query.execute(&mut *tx).await?.rows_affected() == 0 {
            return Ok(false);
        }
        let sql = "DELETE FROM route_changes WHERE generation <= $1";
        sqlx::query(sql).bind(generation).execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Forgets base and changes: all routes are read each time.
    pub async fn forget_route_base(&self) -> Result<()> {
        let sql = "SELECT 1 FROM route_base WHERE name <> '' UNION ALL SELECT 1 FROM route_changes LIMIT 1";
        if sqlx::query(sql).fetch_optional(&self.reader).await?.is_none() {
            return Ok(());
        }
        let mut tx = self.write().await?;
        let generation = desired::generation(&mut tx).await?;
        sqlx::query("UPDATE route_base SET name = '', floor = $1 WHERE id = 1")
            .bind(i64::try_from(generation).unwrap_or(i64::MAX))
            .execute(&mut *tx)
            .await?;
        sqlx::query("DELETE FROM route_changes").execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(())
    }

    /// As [`Store::desired_state`], but with the changes since the base of that name in place of all routes. None: that is not the base
    /// that was made last, or it was checked against another platform domain, or more than `most` patterns have changed.
    pub async fn desired_over_base(
        &self,
        going: &[DeploymentId],
        name: &str,
        platform_domain: &str,
        most: usize,
    ) -> Result<Option<(DesiredState, Vec<RouteChange>)>> {
        let mut tx = self.read().await?;
        let record = base_record(&mut tx).await?;
        let ours = |record: &BaseRecord| record.name == name && record.platform_domain == platform_domain;
        let Some(record) = record.filter(ours) else { return Ok(None) };
        let sql = "SELECT c.pattern, r.deployment_id FROM route_changes c \
                   LEFT JOIN routes r ON r.pattern = c.pattern AND r.enabled \
                   WHERE c.generation > $1 ORDER BY c.pattern LIMIT $2";
        let query = sqlx::query(sql)
            .bind(i64::try_from(record.generation).unwrap_or(i64::MAX))
            .bind(i64::try_from(most).unwrap_or(i64::MAX).saturating_add(1));
        let changes = query.try_map(|r: AnyRow| {
            Ok(RouteChange { pattern: r.try_get("pattern")?, deployment: row::parsed_opt(&r, "deployment_id")? })
        });
        let changes = changes.fetch_all(&mut *tx).await?;
        if changes.len() > most {
            return Ok(None);
        }
        let state = self.desired_in(&mut tx, going, false).await?;
        tx.commit().await?;
        Ok(Some((state, changes)))
    }

    /// Puts in many routes, in their normal form, some thousands with a transaction. Those whose pattern is taken are left out. Gives how
    /// many were put in.
    pub async fn import_routes(&self, mut new: Vec<(DeploymentId, NewRoute)>) -> Result<u64> {
        // Patterns are indexed: in their order, neighbours go to the same page. Among millions each would have one of its own to write.
        new.sort_by(|(_, one), (_, other)| one.pattern.cmp(&other.pattern));
        let mut added = 0;
        for part in new.chunks(IMPORT_ROWS) {
            let mut tx = self.write().await?;
            let generation = desired::raise_generation(&mut tx).await?;
            sqlx::query("UPDATE route_base SET floor = $1 WHERE id = 1")
                .bind(i64::try_from(generation).unwrap_or(i64::MAX))
                .execute(&mut *tx)
                .await?;
            for few in part.chunks(STATEMENT_ROWS) {
                added += routes::insert_new(&mut tx, few).await?;
            }
            tx.commit().await?;
        }
        Ok(added)
    }
}

async fn base_record(connection: &mut AnyConnection) -> sqlx::Result<Option<BaseRecord>> {
    let sql =
        "SELECT name, generation, platform_domain FROM route_base WHERE id = 1 AND name <> '' AND generation >= floor";
    let query = sqlx::query(sql).try_map(|r: AnyRow| {
        Ok(BaseRecord {
            name: r.try_get("name")?,
            generation: row::unsigned(&r, "generation")?,
            platform_domain: r.try_get("platform_domain")?,
        })
    });
    query.fetch_optional(connection).await
}
