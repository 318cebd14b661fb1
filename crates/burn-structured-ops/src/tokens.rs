//! Inputs of any number of axes as one row for each token.

use burn::tensor::Tensor;

/// `x [.., n]` as `[tokens, n]`, which must not be empty.
///
/// What has two axes is handed on as it lies: a reshape may copy what was narrowed or transposed, while kernels read it through its
/// strides.
pub(crate) fn rows<const D: usize>(x: Tensor<D>) -> Tensor<2> {
    if D == 2 {
        return Tensor::from_dispatch(x.into_dispatch());
    }
    let n = x.dims()[D - 1];
    let tokens = x.shape().num_elements() / n;
    x.reshape([tokens, n])
}
