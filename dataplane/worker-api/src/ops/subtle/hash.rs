//! The four hash functions of Web Cryptography, on ring.

use isolate::{Args, OpError, OpResult, OpTable, Scope};
use ring::{digest, hmac};

use super::{bytes_or_null, not_a_buffer};

pub(super) fn register(ops: &mut OpTable) {
    ops.add("digest", digest_op);
    ops.add("digestNew", digest_new);
    ops.add("digestPush", digest_push);
    ops.add("digestEnd", digest_end);
    ops.add("digestCopy", digest_copy);
}

/// `digest(name, bytes)`
fn digest_op<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> OpResult<'s> {
    let hash = Hash::named(&args.string(cx, 0)?)?;
    let digest = cx.with_bytes(args.get(1), |bytes| hash.digest(bytes)).ok_or_else(|| not_a_buffer(2))?;
    bytes_or_null(cx, Some(digest.as_ref().to_vec()))
}

/// `digestNew(name)`: a digest of what comes in parts.
fn digest_new<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> OpResult<'s> {
    let hash = Hash::named(&args.string(cx, 0)?)?;
    cx.handle(digest::Context::new(hash.algorithm())).ok_or_else(OpError::out_of_memory)
}

/// `digestPush(digest, bytes)`
fn digest_push<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> OpResult<'s> {
    let bytes = args.bytes(cx, 1)?;
    let done = cx.with_handle::<digest::Context, _>(args.get(0), |context| context.update(&bytes));
    done.ok_or_else(not_a_digest)?;
    Ok(cx.undefined())
}

/// `digestEnd(digest)`: the digest so far.
fn digest_end<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> OpResult<'s> {
    let digest = cx.with_handle::<digest::Context, _>(args.get(0), |context| context.clone().finish());
    bytes_or_null(cx, Some(digest.ok_or_else(not_a_digest)?.as_ref().to_vec()))
}

/// `digestCopy(digest)`: another one of what came so far.
fn digest_copy<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> OpResult<'s> {
    let copy = cx.with_handle::<digest::Context, _>(args.get(0), |context| context.clone());
    cx.handle(copy.ok_or_else(not_a_digest)?).ok_or_else(OpError::out_of_memory)
}

fn not_a_digest() -> OpError {
    OpError::type_error("argument 1 is not a digest")
}

/// A hash function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hash {
    Sha1,
    Sha256,
    Sha384,
    Sha512,
}

impl Hash {
    /// By its canonical name.
    pub(super) fn named(name: &str) -> Result<Hash, OpError> {
        match name {
            "SHA-1" => Ok(Hash::Sha1),
            "SHA-256" => Ok(Hash::Sha256),
            "SHA-384" => Ok(Hash::Sha384),
            "SHA-512" => Ok(Hash::Sha512),
            _ => Err(OpError::type_error("no such hash function")),
        }
    }

    /// Bytes of its output.
    pub(super) fn len(self) -> usize {
        match self {
            Hash::Sha1 => 20,
            Hash::Sha256 => 32,
            Hash::Sha384 => 48,
            Hash::Sha512 => 64,
        }
    }

    fn algorithm(self) -> &'static digest::Algorithm {
        match self {
            Hash::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            Hash::Sha256 => &digest::SHA256,
            Hash::Sha384 => &digest::SHA384,
            Hash::Sha512 => &digest::SHA512,
        }
    }

    pub(super) fn digest(self, bytes: &[u8]) -> digest::Digest {
        digest::digest(self.algorithm(), bytes)
    }

    pub(super) fn hmac(self) -> hmac::Algorithm {
        match self {
            Hash::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Hash::Sha256 => hmac::HMAC_SHA256,
            Hash::Sha384 => hmac::HMAC_SHA384,
            Hash::Sha512 => hmac::HMAC_SHA512,
        }
    }
}
