//! Plans: who sets them, what is refused, and that they reach the configuration.

mod support;

use serde_json::{Value, json};
use store::NewVersion;
use support::{Control, WORKER};

/// A deployment of the operator's account that has an active version.
async fn active(control: &Control) -> String {
    let id = control.deployment("planned").await;
    let new = NewVersion {
        artifact_hash: "ab".repeat(32),
        artifact_url: String::new(),
        size_bytes: WORKER.len() as u64,
        metadata: Default::default(),
        map_hash: None,
    };
    let deployment = id.parse().unwrap();
    let version = control.store.begin_upload(deployment, &new).await.unwrap();
    control.store.finish_validation(deployment, version.id, Ok(None)).await.unwrap();
    control.store.finish_activation(deployment).await.unwrap();
    id
}

/// CPU time and weight as nodes get them; null where they are the usual ones.
async fn configured(control: &Control, deployment: &str) -> (Value, Value) {
    let config = control.call("GET", &format!("/v1/deployments/{deployment}/config"), None).await.expect(200);
    (config.result()["m"].clone(), config.result()["w"].clone())
}

#[tokio::test]
async fn a_plan_reaches_every_deployment_of_its_accounts() {
    let control = Control::new().await;
    let plans = control.call("GET", "/v1/plans", None).await.expect(200);
    assert_eq!(plans.result(), &json!([{"tier": "free", "cpu_ms": 50, "weight": 100}]));
    let deployment = active(&control).await;
    let account = format!("/v1/accounts/{}", control.account);
    assert_eq!(configured(&control, &deployment).await, (Value::Null, Value::Null));

    // A tier without a plan is as `free`, until it has one.
    let moved = control.call("PATCH", &account, Some(json!({"plan_tier": "pro"}))).await.expect(200);
    assert_eq!(moved.result()["plan_tier"], "pro");
    assert_eq!(configured(&control, &deployment).await, (Value::Null, Value::Null));
    control.call("PUT", "/v1/plans/free", Some(json!({"cpu_ms": 40}))).await.expect(200);
    assert_eq!(configured(&control, &deployment).await, (json!(40), Value::Null));
    let pro = json!({"cpu_ms": 200, "weight": 300});
    let set = control.call("PUT", "/v1/plans/pro", Some(pro.clone())).await.expect(200);
    assert_eq!(set.result(), &json!({"tier": "pro", "cpu_ms": 200, "weight": 300}));
    assert_eq!(configured(&control, &deployment).await, (json!(200), json!(300)));
    let published = control.push.published_generation();
    assert_eq!(published, control.store.generation().await.unwrap(), "nodes have it");

    // Said again, it is answered again, and nodes are told again.
    let again = control.call("PUT", "/v1/plans/pro", Some(pro)).await.expect(200);
    assert_eq!(again.body, set.body);
    assert!(control.push.published_generation() > published);
    let moved_again = control.call("PATCH", &account, Some(json!({"plan_tier": "pro"}))).await.expect(200);
    assert_eq!(moved_again.body, moved.body);
    let plans = control.call("GET", "/v1/plans", None).await.expect(200);
    let free = json!({"tier": "free", "cpu_ms": 40, "weight": 100});
    assert_eq!(plans.result(), &json!([free, {"tier": "pro", "cpu_ms": 200, "weight": 300}]));

    // A plan is set whole.
    control.call("PUT", "/v1/plans/pro", Some(json!({}))).await.expect(200);
    assert_eq!(configured(&control, &deployment).await, (Value::Null, Value::Null));
}

#[tokio::test]
async fn an_account_has_as_many_deployments_as_its_plan_allows() {
    let control = Control::new().await;
    let first = control.deployment("first").await;
    let project = control.project("p").await;
    let path = format!("/v1/projects/{project}/deployments");
    let create = |name: &str| control.call("POST", &path, Some(json!({"name": name, "subdomain": name})));
    let limit = |most: u32| control.call("PUT", "/v1/plans/free", Some(json!({"deployments_max": most})));
    assert_eq!(limit(2).await.expect(200).result()["deployments_max"], 2);
    create("second").await.expect(201);
    let refused = create("third").await.expect(403);
    assert!(refused.error()["message"].as_str().unwrap().contains("2 deployments"), "{}", refused.body);
    // What is deleted makes room; what is there when the limit falls stays.
    control.call("DELETE", &format!("/v1/deployments/{first}"), None).await.expect(200);
    let third = create("third").await.expect(201).id();
    limit(0).await.expect(200);
    assert_eq!(control.status(&third).await, "draft");
    create("fourth").await.expect(403);
    // A tier without a plan is as `free`; one with a plan that says nothing has no limit.
    let account = format!("/v1/accounts/{}", control.account);
    control.call("PATCH", &account, Some(json!({"plan_tier": "pro"}))).await.expect(200);
    create("fourth").await.expect(403);
    control.call("PUT", "/v1/plans/pro", Some(json!({}))).await.expect(200);
    create("fourth").await.expect(201);
}

