//! Products with int8 weights: a structured matrix whose factors are quantized, and executed quantized.
//!
//! Every row of a factor is stored as int8 with a scale of its own, symmetric: `w ≈ scale · q` with `q` in −127 ..= 127. The input of a
//! product is quantized as it comes, for each token and each block of input features, by the same rule. A product is then
//!
//! ```text
//! y[t, o] = x_scale[t] · w_scale[o] · Σ_k x_q[t, k] w_q[o, k]        Σ in i32, which is exact
//! ```
//!
//! What stands between two factors stays in f32: BLAST's coupling, Monarch's permutation, the sketch of SS1. It is applied while the
//! input of the next product is quantized, so it costs no pass of its own.
//!
//! On Flex the products run on the processor's instructions for int8 (`cpu/isa`). Elsewhere, and where gradients are wanted, they are a
//! few of Burn's operations on the integers as floats; gradients pass through the rounding unchanged (the straight-through estimator of
//! Bengio, Léonard, Courville, 2013). The two round alike, but a backend that computes a scale in another way can place a value
//! that lies between two integers on the other one.

#[cfg(feature = "flex")]
mod cpu;
mod factor;
mod reference;

pub use factor::{Int8Factor, MAX_INPUTS, int8_tensor};

use crate::Epilogue;
use crate::blast::blast_to_dense;
use crate::block_diagonal::{Order, Orders, block_diagonal_to_dense};
use crate::monarch::monarch_to_dense;
use crate::ss1::{Fold, ss1_to_dense};
use crate::tokens::{empty_product, rows};
use burn::tensor::{DType, Tensor};

/// The largest absolute value of a quantized number.
pub const MAX: i8 = 127;

/// A structured matrix `W [m, n]` with int8 factors.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "a matrix lives as long as one product")]
pub enum Int8Matrix {
    /// Blocks `w [b, m / b, n / b]` on the diagonal; one block is a dense matrix.
    BlockDiagonal {
        /// The blocks.
        w: Int8Factor,
    },
    /// `W = P₂ L P₁ R`, see [`crate::monarch`]; with one block on either side, a low-rank matrix.
    Monarch {
        /// `[k, q, n / k]`.
        r: Int8Factor,
        /// `[l, m / l, k q / l]`.
        l: Int8Factor,
        /// The order of the output features.
        output: Order,
    },
    /// Blocks `U_i diag(s_ij) V_jᵀ`, see [`crate::blast`].
    Blast {
        /// `[b1, m / b1, r]`.
        u: Int8Factor,
        /// The couplings `[b1, b2, r]`, which are not quantized.
        s: Tensor<3>,
        /// `Vᵀ` of each block of input features, `[b2, r, n / b2]`.
        v: Int8Factor,
    },
    /// Shared weights, see [`crate::ss1`].
    Ss1 {
        /// The stored weights, `[1, m, w]`.
        z: Int8Factor,
        /// Which weights of the matrix they are.
        fold: Fold,
    },
}

impl Int8Matrix {
    /// Rows and columns `[m, n]`.
    pub fn dims(&self) -> [usize; 2] {
        match self {
            Self::BlockDiagonal { w } => w.dims_joined(),
            Self::Monarch { r, l, .. } => [l.dims_joined()[0], r.dims_joined()[1]],
            Self::Blast { u, v, .. } => [u.dims_joined()[0], v.dims_joined()[1]],
            Self::Ss1 { z, fold } => [z.dims_joined()[0], fold.d_input],
        }
    }

    /// The dense matrix `W [m, n]` that is multiplied by, in f32.
    pub fn to_dense(&self) -> Tensor<2> {
        self.check();
        match self.clone() {
            Self::BlockDiagonal { w } => block_diagonal_to_dense(w.dequantize(), Orders::default()),
            Self::Monarch { r, l, output } => monarch_to_dense(r.dequantize(), l.dequantize(), output),
            Self::Blast { u, s, v } => {
                blast_to_dense(u.dequantize(), s.cast(DType::F32), v.dequantize().swap_dims(1, 2))
            }
            Self::Ss1 { z, fold } => ss1_to_dense(z.dequantize().squeeze_dim::<2>(0).transpose(), fold),
        }
    }

