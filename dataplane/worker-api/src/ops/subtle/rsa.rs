//! RSA (RFC 8017): PKCS #1 and PSS signatures on ring where it has them (moduli of at least 2048 bits, SHA-2, salts as long as
//! the hash), everything else on RustCrypto's `rsa`.
//!
//! Keys are `RSAPublicKey` and `RSAPrivateKey` of PKCS #1 in DER, those with two primes.

use ::rsa::{
    BoxedUint, Oaep, Pkcs1v15Sign, Pss, RsaPrivateKey, RsaPublicKey,
    pkcs1::{
        DecodeRsaPrivateKey, DecodeRsaPublicKey, EncodeRsaPrivateKey, EncodeRsaPublicKey, RsaPrivateKeyRef,
        RsaPublicKeyRef, der::Decode,
    },
    pkcs8::{DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey},
    traits::{PrivateKeyParts, PublicKeyParts},
};
use crypto_primes::{
    Flavor,
    hazmat::{SetBits, random_odd_integer},
    is_prime,
};
use isolate::{Args, OpError, OpResult, OpTable, Scope};
use ring::{
    rand::SystemRandom,
    rsa::KeyPair,
    signature::{
        RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PKCS1_SHA256,
        RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384,
        RSA_PSS_2048_8192_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512, RsaEncoding, RsaParameters,
        UnparsedPublicKey,
    },
};
use sha1::Sha1;
use sha2_rsa::{Sha256, Sha384, Sha512};

use super::{Format, SystemRng, bytes_or_null, hash::Hash, parts_or_null};

/// Bits of the modulus of a private key: one operation with it takes milliseconds and cannot be interrupted.
pub(super) const PRIVATE_BITS_MAX: usize = 4096;

/// Bits of a prime that is looked for.
const PRIME_BITS_MAX: u64 = 2048;

pub(super) fn register(ops: &mut OpTable) {
    ops.add("rsaPrime", prime);
    ops.add("rsaFromPrimes", from_primes);
    ops.add("rsaImport", import);
    ops.add("rsaExport", export);
    ops.add("rsaParts", parts);
    ops.add("rsaFromParts", from_parts);
    ops.add("rsaPublic", public_of);
    ops.add("rsaSign", sign);
    ops.add("rsaVerify", verify);
    ops.add("rsaEncrypt", encrypt);
    ops.add("rsaDecrypt", decrypt);
}

/// `rsaPrime(bits)`: a random number of that many bits, the two highest set, if it is prime; else `null`. About one in
/// `bits / 3` is.
fn prime<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> OpResult<'s> {
    let bits = args.id(0)?.clamp(128, PRIME_BITS_MAX) as u32;
    bytes_or_null(cx, candidate(bits))
}

fn candidate(bits: u32) -> Option<Vec<u8>> {
    let bits = std::num::NonZeroU32::new(bits)?;
    let candidate = random_odd_integer::<BoxedUint, _>(&mut SystemRng, bits, SetBits::TwoMsb).ok()?.get();
    let bytes = candidate.to_be_bytes();
    if has_small_factor(&bytes) || !is_prime(Flavor::Any, &candidate) {
        return None;
    }
    Some(bytes.to_vec())
}

/// Whether a prime of less than 1000 divides it: most numbers are found out so, in microseconds.
fn has_small_factor(number: &[u8]) -> bool {
    let is_prime = |n: &u64| (2..*n).take_while(|d| d * d <= *n).all(|d| !n.is_multiple_of(d));
    // As many primes at a time as have a product of less than 2^56: one pass over the number for each group.
    let mut primes = (3..1000).filter(is_prime).peekable();
    while primes.peek().is_some() {
        let mut product = 1;
        let mut group = Vec::new();
        while let Some(prime) = primes.next_if(|prime| product * prime < 1 << 56) {
            product *= prime;
            group.push(prime);
        }
        let rest = number
            .iter()
            .fold(0, |rest: u64, byte| ((u128::from(rest) << 8 | u128::from(*byte)) % u128::from(product)) as u64);
        if group.iter().any(|prime| rest.is_multiple_of(*prime)) {
            return true;
        }
    }
    false
}

/// `rsaFromPrimes(p, q, e)`: a private key; `null` if they make none, `e` not being prime to both less one.
fn from_primes<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> OpResult<'s> {
    let (p, q, e) = (args.bytes(cx, 0)?, args.bytes(cx, 1)?, args.bytes(cx, 2)?);
    let number = |bytes: &[u8]| BoxedUint::from_be_slice_vartime(bytes);
    let key = RsaPrivateKey::from_p_q(number(&p), number(&q), number(&e)).ok();
    bytes_or_null(cx, key.as_ref().and_then(private_der))
}

