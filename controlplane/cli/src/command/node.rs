//! `selvage node`: hands over to `selvage-node`, which knows the node on this machine. The program beside this one, else the one of the path.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use crate::failure::{Failure, Outcome};

const PROGRAM: &str = "selvage-node";

/// Becomes `selvage-node` with those words; returns only where that fails.
pub(crate) fn run(words: &[OsString]) -> Outcome {
    let beside = std::env::current_exe().ok().and_then(|own| Some(own.parent()?.join(PROGRAM)));
    let program = beside.filter(|path| path.is_file()).unwrap_or_else(|| PathBuf::from(PROGRAM));
    let error = Command::new(&program).args(words).exec();
    Err(Failure::failed(format!("cannot run {}: {error}", program.display())))
}
