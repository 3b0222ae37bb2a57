//! What can go wrong, as a user and a script see it: a message, an optional hint, and the exit code.
//!
//! Owns the exit codes; `selvage help` and docs/OPERATIONS.md repeat the table of [`Kind`]. Does not print: `output`
//! does. Main thread.

use std::fmt;

use serde_json::{Value, json};

/// Why a command ended without doing its work; the discriminant is the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// Anything without a code of its own; also an answer of the control plane that makes no sense.
    Failed = 1,
    /// The command line, or a file of the project, is wrong. clap ends with the same code.
    Usage = 2,
    /// No token, or one that is wrong, expired or of another account (HTTP 401, 403).
    NotAuthenticated = 3,
    /// No such deployment, version, route or variable (404).
    NotFound = 4,
    /// The name is taken, or the state forbids it (409).
    Conflict = 5,
    /// The module does not validate (a version `invalid`), or is too large (413, 422).
    Invalid = 6,
    /// The control plane cannot be reached or does not answer in time (also 502, 503, 504).
    Unreachable = 7,
}

impl Kind {
    /// The kind that an HTTP status means.
    pub(crate) fn of_status(status: u16) -> Kind {
        match status {
            400 => Kind::Usage,
            401 | 403 => Kind::NotAuthenticated,
            404 => Kind::NotFound,
            409 => Kind::Conflict,
            413 | 415 | 422 => Kind::Invalid,
            502..=504 => Kind::Unreachable,
            _ => Kind::Failed,
        }
    }

    /// The word in `--json` output.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Kind::Failed => "failed",
            Kind::Usage => "usage",
            Kind::NotAuthenticated => "not_authenticated",
            Kind::NotFound => "not_found",
            Kind::Conflict => "conflict",
            Kind::Invalid => "invalid",
            Kind::Unreachable => "unreachable",
        }
    }
}

/// A command's failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// Exit code.
    pub(crate) kind: Kind,
    /// One line, no full stop.
    pub(crate) message: String,
    /// What to do about it.
    pub(crate) hint: Option<String>,
    /// A place in a source file, with its excerpt, as printed below the message.
    pub(crate) excerpt: Option<String>,
    /// The place for `--json`.
    pub(crate) place: Option<Place>,
}

/// A place in a file: lines and columns count from 1, columns in characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) file: String,
    pub(crate) line: u32,
    pub(crate) column: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// What every command gives.
pub(crate) type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Failure {
        Failure { kind, message: message.into(), hint: None, excerpt: None, place: None }
    }

    pub(crate) fn failed(message: impl Into<String>) -> Failure {
        Failure::new(Kind::Failed, message)
    }

    pub(crate) fn usage(message: impl Into<String>) -> Failure {
        Failure::new(Kind::Usage, message)
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Failure {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the place, and the excerpt of `source` around it.
    pub(crate) fn at(mut self, place: Place, source: &str) -> Failure {
        self.excerpt = crate::excerpt::excerpt(source, &place);
        self.place = Some(place);
        self
    }

    pub(crate) fn json(&self) -> Value {
        let place = self.place.as_ref().map(|p| json!({"file": p.file, "line": p.line, "column": p.column}));
        json!({"error": {
            "kind": self.kind.label(),
            "exit_code": self.kind as u8,
            "message": self.message,
            "hint": self.hint,
            "place": place,
        }})
    }
}

/// For `map_err`: what was being done, and to which file.
pub(crate) fn io(what: &'static str, path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Failure {
    let path = path.display().to_string();
    move |error| Failure::failed(format!("cannot {what} {path}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_map_to_documented_exit_codes() {
        let table = [
            (400, 2),
            (401, 3),
            (403, 3),
            (404, 4),
            (409, 5),
            (413, 6),
            (422, 6),
            (418, 1),
            (500, 1),
            (502, 7),
            (503, 7),
            (504, 7),
        ];
        for (status, code) in table {
            assert_eq!(Kind::of_status(status) as u8, code, "{status}");
        }
    }

    #[test]
    fn json_names_kind_code_and_place() {
        let place = Place { file: "worker.js".into(), line: 1, column: 5 };
        let failure = Failure::new(Kind::Invalid, "Unexpected token").at(place, "let ;");
        let json = failure.json();
        assert_eq!(json["error"]["kind"], "invalid");
        assert_eq!(json["error"]["exit_code"], 6);
        assert_eq!(json["error"]["place"]["column"], 5);
        assert!(json["error"]["hint"].is_null());
    }
}
