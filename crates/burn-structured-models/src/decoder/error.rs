//! What can go wrong with a model, its checkpoint and the tokens it is given. Each message names the culprit and the way out.

use super::LayerRulesError;
use crate::text::TextError;
use crate::weights::WeightsError;
use burn_structured_checkpoint::CheckpointError;
use burn_structured_nn::{Structure, StructureError};
use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Why a [`Decoder`](super::Decoder) cannot be built, loaded, saved or run.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DecoderError {
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
    /// The rules for the structures do not fit the model.
    #[error(transparent)]
    Rules(#[from] LayerRulesError),
    /// A layer's structure does not fit its dimensions.
    #[error("{layer} ({d_input} → {d_output}, {structure}): {source}")]
    Structure {
        /// The layer, such as `h.0.mlp.c_fc`, `layers.0.mlp.up_proj` or `lm_head`.
        layer: String,
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
    #[error("cannot read {}: {source}; a model folder holds config.json and model.safetensors", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
    /// A file is not JSON, lacks a field, or holds one of another type.
    #[error("{} does not describe {model}: {source}; fetch the model's own file again", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What it should describe, such as `a GPT-2`.
        model: &'static str,
        /// What the parser met, and where.
        source: serde_json::Error,
    },
    /// A configuration file describes another kind of model.
    #[error("{}: {field} is {value}, but only {supported} is implemented; choose another model", path.display())]
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
        source: Box<DecoderError>,
    },
    /// The weights cannot be loaded or saved.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The tokenizer cannot be saved.
    #[error(transparent)]
    Tokenizer(#[from] TextError),
    /// More tokens than the model has positions for.
    #[error("a sequence of {tokens} tokens is longer than the model's context of {context}; shorten it")]
    Context {
        /// Tokens of the sequence.
        tokens: usize,
        /// The most that the model takes.
        context: usize,
    },
    /// There is no token to run the model on.
    #[error("there are no tokens; give at least one for each row of the batch")]
    NoTokens,
    /// More tokens than the cache has room for.
    #[error("{new} new tokens do not fit a cache of {capacity} slots, of which {used} are used; create a larger cache")]
    CacheFull {
        /// The slots that hold tokens, padding included.
        used: usize,
        /// The new tokens of each row.
        new: usize,
        /// The slots of each row.
        capacity: usize,
    },
    /// A batch of another size than the one that the cache holds.
    #[error("a batch of {found} rows does not fit a cache of {expected}; use a new cache for every batch")]
    CacheBatch {
        /// The rows of the cache.
        expected: usize,
        /// The rows of the batch.
        found: usize,
    },
}

impl DecoderError {
    pub(crate) fn read(path: &Path, source: io::Error) -> Self {
        Self::Read { path: path.to_owned(), source }
    }

    /// The same error with the file that it is in.
    pub(crate) fn in_file(self, path: &Path) -> Self {
        Self::Config { path: path.to_owned(), source: Box::new(self) }
    }
}

impl From<CheckpointError> for DecoderError {
    fn from(error: CheckpointError) -> Self {
        Self::Weights(error.into())
    }
}
