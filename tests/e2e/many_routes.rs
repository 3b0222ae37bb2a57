//! More routes than stand in a snapshot itself: a base of them, on a real node, behind its fence.

use std::process::Command;
use std::time::Duration;

use e2e::platform::{Platform, finish};
use e2e::{binary, eventually};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(20);
/// Above it a base is made.
const INLINE_MAX: u32 = 4096;

fn worker(answer: &str) -> String {
    format!("export default {{ fetch() {{ return new Response('{answer}'); }} }};")
}

/// Puts `h<n>.example/*` of these numbers into the store.
fn import(platform: &Platform, deployment: &str, numbers: std::ops::Range<u32>) {
    let mut command = Command::new(binary("selvage-control"));
    command.args(["import-routes", "--data"]).arg(platform.folder().join("control"));
    let lines: String = numbers.clone().map(|number| format!("{deployment} h{number}.example/*\n")).collect();
    let done = finish(command, &lines);
    assert_eq!(done.code, 0, "{done:?}");
    let said: Value = serde_json::from_str(&done.stdout).expect("JSON");
    assert_eq!(said["added"], numbers.len());
}

#[test]
fn routes_by_the_thousands_are_served_replaced_and_there_after_a_restart_alone() {
    let mut platform = Platform::start();
    let (many, few) = (platform.deploy("many", &worker("many")), platform.deploy("few", &worker("few")));
    let add = |platform: &Platform, pattern: &str| {
        let path = format!("/v1/deployments/{}/routes", few.id);
        platform.api().ok("POST", &path, Some(&json!({ "pattern": pattern })));
    };
    let answers = |platform: &Platform, host: &str| platform.get(host, "/").text();
    import(&platform, &many.id, 0..2 * INLINE_MAX);
    add(&platform, "one.example/*");
    eventually("the node has the base", SOON, || (answers(&platform, "h8000.example") == "many").then_some(()));
    assert_eq!(answers(&platform, "one.example"), "few");
    assert_eq!(platform.get(&format!("h{}.example", 2 * INLINE_MAX), "/").status, 404);

    // Changes over it, then another in its place.
    add(&platform, "two.example/*");
    eventually("the change is served", SOON, || (answers(&platform, "two.example") == "few").then_some(()));
    import(&platform, &many.id, 2 * INLINE_MAX..3 * INLINE_MAX);
    add(&platform, "three.example/*");
    eventually("the other base is served", SOON, || (answers(&platform, "h12000.example") == "many").then_some(()));
    let served = ["h0.example", "h8000.example", "one.example", "two.example", "three.example"];
    assert_eq!(served.map(|host| answers(&platform, host)), ["many", "many", "few", "few", "few"]);

    platform.node.kill();
    platform.restart_node(false);
    assert_eq!(served.map(|host| answers(&platform, host)), ["many", "many", "few", "few", "few"]);
    let bases = std::fs::read_dir(platform.node_data().join("routes")).expect("a folder");
    let names: Vec<String> = bases.map(|base| base.expect("one").file_name().to_string_lossy().into_owned()).collect();
    assert!(names.len() <= 3 && names.iter().all(|name| !name.ends_with(".tmp")), "{names:?}");
}
