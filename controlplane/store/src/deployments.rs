//! Deployments: making and reading them. Their life goes on in `lifecycle`.

use std::collections::BTreeMap;

use model::{
    AccountId, ActiveVersion, Bindings, Deployment, DeploymentId, EnvVarSpec, ProjectId, State, Timestamp, VersionId,
};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row};

use crate::error::conflict;
use crate::{Page, Result, Store, StoreError, env, plans, route_base, routes, row};

/// A deployment as stored.
#[derive(Clone, Debug)]
pub struct DeploymentRow {
    /// Its id.
    pub id: DeploymentId,
    /// The project it belongs to.
    pub project_id: ProjectId,
    /// The account that the project belongs to.
    pub account_id: AccountId,
    /// For people.
    pub name: String,
    /// One DNS label.
    pub subdomain: String,
    /// Where it is in its life.
    pub status: State,
    /// What nodes are to serve.
    pub active: Option<ActiveVersion>,
    /// What to go back to if the version on its way is refused.
    pub restore_version_id: Option<VersionId>,
    /// Its bindings.
    pub bindings: Bindings,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

impl DeploymentRow {
    /// As the API shows it, on a platform of this domain, with the port at which its nodes answer if that is not the scheme's.
    pub fn to_api(&self, platform: &str) -> Deployment {
        // A browser takes no certificate for `localhost`, and needs none.
        let domain = platform.split_once(':').map_or(platform, |(domain, _)| domain);
        let local = domain == "localhost" || domain.ends_with(".localhost");
        let scheme = if local { "http" } else { "https" };
        Deployment {
            id: self.id,
            project_id: self.project_id,
            name: self.name.clone(),
            subdomain: self.subdomain.clone(),
            url: format!("{scheme}://{}.{platform}", self.subdomain),
            status: self.status,
            active_version: self.active,
            bindings: self.bindings.clone(),
            created_at: self.created_at,
            updated_at: self.updated_at,
        }
    }
}

/// A deployment that is to be made; every field is checked and every pattern in its normal form.
#[derive(Clone, Debug)]
pub struct NewDeployment {
    /// For people.
    pub name: String,
    /// One DNS label.
    pub subdomain: String,
    /// Its routes.
    pub routes: Vec<NewRoute>,
    /// Its variables.
    pub env_vars: BTreeMap<String, EnvVarSpec>,
    /// Its bindings.
    pub bindings: Bindings,
}

/// A route that is to be made.
#[derive(Clone, Debug)]
pub struct NewRoute {
    /// In its normal form.
    pub pattern: String,
    /// The zone it belongs to.
    pub zone_id: Option<String>,
    /// Whether it is in force.
    pub enabled: bool,
}

/// The one SELECT of deployments, joined with the number of what they serve.
macro_rules! deployment_sql {
    ($tail:literal) => {
        concat!(
            "SELECT d.id, d.project_id, d.account_id, d.name, d.subdomain, d.status, d.active_version_id, ",
            "v.version_number, d.restore_version_id, d.bindings, d.created_at, d.updated_at ",
            "FROM deployments d LEFT JOIN deployment_versions v ON v.id = d.active_version_id ",
            $tail
        )
    };
}
pub(crate) use deployment_sql;

pub(crate) fn from_row(row: &AnyRow) -> sqlx::Result<DeploymentRow> {
    let active = match row::parsed_opt::<VersionId>(row, "active_version_id")? {
        Some(id) => Some(ActiveVersion { id, version_number: row::unsigned(row, "version_number")? }),
        None => None,
    };
    Ok(DeploymentRow {
        id: row::parsed(row, "id")?,
        project_id: row::parsed(row, "project_id")?,
        account_id: row::parsed(row, "account_id")?,
        name: row.try_get("name")?,
        subdomain: row.try_get("subdomain")?,
        status: row::named(row, "status", State::from_name)?,
        active,
        restore_version_id: row::parsed_opt(row, "restore_version_id")?,
        bindings: row::json(row, "bindings")?,
        created_at: row::time(row, "created_at")?,
        updated_at: row::time(row, "updated_at")?,
    })
}

/// The deployment of that id, deleted ones too.
pub(crate) async fn find(connection: &mut AnyConnection, id: DeploymentId) -> sqlx::Result<Option<DeploymentRow>> {
    let query = sqlx::query(deployment_sql!("WHERE d.id = $1")).bind(id.to_string());
    query.try_map(|r| from_row(&r)).fetch_optional(connection).await
}

/// The deployment of that id, if it is neither deleted nor being deleted.
pub(crate) async fn find_live(connection: &mut AnyConnection, id: DeploymentId) -> Result<DeploymentRow> {
    match find(connection, id).await? {
        Some(row) if row.status == State::Deleting => {
            Err(StoreError::Precondition("the deployment is being deleted".to_owned()))
        }
        Some(row) if row.status != State::Deleted => Ok(row),
        _ => Err(StoreError::NotFound("deployment")),
    }
}

impl Store {
    /// Makes a deployment with its routes, variables and bindings: all or nothing.
    pub async fn create_deployment(&self, project: ProjectId, new: &NewDeployment) -> Result<DeploymentRow> {
        let mut tx = self.write().await?;
        let sql = "SELECT account_id FROM projects WHERE id = $1";
        let query = sqlx::query(sql).bind(project.to_string()).try_map(|r| row::parsed(&r, "account_id"));
        let account_id: AccountId = query.fetch_optional(&mut *tx).await?.ok_or(StoreError::NotFound("project"))?;
        plans::check_deployments(&mut tx, account_id).await?;
        plans::check_routes(&mut tx, account_id, new.routes.len()).await?;
        check_namespaces(&mut tx, account_id, &new.bindings).await?;
        let now = Timestamp::now();
        let deployment = DeploymentRow {
            id: DeploymentId::new(),
            project_id: project,
            account_id,
            name: new.name.clone(),
            subdomain: new.subdomain.clone(),
            status: State::Draft,
            active: None,
            restore_version_id: None,
            bindings: new.bindings.clone(),
            created_at: now,
            updated_at: now,
        };
        let sql = "INSERT INTO deployments \
                   (id, project_id, account_id, name, subdomain, status, bindings, created_at, updated_at) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
        sqlx::query(sql)
            .bind(deployment.id.to_string())
            .bind(project.to_string())
            .bind(account_id.to_string())
            .bind(&deployment.name)
            .bind(&deployment.subdomain)
            .bind(deployment.status.as_str())
            .bind(serde_json::to_string(&deployment.bindings).expect("bindings are plain data"))
            .bind(now.unix_ms())
            .bind(now.unix_ms())
            .execute(&mut *tx)
            .await
            .map_err(|e| conflict(e, "subdomain", "another deployment has it"))?;
        for (i, route) in new.routes.iter().enumerate() {
            routes::insert(&mut tx, deployment.id, route, &format!("routes[{i}].pattern")).await?;
        }
        if !new.routes.is_empty() {
            let patterns: Vec<&str> = new.routes.iter().map(|route| route.pattern.as_str()).collect();
            route_base::note_changes(&mut tx, &patterns).await?;
        }
        for (key, var) in &new.env_vars {
            env::upsert(&mut tx, &self.master, deployment.id, key, var).await?;
        }
        tx.commit().await?;
        Ok(deployment)
    }

