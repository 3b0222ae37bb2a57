//! The servers that Selvage is measured beside: where they come from and how they are started.
//!
//! Owns exact versions and configurations; each is configured as its own documentation advises for one core. workerd,
//! Deno and Bun come from npm into `target/peers`, without running any install script: the binary is a plain file of
//! the package for this platform. nginx is the system's, if there is one.
//! *Failures:* a peer that cannot be had is an error of [`Peer::find`]; who needs it decides what that means.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde_json::Value;

use crate::checkout;
use crate::load::Target;
use crate::process::{Server, free_port, loopback};

/// The body that every server of the hello bench answers with.
pub const HELLO_BODY: &str = "Hello, World!\n";
/// The Worker of the hello bench.
pub const HELLO_MODULE: &str = include_str!("hello.js");

/// The Worker of the streams bench; `@ORIGIN@` in it is an address.
pub const STREAMS_MODULE: &str = include_str!("streams.js");

/// One program for each peer.
struct Files {
    module: (&'static str, &'static str),
    workerd: &'static str,
    deno: &'static str,
    bun: Option<&'static str>,
    nginx: &'static str,
    /// What `/` answers.
    answer: &'static str,
}

const HELLO: Files = Files {
    module: ("hello.js", HELLO_MODULE),
    workerd: include_str!("workerd.capnp"),
    deno: include_str!("deno.js"),
    bun: Some(include_str!("bun.js")),
    nginx: include_str!("nginx.conf"),
    answer: HELLO_BODY,
};

const STREAMS: Files = Files {
    module: ("streams.js", STREAMS_MODULE),
    workerd: include_str!("streams.capnp"),
    deno: include_str!("streams_deno.js"),
    bun: None,
    nginx: include_str!("streams.conf"),
    answer: "ready\n",
};

const START_TIMEOUT: Duration = Duration::from_secs(30);

/// A server to be measured beside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Peer {
    /// Cloudflare's runtime: what a Worker runs on there.
    Workerd,
    /// `Deno.serve`, one thread.
    Deno,
    /// `Bun.serve`.
    Bun,
    /// `return 200`: no JavaScript at all; a reference, not a peer.
    Nginx,
}

/// A package of npm and the file in it that is the program.
struct Package {
    name: &'static str,
    version: &'static str,
    platform: &'static str,
    program: &'static str,
}

impl Peer {
    /// All of them.
    pub const ALL: [Peer; 4] = [Peer::Workerd, Peer::Deno, Peer::Bun, Peer::Nginx];

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Peer::Workerd => "workerd",
            Peer::Deno => "deno",
            Peer::Bun => "bun",
            Peer::Nginx => "nginx",
        }
    }

    fn package(self) -> Option<Package> {
        let arm = cfg!(target_arch = "aarch64");
        let pick = |x64, arm64| if arm { arm64 } else { x64 };
        match self {
            Peer::Workerd => Some(Package {
                name: "workerd",
                version: "1.20261117.1",
                platform: pick("@cloudflare/workerd-linux-64", "@cloudflare/workerd-linux-arm64"),
                program: "bin/workerd",
            }),
            Peer::Deno => Some(Package {
                name: "deno",
                version: "2.9.6",
                platform: pick("@deno/linux-x64-glibc", "@deno/linux-arm64-glibc"),
                program: "deno",
            }),
            Peer::Bun => Some(Package {
                name: "bun",
                version: "1.4.5",
                platform: pick("@oven/bun-linux-x64", "@oven/bun-linux-aarch64"),
                program: "bin/bun",
            }),
            Peer::Nginx => None,
        }
    }

    /// Finds the program, installing it if need be.
    pub fn find(self) -> anyhow::Result<Program> {
        match self.package() {
            Some(package) => {
                package.find().map(|path| Program { peer: self, path, version: package.version.to_owned() })
            }
            None => {
                let path = ["/usr/sbin/nginx", "/usr/local/sbin/nginx", "/usr/bin/nginx"]
                    .into_iter()
                    .map(PathBuf::from)
                    .find(|path| path.is_file())
                    .context("nginx is not installed (apt-get install nginx-light)")?;
                let out = Command::new(&path).arg("-v").output()?;
                let text = String::from_utf8_lossy(&out.stderr).into_owned();
                let version = text.rsplit('/').next().unwrap_or_default().trim().to_owned();
                Ok(Program { peer: self, path, version })
            }
        }
    }
}

impl Package {
    /// The program's file, in the pinned version.
    fn find(&self) -> anyhow::Result<PathBuf> {
        let folder = checkout::target_folder("peers")?;
        if self.installed_version(&folder).as_deref() != Some(self.version) {
            self.install(&folder)?;
        }
        let installed = self.installed_version(&folder);
        ensure!(
            installed.as_deref() == Some(self.version),
            "npm installed {} {installed:?} and not {}",
            self.platform,
            self.version
        );
        let program = folder.join("node_modules").join(self.platform).join(self.program);
        ensure!(program.is_file(), "{} is not in the package {}", self.program, self.platform);
        make_executable(&program)?;
        Ok(program)
    }

