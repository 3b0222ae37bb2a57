//! Validation: a module is compiled, and its top level run, in an isolate of a separate process that is killed if it
//! takes too long. The validator is the node's own program (`selvage-node validate`), so that what is valid here runs there.
//!
//! The process gets the module on its standard input only after its limits are set: CPU seconds, memory, no core file, no
//! file that grows. It inherits no environment and no file of ours. What it says is taken only if it says it in full and
//! exits with 0; a module that brings the validator down is invalid, a validator that does not start is our fault.
//! After a good verdict it compiles the module ahead and writes the code behind the verdict. If that takes too long or too
//! much, the verdict stands and there is no code.
//!
//! *Bounds:* `RUNNING_MAX` processes, `WALL` each, `QUEUE_WAIT` to get a turn.

use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use model::{Location, ModuleError};
use plane_abi::code::ENVELOPE_BYTES_MAX;
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::sync::Semaphore;

/// From the start of the process to its end.
const WALL: Duration = Duration::from_secs(10);
/// How long an upload waits for its turn.
const QUEUE_WAIT: Duration = Duration::from_secs(30);
/// Validators that run at a time.
const RUNNING_MAX: usize = 2;
/// CPU time of a validator, seconds; the wall clock is the tighter limit unless it computes on many threads.
const CPU_S_MAX: u64 = 20;
/// Private writable memory of a validator, bytes. V8's reservations of address space do not count.
const DATA_BYTES_MAX: u64 = 2 << 30;
/// Open files of a validator.
const FILES_MAX: u64 = 64;
/// What a validator may say.
const STDOUT_BYTES_MAX: u64 = 256 * 1024 + ENVELOPE_BYTES_MAX as u64;
/// What is kept of its complaints, for the log.
const STDERR_BYTES_MAX: u64 = 4 * 1024;
/// A message to the tenant, bytes; longer is cut.
const MESSAGE_BYTES_MAX: usize = 4 * 1024;

/// Runs validators. Cheap to clone.
#[derive(Clone)]
pub struct Validator {
    program: PathBuf,
    turns: Arc<Semaphore>,
}

/// Why there is no verdict: a fault of ours, never of the module.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ValidatorError {
    /// The program did not start.
    #[error("the validator {program} did not start: {source}")]
    Spawn {
        /// Which program.
        program: String,
        /// Why not.
        source: std::io::Error,
    },
    /// It ran, and did not say what a validator says.
    #[error("the validator does not work: {0}")]
    Protocol(String),
    /// Too many uploads wait.
    #[error("no turn within {} s", QUEUE_WAIT.as_secs())]
    Busy,
}

/// `selvage-node validate`'s answer.
#[derive(Debug, Deserialize)]
struct Verdict {
    ok: bool,
    kind: Option<String>,
    message: Option<String>,
    line: Option<u32>,
    column: Option<u32>,
    #[serde(default)]
    handlers: Vec<String>,
}

impl Validator {
    /// Validators of this program.
    pub fn new(program: PathBuf) -> Validator {
        Validator { program, turns: Arc::new(Semaphore::new(RUNNING_MAX)) }
    }

    /// Whether this module can serve, and what the validator gave as its compiled code: bytes to be checked. The outer
    /// error is ours, the inner one the module's.
    pub(crate) async fn validate(&self, module: Bytes) -> Result<Result<Option<Bytes>, ModuleError>, ValidatorError> {
        let turn = tokio::time::timeout(QUEUE_WAIT, self.turns.acquire()).await.map_err(|_| ValidatorError::Busy)?;
        let _turn = turn.map_err(|_| ValidatorError::Busy)?;
        let mut child = self.spawn()?;
        let mut stdout = Vec::new();
        let result = tokio::time::timeout(WALL, converse(&mut child, module, &mut stdout)).await;
        let Ok(said) = result else {
            // Killed and reaped before the turn is given on.
            let _ = child.kill().await;
            if is_good(&stdout) {
                return Ok(Ok(None));
            }
            let message = format!("validation took more than {} s", WALL.as_secs());
            return Ok(Err(ModuleError { kind: "startup".to_owned(), message, location: None }));
        };
        judge(said.map_err(|error| ValidatorError::Protocol(error.to_string()))?, stdout)
    }

