//! The table of a pretrained sentence encoder that was compressed in several ways.

use super::files::Recorded;
use super::language::Origin;
use super::table;
use burn_structured::train::comparison::{Better, Chart, Point};
use serde::Deserialize;

/// What is used of `encoder.json`.
#[derive(Clone, Debug, Deserialize)]
pub struct Compressed {
    /// Where it is from.
    #[serde(flatten)]
    pub origin: Origin,
    /// The model, the text and the task, in words.
    about: String,
    rows: Vec<Row>,
}

#[derive(Clone, Debug, Deserialize)]
struct Row {
    structure: String,
    /// What was done, in words.
    method: String,
    /// Share of the replaced weights that is left.
    share: f64,
    /// Spearman's correlation, times 100.
    spearman: f64,
    /// Seconds it took, without the measurement.
    seconds: Option<f64>,
}

/// The file of [`chart`].
pub const PLOT: &str = "score-against-size.svg";

/// The score of every way to compress against what is left of the weights, of all files together; those in int8, whose weights are as
/// many, are left out. `None` if there is none.
pub fn chart<'a>(files: impl Iterator<Item = &'a Compressed>) -> Option<Chart<'static>> {
    let mut points: Vec<Point> = Vec::new();
    for row in files.flat_map(|file| &file.rows).filter(|row| !row.structure.ends_with(", int8")) {
        let structure = row.structure.replace('`', "");
        let name = match (structure.as_str(), row.method.as_str()) {
            ("dense", "") => structure,
            (structure, method) => format!("{}, {method}", structure.trim_start_matches("dense, ")),
        };
        let (x, y) = (100.0 * row.share, row.spearman);
        // A model may be in several files.
        if points.iter().all(|point| (point.y - y).abs() > 1e-9 || (point.x - x).abs() > 1.0) {
            points.push(Point { x, y, deviation: None, name });
        }
    }
    (!points.is_empty()).then(|| Chart {
        title: "all-MiniLM-L6-v2 compressed".into(),
        x_label: "weights of the encoder's layers, % of dense",
        y_label: "Spearman's correlation × 100, STS-Benchmark dev",
        better: Better::Higher,
        percent: false,
        points,
    })
}

/// What the file has, in words.
pub fn words(file: &Compressed) -> &'static str {
    let any = |is: fn(&Row) -> bool| file.rows.iter().any(is);
    match (any(|row| row.structure.ends_with(", int8")), any(|row| row.method.contains("distill"))) {
        (true, _) => "a sentence encoder with int8 weights",
        (_, true) => "a sentence encoder compressed and trained",
        _ => "a sentence encoder compressed without training",
    }
}

/// All that the page says of an encoder, in the order of the file.
pub fn section(file: &Recorded<Compressed>) -> String {
    let Compressed { origin, about, rows } = &file.results;
    let line = |row: &Row| {
        vec![
            row.structure.clone(),
            row.method.clone(),
            format!("{:.0} %", 100.0 * row.share),
            format!("{:.2}", row.spearman),
            row.seconds.map_or_else(String::new, |seconds| format!("{seconds:.0}")),
        ]
    };
    let head = ["structure", "method", "weights of the encoder's layers", "STS Spearman", "seconds"];
    let lines: Vec<Vec<String>> = rows.iter().map(line).collect();
    format!("\n{about}\n{}{}", origin.line(file), table(&head, &lines))
}
