//! Missing, wrong, expired and foreign tokens: one body for all that one may not know, whatever exists.

use std::time::{Duration, Instant};

use e2e::api::{Api, text};
use e2e::http::{Reply, send};
use e2e::platform::Platform;
use serde_json::{Value, json};

const WORKER: &str = "export default { fetch() { return new Response(\"mine\"); } };";
/// Requests of each kind for the comparison of times.
const TIMED: usize = 40;

/// An account of its own with a token that reaches it alone.
fn other_account(platform: &Platform) -> (String, Api) {
    let admin = platform.api();
    let account = text(&admin.ok("POST", "/v1/accounts", Some(&json!({"email": "other@selvage.test"})))["id"]);
    let token = admin.ok("POST", &format!("/v1/accounts/{account}/tokens"), Some(&json!({"name": "t"})));
    (account, Api { address: platform.api, token: text(&token["secret"]) })
}

fn reply(api: &Api, method: &str, path: &str) -> Reply {
    send(api.address, &api.request(method, path, None))
}

/// What a client can tell of a reply but the time and the request's own id.
fn visible(reply: &Reply) -> (u16, String, Vec<(String, String)>) {
    let own = ["date", "x-request-id"];
    let headers = reply.headers.iter().filter(|(name, _)| !own.contains(&name.as_str())).cloned().collect();
    (reply.status, reply.text(), headers)
}

#[test]
fn a_missing_or_wrong_token_is_401_whatever_is_asked() {
    let platform = Platform::start();
    let deployed = platform.deploy("mine", WORKER);
    let real = format!("/v1/deployments/{}/versions", deployed.id);
    let absent = format!("/v1/deployments/deploy_{}/versions", "0".repeat(32));
    let wrong = format!("{}x", platform.token);
    let last = platform.token.len() - 1;
    let mut near = platform.token.clone();
    near.replace_range(last.., if near.ends_with('a') { "b" } else { "a" });
    let mut seen = Vec::new();
    for token in ["", "x", wrong.as_str(), near.as_str(), &"y".repeat(4000)] {
        let api = Api { address: platform.api, token: token.to_owned() };
        for path in [real.as_str(), absent.as_str(), "/v1/whoami", "/v1/nodes"] {
            let answer = reply(&api, "GET", path);
            assert_eq!(answer.status, 401, "{token:?} {path}: {}", answer.text());
            seen.push(visible(&answer));
        }
    }
    assert!(seen.windows(2).all(|pair| pair[0] == pair[1]), "all the same: {seen:?}");
}

#[test]
fn another_accounts_things_look_like_things_that_do_not_exist() {
    let platform = Platform::start();
    let deployed = platform.deploy("mine", WORKER);
    let project = platform.api().project(&platform.account, "default");
    let (_, other) = other_account(&platform);
    let zeros = "0".repeat(32);
    let pairs = [
        ("GET", format!("/v1/deployments/{}", deployed.id), format!("/v1/deployments/deploy_{zeros}")),
        (
            "GET",
            format!("/v1/deployments/{}/versions", deployed.id),
            format!("/v1/deployments/deploy_{zeros}/versions"),
        ),
        (
            "PUT",
            format!("/v1/deployments/{}/versions/1", deployed.id),
            format!("/v1/deployments/deploy_{zeros}/versions/1"),
        ),
        ("DELETE", format!("/v1/deployments/{}", deployed.id), format!("/v1/deployments/deploy_{zeros}")),
        (
            "POST",
            format!("/v1/deployments/{}/rollback", deployed.id),
            format!("/v1/deployments/deploy_{zeros}/rollback"),
        ),
        ("GET", format!("/v1/projects/{project}/deployments"), format!("/v1/projects/prj_{zeros}/deployments")),
        ("GET", format!("/v1/accounts/{}/projects", platform.account), format!("/v1/accounts/acc_{zeros}/projects")),
    ];
    for (method, real, absent) in &pairs {
        let (real_reply, absent_reply) = (reply(&other, method, real), reply(&other, method, absent));
        assert_eq!(real_reply.status, 403, "{method} {real}: {}", real_reply.text());
        assert_eq!(visible(&real_reply), visible(&absent_reply), "{method} {real}");
    }
    assert_eq!(reply(&other, "GET", "/v1/nodes").status, 403, "nodes are the operator's");
    let config = reply(&other, "GET", "/v1/config");
    assert_eq!(config.status, 200, "{}", config.text());
    let config: Value = serde_json::from_slice(&config.body).expect("JSON");
    assert_eq!(config["result"]["deployments"], json!([]), "of the configuration one sees one's own: {config}");
    let own = platform.api().ok("GET", "/v1/config", None);
    assert_eq!(own["deployments"].as_array().map(Vec::len), Some(1), "{own}");
    assert_eq!(platform.get(&deployed.host, "/").text(), "mine", "nothing happened to it");

    // The same time, coarsely: medians within 5 ms of each other.
    let (_, real, absent) = &pairs[0];
    let time = |path: &str| {
        let begun = Instant::now();
        reply(&other, "GET", path);
        begun.elapsed()
    };
    let (mut of_real, mut of_absent) = (Vec::new(), Vec::new());
    for _ in 0..TIMED {
        of_real.push(time(real));
        of_absent.push(time(absent));
    }
    of_real.sort_unstable();
    of_absent.sort_unstable();
    let (a, b) = (of_real[TIMED / 2], of_absent[TIMED / 2]);
    println!("median time of a foreign deployment {a:?}, of none {b:?}");
    assert!(a.abs_diff(b) < Duration::from_millis(5), "{a:?} and {b:?}");
}

