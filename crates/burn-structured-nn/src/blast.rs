//! The BLAST layer.

use crate::dense::own_bias;
use crate::display::{grid, layer_display};
use crate::error::check_dimensions;
use crate::initializer::{FactorInitializers, TargetDistribution, dense_bias, dense_default, orthogonal_blocks, signs};
use crate::rank::RankBudget;
use crate::{Blocks, Cost, Factor, Rank, StructureError};
use burn::config::Config;
use burn::module::{Module, Param};
use burn::nn::Initializer;
use burn::tensor::{Device, Tensor, assert_shape};
use burn_structured_ops::blast::blast_to_dense;
use burn_structured_ops::{BlastStrategy, Epilogue, blast_linear_with};

/// Configuration to create a [`BlastLinear`] layer using the [init function](BlastLinearConfig::init).
#[derive(Config, Debug)]
pub struct BlastLinearConfig {
    /// The size of the input features.
    pub d_input: usize,
    /// The size of the output features.
    pub d_output: usize,
    /// Into how many blocks the matrix is cut.
    #[config(default = "Blocks::Auto")]
    pub blocks: Blocks,
    /// The rank of the blocks, or the share of the dense parameters to spend on it.
    #[config(default = "Rank::Ratio(0.5)")]
    pub rank: Rank,
    /// If a bias should be applied during the linear transformation.
    #[config(default = true)]
    pub bias: bool,
    /// The dense initializer to imitate: the entries of the factors' product have its variance. The blocks of `u` and `v`
    /// start orthogonal, the couplings as random signs.
    #[config(default = "dense_default()")]
    pub initializer: Initializer,
}

/// Applies a linear transformation whose weight is a BLAST matrix:
///
/// `O = I Wᵀ + b`, where block `(i, j)` of `W [d_output, d_input]` is `U_i diag(s_ij) V_jᵀ`.
///
/// All blocks of a row share `U_i`, all blocks of a column share `V_j`, and `s_ij` couples them (Lee, Kwon, Qu, Kim,
/// NeurIPS 2024, §2). It has `r (d_output + d_input + b1 b2)` weights and as many multiplications a token.
///
/// Should be created with [`BlastLinearConfig`].
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct BlastLinear {
    /// Output factors `[b1, d_output / b1, r]`.
    pub u: Param<Tensor<3>>,
    /// Couplings `[b1, b2, r]`.
    pub s: Param<Tensor<3>>,
    /// Input factors `[b2, d_input / b2, r]`.
    pub v: Param<Tensor<3>>,
    /// Vector of size `d_output`.
    pub bias: Option<Param<Tensor<1>>>,
}

impl BlastLinearConfig {
    /// Initialize a new [`BlastLinear`] module.
    ///
    /// # Panics
    ///
    /// Where [`try_init`](Self::try_init) returns an error.
    pub fn init(&self, device: &Device) -> BlastLinear {
        self.try_init(device).unwrap_or_else(|error| panic!("BlastLinear: {error}"))
    }

    /// Initialize a new [`BlastLinear`] module.
    ///
    /// # Errors
    ///
    /// If a dimension is zero or does not split into the blocks, if the rank is zero or above what any matrix
    /// of this shape needs, if the ratio is outside `(0, 1]` or leaves no room for rank 1, or if the initializer has a mean.
    pub fn try_init(&self, device: &Device) -> Result<BlastLinear, StructureError> {
        let (d_input, d_output) = (self.d_input, self.d_output);
        let ([b1, b2], rank) = self.resolve()?;
        let (u, s, v) = ([b1, d_output / b1, rank], [b1, b2, rank], [b2, d_input / b2, rank]);
        let (u, s, v) = match TargetDistribution::of(&self.initializer, d_input, d_output)? {
            TargetDistribution::Variance(variance) => {
                let std = (variance / rank as f64).powf(0.25);
                (orthogonal_blocks(u, std, device), signs(s, device), orthogonal_blocks(v, std, device))
            }
            _ => {
                let factors = FactorInitializers::imitating(&self.initializer, d_input, d_output, rank)?;
                (factors.u.init(u, device), factors.s.init(s, device), factors.v.init(v, device))
            }
        };
        Ok(BlastLinear { u, s, v, bias: dense_bias(self.bias, &self.initializer, [d_input, d_output], device) })
    }

    /// The block grid `[b1, b2]` and the rank that the configuration comes to.
    ///
    /// # Errors
    ///
    /// As [`try_init`](Self::try_init).
    pub fn resolve(&self) -> Result<([usize; 2], usize), StructureError> {
        check_dimensions(self.d_input, self.d_output)?;
        let (b1, b2) = self.blocks.resolve(self.d_input, self.d_output)?;
        let rank = self.rank.resolve(RankBudget {
            d_input: self.d_input,
            d_output: self.d_output,
            fixed: 0,
            params_per_rank: self.d_output + self.d_input + b1 * b2,
            hint: ", or fewer blocks",
            // Couplings of 1 make every matrix at the rank of the matrix. So does one component for each entry of a block, with
            // the entry as its coupling. Either bounds the weights by three times the dense ones.
            max: self.d_input.min(self.d_output).min(self.d_output / b1 * (self.d_input / b2)),
        })?;
        Ok(([b1, b2], rank))
    }
}

