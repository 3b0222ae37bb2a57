//! `cargo xtask keys`: the tests that need memory protection keys, on this processor if it has some, else in an emulated machine.
//!
//! Owns the emulated machine: qemu without KVM (`-cpu max` has keys), a kernel of Debian's, and a file system in memory with
//! busybox, the test programs, the node and the control plane, and their shared libraries. Every test runs in a process of its own,
//! because keys are the process's; there a test that would be skipped fails. The machine has no disk and no network but loopback.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::checkout::Checkout;
use crate::packages::{self, Package, Sign};
use crate::progress::{say, warn};
use crate::{artifacts, run};

/// Crates whose tests run with keys on, all of them.
const CRATES: &[&str] = &["pkey", "isolate"];

/// Crates of which some do: those of [`PARTS`].
const CRATES_IN_PART: &[&str] = &["worker-api", "e2e"];

/// Test programs, by their sources, of which the tests run whose names begin so.
const PARTS: &[(&str, &str)] = &[
    ("/tests/e2e/main.rs", END_TO_END),
    ("/worker-api/tests/snapshot.rs", ""),
    ("/worker-api/tests/suspension.rs", ""),
    ("/worker-api/tests/hostile.rs", HOSTILE),
];

const END_TO_END: &str = "keys::";

/// The test of hostile Workers, which takes one of its shapes from a variable.
const HOSTILE: &str = "every_shape_ends_its_request_and_nothing_else";
const HOSTILE_VARIABLE: &str = "WATCH";

/// Of its shapes: what computes for ever, fills each kind of memory, and is given up by a signal.
const SHAPES: &[&str] =
    &["loop", "array_growth", "string_doubling", "typed_arrays", "array_buffers", "webassembly", "index_of_array_like"];

/// Programs that the end-to-end tests start.
const PROGRAMS: &[&str] = &["selvage-node", "selvage-control", "examples/intrude"];

/// What the emulated machine is made with.
const EMULATOR: &[Package] = &[
    Package { name: "qemu-system-x86", sign: Sign::Program("qemu-system-x86_64") },
    Package { name: "busybox-static", sign: Sign::Program("busybox") },
    Package { name: "cpio", sign: Sign::Program("cpio") },
    Package { name: "binutils", sign: Sign::Program("strip") },
];

/// The kernel's package: one for machines without hardware, small, with all that is needed built in.
const KERNEL_PACKAGE: &str = "linux-image-cloud-amd64";

/// A kernel to boot instead of Debian's.
const KERNEL_VARIABLE: &str = "SELVAGE_KEYS_KERNEL";

/// Tests of real time, which an emulated processor does not keep, and of what must be done within a limit of CPU time.
const TIMED: &[&str] = &[
    "clock::tests::ticks_agree_with_the_monotonic_clock",
    "a_claimed_spare_has_its_tenants_limits",
    "a_slice_is_short_and_the_limit_holds_over_all_of_them",
    "a_start_is_suspended_too",
    "many_short_timers_let_others_run_in_between",
    "suspended_workers_take_turns_on_one_thread_and_all_come_out_right",
    "what_v8_adds_after_the_snapshot_is_as_without_one",
];

/// What the machine says last.
const VERDICT: &str = "selvage-keys:";

/// Options of `cargo xtask keys`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Only tests whose name contains this
    filter: Option<String>,
    /// The long forms of tests that have a short one
    #[arg(long)]
    full: bool,
    /// Use the emulated machine even if this processor has keys
    #[arg(long)]
    emulate: bool,
    /// Seconds after which the emulated machine is ended, and the run has failed [default: 1800, with --full 14400]
    #[arg(long)]
    time_limit: Option<u64>,
}

impl Arguments {
    /// For the machine, and for one test in it.
    fn limits(&self) -> (Duration, Duration) {
        let (machine, test) = if self.full { (14_400, 7_200) } else { (1_800, 900) };
        (Duration::from_secs(self.time_limit.unwrap_or(machine)), Duration::from_secs(test))
    }
}

/// Builds the tests and runs them where there are keys.
pub(crate) fn run(checkout: &Checkout, arguments: &Arguments) -> Result<ExitCode> {
    let archive = artifacts::prepare(checkout)?;
    let programs = artifacts::binaries(checkout, &archive)?;
    let mut build = checkout.cargo();
    build.args(["build", "--release", "--message-format=json-render-diagnostics", "--lib", "--tests", "--examples"]);
    for name in CRATES.iter().chain(CRATES_IN_PART) {
        build.args(["-p", name]);
    }
    archive.export(&mut build);
    say("keys", "building the tests");
    let tests = tests_built(&mut build, arguments.filter.as_deref())?;
    if has_keys() && !arguments.emulate {
        say("keys", "this processor has protection keys: the tests run on it");
        return here(&tests, &programs, arguments);
    }
    say("keys", "the tests run in an emulated machine that has protection keys");
    packages::ensure("the emulated machine", EMULATOR)?;
    let folder = checkout.target().join("keys");
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    let kernel = kernel(&folder)?;
    let system = system(&folder, &tests, &programs, arguments)?;
    boot(&kernel, &system, arguments.limits().0)
}

