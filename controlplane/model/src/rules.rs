//! What a field must be. Checked by the server; a client may check first for a quicker answer.
//!
//! Bounds of lists and texts are here too, so that nothing that a tenant sends is kept without one.

/// A field that is not what it must be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct FieldError {
    /// Path of the field: `routes[2].pattern`.
    pub field: String,
    /// What it must be. Never quotes the value of a secret.
    pub message: String,
}

impl FieldError {
    /// This field must be that.
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> FieldError {
        FieldError { field: field.into(), message: message.into() }
    }
}

/// Names of projects, deployments and tokens, bytes (seed 000: `VARCHAR(255)`).
pub const NAME_BYTES_MAX: usize = 255;
/// A project's slug, bytes (seed 000: `VARCHAR(100)`).
pub const SLUG_BYTES_MAX: usize = 100;
/// A subdomain is one DNS label, bytes (RFC 1035 §2.3.4).
pub const SUBDOMAIN_BYTES_MAX: usize = 63;
/// An email address, bytes (seed 000: `VARCHAR(255)`).
pub const EMAIL_BYTES_MAX: usize = 255;
/// A route pattern, bytes (seed 000: `VARCHAR(500)`).
pub const PATTERN_BYTES_MAX: usize = 500;
/// A zone's name, bytes (seed 000: `VARCHAR(100)`).
pub const ZONE_BYTES_MAX: usize = 100;
/// A variable's name, bytes (seed 000: `VARCHAR(255)`).
pub const ENV_KEY_BYTES_MAX: usize = 255;
/// A variable's value, bytes (Cloudflare's own limit).
pub const ENV_VALUE_BYTES_MAX: usize = 5 * 1024;
/// Variables of one deployment (Cloudflare's own limit).
pub const ENV_VARS_MAX: usize = 128;
/// Routes of one deployment.
pub const ROUTES_MAX: usize = 1_000;
/// Bindings of one deployment, of each kind.
pub const BINDINGS_MAX: usize = 100;
/// Name of an entrypoint, bytes: it stands in a binding's target beside an id.
pub const ENTRYPOINT_BYTES_MAX: usize = 200;
/// What a Worker that is called sees as `ctx.props`, bytes of JSON: it stands beside the entrypoint.
pub const PROPS_BYTES_MAX: usize = 4096;
/// A module, bytes; with the modules beside it and 12 bytes for each.
pub const MODULE_BYTES_MAX: usize = 10 * 1024 * 1024;
/// Modules beside the main one in an upload.
pub const PARTS_MAX: usize = 500;
/// The name of one, bytes.
pub const PART_NAME_BYTES_MAX: usize = 512;
/// A module's source map, bytes: without the sources' texts it is about as long as the module.
pub const MAP_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Compatibility flags of a version; each a name of at most [`FLAG_BYTES_MAX`].
pub const FLAGS_MAX: usize = 64;
/// A compatibility flag or a schedule, bytes.
pub const FLAG_BYTES_MAX: usize = 100;
/// Schedules of a version (Cloudflare's own limit).
pub const CRONS_MAX: usize = 250;
/// The `metadata` part of an upload, bytes.
pub const METADATA_BYTES_MAX: usize = 64 * 1024;
/// A version's message, bytes.
pub const MESSAGE_BYTES_MAX: usize = 1_000;
/// CPU time of a request that a plan gives, milliseconds: unless it says otherwise, and at most.
pub const PLAN_CPU_MS: u32 = 50;
/// See [`PLAN_CPU_MS`].
pub const PLAN_CPU_MS_MAX: u32 = 30_000;
/// Weight of a plan: unless it says otherwise.
pub const PLAN_WEIGHT: u16 = 100;
/// Weight of a plan: at most.
pub const PLAN_WEIGHT_MAX: u16 = 1_000;
/// Bytes of stored modules that a plan may name: what any client's numbers can say exactly.
pub const PLAN_ARTIFACT_BYTES_MAX: u64 = (1 << 53) - 1;
/// A tier's name, bytes.
pub const TIER_BYTES_MAX: usize = 50;
/// Plans there are.
pub const PLANS_MAX: usize = 100;
/// Items of one page of a list; the default too.
pub const PAGE_MAX: u32 = 1_000;
/// A token's life at the longest, seconds: ten years.
pub const TOKEN_LIFE_S_MAX: u64 = 10 * 366 * 24 * 3600;
/// How long a rotated token's old secret may still count, seconds: a week.
pub const TOKEN_OVERLAP_S_MAX: u64 = 7 * 24 * 3600;

/// A display name: 1 to 255 bytes without control characters.
pub fn name(field: &str, text: &str) -> Result<(), FieldError> {
    if text.trim().is_empty() || text.len() > NAME_BYTES_MAX || text.chars().any(char::is_control) {
        return Err(FieldError::new(field, "must be 1 to 255 bytes, not blank, without control characters"));
    }
    Ok(())
}

/// The name of a module beside the main one: a relative path as an import has it, `lib/x.wasm`, without `.` and `..`.
pub fn part_name(field: &str, text: &str) -> Result<(), FieldError> {
    let segment = |segment: &str| !segment.is_empty() && segment != "." && segment != "..";
    if text.len() > PART_NAME_BYTES_MAX || text.contains(char::is_control) || !text.split('/').all(segment) {
        return Err(FieldError::new(
            field,
            "is no name of a module: a relative path without `.` and `..`, at most 512 bytes",
        ));
    }
    Ok(())
}

