//! Block-diagonal matrices: every group of features is multiplied by its own small dense matrix.
//!
//! `W [m, n]` consists of `b` blocks `W_k [m/b, n/b]`; block `k` maps one group of input features to one group of output
//! features and nothing else, so a product costs `m n / b` multiplications a token. It is a layer by itself, and the two
//! factors of a Monarch matrix and the sparse part of a Pixelfly matrix are products of this kind.
//!
//! The features of a group are given by an [`Order`] on either side: neighbours, or every `b`-th. The permutations between such
//! factors are thus part of the products: on CubeCL devices they are strides of the GEMMs' operands, except for an output that
//! Burn's matmul cannot write, which is permuted afterwards; on Flex they happen in cache. The gradient of the
//! input is again a product of this kind, with the blocks transposed and the orders swapped.

mod backward;
#[cfg(feature = "flex")]
mod cpu;
#[cfg(feature = "cube")]
mod cube;
pub(crate) mod reference;
mod shapes;

#[cfg(any(feature = "ndarray", feature = "tch", feature = "remote"))]
mod fallback;

#[cfg(feature = "flex")]
pub(crate) use cpu::permute_features;

use crate::activation::ActivationBackend;
use crate::tokens::{empty_product, rows};
use crate::{Epilogue, EpilogueTensors};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Dispatch, backend_extension};
use burn::tensor::Tensor;

/// Which features belong to group `k` of `b`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Order {
    /// Neighbours: element `i` of group `k` is feature `k · size + i`.
    #[default]
    Grouped,
    /// Every `b`-th: element `i` of group `k` is feature `i · b + k`.
    Strided,
}

/// The orders on both sides of a block-diagonal matrix.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Orders {
    /// Of the input features.
    pub input: Order,
    /// Of the output features.
    pub output: Order,
}

impl Orders {
    /// The orders of the transposed matrix.
    pub fn transposed(self) -> Self {
        Self { input: self.output, output: self.input }
    }
}

/// How a block-diagonal product is computed. Results agree up to rounding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[allow(clippy::manual_non_exhaustive, reason = "the hidden variant is a candidate for tests and benchmarks")]
pub enum BlockStrategy {
    /// The fastest strategy known: native on Flex, Burn's batched matmul elsewhere.
    #[default]
    Auto,
    /// Plain Burn operations, forward and backward: the reference that the tests compare with.
    Reference,
    /// The tiled GEMM of this crate: a candidate that tests and benchmarks compare.
    #[doc(hidden)]
    TiledGemm,
}

/// What a backend provides for block-diagonal products; every method has a plain-Burn fallback.
///
/// Tensors are `x [tokens, b q]`, `w [b, p, q]`, `y [tokens, b p]`. Every method panics if its operands do not fit each
/// other.
#[backend_extension(
    Autodiff,
    Flex: cfg(feature = "flex"),
    NdArray: cfg(feature = "ndarray"),
    LibTorch: cfg(feature = "tch"),
    Remote: cfg(feature = "remote"),
    Cube: cfg(feature = "cube"),
    Fusion: cfg(feature = "fusion"),
)]
pub trait BlockDiagonalBackend: ActivationBackend {
    /// `y_k = x_k W_kᵀ`, and what follows.
    #[fusion(meta = |x, w, epilogue, orders, strategy| {
        let _ = (orders, strategy);
        let y = shapes::product([&x.shape, &w.shape]);
        epilogue.check(&y, x.dtype);
        crate::fusion::like(x, y)
    })]
    fn block_diagonal_product(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        #[extension_type] epilogue: EpilogueTensors<Self>,
        orders: Orders,
        strategy: BlockStrategy,
    ) -> FloatTensor<Self> {
        let _ = strategy;
        reference::product::<Self>(x, w, epilogue, orders)
    }

    /// Gradient of the blocks, `dW_k = dy_kᵀ x_k`: `[b, p, q]`.
    #[fusion(meta = |x, dy, blocks, orders, strategy| {
        let _ = (orders, strategy);
        crate::fusion::like(x, shapes::gradient([&x.shape, &dy.shape], *blocks))
    })]
    fn block_diagonal_gradient(
        x: FloatTensor<Self>,
        dy: FloatTensor<Self>,
        blocks: usize,
        orders: Orders,
        strategy: BlockStrategy,
    ) -> FloatTensor<Self> {
        let _ = strategy;
        reference::gradient::<Self>(x, dy, blocks, orders)
    }
}

