//! What the machine is and what it has spent: cores, pinning, CPU time, and a description for reports.

use std::collections::HashMap;
use std::path::Path;

use anyhow::Context;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};

/// Cores that this process may use, ascending.
pub fn cores() -> Vec<usize> {
    match sched_getaffinity(None) {
        Ok(set) => (0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect(),
        Err(_) => vec![0],
    }
}

/// A core for a server and one for its load, of different physical cores if there are such.
pub fn two_cores() -> Option<(usize, usize)> {
    let cores = cores();
    let (first, rest) = cores.split_first()?;
    let load = rest.iter().find(|core| !share_a_core(*first, **core)).or(rest.first())?;
    Some((*first, *load))
}

/// Whether two logical cores are threads of one physical core, as far as the kernel says.
pub fn share_a_core(one: usize, other: usize) -> bool {
    let siblings = |core: usize| {
        std::fs::read_to_string(format!("/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list")).ok()
    };
    one == other || siblings(one).is_some_and(|list| siblings(other).is_some_and(|same| same == list))
}

/// Files that this process, and each that it starts, may have open.
pub fn files_max() -> anyhow::Result<usize> {
    let limit = getrlimit(Resource::Nofile);
    // Up to the hard limit anybody may.
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    Ok(limit.maximum.map_or(usize::MAX / 2, |limit| usize::try_from(limit).unwrap_or(usize::MAX / 2)))
}

/// Lets the calling thread, and processes it starts, run on these cores only.
pub fn pin_thread(cores: &[usize]) -> anyhow::Result<()> {
    let mut set = CpuSet::new();
    for core in cores {
        anyhow::ensure!(*core < CpuSet::MAX_CPU, "no core {core}");
        set.set(*core);
    }
    sched_setaffinity(None, &set).context("sched_setaffinity")
}

/// CPU time of the calling thread, ns.
pub fn thread_cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Time that the cores of this machine wanted to run and its hypervisor ran something else, since it started, ms (proc(5), "steal").
/// Threads' CPU clocks may count it as theirs. 0 where there is no hypervisor, or it does not say.
pub fn stolen_ms() -> u64 {
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    parse_steal(&stat).unwrap_or(0) * 1_000 / rustix::param::clock_ticks_per_second()
}

/// Ticks in the eighth column of the line of all cores.
fn parse_steal(stat: &str) -> Option<u64> {
    stat.lines().find_map(|line| line.strip_prefix("cpu "))?.split_whitespace().nth(7)?.parse().ok()
}

/// One line of a process in `/proc`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ProcStat {
    parent: u32,
    cpu_ticks: u64,
}

/// CPU time (user and system) of a process and everything below it, seconds; what ended and was waited for counts.
/// Resolution is one clock tick, 10 ms on most kernels.
pub fn tree_cpu_seconds(root: u32) -> anyhow::Result<f64> {
    let stats = all_stats()?;
    anyhow::ensure!(stats.contains_key(&root), "process {root} is gone");
    let ticks: u64 = tree(&stats, root).iter().map(|pid| stats[pid].cpu_ticks).sum();
    Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// Resident memory of a process and everything below it, bytes.
pub fn tree_resident_bytes(root: u32) -> anyhow::Result<u64> {
    let stats = all_stats()?;
    let pages: u64 = tree(&stats, root)
        .iter()
        .filter_map(|pid| std::fs::read_to_string(format!("/proc/{pid}/statm")).ok())
        .filter_map(|line| line.split(' ').nth(1)?.parse::<u64>().ok())
        .sum();
    Ok(pages * rustix::param::page_size() as u64)
}

/// What a process holds of memory, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Memory {
    /// Pages that are resident.
    pub resident_bytes: u64,
    /// The same, a page that `n` processes share counted as `1/n`.
    pub proportional_bytes: u64,
    /// Address space.
    pub virtual_bytes: u64,
}

impl Memory {
    /// Of one process, without its children, from `smaps_rollup` (proc(5)), which walks the page tables: exact, where the
    /// counters of `statm` may be off by some pages a thread.
    pub fn of(pid: u32) -> anyhow::Result<Memory> {
        let path = format!("/proc/{pid}/smaps_rollup");
        let text = std::fs::read_to_string(&path).context(path)?;
        let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).context("statm")?;
        let pages: u64 = statm.split(' ').next().and_then(|pages| pages.parse().ok()).context("statm")?;
        Memory::parse(&text, pages * rustix::param::page_size() as u64).context("smaps_rollup without Rss or Pss")
    }

    fn parse(rollup: &str, virtual_bytes: u64) -> Option<Memory> {
        let bytes = |key: &str| {
            let line = rollup.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
            line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib * 1024)
        };
        Some(Memory { resident_bytes: bytes("Rss")?, proportional_bytes: bytes("Pss")?, virtual_bytes })
    }
}

