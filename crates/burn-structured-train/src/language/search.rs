//! Learning-rate search by short runs, evaluated on held-out training tokens.

use super::{LanguageResult, LanguageSettings, Launch, TokenData, train_language};
use crate::training::{RunFolder, TrainingError, lowest_best, run_trials};
use serde::{Deserialize, Serialize};

/// The share of the training tokens, at their end, that trials are evaluated on.
const HELD_OUT: f64 = 0.1;

/// One learning rate and how far it got.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// The peak learning rate.
    pub lr: f64,
    /// Loss on the held-out tokens.
    pub loss: f64,
}

/// Trains the model of `settings` once with each of the peak `rates` (the lowest rate in proportion), for `steps` steps on the
/// first nine tenths of the training tokens, and returns the loss on the rest of them for each. The validation tokens have no
/// part in it. Trials that the folder holds already are not repeated with [`Start::Resume`](crate::training::Start::Resume).
///
/// Returns `None` if the interrupter stopped a trial.
///
/// # Errors
///
/// As [`train_language`].
pub fn search_learning_rate(
    settings: &LanguageSettings,
    data: &TokenData,
    launch: &Launch,
    rates: &[f64],
    steps: usize,
) -> Result<Option<Vec<Trial>>, TrainingError> {
    let data = data.hold_out(HELD_OUT);
    let trial = |lr: f64| {
        let mut settings = settings.clone();
        let recipe = &mut settings.recipe;
        // As the run itself, in fewer steps.
        recipe.warmup_steps = recipe.warmup_steps * steps / recipe.steps.max(1);
        recipe.min_lr = lr * recipe.min_lr / recipe.lr;
        (recipe.lr, recipe.steps, recipe.eval_interval) = (lr, steps, recipe.eval_interval.min(steps));
        (settings.train_tokens, settings.validation_tokens) = (data.train.len(), data.validation.len());
        settings
    };
    // Settings that cannot be used are reported before the first trial.
    settings.recipe.check()?;
    let check = |settings: &LanguageSettings| settings.recipe.check();
    let run = |settings: &LanguageSettings, folder: &RunFolder| {
        train_language(settings, &data, &launch.in_folder(folder.clone()))
    };
    let trials = run_trials(&launch.folder, launch.start, rates, trial, check, run)?;
    let loss = |(lr, result): (f64, LanguageResult)| Trial { lr, loss: result.validation.loss };
    Ok(trials.map(|trials| trials.into_iter().map(loss).collect()))
}

/// The rate of the best trial; of equal ones, the lowest. A trial that diverged is the worst.
pub fn best_learning_rate(trials: &[Trial]) -> Option<f64> {
    let score = |loss: f64| if loss.is_nan() { f64::NEG_INFINITY } else { -loss };
    lowest_best(trials.iter().map(|trial| (trial.lr, score(trial.loss))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn best_trial_has_the_lowest_loss_and_rate() {
        let trial = |lr, loss| Trial { lr, loss };
        assert_eq!(best_learning_rate(&[trial(1e-3, 2.4), trial(2e-3, 2.1), trial(4e-3, 5.0)]), Some(2e-3));
        assert_eq!(best_learning_rate(&[trial(2e-3, 2.0), trial(1e-3, 2.0)]), Some(1e-3));
        assert_eq!(best_learning_rate(&[trial(2e-3, 2.0), trial(1e-3, -f64::NAN)]), Some(2e-3));
        assert_eq!(best_learning_rate(&[]), None);
    }
}
