//! What the programs did, for people and for metrics.

use serde::{Deserialize, Serialize};

/// How the XDP program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// By the interface's driver.
    Driver,
    /// At the door of the kernel's stack.
    Skb,
}

/// Names of outcomes by their number in `abi.h`, and whether they are drops.
pub const REASON_NAMES: &[(usize, &str)] = &[
    (0, "not_ours"),
    (1, "here"),
    (2, "steered"),
    (3, "forwarded"),
    (4, "chained"),
    (5, "cookie"),
    (6, "fragment"),
    (7, "cookie_good"),
    (16, "truncated"),
    (17, "length"),
    (18, "header"),
    (19, "flags"),
    (20, "spoofed"),
    (21, "denied"),
    (22, "rate_packets"),
    (23, "rate_connections"),
    (24, "cookie_bad"),
    (25, "no_node"),
];

/// Outcomes from here on are drops.
pub const FIRST_DROP: usize = 16;

/// The name of an outcome.
pub fn reason_name(reason: usize) -> &'static str {
    REASON_NAMES.iter().find(|(number, _)| *number == reason).map_or("unknown", |(_, name)| name)
}

/// All of it at one moment; counters since the program was first attached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The interface.
    pub interface: String,
    /// How it is attached; none: not at all, see `problem`.
    pub mode: Option<Mode>,
    /// Whether the attachment outlives this process.
    pub pinned: bool,
    /// Why there is no steering.
    pub problem: Option<String>,
    /// The CPU that each slot's new flows go to.
    pub table: Vec<u32>,
    /// Slots that are not where they began.
    pub moved: usize,
    /// By CPU that packets came in on.
    pub cpus: Vec<CpuReport>,
    /// Prefixes of the deny list.
    pub denied: usize,
    /// VIPs.
    pub vips: usize,
    /// The kernel's threads that take packets over and let a shard finish first: one a shard; 0 in a PID namespace of its own, where they interrupt shards.
    pub takers: usize,
}

/// What one CPU saw.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuReport {
    /// Its number.
    pub cpu: usize,
    /// Packets by outcome, those that have any.
    pub packets: Vec<(String, u64)>,
    /// Connections given to the socket of this CPU, to another, taken over, and left to the kernel.
    pub accepted: [u64; 4],
}

impl Report {
    /// Packets of an outcome, of all CPUs.
    pub fn packets(&self, reason: &str) -> u64 {
        self.cpus.iter().flat_map(|cpu| &cpu.packets).filter(|(name, _)| name == reason).map(|(_, count)| count).sum()
    }
}
