//! Sealing: authenticated encryption of environment values, at rest in the store and inside snapshots.
//!
//! AES-256-GCM (ring). A sealed value is `format (1 byte, = 1) ‖ nonce (12) ‖ ciphertext ‖ tag (16)`. The additional data binds
//! a value to its place (which deployment, which name), so that a value moved elsewhere does not open.
//!
//! Two ways to choose the nonce: [`seal`] draws 96 random bits, for values that are stored; a key may seal 2³² of them
//! (NIST SP 800-38D §8.3). [`seal_deterministic`] derives it by HMAC-SHA-256 from additional data and plaintext under a
//! subkey, so that the same input gives the same bytes: what it tells an observer is only that a value did not change,
//! which is what the node needs to know. Two different inputs share a nonce with probability 2⁻⁹⁶ a pair.
//!
//! Failures: [`SealError`], which never says what was inside. A key's bytes lie in pages of their own ([`Secret`]): in a node
//! under the key of the host's secrets, wiped on drop, never printed.

use std::{
    fmt, fs,
    io::{self, Read as _, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::Path,
    sync::Arc,
};

use pkey::Secret;
use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    digest, hmac,
    rand::{SecureRandom as _, SystemRandom},
};
use zeroize::Zeroizing;

const FORMAT: u8 = 1;
const KEY_BYTES: usize = 32;

/// A sealing key: 256 bits. Clones share them.
#[derive(Clone)]
pub struct Key(Arc<Secret<[u8; KEY_BYTES]>>);

/// Why something could not be sealed or opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// Too short, or of an unknown format.
    #[error("not a sealed value")]
    Malformed,
    /// Wrong key, wrong place, or changed bytes: they cannot be told apart.
    #[error("sealed value does not open with this key and place")]
    Authentication,
    /// There is no key of this id here.
    #[error("no key {0:016x} to open sealed values with")]
    NoKey(u64),
    /// The system gave no randomness.
    #[error("no randomness from the system")]
    Random,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(redacted)")
    }
}

impl PartialEq for Key {
    /// Compares ids, in whose digest the keys' bits do not show through timing.
    fn eq(&self, other: &Key) -> bool {
        self.id() == other.id()
    }
}

impl Eq for Key {}

impl Key {
    /// A new random key.
    fn generate() -> io::Result<Key> {
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        SystemRandom::new().fill(&mut bytes[..]).map_err(|_| io::Error::other(SealError::Random))?;
        Key::new(&bytes)
    }

    /// A key of these bytes. Fails where the system gives no page for it. The caller wipes its own copy.
    pub fn new(bytes: &[u8; KEY_BYTES]) -> io::Result<Key> {
        Secret::new(bytes).map(|secret| Key(Arc::new(secret)))
    }

    /// A key of these bytes, for tests and tools: panics where [`Key::new`] fails.
    pub fn from_bytes(bytes: [u8; KEY_BYTES]) -> Key {
        Key::new(&bytes).expect("a page")
    }

    /// Looks at its bytes, to send or store them; the caller keeps them secret. See [`Secret::with`].
    pub fn with<R>(&self, look: impl FnOnce(&[u8; KEY_BYTES]) -> R) -> R {
        self.0.with(look)
    }

    /// A name for the key that tells nothing of it: 64 bits of a digest.
    pub fn id(&self) -> u64 {
        let digest = self.with(|bytes| {
            let mut context = digest::Context::new(&digest::SHA256);
            context.update(b"selvage seal key id v1");
            context.update(bytes);
            context.finish()
        });
        u64::from_le_bytes(digest.as_ref().first_chunk().copied().expect("a SHA-256 digest has 32 bytes"))
    }

    /// Reads the key from a file, or makes file (mode 0600) and key. Two processes that do so at once get one key. A
    /// file that others may read is refused.
    pub fn load_or_create(path: &Path) -> io::Result<Key> {
        match Key::load(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            done => return done,
        }
        let key = Key::generate()?;
        match key.store(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Key::load(path),
            Err(error) => Err(error),
            Ok(()) => Ok(key),
        }
    }

