//! Building V8 from the source that the `v8` crate publishes, with a cage per isolate group.
//!
//! Owns: the work folder `build/<version>` of the user cache. Every step leaves a mark and is not done again, and ninja
//! goes on where it stopped, so an interrupted build loses minutes. One build at a time per cache (a lock file).
//! Needs about 6 GB of disk while it runs; the work folder is removed when the archive is in place.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use super::archive::{self, Checked};
use super::{VERSION, gn};
use crate::checkout::Checkout;
use crate::progress::{Progress, say, warn};
use crate::{packages, run};

/// The folder of the cache that a finished build goes to.
pub(super) const BUILT: &str = "built";

/// LLVM as Debian installs it.
const LLVM: &str = "/usr/lib/llvm-19";
const LLVM_MAJOR: &str = "19";

/// Free disk that a build wants: 0.2 GB of source, 1.5 GB of precompiled headers, 1 GB of objects, and as much again.
const DISK_BYTES_MIN: u64 = 6_000_000_000;

/// What GN is told. The first lines are those of the crate's own build script; the last three make the cages.
const GN_ARGUMENTS: &[&str] = &[
    "is_debug=false",
    "use_custom_libcxx=true",
    "v8_enable_sandbox=false",
    "v8_enable_v8_checks=false",
    "rusty_v8_enable_simdutf=false",
    "treat_warnings_as_errors=false",
    // No Rust inside V8: it would need Chromium's own toolchain, and only Temporal uses it.
    "enable_rust=false",
    "enable_rust_cxx=false",
    "v8_enable_temporal_support=false",
    // No debug information: it makes the archive ten times as large and nothing of ours reads it.
    "symbol_level=0",
    "line_tables_only=false",
    "use_glib=false",
    "v8_enable_pointer_compression=true",
    "v8_enable_pointer_compression_shared_cage=false",
    "v8_enable_external_code_space=true",
];

/// The wrapper and the headers of the precompiled-header build, with their file names.
const WRAPPER: &str = include_str!("pch/clang++");
const HEADERS: [(&str, &str); 3] = [
    ("base.h", include_str!("pch/base.h")),
    ("csa.h", include_str!("pch/csa.h")),
    ("compiler.h", include_str!("pch/compiler.h")),
];

/// Builds, or goes on building, and gives the archive in the cache.
pub(super) fn build(checkout: &Checkout, cache: &Path, jobs: Option<usize>) -> Result<Checked> {
    ensure!(
        cfg!(all(target_arch = "x86_64", target_os = "linux")),
        "V8 is built from source on x86-64 Linux only; set RUSTY_V8_ARCHIVE to an archive of V8 {VERSION}"
    );
    let started = Instant::now();
    let jobs = jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)).max(1);
    let work = cache.join("build").join(VERSION);
    fs::create_dir_all(&work).with_context(|| format!("making {}", work.display()))?;
    let lock = File::create(cache.join("build/lock")).context("making the lock of the build")?;
    if lock.try_lock().is_err() {
        say("v8", "another build from source is running with this cache: waiting for it");
        lock.lock().context("waiting for the other build")?;
    }
    let log = work.join("log");
    say("v8", format!("work folder {}, log {}", work.display(), log.display()));

    packages::ensure("building V8 from source", packages::V8_SOURCE)?;
    ensure_disk(&work)?;
    let source = copy_source(checkout, &work)?;
    let gn = gn::ready(&work, jobs, &log)?;
    let clang = clang_folder(&work)?;
    let headers = headers_folder(&work)?;
    let out = generate(&work, &source, &gn, &clang, &log)?;
    compile(&out, &headers, jobs, &log)?;

    let part = work.join("librusty_v8.a.part");
    fs::copy(out.join("obj/librusty_v8.a"), &part).context("copying the finished archive")?;
    let checked = archive::install(&part, &cache.join(BUILT), archive::MULTICAGE, cache)?;
    let without = fs::read_to_string(out.join("pch/without.log")).map_or(0, |it| it.lines().count());
    if without > 0 {
        say("v8", format!("{without} files did not suit a precompiled header and were compiled without"));
    }
    say("v8", format!("built in {} minutes: {}", started.elapsed().as_secs().div_ceil(60), checked.path.display()));
    if let Err(error) = fs::remove_dir_all(&work) {
        warn("v8", format!("the work folder {} stays: {error}", work.display()));
    }
    Ok(checked)
}

