//! The desired state as the compiler wants it, and the generation that numbers it.

use std::collections::HashMap;
use std::fmt;

use model::{AccountId, Bindings, DeploymentId, FREE_TIER, State, Steering, Timestamp, VersionId, VersionMetadata};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AnyPool, Row};

use crate::{
    DesiredCandidate, DesiredService, Result, Store, StoreError, env, rollouts, row, services, steering, traffic,
};

/// Everything that nodes are to serve, of one moment.
#[derive(Clone, Debug)]
pub struct DesiredState {
    /// Identifies the store.
    pub lineage: u128,
    /// Numbers the moment.
    pub generation: u64,
    /// By id. Only those that have a version to serve.
    pub deployments: Vec<DesiredDeployment>,
    /// What packets meet at a node.
    pub steering: Steering,
}

/// A deployment that nodes are to know.
#[derive(Clone)]
pub struct DesiredDeployment {
    /// Its id.
    pub id: DeploymentId,
    /// Whose it is.
    pub account_id: AccountId,
    /// For logs.
    pub name: String,
    /// One DNS label.
    pub subdomain: String,
    /// Whether it is to answer 503.
    pub paused: bool,
    /// Whether nodes fetch its modules with the first request for them only.
    pub on_demand: bool,
    /// The version to serve.
    pub version_number: u32,
    /// SHA-256 of its module, 64 hex digits.
    pub artifact_hash: String,
    /// Bytes of its module.
    pub size_bytes: u64,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// CPU time of a request by its account's plan, milliseconds.
    pub cpu_ms: u32,
    /// Its account's weight by its plan.
    pub weight: u16,
    /// What came with the version.
    pub metadata: VersionMetadata,
    /// Patterns in force, in their normal form.
    pub routes: Vec<String>,
    /// Names and values, in the clear, by name.
    pub env: Vec<(String, String)>,
    /// Its bindings.
    pub bindings: Bindings,
    /// Other Workers that its version may call, by binding.
    pub services: Vec<DesiredService>,
    /// A version that gets a share of its requests.
    pub candidate: Option<DesiredCandidate>,
}

impl fmt::Debug for DesiredDeployment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DesiredDeployment")
            .field("id", &self.id)
            .field("version_number", &self.version_number)
            .field("paused", &self.paused)
            .field("routes", &self.routes)
            .field("env", &format_args!("{} variables", self.env.len()))
            .finish_non_exhaustive()
    }
}

impl Store {
    /// The desired state now. Of the versions on their way (deploying, rolling back) it has those of the deployments in
    /// `going`; for other deployments it has the version before, if any.
    pub async fn desired_state(&self, going: &[DeploymentId]) -> Result<DesiredState> {
        // One read transaction: all of it is of the same moment.
        let mut tx = self.read().await?;
        let state = self.desired_in(&mut tx, going, true).await?;
        tx.commit().await?;
        Ok(state)
    }

    /// The same in the caller's transaction; without routes where the caller knows of them.
    pub(crate) async fn desired_in(
        &self,
        tx: &mut AnyConnection,
        going: &[DeploymentId],
        with_routes: bool,
    ) -> Result<DesiredState> {
        let generation = generation(tx).await?;
        let sql = "SELECT d.id, d.account_id, d.name, d.subdomain, d.status, d.bindings, d.updated_at, \
                          v.id AS version_id, v.version_number, v.artifact_hash, v.size_bytes, v.metadata, \
                          r.id AS restore_id, r.version_number AS restore_number, r.artifact_hash AS restore_hash, \
                          r.size_bytes AS restore_size, r.metadata AS restore_metadata, \
                          COALESCE(own.cpu_ms, free.cpu_ms) AS cpu_ms, COALESCE(own.weight, free.weight) AS weight \
                   FROM deployments d JOIN deployment_versions v ON v.id = d.active_version_id \
                   LEFT JOIN deployment_versions r ON r.id = d.restore_version_id \
                   JOIN accounts a ON a.id = d.account_id \
                   LEFT JOIN plans own ON own.tier = a.plan_tier LEFT JOIN plans free ON free.tier = $1 \
                   WHERE d.status IN ('deploying', 'active', 'failed', 'rolling_back', 'paused') ORDER BY d.id";
        let rows = sqlx::query(sql).bind(FREE_TIER).try_map(|r| from_row(&r, going)).fetch_all(&mut *tx).await?;
        let mut services = services::all(tx).await?;
        let mut candidates = rollouts::candidates(tx).await?;
        let pushed = traffic::pushed(tx).await?;
        let with_services = rows.into_iter().flatten().map(|(version, deployment)| {
            let services = services.remove(&version).unwrap_or_default();
            let candidate = candidates.remove(&deployment.id);
            let candidate = candidate.filter(|candidate| candidate.version_number != deployment.version_number);
            let on_demand = !pushed.is_empty() && !pushed.contains(&deployment.id);
            DesiredDeployment { services, candidate, on_demand, ..deployment }
        });
        let mut deployments: Vec<DesiredDeployment> = with_services.collect();
        let places: HashMap<DeploymentId, usize> = deployments.iter().enumerate().map(|(i, d)| (d.id, i)).collect();

        if with_routes {
            let sql = "SELECT deployment_id, pattern FROM routes WHERE enabled ORDER BY pattern";
            let routes = sqlx::query(sql).try_map(|r| {
                Ok((row::parsed::<DeploymentId>(&r, "deployment_id")?, r.try_get::<String, _>("pattern")?))
            });
            for (deployment, pattern) in routes.fetch_all(&mut *tx).await? {
                if let Some(&place) = places.get(&deployment) {
                    deployments[place].routes.push(pattern);
                }
            }
        }

        let sql = "SELECT deployment_id, key, encrypted_value FROM env_variables ORDER BY deployment_id, key";
        let vars = sqlx::query(sql).try_map(|r| {
            let deployment = row::parsed::<DeploymentId>(&r, "deployment_id")?;
            Ok((deployment, r.try_get::<String, _>("key")?, r.try_get::<Vec<u8>, _>("encrypted_value")?))
        });
        for (deployment, key, sealed) in vars.fetch_all(&mut *tx).await? {
            if let Some(&place) = places.get(&deployment) {
                let damaged = || StoreError::Corrupt(format!("variable {key} of {deployment}"));
                let value = self.master.open(&env::aad(deployment, &key), &sealed).ok_or_else(damaged)?;
                let value = String::from_utf8(value).map_err(|_| damaged())?;
                deployments[place].env.push((key, value));
            }
        }
        let rules = steering::read(&mut *tx).await?;
        let steering = rules.without(&steering::out_of_service(tx).await?);
        Ok(DesiredState { lineage: self.lineage, generation, deployments, steering })
    }

