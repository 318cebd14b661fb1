//! The settings of a training run.

use crate::data::Augmentation;
use crate::training::{TrainingError, check_factor_rates};
use burn::lr_scheduler::LrSchedulerConfig;
use burn::lr_scheduler::cosine::CosineAnnealingLrSchedulerConfig;
use burn::lr_scheduler::linear::LinearLrSchedulerConfig;
use burn::lr_scheduler::module_lr_scheduler::{ModuleLrScheduler, ModuleLrSchedulerConfig};
use burn::lr_scheduler::sequential::SequentialLrSchedulerConfig;
use burn::module::ParamGroup;
use burn_structured_nn::Factor;
use serde::{Deserialize, Serialize};

/// Optimizer, schedule and augmentation: AdamW, linear warm-up, then a cosine down to the minimum.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    /// Passes over the training images.
    pub epochs: usize,
    /// Images of a batch.
    pub batch_size: usize,
    /// Peak learning rate.
    pub lr: f64,
    /// Learning rate at the end.
    pub min_lr: f64,
    /// AdamW's decoupled weight decay.
    pub weight_decay: f64,
    /// How far each factor of a structured layer gets a learning rate of its own, from 0 (one rate for all) to 1 (in
    /// inverse proportion to the features it sums, see [`Factor`](burn_structured_nn::Factor)); dense layers are not
    /// affected.
    #[serde(default)]
    pub factor_rates: f64,
    /// Epochs of linear warm-up; may be a fraction.
    pub warmup_epochs: f64,
    /// Largest norm of a parameter's gradient; larger ones are scaled down. `None` leaves them alone.
    pub clip_norm: Option<f64>,
    /// What is done to the training images and targets.
    pub augmentation: Augmentation,
    /// Seed of the initial weights, the shuffling and the augmentation.
    pub seed: u64,
}

impl Default for Recipe {
    /// What suits the small ViT and a few epochs: AdamW 1e-3, weight decay 0.05, crop, flip, label smoothing 0.1.
    fn default() -> Self {
        Self {
            epochs: 20,
            batch_size: 128,
            lr: 1e-3,
            min_lr: 1e-5,
            weight_decay: 0.05,
            factor_rates: 0.0,
            warmup_epochs: 1.0,
            clip_norm: None,
            augmentation: Augmentation { pad: 4, flip: true, label_smoothing: 0.1, ..Augmentation::default() },
            seed: 42,
        }
    }
}

impl Recipe {
    /// The BLAST paper's recipe for ViT-S on CIFAR: batch 1024, AdamW 5e-4, 300 epochs, 5 of warm-up, cosine to 1e-5,
    /// mixup 0.8, CutMix 1, label smoothing 0.1.
    pub fn blast_paper() -> Self {
        let usual = Self::default();
        Self {
            epochs: 300,
            batch_size: 1024,
            lr: 5e-4,
            warmup_epochs: 5.0,
            augmentation: Augmentation { mixup: 0.8, cutmix: 1.0, ..usual.augmentation },
            ..usual
        }
    }

    /// Whether these numbers can train a model with these `factors`.
    ///
    /// # Errors
    ///
    /// If a number is out of range, or the rate of a factor is; the message names it.
    pub fn check_for(&self, factors: &[Factor]) -> Result<(), TrainingError> {
        self.check()?;
        check_factor_rates(self.lr, self.factor_rates, factors)
    }

    /// Checks that every number is within its range.
    pub(crate) fn check(&self) -> Result<(), TrainingError> {
        let error = |name, value: &dyn ToString, expected| {
            Err(TrainingError::Recipe { name, value: value.to_string(), expected })
        };
        if self.epochs == 0 {
            return error("epochs", &self.epochs, "train for at least one");
        }
        if self.batch_size == 0 {
            return error("batch size", &self.batch_size, "a batch needs at least one image");
        }
        if !(self.lr > 0.0 && self.lr <= 1.0) {
            return error("lr", &self.lr, "give a learning rate above 0 and at most 1, such as 0.001");
        }
        if !(self.min_lr >= 0.0 && self.min_lr <= self.lr) {
            return error("min lr", &self.min_lr, "give a rate from 0 to the peak learning rate");
        }
        if !(self.warmup_epochs >= 0.0 && self.warmup_epochs <= self.epochs as f64) {
            return error("warm-up", &self.warmup_epochs, "give a number of epochs from 0 to all of them");
        }
        if !(self.factor_rates >= 0.0 && self.factor_rates <= 1.0) {
            return error("factor rates", &self.factor_rates, "give a number from 0 to 1");
        }
        if !(self.weight_decay >= 0.0 && self.weight_decay.is_finite()) {
            return error("weight decay", &self.weight_decay, "give a number from 0 up");
        }
        Ok(())
    }

