//! The figures of whole models as they are in the JSON files, by this program and by `benches/external/models.py`.

use crate::harness::machine::Machine;
use crate::harness::measure::Time;
use serde::{Deserialize, Serialize};

/// Raised when a field changes its meaning.
pub const FORMAT: u32 = 2;

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
    /// What was left out, and why.
    #[serde(default)]
    pub not_run: Vec<String>,
    /// The figures.
    pub rows: Vec<Row>,
}

/// One pass of a model of one structure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The model.
    pub workload: String,
    /// `inference`, `training` (forward, backward and a step of AdamW), `batch-1`, `prefill`, …
    pub pass: String,
    /// The device.
    pub device: String,
    /// How another program ran it: `pytorch eager`, `pytorch compiled`, `onnxruntime f32`, `onnxruntime int8`. Empty for this one.
    #[serde(default)]
    pub variant: String,
    /// In text form.
    pub structure: String,
    /// Parameters of the whole model.
    pub params: usize,
    /// FLOPs of the replaced layers, relative to the dense ones.
    pub flops_ratio: f64,
    /// Images, tokens or sentences in one pass.
    pub items: usize,
    /// `images`, `tokens` or `sentences`.
    pub unit: String,
    /// One pass.
    pub time: Time,
    /// The memory of a pass at its peak, beyond the weights and the optimizer's state: bytes on the heap or reserved by the device, for
    /// other programs resident ones. `None` where the system does not tell.
    pub peak_bytes: Option<usize>,
}

impl Row {
    /// Items a second.
    pub fn per_second(&self) -> f64 {
        1e3 * self.items as f64 / self.time.median_ms
    }

    /// Whether `other` is the same pass of the same model.
    pub fn is_pass_of(&self, other: &Self) -> bool {
        (&self.workload, &self.pass) == (&other.workload, &other.pass)
    }
}
