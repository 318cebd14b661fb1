//! The SS1 layer: weights of a row are shared by blocks of input features, each block at its own rotation.

mod function;
mod saved;
#[cfg(test)]
mod tests;

pub use function::Ss1Hash;

use crate::dense::own_bias;
use crate::display::layer_display;
use crate::initializer::{dense_bias, dense_default};
use crate::parameter::parameter;
use crate::{Cost, Factor, Structure, StructureError};
use burn::config::Config;
use burn::module::{Module, Param};
use burn::nn::Initializer;
use burn::tensor::{Device, Tensor, assert_shape};
use burn_structured_ops::Epilogue;
use burn_structured_ops::ss1::{Fold, Ss1Strategy, ss1_linear_with, ss1_to_dense};
use function::{DEFAULT_BLOCK_N, Function, rotate};
pub(crate) use saved::SavedFunction;

/// Configuration to create a [`Ss1Linear`] layer using the [init function](Ss1LinearConfig::init).
#[derive(Config, Debug)]
pub struct Ss1LinearConfig {
    /// The size of the input features.
    pub d_input: usize,
    /// The size of the output features.
    pub d_output: usize,
    /// How many input blocks share their weights, `c`: about the factor by which weights and FLOPs are reduced.
    #[config(default = 4)]
    pub reduction: usize,
    /// Input features of a block, `B_K`.
    #[config(default = 16)]
    pub block_k: usize,
    /// Output rows that share their rotations, `B_N`.
    #[config(default = "DEFAULT_BLOCK_N")]
    pub block_n: usize,
    /// Where the rotations come from.
    #[config(default = "Ss1Hash::default()")]
    pub hash: Ss1Hash,
    /// If a bias should be applied during the linear transformation.
    #[config(default = true)]
    pub bias: bool,
    /// The dense initializer: the stored weights have its distribution, and hence the output its variance.
    #[config(default = "dense_default()")]
    pub initializer: Initializer,
}

/// Applies a linear transformation with shared weights: `O = I Wᵀ + b`, where
/// `W[o, (g c + j) K + p] = sign · Z[g K + (p − shift) mod K, o]`, with `shift` and `sign` from a [`Ss1Hash`] of the block of
/// `o`, the group `g` and `j` (Saedi, Desai, Walia, Lee, Zhou, Shrivastava, NeurIPS 2024).
///
/// It has `⌈⌈d_input / K⌉ / c⌉ K · d_output` weights. The stored weights are kept without the rotation of each group's
/// first block, which makes the sketch of the additive hash the same for all rows; [`rotated`](Self::rotated) and
/// [`Ss1LinearConfig::from_rotated`] convert from and to the authors' layout.
///
/// The hash is part of what the layer computes. It is saved with the weights, and loading weights loads their hash. Burn's
/// records check shapes only: the first use of a layer panics if the loaded hash does not fit the loaded weights.
///
/// Should be created with [`Ss1LinearConfig`].
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct Ss1Linear {
    /// Stored weights `[w, d_output]`.
    pub z: Param<Tensor<2>>,
    /// Vector of size `d_output`.
    pub bias: Option<Param<Tensor<1>>>,
    /// The [`Ss1Hash`] and the block sizes.
    hash: SavedFunction,
}

impl Ss1LinearConfig {
    /// Initialize a new [`Ss1Linear`] module.
    ///
    /// # Panics
    ///
    /// Where [`try_init`](Self::try_init) returns an error.
    pub fn init(&self, device: &Device) -> Ss1Linear {
        self.try_init(device).unwrap_or_else(|error| panic!("Ss1Linear: {error}"))
    }

    /// Initialize a new [`Ss1Linear`] module.
    ///
    /// # Errors
    ///
    /// If a dimension, a block size or the reduction is zero, if `block_k` is above `d_input` or `block_n` above `d_output` (and
    /// its default, 64), or if the reduction is above the number of input blocks.
    pub fn try_init(&self, device: &Device) -> Result<Ss1Linear, StructureError> {
        let function = self.function()?;
        let width = function.fold(self.d_output).width();
        let init = &self.initializer;
        let z = init.init_with([width, self.d_output], Some(self.d_input), Some(self.d_output), device);
        let bias = dense_bias(self.bias, init, [self.d_input, self.d_output], device);
        Ok(Self::layer(function, z, bias, device))
    }

