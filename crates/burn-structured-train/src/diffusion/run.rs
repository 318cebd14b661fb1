//! A training run in a folder.

use super::learner::{DiffusionStep, noise_error};
use super::{DiffusionRecipe, NoiseSchedule, train_dit};
use crate::data::ImageSet;
use crate::training::{RunFolder, Settings, Start, TrainingError};
use burn::tensor::Device;
use burn_structured_models::dit::{Dit, DitConfig};
use serde::{Deserialize, Serialize};
use std::ops::ControlFlow;

/// Everything that decides how a run goes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DiffusionSettings {
    /// The model.
    pub model: DitConfig,
    /// The training.
    pub recipe: DiffusionRecipe,
    /// The name of the data.
    pub dataset: String,
    /// Training images.
    pub train_images: usize,
}

/// What a finished run achieved.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct DiffusionResult {
    /// Mean squared error of the predicted noise in the test images.
    pub noise_error: f64,
    /// Test images.
    pub test_images: usize,
    /// Seconds of the training.
    pub seconds: f64,
}

impl Settings for DiffusionSettings {
    type Result = DiffusionResult;
}

/// Trains the model of `settings` on `set`, and leaves its weights and result in `folder`.
///
/// Returns `None` if `progress` ended the training; the weights are then in [`RunFolder::interrupted_model`].
///
/// # Errors
///
/// If a setting cannot be used, or the folder cannot be written, is in use, or holds an earlier run that `start` does not drop.
/// There are no checkpoints, so that none can be continued.
pub fn run_diffusion(
    settings: &DiffusionSettings,
    set: &ImageSet,
    device: &Device,
    folder: &RunFolder,
    start: Start,
    progress: impl FnMut(&DiffusionStep) -> ControlFlow<()>,
) -> Result<Option<(Dit, DiffusionResult)>, TrainingError> {
    let recipe = &settings.recipe;
    device.seed(recipe.seed);
    let model = settings.model.try_init(device)?;
    recipe.check_for(&model.factors())?;
    let _prepared = folder.prepare(settings, start)?;
    let trained = train_dit(model, set, recipe, progress)?;
    if trained.stopped {
        folder.write_model(trained.model, folder.interrupted_model())?;
        return Ok(None);
    }
    let schedule = NoiseSchedule::new(recipe.schedule, recipe.times);
    let result = DiffusionResult {
        noise_error: noise_error(&trained.model, set, &schedule, recipe.batch_size, recipe.seed),
        test_images: set.test.len(),
        seconds: trained.steps.last().map_or(0.0, |step| step.seconds),
    };
    folder.write_model(trained.model.clone(), folder.model())?;
    folder.write_result(&result)?;
    Ok(Some((trained.model, result)))
}

/// Leaves a model of these `settings` in `folder`, as a finished run does: [`load_diffusion`] reads it.
///
/// # Errors
///
/// If the folder cannot be written, is in use, or holds an earlier run that `start` does not drop.
pub fn save_diffusion(
    model: Dit,
    settings: &DiffusionSettings,
    folder: &RunFolder,
    start: Start,
) -> Result<(), TrainingError> {
    let _prepared = folder.prepare(settings, start)?;
    folder.write_model(model, folder.model())
}

/// The model of a finished run, and its settings.
///
/// # Errors
///
/// If there is none.
pub fn load_diffusion(folder: &RunFolder, device: &Device) -> Result<(Dit, DiffusionSettings), TrainingError> {
    let settings: DiffusionSettings = folder.settings()?;
    let model = folder.load(settings.model.try_init(device)?)?;
    Ok((model, settings))
}
