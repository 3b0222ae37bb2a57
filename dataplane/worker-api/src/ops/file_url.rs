//! URLs of files by the URL standard's own states ("file", "file slash", "file host", "path"): the crate `url` leaves out empty
//! segments and the hosts of drive letters.

use url::{Host, Url};

/// A URL whose scheme is "file".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct FileUrl {
    /// Serialised; empty for this machine.
    host: String,
    path: Vec<String>,
    query: Option<String>,
    fragment: Option<String>,
}

/// What an input is to this module.
pub(super) enum Parsed {
    /// A URL of a file.
    File(FileUrl),
    /// One, but not a valid one.
    Invalid,
    /// Somebody else's.
    Other,
}

/// Parses an input if it is a URL of a file, by its scheme or its base's.
pub(super) fn parse(input: &str, base: Option<&str>) -> Parsed {
    let cleaned = clean(input);
    let base = base.and_then(|base| match parse(base, None) {
        Parsed::File(url) => Some(url),
        _ => None,
    });
    let rest = match scheme_end(&cleaned) {
        Some(end) if cleaned[..end].eq_ignore_ascii_case("file") => &cleaned[end + 1..],
        Some(_) => return Parsed::Other,
        None if base.is_some() => &cleaned[..],
        None => return Parsed::Other,
    };
    FileUrl::of(rest, base).map_or(Parsed::Invalid, Parsed::File)
}

/// Without spaces and controls around it, without tabs and line ends in it.
fn clean(input: &str) -> String {
    let around = |c: char| c <= ' ';
    input.trim_matches(around).chars().filter(|c| !matches!(c, '\t' | '\n' | '\r')).collect()
}

fn scheme_end(input: &str) -> Option<usize> {
    let end = input.find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '+' | '-' | '.'))?;
    (input[end..].starts_with(':') && input.starts_with(|c: char| c.is_ascii_alphabetic())).then_some(end)
}

fn is_slash(c: char) -> bool {
    c == '/' || c == '\\'
}

/// A letter and ":" or "|".
fn is_drive_letter(text: &str) -> bool {
    matches!(text.as_bytes(), [letter, b':' | b'|'] if letter.is_ascii_alphabetic())
}

/// A drive letter, and then the end or what may follow one.
fn starts_with_drive_letter(text: &str) -> bool {
    text.get(..2).is_some_and(is_drive_letter)
        && text[2..].chars().next().is_none_or(|c| matches!(c, '/' | '\\' | '?' | '#'))
}

/// Encoded as the crate encodes it behind a special URL's host.
fn encoded(prefix: &str, text: &str) -> Option<Url> {
    Url::parse(&format!("http://h/{prefix}{text}")).ok()
}

impl FileUrl {
    /// "file state": what follows the scheme.
    fn of(rest: &str, base: Option<FileUrl>) -> Option<FileUrl> {
        let mut url = FileUrl::default();
        let Some(after) = rest.strip_prefix(is_slash) else {
            return match base {
                Some(base) => url.relative_to(base, rest),
                None => url.with_path(rest),
            };
        };
        if let Some(authority) = after.strip_prefix(is_slash) {
            let end = authority.find(['/', '\\', '?', '#']).unwrap_or(authority.len());
            let (host, path) = authority.split_at(end);
            if is_drive_letter(host) {
                return url.with_path(authority);
            }
            if !host.is_empty() {
                let host = Host::parse(host).ok()?.to_string();
                url.host = if host == "localhost" { String::new() } else { host };
            }
            return url.with_path(path);
        }
        if let Some(base) = base {
            url.host = base.host;
            if !starts_with_drive_letter(after) {
                url.path.extend(base.path.into_iter().next().filter(|first| is_drive_letter(first)));
            }
        }
        url.with_path(rest)
    }

