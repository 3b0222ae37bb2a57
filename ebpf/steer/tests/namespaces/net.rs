//! Sockets of the tests, and what they need.

pub(crate) use e2e::netns::{Namespace, Pins, pin, run, veth};
use rustix::net::sockopt::{set_socket_reuseaddr, set_socket_reuseport, socket_incoming_cpu};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

/// What a test needs; says loudly what is missing.
pub(crate) fn ready() -> bool {
    let lacks = e2e::netns::lacks().or(programs::STEER.is_err().then_some("this build has no eBPF programs"));
    if let Some(lacks) = lacks {
        skipped("network namespaces", lacks);
    }
    lacks.is_none()
}

/// Says it loudly, and where the whole run collects it.
pub(crate) fn skipped(what: &str, why: &str) {
    e2e::skipped(&format!("{what}: {why}"));
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