    /// The learning rates of every step, for so many steps an epoch: those of the factors in `groups`, and one for all else.
    pub(crate) fn schedule(
        &self,
        steps_per_epoch: usize,
        groups: Vec<(f64, ParamGroup)>,
    ) -> Result<ModuleLrScheduler, TrainingError> {
        let mut schedule = ModuleLrSchedulerConfig::new(self.rates(steps_per_epoch, 1.0));
        if self.factor_rates > 0.0 {
            for (scale, group) in groups {
                schedule = schedule.with_group(group, self.rates(steps_per_epoch, scale.powf(self.factor_rates)));
            }
        }
        schedule.init().map_err(|_| TrainingError::Recipe {
            name: "lr",
            value: self.lr.to_string(),
            expected: "the schedule needs rates from 0 to 1, those of the factors included",
        })
    }

    fn rates(&self, steps_per_epoch: usize, scale: f64) -> LrSchedulerConfig {
        let (peak, min) = (self.lr * scale, self.min_lr * scale);
        let steps = (self.epochs * steps_per_epoch).max(1);
        let warmup = ((self.warmup_epochs * steps_per_epoch as f64) as usize).min(steps - 1);
        let cosine = CosineAnnealingLrSchedulerConfig::new(peak, (steps - warmup).max(1)).with_min_lr(min);
        if warmup == 0 {
            return LrSchedulerConfig::Cosine(cosine);
        }
        let linear = LinearLrSchedulerConfig::new(peak / warmup as f64, peak, warmup);
        let schedulers = vec![LrSchedulerConfig::Linear(linear), LrSchedulerConfig::Cosine(cosine)];
        LrSchedulerConfig::Sequential(SequentialLrSchedulerConfig::new(schedulers, vec![warmup]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::module::ParamId;

    #[test]
    fn values_out_of_range_are_named() {
        let message = |recipe: Recipe| recipe.check().unwrap_err().to_string();
        assert!(message(Recipe { epochs: 0, ..Recipe::default() }).starts_with("epochs = 0"));
        assert!(message(Recipe { batch_size: 0, ..Recipe::default() }).starts_with("batch size = 0"));
        assert!(message(Recipe { lr: f64::NAN, ..Recipe::default() }).starts_with("lr = NaN"));
        assert!(message(Recipe { min_lr: 1.0, ..Recipe::default() }).starts_with("min lr = 1"));
        assert!(message(Recipe { warmup_epochs: 21.0, ..Recipe::default() }).starts_with("warm-up = 21"));
        assert!(Recipe::default().check().is_ok() && Recipe::blast_paper().check().is_ok());
    }

    #[test]
    fn factor_rate_out_of_range_is_an_error() {
        use burn_structured_nn::{LowRankLinearConfig, Rank};
        let layer = LowRankLinearConfig::new(64, 64).with_rank(Rank::Fixed(1)).init(&burn::tensor::Device::flex());
        let recipe = |lr, factor_rates| Recipe { lr, factor_rates, ..Recipe::default() };
        assert!(recipe(0.02, 0.0).check_for(&layer.factors()).is_ok());
        let error = recipe(0.02, 1.0).check_for(&layer.factors()).unwrap_err().to_string();
        assert!(error.starts_with("factor rates = 1"), "{error}");
    }

    #[test]
    fn every_length_of_warmup_has_a_schedule() {
        for (epochs, steps, warmup_epochs) in [(1, 1, 1.0), (2, 3, 0.0), (2, 3, 2.0), (5, 10, 0.5)] {
            let recipe = Recipe { epochs, warmup_epochs, ..Recipe::default() };
            let groups = vec![(4.0, ParamGroup::from_path("factor"))];
            assert!(
                recipe.schedule(steps, groups).is_ok(),
                "{epochs} epochs of {steps} steps, {warmup_epochs} of warm-up"
            );
        }
    }

    #[test]
    fn factors_have_rates_of_their_own() {
        let rates = |factor_rates: f64| {
            let recipe = Recipe { epochs: 1, warmup_epochs: 0.0, factor_rates, ..Recipe::default() };
            let groups = vec![(4.0, ParamGroup::from_path("factor"))];
            let rates = recipe.schedule(10, groups).unwrap().step();
            ["factor", "other"].map(|path| (rates.lr_from_param(ParamId::new(), Some(path)) * 1e4).round() as usize)
        };
        assert_eq!([rates(0.0), rates(0.5), rates(1.0)], [[10, 10], [20, 10], [40, 10]]);
    }
}
