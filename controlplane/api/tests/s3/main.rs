//! Artifacts in a real S3-compatible server, which each test starts: everything that the folder does, what a bucket's other
//! contents and owners must not suffer, and what happens without the server, its bucket or the right credentials.

mod server;
#[path = "../support/mod.rs"]
mod support;

use std::collections::HashSet;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use api::{ArtifactError, Artifacts, S3Place, Source};
use base::id::ArtifactHash;
use base::limits::MODULE_BYTES_MAX;
use bytes::Bytes;
use plane_abi::code::{CodeEngine, code_name, pack};
use push::ArtifactSource;
use server::{BUCKET, KEY_ID, S3Server, SECRET};
use sha2::{Digest, Sha256};
use store::{NewVersion, Store};
use support::{Control, WORKER};
use tokio::net::TcpListener;

const LINEAGE: u128 = 7;
/// What an operation may take at most when the server refuses connections: its tries, and time to be scheduled.
const REFUSED_MAX: Duration = Duration::from_secs(15);
const HOUR: Duration = Duration::from_secs(3600);

async fn artifacts(server: &S3Server, prefix: &str) -> Artifacts {
    Artifacts::s3(&server.place(prefix), LINEAGE).await.unwrap()
}

fn hash_of(bytes: &[u8]) -> ArtifactHash {
    ArtifactHash(Sha256::digest(bytes).into())
}

fn envelope(module: ArtifactHash, tag: u32, code: &[u8]) -> Bytes {
    Bytes::from(pack(&CodeEngine { version: "1".to_owned(), tag }, module, code).unwrap())
}

#[tokio::test]
async fn what_is_stored_comes_back_as_it_was_or_not_at_all() {
    let server = S3Server::start().await;
    let artifacts = artifacts(&server, "selvage/prod").await;
    let module = artifacts.put("module".into()).await.unwrap();
    assert_eq!(module, hash_of(b"module"));
    let key = format!("selvage/prod/{module}");
    assert_eq!(std::fs::read(server.file(&key)).unwrap(), b"module", "under the prefix, by its hash");
    assert_eq!(artifacts.put("module".into()).await.unwrap(), module, "the same bytes again");
    assert_eq!(artifacts.get(module).await.unwrap(), "module");
    let absent = ArtifactHash([9; 32]);
    assert!(matches!(artifacts.get(absent).await, Err(ArtifactError::Missing(hash)) if hash == absent));
    std::fs::write(server.file(&key), "other").unwrap();
    assert!(matches!(artifacts.get(module).await, Err(ArtifactError::Damaged(hash)) if hash == module));
    artifacts.put("module".into()).await.unwrap();
    assert_eq!(artifacts.get(module).await.unwrap(), "module", "stored again, it is whole again");

    // At the limit of modules.
    let large: Bytes = (0..MODULE_BYTES_MAX).map(|i| (i * 31 % 251) as u8).collect();
    let hash = artifacts.put(large.clone()).await.unwrap();
    assert!(artifacts.get(hash).await.unwrap() == large);

    // More than any artifact has is somebody else's, and is not read.
    let huge = std::fs::File::options().write(true).open(server.file(&key)).unwrap();
    huge.set_len(64 << 20).unwrap();
    assert!(matches!(artifacts.get(module).await, Err(ArtifactError::Damaged(_))));
}

#[tokio::test]
async fn code_is_stored_once_a_v8_and_given_to_nodes_when_the_database_knows_it() {
    let server = S3Server::start().await;
    let artifacts = artifacts(&server, "").await;
    // It sweeps at its start.
    let control = Control::with_artifacts(artifacts.clone(), "/nonexistent".into()).await;
    let module = artifacts.put(WORKER.into()).await.unwrap();
    let first = artifacts.put_code(module, envelope(module, 1, b"x")).await.unwrap();
    assert_eq!(artifacts.put_code(module, envelope(module, 1, b"y")).await.unwrap(), first, "the same V8's stays");
    let second = artifacts.put_code(module, envelope(module, 2, b"y")).await.unwrap();
    assert_ne!(second, first);
    assert!(artifacts.put_code(module, envelope(module, 2, b"x").slice(1..)).await.is_err(), "cut");
    assert!(artifacts.put_code(ArtifactHash([0; 32]), envelope(module, 2, b"x")).await.is_err(), "another's");

    assert_eq!(control.source.fetch(code_name(module)).await.unwrap(), None, "no version has it");
    let deployment = control.deployment("a").await.parse().unwrap();
    let new = NewVersion {
        artifact_hash: module.to_string(),
        artifact_url: format!("artifacts/{module}"),
        size_bytes: WORKER.len() as u64,
        metadata: Default::default(),
        map_hash: None,
    };
    let version = control.store.begin_upload(deployment, &new).await.unwrap();
    control.store.finish_validation(deployment, version.id, Ok(Some(second.to_string()))).await.unwrap();
    let given = control.source.fetch(code_name(module)).await.unwrap();
    assert_eq!(given.unwrap(), envelope(module, 2, b"y"));
}

