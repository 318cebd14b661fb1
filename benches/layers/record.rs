//! The figures as they are in the JSON files, whichever program measured them.

use super::arguments::{Layer, Pass};
use crate::harness::machine::Machine;
use crate::harness::measure::Time;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Raised when a field changes its meaning.
pub const FORMAT: u32 = 1;

/// The dense candidates that are this crate's own kernels begin with this.
pub const OWN_DENSE: &str = "dense_linear";

/// How far noise may take a speed-up above the inverse of the parameter ratio.
const TOLERANCE: f64 = 1.05;

/// One run of one program on one machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// [`FORMAT`].
    pub format: u32,
    /// What measured, and at which commit: `burn-structured 0.1.0 (1a2b3c4)`, `pytorch 2.15.0`.
    pub program: String,
    /// The command line; empty in files older than the field, as is the next.
    #[serde(default)]
    pub command: String,
    /// When it started, in UTC.
    #[serde(default)]
    pub measured: String,
    /// Where.
    pub machine: Machine,
    /// Seconds for each figure.
    pub seconds: f64,
    /// MiB of weights and inputs rotated through.
    pub rotation_mib: usize,
    /// What the devices can do.
    pub peaks: Vec<Peak>,
    /// What the command line selected and could not be run, with the reason.
    pub not_run: Vec<String>,
    /// The figures.
    pub rows: Vec<Row>,
}

/// The most that a device was seen to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Peak {
    /// The device.
    pub device: String,
    /// The type of the numbers.
    pub dtype: String,
    /// Of a large matrix product.
    pub flops_per_second: f64,
    /// Which product.
    pub flops_of: String,
    /// Calls in a row before waiting for the device, in the rows of this device and dtype.
    #[serde(default = "one")]
    pub calls: usize,
    /// Of a large copy or a large sum, bytes read and written.
    pub bytes_per_second: f64,
    /// Which of them.
    pub bytes_of: String,
}

/// The calls in files older than the field.
fn one() -> usize {
    1
}

/// A structure on a layer, with everything it is compared to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The device.
    pub device: String,
    /// The type of the numbers.
    pub dtype: String,
    /// Input features.
    pub d_input: usize,
    /// Output features.
    pub d_output: usize,
    /// Rows of the input.
    pub tokens: usize,
    /// Forward, or forward and backward.
    pub pass: Pass,
    /// In text form.
    pub structure: String,
    /// Parameters relative to the dense layer's.
    pub params_ratio: f64,
    /// The least that the structured layer does.
    pub work: Work,
    /// The least that the dense layer does.
    pub dense_work: Work,
    /// The times.
    pub candidates: Vec<Candidate>,
}

/// The least arithmetic and memory traffic of a pass.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Work {
    /// Multiplications and additions.
    pub flops: f64,
    /// Read and written if every operand crosses the memory's wires once.
    pub bytes: f64,
}

/// What a time is the time of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// A dense layer, or the product alone by another library.
    Dense,
    /// The structured layer as users call it.
    Structured,
    /// The reference body: the same product in plain operations of the framework.
    #[serde(alias = "plain")]
    Reference,
    /// The structured layer by a named strategy.
    Strategy,
    /// A dense layer as wide as an SS1 sketch.
    Narrow,
}

/// A time and what it is of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// What it is compared as.
    pub role: Role,
    /// What it is.
    pub name: String,
    /// How long it took.
    #[serde(flatten)]
    pub time: Time,
}

impl Row {
    /// The fastest candidate of a role.
    pub fn best(&self, role: Role) -> Option<&Candidate> {
        let of_role = self.candidates.iter().filter(|candidate| candidate.role == role);
        of_role.min_by(|a, b| a.time.median_ms.total_cmp(&b.time.median_ms))
    }

    /// How many times as fast as the fastest dense candidate.
    pub fn speed_up(&self) -> Option<f64> {
        Some(self.best(Role::Dense)?.time.median_ms / self.best(Role::Structured)?.time.median_ms)
    }

    /// Whether the speed-up is more than the parameter ratio explains: more than [`TOLERANCE`] above its inverse. Such a figure often is a
    /// slow dense layer, and has to be checked by hand.
    pub fn is_beyond_ratio(&self) -> bool {
        self.speed_up().is_some_and(|speed_up| speed_up > TOLERANCE / self.params_ratio)
    }

    /// Whether both are measurements of the same thing.
    pub fn is_like(&self, other: &Self) -> bool {
        (self.layer(), self.tokens, self.pass) == (other.layer(), other.tokens, other.pass)
            && (&self.structure, &self.device, &self.dtype) == (&other.structure, &other.device, &other.dtype)
    }

    /// The layer as on the command line: `768x3072`.
    pub fn layer(&self) -> Layer {
        Layer { d_input: self.d_input, d_output: self.d_output }
    }
}

/// Which of the two bounds a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// Arithmetic.
    Flops,
    /// Memory traffic.
    Bytes,
}

impl Results {
    /// The least milliseconds that `work` takes at the measured peaks of the row's device, and what bounds it.
    pub fn roofline(&self, row: &Row, work: Work) -> Option<(f64, Bound)> {
        let peak = self.peaks.iter().find(|peak| peak.device == row.device && peak.dtype == row.dtype)?;
        let (flops, bytes) = (1e3 * work.flops / peak.flops_per_second, 1e3 * work.bytes / peak.bytes_per_second);
        Some(if flops > bytes { (flops, Bound::Flops) } else { (bytes, Bound::Bytes) })
    }

    /// Reads a file that [`to_json`](Self::to_json) or the PyTorch script wrote.
    ///
    /// # Errors
    ///
    /// If the file cannot be read or is of another form; the message names it.
    pub fn read(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let results: Self = serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
        match results.format {
            FORMAT => Ok(results),
            other => Err(format!("{}: format {other}; this program reads {FORMAT}", path.display())),
        }
    }

    /// The text of a file.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("plain figures have a text form") + "\n"
    }
}
