//! Which control plane, with which token, for which account: flag, then environment, then the file that `login` writes.
//!
//! File: `$SELVAGE_CONFIG` or `$XDG_CONFIG_HOME/selvage/config.toml` or `~/.config/selvage/config.toml`, mode 0600, replaced in one
//! rename so that a reader never sees half of it. Main thread.

use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::failure::{Failure, Kind, Outcome, io};
use crate::wrangler::toml_failure;

/// The API of a control plane on this machine, as `selvage-control serve` listens by default.
pub(crate) const DEFAULT_API_URL: &str = "http://127.0.0.1:7070";

/// What `login` keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Stored {
    /// Base URL of the API.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) api_url: Option<String>,
    /// Bearer token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) token: Option<String>,
    /// Account the token belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) account: Option<String>,
}

/// Values from flags and environment (clap has merged the two), each winning over the file's.
#[derive(Clone, Debug, Default)]
pub(crate) struct Given {
    pub(crate) api_url: Option<String>,
    pub(crate) token: Option<String>,
    pub(crate) account: Option<String>,
}

/// What a command works with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) api_url: String,
    pub(crate) token: Option<String>,
    pub(crate) account: Option<String>,
}

impl Settings {
    /// Merges the two. A stored token or account is only sent to the API it was stored for.
    pub(crate) fn merge(given: Given, stored: Stored) -> Settings {
        let stored_url = stored.api_url.unwrap_or_else(|| DEFAULT_API_URL.to_owned());
        let api_url = given.api_url.filter(|url| !url.is_empty()).unwrap_or_else(|| stored_url.clone());
        let api_url = api_url.trim_end_matches('/').to_owned();
        let same = api_url == stored_url.trim_end_matches('/');
        let keep = |value: Option<String>| value.filter(|_| same);
        // A token of the environment need not be of the stored account.
        let account = given.account.or_else(|| if given.token.is_some() { None } else { keep(stored.account) });
        Settings { api_url, token: given.token.or_else(|| keep(stored.token)), account }
    }

    /// The token, or the failure that says how to get one.
    pub(crate) fn token(&self) -> Outcome<&str> {
        self.token.as_deref().ok_or_else(|| {
            Failure::new(Kind::NotAuthenticated, format!("no token for {}", self.api_url))
                .hint("run `selvage login`, or set SELVAGE_TOKEN")
        })
    }
}

/// Where the file is.
pub(crate) fn file(given: Option<PathBuf>) -> Outcome<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    given
        .or_else(|| set("XDG_CONFIG_HOME").map(|dir| dir.join("selvage/config.toml")))
        .or_else(|| set("HOME").map(|dir| dir.join(".config/selvage/config.toml")))
        .ok_or_else(|| Failure::usage("neither SELVAGE_CONFIG nor HOME is set, so there is no place for the settings"))
}

/// Reads the file; a missing one is empty.
pub(crate) fn load(path: &Path) -> Outcome<Stored> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Stored::default()),
        Err(error) => return Err(io("read", path)(error)),
    };
    toml::from_str(&text).map_err(|error| toml_failure(path, &text, &error))
}

/// Writes the file, readable by its owner alone.
pub(crate) fn save(path: &Path, stored: &Stored) -> Outcome {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(dir).map_err(io("create", dir))?;
    let text = toml::to_string(stored).expect("three strings serialise to TOML");
    let fresh = dir.join(format!(".config.toml.{}", std::process::id()));
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(&fresh).map_err(io("create", &fresh))?;
    let written = file
        .set_permissions(std::fs::Permissions::from_mode(0o600))
        .and_then(|()| file.write_all(text.as_bytes()))
        .and_then(|()| file.sync_all())
        .and_then(|()| std::fs::rename(&fresh, path));
    written.map_err(|error| {
        // The failure that is reported is the first one.
        let _ = std::fs::remove_file(&fresh);
        io("write", path)(error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored() -> Stored {
        Stored {
            api_url: Some("https://api.example".into()),
            token: Some("stored".into()),
            account: Some("acc".into()),
        }
    }

    #[test]
    fn given_values_win_over_stored_ones() {
        let given = Given { token: Some("mine".into()), account: Some("other".into()), ..Given::default() };
        let settings = Settings::merge(given, stored());
        assert_eq!(settings.api_url, "https://api.example");
        assert_eq!((settings.token.as_deref(), settings.account.as_deref()), (Some("mine"), Some("other")));
    }

    #[test]
    fn a_stored_token_never_goes_to_another_server() {
        let given = Given { api_url: Some("https://evil.example/".into()), ..Given::default() };
        let settings = Settings::merge(given, stored());
        assert_eq!(settings.api_url, "https://evil.example");
        assert_eq!((settings.token, settings.account), (None, None));
    }

    #[test]
    fn a_given_token_drops_the_stored_account() {
        let settings = Settings::merge(Given { token: Some("mine".into()), ..Given::default() }, stored());
        assert_eq!(settings.account, None);
    }

    #[test]
    fn without_anything_the_default_api_and_no_token() {
        let settings = Settings::merge(Given::default(), Stored::default());
        assert_eq!(settings.api_url, DEFAULT_API_URL);
        assert_eq!(settings.token().expect_err("no token").kind, Kind::NotAuthenticated);
    }

    #[test]
    fn the_file_round_trips_with_mode_0600_even_over_a_wider_one() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("deep/config.toml");
        assert_eq!(load(&path).expect("missing is empty"), Stored::default());
        std::fs::create_dir(dir.path().join("deep")).expect("a folder");
        std::fs::write(&path, "").expect("a file");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("chmod");
        save(&path, &stored()).expect("saved");
        assert_eq!(load(&path).expect("loaded"), stored());
        let mode = std::fs::metadata(&path).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(dir.path().join("deep")).expect("a folder").count(), 1, "no temporary file stays");
    }

    #[test]
    fn a_broken_file_is_named_with_line_and_column() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("config.toml");
        std::fs::write(&path, "api_url = \"x\"\ntoken = = 1\n").expect("a file");
        let failure = load(&path).expect_err("broken");
        let place = failure.place.expect("a place");
        assert_eq!((failure.kind, place.line, place.column), (Kind::Usage, 2, 9));
    }
}
