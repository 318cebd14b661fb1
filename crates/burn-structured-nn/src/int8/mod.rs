//! Layers with int8 weights: what a trained layer becomes for inference.
//!
//! Every structure whose products are of dense blocks has an int8 form. Its factors are `[groups, outputs, inputs]` integers, `values`, with
//! a scale for each output, `scales`; in a file, those of a BLAST layer are `weight.u.values`, `weight.u.scales`, `weight.v.values`, ….

mod weights;

pub use weights::Int8Weights;

use crate::dense::own_bias;
use crate::display::layer_display;
use crate::ss1::SavedFunction;
use crate::{BlockCount, Blocks, Cost, Factor, Rank, Structure, StructureError, StructuredLinear};
use burn::module::{Module, Param};
use burn::tensor::{Tensor, assert_shape};
use burn_structured_ops::Epilogue;
use burn_structured_ops::block_diagonal::Order;
use burn_structured_ops::int8::{Int8Matrix, int8_linear};

/// A linear layer of int8 weights, executed on integers: `y[t] = x_scale[t] (W_q x_q[t]) ∘ w_scale + b` for each factor.
///
/// Weights are quantized symmetrically with a scale for each output, inputs for each token as they come; see
/// [`burn_structured_ops::int8`]. Created by [`StructuredLinear::quantize`].
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct Int8Linear {
    /// The factors.
    pub weight: Int8Factors,
    /// Vector of size `d_output`.
    pub bias: Option<Param<Tensor<1>>>,
}

/// The factors of an [`Int8Linear`], by the structure that they are of.
#[derive(Module, Debug)]
#[non_exhaustive]
#[allow(clippy::large_enum_variant, reason = "Burn's modules take no boxes, and a model has few layers")]
pub enum Int8Factors {
    /// A dense matrix, `[1, d_output, d_input]`.
    Dense(Int8Weights),
    /// Blocks `[b, d_output / b, d_input / b]` on the diagonal.
    BlockDiagonal(Int8Weights),
    /// Two factors of low rank.
    LowRank(Int8TwoFactors),
    /// Monarch.
    Monarch(Int8TwoFactors),
    /// Block tensor-train.
    Btt(Int8TwoFactors),
    /// BLAST.
    Blast(Int8Blast),
    /// SS1.
    Ss1(Int8Ss1),
}

/// The factors of a low-rank, Monarch or block tensor-train layer.
#[derive(Module, Debug)]
pub struct Int8TwoFactors {
    /// `[b2, q, d_input / b2]`; of low rank `[1, r, d_input]`.
    pub right: Int8Weights,
    /// `[b1, d_output / b1, p]`; of low rank `[1, d_output, r]`.
    pub left: Int8Weights,
}

/// The factors of a BLAST layer.
#[derive(Module, Debug)]
pub struct Int8Blast {
    /// Output factors `[b1, d_output / b1, r]`.
    pub u: Int8Weights,
    /// Couplings `[b1, b2, r]`, which stay floats.
    pub s: Param<Tensor<3>>,
    /// Input factors, transposed: `[b2, r, d_input / b2]`.
    pub v: Int8Weights,
}

/// The stored weights of an SS1 layer.
#[derive(Module, Debug)]
pub struct Int8Ss1 {
    /// `[1, d_output, w]`.
    pub z: Int8Weights,
    /// The [hash](crate::Ss1Hash) and the block sizes.
    hash: SavedFunction,
}

