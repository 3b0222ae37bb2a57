//! Every way in which a request or a start can fail, each with what the client's side and the log see of it.

mod support;

use bytes::Bytes;
use support::*;
use worker_api::{BodyEvent, Effect, Event, Failure, FetchId, IncomingBody, RequestId, StartError, Worker, validate};

/// The one request of a fresh Worker with this handler fails so; returns its log.
fn check(body: &str, why: Failure) -> Vec<String> {
    let mut worker = handler(body);
    let effects = step(&mut worker, 0, get(1));
    let seen = seen(&effects);
    assert_eq!((seen.status, seen.fail, seen.finished), (None, Some(why), true), "{body}: {effects:?}");
    assert_eq!(worker.in_flight(), 0);
    seen.logs
}

#[test]
fn exceptions_reach_the_log_with_their_stack_and_the_client_never() {
    let logs = check("const deep = () => { throw new Error('secret') }; deep();", Failure::Exception);
    assert!(logs[0].contains("Error: secret") && logs[0].contains("at deep (worker.js:1"), "{logs:?}");
    let logs = check("throw 'a string';", Failure::Exception);
    assert!(logs[0].contains("a string"), "{logs:?}");
    check("return Promise.reject(new TypeError('later'));", Failure::Exception);
    let mut worker = start("export default { fetch() { throw new Error('sync'); } };");
    assert_eq!(ask(&mut worker, 1).fail, Some(Failure::Exception));
    assert_eq!(ask(&mut worker, 2).fail, Some(Failure::Exception), "and the isolate goes on");
    assert!(!worker.condemned());
}

#[test]
fn what_is_no_response_is_said_so() {
    for body in ["return 1;", "return;", "return {};", "return { status: 200 };", "return null;"] {
        check(body, Failure::NotAResponse);
    }
    check("const r = new Response('x'); await r.text(); return r;", Failure::Exception);
}

#[test]
fn a_promise_that_nothing_can_settle_is_hung() {
    let logs = check("await new Promise(() => {});", Failure::Hung);
    assert!(logs[0].contains("can never be answered"), "{logs:?}");
    let mut worker = handler("await new Promise((r) => setTimeout(r, 50)); await new Promise(() => {});");
    assert!(!ask(&mut worker, 1).finished, "a timer can still move it");
    let at = worker.poll_timeout().expect("a timer");
    assert_eq!(at, at_ms(50).monotonic_ns);
    let seen = seen(&step(&mut worker, 50, Event::Timeout));
    assert_eq!((seen.fail, seen.finished), (Some(Failure::Hung), true));
}

#[test]
fn cpu_time_ends_one_request_and_the_others_of_the_isolate_finish() {
    let mut worker = start(
        "export default { async fetch(request) {
            if (request.url.endsWith('/spin')) for (;;);
            await new Promise((r) => setTimeout(r, 10));
            return new Response('late');
        } };",
    );
    assert!(!ask(&mut worker, 1).finished);
    let spin = Event::Request { id: RequestId(2), head: head("GET", "http://w.test/spin", &[], IncomingBody::Empty) };
    let seen_spin = seen(&step(&mut worker, 0, spin));
    assert_eq!((seen_spin.fail, seen_spin.finished), (Some(Failure::CpuLimit), true));
    assert!(worker.condemned());
    assert_eq!(ask(&mut worker, 3).fail, Some(Failure::NotBegun), "no new requests");
    let late = seen(&step(&mut worker, 10, Event::Timeout));
    assert_eq!((late.status, text(&late), late.finished), (Some(200), "late", true));
    assert_eq!(worker.in_flight(), 0);
}

#[test]
fn cpu_time_adds_up_over_turns() {
    let body = "for (let i = 0; i < 40; i++) { await new Promise((r) => setTimeout(r, 1));
        const t = new Array(20000); for (let j = 0; j < 4e6; j++) t[j % 20000] = Math.sqrt(j * i); } return new Response('done');";
    let mut worker = handler(body);
    let mut all = ask(&mut worker, 1);
    for ms in 1..200 {
        if all.finished {
            break;
        }
        let more = seen(&step(&mut worker, ms, Event::Timeout));
        all.fail = all.fail.or(more.fail);
        all.finished |= more.finished;
    }
    assert_eq!(all.fail, Some(Failure::CpuLimit));
}

