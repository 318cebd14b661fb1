//! The Pixelfly layer: a few blocks of each row, chosen like the strokes of a butterfly, and a low-rank rest.

use crate::dense::own_bias;
use crate::display::layer_display;
use crate::error::check_dimensions;
use crate::initializer::{FactorInitializers, TargetDistribution, dense_bias, dense_default};
use crate::rank::RankBudget;
use crate::{Blocks, Cost, Factor, Rank, StructureError};
use burn::config::Config;
use burn::module::{Module, Param};
use burn::nn::Initializer;
use burn::tensor::{Device, Tensor, assert_shape};
use burn_structured_ops::Epilogue;
use burn_structured_ops::pixelfly::{pixelfly_linear, pixelfly_to_dense};

/// Configuration to create a [`PixelflyLinear`] layer using the [init function](PixelflyLinearConfig::init).
#[derive(Config, Debug)]
pub struct PixelflyLinearConfig {
    /// The size of the input features.
    pub d_input: usize,
    /// The size of the output features.
    pub d_output: usize,
    /// Into how many blocks each side is cut.
    #[config(default = 16)]
    pub blocks: usize,
    /// The maximum stride of the butterfly, a power of two that divides the blocks: each row keeps `1 + log₂ stride` of them.
    #[config(default = 4)]
    pub stride: usize,
    /// The rank of the low-rank part, or the share of the dense parameters to spend on it and the blocks together.
    #[config(default = "Rank::Ratio(0.5)")]
    pub rank: Rank,
    /// If a bias should be applied during the linear transformation.
    #[config(default = true)]
    pub bias: bool,
    /// The dense initializer to imitate: the factors are drawn so that the output has the variance it gives.
    #[config(default = "dense_default()")]
    pub initializer: Initializer,
}

/// Applies a linear transformation whose weight is a flat block-butterfly matrix plus a low-rank one: `O = I (S + U Vᵀ)ᵀ + b`.
///
/// Of the `b × b` blocks of `S`, those at `(i, i)` and `(i, i xor 2^l)` with `2^l` below the stride are not zero (Dao et al.,
/// *Pixelated Butterfly*, ICLR 2022). With `L = 1 + log₂ stride` of them in a row it has
/// `L d_output d_input / b + r (d_output + d_input)` weights and as many multiplications a token.
///
/// Should be created with [`PixelflyLinearConfig`].
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct PixelflyLinear {
    /// The blocks of each row side by side, `[b, d_output / b, L d_input / b]`.
    pub w: Param<Tensor<3>>,
    /// Input factor of the low-rank part, `V [d_input, r]`.
    pub v: Param<Tensor<2>>,
    /// Output factor of the low-rank part, transposed: `Uᵀ [r, d_output]`.
    pub ut: Param<Tensor<2>>,
    /// Vector of size `d_output`.
    pub bias: Option<Param<Tensor<1>>>,
}

impl PixelflyLinearConfig {
    /// Initialize a new [`PixelflyLinear`] module.
    ///
    /// # Panics
    ///
    /// Where [`try_init`](Self::try_init) returns an error.
    pub fn init(&self, device: &Device) -> PixelflyLinear {
        self.try_init(device).unwrap_or_else(|error| panic!("PixelflyLinear: {error}"))
    }

    /// Initialize a new [`PixelflyLinear`] module: the blocks and the low-rank part contribute half of the output's variance
    /// each.
    ///
    /// # Errors
    ///
    /// If a dimension is zero or does not split into the blocks, if the stride is no power of two that divides
    /// them, if the rank is zero or above `min(d_input, d_output)`, if the ratio is outside `(0, 1]` or leaves no room for
    /// rank 1 beside the blocks, or if the initializer has a mean.
    pub fn try_init(&self, device: &Device) -> Result<PixelflyLinear, StructureError> {
        let (d_input, d_output, blocks) = (self.d_input, self.d_output, self.blocks);
        let (levels, rank) = self.resolve()?;
        let entries = TargetDistribution::of(&self.initializer, d_input, d_output)?;
        let (w, factors) = match entries {
            TargetDistribution::Variance(variance) => {
                let kept = levels as f64 / blocks as f64;
                (entries.sparse(0.5 / kept), FactorInitializers::with_variance(0.5 * variance, rank as f64))
            }
            // The low-rank part alone can be constant, or start from zero with a gradient.
            _ => (Initializer::Zeros, FactorInitializers::imitating(&self.initializer, d_input, d_output, rank)?),
        };
        Ok(PixelflyLinear {
            w: w.init([blocks, d_output / blocks, levels * d_input / blocks], device),
            v: factors.v.init([d_input, rank], device),
            ut: factors.u.init([rank, d_output], device),
            bias: dense_bias(self.bias, &self.initializer, [d_input, d_output], device),
        })
    }

    /// The blocks of a row, `1 + log₂ stride`, and the rank that the configuration comes to.
    ///
    /// # Errors
    ///
    /// As [`try_init`](Self::try_init).
    pub fn resolve(&self) -> Result<(usize, usize), StructureError> {
        let (d_input, d_output, blocks, stride) = (self.d_input, self.d_output, self.blocks, self.stride);
        check_dimensions(d_input, d_output)?;
        Blocks::Square(blocks).resolve(d_input, d_output)?;
        if !stride.is_power_of_two() || !blocks.is_multiple_of(stride) {
            let fitting = (0..usize::BITS - 1).map(|bit| 1 << bit).take_while(|power| *power <= blocks);
            let fitting = fitting.filter(|power| blocks.is_multiple_of(*power)).collect();
            return Err(StructureError::Stride { stride, blocks, fitting });
        }
        let levels = 1 + stride.ilog2() as usize;
        let rank = self.rank.resolve(RankBudget {
            d_input,
            d_output,
            fixed: levels * (d_output / blocks) * d_input,
            params_per_rank: d_input + d_output,
            hint: ", a smaller stride or more blocks",
            max: d_input.min(d_output),
        })?;
        Ok((levels, rank))
    }
}

