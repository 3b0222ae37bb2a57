//! Calls from one Worker to another on a shard.

use crate::common::{Deployed, TestNode, active, eventually, get};
use plane_abi::Status;

/// Calls the Worker that its query names as `env`'s, with what came, and says what came of it.
const CALLER: &str = r#"
export default {
  async fetch(request, env, ctx) {
    const url = new URL(request.url);
    const to = env[url.searchParams.get("to") ?? "B"];
    if (url.pathname === "/pass") return to.fetch(request);
    if (url.pathname === "/abort") {
      const controller = new AbortController();
      setTimeout(() => controller.abort(), 20);
      try { await to.fetch("https://b/slow", { signal: controller.signal }); } catch (error) { return new Response(error.name); }
    }
    try {
      const count = Number(url.searchParams.get("times") ?? 1);
      let said = "";
      for (let i = 0; i < count; i++) {
        const response = await to.fetch(`https://b.internal${url.pathname}`, { method: "POST", body: "sent" });
        said = `${response.status} ${response.headers.get("x-b")} ${await response.text()}`;
      }
      return new Response(said);
    } catch (error) {
      return new Response(`${error.name}: ${error.message}`, { status: 502 });
    }
  }
}"#;

const CALLEE: &str = r#"
export default {
  async fetch(request, env, ctx) {
    const { pathname } = new URL(request.url);
    if (pathname === "/throw") throw new RangeError("b's own");
    if (pathname === "/none") return 5;
    if (pathname === "/burn") for (;;);
    if (pathname === "/hoard") { const all = []; for (;;) all.push(new Array(10000).fill(all.length)); }
    if (pathname === "/slow") {
      request.signal.addEventListener("abort", () => console.log("b aborted"));
      ctx.waitUntil(new Promise((done) => setTimeout(() => { console.log("b went on"); done(); }, 100)));
      await new Promise((done) => setTimeout(done, 60_000));
    }
    if (pathname === "/stream") {
      let count = 0;
      return new Response(new ReadableStream({ pull(c) { if (count++ === 1000) c.close(); else c.enqueue(new Uint8Array(1000).fill(65)); } }));
    }
    if (pathname === "/break") {
      return new Response(new ReadableStream({ start(c) { c.enqueue(new Uint8Array(5)); }, pull(c) { c.error(new Error("broken off")); } }));
    }
    const body = await request.text();
    return new Response(`${request.method} ${request.url} ${body.length}`, { status: 203, headers: { "x-b": "b" } });
  }
};
export const admin = { fetch: () => new Response("admin") };"#;

fn both<'a>(services: &'a [(&'a str, &'a str)]) -> [Deployed<'a>; 2] {
    [Deployed { services, ..active("a", CALLER) }, active("b", CALLEE)]
}

#[test]
fn a_request_goes_to_the_other_worker_and_its_response_comes_back() {
    let services = [("B", "b"), ("ADMIN", "b#admin"), ("SELF", "a"), ("GONE", "nobody"), ("NOT", "b#missing")];
    let node = TestNode::start(&both(&services), |_| {});
    let mut client = node.connect();
    assert_eq!(client.get("a", "/x").text(), "203 b POST https://b.internal/x 4");
    assert_eq!(client.get("a", "/x?to=ADMIN").text(), "200 null admin");
    assert_eq!(client.get("a", "/x?to=GONE").text(), "Error: The Worker that this binding names is not deployed.");
    assert!(client.get("a", "/x?to=NOT").text().contains("no entrypoint named \"missing\""));
    assert_eq!(client.get("a", "/pass?to=ADMIN").text(), "admin");
    let metrics = &node.metrics.shards()[0];
    assert!(metrics.service_calls.get() == 5 && metrics.service_failures.get() == 2);
    assert_eq!(metrics.fetches.get(), 0, "no socket");
}