    /// Reads a key file: 64 hexadecimal digits.
    pub fn load(path: &Path) -> io::Result<Key> {
        let file = fs::File::open(path)?;
        let mode = file.metadata()?.mode();
        if mode & 0o077 != 0 {
            let message =
                format!("{}: a key file must not be open to others (mode is {:o})", path.display(), mode & 0o777);
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, message));
        }
        let mut text = Zeroizing::new(String::with_capacity(128));
        file.take(128).read_to_string(&mut text)?;
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        let digits = text.trim_end().as_bytes();
        let hex = |digit: u8| (digit as char).to_digit(16);
        let decoded = bytes.iter_mut().zip(digits.chunks(2)).all(|(byte, pair)| match pair {
            [high, low] => hex(*high).zip(hex(*low)).map(|(high, low)| *byte = (high * 16 + low) as u8).is_some(),
            _ => false,
        });
        if digits.len() != 2 * KEY_BYTES || !decoded {
            let message = format!("{}: not a key file of 64 hexadecimal digits", path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        Key::new(&bytes)
    }

    /// Writes the key to a new file of mode 0600, durably; fails with `AlreadyExists` rather than replace one.
    pub fn store(&self, path: &Path) -> io::Result<()> {
        let mut text = Zeroizing::new(String::with_capacity(2 * KEY_BYTES + 1));
        self.with(|bytes| {
            for byte in bytes {
                text.push(char::from_digit(u32::from(byte >> 4), 16).expect("below 16"));
                text.push(char::from_digit(u32::from(byte & 15), 16).expect("below 16"));
            }
        });
        text.push('\n');
        store_private(path, text.as_bytes())
    }
}

fn cipher(key: &[u8; KEY_BYTES]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).expect("an AES-256 key has 32 bytes"))
}

/// Writes a secret to a new file of mode 0600, durably; fails with `AlreadyExists` rather than replace one. Of several
/// writers at once one succeeds, and nobody ever reads half a file.
pub fn store_private(path: &Path, secret: &[u8]) -> io::Result<()> {
    let mut suffix = [0u8; 8];
    SystemRandom::new().fill(&mut suffix).map_err(|_| io::Error::other(SealError::Random))?;
    let temporary = path.with_extension(format!("{:016x}.tmp", u64::from_le_bytes(suffix)));
    let write = || {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(secret)?;
        file.sync_all()?;
        // A link, not a rename: it never replaces a secret that is there.
        fs::hard_link(&temporary, path)
    };
    let result = write();
    let _ = fs::remove_file(&temporary);
    result?;
    path.parent().map_or(Ok(()), |folder| fs::File::open(folder)?.sync_all())
}

/// Seals with a random nonce. `aad` says where the value belongs.
pub fn seal(key: &Key, aad: &[u8], plaintext: &[u8]) -> Result<Vec<u8>, SealError> {
    let mut nonce = [0; NONCE_LEN];
    SystemRandom::new().fill(&mut nonce).map_err(|_| SealError::Random)?;
    Ok(seal_with_nonce(key, nonce, aad, plaintext))
}

/// Seals with a nonce derived from key, place and plaintext: the same input gives the same bytes.
pub fn seal_deterministic(key: &Key, aad: &[u8], plaintext: &[u8]) -> Vec<u8> {
    let tag = key.with(|key| {
        let subkey = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), b"selvage seal nonce v1");
        let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, subkey.as_ref()));
        context.update(&(aad.len() as u64).to_le_bytes());
        context.update(aad);
        context.update(plaintext);
        context.sign()
    });
    let nonce = tag.as_ref().first_chunk().copied();
    seal_with_nonce(key, nonce.expect("an HMAC-SHA-256 tag has 32 bytes"), aad, plaintext)
}

