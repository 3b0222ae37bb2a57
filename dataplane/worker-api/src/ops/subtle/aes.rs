//! AES: CBC, CTR, GCM (NIST SP 800-38A, 800-38D), key wrap (RFC 3394).
//!
//! GCM with a nonce of 96 bits and a tag of 128 is ring's; the other nonces and tags of Web Cryptography are put together
//! here from the block cipher and GHASH.

use ::aes::{
    Aes128, Aes192, Aes256,
    cipher::{
        Block, BlockCipherDecrypt, BlockCipherEncrypt, BlockModeDecrypt, BlockModeEncrypt, BlockSizeUser, KeyInit,
        KeyIvInit, StreamCipher, block_padding::Pkcs7, consts::U16,
    },
};
use ghash::{GHash, universal_hash::UniversalHash};
use isolate::{Args, OpResult, OpTable, Scope};
use ring::aead;

use super::{bytes_or_null, same_bytes};

pub(super) fn register(ops: &mut OpTable) {
    ops.add("aesCbc", aes_cbc);
    ops.add("aesCtr", aes_ctr);
    ops.add("aesGcm", aes_gcm);
    ops.add("aesKw", aes_kw);
}

/// Calls a function with the cipher that a key's length says; `None` for any other length.
macro_rules! by_key {
    ($key:expr, $function:ident($($arg:expr),*)) => {
        match $key.len() {
            16 => $function::<Aes128>($($arg),*),
            24 => $function::<Aes192>($($arg),*),
            32 => $function::<Aes256>($($arg),*),
            _ => None,
        }
    };
}

/// What every mode needs of a cipher.
trait Aes: BlockCipherEncrypt + BlockCipherDecrypt + BlockSizeUser<BlockSize = U16> + KeyInit + Clone {}

impl<C> Aes for C where C: BlockCipherEncrypt + BlockCipherDecrypt + BlockSizeUser<BlockSize = U16> + KeyInit + Clone {}

/// `aesCbc(encrypt, key, iv, data)`: `null` where the padding is wrong.
fn aes_cbc<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> OpResult<'s> {
    let (encrypt, key, iv, data) = (args.flag(0), args.bytes(cx, 1)?, args.bytes(cx, 2)?, args.bytes(cx, 3)?);
    let done =
        if encrypt { by_key!(key, cbc_encrypt(&key, &iv, &data)) } else { by_key!(key, cbc_decrypt(&key, &iv, data)) };
    bytes_or_null(cx, done)
}

fn cbc_encrypt<C: Aes>(key: &[u8], iv: &[u8], data: &[u8]) -> Option<Vec<u8>> {
    Some(cbc::Encryptor::<C>::new_from_slices(key, iv).ok()?.encrypt_padded_vec::<Pkcs7>(data))
}

fn cbc_decrypt<C: Aes>(key: &[u8], iv: &[u8], mut data: Vec<u8>) -> Option<Vec<u8>> {
    let plain = cbc::Decryptor::<C>::new_from_slices(key, iv).ok()?.decrypt_padded::<Pkcs7>(&mut data).ok()?.len();
    data.truncate(plain);
    Some(data)
}

/// `aesCtr(key, counter, length, data)`: `null` where the counter's `length` bits would come round.
fn aes_ctr<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> OpResult<'s> {
    let (key, counter, length) = (args.bytes(cx, 0)?, args.bytes(cx, 1)?, args.id(2)? as u32);
    let data = args.bytes(cx, 3)?;
    let counter: Option<[u8; 16]> = counter.try_into().ok();
    let done = counter.and_then(|counter| by_key!(key, ctr_apply(&key, counter, length, data)));
    bytes_or_null(cx, done)
}

/// Only the low `length` bits count; they wrap, the others stay.
fn ctr_apply<C: Aes>(key: &[u8], counter: [u8; 16], length: u32, mut data: Vec<u8>) -> Option<Vec<u8>> {
    if !(1..=128).contains(&length) {
        return None;
    }
    let low = u128::MAX >> (128 - length);
    let start = u128::from_be_bytes(counter);
    let blocks = data.len().div_ceil(16) as u128;
    if length < 128 && blocks > low + 1 {
        return None;
    }
    // Blocks before the counter's low bits are zero again.
    let left = low - (start & low);
    let first = usize::try_from(left.saturating_add(1).saturating_mul(16)).unwrap_or(usize::MAX).min(data.len());
    let (head, tail) = data.split_at_mut(first);
    ctr::Ctr128BE::<C>::new_from_slices(key, &start.to_be_bytes()).ok()?.apply_keystream(head);
    if !tail.is_empty() {
        ctr::Ctr128BE::<C>::new_from_slices(key, &(start & !low).to_be_bytes()).ok()?.apply_keystream(tail);
    }
    Some(data)
}

