//! `docs/ARCHITECTURE.md` has one entry per crate and none for a crate that is not there.

use std::collections::BTreeMap;

use super::metadata::Metadata;

/// Crates without an entry, with more than one, entries without a crate, and crates whose path is nowhere told.
pub(super) fn findings(metadata: &Metadata, page: &str) -> Vec<String> {
    let mut entries: BTreeMap<&str, usize> = BTreeMap::new();
    for line in page.lines() {
        if let Some(name) = line.strip_prefix("### `").and_then(|it| it.strip_suffix('`')) {
            *entries.entry(name).or_default() += 1;
        }
    }
    let mut findings = Vec::new();
    for package in &metadata.packages {
        match entries.remove(package.name.as_str()) {
            None => findings.push(format!("no entry \"### `{}`\"", package.name)),
            Some(1) => {}
            Some(count) => findings.push(format!("{count} entries \"### `{}`\"", package.name)),
        }
    }
    findings.extend(entries.keys().map(|it| format!("the entry \"### `{it}`\" is of no crate of the workspace")));
    findings
}

#[cfg(test)]
mod tests {
    use super::findings;
    use crate::tidy::metadata::testing::workspace;

    fn check(page: &str, expect: &[&str]) {
        let metadata = workspace(&[("dataplane/base", &[]), ("dataplane/h1", &[])]);
        let found = findings(&metadata, page);
        assert_eq!(found.len(), expect.len(), "{found:?}");
        assert!(found.iter().zip(expect).all(|(found, expect)| found.contains(expect)), "{found:?}");
    }

    #[test]
    fn entries_and_crates_are_the_same() {
        check("# A\n### `base`\nText.\n### `h1`\n", &[]);
        check("### `base`\n", &["no entry \"### `h1`\""]);
        check("### `base`\n### `h1`\n### `h1`\n", &["2 entries"]);
        check("### `base`\n### `h1`\n### `h2`\n", &["of no crate"]);
        check("#### `base`\n### h1\n", &["no entry", "no entry"]);
    }
}
