//! The layer that a model holds when its structure is a setting.
//!
//! Burn's modules keep their types, so nothing can swap a `Linear` inside someone else's model. A model that wants to be
//! compressed therefore holds this enum from the start.

use crate::{
    BlastLinear, BlastLinearConfig, Cost, Factor, LowRankLinear, LowRankLinearConfig, Ss1Hash, Ss1Linear, Ss1LinearConfig,
    Structure, StructureError, dense, error::check_dimensions,
};
use burn::config::Config;
use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};

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
}

/// A linear layer of any structure.
///
/// Should be created with [`StructuredLinearConfig`].
#[derive(Module, Debug)]
#[non_exhaustive]
pub enum StructuredLinear {
    /// An ordinary linear layer.
    Dense(Linear),
    /// A BLAST layer.
    Blast(BlastLinear),
    /// A low-rank layer.
    LowRank(LowRankLinear),
    /// An SS1 layer.
    Ss1(Ss1Linear),
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
        let (d_input, d_output, bias) = (self.d_input, self.d_output, self.bias);
        Ok(match self.structure {
            Structure::Dense => {
                check_dimensions(d_input, d_output)?;
                StructuredLinear::Dense(LinearConfig::new(d_input, d_output).with_bias(bias).init(device))
            }
            Structure::Blast { blocks, rank } => {
                let config = BlastLinearConfig::new(d_input, d_output).with_bias(bias);
                StructuredLinear::Blast(config.with_blocks(blocks).with_rank(rank).try_init(device)?)
            }
            Structure::LowRank { rank } => {
                let config = LowRankLinearConfig::new(d_input, d_output).with_bias(bias);
                StructuredLinear::LowRank(config.with_rank(rank).try_init(device)?)
            }
            Structure::Ss1 { reduction, block_k, block_n, independent } => {
                let hash = match independent {
                    Some(seed) => Ss1Hash::Independent { seed, signs: true },
                    None => Ss1Hash::default(),
                };
                let config = Ss1LinearConfig::new(d_input, d_output).with_bias(bias).with_reduction(reduction);
                let config = config.with_block_k(block_k).with_block_n(block_n).with_hash(hash);
                StructuredLinear::Ss1(config.try_init(device)?)
            }
        })
    }
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
    pub fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        match self {
            Self::Dense(layer) => layer.forward(input),
            Self::Blast(layer) => layer.forward(input),
            Self::LowRank(layer) => layer.forward(input),
            Self::Ss1(layer) => layer.forward(input),
        }
    }

    /// The dense weight `[d_output, d_input]` that this layer multiplies by.
    pub fn to_dense(&self) -> Tensor<2> {
        match self {
            Self::Dense(layer) => dense::to_dense(layer),
            Self::Blast(layer) => layer.to_dense(),
            Self::LowRank(layer) => layer.to_dense(),
            Self::Ss1(layer) => layer.to_dense(),
        }
    }

    /// Parameters, FLOPs and bytes, beside those of the dense layer.
    pub fn cost(&self) -> Cost {
        match self {
            Self::Dense(layer) => dense::cost(layer),
            Self::Blast(layer) => layer.cost(),
            Self::LowRank(layer) => layer.cost(),
            Self::Ss1(layer) => layer.cost(),
        }
    }

    /// The factors, each with the learning rate that suits it; none for a dense layer.
    pub fn factors(&self) -> Vec<Factor> {
        match self {
            Self::Dense(_) => Vec::new(),
            Self::Blast(layer) => layer.factors(),
            Self::LowRank(layer) => layer.factors(),
            Self::Ss1(layer) => layer.factors(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Distribution, Tolerance};

    #[test]
    fn every_structure_multiplies_by_its_dense_weight() {
        let device = Device::flex();
        for text in ["dense", "blast:b=2,r=3", "low-rank:r=3", "ss1:c=2,k=2,n=5,hash=independent"] {
            let config = StructuredLinearConfig::new(8, 12, text.parse().unwrap()).with_bias(false);
            let layer = config.init(&device);
            let x = Tensor::<2>::random([5, 8], Distribution::Normal(0.0, 1.0), &device);
            let expected = x.clone().matmul(layer.to_dense().transpose()).into_data();
            layer.forward(x).into_data().assert_approx_eq::<f32>(&expected, Tolerance::absolute(1e-5));
            assert_eq!(layer.cost().params, layer.num_params(), "{text}");
        }
    }

    #[test]
    fn a_dense_layer_is_its_own_measure() {
        let layer = StructuredLinearConfig::new(8, 12, Structure::Dense).init(&Device::flex());
        assert_eq!(layer.cost().params_ratio(), 1.0);
        assert_eq!(layer.cost().flops_ratio(), 1.0);
    }

    #[test]
    fn an_empty_dense_layer_is_an_error_too() {
        assert!(StructuredLinearConfig::new(0, 4, Structure::Dense).try_init(&Device::flex()).is_err());
    }
}
