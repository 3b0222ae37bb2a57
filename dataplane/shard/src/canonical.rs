//! The URL that a Worker sees: as the URL standard serialises it, so that `request.url` and `new URL(request.url).href`
//! are the same text. Nearly every URL is in that form already, which one look at its bytes shows.

use h1::request::RequestHead;
use url::Url;

/// What to put in the place of a request's URL: `Some(None)` where nothing need be, none if it is not a URL.
pub(crate) fn canonical(head: &RequestHead) -> Option<Option<String>> {
    if is_canonical(head.authority(), head.path(), &head.url) {
        return Some(None);
    }
    Url::parse(&head.url).ok().map(|url| Some(String::from(url)))
}

/// Whether the standard's parser would give these parts back unchanged. False for some that it would not change.
fn is_canonical(authority: &str, path: &str, url: &str) -> bool {
    // A port is rare enough, and upper case, an empty or a default port are changed. So are addresses in other notations,
    // which end with a digit or a dot, and punycode that is not valid.
    let plain_host =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.' | b'_');
    let host = authority.split_once(':').map_or(authority, |(host, port)| {
        let kept = !port.is_empty() && port != "80" && !port.starts_with('0') && port.len() < 5;
        if kept { host } else { "" }
    });
    let name = host.ends_with(|last: char| last.is_ascii_lowercase()) && host.bytes().all(plain_host);
    let numeric = host.rsplit('.').next().is_some_and(|last| last.starts_with("0x"));
    if !name || numeric || host.contains("xn--") {
        return false;
    }
    let dotted = path.as_bytes().windows(2).any(|pair| pair == b"/.") || path.contains("%2");
    !dotted
        && !url
            .bytes()
            .any(|byte| matches!(byte, b'"' | b'<' | b'>' | b'`' | b'{' | b'}' | b'\\' | b'^' | b'|' | b'\''))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn urls_become_what_the_standard_says() {
        let check = |authority: &str, path: &str, expect: &str| {
            let head = format!("GET {path} HTTP/1.1\r\nHost: {authority}\r\n\r\n");
            let head = h1::request::parse(head.as_bytes()).expect("valid");
            assert_eq!(canonical(&head).expect("a URL").unwrap_or_else(|| head.url.clone()), expect);
        };
        check("a.example", "/x", "http://a.example/x");
        check("A.Example:80", "/x", "http://a.example/x");
        check("a.example:8080", "/x", "http://a.example:8080/x");
        check("a.example", "/a/../b/%2e/c\\d", "http://a.example/b/c/d");
        check("a.example", "/a\"b", "http://a.example/a%22b");
        check("127.1", "/", "http://127.0.0.1/");
        let head = h1::request::parse(b"GET / HTTP/1.1\r\nHost: a.256.1.1.1\r\n\r\n").expect("valid");
        assert_eq!(canonical(&head), None);
    }

    proptest! {
        #[test]
        fn what_is_taken_for_canonical_is(
            authority in "[a-zA-Z0-9.-]{1,12}(:[0-9]{0,5})?",
            path in "/[!$-~]{0,20}",
            query in "(\\?[!$-~]{0,12})?",
        ) {
            prop_assume!(!path.contains('?') && !path.contains('#') && !query.contains('#'));
            let url = format!("http://{authority}{path}{query}");
            if is_canonical(&authority, &path, &url) {
                let parsed = Url::parse(&url).map(String::from);
                prop_assert_eq!(parsed.ok(), Some(url));
            }
        }
    }
}
