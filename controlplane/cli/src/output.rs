//! How results reach the user: one value as a table or sentence on a terminal, the same value as JSON for a script.
//!
//! *Invariants:* with `--json`, stdout carries exactly one JSON value (`tail` and `dev`: one per line) and nothing else;
//! progress, warnings and hints go to stderr; colours only where the stream is a terminal and `NO_COLOR` is not set.
//! Main thread, except [`Output::line`] and [`Output::note`], which any thread may call.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use comfy_table::presets;
use comfy_table::{ContentArrangement, Table};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::failure::Failure;

/// Escape sequences that are used: SGR parameters.
#[derive(Clone, Copy)]
pub(crate) enum Ink {
    Bold,
    Dim,
    Red,
    Green,
    Yellow,
    Cyan,
}

impl Ink {
    fn code(self) -> &'static str {
        match self {
            Ink::Bold => "1",
            Ink::Dim => "2",
            Ink::Red => "31",
            Ink::Green => "32",
            Ink::Yellow => "33",
            Ink::Cyan => "36",
        }
    }
}

/// When to colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Colour {
    /// On a terminal, unless `NO_COLOR` is set.
    #[default]
    Auto,
    Always,
    Never,
}

impl Colour {
    fn on(self, terminal: bool, no_color: bool) -> bool {
        match self {
            Colour::Auto => terminal && !no_color,
            Colour::Always => true,
            Colour::Never => false,
        }
    }
}

/// Where results go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    pub(crate) json: bool,
    stdout_ink: bool,
    stderr_ink: bool,
    bars: bool,
}

impl Output {
    pub(crate) fn new(json: bool, colour: Colour) -> Output {
        // https://no-color.org: present and not empty.
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let (stdout, stderr) = (std::io::stdout().is_terminal(), std::io::stderr().is_terminal());
        Output {
            json,
            stdout_ink: colour.on(stdout, no_color),
            stderr_ink: colour.on(stderr, no_color),
            bars: stderr && !json,
        }
    }

    /// A text in a colour, for stdout.
    pub(crate) fn ink(&self, ink: Ink, text: &str) -> String {
        paint(self.stdout_ink, ink, text)
    }

    /// A text in a colour, for stderr.
    pub(crate) fn ink_stderr(&self, ink: Ink, text: &str) -> String {
        paint(self.stderr_ink, ink, text)
    }

    /// The result: `value` for a script, `text` for a person.
    pub(crate) fn result(&self, value: &impl Serialize, text: impl FnOnce(&Output) -> String) {
        if self.json {
            self.line(&serde_json::to_string_pretty(value).expect("API types serialise to JSON"));
        } else {
            let text = text(self);
            if !text.is_empty() {
                self.line(&text);
            }
        }
    }

    /// One line on stdout. A reader that has gone (`| head`) ends the process quietly, as SIGPIPE would.
    pub(crate) fn line(&self, text: &str) {
        let mut stdout = std::io::stdout().lock();
        if writeln!(stdout, "{text}").and_then(|()| stdout.flush()).is_err() {
            std::process::exit(141);
        }
    }

    /// One line on stderr.
    pub(crate) fn note(&self, text: &str) {
        // Nobody is left to tell when stderr is gone.
        let _ = writeln!(std::io::stderr().lock(), "{text}");
    }

    /// A warning on stderr.
    pub(crate) fn warn(&self, text: &str) {
        self.note(&format!("{} {text}", self.ink_stderr(Ink::Yellow, "warning:")));
    }

    /// A failure: message, excerpt and hint on stderr; with `--json` one object on stdout.
    pub(crate) fn failure(&self, failure: &Failure) {
        if self.json {
            self.line(&serde_json::to_string_pretty(&failure.json()).expect("a JSON value serialises"));
            return;
        }
        self.note(&format!("{} {}", self.ink_stderr(Ink::Red, "error:"), failure.message));
        if let Some(excerpt) = &failure.excerpt {
            self.note(excerpt);
        }
        if let Some(hint) = &failure.hint {
            self.note(&format!("{} {hint}", self.ink_stderr(Ink::Cyan, "hint:")));
        }
    }

