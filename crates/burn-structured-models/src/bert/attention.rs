//! Multi-head self-attention with structured projections.

use super::layer::structured;
use super::{BertConfig, BertError};
use burn::module::Module;
use burn::tensor::module::attention;
use burn::tensor::{Bool, Device, Tensor};
use burn_structured_nn::StructuredLinear;

/// Self-attention: `softmax(Q Kᵀ / √d_head) V` for each head, over the tokens that are not padding.
///
/// Should be created with [`BertConfig`].
#[derive(Module, Debug)]
pub struct Attention {
    /// Query projection.
    pub query: StructuredLinear,
    /// Key projection.
    pub key: StructuredLinear,
    /// Value projection.
    pub value: StructuredLinear,
    /// Output projection.
    pub output: StructuredLinear,
    heads: usize,
}

impl Attention {
    pub(super) fn try_new(config: &BertConfig, device: &Device) -> Result<Self, BertError> {
        let projection = |name, structure| structured(name, config.d_model, config.d_model, structure, device);
        Ok(Self {
            query: projection("query", config.query)?,
            key: projection("key", config.key)?,
            value: projection("value", config.value)?,
            output: projection("attention_output", config.attention_output)?,
            heads: config.heads,
        })
    }

    /// The number of heads.
    pub fn heads(&self) -> usize {
        self.heads
    }

    /// Every token's features after looking at all others of its sentence.
    ///
    /// # Shapes
    ///
    /// - x: `[batch, length, d_model]`
    /// - padding: `[batch, length]`, true where a token is padding
    /// - output: `[batch, length, d_model]`
    pub fn forward(&self, x: Tensor<3>, padding: Tensor<2, Bool>) -> Tensor<3> {
        let [batch, length, d_model] = x.dims();
        let heads = |projection: &StructuredLinear| {
            let features = projection.forward(x.clone());
            features.reshape([batch, length, self.heads, d_model / self.heads]).swap_dims(1, 2)
        };
        let padding = padding.reshape([batch, 1, 1, length]).expand([batch, self.heads, length, length]);
        let [query, key, value] = [&self.query, &self.key, &self.value].map(heads);
        let mixed = attention(query, key, value, Some(padding), None, Default::default());
        self.output.forward(mixed.swap_dims(1, 2).reshape([batch, length, d_model]))
    }
}
