//! Products with a dense factor: what low-rank matrices consist of, and what a sketch that serves all output rows goes through.
//!
//! A general GEMM library is at its best with large square operands. A structured layer's factors are long and narrow, and a
//! processor's time goes into packing them and waiting for them. On Flex these products therefore go through this crate's panels, as
//! those of the other structures do. Everywhere else they are Burn's own `linear`, which may be fused with what surrounds it.

mod backward;
#[cfg(feature = "flex")]
mod cpu;
mod fallback;

use crate::activation::ActivationBackend;
use crate::tokens::{empty_product, rows};
use crate::{Epilogue, EpilogueTensors};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Dispatch, backend_extension};
use burn::tensor::module::linear;
use burn::tensor::{DType, Tensor};

/// What a backend provides for products with a dense factor; every method has Burn's own as its default body.
///
/// Tensors are `x [tokens, n]`, `w [n, m]`, `y [tokens, m]`. Shapes are checked by the public functions, not here.
#[backend_extension(
    Autodiff,
    Flex: cfg(feature = "flex"),
    NdArray: cfg(feature = "ndarray"),
    LibTorch: cfg(feature = "tch"),
    Remote: cfg(feature = "remote"),
    Cube: cfg(feature = "cube"),
    Fusion: cfg(feature = "fusion"),
)]
pub trait DenseBackend: ActivationBackend {
    /// `y = x W`, and what follows.
    #[fusion(default)]
    fn dense_product(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        #[extension_type] epilogue: EpilogueTensors<Self>,
    ) -> FloatTensor<Self> {
        let (bias, rest) = epilogue.split_bias();
        rest.apply(Self::linear(x, w, bias.into_option()))
    }

    /// Gradient of the input of [`dense_product`](Self::dense_product): `dx = dy Wᵀ`.
    #[fusion(default)]
    fn dense_input_gradient(dy: FloatTensor<Self>, w: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::linear_x_backward(w, dy)
    }

    /// Gradient of the factor of [`dense_product`](Self::dense_product): `dW = xᵀ dy`.
    #[fusion(default)]
    fn dense_factor_gradient(x: FloatTensor<Self>, dy: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::linear_weight_backward(x, dy)
    }
}

/// Multiplies by a dense factor: `y = x W + bias`, or whatever else the [`Epilogue`] says follows the product.
///
/// # Shapes
///
/// - x: `[.., n]`, with at least one axis
/// - w: `[n, m]`
/// - epilogue: a bias `[m]`, `None`, or an [`Epilogue`]
/// - output: `[.., m]`
///
/// The product with a quantized `w` is left to Burn's [`linear`].
///
/// # Panics
///
/// If a shape does not fit the others, or the tensors' dtypes differ; the message names the tensor.
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Distribution, Tensor};
/// use burn_structured_ops::dense::dense_linear;
///
/// let device = Device::flex();
/// let normal = Distribution::Normal(0.0, 1.0);
/// let (x, w) = (Tensor::<3>::random([2, 5, 12], normal, &device), Tensor::random([12, 8], normal, &device));
/// assert_eq!(dense_linear(x, w, None).dims(), [2, 5, 8]);
/// ```
pub fn dense_linear<const D: usize>(x: Tensor<D>, w: Tensor<2>, epilogue: impl Into<Epilogue<D>>) -> Tensor<D> {
    let (mut shape, epilogue) = (x.shape(), epilogue.into());
    if matches!(w.dtype(), DType::QFloat(_)) {
        let (bias, rest) = epilogue.split_bias();
        return rest.apply(linear(x, w, bias));
    }
    let [n, m] = w.dims();
    assert_eq!(shape[D - 1], n, "dense: the last axis of `x` must be n = {n} as `w` {:?} says", w.dims());
    assert_eq!(w.dtype(), x.dtype(), "dense: `w` and `x` must have the same dtype");
    let empty = shape.num_elements() == 0;
    shape[D - 1] = m;
    epilogue.check("dense", &shape, x.dtype());
    if empty {
        return empty_product(x, m, epilogue);
    }
    let (x, w) = (rows(x).into_dispatch(), w.into_dispatch());
    Tensor::<2>::from_dispatch(<Dispatch as DenseBackend>::dense_product(x, w, epilogue.into_tensors())).reshape(shape)
}
