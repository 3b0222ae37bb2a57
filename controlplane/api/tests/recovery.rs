//! What a kill leaves behind: each state on the way is written into the store as the killed process would have left it,
//! and a start has to finish it. The tests with whole processes and real kills are in the workspace's `tests`.

mod support;

use model::{DeploymentId, State, VersionStatus};
use store::{NewVersion, Store, VersionRef};
use support::{Control, WORKER, validator};

async fn uploaded(store: &Store, deployment: DeploymentId, control: &Control, module: &str) -> store::VersionRow {
    use sha2::{Digest, Sha256};
    let artifact_hash = hex::encode(Sha256::digest(module));
    std::fs::write(control.dir.path().join("artifacts").join(&artifact_hash), module).unwrap();
    let artifact_url = format!("artifacts/{artifact_hash}");
    let size_bytes = module.len() as u64;
    let new = NewVersion { artifact_hash, artifact_url, size_bytes, metadata: Default::default(), map_hash: None };
    store.begin_upload(deployment, &new).await.unwrap()
}

async fn valid(store: &Store, deployment: DeploymentId, control: &Control, module: &str) -> store::VersionRow {
    let version = uploaded(store, deployment, control, module).await;
    store.finish_validation(deployment, version.id, Ok(None)).await.unwrap().version
}

#[tokio::test]
async fn activations_rollbacks_and_deletions_are_finished() {
    let control = Control::new().await;
    let store = control.store.clone();
    let mut ids = Vec::new();
    for name in ["deploying", "again", "rolling", "deleting", "paused"] {
        ids.push(control.deployment(name).await.parse::<DeploymentId>().unwrap());
    }
    let [deploying, again, rolling, deleting, paused] = ids[..] else { unreachable!() };
    // Its first version was on its way.
    valid(&store, deploying, &control, "1").await;
    for id in [again, rolling, deleting, paused] {
        valid(&store, id, &control, "1").await;
        store.finish_activation(id).await.unwrap();
        valid(&store, id, &control, "2").await;
    }
    store.begin_activation(again, VersionRef::Number(2)).await.unwrap();
    store.begin_activation(rolling, VersionRef::Number(2)).await.unwrap();
    store.finish_activation(rolling).await.unwrap();
    store.begin_rollback(rolling, None).await.unwrap();
    store.begin_delete(deleting).await.unwrap();
    store.set_paused(paused, true).await.unwrap();
    let before = store.generation().await.unwrap();
    let orphan = control.dir.path().join("artifacts").join("0".repeat(64));
    std::fs::write(&orphan, "orphan").unwrap();
    let yesterday = std::time::SystemTime::now() - std::time::Duration::from_secs(24 * 3600);
    std::fs::File::options().append(true).open(&orphan).unwrap().set_modified(yesterday).unwrap();

    let control = control.restart("/nonexistent".into()).await;
    let store = &control.store;
    for (id, status, version) in [
        (deploying, State::Active, Some(1)),
        (again, State::Active, Some(2)),
        (rolling, State::Active, Some(1)),
        (deleting, State::Deleted, None),
        (paused, State::Paused, Some(1)),
    ] {
        let row = store.deployment(id).await.unwrap().unwrap();
        assert_eq!((row.status, row.active.map(|active| active.version_number)), (status, version));
        assert_eq!(row.restore_version_id, None);
    }
    assert!(store.unfinished().await.unwrap().is_empty());
    assert!(store.generation().await.unwrap() > before, "the generation went back");
    assert_eq!(control.push.published_generation(), store.generation().await.unwrap());
    assert!(!orphan.exists(), "an orphan was not swept");
    // The history survived: what was replaced by the activation is where a rollback goes.
    store.begin_rollback(again, None).await.unwrap();
    assert_eq!(store.deployment(again).await.unwrap().unwrap().active.unwrap().version_number, 1);
}

#[tokio::test]
async fn validations_are_done_again() {
    let Some(program) = validator("validations that a kill cut short") else { return };
    let control = Control::new().await;
    let mut ids = Vec::new();
    for name in ["good", "bad", "lost", "serving"] {
        ids.push(control.deployment(name).await.parse::<DeploymentId>().unwrap());
    }
    let [good, bad, lost, serving] = ids[..] else { unreachable!() };
    uploaded(&control.store, good, &control, WORKER).await;
    uploaded(&control.store, bad, &control, "syntax error").await;
    let module = uploaded(&control.store, lost, &control, "lost").await.artifact_hash;
    std::fs::remove_file(control.dir.path().join("artifacts").join(module)).unwrap();
    valid(&control.store, serving, &control, "1").await;
    control.store.finish_activation(serving).await.unwrap();
    uploaded(&control.store, serving, &control, &format!("{WORKER}//2")).await;

    let control = control.restart(program).await;
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(60);
    while !control.store.unfinished().await.unwrap().is_empty() {
        assert!(tokio::time::Instant::now() < deadline, "validations were not finished");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    for (id, status, version, active) in [
        (good, State::Active, VersionStatus::Valid, Some(1)),
        (bad, State::Invalid, VersionStatus::Invalid, None),
        (lost, State::Invalid, VersionStatus::Invalid, None),
        (serving, State::Active, VersionStatus::Valid, Some(1)),
    ] {
        let row = control.store.deployment(id).await.unwrap().unwrap();
        assert_eq!((row.status, row.active.map(|active| active.version_number)), (status, active), "{}", row.name);
        let newest = control.store.versions(id, &Default::default()).await.unwrap().remove(0);
        assert_eq!(newest.status, version, "{}", row.name);
    }
}
