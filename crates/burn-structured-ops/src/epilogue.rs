//! What follows a product, token by token: bias, activation, gate and residual.

use crate::OptionalTensor;
use crate::activation::{Activation, ActivationBackend, activate};
#[cfg(feature = "flex")]
use crate::cpu::{Scalar, dense_slice, gemm::Finish, to_native};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, ExtensionType, TensorMetadata};
use burn::tensor::{DType, Shape, Tensor};

/// What follows a product `x Wᵀ`: `y = residual + gate ∘ f(x Wᵀ + bias)`, of which every part may be left out.
///
/// Where nothing has to be kept for a backward pass, Flex applies it to a part of the output while that is in a cache, and no
/// intermediate is ever in memory. In training, and on other backends, its parts are operations of their own.
///
/// ```
/// use burn::tensor::{Device, Distribution, Tensor};
/// use burn_structured_ops::activation::Activation;
/// use burn_structured_ops::dense::dense_linear;
/// use burn_structured_ops::Epilogue;
///
/// let (device, normal) = (Device::flex(), Distribution::Normal(0.0, 1.0));
/// let random = |shape: [usize; 2]| Tensor::<2>::random(shape, normal, &device);
/// let (x, up, down) = (random([5, 8]), random([8, 32]), random([32, 8]));
/// let hidden = dense_linear(x.clone(), up, Epilogue::new().with_activation(Activation::Gelu));
/// let y = dense_linear(hidden, down, Epilogue::new().with_residual(x));
/// assert_eq!(y.dims(), [5, 8]);
/// ```
#[derive(Clone, Debug)]
pub struct Epilogue<const D: usize> {
    /// `[m]`.
    pub bias: Option<Tensor<1>>,
    /// `f`.
    pub activation: Option<Activation>,
    /// Multiplied by the activation, of the output's shape: the other half of a gated pair, as in SwiGLU.
    pub gate: Option<Tensor<D>>,
    /// Added at the end, of the output's shape.
    pub residual: Option<Tensor<D>>,
}

impl<const D: usize> Default for Epilogue<D> {
    fn default() -> Self {
        Self { bias: None, activation: None, gate: None, residual: None }
    }
}

impl<const D: usize> From<Option<Tensor<1>>> for Epilogue<D> {
    fn from(bias: Option<Tensor<1>>) -> Self {
        Self::new().with_bias(bias)
    }
}

impl<const D: usize> Epilogue<D> {
    /// Nothing follows.
    pub fn new() -> Self {
        Self::default()
    }

    /// With another bias `[m]`, or none.
    #[must_use]
    pub fn with_bias(self, bias: Option<Tensor<1>>) -> Self {
        Self { bias, ..self }
    }

    /// With an activation.
    #[must_use]
    pub fn with_activation(self, activation: Activation) -> Self {
        Self { activation: Some(activation), ..self }
    }

    /// With a gate of the output's shape.
    #[must_use]
    pub fn with_gate(self, gate: Tensor<D>) -> Self {
        Self { gate: Some(gate), ..self }
    }

    /// With a residual of the output's shape.
    #[must_use]
    pub fn with_residual(self, residual: Tensor<D>) -> Self {
        Self { residual: Some(residual), ..self }
    }

    /// The epilogue of a product `y [.., m]`, by operations of their own.
    ///
    /// # Panics
    ///
    /// If a shape does not fit.
    pub fn apply(self, y: Tensor<D>) -> Tensor<D> {
        let y = match self.bias {
            Some(bias) => y + bias.unsqueeze(),
            None => y,
        };
        let y = match self.activation {
            Some(activation) => activate(y, activation),
            None => y,
        };
        let y = match self.gate {
            Some(gate) => y * gate,
            None => y,
        };
        match self.residual {
            Some(residual) => residual + y,
            None => y,
        }
    }

    /// The same without its bias, and that.
    pub(crate) fn split_bias(self) -> (Option<Tensor<1>>, Self) {
        (self.bias, Self { bias: None, ..self })
    }

    /// Checks it for an output of `shape` and `dtype`.
    ///
    /// # Panics
    ///
    /// If a shape or a dtype does not fit; the message names the operation and the tensor.
    pub(crate) fn check(&self, operation: &str, shape: &Shape, dtype: DType) {
        let m = shape[D - 1];
        if let Some(bias) = &self.bias {
            assert_eq!(bias.dims(), [m], "{operation}: `bias` must have m = {m} elements, got {:?}", bias.dims());
            assert_eq!(bias.dtype(), dtype, "{operation}: `bias` and `x` must have the same dtype");
        }
        for (name, tensor) in [("gate", &self.gate), ("residual", &self.residual)] {
            if let Some(tensor) = tensor {
                let found = tensor.shape();
                assert_eq!(
                    found, *shape,
                    "{operation}: `{name}` must have the output's shape {shape:?}, got {found:?}"
                );
                assert_eq!(tensor.dtype(), dtype, "{operation}: `{name}` and `x` must have the same dtype");
            }
        }
    }

