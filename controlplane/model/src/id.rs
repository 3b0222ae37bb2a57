//! Ids as the API shows them: a prefix that says what it is, and the 32 lower-case hex digits of a UUIDv7.
//!
//! *Invariant:* text to id to text is the identity; an id of one kind never parses as another's.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{RefOr, Schema};
use uuid::Uuid;

/// A text that is not an id of the kind asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an id of the form `{prefix}` followed by 32 lower-case hex digits")]
pub struct ParseIdError {
    /// The prefix that was wanted, with its underscore.
    pub prefix: &'static str,
}

macro_rules! prefixed_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u128);

        impl $name {
            /// What its text begins with.
            pub const PREFIX: &'static str = $prefix;

            /// A new id (UUIDv7: later ids sort after earlier ones, to the millisecond).
            #[expect(clippy::new_without_default, reason = "two calls give two different ids")]
            pub fn new() -> $name {
                $name(Uuid::now_v7().as_u128())
            }

            /// The id of these 128 bits.
            pub const fn from_u128(bits: u128) -> $name {
                $name(bits)
            }

            /// Its 128 bits.
            pub const fn as_u128(self) -> u128 {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{:032x}"), self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<$name, ParseIdError> {
                parse(text, $prefix).map($name).ok_or(ParseIdError { prefix: $prefix })
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<$name, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(de::Error::custom)
            }
        }

        impl utoipa::PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                ObjectBuilder::new()
                    .schema_type(Type::String)
                    .pattern(Some(concat!("^", $prefix, "[0-9a-f]{32}$")))
                    .examples([concat!($prefix, "01932c07a0f07c3e8d5b6a7f8e9d0c1b")])
                    .into()
            }
        }

        impl utoipa::ToSchema for $name {}
    };
}

fn parse(text: &str, prefix: &str) -> Option<u128> {
    let digits = text.strip_prefix(prefix)?;
    let lower_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    if digits.len() != 32 || !digits.bytes().all(lower_hex) {
        return None;
    }
    u128::from_str_radix(digits, 16).ok()
}

prefixed_id! {
    /// A tenant.
    AccountId, "acc_"
}
prefixed_id! {
    /// A group of deployments of one account.
    ProjectId, "prj_"
}
prefixed_id! {
    /// One deployed Worker with its history of versions.
    DeploymentId, "deploy_"
}
prefixed_id! {
    /// One uploaded version of a deployment.
    VersionId, "ver_"
}
prefixed_id! {
    /// A route pattern of a deployment.
    RouteId, "route_"
}
prefixed_id! {
    /// A bearer token's record; not the token itself.
    TokenId, "tok_"
}
prefixed_id! {
    /// An entry of the audit log.
    AuditId, "aud_"
}
prefixed_id! {
    /// A key-value namespace.
    KvNamespaceId, "ns_"
}
prefixed_id! {
    /// A Durable Object namespace.
    DoNamespaceId, "dons_"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips() {
        let id = DeploymentId::new();
        let text = id.to_string();
        assert!(text.starts_with("deploy_") && text.len() == 7 + 32, "{text}");
        assert_eq!(text.parse(), Ok(id));
        let json = serde_json::to_string(&id).unwrap();
        assert_eq!(serde_json::from_str::<DeploymentId>(&json).unwrap(), id);
    }

    #[test]
    fn refuses_what_is_not_exactly_an_id() {
        let digits = "01932c07a0f07c3e8d5b6a7f8e9d0c1b";
        for text in [
            String::new(),
            digits.to_owned(),
            format!("acc_{digits}"),
            format!("deploy_{}", digits.to_uppercase()),
            format!("deploy_{}", &digits[1..]),
            format!("deploy_+{}", &digits[1..]),
            format!("deploy_{digits}0"),
            format!(" deploy_{digits}"),
        ] {
            assert!(text.parse::<DeploymentId>().is_err(), "{text}");
        }
    }

    #[test]
    fn later_ids_do_not_sort_before_earlier_milliseconds() {
        let first = VersionId::new();
        std::thread::sleep(std::time::Duration::from_millis(3));
        assert!(VersionId::new() > first);
    }
}
