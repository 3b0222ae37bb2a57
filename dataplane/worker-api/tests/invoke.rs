//! Calls of a Worker that no client makes: by the clock, and by another Worker; and its own calls of others.

mod support;

use base::header::HeaderBlock;
use std::sync::Arc;
use support::{at_ms, effects, get, seen, spec, start, step, try_start};
use worker_api::{
    BodyEvent, Callee, Effect, Event, Failure, FetchId, IncomingBody, Invocation, OutgoingBody, RequestHead, RequestId,
    Worker, WorkerSpec,
};

fn scheduled(id: u64, cron: &str) -> Event {
    let invocation = Invocation::Scheduled { cron: cron.to_owned(), unix_ms: 1_700_000_040_000 };
    Event::Invoke { id: RequestId(id), invocation }
}

fn called(id: u64, entrypoint: &str, method: &str, body: IncomingBody) -> Event {
    let headers = [(&b"x-from"[..], &b"another"[..])].into_iter().collect();
    let head = Arc::new(RequestHead { method: method.into(), url: "https://any.where/path?q".into(), headers, body });
    let invocation = Invocation::Fetch { entrypoint: entrypoint.to_owned(), props: String::new(), head };
    Event::Invoke { id: RequestId(id), invocation }
}

#[test]
fn a_controller_says_what_is_due_and_the_run_ends_with_its_work() {
    let source = "export default { async scheduled(controller, env, ctx) {
        console.log(controller.cron, controller.scheduledTime, controller.type, env.GREETING, arguments.length);
        controller.noRetry();
        ctx.waitUntil(new Promise((done) => setTimeout(() => { console.log('waited'); done(); }, 50)));
        await Promise.resolve();
        console.log('over');
    } };";
    let mut worker = start(source);
    assert_eq!(worker.handlers(), ["scheduled"]);
    let first = seen(&step(&mut worker, 0, scheduled(1, "*/5 * * * *")));
    assert_eq!(first.logs, ["*/5 * * * * 1700000040000 scheduled hello 3", "over"]);
    assert!(!first.finished && first.status.is_none());
    let rest = seen(&step(&mut worker, 50, Event::Timeout));
    assert_eq!((rest.logs, rest.finished, rest.fail), (vec!["waited".to_owned()], true, None));
    assert_eq!(worker.in_flight(), 0);
}

#[test]
fn a_run_fails_with_what_it_throws_or_when_it_can_never_end() {
    let check = |body: &str, why: Failure, says: &str| {
        let mut worker = start(&format!("export default {{ scheduled(controller, env, ctx) {{ {body} }} }};"));
        let seen = seen(&step(&mut worker, 0, scheduled(1, "* * * * *")));
        assert_eq!((seen.fail, seen.finished), (Some(why), true), "{body}");
        assert!(seen.logs.iter().any(|log| log.contains(says)), "{body}: {:?}", seen.logs);
    };
    check("throw new RangeError('no such day')", Failure::Exception, "RangeError: no such day");
    check("return Promise.reject('text')", Failure::Exception, "text");
    check("return new Promise(() => {})", Failure::Hung, "pending");
    check("for (;;) {}", Failure::CpuLimit, "CPU time limit");
    let mut worker = start("export default { fetch() { return new Response('a') } };");
    let seen = seen(&step(&mut worker, 0, scheduled(1, "* * * * *")));
    assert_eq!(seen.fail, Some(Failure::Exception));
    assert!(seen.logs[0].contains("does not export a scheduled() function"), "{:?}", seen.logs);
}

#[test]
fn a_run_may_take_as_long_as_a_response_and_no_longer() {
    let mut worker =
        start("export default { scheduled() { return new Promise((done) => setInterval(() => {}, 60000)) } };");
    step(&mut worker, 0, scheduled(1, "* * * * *"));
    for minute in 1..15 {
        assert!(!seen(&step(&mut worker, minute * 60_000, Event::Timeout)).finished, "minute {minute}");
    }
    let end = seen(&step(&mut worker, 900_000, Event::Timeout));
    assert_eq!((end.fail, end.finished), (Some(Failure::WallLimit), true));
}

