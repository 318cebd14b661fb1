//! The linear layers of a model's blocks.

use crate::ModelError;
use burn::nn::Initializer;
use burn::tensor::Device;
use burn_structured_nn::{
    MlpActivation, Structure, StructureError, StructuredLinear, StructuredLinearConfig, StructuredMlp,
    StructuredMlpConfig,
};

/// A linear layer of a block; an error says which one.
pub(crate) fn structured(
    layer: &'static str,
    d_input: usize,
    d_output: usize,
    structure: Structure,
    device: &Device,
) -> Result<StructuredLinear, ModelError> {
    let config = StructuredLinearConfig::new(d_input, d_output, structure);
    config.try_init(device).map_err(|source| error(layer, [d_input, d_output], structure, source))
}

/// A linear layer that gives zeros until it is trained; an error says which one.
///
/// Of a structured layer one factor is zero, so that it has a gradient to grow by.
pub(crate) fn zero(
    layer: &'static str,
    d_input: usize,
    d_output: usize,
    structure: Structure,
    device: &Device,
) -> Result<StructuredLinear, ModelError> {
    let config = StructuredLinearConfig::new(d_input, d_output, structure).with_initializer(Some(Initializer::Zeros));
    config.try_init(device).map_err(|source| error(layer, [d_input, d_output], structure, source))
}

/// The MLP of a block; an error says which one of them.
pub(crate) fn mlp(
    d_model: usize,
    d_hidden: usize,
    [(up_name, up), (down_name, down)]: [(&'static str, Structure); 2],
    activation: MlpActivation,
    device: &Device,
) -> Result<StructuredMlp, ModelError> {
    let config = StructuredMlpConfig::new(d_model, d_hidden).with_up(up).with_down(down).with_activation(activation);
    config.try_init(device).map_err(|source| match structured(up_name, d_model, d_hidden, up, device) {
        Err(error) => error,
        Ok(_) => error(down_name, [d_hidden, d_model], down, source),
    })
}

fn error(
    layer: &'static str,
    [d_input, d_output]: [usize; 2],
    structure: Structure,
    source: StructureError,
) -> ModelError {
    ModelError::Structure { layer, d_input, d_output, structure, source: Box::new(source) }
}
