//! `_headers` and `_redirects` of an `assets` folder, by Cloudflare's rules: what they say, and what is wrong with them.
//!
//! Each file is read line by line; a bad line is left out and reported with its number, as wrangler does, and the rest is in force. Patterns
//! become regular expressions here, so that what runs (`assets.js`) only matches: `*` is the group `splat`, `:name` a group of that name.
//! *Bounds:* Cloudflare's: [`HEADER_RULES_MAX`], [`STATIC_REDIRECTS_MAX`], [`DYNAMIC_REDIRECTS_MAX`], and the lengths of lines.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

/// Rules of `_headers`.
const HEADER_RULES_MAX: usize = 100;
/// A line of `_headers`, characters.
const HEADER_LINE_MAX: usize = 2000;
/// Redirects of paths without splats and placeholders, before the first that has one.
const STATIC_REDIRECTS_MAX: usize = 2000;
/// All other redirects.
const DYNAMIC_REDIRECTS_MAX: usize = 100;
/// A line of `_redirects`, characters.
const REDIRECT_LINE_MAX: usize = 1000;
/// Bad lines that are reported one by one.
const PROBLEMS_MAX: usize = 20;

/// What a file says.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Rules {
    /// As `assets.js` takes it.
    pub(super) value: Value,
    /// What is wrong: the line's number and text.
    problems: Vec<(usize, String)>,
}

impl Rules {
    /// A warning for each bad line.
    pub(super) fn warnings(&self, file: &str) -> impl Iterator<Item = String> {
        let rest = self.problems.len().saturating_sub(PROBLEMS_MAX);
        let more = (rest > 0).then(|| format!("{file}: and {rest} more"));
        let problems = self.problems.iter().take(PROBLEMS_MAX);
        problems.map(|(line, text)| format!("{file}:{line}: {text}")).chain(more).collect::<Vec<_>>().into_iter()
    }
}

/// Lines that say something, with their numbers.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let numbered = text.lines().enumerate().map(|(at, line)| (at + 1, line.trim()));
    numbered.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}

/// One rule of `_headers`.
#[derive(Default)]
struct HeaderRule {
    line: usize,
    absolute: bool,
    pattern: String,
    /// Names in lower case, in order.
    set: Vec<(String, String)>,
    unset: Vec<String>,
}

/// Reads `_headers`: `[absolute, pattern, [[name, value]], [name]]` for each rule.
pub(super) fn headers(text: &str) -> Rules {
    let mut found = Rules::default();
    let mut rules: Vec<HeaderRule> = Vec::new();
    // A rule's own lines are passed over where its path is bad.
    let mut open = false;
    let mut bad = false;
    for (number, line) in lines(text) {
        let mut problem = |text: &str| found.problems.push((number, format!("{text}: {line}")));
        if line.chars().count() > HEADER_LINE_MAX {
            found.problems.push((number, format!("the line is longer than {HEADER_LINE_MAX} characters")));
        } else if is_place(line) {
            (open, bad) = (false, true);
            if rules.len() == HEADER_RULES_MAX {
                problem(&format!("more than {HEADER_RULES_MAX} rules; this one and all below it are left out"));
                break;
            }
            match place(line, false) {
                Ok((absolute, path)) => match expression(&path) {
                    Ok(pattern) => {
                        rules.push(HeaderRule { line: number, absolute, pattern, ..HeaderRule::default() });
                        (open, bad) = (true, false);
                    }
                    Err(text) => problem(text),
                },
                Err(text) => problem(text),
            }
        } else if let (true, Some(rule)) = (open, rules.last_mut()) {
            if let Err(text) = header_line(rule, line) {
                problem(text);
            }
        } else if !bad {
            problem("a path, which begins with a slash, comes before its headers");
        }
    }
    for rule in rules.iter().filter(|rule| rule.set.is_empty() && rule.unset.is_empty()) {
        found.problems.push((rule.line, "the rule has no headers".to_owned()));
    }
    found.problems.sort();
    rules.retain(|rule| !rule.set.is_empty() || !rule.unset.is_empty());
    let rules = rules.into_iter().map(|rule| json!([rule.absolute, rule.pattern, rule.set, rule.unset]));
    found.value = Value::Array(rules.collect());
    found
}

/// Whether a line of `_headers` begins a rule.
fn is_place(line: &str) -> bool {
    let scheme =
        line.split_once("://").is_some_and(|(scheme, _)| !scheme.is_empty() && !scheme.contains(char::is_whitespace));
    line.starts_with('/') || scheme
}

