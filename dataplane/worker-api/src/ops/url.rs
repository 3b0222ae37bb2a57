//! URL parsing and setters (WHATWG URL) on the `url` crate.
//!
//! A URL is given to JavaScript as a record: `[href, offset × 8]`. The href is ASCII, so the offsets cut its units as they
//! cut its bytes. See `js/url.js` for their order.

use base::limits::MIB;
use isolate::{Args, OpError, OpResult, OpTable, Scope, Value};
use url::{Position, Url, quirks};

use super::file_url::{self, FileUrl, Parsed};

pub(super) fn register(ops: &mut OpTable) {
    ops.add("urlParse", url_parse);
    ops.add("urlSet", url_set);
    ops.add("urlOrigin", url_origin);
}

/// `urlParse(input, base | undefined)`: a record, or `null` if either is no URL.
fn url_parse<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> OpResult<'s> {
    let input = args.string(cx, 0)?;
    let base = if args.get(1).is_undefined() { None } else { Some(args.string(cx, 1)?) };
    if input.len() > URL_BYTES_MAX || base.as_ref().is_some_and(|base| base.len() > URL_BYTES_MAX) {
        return Ok(cx.null());
    }
    match file_url::parse(&input, base.as_deref()) {
        Parsed::File(url) => return Ok(file_record(cx, &url)),
        Parsed::Invalid => return Ok(cx.null()),
        Parsed::Other => {}
    }
    Ok(match parse(&input, base.as_deref()) {
        Some(url) => record(cx, &url),
        None => cx.null(),
    })
}

/// `urlSet(href, part, value)`: the record with that part set, or `null` if the setter leaves the URL as it is.
fn url_set<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> OpResult<'s> {
    let href = args.string(cx, 0)?;
    let part = Part::from_index(args.id(1)?).ok_or_else(|| OpError::type_error("no such part of a URL"))?;
    let value = args.string(cx, 2)?;
    if value.len() > URL_BYTES_MAX {
        return Ok(cx.null());
    }
    if part == Part::Pathname
        && let Parsed::File(mut url) = file_url::parse(&href, None)
    {
        return Ok(if url.set_path(&value).is_some() { file_record(cx, &url) } else { cx.null() });
    }
    let Ok(mut url) = Url::parse(&href) else { return Ok(cx.null()) };
    Ok(if set(&mut url, part, &value) { record(cx, &url) } else { cx.null() })
}

/// `urlOrigin(href)`: the origin of any URL; JavaScript asks for those that it cannot cut out of the href itself.
fn url_origin<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> OpResult<'s> {
    let href = args.string(cx, 0)?;
    Ok(cx.string(&origin(&href)))
}

/// A blob URL's origin is that of the URL in its path, if that is one of HTTP.
fn origin(href: &str) -> String {
    let url = Url::parse(href).ok();
    let inner = url.as_ref().filter(|url| url.scheme() == "blob").map(|url| Url::parse(url.path()).ok());
    let origin = match (&url, inner) {
        (_, Some(inner)) => {
            inner.filter(|inner| matches!(inner.scheme(), "http" | "https")).map(|inner| quirks::origin(&inner))
        }
        (url, None) => url.as_ref().map(quirks::origin),
    };
    origin.unwrap_or_else(|| "null".to_owned())
}

/// The parts that have a setter, numbered as in `js/url.js`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Protocol,
    Username,
    Password,
    Host,
    Hostname,
    Port,
    Pathname,
    Search,
    Hash,
}

impl Part {
    fn from_index(index: u64) -> Option<Part> {
        const PARTS: [Part; 9] = [
            Part::Protocol,
            Part::Username,
            Part::Password,
            Part::Host,
            Part::Hostname,
            Part::Port,
            Part::Pathname,
            Part::Search,
            Part::Hash,
        ];
        PARTS.get(usize::try_from(index).ok()?).copied()
    }
}

/// A longer one, or a longer part of one, is no URL, as in browsers: parsing costs tens of nanoseconds a byte, and a
/// native function cannot be interrupted.
const URL_BYTES_MAX: usize = 2 * MIB;

