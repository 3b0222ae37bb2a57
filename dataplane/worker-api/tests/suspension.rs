//! A Worker that computes is suspended and goes on: many at once on one thread, collections and exceptions in between, nobody
//! disturbed.

#![allow(clippy::disallowed_types, reason = "what is measured is real time")]

mod support;

use std::time::{Duration, Instant};

use support::{at_ms, engine, get, spec};
use worker_api::{Effect, Event, Failure, OutgoingBody, Progress, Suspendable, Worker};

/// A Worker as a shard holds it.
type Seat = Suspendable<Option<Worker>>;

/// Starts a Worker within a suspendable call.
fn start(source: &str, cpu_ms: u64) -> Seat {
    let mut seat = Seat::new(None);
    let mut spec = spec(source);
    spec.cpu_ns = cpu_ms * 1_000_000;
    let engine = engine();
    let mut progress = seat.start(move |worker| *worker = Some(Worker::start(&engine, spec).expect("starts")));
    while progress == Progress::Suspended {
        progress = seat.resume();
    }
    seat
}

fn send(seat: &mut Seat, number: u64) -> Progress {
    seat.start(move |worker| {
        if let Some(worker) = worker {
            worker.handle(at_ms(1), get(number));
        }
    })
}

/// Has all timers run that are due.
fn send_timeout(seat: &mut Seat) -> Progress {
    seat.start(|worker| {
        if let Some(worker) = worker {
            worker.handle(at_ms(10), Event::Timeout);
        }
    })
}

/// Goes on with a call until it is over. How often it was suspended.
fn finish(seat: &mut Seat, mut progress: Progress) -> usize {
    let mut suspensions = 0;
    while progress == Progress::Suspended {
        suspensions += 1;
        progress = seat.resume();
    }
    suspensions
}

/// The body and the failure of the one request that was sent.
fn outcome(seat: &mut Seat) -> (String, Option<Failure>) {
    let worker = seat.get_mut().expect("not suspended").as_mut().expect("started");
    let (mut text, mut failed) = (String::new(), None);
    while let Some(effect) = worker.poll_effect() {
        match effect {
            Effect::Respond { body: OutgoingBody::Full(bytes), .. } => {
                text = String::from_utf8(bytes.to_vec()).expect("text");
            }
            Effect::Fail { why, .. } => failed = Some(why),
            _ => {}
        }
    }
    (text, failed)
}

const FIBONACCI: &str = "const fib = (n) => (n < 2 ? n : fib(n - 1) + fib(n - 2));
    export default { fetch() { return new Response(String(fib(29) + fib(28))) } };";

const GARBAGE: &str = "export default { fetch() {
    let keep = [], sum = 0;
    for (let i = 0; i < 400000; i++) {
        const one = { i, text: 'x' + i, more: [i, i + 1] };
        if (i % 1000 === 0) keep.push(one);
        sum += one.more[1] - one.more[0];
    }
    return new Response(String(sum + keep.length));
} };";

const OVERFLOW: &str = "const down = (n) => n + down(n + 1);
    export default { fetch() {
        let caught = 0;
        for (let i = 0; i < 30; i++) try { down(0); } catch (error) { caught += error instanceof RangeError; }
        return new Response(String(caught));
    } };";

const MICROTASKS: &str = "export default { async fetch() {
    let n = 0;
    for (let i = 0; i < 200000; i++) n += await 1;
    return new Response(String(n));
} };";

#[test]
fn suspended_workers_take_turns_on_one_thread_and_all_come_out_right() {
    let kinds = [(FIBONACCI, "832040"), (GARBAGE, "400400"), (OVERFLOW, "30"), (MICROTASKS, "200000")];
    let mut seats: Vec<(Seat, &str)> =
        kinds.iter().cycle().take(8).map(|(source, expected)| (start(source, 30_000), *expected)).collect();
    let mut quick = start("let n = 0; export default { fetch() { return new Response(String(++n)) } };", 50);
    let (mut suspensions, mut quick_ones) = (0, 0);
    for round in 0..3 {
        let mut running = Vec::new();
        for (at, (seat, expected)) in seats.iter_mut().enumerate() {
            match send(seat, round * 100 + at as u64 + 1) {
                Progress::Suspended => running.push(at),
                Progress::Done => assert_eq!(outcome(seat), ((*expected).to_owned(), None)),
            }
        }
        while !running.is_empty() {
            suspensions += running.len();
            running.retain(|&at| {
                let (seat, expected) = &mut seats[at];
                let suspended = seat.resume() == Progress::Suspended;
                if !suspended {
                    assert_eq!(outcome(seat), ((*expected).to_owned(), None), "Worker {at}");
                }
                quick_ones += 1;
                let mut progress = send(&mut quick, 10_000 + quick_ones);
                while progress == Progress::Suspended {
                    progress = quick.resume();
                }
                assert_eq!(outcome(&mut quick), (quick_ones.to_string(), None));
                suspended
            });
        }
    }
    assert!(suspensions > 40, "only {suspensions} suspensions: the test shows nothing");
}

