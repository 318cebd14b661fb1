//! Learning-rate search by short runs, evaluated on held-out training images.
//!
//! Structures train best at different rates, so a comparison at one rate would favour some of them.

use super::{Interrupter, RunFolder, RunSettings, Start, TrainingError, train};
use crate::data::ImageSet;
use burn::tensor::Device;
use serde::{Deserialize, Serialize};

/// The share of the training images that trials are evaluated on.
const HELD_OUT: f64 = 0.1;

/// One learning rate and how far it got.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// The peak learning rate.
    pub lr: f64,
    /// Share of the held-out images classified correctly.
    pub accuracy: f64,
}

/// Trains the model of `settings` once with each of the peak `rates` (the lowest rate in proportion), for `epochs` epochs on
/// nine tenths of the training images, and returns the accuracy on the rest of them for each. Trials that `folder` holds
/// already are not repeated with [`Start::Resume`].
///
/// Returns `None` if `interrupter` stopped a trial.
///
/// # Errors
///
/// As [`train`].
#[allow(clippy::too_many_arguments, reason = "those of `train`, and the two that make it a search")]
pub fn search_learning_rate(
    settings: &RunSettings,
    set: &ImageSet,
    device: &Device,
    folder: &RunFolder,
    start: Start,
    interrupter: Interrupter,
    rates: &[f64],
    epochs: usize,
) -> Result<Option<Vec<Trial>>, TrainingError> {
    let set = set.hold_out(((set.train.len() as f64 * HELD_OUT) as usize).max(1), settings.recipe.seed);
    let trial = |lr: f64| {
        let mut settings = settings.clone();
        let recipe = &mut settings.recipe;
        // As the run itself, in fewer epochs.
        recipe.warmup_epochs *= epochs as f64 / recipe.epochs.max(1) as f64;
        recipe.min_lr = lr * recipe.min_lr / recipe.lr;
        (recipe.lr, recipe.epochs) = (lr, epochs);
        (settings.train_images, settings.test_images) = (set.train.len(), set.test.len());
        (settings, RunFolder::new(folder.path().join("search").join(format!("lr-{lr}"))))
    };
    // Settings that cannot be used are reported before the first trial.
    settings.recipe.check()?;
    folder.check(start)?;
    for (settings, folder) in rates.iter().map(|lr| trial(*lr)) {
        settings.recipe.check()?;
        folder.check(start)?;
    }
    let mut trials = Vec::new();
    for lr in rates {
        let (settings, folder) = trial(*lr);
        let finished = if start == Start::Resume { folder.finished(&settings)? } else { None };
        let result = match finished {
            Some(result) => Some(result),
            None => train(&settings, &set, device, &folder, start, interrupter.clone())?,
        };
        let Some(result) = result else { return Ok(None) };
        trials.push(Trial { lr: *lr, accuracy: result.test.accuracy });
    }
    Ok(Some(trials))
}

/// The rate of the best trial; of equal ones, the lowest.
pub fn best_learning_rate(trials: &[Trial]) -> Option<f64> {
    let better = |a: &&Trial, b: &&Trial| a.accuracy.total_cmp(&b.accuracy).then(b.lr.total_cmp(&a.lr));
    trials.iter().max_by(better).map(|trial| trial.lr)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn best_trial_has_the_lowest_rate_of_equals() {
        let trial = |lr, accuracy| Trial { lr, accuracy };
        assert_eq!(best_learning_rate(&[trial(1e-3, 0.4), trial(2e-3, 0.5), trial(4e-3, 0.3)]), Some(2e-3));
        assert_eq!(best_learning_rate(&[trial(2e-3, 0.5), trial(1e-3, 0.5)]), Some(1e-3));
        assert_eq!(best_learning_rate(&[]), None);
    }
}
