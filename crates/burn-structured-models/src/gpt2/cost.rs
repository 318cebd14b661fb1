//! What a token costs.

use super::Gpt2;
use burn::module::Module;
use burn_structured_nn::{Cost, StructuredLinear};

/// What one token costs that sees a full context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gpt2Cost {
    /// The linear layers of every block, and the head if it is structured.
    pub replaced: Cost,
    /// Parameters of the whole model.
    pub params: usize,
    /// FLOPs of everything else for one token: the attention's products with all keys and values of a full context, and a dense
    /// head. Norms, activations and softmax, which are linear in the token's features, are not counted.
    pub other_flops: usize,
}

impl Gpt2Cost {
    /// FLOPs of the replaced layers for one token.
    pub fn replaced_flops(&self) -> usize {
        self.replaced.flops_per_token
    }

    /// FLOPs of the whole model for one token.
    pub fn model_flops(&self) -> usize {
        self.replaced.flops_per_token + self.other_flops
    }

    /// FLOPs of the whole model for one token, were every layer dense.
    pub fn dense_model_flops(&self) -> usize {
        self.replaced.dense_flops_per_token + self.other_flops
    }

    /// The whole model's FLOPs relative to the dense model's.
    pub fn model_flops_ratio(&self) -> f64 {
        self.model_flops() as f64 / self.dense_model_flops() as f64
    }

    /// Parameters of the whole model, were every layer dense.
    pub fn dense_params(&self) -> usize {
        self.params - self.replaced.params + self.replaced.dense_params
    }
}

impl Gpt2 {
    /// What one token costs that sees a full context.
    pub fn cost(&self) -> Gpt2Cost {
        let structured_head = self.head.as_ref().filter(|head| !matches!(head, StructuredLinear::Dense(_)));
        let blocks: Cost = self.linears().map(|(_, layer)| layer.cost()).sum();
        // Q Kᵀ and its product with V, a multiplication and an addition for each feature of every key and value.
        let attention = self.blocks.len() * 2 * 2 * self.context() * self.d_model();
        let (replaced, head) = match structured_head {
            Some(head) => (blocks + head.cost(), 0),
            None => (blocks, 2 * self.d_model() * self.vocab_size()),
        };
        Gpt2Cost { replaced, params: self.num_params(), other_flops: attention + head }
    }
}
