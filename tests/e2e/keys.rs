//! The fence and the protection keys of the real node, attacked from inside: its own threads are made to read, write and call what
//! they must not (`dataplane/pkey/examples/intrude.rs`). Where the processor has no keys, `cargo xtask keys` runs these in an
//! emulated machine that has.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use e2e::api::{Api, text};
use e2e::http::{Connection, Request};
use e2e::platform::{Platform, STOP_TIMEOUT};
use e2e::{binary, eventually};
use serde_json::json;

/// Says loudly that a test did not run; under `cargo xtask keys` that is a failure.
fn skip(what: &str) {
    e2e::skipped(what);
    assert!(std::env::var_os("SELVAGE_KEYS_REQUIRED").is_none(), "keys are required here");
}

/// Lines of `name=value` words that the intruder says; none where it may not trace.
fn intrude(arguments: &[&str]) -> Option<Vec<BTreeMap<String, String>>> {
    let output = Command::new(binary("examples/intrude")).args(arguments).output().expect("the intruder starts");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    if error.contains("Operation not permitted") {
        return None;
    }
    assert!(output.status.success(), "{error}");
    let words = |line: &str| {
        line.split(' ').filter_map(|word| word.split_once('=')).map(|(a, b)| (a.to_owned(), b.to_owned())).collect()
    };
    Some(String::from_utf8_lossy(&output.stdout).lines().map(words).collect())
}

const EPERM: &str = "-1";
const EACCES: &str = "-13";

#[test]
fn no_thread_of_a_node_gets_around_keys_and_the_node_does_its_work_all_the_same() {
    let mut platform = Platform::start();
    let worker = |text: &str| format!("export default {{ fetch() {{ return new Response('{text}'); }} }};");
    let one = platform.deploy("one", &worker("one"));
    let pid = platform.node.pid().to_string();
    let Some(threads) = intrude(&["calls", &pid]) else {
        return skip("the fence of a real node: this user may not trace processes");
    };
    let closed =
        !std::fs::read_to_string(platform.folder().join("node.log")).expect("a log").contains("Landlock is not");
    let names: Vec<&str> = threads.iter().map(|thread| &thread["thread"][..]).collect();
    for wanted in ["selvage-node", "agent"] {
        assert!(names.iter().any(|name| name.starts_with(wanted)), "{wanted} is none of {names:?}");
    }
    assert!(threads.len() >= 4, "{names:?}");
    for thread in &threads {
        assert_eq!(thread["getpid"], "1", "the intruder's calls arrive: {thread:?}");
        for call in
            ["process_vm_readv", "process_vm_writev", "ptrace", "pidfd_getfd", "pkey_alloc", "pkey_free", "userfaultfd"]
        {
            assert_eq!(thread[call], EPERM, "{call}: {thread:?}");
        }
        for file in ["self_mem", "thread_mem", "number_mem", "task_mem", "environ"] {
            for way in ["", "_write"] {
                let given = &thread[&format!("{file}{way}")];
                assert!(!closed || given == EACCES, "{file}{way}: {thread:?}");
            }
        }
        assert_eq!(thread["statm"], "0", "what is not secret stays open: {thread:?}");
    }
    if !closed {
        skip("/proc/self/mem of a real node: this kernel has no Landlock");
    }
    // And it goes on: answers, takes a new version (artifact, code cache and snapshot are written), compiles, starts again from its files.
    assert_eq!(platform.get(&one.host, "/").text(), "one");
    platform.redeploy(&one, &worker("two"));
    assert_eq!(platform.get(&one.host, "/").text(), "two");
    let other = platform.deploy("other", &worker("other"));
    platform.node.kill();
    platform.control.kill();
    platform.restart_node(false);
    assert_eq!(platform.await_status(&one.host, "/", 200).text(), "two");
    assert_eq!(platform.await_status(&other.host, "/", 200).text(), "other");
}

