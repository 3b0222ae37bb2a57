//! Versions: reading them. They are written by the operations of `lifecycle`.

use model::{DeploymentId, ModuleError, Timestamp, Version, VersionId, VersionMetadata, VersionStatus};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row};

use crate::{Page, Result, Store, VersionRef, row};

/// A version as stored.
#[derive(Clone, Debug)]
pub struct VersionRow {
    /// Its id.
    pub id: VersionId,
    /// Whose it is.
    pub deployment_id: DeploymentId,
    /// From 1 in the order of uploads.
    pub version_number: u32,
    /// SHA-256 of the module, 64 hex digits.
    pub artifact_hash: String,
    /// Where the artifact store has it; empty if it was not stored.
    pub artifact_url: String,
    /// Bytes of the module.
    pub size_bytes: u64,
    /// Whether it can be activated.
    pub status: VersionStatus,
    /// Why not.
    pub error: Option<ModuleError>,
    /// What came with it.
    pub metadata: VersionMetadata,
    /// The version that was active when this one was last activated.
    pub previous_version_id: Option<VersionId>,
    /// SHA-256 of its source map, 64 hex digits.
    pub map_hash: Option<String>,
    /// When it was uploaded.
    pub created_at: Timestamp,
    /// Whether it is the deployment's active one.
    pub active: bool,
}

impl VersionRow {
    /// As the API shows it.
    pub fn to_api(&self) -> Version {
        Version {
            id: self.id,
            deployment_id: self.deployment_id,
            version_number: self.version_number,
            artifact_hash: format!("sha256:{}", self.artifact_hash),
            size_bytes: self.size_bytes,
            status: self.status,
            error: self.error.clone(),
            active: self.active,
            has_source_map: self.map_hash.is_some(),
            metadata: self.metadata.clone(),
            created_at: self.created_at,
        }
    }
}

/// A version that is uploaded.
#[derive(Clone, Debug)]
pub struct NewVersion {
    /// SHA-256 of the module, 64 hex digits.
    pub artifact_hash: String,
    /// Where the artifact store has it; empty if it was refused unstored.
    pub artifact_url: String,
    /// Bytes of the module.
    pub size_bytes: u64,
    /// What came with it.
    pub metadata: VersionMetadata,
    /// SHA-256 of its source map, which is stored already.
    pub map_hash: Option<String>,
}

/// The one SELECT of versions, joined with what its deployment serves.
macro_rules! version_sql {
    ($tail:literal) => {
        concat!(
            "SELECT v.id, v.deployment_id, v.version_number, v.artifact_hash, v.artifact_url, v.size_bytes, v.status, ",
            "v.error, v.metadata, v.previous_version_id, v.map_hash, v.created_at, ",
            "COALESCE(d.active_version_id = v.id, FALSE) AS active ",
            "FROM deployment_versions v JOIN deployments d ON d.id = v.deployment_id ",
            $tail
        )
    };
}
pub(crate) use version_sql;

pub(crate) fn from_row(row: &AnyRow) -> sqlx::Result<VersionRow> {
    Ok(VersionRow {
        id: row::parsed(row, "id")?,
        deployment_id: row::parsed(row, "deployment_id")?,
        version_number: row::unsigned(row, "version_number")?,
        artifact_hash: row.try_get("artifact_hash")?,
        artifact_url: row.try_get("artifact_url")?,
        size_bytes: row::unsigned(row, "size_bytes")?,
        status: row::named(row, "status", VersionStatus::from_name)?,
        error: row::json_opt(row, "error")?,
        metadata: row::json(row, "metadata")?,
        previous_version_id: row::parsed_opt(row, "previous_version_id")?,
        map_hash: row.try_get("map_hash")?,
        created_at: row::time(row, "created_at")?,
        active: row::flag(row, "active")?,
    })
}

impl Store {
    /// A deployment's version by number or id.
    pub async fn version(&self, deployment: DeploymentId, which: VersionRef) -> Result<Option<VersionRow>> {
        let mut connection = self.reader.acquire().await?;
        Ok(find(&mut connection, deployment, which).await?)
    }

    /// A deployment's versions, newest first. The page goes on after a version's number.
    pub async fn versions(&self, deployment: DeploymentId, page: &Page) -> Result<Vec<VersionRow>> {
        let before = page.after.as_deref().and_then(|text| text.parse().ok()).unwrap_or(i64::MAX);
        let sql = version_sql!(
            "WHERE v.deployment_id = $1 AND v.version_number < $2 ORDER BY v.version_number DESC LIMIT $3"
        );
        let query = sqlx::query(sql).bind(deployment.to_string()).bind(before).bind(i64::from(page.limit));
        Ok(query.try_map(|r| from_row(&r)).fetch_all(&self.reader).await?)
    }

    /// Hashes of all artifacts that a version has, in order: what the artifact store must keep.
    pub async fn artifact_hashes(&self) -> Result<Vec<String>> {
        let sql = "SELECT DISTINCT artifact_hash FROM deployment_versions WHERE artifact_url <> '' ORDER BY 1";
        Ok(sqlx::query_scalar(sql).fetch_all(&self.reader).await?)
    }

    /// Hashes of the artifacts whose code cache the artifact store must keep too.
    pub async fn artifacts_with_code(&self) -> Result<Vec<String>> {
        let sql = "SELECT DISTINCT artifact_hash FROM deployment_versions WHERE code_hash IS NOT NULL ORDER BY 1";
        Ok(sqlx::query_scalar(sql).fetch_all(&self.reader).await?)
    }

    /// Hashes of the source maps that the artifact store must keep too.
    pub async fn map_hashes(&self) -> Result<Vec<String>> {
        let sql = "SELECT DISTINCT map_hash FROM deployment_versions WHERE map_hash IS NOT NULL ORDER BY 1";
        Ok(sqlx::query_scalar(sql).fetch_all(&self.reader).await?)
    }

    /// Whether a validation of that artifact made a code cache of that hash.
    pub async fn has_code(&self, artifact_hash: &str, code_hash: &str) -> Result<bool> {
        let sql = "SELECT 1 FROM deployment_versions WHERE artifact_hash = $1 AND code_hash = $2 LIMIT 1";
        let query = sqlx::query(sql).bind(artifact_hash).bind(code_hash);
        Ok(query.fetch_optional(&self.reader).await?.is_some())
    }
}

pub(crate) async fn find(
    connection: &mut AnyConnection,
    deployment: DeploymentId,
    which: VersionRef,
) -> sqlx::Result<Option<VersionRow>> {
    let query = match which {
        VersionRef::Number(number) => sqlx::query(version_sql!("WHERE v.deployment_id = $1 AND v.version_number = $2"))
            .bind(deployment.to_string())
            .bind(i64::from(number)),
        VersionRef::Id(id) => sqlx::query(version_sql!("WHERE v.deployment_id = $1 AND v.id = $2"))
            .bind(deployment.to_string())
            .bind(id.to_string()),
    };
    query.try_map(|r| from_row(&r)).fetch_optional(connection).await
}
