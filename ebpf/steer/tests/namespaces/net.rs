//! Network namespaces and what stands in them, made here and gone when dropped.

use rustix::net::sockopt::{set_socket_reuseaddr, set_socket_reuseport, socket_incoming_cpu};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with};
use rustix::thread::{CpuSet, LinkNameSpaceType, move_into_link_name_space, sched_setaffinity};
use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;

/// What a test needs; says loudly what is missing.
pub(crate) fn ready() -> bool {
    let lacks = if !rustix::process::geteuid().is_root() {
        "needs root"
    } else if std::thread::available_parallelism().map_or(1, |count| count.get()) < 2 {
        "needs two CPUs"
    } else if Command::new("ip").arg("-V").output().is_err() {
        "needs `ip` (Debian: iproute2)"
    } else if programs::STEER.is_err() {
        "this build has no eBPF programs"
    } else {
        return true;
    };
    skipped("network namespaces", lacks);
    false
}

/// Says it loudly, and where the whole run collects it.
pub(crate) fn skipped(what: &str, why: &str) {
    let line = format!("SKIPPED: {what}: {why}\n");
    eprint!("{line}");
    if let Some(log) = std::env::var_os("SELVAGE_SKIP_LOG") {
        let mut log = File::options().append(true).create(true).open(log).expect("the skip log can be written");
        log.write_all(line.as_bytes()).expect("the skip log can be written");
    }
}

/// Runs a command of words; it must succeed.
pub(crate) fn run(words: &str) {
    let mut parts = words.split_whitespace();
    let done = Command::new(parts.next().expect("a program")).args(parts).output().expect("it is installed");
    assert!(done.status.success(), "{words}: {}", String::from_utf8_lossy(&done.stderr));
}

static NAMES: AtomicU32 = AtomicU32::new(0);

/// A network namespace of this test.
pub(crate) struct Namespace {
    pub(crate) name: String,
}

impl Namespace {
    pub(crate) fn new(label: &str) -> Namespace {
        let name = format!("slv{}-{}-{label}", std::process::id(), NAMES.fetch_add(1, Ordering::Relaxed));
        run(&format!("ip netns add {name}"));
        let namespace = Namespace { name };
        namespace.run("ip link set lo up");
        for setting in ["all.rp_filter=0", "default.rp_filter=0", "all.arp_ignore=1", "all.arp_announce=2"] {
            namespace.run(&format!("sysctl -qw net.ipv4.conf.{setting}"));
        }
        namespace
    }

    pub(crate) fn run(&self, words: &str) {
        run(&format!("ip netns exec {} {words}", self.name));
    }

    /// Moves this thread there, for good.
    pub(crate) fn enter(&self) {
        let file = File::open(format!("/run/netns/{}", self.name)).expect("it is there");
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).expect("root may");
    }

    /// Runs something there on a thread of its own.
    pub(crate) fn within<T: Send + 'static>(&self, run: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        let namespace = Namespace { name: self.name.clone() };
        std::thread::spawn(move || {
            namespace.enter();
            std::mem::forget(namespace);
            run()
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}

/// A pair of veth ends, `a` in one namespace and `b` in another, both up, with two queues.
pub(crate) fn veth(one: &Namespace, a: &str, other: &Namespace, b: &str) {
    run(&format!(
        "ip link add {a} netns {} numrxqueues 2 numtxqueues 2 type veth peer name {b} netns {} numrxqueues 2 numtxqueues 2",
        one.name, other.name
    ));
    for (namespace, name) in [(one, a), (other, b)] {
        namespace.run(&format!("ip link set {name} up"));
    }
}

/// A folder on bpffs, gone when dropped.
pub(crate) struct Pins(pub(crate) PathBuf);

impl Pins {
    pub(crate) fn new() -> Pins {
        let mounted = std::fs::read_to_string("/proc/mounts").is_ok_and(|text| text.contains(" /sys/fs/bpf bpf "));
        if !mounted {
            run("mount -t bpf bpf /sys/fs/bpf");
        }
        Pins(PathBuf::from(format!("/sys/fs/bpf/selvage-test-{}", std::process::id())))
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Keeps this thread on one CPU.
pub(crate) fn pin(cpu: usize) {
    let mut only = CpuSet::new();
    only.set(cpu);
    sched_setaffinity(None, &only).expect("the CPU is there");
}

/// A listening socket of a group.
pub(crate) fn listener(address: SocketAddr) -> TcpListener {
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None).expect("a socket");
    set_socket_reuseaddr(&socket, true).expect("an option");
    set_socket_reuseport(&socket, true).expect("an option");
    bind(&socket, &address).expect("the address is free");
    listen(&socket, 4096).expect("it is bound");
    TcpListener::from(socket)
}

/// The CPU of a connection's last packet.
pub(crate) fn incoming_cpu(stream: &TcpStream) -> u32 {
    socket_incoming_cpu(stream).expect("a connected socket")
}

/// Sends a byte and reads the answer.
pub(crate) fn ask(stream: &mut TcpStream) -> std::io::Result<u8> {
    stream.write_all(b"?")?;
    let mut answer = [0];
    stream.read_exact(&mut answer)?;
    Ok(answer[0])
}

/// Answers each byte with `answer` until the other end is done.
pub(crate) fn serve(mut stream: TcpStream, answer: u8) {
    let mut byte = [0];
    while stream.read_exact(&mut byte).is_ok() && stream.write_all(&[answer]).is_ok() {}
}
