//! Limits of a request besides CPU time and memory, and what becomes of requests that others take with them.

mod support;

use base::limits::{CONNECTIONS_PER_REQUEST_MAX, LOG_BYTES_PER_REQUEST_MAX, S_NS, SUBREQUESTS_MAX, WAIT_UNTIL_NS};
use base::{header::HeaderBlock, limits};
use bytes::Bytes;
use support::*;
use worker_api::{
    BodyEvent, Collecting, Effect, Event, Failure, FetchId, Held, IncomingBody, RequestId, RequestLimits, Worker,
    WorkerSpec,
};

fn limited(body: &str, change: impl FnOnce(&mut RequestLimits)) -> Worker {
    let mut spec = spec(&format!("export default {{ async fetch(request, env, ctx) {{ {body} }} }};"));
    change(&mut spec.limits);
    Worker::start(&engine(), spec).expect("starts")
}

fn fetches(effects: &[Effect]) -> Vec<FetchId> {
    let fetch = |effect: &Effect| match effect {
        Effect::Fetch { fetch, .. } => Some(*fetch),
        _ => None,
    };
    effects.iter().filter_map(fetch).collect()
}

fn answered(fetch: FetchId) -> Event {
    let body = IncomingBody::Full(Bytes::from_static(b"x"));
    Event::FetchResponse { fetch, status: 200, reason: "OK".into(), headers: HeaderBlock::new(), body }
}

#[test]
fn a_handler_that_only_ever_waits_ends_when_its_time_is_up() {
    let mut worker = limited("for (;;) await new Promise((r) => setTimeout(r, 400));", |l| l.wall_head_ns = S_NS);
    let mut all = ask(&mut worker, 1);
    let mut ms = 0;
    while !all.finished {
        let at_ns = worker.poll_timeout().expect("something is to come");
        ms = (at_ns - at_ms(0).monotonic_ns) / limits::MS_NS;
        let more = seen(&step(&mut worker, ms, Event::Timeout));
        (all.fail, all.finished) = (all.fail.or(more.fail), more.finished);
        all.logs.extend(more.logs);
    }
    assert_eq!((ms, all.fail), (1_000, Some(Failure::WallLimit)));
    assert!(all.logs[0].contains("wall time limit of 1 s until a response"), "{:?}", all.logs);
    assert!(!worker.condemned() && worker.poll_timeout().is_none(), "the isolate goes on, with nothing to wait for");
    assert_eq!(Failure::WallLimit.status(), 503);
}

#[test]
fn a_response_that_never_ends_is_cut_when_its_time_is_up() {
    let body = "return new Response(new ReadableStream({ async pull(c) { c.enqueue(new Uint8Array(1)); } }));";
    let mut worker = limited(body, |l| (l.wall_head_ns, l.wall_ns) = (S_NS, 2 * S_NS));
    assert!(ask(&mut worker, 1).streams);
    let mut all = Vec::new();
    for ms in (0..2_000).step_by(500) {
        all.extend(step(&mut worker, ms, Event::PullResponse { id: RequestId(1) }));
        all.extend(step(&mut worker, ms, Event::Timeout));
    }
    assert!(seen(&all).body.len() >= 4 && !seen(&all).finished, "{all:?}");
    let seen = seen(&step(&mut worker, 2_000, Event::Timeout));
    assert_eq!((seen.fail, seen.finished), (Some(Failure::WallLimit), true));
}

#[test]
fn requests_that_ended_in_time_are_left_alone() {
    let mut worker = limited("await new Promise((r) => setTimeout(r, 10)); return new Response('x');", |l| {
        l.wall_head_ns = S_NS;
    });
    ask(&mut worker, 1);
    step(
        &mut worker,
        5,
        Event::Request { id: RequestId(2), head: head("GET", "http://w.test/", &[], IncomingBody::Empty) },
    );
    let effects = step(&mut worker, 20, Event::Timeout);
    assert_eq!(effects.iter().filter(|effect| matches!(effect, Effect::Respond { status: 200, .. })).count(), 2);
    assert_eq!((worker.in_flight(), worker.poll_timeout()), (0, None));
}

