//! Isolates that begin with the start-up snapshot: what they share, and what they must not.

// The core starts no process; the test that compares two does.
#![allow(clippy::disallowed_types, clippy::disallowed_methods)]

mod support;

use support::{at_ms, effects, engine, get, spec};
use worker_api::{Effect, Engine, OutgoingBody, Spares, StartError, Worker, WorkerSpec};

fn answer(worker: &mut Worker) -> String {
    worker.handle(at_ms(1), get(1));
    let effects = effects(worker);
    let body = effects.iter().find_map(|effect| match effect {
        Effect::Respond { body: OutgoingBody::Full(body), .. } => Some(String::from_utf8_lossy(body).into_owned()),
        _ => None,
    });
    body.unwrap_or_else(|| panic!("{effects:?}"))
}

fn start(source: &str) -> Worker {
    Worker::start(&engine(), spec(source)).expect("starts")
}

#[test]
fn what_one_tenant_changes_no_other_sees() {
    let mut spoiler = start(
        "globalThis.leak = 1; Array.prototype.leak = 2; Response.prototype.leak = 3; Headers.leak = 4; Date.leak = 5;
         Object.getPrototypeOf(async function* () {}).leak = 6; Symbol.for('leak'); delete globalThis.URL;
         Promise.prototype.then = null; Math.random = () => 4;
         export default { fetch() { return new Response('spoilt') } };",
    );
    assert_eq!(answer(&mut spoiler), "spoilt");
    let mut other = start(
        "const seen = [globalThis.leak, [].leak, Response.prototype.leak, Headers.leak, Date.leak,
             Object.getPrototypeOf(async function* () {}).leak];
         const whole = typeof URL === 'function' && typeof Promise.prototype.then === 'function' && Math.random() !== 4;
         export default { fetch() { return new Response(JSON.stringify([seen.every(x => x === undefined), whole])) } };",
    );
    assert_eq!(answer(&mut other), "[true,true]");
}

#[test]
fn random_numbers_differ_between_isolates() {
    let source = "const early = [Math.random(), Math.random(), crypto.randomUUID()];
        export default { fetch() { return new Response(JSON.stringify([early, Math.random()])) } };";
    let mut seen: Vec<String> = (0..8).map(|_| answer(&mut start(source))).collect();
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 8);
}

#[test]
fn no_clock_is_older_than_the_isolate() {
    let mut worker = start(
        "const top = Date.now();
         export default { fetch() {
           const now = Date.now();
           return new Response(JSON.stringify([new Date().getTime() === now, globalThis.Temporal === undefined || Temporal.Now.instant().epochMilliseconds === now,
             performance.now(), performance.timeOrigin === now - performance.now(), now >= top]));
         } };",
    );
    assert_eq!(answer(&mut worker), "[true,true,1,true,true]");
}

#[test]
fn what_v8_adds_after_the_snapshot_is_as_without_one() {
    let mut worker = start(
        "const cloned = structuredClone(new Float16Array([1.5]));
         export default { async fetch() {
           const stream = new ReadableStream({ type: 'bytes', pull(c) { c.byobRequest.respond(2); c.close(); } });
           const { value } = await stream.getReader({ mode: 'byob' }).read(new Float16Array(1));
           return new Response(JSON.stringify([typeof WebAssembly, cloned.constructor.name, cloned[0], value.constructor.name]));
         } };",
    );
    assert_eq!(answer(&mut worker), r#"["object","Float16Array",1.5,"Float16Array"]"#);
}

#[test]
fn spares_are_made_in_steps_and_claimed_once() {
    let mut spares = Spares::new(&engine(), 2);
    assert!(spares.claim().is_none());
    let mut steps = 1;
    while spares.refill_step() {
        steps += 1;
    }
    assert_eq!((spares.ready(), steps), (2, 4), "a group with its isolate, then a context, for each");
    let source = "globalThis.n = (globalThis.n ?? 0) + 1;
        const t = Date.now(); export default { fetch() { return new Response([n, Date.now() - t, performance.now()].join()) } };";
    for left in [1, 0] {
        let mut worker = Worker::start_in(spares.claim(), &engine(), spec(source)).expect("starts");
        assert_eq!(spares.ready(), left);
        assert_eq!(answer(&mut worker), "1,1,1", "nothing is left of another, and time begins with the tenant");
    }
}

#[test]
fn a_claimed_spare_has_its_tenants_limits() {
    let hog = "const a = []; for (;;) a.push(new Array(1000).fill(1.5));";
    let mut spares = Spares::new(&engine(), 1);
    for heap_bytes in [16 << 20, base::limits::ISOLATE_HEAP_BYTES_MAX] {
        while spares.refill_step() {}
        let small = WorkerSpec { heap_bytes, ..spec(hog) };
        let ended = Worker::start_in(spares.claim(), &engine(), small).err();
        assert_eq!(ended, Some(StartError::MemoryLimit), "{heap_bytes}");
        let fits = format!(
            "const b = new ArrayBuffer({}); export default {{ fetch() {{ return new Response('fits') }} }};",
            64 << 20
        );
        while spares.refill_step() {}
        let started = Worker::start_in(spares.claim(), &engine(), WorkerSpec { heap_bytes, ..spec(&fits) });
        assert_eq!(started.is_ok(), heap_bytes > 64 << 20, "{heap_bytes}");
    }
}

/// The checksum is compared over processes: this one, and one that runs only the test below.
#[test]
fn compiled_code_serves_in_every_process() {
    let mine = Engine::init().expect("engine").code_base();
    assert_ne!(mine, 0);
    let program = std::env::current_exe().expect("this test");
    for _ in 0..2 {
        let run = std::process::Command::new(&program)
            .args(["--exact", "prints_the_base_of_compiled_code", "--nocapture", "--ignored"])
            .output()
            .expect("runs");
        let text = String::from_utf8_lossy(&run.stdout).into_owned();
        assert!(text.contains(&format!("base={mine:08x};")), "{mine:08x}: {text}");
    }
}

#[test]
#[ignore = "run by compiled_code_serves_in_every_process in a process of its own"]
fn prints_the_base_of_compiled_code() {
    println!("base={:08x};", Engine::init().expect("engine").code_base());
}
