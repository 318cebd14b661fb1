//! The settings of a training on clicks.

use crate::training::{TrainingError, check_factor_rates};
use burn_structured_nn::Factor;
use serde::{Deserialize, Serialize};

/// Adam on the cross-entropy of the clicks, with linear warm-up and a cosine down to a hundredth.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClickRecipe {
    /// Passes over the training examples.
    pub epochs: usize,
    /// Examples of a batch.
    pub batch_size: usize,
    /// Peak learning rate.
    pub lr: f64,
    /// How far each factor of a structured layer gets a learning rate of its own, from 0 (one rate for all) to 1 (in inverse proportion
    /// to the features it sums, see [`Factor`]).
    pub factor_rates: f64,
    /// Seed of the initial weights and the order of the examples.
    pub seed: u64,
}

impl Default for ClickRecipe {
    /// One pass in batches of 512: models of clicks overfit in the second.
    fn default() -> Self {
        Self { epochs: 1, batch_size: 512, lr: 1e-3, factor_rates: 0.0, seed: 42 }
    }
}

impl ClickRecipe {
    /// Whether these numbers can train a model with these `factors`.
    ///
    /// # Errors
    ///
    /// If a number is out of range, or the rate of a factor is; the message names it.
    pub fn check_for(&self, factors: &[Factor]) -> Result<(), TrainingError> {
        let error = |name, value: &dyn ToString, expected| {
            Err(TrainingError::Recipe { name, value: value.to_string(), expected })
        };
        for (name, value) in [("epochs", self.epochs), ("batch size", self.batch_size)] {
            if value == 0 {
                return error(name, &value, "give at least 1");
            }
        }
        if !(self.lr > 0.0 && self.lr <= 1.0) {
            return error("lr", &self.lr, "give a learning rate above 0 and at most 1, such as 0.001");
        }
        if !(0.0..=1.0).contains(&self.factor_rates) {
            return error("factor rates", &self.factor_rates, "give a number from 0 to 1");
        }
        check_factor_rates(self.lr, self.factor_rates, factors)
    }
}
