//! Symmetric positive definite systems, solved in batches by Cholesky factorization.
//!
//! `a x = b` for each matrix `a [n, n]` of a batch, with `k` right-hand sides each:
//!
//! ```text
//! a = L Lᵀ        L y = b        Lᵀ x = y
//! ```
//!
//! at `n³ / 3 + 2 n² k` FLOPs a matrix. It is what a preconditioned factorization needs and Burn lacks: a step of least
//! squares on one factor, the others held, is a batch of normal equations whose Gram matrices are of this kind.
//!
//! Only the lower triangle of `a` is read. [`spd_solve`] never waits for the device; what it cannot solve becomes NaN.
//! [`try_spd_solve`] looks, and names the matrices; [`spd_solve_damped`] adds to the diagonals of those that are singular.

mod backward;
#[cfg(all(feature = "flex", feature = "faer"))]
mod cpu;
#[cfg(feature = "cube")]
mod cube;
mod damped;
mod error;
pub(crate) mod reference;
mod shapes;

#[cfg(any(feature = "flex", feature = "ndarray", feature = "tch", feature = "remote"))]
mod fallback;

pub use damped::spd_solve_damped;
pub use error::SpdError;
use shapes::computed;

use crate::dispatch::check_backend;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, TensorMetadata, backend_extension};
use burn::tensor::Tensor;

/// How a system is solved. Results agree up to rounding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[allow(clippy::manual_non_exhaustive, reason = "the hidden variant is a candidate for tests and benchmarks")]
pub enum SpdStrategy {
    /// The fastest strategy known: native on Flex with the feature `faer`, this crate's kernels on CubeCL devices.
    #[default]
    Auto,
    /// Plain Burn operations, forward and backward: the reference that the tests compare with.
    Reference,
    /// The tiled GEMM of this crate in the backward pass, too: a candidate that tests and benchmarks compare.
    #[doc(hidden)]
    TiledGemm,
}

/// What a backend provides for positive definite systems; every method has a plain-Burn fallback.
///
/// Tensors are `a`, `factor` `[batch, n, n]` and `b`, `x` `[batch, n, k]`, none of them empty: every method panics if they are, or
/// do not fit each other. The half-precision types are solved in f32, which is the type of their factors.
#[backend_extension(
    Autodiff,
    Flex: cfg(feature = "flex"),
    NdArray: cfg(feature = "ndarray"),
    LibTorch: cfg(feature = "tch"),
    Remote: cfg(feature = "remote"),
    Cube: cfg(feature = "cube"),
    Fusion: cfg(feature = "fusion"),
)]
pub trait SpdBackend: Backend {
    /// `L` with `L Lᵀ = a`, a constant to autodiff. What lies above the diagonal is unspecified.
    ///
    /// If a pivot of a matrix is not a positive number, the diagonal of its factor is NaN from there to its end.
    #[fusion(dtype = computed(a), shape = shapes::factor(a))]
    fn spd_factor(a: FloatTensor<Self>, strategy: SpdStrategy) -> FloatTensor<Self> {
        let _ = strategy;
        reference::factor::<Self>(a)
    }

    /// `x` with `L Lᵀ x = b`, differentiable with respect to `b` alone.
    #[fusion(dtype = b, shape = shapes::solution(factor, b))]
    fn spd_substitute(factor: FloatTensor<Self>, b: FloatTensor<Self>, strategy: SpdStrategy) -> FloatTensor<Self> {
        let _ = (strategy, &factor);
        reference::substitute::<Self>(factor, b)
    }

    /// [`spd_substitute`](Self::spd_substitute), differentiable also with respect to `a`, whose factor is `factor`.
    #[fusion(default)]
    fn spd_solve(
        a: FloatTensor<Self>,
        factor: FloatTensor<Self>,
        b: FloatTensor<Self>,
        strategy: SpdStrategy,
    ) -> FloatTensor<Self> {
        shapes::solution(&a.shape(), &b.shape());
        Self::spd_substitute(factor, b, strategy)
    }

    /// Gradient of `a`, `−(db xᵀ + x dbᵀ) / 2`.
    #[fusion(dtype = x, shape = shapes::matrix_gradient([db, x]))]
    fn spd_matrix_gradient(db: FloatTensor<Self>, x: FloatTensor<Self>, strategy: SpdStrategy) -> FloatTensor<Self> {
        let _ = (strategy, &db);
        reference::matrix_gradient::<Self>(db, x)
    }
}

