//! Modules beside a main module that is not bundled: what lies below its folder and matches the project's rules (wrangler's
//! `find_additional_modules`).
//!
//! *Bounds:* as many files and bytes as an upload may have; folders [`DEPTH_MAX`] deep; `node_modules` and what begins with a dot is left out.

use std::path::Path;

use super::Part;
use super::rules::{ModuleKind, Rule, kind_of};
use crate::failure::{Failure, Kind, Outcome, io};

/// Folders in folders.
const DEPTH_MAX: usize = 32;

/// The modules below `folder`, the main one excepted, in the order of their names.
pub(crate) fn modules(main: &Path, folder: &Path, rules: &[Rule]) -> Outcome<Vec<Part>> {
    let mut parts = Vec::new();
    walk(main, folder, "", rules, &mut parts)?;
    parts.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(parts)
}

fn walk(main: &Path, folder: &Path, within: &str, rules: &[Rule], parts: &mut Vec<Part>) -> Outcome {
    for entry in std::fs::read_dir(folder).map_err(io("read", folder))? {
        let entry = entry.map_err(io("read", folder))?;
        let (path, name) = (entry.path(), entry.file_name());
        let Some(name) = name.to_str().filter(|name| !name.starts_with('.') && *name != "node_modules") else {
            continue;
        };
        let name = format!("{within}{name}");
        let kind = entry.file_type().map_err(io("read", &path))?;
        if kind.is_dir() {
            if name.split('/').count() <= DEPTH_MAX {
                walk(main, &path, &format!("{name}/"), rules, parts)?;
            }
            continue;
        }
        let content_type = kind_of(&name, rules).and_then(ModuleKind::content_type);
        let Some(content_type) = content_type.filter(|_| path != main) else { continue };
        let bytes = std::fs::read(&path).map_err(io("read", &path))?;
        parts.push(Part { name, content_type, bytes });
        let length: usize = parts.iter().map(|part| part.bytes.len()).sum();
        if parts.len() > model::rules::PARTS_MAX || length > model::rules::MODULE_BYTES_MAX {
            let text = format!("there are too many modules, or too large ones, below {}", folder.display());
            return Err(Failure::new(Kind::Invalid, text).hint("`rules` say which files are modules"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_match_rules_are_modules() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        for name in
            ["a.txt", "lib/x.wasm", "lib/deep/y.mjs", "main.js", "z.md", "node_modules/p/q.js", ".git/h.txt", "n.sql"]
        {
            std::fs::create_dir_all(at(name).parent().expect("a parent")).expect("a folder");
            std::fs::write(at(name), name).expect("a file");
        }
        let rule = Rule { kind: ModuleKind::Text, globs: vec!["**/*.md".into()], fallthrough: None };
        let check = |rules: &[Rule], expect: &[&str]| {
            let found = modules(&at("main.js"), folder.path(), rules).expect("modules");
            let names: Vec<&str> = found.iter().map(|part| part.name.as_str()).collect();
            assert_eq!(names, expect);
        };
        check(&[], &["a.txt", "lib/deep/y.mjs", "lib/x.wasm", "n.sql"]);
        check(&[rule], &["lib/deep/y.mjs", "lib/x.wasm", "z.md"]);
    }
}
