//! A plot of curves on two logarithmic axes.

use burn_structured_checkpoint::PALETTE;
use plotters::prelude::*;

const SIZE: (u32, u32) = (1060, 560);

/// A curve and its name.
#[derive(Clone, Debug)]
pub(super) struct Curve {
    pub name: String,
    /// Both coordinates above 0.
    pub points: Vec<(f64, f64)>,
}

/// What is drawn.
#[derive(Clone, Debug)]
pub(super) struct Curves<'a> {
    pub title: String,
    pub x_label: &'a str,
    pub y_label: &'a str,
    pub curves: Vec<Curve>,
}

impl Curves<'_> {
    /// The plot as an SVG document.
    ///
    /// # Errors
    ///
    /// If there is nothing to draw, or a coordinate is not a finite number above 0.
    pub fn to_svg(&self) -> Result<String, String> {
        let positive = |value: f64| value.is_finite() && value > 0.0;
        if let Some(curve) =
            self.curves.iter().find(|curve| !curve.points.iter().all(|(x, y)| positive(*x) && positive(*y)))
        {
            return Err(format!("{} has a point that is not above 0", curve.name));
        }
        if self.curves.iter().all(|curve| curve.points.is_empty()) {
            return Err("there are no results".into());
        }
        let mut svg = String::new();
        self.draw(SVGBackend::with_string(&mut svg, SIZE))?;
        Ok(svg)
    }

    fn draw<B: DrawingBackend>(&self, backend: B) -> Result<(), String> {
        let text = |error: DrawingAreaErrorKind<B::ErrorType>| error.to_string();
        let area = backend.into_drawing_area();
        area.fill(&WHITE).map_err(text)?;
        let points = || self.curves.iter().flat_map(|curve| curve.points.iter().copied());
        let (x, y) = (range(points().map(|(x, _)| x)), range(points().map(|(_, y)| y)));
        let mut chart = ChartBuilder::on(&area)
            .caption(&self.title, ("sans-serif", 20))
            .margin(16)
            .x_label_area_size(48)
            .y_label_area_size(64)
            .build_cartesian_2d((x.0..x.1).log_scale(), (y.0..y.1).log_scale())
            .map_err(text)?;
        let decimal = |value: &f64| if *value < 10.0 { format!("{value:.1}") } else { format!("{value:.0}") };
        chart
            .configure_mesh()
            .x_desc(self.x_label)
            .y_desc(self.y_label)
            .x_label_formatter(&|value| format!("{value:.0}"))
            .y_label_formatter(&decimal)
            .light_line_style(WHITE)
            .label_style(("sans-serif", 15))
            .draw()
            .map_err(text)?;
        for (index, curve) in self.curves.iter().enumerate() {
            let colour = colour(index, &curve.name);
            chart
                .draw_series(LineSeries::new(curve.points.iter().copied(), colour.stroke_width(2)).point_size(4))
                .map_err(text)?
                .label(&curve.name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], colour.stroke_width(2)));
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .background_style(WHITE.mix(0.8))
            .border_style(BLACK.mix(0.3))
            .label_font(("sans-serif", 14))
            .draw()
            .map_err(text)?;
        area.present().map_err(text)
    }
}

/// Black for what is dense, else a colour of its own.
fn colour(index: usize, name: &str) -> RGBColor {
    let [red, green, blue] = if name == "dense" { [0; 3] } else { PALETTE[index % PALETTE.len()] };
    RGBColor(red, green, blue)
}

/// The ends of an axis: all values, with a tenth more on both sides.
fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (lowest, highest) = values.fold((f64::INFINITY, 0.0), |(low, high): (f64, f64), x| (low.min(x), high.max(x)));
    (lowest / 1.1, highest * 1.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curves(points: Vec<(f64, f64)>) -> Curves<'static> {
        let curve = Curve { name: "blast:b=4,r=8".into(), points };
        Curves { title: "the model".into(), x_label: "batch", y_label: "time", curves: vec![curve] }
    }

    #[test]
    fn plot_names_curves_and_axes() {
        let svg = curves(vec![(1.0, 3.5), (32.0, 70.0)]).to_svg().unwrap();
        for word in ["<svg", "blast:b=4,r=8", "the model", "batch", "time"] {
            assert!(svg.contains(word), "{word}");
        }
    }

    #[test]
    fn axis_holds_all_values() {
        let (lowest, highest) = range([8.0, 1.0, 32.0].into_iter());
        assert!(lowest < 1.0 && highest > 32.0, "{lowest}..{highest}");
    }

    #[test]
    fn undrawable_points_are_errors() {
        assert_eq!(curves(Vec::new()).to_svg().unwrap_err(), "there are no results");
        for y in [0.0, f64::NAN, f64::INFINITY] {
            let error = curves(vec![(1.0, y)]).to_svg().unwrap_err();
            assert_eq!(error, "blast:b=4,r=8 has a point that is not above 0");
        }
    }
}
