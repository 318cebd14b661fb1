//! The files of a comparison.

use super::chart::Chart;
use burn_structured_checkpoint::files::replace;
use serde::Serialize;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Why the file of a comparison could not be written.
#[derive(Debug, Error)]
#[error("cannot write {path}: {reason}")]
pub struct ReportError {
    path: String,
    reason: String,
}

impl ReportError {
    fn new(path: &Path, reason: impl ToString) -> Self {
        Self { path: path.display().to_string(), reason: reason.to_string() }
    }
}

/// Writes `<name>.json` and `<name>.svg` into `folder`, and returns their paths.
///
/// # Errors
///
/// If a file cannot be written, or the chart has no points.
pub(super) fn save(
    report: &impl Serialize,
    chart: &Chart<'_>,
    folder: &Path,
    name: &str,
) -> Result<[PathBuf; 2], ReportError> {
    let [json, svg] = ["json", "svg"].map(|extension| folder.join(format!("{name}.{extension}")));
    let text = serde_json::to_string_pretty(report).map_err(|error| ReportError::new(&json, error))?;
    replace(&json, (text + "\n").as_bytes()).map_err(|error| ReportError::new(&json, error))?;
    write(&svg, chart.to_svg())?;
    Ok([json, svg])
}

/// Writes a plot, if it could be drawn.
///
/// # Errors
///
/// If it could not, or the file cannot be written.
pub(super) fn write(svg: &Path, drawn: Result<String, String>) -> Result<(), ReportError> {
    let drawn = drawn.map_err(|reason| ReportError::new(svg, reason))?;
    replace(svg, drawn.as_bytes()).map_err(|error| ReportError::new(svg, error))
}

#[cfg(test)]
mod tests {
    use super::super::chart::{Better, Point};
    use super::*;

    fn chart(points: Vec<Point>) -> Chart<'static> {
        let title = "title".into();
        Chart { title, x_label: "share", y_label: "quality", better: Better::Higher, percent: false, points }
    }

    #[test]
    fn json_and_plot_have_the_name() {
        let folder = tempfile::tempdir().unwrap();
        let point = Point { x: 50.0, y: 1.0, deviation: None, name: "dense".into() };
        let [json, svg] = save(&[1, 2], &chart(vec![point]), folder.path(), "comparison").unwrap();
        assert_eq!(std::fs::read_to_string(json).unwrap(), "[\n  1,\n  2\n]\n");
        assert!(std::fs::read_to_string(&svg).unwrap().starts_with("<svg"));
        assert_eq!(svg, folder.path().join("comparison.svg"));
    }

    #[test]
    fn unwritable_file_is_named() {
        let point = Point { x: 50.0, y: 1.0, deviation: None, name: "dense".into() };
        let error = save(&0, &chart(vec![point]), Path::new("/no/such/folder"), "comparison").unwrap_err().to_string();
        assert!(error.contains("/no/such/folder/comparison.json"), "{error}");
    }

    #[test]
    fn report_without_results_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let error = save(&0, &chart(Vec::new()), folder.path(), "comparison").unwrap_err().to_string();
        assert!(error.contains("there are no results"), "{error}");
    }
}