/// The canonical form, if the key is not too large.
fn private_der(key: &RsaPrivateKey) -> Option<Vec<u8>> {
    if key.n().bits_vartime() as usize > PRIVATE_BITS_MAX || key.primes().len() != 2 {
        return None;
    }
    Some(key.to_pkcs1_der().ok()?.as_bytes().to_vec())
}

fn public_der(key: &RsaPublicKey) -> Option<Vec<u8>> {
    Some(key.to_pkcs1_der().ok()?.as_bytes().to_vec())
}

/// `rsaImport(format, bytes)`: a key; `null` if they are none.
fn import<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> OpResult<'s> {
    let format = Format::named(&args.string(cx, 0)?)?;
    let bytes = args.bytes(cx, 1)?;
    let key = match format {
        Format::Raw => None,
        Format::Pkcs8 => RsaPrivateKey::from_pkcs8_der(&bytes).ok().as_ref().and_then(private_der),
        Format::Spki => RsaPublicKey::from_public_key_der(&bytes).ok().as_ref().and_then(public_der),
    };
    bytes_or_null(cx, key)
}

/// `rsaExport(format, key)`
fn export<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> OpResult<'s> {
    let format = Format::named(&args.string(cx, 0)?)?;
    let key = args.bytes(cx, 1)?;
    let bytes = match format {
        Format::Raw => None,
        Format::Pkcs8 => RsaPrivateKey::from_pkcs1_der(&key)
            .ok()
            .and_then(|key| key.to_pkcs8_der().ok())
            .map(|der| der.as_bytes().to_vec()),
        Format::Spki => RsaPublicKey::from_pkcs1_der(&key)
            .ok()
            .and_then(|key| key.to_public_key_der().ok())
            .map(|der| der.as_bytes().to_vec()),
    };
    bytes_or_null(cx, bytes)
}

/// `rsaParts(private, key)`: `[n, e]` or `[n, e, d, p, q, dp, dq, qi]`, each without zeros in front.
fn parts<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> OpResult<'s> {
    let private = args.flag(0);
    let der = args.bytes(cx, 1)?;
    let parts = if private {
        RsaPrivateKeyRef::from_der(&der).ok().map(|key| {
            let parts = [
                key.modulus,
                key.public_exponent,
                key.private_exponent,
                key.prime1,
                key.prime2,
                key.exponent1,
                key.exponent2,
                key.coefficient,
            ];
            parts.map(|part| part.as_bytes().to_vec()).to_vec()
        })
    } else {
        RsaPublicKeyRef::from_der(&der)
            .ok()
            .map(|key| vec![key.modulus.as_bytes().to_vec(), key.public_exponent.as_bytes().to_vec()])
    };
    parts_or_null(cx, parts)
}

/// `rsaFromParts(n, e)`, `rsaFromParts(n, e, d)` or `rsaFromParts(n, e, d, p, q)`: a key; `null` if they make none.
fn from_parts<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> OpResult<'s> {
    let mut numbers = Vec::new();
    for index in 0..args.len() {
        let bytes = args.bytes(cx, index)?;
        if bytes.is_empty() || bytes.len() > 2 * PRIVATE_BITS_MAX / 8 {
            return Ok(cx.null());
        }
        numbers.push(BoxedUint::from_be_slice_vartime(&bytes));
    }
    let mut numbers = numbers.into_iter();
    let (Some(n), Some(e)) = (numbers.next(), numbers.next()) else { return Ok(cx.null()) };
    let key = match numbers.next() {
        None => RsaPublicKey::new(n, e).ok().as_ref().and_then(public_der),
        Some(_) if n.bits_vartime() as usize > PRIVATE_BITS_MAX => None,
        Some(d) => RsaPrivateKey::from_components(n, e, d, numbers.collect()).ok().as_ref().and_then(private_der),
    };
    bytes_or_null(cx, key)
}

/// `rsaPublic(key)`: the public key of a private one.
fn public_of<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> OpResult<'s> {
    let der = args.bytes(cx, 0)?;
    let public = RsaPrivateKey::from_pkcs1_der(&der).ok().and_then(|key| public_der(key.as_public_key()));
    bytes_or_null(cx, public)
}

/// A signature scheme.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    Pkcs1,
    /// With a salt of so many bytes.
    Pss(usize),
}

impl Scheme {
    /// Of the argument `index`: the salt's length, negative for PKCS #1.
    fn of(args: &Args<'_>, index: usize) -> Result<Scheme, OpError> {
        let salt = args.number(index)?;
        Ok(if salt < 0.0 { Scheme::Pkcs1 } else { Scheme::Pss(salt as usize) })
    }

