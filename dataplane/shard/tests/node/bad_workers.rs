//! Workers that do something wrong over HTTP: each ends its own request or itself, with a reason, and a neighbour on the same shard is
//! served promptly after each, and while many of them are at it together. (Uploads of a thousand such, through the control plane, are
//! in `tests/e2e/hostile_workers.rs`.)

use crate::common::{Client, Deployed, Response, TestNode, active};
use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

/// What a neighbour may wait after, or beside, any of these. The machine may be busy: `bench noisy-neighbour` is exact.
const PROMPT: Duration = Duration::from_millis(500);

/// CPU time of a request of most of them.
const USUAL_CPU_MS: u32 = 50;

/// Workers of the second test: with the neighbour they fit a shard.
const AT_ONCE: usize = 1_000;
/// How many of them are of one kind that a limit of time or memory ends: each takes 50 to 600 ms of CPU time, one of every
/// kind 2 s. The others take about 3 ms each, most of it for their start.
const COSTLY_COPIES: usize = 3;

const _: () = assert!(AT_ONCE < shard::config::WORKERS_PER_SHARD_MAX);

/// How a request ends.
#[derive(Clone, Copy)]
struct Ending {
    status: u16,
    /// The text's beginning.
    text: &'static str,
    /// What it counts as in `selvage_failures_total`; empty for a Worker's own answer.
    label: &'static str,
    /// Part of what the tenant's log says of it.
    logged: &'static str,
}

impl Ending {
    const fn answer(text: &'static str) -> Ending {
        Ending { status: 200, text, label: "", logged: "" }
    }

    const fn failure(status: u16, text: &'static str, label: &'static str, logged: &'static str) -> Ending {
        Ending { status, text, label, logged }
    }
}

struct Row {
    name: &'static str,
    source: String,
    cpu_ms: u32,
    /// It ends in one of these ways.
    endings: &'static [Ending],
}

impl Row {
    fn ending(&self, reply: &Response) -> Option<Ending> {
        let said = |ending: &&Ending| reply.status == ending.status && reply.text().starts_with(ending.text);
        self.endings.iter().find(said).copied()
    }

    /// Whether it uses up what it may have.
    fn is_costly(&self) -> bool {
        let limits = ["cpu_limit", "memory_limit", "start_limited"];
        self.cpu_ms > USUAL_CPU_MS || self.endings.iter().any(|ending| limits.contains(&ending.label))
    }
}

const FIRST: Ending = Ending::answer("first");
const INSIDE: Ending = Ending::answer("inside");
const KEPT: Ending = Ending::answer("kept");
const THREW: Ending = Ending::failure(500, "500: the Worker threw", "exception", "Uncaught");
const NONE: Ending = Ending::failure(500, "500: the Worker gave no response", "not_a_response", "not a Response");
const HUNG: Ending =
    Ending::failure(500, "500: the Worker would never have answered", "hung", "the request can never be answered");
const CPU: Ending = Ending::failure(
    503,
    "503: the Worker exceeded its CPU time limit",
    "cpu_limit",
    "CPU time limit of 50 ms exceeded",
);
const MEMORY: Ending =
    Ending::failure(503, "503: the Worker exceeded its memory limit", "memory_limit", "memory limit exceeded");
const START: &str = "503: the Worker exceeded a limit while starting";
const START_CPU: Ending = Ending::failure(503, START, "start_limited", "top level used too much CPU time");
const START_MEMORY: Ending = Ending::failure(503, START, "start_limited", "top level used too much memory");
const NO_START: Ending =
    Ending::failure(500, "500: the Worker failed to start", "start_failed", "the Worker failed to start");
/// The node's own shortage.
const SHED: &str = "503: overloaded";

fn handler(body: &str) -> String {
    format!("export default {{ async fetch(request, env, ctx) {{ {body} }} }};")
}

