//! Release binaries: the one way in which every subcommand gets them.
//!
//! Owns which cargo command builds them. It is always the whole workspace, because cargo unites the features of what is
//! built together: a build of fewer packages would compile the same dependencies a second time with other features.

use std::path::PathBuf;

use anyhow::Result;

use crate::checkout::Checkout;
use crate::progress::say;
use crate::v8::Archive;
use crate::{packages, run, v8};

/// The variable that tells tests and benches where the binaries are.
pub(crate) const BIN_DIR_VARIABLE: &str = "SELVAGE_BIN_DIR";

/// What a build needs: system packages, V8's archive.
pub(crate) fn prepare(checkout: &Checkout) -> Result<Archive> {
    packages::ensure("building", packages::BUILD)?;
    v8::ready(checkout)
}

/// Builds all binaries in release and says where they are.
pub(crate) fn binaries(checkout: &Checkout, archive: &Archive) -> Result<PathBuf> {
    say("build", "cargo build --release --workspace --bins");
    let mut build = checkout.cargo();
    build.args(["build", "--release", "--workspace", "--bins"]);
    archive.export(&mut build);
    run::checked(&mut build)?;
    Ok(checkout.target().join("release"))
}
