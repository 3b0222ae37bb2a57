//! Show 5: three real nodes behind one VIP, each in a namespace of its own, on one layer 2. One leaves and one joins while connections are open and
//! requests run; none of a surviving node is reset.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use e2e::netns::{Namespace, Pins, veth};
use serde::Serialize;
use serde_json::{Value, json};
use steer::Wire;

use super::Context;
use super::bed::{HOST, NAME, PORT, ask, ask_once, await_steering, steer, whole_frames};
use crate::command::Promise;
use crate::process::Server;
use crate::stack::{Binaries, Options, Stack};

const VIP: [u8; 4] = [203, 0, 113, 9];
/// Connections that stay open through everything.
const CONNECTIONS: usize = 150;
const TIMEOUT: Duration = Duration::from_secs(5);
const STEP: Duration = Duration::from_secs(10);
/// The Worker: it says which node it is on.
const WORKER: &str = "export default { fetch(request) { return new Response(request.cf.colo); } };";

/// What came of it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Vip {
    /// Open connections by node, before.
    spread: BTreeMap<String, usize>,
    /// Requests on them.
    kept: u64,
    /// Of surviving nodes, those that were reset, closed, or answered by another node.
    reset: u64,
    /// Requests on connections of their own, all the while, and those that failed.
    strangers: u64,
    strangers_failed: u64,
    /// Answers of the node that joined.
    joined: u64,
}

impl Vip {
    pub(super) fn line(&self) -> String {
        format!(
            "three nodes behind one VIP, one joined and one left: {} requests on {} open connections ({:?}), {} of surviving nodes' connections lost; {} requests on their own, {} failed; {} of 60 answers from the node that joined",
            self.kept,
            self.spread.values().sum::<usize>(),
            self.spread,
            self.reset,
            self.strangers,
            self.strangers_failed,
            self.joined
        )
    }
}

/// A node in its namespace.
struct Node {
    server: Server,
    data: std::path::PathBuf,
    _wire: Wire,
    _namespace: Namespace,
    _pins: Pins,
}