fn rows() -> Vec<Row> {
    let handlers: &[(&'static str, &str, &'static [Ending])] = &[
        (
            "resolves twice",
            "return new Promise((done, failed) => { done(new Response('first')); done(new Response('second')); failed(1); });",
            &[FIRST],
        ),
        (
            "a thenable that resolves twice",
            "return { then(done, failed) { done(new Response('first')); done(new Response('second')); failed(1); } };",
            &[FIRST],
        ),
        (
            "a thenable that throws after it resolved",
            "return { then(done) { done(new Response('first')); throw 1; } };",
            &[FIRST],
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
            &[INSIDE],
        ),
        (
            "getters put on a response",
            "const r = new Response('inside');
             for (const name of ['status', 'headers', 'body', 'bodyUsed'])
               Object.defineProperty(r, name, { get() { throw new Error(name); } });
             return r;",
            &[INSIDE],
        ),
        ("a response's prototype alone", "return Object.create(Response.prototype);", &[NONE, THREW]),
        ("a proxy of a response", "return new Proxy(new Response('x'), {});", &[NONE, THREW]),
        ("never resolves", "return new Promise(() => {});", &[HUNG]),
        (
            "keeps 10,000 promises",
            "globalThis.kept = Array.from({ length: 10000 }, () => new Promise(() => {})); return new Response('kept');",
            &[KEPT],
        ),
        (
            "keeps 10,000 timers",
            "for (let i = 0; i < 10000; i++) setTimeout(() => {}, 1e6); return new Response('kept');",
            &[KEPT],
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
        (
            "compiles regular expressions without end",
            "for (let i = 0; ; i++) new RegExp('(?:a' + i + '|b|[c-x])+', 'i').test('x');",
            &[CPU],
        ),
        // Each takes 140 ms, in which V8 cannot be interrupted: it is over its time after the first.
        (
            "compiles large regular expressions without end",
            "for (let i = 0; ; i++) new RegExp('\\\\p{L}'.repeat(1000) + i, 'iu').test('x'.repeat(2000));",
            &[CPU],
        ),
    ];
    let row = |name: &'static str, source: String, endings: &'static [Ending]| Row {
        name,
        source,
        cpu_ms: USUAL_CPU_MS,
        endings,
    };
    let mut rows: Vec<Row> = handlers.iter().map(|(name, body, endings)| row(name, handler(body), endings)).collect();
    // Where there is time for it, memory is what ends it. A buffer over the limit is an exception, which a Worker may catch.
    let with_time: &[(&'static str, &str, &'static [Ending])] = &[
        ("allocates and has time", "const a = []; for (;;) a.push(new Array(1e5).fill(0.5));", &[MEMORY]),
        (
            "fills array buffers and has time",
            "const a = []; for (;;) a.push(new Uint8Array(1 << 20).fill(1));",
            &[THREW],
        ),
    ];
    rows.extend(
        with_time.iter().map(|(name, body, endings)| Row { cpu_ms: 20_000, ..row(name, handler(body), endings) }),
    );
    let fine = handler("return new Response('fine');");
    // Parsing recurses: a twentieth of these levels compiles, a quarter is too deep for V8's stack, and an error as of syntax.
    let deep = 20_000;
    let nested = format!("const x = () => {}1{};\n{fine}", "(".repeat(deep), ")".repeat(deep));
    let functions = format!("const x = {}1{};\n{fine}", "() => { ".repeat(deep), " }".repeat(deep));
    // Nearly as long as a module may be, and each of its functions is compiled and called: almost four times what a start may
    // take.
    let huge: String = (0..450_000).map(|n| format!("(a => a + {n})(1);\n")).collect();
    rows.push(row("2 s of top-level work", format!("for (let i = 0; i < 4e9; i++);\n{fine}"), &[START_CPU]));
    rows.push(row("a top level without end", format!("await new Promise(() => {{}});\n{fine}"), &[NO_START]));
    rows.push(row(
        "a top level that fills memory",
        // Copies, which take 0.2 s of CPU time until memory is full; to fill each takes 0.27, near to a start's 0.4 on a busy machine.
        format!("const a = [], one = new Array(1e6).fill(0.5); for (;;) a.push(one.slice());\n{fine}"),
        &[START_MEMORY],
    ));
    rows.push(row("deep nesting", nested, &[NO_START]));
    rows.push(row("deep functions", functions, &[NO_START]));
    rows.push(row("a huge source", huge + &fine, &[START_CPU]));
    rows
}

/// A node with these Workers, `bad0` and on, and the neighbour `good`.
fn node<'a>(workers: impl Iterator<Item = (&'a Row, &'a str)>) -> TestNode {
    let (names, workers): (Vec<_>, Vec<_>) =
        workers.enumerate().map(|(number, worker)| (format!("bad{number}"), worker)).unzip();
    let deployed = names.iter().zip(&workers);
    let mut deployed: Vec<Deployed<'_>> =
        deployed.map(|(name, (row, source))| Deployed { cpu_ms: row.cpu_ms, ..active(name, source) }).collect();
    deployed.push(active("good", "export default { fetch() { return new Response('good') } }"));
    TestNode::start(&deployed, |_| {})
}

