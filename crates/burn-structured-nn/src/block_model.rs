//! A model as a sequence of blocks: what compression that goes block after block needs to know of it.

use crate::StructuredLinear;
use burn::module::Module;
use burn::tensor::Tensor;

/// A model whose features go through blocks one after another, each with linear layers that can be replaced.
///
/// ```text
/// x₀ = embed(batch),  xᵢ₊₁ = forward_block(blockᵢ, xᵢ),  output(x_depth)
/// ```
pub trait BlockModel: Module {
    /// Inputs of the model, without padding: every token counts.
    type Batch: Clone;
    /// One block.
    type Block: Module;

    /// Groups of linear layers with the same input, such as query, key and value: indices into [`linears`](Self::linears), in the order
    /// in which a block applies the groups.
    const STAGES: &'static [&'static [usize]];

    /// The blocks, the first one first.
    fn blocks(&self) -> &[Self::Block];

    /// The blocks, to be replaced.
    fn blocks_mut(&mut self) -> &mut [Self::Block];

    /// The features `[batch, tokens, d_model]` in front of the first block.
    fn embed(&self, batch: &Self::Batch) -> Tensor<3>;

    /// The features behind a block.
    fn forward_block(block: &Self::Block, features: Tensor<3>, batch: &Self::Batch) -> Tensor<3>;

    /// What the outputs of a group's layer are added to, `[tokens, d_output]`, where that is so: the residual stream in front of the
    /// addition. `stage` is an index into [`STAGES`](Self::STAGES), of a group of one layer; `features` are those in front of the
    /// block, and `inputs` hold the inputs `[tokens, d_input]` of each group up to this one. It must not depend on the layer itself.
    ///
    /// Compression can then make a layer add what the residual lacks. `None`, as provided, if the outputs are not added to anything,
    /// or that is not known.
    fn residual(block: &Self::Block, stage: usize, features: &Tensor<3>, inputs: &[Tensor<2>]) -> Option<Tensor<2>> {
        let _ = (block, stage, features, inputs);
        None
    }

    /// What the model makes of the features behind its last block: the embedding of each sentence, `[batch, d_model]`, or the
    /// normed features of each token, `[batch · tokens, d_model]`.
    fn output(&self, features: Tensor<3>, batch: &Self::Batch) -> Tensor<2>;

    /// The logits `[rows, vocabulary]` of the next token that the rows of an [`output`](Self::output) stand for; `None`, as provided,
    /// for models that predict none.
    fn logits(&self, output: Tensor<2>) -> Option<Tensor<2>> {
        let _ = output;
        None
    }

    /// The linear layers of a block with their names in the model's checkpoints.
    fn linears(&self, block: usize) -> Vec<(String, &StructuredLinear)>;

    /// The linear layers of a block, in the order of [`linears`](Self::linears), to be replaced.
    fn linears_mut(block: &mut Self::Block) -> Vec<&mut StructuredLinear>;
}
