//! Decoders of the Encoding standard, all on `encoding_rs`.
//!
//! *Bounds:* output grows in steps of what was decoded, never by the worst case of the whole input.

use encoding_rs::{CoderResult, Decoder, DecoderResult, Encoding};
use isolate::{Args, OpError, OpResult, OpTable, Scope, Value};

/// Bytes decoded per step.
const STEP_BYTES: usize = 64 * 1024;

pub(super) fn register(ops: &mut OpTable) {
    ops.add("encodingForLabel", encoding_for_label);
    ops.add("decode", decode);
    ops.add("decoderNew", decoder_new);
    ops.add("decoderPush", decoder_push);
}

/// `encodingForLabel(label)`: the encoding's name in lower case, or `null`. "replacement" has no decoder of its own.
fn encoding_for_label<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> OpResult<'s> {
    let label = args.string(cx, 0)?;
    Ok(match Encoding::for_label_no_replacement(label.as_bytes()) {
        Some(encoding) => cx.string(&encoding.name().to_ascii_lowercase()),
        None => cx.null(),
    })
}

/// `decode(name, bytes, fatal, keep_mark)`: all of a text, or `null` if it is not valid and `fatal`.
fn decode<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> OpResult<'s> {
    let mut stream = stream_of(cx, args, 2)?;
    let text = cx.with_bytes(args.get(1), |bytes| stream.push(bytes, true));
    text_or_null(cx, text.ok_or_else(|| OpError::type_error("argument 2 is not a buffer"))?)
}

/// `decoderNew(name, fatal, keep_mark)`: a decoder that keeps its state between pushes.
fn decoder_new<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> OpResult<'s> {
    let stream = stream_of(cx, args, 1)?;
    cx.handle(stream).ok_or_else(OpError::out_of_memory)
}

/// `decoderPush(decoder, bytes, last)`: the text so far, or `null` if the bytes are not valid and it is fatal.
fn decoder_push<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> OpResult<'s> {
    let bytes = args.bytes(cx, 1)?;
    let last = args.flag(2);
    let text = cx.with_handle::<Stream, _>(args.get(0), |stream| stream.push(&bytes, last));
    text_or_null(cx, text.ok_or_else(|| OpError::type_error("argument 1 is not a decoder"))?)
}

fn stream_of<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>, flags: usize) -> Result<Stream, OpError> {
    let name = args.string(cx, 0)?;
    let encoding =
        Encoding::for_label_no_replacement(name.as_bytes()).ok_or_else(|| OpError::range_error("no such encoding"))?;
    Ok(Stream::new(encoding, args.flag(flags), args.flag(flags + 1)))
}

fn text_or_null<'s>(cx: &mut Scope<'s, '_>, text: Option<String>) -> Result<Value<'s>, OpError> {
    match text {
        None => Ok(cx.null()),
        Some(text) => cx.string_from_utf8(text.as_bytes()).ok_or_else(|| OpError::range_error("Invalid string length")),
    }
}

/// A decoder with what the program asked of it.
struct Stream {
    decoder: Decoder,
    fatal: bool,
}

impl Stream {
    fn new(encoding: &'static Encoding, fatal: bool, keep_mark: bool) -> Stream {
        let decoder = if keep_mark {
            encoding.new_decoder_without_bom_handling()
        } else {
            encoding.new_decoder_with_bom_removal()
        };
        Stream { decoder, fatal }
    }

    /// Decodes bytes; `None` if they are not valid and errors are fatal.
    fn push(&mut self, bytes: &[u8], last: bool) -> Option<String> {
        let mut text = String::new();
        let mut steps = bytes.chunks(STEP_BYTES).peekable();
        if steps.peek().is_none() {
            self.step(&[], last, &mut text)?;
        }
        while let Some(step) = steps.next() {
            self.step(step, last && steps.peek().is_none(), &mut text)?;
        }
        Some(text)
    }

    fn step(&mut self, mut bytes: &[u8], last: bool, text: &mut String) -> Option<()> {
        loop {
            // `encoding_rs` gives no length only where it would overflow: a step is far from that.
            text.reserve(self.decoder.max_utf8_buffer_length(bytes.len()).unwrap_or(STEP_BYTES));
            let read = if self.fatal {
                match self.decoder.decode_to_string_without_replacement(bytes, text, last) {
                    (DecoderResult::InputEmpty, _) => return Some(()),
                    (DecoderResult::Malformed(..), _) => return None,
                    (DecoderResult::OutputFull, read) => read,
                }
            } else {
                match self.decoder.decode_to_string(bytes, text, last) {
                    (CoderResult::InputEmpty, ..) => return Some(()),
                    (CoderResult::OutputFull, read, _) => read,
                }
            };
            bytes = &bytes[read..];
        }
    }
}

#[cfg(test)]
mod tests {
    use encoding_rs::{GBK, SHIFT_JIS, UTF_8, UTF_16LE, WINDOWS_1252};

    use super::*;

    /// Decodes `bytes` cut at every place, and whole.
    fn check(encoding: &'static Encoding, bytes: &[u8], fatal: bool, keep_mark: bool, expect: Option<&str>) {
        assert_eq!(Stream::new(encoding, fatal, keep_mark).push(bytes, true).as_deref(), expect, "whole {bytes:x?}");
        for cut in 0..=bytes.len() {
            let mut stream = Stream::new(encoding, fatal, keep_mark);
            let parts = stream.push(&bytes[..cut], false).and_then(|mut first| {
                first.push_str(&stream.push(&bytes[cut..], true)?);
                Some(first)
            });
            assert_eq!(parts.as_deref(), expect, "cut at {cut} {bytes:x?}");
        }
    }

    #[test]
    fn decodes_whole_and_in_parts() {
        check(UTF_8, "aé\u{1f600}".as_bytes(), true, false, Some("aé\u{1f600}"));
        check(SHIFT_JIS, b"\x82\xa0", true, false, Some("あ"));
        check(UTF_16LE, b"a\0\x3d\xd8\0\xde", true, false, Some("a\u{1f600}"));
        check(WINDOWS_1252, b"\x80\xe9", true, false, Some("€é"));
        check(GBK, b"\xc4\xe3", true, false, Some("你"));
    }

    #[test]
    fn replaces_or_refuses_what_is_not_valid() {
        check(UTF_8, b"a\xffb", false, false, Some("a\u{fffd}b"));
        check(UTF_8, b"a\xffb", true, false, None);
        check(UTF_8, b"\xe2\x82", false, false, Some("\u{fffd}"));
        check(UTF_8, b"\xe2\x82", true, false, None);
    }

    #[test]
    fn byte_order_mark_goes_once_or_stays() {
        check(UTF_8, b"\xef\xbb\xbf\xef\xbb\xbfa", false, false, Some("\u{feff}a"));
        check(UTF_8, b"\xef\xbb\xbfa", false, true, Some("\u{feff}a"));
    }

    #[test]
    fn long_input_takes_more_than_one_step() {
        let bytes = "é".repeat(STEP_BYTES);
        assert_eq!(Stream::new(UTF_8, true, false).push(bytes.as_bytes(), true).as_deref(), Some(&bytes[..]));
    }
}
