//! The settings of a training run.

use super::schedule::WarmupCosine;
use crate::training::{TrainingError, check_factor_rates};
use burn_structured_nn::Factor;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// What updates the weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Optimizer {
    /// AdamW for all parameters.
    #[default]
    AdamW,
    /// Muon for the two-dimensional weights and factors of the transformer blocks, AdamW for everything else: embeddings,
    /// head, biases, norms, and the three-dimensional factors of blocked structures.
    Muon,
}

/// The type of the numbers that a model computes with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32-bit floats.
    #[default]
    F32,
    /// bfloat16 in the forward and backward pass; the weights that the optimizer updates, its state, the logits' softmax and
    /// the loss stay in 32 bits.
    Bf16,
}

/// Optimizer, schedule and evaluation of a language model: AdamW or Muon, linear warm-up, then a cosine down to the minimum.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LanguageRecipe {
    /// Updates of the weights.
    pub steps: usize,
    /// Sequences of a step, on all devices together.
    pub batch_size: usize,
    /// Parts that the sequences of a step are cut into and computed one after another, to save memory. The result is the same
    /// up to rounding.
    pub accumulation: usize,
    /// Peak learning rate.
    pub lr: f64,
    /// Learning rate at the end.
    pub min_lr: f64,
    /// Steps of linear warm-up.
    pub warmup_steps: usize,
    /// What updates the weights.
    pub optimizer: Optimizer,
    /// Decay of AdamW's mean of the gradients.
    pub beta_1: f64,
    /// Decay of AdamW's mean of their squares.
    pub beta_2: f64,
    /// Decoupled weight decay of the parameters with at least two dimensions: weights, factors and embeddings.
    pub weight_decay: f64,
    /// How far each factor of a structured layer gets a learning rate of its own, from 0 (one rate for all) to 1 (in
    /// inverse proportion to the features it sums, see [`Factor`]); dense layers are not affected.
    pub factor_rates: f64,
    /// Largest norm of all gradients together; larger ones are scaled down. `None` leaves them alone.
    pub clip_norm: Option<f64>,
    /// Whether the backward pass recomputes what cheap operations gave, instead of storing it: Burn's balanced gradient
    /// checkpointing.
    pub gradient_checkpointing: bool,
    /// The type of the numbers that the model computes with.
    pub precision: Precision,
    /// Seed of the initial weights, the windows and dropout.
    pub seed: u64,
    /// Steps between two evaluations, after each of which a checkpoint is saved.
    pub eval_interval: usize,
    /// Batches of such an evaluation, from windows spread evenly over the validation tokens.
    pub eval_batches: usize,
    /// New tokens of each window in the evaluation of the finished model, by a sliding window; 0 is the whole context.
    pub eval_stride: usize,
}

impl Default for LanguageRecipe {
    /// What suits a model of a few hundred thousand parameters and some minutes on a CPU.
    fn default() -> Self {
        Self { steps: 500, eval_interval: 100, ..Self::nano_gpt_cpu() }
    }
}

impl LanguageRecipe {
    /// nanoGPT's setting for tiny Shakespeare on a CPU: 2,000 steps of 12 sequences, AdamW 1e-3 with β = (0.9, 0.99), weight
    /// decay 0.1, 100 steps of warm-up, clipping at 1.
    pub fn nano_gpt_cpu() -> Self {
        Self {
            steps: 2000,
            batch_size: 12,
            accumulation: 1,
            lr: 1e-3,
            min_lr: 1e-4,
            warmup_steps: 100,
            optimizer: Optimizer::AdamW,
            beta_1: 0.9,
            beta_2: 0.99,
            weight_decay: 0.1,
            factor_rates: 0.0,
            clip_norm: Some(1.0),
            gradient_checkpointing: false,
            precision: Precision::F32,
            seed: 42,
            eval_interval: 250,
            eval_batches: 20,
            eval_stride: 0,
        }
    }

