//! Calls between Workers: two of them, and what the shard does between them played here.

mod support;

use std::collections::HashMap;
use std::sync::Arc;
use support::{at_ms, engine, head, page_row, spec};
use worker_api::{
    BodyEvent, Callee, Effect, Event, FetchId, IncomingBody, Invocation, LogRecord, OutgoingBody, RequestHead,
    RequestId, Worker, WorkerSpec,
};

/// Steps of a test.
const STEPS_MAX: usize = 400_000;

/// One call under way: the caller's outbound request and the callee's request.
#[derive(Clone, Copy, Debug)]
struct Link {
    caller: usize,
    fetch: FetchId,
    callee: usize,
    id: RequestId,
}

/// Workers that may call each other.
struct Pair {
    workers: Vec<Worker>,
    /// Which of them each one's services are.
    services: Vec<Vec<usize>>,
    links: Vec<Link>,
    next: u64,
    status: u16,
    body: Vec<u8>,
    finished: HashMap<RequestId, bool>,
    logs: Vec<LogRecord>,
    /// Those of the first one's first service.
    entrypoint: String,
    props: String,
    ms: u64,
}

impl Pair {
    fn new(caller: &str, callee: &str) -> Pair {
        let start = |source: &str, services: &[&str]| {
            let services = services.iter().map(|name| (*name).to_owned()).collect();
            Worker::start(&engine(), WorkerSpec { services, cpu_ns: 2_000_000_000, ..spec(source) }).expect("starts")
        };
        let workers = vec![start(caller, &["B", "C"]), start(callee, &["A"]), start(THIRD, &[])];
        Pair {
            workers,
            services: vec![vec![1, 2], vec![0], vec![]],
            links: Vec::new(),
            next: 1,
            status: 0,
            body: Vec::new(),
            finished: HashMap::new(),
            logs: Vec::new(),
            entrypoint: String::new(),
            props: String::new(),
            ms: 0,
        }
    }

    /// A client's request of the first; its body.
    fn ask(&mut self) -> String {
        let id = RequestId(self.next);
        self.next += 1;
        self.body.clear();
        let event = Event::Request { id, head: head("GET", "http://a.test/", &[], IncomingBody::Empty) };
        self.workers[0].handle(at_ms(self.ms), event);
        for _ in 0..STEPS_MAX {
            if !self.step() {
                if self.finished.contains_key(&id) {
                    break;
                }
                self.wait();
            }
        }
        assert!(self.finished.contains_key(&id), "too many steps: {:?}", self.logs);
        String::from_utf8(self.body.clone()).expect("UTF-8")
    }

    /// Moves the clock to the next timer of either.
    fn wait(&mut self) {
        let due = self.workers.iter().filter_map(Worker::poll_timeout).min();
        let due = due.unwrap_or_else(|| panic!("nothing is left to do: {:?}", self.logs));
        self.ms = self.ms.max((due - at_ms(0).monotonic_ns).div_ceil(1_000_000));
        for worker in &mut self.workers {
            worker.handle(at_ms(self.ms), Event::Timeout);
        }
    }

    /// Takes an effect; false if there was none.
    fn step(&mut self) -> bool {
        for at in 0..self.workers.len() {
            if let Some(effect) = self.workers[at].poll_effect() {
                self.effect(at, effect);
                return true;
            }
        }
        false
    }

    fn send(&mut self, to: usize, event: Event) {
        self.workers[to].handle(at_ms(self.ms), event);
    }

    fn of_request(&self, at: usize, id: RequestId) -> Option<Link> {
        self.links.iter().copied().find(|link| link.callee == at && link.id == id)
    }

    fn of_fetch(&self, at: usize, fetch: FetchId) -> Option<Link> {
        self.links.iter().copied().find(|link| link.caller == at && link.fetch == fetch)
    }

