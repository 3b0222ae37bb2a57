//! The npm packages of `tests/npm`, which `cargo xtask npm-packages` installs.

use std::path::PathBuf;

use crate::{checkout, skipped};

/// The folder with `node_modules`; none, loudly, if nothing is installed there.
pub fn packages(what: &str) -> Option<PathBuf> {
    let folder = checkout("tests/npm");
    if esbuild().is_file() {
        return Some(folder);
    }
    skipped(&format!("{what}: no npm packages in tests/npm; `cargo xtask npm-packages` installs and tests them"));
    None
}

/// The pinned esbuild of `tests/npm`.
pub fn esbuild() -> PathBuf {
    let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "x64" };
    checkout("tests/npm/node_modules/@esbuild").join(format!("linux-{arch}/bin/esbuild"))
}
