//! Rules for packets from an operator's command to the kernel, and nodes whose interface, privileges or kernel do not allow steering: they
//! serve. In network namespaces made here; needs root.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use e2e::netns::{Namespace, Pins, lacks, run, veth};
use e2e::platform::{Platform, STOP_TIMEOUT, Setup};
use e2e::process::Process;
use e2e::{binary, eventually, skipped};
use serde_json::{Value, json};

const WORKER: &str = "export default { fetch() { return new Response('served'); } };";
const PATIENCE: Duration = Duration::from_secs(20);
/// For a packet that is dropped, or one more try of TCP's.
const SHORT: Duration = Duration::from_millis(700);

fn ready() -> bool {
    let lacks = lacks();
    if let Some(lacks) = lacks {
        skipped(&format!("steering of whole nodes: {lacks}"));
    }
    lacks.is_none()
}

/// What `selvage-node steer --json` says of a node.
fn steer(data: &Path) -> Option<Value> {
    let mut command = Command::new(binary("selvage-node"));
    let out = command.args(["steer", "--json", "--data"]).arg(data).output().expect("it runs");
    serde_json::from_slice(&out.stdout).ok()
}

/// A request on a connection of its own, answered with a status; none in time is an error.
fn status(address: SocketAddr, host: &str, patience: Duration) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, patience)?;
    stream.set_read_timeout(Some(patience))?;
    stream.write_all(format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text.split(' ').nth(1).unwrap_or_default().to_owned())
}

#[test]
fn rules_come_from_the_operator_to_the_kernel() {
    if !ready() {
        return;
    }
    let (server, client, pins) = (Namespace::new("server"), Namespace::new("client"), Pins::new("rules"));
    veth(&server, "s0", &client, "c0");
    server.run("ip addr add 10.77.9.1/24 dev s0");
    // In the driver, frames must bring their checksums, which a veth pair alone leaves out.
    client.run("ethtool -K c0 tx off");
    for address in ["10.77.9.2/24", "10.77.9.66/24"] {
        client.run(&format!("ip addr add {address} dev c0"));
    }
    let bpffs: &'static str = Box::leak(pins.0.display().to_string().into_boxed_str());
    let arguments = Box::leak(Box::new(["--interface", "s0", "--bpffs", bpffs]));
    let listen = Some(SocketAddr::from(([10, 77, 9, 1], 8080)));
    server.inside(|| {
        let platform = Platform::with(Setup { shards: 2, listen, node_arguments: arguments, ..Setup::default() });
        let deployed = platform.deploy("ruled", WORKER);
        let data = platform.node_data();
        eventually("packets are steered", PATIENCE, || steer(&data).filter(|shown| !shown["report"]["mode"].is_null()));
        let address = platform.http;
        let ask = |from: &str| {
            client.run(&format!("ip route replace {}/32 dev c0 src {from}", address.ip()));
            client.inside(|| status(address, &deployed.host, SHORT))
        };
        assert_eq!(ask("10.77.9.66").expect("nothing is denied"), "200");
        let rules = platform.folder().join("rules.json");
        let deny = json!({"deny": [{"prefix": "10.77.9.64/26", "reason": 3}]});
        std::fs::write(&rules, deny.to_string()).expect("written");
        let rules = rules.to_str().expect("text");
        let set = platform.cli(&["steering", "set", rules]);
        assert_eq!(set.code, 0, "{set:?}");
        eventually("the kernel has the rule", PATIENCE, || steer(&data).filter(|shown| shown["report"]["denied"] == 1));
        assert!(ask("10.77.9.66").is_err(), "its packets are dropped");
        assert_eq!(ask("10.77.9.2").expect("others are served"), "200");
        let dropped = |shown: &Value| {
            let cpus = shown["report"]["cpus"].as_array().cloned().unwrap_or_default();
            let packets = cpus.iter().flat_map(|cpu| cpu["packets"].as_array().cloned().unwrap_or_default());
            packets.filter(|it| it[0] == "denied").filter_map(|it| it[1].as_u64()).sum::<u64>()
        };
        eventually("the drops are counted", PATIENCE, || steer(&data).filter(|shown| dropped(shown) > 0));
        // What is wrong anywhere is refused whole.
        let bad = json!({"deny": [{"prefix": "10.77.9.2/24"}]});
        std::fs::write(rules, bad.to_string()).expect("written");
        assert!(platform.cli(&["steering", "set", rules]).code != 0);
        let in_force = platform.cli(&["steering", "show"]).stdout;
        assert!(in_force.contains("10.77.9.64/26"), "{in_force}");
        assert!(ask("10.77.9.66").is_err(), "the rules before go on");
        std::fs::write(rules, "{}").expect("written");
        assert_eq!(platform.cli(&["steering", "set", rules]).code, 0);
        eventually("the rule is gone", PATIENCE, || ask("10.77.9.66").ok());
    });
}

