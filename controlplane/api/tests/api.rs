//! The API over a real listener, with a real store: who reaches what, what bad input is answered, what conflicts.

mod support;

use model::Timestamp;
use serde_json::{Value, json};
use support::{Control, WORKER, validator};

const NOBODY: &str = "01932c07a0f07c3e8d5b6a7f8e9d0c1b";

/// Every path with an id in it, as (method, path with ids of that account's things, body).
fn walk(account: &str, project: &str, deployment: &str, route: &str) -> Vec<(&'static str, String, Option<Value>)> {
    let deployment_path = format!("/v1/deployments/{deployment}");
    let d = |rest: &str| format!("{deployment_path}{rest}");
    vec![
        ("GET", format!("/v1/accounts/{account}"), None),
        ("PATCH", format!("/v1/accounts/{account}"), Some(json!({"plan_tier": "pro"}))),
        ("GET", format!("/v1/accounts/{account}/tokens"), None),
        ("POST", format!("/v1/accounts/{account}/tokens"), Some(json!({"name": "x"}))),
        ("DELETE", format!("/v1/accounts/{account}/tokens/tok_{NOBODY}"), None),
        ("GET", format!("/v1/accounts/{account}/projects"), None),
        ("POST", format!("/v1/accounts/{account}/projects"), Some(json!({"name": "x"}))),
        ("GET", format!("/v1/projects/{project}"), None),
        ("PATCH", format!("/v1/projects/{project}"), Some(json!({"name": "x"}))),
        ("DELETE", format!("/v1/projects/{project}"), None),
        ("GET", format!("/v1/projects/{project}/deployments"), None),
        ("POST", format!("/v1/projects/{project}/deployments"), Some(json!({"name": "x", "subdomain": "x"}))),
        ("GET", d(""), None),
        ("DELETE", d(""), None),
        ("POST", d("/rollback"), None),
        ("POST", d("/pause"), None),
        ("POST", d("/resume"), None),
        ("GET", d("/versions"), None),
        ("POST", d("/versions"), None),
        ("GET", d("/versions/1"), None),
        ("PUT", d("/versions/1"), None),
        ("GET", d("/routes"), None),
        ("POST", d("/routes"), Some(json!({"pattern": "other.example/*"}))),
        ("PATCH", d(&format!("/routes/{route}")), Some(json!({"enabled": false}))),
        ("DELETE", d(&format!("/routes/{route}")), None),
        ("GET", d("/env"), None),
        ("PUT", d("/env/KEY"), Some(json!({"value": "x"}))),
        ("DELETE", d("/env/KEY"), None),
        ("GET", d("/config"), None),
        ("GET", d("/logs/tail"), None),
    ]
}

#[tokio::test]
async fn a_token_reaches_its_own_account_alone_and_learns_nothing_of_others() {
    let control = Control::new().await;
    let (_, stranger) = control.other_account("stranger@example.com").await;
    let project = control.project("shop").await;
    let body = json!({"name": "a", "subdomain": "a", "routes": [{"pattern": "a.example/*"}]});
    let deployment =
        control.call("POST", &format!("/v1/projects/{project}/deployments"), Some(body)).await.expect(201).id();
    let routes = control.call("GET", &format!("/v1/deployments/{deployment}/routes"), None).await.expect(200);
    let route = routes.result()[0]["id"].as_str().unwrap().to_owned();

    let theirs = walk(&control.account, &project, &deployment, &route);
    let id = |prefix: &str| format!("{prefix}_{NOBODY}");
    let nobodys = walk(&id("acc"), &id("prj"), &id("deploy"), &id("route"));
    for ((method, theirs, body), (_, nobodys, _)) in theirs.into_iter().zip(nobodys) {
        let foreign = control.call_as(Some(&stranger), method, &theirs, body.clone()).await.expect(403);
        let missing = control.call_as(Some(&stranger), method, &nobodys, body.clone()).await.expect(403);
        assert_eq!(foreign.body, missing.body, "{method} {theirs}");
        for token in [None, Some("selvage_wrong")] {
            let theirs = control.call_as(token, method, &theirs, body.clone()).await.expect(401);
            let nobodys = control.call_as(token, method, &nobodys, body.clone()).await.expect(401);
            assert_eq!(theirs.body, nobodys.body);
        }
    }
    for (method, path, body) in [
        ("GET", "/v1/nodes", None),
        ("POST", "/v1/accounts", Some(json!({"email": "x@y"}))),
        ("GET", "/v1/plans", None),
        ("PUT", "/v1/plans/free", Some(json!({"cpu_ms": 30000}))),
    ] {
        control.call_as(Some(&stranger), method, path, body.clone()).await.expect(403);
        control.call_as(None, method, path, body).await.expect(401);
    }
    let config = control.call_as(Some(&stranger), "GET", "/v1/config", None).await.expect(200);
    assert_eq!(config.result()["deployments"], json!([]));
    let listed = control.call_as(Some(&stranger), "GET", "/v1/accounts", None).await.expect(200);
    assert_eq!(listed.result().as_array().unwrap().len(), 1);
    assert_eq!(control.status(&deployment).await, "draft", "a stranger changed something");
}

