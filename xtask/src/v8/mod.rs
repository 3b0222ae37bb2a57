//! `cargo xtask v8`: finds V8's archive, or makes one, and puts it where cargo looks for it.
//!
//! Owns: the search order, the link `.v8/librusty_v8.a`, the user cache `~/.cache/selvage/v8`. Does not compile any Rust.
//! Invariants: an archive is used only after its bytes were checked; a bad candidate is named aloud and passed over;
//! whatever is in the user cache under its final name is whole (written under another name, then renamed).
//! Selvage wants the *multi-cage* build (a 4 GiB cage per isolate group), which nobody publishes: see
//! `docs/decisions`. Upstream's archive has one cage for all and is taken only when asked for by name.

mod archive;
mod gn;
mod source;
mod upstream;

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use self::archive::{Checked, Folder};
use crate::checkout::Checkout;
use crate::progress::{say, warn};
use crate::{packages, run};

/// The version of the `v8` crate that the workspace pins; the archive must be built from exactly this.
pub(super) const VERSION: &str = "146.9.0";

/// The variable that the `v8` crate's build script reads.
const VARIABLE: &str = "RUSTY_V8_ARCHIVE";

/// A folder that may hold a packed or unpacked archive.
const FOLDER_VARIABLE: &str = "SELVAGE_V8_DIR";

/// Options of `cargo xtask v8`.
#[derive(clap::Args, Default)]
pub(crate) struct Arguments {
    /// Build V8 from its published source even if an archive is at hand (35 minutes on two cores)
    #[arg(long, conflicts_with = "upstream")]
    from_source: bool,
    /// Download upstream's archive instead: one cage for all tenants, so protection keys stay off
    #[arg(long)]
    upstream: bool,
    /// Compilers at a time when building from source [default: one per core]
    #[arg(long, env = "JOBS")]
    jobs: Option<usize>,
}

/// The archive that builds use, and how cargo gets to know.
pub(crate) struct Archive {
    /// `None`: the link of the checkout, which `.cargo/config.toml` names already.
    callers: Option<OsString>,
}

impl Archive {
    /// Gives a cargo command the archive, whatever stands in our own environment.
    pub(crate) fn export(&self, command: &mut Command) {
        match &self.callers {
            Some(path) => command.env(VARIABLE, path),
            // Cargo sets it from its configuration. Set by us as well, plain `cargo build` would see a changed
            // environment and build the crate again.
            None => command.env_remove(VARIABLE),
        };
    }
}

/// Finds or makes an archive and links it into the checkout.
pub(crate) fn run(checkout: &Checkout, arguments: &Arguments) -> Result<Archive> {
    packages::ensure("building", packages::BUILD)?;
    let cache = cache_folder()?;
    let (checked, callers) = choose(checkout, arguments, &cache)?;
    link(checkout, &checked)?;
    say("v8", format!("{} -> {}", checkout.v8_link().display(), checked.path.display()));
    rebuild_if_changed(checkout, &cache, &checked)?;
    Ok(Archive { callers })
}

/// As [`run`] with no options: what every other subcommand calls before it builds.
pub(crate) fn ready(checkout: &Checkout) -> Result<Archive> {
    run(checkout, &Arguments::default())
}

/// The search, from the caller's own wish down to building it ourselves.
fn choose(checkout: &Checkout, arguments: &Arguments, cache: &Path) -> Result<(Checked, Option<OsString>)> {
    let jobs = arguments.jobs;
    if arguments.from_source {
        say("v8", "building from source, as asked");
        return Ok((source::build(checkout, cache, jobs)?, None));
    }
    if arguments.upstream {
        say("v8", "upstream's archive, as asked: one cage for all tenants, protection keys stay off");
        return Ok((upstream::fetch(checkout, cache)?, None));
    }

    if let Some(found) = from_variable(checkout, cache)? {
        return Ok(found);
    }
    let named = env::var_os(FOLDER_VARIABLE).map(PathBuf::from);
    let beside = checkout.root().parent().map(|it| it.join("shared/v8"));
    for (label, folder) in [(format!("${FOLDER_VARIABLE}"), named), ("beside the checkout".to_owned(), beside)] {
        let Some(folder) = folder else {
            say("v8", format!("{label}: not set"));
            continue;
        };
        if let Some(checked) = from_folder(&label, &folder, archive::MULTICAGE, cache)? {
            return Ok((checked, None));
        }
    }
    for part in [source::BUILT, archive::UNPACKED] {
        if let Some(checked) = from_folder("user cache", &cache.join(part), archive::MULTICAGE, cache)? {
            return Ok((checked, None));
        }
    }
    if let Some(checked) = from_folder("user cache", &cache.join(upstream::FOLDER), upstream::BUILD, cache)? {
        warn("v8", "this is upstream's archive: one cage for all tenants, protection keys stay off");
        return Ok((checked, None));
    }
    say("v8", "no archive anywhere: building it from source, once for this user (35 minutes on two cores)");
    Ok((source::build(checkout, cache, jobs)?, None))
}

