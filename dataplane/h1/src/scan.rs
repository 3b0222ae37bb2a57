//! Finds the end of a head while its bytes are still coming in, and refuses early what can no longer become one.
//!
//! Keeps its place between calls, so a head that comes byte by byte costs its length once, not its square.

use crate::field;
use crate::reject::Reject;
use base::limits::{HEAD_BYTES_MAX, HEADERS_MAX, TARGET_BYTES_MAX};
use memchr::memchr;

/// A request line besides its target: the longest method we look at, two spaces, `HTTP/1.1`, CR.
const REQUEST_LINE_EXTRA_BYTES: usize = 64;

/// A search for the empty line that ends a head. Start a new one for each message.
#[derive(Clone, Debug, Default)]
pub struct HeadScan {
    /// Where the head starts: after the one empty line that may come before it (RFC 9112 §2.2).
    start: usize,
    /// Where the current line starts.
    line: usize,
    /// Everything before is looked at.
    checked: usize,
    /// Complete lines of the head.
    lines: usize,
}

impl HeadScan {
    /// A search that has seen nothing.
    pub fn new() -> HeadScan {
        HeadScan::default()
    }

    /// Looks at what is new in `buf`, which starts where the message does and only grows between calls.
    ///
    /// Gives the head's range in `buf` once its empty line is there.
    pub fn find(&mut self, buf: &[u8]) -> Result<Option<std::ops::Range<usize>>, Reject> {
        self.plausible(buf)?;
        while let Some(found) = memchr(b'\n', &buf[self.checked..]) {
            let newline = self.checked + found;
            if newline == 0 || buf[newline - 1] != b'\r' {
                return Err(Reject::Malformed("a line ends with a bare LF"));
            }
            self.checked = newline + 1;
            if newline - 1 == self.line {
                match (self.lines, self.start) {
                    (0, 0) => {
                        self.start = newline + 1;
                        self.line = newline + 1;
                        self.plausible(buf)?;
                        continue;
                    }
                    (0, _) => return Err(Reject::Malformed("empty lines before the request line")),
                    _ => {}
                }
                self.within_limits(newline + 1)?;
                return Ok(Some(self.start..newline + 1));
            }
            self.within_limits(newline + 1)?;
            self.lines += 1;
            if self.lines > HEADERS_MAX + 1 {
                return Err(Reject::HeadTooLarge);
            }
            self.line = newline + 1;
        }
        self.checked = buf.len();
        self.within_limits(buf.len())?;
        Ok(None)
    }

    fn within_limits(&self, end: usize) -> Result<(), Reject> {
        if self.lines == 0 && end.saturating_sub(self.start) > TARGET_BYTES_MAX + REQUEST_LINE_EXTRA_BYTES {
            return Err(Reject::TargetTooLong);
        }
        if end.saturating_sub(self.start) > HEAD_BYTES_MAX {
            return Err(Reject::HeadTooLarge);
        }
        Ok(())
    }

    /// A first line that cannot be a request line or a status line: TLS on the wrong port, or noise. Both start with a
    /// token byte, so noise need not wait for a time limit.
    fn plausible(&self, buf: &[u8]) -> Result<(), Reject> {
        match buf.get(self.start) {
            Some(b'\r') | None => Ok(()),
            Some(byte) if self.lines > 0 || field::is_token_byte(*byte) => Ok(()),
            Some(_) => Err(Reject::Malformed("not HTTP")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8], expect: Result<Option<std::ops::Range<usize>>, u16>) {
        let whole = HeadScan::new().find(bytes).map_err(Reject::status);
        assert_eq!(whole, expect, "{}", bytes.escape_ascii());
        // However it is split, the verdict is the same one.
        let mut scan = HeadScan::new();
        let mut bytewise = Ok(None);
        for end in 1..=bytes.len() {
            bytewise = scan.find(&bytes[..end]).map_err(Reject::status);
            if bytewise != Ok(None) {
                break;
            }
        }
        assert_eq!(bytewise, expect, "byte by byte: {}", bytes.escape_ascii());
    }

    #[test]
    fn finds_the_empty_line() {
        check(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nrest", Ok(Some(0..27)));
        check(b"\r\nGET / HTTP/1.1\r\n\r\n", Ok(Some(2..20)));
        check(b"GET / HTTP/1.1\r\nHost: a\r\n", Ok(None));
    }

    #[test]
    fn refuses_bare_newlines_noise_and_empty_lines() {
        check(b"GET / HTTP/1.1\nHost: a\r\n\r\n", Err(400));
        check(b"GET / HTTP/1.1\r\nHost: a\n\r\n", Err(400));
        check(b"GET / HTTP/1.1\r\nHost: a\r\n\n", Err(400));
        check(b"\nGET / HTTP/1.1\r\n\r\n", Err(400));
        check(b"\r\n\r\nGET / HTTP/1.1\r\n\r\n", Err(400));
        check(b"\x16\x03\x01\x02\x00\x01\x00", Err(400));
    }

    #[test]
    fn refuses_what_is_too_long_before_it_is_complete() {
        check(&[b'A'; TARGET_BYTES_MAX + 65], Err(414));
        let mut head = b"GET / HTTP/1.1\r\n".to_vec();
        head.resize(HEAD_BYTES_MAX + 1, b'a');
        check(&head, Err(431));
        let mut many = b"GET / HTTP/1.1\r\n".to_vec();
        for _ in 0..HEADERS_MAX + 1 {
            many.extend_from_slice(b"a: b\r\n");
        }
        check(&many, Err(431));
    }
}
