//! The plot: a quality against a share of the dense model, labelled at the points.

use burn_structured_checkpoint::PALETTE;
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

const SIZE: (u32, u32) = (960, 560);
const FONT: i32 = 13;
/// The height of a line of text and, about, the width of a character.
const LINE: i32 = 16;
const CHARACTER: f64 = 6.4;
const DOT: i32 = 5;
/// What the horizontal axis may be labelled with, in per cent.
const TICKS: [f64; 16] = [1.0, 2.0, 3.0, 5.0, 7.5, 10.0, 15.0, 20.0, 25.0, 30.0, 40.0, 50.0, 75.0, 100.0, 150.0, 200.0];

/// Which end of the vertical axis is the good one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    /// The upper one.
    Higher,
    /// The lower one.
    Lower,
}

/// One model in the plot.
#[derive(Clone, Debug)]
pub struct Point {
    /// The share of the dense model, in per cent.
    pub x: f64,
    /// The quality.
    pub y: f64,
    /// The standard deviation of `y`, drawn as a bar, where there are several runs.
    pub deviation: Option<f64>,
    /// What it is: a structure, or `dense…` for what the others are compared with.
    pub name: String,
}

/// What is drawn.
#[derive(Clone, Debug)]
pub struct Chart<'a> {
    /// What the models were made with.
    pub title: String,
    /// What [`Point::x`] is a share of.
    pub x_label: &'a str,
    /// The quality.
    pub y_label: &'a str,
    /// Which end of the axis is good.
    pub better: Better,
    /// Whether `y` is in per cent.
    pub percent: bool,
    /// The models.
    pub points: Vec<Point>,
}

/// The label of the horizontal axis of structures that are compared by their arithmetic.
pub const FLOPS: &str = "FLOPs of the replaced linear layers, % of dense";

/// A place of text in pixels: left, top, right, bottom.
type Place = [i32; 4];

impl Chart<'_> {
    /// The plot as an SVG document.
    ///
    /// # Errors
    ///
    /// If there is nothing to draw.
    pub fn to_svg(&self) -> Result<String, String> {
        if self.points.is_empty() {
            return Err("there are no results".into());
        }
        let finite = |point: &&Point| point.x.is_finite() && point.x > 0.0 && point.y.is_finite();
        if let Some(point) = self.points.iter().find(|point| !finite(point)) {
            return Err(format!("{} has no finite result", point.name));
        }
        let mut svg = String::new();
        self.draw(SVGBackend::with_string(&mut svg, SIZE)).map_err(|error| error.to_string())?;
        Ok(svg)
    }

    fn draw<B: DrawingBackend>(&self, backend: B) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
        let area = backend.into_drawing_area();
        area.fill(&WHITE)?;
        let (lowest, highest) = self.range();
        let exponents = || self.points.iter().map(|point| point.x.log2());
        let (left, right) = (exponents().fold(f64::INFINITY, f64::min), exponents().fold(f64::NEG_INFINITY, f64::max));
        let margin = (0.08 * (right - left)).max(0.2);
        let better = if self.better == Better::Higher { "higher" } else { "lower" };
        let mut chart = ChartBuilder::on(&area)
            .caption(&self.title, ("sans-serif", 18))
            .margin(16)
            .x_label_area_size(48)
            .y_label_area_size(64)
            .build_cartesian_2d(left - margin..right + margin, lowest..highest)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .x_labels(0)
            .x_desc(self.x_label)
            .y_desc(format!("{} ({better} is better)", self.y_label))
            .light_line_style(WHITE)
            .label_style(("sans-serif", 14))
            .draw()?;
        let bottom = chart.backend_coord(&(left, lowest)).1;
        for tick in TICKS.into_iter().filter(|tick| (left - margin..right + margin).contains(&tick.log2())) {
            let x = chart.backend_coord(&(tick.log2(), lowest)).0;
            area.draw(&PathElement::new([(x, bottom), (x, bottom + 5)], BLACK))?;
            let text = tick.to_string();
            let at = (x - (CHARACTER * text.len() as f64 / 2.0) as i32, bottom + 8);
            area.draw(&Text::new(text, at, ("sans-serif", FONT)))?;
        }
        let dots: Vec<(i32, i32)> =
            self.points.iter().map(|point| chart.backend_coord(&(point.x.log2(), point.y))).collect();
        for (point, dot) in self.points.iter().zip(&dots) {
            if let Some(deviation) = point.deviation {
                let end = |y: f64| (dot.0, chart.backend_coord(&(point.x.log2(), y)).1);
                let bar = [end(point.y - deviation), end(point.y + deviation)];
                area.draw(&PathElement::new(bar, self.colour(point).stroke_width(2)))?;
            }
        }
        let (x, y) = chart.plotting_area().get_pixel_range();
        self.label(&area, &dots, [x.start, y.start, x.end, y.end])?;
        area.present()
    }

    /// Draws the dots and, at each, its value and name, where they cover no other dot and no other text.
    fn label<B: DrawingBackend>(
        &self,
        area: &DrawingArea<B, Shift>,
        dots: &[(i32, i32)],
        bounds: Place,
    ) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
        let mut order: Vec<usize> = (0..dots.len()).collect();
        order.sort_by_key(|index| dots[*index].1);
        let mut taken: Vec<Place> = dots.iter().map(|(x, y)| [x - DOT, y - DOT, x + DOT, y + DOT]).collect();
        for index in order {
            let (point, (x, y)) = (&self.points[index], dots[index]);
            let text = format!("{}  {}", self.value(point), short(&point.name));
            let width = (CHARACTER * text.chars().count() as f64) as i32;
            let shifts = (0..40).flat_map(|step| [step * LINE / 2, -step * LINE / 2]);
            let places = shifts.flat_map(|shift| {
                let top = y - LINE / 2 + shift;
                let far = if shift.abs() > LINE { 22 } else { 10 };
                [x + far, x - far - width].map(|left| [left, top, left + width, top + LINE])
            });
            let fits = |place: &Place| {
                let inside =
                    place[0] >= bounds[0] && place[2] <= bounds[2] && place[1] >= bounds[1] && place[3] <= bounds[3];
                inside && !taken.iter().any(|other| overlap(place, other))
            };
            let place = places.clone().find(fits).or_else(|| places.clone().next()).expect("a place");
            let colour = self.colour(point);
            // Widths are estimates: the end at the dot is the one that is exact.
            let (side, end, anchor) = match place[0] > x {
                true => (place[0], place[0] - 2, HPos::Left),
                false => (place[2], place[2] + 2, HPos::Right),
            };
            let style = ("sans-serif", FONT).into_font().color(&colour).pos(Pos::new(anchor, VPos::Top));
            let middle = (place[1] + place[3]) / 2;
            area.draw(&PathElement::new([(x, y), (end, middle)], colour.mix(0.4)))?;
            area.draw(&Circle::new((x, y), DOT, colour.filled()))?;
            area.draw(&Text::new(text, (side, place[1] + 1), style))?;
            taken.push(place);
        }
        Ok(())
    }

    /// Black for what is dense; others have the colour of their kind if there are few kinds, else one for all.
    fn colour(&self, point: &Point) -> RGBColor {
        if point.name.starts_with("dense") || point.name == "not compressed" {
            return BLACK;
        }
        let mut kinds: Vec<&str> = Vec::new();
        for point in self.points.iter().filter(|point| !point.name.starts_with("dense")) {
            if !kinds.contains(&kind(&point.name)) {
                kinds.push(kind(&point.name));
            }
        }
        let at = kinds.iter().position(|other| *other == kind(&point.name)).unwrap_or(0);
        let [red, green, blue] = PALETTE[if kinds.len() <= PALETTE.len() { at } else { 0 }];
        RGBColor(red, green, blue)
    }

    /// The ends of the vertical axis: all points and bars, with a margin of a quarter of their spread.
    fn range(&self) -> (f64, f64) {
        let bars = self.points.iter().flat_map(|point| {
            let deviation = point.deviation.unwrap_or(0.0);
            [point.y - deviation, point.y + deviation]
        });
        let (lowest, highest) =
            bars.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), y| (low.min(y), high.max(y)));
        // One point alone needs an axis, too.
        let least = if self.percent { 1.0 } else { 0.02 * highest.abs().max(1e-6) };
        let margin = ((highest - lowest) * 0.25).max(least);
        (lowest - margin, highest + margin)
    }

    fn value(&self, point: &Point) -> String {
        let value = match (self.percent, point.y.abs() >= 20.0) {
            (true, _) => format!("{:.1} %", point.y),
            (false, true) => format!("{:.2}", point.y),
            (false, false) => format!("{:.3}", point.y),
        };
        point.deviation.map_or(value.clone(), |deviation| format!("{value} ± {deviation:.3}"))
    }
}