    fn effect(&mut self, at: usize, effect: Effect) {
        match effect {
            Effect::Call { fetch, service, rpc, head, body, .. } => self.call(at, fetch, service, rpc, head, body),
            Effect::Respond { id, status, headers, body } => match self.of_request(at, id) {
                None => {
                    self.status = status;
                    if let OutgoingBody::Full(bytes) = body {
                        self.body = bytes.to_vec();
                    } else if matches!(body, OutgoingBody::Stream { .. }) {
                        self.send(at, Event::PullResponse { id });
                    }
                }
                Some(Link { caller, fetch, .. }) => {
                    let body = match body {
                        OutgoingBody::Empty => IncomingBody::Empty,
                        OutgoingBody::Full(bytes) => IncomingBody::Full(bytes),
                        OutgoingBody::Stream { .. } | OutgoingBody::Passed { .. } => IncomingBody::Stream,
                        OutgoingBody::Socket(_) => unreachable!("no test here opens one"),
                    };
                    self.send(caller, Event::FetchResponse { fetch, status, reason: String::new(), headers, body });
                }
            },
            Effect::ResponseBody { id, body } => match self.of_request(at, id) {
                None => {
                    if let BodyEvent::Chunk(bytes) = body {
                        self.body.extend_from_slice(&bytes);
                        self.send(at, Event::PullResponse { id });
                    }
                }
                Some(Link { caller, fetch, .. }) => self.send(caller, Event::FetchBody { fetch, body }),
            },
            Effect::PullRequestBody { id } => {
                let Link { caller, fetch, .. } = self.of_request(at, id).expect("a call's");
                self.send(caller, Event::PullFetchUpload { fetch });
            }
            Effect::FetchUpload { fetch, body } => {
                let Link { callee, id, .. } = self.of_fetch(at, fetch).expect("a call");
                self.send(callee, Event::RequestBody { id, body });
            }
            Effect::PullFetchBody { fetch } => {
                let Link { callee, id, .. } = self.of_fetch(at, fetch).expect("a call");
                self.send(callee, Event::PullResponse { id });
            }
            Effect::CancelFetch { fetch } => {
                if let Some(Link { callee, id, .. }) = self.of_fetch(at, fetch) {
                    self.send(callee, Event::ClientGone { id });
                }
            }
            Effect::Threw { id, name, message } => {
                let Link { caller, fetch, .. } = self.of_request(at, id).expect("a call's");
                self.send(caller, Event::CallThrew { fetch, name, message });
            }
            Effect::Fail { id, why } => {
                if let Some(Link { caller, fetch, .. }) = self.of_request(at, id) {
                    let (name, message) = ("Error".to_owned(), format!("callee failed: {}", why.label()));
                    self.send(caller, Event::CallThrew { fetch, name, message });
                }
            }
            Effect::Finished { id, .. } => {
                if self.of_request(at, id).is_none() {
                    self.finished.insert(id, true);
                }
            }
            Effect::Log(record) => self.logs.push(record),
            Effect::CancelRequestBody { .. } | Effect::Held(_) => {}
            other => panic!("{other:?}"),
        }
    }

    fn call(
        &mut self,
        caller: usize,
        fetch: FetchId,
        service: Callee,
        rpc: bool,
        head: RequestHead,
        body: OutgoingBody,
    ) {
        let id = RequestId(self.next);
        self.next += 1;
        let (callee, entrypoint, props) = match service {
            Callee::Service(0) if caller == 0 => (1, self.entrypoint.clone(), self.props.clone()),
            Callee::Service(place) => (self.services[caller][place as usize], String::new(), String::new()),
            Callee::Own { entrypoint, props } => (caller, entrypoint, props),
        };
        self.links.push(Link { caller, fetch, callee, id });
        let body = match body {
            OutgoingBody::Empty => IncomingBody::Empty,
            OutgoingBody::Full(bytes) => IncomingBody::Full(bytes),
            OutgoingBody::Stream { .. } | OutgoingBody::Passed { .. } => IncomingBody::Stream,
            OutgoingBody::Socket(_) => unreachable!("no test here opens one"),
        };
        let head = Arc::new(RequestHead { body, ..head });
        let invocation = match rpc {
            true => Invocation::Rpc { entrypoint, props, head },
            false => Invocation::Fetch { entrypoint, props, head },
        };
        self.send(callee, Event::Invoke { id, invocation });
    }
}

/// A caller whose handler is this; what it returns, or throws, is the answer.
fn caller(body: &str) -> String {
    format!(
        "import {{ RpcTarget, RpcStub, WorkerEntrypoint }} from 'cloudflare:workers';
         export class Back extends WorkerEntrypoint {{
           async ping(n) {{ return n <= 0 ? 'end' : await this.env.B.pong(n - 1); }}
           props() {{ return this.ctx.props; }}
           third(n) {{ return `own ${{n}} ${{this.ctx.props.name}}`; }}
           fetch(request) {{ return new Response(`back ${{this.ctx.props.name}}`); }}
         }}
         export const plain = {{ fetch: (request, env, ctx) => Response.json(ctx.props) }};
         export const data = {{ a: 1 }};
         let kept;
         export default {{ async fetch(request, env, ctx) {{
           const run = async () => {{ {body} }};
           try {{ const value = await run(); return new Response(typeof value === 'string' ? value : JSON.stringify(value) ?? String(value)); }}
           catch (error) {{ return new Response(`${{error.name}}: ${{error.message}}`); }}
         }} }};"
    )
}

const CALLEE: &str = include_str!("js/rpc_callee.js");
/// A Worker that only the caller has.
const THIRD: &str = include_str!("js/rpc_third.js");

#[track_caller]
fn check(body: &str, expect: &str) {
    let mut pair = Pair::new(&caller(body), CALLEE);
    let got = pair.ask();
    assert_eq!(got, expect, "{body}\nlogs: {:?}", pair.logs.iter().map(|log| &log.text).collect::<Vec<_>>());
    assert_eq!(pair.workers[0].in_flight(), 0, "{body}");
    for _ in 0..1_000 {
        if !pair.step() {
            break;
        }
    }
    for (at, worker) in pair.workers.iter().enumerate() {
        assert_eq!(worker.in_flight(), 0, "{at}: the callee's requests end with the caller's: {body}");
    }
}

