//! Layers with int8 weights: what a trained layer becomes for inference.
//!
//! Every structure whose products are of dense blocks has an int8 form. Its factors keep their names; they are `[groups, outputs, inputs]`
//! integers, and each has a scale for every output: `u` and `u_scale`.

mod layers;

pub use layers::{Int8BlastLinear, Int8BlockLinear, Int8Ss1Linear, Int8TwoFactorLinear};

use crate::dense::own_bias;
use crate::parameter::parameter;
use crate::{BlockCount, Blocks, Cost, Factor, Rank, Structure, StructureError, StructuredLinear};
use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, assert_shape};
use burn_structured_ops::Epilogue;
use burn_structured_ops::block_diagonal::Order;
use burn_structured_ops::int8::{Int8Matrix, MAX_INPUTS, int8_linear};
use layers::{Scales, Values, quantized, zeros};

/// A linear layer of int8 weights, executed on integers: `y[t] = x_scale[t] (W_q x_q[t]) ∘ w_scale + b` for each factor.
///
/// Weights are quantized symmetrically with a scale for each output, inputs for each token as they come; see
/// [`burn_structured_ops::int8`]. Created by [`StructuredLinear::quantize`].
#[derive(Module, Debug)]
#[non_exhaustive]
#[allow(clippy::large_enum_variant, reason = "Burn's modules take no boxes, and a model has few layers")]
pub enum Int8Linear {
    /// A dense layer, which is one block.
    Dense(Int8BlockLinear),
    /// A block-diagonal layer.
    BlockDiagonal(Int8BlockLinear),
    /// A low-rank layer.
    LowRank(Int8TwoFactorLinear),
    /// A Monarch layer.
    Monarch(Int8TwoFactorLinear),
    /// A block tensor-train layer.
    Btt(Int8TwoFactorLinear),
    /// A BLAST layer.
    Blast(Int8BlastLinear),
    /// An SS1 layer.
    Ss1(Int8Ss1Linear),
}

/// Gives all `layers`, those of a model for instance, int8 weights, or none of them; see [`StructuredLinear::quantize`].
///
/// # Errors
///
/// If the structure of one has no int8 form.
pub fn quantize<'a>(layers: impl IntoIterator<Item = &'a mut StructuredLinear>) -> Result<(), StructureError> {
    let layers: Vec<&mut StructuredLinear> = layers.into_iter().collect();
    let small = layers.iter().map(|layer| (**layer).clone().quantize()).collect::<Result<Vec<_>, _>>()?;
    for (layer, small) in layers.into_iter().zip(small) {
        *layer = small;
    }
    Ok(())
}

