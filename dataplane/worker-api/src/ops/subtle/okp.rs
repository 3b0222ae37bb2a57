//! Ed25519 and X25519 (RFC 8032, RFC 7748, RFC 8410), on ring and curve25519-dalek.
//!
//! Keys: public, 32 bytes; private, the seed and then the public key, 64 bytes.

use curve25519_dalek::{edwards::CompressedEdwardsY, montgomery::MontgomeryPoint};
use isolate::{Args, OpError, OpResult, OpTable, Scope};
use p256::pkcs8::{PrivateKeyInfoRef, der::Decode, spki::SubjectPublicKeyInfoRef};
use ring::{
    rand::{SecureRandom, SystemRandom},
    signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey},
};

use super::{Format, NO_RANDOMNESS, bytes_or_null};

pub(super) fn register(ops: &mut OpTable) {
    ops.add("okpGenerate", generate);
    ops.add("okpPair", pair);
    ops.add("okpImport", import);
    ops.add("okpExport", export);
    ops.add("ed25519Sign", sign);
    ops.add("ed25519Verify", verify);
    ops.add("x25519", x25519);
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Ed25519,
    X25519,
}

impl Kind {
    fn of<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> Result<Kind, OpError> {
        match &args.string(cx, 0)?[..] {
            "Ed25519" => Ok(Kind::Ed25519),
            "X25519" => Ok(Kind::X25519),
            _ => Err(OpError::type_error("no such curve")),
        }
    }

    /// The last byte of its object identifier, 1.3.101.x.
    fn oid(self) -> u8 {
        match self {
            Kind::Ed25519 => 112,
            Kind::X25519 => 110,
        }
    }

    fn is(self, oid: &[u8]) -> bool {
        oid == [0x2b, 0x65, self.oid()]
    }

    /// The private key of a seed: with its public key behind it.
    fn pair(self, seed: &[u8]) -> Option<Vec<u8>> {
        let seed: [u8; 32] = seed.try_into().ok()?;
        let mut pair = seed.to_vec();
        match self {
            Kind::Ed25519 => {
                pair.extend_from_slice(Ed25519KeyPair::from_seed_unchecked(&seed).ok()?.public_key().as_ref())
            }
            Kind::X25519 => pair.extend_from_slice(MontgomeryPoint::mul_base_clamped(seed).as_bytes()),
        }
        Some(pair)
    }

    fn read_pkcs8(self, der: &[u8]) -> Option<Vec<u8>> {
        let info = PrivateKeyInfoRef::from_der(der).ok()?;
        if !self.is(info.algorithm.oid.as_bytes()) || info.algorithm.parameters.is_some() {
            return None;
        }
        // CurvePrivateKey ::= OCTET STRING
        match info.private_key.as_bytes() {
            [0x04, 0x20, seed @ ..] => self.pair(seed),
            _ => None,
        }
    }

    fn read_spki(self, der: &[u8]) -> Option<Vec<u8>> {
        let info = SubjectPublicKeyInfoRef::from_der(der).ok()?;
        if !self.is(info.algorithm.oid.as_bytes()) || info.algorithm.parameters.is_some() {
            return None;
        }
        info.subject_public_key.as_bytes().filter(|key| key.len() == 32).map(<[u8]>::to_vec)
    }

    fn pkcs8(self, pair: &[u8]) -> Option<Vec<u8>> {
        let mut der = vec![0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, self.oid(), 4, 0x22, 4, 0x20];
        der.extend_from_slice(pair.get(..32)?);
        Some(der)
    }

    fn spki(self, public: &[u8]) -> Option<Vec<u8>> {
        let mut der = vec![0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, self.oid(), 3, 0x21, 0];
        der.extend_from_slice(public);
        Some(der)
    }
}

/// `okpGenerate(kind)`: a private key.
fn generate<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> OpResult<'s> {
    let kind = Kind::of(cx, args)?;
    let mut seed = [0; 32];
    SystemRandom::new().fill(&mut seed).expect(NO_RANDOMNESS);
    bytes_or_null(cx, kind.pair(&seed))
}

/// `okpPair(kind, seed)`: the private key of a seed; `null` if that is not 32 bytes.
fn pair<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> OpResult<'s> {
    let kind = Kind::of(cx, args)?;
    let seed = args.bytes(cx, 1)?;
    bytes_or_null(cx, kind.pair(&seed))
}

/// `okpImport(kind, format, bytes)`: a key; `null` if they are none.
fn import<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> OpResult<'s> {
    let kind = Kind::of(cx, args)?;
    let format = Format::named(&args.string(cx, 1)?)?;
    let bytes = args.bytes(cx, 2)?;
    let key = match format {
        Format::Raw => Some(bytes).filter(|bytes| bytes.len() == 32),
        Format::Pkcs8 => kind.read_pkcs8(&bytes),
        Format::Spki => kind.read_spki(&bytes),
    };
    bytes_or_null(cx, key)
}

/// `okpExport(kind, format, key)`
fn export<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> OpResult<'s> {
    let kind = Kind::of(cx, args)?;
    let format = Format::named(&args.string(cx, 1)?)?;
    let key = args.bytes(cx, 2)?;
    let bytes = match format {
        Format::Raw => Some(key),
        Format::Pkcs8 => kind.pkcs8(&key),
        Format::Spki => kind.spki(&key),
    };
    bytes_or_null(cx, bytes)
}

/// `ed25519Sign(key, data)`
fn sign<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> OpResult<'s> {
    let key = args.bytes(cx, 0)?;
    let data = args.bytes(cx, 1)?;
    let pair =
        key.split_at_checked(32).and_then(|(seed, public)| Ed25519KeyPair::from_seed_and_public_key(seed, public).ok());
    bytes_or_null(cx, pair.map(|pair| pair.sign(&data).as_ref().to_vec()))
}

/// `ed25519Verify(key, data, signature)`
fn verify<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> OpResult<'s> {
    let (key, data, signature) = (args.bytes(cx, 0)?, args.bytes(cx, 1)?, args.bytes(cx, 2)?);
    let holds = !is_weak(&key)
        && signature.get(..32).is_some_and(|point| !is_weak(point))
        && UnparsedPublicKey::new(&ED25519, &key).verify(&data, &signature).is_ok();
    Ok(cx.boolean(holds))
}

/// No point, or one of small order.
fn is_weak(point: &[u8]) -> bool {
    let point = CompressedEdwardsY::from_slice(point).ok().and_then(|point| point.decompress());
    point.is_none_or(|point| point.is_small_order())
}

/// `x25519(private, public)`: the shared secret; `null` where that would be zero, whatever the private key.
fn x25519<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> OpResult<'s> {
    let (private, public) = (args.bytes(cx, 0)?, args.bytes(cx, 1)?);
    let shared = private.first_chunk::<32>().zip(public.first_chunk::<32>()).map(|(seed, public)| {
        let shared = MontgomeryPoint(*public).mul_clamped(*seed);
        shared.to_bytes()
    });
    bytes_or_null(cx, shared.filter(|shared| !super::same_bytes(shared, &[0; 32])).map(Vec::from))
}
