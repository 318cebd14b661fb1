//! The feed-forward network of a transformer block: two structured layers with an activation between them.

use crate::inputs::is_observed;
use crate::{Structure, StructureError, StructuredLinear, StructuredLinearConfig};
use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Device, Tensor};
use burn_structured_ops::Epilogue;
use burn_structured_ops::activation::Activation;
use burn_structured_ops::device::is_flex;

/// Tokens that go through both layers at a time: fewer would make the products less efficient, and more gain nothing.
const CHUNK: usize = 512;

/// Configuration to create a [`StructuredMlp`] layer using the [init function](StructuredMlpConfig::init).
#[derive(Config, Debug)]
pub struct StructuredMlpConfig {
    /// The size of the input and output features.
    pub d_model: usize,
    /// The size of the hidden features.
    pub d_hidden: usize,
    /// The structure of the first layer, and of the gate.
    #[config(default = "Structure::Dense")]
    pub up: Structure,
    /// The structure of the last layer.
    #[config(default = "Structure::Dense")]
    pub down: Structure,
    /// The activation of the hidden features.
    #[config(default = "MlpActivation::Gelu")]
    pub activation: MlpActivation,
    /// If biases should be applied.
    #[config(default = true)]
    pub bias: bool,
}

/// The activation of a [`StructuredMlp`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum MlpActivation {
    /// [`Activation::Relu`].
    Relu,
    /// [`Activation::Gelu`].
    Gelu,
    /// [`Activation::GeluTanh`].
    GeluTanh,
    /// [`Activation::Silu`].
    Silu,
    /// A gated pair, `silu(gate(x)) ∘ up(x)`, as in Llama (Shazeer, *GLU Variants Improve Transformer*, 2020).
    SwiGlu,
}

/// `down(f(up(x)))`, or `down(silu(gate(x)) ∘ up(x))`.
///
/// The activation, the gate and the residual are epilogues of the layers' products. Where nothing is kept for a backward pass, the hidden
/// features are written once, as the second layer reads them, and on Flex no more than those of 512 tokens are in memory.
///
/// Should be created with [`StructuredMlpConfig`].
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_structured_nn::StructuredMlpConfig;
///
/// let device = Device::flex();
/// let structure = "blast:b=4,ratio=0.5".parse()?;
/// let mlp = StructuredMlpConfig::new(32, 128).with_up(structure).with_down(structure).init(&device);
/// let x = Tensor::<3>::ones([2, 5, 32], &device);
/// assert_eq!(mlp.forward_added(x.clone(), x).dims(), [2, 5, 32]); // x + mlp(x)
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Module, Debug)]
pub struct StructuredMlp {
    /// The first layer.
    pub up: StructuredLinear,
    /// The gate of a gated pair.
    pub gate: Option<StructuredLinear>,
    /// The last layer.
    pub down: StructuredLinear,
    #[module(skip)]
    activation: Activation,
}

impl StructuredMlpConfig {
    /// Initialize a new [`StructuredMlp`] module.
    ///
    /// # Panics
    ///
    /// Where [`try_init`](Self::try_init) returns an error.
    pub fn init(&self, device: &Device) -> StructuredMlp {
        self.try_init(device).unwrap_or_else(|error| panic!("StructuredMlp: {error}"))
    }

    /// Initialize a new [`StructuredMlp`] module.
    ///
    /// # Errors
    ///
    /// If a structure does not fit its layer; see the layers' own configurations.
    pub fn try_init(&self, device: &Device) -> Result<StructuredMlp, StructureError> {
        let layer = |d_input, d_output, structure| {
            StructuredLinearConfig::new(d_input, d_output, structure).with_bias(self.bias).try_init(device)
        };
        let gated = self.activation == MlpActivation::SwiGlu;
        Ok(StructuredMlp {
            up: layer(self.d_model, self.d_hidden, self.up)?,
            gate: if gated { Some(layer(self.d_model, self.d_hidden, self.up)?) } else { None },
            down: layer(self.d_hidden, self.d_model, self.down)?,
            activation: match self.activation {
                MlpActivation::Relu => Activation::Relu,
                MlpActivation::Gelu => Activation::Gelu,
                MlpActivation::GeluTanh => Activation::GeluTanh,
                MlpActivation::Silu | MlpActivation::SwiGlu => Activation::Silu,
            },
        })
    }
}

impl StructuredMlp {
    /// Applies the forward pass on the input tensor.
    ///
    /// # Shapes
    ///
    /// - input: `[.., d_model]`
    /// - output: `[.., d_model]`
    ///
    /// # Panics
    ///
    /// Panics if the last axis of `input` is not `d_model`.
    pub fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        feed_forward(&self.up, self.gate.as_ref(), self.activation, &self.down, input, None)
    }

    /// `residual + mlp(input)`, the sum as an epilogue of the last layer.
    ///
    /// # Panics
    ///
    /// As [`forward`](Self::forward), or if `residual` does not have the output's shape.
    pub fn forward_added<const D: usize>(&self, input: Tensor<D>, residual: Tensor<D>) -> Tensor<D> {
        feed_forward(&self.up, self.gate.as_ref(), self.activation, &self.down, input, Some(residual))
    }

    /// The activation of the hidden features.
    pub fn activation(&self) -> Activation {
        self.activation
    }
}

