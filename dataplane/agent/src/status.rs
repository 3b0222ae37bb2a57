//! What the agent counts, for its admin pages.

use std::{
    fmt::Write as _,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// Counters; written by the agent's thread, read by anyone.
#[derive(Default)]
pub(crate) struct Status {
    connected: AtomicBool,
    connections: AtomicU64,
    activations: AtomicU64,
    activation_us_last: AtomicU64,
    refusals: AtomicU64,
    not_durable: AtomicU64,
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
        metric("log_records_dropped_total", "counter", "Log records lost to a full queue.", log_records_dropped);
        out
    }
}
