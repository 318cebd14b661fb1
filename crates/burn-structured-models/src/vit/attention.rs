//! Multi-head self-attention with structured projections.

use crate::ModelError;
use crate::layers::structured;
use crate::residual::forward_added;
use burn::config::Config;
use burn::module::Module;
use burn::nn::{Dropout, DropoutConfig};
use burn::tensor::{Device, Tensor};
use burn_structured_nn::{Cost, Factor, Structure, StructuredLinear};
use burn_structured_ops::attention::{AttentionMask, self_attention};

/// Configuration to create an [`Attention`] using the [init function](AttentionConfig::try_init).
#[derive(Config, Debug)]
pub struct AttentionConfig {
    /// Features of a token.
    pub d_model: usize,
    /// Number of heads; divides `d_model`.
    pub heads: usize,
    /// Dropout probability on the output.
    #[config(default = 0.0)]
    pub dropout: f64,
    /// Structure of the query, key and value projections, which are one layer.
    #[config(default = "Structure::Dense")]
    pub qkv: Structure,
    /// Structure of the output projection.
    #[config(default = "Structure::Dense")]
    pub proj: Structure,
}

/// Self-attention: `softmax(Q Kᵀ / √d_head) V` for each head.
///
/// Should be created with [`AttentionConfig`].
#[derive(Module, Debug)]
pub struct Attention {
    /// Query, key and value projections.
    pub qkv: StructuredLinear,
    /// Output projection.
    pub proj: StructuredLinear,
    /// Dropout on the output.
    pub dropout: Dropout,
    heads: usize,
    d_model: usize,
}

impl AttentionConfig {
    /// Initialize a new [`Attention`] module.
    ///
    /// # Errors
    ///
    /// If a structure does not fit its layer.
    pub fn try_init(&self, device: &Device) -> Result<Attention, ModelError> {
        let d_model = self.d_model;
        Ok(Attention {
            qkv: structured("qkv", d_model, 3 * d_model, self.qkv, device)?,
            proj: structured("proj", d_model, d_model, self.proj, device)?,
            dropout: DropoutConfig::new(self.dropout).init(),
            heads: self.heads,
            d_model,
        })
    }
}

impl Attention {
    /// Every token's features after looking at all others: `[batch, tokens, d_model]` to the same shape.
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        self.forward_added(x, None)
    }

    /// [`forward`](Self::forward), added to a residual if there is one.
    pub(crate) fn forward_added(&self, x: Tensor<3>, residual: Option<Tensor<3>>) -> Tensor<3> {
        let [batch, tokens, d_model] = x.dims();
        let qkv = self.qkv.forward(x).reshape([batch, tokens, 3 * self.heads, d_model / self.heads]);
        let mixed = self_attention(qkv, AttentionMask::default()).reshape([batch, tokens, d_model]);
        forward_added(&self.proj, mixed, &self.dropout, residual)
    }

    /// FLOPs of `Q Kᵀ` and of its product with `V` for one image.
    pub(crate) fn product_flops(&self, tokens: usize) -> usize {
        2 * 2 * tokens * tokens * self.d_model
    }

    /// The factors of the projections.
    pub fn factors(&self) -> Vec<Factor> {
        [self.qkv.factors(), self.proj.factors()].concat()
    }

    /// The cost of the projections for one token.
    pub fn cost(&self) -> Cost {
        self.qkv.cost() + self.proj.cost()
    }
}
