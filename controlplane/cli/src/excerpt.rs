//! A piece of a source file with a caret under the place that is meant, as compilers print it.
//!
//! Pure. Bounds: two lines before, one after, each cut to [`WIDTH_MAX`] characters around the column, so a minified
//! bundle of one line prints as shortly as any other file.

use crate::failure::Place;

/// Characters of a source line that are shown.
const WIDTH_MAX: usize = 100;

/// The excerpt, or none if the source has no such line.
pub(crate) fn excerpt(source: &str, place: &Place) -> Option<String> {
    let line_index = (place.line as usize).checked_sub(1)?;
    let lines: Vec<&str> = source.lines().skip(line_index.saturating_sub(2)).take(4).collect();
    let meant = line_index.min(2);
    lines.get(meant)?;
    let column = (place.column as usize).saturating_sub(1);
    // All lines are cut at the same place, so that the caret's neighbours keep their indentation.
    let cut = if column >= WIDTH_MAX { column - WIDTH_MAX / 2 } else { 0 };
    let gutter = (line_index + 2).to_string().len();
    let mut out = format!("{:gutter$} ╭─ {place}\n", "");
    for (offset, line) in lines.iter().enumerate() {
        let number = line_index + 1 + offset - meant;
        let shown = window(line, cut);
        out.push_str(format!("{number:gutter$} │ {shown}").trim_end());
        out.push('\n');
        if offset == meant {
            let pad: String =
                line.chars().skip(cut).take(column - cut).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
            out.push_str(&format!("{:gutter$} │ {pad}^\n", ""));
        }
    }
    out.push_str(&format!("{:gutter$} ╰─", ""));
    Some(out)
}

fn window(line: &str, cut: usize) -> String {
    let mut rest = line.chars().skip(cut).filter(|c| !c.is_control() || *c == '\t');
    let mut shown: String = rest.by_ref().take(WIDTH_MAX).collect();
    if rest.next().is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(source: &str, line: u32, column: u32, expect: Option<&str>) {
        let place = Place { file: "w.js".into(), line, column };
        assert_eq!(excerpt(source, &place).as_deref(), expect);
    }

    #[test]
    fn caret_stands_under_the_column() {
        check(
            "a\nbc\nlet = 1;\nd\ne",
            3,
            5,
            Some("  ╭─ w.js:3:5\n1 │ a\n2 │ bc\n3 │ let = 1;\n  │     ^\n4 │ d\n  ╰─"),
        );
    }

    #[test]
    fn first_line_tabs_and_columns_past_the_end() {
        check("\tx", 1, 2, Some("  ╭─ w.js:1:2\n1 │ \tx\n  │ \t^\n  ╰─"));
        check("x", 1, 9, Some("  ╭─ w.js:1:9\n1 │ x\n  │  ^\n  ╰─"));
    }

    #[test]
    fn places_outside_the_source_give_nothing() {
        check("a", 2, 1, None);
        check("a", 0, 1, None);
        check("", 1, 1, None);
    }

    #[test]
    fn long_lines_are_cut_around_the_column() {
        let source = format!("{}!{}", "x".repeat(5_000), "y".repeat(5_000));
        let place = Place { file: "w.js".into(), line: 1, column: 5_001 };
        let text = excerpt(&source, &place).expect("a line");
        let lines: Vec<&str> = text.lines().collect();
        let caret = lines[2].chars().position(|c| c == '^').expect("a caret");
        assert_eq!(lines[1].chars().nth(caret), Some('!'));
        assert!(lines[1].chars().count() < WIDTH_MAX + 10);
    }
}