/// Buffers and a memory of WebAssembly to look at, beside the heap; computes for a moment, or for as long as it may. Little at the
/// start: in an emulated machine the limits of CPU time are short.
const MODULE: &str = "
    const kept = Array.from({ length: 50 }, (_, i) => ({ i }));
    const buffers = [100, 5000, 300000].map((n) => new Uint8Array(n));
    const memory = new WebAssembly.Memory({ initial: 80, maximum: 81 });
    export default {
        fetch(request) {
            const rounds = request.url.endsWith('/long') ? Infinity : request.url.endsWith('/brief') ? 500 : 0;
            for (let i = 0; i < rounds; i++) kept[i % 50].i = i;
            return new Response('fine ' + kept.length + ' ' + buffers[2].length + ' ' + memory.buffer.byteLength);
        },
    };";

/// Pages of `MODULE`'s memory of WebAssembly, an area of its own; a heap of so little has none as large.
const MEMORY_PAGES: u64 = 80 * 16;

/// What `MODULE` answers.
const FINE: &str = "fine 50 300000 5242880";

/// Deploys `MODULE` for an account of its own; gives its host and the account.
fn tenant(platform: &Platform, name: &str) -> (String, String) {
    let admin = platform.api();
    let email = format!("{name}@selvage.test");
    let account = text(&admin.ok("POST", "/v1/accounts", Some(&json!({ "email": email })))["id"]);
    let token = admin.ok("POST", &format!("/v1/accounts/{account}/tokens"), Some(&json!({"name": "t"})));
    let api = Api { address: platform.api, token: text(&token["secret"]) };
    let deployed = api.create(&api.project(&account, "default"), name);
    // An emulated machine may be too slow for the validator's limits.
    let version = eventually("the module is valid", Duration::from_secs(120), || {
        let (status, envelope) = api.upload(&deployed.id, MODULE.as_bytes());
        (status == 201).then(|| e2e::api::number(&envelope["result"]["version_number"]))
    });
    api.activate(&deployed.id, version);
    platform.await_version(&deployed.host, version);
    (deployed.host, account)
}

/// The node's thread of that name.
fn thread(platform: &Platform, name: &str) -> Option<String> {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", platform.node.pid())).expect("threads");
    let mut tasks = tasks.map(|entry| entry.expect("a thread").path());
    let found = tasks.find(|task| std::fs::read_to_string(task.join("comm")).is_ok_and(|it| it.trim() == name))?;
    Some(found.file_name().expect("a number").to_string_lossy().into_owned())
}

/// Requests to one host, one after the other, until it is dropped.
struct Busy {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Busy {
    fn start(platform: &Platform, host: &str, path: &'static str) -> Busy {
        let stop = Arc::new(AtomicBool::new(false));
        let one = || {
            let (address, host, stop) = (platform.http, host.to_owned(), stop.clone());
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    // A CPU limit may end it; the next one follows.
                    let request = Request::new("GET", &host, path).header("Connection", "close");
                    if Connection::open(address).and_then(|mut connection| connection.exchange(&request)).is_err() {
                        std::thread::sleep(Duration::from_millis(20));
                    }
                }
            })
        };
        Busy { threads: (0..2).map(|_| one()).collect(), stop }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ended = thread.join();
        }
    }
}

/// The key of the node's own secrets, as its log says at the start.
fn secrets_key(platform: &Platform) -> String {
    let log = std::fs::read_to_string(platform.folder().join("node.log")).expect("a log");
    let said = log.lines().rfind(|line| line.contains("memory protection keys")).expect("it says what it has");
    let key = said.split_whitespace().find_map(|word| word.strip_prefix("secrets_key="));
    key.unwrap_or_else(|| panic!("no key of secrets: {said}")).to_owned()
}

