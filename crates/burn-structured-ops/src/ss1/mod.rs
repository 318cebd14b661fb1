//! SS1: products with a matrix whose rows reuse each stored weight several times.
//!
//! Each output row has `n` weights but stores only `n / c`: neighbouring blocks of `K` input features share them, each
//! block rotated by a hash (Saedi, Desai, Walia, Lee, Zhou, Shrivastava, *Accelerating Inference with Fast and Expressive
//! Sketch Structured Transform*, NeurIPS 2024). A product therefore folds the input into a sketch first,
//!
//! ```text
//! a_b[g K + q] = Σ_j sign(b, g, j) · x[(g c + j) K + (q + shift(b, g, j)) mod K]
//! y_b          = a_b Z_b + bias_b
//! ```
//!
//! for each block `b` of `N` output rows, and costs `m n / c` multiplications a token.
//!
//! # Two kinds of rotations
//!
//! If the rotations *between* the blocks of a group are the same for all output rows ([`Rotations::Arithmetic`]), one
//! sketch serves them all: the layer is a fixed fold of `x` and then a dense product at `1/c` of the FLOPs, forward and
//! backward, and its rank is at most `n / c`. If every block of rows has its own ([`Rotations::Drawn`]), the rank is
//! nearly full, but each block of rows needs a sketch of its own, which should not be written to memory.

mod backward;
#[cfg(feature = "flex")]
mod cpu;
#[cfg(feature = "cube")]
mod cube;
mod fold;
mod reference;
mod shapes;

#[cfg(any(feature = "ndarray", feature = "tch", feature = "remote"))]
mod fallback;

#[cfg(feature = "flex")]
pub(crate) use cpu::{FoldPlan, doubled};
pub use fold::{Fold, Rotations};

use crate::activation::ActivationBackend;
use crate::dense::dense_linear;
use crate::dispatch::check_backend;
use crate::tokens::{empty_product, rows};
use crate::{Epilogue, EpilogueTensors};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Dispatch, backend_extension};
use burn::tensor::{Tensor, TensorData};

/// How an SS1 product is computed. Results agree up to rounding.
///
/// The backward pass is of the same kind: with a sketch in memory, its gradient is there as well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Ss1Strategy {
    /// The fastest strategy known: [`Staged`](Self::Staged) if one sketch serves all rows, [`Fused`](Self::Fused) if every block
    /// of them has its own.
    #[default]
    Auto,
    /// Plain Burn operations, forward and backward: the reference that the tests compare with.
    Reference,
    /// A kernel writes the sketch to memory, and the device's fastest dense product reads it; one block of rows after the other.
    Staged,
    /// The product folds `x` as it reads it, and no sketch is ever in memory: on CubeCL devices in this crate's own GEMM, on Flex a
    /// tile of tokens at a time.
    Fused,
}

/// What a backend provides for SS1 products; every method has a plain-Burn fallback.
///
/// Tensors are `x [tokens, n]`, `a [tokens, w]`, `z [w, m]` with `w` the [`Fold::width`]. Every method panics if its operands
/// do not fit each other and the fold.
#[backend_extension(
    Autodiff,
    Flex: cfg(feature = "flex"),
    NdArray: cfg(feature = "ndarray"),
    LibTorch: cfg(feature = "tch"),
    Remote: cfg(feature = "remote"),
    Cube: cfg(feature = "cube"),
    Fusion: cfg(feature = "fusion"),
)]
pub trait Ss1Backend: ActivationBackend {
    /// The sketch `a [tokens, w]` of `x` by the rotations of output block `output_block`.
    #[fusion(dtype = x, shape = shapes::folded([x], *fold))]
    fn ss1_fold(x: FloatTensor<Self>, fold: Fold, output_block: usize) -> FloatTensor<Self> {
        reference::fold::<Self>(x, fold, output_block)
    }

    /// The transpose of [`ss1_fold`](Self::ss1_fold): `[tokens, w]` → `[tokens, n]`.
    #[fusion(dtype = a, shape = shapes::unfolded([a], *fold))]
    fn ss1_unfold(a: FloatTensor<Self>, fold: Fold, output_block: usize) -> FloatTensor<Self> {
        reference::unfold::<Self>(a, fold, output_block)
    }

