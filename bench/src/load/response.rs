//! Reading HTTP/1.1 responses from whatever pieces a socket gives: sans-IO, on `httparse`.
//!
//! Owns framing (RFC 9112 §6): `Content-Length`, chunked, until close, and bodies that must not be there. Does not keep
//! bodies or fields; a [`Sink`] that wants them gets them.
//! *Bounds:* a head of [`HEAD_BYTES_MAX`] and [`FIELDS_MAX`], chunk lines and trailers of [`LINE_BYTES_MAX`].
//! *Failures:* a server's fault is [`Malformed`]; after it the connection is of no use.

/// Bytes of a response's head.
pub const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Fields of a response's head.
pub const FIELDS_MAX: usize = 100;
/// Bytes of a chunk's size line or of one trailer line.
pub const LINE_BYTES_MAX: usize = 4096;

/// What the server sent is not HTTP/1.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed response: {0}")]
pub struct Malformed(pub &'static str);

/// A whole response, without its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Response {
    /// Status code, 200 to 999.
    pub status: u16,
    /// Bytes of the body after decoding.
    pub body_bytes: u64,
    /// Whether the connection may carry another response.
    pub keep_alive: bool,
}

/// Takes what the reader passes by.
pub trait Sink {
    /// A final head (not 1xx).
    fn head(&mut self, status: u16, fields: &[httparse::Header<'_>]);
    /// Bytes of the body, in order.
    fn body(&mut self, bytes: &[u8]);
}

/// Keeps nothing.
impl Sink for () {
    fn head(&mut self, _: u16, _: &[httparse::Header<'_>]) {}
    fn body(&mut self, _: &[u8]) {}
}

/// Reads one response after the other.
#[derive(Debug, Default)]
pub struct ResponseReader {
    state: State,
    /// A head or a chunk line that came in pieces.
    partial: Vec<u8>,
    status: u16,
    keep_alive: bool,
    body_bytes: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Head,
    Counted(u64),
    ChunkSize,
    ChunkData(u64),
    /// CR and LF after a chunk; bytes still to come.
    ChunkEnd(u8),
    Trailer,
    UntilClose,
}

/// How a body is delimited.
enum Framing {
    None,
    Counted(u64),
    Chunked,
    UntilClose,
}

impl ResponseReader {
    /// Takes bytes; returns how many were used, and the response if it is complete. With no response, all are used.
    /// `to_head` says that the response answers a HEAD request.
    pub fn feed(
        &mut self,
        input: &[u8],
        to_head: bool,
        sink: &mut impl Sink,
    ) -> Result<(usize, Option<Response>), Malformed> {
        let mut used = 0;
        while used < input.len() {
            let rest = &input[used..];
            let (taken, done) = match self.state {
                State::Head => self.head(rest, to_head, sink)?,
                State::Counted(left) => {
                    let taken = self.take_body(rest, left, sink);
                    self.state = State::Counted(left - taken as u64);
                    (taken, left == taken as u64)
                }
                State::ChunkSize => (self.chunk_size(rest)?, false),
                State::ChunkData(left) => {
                    let taken = self.take_body(rest, left, sink);
                    let left = left - taken as u64;
                    self.state = if left == 0 { State::ChunkEnd(2) } else { State::ChunkData(left) };
                    (taken, false)
                }
                State::ChunkEnd(left) => {
                    if rest[0] != if left == 2 { b'\r' } else { b'\n' } {
                        return Err(Malformed("no CRLF after a chunk"));
                    }
                    self.state = if left == 2 { State::ChunkEnd(1) } else { State::ChunkSize };
                    (1, false)
                }
                State::Trailer => self.trailer(rest)?,
                State::UntilClose => (self.take_body(rest, u64::MAX, sink), false),
            };
            used += taken;
            if done {
                return Ok((used, Some(self.finish())));
            }
        }
        Ok((used, None))
    }

    /// The server has closed its side. A body that lasts until then is complete.
    pub fn end(&mut self) -> Result<Option<Response>, Malformed> {
        match self.state {
            State::UntilClose => Ok(Some(self.finish())),
            State::Head if self.partial.is_empty() => Ok(None),
            _ => Err(Malformed("closed in the middle of a response")),
        }
    }

    /// Whether no byte of the next response has come.
    pub fn at_start(&self) -> bool {
        self.state == State::Head && self.partial.is_empty()
    }

    /// Back to the start, for a new connection.
    pub fn reset(&mut self) {
        self.state = State::Head;
        self.partial.clear();
        self.body_bytes = 0;
    }

    fn finish(&mut self) -> Response {
        let done = Response { status: self.status, body_bytes: self.body_bytes, keep_alive: self.keep_alive };
        self.reset();
        done
    }

    fn take_body(&mut self, rest: &[u8], left: u64, sink: &mut impl Sink) -> usize {
        let taken = usize::try_from(left).map_or(rest.len(), |left| left.min(rest.len()));
        sink.body(&rest[..taken]);
        self.body_bytes += taken as u64;
        taken
    }

    /// Parses a head from `rest` alone if it is whole there, else collects it.
    fn head(&mut self, rest: &[u8], to_head: bool, sink: &mut impl Sink) -> Result<(usize, bool), Malformed> {
        if self.partial.is_empty() {
            return match self.parse_head(rest, to_head, sink)? {
                Some((used, done)) => Ok((used, done)),
                None if rest.len() > HEAD_BYTES_MAX => Err(Malformed("head too large")),
                None => {
                    self.partial.extend_from_slice(rest);
                    Ok((rest.len(), false))
                }
            };
        }
        let before = self.partial.len();
        let taken = rest.len().min(HEAD_BYTES_MAX + 1 - before);
        let mut whole = std::mem::take(&mut self.partial);
        whole.extend_from_slice(&rest[..taken]);
        match self.parse_head(&whole, to_head, sink)? {
            // The head was not whole before, so its end is in the new bytes.
            Some((used, done)) => Ok((used - before, done)),
            None if whole.len() > HEAD_BYTES_MAX => Err(Malformed("head too large")),
            None => {
                self.partial = whole;
                Ok((taken, false))
            }
        }
    }

    /// On a whole head: sets the state that follows, and says how long it was and whether the response ends with it.
    fn parse_head(
        &mut self,
        bytes: &[u8],
        to_head: bool,
        sink: &mut impl Sink,
    ) -> Result<Option<(usize, bool)>, Malformed> {
        let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
        let mut head = httparse::Response::new(&mut fields);
        let used = match head.parse(bytes) {
            Ok(httparse::Status::Complete(used)) => used,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(httparse::Error::TooManyHeaders) => return Err(Malformed("too many fields")),
            Err(_) => return Err(Malformed("bad head")),
        };
        let status = head.code.ok_or(Malformed("no status"))?;
        match status {
            101 => return Err(Malformed("101 without a request for it")),
            100..=199 => return Ok(Some((used, false))),
            0..=99 => return Err(Malformed("status below 100")),
            _ => {}
        }
        self.status = status;
        self.keep_alive = head.version == Some(1);
        let framing = self.framing(status, to_head, head.headers)?;
        sink.head(status, head.headers);
        let done = match framing {
            Framing::None | Framing::Counted(0) => true,
            Framing::Counted(length) => {
                self.state = State::Counted(length);
                false
            }
            Framing::Chunked => {
                self.state = State::ChunkSize;
                false
            }
            Framing::UntilClose => {
                self.keep_alive = false;
                self.state = State::UntilClose;
                false
            }
        };
        Ok(Some((used, done)))
    }

    fn framing(&mut self, status: u16, to_head: bool, fields: &[httparse::Header<'_>]) -> Result<Framing, Malformed> {
        let mut length = None;
        let mut chunked = false;
        for field in fields {
            if field.name.eq_ignore_ascii_case("content-length") {
                let value = decimal(field.value).ok_or(Malformed("bad Content-Length"))?;
                if length.is_some_and(|length| length != value) {
                    return Err(Malformed("two Content-Length"));
                }
                length = Some(value);
            } else if field.name.eq_ignore_ascii_case("transfer-encoding") {
                if chunked || !field.value.eq_ignore_ascii_case(b"chunked") {
                    return Err(Malformed("transfer coding other than chunked"));
                }
                chunked = true;
            } else if field.name.eq_ignore_ascii_case("connection") {
                for token in field.value.split(|byte| *byte == b',') {
                    if token.trim_ascii().eq_ignore_ascii_case(b"close") {
                        self.keep_alive = false;
                    } else if token.trim_ascii().eq_ignore_ascii_case(b"keep-alive") {
                        self.keep_alive = true;
                    }
                }
            }
        }
        Ok(match (length, chunked) {
            (Some(_), true) => return Err(Malformed("Content-Length and Transfer-Encoding")),
            _ if to_head || status == 204 || status == 304 => Framing::None,
            (None, true) => Framing::Chunked,
            (Some(length), false) => Framing::Counted(length),
            (None, false) => Framing::UntilClose,
        })
    }

    fn chunk_size(&mut self, rest: &[u8]) -> Result<usize, Malformed> {
        let (taken, whole) = self.line(rest)?;
        if whole {
            let line = std::mem::take(&mut self.partial);
            let digits = line.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii_end();
            let size = hexadecimal(digits).ok_or(Malformed("bad chunk size"))?;
            self.state = if size == 0 { State::Trailer } else { State::ChunkData(size) };
        }
        Ok(taken)
    }

    fn trailer(&mut self, rest: &[u8]) -> Result<(usize, bool), Malformed> {
        let (taken, whole) = self.line(rest)?;
        let last = whole && self.partial.is_empty();
        if whole {
            self.partial.clear();
        }
        Ok((taken, last))
    }

    /// Collects a line into `partial`, without its CRLF; says how many bytes it took and whether the line is whole.
    fn line(&mut self, rest: &[u8]) -> Result<(usize, bool), Malformed> {
        let end = rest.iter().position(|byte| *byte == b'\n');
        let taken = end.map_or(rest.len(), |end| end + 1);
        if self.partial.len() + taken > LINE_BYTES_MAX {
            return Err(Malformed("line too long"));
        }
        self.partial.extend_from_slice(&rest[..taken]);
        if end.is_some() {
            let text = self.partial.strip_suffix(b"\r\n").ok_or(Malformed("bare LF"))?.len();
            self.partial.truncate(text);
        }
        Ok((taken, end.is_some()))
    }
}

fn decimal(text: &[u8]) -> Option<u64> {
    let text = text.trim_ascii();
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn hexadecimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 15 || !text.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(text).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Default)]
    struct Keep(Vec<u8>);
    impl Sink for Keep {
        fn head(&mut self, _: u16, _: &[httparse::Header<'_>]) {
            self.0.push(b'|');
        }
        fn body(&mut self, bytes: &[u8]) {
            self.0.extend_from_slice(bytes);
        }
    }

    /// Reads all responses in `wire`, given in pieces of `piece` bytes, then the end of the stream.
    fn read(wire: &[u8], piece: usize) -> Result<(Vec<Response>, String), Malformed> {
        let mut reader = ResponseReader::default();
        let (mut all, mut keep) = (Vec::new(), Keep::default());
        for mut input in wire.chunks(piece) {
            while !input.is_empty() {
                let (used, done) = reader.feed(input, false, &mut keep)?;
                assert!(done.is_some() || used == input.len(), "without a response everything is used");
                all.extend(done);
                input = &input[used..];
            }
        }
        all.extend(reader.end()?);
        Ok((all, String::from_utf8_lossy(&keep.0).into_owned()))
    }

    /// Status and `keep_alive` of each response, and all bodies, each after a bar.
    type Expected<'a> = (&'a [(u16, bool)], &'a str);

    fn check(wire: &str, expect: Result<Expected<'_>, &str>) {
        for piece in [1, 2, 3, 7, wire.len().max(1)] {
            match (read(wire.as_bytes(), piece), &expect) {
                (Ok((all, bodies)), Ok((statuses, text))) => {
                    let got: Vec<_> = all.iter().map(|response| (response.status, response.keep_alive)).collect();
                    assert_eq!((got.as_slice(), bodies.as_str()), (*statuses, *text), "{wire:?} by {piece}");
                    let bytes: u64 = all.iter().map(|response| response.body_bytes).sum();
                    assert_eq!(bytes as usize, bodies.replace('|', "").len());
                }
                (Err(error), Err(part)) => assert!(error.0.contains(part), "{wire:?} by {piece}: {error}"),
                (got, expect) => panic!("{wire:?} by {piece}: {got:?}, expected {expect:?}"),
            }
        }
    }

    #[test]
    fn frames_bodies() {
        check("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", Ok((&[(200, true)], "|hello")));
        check("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", Ok((&[(200, true)], "|")));
        check(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\nT: v\r\n\r\n",
            Ok((&[(200, true)], "|hello")),
        );
        check("HTTP/1.1 200 OK\r\n\r\nuntil close", Ok((&[(200, false)], "|until close")));
        check("HTTP/1.1 200 OK\r\nConnection: x, Close\r\nContent-Length: 1\r\n\r\na", Ok((&[(200, false)], "|a")));
        check("HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\na", Ok((&[(200, false)], "|a")));
        check("HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 304 x\r\n\r\n", Ok((&[(204, true), (304, true)], "||")));
        check(
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\naHTTP/1.1 404 N\r\nContent-Length: 1\r\n\r\nb",
            Ok((&[(200, true), (404, true)], "|a|b")),
        );
        check("", Ok((&[], "")));
    }

    #[test]
    fn refuses_bad_framing() {
        let head = "HTTP/1.1 200 OK\r\n";
        for (rest, why) in [
            ("Content-Length: -1\r\n\r\n", "Content-Length"),
            ("Content-Length: 1x\r\n\r\n", "Content-Length"),
            ("Content-Length: 99999999999999999999\r\n\r\n", "Content-Length"),
            ("Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", "two Content-Length"),
            ("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", "and Transfer-Encoding"),
            ("Transfer-Encoding: gzip\r\n\r\n", "transfer coding"),
            ("Transfer-Encoding: chunked\r\n\r\nzz\r\n", "chunk size"),
            ("Transfer-Encoding: chunked\r\n\r\n1\nx", "bare LF"),
            ("Transfer-Encoding: chunked\r\n\r\n1\r\nabc", "CRLF after"),
            ("Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n", "chunk size"),
            ("Content-Length: 2\r\n\r\na", "closed in the middle"),
            ("Content-Length", "closed in the middle"),
        ] {
            check(&format!("{head}{rest}"), Err(why));
        }
        check("SSH-2.0-x\r\n\r\n", Err("bad head"));
        check("HTTP/1.1 101 Switching\r\n\r\n", Err("101"));
        check(&format!("{head}{}", "X: y\r\n".repeat(FIELDS_MAX + 1)), Err("too many"));
        check(&format!("{head}X: {}", "y".repeat(HEAD_BYTES_MAX)), Err("too large"));
        check(&format!("{head}Transfer-Encoding: chunked\r\n\r\n{}", "1".repeat(LINE_BYTES_MAX + 1)), Err("too long"));
    }

    #[test]
    fn a_head_response_has_no_body() {
        let mut reader = ResponseReader::default();
        let wire = b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n";
        let got = reader.feed(wire, true, &mut ()).map(|(used, done)| (used, done.map(|done| done.body_bytes)));
        assert_eq!(got, Ok((wire.len(), Some(0))));
    }

    proptest! {
        /// Any bytes, in any pieces: an answer or an error, the same for all ways to cut them.
        #[test]
        fn cutting_changes_nothing(tail in proptest::collection::vec(any::<u8>(), 0..200), chunked in any::<bool>(), piece in 1usize..50) {
            let mut wire = if chunked {
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n".to_vec()
            } else {
                b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n".to_vec()
            };
            wire.extend(tail);
            let whole = read(&wire, wire.len()).map(|(all, text)| (all.len(), text));
            let cut = read(&wire, piece).map(|(all, text)| (all.len(), text));
            prop_assert_eq!(whole.is_ok(), cut.is_ok());
            if let (Ok(whole), Ok(cut)) = (whole, cut) {
                prop_assert_eq!(whole, cut);
            }
        }
    }
}
