//! Sums of Kronecker products.
//!
//! `W [m, n] = Σ_k A_k ⊗ B_k` with `A_k [m₁, n₁]`, `B_k [m₂, n₂]`, `m = m₁ m₂`, `n = n₁ n₂`: every block `(i, j)` of `W` is
//! the sum of the same few matrices `B_k`, weighted by `A_k[i, j]`. A product costs `K n₁ m₂ (n₂ + m₁)` multiplications a
//! token with `K` summands: `B` is applied to the rows of `x` seen as `[n₁, n₂]`, then `A` to its columns.
//!
//! Both steps are plain GEMMs over all tokens, so the product is written in tensor operations and leaves kernels and
//! gradients to Burn.

use crate::Epilogue;
use crate::tokens::empty_product;
use burn::tensor::Tensor;

/// Multiplies by a sum of Kronecker products: `y = x (Σ_k A_k ⊗ B_k)ᵀ + bias`.
///
/// # Shapes
///
/// - x: `[.., n₁ n₂]`, with at least one axis
/// - a: `[K, m₁, n₁]`
/// - b: `[K, m₂, n₂]`
/// - epilogue: a bias `[m₁ m₂]`, `None`, or an [`Epilogue`]
/// - output: `[.., m₁ m₂]`
///
/// # Panics
///
/// If a shape does not fit the others; the message names the tensor.
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Distribution, Tensor};
/// use burn_structured_ops::kronecker::kronecker_linear;
///
/// let device = Device::flex();
/// let normal = Distribution::Normal(0.0, 1.0);
/// let x = Tensor::<2>::random([5, 12], normal, &device);
/// let a = Tensor::<3>::random([2, 5, 3], normal, &device);
/// let b = Tensor::<3>::random([2, 2, 4], normal, &device);
/// assert_eq!(kronecker_linear(x, a, b, None).dims(), [5, 10]);
/// ```
pub fn kronecker_linear<const D: usize>(
    x: Tensor<D>,
    a: Tensor<3>,
    b: Tensor<3>,
    epilogue: impl Into<Epilogue<D>>,
) -> Tensor<D> {
    check_factors(&a, &b);
    let ([count, m1, n1], [_, m2, n2]) = (a.dims(), b.dims());
    let (mut shape, epilogue) = (x.shape(), epilogue.into());
    assert_eq!(shape[D - 1], n1 * n2, "kronecker: the last axis of `x` must be n₁ · n₂ = {n1} · {n2}");
    let elements = shape.num_elements();
    shape[D - 1] = m1 * m2;
    epilogue.check("kronecker", &shape, x.dtype());
    if elements == 0 {
        return empty_product(x, m1 * m2, epilogue);
    }
    let tokens = elements / (n1 * n2);
    let rows = x.reshape([tokens * n1, n2]).matmul(b.reshape([count * m2, n2]).transpose());
    let columns = rows.reshape([tokens, n1 * count, m2]).swap_dims(1, 2).reshape([tokens * m2, n1 * count]);
    let y = columns.matmul(a.permute([2, 0, 1]).reshape([n1 * count, m1]));
    epilogue.apply(y.reshape([tokens, m2, m1]).swap_dims(1, 2).reshape(shape))
}

/// The dense matrix `W [m₁ m₂, n₁ n₂]` of the factors.
///
/// # Panics
///
/// If the factors do not have the same number of summands.
pub fn kronecker_to_dense(a: Tensor<3>, b: Tensor<3>) -> Tensor<2> {
    check_factors(&a, &b);
    let ([count, m1, n1], [_, m2, n2]) = (a.dims(), b.dims());
    // Van Loan and Pitsianis's rearrangement: all entries of A against all entries of B.
    let outer = a.reshape([count, m1 * n1]).transpose().matmul(b.reshape([count, m2 * n2]));
    outer.reshape([m1, n1, m2, n2]).swap_dims(1, 2).reshape([m1 * m2, n1 * n2])
}

fn check_factors(a: &Tensor<3>, b: &Tensor<3>) {
    assert_eq!(
        a.dims()[0],
        b.dims()[0],
        "kronecker: `a` {:?} and `b` {:?} must have as many summands",
        a.dims(),
        b.dims()
    );
}
