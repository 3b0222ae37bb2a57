//! One snapshot's bytes from another's: what the control plane sends in place of a whole snapshot.
//!
//! A delta is zlib (RFC 1950) over `new length (LEB128) ‖ operation*`, an operation being `copied bytes × 2 + 1 ‖ distance` or
//! `literal bytes × 2 ‖ those bytes`, both numbers LEB128. A copy's distance is from where the copy before it ended in the old
//! bytes, zigzag. From no bytes it is the whole, compressed.
//!
//! [`make`] takes what is equal in place first, and finds moved blocks by a table of the old bytes' blocks: linear in both. A
//! delta says nothing about what it was made from or whether the result is right: the result's checksum does, which its
//! reader checks ([`crate::Snapshot`]). *Bounds:* [`apply`] makes no more than it is told; each copy has at least
//! [`BLOCK`] bytes, so that a short delta of many small operations cannot stand for much work. Never panics on any bytes.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};

use flate2::{Compression, read::ZlibDecoder, write::ZlibEncoder};

/// Bytes of the old that are found again wherever they have moved to.
pub const BLOCK: usize = 16;
/// A result up to this size is compressed with more care.
const SMALL_BYTES: usize = 1 << 20;

/// Bytes that are no delta of what they were applied to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeltaError {
    /// They say something that cannot be done.
    #[error("delta is malformed")]
    Malformed,
    /// The result would be over the limit.
    #[error("delta makes {0} bytes, over the limit")]
    TooLarge(u64),
}

/// The delta that makes `new` of `old`.
pub fn make(old: &[u8], new: &[u8]) -> Vec<u8> {
    let mut operations = Vec::new();
    number(new.len() as u64, &mut operations);
    let mut blocks: Option<HashMap<&[u8], usize>> = None;
    let (mut at, mut copied_to, mut literal_from) = (0, 0, 0);
    while at < new.len() {
        // Where the old bytes go on if nothing but a few bytes changed.
        let beside = copied_to + (at - literal_from);
        let mut found = Some((beside, same(old.get(beside..).unwrap_or_default(), &new[at..])));
        if found.is_none_or(|(_, length)| length < BLOCK) {
            let blocks = blocks.get_or_insert_with(|| {
                // The first of equal blocks.
                let each = old.chunks_exact(BLOCK).enumerate().rev();
                each.map(|(index, block)| (block, index * BLOCK)).collect()
            });
            let block = new.get(at..at + BLOCK).and_then(|block| blocks.get(block));
            found = block.map(|from| (*from, same(&old[*from..], &new[at..])));
        }
        let Some((mut from, mut length)) = found.filter(|(_, length)| *length >= BLOCK) else {
            at += 1;
            continue;
        };
        // What was taken for literal may belong to it.
        let before = old[..from].iter().rev().zip(new[literal_from..at].iter().rev());
        let earlier = before.take_while(|(a, b)| a == b).count();
        (from, at, length) = (from - earlier, at - earlier, length + earlier);
        literal(&new[literal_from..at], &mut operations);
        number(length as u64 * 2 + 1, &mut operations);
        let distance = from as i64 - copied_to as i64;
        number((distance << 1 ^ distance >> 63) as u64, &mut operations);
        at += length;
        (copied_to, literal_from) = (from + length, at);
    }
    literal(&new[literal_from..], &mut operations);
    let level = if new.len() <= SMALL_BYTES { Compression::best() } else { Compression::fast() };
    let mut encoder = ZlibEncoder::new(Vec::new(), level);
    encoder.write_all(&operations).expect("writing into memory does not fail");
    encoder.finish().expect("writing into memory does not fail")
}

/// How many bytes two have in common from their beginning.
fn same(a: &[u8], b: &[u8]) -> usize {
    // By large pieces first: nearly all of two generations is the same.
    const PIECE: usize = 4096;
    let pieces = a.chunks_exact(PIECE).zip(b.chunks_exact(PIECE)).take_while(|(a, b)| a == b).count() * PIECE;
    pieces + a[pieces..].iter().zip(&b[pieces..]).take_while(|(a, b)| a == b).count()
}

fn literal(bytes: &[u8], out: &mut Vec<u8>) {
    if !bytes.is_empty() {
        number(bytes.len() as u64 * 2, out);
        out.extend_from_slice(bytes);
    }
}

