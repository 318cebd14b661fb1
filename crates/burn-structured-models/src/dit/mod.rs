//! A diffusion transformer whose linear layers are structured.
//!
//! A transformer over image patches that predicts the noise in an image, conditioned on the time and the class through adaptive layer norms
//! that start as zero, *adaLN-Zero* (Peebles and Xie, *Scalable Diffusion Models with Transformers*, 2023). The linear layers of every block
//! (`qkv`, `proj`, `fc1`, `fc2` and `modulation`) and of the conditioning (`time`) each take a [`Structure`](burn_structured_nn::Structure);
//! the patch embedding and the last layer, from features to pixels, stay dense. Training and sampling are in the crate
//! `burn-structured-train`.

mod block;
mod condition;
mod config;
#[cfg(test)]
mod tests;

pub use block::{DitBlock, DitBlockConfig, FinalLayer};
pub use condition::{ConditionEmbedding, sinusoidal};
pub use config::DitConfig;

use crate::ItemCost;
use crate::cost::params;
use crate::patches::{check_images, from_patches, to_patches};
use burn::module::{Module, Param};
use burn::nn::Linear;
use burn::tensor::Tensor;
use burn_structured_nn::{Factor, StructureError, StructuredLinear, on_pool, quantize};

/// A diffusion transformer.
///
/// Should be created with [`DitConfig`].
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_structured_models::dit::DitConfig;
///
/// let device = Device::flex();
/// let model = DitConfig::small(10).with_structure("blast:b=4,ratio=0.33".parse().unwrap()).init(&device);
/// let noisy = Tensor::zeros([2, 3, 32, 32], &device);
/// // The first image at time 999 and of class 4, the second at time 0 and of no class.
/// let noise = model.forward(noisy, &[999.0, 0.0], &[4, model.null_class()]);
/// assert_eq!(noise.dims(), [2, 3, 32, 32]);
/// ```
#[derive(Module, Debug)]
pub struct Dit {
    /// From the pixels of a patch, channel by channel, to a token.
    pub embedding: Linear,
    /// Positions `[1, tokens, d_model]`, which are not trained.
    pub positions: Param<Tensor<3>>,
    /// The embedding of time and class.
    pub condition: ConditionEmbedding,
    /// The transformer blocks.
    pub blocks: Vec<DitBlock>,
    /// From features to the pixels of a patch.
    pub last: FinalLayer,
    patch_size: usize,
    image_size: usize,
    channels: usize,
}

impl Dit {
    /// The noise in a batch of images.
    ///
    /// # Shapes
    ///
    /// - images: `[batch, channels, image_size, image_size]`
    /// - times, classes: one for each image; [`null_class`](Self::null_class) is no class
    /// - output: as the images
    ///
    /// # Panics
    ///
    /// If the images have another size or number of channels, there are not as many times and classes as images, or there is no such class.
    pub fn forward(&self, images: Tensor<4>, times: &[f64], classes: &[usize]) -> Tensor<4> {
        check_images(&images, self.channels, self.image_size);
        let device = images.device();
        on_pool(&device, || {
            let condition = self.condition.forward(times, classes);
            let mut x = self.embedding.forward(to_patches(images, self.patch_size)) + self.positions.val();
            for block in &self.blocks {
                x = block.forward(x, condition.clone());
            }
            from_patches(self.last.forward(x, condition), self.channels, self.patch_size)
        })
    }

    /// The class that stands for none.
    pub fn null_class(&self) -> usize {
        self.condition.classes.weight.shape()[0] - 1
    }

    /// `[channels, height, width]` of its images.
    pub fn image_shape(&self) -> [usize; 3] {
        [self.channels, self.image_size, self.image_size]
    }

    /// Tokens of one image.
    pub fn tokens(&self) -> usize {
        (self.image_size / self.patch_size).pow(2)
    }

    /// The linear layers that take a structure, by name.
    pub fn linears(&self) -> impl Iterator<Item = (String, &StructuredLinear)> {
        let blocks = self.blocks.iter().enumerate().flat_map(|(index, block)| {
            block.linears().into_iter().map(move |(name, layer)| (format!("blocks.{index}.{name}"), layer))
        });
        let condition = [("condition.up", &self.condition.up), ("condition.down", &self.condition.down)];
        let named = condition.map(|(name, layer)| (name.to_string(), layer)).into_iter();
        named.chain(blocks).chain([("last.modulation".to_string(), &self.last.modulation)])
    }

    /// The linear layers that take a structure, by name and in the order of [`linears`](Self::linears), to be replaced.
    pub fn linears_mut(&mut self) -> impl Iterator<Item = (String, &mut StructuredLinear)> {
        let blocks = self.blocks.iter_mut().enumerate().flat_map(|(index, block)| {
            block.linears_mut().into_iter().map(move |(name, layer)| (format!("blocks.{index}.{name}"), layer))
        });
        let condition = [("condition.up", &mut self.condition.up), ("condition.down", &mut self.condition.down)];
        let named = condition.map(|(name, layer)| (name.to_string(), layer)).into_iter();
        named.chain(blocks).chain([("last.modulation".to_string(), &mut self.last.modulation)])
    }

    /// The same model with int8 weights in the layers that take a structure: for inference, see [`StructuredLinear::quantize`].
    ///
    /// # Errors
    ///
    /// If the structure of a layer has no int8 form.
    pub fn quantize(mut self) -> Result<Self, StructureError> {
        quantize(self.linears_mut().map(|(_, layer)| layer))?;
        Ok(self)
    }

    /// The factors of all structured layers, for an optimizer that gives each its own learning rate.
    pub fn factors(&self) -> Vec<Factor> {
        self.linears().flat_map(|(_, layer)| layer.factors()).collect()
    }

    /// What the noise in one image costs.
    pub fn cost(&self) -> ItemCost {
        let tokens = self.tokens();
        let [d_patch, d_model] = self.embedding.weight.shape().dims();
        let attention: usize = self.blocks.iter().map(|block| block.attention.product_flops(tokens)).sum();
        let cost = ItemCost {
            params: params(self, self.linears().map(|(_, layer)| layer)),
            other_flops: attention + 2 * 2 * tokens * d_patch * d_model,
            ..ItemCost::default()
        };
        // What depends on time and class alone is computed once for all tokens.
        let once = |name: &str| name.ends_with("modulation") || name.starts_with("condition");
        self.linears()
            .fold(cost, |cost, (name, layer)| cost.with_replaced(layer.cost(), if once(&name) { 1 } else { tokens }))
    }
}
