//! The decoder as a sequence of blocks.

use super::{Block, Llama, linear_names};
use burn::tensor::{Int, Tensor};
use burn_structured_nn::{BlockModel, StructuredLinear};

impl BlockModel for Llama {
    /// Tokens `[batch, length]`.
    type Batch = Tensor<2, Int>;
    type Block = Block;

    const STAGES: &'static [&'static [usize]] = &[&[0, 1, 2], &[3], &[4, 5], &[6]];

    fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    fn blocks_mut(&mut self) -> &mut [Block] {
        &mut self.blocks
    }

    fn embed(&self, batch: &Tensor<2, Int>) -> Tensor<3> {
        self.embed(batch.clone())
    }

    fn forward_block(block: &Block, features: Tensor<3>, _batch: &Tensor<2, Int>) -> Tensor<3> {
        block.forward(features)
    }

    fn residual(block: &Block, stage: usize, features: &Tensor<3>, inputs: &[Tensor<2>]) -> Option<Tensor<2>> {
        let residual: Tensor<2> = features.clone().flatten(0, 1);
        match stage {
            1 => Some(residual),
            3 => Some(residual + block.attention.proj.forward(inputs.get(1)?.clone())),
            _ => None,
        }
    }

    fn output(&self, features: Tensor<3>, _batch: &Tensor<2, Int>) -> Tensor<2> {
        self.norm.forward(features).flatten(0, 1)
    }

    fn logits(&self, output: Tensor<2>) -> Option<Tensor<2>> {
        Some(self.logits(output.unsqueeze_dim(0)).squeeze_dim(0))
    }

    fn linears(&self, block: usize) -> Vec<(String, &StructuredLinear)> {
        linear_names(block).into_iter().zip(self.blocks[block].linears()).collect()
    }

    fn linears_mut(block: &mut Block) -> Vec<&mut StructuredLinear> {
        block.linears_mut().into()
    }
}