    fn relative_to(mut self, base: FileUrl, rest: &str) -> Option<FileUrl> {
        (self.host, self.path) = (base.host, base.path);
        match rest.chars().next() {
            None => self.query = base.query,
            Some('?') => {}
            Some('#') => {
                self.query = base.query;
                self.fragment = encoded("#", &rest[1..])?.fragment().map(str::to_owned);
                return Some(self);
            }
            Some(_) if starts_with_drive_letter(rest) => self.path.clear(),
            Some(_) => self.shorten(),
        }
        if rest.is_empty() || rest.starts_with('?') { self.with_query(rest) } else { self.with_path(rest) }
    }

    /// "path start state" and what follows.
    fn with_path(mut self, rest: &str) -> Option<FileUrl> {
        let end = rest.find(['?', '#']).unwrap_or(rest.len());
        self.push_segments(&rest[..end])?;
        self.with_query(&rest[end..])
    }

    fn push_segments(&mut self, path: &str) -> Option<()> {
        let path = path.strip_prefix(is_slash).unwrap_or(path);
        let mut segments = path.split(is_slash).peekable();
        while let Some(segment) = segments.next() {
            let last = segments.peek().is_none();
            let dots = segment.to_ascii_lowercase().replace("%2e", ".");
            if dots == ".." {
                self.shorten();
            }
            if dots == "." || dots == ".." {
                if last {
                    self.path.push(String::new());
                }
            } else if self.path.is_empty() && is_drive_letter(segment) {
                self.path.push(format!("{}:", &segment[..1]));
            } else {
                self.path.push(encoded("", segment)?.path()[1..].to_owned());
            }
        }
        Some(())
    }

    fn with_query(mut self, rest: &str) -> Option<FileUrl> {
        let url = encoded("", rest)?;
        if rest.starts_with('?') {
            self.query = url.query().map(str::to_owned);
        }
        self.fragment = url.fragment().map(str::to_owned);
        Some(self)
    }

    /// Takes off the last segment, but no drive letter.
    fn shorten(&mut self) {
        if !(self.path.len() == 1 && is_drive_letter(&self.path[0])) {
            self.path.pop();
        }
    }

    /// With another path (the setter of `pathname`).
    pub(super) fn set_path(&mut self, path: &str) -> Option<()> {
        self.path.clear();
        // No query begins here.
        let path: String = path.chars().filter(|c| !matches!(c, '\t' | '\n' | '\r')).collect();
        self.push_segments(&path.replace('?', "%3F").replace('#', "%23"))
    }

    /// The URL, and the ends of its scheme, host, path and query.
    pub(super) fn serialize(&self) -> (String, [usize; 4]) {
        let mut href = format!("file://{}", self.host);
        let host_end = href.len();
        for segment in &self.path {
            href.push('/');
            href.push_str(segment);
        }
        let path_end = href.len();
        if let Some(query) = &self.query {
            href.push('?');
            href.push_str(query);
        }
        let query_end = href.len();
        if let Some(fragment) = &self.fragment {
            href.push('#');
            href.push_str(fragment);
        }
        (href, ["file:".len(), host_end, path_end, query_end])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(input: &str, base: Option<&str>, expect: &str) {
        match parse(input, base) {
            Parsed::File(url) => assert_eq!(url.serialize().0, expect, "{input} against {base:?}"),
            _ => assert_eq!(expect, "none", "{input} against {base:?}"),
        }
    }

    #[test]
    fn files() {
        check("file:///a/./b/../c?q#f", None, "file:///a/c?q#f");
        check(" FILE:////x ", None, "file:////x");
        check("file://localhost/C|/..", None, "file:///C:/");
        check("file://h/C:/", None, "file://h/C:/");
        check("..", Some("file://h/a/b/c"), "file://h/a/");
        check("?q", Some("file:///a/b?x#y"), "file:///a/b?q");
        check("#f", Some("file:///a/b?x#y"), "file:///a/b?x#f");
        check("", Some("file:///a/b?x#y"), "file:///a/b?x");
        check("C|/x", Some("file:///D:/y"), "file:///C:/x");
        check("/x", Some("file:///D:/y"), "file:///D:/x");
        check("file://a b/", None, "none");
        check("x", Some("http://h/"), "none");
    }
}
