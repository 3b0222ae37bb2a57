//! `crypto.subtle.digest` (Web Cryptography §31), on ring.

use isolate::{Args, OpError, OpResult, OpTable, Scope};
use ring::digest::{self, Algorithm, SHA1_FOR_LEGACY_USE_ONLY, SHA256, SHA384, SHA512};

pub(super) fn register(ops: &mut OpTable) {
    ops.add("digest", digest_op);
}

/// `digest(name, bytes)`: the digest as a `Uint8Array`, or `null` if there is no such algorithm. Names in any case.
fn digest_op<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> OpResult<'s> {
    let name = args.string(cx, 0)?;
    let Some(algorithm) = algorithm(&name) else { return Ok(cx.null()) };
    let hash = cx
        .with_bytes(args.get(1), |bytes| digest::digest(algorithm, bytes))
        .ok_or_else(|| OpError::type_error("argument 2 is not a buffer"))?;
    cx.uint8_array(hash.as_ref().to_vec()).ok_or_else(OpError::out_of_memory)
}

fn algorithm(name: &str) -> Option<&'static Algorithm> {
    let known: [(&str, &'static Algorithm); 4] =
        [("SHA-1", &SHA1_FOR_LEGACY_USE_ONLY), ("SHA-256", &SHA256), ("SHA-384", &SHA384), ("SHA-512", &SHA512)];
    known.into_iter().find(|(label, _)| label.eq_ignore_ascii_case(name)).map(|(_, algorithm)| algorithm)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_any_case_and_no_others() {
        for (name, len) in [("sha-1", 20), ("SHA-256", 32), ("Sha-384", 48), ("SHA-512", 64)] {
            assert_eq!(algorithm(name).map(Algorithm::output_len), Some(len), "{name}");
        }
        assert!(algorithm("SHA256").is_none());
        assert!(algorithm("MD5").is_none());
    }
}
