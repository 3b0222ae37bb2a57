//! Route patterns, and the one normalisation of hosts and paths. The compiler applies it to patterns and the node to
//! requests: both through the functions here, so they cannot differ.
//!
//! A **pattern** is `host/path`: `example.com/*`, `*.example.com/api/*`, `example.com/exact`. The host may begin with
//! `*.` (every host below, at any depth, not the host itself). The path may end with `*` (every path that begins so);
//! without it, it is exact. There is no other `*`. Seed 000, "Request Routing Algorithm".
//!
//! A **host** in normal form is lower-case ASCII letters, digits, `-`, `_` and dots, without port and without trailing
//! dot. Names in other scripts are written as the `Host` field has them: in punycode (RFC 5891).
//!
//! A **path** in normal form ends before `?` or `#`, has `/` for `\`, has no percent-encoded unreserved character (RFC
//! 3986 §6.2.2.2), has upper-case hexadecimal digits in the other triplets, and has no `.` or `..` segment: what is left is
//! what a Worker sees as `new URL(request.url).pathname`, up to the spelling of triplets. Doubled slashes stay.
//!
//! Bounds: [`HOST_BYTES_MAX`], `base::limits::PATTERN_BYTES_MAX`. No input or output; never panics on any bytes.

use std::borrow::Cow;

use base::limits::PATTERN_BYTES_MAX;

use crate::limits::{HOST_BYTES_MAX, LABEL_BYTES_MAX};
use crate::snapshot::{HostKind, PathKind};

/// A host in normal form, in place of an allocation.
#[derive(Clone, Copy)]
pub struct HostName {
    bytes: [u8; HOST_BYTES_MAX],
    len: u8,
}

impl HostName {
    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// The normal form of a `Host` field or of a pattern's host. None for what no pattern can name: nothing, too long, an
/// IPv6 literal, or a character that stands in no host name.
#[inline]
pub fn normalise_host(raw: &[u8]) -> Option<HostName> {
    let host = match raw.iter().fold(false, |found, byte| found | (*byte == b':')) {
        true => without_port(raw),
        false => raw,
    };
    let host = host.strip_suffix(b".").unwrap_or(host);
    if host.is_empty() || host.len() > HOST_BYTES_MAX {
        return None;
    }
    let mut name = HostName { bytes: [0; HOST_BYTES_MAX], len: host.len() as u8 };
    // Without an exit in the middle: the compiler makes vector instructions of it.
    let mut allowed = true;
    for (to, from) in name.bytes.iter_mut().zip(host) {
        let upper = from.is_ascii_uppercase();
        *to = *from | u8::from(upper) << 5;
        let other = (*from == b'-') | (*from == b'_') | (*from == b'.');
        allowed &= upper | from.is_ascii_lowercase() | from.is_ascii_digit() | other;
    }
    allowed.then_some(name)
}

fn without_port(raw: &[u8]) -> &[u8] {
    match raw.iter().rposition(|byte| *byte == b':') {
        Some(colon) if raw[colon + 1..].iter().all(u8::is_ascii_digit) => &raw[..colon],
        _ => raw,
    }
}

/// Where the path of a request's target ends: before its query or fragment.
#[inline]
pub fn path_end(raw: &[u8]) -> usize {
    const BLOCK: usize = 32;
    let ends = |byte: &u8| (*byte == b'?') | (*byte == b'#');
    for (index, block) in raw.chunks(BLOCK).enumerate() {
        if block.iter().fold(false, |found, byte| found | ends(byte)) {
            return index * BLOCK + block.iter().position(ends).unwrap_or(0);
        }
    }
    raw.len()
}

/// The normal form of a request's path or of a pattern's path; see the module's text. Borrowed when `raw` is in normal
/// form already, which nearly every request's is.
#[inline]
pub fn normalise_path(raw: &[u8]) -> Cow<'_, [u8]> {
    let path = &raw[..path_end(raw)];
    // A dot segment follows a slash; without exits, as above.
    let encoded = path.iter().fold(false, |found, byte| found | (*byte == b'%') | (*byte == b'\\'));
    let after = path.get(1..).unwrap_or_default();
    let dotted = path.iter().zip(after).fold(false, |found, (a, b)| found | ((*a == b'/') & (*b == b'.')));
    if !(encoded || dotted && has_dot_segment(path)) {
        return Cow::Borrowed(path);
    }
    Cow::Owned(resolve_dots(&decode_unreserved(path)))
}

fn has_dot_segment(path: &[u8]) -> bool {
    path.split(|byte| *byte == b'/').any(is_dot_segment)
}

