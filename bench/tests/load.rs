//! The generator against small servers of this file: what it must measure, count and survive.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bench::load::{self, Arrivals, Edge, ErrorClass, Mode, Plan, Scope, Target};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

/// A server of one thread per connection; `answer` gets the stream and the number of the request (from 0, over all
/// connections), and says whether the connection goes on. Its threads end when the test's process does.
fn serve(answer: impl Fn(&mut TcpStream, u64) -> bool + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
    let addr = listener.local_addr().expect("bound");
    let answer = Arc::new(answer);
    let count = Arc::new(AtomicU64::new(0));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (answer, count) = (Arc::clone(&answer), Arc::clone(&count));
            std::thread::spawn(move || one_connection(stream, &*answer, &count));
        }
    });
    addr
}

fn one_connection(mut stream: TcpStream, answer: &dyn Fn(&mut TcpStream, u64) -> bool, count: &AtomicU64) {
    let _ = stream.set_nodelay(true);
    let mut seen = Vec::new();
    let mut buffer = [0u8; 4096];
    loop {
        while let Some(end) = seen.windows(4).position(|window| window == b"\r\n\r\n") {
            seen.drain(..end + 4);
            if !answer(&mut stream, count.fetch_add(1, Ordering::SeqCst)) {
                return;
            }
        }
        match stream.read(&mut buffer) {
            Ok(length) if length > 0 => seen.extend_from_slice(&buffer[..length]),
            _ => return,
        }
    }
}

fn plan(addr: SocketAddr, mode: Mode) -> Plan {
    let target = Target::new(addr, "test", "/", Scope::Loopback).expect("loopback");
    Plan {
        connections: 8,
        warmup: Duration::from_millis(100),
        duration: Duration::from_millis(1_000),
        timeout: Duration::from_secs(2),
        ..Plan::get(target, mode)
    }
}

fn open(rate: f64) -> Mode {
    Mode::Open { rate, arrivals: Arrivals::Constant, backlog_max: 100_000 }
}

/// A server that stops for `stall` once, in the middle of the window, for all connections at once. Counted from the first request, the
/// warm-up's: a busy machine may be long in getting there.
fn stalling(stall: Duration) -> SocketAddr {
    let first = OnceLock::new();
    let stall_at = Duration::from_millis(500);
    serve(move |stream, _| {
        let at = first.get_or_init(Instant::now).elapsed();
        if at >= stall_at && at < stall_at + stall {
            std::thread::sleep(stall_at + stall - at);
        }
        stream.write_all(OK).is_ok()
    })
}

#[test]
fn a_stall_is_in_the_latency_of_all_that_were_due_during_it() {
    let stall = Duration::from_millis(200);
    let outcome = load::run(&plan(stalling(stall), open(1_000.0))).expect("a run");
    let tally = &outcome.tally;
    assert_eq!(tally.due, 1_000);
    assert_eq!((tally.ok, tally.errors.total()), (1_000, 0), "{:?}", tally.samples);
    // 200 requests were due while it stalled; the one due at its start waited the longest, and half of them more
    // than half of the stall.
    let over = |ns: u64| tally.latency.len() - tally.latency.count_between(0, ns);
    assert!(over(100_000_000) >= 80, "{} requests over 100 ms", over(100_000_000));
    assert!(tally.latency.max() >= 180_000_000, "{}", tally.latency.max());
    assert!(outcome.latency_us(0.9) > 50_000.0, "p90 {}", outcome.latency_us(0.9));
    assert!(tally.backlog_max >= 100, "backlog {}", tally.backlog_max);
    // The canary: the same stall through the closed loop's eyes is a handful of slow requests.
    let closed = load::run(&plan(stalling(stall), Mode::Closed)).expect("a run");
    assert!(closed.latency_us(0.9) < 50_000.0, "a closed loop hides the stall: p90 {}", closed.latency_us(0.9));
}

#[test]
fn keeps_the_rate_and_counts_all() {
    let addr = serve(|stream, _| stream.write_all(OK).is_ok());
    for arrivals in [Arrivals::Constant, Arrivals::Poisson] {
        let mode = Mode::Open { rate: 2_000.0, arrivals, backlog_max: 1_000 };
        let outcome = load::run(&plan(addr, mode)).expect("a run");
        assert_eq!(outcome.tally.ok, outcome.tally.due);
        assert!((1_800..2_200).contains(&outcome.tally.due), "{arrivals:?}: {}", outcome.tally.due);
        assert_eq!(outcome.tally.latency.len(), outcome.tally.ok);
        assert_eq!(outcome.tally.body_bytes, outcome.tally.ok * 5);
    }
}

#[test]
fn closed_loop_pipelines_and_stops_at_its_count() {
    let addr = serve(|stream, _| stream.write_all(OK).is_ok());
    let plan =
        Plan { pipeline: 8, requests_max: Some(5_000), duration: Duration::from_secs(30), ..plan(addr, Mode::Closed) };
    let begin = Instant::now();
    let outcome = load::run(&plan).expect("a run");
    assert_eq!((outcome.tally.ok, outcome.tally.errors.total()), (5_000, 0), "{:?}", outcome.tally.samples);
    assert!(begin.elapsed() < Duration::from_secs(20));
    assert!(outcome.window < Duration::from_secs(20));
}

