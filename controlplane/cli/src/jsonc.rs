//! JSON with comments and trailing commas, as `wrangler.jsonc` has them, made plain JSON of the same layout.
//!
//! Pure. *Invariant:* every character that stays is where it was, so an error's line and column are the file's own. An
//! unfinished comment or string is left for the JSON parser to complain of.

/// The same text with comments and trailing commas as spaces.
pub(crate) fn to_json(text: &str) -> String {
    let mut out: Vec<char> = text.chars().collect();
    blank_comments(&mut out);
    blank_trailing_commas(&mut out);
    out.into_iter().collect()
}

fn blank_comments(chars: &mut [char]) {
    let mut at = 0;
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('"', _) => at = string_end(chars, at),
            ('/', Some('/')) => {
                let end = chars[at..].iter().position(|c| *c == '\n').map_or(chars.len(), |n| at + n);
                chars[at..end].fill(' ');
                at = end;
            }
            ('/', Some('*')) => {
                let Some(length) = chars[at + 2..].windows(2).position(|pair| pair == ['*', '/']) else { return };
                let end = at + 2 + length + 2;
                for c in &mut chars[at..end] {
                    if *c != '\n' {
                        *c = ' ';
                    }
                }
                at = end;
            }
            _ => at += 1,
        }
    }
}

fn blank_trailing_commas(chars: &mut [char]) {
    let mut comma: Option<usize> = None;
    let mut at = 0;
    while at < chars.len() {
        match chars[at] {
            '"' => {
                comma = None;
                at = string_end(chars, at);
                continue;
            }
            ',' => comma = Some(at),
            '}' | ']' => {
                if let Some(comma) = comma.take() {
                    chars[comma] = ' ';
                }
            }
            c if c.is_ascii_whitespace() => {}
            _ => comma = None,
        }
        at += 1;
    }
}

/// The index after the string that begins at `start`.
fn string_end(chars: &[char], start: usize) -> usize {
    let mut at = start + 1;
    while at < chars.len() {
        match chars[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    chars.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: &str) {
        assert_eq!(to_json(text), expect);
        assert_eq!(to_json(text).chars().count(), text.chars().count());
    }

    #[test]
    fn comments_become_spaces() {
        check("1 // a\n2", "1     \n2");
        check("1 /* ü\n */ 2", "1     \n    2");
        check("\"a // b /* \\\" */\" //c", "\"a // b /* \\\" */\"    ");
        check("/* open", "/* open");
        check("/", "/");
    }

    #[test]
    fn trailing_commas_become_spaces() {
        check("[1, 2,]", "[1, 2 ]");
        check("{\"a\": [1,], // x\n}", "{\"a\": [1 ]      \n}");
        check("[\",]\"]", "[\",]\"]");
        check("[1,,2]", "[1,,2]");
        check("\"open", "\"open");
    }
}