fn is_dot_segment(segment: &[u8]) -> bool {
    matches!(segment, b"." | b"..")
}

fn decode_unreserved(path: &[u8]) -> Vec<u8> {
    let hex = |byte: u8| (byte as char).to_digit(16);
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        let triplet = match after {
            [high, low, ..] if byte == b'%' => hex(*high).zip(hex(*low)),
            _ => None,
        };
        let Some((high, low)) = triplet else {
            out.push(if byte == b'\\' { b'/' } else { byte });
            continue;
        };
        let decoded = (high * 16 + low) as u8;
        if decoded.is_ascii_alphanumeric() || matches!(decoded, b'-' | b'.' | b'_' | b'~') {
            out.push(decoded);
        } else {
            out.extend([b'%', after[0].to_ascii_uppercase(), after[1].to_ascii_uppercase()]);
        }
        rest = &after[2..];
    }
    out
}

/// Removes `.` and `..` segments as the WHATWG URL standard's path state does; one at the end leaves its slash.
fn resolve_dots(path: &[u8]) -> Vec<u8> {
    if !path.starts_with(b"/") || !has_dot_segment(path) {
        return path.to_vec();
    }
    let mut kept: Vec<&[u8]> = Vec::new();
    let mut segments = path[1..].split(|byte| *byte == b'/').peekable();
    while let Some(segment) = segments.next() {
        if segment == b".." {
            kept.pop();
        }
        if !is_dot_segment(segment) {
            kept.push(segment);
        } else if segments.peek().is_none() {
            kept.push(b"");
        }
    }
    let mut out = Vec::with_capacity(path.len());
    for segment in kept {
        out.push(b'/');
        out.extend_from_slice(segment);
    }
    out
}

/// A route pattern in normal form.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pattern {
    /// How the host matches.
    pub host_kind: HostKind,
    /// Host in normal form, without `*.`.
    pub host: String,
    /// How the path matches.
    pub path_kind: PathKind,
    /// Path in normal form, without the final `*`.
    pub path: String,
}

/// Why a text is no route pattern. The messages are for the person who wrote it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Nothing there.
    #[error("pattern is empty")]
    Empty,
    /// Over `PATTERN_BYTES_MAX`.
    #[error("pattern has {0} bytes; at most {PATTERN_BYTES_MAX} are allowed")]
    TooLong(usize),
    /// It begins with `http://` or the like.
    #[error("pattern has a scheme; write host and path only, as in example.com/*")]
    Scheme,
    /// No path.
    #[error("pattern has no path; write {0}/* for every path or {0}/ for the root alone")]
    NoPath(String),
    /// A port in the host.
    #[error("pattern has a port; routes match on every port")]
    Port,
    /// A host that is no name.
    #[error("host {host:?}: {problem}")]
    Host {
        /// The host as written.
        host: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A path that cannot match.
    #[error("path {path:?}: {problem}")]
    Path {
        /// The path as written.
        path: String,
        /// What is wrong with it.
        problem: &'static str,
    },
}

impl Pattern {
    /// Reads a pattern and brings it into normal form.
    pub fn parse(text: &str) -> Result<Pattern, PatternError> {
        if text.is_empty() {
            return Err(PatternError::Empty);
        }
        if text.len() > PATTERN_BYTES_MAX {
            return Err(PatternError::TooLong(text.len()));
        }
        if text.contains("://") {
            return Err(PatternError::Scheme);
        }
        let Some(slash) = text.find('/') else {
            return Err(PatternError::NoPath(text.to_owned()));
        };
        let (host, path) = text.split_at(slash);
        let (host_kind, host) = parse_host(host)?;
        let (path_kind, path) = parse_path(path)?;
        Ok(Pattern { host_kind, host, path_kind, path })
    }

    /// Whether a request to some host below `domain`, or to `domain` itself, could match.
    pub fn touches_domain(&self, domain: &str) -> bool {
        let below = |host: &str, of: &str| host.strip_suffix(of).is_some_and(|rest| rest.ends_with('.'));
        self.host == domain
            || below(&self.host, domain)
            || (self.host_kind == HostKind::Wildcard && below(domain, &self.host))
    }
}

impl std::fmt::Display for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let wildcard = if self.host_kind == HostKind::Wildcard { "*." } else { "" };
        let star = if self.path_kind == PathKind::Prefix { "*" } else { "" };
        write!(f, "{wildcard}{}{}{star}", self.host, self.path)
    }
}

