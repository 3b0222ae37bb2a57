//! The life of a deployment, one transaction a step. Which step is legal is the model's to say; what a step leaves in
//! the database is enough for a start to finish it ([`Store::unfinished`]).
//!
//! | on its way | what the rows say | how a start finishes it |
//! |---|---|---|
//! | an upload | a version `validating` | validates it again |
//! | an activation | `deploying`, the new version active, the old one to restore | publishes |
//! | a rollback | `rolling_back`, likewise | publishes |
//! | a deletion | `deleting` | publishes, then `deleted` |

use model::{DeploymentId, Event, ModuleError, State, Timestamp, VersionId, VersionStatus, transition};
use sqlx::AnyConnection;

use crate::deployments::{DeploymentRow, deployment_sql, find, find_live};
use crate::versions::version_sql;
use crate::{
    NewVersion, Result, Store, StoreError, VersionRow, deployments, desired, plans, rollouts, services, versions,
};

/// A version as a request names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VersionRef {
    /// By its number.
    Number(u32),
    /// By its id.
    Id(VersionId),
}

/// Why a version is to become the active one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It was asked for by name.
    Activate,
    /// To undo an activation.
    Rollback,
}

/// What came of asking for an activation.
#[derive(Clone, Debug)]
pub enum Begun {
    /// The version serves already; nothing was done.
    AlreadyActive(VersionRow),
    /// It is on its way, in this generation.
    Started {
        /// The version.
        version: VersionRow,
        /// What carries it.
        generation: u64,
    },
}

/// What came of a validation.
#[derive(Clone, Debug)]
pub struct Validated {
    /// The version, now valid or invalid.
    pub version: VersionRow,
    /// The generation that carries it, if it was the deployment's first code that runs: it is then on its way.
    pub deploying: Option<u64>,
}

/// What was going on when the process ended.
#[derive(Clone, Debug, Default)]
pub struct Recovery {
    /// Versions whose validation has no result.
    pub validating: Vec<VersionRow>,
    /// Deployments that are deploying or rolling back.
    pub publishing: Vec<DeploymentRow>,
    /// Deployments that are being deleted.
    pub deleting: Vec<DeploymentRow>,
}

impl Recovery {
    /// Whether nothing was going on.
    pub fn is_empty(&self) -> bool {
        self.validating.is_empty() && self.publishing.is_empty() && self.deleting.is_empty()
    }
}

impl Store {
    /// Records an uploaded version, to be validated. Its artifact is stored already. A deployment without code that runs
    /// becomes `Validating`; any other stays as it is.
    pub async fn begin_upload(&self, deployment: DeploymentId, new: &NewVersion) -> Result<VersionRow> {
        let mut tx = self.write().await?;
        let row = find_live(&mut tx, deployment).await?;
        // What was refused unstored takes no room.
        if !new.artifact_url.is_empty() {
            plans::check_artifact(&mut tx, row.account_id, &new.artifact_hash, new.size_bytes).await?;
        }
        let now = Timestamp::now();
        match row.status {
            State::Draft | State::Invalid => {
                set_status(&mut tx, deployment, transition(row.status, Event::UploadCode)?).await?;
            }
            State::Validating => {
                return Err(StoreError::Precondition(
                    "another version of the deployment is being validated".to_owned(),
                ));
            }
            _ => {}
        }
        let sql = "SELECT COALESCE(MAX(version_number), 0) + 1 FROM deployment_versions WHERE deployment_id = $1";
        let number: i64 = sqlx::query_scalar(sql).bind(deployment.to_string()).fetch_one(&mut *tx).await?;
        let version_number = u32::try_from(number)
            .map_err(|_| StoreError::Limit("the deployment has used up its version numbers".to_owned()))?;
        let version = VersionRow {
            id: VersionId::new(),
            deployment_id: deployment,
            version_number,
            artifact_hash: new.artifact_hash.clone(),
            artifact_url: new.artifact_url.clone(),
            size_bytes: new.size_bytes,
            status: VersionStatus::Validating,
            error: None,
            metadata: new.metadata.clone(),
            previous_version_id: None,
            map_hash: new.map_hash.clone(),
            created_at: now,
            active: false,
        };
        let sql = "INSERT INTO deployment_versions (id, deployment_id, artifact_hash, artifact_url, size_bytes, \
                   version_number, status, metadata, map_hash, created_at) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
        sqlx::query(sql)
            .bind(version.id.to_string())
            .bind(deployment.to_string())
            .bind(&version.artifact_hash)
            .bind(&version.artifact_url)
            .bind(i64::try_from(version.size_bytes).unwrap_or(i64::MAX))
            .bind(number)
            .bind(version.status.as_str())
            .bind(serde_json::to_string(&version.metadata).expect("metadata is plain data"))
            .bind(&version.map_hash)
            .bind(now.unix_ms())
            .execute(&mut *tx)
            .await?;
        services::insert(&mut tx, &row, version.id, &version.metadata).await?;
        tx.commit().await?;
        Ok(version)
    }

