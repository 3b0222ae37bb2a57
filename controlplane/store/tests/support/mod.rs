//! Stores on both databases: SQLite, and a PostgreSQL that the test starts.

#![allow(dead_code)]

use e2e::postgres::PostgresServer;
use model::{Bindings, CreateAccount, CreateProject, DeploymentId};
use store::{Database, NewDeployment, NewVersion, Store};
use tempfile::TempDir;

/// Where stores are opened. The server ends with it.
pub(crate) struct Home {
    pub(crate) dir: TempDir,
    pub(crate) database: Database,
    pub(crate) server: Option<PostgresServer>,
}

impl Home {
    pub(crate) fn sqlite() -> Home {
        Home { dir: tempfile::tempdir().unwrap(), database: Database::Folder, server: None }
    }

    /// None, after saying so, where PostgreSQL is not installed.
    pub(crate) fn postgres(what: &str) -> Option<Home> {
        let server = PostgresServer::start(&format!("{what}, on PostgreSQL"))?;
        let database = Database::postgres(&server.url()).unwrap();
        Some(Home { dir: tempfile::tempdir().unwrap(), database, server: Some(server) })
    }

    /// Both, as far as there are both.
    pub(crate) fn both(what: &str) -> Vec<Home> {
        [Some(Home::sqlite()), Home::postgres(what)].into_iter().flatten().collect()
    }

    /// A store as a process of its own would open it.
    pub(crate) async fn store(&self) -> Store {
        Store::open_in(self.dir.path(), &self.database).await.unwrap()
    }
}

/// A deployment of that subdomain, in an account and a project of its own.
pub(crate) async fn deployment(store: &Store, subdomain: &str) -> DeploymentId {
    let email = format!("{subdomain}@example.com");
    let account = store.create_account(&CreateAccount { email, plan_tier: None }).await.unwrap();
    let request = CreateProject { name: "p".to_owned(), slug: None };
    let project = store.create_project(account.id, &request).await.unwrap();
    let new = NewDeployment {
        name: subdomain.to_owned(),
        subdomain: subdomain.to_owned(),
        routes: Vec::new(),
        env_vars: Default::default(),
        bindings: Bindings::default(),
    };
    store.create_deployment(project.id, &new).await.unwrap().id
}

pub(crate) fn module() -> NewVersion {
    NewVersion {
        artifact_hash: "ab".repeat(32),
        artifact_url: "x".to_owned(),
        size_bytes: 1,
        metadata: Default::default(),
        map_hash: None,
    }
}

/// A deployment whose version 1 is active.
pub(crate) async fn active(store: &Store, subdomain: &str) -> DeploymentId {
    let id = deployment(store, subdomain).await;
    valid(store, id).await;
    store.finish_activation(id).await.unwrap();
    id
}

/// Another valid version; gives its number.
pub(crate) async fn valid(store: &Store, id: DeploymentId) -> u32 {
    let version = store.begin_upload(id, &module()).await.unwrap();
    store.finish_validation(id, version.id, Ok(None)).await.unwrap().version.version_number
}
