//! The debug form: the seed's example, and that nothing is lost on the way there and back.

use base::id::{AccountId, ArtifactHash, DeploymentId};
use plan::edge::{EdgeConfig, EdgeError, accept, emit};
use plan::{DesiredBinding, DesiredDeployment, DesiredState, compile};
use plane_abi::seal::Key;
use plane_abi::{BindingKind, Distribution, Lineage, Snapshot, Status};
use proptest::prelude::*;

/// Seed 000, "Edge Configuration Wire Format", to the letter.
const SEED_EXAMPLE: &str = r#"{
    "d": "abc123",
    "v": 5,
    "h": "sha256:def456...",
    "u": "https://artifacts.example.com/def456",
    "e": "encrypted_blob_base64",
    "b": {
        "kv": [{"n": "CACHE", "ns": "ns_xyz"}],
        "do": [{"n": "COUNTER", "c": "Counter"}]
    },
    "r": ["example.com/*"],
    "t": 1705312800
}"#;

const SEED_BYTES_MAX: usize = 500;

/// What the seed's example means, with a hash and a secret that are real.
fn seed_state() -> DesiredState {
    let binding = |kind, name: &str, target: &str| DesiredBinding { kind, name: name.into(), target: target.into() };
    DesiredState {
        lineage: Lineage(77),
        generation: 3,
        created_unix_ms: 1_705_312_800_123,
        platform_domain: "workers.localhost".into(),
        deployments: vec![DesiredDeployment {
            id: DeploymentId(0xabc123),
            account: AccountId(0),
            name: String::new(),
            subdomain: String::new(),
            status: Status::Active,
            distribution: Distribution::Push,
            version: 5,
            artifact: ArtifactHash(std::array::from_fn(|index| index as u8)),
            artifact_bytes: 0,
            compatibility_date: String::new(),
            cpu_ms: 50,
            weight: 100,
            updated_unix_s: 1_705_312_800,
            routes: vec!["example.com/*".into()],
            env: vec![("API_KEY".into(), "sk_live_xxx".into())],
            bindings: vec![
                binding(BindingKind::Kv, "CACHE", "ns_xyz"),
                binding(BindingKind::DurableObject, "COUNTER", "Counter"),
            ],
            crons: Vec::new(),
            candidate: None,
        }],
        steering: steering(),
    }
}

fn steering() -> model::Steering {
    let text = r#"{"deny":[{"prefix":"2001:db8::/32","expires_at":"2027-01-01T00:00:00.000Z"}],
        "vips":[{"address":"203.0.113.9","port":443,"nodes":[{"mac":"02:00:00:00:00:01"}]}]}"#;
    serde_json::from_str(text).expect("of the shape")
}

#[test]
fn the_seeds_example_parses_and_prints_as_itself() {
    let config: EdgeConfig = serde_json::from_str(SEED_EXAMPLE).expect("the seed's example");
    let compact = serde_json::to_string(&config).expect("serialises");
    let without_spaces: String = SEED_EXAMPLE.split_whitespace().collect();
    assert_eq!(compact, without_spaces);
    assert!(compact.len() <= SEED_BYTES_MAX, "{} bytes", compact.len());
}

