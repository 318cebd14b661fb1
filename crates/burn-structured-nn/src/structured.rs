//! The layer that a model holds when its structure is a setting.
//!
//! Burn's modules keep their types, so nothing can swap a `Linear` inside someone else's model. A model that wants to be
//! compressed therefore holds this enum from the start.

#[cfg(feature = "approximation")]
use crate::approximation::{Approximation, read_weight};
use crate::error::check_dimensions;
use crate::initializer::dense_default;
use crate::inputs::observed;
use crate::{
    BlastLinear, BlastLinearConfig, BlockDiagonalLinear, BlockDiagonalLinearConfig, BttLinear, BttLinearConfig, Cost,
    Factor, GaudiLinear, GaudiLinearConfig, Int8Linear, KroneckerLinear, KroneckerLinearConfig, LowRankLinear,
    LowRankLinearConfig, MonarchLinear, MonarchLinearConfig, PixelflyLinear, PixelflyLinearConfig, Ss1Hash, Ss1Linear,
    Ss1LinearConfig, Structure, StructureError, WindowedLinear, dense,
};
use burn::config::Config;
use burn::module::{Module, Param, ParamId};
use burn::nn::{Initializer, Linear, LinearConfig};
use burn::tensor::{Device, Tensor};
use burn_structured_ops::Epilogue;

/// Configuration to create a [`StructuredLinear`] layer using the [init function](StructuredLinearConfig::init).
#[derive(Config, Debug)]
pub struct StructuredLinearConfig {
    /// The size of the input features.
    pub d_input: usize,
    /// The size of the output features.
    pub d_output: usize,
    /// The structure of the weight.
    pub structure: Structure,
    /// If a bias should be applied during the linear transformation.
    #[config(default = true)]
    pub bias: bool,
    /// The dense initializer to imitate, see the layers' own configurations; `None` is the default of each layer.
    #[config(default = "None")]
    pub initializer: Option<Initializer>,
}

/// A linear layer of any structure.
///
/// Should be created with [`StructuredLinearConfig`].
#[derive(Module, Debug)]
#[non_exhaustive]
#[allow(clippy::large_enum_variant, reason = "Burn's modules take no boxes, and a model has few layers")]
pub enum StructuredLinear {
    /// An ordinary linear layer.
    Dense(Linear),
    /// A BLAST layer.
    Blast(BlastLinear),
    /// A low-rank layer.
    LowRank(LowRankLinear),
    /// An SS1 layer.
    Ss1(Ss1Linear),
    /// A Monarch layer.
    Monarch(MonarchLinear),
    /// A block-diagonal layer.
    BlockDiagonal(BlockDiagonalLinear),
    /// A Pixelfly layer.
    Pixelfly(PixelflyLinear),
    /// A Gaudi-GBLR layer.
    Gaudi(GaudiLinear),
    /// A Gaudi-GBLR layer with fixed windows, see [`StructuredLinear::freeze_windows`].
    Windowed(WindowedLinear),
    /// A block tensor-train layer.
    Btt(BttLinear),
    /// A Kronecker layer.
    Kronecker(KroneckerLinear),
    /// A layer of int8 weights, see [`StructuredLinear::quantize`].
    Int8(Int8Linear),
}

