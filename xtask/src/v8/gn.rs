//! GN, the generator of V8's build files: made from the source package of Debian 13.
//!
//! Owns: getting that package without touching the system's package sources (its own list, its own state, the mirror
//! that the machine is set up with, Debian's own signatures), and compiling it. `$GN` names one that is there already.
//! Debian 12's own package is too old for this V8; the one in Debian 13 (2025-04-30) is right for it.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::progress::say;
use crate::run;

/// The release of Debian that the source package is taken from.
const SUITE: &str = "trixie";

/// Debian's signatures, on every Debian.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The compiler, as for V8 itself.
const COMPILER: &str = "/usr/lib/llvm-19/bin/clang++";

/// A GN that works, built in `work` unless it was before.
pub(super) fn ready(work: &Path, jobs: usize, log: &Path) -> Result<PathBuf> {
    if let Some(own) = env::var_os("GN") {
        say("v8", format!("GN: {} (from $GN)", Path::new(&own).display()));
        return Ok(PathBuf::from(own));
    }
    let folder = work.join("gn");
    let tree = folder.join("source");
    let gn = tree.join("out/gn");
    if gn.is_file() {
        return Ok(gn);
    }
    say("v8", format!("GN: building it from the source package of Debian's {SUITE}"));
    if !tree.join("build/gen.py").is_file() {
        let tarball = fetch(&folder, log)?;
        let fresh = folder.join("source.part");
        let _ = fs::remove_dir_all(&fresh);
        fs::create_dir_all(&fresh).with_context(|| format!("making {}", fresh.display()))?;
        let mut tar = Command::new("tar");
        tar.arg("--extract").arg("--file").arg(&tarball).arg("--directory").arg(&fresh).arg("--strip-components=1");
        run::logged(&mut tar, log)?;
        fs::rename(&fresh, &tree).context("naming GN's source")?;
    }
    let mut generate = Command::new("python3");
    generate.args(["build/gen.py", "--no-last-commit-position", "--no-static-libstdc++", "--allow-warnings"]);
    run::logged(generate.current_dir(&tree).env("CXX", COMPILER), log)?;
    let position = "#define LAST_COMMIT_POSITION_NUM 0\n#define LAST_COMMIT_POSITION \"0 (unknown)\"\n";
    fs::write(tree.join("out/last_commit_position.h"), position).context("writing GN's version")?;
    let mut ninja = Command::new("ninja");
    run::logged(ninja.current_dir(&tree).args(["-C", "out", "-j"]).arg(jobs.to_string()).arg("gn"), log)?;
    Ok(gn)
}

/// Downloads the upstream tarball of the package `generate-ninja`; apt checks it against Debian's signed index.
fn fetch(folder: &Path, log: &Path) -> Result<PathBuf> {
    let state = folder.join("apt");
    let (lists, cache) = (state.join("lists"), state.join("cache"));
    for it in [lists.join("partial"), cache.join("archives/partial")] {
        fs::create_dir_all(&it).with_context(|| format!("making {}", it.display()))?;
    }
    let sources = state.join("gn.sources");
    let mirror = debian_mirror()?;
    let signed = if Path::new(KEYRING).is_file() { format!("Signed-By: {KEYRING}\n") } else { String::new() };
    let entry = format!("Types: deb-src\nURIs: {mirror}\nSuites: {SUITE}\nComponents: main\n{signed}");
    fs::write(&sources, entry).with_context(|| format!("writing {}", sources.display()))?;
    let apt = || {
        let mut command = Command::new("apt-get");
        for (key, path) in [("Dir::Etc::sourcelist", &sources), ("Dir::State::lists", &lists), ("Dir::Cache", &cache)] {
            command.arg("-o").arg(format!("{key}={}", path.display()));
        }
        command.args(["-q", "-o", "Dir::Etc::sourceparts=/dev/null", "-o", "APT::Sandbox::User="]);
        command.current_dir(folder);
        command
    };
    run::logged(apt().arg("update"), log)?;
    run::logged(apt().args(["source", "--download-only", "--tar-only", "generate-ninja"]), log)?;
    let tarball = fs::read_dir(folder)
        .with_context(|| format!("reading {}", folder.display()))?
        .filter_map(|it| it.ok().map(|it| it.path()))
        .find(|it| it.file_name().is_some_and(|it| it.to_string_lossy().starts_with("generate-ninja_")));
    tarball.with_context(|| format!("apt left no tarball of generate-ninja in {}", folder.display()))
}

/// The Debian mirror that this machine's apt is set up with.
fn debian_mirror() -> Result<String> {
    const FORMAT: &str = "$(ORIGIN) $(RELEASE) $(REPO_URI)";
    let targets = run::captured(Command::new("apt-get").args(["indextargets", "--format", FORMAT]))?;
    match mirror_among(&targets) {
        Some(mirror) => Ok(mirror.to_owned()),
        None => bail!(
            "apt knows no Debian mirror to fetch GN's source from: run `apt-get update` on a Debian, or set GN to the path \
             of a GN of April 2025 or newer"
        ),
    }
}

/// The first plain Debian repository in lines of origin, release, address: not security, updates or backports.
fn mirror_among(targets: &str) -> Option<&str> {
    targets.lines().find_map(|line| {
        let mut words = line.split(' ');
        let (origin, release, uri) = (words.next()?, words.next()?, words.next()?);
        (origin == "Debian" && !release.contains('-') && !release.contains('/')).then_some(uri)
    })
}

#[cfg(test)]
mod tests {
    use super::mirror_among;

    #[test]
    fn the_mirror_is_the_plain_debian_repository() {
        let targets = "nodesource nodistro https://node.example/\n\
            Debian bookworm-security http://mirror.example/debian-security/\n\
            Debian bookworm-updates http://mirror.example/debian/\n\
            Debian bookworm http://mirror.example/debian/\n";
        assert_eq!(mirror_among(targets), Some("http://mirror.example/debian/"));
        assert_eq!(mirror_among("Ubuntu noble http://mirror.example/ubuntu/\n"), None);
        assert_eq!(mirror_among(""), None);
    }
}