#[test]
fn a_run_that_another_requests_doing_ends_may_be_begun_again_unless_it_said_no() {
    for (says, why) in [("", Failure::Interrupted), ("controller.noRetry();", Failure::Condemned)] {
        let mut worker = start(&format!(
            "export default {{ fetch() {{ const all = []; for (;;) all.push(new Array(1000).fill(all.length)); }},
               scheduled(controller) {{ {says} return new Promise((done) => setTimeout(done, 1000)); }} }};"
        ));
        step(&mut worker, 0, scheduled(1, "* * * * *"));
        let all = step(&mut worker, 1, get(2));
        let run = all.iter().find_map(|effect| match effect {
            Effect::Fail { id: RequestId(1), why } => Some(*why),
            _ => None,
        });
        if let Some(run) = run {
            assert_eq!(run, why);
        } else {
            // The CPU limit was met before memory's: the run goes on in the condemned isolate and is not ours to judge.
            assert!(worker.condemned());
        }
    }
}

#[test]
fn a_worker_without_a_handler_is_none_and_one_without_fetch_says_so() {
    for source in ["export default {};", "export const a = 1;", "export default { fetch: 1, scheduled: {} };"] {
        assert!(try_start(source).is_err(), "{source}");
    }
    let mut worker = start("export default { scheduled() {} };");
    let seen = seen(&step(&mut worker, 0, get(1)));
    assert_eq!(seen.fail, Some(Failure::Exception));
    assert!(seen.logs[0].contains("does not export a fetch() function"), "{:?}", seen.logs);
}

#[test]
fn another_worker_calls_an_entrypoint_and_is_told_what_it_threw_and_not_where() {
    let source = "export default { async fetch(request) {
            if (request.method === 'DELETE') throw new TypeError('not that');
            return new Response(`${request.url} ${request.headers.get('x-from')} ${await request.text()}`, { status: 202 });
        } };
        export const other = { fetch: (request, env, ctx) => new Response(`other ${env.GREETING} ${typeof ctx.waitUntil}`) };
        export const nothing = 5;";
    let mut worker = start(source);
    let body = IncomingBody::Full("body".into());
    let answer = seen(&step(&mut worker, 0, called(1, "", "POST", body)));
    assert_eq!((answer.status, &answer.body[..]), (Some(202), &b"https://any.where/path?q another body"[..]));
    assert!(answer.finished);
    let answer = seen(&step(&mut worker, 0, called(2, "other", "GET", IncomingBody::Empty)));
    assert_eq!(&answer.body[..], b"other hello function");
    let all = step(&mut worker, 0, called(3, "", "DELETE", IncomingBody::Empty));
    let thrown = all.iter().find_map(|effect| match effect {
        Effect::Threw { id, name, message } => Some((id.0, name.as_str(), message.as_str())),
        _ => None,
    });
    assert_eq!(thrown, Some((3, "TypeError", "not that")));
    assert_eq!(seen(&all).fail, Some(Failure::Exception));
    for name in ["nothing", "missing", "__proto__", "toString"] {
        let all = step(&mut worker, 0, called(9, name, "GET", IncomingBody::Empty));
        assert!(
            all.iter().any(
                |effect| matches!(effect, Effect::Threw { message, .. } if message.contains("no entrypoint named"))
            ),
            "{name}: {all:?}"
        );
    }
}

fn with_service(source: &str) -> Worker {
    let spec = WorkerSpec { services: vec!["OTHER".to_owned()], ..spec(source) };
    Worker::start(&support::engine(), spec).expect("starts")
}