    /// nanoGPT's setting for GPT-2 124M on OpenWebText: 600,000 steps of 480 sequences in 40 parts, AdamW 6e-4 with
    /// β = (0.9, 0.95), weight decay 0.1, 2,000 steps of warm-up, clipping at 1, bf16.
    pub fn gpt2_small() -> Self {
        Self {
            steps: 600_000,
            batch_size: 480,
            accumulation: 40,
            lr: 6e-4,
            min_lr: 6e-5,
            warmup_steps: 2000,
            beta_2: 0.95,
            precision: Precision::Bf16,
            eval_interval: 1000,
            eval_batches: 200,
            ..Self::nano_gpt_cpu()
        }
    }

    /// Sequences that are computed together, on all devices.
    pub fn part(&self) -> usize {
        self.batch_size / self.accumulation.max(1)
    }

    /// Evaluations, and checkpoints, of the whole run.
    pub(super) fn epochs(&self) -> usize {
        self.steps.div_ceil(self.eval_interval)
    }

    pub(super) fn schedule(&self) -> WarmupCosine {
        WarmupCosine { peak: self.lr, min: self.min_lr, warmup: self.warmup_steps as f64, total: self.steps as f64 }
    }

    /// Whether these numbers can train a model with these `factors` on so many devices.
    ///
    /// # Errors
    ///
    /// If a number is out of range, the rate of a factor is, or the sequences of a step cannot be shared equally; the message
    /// names the setting.
    pub fn check_for(&self, factors: &[Factor], devices: usize) -> Result<(), TrainingError> {
        self.check()?;
        if !self.part().is_multiple_of(devices.max(1)) {
            let expected =
                "give every device the same number of sequences: a multiple of the devices times the accumulation";
            return Err(TrainingError::Recipe { name: "batch size", value: self.batch_size.to_string(), expected });
        }
        check_factor_rates(self.lr, self.factor_rates, factors)
    }

    /// Checks that every number is within its range.
    pub(crate) fn check(&self) -> Result<(), TrainingError> {
        let error = |name, value: &dyn fmt::Display, expected| {
            Err(TrainingError::Recipe { name, value: value.to_string(), expected })
        };
        for (name, value) in [
            ("steps", self.steps),
            ("batch size", self.batch_size),
            ("accumulation", self.accumulation),
            ("evaluation interval", self.eval_interval),
            ("evaluation batches", self.eval_batches),
        ] {
            if value == 0 {
                return error(name, &value, "give at least 1");
            }
        }
        if !self.batch_size.is_multiple_of(self.accumulation) {
            return error("accumulation", &self.accumulation, "give a divisor of the batch size");
        }
        if !(self.lr > 0.0 && self.lr <= 1.0) {
            return error("lr", &self.lr, "give a learning rate above 0 and at most 1, such as 0.001");
        }
        if !(self.min_lr >= 0.0 && self.min_lr <= self.lr) {
            return error("min lr", &self.min_lr, "give a rate from 0 to the peak learning rate");
        }
        if self.warmup_steps > self.steps {
            return error("warm-up", &self.warmup_steps, "give a number of steps from 0 to all of them");
        }
        for (name, beta) in [("beta 1", self.beta_1), ("beta 2", self.beta_2)] {
            if !(0.0..1.0).contains(&beta) {
                return error(name, &beta, "give a number from 0 and below 1");
            }
        }
        if !(self.factor_rates >= 0.0 && self.factor_rates <= 1.0) {
            return error("factor rates", &self.factor_rates, "give a number from 0 to 1");
        }
        if !(self.weight_decay >= 0.0 && self.weight_decay.is_finite()) {
            return error("weight decay", &self.weight_decay, "give a number from 0 up");
        }
        match self.clip_norm {
            Some(norm) if !(norm > 0.0 && norm.is_finite()) => {
                error("clip norm", &norm, "give a number above 0, or none to leave the gradients alone")
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Optimizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AdamW => "adamw",
            Self::Muon => "muon",
        })
    }
}

impl FromStr for Optimizer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = [Self::AdamW, Self::Muon];
        let found = all.into_iter().find(|optimizer| optimizer.to_string() == text);
        found.ok_or_else(|| format!("unknown optimizer `{text}`; write adamw or muon"))
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        })
    }
}

impl FromStr for Precision {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = [Self::F32, Self::Bf16];
        let found = all.into_iter().find(|precision| precision.to_string() == text);
        found.ok_or_else(|| format!("unknown precision `{text}`; write f32 or bf16"))
    }
}
