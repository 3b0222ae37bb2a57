//! Source maps (ECMA-426): from a place in the deployed module to the author's.
//!
//! Pure. Reads what esbuild and other bundlers write: version 3, no sections. *Invariant:* a map that exists is whole: every segment's
//! source is there and lines and columns count from 0 within 32 bits; text that is no map is an error with its reason. Bounds:
//! [`MAP_BYTES_MAX`]. Sources' contents are never asked for.

use serde::Deserialize;

use crate::failure::Place;

/// A map, bytes.
pub(crate) const MAP_BYTES_MAX: usize = model::rules::MAP_BYTES_MAX;

/// A map.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SourceMap {
    sources: Vec<String>,
    /// Ordered by the place in the module.
    segments: Vec<Segment>,
}

/// From a place in the module on, what it was made from. All from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Segment {
    line: u32,
    column: u32,
    /// None: made by the bundler.
    origin: Option<Origin>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Origin {
    source: u32,
    line: u32,
    column: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Json {
    version: u32,
    #[serde(default)]
    source_root: Option<String>,
    sources: Vec<Option<String>>,
    mappings: String,
}

impl SourceMap {
    /// Reads a map.
    pub(crate) fn parse(bytes: &[u8]) -> Result<SourceMap, String> {
        if bytes.len() > MAP_BYTES_MAX {
            return Err(format!("it has over {MAP_BYTES_MAX} bytes"));
        }
        let json: Json = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if json.version != 3 {
            return Err(format!("version {} is not 3", json.version));
        }
        let root = json.source_root.unwrap_or_default();
        let named = |source: Option<String>| match source {
            Some(source) if root.is_empty() => source,
            Some(source) => format!("{}/{source}", root.trim_end_matches('/')),
            None => String::new(),
        };
        let sources: Vec<String> = json.sources.into_iter().map(named).collect();
        let segments =
            segments(json.mappings.as_bytes(), sources.len()).ok_or("its mappings are not what they must be")?;
        Ok(SourceMap { sources, segments })
    }

    /// The author's place of `line` and `column` of the module, both from 1.
    pub(crate) fn place(&self, line: u32, column: u32) -> Option<Place> {
        let (line, column) = (line.checked_sub(1)?, column.checked_sub(1)?);
        let after = self.segments.partition_point(|it| (it.line, it.column) <= (line, column));
        let segment = self.segments.get(after.checked_sub(1)?).filter(|it| it.line == line)?;
        let origin = segment.origin?;
        let file = self.sources.get(origin.source as usize).filter(|file| !file.is_empty())?;
        Some(Place { file: file.clone(), line: origin.line + 1, column: origin.column + 1 })
    }

    /// The text with the author's places in place of `module:LINE:COLUMN`; frames of the bundler's own code stay.
    pub(crate) fn apply(&self, text: &str, module: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        let needle = format!("{module}:");
        while let Some(at) = rest.find(&needle) {
            let (before, found) = rest.split_at(at);
            out.push_str(before);
            let after = &found[needle.len()..];
            // `my-worker.js:1:2` is another file.
            let whole = !before.ends_with(|c: char| c.is_alphanumeric() || "_-./".contains(c));
            match numbers(after)
                .filter(|_| whole)
                .and_then(|(line, column, length)| Some((self.place(line, column)?, length)))
            {
                Some((place, length)) => {
                    out.push_str(&place.to_string());
                    rest = &after[length..];
                }
                None => {
                    out.push_str(&needle);
                    rest = after;
                }
            }
        }
        out.push_str(rest);
        out
    }
}

/// `LINE:COLUMN` at the beginning, and its length.
fn numbers(text: &str) -> Option<(u32, u32, usize)> {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let first = digits(text);
    let rest = text.get(first..)?.strip_prefix(':')?;
    let second = digits(rest);
    Some((text[..first].parse().ok()?, rest[..second].parse().ok()?, first + 1 + second))
}

/// The decoded mappings, sorted; none if they are not well-formed.
fn segments(mappings: &[u8], sources: usize) -> Option<Vec<Segment>> {
    let mut segments = Vec::new();
    let (mut source, mut line, mut column) = (0i64, 0i64, 0i64);
    for (generated_line, group) in mappings.split(|byte| *byte == b';').enumerate() {
        let mut generated_column = 0i64;
        for mut fields in group.split(|byte| *byte == b',').filter(|fields| !fields.is_empty()) {
            generated_column += vlq(&mut fields)?;
            let origin = if fields.is_empty() {
                None
            } else {
                source += vlq(&mut fields)?;
                line += vlq(&mut fields)?;
                column += vlq(&mut fields)?;
                if !fields.is_empty() {
                    // The name, which is not used.
                    vlq(&mut fields)?;
                }
                let source = u32::try_from(source).ok().filter(|&source| (source as usize) < sources)?;
                // One less than all, so that counting from 1 fits too.
                let number = |number: i64| u32::try_from(number).ok().filter(|&number| number < u32::MAX);
                Some(Origin { source, line: number(line)?, column: number(column)? })
            };
            if !fields.is_empty() {
                return None;
            }
            segments.push(Segment {
                line: u32::try_from(generated_line).ok()?,
                column: u32::try_from(generated_column).ok()?,
                origin,
            });
        }
    }
    segments.sort_unstable();
    Some(segments)
}

/// One number (ECMA-426, "VLQ"), taken from the front.
fn vlq(bytes: &mut &[u8]) -> Option<i64> {
    let mut value = 0i64;
    for shift in (0..35).step_by(5) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        let digit = match first {
            b'A'..=b'Z' => first - b'A',
            b'a'..=b'z' => first - b'a' + 26,
            b'0'..=b'9' => first - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        value |= i64::from(digit & 31) << shift;
        if digit & 32 == 0 {
            return Some(if value & 1 == 1 { -(value >> 1) } else { value >> 1 });
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(mappings: &str) -> Result<SourceMap, String> {
        let json =
            serde_json::json!({"version": 3, "sources": ["src/a.ts", "b.ts"], "names": ["x"], "mappings": mappings});
        SourceMap::parse(json.to_string().as_bytes())
    }

    #[test]
    fn places_are_those_of_the_segment_before() {
        let map = map(";AAUE,Q,ICCF").expect("a map");
        let place = |line, column| map.place(line, column).map(|place| place.to_string());
        assert_eq!(place(1, 1), None);
        assert_eq!(place(2, 1).as_deref(), Some("src/a.ts:11:3"));
        assert_eq!(place(2, 8).as_deref(), Some("src/a.ts:11:3"));
        assert_eq!(place(2, 9), None, "the bundler's own");
        assert_eq!(place(2, 500).as_deref(), Some("b.ts:12:1"));
        assert_eq!(place(3, 1), None);
        assert_eq!((place(0, 1), place(2, 0)), (None, None));
        assert!(super::tests::map("AAAAA").is_ok(), "names are read over");
    }

    #[test]
    fn stacks_get_the_authors_places() {
        let map = map(";AAUE,Q,ICCF").expect("a map");
        let stack = "Error: worker.js:9 of my-worker.js:2:1\n    at f (worker.js:2:3)\n    at worker.js:2:20\n    at g (worker.js:1:1)";
        let expect = "Error: worker.js:9 of my-worker.js:2:1\n    at f (src/a.ts:11:3)\n    at b.ts:12:1\n    at g (worker.js:1:1)";
        assert_eq!(map.apply(stack, "worker.js"), expect);
        assert_eq!(map.apply("worker.js:99999999999999999999:1", "worker.js"), "worker.js:99999999999999999999:1");
        assert_eq!(map.apply("worker.js:", "worker.js"), "worker.js:");
    }

    #[test]
    fn what_is_no_map_is_refused() {
        for mappings in ["A!", "AAAAAAA", "AA", "g", "gggggggA", "AEAA", "D", "AADA", "AAAD"] {
            assert!(map(mappings).is_err(), "{mappings}");
        }
        assert!(SourceMap::parse(b"").is_err());
        assert!(SourceMap::parse(br#"{"version":2,"sources":[],"mappings":""}"#).is_err());
        assert!(SourceMap::parse(br#"{"version":3,"sections":[]}"#).is_err());
        assert_eq!(
            SourceMap::parse(br#"{"version":3,"sources":[null],"mappings":""}"#).map(|map| map.segments.len()),
            Ok(0)
        );
    }

    #[test]
    fn the_root_of_sources_is_put_before_them() {
        let map =
            SourceMap::parse(br#"{"version":3,"sourceRoot":"r/","sources":["a"],"mappings":"AAAA"}"#).expect("a map");
        assert_eq!(map.place(1, 1).map(|place| place.file).as_deref(), Some("r/a"));
    }
}
