//! Bodies that a Worker passes on: which of them go from socket to socket, and that those look the same to the program.

mod driver;
mod support;

use driver::{Answer, Origin, Outbound, Sent, run};
use support::handler;

/// An origin whose body comes in two chunks.
fn two_chunks(_: &Outbound) -> Origin {
    Origin::Reply(200, vec![("content-length", "7".into())], vec![b"abc".to_vec(), b"defg".to_vec()])
}

fn ask(body: &str, sent: Sent<'_>, origin: impl FnMut(&Outbound) -> Origin) -> Answer {
    let mut worker = handler(body);
    let method = if matches!(sent, Sent::None) { "GET" } else { "POST" };
    let answer = run(&mut worker, (method, "http://w.test/"), &[("content-length", "7")], sent, origin);
    assert_eq!(worker.in_flight(), 0);
    answer
}

#[test]
fn a_body_that_nobody_looks_at_is_passed_on() {
    for (program, length) in [
        ("return fetch('http://o.test/');", Some(7)),
        ("return await fetch('http://o.test/');", Some(7)),
        ("const r = await fetch('http://o.test/'); return new Response(r.body, r);", Some(7)),
        ("const r = await fetch('http://o.test/'); return new Response(r.body, { headers: { a: 'b' } });", Some(7)),
        ("const r = await fetch('http://o.test/'); r.body; return r;", Some(7)),
        (
            "const r = await fetch('http://o.test/'); return new Response(r.body.pipeThrough(new IdentityTransformStream()));",
            None,
        ),
        (
            "const r = await fetch('http://o.test/'); return new Response(r.body.pipeThrough(new TransformStream()));",
            None,
        ),
        (
            "const r = await fetch('http://o.test/'); return new Response(r.body.pipeThrough(new FixedLengthStream(7)));",
            Some(7),
        ),
        (
            "const r = await fetch('http://o.test/'); const { readable, writable } = new TransformStream();
             const piped = r.body.pipeTo(writable);
             ctx.waitUntil(piped.then(() => console.log('piped'), (error) => console.log('failed', error.name)));
             return new Response(readable, r);",
            None,
        ),
    ] {
        let answer = ask(program, Sent::None, two_chunks);
        assert_eq!((answer.text(), answer.length, answer.passed), ("abcdefg", length, true), "{program}: {answer:?}");
        if program.contains("piped") {
            assert!(answer.logs.iter().any(|record| record.text == "piped"), "{program}: {answer:?}");
        }
    }
}

#[test]
fn a_body_that_the_program_looks_at_is_not() {
    for program in [
        "const r = await fetch('http://o.test/'); return new Response(await r.text());",
        "const r = await fetch('http://o.test/'); const c = r.clone(); ctx.waitUntil(c.text()); return r;",
        "const r = await fetch('http://o.test/'); const [one, two] = r.body.tee(); ctx.waitUntil(new Response(two).text()); return new Response(one);",
        "const r = await fetch('http://o.test/');
         const t = new TransformStream({ transform(chunk, c) { c.enqueue(chunk); } }); return new Response(r.body.pipeThrough(t));",
        "const r = await fetch('http://o.test/'); const t = new TransformStream(); r.body.pipeTo(t.writable);
         const reader = t.readable.getReader();
         return new Response(new ReadableStream({ async pull(c) { const { done, value } = await reader.read(); done ? c.close() : c.enqueue(value); } }));",
        "const r = await fetch('http://o.test/'); const t = new TransformStream(); r.body.pipeTo(t.writable, { preventClose: true }).then(() => t.writable.close());
         return new Response(t.readable);",
    ] {
        let answer = ask(program, Sent::None, two_chunks);
        assert_eq!((answer.text(), answer.passed), ("abcdefg", false), "{program}: {answer:?}");
    }
}

#[test]
fn a_request_body_goes_to_the_origin_and_comes_back() {
    let mut seen = None;
    let answer = ask("return fetch('http://o.test/', request);", Sent::Chunks(b"request"), |out| {
        seen = Some((out.method.clone(), out.body.clone(), out.streamed));
        two_chunks(out)
    });
    assert_eq!((answer.text(), answer.passed), ("abcdefg", true), "{answer:?}");
    assert_eq!(seen, Some(("POST".to_owned(), b"request".to_vec(), Some(Some(7)))));
    let answer = ask("return new Response(request.body);", Sent::Chunks(b"echoed!"), two_chunks);
    assert_eq!((answer.text(), answer.length, answer.passed), ("echoed!", Some(7), true), "{answer:?}");
    let answer = ask(
        "const r = await fetch('http://o.test/'); const up = await fetch('http://o.test/', { method: 'PUT', body: r.body });
         return new Response(up.status + await up.text());",
        Sent::None,
        |out| if out.method == "PUT" { Origin::Reply(201, vec![], vec![out.body.clone()]) } else { two_chunks(out) },
    );
    assert_eq!((answer.text(), answer.passed), ("201abcdefg", true), "{answer:?}");
}

#[test]
fn a_body_that_was_passed_on_is_used() {
    let answer = ask(
        "const r = await fetch('http://o.test/'); const body = r.body; const passed = new Response(body);
         ctx.waitUntil(new Promise((done) => setTimeout(() => done(console.log(r.bodyUsed, body.locked, passed.bodyUsed)), 5)));
         return passed;",
        Sent::None,
        two_chunks,
    );
    assert!(answer.passed, "{answer:?}");
    let text = answer.logs.iter().map(|record| &record.text[..]).collect::<Vec<_>>();
    assert_eq!(text, ["true true true"], "{answer:?}");
    let answer = ask(
        "const r = await fetch('http://o.test/'); await fetch('http://o.test/', { method: 'PUT', body: r.body });
         try { await r.text(); } catch (error) { return new Response(error.name + r.bodyUsed); }",
        Sent::None,
        two_chunks,
    );
    assert_eq!(answer.text(), "TypeErrortrue", "{answer:?}");
}

#[test]
fn a_body_that_breaks_breaks_the_response_and_the_pipe() {
    let broken = |_: &Outbound| Origin::Break(200, vec![b"abc".to_vec()]);
    let answer = ask("return fetch('http://o.test/');", Sent::None, broken);
    assert_eq!(answer.broken.as_deref(), Some("connection reset"), "{answer:?}");
    assert!(answer.failure.is_some() && answer.logs.iter().any(|record| record.text.contains("connection reset")));
    let answer = ask(
        "const r = await fetch('http://o.test/'); const t = new IdentityTransformStream();
         ctx.waitUntil(r.body.pipeTo(t.writable).catch((error) => console.log(error.name, error.message)));
         return new Response(t.readable);",
        Sent::None,
        broken,
    );
    assert!(answer.logs.iter().any(|record| record.text == "TypeError connection reset"), "{answer:?}");
}

#[test]
fn a_response_to_head_cancels_what_it_would_have_passed_on() {
    let mut worker = handler("return fetch('http://o.test/');");
    let answer = run(&mut worker, ("HEAD", "http://w.test/"), &[], Sent::None, two_chunks);
    assert_eq!((answer.status, answer.passed, answer.cancelled.len()), (200, false, 1), "{answer:?}");
    assert_eq!(answer.header("content-length"), ["7"]);
}