#[test]
fn values_are_copied_as_structured_clone_does() {
    check("return await env.B.add(1, 2)", "3");
    check("return await env.B.echo({ a: [1, null, 'x'], b: { c: true } })", r#"{"a":[1,null,"x"],"b":{"c":true}}"#);
    check(
        "const [a] = await env.B.echoAll([undefined, NaN, -0, Infinity, 10n ** 30n, new Date(5), /a\\/b/gi, 'a\\ud800b', Object(7)]);
         return [a[0] === undefined, Number.isNaN(a[1]), Object.is(a[2], -0), a[3] === Infinity, a[4] === 10n ** 30n, a[5].getTime(), String(a[6]),
           a[7] === 'a\\ud800b', typeof a[8], a[8] + 1]",
        r#"[true,true,true,true,true,5,"/a\\/b/gi",true,"object",8]"#,
    );
    check(
        "const map = new Map([[{ k: 1 }, new Set([1, 'two'])]]); const got = await env.B.echo(map);
         const [[k, v]] = [...got]; return [k.k, [...v]]",
        r#"[1,[1,"two"]]"#,
    );
    check(
        "const a = { name: 'a' }; a.self = a; a.list = [a, a]; const got = await env.B.echo(a);
         return [got !== a, got.self === got, got.list[1] === got, got.name]",
        r#"[true,true,true,"a"]"#,
    );
    check(
        "const got = await env.B.echo({ b: new Uint8Array([1, 2, 3]).subarray(1), f: new Float64Array([0.5]), a: new ArrayBuffer(4), v: new DataView(new ArrayBuffer(8), 4) });
         return [got.b.constructor.name, [...got.b], [...got.f], got.a.byteLength, got.v.byteLength]",
        r#"["Uint8Array",[2,3],[0.5],4,4]"#,
    );
    check(
        "const a = [1, , 3]; a.extra = 'x'; const got = await env.B.echo(a); return [got.length, 1 in got, got.extra]",
        r#"[3,false,"x"]"#,
    );
    check(
        "const got = await env.B.echo(JSON.parse('{\"__proto__\":5}')); return [Object.keys(got), Object.getPrototypeOf(got) === Object.prototype]",
        r#"[["__proto__"],true]"#,
    );
    check(
        "const got = await env.B.echo(new RangeError('r', { cause: 'c' })); return [got instanceof RangeError, got.message, got.cause]",
        r#"[true,"r","c"]"#,
    );
    check("return await env.B.nothing()", "undefined");
}

#[test]
fn what_cannot_be_sent_is_refused_where_it_is_sent() {
    for (value, name) in [
        ("Symbol()", "DataCloneError"),
        ("new Proxy({}, {})", "DataCloneError"),
        ("new WeakMap()", "DataCloneError"),
        ("new (class X {})()", "DataCloneError"),
        ("new URL('https://a/')", "DataCloneError"),
        ("{ a: { b: Symbol() } }", "DataCloneError"),
        ("new Response(null, { status: 101, webSocket: new WebSocketPair()[0] })", "DataCloneError"),
        ("{ get a() { throw new RangeError('mine') } }", "RangeError"),
        ("'x'.repeat(40 * 1024 * 1024)", "TypeError"),
        ("new Uint8Array(33 * 1024 * 1024)", "TypeError"),
    ] {
        check(&format!("try {{ await env.B.echo({value}); }} catch (error) {{ return error.name }}"), name);
    }
    check(
        "let a = []; for (let i = 0; i < 100000; i++) a = [a]; try { await env.B.echo(a) } catch (error) { return error.name }",
        "DataCloneError",
    );
    check("try { await env.B.give('class') } catch (error) { return error.name }", "DataCloneError");
    check("return await env.B.add(20, 22)", "42");
}

#[test]
fn methods_are_the_classes_own_and_nothing_else_is_seen() {
    for name in [
        "env",
        "ctx",
        "secret",
        "toString",
        "hasOwnProperty",
        "__proto__",
        "missing",
        "connect",
        "__defineGetter__",
        "valueOf",
    ] {
        check(
            &format!("try {{ await env.B['{name}'](); return 'called' }} catch (error) {{ return error.message }}"),
            &format!("The RPC receiver does not implement the method \"{name}\"."),
        );
    }
    check("return await env.B._private()", "not private");
    check("return await env.B.getter", "got");
    check("return await env.B.inherited()", "from the base");
    check("try { await env.B.getter() } catch (error) { return error.message }", "\"getter\" is not a function.");
    check(
        "return [typeof env.B.anything, typeof env.B.then, (await env.B) === env.B, env.B instanceof Fetcher]",
        r#"["function","undefined",true,true]"#,
    );
    check("return await (await env.B.fetch('https://b/x')).text()", "b /x hello");
    check("return await env.B.envAndContext()", r#"["hello","function"]"#);
}

#[test]
fn functions_and_targets_go_by_reference_and_calls_are_pipelined() {
    check(
        "const counter = await env.B.getCounter(5); await counter.increment(); return await counter.increment(2)",
        "8",
    );
    check("return await env.B.getCounter(1).increment(4)", "5");
    check("return await env.B.getCounter(1).self().self().value", "1");
    check("return await env.B.nested().deep.counter.increment()", "101");
    check("const { add } = await env.B.functions(); return await add(3, 4)", "7");
    check("return await env.B.callBack((x) => x * 2, 21)", "42");
    check("return await env.B.callBack(async (x) => { await null; return { x } }, 21)", r#"{"x":21}"#);
    check(
        "class T extends RpcTarget { hidden = 1; twice(n) { return n * 2 } } return await env.B.useTarget(new T())",
        r#"[14,"The RPC receiver does not implement the method \"hidden\"."]"#,
    );
    check("const counter = await env.B.getCounter(1); return await env.B.callBack(counter.increment, 3)", "4");
    check(
        "const counter = await env.B.getCounter(1); return [counter instanceof RpcStub, typeof counter, Object.keys(counter).length]",
        r#"[true,"function",0]"#,
    );
    check("const stub = new RpcStub((a) => a + 1); return [await stub(1), await env.B.callBack(stub, 2)]", "[2,3]");
    check(
        "return await env.B.getCounter(1).missing().more.and.more()",
        "TypeError: The RPC receiver does not implement the method \"missing\".",
    );
    check("return await env.B.fails().then(() => 1)", "RangeError: b's own");
}

#[test]
fn errors_come_with_name_and_message_and_nothing_of_the_other_side() {
    check(
        "try { await env.B.fails() } catch (e) { return [e instanceof RangeError, e.message, e.stack.includes('rpc_callee'), 'secret' in e] }",
        r#"[true,"b's own",false,false]"#,
    );
    check(
        "try { await env.B.failsOwn() } catch (e) { return [e instanceof Error, e.name, e.message] }",
        r#"[true,"MyError","mine"]"#,
    );
    check(
        "try { await env.B.throwsText() } catch (e) { return [e instanceof Error, e.message] }",
        r#"[true,"just text"]"#,
    );
    check(
        "const results = await Promise.allSettled([env.B.fails(), env.B.add(1, 1), env.B.fails()]); return results.map((r) => r.status)",
        r#"["rejected","fulfilled","rejected"]"#,
    );
}

#[test]
fn what_is_disposed_is_gone_and_its_target_is_told() {
    check(
        "const c = await env.B.getCounter(1); c[Symbol.dispose](); c[Symbol.dispose](); return await c.increment()",
        "Error: The RPC stub was used after it was disposed.",
    );
    check(
        "const c = await env.B.getCounter(1); const d = c.dup(); c[Symbol.dispose](); return await d.increment()",
        "2",
    );
    check("{ using c = await env.B.getTold(); await c.hello(); } return await env.B.toldDisposed()", "1");
    check("{ using r = await env.B.functions(); await r.add(1, 1); } return 'ok'", "ok");
    check("using p = env.B.getCounter(1); return await p.increment()", "2");
    check("let stub; const kept = await env.B.keep((x) => x + 1); const first = await kept.use(1); return first", "2");
    check("return await env.B.useLater((x) => x)", "Error: The RPC stub was used after it was disposed.");
}

#[test]
fn streams_requests_and_responses_go_along() {
    check("const stream = new Response('abc').body; return await env.B.readAll(stream)", "abc");
    check(
        "const stream = await env.B.giveStream(200); let n = 0; for await (const chunk of stream) n += chunk.length; return n",
        "200000",
    );
    check(
        "const r = await env.B.makeResponse(); return [r.status, r.headers.get('x'), await r.text()]",
        r#"[201,"y","made"]"#,
    );
    check(
        "const q = new Request('https://q/', { method: 'POST', body: 'sent', headers: { h: '1' } }); return await env.B.readRequest(q)",
        r#"["POST","https://q/","1","sent"]"#,
    );
    check("return await env.B.readHeaders(new Headers({ a: 'b' }))", "b");
    check(
        "const s = await env.B.giveStream(1000000); const reader = s.getReader(); await reader.read(); await reader.cancel('enough'); return 'cancelled'",
        "cancelled",
    );
    check(
        "const s = await env.B.breakingStream(); try { for await (const c of s); } catch (e) { return e.message }",
        "broken off",
    );
    check(
        "const two = await Promise.all([1, 2].map(async () => { const [a, b] = await env.B.giveStreams(); \
           return (await Promise.all([a, b].map(async (s) => (await new Response(s).arrayBuffer()).byteLength))).join() })); return two",
        r#"["50000,50000","50000,50000"]"#,
    );
    check(
        "const reader = (await env.B.giveStream(1)).getReader(); const { value } = await reader.read(); return [value.length, value.buffer.byteLength]",
        "[1000,1000]",
    );
    check(
        "const b = await env.B.echo(new Blob(['xy'], { type: 'text/plain' })); return [await b.text(), b.type]",
        r#"["xy","text/plain"]"#,
    );
}

#[test]
fn writable_streams_are_written_from_the_other_side() {
    const SINK: &str = "const seen = []; const sink = new WritableStream({ write(c) { if (c === 'bad') throw new RangeError('a bad chunk'); seen.push(c) }, \
                        close() { seen.push('closed') }, abort(e) { seen.push(`${e.name} ${e.message}`) } });";
    let check = |body: &str, expect: &str| check(&format!("{SINK} {body}"), expect);
    check(
        "const r = await env.B.writeAll(sink, 'a', 'b'); return [r, ...seen, sink.locked]",
        r#"["written","a","b","closed",true]"#,
    );
    check("await env.B.abortStream(sink); return seen", r#"["RangeError not wanted"]"#);
    check("await env.B.pipeTo(sink); return [new TextDecoder().decode(seen[0]), seen[1]]", r#"["piped","closed"]"#);
    check(
        "try { await env.B.writeAll(sink, 'a', 'bad', 'c') } catch (e) { return [e.name, e.message, ...seen] }",
        r#"["RangeError","a bad chunk","a"]"#,
    );
    check(
        "sink.getWriter(); try { await env.B.writeAll(sink) } catch (e) { return [e.name, e.message] }",
        r#"["DataCloneError","A locked WritableStream cannot be sent to another Worker."]"#,
    );
    check(
        "try { await env.B.writeAll([sink, Symbol()]) } catch (e) { return [e.name, sink.locked] }",
        r#"["DataCloneError",false]"#,
    );
    check(
        "const w = (await env.B.collector()).getWriter(); await w.write(5); try { await w.write('bad') } catch (e) { return [e.name, e.message] }",
        r#"["RangeError","a bad chunk"]"#,
    );
}

#[test]
fn entrypoints_by_name_plain_objects_and_those_that_are_none() {
    let with = |entrypoint: &str, body: &str, expect: &str| {
        let mut pair = Pair::new(&caller(body), CALLEE);
        pair.entrypoint = entrypoint.to_owned();
        assert_eq!(pair.ask(), expect, "{entrypoint}: {body}");
    };
    with("Admin", "return await env.B.who()", "admin");
    with("plain", "return await env.B.double(4)", "[8,\"hello\",\"function\"]");
    with(
        "plain",
        "try { await env.B.double(1, 2) } catch (e) { return e.message.startsWith('Cannot call handler function') }",
        "true",
    );
    with("Missing", "return await env.B.who()", "TypeError: The Worker has no entrypoint named \"Missing\"");
    with("Throws", "return await env.B.who()", "Error: in the constructor");
    with("text", "return await env.B.who()", "TypeError: The Worker has no entrypoint named \"text\"");
}

#[test]
fn services_are_passed_on_and_called_by_way_of_who_has_them() {
    check("return await env.B.useService(env.C)", r#"["third 1","object",true,203,"3","POST /x sent"]"#);
    for (what, expect) in [
        ("stream", "100000"),
        ("redirect", "GET /after "),
        ("manual", "302"),
        ("throw", "RangeError: thrown by the third"),
        ("wrong", "TypeError"),
        ("abort", "TimeoutError"),
        ("item", "pipelined"),
        ("property", "private"),
        ("disposed", "The RPC stub was used after it was disposed."),
    ] {
        check(&format!("return await env.B.withService(env.C, '{what}')"), expect);
    }
    for name in ["constructor", "env", "connect", "toString", "missing"] {
        let expect = match name {
            "constructor" => "TypeError: Class constructor",
            _ => &format!("The RPC receiver does not implement the method \"{name}\"."),
        };
        let body = format!("return await env.B.withService(env.C, 'missing', '{name}')");
        let mut pair = Pair::new(&caller(&body), CALLEE);
        assert!(pair.ask().starts_with(expect), "{name}: {:?}", String::from_utf8_lossy(&pair.body));
    }
    check("const r = await env.B.passBack(env.C); return await r.value.third(5)", "third 5");
    check("const kept = await env.B.keepService(env.C); return await kept.use(3)", "third 3");
    check(
        "const item = await env.C.item('mine'); const r = await env.B.passBack(item); return [await r.value.name(), await item.name()]",
        r#"["mine","mine"]"#,
    );
    check(
        "{ const item = await env.C.item('x'); { using r = await env.B.passBack(item); await r.value.name(); } item[Symbol.dispose](); } \
         await new Promise((done) => setTimeout(done, 1)); return await env.C.told()",
        "1",
    );
    check("return await (await env.B.own()).who()", "admin");
    check("return await env.B.own().props()", "{}");
    check(
        "const remote = await env.B.own(); return [remote instanceof Fetcher, typeof remote, (await remote) === remote, typeof remote.then]",
        r#"[true,"object",true,"undefined"]"#,
    );
    check(
        "const remote = await env.B.own(); remote[Symbol.dispose](); try { await env.B.passBack(remote) } catch (e) { return e.message }",
        "The RPC stub was used after it was disposed.",
    );
    check(
        "const remote = await env.B.own(); remote[Symbol.dispose](); try { await remote.fetch('https://x/') } catch (e) { return e.message }",
        "The RPC stub was used after it was disposed.",
    );
    check("try { structuredClone(env.C) } catch (e) { return e.name }", "DataCloneError");
}

#[test]
fn own_entrypoints_are_services_too_and_have_props() {
    check(
        "return [Object.keys(ctx.exports), ctx.exports === ctx.exports, Object.isFrozen(ctx.exports)]",
        r#"[["Back","default","plain"],true,true]"#,
    );
    check("return [ctx.props, ctx.props === ctx.props]", "[{},true]");
    check("return await ctx.exports.Back.props()", "{}");
    check("return await ctx.exports.Back({ props: { name: 'n', list: [1] } }).props()", r#"{"name":"n","list":[1]}"#);
    check("return await (await ctx.exports.plain({ props: { a: 2 } }).fetch('https://x/')).json()", r#"{"a":2}"#);
    check(
        "return await env.B.withService(ctx.exports.Back({ props: { name: 'me' } }), 'item').catch((e) => e.message)",
        "The RPC receiver does not implement the method \"item\".",
    );
    check(
        "const r = await env.B.passBack(ctx.exports.Back({ props: { name: 'me' } })); return await r.value.third(4)",
        "own 4 me",
    );
    check(
        "return [ctx.exports.Back instanceof Fetcher, typeof ctx.exports.Back, ctx.exports.Back.name]",
        r#"[true,"function",null]"#,
    );
    for props in ["5", "null", "[1]", "() => 1", "{ toJSON: () => 'text' }", "{ a: 'x'.repeat(5000) }", "{ a: 1n }"] {
        check(
            &format!("try {{ ctx.exports.Back({{ props: {props} }}); return 'taken' }} catch (e) {{ return e.name }}"),
            "TypeError",
        );
    }
    check("try { env.B({}) } catch (e) { return e.name }", "TypeError");
    check(
        "const depth = await ctx.exports.Back({ props: { name: 'x' } }).fetch('https://x/'); return await depth.text()",
        "back x",
    );
}

#[test]
fn props_are_those_of_the_binding() {
    let with = |entrypoint: &str, props: &str, body: &str, expect: &str| {
        let mut pair = Pair::new(&caller(body), CALLEE);
        (pair.entrypoint, pair.props) = (entrypoint.to_owned(), props.to_owned());
        assert_eq!(pair.ask(), expect, "{entrypoint} {props}: {body}");
    };
    let props = r#"{"clientId":"a","__proto__":{"x":1},"permissions":["read"]}"#;
    with("", props, "return await env.B.props()", &format!("[{props},true]"));
    with("", "", "return await env.B.props()", "[{},true]");
    with("Admin", props, "return await env.B.props()", props);
    with("plain", props, "return await env.B.props(0)", props);
    with("plain", props, "return await (await env.B.fetch('https://b/')).json()", props);
    with("plain", "", "return await (await env.B.fetch('https://b/')).json()", "{}");
}

#[test]
fn promises_are_awaited_where_they_go() {
    check("return await env.B.sum(Promise.resolve(1), 2, (async () => 3)())", "6");
    check("return await env.B.sum(env.B.add(1, 2), env.B.add(3, 4), env.B.getter)", "10got");
    check("return await env.B.callBack((x) => x.value, env.B.getCounter(4))", "4");
    check("using c = env.B.order(); const a = c.wait(5); return await c.wait(a)", "5");
    check(
        "using o = env.B.order(); o.add(1); o.add(o.wait(5)); o.add(3); await o.wait(10); return await o.seen",
        "[1,3,5]",
    );
    check(
        "const map = new Map([['a', Promise.resolve(1)], [Promise.resolve('b'), 2]]);
         return await env.B.describe([map, new Set([1, Promise.resolve(2)]), { x: Promise.resolve(3), y: 4 }, [, Promise.resolve(5)]])",
        r#"[{"map":[["a",1],["b",2]]},{"set":[1,2]},{"x":3,"y":4},[null,5]]"#,
    );
    check(
        "const p = Promise.resolve({ n: 1 }); const [a, b] = await env.B.echoAll(p, p).then(([list]) => [list, list]).catch((e) => [e.message]); return 'ok'",
        "ok",
    );
    check(
        "const p = Promise.resolve({ n: 1 }); const got = await env.B.echo([p, p]); return [got[0].n, got[0] === got[1]]",
        "[1,true]",
    );
    check(
        "const got = await env.B.promised(); return [got.now, got.later, await got.counter.increment()]",
        r#"[1,{"deep":"value"},8]"#,
    );
    check(
        "return await env.B.promised().later.deep.catch((e) => e.message)",
        "The RPC receiver does not implement the method \"deep\".",
    );
    // What both have is copied all the same.
    check(
        "using o = env.B.order(); const c = await o.change(o.shared); return [c, await o.shared]",
        r#"[{"count":1,"changed":true},{"count":1}]"#,
    );
    check("return await env.B.echo(new Error('e', { cause: Promise.resolve('c') })).then((e) => e.cause)", "c");
}

#[test]
fn promises_that_fail_never_end_or_never_come() {
    check("return await env.B.sum(1, Promise.reject(new RangeError('no')))", "RangeError: no");
    check("return await env.B.sum(1, env.B.fails())", "RangeError: b's own");
    check(
        "return await env.B.echo(Promise.resolve(Symbol()))",
        "DataCloneError: A symbol cannot be sent to another Worker.",
    );
    check("const o = {}; o.p = Promise.resolve(o); return await env.B.echo(o).catch((e) => e.name)", "DataCloneError");
    check(
        "using p = env.B.getCounter(1); const q = env.B.getCounter(2); q[Symbol.dispose](); return await env.B.echo(q)",
        "Error: The RPC stub was used after it was disposed.",
    );
    check("env.B.echo(Promise.reject(new Error('unseen'))).catch(() => {}); return await env.B.add(1, 1)", "2");
    let mut pair = Pair::new(&caller("return await env.B.echo(new Promise(() => {}))"), CALLEE);
    pair.ask();
    assert!(pair.logs.iter().any(|log| log.text.contains("wall time limit")), "{:?}", pair.logs);
    check("return await env.B.echo(Promise.resolve(env.B.getCounter(3))).then((c) => c.increment())", "4");
    check(
        "let p = 1; for (let i = 0; i < 20; i++) { const q = p; p = (async () => ({ q }))(); } let n = 0; let v = await env.B.echo(p.then((x) => x)); while (v.q) { v = v.q; n++ } return n",
        "20",
    );
}

#[test]
fn stubs_of_a_request_that_has_ended_say_so() {
    let body = "const c = globalThis.c; if (c === undefined) { globalThis.c = await env.B.getCounter(1); globalThis.p = env.B.getCounter(5); await globalThis.p;
                  globalThis.s = await env.B.own(); return 'kept'; }
                const said = []; for (const use of [() => c.increment(), () => globalThis.p.increment(), () => c.value, () => globalThis.s.who(),
                  () => globalThis.s.fetch('https://x/'), () => env.B.callBack(c, 1)])
                  said.push(await use().then(() => 'worked', (e) => e.message.slice(0, 50))); c[Symbol.dispose](); return said";
    let mut pair = Pair::new(&caller(body), CALLEE);
    assert_eq!(pair.ask(), "kept", "{:?}", pair.logs);
    let foreign = "Cannot perform I/O on behalf of a different reques";
    let said: Vec<String> = serde_json::from_str(&pair.ask()).expect("a list");
    assert!(said.iter().all(|said| said == foreign), "{said:?}");
    // The callee's side: what came with a call that is over.
    let body = "if (globalThis.n === undefined) { globalThis.n = 1; await env.B.keepStub((x) => x); return 'kept' } return await env.B.useKept()";
    let mut pair = Pair::new(&caller(body), CALLEE);
    assert_eq!(pair.ask(), "kept", "{:?}", pair.logs);
    assert!(pair.ask().contains("different request"), "{:?}", String::from_utf8_lossy(&pair.body));
}

#[test]
fn many_stubs_and_many_calls() {
    check(
        "const stubs = []; for (let i = 0; i < 10; i++) stubs.push(...(await env.B.manyCounters(1000)));
         const last = await stubs[9999].increment(); for (const stub of stubs) stub[Symbol.dispose](); return [stubs.length, last]",
        "[10000,1000]",
    );
    check(
        "const all = await Promise.all(Array.from({ length: 40 }, (_, i) => env.B.add(i, 1))); return all.reduce((a, b) => a + b)",
        "820",
    );
    check("let p = env.B.getCounter(0); for (let i = 0; i < 200; i++) p = p.self(); return await p.increment()", "1");
    check(
        "let p = env.B; for (let i = 0; i < 70; i++) p = p.x; return 'deep'",
        "TypeError: A path of more than 64 properties cannot be asked of another Worker",
    );
}

#[test]
fn the_end_of_the_callee_is_an_error_and_not_a_hang() {
    let mut pair = Pair::new(&caller("return await env.B.burn()"), CALLEE);
    assert!(pair.ask().starts_with("Error: callee failed: "), "{:?}", pair.body);
    let mut pair = Pair::new(
        &caller(
            "const c = await env.B.getCounter(1); const burning = env.B.burn(); try { await burning } catch {} return await c.increment()",
        ),
        CALLEE,
    );
    let said = pair.ask();
    assert!(said.starts_with("Error") || said == "2", "{said}");
    let mut pair = Pair::new(&caller("return await env.B.never()"), CALLEE);
    assert!(pair.ask().starts_with("") && pair.finished.len() == 1);
}

#[test]
fn a_peer_that_speaks_nonsense_ends_the_session_alone() {
    let mut worker = Worker::start(&engine(), spec(CALLEE)).expect("starts");
    let frames: Vec<Vec<u8>> =
        [&b""[..], b"\xff\xff\xff\xff", b"\x02\0\0\0{}", b"\x05\0\0\0[[],0", b"\x06\0\0\0[1,[]]"]
            .into_iter()
            .map(<[u8]>::to_vec)
            .chain(
                [
                    r#"[[[0,["call",1,["i",0],["add"],["a",[1,2]],9]],[0,["call",1,["i",0],["add"],["a",[]]]]],[]]"#,
                    r#"[[[0,["call",1,["i",7],["add"],["a",[1,2]]]]],[]]"#,
                    r#"[[[0,["call",1,["q",7],[],["a",[]]]]],[]]"#,
                    r#"[[[0,["ret",1,5]]],[]]"#,
                    r#"[[[0,["drop",0]]],[]]"#,
                    r#"[[[0,["drop",99]]],[]]"#,
                    r#"[[[0,["call",1,["i",0],["echo"],["a",[["r",5]]]]]],[]]"#,
                    r#"[[[0,["call",1,["i",0],["echo"],["a",[["t","Evil",0]]]]]],[]]"#,
                    r#"[[[0,["call",1,["i",0],["echo"],["a",[["ab",3]]]]]],[]]"#,
                    r#"[[[0,["call",1,["i",0],["echo"],["a",[["h",0]]]]]],[]]"#,
                    r#"[[[0,["call",1,["i",0],["echo"],["a",[["A",-1,[]]]]]]],[]]"#,
                    r#"[[[0,["call",1,["i",0],["echo"],["a",[{"x":1}]]]]],[]]"#,
                    r#"[[[0,["call",1,["i",0],[5],["a",[]]]]],[]]"#,
                    r#"[[[0,["call",1,["i",0],["echo"],["a",[["p",["q",1],[]]]]]]],[]]"#,
                    r#"[[[0,["call",1,["i",0],["echo"],["a",[["p",["i",0],[]]]]]]],[]]"#,
                    r#"[[[0,["call",1,["i",0],["echo"],["a",[["p",5,[]]]]]]],[]]"#,
                    r#"[[[0,["call",1,["i",0],["echo"],["p",["i",0],["getter"]]]]],[]]"#,
                    r#"[[[0,["call",1,["i",0],["echo"],["a",[["P","x"]]]]]],[]]"#,
                    r#"[[[0,["call",1,["i",0],["echo"],["a",[["P",1],["P",1],["d",["P",1]]]]]]],[]]"#,
                    r#"[[[0,["call",1,["i",0],["echo"],["a",[["sv",0.5]]]]]],[]]"#,
                    r#"[[[0,["nonsense",1]]],[]]"#,
                    r#"[[],[5]]"#,
                ]
                .into_iter()
                .map(|text| [&(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat()),
            )
            .collect();
    for (at, frame) in frames.into_iter().enumerate() {
        if frame.is_empty() {
            continue;
        }
        let id = RequestId(at as u64 + 1);
        let head = head("POST", "https://rpc.invalid/", &[], IncomingBody::Stream);
        let invocation = Invocation::Rpc { entrypoint: String::new(), props: String::new(), head };
        let mut all = support::step(&mut worker, 0, Event::Invoke { id, invocation });
        all.extend(support::step(&mut worker, 0, Event::PullResponse { id }));
        all.extend(support::step(
            &mut worker,
            0,
            Event::RequestBody { id, body: BodyEvent::Chunk(frame.clone().into()) },
        ));
        all.extend(support::step(&mut worker, 0, Event::ClientGone { id }));
        assert!(
            all.iter().any(|effect| matches!(effect, Effect::Finished { id: done, .. } if *done == id)),
            "{}: {all:?}",
            frame.escape_ascii()
        );
        assert!(!worker.condemned(), "{}", frame.escape_ascii());
    }
    assert_eq!(worker.in_flight(), 0);
}

#[test]
fn the_page_of_conformance_counts_the_checks() {
    let count = include_str!("rpc.rs").matches("\n    check(").count() as u64;
    assert_eq!(page_row("Calls between Workers (RPC)"), [count, count, 0], "docs/CONFORMANCE.md: {count} checks");
}
