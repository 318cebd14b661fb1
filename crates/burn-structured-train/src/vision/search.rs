//! Learning-rate search by short runs, evaluated on held-out training images.

use super::{ClassifierConfig, RunResult, RunSettings, train};
use crate::data::ImageSet;
use crate::training::{Interrupter, RunFolder, Start, TrainingError, lowest_best, run_trials};
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
pub fn search_learning_rate<C: ClassifierConfig>(
    settings: &RunSettings<C>,
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
        settings
    };
    // Settings that cannot be used are reported before the first trial.
    settings.recipe.check()?;
    let check = |settings: &RunSettings<C>| settings.recipe.check();
    let run = |settings: &RunSettings<C>, folder: &RunFolder| {
        train(settings, &set, device, folder, start, interrupter.clone())
    };
    let trials = run_trials(folder, start, rates, trial, check, run)?;
    let accuracy = |(lr, result): (f64, RunResult)| Trial { lr, accuracy: result.test.accuracy };
    Ok(trials.map(|trials| trials.into_iter().map(accuracy).collect()))
}

/// The rate of the best trial; of equal ones, the lowest.
pub fn best_learning_rate(trials: &[Trial]) -> Option<f64> {
    lowest_best(trials.iter().map(|trial| (trial.lr, trial.accuracy)))
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
