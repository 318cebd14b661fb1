//! Charts as SVG text, for pages without scripts.

use burn_structured_checkpoint::PALETTE;
use std::fmt::Write;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 280.0;
/// Room for labels: left, bottom, top and right.
const MARGIN: [f64; 4] = [64.0, 40.0, 12.0, 16.0];

/// Numbers from here on are not drawn.
const LARGEST: f64 = 1e100;

/// How a series is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    Bars,
    Line,
    Points,
}

/// Points of one kind.
#[derive(Clone, Debug)]
pub(super) struct Series {
    /// Named when the pointer is on it.
    pub name: String,
    pub mark: Mark,
    /// The colour, from 0.
    pub colour: usize,
    pub points: Vec<(f64, f64)>,
    /// What each point is, for the pointer; may be shorter than the points.
    pub labels: Vec<String>,
}

/// A chart with two axes.
#[derive(Clone, Debug)]
pub(super) struct Chart<'a> {
    pub x_label: &'a str,
    pub y_label: &'a str,
    pub logarithmic: bool,
    /// Whether the vertical axis begins at 0.
    pub from_zero: bool,
    pub series: Vec<Series>,
}

/// Text for HTML and SVG.
pub(super) fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            char => safe.push(char),
        }
    }
    safe
}

impl Chart<'_> {
    /// The SVG element; empty where there is nothing to draw.
    pub fn svg(&self) -> String {
        let within = |value: f64| value.abs() < LARGEST;
        let drawn = |(x, y): &&(f64, f64)| within(*x) && within(*y) && (!self.logarithmic || *y > 1.0 / LARGEST);
        let all: Vec<(f64, f64)> =
            self.series.iter().flat_map(|series| &series.points).filter(drawn).copied().collect();
        if all.is_empty() {
            return String::new();
        }
        let scale = |y: f64| if self.logarithmic { y.log10() } else { y };
        let range = |values: &mut dyn Iterator<Item = f64>| {
            values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)))
        };
        let (mut left, mut right) = range(&mut all.iter().map(|point| point.0));
        let (mut low, mut high) = range(&mut all.iter().map(|point| scale(point.1)));
        if self.from_zero {
            low = low.min(0.0);
        }
        let pad = |low: &mut f64, high: &mut f64, share: f64, fixed: bool| {
            let room = if *high > *low { share * (*high - *low) } else { high.abs().max(1.0) * 0.5 };
            *high += room;
            if !fixed {
                *low -= room;
            }
        };
        let bars = self.series.iter().any(|series| series.mark == Mark::Bars);
        if bars {
            (left, right) = (left - 0.5, right + 0.5);
        } else {
            pad(&mut left, &mut right, 0.03, false);
        }
        let fixed = self.from_zero && low == 0.0;
        pad(&mut low, &mut high, 0.06, fixed);
        let [margin_left, margin_bottom, margin_top, margin_right] = MARGIN;
        let (width, height) = (WIDTH - margin_left - margin_right, HEIGHT - margin_bottom - margin_top);
        let at_x = |x: f64| margin_left + width * (x - left) / (right - left);
        let at_y = |y: f64| margin_top + height * (high - scale(y).clamp(low, high)) / (high - low);

        let mut svg =
            format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">", escaped(self.y_label));
        let bottom = margin_top + height;
        for tick in ticks(low, high, 5) {
            let y = margin_top + height * (high - tick) / (high - low);
            let value = if self.logarithmic { 10f64.powf(tick) } else { tick };
            let _ = write!(
                svg,
                "<path class=\"grid\" d=\"M{margin_left:.1} {y:.1}h{width:.1}\"/><text class=\"y\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                margin_left - 8.0,
                y + 4.0,
                number(value)
            );
        }
        for tick in ticks(left, right, 8) {
            let x = at_x(tick);
            let _ = write!(svg, "<text class=\"x\" x=\"{x:.1}\" y=\"{:.1}\">{}</text>", bottom + 16.0, number(tick));
        }
        let _ = write!(
            svg,
            "<path class=\"axis\" d=\"M{margin_left:.1} {bottom:.1}h{width:.1}\"/><text class=\"x\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            margin_left + width / 2.0,
            HEIGHT - 6.0,
            escaped(self.x_label)
        );
        let _ = write!(
            svg,
            "<text class=\"x\" transform=\"translate(14 {:.1}) rotate(-90)\">{}</text>",
            margin_top + height / 2.0,
            escaped(self.y_label)
        );
        for series in &self.series {
            series.draw(&mut svg, &|point| drawn(&point), &at_x, &at_y, bottom, 0.7 * width / (right - left));
        }
        svg.push_str("</svg>");
        svg
    }
}

