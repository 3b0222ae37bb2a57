//! A node's memory: how much it may use, and how much it does.
//!
//! The truth is the process's resident memory as the kernel counts it, but for pages of files, which the kernel can take back.
//! Reading it costs about a microsecond, so it is read before each start of an isolate and at each tick. What the shards do about it is in [`crate::workers`]:
//!
//! | resident | what happens |
//! |---|---|
//! | below [`LOW`] of the budget | nothing; evictions end here |
//! | from [`HIGH`] | idle Workers are evicted, least recently used first; nothing is started ahead of need |
//! | from [`CRITICAL`] | isolates are started no more, and requests that need one are shed (503 `overloaded`); running ones are told to collect |
//! | over the budget | the largest Workers are ended with their requests (503 `overloaded`) |
//!
//! Nothing has to end it: the next reading below a mark does. What malloc keeps of freed blocks between live ones goes back to the
//! kernel once memory has changed by [`TRIM_CHANGE_BYTES`] ([`IDLE_TRIM_CHANGE_BYTES`] while no request is open), at most every [`TRIM_PERIOD_NS`]: half of what a node of hostile tenants
//! has after an hour were such holes. It may have grown or shrunk: what Workers leave behind are holes too, in less memory.
//!
//! *Does not:* limit one isolate; that is `isolate::memory`. *Bounds:* what happens between two readings adds to the budget: a tick's
//! worth of allocation, or one isolate's limit where a shard cannot be interrupted for so long. *Fails:* without `/proc` there is no
//! budget, and the log says so. *Threads:* one for all shards; nothing here waits.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use base::limits;

/// Marks, in hundredths of the budget.
const LOW: u64 = 75;
const HIGH: u64 = 85;
const CRITICAL: u64 = 95;
/// Share of the machine's or the control group's memory that a node takes, in hundredths: the rest is the kernel's and the page cache's.
const SHARE: u64 = 75;

/// By how much memory may have grown from its lowest reading, or shrunk from its highest, before malloc is asked to give back what
/// it keeps, bytes.
const TRIM_CHANGE_BYTES: u64 = 8 << 20;
/// The same while no request is open: nobody waits for it.
const IDLE_TRIM_CHANGE_BYTES: u64 = 1 << 20;
/// Between two such times, ns.
const TRIM_PERIOD_NS: u64 = 30 * limits::S_NS;

/// Blocks from this size on are given back to the kernel when they are freed, bytes.
#[cfg(target_env = "gnu")]
const MMAP_BYTES: i32 = 256 << 10;
/// Arenas of malloc: two for each shard (its thread and the apart one allocate the most), two for all that waits. By glibc's limit, eight
/// for each core, nearly every thread has one of its own, and holes of its own in it: a node with one shard has 3 MB more at rest so, and
/// its neighbours' latencies are the same.
#[cfg(target_env = "gnu")]
const ARENAS_PER_SHARD: usize = 2;
#[cfg(target_env = "gnu")]
const OTHER_ARENAS: usize = 2;

const _: () = assert!(LOW < HIGH && HIGH < CRITICAL && CRITICAL < 100);

/// How scarce memory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Pressure {
    None,
    /// Between the low and the high mark: what was begun goes on.
    Some,
    High,
    Critical,
    Over,
}

/// The budget of a node, shared by its shards.
pub(crate) struct MemoryBudget {
    bytes: u64,
    page_bytes: u64,
    statm: Option<File>,
    resident: AtomicU64,
    /// The lowest and the highest reading since malloc last gave back, bytes; when that was.
    floor: AtomicU64,
    ceiling: AtomicU64,
    trimmed_ns: AtomicU64,
}

impl MemoryBudget {
    /// So many bytes, or a share of what this machine and control group have, for so many shards.
    pub(crate) fn new(bytes: Option<u64>, shards: usize) -> MemoryBudget {
        let statm = File::open("/proc/self/statm");
        if let Err(error) = &statm {
            tracing::error!(%error, "resident memory cannot be read: the node has no memory budget");
        }
        set_up_malloc(shards);
        // SAFETY: a call with a number only.
        let page_bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        let budget = MemoryBudget {
            bytes: bytes.unwrap_or_else(|| machine_bytes() / 100 * SHARE),
            page_bytes: u64::try_from(page_bytes).unwrap_or(4096),
            statm: statm.ok(),
            resident: AtomicU64::new(0),
            floor: AtomicU64::new(u64::MAX),
            ceiling: AtomicU64::new(0),
            trimmed_ns: AtomicU64::new(0),
        };
        budget.read();
        tracing::info!(budget_mb = budget.bytes >> 20, resident_mb = budget.resident() >> 20, "memory");
        budget
    }

    /// Reads how much memory the process has.
    pub(crate) fn read(&self) -> Pressure {
        let mut text = [0; 128];
        let read = self.statm.as_ref().and_then(|statm| statm.read_at(&mut text, 0).ok()).unwrap_or(0);
        if let Some(pages) = resident_pages(&text[..read]) {
            self.resident.store(pages * self.page_bytes, Ordering::Relaxed);
        }
        self.pressure()
    }

