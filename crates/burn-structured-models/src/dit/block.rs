//! One transformer block, and the last layer, both modulated by the condition.

use crate::ModelError;
use crate::layers::{mlp, zero};
use crate::vit::{Attention, AttentionConfig};
use burn::config::Config;
use burn::module::Module;
use burn::nn::{Initializer, Linear, LinearConfig};
use burn::tensor::module::layer_norm;
use burn::tensor::{Device, Tensor};
use burn_structured_nn::{MlpActivation, Structure, StructuredLinear, StructuredMlp};

/// What a norm adds to the variance.
pub(super) const EPSILON: f64 = 1e-6;

/// Configuration to create a [`DitBlock`] using the [init function](DitBlockConfig::try_init).
#[derive(Config, Debug)]
pub struct DitBlockConfig {
    /// Features of a token.
    pub d_model: usize,
    /// Attention heads; divides `d_model`.
    pub heads: usize,
    /// Features between `fc1` and `fc2`.
    pub d_hidden: usize,
    /// Structure of the query, key and value projections.
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
    /// Structure of the layer from the condition to shifts, scales and gates.
    #[config(default = "Structure::Dense")]
    pub modulation: Structure,
}

/// `x + gate₁ ∘ attention(modulated norm(x))`, then `x + gate₂ ∘ mlp(modulated norm(x))`.
///
/// A modulated norm is `norm(x) ∘ (1 + scale) + shift`. Shifts, scales and gates are linear in the condition and start as zeros, so that a
/// fresh block is the identity.
///
/// Should be created with [`DitBlockConfig`].
#[derive(Module, Debug)]
pub struct DitBlock {
    /// The attention.
    pub attention: Attention,
    /// The MLP.
    pub mlp: StructuredMlp,
    /// From the condition to `[shift₁, scale₁, gate₁, shift₂, scale₂, gate₂]`.
    pub modulation: StructuredLinear,
}

impl DitBlockConfig {
    /// Initialize a new [`DitBlock`] module.
    ///
    /// # Errors
    ///
    /// If a structure does not fit its layer.
    pub fn try_init(&self, device: &Device) -> Result<DitBlock, ModelError> {
        let attention = AttentionConfig::new(self.d_model, self.heads).with_qkv(self.qkv).with_proj(self.proj);
        let layers = [("fc1", self.fc1), ("fc2", self.fc2)];
        Ok(DitBlock {
            attention: attention.try_init(device)?,
            mlp: mlp(self.d_model, self.d_hidden, layers, MlpActivation::GeluTanh, device)?,
            modulation: zero("modulation", self.d_model, 6 * self.d_model, self.modulation, device)?,
        })
    }
}

impl DitBlock {
    /// `[batch, tokens, d_model]` to the same shape, under the conditions `[batch, d_model]`.
    pub fn forward(&self, x: Tensor<3>, condition: Tensor<2>) -> Tensor<3> {
        let [shift1, scale1, gate1, shift2, scale2, gate2] = parts(&self.modulation, condition);
        let attended = self.attention.forward(modulate(x.clone(), shift1, scale1));
        let x = x + attended * gate1;
        let mixed = self.mlp.forward(modulate(x.clone(), shift2, scale2));
        x + mixed * gate2
    }

    /// The five linear layers, by name.
    pub(super) fn linears(&self) -> [(&'static str, &StructuredLinear); 5] {
        [
            ("attention.qkv", &self.attention.qkv),
            ("attention.proj", &self.attention.proj),
            ("mlp.up", &self.mlp.up),
            ("mlp.down", &self.mlp.down),
            ("modulation", &self.modulation),
        ]
    }

    /// The five linear layers, by name and in the same order, to be replaced.
    pub(super) fn linears_mut(&mut self) -> [(&'static str, &mut StructuredLinear); 5] {
        [
            ("attention.qkv", &mut self.attention.qkv),
            ("attention.proj", &mut self.attention.proj),
            ("mlp.up", &mut self.mlp.up),
            ("mlp.down", &mut self.mlp.down),
            ("modulation", &mut self.modulation),
        ]
    }
}

/// `output(modulated norm(x))`, from features to the pixels of a patch; starts as zero.
///
/// Created by [`DitConfig`](super::DitConfig).
#[derive(Module, Debug)]
pub struct FinalLayer {
    /// From the condition to `[shift, scale]`.
    pub modulation: StructuredLinear,
    /// From the features of a token to the pixels of its patch.
    pub output: Linear,
}

impl FinalLayer {
    pub(super) fn try_init(
        d_model: usize,
        d_patch: usize,
        modulation: Structure,
        device: &Device,
    ) -> Result<Self, ModelError> {
        Ok(Self {
            modulation: zero("modulation", d_model, 2 * d_model, modulation, device)?,
            output: LinearConfig::new(d_model, d_patch).with_initializer(Initializer::Zeros).init(device),
        })
    }

    /// Patches `[batch, tokens, channels · patch²]` of tokens `[batch, tokens, d_model]`, under the conditions `[batch, d_model]`.
    pub fn forward(&self, x: Tensor<3>, condition: Tensor<2>) -> Tensor<3> {
        let [shift, scale] = parts(&self.modulation, condition);
        self.output.forward(modulate(x, shift, scale))
    }
}

/// The `N` parts `[batch, 1, d_model]` of the modulation of each image.
fn parts<const N: usize>(modulation: &StructuredLinear, condition: Tensor<2>) -> [Tensor<3>; N] {
    let all = modulation.forward(condition).unsqueeze_dim::<3>(1);
    let width = modulation.d_output() / N;
    std::array::from_fn(|part| all.clone().narrow(2, part * width, width))
}

/// `norm(x) ∘ (1 + scale) + shift`.
fn modulate(x: Tensor<3>, shift: Tensor<3>, scale: Tensor<3>) -> Tensor<3> {
    let gamma = Tensor::ones([x.dims()[2]], (&x.device(), x.dtype()));
    layer_norm(x, gamma, None, EPSILON) * (scale + 1.0) + shift
}
