//! Hostile Workers: whatever a tenant's program does, its request ends with a typed failure (or an answer), and the
//! process serves others. `WATCH=name` runs one of them.

// A test measures and is configured; the crate under it is not.
#![allow(clippy::disallowed_types, clippy::disallowed_methods)]

mod support;

use std::time::Instant;

use support::*;
use worker_api::{Effect, Event, Failure, Worker};

/// Ways of dying that are all right for a shape.
const LIMITS: &[Failure] = &[Failure::CpuLimit, Failure::MemoryLimit, Failure::Exception];

/// Shapes that may answer: what they do ends, soon enough on some machine and with some V8. No other one may.
const MAY_ANSWER: &[&str] = &[
    "regex_compile_bomb",
    "includes_dictionary",
    "last_index_of_dictionary",
    "join_sparse",
    "reverse_sparse",
    "sort_sparse",
    "sort_comparator",
    "bigint_tostring",
    "string_index_of",
    "string_last_index_of",
    "log_deep",
    "log_wide",
    "log_proxy",
    "headers_huge",
    "rejection_loop",
    "response_huge",
    "patch_prototypes",
];

/// Bodies of `async fetch(request, env, ctx)`.
const SHAPES: &[(&str, &str)] = &[
    ("loop", "for (;;);"),
    ("loop_in_microtasks", "const f = () => Promise.resolve().then(f); await f();"),
    ("microtask_flood", "for (;;) Promise.resolve().then(() => {});"),
    (
        "queue_microtask_flood",
        "const f = () => { queueMicrotask(f); queueMicrotask(f); }; f(); await new Promise(() => {});",
    ),
    ("catch_termination", "for (;;) { try { for (;;); } catch {} finally { for (;;); } }"),
    ("array_growth", "const a = []; for (;;) a.push({ a: 1, b: [1, 2, 3] });"),
    ("array_of_strings", "const a = []; for (let i = 0; ; i++) a.push('x'.repeat(1000) + i);"),
    ("number_array", "const a = []; for (;;) a.push(1.5);"),
    ("string_doubling", "let s = 'x'; for (;;) s += s;"),
    ("string_doubling_flat", "let s = 'x'; for (;;) { s += s; JSON.stringify(s); }"),
    ("string_repeat", "const s = 'x'.repeat(2 ** 29 - 25); return new Response(s);"),
    ("string_repeat_flatten", "const a = []; for (;;) { const s = 'x'.repeat(2 ** 28); /y/.test(s); a.push(s); }"),
    ("string_pad", "const a = []; for (;;) a.push('x'.padEnd(2 ** 27, 'ab').toUpperCase());"),
    ("replace_bomb", "let s = 'a'.repeat(100000); for (;;) s = s.replace(/a/g, 'aa');"),
    ("split_bomb", "const a = []; for (;;) a.push('a'.repeat(1 << 24).split(''));"),
    (
        "join_bomb",
        "const a = new Array(1 << 25).fill('xxxxxxxxxxxxxxxxxxxx'); return new Response(a.join('yyyyyyyy'));",
    ),
    ("map_growth", "const m = new Map(); for (let i = 0; ; i++) m.set(i, i);"),
    ("set_growth", "const m = new Set(); for (let i = 0; ; i++) m.add('k' + i);"),
    ("weakmap_growth", "const m = new WeakMap(), k = []; for (;;) { const o = {}; k.push(o); m.set(o, {}); }"),
    ("object_keys", "const o = {}; for (let i = 0; ; i++) o['k' + i] = i;"),
    ("dictionary_elements", "const o = []; for (let i = 0; ; i++) o[i * 100000] = i;"),
    ("huge_array", "return new Response(String(new Array(2 ** 32 - 1).fill(0).length));"),
    ("huge_array_alloc", "const a = []; for (;;) a.push(new Array(1 << 25).fill(1));"),
    ("huge_smi_array", "const a = []; for (;;) a.push(Array.from({ length: 1 << 24 }, (_, i) => i));"),
    ("spread_bomb", "let a = [1, 2, 3, 4]; for (;;) a = [...a, ...a];"),
    ("concat_bomb", "let a = [1, 2, 3, 4]; for (;;) a = a.concat(a);"),
    (
        "flat_bomb",
        "let a = [1]; for (let i = 0; i < 26; i++) a = [a, a]; return new Response(String(a.flat(Infinity).length));",
    ),
    ("apply_bomb", "const a = new Array(1 << 24).fill(1); return new Response(String(Math.max.apply(null, a)));"),
    ("typed_arrays", "const a = []; for (;;) a.push(new Uint8Array(1 << 20).fill(1));"),
    ("typed_array_huge", "const a = []; for (;;) a.push(new Uint8Array(2 ** 32));"),
    ("float64_small", "const a = []; for (;;) a.push(new Float64Array(8));"),
    ("array_buffers", "const a = []; for (;;) a.push(new ArrayBuffer(1 << 16));"),
    ("resizable_buffers", "const a = []; for (;;) a.push(new ArrayBuffer(1, { maxByteLength: 1 << 30 }));"),
    (
        "resizable_grow",
        "const a = []; for (;;) { const b = new ArrayBuffer(1, { maxByteLength: 1 << 28 }); b.resize(1 << 28); new Uint8Array(b).fill(1); a.push(b); }",
    ),
    ("transfer_bomb", "let b = new ArrayBuffer(1 << 20); for (;;) b = b.transfer(b.byteLength * 2);"),
    ("slice_bomb", "const a = [], b = new Uint8Array(1 << 22); for (;;) a.push(b.slice());"),
    ("recursion", "const f = () => f() + 1; return new Response(String(f()));"),
    ("recursion_caught", "const f = () => { try { f(); } catch { f(); } }; f(); return new Response('x');"),
    ("recursion_native", "const f = () => [1].map(f); f();"),
    ("recursion_tostring", "const o = { toString() { return `${o}`; } }; return new Response(o);"),
    (
        "recursion_proxy",
        "let p = new Proxy({}, {}); for (let i = 0; i < 1e6; i++) p = new Proxy(p, {}); return new Response(p.x);",
    ),
    (
        "recursion_proxy_self",
        "const p = new Proxy({}, {}); Object.setPrototypeOf(Object.getPrototypeOf(p), p); return new Response(p.x);",
    ),
    ("recursion_regex", "return new Response(String(new RegExp('('.repeat(1e6) + ')'.repeat(1e6)).test('x')));"),
    ("recursion_json", "return new Response(JSON.stringify(JSON.parse('['.repeat(1e6) + ']'.repeat(1e6))));"),
    (
        "recursion_stringify",
        "let o = {}; for (let i = 0; i < 1e6; i++) o = { o }; return new Response(JSON.stringify(o));",
    ),
    ("json_wide", "return new Response(String(JSON.parse('[' + '{\"a\":[1,2,3]},'.repeat(3e6) + '1]').length));"),
    (
        "json_stringify_bomb",
        "let o = ['x'.repeat(100)]; for (let i = 0; i < 30; i++) o = [o, o]; return new Response(JSON.stringify(o));",
    ),
    ("json_tojson_loop", "const o = { toJSON() { return [o, o]; } }; JSON.stringify(o);"),
    (
        "structured_clone_bomb",
        "let o = ['x'.repeat(100)]; for (let i = 0; i < 25; i++) o = [o, [...o]]; for (;;) o = structuredClone([o, o]);",
    ),
    ("regex_backtrack", "return new Response(String(/^(a+)+$/.test('a'.repeat(40) + 'b')));"),
    ("regex_backtrack_sticky", "return new Response(String(/(x+x+)+y/.exec('x'.repeat(60))));"),
    (
        "regex_compile_bomb",
        "return new Response(String(new RegExp('(?:a{1,1000}){1,1000}'.repeat(50)).test('a'.repeat(1000))));",
    ),
    // Seconds of compiling that nothing can interrupt.
    ("regex_compile_long", "return new Response(String(new RegExp('\\\\p{L}'.repeat(20000), 'iu').test('x')));"),
    (
        "regex_compile_flood",
        "for (let i = 0; ; i++) new RegExp('\\\\p{L}'.repeat(1000) + i, 'iu').test('x'.repeat(2000));",
    ),
    ("regex_matchall", "const s = 'ab'.repeat(1 << 22); return new Response(String([...s.matchAll(/a|b/g)].length));"),
    ("bigint_pow", "return new Response(String((2n ** (2n ** 29n)).toString().length));"),
    ("bigint_mul", "let b = 3n ** 100000n; for (;;) b = b * b;"),
    ("bigint_tostring", "return new Response((7n ** 3000000n).toString());"),
    ("bigint_shift", "const a = []; for (;;) a.push(1n << (2n ** 29n));"),
    ("promise_chain", "let p = Promise.resolve(); for (;;) p = p.then(() => p);"),
    ("promise_all", "await Promise.all(new Array(1 << 24).fill(0).map(async () => new Promise(() => {})));"),
    ("promise_never", "const a = []; for (;;) a.push(new Promise(() => {}));"),
    ("unhandled_rejections", "for (;;) Promise.reject(new Error('x'));"),
    (
        "async_generator",
        "async function* g() { for (;;) yield new Array(1000).fill(1); } const a = []; for await (const x of g()) a.push(x);",
    ),
    ("thenable_loop", "const t = { then(f) { f(t); } }; await t;"),
    (
        "iterator_bomb",
        "const it = { [Symbol.iterator]() { return { next: () => ({ done: false, value: 1 }) }; } }; [...it];",
    ),
    ("array_from_infinite", "Array.from({ length: 2 ** 32 - 2 });"),
    (
        "array_length_set",
        "const a = []; a.length = 2 ** 32 - 1; a.forEach(() => {}); a.reverse(); return new Response('x');",
    ),
    ("index_of_array_like", "return new Response(String(Array.prototype.indexOf.call({ length: 2 ** 53 - 1 }, 1)));"),
    ("includes_array_like", "return new Response(String(Array.prototype.includes.call({ length: 2 ** 53 - 1 }, 1)));"),
    ("includes_dictionary", "const a = []; a[4294967290] = 1; return new Response(String(a.includes(2)));"),
    ("last_index_of_dictionary", "const a = []; a[4294967290] = 1; return new Response(String(a.lastIndexOf(2)));"),
    ("fill_array_like", "Array.prototype.fill.call({ length: 2 ** 53 - 1 }, 1); return new Response('x');"),
    ("join_array_like", "return new Response(Array.prototype.join.call({ length: 2 ** 53 - 1 }, ''));"),
    ("join_sparse", "return new Response(new Array(2 ** 32 - 1).join(''));"),
    ("reverse_sparse", "const a = new Array(2 ** 32 - 1); a[5] = 1; a.reverse(); return new Response('x');"),
    ("sort_sparse", "const a = new Array(2 ** 32 - 1); a[5] = 1; a.sort(); return new Response('x');"),
    ("sort_bomb", "const a = new Array(1 << 22).fill(0).map(() => Math.random()); for (;;) a.sort();"),
    ("sort_comparator", "new Array(1 << 20).fill(0).sort(() => Math.random() - 0.5); return new Response('x');"),
    ("to_sorted_bomb", "const a = [], b = new Array(1 << 20).fill(0.5); for (;;) a.push(b.toSorted());"),
    ("splice_bomb", "const a = new Array(1 << 22).fill(1); for (;;) a.splice(0, 1, 1, 1);"),
    ("unshift_bomb", "const a = new Array(1 << 22).fill(1); for (;;) a.unshift(1);"),
    ("copy_within", "const a = new Uint8Array(1 << 26); for (;;) a.copyWithin(0, 1);"),
    (
        "typed_sort",
        "const a = new Float64Array(1 << 23); for (let i = 0; i < a.length; i++) a[i] = -i; for (;;) { a.sort(); a.reverse(); }",
    ),
    ("typed_index_of", "const a = new Uint8Array(1 << 26); for (;;) a.indexOf(1);"),
    (
        "string_index_of",
        "const s = 'a'.repeat(1 << 24), t = 'a'.repeat(1 << 23) + 'b'; return new Response(String(s.indexOf(t)));",
    ),
    (
        "string_last_index_of",
        "const s = 'ab'.repeat(1 << 23), t = 'b' + 'ab'.repeat(1 << 22); return new Response(String(s.lastIndexOf(t)));",
    ),
    ("normalize_bomb", "const s = '\\u1E9B\\u0323'.repeat(1 << 22); for (;;) s.normalize('NFKD');"),
    ("locale_compare", "const s = 'ä'.repeat(1 << 22); for (;;) s.localeCompare(s + 'b');"),
    ("intl_bomb", "const a = []; for (;;) a.push(new Intl.DateTimeFormat('de', { dateStyle: 'full' }));"),
    (
        "intl_segmenter",
        "const s = 'a b '.repeat(1 << 22); return new Response(String([...new Intl.Segmenter('en', { granularity: 'word' }).segment(s)].length));",
    ),
    ("to_locale_upper", "const s = 'ß'.repeat(1 << 24); for (;;) s.toLocaleUpperCase('de');"),
    ("date_parse", "const s = '1'.repeat(1 << 24); for (;;) Date.parse(s);"),
    ("encode_uri", "const a = []; for (;;) a.push(encodeURIComponent('ä'.repeat(1 << 22)));"),
    ("escape_bomb", "let s = 'ä'.repeat(1 << 20); for (;;) s = escape(s);"),
    ("error_stacks", "const a = []; for (;;) a.push(new Error('x').stack);"),
    ("error_message", "throw new Error('x'.repeat(2 ** 28));"),
    (
        "error_stack_limit",
        "Error.stackTraceLimit = 1e9; const f = (n) => { if (n === 0) { for (;;) new Error().stack; } f(n - 1); }; f(5000);",
    ),
    ("error_getter", "throw { get stack() { for (;;); }, get message() { throw this; }, toString() { throw 1; } };"),
    ("prepare_stack_trace", "Error.prepareStackTrace = () => { for (;;); }; throw new Error('x');"),
    ("finalization_registry", "const r = new FinalizationRegistry(() => { for (;;); }); for (;;) r.register({}, 1);"),
    ("weak_refs", "const a = []; for (;;) a.push(new WeakRef({}));"),
    ("symbols", "const a = []; for (let i = 0; ; i++) a.push(Symbol.for('x' + i));"),
    ("functions", "const a = []; for (;;) a.push(() => a);"),
    ("classes", "const a = []; for (;;) a.push(class { x = 1; });"),
    (
        "shapes",
        "for (let i = 0; ; i++) { const o = {}; for (let j = 0; j < 100; j++) o['p' + i + '_' + j] = j; globalThis['g' + i] = o; }",
    ),
    ("eval", "for (let i = 0; ; i++) eval('var x' + i);"),
    ("function_constructor", "for (;;) new Function('return 1');"),
    ("webassembly", "const a = []; for (;;) a.push(new WebAssembly.Memory({ initial: 1000, maximum: 65536 }));"),
    ("atomics_wait", "Atomics.wait(new Int32Array(8), 0, 0); return new Response('x');"),
    ("atomics_wait_async", "await Atomics.waitAsync(new Int32Array(8), 0, 0).value; return new Response('x');"),
    ("atomics_pause", "for (;;) Atomics.pause?.();"),
    ("timers", "for (;;) setTimeout(() => {}, 1e9);"),
    ("timer_churn", "for (;;) clearTimeout(setTimeout(() => {}, 1e9));"),
    ("fetch_flood", "for (;;) fetch('http://a.test/').catch(() => {});"),
    (
        "fetch_bodies",
        "for (;;) fetch('http://a.test/', { method: 'POST', body: 'x'.repeat(1 << 20) }).catch(() => {});",
    ),
    ("fetch_url", "for (;;) await fetch('http://a.test/' + 'x'.repeat(1 << 24));"),
    ("log_flood", "for (;;) console.log('x'.repeat(10000));"),
    (
        "log_deep",
        "let o = {}; for (let i = 0; i < 1e5; i++) o = { o, a: [o] }; console.log(o); return new Response('x');",
    ),
    ("log_wide", "console.log(new Array(1 << 24).fill({ a: 1 })); return new Response('x');"),
    (
        "log_proxy",
        "console.log(new Proxy({}, { get() { for (;;); }, ownKeys() { for (;;); } })); return new Response('x');",
    ),
    ("headers_flood", "const h = new Headers(); for (let i = 0; ; i++) h.append('x' + i, 'y'.repeat(1000));"),
    ("headers_huge", "return new Response('x', { headers: { x: 'y'.repeat(1 << 24) } });"),
    ("url_bomb", "for (;;) new URL('http://a/' + '../a/'.repeat(1 << 20));"),
    ("url_params", "const u = new URLSearchParams(); for (let i = 0; ; i++) u.append('k' + i, 'v');"),
    ("text_encoder", "const a = []; for (;;) a.push(new TextEncoder().encode('ä'.repeat(1 << 22)));"),
    (
        "text_decoder",
        "const b = new Uint8Array(1 << 26).fill(65); const a = []; for (;;) a.push(new TextDecoder().decode(b));",
    ),
    ("base64", "let s = btoa('x'.repeat(1 << 20)); for (;;) s = btoa(s);"),
    ("random", "const b = new Uint8Array(65536); for (;;) crypto.getRandomValues(b);"),
    (
        "rsa_generate",
        "for (;;) await crypto.subtle.generateKey({ name: 'RSA-PSS', modulusLength: 4096, publicExponent: new Uint8Array([1, 0, 1]), hash: 'SHA-256' }, false, ['sign']);",
    ),
    (
        "pbkdf2",
        "const k = await crypto.subtle.importKey('raw', new Uint8Array(1), 'PBKDF2', false, ['deriveBits']);
         await crypto.subtle.deriveBits({ name: 'PBKDF2', hash: 'SHA-512', salt: new Uint8Array(1), iterations: 4294967295 }, k, 1 << 20);",
    ),
    ("digests", "const b = new Uint8Array(1 << 25); for (;;) crypto.subtle.digest('SHA-512', b);"),
    ("keys", "const a = []; for (;;) a.push(await crypto.subtle.generateKey('Ed25519', true, ['sign']));"),
    ("codecs", "const a = []; for (;;) a.push(new CompressionStream('gzip'));"),
    (
        "decompression_bomb",
        "const small = await new Response(new Response(new Uint8Array(1 << 24)).body.pipeThrough(new CompressionStream('gzip'))).bytes();
         const a = []; for (;;) a.push(await new Response(new Response(small).body.pipeThrough(new DecompressionStream('gzip'))).bytes());",
    ),
    (
        "url_pattern",
        "return new Response(String(new URLPattern({ pathname: '/(' + '(?:a+)+'.repeat(20) + 'b)' }).test({ pathname: '/' + 'a'.repeat(60) })));",
    ),
    (
        "url_pattern_long",
        "let s = ''; for (let i = 0; s.length < 16000; i++) s += ':n' + i + '/'; for (;;) try { new URLPattern('https://h/' + s); } catch {}",
    ),
    (
        "message_flood",
        "const { port1, port2 } = new MessageChannel(); port2.onmessage = () => {}; for (;;) port1.postMessage(new Uint8Array(1000));",
    ),
    (
        "message_loop",
        "const { port1, port2 } = new MessageChannel(); for (const p of [port1, port2]) p.onmessage = () => p.postMessage('x'.repeat(1000));
         port1.postMessage(1); await new Promise(() => {});",
    ),
    ("rejection_loop", "onunhandledrejection = () => { Promise.reject(1); }; Promise.reject(1); return new Response('x');"),
    (
        "stream_infinite",
        "return new Response(await new Response(new ReadableStream({ pull(c) { c.enqueue(new Uint8Array(65536)); } })).text());",
    ),
    ("stream_start", "new ReadableStream({ start(c) { for (;;) c.enqueue(new Uint8Array(1000)); } });"),
    ("tee_bomb", "let s = new ReadableStream(); for (;;) s = s.tee()[0];"),
    ("response_huge", "return new Response(new Uint8Array(120 << 20));"),
    ("response_many", "const a = []; for (;;) a.push(new Response('x'.repeat(1000)));"),
    ("abort_listeners", "const c = new AbortController(); for (;;) c.signal.addEventListener('abort', () => {});"),
    ("wait_until_flood", "for (;;) ctx.waitUntil(new Promise(() => {}));"),
    (
        "clone_bomb",
        "let r = new Request('http://a.test/', { method: 'POST', body: 'x'.repeat(1 << 20) }); const a = []; for (;;) { a.push(r.clone()); }",
    ),
    (
        "patch_prototypes",
        "Array.prototype.push = Promise.prototype.then = Map.prototype.get = Object.prototype.toString = () => { for (;;); }; Object.prototype.then = 1; return new Response('x');",
    ),
    (
        "freeze_global",
        "for (const k of Reflect.ownKeys(globalThis)) { try { delete globalThis[k]; } catch {} } return 1;",
    ),
];

