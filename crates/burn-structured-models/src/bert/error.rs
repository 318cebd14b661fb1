//! What can go wrong between a checkpoint folder and an embedding. Each message names the file, tensor or setting and the
//! way out.

use crate::weights::WeightsError;
use burn_structured_checkpoint::CheckpointError;
use burn_structured_nn::{Structure, StructureError};
use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Why a [`Bert`](super::Bert) cannot be built, loaded or fed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BertError {
    /// A setting that is zero, or does not fit another.
    #[error("{name} = {value} {problem}")]
    Setting {
        /// The setting.
        name: &'static str,
        /// Its value.
        value: String,
        /// What is wrong with it and what would work.
        problem: String,
    },
    /// A layer's structure does not fit its dimensions.
    #[error("{layer} ({d_input} → {d_output}, {structure}): {source}")]
    Structure {
        /// The layer: `query`, `key`, `value`, `attention_output`, `intermediate` or `output`.
        layer: &'static str,
        /// Its input features.
        d_input: usize,
        /// Its output features.
        d_output: usize,
        /// The requested structure.
        structure: Structure,
        /// Why it does not fit.
        source: Box<StructureError>,
    },
    /// A file cannot be read.
    #[error("cannot read {}: {source}; a model folder holds config.json, model.safetensors and tokenizer.json", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
    /// A configuration file is not JSON, or lacks a field.
    #[error("{} is no BERT configuration: {source}; fetch the model's own file again", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What the parser met, and where.
        source: serde_json::Error,
    },
    /// A configuration file describes another kind of model.
    #[error("{}: {field} is {value:?}, but only {supported:?} is implemented; choose another model", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// The field.
        field: &'static str,
        /// Its value.
        value: String,
        /// The value that works.
        supported: &'static str,
    },
    /// A configuration file holds a setting that cannot be.
    #[error("{}: {source}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: Box<BertError>,
    },
    /// The weights cannot be loaded or saved.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// A tokenizer file cannot be used.
    #[error("{} cannot be used as a tokenizer: {reason}; it must be the model's own tokenizer.json", path.display())]
    Tokenizer {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A sentence that gives no tokens.
    #[error("sentence {index} {problem}")]
    Sentence {
        /// The sentence's position, from 0.
        index: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// A batch without a sentence.
    #[error("there is no sentence to encode; give at least one")]
    NoSentences,
}

impl BertError {
    pub(super) fn read(path: &Path, source: io::Error) -> Self {
        Self::Read { path: path.to_owned(), source }
    }
}

impl From<CheckpointError> for BertError {
    fn from(error: CheckpointError) -> Self {
        Self::Weights(error.into())
    }
}