#[tokio::test]
async fn a_sweep_takes_old_artifacts_that_no_version_has_and_nothing_else() {
    let server = S3Server::start().await;
    let artifacts = artifacts(&server, "selvage").await;
    let kept = artifacts.put("kept".into()).await.unwrap();
    let orphan = |n: usize| hash_of(format!("orphan {n}").as_bytes()).to_string();
    // More than one page of a listing has.
    let orphans = 1100;
    for n in 0..orphans {
        server.write(&format!("selvage/{}", orphan(n)), b"x", 2 * HOUR);
    }
    let young = artifacts.put("young".into()).await.unwrap();
    let others = [
        orphan(0),
        format!("backups/{}", orphan(0)),
        format!("selvage2/{}", orphan(0)),
        format!("selvage/deeper/{}", orphan(0)),
        "selvage/notes.txt".to_owned(),
        format!("selvage/{}", "A".repeat(64)),
        format!("selvage/{}", "0".repeat(63)),
        format!("selvage/{}.bak", orphan(0)),
    ];
    for key in &others {
        server.write(key, b"somebody else's", 2 * HOUR);
    }
    let named = HashSet::from([kept.to_string()]);
    assert_eq!(artifacts.sweep(&named, HOUR).await.unwrap(), orphans);
    assert_eq!(artifacts.get(young).await.unwrap(), "young", "it may be on its way");
    assert_eq!(artifacts.sweep(&named, Duration::ZERO).await.unwrap(), 1);
    assert!(matches!(artifacts.get(young).await, Err(ArtifactError::Missing(_))));
    assert_eq!(artifacts.get(kept).await.unwrap(), "kept");
    for key in &others {
        assert!(server.file(key).is_file(), "{key} was somebody else's");
    }
    let left = std::fs::read_dir(server.file("selvage")).unwrap().count();
    assert_eq!(left, 1 + 1 + 5, "the one that is named, the claim, and what is not ours; nothing of a trial");
}

/// Why there are no artifacts there: one line without the secret.
async fn refused(place: &S3Place) -> String {
    let begun = Instant::now();
    let error = match Artifacts::s3(place, LINEAGE).await {
        Ok(_) => panic!("it is taken"),
        Err(error) => error.to_string(),
    };
    assert!(begun.elapsed() < Duration::from_secs(35), "{:?}: {error}", begun.elapsed());
    assert!(!error.contains(SECRET) && !error.contains('\n') && !error.contains('<'), "{error}");
    error
}

#[tokio::test]
async fn what_is_wrong_with_the_store_ends_the_start_with_its_reason() {
    let server = S3Server::start().await;
    let url = format!("s3://{BUCKET}/x");
    let at = format!("{url} at {}", server.url());
    let error = refused(&server.place_with(&url, KEY_ID, "another-secret")).await;
    assert!(error.starts_with(&format!("cannot list {at}: SignatureDoesNotMatch")), "{error}");
    assert!(!error.contains("another-secret"), "{error}");
    let error = refused(&server.place_with(&url, "NOBODY", SECRET)).await;
    assert!(error.starts_with(&format!("cannot list {at}: NotSignedUp")), "{error}");
    let error = refused(&server.place_with("s3://no-such-bucket", KEY_ID, SECRET)).await;
    assert!(error.contains("s3://no-such-bucket/ at ") && error.contains("NoSuchBucket"), "{error}");

    // The address of nobody.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let nobody = server.place("x").with_endpoint(&silent).unwrap();
    let error = refused(&nobody).await;
    assert!(error.contains(&silent) && error.contains("refused"), "{error}");
}