impl StructuredLinear {
    /// This layer with int8 weights, each the nearest to the float that it was; the biases and BLAST's couplings stay floats.
    ///
    /// It takes a quarter of the memory of an f32 layer, and computes on the processor's instructions for int8 on Flex. Its integers are
    /// fixed: quantize what has been trained. A layer that has int8 weights already is returned as it is.
    ///
    /// # Errors
    ///
    /// If the structure has no int8 form, which Pixelfly, Gaudi-GBLR and Kronecker layers have not, or a sum is longer than 65,536 inputs.
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
        self.balanced().into_int8(|factor, _, _| quantized(factor()))
    }

    /// An int8 layer of the same structure, sizes and bias, whose integers are 0, for a checkpoint to be loaded into. Draws no
    /// initial value.
    ///
    /// # Errors
    ///
    /// As [`quantize`](Self::quantize).
    #[doc(hidden)]
    pub fn int8_zeros(self) -> Result<Self, StructureError> {
        self.into_int8(|_, shape, device| zeros(shape, device))
    }

    /// Whether the weights are int8.
    pub fn is_int8(&self) -> bool {
        matches!(self, Self::Int8(_))
    }

    /// The same layer with the freedom that BLAST's factors leave used for rounding: column `k` of `U_i` may be multiplied by any number if
    /// `s_ijk` is divided by it. With inputs of equal variance the two operands of the last product then have columns of equal norm,
    /// so that no column decides the scale of either alone.
    fn balanced(self) -> Self {
        let Self::Blast(mut layer) = self else { return self };
        let (u, s, v) = (layer.u.val().detach(), layer.s.val().detach(), layer.v.val().detach());
        let [b2, _, r] = v.dims();
        let features = (s.clone().square() * v.square().sum_dim(1).reshape([1, b2, r])).sum_dim(1);
        let columns = u.clone().square().sum_dim(1);
        let (features, columns) = (features.sqrt(), columns.sqrt());
        let zero = features.clone().equal_elem(0.0).bool_or(columns.clone().equal_elem(0.0));
        let factor = (features / columns).sqrt().mask_fill(zero, 1.0);
        layer.u = parameter(u * factor.clone());
        layer.s = parameter(s / factor);
        Self::Blast(layer)
    }

    /// `convert` makes integers and scales of a factor `[groups, outputs, inputs]`, of its shape, and of its device.
    fn into_int8(
        self,
        convert: impl Fn(&dyn Fn() -> Tensor<3>, [usize; 3], &Device) -> (Values, Scales),
    ) -> Result<Self, StructureError> {
        let convert = |factor: &dyn Fn() -> Tensor<3>, shape: [usize; 3], device: &Device| match shape[2] {
            inputs if inputs > MAX_INPUTS => Err(StructureError::TooDeepForInt8 { inputs, limit: MAX_INPUTS }),
            _ => Ok(convert(factor, shape, device)),
        };
        let three =
            |factor: &Param<Tensor<3>>| convert(&|| factor.val(), factor.lazy_shape().dims(), &factor.lazy_device());
        // `[inputs, outputs]` of one group, as Burn stores dense weights.
        let two = |factor: &Param<Tensor<2>>| {
            let [inputs, outputs] = factor.lazy_shape().dims();
            convert(&|| factor.val().transpose().unsqueeze(), [1, outputs, inputs], &factor.lazy_device())
        };
        let block = |(w, w_scale), bias| Int8BlockLinear { w, w_scale, bias };
        let two_factor = |(right, right_scale), (left, left_scale), bias| Int8TwoFactorLinear {
            right,
            right_scale,
            left,
            left_scale,
            bias,
        };
        Ok(Self::Int8(match self {
            Self::Dense(layer) => Int8Linear::Dense(block(two(&layer.weight)?, layer.bias)),
            Self::BlockDiagonal(layer) => Int8Linear::BlockDiagonal(block(three(&layer.w)?, layer.bias)),
            Self::LowRank(layer) => Int8Linear::LowRank(two_factor(two(&layer.v)?, two(&layer.ut)?, layer.bias)),
            Self::Monarch(layer) => {
                Int8Linear::Monarch(two_factor(three(&layer.right)?, three(&layer.left)?, layer.bias))
            }
            Self::Btt(layer) => Int8Linear::Btt(two_factor(three(&layer.right)?, three(&layer.left)?, layer.bias)),
            Self::Blast(layer) => {
                let [b2, q, r] = layer.v.lazy_shape().dims();
                let (v, v_scale) = convert(&|| layer.v.val().swap_dims(1, 2), [b2, r, q], &layer.v.lazy_device())?;
                let (u, u_scale) = three(&layer.u)?;
                Int8Linear::Blast(Int8BlastLinear { u, u_scale, s: layer.s, v, v_scale, bias: layer.bias })
            }
            Self::Ss1(layer) => {
                let (stored, bias, hash) = layer.into_parts();
                let (z, z_scale) = two(&stored)?;
                Int8Linear::Ss1(Int8Ss1Linear { z, z_scale, bias, hash })
            }
            Self::Int8(layer) => layer,
            Self::Pixelfly(_) => return Err(StructureError::NoInt8 { structure: "pixelfly" }),
            Self::Gaudi(_) | Self::Windowed(_) => return Err(StructureError::NoInt8 { structure: "gaudi" }),
            Self::Kronecker(_) => return Err(StructureError::NoInt8 { structure: "kronecker" }),
        }))
    }
}

