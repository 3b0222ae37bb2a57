//! Release binaries: the one way in which every subcommand gets them.
//!
//! Owns which cargo command builds them. It is always the whole workspace, because cargo unites the features of what is
//! built together: a build of fewer packages would compile the same dependencies a second time with other features.

use std::path::PathBuf;
use std::{env, fs};

use anyhow::{Context, Result};

use crate::checkout::Checkout;
use crate::progress::say;
use crate::v8::Archive;
use crate::{packages, run, v8};

/// The variable that tells tests and benches where the binaries are. Set by the caller, nothing is built and those are taken.
pub(crate) const BIN_DIR_VARIABLE: &str = "SELVAGE_BIN_DIR";

/// What a build needs: system packages, V8's archive.
pub(crate) fn prepare(checkout: &Checkout) -> Result<Archive> {
    packages::ensure("building", packages::BUILD)?;
    v8::ready(checkout)
}

/// Builds all binaries in release and says where they are.
pub(crate) fn binaries(checkout: &Checkout, archive: &Archive) -> Result<PathBuf> {
    if let Some(given) = env::var_os(BIN_DIR_VARIABLE) {
        let given = PathBuf::from(given);
        say("build", format!("nothing: ${BIN_DIR_VARIABLE} names the binaries in {}", given.display()));
        return fs::canonicalize(&given).with_context(|| format!("resolving {}", given.display()));
    }
    say("build", "cargo build --release --workspace --bins");
    let mut build = checkout.cargo();
    build.args(["build", "--release", "--workspace", "--bins"]);
    archive.export(&mut build);
    run::checked(&mut build)?;
    Ok(checkout.target().join("release"))
}
