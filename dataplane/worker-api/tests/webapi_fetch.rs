//! Outbound `fetch` by the Fetch standard: what goes out, redirects, aborts and broken answers.

mod driver;
mod support;

use driver::{Answer, Origin, Outbound, Sent, run};
use support::handler;

fn text(text: &str) -> Vec<Vec<u8>> {
    vec![text.as_bytes().to_vec()]
}

/// Runs a handler's body for one GET and gives its answer and what went out.
fn ask(body: &str, mut origin: impl FnMut(&Outbound) -> Origin) -> (Answer, Vec<Outbound>) {
    let mut sent = Vec::new();
    let mut worker = handler(body);
    let answer = run(&mut worker, ("GET", "http://w.test/"), &[], Sent::None, |outbound| {
        sent.push(outbound.clone());
        origin(outbound)
    });
    (answer, sent)
}

/// The answer's text must be `wanted`.
fn check(body: &str, origin: impl FnMut(&Outbound) -> Origin, wanted: &str) -> Vec<Outbound> {
    let (answer, sent) = ask(body, origin);
    assert_eq!((answer.status, answer.text()), (200, wanted), "{answer:?}");
    sent
}

#[test]
fn what_goes_out_and_what_comes_back() {
    let sent = check(
        "const r = await fetch('http://o.test/p?q#fragment', { method: 'post', headers: { A: 'b' }, body: 'data' });
         return new Response([r.status, r.statusText, r.ok, r.url, r.redirected, r.headers.get('x'), await r.text()].join('|'));",
        |_| Origin::Reply(201, vec![("X", "y".into())], text("body")),
        "201|Reason|true|http://o.test/p?q#fragment|false|y|body",
    );
    let out = &sent[0];
    assert_eq!((&out.method[..], &out.url[..], &out.body[..]), ("POST", "http://o.test/p?q", &b"data"[..]));
    assert_eq!((out.header("a"), out.header("content-type")), (Some("b"), Some("text/plain;charset=UTF-8")));
}

#[test]
fn bodies_stream_in_both_directions() {
    let sent = check(
        "const body = new ReadableStream({ start(c) { c.enqueue(new Uint8Array([1, 2])); c.enqueue(new Uint8Array([3])); c.close(); } });
         const r = await fetch('http://o.test/', { method: 'PUT', body, duplex: 'half' });
         let n = 0; const sizes = []; for await (const chunk of r.body) { n += chunk.length; sizes.push(chunk.length); }
         return Response.json({ n, sizes });",
        |_| Origin::Reply(200, vec![], vec![vec![0; 5], vec![0; 7]]),
        r#"{"n":12,"sizes":[5,7]}"#,
    );
    assert_eq!((&sent[0].body[..], sent[0].streamed), (&[1, 2, 3][..], Some(None)));
    let sent = check(
        "const f = new FixedLengthStream(3); const w = f.writable.getWriter(); w.write(new Uint8Array(3)); w.close();
         return new Response(String((await fetch('http://o.test/', { method: 'POST', body: f.readable })).status));",
        |_| Origin::Reply(200, vec![], vec![]),
        "200",
    );
    assert_eq!(sent[0].streamed, Some(Some(3)));
}

#[test]
fn an_answer_is_passed_through_with_its_length() {
    let (answer, _) = ask("return fetch('http://o.test/');", |_| {
        Origin::Reply(
            203,
            vec![("content-length", "7".into()), ("x-a", "b".into())],
            vec![b"abc".to_vec(), b"defg".to_vec()],
        )
    });
    assert_eq!((answer.status, answer.text(), answer.length), (203, "abcdefg", Some(7)), "{answer:?}");
    assert_eq!(answer.header("x-a"), ["b"]);
}

#[test]
fn redirects_are_followed() {
    let sent = check(
        "const r = await fetch('http://o.test/a#frag', { headers: { Authorization: 'secret', X: 'y' } });
         return new Response([r.url, r.redirected, await r.text()].join('|'));",
        |out| match &out.url[..] {
            "http://o.test/a" => Origin::Reply(302, vec![("Location", "b?c".into())], text("gone")),
            "http://o.test/b?c" => {
                Origin::Reply(307, vec![("location", "http://other.test/".into())], vec![b"1".to_vec(), b"2".to_vec()])
            }
            _ => Origin::Reply(200, vec![], text("end")),
        },
        "http://other.test/#frag|true|end",
    );
    assert_eq!(sent.len(), 3);
    assert_eq!((sent[1].header("authorization"), sent[1].header("x")), (Some("secret"), Some("y")));
    assert_eq!((sent[2].header("authorization"), sent[2].header("x")), (None, Some("y")), "another origin");
}

