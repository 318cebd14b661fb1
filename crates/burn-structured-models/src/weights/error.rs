//! What can go wrong between a checkpoint and a model. Each message names the file, tensor or layer and the way out.

use burn_structured_checkpoint::CheckpointError;
use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Why the weights of a model cannot be loaded or saved.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum WeightsError {
    /// A checkpoint cannot be read or written, is damaged, or describes its layers wrongly.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A checkpoint lacks tensors that the model has.
    #[error(
        "{} lacks {}{}; do config.json and the weights belong together?",
        path.display(), names[0], and_others(names.len() - 1)
    )]
    MissingTensors {
        /// The checkpoint.
        path: PathBuf,
        /// The names of the missing tensors, without what some checkpoints put before every name; at least one.
        names: Vec<String>,
    },
    /// A checkpoint holds a tensor of a block that the model does not have.
    #[error(
        "{}: {name} belongs to no layer of the model; do config.json and the weights belong together?",
        path.display()
    )]
    UnknownTensor {
        /// The checkpoint.
        path: PathBuf,
        /// The tensor.
        name: String,
    },
    /// A checkpoint describes a layer of a block that the model does not have.
    #[error(
        "{} describes the layer {layer}, which the model does not have; do config.json and the weights belong together?",
        path.display()
    )]
    UnknownLayer {
        /// The checkpoint.
        path: PathBuf,
        /// The layer.
        layer: String,
    },
    /// A checkpoint describes a layer of other dimensions than the model's.
    #[error(
        "{}: the layer {layer} is {} → {} instead of {} → {}; do config.json and the weights belong together?",
        path.display(), found[0], found[1], expected[0], expected[1]
    )]
    LayerSize {
        /// The checkpoint.
        path: PathBuf,
        /// The layer.
        layer: String,
        /// The model's input and output features.
        expected: [usize; 2],
        /// The checkpoint's.
        found: [usize; 2],
    },
    /// A tensor of a checkpoint has another shape than the model's.
    #[error(
        "{}: {name} has shape {found:?} instead of {expected:?}; do config.json and the weights belong together?",
        path.display()
    )]
    TensorShape {
        /// The checkpoint.
        path: PathBuf,
        /// The tensor, without what some checkpoints put before every name.
        name: String,
        /// The model's shape, in the checkpoint's layout.
        expected: Vec<usize>,
        /// The checkpoint's shape.
        found: Vec<usize>,
    },
    /// A tensor of a checkpoint cannot be used.
    #[error("{}: {name} cannot be used: {reason}", path.display())]
    Tensor {
        /// The checkpoint.
        path: PathBuf,
        /// The tensor, without what some checkpoints put before every name.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A layer has no place in a checkpoint.
    #[error("{layer} cannot be saved: {problem}")]
    Unsaveable {
        /// The layer.
        layer: String,
        /// Why not, and what would work.
        problem: &'static str,
    },
    /// A file or folder cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
}

impl WeightsError {
    pub(crate) fn write(path: &Path, source: io::Error) -> Self {
        Self::Write { path: path.to_owned(), source }
    }
}

/// What follows the name of the first of several missing tensors; `count` is the number of the others.
fn and_others(count: usize) -> String {
    match count {
        0 => String::new(),
        1 => " and another tensor".into(),
        _ => format!(" and {count} more tensors"),
    }
}