fn header_line(rule: &mut HeaderRule, line: &str) -> Result<(), &'static str> {
    let Some((name, value)) = line.split_once(':') else {
        let name = line.strip_prefix("! ").ok_or("no header: one is `Name: value`, or `! Name` to take one away")?;
        rule.unset.push(token(name.trim())?);
        return Ok(());
    };
    let (name, value) = (token(name.trim())?, value.trim());
    if value.is_empty() {
        return Err("the header has no value");
    }
    if value.chars().any(|it| it.is_control() && it != '\t') || value.chars().any(|it| u32::from(it) > 0xff) {
        return Err("the header's value has a character that no header may have");
    }
    match rule.set.iter_mut().find(|(other, _)| *other == name) {
        Some((_, values)) => *values = format!("{values}, {value}"),
        None => rule.set.push((name, value.to_owned())),
    }
    Ok(())
}

/// A field's name (RFC 9110 section 5.1), in lower case.
fn token(name: &str) -> Result<String, &'static str> {
    match name {
        "" => Err("the header has no name"),
        _ if name.contains(char::is_whitespace) => Err("a header's name has no spaces"),
        _ if name.bytes().all(|it| it.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&it)) => {
            Ok(name.to_ascii_lowercase())
        }
        _ => Err("no name of a header"),
    }
}

/// Reads `_redirects`: `{paths: {from: [to, status]}, rules: [[pattern, to, status]]}`. `html`: pages have places of their own.
pub(super) fn redirects(text: &str, html: bool) -> Rules {
    let mut found = Rules::default();
    let (mut paths, mut rules) = (Map::new(), Vec::new());
    let mut seen = BTreeSet::new();
    let mut dynamic = false;
    for (number, line) in lines(text) {
        let mut problem = |text: &str| found.problems.push((number, format!("{text}: {line}")));
        if line.chars().count() > REDIRECT_LINE_MAX {
            found.problems.push((number, format!("the line is longer than {REDIRECT_LINE_MAX} characters")));
            continue;
        }
        let Redirect { from, to, status } = match redirect(line, html) {
            Ok(redirect) => redirect,
            Err(text) => {
                problem(text);
                continue;
            }
        };
        if !seen.insert(from.clone()) {
            problem("an earlier rule has the same path");
            continue;
        }
        let pattern = match expression(&from) {
            Ok(pattern) => pattern,
            Err(text) => {
                problem(text);
                continue;
            }
        };
        dynamic |= pattern.contains("(?<");
        if !dynamic && paths.len() < STATIC_REDIRECTS_MAX {
            paths.insert(from, json!([to, status]));
        } else if !dynamic {
            problem(&format!("more than {STATIC_REDIRECTS_MAX} redirects of paths without `*` and `:name`"));
        } else if rules.len() < DYNAMIC_REDIRECTS_MAX {
            rules.push(json!([pattern, to, status]));
        } else {
            let text = "redirects from the first one with `*` or `:name` on; this one and all below it are left out";
            problem(&format!("more than {DYNAMIC_REDIRECTS_MAX} {text}"));
            break;
        }
    }
    found.value = json!({ "paths": paths, "rules": rules });
    found
}

struct Redirect {
    from: String,
    to: String,
    status: u16,
}

fn redirect(line: &str, html: bool) -> Result<Redirect, &'static str> {
    let tokens: Vec<&str> = line.split_whitespace().collect();
    let comment = tokens.iter().skip(2).position(|token| token.starts_with('#')).map_or(tokens.len(), |at| at + 2);
    let (from, to, status) = match tokens[..comment] {
        [from, to] => (from, to, "302"),
        [from, to, status] => (from, to, status),
        _ => return Err("a redirect is a path, a destination and perhaps a status"),
    };
    if from.contains("://") {
        return Err("a redirect is from a path of the site, not from a URL");
    }
    let from = path_of(&if from.starts_with('/') { from.to_owned() } else { format!("/{from}") }, false);
    let (absolute, to) = place(to, true)?;
    let status = match status {
        "200" if absolute => return Err("only a path of the site can be answered with 200"),
        "200" | "301" | "302" | "303" | "307" | "308" => status.parse().map_err(|_| "no status")?,
        _ => return Err("the status is one of 200, 301, 302, 303, 307 and 308"),
    };
    let index = !absolute && (to.ends_with("/index") || to.ends_with("/index.html"));
    if index && (from.ends_with("/*") || (html && from.ends_with('/'))) {
        return Err("the redirect would lead back to itself for ever, as `/index.html` is at `/`");
    }
    Ok(Redirect { from, to, status })
}

