//! An MLP-Mixer whose linear layers are structured.
//!
//! Tokens are mixed by an MLP across them instead of attention (Tolstikhin et al., *MLP-Mixer: An all-MLP Architecture for Vision*, 2021).
//! The four linear layers of every block (`token_up`, `token_down`, `channel_up`, `channel_down`) each take a
//! [`Structure`](burn_structured_nn::Structure); the patch embedding and the classification head stay dense.

mod block;
mod config;
#[cfg(test)]
mod tests;

pub use block::{MixerBlock, MixerBlockConfig};
pub use config::MixerConfig;

use crate::ItemCost;
use crate::cost::params;
use crate::patches::{check_images, to_patches};
use burn::module::Module;
use burn::nn::{Dropout, LayerNorm, Linear};
use burn::tensor::Tensor;
use burn_structured_nn::{Factor, StructureError, on_pool, quantize};

/// An MLP-Mixer.
///
/// Should be created with [`MixerConfig`].
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_structured_models::mixer::MixerConfig;
///
/// let device = Device::flex();
/// let model = MixerConfig::small(10).with_structure("blast:b=4,ratio=0.33".parse().unwrap()).init(&device);
/// assert_eq!(model.forward(Tensor::zeros([1, 3, 32, 32], &device)).dims(), [1, 10]);
/// ```
#[derive(Module, Debug)]
pub struct Mixer {
    /// From the pixels of a patch, channel by channel, to a token.
    pub embedding: Linear,
    /// Dropout on the embedded tokens.
    pub dropout: Dropout,
    /// The blocks.
    pub blocks: Vec<MixerBlock>,
    /// The norm before the mean over the tokens.
    pub norm: LayerNorm,
    /// The classification head, on the mean.
    pub head: Linear,
    patch_size: usize,
    image_size: usize,
}

impl Mixer {
    /// Class logits of a batch of images.
    ///
    /// # Shapes
    ///
    /// - images: `[batch, channels, image_size, image_size]`
    /// - output: `[batch, classes]`
    ///
    /// # Panics
    ///
    /// If the images have another size or number of channels.
    pub fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let [d_patch, _] = self.embedding.weight.shape().dims();
        check_images(&images, d_patch / self.patch_size.pow(2), self.image_size);
        let device = images.device();
        on_pool(&device, || {
            let mut x = self.dropout.forward(self.embedding.forward(to_patches(images, self.patch_size)));
            for block in &self.blocks {
                x = block.forward(x);
            }
            self.head.forward(self.norm.forward(x).mean_dim(1).squeeze_dim::<2>(1))
        })
    }

    /// Tokens of one image.
    pub fn tokens(&self) -> usize {
        (self.image_size / self.patch_size).pow(2)
    }

    /// The same model with int8 weights in the MLPs of its blocks: for inference, see [`StructuredLinear::quantize`](burn_structured_nn::StructuredLinear::quantize).
    ///
    /// # Errors
    ///
    /// If the structure of a layer has no int8 form.
    pub fn quantize(mut self) -> Result<Self, StructureError> {
        quantize(self.blocks.iter_mut().flat_map(MixerBlock::linears_mut))?;
        Ok(self)
    }

    /// The factors of all structured layers, for an optimizer that gives each its own learning rate.
    pub fn factors(&self) -> Vec<Factor> {
        self.blocks.iter().flat_map(MixerBlock::factors).collect()
    }

    /// What one image costs.
    pub fn cost(&self) -> ItemCost {
        let [d_patch, d_model] = self.embedding.weight.shape().dims();
        let [_, classes] = self.head.weight.shape().dims();
        let cost = ItemCost {
            params: params(self, self.blocks.iter().flat_map(MixerBlock::linears)),
            other_flops: 2 * self.tokens() * d_patch * d_model + 2 * d_model * classes,
            ..ItemCost::default()
        };
        // Token mixing takes the features of an image for its tokens.
        self.blocks.iter().fold(cost, |cost, block| {
            cost.with_replaced(block.token_cost(), d_model).with_replaced(block.channel_cost(), self.tokens())
        })
    }
}
