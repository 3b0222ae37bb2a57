//! What a thread asks of the kernel's scheduler, beside its core.

use std::io;

/// Shorter than what other threads have, so that the thread takes its core from them as soon as it wakes (EEVDF, Linux 6.12), ns.
const SLICE_NS: u64 = 100_000;

/// Asks for a short slice for the calling thread, and those that it starts. Kernels before 6.12 ignore it; the thread then waits for up to a tick.
pub fn shorten_slice() -> io::Result<()> {
    set_slice(SLICE_NS)
}

/// Gives the calling thread the kernel's own slice, for one that was started by a thread with a short one.
pub fn usual_slice() -> io::Result<()> {
    set_slice(0)
}

fn set_slice(slice_ns: u64) -> io::Result<()> {
    // `struct sched_attr` of the kernel, version 0: policy SCHED_OTHER and nice 0 are what the thread has already.
    #[repr(C)]
    struct SchedAttr {
        size: u32,
        policy: u32,
        flags: u64,
        nice: i32,
        priority: u32,
        runtime_ns: u64,
        deadline_ns: u64,
        period_ns: u64,
    }
    let attr = SchedAttr {
        size: size_of::<SchedAttr>() as u32,
        policy: 0,
        flags: 0,
        nice: 0,
        priority: 0,
        runtime_ns: slice_ns,
        deadline_ns: 0,
        period_ns: 0,
    };
    // SAFETY: a whole structure of the size it names, read during the call only; 0 is the calling thread.
    let failed = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attr, 0) } != 0;
    if failed { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Sets the calling thread's weight. Below 0 it needs CAP_SYS_NICE.
pub fn set_nice(nice: i32) -> io::Result<()> {
    // SAFETY: no pointers; on Linux 0 means the calling thread, not its process.
    let failed = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) } != 0;
    if failed { Err(io::Error::last_os_error()) } else { Ok(()) }
}
