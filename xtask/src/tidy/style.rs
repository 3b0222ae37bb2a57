//! The rules of style that are cheap to check: where `unsafe` may be, names and sizes of files, no paths of one machine.
//!
//! Reads every file that git tracks or would track. Bundles of other people's JavaScript in `docs/examples` are not held to
//! sizes.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::metadata::Metadata;
use crate::checkout::Checkout;
use crate::run;

/// Crates that may hold `unsafe`, each for a reason that its architecture entry tells. Library and programs of every other crate
/// say `#![forbid(unsafe_code)]`.
const UNSAFE: &[&str] = &["pkey", "isolate", "shard", "steer", "plane-abi"];

/// Lines of a source file without its tests.
const LINES_MAX: usize = 900;

/// Bytes of a file that is read; larger ones are data.
const BYTES_MAX: u64 = 4 << 20;

/// Everything that is not in style.
pub(super) fn findings(checkout: &Checkout, metadata: &Metadata) -> Result<Vec<String>> {
    let mut list = Command::new("git");
    list.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]).current_dir(checkout.root());
    let list = run::captured(&mut list)?;
    let mut findings = Vec::new();
    for name in list.split('\0').filter(|it| !it.is_empty()) {
        let path = checkout.root().join(name);
        // Deleted but not yet committed, a link, or data.
        if !fs::symlink_metadata(&path).is_ok_and(|it| it.is_file() && it.len() <= BYTES_MAX) {
            continue;
        }
        if let Ok(text) = fs::read_to_string(&path) {
            findings.extend(in_file(name, &text));
        }
    }
    for package in metadata.packages.iter().filter(|it| !UNSAFE.contains(&it.name.as_str())) {
        for target in package.targets.iter().filter(|it| it.kind.iter().any(|kind| kind == "lib" || kind == "bin")) {
            let name = target.src_path.strip_prefix(checkout.root()).unwrap_or(&target.src_path);
            let text = fs::read_to_string(&target.src_path).unwrap_or_default();
            findings.extend(in_root(name, &target.kind, &text));
        }
    }
    Ok(findings)
}

/// What is wrong with one text file.
fn in_file(name: &str, text: &str) -> Vec<String> {
    let mut findings = Vec::new();
    let path = Path::new(name);
    let stem = path.file_stem().and_then(|it| it.to_str()).unwrap_or_default();
    let extension = path.extension().and_then(|it| it.to_str()).unwrap_or_default();
    let source = matches!(extension, "rs" | "c" | "h" | "js" | "ts" | "sh") && !name.starts_with("docs/examples/");
    if source && matches!(stem, "utils" | "util" | "helpers" | "misc") {
        findings.push(format!("{name}: a file is named after what it owns"));
    }
    let lines = lines_without_tests(text);
    if source && lines > LINES_MAX {
        findings.push(format!("{name}: {lines} lines without tests, more than {LINES_MAX}"));
    }
    // Tables of cases that others made name whatever they name.
    let foreign = extension == "json" && name.contains("/tests/conformance/");
    for (number, line) in text.lines().enumerate().filter(|_| !foreign) {
        if let Some(found) = PRIVATE_PATHS.iter().find(|it| names_private_path(line, it)) {
            findings.push(format!("{name}:{}: a path of one machine ({found}…)", number + 1));
        }
    }
    findings
}

/// Where people and machines keep checkouts; spelt so that this file does not hold them.
const PRIVATE_PATHS: [&str; 4] =
    [concat!("/", "home/"), concat!("/", "root/"), concat!("/", "Users/"), concat!("/", "work/")];

/// The path begins there, and something follows: `a/work/b` and a lone `/work/` are other things.
fn names_private_path(line: &str, private: &str) -> bool {
    line.match_indices(private).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + private.len()..].chars().next();
        let begins = !before
            .is_some_and(|it| it.is_alphanumeric() || matches!(it, '.' | '_' | '-' | '/' | '~' | '}' | ')' | '*'));
        begins && after.is_some_and(|it| it.is_alphanumeric() || matches!(it, '.' | '_'))
    })
}

/// Lines before the unit tests at a file's end.
fn lines_without_tests(text: &str) -> usize {
    let lines: Vec<&str> = text.lines().collect();
    let tests =
        lines.windows(2).position(|it| it[0] == "#[cfg(test)]" && it[1].starts_with("mod ") && it[1].ends_with('{'));
    tests.unwrap_or(lines.len())
}

/// The first file of a target of a crate without `unsafe` has the compiler hold it to that.
fn in_root(name: &Path, kind: &[String], text: &str) -> Option<String> {
    if text.lines().any(|it| it.trim_end() == "#![forbid(unsafe_code)]") {
        return None;
    }
    Some(format!("{} ({}): no `#![forbid(unsafe_code)]`", name.display(), kind.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, text: &str, expect: &[&str]) {
        let found = in_file(name, text);
        assert_eq!(found.len(), expect.len(), "{found:?}");
        assert!(found.iter().zip(expect).all(|(found, expect)| found.contains(expect)), "{found:?}");
    }

    #[test]
    fn names_and_sizes() {
        check("a/src/freshness.rs", "fn f() {}\n", &[]);
        check("a/src/utils.rs", "", &["named after what it owns"]);
        check("docs/examples/x/utils.js", "", &[]);
        let long = "x\n".repeat(LINES_MAX + 1);
        check("a/src/b.rs", &long, &["901 lines"]);
        check("docs/examples/x/bundle.js", &long, &[]);
        let tested = format!("{}#[cfg(test)]\nmod tests {{\n{long}}}\n", "x\n".repeat(LINES_MAX));
        check("a/src/b.rs", &tested, &[]);
        check("a/src/b.rs", &format!("#[cfg(test)]\nmod tests;\n{long}"), &["903 lines"]);
    }

    #[test]
    fn paths_of_one_machine() {
        for private in PRIVATE_PATHS {
            check("a.md", &format!("see {private}me/x"), &["a path of one machine"]);
            check("a.md", &format!("see a{private}me, b.{private}x or {private} alone"), &[]);
        }
        check("a.rs", &format!("\n\n\"{}me\"", PRIVATE_PATHS[0]), &["a.rs:3:"]);
        check("a/tests/conformance/b.json", &format!("\"{}me\"", PRIVATE_PATHS[0]), &[]);
    }

    #[test]
    fn roots_forbid_unsafe() {
        let root = Path::new("a/src/lib.rs");
        let kind = ["lib".to_owned()];
        assert!(in_root(root, &kind, "//! Text.\n\n#![forbid(unsafe_code)]\n").is_none());
        for text in ["", "#![deny(unsafe_code)]\n", "// #![forbid(unsafe_code)]\n"] {
            assert!(in_root(root, &kind, text).is_some(), "{text:?}");
        }
    }
}
