//! esbuild's errors and warnings as this command shows them: the author's file, line, and a caret.
//!
//! Pure but for reading the files that are shown. What esbuild says of Node's modules is said in this platform's terms.

use std::path::{Component, Path, PathBuf};

use super::node::is_builtin;
use super::packet::Value;
use crate::excerpt::excerpt;
use crate::failure::{Failure, Kind, Place};
use crate::output::printable;

/// Errors that are shown whole.
const SHOWN_MAX: usize = 10;

/// One message.
struct Message {
    text: String,
    place: Option<Place>,
    source: String,
    notes: Vec<String>,
    hint: Option<String>,
}

/// An answer to an import that cannot be.
pub(super) fn refusal(text: &str) -> Value {
    let message = Value::map([
        ("id", "".into()),
        ("pluginName", "selvage".into()),
        ("text", text.into()),
        ("location", Value::Null),
        ("notes", Value::List(Vec::new())),
        ("detail", Value::Int(u32::MAX)),
    ]);
    Value::map([("errors", Value::List(vec![message]))])
}

/// The failure that these errors are; none if there are none. `folder` is the project's as the user names it.
pub(super) fn failure(errors: &[Value], folder: &Path, node: bool) -> Option<Failure> {
    let messages: Vec<Message> = errors.iter().map(|error| message(error, folder, node)).collect();
    let first = messages.first()?;
    let others = match messages.len() - 1 {
        0 => String::new(),
        1 => " (and 1 more error)".to_owned(),
        count => format!(" (and {count} more errors)"),
    };
    let mut failure = Failure::new(Kind::Invalid, format!("{}{others}", first.headline()));
    failure.place.clone_from(&first.place);
    failure.hint = messages.iter().find_map(|message| message.hint.clone());
    let mut shown = Vec::new();
    for (number, message) in messages.iter().take(SHOWN_MAX).enumerate() {
        if number > 0 {
            shown.push(message.headline());
        }
        shown.extend(message.place.as_ref().and_then(|place| excerpt(&message.source, place)));
        shown.extend(message.notes.iter().map(|note| format!("   {note}")));
    }
    failure.excerpt = Some(shown.join("\n")).filter(|text| !text.is_empty());
    Some(failure)
}

/// Warnings, one text each. What packages do is not the author's to mend.
pub(super) fn warnings(warnings: &[Value], folder: &Path) -> Vec<String> {
    let messages = warnings.iter().map(|warning| message(warning, folder, true));
    let own = |message: &Message| !message.place.as_ref().is_some_and(|place| place.file.contains("node_modules/"));
    messages.filter(own).map(|message| message.headline()).collect()
}

impl Message {
    fn headline(&self) -> String {
        match &self.place {
            Some(place) => format!("{place}: {}", self.text),
            None => self.text.clone(),
        }
    }
}

fn message(value: &Value, folder: &Path, node: bool) -> Message {
    let mut text = printable(value.text("text"));
    let mut notes: Vec<String> = value.list("notes").iter().map(|note| said(note, folder)).collect();
    let mut hint = None;
    if let Some(name) = unresolved(&text) {
        if name.starts_with("cloudflare:") {
            text = format!("{name:?} is not there on this platform");
            notes.clear();
        } else if is_builtin(&name) && !node {
            text = format!("{name:?} is a module of Node's, and the project does not ask for Node's modules");
            hint = Some("add `compatibility_flags = [\"nodejs_compat\"]` to wrangler.toml".to_owned());
            notes.clear();
        } else if is_builtin(&name) {
            text = format!("{name:?} is not there, even with nodejs_compat");
            notes.clear();
        } else if !name.starts_with(['.', '/']) {
            hint = Some(format!("`npm install {}`, if it is a package", package(&name)));
            // esbuild's advice is about its own options.
            notes.retain(|note| !note.contains("external"));
        }
    }
    let location = value.get("location").filter(|location| location.int("line").is_some_and(|line| line > 0));
    let place = location.map(|location| place(location, folder));
    // A module of another namespace, or a file that has gone: the line alone, at its number.
    let source = place.as_ref().map(|place| {
        std::fs::read_to_string(&place.file).unwrap_or_else(|_| {
            let line = location.map_or("", |location| location.text("lineText"));
            format!("{}{line}", "\n".repeat(place.line as usize - 1))
        })
    });
    Message { text, place, source: source.unwrap_or_default(), notes, hint }
}

