//! Workers that do something wrong over HTTP: each ends its own request or itself, with a reason, and a neighbour on the same shard is
//! served promptly after each, and while many of them are at it together. (Uploads of a thousand such, through the control plane, are
//! in `tests/e2e/hostile_workers.rs`.)

use crate::common::{Deployed, TestNode, active};
use std::thread;
use std::time::{Duration, Instant};

/// What a neighbour may wait after, or beside, any of these. The machine may be busy: `bench noisy-neighbour` is exact.
const PROMPT: Duration = Duration::from_millis(500);

/// Status and the text's beginning.
type Answer = (u16, &'static str);
/// Name, module, what it is answered with: one of them.
type Row = (&'static str, String, &'static [Answer]);

const THREW: Answer = (500, "500: the Worker threw");
const NONE: Answer = (500, "500: the Worker gave no response");
const CPU: Answer = (503, "503: the Worker exceeded its CPU time limit");
const MEMORY: Answer = (503, "503: the Worker exceeded its memory limit");
const START: Answer = (503, "503: the Worker exceeded a limit while starting");
const NO_START: Answer = (500, "500: the Worker failed to start");

fn handler(body: &str) -> String {
    format!("export default {{ async fetch(request, env, ctx) {{ {body} }} }};")
}

fn rows() -> Vec<Row> {
    let handlers: &[(&'static str, &str, &'static [Answer])] = &[
        (
            "resolves twice",
            "return new Promise((done, failed) => { done(new Response('first')); done(new Response('second')); failed(1); });",
            &[(200, "first")],
        ),
        (
            "a thenable that resolves twice",
            "return { then(done, failed) { done(new Response('first')); done(new Response('second')); failed(1); } };",
            &[(200, "first")],
        ),
        (
            "a thenable that throws after it resolved",
            "return { then(done) { done(new Response('first')); throw 1; } };",
            &[(200, "first")],
        ),
        ("a thenable without end", "const again = { then(done) { done(again); } }; return again;", &[CPU, MEMORY]),
        ("a getter of then throws", "return { get then() { throw new Error('x'); } };", &[THREW]),
        ("a status that throws", "return new Response('x', { get status() { throw new Error('x'); } });", &[THREW]),
        (
            "headers that throw",
            "return new Response('x', { headers: { get a() { throw new Error('x'); } } });",
            &[THREW],
        ),
        ("a body that throws", "return new Response({ toString() { throw new Error('x'); } });", &[THREW]),
        // What a subclass says of itself does not matter: the runtime looks at what is inside.
        (
            "a subclass whose getters throw",
            "class R extends Response { get status() { throw 1; } get headers() { throw 2; } get body() { throw 3; } }
             return new R('inside');",
            &[(200, "inside")],
        ),
        (
            "getters put on a response",
            "const r = new Response('inside');
             for (const name of ['status', 'headers', 'body', 'bodyUsed'])
               Object.defineProperty(r, name, { get() { throw new Error(name); } });
             return r;",
            &[(200, "inside")],
        ),
        ("a response's prototype alone", "return Object.create(Response.prototype);", &[NONE, THREW]),
        ("a proxy of a response", "return new Proxy(new Response('x'), {});", &[NONE, THREW]),
        ("never resolves", "return new Promise(() => {});", &[(500, "500: the Worker would never have answered")]),
        (
            "keeps 10,000 promises",
            "globalThis.kept = Array.from({ length: 10000 }, () => new Promise(() => {})); return new Response('kept');",
            &[(200, "kept")],
        ),
        (
            "keeps 10,000 timers",
            "for (let i = 0; i < 10000; i++) setTimeout(() => {}, 1e6); return new Response('kept');",
            &[(200, "kept")],
        ),
        (
            "one timer too many",
            "for (let i = 0; i < 10001; i++) setTimeout(() => {}, 1e6); return new Response('x');",
            &[THREW],
        ),
        (
            "floods microtasks",
            "const f = () => Promise.resolve().then(f); f(); await new Promise(() => {});",
            &[CPU, MEMORY],
        ),
        ("loops", "for (;;) {}", &[CPU]),
        ("recurses", "(function f() { f(); })();", &[THREW]),
        ("allocates", "const a = []; for (;;) a.push(new Array(1000).fill(0.5));", &[CPU, MEMORY]),
        (
            "fills array buffers",
            "const a = []; for (;;) a.push(new Uint8Array(1 << 20).fill(1));",
            &[CPU, MEMORY, THREW],
        ),
        ("compiles at run time", "return new Response(String(new Function('return 1')()));", &[THREW]),
        ("compiles by eval", "return new Response(String((0, eval)('1')));", &[THREW]),
        ("compiles by another way", "return new Response(String((async () => {}).constructor('return 1')));", &[THREW]),
    ];
    let mut rows: Vec<Row> = handlers.iter().map(|(name, body, expect)| (*name, handler(body), *expect)).collect();
    let fine = handler("return new Response('fine');");
    let deep = 20_000;
    let nested = format!("const x = () => {}1{};\n{fine}", "(".repeat(deep), ")".repeat(deep));
    let functions = format!("const x = {}1{};\n{fine}", "() => { ".repeat(deep), " }".repeat(deep));
    let huge: String = (0..200_000).map(|n| format!("(function f{n}(a) {{ return a + {n}; }})(1);\n")).collect();
    rows.push(("2 s of top-level work", format!("for (let i = 0; i < 4e9; i++);\n{fine}"), &[START]));
    rows.push(("a top level without end", format!("await new Promise(() => {{}});\n{fine}"), &[NO_START]));
    rows.push((
        "a top level that fills memory",
        format!("const a = []; for (;;) a.push(new Array(1e5).fill(0.5));\n{fine}"),
        &[START],
    ));
    rows.push(("deep nesting", nested, &[(200, "fine"), NO_START]));
    rows.push(("deep functions", functions, &[(200, "fine"), NO_START, START]));
    rows.push(("a huge source", huge + &fine, &[(200, "fine"), START]));
    rows
}

fn node(rows: &[Row]) -> TestNode {
    let names: Vec<String> = (0..rows.len()).map(|number| format!("bad{number}")).collect();
    let mut deployed: Vec<Deployed<'_>> =
        names.iter().zip(rows).map(|(name, (_, source, _))| active(name, source)).collect();
    deployed.push(active("good", "export default { fetch() { return new Response('good') } }"));
    TestNode::start(&deployed, |_| {})
}

#[test]
fn each_ends_for_its_reason_and_the_next_is_served() {
    let rows = rows();
    let node = node(&rows);
    let mut neighbour = node.connect();
    assert_eq!(neighbour.get("good", "/").text(), "good");
    for (number, (name, _, expect)) in rows.iter().enumerate() {
        // Again: a start that failed is not tried at once.
        for round in 1..=2 {
            let mut most = Duration::ZERO;
            let mut ask_neighbour = || {
                let asked = Instant::now();
                assert_eq!(neighbour.get("good", "/").text(), "good", "beside {name}");
                most = most.max(asked.elapsed());
            };
            let reply = thread::scope(|scope| {
                let asked = scope.spawn(|| node.connect().get(&format!("bad{number}"), "/"));
                while !asked.is_finished() {
                    ask_neighbour();
                }
                asked.join().expect("answered")
            });
            ask_neighbour();
            let said = |(status, text): &Answer| reply.status == *status && reply.text().starts_with(text);
            assert!(expect.iter().any(said), "{name}, round {round}: {reply:?}");
            println!("{most:?} beside {name}: {}", reply.status);
            assert!(most < PROMPT, "{most:?} beside {name}");
        }
    }
    let shard = &node.metrics.shards()[0];
    assert_eq!((shard.panics.get(), shard.restarts.get()), (0, 0));
}

#[test]
fn a_thousand_at_once_do_not_keep_the_neighbour_waiting() {
    let rows = rows();
    let node = node(&rows);
    let mut neighbour = node.connect();
    neighbour.get("good", "/");
    let mut waits = Vec::new();
    thread::scope(|scope| {
        let asked: Vec<_> = (0..8)
            .map(|thread| {
                let (node, rows) = (&node, &rows);
                scope.spawn(move || {
                    let mut clients: Vec<_> = (0..125).map(|_| node.connect()).collect();
                    for (at, client) in clients.iter_mut().enumerate() {
                        let number = (thread * 125 + at) % rows.len();
                        client.send(crate::common::get(&format!("bad{number}"), "/").as_bytes());
                    }
                    clients.iter_mut().map(|client| client.response().status).collect::<Vec<_>>()
                })
            })
            .collect();
        while asked.iter().any(|asked| !asked.is_finished()) {
            let sent = Instant::now();
            assert_eq!(neighbour.get("good", "/").text(), "good");
            waits.push(sent.elapsed());
            thread::sleep(Duration::from_millis(5));
        }
        for asked in asked {
            let statuses = asked.join().expect("all were answered");
            assert!(statuses.iter().all(|status| [200, 500, 503].contains(status)), "{statuses:?}");
        }
    });
    waits.sort_unstable();
    let median = waits[waits.len() / 2];
    println!("neighbour: {} requests, median {median:?}, most {:?}", waits.len(), waits[waits.len() - 1]);
    assert!(median < PROMPT / 5, "median {median:?} of {}", waits.len());
    assert_eq!(neighbour.get("good", "/").text(), "good");
    let shard = &node.metrics.shards()[0];
    assert_eq!((shard.panics.get(), shard.restarts.get()), (0, 0));
}
