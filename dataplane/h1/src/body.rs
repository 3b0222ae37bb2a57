//! Bodies: a decoder that takes bytes in any portions (RFC 9112 §6 and §7), and the pieces of a chunked body to send.

use crate::field;
use crate::framing::Framing;
use base::limits::CHUNK_LINE_BYTES_MAX;
use std::fmt;

/// Chunk sizes of more digits than this are refused; leading zeros count.
const CHUNK_SIZE_DIGITS_MAX: u32 = 15;
/// What chunk lines may cost in bytes beyond 16 and twice the data they carry, over a whole body: a peer that sends
/// much framing for little data is up to no good.
const CHUNK_OVERHEAD_BYTES_MAX: u64 = 16 * 1024;

/// A body that is not what its framing says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// Not chunked coding, or chunked coding that two readers would read differently.
    Malformed(&'static str),
    /// Longer than the limit given to [`Decoder::new`].
    TooLarge,
    /// The connection ended first.
    Truncated,
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BodyError::Malformed(why) => why,
            BodyError::TooLarge => "the body is too large",
            BodyError::Truncated => "the connection ended before the body did",
        })
    }
}

impl std::error::Error for BodyError {}

/// What [`Decoder::decode`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// All of the input is used and more is needed.
    More,
    /// Data: so many bytes of the input after `skip` bytes of framing; both are used.
    Data {
        /// Framing before the data.
        skip: usize,
        /// The data, never none.
        len: usize,
    },
    /// The body is complete after so many bytes of the input; the next message follows.
    End {
        /// Bytes used.
        used: usize,
    },
}

/// Finds a body's data in the bytes of its connection.
#[derive(Clone, Debug)]
pub struct Decoder {
    state: State,
    /// Data bytes that may still come.
    allowance: u64,
    /// Framing bytes so far that data has not paid for.
    overhead: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Length { left: u64 },
    UntilClose,
    Size { value: u64, digits: u32 },
    Extension { size: u64, bytes: u32 },
    SizeLf { size: u64 },
    Data { left: u64 },
    DataCr,
    DataLf,
    Trailer { place: TrailerPlace, bytes: u32 },
    Ended,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TrailerPlace {
    LineStart,
    Name,
    Value,
    LineLf,
    LastLf,
}

impl Decoder {
    /// A decoder for one body of at most `bytes_max` data bytes.
    pub fn new(framing: Framing, bytes_max: u64) -> Decoder {
        let state = match framing {
            Framing::None => State::Ended,
            Framing::Length(left) => State::Length { left },
            Framing::Chunked => State::Size { value: 0, digits: 0 },
            Framing::UntilClose => State::UntilClose,
        };
        Decoder { state, allowance: bytes_max, overhead: 0 }
    }

    /// Whether the body is complete.
    pub fn ended(&self) -> bool {
        matches!(self.state, State::Ended | State::Length { left: 0 })
    }

    /// Bytes that must still come, where the framing tells.
    pub fn remaining(&self) -> Option<u64> {
        match self.state {
            State::Length { left } => Some(left),
            State::Ended => Some(0),
            _ => None,
        }
    }

    /// How many of the bytes that come next are data for certain, whatever they are: who has read them into their place already
    /// says so with [`Decoder::advance`]. 0 where framing comes next, or the end.
    pub fn run(&self) -> u64 {
        match self.state {
            State::Length { left } | State::Data { left } => left.min(self.allowance),
            State::UntilClose => self.allowance,
            _ => 0,
        }
    }

    /// So many bytes of the [run](Decoder::run) were taken.
    pub fn advance(&mut self, len: u64) {
        assert!(len <= self.run(), "more was taken than is data for certain");
        self.state = match self.state {
            State::Length { left } => State::Length { left: left - len },
            State::Data { left } if left == len => State::DataCr,
            State::Data { left } => State::Data { left: left - len },
            state => state,
        };
        self.allowance -= len;
        self.overhead = self.overhead.saturating_sub(2 * len);
    }

