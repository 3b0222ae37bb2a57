//! The algorithms behind `crypto.subtle` (Web Cryptography), on ring where it has them and on RustCrypto's crates where not.
//!
//! A key is bytes that JavaScript keeps where no program sees them, in one canonical form an algorithm (see `js/subtle_keys.js`):
//! nothing native lives between calls, and keys count as their tenant's memory.
//!
//! *Does not:* know usages, dictionaries or error names: those are the JavaScript side's. What fails is `null`, or `false`
//! for a signature. *Bounds:* an operation is linear in its input but for those with private RSA keys, whose modulus is at
//! most [`rsa::PRIVATE_BITS_MAX`]; what a program may repeat at will (iterations of PBKDF2, candidates for a prime) comes back
//! to JavaScript between steps, where CPU limits hold.

mod aes;
mod curves;
mod derive;
mod hash;
mod okp;
mod rsa;

use isolate::{Args, OpError, OpResult, OpTable, Scope, Value};
use ring::rand::{SecureRandom, SystemRandom};

pub(super) fn register(ops: &mut OpTable) {
    aes::register(ops);
    curves::register(ops);
    derive::register(ops);
    hash::register(ops);
    okp::register(ops);
    rsa::register(ops);
    ops.add("timingSafeEqual", timing_safe_equal);
}

/// `timingSafeEqual(a, b)`: whether two buffers of the same length have the same bytes, in a time that depends on the length.
fn timing_safe_equal<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> OpResult<'s> {
    let a = args.bytes(cx, 0)?;
    let same = cx.with_bytes(args.get(1), |b| same_bytes(&a, b)).ok_or_else(|| not_a_buffer(2))?;
    Ok(cx.boolean(same))
}

fn same_bytes(a: &[u8], b: &[u8]) -> bool {
    subtle::ConstantTimeEq::ct_eq(a, b).into()
}

fn not_a_buffer(argument: usize) -> OpError {
    OpError::type_error(format!("argument {argument} is not a buffer"))
}

/// Bytes as a `Uint8Array`, `null` for none.
fn bytes_or_null<'s>(cx: &mut Scope<'s, '_>, bytes: Option<Vec<u8>>) -> OpResult<'s> {
    match bytes {
        Some(bytes) => cx.uint8_array(bytes).ok_or_else(OpError::out_of_memory),
        None => Ok(cx.null()),
    }
}

/// Several byte strings as an array, `null` for none.
fn parts_or_null<'s>(cx: &mut Scope<'s, '_>, parts: Option<Vec<Vec<u8>>>) -> OpResult<'s> {
    let Some(parts) = parts else { return Ok(cx.null()) };
    let mut items: Vec<Value<'s>> = Vec::with_capacity(parts.len());
    for part in parts {
        items.push(cx.uint8_array(part).ok_or_else(OpError::out_of_memory)?);
    }
    Ok(cx.array(&items))
}

/// How a key comes or goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Raw,
    Pkcs8,
    Spki,
}

impl Format {
    fn named(name: &str) -> Result<Format, OpError> {
        match name {
            "raw" => Ok(Format::Raw),
            "pkcs8" => Ok(Format::Pkcs8),
            "spki" => Ok(Format::Spki),
            _ => Err(OpError::type_error("no such format")),
        }
    }
}

/// The operating system's generator for RustCrypto's crates.
struct SystemRng;

/// The system gives no randomness: nothing that needs a key may go on. Caught where native functions are called.
const NO_RANDOMNESS: &str = "the system's random generator works once the system has started";

impl rand_core::TryRng for SystemRng {
    type Error = core::convert::Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Self::Error> {
        SystemRandom::new().fill(out).expect(NO_RANDOMNESS);
        Ok(())
    }
}

impl rand_core::TryCryptoRng for SystemRng {}