fn check_class(answer: impl Fn(&mut TcpStream, u64) -> bool + Send + Sync + 'static, class: ErrorClass) {
    let addr = serve(answer);
    let mut plan = Plan { timeout: Duration::from_millis(300), ..plan(addr, open(200.0)) };
    plan.expect.body_bytes = Some(5);
    let tally = load::run(&plan).expect("a run").tally;
    assert_eq!(tally.ok + tally.errors.total(), tally.due, "each request has one outcome");
    assert!(tally.ok > 0 && tally.errors.of(class) > 0, "{class:?}: ok {}, {:?}", tally.ok, tally.samples);
    assert_eq!(tally.errors.of(class), tally.errors.total(), "only {class:?}: {:?}", tally.samples);
    assert!(!tally.samples.is_empty());
}

#[test]
fn errors_have_their_class() {
    let good = |stream: &mut TcpStream| stream.write_all(OK).is_ok();
    check_class(
        move |s, n| {
            if n % 3 == 0 { s.write_all(b"HTTP/1.1 503 x\r\nContent-Length: 0\r\n\r\n").is_ok() } else { good(s) }
        },
        ErrorClass::Status,
    );
    check_class(
        move |s, n| {
            if n % 3 == 0 { s.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").is_ok() } else { good(s) }
        },
        ErrorClass::Length,
    );
    check_class(
        move |s, n| if n % 3 == 0 { s.write_all(b"nonsense\r\n\r\n").is_ok() } else { good(s) },
        ErrorClass::Malformed,
    );
    check_class(
        move |s, n| {
            if n % 3 == 0 { s.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe").is_err() } else { good(s) }
        },
        ErrorClass::Reset,
    );
    check_class(move |s, n| if n % 3 == 0 { false } else { good(s) }, ErrorClass::Reset);
    check_class(
        move |s, n| {
            if n % 20 == 0 {
                std::thread::sleep(Duration::from_millis(600));
            }
            good(s)
        },
        ErrorClass::Timeout,
    );
}

#[test]
fn a_server_that_closes_after_each_response_is_not_an_error() {
    let addr = serve(|stream, _| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello");
        false
    });
    let tally = load::run(&plan(addr, open(300.0))).expect("a run").tally;
    assert_eq!((tally.ok, tally.errors.total()), (tally.due, 0), "{:?}", tally.samples);
    assert!(tally.connects >= 300);
}

#[test]
fn nobody_there_is_an_error_in_both_modes_and_ends_in_time() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
    let addr = listener.local_addr().expect("bound");
    drop(listener);
    let begin = Instant::now();
    for mode in [open(100.0), Mode::Closed] {
        let plan = Plan { timeout: Duration::from_millis(200), ..plan(addr, mode) };
        let tally = load::run(&plan).expect("a run").tally;
        assert_eq!(tally.ok, 0);
        assert!(tally.errors.total() > 0 && tally.errors.total() == tally.due);
        assert!(tally.samples[0].starts_with("connect:"), "{:?}", tally.samples);
    }
    assert!(begin.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_full_backlog_is_counted_as_shed() {
    let addr = serve(|stream, _| {
        std::thread::sleep(Duration::from_millis(50));
        stream.write_all(OK).is_ok()
    });
    let mode = Mode::Open { rate: 1_000.0, arrivals: Arrivals::Constant, backlog_max: 20 };
    let tally = load::run(&plan(addr, mode)).expect("a run").tally;
    assert_eq!(tally.ok + tally.errors.total(), tally.due);
    assert!(tally.errors.of(ErrorClass::Shed) > 500, "{:?}", tally.samples);
    assert!(tally.backlog_max <= 20);
}

#[test]
fn stops_when_told_and_calls_both_edges() {
    let addr = serve(|stream, _| stream.write_all(OK).is_ok());
    let stop = AtomicBool::new(false);
    let plan = Plan { duration: Duration::from_secs(60), ..plan(addr, open(500.0)) };
    let mut edges = Vec::new();
    let outcome = std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(600));
            stop.store(true, Ordering::Relaxed);
        });
        load::run_until(&plan, &stop, &mut |edge| {
            edges.push(edge);
            Ok(())
        })
    })
    .expect("a run");
    assert_eq!(edges, [Edge::Start, Edge::End]);
    assert!(outcome.window < Duration::from_secs(2));
    assert_eq!((outcome.tally.ok, outcome.tally.errors.total()), (outcome.tally.due, 0));
}

#[test]
fn a_plan_out_of_bounds_is_refused() {
    let addr = "127.0.0.1:9".parse().expect("an address");
    let base = plan(addr, Mode::Closed);
    for bad in [
        Plan { connections: 0, ..base.clone() },
        Plan { pipeline: 0, ..base.clone() },
        Plan { pipeline: 1_000, ..base.clone() },
        Plan { mode: open(0.0), ..base.clone() },
        Plan { mode: open(f64::NAN), ..base.clone() },
        Plan { request: Vec::new(), ..base },
    ] {
        assert!(load::run(&bad).is_err());
    }
}