/// The one call among effects.
fn call(all: Vec<Effect>) -> (FetchId, RequestHead, OutgoingBody, bool) {
    let mut calls = all.into_iter().map(|effect| match effect {
        Effect::Call { fetch, service: Callee::Service(0), rpc, head, body, .. } => (fetch, head, body, rpc),
        other => panic!("{other:?}"),
    });
    let call = calls.next().expect("a call");
    assert!(calls.next().is_none());
    call
}

#[test]
fn a_service_is_called_like_the_world_outside_and_by_its_place() {
    let source = "export default { async fetch(request, env) {
        const answer = await env.OTHER.fetch('https://other/a?b', { method: 'PUT', body: 'up', headers: { x: '1' } });
        return new Response(`${answer.status} ${answer.headers.get('y')} ${await answer.text()}`);
    } };";
    let mut worker = with_service(source);
    let (fetch, head, body, rpc) = call(step(&mut worker, 0, get(1)));
    assert_eq!((head.method.as_str(), head.url.as_str(), rpc), ("PUT", "https://other/a?b", false));
    assert_eq!(head.headers.get(b"x"), Some(&b"1"[..]));
    assert!(matches!(body, OutgoingBody::Full(bytes) if bytes == "up"));
    let headers: HeaderBlock = [(&b"y"[..], &b"2"[..])].into_iter().collect();
    let body = IncomingBody::Stream;
    step(&mut worker, 1, Event::FetchResponse { fetch, status: 201, reason: String::new(), headers, body });
    step(&mut worker, 2, Event::FetchBody { fetch, body: BodyEvent::Chunk("down".into()) });
    let end = seen(&step(&mut worker, 3, Event::FetchBody { fetch, body: BodyEvent::End }));
    assert_eq!((end.status, &end.body[..]), (Some(200), &b"201 2 down"[..]));
}

#[test]
fn what_a_service_throws_is_thrown_here_with_its_name_and_message_and_our_stack() {
    let source = "export default { async fetch(request, env) {
        try { await env.OTHER.fetch('https://other/'); } catch (error) {
            return new Response(`${error.name}|${error.message}|${error instanceof RangeError}|${error.stack.includes('worker.js')}`);
        }
    } };";
    let check = |name: &str, expect: &str| {
        let mut worker = with_service(source);
        let (fetch, ..) = call(step(&mut worker, 0, get(1)));
        let event = Event::CallThrew { fetch, name: name.to_owned(), message: "too far".to_owned() };
        let end = seen(&step(&mut worker, 1, event));
        let text = String::from_utf8(end.body).expect("UTF-8");
        assert!(text.starts_with(expect), "{text}");
    };
    check("RangeError", "RangeError|too far|true|");
    check("MyError", "MyError|too far|false|");
}

#[test]
fn a_service_cannot_be_called_at_start_nor_made_nor_passed_as_another() {
    assert!(
        Worker::start(
            &support::engine(),
            WorkerSpec {
                services: vec!["OTHER".to_owned()],
                ..spec("import { env } from 'cloudflare:workers'; await env.OTHER.fetch('https://a/'); export default { fetch() {} }")
            }
        )
        .is_err()
    );
    let source = "export default { async fetch(request, env) {
        const said = [];
        for (const wrong of [() => new Fetcher(), () => new env.OTHER.constructor(), () => env.OTHER.fetch(), () => env.OTHER.fetch('not a url'), () => env.OTHER.fetch('ftp://a/')]) {
            try { await wrong(); said.push('none'); } catch (error) { said.push(error.name); }
        }
        return new Response(said.join());
    } };";
    let mut worker = with_service(source);
    let end = seen(&step(&mut worker, 0, get(1)));
    assert_eq!(String::from_utf8(end.body).expect("UTF-8"), "TypeError,TypeError,TypeError,TypeError,TypeError");
    worker.handle(at_ms(1), get(2));
    assert!(effects(&mut worker).iter().any(|effect| matches!(effect, Effect::Finished { .. })));
}
