//! What a token costs.

use crate::cost::params;
use burn::module::Module;
use burn_structured_nn::{Cost, StructuredLinear};

/// What one token costs that sees a full context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecoderCost {
    /// The linear layers of every block, and the head if it is structured.
    pub replaced: Cost,
    /// Parameters of the whole model.
    pub params: usize,
    /// FLOPs of everything else for one token: the attention's products with all keys and values of a full context, and a dense
    /// head. Norms, activations and softmax, which are linear in the token's features, are not counted.
    pub other_flops: usize,
}

impl DecoderCost {
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

impl DecoderCost {
    /// The cost of a model with these layers in its blocks.
    ///
    /// `attention_features` are those of the queries of all blocks, each of which is multiplied with the keys and values of
    /// `context` tokens; `head` is the head if it is a layer of its own, and takes `head_weights` multiplications if it is dense.
    pub(crate) fn new<'a>(
        model: &impl Module,
        layers: impl Iterator<Item = &'a StructuredLinear>,
        attention_features: usize,
        context: usize,
        head: Option<&'a StructuredLinear>,
        head_weights: usize,
    ) -> Self {
        let layers: Vec<_> = layers.collect();
        let params = params(model, layers.iter().copied().chain(head));
        let blocks: Cost = layers.into_iter().map(StructuredLinear::cost).sum();
        // Q Kᵀ and its product with V, a multiplication and an addition for each feature of every key and value.
        let attention = 2 * 2 * context * attention_features;
        let structured_head = head.filter(|head| !matches!(head, StructuredLinear::Dense(_)));
        let (replaced, head) = match structured_head {
            Some(head) => (blocks + head.cost(), 0),
            None => (blocks, 2 * head_weights),
        };
        Self { replaced, params, other_flops: attention + head }
    }
}
