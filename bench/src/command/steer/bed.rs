//! What the sections of `steer` stand on: namespaces, real nodes in them, and clients of real sockets.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use e2e::netns::{Namespace, Pins, run, veth};

use crate::load::{Mode, Plan, Scope, Target};
use crate::stack::{Binaries, Options, Stack};

/// Where every node of a bed listens.
pub(super) const PORT: u16 = 8080;
/// The Worker: it says which node it is on.
const WORKER: &str = "export default { fetch(request) { return new Response(request.cf.colo); } };";
pub(super) const NAME: &str = "steered";
pub(super) const HOST: &str = "steered.workers.localhost";

/// A server and a client on a veth pair, with a platform in the server's namespace.
pub(super) struct Bed {
    pub(super) stack: Stack,
    pub(super) address: SocketAddr,
    pub(super) server: Namespace,
    pub(super) client: Namespace,
    _pins: Pins,
}

impl Bed {
    /// `net` tells beds of one run apart.
    pub(super) fn new(binaries: &Binaries, steered: bool, net: u8) -> anyhow::Result<Bed> {
        let (server, client) = (Namespace::new("server"), Namespace::new("client"));
        veth(&server, "s0", &client, "c0");
        server.run(&format!("ip addr add 10.77.{net}.1/24 dev s0"));
        client.run(&format!("ip addr add 10.77.{net}.2/24 dev c0"));
        whole_frames(&client, "c0");
        let address = SocketAddr::from(([10, 77, net, 1], PORT));
        let (stack, pins) = node(binaries, &server, address, steered)?;
        Ok(Bed { stack, address, server, client, _pins: pins })
    }

    /// A plan for this bed's node; to be run in the client's namespace.
    pub(super) fn plan(&self, mode: Mode) -> anyhow::Result<Plan> {
        Ok(Plan::get(target(self.address)?, mode))
    }
}

/// A target in this thread's namespace.
pub(super) fn target(address: SocketAddr) -> anyhow::Result<Target> {
    Ok(Target::new(address, HOST, "/", Scope::OwnNamespace)?)
}

/// A platform whose node listens at `address` in `server`, at interface `s0`, serving the Worker.
pub(super) fn node(
    binaries: &Binaries,
    server: &Namespace,
    address: SocketAddr,
    steered: bool,
) -> anyhow::Result<(Stack, Pins)> {
    let pins = Pins::new(&server.name);
    let words = if steered {
        vec!["--interface".to_owned(), "s0".to_owned(), "--bpffs".to_owned(), pins.0.display().to_string()]
    } else {
        vec!["--no-steering".to_owned()]
    };
    let options = Options {
        shards: 2,
        listen: Some(address),
        node_arguments: [&words[..], &["--count-cpus".to_owned()]].concat(),
        ..Options::default()
    };
    let stack = server.inside(|| -> anyhow::Result<Stack> {
        let mut stack = Stack::start(binaries, &options)?;
        stack.deploy(NAME, WORKER.as_bytes())?;
        Ok(stack)
    })?;
    if steered {
        await_steering(binaries, stack.node_data())?;
    }
    Ok((stack, pins))
}

/// Waits until the node's programs are attached, and gives what `selvage-node steer --json` says.
pub(super) fn await_steering(binaries: &Binaries, data: PathBuf) -> anyhow::Result<serde_json::Value> {
    let begin = Instant::now();
    loop {
        let shown = steer(binaries, &data)?;
        if !shown["report"]["mode"].is_null() {
            return Ok(shown);
        }
        ensure!(begin.elapsed() < Duration::from_secs(15), "packets are not steered: {}", shown["report"]["problem"]);
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// What `selvage-node steer --json` says.
pub(super) fn steer(binaries: &Binaries, data: &PathBuf) -> anyhow::Result<serde_json::Value> {
    let mut command = std::process::Command::new(binaries.path("selvage-node")?);
    let out = command.args(["steer", "--json", "--data"]).arg(data).output()?;
    ensure!(out.status.success(), "selvage-node steer: {}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).context("selvage-node steer")
}

/// Has an end of a veth pair send checksums that are made, and receive frames that an XDP program at the other end sends back: as a network card
/// does.
pub(super) fn whole_frames(namespace: &Namespace, interface: &str) {
    run(&format!("ip netns exec {} ethtool -K {interface} tx off", namespace.name));
    run(&format!("ip netns exec {} ethtool -K {interface} gro on", namespace.name));
}

/// One request on a connection of its own: connect, ask, read to the end. Gives the body.
pub(super) fn ask_once(address: SocketAddr, timeout: Duration) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, timeout)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    stream.write_all(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    good(&text)
}

/// One request on a connection that is kept. Gives the body.
pub(super) fn ask(stream: &mut TcpStream) -> std::io::Result<String> {
    stream.write_all(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n").as_bytes())?;
    let (mut text, mut part) = (String::new(), [0; 4096]);
    loop {
        match stream.read(&mut part)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            bytes => text.push_str(&String::from_utf8_lossy(&part[..bytes])),
        }
        let whole = text.split_once("\r\n\r\n").is_some_and(|(head, body)| {
            let length = head
                .lines()
                .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
            length.is_some_and(|length: usize| body.len() >= length)
        });
        if whole {
            return good(&text);
        }
    }
}

fn good(text: &str) -> std::io::Result<String> {
    match text.strip_prefix("HTTP/1.1 200 ").and_then(|rest| rest.split_once("\r\n\r\n")) {
        Some((_, body)) => Ok(body.to_owned()),
        None => Err(std::io::Error::other(format!("answered {:?}", text.lines().next()))),
    }
}
