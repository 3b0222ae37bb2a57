//! Starter templates of Workers, as `npm create cloudflare` lays them out, deployed with the wrangler file they come with. Nothing of them is changed but the two
//! placeholders that the generator fills in: the Worker's name and the day.

use std::path::Path;

use e2e::http::Request;
use e2e::npm::packages;
use e2e::platform::{Platform, Run};
use serde_json::{Value, json};

/// A project made of a template, with the packages installed.
fn make(platform: &Platform, npm: &Path, template: &str, name: &str) {
    let folder = platform.folder().join(name);
    copy(&npm.join("node_modules/create-cloudflare/templates").join(template), &folder, name);
    std::os::unix::fs::symlink(npm.join("node_modules").canonicalize().expect("packages"), folder.join("node_modules"))
        .expect("a link");
}

fn copy(from: &Path, to: &Path, name: &str) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("the template is in the package").filter_map(Result::ok) {
        let file = entry.file_name().to_string_lossy().replace("__dot__", ".");
        if entry.path().is_dir() {
            copy(&entry.path(), &to.join(file), name);
        } else {
            let text = std::fs::read_to_string(entry.path()).expect("text");
            let text = text.replace("<WORKER_NAME>", name).replace("<COMPATIBILITY_DATE>", "2026-11-21");
            std::fs::write(to.join(file), text).expect("a file");
        }
    }
}

fn deploy(platform: &Platform, npm: &Path, template: &str, name: &str) -> Run {
    make(platform, npm, template, name);
    let run = platform.cli(&["--json", "deploy", name]);
    assert_eq!(run.code, 0, "{template}: {run:?}");
    platform.await_version(&format!("{name}.workers.localhost"), 1);
    run
}

#[test]
fn starter_templates_are_deployed_as_they_are() {
    let Some(npm) = packages("starter templates") else { return };
    let platform = Platform::start();
    // Its schemas are compiled by the first request.
    assert_eq!(platform.cli(&["plan", "set", "free", "--cpu-ms", "2000"]).code, 0);

    deploy(&platform, &npm, "hello-world/ts", "starter-hello");
    assert_eq!(platform.get("starter-hello.workers.localhost", "/").text(), "Hello World!");

    let run = deploy(&platform, &npm, "hono/workers/templates", "starter-hono");
    assert_eq!(platform.get("starter-hono.workers.localhost", "/message").text(), "Hello Hono!");
    // What its file asks for and the platform does not have yet is said.
    let warnings = run.json()["warnings"].to_string();
    assert!(warnings.contains("`assets` is not on this platform yet: env.ASSETS will be undefined"), "{warnings}");

    deploy(&platform, &npm, "openapi/ts", "starter-openapi");
    let host = "starter-openapi.workers.localhost";
    let page = platform.get(host, "/");
    assert!(page.status == 200 && page.text().contains("swagger-ui"), "{page:?}");
    let document: Value = serde_json::from_slice(&platform.get(host, "/openapi.json").body).expect("JSON");
    assert!(document["paths"]["/api/tasks/{taskSlug}"]["delete"].is_object(), "{document}");
    let task = json!({"name": "t", "slug": "t-1", "completed": false, "due_date": "2026-11-21"});
    let post = |body: &Value| {
        let request = Request::new("POST", host, "/api/tasks")
            .header("Content-Type", "application/json")
            .header("Connection", "close");
        e2e::http::send(platform.http, &request.body(body.to_string().into_bytes()))
    };
    let made = post(&task);
    let answer: Value = serde_json::from_slice(&made.body).expect("JSON");
    assert_eq!(
        (made.status, &answer["success"], &answer["task"]["slug"]),
        (201, &json!(true), &json!("t-1")),
        "{answer}"
    );
    assert_eq!(post(&json!({"name": 1})).status, 400);
}
