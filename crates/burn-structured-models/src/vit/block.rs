//! One transformer block: attention and MLP, each a residual branch after its norm.

use super::{Attention, AttentionConfig, DropPath, DropPathConfig};
use crate::ModelError;
use crate::layers::structured;
use crate::residual::mlp_added;
use burn::config::Config;
use burn::module::Module;
use burn::nn::{Dropout, DropoutConfig, LayerNorm, LayerNormConfig};
use burn::tensor::{Device, Tensor};
use burn_structured_nn::{Activation, Cost, Factor, Structure, StructuredLinear};

/// Configuration to create a [`Block`] using the [init function](BlockConfig::try_init).
#[derive(Config, Debug)]
pub struct BlockConfig {
    /// Features of a token.
    pub d_model: usize,
    /// Attention heads; divides `d_model`.
    pub heads: usize,
    /// Features between `fc1` and `fc2`, relative to `d_model`.
    #[config(default = 3.0)]
    pub mlp_ratio: f64,
    /// Dropout probability after `proj`, `fc1` and `fc2`.
    #[config(default = 0.0)]
    pub dropout: f64,
    /// Probability of skipping a branch.
    #[config(default = 0.0)]
    pub drop_path: f64,
    /// Structure of the query, key and value projections.
    #[config(default = "Structure::Dense")]
    pub qkv: Structure,
    /// Structure of the attention's output projection.
    #[config(default = "Structure::Dense")]
    pub proj: Structure,
    /// Structure of the first MLP layer.
    #[config(default = "Structure::Dense")]
    pub fc1: Structure,
    /// Structure of the second MLP layer.
    #[config(default = "Structure::Dense")]
    pub fc2: Structure,
}

/// `x + attention(norm(x))`, then `x + mlp(norm(x))`.
///
/// Should be created with [`BlockConfig`].
#[derive(Module, Debug)]
pub struct Block {
    /// The norm before the attention.
    pub norm1: LayerNorm,
    /// The attention.
    pub attention: Attention,
    /// The norm before the MLP.
    pub norm2: LayerNorm,
    /// The first MLP layer.
    pub fc1: StructuredLinear,
    /// The second MLP layer.
    pub fc2: StructuredLinear,
    /// Dropout in the MLP.
    pub dropout: Dropout,
    /// Stochastic depth of both branches.
    pub drop_path: DropPath,
}

impl BlockConfig {
    /// Initialize a new [`Block`] module.
    ///
    /// # Errors
    ///
    /// If a structure does not fit its layer.
    pub fn try_init(&self, device: &Device) -> Result<Block, ModelError> {
        let d_model = self.d_model;
        let d_hidden = (d_model as f64 * self.mlp_ratio) as usize;
        let attention = AttentionConfig::new(d_model, self.heads)
            .with_dropout(self.dropout)
            .with_qkv(self.qkv)
            .with_proj(self.proj);
        Ok(Block {
            norm1: LayerNormConfig::new(d_model).init(device),
            attention: attention.try_init(device)?,
            norm2: LayerNormConfig::new(d_model).init(device),
            fc1: structured("fc1", d_model, d_hidden, self.fc1, device)?,
            fc2: structured("fc2", d_hidden, d_model, self.fc2, device)?,
            dropout: DropoutConfig::new(self.dropout).init(),
            drop_path: DropPathConfig::new(self.drop_path).init(),
        })
    }
}

impl Block {
    /// `[batch, tokens, d_model]` to the same shape.
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let x =
            self.drop_path.add_branch(x, |x, residual| self.attention.forward_added(self.norm1.forward(x), residual));
        self.drop_path.add_branch(x, |x, residual| {
            let (layers, dropout) = ([&self.fc1, &self.fc2], &self.dropout);
            mlp_added(layers, Activation::Gelu, self.norm2.forward(x), Some(dropout), dropout, residual)
        })
    }

    /// The four linear layers, in the order in which they are applied.
    pub fn linears(&self) -> [&StructuredLinear; 4] {
        [&self.attention.qkv, &self.attention.proj, &self.fc1, &self.fc2]
    }

    /// The layers that take a structure, to be replaced.
    pub fn linears_mut(&mut self) -> [&mut StructuredLinear; 4] {
        [&mut self.attention.qkv, &mut self.attention.proj, &mut self.fc1, &mut self.fc2]
    }

    /// The factors of the four linear layers.
    pub fn factors(&self) -> Vec<Factor> {
        [self.attention.factors(), self.fc1.factors(), self.fc2.factors()].concat()
    }

    /// The cost of the four linear layers for one token.
    pub fn cost(&self) -> Cost {
        self.attention.cost() + self.fc1.cost() + self.fc2.cost()
    }
}
