//! Service bindings of versions: which deployment each names. Found once, at upload, among those of the same account; a deployment keeps
//! its id through renames, so a binding leads to the same Worker for as long as there is one.

use std::collections::HashMap;

use model::{DeploymentId, VersionId, VersionMetadata};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row};

use crate::deployments::DeploymentRow;
use crate::{Result, StoreError, row};

/// A service binding as nodes are to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredService {
    /// Name in `env`.
    pub binding: String,
    /// Which deployment.
    pub target: DeploymentId,
    /// Name of an export; empty for the default one.
    pub entrypoint: String,
}

/// Finds what a new version's bindings name and keeps it. Of deployments of one name, that of the same project is meant.
pub(crate) async fn insert(
    connection: &mut AnyConnection,
    deployment: &DeploymentRow,
    version: VersionId,
    metadata: &VersionMetadata,
) -> Result<()> {
    for (i, service) in metadata.services.iter().enumerate() {
        let sql = "SELECT id FROM deployments WHERE account_id = $1 AND (name = $2 OR subdomain = $2) \
                   AND status NOT IN ('deleting', 'deleted') \
                   ORDER BY name <> $2, project_id <> $3, id LIMIT 1";
        let found = sqlx::query(sql)
            .bind(deployment.account_id.to_string())
            .bind(&service.service)
            .bind(deployment.project_id.to_string())
            .try_map(|r: AnyRow| row::parsed::<DeploymentId>(&r, "id"));
        let target = found.fetch_optional(&mut *connection).await?.ok_or_else(|| StoreError::Conflict {
            field: format!("metadata.services[{i}].service"),
            message: format!(
                "could not resolve the service binding {:?}: the account has no Worker named {:?}; deploy it first",
                service.binding, service.service
            ),
        })?;
        let sql = "INSERT INTO version_services (version_id, binding, target_id, entrypoint) VALUES ($1, $2, $3, $4)";
        sqlx::query(sql)
            .bind(version.to_string())
            .bind(&service.binding)
            .bind(target.to_string())
            .bind(service.entrypoint.as_deref().unwrap_or(""))
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

/// Whether every Worker that a version's bindings name is still there.
pub(crate) async fn check(connection: &mut AnyConnection, version: VersionId) -> Result<()> {
    let sql = "SELECT s.binding, d.name FROM version_services s JOIN deployments d ON d.id = s.target_id \
               WHERE s.version_id = $1 AND d.status IN ('deleting', 'deleted') ORDER BY s.binding LIMIT 1";
    let gone = sqlx::query(sql).bind(version.to_string());
    let gone = gone.try_map(|r: AnyRow| Ok((r.try_get::<String, _>("binding")?, r.try_get::<String, _>("name")?)));
    match gone.fetch_optional(connection).await? {
        None => Ok(()),
        Some((binding, name)) => Err(StoreError::Precondition(format!(
            "the service binding {binding:?} names the Worker {name:?}, which was deleted"
        ))),
    }
}

/// Whether another deployment's active version has a binding to this one.
pub(crate) async fn check_unbound(connection: &mut AnyConnection, deployment: DeploymentId) -> Result<()> {
    let sql = "SELECT d.name, s.binding FROM version_services s \
               JOIN deployments d ON d.active_version_id = s.version_id \
               WHERE s.target_id = $1 AND d.id <> $1 AND d.status NOT IN ('deleting', 'deleted') ORDER BY d.name LIMIT 1";
    let bound = sqlx::query(sql).bind(deployment.to_string());
    let bound = bound.try_map(|r: AnyRow| Ok((r.try_get::<String, _>("name")?, r.try_get::<String, _>("binding")?)));
    match bound.fetch_optional(connection).await? {
        None => Ok(()),
        Some((name, binding)) => Err(StoreError::Precondition(format!(
            "the Worker {name:?} calls it, as its service binding {binding:?}; deploy that one without the binding first"
        ))),
    }
}

/// The bindings of all versions that are active or to be restored.
pub(crate) async fn all(connection: &mut AnyConnection) -> Result<HashMap<VersionId, Vec<DesiredService>>> {
    let sql = "SELECT DISTINCT s.version_id, s.binding, s.target_id, s.entrypoint FROM version_services s \
               JOIN deployments d ON s.version_id IN (d.active_version_id, d.restore_version_id) \
               ORDER BY s.version_id, s.binding";
    let rows = sqlx::query(sql).try_map(|r: AnyRow| {
        let service = DesiredService {
            binding: r.try_get("binding")?,
            target: row::parsed(&r, "target_id")?,
            entrypoint: r.try_get("entrypoint")?,
        };
        Ok((row::parsed::<VersionId>(&r, "version_id")?, service))
    });
    let mut by_version: HashMap<VersionId, Vec<DesiredService>> = HashMap::new();
    for (version, service) in rows.fetch_all(connection).await? {
        by_version.entry(version).or_default().push(service);
    }
    Ok(by_version)
}