#[test]
fn wait_until_has_its_time_after_the_client_has_left_too() {
    let mut worker = handler(
        "ctx.waitUntil((async () => { for (;;) await new Promise((r) => setTimeout(r, 1000)); })());
         await new Promise((r) => setTimeout(r, 1e8));",
    );
    ask(&mut worker, 1);
    assert!(!seen(&step(&mut worker, 100, Event::ClientGone { id: RequestId(1) })).finished);
    let wait_ms = WAIT_UNTIL_NS / limits::MS_NS;
    assert!(!seen(&step(&mut worker, 99 + wait_ms, Event::Timeout)).finished, "it has 30 s");
    assert!(seen(&step(&mut worker, 100 + wait_ms, Event::Timeout)).finished, "and no more");
}

#[test]
fn a_response_over_its_size_is_refused_or_cut() {
    let check = |body: &str| ask(&mut limited(body, |l| l.response_bytes = 1_000), 1);
    for body in [
        "return new Response('x'.repeat(1001));",
        "return new Response(new Uint8Array(1001));",
        "const s = new FixedLengthStream(1001); return new Response(s.readable);",
    ] {
        let seen = check(body);
        assert_eq!((seen.status, seen.fail, seen.finished), (None, Some(Failure::ResponseLimit), true), "{body}");
    }
    assert_eq!(check("return new Response('x'.repeat(1000));").status, Some(200));

    let mut worker = limited(
        "globalThis.cancelled ??= ''; if (cancelled) return new Response(cancelled);
         return new Response(new ReadableStream({
            pull(c) { c.enqueue(new Uint8Array(400)); }, cancel(e) { cancelled = e.message; } }));",
        |l| l.response_bytes = 1_000,
    );
    assert!(ask(&mut worker, 1).streams);
    let mut all = Vec::new();
    for ms in 1..10 {
        all.extend(step(&mut worker, ms, Event::PullResponse { id: RequestId(1) }));
    }
    let cut = seen(&all);
    assert_eq!((cut.body.len(), cut.fail, cut.finished), (800, Some(Failure::ResponseLimit), true), "{all:?}");
    let ended = all.iter().any(|effect| matches!(effect, Effect::ResponseBody { body: BodyEvent::End, .. }));
    assert!(!ended, "never a complete message");
    assert_eq!(text(&ask(&mut worker, 2)), "The response is too large", "the tenant's stream was told");
}

#[test]
fn the_subrequest_after_the_last_rejects_as_workers_know_it() {
    let body = "let n = 0; try { for (;;) { n++; await fetch('http://a.test/'); } } catch (e) {
        return new Response(`${n} ${e.name}: ${e.message}`); }";
    let mut worker = handler(body);
    let mut effects = step(&mut worker, 0, get(1));
    let mut held = Vec::new();
    for _ in 0..SUBREQUESTS_MAX {
        let fetch = fetches(&effects)[0];
        effects = step(&mut worker, 1, answered(fetch));
        held.extend(seen(&effects).held);
    }
    assert_eq!(text(&seen(&effects)), "51 Error: Too many subrequests by single Worker invocation.");
    assert_eq!(held, [Held::Subrequests]);
}

#[test]
fn six_outbound_requests_wait_at_a_time_and_the_next_ones_queue() {
    let body =
        "const all = []; for (let i = 0; i < 20; i++) all.push(fetch('http://a.test/' + i).then((r) => r.text()));
        return new Response((await Promise.all(all)).join(''));";
    let mut worker = handler(body);
    let effects = step(&mut worker, 0, get(1));
    let mut out = fetches(&effects);
    assert_eq!((out.len() as u32, seen(&effects).held), (CONNECTIONS_PER_REQUEST_MAX, vec![Held::Connections]));
    let mut done = Vec::new();
    while let Some(fetch) = out.pop() {
        let effects = step(&mut worker, 1, answered(fetch));
        out.extend(fetches(&effects));
        assert!(out.len() as u32 <= CONNECTIONS_PER_REQUEST_MAX);
        done.extend(effects);
    }
    assert_eq!(text(&seen(&done)), "x".repeat(20));
}