fn parse_host(written: &str) -> Result<(HostKind, String), PatternError> {
    let (kind, host) = match written.strip_prefix("*.") {
        Some(host) => (HostKind::Wildcard, host),
        None => (HostKind::Exact, written),
    };
    let problem = |problem| PatternError::Host { host: written.to_owned(), problem };
    if host.contains('*') {
        return Err(problem("a wildcard may only stand first, as in *.example.com"));
    }
    if host.contains(['[', ']']) {
        return Err(problem("IPv6 addresses cannot be routed by pattern"));
    }
    if host.contains(':') {
        return Err(PatternError::Port);
    }
    if !host.is_ascii() {
        return Err(problem("write names in other scripts in punycode, as in xn--bcher-kva.example"));
    }
    if host.trim_end_matches('.').is_empty() {
        return Err(problem("it is empty"));
    }
    let normal = normalise_host(host.as_bytes())
        .ok_or_else(|| problem("only letters, digits, '-', '_' and '.' may stand in it"))?;
    for label in normal.as_bytes().split(|byte| *byte == b'.') {
        if label.is_empty() || label.len() > LABEL_BYTES_MAX {
            return Err(problem("each label must have 1 to 63 characters"));
        }
        if label.starts_with(b"-") || label.ends_with(b"-") {
            return Err(problem("a label may not begin or end with '-'"));
        }
    }
    Ok((kind, String::from_utf8_lossy(normal.as_bytes()).into_owned()))
}