impl StructuredLinear {
    /// This layer with int8 weights, each the nearest to the float that it was; the biases and BLAST's couplings stay floats.
    ///
    /// It takes a quarter of the memory of an f32 layer, and computes on the processor's instructions for int8 on Flex. Its integers are
    /// fixed: quantize what has been trained. A layer that has int8 weights already is returned as it is.
    ///
    /// # Errors
    ///
    /// If the structure has no int8 form, which Pixelfly, Gaudi-GBLR and Kronecker layers have not.
    ///
    /// # Example
    ///
    /// ```
    /// use burn::tensor::{Device, Distribution, Tensor};
    /// use burn_structured_nn::StructuredLinearConfig;
    ///
    /// let device = Device::flex();
    /// let layer = StructuredLinearConfig::new(64, 128, "blast:b=4,ratio=0.5".parse()?).init(&device);
    /// let small = layer.clone().quantize()?;
    /// let x = Tensor::<2>::random([3, 64], Distribution::Normal(0.0, 1.0), &device);
    /// let (exact, found) = (layer.forward(x.clone()), small.forward(x));
    /// let error = ((found - exact.clone()).square().mean() / exact.square().mean()).sqrt();
    /// assert!(error.into_scalar::<f32>() < 0.03);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn quantize(self) -> Result<Self, StructureError> {
        self.to_int8(Int8Weights::quantize)
    }

    /// An int8 layer of the same structure, sizes and bias, whose integers are 0, for a checkpoint to be loaded into. Draws no
    /// initial value.
    ///
    /// # Errors
    ///
    /// As [`quantize`](Self::quantize).
    #[doc(hidden)]
    pub fn int8_zeros(self) -> Result<Self, StructureError> {
        self.to_int8(|_, shape, device| Int8Weights::zeros(shape, device))
    }

    /// Whether the weights are int8.
    pub fn is_int8(&self) -> bool {
        matches!(self, Self::Int8(_))
    }

    /// `convert` makes the weights of a factor, given the factor `[groups, outputs, inputs]`, if it is looked at, and its shape.
    fn to_int8(
        self,
        convert: impl Fn(&dyn Fn() -> Tensor<3>, [usize; 3], &burn::tensor::Device) -> Int8Weights,
    ) -> Result<Self, StructureError> {
        let three =
            |factor: &Param<Tensor<3>>| convert(&|| factor.val(), factor.lazy_shape().dims(), &factor.lazy_device());
        // `[inputs, outputs]` of one group, as Burn stores dense weights.
        let two = |factor: &Param<Tensor<2>>| {
            let [inputs, outputs] = factor.lazy_shape().dims();
            convert(&|| factor.val().transpose().unsqueeze(), [1, outputs, inputs], &factor.lazy_device())
        };
        let (factors, bias) = match self {
            Self::Dense(layer) => (Int8Factors::Dense(two(&layer.weight)), layer.bias),
            Self::BlockDiagonal(layer) => (Int8Factors::BlockDiagonal(three(&layer.w)), layer.bias),
            Self::LowRank(layer) => {
                let factors = Int8TwoFactors { right: two(&layer.v), left: two(&layer.ut) };
                (Int8Factors::LowRank(factors), layer.bias)
            }
            Self::Monarch(layer) => {
                let factors = Int8TwoFactors { right: three(&layer.right), left: three(&layer.left) };
                (Int8Factors::Monarch(factors), layer.bias)
            }
            Self::Btt(layer) => {
                let factors = Int8TwoFactors { right: three(&layer.right), left: three(&layer.left) };
                (Int8Factors::Btt(factors), layer.bias)
            }
            Self::Blast(layer) => {
                let [b2, q, r] = layer.v.lazy_shape().dims();
                let v = convert(&|| layer.v.val().swap_dims(1, 2), [b2, r, q], &layer.v.lazy_device());
                (Int8Factors::Blast(Int8Blast { u: three(&layer.u), s: layer.s, v }), layer.bias)
            }
            Self::Ss1(layer) => {
                let (z, bias, hash) = layer.into_parts();
                (Int8Factors::Ss1(Int8Ss1 { z: two(&z), hash }), bias)
            }
            Self::Int8(layer) => return Ok(Self::Int8(layer)),
            Self::Pixelfly(_) => return Err(StructureError::NoInt8 { structure: "pixelfly" }),
            Self::Gaudi(_) | Self::Windowed(_) => return Err(StructureError::NoInt8 { structure: "gaudi" }),
            Self::Kronecker(_) => return Err(StructureError::NoInt8 { structure: "kronecker" }),
        };
        Ok(Self::Int8(Int8Linear { weight: factors, bias }))
    }
}

