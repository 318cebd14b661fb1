//! The figure of models trained alike: quality against the time of inference, a line for each kind of structure, its sizes the points.

use super::harness::file::write;
use super::plot::{COLOURS, FONT, MOST_SERIES, value};
use plotters::prelude::*;
use std::path::Path;

/// The file of [`write_quality`].
pub const PLOT: &str = "quality-against-time.svg";

const SIZE: (u32, u32) = (760, 460);

/// A model that was trained.
#[derive(Clone, Debug, PartialEq)]
pub struct Trained {
    /// The structure of its layers.
    pub structure: String,
    /// Milliseconds for one item in inference.
    pub milliseconds: f64,
    /// Its quality.
    pub quality: f64,
}

/// What is drawn.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// What one item is.
    pub item: &'static str,
    /// The name of the quality.
    pub quality: &'static str,
    /// The models, at most six kinds of structures beside dense.
    pub models: Vec<Trained>,
}

/// Writes the figure to `folder`, if there are two models or more.
///
/// # Errors
///
/// If it cannot be drawn or written.
pub fn write_quality(figure: &Figure, folder: &Path) -> Result<(), String> {
    if figure.models.len() < 2 {
        return Ok(());
    }
    let mut svg = String::new();
    figure.draw(SVGBackend::with_string(&mut svg, SIZE)).map_err(|error| format!("{PLOT}: {error}"))?;
    write(&folder.join(PLOT), &svg)
}

impl Figure {
    /// The models of each kind, from the fastest to the slowest; dense first, then in the order of the models.
    fn kinds(&self) -> Vec<(&str, Vec<&Trained>)> {
        let mut kinds: Vec<(&str, Vec<&Trained>)> = Vec::new();
        for model in &self.models {
            let kind = model.structure.split(':').next().unwrap_or_default();
            match kinds.iter_mut().find(|(other, _)| *other == kind) {
                Some((_, models)) => models.push(model),
                None => kinds.push((kind, vec![model])),
            }
        }
        kinds.sort_by_key(|(kind, _)| *kind != "dense");
        kinds.truncate(1 + MOST_SERIES);
        for (_, models) in &mut kinds {
            models.sort_by(|a, b| a.milliseconds.total_cmp(&b.milliseconds));
        }
        kinds
    }

    fn draw<B: DrawingBackend>(&self, backend: B) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
        let area = backend.into_drawing_area();
        area.fill(&WHITE)?;
        let ends = |of: fn(&Trained) -> f64| {
            let values = || self.models.iter().map(of);
            let (low, high) = (values().fold(f64::INFINITY, f64::min), values().fold(f64::NEG_INFINITY, f64::max));
            (low, high, 0.08 * (high - low).max(1e-9))
        };
        let (low, high, margin) = ends(|model| model.milliseconds.log2());
        // Labels are on the right of their points.
        let x = low - margin..high + 4.0 * margin;
        let (low, high, margin) = ends(|model| model.quality);
        let y = low - margin..high + margin;
        let mut chart =
            ChartBuilder::on(&area).margin(14).x_label_area_size(44).y_label_area_size(64).build_cartesian_2d(x, y)?;
        chart
            .configure_mesh()
            .x_desc(format!("milliseconds for one {} in inference", self.item))
            .y_desc(self.quality)
            .x_label_formatter(&|exponent| value(exponent.exp2()))
            .label_style(("sans-serif", 13))
            .light_line_style(WHITE)
            .draw()?;
        let mut taken: Vec<(i32, i32)> = Vec::new();
        for (at, (kind, models)) in self.kinds().into_iter().enumerate() {
            let colour = if kind == "dense" { BLACK } else { COLOURS[at.saturating_sub(1) % COLOURS.len()] };
            let points: Vec<(f64, f64)> =
                models.iter().map(|model| (model.milliseconds.log2(), model.quality)).collect();
            chart.draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(1)))?;
            chart.draw_series(points.iter().map(|point| Circle::new(*point, 4, colour.filled())))?;
            for (point, model) in points.iter().zip(models) {
                let (x, mut y) = chart.backend_coord(point);
                y -= 6;
                while let Some((_, other)) =
                    taken.iter().find(|(at, other)| (at - x).abs() < 110 && (other - y).abs() < 12)
                {
                    y = other + 12;
                }
                taken.push((x, y));
                area.draw(&Text::new(short(&model.structure), (x + 9, y), FONT.into_font().color(&colour)))?;
            }
        }
        area.present()
    }
}

/// A structure without the settings that it has by default: `ss1:c=4` of `ss1:c=4,k=16,n=64,hash=additive`.
pub fn short(structure: &str) -> String {
    let settings =
        structure.split(',').filter(|setting| !["k=16", "n=64", "hash=additive", "b=auto"].contains(setting));
    settings.collect::<Vec<_>>().join(",")
}
