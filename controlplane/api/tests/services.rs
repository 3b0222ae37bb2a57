//! Schedules and service bindings of versions: what is refused and why, what reaches the configuration, and what holds on to what.

mod support;

use serde_json::{Value, json};
use store::NewVersion;
use support::{Control, WORKER};

/// Makes a version active whose metadata is this, without a validator.
async fn activate(control: &Control, id: &str, metadata: Value) -> Result<u32, String> {
    let new = NewVersion {
        artifact_hash: "ab".repeat(32),
        artifact_url: String::new(),
        size_bytes: WORKER.len() as u64,
        metadata: serde_json::from_value(metadata).unwrap(),
        map_hash: None,
    };
    let deployment = id.parse().unwrap();
    let store = &control.store;
    let version = store.begin_upload(deployment, &new).await.map_err(|error| error.to_string())?;
    let validated = store.finish_validation(deployment, version.id, Ok(None)).await.unwrap();
    let number = validated.version.version_number;
    if validated.deploying.is_none() {
        store
            .begin_activation(deployment, store::VersionRef::Number(number))
            .await
            .map_err(|error| error.to_string())?;
    }
    store.finish_activation(deployment).await.unwrap();
    Ok(number)
}

async fn config(control: &Control, id: &str) -> Value {
    let config = control.call("GET", &format!("/v1/deployments/{id}/config"), None).await.expect(200);
    config.result().clone()
}

#[tokio::test]
async fn what_is_no_schedule_or_no_worker_is_refused_with_its_field() {
    let control = Control::new().await;
    let id = control.deployment("a").await;
    for (metadata, field, says) in [
        (json!({"crons": ["* * * *"]}), "metadata.crons[0]", "4 fields"),
        (json!({"crons": ["0 0 * * *", "61 * * * *"]}), "metadata.crons[1]", "minute \"61\""),
        (json!({"crons": ["0 0 30 2 *"]}), "metadata.crons[0]", "never"),
        (json!({"services": [{"binding": "", "service": "a"}]}), "metadata.services[0].binding", ""),
        (json!({"services": [{"binding": "B", "service": "b", "other": 1}]}), "metadata", ""),
        (json!({"services": [{"binding": "B", "service": "b", "props": 1}]}), "metadata", ""),
        (
            json!({"services": [{"binding": "B", "service": "nobody"}]}),
            "metadata.services[0].service",
            "no Worker named \"nobody\"",
        ),
    ] {
        let refused = control.upload(&id, WORKER.as_bytes(), &metadata.to_string(), &[]).await;
        assert!((400..500).contains(&refused.status), "{metadata}: {}", refused.status);
        let text = refused.body.to_string();
        assert!(text.contains(field) && text.contains(&says.replace('"', "\\\"")), "{metadata}: {text}");
    }
    assert!(
        control.store.versions(id.parse().unwrap(), &store::Page::default()).await.unwrap().is_empty(),
        "nothing is left"
    );
}

#[tokio::test]
async fn bindings_and_schedules_of_the_active_version_reach_nodes() {
    let control = Control::new().await;
    let (a, b) = (control.deployment("a").await, control.deployment("b").await);
    activate(&control, &b, json!({})).await.unwrap();
    let services = json!([{"binding": "B", "service": "b"}, {"binding": "ADMIN", "service": "b", "entrypoint": "Admin", "props": {"a": [1]}}]);
    activate(&control, &a, json!({"crons": ["*/5 * * * *"], "services": services})).await.unwrap();
    let found = config(&control, &a).await;
    assert_eq!(found["k"], json!(["*/5 * * * *"]));
    let target = config(&control, &b).await["d"].as_str().map(|hex| format!("{hex:0>32}")).expect("an id");
    let expect = json!([{"n": "ADMIN", "d": format!("{target}#Admin\n{{\"a\":[1]}}")}, {"n": "B", "d": target}]);
    assert_eq!(found["b"]["sv"], expect);
    // The next version has neither.
    activate(&control, &a, json!({})).await.unwrap();
    let found = config(&control, &a).await;
    assert_eq!((found.get("k"), found.get("b").and_then(|b| b.get("sv"))), (None, None));
    let shown = control.call("GET", &format!("/v1/deployments/{a}/versions/1"), None).await.expect(200);
    assert_eq!(shown.result()["metadata"]["services"], services);
}

#[tokio::test]
async fn a_worker_that_is_called_is_not_deleted_and_one_that_is_gone_is_not_called() {
    let control = Control::new().await;
    let (a, b) = (control.deployment("a").await, control.deployment("b").await);
    activate(&control, &b, json!({})).await.unwrap();
    activate(&control, &a, json!({"services": [{"binding": "B", "service": "b"}]})).await.unwrap();
    let refused = control.call("DELETE", &format!("/v1/deployments/{b}"), None).await;
    assert!((400..500).contains(&refused.status), "{}", refused.status);
    assert!(refused.body.to_string().contains("the Worker \\\"a\\\" calls it"), "{}", refused.body);
    activate(&control, &a, json!({})).await.unwrap();
    control.call("DELETE", &format!("/v1/deployments/{b}"), None).await.expect(200);
    let back = activate_again(&control, &a, 1).await;
    assert!(back.contains("\"B\" names the Worker \"b\", which was deleted"), "{back}");
    // One may call itself, and be deleted all the same.
    activate(&control, &a, json!({"services": [{"binding": "SELF", "service": "a"}]})).await.unwrap();
    control.call("DELETE", &format!("/v1/deployments/{a}"), None).await.expect(200);
}

async fn activate_again(control: &Control, id: &str, number: u32) -> String {
    let which = store::VersionRef::Number(number);
    control.store.begin_activation(id.parse().unwrap(), which).await.expect_err("refused").to_string()
}