    /// Records what the validator said. If the deployment was waiting for it, it becomes `Invalid`, or `Deploying` with
    /// this version on its way. A valid module may have a code cache in the artifact store: its SHA-256.
    pub async fn finish_validation(
        &self,
        deployment: DeploymentId,
        version: VersionId,
        verdict: std::result::Result<Option<String>, ModuleError>,
    ) -> Result<Validated> {
        let mut tx = self.write().await?;
        let row = find_live(&mut tx, deployment).await?;
        let error = verdict.as_ref().err();
        let status = if error.is_none() { VersionStatus::Valid } else { VersionStatus::Invalid };
        let sql = "UPDATE deployment_versions SET status = $1, error = $2, code_hash = $3 \
                   WHERE id = $4 AND status = 'validating'";
        let done = sqlx::query(sql)
            .bind(status.as_str())
            .bind(error.map(|error| serde_json::to_string(error).expect("an error is plain data")))
            .bind(verdict.as_ref().ok().and_then(Option::as_deref))
            .bind(version.to_string())
            .execute(&mut *tx)
            .await?;
        let mut deploying = None;
        if done.rows_affected() == 1 && row.status == State::Validating {
            let event = if error.is_none() { Event::ValidationPassed } else { Event::ValidationFailed };
            set_status(&mut tx, deployment, transition(row.status, event)?).await?;
            if error.is_none() {
                deploying = Some(put_on_its_way(&mut tx, &row, version).await?);
            }
        }
        let version = versions::find(&mut tx, deployment, VersionRef::Id(version)).await?;
        let version = version.ok_or(StoreError::NotFound("version"))?;
        tx.commit().await?;
        Ok(Validated { version, deploying })
    }

    /// Puts a valid version on its way: `Active` or `Failed` to `Deploying`.
    pub async fn begin_activation(&self, deployment: DeploymentId, which: VersionRef) -> Result<Begun> {
        let mut tx = self.write().await?;
        let row = find_live(&mut tx, deployment).await?;
        let version = usable_version(&mut tx, deployment, which).await?;
        if row.status == State::Active && version.active {
            return Ok(Begun::AlreadyActive(version));
        }
        set_status(&mut tx, deployment, transition(row.status, Event::Activate)?).await?;
        let generation = put_on_its_way(&mut tx, &row, version.id).await?;
        tx.commit().await?;
        Ok(Begun::Started { version, generation })
    }

    /// Puts an earlier version on its way: `Active` to `RollingBack`. Without a number: the one that was active when the
    /// present one was activated.
    pub async fn begin_rollback(&self, deployment: DeploymentId, number: Option<u32>) -> Result<Begun> {
        let mut tx = self.write().await?;
        let row = find_live(&mut tx, deployment).await?;
        let status = transition(row.status, Event::Rollback)?;
        let which = match number {
            Some(number) => VersionRef::Number(number),
            None => VersionRef::Id(previous(&mut tx, &row).await?),
        };
        let version = usable_version(&mut tx, deployment, which).await?;
        if version.active {
            return Ok(Begun::AlreadyActive(version));
        }
        set_status(&mut tx, deployment, status).await?;
        let generation = put_on_its_way(&mut tx, &row, version.id).await?;
        tx.commit().await?;
        Ok(Begun::Started { version, generation })
    }

