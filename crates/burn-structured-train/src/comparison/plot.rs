//! The plot: accuracy against the relative FLOPs of the replaced layers.

use super::Report;
use crate::files;
use plotters::prelude::*;
use std::path::Path;
use thiserror::Error;

/// Why the file of a comparison could not be written.
#[derive(Debug, Error)]
#[error("cannot write {path}: {reason}")]
pub struct ReportError {
    path: String,
    reason: String,
}

impl ReportError {
    pub(super) fn new(path: &Path, reason: impl ToString) -> Self {
        Self { path: path.display().to_string(), reason: reason.to_string() }
    }
}

const SIZE: (u32, u32) = (1060, 560);

/// Width of the legend, on the right.
const LEGEND: u32 = 340;

/// Draws the comparison as an SVG file.
///
/// # Errors
///
/// If there is nothing to draw or the file cannot be written.
pub fn plot(report: &Report, path: &Path) -> Result<(), ReportError> {
    let error = |reason: String| ReportError::new(path, reason);
    if report.rows.is_empty() {
        return Err(error("there are no results".into()));
    }
    let mut svg = String::new();
    draw(report, SVGBackend::with_string(&mut svg, SIZE)).map_err(error)?;
    files::replace(path, &svg).map_err(|reason| error(reason.to_string()))
}

fn draw<B: DrawingBackend>(report: &Report, backend: B) -> Result<(), String> {
    let text = |error: DrawingAreaErrorKind<B::ErrorType>| error.to_string();
    let points: Vec<(f64, f64, String)> = report
        .rows
        .iter()
        .map(|row| (100.0 * row.relative_flops, 100.0 * row.test_accuracy, row.structure.to_string()))
        .collect();
    let lowest = points.iter().map(|point| point.1).fold(f64::INFINITY, f64::min);
    let highest = points.iter().map(|point| point.1).fold(f64::NEG_INFINITY, f64::max);
    let margin = ((highest - lowest) * 0.25).max(1.0);

    let area = backend.into_drawing_area();
    area.fill(&WHITE).map_err(text)?;
    let title = format!(
        "dataset: {} - {} training images, {} epochs, seed {}",
        report.dataset, report.train_images, report.recipe.epochs, report.recipe.seed
    );
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 20))
        .margin(16)
        .margin_right(16 + LEGEND)
        .x_label_area_size(48)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..105.0, lowest - margin..highest + margin)
        .map_err(text)?;
    chart
        .configure_mesh()
        .x_desc("FLOPs of the replaced linear layers, % of dense")
        .y_desc("test accuracy, %")
        .light_line_style(WHITE)
        .label_style(("sans-serif", 15))
        .draw()
        .map_err(text)?;
    // Structures of one budget have nearly the same FLOPs: their names are beside the plot, from the best down.
    let mut ranked: Vec<usize> = (0..points.len()).collect();
    ranked.sort_by(|a, b| points[*b].1.total_cmp(&points[*a].1));
    let (right, top) = (SIZE.0 as i32 - LEGEND as i32, 56);
    for (line, index) in ranked.into_iter().enumerate() {
        let (flops, accuracy, name) = &points[index];
        let colour = Palette99::pick(index).to_rgba();
        let dot = Circle::new((*flops, *accuracy), 6, colour.filled());
        chart.draw_series(std::iter::once(dot)).map_err(text)?;
        let y = top + 22 * line as i32;
        area.draw(&Circle::new((right, y), 6, colour.filled())).map_err(text)?;
        let name = Text::new(format!("{accuracy:.1} %  {name}"), (right + 12, y - 7), ("sans-serif", 14));
        area.draw(&name).map_err(text)?;
    }
    area.present().map_err(text)
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::report;
    use super::*;

    #[test]
    fn plot_names_every_structure_and_the_data() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plot.svg");
        plot(&report(), &path).unwrap();
        let svg = std::fs::read_to_string(&path).unwrap();
        for word in ["<svg", "dense", "blast:b=4,ratio=0.33", "dataset: synthetic"] {
            assert!(svg.contains(word), "{word}");
        }
    }

    #[test]
    fn unwritable_path_is_named() {
        let error = plot(&report(), Path::new("/no/such/folder/plot.svg")).unwrap_err().to_string();
        assert!(error.contains("/no/such/folder/plot.svg"), "{error}");
    }
}
