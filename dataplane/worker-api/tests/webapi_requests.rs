//! The incoming request as a program sees it: lazy bodies, clones, and a client that goes away.

mod driver;
mod support;

use base::limits;
use driver::{Origin, Sent, run};
use support::{at_ms, effects, handler, head};
use worker_api::{BodyEvent, Effect, Event, Failure, IncomingBody, OutgoingBody, RequestId, Worker};

/// Posts a body, whole and in chunks, and checks the answer.
fn check(program: &str, body: &[u8], wanted: &str) {
    let mut worker = handler(program);
    for sent in [Sent::Whole(body), Sent::Chunks(body)] {
        let headers = [("content-type", "text/plain"), ("X-Mixed", "case"), ("cookie", "a=b"), ("cookie", "c=d")];
        let answer =
            run(&mut worker, ("POST", "http://w.test/p?q"), &headers, sent, |out| -> Origin { panic!("{out:?}") });
        assert_eq!((answer.status, answer.text()), (200, wanted), "{program}: {answer:?}");
    }
}

#[test]
fn bodies_are_read_in_every_way() {
    check("return new Response(await request.text());", "grüße".as_bytes(), "grüße");
    check("return Response.json(await request.json());", br#"{"a":[1]}"#, r#"{"a":[1]}"#);
    check("return new Response(String((await request.arrayBuffer()).byteLength));", &[7; 100_000], "100000");
    check("return new Response(String((await request.bytes()).reduce((a, b) => a + b)));", &[2; 40_000], "80000");
    check("const b = await request.blob(); return new Response(b.type + b.size);", b"xyz", "text/plain3");
    check(
        "let n = 0; for await (const c of request.body) n += c.length; return new Response(String(n));",
        &[1; 50_000],
        "50000",
    );
    check("return new Response(request.body);", b"passed through", "passed through");
    check("return new Response(request.body.pipeThrough(new IdentityTransformStream()));", b"piped", "piped");
    check(
        "const r = request.body.getReader({ mode: 'byob' }); const { value } = await r.read(new Uint8Array(4)); return new Response(value);",
        b"1234567",
        "1234",
    );
}

#[test]
fn bodies_are_read_once_and_cloned_before() {
    check("await request.text(); return new Response(await request.text().catch((e) => e.name));", b"x", "TypeError");
    check("const c = request.clone(); return new Response(await c.text() + await request.text());", b"x", "xx");
    check("const c = new Request(request); return new Response(await c.text() + request.bodyUsed);", b"x", "xtrue");
    check(
        "const c = new Request('http://other/', request); return new Response(c.method + await c.text());",
        b"x",
        "POSTx",
    );
    check("request.body; return new Response(await request.text() + request.bodyUsed);", b"x", "xtrue");
    check(
        "const before = request.bodyUsed; await request.text(); return new Response(`${before}${request.bodyUsed}`);",
        b"x",
        "falsetrue",
    );
    check("return new Response('not read');", &[0; 100_000], "not read");
}

#[test]
fn headers_and_line() {
    check(
        "return new Response([request.method, request.url, request.headers.get('x-mixed'), request.headers.get('Cookie'), request.headers.has('none')].join('|'));",
        b"x",
        "POST|http://w.test/p?q|case|a=b, c=d|false",
    );
}

fn post(worker: &mut Worker, id: u64) -> Vec<Effect> {
    let head = head("POST", "http://w.test/", &[], IncomingBody::Stream);
    worker.handle(at_ms(0), Event::Request { id: RequestId(id), head });
    effects(worker)
}

#[test]
fn a_client_that_goes_away_aborts_the_signal() {
    for program in [
        // The signal was asked for before …
        "setTimeout(() => {}, 1000); const { promise, resolve } = Promise.withResolvers(); request.signal.onabort = () => { console.log('gone', request.signal.reason.name); resolve(); };
         await promise; return new Response('late');",
        // … or is asked for after.
"ctx.waitUntil(new Promise((r) => setTimeout(r, 50)).then(() => console.log('gone', request.signal.aborted && request.signal.reason.name)));
         await new Promise((r) => setTimeout(r, 1000)); return new Response('late');",
    ] {
        let mut worker = handler(program);
        assert!(post(&mut worker, 1).iter().all(|effect| !matches!(effect, Effect::Finished { .. })));
        worker.handle(at_ms(10), Event::ClientGone { id: RequestId(1) });
        let mut seen = effects(&mut worker);
        worker.handle(at_ms(60), Event::Timeout);
        seen.extend(effects(&mut worker));
        assert!(seen.iter().any(|e| matches!(e, Effect::Log(r) if r.text == "gone AbortError")), "{program}: {seen:?}");
        assert!(matches!(seen.last(), Some(Effect::Finished { .. })), "{program}: {seen:?}");
        assert_eq!(worker.in_flight(), 0);
    }
}

#[test]
fn a_client_that_goes_away_cancels_the_reply() {
    let mut worker = handler(
        "return new Response(new ReadableStream({ pull(c) { c.enqueue(new Uint8Array(10)); }, cancel(why) { console.log('cancelled', why.name); } }));",
    );
    let seen = post(&mut worker, 1);
    assert!(
        seen.iter().any(|e| matches!(e, Effect::Respond { body: OutgoingBody::Stream { length: None }, .. })),
        "{seen:?}"
    );
    worker.handle(at_ms(1), Event::ClientGone { id: RequestId(1) });
    let seen = effects(&mut worker);
    assert!(seen.iter().any(|e| matches!(e, Effect::Log(r) if r.text == "cancelled AbortError")), "{seen:?}");
    assert!(matches!(seen.last(), Some(Effect::Finished { .. })), "{seen:?}");
}

#[test]
fn a_request_body_that_breaks_rejects() {
    let mut worker = handler("return new Response(await request.text().catch((e) => e.name));");
    assert!(post(&mut worker, 1).iter().any(|effect| matches!(effect, Effect::PullRequestBody { .. })));
    let failed = BodyEvent::Failed("connection reset".into());
    worker.handle(at_ms(1), Event::RequestBody { id: RequestId(1), body: failed });
    let seen = effects(&mut worker);
    assert!(
        seen.iter().any(|e| matches!(e, Effect::Respond { body: OutgoingBody::Full(b), .. } if &b[..] == b"TypeError")),
        "{seen:?}"
    );
}

#[test]
fn one_chunk_is_pulled_at_a_time() {
    let mut worker = handler(
        "for await (const chunk of request.body) await new Promise((r) => setTimeout(r, 10)); return new Response('end');",
    );
    let pulls = |effects: &[Effect]| effects.iter().filter(|e| matches!(e, Effect::PullRequestBody { .. })).count();
    assert_eq!(pulls(&post(&mut worker, 1)), 1);
    worker.handle(at_ms(1), Event::RequestBody { id: RequestId(1), body: BodyEvent::Chunk(vec![1; 9].into()) });
    assert_eq!(pulls(&effects(&mut worker)), 0, "the program is busy with the first chunk");
    worker.handle(at_ms(20), Event::Timeout);
    assert_eq!(pulls(&effects(&mut worker)), 1);
}

#[test]
fn what_is_no_response() {
    for program in [
        "return 5;",
        "return undefined;",
        "return { status: 200, body: 'x' };",
        "return Object.create(Response.prototype);",
    ] {
        let mut worker = handler(program);
        let answer = run(&mut worker, ("GET", "http://w.test/"), &[], Sent::None, |_| Origin::Silence);
        assert_eq!(answer.failure, Some(Failure::NotAResponse), "{program}: {answer:?}");
    }
    for program in [
        "const r = new Response('x'); await r.text(); return r;",
        "return Response.error();",
        "const r = new Response('x'); r.body.getReader(); return r;",
    ] {
        let mut worker = handler(program);
        let answer = run(&mut worker, ("GET", "http://w.test/"), &[], Sent::None, |_| Origin::Silence);
        assert_eq!(answer.failure, Some(Failure::Exception), "{program}: {answer:?}");
        assert!(answer.logs.iter().any(|record| record.text.contains("TypeError")), "{program}: {answer:?}");
    }
}

#[test]
fn console_reaches_the_log_and_long_text_is_cut() {
    let mut worker = handler(
        "console.log('a', { b: [1, { c: new Map([['k', 1n]]) }] }); console.warn('%s is %d%%', 'x', 4); console.error(new RangeError('boom'));
         console.debug('x'.repeat(1e6)); return new Response('ok');",
    );
    let answer = run(&mut worker, ("GET", "http://w.test/"), &[], Sent::None, |_| Origin::Silence);
    let texts: Vec<_> = answer.logs.iter().map(|record| &record.text[..]).collect();
    assert_eq!(texts[0], "a { b: [ 1, { c: [Map] } ] }");
    assert_eq!(texts[1], "x is 4%");
    assert!(texts[2].starts_with("RangeError: boom\n    at "), "{}", texts[2]);
    assert!(texts[3].len() <= limits::LOG_BYTES_MAX && texts[3].len() > 1000);
}
