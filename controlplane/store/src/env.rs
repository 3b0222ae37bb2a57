//! Variables of deployments, sealed. Values go in and come out only for the compiler, never for the API.

use model::{DeploymentId, EnvType, EnvVar, EnvVarSpec, rules};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row};
use uuid::Uuid;

use crate::masterkey::MasterKey;
use crate::{Result, Store, StoreError, deployments, desired, row};

/// What a sealed value is bound to: it opens at its own place only.
pub(crate) fn aad(deployment: DeploymentId, key: &str) -> Vec<u8> {
    format!("env/{deployment}/{key}").into_bytes()
}

pub(crate) async fn upsert(
    connection: &mut AnyConnection,
    master: &MasterKey,
    deployment: DeploymentId,
    key: &str,
    var: &EnvVarSpec,
) -> Result<()> {
    let sealed = master.seal(&aad(deployment, key), var.value.as_bytes())?;
    let sql = "INSERT INTO env_variables (id, deployment_id, key, encrypted_value, type) VALUES ($1, $2, $3, $4, $5) \
               ON CONFLICT (deployment_id, key) \
               DO UPDATE SET encrypted_value = excluded.encrypted_value, type = excluded.type";
    sqlx::query(sql)
        .bind(Uuid::now_v7().simple().to_string())
        .bind(deployment.to_string())
        .bind(key)
        .bind(sealed)
        .bind(var.kind.as_str())
        .execute(connection)
        .await?;
    Ok(())
}

impl Store {
    /// Names and types of a deployment's variables, by name. At most `rules::ENV_VARS_MAX`.
    pub async fn env(&self, deployment: DeploymentId) -> Result<Vec<EnvVar>> {
        let sql = "SELECT key, type FROM env_variables WHERE deployment_id = $1 ORDER BY key";
        let query = sqlx::query(sql).bind(deployment.to_string());
        let query = query.try_map(|r: AnyRow| {
            Ok(EnvVar { key: r.try_get("key")?, kind: row::named(&r, "type", EnvType::from_name)? })
        });
        Ok(query.fetch_all(&self.reader).await?)
    }

    /// Sets a variable; gives the generation that has it.
    pub async fn set_env(&self, deployment: DeploymentId, key: &str, var: &EnvVarSpec) -> Result<(EnvVar, u64)> {
        let mut tx = self.write().await?;
        let row = deployments::find_live(&mut tx, deployment).await?;
        let bound = row.bindings.kv.iter().map(|b| &b.name);
        let mut bound = bound.chain(row.bindings.durable_objects.iter().map(|b| &b.name));
        if bound.any(|name| name == key) {
            return Err(StoreError::Conflict {
                field: "key".to_owned(),
                message: "a binding of the deployment has that name".to_owned(),
            });
        }
        let sql = "SELECT COUNT(*) FROM env_variables WHERE deployment_id = $1 AND key <> $2";
        let others: i64 = sqlx::query_scalar(sql).bind(deployment.to_string()).bind(key).fetch_one(&mut *tx).await?;
        if others >= rules::ENV_VARS_MAX as i64 {
            return Err(StoreError::Limit(format!("a deployment has at most {} variables", rules::ENV_VARS_MAX)));
        }
        upsert(&mut tx, &self.master, deployment, key, var).await?;
        let generation = desired::raise_generation(&mut tx).await?;
        tx.commit().await?;
        Ok((EnvVar { key: key.to_owned(), kind: var.kind }, generation))
    }

    /// Takes a variable away; gives the generation without it.
    pub async fn delete_env(&self, deployment: DeploymentId, key: &str) -> Result<(EnvVar, u64)> {
        let mut tx = self.write().await?;
        deployments::find_live(&mut tx, deployment).await?;
        let sql = "DELETE FROM env_variables WHERE deployment_id = $1 AND key = $2 RETURNING type";
        let query = sqlx::query(sql).bind(deployment.to_string()).bind(key);
        let kind = query.try_map(|r| row::named(&r, "type", EnvType::from_name)).fetch_optional(&mut *tx).await?;
        let kind = kind.ok_or(StoreError::NotFound("variable"))?;
        let generation = desired::raise_generation(&mut tx).await?;
        tx.commit().await?;
        Ok((EnvVar { key: key.to_owned(), kind }, generation))
    }
}
