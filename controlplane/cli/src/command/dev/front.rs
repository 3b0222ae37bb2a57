//! The listener that `dev` puts before its node, so that a browser sees what is wrong instead of what was there before.
//!
//! Passes requests on as they are, one a connection, bodies and WebSockets included. While the project does not build or deploy, requests that
//! accept HTML get a page with the error, its place and excerpt; others get what was deployed last. Where the node answers for a Worker that threw, the page or
//! text has the exception with the author's files and lines, taken from the log. Pages reload themselves when something new is deployed. Only here: a node
//! shows no client such things. Bounds: [`CONNECTIONS_MAX`] threads, [`HEAD_BYTES_MAX`] a head; an exception is waited for at most [`LOG_WAIT`].

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

const CONNECTIONS_MAX: usize = 256;
/// A head that is longer is passed on unread; the node refuses it.
const HEAD_BYTES_MAX: usize = 128 * 1024;
/// Until a head is there.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
/// From the node's answer to the record of its exception.
const LOG_WAIT: Duration = Duration::from_millis(1500);
/// Exceptions that are kept for their answers.
const EXCEPTIONS_MAX: usize = 32;
/// The node's text for a failure, bytes.
const OWN_WORDS_MAX: u64 = 128;
/// Where pages ask whether there is something new.
const TURN_PATH: &str = "/__selvage_dev/turn";

/// What is wrong, for a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) title: String,
    pub(super) text: String,
    pub(super) hint: Option<String>,
}

/// What connections are told.
#[derive(Default)]
struct State {
    node: Option<SocketAddr>,
    /// Goes up with every deployment and every failure to make one.
    turn: u64,
    broken: Option<Fault>,
    exceptions: VecDeque<(Instant, Fault)>,
}

/// The front.
#[derive(Clone)]
pub(super) struct Front {
    state: Arc<(Mutex<State>, Condvar)>,
}

impl Front {
    /// Begins to accept; connections are answered once [`Front::deployed`] or [`Front::failed`] was called.
    pub(super) fn start(listener: TcpListener, node: SocketAddr) -> Front {
        let state = State { node: Some(node), ..State::default() };
        let front = Front { state: Arc::new((Mutex::new(state), Condvar::new())) };
        let accepting = front.clone();
        let open = Arc::new(AtomicUsize::new(0));
        // Ends with the process.
        std::thread::spawn(move || {
            for client in listener.incoming().filter_map(Result::ok) {
                if open.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS_MAX {
                    open.fetch_sub(1, Ordering::Relaxed);
                    continue;
                }
                let (front, open) = (accepting.clone(), Arc::clone(&open));
                std::thread::spawn(move || {
                    // A client or node that goes away has nobody to be told.
                    let _ = front.serve(client);
                    open.fetch_sub(1, Ordering::Relaxed);
                });
            }
        });
        front
    }

    /// A version serves.
    pub(super) fn deployed(&self) {
        let mut state = self.lock();
        state.turn += 1;
        state.broken = None;
        state.exceptions.clear();
    }

    /// The project could not be deployed.
    pub(super) fn failed(&self, fault: Fault) {
        let mut state = self.lock();
        state.turn += 1;
        state.broken = Some(fault);
    }

