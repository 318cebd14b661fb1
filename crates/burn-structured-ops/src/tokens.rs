//! Inputs with any number of axes as one row for each token.

use crate::Epilogue;
use crate::dispatch::check_backend;
use burn::tensor::Tensor;

/// `x [.., n]` as `[tokens, n]`, which must not be empty.
///
/// A matrix stays as it is: a reshape may copy what was narrowed or transposed, while kernels read it through its strides.
///
/// # Panics
///
/// If this crate was compiled without the backend of `x`.
pub(crate) fn rows<const D: usize>(x: Tensor<D>) -> Tensor<2> {
    check_backend(x.device());
    if D == 2 {
        return Tensor::from_dispatch(x.into_dispatch());
    }
    let n = x.dims()[D - 1];
    let tokens = x.shape().num_elements() / n;
    x.reshape([tokens, n])
}

/// `y [.., m]` of an empty `x [.., n]`: without features every token's output is that of zeros.
pub(crate) fn empty_product<const D: usize>(x: Tensor<D>, m: usize, epilogue: Epilogue<D>) -> Tensor<D> {
    let mut shape = x.shape();
    shape[D - 1] = m;
    let empty = shape.num_elements() == 0;
    let zeros = Tensor::zeros(shape, (&x.device(), x.dtype()));
    if empty { zeros } else { epilogue.apply(zeros) }
}
