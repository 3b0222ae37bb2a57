//! A latency plot as one SVG without script or outside parts: quantile against latency, both logarithmic.
//!
//! The x axis counts nines (90 %, 99 %, 99.9 %, …), so that the tail has as much room as the middle. Colours follow
//! the viewer's light or dark scheme.
//! *Bounds:* [`SERIES_MAX`] curves of at most [`NINES_MAX`] × [`POINTS_PER_NINE`] points.

use std::fmt::Write;

use hdrhistogram::Histogram;

use super::table::micros;

/// Curves of one plot; there are as many colours.
pub const SERIES_MAX: usize = 6;
/// 99.9999 %.
const NINES_MAX: f64 = 6.0;
const POINTS_PER_NINE: usize = 40;

pub(super) const WIDTH: f64 = 820.0;
pub(super) const HEIGHT: f64 = 460.0;
pub(super) const LEFT: f64 = 72.0;
pub(super) const RIGHT: f64 = 24.0;
pub(super) const TOP: f64 = 76.0;
pub(super) const BOTTOM: f64 = 52.0;
/// Width of one entry of the legend.
const LEGEND_STEP: f64 = (WIDTH - LEFT - RIGHT) / 4.0;

/// Classes rather than custom properties: viewers outside browsers know only the former.
pub(super) const STYLE: &str = "\
text{font:12px system-ui,sans-serif;fill:#59636e}.title{font-size:15px;font-weight:600;fill:#1f2328}\
.ground{fill:#fff}.grid{stroke:#d8dee4;stroke-width:1}.end{text-anchor:end}.middle{text-anchor:middle}\
.curve{fill:none;stroke-width:2;stroke-linejoin:round}\
.c0{stroke:#0969da}.c1{stroke:#cf222e}.c2{stroke:#1a7f37}.c3{stroke:#8250df}.c4{stroke:#9a6700}.c5{stroke:#57606a}\
@media (prefers-color-scheme:dark){text{fill:#9198a1}.title{fill:#f0f6fc}.ground{fill:#0d1117}.grid{stroke:#2f353d}\
.c0{stroke:#4493f8}.c1{stroke:#ff7b72}.c2{stroke:#3fb950}.c3{stroke:#bc8cff}.c4{stroke:#d29922}.c5{stroke:#9198a1}}";

/// One curve.
pub struct Series<'a> {
    /// Its name in the legend.
    pub label: String,
    /// Nanoseconds.
    pub histogram: &'a Histogram<u64>,
}

/// Draws the plot. Empty histograms are left out; series past [`SERIES_MAX`] too.
pub fn latency(title: &str, series: &[Series<'_>]) -> String {
    let series: Vec<&Series<'_>> = series.iter().filter(|one| !one.histogram.is_empty()).take(SERIES_MAX).collect();
    let nines = series.iter().map(|one| nines_of(one.histogram)).fold(2.0, f64::max);
    let lows = series.iter().map(|one| one.histogram.min().max(1) as f64);
    let highs = series.iter().map(|one| one.histogram.max().max(1) as f64);
    let axes = Axes::new(nines, lows.fold(f64::INFINITY, f64::min), highs.fold(0.0, f64::max));

    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" \
         role=\"img\" aria-label=\"{title}\">\n<style>{STYLE}</style>\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" class=\"ground\"/>\n\
         <text class=\"title\" x=\"{LEFT}\" y=\"26\">{title}</text>\n",
        title = escape(title)
    );
    axes.draw(&mut svg);
    for (index, one) in series.iter().enumerate() {
        draw_legend(&mut svg, index, &one.label);
        draw_curve(&mut svg, &axes, index, one);
    }
    svg.push_str("</svg>\n");
    svg
}

/// How far to the right a curve has something to say: one sample above the last nine.
fn nines_of(histogram: &Histogram<u64>) -> f64 {
    (histogram.len().max(1) as f64).log10().clamp(0.0, NINES_MAX)
}

struct Axes {
    nines: f64,
    /// Whole decades of nanoseconds, log10.
    low: f64,
    high: f64,
}

impl Axes {
    fn new(nines: f64, low_ns: f64, high_ns: f64) -> Axes {
        let low = if low_ns.is_finite() { low_ns.log10().floor() } else { 3.0 };
        let high = if high_ns > 0.0 { high_ns.log10().ceil() } else { 6.0 };
        Axes { nines, low, high: high.max(low + 1.0) }
    }

    fn x(&self, nines: f64) -> f64 {
        LEFT + (WIDTH - LEFT - RIGHT) * nines / self.nines
    }

    fn y(&self, ns: f64) -> f64 {
        let part = (ns.max(1.0).log10() - self.low) / (self.high - self.low);
        HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * part
    }