#[test]
fn a_queued_outbound_request_can_be_aborted_and_leaves_nothing() {
    let body = "const c = new AbortController(); const all = [];
        for (let i = 0; i < 6; i++) all.push(fetch('http://a.test/').catch((e) => e.message));
        all.push(fetch('http://a.test/', { signal: c.signal }).catch((e) => e.name)); c.abort();
        return new Response((await Promise.all(all)).join());";
    let mut worker = handler(body);
    let effects = step(&mut worker, 0, get(1));
    let cancelled = effects.iter().any(|effect| matches!(effect, Effect::CancelFetch { .. }));
    assert!(!cancelled, "the shard never knew of it: {effects:?}");
    let mut all = Vec::new();
    for fetch in fetches(&effects) {
        all.extend(step(&mut worker, 1, Event::FetchFailed { fetch, message: "no".into() }));
    }
    assert!(fetches(&all).is_empty(), "{all:?}");
    assert_eq!(text(&seen(&all)), "no,no,no,no,no,no,AbortError");
}

#[test]
fn log_text_of_a_request_has_a_limit_over_all_its_turns() {
    let mut worker = handler(
        "for (let i = 0; i < 50; i++) { console.log('x'.repeat(16000)); await new Promise((r) => setTimeout(r, 1)); }
         throw new Error('the end');",
    );
    let mut all = ask(&mut worker, 1);
    for ms in 1..200 {
        let more = seen(&step(&mut worker, ms, Event::Timeout));
        all.logs.extend(more.logs);
        all.held.extend(more.held);
    }
    let bytes: usize = all.logs.iter().map(String::len).sum();
    assert!(bytes <= LOG_BYTES_PER_REQUEST_MAX + 200, "{bytes}");
    assert_eq!((all.logs.iter().filter(|log| log.starts_with("log limit")).count(), all.held), (1, vec![Held::Log]));
}

#[test]
fn a_failed_request_passes_to_its_origin_where_the_handler_asked_for_it() {
    let check = |body: &str, passed: Option<Failure>, fail: Failure| {
        let mut worker = limited(body, |l| l.response_bytes = 1_000);
        let incoming = IncomingBody::Full(Bytes::from_static(b"body"));
        let event = Event::Request { id: RequestId(1), head: head("POST", "http://w.test/", &[], incoming) };
        let seen = seen(&step(&mut worker, 0, event));
        assert_eq!((seen.passed, seen.fail, seen.finished), (passed, Some(fail), true), "{body}: {seen:?}");
    };
    let pass = |body: &str, why: Failure| check(&format!("ctx.passThroughOnException(); {body}"), Some(why), why);
    pass("throw new Error('x');", Failure::Exception);
    pass("await new Promise(() => {});", Failure::Hung);
    pass("return 1;", Failure::NotAResponse);
    pass("for (;;);", Failure::CpuLimit);
    pass("return new Response('x'.repeat(2000));", Failure::ResponseLimit);
    check("throw new Error('x');", None, Failure::Exception);
    check("ctx.passThroughOnException(); await request.text(); throw 1;", None, Failure::Exception);
}

#[test]
fn nothing_passes_once_a_response_has_begun() {
    let mut worker = handler(
        "ctx.passThroughOnException(); return new Response(new ReadableStream({ pull(c) { throw new Error('x'); } }));",
    );
    let mut all = step(&mut worker, 0, get(1));
    all.extend(step(&mut worker, 1, Event::PullResponse { id: RequestId(1) }));
    assert_eq!((seen(&all).status, seen(&all).passed, seen(&all).finished), (Some(200), None, true), "{all:?}");
}

/// How a request ends that waited in an isolate while another one filled its heap.
fn displaced(method: &str, work: &str) -> Option<Failure> {
    let mut spec = spec(&format!(
        "const kept = []; export default {{ async fetch(request) {{
            if (request.url.endsWith('/eat')) for (;;) kept.push(new Array(1000).fill(kept.length));
            {work}
            await new Promise((r) => setTimeout(r, 10));
        }} }};"
    ));
    spec.heap_bytes = 32 << 20;
    spec.cpu_ns = 20 * S_NS;
    let mut worker = Worker::start(&engine(), spec).expect("starts");
    let body = if method == "POST" { IncomingBody::Full(Bytes::from_static(b"b")) } else { IncomingBody::Empty };
    step(&mut worker, 0, Event::Request { id: RequestId(1), head: head(method, "http://w.test/", &[], body) });
    let eat = Event::Request { id: RequestId(2), head: head("GET", "http://w.test/eat", &[], IncomingBody::Empty) };
    step(&mut worker, 0, eat).iter().find_map(|effect| match effect {
        Effect::Fail { id: RequestId(1), why } => Some(*why),
        _ => None,
    })
}

