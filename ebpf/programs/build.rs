//! Compiles `bpf/*.bpf.c` with clang. A machine without clang (or without its BPF target, or the kernel's uapi headers) still builds
//! everything else: the objects are then left out, with a warning here and a plain reason at run time. With
//! `SELVAGE_REQUIRE_EBPF=1`, for builds that are shipped, it is an error.

#![forbid(unsafe_code)]

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Tried in this order; `SELVAGE_CLANG` is tried alone.
const CLANGS: [&str; 4] = ["clang-19", "clang", "clang-18", "clang-17"];

/// The objects, by what stands before `.bpf.c`.
const PROGRAMS: [&str; 3] = ["steer", "accept", "pass"];

fn main() {
    println!("cargo::rerun-if-changed=bpf");
    println!("cargo::rerun-if-env-changed=SELVAGE_CLANG");
    println!("cargo::rerun-if-env-changed=SELVAGE_REQUIRE_EBPF");
    println!("cargo::rerun-if-env-changed=PATH");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    let outcome = PROGRAMS.iter().try_for_each(|name| compile(name, &out));
    let why = outcome.err();
    if let Some(why) = &why {
        assert!(env::var_os("SELVAGE_REQUIRE_EBPF").is_none_or(|it| it == "0"), "eBPF programs: {why}");
        println!("cargo::warning=steering will not be in this build: {why}");
    }
    fs::write(out.join("objects.rs"), objects(why.as_deref())).expect("OUT_DIR is writable");
}

/// The source of the constants.
fn objects(why: Option<&str>) -> String {
    PROGRAMS.iter().fold(String::new(), |text, name| {
        let value = match why {
            None => format!("Ok(&Aligned(*include_bytes!(concat!(env!(\"OUT_DIR\"), \"/{name}.o\"))).0)"),
            Some(why) => format!("Err({why:?})"),
        };
        let constant = name.to_uppercase();
        text + &format!("/// `bpf/{name}.bpf.c`.\npub const {constant}: Object = {value};\n")
    })
}

fn compile(name: &str, out: &Path) -> Result<(), String> {
    let clang = find_clang()?;
    let source = format!("bpf/{name}.bpf.c");
    let mut command = Command::new(&clang);
    // Debug information is where maps' types come from (BTF).
    command.args(["-target", "bpf", "-mcpu=v3", "-O2", "-g", "-Wall", "-Wextra", "-Werror", "-c", &source, "-o"]);
    command.arg(out.join(format!("{name}.o")));
    // Debian keeps <asm/types.h> in a folder of the host's architecture.
    let arch = env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default();
    command.arg(format!("-I/usr/include/{arch}-linux-gnu"));
    let done = command.output().map_err(|error| format!("{clang} does not run: {error}"))?;
    if done.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    if said.contains("file not found") {
        return Err("the kernel's headers are missing (Debian: linux-libc-dev)".to_owned());
    }
    if said.contains("unable to create target") || said.contains("unknown target") {
        return Err(format!("{clang} has no BPF target"));
    }
    // The source is wrong: that must not pass for a machine without clang.
    panic!("{clang} refuses {source}:\n{said}");
}

fn find_clang() -> Result<String, String> {
    let runs = |clang: &str| Command::new(clang).arg("--version").output().is_ok_and(|done| done.status.success());
    if let Ok(named) = env::var("SELVAGE_CLANG") {
        return if runs(&named) { Ok(named) } else { Err(format!("SELVAGE_CLANG={named} does not run")) };
    }
    let found = CLANGS.into_iter().find(|clang| runs(clang));
    found.map(str::to_owned).ok_or_else(|| "clang is not installed (Debian: clang-19)".to_owned())
}
