//! Every promise of `docs/SPECIFICATION.md` names a command of `cargo xtask` that exists, and a state that is one.

use clap::CommandFactory;

/// The header of a table of promises.
const HEADER: &str = "| promise | command |";

/// Rows without a command, with one that does not exist, or without a state; no table at all.
pub(super) fn findings(page: &str) -> Vec<String> {
    let tasks: Vec<String> = crate::Arguments::command().get_subcommands().map(|it| it.get_name().to_owned()).collect();
    let mut findings = Vec::new();
    let mut tables = 0;
    let mut inside = false;
    for line in page.lines() {
        if line.starts_with(HEADER) {
            (inside, tables) = (true, tables + 1);
        } else if !line.starts_with('|') {
            inside = false;
        } else if inside && !line.starts_with("|--") && !line.starts_with("| --") {
            findings.extend(row(line, &tasks));
        }
    }
    if tables == 0 {
        findings.push(format!("no table that begins with \"{HEADER}\""));
    }
    findings
}

fn row(line: &str, tasks: &[String]) -> Option<String> {
    let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
    let [promise, command, state] = cells.as_slice() else {
        return Some(format!("not three cells: {line}"));
    };
    if state.is_empty() {
        return Some(format!("\"{promise}\" has no state: a number, \"tested\" or \"pending\""));
    }
    if command.starts_with("`cargo run --release -p ") && command.contains(" --example ") {
        return None;
    }
    let Some(words) = command.strip_prefix("`cargo xtask ").and_then(|it| it.strip_suffix('`')) else {
        return Some(format!("\"{promise}\" names no `cargo xtask` command and no example"));
    };
    let task = words.split(' ').next().unwrap_or_default();
    (!tasks.iter().any(|it| it == task))
        .then(|| format!("\"{promise}\" names `cargo xtask {task}`, which does not exist"))
}

#[cfg(test)]
mod tests {
    use super::findings;

    fn check(rows: &str, expect: &[&str]) {
        let page = format!(
            "# Specification\n\n| promise | command | last |\n|---|---|---|\n{rows}\n\n| other | table |\n|--|--|\n| x | y |\n"
        );
        let found = findings(&page);
        assert_eq!(found.len(), expect.len(), "{found:?}");
        assert!(found.iter().zip(expect).all(|(found, expect)| found.contains(expect)), "{found:?}");
    }

    #[test]
    fn promises_name_commands_that_exist() {
        check("| fast | `cargo xtask bench hello` | pending |\n| right | `cargo xtask test` | tested |", &[]);
        check("| fast | `cargo xtask bensh hello` | pending |", &["bensh"]);
        check("| fast | `cargo run --release -p isolate --example switch` | 1 ns |", &[]);
        check("| fast | `cargo test` | pending |", &["names no"]);
        check("| fast | | pending |", &["names no"]);
        check("| fast | `cargo xtask test` | |", &["no state"]);
        check("| fast | `cargo xtask test` |", &["not three cells"]);
        assert_eq!(findings("# Specification\n").len(), 1);
    }
}
