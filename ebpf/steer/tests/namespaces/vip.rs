//! Three nodes behind one VIP, on one layer 2: nodes leave and join while connections are open, and none is reset.

use crate::net::*;
use plane_abi::steering::{Member, Protocol, Rules, Vip};
use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;
use steer::xdp::Clock;
use steer::{Config, Steering, Wire};

const VIP: &str = "203.0.113.9";
const CONNECTIONS: usize = 150;

fn mac(node: u8) -> [u8; 6] {
    [2, 0, 0, 0, 9, node]
}

fn rules(nodes: &[u8], before: &[&[u8]]) -> Rules {
    let members =
        |nodes: &[u8]| nodes.iter().map(|node| Member { mac: mac(*node), name: format!("node-{node}") }).collect();
    let vip = Vip {
        address: VIP.parse().expect("an address"),
        port: 8080,
        protocol: Protocol::Tcp,
        nodes: members(nodes),
        before: before.iter().map(|nodes| members(nodes)).collect(),
    };
    Rules { vips: vec![vip], ..Rules::default() }
}

fn wire(namespace: &Namespace, interface: &str) -> Wire {
    namespace.inside(|| Wire::new(interface)).expect("veth has XDP")
}

/// A node: its namespace, and the thread that holds its program and takes rules.
struct Node {
    namespace: Namespace,
    rules: Option<mpsc::Sender<Rules>>,
    applied: mpsc::Receiver<()>,
    thread: Option<JoinHandle<()>>,
    _wire: Option<Wire>,
}

impl Node {
    fn start(number: u8, switch: &Namespace, driver: bool) -> Node {
        let namespace = Namespace::new(&format!("node{number}"));
        let port = format!("p{number}");
        veth(&namespace, "n0", switch, &port);
        switch.run(&format!("ip link set {port} master br0"));
        let wire = driver.then(|| wire(switch, &port));
        namespace.run(&format!("ip link set n0 address 02:00:00:00:09:{number:02x}"));
        namespace.run(&format!("ip addr add 10.78.0.{number}/24 dev n0"));
        namespace.run(&format!("ip addr add {VIP}/32 dev lo"));
        let (rules, told) = mpsc::channel::<Rules>();
        let (tell, applied) = mpsc::channel();
        let thread = namespace.within(move || {
            let config =
                Config { interface: "n0".to_owned(), ports: vec![], cpus: vec![], pin: None, driver, mac: None };
            let listener = listener(SocketAddr::new(VIP.parse().expect("an address"), 8080));
            std::thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    std::thread::spawn(move || serve(stream, number));
                }
            });
            let mut steering = Steering::start(config, &Rules::default(), 1, Clock::now()).expect("root may");
            for rules in told {
                steering.apply(&rules, 42, Clock::now()).expect("valid");
                tell.send(()).expect("the test waits");
            }
        });
        Node { namespace, rules: Some(rules), applied, thread: Some(thread), _wire: wire }
    }

    fn apply(&self, rules: &Rules) {
        self.rules.as_ref().expect("it runs").send(rules.clone()).expect("it runs");
        self.applied.recv_timeout(Duration::from_secs(20)).expect("applied");
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        drop(self.rules.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[test]
fn nodes_leave_and_join_and_no_connection_is_reset() {
    if ready() {
        leave_and_join(false);
    }
}

#[test]
fn nodes_leave_and_join_with_the_program_in_the_driver() {
    if ready() {
        leave_and_join(true);
    }
}

fn leave_and_join(driver: bool) {
    let (switch, client) = (Namespace::new("switch"), Namespace::new("client"));
    switch.run("ip link add br0 type bridge");
    switch.run("ip link set br0 up");
    veth(&client, "c0", &switch, "pc");
    switch.run("ip link set pc master br0");
    client.run("ip addr add 10.78.0.100/24 dev c0");
    let _wire = driver.then(|| wire(&switch, "pc"));
    if driver {
        // As a network card does; see [`crate::share`].
        client.run("ethtool -K c0 tx off");
    }
    let nodes: Vec<Node> = (1..=3).map(|number| Node::start(number, &switch, driver)).collect();
    // A router would spread packets over the nodes; here one node gets them all, a different one each phase.
    let ingress = |node: u8| {
        client.run(&format!("ip route replace {VIP}/32 dev c0"));
        client.run(&format!("ip neigh replace {VIP} lladdr 02:00:00:00:09:{node:02x} dev c0 nud permanent"));
    };
    let everywhere = |rules: &Rules| nodes.iter().for_each(|node| node.apply(rules));
    everywhere(&rules(&[1, 2, 3], &[]));
    ingress(1);
    let address = SocketAddr::new(VIP.parse().expect("an address"), 8080);
    let connect = move || {
        let connections = (0..CONNECTIONS).map(|_| {
            let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(3)).expect("it is served");
            stream.set_read_timeout(Some(Duration::from_secs(5))).expect("an option");
            let node = ask(&mut stream).expect("answered");
            (stream, node)
        });
        connections.collect::<Vec<_>>()
    };
    // Each connection is answered by the node that has it, or the phase's name says where it broke.
    let check = |connections: &mut Vec<(TcpStream, u8)>, phase: &str| {
        for (stream, node) in connections.iter_mut() {
            assert_eq!(ask(stream).unwrap_or_else(|error| panic!("{phase}, node {node}: {error}")), *node, "{phase}");
        }
    };
    let shares = |connections: &[(TcpStream, u8)]| {
        let mut shares: BTreeMap<u8, usize> = BTreeMap::new();
        connections.iter().for_each(|(_, node)| *shares.entry(*node).or_default() += 1);
        shares
    };
    let mut first = client.within(connect).join().expect("connected");
    let spread = shares(&first);
    assert!(spread.len() == 3 && spread.values().all(|share| *share > CONNECTIONS / 6), "{spread:?}");
    ingress(2);
    check(&mut first, "another node gets the packets");

    everywhere(&rules(&[1, 2], &[&[1, 2, 3]]));
    check(&mut first, "node 3 leaves");
    let mut second = client.within(connect).join().expect("connected");
    assert!(!shares(&second).contains_key(&3), "nothing new goes to who leaves");
    ingress(1);
    check(&mut first, "node 3 has left, another node gets the packets");

    // Now it is gone for good: what it had is lost, the rest is not.
    first.retain(|(_, node)| *node != 3);
    nodes[2].namespace.run("ip link set n0 down");
    check(&mut first, "node 3 is down");
    check(&mut second, "node 3 is down");
    nodes[2].namespace.run("ip link set n0 up");

    everywhere(&rules(&[1, 2, 3], &[&[1, 2]]));
    check(&mut first, "node 3 joins");
    check(&mut second, "node 3 joins");
    ingress(3);
    check(&mut first, "the joiner gets the packets");
    check(&mut second, "the joiner gets the packets");
    let mut third = client.within(connect).join().expect("connected");
    assert!(shares(&third).contains_key(&3), "and gets what is new: {:?}", shares(&third));
    check(&mut third, "after all");
}