/// The configuration of a layer that is not dense, built for one use.
macro_rules! with_config {
    ($self:expr, $config:ident, $Layer:ident => $body:expr, dense: $dense:expr) => {{
        let (d_input, d_output, bias) = ($self.d_input, $self.d_output, $self.bias);
        let initializer = $self.initializer.clone().unwrap_or_else(dense_default);
        match $self.structure {
            Structure::Dense => $dense,
            Structure::Blast { blocks, rank } => {
                let $config = BlastLinearConfig::new(d_input, d_output).with_blocks(blocks).with_rank(rank);
                let ($config, $Layer) =
                    ($config.with_bias(bias).with_initializer(initializer), StructuredLinear::Blast);
                $body
            }
            Structure::LowRank { rank } => {
                let $config = LowRankLinearConfig::new(d_input, d_output).with_rank(rank);
                let ($config, $Layer) =
                    ($config.with_bias(bias).with_initializer(initializer), StructuredLinear::LowRank);
                $body
            }
            Structure::Ss1 { reduction, block_k, block_n, independent } => {
                let hash = match independent {
                    Some(seed) => Ss1Hash::Independent { seed, signs: true },
                    None => Ss1Hash::default(),
                };
                let $config = Ss1LinearConfig::new(d_input, d_output).with_reduction(reduction).with_hash(hash);
                let $config = $config.with_block_k(block_k).with_block_n(block_n);
                let ($config, $Layer) = ($config.with_bias(bias).with_initializer(initializer), StructuredLinear::Ss1);
                $body
            }
            Structure::Monarch { blocks, rank } => {
                let $config = MonarchLinearConfig::new(d_input, d_output).with_blocks(blocks).with_rank(rank);
                let ($config, $Layer) =
                    ($config.with_bias(bias).with_initializer(initializer), StructuredLinear::Monarch);
                $body
            }
            Structure::BlockDiagonal { blocks } => {
                let $config = BlockDiagonalLinearConfig::new(d_input, d_output).with_blocks(blocks);
                let ($config, $Layer) =
                    ($config.with_bias(bias).with_initializer(initializer), StructuredLinear::BlockDiagonal);
                $body
            }
            Structure::Pixelfly { blocks, stride, rank } => {
                let $config = PixelflyLinearConfig::new(d_input, d_output).with_blocks(blocks).with_stride(stride);
                let ($config, $Layer) =
                    ($config.with_rank(rank).with_bias(bias).with_initializer(initializer), StructuredLinear::Pixelfly);
                $body
            }
            Structure::Gaudi { rank, width, sigma, sharp } => {
                let $config = GaudiLinearConfig::new(d_input, d_output).with_rank(rank).with_width(width);
                let $config = $config.with_sigma(sigma).with_straight_through(sharp);
                let ($config, $Layer) =
                    ($config.with_bias(bias).with_initializer(initializer), StructuredLinear::Gaudi);
                $body
            }
            Structure::Btt { blocks, rank } => {
                let $config = BttLinearConfig::new(d_input, d_output).with_blocks(blocks).with_rank(rank);
                let ($config, $Layer) =
                    ($config.with_initializer($self.initializer.clone()).with_bias(bias), StructuredLinear::Btt);
                $body
            }
            Structure::Kronecker { blocks, rank } => {
                let $config = KroneckerLinearConfig::new(d_input, d_output).with_blocks(blocks).with_rank(rank);
                let ($config, $Layer) =
                    ($config.with_bias(bias).with_initializer(initializer), StructuredLinear::Kronecker);
                $body
            }
        }
    }};
}

impl StructuredLinearConfig {
    /// Initialize a new [`StructuredLinear`] module.
    ///
    /// # Panics
    ///
    /// Where [`try_init`](Self::try_init) returns an error.
    pub fn init(&self, device: &Device) -> StructuredLinear {
        self.try_init(device).unwrap_or_else(|error| panic!("StructuredLinear: {error}"))
    }

    /// Initialize a new [`StructuredLinear`] module.
    ///
    /// # Errors
    ///
    /// If the structure does not fit the dimensions; see the layers' own configurations.
    pub fn try_init(&self, device: &Device) -> Result<StructuredLinear, StructureError> {
        with_config!(self, config, wrap => config.try_init(device).map(wrap), dense: {
            check_dimensions(self.d_input, self.d_output)?;
            let initializer = self.initializer.clone().unwrap_or_else(dense_default);
            let config = LinearConfig::new(self.d_input, self.d_output).with_bias(self.bias);
            Ok(StructuredLinear::Dense(config.with_initializer(initializer).init(device)))
        })
    }
}

#[cfg(feature = "approximation")]
impl StructuredLinearConfig {
    /// The layer nearest to a dense `weight [d_output, d_input]`, with `bias` as it is; see the layers' own configurations for
    /// how near.
    ///
    /// # Errors
    ///
    /// If the structure does not fit the dimensions, the shapes differ from the layer's, or an entry of `weight` is not
    /// finite.
    pub fn from_dense(
        &self,
        weight: Tensor<2>,
        bias: Option<Tensor<1>>,
    ) -> Result<Approximation<StructuredLinear>, StructureError> {
        with_config!(self, config, wrap => Ok(config.from_dense(weight, bias)?.map(wrap)), dense: {
            check_dimensions(self.d_input, self.d_output)?;
            read_weight(&weight, bias.as_ref(), self.d_input, self.d_output)?;
            let linear = Linear {
                weight: crate::parameter::parameter(weight.transpose()),
                bias: bias.map(crate::parameter::parameter),
            };
            Ok(Approximation { layer: StructuredLinear::Dense(linear), relative_error: 0.0 })
        })
    }
}

#[cfg(feature = "approximation")]
impl Structure {
    /// The layer of this structure that is nearest to a trained `linear` layer.
    ///
    /// # Errors
    ///
    /// If the structure does not fit the layer's dimensions, or its weight is not finite.
    ///
    /// # Example
    ///
    /// ```
    /// use burn::{nn::LinearConfig, tensor::Device};
    /// use burn_structured_nn::Structure;
    ///
    /// let trained = LinearConfig::new(32, 64).init(&Device::flex());
    /// let structure: Structure = "blast:b=4,ratio=0.5".parse()?;
    /// let approximation = structure.approximate(&trained)?;
    /// println!("{} off by {:.0} %", approximation.layer, 100.0 * approximation.relative_error);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn approximate(self, linear: &Linear) -> Result<Approximation<StructuredLinear>, StructureError> {
        let weight = dense::to_dense(linear);
        let [d_output, d_input] = weight.dims();
        StructuredLinearConfig::new(d_input, d_output, self)
            .from_dense(weight, linear.bias.as_ref().map(|bias| bias.val()))
    }
}

