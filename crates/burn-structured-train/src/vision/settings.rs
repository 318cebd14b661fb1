//! What decides a run, and what a finished one achieved.

use super::{ClassifierConfig, Evaluation, Recipe};
use crate::data::ImageSet;
use crate::training::Settings;
use serde::{Deserialize, Serialize};

/// Everything that decides how a run goes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunSettings<C> {
    /// The architecture of the model: its [`ClassifierConfig::NAME`].
    #[serde(default = "vit")]
    architecture: String,
    /// The model.
    pub model: C,
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

/// Runs from before there was a choice.
fn vit() -> String {
    "vit".into()
}

impl<C: ClassifierConfig> RunSettings<C> {
    /// The settings of a run that trains `model` on the images of `set`.
    pub fn new(model: C, recipe: Recipe, set: &ImageSet) -> Self {
        Self {
            architecture: C::NAME.into(),
            model,
            recipe,
            dataset: set.name.clone(),
            train_images: set.train.len(),
            test_images: set.test.len(),
        }
    }
}

impl<C: ClassifierConfig> Settings for RunSettings<C> {
    type Result = RunResult;
}