    /// Looks at `input`, which continues where the last call's used bytes ended.
    ///
    /// `Data` is given as it is found, at most to the end of `input`; call again with the rest.
    pub fn decode(&mut self, input: &[u8]) -> Result<Decoded, BodyError> {
        let mut at = 0;
        loop {
            match self.state {
                State::Ended | State::Length { left: 0 } => return Ok(Decoded::End { used: at }),
                State::Length { left } | State::Data { left } => {
                    let len = left.min((input.len() - at) as u64);
                    if len == 0 {
                        return Ok(Decoded::More);
                    }
                    let rest = left - len;
                    self.state = match self.state {
                        State::Length { .. } => State::Length { left: rest },
                        _ if rest == 0 => State::DataCr,
                        _ => State::Data { left: rest },
                    };
                    return self.data(at, len);
                }
                State::UntilClose => {
                    let len = (input.len() - at) as u64;
                    return if len == 0 { Ok(Decoded::More) } else { self.data(at, len) };
                }
                _ => {
                    let Some(byte) = input.get(at) else { return Ok(Decoded::More) };
                    at += 1;
                    self.framing_byte(*byte)?;
                }
            }
        }
    }

    /// The connection ended. Complete for a body that lasts as long as its connection.
    pub fn eof(&mut self) -> Result<(), BodyError> {
        match self.state {
            State::UntilClose | State::Ended | State::Length { left: 0 } => {
                self.state = State::Ended;
                Ok(())
            }
            _ => Err(BodyError::Truncated),
        }
    }

    fn data(&mut self, skip: usize, len: u64) -> Result<Decoded, BodyError> {
        self.allowance = self.allowance.checked_sub(len).ok_or(BodyError::TooLarge)?;
        self.overhead = self.overhead.saturating_sub(2 * len);
        Ok(Decoded::Data { skip, len: len as usize })
    }

