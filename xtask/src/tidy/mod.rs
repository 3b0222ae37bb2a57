//! `cargo xtask tidy`: what the documents promise about the code, held against the code.
//!
//! Owns: the list of checks and how findings are shown. Each check is a function from texts to findings, in a module of its own, with a
//! test in which it must find something. All checks run; any finding fails the whole. Changes no file.

mod architecture;
mod arrows;
mod format;
mod metadata;
mod specification;
mod style;

use std::fs;

use anyhow::{Context, Result, bail};

use self::metadata::Metadata;
use crate::artifacts;
use crate::checkout::Checkout;
use crate::progress::{say, warn};
use crate::v8::Archive;

/// Options of `cargo xtask tidy`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Leave out clippy, which compiles: seconds instead of minutes
    #[arg(long)]
    fast: bool,
}

/// The subcommand: all checks, or those that need no build.
pub(crate) fn run(checkout: &Checkout, arguments: &Arguments) -> Result<()> {
    if arguments.fast {
        return check(checkout, None);
    }
    check(checkout, Some(&artifacts::prepare(checkout)?))
}

/// Runs every check; clippy only with V8's archive, which it needs to build the `v8` crate.
pub(crate) fn check(checkout: &Checkout, archive: Option<&Archive>) -> Result<()> {
    let metadata = Metadata::read(checkout)?;
    let document = |name: &str| {
        let path = checkout.root().join("docs").join(name);
        fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
    };
    let mut checks = vec![
        ("crate arrows", arrows::findings(&metadata)),
        ("architecture page", architecture::findings(&metadata, &document("ARCHITECTURE.md")?)),
        ("specification page", specification::findings(&document("SPECIFICATION.md")?)),
        ("style", style::findings(checkout, &metadata)?),
        ("rustfmt", format::rustfmt(checkout)?),
    ];
    if let Some(archive) = archive {
        checks.push(("clippy", format::clippy(checkout, archive)?));
    }
    let mut count = 0;
    for (name, findings) in checks {
        if findings.is_empty() {
            say("tidy", name);
        }
        for finding in &findings {
            warn("tidy", format!("{name}: {finding}"));
        }
        count += findings.len();
    }
    if count > 0 {
        bail!("{count} findings");
    }
    Ok(())
}
