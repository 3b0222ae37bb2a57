//! What the process gives up once it has started: the ways around protection keys.
//!
//! A key is checked when an instruction reaches memory through its address. The kernel does not check it for `process_vm_readv`,
//! `ptrace` or `/proc/self/mem`. [`close_files`] closes the file by Landlock, for the calling thread and every thread started after:
//! so first of all. [`deny_calls`] denies the calls by seccomp, for all threads, once the keys are taken. Seccomp alone would not
//! do for files, because io_uring opens them too.
//!
//! *Invariants:* denied calls fail with `EPERM`, files with `EACCES`; nothing is killed. Nothing can be undone.
//! *Fails:* where the kernel does not have it, with the error; nothing is changed then.

use std::{
    ffi::CString,
    fs, io,
    os::fd::{AsRawFd as _, FromRawFd as _, IntoRawFd as _, OwnedFd},
    path::Path,
};

/// Calls that reach another process's or this one's memory past its keys, take or give back keys, or serve only to attack.
const DENIED: &[libc::c_long] = &[
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_ptrace,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_userfaultfd,
    libc::SYS_perf_event_open,
    libc::SYS_bpf,
    libc::SYS_pkey_alloc,
    libc::SYS_pkey_free,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_open_by_handle_at,
    libc::SYS_acct,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_reboot,
];

/// Files of `/proc` that stay readable: what programs ask about the machine and about themselves.
const PROC_OPEN: &[&str] = &[
    "cpuinfo",
    "filesystems",
    "loadavg",
    "meminfo",
    "pressure",
    "stat",
    "sys",
    "uptime",
    "version",
    "self/cgroup",
    "self/limits",
    "self/mountinfo",
    "self/stat",
    "self/statm",
    "self/status",
];

/// Wanted by both: a program started from here gains nothing.
fn no_new_privileges() -> io::Result<()> {
    // SAFETY: a call with numbers only.
    done(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }.into()).map(|_| ())
}

fn done(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

#[cfg(target_arch = "x86_64")]
const AUDIT_ARCH: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const AUDIT_ARCH: u32 = 0xc000_00b7;
/// Calls of the x32 interface have this bit: the same calls by other numbers.
const X32_BIT: u32 = 0x4000_0000;

/// The filter: another architecture's calls, x32's and [`DENIED`] fail, all others pass.
fn filter() -> Vec<libc::sock_filter> {
    let statement = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    // Numbers fit: the list is short (checked below).
    let jump = |test: u32, k: u32, jt: usize, jf: usize| libc::sock_filter {
        code: (libc::BPF_JMP | test | libc::BPF_K) as u16,
        jt: jt as u8,
        jf: jf as u8,
        k,
    };
    const { assert!(DENIED.len() < 200, "jumps are of 8 bits") };
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let mut program = vec![
        statement(load, 4), // seccomp_data.arch
        jump(libc::BPF_JEQ, AUDIT_ARCH, 0, DENIED.len() + 3),
        statement(load, 0), // seccomp_data.nr
        jump(libc::BPF_JGE, X32_BIT, DENIED.len() + 1, 0),
    ];
    for (at, number) in DENIED.iter().enumerate() {
        program.push(jump(libc::BPF_JEQ, *number as u32, DENIED.len() - at, 0));
    }
    program.push(statement(libc::BPF_RET, libc::SECCOMP_RET_ALLOW));
    program.push(statement(libc::BPF_RET, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32));
    program
}

/// Denies the calls in all threads of the process. After [`init`](crate::init), which takes keys.
pub fn deny_calls() -> io::Result<()> {
    no_new_privileges()?;
    let mut program = filter();
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    let (mode, flags) = (libc::SECCOMP_SET_MODE_FILTER, libc::SECCOMP_FILTER_FLAG_TSYNC);
    // SAFETY: a whole program, read during the call only.
    match done(unsafe { libc::syscall(libc::SYS_seccomp, mode, flags, &raw const program) })? {
        0 => Ok(()),
        thread => Err(io::Error::other(format!("thread {thread} has a filter of its own"))),
    }
}

/// `LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_READ_FILE`.
const WRITE: u64 = 1 << 1;
const READ: u64 = 1 << 2;

/// `struct landlock_path_beneath_attr`.
#[repr(C, packed)]
struct PathBeneath {
    allowed: u64,
    folder: i32,
}

/// Leaves every file of the system open but those of `/proc`, and of those a list of harmless ones to read. Before there are
/// other threads. After it no file can be renamed from one folder into another (`EXDEV`, as for the first version of Landlock).
pub fn close_files() -> io::Result<()> {
    // Tagging a populated cage reads the map of the process.
    crate::maps::open()?;
    no_new_privileges()?;
    let handled = READ | WRITE;
    // SAFETY: `struct landlock_ruleset_attr` of the first version is this one number; a new descriptor comes back.
    let rules = unsafe {
        let number = libc::syscall(libc::SYS_landlock_create_ruleset, &raw const handled, size_of::<u64>(), 0);
        OwnedFd::from_raw_fd(done(number)? as i32)
    };
    for entry in fs::read_dir("/")? {
        let entry = entry?;
        if entry.file_name() != "proc" {
            drop(allow(&rules, &entry.path(), handled));
        }
    }
    for name in PROC_OPEN {
        if let Ok(place) = allow(&rules, &Path::new("/proc").join(name), READ) {
            // A rule of /proc holds for as long as the kernel keeps that very file in memory: keep it there.
            let _kept = place.into_raw_fd();
        }
    }
    // SAFETY: a descriptor of rules and no flags.
    done(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, rules.as_raw_fd(), 0) }).map(|_| ())
}