#[test]
fn a_worker_calls_its_own_entrypoints_and_is_told_the_props_of_its_caller() {
    let caller = "export const own = { fetch: (request, env, ctx) => Response.json(['own', ctx.props]) };
        export default { async fetch(request, env, ctx) {
          const of = async (service) => (await service.fetch('https://x/')).text();
          return new Response([await of(env.B), await of(env.PLAIN), await of(ctx.exports.own), await of(ctx.exports.own({ props: { a: 1 } }))].join(' '));
        } };";
    let callee =
        "export const named = { fetch: (request, env, ctx) => Response.json(ctx.props) }; export default named;";
    let services = [("B", "b#named\n{\"who\":\"a\"}"), ("PLAIN", "b")];
    let node = TestNode::start(&[Deployed { services: &services, ..active("a", caller) }, active("b", callee)], |_| {});
    let answer = node.connect().get("a", "/");
    assert_eq!(answer.text(), r#"{"who":"a"} {} ["own",{}] ["own",{"a":1}]"#);
    assert_eq!(node.metrics.shards()[0].service_calls.get(), 4);
}

#[test]
fn bodies_pass_as_streams_both_ways() {
    let services = [("B", "b")];
    let node = TestNode::start(&both(&services), |_| {});
    let mut client = node.connect();
    client.send(b"POST /pass HTTP/1.1\r\nHost: a.workers.localhost\r\nContent-Length: 300000\r\n\r\n");
    client.send(&vec![b'x'; 300_000]);
    let answer = client.response();
    assert_eq!((answer.status, answer.text()), (203, "POST http://a.workers.localhost/pass 300000"));
    assert_eq!(client.get("a", "/stream").body.len(), "200 null ".len() + 1_000_000);
    assert!(client.get("a", "/break").status == 502);
}

#[test]
fn what_ends_the_callee_is_an_error_of_the_caller_and_never_a_hang() {
    let services = [("B", "b")];
    let node = TestNode::start(&both(&services), |_| {});
    let said = |path: &str| {
        let answer = node.connect().get("a", path);
        (answer.status, answer.text().to_owned())
    };
    assert_eq!(said("/throw"), (502, "RangeError: b's own".to_owned()));
    assert_eq!(said("/none").1, "Error: The Worker that was called gave no Response.");
    assert_eq!(said("/burn").1, "Error: The Worker that was called exceeded its CPU time limit.");
    let (status, hoard) = said("/hoard");
    assert!(status == 502 && hoard.contains("limit"), "{hoard}");
    assert_eq!(said("/x").0, 200, "the callee is there again");
    let mut deployments = both(&services);
    deployments[1].status = Status::Paused;
    let paused = TestNode::start(&deployments, |_| {});
    assert!(paused.connect().get("a", "/x").text().contains("is paused"));
    deployments[1] = active("b", "throw new Error('at start'); export default { fetch() {} };");
    let broken = TestNode::start(&deployments, |_| {});
    assert!(broken.connect().get("a", "/x").text().contains("failed to start"));
}

#[test]
fn an_abort_reaches_the_callee_whose_own_work_goes_on() {
    let services = [("B", "b")];
    let node = TestNode::start(&both(&services), |_| {});
    let said = |text: &str| node.logs.texts().iter().filter(|log| *log == text).count();
    // Where the machine is slow the time is up before the call is made: then again.
    eventually("the callee is told", || {
        assert_eq!(node.connect().get("a", "/abort").text(), "AbortError");
        said("b aborted") > 0
    });
    eventually("waitUntil goes on", || said("b went on") > 0);
}

#[test]
fn workers_that_call_each_other_come_to_an_end() {
    let calls = "export default { async fetch(request, env) {
        const depth = Number(new URL(request.url).searchParams.get('depth') ?? 0);
        console.log('depth', depth);
        try { return await env.NEXT.fetch(`https://next/?depth=${depth + 1}`); }
        catch (error) { return new Response(`${depth} ${error.message}`); }
    } };";
    let (to_b, to_a) = ([("NEXT", "b")], [("NEXT", "a")]);
    let deployments =
        [Deployed { services: &to_b, ..active("a", calls) }, Deployed { services: &to_a, ..active("b", calls) }];
    let node = TestNode::start(&deployments, |_| {});
    let answer = node.connect().get("a", "/");
    assert!(answer.text().starts_with("31 Too many Worker invocations"), "{}", answer.text());
    assert_eq!(node.logs.texts().iter().filter(|log| log.starts_with("depth")).count(), 32);
    let services = [("B", "b")];
    let many = TestNode::start(&both(&services), |_| {});
    let answer = many.connect().get("a", "/x?times=40");
    assert!(answer.text().contains("Too many Worker invocations"), "{}", answer.text());
    let large = TestNode::start(&both(&services), |config| config.request_limits.subrequests = 10);
    assert!(large.connect().get("a", "/x?times=11").text().contains("Too many subrequests"));
}

/// `/eat` fills the heap; anything else waits and says which run of its isolate it was.
const SHARED: &str = r#"
const kept = []; let runs = 0;
export default { async fetch(request) {
  if (request.url.endsWith("/eat")) for (;;) kept.push(new Array(10000).fill(kept.length));
  const run = ++runs;
  await new Promise((r) => setTimeout(r, 400));
  return new Response(`${request.method} ${run}`);
} }"#;

#[test]
fn a_call_whose_isolate_another_request_took_is_tried_again_where_that_is_safe() {
    let deployments = [
        Deployed { services: &[("B", "b")], ..active("a", CALLER) },
        Deployed { cpu_ms: 20_000, ..active("b", SHARED) },
    ];
    let node = TestNode::start(&deployments, |_| {});
    let send = |request: &str| {
        let mut client = node.connect();
        client.send(request.as_bytes());
        client
    };
    // One passes a GET on; the other always sends a POST.
    let (mut safe, mut unsafe_one) = (send(&get("a", "/pass")), send(&get("a", "/x")));
    std::thread::sleep(std::time::Duration::from_millis(150));
    assert_eq!(node.connect().get("b", "/eat").status, 503);
    let answer = safe.response();
    assert_eq!((answer.status, answer.text()), (200, "GET 1"));
    let answer = unsafe_one.response();
    assert_eq!((answer.status, answer.text()), (502, "Error: The Worker that was called was stopped."));
    assert_eq!(node.metrics.shards()[0].request_retries.get(), 1);
}
