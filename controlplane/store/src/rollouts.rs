//! Rollouts: a version that gets a share of a deployment's requests beside the active one. The deployment stays `Active` and its active
//! version what it is; what is activated meanwhile ends the rollout.

use std::collections::HashMap;

use model::{DeploymentId, Fares, Rollout, RolloutStatus, State, Timestamp, VersionId, VersionMetadata};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row};

use crate::{DesiredService, Result, Store, StoreError, VersionRef, deployments, desired, lifecycle, row};

/// A rollout as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RolloutRow {
    /// Whose.
    pub deployment_id: DeploymentId,
    /// The version on trial.
    pub version_id: VersionId,
    /// Its number.
    pub version_number: u32,
    /// Hundredths of a percent.
    pub share: u32,
    /// Hundredths of a percent.
    pub error_limit: u32,
    /// What has become of it.
    pub status: RolloutStatus,
    /// Why it ended.
    pub reason: Option<String>,
    /// When it began.
    pub created_at: Timestamp,
    /// When it changed last.
    pub updated_at: Timestamp,
}

impl RolloutRow {
    /// As the API shows it.
    pub fn to_api(&self, candidate: Fares, active: Fares) -> Rollout {
        Rollout {
            deployment_id: self.deployment_id,
            version_number: self.version_number,
            percent: f64::from(self.share) / 100.0,
            error_limit_percent: f64::from(self.error_limit) / 100.0,
            status: self.status,
            reason: self.reason.clone(),
            candidate,
            active,
            created_at: self.created_at,
            updated_at: self.updated_at,
        }
    }
}

/// A version on trial as nodes are to know it.
#[derive(Clone, Debug)]
pub struct DesiredCandidate {
    /// Its number.
    pub version_number: u32,
    /// SHA-256 of its module, 64 hex digits.
    pub artifact_hash: String,
    /// Bytes of its module.
    pub size_bytes: u64,
    /// What came with it.
    pub metadata: VersionMetadata,
    /// Other Workers that it may call, by binding.
    pub services: Vec<DesiredService>,
    /// Hundredths of a percent.
    pub share: u32,
}

/// The rows of rollouts, with what comes after `FROM rollouts`.
macro_rules! rollout_sql {
    ($tail:literal) => {
        concat!(
            "SELECT deployment_id, version_id, version_number, share, error_limit, status, reason, ",
            "created_at, updated_at FROM rollouts ",
            $tail
        )
    };
}

fn from_row(row: &AnyRow) -> sqlx::Result<RolloutRow> {
    Ok(RolloutRow {
        deployment_id: row::parsed(row, "deployment_id")?,
        version_id: row::parsed(row, "version_id")?,
        version_number: row::unsigned(row, "version_number")?,
        share: row::unsigned(row, "share")?,
        error_limit: row::unsigned(row, "error_limit")?,
        status: row::named(row, "status", RolloutStatus::from_name)?,
        reason: row.try_get("reason")?,
        created_at: row::time(row, "created_at")?,
        updated_at: row::time(row, "updated_at")?,
    })
}

async fn find(connection: &mut AnyConnection, deployment: DeploymentId) -> sqlx::Result<Option<RolloutRow>> {
    let query = sqlx::query(rollout_sql!("WHERE deployment_id = $1")).bind(deployment.to_string());
    query.try_map(|r| from_row(&r)).fetch_optional(connection).await
}

/// Another version is put on its way: a rollout is over, and complete if it was that version's.
pub(crate) async fn supersede(
    connection: &mut AnyConnection,
    deployment: DeploymentId,
    version: VersionId,
) -> sqlx::Result<()> {
    let sql = "UPDATE rollouts SET status = CASE WHEN version_id = $1 THEN 'completed' ELSE 'stopped' END, updated_at = $2 \
               WHERE deployment_id = $3 AND status = 'running'";
    let query = sqlx::query(sql).bind(version.to_string()).bind(Timestamp::now().unix_ms());
    query.bind(deployment.to_string()).execute(connection).await.map(drop)
}

