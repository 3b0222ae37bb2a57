//! What a shard counts, and its Prometheus text.
//!
//! Every number has one writer, its shard's thread, so that counting is a load and a store without a lock prefix; any
//! thread may read.

use crate::lifecycle::Transitions;
use crate::memory_budget::MemoryBudget;
use base::id::DeploymentId;
use plane_abi::wire::VersionCounts;
use std::collections::HashMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use worker_api::Held;

/// Deployments whose requests are counted between two readings.
const TRAFFIC_KEPT_MAX: usize = 16 * 1024;

/// A number with one writer.
#[derive(Default)]
pub struct Number(AtomicU64);

impl Number {
    /// Adds to it; by its writer only.
    pub(crate) fn add(&self, more: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
    }

    /// Takes from it; by its writer only.
    pub(crate) fn sub(&self, less: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_sub(less), Ordering::Relaxed);
    }

    /// Sets it; by its writer only.
    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Its value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Latency buckets: bucket `i` counts up to `2^i` times 16 µs; the last one everything.
const LATENCY_BUCKETS: usize = 22;
const LATENCY_UNIT_NS: u64 = 16_000;

/// Ways a request can end without the Worker's own complete answer; the labels of `selvage_failures_total`.
const FAILURE_LABELS: [&str; 21] = [
    "exception",
    "hung",
    "not_a_response",
    "cpu_limit",
    "memory_limit",
    "wall_limit",
    "response_limit",
    "condemned",
    "overloaded",
    "no_route",
    "paused",
    "no_configuration",
    "start_failed",
    "start_limited",
    "crash_loop",
    "unavailable",
    "invalid_response",
    "rejected",
    "client_gone",
    "broken_body",
    "other",
];

/// Limits that end nothing by themselves; the labels of `selvage_limits_held_total`.
const HELD: [Held; 3] = [Held::Subrequests, Held::Connections, Held::Log];

/// The numbers of one shard.
#[derive(Default)]
#[allow(missing_docs, reason = "each is named and explained where it is rendered")]
pub struct ShardMetrics {
    pub requests: [Number; 5],
    failures: [Number; FAILURE_LABELS.len()],
    held: [Number; HELD.len()],
    pub request_retries: Number,
    pub passed_through: Number,
    pub connections: Number,
    pub connections_accepted: Number,
    pub connections_here: Number,
    pub connections_refused: Number,
    pub bytes_received: Number,
    pub bytes_sent: Number,
    pub workers: Number,
    pub worker_starts: Number,
    pub worker_start_failures: Number,
    pub worker_start_ns: Number,
    pub worker_evictions: Number,
    pub worker_cpu_ns: Number,
    pub worker_prewarms: Number,
    pub worker_memory_bytes: Number,
    pub memory_evictions: Number,
    pub memory_refusals: Number,
    pub memory_ends: Number,
    pub suspensions: Number,
    pub quarantines: Number,
    pub disposals_apart: Number,
    pub workers_waiting: Number,
    pub(crate) transitions: Transitions,
    pub fetches: Number,
    pub fetch_bytes_received: Number,
    pub fetch_bytes_sent: Number,
    pub fetch_failures: Number,
    pub fetch_connections_opened: Number,
    pub fetch_connections_idle: Number,
    pub fetch_connections_h2: Number,
    pub fetch_connections_adopted: Number,
    pub fetch_connections_given: Number,
    pub fetch_connections_shelved: Number,
    pub websockets: Number,
    pub websockets_opened: Number,
    pub websocket_messages_received: Number,
    pub websocket_messages_sent: Number,
    pub websocket_breaches: Number,
    pub websocket_overflows: Number,
    pub worker_shrinks: Number,
    pub spares_ready: Number,
    pub spares_claimed: Number,
    pub starts_without_spare: Number,
    pub service_calls: Number,
    pub service_failures: Number,
    pub cron_runs: Number,
    pub cron_failures: Number,
    pub cron_skipped: Number,
    pub panics: Number,
    pub restarts: Number,
    latency: [Number; LATENCY_BUCKETS],
    latency_sum_ns: Number,
    /// Of versions that share a deployment's requests. Its writer tries the lock and never waits.
    pub(crate) versions: Mutex<Vec<VersionCounts>>,
    /// Requests of deployments that the agent has not taken yet.
    traffic: Mutex<HashMap<DeploymentId, u64>>,
}

impl ShardMetrics {
    /// A response of this status was sent after so long.
    pub(crate) fn response(&self, status: u16, latency_ns: u64) {
        self.requests[usize::from(status / 100).clamp(1, 5) - 1].add(1);
        let units = latency_ns / LATENCY_UNIT_NS;
        let bucket = (u64::BITS - units.leading_zeros()) as usize;
        self.latency[bucket.min(LATENCY_BUCKETS - 1)].add(1);
        self.latency_sum_ns.add(latency_ns);
    }

