//! Running other programs: one place that turns "it failed" into an error that names the program and why.
//!
//! Owns nothing. Every child is waited for here; children that outlive a call are `dev`'s business.

use std::fs::File;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context, Result, bail};

/// Runs to the end with our own standard streams; anything but exit code 0 is an error.
pub(crate) fn checked(command: &mut Command) -> Result<()> {
    let status = status(command)?;
    if !status.success() {
        bail!("`{}` failed: {status}", shown(command));
    }
    Ok(())
}

/// Runs to the end with our own standard streams and says how it ended.
pub(crate) fn status(command: &mut Command) -> Result<ExitStatus> {
    command.status().with_context(|| format!("starting `{}`", shown(command)))
}

/// Runs to the end and gives what it wrote to its standard output; its standard error is in the error if it fails.
pub(crate) fn captured(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("starting `{}`", shown(command)))?;
    if !output.status.success() {
        // Where a program answers in JSON, its errors are on standard output as well.
        let said = if output.stderr.trim_ascii().is_empty() { &output.stdout } else { &output.stderr };
        let said = String::from_utf8_lossy(said);
        bail!("`{}` failed: {}: {}", shown(command), output.status, said.trim());
    }
    String::from_utf8(output.stdout).with_context(|| format!("`{}` wrote something that is not UTF-8", shown(command)))
}

/// Runs to the end with both output streams appended to the file `log`; names that file if it fails.
pub(crate) fn logged(command: &mut Command, log: &Path) -> Result<()> {
    let out = append(log)?;
    let err = out.try_clone().context("sharing the log between two streams")?;
    let status = status(command.stdin(Stdio::null()).stdout(out).stderr(err))?;
    if !status.success() {
        bail!("`{}` failed: {status}; see {}\n{}", shown(command), log.display(), tail(log, 20));
    }
    Ok(())
}

/// Opens a log to write at its end.
pub(crate) fn append(log: &Path) -> Result<File> {
    File::options().create(true).append(true).open(log).with_context(|| format!("opening {}", log.display()))
}

/// The last `lines` lines of a text file, or nothing where it cannot be read.
pub(crate) fn tail(file: &Path, lines: usize) -> String {
    let text = std::fs::read(file).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// True when the name is an executable file in a folder of `PATH`.
pub(crate) fn on_path(program: &str) -> bool {
    use std::os::unix::fs::PermissionsExt;
    let Some(path) = std::env::var_os("PATH") else { return false };
    std::env::split_paths(&path).any(|folder| {
        folder.join(program).metadata().is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o111 != 0)
    })
}

/// The command as a person would type it, for messages; a long one is cut.
fn shown(command: &Command) -> String {
    const CHARS_MAX: usize = 200;
    let mut text = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        text.push(' ');
        text.push_str(&argument.to_string_lossy());
    }
    match text.char_indices().nth(CHARS_MAX) {
        Some((cut, _)) => format!("{}…", &text[..cut]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failure_names_the_program_its_code_and_its_words() {
        let error = captured(Command::new("sh").args(["-c", "echo out; echo why >&2; exit 3"])).unwrap_err();
        let text = format!("{error:#}");
        assert!(text.contains("sh -c") && text.contains("exit status: 3") && text.contains("why"), "{text}");
        assert_eq!(captured(Command::new("sh").args(["-c", "echo out"])).unwrap(), "out\n");
    }

    #[test]
    fn a_program_that_does_not_exist_is_not_on_the_path() {
        assert!(on_path("sh"));
        assert!(!on_path("selvage-no-such-program"));
    }
}
