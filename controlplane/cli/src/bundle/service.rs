//! One esbuild process and builds by it.
//!
//! Owns the process and its pipes. Speaks the protocol of esbuild's own library (`--service`), so that imports can be answered here
//! ([`Host`]) and errors come with their places. Builds one after the other; a build blocks its thread and ends, since everything that it
//! waits for is a file. *Invariant:* the process has ended when this value is dropped: its stdin closes.

use std::io::{BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use super::packet::{Packet, Value, decode, encode};
use crate::failure::{Failure, Outcome};

/// A packet of esbuild's, bytes: the bundle, its map and its report come in one.
const PACKET_BYTES_MAX: u32 = 512 << 20;

/// What answers for imports.
pub(super) trait Host {
    /// Where an import leads, by the filter's number; none: as esbuild finds it.
    fn resolve(&mut self, filter: u32, request: &Value) -> Option<Value>;
    /// What a file is, by the filter's number; none: as esbuild reads it.
    fn load(&mut self, filter: u32, request: &Value) -> Option<Value>;
}

/// A build.
pub(super) struct Request<'a> {
    pub(super) entry: &'a Path,
    /// What the module before it is, which then imports it.
    pub(super) before: Option<&'a str>,
    pub(super) folder: &'a Path,
    pub(super) flags: Vec<String>,
    /// Expressions of paths that [`Host::resolve`] and [`Host::load`] are asked for.
    pub(super) resolve_filters: Vec<String>,
    pub(super) load_filters: Vec<String>,
}

/// A running esbuild.
pub(super) struct Service {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    next_id: u32,
}

impl Service {
    /// Starts the program, which must be of that version.
    pub(super) fn start(program: &Path, version: &str) -> Outcome<Service> {
        let mut child = Command::new(program)
            .arg(format!("--service={version}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| Failure::failed(format!("cannot start {}: {error}", program.display())))?;
        let stdin = child.stdin.take().expect("stdin is piped");
        let stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let mut service = Service { child, stdin, stdout, next_id: 0 };
        let hello = service.receive()?;
        if hello != version.as_bytes() {
            let said = String::from_utf8_lossy(&hello).into_owned();
            return Err(Failure::failed(format!("{} is no esbuild {version}: it says {said:?}", program.display())));
        }
        Ok(service)
    }

    /// Builds: esbuild's answer, with `errors`, `warnings`, `outputFiles` and `metafile`.
    pub(super) fn build(&mut self, request: &Request<'_>, host: &mut dyn Host) -> Outcome<Value> {
        let filters = |filters: &[String]| {
            let filter = |(id, filter): (usize, &String)| {
                Value::map([
                    ("id", Value::Int(id as u32)),
                    ("filter", filter.as_str().into()),
                    ("namespace", "".into()),
                ])
            };
            Value::List(filters.iter().enumerate().map(filter).collect())
        };
        let plugin = Value::map([
            ("name", "selvage".into()),
            ("onStart", Value::Bool(false)),
            ("onEnd", Value::Bool(false)),
            ("onResolve", filters(&request.resolve_filters)),
            ("onLoad", filters(&request.load_filters)),
        ]);
        let (entries, before, resolve_folder) = match request.before {
            Some(text) => (Vec::new(), Value::Bytes(text.as_bytes().to_vec()), text_of(request.folder)?),
            None => (vec![Value::List(vec!["".into(), text_of(request.entry)?])], Value::Null, Value::Null),
        };
        let build = Value::map([
            ("command", "build".into()),
            ("key", Value::Int(0)),
            ("entries", Value::List(entries)),
            ("flags", Value::List(request.flags.iter().map(|flag| flag.as_str().into()).collect())),
            ("write", Value::Bool(false)),
            ("stdinContents", before),
            ("stdinResolveDir", resolve_folder),
            ("absWorkingDir", text_of(request.folder)?),
            ("nodePaths", Value::List(Vec::new())),
            ("context", Value::Bool(false)),
            ("plugins", Value::List(vec![plugin])),
        ]);
        let id = self.next_id;
        self.next_id += 1;
        self.send(&Packet { id, is_request: true, value: build })?;
        loop {
            let bytes = self.receive()?;
            let packet = decode(&bytes).ok_or_else(|| broken("sent what is no packet"))?;
            if packet.is_request {
                let value = answer(&packet.value, host);
                self.send(&Packet { id: packet.id, is_request: false, value })?;
            } else if packet.id == id {
                return match packet.value.text("error") {
                    "" => Ok(packet.value),
                    error => Err(broken(error)),
                };
            }
        }
    }

    fn send(&mut self, packet: &Packet) -> Outcome {
        let written = self.stdin.write_all(&encode(packet)).and_then(|()| self.stdin.flush());
        written.map_err(|error| broken(&format!("ended: {error}")))
    }

    fn receive(&mut self) -> Outcome<Vec<u8>> {
        let mut length = [0; 4];
        self.stdout.read_exact(&mut length).map_err(|error| broken(&format!("ended: {error}")))?;
        let length = u32::from_le_bytes(length);
        if length > PACKET_BYTES_MAX {
            return Err(broken("sent a packet without bounds"));
        }
        let mut bytes = Vec::new();
        let read = self.stdout.by_ref().take(u64::from(length)).read_to_end(&mut bytes);
        match read {
            Ok(count) if count == length as usize => Ok(bytes),
            Ok(_) => Err(broken("ended in the middle of a packet")),
            Err(error) => Err(broken(&format!("ended: {error}"))),
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // It holds nothing of value; whether it ended by itself does not matter.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The answer to what esbuild asks during a build.
fn answer(request: &Value, host: &mut dyn Host) -> Value {
    if request.text("command") == "on-start" {
        return Value::map([("errors", Value::List(Vec::new())), ("warnings", Value::List(Vec::new()))]);
    }
    let ids = request.list("ids").iter().filter_map(|id| match id {
        Value::Int(id) => Some(*id),
        _ => None,
    });
    let mut answers = ids.filter_map(|id| {
        let answer = match request.text("command") {
            "on-resolve" => host.resolve(id, request),
            "on-load" => host.load(id, request),
            _ => None,
        };
        let Some(Value::Map(mut answer)) = answer else { return None };
        answer.insert("id".to_owned(), Value::Int(id));
        Some(Value::Map(answer))
    });
    answers.next().unwrap_or(Value::map([]))
}

fn text_of(path: &Path) -> Outcome<Value> {
    path.to_str()
        .map(Value::from)
        .ok_or_else(|| Failure::usage(format!("the path {} is not UTF-8, which esbuild needs", path.display())))
}

fn broken(what: &str) -> Failure {
    Failure::failed(format!("esbuild {what}"))
}
