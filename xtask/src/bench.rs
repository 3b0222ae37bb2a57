//! `cargo xtask bench` and `cargo xtask load-test`: build in release, then hand over to `selvage-bench`.
//!
//! Owns nothing but the hand-over: arguments go through as they are, and so does the exit code, which says whether the promises
//! of `docs/SPECIFICATION.md` were kept.

use std::ffi::OsString;
use std::process::{Command, ExitCode};

use anyhow::Result;

use crate::artifacts::{self, BIN_DIR_VARIABLE};
use crate::checkout::Checkout;
use crate::run;

/// Arguments that are not ours.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Handed to `selvage-bench`; `--help` shows what there is
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<OsString>,
}

/// The benchmark of the route table, which needs no node and no V8: an example of its crate.
const ROUTE: &str = "route";

/// Runs `selvage-bench` with `before`, then the caller's arguments.
pub(crate) fn run(checkout: &Checkout, before: &[&str], arguments: &Arguments) -> Result<ExitCode> {
    if let Some((first, sizes)) = arguments.rest.split_first()
        && before.is_empty()
        && first == ROUTE
    {
        let mut cargo = checkout.cargo();
        cargo.args(["run", "--quiet", "--release", "--package", "route", "--example", "table", "--"]).args(sizes);
        let status = run::status(&mut cargo)?;
        return Ok(status.code().and_then(|it| u8::try_from(it).ok()).map_or(ExitCode::from(128), ExitCode::from));
    }
    let archive = artifacts::prepare(checkout)?;
    let bin = artifacts::binaries(checkout, &archive)?;
    let mut bench = Command::new(bin.join("selvage-bench"));
    bench.args(before).args(&arguments.rest).env(BIN_DIR_VARIABLE, &bin).current_dir(checkout.root());
    let status = run::status(&mut bench)?;
    // Ended by a signal, a program has no exit code; shells say 128 and more.
    Ok(status.code().and_then(|it| u8::try_from(it).ok()).map_or(ExitCode::from(128), ExitCode::from))
}
