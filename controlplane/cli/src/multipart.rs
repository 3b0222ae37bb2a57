//! The body of a version upload (RFC 7578), as one reader that reports how far it is.
//!
//! Owns framing only. *Invariant:* the boundary occurs in no part. Parts are in memory: a module is at most 10 MB. The
//! body has a known length, so the request carries a `Content-Length`. Main thread.

use std::io::{Cursor, Read};

/// A form being built.
pub(crate) struct Form {
    boundary: String,
    body: Vec<u8>,
}

impl Form {
    /// An empty form whose boundary occurs in none of `parts`.
    pub(crate) fn new(parts: &[&[u8]]) -> Form {
        let mut number = 0u64;
        loop {
            let boundary = format!("selvage-{number:016x}");
            if parts.iter().all(|part| find(part, boundary.as_bytes()).is_none()) {
                return Form { boundary, body: Vec::new() };
            }
            number += 1;
        }
    }

    /// Adds a part. `name` and `file_name` are quoted; control characters in them are dropped.
    pub(crate) fn part(mut self, name: &str, file_name: Option<&str>, content_type: &str, bytes: &[u8]) -> Form {
        let mut head = format!("--{}\r\nContent-Disposition: form-data; name=\"{}\"", self.boundary, quoted(name));
        if let Some(file_name) = file_name {
            head.push_str(&format!("; filename=\"{}\"", quoted(file_name)));
        }
        head.push_str(&format!("\r\nContent-Type: {content_type}\r\n\r\n"));
        self.body.extend_from_slice(head.as_bytes());
        self.body.extend_from_slice(bytes);
        self.body.extend_from_slice(b"\r\n");
        self
    }

    /// The form's `Content-Type`.
    pub(crate) fn content_type(&self) -> String {
        format!("multipart/form-data; boundary={}", self.boundary)
    }

    /// Ends the form: its bytes.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.body.extend_from_slice(format!("--{}--\r\n", self.boundary).as_bytes());
        self.body
    }
}

/// Bytes that tell `progress` how many have been taken so far.
pub(crate) struct Reported<'a, F: FnMut(u64)> {
    inner: Cursor<&'a [u8]>,
    progress: F,
}

impl<'a, F: FnMut(u64)> Reported<'a, F> {
    pub(crate) fn new(bytes: &'a [u8], progress: F) -> Reported<'a, F> {
        Reported { inner: Cursor::new(bytes), progress }
    }
}

impl<F: FnMut(u64)> Read for Reported<'_, F> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(buffer)?;
        (self.progress)(self.inner.position());
        Ok(count)
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

/// RFC 7578 §4.2 with the escapes of the HTML standard ("multipart/form-data encoding algorithm").
fn quoted(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect::<String>().replace('"', "%22")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_framed_by_a_boundary_that_occurs_in_none() {
        let file: &[u8] = b"x = 'selvage-0000000000000000'";
        let form = Form::new(&[file]).part("file", Some("a\"\r\n.js"), "application/javascript+module", file);
        assert_eq!(form.content_type(), "multipart/form-data; boundary=selvage-0000000000000001");
        let text = String::from_utf8(form.finish()).expect("text");
        assert_eq!(
            text,
            "--selvage-0000000000000001\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a%22.js\"\r\n\
             Content-Type: application/javascript+module\r\n\r\nx = 'selvage-0000000000000000'\r\n\
             --selvage-0000000000000001--\r\n"
        );
    }

    #[test]
    fn progress_reaches_the_end() {
        let mut seen = Vec::new();
        let mut out = Vec::new();
        Reported::new(&[7; 10_000], |at| seen.push(at)).read_to_end(&mut out).expect("memory does not fail");
        assert_eq!((out.len(), seen.last()), (10_000, Some(&10_000)));
        assert!(seen.is_sorted());
    }
}
