//! The main job through the `selvage` command: deploy, new version, rollback, routes, variables, pause, delete; and `dev`.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use e2e::http::{Request, get};
use e2e::platform::{Platform, Run, STOP_TIMEOUT, finish};
use e2e::process::Process;
use e2e::{binary, checkout, eventually};
use serde_json::Value;

fn write(folder: &Path, files: &[(&str, &str)]) {
    std::fs::create_dir_all(folder).expect("a folder");
    for (name, text) in files {
        std::fs::write(folder.join(name), text).expect("a file");
    }
}

fn answering(text: &str) -> String {
    format!("export default {{ fetch() {{ return new Response({text:?}); }} }};\n")
}

fn code(run: &Run, expect: i32) {
    assert_eq!(run.code, expect, "{run:?}");
}

#[test]
fn the_hello_example_is_deployed_replaced_and_rolled_back() {
    let platform = Platform::start();
    let hello = checkout("docs/examples/hello");
    let deployed = platform.cli(&[Path::new("--json"), Path::new("deploy"), &hello]).json();
    assert_eq!(deployed["version"]["version_number"], 1, "{deployed}");
    assert_eq!(deployed["activated"], true);
    let host = format!("{}.workers.localhost", deployed["deployment"]["subdomain"].as_str().expect("a subdomain"));
    platform.await_version(&host, 1);
    let first = platform.get(&host, "/");
    assert_eq!((first.status, first.header("x-deployment-version")), (200, Some("v1")), "{first:?}");
    assert!(!first.body.is_empty());

    let folder = platform.folder().join("hello");
    write(&folder, &[("worker.js", &answering("second"))]);
    let name = deployed["deployment"]["name"].as_str().expect("a name").to_owned();
    let second = platform.cli(&["--json", "deploy", "hello/worker.js", "--name", &name, "-m", "the second"]).json();
    assert_eq!(second["version"]["version_number"], 2);
    platform.await_version(&host, 2);
    assert_eq!(platform.get(&host, "/").text(), "second");

    let versions = platform.cli(&["--json", "versions", "--name", &name]).json();
    let row = |number: u64| {
        let rows = versions.as_array().expect("a list");
        rows.iter().find(|version| version["version_number"] == number).expect("the version").clone()
    };
    assert_eq!((&row(1)["active"], &row(2)["active"]), (&Value::Bool(false), &Value::Bool(true)));
    assert_eq!(row(2)["metadata"]["message"], "the second");

    let back = platform.cli(&["--json", "rollback", "--name", &name]).json();
    assert_eq!(back["version"]["version_number"], 1);
    platform.await_version(&host, 1);
    assert_eq!(platform.get(&host, "/").body, first.body);

    code(&platform.cli(&["activate", "v2", "--name", &name]), 0);
    code(&platform.cli(&["activate", "2", "--name", &name]), 0);
    platform.await_version(&host, 2);
    code(&platform.cli(&["activate", "9", "--name", &name]), 4);
    code(&platform.cli(&["rollback", "9", "--name", &name]), 4);

    let table = platform.cli(&["list"]);
    assert!(table.stdout.contains(&name) && table.stdout.contains("active"), "{table:?}");
    assert!(!table.stdout.contains('\x1b'), "no colours without a terminal: {table:?}");
}

#[test]
fn a_deployment_is_uploaded_without_activation() {
    let platform = Platform::start();
    let one = platform.deploy("quiet", &answering("one"));
    write(platform.folder(), &[("worker.js", &answering("two"))]);
    let run = platform.cli(&["--json", "deploy", "worker.js", "--name", "quiet", "--no-activate"]).json();
    assert_eq!((&run["activated"], &run["version"]["version_number"]), (&Value::Bool(false), &Value::from(2)));
    assert_eq!(platform.get(&one.host, "/").text(), "one");
}