impl BlastLinear {
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
        self.forward_with(input, BlastStrategy::Auto)
    }

    /// [`forward`](Self::forward) by a chosen strategy, for comparison.
    ///
    /// # Panics
    ///
    /// Panics if the last axis of `input` is not `d_input`.
    pub fn forward_with<const D: usize>(&self, input: Tensor<D>, strategy: BlastStrategy) -> Tensor<D> {
        self.product(input, Epilogue::new(), strategy)
    }

    /// [`forward`](Self::forward), and what follows the layer; the bias is the layer's own, whatever the epilogue says.
    ///
    /// # Panics
    ///
    /// As [`forward`](Self::forward), or if a gate or residual does not have the output's shape.
    pub fn forward_then<const D: usize>(&self, input: Tensor<D>, epilogue: Epilogue<D>) -> Tensor<D> {
        self.product(input, epilogue, BlastStrategy::Auto)
    }

    fn product<const D: usize>(&self, input: Tensor<D>, epilogue: Epilogue<D>, strategy: BlastStrategy) -> Tensor<D> {
        let d_input = self.d_input();
        assert_shape!(input, [.., d_input]);
        blast_linear_with(input, self.u.val(), self.s.val(), self.v.val(), own_bias(epilogue, &self.bias), strategy)
    }

    /// The dense weight `[d_output, d_input]` that this layer multiplies by.
    pub fn to_dense(&self) -> Tensor<2> {
        blast_to_dense(self.u.val(), self.s.val(), self.v.val())
    }

    /// Parameters, FLOPs and bytes, beside those of the dense layer.
    pub fn cost(&self) -> Cost {
        let [b1, b2, r] = self.s.shape().dims();
        let (d_input, d_output) = (self.d_input(), self.d_output());
        let weights = r * (d_output + d_input + b1 * b2);
        Cost::of_weights(weights, d_input, d_output, self.bias.is_some(), self.u.val().dtype().size())
    }

    /// The factors, each with the learning rate that suits it.
    pub fn factors(&self) -> Vec<Factor> {
        let ([_, b2], d_input) = (self.blocks(), self.d_input());
        vec![
            Factor::new("u", &self.u, d_input, self.rank()),
            Factor::new("s", &self.s, d_input, b2),
            Factor::new("v", &self.v, d_input, d_input / b2),
        ]
    }

    /// The size of the input features.
    pub fn d_input(&self) -> usize {
        let [b2, q, _] = self.v.shape().dims();
        b2 * q
    }

    /// The size of the output features.
    pub fn d_output(&self) -> usize {
        let [b1, p, _] = self.u.shape().dims();
        b1 * p
    }

    /// The block grid `[b1, b2]`.
    pub fn blocks(&self) -> [usize; 2] {
        let [b1, b2, _] = self.s.shape().dims();
        [b1, b2]
    }

    /// The rank of the blocks.
    pub fn rank(&self) -> usize {
        self.s.shape()[2]
    }
}

layer_display!(BlastLinear, layer => { "blocks": grid(layer.blocks()), "rank": layer.rank() });

#[cfg(test)]
mod tests {
    use super::*;
    use burn::store::ModuleRecord;
    use burn::tensor::{Distribution, Tolerance};

    fn device() -> Device {
        let device = Device::flex();
        device.seed(7);
        device
    }

    #[test]
    #[should_panic(expected = "assert_shape!(input, [.., d_input]): axis 1 expected 8, got 6")]
    fn input_d_input_must_match() {
        let device = device();
        let layer = BlastLinearConfig::new(8, 4).with_rank(Rank::Fixed(2)).init(&device);
        let _ = layer.forward(Tensor::<2>::zeros([1, 6], &device));
    }

    #[test]
    fn a_vector_is_one_token() {
        let device = device();
        let layer = BlastLinearConfig::new(8, 6).with_rank(Rank::Fixed(2)).init(&device);
        let x = Tensor::<1>::random([8], Distribution::Default, &device);
        let one = layer.forward(x.clone().unsqueeze::<2>());
        layer.forward(x).into_data().assert_eq(&one.squeeze_dim::<1>(0).into_data(), true);
    }

    #[test]
    fn the_output_variance_is_that_of_a_dense_layer() {
        let device = device();
        let x = Tensor::<2>::random([512, 96], Distribution::Normal(0.0, 1.0), &device);
        let variance = |y: Tensor<2>| y.powf_scalar(2.0).mean().into_scalar::<f32>();
        let dense = variance(burn::nn::LinearConfig::new(96, 192).with_bias(false).init(&device).forward(x.clone()));
        for (blocks, rank) in [(1, 12), (2, 24), (4, 48), (8, 96)] {
            let config = BlastLinearConfig::new(96, 192).with_bias(false);
            let config = config.with_blocks(Blocks::Square(blocks)).with_rank(Rank::Fixed(rank));
            // One draw of rank 12 is off by some 30 %, the mean of 40 by 5 %.
            let draws = 40;
            let mean =
                (0..draws).map(|_| variance(config.init(&device).forward(x.clone()))).sum::<f32>() / draws as f32;
            assert!((mean / dense - 1.0).abs() < 0.15, "blocks {blocks}, rank {rank}: {mean} against {dense}");
        }
    }

