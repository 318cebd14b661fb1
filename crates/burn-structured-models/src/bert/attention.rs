//! Multi-head self-attention with structured projections.

use super::layer::structured;
use super::{BertConfig, BertError};
use burn::module::Module;
use burn::tensor::{Bool, Device, Tensor};
use burn_structured_nn::{Epilogue, StructuredLinear};
use burn_structured_ops::attention::{AttentionMask, attention};

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
    /// - padding: `[batch, length]`, true where a token is padding; `None` if there is none
    /// - output: `[batch, length, d_model]`
    pub fn forward(&self, x: Tensor<3>, padding: impl Into<Option<Tensor<2, Bool>>>) -> Tensor<3> {
        self.forward_then(x, padding, Epilogue::new())
    }

    /// [`forward`](Self::forward), and what follows its output projection.
    pub fn forward_then(
        &self,
        x: Tensor<3>,
        padding: impl Into<Option<Tensor<2, Bool>>>,
        epilogue: Epilogue<3>,
    ) -> Tensor<3> {
        let [batch, length, d_model] = x.dims();
        let heads = |projection: &StructuredLinear| {
            projection.forward(x.clone()).reshape([batch, length, self.heads, d_model / self.heads])
        };
        let [query, key, value] = [&self.query, &self.key, &self.value].map(heads);
        let mixed = attention(query, key, value, AttentionMask::default().with_padding(padding.into()));
        self.output.forward_then(mixed.reshape([batch, length, d_model]), epilogue)
    }
}
