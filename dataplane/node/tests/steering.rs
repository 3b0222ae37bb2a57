//! A node at an interface: its program, a veth pair between two network namespaces, made and removed here. Needs root; without it
//! the tests say that they were skipped.

use serde_json::Value;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

const NODE: &str = env!("CARGO_BIN_EXE_selvage-node");
const CONNECTIONS: u64 = 1_000;

fn run(words: &str) {
    let mut parts = words.split_whitespace();
    let done = Command::new(parts.next().expect("a program")).args(parts).output().expect("it is installed");
    assert!(done.status.success(), "{words}: {}", String::from_utf8_lossy(&done.stderr));
}

/// Two namespaces with a veth pair, a data folder, and a bpffs.
struct Place {
    server: String,
    client: String,
    folder: PathBuf,
}

impl Place {
    fn new(label: &str) -> Option<Place> {
        let cpus = std::thread::available_parallelism().map_or(1, |count| count.get());
        let tools = Command::new("ip").arg("-V").output().is_ok();
        if !rustix::process::geteuid().is_root() || cpus < 2 || !tools {
            let line = "SKIPPED: a node at an interface: needs root, two CPUs and `ip`\n";
            eprint!("{line}");
            if let Some(log) = std::env::var_os("SELVAGE_SKIP_LOG") {
                let log = File::options().append(true).create(true).open(log);
                log.and_then(|mut log| log.write_all(line.as_bytes())).expect("the skip log can be written");
            }
            return None;
        }
        let id = format!("{}-{label}", std::process::id());
        let place = Place {
            server: format!("slvn{id}-s"),
            client: format!("slvn{id}-c"),
            folder: std::env::temp_dir().join(format!("selvage-{id}")),
        };
        let (server, client) = (&place.server, &place.client);
        std::fs::create_dir_all(place.folder.join("bpf")).expect("a temporary folder");
        run(&format!("mount -t bpf bpf {}", place.folder.join("bpf").display()));
        run(&format!("ip netns add {server}"));
        run(&format!("ip netns add {client}"));
        run(&format!(
            "ip link add s0 netns {server} numrxqueues 2 numtxqueues 2 type veth peer name c0 netns {client} numrxqueues 2 numtxqueues 2"
        ));
        for (namespace, link, address) in [(server, "s0", "10.79.0.1/24"), (client, "c0", "10.79.0.2/24")] {
            run(&format!("ip -n {namespace} addr add {address} dev {link}"));
            run(&format!("ip -n {namespace} link set {link} up"));
            run(&format!("ip -n {namespace} link set lo up"));
        }
        // The driver's way takes frames without their checksums: a veth pair alone leaves them out.
        let offload = format!("ip netns exec {client} ethtool -K c0 tx off");
        let _ = Command::new("sh").args(["-c", &offload]).output();
        Some(place)
    }

    fn start(&self, interface: &str) -> Node {
        let mut command = Command::new("ip");
        command.args([
            "netns",
            "exec",
            &self.server,
            NODE,
            "serve",
            "--listen",
            "10.79.0.1:0",
            "--admin",
            "127.0.0.1:0",
        ]);
        command
            .args(["--shards", "2", "--spares", "0", "--interface", interface, "--data"])
            .arg(self.folder.join("data"));
        command.arg("--bpffs").arg(self.folder.join("bpf")).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the node starts");
        let mut ready = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut ready).expect("it speaks");
        let address = ready.split_whitespace().find_map(|word| word.strip_prefix("http="));
        let address = address.and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("not ready: {ready:?}"));
        Node { child, address }
    }

    /// The keeper's answer, once it satisfies `wanted`.
    fn steer(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let mut ask = Command::new(NODE);
            let done = ask.args(["steer", "--json", "--data"]).arg(self.folder.join("data")).output().expect("it runs");
            let shown: Value = serde_json::from_slice(&done.stdout).unwrap_or_default();
            if wanted(&shown) {
                return shown;
            }
            assert!(Instant::now() < deadline, "{shown}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Connections from the other namespace, each with one request.
    fn load(&self, address: SocketAddr, count: u64) {
        let namespace = File::open(format!("/run/netns/{}", self.client)).expect("it is there");
        let client = std::thread::spawn(move || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).expect("root may");
            for _ in 0..count {
                let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5)).expect("it is served");
                stream.set_read_timeout(Some(Duration::from_secs(10))).expect("an option");
                stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").expect("it listens");
                let mut answer = Vec::new();
                stream.read_to_end(&mut answer).expect("it answers");
                assert!(answer.starts_with(b"HTTP/1.1 503"), "there is no configuration");
            }
        });
        client.join().expect("served");
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for namespace in [&self.server, &self.client] {
            let _ = Command::new("ip").args(["netns", "del", namespace]).status();
        }
        let _ = Command::new("umount").arg(self.folder.join("bpf")).status();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

struct Node {
    child: Child,
    address: SocketAddr,
}

impl Node {
    fn stop(mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it runs");
        assert!(self.child.wait().expect("it ends").success());
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn counts(shown: &Value) -> (u64, u64) {
    let sum = |key: &str| shown["shards"].as_array().into_iter().flatten().filter_map(|it| it[key].as_u64()).sum();
    (sum("accepted"), sum("here"))
}

#[test]
fn a_nodes_connections_are_accepted_on_the_shard_of_their_packets_cpu() {
    let Some(place) = Place::new("share") else { return };
    let attached = |shown: &Value| shown["report"]["mode"].is_string();
    let node = place.start("s0");
    let first = place.steer(attached);
    assert_eq!(first["report"]["pinned"], true, "{first}");
    place.load(node.address, CONNECTIONS);
    let shown = place.steer(|shown| counts(shown).0 >= CONNECTIONS);
    let (accepted, here) = counts(&shown);
    eprintln!("{here} of {accepted} on their shard, mode {}", shown["report"]["mode"]);
    assert!(here * 1000 >= accepted * 999, "{here} of {accepted}");
    // It stops and starts again; packets never lack a program, and the table is gone on with.
    node.stop();
    let again = place.start("s0");
    let shown = place.steer(|shown| attached(shown) && counts(shown).0 == 0);
    assert_eq!(shown["report"]["table"], first["report"]["table"]);
    place.load(again.address, 50);
    again.stop();
}

#[test]
fn without_its_interface_a_node_serves_all_the_same() {
    let Some(place) = Place::new("none") else { return };
    let node = place.start("nosuch0");
    let shown = place.steer(|shown| shown["report"]["problem"].is_string());
    let problem = shown["report"]["problem"].as_str().unwrap_or_default().to_owned();
    assert!(shown["report"]["mode"].is_null());
    place.load(node.address, 20);
    let shown =
        place.steer(|shown| shown["report"]["problem"].as_str().is_some_and(|it| it.contains("is no interface")));
    assert!(shown["report"]["mode"].is_null(), "{problem}");
    node.stop();
}