/// Whether this processor has keys and the kernel uses them.
fn has_keys() -> bool {
    let known = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    known.lines().filter(|line| line.starts_with("flags")).any(|line| line.split(' ').any(|flag| flag == "ospke"))
}

/// A test program and the tests of it that are to run.
struct Tests {
    program: PathBuf,
    names: Vec<String>,
}

impl Tests {
    /// What is to be run: a test, and the shape that it is given.
    fn runs(&self) -> impl Iterator<Item = (&str, Option<&'static str>)> {
        self.names.iter().flat_map(|name| {
            let shapes = if name == HOSTILE { SHAPES } else { &[] };
            let alone = shapes.is_empty().then_some((name.as_str(), None));
            shapes.iter().map(|shape| (name.as_str(), Some(*shape))).chain(alone)
        })
    }
}

/// How the names begin of the tests that are wanted of a test program with this source; none if none are.
fn start_of(source: &str) -> Option<&'static str> {
    if CRATES.iter().any(|name| source.contains(&format!("/dataplane/{name}/"))) {
        return Some("");
    }
    PARTS.iter().find(|(part, _)| source.ends_with(part)).map(|(_, start)| *start)
}

/// The test programs that a build makes, with the tests that are wanted.
fn tests_built(build: &mut Command, filter: Option<&str>) -> Result<Vec<Tests>> {
    let output = build.stderr(Stdio::inherit()).output().context("starting cargo")?;
    if !output.status.success() {
        bail!("the tests do not build: {}", output.status);
    }
    let mut found = Vec::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let Ok(message) = serde_json::from_str::<serde_json::Value>(line) else { continue };
        if message["profile"]["test"] == true
            && let Some(path) = message["executable"].as_str()
            && let Some(start) = message["target"]["src_path"].as_str().and_then(start_of)
        {
            let program = PathBuf::from(path);
            let mut names = tests(&program)?;
            names.retain(|name| name.starts_with(start) && filter.is_none_or(|filter| name.contains(filter)));
            found.push(Tests { program, names });
        }
    }
    found.retain(|tests| !tests.names.is_empty());
    if found.is_empty() {
        bail!("the build made no such tests");
    }
    Ok(found)
}

/// Names of a program's tests.
fn tests(program: &Path) -> Result<Vec<String>> {
    let list = run::captured(Command::new(program).args(["--list", "--format", "terse"]))?;
    Ok(list.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect())
}

fn here(tests: &[Tests], programs: &Path, arguments: &Arguments) -> Result<ExitCode> {
    let (mut passed, mut failed) = (0, 0);
    for program in tests {
        for (test, shape) in program.runs() {
            let mut command = Command::new(&program.program);
            command.args(["--exact", test, "--test-threads=1"]).env("SELVAGE_KEYS_REQUIRED", "1");
            command.env(artifacts::BIN_DIR_VARIABLE, programs);
            if arguments.full {
                command.env("SELVAGE_E2E_FULL", "1");
            }
            if let Some(shape) = shape {
                command.env(HOSTILE_VARIABLE, shape);
            }
            match run::status(&mut command)?.success() {
                true => passed += 1,
                false => {
                    failed += 1;
                    warn("keys", format!("FAILED {test} {}", shape.unwrap_or_default()));
                }
            }
        }
    }
    Ok(verdict(passed, failed))
}

fn verdict(passed: u32, failed: u32) -> ExitCode {
    let line = format!("{passed} passed, {failed} failed");
    if passed == 0 || failed > 0 {
        warn("keys", line);
        return ExitCode::FAILURE;
    }
    say("keys", line);
    ExitCode::SUCCESS
}

