//! One transformer block: attention and MLP, each a residual branch after its norm.

use super::{Attention, Gpt2Config};
use crate::decoder::{DecoderError, LayerCache, Slots, linear};
use crate::residual::mlp_added;
use burn::module::Module;
use burn::nn::{Dropout, DropoutConfig, Initializer, LayerNorm, LayerNormConfig};
use burn::tensor::{Device, Tensor};
use burn_structured_nn::{Activation, StructuredLinear, StructuredLinearConfig};

/// `x + attention(norm(x))`, then `x + fc2(gelu(fc1(norm(x))))` with GELU by its tanh approximation.
///
/// Should be created with [`Gpt2Config`].
#[derive(Module, Debug)]
pub struct Block {
    /// The norm before the attention.
    pub norm1: LayerNorm,
    /// The attention.
    pub attention: Attention,
    /// The norm before the MLP.
    pub norm2: LayerNorm,
    /// The first MLP layer.
    pub fc1: StructuredLinear,
    /// The second MLP layer.
    pub fc2: StructuredLinear,
    /// Dropout on the MLP's output.
    pub dropout: Dropout,
}

/// The names of a block's linear layers in Hugging Face's checkpoints without `transformer.` in front, in the order of
/// [`Block::linears`].
pub fn linear_names(layer: usize) -> [String; 4] {
    ["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"].map(|name| format!("h.{layer}.{name}"))
}

impl Block {
    pub(super) fn try_new(config: &Gpt2Config, layer: usize, device: &Device) -> Result<Self, DecoderError> {
        let (d_model, d_hidden) = (config.d_model, config.mlp_features());
        let [qkv, proj, fc1, fc2] = linear_names(layer);
        let norm = LayerNormConfig::new(d_model).with_epsilon(config.norm_epsilon);
        let linear = |name: String, d_input, d_output, std| {
            let structure = config.structures.structure_of(&name, layer, config.depth);
            let initializer = Initializer::Normal { mean: 0.0, std };
            let layer = StructuredLinearConfig::new(d_input, d_output, structure);
            linear(name, &layer.with_initializer(Some(initializer)), device)
        };
        // Each residual branch adds its variance to the stream; the scale keeps their sum (Radford et al., 2019, §2.3).
        let (std, residual_std) = (Gpt2Config::STD, Gpt2Config::STD / (2.0 * config.depth as f64).sqrt());
        Ok(Self {
            norm1: norm.init(device),
            attention: Attention::new(
                linear(qkv, d_model, 3 * d_model, std)?,
                linear(proj, d_model, d_model, residual_std)?,
                config,
            ),
            norm2: norm.init(device),
            fc1: linear(fc1, d_model, d_hidden, std)?,
            fc2: linear(fc2, d_hidden, d_model, residual_std)?,
            dropout: DropoutConfig::new(config.dropout).init(),
        })
    }

    /// `[batch, length, d_model]` to the same shape; no token sees a later one.
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let x = self.attention.forward_added(self.norm1.forward(x.clone()), x);
        self.mlp(x)
    }

    /// [`forward`](Self::forward) of tokens that also see those in the cache, to which they are added.
    pub(super) fn forward_cached(&self, x: Tensor<3>, cache: &mut LayerCache, slots: &Slots) -> Tensor<3> {
        let x = self.attention.forward_cached(self.norm1.forward(x.clone()), x, cache, slots);
        self.mlp(x)
    }

    fn mlp(&self, x: Tensor<3>) -> Tensor<3> {
        let normed = self.norm2.forward(x.clone());
        mlp_added([&self.fc1, &self.fc2], Activation::GeluTanh, normed, None, &self.dropout, Some(x))
    }

    /// The four linear layers: query, key and value, attention output, and the two of the MLP.
    pub fn linears(&self) -> [&StructuredLinear; 4] {
        [&self.attention.qkv, &self.attention.proj, &self.fc1, &self.fc2]
    }

    /// The four linear layers, in the order of [`linears`](Self::linears), to be replaced.
    pub fn linears_mut(&mut self) -> [&mut StructuredLinear; 4] {
        [&mut self.attention.qkv, &mut self.attention.proj, &mut self.fc1, &mut self.fc2]
    }
}