/// Every version on trial, by deployment.
pub(crate) async fn candidates(connection: &mut AnyConnection) -> Result<HashMap<DeploymentId, DesiredCandidate>> {
    let sql = "SELECT o.deployment_id, o.share, v.id, v.version_number, v.artifact_hash, v.size_bytes, v.metadata \
               FROM rollouts o JOIN deployment_versions v ON v.id = o.version_id WHERE o.status = 'running'";
    let rows = sqlx::query(sql).try_map(|r: AnyRow| {
        let candidate = DesiredCandidate {
            version_number: row::unsigned(&r, "version_number")?,
            artifact_hash: r.try_get("artifact_hash")?,
            size_bytes: row::unsigned(&r, "size_bytes")?,
            metadata: row::json(&r, "metadata")?,
            services: Vec::new(),
            share: row::unsigned(&r, "share")?,
        };
        Ok((row::parsed::<DeploymentId>(&r, "deployment_id")?, row::parsed::<VersionId>(&r, "id")?, candidate))
    });
    let rows = rows.fetch_all(&mut *connection).await?;
    let mut all = HashMap::new();
    for (deployment, version, mut candidate) in rows {
        let sql = "SELECT binding, target_id, entrypoint FROM version_services WHERE version_id = $1 ORDER BY binding";
        let services = sqlx::query(sql).bind(version.to_string()).try_map(|r: AnyRow| {
            Ok(DesiredService {
                binding: r.try_get("binding")?,
                target: row::parsed(&r, "target_id")?,
                entrypoint: r.try_get("entrypoint")?,
            })
        });
        candidate.services = services.fetch_all(&mut *connection).await?;
        all.insert(deployment, candidate);
    }
    Ok(all)
}

impl Store {
    /// Gives a version a share of an active deployment's requests, in the generation given; or changes its share.
    pub async fn set_rollout(
        &self,
        deployment: DeploymentId,
        version: u32,
        share: u32,
        error_limit: u32,
    ) -> Result<(RolloutRow, u64)> {
        let mut tx = self.write().await?;
        let row = deployments::find_live(&mut tx, deployment).await?;
        if row.status != State::Active {
            let message = format!("the deployment is {}; only an active one has requests to share", row.status);
            return Err(StoreError::Precondition(message));
        }
        let version = lifecycle::usable_version(&mut tx, deployment, VersionRef::Number(version)).await?;
        if version.active {
            let message = format!("version {} is the active one", version.version_number);
            return Err(StoreError::Precondition(message));
        }
        let now = Timestamp::now();
        let before = find(&mut tx, deployment).await?;
        let goes_on = before.filter(|row| row.status == RolloutStatus::Running && row.version_id == version.id);
        let rollout = RolloutRow {
            deployment_id: deployment,
            version_id: version.id,
            version_number: version.version_number,
            share,
            error_limit,
            status: RolloutStatus::Running,
            reason: None,
            created_at: goes_on.map_or(now, |row| row.created_at),
            updated_at: now,
        };
        sqlx::query("DELETE FROM rollouts WHERE deployment_id = $1")
            .bind(deployment.to_string())
            .execute(&mut *tx)
            .await?;
        let sql = "INSERT INTO rollouts (deployment_id, version_id, version_number, share, error_limit, status, \
                   created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
        sqlx::query(sql)
            .bind(deployment.to_string())
            .bind(rollout.version_id.to_string())
            .bind(i64::from(rollout.version_number))
            .bind(i64::from(share))
            .bind(i64::from(error_limit))
            .bind(rollout.status.as_str())
            .bind(rollout.created_at.unix_ms())
            .bind(now.unix_ms())
            .execute(&mut *tx)
            .await?;
        let generation = desired::raise_generation(&mut tx).await?;
        tx.commit().await?;
        Ok((rollout, generation))
    }

    /// Ends a rollout that runs; gives the generation without it. None: no rollout runs.
    pub async fn end_rollout(
        &self,
        deployment: DeploymentId,
        status: RolloutStatus,
        reason: Option<&str>,
    ) -> Result<Option<(RolloutRow, u64)>> {
        let mut tx = self.write().await?;
        let sql = "UPDATE rollouts SET status = $1, reason = $2, updated_at = $3 \
                   WHERE deployment_id = $4 AND status = 'running'";
        let query = sqlx::query(sql).bind(status.as_str()).bind(reason).bind(Timestamp::now().unix_ms());
        if query.bind(deployment.to_string()).execute(&mut *tx).await?.rows_affected() == 0 {
            return Ok(None);
        }
        let generation = desired::raise_generation(&mut tx).await?;
        let row = find(&mut tx, deployment).await?.ok_or(StoreError::NotFound("rollout"))?;
        tx.commit().await?;
        Ok(Some((row, generation)))
    }

    /// A deployment's last rollout.
    pub async fn rollout(&self, deployment: DeploymentId) -> Result<Option<RolloutRow>> {
        let mut connection = self.reader.acquire().await?;
        Ok(find(&mut connection, deployment).await?)
    }

    /// Every rollout that runs.
    pub async fn running_rollouts(&self) -> Result<Vec<RolloutRow>> {
        let query = sqlx::query(rollout_sql!("WHERE status = 'running' ORDER BY deployment_id"));
        Ok(query.try_map(|r| from_row(&r)).fetch_all(&self.reader).await?)
    }
}
