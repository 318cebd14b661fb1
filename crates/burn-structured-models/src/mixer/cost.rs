//! What an image costs.

use burn_structured_nn::Cost;

/// What one image costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MixerCost {
    /// The token-mixing layers of every block, for one of the `d_model` features of all tokens.
    pub token_mixing: Cost,
    /// The channel-mixing layers of every block, for one token.
    pub channel_mixing: Cost,
    /// Tokens of one image.
    pub tokens: usize,
    /// Features of a token.
    pub d_model: usize,
    /// Parameters of the whole model.
    pub params: usize,
    /// FLOPs of everything else for one image: embedding and head. Norms and activations, which are linear in the tokens' features, are
    /// not counted.
    pub other_flops: usize,
}

impl MixerCost {
    /// FLOPs of the replaced layers for one image.
    pub fn replaced_flops(&self) -> usize {
        self.token_mixing.flops_per_token * self.d_model + self.channel_mixing.flops_per_token * self.tokens
    }

    /// FLOPs of the replaced layers for one image, were they dense.
    pub fn dense_replaced_flops(&self) -> usize {
        self.token_mixing.dense_flops_per_token * self.d_model + self.channel_mixing.dense_flops_per_token * self.tokens
    }

    /// The replaced layers' FLOPs relative to dense ones'.
    pub fn replaced_flops_ratio(&self) -> f64 {
        self.replaced_flops() as f64 / self.dense_replaced_flops() as f64
    }

    /// FLOPs of the whole model for one image.
    pub fn model_flops(&self) -> usize {
        self.replaced_flops() + self.other_flops
    }

    /// FLOPs of the whole model for one image, were every layer dense.
    pub fn dense_model_flops(&self) -> usize {
        self.dense_replaced_flops() + self.other_flops
    }

    /// The whole model's FLOPs relative to the dense model's.
    pub fn model_flops_ratio(&self) -> f64 {
        self.model_flops() as f64 / self.dense_model_flops() as f64
    }
}
