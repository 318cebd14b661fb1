//! The block-diagonal layer: independent groups of features.

use crate::blocks::divisors;
use crate::dense::own_bias;
use crate::display::layer_display;
use crate::error::check_dimensions;
use crate::initializer::{TargetDistribution, dense_bias, dense_default};
use crate::{Blocks, Cost, Factor, StructureError};
use burn::config::Config;
use burn::module::{Module, Param};
use burn::nn::Initializer;
use burn::tensor::{Device, Tensor, assert_shape};
use burn_structured_ops::Epilogue;
use burn_structured_ops::block_diagonal::{Orders, block_diagonal_linear, block_diagonal_to_dense};

/// How many blocks a block-diagonal matrix has.
#[derive(Config, Debug, Copy, PartialEq)]
pub enum BlockCount {
    /// This many.
    Fixed(usize),
    /// The fewest that divide both sides and take at most this share, in `(0, 1]`, of the dense matrix's parameters.
    Ratio(f64),
}

/// Configuration to create a [`BlockDiagonalLinear`] layer using the [init function](BlockDiagonalLinearConfig::init).
#[derive(Config, Debug)]
pub struct BlockDiagonalLinearConfig {
    /// The size of the input features.
    pub d_input: usize,
    /// The size of the output features.
    pub d_output: usize,
    /// The number of blocks.
    #[config(default = "BlockCount::Fixed(4)")]
    pub blocks: BlockCount,
    /// If a bias should be applied during the linear transformation.
    #[config(default = true)]
    pub bias: bool,
    /// The dense initializer to imitate: the factors are drawn so that the output has the variance it gives.
    #[config(default = "dense_default()")]
    pub initializer: Initializer,
}

/// Applies a linear transformation to each group of features by itself: `O_k = I_k W_kᵀ + b_k`.
///
/// It has `d_output d_input / b` weights and as many multiplications a token.
///
/// Should be created with [`BlockDiagonalLinearConfig`].
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct BlockDiagonalLinear {
    /// Blocks `[b, d_output / b, d_input / b]`.
    pub w: Param<Tensor<3>>,
    /// Vector of size `d_output`.
    pub bias: Option<Param<Tensor<1>>>,
}

impl BlockDiagonalLinearConfig {
    /// Initialize a new [`BlockDiagonalLinear`] module.
    ///
    /// # Panics
    ///
    /// Where [`try_init`](Self::try_init) returns an error.
    pub fn init(&self, device: &Device) -> BlockDiagonalLinear {
        self.try_init(device).unwrap_or_else(|error| panic!("BlockDiagonalLinear: {error}"))
    }

    /// Initialize a new [`BlockDiagonalLinear`] module.
    ///
    /// # Errors
    ///
    /// If a dimension is zero or does not split into the blocks, if the ratio is outside `(0, 1]` or no number of
    /// blocks meets it, or if the initializer has a mean.
    pub fn try_init(&self, device: &Device) -> Result<BlockDiagonalLinear, StructureError> {
        let (d_input, d_output, blocks) = (self.d_input, self.d_output, self.resolve()?);
        let entries = TargetDistribution::of(&self.initializer, d_input, d_output)?.sparse(blocks as f64);
        Ok(BlockDiagonalLinear {
            w: entries.init([blocks, d_output / blocks, d_input / blocks], device),
            bias: dense_bias(self.bias, &self.initializer, [d_input, d_output], device),
        })
    }

    /// The number of blocks that the configuration comes to.
    ///
    /// # Errors
    ///
    /// As [`try_init`](Self::try_init).
    pub fn resolve(&self) -> Result<usize, StructureError> {
        let (d_input, d_output) = (self.d_input, self.d_output);
        check_dimensions(d_input, d_output)?;
        match self.blocks {
            BlockCount::Fixed(blocks) => {
                Blocks::Square(blocks).resolve(d_input, d_output)?;
                Ok(blocks)
            }
            BlockCount::Ratio(ratio) if !(ratio > 0.0 && ratio <= 1.0) => {
                Err(StructureError::RatioOutOfRange { ratio })
            }
            BlockCount::Ratio(ratio) => divisors(d_input.min(d_output))
                .into_iter()
                .find(|blocks| d_input.max(d_output).is_multiple_of(*blocks) && 1.0 / *blocks as f64 <= ratio)
                .ok_or(StructureError::NoBlockCount { ratio, d_output, d_input }),
        }
    }
}

impl BlockDiagonalLinear {
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
        let d_input = self.d_input();
        assert_shape!(input, [.., d_input]);
        block_diagonal_linear(input, self.w.val(), own_bias(epilogue, &self.bias), Orders::default())
    }

    /// The dense weight `[d_output, d_input]` that this layer multiplies by.
    pub fn to_dense(&self) -> Tensor<2> {
        block_diagonal_to_dense(self.w.val(), Orders::default())
    }

    /// Parameters, FLOPs and bytes, beside those of the dense layer.
    pub fn cost(&self) -> Cost {
        let weights = self.w.shape().num_elements();
        Cost::of_weights(weights, self.d_input(), self.d_output(), self.bias.is_some(), self.w.val().dtype().size())
    }

    /// The factors, each with the learning rate that suits it.
    pub fn factors(&self) -> Vec<Factor> {
        let d_input = self.d_input();
        vec![Factor::new("w", &self.w, d_input, d_input / self.blocks())]
    }

    /// The size of the input features.
    pub fn d_input(&self) -> usize {
        let [blocks, _, q] = self.w.shape().dims();
        blocks * q
    }

    /// The size of the output features.
    pub fn d_output(&self) -> usize {
        let [blocks, p, _] = self.w.shape().dims();
        blocks * p
    }

    /// The number of blocks.
    pub fn blocks(&self) -> usize {
        self.w.shape()[0]
    }
}

layer_display!(BlockDiagonalLinear, layer => { "blocks": layer.blocks() });

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_the_fewest_blocks_that_fit() {
        let blocks =
            |ratio: f64| BlockDiagonalLinearConfig::new(12, 18).with_blocks(BlockCount::Ratio(ratio)).resolve();
        assert_eq!([blocks(1.0), blocks(0.5), blocks(0.4), blocks(0.2)], [Ok(1), Ok(2), Ok(3), Ok(6)]);
        assert_eq!(blocks(0.1), Err(StructureError::NoBlockCount { ratio: 0.1, d_output: 18, d_input: 12 }));
        assert_eq!(blocks(0.0), Err(StructureError::RatioOutOfRange { ratio: 0.0 }));
    }

    #[test]
    fn what_is_left_of_a_dense_weight_is_its_diagonal() {
        let device = Device::flex();
        let weight = Tensor::<2>::ones([4, 6], &device);
        let config = BlockDiagonalLinearConfig::new(6, 4).with_blocks(BlockCount::Fixed(2));
        let approximation = config.from_dense(weight, None).unwrap();
        assert!((approximation.relative_error - 0.5f64.sqrt()).abs() < 1e-6);
        let row: Vec<f32> = approximation.layer.to_dense().slice([0..1, 0..6]).into_data().iter().collect();
        assert_eq!(row, [1.0, 1.0, 1.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn blocks_have_to_divide_both_sides() {
        let config = BlockDiagonalLinearConfig::new(6, 4).with_blocks(BlockCount::Fixed(3));
        let error = config.try_init(&Device::flex()).unwrap_err();
        assert!(matches!(error, StructureError::Indivisible { name: "d_output", .. }), "{error}");
    }
}
