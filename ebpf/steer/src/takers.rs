//! The kernel's threads that take packets over, each on its CPU, `cpumap/<cpu>/map:<map>`: they let a shard finish what it is at.
//!
//! A thread of the usual policy that wakes interrupts who runs, and a packet from another CPU wakes one: the shard was interrupted for every packet or two
//! only to find the next request a little earlier than it could look at it. Under `SCHED_BATCH` (sched(7)) they run when the shard waits, or when their turn
//! comes at the clock's tick.

use std::fs;

/// Sets the policy of the threads of map `map`, and says how many there were. None is no failure: in a PID namespace of its own a node does not
/// see the kernel's threads, and packets are taken over all the same.
pub(crate) fn let_shards_finish(map: u32, cpus: &[u32]) -> usize {
    let Ok(processes) = fs::read_dir("/proc") else { return 0 };
    let pids = processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let takers = pids.filter(|pid| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        is_taker(name.trim_end(), map, cpus)
    });
    takers.filter(|pid| batch(*pid)).count()
}

/// Kernels before 5.17 tell 15 bytes of a name.
fn is_taker(name: &str, map: u32, cpus: &[u32]) -> bool {
    cpus.iter().any(|cpu| {
        let whole = format!("cpumap/{cpu}/map:{map}");
        name == whole || (name.len() == 15 && whole.starts_with(name))
    })
}

fn batch(pid: i32) -> bool {
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: the structure outlives the call, which only reads it.
    #[allow(unsafe_code)]
    let done = unsafe { libc::sched_setscheduler(pid, libc::SCHED_BATCH, &raw const parameters) };
    done == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_known_by_its_map_and_cpu() {
        for (name, expect) in [
            ("cpumap/0/map:12", true),
            ("cpumap/1/map:12", true),
            ("cpumap/2/map:12", false),
            ("cpumap/0/map:1", false),
            ("cpumap/0/map:123", false),
            ("ksoftirqd/0", false),
            ("", false),
        ] {
            assert_eq!(is_taker(name, 12, &[0, 1]), expect, "{name}");
        }
        assert!(is_taker("cpumap/10/map:1", 1234, &[10]), "cut by an old kernel");
    }
}
