//! Where things are in the checkout.

use std::path::PathBuf;

use anyhow::{Context, bail};

/// What the hono example answers to `/` without its variable.
pub const HONO_BODY: &str = "Hi from Hono\n";

/// The folder of the workspace's `Cargo.toml`, from the working directory upwards; else the working directory.
pub fn root() -> anyhow::Result<PathBuf> {
    let here = std::env::current_dir()?;
    let is_root = |dir: &&std::path::Path| {
        std::fs::read_to_string(dir.join("Cargo.toml")).is_ok_and(|text| text.contains("[workspace]"))
    };
    Ok(here.ancestors().find(is_root).unwrap_or(&here).to_path_buf())
}

/// A folder for results below `target/`, made if it is not there.
pub fn target_folder(name: &str) -> anyhow::Result<PathBuf> {
    let folder = root()?.join("target").join(name);
    std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    Ok(folder)
}

/// The module of an example below `docs/examples`.
pub fn example(name: &str) -> anyhow::Result<Vec<u8>> {
    let folder = root()?.join("docs/examples").join(name);
    for file in ["worker.js", "src/worker.js", "src/index.js", "index.js", "dist/worker.js", "worker.mjs"] {
        if let Ok(bytes) = std::fs::read(folder.join(file)) {
            return Ok(bytes);
        }
    }
    bail!("no worker.js or index.js in {}", folder.display())
}
