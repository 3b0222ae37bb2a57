//! URLPattern (WHATWG URL Pattern) on the crate `urlpattern`: patterns become regular expressions, which V8 compiles and runs,
//! where CPU limits hold.

use base::limits::{KIB, MIB};
use isolate::{Args, OpError, OpResult, OpTable, Scope, Value};
use urlpattern::{
    UrlPatternOptions,
    quirks::{self, StringOrInit, UrlPattern, UrlPatternComponent, UrlPatternInit},
    regexp::RegExp,
};

pub(crate) fn register(ops: &mut OpTable) {
    ops.add("urlPatternParse", parse);
    ops.add("urlPatternInput", input);
}

/// Bytes of a pattern, all of its parts together: the crate looks for repeated names in a time that is the square of it.
const PATTERN_BYTES_MAX: usize = 16 * KIB;
/// Bytes of what is matched, as of a URL.
const INPUT_BYTES_MAX: usize = 2 * MIB;

/// `urlPatternParse(pattern, base, ignore_case)`: `[has_groups, then for each component: pattern, expression, names]`. A pattern
/// is a string or an array, see [`init_of`].
fn parse<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> OpResult<'s> {
    let (given, base) = input_of(cx, args)?;
    if input_bytes(&given) > PATTERN_BYTES_MAX {
        return Err(OpError::type_error(format!("Invalid URL pattern: longer than {PATTERN_BYTES_MAX} bytes")));
    }
    let options = UrlPatternOptions { ignore_case: args.flag(2), ..UrlPatternOptions::default() };
    let parsed = quirks::process_construct_pattern_input(given, base.as_deref())
        .and_then(|init| quirks::parse_pattern::<Expression>(init, options))
        .map_err(|error| OpError::type_error(format!("Invalid URL pattern: {error}")))?;
    let mut items = vec![cx.boolean(parsed.has_regexp_groups)];
    for component in components(parsed) {
        let names: Vec<Value<'s>> = component.group_name_list.iter().map(|name| cx.string(name)).collect();
        items.extend([cx.string(&component.pattern_string), cx.string(&component.regexp_string), cx.array(&names)]);
    }
    Ok(cx.array(&items))
}

/// `urlPatternInput(input, base)`: the eight components of what is to be matched; `null` if it is no URL.
fn input<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> OpResult<'s> {
    let (given, base) = input_of(cx, args)?;
    if input_bytes(&given) > INPUT_BYTES_MAX || base.as_ref().is_some_and(|base| base.len() > INPUT_BYTES_MAX) {
        return Ok(cx.null());
    }
    let processed = quirks::process_match_input(given, base.as_deref());
    let processed =
        processed.map_err(|error| OpError::type_error(format!("Invalid input of a URL pattern: {error}")))?;
    let Some(parts) = processed.and_then(|(input, _)| quirks::parse_match_input(input)) else { return Ok(cx.null()) };
    let parts = [
        parts.protocol,
        parts.username,
        parts.password,
        parts.hostname,
        parts.port,
        parts.pathname,
        parts.search,
        parts.hash,
    ];
    let items = parts.map(|part| cx.string(&part));
    Ok(cx.array(&items))
}

fn components(pattern: UrlPattern) -> [UrlPatternComponent; 8] {
    [
        pattern.protocol,
        pattern.username,
        pattern.password,
        pattern.hostname,
        pattern.port,
        pattern.pathname,
        pattern.search,
        pattern.hash,
    ]
}

/// The first two arguments: a string or an array, and a base URL or `undefined`.
fn input_of<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> Result<(StringOrInit<'static>, Option<String>), OpError> {
    let given = match args.get(0).is_string() {
        true => StringOrInit::String(args.string(cx, 0)?.into()),
        false => StringOrInit::Init(init_of(cx, args.get(0))),
    };
    let base = if args.get(1).is_undefined() { None } else { Some(args.string(cx, 1)?) };
    Ok((given, base))
}

fn input_bytes(input: &StringOrInit<'_>) -> usize {
    match input {
        StringOrInit::String(text) => text.len(),
        StringOrInit::Init(init) => {
            let parts = [
                &init.protocol,
                &init.username,
                &init.password,
                &init.hostname,
                &init.port,
                &init.pathname,
                &init.search,
                &init.hash,
                &init.base_url,
            ];
            parts.into_iter().flatten().map(String::len).sum()
        }
    }
}

/// An array of protocol, username, password, hostname, port, pathname, search, hash and base URL, each a string or `undefined`.
fn init_of<'s>(cx: &mut Scope<'s, '_>, array: Value<'s>) -> UrlPatternInit {
    let mut part = |index| cx.element(array, index).and_then(|value| cx.text(value));
    UrlPatternInit {
        protocol: part(0),
        username: part(1),
        password: part(2),
        hostname: part(3),
        port: part(4),
        pathname: part(5),
        search: part(6),
        hash: part(7),
        base_url: part(8),
    }
}

/// A regular expression of JavaScript, which V8 is to judge. Run here only to see whether a protocol is a special one.
struct Expression(String);

impl RegExp for Expression {
    fn syntax() -> urlpattern::RegexSyntax {
        urlpattern::RegexSyntax::EcmaScript
    }

    fn parse(pattern: &str, _flags: &str, _force_eval: bool) -> Result<Expression, ()> {
        // The crate writes for the flag "u"; the standard wants "v", where a class has no bare solidus.
        Ok(Expression(pattern.replace("[^/]", r"[^\/]")))
    }

    fn matches<'a>(&self, text: &'a str) -> Option<Vec<Option<&'a str>>> {
        let captures = regex::Regex::new(&self.0).ok()?.captures(text)?;
        Some(captures.iter().skip(1).map(|capture| capture.map(|found| found.as_str())).collect())
    }

    fn pattern_string(&self) -> &str {
        &self.0
    }
}