    /// `y_b = a_b Z_b` for every block of output rows, each with its own sketch, and what follows.
    #[fusion(meta = |x, z, epilogue, fold, strategy| {
        let _ = strategy;
        let y = shapes::product([&x.shape, &z.shape], *fold);
        epilogue.check(&y, x.dtype);
        crate::fusion::like(x, y)
    })]
    fn ss1_product(
        x: FloatTensor<Self>,
        z: FloatTensor<Self>,
        #[extension_type] epilogue: EpilogueTensors<Self>,
        fold: Fold,
        strategy: Ss1Strategy,
    ) -> FloatTensor<Self> {
        let _ = strategy;
        epilogue.apply(reference::product::<Self>(x, z, fold))
    }

    /// Gradient of the input of [`ss1_product`](Self::ss1_product).
    #[fusion(dtype = dy, shape = shapes::input_gradient([dy, z], *fold))]
    fn ss1_input_gradient(
        dy: FloatTensor<Self>,
        z: FloatTensor<Self>,
        fold: Fold,
        strategy: Ss1Strategy,
    ) -> FloatTensor<Self> {
        let _ = (&z, strategy);
        reference::input_gradient::<Self>(dy, z, fold)
    }

    /// Gradient of the weights of [`ss1_product`](Self::ss1_product): `[w, m]`.
    #[fusion(dtype = x, shape = shapes::weight_gradient([x, dy], *fold))]
    fn ss1_weight_gradient(
        x: FloatTensor<Self>,
        dy: FloatTensor<Self>,
        fold: Fold,
        strategy: Ss1Strategy,
    ) -> FloatTensor<Self> {
        let _ = strategy;
        reference::weight_gradient::<Self>(x, dy, fold)
    }
}

/// Multiplies by an SS1 matrix: `y = x Wᵀ + bias`, or whatever else the [`Epilogue`] says follows the product, with the weights of
/// `W` tied as `fold` says.
///
/// # Shapes
///
/// - x: `[.., n]`, with at least one axis
/// - z: `[w, m]`, the stored weights, with `w` the [`Fold::width`]
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
/// use burn_structured_ops::ss1::{Fold, Rotations, ss1_linear};
///
/// let device = Device::flex();
/// let normal = Distribution::Normal(0.0, 1.0);
/// let rotations = Rotations::Drawn { seed: 1, signs: true };
/// let fold = Fold { d_input: 64, reduction: 4, block_k: 8, block_n: 16, rotations };
/// let x = Tensor::<2>::random([5, 64], normal, &device);
/// let z = Tensor::<2>::random([fold.width(), 32], normal, &device);
/// assert_eq!(ss1_linear(x, z, None, fold).dims(), [5, 32]);
/// ```
pub fn ss1_linear<const D: usize>(
    x: Tensor<D>,
    z: Tensor<2>,
    epilogue: impl Into<Epilogue<D>>,
    fold: Fold,
) -> Tensor<D> {
    ss1_linear_with(x, z, epilogue, fold, Ss1Strategy::Auto)
}

/// [`ss1_linear`] by a chosen [`Ss1Strategy`], forward and backward.
///
/// # Panics
///
/// As [`ss1_linear`].
pub fn ss1_linear_with<const D: usize>(
    x: Tensor<D>,
    z: Tensor<2>,
    epilogue: impl Into<Epilogue<D>>,
    fold: Fold,
    strategy: Ss1Strategy,
) -> Tensor<D> {
    fold.check();
    let (mut shape, epilogue) = (x.shape(), epilogue.into());
    let [width, m] = z.dims();
    assert_eq!(shape[D - 1], fold.d_input, "ss1: the last axis of `x` must be n = {}", fold.d_input);
    assert_eq!(width, fold.width(), "ss1: `z` must be [w, m] with w = {}, got {:?}", fold.width(), z.dims());
    assert_eq!(z.dtype(), x.dtype(), "ss1: `z` and `x` must have the same dtype");
    let empty = shape.num_elements() == 0;
    shape[D - 1] = m;
    epilogue.check("ss1", &shape, x.dtype());
    if empty {
        return empty_product(x, m, epilogue);
    }
    let (x, epilogue) = (rows(x), epilogue.into_rows());
    let one_sketch = matches!(fold.rotations, Rotations::Arithmetic { .. });
    let y = match strategy {
        Ss1Strategy::Staged => sketched(x, z, epilogue, fold),
        Ss1Strategy::Auto if one_sketch => sketched(x, z, epilogue, fold),
        _ => {
            let (x, z, epilogue) = (x.into_dispatch(), z.into_dispatch(), epilogue.into_tensors());
            Tensor::<2>::from_dispatch(<Dispatch as Ss1Backend>::ss1_product(x, z, epilogue, fold, strategy))
        }
    };
    y.reshape(shape)
}