#[test]
fn paused_deployments_answer_503_and_deleted_ones_404() {
    let platform = Platform::start();
    let shop = platform.deploy("shop", &answering("shop"));
    code(&platform.cli(&["pause", "--name", "shop"]), 0);
    let paused = platform.await_status(&shop.host, "/", 503);
    assert!(!paused.body.is_empty(), "the body says what is the matter");
    code(&platform.cli(&["pause", "--name", "shop"]), 0);
    code(&platform.cli(&["resume", "--name", "shop"]), 0);
    assert_eq!(platform.await_status(&shop.host, "/", 200).text(), "shop");
    let asked = platform.cli(&["delete", "--name", "shop"]);
    code(&asked, 2);
    code(&platform.cli(&["delete", "--name", "shop", "--yes"]), 0);
    let gone = platform.await_status(&shop.host, "/", 404);
    assert!(!gone.body.is_empty(), "the body says what is the matter");
    code(&platform.cli(&["versions", "--name", "shop"]), 4);
    // The subdomain is free again, and the new deployment begins anew.
    let again = platform.deploy("shop", &answering("again"));
    assert_eq!(platform.get(&again.host, "/").text(), "again");
}

#[test]
fn routes_go_by_host_and_path() {
    let platform = Platform::start();
    platform.deploy("site", &answering("site"));
    platform.deploy("api", &answering("api"));
    let add = |name: &str, pattern: &str| platform.cli(&["--json", "routes", "add", pattern, "--name", name]).json();
    add("site", "example.com/*");
    let route = add("api", "example.com/api/*");
    add("api", "*.example.com/v2/*");
    platform.await_status("www.example.com", "/v2/x", 200);
    let answer = |host: &str, path: &str| {
        let reply = platform.get(host, path);
        (reply.status, reply.text())
    };
    assert_eq!(answer("example.com", "/"), (200, "site".into()));
    assert_eq!(answer("EXAMPLE.com:8080", "/deep/er?x=1"), (200, "site".into()));
    assert_eq!(answer("example.com", "/api/users"), (200, "api".into()));
    assert_eq!(answer("www.example.com", "/v2/x"), (200, "api".into()));
    assert_eq!(answer("www.example.com", "/v1/x").0, 404);
    assert_eq!(answer("example.org", "/").0, 404);

    // Taken, by this deployment or another.
    code(&platform.cli(&["routes", "add", "example.com/*", "--name", "api"]), 5);
    code(&platform.cli(&["routes", "add", "example.com/*", "--name", "site"]), 5);
    code(&platform.cli(&["routes", "add", "", "--name", "site"]), 2);

    code(&platform.cli(&["routes", "disable", "example.com/api/*", "--name", "api"]), 0);
    eventually("the other route takes over", Duration::from_secs(20), || {
        (answer("example.com", "/api/users").1 == "site").then_some(())
    });
    code(&platform.cli(&["routes", "enable", route["id"].as_str().expect("an id"), "--name", "api"]), 0);
    eventually("the route is back", Duration::from_secs(20), || {
        (answer("example.com", "/api/users").1 == "api").then_some(())
    });
    code(&platform.cli(&["routes", "remove", "example.com/*", "--name", "site"]), 0);
    platform.await_status("example.com", "/", 404);
    assert_eq!(answer("example.com", "/api/users"), (200, "api".into()));
    code(&platform.cli(&["routes", "remove", "example.com/*", "--name", "site"]), 4);
}

#[test]
fn variables_and_secrets_reach_the_worker_and_nobody_else() {
    let platform = Platform::start();
    let folder = platform.folder().join("vars");
    let worker = "export default { fetch(request, env) { return Response.json(env); } };\n";
    let wrangler =
        "name = \"vars\"\nmain = \"worker.js\"\ncompatibility_date = \"2025-01-01\"\n[vars]\nGREETING = \"grüezi\"\n";
    write(&folder, &[("worker.js", worker), ("wrangler.toml", wrangler)]);
    code(&platform.cli(&["deploy", "vars"]), 0);
    let host = "vars.workers.localhost";
    let env = || serde_json::from_slice::<Value>(&platform.get(host, "/").body).unwrap_or_default();
    eventually("the variable of the project file", Duration::from_secs(20), || {
        (env()["GREETING"] == "grüezi").then_some(())
    });
    let secret = "s3cr3t-\"quoted\"\nsecond line";
    let set = platform.cli_with_stdin(&["env", "set", "API_KEY", "--secret", "--name", "vars"], secret);
    code(&set, 0);
    eventually("the secret", Duration::from_secs(20), || (env()["API_KEY"] == secret).then_some(()));
    let list = platform.cli(&["--json", "env", "list", "--name", "vars"]);
    assert!(list.json().to_string().contains("API_KEY"));
    assert!(!list.stdout.contains("s3cr3t"), "{list:?}");
    code(&platform.cli(&["env", "set", "API_KEY", "on-the-command-line", "--secret", "--name", "vars"]), 2);
    code(&platform.cli(&["env", "set", "9KEY", "x", "--name", "vars"]), 2);
    let config = platform.cli(&["config", "show", "--name", "vars"]);
    code(&config, 0);
    assert!(!config.stdout.contains("s3cr3t") && !config.stdout.contains("grüezi"), "env is sealed: {config:?}");

    // A redeploy keeps the secret and changes the variable.
    write(&folder, &[("wrangler.toml", &wrangler.replace("grüezi", "salut"))]);
    code(&platform.cli(&["deploy", "vars"]), 0);
    eventually("the new value", Duration::from_secs(20), || (env()["GREETING"] == "salut").then_some(()));
    assert_eq!(env()["API_KEY"], secret);
    code(&platform.cli(&["env", "unset", "API_KEY", "--name", "vars"]), 0);
    eventually("the secret is gone", Duration::from_secs(20), || env().get("API_KEY").is_none().then_some(()));
    code(&platform.cli(&["env", "unset", "API_KEY", "--name", "vars"]), 4);

    // At rest, values are sealed: no file of the control plane or the node has the text.
    for folder in ["control", "node"] {
        for file in files(&platform.folder().join(folder)) {
            let bytes = std::fs::read(&file).unwrap_or_default();
            let found = bytes.windows(7).any(|window| window == b"s3cr3t-");
            assert!(!found, "{} has the secret in the clear", file.display());
        }
    }
}

fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder").filter_map(Result::ok) {
        let path = entry.path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

#[test]
fn login_init_and_exit_codes() {
    let platform = Platform::start();
    let command = |arguments: &[&str]| {
        let mut command = platform.cli_command();
        command.args(arguments);
        command
    };
    let url = format!("http://{}", platform.api);
    code(&finish(command(&["whoami"]), ""), 3);
    let wrong = finish(command(&["--api-url", &url, "login", "--token", "-"]), "not-a-token\n");
    code(&wrong, 3);
    assert!(!platform.folder().join("cli/config.toml").exists(), "a token that does not work is not kept");
    code(&finish(command(&["--api-url", "http://127.0.0.1:1", "login", "--token", "-"]), "x\n"), 7);
    code(&finish(command(&["--api-url", &url, "login", "--token", "-"]), &format!("{}\n", platform.token)), 0);
    let who = finish(command(&["--json", "whoami"]), "").json();
    assert_eq!(who["account"]["id"], platform.account.as_str());
    code(&finish(command(&["init", "fresh"]), ""), 0);
    code(&finish(command(&["init", "fresh"]), ""), 5);
    code(&finish(command(&["deploy", "fresh"]), ""), 0);
    assert_eq!(platform.await_status("fresh.workers.localhost", "/", 200).text(), "Hello from fresh\n");
    code(&finish(command(&["nodes"]), ""), 0);
    code(&finish(command(&["nope"]), ""), 2);
    code(&finish(command(&["deploy", "nothing-here"]), ""), 2);
    code(&finish(command(&["rollback", "--name", "nothing"]), ""), 4);
    let completions = finish(command(&["completions", "bash"]), "");
    assert!(completions.stdout.contains("rollback"), "{completions:?}");

    let failure = finish(command(&["--json", "versions", "--name", "nothing"]), "");
    let json: Value = serde_json::from_str(&failure.stdout).expect("one JSON value on stdout");
    assert_eq!((failure.code, &json["error"]["kind"]), (4, &Value::from("not_found")));
}

#[test]
fn a_broken_module_is_shown_with_its_place() {
    let platform = Platform::start();
    write(platform.folder(), &[("broken.js", "export default {\n  fetch() { return new Response(\"x\" }\n};\n")]);
    let run = platform.cli(&["deploy", "broken.js"]);
    code(&run, 6);
    assert!(run.stderr.contains("broken.js:2:"), "{run:?}");
    assert!(run.stderr.contains("2 │   fetch() { return new Response(\"x\" }"), "{run:?}");
    assert!(run.stderr.lines().any(|line| line.trim_start().starts_with('│') && line.ends_with('^')), "{run:?}");
    let json: Value = serde_json::from_str(&platform.cli(&["--json", "deploy", "broken.js"]).stdout).expect("JSON");
    assert_eq!((&json["error"]["exit_code"], &json["error"]["place"]["line"]), (&Value::from(6), &Value::from(2)));
}