pub(super) fn run(context: &Context) -> anyhow::Result<(Vec<Promise>, Vip)> {
    let (switch, client) = (Namespace::new("switch"), Namespace::new("client"));
    switch.run("ip link add br0 type bridge");
    switch.run("ip addr add 10.78.0.254/24 dev br0");
    switch.run("ip link set br0 up");
    veth(&client, "c0", &switch, "pc");
    switch.run("ip link set pc master br0");
    client.run("ip addr add 10.78.0.100/24 dev c0");
    for (namespace, interface) in [(&client, "c0"), (&switch, "pc")] {
        whole_frames(namespace, interface);
    }
    let _wire = switch.inside(|| Wire::new("pc"))?;
    let push = Some(SocketAddr::from(([10, 78, 0, 254], 0)));
    let stack = switch.inside(|| -> anyhow::Result<Stack> {
        let options =
            Options { shards: 1, push, node_arguments: vec!["--no-steering".to_owned()], ..Options::default() };
        let mut stack = Stack::start(&context.binaries, &options)?;
        stack.deploy(NAME, WORKER.as_bytes())?;
        Ok(stack)
    })?;
    let mut nodes = Vec::new();
    for number in 1..=3 {
        context.note(&format!("node {number} behind the VIP"));
        nodes.push(Node::start(&context.binaries, &stack, &switch, number)?);
    }
    // Nodes 1 and 2 at first; 3 joins, then 1 leaves.
    set(&switch, &stack, &nodes, &[1, 2])?;
    client.run("ip route replace 203.0.113.9/32 dev c0");
    // A router would spread packets over the nodes; here one node gets them all.
    let ingress = |node: u8| {
        let mac = format!("02:00:00:00:0a:{node:02x}");
        client.run(&format!("ip neigh replace 203.0.113.9 lladdr {mac} dev c0 nud permanent"));
    };
    ingress(2);
    let address = SocketAddr::from((VIP, PORT));
    let mut open =
        client.inside(|| (0..CONNECTIONS).map(|_| Open::new(address)).collect::<std::io::Result<Vec<_>>>())?;
    let mut found = Vip { spread: BTreeMap::new(), kept: 0, reset: 0, strangers: 0, strangers_failed: 0, joined: 0 };
    open.iter().for_each(|it| *found.spread.entry(it.node.clone()).or_default() += 1);
    let strangers = Strangers::start(&client, address);

    context.note("node 3 joins");
    let changed = during(&mut open, &mut found, || set(&switch, &stack, &nodes, &[1, 2, 3]));
    changed?;
    ingress(3);
    client.inside(|| found.check(&mut open, 20));
    found.joined =
        client.inside(|| (0..60).filter(|_| ask_once(address, TIMEOUT).is_ok_and(|node| node == "N3")).count()) as u64;
    context.note("node 1 leaves");
    during(&mut open, &mut found, || set(&switch, &stack, &nodes, &[2, 3]))?;
    client.inside(|| found.check(&mut open, 20));
    // Its own connections have had their time: it ends, and takes them along.
    open.retain(|it| it.node != "N1");
    nodes.remove(0).server.stop(Duration::from_secs(45))?;
    client.inside(|| found.check(&mut open, 20));
    (found.strangers, found.strangers_failed) = strangers.end();
    ensure!(open.len() > CONNECTIONS / 6, "node 2 had {} of {CONNECTIONS} connections", open.len());
    let promises = vec![
        Promise::at_most("connections of surviving nodes that were reset", Some(found.reset as f64), 0.0),
        Promise::at_most(
            "failed requests on connections of their own meanwhile",
            Some(found.strangers_failed as f64),
            0.0,
        ),
        Promise::at_least("answers of the node that joined, of 60", Some(found.joined as f64), 8.0),
    ];
    Ok((promises, found))
}

/// Changes the nodes while requests run on the open connections.
fn during(
    open: &mut [Open],
    found: &mut Vip,
    change: impl FnOnce() -> anyhow::Result<()> + Send,
) -> anyhow::Result<()> {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let changing = scope.spawn(|| {
            let changed = change();
            done.store(true, Ordering::Relaxed);
            changed
        });
        while !done.load(Ordering::Relaxed) {
            found.check(open, 1);
        }
        changing.join().unwrap_or_else(|_| Err(anyhow::anyhow!("the change panicked")))
    })
}

/// A connection through the VIP, and the node that has it.
struct Open {
    stream: TcpStream,
    node: String,
    lost: bool,
}

impl Open {
    fn new(address: SocketAddr) -> std::io::Result<Open> {
        let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        let node = ask(&mut stream)?;
        Ok(Open { stream, node, lost: false })
    }
}

impl Vip {
    /// A request on each open connection, so many times.
    fn check(&mut self, open: &mut [Open], times: usize) {
        for _ in 0..times {
            for connection in open.iter_mut().filter(|it| !it.lost) {
                self.kept += 1;
                match ask(&mut connection.stream) {
                    Ok(node) if node == connection.node => {}
                    other => {
                        eprintln!("a connection of {} was lost: {other:?}", connection.node);
                        connection.lost = true;
                        self.reset += 1;
                    }
                }
            }
        }
    }
}

/// Requests on connections of their own.
struct Strangers {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicU64>,
    failed: Arc<AtomicU64>,
    thread: std::thread::JoinHandle<()>,
}

