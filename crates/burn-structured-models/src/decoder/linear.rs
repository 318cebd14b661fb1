//! A linear layer of a decoder.

use super::DecoderError;
use burn::module::Param;
use burn::nn::Initializer;
use burn::nn::{Embedding, Linear};
use burn::tensor::{Device, Tensor};
use burn_structured_nn::{StructuredLinear, StructuredLinearConfig};
use burn_structured_ops::dense::dense_linear;

/// A linear layer as `config` says, with a bias of 0 if it has one. An error says which layer it is.
pub(crate) fn linear(
    name: String,
    config: &StructuredLinearConfig,
    device: &Device,
) -> Result<StructuredLinear, DecoderError> {
    let mut layer = config.try_init(device).map_err(|source| DecoderError::Structure {
        layer: name,
        d_input: config.d_input,
        d_output: config.d_output,
        structure: config.structure,
        source: Box::new(source),
    })?;
    if let Some(bias) = layer.bias_mut() {
        *bias = Initializer::Zeros.init([config.d_output], device);
    }
    Ok(layer)
}

/// The logits of `features` by a model's head, or by the embeddings of the tokens if it is tied to them.
pub(crate) fn logits(head: &Option<StructuredLinear>, tokens: &Embedding, features: Tensor<3>) -> Tensor<3> {
    match head {
        Some(head) => head.forward(features),
        None => dense_linear(features, tokens.weight.val().transpose(), None),
    }
}

/// The head of a model as a layer of its own: if it is tied, the embeddings of the tokens once more.
pub(crate) fn own_head(head: Option<StructuredLinear>, tokens: &Embedding) -> StructuredLinear {
    head.unwrap_or_else(|| {
        let weight = Param::from_tensor(tokens.weight.val().detach().transpose());
        StructuredLinear::Dense(Linear { weight, bias: None })
    })
}