#[test]
fn dev_serves_redeploys_on_change_and_stops_both() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let main = folder.path().join("worker.js");
    std::fs::write(&main, answering("one")).expect("a file");
    let mut command = Command::new(binary("selvage"));
    command.args(["--json", "dev", "--listen", "127.0.0.1:0", "--data"]).arg(folder.path().join("data"));
    command.arg(&main).env_remove("SELVAGE_TOKEN");
    let mut dev = Process::start("selvage dev", command, &folder.path().join("dev.log"));
    let ready: Value = serde_json::from_str(&dev.line(|line| line.contains("\"ready\""))).expect("JSON");
    let url = ready["url"].as_str().expect("a URL").to_owned();
    let rest = url.strip_prefix("http://").expect("http").trim_end_matches('/');
    let (host, port) = rest.rsplit_once(':').expect("a port");
    let address = ([127, 0, 0, 1], port.parse().expect("a port")).into();
    // Not every resolver knows `*.localhost`.
    for host in [host, "localhost", "127.0.0.1"] {
        assert_eq!(get(address, host, "/").text(), "one", "{host}");
    }
    let children = children_of(dev.pid());
    assert_eq!(children.len(), 2, "a control plane and a node");
    // Who else asks this platform gets the same URL, with the port.
    let credentials = std::fs::read(folder.path().join("data/credentials.json")).expect("kept beside the data");
    let credentials: Value = serde_json::from_slice(&credentials).expect("JSON");
    let mut list = Command::new(binary("selvage"));
    list.args(["--json", "list"]).env("SELVAGE_API_URL", ready["api_url"].as_str().expect("a URL"));
    list.env("SELVAGE_TOKEN", credentials["token"].as_str().expect("a token")).env_remove("SELVAGE_ACCOUNT");
    list.env("SELVAGE_CONFIG", folder.path().join("config.toml"));
    let listed = finish(list, "").json();
    assert_eq!(listed[0]["url"], url.trim_end_matches('/'));

    std::fs::write(&main, answering("number two")).expect("a file");
    dev.line(|line| line.contains("\"deployed\""));
    assert_eq!(get(address, host, "/").text(), "number two");
    // A mistake is reported and what was there stays.
    std::fs::write(&main, "export default {").expect("a file");
    dev.line(|line| line.contains("\"invalid\""));
    assert_eq!(get(address, host, "/").text(), "number two");

    dev.signal(rustix::process::Signal::INT);
    assert!(dev.wait(STOP_TIMEOUT).success(), "{}", dev.log_tail());
    for child in children {
        assert!(!Path::new(&format!("/proc/{child}")).exists(), "process {child} is still there");
    }
}

#[test]
fn dev_that_is_killed_leaves_no_process() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let main = folder.path().join("worker.js");
    std::fs::write(&main, answering("one")).expect("a file");
    let mut command = Command::new(binary("selvage"));
    command.args(["--json", "dev", "--listen", "127.0.0.1:0"]).arg(&main).env_remove("SELVAGE_TOKEN");
    // Nobody can take away its folder.
    command.env("TMPDIR", folder.path());
    let mut dev = Process::start("selvage dev", command, &folder.path().join("dev.log"));
    dev.line(|line| line.contains("\"ready\""));
    let children = children_of(dev.pid());
    assert_eq!(children.len(), 2, "a control plane and a node");
    dev.signal(rustix::process::Signal::KILL);
    dev.wait(STOP_TIMEOUT);
    eventually("both have ended", STOP_TIMEOUT, || {
        let alive = |child: &u32| Path::new(&format!("/proc/{child}")).exists();
        (!children.iter().any(alive)).then_some(())
    });
}

/// `selvage dev` of a TypeScript project: ready, its address and its Worker's host.
fn dev_of(folder: &Path) -> (Process, std::net::SocketAddr, String) {
    let mut command = Command::new(binary("selvage"));
    command.args(["--json", "dev", "--listen", "127.0.0.1:0"]).arg(folder);
    command.env_remove("SELVAGE_TOKEN").env("SELVAGE_ESBUILD", e2e::npm::esbuild());
    let mut dev = Process::start("selvage dev", command, &folder.with_extension("log"));
    let ready: Value = serde_json::from_str(&dev.line(|line| line.contains("\"ready\""))).expect("JSON");
    let url = ready["url"].as_str().expect("a URL").trim_start_matches("http://").trim_end_matches('/').to_owned();
    let (host, port) = url.rsplit_once(':').expect("a port");
    (dev, ([127, 0, 0, 1], port.parse().expect("a port")).into(), host.to_owned())
}

