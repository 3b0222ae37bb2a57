//! Network namespaces and what stands in them, made here and gone when dropped. Needs root and `ip` (Debian: iproute2); a name that is left behind by a
//! killed test begins with `slv`.
//!
//! *Bounds:* everything that is sent stays between the namespaces: they have no way out.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;

use rustix::thread::{CpuSet, LinkNameSpaceType, move_into_link_name_space, sched_setaffinity};

/// What is missing for namespaces and eBPF, in words.
pub fn lacks() -> Option<&'static str> {
    if !rustix::process::geteuid().is_root() {
        Some("needs root")
    } else if std::thread::available_parallelism().map_or(1, |count| count.get()) < 2 {
        Some("needs two CPUs")
    } else if Command::new("ip").arg("-V").output().is_err() {
        Some("needs `ip` (Debian: iproute2)")
    } else {
        None
    }
}

/// Runs a command of words; it must succeed.
pub fn run(words: &str) {
    let mut parts = words.split_whitespace();
    let done = Command::new(parts.next().expect("a program")).args(parts).output().expect("it is installed");
    assert!(done.status.success(), "{words}: {}", String::from_utf8_lossy(&done.stderr));
}

static NAMES: AtomicU32 = AtomicU32::new(0);

/// A network namespace with its loopback up.
pub struct Namespace {
    /// As `ip netns` knows it.
    pub name: String,
}

impl Namespace {
    /// A new one.
    pub fn new(label: &str) -> Namespace {
        let name = format!("slv{}-{}-{label}", std::process::id(), NAMES.fetch_add(1, Ordering::Relaxed));
        run(&format!("ip netns add {name}"));
        let namespace = Namespace { name };
        namespace.run("ip link set lo up");
        for setting in ["all.rp_filter=0", "default.rp_filter=0", "all.arp_ignore=1", "all.arp_announce=2"] {
            namespace.run(&format!("sysctl -qw net.ipv4.conf.{setting}"));
        }
        namespace
    }

    /// Runs a command of words there; it must succeed.
    pub fn run(&self, words: &str) {
        run(&format!("ip netns exec {} {words}", self.name));
    }

    /// Runs something there, on a thread of its own: what it starts, threads and processes, is there too.
    pub fn within<T: Send + 'static>(&self, run: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        let name = self.name.clone();
        std::thread::spawn(move || {
            enter(&name);
            run()
        })
    }

    /// As [`Namespace::within`], and waits for it.
    pub fn inside<T: Send>(&self, run: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let running = scope.spawn(|| {
                enter(&self.name);
                run()
            });
            running.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}

/// Moves this thread into a namespace, for good.
fn enter(name: &str) {
    let file = File::open(format!("/run/netns/{name}")).expect("it is there");
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).expect("root may");
}

/// A pair of veth ends, `a` in one namespace and `b` in another, both up, with two queues.
pub fn veth(one: &Namespace, a: &str, other: &Namespace, b: &str) {
    run(&format!(
        "ip link add {a} netns {} numrxqueues 2 numtxqueues 2 type veth peer name {b} netns {} numrxqueues 2 numtxqueues 2",
        one.name, other.name
    ));
    for (namespace, name) in [(one, a), (other, b)] {
        namespace.run(&format!("ip link set {name} up"));
    }
}

/// A folder on bpffs, gone when dropped.
pub struct Pins(pub PathBuf);

impl Pins {
    /// Mounts bpffs where it is not, and names a folder there.
    pub fn new(label: &str) -> Pins {
        let mounted = std::fs::read_to_string("/proc/mounts").is_ok_and(|text| text.contains(" /sys/fs/bpf bpf "));
        if !mounted {
            run("mount -t bpf bpf /sys/fs/bpf");
        }
        Pins(PathBuf::from(format!("/sys/fs/bpf/selvage-test-{}-{label}", std::process::id())))
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Keeps this thread on one CPU.
pub fn pin(cpu: usize) {
    let mut only = CpuSet::new();
    only.set(cpu);
    sched_setaffinity(None, &only).expect("the CPU is there");
}