    fn installed_version(&self, folder: &Path) -> Option<String> {
        let manifest = folder.join("node_modules").join(self.platform).join("package.json");
        let value: Value = serde_json::from_slice(&std::fs::read(manifest).ok()?).ok()?;
        value["version"].as_str().map(str::to_owned)
    }

    fn install(&self, folder: &Path) -> anyhow::Result<()> {
        let manifest = folder.join("package.json");
        if !manifest.exists() {
            std::fs::write(&manifest, "{ \"private\": true }\n")?;
        }
        eprintln!("npm install {}@{} (into {})", self.name, self.version, folder.display());
        let out = Command::new("npm")
            .args(["install", "--no-audit", "--no-fund", "--ignore-scripts", "--save-exact", "--loglevel=error"])
            .arg(format!("{}@{}", self.name, self.version))
            .current_dir(folder)
            .output()
            .context("npm (apt-get install npm)")?;
        if !out.status.success() {
            bail!("npm install: {}: {}", out.status, String::from_utf8_lossy(&out.stderr).trim());
        }
        Ok(())
    }
}

/// Packages whose install script would set the bit come without it.
fn make_executable(program: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let mut permissions = std::fs::metadata(program)?.permissions();
    if permissions.mode() & 0o111 == 0 {
        permissions.set_mode(0o755);
        std::fs::set_permissions(program, permissions)?;
    }
    Ok(())
}

/// A peer's program, found.
#[derive(Clone, Debug)]
pub struct Program {
    /// Whose.
    pub peer: Peer,
    /// Its exact version.
    pub version: String,
    path: PathBuf,
}

impl Program {
    /// Starts the hello server on `cores`, with its files in `dir`, and waits until it answers as it must.
    pub fn start(&self, cores: &[usize], dir: &Path) -> anyhow::Result<(Server, Target)> {
        self.start_program(&HELLO, None, cores, dir)
    }

    /// The same with the server of the streams bench, in front of an origin.
    pub fn start_streams(&self, origin: SocketAddr, cores: &[usize], dir: &Path) -> anyhow::Result<(Server, Target)> {
        self.start_program(&STREAMS, Some(origin), cores, dir)
    }

    fn start_program(
        &self,
        files: &Files,
        origin: Option<SocketAddr>,
        cores: &[usize],
        dir: &Path,
    ) -> anyhow::Result<(Server, Target)> {
        let port = free_port()?;
        let dir = dir.join(self.peer.name());
        std::fs::create_dir_all(&dir)?;
        let mut command = Command::new(&self.path);
        command.current_dir(&dir);
        let port_text = port.to_string();
        let origin = origin.map(|origin| origin.to_string()).unwrap_or_default();
        let write = |file: &str, text: &str| {
            let text = text.replace("@PORT@", &port_text).replace("@DIR@", &dir.display().to_string());
            let text = text.replace("@ORIGIN@", &origin);
            std::fs::write(dir.join(file), text).with_context(|| file.to_owned())
        };
        match self.peer {
            Peer::Workerd => {
                write(files.module.0, files.module.1)?;
                write("config.capnp", files.workerd)?;
                command.args(["serve", "config.capnp"]);
            }
            Peer::Deno => {
                write(files.module.0, files.module.1)?;
                write("deno.js", files.deno)?;
                command.args(["run", "--no-config", "--no-remote", "--allow-net=127.0.0.1", "deno.js", &port_text]);
                command.env("DENO_DIR", dir.join("cache")).env("DENO_NO_UPDATE_CHECK", "1");
            }
            Peer::Bun => {
                write("bun.js", files.bun.context("this bench has no program for bun")?)?;
                command.args(["run", "bun.js", &port_text]);
                command.env("NODE_ENV", "production").env("DO_NOT_TRACK", "1");
            }
            Peer::Nginx => {
                write("nginx.conf", files.nginx)?;
                command.arg("-p").arg(&dir).arg("-c").arg(dir.join("nginx.conf"));
            }
        }
        let mut server = Server::start(self.peer.name(), command, cores, &dir)?;
        let target = loopback(port, &format!("127.0.0.1:{port}"), "/")?;
        let answer = server.wait_answers(&target, START_TIMEOUT)?;
        ensure!(answer.body == files.answer.as_bytes(), "{} answers {:?}", self.peer.name(), answer.text());
        Ok((server, target))
    }

    /// Starts workerd on the caller's `config.capnp` in `dir`.
    pub fn serve_config(&self, cores: &[usize], dir: &Path) -> anyhow::Result<Server> {
        self.serve(&[], cores, dir)
    }

    /// The same with what workerd calls experimental, among it the worker loader.
    pub fn serve_experimental(&self, cores: &[usize], dir: &Path) -> anyhow::Result<Server> {
        self.serve(&["--experimental"], cores, dir)
    }

    fn serve(&self, flags: &[&str], cores: &[usize], dir: &Path) -> anyhow::Result<Server> {
        ensure!(self.peer == Peer::Workerd, "{} has no such configuration", self.peer.name());
        let mut command = Command::new(&self.path);
        command.current_dir(dir).arg("serve").args(flags).arg("config.capnp");
        Server::start(self.peer.name(), command, cores, dir)
    }
}