    #[test]
    fn constant_initializers_are_exact() {
        let device = device();
        let config = BlastLinearConfig::new(8, 12).with_initializer(Initializer::Constant { value: 2.0 });
        let expected = Tensor::<2>::full([12, 8], 2.0, &device);
        let dense = config.init(&device).to_dense();
        dense.into_data().assert_approx_eq::<f32>(&expected.into_data(), Tolerance::absolute(1e-5));
    }

    #[test]
    fn zeros_still_let_a_gradient_through() {
        let device = device().autodiff();
        let layer = BlastLinearConfig::new(8, 12).with_initializer(Initializer::Zeros).init(&device);
        let x = Tensor::<2>::ones([1, 8], &device);
        let y = layer.forward(x);
        assert_eq!(y.clone().abs().sum().into_scalar::<f32>(), 0.0);
        let grads = (y + 1.0).powf_scalar(2.0).sum().backward();
        let gradient = layer.u.grad(&grads).unwrap();
        assert!(gradient.abs().sum().into_scalar::<f32>() > 0.0);
    }

    #[test]
    fn a_ratio_is_kept() {
        let layer = BlastLinearConfig::new(768, 3072).with_blocks(Blocks::Square(4)).init(&device());
        assert_eq!(layer.rank(), 304);
        let ratio = layer.cost().params_ratio();
        assert!((0.495..=0.501).contains(&ratio), "{ratio}");
    }

    #[test]
    fn cost_counts_the_stored_parameters() {
        let layer =
            BlastLinearConfig::new(12, 20).with_blocks(Blocks::Square(4)).with_rank(Rank::Fixed(3)).init(&device());
        assert_eq!(layer.cost().params, layer.num_params());
        assert_eq!(layer.cost().flops_per_token, 2 * 3 * (12 + 20 + 16) + 20);
        assert_eq!(layer.cost().bytes_per_token, 4 * (layer.num_params() + 12 + 20));
    }

    #[test]
    fn errors_name_the_culprit() {
        let error = BlastLinearConfig::new(8, 0).try_init(&device()).unwrap_err();
        assert_eq!(error, StructureError::EmptyDimension { name: "d_output" });
        let config = BlastLinearConfig::new(8, 8).with_blocks(Blocks::Square(3));
        assert!(matches!(config.try_init(&device()), Err(StructureError::Indivisible { .. })));
        let config = BlastLinearConfig::new(8, 8).with_blocks(Blocks::Square(2)).with_rank(Rank::Fixed(9));
        assert_eq!(
            config.try_init(&device()).unwrap_err(),
            StructureError::RankTooLarge { rank: 9, max: 8, d_output: 8, d_input: 8 }
        );
    }

    #[test]
    fn couplings_are_at_most_the_dense_weights() {
        // Rank 1 and blocks of one entry are any matrix; this was 64³ couplings.
        let config = BlastLinearConfig::new(64, 64).with_blocks(Blocks::Square(64));
        let error = config.clone().with_rank(Rank::Fixed(64)).try_init(&device()).unwrap_err();
        assert!(matches!(error, StructureError::RankTooLarge { max: 1, .. }), "{error}");
        let weight = Tensor::<2>::random([64, 64], Distribution::Default, &device());
        let found = config.with_rank(Rank::Fixed(1)).from_dense(weight, None).unwrap();
        assert!(found.relative_error < 1e-3, "{}", found.relative_error);
    }

    #[test]
    fn display() {
        let layer =
            BlastLinearConfig::new(8, 12).with_blocks(Blocks::Square(2)).with_rank(Rank::Fixed(3)).init(&device());
        assert_eq!(
            format!("{layer}"),
            "BlastLinear {d_input: 8, d_output: 12, blocks: 2x2, rank: 3, bias: true, params: 84}"
        );
    }

    #[test]
    fn config_round_trips_through_json() {
        let config = BlastLinearConfig::new(8, 12).with_blocks(Blocks::Grid { output: 2, input: 4 });
        let json = serde_json::to_string(&config).unwrap();
        let read: BlastLinearConfig = serde_json::from_str(&json).unwrap();
        assert_eq!(read.resolve(), config.resolve());
    }

    #[test]
    fn record_round_trip() {
        let device = device();
        let config = BlastLinearConfig::new(8, 12);
        let layer = config.init(&device);
        let x = Tensor::<2>::ones([3, 8], &device);
        let before = layer.forward(x.clone()).into_data();
        let bytes = layer.into_record().into_bytes().unwrap();
        let read = config.init(&device).load_record(ModuleRecord::from_bytes(bytes).unwrap());
        read.forward(x).into_data().assert_eq(&before, true);
    }
}
