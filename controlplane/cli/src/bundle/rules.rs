//! Which files are not code of the bundle, as wrangler's `rules` say: text, bytes, WebAssembly; and, where nothing is bundled, code.
//!
//! Pure. Globs become regular expressions of Go's, which esbuild matches absolute paths with. Such a file is uploaded beside the main module,
//! under a name that has its hash, and the bundle imports it from there, as wrangler does it.

use std::fmt::Write;

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::Part;

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

/// Code that is uploaded as it is, where nothing is bundled.
const UNBUNDLED: (ModuleKind, &[&str]) = (ModuleKind::ESModule, &["**/*.js", "**/*.mjs"]);

/// Globs in force, in order: a project's rule without `fallthrough` takes the place of the following ones of its kind.
fn in_force<'r>(
    rules: &'r [Rule],
    defaults: impl Iterator<Item = (ModuleKind, &'r [&'r str])>,
) -> Vec<(ModuleKind, &'r str)> {
    let own = rules.iter().map(|rule| {
        (rule.kind, rule.globs.iter().map(String::as_str).collect::<Vec<_>>(), rule.fallthrough == Some(true))
    });
    let defaults = defaults.map(|(kind, globs)| (kind, globs.to_vec(), true));
    let mut closed: Vec<ModuleKind> = Vec::new();
    let mut found = Vec::new();
    for (kind, globs, falls_through) in own.chain(defaults) {
        if closed.contains(&kind) {
            continue;
        }
        if !falls_through {
            closed.push(kind);
        }
        found.extend(globs.into_iter().map(|glob| (kind, glob)));
    }
    found
}

/// Filters of files that are not code.
pub(super) fn filters(rules: &[Rule]) -> Vec<(ModuleKind, String)> {
    let found = in_force(rules, DEFAULTS.into_iter()).into_iter();
    let found = found.filter(|(kind, _)| !matches!(kind, ModuleKind::ESModule | ModuleKind::CommonJS));
    found.map(|(kind, glob)| (kind, expression(glob))).collect()
}

/// What a file is where nothing is bundled; `path` is relative.
pub(super) fn kind_of(path: &str, rules: &[Rule]) -> Option<ModuleKind> {
    let found = in_force(rules, DEFAULTS.into_iter().chain([UNBUNDLED]));
    found.into_iter().find(|(_, glob)| glob_matches(glob.trim_start_matches("./"), path)).map(|(kind, _)| kind)
}

/// Whether a glob with `*`, `**`, `?` and `{a,b}` is a path.
pub(super) fn glob_matches(glob: &str, path: &str) -> bool {
    if let Some((before, rest)) = glob.split_once('{')
        && let Some((choices, after)) = rest.split_once('}')
    {
        return choices.split(',').any(|choice| glob_matches(&format!("{before}{choice}{after}"), path));
    }
    if let Some(rest) = glob.strip_prefix("**/") {
        let mut starts = std::iter::once(0).chain(path.match_indices('/').map(|(at, _)| at + 1));
        return starts.any(|at| glob_matches(rest, &path[at..]));
    }
    if glob == "**" {
        return true;
    }
    let Some(first) = glob.chars().next() else { return path.is_empty() };
    let rest = &glob[first.len_utf8()..];
    let next = path.chars().next();
    match first {
        '*' => {
            let end = path.find('/').unwrap_or(path.len());
            (0..=end).filter(|&at| path.is_char_boundary(at)).any(|at| glob_matches(rest, &path[at..]))
        }
        '?' => next.is_some_and(|c| c != '/' && glob_matches(rest, &path[c.len_utf8()..])),
        c => next == Some(c) && glob_matches(rest, &path[c.len_utf8()..]),
    }
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

impl ModuleKind {
    /// Its content type in an upload; none: it cannot be a module of its own.
    pub(crate) fn content_type(self) -> Option<&'static str> {
        match self {
            ModuleKind::Text => Some("text/plain"),
            ModuleKind::Data => Some("application/octet-stream"),
            ModuleKind::CompiledWasm => Some("application/wasm"),
            ModuleKind::ESModule => Some("application/javascript+module"),
            ModuleKind::CommonJS => None,
        }
    }
}

/// What imports of uploaded files look like in a bundle: `./`, 40 hex digits, `-`, the file's name.
pub(super) const UPLOADED: &str = r"^\./[0-9a-f]{40}-[^/]+$";

/// The module that is uploaded for a file, and the code that stands for the file in the bundle.
pub(super) fn module(kind: ModuleKind, path: &str, bytes: Vec<u8>) -> Option<(Part, String)> {
    let content_type = kind.content_type()?;
    let file = path.rsplit(['/', '\\']).next().unwrap_or_default();
    let safe = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
    let digest: String = Sha256::digest(&bytes).iter().take(20).map(|byte| format!("{byte:02x}")).collect();
    let name = format!("{digest}-{}", file.chars().map(safe).collect::<String>());
    let code = format!("import it from \"./{name}\";\nexport default it;\n");
    Some((Part { name, content_type, bytes }, code))
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
    fn globs_match_paths() {
        let check =
            |glob: &str, path: &str, expect: bool| assert_eq!(glob_matches(glob, path), expect, "{glob} {path}");
        check("**/*.txt", "a.txt", true);
        check("**/*.txt", "a/b/c.txt", true);
        check("*.txt", "a/b.txt", false);
        check("a/**", "a/b/c", true);
        check("x.{md,txt}", "x.txt", true);
        check("x.{md,txt}", "x.html", false);
        check("?.js", "ü.js", true);
        check("?.js", "ab.js", false);
    }

    #[test]
    fn a_file_becomes_a_module_beside_the_bundle() {
        let (part, code) = module(ModuleKind::Text, "/a b/ü\".txt", b"x".to_vec()).expect("a module");
        assert_eq!(part.name, "2d711642b726b04401627ca9fbac32f5c8530fb1-__.txt");
        assert_eq!(code, format!("import it from \"./{}\";\nexport default it;\n", part.name));
        assert!(model::rules::part_name("x", &part.name).is_ok());
        assert!(module(ModuleKind::CommonJS, "a.cjs", Vec::new()).is_none());
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
