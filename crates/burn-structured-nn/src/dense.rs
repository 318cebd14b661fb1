//! The dense layer seen as one of the structures, for comparison and as the fallback of [`crate::StructuredLinear`].

use crate::Cost;
use burn::module::Param;
use burn::nn::Linear;
use burn::tensor::Tensor;
use burn_structured_ops::Epilogue;
use burn_structured_ops::dense::dense_linear;

/// `y = x W + bias`, on Flex by the products that structured layers are made of, and what follows.
pub(crate) fn forward_then<const D: usize>(linear: &Linear, input: Tensor<D>, epilogue: Epilogue<D>) -> Tensor<D> {
    dense_linear(input, linear.weight.val(), own_bias(epilogue, &linear.bias))
}

/// What follows a layer, with the layer's own bias.
pub(crate) fn own_bias<const D: usize>(epilogue: Epilogue<D>, bias: &Option<Param<Tensor<1>>>) -> Epilogue<D> {
    epilogue.with_bias(bias.as_ref().map(|bias| bias.val()))
}

/// The cost of a dense layer.
pub(crate) fn cost(linear: &Linear) -> Cost {
    let weight = linear.weight.val();
    let [d_input, d_output] = weight.dims();
    Cost::of_weights(d_input * d_output, d_input, d_output, linear.bias.is_some(), weight.dtype().size())
}

/// The weight as `[d_output, d_input]`; Burn stores its transpose.
pub(crate) fn to_dense(linear: &Linear) -> Tensor<2> {
    linear.weight.val().transpose()
}
