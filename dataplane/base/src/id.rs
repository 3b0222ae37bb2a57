//! Ids as the data plane sees them: 128-bit (a UUID's bits) or a digest, never text. The control plane gives them
//! their prefixed text form; on a node they are opaque.

use std::fmt;

macro_rules! id128 {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub u128);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:032x}", self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:032x})"), self.0)
            }
        }
    };
}

id128! {
    /// A tenant. All isolates of one account may share a trust boundary; two accounts never do.
    AccountId
}
id128! {
    /// One deployed Worker, with its history of versions (seed 000, "Deployment").
    DeploymentId
}

/// SHA-256 of an artifact's bytes, as stored and as distributed (seed 000, "Code Distribution Algorithm").
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ArtifactHash(pub [u8; 32]);

impl ArtifactHash {
    /// Reads 64 lower- or upper-case hex digits, without a `sha256:` prefix.
    pub fn from_hex(text: &str) -> Option<ArtifactHash> {
        let digits = text.as_bytes();
        if digits.len() != 64 {
            return None;
        }
        let mut out = [0u8; 32];
        for (byte, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
            let high = (pair[0] as char).to_digit(16)?;
            let low = (pair[1] as char).to_digit(16)?;
            *byte = (high * 16 + low) as u8;
        }
        Some(ArtifactHash(out))
    }
}

impl fmt::Display for ArtifactHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0 {
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for ArtifactHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn artifact_hash_round_trips_through_hex() {
        let hash = ArtifactHash(std::array::from_fn(|i| (i * 7) as u8));
        assert_eq!(ArtifactHash::from_hex(&hash.to_string()), Some(hash));
        assert_eq!(ArtifactHash::from_hex(&hash.to_string().to_uppercase()), Some(hash));
    }

    #[test]
    fn artifact_hash_refuses_what_is_not_64_hex_digits() {
        for text in ["", "00", &"g".repeat(64), &"0".repeat(63), &"é".repeat(32)] {
            assert_eq!(ArtifactHash::from_hex(text), None, "{text}");
        }
    }
}
