//! What can go wrong in a training run.

use crate::data::DataError;
use burn_structured_models::ModelError;
use burn_structured_models::decoder::DecoderError;
use std::error::Error as StdError;
use std::path::PathBuf;
use thiserror::Error;

/// Why a training run could not start, or did not finish.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TrainingError {
    /// The model cannot be built.
    #[error("the model cannot be built: {0}")]
    Model(Box<dyn StdError + Send + Sync>),
    /// The data cannot be used.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A number of the recipe is out of range.
    #[error("{name} = {value} cannot be used; {expected}")]
    Recipe {
        /// The setting.
        name: &'static str,
        /// Its value.
        value: String,
        /// The values that work.
        expected: &'static str,
    },
    /// A file of the run cannot be read or written.
    #[error("cannot {action} {}: {reason}", path.display())]
    File {
        /// What was attempted.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        reason: String,
    },
    /// Another run is using the folder.
    #[error("another run is using {}; wait for it, or write elsewhere with --out", path.display())]
    InUse {
        /// The run's folder.
        path: PathBuf,
    },
    /// The folder holds an unfinished run.
    #[error(
        "{} holds a run stopped after epoch {epoch}; continue it with --resume, drop it with --fresh, \
         or write elsewhere with --out",
        path.display()
    )]
    Unfinished {
        /// The run's folder.
        path: PathBuf,
        /// Its last complete epoch.
        epoch: usize,
    },
    /// The folder holds a finished run.
    #[error("{} holds a finished run; replace it with --fresh, or write elsewhere with --out", path.display())]
    Finished {
        /// The run's folder.
        path: PathBuf,
    },
    /// The run to resume was started with other settings.
    #[error(
        "{} was started with other settings and cannot be resumed with these: {difference}; \
         repeat its settings, or start anew with --fresh or another --out",
        path.display()
    )]
    OtherSettings {
        /// The run's folder.
        path: PathBuf,
        /// The first setting that differs.
        difference: String,
    },
    /// The devices cannot train together, or there is none.
    #[error("{reason}")]
    Devices {
        /// Why, and the way out.
        reason: String,
    },
    /// The tokens of the text are more than those of the model.
    #[error(
        "the tokenizer has {text} tokens, more than the model's vocabulary of {model}; give the model at least as many"
    )]
    Vocabulary {
        /// Tokens of the tokenizer.
        text: usize,
        /// Tokens of the model.
        model: usize,
    },
    /// The weights to start from are those of another model.
    #[error("the weights to start from do not fit the model: {reason}")]
    Initial {
        /// What differs.
        reason: String,
    },
    /// The model to imitate does not fit the one that imitates it.
    #[error("the teacher does not fit the student: {reason}")]
    Teacher {
        /// What differs.
        reason: String,
    },
    /// The loss became NaN or infinite.
    #[error(
        "the training diverged: the loss of step {step} is NaN or infinite, at a learning rate of {lr}; use a lower one"
    )]
    Diverged {
        /// The step, from 1.
        step: usize,
        /// Its learning rate.
        lr: f64,
    },
    /// Sentence pairs cannot be trained or scored on.
    #[error("{reason}")]
    Sentences {
        /// Why, and the way out.
        reason: String,
    },
    /// Burn's training loop stopped on an error.
    #[error("training stopped: {0}")]
    Loop(String),
}

impl From<ModelError> for TrainingError {
    fn from(error: ModelError) -> Self {
        Self::Model(Box::new(error))
    }
}

impl From<DecoderError> for TrainingError {
    fn from(error: DecoderError) -> Self {
        Self::Model(Box::new(error))
    }
}

impl TrainingError {
    pub(crate) fn file(action: &'static str, path: impl Into<PathBuf>, reason: impl ToString) -> Self {
        Self::File { action, path: path.into(), reason: reason.to_string() }
    }
}