/// Solves `a x = b` for every matrix of a batch, `a` symmetric positive definite.
///
/// Reads only the lower triangle of `a`, and does not wait for the device. f16 and bf16 are solved in f32.
///
/// A matrix that is not positive definite (a pivot of its factorization is not a positive number) makes its whole solution
/// NaN and leaves those of the other matrices alone.
///
/// # Shapes
///
/// - a: `[batch, n, n]`
/// - b: `[batch, n, k]`
/// - output: `[batch, n, k]`
///
/// # Gradients
///
/// With `dx` the gradient of the solution, `db = a⁻¹ dx` and `da = −(db xᵀ + x dbᵀ) / 2`: the gradient of the full
/// matrix along symmetric changes of it, although only one triangle is read. A function of `a` that is symmetric anyway,
/// such as a Gram matrix, gets its exact gradient.
///
/// # Panics
///
/// If a shape does not fit the other, or the tensors' dtypes differ.
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Distribution, Tensor};
/// use burn_structured_ops::spd::spd_solve;
///
/// let device = Device::flex();
/// let factor = Tensor::<3>::random([6, 40, 8], Distribution::Normal(0.0, 1.0), &device);
/// let gram = factor.clone().swap_dims(1, 2).matmul(factor); // [6, 8, 8]
/// let x = spd_solve(gram.clone(), Tensor::ones([6, 8, 3], &device));
/// assert!((gram.matmul(x) - 1.0).abs().max().into_scalar::<f32>() < 1e-3);
/// ```
pub fn spd_solve(a: Tensor<3>, b: Tensor<3>) -> Tensor<3> {
    spd_solve_with(a, b, SpdStrategy::Auto)
}

/// [`spd_solve`] by a chosen [`SpdStrategy`], forward and backward.
///
/// # Panics
///
/// As [`spd_solve`].
pub fn spd_solve_with(a: Tensor<3>, b: Tensor<3>, strategy: SpdStrategy) -> Tensor<3> {
    check_backend(a.device());
    if let Err(error) = check_operands(&a, &b) {
        panic!("{error}");
    }
    if is_empty(&b) {
        return b.zeros_like();
    }
    let factor = factor(&a, strategy);
    solve(a, factor, b, strategy)
}

/// [`spd_solve`], checked: waits for the device.
///
/// # Errors
///
/// If a matrix is not positive definite, a shape does not fit the other, or the tensors' dtypes differ.
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_structured_ops::spd::{SpdError, try_spd_solve};
///
/// let device = Device::flex();
/// let a = Tensor::<3>::from_data([[[4.0]], [[-1.0]]], &device);
/// let b = Tensor::<3>::ones([2, 1, 1], &device);
/// let error = try_spd_solve(a, b).unwrap_err();
/// assert_eq!(error, SpdError::NotPositiveDefinite { matrices: vec![1], batch: 2 });
/// ```
pub fn try_spd_solve(a: Tensor<3>, b: Tensor<3>) -> Result<Tensor<3>, SpdError> {
    try_spd_solve_with(a, b, SpdStrategy::Auto)
}

/// [`try_spd_solve`] by a chosen [`SpdStrategy`], forward and backward.
///
/// # Errors
///
/// As [`try_spd_solve`].
pub fn try_spd_solve_with(a: Tensor<3>, b: Tensor<3>, strategy: SpdStrategy) -> Result<Tensor<3>, SpdError> {
    check_backend(a.device());
    check_operands(&a, &b)?;
    if is_empty(&b) {
        return Ok(b.zeros_like());
    }
    let [batch, n, _] = a.dims();
    let factor = factor(&a, strategy);
    let last = read(factor.clone().slice([0..batch, n - 1..n, n - 1..n]));
    let matrices: Vec<usize> = (0..batch).filter(|matrix| !last[*matrix].is_finite()).collect();
    if !matrices.is_empty() {
        return Err(SpdError::NotPositiveDefinite { matrices, batch });
    }
    Ok(solve(a, factor, b, strategy))
}

fn check_operands(a: &Tensor<3>, b: &Tensor<3>) -> Result<(), SpdError> {
    let (a_dims, b_dims) = (a.dims(), b.dims());
    let [batch, n, columns] = a_dims;
    if columns != n || b_dims[0] != batch || b_dims[1] != n {
        return Err(SpdError::Shapes { a: a_dims, b: b_dims });
    }
    if a.dtype() != b.dtype() {
        return Err(SpdError::DTypes { a: a.dtype(), b: b.dtype() });
    }
    Ok(())
}

fn is_empty(b: &Tensor<3>) -> bool {
    b.shape().num_elements() == 0
}

fn factor(a: &Tensor<3>, strategy: SpdStrategy) -> Tensor<3> {
    Tensor::from_dispatch(<Dispatch as SpdBackend>::spd_factor(a.clone().into_dispatch(), strategy))
}

fn solve(a: Tensor<3>, factor: Tensor<3>, b: Tensor<3>, strategy: SpdStrategy) -> Tensor<3> {
    Tensor::from_dispatch(<Dispatch as SpdBackend>::spd_solve(
        a.into_dispatch(),
        factor.into_dispatch(),
        b.into_dispatch(),
        strategy,
    ))
}

/// The elements on the host.
fn read<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor.into_data().convert::<f64>().iter::<f64>().collect()
}
