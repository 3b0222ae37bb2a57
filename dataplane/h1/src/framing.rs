//! How long a message's body is (RFC 9112 §6), read from its fields.

use crate::field;

/// How a message's body is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    None,
    /// So many bytes, at least one.
    Length(u64),
    /// Chunks until the last one.
    Chunked,
    /// Until the connection ends (responses only).
    UntilClose,
}

/// Why the framing fields are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FramingError {
    /// Two readers could disagree about where the message ends.
    Ambiguous(&'static str),
    /// A transfer coding besides `chunked`.
    Coding,
}

/// Collects the framing fields of one head.
#[derive(Default)]
pub(crate) struct FramingFields {
    length: Option<u64>,
    chunked: bool,
}

impl FramingFields {
    /// A `Content-Length` field: digits alone, once.
    pub(crate) fn content_length(&mut self, value: &[u8]) -> Result<(), FramingError> {
        if self.length.is_some() {
            return Err(FramingError::Ambiguous("more than one Content-Length"));
        }
        let length = field::parse_decimal(value).ok_or(FramingError::Ambiguous("invalid Content-Length"))?;
        self.length = Some(length);
        Ok(())
    }

    /// A `Transfer-Encoding` field: `chunked` alone, once.
    pub(crate) fn transfer_encoding(&mut self, value: &[u8]) -> Result<(), FramingError> {
        if self.chunked {
            return Err(FramingError::Ambiguous("more than one Transfer-Encoding"));
        }
        if value.eq_ignore_ascii_case(b"chunked") {
            self.chunked = true;
            return Ok(());
        }
        let codings: Vec<&[u8]> = field::list(value).collect();
        let chunked = codings.iter().filter(|coding| coding.eq_ignore_ascii_case(b"chunked")).count();
        let last_is_chunked = codings.last().is_some_and(|coding| coding.eq_ignore_ascii_case(b"chunked"));
        if chunked == 1 && last_is_chunked && codings.len() > 1 && codings.iter().all(|coding| field::is_token(coding))
        {
            return Err(FramingError::Coding);
        }
        Err(FramingError::Ambiguous("invalid Transfer-Encoding"))
    }

    /// Framing of a request.
    pub(crate) fn of_request(self, minor_version: u8) -> Result<Framing, FramingError> {
        match (self.length, self.chunked) {
            (Some(_), true) => Err(FramingError::Ambiguous("Content-Length beside Transfer-Encoding")),
            (_, true) if minor_version == 0 => Err(FramingError::Ambiguous("Transfer-Encoding in HTTP/1.0")),
            (None, true) => Ok(Framing::Chunked),
            (None | Some(0), false) => Ok(Framing::None),
            (Some(length), false) => Ok(Framing::Length(length)),
        }
    }

    /// Framing of a response that may have a body.
    pub(crate) fn of_response(self, minor_version: u8) -> Result<Framing, FramingError> {
        match (self.length, self.chunked) {
            (None, false) => Ok(Framing::UntilClose),
            _ => self.of_request(minor_version),
        }
    }
}