    /// The layer of stored weights `[d_output, w]` in the authors' layout, every group rotated for its block of rows, with
    /// `bias` as it is.
    ///
    /// # Errors
    ///
    /// As [`try_init`](Self::try_init).
    ///
    /// # Panics
    ///
    /// If `weight` is not `[d_output, w]`.
    pub fn from_rotated(&self, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Result<Ss1Linear, StructureError> {
        let function = self.function()?;
        let (d_output, width) = (self.d_output, function.fold(self.d_output).width());
        assert_shape!(weight, [d_output, width]);
        let device = weight.device();
        let z = rotate(weight, function, true).transpose();
        Ok(Self::layer(function, parameter(z), bias.map(parameter), &device))
    }

    /// Which weights of the layer are one: for callers that compute the stored weights themselves, for [`from_stored`](Self::from_stored).
    ///
    /// # Errors
    ///
    /// As [`try_init`](Self::try_init).
    pub fn fold(&self) -> Result<Fold, StructureError> {
        Ok(self.function()?.fold(self.d_output))
    }

    /// The layer of stored weights `[w, d_output]`, which [`fold`](Self::fold) spreads, with `bias` as it is.
    ///
    /// # Errors
    ///
    /// As [`try_init`](Self::try_init).
    ///
    /// # Panics
    ///
    /// If `z` is not `[w, d_output]`.
    pub fn from_stored(&self, z: Tensor<2>, bias: Option<Tensor<1>>) -> Result<Ss1Linear, StructureError> {
        let function = self.function()?;
        let (width, d_output) = (function.fold(self.d_output).width(), self.d_output);
        assert_shape!(z, [width, d_output]);
        let device = z.device();
        Ok(Self::layer(function, parameter(z), bias.map(parameter), &device))
    }

    pub(crate) fn layer(
        function: Function,
        z: Param<Tensor<2>>,
        bias: Option<Param<Tensor<1>>>,
        device: &Device,
    ) -> Ss1Linear {
        Ss1Linear { z, bias, hash: SavedFunction::new(function, device) }
    }

    pub(crate) fn function(&self) -> Result<Function, StructureError> {
        let Self { d_input, d_output, reduction, block_k, block_n, hash, .. } = *self;
        let function = Function { d_input, reduction, block_k, block_n, hash };
        function.check(d_output)?;
        Ok(function)
    }
}

impl Ss1Linear {
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
        self.forward_with(input, Ss1Strategy::Auto)
    }

    /// [`forward`](Self::forward) by a chosen strategy, for comparison.
    ///
    /// # Panics
    ///
    /// Panics if the last axis of `input` is not `d_input`.
    pub fn forward_with<const D: usize>(&self, input: Tensor<D>, strategy: Ss1Strategy) -> Tensor<D> {
        self.product(input, Epilogue::new(), strategy)
    }

    /// [`forward`](Self::forward), and what follows the layer; the bias is the layer's own, whatever the epilogue says.
    ///
    /// # Panics
    ///
    /// As [`forward`](Self::forward), or if a gate or residual does not have the output's shape.
    pub fn forward_then<const D: usize>(&self, input: Tensor<D>, epilogue: Epilogue<D>) -> Tensor<D> {
        self.product(input, epilogue, Ss1Strategy::Auto)
    }

    fn product<const D: usize>(&self, input: Tensor<D>, epilogue: Epilogue<D>, strategy: Ss1Strategy) -> Tensor<D> {
        let d_input = self.d_input();
        assert_shape!(input, [.., d_input]);
        ss1_linear_with(input, self.z.val(), own_bias(epilogue, &self.bias), self.fold(), strategy)
    }

    /// The dense weight `[d_output, d_input]` that this layer multiplies by.
    pub fn to_dense(&self) -> Tensor<2> {
        ss1_to_dense(self.z.val(), self.fold())
    }

    /// The stored weights `[d_output, w]` in the authors' layout, every group rotated for its block of rows.
    pub fn rotated(&self) -> Tensor<2> {
        rotate(self.z.val().transpose(), self.function(), false)
    }

    /// Parameters, FLOPs (the additions of the sketches among them) and bytes, beside those of the dense layer.
    pub fn cost(&self) -> Cost {
        let [width, d_output] = self.z.shape().dims();
        let bytes = self.z.val().dtype().size();
        let cost = Cost::of_weights(width * d_output, self.d_input(), d_output, self.bias.is_some(), bytes);
        let additions = self.function().additions(width, d_output);
        Cost { flops_per_token: cost.flops_per_token + additions, ..cost }
    }

    /// The stored weights, with the learning rate of a dense layer: each output still sums `d_input` products.
    pub fn factors(&self) -> Vec<Factor> {
        let d_input = self.d_input();
        vec![Factor::new("z", &self.z, d_input, d_input)]
    }

    /// The size of the input features.
    pub fn d_input(&self) -> usize {
        self.function().d_input
    }

    /// The size of the output features.
    pub fn d_output(&self) -> usize {
        self.z.shape()[1]
    }

    /// How many input blocks share their weights.
    pub fn reduction(&self) -> usize {
        self.function().reduction
    }

    /// The structure that this layer has; `None` if the loaded hash does not fit the weights.
    pub(crate) fn structure(&self) -> Option<Structure> {
        let [width, d_output] = self.z.shape().dims();
        self.hash.structure(width, d_output)
    }

    /// Stored weights, bias and hash.
    pub(crate) fn into_parts(self) -> (Param<Tensor<2>>, Option<Param<Tensor<1>>>, SavedFunction) {
        (self.z, self.bias, self.hash)
    }

    fn fold(&self) -> Fold {
        self.function().fold(self.d_output())
    }

    fn function(&self) -> Function {
        let [width, d_output] = self.z.shape().dims();
        self.hash.get(width, d_output)
    }
}

layer_display!(Ss1Linear, layer => { "reduction": layer.reduction(), "hash": layer.function().hash.describe() });
