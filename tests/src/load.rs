//! An open-loop load on one host, to run beside something else: requests start by a schedule, whether or not the last one has been
//! answered, so a stall shows in every request that it delays. For benchmarks there is `bench`; this one only asks "was anybody harmed".
//!
//! Bounds: [`WORKERS`] threads with a connection each, a rate, and the life of the value.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::http::{Connection, Request};

/// Threads; one slow answer delays a quarter of the load.
const WORKERS: usize = 4;
/// Failures whose text is kept.
const KEPT_FAILURES: usize = 20;

/// What the load saw.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Latency of every good answer, from its scheduled start.
    pub latencies: Vec<Duration>,
    /// Requests without a good answer.
    pub failures: u64,
    /// The first of them, in words.
    pub failure_texts: Vec<String>,
}

impl Seen {
    /// The latency that `share` of the answers (0 to 1) did not exceed.
    pub fn quantile(&self, share: f64) -> Duration {
        let mut sorted = self.latencies.clone();
        sorted.sort_unstable();
        let index = ((sorted.len() as f64 * share).ceil() as usize).saturating_sub(1);
        sorted.get(index).copied().unwrap_or_default()
    }

    /// Share of good answers, 0 to 1.
    pub fn success(&self) -> f64 {
        let good = self.latencies.len() as f64;
        good / (good + self.failures as f64).max(1.0)
    }

    /// A line for the test's output.
    pub fn summary(&self) -> String {
        format!(
            "{} good, {} failed, p50 {:?}, p99 {:?}, p99.9 {:?}",
            self.latencies.len(),
            self.failures,
            self.quantile(0.5),
            self.quantile(0.99),
            self.quantile(0.999)
        )
    }
}

/// A running load.
pub struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    seen: Arc<Mutex<Seen>>,
}

impl Load {
    /// `GET /` for `host`, `rate` times a second in all; a good answer is a 200.
    pub fn start(address: SocketAddr, host: &str, rate: u32) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::new(Mutex::new(Seen::default()));
        let interval = Duration::from_secs(WORKERS as u64) / rate;
        let threads = (0..WORKERS).map(|worker| {
            let (stop, seen, request) = (Arc::clone(&stop), Arc::clone(&seen), Request::new("GET", host, "/"));
            let offset = interval / WORKERS as u32 * worker as u32;
            std::thread::spawn(move || run(address, &request, interval, offset, &stop, &seen))
        });
        Load { threads: threads.collect(), stop, seen }
    }

    /// Ends it.
    pub fn finish(mut self) -> Seen {
        self.end();
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().expect("a load thread does not panic");
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.end();
        }
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn run(
    address: SocketAddr,
    request: &Request,
    interval: Duration,
    offset: Duration,
    stop: &AtomicBool,
    seen: &Mutex<Seen>,
) {
    let begun = Instant::now() + offset;
    let mut connection: Option<Connection> = None;
    for tick in 0u32.. {
        let due = begun + interval * tick;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let outcome = exchange(address, request, &mut connection);
        let latency = due.elapsed();
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        match outcome {
            Ok(()) => seen.latencies.push(latency),
            Err(text) => {
                connection = None;
                seen.failures += 1;
                if seen.failure_texts.len() < KEPT_FAILURES {
                    seen.failure_texts.push(text);
                }
            }
        }
    }
}

fn exchange(address: SocketAddr, request: &Request, connection: &mut Option<Connection>) -> Result<(), String> {
    let open = match connection {
        Some(open) => open,
        None => connection.insert(Connection::open(address).map_err(|error| format!("connect: {error}"))?),
    };
    let reply = open.exchange(request).map_err(|error| format!("exchange: {error}"))?;
    if reply.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) {
        *connection = None;
    }
    match reply.status {
        200 => Ok(()),
        status => Err(format!("status {status}: {}", reply.text())),
    }
}