#[test]
fn redirects_change_the_method_as_the_standard_says() {
    for (status, method, then, kept) in [
        (301, "POST", "GET", false),
        (302, "POST", "GET", false),
        (303, "PUT", "GET", false),
        (303, "HEAD", "HEAD", false),
        (307, "POST", "POST", true),
        (308, "PUT", "PUT", true),
        (301, "PUT", "PUT", true),
    ] {
        let body = if method == "HEAD" { "" } else { ", body: 'data'" };
        let source = format!(
            "const r = await fetch('http://o.test/', {{ method: '{method}'{body} }}); return new Response(String(r.status));"
        );
        let sent = check(
            &source,
            |out| {
                if out.url.ends_with("next") {
                    Origin::Reply(200, vec![], vec![])
                } else {
                    Origin::Reply(status, vec![("location", "/next".into())], vec![])
                }
            },
            "200",
        );
        let next = &sent[1];
        assert_eq!((&next.method[..], !next.body.is_empty()), (then, kept), "{status} {method}");
        assert_eq!(next.header("content-type").is_some(), kept, "{status} {method}");
    }
}

#[test]
fn redirect_modes_and_limits() {
    let redirect = |_: &Outbound| Origin::Reply(302, vec![("location", "/again".into())], vec![]);
    let sent = check(
        "const r = await fetch('http://o.test/', { redirect: 'manual' }); return new Response(r.status + r.headers.get('location'));",
        redirect,
        "302/again",
    );
    assert_eq!(sent.len(), 1);
    check(
        "return new Response(await fetch('http://o.test/', { redirect: 'error' }).catch((e) => e.name));",
        redirect,
        "TypeError",
    );
    let sent = check("return new Response(await fetch('http://o.test/').catch((e) => e.name));", redirect, "TypeError");
    assert_eq!(sent.len(), 21, "20 redirects are followed");
    for location in ["ftp://x/", "http://[", "http://u:p@x/", "data:,x"] {
        let to = |_: &Outbound| Origin::Reply(302, vec![("location", location.into())], vec![]);
        let sent = check("return new Response(await fetch('http://o.test/').catch((e) => e.name));", to, "TypeError");
        assert_eq!(sent.len(), 1, "{location}");
    }
    let none = |_: &Outbound| Origin::Reply(302, vec![], text("no location"));
    check("return new Response(await (await fetch('http://o.test/')).text());", none, "no location");
    let sent = check(
        "const body = new ReadableStream({ start(c) { c.enqueue(new Uint8Array(1)); c.close(); } });
         return new Response(await fetch('http://o.test/', { method: 'POST', body }).catch((e) => e.name));",
        |_| Origin::Reply(307, vec![("location", "/again".into())], vec![]),
        "TypeError",
    );
    assert_eq!(sent.len(), 1, "a stream cannot be sent twice");
}

#[test]
fn what_cannot_be_fetched() {
    let nothing = |_: &Outbound| -> Origin { panic!("nothing goes out") };
    for url in ["/relative", "", "http://u:p@o.test/", "ftp://o.test/", "file:///etc/passwd", "blob:x", "http://"] {
        check(&format!("return new Response(await fetch({url:?}).catch((e) => e.name));"), nothing, "TypeError");
    }
    check("return new Response(await fetch().catch((e) => e.name));", nothing, "TypeError");
    check(
        "return new Response(await fetch('http://o.test/', { body: 'x' }).catch((e) => e.name));",
        nothing,
        "TypeError",
    );
    check(
        "const r = new Request('http://o.test/', { method: 'POST', body: 'x' }); await r.text();
         return new Response(await fetch(r).catch((e) => e.name));",
        nothing,
        "TypeError",
    );
    check(
        "return new Response(await fetch('http://o.test/').catch((e) => e.name + e.message));",
        |_| Origin::Fail("refused"),
        "TypeErrorrefused",
    );
}