#[test]
fn a_request_that_others_take_with_them_says_whether_it_left_a_trace() {
    assert_eq!(displaced("GET", ""), Some(Failure::Interrupted));
    assert_eq!(displaced("POST", ""), Some(Failure::Interrupted), "the shard knows the method");
    assert_eq!(displaced("POST", "await request.text();"), Some(Failure::Condemned));
    assert_eq!(displaced("GET", "await fetch('http://a.test/');"), Some(Failure::Condemned));
}

#[test]
fn timers_that_are_due_after_their_isolate_has_ended_do_not_run() {
    const REQUESTS: u64 = 50;
    let mut spec = spec(
        "const kept = []; export default { async fetch() {
            await new Promise((r) => setTimeout(r, 1));
            for (;;) kept.push(new Array(1000).fill(kept.length));
        } };",
    );
    spec.heap_bytes = 32 << 20;
    spec.cpu_ns = 20 * S_NS;
    let mut worker = Worker::start(&engine(), spec).expect("starts");
    for id in 1..=REQUESTS {
        step(&mut worker, 0, get(id));
    }
    let effects = step(&mut worker, 5, Event::Timeout);
    let count = |matches: fn(&Effect) -> bool| effects.iter().filter(|effect| matches(effect)).count() as u64;
    assert_eq!(count(|effect| matches!(effect, Effect::Fail { why: Failure::MemoryLimit, .. })), 1);
    assert_eq!(count(|effect| matches!(effect, Effect::Fail { why: Failure::Interrupted, .. })), REQUESTS - 1);
    assert_eq!(count(|effect| matches!(effect, Effect::Finished { .. })), REQUESTS);
    assert_eq!(count(|effect| matches!(effect, Effect::Log(_))), 1, "the limit is told of once");
    assert_eq!((worker.in_flight(), worker.poll_timeout()), (0, None));
}

#[test]
fn a_timer_of_a_request_that_has_just_been_answered_does_not_run() {
    let mut worker = handler(
        "await new Promise((r) => { setTimeout(r, 1); setTimeout(() => console.log('late'), 1); });
         return new Response('x');",
    );
    ask(&mut worker, 1);
    let seen = seen(&step(&mut worker, 5, Event::Timeout));
    assert_eq!((text(&seen), seen.finished, seen.logs.len()), ("x", true, 0), "{seen:?}");
}

#[test]
fn a_turn_without_any_time_left_does_not_begin() {
    let mut spec = spec("export default { fetch() { console.log('ran'); return new Response('x'); } };");
    spec.cpu_ns = 0;
    let mut worker = Worker::start(&engine(), spec).expect("starts");
    let seen = ask(&mut worker, 1);
    assert_eq!((seen.status, seen.fail, seen.finished), (None, Some(Failure::CpuLimit), true), "{seen:?}");
    assert!(!seen.logs.iter().any(|log| log == "ran"), "{seen:?}");
    assert!(!worker.condemned(), "nothing was stopped in the middle");
}

/// Ten million rounds take about 10 ms once they are compiled, and 150 ms where the loop has to end first.
#[test]
fn a_long_loop_is_compiled_while_it_runs_for_the_first_time() {
    let body =
        "let x = 1; for (let i = 0; i < 10000000; i++) x = (Math.imul(x, 31) + i) | 0; return new Response(String(x));";
    let used_ns = (0..3).map(|_| {
        let mut worker = limited(body, |_| {});
        let head = head("GET", "http://w.test/", &[], IncomingBody::Empty);
        let effects = step(&mut worker, 1, Event::Request { id: RequestId(1), head });
        assert_eq!(seen(&effects).status, Some(200), "{effects:?}");
        effects.iter().find_map(|effect| match effect {
            Effect::Finished { cpu_ns, .. } => Some(*cpu_ns),
            _ => None,
        })
    });
    let least_ns = used_ns.flatten().min().expect("some ended");
    assert!(least_ns < limits::CPU_PER_REQUEST_NS / 2, "{least_ns} ns");
}

