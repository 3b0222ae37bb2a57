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

/// A project made of a template and deployed as it is.
pub(crate) fn deploy(platform: &Platform, npm: &Path, template: &str, name: &str) -> Run {
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

    deploy(&platform, &npm, "hono/workers/templates", "starter-hono");
    let host = "starter-hono.workers.localhost";
    assert_eq!(platform.get(host, "/message").text(), "Hello Hono!");
    // The file of its folder `public`, which the Worker knows nothing of.
    let page = platform.get(host, "/");
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")), "{page:?}");
    assert!(page.text().contains("fetch('/message')"), "{page:?}");
    assert_eq!(platform.get(host, "/none").text(), "404 Not Found");

    deploy(&platform, &npm, "hello-world-with-assets/ts", "starter-assets");
    let host = "starter-assets.workers.localhost";
    assert!(platform.get(host, "/").text().contains("fetch('/message')"));
    assert_eq!(platform.get(host, "/message").text(), "Hello, World!");

    deploy(&platform, &npm, "hello-world-assets-only/templates", "starter-files");
    let page = platform.get("starter-files.workers.localhost", "/");
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")), "{page:?}");

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
