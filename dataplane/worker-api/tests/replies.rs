//! Requests that are answered: at once, after a while, by streams, several at a time; the grammar of `event.rs`.

mod support;

use bytes::Bytes;
use support::*;
use worker_api::{BodyEvent, Effect, Event, FetchId, IncomingBody, OutgoingBody, RequestId};

fn request(id: u64, method: &str, path: &str, body: IncomingBody) -> Event {
    Event::Request {
        id: RequestId(id),
        head: head(method, &format!("http://w.test{path}"), &[("X-Case", "Mixed")], body),
    }
}

fn fetches(effects: &[Effect]) -> Vec<FetchId> {
    let fetch = |effect: &Effect| match effect {
        Effect::Fetch { fetch, .. } => Some(*fetch),
        _ => None,
    };
    effects.iter().filter_map(fetch).collect()
}

#[test]
fn answers_at_once() {
    let mut worker = start("export default { fetch() { return new Response('hello'); } };");
    let effects = step(&mut worker, 0, get(1));
    let seen = seen(&effects);
    assert_eq!((seen.status, text(&seen), seen.finished), (Some(200), "hello", true), "{effects:?}");
    assert_eq!(worker.in_flight(), 0);
}

#[test]
fn answers_from_an_async_handler_with_env() {
    let mut worker =
        handler("await null; return new Response(env.GREETING + ' ' + request.method + ' ' + request.url);");
    let seen = ask(&mut worker, 1);
    assert_eq!(text(&seen), "hello GET http://w.test/", "{seen:?}");
}

#[test]
fn fields_go_both_ways() {
    let mut worker = handler(
        "const r = new Response(request.headers.get('x-case'), { status: 201, headers: { 'X-One': '1' } });
         r.headers.append('set-cookie', 'a=1'); r.headers.append('set-cookie', 'b=2'); return r;",
    );
    let effects = step(&mut worker, 0, request(1, "GET", "/", IncomingBody::Empty));
    let Some(Effect::Respond { status: 201, headers, body: OutgoingBody::Full(body), .. }) = effects.first() else {
        panic!("{effects:?}");
    };
    assert_eq!(&body[..], b"Mixed");
    let cookies = headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case(b"set-cookie")).count();
    assert_eq!((headers.get(b"x-one"), cookies), (Some(&b"1"[..]), 2));
    assert_eq!(headers.get(b"content-type"), Some(&b"text/plain;charset=UTF-8"[..]));
}

#[test]
fn requests_of_one_isolate_are_interleaved() {
    let mut worker = handler(
        "const wait = Number(new URL(request.url).pathname.slice(1));
         await new Promise((r) => setTimeout(r, wait)); console.log('after', wait); return new Response(String(wait));",
    );
    for (id, wait) in [(1, 30), (2, 10), (3, 20)] {
        let effects = step(&mut worker, 0, request(id, "GET", &format!("/{wait}"), IncomingBody::Empty));
        assert!(!seen(&effects).finished);
    }
    let mut order = Vec::new();
    while let Some(at) = worker.poll_timeout() {
        let ms = (at - at_ms(0).monotonic_ns) / 1_000_000;
        for effect in step(&mut worker, ms, Event::Timeout) {
            match effect {
                Effect::Respond { id, body: OutgoingBody::Full(body), .. } => order.push((ms, id.0, body)),
                // Each log record carries the request that it belongs to, across timers and promises.
                Effect::Log(record) => assert_eq!(record.request.map(|id| [30, 10, 20][id.0 as usize - 1]), Some(ms)),
                _ => {}
            }
        }
    }
    let expected = [(10, 2, Bytes::from("10")), (20, 3, Bytes::from("20")), (30, 1, Bytes::from("30"))];
    assert_eq!(order, expected);
}

#[test]
fn a_body_comes_in_chunks_that_are_pulled_and_goes_out_the_same_way() {
    let mut worker = handler(
        "return new Response(request.body.pipeThrough(new TransformStream({ transform(part, c) { c.enqueue(part); } })));",
    );
    let effects = step(&mut worker, 0, request(1, "POST", "/", IncomingBody::Stream));
    assert!(seen(&effects).streams, "{effects:?}");
    let id = RequestId(1);
    let mut echoed = Vec::new();
    for part in ["one ", "two ", "three"] {
        let pulled = step(&mut worker, 1, Event::PullResponse { id });
        let asks = pulled.iter().filter(|effect| matches!(effect, Effect::PullRequestBody { .. })).count();
        let early = seen(&effects).body;
        assert!(asks <= 1 && early.is_empty(), "{pulled:?}");
        let chunk = BodyEvent::Chunk(Bytes::copy_from_slice(part.as_bytes()));
        let effects = step(&mut worker, 2, Event::RequestBody { id, body: chunk });
        echoed.extend(seen(&effects).body);
    }
    assert_eq!(echoed, b"one two three");
    let mut last = step(&mut worker, 3, Event::PullResponse { id });
    last.extend(step(&mut worker, 3, Event::RequestBody { id, body: BodyEvent::End }));
    assert!(last.iter().any(|effect| matches!(effect, Effect::ResponseBody { body: BodyEvent::End, .. })), "{last:?}");
    assert!(seen(&last).finished && worker.in_flight() == 0);
}