#[tokio::test]
async fn wrong_expired_and_revoked_tokens_are_answered_alike() {
    let control = Control::new().await;
    let (account, secret) = control.other_account("dev@example.com").await;
    let id = account.parse().unwrap();
    let past = Timestamp::from_unix_ms(Timestamp::now().unix_ms() - 1);
    let (scope, access) = (model::TokenScope::Account, model::TokenAccess::Full);
    let old = store::NewToken { name: "old".to_owned(), scope, access, expires_at: Some(past) };
    let expired = control.store.create_token(id, old).await.unwrap();
    let whoami = control.call_as(Some(&secret), "GET", "/v1/whoami", None).await.expect(200);
    let token = whoami.result()["token"]["id"].as_str().unwrap();
    let revoke = format!("/v1/accounts/{account}/tokens/{token}");
    control.call_as(Some(&secret), "DELETE", &revoke, None).await.expect(200);

    let long = "x".repeat(600);
    let none = control.call_as(None, "GET", "/v1/whoami", None).await.expect(401);
    for bad in [secret.as_str(), expired.secret.as_str(), "", "selvage_", &long, "\u{e9}"] {
        let answer = control.call_as(Some(bad), "GET", "/v1/whoami", None).await.expect(401);
        assert_eq!(answer.body, none.body);
    }
    for header in ["Basic abc", "Bearer", &format!("bearer{}", control.admin), &control.admin] {
        let headers = [("Authorization".to_owned(), header.to_owned())];
        control.send("GET", "/v1/whoami", &headers, b"").await.expect(401);
    }
    let two = format!("Bearer {}", control.admin);
    let headers = [("Authorization".to_owned(), two.clone()), ("Authorization".to_owned(), two)];
    control.send("GET", "/v1/whoami", &headers, b"").await.expect(401);
    // Revoked again by the admin: the same answer.
    control.call("DELETE", &revoke, None).await.expect(200);
}

#[tokio::test]
async fn a_token_begets_none_that_is_more_than_itself() {
    let control = Control::new().await;
    let (account, plain) = control.other_account("dev@example.com").await;
    let tokens = format!("/v1/accounts/{account}/tokens");
    let admin = json!({"name": "x", "scope": "admin"});
    control.call_as(Some(&plain), "POST", &tokens, Some(admin)).await.expect(403);
    let short = json!({"name": "short", "expires_in_s": 60});
    let short = control.call_as(Some(&plain), "POST", &tokens, Some(short)).await.expect(201);
    let secret = short.result()["secret"].as_str().unwrap();
    let child = control.call_as(Some(secret), "POST", &tokens, Some(json!({"name": "child"}))).await.expect(201);
    assert_eq!(child.result()["expires_at"], short.result()["expires_at"]);
    let listed = control.call("GET", &tokens, None).await.expect(200);
    assert!(!listed.body.to_string().contains(secret), "a list shows secrets");
}

