//! The encoder as a sequence of blocks.

use super::{Bert, Layer, TokenBatch, names};
use burn::tensor::Tensor;
use burn_structured_nn::{BlockModel, StructuredLinear};

impl BlockModel for Bert {
    /// Sentences of one length.
    type Batch = TokenBatch;
    type Block = Layer;

    const STAGES: &'static [&'static [usize]] = &[&[0, 1, 2], &[3], &[4], &[5]];

    fn blocks(&self) -> &[Layer] {
        &self.layers
    }

    fn blocks_mut(&mut self) -> &mut [Layer] {
        &mut self.layers
    }

    fn embed(&self, batch: &TokenBatch) -> Tensor<3> {
        self.embeddings.forward(batch.tokens.clone())
    }

    fn forward_block(block: &Layer, features: Tensor<3>, batch: &TokenBatch) -> Tensor<3> {
        block.forward(features, batch.mask.clone().bool_not())
    }

    fn residual(_: &Layer, stage: usize, features: &Tensor<3>, inputs: &[Tensor<2>]) -> Option<Tensor<2>> {
        match stage {
            1 => Some(features.clone().flatten(0, 1)),
            3 => inputs.get(2).cloned(),
            _ => None,
        }
    }

    fn output(&self, features: Tensor<3>, batch: &TokenBatch) -> Tensor<2> {
        Self::pool(features, batch.mask.clone())
    }

    fn linears(&self, block: usize) -> Vec<(String, &StructuredLinear)> {
        names::linear_names(block).into_iter().zip(self.layers[block].linears()).collect()
    }

    fn linears_mut(block: &mut Layer) -> Vec<&mut StructuredLinear> {
        block.linears_mut().into()
    }
}
