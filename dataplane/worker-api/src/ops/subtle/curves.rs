//! ECDSA and ECDH on the NIST curves (FIPS 186-5, SP 800-56A), on ring where it has the curve with the hash, else on RustCrypto's
//! crates.
//!
//! Keys: public, the uncompressed point; private, the scalar and then that point.

use isolate::{Args, OpError, OpResult, OpTable, Scope};
use ring::{
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED,
        ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, UnparsedPublicKey, VerificationAlgorithm,
    },
};

use super::{Format, SystemRng, bytes_or_null, hash::Hash};

pub(super) fn register(ops: &mut OpTable) {
    ops.add("ecGenerate", generate);
    ops.add("ecPair", pair);
    ops.add("ecImport", import);
    ops.add("ecExport", export);
    ops.add("ecdsaSign", sign);
    ops.add("ecdsaVerify", verify);
    ops.add("ecdhDerive", derive);
}

/// What a curve's crate does, on the canonical forms.
struct Curve {
    /// Bytes of a scalar and of a coordinate.
    field_bytes: usize,
    generate: fn() -> Vec<u8>,
    /// Of a scalar: with its point behind it.
    pair: fn(&[u8]) -> Option<Vec<u8>>,
    /// Of a point in any form of SEC 1.
    point: fn(&[u8]) -> Option<Vec<u8>>,
    from_pkcs8: fn(&[u8]) -> Option<Vec<u8>>,
    from_spki: fn(&[u8]) -> Option<Vec<u8>>,
    to_pkcs8: fn(&[u8]) -> Option<Vec<u8>>,
    to_spki: fn(&[u8]) -> Option<Vec<u8>>,
    /// Of a scalar and a hash of `field_bytes`.
    sign: fn(&[u8], &[u8]) -> Option<Vec<u8>>,
    /// Of a point, a hash of `field_bytes` and a signature.
    verify: fn(&[u8], &[u8], &[u8]) -> bool,
    /// Of a scalar and a point.
    derive: fn(&[u8], &[u8]) -> Option<Vec<u8>>,
}

macro_rules! curve {
    ($name:ident, $field_bytes:literal) => {{
        use $name::{
            PublicKey, SecretKey,
            ecdsa::{
                Signature, SigningKey, VerifyingKey,
                signature::hazmat::{PrehashVerifier, RandomizedPrehashSigner},
            },
            elliptic_curve::{Generate, sec1::ToSec1Point},
            pkcs8::{DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey},
        };
        fn public(key: &PublicKey) -> Vec<u8> {
            key.to_sec1_point(false).as_bytes().to_vec()
        }
        fn private(key: &SecretKey) -> Vec<u8> {
            [&key.to_bytes()[..], &public(&key.public_key())].concat()
        }
        Curve {
            field_bytes: $field_bytes,
            generate: || private(&SecretKey::generate_from_rng(&mut SystemRng)),
            pair: |scalar| {
                let key = (scalar.len() == $field_bytes).then(|| SecretKey::from_slice(scalar).ok());
                key.flatten().as_ref().map(private)
            },
            point: |point| PublicKey::from_sec1_bytes(point).ok().as_ref().map(public),
            from_pkcs8: |der| SecretKey::from_pkcs8_der(der).ok().as_ref().map(private),
            from_spki: |der| PublicKey::from_public_key_der(der).ok().as_ref().map(public),
            to_pkcs8: |scalar| Some(SecretKey::from_slice(scalar).ok()?.to_pkcs8_der().ok()?.as_bytes().to_vec()),
            to_spki: |point| {
                Some(PublicKey::from_sec1_bytes(point).ok()?.to_public_key_der().ok()?.as_bytes().to_vec())
            },
            sign: |scalar, hash| {
                let key = SigningKey::from_slice(scalar).ok()?;
                let signature: Signature = key.sign_prehash_with_rng(&mut SystemRng, hash).ok()?;
                Some(signature.to_vec())
            },
            verify: |point, hash, signature| {
                let signature = Signature::from_slice(signature);
                VerifyingKey::from_sec1_bytes(point).and_then(|key| key.verify_prehash(hash, &signature?)).is_ok()
            },
            derive: |scalar, point| {
                let key = SecretKey::from_slice(scalar).ok()?;
                let other = PublicKey::from_sec1_bytes(point).ok()?;
                Some(key.diffie_hellman(&other).raw_secret_bytes().to_vec())
            },
        }
    }};
}

static P256: Curve = curve!(p256, 32);
static P384: Curve = curve!(p384, 48);
static P521: Curve = curve!(p521, 66);