#[tokio::test]
async fn an_account_has_as_many_routes_as_its_plan_allows() {
    let control = Control::new().await;
    let (first, second) = (control.deployment("first").await, control.deployment("second").await);
    let add = |deployment: &str, host: &str| {
        let (path, pattern) = (format!("/v1/deployments/{deployment}/routes"), format!("{host}.example/*"));
        let control = &control;
        async move { control.call("POST", &path, Some(json!({"pattern": pattern}))).await }
    };
    let kept = add(&first, "one").await.expect(201).id();
    let limit = |most: u32| control.call("PUT", "/v1/plans/free", Some(json!({"routes_max": most})));
    assert_eq!(limit(2).await.expect(200).result()["routes_max"], 2);
    // Of two at once one gets the last.
    let (left, right) = tokio::join!(add(&first, "left"), add(&second, "right"));
    let mut statuses = [left.status, right.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [201_u16, 403], "{} {}", left.body, right.body);
    let refused = add(&second, "three").await.expect(403);
    assert!(refused.error()["message"].as_str().unwrap().contains("2 routes"), "{}", refused.body);
    assert_eq!(refused.error()["code"], model::code::LIMIT);
    // A deployment comes with all of its routes or not at all; one without takes none of the room.
    let project = control.project("p").await;
    let path = format!("/v1/projects/{project}/deployments");
    let third = json!({"name": "third", "subdomain": "third", "routes": [{"pattern": "three.example/*"}]});
    control.call("POST", &path, Some(third.clone())).await.expect(403);
    assert_eq!(control.call("GET", &path, None).await.expect(200).result(), &json!([]));
    control.call("POST", &path, Some(json!({"name": "none", "subdomain": "none"}))).await.expect(201);
    // What is deleted makes room; what is there when the limit falls stays.
    control.call("DELETE", &format!("/v1/deployments/{first}/routes/{kept}"), None).await.expect(200);
    control.call("POST", &path, Some(third)).await.expect(201);
    limit(0).await.expect(200);
    add(&first, "four").await.expect(403);
    control.call("PUT", "/v1/plans/free", Some(json!({}))).await.expect(200);
    add(&first, "four").await.expect(201);
}