#[test]
fn expired_and_revoked_tokens_are_as_good_as_wrong_ones() {
    let platform = Platform::start();
    let admin = platform.api();
    let tokens = format!("/v1/accounts/{}/tokens", platform.account);
    let short = admin.ok("POST", &tokens, Some(&json!({"name": "short", "expires_in_s": 1})));
    let revoked = admin.ok("POST", &tokens, Some(&json!({"name": "revoked"})));
    let with = |secret: &serde_json::Value| Api { address: platform.api, token: text(secret) };
    let (short, revoked_api) = (with(&short["secret"]), with(&revoked["secret"]));
    assert_eq!(reply(&short, "GET", "/v1/whoami").status, 200);
    assert_eq!(reply(&revoked_api, "GET", "/v1/whoami").status, 200);
    admin.ok("DELETE", &format!("{tokens}/{}", text(&revoked["id"])), None);
    std::thread::sleep(Duration::from_millis(1_100));
    let wrong = visible(&reply(&Api { address: platform.api, token: "wrong".into() }, "GET", "/v1/whoami"));
    assert_eq!(visible(&reply(&short, "GET", "/v1/whoami")), wrong);
    assert_eq!(visible(&reply(&revoked_api, "GET", "/v1/whoami")), wrong);
    // Hashed at rest: no file of the control plane has a token.
    let files = std::fs::read_dir(platform.folder().join("control")).expect("a folder").filter_map(Result::ok);
    for file in files.filter(|entry| entry.path().is_file()) {
        let bytes = std::fs::read(file.path()).unwrap_or_default();
        let found = bytes.windows(platform.token.len()).any(|window| window == platform.token.as_bytes());
        assert!(!found, "{} has the token in the clear", file.path().display());
    }
}

#[test]
fn tokens_are_made_rotated_and_taken_back_by_the_command_and_the_audit_log_says_so() {
    let platform = Platform::start();
    let secret_works = |secret: &str| {
        let api = Api { address: platform.api, token: secret.to_owned() };
        reply(&api, "GET", "/v1/whoami").status == 200
    };
    let made = platform.cli(&["token", "create", "--name", "ci", "--access", "deploy", "--expires", "90d"]);
    assert_eq!(made.code, 0, "{made:?}");
    let secret = made.stdout.trim().to_owned();
    assert!(secret_works(&secret) && made.stderr.contains("deploy"), "stdout is the secret alone: {made:?}");
    assert!(!made.stderr.contains(&secret));
    let listed = platform.cli(&["--json", "token", "list"]);
    assert!(!listed.stdout.contains(&secret), "a secret is shown once");
    let tokens = listed.json();
    let ci = tokens.as_array().and_then(|all| all.iter().find(|it| it["name"] == "ci").cloned()).expect("it is there");
    assert_eq!((ci["access"].as_str(), ci["scope"].as_str()), (Some("deploy"), Some("account")));
    assert!(ci["expires_at"].is_string());

    let rotated = platform.cli(&["--json", "token", "rotate", "ci", "--overlap", "1h"]).json();
    let successor = text(&rotated["secret"]);
    assert!(secret_works(&secret) && secret_works(&successor), "both count for an hour");
    // Two of that name count now: the id says which.
    assert_eq!(platform.cli(&["token", "revoke", "ci"]).code, 2);
    assert_eq!(platform.cli(&["token", "revoke", &text(&ci["id"])]).code, 0);
    assert!(!secret_works(&secret) && secret_works(&successor));
    let table = platform.cli(&["token", "list"]).stdout;
    assert!(table.contains("revoked") && table.contains(&text(&rotated["id"])), "{table}");
    for (words, code) in [
        (&["token", "rotate", "nobody"][..], 4),
        (&["token", "create", "--name", "x", "--access", "all"][..], 2),
        (&["token", "create", "--name", "x", "--expires", "soon"][..], 2),
        (&["token", "rotate", "ci", "--overlap", "8d"][..], 2),
        (&["audit", "--limit", "0"][..], 2),
    ] {
        let run = platform.cli(words);
        assert_eq!(run.code, code, "{words:?}: {run:?}");
    }

    // The newest first: the token's end, its successor, its making.
    let entries = platform.cli(&["--json", "audit", "--limit", "3"]).json();
    let seen = |i: usize| (entries[i]["method"].as_str(), entries[i]["status"].as_u64());
    let (ended, made) = ((Some("DELETE"), Some(200)), (Some("POST"), Some(201)));
    assert_eq!([seen(0), seen(1), seen(2)], [ended, made, made]);
    assert!(!entries.to_string().contains(&successor));
    let newest = text(&entries[0]["id"]);
    let before = platform.cli(&["--json", "audit", "--limit", "1", "--before", &newest]).json();
    assert_eq!(before[0]["id"], entries[1]["id"]);
}