/// Runs a hostile request and says how it ended, within a time that no shape may pass.
fn run(name: &str, body: &str) -> (Worker, Seen) {
    let start = Instant::now();
    let mut worker = handler(body);
    let mut seen = ask(&mut worker, 1);
    // Timers are the one thing that can move it on.
    while !seen.finished {
        let Some(at) = worker.poll_timeout() else { break };
        let now = worker_api::Now { monotonic_ns: at, unix_ms: 0 };
        worker.handle(now, worker_api::Event::Timeout);
        let more = support::seen(&effects(&mut worker));
        seen.finished = more.finished;
        seen.status = seen.status.or(more.status);
        seen.fail = seen.fail.or(more.fail);
    }
    seen.logs.truncate(2);
    for log in &mut seen.logs {
        log.truncate(log.floor_char_boundary(160));
    }
    println!("{name}: {:?} {:?} in {:?} {:?}", seen.status, seen.fail, start.elapsed(), seen.logs);
    (worker, seen)
}

fn bystander() -> Worker {
    handler("return new Response('fine');")
}

#[test]
fn every_shape_ends_its_request_and_nothing_else() {
    let only = std::env::var("WATCH").ok();
    let is_shape = |name: &&str| SHAPES.iter().any(|(shape, _)| shape == name);
    assert!(MAY_ANSWER.iter().all(is_shape), "{MAY_ANSWER:?}");
    assert!(only.as_deref().iter().all(is_shape), "{only:?} is no shape");
    let mut other = bystander();
    for (round, (name, body)) in SHAPES.iter().enumerate() {
        if only.as_deref().is_some_and(|only| only != *name) {
            continue;
        }
        let start = Instant::now();
        let (worker, seen) = run(name, body);
        if let Some(why) = seen.fail {
            assert!(LIMITS.contains(&why) || why == Failure::Hung || why == Failure::NotAResponse, "{name}: {why:?}");
        }
        let may_answer = MAY_ANSWER.contains(name);
        assert!(may_answer || (seen.status != Some(200) && seen.fail.is_some()), "{name}: {seen:?}");
        assert!(seen.finished || worker.in_flight() == 1, "{name}: {seen:?}");
        assert!(start.elapsed().as_secs() < 20, "{name} kept the thread for {:?}", start.elapsed());
        drop(worker);
        let seen = ask(&mut other, round as u64);
        assert_eq!((seen.status, text(&seen)), (Some(200), "fine"), "after {name}: {seen:?}");
    }
}

