//! The figures as they are in block.json, and as a table.

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
    /// The structure of the linear layers.
    pub structure: String,
    /// Seconds for each figure.
    pub seconds: f64,
    /// The figures.
    pub rows: Vec<Row>,
}

/// One variant of the block on one input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Features of a token.
    pub d_model: usize,
    /// Heads of the attention.
    pub heads: usize,
    /// Sequences of the input.
    pub sequences: usize,
    /// Tokens of a sequence.
    pub tokens: usize,
    /// Forward and backward, instead of inference.
    pub training: bool,
    /// The line that is missing; empty for the block as it is.
    pub without: String,
    /// One pass.
    pub time: Time,
}

impl Row {
    /// The input and the pass, in words.
    pub fn pass(&self) -> String {
        let pass = if self.training { "training" } else { "inference" };
        format!("{} × {} tokens of {}, {pass}", self.sequences, self.tokens, self.d_model)
    }
}

/// The machine and the names of the columns.
pub fn head(results: &Results) -> String {
    format!(
        "{}; {}; {} s for each figure\n\n\
         | input and pass | without | ms | spread | times as long |\n\
         |---|---|---|---|---|\n",
        results.machine.line(),
        results.structure,
        results.seconds
    )
}

/// One line of the table; `full` is the block as it is.
pub fn line(row: &Row, full: &Row) -> String {
    format!(
        "| {} | {} | {:.3} | ±{:.0} % | {:.2} |\n",
        row.pass(),
        row.without,
        row.time.median_ms,
        100.0 * row.time.spread(),
        row.time.median_ms / full.time.median_ms
    )
}
