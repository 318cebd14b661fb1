//! The settings of a diffusion transformer.

use super::condition::grid_positions;
use super::{ConditionEmbedding, Dit, DitBlockConfig, FinalLayer};
use crate::ModelError;
use crate::layers::structured;
use burn::config::Config;
use burn::module::Param;
use burn::nn::{EmbeddingConfig, Initializer, LinearConfig};
use burn::tensor::{Device, Tensor, TensorData};
use burn_structured_nn::Structure;

/// Configuration to create a [`Dit`] using the [init function](DitConfig::init).
#[derive(Config, Debug, PartialEq)]
pub struct DitConfig {
    /// Number of classes, without the one that stands for none.
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
    /// Features of a token, a multiple of 4.
    #[config(default = 128)]
    pub d_model: usize,
    /// Number of blocks.
    #[config(default = 4)]
    pub depth: usize,
    /// Attention heads; divides `d_model`.
    #[config(default = 4)]
    pub heads: usize,
    /// Features between `fc1` and `fc2`, relative to `d_model`.
    #[config(default = 4.0)]
    pub mlp_ratio: f64,
    /// Sines and cosines of the time; even.
    #[config(default = 256)]
    pub frequencies: usize,
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
    /// Structure of the layers from the condition to shifts, scales and gates.
    #[config(default = "Structure::Dense")]
    pub modulation: Structure,
    /// Structure of both layers of the MLP of times.
    #[config(default = "Structure::Dense")]
    pub time: Structure,
}

impl DitConfig {
    /// A model that two CPU cores can train: dim 128, depth 4, heads 4, patch 4.
    pub fn small(classes: usize) -> Self {
        Self::new(classes)
    }

    /// DiT-S of the paper on pixels of 32×32: dim 384, depth 12, heads 6, patch 4.
    pub fn dit_s(classes: usize) -> Self {
        Self::new(classes).with_d_model(384).with_depth(12).with_heads(6)
    }

    /// The same model with all linear layers that take one of one structure.
    pub fn with_structure(self, structure: Structure) -> Self {
        self.with_qkv(structure)
            .with_proj(structure)
            .with_fc1(structure)
            .with_fc2(structure)
            .with_modulation(structure)
            .with_time(structure)
    }

    /// Initialize a new [`Dit`] module.
    ///
    /// # Panics
    ///
    /// Where [`try_init`](Self::try_init) returns an error.
    pub fn init(&self, device: &Device) -> Dit {
        self.try_init(device).unwrap_or_else(|error| panic!("Dit: {error}"))
    }

    /// Initialize a new [`Dit`] module.
    ///
    /// # Errors
    ///
    /// If a size is zero, the patches do not tile the image, the heads do not divide the features, sines and cosines cannot share the
    /// features, or a structure does not fit its layer.
    pub fn try_init(&self, device: &Device) -> Result<Dit, ModelError> {
        self.check()?;
        let (d_model, d_patch) = (self.d_model, self.channels * self.patch_size.pow(2));
        let block = DitBlockConfig::new(d_model, self.heads, (d_model as f64 * self.mlp_ratio) as usize)
            .with_qkv(self.qkv)
            .with_proj(self.proj)
            .with_fc1(self.fc1)
            .with_fc2(self.fc2)
            .with_modulation(self.modulation);
        let side = self.image_size / self.patch_size;
        let positions = TensorData::new(grid_positions(side, d_model), [1, side * side, d_model]).convert::<f32>();
        let small = Initializer::Normal { mean: 0.0, std: 0.02 };
        Ok(Dit {
            embedding: LinearConfig::new(d_patch, d_model).init(device),
            positions: Param::from_tensor(Tensor::from_data(positions, device)).set_require_grad(false),
            condition: ConditionEmbedding {
                up: structured("time", self.frequencies, d_model, self.time, device)?,
                down: structured("time", d_model, d_model, self.time, device)?,
                classes: EmbeddingConfig::new(self.classes + 1, d_model).with_initializer(small).init(device),
            },
            blocks: (0..self.depth).map(|_| block.try_init(device)).collect::<Result<_, _>>()?,
            last: FinalLayer::try_init(d_model, d_patch, self.modulation, device)?,
            patch_size: self.patch_size,
            image_size: self.image_size,
            channels: self.channels,
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
            ("frequencies", self.frequencies),
        ])?;
        ModelError::check_divides(("patch_size", self.patch_size), ("image_size", self.image_size))?;
        ModelError::check_divides(("heads", self.heads), ("d_model", self.d_model))?;
        if !self.d_model.is_multiple_of(4) {
            let problem = "is no multiple of 4, as sines and cosines of rows and columns need";
            return Err(ModelError::setting("d_model", self.d_model, problem));
        }
        if !self.frequencies.is_multiple_of(2) {
            return Err(ModelError::setting("frequencies", self.frequencies, "is odd; half are sines, half cosines"));
        }
        ModelError::check_ratio(("mlp_ratio", self.mlp_ratio), self.d_model, "leaves no features between fc1 and fc2")
    }
}