    /// The log has an exception.
    pub(super) fn threw(&self, fault: Fault) {
        let mut state = self.lock();
        if state.exceptions.len() == EXCEPTIONS_MAX {
            state.exceptions.pop_front();
        }
        state.exceptions.push_back((Instant::now(), fault));
        self.state.1.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, mut client: TcpStream) -> std::io::Result<()> {
        client.set_read_timeout(Some(HEAD_TIMEOUT))?;
        client.set_nodelay(true)?;
        let Some((head, rest)) = read_head(&mut client)? else { return Ok(()) };
        client.set_read_timeout(None)?;
        let request = Request::of(&head);
        let (node, turn, broken) = {
            let state = self.lock();
            (state.node, state.turn, state.broken.clone())
        };
        if request.path == TURN_PATH {
            return respond(&mut client, "200 OK", "text/plain", &turn.to_string());
        }
        if let Some(fault) = broken.filter(|_| request.html) {
            return respond(&mut client, "500 Internal Server Error", "text/html; charset=utf-8", &page(&fault, turn));
        }
        let Some(node) = node else { return Ok(()) };
        let begun = Instant::now();
        let mut node = TcpStream::connect_timeout(&node, Duration::from_secs(5))?;
        node.set_nodelay(true)?;
        node.write_all(&request.passed_on)?;
        node.write_all(&rest)?;
        let (mut from, mut to) = (client.try_clone()?, node.try_clone()?);
        let upload = std::thread::spawn(move || {
            // An end of either side shows in the other direction too.
            let _ = std::io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Write);
        });
        let answered = self.answer(&mut client, &mut node, &request, begun);
        let _ = client.shutdown(Shutdown::Both);
        let _ = node.shutdown(Shutdown::Both);
        let _ = upload.join();
        answered
    }

    /// The node's answer, or what explains it.
    fn answer(
        &self,
        client: &mut TcpStream,
        node: &mut TcpStream,
        request: &Request,
        begun: Instant,
    ) -> std::io::Result<()> {
        if let Some((head, mut body)) = read_head(node)? {
            // The node's own words are short, and say how short.
            let length = header(&head, "content-length").and_then(|length| length.parse::<u64>().ok());
            if head.starts_with(b"HTTP/1.1 500 ") && length.is_some_and(|it| it <= OWN_WORDS_MAX) && !request.head {
                let left = length.unwrap_or(0).saturating_sub(body.len() as u64);
                node.take(left).read_to_end(&mut body)?;
                if body.starts_with(b"500: the Worker ")
                    && let Some(fault) = self.exception_since(begun)
                {
                    let turn = self.lock().turn;
                    return match request.html {
                        true => respond(
                            client,
                            "500 Internal Server Error",
                            "text/html; charset=utf-8",
                            &page(&fault, turn),
                        ),
                        false => respond(
                            client,
                            "500 Internal Server Error",
                            "text/plain; charset=utf-8",
                            &format!("{}\n", fault.title_and_text()),
                        ),
                    };
                }
            }
            client.write_all(&head)?;
            client.write_all(&body)?;
        }
        std::io::copy(node, client)?;
        Ok(())
    }

    fn exception_since(&self, begun: Instant) -> Option<Fault> {
        let deadline = Instant::now() + LOG_WAIT;
        let mut state = self.lock();
        loop {
            if let Some((_, fault)) = state.exceptions.iter().rev().find(|(at, _)| *at >= begun) {
                return Some(fault.clone());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            state = self.state.1.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Fault {
    fn title_and_text(&self) -> String {
        let hint = self.hint.as_ref().map(|hint| format!("\n\n{hint}")).unwrap_or_default();
        format!("{}\n\n{}{hint}", self.title, self.text)
    }
}

/// What of a request's head matters here.
struct Request {
    path: String,
    /// `HEAD`: an answer without a body.
    head: bool,
    /// A browser shows the answer.
    html: bool,
    /// The head for the node: of a connection with one request.
    passed_on: Vec<u8>,
}

impl Request {
    fn of(head: &[u8]) -> Request {
        let text = String::from_utf8_lossy(head);
        let mut words = text.lines().next().unwrap_or_default().split(' ');
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let upgrade = has_header(head, "upgrade");
        let accepts = header(head, "accept").unwrap_or_default().to_ascii_lowercase();
        let mut passed_on = Vec::with_capacity(head.len() + 24);
        for (number, line) in head.split_inclusive(|byte| *byte == b'\n').enumerate() {
            let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
            let end = line == b"\r\n" || line == b"\n";
            if end && !upgrade {
                passed_on.extend_from_slice(b"Connection: close\r\n");
            }
            if upgrade || number == 0 || !name.eq_ignore_ascii_case(b"connection") {
                passed_on.extend_from_slice(line);
            }
        }
        Request {
            path: path.to_owned(),
            head: method == "HEAD",
            html: accepts.contains("text/html") && !upgrade,
            passed_on,
        }
    }
}

fn header(head: &[u8], name: &str) -> Option<String> {
    head.split(|byte| *byte == b'\n').skip(1).find_map(|line| {
        let at = line.iter().position(|byte| *byte == b':')?;
        let value = String::from_utf8_lossy(&line[at + 1..]).trim().to_owned();
        line[..at].eq_ignore_ascii_case(name.as_bytes()).then_some(value)
    })
}

fn has_header(head: &[u8], name: &str) -> bool {
    header(head, name).is_some()
}

/// A head with its empty line, and what came behind it. None if the peer sent nothing; without an empty line all is "behind".
fn read_head(stream: &mut TcpStream) -> std::io::Result<Option<(Vec<u8>, Vec<u8>)>> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 16 * 1024];
    loop {
        let count = stream.read(&mut chunk)?;
        // The empty line may lie across two reads.
        let from = bytes.len().saturating_sub(3);
        bytes.extend_from_slice(&chunk[..count]);
        if let Some(at) = bytes[from..].windows(4).position(|window| window == b"\r\n\r\n") {
            let rest = bytes.split_off(from + at + 4);
            return Ok(Some((bytes, rest)));
        }
        if count == 0 || bytes.len() > HEAD_BYTES_MAX {
            return Ok(if bytes.is_empty() { None } else { Some((Vec::new(), bytes)) });
        }
    }
}

fn respond(client: &mut TcpStream, status: &str, kind: &str, body: &str) -> std::io::Result<()> {
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n",
        body.len()
    );
    client.write_all(head.as_bytes())?;
    client.write_all(body.as_bytes())
}

