//! Where esbuild comes from, and the polyfills of `nodejs_compat`.
//!
//! Looked for in this order, the first of a version that is spoken here wins: `$SELVAGE_ESBUILD`; the project's own `node_modules`, wrangler's
//! among them, upwards to the root; `PATH`; the user's cache, which npm fills once from the lock file in this binary, hashes and all, and
//! which is never written to again. Nothing is fetched where something was found, and npm's scripts do not run.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::failure::{Failure, Outcome, io};
use crate::output::Output;

/// What `npm ci` fetches.
const PACKAGE: &str = include_str!("tools/package.json");
const LOCK: &str = include_str!("tools/package-lock.json");
/// Oldest esbuild whose answers are understood.
const OLDEST: (u32, u32) = (0, 24);

/// An esbuild that can be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tool {
    pub(super) program: PathBuf,
    pub(super) version: String,
}

/// Finds or fetches esbuild.
pub(super) fn esbuild(folder: &Path, output: &Output) -> Outcome<Tool> {
    if let Some(named) = std::env::var_os("SELVAGE_ESBUILD").filter(|it| !it.is_empty()) {
        let program = PathBuf::from(named);
        return tool(&program).ok_or_else(|| {
            let (major, minor) = OLDEST;
            Failure::usage(format!(
                "SELVAGE_ESBUILD={} is no esbuild of version {major}.{minor} or later",
                program.display()
            ))
        });
    }
    let installed = folder.ancestors().flat_map(|folder| {
        let modules = folder.join("node_modules");
        let own = Path::new("@esbuild").join(platform()).join("bin/esbuild");
        [modules.join(&own), modules.join("wrangler/node_modules").join(&own), modules.join(".bin/esbuild")]
    });
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|folder| folder.join("esbuild")).collect::<Vec<_>>();
    if let Some(tool) = installed.chain(on_path).filter(|program| program.is_file()).find_map(|it| tool(&it)) {
        return Ok(tool);
    }
    let program = fetched(output)?.join("node_modules/@esbuild").join(platform()).join("bin/esbuild");
    tool(&program).ok_or_else(|| {
        Failure::failed(format!("{} does not run on this machine", program.display()))
            .hint("name one that does with SELVAGE_ESBUILD")
    })
}

/// The folder of the package `unenv`, which has Node's modules for runtimes that are not Node.
pub(super) fn unenv(folder: &Path, output: &Output) -> Outcome<PathBuf> {
    let fits = |folder: &PathBuf| {
        let manifest = std::fs::read_to_string(folder.join("package.json")).unwrap_or_default();
        let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap_or_default();
        manifest["version"].as_str().is_some_and(|version| version.starts_with("2."))
    };
    let installed = folder.ancestors().map(|folder| folder.join("node_modules/unenv")).find(fits);
    let found = match installed {
        Some(found) => found,
        None => fetched(output)?.join("node_modules/unenv"),
    };
    // esbuild resolves what the polyfills import from where they really are.
    std::fs::canonicalize(&found).map_err(io("read", &found))
}

/// The name that esbuild's packages have for this machine.
fn platform() -> String {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "x64",
        "aarch64" => "arm64",
        other => other,
    };
    let os = if std::env::consts::OS == "macos" { "darwin" } else { std::env::consts::OS };
    format!("{os}-{arch}")
}

/// The program, if it is an esbuild of a version that is spoken here.
fn tool(program: &Path) -> Option<Tool> {
    let said = Command::new(program).arg("--version").stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    let version = String::from_utf8(said.stdout).ok()?.trim().to_owned();
    let mut numbers = version.split('.').map(|number| number.parse::<u32>().ok());
    let version_number = (numbers.next()??, numbers.next()??);
    numbers.next()??;
    (said.status.success() && version_number >= OLDEST).then(|| Tool { program: program.to_owned(), version })
}

