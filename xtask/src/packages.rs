//! System packages: what a fresh Debian lacks before it can build Selvage.
//!
//! Looks for the thing itself (a program, a file), never for a package's name, so other distributions work as long as
//! the things are there. Installs through apt when we are root; otherwise prints the one line to run and stops.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::progress::say;
use crate::run;

/// One thing that must be on the machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Package {
    /// Its package in Debian.
    pub(crate) name: &'static str,
    /// How we see that it is there.
    pub(crate) sign: Sign,
}

/// What shows that a package is there.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Sign {
    /// A program on `PATH`.
    Program(&'static str),
    /// A file.
    File(&'static str),
}

/// To build and test everything but V8 itself.
pub(crate) const BUILD: &[Package] = &[
    Package { name: "gcc", sign: Sign::Program("cc") }, // ring, SQLite, liburing; cargo links with it
    Package { name: "g++", sign: Sign::Program("c++") }, // V8's archive is C++: linking it wants its run-time libraries
    Package { name: "libc6-dev", sign: Sign::File("/usr/include/stdio.h") },
    Package { name: "make", sign: Sign::Program("make") },
    Package { name: "git", sign: Sign::Program("git") }, // glommio's build script calls it
    Package { name: "zstd", sign: Sign::Program("zstd") }, // V8's archive comes packed
    Package { name: "ca-certificates", sign: Sign::File("/etc/ssl/certs/ca-certificates.crt") },
];

/// To build V8 from source, on top of [`BUILD`].
pub(crate) const V8_SOURCE: &[Package] = &[
    Package { name: "clang-19", sign: Sign::File("/usr/lib/llvm-19/bin/clang++") },
    Package { name: "lld-19", sign: Sign::File("/usr/lib/llvm-19/bin/ld.lld") },
    Package { name: "llvm-19", sign: Sign::File("/usr/lib/llvm-19/bin/llvm-ar") },
    Package {
        name: "libclang-rt-19-dev",
        sign: Sign::File("/usr/lib/llvm-19/lib/clang/19/lib/linux/libclang_rt.builtins-x86_64.a"),
    },
    Package { name: "ninja-build", sign: Sign::Program("ninja") },
    Package { name: "python3", sign: Sign::Program("python3") },
];

impl Package {
    fn missing(&self) -> bool {
        match self.sign {
            Sign::Program(name) => !run::on_path(name),
            Sign::File(path) => !Path::new(path).exists(),
        }
    }
}

/// Makes sure that all of `wanted` is there; `purpose` completes "packages for …".
pub(crate) fn ensure(purpose: &str, wanted: &[Package]) -> Result<()> {
    let missing: Vec<&str> = wanted.iter().filter(|it| it.missing()).map(|it| it.name).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names = missing.join(" ");
    if !run::on_path("apt-get") {
        bail!("missing on this machine for {purpose}: {names} (named as in Debian); install them and try again");
    }
    if !is_root() {
        bail!(
            "packages for {purpose} are missing; run this line and try again:\n    sudo apt-get update && sudo apt-get install -y --no-install-recommends {names}"
        );
    }
    say("packages", format!("installing for {purpose}: {names}"));
    run::checked(apt().arg("update"))?;
    run::checked(apt().args(["install", "-y", "--no-install-recommends"]).args(&missing))?;
    let still: Vec<&str> = wanted.iter().filter(|it| it.missing()).map(|it| it.name).collect();
    if !still.is_empty() {
        bail!("apt installed {names}, but what we need of {} is still not there", still.join(" "));
    }
    Ok(())
}

fn apt() -> Command {
    let mut command = Command::new("apt-get");
    command.arg("-q").env("DEBIAN_FRONTEND", "noninteractive");
    command
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
