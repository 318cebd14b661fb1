//! The block tensor-train layer: Monarch with cores near the square root of the sides, and its own start and rates.

use crate::error::check_dimensions;
use crate::initializer::{FactorInitializers, TargetDistribution, dense_bias, dense_default};
use crate::two_factor::{self, two_factor_layer};
use crate::{Blocks, Cost, Factor, Rank, StructureError};
use burn::config::Config;
use burn::module::{Module, Param};
use burn::nn::Initializer;
use burn::tensor::{Device, Tensor, assert_shape};
use burn_structured_ops::block_diagonal::Order;
use burn_structured_ops::monarch::{monarch_linear, monarch_to_dense};

/// Configuration to create a [`BttLinear`] layer using the [init function](BttLinearConfig::init).
#[derive(Config, Debug)]
pub struct BttLinearConfig {
    /// The size of the input features.
    pub d_input: usize,
    /// The size of the output features.
    pub d_output: usize,
    /// Into how many blocks the matrix is cut: `d_output = b1 m₂`, `d_input = b2 n₂`; [`Blocks::Auto`] takes the divisors
    /// nearest to the square roots.
    #[config(default = "Blocks::Auto")]
    pub blocks: Blocks,
    /// The rank of the train, which is that of each block, or the share of the dense parameters to spend on it.
    #[config(default = "Rank::Ratio(0.5)")]
    pub rank: Rank,
    /// If a bias should be applied during the linear transformation.
    #[config(default = true)]
    pub bias: bool,
    /// The dense initializer to imitate: the cores are drawn so that the entries of their product have its variance, in the
    /// proportion of the paper's rule. `None` is that rule itself, see [`BttLinear`].
    #[config(default = "None")]
    pub initializer: Option<Initializer>,
}

/// Applies a linear transformation whose weight is a block tensor-train: `O_{αβ} = Σ_{γσ} L_{αβγσ} Σ_δ R_{αγδσ} I_{γδ} + b`.
///
/// Features are pairs of indices, `α < b1`, `γ < b2`, and `σ` runs over the rank (Qiu, Potapczynski, Finzi, Goldblum, Wilson,
/// *Compute Better Spent*, ICML 2024, §4). Block `(α, γ)` of the weight has rank `t`, as in a Monarch matrix, but its rows are
/// neighbours. It has `t (b1 d_input + b2 d_output)` weights and as many multiplications a token.
///
/// Each core is drawn with variance `min(f_in, f_out) / f_in²` for the `f_in` features that one of its outputs sums and the
/// `f_out` outputs of a block, and [`factors`](Self::factors) scales its learning rate by `d_input / f_in`: the paper's rules,
/// under which the rate of a dense layer carries over.
///
/// Should be created with [`BttLinearConfig`].
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct BttLinear {
    /// Blocks of the right factor, which multiplies the input: `[b2, t b1, d_input / b2]`.
    pub right: Param<Tensor<3>>,
    /// Blocks of the left factor: `[b1, d_output / b1, t b2]`.
    pub left: Param<Tensor<3>>,
    /// Vector of size `d_output`.
    pub bias: Option<Param<Tensor<1>>>,
}

impl BttLinearConfig {
    /// Initialize a new [`BttLinear`] module.
    ///
    /// # Panics
    ///
    /// Where [`try_init`](Self::try_init) returns an error.
    pub fn init(&self, device: &Device) -> BttLinear {
        self.try_init(device).unwrap_or_else(|error| panic!("BttLinear: {error}"))
    }

    /// Initialize a new [`BttLinear`] module.
    ///
    /// # Errors
    ///
    /// If a dimension is zero or does not split into the blocks, if the rank is zero or above what the blocks need,
    /// if the ratio is outside `(0, 1]` or leaves no room for rank 1, or if the initializer has a mean.
    pub fn try_init(&self, device: &Device) -> Result<BttLinear, StructureError> {
        let (d_input, d_output) = (self.d_input, self.d_output);
        let ([b1, b2], rank) = self.resolve()?;
        let (right, left) = ([b2, rank * b1, d_input / b2], [b1, d_output / b1, rank * b2]);
        let factors = self.factor_initializers(right, left, rank)?;
        let initializer = self.initializer.clone().unwrap_or_else(dense_default);
        Ok(BttLinear {
            right: factors.v.init(right, device),
            left: factors.u.init(left, device),
            bias: dense_bias(self.bias, &initializer, [d_input, d_output], device),
        })
    }

    /// How to draw the cores of these shapes.
    fn factor_initializers(
        &self,
        right: [usize; 3],
        left: [usize; 3],
        rank: usize,
    ) -> Result<FactorInitializers, StructureError> {
        let (d_input, d_output) = (self.d_input, self.d_output);
        let by_the_rule = |[_, outputs, inputs]: [usize; 3]| outputs.min(inputs) as f64 / (inputs as f64).powi(2);
        let scale = match &self.initializer {
            None => 1.0,
            Some(dense) => match TargetDistribution::of(dense, d_input, d_output)? {
                // An entry is a sum of as many products of two independent entries as the rank.
                TargetDistribution::Variance(variance) => {
                    (variance / (rank as f64 * by_the_rule(right) * by_the_rule(left))).sqrt()
                }
                _ => return FactorInitializers::imitating(dense, d_input, d_output, rank),
            },
        };
        let normal = |core| Initializer::Normal { mean: 0.0, std: (scale * by_the_rule(core)).sqrt() };
        Ok(FactorInitializers { u: normal(left), s: Initializer::Ones, v: normal(right) })
    }

    /// The block grid `[b1, b2]` and the rank of a block that the configuration comes to.
    ///
    /// # Errors
    ///
    /// As [`try_init`](Self::try_init).
    pub fn resolve(&self) -> Result<([usize; 2], usize), StructureError> {
        check_dimensions(self.d_input, self.d_output)?;
        let blocks = self.blocks.resolve_square_root(self.d_input, self.d_output)?;
        two_factor::resolve(blocks, self.rank, [self.d_output, self.d_input], ", or other blocks")
    }
}

two_factor_layer!(BttLinear, Order::Grouped);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_are_near_the_square_root() {
        let layer = BttLinearConfig::new(768, 3072).with_rank(Rank::Fixed(2)).init(&Device::flex());
        assert_eq!(layer.blocks(), [48, 24]);
        assert_eq!(layer.cost().params, layer.num_params());
        assert!(layer.cost().params_ratio() < 0.1);
    }

    #[test]
    fn cores_are_drawn_by_their_fans() {
        let device = Device::flex();
        device.seed(3);
        let config = BttLinearConfig::new(64, 96).with_blocks(Blocks::Square(8)).with_rank(Rank::Fixed(3));
        let layer = config.init(&device);
        let variance = |core: &Param<Tensor<3>>| core.val().powf_scalar(2.0).mean().into_scalar::<f64>();
        // Right: 8 features to 24; left: 24 to 12.
        assert!((variance(&layer.right) * 64.0 / 8.0 - 1.0).abs() < 0.15);
        assert!((variance(&layer.left) * 576.0 / 12.0 - 1.0).abs() < 0.15);
    }

    #[test]
    fn every_core_has_its_rate() {
        let config = BttLinearConfig::new(64, 96).with_blocks(Blocks::Square(8)).with_rank(Rank::Fixed(2));
        let rates: Vec<_> =
            config.init(&Device::flex()).factors().iter().map(|core| (core.name, core.lr_scale)).collect();
        assert_eq!(rates, [("right", 8.0), ("left", 4.0)]);
    }
}
