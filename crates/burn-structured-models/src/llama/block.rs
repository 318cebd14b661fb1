//! One transformer block: attention and gated MLP, each a residual branch after its norm.

use super::{Attention, LlamaConfig, RotaryEmbedding, Rotation};
use crate::decoder::{DecoderError, LayerCache, Slots, linear};
use burn::module::Module;
use burn::nn::{Initializer, RmsNorm, RmsNormConfig};
use burn::tensor::{Device, Tensor};
use burn_structured_nn::{Activation, StructuredLinear, StructuredLinearConfig, feed_forward};

/// `x + attention(norm(x))`, then `x + down(silu(gate(norm(x))) ∘ up(norm(x)))`.
///
/// Should be created with [`LlamaConfig`].
#[derive(Module, Debug)]
pub struct Block {
    /// The norm before the attention.
    pub norm1: RmsNorm,
    /// The attention.
    pub attention: Attention,
    /// The norm before the MLP.
    pub norm2: RmsNorm,
    /// The gate of the MLP.
    pub gate: StructuredLinear,
    /// The layer that the gate multiplies.
    pub up: StructuredLinear,
    /// The last MLP layer.
    pub down: StructuredLinear,
}

/// The names of a block's linear layers in Hugging Face's checkpoints without `model.` in front, in the order of
/// [`Block::linears`].
pub fn linear_names(layer: usize) -> [String; 7] {
    [
        "self_attn.q_proj",
        "self_attn.k_proj",
        "self_attn.v_proj",
        "self_attn.o_proj",
        "mlp.gate_proj",
        "mlp.up_proj",
        "mlp.down_proj",
    ]
    .map(|name| format!("layers.{layer}.{name}"))
}

impl Block {
    pub(super) fn try_new(
        config: &LlamaConfig,
        layer: usize,
        rotary: RotaryEmbedding,
        device: &Device,
    ) -> Result<Self, DecoderError> {
        let (d_model, d_hidden) = (config.d_model, config.d_hidden);
        let [d_query, d_key] = [config.heads, config.kv_heads].map(|heads| heads * config.head_features());
        let [query, key, value, proj, gate, up, down] = linear_names(layer);
        let norm = RmsNormConfig::new(d_model).with_epsilon(config.norm_epsilon);
        let linear = |name: String, d_input, d_output| {
            let structure = config.structures.structure_of(&name, layer, config.depth);
            let initializer = Initializer::Normal { mean: 0.0, std: LlamaConfig::STD };
            let layer = StructuredLinearConfig::new(d_input, d_output, structure).with_bias(false);
            linear(name, &layer.with_initializer(Some(initializer)), device)
        };
        let projections = [
            linear(query, d_model, d_query)?,
            linear(key, d_model, d_key)?,
            linear(value, d_model, d_key)?,
            linear(proj, d_query, d_model)?,
        ];
        Ok(Self {
            norm1: norm.init(device),
            attention: Attention::new(projections, config.kv_heads, rotary),
            norm2: norm.init(device),
            gate: linear(gate, d_model, d_hidden)?,
            up: linear(up, d_model, d_hidden)?,
            down: linear(down, d_hidden, d_model)?,
        })
    }

    /// `[batch, length, d_model]` to the same shape, of tokens that begin their sequences; no token sees a later one.
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let rotation = self.attention.rotation(x.dims()[1], &x.device());
        self.forward_rotated(x, &rotation)
    }

    /// [`forward`](Self::forward) with the rotation of the tokens, which all blocks share.
    pub(super) fn forward_rotated(&self, x: Tensor<3>, rotation: &Rotation) -> Tensor<3> {
        let x = self.attention.forward_added(self.norm1.forward(x.clone()), x, rotation);
        self.mlp(x)
    }

    /// [`forward_rotated`](Self::forward_rotated) of tokens that also see those in the cache, to which they are added.
    pub(super) fn forward_cached(
        &self,
        x: Tensor<3>,
        rotation: &Rotation,
        cache: &mut LayerCache,
        slots: &Slots,
    ) -> Tensor<3> {
        let x = self.attention.forward_cached(self.norm1.forward(x.clone()), x, rotation, cache, slots);
        self.mlp(x)
    }

    fn mlp(&self, x: Tensor<3>) -> Tensor<3> {
        let normed = self.norm2.forward(x.clone());
        feed_forward(&self.up, Some(&self.gate), Activation::Silu, &self.down, normed, Some(x))
    }

    /// The seven linear layers: query, key, value and output of the attention, gate, up and down of the MLP.
    pub fn linears(&self) -> [&StructuredLinear; 7] {
        let Attention { query, key, value, proj, .. } = &self.attention;
        [query, key, value, proj, &self.gate, &self.up, &self.down]
    }

    /// The seven linear layers, in the order of [`linears`](Self::linears), to be replaced.
    pub fn linears_mut(&mut self) -> [&mut StructuredLinear; 7] {
        let Attention { query, key, value, proj, .. } = &mut self.attention;
        [query, key, value, proj, &mut self.gate, &mut self.up, &mut self.down]
    }
}