fn number(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn read_number(rest: &mut &[u8]) -> Result<u64, DeltaError> {
    let mut number = 0u64;
    for shift in (0..63).step_by(7) {
        let (&byte, after) = rest.split_first().ok_or(DeltaError::Malformed)?;
        *rest = after;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(DeltaError::Malformed)
}

/// Makes the new bytes, at most `bytes_max`.
pub fn apply(old: &[u8], delta: &[u8], bytes_max: usize) -> Result<Vec<u8>, DeltaError> {
    let (mut operations, mut out) = (Vec::new(), Vec::new());
    // Twice the result: a literal costs its bytes and a number, a copy less than it copies.
    let read = ZlibDecoder::new(delta).take(bytes_max as u64 * 2 + 16).read_to_end(&mut operations);
    read.map_err(|_| DeltaError::Malformed)?;
    let mut rest = operations.as_slice();
    let total = read_number(&mut rest)?;
    if total > bytes_max as u64 {
        return Err(DeltaError::TooLarge(total));
    }
    let mut copied_to = 0i64;
    while !rest.is_empty() {
        let word = read_number(&mut rest)?;
        let length = usize::try_from(word / 2).map_err(|_| DeltaError::Malformed)?;
        let bytes = if word % 2 == 1 {
            let zigzag = read_number(&mut rest)?;
            let distance = (zigzag >> 1) as i64 ^ -((zigzag & 1) as i64);
            let from = copied_to.checked_add(distance).ok_or(DeltaError::Malformed)?;
            copied_to = from.checked_add(length as i64).ok_or(DeltaError::Malformed)?;
            let range = usize::try_from(from).ok().zip(usize::try_from(copied_to).ok());
            let bytes = range.and_then(|(from, to)| old.get(from..to)).filter(|bytes| bytes.len() >= BLOCK);
            bytes.ok_or(DeltaError::Malformed)?
        } else {
            let (bytes, after) = rest.split_at_checked(length).ok_or(DeltaError::Malformed)?;
            rest = after;
            bytes
        };
        if out.len() + bytes.len() > total as usize || bytes.is_empty() {
            return Err(DeltaError::Malformed);
        }
        out.extend_from_slice(bytes);
    }
    if out.len() as u64 == total { Ok(out) } else { Err(DeltaError::Malformed) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(seed: u64, bytes: usize) -> Vec<u8> {
        let mut state = seed;
        let step = |_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        };
        (0..bytes).map(step).collect()
    }

    #[test]
    fn a_small_change_of_much_is_small() {
        let old = text(1, 3_000_000);
        let mut new = old.clone();
        new[5] ^= 1;
        new.splice(1_000_000..1_000_000, *b"inserted");
        new.drain(2_000_000..2_000_100);
        let delta = make(&old, &new);
        assert!(delta.len() < 120, "{}", delta.len());
        assert_eq!(apply(&old, &delta, new.len()), Ok(new.clone()));
        assert_eq!(apply(&old, &delta, new.len() - 1), Err(DeltaError::TooLarge(new.len() as u64)));
        let swapped = [&old[1_500_000..], &old[..1_500_000]].concat();
        assert!(make(&old, &swapped).len() < 120);
        assert_eq!(apply(&old, &make(&old, &swapped), swapped.len()), Ok(swapped));
    }

    #[test]
    fn a_delta_of_something_else_does_no_harm() {
        let (old, new) = (text(1, 1000), text(2, 900));
        let delta = make(&old, &[&old[..500], &new].concat());
        assert_eq!(apply(&[], &delta, 2000), Err(DeltaError::Malformed));
        assert_ne!(apply(&new, &delta, 2000), Ok([&old[..500], &new].concat()));
        let bomb = make(&[], &vec![0; 50_000_000]);
        assert_eq!(apply(&[], &bomb, 1000), Err(DeltaError::TooLarge(50_000_000)));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn it_gives_back_what_it_was_made_of(old in 0usize..400, parts in proptest::collection::vec((any::<bool>(), 0usize..400, 0usize..200), 0..8)) {
            let old = text(3, old);
            let mut new = Vec::new();
            for (copied, from, length) in parts {
                let fresh = text(from as u64, length);
                let from = from.min(old.len());
                let to = (from + length).min(old.len());
                new.extend_from_slice(if copied { &old[from..to] } else { &fresh });
            }
            let delta = make(&old, &new);
            prop_assert_eq!(apply(&old, &delta, new.len()), Ok(new));
        }

        #[test]
        fn any_bytes_are_answered(old in 0usize..100, operations in proptest::collection::vec(any::<u8>(), 0..100)) {
            let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(&operations).expect("in memory");
            let delta = encoder.finish().expect("in memory");
            let _ = apply(&text(1, old), &delta, 1000);
            let _ = apply(&text(1, old), &operations, 1000);
        }
    }
}