fn parse_path(written: &str) -> Result<(PathKind, String), PatternError> {
    let (kind, path) = match written.strip_suffix('*') {
        Some(path) => (PathKind::Prefix, path),
        None => (PathKind::Exact, written),
    };
    let problem = |problem| PatternError::Path { path: written.to_owned(), problem };
    if path.contains('*') {
        return Err(problem("a wildcard may only stand last, as in /api/*"));
    }
    if path.contains(['?', '#']) {
        return Err(problem("query and fragment take no part in routing"));
    }
    if !path.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(problem("write spaces, control and non-ASCII characters percent-encoded"));
    }
    let decoded = decode_unreserved(path.as_bytes());
    if decoded.split(|byte| *byte == b'/').rev().skip(usize::from(kind == PathKind::Prefix)).any(is_dot_segment) {
        return Err(problem("'.' and '..' segments never reach a route"));
    }
    Ok((kind, String::from_utf8_lossy(&decoded).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn host(raw: &str) -> Option<String> {
        normalise_host(raw.as_bytes()).map(|name| String::from_utf8_lossy(name.as_bytes()).into_owned())
    }

    fn path(raw: &str) -> String {
        String::from_utf8_lossy(&normalise_path(raw.as_bytes())).into_owned()
    }

    #[test]
    fn host_loses_case_port_and_trailing_dot() {
        for raw in ["example.com", "EXAMPLE.com", "example.com.", "example.com:80", "Example.Com.:8080", "example.com:"]
        {
            assert_eq!(host(raw).as_deref(), Some("example.com"), "{raw}");
        }
        assert_eq!(host("127.0.0.1:80").as_deref(), Some("127.0.0.1"));
        assert_eq!(host("a..").as_deref(), Some("a."), "only one dot is the root's");
    }

    #[test]
    fn host_that_no_pattern_can_name_is_none() {
        for raw in ["", ".", ":80", "[::1]", "[::1]:80", "exa mple", "exämple.com", "a/b", "user@a", "a:b", "\0"] {
            assert_eq!(host(raw), None, "{raw:?}");
        }
        assert_eq!(host(&"a".repeat(254)), None);
        assert!(host(&"a".repeat(253)).is_some());
    }

    #[test]
    fn path_is_what_a_worker_sees() {
        for (raw, normal) in [
            ("/", "/"),
            ("/a/b?c=/../d", "/a/b"),
            ("/a#b", "/a"),
            ("/a/./b", "/a/b"),
            ("/a/../b", "/b"),
            ("/a/..", "/"),
            ("/a/.", "/a/"),
            ("/../../etc", "/etc"),
            ("/a/%2e%2E/b", "/b"),
            ("/%61pi", "/api"),
            ("/a%2fb", "/a%2Fb"),
            ("/a%zz%", "/a%zz%"),
            ("/a\\..\\b", "/b"),
            ("/.well-known/x", "/.well-known/x"),
            ("/...", "/..."),
            ("//a//", "//a//"),
            ("/a//../b", "/a/b"),
            ("*", "*"),
            ("", ""),
        ] {
            assert_eq!(path(raw), normal, "{raw}");
        }
        assert!(matches!(normalise_path(b"/a/b.c/d?x=%41"), Cow::Borrowed(b"/a/b.c/d")));
    }

    #[test]
    fn patterns_of_the_seed_parse() {
        let parse = |text| {
            Pattern::parse(text).map(|pattern| (pattern.host_kind, pattern.host, pattern.path_kind, pattern.path))
        };
        let (host, path) = ("example.com".to_owned(), |path: &str| path.to_owned());
        assert_eq!(parse("example.com/*"), Ok((HostKind::Exact, host.clone(), PathKind::Prefix, path("/"))));
        assert_eq!(
            parse("*.example.com/api/*"),
            Ok((HostKind::Wildcard, host.clone(), PathKind::Prefix, path("/api/")))
        );
        assert_eq!(parse("EXAMPLE.com./%61b%2f"), Ok((HostKind::Exact, host, PathKind::Exact, path("/ab%2F"))));
    }

    #[test]
    fn malformed_patterns_say_why() {
        let long = format!("a.b/{}", "x".repeat(PATTERN_BYTES_MAX));
        let long_label = format!("{}.com/", "a".repeat(64));
        for (text, says) in [
            ("", "empty"),
            (long.as_str(), "at most"),
            ("https://a.b/*", "scheme"),
            ("a.b", "no path"),
            ("/x", "empty"),
            ("*./x", "empty"),
            ("*/x", "wildcard"),
            ("a.*.b/", "wildcard"),
            ("*a.b/", "wildcard"),
            ("a.b:80/", "port"),
            ("[::1]/", "IPv6"),
            ("bücher.example/", "punycode"),
            ("a..b/", "label"),
            ("-a.b/", "'-'"),
            (long_label.as_str(), "label"),
            ("a b/", "letters"),
            ("a.b/*/c", "wildcard"),
            ("a.b/?q", "query"),
            ("a.b/ä", "percent-encoded"),
            ("a.b/x y", "percent-encoded"),
            ("a.b/../c", "segments"),
            ("a.b/%2e%2e/c", "segments"),
            ("a.b/x/..", "segments"),
        ] {
            match Pattern::parse(text) {
                Err(error) => assert!(error.to_string().contains(says), "{text}: {error}"),
                Ok(pattern) => panic!("{text} parsed as {pattern}"),
            }
        }
        assert!(Pattern::parse("a.b/.*").is_ok(), "a prefix may end within a segment");
    }

    #[test]
    fn touches_domain_covers_the_domain_and_all_below_and_wildcards_above() {
        let touches = |text| Pattern::parse(text).is_ok_and(|pattern| pattern.touches_domain("workers.localhost"));
        for text in ["workers.localhost/*", "a.workers.localhost/x", "*.workers.localhost/*", "*.localhost/*"] {
            assert!(touches(text), "{text}");
        }
        for text in ["localhost/*", "myworkers.localhost/*", "*.example.com/*", "*.myworkers.localhost/*"] {
            assert!(!touches(text), "{text}");
        }
    }

    proptest! {
        #[test]
        fn normal_forms_are_fixed_points(raw in proptest::collection::vec(any::<u8>(), 0..300), dotty in "[/.%2eE\\\\a]{0,40}") {
            if let Some(name) = normalise_host(&raw) {
                // `a.` stays the form of `a..`, which matches nothing; everything else is a fixed point.
                if !name.as_bytes().ends_with(b".") {
                    let again = normalise_host(name.as_bytes());
                    prop_assert_eq!(again.map(|name| name.as_bytes().to_vec()), Some(name.as_bytes().to_vec()));
                }
            }
            let rooted = format!("/{dotty}");
            let once = normalise_path(rooted.as_bytes()).into_owned();
            prop_assert!(!once.split(|byte| *byte == b'/').any(is_dot_segment));
            prop_assert!(once.starts_with(b"/"));
            let _ = normalise_path(&raw);
        }

        #[test]
        fn a_parsed_pattern_prints_as_itself(host in "(\\*\\.)?[a-zA-Z0-9]{1,8}(\\.[a-z]{1,5}){0,3}", path in "(/[a-z%.2e]{1,5}){0,3}/\\*?") {
            if let Ok(pattern) = Pattern::parse(&format!("{host}{path}")) {
                let again = Pattern::parse(&pattern.to_string());
                // A decoded triplet may form a new one (`%252e`): decoding once is the rule, so only those may differ.
                if !path.contains('%') {
                    prop_assert_eq!(again, Ok(pattern));
                }
            }
        }
    }
}