    /// The newest generation.
    pub async fn generation(&self) -> Result<u64> {
        let mut connection = self.reader.acquire().await?;
        Ok(generation(&mut connection).await?)
    }

    /// Raises the generation without another change: the same generation never numbers two different snapshots.
    pub async fn raise_generation(&self) -> Result<u64> {
        let mut tx = self.write().await?;
        let generation = raise_generation(&mut tx).await?;
        tx.commit().await?;
        Ok(generation)
    }

    /// Makes sure that the generation is at least `floor`: a node has acknowledged it, so this store is older than what
    /// the node listened to (restored from a backup).
    pub async fn raise_generation_to(&self, floor: u64) -> Result<u64> {
        let floor = i64::try_from(floor).map_err(|_| StoreError::Precondition("no such generation".to_owned()))?;
        let sql = "UPDATE configuration SET generation = CASE WHEN generation < $1 THEN $1 ELSE generation END \
                   WHERE id = 1 RETURNING generation";
        let mut tx = self.write().await?;
        let query = sqlx::query(sql).bind(floor).try_map(|r| row::unsigned(&r, "generation"));
        let generation = query.fetch_one(&mut *tx).await?;
        tx.commit().await?;
        Ok(generation)
    }
}

fn from_row(row: &AnyRow, going: &[DeploymentId]) -> sqlx::Result<Option<(VersionId, DesiredDeployment)>> {
    let id = row::parsed(row, "id")?;
    let status = row::named(row, "status", State::from_name)?;
    let on_its_way = matches!(status, State::Deploying | State::RollingBack);
    let columns = if !on_its_way || going.contains(&id) {
        ("version_number", "artifact_hash", "size_bytes", "metadata", "version_id")
    } else if row.try_get::<Option<i64>, _>("restore_number")?.is_some() {
        ("restore_number", "restore_hash", "restore_size", "restore_metadata", "restore_id")
    } else {
        return Ok(None);
    };
    let deployment = DesiredDeployment {
        id,
        account_id: row::parsed(row, "account_id")?,
        name: row.try_get("name")?,
        subdomain: row.try_get("subdomain")?,
        paused: status == State::Paused,
        on_demand: false,
        version_number: row::unsigned(row, columns.0)?,
        artifact_hash: row.try_get(columns.1)?,
        size_bytes: row::unsigned(row, columns.2)?,
        updated_at: row::time(row, "updated_at")?,
        cpu_ms: row::unsigned(row, "cpu_ms")?,
        weight: row::unsigned(row, "weight")?,
        metadata: row::json(row, columns.3)?,
        routes: Vec::new(),
        env: Vec::new(),
        bindings: row::json(row, "bindings")?,
        services: Vec::new(),
        candidate: None,
    };
    Ok(Some((row::parsed(row, columns.4)?, deployment)))
}

pub(crate) async fn generation(connection: &mut AnyConnection) -> sqlx::Result<u64> {
    let query = sqlx::query("SELECT generation FROM configuration WHERE id = 1");
    query.try_map(|r| row::unsigned(&r, "generation")).fetch_one(connection).await
}

/// One more, in the caller's transaction.
pub(crate) async fn raise_generation(connection: &mut AnyConnection) -> sqlx::Result<u64> {
    let sql = "UPDATE configuration SET generation = generation + 1 WHERE id = 1 RETURNING generation";
    sqlx::query(sql).try_map(|r| row::unsigned(&r, "generation")).fetch_one(connection).await
}

/// The store's own mark, made with its first opening.
pub(crate) async fn load_or_create_lineage(writer: &AnyPool) -> Result<u128> {
    let made = uuid::Uuid::new_v4().simple().to_string();
    let sql = "INSERT INTO configuration (id, lineage, generation) VALUES (1, $1, 0) ON CONFLICT (id) DO NOTHING";
    sqlx::query(sql).bind(made).execute(writer).await?;
    let text: String = sqlx::query_scalar("SELECT lineage FROM configuration WHERE id = 1").fetch_one(writer).await?;
    u128::from_str_radix(&text, 16).map_err(|_| StoreError::Corrupt("lineage".to_owned()))
}