/// Runs `$body` with `$layer` bound to the layer within, whatever it is, unless it is dense, or `int8` is something else.
macro_rules! each {
    ($self:expr, $layer:ident => $body:expr, dense: $dense:expr) => {
        each!($self, $layer => $body, dense: $dense, int8: $body)
    };
    ($self:expr, $layer:ident => $body:expr, dense: $dense:expr, int8: $int8:expr) => {
        match $self {
            StructuredLinear::Dense($layer) => $dense,
            StructuredLinear::Blast($layer) => $body,
            StructuredLinear::LowRank($layer) => $body,
            StructuredLinear::Ss1($layer) => $body,
            StructuredLinear::Monarch($layer) => $body,
            StructuredLinear::BlockDiagonal($layer) => $body,
            StructuredLinear::Pixelfly($layer) => $body,
            StructuredLinear::Gaudi($layer) => $body,
            StructuredLinear::Windowed($layer) => $body,
            StructuredLinear::Btt($layer) => $body,
            StructuredLinear::Kronecker($layer) => $body,
            StructuredLinear::Int8($layer) => $int8,
        }
    };
}

impl StructuredLinear {
    /// Applies the forward pass on the input tensor.
    ///
    /// # Shapes
    ///
    /// - input: `[.., d_input]`
    /// - output: `[.., d_output]`
    ///
    /// # Panics
    ///
    /// Panics if the last axis of `input` is not `d_input`.
    ///
    /// [`observe_inputs`](crate::observe_inputs) sees the input.
    pub fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        self.forward_then(input, Epilogue::new())
    }

    /// [`forward`](Self::forward), and what follows the layer, such as the activation of an MLP or the residual of its last layer; the
    /// bias is the layer's own, whatever the epilogue says.
    ///
    /// # Panics
    ///
    /// As [`forward`](Self::forward), or if a gate or residual does not have the output's shape.
    ///
    /// # Example
    ///
    /// ```
    /// use burn::tensor::{Device, Tensor};
    /// use burn_structured_nn::{Activation, Epilogue, StructuredLinearConfig};
    ///
    /// let device = Device::flex();
    /// let layer = StructuredLinearConfig::new(8, 32, "low-rank:r=2".parse()?).init(&device);
    /// let x = Tensor::<2>::ones([3, 8], &device);
    /// let hidden = layer.forward_then(x, Epilogue::new().with_activation(Activation::Gelu));
    /// assert_eq!(hidden.dims(), [3, 32]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn forward_then<const D: usize>(&self, input: Tensor<D>, epilogue: Epilogue<D>) -> Tensor<D> {
        observed(|| self.id(), &input);
        each!(self, layer => layer.forward_then(input, epilogue), dense: dense::forward_then(layer, input, epilogue))
    }

    /// What tells this layer from others of its model.
    fn id(&self) -> Option<ParamId> {
        each!(self, layer => layer.factors().first().map(|factor| factor.id), dense: Some(layer.weight.id))
    }

    /// The dense weight `[d_output, d_input]` that this layer multiplies by.
    pub fn to_dense(&self) -> Tensor<2> {
        each!(self, layer => layer.to_dense(), dense: dense::to_dense(layer))
    }

    /// Parameters, FLOPs and bytes, beside those of the dense layer.
    pub fn cost(&self) -> Cost {
        each!(self, layer => layer.cost(), dense: dense::cost(layer))
    }

    /// The factors, each with the learning rate that suits it; none for a dense layer.
    pub fn factors(&self) -> Vec<Factor> {
        each!(self, layer => layer.factors(), dense: { let _ = layer; Vec::new() })
    }

    /// The size of the input features.
    pub fn d_input(&self) -> usize {
        each!(self, layer => layer.d_input(), dense: layer.weight.shape()[0])
    }

    /// The size of the output features.
    pub fn d_output(&self) -> usize {
        each!(self, layer => layer.d_output(), dense: layer.weight.shape()[1])
    }

    /// The bias `[d_output]`, if there is one.
    pub fn bias(&self) -> Option<&Param<Tensor<1>>> {
        each!(self, layer => layer.bias.as_ref(), dense: layer.bias.as_ref(), int8: layer.bias())
    }

    /// The bias `[d_output]`, if there is one, to be replaced.
    pub fn bias_mut(&mut self) -> Option<&mut Param<Tensor<1>>> {
        each!(self, layer => layer.bias.as_mut(), dense: layer.bias.as_mut(), int8: layer.bias_mut())
    }

    /// The layer as it is used when training is over: what is learned beside the weights is fixed, and the work that it makes
    /// superfluous is left out. Changes only [`StructuredLinear::Gaudi`].
    pub fn freeze_windows(self) -> Self {
        match self {
            Self::Gaudi(layer) => Self::Windowed(layer.freeze_windows()),
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Distribution, Tolerance};

    #[test]
    fn forward_is_the_product_with_to_dense() {
        let device = Device::flex();
        for text in [
            "dense",
            "blast",
            "blast:b=2x4,r=5",
            "low-rank:r=5",
            "ss1:k=4",
            "ss1:c=2,k=3,n=7,hash=independent",
            "monarch",
            "block-diagonal",
            "pixelfly:b=4,stride=2,r=2",
            "gaudi",
            "btt",
            "kronecker",
        ] {
            let layer = StructuredLinearConfig::new(16, 24, text.parse().unwrap()).init(&device);
            let x = Tensor::<3>::random([2, 5, 16], Distribution::Normal(0.0, 1.0), &device);
            let bias = layer.forward(Tensor::<3>::zeros([1, 1, 16], &device));
            assert!(bias.clone().abs().sum().into_scalar::<f32>() > 0.0, "{text}");
            let expected = (x.clone().matmul(layer.to_dense().transpose().unsqueeze()) + bias).into_data();
            layer.forward(x).into_data().assert_approx_eq::<f32>(&expected, Tolerance::absolute(1e-5));
            assert_eq!(layer.cost().params, layer.num_params(), "{text}");
        }
    }

    #[test]
    fn every_structure_imitates_the_initializer() {
        let device = Device::flex();
        device.seed(5);
        for name in Structure::NAMES {
            let config = StructuredLinearConfig::new(192, 256, name.parse().unwrap());
            let layer = config.with_initializer(Some(Initializer::Normal { mean: 0.0, std: 0.02 })).init(&device);
            let std = layer.to_dense().square().mean().sqrt().into_scalar::<f64>();
            assert!((0.018..0.022).contains(&std), "{name}: {std}");
        }
    }

    #[test]
    fn bias_can_be_replaced() {
        let device = Device::flex();
        for name in Structure::NAMES {
            let config = StructuredLinearConfig::new(128, 128, name.parse().unwrap());
            let mut layer = config.init(&device);
            *layer.bias_mut().unwrap() = Initializer::Constant { value: 2.0 }.init([128], &device);
            let output = layer.forward(Tensor::<2>::zeros([1, 128], &device));
            assert!(output.into_data().iter::<f32>().all(|value| value == 2.0), "{name}");
            assert_eq!(layer.bias().unwrap().shape().dims(), [128]);
            assert!(config.with_bias(false).init(&device).bias().is_none(), "{name}");
        }
    }

    #[test]
    fn a_dense_layer_is_its_own_measure() {
        let layer = StructuredLinearConfig::new(8, 12, Structure::Dense).init(&Device::flex());
        assert_eq!(layer.cost().params_ratio(), 1.0);
        assert_eq!(layer.cost().flops_ratio(), 1.0);
    }

    #[test]
    fn extreme_settings_are_errors() {
        let device = Device::flex();
        for text in [
            "ss1:c=1,k=1000000000000",
            "ss1:c=1,n=1000000000000",
            "ss1:c=1000000000000",
            "blast:b=1000000000000",
            "blast:r=1000000000000",
            "blast:b=16,r=16",
            "low-rank:r=1000000000000",
            "monarch:b=1000000000000",
            "monarch:b=1,r=1000000000000",
            "block-diagonal:b=1000000000000",
            "pixelfly:b=1000000000000",
            "pixelfly:b=4,stride=1099511627776",
            "pixelfly:b=4,r=1000000000000",
            "gaudi:r=1000000000000",
            "btt:b=1000000000000",
            "btt:r=1000000000000",
            "kronecker:b=1000000000000",
            "kronecker:r=1000000000000",
        ] {
            let config = StructuredLinearConfig::new(16, 16, text.parse().unwrap());
            assert!(config.try_init(&device).is_err(), "{text}");
        }
        for name in Structure::NAMES {
            let config = StructuredLinearConfig::new(usize::MAX, 2, name.parse().unwrap());
            assert!(matches!(config.try_init(&device), Err(StructureError::TooManyEntries { .. })), "{name}");
        }
    }

    #[test]
    fn an_empty_dense_layer_is_an_error_too() {
        assert!(StructuredLinearConfig::new(0, 4, Structure::Dense).try_init(&Device::flex()).is_err());
    }
}
