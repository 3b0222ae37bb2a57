//! Hostile Workers: every harm in the handler first, then every phase, then both at random.

use crate::random::Random;

/// Statements that do harm; `#` is a random number.
pub const HARM: &[(&str, &str)] = &[
    ("loop", "for (;;) {}"),
    ("loop with work", "let x = 0; while (true) { x = (x * 31 + #) | 0; }"),
    ("nested loop", "for (let i = 0; i < 1e12; i++) for (let j = 0; j < 1e12; j++) globalThis.z = i ^ j;"),
    ("regular expression", "/^(a+)+$/.test('a'.repeat(40) + '!');"),
    ("array bomb", "const a = []; for (;;) a.push(new Array(1000).fill(#.5));"),
    ("string bomb", "let s = 'x#'; for (;;) s += s;"),
    ("flat string bomb", "const a = []; for (let i = 0; ; i++) a.push(('y' + i).repeat(1000).split('').join(i));"),
    ("buffer bomb", "const a = []; for (;;) a.push(new Uint8Array(1 << 20).fill(#));"),
    ("big buffer", "new ArrayBuffer(2 ** 40);"),
    ("buffer of 4 GB", "new Uint8Array(2 ** 32 - 1).fill(1);"),
    ("map bomb", "const m = new Map(); for (let i = 0; ; i++) m.set(i, { i, o: { i } });"),
    ("object bomb", "let o = {}; for (;;) o = { o, a: [o, #] };"),
    ("closure bomb", "const a = []; for (;;) { const b = new Array(100).fill(0); a.push(() => b); }"),
    ("bigint bomb", "let n = 3n; for (;;) n = n * n;"),
    ("json bomb", "let o = 1; for (let i = 0; i < 1e6; i++) o = [o]; JSON.stringify(o);"),
    ("json parse bomb", "JSON.parse('['.repeat(1e6));"),
    ("clone bomb", "const o = {}; let p = o; for (let i = 0; i < 1e5; i++) { p.n = {}; p = p.n; } structuredClone(o);"),
    ("recursion", "(function f() { f(); })();"),
    (
        "recursion with frames",
        "(function f(a, b, c, d) { const x = [a, b, c, d]; return f(x, x, x, x) + #; })(1, 2, 3, 4);",
    ),
    ("recursion in a getter", "const o = { get x() { return this.x; } }; o.x;"),
    ("recursion in toString", "const o = { toString() { return '' + this; } }; '' + o;"),
    ("recursion in a proxy", "const p = new Proxy({}, { get: (t, k, r) => r[k] }); p.x;"),
    ("recursion in sort", "const f = () => [3, 2, 1].sort(f); f();"),
    ("caught recursion", "(function f() { try { f(); } catch { f(); } })();"),
    ("caught loop", "for (;;) { try { throw 1; } catch {} }"),
    ("finally loop", "(function f() { try { return f(); } finally { for (;;) {} } })();"),
    ("microtask flood", "const f = () => Promise.resolve().then(f); f(); await new Promise(() => {});"),
    ("queueMicrotask flood", "const f = () => queueMicrotask(f); f(); await new Promise(() => {});"),
    ("promise bomb", "const a = []; for (;;) a.push(new Promise(() => {}));"),
    ("timer flood", "for (let i = 0; i < 1e6; i++) setTimeout(() => {}, #);"),
    ("zero timers", "await new Promise(() => { const f = () => setTimeout(f, 0); f(); });"),
    ("interval", "setInterval(() => { for (let i = 0; i < 1e5; i++); }, 0); await new Promise(() => {});"),
    ("never settles", "await new Promise(() => {});"),
    ("throw", "throw new Error('boom #');"),
    ("throw undefined", "throw undefined;"),
    ("throw null", "throw null;"),
    (
        "throw a hostile error",
        "throw { get message() { throw 1; }, get stack() { for (;;) {} }, toString() { throw 2; } };",
    ),
    ("throw a proxy", "throw new Proxy({}, { get() { throw 1; }, getPrototypeOf() { throw 2; } });"),
    ("throw with a long stack", "const f = n => { if (!n) throw new Error('x'.repeat(1e6)); f(n - 1); }; f(500);"),
    ("prepareStackTrace", "Error.prepareStackTrace = () => { for (;;) {} }; null.x;"),
    ("unhandled rejection", "Promise.reject(new Error('#')); await 0;"),
    ("rejection flood", "for (let i = 0; i < 1e5; i++) Promise.reject(i); await 0;"),
    ("log flood", "for (let i = 0; i < 1e5; i++) console.log('x'.repeat(1000), i);"),
    ("log bomb", "console.log('x'.repeat(1e8));"),
    (
        "log a hostile object",
        "console.log({ get x() { throw 1; }, toString() { throw 2; }, toJSON() { for (;;) {} } });",
    ),
    ("log a cycle", "const o = {}; o.o = o; console.log(o, [o], new Map([[o, o]]));"),
    ("poisoned prototypes", "Object.prototype.then = f => { for (;;) {} }; await {};"),
    ("poisoned then", "Object.prototype.then = function (f) { f({}); }; await 1; return {};"),
    ("poisoned promise", "Promise.prototype.then = () => { throw 1; }; await 1;"),
    (
        "poisoned iterator",
        "Array.prototype[Symbol.iterator] = function* () { for (;;) yield 1; }; new Headers([['a', 'b']]);",
    ),
    (
        "poisoned globals",
        "globalThis.Response = globalThis.Request = globalThis.Headers = globalThis.ReadableStream = undefined;",
    ),
    (
        "deleted globals",
        "for (const k of Object.getOwnPropertyNames(globalThis)) { try { delete globalThis[k]; } catch {} }",
    ),
    (
        "poisoned Object",
        "Object.defineProperty = Object.keys = Reflect.apply = JSON.stringify = () => { for (;;) {} };",
    ),
    (
        "frozen world",
        "for (const k of Object.getOwnPropertyNames(globalThis)) { try { Object.freeze(globalThis[k]); } catch {} }",
    ),
    ("WebAssembly memory", "new WebAssembly.Memory({ initial: 65536, maximum: 65536 });"),
    ("WebAssembly memories", "const a = []; for (;;) a.push(new WebAssembly.Memory({ initial: 1000 }));"),
    ("eval", "eval('for (;;) {}');"),
    ("Function", "new Function('for (;;) {}')();"),
    ("shared wait", "Atomics.wait(new Int32Array(new SharedArrayBuffer(8)), 0, 0);"),
    (
        "finalizers",
        "const r = new FinalizationRegistry(() => { for (;;) {} }); for (let i = 0; i < 1e5; i++) r.register({}, i);",
    ),
    ("weak references", "const a = []; for (;;) a.push(new WeakRef({}));"),
    (
        "typed array abuse",
        "const b = new ArrayBuffer(8, { maxByteLength: 2 ** 30 }); b.resize(2 ** 30); new Uint8Array(b).fill(1); b.resize(0);",
    ),
    (
        "transfer",
        "const b = new Uint8Array(1 << 20); structuredClone(b, { transfer: [b.buffer] }); b[0] = 1; new Response(b);",
    ),
    ("encoder bomb", "const e = new TextEncoder(); const a = []; for (;;) a.push(e.encode('ü'.repeat(1e5)));"),
    ("URL bomb", "new URL('http://x/' + 'a'.repeat(1e8));"),
    ("headers bomb", "const h = new Headers(); for (let i = 0; ; i++) h.append('x', 'y'.repeat(1000));"),
    ("random bomb", "const a = []; for (;;) a.push(crypto.getRandomValues(new Uint8Array(65536)));"),
    ("fetch itself", "return await fetch(request.url);"),
    ("fetch flood", "await Promise.all(Array.from({ length: 5000 }, () => fetch('http://127.0.0.1:1/')));"),
    ("fetch nonsense", "await fetch('nonsense:' + #, { method: 'x y', headers: { 'a\\nb': 'c' } });"),
];

