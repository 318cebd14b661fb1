//! Monarch matrices: two block-diagonal factors with a permutation between them.
//!
//! `W = P₂ L P₁ R` (Dao, Chen, Sohoni, Desai, Poli, Grogan, Liu, Rao, Rudra, Ré, *Monarch: Expressive Structured Matrices
//! for Efficient and Accurate Training*, ICML 2022; rectangular blocks as in the BLAST paper's baselines): `R` is
//! block-diagonal with `k` blocks `[q, n/k]`, `P₁` hands every `l`-th of the `k q` features in between to the same group,
//! and `L` is block-diagonal with `l` blocks `[m/l, k q / l]`. The output comes in strided order ([`Order::Strided`], `P₂`
//! being that permutation), or in grouped order, in which the matrix is a block tensor-train (Qiu et al., *Compute Better
//! Spent*, ICML 2024).
//!
//! The permutations are part of the two block-diagonal products: see [`crate::block_diagonal`], whose operation this is built from,
//! with its gradients.

use crate::Epilogue;
use crate::block_diagonal::{BlockStrategy, Order, Orders, block_diagonal_linear_with, block_diagonal_to_dense};
use burn::tensor::Tensor;

/// Multiplies by a Monarch matrix: `y = x (P₂ L P₁ R)ᵀ + bias`, or whatever else the [`Epilogue`] says follows the product.
///
/// # Shapes
///
/// - x: `[.., n]`, with at least one axis
/// - r: `[k, q, n / k]`, the blocks of the right factor
/// - l: `[l, m / l, k q / l]`, the blocks of the left factor
/// - epilogue: a bias `[m]`, `None`, or an [`Epilogue`]
/// - output: `[.., m]`; with [`Order::Strided`], row `i` of block `g` of the left factor is feature `i l + g`, with
///   [`Order::Grouped`] it is feature `g m / l + i`
///
/// # Panics
///
/// If a shape does not fit the others, or the tensors' dtypes differ; the message names the tensor.
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Distribution, Tensor};
/// use burn_structured_ops::{block_diagonal::Order, monarch::monarch_linear};
///
/// let device = Device::flex();
/// let normal = Distribution::Normal(0.0, 1.0);
/// let x = Tensor::<2>::random([5, 12], normal, &device);
/// let r = Tensor::<3>::random([3, 4, 4], normal, &device); // n = 12, 12 features in between
/// let l = Tensor::<3>::random([2, 5, 6], normal, &device); // m = 10
/// assert_eq!(monarch_linear(x, r, l, None, Order::Strided).dims(), [5, 10]);
/// ```
pub fn monarch_linear<const D: usize>(
    x: Tensor<D>,
    r: Tensor<3>,
    l: Tensor<3>,
    epilogue: impl Into<Epilogue<D>>,
    output: Order,
) -> Tensor<D> {
    monarch_linear_with(x, r, l, epilogue, output, BlockStrategy::Auto)
}

/// [`monarch_linear`] by a chosen [`BlockStrategy`], forward and backward.
///
/// # Panics
///
/// As [`monarch_linear`].
pub fn monarch_linear_with<const D: usize>(
    x: Tensor<D>,
    r: Tensor<3>,
    l: Tensor<3>,
    epilogue: impl Into<Epilogue<D>>,
    output: Order,
    strategy: BlockStrategy,
) -> Tensor<D> {
    check_factors(&r, &l);
    let ([k, _, p], [groups, s, _], n) = (r.dims(), l.dims(), x.shape()[D - 1]);
    assert_eq!(n, k * p, "monarch: the last axis of `x` must be n = {} as `r` {:?} says, got {n}", k * p, r.dims());
    for (name, dtype) in [("r", r.dtype()), ("l", l.dtype())] {
        assert_eq!(dtype, x.dtype(), "monarch: `{name}` and `x` must have the same dtype");
    }
    let (mut shape, epilogue) = (x.shape(), epilogue.into());
    shape[D - 1] = groups * s;
    epilogue.check("monarch", &shape, x.dtype());
    let between = block_diagonal_linear_with(x, r, None, Orders::default(), strategy);
    block_diagonal_linear_with(between, l, epilogue, Orders { input: Order::Strided, output }, strategy)
}

/// The dense matrix `W [m, n]` of the factors.
///
/// # Panics
///
/// If the shapes do not fit each other.
pub fn monarch_to_dense(r: Tensor<3>, l: Tensor<3>, output: Order) -> Tensor<2> {
    check_factors(&r, &l);
    let columns = block_diagonal_to_dense(r, Orders::default());
    // The rows of Rᵀ are the images of the unit vectors.
    block_diagonal_linear_with(
        columns.transpose(),
        l,
        None,
        Orders { input: Order::Strided, output },
        BlockStrategy::Reference,
    )
    .transpose()
}

fn check_factors(r: &Tensor<3>, l: &Tensor<3>) {
    let ([k, q, _], [groups, _, width]) = (r.dims(), l.dims());
    assert_eq!(
        groups * width,
        k * q,
        "monarch: `l` {:?} must read the k · q = {} features that `r` {:?} makes",
        l.dims(),
        k * q,
        r.dims()
    );
}
