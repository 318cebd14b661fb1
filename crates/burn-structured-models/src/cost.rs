//! What an item costs in a model whose layers are applied different numbers of times.

use burn::module::Module;
use burn_structured_nn::{Cost, StructuredLinear};

/// The parameters of a model, with those that its `layers` hold as integers, which Burn does not count.
pub(crate) fn params<'a>(model: &impl Module, layers: impl Iterator<Item = &'a StructuredLinear>) -> usize {
    let int8 = layers.filter(|layer| layer.is_int8());
    model.num_params() + int8.map(|layer| layer.cost().params - layer.num_params()).sum::<usize>()
}

/// What one item, such as an image, costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ItemCost {
    /// Parameters of the replaced layers.
    pub replaced_params: usize,
    /// Parameters of the replaced layers, were they dense.
    pub dense_replaced_params: usize,
    /// FLOPs of the replaced layers.
    pub replaced_flops: usize,
    /// FLOPs of the replaced layers, were they dense.
    pub dense_replaced_flops: usize,
    /// Parameters of the whole model.
    pub params: usize,
    /// FLOPs of everything else. Norms and activations, which are linear in the features, are not counted.
    pub other_flops: usize,
}

impl ItemCost {
    /// Adds replaced layers that are applied to so many `tokens` of an item.
    pub(crate) fn with_replaced(self, layers: Cost, tokens: usize) -> Self {
        Self {
            replaced_params: self.replaced_params + layers.params,
            dense_replaced_params: self.dense_replaced_params + layers.dense_params,
            replaced_flops: self.replaced_flops + layers.flops_per_token * tokens,
            dense_replaced_flops: self.dense_replaced_flops + layers.dense_flops_per_token * tokens,
            ..self
        }
    }

    /// The replaced layers' FLOPs relative to dense ones'.
    pub fn replaced_flops_ratio(&self) -> f64 {
        self.replaced_flops as f64 / self.dense_replaced_flops as f64
    }

    /// FLOPs of the whole model.
    pub fn model_flops(&self) -> usize {
        self.replaced_flops + self.other_flops
    }

    /// FLOPs of the whole model, were every layer dense.
    pub fn dense_model_flops(&self) -> usize {
        self.dense_replaced_flops + self.other_flops
    }

    /// The whole model's FLOPs relative to the dense model's.
    pub fn model_flops_ratio(&self) -> f64 {
        self.model_flops() as f64 / self.dense_model_flops() as f64
    }
}