#[test]
fn memory_ends_all_requests_of_the_isolate() {
    let mut spec = spec(
        "const kept = []; export default { async fetch(request) {
            if (request.url.endsWith('/eat')) for (;;) kept.push(new Array(1000).fill(kept.length));
            await new Promise((r) => setTimeout(r, 10));
        } };",
    );
    spec.heap_bytes = 32 << 20;
    spec.cpu_ns = 20_000_000_000;
    let mut worker = Worker::start(&engine(), spec).expect("starts");
    assert!(!ask(&mut worker, 1).finished);
    let eat = Event::Request { id: RequestId(2), head: head("GET", "http://w.test/eat", &[], IncomingBody::Empty) };
    let effects = step(&mut worker, 0, eat);
    let of = |id: u64| {
        effects.iter().find_map(|effect| match effect {
            Effect::Fail { id: failed, why } if *failed == RequestId(id) => Some(*why),
            _ => None,
        })
    };
    assert_eq!((of(2), of(1)), (Some(Failure::MemoryLimit), Some(Failure::Interrupted)), "{effects:?}");
    assert!(worker.condemned() && worker.in_flight() == 0);
}

#[test]
fn buffers_count_as_memory_and_their_failure_can_be_caught() {
    let body = "const kept = []; try { for (;;) kept.push(new Uint8Array(8 << 20)); } catch (e) {
        const n = kept.length; kept.length = 0; return new Response(e.name + ' ' + n); }";
    let mut spec = spec(&format!("export default {{ async fetch() {{ {body} }} }};"));
    spec.cpu_ns = 20_000_000_000;
    let mut worker = Worker::start(&engine(), spec).expect("starts");
    let seen = ask(&mut worker, 1);
    let count: u32 = text(&seen).strip_prefix("RangeError ").and_then(|n| n.parse().ok()).unwrap_or_default();
    assert!((12..=16).contains(&count), "{seen:?}");
}

#[test]
fn resizable_buffers_count_across_requests() {
    let mut spec = spec(
        "const kept = []; export default { fetch() {
            const b = new ArrayBuffer(1, { maxByteLength: 1 << 25 }); b.resize(1 << 25); kept.push(b);
            return new Response(String(kept.length));
        } };",
    );
    spec.cpu_ns = 20_000_000_000;
    let mut worker = Worker::start(&engine(), spec).expect("starts");
    let ended = (0..64).find_map(|id| ask(&mut worker, id).fail.map(|why| (id, why)));
    assert!(matches!(ended, Some((3..=24, Failure::MemoryLimit | Failure::Exception))), "{ended:?}");
}

#[test]
fn too_many_requests_are_shed() {
    let mut worker = handler("await new Promise((r) => setTimeout(r, 1000));");
    for id in 0..base::limits::REQUESTS_PER_ISOLATE_MAX as u64 {
        assert!(!ask(&mut worker, id).finished);
    }
    let seen = ask(&mut worker, 1 << 20);
    assert_eq!((seen.fail, seen.finished), (Some(Failure::Overloaded), true));
}

