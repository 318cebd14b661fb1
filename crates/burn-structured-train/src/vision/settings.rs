//! What decides a run, and what a finished one achieved.

use super::{Evaluation, Recipe};
use crate::training::Settings;
use burn_structured_models::vit::ViTConfig;
use serde::{Deserialize, Serialize};

/// Everything that decides how a run goes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunSettings {
    /// The model.
    pub model: ViTConfig,
    /// The training.
    pub recipe: Recipe,
    /// The data: its name and the number of training and test images.
    pub dataset: String,
    /// Training images.
    pub train_images: usize,
    /// Test images.
    pub test_images: usize,
}

/// What a finished run achieved.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunResult {
    /// Epochs trained.
    pub epochs: usize,
    /// The last epoch's weights on the test images.
    pub test: Evaluation,
    /// Images a second in training, data loading included; `None` if this process trained no complete epoch.
    pub training_images_per_second: Option<f64>,
}

impl Settings for RunSettings {
    type Result = RunResult;
}