fn all_stats() -> anyhow::Result<HashMap<u32, ProcStat>> {
    let mut stats = HashMap::new();
    for entry in std::fs::read_dir("/proc").context("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // A process may end between the listing and the reading.
        let Ok(line) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        if let Some(stat) = parse_stat(&line) {
            stats.insert(pid, stat);
        }
    }
    Ok(stats)
}

/// `/proc/PID/stat` (proc(5)): the name in field 2 may hold spaces and parentheses, so count from the last `)`.
fn parse_stat(line: &str) -> Option<ProcStat> {
    let (_, rest) = line.rsplit_once(')')?;
    let field: Vec<&str> = rest.split_ascii_whitespace().collect();
    let number = |index: usize| field.get(index - 3)?.parse::<u64>().ok();
    let parent = u32::try_from(number(4)?).ok()?;
    Some(ProcStat { parent, cpu_ticks: number(14)? + number(15)? + number(16)? + number(17)? })
}

fn tree(stats: &HashMap<u32, ProcStat>, root: u32) -> Vec<u32> {
    let mut found = vec![root];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        // A process has one parent, so nothing is found twice, but for the root if /proc changed under the reader.
        found.extend(stats.iter().filter(|(pid, stat)| stat.parent == parent && **pid != root).map(|(pid, _)| *pid));
        next += 1;
    }
    found.retain(|pid| stats.contains_key(pid));
    found
}

/// What a report says about where it was measured.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Machine {
    /// Model name of the first core.
    pub cpu: String,
    /// Cores that this process may use.
    pub cores: usize,
    /// Kernel release.
    pub kernel: String,
    /// Load average over one minute when the run began; far above zero, the numbers mean little.
    pub load_average: f64,
}

impl Machine {
    /// Reads `/proc`; unknown parts stay empty.
    pub fn describe() -> Machine {
        let read = |path: &str| std::fs::read_to_string(Path::new(path)).unwrap_or_default();
        let cpu = read("/proc/cpuinfo")
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(':').map(|(_, name)| name.trim().to_owned()))
            .unwrap_or_default();
        Machine {
            cpu,
            cores: cores().len(),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load_average: read("/proc/loadavg").split(' ').next().and_then(|text| text.parse().ok()).unwrap_or(0.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_stat_line_with_a_hostile_name() {
        let line = "7 (a b) c) S 3 7 7 0 -1 4194560 1 0 0 0 11 22 33 44 20 0 1 0 5 6 7";
        assert_eq!(parse_stat(line), Some(ProcStat { parent: 3, cpu_ticks: 110 }));
        assert_eq!(parse_stat("7 (x"), None);
        assert_eq!(parse_stat("7 (x) S 1"), None);
    }

    #[test]
    fn reads_the_time_that_was_stolen() {
        assert_eq!(parse_steal("cpu  1 2 3 4 5 6 7 89 10 11\ncpu0 1 2 3 4 5 6 7 8 9 10\n"), Some(89));
        assert_eq!(parse_steal("cpu0 1 2 3 4 5 6 7 8 9 10\n"), None);
        assert_eq!(parse_steal("cpu  1 2 3\n"), None);
    }

    #[test]
    fn counts_the_cpu_time_of_a_child() -> anyhow::Result<()> {
        let me = std::process::id();
        let before = tree_cpu_seconds(me)?;
        let mut child = std::process::Command::new("sh").args(["-c", "while :; do :; done"]).spawn()?;
        std::thread::sleep(std::time::Duration::from_millis(400));
        let during = tree_cpu_seconds(me)?;
        child.kill()?;
        child.wait()?;
        assert!(during > before, "{before} to {during}");
        assert!(tree_resident_bytes(me)? > 1 << 20);
        Ok(())
    }

    #[test]
    fn memory_of_a_process() -> anyhow::Result<()> {
        let rollup = "55e-7ff ---p 0 00:00 0    [rollup]\nRss:    2048 kB\nPss:    1024 kB\nPss_Dirty:    8 kB\n";
        let expect = Memory { resident_bytes: 2 << 20, proportional_bytes: 1 << 20, virtual_bytes: 7 };
        assert_eq!(Memory::parse(rollup, 7), Some(expect));
        assert_eq!(Memory::parse("Rss: 1 kB\n", 7), None);
        let before = Memory::of(std::process::id())?;
        let block = std::hint::black_box(vec![1u8; 32 << 20]);
        let after = Memory::of(std::process::id())?;
        assert!(after.resident_bytes >= before.resident_bytes + (30 << 20), "{before:?} {after:?}");
        assert!(after.virtual_bytes >= after.resident_bytes && after.proportional_bytes <= after.resident_bytes);
        drop(block);
        Ok(())
    }

    #[test]
    fn pins_and_tells() -> anyhow::Result<()> {
        let last = *cores().last().context("a core")?;
        std::thread::spawn(move || -> anyhow::Result<()> {
            pin_thread(&[last])?;
            assert_eq!(cores(), [last]);
            Ok(())
        })
        .join()
        .expect("the thread does not panic")
    }
}
