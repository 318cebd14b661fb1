//! The plot: a quality against the relative FLOPs, or parameters, of the replaced layers.

use plotters::prelude::*;

const SIZE: (u32, u32) = (1060, 560);

/// Width of the legend, on the right.
const LEGEND: u32 = 340;

/// The horizontal axis of most plots.
pub(super) const FLOPS: &str = "FLOPs of the replaced linear layers, % of dense";

/// Which end of the vertical axis is the good one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Better {
    Higher,
    Lower,
}

/// One structure in the plot.
#[derive(Clone, Debug)]
pub(super) struct Point {
    /// FLOPs or parameters of the replaced layers, in per cent of dense ones.
    pub x: f64,
    /// The quality.
    pub y: f64,
    /// The standard deviation of `y`, drawn as a bar, where there are several runs.
    pub deviation: Option<f64>,
    /// The structure's name.
    pub name: String,
}

/// What is drawn.
#[derive(Clone, Debug)]
pub(super) struct Chart<'a> {
    pub title: String,
    pub x_label: &'a str,
    pub y_label: &'a str,
    pub better: Better,
    /// Whether `y` is in per cent.
    pub percent: bool,
    pub points: Vec<Point>,
}

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
        if let Some(point) = self.points.iter().find(|point| !(point.x.is_finite() && point.y.is_finite())) {
            return Err(format!("{} has no finite result", point.name));
        }
        let mut svg = String::new();
        self.draw(SVGBackend::with_string(&mut svg, SIZE))?;
        Ok(svg)
    }

    fn draw<B: DrawingBackend>(&self, backend: B) -> Result<(), String> {
        let text = |error: DrawingAreaErrorKind<B::ErrorType>| error.to_string();
        let area = backend.into_drawing_area();
        area.fill(&WHITE).map_err(text)?;
        let (lowest, highest) = self.range();
        let mut chart = ChartBuilder::on(&area)
            .caption(&self.title, ("sans-serif", 20))
            .margin(16)
            .margin_right(16 + LEGEND)
            .x_label_area_size(48)
            .y_label_area_size(64)
            .build_cartesian_2d(0.0..105.0, lowest..highest)
            .map_err(text)?;
        chart
            .configure_mesh()
            .x_desc(self.x_label)
            .y_desc(self.y_label)
            .light_line_style(WHITE)
            .label_style(("sans-serif", 15))
            .draw()
            .map_err(text)?;
        // Structures of one budget have nearly the same FLOPs: their names are beside the plot, from the best down.
        let (right, top) = (SIZE.0 as i32 - LEGEND as i32, 56);
        for (line, index) in self.ranked().into_iter().enumerate() {
            let point = &self.points[index];
            let colour = Palette99::pick(index).to_rgba();
            if let Some(deviation) = point.deviation {
                let ends = [(point.x, point.y - deviation), (point.x, point.y + deviation)];
                let bar = PathElement::new(ends, colour.stroke_width(2));
                chart.draw_series(std::iter::once(bar)).map_err(text)?;
            }
            let dot = Circle::new((point.x, point.y), 6, colour.filled());
            chart.draw_series(std::iter::once(dot)).map_err(text)?;
            let y = top + 22 * line as i32;
            area.draw(&Circle::new((right, y), 6, colour.filled())).map_err(text)?;
            let label = format!("{}  {}", self.value(point), point.name);
            area.draw(&Text::new(label, (right + 12, y - 7), ("sans-serif", 14))).map_err(text)?;
        }
        area.present().map_err(text)
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

    /// The points from the best to the worst.
    fn ranked(&self) -> Vec<usize> {
        let mut ranked: Vec<usize> = (0..self.points.len()).collect();
        ranked.sort_by(|a, b| {
            let order = self.points[*a].y.total_cmp(&self.points[*b].y);
            if self.better == Better::Higher { order.reverse() } else { order }
        });
        ranked
    }

    fn value(&self, point: &Point) -> String {
        let value = if self.percent { format!("{:.1} %", point.y) } else { format!("{:.3}", point.y) };
        point.deviation.map_or(value.clone(), |deviation| format!("{value} ± {deviation:.3}"))
    }
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
        for word in ["<svg", "3.000  dense", "3.500 ± 0.250  blast:b=4,ratio=0.4", "the data", "quality"] {
            assert!(svg.contains(word), "{word}");
        }
    }

    #[test]
    fn best_structure_is_first_in_the_legend() {
        assert_eq!(chart(Better::Lower).ranked(), [0, 1]);
        assert_eq!(chart(Better::Higher).ranked(), [1, 0]);
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
