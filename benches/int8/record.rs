//! The figures as they are in int8.json, and as a table.

use crate::harness::machine::Machine;
use crate::harness::measure::Time;
use serde::{Deserialize, Serialize};

/// Raised when a field changes its meaning.
pub const FORMAT: u32 = 1;

/// One run on one machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// [`FORMAT`].
    pub format: u32,
    /// What measured, and at which commit.
    pub program: String,
    /// The command line.
    pub command: String,
    /// When it started, in UTC.
    pub measured: String,
    /// Where.
    pub machine: Machine,
    /// Seconds for each figure.
    pub seconds: f64,
    /// The figures.
    pub rows: Vec<Row>,
}

/// One layer with one number of tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Input features.
    pub d_input: usize,
    /// Output features.
    pub d_output: usize,
    /// Rows of the input.
    pub tokens: usize,
    /// In text form.
    pub structure: String,
    /// Whether the weights are int8; otherwise they are f32.
    pub int8: bool,
    /// Bytes of all parameters.
    pub bytes: usize,
    /// `‖y − y_f32‖ / ‖y_f32‖` beside the same layer in f32.
    pub error: f64,
    /// One forward pass.
    pub time: Time,
}

/// The machine and the names of the columns.
pub fn head(results: &Results) -> String {
    format!(
        "{}; {} s for each figure\n\n\
         | layer | tokens | structure | weights | KiB | error | ms | spread | faster than the first |\n\
         |---|---|---|---|---|---|---|---|---|\n",
        results.machine.line(),
        results.seconds
    )
}

/// One line of the table; `first` is what the row is compared to.
pub fn line(row: &Row, first: &Row) -> String {
    format!(
        "| {}→{} | {} | {} | {} | {} | {:.4} | {:.4} | ±{:.0} % | {:.2}x |\n",
        row.d_input,
        row.d_output,
        row.tokens,
        row.structure,
        if row.int8 { "int8" } else { "f32" },
        row.bytes >> 10,
        row.error,
        row.time.median_ms,
        100.0 * row.time.spread(),
        first.time.median_ms / row.time.median_ms
    )
}