impl Series {
    fn draw(
        &self,
        svg: &mut String,
        drawn: &dyn Fn(&(f64, f64)) -> bool,
        at_x: &dyn Fn(f64) -> f64,
        at_y: &dyn Fn(f64) -> f64,
        bottom: f64,
        bar: f64,
    ) {
        let points = self.points.iter().enumerate().filter(|(_, point)| drawn(point));
        let _ = write!(svg, "<g class=\"c{}\">", self.colour % PALETTE.len());
        if self.mark == Mark::Line {
            let path: Vec<String> = points.map(|(_, (x, y))| format!("{:.1} {:.1}", at_x(*x), at_y(*y))).collect();
            let _ = write!(
                svg,
                "<path class=\"line\" d=\"M{}\"><title>{}</title></path>",
                path.join("L"),
                escaped(&self.name)
            );
        } else {
            for (index, (x, y)) in points {
                let label = self.labels.get(index).unwrap_or(&self.name);
                let title = format!("<title>{}: {}</title>", escaped(label), number(*y));
                let (x, y) = (at_x(*x), at_y(*y));
                let _ = match self.mark {
                    Mark::Bars => write!(
                        svg,
                        "<rect x=\"{:.1}\" y=\"{y:.1}\" width=\"{bar:.1}\" height=\"{:.1}\">{title}</rect>",
                        x - bar / 2.0,
                        (bottom - y).max(0.5)
                    ),
                    _ => write!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"5\">{title}</circle>"),
                };
            }
        }
        svg.push_str("</g>");
    }
}

/// About `count` round numbers between two.
fn ticks(low: f64, high: f64, count: usize) -> Vec<f64> {
    let rough = (high - low) / count as f64;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|factor| factor * power).find(|step| *step >= rough);
    let step = step.unwrap_or(rough);
    let first = (low / step).ceil() as i64;
    // A range too narrow for its size has no round numbers.
    if !step.is_normal() || !first.checked_add(2 * count as i64).is_some_and(|last| (last as f64 * step).is_finite()) {
        return vec![low];
    }
    (first..=first + 2 * count as i64).map(|tick| tick as f64 * step).take_while(|tick| *tick <= high).collect()
}

/// A number with about three digits.
pub(super) fn number(value: f64) -> String {
    let size = value.abs();
    if size == 0.0 {
        "0".into()
    } else if (1e-3..1e5).contains(&size) {
        let digits = (2 - size.log10().floor() as i32).clamp(0, 5) as usize;
        let text = format!("{value:.digits$}");
        if digits == 0 { text } else { text.trim_end_matches('0').trim_end_matches('.').to_string() }
    } else {
        format!("{value:.1e}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_inside() {
        assert_eq!(ticks(0.0, 1.0, 5), [0.0, 0.2, 0.4, 0.6000000000000001, 0.8, 1.0]);
        assert_eq!(ticks(-3.0, 17.0, 4), [0.0, 5.0, 10.0, 15.0]);
        assert!(!ticks(1.0, 1.0, 5).is_empty());
    }

    #[test]
    fn number_has_three_digits() {
        let numbers = [0.0, 1.0, 0.25, 0.123456, 12.3456, 1234.5, 1e7, 2.5e-6, -3.5].map(number);
        assert_eq!(numbers, ["0", "1", "0.25", "0.123", "12.3", "1234", "1.0e7", "2.5e-6", "-3.5"]);
    }

    #[test]
    fn svg_survives_any_numbers_and_names() {
        let series = |mark, points| Series { name: "<&>".into(), mark, colour: 7, points, labels: Vec::new() };
        for points in [
            vec![],
            vec![(f64::NAN, 1.0)],
            vec![(1.0, 0.0)],
            vec![(0.0, 1e300), (1.0, -1e300)],
            vec![(3.0, 0.5), (4.0, f64::INFINITY), (5.0, 0.1)],
        ] {
            for logarithmic in [false, true] {
                for mark in [Mark::Bars, Mark::Line, Mark::Points] {
                    let series = vec![series(mark, points.clone())];
                    let chart = Chart { x_label: "x", y_label: "<y>", logarithmic, from_zero: !logarithmic, series };
                    let svg = chart.svg();
                    assert!(!svg.contains("NaN") && !svg.contains("inf") && !svg.contains("<y>"), "{svg}");
                    assert_eq!(svg.is_empty(), !svg.ends_with("</svg>"));
                }
            }
        }
    }
}
