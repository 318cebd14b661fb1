//! The convergence figure: relative error against steps or seconds, on a logarithmic scale.

use crate::CompressError;
use crate::factorize::TracePoint;
use burn_structured_checkpoint::PALETTE;
use burn_structured_checkpoint::files::replace;
use plotters::prelude::*;
use std::path::Path;

/// The horizontal axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Axis {
    /// Steps.
    Steps,
    /// Seconds, the start included.
    Seconds,
}

/// The run of one method.
#[derive(Clone, Debug)]
pub struct Curve {
    /// The method.
    pub name: String,
    /// Its trace.
    pub trace: Vec<TracePoint>,
}

/// The runs on one problem.
#[derive(Clone, Debug)]
pub struct Panel {
    /// The problem.
    pub title: String,
    /// The runs.
    pub curves: Vec<Curve>,
}

const PANEL: (u32, u32) = (460, 340);
/// Room for the names of the methods, on the right.
const NAMES: u32 = 64;
const NAME_HEIGHT: i32 = 14;

/// Errors below this are drawn here.
const LOWEST_ERROR: f64 = 1e-17;

/// Draws the panels as an SVG file, those against steps above those against seconds. The file is replaced when it is complete.
///
/// # Errors
///
/// If there is nothing to draw, an error or a time is not finite, or the file cannot be written.
pub fn plot_convergence(panels: &[Panel], path: &Path) -> Result<(), CompressError> {
    let error = |reason: String| CompressError::Plot { path: path.display().to_string(), reason };
    if panels.iter().all(|panel| panel.curves.iter().all(|curve| curve.trace.is_empty())) {
        return Err(error("there are no runs".into()));
    }
    for panel in panels {
        let finite = |point: &TracePoint| point.seconds.is_finite() && point.mean_error().is_finite();
        if let Some(curve) = panel.curves.iter().find(|curve| !curve.trace.iter().all(finite)) {
            return Err(error(format!("{}, {}: an error or a time is not finite", panel.title, curve.name)));
        }
    }
    let mut svg = String::new();
    let size = (PANEL.0 * panels.len() as u32, PANEL.1 * 2);
    draw(panels, SVGBackend::with_string(&mut svg, size)).map_err(error)?;
    replace(path, svg.as_bytes()).map_err(|reason| error(reason.to_string()))
}

fn draw<B: DrawingBackend>(panels: &[Panel], backend: B) -> Result<(), String> {
    let text = |error: DrawingAreaErrorKind<B::ErrorType>| error.to_string();
    let area = backend.into_drawing_area();
    area.fill(&WHITE).map_err(text)?;
    let cells = area.split_evenly((2, panels.len()));
    for (at, cell) in cells.iter().enumerate() {
        let axis = if at < panels.len() { Axis::Steps } else { Axis::Seconds };
        draw_panel(&panels[at % panels.len()], axis, cell).map_err(text)?;
    }
    area.present().map_err(text)
}

fn draw_panel<B: DrawingBackend>(
    panel: &Panel,
    axis: Axis,
    area: &DrawingArea<B, plotters::coord::Shift>,
) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
    let lines: Vec<(&str, Vec<(f64, f64)>)> =
        panel.curves.iter().map(|curve| (curve.name.as_str(), points(curve, axis))).collect();
    let all = || lines.iter().flat_map(|(_, points)| points);
    let furthest = all().map(|point| point.0).fold(0.0, f64::max).max(1e-9);
    let lowest = all().map(|point| point.1).fold(1.0, f64::min);
    let highest = all().map(|point| point.1).fold(lowest, f64::max);
    let mut chart = ChartBuilder::on(area)
        .caption(&panel.title, ("sans-serif", 16))
        .margin(12)
        .margin_right(NAMES)
        .x_label_area_size(40)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..furthest, (lowest * 0.5..highest * 2.0).log_scale())?;
    chart
        .configure_mesh()
        .x_desc(match axis {
            Axis::Steps => "step",
            Axis::Seconds => "seconds",
        })
        .y_desc("relative error")
        .x_labels(5)
        .y_labels(6)
        .y_label_formatter(&|error| format!("{error:.0e}"))
        .light_line_style(WHITE)
        .draw()?;
    let mut names = Vec::new();
    for (at, (name, points)) in lines.into_iter().enumerate() {
        let [red, green, blue] = PALETTE[at % PALETTE.len()];
        let colour = RGBColor(red, green, blue);
        names.extend(points.last().map(|end| (chart.backend_coord(end), name, colour)));
        chart.draw_series(LineSeries::new(points, colour.stroke_width(2)))?;
    }
    // Each name at the end of its line, below those that it would cover.
    let origin = area.get_pixel_range();
    let mut taken: Vec<(i32, i32)> = Vec::new();
    names.sort_by_key(|((_, y), ..)| *y);
    for ((x, y), name, colour) in names {
        let (x, mut y) = (x - origin.0.start + 4, y - origin.1.start - NAME_HEIGHT / 2);
        let covered =
            |(at, other): &&(i32, i32), y: i32| (at - x).abs() < NAMES as i32 && (other - y).abs() < NAME_HEIGHT;
        while let Some((_, other)) = taken.iter().find(|place| covered(place, y)) {
            y = other + NAME_HEIGHT;
        }
        taken.push((x, y));
        area.draw(&Text::new(name, (x, y), ("sans-serif", 12).into_font().color(&colour)))?;
    }
    Ok(())
}

fn points(curve: &Curve, axis: Axis) -> Vec<(f64, f64)> {
    let point = |point: &TracePoint| {
        let along = match axis {
            Axis::Steps => point.step as f64,
            Axis::Seconds => point.seconds,
        };
        (along, point.mean_error().max(LOWEST_ERROR))
    };
    curve.trace.iter().map(point).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plot_names_every_method_and_problem() {
        let point = |step: usize, error: f64| TracePoint { step, seconds: 0.1 * step as f64, errors: vec![error] };
        let curve = |name: &str| Curve { name: name.into(), trace: vec![point(0, 1.0), point(1, 1e-3), point(2, 0.0)] };
        let panel = |title: &str| Panel { title: title.into(), curves: vec![curve("GD"), curve("Auto")] };
        let path = std::env::temp_dir().join(format!("burn-structured-convergence-{}.svg", std::process::id()));
        plot_convergence(&[panel("exact rank"), panel("higher rank")], &path).unwrap();
        let svg = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        for word in ["<svg", "GD", "Auto", "exact rank", "higher rank", "seconds", "relative error"] {
            assert!(svg.contains(word), "{word}");
        }
        let error = plot_convergence(&[], Path::new("nowhere.svg")).unwrap_err().to_string();
        assert!(error.contains("nowhere.svg"), "{error}");
    }
}