fn seal_with_nonce(key: &Key, nonce: [u8; NONCE_LEN], aad: &[u8], plaintext: &[u8]) -> Vec<u8> {
    let mut body = plaintext.to_vec();
    let nonce_once = Nonce::assume_unique_for_key(nonce);
    key.with(|key| cipher(key).seal_in_place_append_tag(nonce_once, Aad::from(aad), &mut body))
        .expect("a value is far below AES-GCM's 64 GiB");
    let mut out = Vec::with_capacity(1 + NONCE_LEN + body.len());
    out.push(FORMAT);
    out.extend_from_slice(&nonce);
    out.extend_from_slice(&body);
    out
}

/// Opens a sealed value; `aad` as it was sealed with.
pub fn open(key: &Key, aad: &[u8], sealed: &[u8]) -> Result<Vec<u8>, SealError> {
    let (&FORMAT, rest) = sealed.split_first().ok_or(SealError::Malformed)? else {
        return Err(SealError::Malformed);
    };
    let (nonce, body) = rest.split_first_chunk::<NONCE_LEN>().ok_or(SealError::Malformed)?;
    if body.len() < AES_256_GCM.tag_len() {
        return Err(SealError::Malformed);
    }
    let mut body = body.to_vec();
    let nonce = Nonce::assume_unique_for_key(*nonce);
    let opened = key.with(|key| cipher(key).open_in_place(nonce, Aad::from(aad), &mut body).map(|opened| opened.len()));
    let length = opened.map_err(|_| SealError::Authentication)?;
    body.truncate(length);
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn opens_what_was_sealed_and_nothing_else() {
        let (key, other) = (Key::from_bytes([7; 32]), Key::from_bytes([8; 32]));
        for plaintext in [&b""[..], b"x", &[0; 5000]] {
            for sealed in [seal(&key, b"place", plaintext).unwrap(), seal_deterministic(&key, b"place", plaintext)] {
                assert_eq!(sealed.len(), plaintext.len() + crate::limits::SEAL_OVERHEAD_BYTES);
                assert_eq!(open(&key, b"place", &sealed).as_deref(), Ok(plaintext));
                assert_eq!(open(&other, b"place", &sealed), Err(SealError::Authentication));
                assert_eq!(open(&key, b"elsewhere", &sealed), Err(SealError::Authentication));
            }
        }
    }

    #[test]
    fn every_changed_byte_and_every_cut_is_refused() {
        let key = Key::from_bytes([7; 32]);
        let sealed = seal(&key, b"place", b"secret").unwrap();
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(open(&key, b"place", &changed).is_err(), "byte {at}");
            assert!(open(&key, b"place", &sealed[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn random_nonces_differ_and_derived_ones_depend_on_everything() {
        let key = Key::from_bytes([7; 32]);
        assert_ne!(seal(&key, b"a", b"b").unwrap(), seal(&key, b"a", b"b").unwrap());
        let nonce = |key: &Key, aad: &[u8], text: &[u8]| seal_deterministic(key, aad, text)[1..13].to_vec();
        assert_eq!(nonce(&key, b"a", b"b"), nonce(&key, b"a", b"b"));
        let others = [
            nonce(&Key::from_bytes([8; 32]), b"a", b"b"),
            nonce(&key, b"c", b"b"),
            nonce(&key, b"a", b"c"),
            nonce(&key, b"ab", b""),
        ];
        assert!(!others.contains(&nonce(&key, b"a", b"b")));
    }

    #[test]
    fn debug_does_not_print_the_key() {
        assert_eq!(format!("{:?}", Key::from_bytes([0x41; 32])), "Key(redacted)");
    }

    #[test]
    fn key_file_is_private_stable_and_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("env.key");
        let key = Key::load_or_create(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let bytes = |key: &Key| key.with(|bytes| *bytes);
        assert_eq!(bytes(&Key::load_or_create(&path).unwrap()), bytes(&key));
        assert_eq!(key.store(&path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file stays");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(Key::load_or_create(&path).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "ab".repeat(31)).unwrap();
        assert_eq!(Key::load_or_create(&path).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
