//! What the agent counts, for its admin pages.

use std::{
    fmt::Write as _,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use plane_abi::code::CodeStore;

/// Counters; written by the agent's thread, read by anyone.
#[derive(Default)]
pub(crate) struct Status {
    connected: AtomicBool,
    connections: AtomicU64,
    activations: AtomicU64,
    activation_us_last: AtomicU64,
    refusals: AtomicU64,
    not_durable: AtomicU64,
    pulled: AtomicU64,
    pull_failures: AtomicU64,
    evicted: AtomicU64,
    code: OnceLock<Arc<CodeStore>>,
    code_made: Arc<AtomicU64>,
}

impl Status {
    pub(crate) fn connected(&self) -> bool {
        self.connected.load(Relaxed)
    }

    pub(crate) fn set_connected(&self, connected: bool) {
        self.connected.store(connected, Relaxed);
        self.connections.fetch_add(u64::from(connected), Relaxed);
    }

    /// A snapshot was published `after` its last byte came in.
    pub(crate) fn activated(&self, after: Duration) {
        self.activations.fetch_add(1, Relaxed);
        self.activation_us_last.store(after.as_micros() as u64, Relaxed);
    }

    pub(crate) fn refused(&self) {
        self.refusals.fetch_add(1, Relaxed);
    }

    pub(crate) fn not_durable(&self) {
        self.not_durable.fetch_add(1, Relaxed);
    }

    /// A module was fetched on demand, or could not be had.
    pub(crate) fn pulled(&self, came: bool) {
        let counter = if came { &self.pulled } else { &self.pull_failures };
        counter.fetch_add(1, Relaxed);
    }

    /// So many modules that came on demand were removed from disk.
    pub(crate) fn evicted(&self, count: usize) {
        self.evicted.fetch_add(count as u64, Relaxed);
    }

    /// Whose numbers are shown, too.
    pub(crate) fn set_code(&self, code: Arc<CodeStore>) {
        let _ = self.code.set(code);
    }

    /// Counts code caches made on this node.
    pub(crate) fn code_made(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.code_made)
    }

    fn render_code(&self, out: &mut String) {
        let Some(code) = self.code.get() else { return };
        let _ = write!(
            out,
            "# HELP selvage_code_cache_used_total Workers started from compiled code.\n\
             # TYPE selvage_code_cache_used_total counter\nselvage_code_cache_used_total {}\n\
             # HELP selvage_code_cache_made_total Code caches compiled on this node.\n\
             # TYPE selvage_code_cache_made_total counter\nselvage_code_cache_made_total {}\n\
             # HELP selvage_code_cache_refused_total Times that a code cache was not used, by reason.\n\
             # TYPE selvage_code_cache_refused_total counter\n",
            code.used(),
            self.code_made.load(Relaxed)
        );
        for (reason, count) in code.refused() {
            let _ = writeln!(out, "selvage_code_cache_refused_total{{reason=\"{reason}\"}} {count}");
        }
    }

    /// In Prometheus' text form.
    pub(crate) fn render(&self, generation: u64, log_records_dropped: u64) -> String {
        let mut out = String::new();
        let mut metric = |name: &str, kind: &str, help: &str, value: u64| {
            // Writing to a String does not fail.
            let _ = write!(
                out,
                "# HELP selvage_agent_{name} {help}\n# TYPE selvage_agent_{name} {kind}\nselvage_agent_{name} {value}\n"
            );
        };
        let read = |counter: &AtomicU64| counter.load(Relaxed);
        metric("generation", "gauge", "Generation of the published snapshot; 0 for none.", generation);
        metric("connected", "gauge", "Whether the control plane is connected.", u64::from(self.connected()));
        metric("connections_total", "counter", "Connections made to the control plane.", read(&self.connections));
        metric("activations_total", "counter", "Snapshots published since the start.", read(&self.activations));
        let help = "Last snapshot: microseconds from its last byte to its publication.";
        metric("activation_microseconds_last", "gauge", help, read(&self.activation_us_last));
        metric("refusals_total", "counter", "Snapshots refused.", read(&self.refusals));
        metric("not_durable_total", "counter", "Snapshots that could not be made durable.", read(&self.not_durable));
        metric("pulled_total", "counter", "Modules fetched on demand.", read(&self.pulled));
        let help = "Modules that could not be had on demand.";
        metric("pull_failures_total", "counter", help, read(&self.pull_failures));
        let help = "Modules that came on demand and were removed from disk.";
        metric("pulled_evicted_total", "counter", help, read(&self.evicted));
        metric("log_records_dropped_total", "counter", "Log records lost to a full queue.", log_records_dropped);
        self.render_code(&mut out);
        out
    }
}
