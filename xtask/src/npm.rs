//! `cargo xtask npm-packages`: packages from npm, bundled and deployed by our command as their users would, and checked over HTTP.
//!
//! Owns the installation into `tests/npm`, by its lock file, with npm's scripts off. The checks are Workers there, what runs them is
//! `tests/e2e/npm_packages.rs`; `cargo xtask test` runs them too, wherever the packages can be had.

use std::fs;
use std::process::{Command, ExitCode};

use anyhow::{Result, bail};

use crate::artifacts::{self, BIN_DIR_VARIABLE};
use crate::checkout::Checkout;
use crate::progress::{say, warn};
use crate::run;

/// Options of `cargo xtask npm-packages`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Only Workers whose path contains this
    only: Option<String>,
}

/// Installs, builds and tests.
pub(crate) fn run(checkout: &Checkout, arguments: &Arguments) -> Result<ExitCode> {
    if !install(checkout) {
        bail!("the npm packages of tests/npm cannot be had");
    }
    let archive = artifacts::prepare(checkout)?;
    let bin = artifacts::binaries(checkout, &archive)?;
    let mut command = checkout.cargo();
    command.args(["test", "--release", "-p", "e2e", "--test", "e2e", "--", "--nocapture", "--test-threads=1"]);
    command
        .args(["npm_packages::", "templates::", "browser::", "bundling::", "main_job::dev_shows"])
        .env(BIN_DIR_VARIABLE, bin);
    if let Some(only) = &arguments.only {
        command.env("SELVAGE_NPM_ONLY", only);
    }
    archive.export(&mut command);
    run::checked(&mut command)?;
    Ok(ExitCode::SUCCESS)
}

/// Whether the packages are there, by now. Without npm or a registry they are not, which is said.
pub(crate) fn install(checkout: &Checkout) -> bool {
    let folder = checkout.root().join("tests/npm");
    let age = |file: &str| fs::metadata(folder.join(file)).and_then(|meta| meta.modified()).ok();
    // npm writes this file last.
    let (wanted, installed) = (age("package-lock.json"), age("node_modules/.package-lock.json"));
    if installed.is_some() && installed >= wanted {
        return true;
    }
    if !run::on_path("npm") {
        warn("npm", "there is no npm on this machine");
        return false;
    }
    say("npm", "installing the packages of tests/npm");
    // Versions and hashes of the lock file, as with `npm ci`; which however refuses a lock file that was made where a registry lacks native
    // addons for some systems, and no Worker uses those.
    let mut npm = Command::new("npm");
    npm.args([
        "install",
        "--no-save",
        "--ignore-scripts",
        "--no-audit",
        "--no-fund",
        "--loglevel=error",
        "--fetch-retries=1",
    ]);
    npm.args(["--fetch-timeout=30000"]).current_dir(&folder);
    match run::checked(&mut npm) {
        Ok(()) => true,
        Err(error) => {
            warn("npm", format!("{error:#}"));
            false
        }
    }
}
