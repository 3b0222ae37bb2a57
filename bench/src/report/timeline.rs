//! A plot of values over time, as one SVG in the style of [`super::plot`]: both axes linear and from zero.
//!
//! *Bounds:* [`SERIES_MAX`](super::plot::SERIES_MAX) curves of at most [`POINTS_MAX`] points, each the largest value of its part
//! of the time.

use std::fmt::Write;

use super::plot::{BOTTOM, HEIGHT, LEFT, RIGHT, SERIES_MAX, STYLE, TOP, WIDTH, draw_legend, escape, push};

const POINTS_MAX: usize = 800;
/// Lines of the grid in each direction, about.
const GRID: f64 = 6.0;

/// One curve.
pub struct Series {
    /// Its name in the legend.
    pub label: String,
    /// Time and value, in the order of time.
    pub points: Vec<(f64, f64)>,
}

/// Draws the plot. Series without points are left out, as are those past the last colour.
pub fn draw(title: &str, time_unit: &str, value_unit: &str, series: &[Series]) -> String {
    let series: Vec<&Series> = series.iter().filter(|one| !one.points.is_empty()).take(SERIES_MAX).collect();
    let most = |value: fn(&(f64, f64)) -> f64| {
        let values = series.iter().flat_map(|one| &one.points).map(value).filter(|value| value.is_finite());
        values.fold(0.0, f64::max)
    };
    let (time_step, value_step) = (step(most(|point| point.0)), step(most(|point| point.1)));
    let time_max = (most(|point| point.0) / time_step).ceil().max(1.0) * time_step;
    let value_max = (most(|point| point.1) / value_step).ceil().max(1.0) * value_step;
    let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
    let x = |time: f64| LEFT + (right - LEFT) * (time / time_max).clamp(0.0, 1.0);
    let y = |value: f64| bottom - (bottom - TOP) * (value / value_max).clamp(0.0, 1.0);

    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" \
         role=\"img\" aria-label=\"{title}\">\n<style>{STYLE}</style>\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" class=\"ground\"/>\n\
         <text class=\"title\" x=\"{LEFT}\" y=\"26\">{title}</text>\n",
        title = escape(title)
    );
    for line in 0..=(value_max / value_step).round() as u32 {
        let value = f64::from(line) * value_step;
        let (at, text) = (y(value), y(value) + 4.0);
        push(
            &mut svg,
            format_args!("<line class=\"grid\" x1=\"{LEFT}\" y1=\"{at:.1}\" x2=\"{right}\" y2=\"{at:.1}\"/>"),
        );
        let left = LEFT - 8.0;
        push(&mut svg, format_args!("<text class=\"end\" x=\"{left}\" y=\"{text:.1}\">{}</text>", number(value)));
    }
    for line in 0..=(time_max / time_step).round() as u32 {
        let time = f64::from(line) * time_step;
        let (at, text) = (x(time), bottom + 18.0);
        push(
            &mut svg,
            format_args!("<line class=\"grid\" x1=\"{at:.1}\" y1=\"{TOP}\" x2=\"{at:.1}\" y2=\"{bottom}\"/>"),
        );
        push(&mut svg, format_args!("<text class=\"middle\" x=\"{at:.1}\" y=\"{text}\">{}</text>", number(time)));
    }
    let (middle, low, high, left) = ((LEFT + right) / 2.0, HEIGHT - 12.0, TOP - 14.0, LEFT - 8.0);
    push(&mut svg, format_args!("<text class=\"middle\" x=\"{middle}\" y=\"{low}\">{}</text>", escape(time_unit)));
    push(&mut svg, format_args!("<text class=\"end\" x=\"{left}\" y=\"{high}\">{}</text>", escape(value_unit)));
    for (index, one) in series.iter().enumerate() {
        draw_legend(&mut svg, index, &one.label);
        let mut line = String::new();
        for part in one.points.chunks(one.points.len().div_ceil(POINTS_MAX)) {
            let value = part.iter().map(|point| point.1).fold(0.0, f64::max);
            write!(line, "{:.1},{:.1} ", x(part[0].0), y(value)).expect("writing to a string");
        }
        push(&mut svg, format_args!("<polyline class=\"curve c{index}\" points=\"{}\"/>", line.trim_end()));
    }
    svg.push_str("</svg>\n");
    svg
}

/// A round distance between lines of the grid: 1, 2 or 5 times a power of ten.
fn step(most: f64) -> f64 {
    if most <= 0.0 {
        return 1.0;
    }
    let raw = most / GRID;
    let power = 10f64.powf(raw.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|digit| digit * power).find(|step| *step >= raw).unwrap_or(raw)
}

fn number(value: f64) -> String {
    if value == value.round() { format!("{value:.0}") } else { format!("{value:.2}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(all: &[&[(f64, f64)]], curves: usize) {
        let series: Vec<Series> =
            all.iter().map(|points| Series { label: "<&>".to_owned(), points: points.to_vec() }).collect();
        let svg = draw("</svg>\u{1}", "minutes", "MB", &series);
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
            assert!(points.len() <= POINTS_MAX);
            let inside = |&(x, y): &(f64, f64)| (LEFT..=WIDTH).contains(&x) && (TOP..=HEIGHT).contains(&y);
            assert!(points.iter().all(inside), "{points:?}");
            assert!(points.windows(2).all(|pair| pair[0].0 <= pair[1].0), "time goes on");
        }
    }

    #[test]
    fn is_well_formed_and_inside_whatever_the_numbers() {
        check(&[&[(0.0, 100.0), (60.0, 120.0)], &[(0.0, 1.0)]], 2);
        check(&[&[], &[(0.0, 0.0)]], 1);
        check(&[], 0);
        check(&[&[(0.0, f64::NAN), (1e-9, 1e12)]], 1);
        let many: Vec<(f64, f64)> = (0..10_000).map(|at| (f64::from(at), f64::from(at % 7))).collect();
        check(&[&many], 1);
    }

    #[test]
    fn steps_are_round() {
        assert_eq!([step(60.0), step(59.0), step(7.0), step(0.7), step(0.0)], [10.0, 10.0, 2.0, 0.2, 1.0]);
    }
}