#[tokio::test]
async fn malformed_requests_are_answered_with_the_field_at_fault() {
    let control = Control::new().await;
    let project = control.project("shop").await;
    let path = format!("/v1/projects/{project}/deployments");
    let route = |pattern: &str| json!({"name": "a", "subdomain": "a", "routes": [{"pattern": pattern}]});
    let cases = [
        (json!({}), "body"),
        (json!({"name": "a"}), "body"),
        (json!({"name": "a", "subdomain": "a", "colour": 1}), "colour"),
        (json!({"name": 1, "subdomain": "a"}), "name"),
        (json!({"name": "", "subdomain": "a"}), "name"),
        (json!({"name": "a", "subdomain": "A.b"}), "subdomain"),
        (json!({"name": "a", "subdomain": "a", "routes": {}}), "routes"),
        (route(""), "routes[0].pattern"),
        (route("no-path"), "routes[0].pattern"),
        (route("https://example.com/*"), "routes[0].pattern"),
        (route("a.*.com/*"), "routes[0].pattern"),
        (route(&"x".repeat(65536)), "routes[0].pattern"),
        (route("other.workers.localhost/*"), "routes[0].pattern"),
        (route("*.localhost/*"), "routes[0].pattern"),
        (json!({"name": "a", "subdomain": "a", "env_vars": {"1A": {"value": ""}}}), "env_vars.1A"),
        (json!({"name": "a", "subdomain": "a", "env_vars": {"A": "x"}}), "env_vars.A"),
        (json!({"name": "a", "subdomain": "a", "env_vars": {"A": {"type": "x", "value": ""}}}), "env_vars.A.type"),
        (
            json!({"name": "a", "subdomain": "a", "bindings": {"kv": [{"name": "K", "namespace_id": "ns"}]}}),
            "bindings.kv[0].namespace_id",
        ),
    ];
    for (body, field) in cases {
        let answer = control.call("POST", &path, Some(body.clone())).await.expect(400);
        assert_eq!(answer.error()["field"], field, "{body}: {}", answer.body);
    }
    let twice = json!({"name": "a", "subdomain": "a", "routes": [{"pattern": "a.b/*"}, {"pattern": "A.B./*"}]});
    assert_eq!(control.call("POST", &path, Some(twice)).await.expect(409).error()["field"], "routes[1].pattern");
    let listed = control.call("GET", &path, None).await.expect(200);
    assert_eq!(listed.result(), &json!([]), "a refused request left something behind");

    for path in ["/v1/deployments/x", "/v1/deployments/deploy_", "/v1/deployments/%ff", "/v1/projects?limit=1"] {
        let answer = control.call("GET", path, None).await;
        assert!(matches!(answer.status, 400 | 404), "{path}: {}", answer.status);
    }
    for query in ["limit=0", "limit=1001", "limit=x", "cursors=1", &format!("cursor={}", "x".repeat(101))] {
        control.call("GET", &format!("{path}?{query}"), None).await.expect(400);
    }
    control.call("DELETE", "/v1/whoami", None).await.expect(405);
    control.call("GET", "/v2", None).await.expect(404);
}