impl PixelflyLinear {
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
        pixelfly_linear(input, self.w.val(), self.v.val(), self.ut.val(), own_bias(epilogue, &self.bias))
    }

    /// The dense weight `[d_output, d_input]` that this layer multiplies by.
    pub fn to_dense(&self) -> Tensor<2> {
        pixelfly_to_dense(self.w.val(), self.v.val(), self.ut.val())
    }

    /// Parameters, FLOPs and bytes, beside those of the dense layer.
    pub fn cost(&self) -> Cost {
        let (d_input, d_output) = (self.d_input(), self.d_output());
        let weights = self.w.shape().num_elements() + self.rank() * (d_input + d_output);
        Cost::of_weights(weights, d_input, d_output, self.bias.is_some(), self.w.val().dtype().size())
    }

    /// The factors, each with the learning rate that suits it.
    pub fn factors(&self) -> Vec<Factor> {
        let d_input = self.d_input();
        vec![
            Factor::new("w", &self.w, d_input, self.w.shape()[2]),
            Factor::new("v", &self.v, d_input, d_input),
            Factor::new("ut", &self.ut, d_input, self.rank()),
        ]
    }

    /// The size of the input features.
    pub fn d_input(&self) -> usize {
        self.v.shape()[0]
    }

    /// The size of the output features.
    pub fn d_output(&self) -> usize {
        self.ut.shape()[1]
    }

    /// Into how many blocks each side is cut.
    pub fn blocks(&self) -> usize {
        self.w.shape()[0]
    }

    /// The maximum stride of the butterfly.
    pub fn stride(&self) -> usize {
        let [blocks, _, width] = self.w.shape().dims();
        1 << (width * blocks / self.d_input() - 1)
    }

    /// The rank of the low-rank part.
    pub fn rank(&self) -> usize {
        self.v.shape()[1]
    }
}

layer_display!(PixelflyLinear, layer => { "blocks": layer.blocks(), "stride": layer.stride(), "rank": layer.rank() });

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parameter::parameter;
    use burn::tensor::Distribution;

    fn config() -> PixelflyLinearConfig {
        PixelflyLinearConfig::new(16, 24).with_blocks(8).with_stride(4).with_rank(Rank::Fixed(2))
    }

    #[test]
    fn the_blocks_of_a_row_are_those_a_butterfly_connects() {
        let layer = config().with_initializer(Initializer::Zeros).init(&Device::flex());
        let w = parameter(layer.w.val().ones_like());
        let row: Vec<f32> =
            PixelflyLinear { w, ..layer }.to_dense().slice([15..16, 0..16]).into_data().iter().collect();
        // Row 15 lies in block 5, which a butterfly connects with blocks 5, 5 xor 1 = 4 and 5 xor 2 = 7.
        let expected: Vec<f32> = (0..16).map(|column| f32::from([4, 5, 7].contains(&(column / 2)))).collect();
        assert_eq!(row, expected);
    }

    #[test]
    fn sums_of_both_parts_are_approximated_by_both() {
        let device = Device::flex();
        device.seed(5);
        let weight = config().init(&device).to_dense();
        let alone = config().from_dense(weight.clone(), None).unwrap();
        assert!(alone.relative_error < 0.05, "{}", alone.relative_error);
        assert_eq!((alone.layer.stride(), alone.layer.rank()), (4, 2));
        // Each part by itself is found exactly.
        let low_rank = Tensor::<2>::random([24, 2], Distribution::Normal(0.0, 1.0), &device).matmul(Tensor::random(
            [2, 16],
            Distribution::Normal(0.0, 1.0),
            &device,
        ));
        assert!(config().from_dense(low_rank, None).unwrap().relative_error < 1e-6);
        let blocks = PixelflyLinear { ut: parameter(Tensor::zeros([2, 24], &device)), ..config().init(&device) };
        assert!(config().from_dense(blocks.to_dense(), None).unwrap().relative_error < 1e-6);
    }

    #[test]
    fn the_rank_gets_what_the_blocks_leave() {
        // 3 blocks of 8 in a row are 144 weights; half of 384 leaves 48, which is rank 1 of 40 weights.
        assert_eq!(config().with_rank(Rank::Ratio(0.5)).resolve(), Ok((3, 1)));
        let error = config().with_rank(Rank::Ratio(0.4)).resolve().unwrap_err();
        assert!(matches!(error, StructureError::RatioTooSmall { .. }), "{error}");
    }

    #[test]
    fn strides_have_to_fit() {
        let message = config().with_stride(3).try_init(&Device::flex()).unwrap_err().to_string();
        assert_eq!(message, "stride 3 is no power of two that divides the 8 blocks; use 1, 2, 4, 8");
        assert!(config().with_stride(0).try_init(&Device::flex()).is_err());
        assert!(config().with_blocks(0).try_init(&Device::flex()).is_err());
    }
}
