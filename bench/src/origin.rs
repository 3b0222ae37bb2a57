//! An origin for Workers that fetch: one text to whoever asks, on loopback, with kept-alive connections.
//!
//! *Threads:* one that accepts and one for each connection, at most [`CONNECTIONS_MAX`]; the process's end ends them.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;

/// What it answers.
pub(crate) const BODY: &str = "from the origin\n";
const CONNECTIONS_MAX: usize = 256;
/// A connection without a request for so long is closed; longer than a node keeps one.
const IDLE: Duration = Duration::from_secs(300);

/// Starts it; it answers until the process ends.
pub(crate) fn start() -> anyhow::Result<SocketAddr> {
    start_with(serve)
}

/// Starts one that sends as many bytes as the query `?bytes=` asks for.
pub(crate) fn start_source() -> anyhow::Result<SocketAddr> {
    start_with(serve_bytes)
}

fn start_with(serve: fn(&TcpStream) -> std::io::Result<()>) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").context("the origin's listener")?;
    let address = listener.local_addr()?;
    let open = Arc::new(());
    std::thread::Builder::new().name("origin".to_owned()).spawn(move || {
        for stream in listener.incoming().filter_map(Result::ok) {
            if Arc::strong_count(&open) > CONNECTIONS_MAX {
                continue;
            }
            let open = open.clone();
            std::thread::spawn(move || {
                // A client that leaves ends its connection, and nothing else.
                let _ = serve(&stream);
                drop(open);
            });
        }
    })?;
    Ok(address)
}

/// Answers each head; requests have no bodies here.
fn serve(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(IDLE))?;
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{BODY}", BODY.len());
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        if line == "\r\n" {
            (&mut &*stream).write_all(answer.as_bytes())?;
        }
    }
}

/// Byte at a place of what [`start_source`] sends.
pub(crate) fn byte_at(place: u64) -> u8 {
    (place % PORTION as u64 % 251) as u8
}

/// Bytes that one call sends.
const PORTION: usize = 1 << 20;

fn serve_bytes(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(IDLE))?;
    let portion: Vec<u8> = (0..PORTION as u64).map(byte_at).collect();
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    let mut bytes = 0;
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        if let Some((_, asked)) = line.split_once("bytes=") {
            bytes =
                asked.split(|letter: char| !letter.is_ascii_digit()).next().and_then(|it| it.parse().ok()).unwrap_or(0);
        }
        if line == "\r\n" {
            let head =
                format!("HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: {bytes}\r\n\r\n");
            (&mut &*stream).write_all(head.as_bytes())?;
            let mut left: usize = bytes;
            while left > 0 {
                let len = left.min(PORTION);
                (&mut &*stream).write_all(&portion[..len])?;
                left -= len;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Client;
    use crate::process::loopback;

    #[test]
    fn answers_again_on_one_connection() -> anyhow::Result<()> {
        let address = start()?;
        let target = loopback(address.port(), &address.to_string(), "/")?;
        let mut client = Client::new(target, Duration::from_secs(5));
        for _ in 0..3 {
            assert_eq!(client.get()?.body, BODY.as_bytes());
        }
        Ok(())
    }
}
