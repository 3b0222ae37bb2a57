//! Which imported files are not code, as wrangler's `rules` say: text, bytes, WebAssembly.
//!
//! Pure. Globs become regular expressions of Go's, which esbuild matches absolute paths with. What a file becomes is a JavaScript
//! module in the bundle: one artifact stays one module (docs/decisions/2026-11-21-bundling.md).

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;

/// What a file is to the Worker that imports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(crate) enum ModuleKind {
    /// A string.
    Text,
    /// An `ArrayBuffer`.
    Data,
    /// A `WebAssembly.Module`.
    CompiledWasm,
    /// Code.
    ESModule,
    /// Code with `require`.
    CommonJS,
}

/// One rule: files of these globs are of that kind.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Rule {
    #[serde(rename = "type")]
    pub(crate) kind: ModuleKind,
    pub(crate) globs: Vec<String>,
    #[serde(default)]
    pub(crate) fallthrough: Option<bool>,
}

/// wrangler's own rules, which come after the project's.
const DEFAULTS: [(ModuleKind, &[&str]); 3] = [
    (ModuleKind::Text, &["**/*.txt", "**/*.html", "**/*.sql"]),
    (ModuleKind::Data, &["**/*.bin"]),
    (ModuleKind::CompiledWasm, &["**/*.wasm"]),
];

/// Filters in force, in order: a project's rule without `fallthrough` takes the place of the following ones of its kind.
pub(super) fn filters(rules: &[Rule]) -> Vec<(ModuleKind, String)> {
    let own = rules.iter().map(|rule| (rule.kind, rule.globs.clone(), rule.fallthrough == Some(true)));
    let defaults = DEFAULTS.iter().map(|(kind, globs)| (*kind, globs.iter().map(|&g| g.to_owned()).collect(), true));
    let mut closed: Vec<ModuleKind> = Vec::new();
    let mut filters = Vec::new();
    for (kind, globs, falls_through) in own.chain(defaults) {
        if closed.contains(&kind) {
            continue;
        }
        if !falls_through {
            closed.push(kind);
        }
        if !matches!(kind, ModuleKind::ESModule | ModuleKind::CommonJS) {
            filters.extend(globs.iter().map(|glob| (kind, expression(glob))));
        }
    }
    filters
}

/// The regular expression of a glob with `*`, `**`, `?`, `[…]` and `{a,b}`, for the end of a path.
fn expression(glob: &str) -> String {
    // `logo.wasm?module` is how some tools spell an import of a module; the path has no query.
    let glob = glob.strip_suffix("?module").unwrap_or(glob);
    let glob = glob.trim_start_matches("./");
    let mut out = String::from("(^|/)");
    let mut chars = glob.chars().peekable();
    let mut braces = 0;
    while let Some(c) = chars.next() {
        match c {
            '*' if chars.peek() == Some(&'*') => {
                chars.next();
                // `**/` stands for no folder too.
                match chars.next_if_eq(&'/') {
                    Some(_) => out.push_str("(.*/)?"),
                    None => out.push_str(".*"),
                }
            }
            '*' => out.push_str("[^/]*"),
            '?' => out.push_str("[^/]"),
            '{' => {
                braces += 1;
                out.push('(');
            }
            '}' if braces > 0 => {
                braces -= 1;
                out.push(')');
            }
            ',' if braces > 0 => out.push('|'),
            '/' => out.push('/'),
            c if c.is_alphanumeric() || c == '_' || c == '-' => out.push(c),
            c => {
                // Writing into a string does not fail.
                let _ = write!(out, "\\x{{{:x}}}", c as u32);
            }
        }
    }
    out.push_str(&")".repeat(braces));
    out.push('$');
    out
}

/// The module that a file becomes.
pub(super) fn module(kind: ModuleKind, bytes: &[u8]) -> (&'static str, Vec<u8>) {
    match kind {
        ModuleKind::Data => {
            ("js", format!("export default Uint8Array.fromBase64(\"{}\").buffer;\n", BASE64.encode(bytes)).into_bytes())
        }
        ModuleKind::CompiledWasm => {
            let bytes = BASE64.encode(bytes);
            ("js", format!("export default new WebAssembly.Module(Uint8Array.fromBase64(\"{bytes}\"));\n").into_bytes())
        }
        ModuleKind::Text => ("text", bytes.to_vec()),
        ModuleKind::ESModule | ModuleKind::CommonJS => ("js", bytes.to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_become_expressions() {
        assert_eq!(expression("**/*.txt"), r"(^|/)(.*/)?[^/]*\x{2e}txt$");
        assert_eq!(expression("./a/**"), "(^|/)a/.*$");
        assert_eq!(expression("x.{md,m?}"), r"(^|/)x\x{2e}(md|m[^/])$");
        assert_eq!(expression("**/*.wasm?module"), expression("**/*.wasm"));
        assert_eq!(expression("a{b"), "(^|/)a(b)$");
    }

    #[test]
    fn a_rule_without_fallthrough_ends_its_kind() {
        let rule = |fallthrough| Rule { kind: ModuleKind::Text, globs: vec!["**/*.md".into()], fallthrough };
        let count = |rules: &[Rule]| filters(rules).iter().filter(|(kind, _)| *kind == ModuleKind::Text).count();
        assert_eq!(count(&[]), 3);
        assert_eq!(count(&[rule(None)]), 1);
        assert_eq!(count(&[rule(Some(true))]), 4);
        assert_eq!(count(&[rule(Some(true)), rule(None), rule(None)]), 2);
    }
}
