//! The opening handshake's key and its digest (RFC 6455 §4.2.2, step 5.4).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Bytes that a key encodes.
const NONCE_BYTES: usize = 16;

/// Whether this is a `Sec-WebSocket-Key`: base64 of 16 bytes.
pub fn is_key(value: &[u8]) -> bool {
    let mut nonce = [0; NONCE_BYTES + 2];
    value.len() == 24 && STANDARD.decode_slice(value, &mut nonce) == Ok(NONCE_BYTES)
}

/// `Sec-WebSocket-Accept` for a key.
pub fn accept(key: &[u8]) -> String {
    let digest = Sha1::new().chain_update(key).chain_update(GUID).finalize();
    STANDARD.encode(digest)
}

/// `Sec-WebSocket-Key` of 16 random bytes.
pub fn nonce(random: [u8; NONCE_BYTES]) -> String {
    STANDARD.encode(random)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_rfc() {
        assert_eq!(accept(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(nonce(*b"the sample nonce"), "dGhlIHNhbXBsZSBub25jZQ==");
    }

    #[test]
    fn keys_are_sixteen_bytes_in_base64() {
        assert!(is_key(b"dGhlIHNhbXBsZSBub25jZQ=="));
        for key in ["", "dGhlIHNhbXBsZSBub25jZQ", "dGhlIHNhbXBsZSBub25jZQ=!", "dGhlIHNhbXBsZSBub25jZXh4", "AAAA"] {
            assert!(!is_key(key.as_bytes()), "{key}");
        }
    }
}