/// The X of `Could not resolve "X"`.
fn unresolved(text: &str) -> Option<String> {
    let rest = text.strip_prefix("Could not resolve \"")?;
    rest.split('"').next().map(str::to_owned)
}

/// `@scope/name` of `@scope/name/part`.
fn package(name: &str) -> String {
    let parts = if name.starts_with('@') { 2 } else { 1 };
    name.split('/').take(parts).collect::<Vec<_>>().join("/")
}

fn said(note: &Value, folder: &Path) -> String {
    let text = printable(note.text("text"));
    match note.get("location").filter(|location| location.int("line").is_some()) {
        Some(location) => format!("{}: {text}", place(location, folder)),
        None => text,
    }
}

fn place(location: &Value, folder: &Path) -> Place {
    let file = plain(&folder.join(location.text("file"))).display().to_string();
    // esbuild counts bytes from 0.
    let line = location.text("lineText");
    let column = line.floor_char_boundary(location.int("column").unwrap_or(0) as usize);
    Place {
        file: printable(&file),
        line: location.int("line").unwrap_or(1),
        column: line[..column].chars().count() as u32 + 1,
    }
}

/// The path without `.`, and without `..` where it goes back from a named folder.
pub(crate) fn plain(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir if matches!(out.components().next_back(), Some(Component::Normal(_))) => {
                out.pop();
            }
            part => out.push(part),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str, line: u32, column: u32, line_text: &str) -> Value {
        let location = Value::map([
            ("file", "src/a.ts".into()),
            ("line", Value::Int(line)),
            ("column", Value::Int(column)),
            ("lineText", line_text.into()),
        ]);
        let note = Value::map([("text", "You can mark it as external".into()), ("location", Value::Null)]);
        Value::map([("text", text.into()), ("location", location), ("notes", Value::List(vec![note]))])
    }

    #[test]
    fn the_first_error_is_the_failure_and_all_are_shown() {
        let errors = [error("Expected \";\"", 3, 7, "\"äö\" x"), error("Unexpected \"}\"", 9, 0, "}")];
        let failure = failure(&errors, Path::new("app"), false).expect("errors");
        assert_eq!(failure.kind, Kind::Invalid);
        assert_eq!(failure.message, "app/src/a.ts:3:6: Expected \";\" (and 1 more error)");
        let excerpt = failure.excerpt.expect("an excerpt");
        assert!(excerpt.contains("3 │ \"äö\" x\n  │      ^"), "{excerpt}");
        assert!(excerpt.contains("app/src/a.ts:9:1: Unexpected"), "{excerpt}");
        assert!(super::failure(&[], Path::new("app"), false).is_none());
    }

    #[test]
    fn what_cannot_be_resolved_is_said_in_the_platforms_terms() {
        let check = |name: &str, node: bool, message: &str, hint: &str| {
            let failure = failure(&[error(&format!("Could not resolve \"{name}\""), 1, 0, "x")], Path::new("."), node);
            let failure = failure.expect("an error");
            assert!(failure.message.contains(message), "{failure:?}");
            assert!(failure.hint.as_deref().unwrap_or_default().contains(hint), "{failure:?}");
            assert!(!failure.excerpt.expect("an excerpt").contains("external"));
        };
        check("node:fs", false, "src/a.ts:1:1: \"node:fs\" is a module of Node's", "nodejs_compat");
        check("crypto", false, "is a module of Node's", "nodejs_compat");
        check("node:nothing", true, "even with nodejs_compat", "");
        check("@x/y/z", false, "Could not resolve", "npm install @x/y`");
        check("cloudflare:sockets", true, "not there on this platform", "");
    }

    #[test]
    fn paths_are_shown_plainly() {
        for (path, expect) in [("./a/../b", "b"), ("a/b/../../c", "c"), ("../../x", "../../x"), ("/a/./b/../c", "/a/c")]
        {
            assert_eq!(plain(Path::new(path)), Path::new(expect), "{path}");
        }
    }

    #[test]
    fn warnings_of_packages_are_not_shown() {
        let warning = |file: &str| {
            let location = Value::map([("file", file.into()), ("line", Value::Int(1)), ("column", Value::Int(0))]);
            Value::map([("text", "odd".into()), ("location", location)])
        };
        let shown = warnings(&[warning("node_modules/a/b.js"), warning("src/a.ts")], Path::new("."));
        assert_eq!(shown, ["src/a.ts:1:1: odd"]);
    }
}