#[tokio::test]
async fn an_account_stores_as_many_bytes_of_modules_as_its_plan_allows() {
    // Without a validator: a version is stored, and answered 503.
    let control = Control::new().await;
    let (first, second) = (control.deployment("first").await, control.deployment("second").await);
    let upload = |deployment: &str, module: &str| {
        let (control, deployment, module) = (&control, deployment.to_owned(), module.to_owned());
        async move { control.upload(&deployment, module.as_bytes(), "{}", &[]).await }
    };
    let stored = || std::fs::read_dir(control.dir.path().join("artifacts")).unwrap().count();
    upload(&first, WORKER).await.expect(503);
    let versions = control.call("GET", &format!("/v1/deployments/{first}/versions"), None).await.expect(200);
    let size = versions.result()[0]["size_bytes"].as_u64().unwrap();
    let limit = |most: u64| control.call("PUT", "/v1/plans/free", Some(json!({"artifact_bytes_max": most})));
    assert_eq!(limit(size + 4).await.expect(200).result()["artifact_bytes_max"], size + 4);
    // The same module takes no more room, in whatever deployment.
    upload(&first, WORKER).await.expect(503);
    upload(&second, WORKER).await.expect(503);
    let before = stored();
    let refused = upload(&first, &format!("{WORKER}//2")).await.expect(403);
    assert_eq!(refused.error()["code"], model::code::LIMIT, "{}", refused.body);
    assert_eq!(stored(), before, "what is refused is not stored");
    let versions = control.call("GET", &format!("/v1/deployments/{first}/versions"), None).await.expect(200);
    assert_eq!(versions.result().as_array().unwrap().len(), 2, "nor is it a version");
    // What is there when the limit falls stays.
    limit(0).await.expect(200);
    upload(&first, WORKER).await.expect(503);
    upload(&first, &format!("{WORKER}//2")).await.expect(403);

    // What is deleted makes room, once nobody has it.
    limit(size + 4).await.expect(200);
    control.call("DELETE", &format!("/v1/deployments/{first}"), None).await.expect(200);
    upload(&second, &format!("{WORKER}//2")).await.expect(403);
    control.call("DELETE", &format!("/v1/deployments/{second}"), None).await.expect(200);
    let (third, fourth) = (control.deployment("third").await, control.deployment("fourth").await);
    upload(&third, &format!("{WORKER}//2")).await.expect(503);

    // Of two at once, past the first look, one gets the last room.
    limit(size + 8).await.expect(200);
    let new = |digit: &str| NewVersion {
        artifact_hash: digit.repeat(64),
        artifact_url: "x".to_owned(),
        size_bytes: 5,
        metadata: Default::default(),
        map_hash: None,
    };
    let (one, other) = (new("1"), new("2"));
    let (left, right) = tokio::join!(
        control.store.begin_upload(third.parse().unwrap(), &one),
        control.store.begin_upload(fourth.parse().unwrap(), &other)
    );
    assert!(left.is_ok() != right.is_ok(), "{left:?} {right:?}");
    let refused = left.err().or(right.err()).unwrap();
    assert!(matches!(refused, store::StoreError::Limit(_)), "{refused}");
}

#[tokio::test]
async fn what_is_no_plan_is_refused_with_its_field() {
    let control = Control::new().await;
    let generation = control.store.generation().await.unwrap();
    let long = format!("/v1/plans/{}", "x".repeat(51));
    for (path, body, field) in [
        ("/v1/plans/pro", json!({"cpu_ms": 0}), "cpu_ms"),
        ("/v1/plans/pro", json!({"cpu_ms": 30001}), "cpu_ms"),
        ("/v1/plans/pro", json!({"cpu_ms": -1}), "cpu_ms"),
        ("/v1/plans/pro", json!({"weight": 0}), "weight"),
        ("/v1/plans/pro", json!({"weight": 1001}), "weight"),
        ("/v1/plans/pro", json!({"weight": 1.5}), "weight"),
        ("/v1/plans/pro", json!({"weight": 100, "memory": 1}), "memory"),
        ("/v1/plans/pro", json!({"routes_max": -1}), "routes_max"),
        ("/v1/plans/pro", json!({"artifact_bytes_max": 9_007_199_254_740_992_u64}), "artifact_bytes_max"),
        ("/v1/plans/%20", json!({}), "tier"),
        (&long, json!({}), "tier"),
    ] {
        let answer = control.call("PUT", path, Some(body.clone())).await.expect(400);
        assert_eq!(answer.error()["field"], field, "{path} {body}: {}", answer.body);
    }
    let account = format!("/v1/accounts/{}", control.account);
    for body in [json!({"plan_tier": ""}), json!({"plan_tier": "x".repeat(51)})] {
        let answer = control.call("PATCH", &account, Some(body)).await.expect(400);
        assert_eq!(answer.error()["field"], "plan_tier");
    }
    let nobody = "/v1/accounts/acc_01932c07a0f07c3e8d5b6a7f8e9d0c1b";
    control.call("PATCH", nobody, Some(json!({"plan_tier": "pro"}))).await.expect(404);
    assert_eq!(control.store.generation().await.unwrap(), generation, "a refused request changed something");

    for tier in 1..model::rules::PLANS_MAX {
        let plan = model::SetPlan {
            cpu_ms: 1,
            weight: 1000,
            deployments_max: None,
            routes_max: None,
            artifact_bytes_max: None,
        };
        control.store.set_plan(&format!("tier {tier}"), &plan).await.unwrap();
    }
    control.call("PUT", "/v1/plans/one-more", Some(json!({}))).await.expect(403);
    control.call("PUT", "/v1/plans/tier%201", Some(json!({"cpu_ms": 30000, "weight": 1}))).await.expect(200);
}