impl Curve {
    fn of<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> Result<&'static Curve, OpError> {
        match &args.string(cx, 0)?[..] {
            "P-256" => Ok(&P256),
            "P-384" => Ok(&P384),
            "P-521" => Ok(&P521),
            _ => Err(OpError::type_error("no such curve")),
        }
    }

    /// The leftmost bits of a hash that the curve's order has room for, as `field_bytes`. (P-521's is longer than any hash.)
    fn cut(&self, hash: &[u8]) -> Vec<u8> {
        let mut cut = vec![0; self.field_bytes.saturating_sub(hash.len())];
        cut.extend_from_slice(&hash[..hash.len().min(self.field_bytes)]);
        cut
    }

    fn sign_data(&self, hash: Hash, key: &[u8], data: &[u8]) -> Option<Vec<u8>> {
        let (scalar, point) = key.split_at_checked(self.field_bytes)?;
        let of_ring = match (self.field_bytes, hash) {
            (32, Hash::Sha256) => Some(&ECDSA_P256_SHA256_FIXED_SIGNING),
            (48, Hash::Sha384) => Some(&ECDSA_P384_SHA384_FIXED_SIGNING),
            _ => None,
        };
        if let Some(algorithm) = of_ring {
            let random = SystemRandom::new();
            let pair = EcdsaKeyPair::from_private_key_and_public_key(algorithm, scalar, point, &random).ok()?;
            return Some(pair.sign(&random, data).ok()?.as_ref().to_vec());
        }
        (self.sign)(scalar, &self.cut(hash.digest(data).as_ref()))
    }

    fn verifies(&self, hash: Hash, point: &[u8], data: &[u8], signature: &[u8]) -> bool {
        let of_ring: Option<&'static dyn VerificationAlgorithm> = match (self.field_bytes, hash) {
            (32, Hash::Sha256) => Some(&ECDSA_P256_SHA256_FIXED),
            (48, Hash::Sha384) => Some(&ECDSA_P384_SHA384_FIXED),
            _ => None,
        };
        match of_ring {
            Some(algorithm) => UnparsedPublicKey::new(algorithm, point).verify(data, signature).is_ok(),
            None => (self.verify)(point, &self.cut(hash.digest(data).as_ref()), signature),
        }
    }
}

/// `ecGenerate(curve)`: a private key.
fn generate<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> OpResult<'s> {
    let curve = Curve::of(cx, args)?;
    bytes_or_null(cx, Some((curve.generate)()))
}

/// `ecPair(curve, scalar)`: the private key of a scalar; `null` if it is none.
fn pair<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> OpResult<'s> {
    let curve = Curve::of(cx, args)?;
    let scalar = args.bytes(cx, 1)?;
    bytes_or_null(cx, (curve.pair)(&scalar))
}

/// `ecImport(curve, format, bytes)`: a key; `null` if they are none of this curve.
fn import<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> OpResult<'s> {
    let curve = Curve::of(cx, args)?;
    let format = Format::named(&args.string(cx, 1)?)?;
    let bytes = args.bytes(cx, 2)?;
    let key = match format {
        Format::Raw => (curve.point)(&bytes),
        Format::Pkcs8 => (curve.from_pkcs8)(&bytes),
        Format::Spki => (curve.from_spki)(&bytes),
    };
    bytes_or_null(cx, key)
}

/// `ecExport(curve, format, key)`
fn export<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> OpResult<'s> {
    let curve = Curve::of(cx, args)?;
    let format = Format::named(&args.string(cx, 1)?)?;
    let key = args.bytes(cx, 2)?;
    let bytes = match format {
        Format::Raw => Some(key),
        Format::Pkcs8 => key.get(..curve.field_bytes).and_then(curve.to_pkcs8),
        Format::Spki => (curve.to_spki)(&key),
    };
    bytes_or_null(cx, bytes)
}

/// `ecdsaSign(curve, hash, key, data)`
fn sign<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> OpResult<'s> {
    let curve = Curve::of(cx, args)?;
    let hash = Hash::named(&args.string(cx, 1)?)?;
    let (key, data) = (args.bytes(cx, 2)?, args.bytes(cx, 3)?);
    bytes_or_null(cx, curve.sign_data(hash, &key, &data))
}

/// `ecdsaVerify(curve, hash, key, data, signature)`
fn verify<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> OpResult<'s> {
    let curve = Curve::of(cx, args)?;
    let hash = Hash::named(&args.string(cx, 1)?)?;
    let (key, data, signature) = (args.bytes(cx, 2)?, args.bytes(cx, 3)?, args.bytes(cx, 4)?);
    Ok(cx.boolean(curve.verifies(hash, &key, &data, &signature)))
}

/// `ecdhDerive(curve, private, public)`: the shared secret.
fn derive<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> OpResult<'s> {
    let curve = Curve::of(cx, args)?;
    let (private, public) = (args.bytes(cx, 1)?, args.bytes(cx, 2)?);
    let shared = private.get(..curve.field_bytes).and_then(|scalar| (curve.derive)(scalar, &public));
    bytes_or_null(cx, shared)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What ring signs RustCrypto's crates verify, and the other way round; with every hash.
    #[test]
    fn both_implementations_agree() {
        for curve in [&P256, &P384, &P521] {
            let key = (curve.generate)();
            let (scalar, point) = key.split_at(curve.field_bytes);
            for hash in [Hash::Sha1, Hash::Sha256, Hash::Sha384, Hash::Sha512] {
                let digest = curve.cut(hash.digest(b"data").as_ref());
                let signature = curve.sign_data(hash, &key, b"data").expect("signed");
                assert_eq!(signature.len(), 2 * curve.field_bytes);
                assert!((curve.verify)(point, &digest, &signature), "{hash:?}");
                let other = (curve.sign)(scalar, &digest).expect("signed");
                assert!(curve.verifies(hash, point, b"data", &other));
                assert!(!curve.verifies(hash, point, b"other", &other));
            }
        }
    }
}