/// A path, or a URL of `https:` (`true`), in the form that requests have it.
fn place(text: &str, destination: bool) -> Result<(bool, String), &'static str> {
    if let Some(rest) = text.strip_prefix("https://") {
        let rest = rest.trim_start_matches('/');
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let port = host
            .rsplit_once(':')
            .is_some_and(|(_, port)| !port.is_empty() && port.bytes().all(|it| it.is_ascii_digit()));
        return match host {
            "" => Err("the URL has no host"),
            _ if port && !destination => Err("a rule has no port: it is for all of them"),
            _ => {
                Ok((true, format!("https://{host}{}", path_of(if path.is_empty() { "/" } else { path }, destination))))
            }
        };
    }
    if !text.starts_with('/') {
        return Err("neither a path, which begins with a slash, nor a URL that begins with https://");
    }
    Ok((false, path_of(text, destination)))
}

/// A path as URLs have it: `.` and `..` resolved, what URLs encode encoded; with query and fragment where they are wanted.
fn path_of(text: &str, with_rest: bool) -> String {
    let (path, rest) = text.split_at(text.find(['?', '#']).unwrap_or(text.len()));
    let mut segments: Vec<String> = Vec::new();
    let all: Vec<&str> = path.split('/').skip(1).collect();
    for (at, segment) in all.iter().enumerate() {
        let last = at + 1 == all.len();
        match segment.to_ascii_lowercase().replace("%2e", ".").as_str() {
            "." if last => segments.push(String::new()),
            "." => {}
            ".." => {
                segments.pop();
                if last {
                    segments.push(String::new());
                }
            }
            _ => segments.push(encoded(segment, b" \"#<>?^`{}")),
        }
    }
    let path = format!("/{}", segments.join("/"));
    if with_rest { path + &encoded(rest, b" \"<>") } else { path }
}