#[tokio::test]
async fn a_server_that_says_nothing_is_given_up() {
    let server = S3Server::start().await;
    // Connections are taken by the kernel, and nobody reads them.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = format!("http://{}", listener.local_addr().unwrap());
    let error = refused(&server.place("x").with_endpoint(&silent).unwrap()).await;
    assert!(error.contains(&silent), "{error}");
}

#[tokio::test]
async fn two_installations_do_not_share_a_prefix() {
    let server = S3Server::start().await;
    let first = artifacts(&server, "x").await;
    // The same one again, as another of its processes.
    let second = artifacts(&server, "x").await;
    let hash = first.put("a".into()).await.unwrap();
    assert_eq!(second.get(hash).await.unwrap(), "a");
    let Err(error) = Artifacts::s3(&server.place("x"), LINEAGE + 1).await else { panic!("it is taken") };
    assert!(error.to_string().contains("another installation's"), "{error}");
    assert!(Artifacts::s3(&server.place("y"), LINEAGE + 1).await.is_ok());
    server.write("z/selvage-lineage", &[b'0'; 4096], Duration::ZERO);
    assert!(Artifacts::s3(&server.place("z"), 0).await.is_err(), "no claim that anybody wrote");
}

#[tokio::test]
async fn without_the_server_operations_fail_in_time_and_with_it_they_go_on() {
    let mut server = S3Server::start().await;
    let artifacts = artifacts(&server, "x").await;
    let hash = artifacts.put("a".into()).await.unwrap();
    server.stop().await;
    let begun = Instant::now();
    assert!(matches!(artifacts.put("b".into()).await, Err(ArtifactError::Store(_))));
    assert!(matches!(artifacts.get(hash).await, Err(ArtifactError::Store(_))), "it is not missing");
    assert!(matches!(artifacts.sweep(&HashSet::new(), HOUR).await, Err(ArtifactError::Store(_))));
    assert!(begun.elapsed() < 3 * REFUSED_MAX, "{:?}", begun.elapsed());
    server.resume().await;
    assert_eq!(artifacts.get(hash).await.unwrap(), "a");
    let hash = artifacts.put("b".into()).await.unwrap();
    assert_eq!(artifacts.get(hash).await.unwrap(), "b");

    // Without its bucket.
    std::fs::rename(server.file(""), server.file("../gone")).unwrap();
    let swept = artifacts.sweep(&HashSet::new(), HOUR).await;
    assert!(matches!(swept, Err(ArtifactError::Store(why)) if why.starts_with("NoSuchBucket")));
}

#[tokio::test]
async fn a_thousand_nodes_are_one_reading() {
    let server = S3Server::start().await;
    let artifacts = artifacts(&server, "x").await;
    let dir = tempfile::tempdir().unwrap();
    let source = Source::new(artifacts.clone(), Store::open(dir.path()).await.unwrap());
    let module = artifacts.put("module".into()).await.unwrap();
    let absent = ArtifactHash([9; 32]);
    let fetch = async |hash: ArtifactHash| futures_util::future::join_all((0..1000).map(|_| source.fetch(hash))).await;
    let readings = |hash: ArtifactHash| server.count("GET", &format!("x/{hash}"));
    for given in fetch(module).await {
        assert_eq!(given.unwrap().unwrap(), "module");
    }
    assert_eq!(readings(module), 1);
    assert!(fetch(absent).await.into_iter().all(|given| given.unwrap().is_none()));
    assert_eq!(readings(absent), 1);
    // What is there is kept; what was not may have come.
    std::fs::remove_file(server.file(&format!("x/{module}"))).unwrap();
    assert_eq!(source.fetch(module).await.unwrap().unwrap(), "module");
    assert_eq!(readings(module), 1);
    let late = artifacts.put("late".into()).await.unwrap();
    assert_eq!(source.fetch(absent).await.unwrap(), None);
    assert_eq!((source.fetch(late).await.unwrap().unwrap(), readings(absent)), ("late".into(), 2));

    // What is damaged is given to nobody, and is given when it is whole again.
    let key = format!("x/{}", hash_of(b"damaged"));
    server.write(&key, b"else", Duration::ZERO);
    let damaged = fetch(hash_of(b"damaged")).await;
    assert!(damaged.iter().all(|given| given.as_ref().is_err_and(|error| error.to_string().contains("damaged"))));
    server.write(&key, b"damaged", Duration::ZERO);
    assert_eq!(source.fetch(hash_of(b"damaged")).await.unwrap().unwrap(), "damaged");

    // Who began a reading may go away: those who wait with him get it all the same.
    let hash = artifacts.put("left".into()).await.unwrap();
    let (mut first, mut second) = (source.fetch(hash), source.fetch(hash));
    let mut nobody = Context::from_waker(Waker::noop());
    assert!(first.as_mut().poll(&mut nobody).is_pending() && second.as_mut().poll(&mut nobody).is_pending());
    drop(first);
    assert_eq!(second.await.unwrap().unwrap(), "left");
    let mut alone = source.fetch(absent);
    assert!(alone.as_mut().poll(&mut nobody).is_pending());
    drop(alone);
    assert_eq!(source.fetch(absent).await.unwrap(), None, "one that was given up is no hindrance");
}

