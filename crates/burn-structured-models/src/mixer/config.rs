//! The settings of a Mixer.

use super::{Mixer, MixerBlockConfig};
use crate::ModelError;
use crate::drop_path::share_of_depth;
use burn::config::Config;
use burn::nn::{DropoutConfig, LayerNormConfig, LinearConfig};
use burn::tensor::Device;
use burn_structured_nn::Structure;

/// Configuration to create a [`Mixer`] using the [init function](MixerConfig::init).
#[derive(Config, Debug, PartialEq)]
pub struct MixerConfig {
    /// Number of classes.
    pub classes: usize,
    /// Side of the square images, in pixels.
    #[config(default = 32)]
    pub image_size: usize,
    /// Colour channels of the images.
    #[config(default = 3)]
    pub channels: usize,
    /// Side of the square patches, in pixels; divides the image size.
    #[config(default = 4)]
    pub patch_size: usize,
    /// Features of a token.
    #[config(default = 128)]
    pub d_model: usize,
    /// Number of blocks.
    #[config(default = 4)]
    pub depth: usize,
    /// Hidden features of the token-mixing MLPs, relative to `d_model`.
    #[config(default = 0.5)]
    pub token_ratio: f64,
    /// Hidden features of the channel-mixing MLPs, relative to `d_model`.
    #[config(default = 4.0)]
    pub channel_ratio: f64,
    /// Dropout probability after the embedding and each layer of the MLPs.
    #[config(default = 0.0)]
    pub dropout: f64,
    /// Probability of skipping the last block's branches; earlier blocks skip proportionally less.
    #[config(default = 0.0)]
    pub drop_path: f64,
    /// Structure of the first token-mixing layer.
    #[config(default = "Structure::Dense")]
    pub token_up: Structure,
    /// Structure of the second token-mixing layer.
    #[config(default = "Structure::Dense")]
    pub token_down: Structure,
    /// Structure of the first channel-mixing layer.
    #[config(default = "Structure::Dense")]
    pub channel_up: Structure,
    /// Structure of the second channel-mixing layer.
    #[config(default = "Structure::Dense")]
    pub channel_down: Structure,
}

impl MixerConfig {
    /// A model that two CPU cores can train: dim 128, depth 4, patch 4.
    pub fn small(classes: usize) -> Self {
        Self::new(classes)
    }

    /// Mixer-S of the paper on images of 32×32: dim 512, depth 8, patch 4.
    pub fn cifar_mixer_s(classes: usize) -> Self {
        Self::new(classes).with_d_model(512).with_depth(8)
    }

    /// Mixer-S/16 for 224×224 images: dim 512, depth 8.
    pub fn mixer_s(classes: usize) -> Self {
        Self::cifar_mixer_s(classes).with_image_size(224).with_patch_size(16)
    }

    /// Mixer-B/16 for 224×224 images: dim 768, depth 12.
    pub fn mixer_b(classes: usize) -> Self {
        Self::mixer_s(classes).with_d_model(768).with_depth(12)
    }

    /// The same model with all four linear layers of every block of one structure.
    pub fn with_structure(self, structure: Structure) -> Self {
        self.with_token_up(structure).with_token_down(structure).with_channel_up(structure).with_channel_down(structure)
    }

    /// Tokens of one image.
    pub fn tokens(&self) -> usize {
        (self.image_size / self.patch_size).pow(2)
    }

    /// Initialize a new [`Mixer`] module.
    ///
    /// # Panics
    ///
    /// Where [`try_init`](Self::try_init) returns an error.
    pub fn init(&self, device: &Device) -> Mixer {
        self.try_init(device).unwrap_or_else(|error| panic!("Mixer: {error}"))
    }

    /// Initialize a new [`Mixer`] module.
    ///
    /// # Errors
    ///
    /// If a size is zero, the patches do not tile the image, a probability is outside `[0, 1)`, or a structure does not fit its layer.
    pub fn try_init(&self, device: &Device) -> Result<Mixer, ModelError> {
        self.check()?;
        let hidden = |ratio: f64| (self.d_model as f64 * ratio) as usize;
        let block = |index: usize| {
            let sizes = [hidden(self.token_ratio), hidden(self.channel_ratio)];
            MixerBlockConfig::new(self.tokens(), self.d_model, sizes[0], sizes[1])
                .with_dropout(self.dropout)
                .with_drop_path(self.drop_path * share_of_depth(index, self.depth))
                .with_token_up(self.token_up)
                .with_token_down(self.token_down)
                .with_channel_up(self.channel_up)
                .with_channel_down(self.channel_down)
                .try_init(device)
        };
        Ok(Mixer {
            embedding: LinearConfig::new(self.channels * self.patch_size.pow(2), self.d_model).init(device),
            dropout: DropoutConfig::new(self.dropout).init(),
            blocks: (0..self.depth).map(block).collect::<Result<_, _>>()?,
            norm: LayerNormConfig::new(self.d_model).init(device),
            head: LinearConfig::new(self.d_model, self.classes).init(device),
            patch_size: self.patch_size,
            image_size: self.image_size,
        })
    }

    fn check(&self) -> Result<(), ModelError> {
        ModelError::check_positive(&[
            ("classes", self.classes),
            ("image_size", self.image_size),
            ("channels", self.channels),
            ("patch_size", self.patch_size),
            ("d_model", self.d_model),
            ("depth", self.depth),
        ])?;
        ModelError::check_divides(("patch_size", self.patch_size), ("image_size", self.image_size))?;
        for ratio in [("token_ratio", self.token_ratio), ("channel_ratio", self.channel_ratio)] {
            ModelError::check_ratio(ratio, self.d_model, "leaves an MLP no hidden features")?;
        }
        ModelError::check_probabilities(&[("dropout", self.dropout), ("drop_path", self.drop_path)])
    }
}