impl Int8Linear {
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
        int8_linear(input, &self.matrix(), own_bias(epilogue, &self.bias))
    }

    /// The dense weight `[d_output, d_input]` that this layer multiplies by, in f32.
    pub fn to_dense(&self) -> Tensor<2> {
        self.matrix().to_dense()
    }

    /// Parameters, FLOPs and bytes, beside those of the dense layer in f32. Scales count as parameters.
    pub fn cost(&self) -> Cost {
        let weights = self.weight.weights();
        let integers: usize = weights.iter().map(|weights| weights.values.lazy_shape().num_elements()).sum();
        let scales: usize = weights.iter().map(|weights| weights.scales.lazy_shape().num_elements()).sum();
        let couplings = match &self.weight {
            Int8Factors::Blast(factors) => factors.s.lazy_shape().num_elements(),
            _ => 0,
        };
        let (d_input, d_output) = (self.d_input(), self.d_output());
        let cost = Cost::of_weights(integers + couplings, d_input, d_output, self.bias.is_some(), 1);
        let bias = cost.params - integers - couplings;
        let bytes_per_token = integers + 4 * (scales + couplings + bias + d_input + d_output);
        Cost { params: cost.params + scales, bytes_per_token, ..cost }
    }

    /// Nothing that suits a learning rate of its own: the integers are fixed.
    pub fn factors(&self) -> Vec<Factor> {
        Vec::new()
    }

    /// The size of the input features.
    pub fn d_input(&self) -> usize {
        match &self.weight {
            Int8Factors::Dense(weights) | Int8Factors::BlockDiagonal(weights) => weights.d_input(),
            Int8Factors::LowRank(factors) | Int8Factors::Monarch(factors) | Int8Factors::Btt(factors) => {
                factors.right.d_input()
            }
            Int8Factors::Blast(factors) => factors.v.d_input(),
            Int8Factors::Ss1(factors) => {
                let [_, d_output, width] = factors.z.shape();
                factors.hash.get(width, d_output).d_input
            }
        }
    }

    /// The size of the output features.
    pub fn d_output(&self) -> usize {
        match &self.weight {
            Int8Factors::Dense(weights) | Int8Factors::BlockDiagonal(weights) => weights.d_output(),
            Int8Factors::LowRank(factors) | Int8Factors::Monarch(factors) | Int8Factors::Btt(factors) => {
                factors.left.d_output()
            }
            Int8Factors::Blast(factors) => factors.u.d_output(),
            Int8Factors::Ss1(factors) => factors.z.d_output(),
        }
    }

    /// The structure of the weights, which does not say that they are int8; `None` if a loaded hash does not fit them.
    pub(crate) fn structure(&self) -> Option<Structure> {
        let grid = |factors: &Int8TwoFactors| {
            let ([b1, ..], [b2, q, _]) = (factors.left.shape(), factors.right.shape());
            (Blocks::Grid { output: b1, input: b2 }, Rank::Fixed(q / b1))
        };
        Some(match &self.weight {
            Int8Factors::Dense(_) => Structure::Dense,
            Int8Factors::BlockDiagonal(weights) => {
                Structure::BlockDiagonal { blocks: BlockCount::Fixed(weights.shape()[0]) }
            }
            Int8Factors::LowRank(factors) => Structure::LowRank { rank: Rank::Fixed(factors.right.shape()[1]) },
            Int8Factors::Monarch(factors) => {
                let (blocks, rank) = grid(factors);
                Structure::Monarch { blocks, rank }
            }
            Int8Factors::Btt(factors) => {
                let (blocks, rank) = grid(factors);
                Structure::Btt { blocks, rank }
            }
            Int8Factors::Blast(factors) => {
                let [b1, b2, r] = factors.s.lazy_shape().dims();
                Structure::Blast { blocks: Blocks::Grid { output: b1, input: b2 }, rank: Rank::Fixed(r) }
            }
            Int8Factors::Ss1(factors) => {
                let [_, d_output, width] = factors.z.shape();
                return factors.hash.structure(width, d_output);
            }
        })
    }

    fn matrix(&self) -> Int8Matrix {
        let two = |factors: &Int8TwoFactors, output| Int8Matrix::Monarch {
            r: factors.right.factor(),
            l: factors.left.factor(),
            output,
        };
        match &self.weight {
            Int8Factors::Dense(weights) | Int8Factors::BlockDiagonal(weights) => {
                Int8Matrix::BlockDiagonal { w: weights.factor() }
            }
            Int8Factors::Monarch(factors) => two(factors, Order::Strided),
            Int8Factors::LowRank(factors) | Int8Factors::Btt(factors) => two(factors, Order::Grouped),
            Int8Factors::Blast(factors) => {
                Int8Matrix::Blast { u: factors.u.factor(), s: factors.s.val(), v: factors.v.factor() }
            }
            Int8Factors::Ss1(factors) => {
                let [_, d_output, width] = factors.z.shape();
                let fold = factors.hash.get(width, d_output).fold(d_output);
                Int8Matrix::Ss1 { z: factors.z.factor(), fold }
            }
        }
    }
}