#[test]
fn a_collection_frees_garbage_and_keeps_what_is_held() {
    let source = r#"
        let runs = 0; const held = []; const names = new Map([["a", /x+/g]]);
        export default { fetch() {
          held.length = 0;
          if (++runs === 1) for (let i = 0; i < 200; i++) held.push(new Array(10000).fill(i + 0.5));
          if (runs === 4) for (let i = 0; i < 500; i++) held.push(new Array(10000).fill(i + 0.5));
          return new Response(`${runs} ${"xx".replace(names.get("a"), "y")}`);
        } };"#;
    let mut worker = Worker::start(&engine(), WorkerSpec { cpu_ns: 10 * S_NS, ..spec(source) }).expect("starts");
    assert_eq!(text(&ask(&mut worker, 1)), "1 y");
    assert_eq!(collect(&mut worker).0, Collecting::Done);
    let held = worker.heap_bytes();
    assert!(held > 16_000_000, "{held}: 200 arrays of 80 KB are held");
    assert_eq!(text(&ask(&mut worker, 2)), "2 y");
    assert_eq!(collect(&mut worker).0, Collecting::Done);
    assert!(worker.heap_bytes() < held - 15_000_000, "{} of {held}: they are garbage now", worker.heap_bytes());
    assert_eq!(text(&ask(&mut worker, 3)), "3 y", "the same isolate");
    assert_eq!(text(&ask(&mut worker, 4)), "4 y");
    assert_eq!(collect(&mut worker), (Collecting::Declined, 1), "40 MB are too much");
    assert_eq!(text(&ask(&mut worker, 5)), "5 y");
    assert!(!worker.condemned());
}

#[test]
fn a_collection_is_done_bit_by_bit_and_after_a_request_from_the_beginning() {
    let source = r#"
        const held = Array.from({ length: 200_000 }, (_, i) => ({ i, text: "k" + i }));
        export default { fetch() { return new Response(String(held.at(-1).text)); } };"#;
    let mut worker = Worker::start(&engine(), spec(source)).expect("starts");
    let (how, whole) = collect(&mut worker);
    assert!(how == Collecting::Done && whole > 6, "{how:?} in {whole} events: 12 MB take V8 more than 6 ms");
    for between in [1, 2, whole / 2, whole - 1] {
        for _ in 0..between {
            step(&mut worker, 0, Event::Collect);
        }
        assert_eq!(text(&ask(&mut worker, between as u64)), "k199999");
        assert_eq!(collect(&mut worker).0, Collecting::Done);
    }
    let id = RequestId(1_000_000);
    let waits =
        "export default { fetch: () => new Promise((go) => setTimeout(go, 10)).then(() => new Response('later')) };";
    let mut worker = Worker::start(&engine(), spec(waits)).expect("starts");
    step(&mut worker, 0, Event::Collect);
    step(&mut worker, 0, get(id.0));
    assert_eq!(collect(&mut worker), (Collecting::Declined, 1), "a request is open");
    assert_eq!(text(&seen(&step(&mut worker, 10, Event::Timeout))), "later");
}

/// Callbacks that a collection brings about run in it, within the Worker's limit.
#[test]
fn what_a_collection_calls_is_limited_too() {
    let source = |callback: &str| {
        format!(
            "const seen = []; const registry = new FinalizationRegistry((name) => {{ {callback} }});
             export default {{ fetch(request) {{
               if (request.url.endsWith('/let-go')) registry.register({{}}, 'gone');
               return new Response(seen.join());
             }} }};"
        )
    };
    let after_collection = |callback: &str| {
        let mut worker = Worker::start(&engine(), spec(&source(callback))).expect("starts");
        let head = head("GET", "http://w.test/let-go", &[], IncomingBody::Empty);
        step(&mut worker, 0, Event::Request { id: RequestId(1), head });
        let mut logs = Vec::new();
        let mut effects = step(&mut worker, 0, Event::Collect);
        while effects.iter().any(|effect| matches!(effect, Effect::Collected(Collecting::More))) {
            logs.extend(seen(&effects).logs);
            effects = step(&mut worker, 0, Event::Collect);
        }
        logs.extend(seen(&effects).logs);
        (worker, logs)
    };
    let (mut worker, logs) = after_collection("seen.push(name)");
    assert!(logs.is_empty() && text(&ask(&mut worker, 2)) == "gone", "{logs:?}");
    let (mut worker, logs) = after_collection("throw new Error('of ' + name)");
    assert!(logs.iter().any(|text| text.contains("of gone")), "{logs:?}");
    assert_eq!(text(&ask(&mut worker, 2)), "");
    let (worker, logs) = after_collection("for (;;);");
    assert!(worker.condemned() && logs.iter().any(|text| text.contains("CPU time limit")), "{logs:?}");
}