fn parse(input: &str, base: Option<&str>) -> Option<Url> {
    match base {
        None => Url::parse(input).ok(),
        Some(base) => Url::parse(base).ok()?.join(input).ok(),
    }
}

/// Whether the part was set.
fn set(url: &mut Url, part: Part, value: &str) -> bool {
    if matches!(part, Part::Host | Part::Hostname | Part::Pathname) && !url.is_special() && !url.cannot_be_a_base() {
        return set_of_no_special(url, part, value).is_some();
    }
    match part {
        Part::Protocol => quirks::set_protocol(url, value).is_ok(),
        Part::Username => quirks::set_username(url, value).is_ok(),
        Part::Password => quirks::set_password(url, value).is_ok(),
        Part::Host => quirks::set_host(url, value).is_ok(),
        Part::Hostname => quirks::set_hostname(url, value).is_ok(),
        Part::Port => quirks::set_port(url, value).is_ok(),
        Part::Pathname => {
            quirks::set_pathname(url, value);
            true
        }
        Part::Search => {
            quirks::set_search(url, value);
            true
        }
        Part::Hash => {
            quirks::set_hash(url, value);
            true
        }
    }
}

/// Host or path of a URL whose scheme is none of the special ones. Its path may begin with two slashes without a host before it, which is written
/// `/.//` and is not a path's segment, and its host may be empty; the crate's setters know neither. None if it stays as it is.
fn set_of_no_special(url: &mut Url, part: Part, value: &str) -> Option<()> {
    let rest = url[Position::AfterPath..].to_owned();
    if part == Part::Pathname {
        // What becomes of the text beside a host, where every path can be written.
        let mut beside = Url::parse(&format!("{}://host/", url.scheme())).ok()?;
        quirks::set_pathname(&mut beside, value);
        let authority = url.has_authority().then(|| &url[Position::BeforeUsername..Position::BeforePath]);
        *url = Url::parse(&written(url.scheme(), authority, beside.path(), &rest)).ok()?;
        return Some(());
    }
    let path = url.path().to_owned();
    let mut bare = match url.has_authority() {
        true => url.clone(),
        false => Url::parse(&format!("{}:/", url.scheme())).ok()?,
    };
    match part {
        Part::Host => quirks::set_host(&mut bare, value).ok()?,
        _ => quirks::set_hostname(&mut bare, value).ok()?,
    }
    let authority = bare.has_authority().then(|| &bare[Position::BeforeUsername..Position::BeforePath]);
    *url = Url::parse(&written(url.scheme(), authority, &path, &rest)).ok()?;
    Some(())
}

/// A URL as its specification writes it.
fn written(scheme: &str, authority: Option<&str>, path: &str, rest: &str) -> String {
    match authority {
        Some(authority) => format!("{scheme}://{authority}{path}{rest}"),
        None if path.starts_with("//") => format!("{scheme}:/.{path}{rest}"),
        // A path that is none would make the URL another kind.
        None if path.is_empty() => format!("{scheme}:/{rest}"),
        None => format!("{scheme}:{path}{rest}"),
    }
}

/// Offsets of a URL's parts: after the scheme's colon, username, host, path, query.
fn offsets(url: &Url) -> [usize; 8] {
    let at = |position| url[..position].len();
    [
        at(Position::AfterScheme) + 1,
        at(Position::BeforeUsername),
        at(Position::AfterUsername),
        at(Position::BeforeHost),
        at(Position::AfterHost),
        at(Position::BeforePath),
        at(Position::AfterPath),
        at(Position::AfterQuery),
    ]
}

fn record<'s>(cx: &mut Scope<'s, '_>, url: &Url) -> Value<'s> {
    let mut items = [cx.undefined(); 9];
    items[0] = cx.string(url.as_str());
    for (item, offset) in items[1..].iter_mut().zip(offsets(url)) {
        *item = cx.id(offset as u64);
    }
    cx.array(&items)
}