    fn spawn(&self) -> Result<Child, ValidatorError> {
        let mut command = Command::new(&self.program);
        command.args(["validate", "--code-cache"]).env_clear().current_dir("/").kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let program = self.program.display().to_string();
        let child = command.spawn().map_err(|source| ValidatorError::Spawn { program, source })?;
        limit(&child)?;
        Ok(child)
    }
}

/// Sets the limits of a process that has read nothing yet.
fn limit(child: &Child) -> Result<(), ValidatorError> {
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    let limits = [
        (Resource::Cpu, CPU_S_MAX),
        (Resource::Data, DATA_BYTES_MAX),
        (Resource::Nofile, FILES_MAX),
        (Resource::Core, 0),
        (Resource::Fsize, 0),
    ];
    for (resource, most) in limits {
        let limit = Rlimit { current: Some(most), maximum: Some(most) };
        prlimit(pid, resource, limit).map_err(|error| ValidatorError::Protocol(format!("its limits: {error}")))?;
    }
    Ok(())
}

struct Said {
    status: ExitStatus,
    stderr: String,
}

/// `kept` has what it said so far, also where this is cut off.
async fn converse(child: &mut Child, module: Bytes, kept: &mut Vec<u8>) -> std::io::Result<Said> {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (Some(mut stdin), Some(stdout), Some(stderr)) = (stdin, stdout, stderr) else {
        return Err(std::io::Error::other("no pipes"));
    };
    let write = async move {
        // It may answer and go before it has read everything: its answer counts then, not the broken pipe.
        let _ = stdin.write_all(&module).await;
        drop(stdin);
    };
    let mut complaints = Vec::new();
    let read_stdout = read_some(stdout, STDOUT_BYTES_MAX, kept);
    let read_stderr = read_some(stderr, STDERR_BYTES_MAX, &mut complaints);
    let ((), stdout, stderr) = tokio::join!(write, read_stdout, read_stderr);
    stdout.and(stderr)?;
    let status = child.wait().await?;
    Ok(Said { status, stderr: String::from_utf8_lossy(&complaints).into_owned() })
}

/// The first bytes of a stream that is read to its end.
async fn read_some(mut from: impl tokio::io::AsyncRead + Unpin, most: u64, kept: &mut Vec<u8>) -> std::io::Result<()> {
    (&mut from).take(most).read_to_end(kept).await?;
    tokio::io::copy(&mut from, &mut tokio::io::sink()).await?;
    Ok(())
}

/// The line of the verdict, and what follows it. `None` without a whole line.
fn split(stdout: &[u8]) -> Option<(&[u8], usize)> {
    let end = stdout.iter().position(|byte| *byte == b'\n')?;
    Some((&stdout[..end], end + 1))
}

/// Whether a whole good verdict was said, by a validator that ended badly after it.
fn is_good(stdout: &[u8]) -> bool {
    split(stdout).and_then(|(line, _)| serde_json::from_slice::<Verdict>(line).ok()).is_some_and(|verdict| verdict.ok)
}