/// A tier: a name of at most 50 bytes.
pub fn tier(field: &str, text: &str) -> Result<(), FieldError> {
    if text.len() > TIER_BYTES_MAX {
        return Err(FieldError::new(field, "must be at most 50 bytes"));
    }
    name(field, text)
}

/// One DNS label in lower case.
pub fn subdomain(field: &str, text: &str) -> Result<(), FieldError> {
    if !is_label(text, SUBDOMAIN_BYTES_MAX) {
        return Err(FieldError::new(
            field,
            "must be one DNS label: 1 to 63 of a-z, 0-9 and '-', not beginning or ending with '-'",
        ));
    }
    // RFC 5891 §4.2.3.1: "--" in the third and fourth place is for encodings such as punycode.
    if text.as_bytes().get(2..4) == Some(b"--") && !text.starts_with("xn--") {
        return Err(FieldError::new(field, "must not have \"--\" as its third and fourth character"));
    }
    Ok(())
}

/// A project's short name.
pub fn slug(field: &str, text: &str) -> Result<(), FieldError> {
    if !is_label(text, SLUG_BYTES_MAX) {
        return Err(FieldError::new(field, "must be 1 to 100 of a-z, 0-9 and '-', not beginning or ending with '-'"));
    }
    Ok(())
}

fn is_label(text: &str, bytes_max: usize) -> bool {
    let bytes = text.as_bytes();
    (1..=bytes_max).contains(&bytes.len())
        && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
        && bytes.first() != Some(&b'-')
        && bytes.last() != Some(&b'-')
}

/// Something that can be an email address: one `@`, text on both sides, no spaces. Only sending mail would say more.
pub fn email(field: &str, text: &str) -> Result<(), FieldError> {
    let error = || FieldError::new(field, "must be an email address of at most 255 bytes");
    let (local, domain) = text.split_once('@').ok_or_else(error)?;
    let bad = |c: char| c.is_whitespace() || c.is_control() || c == '@';
    if text.len() > EMAIL_BYTES_MAX || local.is_empty() || domain.is_empty() || text.matches('@').count() != 1 {
        return Err(error());
    }
    if local.contains(bad) || domain.contains(bad) {
        return Err(error());
    }
    Ok(())
}

/// A variable's or binding's name: an ASCII JavaScript identifier, since it becomes a property of `env`.
pub fn env_key(field: &str, text: &str) -> Result<(), FieldError> {
    let mut bytes = text.bytes();
    let first = bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    if !first || text.len() > ENV_KEY_BYTES_MAX || !bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return Err(FieldError::new(field, "must be 1 to 255 of A-Z, a-z, 0-9 and '_', not beginning with a digit"));
    }
    Ok(())
}

/// A variable's value.
pub fn env_value(field: &str, text: &str) -> Result<(), FieldError> {
    if text.len() > ENV_VALUE_BYTES_MAX {
        return Err(FieldError::new(field, "must be at most 5120 bytes"));
    }
    Ok(())
}

/// A date of the form `2025-01-31`.
pub fn date(field: &str, text: &str) -> Result<(), FieldError> {
    let error = || FieldError::new(field, "must be a date of the form 2025-01-31");
    let bytes = text.as_bytes();
    let digits = |range: std::ops::Range<usize>| bytes[range].iter().all(u8::is_ascii_digit);
    if bytes.len() != 10 || bytes[4] != b'-' || bytes[7] != b'-' || !digits(0..4) || !digits(5..7) || !digits(8..10) {
        return Err(error());
    }
    let number = |range: std::ops::Range<usize>| text[range].parse::<u16>().map_err(|_| error());
    let month = time::Month::try_from(number(5..7)? as u8).map_err(|_| error())?;
    time::Date::from_calendar_date(i32::from(number(0..4)?), month, number(8..10)? as u8).map_err(|_| error())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    type Rule = fn(&str, &str) -> Result<(), FieldError>;

    fn check(rule: Rule, good: &[&str], bad: &[&str]) {
        for text in good {
            assert_eq!(rule("f", text), Ok(()), "{text:?}");
        }
        for text in bad {
            assert_eq!(rule("f", text).unwrap_err().field, "f", "{text:?}");
        }
    }

    #[test]
    fn subdomains() {
        let long = "a".repeat(63);
        check(
            subdomain,
            &["a", "my-worker", "0", "a--b", "xn--bcher-kva", &long],
            &["", "-a", "a-", "A", "a.b", "a_b", "ä", "ab--c", &"a".repeat(64)],
        );
    }

    #[test]
    fn slugs_and_names() {
        check(slug, &["a", "a-b", &"a".repeat(100)], &["", "A", "a b", &"a".repeat(101)]);
        check(name, &["x", "Mein Bücherregal"], &["", "  ", "a\nb", "a\0", &"a".repeat(256)]);
    }

    #[test]
    fn emails() {
        check(email, &["a@b", "a.b+c@example.com"], &["", "a", "@b", "a@", "a@b@c", "a b@c", "a@b\n"]);
    }

    #[test]
    fn env_keys() {
        check(env_key, &["A", "_x", "API_KEY9"], &["", "9A", "A-B", "A.B", "Ä", "a b", "__proto__ "]);
    }

    #[test]
    fn dates() {
        check(
            date,
            &["2025-01-01", "2024-02-29"],
            &["", "2025-1-01", "2025-02-29", "2025-13-01", "2025-00-10", "+025-01-01", "2025-01-01 ", "٢٠٢٥٠-١"],
        );
    }
}