    /// Every connected node serves what was on its way: `Active`. Anything but `Deploying` and `RollingBack` stays.
    pub async fn finish_activation(&self, deployment: DeploymentId) -> Result<DeploymentRow> {
        let mut tx = self.write().await?;
        let row = find(&mut tx, deployment).await?.ok_or(StoreError::NotFound("deployment"))?;
        let event = match row.status {
            State::Deploying => Event::DeployComplete,
            State::RollingBack => Event::RollbackComplete,
            _ => return Ok(row),
        };
        set_status(&mut tx, deployment, transition(row.status, event)?).await?;
        let replaced = row.restore_version_id;
        // A rollback leaves the history as it was: rolling back again goes one further back.
        if let (Event::DeployComplete, Some(active), Some(replaced)) = (event, row.active, replaced)
            && active.id != replaced
        {
            let sql = "UPDATE deployment_versions SET previous_version_id = $1 WHERE id = $2";
            sqlx::query(sql).bind(replaced.to_string()).bind(active.id.to_string()).execute(&mut *tx).await?;
        }
        let sql = "UPDATE deployments SET restore_version_id = NULL WHERE id = $1";
        sqlx::query(sql).bind(deployment.to_string()).execute(&mut *tx).await?;
        let row = find(&mut tx, deployment).await?.ok_or(StoreError::NotFound("deployment"))?;
        tx.commit().await?;
        Ok(row)
    }

    /// A node refused what was on its way: `Failed`, with the version before it active again, in the generation given.
    /// Anything but `Deploying` and `RollingBack` stays.
    pub async fn fail_activation(&self, deployment: DeploymentId) -> Result<(DeploymentRow, u64)> {
        let mut tx = self.write().await?;
        let row = find(&mut tx, deployment).await?.ok_or(StoreError::NotFound("deployment"))?;
        let event = match row.status {
            State::Deploying => Event::DeployFailed,
            State::RollingBack => Event::RollbackFailed,
            _ => return Err(StoreError::Precondition("nothing is on its way".to_owned())),
        };
        set_status(&mut tx, deployment, transition(row.status, event)?).await?;
        let sql = "UPDATE deployments SET active_version_id = restore_version_id, restore_version_id = NULL \
                   WHERE id = $1";
        sqlx::query(sql).bind(deployment.to_string()).execute(&mut *tx).await?;
        let generation = desired::raise_generation(&mut tx).await?;
        let row = find(&mut tx, deployment).await?.ok_or(StoreError::NotFound("deployment"))?;
        tx.commit().await?;
        Ok((row, generation))
    }

    /// Stops or starts serving. The generation is `None` if it was so already.
    pub async fn set_paused(&self, deployment: DeploymentId, paused: bool) -> Result<(DeploymentRow, Option<u64>)> {
        let mut tx = self.write().await?;
        let row = find_live(&mut tx, deployment).await?;
        let (event, wanted) = if paused { (Event::Pause, State::Paused) } else { (Event::Resume, State::Active) };
        if row.status == wanted {
            return Ok((row, None));
        }
        set_status(&mut tx, deployment, transition(row.status, event)?).await?;
        let generation = desired::raise_generation(&mut tx).await?;
        let row = find(&mut tx, deployment).await?.ok_or(StoreError::NotFound("deployment"))?;
        tx.commit().await?;
        Ok((row, Some(generation)))
    }

    /// Takes a deployment out of what nodes are to serve; gives the generation without it. Once more changes nothing.
    pub async fn begin_delete(&self, deployment: DeploymentId) -> Result<u64> {
        let mut tx = self.write().await?;
        let row = find(&mut tx, deployment).await?.filter(|row| row.status != State::Deleted);
        let row = row.ok_or(StoreError::NotFound("deployment"))?;
        if row.status != State::Deleting {
            services::check_unbound(&mut tx, deployment).await?;
            set_status(&mut tx, deployment, transition(row.status, Event::Delete)?).await?;
        }
        let generation = desired::raise_generation(&mut tx).await?;
        tx.commit().await?;
        Ok(generation)
    }