/// The folder of the user's cache that npm filled, by now.
fn fetched(output: &Output) -> Outcome<PathBuf> {
    let cache = cache()?;
    let folder = cache.join(format!("tools-{:016x}", fnv1a(LOCK.as_bytes())));
    if folder.join("complete").is_file() {
        return Ok(folder);
    }
    output.note("Fetching esbuild and unenv with npm, once, for bundling…");
    std::fs::create_dir_all(&cache).map_err(io("create", &cache))?;
    // Filled under another name and moved when it is whole: two commands at once do not meet.
    let fresh = tempfile::Builder::new().prefix("fetching-").tempdir_in(&cache).map_err(io("create", &cache))?;
    for (name, text) in [("package.json", PACKAGE), ("package-lock.json", LOCK)] {
        let file = fresh.path().join(name);
        std::fs::write(&file, text).map_err(io("write", &file))?;
    }
    npm(fresh.path())?;
    std::fs::write(fresh.path().join("complete"), "").map_err(io("write", fresh.path()))?;
    let fresh = fresh.keep();
    match std::fs::rename(&fresh, &folder) {
        Ok(()) => Ok(folder),
        // Another command was first.
        Err(_) if folder.join("complete").is_file() => {
            let _ = std::fs::remove_dir_all(&fresh);
            Ok(folder)
        }
        Err(error) => Err(Failure::failed(format!("cannot make {}: {error}", folder.display()))),
    }
}

fn npm(folder: &Path) -> Outcome {
    const HINT: &str = "bundling needs esbuild: install Node.js with npm, or esbuild itself, or name one with SELVAGE_ESBUILD; \
                        a module without imports can be deployed as it is with `--no-bundle`";
    let said = Command::new("npm")
        .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error", "--fetch-retries=1"])
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| Failure::failed(format!("cannot run npm: {error}")).hint(HINT))?;
    if said.status.success() {
        return Ok(());
    }
    let mut failure = Failure::failed(format!("npm could not fetch esbuild: {}", said.status)).hint(HINT);
    let text = crate::output::printable(&String::from_utf8_lossy(&said.stderr));
    failure.excerpt = Some(text.lines().take(20).collect::<Vec<_>>().join("\n")).filter(|text| !text.is_empty());
    Err(failure)
}

/// `$XDG_CACHE_HOME/selvage`, or `~/.cache/selvage`.
fn cache() -> Outcome<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_CACHE_HOME")
        .or_else(|| Some(absolute("HOME")?.join(".cache")))
        .map(|cache| cache.join("selvage"))
        .ok_or_else(|| Failure::failed("there is no HOME to keep esbuild in").hint("name one with SELVAGE_ESBUILD"))
}

/// A name for a lock file's content; no protection is asked of it.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_program_that_says_a_version_is_a_tool() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let program = dir.path().join("esbuild");
        let check = |script: &str, version: Option<&str>| {
            use std::os::unix::fs::PermissionsExt;
            // A script in place of another: a new file, since the old one may still be running.
            let _ = std::fs::remove_file(&program);
            std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).expect("a file");
            std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("permissions");
            assert_eq!(tool(&program).map(|tool| tool.version).as_deref(), version, "{script}");
        };
        check("echo 0.28.2", Some("0.28.2"));
        check("echo 1.0.0", Some("1.0.0"));
        check("echo 0.17.19", None);
        check("echo esbuild", None);
        check("echo 0.28", None);
        check("echo 0.28.2; exit 1", None);
        assert_eq!(tool(&dir.path().join("none")), None);
    }

    #[test]
    fn the_lock_file_pins_every_package_by_its_hash() {
        let lock: serde_json::Value = serde_json::from_str(LOCK).expect("JSON");
        let packages = lock["packages"].as_object().expect("packages");
        for (name, package) in packages.iter().filter(|(name, _)| !name.is_empty()) {
            assert!(package["integrity"].as_str().is_some_and(|it| it.starts_with("sha512-")), "{name}");
            assert!(package["resolved"].is_null(), "{name}: npm's own registry setting decides where from");
        }
        for name in ["esbuild", "unenv", "@esbuild/linux-x64", "@esbuild/linux-arm64"] {
            assert!(packages.contains_key(&format!("node_modules/{name}")), "{name}");
        }
    }
}
