//! A vision transformer whose linear layers are structured.
//!
//! Pre-norm, class token, learned positions (Dosovitskiy et al., *An Image is Worth 16×16 Words*, 2021), with dropout and
//! stochastic depth. The four linear layers of every block (`qkv`, `proj`, `fc1`, `fc2`) each take a [`Structure`]; the
//! patch embedding and the classification head stay dense, as in the BLAST paper's experiments.

mod attention;
mod block;
mod embedding;

use crate::drop_path::share_of_depth;
pub use crate::drop_path::{DropPath, DropPathConfig};
pub use attention::{Attention, AttentionConfig};
pub use block::{Block, BlockConfig};
pub use embedding::{PatchEmbedding, PatchEmbeddingConfig};

use crate::ModelError;
use crate::cost::params;
use burn::config::Config;
use burn::module::Module;
use burn::nn::{Dropout, DropoutConfig, LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::{Device, Tensor};
use burn_structured_nn::{Cost, Factor, Structure, StructureError, on_pool, quantize};

/// Configuration to create a [`ViT`] using the [init function](ViTConfig::init).
#[derive(Config, Debug, PartialEq)]
pub struct ViTConfig {
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
    /// Attention heads; divides `d_model`.
    #[config(default = 4)]
    pub heads: usize,
    /// Features between `fc1` and `fc2`, relative to `d_model`.
    #[config(default = 3.0)]
    pub mlp_ratio: f64,
    /// Dropout probability after the embedding, `proj`, `fc1` and `fc2`.
    #[config(default = 0.0)]
    pub dropout: f64,
    /// Probability of skipping the last block's branches; earlier blocks skip proportionally less.
    #[config(default = 0.0)]
    pub drop_path: f64,
    /// Structure of the query, key and value projections, which are one layer.
    #[config(default = "Structure::Dense")]
    pub qkv: Structure,
    /// Structure of the attention's output projection.
    #[config(default = "Structure::Dense")]
    pub proj: Structure,
    /// Structure of the first MLP layer.
    #[config(default = "Structure::Dense")]
    pub fc1: Structure,
    /// Structure of the second MLP layer.
    #[config(default = "Structure::Dense")]
    pub fc2: Structure,
}

/// A vision transformer.
///
/// Should be created with [`ViTConfig`].
#[derive(Module, Debug)]
pub struct ViT {
    /// Patches, class token and positions.
    pub embedding: PatchEmbedding,
    /// Dropout on the embedded tokens.
    pub dropout: Dropout,
    /// The transformer blocks.
    pub blocks: Vec<Block>,
    /// The norm before the head.
    pub norm: LayerNorm,
    /// The classification head, on the class token.
    pub head: Linear,
}

/// What one image costs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ViTCost {
    /// The replaced layers (`qkv`, `proj`, `fc1`, `fc2` of every block) for one token.
    pub replaced: Cost,
    /// Tokens of one image, the class token included.
    pub tokens: usize,
    /// Parameters of the whole model.
    pub params: usize,
    /// FLOPs of everything else for one image: embedding, attention products and head. Norms, activations and softmax,
    /// which are linear in the tokens' features, are not counted.
    pub other_flops: usize,
}

impl ViTCost {
    /// FLOPs of the replaced layers for one image.
    pub fn replaced_flops(&self) -> usize {
        self.replaced.flops_per_token * self.tokens
    }

    /// FLOPs of the whole model for one image.
    pub fn model_flops(&self) -> usize {
        self.replaced_flops() + self.other_flops
    }

    /// FLOPs of the whole model for one image, were every layer dense.
    pub fn dense_model_flops(&self) -> usize {
        self.replaced.dense_flops_per_token * self.tokens + self.other_flops
    }

    /// The whole model's FLOPs relative to the dense model's.
    pub fn model_flops_ratio(&self) -> f64 {
        self.model_flops() as f64 / self.dense_model_flops() as f64
    }
}

impl ViTConfig {
    /// A model that two CPU cores can train: dim 128, depth 4, heads 4, MLP ratio 3, patch 4.
    pub fn small(classes: usize) -> Self {
        Self::new(classes)
    }

    /// The BLAST paper's "ViT-S" for CIFAR: dim 768, depth 8, heads 8, MLP ratio 3, patch 4.
    pub fn cifar_vit_s(classes: usize) -> Self {
        Self::new(classes).with_d_model(768).with_depth(8).with_heads(8)
    }

    /// ViT-B/16 for 224×224 images: dim 768, depth 12, heads 12, MLP ratio 4.
    pub fn vit_b(classes: usize) -> Self {
        Self::new(classes)
            .with_image_size(224)
            .with_patch_size(16)
            .with_d_model(768)
            .with_depth(12)
            .with_heads(12)
            .with_mlp_ratio(4.0)
    }

