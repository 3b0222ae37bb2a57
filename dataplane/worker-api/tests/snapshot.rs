//! Isolates that begin with the start-up snapshot: what they share, and what they must not.

// The core starts no process; the test that compares two does.
#![allow(clippy::disallowed_types, clippy::disallowed_methods)]

mod support;

use support::{at_ms, effects, engine, get, spec};
use worker_api::{Effect, Engine, OutgoingBody, Worker};

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
    assert_eq!(answer(&mut worker), r#"["undefined","Float16Array",1.5,"Float16Array"]"#);
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