fn encoded(text: &str, also: &[u8]) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if (0x21..0x7f).contains(&byte) && !also.contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// The regular expression of a path or URL with splats and placeholders.
fn expression(rule: &str) -> Result<String, &'static str> {
    let mut names = BTreeSet::new();
    let mut out = String::from("^");
    let host_end = rule.strip_prefix("https://").map(|rest| 8 + rest.find('/').unwrap_or(rest.len())).unwrap_or(0);
    let mut rest = rule;
    while let Some(next) = rest.chars().next() {
        let at = rule.len() - rest.len();
        rest = &rest[next.len_utf8()..];
        if next == '*' {
            if !names.insert("splat") {
                return Err("a path has one `*` at most");
            }
            out.push_str("(?<splat>.*)");
        } else if next == ':' && rest.starts_with(|it: char| it.is_ascii_alphabetic()) {
            let end = rest.find(|it: char| !it.is_ascii_alphanumeric() && it != '_').unwrap_or(rest.len());
            let (name, after) = rest.split_at(end);
            if !names.insert(name) {
                return Err("a path has each `:name` once");
            }
            out.push_str(&format!("(?<{name}>[^/{}]+)", if at < host_end { "." } else { "" }));
            rest = after;
        } else {
            if "-/\\^$*+?.()|[]{}".contains(next) {
                out.push('\\');
            }
            out.push(next);
        }
    }
    out.push('$');
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `expect`: what is wrong, as `line: text` by its beginning.
    #[track_caller]
    fn check(rules: &Rules, value: Value, expect: &[(usize, &str)]) {
        assert_eq!(rules.value, value);
        assert_eq!(rules.problems.len(), expect.len(), "{:?}", rules.problems);
        for ((line, text), (expect_line, expect)) in rules.problems.iter().zip(expect) {
            assert!(line == expect_line && text.starts_with(expect), "{line}: {text} is not {expect_line}: {expect}");
        }
    }

    #[test]
    fn headers_are_rules_of_paths_and_hosts() {
        let text = "# all\n/*\n  X-Frame-Options: DENY\n  x-frame-options: sameorigin\n  ! ETag\n\n/static/:file\r\n\tCache-Control: max-age=1\r\n\
                    https://:sub.example.com/*\n  Link: <https://:sub.x/>; rel=a:b\n/sp ace/ü\n  A: b\n";
        check(
            &headers(text),
            json!([
                [false, "^\\/(?<splat>.*)$", [["x-frame-options", "DENY, sameorigin"]], ["etag"]],
                [false, "^\\/static\\/(?<file>[^/]+)$", [["cache-control", "max-age=1"]], []],
                [
                    true,
                    "^https:\\/\\/(?<sub>[^/.]+)\\.example\\.com\\/(?<splat>.*)$",
                    [["link", "<https://:sub.x/>; rel=a:b"]],
                    []
                ],
                [false, "^\\/sp%20ace\\/%C3%BC$", [["a", "b"]], []],
            ]),
            &[],
        );
        check(&headers(""), json!([]), &[]);
    }

    #[test]
    fn bad_lines_of_headers_are_named_and_left_out() {
        let long = "x".repeat(2000);
        let text = format!(
            "A: b\n/one\n/two\n  A b: c\n  : c\n  A:\n  nonsense\n  !A\n  ! A B\n  A\u{1}: b\n  B: \u{7f}\n  C: \u{100}\n  Ok: 1\n\
             http://x/\n  A: b\nhttps://x:80/\n/*/*\n/:a/:a\n/:splat/*\nhttps:///x\n  Long: {long}\n"
        );
        check(
            &headers(&text),
            json!([[false, "^\\/two$", [["ok", "1"]], []]]),
            &[
                (1, "a path, which begins with a slash, comes before"),
                (2, "the rule has no headers"),
                (4, "a header's name has no spaces"),
                (5, "the header has no name"),
                (6, "the header has no value"),
                (7, "no header"),
                (8, "no header"),
                (9, "a header's name has no spaces"),
                (10, "no name of a header"),
                (11, "the header's value has a character"),
                (12, "the header's value has a character"),
                (14, "neither a path"),
                (16, "a rule has no port"),
                (17, "a path has one `*`"),
                (18, "a path has each"),
                (19, "a path has one `*`"),
                (20, "the rule has no headers"),
                (21, "the line is longer than 2000"),
            ],
        );
        let many: String = (0..102).map(|at| format!("/{at}\n  A: b\n")).collect();
        let rules = headers(&many);
        assert_eq!(rules.value.as_array().map(Vec::len), Some(100));
        assert_eq!(rules.problems.len(), 1, "{:?}", rules.problems);
        assert_eq!(rules.problems[0].0, 201);
    }

    #[test]
    fn redirects_are_paths_first_and_patterns_after() {
        let text = "/a /b\n/c https://x.example/y?z#w 301 # moved\nd /e 308\n/a#frag /ignored 307\n/blog/* /news/:splat 302\n/late /static 303\n/u/:id/:id_2 /user?id=:id&x=:id_2 200\n/é /ü#ö\n/x/../y/./z /q";
        check(
            &redirects(text, true),
            json!({
                "paths": {"/a": ["/b", 302], "/c": ["https://x.example/y?z#w", 301], "/d": ["/e", 308]},
                "rules": [
                    ["^\\/blog\\/(?<splat>.*)$", "/news/:splat", 302],
                    ["^\\/late$", "/static", 303],
                    ["^\\/u\\/(?<id>[^/]+)\\/(?<id_2>[^/]+)$", "/user?id=:id&x=:id_2", 200],
                    ["^\\/%C3%A9$", "/%C3%BC#%C3%B6", 302],
                    ["^\\/y\\/z$", "/q", 302],
                ],
            }),
            &[(4, "an earlier rule has the same path")],
        );
    }

    #[test]
    fn bad_lines_of_redirects_are_named_and_left_out() {
        let text = format!(
            "/one\n/a /b 302 x\n/a /b 404\n/a http://b/\n/a b\nhttps://a/ /b\n/a https://b/ 200\n/* /index.html\n/ /index\n/*/* /b\n/ok /fine\n/{} /b\n/a /b two",
            "x".repeat(1000)
        );
        check(
            &redirects(&text, true),
            json!({"paths": {"/ok": ["/fine", 302]}, "rules": []}),
            &[
                (1, "a redirect is a path"),
                (2, "a redirect is a path"),
                (3, "the status is one of"),
                (4, "neither a path"),
                (5, "neither a path"),
                (6, "a redirect is from a path"),
                (7, "only a path of the site"),
                (8, "the redirect would lead back"),
                (9, "the redirect would lead back"),
                (10, "a path has one `*`"),
                (12, "the line is longer than 1000"),
                (13, "the status is one of"),
            ],
        );
        assert!(redirects("/ /index.html", false).problems.is_empty(), "pages are files where they are no places");
        let many: String =
            (0..2003).map(|at| format!("/{at} /x\n")).chain((0..103).map(|at| format!("/{at}/* /x\n"))).collect();
        let rules = redirects(&many, true);
        assert_eq!(rules.value["paths"].as_object().map(Map::len), Some(2000));
        assert_eq!(rules.value["rules"].as_array().map(Vec::len), Some(100));
        assert_eq!(rules.problems.iter().map(|it| it.0).collect::<Vec<_>>(), [2001, 2002, 2003, 2104]);
        let wrong = "/\n".repeat(30);
        let warnings: Vec<String> = redirects(&wrong, true).warnings("public/_redirects").collect();
        assert_eq!(warnings.len(), PROBLEMS_MAX + 1);
        assert!(warnings[1].starts_with("public/_redirects:2: ") && warnings[PROBLEMS_MAX].ends_with("and 10 more"));
    }
}