    fn signing_of_ring(self, hash: Hash) -> Option<&'static dyn RsaEncoding> {
        match (self, hash) {
            (Scheme::Pkcs1, Hash::Sha256) => Some(&RSA_PKCS1_SHA256),
            (Scheme::Pkcs1, Hash::Sha384) => Some(&RSA_PKCS1_SHA384),
            (Scheme::Pkcs1, Hash::Sha512) => Some(&RSA_PKCS1_SHA512),
            (Scheme::Pss(32), Hash::Sha256) => Some(&RSA_PSS_SHA256),
            (Scheme::Pss(48), Hash::Sha384) => Some(&RSA_PSS_SHA384),
            (Scheme::Pss(64), Hash::Sha512) => Some(&RSA_PSS_SHA512),
            _ => None,
        }
    }

    fn verifying_of_ring(self, hash: Hash) -> Option<&'static RsaParameters> {
        match (self, hash) {
            (Scheme::Pkcs1, Hash::Sha256) => Some(&RSA_PKCS1_2048_8192_SHA256),
            (Scheme::Pkcs1, Hash::Sha384) => Some(&RSA_PKCS1_2048_8192_SHA384),
            (Scheme::Pkcs1, Hash::Sha512) => Some(&RSA_PKCS1_2048_8192_SHA512),
            (Scheme::Pss(32), Hash::Sha256) => Some(&RSA_PSS_2048_8192_SHA256),
            (Scheme::Pss(48), Hash::Sha384) => Some(&RSA_PSS_2048_8192_SHA384),
            (Scheme::Pss(64), Hash::Sha512) => Some(&RSA_PSS_2048_8192_SHA512),
            _ => None,
        }
    }
}

/// Runs an expression with `$digest` as the hash's type.
macro_rules! by_hash {
    ($hash:expr, $digest:ident => $with:expr) => {
        match $hash {
            Hash::Sha1 => {
                type $digest = Sha1;
                $with
            }
            Hash::Sha256 => {
                type $digest = Sha256;
                $with
            }
            Hash::Sha384 => {
                type $digest = Sha384;
                $with
            }
            Hash::Sha512 => {
                type $digest = Sha512;
                $with
            }
        }
    };
}

/// `rsaSign(hash, salt | -1, key, data)`: `null` where the modulus is too short for the hash and the salt.
fn sign<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> OpResult<'s> {
    let hash = Hash::named(&args.string(cx, 0)?)?;
    let scheme = Scheme::of(args, 1)?;
    let (key, data) = (args.bytes(cx, 2)?, args.bytes(cx, 3)?);
    bytes_or_null(cx, sign_data(hash, scheme, &key, &data))
}

fn sign_data(hash: Hash, scheme: Scheme, key: &[u8], data: &[u8]) -> Option<Vec<u8>> {
    if let (Some(encoding), Ok(pair)) = (scheme.signing_of_ring(hash), KeyPair::from_der(key)) {
        let mut signature = vec![0; pair.public().modulus_len()];
        return pair.sign(encoding, &SystemRandom::new(), data, &mut signature).ok().map(|()| signature);
    }
    let key = RsaPrivateKey::from_pkcs1_der(key).ok()?;
    let digest = hash.digest(data);
    let digest = digest.as_ref();
    by_hash!(hash, Digest => match scheme {
        Scheme::Pkcs1 => key.sign_with_rng(&mut SystemRng, Pkcs1v15Sign::new::<Digest>(), digest).ok(),
        Scheme::Pss(salt) => key.sign_with_rng(&mut SystemRng, Pss::<Digest>::new_blinded_with_salt(salt), digest).ok(),
    })
}

/// `rsaVerify(hash, salt | -1, key, data, signature)`
fn verify<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> OpResult<'s> {
    let hash = Hash::named(&args.string(cx, 0)?)?;
    let scheme = Scheme::of(args, 1)?;
    let (key, data, signature) = (args.bytes(cx, 2)?, args.bytes(cx, 3)?, args.bytes(cx, 4)?);
    Ok(cx.boolean(verifies(hash, scheme, &key, &data, &signature).is_some()))
}

fn verifies(hash: Hash, scheme: Scheme, key: &[u8], data: &[u8], signature: &[u8]) -> Option<()> {
    let of_ring = scheme.verifying_of_ring(hash).map(|parameters| UnparsedPublicKey::new(parameters, key));
    if of_ring.is_some_and(|key| key.verify(data, signature).is_ok()) {
        return Some(());
    }
    // Not verified, or a key that ring takes no part in.
    let key = RsaPublicKey::from_pkcs1_der(key).ok()?;
    let digest = hash.digest(data);
    let digest = digest.as_ref();
    by_hash!(hash, Digest => match scheme {
        Scheme::Pkcs1 => key.verify(Pkcs1v15Sign::new::<Digest>(), digest, signature).ok(),
        Scheme::Pss(salt) => key.verify(Pss::<Digest>::new_with_salt(salt), digest, signature).ok(),
    })
}

