//! Unknown hosts, paths and versions; names that are taken; things done twice.

use e2e::api::text;
use e2e::http::{Request, send};
use e2e::platform::Platform;
use serde_json::json;

const WORKER: &str = "export default { fetch() { return new Response(\"here\"); } };";

#[test]
fn unknown_hosts_are_404_with_a_body() {
    let platform = Platform::start();
    platform.deploy("known", WORKER);
    let hosts = [
        "nobody.workers.localhost",
        "workers.localhost",
        "localhost",
        "example.com",
        "known.workers.localhost.evil.com",
    ];
    for host in hosts {
        let reply = platform.get(host, "/");
        assert_eq!(reply.status, 404, "{host}");
        assert!(!reply.body.is_empty(), "{host}: the body says what is the matter");
        assert_eq!(reply.header("x-deployment-version"), None, "{host}");
    }
    for host in
        ["known.workers.localhost", "KNOWN.Workers.Localhost", "known.workers.localhost:80", "known.workers.localhost."]
    {
        assert_eq!(platform.get(host, "/").status, 200, "{host}");
    }
}

#[test]
fn a_deployment_without_a_version_is_404() {
    let platform = Platform::start();
    let api = platform.api();
    let project = api.project(&platform.account, "default");
    let draft = api.create(&project, "draft");
    platform.deploy("other", WORKER);
    assert_eq!(platform.get(&draft.host, "/").status, 404);
    let (status, envelope) = api.call("POST", &format!("/v1/deployments/{}/rollback", draft.id), None);
    assert!(matches!(status, 404 | 409), "{status} {envelope}");
}

#[test]
fn taken_names_are_409_and_unknown_things_404() {
    let platform = Platform::start();
    let api = platform.api();
    let first = platform.deploy("taken", WORKER);
    let project = api.project(&platform.account, "default");
    let deployments = format!("/v1/projects/{project}/deployments");
    let (status, envelope) = api.call("POST", &deployments, Some(&json!({"name": "x", "subdomain": "taken"})));
    assert_eq!(status, 409, "{envelope}");
    let routes = format!("/v1/deployments/{}/routes", first.id);
    api.ok("POST", &routes, Some(&json!({"pattern": "taken.example/*"})));
    for pattern in ["taken.example/*", "TAKEN.example/*"] {
        let (status, envelope) = api.call("POST", &routes, Some(&json!({"pattern": pattern})));
        assert_eq!(status, 409, "{pattern}: {envelope}");
    }
    // A creation that fails in part makes nothing: the subdomain stays free.
    let half = json!({"name": "half", "subdomain": "half", "routes": [{"pattern": "taken.example/*"}]});
    assert_eq!(api.call("POST", &deployments, Some(&half)).0, 409);
    api.create(&project, "half");

    for (method, path) in [
        ("PUT", format!("/v1/deployments/{}/versions/99", first.id)),
        ("GET", format!("/v1/deployments/{}/versions/99", first.id)),
        ("PUT", format!("/v1/deployments/{}/versions/0", first.id)),
    ] {
        let (status, envelope) = api.call(method, &path, None);
        assert!(matches!(status, 400 | 404), "{method} {path}: {status} {envelope}");
        assert_eq!(envelope["success"], false);
    }
    assert_eq!(api.call("PUT", &format!("/v1/deployments/{}/versions/99", first.id), None).0, 404);
    let (status, envelope) =
        api.call("POST", &format!("/v1/deployments/{}/rollback", first.id), Some(&json!({"version": 99})));
    assert_eq!(status, 404, "{envelope}");
    assert_eq!(platform.get(&first.host, "/").status, 200);
}

#[test]
fn doing_it_twice_changes_nothing() {
    let platform = Platform::start();
    let api = platform.api();
    let deployed = platform.deploy("twice", WORKER);
    let generation = |value: &serde_json::Value| value["generation"].as_u64().expect("a generation");
    let once = api.activate(&deployed.id, 1);
    let twice = api.activate(&deployed.id, 1);
    assert_eq!(generation(&once), generation(&twice), "no new configuration for what is so already");
    for verb in ["pause", "pause", "resume", "resume"] {
        let (status, envelope) = api.call("POST", &format!("/v1/deployments/{}/{verb}", deployed.id), None);
        assert_eq!(status, 200, "{verb}: {envelope}");
    }
    let delete = || api.call("DELETE", &format!("/v1/deployments/{}", deployed.id), None);
    assert!((200..300).contains(&delete().0));
    let (status, envelope) = delete();
    assert!(matches!(status, 200 | 204 | 404), "{status} {envelope}");
    platform.await_status(&deployed.host, "/", 404);
}

#[test]
fn the_openapi_document_names_every_path_the_tests_use() {
    let platform = Platform::start();
    let reply = send(platform.api, &Request::new("GET", "api.test", "/v1/openapi.json"));
    assert_eq!(reply.status, 200);
    let document: serde_json::Value = serde_json::from_slice(&reply.body).expect("JSON");
    assert!(text(&document["openapi"]).starts_with("3."), "{}", document["openapi"]);
    let paths = document["paths"].as_object().expect("paths");
    for (path, method) in [
        ("/v1/accounts/{account_id}/projects", "post"),
        ("/v1/projects/{project_id}/deployments", "post"),
        ("/v1/deployments/{deployment_id}/versions", "post"),
        ("/v1/deployments/{deployment_id}/versions/{version}", "put"),
        ("/v1/deployments/{deployment_id}", "delete"),
        ("/v1/deployments/{deployment_id}/rollback", "post"),
    ] {
        assert!(paths.get(path).is_some_and(|item| item.get(method).is_some()), "{method} {path} is not described");
    }
}