    /// As of the last reading by any shard.
    pub(crate) fn pressure(&self) -> Pressure {
        self.pressure_with(0)
    }

    /// The same if so many bytes more were resident.
    pub(crate) fn pressure_with(&self, more: u64) -> Pressure {
        let resident = u128::from(self.resident().saturating_add(more)) * 100;
        let reached = |mark: u64| resident >= u128::from(self.bytes) * u128::from(mark);
        match () {
            () if reached(100) => Pressure::Over,
            () if reached(CRITICAL) => Pressure::Critical,
            () if reached(HIGH) => Pressure::High,
            () if reached(LOW) => Pressure::Some,
            () => Pressure::None,
        }
    }

    /// Resident memory as of the last reading, bytes.
    pub(crate) fn resident(&self) -> u64 {
        self.resident.load(Ordering::Relaxed)
    }

    /// The budget, bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Lets malloc give back what it keeps if memory has changed since it last did. Called by one shard, at each sweep.
    pub(crate) fn trim_if_changed(&self, now_ns: u64, idle: bool) {
        let resident = self.resident();
        let floor = self.floor.fetch_min(resident, Ordering::Relaxed).min(resident);
        let ceiling = self.ceiling.fetch_max(resident, Ordering::Relaxed).max(resident);
        let due = self.trimmed_ns.load(Ordering::Relaxed).saturating_add(TRIM_PERIOD_NS) <= now_ns;
        let change = if idle { IDLE_TRIM_CHANGE_BYTES } else { TRIM_CHANGE_BYTES };
        if due && (resident - floor).max(ceiling - resident) >= change {
            MemoryBudget::trim();
            self.read();
            self.floor.store(self.resident(), Ordering::Relaxed);
            self.ceiling.store(self.resident(), Ordering::Relaxed);
            self.trimmed_ns.store(now_ns, Ordering::Relaxed);
        }
    }

    /// Lets malloc give back what it keeps. Milliseconds at worst.
    pub(crate) fn trim() {
        // SAFETY: no pointers; glibc takes the locks of its arenas.
        #[cfg(target_env = "gnu")]
        unsafe {
            libc::malloc_trim(0);
        }
    }
}

/// Freed memory goes back to the kernel, and is not held in more places than there are threads that allocate much.
fn set_up_malloc(shards: usize) {
    #[cfg(target_env = "gnu")]
    {
        let arenas = i32::try_from(ARENAS_PER_SHARD * shards + OTHER_ARENAS).unwrap_or(i32::MAX);
        // A threshold that is set stays: else malloc raises it up to 32 MB by and by, and freed buffers stay resident.
        // SAFETY: numbers only; glibc takes its lock.
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, MMAP_BYTES);
            libc::mallopt(libc::M_ARENA_MAX, arenas);
        }
    }
    #[cfg(not(target_env = "gnu"))]
    let _ = shards;
}

/// Of `/proc/self/statm`, the second number without the third: resident pages that are of no file.
fn resident_pages(statm: &[u8]) -> Option<u64> {
    let mut numbers = std::str::from_utf8(statm).ok()?.split_ascii_whitespace().skip(1).map(str::parse::<u64>);
    let (all, of_files) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    Some(all.saturating_sub(of_files))
}

/// What there is: of the machine's memory and the limits of the process's control groups the least.
fn machine_bytes() -> u64 {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limits = limit_files(&groups).into_iter().filter_map(|file| fs::read_to_string(file).ok()?.trim().parse().ok());
    let total = total_bytes(&meminfo).unwrap_or(u64::MAX);
    limits.fold(total, u64::min)
}

fn total_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