/// A thousand hostile Workers in one process, each in an isolate of its own that is then dropped; each in turn with a
/// bystander's request. Shapes that V8 cannot be stopped in take a third of a second each, so they come up less often.
#[test]
fn a_thousand_hostile_workers_leave_the_process_serving() {
    /// In one of these ways it ends; `None` is an answer.
    type Ends = &'static [Option<Failure>];
    const THREW: Ends = &[Some(Failure::Exception)];
    const CPU: Ends = &[Some(Failure::CpuLimit)];
    const ANSWERS: Ends = &[None];
    const QUICK: &[(&str, Ends)] = &[
        ("throw new Error('x');", THREW),
        ("return 1;", &[Some(Failure::NotAResponse)]),
        ("const f = () => f() + 1; return new Response(String(f()));", THREW),
        ("await new Promise(() => {});", &[Some(Failure::Hung)]),
        ("let s = 'x'; for (;;) s += s;", THREW),
        ("const a = []; for (;;) a.push(new Uint8Array(32 << 20));", THREW),
        ("return new Response('x'.repeat(2 ** 29 - 25));", THREW),
        ("return new Response(String(new RegExp('('.repeat(1e5) + ')'.repeat(1e5)).test('x')));", THREW),
        ("eval('1');", THREW),
        ("for (;;) setTimeout(() => {}, 1e9);", THREW),
        ("return new Response(new ReadableStream({ start() { throw new Error('x'); } }));", THREW),
        (
            "Array.prototype.push = Promise.prototype.then = () => { throw new Error('patched'); }; return new Response('x');",
            ANSWERS,
        ),
    ];
    let mut other = bystander();
    let abandoned = engine().isolates_abandoned();
    for round in 0..1_000u64 {
        let (body, ends) = match round {
            // One in fifty computes, one in a hundred eats memory, one in two hundred does not poll.
            _ if round % 200 == 7 => {
                ("return new Response(String(Array.prototype.indexOf.call({ length: 2 ** 53 - 1 }, 1)));", CPU)
            }
            _ if round % 100 == 3 => {
                const EATS: Ends = &[Some(Failure::MemoryLimit), Some(Failure::CpuLimit)];
                ("const a = []; for (;;) a.push('x'.padEnd(2 ** 26, 'ab').toUpperCase());", EATS)
            }
            _ if round % 50 == 1 => ("for (;;);", CPU),
            _ => QUICK[round as usize % QUICK.len()],
        };
        let mut worker = handler(body);
        let seen = ask(&mut worker, 1);
        assert!(ends.contains(&seen.fail), "round {round}, {body}: {seen:?}");
        assert_eq!(seen.status, seen.fail.is_none().then_some(200), "round {round}, {body}: {seen:?}");
        assert!(seen.finished, "round {round}, {body}: {seen:?}");
        drop(worker);
        if round % 10 == 0 {
            let seen = ask(&mut other, round);
            assert_eq!((seen.status, text(&seen)), (Some(200), "fine"), "after {body}");
        }
    }
    println!("isolates given up: {}", engine().isolates_abandoned() - abandoned);
}

