//! Packages from npm that run on Workers: each bundled and deployed by the command as their users would do it, and held against its own
//! checks over HTTP. `tests/npm` has the pinned packages and one small Worker a group of them (tests/npm/README.md).

use std::path::{Path, PathBuf};

use e2e::npm::packages;
use e2e::platform::Platform;
use serde_json::Value;

/// Workers of one folder, by their names' order.
fn workers(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("the folder is there").filter_map(Result::ok);
    let files = entries.map(|entry| entry.path());
    let mut files: Vec<PathBuf> =
        files.filter(|file| file.extension().is_some_and(|it| it == "ts" || it == "tsx")).collect();
    files.sort();
    files
}

/// Deploys a Worker and runs its checks: how many, and what failed.
fn check(platform: &Platform, worker: &Path) -> (usize, Vec<String>) {
    let name = format!("npm-{}", worker.file_stem().expect("a name").to_string_lossy());
    let run = platform.cli(&[Path::new("--json"), Path::new("deploy"), worker, Path::new("--name"), Path::new(&name)]);
    if run.code != 0 {
        return (1, vec![format!("{name}: {} {}", run.stdout, run.stderr)]);
    }
    let deployed = run.json();
    let host = format!("{name}.workers.localhost");
    platform.await_version(&host, deployed["version"]["version_number"].as_u64().expect("a number") as u32);
    let list = platform.get(&host, "/");
    let list: Vec<String> = serde_json::from_slice(&list.body).unwrap_or_else(|_| panic!("{name}: {list:?}"));
    assert!(!list.is_empty(), "{name} checks nothing");
    let mut failed = Vec::new();
    for check in &list {
        let reply =
            platform.get(&host, &format!("/{}", check.replace('%', "%25").replace(' ', "%20").replace('/', "%2F")));
        if (reply.status, reply.text().as_str()) != (200, "ok") {
            failed.push(format!("{name}: {check}: {} {}", reply.status, reply.text()));
        }
    }
    println!("{name}: {} checks", list.len());
    (list.len(), failed)
}

/// The folder's Workers, at least `least` of them with all their checks. Compiling some packages' schemas takes more than a free
/// request has.
fn run(folder: &str, least: usize) {
    let Some(npm) = packages("npm packages on the platform") else { return };
    let platform = Platform::start();
    let plan = platform.cli(&["plan", "set", "free", "--cpu-ms", "2000"]);
    assert_eq!(plan.code, 0, "{plan:?}");
    let only = std::env::var("SELVAGE_NPM_ONLY").ok();
    let (mut workers, mut checks, mut failed) = (workers(&npm.join(folder)), 0, Vec::new());
    workers.retain(|worker| only.as_deref().is_none_or(|only| worker.to_string_lossy().contains(only)));
    for worker in &workers {
        let (count, wrong) = check(&platform, worker);
        checks += count;
        failed.extend(wrong);
    }
    println!("{} Workers, {checks} checks, {} failed", workers.len(), failed.len());
    // What is known to fail must still do so: the list only shrinks.
    let pending = std::fs::read_to_string(npm.join("pending.txt")).expect("the list of what is known to fail");
    let pending = pending.lines().filter(|line| !line.starts_with('#') && line.starts_with(&format!("{folder}/")));
    let mut wrong = Vec::new();
    for line in pending.filter(|line| only.as_deref().is_none_or(|only| line.contains(only))) {
        let (_, name) = line.split_once('/').expect("folder/Worker: check");
        let before = failed.len();
        failed.retain(|failure| !failure.starts_with(&format!("npm-{name}: ")));
        if failed.len() == before {
            wrong.push(format!("{line} is in pending.txt and passes"));
        }
    }
    wrong.extend(failed);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(only.is_some() || workers.len() >= least, "only {} Workers", workers.len());
}

#[test]
fn packages_run() {
    run("workers", 20);
}

#[test]
fn packages_that_need_nodes_modules_run() {
    run("workers-node", 3);
}

#[test]
fn what_is_tested_is_pinned() {
    let read = |file: &str| -> Value {
        let text = std::fs::read(e2e::checkout("tests/npm").join(file)).expect("it is in the checkout");
        serde_json::from_slice(&text).expect("JSON")
    };
    let (manifest, lock) = (read("package.json"), read("package-lock.json"));
    let packages = manifest["dependencies"].as_object().expect("packages");
    assert!(packages.len() >= 20, "{}", packages.len());
    for (name, version) in packages {
        let locked = &lock["packages"][format!("node_modules/{name}")];
        assert_eq!(&locked["version"], version, "{name}");
        assert!(locked["integrity"].as_str().is_some_and(|it| it.starts_with("sha512-")), "{name}");
    }
}