/// Adds a rule for a file, or a folder with all below it; gives the open place.
fn allow(rules: &OwnedFd, path: &Path, allowed: u64) -> io::Result<OwnedFd> {
    use std::os::unix::ffi::OsStrExt as _;
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: a string that ends with a zero byte; a new descriptor comes back.
    let place = unsafe {
        let number = libc::open(path.as_ptr(), libc::O_PATH | libc::O_CLOEXEC);
        OwnedFd::from_raw_fd(done(number.into())? as i32)
    };
    let rule = PathBeneath { allowed, folder: place.as_raw_fd() };
    const PATH_BENEATH: i32 = 1;
    // SAFETY: the structure for this kind of rule, read during the call only.
    let added =
        unsafe { libc::syscall(libc::SYS_landlock_add_rule, rules.as_raw_fd(), PATH_BENEATH, &raw const rule, 0) };
    done(added)?;
    Ok(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_denied_call_jumps_to_the_refusal_and_others_fall_to_the_pass() {
        let program = filter();
        let (pass, refusal) = (program.len() - 2, program.len() - 1);
        let run = |arch: u32, number: u32| {
            let (mut at, mut value) = (0, 0);
            loop {
                let it = program[at];
                let jump = |taken: bool| at + 1 + usize::from(if taken { it.jt } else { it.jf });
                match u32::from(it.code) {
                    code if code == libc::BPF_RET => return at,
                    code if code == libc::BPF_LD | libc::BPF_W | libc::BPF_ABS => {
                        value = if it.k == 4 { arch } else { number };
                        at += 1;
                    }
                    code if code == libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K => at = jump(value == it.k),
                    code if code == libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K => at = jump(value >= it.k),
                    code => panic!("instruction {code}"),
                }
            }
        };
        for number in DENIED {
            assert_eq!(run(AUDIT_ARCH, *number as u32), refusal, "call {number}");
        }
        for number in [libc::SYS_read, libc::SYS_openat, libc::SYS_pkey_mprotect, libc::SYS_io_uring_enter] {
            assert_eq!(run(AUDIT_ARCH, number as u32), pass, "call {number}");
        }
        assert_eq!(run(0x4000_0003, libc::SYS_read as u32), refusal, "32-bit");
        assert_eq!(run(AUDIT_ARCH, libc::SYS_read as u32 | X32_BIT), refusal, "x32");
    }
}