#[test]
fn abort() {
    let (answer, sent) = ask(
        "const c = new AbortController(); setTimeout(() => c.abort(), 10);
         return new Response(await fetch('http://o.test/', { signal: c.signal }).catch((e) => e.name));",
        |_| Origin::Silence,
    );
    assert_eq!((answer.text(), answer.cancelled.len(), sent.len()), ("AbortError", 1, 1), "{answer:?}");
    let (answer, sent) = ask(
        "return new Response(await fetch('http://o.test/', { signal: AbortSignal.abort('why') }).catch((e) => e));",
        |_| Origin::Silence,
    );
    assert_eq!((answer.text(), sent.len()), ("why", 0), "{answer:?}");
    let (answer, _) = ask(
        "return new Response(await fetch('http://o.test/', { signal: AbortSignal.timeout(20) }).catch((e) => e.name));",
        |_| Origin::Silence,
    );
    assert_eq!(answer.text(), "TimeoutError");
    let (answer, _) = ask(
        "const c = new AbortController();
         const r = await fetch('http://o.test/', { signal: c.signal });
         const reader = r.body.getReader(); await reader.read(); c.abort('enough');
         return new Response(await reader.read().catch((e) => e));",
        |_| Origin::Reply(200, vec![], vec![b"1".to_vec(), b"2".to_vec()]),
    );
    assert_eq!((answer.text(), answer.cancelled.len()), ("enough", 1), "{answer:?}");
}

#[test]
fn a_body_that_breaks() {
    check(
        "const r = await fetch('http://o.test/'); return new Response(await r.text().catch((e) => e.name));",
        |_| Origin::Break(200, vec![b"part".to_vec()]),
        "TypeError",
    );
    let (answer, _) = ask("return fetch('http://o.test/');", |_| Origin::Break(200, vec![b"part".to_vec()]));
    assert_eq!((answer.status, answer.text()), (200, "part"), "{answer:?}");
    assert!(answer.broken.is_some(), "a broken answer must not look complete");
}

#[test]
fn answers_without_a_body() {
    check(
        "const r = await fetch('http://o.test/'); return new Response([r.status, r.body, await r.text()].join());",
        |_| Origin::Reply(204, vec![], vec![]),
        "204,,",
    );
    check(
        "const r = await fetch('http://o.test/', { method: 'HEAD' }); return new Response([r.status, r.body].join());",
        |_| Origin::Reply(200, vec![("content-length", "5".into())], vec![]),
        "200,",
    );
}

#[test]
fn the_fifty_first_outbound_request_is_refused() {
    let sent = check(
        "let n = 0; try { for (; n < 2000; n++) await fetch('http://o.test/' + n); } catch { }
         return new Response(String(n));",
        |_| Origin::Reply(200, vec![], vec![]),
        "50",
    );
    assert_eq!(sent.len(), 50);
}

#[test]
fn an_answers_headers_cannot_be_changed_and_a_copys_can() {
    check(
        "const r = await fetch('http://o.test/'); let name; try { r.headers.set('a', 'b'); } catch (e) { name = e.name; }
         const copy = new Response(r.body, r); copy.headers.set('a', 'b');
         return new Response(name + copy.headers.get('a') + await copy.text());",
        |_| Origin::Reply(200, vec![], text("x")),
        "TypeErrorbx",
    );
}

#[test]
fn a_failure_shows_where_the_program_asked_and_nothing_of_the_runtime() {
    let asked = "const ask = (url) => fetch(url, { redirect: new URL(url).searchParams.get('redirect') ?? 'follow' });
        const failed = await ask('http://o.test/REST').then(() => { throw new Error('no failure') }, (error) => error);
        const lines = failed.stack.split('\\n');
        return Response.json([failed instanceof TypeError, lines[0] === `TypeError: ${failed.message}`, lines.some((line) => line.includes('at ask (')),
          lines.length > 2, failed.stack.includes('selvage:'), Object.keys(failed).length]);";
    for (rest, what) in [("", "the first hop"), ("moved", "a later hop"), ("moved?redirect=error", "what is made here")]
    {
        let origin = |outbound: &Outbound| match outbound.url.ends_with("moved") {
            true => Origin::Reply(302, vec![("location", "/away".into())], vec![]),
            false if outbound.url.contains("redirect=error") => {
                Origin::Reply(302, vec![("location", "/".into())], vec![])
            }
            false => Origin::Fail("refused"),
        };
        let (answer, _) = ask(&asked.replace("REST", rest), origin);
        assert_eq!(answer.text(), "[true,true,true,true,false,0]", "{what}: {answer:?}");
    }
    let own = "Error.prepareStackTrace = () => { throw new RangeError('the program') };
        return new Response(await fetch('http://o.test/').catch((error) => error.name));";
    let (answer, _) = ask(own, |_| Origin::Fail("refused"));
    assert_eq!(answer.text(), "TypeError", "{answer:?}");
}
