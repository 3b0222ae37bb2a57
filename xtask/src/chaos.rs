//! `cargo xtask chaos`: the long form of the control plane's test of processes that end (`controlplane/control/tests/chaos`).
//!
//! Owns nothing but the hand-over. Needs PostgreSQL, and no V8.

use std::process::ExitCode;

use anyhow::Result;

use crate::checkout::Checkout;
use crate::run;

/// Options of `cargo xtask chaos`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Deployments in the stream
    #[arg(long, default_value_t = 1000)]
    deployments: u32,
    /// What decides who ends when
    #[arg(long)]
    seed: Option<u64>,
}

/// Builds and runs it.
pub(crate) fn run(checkout: &Checkout, arguments: &Arguments) -> Result<ExitCode> {
    // Of the whole workspace, as all else is built: of fewer crates cargo would build dependencies again, with fewer features.
    let mut cargo = checkout.cargo();
    cargo.args(["test", "--release", "--workspace", "--test", "chaos", "--", "--nocapture"]);
    cargo.env("SELVAGE_CHAOS_DEPLOYMENTS", arguments.deployments.to_string());
    if let Some(seed) = arguments.seed {
        cargo.env("SELVAGE_E2E_SEED", seed.to_string());
    }
    run::checked(&mut cargo)?;
    Ok(ExitCode::SUCCESS)
}