fn overlap(a: &Place, b: &Place) -> bool {
    a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3]
}

/// The name of a structure without its settings.
fn kind(name: &str) -> &str {
    name.split([':', ',']).next().unwrap_or_default()
}

/// A structure without the settings that are as by default.
pub fn short(name: &str) -> String {
    let usual = ["k=16", "n=64", "hash=additive", "seed=0", "width=0.5"];
    name.split(',').filter(|setting| !usual.contains(setting)).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(better: Better) -> Chart<'static> {
        let point = |x, y, deviation, name: &str| Point { x, y, deviation, name: name.into() };
        Chart {
            title: "the data".into(),
            x_label: FLOPS,
            y_label: "quality",
            better,
            percent: false,
            points: vec![point(100.0, 3.0, None, "dense"), point(40.0, 3.5, Some(0.25), "blast:b=4,ratio=0.4")],
        }
    }

    #[test]
    fn plot_names_every_structure_and_the_data() {
        let svg = chart(Better::Lower).to_svg().unwrap();
        for word in
            ["<svg", "3.000  dense", "3.500 ± 0.250  blast:b=4,ratio=0.4", "the data", "quality", "lower is better"]
        {
            assert!(svg.contains(word), "{word}");
        }
        assert!(chart(Better::Higher).to_svg().unwrap().contains("higher is better"));
    }

    #[test]
    fn label_leaves_out_usual_settings() {
        assert_eq!(short("ss1:c=3,k=16,n=64,hash=additive"), "ss1:c=3");
        assert_eq!(short("ss1:c=3,k=16,n=64,hash=independent,seed=0"), "ss1:c=3,hash=independent");
    }

    #[test]
    fn colour_is_that_of_the_kind() {
        let mut chart = chart(Better::Lower);
        assert_eq!(chart.colour(&chart.points[0]), BLACK);
        let [red, green, blue] = PALETTE[0];
        assert_eq!(chart.colour(&chart.points[1]), RGBColor(red, green, blue));
        chart.points.push(Point { name: "monarch:b=4".into(), ..chart.points[1].clone() });
        assert_ne!(chart.colour(&chart.points[1]), chart.colour(&chart.points[2]));
    }

    #[test]
    fn axis_holds_points_and_bars() {
        let (lowest, highest) = chart(Better::Lower).range();
        assert!(lowest < 3.0 && highest > 3.75, "{lowest}..{highest}");
    }

    #[test]
    fn result_that_is_not_finite_is_an_error() {
        let mut chart = chart(Better::Lower);
        chart.points[1].y = f64::INFINITY;
        assert_eq!(chart.to_svg().unwrap_err(), "blast:b=4,ratio=0.4 has no finite result");
    }
}
