//! rustfmt and clippy: their own words are shown as they come, the finding is only that there were some.

use anyhow::Result;

use crate::checkout::Checkout;
use crate::run;
use crate::v8::Archive;

/// All of the workspace is formatted as `rustfmt.toml` says.
pub(super) fn rustfmt(checkout: &Checkout) -> Result<Vec<String>> {
    let status = run::status(checkout.cargo().args(["fmt", "--all", "--check"]))?;
    Ok(if status.success() { Vec::new() } else { vec!["not formatted: `cargo fmt --all`".to_owned()] })
}

/// No lint of the workspace fires, in code, tests or benches. In the release profile, because build scripts, procedural
/// macros and the C of SQLite and liburing are then compiled once for lints, tests and binaries.
pub(super) fn clippy(checkout: &Checkout, archive: &Archive) -> Result<Vec<String>> {
    let mut command = checkout.cargo();
    command.args(["clippy", "--release", "--workspace", "--all-targets", "--quiet", "--", "--deny", "warnings"]);
    archive.export(&mut command);
    let status = run::status(&mut command)?;
    Ok(if status.success() { Vec::new() } else { vec!["lints fired, or it does not compile".to_owned()] })
}