/// Multiplies by a block-diagonal matrix: `y_k = x_k W_kᵀ + bias_k` for each group `k` of features, or whatever else the
/// [`Epilogue`] says follows the product.
///
/// # Shapes
///
/// - x: `[.., n]`, with at least one axis
/// - w: `[b, m / b, n / b]`
/// - epilogue: a bias `[m]`, `None`, or an [`Epilogue`]; all in the order of the output
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
/// use burn_structured_ops::block_diagonal::{Orders, block_diagonal_linear};
///
/// let device = Device::flex();
/// let normal = Distribution::Normal(0.0, 1.0);
/// let x = Tensor::<2>::random([5, 12], normal, &device);
/// let w = Tensor::<3>::random([3, 2, 4], normal, &device); // m = 6, n = 12
/// assert_eq!(block_diagonal_linear(x, w, None, Orders::default()).dims(), [5, 6]);
/// ```
pub fn block_diagonal_linear<const D: usize>(
    x: Tensor<D>,
    w: Tensor<3>,
    epilogue: impl Into<Epilogue<D>>,
    orders: Orders,
) -> Tensor<D> {
    block_diagonal_linear_with(x, w, epilogue, orders, BlockStrategy::Auto)
}

/// [`block_diagonal_linear`] by a chosen [`BlockStrategy`], forward and backward.
///
/// # Panics
///
/// As [`block_diagonal_linear`].
pub fn block_diagonal_linear_with<const D: usize>(
    x: Tensor<D>,
    w: Tensor<3>,
    epilogue: impl Into<Epilogue<D>>,
    orders: Orders,
    strategy: BlockStrategy,
) -> Tensor<D> {
    let (mut shape, epilogue) = (x.shape(), epilogue.into());
    let [b, p, q] = w.dims();
    let (n, m) = (b * q, b * p);
    assert_eq!(shape[D - 1], n, "block_diagonal: the last axis of `x` must be n = {n} as `w` {:?} says", w.dims());
    assert_eq!(w.dtype(), x.dtype(), "block_diagonal: `w` and `x` must have the same dtype");
    let empty = shape.num_elements() == 0;
    shape[D - 1] = m;
    epilogue.check("block_diagonal", &shape, x.dtype());
    if empty {
        return empty_product(x, m, epilogue);
    }
    let y = <Dispatch as BlockDiagonalBackend>::block_diagonal_product(
        rows(x).into_dispatch(),
        w.into_dispatch(),
        epilogue.into_tensors(),
        orders,
        strategy,
    );
    Tensor::<2>::from_dispatch(y).reshape(shape)
}

/// The dense matrix `W [m, n]` of the blocks `w [b, m / b, n / b]`.
pub fn block_diagonal_to_dense(w: Tensor<3>, orders: Orders) -> Tensor<2> {
    let [b, p, q] = w.dims();
    let identity = Tensor::<2>::eye(b, &w.device()).cast(w.dtype());
    // Block (k, l) is W_k where k = l and zero elsewhere: `[b, p, b, q]` in grouped order.
    let blocks = w.reshape([b, p, 1, q]) * identity.reshape([b, 1, b, 1]);
    let blocks = match orders.output {
        Order::Grouped => blocks,
        Order::Strided => blocks.swap_dims(0, 1),
    };
    let blocks = match orders.input {
        Order::Grouped => blocks,
        Order::Strided => blocks.swap_dims(2, 3),
    };
    blocks.reshape([b * p, b * q])
}
