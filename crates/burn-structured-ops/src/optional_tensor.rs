//! Operands that a product may have or not.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, ExtensionType, TensorMetadata};
use burn::tensor::{DType, Shape, Tensor};

/// An operand that a product may have or not, as a backend sees it.
///
/// An enum rather than an `Option`, which the extension macro cannot carry through fusion.
#[derive(Clone, Debug, ExtensionType)]
#[extension_type(fusion: cfg(feature = "fusion"))]
pub enum OptionalTensor<B: Backend> {
    /// It has none.
    None,
    /// It has this one.
    Some(FloatTensor<B>),
}

impl OptionalTensor<Dispatch> {
    /// The operand of a public function.
    pub(crate) fn of<const D: usize>(tensor: Option<Tensor<D>>) -> Self {
        tensor.map_or(Self::None, |tensor| Self::Some(tensor.into_dispatch()))
    }
}

impl<B: Backend> OptionalTensor<B> {
    /// The operand of the backend's own operations.
    pub(crate) fn into_option(self) -> Option<FloatTensor<B>> {
        match self {
            Self::None => None,
            Self::Some(tensor) => Some(tensor),
        }
    }

    /// Checks that a bias, if it is there, is `[m]`, and of `dtype`.
    ///
    /// # Panics
    ///
    /// If it is not.
    pub(crate) fn check_bias(&self, m: usize, dtype: DType) {
        if let Self::Some(bias) = self {
            check(&bias.shape(), bias.dtype(), m, dtype);
        }
    }

    /// `y [tokens, m]` with this bias added, in plain Burn operations.
    pub(crate) fn add_bias_to(self, y: FloatTensor<B>) -> FloatTensor<B> {
        let m = y.shape()[1];
        self.check_bias(m, y.dtype());
        match self {
            Self::None => y,
            Self::Some(bias) => B::float_add(y, B::float_reshape(bias, Shape::new([1, m]))),
        }
    }
}

#[cfg(feature = "fusion")]
impl OptionalTensorMetadata {
    /// [`OptionalTensor::check_bias`], before anything is computed.
    pub(crate) fn check_bias(&self, m: usize, dtype: DType) {
        if let Self::Some(bias) = self {
            check(&bias.shape, bias.dtype, m, dtype);
        }
    }
}

fn check(shape: &Shape, found: DType, m: usize, dtype: DType) {
    assert!(shape[..] == [m] && found == dtype, "bias: expected [{m}] of {dtype:?}, got {shape:?} of {found:?}");
}

/// The gradient of the bias: `dy [tokens, m]` summed over the tokens.
pub(crate) fn sum_tokens<B: Backend>(dy: FloatTensor<B>) -> FloatTensor<B> {
    let m = dy.shape()[1];
    B::float_reshape(B::float_sum_dim(dy, 0), Shape::new([m]))
}
