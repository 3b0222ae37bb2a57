//! Workers that call each other and run by the clock, from wrangler's project files to the node.

use std::path::Path;
use std::time::Duration;

use e2e::eventually;
use e2e::platform::{Platform, Run};

const CALLED: &str = r#"
import { RpcTarget, WorkerEntrypoint } from "cloudflare:workers";
class Counter extends RpcTarget {
  #count = 0;
  increment(by) { return (this.#count += by); }
}
export default class extends WorkerEntrypoint {
  fetch(request) { return new Response(`${request.method} ${new URL(request.url).pathname}`); }
  add(a, b) { return a + b; }
  counter() { return new Counter(); }
  fail() { throw new RangeError("as asked"); }
}
export class Admin extends WorkerEntrypoint {
  who() { return `admin of ${this.env.NAME} for ${this.ctx.props.clientId}`; }
  async ask(service, number) { return await service.answer(await number); }
}
"#;

const CALLER: &str = r#"
import { WorkerEntrypoint } from "cloudflare:workers";
export class Back extends WorkerEntrypoint { answer(number) { return `${this.ctx.props.name} ${number}`; } }
export default {
  async fetch(request, env, ctx) {
    const body = await (await env.CALLED.fetch("https://called/x", { method: "POST" })).text();
    const sums = [await env.CALLED.add(1, 2), await env.CALLED.counter().increment(5), await env.ADMIN.who()];
    const failed = await env.CALLED.fail().then(() => "no", (error) => `${error.name}: ${error.message}`);
    const back = await env.ADMIN.ask(ctx.exports.Back({ props: { name: "back" } }), env.CALLED.add(3, 4));
    return Response.json([body, ...sums, failed, back, ctx.props]);
  },
  async scheduled(controller, env) { console.log("ran", controller.cron, await env.CALLED.add(20, 22)); },
};"#;

fn project(folder: &Path, toml: &str, module: &str) {
    std::fs::create_dir_all(folder).expect("a folder");
    std::fs::write(folder.join("wrangler.toml"), toml).expect("a file");
    std::fs::write(folder.join("worker.js"), module).expect("a file");
}

fn deploy(platform: &Platform, folder: &Path) -> Run {
    platform.cli(&["deploy", folder.to_str().expect("UTF-8")])
}

#[test]
fn a_project_file_makes_workers_call_each_other_and_run_by_the_clock() {
    let platform = Platform::start();
    let (called, caller) = (platform.folder().join("called"), platform.folder().join("caller"));
    let base = "main = \"worker.js\"\nno_bundle = true\ncompatibility_date = \"2025-01-01\"\n";
    let services = "[[services]]\nbinding = \"CALLED\"\nservice = \"called\"\n\
                    [[services]]\nbinding = \"ADMIN\"\nservice = \"called\"\nentrypoint = \"Admin\"\nprops = { clientId = \"caller\" }\n";
    project(&called, &format!("name = \"called\"\n{base}[vars]\nNAME = \"b\"\n"), CALLED);
    let whole = format!("name = \"caller\"\n{base}{services}[triggers]\ncrons = [\"* * * * *\"]\n");
    project(&caller, &whole, CALLER);

    let early = deploy(&platform, &caller);
    assert!(early.code != 0 && early.stderr.contains("no Worker named"), "{}", early.stderr);
    let first = deploy(&platform, &called);
    assert!(first.code == 0, "{}", first.stderr);
    let second = deploy(&platform, &caller);
    assert!(second.code == 0, "{}", second.stderr);
    assert!(second.stdout.contains("env.ADMIN is the Worker called#Admin"), "{}", second.stdout);
    assert!(second.stdout.contains("schedule: * * * * *"), "{}", second.stdout);

    let answer = platform.await_status("caller.workers.localhost", "/", 200);
    let expect = r#"["POST /x",3,5,"admin of b for caller","RangeError: as asked","back 7",{}]"#;
    assert_eq!(answer.text(), expect);

    project(&caller, &whole.replace("\"* * * * *\"", "\"61 * * * *\""), CALLER);
    let refused = deploy(&platform, &caller);
    assert!(refused.code != 0 && refused.stderr.contains("is no schedule: its minute"), "{}", refused.stderr);

    eventually("the clock runs it", Duration::from_secs(75), || {
        (platform.metric("selvage_cron_runs_total", &[]) >= 1).then_some(())
    });
    assert_eq!(platform.metric("selvage_cron_failures_total", &[]), 0);
}
