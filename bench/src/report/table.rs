//! Tables of text: the first column to the left, numbers to the right.

use std::fmt::Write;

use super::RunReport;

/// Rows under a heading, as aligned text with a trailing newline.
pub fn render(heading: &[&str], rows: &[Vec<String>]) -> String {
    let columns = heading.len();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([heading[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    let mut line = |cells: &mut dyn Iterator<Item = &str>| {
        for (column, cell) in cells.take(columns).enumerate() {
            let pad = " ".repeat(widths[column] - cell.chars().count());
            let gap = if column == 0 { "" } else { "  " };
            let (before, after) = if column == 0 { ("", pad.as_str()) } else { (pad.as_str(), "") };
            write!(text, "{gap}{before}{cell}{after}").expect("writing to a string");
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    };
    line(&mut heading.iter().copied());
    for row in rows {
        line(&mut row.iter().map(String::as_str));
    }
    text
}

/// A duration given in microseconds, in three digits and the unit that suits it.
pub fn micros(value: f64) -> String {
    match value {
        v if v < 10.0 => format!("{v:.2} µs"),
        v if v < 100.0 => format!("{v:.1} µs"),
        v if v < 1e3 => format!("{v:.0} µs"),
        v if v < 1e4 => format!("{:.2} ms", v / 1e3),
        v if v < 1e5 => format!("{:.1} ms", v / 1e3),
        v if v < 1e6 => format!("{:.0} ms", v / 1e3),
        v => format!("{:.2} s", v / 1e6),
    }
}

/// A count or rate with thin groups of three: `12 345`.
pub fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits.as_str()), |rest| ("-", rest));
    let mut out = sign.to_owned();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            out.push(' ');
        }
        out.push(digit);
    }
    out
}

/// Runs as a table.
pub fn runs(reports: &[RunReport]) -> String {
    let heading = ["run", "asked/s", "got/s", "errors", "p50", "p90", "p99", "p99.9", "max", "backlog"];
    let rows: Vec<Vec<String>> = reports
        .iter()
        .map(|run| {
            let latency = &run.latency_us;
            vec![
                run.name.clone(),
                run.rate_target.map_or("-".to_owned(), grouped),
                grouped(run.rate),
                run.errors.values().sum::<u64>().to_string(),
                micros(latency.p50),
                micros(latency.p90),
                micros(latency.p99),
                micros(latency.p99_9),
                micros(latency.max),
                run.backlog_max.to_string(),
            ]
        })
        .collect();
    let mut text = render(&heading, &rows);
    for run in reports.iter().filter(|run| !run.error_samples.is_empty()) {
        writeln!(text, "{}: {}", run.name, run.error_samples.join("; ")).expect("writing to a string");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aligns() {
        let text =
            render(&["a", "count"], &[vec!["long name".into(), "1".into()], vec!["b".into(), "12 345 µs".into()]]);
        assert_eq!(text, "a              count\nlong name          1\nb          12 345 µs\n");
    }

    #[test]
    fn units_and_groups() {
        let shown: Vec<_> = [0.5, 12.34, 999.4, 1_234.0, 99_900.0, 500_000.0, 2e6].into_iter().map(micros).collect();
        assert_eq!(shown, ["0.50 µs", "12.3 µs", "999 µs", "1.23 ms", "99.9 ms", "500 ms", "2.00 s"]);
        assert_eq!(
            [grouped(0.0), grouped(999.0), grouped(1_234_567.0), grouped(-1_000.0)],
            ["0", "999", "1 234 567", "-1 000"]
        );
    }
}