/// `rsaEncrypt(hash, label, key, data)`: OAEP; `null` where the data is too long.
fn encrypt<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> OpResult<'s> {
    let hash = Hash::named(&args.string(cx, 0)?)?;
    let (label, key, data) = (args.bytes(cx, 1)?, args.bytes(cx, 2)?, args.bytes(cx, 3)?);
    let key = RsaPublicKey::from_pkcs1_der(&key).ok();
    let done = key.and_then(
        |key| by_hash!(hash, Digest => key.encrypt(&mut SystemRng, Oaep::<Digest>::new_with_label(label), &data).ok()),
    );
    bytes_or_null(cx, done)
}

/// `rsaDecrypt(hash, label, key, data)`: OAEP; `null` where the data is not what such a key encrypted.
fn decrypt<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> OpResult<'s> {
    let hash = Hash::named(&args.string(cx, 0)?)?;
    let (label, key, data) = (args.bytes(cx, 1)?, args.bytes(cx, 2)?, args.bytes(cx, 3)?);
    let key = RsaPrivateKey::from_pkcs1_der(&key).ok();
    let done = key.and_then(|key| {
        by_hash!(hash, Digest => key.decrypt_blinded(&mut SystemRng, Oaep::<Digest>::new_with_label(label), &data).ok())
    });
    bytes_or_null(cx, done)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some_prime(bits: u32) -> Vec<u8> {
        (0..20_000).find_map(|_| candidate(bits)).expect("a prime among 20,000 numbers")
    }

    fn key(bits: u32) -> Vec<u8> {
        let number = |bytes: &[u8]| BoxedUint::from_be_slice_vartime(bytes);
        let e = BoxedUint::from(65537u64);
        let key =
            RsaPrivateKey::from_p_q(number(&some_prime(bits / 2)), number(&some_prime(bits / 2)), e).expect("a key");
        private_der(&key).expect("small enough")
    }

    #[test]
    fn small_factors_are_seen() {
        assert!(has_small_factor(&[9]));
        assert!(has_small_factor(&(997u64 * 1_000_003).to_be_bytes()));
        assert!(!has_small_factor(&(1009u64 * 1013).to_be_bytes()));
    }

    /// What ring signs RustCrypto's crate verifies, and the other way round; and what ring has not.
    #[test]
    fn both_implementations_agree() {
        let private = key(2048);
        let decoded = RsaPrivateKey::from_pkcs1_der(&private).expect("a key");
        let public = public_der(decoded.as_public_key()).expect("encodes");
        for hash in [Hash::Sha1, Hash::Sha256, Hash::Sha512] {
            for scheme in [Scheme::Pkcs1, Scheme::Pss(hash.len()), Scheme::Pss(0), Scheme::Pss(21)] {
                let signature = sign_data(hash, scheme, &private, b"data").expect("signed");
                assert_eq!(verifies(hash, scheme, &public, b"data", &signature), Some(()), "{hash:?} {scheme:?}");
                assert_eq!(verifies(hash, scheme, &public, b"other", &signature), None);
                let digest = hash.digest(b"data");
                let theirs = by_hash!(hash, Digest => match scheme {
                    Scheme::Pkcs1 => decoded.verify_for_test::<Digest>(digest.as_ref(), &signature, None),
                    Scheme::Pss(salt) => decoded.verify_for_test::<Digest>(digest.as_ref(), &signature, Some(salt)),
                });
                assert!(theirs, "{hash:?} {scheme:?}");
            }
        }
        assert_eq!(sign_data(Hash::Sha512, Scheme::Pss(1000), &private, b"data"), None);
    }

    trait Verify {
        fn verify_for_test<D>(&self, digest: &[u8], signature: &[u8], salt: Option<usize>) -> bool
        where
            D: sha1::digest::Digest + sha1::digest::FixedOutputReset + ::rsa::pkcs8::AssociatedOid;
    }

    impl Verify for RsaPrivateKey {
        fn verify_for_test<D>(&self, digest: &[u8], signature: &[u8], salt: Option<usize>) -> bool
        where
            D: sha1::digest::Digest + sha1::digest::FixedOutputReset + ::rsa::pkcs8::AssociatedOid,
        {
            match salt {
                None => self.as_public_key().verify(Pkcs1v15Sign::new::<D>(), digest, signature).is_ok(),
                Some(salt) => self.as_public_key().verify(Pss::<D>::new_with_salt(salt), digest, signature).is_ok(),
            }
        }
    }
}