/// Has the thread reach, in a turn of one of `MODULE`'s tenants, for every page that carries a key, of V8's code for some.
fn reach_for_everything(platform: &Platform, thread: &str) {
    let secrets = secrets_key(platform);
    let keys = intrude(&["read", &platform.node.pid().to_string(), thread, &MEMORY_PAGES.to_string()]);
    let keys = keys.expect("the machine of keys lets root trace");
    let count = |line: &BTreeMap<String, String>, name: &str| line[name].parse::<u64>().expect("a number");
    let (mut fenced, mut memories) = (0, 0);
    for line in &keys {
        println!("{line:?}");
        let (pages, read, faults) = (count(line, "pages"), count(line, "read"), count(line, "faults"));
        assert!(pages > 0 && count(line, "wrong") == 0, "{line:?}");
        assert_eq!(count(line, "written"), 0, "{line:?}");
        if line["own"] == "1" {
            assert!(read == pages && pages > 200, "its own heap is open to it: {line:?}");
            assert!(count(line, "largest") >= MEMORY_PAGES, "so is its memory of WebAssembly: {line:?}");
        } else if line["code"] == "1" {
            assert_eq!(read, pages, "V8's code can be read by all: {line:?}");
        } else {
            assert_eq!((read, faults), (0, pages), "{line:?}");
            assert!(pages <= 200 || count(line, "write_faults") > 100, "{line:?}");
            fenced += usize::from(pages > 200);
            memories += usize::from(count(line, "largest") >= MEMORY_PAGES);
        }
    }
    let secrets: Vec<_> = keys.iter().filter(|line| line["key"] == secrets).collect();
    let [secrets] = secrets[..] else { panic!("no page of the node's secrets: {keys:?}") };
    assert_eq!((&secrets["own"][..], &secrets["code"][..]), ("0", "0"), "{secrets:?}");
    // The key of environments, the key that marks code, the key of its certificate.
    assert!(count(secrets, "pages") >= 3, "{secrets:?}");
    assert_eq!((count(secrets, "read"), count(secrets, "write_faults")), (0, count(secrets, "pages")), "{secrets:?}");
    assert!(memories >= 1, "other tenants' memories of WebAssembly: {keys:?}");
    assert_eq!(keys.iter().filter(|line| line["own"] == "1").count(), 1, "{keys:?}");
    assert!(fenced >= 2, "other tenants and spares: {keys:?}");
}

#[test]
fn an_arbitrary_read_in_a_tenants_turn_faults_everywhere_else_and_a_fault_ends_the_node_with_a_report() {
    let mut platform = Platform::start();
    if platform.metric("selvage_protection_keys", &[]) == 0 {
        return skip("keys of a real node: this CPU has no protection keys; run `cargo xtask keys`");
    }
    let tenants: Vec<(String, String)> = ["a", "b", "c"].iter().map(|name| tenant(&platform, name)).collect();
    let all_served = |platform: &Platform| {
        for (host, _) in &tenants {
            assert_eq!(platform.await_status(host, "/", 200).text(), FINE);
        }
    };
    all_served(&platform);
    let pid = platform.node.pid().to_string();
    let brief = Busy::start(&platform, &tenants[0].0, "/brief");
    reach_for_everything(&platform, &thread(&platform, "shard-0").expect("the only shard"));
    drop(brief);
    all_served(&platform);

    // Somebody who computes for too long is moved to the apart thread; the same there.
    let (attacker, account) = &tenants[1];
    let long = Busy::start(&platform, attacker, "/long");
    let stuck = Busy::start(&platform, attacker, "/brief");
    let apart = eventually("a tenant is quarantined", Duration::from_secs(120), || thread(&platform, "apart"));
    reach_for_everything(&platform, &apart);

    let died = intrude(&["die", &pid, &apart, &MEMORY_PAGES.to_string()])
        .expect("the machine of keys lets root trace")
        .remove(0);
    eventually("the node has ended", STOP_TIMEOUT, || (!platform.node.is_running()).then_some(()));
    drop((long, stuck));
    let reports = std::fs::read_dir(platform.node_data()).expect("a folder").map(|entry| entry.expect("a file").path());
    let is_report = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("crash-"));
    let report = reports.into_iter().find(is_report).expect("a report");
    let report = std::fs::read_to_string(report).expect("text");
    println!("{account}: {report}");
    let access =
        format!("access to a page of key {} at address 0x{}, in a turn of tenant ", died["key"], died["address"]);
    assert!(report.contains(&access), "{died:?}: {report}");
    assert!(report.contains(&format!("(key {}), thread apart", died["own"])), "{died:?}: {report}");
    // Whoever watches over it starts it again, and it serves.
    platform.restart_node(true);
    all_served(&platform);
}
