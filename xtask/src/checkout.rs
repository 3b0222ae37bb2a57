//! Where this checkout is and how cargo is called in it.
//!
//! Owns: the repository's root, cargo's target folder, the environment that every build gets. Does not touch files.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::run;

/// The repository this binary was started for.
#[derive(Debug)]
pub(crate) struct Checkout {
    root: PathBuf,
    target: PathBuf,
}

/// The part of `cargo metadata` that says where things are.
#[derive(Deserialize)]
struct Places {
    workspace_root: PathBuf,
    target_directory: PathBuf,
}

impl Checkout {
    /// The checkout around the manifest that `cargo run` started us from, else around the current folder.
    pub(crate) fn find() -> Result<Self> {
        let mut metadata = Command::new(cargo());
        metadata.args(["metadata", "--no-deps", "--format-version=1", "--offline"]);
        if let Some(own) = env::var_os("CARGO_MANIFEST_DIR") {
            metadata.current_dir(own);
        }
        let places: Places =
            serde_json::from_str(&run::captured(&mut metadata)?).context("reading the answer of `cargo metadata`")?;
        ensure!(
            places.workspace_root.join(".cargo/config.toml").is_file(),
            "{} is not a checkout of Selvage: it has no .cargo/config.toml",
            places.workspace_root.display()
        );
        Ok(Self { root: places.workspace_root, target: places.target_directory })
    }

    /// The repository's root.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Cargo's target folder; outside the checkout where `CARGO_TARGET_DIR` says so.
    pub(crate) fn target(&self) -> &Path {
        &self.target
    }

    /// The place that `.cargo/config.toml` names as V8's archive.
    pub(crate) fn v8_link(&self) -> PathBuf {
        self.root.join(".v8/librusty_v8.a")
    }

    /// Cargo with the repository's root as its folder.
    pub(crate) fn cargo(&self) -> Command {
        let mut command = Command::new(cargo());
        command.current_dir(&self.root);
        // `cargo run` gives its own package's variables to us; to another cargo they would be noise in fingerprints.
        for (name, _) in env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
                command.env_remove(name);
            }
        }
        command
    }
}

fn cargo() -> PathBuf {
    env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from)
}