/// A kernel: the one that was named, or Debian's, fetched once.
fn kernel(folder: &Path) -> Result<PathBuf> {
    if let Some(given) = std::env::var_os(KERNEL_VARIABLE) {
        return Ok(PathBuf::from(given));
    }
    let boot = folder.join("kernel/boot");
    if let Some(found) = image(&boot) {
        return Ok(found);
    }
    if !run::on_path("apt-get") || !run::on_path("dpkg-deb") {
        bail!("no kernel to boot: Debian's package {KERNEL_PACKAGE} has one; name any with ${KERNEL_VARIABLE}");
    }
    let packages = run::captured(Command::new("apt-cache").args(["depends", KERNEL_PACKAGE])).unwrap_or_default();
    let Some(package) = packages.lines().find_map(|line| line.trim().strip_prefix("Depends: linux-image-")) else {
        bail!("apt knows no package {KERNEL_PACKAGE}: run `apt-get update`, or name a kernel with ${KERNEL_VARIABLE}");
    };
    let package = format!("linux-image-{package}");
    say("keys", format!("fetching Debian's {package}"));
    run::checked(Command::new("apt-get").args(["-q", "download", &package]).current_dir(folder))?;
    let fetched = fs::read_dir(folder)?.flatten().map(|entry| entry.path());
    let fetched = fetched.filter(|path| path.extension().is_some_and(|it| it == "deb")).max();
    let fetched = fetched.context("apt-get download left no package")?;
    run::checked(Command::new("dpkg-deb").arg("-x").arg(&fetched).arg(folder.join("kernel")))?;
    fs::remove_file(fetched)?;
    image(&boot).context("the kernel's package holds no kernel")
}

fn image(boot: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(boot).ok()?.flatten().map(|entry| entry.path());
    entries.filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz"))).max()
}

/// Packs the machine's file system; gives the archive.
fn system(folder: &Path, tests: &[Tests], programs: &Path, arguments: &Arguments) -> Result<PathBuf> {
    let root = folder.join("root");
    if root.exists() {
        fs::remove_dir_all(&root)?;
    }
    for name in ["bin", "tests", "programs/examples"] {
        fs::create_dir_all(root.join(name))?;
    }
    let busybox = run::captured(Command::new("sh").args(["-c", "command -v busybox"]))?;
    fs::copy(busybox.trim(), root.join("bin/busybox")).context("copying busybox")?;
    let mut libraries = BTreeSet::new();
    let mut script = String::from(INIT_HEAD).replace("@LIMIT@", &arguments.limits().1.as_secs().to_string());
    script = script.replace("@VARIABLE@", HOSTILE_VARIABLE);
    if arguments.full {
        script.push_str("export SELVAGE_E2E_FULL=1\n");
    }
    let mut put = |from: &Path, to: &str| -> Result<()> {
        run::checked(Command::new("strip").arg("--strip-debug").arg("-o").arg(root.join(to)).arg(from))?;
        libraries.extend(shared_libraries(from)?);
        Ok(())
    };
    for tests in tests {
        let name = tests.program.file_name().context("a program has a name")?.to_string_lossy().into_owned();
        put(&tests.program, &format!("tests/{name}"))?;
        for (test, shape) in tests.runs().filter(|(test, _)| !TIMED.contains(test)) {
            script.push_str(&format!("run {name} {test} {}\n", shape.unwrap_or_default()));
        }
    }
    if tests.iter().any(|tests| tests.names.iter().any(|name| name.starts_with(END_TO_END))) {
        for name in PROGRAMS {
            put(&programs.join(name), &format!("programs/{name}"))?;
        }
    }
    script.push_str(INIT_TAIL);
    for library in libraries {
        let to = root.join(library.trim_start_matches('/'));
        fs::create_dir_all(to.parent().context("a library has a folder")?)?;
        fs::copy(&library, to).with_context(|| format!("copying {library}"))?;
    }
    let init = root.join("init");
    fs::write(&init, script)?;
    fs::set_permissions(&init, fs::Permissions::from_mode(0o755))?;
    let archive = folder.join("root.cpio");
    let pack = "find . | cpio --quiet -o -H newc > ../root.cpio";
    run::checked(Command::new("sh").args(["-c", pack]).current_dir(&root))?;
    Ok(archive)
}

/// Absolute paths of what a program is linked with.
fn shared_libraries(program: &Path) -> Result<Vec<String>> {
    let list = run::captured(Command::new("ldd").arg(program))?;
    Ok(libraries_of(&list))
}

fn libraries_of(list: &str) -> Vec<String> {
    list.lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')))
        .map(str::to_owned)
        .collect()
}

