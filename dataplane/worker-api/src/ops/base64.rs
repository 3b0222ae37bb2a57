//! `atob` and `btoa` (HTML §8.3): forgiving base64 of the Infra standard.

use base64::{
    Engine as _,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose::URL_SAFE_NO_PAD},
};
use isolate::{Args, OpError, OpResult, OpTable, Scope};

/// No padding is left when it decodes; bits past the last byte are ignored.
const FORGIVING: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireNone),
);

pub(super) fn register(ops: &mut OpTable) {
    ops.add("base64Encode", base64_encode);
    ops.add("base64Decode", base64_decode);
}

pub(super) fn register_url(ops: &mut OpTable) {
    ops.add("base64UrlEncode", base64_url_encode);
    ops.add("base64UrlDecode", base64_url_decode);
}

/// `base64Encode(text)`: `text` is a byte string.
fn base64_encode<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> OpResult<'s> {
    let mut bytes = Vec::new();
    if !cx.append_latin1(args.get(0), &mut bytes) {
        return Err(OpError::type_error("argument 1 is not a byte string"));
    }
    let text = base64::engine::general_purpose::STANDARD.encode(&bytes);
    cx.string_from_utf8(text.as_bytes()).ok_or_else(|| OpError::range_error("Invalid string length"))
}

/// `base64Decode(text)`: a byte string, or `null` if `text` is not base64.
fn base64_decode<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> OpResult<'s> {
    let mut text = Vec::new();
    if !cx.append_latin1(args.get(0), &mut text) {
        return Ok(cx.null());
    }
    Ok(match forgiving_decode(text) {
        Some(bytes) => cx.latin1(&bytes),
        None => cx.null(),
    })
}

/// `base64UrlEncode(bytes)`: without padding (RFC 7515 §2).
fn base64_url_encode<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> OpResult<'s> {
    let text = cx.with_bytes(args.get(0), |bytes| URL_SAFE_NO_PAD.encode(bytes));
    let text = text.ok_or_else(|| OpError::type_error("argument 1 is not a buffer"))?;
    cx.string_from_utf8(text.as_bytes()).ok_or_else(|| OpError::range_error("Invalid string length"))
}

/// `base64UrlDecode(text)`: bytes, or `null` if `text` is not base64url without padding.
fn base64_url_decode<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> OpResult<'s> {
    let text = args.string(cx, 0)?;
    match URL_SAFE_NO_PAD.decode(text) {
        Ok(bytes) => cx.uint8_array(bytes).ok_or_else(OpError::out_of_memory),
        Err(_) => Ok(cx.null()),
    }
}

/// Infra standard, "forgiving-base64 decode".
fn forgiving_decode(mut text: Vec<u8>) -> Option<Vec<u8>> {
    // ASCII whitespace: tab, line feed, form feed, carriage return, space.
    text.retain(|byte| !byte.is_ascii_whitespace());
    if text.len().is_multiple_of(4) {
        for _ in 0..2 {
            if text.last() == Some(&b'=') {
                text.pop();
            }
        }
    }
    FORGIVING.decode(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: Option<&[u8]>) {
        assert_eq!(forgiving_decode(text.into()).as_deref(), expect, "{text:?}");
    }

    #[test]
    fn decodes_as_forgivingly_as_the_standard_says() {
        check("", Some(b""));
        check("YWJj", Some(b"abc"));
        check(" Y\tW\nJ\rj\x0c", Some(b"abc"));
        check("YQ==", Some(b"a"));
        check("YQ", Some(b"a"));
        check("YWI=", Some(b"ab"));
        check("YWI", Some(b"ab"));
        // Bits past the last byte.
        check("YR==", Some(b"a"));
    }

    #[test]
    fn refuses_what_is_not_base64() {
        for text in ["Y", "YQ=", "YQ===", "=", "====", "Y=Q=", "YW-_", "YQ==YQ==", "\u{a0}", "YWJjZ"] {
            check(text, None);
        }
    }
}
