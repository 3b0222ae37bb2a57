//! The API against everything that its own document allows and forbids: schemathesis (PyPI) makes requests from the OpenAPI document, and no answer
//! may be a server's error, of an undocumented status, or of another form than the document says.
//!
//! Ids are those of a real account, project, deployment and version, so that requests get past them. What deletes comes last. The short form makes
//! few examples; `cargo xtask fuzz-api` makes more.

use std::process::Command;

use e2e::platform::{Platform, Setup};
use serde_json::{Value, json};

/// Where schemathesis is, if not in `PATH`.
const PROGRAM: &str = "SELVAGE_SCHEMATHESIS";
const WORKER: &str = "export default { fetch() { return new Response('here'); } };";
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance";

#[test]
fn no_request_that_the_document_describes_is_an_error_of_ours() {
    let program = std::env::var(PROGRAM).unwrap_or_else(|_| "schemathesis".to_owned());
    if Command::new(&program).arg("--version").output().is_err() {
        e2e::skipped("the API under schemathesis: it is not installed (PyPI: schemathesis 4)");
        return;
    }
    let examples = std::env::var("SELVAGE_FUZZ_EXAMPLES").unwrap_or_else(|_| "5".to_owned());
    let control_arguments = &["--rate-limit", "1000000", "--rate-burst", "1000000"];
    let platform = Platform::with(Setup { control_arguments, ..Setup::default() });
    let config = platform.folder().join("schemathesis.toml");
    std::fs::write(&config, parameters(&platform)).expect("written");
    for methods in [["--exclude-method", "DELETE"], ["--include-method", "DELETE"]] {
        let mut command = Command::new(&program);
        command.arg("--config-file").arg(&config).arg("run").arg(format!("http://{}/v1/openapi.json", platform.api));
        command.args(["--header", &format!("Authorization: Bearer {}", platform.token), "--checks", CHECKS]);
        command.args(["--phases", "examples,coverage,fuzzing", "--max-examples", &examples, "--continue-on-failure"]);
        command.args(["--request-timeout", "30", "--no-color", "--warnings", "off"]).args(methods);
        let done = command.current_dir(platform.folder()).output().expect("it runs");
        let text = String::from_utf8_lossy(&done.stdout);
        println!("{text}");
        assert!(done.status.success(), "{text}{}", String::from_utf8_lossy(&done.stderr));
    }
    let log = std::fs::read_to_string(platform.folder().join("control.log")).expect("its log");
    let failed: Vec<&str> = log.lines().filter(|line| line.contains("answered status=5")).collect();
    assert!(failed.is_empty(), "{failed:#?}");
    assert!(log.contains("answered status=2"), "some were done");
}

/// Ids that are there, as schemathesis reads them.
fn parameters(platform: &Platform) -> String {
    let deployed = platform.deploy("fuzzed", WORKER);
    let api = platform.api();
    let project = api.project(&platform.account, "default");
    let route = json!({ "pattern": "fuzzed.example/*" });
    let route = api.ok("POST", &format!("/v1/deployments/{}/routes", deployed.id), Some(&route));
    let ids = [
        ("account_id", platform.account.clone()),
        ("project_id", project),
        ("deployment_id", deployed.id.clone()),
        ("route_id", route["id"].as_str().expect("an id").to_owned()),
    ];
    let lines = ids.map(|(name, id)| format!("\"path.{name}\" = {}\n", Value::String(id)));
    format!("[parameters]\n{}\"path.version\" = 1\n", lines.concat())
}