/// `aesGcm(encrypt, key, iv, additional, tag_bytes, data)`: with the tag at the end of what is encrypted; `null` where it is wrong.
fn aes_gcm<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> OpResult<'s> {
    let (encrypt, key, iv) = (args.flag(0), args.bytes(cx, 1)?, args.bytes(cx, 2)?);
    let (additional, tag_bytes) = (args.bytes(cx, 3)?, args.id(4)? as usize);
    let data = args.bytes(cx, 5)?;
    bytes_or_null(cx, gcm(encrypt, &key, &iv, &additional, tag_bytes, data))
}

fn gcm(
    encrypt: bool,
    key: &[u8],
    iv: &[u8],
    additional: &[u8],
    tag_bytes: usize,
    mut data: Vec<u8>,
) -> Option<Vec<u8>> {
    let Some(ring) = gcm_of_ring(key, tag_bytes) else {
        return by_key!(key, gcm_any(encrypt, key, iv, additional, tag_bytes, data));
    };
    let Ok(nonce) = aead::Nonce::try_assume_unique_for_key(iv) else {
        return by_key!(key, gcm_any(encrypt, key, iv, additional, tag_bytes, data));
    };
    let additional = aead::Aad::from(additional);
    if encrypt {
        ring.seal_in_place_append_tag(nonce, additional, &mut data).ok()?;
    } else {
        let plain = ring.open_in_place(nonce, additional, &mut data).ok()?.len();
        data.truncate(plain);
    }
    Some(data)
}

fn gcm_of_ring(key: &[u8], tag_bytes: usize) -> Option<aead::LessSafeKey> {
    let algorithm = match (key.len(), tag_bytes) {
        (16, 16) => &aead::AES_128_GCM,
        (32, 16) => &aead::AES_256_GCM,
        _ => return None,
    };
    aead::UnboundKey::new(algorithm, key).ok().map(aead::LessSafeKey::new)
}

/// SP 800-38D §7, for any nonce and tag.
fn gcm_any<C: Aes>(
    encrypt: bool,
    key: &[u8],
    iv: &[u8],
    additional: &[u8],
    tag_bytes: usize,
    mut data: Vec<u8>,
) -> Option<Vec<u8>> {
    let cipher = C::new_from_slice(key).ok()?;
    let mut subkey = Block::<C>::default();
    cipher.encrypt_block(&mut subkey);
    let hash = GHash::new(&subkey);
    let first = first_counter::<C>(&hash, iv);
    let mut next = first;
    let count = u32::from_be_bytes([first[12], first[13], first[14], first[15]]).wrapping_add(1);
    next[12..].copy_from_slice(&count.to_be_bytes());
    let mut stream = ctr::Ctr32BE::<C>::new_from_slices(key, &next).ok()?;
    let mut mask = first;
    cipher.encrypt_block(&mut mask);
    let tag_of = |text: &[u8]| {
        let mut hash = hash.clone();
        hash.update_padded(additional);
        hash.update_padded(text);
        hash.update(&[lengths::<C>(additional.len(), text.len())]);
        let mut tag = hash.finalize();
        tag.iter_mut().zip(&mask).for_each(|(tag, mask)| *tag ^= mask);
        tag
    };
    if encrypt {
        stream.apply_keystream(&mut data);
        let tag = tag_of(&data);
        data.extend_from_slice(tag.get(..tag_bytes)?);
    } else {
        let said = data.split_off(data.len().checked_sub(tag_bytes)?);
        if !same_bytes(tag_of(&data).get(..tag_bytes)?, &said) {
            return None;
        }
        stream.apply_keystream(&mut data);
    }
    Some(data)
}

fn first_counter<C: Aes>(hash: &GHash, iv: &[u8]) -> Block<C> {
    let mut first = Block::<C>::default();
    if iv.len() == 12 {
        first[..12].copy_from_slice(iv);
        first[15] = 1;
    } else {
        let mut hash = hash.clone();
        hash.update_padded(iv);
        hash.update(&[lengths::<C>(0, iv.len())]);
        first.copy_from_slice(&hash.finalize());
    }
    first
}

