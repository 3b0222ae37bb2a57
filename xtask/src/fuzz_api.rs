//! `cargo xtask fuzz-api`: the long form of the API's test against its own document (`tests/e2e/api_fuzz.rs`).
//!
//! Owns nothing but the hand-over. Needs schemathesis (PyPI), in `PATH` or where `SELVAGE_SCHEMATHESIS` says.

use std::process::{Command, ExitCode};

use anyhow::{Result, ensure};

use crate::checkout::Checkout;
use crate::run;

/// Options of `cargo xtask fuzz-api`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Requests made for each operation, at most
    #[arg(long, default_value_t = 100)]
    examples: u32,
}

/// Builds and runs it.
pub(crate) fn run(checkout: &Checkout, arguments: &Arguments) -> Result<ExitCode> {
    let program = std::env::var("SELVAGE_SCHEMATHESIS").unwrap_or_else(|_| "schemathesis".to_owned());
    let there = Command::new(&program).arg("--version").output().is_ok();
    ensure!(
        there,
        "{program} is not installed: `pip install 'schemathesis>=4,<5'`, or name it in SELVAGE_SCHEMATHESIS"
    );
    let mut build = checkout.cargo();
    run::checked(build.args(["build", "--release", "--workspace", "--lib", "--bins", "--tests", "--examples"]))?;
    let mut cargo = checkout.cargo();
    cargo.args(["test", "--release", "--workspace", "--test", "e2e", "--", "api_fuzz::", "--nocapture"]);
    cargo.env("SELVAGE_FUZZ_EXAMPLES", arguments.examples.to_string());
    run::checked(&mut cargo)?;
    Ok(ExitCode::SUCCESS)
}
