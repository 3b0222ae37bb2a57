//! Isolates that are started as a shard starts them, asked once and dropped, in a process of their own (`selvage-cycles`), which
//! says after each tenth what memory it holds.

use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};

use crate::machine::Memory;
use crate::report::{round, table};
use crate::stack::Binaries;

/// Readings after the first one.
const CHECKPOINTS: u64 = 10;

/// A line of `selvage-cycles`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Checkpoint {
    /// Cycles done.
    pub cycles: u64,
    /// Seconds since the first.
    pub seconds: f64,
    /// What the process holds.
    pub memory: Memory,
}

#[derive(Serialize)]
pub(super) struct CyclesReport {
    checkpoints: Vec<Checkpoint>,
}

impl CyclesReport {
    /// The last reading over the one after the first tenth.
    pub(super) fn growth(&self, of: fn(&Memory) -> u64) -> Option<f64> {
        let first = self.checkpoints.iter().find(|one| one.cycles > 0)?;
        let last = self.checkpoints.last().filter(|last| last.cycles > first.cycles)?;
        Some(round(of(&last.memory) as f64 / of(&first.memory) as f64))
    }

    pub(super) fn print(&self) {
        let mb = |bytes: u64| format!("{:.1}", bytes as f64 / 1e6);
        let row = |one: &Checkpoint| {
            let each_ms = one.seconds * 1e3 / one.cycles.max(1) as f64;
            vec![
                table::grouped(one.cycles as f64),
                mb(one.memory.resident_bytes),
                mb(one.memory.virtual_bytes),
                format!("{each_ms:.2}"),
            ]
        };
        let rows: Vec<Vec<String>> = self.checkpoints.iter().map(row).collect();
        print!("{}", table::render(&["cycles", "resident MB", "address space MB", "ms each"], &rows));
    }
}

pub(super) fn run(binaries: &Binaries, count: u64) -> anyhow::Result<CyclesReport> {
    let mut command = Command::new(binaries.path("selvage-cycles")?);
    command.args(["--cycles", &count.to_string(), "--checkpoints", &CHECKPOINTS.to_string()]);
    let out = command.stderr(Stdio::inherit()).output().context("selvage-cycles")?;
    ensure!(out.status.success(), "selvage-cycles: {}", out.status);
    let text = String::from_utf8(out.stdout).context("selvage-cycles")?;
    let checkpoints = text.lines().map(serde_json::from_str).collect::<Result<Vec<Checkpoint>, _>>()?;
    ensure!(checkpoints.last().is_some_and(|last| last.cycles == count), "selvage-cycles stopped early");
    Ok(CyclesReport { checkpoints })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_counted_from_the_first_tenth() {
        let at = |cycles: u64, resident_bytes: u64| Checkpoint {
            cycles,
            seconds: 1.0,
            memory: Memory { resident_bytes, ..Memory::default() },
        };
        let growth = |checkpoints: Vec<Checkpoint>| CyclesReport { checkpoints }.growth(|memory| memory.resident_bytes);
        assert_eq!(growth(vec![at(0, 10), at(10, 100), at(100, 150)]), Some(1.5));
        assert_eq!(growth(vec![at(0, 10), at(10, 100)]), None);
        assert_eq!(growth(Vec::new()), None);
    }
}
