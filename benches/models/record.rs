//! The figures of whole models as they are in the JSON files.

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
    /// What measured, and at which commit; empty in files older than the field, as are the next two.
    #[serde(default)]
    pub program: String,
    /// The command line.
    #[serde(default)]
    pub command: String,
    /// When it started, in UTC.
    #[serde(default)]
    pub measured: String,
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
    /// Images or tokens a second.
    pub fn per_second(&self, time: &Time) -> f64 {
        1e3 * self.items as f64 / time.median_ms
    }
}
