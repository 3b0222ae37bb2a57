//! What tokens may do and how long, how much they may ask, and what is kept of it.

mod support;

use api::RateLimit;
use serde_json::{Value, json};
use support::{Answer, Control};

/// Makes a token of the operator's account; gives its id and its secret.
async fn token(control: &Control, body: Value) -> (String, String) {
    let path = format!("/v1/accounts/{}/tokens", control.account);
    let made = control.call("POST", &path, Some(body)).await.expect(201);
    (made.id(), secret(&made))
}

fn secret(made: &Answer) -> String {
    made.result()["secret"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_token_does_what_its_access_says_and_no_more() {
    let control = Control::new().await;
    let project = control.project("p").await;
    let deployments = format!("/v1/projects/{project}/deployments");
    let tokens = format!("/v1/accounts/{}/tokens", control.account);
    let new = |name: &str| Some(json!({"name": name, "subdomain": name}));
    let (_, read) = token(&control, json!({"name": "r", "access": "read"})).await;
    let (_, deploy) = token(&control, json!({"name": "d", "access": "deploy"})).await;

    let made = control.call_as(Some(&deploy), "POST", &deployments, new("a")).await.expect(201).id();
    let env = format!("/v1/deployments/{made}/env/KEY");
    control.call_as(Some(&deploy), "PUT", &env, Some(json!({"value": "v"}))).await.expect(200);
    for (method, path, body) in [
        ("DELETE", format!("/v1/deployments/{made}"), None),
        ("DELETE", format!("/v1/projects/{project}"), None),
        ("POST", tokens.clone(), Some(json!({"name": "more"}))),
        ("POST", format!("/v1/accounts/{}/projects", control.account), Some(json!({"name": "x"}))),
    ] {
        let refused = control.call_as(Some(&deploy), method, &path, body).await.expect(403);
        assert!(refused.error()["message"].as_str().unwrap().contains("`deploy`"), "{method} {path}");
    }
    for (method, path, body) in [
        ("POST", deployments.clone(), new("b")),
        ("PUT", env.clone(), Some(json!({"value": "w"}))),
        ("DELETE", format!("/v1/deployments/{made}"), None),
    ] {
        control.call_as(Some(&read), method, &path, body).await.expect(403);
    }
    for path in [deployments, format!("/v1/deployments/{made}/env"), tokens] {
        control.call_as(Some(&read), "GET", &path, None).await.expect(200);
        control.call_as(Some(&deploy), "GET", &path, None).await.expect(200);
    }
    assert_eq!(control.status(&made).await, "draft");
}

#[tokio::test]
async fn a_rotated_token_has_a_successor_and_ends_when_it_was_told_to() {
    let control = Control::new().await;
    let (id, old) = token(&control, json!({"name": "ci", "access": "deploy", "expires_in_s": 1000})).await;
    let rotate = format!("/v1/accounts/{}/tokens/{id}/rotate", control.account);
    control.call_as(Some(&old), "POST", &rotate, None).await.expect(403);
    let overlapping = control.call("POST", &rotate, Some(json!({"overlap_s": 60}))).await.expect(201);
    let who = |secret: String| {
        let control = &control;
        async move { control.call_as(Some(&secret), "GET", "/v1/whoami", None).await }
    };
    who(old.clone()).await.expect(200);
    let token = who(secret(&overlapping)).await.expect(200).result()["token"].clone();
    assert_eq!((&token["name"], &token["access"]), (&json!("ci"), &json!("deploy")));
    assert!(token["expires_at"].is_string(), "a token that ends has a successor that ends: {token}");

    // Once more, without overlap: at once. What has ended has no successor.
    let next = control.call("POST", &rotate, None).await.expect(201);
    who(old).await.expect(401);
    who(secret(&next)).await.expect(200);
    control.call("POST", &rotate, None).await.expect(404);
    control.call("POST", &rotate, Some(json!({"overlap_s": 604_801}))).await.expect(400);

    // An operator's token is rotated by operators alone, also by itself.
    let whoami = control.call("GET", "/v1/whoami", None).await.expect(200);
    let own = whoami.result()["token"]["id"].as_str().unwrap();
    let path = format!("/v1/accounts/{}/tokens", control.account);
    let plain = secret(&control.call("POST", &path, Some(json!({"name": "plain"}))).await.expect(201));
    control.call_as(Some(&plain), "POST", &format!("{path}/{own}/rotate"), None).await.expect(403);
    let successor = secret(&control.call("POST", &format!("{path}/{own}/rotate"), None).await.expect(201));
    control.call("GET", "/v1/whoami", None).await.expect(401);
    control.call_as(Some(&successor), "GET", "/v1/accounts", None).await.expect(200);
}

#[tokio::test]
async fn changes_are_in_the_audit_log_and_nobody_elses() {
    let control = Control::new().await;
    let (_, dev) = control.other_account("dev@example.com").await;
    let deployment = control.deployment("a").await;
    let env = format!("/v1/deployments/{deployment}/env/KEY");
    control.call("PUT", &env, Some(json!({"value": "hunter2"}))).await.expect(200);
    control.call_as(Some(&dev), "PUT", &env, Some(json!({"value": "x"}))).await.expect(403);
    control.call_as(None, "PUT", &env, Some(json!({"value": "x"}))).await.expect(401);
    control.call("GET", &env[..env.len() - 4], None).await.expect(200);

    let all = control.call("GET", "/v1/audit-log", None).await.expect(200);
    assert!(!all.body.to_string().contains("hunter2"));
    let entries = all.result().as_array().unwrap();
    let seen: Vec<_> = entries.iter().map(|it| (it["method"].as_str().unwrap(), it["status"].as_u64())).collect();
    let expect = [403, 200, 201, 201, 201, 201].map(Some);
    assert_eq!(seen.iter().map(|(_, status)| *status).collect::<Vec<_>>(), expect, "{seen:?}");
    assert_eq!((seen[1].0, entries[1]["path"].as_str()), ("PUT", Some(env.as_str())));
    let theirs = control.call_as(Some(&dev), "GET", "/v1/audit-log", None).await.expect(200);
    assert_eq!(theirs.result(), &json!([entries[0]]));

    let mut ids = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = control.call("GET", &format!("/v1/audit-log?limit=4{cursor}"), None).await.expect(200);
        ids.extend(page.result().as_array().unwrap().iter().map(|it| it["id"].clone()));
        match page.body["result_info"]["cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(ids, entries.iter().map(|it| it["id"].clone()).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_token_that_asks_too_much_waits_and_others_do_not() {
    // One a second is far less than is asked here, however slow the machine.
    let control = Control::with_rate_limit(RateLimit { per_second: 1, burst: 40 }).await;
    let (_, other) = control.other_account("dev@example.com").await;
    // An idempotent POST looks at its token three times, and counts once.
    let (path, body) = (format!("/v1/accounts/{}/projects", control.account), br#"{"name":"p"}"#);
    let headers = [("Content-Type", "application/json"), ("Idempotency-Key", "k"), ("Authorization", "Bearer ")];
    let mut headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
    headers[2].1.push_str(&control.admin);
    for _ in 0..20 {
        control.send("POST", &path, &headers, body).await.expect(201);
    }
    let mut statuses = Vec::new();
    let refused = loop {
        let answer = control.call("GET", "/v1/whoami", None).await;
        statuses.push(answer.status);
        if answer.status != 200 {
            break answer.expect(429);
        }
        assert!(statuses.len() < 10_000, "there is no limit");
    };
    assert!(statuses.len() >= 18, "{} were counted more than once", statuses.len());
    assert!(refused.head.to_ascii_lowercase().contains("retry-after: "), "{}", refused.head);
    control.call_as(Some(&other), "GET", "/v1/whoami", None).await.expect(200);
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    control.call("GET", "/v1/whoami", None).await.expect(200);
}

/// Comes with tokens that are none until it is told to wait; gives how many were looked at, and the refusal.
async fn guess(control: &Control, salt: &str) -> (usize, Answer) {
    let projects = format!("/v1/accounts/{}/projects", control.account);
    for guesses in 0..10_000 {
        let token = format!("selvage_{salt}{guesses:060x}");
        // What changes something is looked at by more than one layer, and counts once.
        let answer = match guesses % 3 {
            0 => control.call_as(Some(&token), "GET", "/v1/whoami", None).await,
            1 => control.call_as(Some(&token), "POST", &projects, Some(json!({"name": "x"}))).await,
            _ => control.call_as(None, "POST", &projects, Some(json!({"name": "x"}))).await,
        };
        if answer.status != 401 {
            return (guesses, answer.expect(429));
        }
    }
    panic!("there is no limit");
}

#[tokio::test]
async fn guesses_are_limited_by_address_and_hold_up_nobody_whose_token_is_known() {
    let control = Control::new().await;
    let (_, late) = control.other_account("dev@example.com").await;
    let (guesses, refused) = guess(&control, "aaaa").await;
    assert!(guesses >= 200, "{guesses} were counted more than once");
    assert!(refused.head.to_ascii_lowercase().contains("retry-after: "), "{}", refused.head);
    assert!(refused.error()["message"].as_str().unwrap().contains("address"), "{}", refused.body);
    for _ in 0..20 {
        control.call("GET", "/v1/whoami", None).await.expect(200);
    }
    // A token that was not seen yet waits as a guess does; once it is, it is known too.
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    control.call_as(Some(&late), "GET", "/v1/whoami", None).await.expect(200);
    guess(&control, "bbbb").await;
    for _ in 0..20 {
        control.call_as(Some(&late), "GET", "/v1/whoami", None).await.expect(200);
    }
    // What needs no token is not limited by it.
    control.call_as(None, "GET", "/v1/openapi.json", None).await.expect(200);
}