    /// The same with a row for each token.
    pub(crate) fn into_rows(self) -> Epilogue<2> {
        let rows = |tensor: Tensor<D>| {
            let m = tensor.dims()[D - 1];
            let tokens = tensor.shape().num_elements() / m.max(1);
            tensor.reshape([tokens, m])
        };
        let Self { bias, activation, gate, residual } = self;
        Epilogue { bias, activation, gate: gate.map(rows), residual: residual.map(rows) }
    }

    /// The same as backends see it.
    pub(crate) fn into_tensors(self) -> EpilogueTensors<Dispatch> {
        let Epilogue { bias, activation, gate, residual } = self.into_rows();
        EpilogueTensors {
            bias: OptionalTensor::of(bias),
            activation,
            gate: OptionalTensor::of(gate),
            residual: OptionalTensor::of(residual),
        }
    }
}

/// An [`Epilogue`] as a backend sees it, of a product `y [tokens, m]`.
#[derive(Clone, Debug, ExtensionType)]
#[extension_type(fusion: cfg(feature = "fusion"))]
pub struct EpilogueTensors<B: Backend> {
    /// `[m]`.
    #[extension_type]
    pub bias: OptionalTensor<B>,
    /// The activation.
    pub activation: Option<Activation>,
    /// `[tokens, m]`.
    #[extension_type]
    pub gate: OptionalTensor<B>,
    /// `[tokens, m]`.
    #[extension_type]
    pub residual: OptionalTensor<B>,
}

impl<B: Backend> From<OptionalTensor<B>> for EpilogueTensors<B> {
    fn from(bias: OptionalTensor<B>) -> Self {
        Self { bias, activation: None, gate: OptionalTensor::None, residual: OptionalTensor::None }
    }
}

impl<B: Backend> EpilogueTensors<B> {
    /// Checks it for an output `[tokens, m]` of `dtype`.
    ///
    /// # Panics
    ///
    /// If a shape or a dtype does not fit.
    pub(crate) fn check(&self, [tokens, m]: [usize; 2], dtype: DType) {
        self.bias.check_bias(m, dtype);
        for (name, tensor) in [("gate", &self.gate), ("residual", &self.residual)] {
            if let OptionalTensor::Some(tensor) = tensor {
                check(name, &tensor.shape(), tensor.dtype(), [tokens, m], dtype);
            }
        }
    }

    /// The bias, and everything else.
    pub(crate) fn split_bias(self) -> (OptionalTensor<B>, Self) {
        (self.bias, Self { bias: OptionalTensor::None, ..self })
    }
}

impl<B: ActivationBackend> EpilogueTensors<B> {
    /// The epilogue of a product `y [tokens, m]`, by operations of their own.
    pub(crate) fn apply(self, y: FloatTensor<B>) -> FloatTensor<B> {
        let y = self.bias.add_bias_to(y);
        let y = match self.activation {
            Some(activation) => B::activate(y, activation),
            None => y,
        };
        let y = match self.gate {
            OptionalTensor::Some(gate) => B::float_mul(y, gate),
            OptionalTensor::None => y,
        };
        match self.residual {
            OptionalTensor::Some(residual) => B::float_add(residual, y),
            OptionalTensor::None => y,
        }
    }
}

#[cfg(feature = "flex")]
impl EpilogueTensors<burn::backend::Flex> {
    /// In a dtype with native code, row by row.
    pub(crate) fn into_native(self) -> Self {
        let native = |tensor: OptionalTensor<burn::backend::Flex>| match tensor {
            OptionalTensor::None => OptionalTensor::None,
            OptionalTensor::Some(tensor) => OptionalTensor::Some(to_native(tensor).to_contiguous()),
        };
        let Self { bias, activation, gate, residual } = self;
        Self { bias: native(bias), activation, gate: native(gate), residual: native(residual) }
    }

    /// As the engine applies it, of tensors that are [native](Self::into_native).
    pub(crate) fn finish<E: Scalar>(&self) -> Finish<'_, E> {
        fn elements<E: Scalar>(tensor: &OptionalTensor<burn::backend::Flex>) -> Option<&[E]> {
            match tensor {
                OptionalTensor::None => None,
                OptionalTensor::Some(tensor) => Some(dense_slice(tensor)),
            }
        }
        let Self { bias, activation, gate, residual } = self;
        Finish { bias: elements(bias), activation: *activation, gate: elements(gate), residual: elements(residual) }
    }
}

#[cfg(feature = "fusion")]
impl EpilogueTensorsMetadata {
    /// [`EpilogueTensors::check`], before anything is computed.
    pub(crate) fn check(&self, y: &Shape, dtype: DType) {
        self.bias.check_bias(y[1], dtype);
        for (name, tensor) in [("gate", &self.gate), ("residual", &self.residual)] {
            if let crate::optional_tensor::OptionalTensorMetadata::Some(tensor) = tensor {
                check(name, &tensor.shape, tensor.dtype, [y[0], y[1]], dtype);
            }
        }
    }
}

fn check(name: &str, shape: &Shape, found: DType, y: [usize; 2], dtype: DType) {
    assert!(shape[..] == y && found == dtype, "{name}: expected {y:?} of {dtype:?}, got {shape:?} of {found:?}");
}
