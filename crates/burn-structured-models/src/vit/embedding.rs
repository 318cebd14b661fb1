//! From images to tokens.

use crate::patches::{check_images, to_patches};
use burn::config::Config;
use burn::module::{Module, Param};
use burn::nn::{Initializer, Linear, LinearConfig};
use burn::tensor::{Device, Tensor};

/// Configuration to create a [`PatchEmbedding`] using the [init function](PatchEmbeddingConfig::init).
#[derive(Config, Debug)]
pub struct PatchEmbeddingConfig {
    /// Side of the square images, in pixels.
    pub image_size: usize,
    /// Side of the square patches, in pixels; divides the image size.
    pub patch_size: usize,
    /// Colour channels of the images.
    pub channels: usize,
    /// Features of a token.
    pub d_model: usize,
}

/// Cuts images into patches, projects each to a token, and adds a class token and learned positions.
///
/// Should be created with [`PatchEmbeddingConfig`].
#[derive(Module, Debug)]
pub struct PatchEmbedding {
    /// From the pixels of a patch, channel by channel, to a token.
    pub projection: Linear,
    /// The class token `[1, 1, d_model]`, first of every sequence.
    pub class: Param<Tensor<3>>,
    /// Learned positions `[1, tokens, d_model]`.
    pub positions: Param<Tensor<3>>,
    patch_size: usize,
    grid: usize,
}

impl PatchEmbeddingConfig {
    /// Initialize a new [`PatchEmbedding`] module.
    ///
    /// # Panics
    ///
    /// If the patches do not tile the image.
    pub fn init(&self, device: &Device) -> PatchEmbedding {
        assert!(self.image_size.is_multiple_of(self.patch_size), "patches must tile the image");
        let grid = self.image_size / self.patch_size;
        let small = Initializer::Normal { mean: 0.0, std: 0.02 };
        PatchEmbedding {
            projection: LinearConfig::new(self.channels * self.patch_size.pow(2), self.d_model).init(device),
            class: small.init([1, 1, self.d_model], device),
            positions: small.init([1, grid * grid + 1, self.d_model], device),
            patch_size: self.patch_size,
            grid,
        }
    }
}

impl PatchEmbedding {
    /// Tokens `[batch, tokens, d_model]` of images `[batch, channels, image_size, image_size]`.
    ///
    /// # Panics
    ///
    /// If the images have another size or number of channels.
    pub fn forward(&self, images: Tensor<4>) -> Tensor<3> {
        let [d_patch, d_model] = self.projection.weight.shape().dims();
        check_images(&images, d_patch / self.patch_size.pow(2), self.grid * self.patch_size);
        let patches = to_patches(images, self.patch_size);
        let batch = patches.dims()[0];
        let class = self.class.val().expand([batch, 1, d_model]);
        Tensor::cat(vec![class, self.projection.forward(patches)], 1) + self.positions.val()
    }

    /// Tokens of one image, the class token included.
    pub fn tokens(&self) -> usize {
        self.grid * self.grid + 1
    }
}