/// The machine's first process.
const INIT_HEAD: &str = r#"#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin HOME=/ RUST_BACKTRACE=1 SELVAGE_KEYS_REQUIRED=1 SELVAGE_BIN_DIR=/programs SELVAGE_KEYS_EMULATED=1
mkdir -p /proc /sys /dev /tmp
mount -t proc none /proc; mount -t sysfs none /sys; mount -t devtmpfs none /dev; mount -t tmpfs none /tmp
ifconfig lo 127.0.0.1 up
echo 1 > /proc/sys/vm/overcommit_memory
echo 1000000 > /proc/sys/vm/max_map_count
passed=0; failed=0; skipped=0
grep -qm1 ' ospke' /proc/cpuinfo || { echo "this machine has no protection keys"; failed=1; }
run() {
    cd /tests
    if timeout @LIMIT@ env ${3:+@VARIABLE@=$3} ./$1 --exact $2 --test-threads=1 --nocapture >/tmp/out 2>&1; then
        if grep SKIPPED /tmp/out; then skipped=$((skipped+1)); return; fi
        passed=$((passed+1)); echo "ok $1 $2 $3 ($(cut -d' ' -f1 /proc/uptime) s)"
    else
        failed=$((failed+1)); cat /tmp/out; echo "FAILED $1 $2 $3"
    fi
}
"#;

const INIT_TAIL: &str = "echo \"selvage-keys: $passed passed, $failed failed, $skipped skipped\"\npoweroff -f\n";

/// Boots the machine, shows what it says, and gives its verdict.
fn boot(kernel: &Path, system: &Path, limit: Duration) -> Result<ExitCode> {
    let mut machine = Command::new("qemu-system-x86_64")
        .args(["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "4096", "-nodefaults", "-no-reboot"])
        .args(["-display", "none", "-serial", "stdio"])
        .arg("-kernel")
        .arg(kernel)
        .arg("-initrd")
        .arg(system)
        .args(["-append", "console=ttyS0 quiet panic=-1"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("starting qemu-system-x86_64")?;
    let output = machine.stdout.take().context("the machine has a console")?;
    let (lines, said) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            if lines.send(line).is_err() {
                return;
            }
        }
    });
    let end = Instant::now() + limit;
    let mut told = None;
    let in_time = loop {
        match said.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                eprintln!("{line}");
                told = line.find(VERDICT).and_then(|at| counts(&line[at + VERDICT.len()..])).or(told);
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => break true,
            Err(mpsc::RecvTimeoutError::Timeout) => break false,
        }
    };
    if !in_time {
        machine.kill().context("ending the machine")?;
    }
    machine.wait().context("waiting for the machine")?;
    drop(said);
    let _ended = reader.join();
    match told {
        Some((passed, failed)) => Ok(verdict(passed, failed)),
        None if in_time => bail!("the emulated machine ended without a verdict"),
        None => bail!("the emulated machine was not done after {} s (--time-limit)", limit.as_secs()),
    }
}

/// ` 12 passed, 0 failed, 1 skipped`
fn counts(text: &str) -> Option<(u32, u32)> {
    let mut words = text.split_whitespace();
    let passed = words.next()?.parse().ok()?;
    let failed = words.nth(1)?.parse().ok()?;
    Some((passed, failed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_is_read_and_nothing_passed_is_a_failure() {
        assert_eq!(counts(" 12 passed, 3 failed, 1 skipped"), Some((12, 3)));
        assert_eq!(counts(" panic"), None);
        assert_eq!(verdict(3, 0), ExitCode::SUCCESS);
        assert_eq!(verdict(3, 1), ExitCode::FAILURE);
        assert_eq!(verdict(0, 0), ExitCode::FAILURE);
    }

    #[test]
    fn of_some_programs_all_tests_are_wanted_of_others_some_of_the_rest_none() {
        for (source, start) in [
            ("/x/dataplane/pkey/tests/keys.rs", Some("")),
            ("/x/dataplane/isolate/src/lib.rs", Some("")),
            ("/x/dataplane/worker-api/tests/hostile.rs", Some(HOSTILE)),
            ("/x/dataplane/worker-api/src/lib.rs", None),
            ("/x/dataplane/worker-api/tests/limits.rs", None),
            ("/x/tests/e2e/main.rs", Some(END_TO_END)),
            ("/x/tests/src/lib.rs", None),
        ] {
            assert_eq!(start_of(source), start, "{source}");
        }
        let tests = Tests { program: PathBuf::new(), names: vec!["a".to_owned(), HOSTILE.to_owned()] };
        let runs: Vec<_> = tests.runs().collect();
        assert_eq!((runs.len(), runs[0], runs[1]), (1 + SHAPES.len(), ("a", None), (HOSTILE, Some(SHAPES[0]))));
    }

    #[test]
    fn libraries_are_found_whatever_ldd_says_of_them() {
        let list = "\tlinux-vdso.so.1 (0x00007)\n\tlibc.so.6 => /lib/x/libc.so.6 (0x7f)\n\t/lib64/ld-linux-x86-64.so.2 (0x7f)\n";
        assert_eq!(libraries_of(list), ["/lib/x/libc.so.6", "/lib64/ld-linux-x86-64.so.2"]);
    }
}