    fn draw(&self, svg: &mut String) {
        let bottom = HEIGHT - BOTTOM;
        for decade in self.low as i32..=self.high as i32 {
            let ns = 10f64.powi(decade);
            let y = self.y(ns);
            let right = WIDTH - RIGHT;
            push(svg, format_args!("<line class=\"grid\" x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{right}\" y2=\"{y:.1}\"/>"));
            let (x, y, label) = (LEFT - 8.0, y + 4.0, decade_label(decade));
            push(svg, format_args!("<text class=\"end\" x=\"{x}\" y=\"{y:.1}\">{label}</text>"));
        }
        for nine in 0..=self.nines.floor() as i32 {
            let x = self.x(f64::from(nine));
            push(svg, format_args!("<line class=\"grid\" x1=\"{x:.1}\" y1=\"{TOP}\" x2=\"{x:.1}\" y2=\"{bottom}\"/>"));
            let (y, label) = (bottom + 18.0, quantile_label(nine));
            push(svg, format_args!("<text class=\"middle\" x=\"{x:.1}\" y=\"{y}\">{label}</text>"));
        }
        let (x, y) = ((LEFT + WIDTH - RIGHT) / 2.0, HEIGHT - 12.0);
        push(
            svg,
            format_args!("<text class=\"middle\" x=\"{x}\" y=\"{y}\">share of requests at most this slow</text>"),
        );
        push(svg, format_args!("<text class=\"end\" x=\"{}\" y=\"{}\">latency</text>", LEFT - 8.0, TOP - 14.0));
    }
}

fn decade_label(decade: i32) -> String {
    let (unit, power) = match decade {
        ..=2 => ("ns", decade),
        3..=5 => ("µs", decade - 3),
        6..=8 => ("ms", decade - 6),
        _ => ("s", decade - 9),
    };
    format!("{} {unit}", 10f64.powi(power))
}

/// 0 nines: the median is a third of the way to one.
fn quantile_label(nines: i32) -> String {
    match nines {
        0 => "0 %".to_owned(),
        1 => "90 %".to_owned(),
        2 => "99 %".to_owned(),
        more => format!("99.{} %", "9".repeat(more as usize - 2)),
    }
}

pub(super) fn draw_legend(svg: &mut String, index: usize, label: &str) {
    let x = LEFT + LEGEND_STEP * (index % 4) as f64;
    let y = 44.0 + 16.0 * (index / 4) as f64;
    let (to, text_x, text_y) = (x + 18.0, x + 24.0, y + 4.0);
    push(svg, format_args!("<line class=\"curve c{index}\" x1=\"{x:.1}\" y1=\"{y}\" x2=\"{to:.1}\" y2=\"{y}\"/>"));
    push(svg, format_args!("<text x=\"{text_x:.1}\" y=\"{text_y}\">{}</text>", escape(label)));
}

fn draw_curve(svg: &mut String, axes: &Axes, index: usize, series: &Series<'_>) {
    let last = nines_of(series.histogram);
    let steps = (last * POINTS_PER_NINE as f64).ceil().max(1.0) as usize;
    let mut points = String::new();
    for step in 0..=steps {
        let nines = last * step as f64 / steps as f64;
        let ns = series.histogram.value_at_quantile(1.0 - 10f64.powf(-nines)) as f64;
        write!(points, "{:.1},{:.1} ", axes.x(nines), axes.y(ns)).expect("writing to a string");
    }
    let p99 = micros(series.histogram.value_at_quantile(0.99) as f64 / 1e3);
    push(
        svg,
        format_args!(
            "<polyline class=\"curve c{index}\" points=\"{}\"><title>{}: p99 {p99}</title></polyline>",
            points.trim_end(),
            escape(&series.label)
        ),
    );
}

pub(super) fn push(svg: &mut String, element: std::fmt::Arguments<'_>) {
    svg.write_fmt(element).expect("writing to a string");
    svg.push('\n');
}

/// Text for an element or an attribute; control characters, which XML 1.0 cannot hold, become spaces.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            letter if letter.is_control() || matches!(letter, '\u{fffe}' | '\u{ffff}') => out.push(' '),
            letter => out.push(letter),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(values: impl IntoIterator<Item = u64>) -> Histogram<u64> {
        let mut histogram = Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("bounds");
        for value in values {
            histogram.record(value).expect("in bounds");
        }
        histogram
    }

    fn check(title: &str, all: &[(&str, Histogram<u64>)], curves: usize) {
        let series: Vec<_> =
            all.iter().map(|(label, histogram)| Series { label: (*label).to_owned(), histogram }).collect();
        let svg = latency(title, &series);
        let document = roxmltree::Document::parse(&svg).unwrap_or_else(|error| panic!("{error}\n{svg}"));
        let lines: Vec<_> = document.descendants().filter(|node| node.has_tag_name("polyline")).collect();
        assert_eq!(lines.len(), curves);
        for line in lines {
            let points: Vec<(f64, f64)> = line
                .attribute("points")
                .expect("points")
                .split(' ')
                .map(|point| point.split_once(',').expect("x,y"))
                .map(|(x, y)| (x.parse().expect("x"), y.parse().expect("y")))
                .collect();
            let inside = |&(x, y): &(f64, f64)| (LEFT - 0.1..=WIDTH).contains(&x) && (TOP - 0.1..=HEIGHT).contains(&y);
            assert!(points.iter().all(inside), "{points:?}");
            assert!(points.windows(2).all(|pair| pair[0].0 <= pair[1].0 && pair[0].1 >= pair[1].1), "latency grows");
        }
    }

    #[test]
    fn is_well_formed_whatever_the_names_and_numbers() {
        check("plain", &[("a", histogram(1_000..50_000)), ("b", histogram([70_000; 10]))], 2);
        check("<&\"'>\u{1}", &[("</svg><script>", histogram([1, 60_000_000_000]))], 1);
        check("nothing", &[], 0);
        check("empty", &[("e", histogram([])), ("one", histogram([5]))], 1);
        let many: Vec<_> = (0..9).map(|_| ("many", histogram(1..100))).collect();
        check("many", &many, SERIES_MAX);
    }
}