    /// A table with that header; says `empty` instead if there is no row.
    pub(crate) fn table(&self, header: &[&str], rows: Vec<Vec<String>>, empty: &str) -> String {
        if rows.is_empty() {
            return empty.to_owned();
        }
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
        if let Ok(size) = rustix::termios::tcgetwinsize(std::io::stdout())
            && size.ws_col > 0
        {
            table.set_width(size.ws_col);
        }
        table.set_header(header.iter().map(|cell| cell.to_uppercase()).collect::<Vec<_>>());
        table.add_rows(rows);
        let text = table.trim_fmt();
        let (head, body) = text.split_once('\n').unwrap_or((&text, ""));
        format!("{}\n{body}", self.ink(Ink::Bold, head))
    }

    /// A bar for `total` bytes on stderr; hidden where nobody would see it.
    pub(crate) fn bytes_bar(&self, total: u64, what: &str) -> ProgressBar {
        if !self.bars {
            return ProgressBar::hidden();
        }
        let style = ProgressStyle::with_template("{msg} [{bar:32}] {bytes}/{total_bytes} {bytes_per_sec}")
            .expect("the template is constant")
            .progress_chars("=> ");
        ProgressBar::new(total).with_style(style).with_message(what.to_owned())
    }

    /// A spinner on stderr for a wait of unknown length.
    pub(crate) fn spinner(&self, what: &str) -> ProgressBar {
        if !self.bars {
            return ProgressBar::hidden();
        }
        let bar = ProgressBar::new_spinner().with_message(what.to_owned());
        bar.enable_steady_tick(Duration::from_millis(100));
        bar
    }
}

fn paint(on: bool, ink: Ink, text: &str) -> String {
    if on { format!("\x1b[{}m{text}\x1b[0m", ink.code()) } else { text.to_owned() }
}

/// Bytes for people: `340 B`, `1.5 KiB`, `9.8 MiB`.
pub(crate) fn bytes(count: u64) -> String {
    match count {
        0..=1023 => format!("{count} B"),
        1024..=1_048_575 => format!("{:.1} KiB", count as f64 / 1024.0),
        _ => format!("{:.1} MiB", count as f64 / 1_048_576.0),
    }
}

/// A duration for people: `0.4 ms`, `82 ms`, `1.2 s`.
pub(crate) fn duration(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1000.0;
    match ms {
        ms if ms < 10.0 => format!("{ms:.1} ms"),
        ms if ms < 1000.0 => format!("{ms:.0} ms"),
        ms => format!("{:.1} s", ms / 1000.0),
    }
}

/// A tenant's or server's text for a terminal: no control characters but tab and newline, so that a log line cannot
/// move the cursor or set the title.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\t' && c != '\n' { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colour_follows_terminal_and_no_color() {
        assert!(Colour::Auto.on(true, false));
        assert!(!Colour::Auto.on(false, false));
        assert!(!Colour::Auto.on(true, true));
        assert!(Colour::Always.on(false, true));
        assert!(!Colour::Never.on(true, false));
    }

    #[test]
    fn sizes_and_durations_for_people() {
        assert_eq!((bytes(340), bytes(1536), bytes(10 << 20)), ("340 B".into(), "1.5 KiB".into(), "10.0 MiB".into()));
        assert_eq!(duration(Duration::from_micros(400)), "0.4 ms");
        assert_eq!(duration(Duration::from_millis(82)), "82 ms");
        assert_eq!(duration(Duration::from_millis(1_234)), "1.2 s");
    }

    #[test]
    fn tables_are_plain_without_a_terminal() {
        let output = Output { json: false, stdout_ink: false, stderr_ink: false, bars: false };
        let text = output.table(&["name", "state"], vec![vec!["a".into(), "active".into()]], "none");
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines, [["NAME", "STATE"], ["a", "active"]]);
        assert_eq!(output.table(&["name"], Vec::new(), "none"), "none");
    }

    #[test]
    fn control_characters_of_others_are_not_printed() {
        assert_eq!(printable("a\x1b[31mb\r\n\tc"), "a\u{fffd}[31mb\u{fffd}\n\tc");
    }
}
