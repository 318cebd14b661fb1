//! The settings of a diffusion training.

use super::ScheduleKind;
use crate::language::WarmupCosine;
use crate::training::{TrainingError, check_factor_rates};
use burn_structured_nn::Factor;
use serde::{Deserialize, Serialize};

/// AdamW on the noise error, with linear warm-up and a cosine down to zero.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DiffusionRecipe {
    /// Batches that the model is trained on.
    pub steps: usize,
    /// Images of a batch.
    pub batch_size: usize,
    /// Peak learning rate.
    pub lr: f64,
    /// Steps of linear warm-up.
    pub warmup: usize,
    /// AdamW's decoupled weight decay.
    pub weight_decay: f64,
    /// How far each factor of a structured layer gets a learning rate of its own, from 0 (one rate for all) to 1 (in inverse proportion
    /// to the features it sums, see [`Factor`]).
    pub factor_rates: f64,
    /// Largest norm of all gradients together; larger ones are scaled down.
    pub clip_norm: f64,
    /// Share of the images that are trained without their class, for guidance.
    pub class_dropout: f64,
    /// Whether half of the images are mirrored left to right.
    pub flip: bool,
    /// The noise schedule.
    pub schedule: ScheduleKind,
    /// Steps of the noise schedule.
    pub times: usize,
    /// Seed of the initial weights, the order of the images and the noise.
    pub seed: u64,
}

impl Default for DiffusionRecipe {
    /// What suits the small DiT on two CPU cores.
    fn default() -> Self {
        Self {
            steps: 1000,
            batch_size: 64,
            lr: 1e-3,
            warmup: 100,
            weight_decay: 0.0,
            factor_rates: 0.0,
            clip_norm: 1.0,
            class_dropout: 0.1,
            flip: true,
            schedule: ScheduleKind::Cosine,
            times: 1000,
            seed: 42,
        }
    }
}

impl DiffusionRecipe {
    /// Whether these numbers can train a model with these `factors`.
    ///
    /// # Errors
    ///
    /// If a number is out of range, or the rate of a factor is; the message names it.
    pub fn check_for(&self, factors: &[Factor]) -> Result<(), TrainingError> {
        let error = |name, value: &dyn ToString, expected| {
            Err(TrainingError::Recipe { name, value: value.to_string(), expected })
        };
        for (name, value) in [("steps", self.steps), ("batch size", self.batch_size), ("time steps", self.times)] {
            if value == 0 {
                return error(name, &value, "give at least 1");
            }
        }
        if !(self.lr > 0.0 && self.lr <= 1.0) {
            return error("lr", &self.lr, "give a learning rate above 0 and at most 1, such as 0.001");
        }
        if !(self.weight_decay >= 0.0 && self.weight_decay.is_finite()) {
            return error("weight decay", &self.weight_decay, "give a number from 0 up");
        }
        if !(self.clip_norm > 0.0 && self.clip_norm.is_finite()) {
            return error("clip norm", &self.clip_norm, "give a number above 0, such as 1");
        }
        for (name, value) in [("factor rates", self.factor_rates), ("class dropout", self.class_dropout)] {
            if !(0.0..=1.0).contains(&value) {
                return error(name, &value, "give a number from 0 to 1");
            }
        }
        check_factor_rates(self.lr, self.factor_rates, factors)
    }

    /// The learning rate of step `step`, counted from 0.
    pub(super) fn rate(&self, step: usize) -> f64 {
        let (warmup, total) = (self.warmup.min(self.steps) as f64, self.steps as f64);
        WarmupCosine { peak: self.lr, min: 0.0, warmup, total }.rate(step as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_rises_and_falls() {
        let recipe = DiffusionRecipe { steps: 10, warmup: 4, lr: 1.0, ..DiffusionRecipe::default() };
        let rates: Vec<f64> = (0..10).map(|step| recipe.rate(step)).collect();
        assert!((rates[0] - 0.2).abs() < 1e-12 && rates[4] == 1.0 && rates[9] < 0.1, "{rates:?}");
        assert!(rates[..5].is_sorted() && rates[4..].iter().rev().is_sorted(), "{rates:?}");
    }

    #[test]
    fn numbers_out_of_range_are_errors() {
        let message = |recipe: DiffusionRecipe| recipe.check_for(&[]).unwrap_err().to_string();
        let usual = DiffusionRecipe::default;
        assert!(usual().check_for(&[]).is_ok());
        assert!(message(DiffusionRecipe { steps: 0, ..usual() }).starts_with("steps = 0"));
        assert!(message(DiffusionRecipe { lr: f64::NAN, ..usual() }).starts_with("lr = NaN"));
        assert!(message(DiffusionRecipe { class_dropout: 1.5, ..usual() }).starts_with("class dropout = 1.5"));
        assert!(message(DiffusionRecipe { clip_norm: 0.0, ..usual() }).starts_with("clip norm = 0"));
    }
}
