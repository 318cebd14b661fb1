//! What decides a run, how it is launched, and what a finished one achieved.

use super::steps::AfterEvaluation;
use super::{Evaluation, LanguageRecipe};
use crate::data::tokens::TokenSource;
use crate::training::{Interrupter, RunFolder, Settings, Start, TrainingError};
use burn::tensor::Device;
use burn_structured_models::gpt2::{Gpt2, Gpt2Config};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Everything that decides how a run goes.
///
/// The devices are not part of it: a run may be resumed on others, where its losses are the same up to rounding.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LanguageSettings {
    /// The model.
    pub model: Gpt2Config,
    /// The training.
    pub recipe: LanguageRecipe,
    /// The name of the model whose weights the run starts from; `None` for random ones.
    #[serde(default)]
    pub initial: Option<String>,
    /// The name of the text.
    pub dataset: String,
    /// The name of the tokenizer.
    pub tokenizer: String,
    /// Training tokens.
    pub train_tokens: usize,
    /// Validation tokens.
    pub validation_tokens: usize,
}

/// The tokens that a run trains on and is evaluated on.
#[derive(Clone, Debug)]
pub struct TokenData {
    /// The name of the text.
    pub name: String,
    /// The name of the tokenizer.
    pub tokenizer: String,
    /// Tokens that the tokenizer knows.
    pub vocab_size: usize,
    /// What is trained on.
    pub train: TokenSource,
    /// What is evaluated on.
    pub validation: TokenSource,
}

impl TokenData {
    /// The training tokens alone, of which the last `share` are evaluated on.
    pub(super) fn hold_out(&self, share: f64) -> Self {
        let tokens = self.train.len();
        let kept = tokens - (tokens as f64 * share) as usize;
        Self { train: self.train.slice(0..kept), validation: self.train.slice(kept..tokens), ..self.clone() }
    }

    /// Whether a model of `vocab_size` tokens can be trained on these.
    ///
    /// # Errors
    ///
    /// If the tokenizer knows more tokens.
    pub(super) fn check(&self, vocab_size: usize) -> Result<(), TrainingError> {
        match self.vocab_size {
            text if text > vocab_size => Err(TrainingError::Vocabulary { text, model: vocab_size }),
            _ => Ok(()),
        }
    }
}

impl Settings for LanguageSettings {
    type Result = LanguageResult;

    const FILES: &'static [&'static str] = &["losses.csv", "validation.csv"];
}

/// What a finished run achieved.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LanguageResult {
    /// Steps trained.
    pub steps: usize,
    /// The last step's weights on all validation tokens, by a sliding window.
    pub validation: Evaluation,
    /// Tokens a second in training, data loading included; `None` if this process trained from no evaluation to the next.
    pub training_tokens_per_second: Option<f64>,
}

/// Where a run is launched, and what watches it. Of this only the [initial weights](Self::initial) decide its result; their
/// name is among the [`LanguageSettings`].
#[derive(Clone)]
pub struct Launch {
    /// The devices that share the sequences of every step.
    pub devices: Vec<Device>,
    /// Whether every device updates weights of its own after a collective sum of the gradients (distributed data-parallel
    /// training), instead of collecting the gradients of each parameter on one device. Needs CUDA and its NCCL library.
    pub distributed: bool,
    /// The folder of the run.
    pub folder: RunFolder,
    /// What to do with a run that it already holds.
    pub start: Start,
    /// Stops the run.
    pub interrupter: Interrupter,
    /// Called after every evaluation, for example to print a sample.
    pub after_evaluation: Option<AfterEvaluation>,
    /// The weights that the run starts from, instead of random ones.
    pub initial: Option<Gpt2>,
}

impl Launch {
    /// A run on one device.
    pub fn new(device: Device, folder: RunFolder) -> Self {
        let interrupter = Interrupter::new();
        let (devices, start) = (vec![device], Start::New);
        Self { devices, distributed: false, folder, start, interrupter, after_evaluation: None, initial: None }
    }

    /// On several devices.
    pub fn with_devices(self, devices: Vec<Device>) -> Self {
        Self { devices, ..self }
    }

    /// With a collective sum of the gradients, see [`distributed`](Self::distributed).
    pub fn with_distributed(self, distributed: bool) -> Self {
        Self { distributed, ..self }
    }

    /// With a folder that may hold a run.
    pub fn with_start(self, start: Start) -> Self {
        Self { start, ..self }
    }

    /// With the weights of a model of the same sizes and structures; [`LanguageSettings::initial`] is its name.
    pub fn with_initial(self, model: Gpt2) -> Self {
        Self { initial: Some(model), ..self }
    }

    /// With an interrupter of the caller.
    pub fn with_interrupter(self, interrupter: Interrupter) -> Self {
        Self { interrupter, ..self }
    }

    /// With a function that is called after every evaluation, with the steps that are done and the model as it is then.
    ///
    /// Progress is then reported in lines even on a terminal, so that the function can print.
    pub fn with_after_evaluation(self, call: impl Fn(usize, &Gpt2) + Send + Sync + 'static) -> Self {
        Self { after_evaluation: Some(AfterEvaluation(Arc::new(call))), ..self }
    }

    /// The same with another folder.
    pub(super) fn in_folder(&self, folder: RunFolder) -> Self {
        Self { folder, ..self.clone() }
    }
}