/// Runs `$body` with `$layer` bound to the layer within.
macro_rules! each {
    ($self:expr, $layer:ident => $body:expr) => {
        match $self {
            Int8Linear::Dense($layer) | Int8Linear::BlockDiagonal($layer) => $body,
            Int8Linear::LowRank($layer) | Int8Linear::Monarch($layer) | Int8Linear::Btt($layer) => $body,
            Int8Linear::Blast($layer) => $body,
            Int8Linear::Ss1($layer) => $body,
        }
    };
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
        each!(self, layer => int8_linear(input, &self.matrix(), own_bias(epilogue, &layer.bias)))
    }

    /// The dense weight `[d_output, d_input]` that this layer multiplies by, in f32.
    pub fn to_dense(&self) -> Tensor<2> {
        self.matrix().to_dense()
    }

    fn matrix(&self) -> Int8Matrix {
        match self {
            Self::Dense(layer) | Self::BlockDiagonal(layer) => layer.matrix(),
            Self::Monarch(layer) => layer.matrix(Order::Strided),
            Self::LowRank(layer) | Self::Btt(layer) => layer.matrix(Order::Grouped),
            Self::Blast(layer) => layer.matrix(),
            Self::Ss1(layer) => layer.matrix(),
        }
    }

    /// Parameters, FLOPs and bytes, beside those of the dense layer. Scales count as parameters.
    pub fn cost(&self) -> Cost {
        let count = |values: &Values| values.lazy_shape().num_elements();
        let (integers, scales, couplings) = match self {
            Self::Dense(layer) | Self::BlockDiagonal(layer) => {
                (count(&layer.w), layer.w_scale.lazy_shape().num_elements(), 0)
            }
            Self::LowRank(layer) | Self::Monarch(layer) | Self::Btt(layer) => (
                count(&layer.right) + count(&layer.left),
                layer.right_scale.lazy_shape().num_elements() + layer.left_scale.lazy_shape().num_elements(),
                0,
            ),
            Self::Blast(layer) => (
                count(&layer.u) + count(&layer.v),
                layer.u_scale.lazy_shape().num_elements() + layer.v_scale.lazy_shape().num_elements(),
                layer.s.lazy_shape().num_elements(),
            ),
            Self::Ss1(layer) => (count(&layer.z), layer.z_scale.lazy_shape().num_elements(), 0),
        };
        let (d_input, d_output) = (self.d_input(), self.d_output());
        let cost = Cost::of_weights(integers + couplings, d_input, d_output, self.bias().is_some(), 1);
        let floats = cost.params - integers + scales;
        let additions = match self {
            Self::Ss1(layer) => layer.additions(),
            _ => 0,
        };
        let cost = Cost { flops_per_token: cost.flops_per_token + additions, ..cost };
        Cost { params: integers + floats, bytes_per_token: integers + 4 * (floats + d_input + d_output), ..cost }
    }

    /// Nothing that suits a learning rate of its own: the integers are fixed.
    pub fn factors(&self) -> Vec<Factor> {
        Vec::new()
    }

    /// The size of the input features.
    pub fn d_input(&self) -> usize {
        each!(self, layer => layer.d_input())
    }

    /// The size of the output features.
    pub fn d_output(&self) -> usize {
        each!(self, layer => layer.d_output())
    }

    /// The bias `[d_output]`, if there is one.
    pub fn bias(&self) -> Option<&Param<Tensor<1>>> {
        each!(self, layer => layer.bias.as_ref())
    }

    /// The bias `[d_output]`, if there is one, to be replaced.
    pub fn bias_mut(&mut self) -> Option<&mut Param<Tensor<1>>> {
        each!(self, layer => layer.bias.as_mut())
    }

    /// The structure of the weights, which does not say that they are int8; `None` if a loaded hash does not fit them.
    pub(crate) fn structure(&self) -> Option<Structure> {
        let grid = |[output, input]: [usize; 2]| Blocks::Grid { output, input };
        Some(match self {
            Self::Dense(_) => Structure::Dense,
            Self::BlockDiagonal(layer) => Structure::BlockDiagonal { blocks: BlockCount::Fixed(layer.blocks()) },
            Self::LowRank(layer) => Structure::LowRank { rank: Rank::Fixed(layer.rank()) },
            Self::Monarch(layer) => {
                Structure::Monarch { blocks: grid(layer.blocks()), rank: Rank::Fixed(layer.rank()) }
            }
            Self::Btt(layer) => Structure::Btt { blocks: grid(layer.blocks()), rank: Rank::Fixed(layer.rank()) },
            Self::Blast(layer) => Structure::Blast { blocks: grid(layer.blocks()), rank: Rank::Fixed(layer.rank()) },
            Self::Ss1(layer) => {
                let (width, d_output) = layer.sizes();
                return layer.hash.structure(width, d_output);
            }
        })
    }
}

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
            assert!(small.is_int8() && !exact.is_int8() && exact.structure().unwrap().has_int8());
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
    fn quantize_does_not_depend_on_how_blast_factors_are_scaled() {
        let StructuredLinear::Blast(even) = layer("blast:b=2x4,r=5") else { panic!() };
        let device = Device::flex();
        let scale = Tensor::<3>::from_data([[[1.0f32, 100.0, 1e-10, 1e10, 0.5]]], &device);
        let mut uneven = even.clone();
        uneven.u = parameter(even.u.val() * scale.clone());
        uneven.s = parameter(even.s.val() / scale);
        let x = Tensor::<2>::random([9, 16], Distribution::Normal(0.0, 1.0), &device);
        let exact = even.forward(x.clone());
        for layer in [even, uneven] {
            let y = StructuredLinear::Blast(layer).quantize().unwrap().forward(x.clone());
            let error = ((y - exact.clone()).square().sum() / exact.clone().square().sum()).sqrt();
            assert!(error.into_scalar::<f32>() < 0.03);
        }
    }

    #[test]
    fn cost_counts_bytes_of_integers() {
        let (exact, small) = (layer("dense").cost(), layer("dense").quantize().unwrap().cost());
        assert_eq!(small.flops_per_token, exact.flops_per_token);
        assert_eq!(small.params, exact.params + 24);
        let [exact_ss1, small_ss1] =
            [layer("ss1:c=2,k=4,n=8"), layer("ss1:c=2,k=4,n=8").quantize().unwrap()].map(|layer| layer.cost());
        assert_eq!(small_ss1.flops_per_token, exact_ss1.flops_per_token);
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
            assert!(!name.parse::<Structure>().unwrap().has_int8());
        }
    }

    #[test]
    fn quantize_refuses_sums_that_are_too_long() {
        let wide = StructuredLinearConfig::new(70_000, 1, Structure::Dense).init(&Device::flex());
        let error = wide.quantize().unwrap_err();
        assert!(error.to_string().contains("70000 inputs"), "{error}");
    }

    #[test]
    fn quantize_of_several_layers_is_all_or_nothing() {
        let mut layers = ["dense", "kronecker"].map(layer);
        assert!(quantize(&mut layers).is_err());
        assert!(!layers[0].is_int8());
        quantize(&mut layers[..1]).unwrap();
        assert!(layers[0].is_int8());
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
        let text = format!("{}", layer("low-rank:r=5").quantize().unwrap());
        assert!(text.contains("d_input: 16, d_output: 24, blocks: 1x1, rank: 5, bias: true"), "{text}");
    }
}