fn page(fault: &Fault, turn: u64) -> String {
    let hint = fault.hint.as_ref().map(|hint| format!("<p>{}</p>", escape(hint))).unwrap_or_default();
    format!(
        "<!doctype html><meta charset=utf-8><title>{title}</title>\
         <style>body{{margin:3rem auto;max-width:60rem;padding:0 1rem;font:16px/1.5 system-ui,sans-serif;color:#222;background:#fafafa}}\
         h1{{font-size:1.25rem;color:#b00020;overflow-wrap:anywhere}}pre{{padding:1rem;overflow:auto;background:#fff;border:1px solid #ddd}}\
         p{{color:#555}}small{{color:#888}}\
         @media(prefers-color-scheme:dark){{body{{color:#ddd;background:#181818}}pre{{background:#222;border-color:#444}}h1{{color:#ff6b6b}}p{{color:#aaa}}}}</style>\
         <h1>{title}</h1><pre>{text}</pre>{hint}<small>selvage dev shows this; a deployed Worker does not. The page reloads when you save.</small>\
         <script>setInterval(async()=>{{try{{const r=await fetch(\"{TURN_PATH}\");if(r.ok&&await r.text()!==\"{turn}\")location.reload()}}catch{{}}}},500)</script>\n",
        title = escape(&fault.title),
        text = escape(&fault.text),
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_passed_on_for_one_request() {
        let check = |head: &str, expect: &str, html: bool| {
            let request = Request::of(head.as_bytes());
            assert_eq!(String::from_utf8_lossy(&request.passed_on), expect);
            assert_eq!(request.html, html);
        };
        check(
            "GET /a HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\nAccept: text/HTML,*/*\r\n\r\n",
            "GET /a HTTP/1.1\r\nHost: x\r\nAccept: text/HTML,*/*\r\nConnection: close\r\n\r\n",
            true,
        );
        let upgrade = "GET /ws HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
        check(upgrade, upgrade, false);
        assert!(Request::of(b"HEAD / HTTP/1.1\r\n\r\n").head);
    }

    fn ask(front: SocketAddr, head: &str) -> String {
        let mut client = TcpStream::connect(front).expect("it listens");
        client.write_all(head.as_bytes()).expect("sent");
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).expect("an answer");
        String::from_utf8(answer).expect("text")
    }

    fn front(node: SocketAddr) -> (Front, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        (Front::start(listener, node), address)
    }

    /// A node that answers every request alike.
    fn node(answer: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        std::thread::spawn(move || {
            for mut stream in listener.incoming().filter_map(Result::ok) {
                let _ = read_head(&mut stream);
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        address
    }

    #[test]
    fn browsers_see_what_is_broken_and_others_what_was_there() {
        let node = node("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
        let (browsed, address) = front(node);
        browsed.deployed();
        let (html, plain) = ("GET / HTTP/1.1\r\nAccept: text/html\r\n\r\n", "GET / HTTP/1.1\r\n\r\n");
        assert!(ask(address, html).ends_with("\r\n\r\nok"));
        browsed.failed(Fault { title: "src/a.ts:1:2: <bad>".into(), text: "1 │ x".into(), hint: None });
        let page = ask(address, html);
        assert!(page.starts_with("HTTP/1.1 500 ") && page.contains("src/a.ts:1:2: &lt;bad&gt;"), "{page}");
        assert!(ask(address, plain).ends_with("\r\n\r\nok"));
        assert!(ask(address, "GET /__selvage_dev/turn HTTP/1.1\r\n\r\n").ends_with("\r\n\r\n2"));
        browsed.deployed();
        assert!(ask(address, html).ends_with("\r\n\r\nok"));
    }

    #[test]
    fn exceptions_are_shown_with_their_stack_and_a_workers_own_500_is_its_own() {
        let node_500 =
            "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 34\r\n\r\n500: the Worker threw an exception";
        let (front_500, address) = front(node(node_500));
        front_500.threw(Fault { title: "of before".into(), text: String::new(), hint: None });
        let late = front_500.clone();
        let thread = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            late.threw(Fault { title: "TypeError: x".into(), text: "at src/a.ts:1:2".into(), hint: None });
        });
        let answer = ask(address, "GET / HTTP/1.1\r\n\r\n");
        assert!(answer.ends_with("\r\n\r\nTypeError: x\n\nat src/a.ts:1:2\n"), "{answer}");
        thread.join().expect("it ends");
        let own =
            "HTTP/1.1 500 Oops\r\nX-Deployment-Version: v1\r\nConnection: close\r\n\r\n500: the Worker says so itself";
        let (_front, address) = front(node(own));
        assert!(ask(address, "GET / HTTP/1.1\r\n\r\n").ends_with("500: the Worker says so itself"));
    }
}
