//! The table of a pretrained sentence encoder that was compressed in several ways.

use super::files::Recorded;
use super::language::Origin;
use super::table;
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
    format!("\n{about}\n{}{}", origin.line(file), table(&head.map(String::from), &lines))
}