    /// The deployment of that id; deleted ones too, with the state `Deleted`.
    pub async fn deployment(&self, id: DeploymentId) -> Result<Option<DeploymentRow>> {
        let mut connection = self.reader.acquire().await?;
        Ok(find(&mut connection, id).await?)
    }

    /// A project's deployments in the order they were made, without deleted ones.
    pub async fn deployments(&self, project: ProjectId, page: &Page) -> Result<Vec<DeploymentRow>> {
        let sql =
            deployment_sql!("WHERE d.project_id = $1 AND d.id > $2 AND d.status <> 'deleted' ORDER BY d.id LIMIT $3");
        let after = page.after.as_deref().unwrap_or("");
        let query = sqlx::query(sql).bind(project.to_string()).bind(after).bind(i64::from(page.limit));
        Ok(query.try_map(|r| from_row(&r)).fetch_all(&self.reader).await?)
    }
}

async fn check_namespaces(connection: &mut AnyConnection, account: AccountId, bindings: &Bindings) -> Result<()> {
    for (i, binding) in bindings.kv.iter().enumerate() {
        let sql = "SELECT 1 FROM kv_namespaces WHERE id = $1 AND account_id = $2";
        let query = sqlx::query(sql).bind(binding.namespace_id.to_string()).bind(account.to_string());
        if query.fetch_optional(&mut *connection).await?.is_none() {
            return Err(StoreError::Conflict {
                field: format!("bindings.kv[{i}].namespace_id"),
                message: "the account has no such namespace".to_owned(),
            });
        }
    }
    Ok(())
}