#[test]
fn nothing_is_produced_that_nobody_pulled() {
    let mut worker = handler(
        "let n = 0; return new Response(new ReadableStream({ pull(c) { console.log('made', ++n); c.enqueue(new Uint8Array(1000)); } }, { highWaterMark: 0 }));",
    );
    let effects = step(&mut worker, 0, get(1));
    assert!(seen(&effects).logs.is_empty(), "{effects:?}");
    let pulled = seen(&step(&mut worker, 0, Event::PullResponse { id: RequestId(1) }));
    assert_eq!((pulled.body.len(), pulled.logs.len()), (1000, 1));
    assert!(step(&mut worker, 1, Event::Timeout).is_empty());
}

#[test]
fn a_client_that_goes_away_aborts_and_cancels_and_wait_until_goes_on() {
    let mut worker = handler(
        "request.signal.addEventListener('abort', () => console.log('aborted'));
         ctx.waitUntil(new Promise((r) => setTimeout(r, 20)).then(() => console.log('waited')));
         return new Response(new ReadableStream({ cancel() { console.log('cancelled'); } }));",
    );
    assert!(seen(&step(&mut worker, 0, get(1))).streams);
    let gone = seen(&step(&mut worker, 1, Event::ClientGone { id: RequestId(1) }));
    assert!(gone.logs.iter().any(|log| log == "cancelled") && !gone.finished, "{gone:?}");
    let end = seen(&step(&mut worker, 20, Event::Timeout));
    assert_eq!((end.logs, end.finished), (vec!["waited".to_owned()], true));
}

#[test]
fn wait_until_ends_thirty_seconds_after_the_reply() {
    let mut worker = handler("ctx.waitUntil(new Promise((r) => setTimeout(r, 60000))); return new Response('x');");
    let replied = ask(&mut worker, 1);
    assert!(replied.status == Some(200) && !replied.finished);
    let at = worker.poll_timeout().expect("a deadline");
    assert_eq!(at, at_ms(30_000).monotonic_ns);
    let end = seen(&step(&mut worker, 30_000, Event::Timeout));
    assert!(end.finished && end.logs[0].contains("waitUntil"), "{end:?}");
    assert_eq!(worker.poll_timeout(), None, "its timer went with it");
}

#[test]
fn an_outbound_request_is_answered_and_its_body_streams() {
    let mut worker = handler(
        "const r = await fetch('http://a.test/x', { method: 'POST', body: 'ping', headers: { a: 'b' } });
         return new Response(r.status + ' ' + await r.text());",
    );
    let effects = step(&mut worker, 0, get(1));
    let Some(Effect::Fetch { fetch, method, url, body: OutgoingBody::Full(body), .. }) = effects.first() else {
        panic!("{effects:?}");
    };
    assert_eq!((method.as_str(), url.as_str(), &body[..]), ("POST", "http://a.test/x", &b"ping"[..]));
    let fetch = *fetch;
    let headers = Default::default();
    let response =
        Event::FetchResponse { fetch, status: 200, reason: "OK".into(), headers, body: IncomingBody::Stream };
    let effects = step(&mut worker, 1, response);
    assert!(matches!(effects[..], [Effect::PullFetchBody { .. }]), "{effects:?}");
    let chunk = BodyEvent::Chunk(Bytes::from_static(b"pong"));
    let effects = step(&mut worker, 2, Event::FetchBody { fetch, body: chunk });
    assert!(matches!(effects[..], [Effect::PullFetchBody { .. }]), "{effects:?}");
    let seen = seen(&step(&mut worker, 3, Event::FetchBody { fetch, body: BodyEvent::End }));
    assert_eq!((text(&seen), seen.finished), ("200 pong", true));
}

#[test]
fn what_a_request_leaves_behind_is_dropped_with_it() {
    let mut worker = handler(
        "fetch('http://a.test/').catch(() => {}); setTimeout(() => console.log('never'), 5); return new Response('x');",
    );
    let effects = step(&mut worker, 0, get(1));
    let fetch = fetches(&effects);
    assert!(
        effects.iter().any(|effect| matches!(effect, Effect::CancelFetch { fetch: f } if *f == fetch[0])),
        "{effects:?}"
    );
    assert!(matches!(effects.last(), Some(Effect::Finished { failure: None, .. })));
    assert_eq!(worker.poll_timeout(), None);
    let stale = Event::FetchFailed { fetch: fetch[0], message: "late".into() };
    assert!(step(&mut worker, 9, stale).is_empty());
}

#[test]
fn a_response_to_head_has_no_body_and_keeps_its_length() {
    let mut worker = start(
        "export default { fetch() { const { readable } = new FixedLengthStream(42); return new Response(readable); } };",
    );
    let effects = step(&mut worker, 0, request(1, "HEAD", "/", IncomingBody::Empty));
    let Some(Effect::Respond { headers, body: OutgoingBody::Empty, .. }) = effects.first() else {
        panic!("{effects:?}")
    };
    assert_eq!(headers.get(b"content-length"), Some(&b"42"[..]));
    assert!(seen(&effects).finished);
}

#[test]
fn a_request_of_an_old_turn_cannot_answer_for_a_new_one() {
    let mut worker = start(
        "let first; export default { async fetch(request) {
            if (first === undefined) { first = Promise.withResolvers(); await first.promise; return new Response('one'); }
            first.resolve(); return new Response('two');
        } };",
    );
    // Nothing pending in the isolate: the first request is hung at once, and what it does later has no effect.
    assert_eq!(ask(&mut worker, 1).fail, Some(worker_api::Failure::Hung));
    let second = ask(&mut worker, 2);
    assert_eq!((text(&second), second.finished), ("two", true), "{second:?}");
}
