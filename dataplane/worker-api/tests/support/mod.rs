//! What the tests share: starting a Worker from text, feeding it events, reading its effects.

#![allow(dead_code)] // Each test binary uses a part of it.

use base::{header::HeaderBlock, id::AccountId};
use bytes::Bytes;
use std::sync::Arc;
use worker_api::{
    BodyEvent, Collecting, Effect, Engine, Event, Failure, Held, IncomingBody, Now, OutgoingBody, RequestHead,
    RequestId, StartError, Worker, WorkerSpec,
};

pub(crate) fn engine() -> Engine {
    Engine::init().expect("the engine starts")
}

/// Time in a test: starts at 1 s, moved by hand.
pub(crate) fn at_ms(ms: u64) -> Now {
    Now { monotonic_ns: 1_000_000_000 + ms * 1_000_000, unix_ms: 1_700_000_000_000 + ms }
}

pub(crate) fn spec(source: &str) -> WorkerSpec {
    let usual = WorkerSpec::new(Bytes::copy_from_slice(source.as_bytes()), at_ms(0));
    WorkerSpec {
        env: vec![("GREETING".into(), "hello".into())],
        account: AccountId(1),
        cpu_ns: usual.cpu_ns * slowness(),
        ..usual
    }
}

/// How much more CPU time things take here: in the emulated machine of `cargo xtask keys`, a lot.
#[expect(clippy::disallowed_methods, reason = "the machine is nothing that a test could be told otherwise")]
fn slowness() -> u64 {
    if std::env::var_os("SELVAGE_KEYS_EMULATED").is_some() { 20 } else { 1 }
}

/// The same for a program that may import modules of Node.js.
pub(crate) fn node_spec(source: &str) -> WorkerSpec {
    let features = vec!["nodejs_compat", "nodejs_compat_populate_process_env"];
    let package = base::package::Package { main: source.as_bytes(), parts: Vec::new(), features };
    WorkerSpec { module: package.pack().into(), ..spec("") }
}

pub(crate) fn start(source: &str) -> Worker {
    match try_start(source) {
        Ok(worker) => worker,
        Err(error) => panic!("{error}: {error:?}"),
    }
}

pub(crate) fn try_start(source: &str) -> Result<Worker, StartError> {
    Worker::start(&engine(), spec(source))
}

/// A Worker whose fetch handler has this body.
pub(crate) fn handler(body: &str) -> Worker {
    start(&format!("export default {{ async fetch(request, env, ctx) {{ {body} }} }};"))
}

pub(crate) fn head(method: &str, url: &str, headers: &[(&str, &str)], body: IncomingBody) -> Arc<RequestHead> {
    let headers = headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect::<HeaderBlock>();
    Arc::new(RequestHead { method: method.into(), url: url.into(), headers, body })
}

pub(crate) fn get(id: u64) -> Event {
    Event::Request { id: RequestId(id), head: head("GET", "http://w.test/", &[], IncomingBody::Empty) }
}

pub(crate) fn effects(worker: &mut Worker) -> Vec<Effect> {
    std::iter::from_fn(|| worker.poll_effect()).collect()
}

/// Handles an event at a time and gives its effects.
pub(crate) fn step(worker: &mut Worker, ms: u64, event: Event) -> Vec<Effect> {
    worker.handle(at_ms(ms), event);
    effects(worker)
}

/// What a test wants to know of the effects of a request.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Seen {
    pub(crate) status: Option<u16>,
    pub(crate) body: Vec<u8>,
    pub(crate) streams: bool,
    pub(crate) fail: Option<Failure>,
    pub(crate) passed: Option<Failure>,
    pub(crate) held: Vec<Held>,
    pub(crate) finished: bool,
    pub(crate) logs: Vec<String>,
}

pub(crate) fn seen(effects: &[Effect]) -> Seen {
    let mut seen = Seen::default();
    for effect in effects {
        assert!(!seen.finished || matches!(effect, Effect::Log(_)), "{effect:?} after Finished");
        match effect {
            Effect::Respond { status, body, .. } => {
                seen.status = Some(*status);
                match body {
                    OutgoingBody::Full(bytes) => seen.body.extend_from_slice(bytes),
                    OutgoingBody::Stream { .. } | OutgoingBody::Passed { .. } => seen.streams = true,
                    OutgoingBody::Empty | OutgoingBody::Socket(_) => {}
                }
            }
            Effect::ResponseBody { body: BodyEvent::Chunk(bytes), .. } => seen.body.extend_from_slice(bytes),
            Effect::Fail { why, .. } => seen.fail = Some(*why),
            Effect::PassThrough { why, .. } => (seen.fail, seen.passed) = (Some(*why), Some(*why)),
            Effect::Held(held) => seen.held.push(*held),
            Effect::Finished { failure, .. } => {
                seen.finished = true;
                if let Some(why) = failure {
                    assert_eq!(seen.fail.or(Some(*why)), Some(*why));
                }
            }
            Effect::Log(record) => seen.logs.push(record.text.clone()),
            _ => {}
        }
    }
    seen
}

/// Collects the garbage of an idle Worker; in how many events.
pub(crate) fn collect(worker: &mut Worker) -> (Collecting, usize) {
    for count in 1..100_000 {
        let effects = step(worker, 0, Event::Collect);
        match effects.iter().find_map(|effect| if let Effect::Collected(how) = effect { Some(*how) } else { None }) {
            Some(Collecting::More) => {}
            Some(over) => return (over, count),
            None => panic!("{effects:?}"),
        }
    }
    panic!("a collection without end");
}

/// One request, answered at once.
pub(crate) fn ask(worker: &mut Worker, id: u64) -> Seen {
    let effects = step(worker, 0, get(id));
    seen(&effects)
}

pub(crate) fn text(seen: &Seen) -> &str {
    std::str::from_utf8(&seen.body).expect("UTF-8")
}

/// The last three numbers of an area's row in `docs/CONFORMANCE.md`: cases, passing, failing.
pub(crate) fn page_row(area: &str) -> [u64; 3] {
    let page = include_str!("../../../../docs/CONFORMANCE.md");
    let row = page.lines().find(|line| line.starts_with(&format!("| {area} |")));
    let row = row.unwrap_or_else(|| panic!("docs/CONFORMANCE.md has no row {area:?}"));
    let mut numbers = row.trim_end_matches(" |").rsplit(" | ").filter_map(|cell| cell.trim().parse().ok());
    let mut next = || numbers.next().unwrap_or_else(|| panic!("{row}"));
    let (failing, passing, cases) = (next(), next(), next());
    [cases, passing, failing]
}
