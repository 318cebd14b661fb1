//! Low-rank matrices: a product with a narrow factor, and one with a wide one.
//!
//! `W [m, n] = U Vᵀ` with `V [n, r]` and `U [m, r]` costs `r (m + n)` multiplications a token. The factors are stored as they are
//! multiplied by, `V` and `Uᵀ`.

use crate::Epilogue;
use crate::dense::dense_linear;
use burn::tensor::Tensor;

/// Multiplies by a low-rank matrix: `y = x (U Vᵀ)ᵀ + bias = (x V) Uᵀ + bias`, or whatever else the [`Epilogue`] says follows
/// the product.
///
/// # Shapes
///
/// - x: `[.., n]`, with at least one axis
/// - v: `[n, r]`
/// - ut: `[r, m]`
/// - epilogue: a bias `[m]`, `None`, or an [`Epilogue`]
/// - output: `[.., m]`
///
/// # Panics
///
/// If a shape does not fit the others, or the tensors' dtypes differ; the message names the tensor.
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Distribution, Tensor};
/// use burn_structured_ops::low_rank::low_rank_linear;
///
/// let device = Device::flex();
/// let normal = Distribution::Normal(0.0, 1.0);
/// let x = Tensor::<2>::random([5, 12], normal, &device);
/// let (v, ut) = (Tensor::random([12, 3], normal, &device), Tensor::random([3, 8], normal, &device));
/// assert_eq!(low_rank_linear(x, v, ut, None).dims(), [5, 8]);
/// ```
pub fn low_rank_linear<const D: usize>(
    x: Tensor<D>,
    v: Tensor<2>,
    ut: Tensor<2>,
    epilogue: impl Into<Epilogue<D>>,
) -> Tensor<D> {
    let n = x.dims()[D - 1];
    assert_eq!(n, v.dims()[0], "low rank: the last axis of `x` must be n as `v` {:?} says, got {n}", v.dims());
    check_factors(&v, &ut);
    dense_linear(dense_linear(x, v, None), ut, epilogue)
}

/// The dense matrix `W [m, n]` of the factors.
///
/// # Panics
///
/// If the shapes do not fit each other.
pub fn low_rank_to_dense(v: Tensor<2>, ut: Tensor<2>) -> Tensor<2> {
    check_factors(&v, &ut);
    v.matmul(ut).transpose()
}

fn check_factors(v: &Tensor<2>, ut: &Tensor<2>) {
    assert_eq!(
        v.dims()[1],
        ut.dims()[0],
        "low rank: `v` {:?} and `ut` {:?} must have the same rank",
        v.dims(),
        ut.dims()
    );
}