/// The files that limit a process whose `/proc/self/cgroup` is this: of its group and of those above, versions 1 and 2.
fn limit_files(groups: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let (root, name) = match controllers {
            "" => (Path::new("/sys/fs/cgroup"), "memory.max"),
            "memory" => (Path::new("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"),
            _ => continue,
        };
        let group = root.join(path.trim_start_matches('/'));
        files.extend(group.ancestors().take_while(|above| above.starts_with(root)).map(|above| above.join(name)));
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_parts_of_the_budget() {
        let budget = MemoryBudget { bytes: 1_000, page_bytes: 1, statm: None, ..MemoryBudget::new(None, 1) };
        let check = |resident: u64, pressure: Pressure| {
            budget.resident.store(resident, Ordering::Relaxed);
            assert_eq!(budget.read(), pressure, "{resident}");
        };
        check(0, Pressure::None);
        check(749, Pressure::None);
        check(750, Pressure::Some);
        check(850, Pressure::High);
        check(949, Pressure::High);
        check(950, Pressure::Critical);
        check(1_000, Pressure::Over);
        check(u64::MAX, Pressure::Over);
        check(700, Pressure::None);
        assert_eq!(budget.pressure_with(250), Pressure::Critical);
    }

    #[test]
    fn this_process_has_memory() {
        let budget = MemoryBudget::new(None, 1);
        assert!(budget.resident() > 100 << 10 && budget.resident() < 64 << 30, "{}", budget.resident());
        assert!(budget.bytes() > 64 << 20 && budget.bytes() < 64 << 40, "{}", budget.bytes());
        let before = budget.resident();
        let held = std::hint::black_box(vec![1_u8; 64 << 20]);
        budget.read();
        assert!(budget.resident() >= before + (60 << 20), "{before} to {}", budget.resident());
        drop(held);
    }

    #[cfg(target_env = "gnu")]
    #[test]
    fn more_threads_than_arenas_share_them() {
        const SHARDS: usize = 2;
        const THREADS: usize = 32;
        let arenas = || {
            let (mut text, mut bytes) = (std::ptr::null_mut(), 0);
            // SAFETY: the stream writes into a block that it allocates, and says where and how long at its end.
            let told = unsafe {
                let stream = libc::open_memstream(&raw mut text, &raw mut bytes);
                assert!(!stream.is_null() && libc::malloc_info(0, stream) == 0 && libc::fclose(stream) == 0);
                std::slice::from_raw_parts(text.cast::<u8>(), bytes).to_vec()
            };
            // SAFETY: the block is malloc's and nobody else's.
            unsafe { libc::free(text.cast()) };
            String::from_utf8(told).expect("text").matches("<heap nr=").count()
        };
        let _budget = MemoryBudget::new(None, SHARDS);
        let all_hold = std::sync::Barrier::new(THREADS + 1);
        let most = std::thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    let held = std::hint::black_box(vec![1_u8; 64 << 10]);
                    all_hold.wait();
                    all_hold.wait();
                    drop(held);
                });
            }
            all_hold.wait();
            let most = arenas();
            all_hold.wait();
            most
        });
        assert!((2..=ARENAS_PER_SHARD * SHARDS + OTHER_ARENAS).contains(&most), "{most} arenas");
    }

    #[cfg(target_env = "gnu")]
    #[test]
    fn holes_between_live_blocks_go_back() {
        const COUNT: usize = 2_000;
        const BYTES: usize = 64 << 10;
        const _: () = assert!(BYTES < MMAP_BYTES as usize && COUNT * BYTES > 4 * TRIM_CHANGE_BYTES as usize);
        let budget = MemoryBudget::new(None, 1);
        let before = budget.resident();
        // A live block after each: nothing of it is at the top, where free gives back by itself.
        let blocks: Vec<_> = (0..COUNT).map(|_| (vec![1_u8; BYTES], std::hint::black_box(vec![1_u8; 64]))).collect();
        budget.read();
        assert!(budget.resident() >= before + (100 << 20), "{before} to {}", budget.resident());
        let live: Vec<_> = blocks.into_iter().map(|(_, live)| live).collect();
        budget.floor.store(before, Ordering::Relaxed);
        budget.trim_if_changed(TRIM_PERIOD_NS - 1, true);
        budget.read();
        assert!(budget.resident() >= before + (100 << 20), "not yet: {before} to {}", budget.resident());
        budget.trim_if_changed(TRIM_PERIOD_NS, false);
        assert!(budget.resident() < before + (20 << 20), "{before} to {}", budget.resident());
        // Half as much is little to a busy node, and not to one without requests.
        let (trimmed, later) = (|| budget.trimmed_ns.load(Ordering::Relaxed), TRIM_PERIOD_NS * 2);
        budget.floor.store(budget.resident() - TRIM_CHANGE_BYTES / 2, Ordering::Relaxed);
        budget.trim_if_changed(later, false);
        assert_eq!(trimmed(), TRIM_PERIOD_NS);
        budget.trim_if_changed(later, true);
        assert_eq!(trimmed(), later);
        // What has shrunk since has left holes behind.
        let (resident, last) = (budget.resident(), TRIM_PERIOD_NS * 3);
        budget.trim_if_changed(last, true);
        assert_eq!(trimmed(), later, "nothing has changed");
        budget.ceiling.store(resident + IDLE_TRIM_CHANGE_BYTES, Ordering::Relaxed);
        budget.trim_if_changed(last, true);
        assert_eq!(trimmed(), last);
        assert_eq!(budget.ceiling.load(Ordering::Relaxed), budget.resident());
        drop(live);
    }

    #[test]
    fn limits_are_those_of_all_groups_above() {
        let files: Vec<_> = limit_files("9:name=systemd:/\n4:memory:/a/b\n0::/c:d/e\n")
            .iter()
            .map(|file| file.to_str().expect("UTF-8").to_owned())
            .collect();
        assert_eq!(
            files,
            [
                "/sys/fs/cgroup/memory/a/b/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory/a/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory/memory.limit_in_bytes",
                "/sys/fs/cgroup/c:d/e/memory.max",
                "/sys/fs/cgroup/c:d/memory.max",
                "/sys/fs/cgroup/memory.max",
            ]
        );
        assert_eq!(total_bytes("MemTotal:       24681572 kB\nMemFree: 1 kB\n"), Some(24_681_572 * 1024));
        assert_eq!((total_bytes(""), resident_pages(b"")), (None, None));
        assert_eq!(resident_pages(b"1000 200 30 4 0 5 0\n"), Some(170));
    }
}
