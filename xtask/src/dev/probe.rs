//! The first request: proof that the Worker answers over HTTP before anybody is told so.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::POLL_INTERVAL;
use super::signals::Signals;

/// More of an answer is not read; the head is within it.
const ANSWER_BYTES_MAX: u64 = 64 << 10;

/// Time for one request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Set by the node on a Worker's own answers, and on no other.
const MARK: &str = "x-deployment-version:";

/// Asks until a Worker answers for `host`, and gives the status of its answer.
pub(super) fn until_answered(node: SocketAddr, host: &str, timeout: Duration, signals: &Signals) -> Result<String> {
    let deadline = Instant::now() + timeout;
    let mut last = "nothing".to_owned();
    while Instant::now() < deadline && !signals.interrupted() {
        match ask(node, host) {
            Ok(head) => match worker_status(&head) {
                Some(status) => return Ok(status.to_owned()),
                None => head.lines().next().unwrap_or_default().clone_into(&mut last),
            },
            Err(error) => last = format!("{error:#}"),
        }
        thread::sleep(POLL_INTERVAL);
    }
    bail!("the Worker did not answer at http://{host}/ within {} s; the last was: {last}", timeout.as_secs());
}

fn ask(node: SocketAddr, host: &str) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&node, REQUEST_TIMEOUT).context("connecting to the node")?;
    stream.set_read_timeout(Some(REQUEST_TIMEOUT))?;
    stream.set_write_timeout(Some(REQUEST_TIMEOUT))?;
    write!(stream, "GET / HTTP/1.1\r\nHost: {host}\r\nUser-Agent: xtask\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).context("reading the answer")?;
    let text = String::from_utf8_lossy(&answer);
    let head = text.split_once("\r\n\r\n").map(|(head, _)| head.to_owned());
    head.with_context(|| format!("{} bytes without the end of a head", answer.len()))
}

/// The status of an answer, if the deployment gave it. The node's own answers of a deployment that is not there yet are 404 and
/// 503; a Worker that throws is a Worker that was reached.
fn worker_status(head: &str) -> Option<&str> {
    let mut lines = head.split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.1 ")?;
    let not_yet = status.starts_with("404") || status.starts_with("503");
    (!not_yet || lines.any(|it| it.to_ascii_lowercase().starts_with(MARK))).then_some(status)
}

#[cfg(test)]
mod tests {
    use super::worker_status;

    #[test]
    fn answers_of_the_deployment_count_and_those_of_the_node_do_not() {
        assert_eq!(worker_status("HTTP/1.1 200 OK\r\nX-Deployment-Version: v3"), Some("200 OK"));
        assert_eq!(worker_status("HTTP/1.1 404 Not Found\r\nX-Deployment-Version: v3"), Some("404 Not Found"));
        assert_eq!(worker_status("HTTP/1.1 500 Internal Server Error\r\nDate: x"), Some("500 Internal Server Error"));
        assert_eq!(worker_status("HTTP/1.1 404 Not Found\r\nContent-Length: 0"), None);
        assert_eq!(worker_status("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0"), None);
        assert_eq!(worker_status("x-deployment-version: v3"), None);
    }
}