/// `y_b = a_b Z_b`, the sketch of one block of rows after the other in memory, and what follows.
fn sketched(x: Tensor<2>, z: Tensor<2>, epilogue: Epilogue<2>, fold: Fold) -> Tensor<2> {
    let m = z.dims()[1];
    let blocks = fold.output_blocks(m);
    if blocks <= 1 {
        return dense_linear(folded(x, fold, 0), z, epilogue);
    }
    let pieces = (0..blocks).map(|block| {
        let z = z.clone().slice([0..z.dims()[0], fold.output_rows(m, block)]);
        dense_linear(folded(x.clone(), fold, block), z, None)
    });
    epilogue.apply(Tensor::cat(pieces.collect(), 1))
}

/// The sketch `[tokens, w]` of one block of output rows.
pub(crate) fn folded(x: Tensor<2>, fold: Fold, output_block: usize) -> Tensor<2> {
    check_backend(x.device());
    Tensor::from_dispatch(<Dispatch as Ss1Backend>::ss1_fold(x.into_dispatch(), fold, output_block))
}

/// The one sketch `[tokens, w]` that serves all rows under [`Rotations::Arithmetic`].
///
/// # Panics
///
/// If `x` is not `[tokens, n]`.
pub fn ss1_fold(x: Tensor<2>, fold: Fold) -> Tensor<2> {
    assert_eq!(x.dims()[1], fold.d_input, "ss1: the last axis of `x` must be n = {}", fold.d_input);
    folded(x, fold, 0)
}

/// The dense matrix `W [m, n]` of stored weights `z [w, m]`.
///
/// # Panics
///
/// If `z` does not have [`Fold::width`] rows.
pub fn ss1_to_dense(z: Tensor<2>, fold: Fold) -> Tensor<2> {
    fold.check();
    check_backend(z.device());
    let [width, m] = z.dims();
    assert_eq!(width, fold.width(), "ss1: `z` must be [w, m] with w = {}, got {:?}", fold.width(), z.dims());
    per_output_block(z.transpose(), fold, |rows, output_block| {
        Tensor::from_dispatch(<Dispatch as Ss1Backend>::ss1_unfold(rows.into_dispatch(), fold, output_block))
    })
    .reshape([m, fold.d_input])
}

/// The stored weights `[w, m]` nearest to a dense `weight [m, n]`: each the mean of those it stands for, signs undone.
///
/// This is the least-squares optimum, since every dense weight depends on one stored weight. Weights that stand for none
/// (in a partly empty group) are zero.
///
/// # Panics
///
/// If `weight` is not `[m, n]`.
pub fn ss1_from_dense(weight: Tensor<2>, fold: Fold) -> Tensor<2> {
    fold.check();
    assert_eq!(weight.dims()[1], fold.d_input, "ss1: the last axis of `weight` must be n = {}", fold.d_input);
    let (device, dtype) = (weight.device(), weight.dtype());
    per_output_block(weight, fold, |rows, output_block| {
        let mut uses = vec![0.0f64; fold.width()];
        for (source, _) in fold.sources(output_block) {
            uses[source] += 1.0;
        }
        let shares: Vec<f64> = uses.into_iter().map(|uses| 1.0 / uses.max(1.0)).collect();
        let shares = Tensor::<2>::from_data(TensorData::new(shares, [1, fold.width()]), (&device, dtype));
        folded(rows, fold, output_block) * shares
    })
    .transpose()
}

/// Applies `map` to the rows of every output block in turn.
fn per_output_block(rows: Tensor<2>, fold: Fold, map: impl Fn(Tensor<2>, usize) -> Tensor<2>) -> Tensor<2> {
    let m = rows.dims()[0];
    let blocks = fold.output_blocks(m);
    if blocks <= 1 {
        return map(rows, 0);
    }
    let pieces = (0..blocks).map(|block| map(rows.clone().slice([fold.output_rows(m, block)]), block));
    Tensor::cat(pieces.collect(), 0)
}
