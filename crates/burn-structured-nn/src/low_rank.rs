//! The low-rank layer: the plainest structure, and the baseline of the papers.

use crate::dense::own_bias;
use crate::display::layer_display;
use crate::error::check_dimensions;
use crate::initializer::{FactorInitializers, dense_bias, dense_default};
use crate::rank::RankBudget;
use crate::{Cost, Factor, Rank, StructureError};
use burn::config::Config;
use burn::module::{Module, Param};
use burn::nn::Initializer;
use burn::tensor::{Device, Tensor, assert_shape};
use burn_structured_ops::Epilogue;
use burn_structured_ops::low_rank::{low_rank_linear, low_rank_to_dense};

/// Configuration to create a [`LowRankLinear`] layer using the [init function](LowRankLinearConfig::init).
#[derive(Config, Debug)]
pub struct LowRankLinearConfig {
    /// The size of the input features.
    pub d_input: usize,
    /// The size of the output features.
    pub d_output: usize,
    /// The rank, or the share of the dense parameters to spend on it.
    #[config(default = "Rank::Ratio(0.5)")]
    pub rank: Rank,
    /// If a bias should be applied during the linear transformation.
    #[config(default = true)]
    pub bias: bool,
    /// The dense initializer to imitate: the factors are drawn so that the entries of their product have its variance.
    #[config(default = "dense_default()")]
    pub initializer: Initializer,
}

/// Applies a linear transformation whose weight has low rank: `O = (I V) Uᵀ + b`.
///
/// It has `r (d_output + d_input)` weights and as many multiplications a token. Both factors are stored the way Burn's
/// matmul reads them fastest, `[in, out]`.
///
/// Should be created with [`LowRankLinearConfig`].
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct LowRankLinear {
    /// Input factor `V [d_input, r]`.
    pub v: Param<Tensor<2>>,
    /// Output factor, transposed: `Uᵀ [r, d_output]`.
    pub ut: Param<Tensor<2>>,
    /// Vector of size `d_output`.
    pub bias: Option<Param<Tensor<1>>>,
}

impl LowRankLinearConfig {
    /// Initialize a new [`LowRankLinear`] module.
    ///
    /// # Panics
    ///
    /// Where [`try_init`](Self::try_init) returns an error.
    pub fn init(&self, device: &Device) -> LowRankLinear {
        self.try_init(device).unwrap_or_else(|error| panic!("LowRankLinear: {error}"))
    }

    /// Initialize a new [`LowRankLinear`] module.
    ///
    /// # Errors
    ///
    /// If a dimension is zero, if the rank is zero or above `min(d_input, d_output)`, if the ratio is outside `(0, 1]` or
    /// leaves no room for rank 1, or if the initializer has a mean.
    pub fn try_init(&self, device: &Device) -> Result<LowRankLinear, StructureError> {
        let (d_input, d_output) = (self.d_input, self.d_output);
        let rank = self.resolve()?;
        let factors = FactorInitializers::imitating(&self.initializer, d_input, d_output, rank)?;
        Ok(LowRankLinear {
            v: factors.v.init([d_input, rank], device),
            ut: factors.u.init([rank, d_output], device),
            bias: dense_bias(self.bias, &self.initializer, [d_input, d_output], device),
        })
    }

    /// The rank that the configuration comes to.
    ///
    /// # Errors
    ///
    /// As [`try_init`](Self::try_init).
    pub fn resolve(&self) -> Result<usize, StructureError> {
        check_dimensions(self.d_input, self.d_output)?;
        self.rank.resolve(RankBudget {
            d_input: self.d_input,
            d_output: self.d_output,
            fixed: 0,
            params_per_rank: self.d_input + self.d_output,
            hint: "",
            max: self.d_input.min(self.d_output),
        })
    }
}