    /// The same model with all four linear layers of every block of one structure.
    pub fn with_structure(self, structure: Structure) -> Self {
        self.with_qkv(structure).with_proj(structure).with_fc1(structure).with_fc2(structure)
    }

    /// Tokens of one image, the class token included.
    pub fn tokens(&self) -> usize {
        (self.image_size / self.patch_size).pow(2) + 1
    }

    /// Initialize a new [`ViT`] module.
    ///
    /// # Panics
    ///
    /// Where [`try_init`](Self::try_init) returns an error.
    pub fn init(&self, device: &Device) -> ViT {
        self.try_init(device).unwrap_or_else(|error| panic!("ViT: {error}"))
    }

    /// Initialize a new [`ViT`] module.
    ///
    /// # Errors
    ///
    /// If a size is zero, the patches do not tile the image, the heads do not divide the features, a probability is
    /// outside `[0, 1)`, or a structure does not fit its layer.
    pub fn try_init(&self, device: &Device) -> Result<ViT, ModelError> {
        self.check()?;
        let block = |index: usize| {
            BlockConfig::new(self.d_model, self.heads)
                .with_mlp_ratio(self.mlp_ratio)
                .with_dropout(self.dropout)
                .with_drop_path(self.drop_path * share_of_depth(index, self.depth))
                .with_qkv(self.qkv)
                .with_proj(self.proj)
                .with_fc1(self.fc1)
                .with_fc2(self.fc2)
                .try_init(device)
        };
        let embedding = PatchEmbeddingConfig::new(self.image_size, self.patch_size, self.channels, self.d_model);
        Ok(ViT {
            embedding: embedding.init(device),
            dropout: DropoutConfig::new(self.dropout).init(),
            blocks: (0..self.depth).map(block).collect::<Result<_, _>>()?,
            norm: LayerNormConfig::new(self.d_model).init(device),
            head: LinearConfig::new(self.d_model, self.classes).init(device),
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
            ("heads", self.heads),
        ])?;
        ModelError::check_divides(("patch_size", self.patch_size), ("image_size", self.image_size))?;
        ModelError::check_divides(("heads", self.heads), ("d_model", self.d_model))?;
        ModelError::check_ratio(("mlp_ratio", self.mlp_ratio), self.d_model, "leaves no features between fc1 and fc2")?;
        ModelError::check_probabilities(&[("dropout", self.dropout), ("drop_path", self.drop_path)])
    }
}