/// `RUSTY_V8_ARCHIVE`, unless it is only what cargo's configuration gave us.
fn from_variable(checkout: &Checkout, cache: &Path) -> Result<Option<(Checked, Option<OsString>)>> {
    let Some(value) = env::var_os(VARIABLE).filter(|it| Path::new(it) != checkout.v8_link()) else {
        say("v8", format!("${VARIABLE}: not set"));
        return Ok(None);
    };
    let path = PathBuf::from(&value);
    match archive::check_file(&path, cache) {
        Ok(checked) => {
            say("v8", format!("${VARIABLE}: {}", path.display()));
            Ok(Some((checked, Some(value))))
        }
        Err(error) => {
            warn("v8", format!("${VARIABLE}: {error:#}; passed over (a plain `cargo build` would still use it)"));
            Ok(None)
        }
    }
}

fn from_folder(label: &str, folder: &Path, build: &str, cache: &Path) -> Result<Option<Checked>> {
    match archive::look_into(folder, build, cache) {
        Ok(Folder::Holds(checked)) => {
            say("v8", format!("{label}: found in {}", folder.display()));
            Ok(Some(checked))
        }
        Ok(Folder::Empty) => {
            say("v8", format!("{label}: no archive of V8 {VERSION} in {}", folder.display()));
            Ok(None)
        }
        Err(error) => {
            warn("v8", format!("{label}: {error:#}; passed over"));
            Ok(None)
        }
    }
}

/// `$XDG_CACHE_HOME/selvage/v8` or `~/.cache/selvage/v8`, made if need be.
fn cache_folder() -> Result<PathBuf> {
    let base = match env::var_os("XDG_CACHE_HOME").filter(|it| Path::new(it).is_absolute()) {
        Some(cache) => PathBuf::from(cache),
        None => match env::home_dir() {
            Some(home) => home.join(".cache"),
            None => bail!("no folder for caches: neither XDG_CACHE_HOME nor HOME is set"),
        },
    };
    let folder = base.join("selvage/v8");
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    Ok(folder)
}

/// Points the checkout's link at the archive, in one step.
fn link(checkout: &Checkout, checked: &Checked) -> Result<()> {
    let link = checkout.v8_link();
    let target = fs::canonicalize(&checked.path).with_context(|| format!("resolving {}", checked.path.display()))?;
    if fs::read_link(&link).is_ok_and(|it| it == target) {
        return Ok(());
    }
    if let Some(folder) = link.parent() {
        fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    }
    let fresh = link.with_extension(format!("a.{}", std::process::id()));
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error).context("clearing an old link"),
        _ => {}
    }
    std::os::unix::fs::symlink(&target, &fresh).with_context(|| format!("linking {}", fresh.display()))?;
    fs::rename(&fresh, &link).with_context(|| format!("replacing {}", link.display()))
}

/// The crate's build script copies the archive and does not look at it again. When the copy is of another archive,
/// cargo has to forget the crate; nothing else would make it link the new one.
fn rebuild_if_changed(checkout: &Checkout, cache: &Path, checked: &Checked) -> Result<()> {
    for profile in ["release", "debug"] {
        let copy = checkout.target().join(profile).join("gn_out/obj/librusty_v8.a");
        if !copy.is_file() || archive::sum_of(&copy, cache)? == checked.sha256 {
            continue;
        }
        say("v8", format!("the {profile} build was made with another archive: cargo will build the `v8` crate again"));
        let mut clean = checkout.cargo();
        clean.args(["clean", "--quiet", "--package", "v8"]);
        if profile == "release" {
            clean.arg("--release");
        }
        run::checked(&mut clean)?;
        fs::remove_file(&copy).with_context(|| format!("removing {}", copy.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::VERSION;

    #[test]
    fn the_version_is_the_one_that_the_workspace_pins() {
        let manifest = include_str!("../../../Cargo.toml");
        assert!(manifest.contains(&format!("v8 = {{ version = \"={VERSION}\"")), "root Cargo.toml pins another v8");
    }
}
