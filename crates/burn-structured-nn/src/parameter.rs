//! Tensors that are at hand, as parameters.

use burn::module::Param;
use burn::tensor::Tensor;

/// A tensor as a trainable parameter.
pub(crate) fn parameter<const D: usize>(tensor: Tensor<D>) -> Param<Tensor<D>> {
    Param::from_tensor(tensor.detach())
}