/// Two lengths in bits, as a block.
fn lengths<C: Aes>(first_bytes: usize, second_bytes: usize) -> Block<C> {
    let mut block = Block::<C>::default();
    block[..8].copy_from_slice(&(first_bytes as u64 * 8).to_be_bytes());
    block[8..].copy_from_slice(&(second_bytes as u64 * 8).to_be_bytes());
    block
}

/// `aesKw(wrap, key, data)`: `null` where the length is no multiple of 8 or what was wrapped is not whole.
fn aes_kw<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> OpResult<'s> {
    let (wrap, key, data) = (args.flag(0), args.bytes(cx, 1)?, args.bytes(cx, 2)?);
    bytes_or_null(cx, by_key!(key, key_wrap(wrap, &key, &data)))
}

fn key_wrap<C: Aes>(wrap: bool, key: &[u8], data: &[u8]) -> Option<Vec<u8>> {
    let kw = ::aes_kw::AesKw::<C>::new_from_slice(key).ok()?;
    let least = if wrap { 16 } else { 24 };
    if data.len() < least || !data.len().is_multiple_of(8) {
        return None;
    }
    let mut out = vec![0; if wrap { data.len() + 8 } else { data.len() - 8 }];
    let done = if wrap { kw.wrap_key(data, &mut out) } else { kw.unwrap_key(data, &mut out) };
    done.is_ok().then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_gcm_is_rings_where_both_can() {
        for (key, len) in [(&[7; 16][..], 0), (&[7; 32][..], 100), (&[9; 16][..], 33)] {
            let data = vec![3; len];
            let ring = gcm(true, key, &[1; 12], b"more", 16, data.clone()).expect("sealed");
            let own = by_key!(key, gcm_any(true, key, &[1; 12], b"more", 16, data.clone())).expect("sealed");
            assert_eq!(ring, own);
            assert_eq!(by_key!(key, gcm_any(false, key, &[1; 12], b"more", 16, ring.clone())), Some(data.clone()));
            let mut wrong = ring;
            wrong[0] ^= 1;
            assert_eq!(by_key!(key, gcm_any(false, key, &[1; 12], b"more", 16, wrong.clone())), None);
            assert_eq!(gcm(false, key, &[1; 12], b"more", 16, wrong), None);
        }
    }

    /// NIST's GCM test case 6 (a nonce of 60 bytes), its ciphertext's start and tag; and the tag cut short.
    #[test]
    fn nonces_and_tags_of_other_lengths() {
        let hex = |text: &str| hex_bytes(text);
        let key = hex("feffe9928665731c6d6a8f9467308308");
        let iv = hex(
            "9313225df88406e555909c5aff5269aa6a7a9538534f7da1e4c303d2a318a728c3c0c95156809539fcf0e2429a6b525416aedbf5a0de6a57a637b39b",
        );
        let plain = hex(
            "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39",
        );
        let additional = hex("feedfacedeadbeeffeedfacedeadbeefabaddad2");
        let sealed = gcm(true, &key, &iv, &additional, 16, plain.clone()).expect("sealed");
        assert_eq!(sealed[..8], hex("8ce24998625615b6")[..]);
        assert_eq!(sealed[60..], hex("619cc5aefffe0bfa462af43c1699d050")[..]);
        let short = gcm(true, &key, &iv, &additional, 4, plain.clone()).expect("sealed");
        assert_eq!(short[..], sealed[..64]);
        assert_eq!(gcm(false, &key, &iv, &additional, 4, short), Some(plain));
    }

    #[test]
    fn a_counter_wraps_within_its_bits() {
        let key = [1; 16];
        let mut counter = [0xaa; 16];
        counter[15] = 0xff;
        let wrapped = ctr_apply::<Aes128>(&key, counter, 8, vec![0; 32]).expect("two blocks");
        let mut second = counter;
        second[15] = 0;
        let expect = ctr_apply::<Aes128>(&key, second, 128, vec![0; 16]).expect("one block");
        assert_eq!(wrapped[16..], expect[..]);
        assert_eq!(ctr_apply::<Aes128>(&key, counter, 1, vec![0; 33]), None);
        assert!(ctr_apply::<Aes128>(&key, [0xff; 16], 128, vec![0; 64]).is_some());
    }

    fn hex_bytes(text: &str) -> Vec<u8> {
        let digit = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).expect("hex");
        (0..text.len()).step_by(2).map(digit).collect()
    }
}
