//! A new binary takes the running node's place: no request fails, whatever clients do meanwhile, and whatever is wrong with the new one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use e2e::eventually;
use e2e::http::{Connection, Request};
use e2e::load::Load;
use e2e::platform::{Platform, STOP_TIMEOUT, Setup};

const UPGRADES: usize = 3;

fn worker(text: &str) -> String {
    format!("let count = 0; export default {{ fetch() {{ return new Response({text:?} + ++count); }} }};")
}

/// Requests on connections of their own, one after the other, until told to stop: how many, and the first that failed.
fn strangers(
    platform: &Platform,
    host: &str,
    stop: &Arc<AtomicBool>,
) -> std::thread::JoinHandle<(u32, Option<String>)> {
    let (address, request, stop) = (platform.http, Request::new("GET", host, "/"), Arc::clone(stop));
    std::thread::spawn(move || {
        let mut count = 0;
        while !stop.load(Ordering::Relaxed) {
            let reply = Connection::open(address).and_then(|mut connection| connection.exchange(&request));
            match reply {
                Ok(reply) if reply.status == 200 => count += 1,
                other => return (count, Some(format!("{other:?}"))),
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        (count, None)
    })
}

#[test]
fn nobody_notices_an_upgrade() {
    let mut platform = Platform::with(Setup { shards: 2, ..Setup::default() });
    let deployed = platform.deploy("upgraded", &worker("a"));
    let other = platform.deploy("other", &worker("b"));
    let load = Load::start(platform.http, &deployed.host, 400);
    let stop = Arc::new(AtomicBool::new(false));
    let strangers = strangers(&platform, &other.host, &stop);
    let request = Request::new("GET", &deployed.host, "/");
    for upgrade in 1..=UPGRADES {
        // One that says nothing until the node that it is connected to has been replaced.
        let mut quiet = Connection::open(platform.http).expect("it listens");
        assert_eq!(quiet.exchange(&request).expect("answered").status, 200);
        let request = request.clone();
        let log = platform.folder().join("node.log");
        let speaks = std::thread::spawn(move || {
            eventually("the old node drains", Duration::from_secs(60), || {
                let text = std::fs::read_to_string(&log).unwrap_or_default();
                (text.matches("another process serves: draining").count() >= upgrade).then_some(())
            });
            std::thread::sleep(Duration::from_millis(500));
            quiet.exchange(&request)
        });
        let done = platform.upgrade(&[]);
        assert_eq!(done.code, 0, "upgrade {upgrade}: {done:?}\n{}", platform.node.log_tail());
        println!("{}", done.stdout.lines().last().unwrap_or_default());
        let reply = speaks.join().expect("no panic").expect("the old node still answers it");
        assert_eq!((reply.status, reply.header("connection")), (200, Some("close")));
    }
    assert!(platform.node.wait(STOP_TIMEOUT).success(), "the first node has ended by itself");
    // The newest node has its control plane, its admin listener, and the Workers that were up.
    platform.await_connected();
    eventually("the admin listener is the new node's", Duration::from_secs(10), || {
        (e2e::http::get(platform.admin, "admin.test", "/readyz").status == 200).then_some(())
    });
    assert!(platform.metric("selvage_worker_prewarms_total", &[]) >= 2, "both Workers were started before a request");
    platform.redeploy(&deployed, &worker("c"));
    assert!(platform.get(&deployed.host, "/").text().starts_with('c'));
    stop.store(true, Ordering::Relaxed);
    let (asked, failure) = strangers.join().expect("no panic");
    let seen = load.finish();
    println!("{UPGRADES} upgrades: kept-alive: {}; connections of their own: {asked}", seen.summary());
    assert_eq!((seen.failures, failure), (0, None), "{:?}", seen.failure_texts);
    assert!(asked > 50);
}

/// An upgrade to what `arguments` say fails with `expect`, and the node goes on.
fn check(platform: &mut Platform, host: &str, arguments: &[&str], expect: &str) {
    let done = platform.upgrade(arguments);
    assert!(done.code != 0 && done.stderr.contains(expect), "{arguments:?}: {done:?}\n{}", platform.node.log_tail());
    assert!(done.stderr.contains("The running node goes on"), "{done:?}");
    assert!(platform.node.is_running());
    assert_eq!(platform.get(host, "/").status, 200, "after {arguments:?}");
}

#[test]
fn a_new_node_that_is_no_good_leaves_the_old_one_serving() {
    let mut platform = Platform::start();
    let deployed = platform.deploy("stays", &worker("a"));
    let load = Load::start(platform.http, &deployed.host, 100);
    let script = |name: &str, text: &str| {
        let path = platform.folder().join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("a script in the test's folder");
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("its mode");
        path.to_str().expect("text").to_owned()
    };
    let sleeps = script("sleeps", "exec sleep 30");
    let not_a_program = platform.folder().join("text").to_str().expect("text").to_owned();
    std::fs::write(&not_a_program, "no program").expect("written");
    // It is ready, and killed as soon as it says so: before or just after its turn.
    let node = e2e::binary("selvage-node").to_str().expect("text").to_owned();
    let log = platform.folder().join("dies.log").to_str().expect("text").to_owned();
    let dies = format!(
        "exec 3<&0; {node} \"$@\" <&3 2>{log} & pid=$!; while ! grep -q 'standing by' {log}; do sleep 0.01; done; kill -9 $pid; wait $pid"
    );
    let dies = script("dies", &dies);
    let host = deployed.host.as_str();
    check(&mut platform, host, &["--binary", "/bin/false"], "it ended (exit status: 1)");
    check(&mut platform, host, &["--binary", &not_a_program], "cannot start");
    check(&mut platform, host, &["--binary", &sleeps, "--ready-timeout-ms", "500"], "it was not there after 0.5 s");
    let data = platform.node_data().to_str().expect("text").to_owned();
    let elsewhere = ["--", "--data", &data, "--listen", "127.0.0.1:1", "--admin", "127.0.0.1:0"];
    check(&mut platform, host, &elsewhere, "the sockets that were handed over listen on");
    let address = platform.http.to_string();
    let more = ["--", "--data", &data, "--listen", &address, "--admin", "127.0.0.1:0", "--shards", "2"];
    check(&mut platform, host, &more, "1 sockets were handed over for 2 shards");
    check(&mut platform, host, &["--binary", &dies], "did not take over");
    // The old node has its data folder and its control plane again, and can still be replaced.
    platform.await_connected();
    platform.redeploy(&deployed, &worker("b"));
    let done = platform.upgrade(&[]);
    assert_eq!(done.code, 0, "{done:?}\n{}", platform.node.log_tail());
    assert!(platform.get(host, "/").text().starts_with('b'));
    let seen = load.finish();
    println!("{}", seen.summary());
    assert_eq!(seen.failures, 0, "{:?}", seen.failure_texts);
}

#[test]
fn an_upgrade_of_no_node_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = std::process::Command::new(e2e::binary("selvage-node"));
    command.arg("upgrade").arg("--data").arg(folder.path());
    let done = e2e::platform::finish(command, "");
    assert!(done.code != 0 && done.stderr.contains("no node's keeper answers"), "{done:?}");
}