    fn framing_byte(&mut self, byte: u8) -> Result<(), BodyError> {
        self.overhead += 1;
        if self.overhead > CHUNK_OVERHEAD_BYTES_MAX {
            return Err(BodyError::Malformed("too much chunk framing for too little data"));
        }
        self.state = match self.state {
            State::Size { value, digits } => size_byte(byte, value, digits)?,
            State::SizeLf { size } => match (byte, size) {
                (b'\n', 0) => State::Trailer { place: TrailerPlace::LineStart, bytes: 0 },
                (b'\n', _) if size > self.allowance => return Err(BodyError::TooLarge),
                (b'\n', _) => State::Data { left: size },
                _ => return Err(BodyError::Malformed("invalid chunk line")),
            },
            State::DataCr if byte == b'\r' => State::DataLf,
            State::DataLf if byte == b'\n' => {
                self.overhead = self.overhead.saturating_sub(16);
                State::Size { value: 0, digits: 0 }
            }
            State::DataCr | State::DataLf => return Err(BodyError::Malformed("a chunk is longer than its size")),
            State::Trailer { place, bytes } => trailer_byte(byte, place, bytes)?,
            State::Extension { size, bytes } => extension_byte(byte, size, bytes)?,
            // `decode` reads no framing byte in these.
            state @ (State::Length { .. } | State::UntilClose | State::Data { .. } | State::Ended) => state,
        };
        Ok(())
    }
}

fn size_byte(byte: u8, value: u64, digits: u32) -> Result<State, BodyError> {
    match (char::from(byte).to_digit(16), byte) {
        (Some(_), _) if digits == CHUNK_SIZE_DIGITS_MAX => Err(BodyError::Malformed("invalid chunk size")),
        (Some(digit), _) => Ok(State::Size { value: value * 16 + u64::from(digit), digits: digits + 1 }),
        (None, b'\r') if digits > 0 => Ok(State::SizeLf { size: value }),
        (None, b';') if digits > 0 => Ok(State::Extension { size: value, bytes: 0 }),
        _ => Err(BodyError::Malformed("invalid chunk size")),
    }
}

fn extension_byte(byte: u8, size: u64, bytes: u32) -> Result<State, BodyError> {
    match byte {
        b'\r' => Ok(State::SizeLf { size }),
        _ if bytes as usize >= CHUNK_LINE_BYTES_MAX => Err(BodyError::Malformed("a chunk extension is too long")),
        _ if field::is_value_byte(byte) => Ok(State::Extension { size, bytes: bytes + 1 }),
        _ => Err(BodyError::Malformed("invalid chunk extension")),
    }
}

fn trailer_byte(byte: u8, place: TrailerPlace, bytes: u32) -> Result<State, BodyError> {
    if bytes as usize >= CHUNK_LINE_BYTES_MAX {
        return Err(BodyError::Malformed("the trailer section is too long"));
    }
    let place = match (place, byte) {
        (TrailerPlace::LineStart, b'\r') => TrailerPlace::LastLf,
        (TrailerPlace::LastLf, b'\n') => return Ok(State::Ended),
        (TrailerPlace::LineStart | TrailerPlace::Name, _) if field::is_token_byte(byte) => TrailerPlace::Name,
        (TrailerPlace::Name, b':') => TrailerPlace::Value,
        (TrailerPlace::Value, b'\r') => TrailerPlace::LineLf,
        (TrailerPlace::Value, _) if field::is_value_byte(byte) => TrailerPlace::Value,
        (TrailerPlace::LineLf, b'\n') => TrailerPlace::LineStart,
        _ => return Err(BodyError::Malformed("invalid trailer section")),
    };
    Ok(State::Trailer { place, bytes: bytes + 1 })
}

/// Bytes of the longest line that [`push_chunk_head`] writes: 16 hex digits, CR, LF.
pub const CHUNK_HEAD_BYTES_MAX: usize = 18;
/// What follows a chunk's data.
pub const CHUNK_TAIL: &[u8] = b"\r\n";
/// The last chunk, without trailers.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Appends the line before a chunk of `len` bytes, at least one: a chunk of none would end the body.
pub fn push_chunk_head(out: &mut Vec<u8>, len: usize) {
    debug_assert!(len > 0, "an empty chunk ends a body");
    let mut digits = [0u8; 16];
    let mut at = digits.len();
    let mut value = len;
    loop {
        at -= 1;
        digits[at] = b"0123456789abcdef"[value & 15];
        value >>= 4;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `input` in portions of `portion` bytes: the data, and how many bytes of the input the body took.
    fn decode(framing: Framing, limit: u64, input: &[u8], portion: usize) -> Result<(Vec<u8>, usize), BodyError> {
        let mut decoder = Decoder::new(framing, limit);
        let (mut data, mut used, mut end) = (Vec::new(), 0, 0);
        loop {
            match decoder.decode(&input[used..end])? {
                Decoded::More if end == input.len() => return decoder.eof().map(|()| (data, end)),
                Decoded::More => {
                    used = end;
                    end = input.len().min(end + portion);
                }
                Decoded::Data { skip, len } => {
                    data.extend_from_slice(&input[used + skip..used + skip + len]);
                    used += skip + len;
                }
                Decoded::End { used: more } => return Ok((data, used + more)),
            }
        }
    }

    fn check(framing: Framing, input: &str, expect: Result<(&str, usize), BodyError>) {
        for portion in [1, 2, 3, 7, input.len().max(1)] {
            let got = decode(framing, 1_000, input.as_bytes(), portion);
            let expect = expect.map(|(data, used)| (data.as_bytes().to_vec(), used));
            assert_eq!(got, expect, "{input:?} by {portion}");
        }
    }

    #[test]
    fn runs() {
        let mut decoder = Decoder::new(Framing::Chunked, 10);
        assert_eq!(decoder.run(), 0);
        assert_eq!(decoder.decode(b"6\r\nab"), Ok(Decoded::Data { skip: 3, len: 2 }));
        assert_eq!(decoder.run(), 4);
        decoder.advance(3);
        assert_eq!(decoder.run(), 1);
        decoder.advance(1);
        assert_eq!((decoder.run(), decoder.ended()), (0, false));
        assert_eq!(decoder.decode(b"\r\n5\r\n"), Err(BodyError::TooLarge), "the run counts against the limit");
        let mut decoder = Decoder::new(Framing::Length(5), 100);
        decoder.advance(5);
        assert!(decoder.ended());
        assert_eq!(Decoder::new(Framing::UntilClose, 7).run(), 7);
    }

    #[test]
    fn lengths() {
        check(Framing::None, "GET", Ok(("", 0)));
        check(Framing::Length(3), "abcGET", Ok(("abc", 3)));
        check(Framing::Length(3), "ab", Err(BodyError::Truncated));
        check(Framing::UntilClose, "abc", Ok(("abc", 3)));
        check(Framing::Length(1_001), &"x".repeat(1_001), Err(BodyError::TooLarge));
    }

    #[test]
    fn chunks() {
        check(Framing::Chunked, "3\r\nabc\r\n0\r\n\r\nGET", Ok(("abc", 13)));
        check(
            Framing::Chunked,
            "0a;x=\"y z\";q\r\n0123456789\r\n1\r\n!\r\n0\r\nT: v\r\nU:\r\n\r\n",
            Ok(("0123456789!", 47)),
        );
        check(Framing::Chunked, "0\r\n\r\n", Ok(("", 5)));
        check(Framing::Chunked, "3\r\nabc\r\n", Err(BodyError::Truncated));
        check(Framing::Chunked, "3e9\r\n", Err(BodyError::TooLarge));
    }

    #[test]
    fn malformed_chunks() {
        for input in [
            "\r\n",
            "g\r\n",
            "-1\r\n",
            "+1\r\n",
            " 1\r\n",
            "1 \r\n",
            "0x1\r\n",
            "1\nab",
            "1\r\r",
            ";x\r\n",
            "1\r\nab\r\n",
            "1\r\na\n",
            "1\r\na\r\r",
            "1;a\nb\r\n",
            "1;\0\r\n",
            "0000000000000001\r\n",
            "ffffffffffffffff\r\n",
            "0\r\n\n",
            "0\r\nT\r\n\r\n",
            "0\r\n T: v\r\n\r\n",
            "0\r\nT: v\n\r\n",
            "0\r\nT: \0\r\n\r\n",
            "0\r\n:v\r\n\r\n",
        ] {
            for portion in [1, input.len()] {
                let got = decode(Framing::Chunked, 1_000, input.as_bytes(), portion);
                assert!(matches!(got, Err(BodyError::Malformed(_))), "{input:?} by {portion}: {got:?}");
            }
        }
    }

    #[test]
    fn framing_may_not_outweigh_data() {
        let long_extension = format!("1;{}\r\n", "x".repeat(CHUNK_LINE_BYTES_MAX + 1));
        let long_trailers = format!("0\r\n{}", "a: b\r\n".repeat(CHUNK_LINE_BYTES_MAX));
        let many_extensions = format!("1;{}\r\na\r\n", "x".repeat(1_000)).repeat(100);
        for input in [long_extension, long_trailers, many_extensions] {
            let got = decode(Framing::Chunked, 1_000, input.as_bytes(), 64);
            assert!(matches!(got, Err(BodyError::Malformed(_))), "{got:?}");
        }
        let small_chunks = "1\r\na\r\n".repeat(20_000) + "0\r\n\r\n";
        let (data, _) =
            decode(Framing::Chunked, 1_000_000, small_chunks.as_bytes(), 1_000).expect("honest small chunks");
        assert_eq!(data.len(), 20_000);
    }

    #[test]
    fn chunk_heads() {
        for (len, expect) in [(1, "1\r\n"), (15, "f\r\n"), (16, "10\r\n"), (65_536, "10000\r\n")] {
            let mut out = Vec::new();
            push_chunk_head(&mut out, len);
            assert_eq!(out, expect.as_bytes());
        }
    }
}