/// Where harm is done: a module around `$`.
pub const PHASES: &[(&str, &str)] = &[
    (
        "top level",
        "const request = new Request('http://x/'); const run = async () => { $ };\nawait run();\nexport default { fetch() { return new Response('ok'); } };",
    ),
    ("handler", "export default { async fetch(request) { $\n return new Response('ok'); } };"),
    (
        "getter of the handler",
        "export default { get fetch() { (async request => { $ })(); return () => new Response('ok'); } };",
    ),
    (
        "thenable response",
        "export default { fetch(request) { return { async then(resolve) { $\n resolve(new Response('ok')); } }; } };",
    ),
    (
        "status getter",
        "export default { fetch(request) { return new Response('ok', { get status() { (async () => { $ })(); return 200; } }); } };",
    ),
    (
        "headers getter",
        "export default { fetch(request) { return new Response('ok', { headers: { get a() { (async () => { $ })(); return 'b'; } } }); } };",
    ),
    (
        "body toString",
        "export default { fetch(request) { return new Response({ toString() { (async () => { $ })(); return 'ok'; } }); } };",
    ),
    (
        "stream start",
        "export default { fetch(request) { return new Response(new ReadableStream({ async start(c) { $\n c.close(); } })); } };",
    ),
    (
        "stream pull",
        "export default { fetch(request) { return new Response(new ReadableStream({ async pull(c) { c.enqueue(new Uint8Array(10)); $ } })); } };",
    ),
    (
        "stream cancel",
        "export default { fetch(request) { return new Response(new ReadableStream({ pull(c) { c.enqueue(new Uint8Array(9e4)); }, async cancel() { $ } })); } };",
    ),
    (
        "timer",
        "export default { fetch(request) { return new Promise(resolve => setTimeout(async () => { $\n resolve(new Response('ok')); }, 1)); } };",
    ),
    (
        "waitUntil",
        "export default { fetch(request, env, ctx) { ctx.waitUntil((async () => { $ })()); return new Response('ok'); } };",
    ),
    (
        "waitUntil later",
        "export default { fetch(request, env, ctx) { ctx.waitUntil(new Promise(r => setTimeout(r, 20)).then(async () => { $ })); return new Response('ok'); } };",
    ),
    (
        "microtask",
        "export default { async fetch(request) { queueMicrotask(async () => { $ }); await 0; return new Response('ok'); } };",
    ),
    (
        "abort listener",
        "export default { fetch(request) { request.signal.addEventListener('abort', async () => { $ }); return new Response(new ReadableStream({ pull(c) { c.enqueue(new Uint8Array(9e4)); } })); } };",
    ),
];

/// A Worker that means harm.
pub struct Hostile {
    /// Its number, its harm and where it does it.
    pub what: String,
    /// One ES module.
    pub module: String,
    /// It keeps a request open without end and without using anything up: no answer is an answer too.
    pub silent: bool,
}

/// The Worker of that number. A short run sees each harm and each phase.
pub fn nth(number: usize, random: &mut Random) -> Hostile {
    let (harm_name, harm) = HARM[number % HARM.len()];
    let phase = match number.checked_sub(HARM.len()) {
        None => 1,
        Some(after) if after < PHASES.len() => after,
        Some(_) => random.below(PHASES.len()),
    };
    let (phase_name, template) = PHASES[phase];
    let harm = harm.replace('#', &random.below(1000).to_string());
    Hostile {
        what: format!("{number}: {harm_name} in {phase_name}"),
        module: format!("// {number}\n{}", template.replace('$', &harm)),
        silent: ["never settles", "interval", "zero timers"].contains(&harm_name),
    }
}