#[tokio::test]
async fn bodies_that_are_not_what_they_say_are_refused() {
    let control = Control::new().await;
    let path = format!("/v1/accounts/{}/projects", control.account);
    let token = ("Authorization".to_owned(), format!("Bearer {}", control.admin));
    let json = ("Content-Type".to_owned(), "application/json".to_owned());
    let with = |header: &(String, String)| vec![token.clone(), header.clone()];
    control.send("POST", &path, std::slice::from_ref(&token), b"{\"name\":\"x\"}").await.expect(415);
    for body in [&b""[..], b"{", b"\xff\xfe", b"{\"name\":\"x\"} {}", b"null", b"{\"name\":\"\\ud800\"}"] {
        control.send("POST", &path, &with(&json), body).await.expect(400);
    }
    let deep = [b"[".repeat(100_000), b"]".repeat(100_000)].concat();
    control.send("POST", &path, &with(&json), &deep).await.expect(400);
    control.send("POST", &path, &with(&json), &vec![b' '; (2 << 20) + 1]).await.expect(413);

    let deployment = control.deployment("forms").await;
    let upload = format!("/v1/deployments/{deployment}/versions");
    control.send("POST", &upload, &with(&json), b"{}").await.expect(415);
    let form = ("Content-Type".to_owned(), "multipart/form-data; boundary=X".to_owned());
    let part =
        |name: &str, text: &str| format!("--X\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{text}\r\n");
    let beside = |name: &str, kind: &str, text: &str| {
        format!(
            "--X\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"{name}\"\r\nContent-Type: {kind}\r\n\r\n{text}\r\n"
        )
    };
    let file = part("file", WORKER);
    for (body, field) in [
        (String::new(), "body"),
        ("--X--\r\n".to_owned(), "file"),
        (format!("{file}{file}--X--\r\n"), "file"),
        (format!("{}--X--\r\n", part("files", "x")), "files"),
        (format!("{file}{}--X--\r\n", part("metadata", "{")), "metadata"),
        (format!("{file}{}--X--\r\n", part("metadata", r#"{"compat":1}"#)), "metadata.compat"),
        (
            format!("{file}{}--X--\r\n", part("metadata", r#"{"compatibility_date":"soon"}"#)),
            "metadata.compatibility_date",
        ),
        (format!("{file}{}--X--\r\n", part("metadata", &" ".repeat(70_000))), "metadata"),
        (
            format!("{file}{}--X--\r\n", part("metadata", r#"{"compatibility_date":"9999-01-01"}"#)),
            "metadata.compatibility_date",
        ),
        (
            format!("{file}{}--X--\r\n", part("metadata", r#"{"compatibility_flags":["rpc","nonsense"]}"#)),
            "metadata.compatibility_flags[1]",
        ),
        (format!("{file}{}--X--\r\n", beside("x.png", "image/png", "x")), "x.png"),
        (format!("{file}{}--X--\r\n", beside("../x.txt", "text/plain", "x")), "../x.txt"),
        (format!("{file}{0}{0}--X--\r\n", beside("x.txt", "text/plain", "x")), "x.txt"),
        (file.clone(), "body"),
    ] {
        let answer = control.send("POST", &upload, &with(&form), body.as_bytes()).await.expect(400);
        assert_eq!(answer.error()["field"], field, "{}", answer.body);
    }
    let versions = control.call("GET", &upload, None).await.expect(200);
    assert_eq!(versions.result(), &json!([]), "a refused form made a version");
}

#[tokio::test]
async fn doubles_are_conflicts_and_deleted_names_are_free_again() {
    let control = Control::new().await;
    let first = control.deployment("shop").await;
    let project = control.project("second").await;
    let path = format!("/v1/projects/{project}/deployments");
    let answer = control.call("POST", &path, Some(json!({"name": "x", "subdomain": "shop"}))).await.expect(409);
    assert_eq!(answer.error()["field"], "subdomain");
    let slug = json!({"name": "Second"});
    control.call("POST", &format!("/v1/accounts/{}/projects", control.account), Some(slug)).await.expect(409);
    let email = json!({"email": "ADMIN@example.com"});
    control.call("POST", "/v1/accounts", Some(email)).await.expect(409);

    let routes = format!("/v1/deployments/{first}/routes");
    let made = control.call("POST", &routes, Some(json!({"pattern": "Example.com:443/%61/*"}))).await;
    assert_eq!(made.status, 400, "a port is no part of a pattern");
    let made = control.call("POST", &routes, Some(json!({"pattern": "Example.com/%61/*"}))).await.expect(201);
    assert_eq!(made.result()["pattern"], "example.com/a/*");
    let answer = control.call("POST", &routes, Some(json!({"pattern": "example.com/a/*", "zone_id": "z"}))).await;
    assert_eq!(answer.expect(409).error()["field"], "pattern");
    let route = format!("{routes}/{}", made.id());
    control.call("PATCH", &route, Some(json!({"enabled": false}))).await.expect(200);
    control.call("DELETE", &route, None).await.expect(200);
    control.call("DELETE", &route, None).await.expect(404);
    control.call("POST", &routes, Some(json!({"pattern": "example.com/a/*"}))).await.expect(201);

    control.call("DELETE", &format!("/v1/projects/{project}"), None).await.expect(200);
    control.call("DELETE", &format!("/v1/deployments/{first}"), None).await.expect(200);
    control.call("GET", &format!("/v1/deployments/{first}"), None).await.expect(404);
    let project = control.project("third").await;
    let body = json!({"name": "x", "subdomain": "shop"});
    let again = control.call("POST", &format!("/v1/projects/{project}/deployments"), Some(body)).await.expect(201).id();
    control
        .call("POST", &format!("/v1/deployments/{again}/routes"), Some(json!({"pattern": "example.com/a/*"})))
        .await
        .expect(201);
}

#[tokio::test]
async fn env_values_go_in_and_never_come_out() {
    let control = Control::new().await;
    let deployment = control.deployment("env").await;
    let env = format!("/v1/deployments/{deployment}/env");
    let secret = json!({"type": "secret", "value": "hunter2-hunter2"});
    control.call("PUT", &format!("{env}/API_KEY"), Some(secret)).await.expect(200);
    let listed = control.call("GET", &env, None).await.expect(200);
    assert_eq!(listed.result(), &json!([{"key": "API_KEY", "type": "secret"}]));
    control.call("PUT", &format!("{env}/9X"), Some(json!({"value": ""}))).await.expect(400);
    let long = json!({"value": "x".repeat(5121)});
    control.call("PUT", &format!("{env}/LONG"), Some(long)).await.expect(400);
    let stored = control.stored();
    let has = |text: &[u8]| stored.windows(text.len()).any(|window| window == text);
    assert!(has(b"API_KEY"), "it is looked at where it is not");
    // Bytes are shown by PostgreSQL in hex.
    assert!(!has(b"hunter2") && !has(hex::encode("hunter2").as_bytes()), "a secret is stored in the clear");
    assert!(!has(control.admin.as_bytes()), "a token is stored in the clear");
    control.call("DELETE", &format!("{env}/API_KEY"), None).await.expect(200);
    control.call("DELETE", &format!("{env}/API_KEY"), None).await.expect(404);
}

#[tokio::test]
async fn urls_have_the_port_at_which_nodes_answer() {
    let control = Control::with_platform_port(8080).await;
    let id = control.deployment("a").await;
    let shown = control.call("GET", &format!("/v1/deployments/{id}"), None).await.expect(200);
    assert_eq!(shown.result()["url"], "http://a.workers.localhost:8080");
    let config = control.call("GET", "/v1/config", None).await.expect(200);
    assert!(!config.body.to_string().contains(":8080"), "nodes look at names alone: {}", config.body);
}

#[tokio::test]
async fn a_node_out_of_service_leaves_its_vips_and_comes_back() {
    let control = Control::new().await;
    let node = |name: &str, last: u8| json!({"name": name, "mac": format!("02:00:00:00:00:0{last}")});
    let (a, b) = (node("a", 1), node("b", 2));
    let rules = json!({"vips": [{"address": "192.0.2.1", "port": 443, "nodes": [a, b]}]});
    control.call("PUT", "/v1/steering", Some(rules)).await.expect(200);
    let carried_out = async || {
        let config = control.call("GET", "/v1/config", None).await.expect(200);
        let vip = config.result()["steering"]["vips"][0].clone();
        (vip["nodes"].clone(), vip["before"].clone())
    };
    let set = |name: &'static str, state: &'static str| {
        let control = &control;
        async move { control.call("PATCH", &format!("/v1/nodes/{name}"), Some(json!({"state": state}))).await }
    };
    assert_eq!(carried_out().await, (json!([a, b]), Value::Null));
    let before = control.push.published_generation();
    set("a", "cordoned").await.expect(200);
    assert_eq!(carried_out().await, (json!([b]), json!([[a, b]])), "who had connections to it keeps them");
    assert!(control.push.published_generation() > before, "nodes have it");
    // Draining is out of service too; that of all of them is of none.
    set("a", "draining").await.expect(200);
    assert_eq!(carried_out().await, (json!([b]), json!([[a, b]])));
    set("b", "cordoned").await.expect(200);
    assert_eq!(carried_out().await, (json!([a, b]), json!([[b]])));
    set("b", "serving").await.expect(200);
    set("a", "serving").await.expect(200);
    assert_eq!(carried_out().await, (json!([a, b]), json!([[b]])));
    // The operator's document is as it was; a node behind no VIP needs no new configuration.
    let shown = control.call("GET", "/v1/steering", None).await.expect(200);
    assert_eq!(shown.result()["vips"][0]["nodes"], json!([a, b]));
    let published = control.push.published_generation();
    set("c", "cordoned").await.expect(200);
    assert_eq!(control.push.published_generation(), published);
}

#[tokio::test]
async fn lists_go_on_where_the_cursor_says() {
    let control = Control::new().await;
    for i in 0..5 {
        control.project(&format!("p{i}")).await;
    }
    let mut names = Vec::new();
    let mut cursor = String::new();
    for _ in 0..4 {
        let path = format!("/v1/accounts/{}/projects?limit=2{cursor}", control.account);
        let page = control.call("GET", &path, None).await.expect(200);
        names.extend(page.result().as_array().unwrap().iter().map(|p| p["name"].as_str().unwrap().to_owned()));
        match page.body["result_info"]["cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(names, ["p0", "p1", "p2", "p3", "p4"]);
}

/// The ids of a list, a page after the other.
async fn pages(control: &Control, path: &str, limit: usize) -> Vec<String> {
    let mut ids = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = control.call("GET", &format!("{path}?limit={limit}{cursor}"), None).await.expect(200);
        let items = page.result().as_array().unwrap();
        assert!(items.len() <= limit && ids.len() < 100, "{}", page.body);
        ids.extend(items.iter().map(|item| item["id"].as_str().unwrap().to_owned()));
        match page.body["result_info"]["cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return ids,
        }
    }
}

#[tokio::test]
async fn every_list_is_the_same_in_pages_of_any_size() {
    let control = Control::new().await;
    let project = control.project("p").await;
    let path = format!("/v1/projects/{project}/deployments");
    let tokens = format!("/v1/accounts/{}/tokens", control.account);
    let mut deployment = String::new();
    for name in ["a", "b", "c", "d", "e"] {
        let body = json!({"name": name, "subdomain": name});
        deployment = control.call("POST", &path, Some(body)).await.expect(201).id();
        control.call("POST", &tokens, Some(json!({"name": name}))).await.expect(201);
        control.other_account(&format!("{name}@example.com")).await;
    }
    for host in ["a", "b", "c", "d", "e"] {
        let body = json!({"pattern": format!("{host}.example/*")});
        control.call("POST", &format!("/v1/deployments/{deployment}/routes"), Some(body)).await.expect(201);
        // Without a validator a version is recorded, and invalid.
        control.upload(&deployment, format!("{WORKER}//{host}").as_bytes(), "{}", &[]).await.expect(503);
    }
    let of = |rest: &str| format!("/v1/deployments/{deployment}/{rest}");
    // The operator has an account and a token beside.
    for (path, count) in [(path, 5), (tokens, 6), (of("routes"), 5), (of("versions"), 5), ("/v1/accounts".into(), 6)] {
        let whole = pages(&control, &path, 1000).await;
        assert_eq!(whole.len(), count, "{path}");
        for limit in [1, 2, 5] {
            assert_eq!(pages(&control, &path, limit).await, whole, "{path} by {limit}");
        }
    }
    control.call("GET", &format!("{}?cursor=deploy_x", of("versions")), None).await.expect(400);
}

#[tokio::test]
async fn a_pattern_has_one_spelling_and_what_is_none_is_named() {
    let control = Control::new().await;
    let deployment = control.deployment("spelt").await;
    let routes = format!("/v1/deployments/{deployment}/routes");
    let add = |pattern: String| {
        let (control, routes) = (&control, &routes);
        async move { control.call("POST", routes, Some(json!({"pattern": pattern}))).await }
    };
    let made = add("XN--Bcher-KVA.Example./%61/*".to_owned()).await.expect(201);
    assert_eq!(made.result()["pattern"], "xn--bcher-kva.example/a/*");
    for same in ["xn--bcher-kva.example/a/*", "XN--BCHER-KVA.EXAMPLE/a/*", "xn--bcher-kva.example./%61/*"] {
        assert_eq!(add(same.to_owned()).await.expect(409).error()["field"], "pattern", "{same}");
    }
    let (long, huge) = (format!("a.b/{}", "x".repeat(497)), format!("a.b/{}", "x".repeat(64 * 1024)));
    for wrong in [
        "b\u{fc}cher.example/*",
        "a.b:80/*",
        "a..b/*",
        "[::1]/*",
        "*/x",
        "a.b/../c",
        "a.b/%2e%2e/c",
        "a.b/?q",
        &long,
        &huge,
    ] {
        let refused = add(wrong.to_owned()).await.expect(400);
        assert_eq!(refused.error()["field"], "pattern", "{}", refused.body);
    }
    let listed = control.call("GET", &routes, None).await.expect(200);
    assert_eq!(listed.result().as_array().unwrap().len(), 1);
    let project = control.project("p").await;
    let path = format!("/v1/projects/{project}/deployments");
    for (subdomain, status) in [("b\u{fc}cher", 400), ("Shop", 400), ("shop.", 400), ("xn--bcher-kva", 201)] {
        control.call("POST", &path, Some(json!({"name": "x", "subdomain": subdomain}))).await.expect(status);
    }
}

#[tokio::test]
async fn the_same_request_again_is_answered_again_and_not_done_again() {
    let control = Control::new().await;
    let path = format!("/v1/accounts/{}/projects", control.account);
    let headers = |key: &str| {
        [
            ("Authorization".to_owned(), format!("Bearer {}", control.admin)),
            ("Content-Type".to_owned(), "application/json".to_owned()),
            ("Idempotency-Key".to_owned(), key.to_owned()),
        ]
    };
    let first = control.send("POST", &path, &headers("k1"), br#"{"name":"once"}"#).await.expect(201);
    let again = control.send("POST", &path, &headers("k1"), br#"{"name":"once"}"#).await.expect(201);
    assert_eq!(first.body, again.body);
    assert!(again.head.contains("idempotency-replayed: true"));
    control.send("POST", &path, &headers("k1"), br#"{"name":"other"}"#).await.expect(422);
    control.send("POST", &path, &headers("k2"), br#"{"name":"once"}"#).await.expect(409);
    control.send("POST", &path, &headers(""), br#"{"name":"x"}"#).await.expect(400);
    // Two at once: one is done, both have its answer.
    let (k, body) = (headers("k3"), br#"{"name":"race"}"#);
    let (a, b) = tokio::join!(control.send("POST", &path, &k, body), control.send("POST", &path, &k, body));
    assert_eq!(a.expect(201).body, b.expect(201).body);
}

#[tokio::test]
async fn an_upload_without_a_working_validator_can_be_tried_again() {
    let control = Control::new().await;
    let deployment = control.deployment("later").await;
    control.upload(&deployment, WORKER.as_bytes(), "{}", &[]).await.expect(503);
    assert_eq!(control.status(&deployment).await, "invalid", "nothing may hang in validating");
    let Some(program) = validator("an upload that is tried again") else { return };
    let control = control.restart(program).await;
    control.upload(&deployment, WORKER.as_bytes(), "{}", &[]).await.expect(201);
    assert_eq!(control.status(&deployment).await, "active");
}

#[tokio::test]
async fn a_deployments_life() {
    let Some(program) = validator("a deployment's life") else { return };
    let control = Control::with_validator(program).await;
    let id = control.deployment("life").await;
    let path = |rest: &str| format!("/v1/deployments/{id}{rest}");
    control.call("PUT", &path("/versions/1"), None).await.expect(404);
    control.call("POST", &path("/pause"), None).await.expect(409);
    control.call("GET", &path("/config"), None).await.expect(404);

    let bad = control.upload(&id, b"export default {\n  fetch( {", "{}", &[]).await.expect(422);
    assert_eq!(bad.error()["code"], 10021);
    assert_eq!(bad.error()["location"]["line"], 2);
    assert!(bad.error()["location"]["column"].is_u64());
    assert_eq!(bad.result()["status"], "invalid");
    assert_eq!(control.status(&id).await, "invalid");
    assert_eq!(
        control.upload(&id, b"export const x = 1", "{}", &[]).await.expect(422).result()["error"]["kind"],
        "no_fetch"
    );
    assert_eq!(control.upload(&id, b"\xff\xfe", "{}", &[]).await.expect(422).result()["error"]["kind"], "not_utf8");
    let big = vec![b' '; (10 << 20) + 1];
    let big = control.upload(&id, &big, "{}", &[]).await.expect(413);
    assert_eq!((&big.result()["error"]["kind"], &big.result()["size_bytes"]), (&json!("too_large"), &json!(10485761)));
    control.call("PUT", &path("/versions/1"), None).await.expect(409);

    let first = control.upload(&id, WORKER.as_bytes(), r#"{"compatibility_date":"2025-01-01"}"#, &[]).await.expect(201);
    assert_eq!((&first.result()["version_number"], &first.result()["active"]), (&json!(5), &json!(true)));
    assert_eq!(control.status(&id).await, "active");
    assert_eq!(
        control.call("PUT", &path("/versions/5"), None).await.expect(200).result()["version"]["version_number"],
        5
    );

    let key = [("Idempotency-Key", "up")];
    let second = control.upload(&id, format!("{WORKER}//2").as_bytes(), "{}", &key).await.expect(201);
    assert_eq!(second.result()["active"], false, "an upload does not disturb what serves");
    let replay = control.upload(&id, format!("{WORKER}//2").as_bytes(), "{}", &key).await.expect(201);
    assert_eq!(second.id(), replay.id());
    assert_eq!(control.upload(&id, b"syntax error", "{}", &[]).await.expect(422).result()["version_number"], 7);
    assert_eq!(control.status(&id).await, "active", "the active version keeps serving");

    control.call("POST", &path("/rollback"), None).await.expect(409);
    let by_id = control.call("PUT", &path(&format!("/versions/{}", second.id())), None).await.expect(200);
    assert_eq!(by_id.result()["deployment"]["active_version"]["version_number"], 6);
    assert_eq!(control.call("PUT", &path("/versions/v6"), None).await.expect(200).result()["version"]["active"], true);
    for (version, status) in [("7", 409), ("8", 404), ("0", 404), ("-1", 400), ("x", 400), ("ver_0", 400)] {
        control.call("PUT", &path(&format!("/versions/{version}")), None).await.expect(status);
    }
    let back = control.call("POST", &path("/rollback"), None).await.expect(200);
    assert_eq!(back.result()["version"]["version_number"], 5);
    let to = control.call("POST", &path("/rollback"), Some(json!({"version": 6}))).await.expect(200);
    assert_eq!(to.result()["version"]["version_number"], 6);
    control.call("POST", &path("/rollback"), Some(json!({"versions": 6}))).await.expect(400);

    for _ in 0..2 {
        assert_eq!(control.call("POST", &path("/pause"), None).await.expect(200).result()["status"], "paused");
    }
    assert_eq!(control.call("GET", &path("/config"), None).await.expect(200).result()["p"], true);
    control.call("PUT", &path("/versions/5"), None).await.expect(409);
    for _ in 0..2 {
        assert_eq!(control.call("POST", &path("/resume"), None).await.expect(200).result()["status"], "active");
    }
    let config = control.call("GET", "/v1/config", None).await.expect(200);
    assert_eq!(config.result()["deployments"][0]["v"], 6);
    control.call("GET", &path("/logs/tail"), None).await.expect(426);
    assert_eq!(control.call("DELETE", &path(""), None).await.expect(200).result()["status"], "deleted");
    for rest in ["", "/versions", "/env", "/routes", "/config"] {
        control.call("GET", &path(rest), None).await.expect(404);
    }
    control.call("DELETE", &path(""), None).await.expect(404);
}
