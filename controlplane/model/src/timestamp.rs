//! Times of the API: milliseconds since the Unix epoch inside, RFC 3339 in UTC outside.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, SchemaFormat, Type};
use utoipa::openapi::{RefOr, Schema};

/// A point in time, to the millisecond; between the years 0 and 9999.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// 9999-12-31T23:59:59.999Z, ms since the epoch: RFC 3339 has no later year.
const UNIX_MS_MAX: i64 = 253_402_300_799_999;
/// 0000-01-01T00:00:00Z.
const UNIX_MS_MIN: i64 = -62_167_219_200_000;

impl Timestamp {
    /// This many milliseconds since the Unix epoch, brought into the years 0 to 9999.
    pub const fn from_unix_ms(unix_ms: i64) -> Timestamp {
        if unix_ms > UNIX_MS_MAX {
            Timestamp(UNIX_MS_MAX)
        } else if unix_ms < UNIX_MS_MIN {
            Timestamp(UNIX_MS_MIN)
        } else {
            Timestamp(unix_ms)
        }
    }

    /// The system's clock.
    pub fn now() -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_unix_ms(i64::try_from(since.as_millis()).unwrap_or(UNIX_MS_MAX))
    }

    /// Milliseconds since the Unix epoch.
    pub const fn unix_ms(self) -> i64 {
        self.0
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0) * 1_000_000)
            .expect("a Timestamp is between the years 0 and 9999");
        let (hour, minute, second, milli) = at.time().as_hms_milli();
        let (year, month, day) = (at.year(), u8::from(at.month()), at.day());
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        let at = OffsetDateTime::parse(&text, &Rfc3339)
            .map_err(|error| de::Error::custom(format_args!("not an RFC 3339 time: {error}")))?;
        let unix_ms = at.unix_timestamp_nanos().div_euclid(1_000_000);
        Ok(Timestamp::from_unix_ms(i64::try_from(unix_ms).unwrap_or(UNIX_MS_MAX)))
    }
}

impl utoipa::PartialSchema for Timestamp {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
            .examples(["2025-01-15T10:00:00.000Z"])
            .into()
    }
}

impl utoipa::ToSchema for Timestamp {}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(unix_ms: i64, text: &str) {
        let at = Timestamp::from_unix_ms(unix_ms);
        assert_eq!(at.to_string(), text);
        assert_eq!(serde_json::from_str::<Timestamp>(&format!("\"{text}\"")).unwrap(), at);
    }

    #[test]
    fn text_and_back() {
        check(0, "1970-01-01T00:00:00.000Z");
        check(1_736_935_200_007, "2025-01-15T10:00:00.007Z");
        check(-1, "1969-12-31T23:59:59.999Z");
        check(UNIX_MS_MAX, "9999-12-31T23:59:59.999Z");
        check(UNIX_MS_MIN, "0000-01-01T00:00:00.000Z");
    }

    #[test]
    fn outliers_are_brought_into_range() {
        assert_eq!(Timestamp::from_unix_ms(i64::MAX).unix_ms(), UNIX_MS_MAX);
        assert_eq!(Timestamp::from_unix_ms(i64::MIN).unix_ms(), UNIX_MS_MIN);
    }
}