fn ensure_disk(work: &Path) -> Result<()> {
    let answer = run::captured(Command::new("df").args(["--output=avail", "--block-size=1", "--"]).arg(work))?;
    let free: u64 =
        answer.lines().last().and_then(|it| it.trim().parse().ok()).context("reading the answer of `df`")?;
    if free < DISK_BYTES_MIN && !work.join("out").exists() {
        bail!("{} has {} GB free; building V8 wants {} GB", work.display(), free >> 30, DISK_BYTES_MIN >> 30);
    }
    Ok(())
}

/// Copies the crate's published source out of cargo's registry: GN and ninja want a tree that they can write to.
fn copy_source(checkout: &Checkout, work: &Path) -> Result<PathBuf> {
    let source = work.join("source");
    if source.is_dir() {
        return Ok(source);
    }
    let registry = registry_source(checkout)?;
    say("v8", format!("copying the source from {}", registry.display()));
    let part = work.join("source.part");
    let _ = fs::remove_dir_all(&part);
    run::checked(
        Command::new("cp")
            .args(["--recursive", "--reflink=auto", "--no-target-directory", "--"])
            .arg(&registry)
            .arg(&part),
    )?;
    fs::rename(&part, &source).context("naming the copied source")?;
    Ok(source)
}

/// Where cargo unpacked the `v8` crate; cargo downloads it first if need be.
pub(super) fn registry_source(checkout: &Checkout) -> Result<PathBuf> {
    #[derive(Deserialize)]
    struct Metadata {
        packages: Vec<Package>,
    }
    #[derive(Deserialize)]
    struct Package {
        name: String,
        version: String,
        manifest_path: PathBuf,
    }
    let answer = run::captured(checkout.cargo().args(["metadata", "--format-version=1", "--locked"]))?;
    let metadata: Metadata = serde_json::from_str(&answer).context("reading the answer of `cargo metadata`")?;
    let package = metadata.packages.iter().find(|it| it.name == "v8" && it.version == VERSION);
    let manifest = &package.with_context(|| format!("Cargo.lock has no v8 {VERSION}"))?.manifest_path;
    let folder = manifest.parent().with_context(|| format!("{} has no folder", manifest.display()))?;
    ensure!(folder.join("v8/include/v8.h").is_file(), "{} does not hold V8's source", folder.display());
    Ok(folder.to_owned())
}

/// V8 expects Chromium's layout of clang; this is a folder of links in that layout, with our wrapper as `clang++`.
fn clang_folder(work: &Path) -> Result<PathBuf> {
    let base = work.join("clang");
    let _ = fs::remove_dir_all(&base);
    let triple = base.join("lib/clang").join(LLVM_MAJOR).join("lib/x86_64-unknown-linux-gnu");
    let bin = base.join("bin");
    for it in [&bin, &triple] {
        fs::create_dir_all(it).with_context(|| format!("making {}", it.display()))?;
    }
    let tools = Path::new(LLVM).join("bin");
    for entry in fs::read_dir(&tools).with_context(|| format!("reading {}", tools.display()))? {
        let entry = entry.context("reading the folder of LLVM's tools")?;
        if entry.file_name() != "clang++" {
            symlink(entry.path(), bin.join(entry.file_name())).context("linking one of LLVM's tools")?;
        }
    }
    let resources = Path::new(LLVM).join("lib/clang").join(LLVM_MAJOR);
    symlink(resources.join("include"), base.join("lib/clang").join(LLVM_MAJOR).join("include"))
        .context("linking clang's headers")?;
    symlink(resources.join("lib/linux/libclang_rt.builtins-x86_64.a"), triple.join("libclang_rt.builtins.a"))
        .context("linking clang's run-time library")?;
    let wrapper = bin.join("clang++");
    fs::write(&wrapper, WRAPPER).with_context(|| format!("writing {}", wrapper.display()))?;
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).context("making the wrapper executable")?;
    Ok(base)
}