    /// A request ended badly.
    pub(crate) fn failure(&self, label: &str) {
        let at = FAILURE_LABELS.iter().position(|known| *known == label).unwrap_or(FAILURE_LABELS.len() - 1);
        self.failures[at].add(1);
    }

    /// A request met a limit that does not end it.
    pub(crate) fn held(&self, held: Held) {
        if let Some(at) = HELD.iter().position(|known| *known == held) {
            self.held[at].add(1);
        }
    }

    /// How requests of versions fare that share a deployment's, as of the last tick.
    pub fn versions(&self) -> Vec<VersionCounts> {
        self.versions.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Counts requests of deployments; not while the agent takes them: a shard does not wait.
    pub(crate) fn count_traffic(&self, counts: impl Iterator<Item = (DeploymentId, u64)>) {
        let Ok(mut traffic) = self.traffic.try_lock() else { return };
        for (deployment, requests) in counts.filter(|(_, requests)| *requests > 0) {
            if traffic.len() < TRAFFIC_KEPT_MAX || traffic.contains_key(&deployment) {
                *traffic.entry(deployment).or_default() += requests;
            }
        }
    }

    /// Requests of deployments since this was asked last.
    pub fn take_traffic(&self) -> HashMap<DeploymentId, u64> {
        std::mem::take(&mut *self.traffic.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Failures of that label so far.
    pub fn failures(&self, label: &str) -> u64 {
        FAILURE_LABELS.iter().position(|known| *known == label).map_or(0, |at| self.failures[at].get())
    }
}

/// The numbers of all shards of a node.
#[derive(Clone)]
pub struct Metrics {
    shards: Arc<[Arc<ShardMetrics>]>,
    memory: Arc<MemoryBudget>,
}

/// Reads one number of a shard.
type Reader = fn(&ShardMetrics) -> u64;

const COUNTERS: [(&str, &str, &str, Reader); 50] = [
    ("connections", "gauge", "Open client connections.", |m| m.connections.get()),
    ("connections_accepted_total", "counter", "Client connections accepted.", |m| m.connections_accepted.get()),
    (
        "connections_here_total",
        "counter",
        "Client connections accepted on the core of their packets; counted while packets are steered.",
        |m| m.connections_here.get(),
    ),
    ("connections_refused_total", "counter", "Client connections closed at accept, over the limit.", |m| {
        m.connections_refused.get()
    }),
    ("received_bytes_total", "counter", "Bytes read from clients.", |m| m.bytes_received.get()),
    ("sent_bytes_total", "counter", "Bytes written to clients.", |m| m.bytes_sent.get()),
    ("workers", "gauge", "Workers that are up.", |m| m.workers.get()),
    ("worker_starts_total", "counter", "Workers started.", |m| m.worker_starts.get()),
    ("worker_start_failures_total", "counter", "Workers that failed to start.", |m| m.worker_start_failures.get()),
    ("worker_start_nanoseconds_total", "counter", "Time spent starting Workers.", |m| m.worker_start_ns.get()),
    ("worker_evictions_total", "counter", "Workers dropped for room, idleness or replacement.", |m| {
        m.worker_evictions.get()
    }),
    ("worker_cpu_nanoseconds_total", "counter", "CPU time of requests in Workers.", |m| m.worker_cpu_ns.get()),
    ("worker_prewarms_total", "counter", "Workers started before a request asked for them.", |m| {
        m.worker_prewarms.get()
    }),
    ("worker_memory_bytes", "gauge", "Heap pages and array buffers of Workers, as of the last second.", |m| {
        m.worker_memory_bytes.get()
    }),
    ("memory_evictions_total", "counter", "Idle Workers evicted because the node's memory was short.", |m| {
        m.memory_evictions.get()
    }),
    ("memory_refusals_total", "counter", "Starts refused because the node's memory was short.", |m| {
        m.memory_refusals.get()
    }),
    ("memory_ends_total", "counter", "Workers ended with their requests because the node was over its memory.", |m| {
        m.memory_ends.get()
    }),
    ("workers_waiting", "gauge", "Workers that wait for CPU time, as of the last second.", |m| m.workers_waiting.get()),
    ("quarantines_total", "counter", "Times a tenant was moved to the apart thread.", |m| m.quarantines.get()),
    ("disposals_apart_total", "counter", "Isolates with large heaps that the apart thread disposed of.", |m| {
        m.disposals_apart.get()
    }),
    ("suspensions_total", "counter", "Times a Worker was suspended to let others run.", |m| m.suspensions.get()),
    ("request_retries_total", "counter", "Requests given to another isolate after theirs was condemned.", |m| {
        m.request_retries.get()
    }),
    ("passed_through_total", "counter", "Failed requests that went to their origin.", |m| m.passed_through.get()),
    ("fetches_total", "counter", "Outbound requests.", |m| m.fetches.get()),
    ("fetch_received_bytes_total", "counter", "Bytes read from origins.", |m| m.fetch_bytes_received.get()),
    ("fetch_sent_bytes_total", "counter", "Bytes written to origins.", |m| m.fetch_bytes_sent.get()),
    ("fetch_failures_total", "counter", "Outbound requests that failed before a response.", |m| m.fetch_failures.get()),
    ("fetch_connections_opened_total", "counter", "Outbound connections opened.", |m| m.fetch_connections_opened.get()),
    ("fetch_connections_idle", "gauge", "Outbound connections waiting for use.", |m| m.fetch_connections_idle.get()),
    ("fetch_connections_h2", "gauge", "Outbound HTTP/2 connections.", |m| m.fetch_connections_h2.get()),
    (
        "fetch_connections_adopted_total",
        "counter",
        "Outbound connections taken from those that all shards share.",
        |m| m.fetch_connections_adopted.get(),
    ),
    ("fetch_connections_given_total", "counter", "Outbound connections given to those that all shards share.", |m| {
        m.fetch_connections_given.get()
    }),
    ("fetch_connections_shelved", "gauge", "Outbound connections that wait for any shard.", |m| {
        m.fetch_connections_shelved.get()
    }),
    ("websockets", "gauge", "Open WebSockets, of clients and of Workers.", |m| m.websockets.get()),
    ("websockets_opened_total", "counter", "WebSockets opened.", |m| m.websockets_opened.get()),
    ("websocket_messages_received_total", "counter", "Messages received on WebSockets.", |m| {
        m.websocket_messages_received.get()
    }),
    ("websocket_messages_sent_total", "counter", "Messages that Workers sent on WebSockets.", |m| {
        m.websocket_messages_sent.get()
    }),
    ("websocket_breaches_total", "counter", "WebSockets closed for a breach of the protocol.", |m| {
        m.websocket_breaches.get()
    }),
    ("websocket_overflows_total", "counter", "WebSockets closed because their peer did not read.", |m| {
        m.websocket_overflows.get()
    }),
    ("worker_shrinks_total", "counter", "Idle Workers whose garbage was collected.", |m| m.worker_shrinks.get()),
    ("spares_ready", "gauge", "Isolates that wait for a Worker to start.", |m| m.spares_ready.get()),
    ("spares_claimed_total", "counter", "Workers started in a spare isolate.", |m| m.spares_claimed.get()),
    ("starts_without_spare_total", "counter", "Workers started while no spare isolate was ready.", |m| {
        m.starts_without_spare.get()
    }),
    ("service_calls_total", "counter", "Calls from one Worker to another.", |m| m.service_calls.get()),
    ("service_failures_total", "counter", "Calls from one Worker to another that failed.", |m| {
        m.service_failures.get()
    }),
    ("cron_runs_total", "counter", "Runs of scheduled handlers.", |m| m.cron_runs.get()),
    ("cron_failures_total", "counter", "Runs of scheduled handlers that failed.", |m| m.cron_failures.get()),
    ("cron_skipped_total", "counter", "Runs of scheduled handlers left out, too many waiting.", |m| {
        m.cron_skipped.get()
    }),
    ("panics_total", "counter", "Panics caught in one connection or Worker.", |m| m.panics.get()),
    ("shard_restarts_total", "counter", "Restarts of a shard after a panic of its executor.", |m| m.restarts.get()),
];

impl Metrics {
    pub(crate) fn new(shards: usize, memory: Arc<MemoryBudget>) -> Metrics {
        Metrics { shards: (0..shards).map(|_| Arc::new(ShardMetrics::default())).collect(), memory }
    }

    /// The numbers of each shard.
    pub fn shards(&self) -> &[Arc<ShardMetrics>] {
        &self.shards
    }

    /// All numbers in the Prometheus text format (version 0.0.4); `isolates_abandoned` is the process's, see
    /// [`worker_api::Engine::isolates_abandoned`].
    pub fn render(&self, isolates_abandoned: u64) -> String {
        let mut out = String::with_capacity(16 * 1024);
        for (name, kind, help, read) in COUNTERS {
            header(&mut out, name, kind, help);
            for (shard, metrics) in self.shards.iter().enumerate() {
                let _ = writeln!(out, "selvage_{name}{{shard=\"{shard}\"}} {}", read(metrics));
            }
        }
        header(&mut out, "responses_total", "counter", "Responses by class of status.");
        for (shard, metrics) in self.shards.iter().enumerate() {
            for (class, number) in metrics.requests.iter().enumerate() {
                let class = class + 1;
                let _ =
                    writeln!(out, "selvage_responses_total{{shard=\"{shard}\",class=\"{class}xx\"}} {}", number.get());
            }
        }
        header(&mut out, "failures_total", "counter", "Requests without a Worker's own complete answer, by cause.");
        for (shard, metrics) in self.shards.iter().enumerate() {
            for (label, number) in FAILURE_LABELS.iter().zip(&metrics.failures) {
                let _ = writeln!(out, "selvage_failures_total{{shard=\"{shard}\",cause=\"{label}\"}} {}", number.get());
            }
        }
        header(&mut out, "isolate_transitions_total", "counter", "Steps in the lives of isolates.");
        for (shard, metrics) in self.shards.iter().enumerate() {
            for (from, to, count) in metrics.transitions.each() {
                let _ = writeln!(
                    out,
                    "selvage_isolate_transitions_total{{shard=\"{shard}\",from=\"{from}\",to=\"{to}\"}} {count}"
                );
            }
        }
        header(&mut out, "limits_held_total", "counter", "Requests that met a limit which ends nothing, by limit.");
        for (shard, metrics) in self.shards.iter().enumerate() {
            for (held, number) in HELD.iter().zip(&metrics.held) {
                let (label, count) = (held.label(), number.get());
                let _ = writeln!(out, "selvage_limits_held_total{{shard=\"{shard}\",limit=\"{label}\"}} {count}");
            }
        }
        self.render_latency(&mut out);
        header(&mut out, "isolates_abandoned_total", "counter", "Isolates given up with their address space.");
        let _ = writeln!(out, "selvage_isolates_abandoned_total {isolates_abandoned}");
        header(&mut out, "memory_budget_bytes", "gauge", "Resident memory that the node may have.");
        let _ = writeln!(out, "selvage_memory_budget_bytes {}", self.memory.bytes());
        header(&mut out, "memory_resident_bytes", "gauge", "Resident memory of the node, as of its last reading.");
        let _ = writeln!(out, "selvage_memory_resident_bytes {}", self.memory.resident());
        out
    }

    fn render_latency(&self, out: &mut String) {
        header(
            out,
            "response_seconds",
            "histogram",
            "From a request's head to the end of its response, ready to be sent.",
        );
        for (shard, metrics) in self.shards.iter().enumerate() {
            let mut total = 0;
            for (bucket, number) in metrics.latency.iter().enumerate() {
                total += number.get();
                let line = if bucket + 1 == LATENCY_BUCKETS {
                    "+Inf".to_owned()
                } else {
                    format!("{}", (LATENCY_UNIT_NS << bucket) as f64 / 1e9)
                };
                let _ = writeln!(out, "selvage_response_seconds_bucket{{shard=\"{shard}\",le=\"{line}\"}} {total}");
            }
            let sum = metrics.latency_sum_ns.get() as f64 / 1e9;
            let _ = writeln!(out, "selvage_response_seconds_sum{{shard=\"{shard}\"}} {sum}");
            let _ = writeln!(out, "selvage_response_seconds_count{{shard=\"{shard}\"}} {total}");
        }
    }
}

fn header(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# HELP selvage_{name} {help}\n# TYPE selvage_{name} {kind}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_fall_into_cumulative_buckets() {
        let metrics = Metrics::new(1, Arc::new(MemoryBudget::new(Some(123), 1)));
        for latency_ns in [0, 15_999, 16_000, 40_000, u64::MAX / 2] {
            metrics.shards()[0].response(200, latency_ns);
        }
        let text = metrics.render(7);
        for line in [
            "selvage_response_seconds_bucket{shard=\"0\",le=\"0.000016\"} 2",
            "selvage_response_seconds_bucket{shard=\"0\",le=\"0.000032\"} 3",
            "selvage_response_seconds_bucket{shard=\"0\",le=\"0.000064\"} 4",
            "selvage_response_seconds_bucket{shard=\"0\",le=\"+Inf\"} 5",
            "selvage_responses_total{shard=\"0\",class=\"2xx\"} 5",
            "selvage_isolates_abandoned_total 7",
            "selvage_memory_budget_bytes 123",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }

    #[test]
    fn unknown_failures_are_other() {
        let metrics = ShardMetrics::default();
        metrics.failure("cpu_limit");
        metrics.failure("never heard of");
        assert_eq!((metrics.failures("cpu_limit"), metrics.failures("other")), (1, 1));
    }
}
