//! `selvage-node validate`: one module in, one verdict out, in a process of its own, so that whatever the module does it
//! does to nobody else. The verdict is one line; with `--code-cache` the module's compiled code follows it, in its envelope
//! (`plane_abi::code`), to the end of the output. Its absence says nothing of the module.

use crate::ValidateArgs;
use anyhow::Context;
use base::limits::{CPU_STARTUP_NS, MODULE_BYTES_MAX, MS_NS};
use bytes::Bytes;
use plane_abi::code::{CodeEngine, pack};
use plane_abi::plane::artifact_hash;
use serde::Serialize;
use std::io::{Read, Write};
use worker_api::{Engine, StartError};

/// A message in a verdict, bytes; longer is cut. The module writes it, and the reader of the verdict has a bound of its own.
const MESSAGE_BYTES_MAX: usize = 4 * 1024;

/// The line on standard output.
#[derive(Serialize, Debug, PartialEq)]
#[serde(untagged)]
enum Report {
    Good { ok: bool, handlers: Vec<String>, startup_us: u64 },
    Bad { ok: bool, kind: &'static str, message: String, line: Option<u32>, column: Option<u32> },
}

/// Reads a module from standard input and writes the verdict. An error is a failure of the validator, not of the module.
pub(crate) fn run(args: &ValidateArgs) -> anyhow::Result<()> {
    let engine = Engine::init().context("cannot start the JavaScript engine")?;
    let mut module = Vec::new();
    // One byte more than allowed is enough to know that it is too many.
    std::io::stdin()
        .lock()
        .take(MODULE_BYTES_MAX as u64 + 1)
        .read_to_end(&mut module)
        .context("cannot read the module")?;
    let startup_ns = args.startup_ms.map_or(CPU_STARTUP_NS, |ms| ms * MS_NS);
    let module = Bytes::from(module);
    let report = match worker_api::validate_within(&engine, module.clone(), startup_ns) {
        Ok(verdict) => Report::Good { ok: true, handlers: verdict.handlers, startup_us: verdict.startup_us },
        Err(error @ StartError::Overloaded) => return Err(error).context("cannot start any module"),
        Err(error) => bad(error),
    };
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, &report)?;
    out.write_all(b"\n")?;
    // The verdict stands, whatever comes of the code.
    out.flush()?;
    let wanted = args.code_cache && matches!(report, Report::Good { .. });
    if let Some(envelope) = wanted.then(|| code(&engine, &module)).flatten() {
        out.write_all(&envelope)?;
        out.flush()?;
    }
    Ok(())
}

/// The module's compiled code in its envelope, if it is to be had within the limits.
fn code(engine: &Engine, module: &[u8]) -> Option<Vec<u8>> {
    let code = worker_api::compile_ahead(engine, module)?;
    let this = CodeEngine { version: engine.version().to_owned(), tag: engine.code_tag() };
    pack(&this, artifact_hash(module), &code).ok()
}

fn bad(error: StartError) -> Report {
    let text = error.to_string();
    let (kind, message, place) = match error {
        StartError::Syntax { message, line, column } => ("syntax", message, Some((line, column))),
        StartError::NoFetch => ("no_fetch", text, None),
        StartError::NotUtf8 => ("not_utf8", text, None),
        StartError::TooLarge => ("too_large", text, None),
        StartError::Part { .. } | StartError::Broken => ("syntax", text, None),
        StartError::Feature(_) => ("startup", text, None),
        StartError::Startup { message, place, .. } => ("startup", message, place),
        StartError::CpuLimit
        | StartError::MemoryLimit
        | StartError::Stuck
        | StartError::Exhausted
        | StartError::Overloaded => ("startup", text, None),
    };
    let (line, column) = place.unzip();
    Report::Bad { ok: false, kind, message: cut(message), line, column }
}

fn cut(mut message: String) -> String {
    if message.len() > MESSAGE_BYTES_MAX {
        message.truncate(message.floor_char_boundary(MESSAGE_BYTES_MAX));
        message.push('…');
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(report: &Report, expect: &str) {
        assert_eq!(serde_json::to_string(report).expect("serialises"), expect);
    }

    #[test]
    fn verdicts_are_as_the_control_plane_reads_them() {
        check(
            &Report::Good { ok: true, handlers: vec!["fetch".to_owned()], startup_us: 7 },
            r#"{"ok":true,"handlers":["fetch"],"startup_us":7}"#,
        );
        check(
            &bad(StartError::Syntax { message: "Unexpected token".to_owned(), line: 3, column: 9 }),
            r#"{"ok":false,"kind":"syntax","message":"Unexpected token","line":3,"column":9}"#,
        );
        check(
            &bad(StartError::NotUtf8),
            r#"{"ok":false,"kind":"not_utf8","message":"the module is not UTF-8","line":null,"column":null}"#,
        );
    }

    #[test]
    fn a_message_without_end_is_cut_between_letters() {
        let long = StartError::Startup { message: "ü".repeat(1 << 20), stack: String::new(), place: None };
        let Report::Bad { message, .. } = bad(long) else { panic!("a bad verdict") };
        assert!(message.len() <= MESSAGE_BYTES_MAX + '…'.len_utf8() && message.ends_with("ü…"), "{}", message.len());
    }
}