#[test]
fn a_slice_is_short_and_the_limit_holds_over_all_of_them() {
    let mut seat = start("export default { fetch() { for (;;); } };", 30);
    let mut longest = Duration::ZERO;
    let mut slices = 0;
    let begun = Instant::now();
    let mut progress = send(&mut seat, 1);
    while progress == Progress::Suspended {
        slices += 1;
        let slice = Instant::now();
        progress = seat.resume();
        longest = longest.max(slice.elapsed());
        assert!(begun.elapsed() < Duration::from_secs(20), "the limit of 30 ms does not hold");
    }
    assert_eq!(outcome(&mut seat).1, Some(Failure::CpuLimit));
    assert!(slices >= 8, "{slices} slices for 30 ms");
    assert!(longest < Duration::from_millis(500), "{longest:?}");
}

#[test]
fn a_start_is_suspended_too() {
    let source = "const until = 40000000; let n = 0; while (n < until) n++;
        export default { fetch() { return new Response(String(n)) } };";
    let mut seat = Seat::new(None);
    let (engine, spec) = (engine(), spec(source));
    let mut progress = seat.start(move |worker| *worker = Worker::start(&engine, spec).ok());
    let mut slices = 0;
    while progress == Progress::Suspended {
        slices += 1;
        progress = seat.resume();
    }
    assert!(slices > 2, "{slices}");
    assert_eq!(send(&mut seat, 1), Progress::Done);
    assert_eq!(outcome(&mut seat).0, "40000000");
}

#[test]
fn a_worker_is_dropped_in_the_middle_of_a_call() {
    for _ in 0..20 {
        let mut seat = start("export default { fetch() { try { for (;;); } finally { for (;;); } } };", 10_000);
        assert_eq!(send(&mut seat, 1), Progress::Suspended);
        assert_eq!(seat.resume(), Progress::Suspended);
        let begun = Instant::now();
        drop(seat);
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    }
}

#[test]
fn a_worker_is_dropped_while_timers_of_many_requests_are_due() {
    let source = "export default { async fetch() { await new Promise((go) => setTimeout(go, 1)); for (;;); } };";
    let mut seat = start(source, 10_000);
    for number in 1..=20 {
        let progress = send(&mut seat, number);
        finish(&mut seat, progress);
    }
    assert_eq!(send_timeout(&mut seat), Progress::Suspended);
    assert_eq!(seat.resume(), Progress::Suspended);
    let begun = Instant::now();
    drop(seat);
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}: the others' turns have begun", begun.elapsed());
}

/// Each takes about a tenth of a millisecond, too short for the watchdog to see.
#[test]
fn many_short_timers_let_others_run_in_between() {
    const REQUESTS: u64 = 600;
    let source = "let x = 1, answered = 0;
        const burn = () => { for (let i = 0; i < 100000; i++) x = (Math.imul(x, 31) + i) | 0; };
        for (let i = 0; i < 50; i++) burn();
        export default { async fetch() {
            await new Promise((go) => setTimeout(go, 1));
            burn();
            return new Response(String(++answered));
        } };";
    let mut seat = start(source, 50);
    for number in 1..=REQUESTS {
        let progress = send(&mut seat, number);
        finish(&mut seat, progress);
    }
    let progress = send_timeout(&mut seat);
    let suspensions = finish(&mut seat, progress);
    assert_eq!(outcome(&mut seat), (REQUESTS.to_string(), None));
    assert!(suspensions >= 10, "{suspensions}");
}
