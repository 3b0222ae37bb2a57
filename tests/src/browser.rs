//! A browser, where one is installed: Chromium without a window, driven over its DevTools protocol.
//!
//! `$SELVAGE_BROWSER`, else the first of Chromium's names on `PATH`. It has a profile of its own in the test's folder, resolves nothing but loopback,
//! and is gone, with all its processes, when its value is dropped. Every wait has a deadline.

use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::{Pid, Signal, geteuid, kill_process_group};
use serde_json::{Value, json};
use tungstenite::{Message, WebSocket};

use crate::process::Process;
use crate::{eventually, skipped};

/// Start of a browser, and an answer of its, on a machine that does much else.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Names that Chromium and its kin are installed under.
const NAMES: [&str; 5] =
    ["chromium", "chromium-headless-shell", "chromium-browser", "google-chrome", "google-chrome-stable"];

/// A running browser with one page.
pub struct Browser {
    socket: WebSocket<TcpStream>,
    /// Of the page.
    session: String,
    next_id: u64,
    /// Exceptions that the page's scripts did not catch, and what the browser logged as errors.
    faults: Vec<String>,
    process: Process,
}

impl Browser {
    /// Starts one with its data in `folder`; none, loudly, if none is installed.
    pub fn start(what: &str, folder: &Path) -> Option<Browser> {
        let Some(program) = installed() else {
            skipped(&format!(
                "{what}: no browser; `apt-get install chromium` or `chromium-headless-shell` gives one, SELVAGE_BROWSER names one"
            ));
            return None;
        };
        let profile = folder.join("browser");
        let mut command = Command::new(program);
        command.args(["--headless", "--remote-debugging-port=0", "--no-first-run", "--no-default-browser-check"]);
        command.args(["--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"]);
        command.args(["--disable-component-update", "--disable-sync", "--no-proxy-server"]);
        command.arg("--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE *.localhost , EXCLUDE 127.0.0.1");
        if geteuid().is_root() {
            // Its sandbox cannot be made by root. The pages are this test's own.
            command.arg("--no-sandbox");
        }
        command.arg(format!("--user-data-dir={}", profile.display())).arg("about:blank").process_group(0);
        let process = Process::start("browser", command, &folder.join("browser.log"));
        let (port, path) = eventually("the browser listens", TIMEOUT, || {
            let text = std::fs::read_to_string(profile.join("DevToolsActivePort")).ok()?;
            let (port, path) = text.trim().split_once('\n')?;
            Some((port.parse::<u16>().ok()?, path.to_owned()))
        });
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("the browser listens on loopback");
        stream.set_read_timeout(Some(TIMEOUT)).expect("a time above zero");
        let (socket, _) =
            tungstenite::client(format!("ws://127.0.0.1:{port}{path}"), stream).expect("a DevTools socket");
        let mut browser = Browser { socket, session: String::new(), next_id: 0, faults: Vec::new(), process };
        let target = browser.call("Target.createTarget", json!({"url": "about:blank"}));
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let session = browser.call("Target.attachToTarget", attach);
        browser.session = session["sessionId"].as_str().expect("a session").to_owned();
        for domain in ["Page.enable", "Runtime.enable", "Log.enable"] {
            browser.call(domain, json!({}));
        }
        Some(browser)
    }

    /// Goes to a page and returns when it has loaded.
    pub fn open(&mut self, url: &str) {
        let answer = self.call("Page.navigate", json!({"url": url}));
        assert!(answer["errorText"].is_null(), "{url}: {answer}");
        self.until(&format!("location.href === {} && document.readyState === 'complete'", Value::from(url)));
    }

    /// The value of an expression in the page; a promise's, when it is fulfilled.
    pub fn value(&mut self, expression: &str) -> Value {
        let ask = json!({"expression": expression, "awaitPromise": true, "returnByValue": true});
        let answer = self.call("Runtime.evaluate", ask);
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {answer}");
        answer["result"]["value"].clone()
    }

    /// Waits until an expression is true.
    pub fn until(&mut self, expression: &str) {
        eventually(expression, TIMEOUT, || (self.value(expression) == true).then_some(()));
    }

    /// What went wrong in the page: uncaught exceptions, requests that failed.
    pub fn faults(&self) -> &[String] {
        &self.faults
    }

    fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.next_id += 1;
        let mut call = json!({"id": self.next_id, "method": method, "params": parameters});
        if !self.session.is_empty() {
            call["sessionId"] = self.session.clone().into();
        }
        self.socket.send(Message::text(call.to_string())).expect("the browser takes commands");
        loop {
            let message = self.socket.read().unwrap_or_else(|error| panic!("{method}: the browser is silent: {error}"));
            let Message::Text(text) = message else { continue };
            let mut message: Value = serde_json::from_str(&text).expect("the protocol is JSON");
            if message["id"] == self.next_id {
                assert!(message["error"].is_null(), "{method}: {message}");
                return message["result"].take();
            }
            let fault = match message["method"].as_str() {
                Some("Runtime.exceptionThrown") => Some(&message["params"]["exceptionDetails"]),
                Some("Log.entryAdded") if message["params"]["entry"]["level"] == "error" => {
                    Some(&message["params"]["entry"])
                }
                _ => None,
            };
            self.faults.extend(fault.map(Value::to_string));
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // All of its processes are of its own group; whether they ended by themselves does not matter.
        if let Some(group) = Pid::from_raw(self.process.pid() as i32) {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

fn installed() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("SELVAGE_BROWSER").filter(|it| !it.is_empty()) {
        return Some(PathBuf::from(named));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    NAMES.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name))).find(|file| file.is_file())
}
