//! What authors write is bundled, deployed, and shown to them by their own files and lines, in refusals and in logs.

use std::path::Path;

use e2e::npm::{esbuild, packages};
use e2e::platform::{Platform, Run};
use e2e::process::Process;
use serde_json::Value;

fn write(folder: &Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        let file = folder.join(name);
        std::fs::create_dir_all(file.parent().expect("a parent")).expect("a folder");
        std::fs::write(file, text).expect("a file");
    }
}

fn deploy(platform: &Platform, arguments: &[&str]) -> Run {
    let mut command = platform.cli_command();
    command.env("SELVAGE_API_URL", format!("http://{}", platform.api)).env("SELVAGE_TOKEN", &platform.token);
    command.env("SELVAGE_ESBUILD", esbuild()).args(arguments);
    e2e::platform::finish(command, "")
}

/// A package as npm would have installed it: exports by condition, and CommonJS.
const PACKAGES: &[(&str, &str)] = &[
    (
        "node_modules/greets/package.json",
        r#"{"name":"greets","exports":{".":{"workerd":"./workerd.mjs","node":"./node.js"},"./cjs":{"import":"./c.cjs"}}}"#,
    ),
    ("node_modules/greets/workerd.mjs", "export const greet = (name) => `workerd says hi to ${name}`;"),
    ("node_modules/greets/node.js", "require('fs');"),
    ("node_modules/greets/c.cjs", "exports.from = 'CommonJS';"),
];