/// V8's optimising compiler must not take the look for interrupts out of a loop that need not end.
#[test]
fn an_endless_loop_around_short_ones_ends_and_its_isolate_is_not_given_up() {
    let abandoned = engine().isolates_abandoned();
    for short in ["const b = new Array(100).fill(0);", "let b = 0; for (let i = 0; i < 100; i++) b += i;"] {
        let mut worker = handler(&format!("const a = []; for (;;) {{ {short} a.push(() => b); }}"));
        let seen = ask(&mut worker, 1);
        assert!(matches!(seen.fail, Some(Failure::CpuLimit | Failure::MemoryLimit)), "{short}: {seen:?}");
    }
    assert_eq!(engine().isolates_abandoned(), abandoned);
}

/// A request that has met its limit is over, with all of its timers that are due at the same time.
#[test]
fn ten_thousand_due_timers_that_do_not_end_are_one_failure() {
    let mut worker = handler(
        "for (let i = 0; i < 10000; i++) setTimeout(() => { for (;;); }, 1);
         await new Promise(() => {});",
    );
    let armed = ask(&mut worker, 1);
    assert_eq!((armed.status, armed.fail, armed.finished), (None, None, false), "{armed:?}");
    let start = Instant::now();
    let effects = step(&mut worker, 5, Event::Timeout);
    let took = start.elapsed();
    let seen = support::seen(&effects);
    assert_eq!((seen.fail, seen.finished), (Some(Failure::CpuLimit), true), "{seen:?}");
    assert_eq!(effects.iter().filter(|effect| matches!(effect, Effect::Fail { .. })).count(), 1);
    assert!(seen.logs.len() == 1 && seen.logs[0].contains("CPU time limit"), "{} records", seen.logs.len());
    assert!(took.as_millis() < 300, "{took:?}");
    assert_eq!((worker.in_flight(), worker.poll_timeout(), worker.condemned()), (0, None, true));
}

