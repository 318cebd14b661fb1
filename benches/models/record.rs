//! The figures of whole models, as JSON and as a table.

use crate::harness::machine::Machine;
use crate::harness::measure::Time;
use crate::workload::Workload;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// Raised when a field changes its meaning.
pub const FORMAT: u32 = 1;

/// One run on one machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// [`FORMAT`].
    pub format: u32,
    /// Where.
    pub machine: Machine,
    /// Seconds for each figure.
    pub seconds: f64,
    /// The figures.
    pub rows: Vec<Row>,
}

/// A model of one structure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The model.
    pub workload: String,
    /// The device.
    pub device: String,
    /// In text form.
    pub structure: String,
    /// Parameters of the whole model.
    pub params: usize,
    /// FLOPs of the replaced layers, relative to the dense ones.
    pub flops_ratio: f64,
    /// Images or tokens in one pass.
    pub items: usize,
    /// `images` or `tokens`.
    pub unit: String,
    /// One pass without gradients.
    pub inference: Time,
    /// Forward, backward and a step of AdamW.
    pub training: Time,
    /// The memory of a training step at its peak, beyond the weights and the optimizer's state.
    pub step_bytes: usize,
}

impl Row {
    fn per_second(&self, time: &Time) -> f64 {
        1e3 * self.items as f64 / time.median_ms
    }
}

impl Results {
    /// The text of a file.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("plain figures have a text form") + "\n"
    }

    /// All rows, each beside the first of its model and device.
    pub fn table(&self) -> String {
        let mut text = head(self);
        for row in &self.rows {
            let first = |other: &&Row| (&other.workload, &other.device) == (&row.workload, &row.device);
            text += &line(row, self.rows.iter().find(first).unwrap_or(row));
        }
        text
    }
}

/// The name of a workload on the command line.
pub fn name(workload: Workload) -> String {
    workload.to_possible_value().map_or(String::new(), |value| value.get_name().to_string())
}

/// The machine and the names of the columns.
pub fn head(results: &Results) -> String {
    format!(
        "{}; {} s for each figure\n\n\
         | device | model | structure | parameters | FLOPs of the replaced layers | inference a second | spread | faster | \
         training a second | spread | faster | memory of a step |\n|---|---|---|---|---|---|---|---|---|---|---|---|\n",
        results.machine.line(),
        results.seconds
    )
}

/// One line of the table; `first` is what the row is compared to.
pub fn line(row: &Row, first: &Row) -> String {
    let speed = |time: &Time, other: &Time| {
        format!(
            "{:.1} {} | ±{:.0} % | {:.2}x",
            row.per_second(time),
            row.unit,
            100.0 * time.spread(),
            other.median_ms / time.median_ms
        )
    };
    format!(
        "| {} | {} | {} | {:.2} M | {:.0} % | {} | {} | {:.1} MiB |\n",
        row.device,
        row.workload,
        row.structure,
        row.params as f64 / 1e6,
        100.0 * row.flops_ratio,
        speed(&row.inference, &first.inference),
        speed(&row.training, &first.training),
        row.step_bytes as f64 / f64::from(1 << 20)
    )
}
