//! What became of every layer: the same for the same run, whenever and wherever it is repeated.

use super::run::read_json;
use crate::distill::DistillReport;
use crate::pipeline::PipelineError;
use crate::plan::{Change, Size};
use burn_structured_checkpoint::{Orientation, files};
use burn_structured_nn::Structure;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// The format that is written, and the newest one that is read.
pub const FORMAT: u64 = 1;
const FILE: &str = "report.json";

/// `report.json`: what a run has made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// [`FORMAT`].
    pub format: u64,
    /// The program, with its version.
    pub tool: String,
    /// How it went about it: `layerwise` or `blockwise`.
    pub executor: String,
    /// SHA-256 of everything that decides the result: model, plan, data, settings, device and program.
    pub run: String,
    /// The seed of everything random.
    pub seed: u64,
    /// The name of the dense model's folder or file.
    pub model: String,
    /// The fingerprint of the dense checkpoint.
    pub source: String,
    /// The settings, by name.
    pub settings: BTreeMap<String, String>,
    /// The linear layers, in the order of the network.
    pub layers: Vec<LayerResult>,
    /// The blocks, if they were compressed one after another.
    pub blocks: Vec<BlockResult>,
    /// The distillation, if there was one.
    pub distillation: Option<DistillResult>,
    /// Weights of the linear layers, without biases.
    pub linear: Change,
    /// Everything in the checkpoint; FLOPs are those of the linear layers.
    pub file: Change,
    /// Tensors of the dense checkpoint that have other values: biases and norms that were trained.
    pub changed: Vec<String>,
    /// The files of the output, without `report.json` and `run.json`.
    pub files: Vec<FileEntry>,
}

/// What became of a linear layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerResult {
    /// Its name.
    pub name: String,
    /// The block that it belongs to.
    pub block: Option<usize>,
    /// The size of the input features.
    pub d_input: usize,
    /// The size of the output features.
    pub d_output: usize,
    /// The orientation of the dense weight.
    pub orientation: Orientation,
    /// Its structure; `None` if it is dense.
    pub structure: Option<Structure>,
    /// The dense weight.
    pub before: Size,
    /// The weight that is left.
    pub after: Size,
    /// `‖W − Ŵ‖ / ‖W‖` of the weight in the file.
    pub weight_error: Option<f64>,
    /// The relative error of the outputs on the calibration's inputs when the layer was fitted, if there was a calibration.
    pub output_error: Option<f64>,
}

/// What became of a block.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlockResult {
    /// Which one.
    pub block: usize,
    /// The share of the dense model's inputs in the targets of its layers; `None` if it has no compressed layer.
    pub alpha: Option<f64>,
    /// `‖f(x) − f̂(x̂)‖ / ‖f(x)‖` of its output on held-out inputs, when its layers were fitted.
    pub output_error: f64,
    /// Its refinement, if there was one.
    pub refinement: Option<RefineResult>,
}

/// What became of a block's refinement.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RefineResult {
    /// Steps that were done.
    pub steps: usize,
    /// The relative error of the block's output on held-out inputs before.
    pub before: f64,
    /// The same afterwards.
    pub after: f64,
}

impl RefineResult {
    /// The error before and in the end. A training that did not lower it was undone.
    pub fn lowered(&self) -> [f64; 2] {
        [self.before, self.after.min(self.before)]
    }
}

/// What became of the model's distillation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DistillResult {
    /// Steps that were done.
    pub steps: usize,
    /// The relative error of the model's output on held-out inputs before.
    pub before: f64,
    /// The same afterwards.
    pub after: f64,
    /// The mean divergence of the distributions of the next token from the dense model's before and afterwards, for language models.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub divergence: Option<[f64; 2]>,
}

impl DistillResult {
    /// What was to be lowered, before and in the end: the divergence if there is one, or else the error of the output. A training that
    /// did not lower it was undone.
    pub fn lowered(&self) -> [f64; 2] {
        let [before, after] = self.divergence.unwrap_or([self.before, self.after]);
        [before, after.min(before)]
    }
}

impl From<DistillReport> for DistillResult {
    fn from(report: DistillReport) -> Self {
        let DistillReport { steps, before, after, divergence, .. } = report;
        Self { steps, before, after, divergence }
    }
}

/// A file of an output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// Its path in the folder, with `/`.
    pub path: String,
    /// Its length.
    pub bytes: u64,
    /// Its SHA-256.
    pub sha256: String,
}

impl Report {
    /// Reads the report of an output.
    ///
    /// # Errors
    ///
    /// If it cannot be read, or is in no known format.
    pub fn load(output: &Path) -> Result<Self, PipelineError> {
        let path = output.join(FILE);
        let report: Self = read_json(&path)?;
        if report.format != FORMAT {
            let reason = format!("it has format {}, but this version reads {FORMAT}", report.format);
            return Err(PipelineError::Report { path, reason });
        }
        Ok(report)
    }

    /// Writes the report into an output.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn save(&self, output: &Path) -> Result<(), PipelineError> {
        let path = output.join(FILE);
        let text = serde_json::to_vec_pretty(self).map_err(std::io::Error::other);
        text.and_then(|text| files::replace(&path, &text)).map_err(PipelineError::write(&path))
    }

    /// The compressed layers.
    pub fn compressed(&self) -> impl Iterator<Item = &LayerResult> {
        self.layers.iter().filter(|layer| layer.structure.is_some())
    }

    /// The mean weight error of the compressed layers; `None` if no layer has one.
    pub fn mean_weight_error(&self) -> Option<f64> {
        let errors: Vec<f64> = self.layers.iter().filter_map(|layer| layer.weight_error).collect();
        (!errors.is_empty()).then(|| errors.iter().sum::<f64>() / errors.len() as f64)
    }
}
