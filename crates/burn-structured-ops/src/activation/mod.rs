//! Activations: the elementwise functions between two products.
//!
//! On Flex they are vectorised and run on all threads, forward and backward, in place where a buffer has no other owner. Elsewhere they
//! are Burn's own operations, which may be fused with what surrounds them. An [`Epilogue`](crate::Epilogue) applies one to a product as
//! it is stored.

mod backward;
#[cfg(feature = "flex")]
mod cpu;
mod fallback;
mod reference;

use crate::dispatch::check_backend;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::Tensor;

/// An elementwise function `f(x)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Activation {
    /// `max(x, 0)`.
    Relu,
    /// `x Φ(x)` with the distribution function of the standard normal distribution, `Φ(x) = (1 + erf(x / √2)) / 2` (Hendrycks and
    /// Gimpel, *Gaussian Error Linear Units*, 2016).
    Gelu,
    /// `x / 2 · (1 + tanh(√(2/π) (x + 0.044715 x³)))`, which GPT-2 has in place of [`Gelu`](Self::Gelu).
    GeluTanh,
    /// `x / (1 + exp(-x))`, also called Swish.
    Silu,
}

impl Activation {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Relu, Self::Gelu, Self::GeluTanh, Self::Silu];
}

/// What a backend provides for activations; every method has Burn's own operations as its default body.
#[backend_extension(
    Autodiff,
    Flex: cfg(feature = "flex"),
    NdArray: cfg(feature = "ndarray"),
    LibTorch: cfg(feature = "tch"),
    Remote: cfg(feature = "remote"),
    Cube: cfg(feature = "cube"),
    Fusion: cfg(feature = "fusion"),
)]
pub trait ActivationBackend: Backend {
    /// `f(x)`, elementwise.
    #[fusion(default)]
    fn activate(x: FloatTensor<Self>, activation: Activation) -> FloatTensor<Self> {
        reference::activate::<Self>(x, activation)
    }

    /// `dy ∘ f'(x)`: the gradient of the input of [`activate`](Self::activate), of the same shape.
    #[fusion(default)]
    fn activation_gradient(x: FloatTensor<Self>, dy: FloatTensor<Self>, activation: Activation) -> FloatTensor<Self> {
        reference::gradient::<Self>(x, dy, activation)
    }
}

/// `f(x)`, elementwise.
///
/// # Panics
///
/// If this crate was compiled without the backend of `x`.
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_structured_ops::activation::{Activation, activate};
///
/// let x = Tensor::<1>::from_data([-1.0, 0.0, 2.0], &Device::flex());
/// assert_eq!(activate(x, Activation::Relu).into_data().as_slice::<f32>().unwrap(), [0.0, 0.0, 2.0]);
/// ```
pub fn activate<const D: usize>(x: Tensor<D>, activation: Activation) -> Tensor<D> {
    check_backend(x.device());
    Tensor::from_dispatch(<Dispatch as ActivationBackend>::activate(x.into_dispatch(), activation))
}
