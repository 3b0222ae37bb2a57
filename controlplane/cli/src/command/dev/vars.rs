//! `.dev.vars` and `.dev.vars.NAME`: variables of `dev` alone, where secrets are that no project file should have. One `KEY=value` a line, as wrangler
//! reads them: comments, quotes, `export`, `\n` in double quotes. Values are never printed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The file for an environment, if there is one.
pub(super) fn file(folder: &Path, environment: Option<&str>) -> Option<PathBuf> {
    let own = environment.map(|name| folder.join(format!(".dev.vars.{name}")));
    own.into_iter().chain([folder.join(".dev.vars")]).find(|file| file.is_file())
}

/// The variables in a text. A line that is none is left out.
pub(super) fn parse(text: &str) -> BTreeMap<String, String> {
    text.lines().filter_map(variable).collect()
}

fn variable(line: &str) -> Option<(String, String)> {
    let line = line.trim();
    let line = line.strip_prefix("export ").unwrap_or(line);
    let (key, value) = line.split_once('=').filter(|_| !line.starts_with('#'))?;
    let (key, value) = (key.trim(), value.trim());
    let quoted = value.chars().next().filter(|c| "\"'`".contains(*c)).and_then(|quote| {
        let (inside, _) = value[1..].split_once(quote)?;
        Some(if quote == '"' { inside.replace("\\n", "\n") } else { inside.to_owned() })
    });
    let value = quoted.unwrap_or_else(|| value.split(" #").next().unwrap_or_default().trim_end().to_owned());
    (!key.is_empty()).then(|| (key.to_owned(), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_wrangler_reads_them() {
        let text = "# secrets\nA=1\nexport B = \"x\\ny # z\" # w\nC='a=b'\nD=plain # said\nnothing\n=x\nE=\nF=\"open\n";
        let vars = parse(text);
        let pairs: Vec<(&str, &str)> = vars.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(pairs, [("A", "1"), ("B", "x\ny # z"), ("C", "a=b"), ("D", "plain"), ("E", ""), ("F", "\"open")]);
    }

    #[test]
    fn an_environments_own_file_wins() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        assert_eq!(file(dir.path(), None), None);
        std::fs::write(dir.path().join(".dev.vars"), "").expect("a file");
        std::fs::write(dir.path().join(".dev.vars.live"), "").expect("a file");
        assert_eq!(file(dir.path(), Some("live")), Some(dir.path().join(".dev.vars.live")));
        assert_eq!(file(dir.path(), Some("other")), Some(dir.path().join(".dev.vars")));
    }
}
