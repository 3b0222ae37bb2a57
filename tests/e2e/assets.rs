//! Static assets: a project's folder with `_headers` and `_redirects`, deployed and asked for as browsers and caches do.

use std::path::Path;

use e2e::http::{Reply, Request};
use e2e::platform::Platform;

const HOST: &str = "site.workers.localhost";

const HEADERS: &str = "/*\n  X-All: one\n  Cache-Control: max-age=9\n/ten.txt\n  X-All: two\n  ! ETag\n  nonsense\n";
const REDIRECTS: &str =
    "/old /new?x=1#f 301\n/fine /ten.txt 200\n/twice\n/blog/* /news/:splat\n/u/:id/:id_2 /p/:id_2/:id 307\n";

fn write(folder: &Path, name: &str, text: &str) {
    let file = folder.join(name);
    std::fs::create_dir_all(file.parent().expect("a parent")).expect("a folder");
    std::fs::write(file, text).expect("a file");
}

fn send(platform: &Platform, method: &str, path: &str, fields: &[(&str, &str)]) -> Reply {
    let mut request = Request::new(method, HOST, path).header("Connection", "close");
    for (name, value) in fields {
        request = request.header(name, value);
    }
    e2e::http::send(platform.http, &request)
}

#[test]
fn headers_redirects_ranges_and_conditions_are_the_platforms() {
    let platform = Platform::start();
    let folder = platform.folder().join("site");
    let toml = "name = \"site\"\nmain = \"worker.js\"\nno_bundle = true\ncompatibility_date = \"2025-01-01\"\n\
                [assets]\ndirectory = \"public\"\nbinding = \"FILES\"\nnot_found_handling = \"404-page\"\n";
    write(&folder, "wrangler.toml", toml);
    let worker = "export default { fetch: (request, env) => new URL(request.url).pathname === '/by'
        ? env.FILES.fetch('http://x/ten.txt', { headers: { Range: 'bytes=1-2' } }) : new Response('worker') };";
    write(&folder, "worker.js", worker);
    write(&folder, "public/ten.txt", "0123456789");
    write(&folder, "public/index.html", "<h1>");
    write(&folder, "public/_headers", HEADERS);
    write(&folder, "public/_redirects", REDIRECTS);
    let run = platform.cli(&["deploy", folder.to_str().expect("UTF-8")]);
    assert_eq!(run.code, 0, "{run:?}");
    assert!(run.stderr.contains("_headers:7: no header"), "{}", run.stderr);
    assert!(run.stderr.contains("_redirects:3: a redirect is a path"), "{}", run.stderr);
    platform.await_status(HOST, "/", 200);

    // What is asked for, and status, text and a field of the answer.
    type Row<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], (u16, &'a str), (&'a str, Option<&'a str>));
    let tag = send(&platform, "GET", "/", &[]).header("etag").expect("a tag").to_owned();
    let rows: &[Row<'_>] = &[
        ("GET", "/ten.txt", &[], (200, "0123456789"), ("accept-ranges", Some("bytes"))),
        ("GET", "/ten.txt", &[], (200, "0123456789"), ("x-all", Some("one, two"))),
        ("GET", "/ten.txt", &[], (200, "0123456789"), ("etag", None)),
        ("GET", "/ten.txt", &[], (200, "0123456789"), ("cache-control", Some("max-age=9"))),
        ("HEAD", "/ten.txt", &[], (200, ""), ("content-length", Some("10"))),
        ("HEAD", "/ten.txt", &[("Range", "bytes=0-1")], (200, ""), ("content-range", None)),
        ("GET", "/ten.txt", &[("Range", "bytes=2-4")], (206, "234"), ("content-range", Some("bytes 2-4/10"))),
        ("GET", "/ten.txt", &[("Range", "bytes=-3")], (206, "789"), ("content-length", Some("3"))),
        ("GET", "/ten.txt", &[("Range", "bytes=0-999999999999999999999")], (206, "0123456789"), ("etag", None)),
        ("GET", "/ten.txt", &[("Range", "bytes=10-")], (416, ""), ("content-range", Some("bytes */10"))),
        ("GET", "/ten.txt", &[("Range", "bytes=4-2")], (200, "0123456789"), ("content-range", None)),
        ("GET", "/ten.txt", &[("Range", "bytes=0-1,3-4")], (200, "0123456789"), ("content-range", None)),
        ("GET", "/ten.txt", &[("Range", "lines=0-1")], (200, "0123456789"), ("content-range", None)),
        ("GET", "/", &[("Range", "bytes=0-1"), ("If-Range", &tag)], (206, "<h"), ("etag", Some(&tag))),
        ("GET", "/", &[("Range", "bytes=0-1"), ("If-Range", "\"other\"")], (200, "<h1>"), ("etag", Some(&tag))),
        ("GET", "/", &[("If-None-Match", &format!("\"a\", W/{tag}"))], (304, ""), ("etag", Some(&tag))),
        ("GET", "/", &[("If-None-Match", "*")], (304, ""), ("x-all", Some("one"))),
        ("GET", "/", &[("If-None-Match", "\"a\"")], (200, "<h1>"), ("etag", Some(&tag))),
        ("GET", "/", &[("If-Match", "\"a\"")], (412, ""), ("x-all", Some("one"))),
        ("POST", "/ten.txt", &[], (405, ""), ("allow", Some("GET, HEAD"))),
        ("GET", "/old?q", &[], (301, ""), ("location", Some("/new?x=1#f"))),
        ("POST", "/blog/a%20b?q", &[], (302, ""), ("location", Some("/news/a%20b?q"))),
        ("GET", "/u/1/2", &[], (307, ""), ("location", Some("/p/2/1"))),
        ("GET", "/fine", &[("Range", "bytes=0-0")], (206, "0"), ("x-all", Some("one"))),
        ("GET", "/by", &[], (206, "12"), ("x-all", Some("one, two"))),
        ("GET", "/none", &[], (200, "worker"), ("x-all", None)),
    ];
    for (method, path, fields, (status, text), (name, value)) in rows {
        let answer = send(&platform, method, path, fields);
        let got = (answer.status, answer.text(), answer.joined(name));
        assert_eq!(got, (*status, text.to_string(), value.map(str::to_owned)), "{method} {path} {fields:?}");
    }

    // What no table of rules may be.
    write(&folder, "wrangler.toml", &toml.replace("binding", "run_worker_first = [\"!/a\"]\nbinding"));
    let run = platform.cli(&["deploy", folder.to_str().expect("UTF-8")]);
    assert!(run.code != 0 && run.stderr.contains("run_worker_first"), "{run:?}");
}
