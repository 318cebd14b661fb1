//! The models that can be trained as image classifiers.

use crate::comparison::ModelCost;
use burn::module::{Module, ModuleDisplay};
use burn::tensor::{Device, Tensor};
use burn_structured_models::ModelError;
use burn_structured_models::mixer::{Mixer, MixerConfig};
use burn_structured_models::vit::{ViT, ViTConfig};
use burn_structured_nn::Factor;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The settings of an image classifier.
pub trait ClassifierConfig: Clone + Serialize + DeserializeOwned {
    /// The model.
    type Model: ImageClassifier;

    /// The name of the architecture, such as `vit`; runs of different ones cannot resume each other.
    const NAME: &'static str;

    /// Initialize a new model.
    ///
    /// # Errors
    ///
    /// If a setting cannot be used, or a structure does not fit its layer.
    fn try_init(&self, device: &Device) -> Result<Self::Model, ModelError>;
}

/// An image classifier.
pub trait ImageClassifier: Module + ModuleDisplay + 'static {
    /// Class logits `[batch, classes]` of images `[batch, channels, height, width]`.
    fn forward(&self, images: Tensor<4>) -> Tensor<2>;

    /// The factors of all structured layers, for an optimizer that gives each its own learning rate.
    fn factors(&self) -> Vec<Factor>;

    /// What one image costs.
    fn cost(&self) -> ModelCost;
}

macro_rules! classifier {
    ($Config:ident, $Model:ident, $name:literal) => {
        impl ClassifierConfig for $Config {
            type Model = $Model;

            const NAME: &'static str = $name;

            fn try_init(&self, device: &Device) -> Result<$Model, ModelError> {
                $Config::try_init(self, device)
            }
        }

        impl ImageClassifier for $Model {
            fn forward(&self, images: Tensor<4>) -> Tensor<2> {
                $Model::forward(self, images)
            }

            fn factors(&self) -> Vec<Factor> {
                $Model::factors(self)
            }

            fn cost(&self) -> ModelCost {
                $Model::cost(self).into()
            }
        }
    };
}

classifier!(ViTConfig, ViT, "vit");
classifier!(MixerConfig, Mixer, "mixer");
