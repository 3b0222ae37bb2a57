//! A database of an earlier migration level becomes one of the newest, with all that was in it.

mod support;

use model::{DeploymentId, State, VersionMetadata, VersionStatus};
use sqlx::AnyPool;
use sqlx::any::install_default_drivers;
use store::{NewVersion, Page, VersionRef};
use support::Home;

/// A database as the migrations up to `level` leave it.
async fn database(home: &Home, level: i64) -> AnyPool {
    install_default_drivers();
    let url = match &home.server {
        Some(server) => server.url(),
        None => format!("sqlite://{}?mode=rwc", home.dir.path().join("control.db").display()),
    };
    let pool = AnyPool::connect(&url).await.unwrap();
    let mut migrator = store::migrations(&home.database);
    assert!(migrator.iter().any(|migration| migration.version > level), "there is a later level");
    migrator.migrations.to_mut().retain(|migration| migration.version <= level);
    migrator.run(&pool).await.unwrap();
    pool
}

#[tokio::test]
async fn a_database_without_services_keeps_what_it_has_and_takes_services() {
    for home in Home::both("upgrades") {
        check(&home).await;
    }
}

async fn check(home: &Home) {
    let pool = database(home, 5).await;
    let (account, project) = (model::AccountId::new(), model::ProjectId::new());
    let (deployment, version) = (DeploymentId::new(), model::VersionId::new());
    let metadata = r#"{"crons":["*/5 * * * *"],"declared":{"vars":["A"]},"message":"from before"}"#;
    for sql in [
        "INSERT INTO configuration (id, lineage, generation) VALUES (1, '000000000000000000000000000000ab', 41)"
            .to_owned(),
        format!("INSERT INTO accounts (id, email, created_at) VALUES ('{account}', 'a@b.example', 1)"),
        format!(
            "INSERT INTO projects (id, account_id, name, slug, created_at) VALUES ('{project}', '{account}', 'p', 'p', 1)"
        ),
        format!(
            "INSERT INTO deployments (id, project_id, account_id, name, subdomain, status, active_version_id, created_at, updated_at) \
             VALUES ('{deployment}', '{project}', '{account}', 'old', 'old', 'active', '{version}', 1, 1)"
        ),
        format!(
            "INSERT INTO deployment_versions (id, deployment_id, artifact_hash, artifact_url, size_bytes, version_number, \
             status, metadata, created_at) VALUES ('{version}', '{deployment}', '{}', 'x', 7, 1, 'valid', '{metadata}', 1)",
            "ab".repeat(32)
        ),
        format!("INSERT INTO routes (id, deployment_id, pattern) VALUES ('r', '{deployment}', 'old.example/*')"),
    ] {
        sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&pool).await.unwrap();
    }
    pool.close().await;

    let store = home.store().await;
    assert_eq!((store.lineage(), store.generation().await.unwrap()), (0xab, 41));
    let row = store.deployment(deployment).await.unwrap().expect("there");
    assert_eq!((row.status, row.active.map(|active| active.version_number)), (State::Active, Some(1)));
    let kept = store.version(deployment, VersionRef::Number(1)).await.unwrap().expect("there");
    assert_eq!((kept.status, kept.metadata.crons.as_slice()), (VersionStatus::Valid, &["*/5 * * * *".to_owned()][..]));
    let desired = store.desired_state(&[]).await.unwrap();
    assert_eq!((desired.deployments.len(), desired.deployments[0].services.len()), (1, 0));
    assert_eq!(desired.deployments[0].routes, ["old.example/*"]);

    let metadata: VersionMetadata =
        serde_json::from_str(r#"{"services":[{"binding":"SELF","service":"old","entrypoint":"Admin"}]}"#).unwrap();
    let (artifact_hash, artifact_url) = ("cd".repeat(32), "y".to_owned());
    let new = NewVersion { artifact_hash, artifact_url, size_bytes: 1, metadata, map_hash: None };
    let uploaded = store.begin_upload(deployment, &new).await.unwrap();
    store.finish_validation(deployment, uploaded.id, Ok(None)).await.unwrap();
    store.begin_activation(deployment, VersionRef::Number(2)).await.unwrap();
    let desired = store.desired_state(&[deployment]).await.unwrap();
    let services = &desired.deployments[0].services;
    assert_eq!(
        (services[0].binding.as_str(), services[0].target, services[0].entrypoint.as_str()),
        ("SELF", deployment, "Admin")
    );
    assert!(store.desired_state(&[]).await.unwrap().deployments[0].services.is_empty(), "the version before has none");
    assert_eq!(store.versions(deployment, &Page::default()).await.unwrap().len(), 2);
}
