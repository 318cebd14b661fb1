//! The settings of a fine-tuning.

use crate::training::TrainingError;
use burn::config::Config;

/// How to fine-tune a sentence encoder with [`fine_tune`](super::fine_tune).
#[derive(Config, Debug, PartialEq)]
pub struct FineTuneConfig {
    /// Passes over the pairs.
    #[config(default = 4)]
    pub epochs: usize,
    /// Pairs of a batch.
    #[config(default = 16)]
    pub batch_size: usize,
    /// Peak learning rate.
    #[config(default = 1e-4)]
    pub lr: f64,
    /// Share of the steps in which the learning rate rises.
    #[config(default = 0.1)]
    pub warmup: f64,
    /// Weight decay of the matrices; biases and norms have none.
    #[config(default = 0.01)]
    pub weight_decay: f64,
    /// The largest norm of all gradients together.
    #[config(default = 1.0)]
    pub clip: f64,
    /// Whether the embeddings of words and positions are trained, too.
    #[config(default = false)]
    pub embeddings: bool,
    /// Seed of the order of the pairs.
    #[config(default = 0)]
    pub seed: u64,
}

impl FineTuneConfig {
    /// Whether these numbers can train a model.
    ///
    /// # Errors
    ///
    /// If a number is out of range; the message names it.
    pub fn check(&self) -> Result<(), TrainingError> {
        let error = |name, value: &dyn ToString, expected| {
            Err(TrainingError::Recipe { name, value: value.to_string(), expected })
        };
        for (name, value) in [("epochs", self.epochs), ("batch size", self.batch_size)] {
            if value == 0 {
                return error(name, &value, "give at least 1");
            }
        }
        if !(self.lr > 0.0 && self.lr <= 1.0) {
            return error("lr", &self.lr, "give a learning rate above 0 and at most 1, such as 0.0001");
        }
        if !(0.0..=1.0).contains(&self.warmup) {
            return error("warm-up", &self.warmup, "give a share of the steps from 0 to 1");
        }
        if !(self.weight_decay >= 0.0 && self.weight_decay.is_finite()) {
            return error("weight decay", &self.weight_decay, "give a number from 0 up");
        }
        if !(self.clip > 0.0 && self.clip.is_finite()) {
            return error("clip", &self.clip, "give a norm above 0, such as 1");
        }
        Ok(())
    }
}