/// Why there are two full collections: after the first most of it would still be there.
#[test]
fn after_a_collection_another_gives_back_little() {
    let source = r#"
        export default { fetch(request) {
          const words = new Map();
          for (let i = 0; i < 300; i++) words.set("word" + i + request.url, { i, text: "x".repeat(i) });
          return new Response(JSON.stringify([...words.values()]).slice(0, 10));
        } };"#;
    let engine = engine();
    let mut workers: Vec<_> = (0..10).map(|_| Worker::start(&engine, spec(source)).expect("starts")).collect();
    for number in 1..=300 {
        for worker in &mut workers {
            assert_eq!(text(&ask(worker, number)), "[{\"i\":0,\"t");
        }
    }
    let mut collected = || {
        assert!(workers.iter_mut().all(|worker| collect(worker).0 == Collecting::Done));
        resident_bytes()
    };
    let (before, once, twice) = (resident_bytes(), collected(), collected());
    assert!(once + 10 * 500_000 < before && once < twice + 10 * 200_000, "{before}, {once}, {twice}");
}

/// Resident memory of this process.
#[expect(clippy::disallowed_methods, reason = "a test of the process, by the system's own account")]
fn resident_bytes() -> u64 {
    let rollup = std::fs::read_to_string("/proc/self/smaps_rollup").expect("proc");
    let line = rollup.lines().find_map(|line| line.strip_prefix("Rss:")).expect("Rss");
    1024 * line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number")
}

/// A first long answer spends its time on the answer and not on the best code for it: with the optimizing compiler's usual threshold
/// it took four times as long as the third.
#[test]
fn a_first_answer_of_many_chunks_costs_no_more_than_a_few_later_ones() {
    let source = r#"
        export default { fetch() {
          const encoder = new TextEncoder(); let line = 0;
          return new Response(new ReadableStream({ pull(controller) {
            if (line === 5000) controller.close(); else controller.enqueue(encoder.encode(`${++line}\n`));
          } }));
        } };"#;
    let engine = engine();
    let first_over_least = |_| {
        let mut worker = Worker::start(&engine, WorkerSpec { cpu_ns: 10_000_000_000, ..spec(source) }).expect("starts");
        let mut cpu_ns = |number: u64| {
            let id = RequestId(number);
            let mut effects = step(&mut worker, 0, get(number));
            for _ in 0..=5000 {
                effects = step(&mut worker, 0, Event::PullResponse { id });
            }
            let finished = effects.iter().find_map(|effect| match effect {
                Effect::Finished { cpu_ns, failure: None, .. } => Some(*cpu_ns),
                _ => None,
            });
            finished.unwrap_or_else(|| panic!("{effects:?}")) as f64
        };
        let first = cpu_ns(1);
        first / (2..=3).map(&mut cpu_ns).fold(first, f64::min)
    };
    let ratio = (0..3).map(first_over_least).fold(f64::MAX, f64::min);
    assert!(ratio < 2.5, "{ratio}");
}

/// A call that comes when a function has been compiled by V8's middle compiler, if that is on, never got to the best one's code.
#[test]
fn a_loop_is_as_fast_in_each_call() {
    let burn =
        "function burn(steps) { let x = 1; for (let i = 0; i < steps; i++) x = (Math.imul(x, 31) + i) | 0; return x; }
        let calls = 0;
        export default { fetch() { return new Response(String(burn(calls++ ? 1e7 : 100))); } };";
    let mut worker = Worker::start(&engine(), WorkerSpec { cpu_ns: 10_000_000_000, ..spec(burn) }).expect("starts");
    let mut cpu_ns = |id| {
        let effects = step(&mut worker, 0, get(id));
        let used = effects.iter().find_map(|effect| match effect {
            Effect::Finished { cpu_ns, failure: None, .. } => Some(*cpu_ns),
            _ => None,
        });
        used.unwrap_or_else(|| panic!("{effects:?}"))
    };
    let used: Vec<u64> = (1..=6).map(&mut cpu_ns).collect();
    let (least, most) = used[1..].iter().fold((u64::MAX, 0), |(least, most), it| (least.min(*it), most.max(*it)));
    assert!(most < 5 * least, "of one loop, ns: {used:?}");
}
