//! `cargo xtask test`: everything that can be tested on this machine, and what could not.
//!
//! Owns: the order (tidy, one build of all binaries and tests, npm packages, tests, doc tests), the two variables below, the report of what
//! was skipped. Every test lives in its crate or in `tests/`; none lives here.
//!
//! To tests it gives:
//! - `SELVAGE_BIN_DIR`: the folder of the release binaries (`selvage-control`, `selvage-node`, `selvage`, `selvage-bench`), built
//!   before the first test runs. Without it a test looks beside its own executable: `../` of its folder `deps`.
//! - `SELVAGE_SKIP_LOG`: a file to which a test that cannot run here appends one line, `SKIPPED: <what>: <why>`, in one write.
//!   Their lines are shown at the end of the run, so that nobody takes "not run" for "passed".
//! - `SELVAGE_E2E_FULL=1` with `--full`: tests that have a short form for every day run their long one.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::artifacts::{self, BIN_DIR_VARIABLE};
use crate::checkout::Checkout;
use crate::progress::{say, warn};
use crate::{npm, run, tidy};

/// The variable that names the file for lines `SKIPPED: <what>: <why>`.
const SKIP_LOG_VARIABLE: &str = "SELVAGE_SKIP_LOG";

/// The variable that asks for long forms.
const FULL_VARIABLE: &str = "SELVAGE_E2E_FULL";

/// Options of `cargo xtask test`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Only tests whose name contains this; leaves out tidy and doc tests
    filter: Option<String>,
    /// The long forms of tests that have a short one
    #[arg(long)]
    full: bool,
    /// Leave out tidy
    #[arg(long)]
    no_tidy: bool,
}

/// One step of the run, as the summary shows it.
struct Step {
    name: &'static str,
    passed: bool,
    took: Duration,
}

/// Runs all steps, whatever fails on the way, except that nothing is tested that was not built.
pub(crate) fn run(checkout: &Checkout, arguments: &Arguments) -> Result<ExitCode> {
    let archive = artifacts::prepare(checkout)?;
    let skips = checkout.target().join("selvage-skipped.log");
    fs::create_dir_all(checkout.target()).context("making the target folder")?;
    fs::write(&skips, "").with_context(|| format!("emptying {}", skips.display()))?;

    let mut steps = Vec::new();
    let mut step = |name: &'static str, work: &mut dyn FnMut() -> Result<()>| {
        say("test", name);
        let began = Instant::now();
        let result = work();
        if let Err(error) = &result {
            warn("test", format!("{name}: {error:#}"));
        }
        steps.push(Step { name, passed: result.is_ok(), took: began.elapsed() });
        result.is_ok()
    };

    let cargo = |line: &[&str]| {
        let mut command = checkout.cargo();
        command.args(line);
        archive.export(&mut command);
        command.env(BIN_DIR_VARIABLE, checkout.target().join("release")).env(SKIP_LOG_VARIABLE, &skips);
        if arguments.full {
            command.env(FULL_VARIABLE, "1");
        }
        command
    };
    let whole = arguments.filter.is_none();
    if whole && !arguments.no_tidy {
        step("tidy", &mut || tidy::check(checkout, Some(&archive)));
    }
    // Binaries and tests in one go: they then share every dependency, features and all.
    let built = step("build", &mut || {
        // Where the time goes: target/cargo-timings.
        let what = ["--workspace", "--lib", "--bins", "--tests", "--examples"];
        run::checked(cargo(&["build", "--release", "--timings"]).args(what))
    });
    if built {
        // Without them the tests that need them say that they were skipped.
        npm::install(checkout);
        let nextest = run::captured(Command::new("cargo-nextest").args(["nextest", "--version"])).is_ok();
        step("tests", &mut || {
            let mut command = if nextest {
                cargo(&["nextest", "run", "--release", "--workspace", "--no-fail-fast"])
            } else {
                cargo(&["test", "--release", "--workspace", "--no-fail-fast", "--lib", "--bins", "--tests"])
            };
            run::checked(command.args(&arguments.filter))
        });
        if whole {
            step("doc tests", &mut || {
                run::checked(&mut cargo(&["test", "--release", "--workspace", "--doc", "--quiet"]))
            });
        }
    }
    let log = fs::read_to_string(&skips).with_context(|| format!("reading {}", skips.display()))?;
    let mut skipped = skipped(&log);
    if !arguments.full && std::env::var_os(FULL_VARIABLE).is_none() {
        skipped
            .insert("the long forms of end-to-end tests: their short forms ran; `cargo xtask test --full` runs them");
    }
    Ok(report(&steps, &skipped))
}

/// The lines of the skip log, each once.
fn skipped(log: &str) -> BTreeSet<&str> {
    log.lines().map(str::trim).filter(|it| !it.is_empty()).map(|it| it.trim_start_matches("SKIPPED: ")).collect()
}

/// Says how each step went and what was skipped, and gives the exit code.
fn report(steps: &[Step], skipped: &BTreeSet<&str>) -> ExitCode {
    eprintln!();
    for it in steps {
        let verdict = if it.passed { "passed" } else { "FAILED" };
        let line = format!("{verdict}  {} ({} s)", it.name, it.took.as_secs());
        if it.passed { say("test", line) } else { warn("test", line) }
    }
    if skipped.is_empty() {
        say("test", "nothing was skipped");
    } else {
        warn("test", format!("SKIPPED on this machine, {}:", skipped.len()));
        for it in skipped {
            warn("skipped", it);
        }
    }
    if steps.iter().all(|it| it.passed) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skips_are_shown_once_and_without_their_mark() {
        let log = "SKIPPED: sim: no clock\nSKIPPED: ebpf: no CAP_BPF\nSKIPPED: sim: no clock\n\n";
        assert_eq!(skipped(log).into_iter().collect::<Vec<_>>(), ["ebpf: no CAP_BPF", "sim: no clock"]);
    }

    #[test]
    fn one_failed_step_fails_the_run() {
        let step = |passed| Step { name: "x", passed, took: Duration::ZERO };
        let none = BTreeSet::new();
        assert_eq!(report(&[step(true), step(true)], &none), ExitCode::SUCCESS);
        assert_eq!(report(&[step(true), step(false)], &none), ExitCode::FAILURE);
    }
}
