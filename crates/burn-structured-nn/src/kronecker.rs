//! The Kronecker layer: a few small matrices, each multiple of which fills a block.

use crate::dense::own_bias;
use crate::display::{grid, layer_display};
use crate::error::check_dimensions;
use crate::initializer::{FactorInitializers, dense_bias, dense_default};
use crate::rank::RankBudget;
use crate::{Blocks, Cost, Factor, Rank, StructureError};
use burn::config::Config;
use burn::module::{Module, Param};
use burn::nn::Initializer;
use burn::tensor::{Device, Tensor, assert_shape};
use burn_structured_ops::Epilogue;
use burn_structured_ops::kronecker::{kronecker_linear, kronecker_to_dense};

/// Configuration to create a [`KroneckerLinear`] layer using the [init function](KroneckerLinearConfig::init).
#[derive(Config, Debug)]
pub struct KroneckerLinearConfig {
    /// The size of the input features.
    pub d_input: usize,
    /// The size of the output features.
    pub d_output: usize,
    /// Into how many blocks the matrix is cut, which is the shape of the first factors; [`Blocks::Auto`] takes the divisors
    /// nearest to the square roots.
    #[config(default = "Blocks::Auto")]
    pub blocks: Blocks,
    /// The number of products that are added, or the share of the dense parameters to spend on them.
    #[config(default = "Rank::Ratio(0.5)")]
    pub rank: Rank,
    /// If a bias should be applied during the linear transformation.
    #[config(default = true)]
    pub bias: bool,
    /// The dense initializer to imitate: the factors are drawn so that the output has the variance it gives.
    #[config(default = "dense_default()")]
    pub initializer: Initializer,
}

/// Applies a linear transformation whose weight is a sum of Kronecker products: `O = I (Σ_k A_k ⊗ B_k)ᵀ + b`.
///
/// Block `(i, j)` of the weight is `Σ_k A_k[i, j] B_k`. With `K` terms it has `K (m₁ n₁ + m₂ n₂)` weights, of which each is
/// used many times: it takes `K n₁ m₂ (n₂ + m₁)` multiplications a token, so that it saves far more memory than time.
///
/// Should be created with [`KroneckerLinearConfig`].
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct KroneckerLinear {
    /// First factors `[K, m₁, n₁]`.
    pub a: Param<Tensor<3>>,
    /// Second factors `[K, m₂, n₂]`.
    pub b: Param<Tensor<3>>,
    /// Vector of size `d_output`.
    pub bias: Option<Param<Tensor<1>>>,
}

impl KroneckerLinearConfig {
    /// Initialize a new [`KroneckerLinear`] module.
    ///
    /// # Panics
    ///
    /// Where [`try_init`](Self::try_init) returns an error.
    pub fn init(&self, device: &Device) -> KroneckerLinear {
        self.try_init(device).unwrap_or_else(|error| panic!("KroneckerLinear: {error}"))
    }

    /// Initialize a new [`KroneckerLinear`] module.
    ///
    /// # Errors
    ///
    /// If a dimension is zero or does not split into the blocks, if the number of terms is zero or above what any
    /// matrix needs, if the ratio is outside `(0, 1]` or leaves no room for one term, or if the initializer has a mean.
    pub fn try_init(&self, device: &Device) -> Result<KroneckerLinear, StructureError> {
        let (d_input, d_output) = (self.d_input, self.d_output);
        let ([m1, n1], terms) = self.resolve()?;
        let factors = FactorInitializers::imitating(&self.initializer, d_input, d_output, terms)?;
        Ok(KroneckerLinear {
            a: factors.u.init([terms, m1, n1], device),
            b: factors.v.init([terms, d_output / m1, d_input / n1], device),
            bias: dense_bias(self.bias, &self.initializer, [d_input, d_output], device),
        })
    }

    /// The block grid `[m₁, n₁]` and the number of terms that the configuration comes to.
    ///
    /// # Errors
    ///
    /// As [`try_init`](Self::try_init).
    pub fn resolve(&self) -> Result<([usize; 2], usize), StructureError> {
        let (d_input, d_output) = (self.d_input, self.d_output);
        check_dimensions(d_input, d_output)?;
        let (m1, n1) = self.blocks.resolve_square_root(d_input, d_output)?;
        let (blocks, block) = (m1 * n1, d_output / m1 * (d_input / n1));
        let budget = RankBudget {
            d_input,
            d_output,
            fixed: 0,
            params_per_rank: blocks + block,
            hint: ", or other blocks",
            max: blocks.min(block),
        };
        Ok(([m1, n1], self.rank.resolve(budget)?))
    }
}

impl KroneckerLinear {
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
        kronecker_linear(input, self.a.val(), self.b.val(), own_bias(epilogue, &self.bias))
    }

    /// The dense weight `[d_output, d_input]` that this layer multiplies by.
    pub fn to_dense(&self) -> Tensor<2> {
        kronecker_to_dense(self.a.val(), self.b.val())
    }

    /// Parameters, FLOPs and bytes, beside those of the dense layer.
    pub fn cost(&self) -> Cost {
        let ([terms, m1, n1], [_, m2, n2]) = (self.a.shape().dims(), self.b.shape().dims());
        let weights = terms * (m1 * n1 + m2 * n2);
        let bytes = self.a.val().dtype().size();
        Cost::of_weights(weights, self.d_input(), self.d_output(), self.bias.is_some(), bytes)
            .with_multiplications(terms * n1 * m2 * (n2 + m1))
    }

    /// The factors, each with the learning rate that suits it.
    pub fn factors(&self) -> Vec<Factor> {
        let ([terms, _, n1], [_, _, n2]) = (self.a.shape().dims(), self.b.shape().dims());
        vec![Factor::new("a", &self.a, n1 * n2, terms * n1), Factor::new("b", &self.b, n1 * n2, n2)]
    }

    /// The size of the input features.
    pub fn d_input(&self) -> usize {
        self.a.shape()[2] * self.b.shape()[2]
    }

    /// The size of the output features.
    pub fn d_output(&self) -> usize {
        self.a.shape()[1] * self.b.shape()[1]
    }

    /// The block grid `[m₁, n₁]`.
    pub fn blocks(&self) -> [usize; 2] {
        [self.a.shape()[1], self.a.shape()[2]]
    }

    /// The number of products that are added.
    pub fn rank(&self) -> usize {
        self.a.shape()[0]
    }
}

layer_display!(KroneckerLinear, layer => { "blocks": grid(layer.blocks()), "rank": layer.rank() });

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_terms_together_are_any_matrix() {
        let device = Device::flex();
        let weight = Tensor::<2>::random([6, 4], burn::tensor::Distribution::Normal(0.0, 1.0), &device);
        let config = KroneckerLinearConfig::new(4, 6).with_blocks(Blocks::Grid { output: 3, input: 2 });
        let error = |terms| {
            let config = config.clone().with_rank(Rank::Fixed(terms));
            config.from_dense(weight.clone(), None).map(|approximation| approximation.relative_error)
        };
        assert!(error(1).unwrap() > error(2).unwrap());
        assert!(error(4).unwrap() < 1e-6);
        assert!(matches!(error(5), Err(StructureError::RankTooLarge { max: 4, .. })));
    }

    #[test]
    fn weights_are_few_and_used_often() {
        let layer = KroneckerLinearConfig::new(64, 64).with_rank(Rank::Fixed(2)).init(&Device::flex());
        let cost = layer.cost();
        assert_eq!(cost.params, 2 * (64 + 64) + 64);
        assert_eq!(cost.flops_per_token, 2 * 2 * 8 * 8 * 16 + 64);
    }
}