impl ViT {
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
        let device = images.device();
        on_pool(&device, || self.head.forward(self.features(images)))
    }

    /// What the head sees: the class token after the last norm.
    ///
    /// # Shapes
    ///
    /// - images: `[batch, channels, image_size, image_size]`
    /// - output: `[batch, d_model]`
    ///
    /// # Panics
    ///
    /// If the images have another size or number of channels.
    pub fn features(&self, images: Tensor<4>) -> Tensor<2> {
        let mut x = self.dropout.forward(self.embedding.forward(images));
        for block in &self.blocks {
            x = block.forward(x);
        }
        let [batch, _, d_model] = x.dims();
        // Only the class token reaches the head, so only it needs the norm.
        let class = x.slice([0..batch, 0..1, 0..d_model]).reshape([batch, d_model]);
        self.norm.forward(class)
    }

    /// The same model with int8 weights in the linear layers of its blocks: for inference, see [`StructuredLinear::quantize`](burn_structured_nn::StructuredLinear::quantize).
    ///
    /// # Errors
    ///
    /// If the structure of a layer has no int8 form.
    pub fn quantize(mut self) -> Result<Self, StructureError> {
        quantize(self.blocks.iter_mut().flat_map(Block::linears_mut))?;
        Ok(self)
    }

    /// The factors of all structured layers, for an optimizer that gives each its own learning rate.
    pub fn factors(&self) -> Vec<Factor> {
        self.blocks.iter().flat_map(Block::factors).collect()
    }

    /// What one image costs.
    pub fn cost(&self) -> ViTCost {
        let tokens = self.embedding.tokens();
        let patches = tokens - 1;
        let attention: usize = self.blocks.iter().map(|block| block.attention.product_flops(tokens)).sum();
        let [d_patch, d_model] = self.embedding.projection.weight.shape().dims();
        let [_, classes] = self.head.weight.shape().dims();
        ViTCost {
            replaced: self.blocks.iter().map(Block::cost).sum(),
            tokens,
            params: params(self, self.blocks.iter().flat_map(Block::linears)),
            other_flops: attention + 2 * patches * d_patch * d_model + 2 * d_model * classes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::every_structure;
    use burn::tensor::{Distribution, TensorData, Tolerance};

    fn tiny() -> ViTConfig {
        ViTConfig::new(5).with_image_size(8).with_patch_size(4).with_d_model(16).with_depth(2).with_heads(2)
    }

    #[test]
    fn every_structure_gives_logits() {
        let device = Device::flex();
        for structure in every_structure() {
            let model = tiny().with_structure(structure).init(&device);
            let images = Tensor::random([3, 3, 8, 8], Distribution::Normal(0.0, 1.0), &device);
            let logits = model.forward(images);
            assert_eq!(logits.dims(), [3, 5]);
            assert!(logits.into_data().iter::<f32>().all(f32::is_finite), "{structure}");
        }
    }

    #[test]
    fn quantized_logits_are_near() {
        let device = Device::flex();
        device.seed(2);
        let model = tiny().with_structure("blast:b=4,ratio=0.5".parse().unwrap()).init(&device);
        let images = Tensor::<4>::random([3, 3, 8, 8], Distribution::Normal(0.0, 1.0), &device);
        let exact = model.forward(images.clone());
        let error = (model.quantize().unwrap().forward(images) - exact.clone()).square().sum() / exact.square().sum();
        let error = error.sqrt().into_scalar::<f32>();
        assert!(error > 0.0 && error < 0.05, "{error}");
    }

    #[test]
    fn cost_counts_integers() {
        let model = tiny().with_structure("low-rank:r=3".parse().unwrap()).init(&Device::flex());
        let (exact, small) = (model.cost(), model.quantize().unwrap().cost());
        assert_eq!(small.params - small.replaced.params, exact.params - exact.replaced.params);
        assert!(small.params > exact.params, "there are scales as well");
    }

    #[test]
    fn images_of_a_batch_do_not_mix() {
        let device = Device::flex();
        let model = tiny().init(&device);
        let images = Tensor::<4>::random([2, 3, 8, 8], Distribution::Normal(0.0, 1.0), &device);
        let both = model.forward(images.clone()).slice([1..2, 0..5]).into_data();
        let alone = model.forward(images.slice([1..2, 0..3, 0..8, 0..8])).into_data();
        both.assert_approx_eq::<f32>(&alone, Tolerance::absolute(1e-5));
    }

    #[test]
    fn order_of_patches_matters() {
        let device = Device::flex();
        let model = tiny().init(&device);
        let mut left = vec![0.0f32; 64];
        left[0] = 5.0;
        let mut right = vec![0.0f32; 64];
        right[4] = 5.0;
        let logits = |plane: Vec<f32>| {
            let image = Tensor::<4>::from_data(TensorData::new(plane, [1, 1, 8, 8]), &device).expand([1, 3, 8, 8]);
            model.forward(image).into_data().iter::<f32>().collect::<Vec<_>>()
        };
        assert_ne!(logits(left), logits(right));
    }

    #[test]
    fn costs_add_up() {
        let device = Device::flex();
        let dense = tiny().init(&device).cost();
        assert_eq!(dense.model_flops_ratio(), 1.0);
        // qkv, proj, fc1 and fc2 of two blocks: 16·48 + 16·16 + 2·16·48 weights each, biases aside.
        assert_eq!(dense.replaced.params, 2 * (16 * 48 + 48 + 16 * 16 + 16 + 16 * 48 + 48 + 48 * 16 + 16));
        assert_eq!(dense.tokens, 5);
        let blast = tiny().with_structure("blast:b=2,ratio=0.4".parse().unwrap()).init(&device).cost();
        assert!(blast.replaced.flops_ratio() <= 0.43, "{}", blast.replaced.flops_ratio());
        assert_eq!(blast.dense_model_flops(), dense.model_flops());
        assert!(blast.params < dense.params);
    }

    #[test]
    fn small_preset_has_the_expected_size() {
        let cost = ViTConfig::small(10).init(&Device::flex()).cost();
        assert_eq!(cost.tokens, 65);
        // 4 blocks of 10·128² weights and their biases and norms, embedding 48·128, positions 65·128, head 1,290.
        assert!((670_000..700_000).contains(&cost.params), "{}", cost.params);
    }

    #[test]
    fn errors_name_the_setting_or_the_layer() {
        let message = |config: ViTConfig| config.try_init(&Device::flex()).unwrap_err().to_string();
        assert_eq!(
            message(tiny().with_patch_size(3)),
            "patch_size = 3 does not divide image_size = 8; choose a divisor of it"
        );
        assert_eq!(message(tiny().with_heads(3)), "heads = 3 does not divide d_model = 16; choose a divisor of it");
        assert_eq!(message(tiny().with_dropout(1.0)), "dropout = 1 is no probability from 0 to below 1");
        let message = message(tiny().with_fc1("blast:b=3,r=2".parse().unwrap()));
        assert!(message.starts_with("fc1 (16 → 48, blast:b=3,r=2): d_input = 16 cannot be cut into 3"), "{message}");
    }
}