#[test]
fn each_ends_for_its_reason_and_the_next_is_served() {
    let rows = rows();
    let node = node(rows.iter().map(|row| (row, &*row.source)));
    let shard = &node.metrics.shards()[0];
    let mut neighbour = node.connect();
    assert_eq!(neighbour.get("good", "/").text(), "good");
    for (number, row) in rows.iter().enumerate() {
        let name = row.name;
        let logged_before = node.logs.texts().len();
        // Again: a start that failed is not tried at once, nor told of again.
        for round in 1..=2 {
            let before: Vec<u64> = row.endings.iter().map(|ending| shard.failures(ending.label)).collect();
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
            let ending = row.ending(&reply).unwrap_or_else(|| panic!("{name}, round {round}: {reply:?}"));
            for (known, before) in row.endings.iter().zip(before) {
                let counted = u64::from(known.label == ending.label && !known.label.is_empty());
                assert_eq!(shard.failures(known.label), before + counted, "{name}, round {round}: {}", known.label);
            }
            let logged = node.logs.texts().split_off(logged_before);
            assert!(
                logged.iter().any(|text| text.contains(ending.logged)) || ending.label.is_empty(),
                "{name}: {logged:?}"
            );
            println!("{most:?} beside {name}: {} {}", reply.status, ending.label);
            assert!(most < PROMPT, "{most:?} beside {name}");
        }
    }
    assert_eq!((shard.panics.get(), shard.restarts.get()), (0, 0));
}

#[test]
fn a_thousand_at_once_do_not_keep_the_neighbour_waiting() {
    let rows = rows();
    let copies = |copy| rows.iter().filter(move |row| copy < COSTLY_COPIES || !row.is_costly());
    let workers = (0..).flat_map(copies).take(AT_ONCE).enumerate();
    // Each has code of its own.
    let workers: Vec<(&Row, String)> = workers.map(|(at, row)| (row, format!("// {at}\n{}", row.source))).collect();
    let node = node(workers.iter().map(|(row, source)| (*row, &**source)));
    let mut neighbour = node.connect();
    neighbour.get("good", "/");
    let mut clients: Vec<_> = (0..AT_ONCE).map(|_| node.connect()).collect();
    let mut waits = Vec::new();
    let begun = Instant::now();
    let replies: Vec<Response> = thread::scope(|scope| {
        let asked: Vec<_> = clients
            .chunks_mut(AT_ONCE / 8)
            .enumerate()
            .map(|(thread, clients)| {
                scope.spawn(move || {
                    for (at, client) in clients.iter_mut().enumerate() {
                        let number = thread * (AT_ONCE / 8) + at;
                        client.send(crate::common::get(&format!("bad{number}"), "/").as_bytes());
                    }
                    clients.iter_mut().map(Client::response).collect::<Vec<_>>()
                })
            })
            .collect();
        while asked.iter().any(|asked| !asked.is_finished()) {
            let sent = Instant::now();
            assert_eq!(neighbour.get("good", "/").text(), "good");
            waits.push(sent.elapsed());
            thread::sleep(Duration::from_millis(5));
        }
        asked.into_iter().flat_map(|asked| asked.join().expect("all were answered")).collect()
    });
    let whole = begun.elapsed();
    let mut failures: BTreeMap<&str, u64> = BTreeMap::new();
    for ((row, _), reply) in workers.iter().zip(&replies) {
        let shed = (reply.status, reply.text().starts_with(SHED)) == (503, true);
        let ending = row.ending(reply).map(|ending| ending.label);
        let label = ending.or(shed.then_some("overloaded")).unwrap_or_else(|| panic!("{}: {reply:?}", row.name));
        *failures.entry(label).or_default() += 1;
    }
    waits.sort_unstable();
    let [median, p99, most] = [50, 99, 100].map(|part| waits[(waits.len() * part / 100).min(waits.len() - 1)]);
    println!(
        "neighbour: {} requests, median {median:?}, p99 {p99:?}, most {most:?}; the others: {failures:?}",
        waits.len()
    );
    // The starts alone take half of it.
    assert!(most < whole / 4, "most {most:?} of {whole:?}");
    assert!(median < PROMPT / 5, "median {median:?} of {}", waits.len());
    assert!(p99 < PROMPT, "p99 {p99:?} of {}", waits.len());
    assert_eq!(neighbour.get("good", "/").text(), "good");
    let shard = &node.metrics.shards()[0];
    assert!(failures.remove("").is_some(), "some answer");
    assert!(
        failures.get("overloaded").copied().unwrap_or_default() < AT_ONCE as u64 / 2,
        "most got a turn: {failures:?}"
    );
    for (label, count) in failures {
        assert_eq!(shard.failures(label), count, "{label}");
    }
    assert_eq!((shard.panics.get(), shard.restarts.get()), (0, 0));
}
