//! Upstream's own archive, for somebody who wants to try Selvage and has neither an archive nor half an hour.
//!
//! It has one pointer-compression cage for all isolates, so a protection key cannot cover a tenant: keys stay off.
//! Upstream publishes no checksum: what is downloaded over TLS is what is taken, and its checksum is kept from then on.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::archive::{self, Checked};
use super::{VERSION, source};
use crate::checkout::Checkout;
use crate::progress::say;
use crate::run;

/// The folder of the cache that it goes to.
pub(super) const FOLDER: &str = "upstream";

/// What it is called there.
pub(super) const BUILD: &str = "upstream";

/// Downloads and unpacks the archive into the cache.
pub(super) fn fetch(checkout: &Checkout, cache: &Path) -> Result<Checked> {
    let folder = cache.join(FOLDER);
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    let url = url(checkout)?;
    let packed = folder.join("download.part");
    say("v8", format!("downloading {url}"));
    let mut curl = Command::new("curl");
    curl.args([
        "--fail",
        "--location",
        "--proto",
        "=https",
        "--retry",
        "2",
        "--connect-timeout",
        "20",
        "--progress-bar",
    ]);
    run::checked(curl.arg("--output").arg(&packed).arg(&url)).context(
        "upstream's archive could not be downloaded: the network may refuse that host. Set RUSTY_V8_ARCHIVE to an \
         archive, SELVAGE_V8_DIR to a folder with one, or build it with `cargo xtask v8 --from-source`",
    )?;
    let part = folder.join("librusty_v8.a.part");
    let out = fs::File::create(&part).with_context(|| format!("making {}", part.display()))?;
    run::checked(Command::new("gzip").args(["--decompress", "--stdout", "--"]).arg(&packed).stdout(out))?;
    fs::remove_file(&packed).with_context(|| format!("removing {}", packed.display()))?;
    archive::install(&part, &folder, BUILD, cache)
}

/// The address that the crate's own build script would download from.
fn url(checkout: &Checkout) -> Result<String> {
    let script = source::registry_source(checkout)?.join("build.rs");
    let text = fs::read_to_string(&script).with_context(|| format!("reading {}", script.display()))?;
    let base = release_base(&text).with_context(|| format!("{} names no place for releases", script.display()))?;
    Ok(format!("{base}/v{VERSION}/librusty_v8_ptrcomp_release_x86_64-unknown-linux-gnu.a.gz"))
}

fn release_base(script: &str) -> Option<&str> {
    script
        .split_once("let default_base = \"")?
        .1
        .split_once('"')
        .map(|(base, _)| base)
        .filter(|it| it.starts_with("https://"))
}

#[cfg(test)]
mod tests {
    use super::release_base;

    #[test]
    fn the_place_of_releases_is_read_from_the_build_script() {
        assert_eq!(release_base("x\n let default_base = \"https://a.example/r\";\n"), Some("https://a.example/r"));
        assert_eq!(release_base("let default_base = \"file:///x\";"), None);
        assert_eq!(release_base("let base = 1;"), None);
    }
}
