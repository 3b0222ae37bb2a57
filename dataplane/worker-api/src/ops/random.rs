//! Randomness, all of it from ring's `SystemRandom`: the operating system's generator.

use isolate::{Args, OpError, OpResult, OpTable, Scope};
use ring::rand::{SecureRandom, SystemRandom};

pub(super) fn register(ops: &mut OpTable) {
    ops.add("randomFill", random_fill);
    ops.add("randomUuid", random_uuid);
    ops.add("randomToken", random_token);
}

/// `randomFill(view)`: fills all bytes of a view.
fn random_fill<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> OpResult<'s> {
    let filled = cx
        .with_bytes_mut(args.get(0), |bytes| SystemRandom::new().fill(bytes).is_ok())
        .ok_or_else(|| OpError::type_error("argument 1 is not a buffer"))?;
    if filled { Ok(cx.undefined()) } else { Err(unavailable()) }
}

/// `randomUuid()`: a version 4 UUID (RFC 9562 §5.4).
fn random_uuid<'s>(cx: &mut Scope<'s, '_>, _args: &Args<'s>) -> OpResult<'s> {
    let text = uuid_text(random_bytes()?);
    Ok(cx.string(&text))
}

/// `randomToken()`: 32 hex digits.
fn random_token<'s>(cx: &mut Scope<'s, '_>, _args: &Args<'s>) -> OpResult<'s> {
    let text = format!("{:032x}", u128::from_be_bytes(random_bytes()?));
    Ok(cx.string(&text))
}

fn random_bytes() -> Result<[u8; 16], OpError> {
    let mut bytes = [0; 16];
    SystemRandom::new().fill(&mut bytes).map_err(|_| unavailable())?;
    Ok(bytes)
}

fn unavailable() -> OpError {
    OpError::dom("OperationError", "the system's random generator is not available")
}

fn uuid_text(mut bytes: [u8; 16]) -> String {
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = format!("{:032x}", u128::from_be_bytes(bytes));
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuid_has_its_version_and_variant() {
        assert_eq!(uuid_text([0xff; 16]), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(uuid_text([0; 16]), "00000000-0000-4000-8000-000000000000");
    }

    #[test]
    fn bytes_differ() {
        assert_ne!(random_bytes().ok(), random_bytes().ok());
    }
}