impl LowRankLinear {
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
    pub fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        self.forward_then(input, Epilogue::new())
    }

    /// [`forward`](Self::forward), and what follows the layer; the bias is the layer's own, whatever the epilogue says.
    ///
    /// # Panics
    ///
    /// As [`forward`](Self::forward), or if a gate or residual does not have the output's shape.
    pub fn forward_then<const D: usize>(&self, input: Tensor<D>, epilogue: Epilogue<D>) -> Tensor<D> {
        let [d_input, _] = self.v.shape().dims();
        assert_shape!(input, [.., d_input]);
        low_rank_linear(input, self.v.val(), self.ut.val(), own_bias(epilogue, &self.bias))
    }

    /// The dense weight `[d_output, d_input]` that this layer multiplies by.
    pub fn to_dense(&self) -> Tensor<2> {
        low_rank_to_dense(self.v.val(), self.ut.val())
    }

    /// Parameters, FLOPs and bytes, beside those of the dense layer.
    pub fn cost(&self) -> Cost {
        let (d_input, d_output) = (self.d_input(), self.d_output());
        let weights = self.rank() * (d_input + d_output);
        Cost::of_weights(weights, d_input, d_output, self.bias.is_some(), self.v.val().dtype().size())
    }

    /// The factors, each with the learning rate that suits it.
    pub fn factors(&self) -> Vec<Factor> {
        let d_input = self.d_input();
        vec![Factor::new("v", &self.v, d_input, d_input), Factor::new("ut", &self.ut, d_input, self.rank())]
    }

    /// The size of the input features.
    pub fn d_input(&self) -> usize {
        self.v.shape()[0]
    }

    /// The size of the output features.
    pub fn d_output(&self) -> usize {
        self.ut.shape()[1]
    }

    /// The rank of the weight.
    pub fn rank(&self) -> usize {
        self.v.shape()[1]
    }
}

layer_display!(LowRankLinear, layer => { "rank": layer.rank() });

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Distribution;

    fn device() -> Device {
        let device = Device::flex();
        device.seed(7);
        device
    }

    #[test]
    fn the_output_variance_is_that_of_a_dense_layer() {
        let device = device();
        let x = Tensor::<2>::random([512, 96], Distribution::Normal(0.0, 1.0), &device);
        let variance = |y: Tensor<2>| y.powf_scalar(2.0).mean().into_scalar::<f32>();
        let dense = variance(burn::nn::LinearConfig::new(96, 192).with_bias(false).init(&device).forward(x.clone()));
        let config = LowRankLinearConfig::new(96, 192).with_bias(false).with_rank(Rank::Fixed(32));
        let draws = 24;
        let mean = (0..draws).map(|_| variance(config.init(&device).forward(x.clone()))).sum::<f32>() / draws as f32;
        assert!((mean / dense - 1.0).abs() < 0.15, "{mean} against {dense}");
    }

    #[test]
    fn the_rank_stops_at_the_shorter_side() {
        let error = LowRankLinearConfig::new(12, 20).with_rank(Rank::Fixed(13)).try_init(&device()).unwrap_err();
        assert!(matches!(error, StructureError::RankTooLarge { max: 12, .. }), "{error}");
    }

    #[test]
    fn cost_counts_the_stored_parameters() {
        let layer = LowRankLinearConfig::new(12, 20).with_rank(Rank::Fixed(3)).init(&device());
        assert_eq!(layer.cost().params, layer.num_params());
        assert_eq!(layer.cost().flops_per_token, 2 * 3 * (12 + 20) + 20);
    }

    #[test]
    fn what_is_left_of_a_dense_weight_are_its_largest_singular_values() {
        // diag(3, 2, 1), so rank 2 misses 1 of √14.
        let weight = Tensor::<2>::from_data([[3.0f32, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 2.0, 0.0]], &device());
        let config = LowRankLinearConfig::new(3, 3).with_rank(Rank::Fixed(2));
        let approximation = config.from_dense(weight, None).unwrap();
        assert!((approximation.relative_error - 1.0 / 14f64.sqrt()).abs() < 1e-6);
    }

    #[test]
    fn display() {
        let layer = LowRankLinearConfig::new(8, 12).with_rank(Rank::Fixed(3)).init(&device());
        assert_eq!(format!("{layer}"), "LowRankLinear {d_input: 8, d_output: 12, rank: 3, bias: true, params: 72}");
    }
}