#[test]
fn a_start_that_does_not_compile_says_where() {
    let error = try_start("export default {\n  fetch() { return new Response('x' }\n};").err();
    match error {
        Some(StartError::Syntax { message, line, column }) => {
            assert_eq!((line, column), (2, 33), "{message}");
            assert!(message.contains("SyntaxError"), "{message}");
        }
        other => panic!("{other:?}"),
    }
    match try_start("\nimport x from 'nothing';\nexport default { fetch() {} };").err() {
        Some(StartError::Syntax { message, line, .. }) => {
            assert_eq!(line, 2, "{message}");
            assert!(message.contains("nothing"), "{message}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_start_that_throws_says_where() {
    match try_start(
        "const a = 1;\nfunction f() {\n  throw new Error('at start');\n}\nf();\nexport default { fetch() {} };",
    )
    .err()
    {
        Some(StartError::Startup { message, stack, place }) => {
            assert_eq!(place, Some((3, 9)), "{stack}");
            assert!(message.contains("at start") && stack.contains("worker.js:3"), "{message} {stack}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_module_without_a_handler_is_none() {
    for source in [
        "export default {};",
        "export const x = 1;",
        "export default { fetch: 1 };",
        "export default { scheduled: {} };",
        "",
        "export default null;",
    ] {
        assert_eq!(try_start(source).err(), Some(StartError::NoFetch), "{source}");
    }
    start("class W { fetch() { return new Response('class'); } } export default new W();");
    start("export default { scheduled() {} };");
}

#[test]
fn a_start_has_limits_too() {
    assert_eq!(try_start("for (;;);").err(), Some(StartError::CpuLimit));
    assert_eq!(try_start("await (async () => { for (;;) await null; })();").err(), Some(StartError::CpuLimit));
    let mut small = spec("const a = []; for (;;) a.push(new Array(100000).fill(1.5)); export default { fetch() {} };");
    small.heap_bytes = 24 << 20;
    assert_eq!(Worker::start(&engine(), small).err(), Some(StartError::MemoryLimit));
    match try_start("await new Promise(() => {}); export default { fetch() {} };").err() {
        Some(StartError::Startup { message, .. }) => assert!(message.contains("await"), "{message}"),
        other => panic!("{other:?}"),
    }
    match try_start("setTimeout(() => {}, 1); export default { fetch() {} };").err() {
        Some(StartError::Startup { message, .. }) => assert!(message.contains("top level"), "{message}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn validate_tells_what_start_would() {
    let engine = engine();
    let good = Bytes::from_static(b"export default { fetch() {}, scheduled() {} };");
    assert_eq!(validate(&engine, good).expect("valid").handlers, ["fetch", "scheduled"]);
    assert_eq!(validate(&engine, Bytes::from_static(b"\xff\xfe")).err(), Some(StartError::NotUtf8));
    let large = Bytes::from(vec![b' '; base::limits::MODULE_BYTES_MAX + 1]);
    assert_eq!(validate(&engine, large).err(), Some(StartError::TooLarge));
}

#[test]
fn a_failed_outbound_request_is_a_type_error() {
    let mut worker =
        handler("try { await fetch('http://a.test/'); } catch (e) { return new Response(e.name + ': ' + e.message); }");
    let effects = step(&mut worker, 0, get(1));
    let fetch = effects.iter().find_map(|effect| match effect {
        Effect::Fetch { fetch, .. } => Some(*fetch),
        _ => None,
    });
    let failed = Event::FetchFailed { fetch: fetch.unwrap_or(FetchId(0)), message: "refused".into() };
    let seen = seen(&step(&mut worker, 1, failed));
    assert_eq!((text(&seen), seen.finished), ("TypeError: refused", true));
}

#[test]
fn a_stream_that_breaks_is_a_broken_message() {
    let mut worker = handler(
        "let n = 0; return new Response(new ReadableStream({ pull(c) {
            if (n++ === 0) c.enqueue(new TextEncoder().encode('part')); else throw new Error('broken'); } }));",
    );
    let effects = step(&mut worker, 0, get(1));
    assert!(seen(&effects).streams, "{effects:?}");
    let mut all = Vec::new();
    for ms in 1..4 {
        all.extend(step(&mut worker, ms, Event::PullResponse { id: RequestId(1) }));
    }
    let broken = all.iter().any(|effect| matches!(effect, Effect::ResponseBody { body: BodyEvent::Failed(_), .. }));
    assert!(broken && seen(&all).finished && text(&seen(&all)) == "part", "{all:?}");
}

#[test]
fn finalization_callbacks_run_after_a_collection_as_part_of_a_turn() {
    let mut worker = start(
        "const told = []; const registry = new FinalizationRegistry((held) => {
            told.push(held);
            if (held === 3) throw new Error('from a finalizer');
            if (held === 5) Promise.resolve().then(() => told.push('microtask'));
        });
        const make = () => { for (let i = 0; i < 8; i++) registry.register({ i }, i); };
        make();
        export default { fetch() {
            const kept = []; for (let i = 0; i < 3e5; i++) kept[i % 100] = { i, more: [i] };
            return new Response(JSON.stringify(told));
        } };",
    );
    let mut logs = Vec::new();
    let mut last = String::new();
    for id in 1..60 {
        let seen = ask(&mut worker, id);
        assert_eq!((seen.status, seen.fail), (Some(200), None), "{:?}", seen.logs);
        last = text(&seen).to_owned();
        logs.extend(seen.logs);
        if last.contains("microtask") && last.matches(',').count() == 8 {
            break;
        }
    }
    for held in 0..8 {
        assert!(last.contains(&held.to_string()), "{last}");
    }
    assert!(last.contains("microtask"), "{last}");
    let thrown: Vec<_> = logs.iter().filter(|text| text.contains("from a finalizer")).collect();
    assert_eq!(thrown.len(), 1, "{logs:?}");
}

#[test]
fn a_finalization_callback_that_never_ends_is_the_tenants_cpu_time() {
    let mut worker = start(
        "const registry = new FinalizationRegistry(() => { for (;;); });
        (() => { for (let i = 0; i < 8; i++) registry.register({ i }, i); })();
        export default { fetch() {
            const kept = []; for (let i = 0; i < 3e5; i++) kept[i % 100] = { i, more: [i] };
            return new Response('fine');
        } };",
    );
    let failed = (1..60).any(|id| {
        let effects = step(&mut worker, 0, get(id));
        effects.iter().any(|effect| matches!(effect, Effect::Finished { failure: Some(Failure::CpuLimit), .. }))
            || worker.condemned()
    });
    assert!(failed && worker.condemned());
    assert_eq!(worker.in_flight(), 0);
}

#[test]
fn rejections_past_what_is_looked_at_are_counted_once() {
    let mut worker = handler("for (let i = 0; i < 1000; i++) Promise.reject(i); return new Response('fine');");
    let seen = ask(&mut worker, 1);
    assert_eq!(seen.status, Some(200));
    let rejected = seen.logs.iter().filter(|text| text.contains("Uncaught (in promise)")).count();
    let told: Vec<_> = seen.logs.iter().filter(|text| text.contains("more promises")).collect();
    assert_eq!((rejected, told.len()), (256, 1), "{:?}", seen.logs.last());
    assert!(told[0].starts_with("744 more promises were rejected"), "{told:?}");
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the thread is what is tested")]
fn what_is_left_of_a_worker_is_dropped_by_another_thread() {
    let busy = "const kept = [];
    export default { async fetch(request) {
        for (let i = 0; i < 1e5; i++) kept.push({ i, text: 'x' + i });
        for (const format of ['gzip', 'deflate']) {
            const writer = new CompressionStream(format).writable.getWriter();
            await writer.ready;
            kept.push(writer);
        }
        kept.push(new TextDecoder('utf-8').decode(new Uint8Array([226]), { stream: true }));
        const rewritten = new HTMLRewriter()
            .on('p', { element(it) { it.append('!'); } })
            .transform(new Response(request.body))
            .body.getReader();
        kept.push(rewritten, await rewritten.read());
        await new Promise(() => setTimeout(() => {}, 1e6));
    } };";
    let mut other = handler("return new Response('fine');");
    for round in 1..=5 {
        let mut worker = start(busy);
        let body = IncomingBody::Stream;
        let request = head("POST", "http://w.test/", &[], body);
        step(&mut worker, 0, Event::Request { id: RequestId(1), head: request });
        let chunk = BodyEvent::Chunk(Bytes::from_static(b"<p>one</p><p>"));
        step(&mut worker, 0, Event::RequestBody { id: RequestId(1), body: chunk });
        assert_eq!(worker.in_flight(), 1, "in the middle of its work");
        let remains = worker.into_remains().expect("it was not given up");
        let thread = std::thread::spawn(move || drop(remains));
        assert_eq!(ask(&mut other, round).status, Some(200));
        thread.join().expect("another thread disposes of it");
    }
}
