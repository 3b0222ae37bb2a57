//! HMAC (FIPS 198-1), HKDF (RFC 5869), PBKDF2 (RFC 8018), on ring's HMAC.

use isolate::{Args, OpError, OpResult, OpTable, Scope};
use ring::hmac;

use super::{bytes_or_null, hash::Hash, not_a_buffer, same_bytes};

pub(super) fn register(ops: &mut OpTable) {
    ops.add("hmacSign", hmac_sign);
    ops.add("hmacVerify", hmac_verify);
    ops.add("hkdf", hkdf);
    ops.add("pbkdf2Begin", pbkdf2_begin);
    ops.add("pbkdf2Steps", pbkdf2_steps);
}

/// `hmacSign(hash, key, data)`
fn hmac_sign<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> OpResult<'s> {
    let key = key_of(cx, args)?;
    let tag = cx.with_bytes(args.get(2), |data| hmac::sign(&key, data)).ok_or_else(|| not_a_buffer(3))?;
    bytes_or_null(cx, Some(tag.as_ref().to_vec()))
}

/// `hmacVerify(hash, key, data, signature)`
fn hmac_verify<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> OpResult<'s> {
    let key = key_of(cx, args)?;
    let tag = cx.with_bytes(args.get(2), |data| hmac::sign(&key, data)).ok_or_else(|| not_a_buffer(3))?;
    let same = cx.with_bytes(args.get(3), |said| same_bytes(tag.as_ref(), said)).ok_or_else(|| not_a_buffer(4))?;
    Ok(cx.boolean(same))
}

fn key_of<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> Result<hmac::Key, OpError> {
    let hash = Hash::named(&args.string(cx, 0)?)?;
    cx.with_bytes(args.get(1), |key| hmac::Key::new(hash.hmac(), key)).ok_or_else(|| not_a_buffer(2))
}

/// `hkdf(hash, key, salt, info, length)`: `length` bytes, `null` if that is more than 255 blocks.
fn hkdf<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> OpResult<'s> {
    let hash = Hash::named(&args.string(cx, 0)?)?;
    let key = args.bytes(cx, 1)?;
    let salt = args.bytes(cx, 2)?;
    let info = args.bytes(cx, 3)?;
    let length = args.id(4)?;
    let fits = usize::try_from(length).ok().filter(|length| *length <= 255 * hash.len());
    bytes_or_null(cx, fits.map(|length| hkdf_bytes(hash, &key, &salt, &info, length)))
}

fn hkdf_bytes(hash: Hash, key: &[u8], salt: &[u8], info: &[u8], length: usize) -> Vec<u8> {
    let extracted = hmac::sign(&hmac::Key::new(hash.hmac(), salt), key);
    let key = hmac::Key::new(hash.hmac(), extracted.as_ref());
    let mut out = Vec::with_capacity(length + hash.len());
    let mut block = Vec::new();
    for counter in 1..=255u8 {
        if out.len() >= length {
            break;
        }
        let mut context = hmac::Context::with_key(&key);
        context.update(&block);
        context.update(info);
        context.update(&[counter]);
        block = context.sign().as_ref().to_vec();
        out.extend_from_slice(&block);
    }
    out.truncate(length);
    out
}

/// `pbkdf2Begin(hash, password, salt, index)`: the first step of block `index`, from 1: what is to go into `pbkdf2Steps`, twice.
fn pbkdf2_begin<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> OpResult<'s> {
    let key = key_of(cx, args)?;
    let index = args.id(3)? as u32;
    let first = cx.with_bytes(args.get(2), |salt| {
        let mut context = hmac::Context::with_key(&key);
        context.update(salt);
        context.update(&index.to_be_bytes());
        context.sign()
    });
    let first = first.ok_or_else(|| not_a_buffer(3))?;
    bytes_or_null(cx, Some([first.as_ref(), first.as_ref()].concat()))
}

/// Steps of one call at most: milliseconds.
const STEPS_MAX: u64 = 4096;

/// `pbkdf2Steps(hash, password, state, steps)`: does up to `STEPS_MAX` steps on `state`, which is the last output and the
/// sum of all; gives how many.
fn pbkdf2_steps<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> OpResult<'s> {
    let key = key_of(cx, args)?;
    let steps = args.id(3)?.min(STEPS_MAX);
    let done = cx.with_bytes_mut(args.get(2), |state| {
        let (last, sum) = state.split_at_mut(state.len() / 2);
        for _ in 0..steps {
            last.copy_from_slice(hmac::sign(&key, last).as_ref());
            sum.iter_mut().zip(&*last).for_each(|(sum, byte)| *sum ^= byte);
        }
    });
    done.ok_or_else(|| not_a_buffer(3))?;
    Ok(cx.id(steps))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hkdf_is_rings() {
        struct Length(usize);
        impl ring::hkdf::KeyType for Length {
            fn len(&self) -> usize {
                self.0
            }
        }
        for length in [0, 1, 32, 33, 255 * 32] {
            let salt = ring::hkdf::Salt::new(ring::hkdf::HKDF_SHA256, b"salt");
            let key = salt.extract(b"key");
            let mut theirs = vec![0; length];
            key.expand(&[b"info"], Length(length)).and_then(|okm| okm.fill(&mut theirs)).expect("fits");
            assert_eq!(hkdf_bytes(Hash::Sha256, b"key", b"salt", b"info", length), theirs);
        }
    }
}