#[test]
fn the_example_with_a_real_hash_and_secret_goes_through_a_snapshot_and_back() {
    let key = Key::from_bytes([1; 32]);
    let bytes = compile(&seed_state(), &key).expect("compiles");
    let form = emit(&Snapshot::from_vec(bytes.clone()).expect("opens"), "https://artifacts.example.com");
    let one = serde_json::to_string(&form.deployments[0]).expect("serialises");
    assert!(one.starts_with(r#"{"d":"abc123","v":5,"h":"sha256:0001"#), "{one}");
    assert!(one.ends_with(r#""b":{"kv":[{"n":"CACHE","ns":"ns_xyz"}],"do":[{"n":"COUNTER","c":"Counter"}]},"r":["example.com/*"],"t":1705312800}"#), "{one}");
    assert!(one.len() <= SEED_BYTES_MAX, "{} bytes", one.len());
    // As a node gets it that has nothing yet: the whole snapshot, one deployment in it.
    let bare = compile(&DesiredState { steering: Default::default(), ..seed_state() }, &key).expect("compiles");
    let sent = plane_abi::delta::make(&[], &bare);
    println!("{} bytes, {} on the wire", bare.len(), sent.len());
    assert!(sent.len() <= SEED_BYTES_MAX, "{} bytes", sent.len());
    assert_eq!(plane_abi::delta::apply(&[], &sent, bare.len()), Ok(bare));
    let again = accept(&serde_json::to_string(&form).expect("serialises")).expect("accepted");
    assert_eq!(again, bytes);
}

#[test]
fn a_plan_is_shown_where_it_is_not_the_usual_one() {
    let mut state = seed_state();
    let json = |state: &DesiredState| {
        let bytes = compile(state, &Key::from_bytes([1; 32])).expect("compiles");
        serde_json::to_value(emit(&Snapshot::from_vec(bytes).expect("opens"), "")).expect("serialises")
    };
    let usual = json(&state);
    assert_eq!((usual["deployments"][0].get("m"), usual["deployments"][0].get("w")), (None, None));
    (state.deployments[0].cpu_ms, state.deployments[0].weight) = (200, 300);
    let other = json(&state);
    assert_eq!((&other["deployments"][0]["m"], &other["deployments"][0]["w"]), (&200.into(), &300.into()));
}

#[test]
fn what_is_no_configuration_is_refused() {
    let form = emit(
        &Snapshot::from_vec(compile(&seed_state(), &Key::from_bytes([1; 32])).expect("compiles")).expect("opens"),
        "",
    );
    let refused = |from: &str, to: &str| {
        let json = serde_json::to_string(&form).expect("serialises");
        assert!(json.contains(from), "{json}");
        accept(&json.replacen(from, to, 1)).expect_err("refused").to_string()
    };
    assert!(refused("sha256:00", "sha256:").contains("field h"));
    assert!(refused("sha256:", "").contains("field h"));
    assert!(refused("abc123", "xyz").contains("field d"));
    assert!(refused("example.com/*", "a.workers.localhost/*").contains("platform"));
    assert!(refused("\"e\":\"", "\"e\":\"!").contains("field e"));
    assert!(refused("\"v\":5", "\"v\":5,\"q\":1").contains("unknown field"));
    assert!(refused("\"v\":5", "\"v\":5,\"w\":0").contains("weight"));
    assert!(refused("\"v\":5", "\"v\":5,\"w\":1001").contains("weight"));
    assert!(refused("workers.localhost", "a b").contains("platform domain"));
    assert!(matches!(accept("{"), Err(EdgeError::Json(_))));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_state_survives_the_debug_form(
        ids in proptest::collection::btree_set(1u128..u128::MAX, 0..8),
        host in "[a-z]{1,5}\\.[a-z]{2,3}",
        path in "(/[a-z]{0,3}){1,3}\\*?",
        paused in any::<bool>(),
        cpu_ms in 1u32..100,
        weight in 1u16..=1000,
    ) {
        let template = seed_state().deployments.remove(0);
        let deployments = ids.iter().enumerate().map(|(index, id)| DesiredDeployment {
            id: DeploymentId(*id),
            account: AccountId(id.rotate_left(7)),
            name: format!("name \"{index}\" ü"),
            subdomain: format!("s{index}"),
            status: if paused { Status::Paused } else { Status::Active },
            cpu_ms,
            weight,
            artifact_bytes: index as u64,
            compatibility_date: "2025-01-01".into(),
            routes: vec![format!("{index}.{host}{path}"), format!("*.{index}.{host}/*")],
            ..template.clone()
        }).collect();
        let bytes = compile(&DesiredState { deployments, ..seed_state() }, &Key::from_bytes([1; 32])).expect("compiles");
        let form = emit(&Snapshot::from_vec(bytes.clone()).expect("opens"), "https://a.example/");
        prop_assert_eq!(accept(&serde_json::to_string(&form).expect("serialises")).expect("accepted"), bytes);
    }
}