/// A validator that takes every module.
fn validator(dir: &tempfile::TempDir) -> PathBuf {
    let path = dir.path().join("validator");
    std::fs::write(&path, "#!/bin/sh\ncat > /dev/null\necho '{\"ok\":true}'\n").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[tokio::test]
async fn the_api_over_s3() {
    let (server, dir) = (S3Server::start().await, tempfile::tempdir().unwrap());
    let control = Control::with_artifacts(artifacts(&server, "x").await, validator(&dir)).await;
    let id = control.deployment("a").await;
    let module = |n: u32| format!("{WORKER}//{n}");
    for n in 1..=2 {
        control.upload(&id, module(n).as_bytes(), "{}", &[]).await.expect(201);
    }
    assert_eq!(control.status(&id).await, "active");
    control.call("PUT", &format!("/v1/deployments/{id}/versions/2"), None).await.expect(200);
    for n in 1..=2 {
        let hash = hash_of(module(n).as_bytes());
        assert!(server.file(&format!("x/{hash}")).is_file(), "version {n} is in the bucket");
        assert_eq!(control.source.fetch(hash).await.unwrap().unwrap(), module(n), "nodes get version {n}");
    }
    assert!(!control.dir.path().join("artifacts").exists(), "nothing is in the folder");

    // The next process has the same, and sweeps what no version has.
    server.write(&format!("x/{}", "0".repeat(64)), b"orphan", 2 * HOUR);
    let control = control.restart(validator(&dir)).await;
    assert!(!server.file(&format!("x/{}", "0".repeat(64))).exists(), "an orphan was not swept");
    let back = control.call("POST", &format!("/v1/deployments/{id}/rollback"), None).await;
    back.expect(200);
    let hash = hash_of(module(1).as_bytes());
    assert_eq!(control.source.fetch(hash).await.unwrap().unwrap(), module(1));
}

#[tokio::test]
async fn the_api_while_s3_is_away() {
    let (mut server, dir) = (S3Server::start().await, tempfile::tempdir().unwrap());
    let control = Control::with_artifacts(artifacts(&server, "x").await, validator(&dir)).await;
    let (id, waiting) = (control.deployment("a").await, control.deployment("b").await);
    for n in 1..=2 {
        control.upload(&id, format!("{WORKER}//{n}").as_bytes(), "{}", &[]).await.expect(201);
    }
    // A kill came before its verdict.
    let module = format!("{WORKER}//waiting");
    let hash = hash_of(module.as_bytes());
    server.write(&format!("x/{hash}"), module.as_bytes(), Duration::ZERO);
    let new = NewVersion {
        artifact_hash: hash.to_string(),
        artifact_url: format!("artifacts/{hash}"),
        size_bytes: module.len() as u64,
        metadata: Default::default(),
        map_hash: None,
    };
    control.store.begin_upload(waiting.parse().unwrap(), &new).await.unwrap();
    server.stop().await;
    let refused = control.upload(&id, b"x", "{}", &[]).await.expect(503);
    assert!(refused.error()["message"].as_str().unwrap().contains("artifact store"), "{}", refused.body);

    // A process starts and activates without it; the version without a verdict is not lost.
    let control = control.restart(validator(&dir)).await;
    control.call("PUT", &format!("/v1/deployments/{id}/versions/2"), None).await.expect(200);
    assert_eq!(control.status(&waiting).await, "validating");
    server.resume().await;
    let deadline = Instant::now() + Duration::from_secs(60);
    while control.status(&waiting).await != "active" {
        assert!(Instant::now() < deadline, "it was not validated: {}", control.status(&waiting).await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    control.upload(&id, format!("{WORKER}//3").as_bytes(), "{}", &[]).await.expect(201);
}