/// A node without control plane: it serves, and says 503 for want of a configuration.
fn lone_node(mut command: Command, folder: &Path, arguments: &[&str]) -> (Process, SocketAddr) {
    command.arg(binary("selvage-node")).args(["serve", "--admin", "127.0.0.1:0", "--shards", "2", "--data"]);
    command.arg(folder.join("node")).args(arguments);
    let mut process = Process::start("selvage-node", command, &folder.join("node.log"));
    let [http] = process.ready(["http"]);
    (process, http)
}

fn serves(address: SocketAddr) {
    assert_eq!(status(address, "nobody.workers.localhost", PATIENCE).expect("it answers"), "503");
}

fn problem(data: &Path, expect: &[&str]) {
    let said = eventually("the keeper says why", PATIENCE, || {
        let shown = steer(data)?;
        let problem = shown["report"]["problem"].as_str()?.to_owned();
        (problem != "not attached yet").then_some(problem)
    });
    assert!(expect.iter().any(|expect| said.contains(expect)), "{said}");
}

#[test]
fn an_interface_that_vanishes_and_comes_back() {
    if !ready() {
        return;
    }
    let (server, client, pins) = (Namespace::new("server"), Namespace::new("client"), Pins::new("vanishes"));
    veth(&server, "s0", &client, "c0");
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("node");
    let bpffs = pins.0.display().to_string();
    server.inside(|| {
        let arguments = ["--listen", "127.0.0.1:0", "--interface", "s0", "--bpffs", &bpffs];
        let (mut node, http) = lone_node(Command::new("env"), folder.path(), &arguments);
        let attached = || steer(&data).filter(|shown| !shown["report"]["mode"].is_null());
        eventually("packets are steered", PATIENCE, attached);
        run(&format!("ip -n {} link del s0", server.name));
        eventually("the keeper notices", PATIENCE, || attached().is_none().then_some(()));
        problem(&data, &["is no interface"]);
        serves(http);
        veth(&server, "s0", &client, "c0");
        eventually("packets are steered again", PATIENCE, attached);
        serves(http);
        assert!(node.stop(STOP_TIMEOUT).success());
    });
}

#[test]
fn a_node_without_privileges_serves_and_says_so() {
    if !ready() {
        return;
    }
    let server = Namespace::new("server");
    let folder = tempfile::tempdir().expect("a folder");
    server.inside(|| {
        let mut command = Command::new("setpriv");
        command.args(["--bounding-set=-all", "--inh-caps=-all"]);
        let (mut node, http) = lone_node(command, folder.path(), &["--listen", "127.0.0.1:0", "--interface", "lo"]);
        serves(http);
        problem(&folder.path().join("node"), &["CAP_BPF and CAP_NET_ADMIN are needed"]);
        assert!(node.stop(STOP_TIMEOUT).success());
    });
}

#[test]
fn a_node_on_a_kernel_without_btf_serves() {
    if !ready() {
        return;
    }
    let (server, client, pins) = (Namespace::new("server"), Namespace::new("client"), Pins::new("btf"));
    veth(&server, "s0", &client, "c0");
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("node");
    server.inside(|| {
        let mut command = Command::new("unshare");
        // Its own view of /sys, in which the kernel's types are not to be found.
        command.args(["--mount", "sh", "-c", "mount -t tmpfs none /sys/kernel/btf && exec \"$@\"", "sh"]);
        let bpffs = pins.0.display().to_string();
        let arguments = ["--listen", "127.0.0.1:0", "--interface", "s0", "--bpffs", &bpffs];
        let (mut node, http) = lone_node(command, folder.path(), &arguments);
        serves(http);
        // The programs need none of the kernel's types: they are attached all the same.
        eventually("packets are steered", PATIENCE, || steer(&data).filter(|shown| !shown["report"]["mode"].is_null()));
        serves(http);
        assert!(node.stop(STOP_TIMEOUT).success());
    });
}