    /// No connected node serves it any more: its versions, routes and variables go, its subdomain is free; only the row
    /// stays, so that its id is known to be gone.
    pub async fn finish_delete(&self, deployment: DeploymentId) -> Result<DeploymentRow> {
        let mut tx = self.write().await?;
        let row = find(&mut tx, deployment).await?.ok_or(StoreError::NotFound("deployment"))?;
        if row.status == State::Deleted {
            return Ok(row);
        }
        set_status(&mut tx, deployment, transition(row.status, Event::DeleteComplete)?).await?;
        for sql in [
            "UPDATE deployments SET active_version_id = NULL, restore_version_id = NULL, bindings = '{}' WHERE id = $1",
            "DELETE FROM rollouts WHERE deployment_id = $1",
            "DELETE FROM routes WHERE deployment_id = $1",
            "DELETE FROM env_variables WHERE deployment_id = $1",
            "DELETE FROM do_namespaces WHERE deployment_id = $1",
            "DELETE FROM deployment_versions WHERE deployment_id = $1",
        ] {
            sqlx::query(sql).bind(deployment.to_string()).execute(&mut *tx).await?;
        }
        let row = find(&mut tx, deployment).await?.ok_or(StoreError::NotFound("deployment"))?;
        tx.commit().await?;
        Ok(row)
    }

    /// What was going on when the process before this one ended.
    pub async fn unfinished(&self) -> Result<Recovery> {
        let mut tx = self.read().await?;
        let sql = version_sql!("WHERE v.status = 'validating' ORDER BY v.id");
        let validating = sqlx::query(sql).try_map(|r| versions::from_row(&r)).fetch_all(&mut *tx).await?;
        let sql = deployment_sql!("WHERE d.status IN ('deploying', 'rolling_back') ORDER BY d.id");
        let publishing = sqlx::query(sql).try_map(|r| deployments::from_row(&r)).fetch_all(&mut *tx).await?;
        let sql = deployment_sql!("WHERE d.status = 'deleting' ORDER BY d.id");
        let deleting = sqlx::query(sql).try_map(|r| deployments::from_row(&r)).fetch_all(&mut *tx).await?;
        Ok(Recovery { validating, publishing, deleting })
    }
}

async fn set_status(connection: &mut AnyConnection, deployment: DeploymentId, status: State) -> sqlx::Result<()> {
    let sql = "UPDATE deployments SET status = $1, updated_at = $2 WHERE id = $3";
    let now = Timestamp::now().unix_ms();
    sqlx::query(sql).bind(status.as_str()).bind(now).bind(deployment.to_string()).execute(connection).await?;
    Ok(())
}

/// Makes `version` what nodes are to serve and keeps in mind what it replaces; gives the generation.
async fn put_on_its_way(connection: &mut AnyConnection, row: &DeploymentRow, version: VersionId) -> sqlx::Result<u64> {
    rollouts::supersede(connection, row.id, version).await?;
    let sql = "UPDATE deployments SET active_version_id = $1, restore_version_id = $2 WHERE id = $3";
    sqlx::query(sql)
        .bind(version.to_string())
        .bind(row.active.map(|active| active.id.to_string()))
        .bind(row.id.to_string())
        .execute(&mut *connection)
        .await?;
    desired::raise_generation(connection).await
}

pub(crate) async fn usable_version(
    connection: &mut AnyConnection,
    deployment: DeploymentId,
    which: VersionRef,
) -> Result<VersionRow> {
    let version = versions::find(connection, deployment, which).await?.ok_or(StoreError::NotFound("version"))?;
    match version.status {
        VersionStatus::Valid => {
            services::check(connection, version.id).await?;
            Ok(version)
        }
        VersionStatus::Validating => {
            Err(StoreError::Precondition(format!("version {} is still being validated", version.version_number)))
        }
        VersionStatus::Invalid => {
            Err(StoreError::Precondition(format!("version {} is invalid and cannot serve", version.version_number)))
        }
    }
}

async fn previous(connection: &mut AnyConnection, row: &DeploymentRow) -> Result<VersionId> {
    let none = || StoreError::Precondition("there is no earlier version to roll back to".to_owned());
    let active = row.active.ok_or_else(none)?;
    let active = versions::find(connection, row.id, VersionRef::Id(active.id)).await?;
    active.and_then(|version| version.previous_version_id).ok_or_else(none)
}