impl Strangers {
    fn start(client: &Namespace, address: SocketAddr) -> Strangers {
        let (stop, asked, failed) = (Arc::new(AtomicBool::new(false)), Arc::default(), Arc::default());
        let (told, count, lost): (_, Arc<AtomicU64>, Arc<AtomicU64>) =
            (stop.clone(), Arc::clone(&asked), Arc::clone(&failed));
        let thread = client.within(move || {
            while !told.load(Ordering::Relaxed) {
                if let Err(error) = ask_once(address, TIMEOUT) {
                    eprintln!("a request on a connection of its own failed: {error}");
                    lost.fetch_add(1, Ordering::Relaxed);
                }
                count.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        Strangers { stop, asked, failed, thread }
    }

    fn end(self) -> (u64, u64) {
        self.stop.store(true, Ordering::Relaxed);
        // A panic there would have been of ours; what was counted counts.
        let _ = self.thread.join();
        (self.asked.load(Ordering::Relaxed), self.failed.load(Ordering::Relaxed))
    }
}

impl Node {
    fn start(binaries: &Binaries, stack: &Stack, switch: &Namespace, number: u8) -> anyhow::Result<Node> {
        let namespace = Namespace::new(&format!("node{number}"));
        let (port, pins) = (format!("p{number}"), Pins::new(&namespace.name));
        veth(&namespace, "n0", switch, &port);
        switch.run(&format!("ip link set {port} master br0"));
        namespace.run(&format!("ip link set n0 address 02:00:00:00:0a:{number:02x}"));
        namespace.run(&format!("ip addr add 10.78.0.{number}/24 dev n0"));
        namespace.run("ip addr add 203.0.113.9/32 dev lo");
        for (namespace, interface) in [(&namespace, "n0"), (switch, port.as_str())] {
            whole_frames(namespace, interface);
        }
        let wire = switch.inside(|| Wire::new(&port))?;
        let (push, identity) = stack.enroll(binaries, &format!("node-{number}"))?;
        let data = stack.dir().join(format!("node-{number}"));
        let mut command = Command::new(binaries.path("selvage-node")?);
        command.args(["serve", "--shards", "1", "--admin", "127.0.0.1:0", "--interface", "n0", "--data"]).arg(&data);
        command.args(["--listen", &SocketAddr::from((VIP, PORT)).to_string(), "--control", &push, "--identity"]);
        command.arg(&identity).arg("--bpffs").arg(&pins.0).args(["--cf", &format!("{{\"colo\":\"N{number}\"}}")]);
        let dir = stack.dir().to_path_buf();
        let server = namespace.inside(|| -> anyhow::Result<Server> {
            let mut server = Server::start(&format!("node-{number}"), command, &[], &dir)?;
            server.wait_ready(Duration::from_secs(30))?;
            Ok(server)
        })?;
        await_steering(binaries, data.clone())?;
        // It has the Worker when it has its configuration.
        let begin = std::time::Instant::now();
        let own = SocketAddr::from((VIP, PORT));
        while !namespace.inside(|| ask_once(own, TIMEOUT).is_ok()) {
            ensure!(begin.elapsed() < STEP, "node {number} does not serve {HOST}: {}", server.log_tail());
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(Node { server, data, _wire: wire, _namespace: namespace, _pins: pins })
    }
}

/// Names the VIP's nodes, and waits until every node's kernel has the table.
fn set(switch: &Namespace, stack: &Stack, nodes: &[Node], members: &[u8]) -> anyhow::Result<()> {
    let member = |node: &u8| json!({"name": format!("node-{node}"), "mac": format!("02:00:00:00:0a:{node:02x}")});
    let vip: Vec<Value> = members.iter().map(member).collect();
    let rules = json!({"vips": [{"address": "203.0.113.9", "port": PORT, "nodes": vip}]});
    switch.inside(|| stack.set_steering(&rules)).context("PUT /v1/steering")?;
    // The keeper hears of a configuration within a second, and writes 65,537 buckets.
    std::thread::sleep(Duration::from_millis(2_500));
    for node in nodes {
        let shown = steer(&Binaries::find()?, &node.data)?;
        ensure!(shown["report"]["vips"] == 1, "a node has no VIP: {shown}");
    }
    Ok(())
}