/// `residual + down(f(up(input)))`, or with a gate `residual + down(f(gate(input)) ∘ up(input))`: what a [`StructuredMlp`] computes, for
/// models that hold the layers themselves.
///
/// In inference on Flex, tokens go through the layers in chunks, so that no more than a chunk's hidden features are in memory.
///
/// # Panics
///
/// If the sizes of the layers, the input and the residual do not fit.
pub fn feed_forward<const D: usize>(
    up: &StructuredLinear,
    gate: Option<&StructuredLinear>,
    activation: Activation,
    down: &StructuredLinear,
    input: Tensor<D>,
    residual: Option<Tensor<D>>,
) -> Tensor<D> {
    let (mut shape, device) = (input.shape(), input.device());
    let d_input = shape[D - 1];
    let tokens = shape.num_elements() / d_input.max(1);
    if tokens <= CHUNK || device.is_autodiff() || !is_flex(&device) || is_observed() {
        return through(up, gate, activation, down, input, residual);
    }
    let input = input.reshape([tokens, d_input]);
    let residual = residual.map(|residual| residual.reshape([tokens, down.d_output()]));
    let chunk = |start: usize| {
        let part = |x: &Tensor<2>| x.clone().narrow(0, start, CHUNK.min(tokens - start));
        through(up, gate, activation, down, part(&input), residual.as_ref().map(part))
    };
    let y = Tensor::cat((0..tokens).step_by(CHUNK).map(chunk).collect(), 0);
    shape[D - 1] = down.d_output();
    y.reshape(shape)
}

/// All tokens through one layer after the other.
fn through<const D: usize>(
    up: &StructuredLinear,
    gate: Option<&StructuredLinear>,
    activation: Activation,
    down: &StructuredLinear,
    input: Tensor<D>,
    residual: Option<Tensor<D>>,
) -> Tensor<D> {
    let activated = Epilogue::new().with_activation(activation);
    let hidden = match gate {
        None => up.forward_then(input, activated),
        Some(gate) => gate.forward_then(input.clone(), activated.with_gate(up.forward(input))),
    };
    down.forward_then(hidden, Epilogue { residual, ..Epilogue::new() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::activation::{gelu, relu, silu};
    use burn::tensor::{Distribution, Tolerance};

    /// In inference, and where a backward pass keeps what it needs.
    #[test]
    fn forward_is_the_composition_of_the_layers() {
        for device in [Device::flex(), Device::flex().autodiff()] {
            for (text, activation) in [
                ("dense", MlpActivation::Gelu),
                ("blast:b=4", MlpActivation::Relu),
                ("monarch:b=4", MlpActivation::Silu),
                ("low-rank", MlpActivation::SwiGlu),
                ("ss1:c=2,k=4,n=8", MlpActivation::GeluTanh),
            ] {
                let structure = text.parse().unwrap();
                let config = StructuredMlpConfig::new(16, 48).with_up(structure).with_down(structure);
                let mlp = config.with_activation(activation).init(&device);
                let x = Tensor::<3>::random([2, 5, 16], Distribution::Normal(0.0, 1.0), &device);
                let up = mlp.up.forward(x.clone());
                let hidden = match activation {
                    MlpActivation::Relu => relu(up),
                    MlpActivation::Gelu => gelu(up),
                    MlpActivation::GeluTanh => burn::tensor::activation::gelu_approximate(up),
                    MlpActivation::Silu => silu(up),
                    MlpActivation::SwiGlu => silu(mlp.gate.as_ref().unwrap().forward(x.clone())) * up,
                };
                let expected = mlp.down.forward(hidden);
                let close = |found: Tensor<3>, expected: Tensor<3>| {
                    found.into_data().assert_approx_eq::<f32>(&expected.into_data(), Tolerance::absolute(1e-5));
                };
                close(mlp.forward(x.clone()), expected.clone());
                close(mlp.forward_added(x.clone(), x.clone()), x + expected);
            }
        }
    }

    #[test]
    fn tokens_in_chunks_are_those_of_one_pass() {
        let device = Device::flex();
        let config = StructuredMlpConfig::new(8, 24).with_up("low-rank:r=3".parse().unwrap());
        let mlp = config.with_activation(MlpActivation::SwiGlu).init(&device);
        let x = Tensor::<3>::random([3, 401, 8], Distribution::Normal(0.0, 1.0), &device);
        let residual = x.clone() * 2.0;
        let expected =
            through(&mlp.up, mlp.gate.as_ref(), mlp.activation, &mlp.down, x.clone(), Some(residual.clone()));
        let found = mlp.forward_added(x, residual).into_data();
        found.assert_approx_eq::<f32>(&expected.into_data(), Tolerance::absolute(1e-5));
    }

    #[test]
    fn a_structure_that_does_not_fit_is_an_error() {
        let config = StructuredMlpConfig::new(16, 48).with_down("blast:b=5".parse().unwrap());
        assert!(config.try_init(&Device::flex()).is_err());
    }
}