/// Writes the headers, leaving alone those that are there: clang refuses a compiled header that is older than its text.
fn headers_folder(work: &Path) -> Result<PathBuf> {
    let folder = work.join("headers");
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    for (name, text) in HEADERS {
        let path = folder.join(name);
        if fs::read_to_string(&path).is_ok_and(|it| it == text) {
            continue;
        }
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        let _ = fs::remove_dir_all(work.join("out/pch"));
    }
    Ok(folder)
}

fn generate(work: &Path, source: &Path, gn: &Path, clang: &Path, log: &Path) -> Result<PathBuf> {
    let out = work.join("out");
    if out.join("build.ninja").is_file() {
        return Ok(out);
    }
    let mut arguments = GN_ARGUMENTS.join(" ");
    arguments.push_str(&format!(" clang_base_path={:?} clang_version={LLVM_MAJOR:?}", clang.display().to_string()));
    let mut command = Command::new(gn);
    command.arg(format!("--root={}", source.display())).arg("--script-executable=python3").arg("gen").arg(&out);
    say("v8", "generating build files");
    run::logged(command.arg(format!("--args={arguments}")).current_dir(source), log)?;
    Ok(out)
}

/// Runs ninja to the end; its output goes to the log, its status lines to the progress bar.
fn compile(out: &Path, headers: &Path, jobs: usize, log: &Path) -> Result<()> {
    let mut file = run::append(log)?;
    let errors = file.try_clone().context("sharing the log between two streams")?;
    say("v8", format!("compiling, {jobs} at a time"));
    let mut ninja = Command::new("ninja")
        .arg("-C")
        .arg(out)
        .arg("-j")
        .arg(jobs.to_string())
        .arg("rusty_v8")
        .env("NINJA_STATUS", "[%f/%t] ")
        .env("SELVAGE_CLANGXX", Path::new(LLVM).join("bin/clang++"))
        .env("SELVAGE_PCH", headers)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(errors)
        .spawn()
        .context("starting `ninja`")?;
    let stdout = ninja.stdout.take().context("ninja has no standard output")?;
    let mut progress = Progress::start("v8");
    for line in BufReader::new(stdout).split(b'\n') {
        let line = line.context("reading ninja's output")?;
        file.write_all(&line).and_then(|()| file.write_all(b"\n")).context("writing the log")?;
        if let Some((done, total, what)) = ninja_status(&String::from_utf8_lossy(&line)) {
            progress.set(done, total, what);
        }
    }
    progress.finish();
    let status = ninja.wait().context("waiting for `ninja`")?;
    ensure!(status.success(), "building V8 failed: {status}; see {}\n{}", log.display(), run::tail(log, 30));
    Ok(())
}

/// Reads a line `[done/total] what` of ninja.
fn ninja_status(line: &str) -> Option<(u64, u64, &str)> {
    let (counts, what) = line.strip_prefix('[')?.split_once("] ")?;
    let (done, total) = counts.split_once('/')?;
    Some((done.parse().ok()?, total.parse().ok()?, what))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ninja_status_lines_are_read_and_others_are_not() {
        assert_eq!(ninja_status("[7/3050] CXX obj/v8/api.o"), Some((7, 3050, "CXX obj/v8/api.o")));
        for other in ["", "ninja: Entering directory `out'", "[7/x] CXX", "[7/9]", "[note] text", "7/9] x"] {
            assert_eq!(ninja_status(other), None, "{other:?}");
        }
    }

    #[test]
    fn gn_is_told_each_argument_once() {
        let mut names: Vec<&str> = GN_ARGUMENTS.iter().filter_map(|it| it.split('=').next()).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
        assert!(GN_ARGUMENTS.contains(&"v8_enable_pointer_compression_shared_cage=false"), "the point of it all");
    }
}