/// The record of a file's URL, which has neither credentials nor a port.
fn file_record<'s>(cx: &mut Scope<'s, '_>, url: &FileUrl) -> Value<'s> {
    let (href, [scheme_end, host_end, path_end, query_end]) = url.serialize();
    let host = scheme_end + "//".len();
    let mut items = [cx.undefined(); 9];
    items[0] = cx.string(&href);
    let offsets = [scheme_end, host, host, host, host_end, host_end, path_end, query_end];
    for (item, offset) in items[1..].iter_mut().zip(offsets) {
        *item = cx.id(offset as u64);
    }
    cx.array(&items)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The parts as JavaScript cuts them: protocol, username, between, hostname, path, search, hash.
    fn cut(text: &str) -> [String; 7] {
        let url = parse(text, None).expect("a URL");
        let at = offsets(&url);
        let slice = |from: usize, to: usize| url.as_str()[from..to].to_owned();
        [
            slice(0, at[0]),
            slice(at[1], at[2]),
            slice(at[2], at[3]),
            slice(at[3], at[4]),
            slice(at[5], at[6]),
            slice(at[6], at[7]),
            slice(at[7], url.as_str().len()),
        ]
    }

    #[test]
    fn offsets_cut_the_parts() {
        assert_eq!(cut("https://u:p@h:81/a?b#c"), ["https:", "u", ":p@", "h", "/a", "?b", "#c"]);
        assert_eq!(cut("https://u@h/"), ["https:", "u", "@", "h", "/", "", ""]);
        assert_eq!(cut("http://[::1]:8080/x"), ["http:", "", "", "[::1]", "/x", "", ""]);
        assert_eq!(cut("mailto:a@b?x"), ["mailto:", "", "", "", "a@b", "?x", ""]);
        assert_eq!(cut("file:///C:/x"), ["file:", "", "", "", "/C:/x", "", ""]);
        assert_eq!(cut("web+demo:/.//not-a-host/"), ["web+demo:", "", "", "", "//not-a-host/", "", ""]);
    }

    #[test]
    fn hrefs_are_ascii() {
        for text in ["https://bücher.example/ä?ö#ü", "data:ä", "x:/ä", "https://h/\u{1f600}"] {
            assert!(parse(text, None).is_some_and(|url| url.as_str().is_ascii()), "{text}");
        }
    }

    #[test]
    fn base_is_used_or_refused() {
        assert_eq!(parse("../x", Some("http://h/a/b/c")).map(String::from), Some("http://h/a/x".into()));
        assert_eq!(parse("x", Some("no base")), None);
        assert_eq!(parse("x", None), None);
    }

    #[test]
    fn setters_say_whether_they_did() {
        let mut url = parse("https://h/", None).expect("a URL");
        assert!(set(&mut url, Part::Port, "8080"));
        assert!(set(&mut url, Part::Search, "a b"));
        assert_eq!(url.as_str(), "https://h:8080/?a%20b");
        assert!(!set(&mut url, Part::Host, "a b"));
        assert_eq!(url.as_str(), "https://h:8080/?a%20b");
        assert_eq!(Part::from_index(9), None);
    }

    #[test]
    fn paths_of_two_slashes_and_hosts_of_no_bytes() {
        let check = |href: &str, part: Part, value: &str, expect: &str| {
            let mut url = parse(href, None).expect("a URL");
            set(&mut url, part, value);
            assert_eq!(url.as_str(), expect, "{href} {part:?} {value}");
        };
        check("x:/", Part::Pathname, "//p", "x:/.//p");
        check("x:/.//p?q#h", Part::Pathname, "p", "x:/p?q#h");
        check("x:/a?q", Part::Pathname, "", "x:/?q");
        check("x:///a/b?q", Part::Pathname, "", "x://?q");
        check("x://u:p@h:1/a", Part::Pathname, "/../b c?#", "x://u:p@h:1/b%20c%3F%23");
        check("x:/.//p", Part::Host, "h:9", "x://h:9//p");
        check("x:/.//p#h", Part::Hostname, "", "x:////p#h");
        check("x://u@h:1/a", Part::Hostname, "i", "x://u@i:1/a");
        check("x://u@h/a", Part::Hostname, "", "x://u@h/a");
        check("x:opaque", Part::Pathname, "/p", "x:opaque");
    }
}
