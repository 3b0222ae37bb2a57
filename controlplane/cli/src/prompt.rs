//! Questions to the user: a secret without echo, a yes or no. With no terminal, a secret is stdin up to its end.
//!
//! *Invariant:* the terminal echoes again when a prompt returns. Prompts are on stderr, so stdout stays the result's. Bounds:
//! [`SECRET_BYTES_MAX`]. Main thread.

use std::io::{BufRead, IsTerminal, Read, Write};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::failure::{Failure, Outcome};

/// A token's or a variable's value; the API's own limit for a value is 5 KiB.
const SECRET_BYTES_MAX: u64 = 64 * 1024;

/// Echo is off while this lives.
struct Silence(Termios);

impl Silence {
    fn new() -> Option<Silence> {
        let before = tcgetattr(std::io::stdin()).ok()?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        silent.local_modes.insert(LocalModes::ECHONL);
        tcsetattr(std::io::stdin(), OptionalActions::Flush, &silent).ok()?;
        Some(Silence(before))
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        // A terminal that is gone needs no echo.
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Flush, &self.0);
    }
}

/// Reads a secret: a line from the terminal without echo, else all of stdin without its last newline.
pub(crate) fn secret(what: &str) -> Outcome<String> {
    let stdin = std::io::stdin();
    let failed = |error: std::io::Error| Failure::failed(format!("cannot read {what}: {error}"));
    let mut text = String::new();
    if stdin.is_terminal() {
        eprint!("{what}: ");
        std::io::stderr().flush().map_err(failed)?;
        let silence = Silence::new();
        stdin.lock().take(SECRET_BYTES_MAX).read_line(&mut text).map_err(failed)?;
        drop(silence);
    } else {
        stdin.lock().take(SECRET_BYTES_MAX + 1).read_to_string(&mut text).map_err(failed)?;
        if text.len() as u64 > SECRET_BYTES_MAX {
            return Err(Failure::usage(format!("{what} on stdin is longer than {SECRET_BYTES_MAX} bytes")));
        }
    }
    Ok(without_newline(&text).to_owned())
}

/// Asks; anything but y or yes is no. Without a terminal nobody can answer.
pub(crate) fn confirm(question: &str) -> Outcome<bool> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage("there is no terminal to ask on").hint("`--yes` does not ask"));
    }
    eprint!("{question} [y/N] ");
    let mut answer = String::new();
    let read = std::io::stderr().flush().and_then(|()| std::io::stdin().lock().take(64).read_line(&mut answer));
    read.map_err(|error| Failure::failed(format!("cannot read the answer: {error}")))?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

fn without_newline(text: &str) -> &str {
    let text = text.strip_suffix('\n').unwrap_or(text);
    text.strip_suffix('\r').unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_newline_goes_and_the_rest_stays() {
        for (text, expect) in [("a\n", "a"), ("a\r\n", "a"), ("a\n\n", "a\n"), (" a ", " a "), ("", "")] {
            assert_eq!(without_newline(text), expect);
        }
    }
}