#[test]
fn dev_shows_what_is_wrong_and_reloads_at_once() {
    let Some(_) = e2e::npm::packages("selvage dev of TypeScript") else { return };
    let temporary = tempfile::tempdir().expect("a temporary folder");
    let folder = temporary.path().join("app");
    std::fs::create_dir_all(folder.join("src")).expect("a folder");
    let lib = |text: &str| std::fs::write(folder.join("src/lib.ts"), text).expect("a file");
    let index = "import { answer } from './lib';\nexport default {\n  fetch(_: Request, env: Record<string, string>) { return new Response(answer(env)); },\n};\n";
    let answers =
        |text: &str| format!("export const answer = (env: Record<string, string>): string => {text:?} + env.KEY;\n");
    write(&folder, &[("wrangler.toml", "name = \"app\"\nmain = \"src/index.ts\"\n"), (".dev.vars", "KEY=k # own\n")]);
    std::fs::write(folder.join("src/index.ts"), index).expect("a file");
    lib(&answers("one"));
    let (mut dev, address, host) = dev_of(&folder);
    let ask = |accept: &str| {
        let request = Request::new("GET", &host, "/").header("Accept", accept).header("Connection", "close");
        e2e::http::send(address, &request)
    };
    assert_eq!(ask("*/*").text(), "onek");

    // From a save to the new answer.
    let mut times = Vec::new();
    for round in 0..10 {
        let begun = std::time::Instant::now();
        lib(&answers(&format!("r{round}")));
        eventually("the new answer", Duration::from_secs(20), || {
            (ask("*/*").text() == format!("r{round}k")).then_some(())
        });
        times.push(begun.elapsed());
    }
    times.sort();
    println!(
        "selvage dev, from a save to the new answer: best {:?}, median {:?}, worst {:?}",
        times[0], times[5], times[9]
    );
    assert!(times[0] < Duration::from_millis(300), "{times:?}");

    // A mistake: the terminal has it, a browser gets it as a page, others what was there.
    lib("export const answer = (env) => {\n  return (;\n};\n");
    let failure: Value = serde_json::from_str(&dev.line(|line| line.contains("\"invalid\""))).expect("JSON");
    assert_eq!(failure["error"]["place"]["line"], 2, "{failure}");
    let page = ask("text/html,*/*");
    assert!(page.status == 500 && page.text().contains("src/lib.ts:2:11: Unexpected"), "{page:?}");
    assert!(page.text().contains("2 │   return (;"), "{page:?}");
    assert_eq!(ask("*/*").text(), "r9k");

    // An exception, with the author's place.
    lib(
        "export function answer(): string {\n  const none = undefined as unknown as { x: string };\n  return none.x;\n}\n",
    );
    dev.line(|line| line.contains("\"deployed\""));
    let page = ask("text/html");
    assert!(page.status == 500 && page.text().contains("TypeError"), "{page:?}");
    assert!(
        page.text().contains("answer (src/lib.ts:3:15)") && page.text().contains("3 │   return none.x;"),
        "{page:?}"
    );
    assert!(ask("*/*").text().contains("at answer (src/lib.ts:3:15)"));

    lib(&answers("mended"));
    dev.line(|line| line.contains("\"deployed\""));
    assert_eq!(ask("text/html").text(), "mendedk");
    // A file that was missing comes.
    std::fs::write(folder.join("src/index.ts"), index.replace("./lib", "./other")).expect("a file");
    dev.line(|line| line.contains("\"invalid\""));
    std::fs::write(folder.join("src/other.ts"), answers("other")).expect("a file");
    dev.line(|line| line.contains("\"deployed\""));
    assert_eq!(ask("*/*").text(), "otherk");
    dev.signal(rustix::process::Signal::INT);
    assert!(dev.wait(STOP_TIMEOUT).success(), "{}", dev.log_tail());
}

fn children_of(pid: u32) -> Vec<u32> {
    let mut children = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("/proc").filter_map(Result::ok) {
        let Ok(child) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // "pid (name) state ppid …": the name may hold spaces and parentheses.
        let parent = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)?.parse::<u32>().ok());
        if parent == Some(pid) {
            children.push(child);
        }
    }
    children
}