/// Resident memory of this process, bytes.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).expect("a number") * 4096
}

/// Bytes that stay resident of each isolate that was given up in a function V8 cannot leave, after this harm.
fn kept_of_each(harm: &str) -> usize {
    const ROUNDS: usize = 4;
    let source = format!(
        "export default {{ async fetch() {{ const held = []; {harm}
            Array.prototype.indexOf.call({{ length: 2 ** 53 - 1 }}, held); }} }};"
    );
    let give_up = || {
        // Time for the harm; the rest of it is spent in that function.
        let spec = worker_api::WorkerSpec { cpu_ns: 400_000_000, ..spec(&source) };
        let mut worker = Worker::start(&engine(), spec).expect("a Worker");
        assert_eq!(ask(&mut worker, 1).fail, Some(Failure::CpuLimit), "{harm}");
        drop(worker);
    };
    give_up();
    let (abandoned, before) = (engine().isolates_abandoned(), resident());
    for _ in 0..ROUNDS {
        give_up();
    }
    assert_eq!(engine().isolates_abandoned() - abandoned, ROUNDS as u64, "V8 cannot leave that function");
    resident().saturating_sub(before) / ROUNDS
}

/// An isolate that V8 cannot leave is given up; what it held, in buffers above all, goes back to the system.
#[test]
fn what_a_given_up_isolate_held_goes_back() {
    for (what, harm, kept_max) in [
        ("nothing", "", 1 << 20),
        (
            "buffers and an array",
            "for (let i = 0; i < 24; i++) held.push(new Uint8Array(1 << 20).fill(1), new Uint8Array(1 << 16).fill(2));
            held.push(new Array(1 << 20).fill(1.5));",
            2 << 20,
        ),
        // V8's own records of each buffer stay.
        ("small buffers", "for (let i = 0; i < 30000; i++) held.push(new Uint8Array(1000).fill(1));", 10 << 20),
        (
            "a deep stack",
            "const f = (n) => n === 0 ? Array.prototype.indexOf.call({ length: 2 ** 53 - 1 }, held) : f(n - 1) + 1;
            try { f(8000); } catch {}",
            1 << 20,
        ),
    ] {
        let kept = kept_of_each(harm);
        println!("{what}: {} KB are kept of each", kept >> 10);
        assert!(kept < kept_max, "{what}: {kept} bytes are kept of each");
    }
}