impl Int8Factors {
    /// All integers with their scales.
    fn weights(&self) -> Vec<&Int8Weights> {
        match self {
            Self::Dense(weights) | Self::BlockDiagonal(weights) => vec![weights],
            Self::LowRank(factors) | Self::Monarch(factors) | Self::Btt(factors) => vec![&factors.right, &factors.left],
            Self::Blast(factors) => vec![&factors.u, &factors.v],
            Self::Ss1(factors) => vec![&factors.z],
        }
    }
}

layer_display!(Int8Linear, layer => {
    "structure": layer.structure().map_or_else(|| "ss1".into(), |structure| structure.to_string())
});

#[cfg(test)]
mod tests {
    use super::*;
    use crate::StructuredLinearConfig;
    use burn::tensor::{Device, Distribution, Tensor};

    const TEXTS: [&str; 9] = [
        "dense",
        "block-diagonal:b=4",
        "low-rank:r=5",
        "monarch:b=2x4,r=2",
        "btt:b=4x2,r=1",
        "blast:b=2x4,r=5",
        "ss1:c=2,k=4,n=8",
        "ss1:c=2,k=3,n=7,hash=independent",
        "blast",
    ];

    fn layer(text: &str) -> StructuredLinear {
        let device = Device::flex();
        device.seed(3);
        StructuredLinearConfig::new(16, 24, text.parse().unwrap()).init(&device)
    }

    #[test]
    fn quantize_keeps_structure_sizes_and_nearly_the_weight() {
        for text in TEXTS {
            let exact = layer(text);
            let small = exact.clone().quantize().unwrap();
            assert!(small.is_int8() && !exact.is_int8());
            assert_eq!(small.structure(), exact.structure(), "{text}");
            assert_eq!((small.d_input(), small.d_output()), (16, 24), "{text}");
            let weight = exact.to_dense();
            let error = ((small.to_dense() - weight.clone()).square().sum() / weight.square().sum()).sqrt();
            let error = error.into_scalar::<f32>();
            assert!(error > 0.0 && error < 0.02, "{text}: {error}");
            let x = Tensor::<3>::random([2, 9, 16], Distribution::Normal(0.0, 1.0), &Device::flex());
            let (y, exact) = (small.forward(x.clone()), exact.forward(x));
            let error = ((y - exact.clone()).square().sum() / exact.square().sum()).sqrt().into_scalar::<f32>();
            assert!(error < 0.03, "{text}: {error}");
        }
    }

    #[test]
    fn cost_counts_bytes_of_integers() {
        let (exact, small) = (layer("dense").cost(), layer("dense").quantize().unwrap().cost());
        assert_eq!(small.flops_per_token, exact.flops_per_token);
        assert_eq!(small.params, exact.params + 24);
        assert_eq!(small.bytes_per_token, 16 * 24 + 4 * (24 + 24 + 16 + 24));
        // Integers of both factors, their scales, couplings and bias.
        let blast = layer("blast:b=2x4,r=5").quantize().unwrap().cost();
        assert_eq!(blast.params, 5 * (16 + 24) + (24 + 4 * 5) + 2 * 4 * 5 + 24);
    }

    #[test]
    fn quantize_twice_changes_nothing_and_other_structures_are_named() {
        let small = layer("monarch").quantize().unwrap();
        assert_eq!(small.clone().quantize().unwrap().to_dense().into_data(), small.to_dense().into_data());
        for name in ["pixelfly:b=4,stride=2,r=2", "gaudi", "kronecker"] {
            let error = layer(name).quantize().unwrap_err();
            assert!(error.to_string().contains("has no int8 form"), "{error}");
        }
    }

    #[test]
    fn int8_zeros_have_the_shapes_of_quantized_weights() {
        for text in TEXTS {
            let (zeros, small) = (layer(text).int8_zeros().unwrap(), layer(text).quantize().unwrap());
            assert_eq!(zeros.structure(), small.structure(), "{text}");
            assert_eq!(zeros.num_params(), small.num_params(), "{text}");
            assert_eq!(zeros.to_dense().abs().sum().into_scalar::<f32>(), 0.0, "{text}");
        }
    }

    #[test]
    fn display() {
        let small = layer("low-rank:r=5").quantize().unwrap();
        let text = format!("{small}");
        assert!(text.contains("Int8Linear {d_input: 16, d_output: 24, structure: low-rank:r=5, bias: true"), "{text}");
    }
}