fn judge(said: Said, stdout: Vec<u8>) -> Result<Result<Option<Bytes>, ModuleError>, ValidatorError> {
    use std::os::unix::process::ExitStatusExt;
    if let Some(signal) = said.status.signal() {
        if is_good(&stdout) {
            tracing::warn!(signal, "the validator ended while it compiled a module ahead");
            return Ok(Ok(None));
        }
        tracing::warn!(signal, stderr = said.stderr, "a module brought the validator down");
        let message = "the module needs more memory or time to start than it may have".to_owned();
        return Ok(Err(ModuleError { kind: "startup".to_owned(), message, location: None }));
    }
    if !said.status.success() {
        return Err(ValidatorError::Protocol(format!("{}: {}", said.status, said.stderr.trim())));
    }
    let (line, rest) = split(&stdout).unwrap_or((&stdout, stdout.len()));
    let verdict: Verdict = serde_json::from_slice(line)
        .map_err(|error| ValidatorError::Protocol(format!("its answer: {error}; {}", said.stderr.trim())))?;
    if verdict.ok {
        tracing::debug!(handlers = ?verdict.handlers, "module is valid");
        let code = Bytes::from(stdout).slice(rest..);
        return Ok(Ok(Some(code).filter(|code| !code.is_empty())));
    }
    let location = verdict.line.map(|line| Location { line, column: verdict.column });
    let mut message = verdict.message.unwrap_or_else(|| "the module cannot run".to_owned());
    if message.len() > MESSAGE_BYTES_MAX {
        let end = (0..=MESSAGE_BYTES_MAX).rev().find(|&at| message.is_char_boundary(at)).unwrap_or(0);
        message.truncate(end);
    }
    Ok(Err(ModuleError { kind: verdict.kind.unwrap_or_else(|| "startup".to_owned()), message, location }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// A program in the validator's place that does what `script` says: here the process around the verdict is tested,
    /// the verdicts themselves by the tests with the real one.
    async fn check(script: &str, module: &'static str) -> Result<Result<Option<Bytes>, ModuleError>, ValidatorError> {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("validator");
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).unwrap();
        Validator::new(program).validate(Bytes::from_static(module.as_bytes())).await
    }

    #[tokio::test]
    async fn takes_a_verdict() {
        let ok = r#"cat > /dev/null; echo '{"ok":true,"handlers":["fetch"],"startup_us":1}'"#;
        assert_eq!(check(ok, "x").await.unwrap(), Ok(None));
        let with_code = r#"cat > /dev/null; echo '{"ok":true}'; printf 'co\nde'"#;
        assert_eq!(check(with_code, "x").await.unwrap(), Ok(Some(Bytes::from_static(b"co\nde"))));
        let bad = r#"echo '{"ok":false,"kind":"syntax","message":"no","line":3,"column":7}'"#;
        let error = check(bad, "x").await.unwrap().unwrap_err();
        assert_eq!((error.kind.as_str(), error.message.as_str()), ("syntax", "no"));
        assert_eq!(error.location, Some(Location { line: 3, column: Some(7) }));
    }

    #[tokio::test]
    async fn a_module_that_kills_the_validator_is_invalid() {
        let error = check("kill -9 $$", "x").await.unwrap().unwrap_err();
        assert_eq!(error.kind, "startup");
    }

    #[tokio::test]
    async fn a_validator_that_dies_over_the_code_has_given_its_verdict() {
        assert_eq!(check(r#"echo '{"ok":true}'; printf half; kill -9 $$"#, "x").await.unwrap(), Ok(None));
        for script in [r#"printf '{"ok":true}'; kill -9 $$"#, r#"echo '{"ok":false}'; kill -9 $$"#] {
            assert!(check(script, "x").await.unwrap().is_err(), "{script}");
        }
    }

    #[tokio::test]
    async fn a_validator_that_does_not_work_is_no_verdict() {
        for script in ["exit 3", "echo nonsense", "true"] {
            assert!(matches!(check(script, "x").await, Err(ValidatorError::Protocol(_))), "{script}");
        }
        let missing = Validator::new("/nonexistent/selvage-node".into()).validate(Bytes::new()).await;
        assert!(matches!(missing, Err(ValidatorError::Spawn { .. })));
    }

    #[tokio::test]
    async fn limits_are_in_force_and_nothing_is_inherited() {
        // They are set before the module is sent, perhaps after the process began.
        let script = r#"read module; [ "$module" = secret ] || exit 7
            [ "$(ulimit -c)" = 0 ] && [ "$(ulimit -f)" = 0 ] && [ "$(ulimit -n)" = 64 ] || exit 9
            [ "$(ulimit -t)" = 20 ] && [ -z "$HOME$CARGO" ] || exit 8
            echo '{"ok":true}'"#;
        assert_eq!(check(script, "secret").await.unwrap(), Ok(None));
    }
}
