//! Routes of deployments. Patterns come in their normal form and are unique on the platform.

use model::{DeploymentId, Route, RouteId, rules};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Row};

use crate::error::conflict;
use crate::{NewRoute, Page, Result, Store, StoreError, deployments, plans, route_base, row};

fn from_row(row: &AnyRow) -> sqlx::Result<Route> {
    Ok(Route {
        id: row::parsed(row, "id")?,
        deployment_id: row::parsed(row, "deployment_id")?,
        pattern: row.try_get("pattern")?,
        zone_id: row.try_get("zone_id")?,
        enabled: row::flag(row, "enabled")?,
    })
}

pub(crate) async fn insert(
    connection: &mut AnyConnection,
    deployment: DeploymentId,
    new: &NewRoute,
    field: &str,
) -> Result<Route> {
    let route = Route {
        id: RouteId::new(),
        deployment_id: deployment,
        pattern: new.pattern.clone(),
        zone_id: new.zone_id.clone(),
        enabled: new.enabled,
    };
    let sql = "INSERT INTO routes (id, deployment_id, pattern, zone_id, enabled) VALUES ($1, $2, $3, $4, $5)";
    sqlx::query(sql)
        .bind(route.id.to_string())
        .bind(deployment.to_string())
        .bind(&route.pattern)
        .bind(&route.zone_id)
        .bind(route.enabled)
        .execute(connection)
        .await
        .map_err(|e| conflict(e, field, format!("the route {:?} is taken", route.pattern)))?;
    Ok(route)
}

/// Inserts routes with one statement, but for those whose pattern is taken; gives how many were inserted.
pub(crate) async fn insert_new(connection: &mut AnyConnection, new: &[(DeploymentId, NewRoute)]) -> Result<u64> {
    const COLUMNS: usize = 5;
    let row = |first: usize| (first..first + COLUMNS).map(|column| format!("${column}")).collect::<Vec<_>>().join(", ");
    let rows: Vec<String> = (0..new.len()).map(|number| format!("({})", row(number * COLUMNS + 1))).collect();
    let sql = format!(
        "INSERT INTO routes (id, deployment_id, pattern, zone_id, enabled) VALUES {} ON CONFLICT (pattern) DO NOTHING",
        rows.join(", ")
    );
    // Placeholders and no values: see above.
    let mut query = sqlx::query(AssertSqlSafe(sql));
    for (deployment, route) in new {
        query = query
            .bind(RouteId::new().to_string())
            .bind(deployment.to_string())
            .bind(&route.pattern)
            .bind(&route.zone_id)
            .bind(route.enabled);
    }
    Ok(query.execute(connection).await?.rows_affected())
}

impl Store {
    /// A deployment's routes in the order they were made.
    pub async fn routes(&self, deployment: DeploymentId, page: &Page) -> Result<Vec<Route>> {
        let sql = "SELECT id, deployment_id, pattern, zone_id, COALESCE(enabled, FALSE) AS enabled FROM routes \
                   WHERE deployment_id = $1 AND id > $2 ORDER BY id LIMIT $3";
        let after = page.after.as_deref().unwrap_or("");
        let query = sqlx::query(sql).bind(deployment.to_string()).bind(after).bind(i64::from(page.limit));
        Ok(query.try_map(|r| from_row(&r)).fetch_all(&self.reader).await?)
    }

    /// Adds a route; gives the generation that has it.
    pub async fn add_route(&self, deployment: DeploymentId, new: &NewRoute) -> Result<(Route, u64)> {
        let mut tx = self.write().await?;
        let owner = deployments::find_live(&mut tx, deployment).await?.account_id;
        let sql = "SELECT COUNT(*) FROM routes WHERE deployment_id = $1";
        let count: i64 = sqlx::query_scalar(sql).bind(deployment.to_string()).fetch_one(&mut *tx).await?;
        if count >= rules::ROUTES_MAX as i64 {
            return Err(StoreError::Limit(format!("a deployment has at most {} routes", rules::ROUTES_MAX)));
        }
        plans::check_routes(&mut tx, owner, 1).await?;
        let route = insert(&mut tx, deployment, new, "pattern").await?;
        let generation = route_base::note_changes(&mut tx, &[&route.pattern]).await?;
        tx.commit().await?;
        Ok((route, generation))
    }

    /// Puts a route in or out of force; gives the generation that has it so.
    pub async fn set_route_enabled(
        &self,
        deployment: DeploymentId,
        id: RouteId,
        enabled: bool,
    ) -> Result<(Route, u64)> {
        let mut tx = self.write().await?;
        deployments::find_live(&mut tx, deployment).await?;
        let sql = "UPDATE routes SET enabled = $1 WHERE id = $2 AND deployment_id = $3 \
                   RETURNING id, deployment_id, pattern, zone_id, COALESCE(enabled, FALSE) AS enabled";
        let query = sqlx::query(sql).bind(enabled).bind(id.to_string()).bind(deployment.to_string());
        let route = query.try_map(|r| from_row(&r)).fetch_optional(&mut *tx).await?;
        let route = route.ok_or(StoreError::NotFound("route"))?;
        let generation = route_base::note_changes(&mut tx, &[&route.pattern]).await?;
        tx.commit().await?;
        Ok((route, generation))
    }

    /// Takes a route away; gives the generation without it.
    pub async fn delete_route(&self, deployment: DeploymentId, id: RouteId) -> Result<(Route, u64)> {
        let mut tx = self.write().await?;
        deployments::find_live(&mut tx, deployment).await?;
        let sql = "DELETE FROM routes WHERE id = $1 AND deployment_id = $2 \
                   RETURNING id, deployment_id, pattern, zone_id, COALESCE(enabled, FALSE) AS enabled";
        let query = sqlx::query(sql).bind(id.to_string()).bind(deployment.to_string());
        let route = query.try_map(|r| from_row(&r)).fetch_optional(&mut *tx).await?;
        let route = route.ok_or(StoreError::NotFound("route"))?;
        let generation = route_base::note_changes(&mut tx, &[&route.pattern]).await?;
        tx.commit().await?;
        Ok((route, generation))
    }
}
