//! Modules that are none: each is refused with its reason and place, and what serves goes on serving.

use e2e::api::text;
use e2e::platform::Platform;
use serde_json::Value;

const GOOD: &str = "export default { fetch() { return new Response(\"good\"); } };";

/// The platform with a good version active; returns what the upload of `module` was answered.
fn check(platform: &Platform, deployed: &e2e::api::Deployed, module: &[u8], kind: &str, place: Option<(u64, u64)>) {
    let api = platform.api();
    let (status, envelope) = api.upload(&deployed.id, module);
    assert!((400..500).contains(&status), "{kind}: {status} {envelope}");
    let error = &envelope["errors"][0];
    assert!(!text(&error["message"]).is_empty(), "{kind}: {envelope}");
    match place {
        Some((line, column)) => {
            assert_eq!(error["location"]["line"], line, "{kind}: {envelope}");
            assert_eq!(error["location"]["column"], column, "{kind}: {envelope}");
        }
        None => assert!(error["location"].is_null(), "{kind}: {envelope}"),
    }
    let reply = platform.get(&deployed.host, "/");
    assert_eq!((reply.status, reply.text(), reply.version()), (200, "good".to_owned(), Some(1)), "after {kind}");
    // A version that was made of it is invalid, and cannot be activated.
    if let Some(number) = envelope["result"]["version_number"].as_u64() {
        assert_eq!(envelope["result"]["status"], "invalid", "{kind}: {envelope}");
        assert_eq!(envelope["result"]["error"]["kind"], kind, "{envelope}");
        let (status, envelope) = api.call("PUT", &format!("/v1/deployments/{}/versions/{number}", deployed.id), None);
        assert!((400..500).contains(&status), "an invalid version was activated: {status} {envelope}");
    }
}

#[test]
fn broken_modules_are_refused_with_their_place_and_the_active_version_serves() {
    let platform = Platform::start();
    let good = platform.deploy("good", GOOD);
    let check = |module: &[u8], kind, place| check(&platform, &good, module, kind, place);
    check(b"let x = 1;\nexport default { fetch( };\n", "syntax", Some((2, 25)));
    check(b"export default {\n  fetch() { return new Response('x' }\n};", "syntax", Some((2, 33)));
    check(b"", "no_fetch", None);
    check(b"export default {};", "no_fetch", None);
    check(b"export default { fetch: 7 };", "no_fetch", None);
    check(b"export function fetch() {}", "no_fetch", None);
    check(b"export default { fetch() { return new Response('\xff\xfe'); } };", "not_utf8", None);
    let mut large = GOOD.as_bytes().to_vec();
    large.extend_from_slice(b"//");
    large.resize(10 * 1024 * 1024 + 1, b'x');
    check(&large, "too_large", None);
}

#[test]
fn modules_that_fail_at_the_top_level_are_refused() {
    let platform = Platform::start();
    let good = platform.deploy("good", GOOD);
    let api = platform.api();
    let modules = [
        "null.x; export default { fetch() {} };",
        "throw new Error('at start'); export default { fetch() {} };",
        "await new Promise(() => {}); export default { fetch() {} };",
        "for (;;) {} export default { fetch() {} };",
        "const a = []; for (;;) a.push(new Array(1e6).fill(1.5)); export default { fetch() {} };",
        "(function f() { f(); })(); export default { fetch() {} };",
        "import x from './other.js'; export default { fetch() { return x; } };",
        "import 'node:fs'; export default { fetch() {} };",
    ];
    for module in modules {
        let (status, envelope) = api.upload(&good.id, module.as_bytes());
        assert!((400..500).contains(&status), "{module}: {status} {envelope}");
        assert!(!text(&envelope["errors"][0]["message"]).is_empty(), "{module}: {envelope}");
        let reply = platform.get(&good.host, "/");
        assert_eq!((reply.status, reply.text()), (200, "good".to_owned()), "after {module}");
    }
}

#[test]
fn uploads_that_are_no_form_are_refused() {
    let platform = Platform::start();
    let good = platform.deploy("good", GOOD);
    let api = platform.api();
    let path = format!("/v1/deployments/{}/versions", good.id);
    let send = |content_type: &str, body: &[u8]| {
        let request = e2e::http::Request::new("POST", "api.test", &path)
            .header("Authorization", &format!("Bearer {}", platform.token))
            .header("Connection", "close")
            .header("Content-Type", content_type);
        let reply = e2e::http::send(api.address, &request.body(body));
        let envelope: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
        assert!((400..500).contains(&reply.status), "{content_type}: {} {}", reply.status, reply.text());
        assert_eq!(envelope["success"], false, "{content_type}: {}", reply.text());
    };
    send("application/json", b"{}");
    send("multipart/form-data", b"no boundary");
    send("multipart/form-data; boundary=x", b"--x\r\nnot a part");
    send("multipart/form-data; boundary=x", b"--x--\r\n");
    send(
        "multipart/form-data; boundary=x",
        b"--x\r\nContent-Disposition: form-data; name=\"metadata\"\r\n\r\n{\"compatibility_date\":\"soon\"}\r\n--x\r\n\
          Content-Disposition: form-data; name=\"file\"; filename=\"w.js\"\r\n\r\nexport default { fetch() {} }\r\n--x--\r\n",
    );
    assert_eq!(platform.get(&good.host, "/").text(), "good");
}
