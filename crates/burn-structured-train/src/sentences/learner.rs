//! The training.

use super::{FineTuneConfig, TokenPairs};
use crate::language::{ParameterGroups, WarmupCosine, clip_global_norm};
use crate::training::TrainingError;
use burn::module::Module;
use burn::optim::{AdamWConfig, GradientsParams};
use burn_structured_models::bert::Bert;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};
use std::ops::ControlFlow;
use std::time::Instant;

/// One step of a fine-tuning.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FineTuneStep {
    /// The step, from 1.
    pub step: usize,
    /// Steps of the whole training.
    pub steps: usize,
    /// The loss of the batch, before the step.
    pub loss: f64,
    /// The learning rate.
    pub lr: f64,
}

/// What an epoch came to.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochScore {
    /// Mean loss of its pairs, each before the step that it was in.
    pub loss: f64,
    /// Spearman's correlation on the held-out pairs after it.
    pub spearman: f64,
}

/// A fine-tuned model.
#[derive(Clone, Debug)]
pub struct FineTuned {
    /// The model after the last step, without a tape.
    pub model: Bert,
    /// The epochs.
    pub epochs: Vec<EpochScore>,
    /// Seconds of the training, without the scores.
    pub seconds: f64,
    /// Whether `progress` ended the training before its last step.
    pub stopped: bool,
}

/// Trains `model` on the pairs of `train`, and scores it on those of `held_out` after every epoch.
///
/// Pairs of similar lengths share a batch, and the batches of an epoch come in an order that the seed decides. The weights after the last
/// step are the result, whatever the scores before: `held_out` chooses nothing. `progress` sees every step, and ends the training
/// when it breaks.
///
/// # Errors
///
/// If a setting is out of range, there is no pair to train on, a score is not from 0 to 5, a sentence has no tokens, the pairs of
/// `held_out` cannot be [ranked](TokenPairs::spearman), or the training diverges.
///
/// # Panics
///
/// If a sentence has more tokens than the model has positions, or a token that is not in its vocabulary.
pub fn fine_tune(
    model: Bert,
    train: &TokenPairs,
    held_out: &TokenPairs,
    config: &FineTuneConfig,
    mut progress: impl FnMut(&FineTuneStep) -> ControlFlow<()>,
) -> Result<FineTuned, TrainingError> {
    config.check()?;
    train.check()?;
    if train.is_empty() {
        return Err(TrainingError::Sentences {
            reason: "there is no sentence pair to train on; give at least one".into(),
        });
    }
    let mut model = model.train();
    if !config.embeddings {
        model.embeddings = model.embeddings.no_grad();
    }
    let device = model.device();
    let adam = AdamWConfig::new().with_epsilon(1e-8);
    let mut optimizer = ParameterGroups::of(&model, "layers").adamw(&adam, config.weight_decay);
    let steps = config.epochs * train.len().div_ceil(config.batch_size);
    let schedule = WarmupCosine {
        peak: config.lr,
        min: config.lr / 100.0,
        warmup: (config.warmup * steps as f64).floor(),
        total: steps as f64,
    };
    let mut rng = StdRng::seed_from_u64(config.seed);
    let (mut epochs, mut seconds, mut step, mut stopped) = (Vec::new(), 0.0, 0, false);
    'training: for _ in 0..config.epochs {
        let (started, mut sum) = (Instant::now(), 0.0);
        for pairs in train.epoch(config.batch_size, &mut rng) {
            let lr = schedule.rate(step as f64);
            step += 1;
            let loss = train.batch(&pairs, &device).loss(&model);
            let value = loss.clone().without_autodiff().into_scalar::<f64>();
            if !value.is_finite() {
                return Err(TrainingError::Diverged { step, lr });
            }
            sum += value * pairs.len() as f64;
            let gradients = GradientsParams::from_grads(loss.backward(), &model);
            let gradients = clip_global_norm(&model, gradients, config.clip);
            model = optimizer.step(lr, model, gradients);
            if progress(&FineTuneStep { step, steps, loss: value, lr }).is_break() && step < steps {
                seconds += started.elapsed().as_secs_f64();
                stopped = true;
                break 'training;
            }
        }
        seconds += started.elapsed().as_secs_f64();
        let spearman = held_out.spearman(&model.valid())?;
        epochs.push(EpochScore { loss: sum / train.len() as f64, spearman });
    }
    Ok(FineTuned { model: model.valid(), epochs, seconds, stopped })
}

impl TokenPairs {
    /// The batches of an epoch: all pairs once, those of similar lengths together.
    pub(super) fn epoch(&self, batch_size: usize, rng: &mut StdRng) -> Vec<Vec<usize>> {
        let mut order: Vec<usize> = (0..self.len()).collect();
        order.shuffle(rng);
        // A stable sort leaves pairs of one length in the order that was drawn.
        order.sort_by_key(|pair| self.length(*pair));
        let mut batches: Vec<Vec<usize>> = order.chunks(batch_size).map(<[usize]>::to_vec).collect();
        batches.shuffle(rng);
        batches
    }
}
