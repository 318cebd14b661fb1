//! One layer: attention and two linear layers, each a residual branch with a norm after the sum.

use super::{Attention, BertConfig, BertError};
use burn::module::Module;
use burn::nn::{LayerNorm, LayerNormConfig};
use burn::tensor::{Bool, Device, Tensor};
use burn_structured_nn::{Activation, Epilogue, Structure, StructuredLinear, StructuredLinearConfig, feed_forward};

/// `x = norm(x + attention(x))`, then `norm(x + output(gelu(intermediate(x))))`.
///
/// Should be created with [`BertConfig`].
#[derive(Module, Debug)]
pub struct Layer {
    /// The attention.
    pub attention: Attention,
    /// The norm after the attention.
    pub attention_norm: LayerNorm,
    /// The first linear layer after the attention.
    pub intermediate: StructuredLinear,
    /// The second linear layer after the attention.
    pub output: StructuredLinear,
    /// The last norm.
    pub output_norm: LayerNorm,
}

impl Layer {
    pub(super) fn try_new(config: &BertConfig, device: &Device) -> Result<Self, BertError> {
        let (d_model, d_hidden) = (config.d_model, config.d_hidden);
        let norm = LayerNormConfig::new(d_model).with_epsilon(config.norm_epsilon);
        Ok(Self {
            attention: Attention::try_new(config, device)?,
            attention_norm: norm.init(device),
            intermediate: structured("intermediate", d_model, d_hidden, config.intermediate, device)?,
            output: structured("output", d_hidden, d_model, config.output, device)?,
            output_norm: norm.init(device),
        })
    }

    /// A token's features after this layer.
    ///
    /// # Shapes
    ///
    /// - x: `[batch, length, d_model]`
    /// - padding: `[batch, length]`, true where a token is padding
    /// - output: `[batch, length, d_model]`
    pub fn forward(&self, x: Tensor<3>, padding: Tensor<2, Bool>) -> Tensor<3> {
        let added = Epilogue::new().with_residual(x.clone());
        let x = self.attention_norm.forward(self.attention.forward_then(x, padding, added));
        // GELU with the exact error function.
        let (up, down) = (&self.intermediate, &self.output);
        self.output_norm.forward(feed_forward(up, None, Activation::Gelu, down, x.clone(), Some(x)))
    }

    /// The six linear layers: query, key, value, attention output, intermediate and output.
    pub fn linears(&self) -> [&StructuredLinear; 6] {
        let Attention { query, key, value, output, .. } = &self.attention;
        [query, key, value, output, &self.intermediate, &self.output]
    }

    /// The six linear layers, in the order of [`linears`](Self::linears), to be replaced.
    pub fn linears_mut(&mut self) -> [&mut StructuredLinear; 6] {
        let Attention { query, key, value, output, .. } = &mut self.attention;
        [query, key, value, output, &mut self.intermediate, &mut self.output]
    }
}

/// A linear layer; an error says which one.
pub(super) fn structured(
    layer: &'static str,
    d_input: usize,
    d_output: usize,
    structure: Structure,
    device: &Device,
) -> Result<StructuredLinear, BertError> {
    StructuredLinearConfig::new(d_input, d_output, structure).try_init(device).map_err(|source| BertError::Structure {
        layer,
        d_input,
        d_output,
        structure,
        source: Box::new(source),
    })
}
