//! The Monarch layer: two block-diagonal factors with a permutation between them.

use crate::error::check_dimensions;
use crate::initializer::{FactorInitializers, dense_bias, dense_default};
use crate::two_factor::{self, two_factor_layer};
use crate::{Blocks, Cost, Factor, Rank, StructureError};
use burn::config::Config;
use burn::module::{Module, Param};
use burn::nn::Initializer;
use burn::tensor::{Device, Tensor, assert_shape};
use burn_structured_ops::block_diagonal::Order;
use burn_structured_ops::monarch::{monarch_linear, monarch_to_dense};

/// Configuration to create a [`MonarchLinear`] layer using the [init function](MonarchLinearConfig::init).
#[derive(Config, Debug)]
pub struct MonarchLinearConfig {
    /// The size of the input features.
    pub d_input: usize,
    /// The size of the output features.
    pub d_output: usize,
    /// Into how many blocks the matrix is cut: `b1` blocks of the left factor, `b2` of the right one.
    #[config(default = "Blocks::Auto")]
    pub blocks: Blocks,
    /// The rank of each block, or the share of the dense parameters to spend on it.
    #[config(default = "Rank::Ratio(0.5)")]
    pub rank: Rank,
    /// If a bias should be applied during the linear transformation.
    #[config(default = true)]
    pub bias: bool,
    /// The dense initializer to imitate: the factors are drawn so that the output has the variance it gives.
    #[config(default = "dense_default()")]
    pub initializer: Initializer,
}

/// Applies a linear transformation whose weight is a Monarch matrix: `O = I (P₂ L P₁ R)ᵀ + b`.
///
/// `R` and `L` are block-diagonal, with `b2` and `b1` blocks, and `P₁`, `P₂` deal the features of one side to the blocks of
/// the other like cards (Dao et al., ICML 2022). Row `i b1 + g` and the columns of block `j` form a `b1 × b2` grid of blocks
/// `(g, j)` of rank `t`, the rows of a block being `b1` apart. It has `t (b1 d_input + b2 d_output)` weights and as many
/// multiplications a token.
///
/// Should be created with [`MonarchLinearConfig`].
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct MonarchLinear {
    /// Blocks of the right factor, which multiplies the input: `[b2, t b1, d_input / b2]`.
    pub right: Param<Tensor<3>>,
    /// Blocks of the left factor: `[b1, d_output / b1, t b2]`.
    pub left: Param<Tensor<3>>,
    /// Vector of size `d_output`.
    pub bias: Option<Param<Tensor<1>>>,
}

impl MonarchLinearConfig {
    /// Initialize a new [`MonarchLinear`] module.
    ///
    /// # Panics
    ///
    /// Where [`try_init`](Self::try_init) returns an error.
    pub fn init(&self, device: &Device) -> MonarchLinear {
        self.try_init(device).unwrap_or_else(|error| panic!("MonarchLinear: {error}"))
    }

    /// Initialize a new [`MonarchLinear`] module.
    ///
    /// # Errors
    ///
    /// If a dimension is zero or does not split into the blocks, if the rank is zero or above what the blocks need,
    /// if the ratio is outside `(0, 1]` or leaves no room for rank 1, or if the initializer has a mean.
    pub fn try_init(&self, device: &Device) -> Result<MonarchLinear, StructureError> {
        let (d_input, d_output) = (self.d_input, self.d_output);
        let ([b1, b2], rank) = self.resolve()?;
        let factors = FactorInitializers::imitating(&self.initializer, d_input, d_output, rank)?;
        Ok(MonarchLinear {
            right: factors.v.init([b2, rank * b1, d_input / b2], device),
            left: factors.u.init([b1, d_output / b1, rank * b2], device),
            bias: dense_bias(self.bias, &self.initializer, [d_input, d_output], device),
        })
    }

    /// The block grid `[b1, b2]` and the rank of a block that the configuration comes to.
    ///
    /// # Errors
    ///
    /// As [`try_init`](Self::try_init).
    pub fn resolve(&self) -> Result<([usize; 2], usize), StructureError> {
        check_dimensions(self.d_input, self.d_output)?;
        let blocks = self.blocks.resolve(self.d_input, self.d_output)?;
        two_factor::resolve(blocks, self.rank, [self.d_output, self.d_input], ", or fewer blocks")
    }
}

two_factor_layer!(MonarchLinear, Order::Strided);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_kept() {
        let layer = MonarchLinearConfig::new(768, 3072).init(&Device::flex());
        assert_eq!((layer.blocks(), layer.rank()), ([4, 4], 76));
        assert!((0.49..=0.501).contains(&layer.cost().params_ratio()));
    }

    #[test]
    fn a_block_is_made_of_rows_that_are_apart() {
        let device = Device::flex();
        // Rows 0 and 2 are equal, and so are 1 and 3: rank 1 for each block of strided rows.
        let weight = Tensor::<2>::from_data([[1.0f32, 2.0], [3.0, -1.0], [1.0, 2.0], [3.0, -1.0]], &device);
        let config = MonarchLinearConfig::new(2, 4).with_rank(Rank::Fixed(1));
        let config = config.with_blocks(Blocks::Grid { output: 2, input: 1 });
        assert!(config.from_dense(weight, None).unwrap().relative_error < 1e-6);
    }

    #[test]
    fn the_rank_stops_at_that_of_a_block() {
        let config = MonarchLinearConfig::new(12, 20).with_blocks(Blocks::Square(4)).with_rank(Rank::Fixed(4));
        let error = config.try_init(&Device::flex()).unwrap_err();
        assert!(matches!(error, StructureError::RankTooLarge { max: 3, .. }), "{error}");
    }
}
