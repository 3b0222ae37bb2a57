//! Requests that are answered: at once, after a while, by streams.

mod support;

use support::*;

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