    /// # Panics
    ///
    /// If the factors do not fit each other.
    fn check(&self) {
        match self {
            Self::BlockDiagonal { w } => w.check("w"),
            Self::Monarch { r, l, .. } => {
                r.check("r");
                l.check("l");
                let (between, read) = (r.dims_joined()[0], l.dims_joined()[1]);
                assert_eq!(between, read, "int8: `l` must read the {between} features that `r` makes, not {read}");
            }
            Self::Blast { u, s, v } => {
                u.check("u");
                v.check("v");
                let ([b1, _, r], [b2, rank, _]) = (u.values.dims(), v.values.dims());
                assert_eq!(r, rank, "int8: `u` and `v` must have the same rank");
                assert_eq!(s.dims(), [b1, b2, r], "int8: `s` must be [b1, b2, r] = [{b1}, {b2}, {r}]");
            }
            Self::Ss1 { z, fold } => {
                z.check("z");
                fold.check();
                let ([one, m, _], width) = (z.values.dims(), fold.width());
                assert_eq!(
                    z.values.dims(),
                    [1, m, width],
                    "int8: `z` must be [1, m, w] with w = {width}, not [{one}, ..]"
                );
            }
        }
    }
}

/// Multiplies by a quantized matrix: `y = x Wᵀ + bias`, or whatever else the [`Epilogue`] says follows the product, with `x` quantized
/// as well.
///
/// # Shapes
///
/// - x: `[.., n]`, with at least one axis
/// - epilogue: a bias `[m]`, `None`, or an [`Epilogue`]
/// - output: `[.., m]`, in the dtype of `x`; the arithmetic between the integer products is in f32
///
/// A feature that is not finite gives outputs of its token that are not numbers: all that read it.
///
/// # Panics
///
/// If a shape does not fit the others; the message names the tensor.
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Distribution, Tensor};
/// use burn_structured_ops::int8::{Int8Factor, Int8Matrix, int8_linear};
///
/// let (device, normal) = (Device::flex(), Distribution::Normal(0.0, 1.0));
/// let weight = Tensor::<2>::random([8, 12], normal, &device);
/// let matrix = Int8Matrix::BlockDiagonal { w: Int8Factor::quantize(weight.clone().unsqueeze()) };
/// let x = Tensor::<3>::random([2, 5, 12], normal, &device);
/// let exact = x.clone().matmul(weight.transpose().unsqueeze());
/// let error = (int8_linear(x, &matrix, None) - exact.clone()).square().mean() / exact.square().mean();
/// assert!(error.into_scalar::<f32>() < 1e-3);
/// ```
pub fn int8_linear<const D: usize>(x: Tensor<D>, matrix: &Int8Matrix, epilogue: impl Into<Epilogue<D>>) -> Tensor<D> {
    matrix.check();
    let (mut shape, epilogue, [m, n]) = (x.shape(), epilogue.into(), matrix.dims());
    assert_eq!(shape[D - 1], n, "int8: the last axis of `x` must be n = {n}");
    let (empty, dtype) = (shape.num_elements() == 0, x.dtype());
    shape[D - 1] = m;
    epilogue.check("int8", &shape, dtype);
    if empty {
        return empty_product(x, m, epilogue);
    }
    let (x, epilogue) = (rows(x), epilogue.into_rows());
    #[cfg(feature = "flex")]
    if crate::device::is_flex(&x.device()) && !x.device().is_autodiff() {
        return cpu::product(x, matrix, epilogue).reshape(shape);
    }
    epilogue.apply(reference::product(x, matrix)).reshape(shape)
}

/// [`int8_linear`] in Burn's operations on every device: the reference that the tests compare with.
///
/// # Panics
///
/// As [`int8_linear`].
pub fn int8_linear_reference(x: Tensor<2>, matrix: &Int8Matrix) -> Tensor<2> {
    matrix.check();
    let [_, n] = matrix.dims();
    assert_eq!(x.dims()[1], n, "int8: the last axis of `x` must be n = {n}");
    reference::product(rows(x), matrix)
}
