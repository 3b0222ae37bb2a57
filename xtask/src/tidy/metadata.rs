//! What `cargo metadata` says about the workspace's own crates, as much of it as the checks read.

use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::checkout::Checkout;
use crate::run;

#[derive(Deserialize)]
pub(super) struct Metadata {
    pub(super) packages: Vec<Package>,
    pub(super) workspace_root: PathBuf,
}

#[derive(Deserialize)]
pub(super) struct Package {
    pub(super) name: String,
    pub(super) manifest_path: PathBuf,
    pub(super) dependencies: Vec<Dependency>,
    pub(super) targets: Vec<Target>,
}

#[derive(Deserialize)]
pub(super) struct Dependency {
    pub(super) name: String,
    /// `None` for an ordinary dependency, else `dev` or `build`.
    pub(super) kind: Option<String>,
    /// Where it lies, for one of ours.
    pub(super) path: Option<PathBuf>,
}

#[derive(Deserialize)]
pub(super) struct Target {
    pub(super) kind: Vec<String>,
    pub(super) src_path: PathBuf,
}

impl Metadata {
    pub(super) fn read(checkout: &Checkout) -> Result<Self> {
        let mut command = checkout.cargo();
        let answer = run::captured(command.args(["metadata", "--no-deps", "--format-version=1"]))?;
        serde_json::from_str(&answer).context("reading the answer of `cargo metadata`")
    }
}

impl Package {
    /// Its folder from the root: `dataplane/base`.
    pub(super) fn folder(&self, metadata: &Metadata) -> String {
        let folder = self.manifest_path.parent().unwrap_or(&self.manifest_path);
        folder.strip_prefix(&metadata.workspace_root).unwrap_or(folder).display().to_string()
    }

    /// The top folder that it lies in: `dataplane`.
    pub(super) fn plane(&self, metadata: &Metadata) -> String {
        self.folder(metadata).split('/').next().unwrap_or_default().to_owned()
    }
}

impl Dependency {
    /// For tests of its own only.
    pub(super) fn is_dev(&self) -> bool {
        self.kind.as_deref() == Some("dev")
    }
}

#[cfg(test)]
pub(super) mod testing {
    use super::*;

    /// A workspace of packages `(folder, [dependency])`; a dependency `dev:x` is for tests, one in `ours` lies in the workspace.
    pub(in crate::tidy) fn workspace(packages: &[(&str, &[&str])]) -> Metadata {
        let root = PathBuf::from("/checkout");
        let ours: Vec<&str> = packages.iter().filter_map(|(folder, _)| folder.rsplit('/').next()).collect();
        let package = |(folder, dependencies): &(&str, &[&str])| Package {
            name: folder.rsplit('/').next().unwrap().to_owned(),
            manifest_path: root.join(folder).join("Cargo.toml"),
            dependencies: dependencies
                .iter()
                .map(|it| {
                    let (kind, name) =
                        it.split_once(':').map_or((None, *it), |(kind, name)| (Some(kind.to_owned()), name));
                    let path = ours.contains(&name).then(|| root.join(name));
                    Dependency { name: name.to_owned(), kind, path }
                })
                .collect(),
            targets: Vec::new(),
        };
        Metadata { packages: packages.iter().map(package).collect(), workspace_root: root.clone() }
    }
}
