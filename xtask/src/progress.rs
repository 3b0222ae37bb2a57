//! Progress of long steps: a bar on a terminal, a line now and then in a log.
//!
//! Owns the two ways of showing the same thing. Writes to standard error only: standard output belongs to what
//! programs read (`ready <url>`, JSON).

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Time between two lines where there is no terminal to draw a bar on.
const LINE_INTERVAL: Duration = Duration::from_secs(30);

/// Says one step aloud: who, then what.
pub(crate) fn say(who: &str, what: impl AsRef<str>) {
    if std::io::stderr().is_terminal() {
        eprintln!("\x1b[1;32m{who:>12}\x1b[0m {}", what.as_ref());
    } else {
        eprintln!("{who:>12} {}", what.as_ref());
    }
}

/// Says something that the reader must not miss.
pub(crate) fn warn(who: &str, what: impl AsRef<str>) {
    if std::io::stderr().is_terminal() {
        eprintln!("\x1b[1;33m{who:>12}\x1b[0m {}", what.as_ref());
    } else {
        eprintln!("{who:>12} {}", what.as_ref());
    }
}

/// A step of which the length is known, or becomes known on the way.
pub(crate) struct Progress {
    who: &'static str,
    bar: ProgressBar,
    terminal: bool,
    said: Instant,
}

impl Progress {
    /// Shows an empty bar for a step of yet unknown length.
    pub(crate) fn start(who: &'static str) -> Self {
        let bar = ProgressBar::new(0);
        let style = ProgressStyle::with_template("{prefix:>12.green.bold} [{bar:30}] {pos}/{len} {eta:>5} {msg}")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.set_style(style.progress_chars("=> "));
        bar.set_prefix(who);
        Self { who, bar, terminal: std::io::stderr().is_terminal(), said: Instant::now() }
    }

    /// `done` of `total` units are done, the latest of them named by `what`.
    pub(crate) fn set(&mut self, done: u64, total: u64, what: &str) {
        self.bar.set_length(total);
        self.bar.set_position(done);
        self.bar.set_message(what.to_owned());
        if !self.terminal && self.said.elapsed() >= LINE_INTERVAL {
            self.said = Instant::now();
            eprintln!("{:>12} {done}/{total} ({} %) {what}", self.who, done * 100 / total.max(1));
        }
    }

    /// Takes the bar away.
    pub(crate) fn finish(self) {
        self.bar.finish_and_clear();
    }
}