#[test]
fn every_kind_of_module_is_bundled() {
    let Some(_) = packages("bundling") else { return };
    let platform = Platform::start();
    let folder = platform.folder().join("kinds");
    write(&folder, PACKAGES);
    write(
        &folder,
        &[
            (
                "wrangler.jsonc",
                r#"{ "name": "kinds", "main": "src/index.tsx", "rules": [{ "type": "Text", "globs": ["**/*.md"], "fallthrough": true }], "define": { "BUILD": "\"b7\"" } }"#,
            ),
            (
                "tsconfig.json",
                r#"{ "compilerOptions": { "jsx": "react", "jsxFactory": "h", "paths": { "~/*": ["./src/*"] } } }"#,
            ),
            (
                "src/a.ts",
                "import { b } from './b';\nexport const a = (): string => 'a' + b();\nexport enum Kind { One = 1 }\n",
            ),
            ("src/b.ts", "import { Kind } from './a';\nexport const b = () => `b${Kind.One}`;\n"),
            ("src/page.html", "<h1>ü</h1>"),
            ("src/notes.md", "# notes"),
            ("src/table.json", r#"{ "rows": [1, 2] }"#),
            ("src/bytes.bin", "\u{1}\u{2}"),
            ("src/query.sql", "SELECT 1"),
            ("src/empty.wasm", "\0asm\u{1}\0\0\0"),
            (
                "src/index.tsx",
                r#"import { greet } from "greets";
import * as cjs from "greets/cjs";
import { a } from "~/a";
import page from "./page.html";
import notes from "./notes.md";
import table from "./table.json";
import bytes from "./bytes.bin";
import query from "./query.sql";
import wasm from "./empty.wasm";
declare const BUILD: string;
const h = (tag: string, _: null, ...children: string[]) => `<${tag}>${children.join("")}</${tag}>`;
export default {
  async fetch(): Promise<Response> {
    const lazy = await import("./b");
    return Response.json([
      greet("Ada"), cjs.from, a(), lazy.b(), page, notes, table.rows.length, bytes instanceof ArrayBuffer, bytes.byteLength,
      <p>jsx</p>, BUILD, process.env.NODE_ENV, query, wasm instanceof WebAssembly.Module,
    ]);
  },
} satisfies ExportedHandler;
"#,
            ),
        ],
    );
    let run = deploy(&platform, &["--json", "deploy", "kinds"]);
    assert_eq!(run.code, 0, "{run:?}");
    platform.await_version("kinds.workers.localhost", 1);
    let reply = platform.get("kinds.workers.localhost", "/");
    let expect = serde_json::json!([
        "workerd says hi to Ada",
        "CommonJS",
        "ab1",
        "b1",
        "<h1>ü</h1>",
        "# notes",
        2,
        true,
        2,
        "<p>jsx</p>",
        "b7",
        "production",
        "SELECT 1",
        true
    ]);
    assert_eq!(serde_json::from_slice::<Value>(&reply.body).ok(), Some(expect), "{reply:?}");
}

#[test]
fn without_bundling_what_lies_beside_the_module_goes_up_with_it() {
    let platform = Platform::start();
    let folder = platform.folder().join("beside");
    write(
        &folder,
        &[
            ("wrangler.toml", "name = \"beside\"\nmain = \"src/index.js\"\nno_bundle = true\ncompatibility_date = \"2025-06-01\"\ncompatibility_flags = [\"nodejs_als\"]\n"),
            ("src/index.js", "import page from './page.html'; import { name } from './lib/name.mjs'; import wasm from './lib/x.wasm'; import { AsyncLocalStorage } from 'node:async_hooks';
                export default { fetch() { return new Response([page, name, wasm instanceof WebAssembly.Module, typeof AsyncLocalStorage, typeof process]); } };"),
            ("src/page.html", "<p>"),
            ("src/lib/name.mjs", "import page from '../page.html'; export const name = page.length;"),
            ("src/lib/x.wasm", "\0asm\u{1}\0\0\0"),
            ("src/lib/unused.wasm", "no module"),
        ],
    );
    let run = deploy(&platform, &["--json", "deploy", "beside"]);
    assert_eq!(run.code, 0, "{run:?}");
    platform.await_version("beside.workers.localhost", 1);
    assert_eq!(platform.get("beside.workers.localhost", "/").text(), "<p>,3,true,function,undefined");
    write(&folder, &[("src/lib/x.wasm", "no module")]);
    let run = deploy(&platform, &["deploy", "beside"]);
    assert_eq!(run.code, 6, "{run:?}");
    assert!(run.stderr.contains("lib/x.wasm: CompileError"), "{run:?}");
    let flag =
        "name = \"beside\"\nmain = \"src/index.js\"\nno_bundle = true\ncompatibility_flags = [\"nodejs_later\"]\n";
    write(&folder, &[("wrangler.toml", flag)]);
    let run = deploy(&platform, &["deploy", "beside"]);
    assert!(run.code != 0 && run.stderr.contains("\"nodejs_later\" is not known here"), "{run:?}");
}

#[test]
fn stacks_in_logs_and_refusals_are_the_authors() {
    let Some(_) = packages("source maps") else { return };
    let platform = Platform::start();
    let folder = platform.folder().join("maps");
    let index = "import { thrower } from './lib/thrower';\n\nexport default {\n  fetch(): Response {\n    return thrower<string>('x');\n  },\n};\n";
    write(
        &folder,
        &[
            ("wrangler.toml", "name = \"maps\"\nmain = \"src/index.ts\"\n"),
            ("src/index.ts", index),
            (
                "src/lib/thrower.ts",
                "interface Unused {\n  a: string;\n}\n\nexport function thrower<T>(value: T): never {\n  throw new TypeError(`thrown with ${value}`);\n}\n",
            ),
        ],
    );
    let run = deploy(&platform, &["--json", "deploy", "maps"]);
    let deployed = run.json();
    assert_eq!(deployed["version"]["has_source_map"], true, "{deployed}");
    platform.await_status("maps.workers.localhost", "/", 500);
    // Another machine's `tail`: it has no file of the project.
    let mut command = platform.cli_command();
    command.env("SELVAGE_API_URL", format!("http://{}", platform.api)).env("SELVAGE_TOKEN", &platform.token);
    command.args(["--json", "tail", "--name", "maps", "--limit", "1"]);
    let mut tail = Process::start("selvage tail", command, &platform.folder().join("tail.log"));
    let line = e2e::eventually("a record", e2e::platform::PUSH_TIMEOUT, || {
        platform.get("maps.workers.localhost", "/");
        tail.line_within(std::time::Duration::from_millis(50))
    });
    let record: Value = serde_json::from_str(&line).expect("JSON");
    let message = record["message"].as_str().expect("a message");
    assert!(message.contains("TypeError: thrown with x"), "{message}");
    assert!(message.contains("thrower (src/lib/thrower.ts:6:9)"), "{message}");
    assert!(message.contains("(src/index.ts:5:12)") && !message.contains("worker.js"), "{message}");

    write(
        &folder,
        &[(
            "src/lib/thrower.ts",
            "export const x: number = 1;\n\nnull!.y;\nexport const thrower = () => new Response();\n",
        )],
    );
    let run = deploy(&platform, &["deploy", "maps"]);
    assert_eq!(run.code, 6, "{run:?}");
    assert!(run.stderr.contains("maps/src/lib/thrower.ts:3:"), "{run:?}");
    assert!(run.stderr.contains("3 │ null!.y;"), "{run:?}");
    // The map is its owner's alone.
    let id = deployed["deployment"]["id"].as_str().expect("an id");
    let path = format!("/v1/deployments/{id}/versions/1/source-map");
    let stranger = e2e::api::Api { address: platform.api, token: "svt_none".to_owned() };
    assert_eq!(stranger.call("GET", &path, None).0, 401);
}

#[test]
fn what_cannot_be_bundled_is_refused_with_its_place() {
    let Some(_) = packages("bundling, bad input") else { return };
    let platform = Platform::start();
    let folder = platform.folder().join("bad");
    write(&folder, &[("wrangler.toml", "name = \"bad\"\nmain = \"src/index.ts\"\n")]);
    let check = |files: &[(&str, &str)], exit: i32, says: &[&str]| {
        write(&folder, files);
        let run = deploy(&platform, &["deploy", "bad"]);
        assert_eq!(run.code, exit, "{run:?}");
        for text in says {
            assert!(run.stderr.contains(text), "no {text:?}: {run:?}");
        }
    };
    let source = |text: &'static str| [("src/index.ts", text)];
    check(&[], 2, &["there is no module bad/src/index.ts", "`main` of bad/wrangler.toml"]);
    check(
        &source("let a = 1;\nexport default { fetch( };\n"),
        6,
        &["bad/src/index.ts:2:25: Expected", "2 │ export default { fetch( };", "  │                         ^"],
    );
    check(
        &source("import x from 'left-pad';\nexport default { fetch() { return x; } };"),
        6,
        &["bad/src/index.ts:1:15: Could not resolve \"left-pad\"", "npm install left-pad"],
    );
    check(
        &source("import { y } from './none';\nexport default { y };"),
        6,
        &["bad/src/index.ts:1:19: Could not resolve \"./none\""],
    );
    check(&source("import { x } from './b';\nexport default { x };"), 6, &["Could not resolve \"./b\""]);
    check(&[("src/b.ts", "export const z = 1;")], 6, &["No matching export in \"src/b.ts\" for import \"x\""]);
    check(
        &source("import fs from 'node:fs';\nexport default { fetch() { return fs; } };"),
        6,
        &["bad/src/index.ts:1:16: \"node:fs\" is a module of Node's", "nodejs_compat"],
    );
    check(
        &source("const fs = require('fs');\nexport default { fetch() { return fs; } };"),
        6,
        &["\"fs\" is a module of Node's", "nodejs_compat"],
    );
    check(
        &source("import { connect } from 'cloudflare:sockets';\nexport default { fetch() { return connect; } };"),
        6,
        &["\"cloudflare:sockets\" is not there on this platform"],
    );
    // Two modules that need each other before either is there: said by the platform, shown where it was written.
    check(
        &[
            (
                "src/index.ts",
                "import { b } from './b';\nexport const a = 1;\nexport default { fetch() { return new Response(b); } };",
            ),
            ("src/b.ts", "import { a } from './index';\nexport const b = class extends (a as never) {};\n"),
        ],
        6,
        &["bad/src/b.ts:2:", "2 │ export const b = class extends"],
    );
    let large = format!("export default {:?};\n", "x".repeat(11 << 20));
    write(&folder, &[("src/large.ts", &large)]);
    check(
        &source("import large from './large';\nexport default { fetch() { return new Response(large); } };"),
        6,
        &["the bundle has 11.0 MiB; the limit is 10.0 MiB", "src/large.ts 11.0 MiB"],
    );
    check(
        &[("wrangler.toml", "name = \"bad\"\n\nmain = src/index.ts\n")],
        2,
        &["bad/wrangler.toml:3:8", "3 │ main = src/index.ts"],
    );
    // Nothing of this made a version that serves.
    assert_ne!(platform.get("bad.workers.localhost", "/").status, 200);
}

#[test]
fn what_the_project_file_drops_is_removed_and_what_others_added_stays() {
    let platform = Platform::start();
    let folder = platform.folder().join("drops");
    let worker = "export default { fetch(_, env) { return Response.json(Object.keys(env).sort()); } };\n";
    let first = "name = \"drops\"\nmain = \"worker.js\"\nroutes = [\"one.test/*\", \"two.test/*\"]\n[vars]\nA = \"1\"\nB = \"2\"\n";
    write(&folder, &[("wrangler.toml", first), ("worker.js", worker)]);
    assert_eq!(platform.cli(&["deploy", "drops"]).code, 0);
    for arguments in [
        &["routes", "add", "three.test/*", "-n", "drops"][..],
        &["env", "set", "C", "3", "-n", "drops"],
        &["env", "set", "S", "-n", "drops", "--secret"],
    ] {
        assert_eq!(platform.cli_with_stdin(arguments, "s3cret").code, 0, "{arguments:?}");
    }
    write(
        &folder,
        &[("wrangler.toml", "name = \"drops\"\nmain = \"worker.js\"\nroutes = [\"two.test/*\"]\n[vars]\nB = \"2\"\n")],
    );
    let run = platform.cli(&["--json", "deploy", "drops"]).json();
    assert_eq!(run["removed"], serde_json::json!(["route one.test/*", "variable A"]), "{run}");
    platform.await_version("drops.workers.localhost", 2);
    let keys = || platform.get("drops.workers.localhost", "/").text();
    e2e::eventually("A is gone", e2e::platform::PUSH_TIMEOUT, || (keys() == "[\"B\",\"C\",\"S\"]").then_some(()));
    platform.await_status("one.test", "/", 404);
    assert_eq!((platform.get("two.test", "/").status, platform.get("three.test", "/").status), (200, 200));
    // A version that is refused takes nothing away.
    write(
        &folder,
        &[("wrangler.toml", "name = \"drops\"\nmain = \"worker.js\"\n"), ("worker.js", "export default {};\n")],
    );
    assert_eq!(platform.cli(&["deploy", "drops"]).code, 6);
    assert_eq!((platform.get("two.test", "/").status, keys()), (200, "[\"B\",\"C\",\"S\"]".to_owned()));
    // Without activation the version before still serves.
    write(&folder, &[("worker.js", worker)]);
    assert_eq!(platform.cli(&["deploy", "drops", "--no-activate"]).code, 0);
    assert_eq!(platform.get("two.test", "/").status, 200);
    let run = platform.cli(&["--json", "deploy", "drops"]).json();
    assert_eq!(run["removed"], serde_json::json!(["route two.test/*", "variable B"]), "{run}");
    assert_eq!(platform.get("three.test", "/").status, 200);
}
